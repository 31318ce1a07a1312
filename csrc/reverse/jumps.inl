/* Back through jumps, lambda- = (dJ/dy)^T lambda+. */

/* lambda of the lanes with a row (not -1): += its cotangent, then, where it jumped, lambda- = (dJ/dy)^T lambda+. */
static pn_status FN(unjump_lanes)(FN(work) * W, const int64_t *row, const double *t, T *lambda) {
    const pn_problem *P = W->P;
    FN(part) *A = &W->jump_back;
    const pn_layout *lay = A->E.lay;
    T *file = FN(part_file)(A), *weight = A->weight + A->used * L;
    int64_t moving[L];
    int any = 0;
    for (size_t l = 0; l < L; l++) {
        int moves = row[l] >= 0 && FN(has_data)(&P->jump, row[l]);
        moving[l] = moves ? row[l] : -1;
        weight[l] = moves ? 1 : 0;
        any |= moves;
        for (int32_t c = 0; row[l] >= 0 && c < W->d; c++) lambda[(size_t)c * L + l] += (T)FN(cotangent)(W, row[l], c);
    }
    if (!any) return PN_OK;
    FN(fill_file)(W, A, file, moving, t, P->y_before);
    for (int l = 0; l < L; l++) A->partly |= weight[l] == 0;
    FN(copy)(file + (size_t)lay->slot[3] * L, lambda, (size_t)W->d * L);
    if (FN(run)(&A->E, file, lay->n_prologue, lay->n_reverse)) return PN_CALLBACK;
    const T *gy = FN(part_output)(A, file, 1);
    for (int32_t c = 0; c < W->d; c++)
        for (size_t l = 0; l < L; l++)
            if (weight[l] != 0) lambda[(size_t)c * L + l] = gy ? gy[(size_t)c * L + l] : 0;
    for (size_t l = 0; l < L; l++)
        if (weight[l] != 0) FN(part_extra)(W, A, file, row[l], l);
    if (++A->used == A->most) FN(part_flush)(P, A);
    return PN_OK;
}

/* The save times at the ends of the steps that go back now, from the last to the first. */
static pn_status FN(unjump_saves)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    int32_t next[L];
    for (int l = 0; l < L; l++) next[l] = B->live[l] ? B->record[l].save_end : 0;
    for (int any = 1; any;) {
        int64_t row[L];
        double t[L];
        any = 0;
        for (int l = 0; l < L; l++) {
            int64_t i = B->sample[l];
            row[l] = -1;
            if (!B->live[l] || next[l] == B->record[l].ends) continue;
            t[l] = time_of(P, i, --next[l]);
            row[l] = P->row[i] + next[l];
            any = 1;
        }
        pn_status st = any ? FN(unjump_lanes)(W, row, t, B->lambda) : PN_OK;
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

/* From chunk_lambda, the cotangents of the states after the jumps at the initial times, to those of y0. */
PN_SMALL static pn_status FN(unjump_starts)(FN(work) * W) {
    const pn_problem *P = W->P;
    size_t d = (size_t)W->d;
    for (int64_t base = 0; base < W->count; base += L) {
        int64_t row[L], some = W->count - base < L ? W->count - base : L;
        double t[L];
        int32_t most = 0;
        FN(gather_lanes)(W->spare, W->chunk_lambda, base, some, W->d);
        while (FN(initial_rows)(W, base, most, row, t)) most++;
        while (most-- > 0) {
            FN(initial_rows)(W, base, most, row, t);
            for (int64_t l = 0; l < some; l++)
                if (P->status[W->first + base + l] != PN_OK) row[l] = -1;
            pn_status st = FN(unjump_lanes)(W, row, t, W->spare);
            if (st != PN_OK) return st;
        }
        for (size_t l = 0; P->g_y0 && l < (size_t)some; l++) {
            size_t i = (size_t)(W->first + base) + l;
            for (size_t c = 0; P->status[i] == PN_OK && c < d; c++) P->g_y0[i * d + c] = (double)W->spare[c * L + l];
        }
    }
    FN(part_flush)(P, &W->jump_back);
    return PN_OK;
}
