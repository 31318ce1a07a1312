/* Solves: closed forms, orders of convergence, ragged times, gradients against finite differences on prescribed steps,
   checkpoints (the same bits), the reversible scheme, and how samples and calls end. */
#include "tests/check.h"

static const char *const adaptive[] = {"heun", "bosh3", "dopri5", "tsit5", "dop853"};

/* y' = W y with W = theta (2, 2), or sqrt, square, ... of y */
static pn_program *linear(void) {
    builder b = {.spec = {.n_spaces = 1, .segments = {0, 1, 0}}, .n_theta = {4}};
    add_slot(&b, 1);
    int32_t y = add_slot(&b, 2);
    add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_AFFINE, 2, y, -1, -1, 0, -1, 0));
    return must_create(&b);
}
static void use(fixture *f, pn_program *field, const void *theta) { /* another field, no gradient, no loss */
    pn_program_destroy(&f->field);
    f->field = field;
    f->p.field = field;
    f->p.theta = theta;
    f->p.reverse = NULL;
    f->p.gradient = PN_GRAD_NONE, f->p.loss = PN_LOSS_NONE;
}
static const void *rotation(int f32) { /* y' = 2 (y1, -y0) */
    void *theta = keep(4, sizeof(double));
    set(theta, 1, f32, 2), set(theta, 2, f32, -2);
    return theta;
}
static double rotation_error(const fixture *f) { /* largest over all saved rows */
    double worst = 0;
    for (size_t i = 0; i < (size_t)f->p.n; i++)
        for (int64_t j = 0; j < f->t_len[i]; j++) {
            size_t row = (size_t)(f->p.row[i] + j);
            double a = 2 * (f->t[row] - f->t[f->p.row[i]]), y0 = get(f->y0, 2 * i, f->f32), y1 = get(f->y0, 2 * i + 1, f->f32);
            double e0 = fabs(get(f->p.y, 2 * row, f->f32) - (cos(a) * y0 + sin(a) * y1));
            double e1 = fabs(get(f->p.y, 2 * row + 1, f->f32) - (cos(a) * y1 - sin(a) * y0));
            if (!(e0 <= worst)) worst = e0;
            if (!(e1 <= worst)) worst = e1;
        }
    return worst;
}

static void closed_forms(void) {
    for (int method = 0; method < 5; method++)
        for (int f32 = 0; f32 < 2; f32++)
            for (int64_t n = 1; n <= 37; n += 36)
                for (int land = 0; land < 2; land++)
                    for (int back = 0; back < 2; back++) { /* and towards smaller times */
                        size_t mark = n_kept;
                        fixture f = fixture_begin(2, 0, n, f32, adaptive[method]);
                        use(&f, linear(), rotation(f32));
                        f.p.land = land;
                        for (size_t i = 0; i < f.rows && back; i++) f.t[i] = 3 - f.t[i];
                        EACH_ISA(isa) {
                            memset(f.p.y, 0, f.rows * 2 * (f32 ? 4 : 8));
                            CHECK(fixture_solve(&f, isa) == PN_OK);
                            double error = rotation_error(&f), limit = 200 * (f32 ? 1e-4 : 1e-7);
                            CHECKF(error < limit, "%s %s f%d n %d land %d back %d: %g", adaptive[method], pn_isa_name(isa),
                                   f32 ? 32 : 64, (int)n, land, back, error);
                            for (int64_t i = 0; i < n; i++)
                                CHECK(f.p.status[i] == PN_OK && f.p.stop_t[i] == f.t[f.p.row[i] + f.t_len[i] - 1] &&
                                      f.p.stop_component[i] == -1);
                        }
                        fixture_end(&f);
                        release(mark);
                    }
}

static void orders(void) {
    uint64_t seed = seed_state;
    for (int m = 0; m < pn_tableau_count(); m++) {
        size_t mark = n_kept;
        seed_state = seed; /* the same problem for each */
        const pn_tableau *tab = pn_tableau_at(m);
        if (tab->gamma > 0) continue; /* test_rosenbrock */
        fixture f = fixture_begin(2, 0, 3, 0, tab->name);
        use(&f, linear(), rotation(0));
        f.p.adaptive = 0, f.p.land = 1;
        double error[2];
        for (int i = 0; i < 2; i++) {
            f.p.step = (tab->order >= 8 ? 0.5 : tab->order >= 4 ? 0.1 : 0.01) / (1 << i);
            for (size_t r = 0; r < f.rows; r++) f.t[r] = floor(f.t[r] + 0.5); /* whole steps */
            CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
            error[i] = rotation_error(&f);
        }
        double slope = log2(error[0] / error[1]);
        CHECKF(slope > tab->order - 0.2 && slope < tab->order + 0.7, "%s: order %.2f, not %d (%g, %g)", tab->name, slope,
               tab->order, error[0], error[1]);
        fixture_end(&f);
        release(mark);
    }
}

/* repeated times, one time only, and times in any number */
static void odd_times(void) {
    fixture f = fixture_begin(2, 0, 4, 0, "dopri5");
    use(&f, linear(), rotation(0));
    f.t_len[1] = 1, f.t_len[2] = 2;
    f.t[f.p.row[2] + 1] = f.t[f.p.row[2]]; /* twice the initial time */
    f.t[2] = f.t[1];                       /* a result twice */
    f.t[4] = f.t[3];
    for (int land = 0; land < 2; land++) {
        f.p.land = land;
        CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
        CHECK(rotation_error(&f) < 1e-5);
        CHECK(f.p.accepted[1] == 0 && f.p.accepted[2] == 0 && f.p.accepted[0] > 0);
    }
    f.p.n = 0;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    f.p.n = 4;
    memset(f.y0, 0, 4 * 2 * sizeof(double)); /* all zero with atol = 0: 0 / 0 is no error */
    memset((void *)(uintptr_t)f.p.atol, 0, 2 * sizeof(double));
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    for (int i = 0; i < 4; i++) CHECK(f.p.status[i] == PN_OK);
    fixture_end(&f);
    release(0);
}

/* Samples of one time, the first of all times among them, between others: more than there are lanes. */
static void single_times(void) {
    guard_before = 1;
    for (int f32 = 0; f32 < 2; f32++) EACH_ISA(isa) {
            fixture f = fixture_begin(2, 0, 70, f32, "dopri5");
            use(&f, linear(), rotation(f32));
            for (size_t i = 0; i < 70; i += 3) f.t_len[i] = 1;
            CHECK(fixture_solve(&f, isa) == PN_OK && rotation_error(&f) < (f32 ? 1e-2 : 1e-5));
            fixture_end(&f);
            release(0);
        }
    guard_before = 0;
}

/* States set and added to at saved times: from there on the solution is that of the new state. */
static void jumps(const char *method, int64_t n) {
    seed_state = 5;
    fixture f = fixture_begin(2, 0, n, 0, method);
    use(&f, linear(), rotation(0));
    double *jump = random_array(2 * f.rows, 0, 1), *set_to = random_array(2 * f.rows, 0, 1);
    for (size_t r = 0; r < f.rows; r++)
        for (size_t c = 0; c < 2; c++)
            if ((r + c) % 3 != 0) set_to[2 * r + c] = NAN; /* this one stays */
    f.p.jump_add = jump, f.p.jump_set = set_to, f.p.land = 1;
    f.p.first_step = 0.1;
    EACH_ISA(isa) {
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < n; i++) {
            const int64_t tried = f.p.accepted[i] + f.p.rejected[i],
                          jumped = f.t_len[i] - 1; /* f is new where a step begins there */
            CHECKF(f.p.nfe[i] == tried * f.p.tableau->s + jumped, "%s %s: %d evaluations, %d steps", method, pn_isa_name(isa),
                   (int)f.p.nfe[i], (int)tried);
            double y[2] = {get(f.y0, 2 * (size_t)i, 0), get(f.y0, 2 * (size_t)i + 1, 0)};
            for (int64_t j = 0; j < f.t_len[i]; j++) {
                const size_t row = (size_t)(f.p.row[i] + j);
                const double a = j ? 2 * (f.t[row] - f.t[row - 1]) : 0,
                             moved[] = {cos(a) * y[0] + sin(a) * y[1], cos(a) * y[1] - sin(a) * y[0]};
                for (size_t c = 0; c < 2; c++) {
                    y[c] = (isnan(set_to[2 * row + c]) ? moved[c] : set_to[2 * row + c]) + jump[2 * row + c];
                    CHECKF(fabs(get(f.p.y, 2 * row + c, 0) - y[c]) < 1e-5, "%s %s, sample %d, time %d: %g, not %g", method,
                           pn_isa_name(isa), (int)i, (int)j, get(f.p.y, 2 * row + c, 0), y[c]);
                }
            }
        }
    }
    fixture_end(&f);
    release(0);
}

/* ---- gradients ------------------------------------------------------------------------------------------------------ */
static double loss_at(fixture *f) {
    pn_gradient kind = f->p.gradient;
    f->p.gradient = PN_GRAD_NONE;
    CHECK(fixture_solve(f, PN_ISA_BASELINE) == PN_OK);
    f->p.gradient = kind;
    return total_loss(f);
}
static void difference(fixture *f, double *x, size_t n, const double *gradient, double tolerance, const char *what) {
    double *expected = keep(n, sizeof *expected);
    memcpy(expected, gradient, n * sizeof *expected);
    for (size_t i = 0; i < n; i++) {
        double old = x[i], h = 1e-5, up, down;
        x[i] = old + h, up = loss_at(f);
        x[i] = old - h, down = loss_at(f);
        x[i] = old;
        double slope = (up - down) / (2 * h);
        CHECKF(fabs(slope - expected[i]) <= tolerance * (1 + fabs(slope)), "%s %s[%d]: %.12g, differences %.12g",
               f->p.tableau->name, what, (int)i, expected[i], slope);
    }
}
/* dL/dt of a time, moved together with the end of the step that lies there */
static void difference_times(fixture *f) {
    pn_problem *p = &f->p;
    double *expected = keep(f->rows, sizeof *expected), *grid = (double *)(uintptr_t)p->grid;
    memcpy(expected, p->g_t, f->rows * sizeof *expected);
    for (size_t i = 0; i < (size_t)p->n; i++)
        for (int64_t j = 0; j < f->t_len[i]; j++) {
            double *t = &f->t[p->row[i] + j], old = *t, loss[2], *end = NULL;
            for (int64_t k = 0; k < p->grid_len[i]; k++)
                if (grid[p->grid_start[i] + k] == old) end = &grid[p->grid_start[i] + k];
            for (int side = 0; side < 2; side++) {
                *t = old + (side ? -1e-5 : 1e-5);
                if (end) *end = *t;
                loss[side] = loss_at(f);
            }
            *t = old;
            if (end) *end = old;
            double slope = (loss[0] - loss[1]) / 2e-5, got = expected[p->row[i] + j];
            CHECKF(fabs(slope - got) <= 2e-7 * (1 + fabs(slope)), "%s land %d g_t[%d][%d]: %.12g, differences %.12g",
                   p->tableau->name, p->land, (int)i, (int)j, got, slope);
        }
}

static void gradients(const char *method, int64_t n, int32_t m, int land, double lambda, pn_loss loss) {
    size_t mark = n_kept;
    fixture f = fixture_begin(3, m, n, 0, method);
    f.p.rtol = 1e-4;
    f.p.land = land;
    f.p.lambda = lambda;
    f.p.loss = loss;
    if (loss == PN_LOSS_HUBER) f.p.loss_scale = 0.3;
    if (lambda > 0) f.p.gradient = PN_GRAD_REVERSIBLE;
    double *target = f.target, *weight = random_array(f.rows * 3, 0, 1);
    target[4] = NAN, weight[5] = 0; /* not observed */
    f.p.weight = weight;
    freeze(&f);
    CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
    bytes baseline = snapshot(&f);
    difference(&f, f.theta, f.n_theta, f.p.g_theta, 1e-7, "g_theta");
    CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
    CHECK(same_bytes(baseline, snapshot(&f)));
    difference(&f, f.y0, (size_t)n * 3, f.p.g_y0, 1e-7, "g_y0");
    if (m) {
        CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
        difference(&f, f.coef, f.segments * 2 * (size_t)m, f.p.g_coef, 1e-7, "g_coef");
    }
    CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
    difference_times(&f);
    double g_theta = f.p.g_theta[3];
    EACH_ISA(isa) {
        CHECK(fixture_solve(&f, isa) == PN_OK);
        CHECKF(fabs(f.p.g_theta[3] - g_theta) < 1e-10, "%s", pn_isa_name(isa));
    }
    fixture_end(&f);
    release(mark);
}

/* Eight components, saved inside of steps: the most of which the values are collected a vector of times at once. */
static void eight(const char *method, int64_t n) {
    fixture f = fixture_begin(8, 0, n, 0, method);
    f.p.rtol = 1e-3;
    freeze(&f);
    CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
    difference(&f, f.y0, 8 * (size_t)n, f.p.g_y0, 1e-7, "g_y0 of eight");
    fixture_end(&f);
    release(0);
}

/* float32 against float64 */
static void single_precision(void) {
    double norm[2];
    for (int f32 = 0; f32 < 2; f32++) {
        seed_state = 77;
        fixture f = fixture_begin(3, 2, 21, f32, "tsit5");
        CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
        norm[f32] = 0;
        for (size_t i = 0; i < f.n_theta; i++) norm[f32] += f.p.g_theta[i] * f.p.g_theta[i];
        fixture_end(&f);
        release(0);
    }
    CHECKF(fabs(norm[1] / norm[0] - 1) < 1e-3, "%g %g", norm[0], norm[1]);
}

static void checkpoints(void) {
    static const char *const kinds[] = {"fixed steps", "adaptive steps", "with inputs"};
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= 41; n += 20)
            for (int kind = 0; kind < 3; kind++) {
                size_t mark = n_kept;
                fixture f = fixture_begin(3, kind == 2 ? 2 : 0, n, f32, kind ? "tsit5" : "rk4");
                f.p.step = 0.004;
                if (kind) f.p.rtol = f32 ? 1e-6 : 1e-12;
                for (size_t i = 0; i < f.rows; i++) f.t[i] *= kind ? 1 : 1.03;
                EACH_ISA(isa) {
                    f.p.memory = 0;
                    CHECK(fixture_solve(&f, isa) == PN_OK);
                    bytes all = snapshot(&f);
                    int64_t steps = 0;
                    for (int64_t i = 0; i < n; i++) steps += f.p.accepted[i];
                    int worked = same_with_less(&f, isa, all, 4 << 20, 2000, steps * 64, kinds[kind]);
                    CHECKF(worked || n > 1 || steps < 300, "%s f%d n %d kind %d: no budget was small (%d steps)",
                           pn_isa_name(isa), f32 ? 32 : 64, (int)n, kind, (int)steps);
                    f.p.memory = 1;
                    CHECK(fixture_solve(&f, isa) == PN_BUDGET);
                }
                fixture_end(&f);
                release(mark);
            }
}

/* ---- how samples end -------------------------------------------------------------------------------------------------- */
static pn_program *single(int32_t op, int32_t sign) { /* y' = +- op(y) */
    builder b = {.spec = {.segments = {0, sign < 0 ? 2 : 1, 0}}};
    add_slot(&b, 1);
    int32_t y = add_slot(&b, 2);
    add_slot(&b, 0);
    int32_t f = add(&b, op, 2, y, -1, -1, 0, 0, 0);
    if (sign < 0) f = add(&b, PN_OP_NEG, 2, f, -1, -1, 0, 0, 0);
    add_output(&b, f);
    return must_create(&b);
}
static void endings(void) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= 19; n += 18) EACH_ISA(isa) {
                size_t mark = n_kept;
                fixture f = fixture_begin(2, 0, n, f32, "dopri5");
                size_t last = (size_t)n - 1;
                use(&f, single(PN_OP_SQUARE, 1), f.theta);
                f.t_len[last] = 2;
                f.t[f.p.row[last] + 1] = 2;
                for (size_t i = 0; i < 2 * (size_t)n; i++) set(f.y0, i, f32, -1); /* 1 / (-1 - t) */
                set(f.y0, 2 * last + 1, f32, 1);                                  /* a pole at t = 1 */
                CHECK(fixture_solve(&f, isa) == PN_OK);
                int st = f.p.status[last];
                CHECKF(st == PN_STEP_TOO_SMALL || st == PN_NON_FINITE, "%s", pn_status_name((pn_status)st));
                CHECK(fabs(f.p.stop_t[last] - 1) < 1e-2);
                size_t row = (size_t)f.p.row[last];
                CHECK(get(f.p.y, 2 * row, f32) == -1 && isnan(get(f.p.y, 2 * row + 2, f32)) &&
                      isnan(get(f.p.y, 2 * row + 3, f32)));
                for (size_t i = 0; i < last; i++) {
                    size_t end = (size_t)(f.p.row[i] + f.t_len[i] - 1);
                    double t = f.t[end], expected = -1 / (1 + t);
                    CHECK(f.p.status[i] == PN_OK && fabs(get(f.p.y, 2 * end, f32) - expected) < 1e-3);
                }
                f.p.adaptive = 0, f.p.step = 0.3; /* fixed steps run into infinity */
                f.t[f.p.row[last] + 1] = 12;
                CHECK(fixture_solve(&f, isa) == PN_OK);
                CHECK(f.p.status[last] == PN_NON_FINITE && f.p.stop_component[last] == 1);
                f.p.step = 1e-30; /* no step at all */
                f.t[f.p.row[last]] = 1;
                CHECK(fixture_solve(&f, isa) == PN_OK);
                CHECK(f.p.status[last] == PN_STEP_TOO_SMALL);
                f.p.step = 1e-3, f.p.max_steps = 5;
                CHECK(fixture_solve(&f, isa) == PN_OK);
                CHECK(f.p.status[last] == PN_MAX_STEPS && f.p.accepted[last] == 5);
                set(f.y0, 2 * last, f32, NAN);
                CHECK(fixture_solve(&f, isa) == PN_OK);
                CHECK(f.p.status[last] == PN_BAD_INPUT && isnan(get(f.p.y, 2 * row, f32)));
                use(&f, single(PN_OP_LOG, -1), f.theta); /* NaN at once */
                f.p.adaptive = 1, f.p.max_steps = 1000;
                set(f.y0, 2 * last, f32, -1);
                CHECK(fixture_solve(&f, isa) == PN_OK);
                CHECKF(f.p.status[last] == PN_NON_FINITE && f.p.accepted[last] == 0, "%s",
                       pn_status_name((pn_status)f.p.status[last]));
                fixture_end(&f);
                release(mark);
            }
}

/* Samples that fail do not change the gradient of the others. */
static void failed_samples(void) {
    for (int f32 = 0; f32 < 2; f32++) EACH_ISA(isa) {
            fixture f = fixture_begin(3, 2, 23, f32, "bosh3");
            double *w = keep(f.rows * 3, 8);
            for (size_t i = 0; i < f.rows * 3; i++) set(w, i, f32, 1);
            for (int bad = 3; bad < 23; bad += 7)
                for (int64_t j = 0; j < 3 * f.t_len[bad]; j++) set(w, (size_t)(3 * f.p.row[bad] + j), f32, 0);
            f.p.weight = w;
            CHECK(fixture_solve(&f, isa) == PN_OK);
            double *g = keep(f.n_theta, 8);
            memcpy(g, f.p.g_theta, f.n_theta * 8);
            for (size_t bad = 3; bad < 23; bad += 7) set(f.y0, 3 * bad + 1, f32, bad == 3 ? NAN : INFINITY);
            CHECK(fixture_solve(&f, isa) == PN_OK);
            for (size_t i = 0; i < f.n_theta; i++)
                CHECKF(fabs(f.p.g_theta[i] - g[i]) < (f32 ? 1e-4 : 1e-12) * (1 + fabs(g[i])), "%g %g", f.p.g_theta[i], g[i]);
            CHECK(f.p.status[3] == PN_BAD_INPUT && f.p.status[10] == PN_BAD_INPUT && f.p.sample_loss[3] == 0);
            fixture_end(&f);
            release(0);
        }
}

static int decay(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                 double *out, int n_out) {
    int *left = ctx;
    (void)t, (void)u;
    if (--*left < 0) return 1;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < 2; j++) {
            double k = -y[2 * i + j];
            if (k != k || n > 64) *left = -1; /* idle lanes are not asked */
            if (!which)
                out[n_out * i + j] = k;
            else
                out[n_out * i + j] = -seed[2 * i + j];
        }
    return 0;
}
static void callbacks(void) {
    for (int64_t n = 1; n <= 11; n += 10) {
        fixture f = fixture_begin(2, 0, n, 0, "dopri5");
        pn_program *field = calling(0), *reverse = calling(1);
        int left = 1 << 30;
        f.p.field = field;
        f.p.reverse = reverse;
        f.p.call = decay;
        f.p.call_ctx = &left;
        CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
        int used = (1 << 30) - left;
        for (size_t i = 0; i < (size_t)n; i++) {
            size_t end = (size_t)(f.p.row[i] + f.t_len[i] - 1);
            CHECK(fabs(((double *)f.p.y)[2 * end] - exp(-f.t[end]) * ((double *)f.y0)[2 * i]) < 1e-5);
        }
        int step = used / 23 + 1;
        for (int stop = 0; stop < used; stop += step) { /* it may raise at any time */
            left = stop;
            CHECKF(fixture_solve(&f, pn_isa_best()) == PN_CALLBACK, "%d of %d", stop, used);
        }
        f.p.call = NULL;
        CHECK(fixture_solve(&f, pn_isa_best()) == PN_BAD_ARGUMENT);
        pn_program_destroy(&field);
        pn_program_destroy(&reverse);
        fixture_end(&f);
        release(0);
    }
}

int main(void) {
    closed_forms();
    orders();
    odd_times();
    single_times();
    for (int64_t n = 1; n <= 21; n += 20) jumps("dopri5", n), jumps("bosh3", n);
    gradients("tsit5", 1, 2, 0, 0, PN_LOSS_SQUARED);
    gradients("dopri5", 6, 0, 1, 0, PN_LOSS_HUBER);
    gradients("bosh3", 6, 2, 0, 0, PN_LOSS_STUDENT);
    gradients("dop853", 5, 1, 0, 0, PN_LOSS_SQUARED);
    gradients("heun", 1, 0, 1, 0.97, PN_LOSS_SQUARED);
    gradients("bosh3", 6, 2, 1, 0.9, PN_LOSS_SQUARED);
    eight("tsit5", 1), eight("bosh3", 5);
    single_precision();
    checkpoints();
    endings();
    failed_samples();
    callbacks();
    return finish("test_solve");
}
