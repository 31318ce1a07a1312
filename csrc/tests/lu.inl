/* The tests of test_lu.c for one precision and number of lanes. */
#include "instances/generic.h"
#include "kernels/lu.inl"

/* Matrices of which those of the lanes in `weak` (bits) have small pivots, by a factor that asks for an exchange. */
static void FN(system)(int32_t d, unsigned weak, double tolerance) {
    T A[EQUATIONS * EQUATIONS * L + PADDING], LU[EQUATIONS * EQUATIONS * L + PADDING], b[EQUATIONS * L];
    T swaps[(EQUATIONS + 1) * L + PADDING] = {0},
                                  results[2][(EQUATIONS + 1) * L + PADDING] = {{0}}; /* a row before is not theirs */
    T *swap = swaps + L, *x[2] = {results[0] + L, results[1] + L};
    unsigned char moves[EQUATIONS + 2], *moved = moves + 1;
    size_t lanes = L, n = (size_t)d;
    memset(moves, 1, sizeof moves);
    for (size_t e = 0; e < n * n * lanes; e++) A[e] = (T)uniform();
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < lanes; l++) A[(i * n + i) * lanes + l] = (T)(weak >> l & 1 ? 0.01 : 3 + 0.1 * (double)i);
    memcpy(LU, A, sizeof A);
    for (size_t e = 0; e < n * lanes; e++) x[0][e] = x[1][e] = b[e] = (T)uniform();
    FN(factor)(LU, swap, moved, d);
    FN(lu_solve)(LU, swap, moved, x[0], d);
    FN(lu_solve_t)(LU, swap, moved, x[1], d);
    for (int t = 0; t < 2; t++)
        for (size_t i = 0; i < n; i++)
            for (size_t l = 0; l < lanes; l++) {
                double sum = -(double)b[i * lanes + l], size = 1;
                for (size_t j = 0; j < n; j++) {
                    double term = (double)A[(t ? j * n + i : i * n + j) * lanes + l] * (double)x[t][j * lanes + l];
                    sum += term, size += fabs(term);
                }
                CHECKF(fabs(sum) < tolerance * size, "%d equations, transposed %d, %d lanes: %g in lane %d", (int)d, t,
                       (int)lanes, sum, (int)l);
            }
}

static void FN(systems)(double tolerance) {
    for (int32_t d = 1; d <= EQUATIONS; d++)
        for (int times = 0; times < 5; times++) {
            FN(system)(d, 0, tolerance);
            FN(system)(d, ~0u, tolerance);
            FN(system)(d, 5, tolerance);
        }
    T A[4 * L + PADDING], swap[2 * L + PADDING], b[2 * L + PADDING]; /* singular: no lane has a number */
    unsigned char moved[2];
    for (size_t l = 0; l < L; l++) A[l] = A[2 * L + l] = 1, A[L + l] = A[3 * L + l] = 2, b[l] = 1, b[L + l] = 3;
    FN(factor)(A, swap, moved, 2);
    FN(lu_solve)(A, swap, moved, b, 2);
    for (size_t l = 0; l < L; l++) CHECK(!isfinite((double)b[L + l]));
    T ones[EQUATIONS * EQUATIONS * L + PADDING], swaps[EQUATIONS * L + PADDING], x[EQUATIONS * L + PADDING];
    unsigned char moves[EQUATIONS];
    for (size_t e = 0; e < EQUATIONS * EQUATIONS * L; e++) ones[e] = 1;
    for (size_t e = 0; e < EQUATIONS * L; e++) x[e] = (T)e;
    FN(factor)(ones, swaps, moves, EQUATIONS);
    FN(lu_solve)(ones, swaps, moves, x, EQUATIONS);
    for (size_t l = 0; l < L; l++) CHECK(!isfinite((double)x[(EQUATIONS - 1) * L + l]));
}

#include "instances/generic_end.h"
