/* Coverage-guided fuzzing of programs and problems: tests/campaign.sh fuzz builds it with clang's libFuzzer and the sanitizers.

   The bytes of an input are choices. The first says whether they make a program, mostly well formed, which is created and run on one
   sample and on several; or a problem, whose options are any that go together or not. What is refused must say why. What is solved
   must have the same bits with other numbers of threads, under a memory budget, and for a part of the samples. */
#include <stdint.h>

#include "memory.h"
#include "tests/check.h"
#include "tests/stiff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *at, *end;
static int32_t pick(int32_t n) { return n > 0 && at < end ? *at++ % n : 0; } /* 0 .. n - 1, below 256 */
static int likely(void) { return pick(256) < 240; }
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
static int32_t some_register(const builder *b) { return b->spec.n_reg && likely() ? pick(b->spec.n_reg) : any(); }
static int32_t size_of(const builder *b, int32_t r) { return r >= 0 && r < b->spec.n_reg ? b->sizes[r] : 1; }

/* The size of the output that this operation wants, where there is one. */
static int32_t out_size(const builder *b, int32_t op, int32_t a, int32_t second) {
    const int32_t na = size_of(b, a), nb = size_of(b, second);
    switch (op) {
    case PN_OP_MATVEC:
    case PN_OP_MATVEC_T: return nb > 0 ? na / nb : 1;
    case PN_OP_OUTER: return na * nb;
    case PN_OP_CONCAT: return na + nb;
    case PN_OP_SUM: return 1;
    case PN_OP_ACC:
    case PN_OP_ACC_OUTER: return 0;
    case PN_OP_CONST:
    case PN_OP_PARAM:
    case PN_OP_AFFINE:
    case PN_OP_AFFINE_T:
    case PN_OP_BCAST:
    case PN_OP_SLICE:
    case PN_OP_GATHER:
    case PN_OP_SCATTER:
    case PN_OP_CALL: return 1 + pick(20);
    default: return na;
    }
}

static void drawn_program(builder *b) {
    *b = (builder){.spec = {.n_spaces = 1 + pick(2), .n_grads = pick(3), .n_consts = 24, .n_index = 48, .fuse = pick(2)},
                   .n_theta = {40, 7},
                   .n_grad = {40, 9}};
    const int32_t slots = pick(5), length = 1 + pick(40);
    for (int32_t i = 0; i < slots; i++) add_slot(b, i == 0 ? 1 : pick(18));
    for (int i = 0; i < 24; i++) b->consts[i] = number();
    for (int i = 0; i < 48; i++) b->index[i] = likely() ? pick(4) : any();
    for (int32_t i = 0; i < length; i++) {
        const int32_t op = likely() ? pick(PN_N_OPS) : any(), a = some_register(b);
        int32_t second = some_register(b), third = some_register(b);
        for (int32_t r = 0; op > PN_OP_SCATTER - 30 && op < PN_OP_BCAST && r < b->spec.n_reg; r++) /* of the size of a */
            if (size_of(b, r) == size_of(b, a) && pick(2)) third = second, second = r;
        int32_t n = likely() ? out_size(b, op, a, second) : any();
        if (n > 3000 || n < 0) n = 1;
        add(b, op, n, a, second, third, likely() ? pick(12) : any(), likely() ? pick(5) - 1 : any(),
            likely() ? pick(2) : any());
    }
    const int32_t acc = pick(4) == 0 ? pick(length + 1) : 0; /* what accumulates is last */
    int32_t left = length - acc;
    for (int i = 0; i < 3; i++) {
        const int32_t part = i == 2 || !likely() ? left : i == 0 ? pick(left + 1) * pick(2) : pick(left + 1);
        b->spec.segments[i] = part;
        left -= part;
    }
    const int32_t outputs = 1 + pick(4);
    for (int32_t i = 0; i < outputs; i++)
        add_output(b, likely() ? b->spec.n_reg - 1 - pick(b->spec.n_reg ? b->spec.n_reg : 1) : any());
    if (!likely()) b->sizes[pick(ROOM)] = any();
    if (!likely()) b->n_theta[pick(2)] = any();
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

static int answer(void *ctx, int which, int n_active, const double *t, const double *y, const double *u, const double *seed,
                  double *out, int n_out) {
    (void)ctx, (void)which, (void)t, (void)y, (void)u, (void)seed;
    for (int i = 0; i < n_active * n_out; i++) out[i] = 0.25 * i;
    return 0;
}

static void programs(void) {
    builder b;
    pn_program *p;
    if (pick(3))
        drawn_program(&b);
    else
        changed_program(&b);
    const pn_status made = create(&b, &p);
    CHECK((made == PN_OK) == (p != NULL) && (made == PN_OK || made == PN_BAD_PROGRAM) && (made == PN_OK || b.message[0]));
    if (!p) return;
    const int f32 = pick(2);
    const size_t element = f32 ? sizeof(float) : sizeof(double);
    EACH_ISA(isa)
    for (int64_t n = 1; n <= 19; n += 18) {
        void *slot[PN_MAX_SLOTS] = {NULL}, *out[PN_MAX_OUTPUTS] = {NULL};
        const void *theta[PN_MAX_SPACES] = {NULL};
        double *grad[PN_MAX_SPACES] = {NULL};
        const size_t mark = n_kept;
        for (int32_t i = 0; i < b.spec.n_slots; i++) slot[i] = random_array((size_t)n * (size_t)b.sizes[i], f32, 2);
        for (int32_t i = 0; i < b.spec.n_outputs; i++)
            out[i] = keep((size_t)n * (size_t)(b.outputs[i] >= 0 ? b.sizes[b.outputs[i]] : 0), element);
        for (int32_t i = 0; i < b.spec.n_spaces; i++)
            theta[i] = b.n_theta[i] <= 4000 ? random_array((size_t)b.n_theta[i], f32, 1) : NULL;
        for (int32_t i = 0; i < b.spec.n_grads; i++) grad[i] = keep((size_t)b.n_grad[i], sizeof(double));
        if (b.n_theta[0] <= 4000 && b.n_theta[1] <= 4000)
            CHECK(pn_evaluate(p, f32, isa, n, (const void *const *)slot, theta, out, grad, answer, NULL) == PN_OK);
        release(mark);
    }
    pn_program_destroy(&p);
}

/* ---- problems ----------------------------------------------------------------------------------------------------------- */
static void control(pn_problem *p) {
    static const double step[] = {0.05, 0.5, 1e-3, 0, 3, NAN, -1};
    static const double rtol[] = {1e-6, 1e-3, 1e-9, 0.5, 0, 1e-14, NAN, INFINITY};
    p->adaptive = p->tableau->error_order > 0 ? pick(4) != 0 : !likely();
    p->step = step[pick(likely() ? 3 : 7)];
    p->rtol = rtol[pick(likely() ? 4 : 8)];
    p->land = pick(2);
    p->max_steps = likely() ? 50 + pick(200) : any();
    if (pick(4) == 0) p->first_step = likely() ? 0.01 * (1 + pick(50)) : number();
    if (pick(4) == 0) p->max_step = likely() ? 0.05 * (1 + pick(50)) : number();
    if (pick(8) == 0) p->safety = number(), p->beta = number();
    if (pick(8) == 0) p->min_factor = number(), p->max_factor = number();
    if (pick(5) == 0) p->lambda = likely() ? 0.5 + 0.01 * pick(51) : number(), p->gradient = (pn_gradient)pick(3);
}

static void times(fixture *f) {
    pn_problem *p = &f->p;
    const double shift = pick(4) ? 0 : number(), scale = pick(4) ? 1 : number(), way = pick(3) ? 1 : -1;
    for (size_t i = 0; i < f->rows; i++) f->t[i] = shift + way * scale * f->t[i];
    for (int32_t i = pick(3); i > 0 && f->rows > 1; i--) { /* equal, next to each other, out of order */
        const size_t j = (size_t)pick((int32_t)(f->rows < 256 ? f->rows : 256));
        f->t[j] = pick(2) && j ? (pick(2) ? f->t[j - 1] : nextafter(f->t[j - 1], INFINITY)) : number();
    }
    if (pick(6) == 0 && p->n) {
        static double stops[4];
        for (int i = 0; i < 4; i++) stops[i] = i % 2 ? nextafter(stops[i - 1], INFINITY) : 0.3 * (1 + pick(5)) + i;
        p->stops = stops;
        p->n_stops = likely() ? 2 * pick(3) : any() % 5;
    }
}

static void losses(fixture *f) {
    pn_problem *p = &f->p;
    p->loss = (pn_loss)pick(5);
    if (pick(5) == 0) p->loss_scale = number(), p->loss_dof = number();
    if (p->loss == PN_LOSS_NONE && pick(2)) p->target = p->weight = NULL;
    if (pick(6) == 0) p->gradient = PN_GRAD_NONE;
    if (pick(6) == 0 && p->gradient == PN_GRAD_NONE && f->n_theta < 300)
        p->sensitivity = keep(f->rows * (size_t)p->d * (f->n_theta + (size_t)p->d), sizeof(double));
    if (pick(6) == 0) p->g_y = random_array(f->rows * (size_t)p->d, f->f32, 1), p->loss = pick(3) ? PN_LOSS_NONE : p->loss;
    if (pick(6) == 0) p->jump_add = random_array(f->rows * (size_t)p->d, f->f32, 0.1);
    if (pick(8) == 0 && p->n) set(f->y0, (size_t)pick((int32_t)p->d), f->f32, number());
    if (pick(8) == 0) set(f->theta, (size_t)pick((int32_t)(f->n_theta < 250 ? f->n_theta : 250)), f->f32, number());
    if (pick(8) == 0 && p->target && f->rows)
        set(f->target, (size_t)pick((int32_t)(f->rows < 250 ? f->rows : 250)), f->f32, number());
    if (pick(10) == 0) p->g_y0 = NULL;
    if (pick(10) == 0) p->g_t = NULL;
}

static void problems(void) {
    static const int32_t counts[] = {1, 2, 3, 9, 17, 40, 70, 0};
    const int f32 = pick(2), implicit = pick(4) == 0;
    const int32_t n = counts[pick(8)];
    fixture f = implicit ? stiff_fixture(n ? n : 1, f32, pn_rosenbrock_at(pick(pn_rosenbrock_count()))->name, 1 + pick(20))
                         : fixture_begin(1 + pick(5), pick(3), n, f32, pn_tableau_at(pick(pn_tableau_count()))->name);
    pn_problem *p = &f.p;
    if (!implicit && pick(5) == 0) fixture_parts(&f, 1 + pick(3));
    control(p);
    times(&f);
    if (!p->loss_part.program) losses(&f);
    const size_t chunk = pick(3) ? 0 : 1u << (8 + pick(12));
    pn_isa isa = (pn_isa)pick(PN_N_ISA);
    if (!pn_isa_available(isa)) isa = PN_ISA_BASELINE;
    said[0] = 0;
    const pn_status st = fixture_solve(&f, isa);
    if (st == PN_OK) {
        const bytes first = snapshot(&f);
        p->threads = 2 + pick(3);
        CHECK(fixture_solve(&f, isa) == PN_OK && same_bytes(first, snapshot(&f)));
        p->threads = 1;
        if (chunk && p->gradient == PN_GRAD_DISCRETE) {
            p->memory = (int64_t)chunk;
            const pn_status less = fixture_solve(&f, isa);
            CHECKF(less == PN_BUDGET || less == PN_REPLAY || (less == PN_OK && same_bytes(first, snapshot(&f))),
                   "memory %d: %s", (int)chunk, pn_status_name(less));
            CHECK(less != PN_REPLAY);
        }
    } else
        CHECKF(st == PN_BUDGET || (st == PN_BAD_ARGUMENT && said[0]), "%s", pn_status_name(st));
    fixture_end(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    at = data, end = data + size;
    seed_state = 1;
    const size_t mark = n_kept;
    if (pick(2))
        programs();
    else
        problems();
    release(mark);
    pn_stores_free();
    if (failures) fflush(stdout), abort();
    return 0;
}
