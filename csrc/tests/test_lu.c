/* Factors of matrices, and systems of equations: one lane and blocks, both precisions, few equations and many, with and without
   exchanges of rows that differ between lanes; singular matrices. */
#define PN_VBYTES 16
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/simd.h"
#include "tests/check.h"

enum { EQUATIONS = 27, PADDING = 16 }; /* what lies behind an array, as in a solve */

#define PN_TESTED "tests/lu.inl"
#include "tests/instances.inl"

int main(void) {
    systems_f64_single(1e-11);
    systems_f64_block(1e-11);
    systems_f32_single(2e-3);
    systems_f32_block(2e-3);
    return finish("test_lu");
}
