/* Sparse matrices of constants. */
#include <stdlib.h>

#include "program/layout.h"

enum { SMALL = 64 }; /* entries of a matrix that is not worth it */

int pn_is_sparse(const double *x, int64_t m, int64_t n) {
    int64_t some = 0, most = m * n / 4;
    if (m * n < SMALL) return 0;
    for (int64_t i = 0; i < m * n && some <= most; i++) some += x[i] != 0;
    return some <= most;
}

pn_status pn_sparse_make(const double *consts, pn_sparse *out) {
    const double *x = consts + out->p;
    const size_t m = (size_t)out->m, n = (size_t)out->n;
    const size_t next_row = out->transposed ? 1 : n, next = out->transposed ? m : 1; /* row and column of *out in x */
    size_t some = 0;
    int32_t at = 0;
    for (size_t i = 0; i < m * n; i++) some += x[i] != 0;
    out->value = malloc(some * (sizeof *out->value + sizeof *out->column) + (m + 1) * sizeof *out->start);
    if (!out->value) return PN_MEMORY;
    out->column = (void *)(out->value + some);
    out->start = out->column + some;
    for (size_t i = 0; i < m; i++) {
        out->start[i] = at;
        for (size_t j = 0; j < n; j++) {
            double value = x[i * next_row + j * next];
            if (value == 0) continue;
            out->column[at] = (int32_t)j;
            out->value[at++] = value;
        }
    }
    out->start[m] = at;
    return PN_OK;
}
