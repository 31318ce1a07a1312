/* Programs executed: every operation, in both precisions, one lane and blocks, on every instruction set, against
   straightforward C; fused against unfused; accumulation with weights and lanes that do not count. */
#define PN_VBYTES 16
#define PN_INSTANCE test_instance
#include "instances/instances.inl"

#include "tests/check.h"

extern const pn_instance test_instance;

enum { SAMPLES = 45, FULL = 32, FEW = 7, WIDE = 40 }; /* a block has 8 to 32 lanes: FULL fills all of them */

/* ---- the reference: one sample, doubles, no vectors ---------------------------------------------------------------- */
static double unary(int32_t op, double a) {
    switch (op) {
    case PN_OP_NEG: return -a;
    case PN_OP_ABS: return fabs(a);
    case PN_OP_SIGN: return a > 0 ? 1 : a < 0 ? -1 : a;
    case PN_OP_SQUARE: return a * a;
    case PN_OP_RECIP: return 1 / a;
    case PN_OP_SQRT: return sqrt(a);
    case PN_OP_EXP: return exp(a);
    case PN_OP_EXPM1: return expm1(a);
    case PN_OP_LOG: return log(a);
    case PN_OP_LOG1P: return log1p(a);
    case PN_OP_SIN: return sin(a);
    case PN_OP_COS: return cos(a);
    case PN_OP_TANH: return tanh(a);
    case PN_OP_SIGMOID: return 1 / (1 + exp(-a));
    case PN_OP_SOFTPLUS: return a > 0 ? a + log1p(exp(-a)) : log1p(exp(a));
    case PN_OP_RELU: return a < 0 ? 0 : a;
    case PN_OP_STEP: return a > 0 ? 1 : a <= 0 ? 0 : a;
    case PN_OP_ERF: return erf(a);
    case PN_OP_ATAN: return atan(a);
    default: return NAN;
    }
}
static double binary(int32_t op, double a, double b) {
    switch (op) {
    case PN_OP_ADD: return a + b;
    case PN_OP_SUB: return a - b;
    case PN_OP_MUL: return a * b;
    case PN_OP_DIV: return a / b;
    case PN_OP_POW: return pow(a, b);
    case PN_OP_MAX: return a != a || b != b ? NAN : a > b ? a : b;
    case PN_OP_MIN: return a != a || b != b ? NAN : a < b ? a : b;
    case PN_OP_LT: return a < b;
    case PN_OP_LE: return a <= b;
    case PN_OP_EQ: return a == b;
    case PN_OP_DTANH: return a * (1 - b * b);
    case PN_OP_DSIGMOID: return a * b * (1 - b);
    case PN_OP_DMUL: return a == 0 || b == 0 ? 0 : a * b;
    case PN_OP_DDIV: return a == 0 ? 0 : a / b;
    default: return NAN;
    }
}

typedef struct values {
    double *reg[ROOM];
    const double *theta[PN_MAX_SPACES];
    double *grad[PN_MAX_SPACES];
} values;

static void reference(const builder *b, values *v, int32_t begin, int32_t end) {
    for (const pn_ins *x = b->code + begin; x < b->code + end; x++) {
        int32_t m = x->out >= 0 ? b->sizes[x->out] : 0, n = x->a >= 0 ? b->sizes[x->a] : 0, nb = x->b >= 0 ? b->sizes[x->b] : 0;
        double *o = x->out >= 0 ? v->reg[x->out] : NULL;
        const double *a = x->a >= 0 ? v->reg[x->a] : NULL, *second = x->b >= 0 ? v->reg[x->b] : NULL,
                     *c = x->c >= 0 ? v->reg[x->c] : NULL;
        const double *W = v->theta[x->k] ? v->theta[x->k] + x->p : NULL;
        double *g = v->grad[x->k] ? v->grad[x->k] + x->p : NULL;
        for (int32_t i = 0; i < m; i++) o[i] = 0;
        for (int32_t i = 0; i < m; i++) switch (x->op) {
            case PN_OP_CONST: o[i] = b->consts[x->p + i]; break;
            case PN_OP_PARAM: o[i] = W[i]; break;
            case PN_OP_AFFINE:
                o[i] = x->q < 0 ? 0 : v->theta[x->k][x->q + i];
                for (int32_t j = 0; j < n; j++) o[i] += W[i * n + j] * a[j];
                break;
            case PN_OP_AFFINE_T:
                for (int32_t j = 0; j < n; j++) o[i] += W[j * m + i] * a[j];
                break;
            case PN_OP_MATVEC:
                for (int32_t j = 0; j < nb; j++) o[i] += a[i * nb + j] * second[j];
                break;
            case PN_OP_MATVEC_T:
                for (int32_t j = 0; j < nb; j++) o[i] += a[j * m + i] * second[j];
                break;
            case PN_OP_OUTER: o[i] = a[i / nb] * second[i % nb]; break;
            case PN_OP_WHERE: o[i] = a[i] != 0 ? second[i] : c[i]; break;
            case PN_OP_BCAST: o[i] = a[0]; break;
            case PN_OP_SUM:
                for (int32_t j = 0; j < n; j++) o[0] += a[j];
                break;
            case PN_OP_SLICE: o[i] = a[x->p + i * x->q]; break;
            case PN_OP_CONCAT: o[i] = i < n ? a[i] : second[i - n]; break;
            case PN_OP_GATHER: o[i] = a[b->index[x->p + i]]; break;
            case PN_OP_SCATTER:
                for (int32_t j = 0; j < n; j++) o[i] += b->index[x->p + j] == i ? a[j] : 0;
                break;
            default: o[i] = c ? NAN : second ? binary(x->op, a[i], second[i]) : unary(x->op, a[i]);
            }
        for (int32_t i = 0; x->op == PN_OP_ACC && i < n; i++) g[i] += a[i];
        for (int32_t i = 0; x->op == PN_OP_ACC_OUTER && i < n; i++)
            for (int32_t j = 0; j < nb; j++) g[i * nb + j] += a[i] * second[j];
    }
}

static int near(double got, double expected, double tolerance) {
    if (expected != expected) return got != got;
    if (isinf(expected)) return got == expected;
    return fabs(got - expected) <= tolerance * (1 + fabs(expected));
}

/* The program of `b` for n samples on every instruction set, against the reference. `lo`: where the values begin. */
static void compare(builder *b, int64_t n, int f32, double lo, double hi, const char *name) {
    size_t mark = n_kept, count = (size_t)n;
    double tolerance = f32 ? 3e-5 : 1e-12;
    pn_program *prog = must_create(b);
    void *slot[PN_MAX_SLOTS] = {0}, *output[PN_MAX_OUTPUTS] = {0}, *theta[PN_MAX_SPACES] = {0};
    double *grad[PN_MAX_SPACES] = {0};
    values v = {0};
    for (int32_t s = 0; s < b->spec.n_slots; s++) {
        size_t size = (size_t)b->sizes[s];
        slot[s] = random_array(count * size, f32, 1);
        for (size_t i = 0; i < count * size; i++) set(slot[s], i, f32, lo + (hi - lo) * (0.5 + 0.5 * get(slot[s], i, f32)));
    }
    for (int k = 0; k < b->spec.n_spaces; k++) {
        theta[k] = random_array((size_t)b->n_theta[k], f32, 1);
        double *exact = keep((size_t)b->n_theta[k], sizeof *exact);
        for (size_t i = 0; i < (size_t)b->n_theta[k]; i++) exact[i] = get(theta[k], i, f32);
        v.theta[k] = exact;
    }
    for (int k = 0; k < b->spec.n_grads; k++) {
        grad[k] = keep((size_t)b->n_grad[k], sizeof(double));
        v.grad[k] = keep((size_t)b->n_grad[k], sizeof(double));
        for (size_t i = 0; i < (size_t)b->n_grad[k]; i++) v.grad[k][i] = 0.25;
    }
    for (int32_t r = 0; r < b->spec.n_reg; r++) v.reg[r] = keep((size_t)b->sizes[r], sizeof(double));
    for (int o = 0; o < b->spec.n_outputs; o++)
        if (b->outputs[o] >= 0) output[o] = keep(count * (size_t)b->sizes[b->outputs[o]], sizeof(double));
    int first = 1;
    EACH_ISA(isa) {
        for (int k = 0; k < b->spec.n_grads; k++)
            for (size_t i = 0; i < (size_t)b->n_grad[k]; i++) grad[k][i] = 0.25; /* added to, not set */
        pn_status st =
            pn_evaluate(prog, f32, isa, n, (const void *const *)slot, (const void *const *)theta, output, grad, NULL, NULL);
        CHECK(st == PN_OK);
        for (size_t i = 0; i < count; i++) {
            for (int32_t s = 0; s < b->spec.n_slots; s++)
                for (size_t j = 0; j < (size_t)b->sizes[s]; j++) v.reg[s][j] = get(slot[s], i * (size_t)b->sizes[s] + j, f32);
            int32_t total = b->spec.segments[0] + b->spec.segments[1] + b->spec.segments[2];
            reference(b, &v, 0, first ? b->spec.n_code : total);
            for (int o = 0; o < b->spec.n_outputs; o++) {
                if (b->outputs[o] < 0) continue;
                size_t size = (size_t)b->sizes[b->outputs[o]];
                for (size_t j = 0; j < size; j++) {
                    double got = get(output[o], i * size + j, f32), expected = v.reg[b->outputs[o]][j];
                    CHECKF(near(got, expected, tolerance), "%s %s f%d n %d size %d: output %d [%d][%d] = %.17g, not %.17g",
                           name, pn_isa_name(isa), f32 ? 32 : 64, (int)n, (int)size, o, (int)i, (int)j, got, expected);
                }
            }
        }
        first = 0;
        for (int k = 0; k < b->spec.n_grads; k++)
            for (size_t i = 0; i < (size_t)b->n_grad[k]; i++)
                CHECKF(near(grad[k][i], v.grad[k][i], 10 * tolerance), "%s %s f%d n %d: grad %d [%d] = %.17g, not %.17g", name,
                       pn_isa_name(isa), f32 ? 32 : 64, (int)n, k, (int)i, grad[k][i], v.grad[k][i]);
    }
    pn_program_destroy(&prog);
    release(mark);
}

static void compare_all(builder *b, double lo, double hi, const char *name) {
    static const int64_t counts[] = {1, 2, FEW, FULL, SAMPLES};
    for (int f32 = 0; f32 < 2; f32++)
        for (int i = 0; i < 5; i++) compare(b, counts[i], f32, lo, hi, name);
}

static const struct {
    const char *name;
    int operands;
} rows[] = {
#define PN_OP(name, shape, operands) {#name, operands},
#include "program/ops.def"
};

static void elementwise(void) {
    static const int32_t sizes[] = {1, 3, 16, 33};
    for (int32_t op = PN_OP_NEG; op <= PN_OP_WHERE; op++)
        for (int s = 0; s < 4; s++) {
            builder b = {.spec = {.segments = {0, 1, 0}}};
            int32_t r[3] = {-1, -1, -1};
            for (int i = 0; i < rows[op].operands; i++) r[i] = add_slot(&b, sizes[s]);
            add_output(&b, add(&b, op, sizes[s], r[0], r[1], r[2], 0, 0, 0));
            int positive = op == PN_OP_SQRT || op == PN_OP_LOG || op == PN_OP_RECIP || op == PN_OP_DIV || op == PN_OP_POW ||
                           op == PN_OP_LOG1P;
            compare_all(&b, positive ? 0.3 : -3, 3, rows[op].name);
        }
}

/* NaN, infinities and zeros through the operations that choose */
static void choices(void) {
    static const double special[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1, -1};
    enum { N = 7 };
    for (int32_t op = PN_OP_NEG; op <= PN_OP_WHERE; op++) {
        if (op == PN_OP_DTANH || op == PN_OP_DSIGMOID || op == PN_OP_SIN || op == PN_OP_COS) continue;
        builder b = {.spec = {.segments = {0, 1, 0}}};
        int32_t r[3] = {-1, -1, -1};
        for (int i = 0; i < rows[op].operands; i++) r[i] = add_slot(&b, 1);
        add_output(&b, add(&b, op, 1, r[0], r[1], r[2], 0, 0, 0));
        pn_program *prog = must_create(&b);
        double x[N * N], y[N * N], z[N * N], out[N * N];
        for (int i = 0; i < N * N; i++) {
            x[i] = special[i / N];
            y[i] = special[i % N];
            z[i] = 5;
        }
        const void *slot[3] = {x, y, z}, *none[PN_MAX_SPACES] = {NULL};
        void *output[1] = {out};
        double *grad[PN_MAX_SPACES] = {NULL};
        EACH_ISA(isa) {
            CHECK(pn_evaluate(prog, 0, isa, N * N, slot, none, output, grad, NULL, NULL) == PN_OK);
            for (int i = 0; i < N * N; i++) {
                double expected = rows[op].operands == 3   ? (x[i] != 0 ? y[i] : z[i])
                                  : rows[op].operands == 2 ? binary(op, x[i], y[i])
                                                           : unary(op, x[i]);
                CHECKF(near(out[i], expected, 1e-14), "%s(%g, %g) on %s = %g, not %g", rows[op].name, x[i], y[i],
                       pn_isa_name(isa), out[i], expected);
            }
        }
        pn_program_destroy(&prog);
    }
}

static builder affine(int32_t m, int32_t n) {
    builder b = {
        .spec = {.n_spaces = 1, .n_grads = 1, .segments = {0, 3, 0}}, .n_theta = {m * n + m + 3}, .n_grad = {m * n + m + 3}};
    int32_t a = add_slot(&b, n), s = add_slot(&b, m);
    add_output(&b, add(&b, PN_OP_AFFINE, m, a, -1, -1, 3, m * n + 3, 0));
    add_output(&b, add(&b, PN_OP_AFFINE, m, a, -1, -1, 3, -1, 0)); /* the same matrix, no bias */
    add_output(&b, add(&b, PN_OP_AFFINE_T, n, s, -1, -1, 3, -1, 0));
    add(&b, PN_OP_ACC_OUTER, 0, s, a, -1, 3, 0, 0);
    add(&b, PN_OP_ACC, 0, s, -1, -1, 3 + m * n, 0, 0);
    return b;
}

/* The gradient waits for samples, more than are ever kept. */
static void large(void) {
    static const int64_t counts[] = {1, 2, FEW, PN_WAITING + FEW};
    builder b = affine(261, 253);
    CHECK(pn_is_large(261, 253));
    for (int f32 = 0; f32 < 2; f32++)
        for (int i = 0; i < 4; i++) compare(&b, counts[i], f32, -1, 1, "large");
}

static void matrices(void) {
    static const int32_t sizes[] = {1, 2, 3, 5, 8, 9, 17, WIDE};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) {
            builder b = affine(sizes[i], sizes[j]);
            compare_all(&b, -1, 1, "affine");
        }
    for (int32_t m = 1; m < 20; m += 6)
        for (int32_t n = 1; n < 20; n += 6) {
            builder b = {.spec = {.segments = {0, 3, 0}}};
            int32_t A = add_slot(&b, m * n), x = add_slot(&b, n), y = add_slot(&b, m);
            add_output(&b, add(&b, PN_OP_MATVEC, m, A, x, -1, 0, 0, 0));
            add_output(&b, add(&b, PN_OP_MATVEC_T, n, A, y, -1, 0, 0, 0));
            add_output(&b, add(&b, PN_OP_OUTER, m * n, y, x, -1, 0, 0, 0));
            compare_all(&b, -1, 1, "matvec");
        }
}

/* Products with a matrix of constants, which are AFFINE with constants or sparse: one entry of `thin` is not 0. With an activation, and
   with the matrix read by another instruction too. */
static void constants(void) {
    static const int32_t sizes[] = {1, 3, 8, 10, 12, 16};
    static const int32_t thin[] = {1, 3, 4, 7, 1000};
    for (int32_t i = 0; i < 6; i++)
        for (int32_t j = 0; j < 6; j++)
            for (int32_t k = 0; k < 10; k++) {
                int32_t m = sizes[i], n = sizes[j], seen = k >= 5;
                if (m * n > ROOM) continue;
                builder b = {.spec = {.n_consts = m * n, .segments = {1, 6, 0}, .fuse = 1}};
                int32_t x = add_slot(&b, n), y = add_slot(&b, m);
                for (int32_t e = 0; e < m * n; e++) b.consts[e] = e % thin[k % 5] == 0 ? uniform() : 0;
                int32_t A = add(&b, PN_OP_CONST, m * n, -1, -1, -1, 0, 0, 0);
                add_output(&b, add(&b, PN_OP_MATVEC, m, A, x, -1, 0, 0, 0));
                add_output(&b, add(&b, PN_OP_MATVEC_T, n, A, y, -1, 0, 0, 0));
                int32_t product = add(&b, PN_OP_MATVEC, m, A, x, -1, 0, 0, 0);
                add_output(&b, add(&b, PN_OP_TANH, m, product, -1, -1, 0, 0, 0));
                product = add(&b, PN_OP_MATVEC_T, n, A, y, -1, 0, 0, 0);
                add_output(&b, add(&b, PN_OP_SQUARE, n, product, -1, -1, 0, 0, 0));
                if (seen) add_output(&b, A);
                compare_all(&b, -1, 1, "constants");
                pn_program *p = must_create(&b);
                for (int l = 0; l < PN_N_LAYOUTS; l++) {
                    const pn_layout *lay = &p->layout[l];
                    int is_sparse = m * n >= 64 && thin[k % 5] >= 4;
                    CHECKF(lay->n_prologue == seen && lay->n_code == 5 + seen, "%d %d", lay->n_prologue, lay->n_code);
                    CHECKF(lay->n_sparse == 2 * is_sparse && (lay->fixed_size == 0) == is_sparse, "%d %d: %d", m, n,
                           lay->n_sparse);
                }
                pn_program_destroy(&p);
            }
}

static void moves(void) {
    for (int32_t n = 2; n < 36; n += 5) {
        builder b = {.spec = {.n_spaces = 2, .n_consts = n, .n_index = n, .segments = {4, 9, 0}}, .n_theta = {n, n + 2}};
        int32_t a = add_slot(&b, n), one = add_slot(&b, 1);
        add_slot(&b, 0);
        for (int32_t i = 0; i < n; i++) b.consts[i] = 0.5 * i - 1, b.index[i] = i * 7 % (n - 1);
        int32_t c = add(&b, PN_OP_CONST, n, -1, -1, -1, 0, 0, 0), w = add(&b, PN_OP_PARAM, n, -1, -1, -1, 2, 0, 1);
        int32_t e = add(&b, PN_OP_EXP, n, w, -1, -1, 0, 0, 0), v = add(&b, PN_OP_AFFINE, 1, e, -1, -1, 0, -1, 0); /* prologue */
        add_output(&b, e), add_output(&b, v);
        add_output(&b, add(&b, PN_OP_BCAST, n, one, -1, -1, 0, 0, 0));
        add_output(&b, add(&b, PN_OP_SUM, 1, a, -1, -1, 0, 0, 0));
        add_output(&b, add(&b, PN_OP_SLICE, n - 1, a, -1, -1, 1, 1, 0));
        add_output(&b, add(&b, PN_OP_SLICE, n, a, -1, -1, n - 1, -1, 0));
        add_output(&b, add(&b, PN_OP_SLICE, n / 2, a, -1, -1, 1, 2, 0));
        add_output(&b, add(&b, PN_OP_CONCAT, n + 1, one, a, -1, 0, 0, 0));
        add_output(&b, add(&b, PN_OP_GATHER, n, a, -1, -1, 0, 0, 0));
        add_output(&b, add(&b, PN_OP_SCATTER, n - 1, a, -1, -1, 0, 0, 0));
        add_output(&b, add(&b, PN_OP_MUL, n, c, a, -1, 0, 0, 0)); /* a register of the prologue as operand */
        add_output(&b, -1);
        compare_all(&b, -1, 1, "moves");
    }
}

/* GATHER and SCATTER of neighbours, which are moved together: a state rolled by three, and two slices of it side by side. */
static void neighbours(void) {
    for (int32_t n = 8; n <= 48; n += 5) {
        const int32_t two = 2 * n - 2;
        builder b = {.spec = {.n_index = n + two, .segments = {0, 5, 0}, .fuse = 1}};
        int32_t a = add_slot(&b, n), c = add_slot(&b, two);
        for (int32_t i = 0; i < n; i++) b.index[i] = (i + 3) % n;
        for (int32_t i = 0; i < two; i++) b.index[n + i] = i < n - 1 ? i : i - n + 2;
        add_output(&b, add(&b, PN_OP_GATHER, n, a, -1, -1, 0, 0, 0));
        add_output(&b, add(&b, PN_OP_GATHER, n - 5, a, -1, -1, 2, 0, 0)); /* begins and ends within runs */
        add_output(&b, add(&b, PN_OP_GATHER, two, a, -1, -1, n, 0, 0));
        add_output(&b, add(&b, PN_OP_SCATTER, n, a, -1, -1, 0, 0, 0));
        add_output(&b, add(&b, PN_OP_SCATTER, n, c, -1, -1, n, 0, 0));
        compare_all(&b, -1, 1, "neighbours");
        pn_program *p = must_create(&b);
        for (int32_t i = 0; i < 5; i++) CHECK(p->layout[PN_LAYOUT_BLOCK].code[i].q == (i != 1 || n > 8));
        pn_program_destroy(&p);
    }
}

/* What lies between the end of a register and its padding is never seen: 1 / 0 and log 0 there. */
static void padding(void) {
    for (int32_t n = 1; n < 20; n++)
        for (int32_t m = 1; m < 12; m += 5) {
            builder b = {.spec = {.n_spaces = 1, .n_grads = 1, .segments = {0, 7, 0}}, .n_theta = {m * n}, .n_grad = {m * n}};
            int32_t y = add_slot(&b, n), r = add(&b, PN_OP_RECIP, n, y, -1, -1, 0, 0, 0);
            int32_t w = add(&b, PN_OP_AFFINE, m, r, -1, -1, 0, -1, 0), l = add(&b, PN_OP_RECIP, m, w, -1, -1, 0, 0, 0);
            l = add(&b, PN_OP_TANH, m, l, -1, -1, 0, 0, 0); /* well-conditioned even where w is small */
            add_output(&b, w);
            add_output(&b, add(&b, PN_OP_AFFINE_T, n, l, -1, -1, 0, -1, 0));
            add_output(&b, add(&b, PN_OP_SUM, 1, l, -1, -1, 0, 0, 0));
            add_output(&b, add(&b, PN_OP_CONCAT, n + m, r, l, -1, 0, 0, 0));
            add(&b, PN_OP_ACC_OUTER, 0, l, r, -1, 0, 0, 0);
            for (int64_t count = 1; count <= SAMPLES; count += count == 1 ? 1 : count == 2 ? FEW - 2 : SAMPLES - FEW)
                compare(&b, count, 0, 0.5, 2, "padding");
        }
}

/* An AFFINE and the activation after it in one instruction give the bits of the two. */
static void fused(void) {
    for (int32_t d = 1; d < 24; d += 7)
        for (int f32 = 0; f32 < 2; f32++)
            for (int64_t n = 1; n <= SAMPLES; n += n == 1 ? 1 : n == 2 ? FEW - 2 : SAMPLES - FEW) {
                size_t mark = n_kept, count = (size_t)n, size = (size_t)d;
                pn_program *prog[2];
                void *out[2][4], *slot[4] = {random_array(count, f32, 1), random_array(count * size, f32, 1), NULL,
                                             random_array(count * size, f32, 1)};
                builder b;
                double *grad[2];
                for (int fuse = 0; fuse < 2; fuse++) {
                    net(&b, d, 0, 19, 1, fuse);
                    prog[fuse] = must_create(&b);
                    for (int o = 0; o < 4; o++) out[fuse][o] = keep(count * size, sizeof(double));
                    grad[fuse] = keep((size_t)b.n_grad[0], sizeof(double));
                }
                compare(&b, n, f32, -1, 1, "net");
                const void *theta[PN_MAX_SPACES] = {random_array((size_t)b.n_theta[0], f32, 0.5)};
                EACH_ISA(isa) {
                    for (int fuse = 0; fuse < 2; fuse++) {
                        double *g[PN_MAX_SPACES] = {grad[fuse]};
                        CHECK(pn_evaluate(prog[fuse], f32, isa, n, (const void *const *)slot, theta, out[fuse], g, NULL,
                                          NULL) == PN_OK);
                    }
                    for (int o = 0; o < 4; o++)
                        CHECKF(!memcmp(out[0][o], out[1][o], count * size * 8), "%s output %d", pn_isa_name(isa), o);
                    CHECK(!memcmp(grad[0], grad[1], (size_t)b.n_grad[0] * 8));
                }
                for (int fuse = 0; fuse < 2; fuse++) pn_program_destroy(&prog[fuse]);
                release(mark);
            }
}

/* ---- accumulation with weights, through the kernels of this file's own instance --------------------------------------- */
enum { MA = 7, NB = 6, FILES = 3 };
static builder outer_program(void) {
    builder b = {.spec = {.n_spaces = 1, .n_grads = 1, .segments = {1, 0, 0}}, .n_theta = {NB}, .n_grad = {MA * NB + MA}};
    int32_t a = add_slot(&b, MA), c = add_slot(&b, NB), w = add(&b, PN_OP_PARAM, NB, -1, -1, -1, 0, 0, 0);
    add(&b, PN_OP_ACC_OUTER, 0, a, c, -1, 0, 0, 0);
    add(&b, PN_OP_ACC_OUTER, 0, a, w, -1, 0, 0, 0); /* one operand of the prologue */
    add(&b, PN_OP_ACC, 0, a, -1, -1, MA * NB, 0, 0);
    add_output(&b, a);
    return b;
}
#define WEIGHTED(T, LANES, suffix, layout_of, tolerance)                                                                       \
    do {                                                                                                                       \
        builder b = outer_program();                                                                                           \
        pn_program *prog = must_create(&b);                                                                                    \
        const pn_layout *lay = &prog->layout[layout_of];                                                                       \
        enum { R = 2 * PN_PAD * LANES };                                                                                       \
        T files[FILES * R], shared[PN_PAD * LANES], weight[FILES * LANES];                                                     \
        double g[MA * NB + MA] = {0}, expected[MA * NB + MA] = {0};                                                            \
        for (int i = 0; i < PN_PAD * LANES; i++) shared[i] = (T)(0.1 * (i / LANES));                                           \
        for (int i = 0; i < FILES * LANES; i++) weight[i] = (T)(i % 3 == 1 ? 0 : 0.5 * (1 + i % 2));                           \
        for (int i = 0; i < FILES * R; i++) files[i] = (T)uniform();                                                           \
        for (int f = 0; f < FILES; f++)                                                                                        \
            for (int l = 0; l < LANES; l++) {                                                                                  \
                T *a = files + f * R + lay->slot[0] * LANES + l, *c = files + f * R + lay->slot[1] * LANES + l;                \
                double w = (double)weight[f * LANES + l];                                                                      \
                for (int i = 0; i < MA; i++) {                                                                                 \
                    if (w == 0) a[i * LANES] = (T)(i % 2 ? NAN : INFINITY);                                                    \
                    if (w == 0) continue;                                                                                      \
                    for (int j = 0; j < NB; j++)                                                                               \
                        expected[i * NB + j] += w * (double)a[i * LANES] * ((double)c[j * LANES] + (double)shared[j * LANES]); \
                    expected[MA * NB + i] += w * (double)a[i * LANES];                                                         \
                }                                                                                                              \
                for (int j = 0; w == 0 && j < NB; j++) c[j * LANES] = (T)NAN;                                                  \
            }                                                                                                                  \
        double *sums = keep((size_t)lay->sums_size, sizeof *sums);                                                             \
        exec_##suffix E = {.prog = prog, .lay = lay, .shared = shared, .grad = {g}, .sums = sums};                             \
        accumulate_##suffix(&E, files, R, FILES, weight);                                                                      \
        flush_##suffix(&E);                                                                                                    \
        for (int i = 0; i < MA * NB + MA; i++)                                                                                 \
            CHECKF(near(g[i], expected[i], tolerance), #suffix " %d: %.17g, not %.17g", i, g[i], expected[i]);                 \
        pn_program_destroy(&prog);                                                                                             \
        release(0);                                                                                                            \
    } while (0)

static void weighted(void) {
    WEIGHTED(double, 1, f64_single, PN_LAYOUT_SINGLE, 1e-14);
    WEIGHTED(float, 1, f32_single, PN_LAYOUT_SINGLE, 1e-6);
    WEIGHTED(double, 4, f64_block, PN_LAYOUT_BLOCK, 1e-14);
    WEIGHTED(float, 8, f32_block, PN_LAYOUT_BLOCK, 1e-5);
    CHECK(test_instance.kernels[0][PN_LANES_WIDE].lanes == 4 && test_instance.kernels[1][PN_LANES_WIDE].lanes == 8);
}

int main(void) {
    elementwise();
    choices();
    matrices();
    large();
    constants();
    moves();
    neighbours();
    padding();
    fused();
    weighted();
    return finish("test_exec");
}
