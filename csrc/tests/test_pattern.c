/* Patterns of Jacobians: factors on them against full matrices, forward and back, also where some lanes need other pivots; bits
   beside other samples; masses with rows exchanged, where each pivot is small; and what is refused. */
#include "tests/sparse.h"
#include "tests/stiff.h"

static pn_pattern *pattern_of(const sparse *s, const double *mass) {
    pn_pattern *p;
    CHECKF(pn_pattern_create(WIDE, s->n, s->row, s->col, mass, said, &p) == PN_OK, " ");
    return p;
}

static void close_to(const double *got, const double *want, size_t n, const char *what, pn_isa isa) {
    double worst = 0;
    for (size_t e = 0; e < n; e++) worst = fmax(worst, fabs(got[e] - want[e]) / (1 + fabs(want[e])));
    CHECKF(worst < 1e-9, "%s %s: %g", what, pn_isa_name(isa), worst);
}

/* On the pattern and with full matrices. weak: the first pivot is 0 in every third sample. rows: the pivots are
   all small, those of the mass being elsewhere. */
static void against_full(int64_t n, int weak, int rows) {
    const double step = 0.02;
    seed_state = 5;
    sparse s = sparse_line();
    if (weak) {
        const double steep = 1 / (step * pn_tableau_find("rodas5p")->gamma);
        s.A[0][0] = steep, s.A[0][1] = -3 * steep, s.A[1][0] = 3 * steep;
    }
    double mass[WIDE * WIDE] = {0}, *M = rows ? mass : NULL;
    for (int32_t c = 0; c < WIDE; c++) mass[(rows ? (c + 1) % WIDE : c) * WIDE + c] = 1 + 0.1 * c;
    pn_pattern *pattern = pattern_of(&s, M);
    bytes first = {0};
    EACH_ISA(isa) {
        double *y[2], *g_theta[2], *g_y0[2];
        for (int whole = 0; whole < 2; whole++) {
            seed_state = 9;
            fixture f = sparse_fixture(&s, n, whole, "rodas5p", step);
            f.p.pattern = whole ? NULL : pattern;
            f.p.mass = M;
            for (int64_t i = 0; i < n; i += 3) set(f.y0, (size_t)i * WIDE, 0, 0);
            CHECK(fixture_solve(&f, isa) == PN_OK);
            for (int64_t i = 0; i < n; i++)
                CHECKF(f.p.status[i] == PN_OK && f.p.accepted[i] == f.t_len[i] - 1,
                       "weak %d rows %d whole %d: %s, %d steps of %d", weak, rows, whole,
                       pn_status_name((pn_status)f.p.status[i]), (int)f.p.accepted[i], (int)f.t_len[i] - 1);
            y[whole] = keep(f.rows * WIDE, 8), g_theta[whole] = keep(WIDE, 8), g_y0[whole] = keep((size_t)n * WIDE, 8);
            memcpy(y[whole], f.p.y, f.rows * WIDE * 8);
            memcpy(g_theta[whole], f.p.g_theta, WIDE * 8);
            memcpy(g_y0[whole], f.p.g_y0, (size_t)n * WIDE * 8);
            if (whole) {
                close_to(y[0], y[1], f.rows * WIDE, "y", isa);
                close_to(g_theta[0], g_theta[1], WIDE, "g_theta", isa);
                close_to(g_y0[0], g_y0[1], (size_t)n * WIDE, "g_y0", isa);
            } else {
                first = snapshot(&f);
                f.p.threads = 2;
                CHECK(fixture_solve(&f, isa) == PN_OK && same_bytes(first, snapshot(&f)));
            }
            fixture_end(&f);
        }
    }
    pn_pattern_destroy(&pattern);
    release(0);
}

/* A sample has the same bits whether those beside it need other pivots or not. */
static void neighbours(void) {
    enum { N = 19, OWN = 3 };
    const double step = 0.02, steep = 1 / (step * pn_tableau_find("rodas5p")->gamma);
    seed_state = 5;
    sparse s = sparse_line();
    s.A[0][0] = steep, s.A[0][1] = -3 * steep, s.A[1][0] = 3 * steep;
    pn_pattern *pattern = pattern_of(&s, NULL);
    EACH_ISA(isa) for (int weak = 0; weak < 2; weak++) {
        double *before = keep((size_t)5 * WIDE, 8), *gradient = keep(WIDE, 8);
        for (int others = 0; others < 2; others++) {
            seed_state = 9;
            fixture f = sparse_fixture(&s, N, 0, "rodas5p", step);
            f.p.pattern = pattern;
            for (size_t i = 0; i < N; i++) set(f.y0, i * WIDE, 0, (i == OWN ? weak : others) ? 0 : 0.7);
            CHECK(fixture_solve(&f, isa) == PN_OK);
            const double *y = (const double *)f.p.y + (size_t)f.p.row[OWN] * WIDE, *g = f.p.g_y0 + OWN * WIDE;
            const size_t size = (size_t)f.t_len[OWN] * WIDE * 8;
            if (others) CHECK(!memcmp(before, y, size) && !memcmp(gradient, g, WIDE * 8));
            memcpy(before, y, size);
            memcpy(gradient, g, WIDE * 8);
            fixture_end(&f);
        }
    }
    pn_pattern_destroy(&pattern);
    release(0);
}

/* Few equations keep full factors: the same bits with a pattern of all entries as without one. */
static void few(void) {
    const int32_t row[] = {0, 0, 1, 1}, col[] = {0, 1, 0, 1};
    fixture f = stiff_fixture(19, 0, "rodas4", 5);
    pn_pattern *pattern;
    CHECK(pn_pattern_create(2, 4, row, col, NULL, said, &pattern) == PN_OK);
    EACH_ISA(isa) {
        f.p.pattern = NULL;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        bytes want = snapshot(&f);
        f.p.pattern = pattern;
        CHECK(fixture_solve(&f, isa) == PN_OK && same_bytes(want, snapshot(&f)));
    }
    pn_pattern_destroy(&pattern);
    fixture_end(&f);
    release(0);
}

static void no_pattern(int32_t d, int64_t n, const int32_t *row, const int32_t *col, const char *why) {
    pn_pattern *p = NULL;
    said[0] = 0;
    CHECK(pn_pattern_create(d, n, row, col, NULL, said, &p) == PN_BAD_ARGUMENT && p == NULL);
    CHECKF(strstr(said, why) != NULL, "says");
}

static void no_solve(fixture *f, const char *why) {
    said[0] = 0;
    CHECK(pn_solve(&f->p, 0, PN_ISA_PLAIN, said) == PN_BAD_ARGUMENT);
    CHECKF(strstr(said, why) != NULL, "says");
}

static void refusals(void) {
    const int32_t zero[] = {0, 0, 1}, up[] = {0, 1, 2}, low[] = {0, -1, 0}, twice[] = {1, 1, 0};
    no_pattern(2, 3, zero, up, "entry 2 is (1, 2), outside 2 x 2");
    no_pattern(2, 3, low, zero, "entry 1 is (-1, 0), outside 2 x 2");
    no_pattern(2, 3, zero, twice, "(0, 1) is there twice");
    no_pattern(0, 1, zero, up, "d must be 1 to");
    no_pattern(1 << 14, 1, zero, up, "d must be 1 to");
    no_pattern(2, 5, zero, up, "5 entries of 2 x 2");
    no_pattern(2, -1, zero, up, "-1 entries of 2 x 2");
    sparse s = sparse_line();
    fixture f = sparse_fixture(&s, 3, 0, "rodas5p", 0.1);
    double mass[WIDE * WIDE] = {0};
    for (int c = 0; c < WIDE; c++) mass[c * (WIDE + 1)] = 2;
    no_solve(&f, "output 0 must have d d features, or d d + d, with a pattern as many");
    pn_pattern *pattern = pattern_of(&s, mass), *other;
    f.p.pattern = pattern;
    CHECK(pn_solve(&f.p, 0, PN_ISA_PLAIN, said) == PN_OK); /* of mass NULL: the same entries are 0 */
    mass[1] = 1, f.p.mass = mass;
    no_solve(&f, "pattern: it was made for another mass");
    f.p.mass = NULL;
    CHECK(pn_pattern_create(WIDE, s.n - 1, s.row, s.col, NULL, said, &other) == PN_OK);
    f.p.pattern = other;
    no_solve(&f, "output 0 must have d d features");
    pn_pattern_destroy(&other);
    CHECK(pn_pattern_create(WIDE + 1, s.n, s.row, s.col, NULL, said, &other) == PN_OK);
    f.p.pattern = other;
    no_solve(&f, "the pattern is that of another number of states");
    f.p.jacobian = f.p.jacobian_reverse = NULL;
    f.p.tableau = pn_tableau_find("dopri5");
    no_solve(&f, "this method is explicit and has no use for them");
    pn_pattern_destroy(&other);
    pn_pattern_destroy(&pattern);
    pn_pattern_destroy(&pattern);
    fixture_end(&f);
    release(0);
}

int main(void) {
    for (int64_t n = 1; n <= 19; n += 9) {
        against_full(n, 0, 0);
        against_full(n, 1, 0);
        against_full(n, 0, 1);
    }
    neighbours();
    few();
    refusals();
    return finish("test_pattern");
}
