/* A chunk of samples from first step to last gradient. */

static pn_status FN(run_chunk)(FN(work) * W, int64_t chunk) {
    const pn_problem *P = W->P;
    W->first = chunk * W->s->chunk;
    W->count = P->n - W->first < W->s->chunk ? P->n - W->first : W->s->chunk;
    W->lanes = W->count < L ? (int)W->count : L;
    W->knots = 0;
    for (int64_t i = W->first; P->degree >= 0 && i < W->first + W->count; i++) W->knots |= P->knot_len[i] > 2;
    pn_status st = FN(run_forward)(W);
    if (st != PN_OK) return st;
    if (P->loss == PN_LOSS_PROGRAM && (st = FN(loss_rows)(W)) != PN_OK) return st;
    for (int64_t i = W->first; P->loss != PN_LOSS_NONE && P->loss != PN_LOSS_PROGRAM && i < W->first + W->count; i++) {
        P->sample_loss[i] = P->sample_weight[i] = 0;
        if (P->status[i] == PN_OK) FN(sample_loss)(P, i);
    }
    return P->gradient == PN_GRAD_NONE ? PN_OK : FN(run_backward)(W);
}
