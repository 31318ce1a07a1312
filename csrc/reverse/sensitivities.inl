/* Exact sensitivities along with the solution: S = d y / d (theta, y0), for the steps really taken, lane by lane.

   A step, and each value saved inside it, is y + h sum_i w_i k_i (w = b, or the dense weights at theta). A sweep back
   through the stages from the cotangent e_c (reverse_stages) gives row c of its derivatives A with respect to y and G
   with respect to theta, so that
       S_new = A S + [G 0],
   step sizes frozen. Rows are components, columns theta (p) then y0 (d). A block keeps S as T (d, columns, L); one
   sample keeps it in double, its columns side by side in long vectors. */

/* Write S to a row of the result for each lane that has one (not -1). */
static void FN(sens_save)(const FN(work) * W, const int64_t *row, const SENS *S) {
    size_t size = (size_t)W->d * (size_t)W->columns, e = 0;
#if PN_BLOCK
    for (; e + VE <= size; e += VE)
        for (size_t v = 0; v < L; v += VE) {
            vec x[VE];
            for (size_t k = 0; k < VE; k++) x[k] = V(load)(S + (e + k) * L + v);
            V(transpose)(x);
            for (size_t k = 0; k < VE; k++)
                if (row[v + k] >= 0) V(store_as_f64)(W->P->sensitivity + (size_t)row[v + k] * size + e, x[k]);
        }
#endif
    for (size_t l = 0; l < L; l++)
        for (size_t k = e; row[l] >= 0 && k < size; k++) W->P->sensitivity[(size_t)row[l] * size + k] = (double)S[k * L + l];
}

/* S at the initial time: zero, and one where y0 meets itself */
static void FN(sens_open)(FN(work) * W, int l) {
    size_t q = (size_t)W->columns, d = (size_t)W->d, p = q - d;
    for (size_t e = 0; e < d * q; e++) W->sens[e * L + (size_t)l] = 0;
    for (size_t c = 0; c < d; c++) W->sens[(c * q + p + c) * L + (size_t)l] = 1;
}
static void FN(sens_first)(const FN(work) * W, int64_t row) {
    size_t q = (size_t)W->columns, d = (size_t)W->d, p = q - d;
    double *to = W->P->sensitivity + (size_t)row * d * q;
    memset(to, 0, d * q * sizeof(double));
    for (size_t c = 0; c < d; c++) to[c * q + p + c] = 1;
}

/* to = sum_e a_e S_e, a row of S */
static void FN(sens_row)(const FN(work) * W, SENS *restrict to, const T *a) {
    size_t q = (size_t)W->columns, d = (size_t)W->d;
    const SENS *S = W->sens;
#if PN_BLOCK
    vec zero = V(set1)((T)0);
    for (size_t e = 0; e < d; e += 2) { /* two rows at a time */
        const T *S0 = S + e * q * L, *S1 = e + 1 < d ? S0 + q * L : S0;
        vec a0[NV], a1[NV];
        for (size_t v = 0; v < NV; v++) {
            a0[v] = V(load)(a + e * L + v * VE);
            a1[v] = e + 1 < d ? V(load)(a + (e + 1) * L + v * VE) : zero;
        }
        for (size_t i = 0; i < q * L; i += L)
            for (size_t v = 0; v < NV; v++) {
                size_t at = i + v * VE;
                vec old = e == 0 ? zero : V(load)(to + at);
                V(store)(to + at, old + (a0[v] * V(load)(S0 + at) + a1[v] * V(load)(S1 + at)));
            }
    }
#else
    for (size_t i = 0; i < q; i++) to[i] = (double)a[0] * S[i];
    for (size_t e = 1; e < d; e++)
        for (size_t i = 0; i < q; i++) to[i] += (double)a[e] * S[e * q + i];
#endif
}

/* to = the sensitivity of y + sum_i w_i k_i, w_i = h weight_i (without y: of the sum); the register files are filled.
   The weights (n, L) of either part of the state stand one after the other. */
static int FN(sens_point)(FN(work) * W, const T *weight, int n, int with_y, SENS *to) {
    const FN(flow) *f = &W->flow;
    FN(back) *B = &W->back;
    FN(step) step = {W->files, f->t, f->h, f->t_new, B->gk, B->g_base, f->y, NULL, NULL, f->k};
    size_t size = (size_t)W->d * L, row = (size_t)W->columns * L;
    for (size_t c = 0; c < (size_t)W->d; c++) {
        for (int i = 0; i < n; i++) {
            memset(B->gk[i], 0, size * sizeof(T));
            const T *w = weight + (FN(table)(W, (int32_t)c) == W->tab ? (size_t)i : (size_t)(n + i)) * L;
            for (size_t l = 0; l < L; l++) B->gk[i][c * L + l] = (T)f->h[l] * w[l];
        }
        for (size_t e = 0; e < size; e++) B->g_base[e] = with_y && e / L == c ? 1 : 0;
        if (FN(is_implicit)(W)) FN(clear_seed)(W);
        if (FN(reverse_stages)(W, &step, 0, n)) return 1;
        if (FN(is_implicit)(W) && FN(linearised_back)(W, &step)) return 1;
        FN(sens_row)(W, to + c * row, B->g_base);
        FN(accumulate_lanes)(&W->reverse, W->files, W->files_stride, n, to + c * row);
        if (FN(is_implicit)(W)) FN(accumulate_lanes)(&W->newton.back, W->newton.back_file, 0, 1, to + c * row);
    }
    return 0;
}

#if !PN_BLOCK
/* Many saves inside a step: sweeps for the coefficients of theta, theta^2, ... of S, then sens_new = the polynomial. Not
   in a block: there it gains nothing, and which way a lane goes would depend on its neighbours. */
static int FN(sens_dense)(FN(work) * W, int n) {
    const pn_tableau *tab = W->tab;
    T *weight = W->back.weight;
    for (int g = 0; g < tab->dense_degree; g++) {
        for (int i = 0; i < W->sums->n_halves * n * L; i++) weight[i] = (T)W->sums->half[i / (n * L)].tab->dense[i / L % n][g + 1];
        if (FN(sens_point)(W, weight, n, 0, W->sens_coef + (size_t)g * W->sens_size)) return 1;
    }
    return 0;
}

static void FN(sens_polynomial)(FN(work) * W, double theta) {
    enum { SOME = 32 };
    for (size_t e = 0; e < W->sens_size; e += SOME) {
        double s[SOME] = {0};
        for (int g = W->tab->dense_degree; g-- > 0;)
            for (size_t k = 0; k < SOME; k++) s[k] = (s[k] + W->sens_coef[(size_t)g * W->sens_size + e + k]) * theta;
        for (size_t k = 0; k < SOME; k++) W->sens_new[e + k] = W->sens[e + k] + s[k];
    }
}
#endif

/* sens_new = S at theta by sweeps of its own */
static int FN(sens_inside)(FN(work) * W, const double *theta, int n) {
    T *weight = W->back.weight;
    for (int i = 0; i < W->sums->n_halves * n * L; i++) {
        const pn_tableau *tab = W->sums->half[i / (n * L)].tab;
        double w = 0;
        for (int g = tab->dense_degree; g > 0; g--) w = (w + tab->dense[i / L % n][g]) * theta[i % L];
        weight[i] = (T)w;
    }
    return FN(sens_point)(W, weight, n, 1, W->sens_new);
}

/* The lanes that did not move keep their S. */
static void FN(sens_keep)(FN(work) * W) {
#if PN_BLOCK
    T moved[L];
    for (int l = 0; l < L; l++) moved[l] = W->flow.accepted[l] ? 1 : 0;
    for (size_t e = 0; e < (size_t)W->d * (size_t)W->columns * L; e += VE) {
        vec x = V(sel)(V(load)(moved + e % L) == V(set1)((T)0), V(load)(W->sens + e), V(load)(W->sens_new + e));
        V(store)(W->sens_new + e, x);
    }
#else
    (void)W; /* a lane alone is here only if it moved */
#endif
}

/* Move S over the step that was just accepted, writing it at the step's save times. */
static int FN(sens_step)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    const pn_tableau *tab = W->tab;
    int n = tab->dense_uses_new ? W->stages : tab->s, all = 1;
    T *weight = W->back.weight;
    int64_t row[L];
    int32_t most = 0; /* saves of one lane in this step; the last may be its end */
    memcpy(W->active, f->accepted, L);
    if (!W->fresh && FN(stages)(W, &W->reverse, W->files, 0, f->y, f->t, f->h, f->t_new, W->back.k, 0, 1)) return 1;
    for (int l = 0; l < L; l++)
        if (f->accepted[l] && f->save_end[l] - f->save[l] > most) most = f->save_end[l] - f->save[l];
#if !PN_BLOCK
    int dense = most > tab->dense_degree;
    if (dense && FN(sens_dense)(W, n)) return 1;
#endif
    for (int32_t r = 0; r < most; r++) { /* the saves inside, one a lane at a time */
        double theta[L];
        int any = 0;
        for (int l = 0; l < L; l++) {
            int32_t j = f->save[l] + r;
            int inside = f->accepted[l] && j < f->ends[l];
            theta[l] = inside ? (time_of(P, f->sample[l], j) - f->t[l]) / f->h[l] : 0;
            row[l] = inside ? P->row[f->sample[l]] + j : -1;
            any |= inside;
        }
        if (!any) break;
#if !PN_BLOCK
        if (dense) FN(sens_polynomial)(W, theta[0]);
        else
#endif
            if (FN(sens_inside)(W, theta, n))
            return 1;
        FN(sens_save)(W, row, W->sens_new);
    }
    for (int i = 0; i < W->sums->n_halves * tab->s * L; i++) weight[i] = (T)W->sums->half[i / (tab->s * L)].tab->b[i / L % tab->s];
    if (FN(sens_point)(W, weight, tab->s, 1, W->sens_new)) return 1;
    for (int32_t r = 1, any = 1; any; r++) { /* the saves at the end of the step */
        any = 0;
        for (int l = 0; l < L; l++) {
            int32_t j = f->save_end[l] - r;
            int end = f->accepted[l] && j >= f->ends[l];
            row[l] = end ? P->row[f->sample[l]] + j : -1;
            any |= end;
        }
        if (any) FN(sens_save)(W, row, W->sens_new);
    }
    for (int l = 0; l < L; l++) all &= f->accepted[l];
    if (!all) FN(sens_keep)(W);
    SENS *old = W->sens;
    W->sens = W->sens_new;
    W->sens_new = old;
    return 0;
}
