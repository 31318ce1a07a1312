/* A chunk of samples from first step to last gradient. */

/* Sensitivities that are not finite: what they belong to did not go wrong, so it is said here. */
static void FN(check_sensitivities)(const FN(work) * W) {
    const pn_problem *P = W->P;
    size_t size = (size_t)W->d * (size_t)W->columns;
    for (int64_t i = W->first; i < W->first + W->count; i++)
        if (P->status[i] == PN_OK && !pn_all_finite(P->sensitivity + (size_t)P->row[i] * size, (size_t)P->t_len[i] * size))
            P->status[i] = PN_GRADIENT;
}

/* The samples at hand: first .. first + count - 1, no more than a chunk. */
static void FN(take_chunk)(FN(work) * W, int64_t first, int64_t count) {
    const pn_problem *P = W->P;
    W->first = first;
    W->count = count;
    W->lanes = W->count < L ? (int)W->count : L;
    W->knots = 0;
    for (int64_t i = W->first; P->degree >= 0 && i < W->first + W->count; i++) W->knots |= P->knot_len[i] > 2 && !crosses_knots(P, i);
}

/* All of them. */
static pn_status FN(run_chunk)(FN(work) * W, int64_t first, int64_t count) {
    const pn_problem *P = W->P;
    FN(take_chunk)(W, first, count);
    pn_status st = FN(run_forward)(W);
    if (st != PN_OK) return st;
    if (FN(has_sensitivities)(W)) FN(check_sensitivities)(W);
    for (int64_t i = 0; W->screening && i < W->count; i++)
        if (W->left_out[W->first - W->screened + i]) P->status[W->first + i] = PN_GRADIENT;
    if (P->loss == PN_LOSS_PROGRAM && (st = FN(loss_rows)(W)) != PN_OK) return st;
    for (int64_t i = W->first; P->loss != PN_LOSS_NONE && P->loss != PN_LOSS_PROGRAM && i < W->first + W->count; i++) {
        P->sample_loss[i] = P->sample_weight[i] = 0;
        if (P->status[i] == PN_OK) V(sample_loss)(P, i);
    }
    return P->gradient == PN_GRAD_NONE ? PN_OK : FN(run_backward)(W);
}
