/* Sensitivities: with cotangents they are the gradient, at initial times the identity; many saved times in a step; threads (the same
   bits). */
#include "tests/check.h"

/* g^T (dy/dtheta, dy/dy0) is the gradient; the same bits whatever the number of threads */
static void sensitivities_of(int64_t n, int f32, int land, pn_isa isa) {
    fixture f = fixture_begin(3, 2, n, f32, "dopri5");
    size_t columns = f.n_theta + 3, size = f.rows * 3 * columns * sizeof(double);
    double *S = keep(f.rows * 3 * columns, sizeof *S), *again = keep(f.rows * 3 * columns, sizeof *S);
    f.p.land = land;
    f.p.g_y = random_array(f.rows * 3, f32, 1);
    f.p.loss = PN_LOSS_NONE;
    freeze(&f); /* the same steps for a block as for a lane alone */
    CHECK(fixture_solve(&f, isa) == PN_OK);
    bytes y = {keep(f.rows * 3, 8), f.rows * 3 * (f32 ? 4 : 8)};
    memcpy(y.at, f.p.y, y.n);
    f.p.gradient = PN_GRAD_NONE;
    f.p.sensitivity = memset(S, 0xff, size);
    CHECK(fixture_solve(&f, isa) == PN_OK);
    CHECK(memcmp(y.at, f.p.y, y.n) == 0);
    for (int64_t i = 0; i < n; i++) /* at the initial time */
        for (size_t c = 0; c < 3; c++)
            for (size_t k = 0; k < columns; k++) CHECK(S[((size_t)f.p.row[i] * 3 + c) * columns + k] == (k == f.n_theta + c));
    f.p.sensitivity = memset(again, 0xff, size);
    f.p.threads = 3;
    CHECK(fixture_solve(&f, isa) == PN_OK);
    CHECK(memcmp(S, again, size) == 0);
    for (size_t c = 0; c < f.n_theta; c++) {
        double sum = 0;
        for (size_t r = 0; r < f.rows * 3; r++) sum += get(f.p.g_y, r, f32) * S[r * columns + c];
        CHECKF(fabs(sum - f.p.g_theta[c]) < (f32 ? 1e-4 : 1e-11) * (1 + fabs(sum)), "%s f%d n %d %d: %g %g", pn_isa_name(isa),
               f32 ? 32 : 64, (int)n, (int)c, sum, f.p.g_theta[c]);
    }
    f.p.gradient = PN_GRAD_DISCRETE; /* both at once are refused */
    CHECK(fixture_solve(&f, isa) == PN_BAD_ARGUMENT);
    fixture_end(&f);
    release(0);
}
static void sensitivities(void) {
    static const int64_t sizes[] = {1, 5, 150};
    for (int i = 0; i < 3; i++)
        for (int f32 = 0; f32 < 2; f32++)
            for (int land = 0; land < 2; land++) EACH_ISA(isa) sensitivities_of(sizes[i], f32, land, isa);
}

/* Many saved times in each of few steps, of one sample and of some. */
static void sensitivities_inside(int64_t n, int f32) {
    enum { TIMES = 40 };
    fixture f = fixture_begin(3, 0, n, f32, "tsit5");
    pn_problem *p = &f.p;
    const size_t columns = f.n_theta + 3;
    f.rows = (size_t)n * TIMES;
    double *t = f.t = keep(f.rows, sizeof *t);
    int64_t *start = keep((size_t)n, sizeof *start);
    for (int64_t i = 0; i < n; i++) {
        start[i] = i * TIMES, f.t_len[i] = TIMES;
        for (int64_t j = 0; j < TIMES; j++) t[start[i] + j] = 0.03 * (double)j;
    }
    p->t = t, p->t_start = p->row = start, p->n_t = p->rows = (int64_t)f.rows;
    fixture_results(&f);
    double *S = keep(f.rows * 3 * columns, sizeof *S);
    double *g_y0 = keep((size_t)n * 3, sizeof *g_y0);
    p->adaptive = 0, p->step = 0.4;
    p->loss = PN_LOSS_NONE, p->g_y = random_array(f.rows * 3, f32, 1);
    EACH_ISA(isa) {
        p->gradient = PN_GRAD_DISCRETE, p->sensitivity = NULL;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        memcpy(g_y0, p->g_y0, (size_t)n * 3 * sizeof *g_y0);
        p->gradient = PN_GRAD_NONE, p->sensitivity = memset(S, 0xff, f.rows * 3 * columns * sizeof *S);
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (size_t k = 0; k < f.n_theta; k++) {
            double sum = 0;
            for (size_t r = 0; r < f.rows * 3; r++) sum += get(p->g_y, r, f32) * S[r * columns + k];
            CHECKF(fabs(sum - p->g_theta[k]) < (f32 ? 1e-4 : 1e-11) * (1 + fabs(sum)), "%s f%d n %d: %g %g", pn_isa_name(isa),
                   f32 ? 32 : 64, (int)n, sum, p->g_theta[k]);
        }
        for (size_t i = 0; i < (size_t)n; i++)
            for (size_t k = 0; k < 3; k++) {
                double sum = 0, want = g_y0[3 * i + k];
                for (size_t r = 3 * TIMES * i; r < 3 * TIMES * (i + 1); r++)
                    sum += get(p->g_y, r, f32) * S[r * columns + f.n_theta + k];
                CHECKF(fabs(sum - want) < (f32 ? 1e-4 : 1e-11) * (1 + fabs(sum)), "%s f%d n %d: y0 %g %g", pn_isa_name(isa),
                       f32 ? 32 : 64, (int)n, sum, want);
            }
    }
    fixture_end(&f);
    release(0);
}

int main(void) {
    sensitivities();
    for (int f32 = 0; f32 < 2; f32++) sensitivities_inside(1, f32), sensitivities_inside(9, f32);
    return finish("test_sensitivities");
}
