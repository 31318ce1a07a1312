/* Steps under control, against the same in plain arithmetic, one sample at a time: stages, error, controller, where steps are cut to
   land, how many are accepted and refused. Lists of steps, evaluations, steps refused in some lanes. */
#include "tests/check.h"

enum { D = 2, MANY = 9, ROOM_STEPS = 4000 };

/* y' = sin(W (t, y)) */
static pn_program *field(void) {
    builder b = {.spec = {.n_spaces = 1, .segments = {0, 3, 0}}, .n_theta = {D * (D + 1)}};
    int32_t t = add_slot(&b, 1), y = add_slot(&b, D);
    add_slot(&b, 0);
    int32_t x = add(&b, PN_OP_CONCAT, D + 1, t, y, -1, 0, 0, 0), w = add(&b, PN_OP_AFFINE, D, x, -1, -1, 0, -1, 0);
    add_output(&b, add(&b, PN_OP_SIN, D, w, -1, -1, 0, 0, 0));
    return must_create(&b);
}
static void evaluate(const double *theta, double t, const double *y, double *f) {
    for (int i = 0; i < D; i++) {
        double sum = theta[i * (D + 1)] * t;
        for (int j = 0; j < D; j++) sum += theta[i * (D + 1) + 1 + j] * y[j];
        f[i] = sin(sum);
    }
}

/* y + h sum_j a_j k_j */
static void add_up(const double *y, double h, const double *a, double k[][D], int n, double *to) {
    for (int i = 0; i < D; i++) {
        to[i] = y[i];
        for (int j = 0; j < n; j++) to[i] += h * a[j] * k[j][i];
    }
}

/* The square of the error's norm, with weights e. */
static double error_of(const pn_problem *p, double h, const double *e, double k[][D], int n, const double *y,
                       const double *y_new) {
    static const double none[D] = {0};
    double error[D], sum = 0;
    add_up(none, h, e, k, n, error);
    for (int i = 0; i < D; i++) {
        const double scaled = error[i] / (p->atol[i] + p->rtol * fmax(fabs(y[i]), fabs(y_new[i])));
        sum += scaled * scaled / D;
    }
    return sum;
}

/* Hairer, Norsett, Wanner, Solving ODEs I, II.4, with (10 / derivative)^(1 / order) in the place of (0.01 / derivative). */
static double norm_of(const pn_problem *p, const double *x, const double *y) {
    double sum = 0;
    for (int i = 0; i < D; i++) {
        const double q = x[i] / (p->atol[i] + p->rtol * fabs(y[i]));
        sum += q * q / D;
    }
    return sqrt(sum);
}
static double first_step(const pn_problem *p, const double *theta, double t, double last, const double *y) {
    const double dir = last < t ? -1 : 1, least = 16 * 2.220446049250313e-16 * fabs(t);
    double k0[D], k1[D], x[D];
    evaluate(theta, t, y, k0);
    const double d0 = norm_of(p, y, y), d1 = norm_of(p, k0, y);
    double h = d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / d1;
    h = fmin(fmax(h, least), fabs(last - t));
    for (int i = 0; i < D; i++) x[i] = y[i] + dir * h * k0[i];
    evaluate(theta, t + dir * h, x, k1);
    for (int i = 0; i < D; i++) k1[i] -= k0[i];
    const double most = fmax(d1, norm_of(p, k1, y) / h);
    const double next = most > 1e-15 ? pow(10 / most, 1.0 / (p->tableau->error_order + 1)) : fmax(1e-6, 1e-3 * h);
    return fmax(fmin(next, 100 * h), least);
}

typedef struct path { /* accepted steps */
    int64_t n, refused;
    double t[ROOM_STEPS], h[ROOM_STEPS], y[D];
} path;

static void by_hand(const pn_problem *p, int64_t sample, const double *theta, path *out) {
    const pn_tableau *m = p->tableau;
    const double *times = p->t + p->t_start[sample], last = times[p->t_len[sample] - 1], dir = last < times[0] ? -1 : 1;
    const double power = 1.0 / (m->error_order + 1), most = p->max_step > 0 ? p->max_step : INFINITY, beta = p->beta * power;
    double t = times[0], y[D], wanted = p->first_step, memory = 0;
    int64_t save = 1;
    int again = 0;
    *out = (path){0};
    memcpy(y, (const double *)p->y0 + sample * D, sizeof y);
    if (p->first_step == 0) wanted = first_step(p, theta, t, last, y);
    while (t != last && out->n < ROOM_STEPS && out->refused < ROOM_STEPS) {
        while (p->land && times[save] == t) save++;
        const double to = p->land ? times[save] : last, room = dir * (to - t), reach = fmin(1.05 * wanted, most);
        const double planned = fmin(wanted, most), t_new = room <= reach ? to : t + dir * planned, h = t_new - t;
        const int cut = planned < wanted || (room <= reach && room < planned);
        double k[PN_MAX_STAGES][D], x[D], y_new[D];
        for (int i = 0; i < m->s; i++) {
            add_up(y, h, m->a[i], k, i, x);
            evaluate(theta, t + m->c[i] * h, x, k[i]);
        }
        add_up(y, h, m->b, k, m->s, y_new);
        evaluate(theta, t_new, y_new, k[m->s]);
        double error = error_of(p, h, m->e, k, m->s + 1, y, y_new);
        if (m->has_e2 && error > 0) error *= error / (error + 0.01 * error_of(p, h, m->e2, k, m->s + 1, y, y_new));
        const double size = 0.5 * log(error), grow = p->safety * exp(-(power - 0.75 * beta) * size + beta * memory);
        const double shrink = p->safety * exp(-power * size), up = fmin(fmax(grow, p->min_factor), p->max_factor);
        if (error <= 1) {
            out->t[out->n] = t, out->h[out->n++] = h;
            double next = fabs(h) * (again ? fmin(up, 1) : up);
            if (cut && !again) next = fmax(next, wanted);
            wanted = next, memory = fmax(size, log(0.1)), again = 0;
            t = t_new;
            memcpy(y, y_new, sizeof y);
        } else {
            wanted = fabs(h) * fmin(fmax(shrink, p->min_factor), 0.9);
            again = 1, out->refused++;
        }
    }
    memcpy(out->y, y, sizeof y);
}

enum { PLAIN, LANDING, LIMITED, OTHER_NUMBERS, BACKWARDS, AUTOMATIC, AT_REST, LATE, FROM_ZERO, SHORT, KINDS };
static void steps(const char *method, int64_t n, int kind) {
    size_t mark = n_kept;
    seed_state = 3;
    fixture f = fixture_begin(D, 0, n, 0, method);
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field);
    p->field = f.field = field();
    p->reverse = NULL;
    p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE;
    p->rtol = p->tableau->order < 4 ? 1e-4 : 1e-6, p->first_step = 2;
    p->land = kind == LANDING;
    if (kind == LIMITED) p->max_step = 0.07;
    if (kind == OTHER_NUMBERS) p->safety = 0.7, p->beta = 0.2, p->min_factor = 0.4, p->max_factor = 1.5, p->first_step = 1e-3;
    double *theta = f.theta;
    for (int i = 0; i < D * (D + 1); i++) theta[i] *= 3;
    if (kind >= AUTOMATIC) p->first_step = 0;
    if (kind == AT_REST || kind == LATE) memset(theta, 0, D * (D + 1) * sizeof *theta);
    for (size_t e = 0; kind == FROM_ZERO && e < (size_t)n * D; e++) set(f.y0, e, 0, 0);
    for (size_t r = 0; kind == LATE && r < f.rows; r++) f.t[r] += 0x1p40; /* where the least step is larger than 1e-3 */
    for (size_t r = 0; r < f.rows; r++) f.t[r] *= kind == BACKWARDS ? -3 : kind == SHORT ? 1e-4 : 3;
    p->steps = keep((size_t)n, sizeof *p->steps);
    path *want = keep(1, sizeof *want);
    int64_t refused = 0;
    EACH_ISA(isa) {
        memset(p->steps, 0, (size_t)n * sizeof *p->steps);
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < n; i++) {
            pn_steps *s = &p->steps[i];
            by_hand(p, i, theta, want);
            refused += want->refused;
            CHECKF(p->accepted[i] == want->n && p->rejected[i] == want->refused && s->n == want->n,
                   "%s %s kind %d, sample %d: %d steps, %d refused, by hand %d and %d", method, pn_isa_name(isa), kind, (int)i,
                   (int)p->accepted[i], (int)p->rejected[i], (int)want->n, (int)want->refused);
            for (int64_t k = 0; k < s->n && s->n == want->n; k++)
                CHECKF(fabs(s->record[2 * k] - want->t[k]) < 1e-5 &&
                           fabs(s->record[2 * k + 1] - want->h[k]) < 1e-5 * fabs(want->h[k]),
                       "%s %s kind %d, sample %d, step %d: %.12g long, by hand %.12g", method, pn_isa_name(isa), kind, (int)i,
                       (int)k, s->record[2 * k + 1], want->h[k]);
            const double *y = (const double *)p->y + (p->row[i] + p->t_len[i] - 1) * D;
            for (int c = 0; c < D; c++)
                CHECKF(fabs(y[c] - want->y[c]) < 1e-9, "%s: %.12g, by hand %.12g", method, y[c], want->y[c]);
            free(s->record);
        }
    }
    CHECKF(refused > 0 || (kind != PLAIN && kind != LANDING), "%s kind %d: nothing refused", method, kind);
    fixture_end(&f);
    release(mark);
}

/* The steps that a call lists, and their polynomials: y where a step begins, at its end, and at saved times inside. */
static void listed_steps(int32_t components, int64_t n, const char *method) {
    seed_state = 5;
    fixture f = fixture_begin(components, 0, n, 0, method);
    const size_t d = (size_t)components, degree = (size_t)f.p.tableau->dense_degree, stride = 2 + (degree + 1) * d;
    f.p.gradient = PN_GRAD_NONE;
    f.p.steps = keep((size_t)n, sizeof *f.p.steps);
    f.p.dense = 1;
    CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
    for (int64_t i = 0; i < n; i++) {
        const pn_steps *s = &f.p.steps[i];
        int64_t j = 0;
        CHECK(s->n == f.p.accepted[i]);
        for (int64_t k = 0; k < s->n; k++) {
            const double *r = s->record + (size_t)k * stride, *next = k + 1 < s->n ? r + stride : NULL;
            if (k == 0) CHECK(!memcmp(r + 2, (const double *)f.y0 + (size_t)i * d, d * sizeof *r));
            if (next) CHECK(r[0] + r[1] == next[0]);
            for (; j < f.t_len[i] && (!next || f.t[f.p.row[i] + j] <= next[0]); j++) {
                const double x = (f.t[f.p.row[i] + j] - r[0]) / r[1], *y = (const double *)f.p.y + (size_t)(f.p.row[i] + j) * d;
                for (size_t c = 0; c < d; c++) {
                    double at = 0, end = 0;
                    for (size_t q = degree; q-- > 0;) at = x * (at + r[2 + (q + 1) * d + c]), end += r[2 + (q + 1) * d + c];
                    CHECKF(fabs(r[2 + c] + at - y[c]) < 1e-13, "%s: %g", method, r[2 + c] + at - y[c]);
                    if (next) CHECKF(fabs(r[2 + c] + end - next[2 + c]) < 1e-13, "%s, at the end of a step", method);
                }
            }
        }
        CHECK(j == f.t_len[i] || s->n == 0);
        free(s->record);
    }
    fixture_end(&f);
    release(0);
}

/* How often the field is evaluated: the last stage is the first of the next step, also after a step that was refused. */
static void evaluations(const char *method) {
    for (int64_t n = 1; n <= 19; n += 18)
        for (int f32 = 0; f32 < 2; f32++) EACH_ISA(isa) {
                seed_state = 5;
                fixture f = fixture_begin(2, 0, n, f32, method);
                int64_t refused = 0;
                f.p.first_step = 5; /* refused */
                f.p.gradient = PN_GRAD_NONE;
                CHECK(fixture_solve(&f, isa) == PN_OK);
                for (int64_t i = 0; i < n; i++) {
                    const int64_t tried = f.p.accepted[i] + f.p.rejected[i], stages = f.p.tableau->s;
                    if (f.t_len[i] == 1) continue;
                    refused += f.p.rejected[i];
                    CHECKF(f.p.nfe[i] == 1 + tried * stages, "%s n %d: %d, %d tried", method, (int)n, (int)f.p.nfe[i],
                           (int)tried);
                }
                CHECKF(refused > 0 || n == 1, "%s: nothing refused", method);
                fixture_end(&f);
                release(0);
            }
}

/* y' = -sqrt(y), y = (sqrt(y0) - t / 2)^2, up to where y is almost 0: steps beyond that are NaN, and tried again, at other times in each
   lane. The gradient of the others does not see it. */
static pn_program *root(int vjp) {
    builder b = {.spec = {.segments = {1, 2, 0}, .n_consts = 1, .n_spaces = 1}, .consts = {-0.5}, .n_theta = {1}};
    add_slot(&b, 1);
    int32_t y = add_slot(&b, 1), seed = (add_slot(&b, 0), vjp ? add_slot(&b, 1) : -1);
    int32_t half = add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0), r = add(&b, PN_OP_SQRT, 1, y, -1, -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_NEG, 1, r, -1, -1, 0, 0, 0));
    if (!vjp) return must_create(&b);
    int32_t g = add(&b, PN_OP_MUL, 1, half, add(&b, PN_OP_DIV, 1, seed, r, -1, 0, 0, 0), -1, 0, 0, 0);
    add_output(&b, g), add_output(&b, -1), add_output(&b, -1);
    b.spec.segments[2] = 2;
    b.spec.n_grads = 1, b.n_grad[0] = 1;
    add(&b, PN_OP_ACC, 0, add(&b, PN_OP_MUL, 1, seed, r, -1, 0, 0, 0), -1, -1, 0, 0,
        0); /* of how often sqrt(y) is added, which is 0 times */
    b.spec.segments[2] = 3;
    return must_create(&b);
}
static void refused_steps(const char *method) {
    enum { LANES = 37 };
    EACH_ISA(isa) {
        seed_state = 5;
        fixture f = fixture_begin(1, 0, LANES, 0, method);
        pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
        f.p.field = f.field = root(0);
        f.p.reverse = f.reverse = root(1);
        f.p.n_theta = 1, f.n_theta = 1;
        f.p.rtol = 1e-6, f.p.loss = PN_LOSS_NONE;
        double *g_y = keep(f.rows, sizeof *g_y);
        for (int64_t i = 0; i < LANES; i++) {
            f.t_len[i] = 2;
            set(f.y0, (size_t)i, 0, 1 + 0.03 * (double)(i % 7));
        }
        pn_problem *p = &f.p;
        double *t = keep(2 * LANES, sizeof *t);
        int64_t *row = keep(LANES, sizeof *row);
        for (int64_t i = 0; i < LANES; i++) row[i] = 2 * i, t[2 * i + 1] = 2 * sqrt(get(f.y0, (size_t)i, 0)) * 0.999;
        CHECK(f.rows >= 2 * LANES);
        p->t = t, p->t_start = p->row = row, p->n_t = p->rows = 2 * LANES;
        for (int64_t i = 0; i < LANES; i++) g_y[2 * i + 1] = 1;
        p->g_y = g_y;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        int64_t refused = 0;
        for (int64_t i = 0; i < LANES; i++) {
            const double start = sqrt(get(f.y0, (size_t)i, 0)), end = start - t[2 * i + 1] / 2, want = end / start;
            refused += p->rejected[i];
            CHECKF(p->status[i] == PN_OK && fabs(p->g_y0[i] - want) < 1e-3, "%s %s sample %d: %g for %g", method,
                   pn_isa_name(isa), (int)i, p->g_y0[i], want);
        }
        CHECKF(isfinite(p->g_theta[0]) && refused > LANES, "%s %s: %g, %d refused", method, pn_isa_name(isa), p->g_theta[0],
               (int)refused);
        fixture_end(&f);
        release(0);
    }
}

/* After a step to where there is no number, one of a tenth is tried. */
static void after_none(void) {
    EACH_ISA(isa) {
        fixture f = fixture_begin(1, 0, 1, 0, "heun");
        pn_problem *p = &f.p;
        static const double atol = 10;
        pn_steps steps;
        pn_program_destroy(&f.field);
        p->field = f.field = root(0), p->reverse = NULL, p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE;
        p->n_theta = 1, p->atol = &atol, p->min_factor = 0.01, p->first_step = 4, p->steps = &steps;
        set(f.y0, 0, 0, 1);
        for (int64_t j = 0; j < f.t_len[0]; j++) f.t[j] = 5 * (double)j;
        f.t_len[0] = 2, f.t[1] = 9;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        CHECKF(steps.n > 0 && steps.record[1] == 4 * 0.1, "%s: %g", pn_isa_name(isa), steps.n ? steps.record[1] : 0);
        free(steps.record);
        fixture_end(&f);
        release(0);
    }
}

/* Samples that go in step, of which the last is alone in a block whose other lanes held samples that failed, at once or later: nothing is
   left of those. */
static void idle_lanes(const char *method) {
    enum { MOST = 65, BAD = 40 };
    EACH_ISA(isa) {
        fixture f = fixture_begin(1, 0, MOST, 0, method);
        pn_problem *p = &f.p;
        pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
        p->field = f.field = root(0), p->reverse = f.reverse = root(1);
        p->n_theta = 1, f.n_theta = 1, p->adaptive = 0, p->step = 0.05, p->loss = PN_LOSS_NONE;
        static const double t[] = {0, 1};
        int64_t *row = keep(MOST, sizeof *row), *zero = keep(MOST, sizeof *zero);
        CHECK(f.rows >= 2 * MOST);
        double *g_y = keep(f.rows, sizeof *g_y);
        for (int64_t i = 0; i < MOST; i++) {
            row[i] = 2 * i, f.t_len[i] = 2, g_y[2 * i + 1] = 1;
            set(f.y0, (size_t)i, 0, i < BAD || i == MOST - 1 ? 1 + 0.03 * (double)(i % 7) : i % 16 ? -1 : 0.2);
        }
        p->t = t, p->t_start = zero, p->row = row, p->n_t = 2, p->rows = 2 * MOST, p->g_y = g_y;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < MOST; i++) {
            const double start = sqrt(get(f.y0, (size_t)i, 0)), want = (start - 0.5) / start;
            const int bad = i >= BAD && i < MOST - 1;
            CHECKF(p->status[i] == (bad ? PN_NON_FINITE : PN_OK), "%s sample %d: %s", pn_isa_name(isa), (int)i,
                   pn_status_name((pn_status)p->status[i]));
            if (!bad)
                CHECKF(fabs(p->g_y0[i] - want) < 1e-4, "%s sample %d: %g for %g", pn_isa_name(isa), (int)i, p->g_y0[i], want);
        }
        CHECK(isfinite(p->g_theta[0]) && p->g_theta[0] > 0);
        fixture_end(&f);
        release(0);
    }
}

/* y' = 1 by a pair whose error is 0, with tolerances so small that norms overflow: the first step is 1e-6. */
static void overflowing_norms(int64_t n) {
    builder b = {.spec = {.n_consts = 1, .segments = {0, 1, 0}}, .consts = {1}};
    add_slot(&b, 1), add_slot(&b, 1), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0));
    fixture f = fixture_begin(1, 0, n, 0, "heun");
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field);
    p->field = f.field = must_create(&b), p->reverse = NULL, p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE;
    static const double atol = 1e-200;
    p->atol = &atol, p->rtol = 0;
    p->steps = keep((size_t)n, sizeof *p->steps);
    EACH_ISA(isa) {
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < n; i++) {
            CHECKF(p->status[i] == PN_OK && (f.t_len[i] == 1 || p->steps[i].record[1] == 1e-6), "%s: %s", pn_isa_name(isa),
                   pn_status_name((pn_status)p->status[i]));
            free(p->steps[i].record);
        }
    }
    fixture_end(&f);
    release(0);
}

int main(void) {
    static const char *const methods[] = {"heun", "bosh3", "dopri5", "tsit5", "dop853"};
    for (int m = 0; m < 5; m++)
        for (int kind = 0; kind < KINDS; kind++) steps(methods[m], 1, kind), steps(methods[m], MANY, kind);
    for (int64_t n = 1; n <= 11; n += 10)
        listed_steps(3, n, "dopri5"), listed_steps(300, n, "dopri5"), listed_steps(3, n, "bosh3");
    evaluations("dopri5"), evaluations("tsit5"), evaluations("bosh3");
    refused_steps("dopri5"), refused_steps("bosh3");
    after_none();
    overflowing_norms(1), overflowing_norms(9);
    idle_lanes("rk4"), idle_lanes("midpoint");
    return finish("test_control");
}
