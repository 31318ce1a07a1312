/* Two samples side by side. A row has two lanes here, less than a vector, so that a vector holds several rows, and a register is padded as
   with one lane: element 2 i + l is number i of lane l. What works on elements one by one then works for two samples, where a block
   works for all of its lanes, in use or not.

   A product reads each weight once for both, in vectors over the outputs, and puts the sums of the lanes side by side at the end. Columns are
   added in the order of `panel`, so that states have the bits that they have in a block. */

/* Columns of `padded` weights, one for each of n features. */
static void FN(pack_one)(const pn_decoded *x, const T *W, T *columns) {
    const size_t m = (size_t)x->m, n = (size_t)x->n, pad = FN(padded)(x->m);
    if (x->op == PN_OP_AFFINE_T) {
        for (size_t j = 0; j < n; j++) memcpy(columns + j * pad, W + j * m, m * sizeof(T));
        return;
    }
    /* some outputs at a time: each row of W has a page of its own where it is long */
    for (size_t from = 0; from < m; from += PN_PAD) {
        const size_t to = m - from < PN_PAD ? m : from + PN_PAD;
        for (size_t j = 0; j < n; j++)
            for (size_t i = from; i < to; i++) columns[j * pad + i] = W[i * n + j];
    }
}

/* R vectors of outputs from o on, of either lane: out = bias + sum_j x_j column_j */
static inline __attribute__((always_inline)) void FN(few_outputs)(const int R, T *out, const T *bias, const T *columns,
                                                                  size_t pad, const T *x, int32_t n, size_t o, size_t m) {
    vec acc[4][L];
    for (size_t r = 0; r < (size_t)R; r++) acc[r][0] = acc[r][1] = FN(bias_at)(bias, o + r * VE, m);
    for (size_t j = 0; j < (size_t)n; j++) {
        const vec x0 = V(set1)(x[j * L]), x1 = V(set1)(x[j * L + 1]);
#pragma GCC unroll 4
        for (size_t r = 0; r < (size_t)R; r++) {
            const vec w = V(load)(columns + j * pad + o + r * VE);
            acc[r][0] += w * x0;
            acc[r][1] += w * x1;
        }
    }
    for (size_t r = 0; r < (size_t)R; r++) V(store_pairs)(out + (o + r * VE) * L, acc[r][0], acc[r][1]);
}

static void FN(few_affine)(const FN(exec) * E, const pn_decoded *x, T *out, const T *bias, const T *a) {
    const T *columns = FN(packed)(E, x);
    const size_t m = (size_t)x->m, pad = FN(padded)(x->m), end = (m + VE - 1) / VE * VE;
    size_t o = 0;
    for (; o + 4 * VE <= end; o += 4 * VE) FN(few_outputs)(4, out, bias, columns, pad, a, x->n, o, m);
    for (; o + 2 * VE <= end; o += 2 * VE) FN(few_outputs)(2, out, bias, columns, pad, a, x->n, o, m);
    for (; o < end; o += VE) FN(few_outputs)(1, out, bias, columns, pad, a, x->n, o, m);
    if (x->act != PN_N_OPS) V(unary)(x->act, out, out, m * L);
}

static void FN(affine)(const FN(exec) * E, const pn_decoded *x, T *out, const T *a) {
    FN(few_affine)(E, x, out, x->q < 0 ? NULL : E->theta[x->k] + x->q, a);
}
static void FN(affine_t)(const FN(exec) * E, const pn_decoded *x, T *out, const T *a) { FN(few_affine)(E, x, out, NULL, a); }

/* What large matrices wait for: of b a row of the panel for each lane, see product.inl. */
static void FN(fill_panel)(T *panel, const T *B, size_t stride, int n_files, int32_t columns) {
    (void)stride, (void)n_files;
    const int32_t some = columns < FN(COLUMNS) ? columns : FN(COLUMNS);
    for (size_t l = 0; l < L; l++, panel += FN(COLUMNS)) {
        for (int32_t j = 0; j < some; j++) panel[j] = B[(size_t)j * L + l];
        for (int32_t j = some; j < FN(COLUMNS); j++) panel[j] = 0;
    }
}

/* Gradients of other matrices: sums over files and lanes of a_i b_j, in vectors over the longer one of a and b, for R numbers of the shorter one
   (ACC: b = 1). They are added to g + i step_i + c step_c, i < rows. */
static inline __attribute__((always_inline)) void FN(few_sums)(const int R, const T *A, size_t stride_a, const T *B,
                                                               size_t stride_b, int n_files, const T *weight, double *g,
                                                               size_t step_i, size_t step_c, size_t rows) {
    const vec zero = V(set1)((T)0);
    vec acc[8];
    for (int c = 0; c < R; c++) acc[c] = zero;
    for (size_t f = 0; f < (size_t)n_files; f++) {
        vec a = V(load)(A + f * stride_a), w = weight ? V(repeat)(weight + f * L) : zero;
        if (weight) a = V(sel)(w == zero, zero, w * a);
#pragma GCC unroll 8
        for (size_t c = 0; c < (size_t)R; c++) {
            vec b = B ? V(repeat)(B + f * stride_b + 2 * c) : V(set1)((T)1);
            if (weight) b = V(sel)(w == zero, zero, b);
            acc[c] += a * b;
        }
    }
    for (size_t c = 0; c < (size_t)R; c++) {
        T sum[VE];
        V(store)(sum, acc[c]);
        for (size_t i = 0; i < rows; i++) g[i * step_i + c * step_c] += (double)(sum[2 * i] + sum[2 * i + 1]);
    }
}

static void FN(acc_few)(const FN(exec) * E, const pn_decoded *x, T *files, size_t stride, int n_files, const T *weight) {
    const int outer = x->op == PN_OP_ACC_OUTER, by_b = outer && x->n >= x->m;
    const int32_t v = by_b ? x->b : x->a, s = by_b ? x->a : x->b;
    const size_t length = (size_t)(by_b ? x->n : x->m), count = (size_t)(by_b ? x->m : x->n), sv = v < 0 ? 0 : stride,
                 ss = s < 0 ? 0 : stride, step_i = by_b ? 1 : (size_t)x->n, step_c = by_b ? (size_t)x->n : 1;
    const T *A = FN(at)(E, files, v), *B = outer ? FN(at)(E, files, s) : NULL;
    double *g = E->grad[x->k] + x->p;
    for (size_t i = 0; i < length; i += VE / 2) {
        const size_t rows = length - i < VE / 2 ? length - i : VE / 2;
        size_t c = 0;
#define SUMS(R)                                                                                                                \
    FN(few_sums)(R, A + i * L, sv, B ? B + c * L : NULL, ss, n_files, weight, g + i * step_i + c * step_c, step_i, step_c, rows)
        for (; c + 8 <= count; c += 8) SUMS(8);
        for (; c + 2 <= count; c += 2) SUMS(2);
        for (; c < count; c++) SUMS(1);
#undef SUMS
    }
}
