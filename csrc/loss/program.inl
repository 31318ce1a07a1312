/* A loss that is a program, l(t, y, target; theta), summed over rows of the result; its cotangents where they are wanted. */

/* n rows of samples of the chunk, one a lane; row[n ..] is -1. */
static pn_status FN(loss_block)(FN(work) * W, const int64_t *row, const int64_t *sample, const double *t, int n) {
    const pn_problem *P = W->P;
    FN(part) *A = &W->loss;
    int grad = P->gradient != PN_GRAD_NONE, d = W->d;
    const pn_layout *lay = A->E.lay;
    T *file = FN(part_file)(A);
    FN(fill_file)(W, A, file, row, t, P->y);
    if (grad) FN(fill_row)(file + (size_t)lay->slot[3] * L, 1);
    if (FN(run)(&A->E, file, lay->n_prologue, grad ? lay->n_reverse : lay->n_forward)) return PN_CALLBACK;
    const T *value = FN(part_output)(A, file, 0), *gy = grad ? FN(part_output)(A, file, 1) : NULL;
    for (size_t l = 0; l < (size_t)n; l++) {
        P->sample_loss[sample[l]] += value ? (double)value[l] : 0;
        P->sample_weight[sample[l]] += 1;
        if (!grad) continue;
        T *to = W->g_rows + (size_t)(row[l] - W->first_row) * (size_t)d;
        for (int32_t c = 0; gy && c < d; c++) to[c] = gy[(size_t)c * L + l];
        FN(part_extra)(W, A, file, row[l], l);
    }
    if (!grad) return PN_OK;
    for (int l = 0; l < L; l++) A->weight[A->used * L + l] = l < n ? 1 : 0;
    A->partly |= n < L;
    if (++A->used == A->most) FN(part_flush)(P, A);
    return PN_OK;
}

/* Loss of the rows of the chunk, and, where a gradient is wanted, its cotangents in g_rows. */
static pn_status FN(loss_rows)(FN(work) * W) {
    const pn_problem *P = W->P;
    int64_t row[L], sample[L], end = W->first + W->count;
    double t[L];
    int n = 0;
    W->first_row = P->row[W->first];
    if (P->gradient != PN_GRAD_NONE)
        memset(W->g_rows, 0, (size_t)(P->row[end - 1] + P->t_len[end - 1] - W->first_row) * (size_t)W->d * sizeof(T));
    for (int64_t i = W->first; i < end; i++) {
        P->sample_loss[i] = P->sample_weight[i] = 0;
        if (P->status[i] != PN_OK) continue;
        for (int64_t j = 0; j < P->t_len[i]; j++) {
            if (!FN(has_data)(&P->loss_part, P->row[i] + j)) continue;
            row[n] = P->row[i] + j;
            sample[n] = i;
            t[n] = time_of(P, i, j);
            if (++n < L) continue;
            pn_status st = FN(loss_block)(W, row, sample, t, n);
            if (st == PN_OK) st = FN(look_up)(W);
            if (st != PN_OK) return st;
            n = 0;
        }
    }
    for (int l = n; l < L; l++) row[l] = -1;
    pn_status st = n ? FN(loss_block)(W, row, sample, t, n) : PN_OK;
    FN(part_flush)(P, &W->loss);
    return st;
}
