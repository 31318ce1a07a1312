/* The forward half of a chunk. */

/* Attempts until every sample is through, or until there are `end` blocks. */
static pn_status FN(go_on)(FN(work) * W, int64_t end) {
    pn_status st = PN_OK;
    while (st == PN_OK && W->n_blocks < end) {
        if (W->limited && !W->replaying && W->n_blocks == W->shots.n * W->every) st = FN(shoot)(W);
        if (st == PN_OK) st = FN(refill)(W);
        if (st == PN_OK && W->unparked < W->parked.n && !FN(any)(W->flow.live)) {
            FN(use)(W, !W->way);
            st = FN(open_newton)(W);
            if (st == PN_OK) st = FN(refill)(W);
        }
        if (st != PN_OK || !FN(any)(W->flow.live)) return st;
        st = W->marching ? FN(march)(W) : FN(attempt)(W);
        if (st == PN_OK) st = FN(look_up)(W);
    }
    return st;
}

static pn_status FN(run_forward)(FN(work) * W) {
    W->tape.n = W->stretch.n = W->shots.n = W->parked.n = W->unparked = W->n_blocks = W->next = 0;
    FN(use)(W, 0);
    W->dropped = 0;
    if (W->P->solved) return PN_OK;
    pn_status st = has_jumps(W->P) ? FN(jump_starts)(W) : PN_OK;
    if (st == PN_OK) st = FN(prepare_chunk)(W);
    FN(take_turns)(W);
    FN(vacate)(&W->flow);
    for (int l = 0; l < L; l++) W->steps[l].n = 0;
    W->every = W->first_every;
    W->kept = 0;
    if (st == PN_OK) st = FN(first_store)(W);
    W->marching = FN(can_march)(W);
    if (st == PN_OK) st = FN(go_on)(W, INT64_MAX);
    return st == PN_OK && W->dropped ? FN(shoot)(W) : st; /* how it ended, see same_again */
}
