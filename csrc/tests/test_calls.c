/* Explicit methods on a field that is a callback: the solution, and a callback that says stop, at any of its calls, ends every kind
   of solve with PN_CALLBACK; the same solve afterwards has the same bits. (Rosenbrock methods: test_implicit_calls.c.) */
#include <time.h>

#include "tests/check.h"

enum { ENDLESS = 1 << 30 };
static _Thread_local int asking; /* 1 in the thread that calls the core, in which alone it may call back */

/* y0' = y1, y1' = -y0 and its vjp; says stop once, after *ctx calls. */
static int oscillator(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                      double *out, int n_out) {
    int *left = ctx;
    (void)t, (void)u;
    if (--*left == -1 || !asking) return 1;
    for (int i = 0; i < n; i++) {
        const double *x = which == PN_CALL_VJP ? seed + 2 * i : y + 2 * i, way = which == PN_CALL_VJP ? -1 : 1;
        out[n_out * i] = way * x[1];
        out[n_out * i + 1] = -way * x[0];
    }
    return 0;
}

typedef enum kind {
    PLAIN,
    DENSE,
    SHARED, /* fixed steps, the same times for all */
    GRADIENT,
    CHECKPOINTS,
    REVERSIBLE,
    SENSITIVITY,
    EVENT,
    EVENT_FIXED,
    JUMP,
    STOPS,
    KINDS
} kind;

/* Five times for every sample, shared. */
static void share_times(fixture *f) {
    const size_t n = (size_t)f->p.n;
    int64_t *start = keep(n, 8), *row = keep(n, 8);
    for (size_t i = 0; i < n; i++) row[i] = 5 * (int64_t)i, f->t_len[i] = 5;
    f->rows = 5 * n;
    f->p.t_start = start, f->p.row = row, f->p.rows = (int64_t)f->rows;
    fixture_results(f);
}

/* An event where y0 falls through 0. */
static void add_event(fixture *f) {
    builder b = {.spec = {.fuse = 1}};
    add_slot(&b, 1), add_slot(&b, 2), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_SLICE, 1, 1, -1, -1, 0, 1, 0));
    b.spec.segments[1] = b.spec.n_code;
    f->p.event = f->part[0] = must_create(&b);
    const size_t n = (size_t)f->p.n;
    int32_t *direction = keep(1, 4), *which = keep(n, 4);
    *direction = -1;
    f->p.event_direction = direction, f->p.event_which = which;
    f->p.event_side = keep(n, 4), f->p.event_y = keep(4 * n, 8);
}

static void set_up(fixture *f, kind k) {
    static const double stops[] = {0.7, 0.70001, 1.1, 1.10001};
    pn_problem *p = &f->p;
    p->loss = k == PLAIN || k == DENSE || k == SENSITIVITY || k >= EVENT ? PN_LOSS_NONE : PN_LOSS_SQUARED;
    p->gradient = k == REVERSIBLE ? PN_GRAD_REVERSIBLE : k == GRADIENT || k == CHECKPOINTS ? PN_GRAD_DISCRETE : PN_GRAD_NONE;
    if (k == DENSE) p->steps = keep((size_t)p->n, sizeof *p->steps), p->dense = 1;
    if (k == SHARED) share_times(f), p->gradient = PN_GRAD_DISCRETE;
    if (k == SHARED || k == EVENT_FIXED) p->adaptive = 0, p->step = 0.05;
    if (k == CHECKPOINTS) p->memory = 60000;
    if (k == REVERSIBLE) p->lambda = 0.95;
    if (k == SENSITIVITY) p->sensitivity = keep(f->rows * 2 * 2, 8);
    if (k == EVENT || k == EVENT_FIXED) add_event(f);
    if (k == JUMP) p->jump_set = p->jump_add = keep(f->rows * 2, 8), p->land = 1;
    if (k != STOPS) return;
    guard_before = 1;
    p->stops = memcpy(keep(4, sizeof *stops), stops, sizeof stops), p->n_stops = 4;
    guard_before = 0;
}

static void begin(fixture *f) {
    for (int64_t i = 0; f->p.steps && i < f->p.n; i++) free(f->p.steps[i].record), f->p.steps[i] = (pn_steps){0, NULL};
    for (int64_t i = 0; f->p.event && i < f->p.n; i++) f->p.event_side[i] = 0, f->p.event_which[i] = -1;
    if (f->p.sensitivity) memset(f->p.sensitivity, 0, f->rows * 4 * 8);
}

static void solution(const fixture *f, kind k) {
    const double *y = f->p.y, *y0 = f->y0;
    for (int64_t i = 0; i < f->p.n; i++, y0 += 2)
        for (int64_t j = 0; j < f->t_len[i]; j++) {
            const int64_t r = f->p.row[i] + j;
            const double t = f->p.t[f->p.t_start[i] + j] - f->p.t[f->p.t_start[i]];
            if (k == JUMP || (f->p.event && f->p.event_which[i] >= 0 && t > f->p.stop_t[i])) continue;
            const double want = cos(t) * y0[0] + sin(t) * y0[1];
            CHECKF(fabs(y[2 * r] - want) < 2e-4, "kind %d, sample %d at %g: %g for %g", (int)k, (int)i, t, y[2 * r], want);
        }
}

static void stops_anywhere(const char *method, int64_t n, kind k) {
    fixture f = fixture_begin(2, 0, n, 0, method);
    int left = ENDLESS;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    f.p.field = f.field = calling(0);
    f.p.reverse = f.reverse = calling(1);
    f.p.n_theta = (int64_t)(f.n_theta = 0), f.p.call = oscillator, f.p.call_ctx = &left;
    f.p.rtol = 1e-6, f.p.threads = 3;
    set_up(&f, k);
    begin(&f);
    CHECKF(fixture_solve(&f, pn_isa_best()) == PN_OK, "kind %d", (int)k);
    solution(&f, k);
    const int used = ENDLESS - left;
    bytes all = snapshot(&f);
    for (int stop = 0; stop < used; stop += used / 97 + 1) {
        begin(&f);
        left = stop;
        CHECKF(fixture_solve(&f, pn_isa_best()) == PN_CALLBACK && left == -1, "%s kind %d: %d of %d, left %d", method, (int)k,
               stop, used, left);
    }
    begin(&f);
    left = ENDLESS;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK && same_bytes(all, snapshot(&f)));
    begin(&f);
    fixture_end(&f);
    release(0);
}

/* Where the field is a callback, which may take long, interrupts are looked for at each step: after as few calls as a step has. */
static int asked;
static int at_once(void *ctx) { return (void)ctx, ++asked > 2; }
static int slow(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed, double *out,
                int n_out) {
    for (const clock_t from = clock(); clock() - from < 6 * CLOCKS_PER_SEC / 1000;) continue;
    return oscillator(ctx, which, n, t, y, u, seed, out, n_out);
}
static void interrupted(void) {
    fixture f = fixture_begin(2, 0, 1, 0, "rk4");
    int left = ENDLESS;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    f.p.field = f.field = calling(0), f.p.reverse = f.reverse = calling(1);
    f.p.n_theta = (int64_t)(f.n_theta = 0), f.p.call = slow, f.p.call_ctx = &left;
    f.p.adaptive = 0, f.p.step = 1e-3;
    f.p.poll = at_once;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_INTERRUPTED);
    CHECKF(asked == 3 && ENDLESS - left < 20, "%d polls, %d calls", asked, ENDLESS - left); /* 24 ms a step */
    fixture_end(&f);
    release(0);
}

/* A field of which one evaluation takes long is looked at in between, and solved. */
static int never(void *ctx) { return (void)ctx, asked++, 0; }
static void costly(int64_t n) {
    enum { HIDDEN = 5000 };
    builder b;
    fixture f = fixture_begin(2, 0, n, 0, "rk4");
    pn_program_destroy(&f.field);
    net(&b, 2, 0, HIDDEN, 0, 1);
    f.p.field = f.field = must_create(&b), f.p.reverse = NULL;
    f.p.theta = random_array(f.n_theta = (size_t)net_params(2, 0, HIDDEN), 0, 0.01);
    f.p.n_theta = (int64_t)f.n_theta;
    f.p.gradient = PN_GRAD_NONE, f.p.loss = PN_LOSS_NONE, f.p.adaptive = 0, f.p.step = 0.2, f.p.poll = never;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK && f.p.accepted[0] > 5);
    fixture_end(&f);
    release(0);
}

/* Nothing is asked for outside the times of a sample, however short they are. */
static int inside(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                  double *out, int n_out) {
    const double *ends = ctx;
    (void)which, (void)y, (void)u, (void)seed;
    memset(out, 0, (size_t)(n * n_out) * sizeof *out);
    for (int i = 0; i < n; i++) asked += t[i] < ends[0] || t[i] > ends[1];
    return 0;
}
static void short_times(double length) {
    double ends[] = {3, 3 + length};
    fixture f = fixture_begin(2, 0, 1, 0, "dopri5");
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    f.p.field = f.field = calling(0), f.p.reverse = f.reverse = calling(1);
    f.p.n_theta = (int64_t)(f.n_theta = 0), f.p.call = inside, f.p.call_ctx = ends;
    for (int64_t j = 0; j < f.t_len[0]; j++) f.t[j] = ends[j > 0];
    asked = 0;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    CHECKF(asked == 0, "%d times outside", asked);
    fixture_end(&f);
    release(0);
}

/* Programs that call back. */
enum { FEW = 7, MANY = 45 };
static int callback(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                    double *out, int n_out) {
    int *calls = ctx;
    (void)u;
    if (++*calls > 100) return 1;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n_out; j++) out[i * n_out + j] = t[i] + y[i * n_out + j] * (which ? seed[i * n_out + j] : 2);
    return 0;
}

static void called(void) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= MANY; n += n == 1 ? FEW - 1 : MANY - FEW) {
            size_t mark = n_kept, count = (size_t)n;
            builder b = {.spec = {.segments = {0, 1, 1}}};
            add_slot(&b, 1), add_slot(&b, 3), add_slot(&b, 0), add_slot(&b, 3);
            add_output(&b, add(&b, PN_OP_CALL, 3, -1, -1, -1, 0, 0, 0));
            add_output(&b, add(&b, PN_OP_CALL, 3, -1, -1, -1, 1, 0, 0));
            pn_program *prog = must_create(&b);
            void *slot[4] = {random_array(count, f32, 1), random_array(3 * count, f32, 1), NULL,
                             random_array(3 * count, f32, 1)};
            void *out[2] = {keep(3 * count, 8), keep(3 * count, 8)};
            const void *none[PN_MAX_SPACES] = {NULL};
            double *grad[PN_MAX_SPACES] = {NULL};
            EACH_ISA(isa) {
                int calls = 0;
                CHECK(pn_evaluate(prog, f32, isa, n, (const void *const *)slot, none, out, grad, callback, &calls) == PN_OK);
                for (size_t i = 0; i < 3 * count; i++) {
                    double t = get(slot[0], i / 3, f32), y = get(slot[1], i, f32), s = get(slot[3], i, f32);
                    CHECK(fabs(get(out[0], i, f32) - t - 2 * y) < 1e-5 && fabs(get(out[1], i, f32) - t - s * y) < 1e-5);
                }
                calls = 100;
                CHECK(pn_evaluate(prog, f32, isa, n, (const void *const *)slot, none, out, grad, callback, &calls) ==
                      PN_CALLBACK);
                CHECK(pn_evaluate(prog, f32, isa, n, (const void *const *)slot, none, out, grad, NULL, NULL) ==
                      PN_BAD_ARGUMENT);
            }
            CHECK(pn_evaluate(prog, f32, PN_N_ISA, n, (const void *const *)slot, none, out, grad, callback, NULL) ==
                  PN_BAD_ARGUMENT);
            pn_program_destroy(&prog);
            release(mark);
        }
}

int main(void) {
    asking = 1;
    static const char *const methods[] = {"dopri5", "dop853", "bosh3", "rk4", "tsit5"};
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
        for (int64_t n = 1; n <= 21; n += 20)
            for (kind k = PLAIN; k < KINDS; k = (kind)(k + 1)) stops_anywhere(methods[m], n, k);
    called();
    interrupted();
    costly(1), costly(5);
    short_times(1e-7), short_times(1e-10);
    return finish("test_calls");
}
