/* A thread: memory once, then tasks until none is left. */

#define PN_LARGE_SLOTS 64
#define PN_LARGE_STORE (8 * PN_STORE)

/* Where an evaluation takes longer than memory takes to keep it, some slots more than caches hold are worth their room. */
static size_t FN(store_bytes)(const FN(work) * W) {
    const pn_layout *lay = W->reverse.lay;
    const size_t wanted = (PN_LARGE_SLOTS * W->slot * sizeof(T) + 63) / 64 * 64, most = PN_LARGE_STORE;
    if (lay->pack_size < 64 * (int64_t)lay->file_rows || wanted < PN_STORE) return PN_STORE;
    return wanted < most ? wanted : most;
}

/* Sizes of what the forward half keeps for the backward half; the store for register files, so that stages are not evaluated
   twice, if there is no budget. */
static pn_status FN(prepare_tape)(FN(work) * W) {
    const pn_problem *P = W->P;
    size_t state = P->lambda != 0 ? 0 : (size_t)W->d * L * sizeof(T);
    size_t padding = PN_BLOCK && !PN_PAIR ? 0 : VE * sizeof(T);
    W->tape.stride = (sizeof(FN(block)) + L * sizeof(pn_record) + 2 * state + padding + 7) / 8 * 8;
    W->shots.stride = (sizeof(FN(shot)) + 2 * state + 7) / 8 * 8;
    W->parked.stride = FN(parked_stride)(W);
    if (P->gradient != PN_GRAD_DISCRETE) return PN_OK;
    W->slot = (size_t)W->most_stages * W->files_stride;
    W->limited = W->s->budget > 0;
    if (W->limited) {
        int64_t room = W->s->budget / 2;
        return PN_FIRST_SHOTS * (int64_t)W->tape.stride > room || 2 * (int64_t)W->shots.stride > room ? PN_BUDGET : PN_OK;
    }
    return FN(take_store)(W, FN(store_bytes)(W));
}

static inline int64_t FN(chunk_size)(const FN(work) * W, int64_t chunk) {
    int64_t left = W->P->n - chunk * W->s->chunk;
    return left < W->s->chunk ? left : W->s->chunk;
}

static pn_status FN(run_task)(FN(work) * W, int64_t task) {
    pn_shared *s = W->s;
    int64_t begin = task * s->chunks_per_task, end = begin + s->chunks_per_task;
    double *grad = s->task_grad ? s->task_grad + task * s->p : NULL;
    pn_status st = PN_OK;
    if (end > s->n_chunks) end = s->n_chunks;
    FN(begin_gradient)(W, grad);
    if (s->task_quadrature) W->field.grad[0] = s->task_quadrature + task * s->q;
    for (int64_t c = begin; st == PN_OK && c < end; c++) st = FN(run_chunk)(W, c * s->chunk, FN(chunk_size)(W, c));
    FN(end_gradient)(W);
    if (s->task_quadrature) FN(flush)(&W->field);
    if (st != PN_OK || W->P->gradient == PN_GRAD_NONE) return st;
    int64_t first = begin * s->chunk, last = end * s->chunk;
    if (last > W->P->n) last = W->P->n;
    if (gradient_finite(W->P, grad, W->s->p, first, last - first)) return st;
    if (grad) memset(grad, 0, (size_t)s->p * sizeof(double));
    for (int64_t c = begin; st == PN_OK && c < end; c++) st = FN(screen_chunk)(W, grad, c * s->chunk, FN(chunk_size)(W, c));
    return st;
}

static FN(work) * FN(new_work)(void) {
    FN(work) *W = malloc(sizeof *W);
    if (W) memset(W, 0, offsetof(FN(work), of));
    return W;
}

static void FN(free_lists)(FN(work) * W) {
    for (int l = 0; l < L; l++) free(W->steps[l].x);
    pn_tape_free(&W->shots);
    pn_tape_free(&W->parked);
    FN(free_whole)(&W->newton.whole);
    pn_aligned_free(W->late.base);
}

static void FN(discard)(void *work) {
    FN(work) *W = work;
    if (!W) return;
    FN(free_lists)(W);
    pn_tape_free(&W->tape);
    pn_store_give(W->store, W->store_bytes);
    pn_aligned_free(W->arena.base);
    pn_aligned_free(W->old);
    free(W);
}

/* What an earlier solve worked with becomes as it was allocated, but for memory that may serve again. */
static void FN(recover)(FN(work) * W) {
    T *store = W->store;
    pn_tape tape = W->tape;
    char *base = W->arena.base;
    size_t room = W->room, store_bytes = W->store_bytes;
    FN(free_lists)(W);
    memset(W, 0, offsetof(FN(work), of));
    W->store = store, W->store_bytes = store_bytes, W->tape = tape, W->old = base, W->room = room;
}

/* Room for everything that has a size; that of an earlier solve, where it is as large. */
static int FN(allocate)(FN(work) * W) {
    FN(carve)(W);
    const size_t zeroed = W->arena.used, room = zeroed + W->arena.plain;
    if (W->old && W->room == room) {
        W->arena = (pn_arena){.base = memset(W->old, 0, zeroed), .zeroed = zeroed};
    } else {
        pn_aligned_free(W->old);
        W->old = NULL;
        pn_tape_free(&W->tape);
        if (!pn_arena_allocate(&W->arena)) return 0;
    }
    W->old = NULL;
    W->room = room;
    FN(carve)(W);
    return 1;
}

static pn_status FN(set_up)(FN(work) * W, pn_shared *s, int main) {
    const pn_problem *P = s->problem;
    if (W->s) FN(recover)(W);
    W->s = s, W->P = P, W->main = main, W->d = P->d, W->m = P->m;
    V(read_table)(&W->of[0], P->tableau, P->d, P->stiff != NULL);
    W->most_stages = W->of[0].stages;
    if (P->stiff) {
        V(read_table)(&W->of[1], P->stiff, P->d, 1);
        if (W->of[1].stages > W->most_stages) W->most_stages = W->of[1].stages;
    }
    FN(use)(W, 0);
    if (!FN(allocate)(W)) return PN_MEMORY;
    for (int l = 0; l < L; l++) W->u_sample[l] = W->newton.sample[l] = -1;
    if (W->newton.sparse && !FN(allocate_whole)(&W->newton.whole, W->d)) return PN_MEMORY;
    pn_status st = FN(prepare_tape)(W);
    if (st != PN_OK) return st;
    W->last_poll = FN(clock)();
    W->costly = (W->field.lay->pack_size + W->field.lay->file_rows) * L > 1 << 15;
    FN(vacate)(&W->flow);
    FN(ready)(&W->field, W->file);
    if (P->event) FN(ready)(&W->watch.exec, W->watch.file);
    if (W->reverse.prog && !FN(has_sensitivities)(W)) FN(ready)(&W->reverse, W->files);
    if (W->newton.J.prog) FN(ready)(&W->newton.J, W->newton.file);
    if (W->newton.back.prog) FN(ready)(&W->newton.back, W->newton.back_file);
    FN(ready_parts)(W);
    return PN_OK;
}
