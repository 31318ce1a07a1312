/* LU factors of a matrix a lane, A[row][column][lane], in place: L below the diagonal, U on and above it, but for the diagonal,
   which holds 1 / u_kk. Each lane has pivots of its own: a row is exchanged with one below it whose entry in the column is more
   than PN_PIVOT times as large. swap[k][lane] is the row that row k was exchanged with. A singular matrix leaves infinities,
   one with entries that are not finite leaves NaN: no step survives either. */

#define PN_PIVOT 10 /* an exchange costs much in lanes: not for a factor that rounding does not notice */

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
    int any = 0;
    for (int l = 0; l < L; l++) any |= x[l] != 0;
    return any;
}

/* Choose the pivots of column k, and exchange the rows. 1: some lane exchanged. */
static int FN(pivot)(T *A, T *swap, int32_t d, int32_t k) {
    T most[L], own[L], *to = swap + (size_t)k * L;
    size_t row = (size_t)d * L;
    int moved = 0;
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

static void FN(factor)(T *A, T *swap, unsigned char *moved, int32_t d) {
    size_t row = (size_t)d * L;
    for (int32_t k = 0; k < d; k++) {
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

/* b (d, L) <- A^-1 b */
static void FN(lu_solve)(const T *A, const T *swap, const unsigned char *moved, T *b, int32_t d) {
    size_t row = (size_t)d * L;
    for (int32_t k = 0; k < d; k++)
        if (moved[k]) FN(exchange)(swap, b, k);
    for (int32_t i = 1; i < d; i++)
        for (int32_t k = 0; k < i; k++) FN(eliminate)(b + (size_t)i * L, b + (size_t)k * L, A + (size_t)i * row + (size_t)k * L, 1);
    for (int32_t i = d; i-- > 0;) {
        T *x = b + (size_t)i * L;
        const T *own = A + (size_t)i * row + (size_t)i * L;
        for (int32_t k = i + 1; k < d; k++) FN(eliminate)(x, b + (size_t)k * L, A + (size_t)i * row + (size_t)k * L, 1);
        for (int l = 0; l < L; l++) x[l] *= own[l];
    }
}

/* b (d, L) <- A^-T b */
static void FN(lu_solve_t)(const T *A, const T *swap, const unsigned char *moved, T *b, int32_t d) {
    size_t row = (size_t)d * L;
    for (int32_t k = 0; k < d; k++) {
        T *x = b + (size_t)k * L;
        const T *own = A + (size_t)k * row + (size_t)k * L;
        for (int l = 0; l < L; l++) x[l] *= own[l];
        FN(eliminate)(x + L, own + L, x, d - k - 1);
    }
    for (int32_t k = d; k-- > 0;) FN(eliminate)(b, A + (size_t)k * row, b + (size_t)k * L, k);
    for (int32_t k = d; k-- > 0;)
        if (moved[k]) FN(exchange)(swap, b, k);
}
