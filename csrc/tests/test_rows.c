/* Programs at save times: jumps and losses against an interpretation by hand, gradients against differences on prescribed
   steps, checkpoints (the same bits), instruction sets, and what pn_solve refuses. */
#include "tests/check.h"

static double loss_at(fixture *f) {
    f->p.gradient = PN_GRAD_NONE;
    CHECK(fixture_solve(f, PN_ISA_BASELINE) == PN_OK);
    f->p.gradient = PN_GRAD_DISCRETE;
    return total_loss(f);
}

/* every third entry of x, but those of rows that are left out */
static void difference(fixture *f, double *x, size_t n, const double *gradient, const char *what) {
    CHECK(fixture_solve(f, PN_ISA_BASELINE) == PN_OK);
    double *expected = keep(n, sizeof *expected), largest = 0;
    memcpy(expected, gradient, n * sizeof *expected);
    for (size_t i = 0; i < n; i++) largest = fabs(expected[i]) > largest ? fabs(expected[i]) : largest;
    CHECKF(largest > 1e-3, "%s: all zero", what);
    for (size_t i = 0; i < n; i += 3) {
        double old = x[i], h = 1e-5, up, down;
        if (old != old) {
            CHECK(expected[i] == 0);
            continue;
        }
        x[i] = old + h, up = loss_at(f);
        x[i] = old - h, down = loss_at(f);
        x[i] = old;
        double slope = (up - down) / (2 * h);
        CHECKF(fabs(slope - expected[i]) <= 1e-8 * (1 + largest), "%s[%d]: %.12g, differences %.12g", what, (int)i, expected[i],
               slope);
    }
}

/* dL/dt of times after the first, moved together with the end of the step that lies there. */
static void difference_times(fixture *f) {
    pn_problem *p = &f->p;
    double *expected = keep(f->rows, sizeof *expected), *grid = (double *)(uintptr_t)p->grid;
    CHECK(fixture_solve(f, PN_ISA_BASELINE) == PN_OK);
    memcpy(expected, p->g_t, f->rows * sizeof *expected);
    for (size_t i = 1; i < (size_t)p->n; i++) /* sample 0 has some of its times twice */
        for (int64_t j = 1; j < f->t_len[i]; j++) {
            double *t = &f->t[p->row[i] + j], old = *t, loss[2], *end = NULL;
            const int last = j == f->t_len[i] - 1, jumps = p->land || (p->row[i] + j) % 3 != 1;
            for (int64_t k = 0; (last || jumps) && k < p->grid_len[i]; k++)
                if (grid[p->grid_start[i] + k] == old) end = &grid[p->grid_start[i] + k];
            for (int side = 0; side < 2; side++) {
                *t = old + (side ? -1e-5 : 1e-5);
                if (end) *end = *t;
                loss[side] = loss_at(f);
            }
            *t = old;
            if (end) *end = old;
            const double slope = (loss[0] - loss[1]) / 2e-5, got = expected[p->row[i] + j];
            CHECKF(fabs(slope - got) <= 2e-7 * (1 + fabs(slope)), "g_t[%d][%d]: %.12g, differences %.12g", (int)i, (int)j, got,
                   slope);
        }
}

static void gradients(const char *method, int64_t n, int32_t k, int land) {
    size_t mark = n_kept;
    fixture f = fixture_begin(3, 0, n, 0, method);
    pn_problem *p = &f.p;
    f.p.rtol = 1e-4, f.p.land = land;
    fixture_parts(&f, k);
    f.t[1] = f.t[0]; /* two jumps at the initial time of sample 0 */
    f.t[3] = f.t[2];
    freeze(&f);
    difference(&f, f.theta, f.n_theta, p->g_theta, "g_theta");
    difference(&f, f.y0, (size_t)n * 3, p->g_y0, "g_y0");
    difference(&f, f.data, f.rows * (size_t)k, p->jump.g_data, "g_data");
    difference(&f, f.target, f.rows * 3, p->loss_part.g_data, "g_target");
    difference_times(&f);
    CHECK(fixture_solve(&f, PN_ISA_BASELINE) == PN_OK);
    double *g_theta = keep(f.n_theta, sizeof *g_theta), loss = total_loss(&f);
    memcpy(g_theta, p->g_theta, f.n_theta * sizeof *g_theta);
    CHECK(loss == loss_at(&f)); /* the same bits without a gradient */
    EACH_ISA(isa) {
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (size_t i = 0; i < f.n_theta; i++) CHECKF(fabs(p->g_theta[i] - g_theta[i]) < 1e-9, "%s", pn_isa_name(isa));
    }
    fixture_end(&f);
    release(mark);
}

/* What the jump and the loss should have done, by evaluating their programs row by row. */
static void values(int f32, int64_t n) {
    fixture f = fixture_begin(3, 0, n, f32, "tsit5");
    pn_problem *p = &f.p;
    fixture_parts(&f, 2);
    size_t size = f32 ? 4 : 8;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    double tolerance = f32 ? 2e-6 : 1e-14;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0, rows = 0;
        for (int64_t j = 0; j < f.t_len[i]; j++) {
            size_t row = (size_t)(p->row[i] + j);
            char out[64], time[8];
            set(time, 0, f32, f.t[row]);
            const void *slots[3] = {time, (const char *)p->y_before + row * 3 * size, (const char *)f.data + row * 2 * size};
            const void *theta[PN_MAX_SPACES] = {(const char *)f.theta + (size_t)p->jump.offset * size};
            void *outputs[1] = {out};
            pn_status st = pn_evaluate(p->jump.program, f32, pn_isa_best(), 1, slots, theta, outputs, NULL, NULL, NULL);
            CHECK(st == PN_OK);
            int jumps = row % 3 != 1;
            for (size_t c = 0; c < 3; c++) {
                double want = jumps ? get(out, c, f32) : get(p->y_before, row * 3 + c, f32), got = get(p->y, row * 3 + c, f32);
                CHECKF(fabs(want - got) <= (jumps ? tolerance * (1 + fabs(want)) : 0), "f%d row %d: %.17g %.17g", f32 ? 32 : 64,
                       (int)row, got, want);
            }
            if (row % 3 == 2) continue;
            slots[1] = (const char *)p->y + row * 3 * size, slots[2] = (const char *)f.target + row * 3 * size;
            theta[0] = (const char *)f.theta + (size_t)p->loss_part.offset * size;
            st = pn_evaluate(p->loss_part.program, f32, pn_isa_best(), 1, slots, theta, outputs, NULL, NULL, NULL);
            CHECK(st == PN_OK);
            sum += get(out, 0, f32), rows++;
        }
        CHECKF(fabs(sum - p->sample_loss[i]) <= 10 * tolerance * (1 + fabs(sum)) && rows == p->sample_weight[i],
               "loss %d: %g %g", (int)i, sum, p->sample_loss[i]);
    }
    fixture_end(&f);
    release(0);
}

static void checkpoints(void) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= 41; n += 20) {
            fixture f = fixture_begin(3, 2, n, f32, n == 21 ? "rk4" : "tsit5");
            f.p.step = 0.004;
            f.p.rtol = f32 ? 1e-6 : 1e-12;
            fixture_parts(&f, 4);
            EACH_ISA(isa) {
                f.p.memory = 0;
                CHECK(fixture_solve(&f, isa) == PN_OK);
                bytes all = snapshot(&f);
                int64_t steps = 0;
                for (int64_t i = 0; i < n; i++) steps += f.p.accepted[i];
                int thinned = same_with_less(&f, isa, all, 4 << 20, 2000, steps * 64, "rows");
                CHECKF(thinned || steps < 300, "%s f%d n %d: no budget was small", pn_isa_name(isa), f32 ? 32 : 64, (int)n);
            }
            fixture_end(&f);
            release(0);
        }
}

/* Samples that only jump, at their initial times: the way back from an earlier run gives the bits of a whole run. */
static void from_earlier(void) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= 41; n += 20) {
            fixture f = fixture_begin(3, 0, n, f32, "dopri5");
            pn_problem *p = &f.p;
            fixture_parts(&f, 2);
            for (size_t row = 0; row < f.rows; row++) f.t[row] = 0.25;
            p->loss = PN_LOSS_NONE;
            p->g_y = random_array(f.rows * 3, f32, 1);
            EACH_ISA(isa) {
                CHECK(fixture_solve(&f, isa) == PN_OK);
                double *whole = keep(f.n_theta, sizeof *whole), size = 0;
                memcpy(whole, p->g_theta, f.n_theta * sizeof *whole);
                for (size_t i = 0; i < f.n_theta; i++) size += fabs(whole[i]);
                CHECK(size > 0);
                p->gradient = PN_GRAD_NONE;
                CHECK(fixture_solve(&f, isa) == PN_OK);
                p->gradient = PN_GRAD_DISCRETE;
                p->solved = 1;
                for (size_t i = 0; i < f.n_theta; i++) p->g_theta[i] = NAN;
                CHECK(pn_solve(p, f32, isa, NULL) == PN_OK);
                CHECK(!memcmp(whole, p->g_theta, f.n_theta * sizeof *whole));
                p->solved = 0;
            }
            p->solved = 1;
            f.t[f.rows - 1] += p->t_len[n - 1] > 1 ? 1 : 0; /* one that moves */
            CHECK(p->t_len[n - 1] == 1 || pn_solve(p, f32, pn_isa_best(), NULL) == PN_BAD_ARGUMENT);
            fixture_end(&f);
            release(0);
        }
}

/* y' = -1 / y, y <- y + x. What lies behind the state of one sample may be anything, here 1 / 0: jumps do not look at it. */
static void behind_the_state(int32_t d, int64_t n) {
    const size_t side = (size_t)d;
    builder b = {.spec = {.segments = {0, 2, 0}}}, j = {.spec = {.segments = {0, 1, 0}}};
    add_slot(&b, 1), add_slot(&b, d), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_NEG, d, add(&b, PN_OP_RECIP, d, 1, -1, -1, 0, 0, 0), -1, -1, 0, 0, 0));
    add_slot(&j, 1), add_slot(&j, d), add_slot(&j, d);
    add_output(&j, add(&j, PN_OP_ADD, d, 1, 2, -1, 0, 0, 0));
    fixture f = fixture_begin(d, 0, n, 0, "dopri5");
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field);
    p->field = f.field = must_create(&b), p->reverse = NULL, f.part[0] = must_create(&j);
    p->gradient = PN_GRAD_NONE, p->loss = PN_LOSS_NONE;
    double *x = keep(f.rows * side, sizeof *x);
    for (size_t e = 0; e < f.rows * side; e++) x[e] = 1;
    for (size_t e = 0; e < (size_t)n * side; e++) set(f.y0, e, 0, 2 + 0.1 * (double)(e % 5));
    p->jump = (pn_part){f.part[0], NULL, 0, x, d, NULL}, p->y_before = keep(f.rows * side, sizeof(double));
    EACH_ISA(isa) {
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < n; i++) {
            CHECKF(p->status[i] == PN_OK, "%s: %s", pn_isa_name(isa), pn_status_name((pn_status)p->status[i]));
            for (size_t c = 0; c < side; c++) {
                double y = get(f.y0, (size_t)i * side + c, 0);
                for (int64_t r = p->row[i]; r < p->row[i] + f.t_len[i]; r++) {
                    if (r > p->row[i]) y = sqrt(y * y - 2 * (f.t[r] - f.t[r - 1]));
                    y += 1;
                    CHECKF(fabs(get(p->y, (size_t)r * side + c, 0) - y) < 1e-5, "%s: %g", pn_isa_name(isa), y);
                }
            }
        }
    }
    fixture_end(&f);
    release(0);
}

static void refused(void) {
    fixture f = fixture_begin(3, 0, 2, 0, "dopri5");
    fixture_parts(&f, 2);
    const pn_problem good = f.p;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    for (int kind = 0; kind < 9; kind++) {
        f.p = good;
        pn_problem *p = &f.p;
        if (kind == 0) p->lambda = 0.5, p->gradient = PN_GRAD_REVERSIBLE;
        if (kind == 1) p->y_before = NULL;
        if (kind == 2) p->jump.data = NULL;
        if (kind == 3) p->jump.k = 3;
        if (kind == 4) p->jump.reverse = NULL;
        if (kind == 5) p->loss_part.program = NULL;
        if (kind == 6) p->loss_part.reverse = p->jump.reverse;
        if (kind == 7) p->jump.offset = -1;
        if (kind == 8) p->jump_add = p->y, p->jump_set = p->y;
        CHECKF(pn_solve(p, 0, pn_isa_best(), NULL) == PN_BAD_ARGUMENT, "%d", kind);
    }
    f.p = good;
    f.p.gradient = PN_GRAD_NONE, f.p.jump.reverse = f.p.loss_part.reverse = NULL; /* not needed then */
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    fixture_end(&f);
    release(0);
}

/* Samples that use up their steps leave lanes in which anything may stand: the way back under a budget does not look at them. */
static void steps_used_up(pn_isa isa) {
    fixture f = fixture_begin(1, 1, 70, 0, "euler");
    fixture_parts(&f, 1);
    f.p.adaptive = 0, f.p.step = 0.001, f.p.max_steps = 127;
    for (size_t i = 0; i < f.rows; i++) f.t[i] = -f.t[i];
    CHECK(fixture_solve(&f, isa) == PN_OK);
    const bytes all = snapshot(&f);
    int64_t lost = 0;
    for (int64_t i = 0; i < f.p.n; i++) lost += f.p.status[i] == PN_MAX_STEPS;
    CHECK(lost > 20 && lost < f.p.n);
    same_with_less(&f, isa, all, 1 << 18, 1 << 12, 0, "steps used up");
    fixture_end(&f);
    release(0);
}

int main(void) {
    EACH_ISA(isa) steps_used_up(isa);
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= 37; n += 18) values(f32, n);
    gradients("dopri5", 1, 2, 0), gradients("dopri5", 5, 2, 1);
    gradients("tsit5", 11, 3, 0);
    gradients("bosh3", 19, 1, 0);
    checkpoints();
    from_earlier();
    for (int32_t d = 1; d <= 3; d++) behind_the_state(d, 1), behind_the_state(d, 7);
    refused();
    return finish("test_rows");
}
