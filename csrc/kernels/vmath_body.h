/* The functions of vmath.h for one precision; vmath.h reads this file twice, with FN, REAL, VF, VI, VU and K set.

   LN2_HI + LN2_LO = log 2, the first short enough that k LN2_HI is exact for every k met. Adding ROUND = 1.5 2^MANT
   rounds to the nearest integer and leaves that integer in the low bits; so does SHIFT, for `scale`. */

#define VE (PN_VBYTES / sizeof(REAL))
#define MANT K(52, 23) /* bits of the mantissa */
#define ROUND K(0x1.8p52, 0x1.8p23f)
#define SHIFT K(PN_SHIFT64, PN_SHIFT32)
#define EXP_SHIFT K(PN_EXP_SHIFT64, PN_SHIFT32)
#define ONE K(0x3ff0000000000000u, 0x3f800000u) /* bits of 1 */
#define LOG2E K(0x1.71547652b82fep+0, 0x1.715476p+0f)
#define LN2 K(0x1.62e42fefa39efp-1, 0x1.62e430p-1f)
#define LN2_HI K(0x1.62e42fefap-1, 0x1.62e4p-1f) /* 37 and 15 bits */
#define LN2_LO K(0x1.cf79abc9e3b3ap-40, 0x1.7f7d1cp-20f)

/* How many elements of those that are left go into one pass. */
static inline size_t FN(pass)(size_t left) { return left < PN_PASS / sizeof(REAL) ? left : PN_PASS / sizeof(REAL); }

/* c0 + c1 z + ... + c(n-1) z^(n-1) = (c0 + c1 z) + (c2 + c3 z) z^2 + ..., by Horner in z^2: half the latency. */
PN_VFN VF FN(poly)(VF z, const REAL *c, int n) {
    VF w = z * z, s = n % 2 ? FN(set1)(c[n - 1]) : z * c[n - 1] + c[n - 2];
    for (int i = (n - 1) / 2 * 2 - 2; i >= 0; i -= 2) s = s * w + (z * c[i + 1] + c[i]);
    return s;
}

/* 2^k for integral k, -126 <= k <= 127 (double: -1022 to 1023). */
PN_VFN VF FN(pow2)(VF k) { return (VF)(((VU)(k + ROUND) << MANT) + ONE); }

/* The magnitude of a with the sign of x. */
PN_VFN VF FN(signed)(VF a, VF x) { return (VF)((VU)a | FN(sign)(x)); }

/* 2^k e^r for n = k + EXP_SHIFT, which rounds: k integral and |r| <= ln2/2, or k a multiple of 1/16 and |r| <= ln2/32, the
   fraction of k taken from a table. */
PN_VFN VF FN(exp_of)(VF n, VF k, VF r) {
#if PN_LOOKUP && PN_BITS == 64
    VF t = FN(lookup16)(FN(load)(pn_exp16), FN(load)(pn_exp16 + 8), (VU)n);
    VF p = r + r * r * POLY(r, pn_exp16_c64);
    return FN(scale)(t + t * p, k, n);
#else
    return FN(scale)((REAL)1 + (r + r * r * POLY(r, K(pn_exp_c64, pn_exp_c32))), k, n);
#endif
}

/* e^x = 2^k e^r, r = x - k log 2. The clamps are past overflow and past the last denormal. */
PN_VFN VF FN(exp)(VF x) {
    x = FN(atleast)(FN(atmost)(x, FN(set1)(K(710.0, 89.0f))), FN(set1)(K(-746.0, -104.0f)));
    VF n = x * LOG2E + EXP_SHIFT, k = n - EXP_SHIFT;
    return FN(exp_of)(n, k, (x - k * LN2_HI) - k * LN2_LO);
}

/* e^-|x|, closer by what the table rounds. */
PN_VFN VF FN(exp_below)(VF x) {
    VF y = FN(atleast)(-FN(abs)(x), FN(set1)(K(-746.0, -104.0f)));
    VF n = y * LOG2E + EXP_SHIFT, k = n - EXP_SHIFT, r = (y - k * LN2_HI) - k * LN2_LO;
#if PN_LOOKUP && PN_BITS == 64
    r += FN(lookup16)(FN(load)(pn_exp16_rest), FN(load)(pn_exp16_rest + 8), (VU)n);
#endif
    return FN(exp_of)(n, k, r);
}

/* e^x - 1 = 2^k (p + (1 - 2^-k)), p = e^r - 1; 1 - 2^-k is exact or rounds to what rules the sum. */
PN_VFN VF FN(expm1)(VF x) {
    VF y = FN(atleast)(FN(atmost)(x, FN(set1)(K(710.0, 89.0f))), FN(set1)(K(-40.0, -20.0f)));
    VF n = y * LOG2E + SHIFT, k = n - SHIFT, r = (y - k * LN2_HI) - k * LN2_LO;
    VF p = r + r * r * POLY(r, K(pn_exp_c64, pn_exp_c32));
    VF one = FN(set1)(1);
    return FN(signed)(FN(scale)(p + (one - FN(scale)(one, -k, SHIFT - k)), k, n), x);
}

/* tanh|x| with e^(2|x|) = s e^(2r), s = 2^k, T = tanh r:
     tanh|x| = (s e^(2r) - 1) / (s e^(2r) + 1) = N / (N + 2 (1 - T)), N = s - 1 + (s + 1) T,
   so that an error of N acts on both sides. k is rounded to the nearest from 1/4 below, -ln2/8 <= r <= 3/8 ln2: where
   s - 1 appears N is then well above the rounding of r. Past the clamp tanh rounds to 1. */
PN_VFN VF FN(tanh)(VF x) {
    VF a = FN(atmost)(FN(abs)(x), FN(set1)(K(20.0, 10.0f)));
    VF n = (a * (2 * LOG2E) - (REAL)0.25) + ROUND, r = a - (n - ROUND) * (LN2 / 2), z = r * r;
    VF s = (VF)(((VU)n << MANT) + ONE), t = r + r * z * POLY(z, K(pn_tanh_c64, pn_tanh_c32));
    VF N = (s + (REAL)1) * t + (s - (REAL)1);
    return FN(signed)(N / (N + ((REAL)2 - (REAL)2 * t)), x);
}

/* 1 / (1 + e^-x) with e^-x = s (1 + p), s = 2^k, p = e^r - 1: 1 / (c + s p + l), c + l = 1 + s, where l serves the
   largest s beside which 1 still counts. What k has above its limit is multiplied in last. The clamps are past the
   last denormal and where the result rounds to 1. */
PN_VFN VF FN(sigmoid)(VF x) {
    VF y = -FN(atleast)(FN(atmost)(x, FN(set1)(K(40.0, 20.0f))), FN(set1)(K(-746.0, -104.0f)));
    VF k = (y * LOG2E + ROUND) - ROUND, r = (y - k * LN2_HI) - k * LN2_LO;
    VF p = r + r * r * POLY(r, K(pn_exp_c64, pn_exp_c32));
    VF j = FN(atmost)(k, FN(set1)(K(1000.0, 100.0f))), s = FN(pow2)(j);
    VF c = s + (REAL)1, l = (REAL)1 - (c - s);
    return (REAL)1 / (c + (s * p + l)) * FN(pow2)(j - k);
}

/* log(2^k (1 + f)) for sqrt(1/2) <= 1 + f < sqrt(2): with s = f / (2 + f), log(1 + f) = 2 atanh s = 2 s + s R, and
   2 s = f - s f, s f = f^2/2 - s f^2/2, so log(1 + f) = f - (f^2/2 - s (f^2/2 + R)): f is exact and the rest small. */
PN_VFN VF FN(log_of)(VF k, VF f) {
    VF s = f / ((REAL)2 + f), z = s * s, h = (REAL)0.5 * f * f;
    VF R = z * POLY(z, K(pn_log_c64, pn_log_c32));
    return k * LN2_HI - ((h - (s * (h + R) + k * LN2_LO)) - f);
}

/* x = 2^k m, sqrt(1/2) <= m < sqrt(2), for positive normal x: gives m, k and the biased exponent e of 2^k. */
PN_VFN VF FN(split)(VF x, VF *k, VU *e) {
    const VU half = (VU)FN(set1)(K(0x1.6a09e667f3bcdp-1, 0x1.6a09e6p-1f)), one = (VU)FN(set1)(1);
    VU u = (VU)x + (one - half);
    VF two = FN(set1)(K(0x1p52, 0x1p23f));
    *e = u >> MANT;
    *k = (VF)(*e | (VU)two) - (two + K(1023.0, 127.0f));
    return (VF)((u & ((K((uint64_t)1, (uint32_t)1) << MANT) - 1u)) + half);
}

/* The same for any positive x, denormals too. */
PN_VFN VF FN(split_any)(VF x, VF *k) {
    VI tiny = (VI)(x < K(0x1p-1022, 0x1p-126f));
    VU e;
    VF m = FN(split)(FN(sel)(tiny, x * K(0x1p54, 0x1p25f), x), k, &e);
    *k -= (VF)((VU)tiny & (VU)FN(set1)(K(54.0, 25.0f)));
    return m;
}

PN_VFN VF FN(log)(VF x) {
    const VF inf = FN(set1)(K(HUGE_VAL, HUGE_VALF));
    VF k, m = FN(split_any)(x, &k);
    VF pole = FN(sel)((VI)(x == (REAL)0), -inf, FN(set1)(NAN));
    return FN(sel)((VI)(x > (REAL)0) & (VI)(x < inf), FN(log_of)(k, m - (REAL)1), FN(sel)((VI)(x > (REAL)0), x, pole));
}

/* log(1 + x) for -1 < x < inf: 1 + x = u + c exactly (Knuth's two-sum), u = 2^k m, f = (m - 1) + c 2^-k.
   2^-k is 0 where it is out of range: c is 0 there too. */
PN_VFN VF FN(log1p_in)(VF x) {
    VF u = x + (REAL)1, b = u - (REAL)1, c = ((REAL)1 - (u - b)) + (x - b), k;
    VU e;
    VF m = FN(split)(u, &k, &e);
    VU n = K(2046u, 254u) - e;
    n &= (VU)((VI)n > 0);
    return FN(log_of)(k, (m - (REAL)1) + c * (VF)(n << MANT));
}

PN_VFN VF FN(log1p)(VF x) {
    const VF inf = FN(set1)(K(HUGE_VAL, HUGE_VALF));
    VF pole = FN(sel)((VI)(x == (REAL)-1), -inf, FN(set1)(NAN));
    VF r = FN(sel)((VI)(x > (REAL)-1) & (VI)(x < inf), FN(log1p_in)(x), FN(sel)((VI)(x > (REAL)0), x, pole));
    return FN(signed)(r, x);
}

/* o = log(1 + e^a) = max(a, 0) + log(1 + t), t = e^-|a| <= 1: with s = t / (2 + t) <= 1/3 as in log_of, without its k. */
PN_ROWS void FN(softplus_rows)(REAL *o, const REAL *a, size_t count) {
    REAL part[PN_PASS / sizeof(REAL)];
    for (size_t done = 0, n; done < count; done += n) {
        n = FN(pass)(count - done);
        for (size_t i = 0; i < n; i += VE) FN(store)(part + i, FN(exp_below)(FN(load)(a + done + i)));
        for (size_t i = 0; i < n; i += VE) {
            VF t = FN(load)(part + i), s = t / ((REAL)2 + t), z = s * s, h = (REAL)0.5 * t * t;
            VF R = z * POLY(z, K(pn_softplus_c64, pn_softplus_c32));
            FN(store)(o + done + i, t + (FN(atleast)(FN(load)(a + done + i), FN(set1)(0)) - (h - s * (h + R))));
        }
    }
}

/* Whether |x|^y is all that there is to x^y in every lane. */
PN_VFN int FN(pow_plain)(VF x, VF y) {
    const REAL inf = K(HUGE_VAL, HUGE_VALF);
    return !FN(any)(~((VI)(x > (REAL)0) & (VI)(x < inf) & (VI)(FN(abs)(y) < inf)));
}

/* x^y as C has it, where r is |x|^y if x is finite and not 0. */
PN_VFN VF FN(pow_edges)(VF x, VF y, VF r) {
    const VF inf = FN(set1)(K(HUGE_VAL, HUGE_VALF)), zero = FN(set1)(0), one = FN(set1)(1);
    const REAL whole_from = K(0x1p52, 0x1p23f);
    VF a = FN(abs)(x), b = FN(abs)(y), to_ones = FN(sel)((VI)(b < whole_from), zero + whole_from, zero), w = b + to_ones;
    VI whole = (VI)(w - to_ones == b), small = (VI)(b < 2 * whole_from), edge = (VI)(a == zero) | (VI)(a == inf);
    VU minus = FN(sign)(x) & ((VU)w << (PN_BITS - 1)) & (VU)(whole & small);
    r = FN(sel)(edge & (VI)(y == y), FN(sel)((VI)(a == zero) ^ (VI)(y < zero), zero, inf), r);
    r = FN(sel)((VI)(a != a), x, r);
    r = FN(sel)((VI)(x < zero) & (VI)(a < inf) & ~whole, FN(set1)(NAN), r);
    return FN(sel)((VI)(y == zero) | (VI)(x == one) | ((VI)(a == one) & (VI)(b == inf)), one, (VF)((VU)r | minus));
}

/* erf|x| = |x| + |x| P(x^2) up to 1, then 1 - e^-Q(|x| - 1), Q = -log(1 - erf); past the clamp erf rounds to 1. */
PN_VFN VF FN(erf)(VF x) {
    VF a = FN(atmost)(FN(abs)(x), FN(set1)(K(5.95, 3.95f))), z = a * a;
    VF small = a + a * POLY(z, K(pn_erf_c64, pn_erf_c32));
    VF large = (REAL)1 - FN(exp)(-POLY(a - (REAL)1, K(pn_erfc_c64, pn_erfc_c32)));
    return FN(signed)(FN(sel)((VI)(a < (REAL)1), small, large), x);
}

#undef PN_BITS
#undef VE
#undef FN
#undef REAL
#undef VF
#undef VI
#undef VU
#undef K
#undef MANT
#undef ROUND
#undef SHIFT
#undef EXP_SHIFT
#undef ONE
#undef LOG2E
#undef LN2
#undef LN2_HI
#undef LN2_LO
