/* Tapes of several chunks, filled again by problems of other sizes: the bits of a run by itself. */
#include "tests/tapes.h"

enum { SAMPLES = 150, PROBLEMS = 4 };

static task begin(int k, pn_isa isa) {
    static const int32_t d[PROBLEMS] = {2, 5, 3, 2}, m[PROBLEMS] = {0, 2, 0, 1};
    static const char *const method[PROBLEMS] = {"bosh3", "dop853", "rk4", "tsit5"};
    return task_of(fixture_begin(d[k], m[k], SAMPLES, 0, method[k]), isa);
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
