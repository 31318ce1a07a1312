/* Save points of the accepted steps: which there are, and the states there, from y_new at the end of a step and from
   dense output inside. */

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

/* The first of times j .. n - 1 that does not lie before `end`, n if there is none: found in strides that double, then halve. */
static inline int32_t FN(first_from)(const double *t, int64_t j, int32_t n, double end, double dir) {
    int64_t stride = 1;
    for (; j + stride <= n && FN(before)(t[j + stride - 1], end, dir); stride *= 2) j += stride;
    for (stride /= 2; stride > 0; stride /= 2)
        if (j + stride <= n && FN(before)(t[j + stride - 1], end, dir)) j += stride;
    return (int32_t)j;
}

/* Which save times the step of lane l covers; the next one is among them. */
static inline void FN(find_saves_of)(const FN(work) * W, FN(flow) * f, int l) {
    const pn_problem *P = W->P;
    int64_t i = f->sample[l], n = n_times(P, i);
    const double *t = P->t + P->t_start[i], t_new = f->t_new[l], dir = f->dir[l];
    int32_t j = f->save[l];
    int landed = 0;
    f->ends[l] = j = FN(first_from)(t, j, (int32_t)n, t_new, dir);
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

/* Save time number `round` inside the lanes' steps from t of length h: its row, and theta with y(t + theta h); row -1: has none. */
static void FN(inside)(const pn_problem *P, int32_t round, const int64_t *sample, const int32_t *first, const int32_t *ends, const double *t,
                       const double *h, int64_t *row, T *theta) {
    for (int l = 0; l < L; l++) row[l] = -1, theta[l] = 0;
    for (int l = 0; l < L; l++) {
        int32_t j = first[l] + round;
        if (j >= ends[l]) continue;
        row[l] = P->row[sample[l]] + j;
        theta[l] = (T)((time_of(P, sample[l], j) - t[l]) / h[l]);
    }
}

/* theta[k] of save times j .. j + n - 1, n <= VE, in a step from `start` of length h; 0 beyond. */
static inline void FN(thetas)(const pn_problem *P, int64_t sample, int32_t j, size_t n, double start, double h, T *theta) {
    const double *t = P->t + P->t_start[sample] + j;
    double ts[VE];
    if (n < VE) {
        for (size_t k = 0; k < VE; k++) ts[k] = k < n ? t[k] : start;
        t = ts;
    }
    for (size_t k = 0; k < VE; k++) theta[k] = (T)((t[k] - start) / h);
}

/* y (d, VE) as n <= VE rows of the result. */
static inline void FN(write_rows)(T *to, const T *y, size_t d, size_t n) {
    if (n == VE && d == 1) V(store)(to, V(load)(y));
    else if (n == VE && d == 2) V(store_pairs)(to, V(load)(y), V(load)(y + VE));
    else
        for (size_t k = 0; k < n; k++)
            for (size_t c = 0; c < d; c++) to[k * d + c] = y[c * VE + k];
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
        if (n == 1) x = V(set1)((T)((time_of(P, i, j) - f->t[l]) / f->h[l]));
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
        FN(write_rows)(to, y, d, n);
        if (has_jumps(P)) memcpy((T *)P->y_before + at, to, n * d * sizeof(T));
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
        if (!has_jumps(P)) FN(save_ends)(W, f, l);
    }
    if (W->d <= FN(FEW)) return;
    for (int32_t round = 0; round < most; round++) {
        int64_t row[L];
        T theta[L];
        FN(inside)(P, round, f->sample, f->save, f->ends, f->t, f->h, row, theta);
        for (size_t e = 0; e < size; e += VE) {
            vec x = FN(of_lanes)(theta, e), v = V(load)(f->coef + (degree - 1) * size + e);
            for (size_t g = degree - 1; g-- > 0;) v = v * x + V(load)(f->coef + g * size + e);
            V(store)(W->spare + e, V(load)(f->y + e) + x * v);
        }
        for (int l = 0; l < W->lanes; l++) {
            if (row[l] < 0) continue;
            FN(save_row)(W, row[l], W->spare + l);
            if (has_jumps(P)) memcpy((T *)P->y_before + (size_t)row[l] * d, (T *)P->y + (size_t)row[l] * d, d * sizeof(T));
        }
    }
}
