/* LU factors of a matrix a lane, A[row][column][lane], in place: L below the diagonal, U on and above it, but for the diagonal,
   which holds 1 / u_kk. Each lane has pivots of its own: a row is exchanged with one below it whose entry in the column is more
   than PN_PIVOT times as large. swap[k][lane] is the row that row k was exchanged with. A singular matrix leaves infinities,
   one with entries that are not finite leaves NaN: no step survives either. */

#define PN_PIVOT 10 /* an exchange costs much in lanes: not for a factor that rounding does not notice */

#if !PN_BLOCK
/* sum_k a_k b_k, n terms, in four vectors of sums: a chain of additions would wait four cycles for each */
static __attribute__((noinline)) T FN(dot)(const T *a, const T *b, size_t n) {
    vec s[4] = {V(set1)((T)0), V(set1)((T)0), V(set1)((T)0), V(set1)((T)0)};
    size_t k = 0;
    for (; k + 4 * VE <= n; k += 4 * VE)
        for (size_t v = 0; v < 4; v++) s[v] += V(load)(a + k + v * VE) * V(load)(b + k + v * VE);
    for (; k + VE <= n; k += VE) s[0] += V(load)(a + k) * V(load)(b + k);
    T sum = n < VE ? 0 : V(hsum)((s[0] + s[1]) + (s[2] + s[3]));
    for (; k < n; k++) sum += a[k] * b[k];
    return sum;
}
#endif

/* to -= f from, n entries of rows; f (L) */
static inline void FN(eliminate)(T *restrict to, const T *restrict from, const T *f, int32_t n) {
#if PN_BLOCK
    vec x[NV];
    for (size_t v = 0; v < NV; v++) x[v] = V(load)(f + v * VE);
    for (size_t e = 0; e < (size_t)n * L; e += L)
        for (size_t v = 0; v < NV; v++) V(store)(to + e + v * VE, V(load)(to + e + v * VE) - x[v] * V(load)(from + e + v * VE));
#else
    for (int32_t j = 0; j < n; j++) to[j] -= f[0] * from[j];
#endif
}

/* Whether some lane's number is not 0 (NaN is not). */
static inline int FN(some)(const T *x) {
#if PN_BLOCK
    int any = 0;
    for (size_t v = 0; v < L; v += VE) any |= V(any)(V(load)(x + v) != V(set1)((T)0));
    return any;
#else
    return x[0] != 0;
#endif
}

/* Whether some lane has an entry below the diagonal of column k that is more than PN_PIVOT times as large. */
static inline int FN(must_pivot)(const T *A, int32_t d, int32_t k) {
    const T *column = A + (size_t)k * L;
    size_t row = (size_t)d * L;
#if PN_BLOCK
    int any = 0;
    for (size_t v = 0; v < L; v += VE) {
        vec most = V(set1)((T)0);
        for (int32_t i = k + 1; i < d; i++) {
            vec x = V(abs)(V(load)(column + (size_t)i * row + v));
            most = V(sel)(x > most, x, most);
        }
        any |= V(any)(most > V(set1)((T)PN_PIVOT) * V(abs)(V(load)(column + (size_t)k * row + v)));
    }
    return any;
#else
    T own = column[(size_t)k * row], least = PN_PIVOT * (own < 0 ? -own : own);
    int any = 0;
    for (int32_t i = k + 1; i < d; i++) any |= (column[(size_t)i * row] > least) | (-column[(size_t)i * row] > least);
    return any;
#endif
}

/* Choose the pivots of column k, and exchange the rows. 1: some lane exchanged. */
static int FN(pivot)(T *A, T *swap, int32_t d, int32_t k) {
    T most[L], own[L], *to = swap + (size_t)k * L;
    size_t row = (size_t)d * L;
    int moved = 0;
    if (!FN(must_pivot)(A, d, k)) return 0;
    for (int l = 0; l < L; l++) {
        T x = A[(size_t)k * row + (size_t)k * L + (size_t)l];
        own[l] = most[l] = x < 0 ? -x : x;
        to[l] = (T)k;
    }
    for (int32_t i = k + 1; i < d; i++)
        for (int l = 0; l < L; l++) {
            T x = A[(size_t)i * row + (size_t)k * L + (size_t)l];
            x = x < 0 ? -x : x;
            to[l] = x > most[l] ? (T)i : to[l];
            most[l] = x > most[l] ? x : most[l];
        }
    for (int l = 0; l < L; l++) {
        to[l] = most[l] > PN_PIVOT * own[l] ? to[l] : (T)k;
        moved |= to[l] != (T)k;
    }
    for (int32_t i = k + 1; moved && i < d; i++) {
        int here = 0;
        for (int l = 0; l < L; l++) here |= to[l] == (T)i;
        if (!here) continue;
        T *a = A + (size_t)k * row, *b = A + (size_t)i * row;
        for (size_t e = 0; e < row; e += L)
            for (size_t l = 0; l < L; l++) {
                T x = a[e + l], y = b[e + l];
                a[e + l] = to[l] == (T)i ? y : x;
                b[e + l] = to[l] == (T)i ? x : y;
            }
    }
    return moved;
}

#if !PN_BLOCK && !PN_F32
enum { FN(TOGETHER) = 4 }; /* columns whose pivots change the rest of the matrix in one pass */

/* The first columns of a matrix of one lane, while more than four times as many are left: rows are read and written once for several
   pivots. Entries change in the same order as one column after the other. Where the rest begins. */
static __attribute__((noinline)) int32_t FN(factor_panels)(T *A, T *swap, unsigned char *moved, int32_t d) {
    size_t row = (size_t)d;
    int32_t from = 0;
    for (; from + 4 * FN(TOGETHER) <= d; from += FN(TOGETHER)) {
        const int32_t end = from + FN(TOGETHER);
        T *rest = A + end, *p = A + (size_t)from * row + end;
        for (int32_t k = from; k < end; k++) {
            moved[k] = (unsigned char)FN(pivot)(A, swap, d, k);
            T *pivot = A + (size_t)k * row + (size_t)k;
            pivot[0] = 1 / pivot[0] + 0 * pivot[0];
            for (int32_t i = k + 1; i < d; i++) {
                T *f = A + (size_t)i * row + (size_t)k;
                if (f[0] == 0) continue;
                f[0] *= pivot[0];
                for (int32_t j = 1; j < end - k; j++) f[j] -= f[0] * pivot[j];
            }
        }
        for (int32_t i = from + 1; i < end; i++)
            for (int32_t k = from; k < i; k++)
                FN(eliminate)(rest + (size_t)i * row, rest + (size_t)k * row, A + (size_t)i * row + (size_t)k, d - end);
        for (int32_t i = end; i < d; i++) {
            const T *f = A + (size_t)i * row + (size_t)from;
            const T a = f[0], b = f[1], c = f[2], e = f[3];
            if (!((a != 0) | (b != 0) | (c != 0) | (e != 0))) continue;
            T *restrict to = rest + (size_t)i * row;
            for (int32_t j = 0; j < d - end; j++)
                to[j] = to[j] - a * p[j] - b * p[row + (size_t)j] - c * p[2 * row + (size_t)j] - e * p[3 * row + (size_t)j];
        }
    }
    return from;
}
#endif

static __attribute__((noinline)) void FN(factor)(T *A, T *swap, unsigned char *moved, int32_t d) {
    size_t row = (size_t)d * L;
#if PN_BLOCK || PN_F32 /* stiff equations are solved in double precision, and wheels are small */
    const int32_t first = 0;
#else
    const int32_t first = FN(factor_panels)(A, swap, moved, d);
#endif
    for (int32_t k = first; k < d; k++) {
        moved[k] = (unsigned char)FN(pivot)(A, swap, d, k);
        T *pivot = A + (size_t)k * row + (size_t)k * L;
        for (int l = 0; l < L; l++) pivot[l] = 1 / pivot[l] + 0 * pivot[l]; /* 1 / infinity must not be 0: nothing would move */
        for (int32_t i = k + 1; i < d; i++) {
            T *f = A + (size_t)i * row + (size_t)k * L;
            if (!FN(some)(f)) continue; /* matrices of many equations are mostly 0 */
            for (int l = 0; l < L; l++) f[l] *= pivot[l];
            FN(eliminate)(f + L, pivot + L, f, d - k - 1);
        }
    }
}

static void FN(exchange)(const T *swap, T *b, int32_t k) {
    for (size_t l = 0; l < L; l++) {
        size_t i = (size_t)swap[(size_t)k * L + l];
        T x = b[(size_t)k * L + l];
        b[(size_t)k * L + l] = b[i * L + l];
        b[i * L + l] = x;
    }
}

/* The same for few equations: D is a constant where this is inlined, all of b stays in registers. */
static inline __attribute__((always_inline)) void FN(solve_few)(const int D, const int transposed, const T *A, T *b) {
    enum { MOST = 4 };
#if PN_BLOCK
#define AT(i, k) V(load)(A + (size_t)((i) * D + (k)) * L + v)
    for (size_t v = 0; v < L; v += VE) {
        vec x[MOST];
        PN_UNROLL for (int i = 0; i < D; i++) x[i] = V(load)(b + (size_t)i * L + v);
#else
#define AT(i, k) A[(i) * D + (k)]
    {
        T x[MOST];
        PN_UNROLL for (int i = 0; i < D; i++) x[i] = b[i];
#endif
        if (transposed) {
            PN_UNROLL for (int k = 0; k < D; k++) {
                x[k] *= AT(k, k);
                PN_UNROLL for (int i = k + 1; i < D; i++) x[i] -= AT(k, i) * x[k];
            }
            PN_UNROLL for (int k = D; k-- > 0;) PN_UNROLL for (int i = 0; i < k; i++) x[i] -= AT(k, i) * x[k];
        } else {
            PN_UNROLL for (int i = 1; i < D; i++) PN_UNROLL for (int k = 0; k < i; k++) x[i] -= AT(i, k) * x[k];
            PN_UNROLL for (int i = D; i-- > 0;) {
                PN_UNROLL for (int k = i + 1; k < D; k++) x[i] -= AT(i, k) * x[k];
                x[i] *= AT(i, i);
            }
        }
#if PN_BLOCK
        PN_UNROLL for (int i = 0; i < D; i++) V(store)(b + (size_t)i * L + v, x[i]);
#else
        vec all = V(set1)((T)0); /* as one vector, as which it is read next */
        PN_UNROLL for (int i = 0; i < (D < (int)VE ? D : (int)VE); i++) all[i] = x[i];
        if (D <= VE) V(store)(b, all);
        else PN_UNROLL for (int i = 0; i < D; i++) b[i] = x[i];
#endif
    }
#undef AT
}

static inline int FN(few)(int transposed, const T *A, T *b, int32_t d) {
    switch (2 * d + transposed) {
    case 2: FN(solve_few)(1, 0, A, b); return 1;
    case 3: FN(solve_few)(1, 1, A, b); return 1;
    case 4: FN(solve_few)(2, 0, A, b); return 1;
    case 5: FN(solve_few)(2, 1, A, b); return 1;
    case 6: FN(solve_few)(3, 0, A, b); return 1;
    case 7: FN(solve_few)(3, 1, A, b); return 1;
    case 8: FN(solve_few)(4, 0, A, b); return 1;
    case 9: FN(solve_few)(4, 1, A, b); return 1;
    default: return 0;
    }
}

/* x - sum_k a_k b_k, n terms */
static inline void FN(less)(T *restrict x, const T *a, const T *b, int32_t n) {
#if PN_BLOCK
    vec sum[NV];
    for (size_t v = 0; v < NV; v++) sum[v] = V(load)(x + v * VE);
    for (size_t e = 0; e < (size_t)n * L; e += L)
        for (size_t v = 0; v < NV; v++) sum[v] -= V(load)(a + e + v * VE) * V(load)(b + e + v * VE);
    for (size_t v = 0; v < NV; v++) V(store)(x + v * VE, sum[v]);
#else
    x[0] -= FN(dot)(a, b, (size_t)n);
#endif
}

/* b (d, L) <- A^-1 b */
static void FN(lu_solve)(const T *A, const T *swap, const unsigned char *moved, T *b, int32_t d) {
    size_t row = (size_t)d * L;
    for (int32_t k = 0; k < d; k++)
        if (moved[k]) FN(exchange)(swap, b, k);
    if (FN(few)(0, A, b, d)) return;
    for (int32_t i = 1; i < d; i++) FN(less)(b + (size_t)i * L, A + (size_t)i * row, b, i);
    for (int32_t i = d; i-- > 0;) {
        T *x = b + (size_t)i * L;
        const T *own = A + (size_t)i * row + (size_t)i * L;
        FN(less)(x, own + L, x + L, d - i - 1);
        for (int l = 0; l < L; l++) x[l] *= own[l];
    }
}

/* b (d, L) <- A^-T b */
static void FN(lu_solve_t)(const T *A, const T *swap, const unsigned char *moved, T *b, int32_t d) {
    size_t row = (size_t)d * L;
    if (!FN(few)(1, A, b, d)) {
        for (int32_t k = 0; k < d; k++) {
            T *x = b + (size_t)k * L;
            const T *own = A + (size_t)k * row + (size_t)k * L;
            for (int l = 0; l < L; l++) x[l] *= own[l];
            FN(eliminate)(x + L, own + L, x, d - k - 1);
        }
        for (int32_t k = d; k-- > 0;) FN(eliminate)(b, A + (size_t)k * row, b + (size_t)k * L, k);
    }
    for (int32_t k = d; k-- > 0;)
        if (moved[k]) FN(exchange)(swap, b, k);
}
