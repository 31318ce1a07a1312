/* Threads: the same bits whatever their number, several solves at a time on the same programs, interrupts, a fork meanwhile. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* The child leaves what other threads had allocated: no leak that a sanitizer should look for. */
#if defined(__SANITIZE_ADDRESS__)
#define LEAVE _exit
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAVE _exit
#endif
#endif
#ifndef LEAVE
#define LEAVE exit
#endif

/* What looks for interrupts forks: the child, which has one thread, ends the solve with the same bits. */
typedef struct forking {
    int at, polls; /* when, and how often it was asked */
    pid_t child;   /* 0: this is the child; -1: not yet */
} forking;
static int fork_once(void *ctx) {
    forking *f = ctx;
    if (++f->polls != f->at) return 0;
    fflush(stdout);
    f->child = fork();
    return 0;
}

/* y' = net, and the integral of y. */
static pn_program *integrating(void) {
    builder b;
    net(&b, 3, 2, 7, 0, 1);
    b.spec.n_grads = 1, b.n_grad[0] = 3;
    add(&b, PN_OP_ACC, 0, 1, -1, -1, 0, 0, 0);
    return must_create(&b);
}
/* Events where the first component changes its side. */
static pn_program *crossing(void) {
    builder b = {.spec = {.fuse = 1}};
    add_slot(&b, 1), add_slot(&b, 3), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_SLICE, 1, 1, -1, -1, 0, 1, 0));
    b.spec.segments[1] = b.spec.n_code;
    return must_create(&b);
}

enum { PLAIN, OWN_THETA, EVENTS, TAPES, QUADRATURE, WAITING, FORKS, SAMPLES = 411 };
static fixture to_fork(int kind) {
    fixture f = fixture_begin(3, kind == EVENTS ? 0 : 2, SAMPLES, 0, kind == WAITING ? "rk4" : "bosh3");
    pn_problem *p = &f.p;
    p->rtol = 1e-12, p->max_steps = INT64_MAX; /* it takes longer than until the first question */
    double *atol = keep(3, sizeof *atol);
    for (int i = 0; i < 3; i++) atol[i] = 1e-12;
    p->atol = atol;
    if (kind == PLAIN) p->steps = keep(SAMPLES, sizeof *p->steps);
    if (kind == OWN_THETA) {
        p->theta_each = 1, f.n_theta *= SAMPLES;
        p->theta = random_array(f.n_theta, 0, 0.8), p->g_theta = keep(f.n_theta, 8);
    }
    if (kind == EVENTS) {
        p->event = f.part[0] = crossing();
        p->event_direction = keep(1, 4), p->event_side = keep(SAMPLES, 4), p->event_which = keep(SAMPLES, 4);
        p->event_y = keep(SAMPLES * 6, 8);
    }
    if (kind == TAPES) p->tapes = pn_tapes_create();
    if (kind == QUADRATURE) {
        pn_program_destroy(&f.field);
        p->field = f.field = integrating(), p->quadrature = keep(3, 8);
    }
    if (kind == EVENTS || kind == TAPES || kind == QUADRATURE) p->loss = PN_LOSS_NONE;
    if (kind == EVENTS || kind == QUADRATURE || kind == WAITING) p->gradient = PN_GRAD_NONE;
    p->adaptive = 0, p->step = 2e-5, p->max_steps = INT64_MAX; /* one long task: somebody looks for interrupts meanwhile */
    for (int64_t i = 0; i < SAMPLES; i++)
        if (i != SAMPLES - 2) f.t_len[i] = 1;
    return f;
}
static void forget(fixture *f) {
    for (int64_t i = 0; i < SAMPLES; i++) {
        if (f->p.event) f->p.event_which[i] = -1, f->p.event_side[i] = 0;
        if (f->p.steps) free(f->p.steps[i].record), f->p.steps[i] = (pn_steps){0, NULL};
    }
}

static void forks(int kind) {
    fixture f = to_fork(kind);
    pn_problem *p = &f.p;
    const size_t n = SAMPLES;
    int32_t *ended = keep(n, 4);
    double sum[3] = {0};
    forget(&f);
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    bytes one = snapshot(&f);
    if (p->event) memcpy(ended, p->event_which, n * 4);
    if (p->quadrature) memcpy(sum, p->quadrature, sizeof sum);
    forget(&f);
    forking ctx = {.at = kind == WAITING ? 2 : 1, .child = -1};
    p->threads = 2, p->poll = fork_once, p->poll_ctx = &ctx;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    CHECKF(same_bytes(one, snapshot(&f)), "kind %d, %s", kind, ctx.child ? "parent" : "child");
    if (p->event) CHECK(!memcmp(ended, p->event_which, n * 4));
    if (p->quadrature) CHECK(!memcmp(sum, p->quadrature, sizeof sum));
    for (size_t i = 0; p->steps && i < n; i++) CHECK(f.t_len[i] == 1 || p->steps[i].n > 0);
    if (ctx.child == 0) LEAVE(failures != 0);
    int status = -1;
    if (ctx.child > 0)
        CHECKF(waitpid(ctx.child, &status, 0) == ctx.child && status == 0, "kind %d: the child failed", kind);
    else /* an event may end the long task before anybody looks */
        CHECKF(kind == EVENTS, "kind %d: %d polls", kind, ctx.polls);
    forget(&f);
    pn_tapes *tapes = p->tapes;
    pn_tapes_destroy(&tapes);
    fixture_end(&f);
    release(0);
}

int main(void) {
    for (int kind = 0; kind < FORKS; kind++) forks(kind);
    same_bits();
    at_once();
    interrupts();
    return finish("test_threads");
}
