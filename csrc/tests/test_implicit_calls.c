/* Rosenbrock methods on fields that are callbacks: against the same field as a program, what is asked and counted, checkpoints (the
   same bits), and callbacks that say stop. */
#include "tests/stiff.h"

enum { COST = 4, ENDLESS = 1 << 30 };
typedef struct calls {
    double mu;
    int left;        /* calls until it says stop */
    int64_t wrong;   /* lanes without a sample */
    int64_t made[4]; /* lanes, by number of the callback */
} calls;

/* The field of stiff.h, and what else a CALL may ask for. */
static int driven(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                  double *out, int n_out) {
    calls *c = ctx;
    (void)u;
    if (--c->left < 0) return 1;
    c->made[which] += n;
    for (int i = 0; i < n; i++, y += 2, out += n_out, seed += seed ? (which == PN_CALL_VJP ? 2 : 6) : 0) {
        double damping = c->mu * (1 - y[0] * y[0]), twice = -2 * c->mu, pull = twice * y[0] * y[1] - 1;
        if (!isfinite(y[0]) || !isfinite(y[1])) c->wrong++;
        switch (which) {
        case PN_CALL_FIELD:
            out[0] = y[1];
            out[1] = damping * y[1] - y[0] + t[i] * t[i];
            break;
        case PN_CALL_VJP:
            out[0] = seed[1] * pull;
            out[1] = seed[0] + seed[1] * damping;
            break;
        case PN_CALL_JACOBIAN: {
            const double J[] = {0, 1, pull, damping, 0, 2 * t[i]};
            memcpy(out, J, sizeof J);
            break;
        }
        default: out[0] = twice * (seed[2] * y[1] + seed[3] * y[0]); out[1] = twice * seed[2] * y[0];
        }
    }
    return 0;
}

static fixture counted(int64_t n, int f32, const char *name, double mu) {
    fixture f = stiff_fixture(n, f32, name, mu);
    f.p.jacobians = keep((size_t)n + 1, sizeof *f.p.jacobians);
    f.p.factorisations = keep((size_t)n + 1, sizeof *f.p.factorisations);
    return f;
}

/* That fixture with callbacks in the place of the programs. */
static fixture called(int64_t n, int f32, const char *name, calls *c) {
    fixture f = counted(n, f32, name, c->mu);
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    pn_program_destroy(&f.part[0]), pn_program_destroy(&f.part[1]);
    f.p.field = f.field = calling(0);
    f.p.reverse = f.reverse = calling(1);
    f.p.jacobian = f.part[0] = calling_jacobian(0);
    f.p.jacobian_reverse = f.part[1] = calling_jacobian(1);
    f.p.n_theta = (int64_t)(f.n_theta = 0);
    f.p.jacobian_cost = COST;
    f.p.call = driven, f.p.call_ctx = c;
    return f;
}

static void close_to(const fixture *a, const fixture *b, const void *x, const void *y, size_t n, int f32, const char *what) {
    double limit = a->f32 ? 2e-2 : 1e-7;
    for (size_t i = 0; i < n; i++) {
        double got = get(x, i, f32), wanted = get(y, i, f32);
        CHECKF(fabs(got - wanted) <= limit * (1 + fabs(wanted)), "%s f%d, %s[%d]: %.12g, by programs %.12g", b->p.tableau->name,
               a->f32 ? 32 : 64, what, (int)i, got, wanted);
    }
}

static void as_programs(const char *name, int64_t n, int f32) {
    EACH_ISA(isa) {
        seed_state = 11;
        calls c = {.mu = 30, .left = ENDLESS};
        fixture a = called(n, f32, name, &c);
        seed_state = 11;
        fixture b = counted(n, f32, name, c.mu);
        CHECK(fixture_solve(&a, isa) == PN_OK && fixture_solve(&b, isa) == PN_OK && !c.wrong);
        close_to(&a, &b, a.p.y, b.p.y, 2 * a.rows, f32, "y");
        close_to(&a, &b, a.p.g_y0, b.p.g_y0, 2 * (size_t)n, 0, "g_y0");
        for (int64_t i = 0; i < n; i++) {
            int64_t tried = a.p.accepted[i] + a.p.rejected[i];
            CHECK(a.p.status[i] == PN_OK && a.p.factorisations[i] == tried && a.p.jacobians[i] == a.p.accepted[i]);
            CHECK(a.p.nfe[i] >= COST * a.p.jacobians[i] + a.p.tableau->s * tried);
            CHECK(b.p.factorisations[i] == b.p.accepted[i] + b.p.rejected[i] && b.p.jacobians[i] == b.p.factorisations[i]);
        }
        fixture_end(&a), fixture_end(&b);
        release(0);
    }
}

/* What the callback was asked for is what is counted, when nothing is taken again for a gradient. */
static void what_is_asked(const char *name, int64_t n) {
    calls c = {.mu = 30, .left = ENDLESS};
    fixture f = called(n, 0, name, &c);
    f.p.gradient = PN_GRAD_NONE;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    int64_t jacobians = 0, fields = 0;
    for (int64_t i = 0; i < n; i++) jacobians += f.p.jacobians[i], fields += f.p.nfe[i] - COST * f.p.jacobians[i];
    CHECKF(c.made[PN_CALL_JACOBIAN] == jacobians, "%s: %d of %d", name, (int)c.made[PN_CALL_JACOBIAN], (int)jacobians);
    CHECKF(c.made[PN_CALL_FIELD] == fields, "%s: %d of %d", name, (int)c.made[PN_CALL_FIELD], (int)fields);
    fixture_end(&f);
    release(0);
}

static void checkpoints(const char *name) {
    calls c = {.mu = 30, .left = ENDLESS};
    fixture f = called(9, 0, name, &c);
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    bytes all = snapshot(&f);
    CHECK(same_with_less(&f, pn_isa_best(), all, 1 << 20, 4000, INT64_MAX, name) > 2);
    fixture_end(&f);
    release(0);
}

static void stops(const char *name, int64_t n) {
    calls c = {.mu = 30, .left = ENDLESS};
    fixture f = called(n, 0, name, &c);
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    int used = ENDLESS - c.left;
    for (int stop = 0; stop < used; stop += used / 41 + 1) {
        c.left = stop;
        CHECKF(fixture_solve(&f, pn_isa_best()) == PN_CALLBACK, "%s: %d of %d", name, stop, used);
    }
    said[0] = 0;
    f.p.jacobian_cost = -1;
    CHECK(pn_solve(&f.p, 0, PN_ISA_PLAIN, said) == PN_BAD_ARGUMENT && strstr(said, "jacobian_cost must not be negative"));
    fixture_end(&f);
    release(0);
}

/* y' = cos(t) y from 0, where nothing but the time moves: the Jacobian is another at each step, but not where a step is taken again. */
static int resting(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                   double *out, int n_out) {
    (void)ctx, (void)u, (void)seed;
    memset(out, 0, (size_t)n * (size_t)n_out * sizeof *out);
    for (int i = 0; i < n; i++, out += n_out, y += 2) {
        if (which == PN_CALL_FIELD) out[0] = cos(t[i]) * y[0], out[1] = cos(t[i]) * y[1];
        if (which == PN_CALL_JACOBIAN) out[0] = out[3] = cos(t[i]);
    }
    return 0;
}
static void at_rest(const char *name, int64_t n) {
    calls c = {.mu = 1, .left = ENDLESS};
    fixture f = called(n, 0, name, &c);
    f.p.call = resting, f.p.max_step = 0.1, f.p.gradient = PN_GRAD_NONE, f.p.loss = PN_LOSS_NONE;
    memset(f.y0, 0, (size_t)n * 2 * sizeof(double));
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK && f.p.accepted[0] >= 20);
    for (int64_t i = 0; i < n; i++)
        CHECKF(f.p.jacobians[i] == f.p.accepted[i] && f.p.factorisations[i] == f.p.accepted[i] + f.p.rejected[i],
               "%s: %d Jacobians, %d steps", name, (int)f.p.jacobians[i], (int)f.p.accepted[i]);
    fixture_end(&f);
    release(0);
}

int main(void) {
    for (int i = 0; i < pn_rosenbrock_count(); i++) {
        const char *name = pn_rosenbrock_at(i)->name;
        for (int64_t n = 1; n <= 19; n += 9) {
            for (int f32 = 0; f32 < 2; f32++) as_programs(name, n, f32);
            what_is_asked(name, n);
        }
        checkpoints(name);
        at_rest(name, 1), at_rest(name, 11);
        stops(name, 1), stops(name, 11);
    }
    return finish("test_implicit_calls");
}
