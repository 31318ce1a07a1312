/* A thread: memory once, then tasks until none is left. */

#define PN_LARGE_SLOTS 64
#define PN_LARGE_STORE (8 * PN_STORE)
#define PN_STRETCH (PN_STORE >> 5) /* of blocks and files from one shot to the next: they stay in the second-level cache */
#define PN_LIMITED_STORE (PN_STORE >> 3) /* with a budget: more takes longer to write and to read than to make again */

/* Where an evaluation takes longer than memory takes to keep it, some slots more than caches hold are worth their room. */
static size_t FN(store_bytes)(const FN(work) * W) {
    const pn_layout *lay = W->reverse.lay;
    const size_t wanted = (PN_LARGE_SLOTS * W->slot * sizeof(T) + 63) / 64 * 64, most = PN_LARGE_STORE;
    if (lay->pack_size < 64 * (int64_t)lay->file_rows || wanted < PN_STORE) return PN_STORE;
    return wanted < most ? wanted : most;
}

/* The store, and how far apart shots are at first. With a budget it is for a stretch that is made again, and for the first blocks, which are not.
   Where there is no room for the files of a stretch, blocks are kept while they fit, without files; so they are where one sample
   chooses its steps, since that takes longer than its stages do. */
static void FN(plan_store)(FN(work) * W) {
    const size_t slot = W->slot * sizeof(T), block = W->tape.stride;
    W->store_planned = FN(store_bytes)(W);
    W->first_every = PN_FIRST_SHOTS;
    if (!W->limited) return;
    const size_t each = slot + block, most = ((size_t)W->share + block) / each * slot, wanted = (2 * PN_FIRST_SHOTS + 1) * slot;
    if (W->store_planned == PN_STORE) W->store_planned = pn_store_size(wanted > PN_LIMITED_STORE ? wanted : PN_LIMITED_STORE);
    if (W->store_planned > most) W->store_planned = most;
    const int64_t slots = (int64_t)(W->store_planned / slot) - 1, every = (int64_t)(PN_STRETCH / each);
    W->in_stretches = slots >= PN_FIRST_SHOTS && (PN_BLOCK || !W->P->adaptive);
    if (!W->in_stretches)
        W->store_planned = 0;
    else if (every > PN_FIRST_SHOTS)
        W->first_every = every < slots ? every : slots;
}

/* Sizes of what the forward half keeps for the backward half. */
static pn_status FN(prepare_tape)(FN(work) * W) {
    const pn_problem *P = W->P;
    size_t state = P->lambda != 0 ? 0 : (size_t)W->d * L * sizeof(T);
    size_t padding = PN_WHOLE_VECTORS ? 0 : VE * sizeof(T);
    W->tape.stride = W->stretch.stride = (sizeof(FN(block)) + L * sizeof(pn_record) + 2 * state + padding + 7) / 8 * 8;
    W->shots.stride = (sizeof(FN(shot)) + 2 * state + 7) / 8 * 8;
    W->parked.stride = FN(parked_stride)(W);
    if (P->gradient != PN_GRAD_DISCRETE) return PN_OK;
    W->slot = (size_t)W->most_stages * W->files_stride;
    W->limited = W->s->budget > 0;
    W->share = W->s->budget / 2;
    if (W->limited && (PN_FIRST_SHOTS * (int64_t)W->tape.stride > W->share || 2 * (int64_t)W->shots.stride > W->share))
        return PN_BUDGET;
    FN(plan_store)(W);
    return PN_OK;
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
    pn_tape_free(&W->stretch);
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
