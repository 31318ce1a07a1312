/* The forward half: L samples side by side, each with its own time, step size, error estimate and status.

   One attempt of a step, for a Runge-Kutta method (tableau.h), lane by lane:
       k_i = f(t + c_i h, y + h sum_j a_ij k_j),  y_new = y + h sum_i b_i k_i,  error = h sum_i e_i k_i
   and, with lambda > 0, the reversible scheme of McCallum & Foster (2024, arXiv:2410.11648, eq. 4-5), Psi_h(t, y) being
   the increment h sum_i b_i k_i:
       y_new = lambda y + (1 - lambda) z + Psi_h(t, z),   z_new = z - Psi_{-h}(t + h, y_new).
   Step control: error per step in the root mean square norm, PI controller (Gustafsson 1991; Hairer, Norsett, Wanner,
   Solving ODEs I, II.4 and IV.2). */

/* The table of component c. */
static inline const pn_tableau *FN(table)(const FN(work) * W, int32_t c) {
    return W->half[W->n_halves > 1 && c >= W->half[1].from].tab;
}

/* ---- evaluating the field --------------------------------------------------------------------------------------- */
/* u(t) of one sample: sum_q coef[seg][q] (t - knot)^q, row stride of the result L */
static void FN(input)(const pn_problem *P, int64_t sample, int32_t seg, double t, T *u) {
    int32_t m = P->m, q1 = P->degree + 1;
    const T *c = (const T *)P->coef + (size_t)(P->seg_start[sample] + seg) * (size_t)q1 * (size_t)m;
    T dt = (T)(t - P->knot[P->knot_start[sample] + seg]);
    for (int32_t i = 0; i < m; i++) {
        T v = c[(size_t)P->degree * (size_t)m + (size_t)i];
        for (int32_t q = P->degree; q-- > 0;) v = v * dt + c[(size_t)q * (size_t)m + (size_t)i];
        u[(size_t)i * L] = v;
    }
}

/* u of every lane at its time t into the file. Constant inputs are looked up when a lane's sample or segment changes. */
static void FN(set_inputs)(FN(work) * W, const double *t, T *u) {
    const pn_problem *P = W->P;
    const FN(flow) *f = &W->flow;
    int64_t moved = 0;
    for (int l = 0; l < L; l++) moved |= (W->u_sample[l] ^ f->sample[l]) | (W->u_seg[l] ^ f->seg[l]);
    for (int l = 0; l < L && (moved || P->degree > 0); l++)
        if (f->sample[l] >= 0) FN(input)(P, f->sample[l], f->seg[l], t[l], W->u + l);
    if (moved) memcpy(W->u_sample, f->sample, sizeof W->u_sample), memcpy(W->u_seg, f->seg, sizeof W->u_seg);
    FN(copy)(u, W->u, (size_t)P->m * L);
}

static pn_status FN(look_up)(FN(work) * W);

/* k = f(t, state in slot 1 of the file). Nonzero: stopped by the callback, or interrupted. */
static int FN(eval)(FN(work) * W, const FN(exec) * E, T *file, const double *t, T *restrict k) {
    T *time = file + (size_t)E->lay->slot[0] * L;
    if (W->costly && FN(look_up)(W) != PN_OK) return 1;
    for (int l = 0; l < L; l++) time[l] = (T)t[l];
    if (W->P->degree >= 0) FN(set_inputs)(W, t, file + (size_t)E->lay->slot[2] * L);
    if (FN(run)(E, file, E->lay->n_prologue, E->eval_end)) return 1;
    const T *out = FN(at)(E, file, E->lay->output[0]);
    if (!E->prog->output_size[0]) memset(k, 0, (size_t)W->d * L * sizeof(T));
    else FN(copy)(k, out, (size_t)W->d * L);
    return 0;
}

static inline T *FN(state_slot)(const FN(exec) * E, T *file) { return file + (size_t)E->lay->slot[1] * L; }

/* The terms a_j k_j, j < n, of a sum; of a_j those that stand `stride` apart. */
static void FN(terms_of)(FN(terms) * s, const double *a, int stride, int n) {
    s->n = 0;
    for (int j = 0; j < n; j++)
        if (a[j * stride] != 0) s->a[s->n] = (T)a[j * stride], s->j[s->n++] = (unsigned char)j;
}

/* out = y + h sum_j a_j k_j */
static void FN(combine)(T *out, const T *y, const double *h, const FN(terms) * s, T *const *k, int32_t d) {
    vec step[NV + 1];
    T hl[L];
    for (int l = 0; l < L; l++) hl[l] = (T)h[l];
    for (int v = 0; v < NV; v++) step[v] = V(load)(hl + v * VE);
#if !PN_BLOCK
    step[0] = V(set1)(hl[0]);
#endif
    enum { WIDTH = PN_BLOCK ? NV : 1 };
    for (size_t e = 0; e < (size_t)d * L; e += WIDTH * VE) {
        vec sum[WIDTH];
        for (int v = 0; v < WIDTH; v++) sum[v] = V(set1)((T)0);
        for (int q = 0; q < s->n; q++) {
            const T *kq = k[s->j[q]] + e;
            for (int v = 0; v < WIDTH; v++) sum[v] += V(set1)(s->a[q]) * V(load)(kq + v * VE);
        }
        for (int v = 0; v < WIDTH; v++) V(store)(out + e + v * VE, V(load)(y + e + v * VE) + step[v] * sum[v]);
    }
}

/* The state of stage i, or y_new where i is s. */
static void FN(combine_stage)(const FN(work) * W, T *out, const T *y, const double *h, T *const *k, int i) {
    if (W->n_halves == 1) {
        FN(combine)(out, y, h, &W->rows[i], k, W->d);
        return;
    }
    for (int32_t c = 0; c < W->d; c++) { /* halves need not begin with a whole vector */
        const double *a = FN(table)(W, c)->a[i];
        for (size_t l = 0, e = (size_t)c * L; l < L; l++, e++) {
            T s = 0;
            for (int j = 0; j < i; j++)
                if (a[j] != 0) s += (T)a[j] * k[j][e];
            out[e] = y[e] + (T)h[l] * s;
        }
    }
}

static inline void FN(stage_time)(double *to, const double *t, const double *h, const double *t_new, double c) {
    for (int l = 0; l < L; l++) to[l] = c == 1.0 ? t_new[l] : t[l] + c * h[l];
}

/* Stages from .. to - 1 of the lanes' step from `base`, in register files `stride` apart (0: one file for all). */
static int FN(stages)(FN(work) * W, const FN(exec) * E, T *file, size_t stride, const T *base, const double *t, const double *h,
                      const double *t_new, T *const *k, int from, int to) {
    for (int i = from; i < to; i++) {
        double ti[L];
        T *fi = file + (size_t)i * stride;
        FN(stage_time)(ti, t, h, t_new, W->tab->c[i]);
        FN(combine_stage)(W, FN(state_slot)(E, fi), base, h, k, i);
        if (FN(eval)(W, E, fi, ti, k[i])) return 1;
    }
    return 0;
}

static void FN(count_evals)(FN(flow) * f, const unsigned char *which, int n) {
    for (int l = 0; l < L; l++) f->evals[l] += which[l] ? n : 0;
}

/* ---- the plan of a step ------------------------------------------------------------------------------------------ */
static inline int64_t FN(n_times)(const pn_problem *P, int64_t i) { return P->t_len[i]; }
static inline double FN(time_of)(const pn_problem *P, int64_t i, int64_t j) { return P->t[P->t_start[i] + j]; }
/* Whether time a lies before b, where dir leads, and is not the same but for rounding. */
static inline int FN(before)(double a, double b, double dir) {
    double size = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
    return dir * (b - a) > 8.9e-16 * size;
}

/* Whether the row has data (see pn_part) for a jump. */
static inline int FN(has_data)(const pn_part *A, int64_t row) {
    if (!A->program || A->k == 0) return A->program != NULL;
    T first = ((const T *)A->data)[(size_t)row * (size_t)A->k];
    return first == first;
}

/* Whether a step that ends at save time j of the sample belongs there, and moves along with it. */
static inline int FN(lands)(const pn_problem *P, int64_t i, int32_t j) {
    return !P->jump.program || P->land || j == FN(n_times)(P, i) - 1 || FN(has_data)(&P->jump, P->row[i] + j);
}

/* The next save time that jumps, or the last time. */
static double FN(next_jump)(const pn_problem *P, FN(flow) * f, int l) {
    int64_t i = f->sample[l], last = FN(n_times)(P, i) - 1;
    int32_t j = f->jump_at[l] > f->save[l] ? f->jump_at[l] : f->save[l];
    while (j < last && !FN(has_data)(&P->jump, P->row[i] + j)) j++;
    f->jump_at[l] = j;
    return FN(time_of)(P, i, j);
}

/* The nearest time in front that the lane must land on. */
static double FN(target)(const pn_problem *P, FN(flow) * f, int l) {
    int64_t i = f->sample[l];
    double dir = f->dir[l], to = P->land ? FN(time_of)(P, i, f->save[l]) : P->jump.program ? FN(next_jump)(P, f, l) : f->t_last[l];
    if (P->degree >= 0) {
        int32_t next = dir > 0 ? f->seg[l] + 1 : f->seg[l];
        double knot = P->knot[P->knot_start[i] + next];
        if (next > 0 && next < P->knot_len[i] - 1 && dir * (knot - to) < 0) to = knot;
    }
    return to;
}

/* Step control, chosen by evaluations on networks, oscillators, chaos and stiffness (docs/performance.md). The memory of the PI
   controller starts as an error of 1 and keeps none below 0.1: after a step that was far too accurate the next one grows
   freely. A step that ends within 5% of a time to land on is stretched to it. The first step, (PN_FIRST / derivative)^(1/order),
   is bolder than the 0.01 of the book: a failed try costs no more than a step too short. */
#define PN_REACH 1.05
#define PN_FIRST 10.0
#define PN_LEAST_MEMORY (-2.302585092994046) /* log 0.1 */

/* Where the steps of an adaptive method end, unless they are cut: as far as the control wants, or at `to`. */
static void FN(plan_adaptive)(const pn_problem *P, FN(flow) * f, const double *to) {
    double most = P->max_step > 0 ? P->max_step : INFINITY;
    for (int l = 0; l < L; l++) {
        double wanted = f->c0[l], h = wanted > most ? most : wanted, reach = PN_REACH * wanted, room = f->dir[l] * (to[l] - f->t[l]);
        double end = to[l], far = f->t[l] + f->dir[l] * h;
        reach = reach > most ? most : reach;
        f->t_new[l] = room <= reach ? end : far;
        f->cut[l] = (h < wanted) | ((room <= reach) & (room < h));
    }
}

/* Where the fixed step of lane l ends: step number c1 + 1 from c0, but at `to` if it is nearly there. */
static inline double FN(fixed_end)(const pn_problem *P, const FN(flow) * f, int l, double to) {
    double next = f->c0[l] + f->dir[l] * (f->c1[l] + 1) * P->step;
    return f->dir[l] * (to - next) <= 1e-9 * P->step ? to : next;
}

/* t_new and h of every live lane; a lane that cannot move gets t_new == t. */
static void FN(plan)(const FN(work) * W, FN(flow) * f) {
    const pn_problem *P = W->P;
    double to[L];
    int watch = P->land || P->jump.program || W->knots; /* more than the last time */
    for (int l = 0; l < L; l++) to[l] = f->t_last[l];
    for (int l = 0; (P->grid || watch) && l < W->lanes; l++) {
        if (!f->live[l]) continue;
        if (P->grid) f->t_new[l] = P->grid[P->grid_start[f->sample[l]] + f->grid[l] + 1];
        else to[l] = FN(target)(P, f, l);
    }
    if (P->adaptive) FN(plan_adaptive)(P, f, to);
    else if (!P->grid)
        for (int l = 0; l < L; l++) f->t_new[l] = FN(fixed_end)(P, f, l, to[l]);
    for (int l = 0; l < L; l++) {
        f->t_new[l] = f->live[l] ? f->t_new[l] : f->t[l];
        f->h[l] = f->t_new[l] - f->t[l];
    }
}

#ifndef PN_TINY
#define PN_TINY 2.2250738585072014e-308 /* added to a tolerance, changes none but 0 */
#endif

/* s = sum of the terms of component c; (L) */
static inline void FN(weigh)(T *s, const FN(terms) * w, T *const *k, int32_t c) {
#if PN_BLOCK
    vec sum[NV] = {V(set1)((T)0)};
    for (int v = 1; v < NV; v++) sum[v] = sum[0];
    for (int q = 0; q < w->n; q++)
        for (int v = 0; v < NV; v++) sum[v] += V(set1)(w->a[q]) * V(load)(k[w->j[q]] + (size_t)c * L + (size_t)v * VE);
    for (int v = 0; v < NV; v++) V(store)(s + v * VE, sum[v]);
#else
    *s = 0;
    for (int q = 0; q < w->n; q++) *s += w->a[q] * k[w->j[q]][c];
#endif
}

/* ---- error and step size ------------------------------------------------------------------------------------------ */
static void FN(add_error)(double *restrict sum, const FN(work) * W, const FN(terms) * e, const T *y, const T *y_new) {
    const FN(flow) *f = &W->flow;
    for (int32_t i = 0; i < W->d; i++) {
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
    FN(add_error)(f->err, W, &W->error, y, y_new);
    if (W->tab->has_e2) {
        double third[L] = {0};
        FN(add_error)(third, W, &W->error2, y, y_new);
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
        int good = f->live[l] & (f->err[l] <= 1), bad = f->live[l] & !good;
        f->c0[l] = good ? up : bad ? h * down : f->c0[l];
        f->c1[l] = !good ? f->c1[l] : f->log_err[l] > PN_LEAST_MEMORY ? f->log_err[l] : PN_LEAST_MEMORY;
        f->accepted[l] = (unsigned char)good;
        f->again[l] |= (unsigned char)bad;
        f->rejects[l] += bad;
    }
}

/* ---- how a sample ends -------------------------------------------------------------------------------------------- */
static void FN(fail)(FN(work) * W, int l, pn_status status) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    T *y = P->y;
    P->status[i] = (int32_t)status;
    P->stop_t[i] = f->t[l];
    if (status == PN_NON_FINITE)
        for (int32_t c = W->d; c-- > 0;) {
            double v = (double)f->y_new[(size_t)c * L + (size_t)l];
            if (!(v - v == 0)) P->stop_component[i] = c;
        }
    for (int64_t j = f->save[l]; j < FN(n_times)(P, i); j++)
        for (int32_t c = 0; c < W->d; c++) y[(size_t)(P->row[i] + j) * (size_t)W->d + (size_t)c] = (T)NAN;
    f->ends[l] = f->save_end[l] = f->save[l];
    f->live[l] = 0;
    W->marching = 0;
}

/* The sample leaves its lane: counts, steps. */
static pn_status FN(finish)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    f->live[l] = 0;
    if (W->replaying) return PN_OK;
    for (int32_t c = 0; f->z && c < W->d; c++) W->chunk_z[(size_t)(i - W->first) * (size_t)W->d + (size_t)c] = f->z[(size_t)c * L + (size_t)l];
    P->nfe[i] = f->evals[l];
    P->accepted[i] = f->index[l];
    P->rejected[i] = f->rejects[l];
    if (P->steps) {
        pn_list *s = &W->steps[l];
        pn_steps *to = &P->steps[i];
        to->n = f->index[l];
        if (s->n) {
            to->record = malloc((size_t)s->n * sizeof(double));
            if (!to->record) return PN_MEMORY;
            memcpy(to->record, s->x, (size_t)s->n * sizeof(double));
        }
        s->n = 0;
    }
    return PN_OK;
}

/* ---- save points --------------------------------------------------------------------------------------------------- */
static inline void FN(jump)(const pn_problem *P, int64_t row, int32_t d, T *y) {
    if (!P->jump_add) return;
    const T *set = P->jump_set, *add = P->jump_add;
    for (int32_t c = 0; c < d; c++) {
        size_t at = (size_t)row * (size_t)d + (size_t)c;
        if (set && set[at] == set[at]) y[(size_t)c * L] = set[at];
        y[(size_t)c * L] += add[at];
    }
}

static inline void FN(save_row)(const FN(work) * W, int64_t row, const T *y) {
    T *to = (T *)W->P->y + (size_t)row * (size_t)W->d;
    for (int32_t c = 0; c < W->d; c++) to[c] = y[(size_t)c * L];
}

/* Write the states of lane l to its save times at the step's end. With jumps jump_saves does it. */
static inline void FN(save_ends)(const FN(work) * W, FN(flow) * f, int l) {
    int64_t row = W->P->row[f->sample[l]];
    for (int32_t j = f->ends[l]; j < f->save_end[l]; j++) {
        FN(jump)(W->P, row + j, W->d, f->y_new + l);
        FN(save_row)(W, row + j, f->y_new + l);
    }
}

/* Which save times the step of lane l covers; the next one is among them. */
static inline void FN(find_saves_of)(const FN(work) * W, FN(flow) * f, int l) {
    const pn_problem *P = W->P;
    int64_t i = f->sample[l], n = FN(n_times)(P, i);
    const double *t = P->t + P->t_start[i], t_new = f->t_new[l], dir = f->dir[l];
    int32_t j = f->save[l];
    int landed = 0;
    while (j < n && FN(before)(t[j], t_new, dir)) j++;
    f->ends[l] = j;
    while (j < n && !FN(before)(t_new, t[j], dir)) landed |= FN(lands)(P, i, j++);
    f->save_end[l] = j;
    f->landed[l] = (unsigned char)landed;
    f->interior[l] = f->ends[l] > f->save[l];
}

/* Which save times the accepted step covers, and whether any needs dense output. */
static int FN(find_saves)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int any = 0, n = 0;
    memset(f->interior, 0, L), memset(f->landed, 0, L);
    memcpy(f->ends, f->save, sizeof f->ends), memcpy(f->save_end, f->save, sizeof f->save_end);
    for (int l = 0; l < W->lanes; l++) { /* without a branch: nobody could foretell it */
        W->saving[n] = l;
        n += f->accepted[l] & !FN(before)(f->t_new[l], f->t_save[l], f->dir[l]);
    }
    W->n_saving = n;
    for (int q = 0; q < n; q++) {
        FN(find_saves_of)(W, f, W->saving[q]);
        any |= f->interior[W->saving[q]];
    }
    return any || P->dense || P->event;
}

/* coef[j - 1] = h sum_i dense[i][j] k_i, so that y(t + theta h) = y + sum_j coef[j - 1] theta^j */
static void FN(dense_coef)(const FN(work) * W, T *const *k, const double *h, T *coef) {
    for (int j = 1; j <= W->tab->dense_degree; j++)
        for (int32_t c = 0; c < W->d; c++) {
            T hl[L], s[L], *to = coef + ((size_t)(j - 1) * (size_t)W->d + (size_t)c) * L;
            FN(weigh)(s, &W->half[W->n_halves > 1 && c >= W->half[1].from].dense[j], k, c);
            for (int l = 0; l < L; l++) hl[l] = (T)h[l];
            for (int l = 0; l < L; l++) to[l] = hl[l] * s[l];
        }
}

/* Save time number `round` inside the lanes' steps from t of length h: its row, and theta with y(t + theta h); row -1: has none. */
static void FN(inside)(const pn_problem *P, int32_t round, const int64_t *sample, const int32_t *first, const int32_t *ends, const double *t,
                       const double *h, int64_t *row, T *theta) {
    for (int l = 0; l < L; l++) row[l] = -1, theta[l] = 0;
    for (int l = 0; l < L; l++) {
        int32_t j = first[l] + round;
        if (j >= ends[l]) continue;
        row[l] = P->row[sample[l]] + j;
        theta[l] = (T)((FN(time_of)(P, sample[l], j) - t[l]) / h[l]);
    }
}

/* theta[k] of save times j .. j + n - 1, n <= VE, in a step from `start` of length h; 0 beyond. */
static inline void FN(thetas)(const pn_problem *P, int64_t sample, int32_t j, size_t n, double start, double h, T *theta) {
    double ts[VE];
    for (size_t k = 0; k < VE; k++) ts[k] = start;
    memcpy(ts, P->t + P->t_start[sample] + j, (n < VE ? n : VE) * sizeof *ts);
    for (size_t k = 0; k < VE; k++) theta[k] = (T)((ts[k] - start) / h);
}

/* States of few components: those at the save times inside the step of lane l, a vector of times at once. */
enum { FN(FEW) = 8 };
static void FN(save_inside)(const FN(work) * W, int l) {
    const pn_problem *P = W->P;
    const FN(flow) *f = &W->flow;
    size_t degree = (size_t)W->tab->dense_degree, d = (size_t)W->d, size = d * L;
    int64_t i = f->sample[l];
    for (int32_t j = f->save[l]; j < f->ends[l]; j += VE) {
        size_t at = (size_t)(P->row[i] + j) * d, n = f->ends[l] - j < (int32_t)VE ? (size_t)(f->ends[l] - j) : VE;
        T theta[VE], y[FN(FEW) * VE], *to = (T *)P->y + at;
        vec x;
        if (n == 1) x = V(set1)((T)((FN(time_of)(P, i, j) - f->t[l]) / f->h[l]));
        else {
            FN(thetas)(P, i, j, n, f->t[l], f->h[l], theta);
            x = V(load)(theta);
        }
        for (size_t c = 0; c < d; c++) {
            const T *coef = f->coef + c * L + l;
            vec v = V(set1)(coef[(degree - 1) * size]);
            for (size_t g = degree - 1; g-- > 0;) v = v * x + V(set1)(coef[g * size]);
            V(store)(y + c * VE, V(set1)(f->y[c * L + (size_t)l]) + x * v);
        }
        for (size_t k = 0; k < n; k++)
            for (size_t c = 0; c < d; c++) to[k * d + c] = y[c * VE + k];
        if (P->jump.program) memcpy((T *)P->y_before + at, to, n * d * sizeof(T));
    }
}

static void FN(write_saves)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    size_t degree = (size_t)W->tab->dense_degree, d = (size_t)W->d, size = d * L;
    int32_t most = 0;
    for (int q = 0; q < W->n_saving; q++) {
        int l = W->saving[q];
        int32_t n = f->ends[l] - f->save[l];
        most = n > most ? n : most;
        if (n > 0 && W->d <= FN(FEW)) FN(save_inside)(W, l);
        if (!P->jump.program) FN(save_ends)(W, f, l);
    }
    if (W->d <= FN(FEW)) return;
    for (int32_t round = 0; round < most; round++) {
        int64_t row[L];
        T theta[L];
        FN(inside)(P, round, f->sample, f->save, f->ends, f->t, f->h, row, theta);
        for (size_t e = 0; e < size; e += VE) {
            vec x = PN_BLOCK ? V(load)(theta + e % L) : V(set1)(theta[0]), v = V(load)(f->coef + (degree - 1) * size + e);
            for (size_t g = degree - 1; g-- > 0;) v = v * x + V(load)(f->coef + g * size + e);
            V(store)(W->spare + e, V(load)(f->y + e) + x * v);
        }
        for (int l = 0; l < W->lanes; l++) {
            if (row[l] < 0) continue;
            FN(save_row)(W, row[l], W->spare + l);
            if (P->jump.program) memcpy((T *)P->y_before + (size_t)row[l] * d, (T *)P->y + (size_t)row[l] * d, d * sizeof(T));
        }
    }
}

/* ---- bookkeeping of an accepted step -------------------------------------------------------------------------------- */
static pn_status FN(stop_at_event)(FN(work) * W, int l);
static pn_status FN(find_events)(FN(work) * W);

/* Parts of a block. */
static inline pn_record *FN(block_records)(FN(block) * b) { return (pn_record *)(void *)(b + 1); }
static inline T *FN(block_y)(FN(block) * b) { return (T *)(void *)(FN(block_records)(b) + L); }
static inline T *FN(block_k)(const FN(work) * W, FN(block) * b) { return FN(block_y)(b) + (size_t)W->d * L; }

/* Idle lanes follow a live one, so that their register files hold harmless numbers on the way back. */
static void FN(shadow)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    int some = 0;
    while (!f->live[some]) some++;
    for (int l = 0; l < L; l++) {
        W->shadow[l] = !f->live[l];
        if (f->live[l]) continue;
        f->t[l] = f->t[some], f->h[l] = f->h[some], f->t_new[l] = f->t_new[some];
        f->sample[l] = f->sample[some], f->seg[l] = f->seg[some];
        for (size_t c = 0; c < (size_t)W->d; c++) {
            f->y[c * L + (size_t)l] = f->y[c * L + (size_t)some];
            f->k[0][c * L + (size_t)l] = f->k[0][c * L + (size_t)some];
        }
    }
    W->shadowed = some;
}

/* Where the stages of this attempt are evaluated. 1: in the store, for the way back. */
static int FN(choose_files)(FN(work) * W) {
    int stored = !W->replaying && W->store_used < W->store_room;
    W->now = stored ? &W->reverse : &W->field;
    W->now_file = stored ? W->store + (size_t)W->store_used * W->slot : W->file;
    W->now_stride = stored ? W->files_stride : W->stage_stride;
    return stored;
}

/* Lanes whose attempt failed, and their shadows, copy one that moved, for the same reason. */
static void FN(fill_files)(FN(work) * W, int some, int from) {
    const FN(flow) *f = &W->flow;
    for (int i = from; i < W->evaluated; i++)
        for (int l = 0; l < L; l++) {
            if (f->accepted[l] || (W->shadow[l] && f->accepted[W->shadowed])) continue;
            T *file = W->now_file + (size_t)i * W->now_stride;
            for (size_t row = 0; row < (size_t)W->reverse.lay->forward_rows; row++) file[row * L + (size_t)l] = file[row * L + (size_t)some];
        }
}

static pn_status FN(budget_spent)(FN(work) * W);

/* Keep the attempt for the way back. */
static pn_status FN(keep)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    const pn_problem *P = W->P;
    size_t size = (size_t)W->d * L;
    int some = 0, here = 1;
    W->n_blocks++;
    if (W->limited && !W->replaying) {
        pn_status st = FN(budget_spent)(W);
        if (st != PN_OK || W->dropped) return st;
    }
    FN(block) *b = pn_tape_push(&W->tape);
    if (!b) return PN_MEMORY;
    for (int l = 0; l < L; l++) {
        pn_record *r = &FN(block_records)(b)[l];
        r->local = -1;
        if (!f->accepted[l]) continue;
        some = l;
        here &= f->source[l] == PN_SOURCE_HERE;
        *r = (pn_record){.t = f->t[l], .t_new = f->t_new[l], .save = f->save[l], .ends = f->ends[l], .save_end = f->save_end[l], .seg = f->seg[l],
                         .local = (int32_t)(f->sample[l] - W->first), .first = f->index[l] == 0, .source = f->source[l],
                         .landed = f->landed[l] && (P->land || P->jump.program || f->save_end[l] == FN(n_times)(P, f->sample[l]))};
    }
    *b = (FN(block)){.files = -1, .n = W->evaluated, .here = here};
    if (f->z) return PN_OK; /* its states are found again from the end */
    FN(copy)(FN(block_y)(b), f->y, size); /* first: its padding is the place of k_0 */
    FN(copy)(FN(block_k)(W, b), f->k[0], size);
    if (W->now != &W->reverse) return PN_OK;
    FN(fill_files)(W, some, !here);
    b->files = W->store_used++;
    return PN_OK;
}

static pn_status FN(list_step)(FN(work) * W, int l) {
    FN(flow) *f = &W->flow;
    int32_t d = W->d, degree = W->tab->dense_degree;
    int64_t stride = 2 + (W->P->dense ? (degree + 1) * d : 0);
    double *to = pn_list_push(&W->steps[l], stride);
    if (!to) return PN_MEMORY;
    *to++ = f->t[l];
    *to++ = f->h[l];
    if (!W->P->dense) return PN_OK;
    for (int32_t c = 0; c < d; c++) *to++ = (double)f->y[(size_t)c * L + (size_t)l];
    for (int32_t e = 0; e < degree * d; e++) *to++ = (double)f->coef[(size_t)e * L + (size_t)l];
    return PN_OK;
}

/* x = x_new in accepted lanes; (d, L) both */
static void FN(take)(const FN(work) * W, const T *moved, T *x, const T *x_new) {
    if (!PN_BLOCK && moved[0] != 0) FN(copy)(x, x_new, (size_t)W->d);
    for (size_t l = 0; PN_BLOCK && l < L; l += VE) {
        vec keep = V(load)(moved + l);
        for (size_t e = l; e < (size_t)W->d * L; e += L)
            V(store)(x + e, V(sel)(keep != V(set1)((T)0), V(load)(x_new + e), V(load)(x + e)));
    }
}

/* The segment of the input that begins at the time a lane has come to; fixed steps are counted from there. */
static void FN(next_segment)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    int32_t next, last = (int32_t)P->knot_len[i] - 1;
    while ((next = f->dir[l] > 0 ? f->seg[l] + 1 : f->seg[l]) > 0 && next < last &&
           f->dir[l] * (P->knot[P->knot_start[i] + next] - f->t[l]) <= 0) { /* a prescribed grid may pass knots */
        f->seg[l] += f->dir[l] > 0 ? 1 : -1;
        f->have_k[l] = 0; /* u jumps, or has other last bits seen from here: as when the step is taken again */
        if (!P->adaptive) f->c0[l] = f->t[l], f->c1[l] = 0;
    }
}

/* Move the accepted lanes to the end of their steps. */
static pn_status FN(advance)(FN(work) * W, int have_new) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    T moved[L > VE ? L : VE];
    for (int l = 0; l < L; l++) moved[l] = f->accepted[l];
    FN(take)(W, moved, f->y, f->y_new);
    if (f->z) FN(take)(W, moved, f->z, f->z_new);
    if (have_new) FN(take)(W, moved, f->k[0], f->k[W->tab->s]);
    int have = have_new && !P->quadrature, jumps = P->jump_add || P->jump.program, lands = P->land || P->jump.program;
    for (int l = 0; l < L; l++) {
        int next = !have ? 0 : f->counted[l] ? 1 : 2;
        f->have_k[l] = (unsigned char)(f->accepted[l] ? next : f->have_k[l]);
        f->source[l] = f->accepted[l] ? PN_SOURCE_PREVIOUS : f->source[l];
        f->again[l] = f->accepted[l] ? 0 : f->again[l];
        f->index[l] += f->accepted[l];
        f->grid[l] += f->accepted[l];
        f->t[l] = f->accepted[l] ? f->t_new[l] : f->t[l];
    }
    for (int l = 0; !P->adaptive && l < L; l++) { /* fixed steps are counted from where the last one landed */
        int origin = f->accepted[l] & lands & f->landed[l];
        f->c0[l] = origin ? f->t[l] : f->c0[l];
        f->c1[l] = origin ? 0 : f->c1[l] + f->accepted[l];
    }
    for (int l = 0; (jumps || W->knots) && l < W->lanes; l++) {
        if (!f->accepted[l]) continue;
        if ((P->jump_add && f->save_end[l] > f->save[l]) || (P->jump.program && W->jumped[l])) f->have_k[l] = 0;
        if (W->knots) FN(next_segment)(W, l);
    }
    pn_status st = PN_OK;
    for (int q = 0; st == PN_OK && q < W->n_saving; q++) {
        int l = W->saving[q], stopped = P->event && W->watch.which[l] >= 0;
        int64_t i = f->sample[l];
        if (!f->accepted[l]) continue;
        f->save[l] = f->save_end[l];
        if (f->save[l] < FN(n_times)(P, i)) f->t_save[l] = FN(time_of)(P, i, f->save[l]);
        else if (!stopped) st = FN(finish)(W, l);
    }
    for (int l = 0; P->event && st == PN_OK && l < W->lanes; l++)
        if (f->accepted[l] && W->watch.which[l] >= 0) st = FN(stop_at_event)(W, l);
    return st;
}

/* ---- one attempt of a step in every live lane --------------------------------------------------------------------- */
static pn_status FN(check_lanes)(FN(work) * W) { /* budgets and steps that vanish, before any work */
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    unsigned char suspect[L];
    int any = 0;
    for (int l = 0; l < L; l++) {
        suspect[l] = (unsigned char)(f->live[l] & ((f->attempts[l] >= P->max_steps) | (f->again[l] & P->adaptive) | (f->h[l] == 0)));
        f->attempts[l] += f->live[l];
        any |= suspect[l];
    }
    for (int l = 0; any && l < W->lanes; l++) {
        if (!suspect[l]) continue;
        pn_status st = PN_OK;
        double span = fabs(f->t_last[l] - FN(time_of)(P, f->sample[l], 0)), t = fabs(f->t[l]);
        double least = 16 * 2.220446049250313e-16 * (t > 1e-3 * span ? t : 1e-3 * span);
        if (f->attempts[l] > P->max_steps) st = PN_MAX_STEPS;
        else if (f->again[l] && P->adaptive && f->c0[l] < least) st = f->err[l] == f->err[l] ? PN_STEP_TOO_SMALL : PN_NON_FINITE;
        else if (f->h[l] == 0) st = PN_STEP_TOO_SMALL;
        if (st == PN_OK) continue;
        FN(fail)(W, l, st);
        st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

static int FN(any)(const unsigned char *x) {
    for (int l = 0; l < L; l++)
        if (x[l]) return 1;
    return 0;
}

static int FN(first_stage)(FN(work) * W, const T *base) {
    FN(flow) *f = &W->flow;
    unsigned char need[L];
    for (int l = 0; l < L; l++) {
        unsigned char here = f->live[l] & (f->have_k[l] == 0), late = f->live[l] & (f->have_k[l] == 2), source = f->source[l];
        need[l] = here;
        f->source[l] = here ? PN_SOURCE_HERE : source == PN_SOURCE_HERE ? PN_SOURCE_EARLIER : source;
        f->have_k[l] = late ? 1 : f->have_k[l];
        f->evals[l] += late;
    }
    W->fresh = FN(any)(need);
    if (!W->fresh) return 0;
    T *all = W->spare;
    FN(copy)(FN(state_slot)(W->now, W->now_file), base, (size_t)W->d * L);
    memcpy(W->active, need, L);
    if (FN(eval)(W, W->now, W->now_file, f->t, all)) return 1;
    T fresh[L > VE ? L : VE];
    for (int l = 0; l < L; l++) fresh[l] = need[l], f->have_k[l] |= need[l];
    FN(take)(W, fresh, f->k[0], all);
    FN(count_evals)(f, need, 1);
    return 0;
}

/* z_new = z - Psi_{-h}(t + h, y_new); uses the spare stages of the back half */
static int FN(reversible_second)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    double back[L];
    T *k[PN_MAX_STAGES];
    for (int i = 0; i < W->tab->s; i++) k[i] = f->coef + (size_t)i * (size_t)W->d * L;
    for (int l = 0; l < L; l++) back[l] = -f->h[l];
    memcpy(W->active, f->accepted, L);
    if (FN(stages)(W, &W->field, W->file, 0, f->y_new, f->t_new, back, f->t, k, 0, W->tab->s)) return 1;
    for (int l = 0; l < L; l++) back[l] = f->h[l]; /* z - (-h) sum b k */
    FN(combine)(f->z_new, f->z, back, &W->rows[W->tab->s], k, W->d);
    FN(count_evals)(f, f->accepted, W->tab->s);
    return 0;
}

static int FN(quadrature)(FN(work) * W);
static pn_status FN(jump_saves)(FN(work) * W);
static int FN(sens_step)(FN(work) * W);

/* bad[l] = 0 where the n rows of lane l are finite, NaN elsewhere. */
static inline void FN(find_bad)(T *bad, const T *x, size_t n) {
    for (int l = 0; l < L; l++) bad[l] = 0;
    for (size_t e = 0; e < n * L; e += L)
        for (size_t l = 0; l < L; l++) bad[l] += x[e + l] * 0;
}

/* Without step control every step is accepted whose end is finite. */
static pn_status FN(accept_finite)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    T bad[L];
    FN(find_bad)(bad, f->y_new, (size_t)W->d);
    for (int l = 0; l < L; l++) f->accepted[l] = (unsigned char)(f->live[l] & (bad[l] == 0));
    for (int l = 0; l < W->lanes; l++) {
        if (f->accepted[l] == f->live[l]) continue;
        FN(fail)(W, l, PN_NON_FINITE);
        pn_status st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

/* Stages, new state, error, decision. */
static pn_status FN(try_step)(FN(work) * W, int *have_new) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int s = W->tab->s, rev = f->z != NULL;
    const T *base = rev ? f->z : f->y;
    if (FN(first_stage)(W, base)) return PN_CALLBACK;
    memcpy(W->active, f->live, L);
    if (FN(stages)(W, W->now, W->now_file, W->now_stride, base, f->t, f->h, f->t_new, f->k, 1, s)) return PN_CALLBACK;
    W->evaluated = s;
    FN(count_evals)(f, f->live, s - 1);
    FN(combine_stage)(W, f->y_new, base, f->h, f->k, s);
    if (rev)
        for (size_t e = 0; e < (size_t)W->d * L; e++) f->y_new[e] += (T)P->lambda * (f->y[e] - f->z[e]);
    *have_new = 0;
    if (P->adaptive) {
        if (W->tab->error_uses_new) {
            if (FN(stages)(W, W->now, W->now_file, W->now_stride, base, f->t, f->h, f->t_new, f->k, s, s + 1)) return PN_CALLBACK;
            W->evaluated = s + 1;
            FN(count_evals)(f, f->live, 1);
            *have_new = !rev;
        }
        FN(error)(W, f->y, f->y_new);
        FN(control)(W);
        return PN_OK;
    }
    return FN(accept_finite)(W);
}

/* Dense output where a save time lies inside the step: f_new and the extra stages first. The reversible scheme, whose
   stages start from z, adds theta (1 - lambda) (z - y), so that it ends in its y_new. */
static pn_status FN(interpolate)(FN(work) * W, int *have_new) {
    FN(flow) *f = &W->flow;
    int s = W->tab->s, from = *have_new ? s + 1 : s, to = W->tab->dense_uses_new ? W->stages : s;
    unsigned char need[L];
    int all = W->P->dense || W->P->event;
    for (int l = 0; l < L; l++) need[l] = (unsigned char)(f->accepted[l] & (f->interior[l] | all));
    if (from < to) {
        memcpy(W->active, f->accepted, L);
        if (FN(stages)(W, W->now, W->now_file, W->now_stride, f->z ? f->z : f->y, f->t, f->h, f->t_new, f->k, from, to)) return PN_CALLBACK;
        W->evaluated = to;
        FN(count_evals)(f, need, to - from);
        if (from == s) memcpy(f->counted, need, L);
        *have_new = !f->z;
    }
    FN(dense_coef)(W, f->k, f->h, f->coef);
    for (size_t e = 0; f->z && e < (size_t)W->d * L; e++) f->coef[e] += (T)(1 - W->P->lambda) * (f->z[e] - f->y[e]);
    T bad[L];
    int some = 0; /* f_new may be infinite though y_new is not */
    FN(find_bad)(bad, f->coef, (size_t)W->tab->dense_degree * (size_t)W->d);
    for (int l = 0; l < L; l++) some |= f->accepted[l] & f->interior[l] & (bad[l] != 0);
    for (int l = 0; some && l < W->lanes; l++) {
        if (!f->accepted[l] || !f->interior[l] || bad[l] == 0) continue;
        f->accepted[l] = 0;
        FN(fail)(W, l, PN_NON_FINITE);
        pn_status st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

/* What follows from an attempt that was accepted in some lanes. */
static pn_status FN(complete)(FN(work) * W, int have_new) {
    FN(flow) *f = &W->flow;
    pn_status st = PN_OK;
    if (!FN(any)(f->accepted)) return st;
    if (f->z && FN(reversible_second)(W)) return PN_CALLBACK;
    if (FN(find_saves)(W)) st = FN(interpolate)(W, &have_new);
    if (st == PN_OK && W->P->event) st = FN(find_events)(W);
    if (st != PN_OK) return st;
    if (W->P->quadrature && FN(quadrature)(W)) return PN_CALLBACK;
    if (W->P->sensitivity && FN(sens_step)(W)) return PN_CALLBACK;
    if (W->P->gradient != PN_GRAD_NONE) st = FN(keep)(W);
    for (int l = 0; W->P->steps && !W->replaying && st == PN_OK && l < W->lanes; l++)
        if (f->accepted[l]) st = FN(list_step)(W, l);
    if (st != PN_OK) return st;
    FN(write_saves)(W);
    if (W->P->jump.program && (st = FN(jump_saves)(W)) != PN_OK) return st;
    return FN(advance)(W, have_new);
}

static pn_status FN(attempt)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    int have_new;
    FN(plan)(W, f);
    pn_status st = FN(check_lanes)(W);
    if (st != PN_OK || !FN(any)(f->live)) return st;
    memset(f->counted, 1, L);
    if (FN(choose_files)(W)) FN(shadow)(W);
    st = FN(try_step)(W, &have_new);
    return st == PN_OK ? FN(complete)(W, have_new) : st;
}
