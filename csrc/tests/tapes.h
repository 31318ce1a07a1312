/* A solve that fills tapes, and goes back along them, for tests: the bits of a run by itself. */
#ifndef PN_TAPES_TEST_H
#define PN_TAPES_TEST_H
#include "tests/check.h"

/* A problem, and what it gives by itself for cotangents g_y. */
typedef struct task {
    fixture f;
    const void *g_y;
    bytes alone;
} task;

UNUSED static task task_of(fixture f, pn_isa isa) {
    task t = {.f = f};
    t.f.p.loss = PN_LOSS_NONE;
    t.f.p.g_y = t.g_y = random_array(f.rows * (size_t)f.p.d, f.f32, 1);
    CHECK(fixture_solve(&t.f, isa) == PN_OK);
    t.alone = snapshot(&t.f);
    return t;
}

UNUSED static void there_and_back(task *t, pn_isa isa, pn_tapes *tapes, int32_t threads) {
    pn_problem *p = &t->f.p;
    p->tapes = tapes, p->g_y = NULL, p->threads = threads;
    CHECK(fixture_solve(&t->f, isa) == PN_OK);
    p->back = 1, p->g_y = t->g_y;
    for (int times = 0; times < 2; times++) {
        CHECK(fixture_solve(&t->f, isa) == PN_OK);
        CHECKF(same_bytes(t->alone, snapshot(&t->f)), "%s, %d components, %d threads, time %d", pn_isa_name(isa), (int)p->d,
               (int)threads, times);
    }
    p->back = 0, p->tapes = NULL;
}
#endif
