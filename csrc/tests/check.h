/* What the tests of the core share: checks that count, random numbers, programs built by hand, a network with its vjp,
   and a solve with all its arrays. Everything that `keep` returns is freed by `finish`. */
#ifndef PN_CHECK_H
#define PN_CHECK_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pynode.h"

#define UNUSED __attribute__((unused))

#if defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define PN_WATCHED /* by a sanitizer */
#endif
#elif defined __SANITIZE_ADDRESS__
#define PN_WATCHED
#endif
#if defined _WIN32 || defined PN_WATCHED
static size_t page_size(void) { return 0; }
static void *pages(size_t bytes) { return malloc(bytes); }
static int guard(void *page, size_t bytes, int on) { return (void)page, (void)bytes, on & 0; }
#else
#include <sys/mman.h>
#include <unistd.h>
static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }
static void *pages(size_t bytes) { return aligned_alloc(page_size(), bytes); }
static int guard(void *page, size_t bytes, int on) { return !mprotect(page, bytes, on ? PROT_NONE : PROT_READ | PROT_WRITE); }
#endif

static int failures;
static _Thread_local char said[PN_MESSAGE]; /* by the last solve that was refused */
#define CHECK(condition) CHECKF(condition, " ")
#define CHECKF(condition, ...)                                                                                                 \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            failures++;                                                                                                        \
            printf("FAIL %s:%d: %s: ", __FILE__, __LINE__, #condition);                                                        \
            printf(__VA_ARGS__);                                                                                               \
            printf(" %s\n", said);                                                                                             \
        }                                                                                                                      \
    } while (0)

/* Zeroed memory that ends where a page begins which cannot be touched, or begins where it ends: a number beyond an array ends the
   test. Sanitizers see that by themselves. */
typedef struct allocation {
    char *block, *guarded; /* that page; NULL: there is none */
} allocation;
static allocation all_kept[65536];
static size_t n_kept;
static int guard_before; /* 1: before what is kept from now on */
UNUSED static void *keep(size_t count, size_t size) {
    const size_t bytes = count ? count * size : size, page = page_size(), whole = page ? (bytes + page - 1) / page * page : 0;
    char *block = page ? pages(whole + page) : calloc(1, bytes);
    if (!block || n_kept == sizeof all_kept / sizeof *all_kept) {
        printf("the test itself is out of memory\n");
        exit(2);
    }
    if (page) memset(block, 0, whole + page);
    char *edge = guard_before ? block : block + whole;
    all_kept[n_kept++] = (allocation){block, page && guard(edge, page, 1) ? edge : NULL};
    return !page ? block : guard_before ? block + page : edge - bytes;
}
UNUSED static void release(size_t mark) { /* what was kept since n_kept was mark */
    while (n_kept > mark) {
        const allocation a = all_kept[--n_kept];
        if (a.guarded) guard(a.guarded, page_size(), 0);
        free(a.block);
    }
}
UNUSED static int finish(const char *name) {
    release(0);
    printf("%s: %s\n", name, failures ? "FAILED" : "ok");
    return failures != 0;
}

static uint64_t seed_state = 1;
UNUSED static double uniform(void) { /* -1 .. 1 */
    seed_state = seed_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed_state >> 11) * 0x1p-52 - 1;
}

/* Numbers in either precision. */
UNUSED static double get(const void *x, size_t i, int f32) {
    return f32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}
UNUSED static void set(void *x, size_t i, int f32, double value) {
    if (f32)
        ((float *)x)[i] = (float)value;
    else
        ((double *)x)[i] = value;
}
UNUSED static void *random_array(size_t n, int f32, double scale) {
    void *x = keep(n, f32 ? sizeof(float) : sizeof(double));
    for (size_t i = 0; i < n; i++) set(x, i, f32, scale * uniform());
    return x;
}

/* ---- programs by hand ------------------------------------------------------------------------------------------- */
enum { ROOM = 160 };
typedef struct builder {
    pn_program_spec spec;
    int32_t sizes[ROOM], index[ROOM], outputs[PN_MAX_OUTPUTS];
    pn_ins code[ROOM];
    double consts[ROOM];
    const double *pool; /* where constants lie if there are more */
    int64_t n_theta[PN_MAX_SPACES], n_grad[PN_MAX_SPACES];
    char message[PN_MESSAGE];
} builder;

UNUSED static int32_t add_register(builder *b, int32_t size) {
    b->sizes[b->spec.n_reg] = size;
    return b->spec.n_reg++;
}
UNUSED static int32_t add_slot(builder *b, int32_t size) {
    b->spec.n_slots++;
    return add_register(b, size);
}
/* Appends `op`; returns its new output register of that size (size 0: an accumulating operation, no output). */
UNUSED static int32_t add(builder *b, int32_t op, int32_t size, int32_t a, int32_t second, int32_t c, int32_t p, int32_t q,
                          int32_t k) {
    int32_t out = size ? add_register(b, size) : -1;
    b->code[b->spec.n_code++] = (pn_ins){op, out, a, second, c, p, q, k};
    return out;
}
UNUSED static void add_output(builder *b, int32_t r) { b->outputs[b->spec.n_outputs++] = r; }
UNUSED static pn_status create(builder *b, pn_program **out) {
    b->spec.sizes = b->sizes;
    b->spec.code = b->code;
    b->spec.consts = b->pool ? b->pool : b->consts;
    b->spec.index = b->index;
    b->spec.outputs = b->outputs;
    b->spec.n_theta = b->n_theta;
    b->spec.n_grad = b->n_grad;
    return pn_program_create(&b->spec, b->message, out);
}
UNUSED static pn_program *must_create(builder *b) {
    pn_program *p;
    pn_status st = create(b, &p);
    CHECKF(st == PN_OK, "%s %s", pn_status_name(st), b->message);
    if (st != PN_OK) exit(2);
    return p;
}

/* f = W2 tanh(W1 (t, y, u) + b1) + b2; theta = W1, b1, W2, b2 */
UNUSED static int32_t net_params(int32_t d, int32_t m, int32_t h) { return h * (1 + d + m) + h + d * h + d; }
UNUSED static void net(builder *b, int32_t d, int32_t m, int32_t h, int vjp, int fuse) {
    int32_t nx = 1 + d + m, b1 = h * nx, w2 = b1 + h, b2 = w2 + d * h, s = -1;
    *b = (builder){.spec = {.n_spaces = 1, .fuse = fuse}, .n_theta = {net_params(d, m, h)}};
    int32_t t = add_slot(b, 1), y = add_slot(b, d), u = add_slot(b, m);
    if (vjp) s = add_slot(b, d);
    int32_t x = add(b, PN_OP_CONCAT, 1 + d, t, y, -1, 0, 0, 0);
    if (m) x = add(b, PN_OP_CONCAT, nx, x, u, -1, 0, 0, 0);
    int32_t z = add(b, PN_OP_AFFINE, h, x, -1, -1, 0, b1, 0);
    int32_t a = add(b, PN_OP_TANH, h, z, -1, -1, 0, 0, 0);
    int32_t f = add(b, PN_OP_AFFINE, d, a, -1, -1, w2, b2, 0);
    add_output(b, f);
    b->spec.segments[1] = b->spec.n_code;
    if (!vjp) return;
    int32_t ga = add(b, PN_OP_AFFINE_T, h, s, -1, -1, w2, -1, 0);
    int32_t gz = add(b, PN_OP_DTANH, h, ga, a, -1, 0, 0, 0);
    int32_t gx = add(b, PN_OP_AFFINE_T, nx, gz, -1, -1, 0, -1, 0);
    add_output(b, add(b, PN_OP_SLICE, d, gx, -1, -1, 1, 1, 0));
    add_output(b, add(b, PN_OP_SLICE, 1, gx, -1, -1, 0, 1, 0));
    if (m)
        add_output(b, add(b, PN_OP_SLICE, m, gx, -1, -1, 1 + d, 1, 0));
    else
        add_output(b, -1);
    b->spec.segments[2] = b->spec.n_code - b->spec.segments[1];
    b->spec.n_grads = 1;
    b->n_grad[0] = b->n_theta[0];
    add(b, PN_OP_ACC_OUTER, 0, gz, x, -1, 0, 0, 0);
    add(b, PN_OP_ACC, 0, gz, -1, -1, b1, 0, 0);
    add(b, PN_OP_ACC_OUTER, 0, s, a, -1, w2, 0, 0);
    add(b, PN_OP_ACC, 0, s, -1, -1, b2, 0, 0);
}

/* l = w . tanh(y - x) + b, x (d); theta = w, b */
UNUSED static void row_loss(builder *b, int32_t d, int vjp) {
    *b = (builder){.spec = {.n_spaces = 1, .fuse = 1}, .n_theta = {d + 1}};
    add_slot(b, 1);
    int32_t y = add_slot(b, d), x = add_slot(b, d), s = vjp ? add_slot(b, 1) : -1;
    int32_t r = add(b, PN_OP_SUB, d, y, x, -1, 0, 0, 0);
    int32_t a = add(b, PN_OP_TANH, d, r, -1, -1, 0, 0, 0);
    add_output(b, add(b, PN_OP_AFFINE, 1, a, -1, -1, 0, d, 0));
    b->spec.segments[1] = b->spec.n_code;
    if (!vjp) return;
    int32_t ga = add(b, PN_OP_AFFINE_T, d, s, -1, -1, 0, -1, 0);
    int32_t gy = add(b, PN_OP_DTANH, d, ga, a, -1, 0, 0, 0);
    add_output(b, gy);
    add_output(b, -1);
    add_output(b, add(b, PN_OP_NEG, d, gy, -1, -1, 0, 0, 0));
    b->spec.segments[2] = b->spec.n_code - b->spec.segments[1];
    b->spec.n_grads = 1;
    b->n_grad[0] = d + 1;
    add(b, PN_OP_ACC_OUTER, 0, s, a, -1, 0, 0, 0);
    add(b, PN_OP_ACC, 0, s, -1, -1, d, 0, 0);
}

/* A field of 2 components that is a callback (call 0), or its vjp (call 1). */
UNUSED static pn_program *calling(int vjp) {
    builder b = {.spec = {.segments = {0, 1, vjp}}};
    add_slot(&b, 1), add_slot(&b, 2), add_slot(&b, 0);
    if (vjp) add_slot(&b, 2);
    add_output(&b, add(&b, PN_OP_CALL, 2, -1, -1, -1, 0, 0, 0));
    if (!vjp) return must_create(&b);
    add_output(&b, add(&b, PN_OP_CALL, 2, -1, -1, -1, 1, 0, 0));
    add_output(&b, -1), add_output(&b, -1);
    return must_create(&b);
}

/* The Jacobian of two states without inputs, and df/dt, or their vjp, as one CALL. */
UNUSED static pn_program *calling_jacobian(int vjp) {
    builder b = {.spec = {.segments = {0, !vjp, vjp}}};
    add_slot(&b, 1), add_slot(&b, 2), add_slot(&b, 0);
    if (!vjp) {
        add_output(&b, add(&b, PN_OP_CALL, 6, -1, -1, -1, PN_CALL_JACOBIAN, 0, 0));
        return must_create(&b);
    }
    add_slot(&b, 6);
    add_output(&b, -1);
    add_output(&b, add(&b, PN_OP_CALL, 2, -1, -1, -1, PN_CALL_JACOBIAN_VJP, 0, 0));
    add_output(&b, -1), add_output(&b, -1);
    return must_create(&b);
}

/* ---- a solve with all its arrays --------------------------------------------------------------------------------- */
typedef struct fixture {
    pn_problem p;
    pn_program *field, *reverse, *part[8]; /* destroyed by fixture_end */
    int f32;
    size_t rows, segments, n_theta;
    double *t; /* writable views of what the problem points to */
    int64_t *t_len;
    void *theta, *y0, *coef, *target, *data;
} fixture;

/* Room for all results, a squared loss and the gradient. */
UNUSED static void fixture_results(fixture *f) {
    pn_problem *p = &f->p;
    size_t count = (size_t)p->n, d = (size_t)p->d;
    size_t element = f->f32 ? sizeof(float) : sizeof(double);
    p->y = keep(f->rows * d, element);
    p->status = keep(count, sizeof *p->status);
    p->stop_t = keep(count, sizeof *p->stop_t);
    p->stop_component = keep(count, sizeof *p->stop_component);
    p->nfe = keep(count, sizeof *p->nfe);
    p->accepted = keep(count, sizeof *p->accepted);
    p->rejected = keep(count, sizeof *p->rejected);
    p->loss = PN_LOSS_SQUARED;
    p->target = f->target = random_array(f->rows * d, f->f32, 1);
    p->sample_loss = keep(count, sizeof *p->sample_loss);
    p->sample_weight = keep(count, sizeof *p->sample_weight);
    p->gradient = PN_GRAD_DISCRETE;
    p->g_theta = keep(f->n_theta, sizeof(double));
    p->g_y0 = keep(count * d, sizeof(double));
    p->g_t = keep(f->rows, sizeof(double));
}
/* Inputs, linear on 3 segments. */
UNUSED static void fixture_inputs(fixture *f) {
    enum { SEGMENTS = 3 };
    pn_problem *p = &f->p;
    size_t count = (size_t)p->n, m = (size_t)p->m;
    double *knot = keep(SEGMENTS + 1, sizeof *knot);
    int64_t *zero = keep(count, sizeof *zero), *knot_len = keep(count, sizeof *knot_len),
            *seg_start = keep(count, sizeof *seg_start);
    for (int k = 0; k <= SEGMENTS; k++) knot[k] = 0.93 * k;
    for (size_t i = 0; i < count; i++) knot_len[i] = SEGMENTS + 1, seg_start[i] = (int64_t)i * SEGMENTS;
    f->segments = count * SEGMENTS;
    f->coef = random_array(f->segments * 2 * m, f->f32, 1);
    p->knot = knot;
    p->knot_start = zero;
    p->knot_len = knot_len;
    p->seg_start = seg_start;
    p->coef = f->coef;
    p->n_knots = SEGMENTS + 1;
    p->n_segments = (int64_t)f->segments;
    p->degree = 1;
    p->g_coef = keep(f->segments * 2 * m, sizeof(double));
}
/* n samples of a random network, ragged times in 0 .. 2.5 (1 to 5 of them), inputs linear on 3 segments, squared loss */
UNUSED static fixture fixture_begin(int32_t d, int32_t m, int64_t n, int f32, const char *method) {
    enum { HIDDEN = 7 };
    builder b;
    fixture f = {.f32 = f32};
    pn_problem *p = &f.p;
    size_t count = (size_t)n;
    net(&b, d, m, HIDDEN, 0, 1);
    f.field = must_create(&b);
    net(&b, d, m, HIDDEN, 1, 1);
    f.reverse = must_create(&b);
    f.n_theta = (size_t)net_params(d, m, HIDDEN);
    f.theta = random_array(f.n_theta, f32, 0.8);
    f.y0 = random_array(count * (size_t)d, f32, 1);
    int64_t *t_start = keep(count, sizeof *t_start), *row = keep(count, sizeof *row);
    f.t_len = keep(count, sizeof *f.t_len);
    for (size_t i = 0; i < count; i++) {
        f.t_len[i] = i == 0 ? 5 : 1 + (int64_t)(i * 7 % 5);
        t_start[i] = row[i] = (int64_t)f.rows;
        f.rows += (size_t)f.t_len[i];
    }
    f.t = keep(f.rows, sizeof *f.t);
    for (size_t i = 0; i < count; i++)
        for (int64_t j = 0; j < f.t_len[i]; j++) f.t[row[i] + j] = 0.5 * (double)j + (j ? 0.1 * (double)(i % 5) : 0);
    pn_problem_init(p);
    p->field = f.field;
    p->reverse = f.reverse;
    p->theta = f.theta;
    p->n_theta = (int64_t)f.n_theta;
    p->tableau = pn_tableau_find(method);
    p->d = d;
    p->m = m;
    p->n = n;
    p->y0 = f.y0;
    p->t = f.t;
    p->t_start = t_start;
    p->t_len = f.t_len;
    p->row = row;
    p->n_t = p->rows = (int64_t)f.rows;
    if (m) fixture_inputs(&f);
    double *atol = keep((size_t)d, sizeof *atol);
    for (int32_t i = 0; i < d; i++) atol[i] = f32 ? 1e-5 : 1e-8;
    p->adaptive = p->tableau->error_order > 0;
    p->step = 0.05;
    p->rtol = f32 ? 1e-4 : 1e-7;
    p->atol = atol;
    fixture_results(&f);
    return f;
}
/* Jumps with k numbers a row and a loss of d, both programs; a third of the rows left out. Theta is drawn anew. */
UNUSED static void fixture_parts(fixture *f, int32_t k) {
    builder b;
    pn_problem *p = &f->p;
    for (int vjp = 0; vjp < 2; vjp++) {
        net(&b, p->d, k, 5, vjp, 1);
        f->part[vjp] = must_create(&b);
        row_loss(&b, p->d, vjp);
        f->part[2 + vjp] = must_create(&b);
    }
    size_t n_field = f->n_theta, n_jump = (size_t)net_params(p->d, k, 5);
    f->n_theta = n_field + n_jump + (size_t)p->d + 1;
    p->theta = f->theta = random_array(f->n_theta, f->f32, 0.8);
    p->n_theta = (int64_t)f->n_theta;
    p->g_theta = keep(f->n_theta, sizeof(double));
    f->data = random_array(f->rows * (size_t)k, f->f32, 1);
    for (size_t r = 0; r < f->rows; r++) {
        if (r % 3 == 1) set(f->data, r * (size_t)k, f->f32, NAN);
        if (r % 3 == 2) set(f->target, r * (size_t)p->d, f->f32, NAN);
    }
    p->jump = (pn_part){f->part[0], f->part[1], (int64_t)n_field, f->data, k, keep(f->rows * (size_t)k, 8)};
    p->loss_part =
        (pn_part){f->part[2], f->part[3], (int64_t)(n_field + n_jump), f->target, p->d, keep(f->rows * (size_t)p->d, 8)};
    p->loss = PN_LOSS_PROGRAM;
    p->target = NULL;
    p->y_before = keep(f->rows * (size_t)p->d, f->f32 ? 4 : 8);
}
UNUSED static void fixture_end(fixture *f) {
    for (int i = 0; i < 8; i++) pn_program_destroy(&f->part[i]);
    pn_program_destroy(&f->field);
    pn_program_destroy(&f->reverse);
}

UNUSED static pn_status fixture_solve(fixture *f, pn_isa isa) { /* what is only added to starts from zero, results from NaN */
    const pn_problem *p = &f->p;
    const size_t n = (size_t)p->n;
    if (!p->back) { /* what the way forward writes */
        memset(p->y, 0xff, f->rows * (size_t)p->d * (f->f32 ? sizeof(float) : sizeof(double)));
        memset(p->stop_t, 0xff, n * sizeof *p->stop_t);
        memset(p->nfe, 0xff, n * sizeof *p->nfe);
        memset(p->accepted, 0xff, n * sizeof *p->accepted);
        memset(p->rejected, 0xff, n * sizeof *p->rejected);
        if (p->sample_loss) memset(p->sample_loss, 0xff, n * sizeof *p->sample_loss);
    }
    if (p->g_theta && p->gradient != PN_GRAD_NONE && (p->back || !p->tapes))
        memset(p->g_theta, 0xff, p->theta_each && n == 0 ? 0 : f->n_theta * sizeof *p->g_theta);
    if (p->g_y0) memset(p->g_y0, 0, (size_t)p->n * (size_t)p->d * sizeof(double));
    if (p->g_t) memset(p->g_t, 0, f->rows * sizeof(double));
    if (p->g_coef) memset(p->g_coef, 0, f->segments * 2 * (size_t)p->m * sizeof(double));
    return pn_solve(p, f->f32, isa, said);
}
/* Solve with adaptive steps, then prescribe those steps: the loss is a smooth function of everything but the grid. */
UNUSED static void freeze(fixture *f) {
    pn_problem *p = &f->p;
    size_t n = (size_t)p->n, total = 0;
    p->steps = keep(n, sizeof *p->steps);
    CHECK(fixture_solve(f, PN_ISA_BASELINE) == PN_OK);
    for (size_t i = 0; i < n; i++) {
        CHECK(p->status[i] == PN_OK && p->steps[i].n == p->accepted[i]);
        total += (size_t)p->steps[i].n + 1;
    }
    double *grid = keep(total, sizeof *grid);
    int64_t *start = keep(n, sizeof *start), *length = keep(n, sizeof *length), used = 0;
    for (size_t i = 0; i < n; i++) {
        pn_steps *s = &p->steps[i];
        start[i] = used;
        length[i] = s->n + 1;
        for (int64_t k = 0; k < s->n; k++) grid[used++] = s->record[2 * k];
        grid[used++] = f->t[p->row[i] + f->t_len[i] - 1];
        free(s->record);
    }
    p->steps = NULL;
    p->grid = grid;
    p->grid_start = start;
    p->grid_len = length;
    p->n_grid = (int64_t)used;
    p->adaptive = 0;
}
UNUSED static double total_loss(const fixture *f) {
    double sum = 0;
    for (int64_t i = 0; i < f->p.n; i++) sum += f->p.sample_loss[i];
    return sum;
}

/* All results in one block of bytes, to compare them. */
typedef struct bytes {
    unsigned char *at;
    size_t n;
} bytes;
UNUSED static bytes snapshot(const fixture *f) {
    const pn_problem *p = &f->p;
    size_t n = (size_t)p->n, d = (size_t)p->d, element = f->f32 ? sizeof(float) : sizeof(double);
    struct {
        const void *at;
        size_t size;
    } part[] = {
        {p->y, f->rows * d * element},
        {p->status, n * sizeof *p->status},
        {p->stop_t, n * sizeof *p->stop_t},
        {p->nfe, n * sizeof *p->nfe},
        {p->accepted, n * sizeof *p->accepted},
        {p->rejected, n * sizeof *p->rejected},
        {p->sample_loss, n * 8},
        {p->g_theta, p->theta_each && n == 0 ? 0 : f->n_theta * 8},
        {p->g_y0, n * d * 8},
        {p->g_t, f->rows * 8},
        {p->y_before, p->y_before ? f->rows * d * element : 0},
        {p->jump.g_data, p->jump.g_data ? f->rows * (size_t)p->jump.k * 8 : 0},
        {p->loss_part.g_data, p->loss_part.g_data ? f->rows * d * 8 : 0},
        {p->g_coef, p->g_coef ? f->segments * 2 * (size_t)p->m * 8 : 0},
    };
    bytes all = {NULL, 0};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) all.n += part[i].size;
    all.at = keep(all.n, 1);
    size_t used = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        if (part[i].size && part[i].at) memcpy(all.at + used, part[i].at, part[i].size), used += part[i].size;
    return all;
}
UNUSED static int same_bytes(bytes a, bytes b) { return a.n == b.n && !memcmp(a.at, b.at, a.n); }

/* Budgets from `most` down to above `least`, each half of the one before, till one is too small: all give these bytes. How many below
   `small` were enough. */
UNUSED static int same_with_less(fixture *f, pn_isa isa, bytes all, int64_t most, int64_t least, int64_t small,
                                 const char *what) {
    int enough = 0;
    for (f->p.memory = most; f->p.memory > least; f->p.memory /= 2) {
        pn_status st = fixture_solve(f, isa);
        CHECKF(st == PN_OK || st == PN_BUDGET, "%s", pn_status_name(st));
        if (st != PN_OK) break;
        enough += f->p.memory < small;
        CHECKF(same_bytes(all, snapshot(f)), "%s %s f%d n %d: memory %d", what, pn_isa_name(isa), f->f32 ? 32 : 64, (int)f->p.n,
               (int)f->p.memory);
    }
    return enough;
}

UNUSED static pn_problem unchanged; /* what a fixture began with */

/* A problem with one change is refused, and the message names what is wrong. */
#define REFUSED(f, text, ...)                                                                                                  \
    do {                                                                                                                       \
        (f).p = unchanged;                                                                                                     \
        pn_problem *p = &(f).p;                                                                                                \
        __VA_ARGS__;                                                                                                           \
        said[0] = 0;                                                                                                           \
        CHECKF(pn_solve(p, 0, PN_ISA_PLAIN, said) == PN_BAD_ARGUMENT, "%s", #__VA_ARGS__);                                     \
        CHECKF(strstr(said, text) != NULL, "%s: says", #__VA_ARGS__);                                                          \
        (f).p = unchanged;                                                                                                     \
    } while (0)

/* EACH_ISA(isa) { ... } for every instruction set that runs here */
#define EACH_ISA(isa)                                                                                                          \
    for (pn_isa isa = PN_ISA_PLAIN; isa < PN_N_ISA; isa = (pn_isa)(isa + 1))                                                   \
        if (pn_isa_available(isa))
#endif
