/* What is kept of an attempt for the way back: a block, and register files while there is room. */

/* Parts of a block. */
static inline pn_record *FN(block_records)(FN(block) * b) { return (pn_record *)(void *)(b + 1); }
static inline T *FN(block_y)(FN(block) * b) { return (T *)(void *)(FN(block_records)(b) + L); }
static inline T *FN(block_k)(const FN(work) * W, FN(block) * b) { return FN(block_y)(b) + (size_t)W->d * L; }

/* Idle lanes follow a live one, so that their register files hold harmless numbers on the way back. */
static void FN(shadow)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    int some = 0;
    while (!f->live[some]) some++;
    for (int l = 0; l < L; l++) {
        W->shadow[l] = !f->live[l];
        if (f->live[l]) continue;
        f->t[l] = f->t[some];
        f->h[l] = f->h[some];
        f->t_new[l] = f->t_new[some];
        f->sample[l] = f->sample[some], f->seg[l] = f->seg[some];
        for (size_t c = 0; c < (size_t)W->d; c++) {
            f->y[c * L + (size_t)l] = f->y[c * L + (size_t)some];
            f->k[0][c * L + (size_t)l] = f->k[0][c * L + (size_t)some];
        }
    }
    W->shadowed = some;
}

/* The store for register files; none, where it has no room for one and for what the reverse segment writes. */
static pn_status FN(take_store)(FN(work) * W, size_t bytes) {
    if (W->store && W->store_bytes != bytes) {
        pn_store_give(W->store, W->store_bytes);
        W->store = NULL;
        W->files = W->own_files;
    }
    W->store_room = bytes ? (int64_t)(bytes / sizeof(T) / W->slot) : 0;
    if (W->store_room < 2) return PN_OK;
    if (!W->store) W->store = pn_store_take(W->store_bytes = bytes);
    if (!W->store) return PN_MEMORY;
    W->files = W->store;
    return PN_OK;
}

/* The store that a chunk goes forward with. */
static pn_status FN(first_store)(FN(work) * W) {
    W->store_used = 1;
    pn_status st = FN(take_store)(W, W->store_planned);
    W->first_slots = W->in_stretches ? W->store_room - W->first_every : W->store_room;
    return st;
}

/* Where all blocks are made again: what those between two shots leave of their half of the budget has room for register files. */
static pn_status FN(keep_files)(FN(work) * W) {
    const int64_t left = W->share - W->every * (int64_t)W->tape.stride, slot = (int64_t)(W->slot * sizeof(T));
    const int64_t slots = left / slot < W->every + 1 ? left / slot : W->every + 1;
    W->first_slots = 1;
    if (W->store_room >= slots && (int64_t)W->store_bytes <= left) return PN_OK;
    return FN(take_store)(W, (size_t)(slots > 0 ? slots * slot : 0));
}

/* Where the stages of this attempt are evaluated. 1: in the store, for the way back. */
static int FN(choose_files)(FN(work) * W) {
    int stored = W->store_used < (W->replaying ? W->store_room : W->first_slots);
    W->now = stored ? &W->reverse : &W->field;
    W->now_file = stored ? W->store + (size_t)W->store_used * W->slot : W->file;
    W->now_stride = stored ? W->files_stride : W->stage_stride;
    return stored;
}

/* Lanes whose attempt failed, and their shadows, copy one that moved, for the same reason. */
static void FN(fill_files)(FN(work) * W, int some, int from) {
    const FN(flow) *f = &W->flow;
    for (int i = from; i < W->evaluated; i++)
        for (int l = 0; l < L; l++) {
            if (f->accepted[l] || (W->shadow[l] && f->accepted[W->shadowed])) continue;
            T *file = W->now_file + (size_t)i * W->now_stride;
            for (size_t row = 0; row < (size_t)W->reverse.lay->forward_rows; row++) file[row * L + (size_t)l] = file[row * L + (size_t)some];
        }
}

/* Keep the attempt for the way back. */
static pn_status FN(keep)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    const pn_problem *P = W->P;
    size_t size = (size_t)W->d * L;
    int some = 0, here = 1;
    W->n_blocks++;
    if (W->limited && !W->replaying) {
        pn_status st = FN(budget_spent)(W);
        if (st != PN_OK || W->dropped) return st;
    }
    FN(block) *b = pn_tape_push(W->replaying ? &W->stretch : &W->tape);
    if (!b) return PN_MEMORY;
    for (int l = 0; l < L; l++) {
        pn_record *r = &FN(block_records)(b)[l];
        r->local = -1;
        if (!f->accepted[l]) continue;
        some = l;
        here &= f->source[l] == PN_SOURCE_HERE;
        *r = (pn_record){.t = f->t[l], .t_new = f->t_new[l], .save = f->save[l], .ends = f->ends[l], .save_end = f->save_end[l], .seg = f->seg[l],
                         .local = (int32_t)(f->sample[l] - W->first), .first = f->index[l] == 0, .resumed = f->resumed[l], .source = f->source[l],
                         .landed = f->landed[l] && (P->land || has_jumps(P) || f->save_end[l] == n_times(P, f->sample[l]))};
    }
    *b = (FN(block)){.files = -1, .n = W->evaluated, .here = here, .way = W->way};
    if (f->z) return PN_OK; /* its states are found again from the end */
    FN(copy)(FN(block_y)(b), f->y, size); /* first: its padding is the place of k_0 */
    FN(copy)(FN(block_k)(W, b), f->k[0], size);
    if (W->now != &W->reverse) return PN_OK;
    FN(fill_files)(W, some, !here);
    b->files = W->store_used++;
    return PN_OK;
}
