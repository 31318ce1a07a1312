/* Threads: the same bits whatever their number, several solves at a time on the same programs, interrupts. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "tests/check.h"

static void same_bits(void) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int kind = 0; kind < 4; kind++) { /* full tape, checkpoints, reversible, systems */
            fixture f = fixture_begin(3, 2, 411, f32, "bosh3");
            if (kind == 1) f.p.memory = 24 << 20;
            if (kind == 2) {
                f.p.lambda = 0.95;
                f.p.land = 1;
                f.p.gradient = PN_GRAD_REVERSIBLE;
            }
            if (kind == 3) fixture_parts(&f, 3);
            bytes one = {0};
            for (int32_t threads = 1; threads <= 4; threads *= 2) {
                f.p.threads = threads;
                CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
                if (threads == 1) one = snapshot(&f);
                CHECKF(same_bytes(one, snapshot(&f)), "f%d kind %d: %d threads", f32 ? 32 : 64, kind, threads);
            }
            fixture_end(&f);
            release(0);
        }
}

/* Four solves at once, each with two threads of its own; programs, theta and data are shared, results are not. */
typedef struct job {
    fixture f;
    pn_status st;
} job;
static void *run_job(void *arg) {
    job *j = arg;
    for (int i = 0; i < 3; i++) j->st = fixture_solve(&j->f, pn_isa_best());
    return NULL;
}
static void at_once(void) {
    enum { JOBS = 4 };
    fixture f = fixture_begin(3, 2, 100, 0, "tsit5");
    f.p.threads = 2;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    bytes alone = snapshot(&f);
    job jobs[JOBS];
    pthread_t id[JOBS];
    for (int i = 0; i < JOBS; i++) {
        pn_problem *p = &jobs[i].f.p;
        jobs[i].f = f;
        p->y = keep(f.rows * 3, 8);
        p->status = keep(100, 4);
        p->stop_t = keep(100, 8);
        p->stop_component = keep(100, 4);
        p->nfe = keep(100, 8);
        p->accepted = keep(100, 8);
        p->rejected = keep(100, 8);
        p->sample_loss = keep(100, 8), p->sample_weight = keep(100, 8);
        p->g_theta = keep(f.n_theta, 8);
        p->g_y0 = keep(300, 8);
        p->g_t = keep(f.rows, 8);
        p->g_coef = keep(f.segments * 4, 8);
    }
    for (int i = 0; i < JOBS; i++)
        if (pthread_create(&id[i], NULL, run_job, &jobs[i])) exit(2);
    for (int i = 0; i < JOBS; i++) pthread_join(id[i], NULL);
    for (int i = 0; i < JOBS; i++) CHECKF(jobs[i].st == PN_OK && same_bytes(alone, snapshot(&jobs[i].f)), "job %d", i);
    fixture_end(&f);
    release(0);
}

static int stop_at_once(void *ctx) {
    ++*(int *)ctx;
    return 1;
}
static int never_stop(void *ctx) {
    ++*(int *)ctx;
    return 0;
}
static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void interrupts(void) {
    for (int32_t threads = 1; threads <= 4; threads *= 2)
        for (int64_t n = 1; n <= 201; n += 200) {
            fixture f = fixture_begin(3, 0, n, 0, "rk4");
            int polls = 0;
            f.p.adaptive = 0;
            f.p.step = 1e-9;
            f.p.max_steps = INT64_MAX;
            f.p.gradient = PN_GRAD_NONE;
            f.p.threads = threads;
            f.p.poll = stop_at_once;
            f.p.poll_ctx = &polls;
            double start = seconds();
            CHECK(fixture_solve(&f, pn_isa_best()) == PN_INTERRUPTED);
            CHECKF(polls >= 1 && polls < 4 && seconds() - start < 5, "%d polls, %g s", polls, seconds() - start);
            fixture_end(&f);
            release(0);
        }
    fixture f = fixture_begin(3, 0, 201, 0, "rk4"); /* one thread has a long task, the calling one has none left */
    int polls = 0;
    f.p.adaptive = 0;
    f.p.step = 0.01;
    f.p.gradient = PN_GRAD_NONE;
    f.p.threads = 2;
    f.p.poll = never_stop, f.p.poll_ctx = &polls;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    f.p.max_steps = INT64_MAX;
    f.p.poll = stop_at_once;
    f.p.step = 1e-9;
    for (int64_t i = 0; i < 201; i++)
        if (i != 199) f.t_len[i] = 1;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_INTERRUPTED);
    fixture_end(&f);
    release(0);
}

int main(void) {
    same_bits();
    at_once();
    interrupts();
    return finish("test_threads");
}
