/* Samples beside others: those that go in step have the bits that each has by itself, and methods of two halves the same numbers inside
   of steps. */
#include "tests/check.h"

/* Methods with a table for each half of the state: inside steps a sample has the numbers alone that it has among others. */
static void halves(void) {
    enum { SIDE = 4, MANY = 9 };
    int some = 0;
    for (int m = 0; m < pn_tableau_count(); m++) {
        const pn_tableau *tab = pn_tableau_at(m);
        if (!tab->second) continue;
        some++;
        EACH_ISA(isa) {
            seed_state = 5;
            fixture f = fixture_begin(SIDE, 0, MANY, 0, tab->name);
            f.p.adaptive = 0, f.p.step = 0.37;
            f.p.gradient = PN_GRAD_NONE;
            CHECK(fixture_solve(&f, isa) == PN_OK);
            const size_t size = (size_t)f.t_len[0] * SIDE;
            double *y = memcpy(keep(size, sizeof *y), f.p.y, size * sizeof *y);
            f.p.n = 1;
            CHECK(fixture_solve(&f, isa) == PN_OK);
            for (size_t e = 0; e < size; e++)
                CHECKF(fabs(get(f.p.y, e, 0) - y[e]) < 1e-12, "%s %s: %.15g, among others %.15g", tab->name, pn_isa_name(isa),
                       get(f.p.y, e, 0), y[e]);
            fixture_end(&f);
            release(0);
        }
    }
    CHECK(some > 0);
}

/* Samples with the same times and fixed steps go in step: with the bits that each has where its steps are listed, and they do not. */
static void in_step(const char *method, int land) {
    enum { TIMES = 6 };
    for (int64_t n = 1; n <= 19; n += 9) {
        seed_state = 5;
        fixture f = fixture_begin(3, 0, n, 0, method);
        pn_problem *p = &f.p;
        int64_t *row = keep((size_t)n, sizeof *row), *zero = keep((size_t)n, sizeof *zero);
        f.rows = (size_t)n * TIMES;
        double *t = f.t = keep(TIMES, sizeof *t);
        for (int j = 0; j < TIMES; j++) t[j] = 0.31 * j;
        for (int64_t i = 0; i < n; i++) row[i] = TIMES * i, f.t_len[i] = TIMES;
        p->t = t, p->t_start = zero, p->row = row, p->n_t = TIMES, p->rows = (int64_t)f.rows;
        fixture_results(&f);
        p->adaptive = 0, p->step = 0.0301, p->land = land;
        pn_steps *steps = keep((size_t)n, sizeof *steps);
        EACH_ISA(isa) {
            p->steps = NULL;
            CHECK(fixture_solve(&f, isa) == PN_OK);
            const bytes all = snapshot(&f);
            p->steps = steps;
            CHECK(fixture_solve(&f, isa) == PN_OK);
            CHECKF(same_bytes(all, snapshot(&f)), "%s %s, n %d, land %d", method, pn_isa_name(isa), (int)n, land);
            for (int64_t i = 0; i < n; i++) free(steps[i].record);
        }
        fixture_end(&f);
        release(0);
    }
}

int main(void) {
    halves();
    for (int land = 0; land < 2; land++) in_step("rk4", land), in_step("dopri5", land);
    return finish("test_lanes");
}
