/* Factors on a pattern, lane by lane: which lanes lose too many digits in the order that all share, against elimination by the book; what
   the others solve, and each lane as a full matrix with pivots of its own. */
#define PN_VBYTES 16
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/simd.h"
#include "solve/pattern.h"
#include "tests/check.h"

enum { SIDE = 12, PADDING = 16, MOST_LANES = 8 };
static double W[MOST_LANES][SIDE][SIDE];
static int n_lost, n_good;

#define PN_TESTED "tests/factors.inl"
#include "tests/instances.inl"

/* Neighbours, some others, and a mass in rows that are shifted. */
static pn_pattern *pattern(int32_t shift, int32_t far) {
    int32_t row[SIDE * SIDE], col[SIDE * SIDE], n = 0;
    unsigned char full[SIDE][SIDE] = {{0}};
    double mass[SIDE * SIDE] = {0};
    for (int32_t c = 0; c < SIDE; c++) {
        mass[(c + shift) % SIDE * SIDE + c] = 1;
        for (int32_t r = c - 1; r <= c + 1; r++)
            if (r >= 0 && r < SIDE) full[(r + shift) % SIDE][c] = 1;
    }
    for (int k = 0; k < far; k++) full[7 * k % SIDE][5 * k % SIDE] = 1;
    for (int32_t r = 0; r < SIDE; r++)
        for (int32_t c = 0; c < SIDE; c++)
            if (full[r][c]) row[n] = r, col[n++] = c;
    pn_pattern *p;
    CHECK(pn_pattern_create(SIDE, n, row, col, mass, said, &p) == PN_OK && p->sparse && (far || p->exchanged == (shift > 0)));
    return p;
}

int main(void) {
    for (int k = 0; k < 4; k++) {
        pn_pattern *p = pattern(k % 2 * 2, k / 2 * 5);
        for (int times = 0; times < 100; times++) {
            factors_f64_single(p, 1e-10), factors_f64_block(p, 1e-10);
            factors_f32_single(p, 2e-2), factors_f32_block(p, 2e-2);
        }
        pn_pattern_destroy(&p);
    }
    CHECKF(n_lost > 500 && n_good > 500, "%d lanes lost, %d good", n_lost, n_good);
    return finish("test_factors");
}
