/* Where an event function first changes its side within a step, on the dense output p (of degree 3 and more: cubic where the
   method has none).

   g(theta) = g_e(t + theta h, p(theta)) is known at equidistant probes, five for p of degree 4 at most, else nine. On a *window*
   of five of them the quartic through them has Bernstein coefficients b_0 .. b_4. Where these have one sign it has no root, where they
   rise or fall throughout it has one at most (Lane & Riesenfeld 1981, BIT 21). The margin

       m = 0.1 max |third differences| + 0.2 max |fourth differences|

   is for what the quartic misses: where g_e is linear in (t, y) and p of degree 7, |g - quartic| <= 0.19 max |fourth differences| (linear
   programs over polynomials of degree 7, nine probes, both windows); up to degree 4 the quartic is g; sin(w theta) stays within it up to
   w = 8 a window. A window of one root at most is decided by its ends. Another is cut into halves, the first of them first, until it is as
   short as PN_WINDOW of the step, or the splits are used up: then its probes decide. */

/* Whether g, probes + 1 rows of L numbers, `stride` apart, stays on its side in every lane that is watched. Else `tense` says in which
   it may not, and `margin` has m. */
static int FN(is_calm)(const T *g, size_t stride, int probes, const T *side, const unsigned char *watched, T *margin,
                       unsigned char *tense) {
    T third[L], fourth[L], before[L], least[L];
    int some = 0;
    for (int l = 0; l < L; l++)
        third[l] = fourth[l] = before[l] = 0, least[l] = side[l] * g[stride * (size_t)probes + (size_t)l];
    for (int k = 3; k <= probes; k++) {
        const T *q = g + stride * (size_t)k;
        for (int l = 0; l < L; l++) {
            T d3 = q[l] - q[l - (ptrdiff_t)(3 * stride)] - 3 * (q[l - (ptrdiff_t)stride] - q[l - (ptrdiff_t)(2 * stride)]),
              a = d3 < 0 ? -d3 : d3;
            T d4 = k > 3 ? d3 - before[l] : 0, b = d4 < 0 ? -d4 : d4;
            third[l] = a > third[l] ? a : third[l];
            fourth[l] = b > fourth[l] ? b : fourth[l];
            before[l] = d3;
        }
    }
    for (int k = 0; k < probes; k += 4) {
        const T *q0 = g + stride * (size_t)k, *q1 = q0 + stride, *q2 = q1 + stride, *q3 = q2 + stride, *q4 = q3 + stride;
        for (int l = 0; l < L; l++) {
            T outer = -3 * (q0[l] + q4[l]), low = (48 * q1[l] + 16 * q3[l] - 36 * q2[l] - 10 * q0[l] + outer) / 12;
            T high = (16 * q1[l] + 48 * q3[l] - 36 * q2[l] - 10 * q4[l] + outer) / 12;
            T mid = (13 * (q0[l] + q4[l]) - 64 * (q1[l] + q3[l]) + 120 * q2[l]) / 18;
            least[l] = side[l] * low < least[l] ? side[l] * low : least[l];
            least[l] = side[l] * mid < least[l] ? side[l] * mid : least[l];
            least[l] = side[l] * high < least[l] ? side[l] * high : least[l];
            if (k + 4 < probes) least[l] = side[l] * q4[l] < least[l] ? side[l] * q4[l] : least[l];
        }
    }
    for (int l = 0; l < L; l++) {
        margin[l] = (T)0.1 * third[l] + (T)0.2 * fourth[l];
        tense[l] = (unsigned char)(watched[l] & !(least[l] > margin[l]));
        some |= tense[l];
    }
    return !some;
}
