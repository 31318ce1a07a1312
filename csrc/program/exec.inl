/* Execution of programs: one switch over the operations. A register holds n rows of L lanes. */

typedef struct FN(exec) {
    const pn_program *prog;
    const pn_layout *lay;
    ptrdiff_t later;        /* what the reverse segment writes lies so far behind its place in the file (see FN(work).store) */
    int32_t eval_end;       /* where an evaluation of the field stops in the code */
    T *shared;              /* registers of the prologue */
    T *pack, *fixed;        /* packed weights, packed constants */
    T *constants;           /* what those are packed from where T is float: the program has doubles */
    const T *theta[PN_MAX_SPACES];
    double *grad[PN_MAX_SPACES];
    T *worn;                /* (n_theta, L) parameters of each lane's sample, or NULL: all lanes have theta; see own.inl */
    int64_t *wearer;        /* (L) whose those are, -1: nobody's */
    const T *wardrobe;      /* (samples, stride) all of them */
    size_t wardrobe_stride;
    T *own_step;            /* (n_grad, L) each lane's sum over one step */
    double *own;            /* (n_grad, L) and over all steps of its sample; in double precision the same array */
    T *panel;               /* a block: columns of weight gradients at work (stages L, 2 VE) */
    T *waiting;             /* what the gradients of large matrices wait for, WAITING samples a row; see waiting.inl */
    int64_t n_waiting;      /* samples of it */
    double *sums;           /* one lane: what accumulates, in vectors, until flush adds it to grad */
    pn_callback call;
    void *call_ctx;
    const unsigned char *active; /* (L) lanes whose values matter to a callback */
    double *call_buffer;    /* L (1 + d + m + seed + out) */
} FN(exec);

static inline T *FN(at)(const FN(exec) * E, T *file, int32_t operand) {
    if (operand < 0) return E->shared + (size_t)~operand * L;
    return file + (size_t)operand * L + (operand < E->lay->forward_rows ? 0 : E->later);
}

/* ---- leaves and moves ------------------------------------------------------------------------------------------- */
static inline void FN(row)(T *restrict o, const T *restrict a) {
    for (int l = 0; l < L; l++) o[l] = a[l];
}
static inline void FN(fill_row)(T *o, T x) {
    for (int l = 0; l < L; l++) o[l] = x;
}

/* Entries of the index of a GATHER or SCATTER, from i on and before `end`, that follow each other. */
static inline int32_t FN(run_at)(const FN(exec) * E, const pn_decoded *x, int32_t i, int32_t end) {
    const int32_t n = E->prog->run[x->p + i];
    return n < end - i ? n : end - i;
}
static inline void FN(add_run)(T *restrict o, const T *restrict a, size_t n) {
    for (size_t e = 0; e < n; e++) o[e] += a[e];
}

static void FN(move)(const FN(exec) * E, const pn_decoded *x, T *o, const T *a, const T *b) {
    const int32_t *index = E->prog->index;
    switch (x->op) {
    case PN_OP_CONST:
        for (int32_t i = 0; i < x->m; i++) FN(fill_row)(o + (size_t)i * L, (T)E->prog->consts[x->p + i]);
        return;
    case PN_OP_PARAM:
        if (E->worn) memcpy(o, E->worn + (size_t)x->p * L, (size_t)x->m * L * sizeof(T));
        else
            for (int32_t i = 0; i < x->m; i++) FN(fill_row)(o + (size_t)i * L, E->theta[x->k][x->p + i]);
        return;
    case PN_OP_BCAST:
        for (int32_t i = 0; i < x->m; i++) FN(row)(o + (size_t)i * L, a);
        return;
    case PN_OP_SLICE:
        if (x->q == 1) memcpy(o, a + (size_t)x->p * L, (size_t)x->m * L * sizeof(T));
        else
            for (int32_t i = 0; i < x->m; i++) FN(row)(o + (size_t)i * L, a + (size_t)(x->p + i * x->q) * L);
        return;
    case PN_OP_CONCAT:
        memcpy(o, a, (size_t)x->n * L * sizeof(T));
        memcpy(o + (size_t)x->n * L, b, (size_t)(x->m - x->n) * L * sizeof(T));
        return;
    case PN_OP_GATHER:
        for (int32_t i = 0, n; x->q && i < x->m; i += n) {
            n = FN(run_at)(E, x, i, x->m);
            memcpy(o + (size_t)i * L, a + (size_t)index[x->p + i] * L, (size_t)n * L * sizeof(T));
        }
        if (x->q) return;
        for (int32_t i = 0; i < x->m; i++) FN(row)(o + (size_t)i * L, a + (size_t)index[x->p + i] * L);
        return;
    case PN_OP_SCATTER:
        memset(o, 0, (size_t)x->m * L * sizeof(T));
        for (int32_t i = 0, n; x->q && i < x->n; i += n) {
            n = FN(run_at)(E, x, i, x->n);
            FN(add_run)(o + (size_t)index[x->p + i] * L, a + (size_t)i * L, (size_t)n * L);
        }
        if (x->q) return;
        for (int32_t i = 0; i < x->n; i++)
            for (int l = 0; l < L; l++) o[(size_t)index[x->p + i] * L + (size_t)l] += a[(size_t)i * L + (size_t)l];
        return;
    default: V(no_kernel)(o, (size_t)x->m * L);
    }
}

/* ---- the callback: only active lanes, as doubles, sample-major ---------------------------------------------------- */
static int FN(callback)(const FN(exec) * E, const pn_decoded *x, T *file, T *out) {
    const pn_program *P = E->prog;
    int32_t size[4] = {P->slot_size[0], P->slot_size[1], P->slot_size[2], x->p % 2 ? P->slot_size[3] : 0};
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
    if (x->p != PN_CALL_JACOBIAN) memset(out, 0, (size_t)x->m * L * sizeof(T)); /* those of other lanes stay: see `renew` */
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
#include "kernels/sparse_product.inl"

#if !PN_WHOLE_VECTORS
/* Instructions from x on as long as they are arithmetic on single numbers; the next one. A loop of its own keeps all that it needs in
   processor registers. `near`: nothing lies behind, see `at`. */
static inline __attribute__((always_inline)) const pn_decoded *FN(ones)(const FN(exec) * E, T *file, const pn_decoded *x,
                                                                        const pn_decoded *stop, const int near) {
    T *const shared = E->shared;
    const ptrdiff_t later = E->later;
    const int32_t rows = E->lay->forward_rows;
#define PLACE(r) ((r) < 0 ? shared + ~(ptrdiff_t)(r) * L : file + (ptrdiff_t)(r) * L + (near || (r) < rows ? 0 : later))
#define EACH(expr) for (int l = 0; l < L; l++) o[l] = expr; break
    for (; x < stop; x++) {
        T *o = PLACE(x->out);
        const T *a = PLACE(x->a), *b = PLACE(x->b);
        switch (x->op) {
        case PN_ONE_ADD: EACH(a[l] + b[l]);
        case PN_ONE_SUB: EACH(a[l] - b[l]);
        case PN_ONE_MUL: EACH(a[l] * b[l]);
        case PN_ONE_DIV: EACH(a[l] / b[l]);
        case PN_ONE_DMUL: EACH(((a[l] == 0) | (b[l] == 0)) ? 0 : a[l] * b[l]);
        case PN_ONE_DDIV: EACH(a[l] == 0 ? 0 : a[l] / b[l]);
        case PN_ONE_NEG: EACH(-a[l]);
        case PN_ONE_SQUARE: EACH(a[l] * a[l]);
        case PN_ONE_COPY: EACH(a[l]);
        default: return x;
        }
    }
#undef PLACE
#undef EACH
    return x;
}
static __attribute__((noinline)) const pn_decoded *FN(some_ones)(const FN(exec) * E, T *file, const pn_decoded *x, const pn_decoded *stop) {
    return E->later ? FN(ones)(E, file, x, stop, 0) : FN(ones)(E, file, x, stop, 1);
}
#endif

/* The n elementwise instructions from x on, strip after strip. */
static __attribute__((noinline)) void FN(strips)(const FN(exec) * E, T *file, const pn_decoded *x, int32_t n) {
    const size_t count = (size_t)x->m * L;
    T *at[PN_MOST_IN_STRIPS][4];
    for (int32_t i = 0; i < n; i++) {
        const int32_t place[4] = {x[i].out, x[i].a, x[i].b, x[i].c};
        for (int j = 0; j < 4; j++) at[i][j] = FN(at)(E, file, place[j]);
    }
    for (size_t from = 0; from < count; from += PN_STRIP) {
        const size_t some = count - from < PN_STRIP ? count - from : PN_STRIP;
        for (int32_t i = 0; i < n; i++) {
            const int32_t op = x[i].op;
            T *o = at[i][0] + from;
            const T *a = at[i][1] + from;
            if (op == PN_OP_WHERE) V(where)(o, a, at[i][2] + from, at[i][3] + from, some);
            else if (op >= PN_OP_ADD) V(binary)(op, o, a, at[i][2] + from, some);
            else V(unary)(op, o, a, some);
        }
    }
}

/* Instructions begin .. end on one register file. Nonzero: the callback said stop. */
static int FN(run)(const FN(exec) * E, T *file, int32_t begin, int32_t end) {
    for (const pn_decoded *x = E->lay->code + begin, *stop = E->lay->code + end; x < stop; x++) {
#if !PN_WHOLE_VECTORS
        if (x->op > PN_N_OPS && (x = FN(some_ones)(E, file, x, stop)) == stop) break;
#endif
        T *o = FN(at)(E, file, x->out), *a = FN(at)(E, file, x->a);
#define b FN(at)(E, file, x->b)
        size_t count = (size_t)x->m * L;
        switch (x->op) {
        case PN_OP_ADD: V(add_rows)(o, a, b, count); break;
        case PN_OP_SUB: V(sub_rows)(o, a, b, count); break;
        case PN_OP_MUL: V(mul_rows)(o, a, b, count); break;
        case PN_OP_CONST: case PN_OP_PARAM: case PN_OP_BCAST: case PN_OP_SLICE: case PN_OP_CONCAT: case PN_OP_GATHER:
        case PN_OP_SCATTER: FN(move)(E, x, o, a, b); break;
        case PN_OP_AFFINE: FN(affine)(E, x, o, a); break;
        case PN_OP_AFFINE_T: FN(affine_t)(E, x, o, a); break;
        case PN_STRIPS:
            if (count <= PN_STRIP) break;
            FN(strips)(E, file, x + 1, x->n);
            x += x->n;
            break;
        case PN_SPARSE: FN(sparse_product)(E, x, o, a); break;
        case PN_OP_MATVEC: FN(matvec)(o, a, b, x->m, x->n / x->m); break;
        case PN_OP_MATVEC_T: FN(matvec_t)(o, a, b, x->n / x->m, x->m); break;
        case PN_OP_OUTER: FN(outer)(o, a, b, x->n, x->m / x->n); break;
        case PN_OP_SUM: FN(sum)(o, a, x->n); break;
        case PN_OP_WHERE:
            if (x->n == x->m) V(where)(o, a, b, FN(at)(E, file, x->c), count);
            else FN(where_rows)(o, a, b, FN(at)(E, file, x->c), count);
            break;
        case PN_OP_CALL: {
            int stopped = FN(callback)(E, x, file, o);
            if (stopped) return stopped;
            break;
        }
        default:
            if (x->op >= PN_OP_ADD) V(binary)(x->op, o, a, b, count);
            else V(unary)(x->op, o, a, count);
        }
#undef b
    }
    return 0;
}

/* The accumulating segment for n_files register files (the stages of a step), `stride` elements apart.
   weight (n_files, L) or NULL: each lane of each file counts that often; a lane of weight 0 does not count even if it
   holds NaN. One lane: into E->sums, for flush. */
static void FN(accumulate)(FN(exec) * E, T *files, size_t stride, int n_files, const T *weight) {
    if ((!PN_BLOCK || !weight) && E->lay->waiting_rows) FN(wait)(E, files, stride, n_files, weight);
    for (const pn_decoded *x = E->lay->code + E->lay->n_reverse, *stop = E->lay->code + E->lay->n_code; x < stop; x++) {
#if PN_PAIR
        if (weight || !FN(waits)(x)) FN(acc_few)(E, x, files, stride, n_files, weight);
#elif PN_BLOCK
        double *g = E->grad[x->k] + x->p;
        if (x->op == PN_OP_ACC) FN(acc)(E, x, files, stride, n_files, weight, g);
        else if (weight) FN(acc_outer_weighted)(E, x, files, stride, n_files, weight, g);
        else if (!FN(waits)(x)) FN(acc_outer)(E, x, files, stride, n_files, g);
#else
        if (E->lay->waiting_rows && FN(waits)(x)) continue;
        if (weight) FN(acc_sum)(E, x, files, stride, n_files, weight);
        else FN(acc_sum)(E, x, files, stride, n_files, NULL);
#endif
    }
}

/* The same for gradient vector 0, each lane by itself: g (n_grad, L) += */
static void FN(accumulate_lanes)(FN(exec) * E, T *files, size_t stride, int n_files, SENS *g) {
#if PN_WHOLE_VECTORS
    for (const pn_decoded *x = E->lay->code + E->lay->n_reverse, *stop = E->lay->code + E->lay->n_code; x < stop; x++) {
        if (x->op == PN_OP_ACC) FN(acc_lanes)(E, x, files, stride, n_files, g + (size_t)x->p * L);
        else FN(outer_lanes)(E, x, files, stride, n_files, g + (size_t)x->p * L);
    }
#elif PN_PAIR
    (void)E, (void)files, (void)stride, (void)n_files, (void)g; /* two lanes have no such gradients, see is_plain in solve.c */
#else
    E->grad[0] = g;
    FN(accumulate)(E, files, stride, n_files, NULL);
    FN(flush)(E);
#endif
}
