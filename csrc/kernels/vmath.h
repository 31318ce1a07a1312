/* Elementary functions on whole vectors (simd.h), in double (v_exp_f64) and float (v_exp_f32): exp, expm1, log, log1p, tanh,
   sigmoid, sin, cos, erf; and on arrays (v_pow_rows_f64): softplus, pow.

   Each is within 2 ulp of the exact result over the whole range, is exact at 0, treats NaN, infinities, overflow and
   denormal results as IEEE 754 and C ask, and an odd function is odd to the last bit. A lane's result depends on that
   lane alone. The largest errors met by tests/test_vmath.c in ulp, over all widths, double and float (softplus in float: of
   all floats):
     exp 1.13, 0.95   expm1 1.89, 1.46     log 0.84, 0.80       log1p 1.39, 1.35   tanh 1.83, 1.71   pow 1.30, 0.50
     erf 1.15, 1.17   sigmoid 1.72, 1.63   softplus 1.89, 1.96  sin 0.79, 0.57     cos 0.79, 0.57

   The equations stand in vmath_body.h, read once for each precision; the tables below are their coefficients. Each is
   the polynomial of least maximal relative error on its interval (Remez exchange in 50 digits, then rounded): the
   interval and that error are noted. Compile with -ffp-contract=fast where there is FMA; never with -ffast-math. */
#ifndef PN_VMATH_H
#define PN_VMATH_H

#include <math.h>

#include "kernels/simd.h"

/* (e^r - 1 - r) / r^2 in r; the error is that of e^r - 1. |r| <= ln2/2, and ln2/32 for the look-up form. */
static const double pn_exp_c64[] = {/* 2^-61.7 */
                                    0.5,
                                    0.16666666666666677,
                                    0.041666666666666505,
                                    0.008333333333321608,
                                    0.0013888888888962906,
                                    0.00019841269886207772,
                                    2.4801587171833763e-05,
                                    2.755724410433858e-06,
                                    2.7557402947651567e-07,
                                    2.5109081355739706e-08,
                                    2.0875326490686394e-09};
static const float pn_exp_c32[] = {/* 2^-31.9 */
                                   0.5f, 0.1666666567f, 0.04166635871f, 0.008333389647f, 0.001394071965f, 0.0001984588598f};
static const double pn_exp16_c64[] = {/* 2^-50.2, so 2^-55.7 of e^r */
                                      0.4999999999999989, 0.16666666664777544, 0.04166666667484412, 0.008333463207630856,
                                      0.0013888863836671239};

/* (tanh r - r) / r^3 in r^2; the error is that of tanh r. |r| <= 3/8 ln2. */
static const double pn_tanh_c64[] = {/* 2^-56.9 */
                                     -0.33333333333332416,  0.13333333332987046,   -0.05396825352492164,  0.021869461599064104,
                                     -0.008862358427262152, 0.0035763664942005256, -0.0013074641848078543};
static const float pn_tanh_c32[] = {/* 2^-27.9 */
                                    -0.3333321512f, 0.1332273334f, -0.05123003945f};

/* (2 atanh s - 2 s) / s^3 in s^2; the error is that of 2 atanh s. |s| <= (sqrt2 - 1) / (sqrt2 + 1). */
static const double pn_log_c64[] = {/* 2^-59.5 */
                                    0.6666666666666735, 0.3999999999940749, 0.2857142874414164, 0.222221983784595,
                                    0.181835751660592,  0.1531375575272119, 0.1479906610797947};
static const float pn_log_c32[] = {/* 2^-30.2 */
                                   0.6666677594f, 0.3997744918f, 0.2987442017f};

/* The same where |s| <= 1/3. */
static const double pn_softplus_c64[] = {/* 2^-59.4 */
                                         0.6666666666666631,  0.40000000000155117, 0.2857142854811797,  0.22222223953647474,
                                         0.1818174447904412,  0.15386548393576202, 0.13301121360879997, 0.12104945113763126,
                                         0.08344970267462906, 0.1700975951061163};
static const float pn_softplus_c32[] = {/* 2^-33.1 */
                                        0.666666755f, 0.3999888836f, 0.2861659671f, 0.2143074099f, 0.2428955748f};

/* (sin r - r) / r^3 and (cos r - 1 + r^2/2) / r^4 in r^2; |r| <= pi/4. The short ones serve float, in double. */
static const double pn_sin_c64[] = {/* 2^-57.9 */
                                    -0.1666666666666663,    0.008333333333322005, -0.00019841269829495514,
                                    2.7557313587626775e-06, -2.5050742309241e-08, 1.5895904827401992e-10};
static const double pn_cos_c64[] = {/* 2^-63.9 */
                                    0.041666666666666595,    -0.0013888888888872895, 2.4801587288748247e-05,
                                    -2.7557314148641866e-07, 2.0875696575131987e-09, -1.135831062384349e-11};
static const double pn_sin_c32[] = {/* 2^-28.0 */
                                    -0.16666654536671396, 0.008332156056683677, -0.0001951463228713462};
static const double pn_cos_c32[] = {/* 2^-33.0 */
                                    0.04166664555453622, -0.00138873098698565, 2.443241335421082e-05};

/* erf(x) / x - 1 in x^2; |x| <= 1. */
static const double pn_erf_c64[] = {
    /* 2^-62.7 */
    0.1283791670955126,     -0.3761263890318375,     0.11283791670954857,     -0.026866170645072896,  0.005223977624780875,
    -0.0008548326978742595, 0.00012055331036911085,  -1.4925593507102268e-05, 1.6460972819481492e-06, -1.6350025239598178e-07,
    1.4657879901296016e-08, -1.1365666000861305e-09, 5.945261529824205e-11};
static const float pn_erf_c32[] = {/* 2^-29.6 */
                                   0.1283791661f,   -0.3761262596f,    0.1128358543f,  -0.026853811f,
                                   0.005188327748f, -0.0008010193706f, 7.853860734e-5f};
/* -log(1 - erf x) in x - 1; the error is that of erf x. 1 <= x <= 5.95, and 3.95 for float. */
static const double pn_erfc_c64[] = {
    /* 2^-57.1 */
    1.8496055099332482,     2.6389675142347757,      0.8431072563594129,      0.041561098025077334,   -0.010033825179108675,
    0.001977901215831983,   -0.00023731643531054589, -2.6296324510314498e-05, 2.7198966749734515e-05, -9.671367642369555e-06,
    2.1319297403662123e-06, -2.048041904521e-07,     -5.801585596058607e-08,  3.339293066470179e-08,  -8.5192282933487e-09,
    1.3191850384981249e-09, -1.1933463700301972e-10, 4.865438534855849e-12};
static const float pn_erfc_c32[] = {/* 2^-29.8 */
                                    1.84960556f,      2.638966799f,    0.84311831f,      0.0415006876f,
                                    -0.009890891612f, 0.001826163149f, -0.0001855739538f};

#define PN_EXP_SHIFT64 (PN_LOOKUP ? 0x1.8p48 : PN_SHIFT64) /* rounds to the multiples of 1/16 or of 1 */
#if PN_LOOKUP
/* 2^(j/16), j = 0..15, and what is left of it, relative. */
static const double pn_exp16[16] = {0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
                                    0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
                                    0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
                                    0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0};
static const double pn_exp16_rest[16] = {0,          8.1893e-17, -2.7939e-17, 7.8266e-17,  3.3485e-17, 3.7508e-17,
                                         1.9573e-17, 5.6865e-17, -6.8358e-17, -2.3591e-17, 5.1548e-17, 1.5341e-17,
                                         4.8752e-17, 1.6855e-17, 1.7901e-17,  -5.5451e-17};
#endif

/* Functions whose chain of operations is so long that the processor sees no second one behind it (v_name_rows) go over PN_PASS bytes
   at a time in two passes, from an array to an array, which may be the same: `count` elements rounded up to vectors. */
#define PN_PASS 2048
#define PN_ROWS static __attribute__((noinline, unused))

/* FN(name) is v_name of the precision, K(a, b) its constant; POLY evaluates a table above. */
#define POLY(z, c) FN(poly)(z, c, (int)(sizeof(c) / sizeof((c)[0])))
#define PN_BITS 64
#define FN(name) v_##name##_f64
#define REAL double
#define VF vf64
#define VI vi64
#define VU vu64
#define K(f64, f32) f64
#include "kernels/vmath_body.h"
#define PN_BITS 32
#define FN(name) v_##name##_f32
#define REAL float
#define VF vf32
#define VI vi32
#define VU vu32
#define K(f64, f32) f32
#include "kernels/vmath_body.h"
#undef POLY

/* ---- x^y = 2^(y log2 x), log2 x in two parts, so that y log2 x is known far behind its binary point ---- */

/* (3 atanh s / s - 3 - s^2) / s^4 in s^2; the error is that of atanh s. |s| as in pn_log_c64. */
static const double pn_pow_c64[] = {/* 2^-66.3 */
                                    0.6000000000000337, 0.42857142855154723, 0.3333333377894249, 0.27272676631795656,
                                    0.2308013231862738, 0.1988531096656449,  0.19793721782609722};

/* a without its last 27 bits: products of two such are exact. */
PN_VFN vf64 v_head_f64(vf64 a) { return (vf64)((vu64)a & 0xfffffffff8000000u); }

/* log2 x = k + c s u for x = 2^k m, with s = (m - 1) / (m + 1), u = 3 + s^2 + s^4 P(s^2), c = 2 / (3 log 2): as head, which is returned,
   and rest, to 2^-65 of it, for positive finite x. Every product of heads is exact (so fdlibm's e_pow.c). */
PN_VFN vf64 v_log2_f64(vf64 x, vf64 *rest) {
    vf64 k, m = v_split_any_f64(x, &k), f = m - 1.0, d = m + 1.0, inverse = 1.0 / d, s = f * inverse;
    vf64 s1 = v_head_f64(s), d1 = v_head_f64(d), s2 = ((f - s1 * d1) - s1 * (m - (d1 - 1.0))) * inverse;
    vf64 z1 = s1 * s1, z2 = s2 * (s + s1), z = z1 + z2;
    vf64 r = z * z * v_poly_f64(z, pn_pow_c64, 7) + z2;
    vf64 u1 = v_head_f64(3.0 + z1 + r), u2 = r - ((u1 - 3.0) - z1);
    vf64 p = s1 * u1, q = s2 * u1 + u2 * s;
    vf64 v1 = v_head_f64(p + q), v2 = q - (v1 - p);
    vf64 t = v1 * 0x1.ec709d8000000p-1, t2 = v1 * 0x1.0e80ff5d27f05p-27 + v2 * 0x1.ec709dc3a03fdp-1;
    vf64 head = v_head_f64(k + (t + t2));
    *rest = t2 - ((head - k) - t);
    return head;
}

/* 2^(y (head + rest)), y (head + rest) = e1 + e2. The clamps are past overflow and past the last denormal; that of y keeps e1 finite. */
PN_VFN vf64 v_pow_of_f64(vf64 y, vf64 head, vf64 rest) {
    y = v_atleast_f64(v_atmost_f64(y, v_set1_f64(0x1p64)), v_set1_f64(-0x1p64));
    vf64 y1 = v_head_f64(y), e1 = y1 * head, e2 = (y - y1) * head + y * rest;
    e1 = v_atleast_f64(v_atmost_f64(e1, v_set1_f64(1030.0)), v_set1_f64(-1080.0));
    e2 = v_atleast_f64(v_atmost_f64(e2, v_set1_f64(1.0)), v_set1_f64(-1.0));
    vf64 n = e1 + PN_EXP_SHIFT64, k = n - PN_EXP_SHIFT64;
    return v_exp_of_f64(n, k, ((e1 - k) + e2) * 0x1.62e42fefa39efp-1);
}

/* o = a^b */
PN_ROWS void v_pow_rows_f64(double *o, const double *a, const double *b, size_t count) {
    double head[PN_PASS / sizeof(double)], rest[PN_PASS / sizeof(double)];
    for (size_t done = 0, n; done < count; done += n) {
        n = v_pass_f64(count - done);
        for (size_t i = 0; i < n; i += PN_VE64) {
            vf64 low, high = v_log2_f64(v_abs_f64(v_load_f64(a + done + i)), &low);
            v_store_f64(head + i, high), v_store_f64(rest + i, low);
        }
        for (size_t i = 0; i < n; i += PN_VE64) {
            vf64 x = v_load_f64(a + done + i), y = v_load_f64(b + done + i);
            vf64 r = v_pow_of_f64(y, v_load_f64(head + i), v_load_f64(rest + i));
            if (__builtin_expect(!v_pow_plain_f64(x, y), 0)) r = v_pow_edges_f64(x, y, r);
            v_store_f64(o + done + i, r);
        }
    }
}

/* The same of floats, in double precision. */
PN_ROWS void v_pow_rows_f32(float *o, const float *a, const float *b, size_t count) {
    double log_a[2 * PN_PASS / sizeof(float)];
    for (size_t done = 0, n; done < count; done += n) {
        n = v_pass_f32(count - done);
        for (size_t i = 0; i < n; i += PN_VE32) {
            vf32 x = v_abs_f32(v_load_f32(a + done + i));
            v_store_f64(log_a + i, v_log_f64(v_widen_lo(x)));
            v_store_f64(log_a + i + PN_VE64, v_log_f64(v_widen_hi(x)));
        }
        for (size_t i = 0; i < n; i += PN_VE32) {
            vf32 x = v_load_f32(a + done + i), y = v_load_f32(b + done + i);
            vf64 lo = v_exp_f64(v_widen_lo(y) * v_load_f64(log_a + i)),
                 hi = v_exp_f64(v_widen_hi(y) * v_load_f64(log_a + i + PN_VE64));
            vf32 r = v_narrow(lo, hi);
            if (__builtin_expect(!v_pow_plain_f32(x, y), 0)) r = v_pow_edges_f32(x, y, r);
            v_store_f32(o + done + i, r);
        }
    }
}

/* sin and cos. |x| = k pi/2 + r, |r| <= pi/4; with q = k (for the cosine k + 1) the result is sin r, cos r, -sin r or
   -cos r by q mod 4. A lane past |x| = 2^20, or Inf or NaN, asks the C library; no other lane is touched. */
#define PN_TRIG_MAX 0x1p20

/* sin r or cos r (for odd q) of r + low, its sign by q: sin r + low cos r and cos r - low sin r to first order. */
PN_VFN vf64 v_trig_f64(vf64 r, vf64 low, vu64 q) {
    vf64 z = r * r, h = 0.5 * z;
    vf64 s = r + (r * z * v_poly_f64(z, pn_sin_c64, 6) + low * (1.0 - h));
    vf64 c = 1.0 - h, cos_r = c + (((1.0 - c) - h) + (z * z * v_poly_f64(z, pn_cos_c64, 6) - r * low));
    vf64 t = v_sel_f64((vi64)(0 - (q & 1u)), cos_r, s);
    return (vf64)((vu64)t ^ ((q & 2u) << 62));
}

/* The same for results in float: r needs no low part and the polynomials are short. */
PN_VFN vf64 v_trig_f32(vf64 r, vu64 q) {
    vf64 z = r * r;
    vf64 s = r + r * z * v_poly_f64(z, pn_sin_c32, 3);
    vf64 c = (1.0 - 0.5 * z) + z * z * v_poly_f64(z, pn_cos_c32, 3);
    vf64 t = v_sel_f64((vi64)(0 - (q & 1u)), c, s);
    return (vf64)((vu64)t ^ ((q & 2u) << 62));
}

/* r + low = a - k pi/2 for 0 <= a <= 2^20. pi/2 in three parts of 33 bits and a rest: each k P is exact, and so is
   a - k P1; the two-difference y - w = d + e keeps what the second and third lose. A double in this range is never
   within 2^-62 of a multiple of pi/2, and the parts carry 2^-130. */
PN_VFN vf64 v_reduce_f64(vf64 a, vf64 *low, vu64 *q) {
    vf64 n = a * 0x1.45f306dc9c883p-1 + 0x1.8p52, k = n - 0x1.8p52;
    vf64 y = a - k * 0x1.921fb544p+0, w = k * 0x1.0b4611a6p-34;
    vf64 d = y - w, b = d - y, e = (y - (d - b)) - (w + b);
    w = k * 0x1.3198a2ep-69;
    y = d;
    d = y - w;
    b = d - y;
    e += (y - (d - b)) - (w + b);
    e -= k * 0x1.b839a252049c1p-104;
    vf64 r = d + e;
    *low = (d - r) + e;
    *q = (vu64)n;
    return r;
}

/* f of the lanes i of x that are out of range, into r. */
__attribute__((noinline, cold, unused)) static void pn_far_f64(double (*f)(double), const double *x, double *r) {
    for (int i = 0; i < PN_VE64; i++)
        if (!(fabs(x[i]) <= PN_TRIG_MAX)) r[i] = f(x[i]);
}
__attribute__((noinline, cold, unused)) static void pn_far_f32(float (*f)(float), const float *x, float *r) {
    for (int i = 0; i < PN_VE32; i++)
        if (!(fabsf(x[i]) <= (float)PN_TRIG_MAX)) r[i] = f(x[i]);
}

PN_VFN vf64 v_or_far_f64(vf64 r, double (*f)(double), vf64 x) {
    if (__builtin_expect(v_any_i64(~(vi64)(v_abs_f64(x) <= PN_TRIG_MAX)), 0)) {
        double xs[PN_VE64], rs[PN_VE64];
        v_store_f64(xs, x), v_store_f64(rs, r);
        pn_far_f64(f, xs, rs);
        r = v_load_f64(rs);
    }
    return r;
}
PN_VFN vf32 v_or_far_f32(vf32 r, float (*f)(float), vf32 x) {
    if (__builtin_expect(v_any_i32(~(vi32)(v_abs_f32(x) <= (float)PN_TRIG_MAX)), 0)) {
        float xs[PN_VE32], rs[PN_VE32];
        v_store_f32(xs, x), v_store_f32(rs, r);
        pn_far_f32(f, xs, rs);
        r = v_load_f32(rs);
    }
    return r;
}

PN_VFN vf64 v_sin_f64(vf64 x) {
    vf64 low, r;
    vu64 q;
    r = v_reduce_f64(v_abs_f64(x), &low, &q);
    return v_or_far_f64((vf64)((vu64)v_trig_f64(r, low, q) ^ v_sign_f64(x)), sin, x);
}
PN_VFN vf64 v_cos_f64(vf64 x) {
    vf64 low, r;
    vu64 q;
    r = v_reduce_f64(v_abs_f64(x), &low, &q);
    return v_or_far_f64(v_trig_f64(r, low, q + 1u), cos, x);
}

/* sin (shift = 0) or cos (shift = 1) of a float's magnitude in double: pi/2 in two parts leaves r within 2^-66. */
PN_VFN vf64 v_trig_of_f32(vf64 a, uint64_t shift) {
    vf64 n = a * 0x1.45f306dc9c883p-1 + 0x1.8p52, k = n - 0x1.8p52;
    return v_trig_f32((a - k * 0x1.921fb544p+0) - k * 0x1.0b4611a626331p-34, (vu64)n + shift);
}
PN_VFN vf32 v_sin_f32(vf32 x) {
    vf32 a = v_abs_f32(x);
    vf32 r = v_narrow(v_trig_of_f32(v_widen_lo(a), 0), v_trig_of_f32(v_widen_hi(a), 0));
    return v_or_far_f32((vf32)((vu32)r ^ v_sign_f32(x)), sinf, x);
}
PN_VFN vf32 v_cos_f32(vf32 x) {
    vf32 a = v_abs_f32(x);
    vf32 r = v_narrow(v_trig_of_f32(v_widen_lo(a), 1), v_trig_of_f32(v_widen_hi(a), 1));
    return v_or_far_f32(r, cosf, x);
}

#endif
