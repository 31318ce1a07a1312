/* Exact sensitivities of one sample along with its solution: S = d y / d (theta, y0), for the steps really taken.

   With J_i = df/dy and F_i = df/dtheta at stage i (d reverse sweeps give their rows), a step from S is
       Z_i = S + h sum_j a_ij K_j,   K_i = J_i Z_i + [F_i 0],   S_new = S + h sum_i b_i K_i,
   and at a save time inside it S + h sum_i K_i sum_j dense_ij theta^j: the derivative of flow.inl's formulas, step sizes
   frozen. Columns are theta (p) then y0 (d), in double; the work is in long vectors over the columns, so this is done in
   the single-lane instances only. */
#if !PN_BLOCK
static void FN(sens_save)(const FN(work) * W, int64_t row, const double *S) {
    memcpy(W->P->sensitivity + (size_t)row * (size_t)W->d * (size_t)W->columns, S, (size_t)W->d * (size_t)W->columns * sizeof(double));
}

static void FN(sens_open)(FN(work) * W) {
    size_t q = (size_t)W->columns, p = q - (size_t)W->d;
    memset(W->sens, 0, (size_t)W->d * q * sizeof(double));
    for (size_t c = 0; c < (size_t)W->d; c++) W->sens[c * q + p + c] = 1;
}

/* to += weight * from, n columns */
static inline void FN(add_columns)(double *restrict to, double weight, const double *restrict from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] += weight * from[i];
}

/* to = S + h sum_i weight_i K_i */
static void FN(sens_combine)(const FN(work) * W, double *to, double h, const double *weight, int n) {
    size_t size = (size_t)W->d * (size_t)W->columns;
    memcpy(to, W->sens, size * sizeof(double));
    for (int i = 0; i < n; i++)
        if (weight[i] != 0) FN(add_columns)(to, h * weight[i], W->sens_k + (size_t)i * size, size);
}

/* K_i = J_i Z + [F_i 0]; the register file of stage i is filled */
static int FN(sens_stage)(FN(work) * W, int i) {
    FN(exec) *E = &W->reverse;
    T *file = W->files + (size_t)i * W->files_stride, *seed = file + E->lay->slot[3];
    size_t q = (size_t)W->columns, d = (size_t)W->d;
    double *K = W->sens_k + (size_t)i * d * q;
    memset(K, 0, d * q * sizeof(double));
    for (size_t c = 0; c < d; c++) {
        for (size_t e = 0; e < d; e++) seed[e] = e == c;
        if (FN(run)(E, file, E->lay->n_forward, E->lay->n_reverse)) return 1;
        E->grad[0] = K + c * q;
        FN(accumulate)(E, file, 0, 1, NULL);
        if (!E->prog->output_size[1]) continue;
        const T *J = FN(at)(E, file, E->lay->output[1]);
        for (size_t e = 0; e < d; e++)
            if (J[e] != 0) FN(add_columns)(K + c * q, (double)J[e], W->sens_z + e * q, q);
    }
    return 0;
}

/* Move S over the step that was just accepted, writing it at the step's save times. */
static int FN(sens_step)(FN(work) * W) {
    const pn_problem *P = W->P;
    const FN(flow) *f = &W->flow;
    const pn_tableau *tab = W->tab;
    int n = f->interior[0] && tab->dense_uses_new ? W->stages : tab->s;
    double h = f->h[0], weight[PN_MAX_STAGES];
    if (FN(stages)(W, &W->reverse, W->files, W->files_stride, f->y, f->t, f->h, f->t_new, W->back.k, 0, n)) return 1;
    for (int i = 0; i < n; i++) {
        FN(sens_combine)(W, W->sens_z, h, tab->a[i], i);
        if (FN(sens_stage)(W, i)) return 1;
    }
    FN(sens_combine)(W, W->sens_new, h, tab->b, tab->s);
    for (int32_t j = f->save[0]; j < f->save_end[0]; j++) {
        double ts = FN(time_of)(P, f->sample[0], j), theta = (ts - f->t[0]) / h;
        int64_t row = P->row[f->sample[0]] + j;
        if (FN(same_time)(ts, f->t_new[0])) {
            FN(sens_save)(W, row, W->sens_new);
            continue;
        }
        for (int i = 0; i < n; i++) {
            weight[i] = 0;
            for (int g = tab->dense_degree; g > 0; g--) weight[i] = (weight[i] + tab->dense[i][g]) * theta;
        }
        FN(sens_combine)(W, W->sens_z, h, weight, n);
        FN(sens_save)(W, row, W->sens_z);
    }
    memcpy(W->sens, W->sens_new, (size_t)W->d * (size_t)W->columns * sizeof(double));
    return 0;
}
#endif
