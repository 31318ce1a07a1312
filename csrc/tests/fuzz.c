/* Coverage-guided fuzzing of programs and problems: tests/campaign.sh fuzz builds it with clang's libFuzzer and the sanitizers.

   The bytes of an input are choices. The first says whether they make a program, mostly well formed, which is created and run; or a
   problem, whose field may be such a program, and whose options are any that go together or not. What is refused must say why. What is
   solved must have the same bits a second time: with other numbers of threads, under a memory budget, or as it was. */
#include <stdint.h>

#include "memory.h"
#include "program/program.h"
#include "tests/check.h"
#include "tests/draw.h"
#include "tests/hoisted.h"
#include "tests/sparse.h"
#include "tests/stiff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int answer(void *ctx, int which, int n_active, const double *t, const double *y, const double *u, const double *seed,
                  double *out, int n_out) {
    (void)ctx, (void)which, (void)t, (void)y, (void)u, (void)seed;
    for (int i = 0; i < n_active * n_out; i++) out[i] = 0.25 * i;
    return 0;
}

/* A field, whose answers do not depend on the samples that are asked for together; ctx is d. */
static int field_answer(void *ctx, int which, int n_active, const double *t, const double *y, const double *u,
                        const double *seed, double *out, int n_out) {
    const int32_t d = *(const int32_t *)ctx;
    (void)u, (void)seed;
    for (int i = 0; i < n_active; i++)
        for (int k = 0; k < n_out; k++) out[i * n_out + k] = 0.25 * (which + 1) * cos(t[i] + y[i * d] + k);
    return 0;
}

static pn_isa drawn_isa(void) {
    const pn_isa isa = (pn_isa)pick(PN_N_ISA);
    return pn_isa_available(isa) ? isa : PN_ISA_BASELINE;
}

/* ---- programs ----------------------------------------------------------------------------------------------------------- */
static void programs(void) {
    static const int64_t counts[] = {1, 2, 5, 8, 19, 40};
    builder b;
    pn_program *p;
    if (pick(8))
        drawn_program(&b);
    else
        changed_program(&b);
    const pn_status made = create(&b, &p);
    CHECK((made == PN_OK) == (p != NULL) && (made == PN_OK || made == PN_BAD_PROGRAM) && (made == PN_OK || b.message[0]));
    if (!p) return;
    const int f32 = pick(2);
    const size_t element = f32 ? sizeof(float) : sizeof(double), n = (size_t)counts[pick(6)];
    void *slot[PN_MAX_SLOTS] = {NULL}, *out[PN_MAX_OUTPUTS] = {NULL};
    const void *theta[PN_MAX_SPACES] = {NULL};
    double *grad[PN_MAX_SPACES] = {NULL};
    for (int32_t i = 0; i < b.spec.n_slots; i++) slot[i] = random_array(n * (size_t)b.sizes[i], f32, 2);
    for (int32_t i = 0; i < b.spec.n_slots; i++)
        if (b.sizes[i] && seldom()) set(slot[i], 0, f32, number());
    for (int32_t i = 0; i < b.spec.n_outputs; i++)
        out[i] = keep(n * (size_t)(b.outputs[i] >= 0 ? b.sizes[b.outputs[i]] : 0), element);
    for (int32_t i = 0; i < b.spec.n_spaces; i++)
        theta[i] = b.n_theta[i] <= 4000 ? random_array((size_t)b.n_theta[i], f32, 1) : NULL;
    for (int32_t i = 0; i < b.spec.n_grads; i++) grad[i] = keep((size_t)b.n_grad[i], sizeof(double));
    if (b.n_theta[0] <= 4000 && b.n_theta[1] <= 4000)
        CHECK(pn_evaluate(p, f32, drawn_isa(), (int64_t)n, (const void *const *)slot, theta, out, grad, answer, NULL) == PN_OK);
    pn_program_destroy(&p);
}

/* ---- problems: fields ----------------------------------------------------------------------------------------------------- */
typedef struct problem { /* what a fixture lacks */
    fixture f;
    pn_pattern *pattern;
    pn_program *event;
    void *g_y;
    struct {
        const void *at;
        size_t bytes;
    } result[8]; /* of options */
    int n_results;
} problem;

static void *result(problem *x, size_t count, size_t size) {
    void *to = keep(count, size);
    x->result[x->n_results].at = to;
    x->result[x->n_results++].bytes = count * size;
    return to;
}

/* The first sample has `most` times, the others at most that many. */
static void more_times(fixture *f, int64_t most) {
    pn_problem *p = &f->p;
    int64_t *t_start = keep((size_t)p->n, sizeof *t_start), *row = keep((size_t)p->n, sizeof *row);
    f->rows = 0;
    for (int64_t i = 0; i < p->n; i++) {
        f->t_len[i] = i == 0 ? most : 1 + i * 7 % most;
        t_start[i] = row[i] = (int64_t)f->rows;
        f->rows += (size_t)f->t_len[i];
    }
    p->t = f->t = keep(f->rows, sizeof *f->t);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < f->t_len[i]; j++) f->t[row[i] + j] = 2.0 * (double)j / (double)most;
    p->t_start = t_start, p->row = row;
    p->n_t = p->rows = (int64_t)f->rows;
    fixture_results(f);
}

static void forward_only(fixture *f) {
    f->p.gradient = PN_GRAD_NONE;
    f->p.reverse = f->p.jacobian_reverse = NULL;
}

/* The field of a fixture becomes another. 0: it is refused. */
static int other_field(fixture *f, pn_program *field) {
    if (!field) return 0;
    pn_program_destroy(&f->field);
    f->p.field = f->field = field;
    f->p.theta = f->theta = random_array(THETA, f->f32, 0.5);
    f->p.n_theta = THETA, f->n_theta = THETA;
    f->p.g_theta = keep(THETA, sizeof(double));
    forward_only(f);
    return 1;
}

static fixture with_callback(int64_t n, int f32, const char *method) {
    fixture f = fixture_begin(2, 0, n, f32, method);
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    f.p.field = f.field = calling(0);
    f.p.reverse = f.reverse = calling(1);
    f.p.n_theta = 0, f.n_theta = 0;
    return f;
}

static fixture on_pattern(problem *x, int64_t n, int f32, const char *method) {
    const entries e = drawn_entries();
    fixture f = fixture_begin(e.d, 0, n, f32, method);
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    f.p.field = f.field = entries_program(&e, 0, 0);
    f.p.reverse = f.reverse = entries_program(&e, 0, 1);
    f.p.jacobian = f.part[0] = entries_program(&e, 1, 0);
    f.p.jacobian_reverse = f.part[1] = entries_program(&e, 1, 1);
    f.p.n_theta = 0, f.n_theta = 0;
    double *mass = keep((size_t)(e.d * e.d), sizeof *mass);
    for (int32_t i = 0; i < e.d; i++) mass[i * (e.d + 1)] = pick(4) ? 1 : pick(2) ? 0 : number();
    if (pick(3) == 0) f.p.mass = mass;
    if (pn_pattern_create(e.d, e.n, e.row, e.col, f.p.mass, said, &x->pattern) != PN_OK) CHECK(said[0]);
    f.p.pattern = x->pattern;
    return f;
}

/* A field of some kind with its fixture. 0: nothing to solve. */
static int fields(problem *x) {
    static const int32_t counts[] = {1, 2, 1, 3, 5, 9, 17, 40, 0};
    const int f32 = pick(2);
    const int32_t kind = pick(16), n = counts[pick(9)];
    const char *const method = pn_tableau_at(pick(pn_tableau_count()))->name;
    const char *const rosenbrock = pn_rosenbrock_at(pick(pn_rosenbrock_count()))->name;
    switch (kind) {
    case 0: x->f = stiff_fixture(n, f32, rosenbrock, 1 + pick(20)); break;
    case 1: x->f = changing(n, f32, 1 + 2 * pick(40)); break;
    case 2: x->f = on_pattern(x, n, f32, rosenbrock); break;
    case 3: {
        const sparse s = sparse_line();
        x->f = sparse_fixture(&s, n, 1, rosenbrock, 0.1); /* of f64 */
        break;
    }
    case 4: x->f = with_callback(n, f32, method); break;
    case 5:
    case 6:
    case 7: {
        const int32_t d = 1 + pick(8), m = pick(3);
        x->f = fixture_begin(d, m, n, f32, method);
        if (!other_field(&x->f, drawn_field(d, m, pick(2)))) return 0;
        if (x->f.p.field->n_grads && pick(2)) {
            x->f.p.quadrature = result(x, THETA, sizeof(double));
            if (m) x->f.p.quadrature_coef = result(x, x->f.segments * 2 * (size_t)m, sizeof(double));
        }
        break;
    }
    case 8: x->f = hoisted_fixture(1 + pick(5), pick(2), n, f32, method, 0); break;
    default: x->f = fixture_begin(1 + pick(5), pick(3), n, f32, method);
    }
    if (!x->f.p.hoisted.once) x->f.p.call = field_answer, x->f.p.call_ctx = &x->f.p.d;
    return x->f.p.field != NULL;
}

/* ---- problems: options ---------------------------------------------------------------------------------------------------- */
static void control(pn_problem *p) {
    static const double step[] = {0.05, 0.5, 0.01, 0, 3, NAN, -1};
    static const double rtol[] = {1e-4, 1e-3, 1e-9, 0.5, 0, 1e-14, NAN, INFINITY};
    p->adaptive = p->tableau->error_order > 0 ? pick(4) != 0 : seldom();
    p->step = step[pick(seldom() ? 7 : 3)];
    p->rtol = rtol[pick(seldom() ? 8 : 4)];
    p->land = pick(2);
    p->max_steps = seldom() ? any() % 99 : 4 + pick(60);
    if (pick(4) == 0) p->first_step = seldom() ? number() : 0.01 * (1 + pick(50));
    if (pick(4) == 0) p->max_step = seldom() ? number() : 0.05 * (1 + pick(50));
    if (pick(16) == 0) p->safety = number(), p->beta = number();
    if (pick(16) == 0) p->min_factor = number(), p->max_factor = number();
    if (pick(6) == 0) p->lambda = seldom() ? number() : 0.5 + 0.01 * pick(51), p->gradient = (pn_gradient)pick(3);
}

/* A table of coefficients from outside: the method's, one number changed. What its check passes is used. */
static void table(pn_problem *p) {
    static pn_tableau m;
    char message[PN_MESSAGE] = "";
    m = *p->tableau;
    const int i = pick(PN_MAX_STAGES), j = pick(PN_MAX_DEGREE + 1);
    double *const entry[] = {&m.c[i], &m.a[i][j], &m.b[i % PN_MAX_CORE], &m.e[i], &m.e2[i], &m.dense[i][j], &m.gamma};
    int *const size[] = {&m.order, &m.error_order, &m.s, &m.n_extra, &m.dense_degree, &m.dense_order};
    if (pick(2))
        *entry[pick(7)] = number();
    else
        *size[pick(6)] = any();
    if (pn_tableau_check(&m, message, sizeof message))
        p->tableau = &m;
    else
        CHECK(message[0]);
}

static void times(fixture *f) {
    pn_problem *p = &f->p;
    if (pick(4) == 0) more_times(f, 1 + pick(50));
    const double shift = pick(6) ? 0 : number(), scale = pick(6) ? 1 : number(), way = pick(3) ? 1 : -1;
    for (size_t i = 0; i < f->rows; i++) f->t[i] = shift + way * scale * f->t[i];
    for (int32_t i = pick(2) * pick(3); i > 0 && f->rows > 1; i--) { /* equal, next to each other, out of order */
        const size_t j = (size_t)pick((int32_t)(f->rows < 256 ? f->rows : 256));
        f->t[j] = seldom() ? number() : j ? (pick(2) ? f->t[j - 1] : nextafter(f->t[j - 1], INFINITY)) : f->t[j];
    }
    if (pick(8) == 0 && p->n) {
        static double stops[4];
        for (int i = 0; i < 4; i++) stops[i] = i % 2 ? nextafter(stops[i - 1], INFINITY) : 0.3 * (1 + pick(5)) + i;
        p->stops = stops;
        p->n_stops = seldom() ? any() % 5 : 2 * pick(3);
    }
}

/* Steps of each sample: its time cut into as many pieces. */
static void grid(fixture *f) {
    pn_problem *p = &f->p;
    const size_t pieces = 1 + (size_t)pick(6), n = (size_t)p->n;
    double *ends = keep(n * (pieces + 1), sizeof *ends);
    int64_t *start = keep(n, sizeof *start), *length = keep(n, sizeof *length);
    for (size_t i = 0; i < n; i++) {
        const double *t = f->t + p->row[i], t1 = t[f->t_len[i] - 1];
        const size_t own = t[0] == t1 ? 0 : pieces;
        start[i] = (int64_t)(i * (pieces + 1)), length[i] = (int64_t)own + 1;
        const double piece = (t1 - t[0]) / (double)pieces;
        for (size_t k = 0; k <= own; k++) ends[i * (pieces + 1) + k] = k == own ? t1 : t[0] + piece * (double)k;
    }
    p->grid = ends, p->grid_start = start, p->grid_len = length;
    p->n_grid = (int64_t)(n * (pieces + 1));
    p->adaptive = seldom();
}

/* g = (sum of y - level, y_0 - sin t) or the first of them */
static void events(problem *x) {
    pn_problem *p = &x->f.p;
    builder b = {.spec = {.fuse = 1, .n_consts = 1}, .consts = {number()}};
    const int32_t t = add_slot(&b, 1), y = add_slot(&b, p->d);
    add_slot(&b, 0);
    const int32_t level = add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0);
    int32_t g = add(&b, PN_OP_SUB, 1, add(&b, PN_OP_SUM, 1, y, -1, -1, 0, 0, 0), level, -1, 0, 0, 0), n = 1 + pick(2);
    if (n == 2) {
        const int32_t wave = add(&b, PN_OP_SIN, 1, t, -1, -1, 0, 0, 0), y0 = add(&b, PN_OP_SLICE, 1, y, -1, -1, 0, 1, 0);
        g = add(&b, PN_OP_CONCAT, 2, g, add(&b, PN_OP_SUB, 1, y0, wave, -1, 0, 0, 0), -1, 0, 0, 0);
    }
    add_output(&b, g);
    b.spec.segments[1] = b.spec.n_code;
    int32_t *direction = keep(2, sizeof *direction);
    direction[0] = pick(3) - 1, direction[1] = seldom() ? any() : pick(3) - 1;
    p->event = x->event = must_create(&b);
    p->event_direction = direction;
    p->event_side = result(x, (size_t)(p->n * n), sizeof(int32_t));
    p->event_which = result(x, (size_t)p->n, sizeof(int32_t));
    p->event_y = result(x, (size_t)(2 * p->n * p->d), x->f.f32 ? sizeof(float) : sizeof(double));
    if (!seldom()) p->gradient = PN_GRAD_NONE, p->lambda = 0;
}

static void losses(problem *x) {
    fixture *f = &x->f;
    pn_problem *p = &f->p;
    const size_t numbers = f->rows * (size_t)p->d;
    p->loss = (pn_loss)pick(5);
    if (pick(5) == 0) p->loss_scale = number(), p->loss_dof = number();
    if (p->loss == PN_LOSS_NONE && pick(2)) p->target = p->weight = NULL;
    if (pick(6) == 0) p->weight = random_array(numbers, f->f32, 1);
    if (pick(6) == 0) p->gradient = PN_GRAD_NONE;
    if (pick(4) == 0 && p->gradient == PN_GRAD_NONE && p->reverse)
        p->sensitivity = result(x, numbers * (f->n_theta + (size_t)p->d), sizeof(double));
    if (pick(6) == 0) p->g_y = random_array(numbers, f->f32, 1), p->loss = pick(4) ? PN_LOSS_NONE : p->loss;
    if (pick(8) == 0) p->jump_add = random_array(numbers, f->f32, 0.1), p->jump_set = random_array(numbers, f->f32, 0.1);
    if (p->jump_add && pick(4)) p->gradient = PN_GRAD_NONE;
    if (pick(8) == 0 && p->target && f->rows)
        set(f->target, (size_t)pick((int32_t)(numbers < 250 ? numbers : 250)), f->f32, pick(2) ? INFINITY : number());
    if (pick(10) == 0) p->g_y0 = NULL;
    if (pick(10) == 0) p->g_t = NULL;
}

static void values(fixture *f) {
    pn_problem *p = &f->p;
    if (pick(8) == 0 && p->n) set(f->y0, (size_t)pick(p->d), f->f32, number());
    if (pick(8) == 0 && f->n_theta)
        set(f->theta, (size_t)pick((int32_t)(f->n_theta < 250 ? f->n_theta : 250)), f->f32, number());
    if (pick(16) == 0 && f->segments) set(f->coef, (size_t)pick(6), f->f32, number());
    if (pick(6) == 0 && p->m) {
        int64_t *over = keep((size_t)p->n, sizeof *over);
        for (int64_t i = 0; i < p->n; i++) over[i] = i % 3 != 1;
        p->cross_knots = over;
    }
}

/* Every sample with parameters of its own, or its steps kept, or tapes. */
static void others(problem *x) {
    fixture *f = &x->f;
    pn_problem *p = &f->p;
    const size_t n = (size_t)p->n;
    if (pick(6) == 0) {
        p->theta = f->theta = random_array(n * f->n_theta, f->f32, 0.8);
        p->theta_each = 1;
        p->g_theta = result(x, n * f->n_theta, sizeof(double));
    }
    if (pick(6) == 0) p->steps = keep(n, sizeof *p->steps), p->dense = pick(2);
    if (pick(6) == 0 && p->gradient == PN_GRAD_DISCRETE) {
        p->tapes = pn_tapes_create();
        if (!seldom()) p->loss = PN_LOSS_NONE, p->g_y = NULL, p->call = NULL;
        x->g_y = random_array(f->rows * (size_t)p->d, f->f32, 1);
    }
    p->jacobians = result(x, n, sizeof *p->jacobians);
    p->factorisations = result(x, n, sizeof *p->factorisations);
}

/* ---- problems: solved ----------------------------------------------------------------------------------------------------- */
static pn_status solve(problem *x, pn_isa isa) {
    pn_problem *p = &x->f.p;
    const size_t sides = p->event ? (size_t)p->n * (size_t)p->event->output_size[0] : 0;
    if (p->event) memset(p->event_side, 0, sides * sizeof *p->event_side);
    for (int64_t i = 0; p->event && i < p->n; i++) p->event_which[i] = -1;
    for (int64_t i = 0; p->steps && i < p->n; i++) p->steps[i] = (pn_steps){0, NULL};
    if (p->quadrature_coef) memset(p->quadrature_coef, 0, x->f.segments * 2 * (size_t)p->m * sizeof(double));
    pn_status st = fixture_solve(&x->f, isa);
    for (int64_t i = 0; p->steps && i < p->n; i++) free(p->steps[i].record);
    if (st != PN_OK || !p->tapes) return st;
    const void *g_y = p->g_y;
    p->back = 1, p->g_y = x->g_y;
    st = fixture_solve(&x->f, isa);
    p->back = 0, p->g_y = g_y;
    return st;
}

static bytes results(const problem *x) {
    fixture f = x->f;
    if (f.p.theta_each) f.n_theta = 0; /* those gradients are among the others */
    bytes all = snapshot(&f);
    size_t used = all.n;
    for (int i = 0; i < x->n_results; i++) all.n += x->result[i].bytes;
    unsigned char *to = keep(all.n, 1);
    memcpy(to, all.at, used);
    for (int i = 0; i < x->n_results; i++) {
        memcpy(to + used, x->result[i].at, x->result[i].bytes);
        used += x->result[i].bytes;
    }
    return (bytes){to, all.n};
}

static void problem_end(problem *x) {
    pn_tapes_destroy(&x->f.p.tapes);
    pn_pattern_destroy(&x->pattern);
    pn_program_destroy(&x->event);
    fixture_end(&x->f);
}

static void tell(const problem *x, pn_isa isa) {
    const pn_problem *p = &x->f.p;
    printf("%s f%d %s%s d %d m %d n %d rows %d: gradient %d loss %d coupling %g adaptive %d step %g rtol %g max_steps %d;",
           pn_isa_name(isa), x->f.f32 ? 32 : 64, p->tableau->name, p->stiff ? " and a stiff one" : "", (int)p->d, (int)p->m,
           (int)p->n, (int)p->rows, (int)p->gradient, (int)p->loss, p->lambda, (int)p->adaptive, p->step, p->rtol,
           (int)p->max_steps);
    printf("%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s\n", p->land ? " land" : "", p->theta_each ? " theta_each" : "",
           p->tapes ? " tapes" : "", p->event ? " event" : "", p->grid ? " grid" : "", p->stops ? " stops" : "",
           p->steps ? " steps" : "", p->g_y ? " g_y" : "", p->sensitivity ? " sensitivity" : "",
           p->quadrature ? " quadrature" : "", p->jump_add ? " jump_add" : "", p->jump.program ? " jump" : "",
           p->pattern ? " pattern" : "", p->mass ? " mass" : "", p->hoisted.once ? " hoisted" : "");
}

static void problems(void) {
    problem x = {.pattern = NULL};
    if (!fields(&x)) {
        problem_end(&x);
        return;
    }
    pn_problem *p = &x.f.p;
    times(&x.f);
    if (!p->jacobian && p->reverse && x.f.n_theta && pick(5) == 0) fixture_parts(&x.f, 1 + pick(3));
    if (!p->loss_part.program) losses(&x);
    control(p);
    if (pick(16) == 0) table(p);
    values(&x.f);
    others(&x);
    if (pick(8) == 0) grid(&x.f);
    if (pick(8) == 0) events(&x);
    const pn_isa isa = drawn_isa();
    said[0] = 0;
    const pn_status st = solve(&x, isa);
    if (st == PN_OK) {
        const int32_t how = pick(8);
        const bytes first = results(&x);
        if (how == 7) p->threads = 2 + pick(3);
        if (how == 6 && p->gradient == PN_GRAD_DISCRETE && !p->tapes) p->memory = 1 << (8 + pick(12));
        const pn_status again = solve(&x, isa);
        CHECKF(again == PN_OK || (again == PN_BUDGET && p->memory), "memory %d: %s", (int)p->memory, pn_status_name(again));
        CHECKF(again != PN_OK || same_bytes(first, results(&x)), "threads %d, memory %d", p->threads, (int)p->memory);
    } else
        CHECKF(st == PN_BUDGET || (st == PN_BAD_ARGUMENT && said[0]), "%s", pn_status_name(st));
    if (failures) tell(&x, isa);
    problem_end(&x);
}

/* The stores stay: pages of 16 MB, which the sanitizers would mark anew for each gradient. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    at = data, end = data + size;
    seed_state = 1;
    const size_t mark = n_kept;
    if (pick(2))
        programs();
    else
        problems();
    release(mark);
    if (failures) fflush(stdout), abort();
    return 0;
}
