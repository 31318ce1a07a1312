/* Patterns of Jacobians: what fills in, against elimination by the book; factors on them against full matrices, forward and back, also where some lanes need other pivots; bits
   beside other samples; masses with rows exchanged, where each pivot is small; and what is refused. */
#include "solve/pattern.h"
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

/* One equation. */
static void single(void) {
    const int32_t zero = 0;
    pn_pattern *p;
    CHECK(pn_pattern_create(1, 1, &zero, &zero, NULL, said, &p) == PN_OK && p->d == 1 && !p->sparse);
    pn_pattern_destroy(&p);
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

/* ---- the factors that a pattern prescribes, against elimination by the book ------------------------------------------- */
enum { BIG = 130 };
typedef struct equations { /* W of d equations: entries of J, and of a mass */
    int32_t d, n, row[BIG * BIG], col[BIG * BIG];
    double mass[BIG * BIG], value[BIG * BIG], W[BIG][BIG];
} equations;
static equations sys;

static void entry(int32_t r, int32_t c) {
    for (int32_t e = 0; e < sys.n; e++)
        if (sys.row[e] == r && sys.col[e] == c) return;
    sys.row[sys.n] = r, sys.col[sys.n] = c, sys.value[sys.n++] = uniform();
}

/* Neighbours at a distance up to `reach`, `far` entries anywhere, the mass in rows that are shifted. */
static void random_system(int32_t d, int32_t reach, int32_t far, int32_t shift) {
    sys.d = d, sys.n = 0;
    memset(sys.mass, 0, sizeof sys.mass);
    for (int32_t c = 0; c < d; c++) {
        for (int32_t r = c - reach; r <= c + reach; r++)
            if (r >= 0 && r < d) entry((r + shift) % d, c);
        sys.mass[(c + shift) % d * d + c] = 2 * (1 + reach) + far;
    }
    for (int32_t k = 0; k < far; k++) entry((int32_t)((1 + uniform()) / 2 * d) % d, (int32_t)((1 + uniform()) / 2 * d) % d);
}

/* A, the places of the factors, holds W, and after the elimination that the pattern prescribes its factors. */
static void factors(const pn_pattern *p) {
    const int32_t d = sys.d;
    static double A[BIG * BIG], B[BIG][BIG];
    static unsigned char full[BIG][BIG];
    memset(A, 0, sizeof A), memset(sys.W, 0, sizeof sys.W), memset(full, 0, sizeof full);
    for (int32_t e = 0; e < sys.n; e++) A[p->place[e]] += sys.value[e], sys.W[sys.row[e]][sys.col[e]] += sys.value[e];
    for (int32_t q = 0; q < p->n_mass; q++) A[p->moored[q]] += sys.mass[p->mass[q]];
    for (int32_t e = 0; e < d * d; e++) sys.W[e / d][e % d] += sys.mass[e];
    int64_t ops = 0, size = 0, q = 0;
    for (int32_t i = 0; i < d; i++)
        for (int32_t j = 0; j < d; j++) {
            B[i][j] = sys.W[p->equation[p->label[i]]][p->label[j]];
            full[i][j] = B[i][j] != 0;
        }
    for (int32_t i = 0; i < d; i++) /* what fills in, and the factors */
        for (int32_t k = 0; k < i; k++) {
            if (!full[i][k]) continue;
            B[i][k] /= B[k][k];
            for (int32_t j = k + 1; j < d; j++)
                if (full[k][j]) full[i][j] = 1, B[i][j] -= B[i][k] * B[k][j], ops++;
        }
    for (int32_t i = 0; i < d; i++)
        for (int32_t e = p->start[i]; e < p->diag[i]; e++) {
            const int32_t k = p->column[e];
            A[e] /= A[p->diag[k]];
            for (int32_t u = p->diag[k] + 1; u < p->start[k + 1]; u++) A[p->target[q++]] -= A[e] * A[u];
        }
    CHECKF(q == p->n_ops && ops == p->n_ops, "%d operations, %d", (int)p->n_ops, (int)ops);
    for (int32_t i = 0; i < d; i++) {
        int32_t e = p->start[i];
        for (int32_t j = 0; j < d; j++) {
            if (!full[i][j]) continue;
            size++;
            CHECKF(e < p->start[i + 1] && p->column[e] == j && p->of[e] == p->label[j], "row %d, column %d", (int)i, (int)j);
            CHECKF(fabs(A[e] - B[i][j]) < 1e-12 * (1 + fabs(B[i][j])), "(%d, %d): %g, %g", (int)i, (int)j, A[e], B[i][j]);
            if (i == j) CHECK(p->diag[i] == e);
            e++;
        }
        CHECK(e == p->start[i + 1]);
    }
    CHECK(size == p->size);
}

static void structures(void) {
    for (int32_t d = 5; d <= BIG; d = d == 5 ? 63 : d < 66 ? d + 1 : 2 * d - 2)
        for (int32_t shift = 0; shift < 3; shift += 2)
            for (int32_t far = 0; far <= d; far += d) {
                random_system(d, d == 5 ? 0 : 1, d == 5 ? far / 5 : far, shift);
                pn_pattern *p;
                CHECK(pn_pattern_create(d, sys.n, sys.row, sys.col, sys.mass, said, &p) == PN_OK);
                CHECKF(p->sparse && p->exchanged == (shift > 0) && p->n_mass == d, "d %d, %d far", (int)d, (int)far);
                CHECK(pn_pattern_has(p, sys.mass));
                if (p->sparse) factors(p);
                if (far == 0 && shift == 0)
                    CHECKF(p->size == (d == 5 ? 5 : 3 * d - 2), "%d entries", (int)p->size); /* nothing fills in */
                sys.mass[shift ? 0 : d - 1] = 1;                                             /* where it was 0 */
                CHECK(!pn_pattern_has(p, sys.mass) && pn_pattern_has(p, NULL) == !shift);
                pn_pattern_destroy(&p);
            }
    random_system(40, 0, 0, 0); /* an arrow: the first unknown belongs to all equations, and is eliminated last */
    for (int32_t c = 1; c < 40; c++) entry(0, c), entry(c, 0);
    pn_pattern *p;
    CHECK(pn_pattern_create(40, sys.n, sys.row, sys.col, NULL, said, &p) == PN_OK && p->sparse && p->size == 3 * 40 - 2);
    for (int32_t c = 0; c < 40; c++) sys.mass[41 * c] = 1;
    factors(p);
    CHECK(p->label[39] == 0 || p->label[38] == 0);
    pn_pattern_destroy(&p);
    random_system(20, 9, 0, 0); /* most of it: full factors */
    CHECK(pn_pattern_create(20, sys.n, sys.row, sys.col, NULL, said, &p) == PN_OK && !p->sparse && p->size == 400);
    for (int32_t e = 0; e < sys.n; e++) CHECK(p->place[e] == 20 * sys.row[e] + sys.col[e]);
    pn_pattern_destroy(&p);
    random_system(20, 1, 0, 0); /* W is singular whatever its entries: an equation without any */
    int32_t n = 0;
    for (int32_t e = 0; e < sys.n; e++)
        if (sys.row[e] != 7) sys.row[n] = sys.row[e], sys.col[n++] = sys.col[e];
    sys.mass[7 * 20 + 7] = 0;
    CHECK(pn_pattern_create(20, n, sys.row, sys.col, sys.mass, said, &p) == PN_OK && !p->sparse && !p->exchanged);
    pn_pattern_destroy(&p);
}

/* Components on a lattice, each with its eight neighbours: hardly more operations than in the order of rows, where a band fills in. */
static void lattice(int32_t across, int32_t along) {
    const int32_t d = across * along;
    static unsigned char full[BIG][BIG];
    sys.d = d, sys.n = 0;
    memset(sys.mass, 0, sizeof sys.mass), memset(full, 0, sizeof full);
    for (int32_t r = 0; r < d; r++) {
        sys.mass[r * (d + 1)] = 20;
        for (int32_t c = 0; c < d; c++)
            if (abs(r / across - c / across) <= 1 && abs(r % across - c % across) <= 1) entry(r, c), full[r][c] = 1;
    }
    int64_t ops = 0;
    for (int32_t i = 0; i < d; i++)
        for (int32_t k = 0; k < i; k++)
            for (int32_t j = k + 1; full[i][k] && j < d; j++)
                if (full[k][j]) full[i][j] = 1, ops++;
    pn_pattern *p;
    CHECK(pn_pattern_create(d, sys.n, sys.row, sys.col, sys.mass, said, &p) == PN_OK && p->sparse);
    CHECKF(p->n_ops <= ops + ops / 20, "%d x %d: %d operations, in order %d", (int)across, (int)along, (int)p->n_ops, (int)ops);
    factors(p);
    pn_pattern_destroy(&p);
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
    no_pattern(2, 3, up, zero, "entry 2 is (2, 1), outside 2 x 2");
    no_pattern(2, 3, low, zero, "entry 1 is (-1, 0), outside 2 x 2");
    no_pattern(2, 3, zero, low, "entry 1 is (0, -1), outside 2 x 2");
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
    structures();
    lattice(6, 20), lattice(5, 25), lattice(4, 9);
    neighbours();
    few();
    single();
    refusals();
    return finish("test_pattern");
}
