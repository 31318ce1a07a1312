/* Execution of programs: one switch over the operations. A register holds n rows of L lanes; elementwise operations
   see one flat array, so they are the same for a block of lanes and for one lane with its features side by side. */

typedef struct FN(exec) {
    const pn_program *prog;
    const pn_layout *lay;
    ptrdiff_t later;        /* what the reverse segment writes lies so far behind its place in the file (see FN(work).store) */
    int32_t eval_end;       /* where an evaluation of the field stops in the code */
    T *shared;              /* registers of the prologue */
    T *pack;                /* packed weights */
    const T *theta[PN_MAX_SPACES];
    double *grad[PN_MAX_SPACES];
    T *panel;               /* a block: columns of weight gradients at work (stages L, 2 VE) */
    double *sums;           /* one lane: what accumulates, in vectors, until flush adds it to grad */
    pn_callback call;
    void *call_ctx;
    const unsigned char *active; /* (L) lanes whose values matter to a callback */
    double *call_buffer;    /* L (1 + d + m + seed + out) */
} FN(exec);

/* States in whole vectors, which their padding allows: a call of memcpy takes as long as a small layer, and the load of a vector
   waits until stores of its elements have reached the cache. */
static inline void FN(copy)(T *to, const T *from, size_t n) {
    if (n <= VE) V(store)(to, V(load)(from));
    else memcpy(to, from, n * sizeof(T));
}

static inline void FN(clear)(T *to, size_t n) {
    for (size_t e = 0; e < n; e += VE) V(store)(to + e, V(set1)((T)0));
}
static inline void FN(add)(T *to, const T *from, size_t n) {
    for (size_t e = 0; e < n; e += VE) V(store)(to + e, V(load)(to + e) + V(load)(from + e));
}

static inline T *FN(at)(const FN(exec) * E, T *file, int32_t operand) {
    if (operand < 0) return E->shared + (size_t)~operand * L;
    return file + (size_t)operand * L + (operand < E->lay->forward_rows ? 0 : E->later);
}

#define EACH(expr)                                                                                                     \
    for (size_t i = 0; i < count; i += VE) V(store)(o + i, expr);                                                      \
    return
#define X V(load)(a + i)
#define Y V(load)(b + i)
#define ONE V(set1)((T)1)
#define ZERO V(set1)((T)0)

/* o[i] = op(a[i]), count elements rounded up to whole vectors */
static void FN(unary)(int32_t op, T *o, const T *a, size_t count) {
    switch (op) {
    case PN_OP_NEG: EACH(-X);
    case PN_OP_ABS: EACH(V(abs)(X));
    case PN_OP_SIGN: EACH(V(sel)(X > ZERO, ONE, V(sel)(X < ZERO, -ONE, X)));
    case PN_OP_SQUARE: EACH(X * X);
    case PN_OP_RECIP: EACH(ONE / X);
    case PN_OP_SQRT: EACH(V(sqrt)(X));
    case PN_OP_EXP: EACH(V(exp)(X));
    case PN_OP_EXPM1: EACH(V(expm1)(X));
    case PN_OP_LOG: EACH(V(log)(X));
    case PN_OP_LOG1P: EACH(V(log1p)(X));
    case PN_OP_SIN: EACH(V(sin)(X));
    case PN_OP_COS: EACH(V(cos)(X));
    case PN_OP_TANH: EACH(V(tanh)(X));
    case PN_OP_SIGMOID: EACH(V(sigmoid)(X));
    case PN_OP_SOFTPLUS: EACH(V(softplus)(X));
    case PN_OP_RELU: EACH(V(sel)(X < ZERO, ZERO, X));
    case PN_OP_STEP: EACH(V(sel)(X > ZERO, ONE, V(sel)(X <= ZERO, ZERO, X)));
    case PN_OP_ERF: EACH(V(erf)(X));
    case PN_OP_ATAN:
        for (size_t i = 0; i < count; i++) o[i] = (T)atan((double)a[i]);
        return;
    default: return;
    }
}

static void FN(binary)(int32_t op, T *o, const T *a, const T *b, size_t count) {
    switch (op) {
    case PN_OP_ADD: EACH(X + Y);
    case PN_OP_SUB: EACH(X - Y);
    case PN_OP_MUL: EACH(X * Y);
    case PN_OP_DIV: EACH(X / Y);
    case PN_OP_POW:
        for (size_t i = 0; i < count; i++) o[i] = (T)pow((double)a[i], (double)b[i]);
        return;
    case PN_OP_MAX: EACH(V(max)(X, Y));
    case PN_OP_MIN: EACH(V(min)(X, Y));
    case PN_OP_LT: EACH(V(sel)(X < Y, ONE, ZERO));
    case PN_OP_LE: EACH(V(sel)(X <= Y, ONE, ZERO));
    case PN_OP_EQ: EACH(V(sel)(X == Y, ONE, ZERO));
    case PN_OP_DTANH: EACH(X * (ONE - Y * Y));
    case PN_OP_DSIGMOID: EACH(X * (Y * (ONE - Y)));
    default: return;
    }
}

static void FN(where)(T *o, const T *cond, const T *a, const T *b, size_t count) {
    EACH(V(sel)(V(load)(cond + i) == ZERO, Y, X));
}
/* the same condition in all rows */
static void FN(where_rows)(T *o, const T *cond, const T *a, const T *b, size_t count) {
    EACH(V(sel)((PN_BLOCK ? V(load)(cond + i % L) : V(set1)(cond[0])) == ZERO, Y, X));
}
#undef EACH
#undef X
#undef Y
#undef ONE
#undef ZERO

/* ---- small dense algebra lane by lane (matrices computed in registers) ------------------------------------------ */
static void FN(matvec)(T *restrict o, const T *restrict A, const T *restrict x, int32_t m, int32_t n) {
    for (int32_t i = 0; i < m; i++) {
        T s[L] = {0};
        for (int32_t j = 0; j < n; j++)
            for (size_t l = 0; l < L; l++) s[l] += A[((size_t)i * (size_t)n + (size_t)j) * L + l] * x[(size_t)j * L + l];
        for (size_t l = 0; l < L; l++) o[(size_t)i * L + l] = s[l];
    }
}

static void FN(matvec_t)(T *restrict o, const T *restrict A, const T *restrict x, int32_t m, int32_t n) {
    for (size_t e = 0; e < (size_t)n * L; e++) o[e] = 0; /* o (n), x (m) */
    for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < n; j++)
            for (size_t l = 0; l < L; l++) o[(size_t)j * L + l] += A[((size_t)i * (size_t)n + (size_t)j) * L + l] * x[(size_t)i * L + l];
}

static void FN(outer)(T *restrict o, const T *restrict a, const T *restrict b, int32_t m, int32_t n) {
    for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < n; j++)
            for (size_t l = 0; l < L; l++) o[((size_t)i * (size_t)n + (size_t)j) * L + l] = a[(size_t)i * L + l] * b[(size_t)j * L + l];
}

static void FN(sum)(T *restrict o, const T *restrict a, int32_t n) {
    T s[L] = {0};
    for (int32_t j = 0; j < n; j++)
        for (size_t l = 0; l < L; l++) s[l] += a[(size_t)j * L + l];
    for (int l = 0; l < L; l++) o[l] = s[l];
}

/* ---- leaves and moves ------------------------------------------------------------------------------------------- */
static inline void FN(row)(T *restrict o, const T *restrict a) {
    for (int l = 0; l < L; l++) o[l] = a[l];
}
static inline void FN(fill_row)(T *o, T x) {
    for (int l = 0; l < L; l++) o[l] = x;
}

static void FN(move)(const FN(exec) * E, const pn_decoded *x, T *o, const T *a, const T *b) {
    const int32_t *index = E->prog->index;
    switch (x->op) {
    case PN_OP_CONST:
        for (int32_t i = 0; i < x->m; i++) FN(fill_row)(o + (size_t)i * L, (T)E->prog->consts[x->p + i]);
        return;
    case PN_OP_PARAM:
        for (int32_t i = 0; i < x->m; i++) FN(fill_row)(o + (size_t)i * L, E->theta[x->k][x->p + i]);
        return;
    case PN_OP_BCAST:
        for (int32_t i = 0; i < x->m; i++) FN(row)(o + (size_t)i * L, a);
        return;
    case PN_OP_SLICE:
        for (int32_t i = 0; i < x->m; i++) FN(row)(o + (size_t)i * L, a + (size_t)(x->p + i * x->q) * L);
        return;
    case PN_OP_CONCAT:
        memcpy(o, a, (size_t)x->n * L * sizeof(T));
        memcpy(o + (size_t)x->n * L, b, (size_t)(x->m - x->n) * L * sizeof(T));
        return;
    case PN_OP_GATHER:
        for (int32_t i = 0; i < x->m; i++) FN(row)(o + (size_t)i * L, a + (size_t)index[x->p + i] * L);
        return;
    case PN_OP_SCATTER:
        memset(o, 0, (size_t)x->m * L * sizeof(T));
        for (int32_t i = 0; i < x->n; i++)
            for (int l = 0; l < L; l++) o[(size_t)index[x->p + i] * L + (size_t)l] += a[(size_t)i * L + (size_t)l];
        return;
    default: return;
    }
}

/* ---- the callback: only active lanes, as doubles, sample-major ---------------------------------------------------- */
static int FN(callback)(const FN(exec) * E, const pn_decoded *x, T *file, T *out) {
    const pn_program *P = E->prog;
    int32_t size[4] = {P->slot_size[0], P->slot_size[1], P->slot_size[2], x->p ? P->slot_size[3] : 0};
    double *buffer[4], *next = E->call_buffer;
    int n = 0;
    for (int s = 0; s < 4; s++) {
        buffer[s] = next;
        next += (size_t)size[s] * L;
        n = 0;
        for (int l = 0; l < L; l++) {
            if (!E->active[l]) continue;
            const T *from = size[s] ? file + (size_t)E->lay->slot[s] * L : file;
            for (int32_t j = 0; j < size[s]; j++) buffer[s][(size_t)n * (size_t)size[s] + (size_t)j] = (double)from[(size_t)j * L + (size_t)l];
            n++;
        }
    }
    memset(out, 0, (size_t)x->m * L * sizeof(T));
    if (n == 0) return 0;
    int stop = E->call(E->call_ctx, x->p, n, buffer[0], buffer[1], buffer[2], buffer[3], next, x->m);
    if (stop) return stop;
    n = 0;
    for (int l = 0; l < L; l++) {
        if (!E->active[l]) continue;
        for (int32_t j = 0; j < x->m; j++) out[(size_t)j * L + (size_t)l] = (T)next[(size_t)n * (size_t)x->m + (size_t)j];
        n++;
    }
    return 0;
}

#include "kernels/dense.inl"

/* Instructions begin .. end on one register file. Nonzero: the callback said stop. */
static int FN(run)(const FN(exec) * E, T *file, int32_t begin, int32_t end) {
    for (const pn_decoded *x = E->lay->code + begin, *stop = E->lay->code + end; x < stop; x++) {
        T *o = FN(at)(E, file, x->out), *a = FN(at)(E, file, x->a);
#define b FN(at)(E, file, x->b)
        size_t count = (size_t)x->m * L;
        switch (x->op) {
        case PN_OP_CONST: case PN_OP_PARAM: case PN_OP_BCAST: case PN_OP_SLICE: case PN_OP_CONCAT: case PN_OP_GATHER:
        case PN_OP_SCATTER: FN(move)(E, x, o, a, b); break;
        case PN_OP_AFFINE: FN(affine)(E, x, o, a); break;
        case PN_OP_AFFINE_T: FN(affine_t)(E, x, o, a); break;
        case PN_OP_MATVEC: FN(matvec)(o, a, b, x->m, x->n / x->m); break;
        case PN_OP_MATVEC_T: FN(matvec_t)(o, a, b, x->n / x->m, x->m); break;
        case PN_OP_OUTER: FN(outer)(o, a, b, x->n, x->m / x->n); break;
        case PN_OP_SUM: FN(sum)(o, a, x->n); break;
        case PN_OP_WHERE:
            if (x->n == x->m) FN(where)(o, a, b, FN(at)(E, file, x->c), count);
            else FN(where_rows)(o, a, b, FN(at)(E, file, x->c), count);
            break;
        case PN_OP_CALL: {
            int stopped = FN(callback)(E, x, file, o);
            if (stopped) return stopped;
            break;
        }
        default:
            if (x->op >= PN_OP_ADD) FN(binary)(x->op, o, a, b, count);
            else FN(unary)(x->op, o, a, count);
        }
#undef b
    }
    return 0;
}

/* The accumulating segment for n_files register files (the stages of a step), `stride` elements apart.
   weight (n_files, L) or NULL: each lane of each file counts that often; a lane of weight 0 does not count even if it
   holds NaN. One lane: into E->sums, for flush. */
static void FN(accumulate)(const FN(exec) * E, T *files, size_t stride, int n_files, const T *weight) {
    for (const pn_decoded *x = E->lay->code + E->lay->n_reverse, *stop = E->lay->code + E->lay->n_code; x < stop; x++) {
#if PN_BLOCK
        double *g = E->grad[x->k] + x->p;
        if (x->op == PN_OP_ACC) FN(acc)(E, x, files, stride, n_files, weight, g);
        else if (weight) FN(acc_outer_weighted)(E, x, files, stride, n_files, weight, g);
        else FN(acc_outer)(E, x, files, stride, n_files, g);
#else
        if (weight) FN(acc_sum)(E, x, files, stride, n_files, weight);
        else FN(acc_sum)(E, x, files, stride, n_files, NULL);
#endif
    }
}

/* The same for gradient vector 0, each lane by itself: g (n_grad, L) += */
static void FN(accumulate_lanes)(FN(exec) * E, T *files, size_t stride, int n_files, SENS *g) {
#if PN_BLOCK
    for (const pn_decoded *x = E->lay->code + E->lay->n_reverse, *stop = E->lay->code + E->lay->n_code; x < stop; x++) {
        if (x->op == PN_OP_ACC) FN(acc_lanes)(E, x, files, stride, n_files, g + (size_t)x->p * L);
        else FN(outer_lanes)(E, x, files, stride, n_files, g + (size_t)x->p * L);
    }
#else
    E->grad[0] = g;
    FN(accumulate)(E, files, stride, n_files, NULL);
    FN(flush)(E);
#endif
}
