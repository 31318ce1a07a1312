/* Built-in losses: sum over observed entries of weight rho(y - target), and the cotangents of saved values. */

static double FN(rho)(const pn_problem *P, double r, double *slope) {
    double s = P->loss_scale, a = fabs(r), nu = P->loss_dof;
    switch (P->loss) {
    case PN_LOSS_SQUARED: *slope = 2 * r; return r * r;
    case PN_LOSS_ABSOLUTE: *slope = r > 0 ? 1 : r < 0 ? -1 : 0; return a;
    case PN_LOSS_HUBER: *slope = a <= s ? r : r > 0 ? s : -s; return a <= s ? 0.5 * r * r : s * (a - 0.5 * s);
    case PN_LOSS_STUDENT: *slope = (nu + 1) * r / (nu * s * s + r * r); return 0.5 * (nu + 1) * log1p(r * r / (nu * s * s));
    default: *slope = 0; return 0;
    }
}

/* cotangent of the saved value (row, c) */
static inline double FN(cotangent)(const FN(work) * W, int64_t row, int32_t c) {
    const pn_problem *P = W->P;
    size_t at = (size_t)row * (size_t)P->d + (size_t)c;
    if (P->loss == PN_LOSS_PROGRAM) return (double)W->g_rows[at - (size_t)W->first_row * (size_t)P->d];
    if (P->g_y) return (double)((const T *)P->g_y)[at];
    double target = (double)((const T *)P->target)[at], slope, w = P->weight ? (double)((const T *)P->weight)[at] : 1;
    if (target != target || w == 0) return 0;
    if (P->loss == PN_LOSS_SQUARED) return w * 2 * ((double)((const T *)P->y)[at] - target);
    FN(rho)(P, (double)((const T *)P->y)[at] - target, &slope);
    return w * slope;
}

/* to[c * stride] = those of the row, or 0 (row -1) */
static inline void FN(cotangents)(const FN(work) * W, int64_t row, T *to, size_t stride) {
    const pn_problem *P = W->P;
    size_t d = (size_t)W->d, at = (size_t)row * d;
    if (row < 0)
        for (size_t c = 0; c < d; c++) to[c * stride] = 0;
    else if (P->loss == PN_LOSS_PROGRAM || P->g_y) {
        const T *from = P->g_y ? (const T *)P->g_y + at : W->g_rows + at - (size_t)W->first_row * d;
        for (size_t c = 0; c < d; c++) to[c * stride] = from[c];
    } else
        for (size_t c = 0; c < d; c++) to[c * stride] = (T)FN(cotangent)(W, row, (int32_t)c);
}

/* sum[k] += w rho(y - target), weight[k] += w for n values from number `at` on; one without target counts nothing. */
enum { FN(SUMS) = 8 };
static inline __attribute__((always_inline)) void FN(add_loss)(const pn_problem *P, size_t at, size_t n, double *sum, double *weight) {
    const T *y = (const T *)P->y + at, *target = (const T *)P->target + at, *given = P->weight ? (const T *)P->weight + at : NULL;
    double r[FN(SUMS)], w[FN(SUMS)], slope;
    for (size_t k = 0; k < n; k++) {
        w[k] = target[k] == target[k] ? (given ? (double)given[k] : 1) : 0;
        r[k] = w[k] != 0 ? (double)y[k] - (double)target[k] : 0;
    }
    if (P->loss == PN_LOSS_SQUARED)
        for (size_t k = 0; k < n; k++) r[k] *= r[k];
    else
        for (size_t k = 0; k < n; k++) r[k] = w[k] != 0 ? FN(rho)(P, r[k], &slope) : 0;
    for (size_t k = 0; k < n; k++) sum[k] += w[k] * r[k], weight[k] += w[k];
}

static void FN(sample_loss)(const pn_problem *P, int64_t i) {
    double sum[FN(SUMS)] = {0}, weight[FN(SUMS)] = {0};
    size_t at = (size_t)P->row[i] * (size_t)P->d, end = at + (size_t)P->t_len[i] * (size_t)P->d;
    for (; at + FN(SUMS) <= end; at += FN(SUMS)) FN(add_loss)(P, at, FN(SUMS), sum, weight);
    FN(add_loss)(P, at, end - at, sum, weight);
    P->sample_loss[i] = P->sample_weight[i] = 0;
    for (size_t k = 0; k < FN(SUMS); k++) P->sample_loss[i] += sum[k], P->sample_weight[i] += weight[k];
}
