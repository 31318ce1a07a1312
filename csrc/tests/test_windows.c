/* Where a function of which probes are known first changes its side: Bernstein coefficients against linear equations for them, margins,
   hunts for roots that are known. */
#define PN_VBYTES 16
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "events/hunt.inl"
#include "kernels/simd.h"
#include "tests/check.h"

/* The Bernstein coefficients b of the polynomial of degree 4 with values g at 0, 1/4, .. 1, by elimination. */
static void coefficients(const double *g, double *b) {
    static const double choose[] = {1, 4, 6, 4, 1};
    double A[5][6];
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 5; k++) A[i][k] = choose[k] * pow(0.25 * i, k) * pow(1 - 0.25 * i, 4 - k);
        A[i][5] = g[i];
    }
    for (int k = 0; k < 5; k++)
        for (int i = 0; i < 5; i++) {
            const double f = i == k ? 0 : A[i][k] / A[k][k];
            for (int j = k; j < 6; j++) A[i][j] -= f * A[k][j];
        }
    for (int k = 0; k < 5; k++) b[k] = A[k][5] / A[k][k];
}

#define PN_TESTED "tests/windows.inl"
#include "tests/instances.inl"

int main(void) {
    all_f64_single(), all_f64_block(), all_f32_single(), all_f32_block();
    return finish("test_windows");
}
