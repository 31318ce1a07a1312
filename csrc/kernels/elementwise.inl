/* Elementwise operations on flat arrays, in whole vectors: `count` elements are rounded up to vectors, which the padding of
   registers and states allows. So they are the same for a block of lanes and for one lane with its features side by side. */

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

static int FN(all_finite)(const double *x, size_t n) {
    enum { WAYS = 8 };
    double bad[WAYS] = {0}, some = 0;
    size_t i = 0;
    for (; i + WAYS <= n; i += WAYS)
        for (size_t k = 0; k < WAYS; k++) bad[k] += x[i + k] * 0;
    for (; i < n; i++) some += x[i] * 0;
    for (size_t k = 0; k < WAYS; k++) some += bad[k];
    return some == 0;
}

#define EACH(expr)                                                                                                     \
    for (size_t i = 0; i < count; i += VE) V(store)(o + i, expr);                                                      \
    return
#define X V(load)(a + i)
#define Y V(load)(b + i)
#define ONE V(set1)((T)1)
#define ZERO V(set1)((T)0)

/* An operation of ops.def without a kernel: the build is wrong. A solve ends with PN_NON_FINITE. */
static void FN(no_kernel)(T *o, size_t count) {
    assert(count == 0 && "an operation has no kernel");
    for (size_t i = 0; i < count; i++) o[i] = (T)NAN;
}

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
    case PN_OP_SOFTPLUS: V(softplus_rows)(o, a, count); return;
    case PN_OP_RELU: EACH(V(sel)(X < ZERO, ZERO, X));
    case PN_OP_STEP: EACH(V(sel)(X > ZERO, ONE, V(sel)(X <= ZERO, ZERO, X)));
    case PN_OP_ERF: EACH(V(erf)(X));
    case PN_OP_ATAN:
        for (size_t i = 0; i < count; i++) o[i] = (T)atan((double)a[i]);
        return;
    default: FN(no_kernel)(o, count);
    }
}

/* those that have no rows of their own, below */
static void FN(binary)(int32_t op, T *o, const T *a, const T *b, size_t count) {
    switch (op) {
    case PN_OP_DIV: EACH(X / Y);
    case PN_OP_POW: V(pow_rows)(o, a, b, count); return;
    case PN_OP_MAX: EACH(V(max)(X, Y));
    case PN_OP_MIN: EACH(V(min)(X, Y));
    case PN_OP_LT: EACH(V(sel)(X < Y, ONE, ZERO));
    case PN_OP_LE: EACH(V(sel)(X <= Y, ONE, ZERO));
    case PN_OP_EQ: EACH(V(sel)(X == Y, ONE, ZERO));
    case PN_OP_DTANH: EACH(V(sel)(X == ZERO, ZERO, X * (ONE - Y * Y)));
    case PN_OP_DSIGMOID: EACH(V(sel)(X == ZERO, ZERO, X * (Y * (ONE - Y))));
    case PN_OP_DMUL: EACH(V(sel)((X == ZERO) | (Y == ZERO), ZERO, X * Y));
    case PN_OP_DDIV: EACH(V(sel)(X == ZERO, ZERO, X / Y));
    default: FN(no_kernel)(o, count);
    }
}

/* the commonest, without a second switch */
static inline void FN(add_rows)(T *o, const T *a, const T *b, size_t count) { EACH(X + Y); }
static inline void FN(sub_rows)(T *o, const T *a, const T *b, size_t count) { EACH(X - Y); }
static inline void FN(mul_rows)(T *o, const T *a, const T *b, size_t count) { EACH(X * Y); }

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
