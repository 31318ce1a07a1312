/* A solve: samples cut into chunks, chunks dealt out to threads, their gradients added up in a fixed order, so that the
   result does not depend on the number of threads. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE /* waits of a given length */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef PN_NO_THREADS
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#endif

#include "instances/instances.h"
#include "memory.h"
#include "solve/hoisted.h"

enum { MAX_TASKS = 64, MAX_CHUNK = 256, WHOLE_CHUNK = 1024, CHUNKS_A_THREAD = 2, MAX_THREADS = 256, LONG_STEP = 1 << 20 };

/* Multiply-adds of a step of one block of lanes, by and large: weights and rows count once for each stage. */
static int64_t work_of_step(const pn_problem *P, int lanes) {
    const pn_layout *lay = &P->field->layout[PN_LAYOUT_BLOCK];
    const int32_t stages = P->stiff && P->stiff->s > P->tableau->s ? P->stiff->s : P->tableau->s;
    return (lay->pack_size + lay->file_rows) * lanes * stages;
}

/* Samples a chunk: enough to keep lanes busy when samples take different numbers of steps, few enough to share out. Where a step
   takes long, a chunk of fewer samples is worth a thread. That asks for the program and the number of samples, never for the number
   of threads. Where nothing is added up over chunks (`free`) they may be as large as they can be, for at the end of each one lanes
   stay idle: one thread has whole ones, and of several each has two, as one sample may take longer than another. */
static void cut(pn_shared *s, int64_t n, int lanes, int free, int32_t threads) {
    const int64_t blocks = work_of_step(s->problem, lanes) >= LONG_STEP ? 2 : 4;
    int64_t chunk = (n / 8 + lanes - 1) / lanes * lanes, least = blocks * lanes,
            most = MAX_CHUNK > 2 * lanes ? MAX_CHUNK : 2 * lanes;
    if (free) chunk = threads > 1 ? (n / (CHUNKS_A_THREAD * threads) + lanes - 1) / lanes * lanes : n, most = WHOLE_CHUNK;
    if (chunk < least) chunk = least;
    if (chunk > most) chunk = most;
    if (chunk > n) chunk = n > 0 ? n : 1;
    s->chunk = chunk;
    s->n_chunks = (n + chunk - 1) / chunk;
    s->chunks_per_task = (s->n_chunks + MAX_TASKS - 1) / MAX_TASKS;
    if (s->chunks_per_task < 1) s->chunks_per_task = 1;
    s->n_tasks = (s->n_chunks + s->chunks_per_task - 1) / s->chunks_per_task;
}

/* Rows of p zeros that n tasks add to; one task adds to what is wanted itself. */
static pn_status rows_for(double *wanted, int64_t n, int64_t p, double **rows) {
    if (!wanted || p == 0) return PN_OK;
    const size_t bytes = (size_t)p * sizeof(double);
    *rows = n > 1 ? pn_zeroed((size_t)n * bytes) : memset(wanted, 0, bytes);
    return *rows ? PN_OK : PN_MEMORY;
}

/* Pairwise sum of n rows of length p into out. */
static void add_rows(double *rows, int64_t n, int64_t p, double *out) {
    for (int64_t step = 1; step < n; step *= 2)
        for (int64_t i = 0; i + step < n; i += 2 * step)
            for (int64_t j = 0; j < p; j++) rows[i * p + j] += rows[(i + step) * p + j];
    memcpy(out, rows, (size_t)p * sizeof(double));
}

/* Results that a solve adds to. */
static void forget_added(const pn_problem *P) {
    const size_t per = (size_t)(P->degree + 1) * (size_t)P->m * (size_t)P->n_segments * sizeof(double);
    if (P->g_y0) memset(P->g_y0, 0, (size_t)P->n * (size_t)P->d * sizeof(double));
    if (P->g_theta && P->theta_each) memset(P->g_theta, 0, (size_t)P->n * (size_t)P->n_theta * sizeof(double));
    if (P->g_t) memset(P->g_t, 0, (size_t)P->rows * sizeof(double));
    if (P->g_coef) memset(P->g_coef, 0, per);
    if (P->quadrature_coef) memset(P->quadrature_coef, 0, per);
}

#ifdef PN_NO_THREADS /* where a processor has one, as WebAssembly does */
static void run_tasks(pn_shared *s, const pn_kernels *k, int32_t threads) {
    (void)threads;
    k->work(s, 1);
}
#else
typedef struct worker {
    pn_shared *shared;
    const pn_kernels *kernels;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    int running; /* threads that have not finished, under the lock */
    pid_t process;
} worker;

static void *thread_main(void *arg) {
    worker *w = arg;
    w->kernels->work(w->shared, 0);
    pthread_mutex_lock(&w->lock);
    if (--w->running == 0) pthread_cond_signal(&w->idle);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* What looks for interrupts may fork (a signal handler in Python does as it likes): the child has no other threads, and the lock
   may be held by one of those. */
static int forked(const worker *w) { return getpid() != w->process; }

/* Up to 20 ms, by a clock that nobody sets. */
static void wait_a_little(worker *w) {
#if defined(__APPLE__)
    const struct timespec some = {.tv_nsec = 20000000};
    pthread_cond_timedwait_relative_np(&w->idle, &w->lock, &some);
#else
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_cond_timedwait(&w->idle, &w->lock, &until);
#endif
}

/* Wait for the other threads, and look for interrupts meanwhile. */
static void wait_for(worker *w) {
    const pn_problem *P = w->shared->problem;
    pthread_mutex_lock(&w->lock);
    while (w->running > 0) {
        wait_a_little(w);
        if (w->running == 0 || !P->poll) continue;
        pthread_mutex_unlock(&w->lock);
        if (P->poll(P->poll_ctx)) atomic_store(&w->shared->stop, PN_INTERRUPTED);
        if (forked(w)) return;
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
}

static void make_condition(pthread_cond_t *idle) {
    pthread_condattr_t kind;
    pthread_condattr_init(&kind);
#if !defined(__APPLE__)
    pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(idle, &kind);
    pthread_condattr_destroy(&kind);
}

/* 0: this is a child that was forked meanwhile, and has no more than its own part of the work. */
static int run_threads(pn_shared *s, const pn_kernels *k, int32_t threads) {
    pthread_t id[MAX_THREADS];
    worker w = {.shared = s, .kernels = k, .lock = PTHREAD_MUTEX_INITIALIZER, .process = getpid()};
    int started = 0;
    if (threads > s->n_tasks) threads = (int32_t)s->n_tasks;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    make_condition(&w.idle);
    pthread_mutex_lock(&w.lock); /* until all are counted */
    while (started + 1 < threads && pthread_create(&id[started], NULL, thread_main, &w) == 0) started++;
    w.running = started;
    pthread_mutex_unlock(&w.lock);
    k->work(s, 1);
    if (started > 0 && forked(&w)) return 0;
    wait_for(&w);
    if (started > 0 && forked(&w)) return 0;
    for (int i = 0; i < started; i++) pthread_join(id[i], NULL);
    pthread_cond_destroy(&w.idle);
    return 1;
}

/* All tasks once more, alone: in a child that was forked meanwhile. */
static void run_again(pn_shared *s, const pn_kernels *k, const int32_t *side, size_t sides) {
    const pn_problem *P = s->problem;
    for (int64_t i = 0; P->steps && i < P->n; i++) P->steps[i] = (pn_steps){0, NULL};
    if (s->task_grad) memset(s->task_grad, 0, (size_t)(s->n_tasks * s->p) * sizeof(double));
    if (s->task_quadrature) memset(s->task_quadrature, 0, (size_t)(s->n_tasks * s->q) * sizeof(double));
    forget_added(P);
    for (int64_t i = 0; P->tapes && !P->back && i < P->tapes->n; i++)
        P->tapes->work[i] = NULL; /* another thread was at work there */
    if (sides) memcpy(P->event_side, side, sides);
    for (int64_t i = 0; sides && i < P->n; i++) P->event_which[i] = -1;
    atomic_store(&s->next_task, 0);
    k->work(s, 1);
}

/* All tasks. */
static void run_tasks(pn_shared *s, const pn_kernels *k, int32_t threads) {
    const pn_problem *P = s->problem;
    if (threads == 1) {
        k->work(s, 1);
        return;
    }
    const size_t sides = P->event ? (size_t)P->n * (size_t)P->event->output_size[0] * sizeof *P->event_side : 0;
    int32_t *side = malloc(sides ? sides : 1); /* what a run changes and begins with */
    if (!side) {
        atomic_store(&s->stop, PN_MEMORY);
        return;
    }
    if (sides) memcpy(side, P->event_side, sides);
    if (!run_threads(s, k, threads)) run_again(s, k, side, sides);
    free(side);
}
#endif

/* Length of the gradient of theta: the parts' parameters stand behind the field's. */
static int64_t n_gradient(const pn_problem *P) {
    int64_t n = P->reverse->n_grads > 0 ? P->reverse->n_grad[0] : 0;
    const pn_part *part[] = {&P->jump, &P->loss_part};
    for (int i = 0; i < 2; i++) {
        const pn_program *r = part[i]->program ? part[i]->reverse : NULL;
        if (r && r->n_grads > 0 && part[i]->offset + r->n_grad[0] > n) n = part[i]->offset + r->n_grad[0];
    }
    return n;
}

/* Most rows of the result from the first of a chunk to its last. */
static int64_t rows_of_chunks(const pn_shared *s) {
    const pn_problem *P = s->problem;
    int64_t most = 0;
    for (int64_t first = 0; first < P->n; first += s->chunk) {
        int64_t last = (P->n - first < s->chunk ? P->n : first + s->chunk) - 1,
                rows = P->row[last] + P->t_len[last] - P->row[first];
        if (rows > most) most = rows;
    }
    return most;
}

static void empty(pn_tapes *t) {
    for (int64_t i = 0; i < t->n; i++) t->kernels->discard(t->work[i]);
    free(t->work);
    t->work = NULL;
    t->n = 0;
    t->filled = 0;
}

pn_tapes *pn_tapes_create(void) { return calloc(1, sizeof(pn_tapes)); }

void pn_tapes_destroy(pn_tapes **p) {
    if (*p) {
        empty(*p);
        free((*p)->theta);
    }
    free(*p);
    *p = NULL;
}

/* Places for the chunks of a solve, those of an earlier one where they fit; or whether these are its tapes. */
static pn_status prepare_tapes(const pn_problem *P, const pn_kernels *k, const pn_shared *s, char *text) {
    pn_tapes *t = P->tapes;
    if (P->back && !(t->filled && t->n == s->n_chunks)) {
        snprintf(text, PN_MESSAGE, "tapes: they are not those of a solve of this problem that went well");
        return PN_BAD_ARGUMENT;
    }
    if (P->back) return PN_OK;
    t->filled = 0;
    if (s->n_chunks > PN_KEPT_CHUNKS) {
        snprintf(text, PN_MESSAGE, "tapes: there are too many samples for them");
        return PN_BAD_ARGUMENT;
    }
    if (t->kernels == k && t->n == s->n_chunks) return PN_OK;
    empty(t);
    t->work = calloc((size_t)(s->n_chunks ? s->n_chunks : 1), sizeof *t->work);
    if (!t->work) return PN_MEMORY;
    t->kernels = k;
    t->n = s->n_chunks;
    return PN_OK;
}

/* Kernels that work two samples at a time, see kernels/few.inl, or NULL: a block works for all of its lanes, used or not, which costs more where
   matrices take the time. The states have the same bits. */
static const pn_kernels *kernels_for_few(const pn_program *program, int f32, pn_isa isa, int64_t n) {
    enum { FEW = 4, FOR_FEW = 1024 }; /* samples; weights from which two blocks of two are faster than one block */
    const int64_t weights = program->layout[PN_LAYOUT_BLOCK].pack_size;
    return n >= 2 && n <= FEW && weights >= (n == 2 ? 1 : FOR_FEW) ? pn_kernels_pair(f32, isa) : NULL;
}

/* Those that a program is evaluated with for n samples; calls: it has callbacks; plain: it asks for nothing that two samples at a time cannot do. */
static const pn_kernels *kernels_for(const pn_program *program, int f32, pn_isa isa, int64_t n, int adaptive, int calls,
                                     int plain) {
    const pn_kernels *few = plain ? kernels_for_few(program, f32, isa, n) : NULL;
    return few ? few : pn_kernels_get(f32, isa, n, adaptive, calls);
}

/* What two samples at a time can do. */
static int is_plain(const pn_problem *P) {
    return !P->call && !P->theta_each && !P->sensitivity && !P->stiff && P->tableau->gamma == 0;
}

/* A problem that has been checked, by the programs that it names. */
static pn_status solve(const pn_problem *P, int f32, pn_isa isa, char *text) {
    const pn_kernels *k = kernels_for(P->field, f32, isa, P->n, P->adaptive, P->call != NULL, is_plain(P));
    if (P->back) k = P->tapes->kernels ? P->tapes->kernels : k; /* those that went forward */
    pn_shared s = {.problem = P};
    int32_t threads = P->call ? 1 : P->threads > 0 ? P->threads : 1;
    cut(&s, P->n, k->lanes, P->gradient == PN_GRAD_NONE && !P->quadrature && !P->sensitivity, threads);
    if (P->tapes) {
        pn_status ready = prepare_tapes(P, k, &s, text);
        if (ready != PN_OK) return ready;
    }
    if (threads > s.n_tasks) threads = s.n_tasks > 0 ? (int32_t)s.n_tasks : 1;
    s.p = P->gradient != PN_GRAD_NONE && !P->theta_each ? n_gradient(P) : 0;
    if (P->theta_each && P->g_theta) memset(P->g_theta, 0, (size_t)P->n * (size_t)P->n_theta * sizeof(double));
    s.chunk_rows = P->loss == PN_LOSS_PROGRAM ? rows_of_chunks(&s) : 0;
    s.q = P->quadrature && P->field->n_grads > 0 ? P->field->n_grad[0] : 0;
    s.budget = P->memory > 0 ? P->memory / threads : 0;
    if (P->memory > 0 && s.budget == 0) s.budget = 1;
    pn_status st = rows_for(P->g_theta, s.n_tasks, s.p, &s.task_grad);
    if (st == PN_OK) st = rows_for(P->quadrature, s.n_tasks, s.q, &s.task_quadrature);
    if (st == PN_OK) {
        run_tasks(&s, k, threads);
        st = (pn_status)atomic_load(&s.stop);
    }
    if (st == PN_OK && s.n_tasks > 1 && s.task_grad) add_rows(s.task_grad, s.n_tasks, s.p, P->g_theta);
    if (st == PN_OK && s.n_tasks > 1 && s.task_quadrature) add_rows(s.task_quadrature, s.n_tasks, s.q, P->quadrature);
    if (P->tapes && !P->back) P->tapes->filled = st == PN_OK;
    if (s.n_tasks > 1) free(s.task_grad), free(s.task_quadrature);
    return st;
}

pn_status pn_solve(const pn_problem *P, int f32, pn_isa isa, char *message) {
    char unread[PN_MESSAGE], *text = message ? message : unread;
    *text = 0;
    if (!pn_isa_available(isa)) {
        snprintf(text, PN_MESSAGE, "isa: this processor has no such instruction set");
        return PN_BAD_ARGUMENT;
    }
    if (pn_problem_check(P, f32, text) != PN_OK) return PN_BAD_ARGUMENT;
    if (!pn_hoists(P)) return solve(P, f32, isa, text);
    pn_hoisting h;
    int finite = 1;
    pn_status st = pn_hoist(&h, P, f32, isa, text);
    if (st == PN_OK) st = solve(&h.problem, f32, isa, text);
    if (st == PN_OK) st = pn_pull_back(&h, P, f32, isa, &finite);
    pn_hoisting_end(&h);
    if (st != PN_OK || finite || P->tapes) return st;
    forget_added(P);
    for (int64_t i = 0; P->steps && i < P->n; i++) {
        free(P->steps[i].record);
        P->steps[i] = (pn_steps){0, NULL};
    }
    return solve(P, f32, isa, text); /* which looks for the samples to leave out */
}

pn_status pn_evaluate(const pn_program *program, int f32, pn_isa isa, int64_t n, const void *const *slots,
                      const void *const *theta, void *const *outputs, double *const *grads, pn_callback call, void *call_ctx) {
    if (!pn_isa_available(isa) || (program->has_call && !call)) return PN_BAD_ARGUMENT;
    const pn_kernels *k = kernels_for(program, f32, isa, n, 0, call != NULL, call == NULL);
    return k->evaluate(program, n, slots, theta, outputs, grads, call, call_ctx);
}
