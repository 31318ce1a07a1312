/* The methods: conditions of their orders. Tables from outside: copies of the methods are accepted with the flags that they have and give the same bits; a table with
   one rule broken is refused, with a message that names the member and the value. */
#include "tests/check.h"

typedef struct table { /* a copy that can be changed, with its second half */
    pn_tableau first, second;
} table;
static void copy_of(table *t, const char *name) {
    t->first = *pn_tableau_find(name);
    if (!t->first.second) return;
    t->second = *t->first.second;
    t->first.second = &t->second;
}

/* Rooted trees up to a number of nodes, each as u with v grafted onto its root, and for a table what they weigh at each stage
   (HNW II.2): Phi(u v)_i = Phi(u)_i sum_j a_ij Phi(v)_j, and gamma(u v) = gamma(u) gamma(v) (|u| + |v|) / |u|. Where the halves of
   the state have tables of their own, each half is a function of the other: a is that of the other half. */
enum { NODES = 8, TREES = 626 };
typedef struct tree {
    int nodes;
    double gamma, weight[2][PN_MAX_STAGES];
} tree;
static int trees_of(const pn_tableau *m, tree *all) {
    const pn_tableau *other[2] = {m->second ? m->second : m, m};
    int count = 1, first[NODES + 2] = {0, 0, 1};
    all[0] = (tree){.nodes = 1, .gamma = 1};
    for (int i = 0; i < PN_MAX_STAGES; i++) all[0].weight[0][i] = all[0].weight[1][i] = 1;
    for (int n = 2; n <= NODES; n++) {
        for (int k = 1; k < n; k++)
            for (int u = first[k]; u < first[k + 1]; u++)
                for (int v = first[n - k]; v < first[n - k + 1]; v++) {
                    tree *t = &all[count++];
                    *t = (tree){.nodes = n, .gamma = all[u].gamma * all[v].gamma * n / k};
                    for (int i = 0; i < 2 * PN_MAX_STAGES; i++) {
                        const int half = i % 2, stage = i / 2;
                        double sum = 0;
                        for (int j = 0; j < stage; j++) sum += other[half]->a[stage][j] * all[v].weight[!half][j];
                        t->weight[half][stage] = all[u].weight[half][stage] * sum;
                    }
                }
        first[n + 1] = count;
    }
    return count;
}

/* Sum of the weights over the stages, for trees up to this order: theta^nodes / gamma, or 0. */
static void conditions(const pn_tableau *m, int half, const tree *all, const double *weights, int order, double theta,
                       const char *what) {
    for (int k = 0; k < TREES && all[k].nodes <= order; k++) {
        double sum = 0, size = 1;
        for (int i = 0; i < PN_MAX_STAGES; i++) {
            sum += weights[i] * all[k].weight[half][i];
            size += fabs(weights[i] * all[k].weight[half][i]);
        }
        const double want = pow(theta, all[k].nodes) / all[k].gamma;
        CHECKF(fabs(sum - want) < 1e-13 * size, "%s, %s: tree %d of %d nodes: %.17g, not %.17g", m->name, what, k, all[k].nodes,
               sum, want);
    }
}
static void orders_of(const pn_tableau *m, int half, const tree *all) {
    double b[PN_MAX_STAGES] = {0};
    memcpy(b, m->b, (size_t)m->s * sizeof *b);
    conditions(m, half, all, b, m->order, 1, "y");
    conditions(m, half, all, m->e, m->has_e2 ? 5 : m->error_order, 0, "error");
    conditions(m, half, all, m->e2, m->has_e2 ? 3 : 0, 0, "second error");
    for (int k = 1; k < 4; k++) {
        const double theta = 0.3 * k;
        double w[PN_MAX_STAGES] = {0};
        for (int i = 0; i < PN_MAX_STAGES; i++)
            for (int q = m->dense_degree; q > 0; q--) w[i] = theta * (w[i] + m->dense[i][q]);
        conditions(m, half, all, w, m->dense_order, theta, "dense output");
    }
    for (int i = 0; i < PN_MAX_STAGES; i++) { /* C1 */
        double slope = 0, size = 1;
        for (int q = 1; q <= m->dense_degree; q++) slope += q * m->dense[i][q], size += fabs(q * m->dense[i][q]);
        CHECKF(m->dense[i][1] == (i == 0) && fabs(slope - (i == m->s)) < 1e-13 * size, "%s, dense output: row %d, %g, %.17g",
               m->name, i, m->dense[i][1], slope);
    }
}

static void orders(void) {
    for (int i = 0; i < pn_tableau_count(); i++) {
        const pn_tableau *m = pn_tableau_at(i);
        if (m->gamma > 0) continue; /* test_rosenbrock */
        tree *all = keep(TREES, sizeof *all);
        CHECK(trees_of(m, all) == TREES);
        orders_of(m, 0, all);
        if (m->second) orders_of(m->second, 1, all);
        release(0);
    }
}

static void flags_of(const pn_tableau *m) {
    char message[PN_MESSAGE] = "";
    pn_tableau copy = *m;
    copy.error_uses_new = copy.dense_uses_new = copy.has_e2 = -1;
    CHECKF(pn_tableau_check(&copy, message, sizeof message), "%s: %s", m->name, message);
    CHECKF(copy.error_uses_new == m->error_uses_new && copy.dense_uses_new == m->dense_uses_new && copy.has_e2 == m->has_e2,
           "%s", m->name);
}

static void accepted(void) {
    for (int i = 0; i < pn_tableau_count(); i++) {
        const pn_tableau *m = pn_tableau_at(i);
        if (m->gamma > 0) continue; /* not from outside: test_rosenbrock */
        flags_of(m);
        if (m->second) flags_of(m->second);
    }
}

/* A solve with gradient, or with sensitivities. */
static bytes solved(const char *name, const pn_tableau *m, int64_t n, int kind, pn_isa isa, double *sensitivity) {
    seed_state = 7;
    fixture f = fixture_begin(4, 1, n, 0, name);
    f.p.tableau = m;
    if (kind == 1) {
        f.p.lambda = 0.97;
        f.p.land = 1;
        f.p.gradient = PN_GRAD_REVERSIBLE;
    }
    if (kind == 2) {
        f.p.gradient = PN_GRAD_NONE;
        f.p.sensitivity = sensitivity;
    }
    pn_status st = fixture_solve(&f, isa);
    CHECKF(st == PN_OK, "%s: %s", name, pn_status_name(st));
    bytes all = snapshot(&f);
    fixture_end(&f);
    return all;
}

static void same_bits(void) {
    enum { MANY = 37 };
    const size_t room = (size_t)(5 * MANY * 4) * 512;
    for (int i = 0; i < pn_tableau_count(); i++)
        for (int kind = 0; kind < 3; kind++)
            for (int64_t n = 1; n <= MANY; n += MANY - 1) {
                const pn_tableau *m = pn_tableau_at(i);
                if ((m->second && kind == 1) || m->gamma > 0) continue;
                size_t mark = n_kept;
                table t;
                copy_of(&t, m->name);
                double *a = keep(room, sizeof *a), *b = keep(room, sizeof *b);
                bytes one = solved(m->name, m, n, kind, pn_isa_best(), a);
                bytes two = solved(m->name, &t.first, n, kind, pn_isa_best(), b);
                CHECKF(same_bytes(one, two), "%s, n %d, kind %d", m->name, (int)n, kind);
                CHECKF(!memcmp(a, b, room * sizeof *a), "%s, n %d: sensitivities", m->name, (int)n);
                release(mark);
            }
}

static void refused(const table *t, const char *what) {
    char message[PN_MESSAGE] = "";
    pn_tableau copy = t->first;
    CHECKF(!pn_tableau_check(&copy, message, sizeof message), "%s", what);
    CHECKF(strstr(message, what), "'%s' is not in '%s'", what, message);
    char cut[8] = "xxxxxxx";
    CHECK(!pn_tableau_check(&copy, cut, sizeof cut) && strlen(cut) < sizeof cut);
}

#define BROKEN(method, change, what)                                                                                           \
    do {                                                                                                                       \
        table t;                                                                                                               \
        copy_of(&t, method);                                                                                                   \
        pn_tableau *m = &t.first;                                                                                              \
        (void)m;                                                                                                               \
        change;                                                                                                                \
        refused(&t, what);                                                                                                     \
    } while (0)

static void broken(void) {
    char name[PN_MAX_NAME + 2];
    memset(name, 'x', sizeof name);
    name[PN_MAX_NAME + 1] = 0;
    BROKEN("rk4", m->name = NULL, "name must not be empty");
    BROKEN("rk4", m->name = "", "name must not be empty");
    BROKEN("rk4", m->name = name, "name must have at most 63 bytes");
    BROKEN("rk4", m->s = 0, "core stages (entries of b) must be between 1 and 12, got 0");
    BROKEN("rk4", m->s = PN_MAX_CORE + 1, "core stages (entries of b) must be between 1 and 12, got 13");
    BROKEN("rk4", m->n_extra = -1, "extra stages must be between 0 and 11, got -1");
    BROKEN("dop853", m->n_extra = 4, "extra stages must be between 0 and 3, got 4");
    BROKEN("rk4", m->order = 0, "order must be between 1 and 4, got 0");
    BROKEN("rk4", m->order = 5, "order must be between 1 and 4, got 5");
    BROKEN("dopri5", m->error_order = -1, "error_order must be between 0 and 7, got -1");
    BROKEN("dopri5", m->error_order = 8, "error_order must be between 0 and 7, got 8");
    BROKEN("rk4", m->dense_degree = 0, "dense_degree must be between 1 and 7, got 0");
    BROKEN("rk4", m->dense_degree = PN_MAX_DEGREE + 1, "dense_degree must be between 1 and 7, got 8");
    BROKEN("rk4", m->dense_order = 0, "dense_order must be between 1 and 3, got 0");
    BROKEN("rk4", m->dense_order = 4, "dense_order must be between 1 and 3, got 4");
    BROKEN("rk4", m->a[2][1] = NAN, "a[2, 1] = nan");
    BROKEN("rk4", m->b[3] = INFINITY, "b[3] = inf");
    BROKEN("rk4", m->c[1] = -INFINITY, "c[1] = -inf");
    BROKEN("rk4", m->dense[4][2] = NAN, "dense[4, 2] = nan");
    BROKEN("dopri5", m->e[6] = NAN, "e[6] = nan");
    BROKEN("dop853", m->e2[1] = NAN, "e2[1] = nan");
    BROKEN("rk4", m->a[1][1] = 0.25, "a[1, 1] = 0.25: a must be strictly lower triangular");
    BROKEN("rk4", m->a[0][2] = 1, "a[0, 2] = 1: a must be strictly lower triangular");
    BROKEN("rk4", m->c[1] = 0.25, "c[1] = 0.25, but row 1 of a sums to 0.5");
    BROKEN("rk4", m->c[0] = 1e-12, "c[0] = 9.9999999999999998e-13");
    BROKEN("rk4", m->c[4] = 1 + 1e-12, "c[4] = 1.000000000001");
    BROKEN("rk4", m->b[0] = 0.25, "but b[0] = 0.25: row 4 of a must be b");
    BROKEN("dop853", m->e[13] = 0.5, "e[13] = 0.5: an error estimate must not use the extra stages");
    BROKEN("dop853", m->e2[15] = 0.5, "e2[15] = 0.5: an error estimate must not use the extra stages");
    BROKEN("rk4", m->error_order = 3, "error_order = 3, but e is zero");
    BROKEN("dopri5", m->error_order = 0, "error_order = 0, but e is given");
    BROKEN("rk4", m->e2[0] = 1, "e2 is given, but error_order = 0");
    BROKEN("rk4", m->dense[1][0] = 1, "dense[1, 0] = 1: dense output must be y at theta = 0");
    BROKEN("rk4", m->dense[4][3] = 1 + 1e-9, "row 4 of dense sums to 1.00000");
    BROKEN("rk4", m->dense[0][1] = 2, "row 0 of dense sums to 1.1666666666666667");
    BROKEN("leapfrog", t.second.second = pn_tableau_find("rk4"), "second must not have a second table itself");
    BROKEN("leapfrog", m->second = pn_tableau_find("rk4"), "second has 4 core and 0 extra stages, the first table 3 and 0");
    BROKEN("leapfrog", t.second.dense_degree = 2, "second has dense output of degree 2");
    BROKEN("leapfrog", t.second.c[1] = 0.25, "second has c[1] = 0.25, the first table 0.5");
    BROKEN("leapfrog", (m->error_order = 1, m->e[0] = 1), "error_order = 1: a method with a second table");
    BROKEN("leapfrog", t.second.error_order = 1, "error_order = 1: a method with a second table");
}

/* Flags follow from the coefficients alone: the trapezoidal rule with dense output of degree 1, which f_new is no part of. */
static void derived(void) {
    char message[PN_MESSAGE] = "";
    table t;
    copy_of(&t, "heun");
    pn_tableau *m = &t.first;
    m->dense_degree = m->dense_order = 1;
    memset(m->dense, 0, sizeof m->dense);
    m->dense[0][1] = m->dense[1][1] = 0.5;
    CHECKF(pn_tableau_check(m, message, sizeof message), "%s", message);
    CHECK(!m->dense_uses_new && !m->error_uses_new && !m->has_e2);
    for (int kind = 0; kind < 3; kind += 2) {
        double *a = keep(1 << 14, sizeof *a), *b = keep(1 << 14, sizeof *b);
        bytes plain = solved("heun", m, 5, kind, PN_ISA_PLAIN, a);
        m->dense_uses_new = 1; /* stages that no coefficient asks for change nothing but their count */
        bytes asked = solved("heun", m, 5, kind, PN_ISA_PLAIN, b);
        m->dense_uses_new = 0;
        CHECK(plain.n == asked.n && !memcmp(plain.at, asked.at, 5 * 4 * sizeof(double)));
        CHECK(!memcmp(a, b, (1 << 14) * sizeof *a));
    }
}

int main(void) {
    orders();
    accepted();
    broken();
    derived();
    same_bits();
    return finish("test_tableau");
}
