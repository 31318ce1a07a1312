/* Cotangents of the values that are saved. */

/* cotangent of the saved value (row, c) */
static inline double FN(cotangent)(const FN(work) * W, int64_t row, int32_t c) {
    const pn_problem *P = W->P;
    size_t at = (size_t)row * (size_t)P->d + (size_t)c;
    if (P->loss == PN_LOSS_PROGRAM) return (double)W->g_rows[at - (size_t)W->first_row * (size_t)P->d];
    if (P->g_y) return (double)((const T *)P->g_y)[at];
    double target = (double)((const T *)P->target)[at], slope, w = P->weight ? (double)((const T *)P->weight)[at] : 1;
    if (target != target || w == 0) return 0;
    if (P->loss == PN_LOSS_SQUARED) return w * 2 * ((double)((const T *)P->y)[at] - target);
    V(rho)(P, (double)((const T *)P->y)[at] - target, &slope);
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
