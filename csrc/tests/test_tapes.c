/* Tapes of several chunks, filled again by problems of other sizes: the bits of a run by itself. */
#include "tests/check.h"

enum { SAMPLES = 150, PROBLEMS = 4 };

/* Problem k, and what it gives by itself for cotangents g_y. */
typedef struct task {
    fixture f;
    const void *g_y;
    bytes alone;
} task;
static task begin(int k, pn_isa isa) {
    static const int32_t d[PROBLEMS] = {2, 5, 3, 2}, m[PROBLEMS] = {0, 2, 0, 1};
    static const char *const method[PROBLEMS] = {"bosh3", "dop853", "rk4", "tsit5"};
    task t = {.f = fixture_begin(d[k], m[k], SAMPLES, 0, method[k])};
    pn_problem *p = &t.f.p;
    p->loss = PN_LOSS_NONE;
    p->g_y = t.g_y = random_array(t.f.rows * (size_t)d[k], 0, 1);
    CHECK(fixture_solve(&t.f, isa) == PN_OK);
    t.alone = snapshot(&t.f);
    return t;
}

static void there_and_back(task *t, pn_isa isa, pn_tapes *tapes, int32_t threads) {
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

int main(void) {
    EACH_ISA(isa) {
        seed_state = 3;
        task all[PROBLEMS];
        for (int k = 0; k < PROBLEMS; k++) all[k] = begin(k, isa);
        pn_tapes *tapes = pn_tapes_create();
        for (int i = 0; i < 3 * PROBLEMS; i++) there_and_back(&all[i * 3 % PROBLEMS], isa, tapes, 1 + i % 2);
        pn_tapes_destroy(&tapes);
        for (int k = 0; k < PROBLEMS; k++) fixture_end(&all[k].f);
        release(0);
    }
    return finish("test_tapes");
}
