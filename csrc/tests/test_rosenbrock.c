/* Rosenbrock methods: their orders, a step by hand, an explicit method of high order, instruction sets, lanes against one, gradients against
   differences, sensitivities, checkpoints (the same bits), Jacobians that are not finite. */
#include "tests/stiff.h"

static const char *name_of(int i) { return pn_rosenbrock_at(i)->name; }

static const double one[] = {1, 0, 0, 1}, mass[] = {2, 0.1, 0.3, 2};

static const double *kept_mass(const double *M) { return M ? memcpy(keep(4, sizeof *M), M, 4 * sizeof *M) : NULL; }

/* One step of length h in plain arithmetic, W by Cramer's rule; stages k, mass M, the Jacobian times `wrong`. */
static void stages_by_hand(const pn_tableau *m, const double *M, double mu, double t, double h, const double *y, double wrong,
                           double k[][2], double *y_new) {
    double g = wrong * m->gamma * h, a = M[0], b = M[1] - g, c = M[2] - g * (-2 * mu * y[0] * y[1] - 1);
    double d = M[3] - g * mu * (1 - y[0] * y[0]), det = a * d - b * c;
    memcpy(y_new, y, 2 * sizeof *y);
    for (int i = 0; i < m->s; i++) {
        double x[2] = {y[0], y[1]}, sum[2] = {0, 0}, ti = t + m->c[i] * h;
        for (int j = 0; j < i; j++)
            for (int e = 0; e < 2; e++) x[e] += h * m->a[i][j] * k[j][e], sum[e] += m->coupling[i][j] * k[j][e];
        double s0 = M[0] * sum[0] + M[1] * sum[1], s1 = M[2] * sum[0] + M[3] * sum[1];
        double r0 = m->gamma * (x[1] + s0);
        double r1 = m->gamma * (mu * (1 - x[0] * x[0]) * x[1] - x[0] + ti * ti + s1 + m->by_t[i] * h * 2 * t);
        k[i][0] = (d * r0 - b * r1) / det;
        k[i][1] = (a * r1 - c * r0) / det;
        for (int e = 0; e < 2; e++) y_new[e] += h * m->b[i] * k[i][e];
    }
}
static void by_hand(const pn_tableau *m, const double *M, double mu, double t, double h, const double *y, double *y_new) {
    double k[PN_MAX_CORE][2];
    stages_by_hand(m, M, mu, t, h, y, 1, k, y_new);
}

/* The solution after a time h, by many steps of the classical method. */
static void exactly(double mu, double t, double h, const double *from, double *y) {
    enum { STEPS = 200 };
    const double l = h / STEPS;
    memcpy(y, from, 2 * sizeof *y);
    for (int n = 0; n < STEPS; n++) {
        static const double at[] = {0, 0.5, 0.5, 1}, weight[] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
        double k[2] = {0, 0}, sum[2] = {0, 0};
        for (int i = 0; i < 4; i++) {
            const double x = y[0] + at[i] * l * k[0], v = y[1] + at[i] * l * k[1], s = t + (n + at[i]) * l;
            k[0] = v, k[1] = mu * (1 - x * x) * v - x + s * s;
            for (int e = 0; e < 2; e++) sum[e] += l * weight[i] * k[e];
        }
        for (int e = 0; e < 2; e++) y[e] += sum[e];
    }
}

/* Errors of one step of length h: the new state, the state inside, the estimate; the last with another matrix. */
enum { STATE, INSIDE, ESTIMATE, ANY_MATRIX, ERRORS };
static void errors_of_step(const pn_tableau *m, double h, double *error) {
    static const double mu = 0.8, t = 0.3, theta = 0.4, from[] = {0.7, -0.4};
    double k[PN_MAX_CORE][2], y[2], inside[2], exact[2];
    stages_by_hand(m, one, mu, t, h, from, 0.7, k, y);
    exactly(mu, t, h, from, exact);
    error[ANY_MATRIX] = hypot(y[0] - exact[0], y[1] - exact[1]);
    stages_by_hand(m, one, mu, t, h, from, 1, k, y);
    error[STATE] = hypot(y[0] - exact[0], y[1] - exact[1]);
    double estimate[2] = {0, 0};
    memcpy(inside, from, sizeof inside);
    for (int i = 0; i < m->s; i++)
        for (int e = 0; e < 2; e++) {
            double weight = 0;
            for (int q = m->dense_degree; q > 0; q--) weight = theta * (weight + m->dense[i][q]);
            inside[e] += h * weight * k[i][e];
            estimate[e] += h * m->e[i] * k[i][e];
        }
    exactly(mu, t, theta * h, from, exact);
    error[INSIDE] = hypot(inside[0] - exact[0], inside[1] - exact[1]);
    error[ESTIMATE] = hypot(estimate[0], estimate[1]);
}

/* The tables: every order is what it is said to be, and no more. */
static void orders(const pn_tableau *m) {
    const double order[ERRORS] = {m->order, m->dense_order, m->error_order, m->order};
    const char *const what[ERRORS] = {"state", "inside", "estimate", "another matrix"};
    double error[ERRORS], half[ERRORS];
    errors_of_step(m, 0.04, error), errors_of_step(m, 0.02, half);
    for (int i = 0; i < ERRORS; i++) {
        const double found = log2(error[i] / half[i]) - 1;
        CHECKF((fabs(found - order[i]) < 0.35) == (i != ANY_MATRIX || m->any_matrix), "%s, %s: order %.2f, said to be %g",
               m->name, what[i], found, order[i]);
    }
    for (int i = 0; i < m->s; i++) {
        double sum = 0;
        for (int q = 0; q <= m->dense_degree; q++) sum += m->dense[i][q];
        CHECKF(fabs(sum - m->b[i]) < 1e-13 * (1 + fabs(sum)), "%s: row %d of dense", m->name, i);
    }
}

static void steps_by_hand(const char *name, const double *M) {
    const double h = 0.02, mu = 20;
    fixture f = stiff_fixture(1, 0, name, mu);
    f.p.adaptive = 0, f.p.step = h, f.p.mass = kept_mass(M);
    for (int j = 0; j < 5; j++) f.t[j] = 0.5 + h * j;
    EACH_ISA(isa) {
        double y[2], next[2];
        CHECK(fixture_solve(&f, isa) == PN_OK && f.p.accepted[0] == 4);
        memcpy(y, f.y0, sizeof y);
        for (size_t j = 1; j < 5; j++) {
            by_hand(f.p.tableau, M ? M : one, mu, f.t[j - 1], f.t[j] - f.t[j - 1], y, next);
            memcpy(y, next, sizeof y);
            for (size_t e = 0; e < 2; e++) {
                double got = get(f.p.y, 2 * j + e, 0);
                CHECKF(fabs(got - y[e]) < 1e-11 * (1 + fabs(y[e])), "%s %s: %.17g, by hand %.17g", name, pn_isa_name(isa), got,
                       y[e]);
            }
        }
    }
    fixture_end(&f);
    release(0);
}

/* Results for mu, of the method or, where it is NULL, of dop853 at a tight tolerance. */
static double *solution(const char *method, int driven, int64_t n, double mu, pn_isa isa) {
    seed_state = 11;
    fixture f = driven_fixture(driven, n, 0, method ? method : "rodas5p", mu);
    if (!method) {
        f.p.tableau = pn_tableau_find("dop853");
        f.p.jacobian = f.p.jacobian_reverse = NULL;
        f.p.rtol = 1e-11;
    }
    f.p.gradient = PN_GRAD_NONE, f.p.loss = PN_LOSS_NONE;
    CHECK(fixture_solve(&f, isa) == PN_OK);
    double *y = keep(2 * f.rows, sizeof *y);
    memcpy(y, f.p.y, 2 * f.rows * sizeof *y);
    for (int64_t i = 0; i < n; i++) CHECK(f.p.status[i] == PN_OK);
    fixture_end(&f);
    return y;
}

/* Against an explicit method that can still do it, and 37 lanes against each other's instruction sets. */
static void solutions(const char *name) {
    for (int k = 0; k < 4; k++) {
        const int driven = k % 2;
        const int64_t n = k < 2 ? 1 : 37;
        size_t rows = 0;
        for (int64_t i = 0; i < n; i++) rows += i == 0 ? 5 : 1 + (size_t)(i * 7 % 5);
        double *want = solution(NULL, driven, n, 5, pn_isa_best());
        EACH_ISA(isa) {
            double *got = solution(name, driven, n, 5, isa), worst = 0;
            for (size_t e = 0; e < 2 * rows; e++) worst = fmax(worst, fabs(got[e] - want[e]) / (1 + fabs(want[e])));
            CHECKF(worst < (strcmp(name, "rosenbrock23") ? 1e-4 : 3e-2), "%s %s, input %d, n %d: %g", name, pn_isa_name(isa),
                   driven, (int)n, worst);
        }
        release(0);
    }
}

/* A sample among others has the numbers that it has alone, on the same fixed steps: states, cotangents of y0 and of times. */
static void lanes(const char *name, int driven, int f32) {
    enum { MANY = 37 };
    EACH_ISA(isa) {
        seed_state = 11;
        fixture f = driven_fixture(driven, MANY, f32, name, 20);
        pn_problem whole = f.p;
        f.p.adaptive = 0, f.p.step = 0.02;
        f.p.g_y = random_array(2 * f.rows, f32, 1), f.p.loss = PN_LOSS_NONE;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        double *y = keep(2 * f.rows, sizeof *y), *g_y0 = keep(2 * MANY, sizeof *y), *g_t = keep(f.rows, sizeof *y);
        for (size_t e = 0; e < 2 * f.rows; e++) y[e] = get(f.p.y, e, f32);
        memcpy(g_y0, f.p.g_y0, 2 * MANY * sizeof *y), memcpy(g_t, f.p.g_t, f.rows * sizeof *y);
        for (int64_t i = 0; i < MANY; i += 5) {
            const size_t row = (size_t)whole.row[i];
            f.p.n = 1;
            f.p.y0 = (const char *)whole.y0 + (size_t)i * 2 * (f32 ? 4 : 8);
            f.p.t_start = whole.t_start + i, f.p.t_len = whole.t_len + i, f.p.row = whole.row + i;
            if (driven)
                f.p.knot_start = whole.knot_start + i, f.p.knot_len = whole.knot_len + i, f.p.seg_start = whole.seg_start + i;
            CHECK(fixture_solve(&f, isa) == PN_OK);
            for (size_t e = 2 * row; e < 2 * (row + (size_t)f.t_len[i]); e++) {
                double got = get(f.p.y, e, f32), limit = f32 ? 2e-3 : 1e-10;
                CHECKF(fabs(got - y[e]) < limit * (1 + fabs(y[e])), "%s f%d %s sample %d: %.9g alone, %.9g", name,
                       f32 ? 32 : 64, pn_isa_name(isa), (int)i, got, y[e]);
            }
            const double limit = f32 ? 2e-2 : 1e-9;
            for (size_t e = 0; e < 2; e++)
                CHECKF(fabs(f.p.g_y0[e] - g_y0[2 * i + (int64_t)e]) < limit * (1 + fabs(f.p.g_y0[e])),
                       "%s f%d %s sample %d: g_y0 %.9g alone, %.9g", name, f32 ? 32 : 64, pn_isa_name(isa), (int)i, f.p.g_y0[e],
                       g_y0[2 * i + (int64_t)e]);
            for (size_t r = row; r < row + (size_t)f.t_len[i]; r++)
                CHECKF(fabs(f.p.g_t[r] - g_t[r]) < limit * (1 + fabs(g_t[r])), "%s f%d %s sample %d: g_t %.9g alone, %.9g",
                       name, f32 ? 32 : 64, pn_isa_name(isa), (int)i, f.p.g_t[r], g_t[r]);
        }
        fixture_end(&f);
        release(0);
    }
}

static double loss_of(fixture *f) {
    pn_gradient kind = f->p.gradient;
    f->p.gradient = PN_GRAD_NONE;
    CHECK(fixture_solve(f, pn_isa_best()) == PN_OK);
    f->p.gradient = kind;
    return total_loss(f);
}
static void difference(fixture *f, double *x, size_t n, const double *gradient, const char *what) {
    double *got = keep(n, sizeof *got);
    memcpy(got, gradient, n * sizeof *got);
    for (size_t i = 0; i < n; i++) {
        double old = x[i], h = 1e-5 * (1 + fabs(old)), slope = 0;
        for (int side = -2; side <= 2; side++) { /* of order 4 */
            x[i] = old + side * h;
            slope += side == 0 ? 0 : (side * side == 1 ? 8 * side : -side / 2) * loss_of(f) / (12 * h);
        }
        x[i] = old;
        CHECKF(fabs(slope - got[i]) <= 1e-6 * (1 + fabs(slope)), "%s %s[%d]: %.12g, differences %.12g", f->p.tableau->name,
               what, (int)i, got[i], slope);
    }
}

/* Fixed steps: the loss is a smooth function of mu and y0; with an input and a mass, or without. Instruction sets and checkpoints on top. */
static void gradients(const char *name, int driven, int64_t n, int land) {
    seed_state = 11;
    fixture f = driven_fixture(driven, n, 0, name, 8);
    f.p.adaptive = 0, f.p.step = 0.03, f.p.land = land;
    f.p.mass = kept_mass(driven ? mass : NULL);
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    difference(&f, f.theta, 1, f.p.g_theta, "g_theta");
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    difference(&f, f.y0, 2 * (size_t)n, f.p.g_y0, "g_y0");
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    if (driven) difference(&f, f.coef, f.segments * 2, f.p.g_coef, "g_coef");
    double best = 0;
    EACH_ISA(isa) {
        CHECK(fixture_solve(&f, isa) == PN_OK);
        best = best == 0 ? f.p.g_theta[0] : best;
        CHECKF(fabs(f.p.g_theta[0] - best) < 1e-9 * (1 + fabs(best)), "%s %s", name, pn_isa_name(isa));
        bytes all = snapshot(&f);
        CHECK(same_with_less(&f, isa, all, 1 << 20, 4000, INT64_MAX, name) > 2);
        f.p.memory = 0;
        f.p.threads = 3;
        CHECK(fixture_solve(&f, isa) == PN_OK && same_bytes(all, snapshot(&f)));
        f.p.threads = 1;
    }
    fixture_end(&f);
    release(0);
}

/* g^T (dy/dmu, dy/dy0) is the gradient. */
static void sensitivities(const char *name, int64_t n) {
    fixture f = stiff_fixture(n, 0, name, 8);
    f.p.adaptive = 0, f.p.step = 0.03;
    f.p.g_y = random_array(f.rows * 2, 0, 1);
    f.p.loss = PN_LOSS_NONE;
    double *S = keep(f.rows * 2 * 3, sizeof *S);
    EACH_ISA(isa) {
        double sum = 0;
        f.p.gradient = PN_GRAD_DISCRETE, f.p.sensitivity = NULL;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        f.p.gradient = PN_GRAD_NONE, f.p.sensitivity = memset(S, 0xff, f.rows * 2 * 3 * sizeof *S);
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (size_t r = 0; r < f.rows * 2; r++) sum += get(f.p.g_y, r, 0) * S[3 * r];
        CHECKF(fabs(sum - f.p.g_theta[0]) < 1e-10 * (1 + fabs(sum)), "%s %s n %d: %g %g", name, pn_isa_name(isa), (int)n, sum,
               f.p.g_theta[0]);
    }
    fixture_end(&f);
    release(0);
}

/* Samples change their method, and have alone the bits that they have among others, whatever the budget and the threads. */
static void changes(int f32) {
    enum { MANY = 37 };
    EACH_ISA(isa) {
        seed_state = 11;
        fixture f = changing(MANY, f32, 60);
        CHECK(fixture_solve(&f, isa) == PN_OK);
        bytes all = snapshot(&f);
        int64_t some = 0, others = 0;
        for (int64_t i = 0; i < MANY; i++) {
            CHECKF(f.p.status[i] == PN_OK, "%s %s", pn_isa_name(isa), pn_status_name((pn_status)f.p.status[i]));
            some += f.p.stiff_steps[i], others += f.p.accepted[i] - f.p.stiff_steps[i];
        }
        CHECKF(some > MANY && others > MANY, "%s: %d of %d steps", pn_isa_name(isa), (int)some, (int)others);
        CHECK(same_with_less(&f, isa, all, 1 << 20, 4000, INT64_MAX, "changes") > 2);
        f.p.memory = 0, f.p.threads = 3;
        CHECK(fixture_solve(&f, isa) == PN_OK && same_bytes(all, snapshot(&f)));
        f.p.threads = 1;
        fixture_end(&f);
        release(0);
    }
}

/* The gradient against differences of fourth order at a tolerance so tight that the steps do not matter. */
static void changing_gradient(void) {
    seed_state = 11;
    fixture f = changing(1, 0, 500);
    f.p.rtol = 1e-9;
    static const double tight[] = {1e-9, 1e-9};
    f.p.atol = tight;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK && f.p.stiff_steps[0] > 0);
    double got = f.p.g_theta[0], slope = 0, h = 0.5;
    for (int side = -2; side <= 2; side++) {
        set(f.theta, 0, 0, 500 + side * h);
        slope += side == 0 ? 0 : (side * side == 1 ? 8 * side : -side / 2) * loss_of(&f) / (12 * h);
    }
    CHECKF(fabs(slope - got) <= 1e-5 * (1e-3 + fabs(slope)), "%.12g, differences %.12g", got, slope);
    fixture_end(&f);
    release(0);
}

/* The same where samples change their method and wait for a lane, y0 of each of them, too. */
static void changing_sensitivities(int64_t n, int f32) {
    seed_state = 11;
    fixture f = changing(n, f32, 60);
    pn_problem *p = &f.p;
    double *S = keep(f.rows * 2 * 3, sizeof *S), *g_y0 = keep((size_t)n * 2, sizeof *g_y0);
    p->g_y = random_array(f.rows * 2, f32, 1), p->loss = PN_LOSS_NONE;
    EACH_ISA(isa) {
        double sum = 0, size = 0;
        int64_t changed = 0;
        p->gradient = PN_GRAD_DISCRETE, p->sensitivity = NULL;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        memcpy(g_y0, p->g_y0, (size_t)n * 2 * sizeof *g_y0);
        p->gradient = PN_GRAD_NONE, p->sensitivity = memset(S, 0xff, f.rows * 2 * 3 * sizeof *S);
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < n; i++) changed += p->stiff_steps[i] > 0 && p->stiff_steps[i] < p->accepted[i];
        CHECK(changed > n / 3);
        for (size_t r = 0; r < f.rows * 2; r++) sum += get(p->g_y, r, f32) * S[3 * r], size += fabs(S[3 * r]);
        CHECKF(fabs(sum - p->g_theta[0]) < (f32 ? 1e-3 : 1e-9) * (1 + size), "%s f%d n %d: %g %g", pn_isa_name(isa),
               f32 ? 32 : 64, (int)n, sum, p->g_theta[0]);
        for (size_t i = 0; i < (size_t)n; i++)
            for (size_t c = 0; c < 2; c++) {
                sum = size = 0;
                for (size_t r = 2 * (size_t)p->row[i]; r < 2 * (size_t)(p->row[i] + f.t_len[i]); r++)
                    sum += get(p->g_y, r, f32) * S[3 * r + 1 + c], size += fabs(S[3 * r + 1 + c]);
                CHECKF(fabs(sum - g_y0[2 * i + c]) < (f32 ? 1e-3 : 1e-9) * (1 + size), "%s f%d n %d, y0 of %d: %g %g",
                       pn_isa_name(isa), f32 ? 32 : 64, (int)n, (int)i, sum, g_y0[2 * i + c]);
            }
    }
    fixture_end(&f);
    release(0);
}

/* On the slow branch of the oscillator every rate stays far beyond what the explicit method could take: once stiff, a sample stays
   so, be its numbers near the absolute tolerance or far above it. */
static void stays_stiff(double atol) {
    fixture f = changing(3, 0, 1000);
    pn_problem *p = &f.p;
    const double both[] = {atol, atol};
    p->atol = both, p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE;
    for (int64_t i = 0; i < 3; i++) {
        set(f.y0, 2 * (size_t)i, 0, 2 + 0.1 * (double)i), set(f.y0, 2 * (size_t)i + 1, 0, 0);
        for (int64_t j = 0; j < f.t_len[i]; j++) f.t[p->row[i] + j] = 1.5 * (double)j;
    }
    EACH_ISA(isa) {
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < 3; i++) {
            const int64_t others = p->accepted[i] - p->stiff_steps[i];
            if (f.t_len[i] > 1)
                CHECKF(p->stiff_steps[i] > 5 && others < 100, "%s, atol %g, sample %d: %d steps, %d of them explicit",
                       pn_isa_name(isa), atol, (int)i, (int)p->accepted[i], (int)others);
        }
    }
    fixture_end(&f);
    release(0);
}

/* An input that is quadratic in time, on prescribed steps: cotangents of its coefficients and of saved times against differences. */
static void curved_input(const char *name) {
    enum { TIMES = 5, PIECES = 3, STEPS = (TIMES - 1) * PIECES };
    static const double times[TIMES] = {0.1, 0.25, 0.45, 0.6, 0.85};
    static const int64_t length = STEPS + 1, first = 0;
    seed_state = 11;
    fixture f = driven_fixture(1, 1, 0, name, 8);
    pn_problem *p = &f.p;
    double grid[STEPS + 1], *coef = keep(3 * f.segments, sizeof *coef), *want = keep(TIMES, sizeof *want);
    for (size_t e = 0; e < 3 * f.segments; e++) coef[e] = 2 * uniform();
    p->degree = 2, p->coef = coef, p->g_coef = NULL;
    double *g_coef = keep(3 * f.segments, sizeof *g_coef);
    memcpy(f.t, times, sizeof times);
    for (int j = 0; j < STEPS; j++)
        grid[j] = times[j / PIECES] + (times[j / PIECES + 1] - times[j / PIECES]) * (j % PIECES) / PIECES;
    grid[STEPS] = times[TIMES - 1];
    p->adaptive = 0, p->land = 1, p->grid = grid, p->grid_start = &first, p->grid_len = &length, p->n_grid = STEPS + 1;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    memcpy(want, p->g_t, sizeof times);
    for (int j = 0; j < TIMES; j++) {
        double slope = 0;
        const double h = 1e-4, old = f.t[j];
        for (int side = -2; side <= 2; side++) {
            f.t[j] = grid[PIECES * j] = old + side * h;
            slope += side == 0 ? 0 : (side * side == 1 ? 8 * side : -side / 2) * loss_of(&f) / (12 * h);
        }
        f.t[j] = grid[PIECES * j] = old;
        CHECKF(fabs(slope - want[j]) <= 1e-6 * (1 + fabs(slope)), "%s g_t[%d]: %.12g, differences %.12g", name, j, want[j],
               slope);
    }
    p->g_coef = memset(g_coef, 0, 3 * f.segments * sizeof *g_coef);
    CHECK(pn_solve(p, 0, pn_isa_best(), said) == PN_OK);
    p->g_coef = NULL;
    difference(&f, coef, 3 * f.segments, g_coef, "curved g_coef");
    fixture_end(&f);
    release(0);
}

/* y' = cos t - log y, its Jacobian, or their vjps; nothing fused, so that what lies behind the one component may be 0 / 0. */
static pn_program *logarithm(int jacobian, int vjp) {
    builder b = {.spec = {.n_spaces = 0}};
    int32_t t = add_slot(&b, 1), y = add_slot(&b, 1), seed = (add_slot(&b, 0), vjp ? add_slot(&b, 1 + jacobian) : -1);
    int32_t sine = add(&b, PN_OP_SIN, 1, t, -1, -1, 0, 0, 0), cosine = add(&b, PN_OP_COS, 1, t, -1, -1, 0, 0, 0), value;
    if (jacobian) {
        int32_t J = add(&b, PN_OP_NEG, 1, add(&b, PN_OP_RECIP, 1, y, -1, -1, 0, 0, 0), -1, -1, 0, 0, 0);
        value = add(&b, PN_OP_CONCAT, 2, J, add(&b, PN_OP_NEG, 1, sine, -1, -1, 0, 0, 0), -1, 0, 0, 0);
    } else
        value = add(&b, PN_OP_SUB, 1, cosine, add(&b, PN_OP_LOG, 1, y, -1, -1, 0, 0, 0), -1, 0, 0, 0);
    add_output(&b, value);
    b.spec.segments[1] = b.spec.n_code;
    if (!vjp) return must_create(&b);
    int32_t of = jacobian ? add(&b, PN_OP_SLICE, 1, seed, -1, -1, 0, 1, 0) : seed, by = y;
    if (jacobian) by = add(&b, PN_OP_NEG, 1, add(&b, PN_OP_SQUARE, 1, y, -1, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_NEG, 1, add(&b, PN_OP_DIV, 1, of, by, -1, 0, 0, 0), -1, -1, 0, 0, 0));
    int32_t in_t = jacobian ? add(&b, PN_OP_SLICE, 1, seed, -1, -1, 1, 1, 0) : seed;
    int32_t slope = add(&b, PN_OP_MUL, 1, in_t, jacobian ? cosine : sine, -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_NEG, 1, slope, -1, -1, 0, 0, 0));
    add_output(&b, -1);
    b.spec.segments[2] = b.spec.n_code - b.spec.segments[1];
    return must_create(&b);
}
static void one_component(const char *name, int64_t n) {
    fixture f = fixture_begin(1, 0, n, 0, "dopri5");
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    p->field = f.field = logarithm(0, 0), p->reverse = f.reverse = logarithm(0, 1);
    p->jacobian = f.part[0] = logarithm(1, 0), p->jacobian_reverse = f.part[1] = logarithm(1, 1);
    p->n_theta = 0, f.n_theta = 0, p->tableau = pn_tableau_find(name);
    for (int64_t i = 0; i < n; i++) set(f.y0, (size_t)i, 0, 2 + 0.1 * (double)(i % 7));
    freeze(&f);
    p->land = 1;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    double *g_t = keep(f.rows, sizeof *g_t), *grid = (double *)(uintptr_t)p->grid;
    memcpy(g_t, p->g_t, f.rows * sizeof *g_t);
    difference(&f, f.y0, (size_t)n, p->g_y0, "g_y0 of one component");
    for (int64_t i = 0; i < n; i++) { /* the last time, and the end of the last step */
        double *end = &f.t[p->row[i] + f.t_len[i] - 1], *step = &grid[p->grid_start[i] + p->grid_len[i] - 1], slope = 0;
        const double h = 1e-4, old = *end, want = g_t[end - f.t];
        if (f.t_len[i] == 1) continue;
        for (int side = -2; side <= 2; side++) {
            *end = *step = old + side * h;
            slope += side == 0 ? 0 : (side * side == 1 ? 8 * side : -side / 2) * loss_of(&f) / (12 * h);
        }
        *end = *step = old;
        CHECKF(fabs(slope - want) <= 1e-6 * (1 + fabs(slope)), "%s, sample %d: g_t %.12g, differences %.12g", name, (int)i,
               want, slope);
    }
    fixture_end(&f);
    release(0);
}

/* A field and a Jacobian that are infinite end their sample; the others go on. */
static void not_finite(const char *name) {
    for (int64_t n = 1; n <= 9; n += 8)
        for (int fixed = 0; fixed < 2; fixed++) EACH_ISA(isa) {
                fixture f = stiff_fixture(n, 0, name, 5);
                const double bad[] = {1e200, 1e-200}; /* y0^2 is infinite */
                memcpy((double *)f.y0 + 2 * (n - 1), bad, sizeof bad);
                if (fixed) f.p.adaptive = 0, f.p.step = 0.05;
                CHECK(fixture_solve(&f, isa) == PN_OK);
                int64_t last = n - 1;
                if (f.t_len[last] > 1) CHECKF(f.p.status[last] != PN_OK, "%s %s", name, pn_isa_name(isa));
                for (int64_t i = 0; i < last; i++) CHECK(f.p.status[i] == PN_OK);
                fixture_end(&f);
                release(0);
            }
}

int main(void) {
    for (int i = 0; i < pn_rosenbrock_count(); i++) orders(pn_rosenbrock_at(i));
    CHECK(pn_rosenbrock_count() >= 3 && !pn_rosenbrock_at(-1) && !pn_rosenbrock_at(pn_rosenbrock_count()));
    for (int i = 0; i < pn_rosenbrock_count(); i++) {
        const char *name = name_of(i);
        CHECK(pn_tableau_find(name) == pn_rosenbrock_at(i));
        steps_by_hand(name, NULL), steps_by_hand(name, mass);
        solutions(name);
        for (int k = 0; k < 4; k++) lanes(name, k % 2, k / 2);
        for (int64_t n = 1; n <= 19; n += 9)
            for (int land = 0; land < 2; land++) gradients(name, 0, n, land);
        for (int64_t n = 1; n <= 7; n += 6) gradients(name, 1, n, n == 1);
        for (int64_t n = 1; n <= 21; n += 20) sensitivities(name, n);
        curved_input(name);
        one_component(name, 1), one_component(name, 5);
        not_finite(name);
    }
    for (int64_t n = 1; n <= 23; n += 22) changing_sensitivities(n, 0), changing_sensitivities(n, 1);
    stays_stiff(1e-8), stays_stiff(1e-14);
    for (int f32 = 0; f32 < 2; f32++) changes(f32);
    changing_gradient();
    return finish("test_rosenbrock");
}
