/* Parameters of each sample, against solves in which all samples have those of one of them: the same bits in states and
   cotangents, gradients up to the order of sums; checkpoints and threads (the same bits), and what pn_solve refuses. */
#include "tests/check.h"

enum { D = 3 };

/* Every sample gets parameters of its own: those of the fixture, somewhat changed. Returned: (n, n_theta). */
static void *give_each(fixture *f) {
    pn_problem *p = &f->p;
    size_t n = (size_t)p->n;
    void *all = random_array(n * f->n_theta, f->f32, 0.3);
    for (size_t i = 0; i < n * f->n_theta; i++)
        set(all, i, f->f32, get(all, i, f->f32) + get(f->theta, i % f->n_theta, f->f32));
    p->theta = all;
    p->theta_each = 1;
    p->g_theta = keep(n * f->n_theta, sizeof(double));
    return all;
}

typedef struct found { /* copies of results */
    bytes rest;        /* all but g_theta */
    double *g_theta;   /* (n, n_theta) */
} found;

static found results(fixture *f) {
    pn_problem *p = &f->p;
    double *g_theta = p->g_theta;
    size_t size = (size_t)p->n * f->n_theta;
    found r = {.g_theta = keep(size, sizeof(double))};
    memcpy(r.g_theta, g_theta, size * sizeof(double));
    p->g_theta = keep(f->n_theta, sizeof(double));
    r.rest = snapshot(f);
    p->g_theta = g_theta;
    return r;
}

/* Sample `which` as it is where all samples have its parameters and only its target counts. */
static void compare(fixture *f, pn_isa isa, const void *all, size_t which) {
    pn_problem *p = &f->p, each = *p;
    size_t element = f->f32 ? 4 : 8, n = (size_t)p->n, rows = (size_t)p->t_len[which], row = (size_t)p->row[which];
    void *y = keep(f->rows * D, element), *target = keep(f->rows * D, element), *old = f->target;
    double *g_theta = keep(f->n_theta, 8), *g_y0 = keep(n * D, 8), largest = 0;
    memcpy(y, p->y, f->rows * D * element);
    memcpy(g_y0, p->g_y0, n * D * 8);
    memcpy(target, old, f->rows * D * element);
    for (size_t r = 0; r < f->rows * D; r++)
        if (r / D < row || r / D >= row + rows) set(target, r, f->f32, NAN);
    p->theta = (const char *)all + which * f->n_theta * element;
    p->theta_each = 0;
    p->g_theta = g_theta;
    if (p->loss == PN_LOSS_PROGRAM)
        p->loss_part.data = target;
    else
        p->target = target;
    CHECK(fixture_solve(f, isa) == PN_OK);
    CHECKF(!memcmp((char *)p->y + row * D * element, (char *)y + row * D * element, rows * D * element), "%s f%d n %d: states",
           pn_isa_name(isa), f->f32 ? 32 : 64, (int)n);
    for (size_t c = which * D; c < (which + 1) * D; c++)
        CHECKF(p->g_y0[c] == g_y0[c], "%s f%d n %d: g_y0 %.17g %.17g", pn_isa_name(isa), f->f32 ? 32 : 64, (int)n, p->g_y0[c],
               g_y0[c]);
    for (size_t j = 0; j < f->n_theta; j++) largest = fmax(largest, fabs(g_theta[j]));
    for (size_t j = 0; j < f->n_theta; j++) {
        double got = each.g_theta[which * f->n_theta + j];
        CHECKF(fabs(got - g_theta[j]) <= (f->f32 ? 1e-4 : 1e-12) * (largest + 1e-3), "%s f%d n %d: g_theta[%d] %.17g %.17g",
               pn_isa_name(isa), f->f32 ? 32 : 64, (int)n, (int)j, got, g_theta[j]);
    }
    *p = each;
}

static void against_shared(int f32, int64_t n, int32_t m, int parts, const char *method) {
    fixture f = fixture_begin(D, m, n, f32, method);
    if (parts) fixture_parts(&f, 2);
    void *all = give_each(&f);
    EACH_ISA(isa) {
        size_t mark = n_kept;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        found first = results(&f);
        for (size_t i = 0; i < (size_t)n; i += n > 2 ? (size_t)n / 2 : 1) {
            compare(&f, isa, all, i);
            CHECK(fixture_solve(&f, isa) == PN_OK);
        }
        for (int way = 0; way < 2; way++) {
            f.p.threads = way ? 3 : 1;
            f.p.memory = way ? 0 : 40000;
            pn_status st = fixture_solve(&f, isa);
            if (st == PN_BUDGET) continue;
            CHECK(st == PN_OK);
            found again = results(&f);
            CHECK(same_bytes(first.rest, again.rest));
            CHECK(!memcmp(first.g_theta, again.g_theta, (size_t)n * f.n_theta * sizeof(double)));
        }
        f.p.threads = 1, f.p.memory = 0;
        release(mark);
    }
    fixture_end(&f);
    release(0);
}

/* The reversible scheme, its gradient against that of checkpoints of equal parameters. */
static void reversible(int64_t n) {
    fixture f = fixture_begin(D, 0, n, 0, "tsit5");
    f.p.lambda = 0.999, f.p.gradient = PN_GRAD_REVERSIBLE;
    void *all = give_each(&f);
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    compare(&f, pn_isa_best(), all, (size_t)n / 2);
    fixture_end(&f);
    release(0);
}

/* Sensitivities: those of a sample where all have its parameters. */
static void sensitivities(int f32, int64_t n) {
    fixture f = fixture_begin(D, 0, n, f32, "dopri5");
    pn_problem *p = &f.p;
    size_t size = f.rows * D * (f.n_theta + D), each = D * (f.n_theta + D);
    double *own = keep(size, sizeof *own);
    void *all = give_each(&f);
    p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE, p->g_y0 = p->g_t = NULL;
    EACH_ISA(isa) {
        p->sensitivity = own, p->theta = all, p->theta_each = 1;
        CHECK(pn_solve(p, f32, isa, said) == PN_OK);
        for (size_t i = 0; i < (size_t)n; i += n > 3 ? 3 : 1) {
            size_t mark = n_kept;
            double *shared = keep(size, sizeof *shared), largest = 0, worst = 0;
            p->sensitivity = shared, p->theta_each = 0, p->theta = (const char *)all + i * f.n_theta * (f32 ? 4 : 8);
            CHECK(pn_solve(p, f32, isa, said) == PN_OK);
            for (size_t e = (size_t)p->row[i] * each; e < (size_t)(p->row[i] + p->t_len[i]) * each; e++) {
                largest = fmax(largest, fabs(shared[e]));
                worst = fmax(worst, fabs(shared[e] - own[e]));
            }
            CHECKF(worst <= (f32 ? 1e-4 : 1e-12) * largest, "%s f%d n %d: %g", pn_isa_name(isa), f32 ? 32 : 64, (int)n, worst);
            release(mark);
        }
    }
    fixture_end(&f);
    release(0);
}

static int never(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                 double *out, int n_out) {
    (void)ctx, (void)which, (void)n, (void)t, (void)y, (void)u, (void)seed, (void)out, (void)n_out;
    return 1;
}

static void refused(void) {
    fixture f = fixture_begin(D, 0, 4, 0, "dopri5");
    give_each(&f);
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    f.p.call = never;
    CHECK(pn_solve(&f.p, 0, pn_isa_best(), said) == PN_BAD_ARGUMENT);
    f.p.call = NULL;
    f.p.gradient = PN_GRAD_NONE;
    f.p.field = f.reverse; /* refused before anything is read of it */
    f.p.quadrature = keep(f.n_theta, sizeof(double));
    CHECK(pn_solve(&f.p, 0, pn_isa_best(), said) == PN_BAD_ARGUMENT);
    fixture_end(&f);
    release(0);
}

int main(void) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= 41; n += 20) {
            against_shared(f32, n, 0, 0, "dopri5");
            against_shared(f32, n, 2, 0, "tsit5");
            against_shared(f32, n, 2, 0, "rk4");
            against_shared(f32, n, 0, 1, "bosh3");
            sensitivities(f32, n);
        }
    for (int64_t n = 1; n <= 23; n += 11) reversible(n);
    refused();
    return finish("test_own_theta");
}
