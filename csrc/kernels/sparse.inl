/* LU factors of a sparse matrix a lane on the pattern that all lanes share (solve/pattern.h): A[place][lane] in place, L without its
   diagonal of ones, U with 1 / u_ii on its own. Pivots are those of the pattern's order. Row i of |L| |U| bounds the rounding in
   that row of A: a lane where some row of it is more than PN_TRUSTED times that of A, or is not finite, has its matrix factored anew as
   a full one with partial pivoting, by itself. The measure does not depend on the units of equations, and what is done in a lane
   depends on that lane alone. */

#define PN_TRUSTED 1e3 /* digits that may be lost: three */

/* Full matrices of single lanes, and which lanes have one. */
typedef struct FN(whole) {
    size_t stride; /* of a row, in whole vectors */
    T *A;          /* (L, d, stride); memory that is not used is not touched */
    int32_t *swap; /* (L, d) the row that row k was exchanged with */
    T *b;          /* (L, stride) right-hand sides */
    int any;
    unsigned char used[L];
} FN(whole);

static int FN(allocate_whole)(FN(whole) * w, int32_t d) {
    w->stride = ((size_t)d + VE - 1) / VE * VE;
    w->A = malloc(L * (size_t)d * w->stride * sizeof(T));
    w->swap = malloc(L * (size_t)d * sizeof *w->swap);
    w->b = malloc(L * w->stride * sizeof(T));
    return w->A && w->swap && w->b;
}

static void FN(free_whole)(FN(whole) * w) {
    free(w->A);
    free(w->swap);
    free(w->b);
}

/* a -= f b, n entries rounded up to vectors */
static inline void FN(row_less)(T *a, const T *b, T f, size_t n) {
    for (size_t e = 0; e < n; e += VE) V(store)(a + e, V(load)(a + e) - V(set1)(f) * V(load)(b + e));
}

static void FN(whole_factor)(const FN(whole) * w, int l, int32_t d) {
    T *A = w->A + (size_t)l * (size_t)d * w->stride;
    int32_t *swap = w->swap + (size_t)l * (size_t)d;
    for (int32_t k = 0; k < d; k++) {
        T *pivot = A + (size_t)k * w->stride, most = 0;
        swap[k] = k;
        for (int32_t i = k; i < d; i++) {
            T x = A[(size_t)i * w->stride + (size_t)k];
            x = x < 0 ? -x : x;
            if (x > most) most = x, swap[k] = i;
        }
        T *other = A + (size_t)swap[k] * w->stride;
        for (size_t e = 0; other != pivot && e < w->stride; e += VE) {
            vec x = V(load)(pivot + e);
            V(store)(pivot + e, V(load)(other + e));
            V(store)(other + e, x);
        }
        pivot[k] = 1 / pivot[k] + 0 * pivot[k];
        size_t from = ((size_t)k + 1) / VE * VE; /* whole vectors: what lies before column k + 1 is put back */
        for (int32_t i = k + 1; i < d; i++) {
            T *row = A + (size_t)i * w->stride, f = row[k] * pivot[k], kept[VE];
            if (f == 0) continue;
            V(store)(kept, V(load)(row + from)); /* a row is longer than a vector from there: see allocate_whole */
            FN(row_less)(row + from, pivot + from, f, w->stride - from);
            for (size_t e = from; e <= (size_t)k; e++) row[e] = kept[e - from];
            row[k] = f;
        }
    }
}

/* b <- A^-1 b, or A^-T b; (d) */
static void FN(whole_solve)(const FN(whole) * w, int l, T *b, int32_t d, int transposed) {
    const T *A = w->A + (size_t)l * (size_t)d * w->stride;
    const int32_t *swap = w->swap + (size_t)l * (size_t)d;
    for (int32_t k = 0; !transposed && k < d; k++) {
        T x = b[k];
        b[k] = b[swap[k]];
        b[swap[k]] = x;
    }
    for (int32_t i = 0; i < d; i++) {
        const T *row = A + (size_t)i * w->stride;
        if (transposed) {
            b[i] *= row[i];
            for (int32_t j = i + 1; j < d; j++) b[j] -= row[j] * b[i];
        } else
            for (int32_t j = 0; j < i; j++) b[i] -= row[j] * b[j];
    }
    for (int32_t i = d; i-- > 0;) {
        const T *row = A + (size_t)i * w->stride;
        if (transposed) {
            for (int32_t j = 0; j < i; j++) b[j] -= row[j] * b[i];
            continue;
        }
        for (int32_t j = i + 1; j < d; j++) b[i] -= row[j] * b[j];
        b[i] *= row[i];
    }
    for (int32_t k = d; transposed && k-- > 0;) {
        T x = b[k];
        b[k] = b[swap[k]];
        b[swap[k]] = x;
    }
}

/* ---- on the pattern ------------------------------------------------------------------------------------------------------- */
/* Rows of L numbers in registers. */
#if PN_BLOCK
typedef struct FN(lanes) {
    vec v[NV];
} FN(lanes);
#define LOAD(x, p) PN_UNROLL for (size_t v = 0; v < NV; v++) (x).v[v] = V(load)((p) + v * VE)
#define STORE(p, x) PN_UNROLL for (size_t v = 0; v < NV; v++) V(store)((p) + v * VE, (x).v[v])
#define LESS(x, a, p) PN_UNROLL for (size_t v = 0; v < NV; v++) (x).v[v] -= (a).v[v] * V(load)((p) + v * VE)
#define TIMES(x, p) PN_UNROLL for (size_t v = 0; v < NV; v++) (x).v[v] *= V(load)((p) + v * VE)
#define FILL(x, a) PN_UNROLL for (size_t v = 0; v < NV; v++) (x).v[v] = V(set1)((T)(a))
#define ADD_SIZE(x, p) PN_UNROLL for (size_t v = 0; v < NV; v++) (x).v[v] += V(abs)(V(load)((p) + v * VE))
#define ADD_SIZES(x, f, p) PN_UNROLL for (size_t v = 0; v < NV; v++) (x).v[v] += V(abs)((f).v[v]) * V(load)((p) + v * VE)
#define NOTE_GROWTH(x, a, b, c)                                                                                                \
    PN_UNROLL for (size_t v = 0; v < NV; v++)                                                                                  \
        (x).v[v] = V(sel)((b).v[v] + (c).v[v] <= V(set1)((T)PN_TRUSTED) * (a).v[v], (x).v[v], V(set1)((T)1))
#else
typedef T FN(lanes);
#define LOAD(x, p) x = *(p)
#define STORE(p, x) *(p) = x
#define LESS(x, a, p) x -= (a) * *(p)
#define TIMES(x, p) x *= *(p)
#define FILL(x, a) x = (T)(a)
#define ADD_SIZE(x, p) x += *(p) < 0 ? -*(p) : *(p)
#define ADD_SIZES(x, f, p) x += ((f) < 0 ? -(f) : (f)) * *(p)
#define NOTE_GROWTH(x, a, b, c) x = (b) + (c) <= (T)PN_TRUSTED * (a) ? x : 1
#endif

/* Factors of A; bad[l] = 1: not those of lane l. 1: some lane's are not. size (d, L) is used up: of the rows of U. */
static int FN(sparse_factor)(const pn_pattern *p, T *A, T *size, unsigned char *bad) {
    const int32_t *target = p->target;
    FN(lanes) lost, none;
    FILL(lost, 0);
    FILL(none, 0);
    for (int32_t i = 0; i < p->d; i++) {
        const int32_t diag = p->diag[i], last = p->start[i + 1];
        FN(lanes) before = none, after = none, f;
        for (int32_t e = p->start[i]; e < last; e++) ADD_SIZE(before, A + (size_t)e * L);
        for (int32_t e = p->start[i]; e < diag; e++) {
            int32_t k = p->column[e], end = p->start[k + 1];
            LOAD(f, A + (size_t)e * L);
            TIMES(f, A + (size_t)p->diag[k] * L);
            STORE(A + (size_t)e * L, f);
            ADD_SIZES(after, f, size + (size_t)k * L);
            for (int32_t u = p->diag[k] + 1; u < end; u++) {
                T *a = A + (size_t)*target++ * L;
                FN(lanes) x;
                LOAD(x, a);
                LESS(x, f, A + (size_t)u * L);
                STORE(a, x);
            }
        }
        FN(lanes) own = none;
        for (int32_t e = diag; e < last; e++) ADD_SIZE(own, A + (size_t)e * L);
        STORE(size + (size_t)i * L, own);
        NOTE_GROWTH(lost, before, after, own);
        T *pivot = A + (size_t)diag * L;
        for (int l = 0; l < L; l++) pivot[l] = 1 / pivot[l] + 0 * pivot[l]; /* 1 / infinity must not be 0: nothing would move */
    }
    T found[L];
    int any = 0;
    STORE(found, lost);
    for (int l = 0; l < L; l++) bad[l] = found[l] != 0;
    for (int32_t i = 0; i < p->d; i++) /* the last pivots, which nothing was divided by */
        for (size_t l = 0; l < L; l++) bad[l] |= A[(size_t)p->diag[i] * L + l] * 0 != 0;
    for (int l = 0; l < L; l++) any |= bad[l];
    return any;
}

/* b (d, L) from equations to components, or back; x (d, L) is used up. */
static void FN(rearrange)(const pn_pattern *p, T *b, T *x, int back) {
    memcpy(x, b, (size_t)p->d * L * sizeof(T));
    for (int32_t c = 0; c < p->d; c++) {
        T *to = b + (size_t)(back ? p->equation[c] : c) * L;
        const T *from = x + (size_t)(back ? c : p->equation[c]) * L;
        for (int l = 0; l < L; l++) to[l] = from[l];
    }
}

/* b (d, L) <- A^-1 b; x (d, L) is used up */
static void FN(sparse_solve)(const pn_pattern *p, const T *A, T *b, T *x) {
    if (p->exchanged) FN(rearrange)(p, b, x, 0);
    for (int32_t i = 0; i < p->d; i++) {
        T *own = b + (size_t)p->label[i] * L;
        FN(lanes) sum, other;
        if (p->start[i] == p->diag[i]) continue;
        LOAD(sum, own);
        for (int32_t e = p->start[i]; e < p->diag[i]; e++) {
            LOAD(other, b + (size_t)p->of[e] * L);
            LESS(sum, other, A + (size_t)e * L);
        }
        STORE(own, sum);
    }
    for (int32_t i = p->d; i-- > 0;) {
        T *own = b + (size_t)p->label[i] * L;
        FN(lanes) sum, other;
        LOAD(sum, own);
        for (int32_t e = p->diag[i] + 1; e < p->start[i + 1]; e++) {
            LOAD(other, b + (size_t)p->of[e] * L);
            LESS(sum, other, A + (size_t)e * L);
        }
        TIMES(sum, A + (size_t)p->diag[i] * L);
        STORE(own, sum);
    }
}

/* b (d, L) <- A^-T b */
static void FN(sparse_solve_t)(const pn_pattern *p, const T *A, T *b, T *x) {
    for (int32_t i = 0; i < p->d; i++) {
        T *own = b + (size_t)p->label[i] * L;
        FN(lanes) mine, other;
        LOAD(mine, own);
        TIMES(mine, A + (size_t)p->diag[i] * L);
        STORE(own, mine);
        for (int32_t e = p->diag[i] + 1; e < p->start[i + 1]; e++) {
            T *to = b + (size_t)p->of[e] * L;
            LOAD(other, to);
            LESS(other, mine, A + (size_t)e * L);
            STORE(to, other);
        }
    }
    for (int32_t i = p->d; i-- > 0;) {
        FN(lanes) mine, other;
        LOAD(mine, b + (size_t)p->label[i] * L);
        for (int32_t e = p->start[i]; e < p->diag[i]; e++) {
            T *to = b + (size_t)p->of[e] * L;
            LOAD(other, to);
            LESS(other, mine, A + (size_t)e * L);
            STORE(to, other);
        }
    }
    if (p->exchanged) FN(rearrange)(p, b, x, 1);
}
#undef LOAD
#undef STORE
#undef LESS
#undef TIMES
#undef FILL
#undef ADD_SIZE
#undef ADD_SIZES
#undef NOTE_GROWTH
