/* Checkpoints, where the memory of the way back is limited: shots of the forward half, from which dropped blocks are made
   again. */

#define PN_FIRST_SHOTS 4           /* blocks from one shot to the next, at first */
#define PN_LEAST_SHOTS (256 << 10) /* bytes of shots that a smaller budget, too, has room for */

/* The forward half between two attempts; y and k_0 follow. */
typedef struct FN(shot) {
    FN(flow) flow;
    int64_t next, parked, unparked;
    int64_t way, marching;
} FN(shot);

static pn_status FN(shoot)(FN(work) * W) {
    size_t state = (size_t)W->d * L * sizeof(T);
    FN(shot) *to = pn_tape_push(&W->shots);
    if (!to) return PN_MEMORY;
    memcpy(&to->flow, &W->flow, sizeof W->flow);
    to->next = W->next, to->parked = W->parked.n, to->unparked = W->unparked, to->way = W->way, to->marching = W->marching;
    memcpy((char *)(to + 1), W->flow.y, state);
    memcpy((char *)(to + 1) + state, W->flow.k[0], state);
    return PN_OK;
}

static void FN(go_back_to)(FN(work) * W, const FN(shot) * from) {
    size_t state = (size_t)W->d * L * sizeof(T);
    memcpy(&W->flow, &from->flow, sizeof W->flow);
    W->next = from->next, W->parked.n = from->parked, W->unparked = from->unparked;
    W->marching = (int)from->marching;
    FN(use)(W, (int)from->way);
    memcpy(W->flow.y, (const char *)(from + 1), state);
    memcpy(W->flow.k[0], (const char *)(from + 1) + state, state);
}

/* Whether block i, the last before a shot or the end, was made again with the others of its stretch as it was. */
static int FN(same_again)(const FN(work) * W, int64_t i) {
    const FN(shot) *after = pn_tape_at(&W->shots, i / W->every + 1);
    const T *y = (const T *)(after + 1);
    if (W->stretch.n <= i % W->every) return 0;
    for (int l = 0; l < L; l++) { /* a lane whose sample has ended holds anything */
        if (!after->flow.live[l] || !W->flow.live[l]) continue;
        if (memcmp(&after->flow.t[l], &W->flow.t[l], sizeof *W->flow.t)) return 0;
        for (size_t at = (size_t)l; at < (size_t)W->d * L; at += L)
            if (memcmp(&y[at], &W->flow.y[at], sizeof(T))) return 0;
    }
    return 1;
}

/* Half of the budget is for blocks and their files, half for shots. Blocks beyond it are not kept any more: those between two shots are made
   again on the way back. Too many shots: keep every second one, and no block, as a stretch has become longer. */
PN_RARE static pn_status FN(budget_spent)(FN(work) * W) {
    const int64_t block = (int64_t)W->tape.stride;
    if (!W->dropped && (W->in_stretches ? W->store_used == W->first_slots : (W->tape.n + 1) * block > W->share)) {
        W->dropped = 1;
        W->kept = W->in_stretches && W->every == W->first_every ? W->tape.n : 0;
        if (W->kept == 0) pn_tape_free(&W->tape);
    }
    while (W->shots.n * (int64_t)W->shots.stride > (W->share > PN_LEAST_SHOTS ? W->share : PN_LEAST_SHOTS)) {
        W->every *= 2;
        for (int64_t i = 0; 2 * i < W->shots.n; i++)
            memcpy(pn_tape_at(&W->shots, i), pn_tape_at(&W->shots, 2 * i), W->shots.stride);
        W->shots.n = (W->shots.n + 1) / 2;
        W->kept = 0;
        if (W->dropped) pn_tape_free(&W->tape);
    }
    return W->every * block > W->share ? PN_BUDGET : PN_OK;
}
