/* Events: times and kinds against the exact solution of a rotation, y = A (cos(t + phi), -sin(t + phi)), forwards and backwards. */
#include "tests/check.h"

enum { EVENTS = 3, TIMES = 5 };
static const double level[EVENTS] = {0.3, -0.2, 0.9};
static const int32_t direction[EVENTS] = {0, 1, -1};

/* g = (y0 - level_0, y1 - level_1, sin(3 t) y0 - level_2); theta = level */
static pn_program *functions(void) {
    builder b = {.spec = {.n_spaces = 1, .fuse = 1, .n_consts = 1}, .n_theta = {EVENTS}, .consts = {3}};
    const int32_t t = add_slot(&b, 1), y = add_slot(&b, 2);
    add_slot(&b, 0);
    const int32_t three = add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0),
                  theta = add(&b, PN_OP_PARAM, EVENTS, -1, -1, -1, 0, 0, 0);
    b.spec.segments[0] = b.spec.n_code;
    const int32_t wave = add(&b, PN_OP_SIN, 1, add(&b, PN_OP_MUL, 1, three, t, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    const int32_t y0 = add(&b, PN_OP_SLICE, 1, y, -1, -1, 0, 1, 0);
    const int32_t all = add(&b, PN_OP_CONCAT, EVENTS, y, add(&b, PN_OP_MUL, 1, wave, y0, -1, 0, 0, 0), -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_SUB, EVENTS, all, theta, -1, 0, 0, 0));
    b.spec.segments[1] = b.spec.n_code - b.spec.segments[0];
    return must_create(&b);
}

/* y' = (y1, -y0) */
static pn_program *rotation(void) {
    builder b = {.spec = {.fuse = 1}};
    add_slot(&b, 1);
    const int32_t y = add_slot(&b, 2);
    add_slot(&b, 0);
    const int32_t y1 = add(&b, PN_OP_SLICE, 1, y, -1, -1, 1, 1, 0), y0 = add(&b, PN_OP_SLICE, 1, y, -1, -1, 0, 1, 0);
    add_output(&b, add(&b, PN_OP_CONCAT, 2, y1, add(&b, PN_OP_NEG, 1, y0, -1, -1, 0, 0, 0), -1, 0, 0, 0));
    b.spec.segments[1] = b.spec.n_code;
    return must_create(&b);
}

static double amplitude(int64_t i) { return 0.15 + 0.11 * (double)(i % 9); }
static double phase(int64_t i) { return 0.4 * (double)(i % 13); }
static double value(int64_t i, int e, double t) {
    const double y0 = amplitude(i) * cos(t + phase(i)), y1 = -amplitude(i) * sin(t + phase(i));
    return (e == 0 ? y0 : e == 1 ? y1 : sin(3 * t) * y0) - level[e];
}

/* The first event of sample i between 0 and `end`: its time, and which; end and -1 where there is none. */
static double exact(int64_t i, double end, int *which) {
    enum { FINE = 40000 };
    double first = end;
    *which = -1;
    for (int e = 0; e < EVENTS; e++)
        for (int j = 0; j < FINE; j++) {
            double a = end * j / FINE, b = end * (j + 1) / FINE;
            if (fabs(a) >= fabs(first)) break;
            const double ga = value(i, e, a), gb = value(i, e, b);
            if ((ga > 0) == (gb > 0)) continue;
            if (direction[e] && direction[e] != ((gb > ga) ? 1 : -1)) continue;
            for (int k = 0; k < 60; k++) {
                const double c = 0.5 * (a + b);
                if ((value(i, e, c) > 0) == (ga > 0))
                    a = c;
                else
                    b = c;
            }
            if (fabs(a) < fabs(first)) first = a, *which = e;
            break;
        }
    return first;
}

typedef struct run {
    double *stop;
    int32_t *which, *side;
    void *y, *at;
} run;

static run solve(int64_t n, int f32, pn_isa isa, const char *method, double end, int32_t threads) {
    const size_t count = (size_t)n, rows = count * TIMES;
    fixture f = {.f32 = f32, .rows = rows};
    pn_problem *p = &f.p;
    pn_program *event = functions();
    pn_problem_init(p);
    f.field = rotation();
    p->field = f.field;
    p->tableau = pn_tableau_find(method);
    p->d = 2, p->n = n, p->rows = (int64_t)rows, p->n_t = TIMES;
    double *t = keep(TIMES, sizeof *t), *atol = keep(2, sizeof *atol);
    int64_t *zero = keep(count, sizeof *zero), *len = keep(count, sizeof *len), *row = keep(count, sizeof *row);
    void *y0 = keep(2 * count, f32 ? 4 : 8), *theta = keep(EVENTS, f32 ? 4 : 8);
    for (int j = 0; j < TIMES; j++) t[j] = end * j / (TIMES - 1);
    for (size_t i = 0; i < count; i++) {
        len[i] = TIMES, row[i] = (int64_t)i * TIMES;
        set(y0, 2 * i, f32, amplitude((int64_t)i) * cos(phase((int64_t)i)));
        set(y0, 2 * i + 1, f32, -amplitude((int64_t)i) * sin(phase((int64_t)i)));
    }
    for (size_t e = 0; e < EVENTS; e++) set(theta, e, f32, level[e]);
    atol[0] = atol[1] = f32 ? 1e-7 : 1e-11;
    p->rtol = f32 ? 1e-6 : 1e-10;
    p->adaptive = p->tableau->error_order > 0;
    p->step = 0.01;
    p->y0 = y0, p->t = t, p->t_start = zero, p->t_len = len, p->row = row, p->atol = atol, p->threads = threads;
    fixture_results(&f);
    p->loss = PN_LOSS_NONE, p->target = NULL, p->weight = NULL, p->gradient = PN_GRAD_NONE;
    p->g_theta = NULL, p->g_y0 = NULL, p->g_t = NULL;
    p->event = event, p->event_theta = theta, p->event_direction = direction;
    run r = {p->stop_t, keep(count, 4), keep(count * EVENTS, 4), p->y, keep(4 * count, f32 ? 4 : 8)};
    for (size_t i = 0; i < count; i++) r.which[i] = -1;
    p->event_side = r.side, p->event_which = r.which, p->event_y = r.at;
    const pn_status st = fixture_solve(&f, isa);
    CHECKF(st == PN_OK, "%s: %s", method, pn_status_name(st));
    for (size_t i = 0; i < count; i++) CHECK(p->status[i] == PN_OK);
    pn_program_destroy(&event);
    fixture_end(&f);
    return r;
}

static void compare(int64_t n, int f32, pn_isa isa, const char *method, double end) {
    const run r = solve(n, f32, isa, method, end, 1);
    const double tol = f32 ? 3e-4 : strcmp(method, "rk4") == 0 ? 1e-7 : 1e-8;
    int none = 0;
    for (int64_t i = 0; i < n; i++) {
        int which;
        const double t = exact(i, end, &which);
        none += which < 0;
        CHECKF(r.which[i] == which && fabs(r.stop[i] - t) < tol,
               "%s %s f%d, sample %d to %g: event %d at %.12g, not %d at %.12g", method, pn_isa_name(isa), f32 ? 32 : 64,
               (int)i, end, (int)r.which[i], r.stop[i], which, t);
        if (which < 0) continue;
        const double y0 = get(r.at, (size_t)(4 * i + 2), f32), y1 = get(r.at, (size_t)(4 * i + 3), f32);
        const double g = (which == 0 ? y0 : which == 1 ? y1 : sin(3 * r.stop[i]) * y0) - level[which];
        CHECKF(fabs(g) < (f32 ? 1e-5 : 1e-12), "the event function is %g there", g);
        for (int e = 0; e < EVENTS; e++) { /* the sides are those of the end, that of the event itself the new one */
            const double before = value(i, e, r.stop[i] - 1e-3 * (end > 0 ? 1 : -1)),
                         after = value(i, e, r.stop[i] + 1e-3 * (end > 0 ? 1 : -1));
            if (e == which || (before > 0) == (after > 0)) CHECK(r.side[i * EVENTS + e] == (after > 0 ? 1 : -1));
        }
        for (int j = 0; j < TIMES; j++) { /* rows after the event are NaN, those before it are the solution */
            const double at = end * j / (TIMES - 1), y = get(r.y, (size_t)((i * TIMES + j) * 2), f32);
            if (fabs(at) > fabs(r.stop[i]) + 1e-9)
                CHECK(isnan(y));
            else
                CHECK(fabs(y - amplitude(i) * cos(at + phase(i))) < (f32 ? 1e-4 : 1e-7));
        }
    }
    CHECKF(n < 9 || (none > 0 && none < n), "%d of %d without an event", none, (int)n);
}

/* A fixture whose event is the one output of a program of the state. */
static fixture watched(int32_t d, int64_t n, const char *method, pn_program *field, pn_program *event, int32_t way) {
    fixture f = fixture_begin(d, 0, n, 0, method);
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field);
    p->field = f.field = field, p->reverse = NULL, p->event = f.part[0] = event;
    p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE, p->adaptive = 0;
    int32_t *which = p->event_which = keep((size_t)n, sizeof *which), *ways = keep(1, sizeof *ways);
    for (int64_t i = 0; i < n; i++) which[i] = -1, f.t_len[i] = 2;
    *ways = way;
    p->event_direction = ways;
    p->event_side = keep((size_t)n, sizeof *p->event_side), p->event_y = keep(2 * (size_t)(n * d), sizeof(double));
    double *t = f.t = keep(2 * (size_t)n, sizeof *t);
    int64_t *row = keep((size_t)n, sizeof *row);
    for (int64_t i = 0; i < n; i++) row[i] = 2 * i;
    p->t = t, p->t_start = p->row = row, p->n_t = p->rows = (int64_t)(f.rows = 2 * (size_t)n);
    fixture_results(&f);
    p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE;
    return f;
}

/* y' = sin t in a step of 3.5 by the classical method: the cubic rises beyond 2.118 and falls again, steps to points inside it do not.
   No event, and the sample goes on. */
static void grazing(int64_t n) {
    builder b = {.spec = {.segments = {0, 1, 0}}}, e = {.spec = {.n_consts = 1, .segments = {0, 2, 0}}, .consts = {2.118}};
    add_slot(&b, 1), add_slot(&b, 1), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_SIN, 1, 0, -1, -1, 0, 0, 0));
    add_slot(&e, 1), add_slot(&e, 1), add_slot(&e, 0);
    add_output(&e, add(&e, PN_OP_SUB, 1, 1, add(&e, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0), -1, 0, 0, 0));
    fixture f = watched(1, n, "rk4", must_create(&b), must_create(&e), 0);
    f.p.step = 3.5;
    memset(f.y0, 0, (size_t)n * sizeof(double));
    for (int64_t i = 0; i < n; i++) f.t[2 * i + 1] = 3.5;
    EACH_ISA(isa) {
        for (int64_t i = 0; i < n; i++) f.p.event_which[i] = -1, f.p.event_side[i] = 0;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < n; i++)
            CHECKF(f.p.event_which[i] == -1 && f.p.stop_t[i] == 3.5 && f.p.accepted[i] > 1 && f.p.status[i] == PN_OK,
                   "%s, sample %d: event %d at %.12g", pn_isa_name(isa), (int)i, f.p.event_which[i], f.p.stop_t[i]);
    }
    fixture_end(&f);
    release(0);
}

/* y' = 1, g = (y - a) (y - b): both roots in one step, in any parts of it, of which that counts whose direction does. */
static void two_roots(const char *method, int32_t way) {
    enum { MANY = 300 };
    builder b = {.spec = {.n_consts = 3, .segments = {0, 1, 0}}, .consts = {1, 0, 0}}, e = {.spec = {.segments = {0, 6, 0}}};
    add_slot(&b, 1), add_slot(&b, 3), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_CONST, 3, -1, -1, -1, 0, 0, 0));
    add_slot(&e, 1), add_slot(&e, 3), add_slot(&e, 0);
    int32_t x[3];
    for (int i = 0; i < 3; i++) x[i] = add(&e, PN_OP_SLICE, 1, 1, -1, -1, i, 1, 0);
    for (int i = 1; i < 3; i++) x[i] = add(&e, PN_OP_SUB, 1, x[0], x[i], -1, 0, 0, 0);
    add_output(&e, add(&e, PN_OP_MUL, 1, x[1], x[2], -1, 0, 0, 0));
    seed_state = 8;
    fixture f = watched(3, MANY, method, must_create(&b), must_create(&e), way);
    f.p.step = 1;
    double roots[MANY][2];
    for (size_t i = 0; i < MANY; i++) {
        const double u = 0.5 + 0.5 * uniform(), v = 0.5 + 0.5 * uniform(), apart = fabs(u - v) < 0.01 ? 0.01 : 0;
        roots[i][0] = fmin(u, v) * 0.98 + 0.001, roots[i][1] = (fmax(u, v) + apart) * 0.98 + 0.002;
        set(f.y0, 3 * i, 0, 0), set(f.y0, 3 * i + 1, 0, roots[i][0]), set(f.y0, 3 * i + 2, 0, roots[i][1]);
        f.t[2 * i + 1] = 1.01;
    }
    EACH_ISA(isa) {
        for (int64_t i = 0; i < MANY; i++) f.p.event_which[i] = -1, f.p.event_side[i] = 0;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (size_t i = 0; i < MANY; i++)
            CHECKF(f.p.event_which[i] == 0 && fabs(f.p.stop_t[i] - roots[i][way > 0]) < 1e-9,
                   "%s, direction %d, roots %g and %g: %d at %.12g", pn_isa_name(isa), way, roots[i][0], roots[i][1],
                   f.p.event_which[i], f.p.stop_t[i]);
    }
    fixture_end(&f);
    release(0);
}

/* y' = 1, g = (y - c)^power: it crosses where its slopes are 0, anywhere in the step. */
static void powers(int power, double c) {
    builder b = {.spec = {.n_consts = 1, .segments = {0, 1, 0}}, .consts = {1}}, e = {.spec = {.n_consts = 1}, .consts = {c}};
    add_slot(&b, 1), add_slot(&b, 1), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0));
    add_slot(&e, 1), add_slot(&e, 1), add_slot(&e, 0);
    int32_t x = add(&e, PN_OP_SUB, 1, 1, add(&e, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0), -1, 0, 0, 0), product = x;
    for (int k = 1; k < power; k++) product = add(&e, PN_OP_MUL, 1, product, x, -1, 0, 0, 0);
    add_output(&e, product);
    e.spec.segments[1] = e.spec.n_code;
    fixture f = watched(1, 1, "rk4", must_create(&b), must_create(&e), 0);
    f.p.step = 1;
    set(f.y0, 0, 0, 0);
    f.t[1] = 1;
    EACH_ISA(isa) {
        f.p.event_which[0] = -1, f.p.event_side[0] = 0;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        CHECKF(f.p.event_which[0] == 0 && fabs(f.p.stop_t[0] - c) < 2e-10 * c + 2e-14 && f.p.accepted[0] == 1,
               "%s, power %d, root at %g: %d at %.12g", pn_isa_name(isa), power, c, f.p.event_which[0], f.p.stop_t[0]);
    }
    fixture_end(&f);
    release(0);
}

/* y' = 1, g = +-(y - c), which is 0 at the very end of the last step, or 0 throughout: there it happens, and here it does not. */
static void at_the_end(int32_t way) {
    enum { STEPS = 2 };
    builder b = {.spec = {.n_consts = 1, .segments = {0, 1, 0}}, .consts = {1}}, e = {.spec = {.n_consts = 1}, .consts = {0.5}};
    add_slot(&b, 1), add_slot(&b, 1), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0));
    add_slot(&e, 1), add_slot(&e, 1), add_slot(&e, 0);
    const int32_t c = add(&e, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0), y = way ? 1 : c;
    add_output(&e, add(&e, PN_OP_SUB, 1, way < 0 ? c : y, way < 0 ? y : c, -1, 0, 0, 0));
    e.spec.segments[1] = e.spec.n_code;
    fixture f = watched(1, 5, "euler", must_create(&b), must_create(&e), 0);
    f.p.step = 0.5 / STEPS;
    for (size_t i = 0; i < 5; i++) set(f.y0, i, 0, 0), f.t[2 * i + 1] = 0.5;
    EACH_ISA(isa) {
        for (int64_t i = 0; i < 5; i++) f.p.event_which[i] = -1, f.p.event_side[i] = 0;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < 5; i++)
            CHECKF(f.p.event_which[i] == (way ? 0 : -1) && f.p.stop_t[i] == 0.5 && f.p.accepted[i] == STEPS, "%s, %d: %d at %g",
                   pn_isa_name(isa), way, f.p.event_which[i], f.p.stop_t[i]);
    }
    fixture_end(&f);
    release(0);
}

int main(void) {
    static const char *const methods[] = {"dopri5", "tsit5", "dop853", "bosh3", "rk4"};
    static const int64_t counts[] = {1, 3, 40};
    EACH_ISA(isa)
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            compare(counts[k], 0, isa, methods[m], 6.5);
            compare(counts[k], 0, isa, methods[m], -5.0);
            if (m < 2) compare(counts[k], 1, isa, methods[m], 6.5);
            release(0);
        }
    const run one = solve(90, 0, pn_isa_best(), "dopri5", 6.5, 1), three = solve(90, 0, pn_isa_best(), "dopri5", 6.5, 3);
    CHECK(!memcmp(one.stop, three.stop, 90 * sizeof *one.stop) && !memcmp(one.which, three.which, 90 * sizeof *one.which));
    CHECK(!memcmp(one.at, three.at, 4 * 90 * sizeof(double)) && !memcmp(one.side, three.side, 90 * EVENTS * sizeof *one.side));
    static const double roots[] = {0.3, 0.77, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12};
    for (int power = 1; power < 10; power += 2)
        for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) powers(power, roots[i]);
    grazing(1), grazing(5);
    for (int32_t way = -1; way <= 1; way++) two_roots("rk4", way), two_roots("dop853", way), at_the_end(way);
    return finish("test_events");
}
