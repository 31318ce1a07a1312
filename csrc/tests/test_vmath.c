/* Tests of vmath.h against the C library in higher precision (long double for double, double for float): the largest
   error in ulp of every function over dense sweeps, the special values, odd symmetry, and the independence of a lane
   from its neighbours. Prints one line per function and exits 1 on any failure. With --time, also ns per element, with --quick short sweeps.
   cc -std=c11 -O3 -fno-math-errno -ffp-contract=fast -DPN_VBYTES=16 -I.. test_vmath.c -lm */
#define _POSIX_C_SOURCE 199309L
#include "kernels/vmath.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LIMIT 2.0 /* ulp */
#define CHUNK 4096

static int failures = 0;

static const char *isa(void) {
    static char name[32];
    snprintf(name, sizeof name, "%d-byte", PN_VBYTES);
    return name;
}

/* The functions over arrays, and their references. */
#define ARRAY(name)                                                                                                            \
    static void name##_64(long n, const double *x, double *y) {                                                                \
        for (long i = 0; i < n; i += PN_VE64) v_store_f64(y + i, v_##name##_f64(v_load_f64(x + i)));                           \
    }                                                                                                                          \
    static void name##_32(long n, const float *x, float *y) {                                                                  \
        for (long i = 0; i < n; i += PN_VE32) v_store_f32(y + i, v_##name##_f32(v_load_f32(x + i)));                           \
    }
ARRAY(exp)
ARRAY(expm1)
ARRAY(log)
ARRAY(log1p)
ARRAY(tanh)
ARRAY(sigmoid)
ARRAY(sin)
ARRAY(cos)
ARRAY(erf)
static void softplus_64(long n, const double *x, double *y) { v_softplus_rows_f64(y, x, (size_t)n); }
static void softplus_32(long n, const float *x, float *y) { v_softplus_rows_f32(y, x, (size_t)n); }

static long double sigmoidl(long double x) { return 1 / (1 + expl(-x)); }
static long double softplusl(long double x) { return x > 0 ? x + log1pl(expl(-x)) : log1pl(expl(x)); }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

/* at: pairs x, f(x) that must hold exactly. */
enum { EVEN_OR_NONE, KEEPS_ZERO, ODD }; /* KEEPS_ZERO: f(-0) = -0; ODD: that and f(-x) = -f(x) */
typedef struct {
    const char *name;
    void (*f64)(long, const double *, double *);
    void (*f32)(long, const float *, float *);
    long double (*ref64)(long double);
    double (*ref32)(double);
    int symmetry;
    double lo, hi; /* the interval of the dense linear sweep */
    double at[10];
} Case;

static const Case cases[] = {
    {"exp", exp_64, exp_32, expl, exp, EVEN_OR_NONE, -750, 715, {0, 1, -0.0, 1, INFINITY, INFINITY, -INFINITY, 0, NAN, NAN}},
    {"expm1",
     expm1_64,
     expm1_32,
     expm1l,
     expm1,
     KEEPS_ZERO,
     -45,
     715,
     {0, 0, INFINITY, INFINITY, -INFINITY, -1, NAN, NAN, 0, 0}},
    {"log", log_64, log_32, logl, log, EVEN_OR_NONE, 0, 4, {0, -INFINITY, -0.0, -INFINITY, INFINITY, INFINITY, -1, NAN, 1, 0}},
    {"log1p",
     log1p_64,
     log1p_32,
     log1pl,
     log1p,
     KEEPS_ZERO,
     -1,
     4,
     {0, 0, -1, -INFINITY, INFINITY, INFINITY, -2, NAN, NAN, NAN}},
    {"tanh", tanh_64, tanh_32, tanhl, tanh, ODD, -22, 22, {0, 0, INFINITY, 1, -INFINITY, -1, NAN, NAN, 100, 1}},
    {"sigmoid",
     sigmoid_64,
     sigmoid_32,
     sigmoidl,
     sigmoid,
     EVEN_OR_NONE,
     -750,
     50,
     {0, 0.5, INFINITY, 1, -INFINITY, 0, NAN, NAN, 800, 1}},
    {"softplus",
     softplus_64,
     softplus_32,
     softplusl,
     softplus,
     EVEN_OR_NONE,
     -5,
     2,
     {1e5, 1e5, INFINITY, INFINITY, -INFINITY, 0, NAN, NAN, -1e5, 0}},
    {"sin", sin_64, sin_32, sinl, sin, ODD, -20, 20, {0, 0, INFINITY, NAN, -INFINITY, NAN, NAN, NAN, 0, 0}},
    {"cos", cos_64, cos_32, cosl, cos, EVEN_OR_NONE, -20, 20, {0, 1, INFINITY, NAN, -INFINITY, NAN, NAN, NAN, -0.0, 1}},
    {"erf", erf_64, erf_32, erfl, erf, ODD, -7, 7, {0, 0, INFINITY, 1, -INFINITY, -1, NAN, NAN, 50, 1}},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t state = 0x9e3779b97f4a7c15u;
static uint64_t random_bits(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717u;
}
static double uniform(void) { return (double)(random_bits() >> 11) * 0x1p-53; }
static uint64_t bits64(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static double from64(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static uint32_t bits32(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static float from32(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* |got - ref| in units of the last place of ref, digits and least exponent of the format given; 0 where both are NaN or
   the reference, rounded to the format (as), is what was got. */
static double ulps(double got, double as, long double ref, int digits, int least) {
    if (isnan(got) || isnan(as)) return isnan(got) && isnan(as) ? 0 : HUGE_VAL;
    if (isinf(as) || ref == 0) return got == as ? 0 : HUGE_VAL;
    long double g = isinf(got) ? copysignl(ldexpl(1, 3 - least - digits), got) : got; /* 2^1024, 2^128 */
    int e;
    frexpl(ref, &e);
    e = e - digits < least ? least : e - digits;
    return (double)ldexpl(fabsl(g - ref), -e);
}

typedef struct {
    double worst, at;
} Worst;

static void check64(const Case *c, const double *x, Worst *w) {
    static double y[CHUNK], z[CHUNK], m[CHUNK];
    c->f64(CHUNK, x, y);
    for (int i = 0; i < CHUNK; i++) {
        long double ref = c->ref64(x[i]);
        double u = ulps(y[i], (double)ref, ref, DBL_MANT_DIG, DBL_MIN_EXP - DBL_MANT_DIG);
        if (!(u <= w->worst)) w->worst = u, w->at = x[i];
    }
    if (c->symmetry != ODD) return;
    for (int i = 0; i < CHUNK; i++) m[i] = -x[i];
    c->f64(CHUNK, m, z);
    for (int i = 0; i < CHUNK; i++)
        if (!isnan(y[i]) && bits64(z[i]) != bits64(-y[i])) failures++, printf("FAIL %s f64 not odd at %a\n", c->name, x[i]);
}

static void check32(const Case *c, const float *x, Worst *w) {
    static float y[CHUNK], z[CHUNK], m[CHUNK];
    c->f32(CHUNK, x, y);
    for (int i = 0; i < CHUNK; i++) {
        double ref = c->ref32(x[i]), u = ulps(y[i], (float)ref, ref, FLT_MANT_DIG, FLT_MIN_EXP - FLT_MANT_DIG);
        if (!(u <= w->worst)) w->worst = u, w->at = x[i];
    }
    if (c->symmetry != ODD) return;
    for (int i = 0; i < CHUNK; i++) m[i] = -x[i];
    c->f32(CHUNK, m, z);
    for (int i = 0; i < CHUNK; i++)
        if (!isnan(y[i]) && bits32(z[i]) != bits32(-y[i])) failures++, printf("FAIL %s f32 not odd at %a\n", c->name, x[i]);
}

/* Sample i of n: by turns any bits; a magnitude 2^e with e uniform over all exponents; one over 2^-30..2^10; one in
   the interval of the function; one within 40 ulp of a multiple of pi/2 or of log(2)/16. */
static double sample(const Case *c, long i) {
    double s = random_bits() & 1 ? -1 : 1;
    switch (i % 6) {
    case 0: return from64(random_bits());
    case 1: return s * ldexp(1 + uniform(), (int)(random_bits() % 2098) - 1074);
    case 2: return s * ldexp(1 + uniform(), (int)(random_bits() % 40) - 30);
    case 3: return c->lo + (c->hi - c->lo) * uniform();
    case 4: return s * 3 * uniform();
    default: break;
    }
    double k = s * floor(ldexp(1 + uniform(), (int)(random_bits() % 20)));
    double x = (random_bits() & 1 ? 1.57079632679489661923 : 0.04332169878499658) * (k - (fabs(k) < 2));
    return from64(bits64(x) + random_bits() % 81 - 40);
}

static void sweep(const Case *c, long n64, uint32_t step32) {
    static double x[CHUNK];
    static float s[CHUNK];
    Worst w64 = {0, 0}, w32 = {0, 0};
    for (long i = 0; i < n64; i += CHUNK) {
        for (int j = 0; j < CHUNK; j++) x[j] = sample(c, i + j);
        check64(c, x, &w64);
    }
    for (uint64_t u = 0; u < (uint64_t)1 << 32;) {
        for (int j = 0; j < CHUNK; j++, u += step32) s[j] = from32((uint32_t)u);
        check32(c, s, &w32);
    }
    for (long i = 0; i < n64 / 4; i += CHUNK) {
        for (int j = 0; j < CHUNK; j++) s[j] = (float)(j & 1 ? sample(c, 3) : sample(c, 2 + 2 * (j / 2 % 2)));
        check32(c, s, &w32);
    }
    printf("%-9s %s  f64 %.3f at %-24a f32 %.3f at %a\n", c->name, isa(), w64.worst, w64.at, w32.worst, w32.at);
    if (!(w64.worst <= LIMIT && w32.worst <= LIMIT)) failures++, printf("FAIL %s: over %g ulp\n", c->name, LIMIT);
}

static int same(double a, double b) { return isnan(b) ? isnan(a) : a == b; }

static void specials(const Case *c) {
    for (int i = 0; i < 10; i += 2) {
        double x[PN_VE64], y[PN_VE64];
        float s[PN_VE32], t[PN_VE32];
        for (int j = 0; j < PN_VE64; j++) x[j] = c->at[i];
        for (int j = 0; j < PN_VE32; j++) s[j] = (float)c->at[i];
        c->f64(PN_VE64, x, y);
        c->f32(PN_VE32, s, t);
        int ok = same(y[PN_VE64 - 1], c->at[i + 1]) && same(t[PN_VE32 - 1], (float)c->at[i + 1]);
        if (!ok) failures++, printf("FAIL %s(%g) = %a, %a\n", c->name, c->at[i], y[0], (double)t[0]);
        if (c->symmetry == EVEN_OR_NONE) continue;
        for (int j = 0; j < PN_VE64; j++) x[j] = -0.0;
        for (int j = 0; j < PN_VE32; j++) s[j] = -0.0f;
        c->f64(PN_VE64, x, y);
        c->f32(PN_VE32, s, t);
        if (bits64(y[0]) != bits64(-0.0) || bits32(t[0]) != bits32(-0.0f)) failures++, printf("FAIL %s(-0)\n", c->name);
    }
}

/* A value alone, with itself for neighbours, and among arbitrary bits gives the same bits. */
static void independence(const Case *c) {
    for (int i = 0; i < 20000; i++) {
        double v = sample(c, i), x[PN_VE64], y[PN_VE64], z[PN_VE64];
        float u = (float)sample(c, 2 + i % 3), s[PN_VE32], t[PN_VE32], r[PN_VE32];
        int at = (int)(random_bits() % PN_VE64), at32 = (int)(random_bits() % PN_VE32);
        for (int j = 0; j < PN_VE64; j++) x[j] = v;
        for (int j = 0; j < PN_VE32; j++) s[j] = u;
        c->f64(PN_VE64, x, y);
        c->f32(PN_VE32, s, t);
        for (int j = 0; j < PN_VE64; j++) x[j] = j == at ? v : from64(random_bits());
        for (int j = 0; j < PN_VE32; j++) s[j] = j == at32 ? u : from32((uint32_t)random_bits());
        c->f64(PN_VE64, x, z);
        c->f32(PN_VE32, s, r);
        if ((bits64(y[0]) != bits64(z[at]) && !isnan(v)) || (bits32(t[0]) != bits32(r[at32]) && !isnan(u)))
            failures++, printf("FAIL %s: lane %d of %a, %a depends on the others\n", c->name, at, v, (double)u);
    }
}

/* x^y: pairs of any bits; of usual size; with results over the whole range; near 1 with large exponents; whole exponents, also of
   negative bases; denormal bases. */
static void pair(long i, int least, double most, double *x, double *y) {
    double s = random_bits() & 1 ? -1 : 1;
    *x = ldexp(1 + uniform(), (int)(random_bits() % 40) - 20);
    *y = s * ldexp(1 + uniform(), (int)(random_bits() % 14) - 10);
    switch (i % 6) {
    case 0: *x = from64(random_bits()), *y = from64(random_bits()); return;
    case 1: return;
    case 2: *x = 10 * uniform(), *y = s * most * uniform() / fabs(log2(*x)); return;
    case 3: *x = 1 + s * ldexp(uniform(), -(int)(random_bits() % 50)), *y = s * most * uniform() / fabs(log2(*x)); return;
    case 4: *x = s * 4 * uniform(), *y = floor(most * uniform() / fabs(log2(fabs(*x)))) - (double)(random_bits() % 40); return;
    default: *x = ldexp(1 + uniform(), least + (int)(random_bits() % 60)), *y = 2 * uniform() - 1;
    }
}

static void power_sweep(long n) {
    static double x[CHUNK], y[CHUNK], z[CHUNK];
    static float s[CHUNK], t[CHUNK], r[CHUNK];
    double w64 = 0, w32 = 0;
    for (long i = 0; i < n; i += CHUNK) {
        for (int j = 0; j < CHUNK; j++) pair(j, -1074, 1080, x + j, y + j);
        v_pow_rows_f64(z, x, y, CHUNK);
        for (int j = 0; j < CHUNK; j++) {
            long double ref = powl(x[j], y[j]);
            double u = ulps(z[j], (double)ref, ref, DBL_MANT_DIG, DBL_MIN_EXP - DBL_MANT_DIG);
            if (u > LIMIT) failures++, printf("FAIL pow(%a, %a) = %a f64: %g ulp\n", x[j], y[j], z[j], u);
            w64 = fmax(w64, u);
        }
        for (int j = 0; j < CHUNK; j++) pair(j, -149, 155, x + j, y + j), s[j] = (float)x[j], t[j] = (float)y[j];
        v_pow_rows_f32(r, s, t, CHUNK);
        for (int j = 0; j < CHUNK; j++) {
            double ref = pow(s[j], t[j]), u = ulps(r[j], (float)ref, ref, FLT_MANT_DIG, FLT_MIN_EXP - FLT_MANT_DIG);
            if (u > LIMIT)
                failures++, printf("FAIL pow(%a, %a) = %a f32: %g ulp\n", (double)s[j], (double)t[j], (double)r[j], u);
            w32 = fmax(w32, u);
        }
    }
    printf("pow       %s  f64 %.3f  f32 %.3f\n", isa(), w64, w32);
}

/* The C library's result, to the sign of 0, in the first lane and among others, in place. */
static void power_edges(void) {
    double x[2 * PN_VE32], y[2 * PN_VE32], z[2 * PN_VE32];
    float s[2 * PN_VE32], t[2 * PN_VE32], r[2 * PN_VE32];
    static const double some[] = {
        0,     1,       2,    3,     0.5,      1.5, 0x1p52,   0x1p52 + 1,         0x1p53,    0x1p53 + 2, 0x1p-1074, 0x1p-149,
        1e300, 0.99999, 1e30, 1e-30, INFINITY, NAN, 16777215, 4503599627370495.5, 8388607.5, 1e-300};
    enum { SOME = 2 * sizeof some / sizeof some[0] };
    for (int a = 0; a < SOME; a++)
        for (int b = 0; b < SOME; b++) {
            double p = (a & 1 ? -1 : 1) * some[a / 2], q = (b & 1 ? -1 : 1) * some[b / 2];
            for (int j = 0; j < 2 * PN_VE32; j++)
                x[j] = j % 3 ? uniform() : p, y[j] = j % 3 ? uniform() : q, s[j] = (float)x[j], t[j] = (float)y[j];
            double ref = pow(p, q);
            float ref32 = powf((float)p, (float)q);
            v_pow_rows_f64(z, x, y, 2 * PN_VE64), v_pow_rows_f64(x, x, y, 2 * PN_VE64);
            v_pow_rows_f32(r, s, t, 2 * PN_VE32), v_pow_rows_f32(s, s, t, 2 * PN_VE32);
            int edge = ref == 0 || isinf(ref) || isnan(ref) || fabs(ref) == 1,
                edge32 = ref32 == 0 || isinf(ref32) || isnan(ref32);
            int ok = isnan(ref) ? isnan(z[0])
                     : edge     ? bits64(z[0]) == bits64(ref)
                                : fabs(z[0] - ref) <= 0x1p-51 * fabs(ref) + 0x1p-1073;
            ok = ok && (isnan(ref32) ? isnan(r[0])
                        : edge32     ? bits32(r[0]) == bits32(ref32)
                                     : fabsf(r[0] - ref32) <= 0x1p-22f * fabsf(ref32) + 0x1p-148f);
            for (int j = 0; j < 2 * PN_VE64; j++) ok = ok && (bits64(x[j]) == bits64(z[j % 3 ? j : 0]) || isnan(x[j]));
            for (int j = 0; j < 2 * PN_VE32; j++) ok = ok && (bits32(s[j]) == bits32(r[j % 3 ? j : 0]) || isnan(s[j]));
            if (!ok) failures++, printf("FAIL pow(%a, %a) = %a, %a\n", p, q, z[0], (double)r[0]);
        }
}

/* A lane alone and among arbitrary bits. */
static void power_independence(void) {
    double x[PN_VE32], y[PN_VE32], z[PN_VE32], w[PN_VE32];
    float s[PN_VE32], t[PN_VE32], r[PN_VE32];
    for (int i = 0; i < 20000; i++) {
        int at = (int)(random_bits() % PN_VE64), at32 = (int)(random_bits() % PN_VE32);
        for (int j = 0; j < PN_VE32; j++) pair(i + j % 2 * 6, -149, 155, x + j, y + j), s[j] = (float)x[j], t[j] = (float)y[j];
        double p = x[0], q = y[0];
        float p32 = s[0], q32 = t[0];
        for (int j = 0; j < PN_VE64; j++) w[j] = p, z[j] = q;
        v_pow_rows_f64(w, w, z, PN_VE64);
        for (int j = 0; j < PN_VE64; j++)
            x[j] = j == at ? p : from64(random_bits()), y[j] = j == at ? q : from64(random_bits());
        v_pow_rows_f64(x, x, y, PN_VE64);
        for (int j = 0; j < PN_VE32; j++) r[j] = p32, t[j] = q32;
        v_pow_rows_f32(r, r, t, PN_VE32);
        float alone = r[0];
        for (int j = 0; j < PN_VE32; j++)
            s[j] = j == at32 ? p32 : from32((uint32_t)random_bits()), t[j] = j == at32 ? q32 : from32((uint32_t)random_bits());
        v_pow_rows_f32(s, s, t, PN_VE32);
        if ((bits64(x[at]) != bits64(w[0]) && !isnan(w[0])) || (bits32(s[at32]) != bits32(alone) && !isnan(alone)))
            failures++, printf("FAIL pow: a lane of %a, %a depends on the others\n", p, q);
    }
}

static void power_timing(void) {
    static double x[1024], y[1024], z[1024];
    static float s[1024], t[1024], r[1024];
    double best64 = HUGE_VAL, best32 = HUGE_VAL;
    for (int i = 0; i < 1024; i++) x[i] = 4 * uniform(), y[i] = 1.7, s[i] = (float)x[i], t[i] = 1.7f;
    for (int k = 0; k < 30; k++) {
        double a = now();
        for (int p = 0; p < 200; p++) v_pow_rows_f64(z, x, y, 1024);
        double b = now();
        for (int p = 0; p < 200; p++) v_pow_rows_f32(r, s, t, 1024);
        double e = now();
        best64 = fmin(best64, b - a), best32 = fmin(best32, e - b);
    }
    printf("pow       %s  ns per element: f64 %.3f  f32 %.3f\n", isa(), best64 / 1024 / 200, best32 / 1024 / 200);
}

/* The functions of simd.h that the sweeps do not reach. */
static void primitives(void) {
    double x[PN_VE64], y[PN_VE64], sum = 0;
    for (int i = 0; i < PN_VE64; i++) x[i] = i + 1, sum += x[i];
    vf64 a = v_load_f64(x), nan = v_set1_f64(NAN), b = v_set1_f64(-2.5);
    int ok = v_hsum_f64(a) == sum && v_abs_f64(b)[0] == 2.5 && v_sqrt_f64(a * a)[PN_VE64 - 1] == PN_VE64;
    ok = ok && isnan(v_max_f64(a, nan)[0]) && isnan(v_max_f64(nan, a)[0]) && isnan(v_min_f64(a, nan)[0]);
    ok = ok && isnan(v_min_f64(nan, a)[0]) && v_max_f64(a, b)[0] == 1 && v_min_f64(a, b)[0] == -2.5;
    ok = ok && isnan(v_sqrt_f64(b)[0]) && v_sel_f64((vi64)(b < a), a, b)[0] == 1 && v_any_i64((vi64)(a == PN_VE64));
    ok = ok && v_sel_f64((vi64)(a < b), a, b)[0] == -2.5 && !v_any_i64((vi64)(a < 0.0));
    v_store_f64(y, a);
    ok = ok && !memcmp(x, y, sizeof x);
    float s[PN_VE32 + 1], fsum = 0;
    for (int i = 0; i < PN_VE32; i++) s[i + 1] = (float)(i + 1), fsum += s[i + 1];
    vf32 c = v_load_f32(s + 1), fnan = v_set1_f32(NAN), d = v_set1_f32(-2.5f);
    ok = ok && v_hsum_f32(c) == fsum && v_abs_f32(d)[0] == 2.5f && v_sqrt_f32(c * c)[PN_VE32 - 1] == PN_VE32;
    ok = ok && isnan(v_max_f32(c, fnan)[0]) && isnan(v_max_f32(fnan, c)[0]) && isnan(v_min_f32(c, fnan)[0]);
    ok = ok && isnan(v_min_f32(fnan, c)[0]) && v_max_f32(c, d)[0] == 1 && v_min_f32(c, d)[0] == -2.5f;
    ok = ok && !v_any_i32((vi32)(c < 0.0f));
    for (int i = 0; i < PN_VE32; i++) ok = ok && v_any_i32((vi32)(c == c[i]));
    double pairs[2 * PN_VE64];
    float fpairs[2 * PN_VE32];
    v_store_pairs_f64(pairs, a, -a), v_store_pairs_f32(fpairs, c, -c);
    for (int i = 0; i < 2 * PN_VE64; i++) ok = ok && pairs[i] == (i % 2 ? -a : a)[i / 2];
    for (int i = 0; i < 2 * PN_VE32; i++) ok = ok && fpairs[i] == (i % 2 ? -c : c)[i / 2];
    if (!ok) failures++, printf("FAIL a primitive of simd.h\n");
}

/* The least of 30 timings of 200 passes over an array that lies in the first cache. */
static void timing(const Case *c) {
    enum { N = 1024, PASSES = 200 };
    static double x[N], y[N];
    static float s[N], t[N];
    double best64 = HUGE_VAL, best32 = HUGE_VAL;
    for (int i = 0; i < N; i++) x[i] = 4 * uniform(), s[i] = (float)x[i];
    for (int k = 0; k < 30; k++) {
        double a = now();
        for (int p = 0; p < PASSES; p++) c->f64(N, x, y);
        double b = now();
        for (int p = 0; p < PASSES; p++) c->f32(N, s, t);
        double e = now();
        best64 = fmin(best64, b - a), best32 = fmin(best32, e - b);
    }
    printf("%-9s %s  ns per element: f64 %.3f  f32 %.3f\n", c->name, isa(), best64 / N / PASSES, best32 / N / PASSES);
}

int main(int argc, char **argv) {
    int timed = 0, quick = 0;
    for (int i = 1; i < argc; i++) timed |= !strcmp(argv[i], "--time"), quick |= !strcmp(argv[i], "--quick");
    primitives();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        specials(cases + i);
        independence(cases + i);
        sweep(cases + i, quick ? 100000 : 1500000, quick ? 40009 : 4001);
        if (timed) timing(cases + i);
    }
    power_sweep(quick ? 200000 : 6000000);
    power_edges();
    power_independence();
    if (timed) power_timing();
    printf(failures ? "%d failures\n" : "ok\n", failures);
    return failures != 0;
}
