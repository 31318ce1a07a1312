/* What a field computes of its parameters alone, once for a solve: states and gradients are those of the field as it is; threads and
   budgets change no bit; tapes, parameters of each sample, sensitivities; a cotangent too large for a float. */
#include "tests/hoisted.h"
#include "tests/tapes.h"

enum { D = 3 };

static void plainly(fixture *f) { f->p.hoisted = (pn_hoisted){.once = NULL}; }

/* The results are those, up to the order of sums. */
static void compare(const char *what, size_t n, int f32, const void *found, const void *expected, double room) {
    double largest = 1e-3, worst = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(get(expected, i, f32)));
        const double error = fabs(get(found, i, f32) - get(expected, i, f32));
        worst = error <= worst ? worst : error; /* NaN, too */
    }
    CHECKF(worst <= room * largest, "%s: %g of %g", what, worst, largest);
}

static void *copy(const void *x, size_t n, size_t size) { return memcpy(keep(n, size), x, n * size); }

static void against_plain(fixture *f, pn_isa isa) {
    pn_problem *p = &f->p;
    const pn_hoisted hoisted = p->hoisted;
    const double room = f->f32 ? 1e-4 : p->adaptive ? 1e-9 : 1e-12;
    const size_t n = (size_t)p->n, element = f->f32 ? 4 : 8, coef = f->segments * 2 * (size_t)p->m;
    plainly(f);
    CHECK(fixture_solve(f, isa) == PN_OK);
    const void *y = copy(p->y, f->rows * D, element), *loss = copy(p->sample_loss, n, 8), *g_t = copy(p->g_t, f->rows, 8);
    const void *g_theta = copy(p->g_theta, f->n_theta, 8), *g_y0 = copy(p->g_y0, n * D, 8);
    const void *g_coef = coef ? copy(p->g_coef, coef, 8) : NULL;
    p->hoisted = hoisted;
    CHECK(fixture_solve(f, isa) == PN_OK);
    for (size_t i = 0; i < n; i++) CHECK(p->status[i] == PN_OK);
    compare("y", f->rows * D, f->f32, p->y, y, room);
    compare("loss", n, 0, p->sample_loss, loss, room);
    compare("g_theta", f->n_theta, 0, p->g_theta, g_theta, room);
    compare("g_y0", n * D, 0, p->g_y0, g_y0, room);
    compare("g_t", f->rows, 0, p->g_t, g_t, room);
    if (coef) compare("g_coef", coef, 0, p->g_coef, g_coef, room);
}

static void gradients(int f32, int64_t n, int32_t m, int parts, const char *method) {
    fixture f = hoisted_fixture(D, m, n, f32, method, parts);
    EACH_ISA(isa) {
        const size_t mark = n_kept;
        against_plain(&f, isa);
        const bytes first = snapshot(&f);
        const void *y = copy(f.p.y, f.rows * D, f32 ? 4 : 8);
        f.p.threads = 3;
        CHECK(fixture_solve(&f, isa) == PN_OK && same_bytes(first, snapshot(&f)));
        f.p.threads = 1;
        same_with_less(&f, isa, first, 1 << 20, 1 << 10, 1 << 16, "hoisted");
        f.p.memory = 0, f.p.gradient = PN_GRAD_NONE;
        double *g_theta = f.p.g_theta;
        f.p.g_theta = NULL;
        CHECK(fixture_solve(&f, isa) == PN_OK && !memcmp(y, f.p.y, f.rows * D * (f32 ? 4 : 8)));
        f.p.gradient = PN_GRAD_DISCRETE, f.p.g_theta = g_theta;
        release(mark);
    }
    fixture_end(&f);
    release(0);
}

static void reversible(int64_t n) {
    fixture f = hoisted_fixture(D, 0, n, 0, "tsit5", 0);
    f.p.lambda = 0.999, f.p.gradient = PN_GRAD_REVERSIBLE, f.p.adaptive = 0;
    against_plain(&f, pn_isa_best());
    fixture_end(&f);
    release(0);
}

/* Where the field runs as it is, in every bit. */
static void as_it_is(fixture *f) {
    const pn_hoisted hoisted = f->p.hoisted;
    EACH_ISA(isa) {
        const size_t mark = n_kept, wide = f->p.sensitivity ? f->rows * D * (f->n_theta + D) : 0;
        f->p.hoisted = hoisted;
        CHECK(fixture_solve(f, isa) == PN_OK);
        const bytes first = snapshot(f);
        const void *s = wide ? copy(f->p.sensitivity, wide, 8) : NULL;
        plainly(f);
        CHECK(fixture_solve(f, isa) == PN_OK && same_bytes(first, snapshot(f)));
        CHECK(!wide || !memcmp(s, f->p.sensitivity, wide * 8));
        release(mark);
    }
    fixture_end(f);
    release(0);
}

static void theta_each(int64_t n) {
    fixture f = hoisted_fixture(D, 0, n, 0, "dopri5", 0);
    f.p.theta_each = 1;
    f.n_theta *= (size_t)n; /* of all samples */
    f.p.theta = random_array(f.n_theta, 0, 0.8);
    f.p.g_theta = keep(f.n_theta, 8);
    as_it_is(&f);
}

static void sensitivities(int64_t n) {
    fixture f = hoisted_fixture(D, 0, n, 0, "dopri5", 0);
    f.p.gradient = PN_GRAD_NONE, f.p.loss = PN_LOSS_NONE;
    f.p.g_theta = f.p.g_y0 = f.p.g_t = NULL;
    f.p.sensitivity = keep(f.rows * D * (f.n_theta + D), 8);
    as_it_is(&f);
}

/* The sum of the cotangents of M has no place in a float; the gradient as the field is has, with all that a solve adds to. */
static void too_large(int64_t n) {
    fixture f = hoisted_fixture(D, 1, n, 1, "rk4", 0);
    float *g_y = keep(f.rows * D, sizeof *g_y);
    for (size_t i = 0; i < f.rows * D; i++) g_y[i] = 1e36F;
    for (size_t i = 0; i < (size_t)n * D; i++) set(f.y0, i, 1, 1 + get(f.y0, i, 1));
    f.p.loss = PN_LOSS_NONE, f.p.g_y = g_y;
    as_it_is(&f);
}

/* ---- tapes -------------------------------------------------------------------------------------------------------------- */
enum { PROBLEMS = 4 };

/* Two that hoist, of other sizes; one of these sizes and one of others that do not. */
static task begin(int k, pn_isa isa) {
    static const int32_t d[PROBLEMS] = {3, 3, 6, 2};
    return task_of(k % 2 ? fixture_begin(d[k], 0, 150, 0, "bosh3") : hoisted_fixture(d[k], 1, 150, 0, "tsit5", 0), isa);
}

static void tapes(void) {
    EACH_ISA(isa) {
        seed_state = 3;
        task all[PROBLEMS];
        for (int k = 0; k < PROBLEMS; k++) all[k] = begin(k, isa);
        pn_tapes *tapes = pn_tapes_create();
        for (int i = 0; i < 3 * PROBLEMS; i++) there_and_back(&all[i * 3 % PROBLEMS], isa, tapes, 1 + i % 2);
        there_and_back(&all[0], isa, tapes, 1);
        pn_problem *other = &all[2].f.p; /* which these tapes are not of */
        other->tapes = tapes, other->back = 1, other->g_y = all[2].g_y;
        CHECK(pn_solve(other, 0, isa, said) == PN_BAD_ARGUMENT && strstr(said, "not those of a solve of this problem"));
        pn_tapes_destroy(&tapes);
        for (int k = 0; k < PROBLEMS; k++) fixture_end(&all[k].f);
        release(0);
    }
}

int main(void) {
    static const int64_t count[] = {1, 2, 3, 10, 300};
    for (int f32 = 0; f32 < 2; f32++)
        for (int i = 0; i < 5; i++) {
            gradients(f32, count[i], 0, 0, "rk4");
            gradients(f32, count[i], 1, 0, "dopri5");
            gradients(f32, count[i], 0, 1, "tsit5");
        }
    for (int i = 0; i < 5; i++) {
        reversible(count[i]);
        theta_each(count[i]);
        sensitivities(count[i]);
    }
    too_large(300);
    tapes();
    return finish("test_hoisted");
}
