/* Affine maps and the accumulation of weight gradients: where the time of a network goes. Two ways to put work into
   vectors: a block of L samples (each weight broadcast once to NV vectors of lanes, MR outputs kept in registers), or
   one sample with its features side by side (weights packed once a solve in padded rows and padded columns). */

static inline size_t FN(padded)(int32_t n) { return ((size_t)n + PN_PAD - 1) / PN_PAD * PN_PAD; }

/* Where a matrix is packed. */
static inline T *FN(packed)(const FN(exec) * E, const pn_decoded *x) {
    T *all = x->k == PN_CONSTANT ? E->fixed : E->pack;
    if (x->pack < 0) return all + E->lay->pack_size - 1 - x->pack; /* two lanes pack what one lane reads as it is */
    return all + x->pack + (PN_PAIR && x->op == PN_OP_AFFINE ? (size_t)x->m * FN(padded)(x->n) : 0);
}

/* Where the matrix of an affine map is read. */
static inline const T *FN(matrix)(const FN(exec) * E, const pn_decoded *x) {
    return x->pack < 0 && !PN_PAIR ? E->theta[x->k] + x->p : FN(packed)(E, x);
}

#if PN_VBYTES == 64
#define MR 8 /* 16 accumulators of 32 registers */
#else
#define MR 4
#endif

#include "kernels/product.inl"

/* Elements o .. o + VE - 1 of a bias of m, zeros beyond its end. */
static inline vec FN(bias_at)(const T *bias, size_t o, size_t m) {
    T tail[VE] = {0};
    if (!bias) return V(set1)((T)0);
    if (o + VE <= m) return V(load)(bias + o);
    for (size_t i = o; i < m; i++) tail[i - o] = bias[i];
    return V(load)(tail);
}

#if PN_WHOLE_VECTORS
/* Packed weights: panels of R <= MR outputs, panel[j][k] = W[o + k][j]; of a transposed product W[j][o + k], where W is large: every
   row of such a panel would be a page of its own. */
static void FN(pack_one)(const pn_decoded *x, const T *W, T *pack) {
    const size_t by_k = x->op == PN_OP_AFFINE ? (size_t)x->n : 1, by_j = x->op == PN_OP_AFFINE ? 1 : (size_t)x->m;
    for (int32_t o = 0; o < x->m;) {
        int32_t left = x->m - o, R = left >= MR ? MR : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        T *panel = pack + (size_t)o * (size_t)x->n;
        for (int32_t j = 0; j < x->n; j++)
            for (int32_t k = 0; k < R; k++) panel[j * R + k] = W[(size_t)(o + k) * by_k + (size_t)j * by_j];
        o += R;
    }
}

enum { FN(AHEAD) = 64 }; /* features whose weights are asked for early */

/* out[k] = bias[k] + sum_j w[j * step + k] x[j], R outputs; lanes in NV vectors; far: the weights are not in the second-level cache */
static inline __attribute__((always_inline)) void FN(panel)(const int R, const int far, T *out, const T *bias, const T *w, size_t step,
                                                            const T *x, int32_t n) {
    vec acc[8][NV];
    for (int k = 0; k < R; k++)
        for (int v = 0; v < NV; v++) acc[k][v] = V(set1)(bias ? bias[k] : (T)0);
    for (int32_t j = 0; j < n; j++) {
        vec xv[NV];
        for (int v = 0; v < NV; v++) xv[v] = V(load)(x + (size_t)j * L + (size_t)v * VE);
        if (far) __builtin_prefetch(w + ((size_t)j + FN(AHEAD)) * step);
#pragma GCC unroll 8
        for (int k = 0; k < R; k++) {
            vec wk = V(set1)(w[(size_t)j * step + (size_t)k]);
            for (int v = 0; v < NV; v++) acc[k][v] += wk * xv[v];
        }
    }
    for (int k = 0; k < R; k++)
        for (int v = 0; v < NV; v++) V(store)(out + (size_t)k * L + (size_t)v * VE, acc[k][v]);
}

/* The first R = MR, 4, 2 or 1 of the `left` outputs that are left; step 0: the weights are packed, R a feature; far: so are those of a large matrix */
static inline __attribute__((always_inline)) int32_t FN(panels)(int32_t left, int far, T *out, const T *bias, const T *w, size_t step, const T *x,
                                                                int32_t n) {
    if (PN_VBYTES >= 32 && far && left >= MR) return FN(panel)(MR, 1, out, bias, w, MR, x, n), MR;
    if (left >= MR) return FN(panel)(MR, 0, out, bias, w, step ? step : MR, x, n), MR;
    if (left >= 4) return FN(panel)(4, 0, out, bias, w, step ? step : 4, x, n), 4;
    if (left >= 2) return FN(panel)(2, 0, out, bias, w, step ? step : 2, x, n), 2;
    return FN(panel)(1, 0, out, bias, w, step ? step : 1, x, n), 1;
}

/* The same with weights of its own in every lane: out[k] = bias[k] + sum_j w[j step_j + k step_k] x[j], each of L numbers.
   Products are added in the order of `panel`, so that equal weights give equal bits. */
static inline __attribute__((always_inline)) void FN(own_panel)(const int R, T *out, const T *bias, const T *w, size_t step_k,
                                                                size_t step_j, const T *x, int32_t n) {
    for (size_t v = 0; v < L; v += VE) {
        vec acc[4];
        for (int k = 0; k < R; k++) acc[k] = bias ? V(load)(bias + (size_t)k * L + v) : V(set1)((T)0);
        for (size_t j = 0; j < (size_t)n; j++) {
            vec xv = V(load)(x + j * L + v);
#pragma GCC unroll 4
            for (int k = 0; k < R; k++) acc[k] += V(load)(w + (j * step_j + (size_t)k * step_k) * L + v) * xv;
        }
        for (int k = 0; k < R; k++) V(store)(out + (size_t)k * L + v, acc[k]);
    }
}

/* m outputs of n features each */
static void FN(own_affine)(T *out, const T *bias, const T *w, size_t step_k, size_t step_j, const T *x, int32_t m, int32_t n) {
    int32_t o = 0;
    for (; o + 4 <= m; o += 4)
        FN(own_panel)(4, out + (size_t)o * L, bias ? bias + (size_t)o * L : NULL, w + (size_t)o * step_k * L, step_k, step_j, x, n);
    for (; o < m; o++)
        FN(own_panel)(1, out + (size_t)o * L, bias ? bias + (size_t)o * L : NULL, w + (size_t)o * step_k * L, step_k, step_j, x, n);
}

static void FN(affine)(const FN(exec) * E, const pn_decoded *x, T *out, const T *a) {
    if (E->worn && x->k != PN_CONSTANT) {
        const T *own_bias = x->q < 0 ? NULL : E->worn + (size_t)x->q * L;
        FN(own_affine)(out, own_bias, E->worn + (size_t)x->p * L, (size_t)x->n, 1, a, x->m, x->n);
        if (x->act != PN_N_OPS) V(unary)(x->act, out, out, (size_t)x->m * L);
        return;
    }
    const T *bias = x->q < 0 ? NULL : E->theta[x->k] + x->q, *W = FN(matrix)(E, x);
    const int far = pn_is_large(x->m, x->n);
    for (int32_t o = 0, R; o < x->m; o += R) {
        T *to = out + (size_t)o * L;
        R = FN(panels)(x->m - o, far, to, bias ? bias + o : NULL, W + (size_t)o * (size_t)x->n, 0, a, x->n);
        if (x->act != PN_N_OPS) V(unary)(x->act, to, to, (size_t)R * L);
    }
}

static void FN(affine_t)(const FN(exec) * E, const pn_decoded *x, T *out, const T *a) {
    if (E->worn && x->k != PN_CONSTANT) {
        FN(own_affine)(out, NULL, E->worn + (size_t)x->p * L, 1, (size_t)x->m, a, x->m, x->n);
        return;
    }
    const int packed = x->pack >= 0, far = packed && pn_is_large(x->m, x->n);
    const T *W = FN(matrix)(E, x); /* (n, m): its rows are the operand's features */
    const size_t next = packed ? (size_t)x->n : 1, step = packed ? 0 : (size_t)x->m;
    for (int32_t o = 0; o < x->m;) o += FN(panels)(x->m - o, far, out + (size_t)o * L, NULL, W + (size_t)o * next, step, a, x->n);
}

/* g[i n + j] += sum over files and lanes of a_i b_j: RA x RB <= 16 vector accumulators, summed up together at the end */
static inline __attribute__((always_inline)) void FN(outer_tile)(const int RA, const int RB, const int weighted, const T *A, const T *B,
                                                                 size_t stride_a, size_t stride_b, int n_files, const T *weight, double *g,
                                                                 size_t n) {
    vec acc[16], zero = V(set1)((T)0);
    T sum[16];
    PN_UNROLL for (int k = 0; k < 16; k++) acc[k] = zero;
    for (size_t f = 0; f < (size_t)n_files; f++)
#pragma GCC unroll 2
        for (size_t v = 0; v < L; v += VE) {
            const T *Af = A + f * stride_a + v, *Bf = B + f * stride_b + v;
            vec w = weighted ? V(load)(weight + f * L + v) : zero, bv[16];
#pragma GCC unroll 16
            for (int j = 0; j < RB; j++) {
                bv[j] = V(load)(Bf + (size_t)j * L);
                if (weighted) bv[j] = V(sel)(w == zero, zero, bv[j]);
            }
#pragma GCC unroll 16
            for (int i = 0; i < RA; i++) {
                vec av = V(load)(Af + (size_t)i * L);
                if (weighted) av = V(sel)(w == zero, zero, w * av);
#pragma GCC unroll 16
                for (int j = 0; j < RB; j++) acc[RB * i + j] += av * bv[j];
            }
        }
    V(sums)(sum, acc);
    for (int i = 0; i < RA; i++)
        for (int j = 0; j < RB; j++) g[(size_t)i * n + (size_t)j] += (double)sum[RB * i + j];
}

/* RA x RB tiles of m x n from (begin, start) on: TILE(RA, RB) at (i, j) */
#define TILES(begin, start)                                                                                            \
    for (int32_t i = begin, ra; i < x->m; i += ra) {                                                                   \
        ra = x->m - i >= 4 ? 4 : x->m - i >= 2 ? 2 : 1;                                                                \
        for (int32_t j = start, rb; j < x->n; j += rb) {                                                               \
            rb = x->n - j >= 4 ? 4 : x->n - j >= 2 ? 2 : 1;                                                            \
            if (ra == 4 && rb == 4) TILE(4, 4);                                                                        \
            else if (ra == 4 && rb == 2) TILE(4, 2);                                                                   \
            else if (ra == 4) TILE(4, 1);                                                                              \
            else if (ra == 2 && rb == 4) TILE(2, 4);                                                                   \
            else if (ra == 2 && rb == 2) TILE(2, 2);                                                                   \
            else if (ra == 2) TILE(2, 1);                                                                              \
            else if (rb == 4) TILE(1, 4);                                                                              \
            else if (rb == 2) TILE(1, 2);                                                                              \
            else TILE(1, 1);                                                                                           \
        }                                                                                                              \
    }

static inline __attribute__((always_inline)) void FN(outer_tiles)(const int weighted, const FN(exec) * E, const pn_decoded *x, T *files, size_t stride,
                                                                  int n_files, const T *weight, double *g) {
    const T *A = FN(at)(E, files, x->a), *B = FN(at)(E, files, x->b);
    size_t sa = x->a < 0 ? 0 : stride, sb = x->b < 0 ? 0 : stride, n = (size_t)x->n;
#define TILE(RA, RB)                                                                                                   \
    FN(outer_tile)(RA, RB, weighted, A + (size_t)i * L, B + (size_t)j * L, sa, sb, n_files, weight, g + (size_t)i * n + (size_t)j, n)
    int32_t rows = 0, columns = 0; /* of a column and of a row longer tiles */
    for (int32_t i = 0, j = 0; x->n == 1 && x->m - i >= 8; rows = i += 8) TILE(8, 1);
    for (int32_t i = 0, j = 0; x->m == 1 && x->n - j >= 8; columns = j += 8) TILE(1, 8);
    TILES(rows, columns)
#undef TILE
}

/* The same for large matrices as a matrix product over the S = n_files L samples of all stages, see product.inl. */
static void FN(fill_panel)(T *panel, const T *B, size_t stride, int n_files, int32_t columns) {
    for (int f = 0; f < n_files; f++)
        for (size_t v = 0; v < L; v += VE)
            for (int c = 0; c < FN(COLUMNS); c += VE) {
                const T *from = B + (size_t)f * stride + (size_t)c * L + v;
                T *to = panel + ((size_t)f * L + v) * FN(COLUMNS) + (size_t)c;
                vec t[VE];
                PN_UNROLL for (int k = 0; k < VE; k++) t[k] = c + k < columns ? V(load)(from + (size_t)k * L) : V(set1)((T)0);
                V(transpose)(t);
                PN_UNROLL for (int k = 0; k < VE; k++) V(store)(to + (size_t)k * FN(COLUMNS), t[k]);
            }
}

static void FN(outer_product)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files, double *g) {
    const T *A = FN(at)(E, files, x->a), *B = FN(at)(E, files, x->b);
    size_t sa = x->a < 0 ? 0 : stride, sb = x->b < 0 ? 0 : stride, n = (size_t)x->n;
    for (int32_t j = 0; j < x->n; j += FN(COLUMNS)) {
        int32_t columns = x->n - j < FN(COLUMNS) ? x->n - j : FN(COLUMNS);
        FN(fill_panel)(E->panel, B + (size_t)j * L, sb, n_files, columns);
        for (int32_t i = 0; i < x->m;)
            i += FN(product_rows)(x->m - i, A + (size_t)i * L, sa, n_files, E->panel, columns, g + (size_t)i * n + (size_t)j, n);
    }
}

static void FN(acc_outer)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files, double *g) {
    if (x->m >= 8 && 4 * x->n >= 3 * FN(COLUMNS)) FN(outer_product)(E, x, files, stride, n_files, g);
    else FN(outer_tiles)(0, E, x, files, stride, n_files, NULL, g);
}
static void FN(acc_outer_weighted)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files, const T *weight, double *g) {
    FN(outer_tiles)(1, E, x, files, stride, n_files, weight, g);
}

/* The same for each lane by itself: g[i n + j][lane] += sum over files of a_i b_j */
static inline __attribute__((always_inline)) void FN(lanes_tile)(const int RA, const int RB, const T *A, const T *B, size_t stride_a,
                                                                 size_t stride_b, int n_files, T *g, size_t n) {
    for (size_t v = 0; v < L; v += VE) {
        vec acc[4][4];
        for (int i = 0; i < RA; i++)
            for (int j = 0; j < RB; j++) acc[i][j] = V(load)(g + ((size_t)i * n + (size_t)j) * L + v);
        for (size_t f = 0; f < (size_t)n_files; f++) {
            vec bv[4];
#pragma GCC unroll 4
            for (int j = 0; j < RB; j++) bv[j] = V(load)(B + f * stride_b + (size_t)j * L + v);
#pragma GCC unroll 4
            for (int i = 0; i < RA; i++) {
                vec av = V(load)(A + f * stride_a + (size_t)i * L + v);
                for (int j = 0; j < RB; j++) acc[i][j] += av * bv[j];
            }
        }
        for (int i = 0; i < RA; i++)
            for (int j = 0; j < RB; j++) V(store)(g + ((size_t)i * n + (size_t)j) * L + v, acc[i][j]);
    }
}

static void FN(outer_lanes)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files, T *g) {
    const T *A = FN(at)(E, files, x->a), *B = FN(at)(E, files, x->b);
    size_t sa = x->a < 0 ? 0 : stride, sb = x->b < 0 ? 0 : stride, n = (size_t)x->n;
#define TILE(RA, RB) FN(lanes_tile)(RA, RB, A + (size_t)i * L, B + (size_t)j * L, sa, sb, n_files, g + ((size_t)i * n + (size_t)j) * L, n)
    TILES(0, 0)
#undef TILE
}
#undef TILES

static void FN(acc_lanes)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files, T *g) {
    const T *A = FN(at)(E, files, x->a);
    size_t sa = x->a < 0 ? 0 : stride;
    for (size_t i = 0; i < (size_t)x->m * L; i += VE) {
        vec acc = V(load)(g + i);
        for (size_t f = 0; f < (size_t)n_files; f++) acc += V(load)(A + f * sa + i);
        V(store)(g + i, acc);
    }
}

static void FN(acc)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files, const T *weight, double *g) {
    const T *A = FN(at)(E, files, x->a);
    size_t sa = x->a < 0 ? 0 : stride;
    vec zero = V(set1)((T)0);
    for (int32_t i = 0; i < x->m; i += 16) {
        int some = x->m - i < 16 ? x->m - i : 16;
        vec acc[16];
        T sum[16];
        for (int k = 0; k < 16; k++) acc[k] = zero;
        for (int k = 0; k < some; k++) {
            vec s = zero;
            for (size_t f = 0; f < (size_t)n_files; f++)
                for (size_t v = 0; v < L; v += VE) {
                    vec a = V(load)(A + f * sa + (size_t)(i + k) * L + v);
                    if (weight) {
                        vec w = V(load)(weight + f * L + v);
                        a = V(sel)(w == zero, zero, w * a);
                    }
                    s += a;
                }
            acc[k] = s;
        }
        V(sums)(sum, acc);
        for (int k = 0; k < some; k++) g[i + k] += (double)sum[k];
    }
}
#elif PN_PAIR
#include "kernels/few.inl"
#else /* one lane */
static const T FN(counting)[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* W (rows, cols) has room for being packed twice, rows padded to whole vectors, then columns padded; what the product reads is filled. */
static void FN(pack_one)(const pn_decoded *x, const T *W, T *pack) {
    const int is_affine = x->op == PN_OP_AFFINE;
    const size_t rows = (size_t)(is_affine ? x->m : x->n), cols = (size_t)(is_affine ? x->n : x->m), row = FN(padded)((int32_t)cols),
                 column = FN(padded)((int32_t)rows);
    T *by_col = pack + rows * row;
    if (is_affine == (x->m < VE)) {
        for (size_t i = 0; i < rows; i++) memcpy(pack + i * row, W + i * cols, cols * sizeof(T));
        return;
    }
    for (size_t from = 0; from < rows; from += PN_PAD) {
        const size_t some = rows - from < PN_PAD ? rows - from : PN_PAD;
        for (size_t j = 0; j < cols; j++)
            for (size_t i = from; i < from + some; i++) by_col[j * column + i] = W[i * cols + j];
    }
}

/* out += sum_k x_k column_k, k < SOME; columns of `pad` elements, of which m are there */
static inline __attribute__((always_inline)) void FN(add_columns)(const int SOME, T *out, const T *column, size_t pad, const T *x, size_t m) {
    size_t o = 0;
    for (; o + VE <= m; o += VE) {
        vec acc = V(load)(out + o);
#pragma GCC unroll 8
        for (size_t k = 0; k < (size_t)SOME; k++) acc += V(set1)(x[k]) * V(load)(column + k * pad + o);
        V(store)(out + o, acc);
    }
    for (; o < m; o++)
        for (size_t k = 0; k < (size_t)SOME; k++) out[o] += x[k] * column[k * pad + o];
}

/* The same of a large matrix, in the order in which it lies in memory: some columns at a time. */
static __attribute__((noinline)) void FN(by_some_columns)(T *out, const T *bias, const T *columns, size_t pad, const T *x, int32_t m, int32_t n) {
    int32_t j = 0;
    for (size_t o = 0; o < (size_t)m; o += VE) V(store)(out + o, FN(bias_at)(bias, o, (size_t)m));
    for (; j + 8 <= n; j += 8) FN(add_columns)(8, out, columns + (size_t)j * pad, pad, x + j, (size_t)m);
    for (; j < n; j++) FN(add_columns)(1, out, columns + (size_t)j * pad, pad, x + j, (size_t)m);
}

/* out = bias + W x, W (m, n) a large matrix as it lies in memory: sums along eight of its rows at a time */
static __attribute__((noinline)) void FN(by_whole_rows)(T *out, const T *bias, const T *W, const T *x, int32_t m, int32_t n) {
    enum { SOME = 8 };
    const size_t row = (size_t)n, whole = row / VE * VE;
    for (int32_t o = 0; o < m; o += SOME) {
        const int32_t first = m < SOME ? 0 : o + SOME <= m ? o : m - SOME, rows = m < SOME ? m : SOME; /* the last ones overlap those before */
        const T *at[SOME];
        vec acc[16];
        T sum[16];
        PN_UNROLL for (int k = 0; k < 16; k++) acc[k] = V(set1)((T)0);
        for (int32_t k = 0; k < SOME; k++) at[k] = W + (size_t)(first + (k < rows ? k : 0)) * row;
        for (size_t j = 0; j < whole; j += VE) {
            vec xj = V(load)(x + j);
#pragma GCC unroll 8
            for (int k = 0; k < SOME; k++) acc[k] += V(load)(at[k] + j) * xj;
        }
        V(sums)(sum, acc);
        for (int32_t k = 0; k < rows; k++) {
            for (size_t j = whole; j < row; j++) sum[k] += at[k][j] * x[j];
            out[first + k] = (bias ? bias[first + k] : (T)0) + sum[k];
        }
    }
}

/* out = bias + sum_j x_j column_j; columns of `pad` elements, m outputs */
static void FN(by_columns)(T *out, const T *bias, const T *columns, size_t pad, const T *x, int32_t m, int32_t n) {
    if (pn_is_large(m, n)) {
        FN(by_some_columns)(out, bias, columns, pad, x, m, n);
        return;
    }
    size_t end = ((size_t)m + VE - 1) / VE * VE, o = 0;
    for (; o + 4 * VE <= end; o += 4 * VE) {
        vec acc[4];
        for (size_t v = 0; v < 4; v++) acc[v] = FN(bias_at)(bias, o + v * VE, (size_t)m);
        for (int32_t j = 0; j < n; j++) {
            vec xj = V(set1)(x[j]);
            for (size_t v = 0; v < 4; v++) acc[v] += xj * V(load)(columns + (size_t)j * pad + o + v * VE);
        }
        for (size_t v = 0; v < 4; v++) V(store)(out + o + v * VE, acc[v]);
    }
    for (; o < end; o += VE) {
        vec acc = FN(bias_at)(bias, o, (size_t)m);
        for (int32_t j = 0; j < n; j++) acc += V(set1)(x[j]) * V(load)(columns + (size_t)j * pad + o);
        V(store)(out + o, acc);
    }
}

/* out_i = bias_i + row_i . x, fewer outputs than a vector has elements: they are gathered in one, since the load of a vector
   waits for stores of its elements. The padding of a row is zero but that of x may hold anything, so the tail is masked. */
static void FN(by_rows)(T *out, const T *bias, const T *rows, size_t pad, const T *x, int32_t m, int32_t n) {
    size_t whole = (size_t)n / VE * VE;
    vec rest = V(set1)((T)0);
    if (whole < (size_t)n) {
        T tail[VE] = {0};
        for (size_t j = whole; j < (size_t)n; j++) tail[j - whole] = x[j];
        rest = V(load)(tail);
    }
    vec all = V(set1)((T)0), index = V(load)(FN(counting));
    for (int32_t i = 0; i < m; i++) {
        const T *r = rows + (size_t)i * pad;
        vec acc = whole < (size_t)n ? V(load)(r + whole) * rest : rest;
        for (size_t j = 0; j < whole; j += VE) acc += V(load)(r + j) * V(load)(x + j);
        all = V(sel)(index == V(set1)((T)i), V(set1)((bias ? bias[i] : (T)0) + V(hsum)(acc)), all);
    }
    V(store)(out, all);
}

static void FN(affine)(const FN(exec) * E, const pn_decoded *x, T *out, const T *a) {
    const T *bias = x->q < 0 ? NULL : E->theta[x->k] + x->q, *W = (x->k == PN_CONSTANT ? E->fixed : E->pack) + x->pack;
    size_t pad = FN(padded)(x->n);
    if (PN_LARGE_ALONE && __builtin_expect(x->pack < 0, 0)) FN(by_whole_rows)(out, bias, FN(matrix)(E, x), a, x->m, x->n);
    else if (x->m >= VE) FN(by_columns)(out, bias, W + (size_t)x->m * pad, FN(padded)(x->m), a, x->m, x->n);
    else FN(by_rows)(out, bias, W, pad, a, x->m, x->n);
    if (x->act != PN_N_OPS) V(unary)(x->act, out, out, (size_t)x->m);
}

static void FN(affine_t)(const FN(exec) * E, const pn_decoded *x, T *out, const T *a) {
    const T *W = FN(matrix)(E, x); /* W (n, m) */
    size_t pad = FN(padded)(x->m);
    if (PN_LARGE_ALONE && __builtin_expect(x->pack < 0, 0)) FN(by_some_columns)(out, NULL, FN(matrix)(E, x), (size_t)x->m, a, x->m, x->n);
    else if (x->m >= VE) FN(by_columns)(out, NULL, W, pad, a, x->m, x->n);
    else FN(by_rows)(out, NULL, W + (size_t)x->n * pad, FN(padded)(x->n), a, x->m, x->n);
}

/* sum (short side, padded long side) += over files of a_i b_j, in vectors over the longer of a and b (ACC: b = 1). What the
   padding of a register holds ends in the padding of a sum. */
static inline __attribute__((always_inline)) void FN(acc_sum)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files,
    const T *weight) {
    int outer = x->op == PN_OP_ACC_OUTER, by_b = x->n > x->m || (outer && x->n == x->m);
    int32_t v = by_b ? x->b : x->a, s = by_b ? x->a : x->b;
    size_t length = FN(padded)(by_b ? x->n : x->m), count = (size_t)(by_b ? x->m : x->n), sv = v < 0 ? 0 : stride, ss = s < 0 ? 0 : stride;
    const T *vector = FN(at)(E, files, v), *scalar = outer ? FN(at)(E, files, s) : NULL;
    double *sum = E->sums + x->pack;
    for (size_t c = 0; c < count; c++)
        for (size_t i = 0; i < length; i += PN_PAD, sum += PN_PAD) {
            double acc[PN_PAD];
            for (size_t k = 0; k < PN_PAD; k++) acc[k] = sum[k];
            for (size_t f = 0; f < (size_t)n_files; f++) {
                const T *from = vector + f * sv + i;
                double w = weight ? (double)weight[f] : 1;
                if (w == 0) continue;
                if (outer) w *= (double)scalar[f * ss + c];
                for (size_t k = 0; k < PN_PAD; k++) acc[k] += w * (double)from[k];
            }
            for (size_t k = 0; k < PN_PAD; k++) sum[k] = acc[k];
        }
}

#endif

#include "kernels/waiting.inl"
#undef MR

static inline int FN(is_packed)(const pn_decoded *x) { return (x->op == PN_OP_AFFINE || x->op == PN_OP_AFFINE_T) && (PN_PAIR || x->pack >= 0); }

/* Pack every matrix of the program once. Padding is zero, as the memory was. */
static void FN(pack)(const FN(exec) * E) {
    for (const pn_decoded *x = E->lay->code, *stop = x + E->lay->n_code; x < stop; x++)
        if (FN(is_packed)(x) && x->k != PN_CONSTANT) FN(pack_one)(x, E->theta[x->k] + x->p, FN(packed)(E, x));
}
static void FN(pack_constants)(const FN(exec) * E) {
    const int convert = sizeof(T) != sizeof(double);
    const T *consts = convert ? E->constants : (const void *)E->prog->consts;
    if (E->lay->fixed_size == 0) return;
    for (int32_t i = 0; convert && i < E->prog->n_consts; i++) E->constants[i] = (T)E->prog->consts[i];
    for (const pn_decoded *x = E->lay->code, *stop = x + E->lay->n_code; x < stop; x++)
        if (FN(is_packed)(x) && x->k == PN_CONSTANT) FN(pack_one)(x, consts + x->p, FN(packed)(E, x));
}
