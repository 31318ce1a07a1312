/* Work to be counted, for benchmarks/guard.py: small forms of the six benchmark cases, of vdp with other activations, and fields of
   constants, and of a matrix that is computed of parameters, on one instruction set, the solve and then the gradient of each, always in
   this order. `work ISA` runs them, `work` prints their names. */
#include "tests/hoisted.h"

enum { LAYERS = 3 }; /* at most */
typedef struct row {
    const char *name;
    int32_t d, hidden, layers; /* affine maps, act between them; no layers: `constants`, or with hidden = 0 `stencil` */
    int64_t n, times;
    double end, step, tolerance;
    const char *method;
    int f32;
    int32_t act;
} row;
static const row rows[] = {
    {"codelab", 1, 8, 2, 5, 21, 1, 0.05, 0, "euler", 0, PN_OP_TANH},
    {"rk4one", 2, 16, 2, 1, 51, 5, 0.05, 0, "rk4", 0, PN_OP_TANH},
    {"spiral", 2, 50, 2, 20, 10, 0.25, 0, 1e-6, "dopri5", 1, PN_OP_TANH},
    {"vdp", 2, 32, 3, 32, 40, 3, 0, 1e-6, "dopri5", 0, PN_OP_TANH},
    {"big", 2, 64, 3, 64, 10, 1, 0, 1e-5, "dopri5", 1, PN_OP_TANH},
    {"wide", 64, 256, 2, 32, 2, 1, 0, 1e-3, "dopri5", 1, PN_OP_TANH},
    {"softplus", 2, 32, 3, 32, 4, 0.5, 0.05, 0, "rk4", 0, PN_OP_SOFTPLUS},
    {"pow", 2, 32, 3, 32, 4, 0.5, 0.05, 0, "rk4", 0, PN_OP_POW},
    {"matrix", 64, 64, 0, 1, 11, 1, 0, 1e-6, "dopri5", 0, PN_OP_TANH},
    {"sparse", 64, 1, 0, 16, 11, 1, 0, 1e-6, "dopri5", 0, PN_OP_TANH},
    {"stencil", 1024, 0, 0, 1, 11, 1, 0, 1e-6, "dopri5", 0, PN_OP_TANH},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static int32_t width(const row *c, int32_t i) { return i == 0 || i == c->layers ? c->d : c->hidden; }

/* where layer i begins in theta: weights (out, in), then the bias (out) */
static int32_t offset(const row *c, int32_t i) { return i == 0 ? 0 : offset(c, i - 1) + width(c, i) * (width(c, i - 1) + 1); }

static int32_t one(builder *b, int32_t op, int32_t m, int32_t a) { return add(b, op, m, a, -1, -1, 0, 0, 0); }
static int32_t two(builder *b, int32_t op, int32_t m, int32_t a, int32_t e) { return add(b, op, m, a, e, -1, 0, 0, 0); }

/* tanh a, softplus a or sigmoid(a)^1.7, and g times its slope, where x is the value */
enum { EXPONENT, ONE_LESS };
static int32_t number(builder *b, int32_t m, int which) {
    return one(b, PN_OP_BCAST, m, add(b, PN_OP_CONST, 1, -1, -1, -1, which, 0, 0));
}
static int32_t activate(builder *b, int32_t act, int32_t m, int32_t a) {
    return act == PN_OP_POW ? two(b, act, m, one(b, PN_OP_SIGMOID, m, a), number(b, m, EXPONENT)) : one(b, act, m, a);
}
static int32_t pull(builder *b, int32_t act, int32_t m, int32_t g, int32_t a, int32_t x) {
    if (act == PN_OP_TANH) return two(b, PN_OP_DTANH, m, g, x);
    int32_t s = one(b, PN_OP_SIGMOID, m, a);
    if (act == PN_OP_SOFTPLUS) return two(b, PN_OP_DMUL, m, g, s);
    int32_t slope = two(b, PN_OP_MUL, m, two(b, PN_OP_POW, m, s, number(b, m, ONE_LESS)), number(b, m, EXPONENT));
    return two(b, PN_OP_DSIGMOID, m, two(b, PN_OP_DMUL, m, g, slope), s);
}

static pn_program *network(const row *c, int vjp) {
    builder b = {.spec = {.n_spaces = 1, .n_grads = vjp, .fuse = 1, .n_consts = 2}, .n_theta = {offset(c, c->layers)}};
    int32_t x[LAYERS], a[LAYERS] = {0}, g[LAYERS + 1], m = c->layers;
    b.consts[EXPONENT] = 1.7, b.consts[ONE_LESS] = 0.7;
    b.n_grad[0] = b.n_theta[0];
    add_slot(&b, 1);
    int32_t y = add_slot(&b, c->d), last = 0;
    add_slot(&b, 0);
    g[m] = vjp ? add_slot(&b, c->d) : 0;
    for (int32_t i = 0; i < m; i++) {
        a[i] = last;
        x[i] = i == 0 ? y : activate(&b, c->act, width(c, i), last);
        int32_t at = offset(c, i);
        last = add(&b, PN_OP_AFFINE, width(c, i + 1), x[i], -1, -1, at, at + width(c, i) * width(c, i + 1), 0);
    }
    add_output(&b, last);
    b.spec.segments[1] = b.spec.n_code;
    if (!vjp) return must_create(&b);
    for (int32_t i = m; i-- > 0;) {
        g[i] = add(&b, PN_OP_AFFINE_T, width(c, i), g[i + 1], -1, -1, offset(c, i), -1, 0);
        if (i > 0) g[i] = pull(&b, c->act, width(c, i), g[i], a[i], x[i]);
    }
    add_output(&b, g[0]);
    add_output(&b, -1);
    add_output(&b, -1);
    b.spec.segments[2] = b.spec.n_code - b.spec.segments[1];
    for (int32_t i = 0; i < m; i++) {
        int32_t at = offset(c, i);
        add(&b, PN_OP_ACC_OUTER, 0, g[i + 1], x[i], -1, at, 0, 0);
        add(&b, PN_OP_ACC, 0, g[i + 1], -1, -1, at + width(c, i) * width(c, i + 1), 0, 0);
    }
    return must_create(&b);
}

/* tanh(A y), A of constants, those not 0 at most `hidden` beside the diagonal. */
static pn_program *constants(const row *c, int vjp) {
    double *A = keep((size_t)c->d * (size_t)c->d, sizeof *A);
    builder b = {.spec = {.n_consts = c->d * c->d, .fuse = 1}, .pool = A};
    for (int32_t i = 0; i < c->d; i++)
        for (int32_t j = 0; j < c->d; j++)
            A[i * c->d + j] = abs(i - j) <= c->hidden ? ((i + 3 * j) % 7 - 3) * (c->hidden > 1 ? 0.05 : 0.5) : 0;
    add_slot(&b, 1);
    int32_t y = add_slot(&b, c->d), seed = (add_slot(&b, 0), vjp ? add_slot(&b, c->d) : -1);
    int32_t matrix = add(&b, PN_OP_CONST, c->d * c->d, -1, -1, -1, 0, 0, 0);
    b.spec.segments[0] = 1;
    int32_t f = add(&b, PN_OP_TANH, c->d, add(&b, PN_OP_MATVEC, c->d, matrix, y, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    add_output(&b, f);
    b.spec.segments[1] = 2;
    if (!vjp) return must_create(&b);
    int32_t g = add(&b, PN_OP_DTANH, c->d, seed, f, -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_MATVEC_T, c->d, matrix, g, -1, 0, 0, 0));
    add_output(&b, -1);
    add_output(&b, -1);
    b.spec.segments[2] = 2;
    return must_create(&b);
}

/* x_{i+1} - 2 x_i + x_{i-1} around a circle. */
static int32_t second_difference(builder *b, int32_t x, int32_t d) {
    int32_t last = add(b, PN_OP_SLICE, 1, x, -1, -1, d - 1, 1, 0), first = add(b, PN_OP_SLICE, 1, x, -1, -1, 0, 1, 0);
    int32_t longer = add(b, PN_OP_CONCAT, d + 2, last, add(b, PN_OP_CONCAT, d + 1, x, first, -1, 0, 0, 0), -1, 0, 0, 0);
    int32_t after = add(b, PN_OP_SLICE, d, longer, -1, -1, 2, 1, 0), before = add(b, PN_OP_SLICE, d, longer, -1, -1, 0, 1, 0);
    int32_t step = add(b, PN_OP_SUB, d, after, add(b, PN_OP_ADD, d, x, x, -1, 0, 0, 0), -1, 0, 0, 0);
    return add(b, PN_OP_ADD, d, step, before, -1, 0, 0, 0);
}

/* Heat in a ring, whose matrix is symmetric. */
static pn_program *stencil(const row *c, int vjp) {
    builder b = {.spec = {.fuse = 1}};
    add_slot(&b, 1);
    int32_t y = add_slot(&b, c->d), seed = (add_slot(&b, 0), vjp ? add_slot(&b, c->d) : -1);
    add_output(&b, second_difference(&b, y, c->d));
    b.spec.segments[1] = b.spec.n_code;
    if (!vjp) return must_create(&b);
    add_output(&b, second_difference(&b, seed, c->d));
    add_output(&b, -1);
    add_output(&b, -1);
    b.spec.segments[2] = b.spec.n_code - b.spec.segments[1];
    return must_create(&b);
}

static pn_program *program_of(const row *c, int vjp) {
    if (c->layers) return network(c, vjp);
    return c->hidden ? constants(c, vjp) : stencil(c, vjp);
}

static void *weights(const row *c) {
    void *theta = random_array((size_t)offset(c, c->layers), c->f32, 1);
    for (int32_t i = 0; i < c->layers; i++) { /* of the size that keeps layers in the curved part of their activation */
        double scale = 2 / sqrt(width(c, i));
        for (int32_t k = offset(c, i); k < offset(c, i + 1); k++)
            set(theta, (size_t)k, c->f32, scale * get(theta, (size_t)k, c->f32));
    }
    return theta;
}

static int run(const row *c, pn_isa isa) {
    const size_t mark = n_kept, n = (size_t)c->n, saved = (size_t)(c->n * c->times * c->d), element = c->f32 ? 4 : 8;
    pn_program *field = program_of(c, 0), *reverse = program_of(c, 1);
    double *t = keep((size_t)c->times, sizeof *t), *atol = keep((size_t)c->d, sizeof *atol);
    int64_t *index = keep(3 * n, sizeof *index), *count = keep(3 * n, sizeof *count);
    for (int64_t j = 0; j < c->times; j++) t[j] = c->end * (double)j / (double)(c->times - 1);
    for (int32_t i = 0; i < c->d; i++) atol[i] = c->tolerance;
    for (int64_t i = 0; i < c->n; i++) index[c->n + i] = c->times, index[2 * c->n + i] = i * c->times;
    pn_problem p;
    pn_problem_init(&p);
    p.field = field;
    p.reverse = reverse;
    p.theta = weights(c);
    p.n_theta = offset(c, c->layers);
    p.tableau = pn_tableau_find(c->method);
    p.d = c->d;
    p.n = c->n;
    p.y0 = random_array(n * (size_t)c->d, c->f32, 1);
    p.t = t;
    p.n_t = c->times;
    p.rows = c->n * c->times;
    p.t_start = index;
    p.t_len = index + n;
    p.row = index + 2 * n;
    p.adaptive = c->step == 0;
    p.step = c->step;
    p.rtol = c->tolerance;
    p.atol = atol;
    p.max_steps = 10000;
    p.y = keep(saved, element);
    p.status = keep(n, sizeof *p.status);
    p.stop_t = keep(n, sizeof *p.stop_t);
    p.stop_component = keep(n, sizeof *p.stop_component);
    p.nfe = count;
    p.accepted = count + n;
    p.rejected = count + 2 * n;
    p.target = random_array(saved, c->f32, 1);
    p.sample_loss = keep(n, sizeof(double)), p.sample_weight = keep(n, sizeof(double));
    if (c->layers)
        p.g_theta = keep((size_t)offset(c, c->layers), sizeof(double));
    else
        p.g_y0 = keep(n * (size_t)c->d, sizeof(double));
    pn_status first = pn_solve(&p, c->f32, isa, NULL);
    p.loss = PN_LOSS_SQUARED, p.gradient = PN_GRAD_DISCRETE;
    pn_status second = pn_solve(&p, c->f32, isa, NULL);
    int good = first == PN_OK && second == PN_OK;
    for (size_t i = 0; i < n; i++) good = good && p.status[i] == PN_OK;
    pn_program_destroy(&field);
    pn_program_destroy(&reverse);
    release(mark);
    return good;
}

static int computed(pn_isa isa) {
    fixture f = hoisted_fixture(32, 0, 32, 0, "rk4", 0);
    pn_problem forward = f.p;
    forward.gradient = PN_GRAD_NONE, forward.loss = PN_LOSS_NONE;
    forward.g_theta = forward.g_y0 = forward.g_t = NULL;
    const int good = pn_solve(&forward, 0, isa, NULL) == PN_OK && pn_solve(&f.p, 0, isa, NULL) == PN_OK;
    fixture_end(&f);
    release(0);
    return good;
}

int main(int argc, char **argv) {
    int good = 1, found = 0;
    for (int i = 0; argc < 2 && i < N_ROWS; i++) printf("%s\n", rows[i].name);
    if (argc < 2) puts("computed");
    if (argc < 2) return 0;
    EACH_ISA(isa) {
        if (strcmp(pn_isa_name(isa), argv[1])) continue;
        found = 1;
        for (int i = 0; i < N_ROWS; i++) good = good && run(&rows[i], isa);
        good = good && computed(isa);
    }
    return found && good ? 0 : 1;
}
