/* Step control, lane by lane: error per step in the root mean square norm, PI controller (Gustafsson 1991; Hairer, Norsett,
   Wanner, Solving ODEs I, II.4 and IV.2). Its constants were chosen by evaluations on networks, oscillators, chaos and
   stiffness (docs/performance.md).

   The memory of the controller starts as an error of 1 and keeps none below 0.1: after a step that was far too accurate the
   next one grows freely. */
#define PN_LEAST_MEMORY (-2.302585092994046) /* log 0.1 */
#define PN_TINY 2.2250738585072014e-308 /* added to a tolerance, changes none but 0 */

#if !PN_BLOCK && !defined PN_F64_ONLY
/* The first components of a long state, many at a time: how many. Their order does not depend on the width of vectors. Builds that have
   to be small go without. */
static int32_t FN(add_many_errors)(double *restrict sum, const FN(work) * W, const V(terms) * e, const T *y, const T *y_new) {
    enum { MANY = 16 };
    const FN(flow) *f = &W->flow;
    const double rtol = W->P->rtol, h = f->h[0];
    double part[MANY] = {0};
    int32_t i = 0;
    for (; i + MANY <= W->d; i += MANY) {
        const double *atol = W->P->atol + i;
        T s[MANY] = {0};
        for (int q = 0; q < e->n; q++)
            for (int k = 0; k < MANY; k++) s[k] += e->a[q] * f->k[e->j[q]][i + k];
        for (int k = 0; k < MANY; k++) {
            double a = fabs((double)y[i + k]), b = (double)y_new[i + k], c = fabs(b);
            double scale = atol[k] + rtol * (a > c ? a : c) + PN_TINY;
            double q = h * (double)s[k] / scale + (b - b);
            part[k] += q * q;
        }
    }
    for (int k = 0; k < MANY; k++) *sum += part[k];
    return i;
}
#endif

static void FN(add_error)(double *restrict sum, const FN(work) * W, const V(terms) * e, const T *y, const T *y_new) {
    const FN(flow) *f = &W->flow;
    int32_t i = 0;
#if !PN_BLOCK && !defined PN_F64_ONLY
    if (W->d >= 64) i = FN(add_many_errors)(sum, W, e, y, y_new);
#endif
    for (; i < W->d; i++) {
        T s[L];
        FN(weigh)(s, e, f->k, i);
        double atol = W->P->atol[i], rtol = W->P->rtol;
        for (size_t l = 0; l < L; l++) {
            double a = fabs((double)y[(size_t)i * L + l]), b = (double)y_new[(size_t)i * L + l], c = fabs(b);
            double scale = atol + rtol * (a > c ? a : c) + PN_TINY;
            double q = f->h[l] * (double)s[l] / scale + (b - b); /* b - b: NaN unless finite */
            sum[l] += q * q;
        }
    }
}

/* err = square of the error norm; NaN where anything is not finite */
static void FN(error)(FN(work) * W, const T *y, const T *y_new) {
    FN(flow) *f = &W->flow;
    memset(f->err, 0, sizeof f->err);
    FN(add_error)(f->err, W, &W->sums->error, y, y_new);
    if (W->tab->has_e2) {
        double third[L] = {0};
        FN(add_error)(third, W, &W->sums->error2, y, y_new);
        for (int l = 0; l < L; l++) {
            double e5 = f->err[l], den = e5 + 0.01 * third[l];
            f->err[l] = den > 0 ? e5 * e5 / den : e5;
        }
    }
    for (int l = 0; l < L; l++) f->err[l] /= W->d;
}

/* Vector of factors exp(a + b x + c y) over the lanes, double whatever T is. */
static void FN(power)(double *out, double a, double b, const double *x, double c, const double *y) {
    for (int l = 0; l < FN(LP); l += PN_VE64)
        v_store_f64(out + l, v_exp_f64(v_set1_f64(a) + v_set1_f64(b) * v_load_f64(x + l) + v_set1_f64(c) * v_load_f64(y + l)));
}

/* Decide each live lane: accepted[l], and the next step size c0, the error memory c1 (the logarithm of the last error). */
static void FN(control)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    double q = 1.0 / (W->tab->error_order + 1), grow[FN(LP)], shrink[FN(LP)], floor2[FN(LP)], old[FN(LP)] = {0};
    for (int l = 0; l < L; l++) floor2[l] = f->err[l] > 1e-200 ? f->err[l] : 1e-200;
    for (int l = L; l < FN(LP); l++) floor2[l] = 1;
    for (int l = 0; l < L; l++) old[l] = f->c1[l];
    for (int l = 0; l < FN(LP); l += PN_VE64) v_store_f64(f->log_err + l, v_set1_f64(0.5) * v_log_f64(v_load_f64(floor2 + l)));
    double safety = log(P->safety), beta = P->beta * q, most = P->max_factor, least = P->min_factor;
    FN(power)(grow, safety, -(q - 0.75 * beta), f->log_err, beta, old);
    FN(power)(shrink, safety, -q, f->log_err, 0, old);
    for (int l = 0; l < L; l++) {
        double h = fabs(f->h[l]), up = grow[l] > most ? most : grow[l] < least ? least : grow[l];
        double down = f->err[l] == f->err[l] ? shrink[l] : 0.1;
        down = down < least ? least : down > 0.9 ? 0.9 : down;
        up = h * (f->again[l] && up > 1 ? 1 : up);
        up = f->cut[l] && !f->again[l] && up < f->c0[l] ? f->c0[l] : up;
        int forced = P->n_stops && f->crossing[l] && f->err[l] < INFINITY;
        int good = f->live[l] & ((f->err[l] <= 1) | forced), bad = f->live[l] & !good;
        f->c0[l] = good ? up : bad ? h * down : f->c0[l];
        f->c1[l] = !good ? f->c1[l] : f->log_err[l] > PN_LEAST_MEMORY ? f->log_err[l] : PN_LEAST_MEMORY;
        f->accepted[l] = (unsigned char)good;
        f->again[l] |= (unsigned char)bad;
        f->rejects[l] += bad;
    }
}
