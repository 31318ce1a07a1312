/* What fuzz.c makes of the bytes of an input: numbers, programs, fields with what belongs to them. Almost all of it is well formed;
   now and then one number is not, and what is refused must say why. All is small, so that an input takes well below a millisecond. */
#ifndef PN_DRAW_H
#define PN_DRAW_H
#include "program/ops.h"
#include "tests/check.h"

static const uint8_t *at, *end;                                              /* what is left of the input */
static int32_t pick(int32_t n) { return n > 1 && at < end ? *at++ % n : 0; } /* 0 .. n - 1, below 256 */
static int seldom(void) { return pick(32) == 31; }
static int32_t any(void) { /* an index, an offset */
    static const int32_t edge[] = {-1, 0, 1, 2, 15, 16, 17, INT32_MAX, INT32_MIN, 1 << 24, -2, 1 << 20};
    const int32_t i = pick(64);
    return i < 12 ? edge[i] : i - 12;
}
static double number(void) {
    static const double edge[] = {
        0,        -0.0,      1,    -1,          0.5,       1e-3,    1e3,   1e-300, 1e300,  NAN,
        INFINITY, -INFINITY, 1e16, 1 + 0x1p-52, 0x1p-1074, 6.02e23, -1e-8, 709.8,  -745.2, 3.14159265358979};
    const int32_t i = pick(64);
    return i < (int32_t)(sizeof edge / sizeof *edge) ? edge[i] : (i - 42) * 0.125;
}

/* ---- programs ----------------------------------------------------------------------------------------------------------- */
enum { SPACES = 2, THETA = 400, SHORT = 40, MOST = 700 };

typedef struct draw { /* a program while it is drawn */
    builder b;
    int32_t first; /* register that instructions may read: in the prologue those that it has written */
} draw;

static int32_t size_of(const draw *d, int32_t r) {
    return r >= 0 && r < d->b.spec.n_reg && d->b.sizes[r] > 0 ? d->b.sizes[r] : 1;
}
static int32_t some_register(const draw *d) {
    const int32_t n = d->b.spec.n_reg - d->first;
    if (n < 1 || seldom()) return any();
    return d->b.spec.n_reg - 1 - pick(n < 200 ? n : 200);
}
/* The last register of this size before that number, or of which the size is a multiple of it; else `otherwise`. */
static int32_t of_size(const draw *d, int32_t size, int multiple, int32_t before, int32_t otherwise) {
    for (int32_t r = before < d->b.spec.n_reg ? before : d->b.spec.n_reg; r-- > d->first;)
        if (d->b.sizes[r] == size || (multiple && d->b.sizes[r] % size == 0)) return r;
    return otherwise;
}
static int32_t emit(draw *d, pn_ins x, int32_t size) {
    if (seldom()) {
        int32_t *const field[] = {&x.op, &x.a, &x.b, &x.c, &x.p, &x.q, &x.k, &size};
        *field[pick(8)] = any();
    }
    if (size > 3000 || size < 0) size = 1;
    return add(&d->b, x.op, size, x.a, x.b, x.c, x.p, x.q, x.k);
}
static int32_t a_constant(draw *d, int32_t size) {
    const int32_t room = d->b.spec.n_consts - size;
    return emit(d, (pn_ins){.op = PN_OP_CONST, .p = room > 0 ? pick(room + 1) : 0}, size);
}
/* `n` entries of the index, below `limit`: neighbours, or in any order. */
static int32_t some_index(draw *d, int32_t n, int32_t limit) {
    pn_program_spec *s = &d->b.spec;
    const int32_t p = s->n_index, neighbours = pick(2), from = pick(limit);
    if (n > ROOM - p) return 0;
    for (int32_t i = 0; i < n; i++) d->b.index[p + i] = neighbours ? (from + i) % limit : pick(limit);
    if (n && seldom()) d->b.index[p + pick(n)] = any();
    s->n_index += n;
    return p;
}

static int32_t drawn_affine(draw *d, int32_t op, int32_t a) {
    const int32_t k = pick(SPACES), room = (int32_t)d->b.n_theta[k], most = room / size_of(d, a);
    const int32_t n = 1 + pick(most < 20 ? most : 20);
    const int32_t p = pick(room - n * size_of(d, a) + 1), q = op == PN_OP_AFFINE && pick(2) ? pick(room - n + 1) : -1;
    return emit(d, (pn_ins){.op = op, .a = a, .p = p, .q = q, .k = k}, n);
}
/* A matrix in a register, which may be one of constants with few entries. */
static int32_t drawn_matvec(draw *d, int32_t op, int32_t b) {
    const int32_t nb = size_of(d, b), most = ROOM / nb;
    const int32_t a =
        most > 0 && pick(2) ? a_constant(d, nb * (1 + pick(most < 20 ? most : 20))) : of_size(d, nb, 1, d->b.spec.n_reg, b);
    return emit(d, (pn_ins){.op = op, .a = a, .b = b}, size_of(d, a) / nb);
}
static int32_t drawn_same(draw *d, int32_t op, int32_t a) {
    const int32_t n = size_of(d, a), b = of_size(d, n, 0, 1 + pick(d->b.spec.n_reg), a);
    return emit(d, (pn_ins){.op = op, .a = a, .b = b, .c = of_size(d, n, 0, b > 0 ? b : 0, a)}, n);
}
static int32_t drawn_slice(draw *d, int32_t a) {
    const int32_t na = size_of(d, a), back = pick(4) == 0, p = back ? na - 1 - pick(na) : pick(na), by = 1 + pick(3);
    const int32_t left = (back ? p : na - 1 - p) / by + 1;
    return emit(d, (pn_ins){.op = PN_OP_SLICE, .a = a, .p = p, .q = back ? -by : by}, pick(3) ? left : 1 + pick(left));
}

static void instruction(draw *d) {
    const int32_t nothing = d->b.spec.n_reg == d->first, op = nothing ? pick(2) : pick(PN_OP_ACC);
    const int32_t a = nothing ? 0 : some_register(d), na = size_of(d, a), n = 1 + pick(20);
    switch (pn_ops[op].shape) {
    case PN_SHAPE_LEAF:
        if (op == PN_OP_CONST)
            a_constant(d, n);
        else
            emit(d, (pn_ins){.op = op, .p = pick(SHORT - n), .k = pick(SPACES)}, n);
        return;
    case PN_SHAPE_AFFINE:
    case PN_SHAPE_AFFINE_T: drawn_affine(d, op, of_size(d, na <= SHORT ? na : 1, 0, d->b.spec.n_reg, a)); return;
    case PN_SHAPE_MATVEC:
    case PN_SHAPE_MATVEC_T: drawn_matvec(d, op, na <= SHORT ? a : of_size(d, 1, 0, d->b.spec.n_reg, a)); return;
    case PN_SHAPE_OUTER:
        if (na * na <= MOST) emit(d, (pn_ins){.op = op, .a = a, .b = a}, na * na);
        return;
    case PN_SHAPE_SAME: drawn_same(d, op, a); return;
    case PN_SHAPE_BCAST: emit(d, (pn_ins){.op = op, .a = of_size(d, 1, 0, d->b.spec.n_reg, a)}, seldom() ? 600 : n); return;
    case PN_SHAPE_SUM: emit(d, (pn_ins){.op = op, .a = a}, 1); return;
    case PN_SHAPE_SLICE: drawn_slice(d, a); return;
    case PN_SHAPE_CONCAT: {
        const int32_t b = some_register(d);
        if (na + size_of(d, b) <= MOST) emit(d, (pn_ins){.op = op, .a = a, .b = b}, na + size_of(d, b));
        return;
    }
    case PN_SHAPE_GATHER: emit(d, (pn_ins){.op = op, .a = a, .p = some_index(d, n, na)}, n); return;
    case PN_SHAPE_SCATTER: emit(d, (pn_ins){.op = op, .a = a, .p = some_index(d, na < 30 ? na : 0, n)}, n); return;
    case PN_SHAPE_CALL: emit(d, (pn_ins){.op = op, .p = pick(4)}, n); return;
    default: return;
    }
}
static void accumulation(draw *d) {
    const int32_t a = some_register(d), b = some_register(d), k = pick(SPACES), room = (int32_t)d->b.n_grad[k];
    const int outer = pick(2) && size_of(d, a) * size_of(d, b) <= room;
    const int32_t n = outer ? size_of(d, a) * size_of(d, b) : size_of(d, a);
    emit(d,
         (pn_ins){.op = outer ? PN_OP_ACC_OUTER : PN_OP_ACC, .a = a, .b = b, .p = n <= room ? pick(room - n + 1) : 0, .k = k},
         0);
}

/* Prologue, forward and, if wanted, reverse segment over slots of these sizes. */
static void drawn_segments(draw *d, const int32_t *slot, int32_t n_slots, int32_t n_reverse) {
    *d = (draw){.b = {.spec = {.n_spaces = SPACES, .n_grads = SPACES, .n_consts = ROOM, .fuse = pick(4) != 0},
                      .n_theta = {THETA, SHORT},
                      .n_grad = {THETA, SHORT}}};
    builder *b = &d->b;
    const int32_t gap = 1 + pick(6), length[] = {pick(2) * pick(8), 1 + pick(24), n_reverse};
    for (int32_t i = 0; i < ROOM; i++) b->consts[i] = i < 8 ? number() : i % gap ? 0 : uniform();
    for (int32_t i = 0; i < n_slots; i++) add_slot(b, slot[i]);
    d->first = n_slots;
    for (int k = 0; k < 3; k++) {
        const int32_t before = b->spec.n_code;
        for (int32_t i = 0; i < length[k] && b->spec.n_code < ROOM - 60; i++) instruction(d);
        b->spec.segments[k] = b->spec.n_code - before;
        d->first = 0;
    }
}

/* A program as a model file might have it: slots and outputs of any sizes. */
static void drawn_program(builder *b) {
    static const int32_t sizes[] = {1, 2, 3, 5, 8, 0, 16, 17, 70, 600};
    int32_t slot[4] = {1};
    const int32_t slots = pick(5);
    for (int32_t i = 1; i < slots; i++) slot[i] = sizes[pick(seldom() ? 10 : 9)];
    draw d;
    drawn_segments(&d, slot, slots, pick(2) * pick(12));
    for (int32_t i = pick(2) * pick(6); i > 0; i--) accumulation(&d);
    *b = d.b;
    for (int32_t i = 1 + pick(4); i > 0; i--)
        add_output(b, seldom() ? any() : b->spec.n_reg - 1 - pick(b->spec.n_reg < 200 ? b->spec.n_reg : 200));
    if (seldom()) b->sizes[pick(ROOM)] = any();
    if (seldom()) b->n_theta[pick(SPACES)] = any();
    if (seldom()) b->spec.segments[pick(3)] += pick(3) - 1;
}

/* A network with its vjp, one number of which is changed. */
static void changed_program(builder *b) {
    net(b, 1 + pick(4), pick(3), 1 + pick(6), 1, pick(2));
    for (int32_t i = pick(4); i > 0; i--) {
        pn_ins *x = &b->code[pick(b->spec.n_code)];
        int32_t *const field[] = {&x->op, &x->out, &x->a, &x->b, &x->c, &x->p, &x->q, &x->k};
        switch (pick(4)) {
        case 0: b->sizes[pick(b->spec.n_reg)] = any(); break;
        case 1: b->spec.segments[pick(3)] = any(); break;
        case 2: b->outputs[pick(4)] = any(); break;
        default: *field[pick(8)] = any();
        }
    }
}

/* f(t, y, u) of d components, drawn; with `adds` it adds to a gradient of the length of theta, too. NULL where it is refused. */
static pn_program *drawn_field(int32_t d, int32_t m, int adds) {
    const int32_t slot[] = {1, d, m};
    draw w;
    pn_program *p;
    drawn_segments(&w, slot, 3, 0);
    builder *b = &w.b;
    b->spec.n_spaces = b->spec.n_grads = 1;
    for (int32_t i = 0; i < b->spec.n_code; i++) {
        b->code[i].k = 0;
        if (b->code[i].op == PN_OP_CALL) b->code[i].p = 0;
    }
    const int32_t last = b->spec.n_reg - 1, index = some_index(&w, d, b->sizes[last] ? b->sizes[last] : 1);
    const int32_t f = add(b, PN_OP_GATHER, d, last, -1, -1, index, 0, 0);
    b->spec.segments[1]++;
    add_output(b, pick(2) ? f : add(b, PN_OP_TANH, d, f, -1, -1, 0, 0, 0));
    b->spec.segments[1] += b->spec.n_reg - 1 - f;
    if (adds) add_output(b, 1), add_output(b, -1), add_output(b, m ? 2 : -1);
    if (adds) add(b, PN_OP_ACC, 0, f, -1, -1, pick(SHORT), 0, 0);
    return create(b, &p) == PN_OK ? p : NULL;
}

/* ---- a field on a pattern ------------------------------------------------------------------------------------------------ */
/* y' = A y, A constant with some entries, for Rosenbrock methods: the field, its vjp, its Jacobian, the vjp of that. */
typedef struct entries {
    int32_t d, n, row[ROOM / 2], col[ROOM / 2];
} entries;

static entries drawn_entries(void) {
    entries e = {.d = 1 + pick(16)};
    const int32_t n = pick(ROOM / 2), diagonal = pick(8) != 0;
    for (int32_t i = 0; diagonal && i < e.d; i++) e.row[e.n] = e.col[e.n] = i, e.n++;
    while (e.n < n) {
        int32_t r = pick(e.d), c = pick(e.d), there = 0;
        for (int32_t i = 0; i < e.n; i++) there |= e.row[i] == r && e.col[i] == c;
        if (there && !seldom()) break;
        e.row[e.n] = r, e.col[e.n++] = c;
    }
    if (e.n && seldom()) *(pick(2) ? e.row : e.col) = any();
    return e;
}
static pn_program *entries_program(const entries *e, int jacobian, int vjp) {
    builder b = {.spec = {.n_spaces = 1, .fuse = 1, .n_consts = e->n, .n_index = 2 * e->n}};
    pn_program *p;
    memcpy(b.index, e->row, (size_t)e->n * sizeof *e->row);
    memcpy(b.index + e->n, e->col, (size_t)e->n * sizeof *e->col);
    for (int32_t i = 0; i < e->n; i++) b.consts[i] = e->row[i] == e->col[i] ? -1 - (i % 3) * 20 : 0.3 * (i % 7) - 1;
    add_slot(&b, 1);
    const int32_t y = add_slot(&b, e->d);
    add_slot(&b, 0);
    const int32_t seed = vjp ? add_slot(&b, jacobian ? e->n : e->d) : -1;
    const int32_t A = add(&b, PN_OP_CONST, e->n, -1, -1, -1, 0, 0, 0);
    b.spec.segments[0] = 1;
    if (jacobian) {
        add_output(&b, A);
    } else {
        const int32_t from = add(&b, PN_OP_GATHER, e->n, y, -1, -1, e->n, 0, 0);
        const int32_t each = add(&b, PN_OP_MUL, e->n, A, from, -1, 0, 0, 0);
        add_output(&b, add(&b, PN_OP_SCATTER, e->d, each, -1, -1, 0, 0, 0));
        b.spec.segments[1] = 3;
    }
    if (vjp && !jacobian) {
        const int32_t of = add(&b, PN_OP_GATHER, e->n, seed, -1, -1, 0, 0, 0);
        const int32_t each = add(&b, PN_OP_MUL, e->n, A, of, -1, 0, 0, 0);
        add_output(&b, add(&b, PN_OP_SCATTER, e->d, each, -1, -1, e->n, 0, 0));
        b.spec.segments[2] = 3;
    } else if (vjp) {
        add_output(&b, -1);
    }
    if (vjp) add_output(&b, -1), add_output(&b, -1);
    return create(&b, &p) == PN_OK ? p : NULL;
}
#endif
