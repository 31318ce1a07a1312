/* Jumps y+ = J(t, y-, x; theta) at save times. */

/* The lanes with a row (not -1) are at its time t: keep y-, jump where there are data, write the row. jumped[l] |= 1 */
static pn_status FN(jump_lanes)(FN(work) * W, const int64_t *row, const double *t, T *y) {
    const pn_problem *P = W->P;
    FN(part) *A = &W->jump;
    const pn_layout *lay = A->E.lay;
    int64_t moving[L];
    int any = 0;
    for (size_t l = 0; l < L; l++) {
        int moves = row[l] >= 0 && FN(has_data)(&P->jump, row[l]);
        moving[l] = moves ? row[l] : -1;
        any |= moves;
        if (row[l] < 0) continue;
        T *to = (T *)P->y_before + (size_t)row[l] * (size_t)W->d;
        for (int32_t c = 0; c < W->d; c++) to[c] = y[(size_t)c * L + l];
    }
    if (any) {
        FN(fill_file)(W, A, A->files, moving, t, P->y_before);
        if (FN(run)(&A->E, A->files, lay->n_prologue, lay->n_forward)) return PN_CALLBACK;
        const T *out = FN(part_output)(A, A->files, 0);
        for (int32_t c = 0; c < W->d; c++)
            for (size_t l = 0; l < L; l++)
                if (moving[l] >= 0) y[(size_t)c * L + l] = out ? out[(size_t)c * L + l] : 0;
    }
    for (size_t l = 0; l < L; l++) {
        if (row[l] >= 0) FN(save_row)(W, row[l], y + l);
        W->jumped[l] |= moving[l] >= 0;
    }
    return PN_OK;
}

/* A jump to NaN or infinity at time t of the sample's save time j ends the sample. Where it is finite: 0. */
static int FN(jump_fails)(FN(work) * W, int l, int32_t j, double t) {
    FN(flow) *f = &W->flow;
    double bad = 0;
    for (int32_t c = 0; c < W->d; c++) bad += (double)f->y_new[(size_t)c * L + (size_t)l] * 0;
    if (bad == 0) return 0;
    f->save[l] = j;
    FN(fail)(W, l, PN_NON_FINITE);
    W->P->stop_t[f->sample[l]] = t;
    return 1;
}

/* The save times at the ends of the accepted steps, in order; of several at one time each jump starts from the last one's
   result. */
static pn_status FN(jump_saves)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int32_t next[L], at[L] = {0};
    memcpy(next, f->ends, sizeof next);
    memset(W->jumped, 0, L);
    for (int any = 1; any;) {
        int64_t row[L];
        double t[L] = {0};
        any = 0;
        for (int l = 0; l < L; l++) {
            int64_t i = f->sample[l];
            row[l] = -1;
            if (!f->accepted[l] || next[l] == f->save_end[l]) continue;
            at[l] = next[l]++;
            t[l] = time_of(P, i, at[l]);
            row[l] = P->row[i] + at[l];
            any = 1;
        }
        pn_status st = any ? FN(jump_lanes)(W, row, t, f->y_new) : PN_OK;
        for (int l = 0; st == PN_OK && l < L; l++) {
            if (row[l] < 0 || !W->jumped[l] || !FN(jump_fails)(W, l, at[l], t[l])) continue;
            f->accepted[l] = 0;
            st = FN(finish)(W, l);
        }
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

static inline int FN(is_initial)(const pn_problem *P, int64_t i, int32_t j) {
    return j < n_times(P, i) && time_of(P, i, j) == time_of(P, i, 0);
}

/* L samples of the chunk from number `base` on: row[l] of their save time j at the initial time; -1: has none. How many. */
static int FN(initial_rows)(const FN(work) * W, int64_t base, int32_t j, int64_t *row, double *t) {
    const pn_problem *P = W->P;
    int n = 0;
    for (int l = 0; l < L; l++) {
        int64_t i = W->first + base + l;
        row[l] = base + l < W->count && FN(is_initial)(P, i, j) ? P->row[i] + j : -1;
        if (row[l] < 0) continue;
        t[l] = time_of(P, i, 0);
        n++;
    }
    return n;
}

/* chunk_y = the states after the jumps at the initial times, L samples at a time. */
PN_SMALL static pn_status FN(jump_starts)(FN(work) * W) {
    const T *y0 = (const T *)W->P->y0 + (size_t)W->first * (size_t)W->d;
    size_t d = (size_t)W->d;
    for (int64_t base = 0; base < W->count; base += L) {
        int64_t row[L], some = W->count - base < L ? W->count - base : L;
        double t[L];
        FN(gather_lanes)(W->spare, y0, base, some, W->d);
        for (int32_t j = 0; FN(initial_rows)(W, base, j, row, t); j++) {
            pn_status st = FN(jump_lanes)(W, row, t, W->spare);
            if (st != PN_OK) return st;
        }
        for (size_t l = 0; l < (size_t)some; l++)
            for (size_t c = 0; c < d; c++) W->chunk_y[((size_t)base + l) * d + c] = W->spare[c * L + l];
    }
    return PN_OK;
}

/* The sample of lane l, at its initial time, has taken its jumps there: its state is loaded. 1: it has failed. */
static int FN(jump_open)(FN(work) * W, int l) {
    FN(flow) *f = &W->flow;
    while (FN(is_initial)(W->P, f->sample[l], f->save[l])) f->save[l]++;
    for (int32_t c = 0; c < W->d; c++) f->y_new[(size_t)c * L + (size_t)l] = f->y[(size_t)c * L + (size_t)l];
    return FN(jump_fails)(W, l, 0, f->t[l]);
}
