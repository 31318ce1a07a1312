/* Fixed-width vectors through the GCC/clang vector extensions.

   The including file defines PN_VBYTES, the bytes of a vector: 8, 16, 32 or 64, and is compiled for a machine that has
   registers of that size (64: AVX-512 F/DQ/BW/VL and FMA; 32: AVX2 and FMA; 16: SSE2 or NEON; 8: none needed). Two
   families follow, one for double (vf64, masks vi64, bits vu64) and one for float (vf32, vi32, vu32), with the same
   functions under the suffixes _f64 and _f32. Plain operators work on the vectors: a + b, a * 2.0, a < b, m & n, a[i].
   A comparison gives a mask: all bits set in a lane where it holds, none elsewhere.

   Intrinsics appear in this file only; each has a plain form beside it, and each lane depends on no other lane. */
#ifndef PN_SIMD_H
#define PN_SIMD_H

#include <stdint.h>
#include <string.h>

#ifndef PN_VBYTES
#error "define PN_VBYTES (8, 16, 32 or 64) before including simd.h"
#endif
#if PN_VBYTES != 8 && PN_VBYTES != 16 && PN_VBYTES != 32 && PN_VBYTES != 64
#error "PN_VBYTES must be 8, 16, 32 or 64"
#endif

#if PN_VBYTES == 64 && defined __AVX512F__ && defined __AVX512DQ__
#define PN_X86 64
#define PN_X(op, type) _mm512_##op##_##type
#elif PN_VBYTES == 32 && defined __AVX2__
#define PN_X86 32
#define PN_X(op, type) _mm256_##op##_##type
#elif PN_VBYTES == 16 && defined __SSE2__
#define PN_X86 16
#define PN_X(op, type) _mm_##op##_##type
#else
#define PN_X86 0
#endif
#if PN_X86
#include <immintrin.h>
#endif

#define PN_VE64 (PN_VBYTES / 8)
#define PN_VE32 (PN_VBYTES / 4)
#define PN_VFN static inline __attribute__((always_inline, unused))

typedef double vf64 __attribute__((vector_size(PN_VBYTES)));
typedef int64_t vi64 __attribute__((vector_size(PN_VBYTES)));
typedef uint64_t vu64 __attribute__((vector_size(PN_VBYTES)));
typedef float vf32 __attribute__((vector_size(PN_VBYTES)));
typedef int32_t vi32 __attribute__((vector_size(PN_VBYTES)));
typedef uint32_t vu32 __attribute__((vector_size(PN_VBYTES)));
typedef double pn_mem64 __attribute__((vector_size(PN_VBYTES), aligned(8), may_alias));
typedef float pn_mem32 __attribute__((vector_size(PN_VBYTES), aligned(4), may_alias));

/* What is written the same for any width of vector and either precision.
   max and min: NaN where either argument is NaN. */
#define PN_FAMILY(S, REAL, VF, VI, VU, MEM, N, SIGN)                                                                           \
    PN_VFN VF v_load_##S(const REAL *p) { return (VF) * (const MEM *)p; }                                                      \
    PN_VFN void v_store_##S(REAL *p, VF a) { *(MEM *)p = (MEM)a; }                                                             \
    PN_VFN VF v_set1_##S(REAL a) { return a - (VF){0}; }                                                                       \
    PN_VFN VU v_bits_##S(VF a) { return (VU)a; }                                                                               \
    PN_VFN VF v_from_bits_##S(VU a) { return (VF)a; }                                                                          \
    PN_VFN VF v_abs_##S(VF a) { return (VF)((VU)a & ~(SIGN)); }                                                                \
    PN_VFN VU v_sign_##S(VF a) { return (VU)a & (SIGN); }                                                                      \
    PN_VFN VF v_max_##S(VF a, VF b) { return v_sel_##S((VI)(a != a), a, v_atleast_##S(b, a)); }                                \
    PN_VFN VF v_min_##S(VF a, VF b) { return v_sel_##S((VI)(a != a), a, v_atmost_##S(b, a)); }

/* sel(m, a, b): a where the mask m is set, b elsewhere.
   atmost(x, c): x where x < c, else c, but NaN where x is NaN; atleast likewise: one instruction when c is no NaN. */
#if PN_X86
#define PN_PD PN_REG(d)
#define PN_PS PN_REG()
#if PN_X86 == 64
#define PN_REG(t) __m512##t
#elif PN_X86 == 32
#define PN_REG(t) __m256##t
#else
#define PN_REG(t) __m128##t
#endif
PN_VFN vf64 v_sqrt_f64(vf64 a) { return (vf64)PN_X(sqrt, pd)((PN_PD)a); }
PN_VFN vf32 v_sqrt_f32(vf32 a) { return (vf32)PN_X(sqrt, ps)((PN_PS)a); }
PN_VFN vf64 v_atmost_f64(vf64 x, vf64 c) { return (vf64)PN_X(min, pd)((PN_PD)c, (PN_PD)x); }
PN_VFN vf32 v_atmost_f32(vf32 x, vf32 c) { return (vf32)PN_X(min, ps)((PN_PS)c, (PN_PS)x); }
PN_VFN vf64 v_atleast_f64(vf64 x, vf64 c) { return (vf64)PN_X(max, pd)((PN_PD)c, (PN_PD)x); }
PN_VFN vf32 v_atleast_f32(vf32 x, vf32 c) { return (vf32)PN_X(max, ps)((PN_PS)c, (PN_PS)x); }
#else
PN_VFN vf64 v_sqrt_f64(vf64 a) {
    for (int i = 0; i < PN_VE64; i++) a[i] = __builtin_sqrt(a[i]);
    return a;
}
PN_VFN vf32 v_sqrt_f32(vf32 a) {
    for (int i = 0; i < PN_VE32; i++) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
#endif

#if PN_X86 == 64
PN_VFN vf64 v_sel_f64(vi64 m, vf64 a, vf64 b) {
    return (vf64)_mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)m), (__m512d)b, (__m512d)a);
}
PN_VFN vf32 v_sel_f32(vi32 m, vf32 a, vf32 b) {
    return (vf32)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)m), (__m512)b, (__m512)a);
}
PN_VFN int v_any_i64(vi64 m) { return _mm512_test_epi64_mask((__m512i)m, (__m512i)m) != 0; }
#elif PN_X86 == 32
PN_VFN vf64 v_sel_f64(vi64 m, vf64 a, vf64 b) { return (vf64)_mm256_blendv_pd((__m256d)b, (__m256d)a, (__m256d)m); }
PN_VFN vf32 v_sel_f32(vi32 m, vf32 a, vf32 b) { return (vf32)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m); }
PN_VFN int v_any_i64(vi64 m) { return _mm256_movemask_ps((__m256)m) != 0; } /* each half of a lane: see v_any_i32 */
#else
PN_VFN vf64 v_sel_f64(vi64 m, vf64 a, vf64 b) { return (vf64)((m & (vi64)a) | (~m & (vi64)b)); }
PN_VFN vf32 v_sel_f32(vi32 m, vf32 a, vf32 b) { return (vf32)((m & (vi32)a) | (~m & (vi32)b)); }
PN_VFN int v_any_i64(vi64 m) {
    int64_t any = 0;
    for (int i = 0; i < PN_VE64; i++) any |= m[i];
    return any != 0;
}
#endif
PN_VFN int v_any_i32(vi32 m) { return v_any_i64((vi64)m); }
PN_VFN int v_any_f64(vi64 m) { return v_any_i64(m); } /* of masks from comparisons of numbers */
PN_VFN int v_any_f32(vi32 m) { return v_any_i32(m); }

#if !PN_X86
PN_VFN vf64 v_atmost_f64(vf64 x, vf64 c) { return v_sel_f64((vi64)(x > c), c, x); }
PN_VFN vf32 v_atmost_f32(vf32 x, vf32 c) { return v_sel_f32((vi32)(x > c), c, x); }
PN_VFN vf64 v_atleast_f64(vf64 x, vf64 c) { return v_sel_f64((vi64)(x < c), c, x); }
PN_VFN vf32 v_atleast_f32(vf32 x, vf32 c) { return v_sel_f32((vi32)(x < c), c, x); }
#endif

PN_FAMILY(f64, double, vf64, vi64, vu64, pn_mem64, PN_VE64, (uint64_t)1 << 63)
PN_FAMILY(f32, float, vf32, vi32, vu32, pn_mem32, PN_VE32, (uint32_t)1 << 31)

/* Shuffles of two vectors, written out for 2, 4, 8 and 16 elements: LOW is a_0, b_0, a_1, b_1, ..., the lower halves
   interleaved, HIGH the same of the upper halves. */
#ifdef __clang__
#define PN_SHUFFLE(VI, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PN_SHUFFLE(VI, a, b, ...) __builtin_shuffle(a, b, (VI){__VA_ARGS__})
#endif
#define PN_LOW1(VI, a, b) a
#define PN_HIGH1(VI, a, b) b
#define PN_LOW2(VI, a, b) PN_SHUFFLE(VI, a, b, 0, 2)
#define PN_HIGH2(VI, a, b) PN_SHUFFLE(VI, a, b, 1, 3)
#define PN_LOW4(VI, a, b) PN_SHUFFLE(VI, a, b, 0, 4, 1, 5)
#define PN_HIGH4(VI, a, b) PN_SHUFFLE(VI, a, b, 2, 6, 3, 7)
#define PN_LOW8(VI, a, b) PN_SHUFFLE(VI, a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define PN_HIGH8(VI, a, b) PN_SHUFFLE(VI, a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define PN_LOW16(VI, a, b) PN_SHUFFLE(VI, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define PN_HIGH16(VI, a, b) PN_SHUFFLE(VI, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#if PN_VBYTES == 64
#define PN_OF64(name) name##8
#define PN_OF32(name) name##16
#elif PN_VBYTES == 32
#define PN_OF64(name) name##4
#define PN_OF32(name) name##8
#elif PN_VBYTES == 16
#define PN_OF64(name) name##2
#define PN_OF32(name) name##4
#else
#define PN_OF64(name) name##1
#define PN_OF32(name) name##2
#endif
/* store_pairs(p, a, b): a_0, b_0, a_1, b_1, ... */
PN_VFN void v_store_pairs_f64(double *p, vf64 a, vf64 b) {
    v_store_f64(p, PN_OF64(PN_LOW)(vi64, a, b)), v_store_f64(p + PN_VE64, PN_OF64(PN_HIGH)(vi64, a, b));
}
PN_VFN void v_store_pairs_f32(float *p, vf32 a, vf32 b) {
    v_store_f32(p, PN_OF32(PN_LOW)(vi32, a, b)), v_store_f32(p + PN_VE32, PN_OF32(PN_HIGH)(vi32, a, b));
}

/* repeat(p): p_0, p_1, p_0, p_1, ...; of doubles, as pairs of lanes are */
#if PN_X86 == 64
PN_VFN vf64 v_repeat_f64(const double *p) { return (vf64)_mm512_broadcast_f64x2(_mm_loadu_pd(p)); }
#elif PN_X86 == 32
PN_VFN vf64 v_repeat_f64(const double *p) { return (vf64)_mm256_broadcast_pd((const __m128d *)(const void *)p); }
#else
PN_VFN vf64 v_repeat_f64(const double *p) {
    double all[PN_VE64];
    for (int i = 0; i < PN_VE64; i++) all[i] = p[i % 2];
    return v_load_f64(all);
}
#endif

/* sums(s, v): s_i = sum of the elements of v_i, i < 16. LOW + HIGH of two vectors halves both; log2 of those steps turn as many
   vectors as they have elements into one. transpose(v): element j of v_i and element i of v_j change places, by as many
   steps. v is used up. */
#define PN_UNROLL _Pragma("GCC unroll 16")
#define PN_SOON(place) __builtin_prefetch(place, 1) /* it will be written */
#define PN_LEVEL(VI, N, LOW, HIGH, h)                                                                                          \
    PN_UNROLL for (int k = 0; k < 16; k++) if (k % (N) < (h) && (h) < (N)) v[k] =                                              \
        LOW(VI, v[k], v[(k + (h)) % 16]) + HIGH(VI, v[k], v[(k + (h)) % 16]);
#define PN_ROUND(VF, VI, N, LOW, HIGH)                                                                                         \
    {                                                                                                                          \
        VF w[N];                                                                                                               \
        PN_UNROLL for (int k = 0; k < (N) / 2; k++) w[2 * k] = LOW(VI, v[k], v[k + (N) / 2]),                                  \
                                                          w[2 * k + 1] = HIGH(VI, v[k], v[k + (N) / 2]);                       \
        PN_UNROLL for (int k = 0; k < (N) && (N) > 1; k++) v[k] = w[k];                                                        \
    }
#define PN_SUMS(S, REAL, VF, VI, N, LOW, HIGH)                                                                                 \
    PN_VFN void v_sums_##S(REAL *s, VF *v) {                                                                                   \
        PN_LEVEL(VI, N, LOW, HIGH, 8)                                                                                          \
        PN_LEVEL(VI, N, LOW, HIGH, 4)                                                                                          \
        PN_LEVEL(VI, N, LOW, HIGH, 2)                                                                                          \
        PN_LEVEL(VI, N, LOW, HIGH, 1)                                                                                          \
        PN_UNROLL for (int g = 0; g < 16; g += (N)) v_store_##S(s + g, v[g]);                                                  \
    }                                                                                                                          \
    PN_VFN void v_transpose_##S(VF *v) {                                                                                       \
        PN_ROUND(VF, VI, N, LOW, HIGH)                                                                                         \
        if ((N) > 2) PN_ROUND(VF, VI, N, LOW, HIGH)                                                                            \
        if ((N) > 4) PN_ROUND(VF, VI, N, LOW, HIGH)                                                                            \
        if ((N) > 8) PN_ROUND(VF, VI, N, LOW, HIGH)                                                                            \
    }
PN_SUMS(f64, double, vf64, vi64, PN_VE64, PN_OF64(PN_LOW), PN_OF64(PN_HIGH))
PN_SUMS(f32, float, vf32, vi32, PN_VE32, PN_OF32(PN_LOW), PN_OF32(PN_HIGH))

/* hsum: halves added until one element is left, always in that order. */
#if PN_X86 == 64
PN_VFN double v_hsum_f64(vf64 a) { return _mm512_reduce_add_pd((__m512d)a); }
PN_VFN float v_hsum_f32(vf32 a) { return _mm512_reduce_add_ps((__m512)a); }
#else
#define PN_HSUM(S, REAL, VF, N)                                                                                                \
    PN_VFN REAL v_hsum_##S(VF a) {                                                                                             \
        REAL s[N];                                                                                                             \
        v_store_##S(s, a);                                                                                                     \
        for (int n = (N) / 2; n > 0; n /= 2)                                                                                   \
            for (int i = 0; i < n; i++) s[i] += s[i + n];                                                                      \
        return s[0];                                                                                                           \
    }
PN_HSUM(f64, double, vf64, PN_VE64)
PN_HSUM(f32, float, vf32, PN_VE32)
#endif

/* scale(y, k, n) = y 2^k for integral k, -1080 <= k <= 1030 (float: -160 to 130), n = k + SHIFT, rounded once, also into the denormals.
   The plain form multiplies by 2^floor(k/2) and 2^ceil(k/2): with twice the bias of exponents in SHIFT, half the low bits of n are
   the exponents' own. The AVX-512 form takes floor(k) of any k, and no n. */
#define PN_SHIFT64 (0x1.8p52 + 2046)
#define PN_SHIFT32 (0x1.8p23f + 254)
#if PN_X86 == 64
PN_VFN vf64 v_scale_f64(vf64 y, vf64 k, vf64 n) { return (void)n, (vf64)_mm512_scalef_pd((__m512d)y, (__m512d)k); }
PN_VFN vf32 v_scale_f32(vf32 y, vf32 k, vf32 n) { return (void)n, (vf32)_mm512_scalef_ps((__m512)y, (__m512)k); }
#else
PN_VFN vf64 v_scale_f64(vf64 y, vf64 k, vf64 n) {
    vu64 u = (vu64)n, h = u >> 1;
    return (void)k, y * (vf64)(h << 52) * (vf64)((u - h) << 52);
}
PN_VFN vf32 v_scale_f32(vf32 y, vf32 k, vf32 n) {
    vu32 u = (vu32)n, h = u >> 1;
    return (void)k, y * (vf32)(h << 23) * (vf32)((u - h) << 23);
}
#endif

/* lookup16(lo, hi, j): entry j mod 16 of a table in two vectors, where a permute instruction does it. */
#if PN_X86 == 64
#define PN_LOOKUP 1
PN_VFN vf64 v_lookup16_f64(vf64 lo, vf64 hi, vu64 j) {
    return (vf64)_mm512_permutex2var_pd((__m512d)lo, (__m512i)j, (__m512d)hi);
}
#else
#define PN_LOOKUP 0
#endif

/* The lower and the upper half of a float vector as doubles, and back. */
typedef float pn_half32 __attribute__((vector_size(PN_VBYTES / 2)));
PN_VFN vf64 v_widen_lo(vf32 a) {
    pn_half32 h;
    memcpy(&h, &a, sizeof h);
    return __builtin_convertvector(h, vf64);
}
PN_VFN vf64 v_widen_hi(vf32 a) {
    pn_half32 h;
    memcpy(&h, (const char *)&a + sizeof h, sizeof h);
    return __builtin_convertvector(h, vf64);
}
PN_VFN void v_store_as_f64_f64(double *p, vf64 a) { v_store_f64(p, a); }
PN_VFN void v_store_as_f64_f32(double *p, vf32 a) { v_store_f64(p, v_widen_lo(a)), v_store_f64(p + PN_VE64, v_widen_hi(a)); }
PN_VFN vf32 v_narrow(vf64 lo, vf64 hi) {
    pn_half32 l = __builtin_convertvector(lo, pn_half32), h = __builtin_convertvector(hi, pn_half32);
    vf32 a;
    memcpy(&a, &l, sizeof l);
    memcpy((char *)&a + sizeof l, &h, sizeof h);
    return a;
}

#endif
