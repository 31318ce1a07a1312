/* The tests of test_factors.c for one precision and number of lanes. */
#include "instances/generic.h"
#include "kernels/sparse.inl"

/* Whether the factors of W in this order lose too many digits: 1, 0, or -1 where that is hard to say. */
static int FN(loses)(const pn_pattern *p, const T *A, size_t l) {
    double B[SIDE][SIDE] = {{0}}, before[SIDE] = {0};
    int lost = 0, close = 0;
    for (int i = 0; i < SIDE; i++)
        for (int32_t e = p->start[i]; e < p->start[i + 1]; e++) {
            B[i][p->column[e]] = (double)A[(size_t)e * L + l];
            before[i] += fabs(B[i][p->column[e]]);
        }
    for (int i = 0; i < SIDE; i++) {
        double bound = 0;
        for (int k = 0; k < i; k++) {
            const double f = B[i][k] /= B[k][k];
            for (int j = k; j < SIDE; j++) bound += fabs(f * B[k][j]);
            for (int j = k + 1; j < SIDE; j++) B[i][j] -= f * B[k][j];
        }
        for (int j = i; j < SIDE; j++) bound += fabs(B[i][j]);
        lost |= !(bound <= 1e3 * before[i]) || B[i][i] == 0;
        close |= fabs(bound - 1e3 * before[i]) < (sizeof(T) == 4 ? 50 : 1e-3) * before[i];
    }
    return close ? -1 : lost;
}

/* W x = b, or W^T x = b, to rounding. */
static void FN(residual)(size_t l, const T *x, const T *b, int transposed, double tolerance, const char *what) {
    for (size_t i = 0; i < SIDE; i++) {
        double sum = -(double)b[i * L + l], size = 1;
        for (size_t j = 0; j < SIDE; j++) {
            const double term = (transposed ? W[l][j][i] : W[l][i][j]) * (double)x[j * L + l];
            sum += term, size += fabs(term);
        }
        CHECKF(fabs(sum) < tolerance * size, "%s, transposed %d, lane %d: %g of %g", what, transposed, (int)l, sum, size);
    }
}

/* Lanes whose pivots are small in some row, by other factors each, the first in some by 0; and lanes in which all is well. */
static void FN(factors)(const pn_pattern *p, double tolerance) {
    T A[SIDE * SIDE * L + PADDING], size[SIDE * L + PADDING], b[SIDE * L], x[2][SIDE * L + PADDING];
    unsigned char bad[L + 1] = {0};
    FN(whole) whole;
    CHECK(FN(allocate_whole)(&whole, SIDE));
    memset(A, 0, sizeof A), memset(W, 0, sizeof W);
    for (size_t l = 0; l < L; l++) {
        for (int32_t e = 0; e < p->n; e++) {
            const T v = (T)uniform();
            A[(size_t)p->place[e] * L + l] += v, W[l][p->row[e]][p->col[e]] += (double)v;
        }
        const int32_t weak = (int32_t)((1 + uniform()) / 2 * SIDE) % SIDE;
        const double kind = uniform(), by = kind < -0.4 ? 1 : kind < -0.2 ? 0 : pow(10, -4 * (1 + uniform()));
        for (int32_t q = 0; q < p->n_mass; q++) {
            const int32_t r = p->mass[q] / SIDE, c = p->mass[q] % SIDE;
            T *a = &A[(size_t)p->moored[q] * L + l];
            *a = c == p->label[weak] ? (T)(by * (double)*a) : *a + 4;
            W[l][r][c] = (double)*a;
        }
    }
    for (size_t e = 0; e < SIDE * L; e++) x[0][e] = x[1][e] = b[e] = (T)uniform();
    int want[L], some = 0, sure = 1;
    for (size_t l = 0; l < L; l++) want[l] = FN(loses)(p, A, l), sure &= want[l] >= 0, some |= want[l] > 0;
    const int any = FN(sparse_factor)(p, A, size, bad);
    CHECK(any == some || !sure);
    CHECK(bad[L] == 0);
    FN(sparse_solve)(p, A, x[0], size);
    FN(sparse_solve_t)(p, A, x[1], size);
    for (size_t l = 0; l < L; l++) {
        n_lost += bad[l], n_good += !bad[l];
        CHECKF(want[l] < 0 || bad[l] == want[l], "lane %d: lost %d, by the book %d", (int)l, bad[l], want[l]);
        T *full = whole.A + l * SIDE * whole.stride, own[SIDE], alone[SIDE * L];
        memset(full, 0, SIDE * whole.stride * sizeof *full);
        for (size_t i = 0; i < SIDE; i++)
            for (size_t j = 0; j < SIDE; j++) full[i * whole.stride + j] = (T)W[l][i][j];
        FN(whole_factor)(&whole, (int)l, SIDE);
        for (int t = 0; t < 2; t++) {
            if (!bad[l]) FN(residual)(l, x[t], b, t, tolerance, "on the pattern");
            for (size_t i = 0; i < SIDE; i++) own[i] = b[i * L + l];
            FN(whole_solve)(&whole, (int)l, own, SIDE, t);
            for (size_t i = 0; i < SIDE; i++) alone[i * L + l] = own[i];
            FN(residual)(l, alone, b, t, tolerance, "by itself");
        }
    }
    FN(free_whole)(&whole);
}

#include "instances/generic_end.h"
