/* Elementwise operations on flat arrays, in whole vectors: `count` elements are rounded up to vectors, which the padding of
   registers and states allows. So they are the same for a block of lanes and for one lane with its features side by side, and
   are here once for each precision. */

#define EACH(expr)                                                                                                     \
    for (size_t i = 0; i < count; i += VE) V(store)(o + i, expr);                                                      \
    return
#define X V(load)(a + i)
#define Y V(load)(b + i)
#define ONE V(set1)((T)1)
#define ZERO V(set1)((T)0)

/* An operation of ops.def without a kernel: the build is wrong. A solve ends with PN_NON_FINITE. */
static void V(no_kernel)(T *o, size_t count) {
    assert(count == 0 && "an operation has no kernel");
    for (size_t i = 0; i < count; i++) o[i] = (T)NAN;
}

/* o[i] = op(a[i]), count elements rounded up to whole vectors */
static void V(unary)(int32_t op, T *o, const T *a, size_t count) {
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
    default: V(no_kernel)(o, count);
    }
}

/* o[i] = op(a[i], b[i]) */
static void V(binary)(int32_t op, T *o, const T *a, const T *b, size_t count) {
    switch (op) {
    case PN_OP_ADD: EACH(X + Y);
    case PN_OP_SUB: EACH(X - Y);
    case PN_OP_MUL: EACH(X * Y);
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
    default: V(no_kernel)(o, count);
    }
}

/* the commonest, without a second switch */
static inline void V(add_rows)(T *o, const T *a, const T *b, size_t count) { EACH(X + Y); }
static inline void V(sub_rows)(T *o, const T *a, const T *b, size_t count) { EACH(X - Y); }
static inline void V(mul_rows)(T *o, const T *a, const T *b, size_t count) { EACH(X * Y); }

static void V(where)(T *o, const T *cond, const T *a, const T *b, size_t count) {
    EACH(V(sel)(V(load)(cond + i) == ZERO, Y, X));
}
#undef EACH
#undef X
#undef Y
#undef ONE
#undef ZERO
