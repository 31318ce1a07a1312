/* Memory: every allocation of a call fails once, in turn. The call must say PN_MEMORY and leave nothing behind; when all
   succeed it leaves nothing behind either. Linked with --wrap for the functions counted here (Makefile). */
#include <stdatomic.h>

#include "memory.h"
#include "tests/hoisted.h"
#include "tests/sparse.h"
#include "tests/stiff.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void __wrap_free(void *p);

static atomic_llong asked, fail_at = -1, alive; /* fail_at: which one fails; -1: none */
static int refuse(void) { return asked++ == fail_at; }
void *__wrap_malloc(size_t n) {
    void *p = refuse() ? NULL : __real_malloc(n);
    alive += p != NULL;
    return p;
}
void *__wrap_calloc(size_t n, size_t size) {
    void *p = refuse() ? NULL : __real_calloc(n, size);
    alive += p != NULL;
    return p;
}
void *__wrap_realloc(void *old, size_t n) {
    void *p = refuse() ? NULL : __real_realloc(old, n);
    alive += p != NULL && old == NULL;
    return p;
}
void *__wrap_aligned_alloc(size_t align, size_t n) {
    void *p = refuse() ? NULL : __real_aligned_alloc(align, n);
    alive += p != NULL;
    return p;
}
void __wrap_free(void *p) {
    alive -= p != NULL;
    __real_free(p);
}

static long long from;
static void count_from(int64_t fail) {
    pn_stores_free();
    from = alive;
    asked = 0;
    fail_at = fail;
}
/* The call failed because of allocation i, or did not make it: true when there are no more. */
static int ended(pn_status st, int64_t i, const char *what) {
    int failed = asked > i;
    fail_at = -1;
    pn_stores_free();
    CHECKF(st == (failed ? PN_MEMORY : PN_OK), "%s, allocation %d: %s", what, (int)i, pn_status_name(st));
    CHECKF(alive == from, "%s, allocation %d: %d left behind", what, (int)i, (int)(alive - from));
    if (!failed) CHECKF(i > 1, "%s: %d allocations", what, (int)i);
    return !failed;
}

static void programs(void) {
    builder b;
    pn_program *p = NULL;
    pn_status st = PN_MEMORY;
    net(&b, 3, 2, 5, 1, 1);
    for (int64_t i = 0; st != PN_OK; i++) {
        count_from(i);
        st = create(&b, &p);
        CHECK((st == PN_OK) == (p != NULL));
        pn_program_destroy(&p);
        ended(st, i, "create");
    }
}

static void patterns(void) {
    sparse s = sparse_line();
    pn_pattern *p = NULL;
    pn_status st = PN_MEMORY;
    for (int64_t i = 0; st != PN_OK; i++) {
        count_from(i);
        st = pn_pattern_create(WIDE, s.n, s.row, s.col, NULL, said, &p);
        CHECK((st == PN_OK) == (p != NULL));
        pn_pattern_destroy(&p);
        ended(st, i, "pattern");
    }
}

static void evaluations(void) {
    builder b;
    net(&b, 3, 2, 5, 1, 1);
    pn_program *p = must_create(&b);
    void *slot[4], *out[4];
    for (int s = 0; s < 4; s++) slot[s] = random_array(3 * 9, 0, 1), out[s] = keep(3 * 9, 8);
    const void *theta[PN_MAX_SPACES] = {random_array((size_t)b.n_theta[0], 0, 1)};
    double *grad[PN_MAX_SPACES] = {keep((size_t)b.n_theta[0], 8)};
    for (int64_t n = 1; n <= 9; n += 8)
        for (int64_t i = 0;; i++) {
            count_from(i);
            pn_status st = pn_evaluate(p, 0, pn_isa_best(), n, (const void *const *)slot, theta, out, grad, NULL, NULL);
            int failed = asked > i;
            fail_at = -1;
            CHECK(st == (failed ? PN_MEMORY : PN_OK) && alive == from);
            if (!failed) break;
        }
    pn_program_destroy(&p);
    release(0);
}

/* gradient, kept steps, and a budget that makes checkpoints; reversible; sensitivities; programs at save times */
static void solves(int64_t n, int kind) {
    static const char *const names[] = {"full tape",  "checkpoints",
                                        "reversible", "sensitivities",
                                        "dense",      "systems",
                                        "Rosenbrock", "Rosenbrock, sensitivities",
                                        "changes",    "changes, sensitivities",
                                        "pattern",    "hoisted"};
    sparse line = sparse_line();
    fixture f = kind < 6    ? fixture_begin(2, 1, n, 0, "bosh3")
                : kind < 8  ? stiff_fixture(n, 0, "rodas4", 5)
                : kind < 10 ? changing(n, 0, 60)
                : kind < 11 ? sparse_fixture(&line, n, 0, "rodas4", 0.1)
                            : hoisted_fixture(2, 1, n, 0, "bosh3", 1);
    pn_problem *p = &f.p;
    pn_pattern *pattern = NULL;
    if (kind == 10) CHECK(pn_pattern_create(WIDE, line.n, line.row, line.col, NULL, said, &pattern) == PN_OK);
    p->pattern = pattern;
    p->rtol = kind < 8 ? 1e-9 : 1e-6;
    p->steps = keep((size_t)n, sizeof *p->steps);
    if (kind == 1 || kind == 6 || kind == 8) p->memory = n > 1 ? 200000 : 12000;
    if (kind == 2) {
        p->lambda = 0.9;
        p->land = 1;
        p->gradient = PN_GRAD_REVERSIBLE;
        p->rtol = 1e-5;
    }
    if (kind == 3 || kind == 7 || kind == 9) p->gradient = PN_GRAD_NONE, p->sensitivity = keep(f.rows * 2 * (f.n_theta + 2), 8);
    if (kind == 4) p->dense = 1;
    if (kind == 5) fixture_parts(&f, 2), p->memory = n > 1 ? 200000 : 12000;
    bytes right = {0};
    pn_status st = PN_MEMORY;
    for (int64_t i = -1; i < 0 || st != PN_OK; i++) {
        memset(p->steps, 0, (size_t)n * sizeof *p->steps);
        count_from(i);
        st = fixture_solve(&f, pn_isa_best());
        long long made = asked;
        for (int64_t s = 0; s < n; s++) { /* kept steps belong to the caller, however it ended */
            if (st == PN_OK) CHECK((p->steps[s].record != NULL) == (p->accepted[s] > 0) && p->steps[s].n == p->accepted[s]);
            free(p->steps[s].record);
        }
        if (i < 0) {
            CHECKF(st == PN_OK && made > 2, "%s: %s", names[kind], pn_status_name(st));
            if (st != PN_OK) break;
            right = snapshot(&f);
            st = PN_MEMORY;
        } else if (ended(st, i, names[kind]))
            CHECK(same_bytes(right, snapshot(&f)));
    }
    pn_pattern_destroy(&pattern);
    fixture_end(&f);
    release(0);
}

/* A forward half that waits, and its way back, twice; then tapes that are filled again, in memory that they have. */
static pn_status there_and_back(fixture *f, const void *g_y, pn_tapes **tapes) {
    pn_problem *p = &f->p;
    p->tapes = *tapes ? *tapes : (*tapes = pn_tapes_create());
    if (!p->tapes) return PN_MEMORY;
    pn_status st = fixture_solve(f, pn_isa_best());
    p->back = 1, p->g_y = g_y;
    for (int twice = 0; st == PN_OK && twice < 2; twice++) st = fixture_solve(f, pn_isa_best());
    p->back = 0, p->g_y = NULL, p->tapes = NULL;
    return st;
}

static void tapes(int64_t n, int hoisted) {
    fixture f = hoisted ? hoisted_fixture(2, 1, n, 0, "bosh3", 0) : fixture_begin(2, 1, n, 0, "bosh3");
    pn_problem *p = &f.p;
    const void *g_y = random_array((size_t)f.rows * 2, 0, 1);
    p->loss = PN_LOSS_NONE;
    p->g_y = g_y;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    const bytes right = snapshot(&f);
    p->g_y = NULL;
    pn_status st = PN_MEMORY;
    for (int64_t i = 0; st != PN_OK; i++) {
        pn_tapes *held = NULL;
        count_from(i);
        st = there_and_back(&f, g_y, &held);
        const int64_t made = asked;
        fail_at = -1;
        const int again = st != PN_OK || there_and_back(&f, g_y, &held) == PN_OK;
        asked = made;
        pn_tapes_destroy(&held);
        if (ended(st, i, "tapes")) CHECK(again && same_bytes(right, snapshot(&f)));
    }
    fixture_end(&f);
    release(0);
}

/* Tapes whose next forward half fails are not those of the one before. */
static void filled_in_vain(void) {
    fixture f = hoisted_fixture(2, 0, 3, 0, "bosh3", 0);
    pn_problem *p = &f.p;
    pn_tapes *held = pn_tapes_create();
    const void *g_y = random_array((size_t)f.rows * 2, 0, 1);
    p->loss = PN_LOSS_NONE, p->tapes = held;
    pn_status st = PN_MEMORY;
    for (int64_t i = 0; st != PN_OK; i++) {
        CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
        count_from(i);
        st = fixture_solve(&f, pn_isa_best());
        ended(st, i, "filled again");
        p->back = 1, p->g_y = g_y;
        const pn_status back = fixture_solve(&f, pn_isa_best());
        CHECKF(back == (st == PN_OK ? PN_OK : PN_BAD_ARGUMENT), "allocation %d: %s, %s", (int)i, pn_status_name(st),
               pn_status_name(back));
        p->back = 0, p->g_y = NULL;
    }
    pn_tapes_destroy(&held);
    fixture_end(&f);
    release(0);
}

/* A way back that is asked for without its forward half says so. */
static void no_tapes(void) {
    fixture f = fixture_begin(2, 1, 3, 0, "bosh3");
    pn_problem *p = &f.p;
    pn_tapes *held = pn_tapes_create();
    p->loss = PN_LOSS_NONE;
    p->tapes = held, p->back = 1, p->g_y = random_array((size_t)f.rows * 2, 0, 1);
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_BAD_ARGUMENT);
    pn_tapes_destroy(&held);
    fixture_end(&f);
    release(0);
}

/* More stores than are kept: the last is freed, the others come back. */
static void stores(void) {
    void *store[PN_STORES + 1], *again[PN_STORES + 1];
    count_from(-1);
    for (int i = 0; i <= PN_STORES; i++) CHECK((store[i] = pn_store_take(PN_STORE)) != NULL);
    for (int i = 0; i <= PN_STORES; i++) pn_store_give(store[i], PN_STORE);
    CHECK(alive == from + PN_STORES && asked == PN_STORES + 1);
    for (int i = 0; i <= PN_STORES; i++) {
        again[i] = pn_store_take(PN_STORE);
        for (int k = 0; k < i; k++) CHECK(again[k] != again[i]);
    }
    CHECK(alive == from + PN_STORES + 1 && asked == PN_STORES + 2);
    pn_store_give(again[0], 2 * PN_STORE); /* of another size: not kept */
    CHECK(alive == from + PN_STORES);
    for (int i = 1; i <= PN_STORES; i++) pn_store_give(again[i], PN_STORE);
    pn_stores_free();
    CHECK(alive == from);
}

/* With threads: whichever of them gets no memory, the call says so. */
static void threaded(void) {
    fixture f = fixture_begin(2, 0, 300, 0, "bosh3");
    f.p.memory = 100; /* every thread finds its share too small */
    f.p.threads = 3;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_BUDGET);
    f.p.gradient = PN_GRAD_NONE; /* which needs none */
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    f.p.gradient = PN_GRAD_DISCRETE, f.p.memory = 0;
    pn_status st = PN_MEMORY;
    for (int64_t i = 0; st != PN_OK && i < 10000; i++) {
        count_from(i);
        st = fixture_solve(&f, pn_isa_best());
        ended(st, i, "threads");
    }
    fixture_end(&f);
    release(0);
}

int main(void) {
    programs();
    patterns();
    evaluations();
    for (int kind = 0; kind < 12; kind++)
        for (int64_t n = 1; n <= 21; n += 20) solves(n, kind);
    for (int64_t n = 1; n <= 21; n += 20) tapes(n, 0), tapes(n, 1);
    filled_in_vain();
    no_tapes();
    stores();
    threaded();
    return finish("test_alloc");
}
