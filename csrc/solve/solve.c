/* A solve: samples cut into chunks, chunks dealt out to threads, their gradients added up in a fixed order, so that the
   result does not depend on the number of threads. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "instances/instances.h"

enum { MAX_TASKS = 64, MAX_CHUNK = 256, WHOLE_CHUNK = 1024, MAX_THREADS = 256 };

/* Samples a chunk: enough to keep lanes busy when samples take different numbers of steps, few enough to share out. Where
   nothing is added up over chunks they may be as large as they can be: at the end of each one lanes stay idle. */
static void cut(pn_shared *s, int64_t n, int lanes, int whole) {
    int64_t chunk = (n / 8 + lanes - 1) / lanes * lanes, least = 4 * lanes,
            most = MAX_CHUNK > 2 * lanes ? MAX_CHUNK : 2 * lanes;
    if (chunk < least) chunk = least;
    if (chunk > most) chunk = most;
    if (whole) chunk = WHOLE_CHUNK;
    if (chunk > n) chunk = n > 0 ? n : 1;
    s->chunk = chunk;
    s->n_chunks = (n + chunk - 1) / chunk;
    s->chunks_per_task = (s->n_chunks + MAX_TASKS - 1) / MAX_TASKS;
    if (s->chunks_per_task < 1) s->chunks_per_task = 1;
    s->n_tasks = (s->n_chunks + s->chunks_per_task - 1) / s->chunks_per_task;
}

/* Pairwise sum of n rows of length p into out. */
static void add_rows(double *rows, int64_t n, int64_t p, double *out) {
    for (int64_t step = 1; step < n; step *= 2)
        for (int64_t i = 0; i + step < n; i += 2 * step)
            for (int64_t j = 0; j < p; j++) rows[i * p + j] += rows[(i + step) * p + j];
    if (n > 0)
        memcpy(out, rows, (size_t)p * sizeof(double));
    else
        memset(out, 0, (size_t)p * sizeof(double));
}

static pn_status rows_for(double *wanted, int64_t n, int64_t p, double **rows) {
    if (!wanted || p == 0) return PN_OK;
    *rows = calloc((size_t)(n > 0 ? n : 1) * (size_t)p, sizeof(double));
    return *rows ? PN_OK : PN_MEMORY;
}

typedef struct worker {
    pn_shared *shared;
    const pn_kernels *kernels;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    int running; /* threads that have not finished, under the lock */
} worker;

static void *thread_main(void *arg) {
    worker *w = arg;
    w->kernels->work(w->shared, 0);
    pthread_mutex_lock(&w->lock);
    if (--w->running == 0) pthread_cond_signal(&w->idle);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Wait for the other threads, and look for interrupts meanwhile. */
static void wait_for(worker *w) {
    const pn_problem *P = w->shared->problem;
    pthread_mutex_lock(&w->lock);
    while (w->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 20000000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&w->idle, &w->lock, &until);
        if (w->running == 0 || !P->poll) continue;
        pthread_mutex_unlock(&w->lock);
        if (P->poll(P->poll_ctx)) atomic_store(&w->shared->stop, PN_INTERRUPTED);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
}

static void run_threads(pn_shared *s, const pn_kernels *k, int32_t threads) {
    pthread_t id[MAX_THREADS];
    worker w = {.shared = s, .kernels = k, .lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER};
    int started = 0;
    if (threads > s->n_tasks) threads = (int32_t)s->n_tasks;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    pthread_mutex_lock(&w.lock); /* until all are counted */
    while (started + 1 < threads && pthread_create(&id[started], NULL, thread_main, &w) == 0) started++;
    w.running = started;
    pthread_mutex_unlock(&w.lock);
    k->work(s, 1);
    wait_for(&w);
    for (int i = 0; i < started; i++) pthread_join(id[i], NULL);
}

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

static int optional(int32_t size, int32_t expected) { return size == 0 || size == expected; }

/* A program on rows with n_out results, and its vjp where a gradient is wanted. */
static int good_part(const pn_problem *P, const pn_part *A, int32_t n_out) {
    const pn_program *f = A->program, *r = A->reverse;
    if (!f || A->offset < 0 || A->k < 0 || (A->k > 0 && !A->data) || f->has_call || f->n_slots != 3) return 0;
    if (f->slot_size[0] != 1 || f->slot_size[1] != P->d || f->slot_size[2] != A->k) return 0;
    if (f->n_outputs < 1 || !optional(f->output_size[0], n_out)) return 0;
    if (!r) return P->gradient == PN_GRAD_NONE;
    const int32_t *slot = r->slot_size, *out = r->output_size;
    return r->n_slots == 4 && slot[0] == 1 && slot[1] == P->d && slot[2] == A->k && slot[3] == n_out && !r->has_call &&
           r->n_outputs == 4 && optional(out[0], n_out) && optional(out[1], P->d) && optional(out[2], 1) &&
           optional(out[3], A->k);
}

/* All times of each sample are its first. */
static int only_jumps(const pn_problem *P) {
    for (int64_t i = 0; i < P->n; i++) {
        const double *t = P->t + P->t_start[i];
        if (t[P->t_len[i] - 1] != t[0]) return 0;
    }
    return 1;
}

/* What would end in a crash, a loop without end or a silent error; arrays and indices are the caller's to check. */
static int good(const pn_problem *P) {
    const pn_program *f = P->field, *r = P->reverse;
    if (!f || !P->tableau || P->n < 0 || P->d < 1 || !(P->lambda >= 0 && P->lambda <= 1)) return 0;
    if ((f->has_call || (r && r->has_call)) && !P->call) return 0;
    if (P->adaptive ? P->grid || P->tableau->error_order == 0 : !P->grid && !(P->step > 0)) return 0;
    if (P->tableau->second && (P->d % 2 || P->lambda > 0 || P->quadrature)) return 0;
    if (P->loss == PN_LOSS_PROGRAM && (!good_part(P, &P->loss_part, 1) || P->g_y)) return 0;
    if (P->jump.program &&
        !(good_part(P, &P->jump, P->d) && P->y_before && P->lambda == 0 && !P->jump_add && !P->quadrature && !P->sensitivity))
        return 0;
    if (P->loss != PN_LOSS_NONE && !((P->target || P->loss == PN_LOSS_PROGRAM) && P->sample_loss && P->sample_weight)) return 0;
    if (P->sensitivity && !(r && P->gradient == PN_GRAD_NONE && P->lambda == 0 && !P->jump_add && !P->quadrature)) return 0;
    if (P->event && (P->gradient != PN_GRAD_NONE || P->sensitivity || P->quadrature || P->lambda > 0 || P->jump_add ||
                     P->event->has_call || !P->event_direction || !P->event_side || !P->event_which || !P->event_y))
        return 0;
    if (P->solved && !(P->jump.program && P->gradient == PN_GRAD_DISCRETE && P->g_y && only_jumps(P))) return 0;
    if (P->gradient == PN_GRAD_NONE) return 1;
    return r && (P->g_theta || n_gradient(P) == 0) && (P->loss != PN_LOSS_NONE || P->g_y) && !P->jump_set;
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

pn_status pn_solve(const pn_problem *P, int f32, pn_isa isa) {
    if (!pn_isa_available(isa) || !good(P)) return PN_BAD_ARGUMENT;
    const pn_kernels *k = pn_kernels_get(f32, isa, P->n, P->adaptive, P->call != NULL);
    pn_shared s = {.problem = P};
    int32_t threads = P->call ? 1 : P->threads > 0 ? P->threads : 1;
    cut(&s, P->n, k->lanes, threads == 1 && P->gradient == PN_GRAD_NONE && !P->quadrature && !P->sensitivity);
    if (threads > s.n_tasks) threads = s.n_tasks > 0 ? (int32_t)s.n_tasks : 1;
    s.p = P->gradient != PN_GRAD_NONE ? n_gradient(P) : 0;
    s.chunk_rows = P->loss == PN_LOSS_PROGRAM ? rows_of_chunks(&s) : 0;
    s.q = P->quadrature && P->field->n_grads > 0 ? P->field->n_grad[0] : 0;
    s.budget = P->memory > 0 ? P->memory / threads : 0;
    if (P->memory > 0 && s.budget == 0) s.budget = 1;
    pn_status st = rows_for(P->g_theta, s.n_tasks, s.p, &s.task_grad);
    if (st == PN_OK) st = rows_for(P->quadrature, s.n_tasks, s.q, &s.task_quadrature);
    if (st == PN_OK) {
        run_threads(&s, k, threads);
        st = (pn_status)atomic_load(&s.stop);
    }
    if (st == PN_OK && s.task_grad) add_rows(s.task_grad, s.n_tasks, s.p, P->g_theta);
    if (st == PN_OK && s.task_quadrature) add_rows(s.task_quadrature, s.n_tasks, s.q, P->quadrature);
    free(s.task_grad);
    free(s.task_quadrature);
    return st;
}

pn_status pn_evaluate(const pn_program *program, int f32, pn_isa isa, int64_t n, const void *const *slots,
                      const void *const *theta, void *const *outputs, double *const *grads, pn_callback call, void *call_ctx) {
    if (!pn_isa_available(isa) || (program->has_call && !call)) return PN_BAD_ARGUMENT;
    return pn_kernels_get(f32, isa, n, 0, call != NULL)->evaluate(program, n, slots, theta, outputs, grads, call, call_ctx);
}
