/* Matrix products that add to gradients, over S samples: g[i n + j] += sum_s a_i(s) b_j(s). Of b, 2 VE columns lie side by side in a panel
   (S, 2 VE), so that sums stand in their order in vectors and need no addition across a vector. */
enum { FN(COLUMNS) = 2 * VE };

/* g[i n + j] += sum_s A_i(s) panel[s][j], R rows */
static inline __attribute__((always_inline)) void FN(product_tile)(const int R, const T *A, size_t stride, int n_files, const T *panel, int32_t columns,
                                                                   double *g, size_t n) {
    vec acc[8][2];
    for (int k = 0; k < R; k++) acc[k][0] = acc[k][1] = V(set1)((T)0);
    for (int f = 0; f < n_files; f++)
        for (size_t s = 0; s < L; s++, panel += FN(COLUMNS)) {
            const T *a = A + (size_t)f * stride + s;
            vec b0 = V(load)(panel), b1 = V(load)(panel + VE);
#pragma GCC unroll 8
            for (int k = 0; k < R; k++) {
                vec ak = V(set1)(a[(size_t)k * L]);
                acc[k][0] += ak * b0;
                acc[k][1] += ak * b1;
            }
        }
    for (int k = 0; k < R; k++) {
        T sum[FN(COLUMNS)];
        V(store)(sum, acc[k][0]);
        V(store)(sum + VE, acc[k][1]);
        if (columns == FN(COLUMNS))
            for (int j = 0; j < FN(COLUMNS); j++) g[(size_t)k * n + (size_t)j] += (double)sum[j];
        else
            for (int j = 0; j < columns; j++) g[(size_t)k * n + (size_t)j] += (double)sum[j];
    }
}

/* r = MR, 4, 2 or 1 of the `left` rows that are left */
static inline int32_t FN(product_rows)(int32_t left, const T *A, size_t stride, int n_files, const T *panel, int32_t columns, double *g,
                                       size_t n) {
    if (left >= MR) return FN(product_tile)(MR, A, stride, n_files, panel, columns, g, n), MR;
    if (left >= 4) return FN(product_tile)(4, A, stride, n_files, panel, columns, g, n), 4;
    if (left >= 2) return FN(product_tile)(2, A, stride, n_files, panel, columns, g, n), 2;
    return FN(product_tile)(1, A, stride, n_files, panel, columns, g, n), 1;
}
