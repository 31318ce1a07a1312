/* The reverse half of a chunk: its blocks from the last to the first, then what first steps began with. */

static void FN(begin_back)(FN(work) * W, int l, int32_t j) {
    FN(back) *B = &W->back;
    int64_t i = W->first + j;
    B->sample[l] = i;
    B->local[l] = j;
    int returns = W->P->stiff && B->away[j];
    B->carry[l] = returns ? B->left_carry[j] : 0;
    B->open[l] = 1;
    B->fed[l] = 0;
    if (W->reverse.worn) FN(clear_own)(&W->reverse, (size_t)l);
    if (W->newton.back.worn) FN(clear_own)(&W->newton.back, (size_t)l);
    const T *y = (const T *)W->P->y + (size_t)(W->P->row[i] + n_times(W->P, i) - 1) * (size_t)W->d;
    for (int32_t c = 0; c < W->d; c++) {
        size_t at = (size_t)c * L + (size_t)l;
        B->lambda[at] = returns ? B->left[(size_t)j * (size_t)W->d + (size_t)c] : 0;
        if (B->z) { /* where the reversible scheme starts from */
            B->mu[at] = 0;
            B->y[at] = y[c];
            B->z[at] = W->chunk_z[(size_t)j * (size_t)W->d + (size_t)c];
        }
    }
}

/* The steps of a sample before this one are in some other lane. */
static void FN(leave_back)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    int64_t i = B->sample[l], j = B->local[l];
    if (W->reverse.worn) FN(give_own)(&W->reverse, (size_t)l, P->g_theta + (size_t)i * (size_t)P->n_theta);
    if (W->newton.back.worn) FN(give_own)(&W->newton.back, (size_t)l, P->g_theta + (size_t)i * (size_t)P->n_theta);
    B->open[l] = 0;
    B->away[j] = 1;
    B->left_carry[j] = B->carry[l];
    for (size_t c = 0; c < (size_t)W->d; c++) {
        B->left[(size_t)j * (size_t)W->d + c] = B->lambda[c * L + (size_t)l];
        B->lambda[c * L + (size_t)l] = 0;
    }
}

/* lambda is dL/dy at t0 but for the saves there. */
static void FN(end_back)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    int64_t i = B->sample[l], row = P->row[i];
    if (P->g_t) P->g_t[row] += B->carry[l];
    if (P->theta_each) FN(give_own)(&W->reverse, (size_t)l, P->g_theta + (size_t)i * (size_t)P->n_theta);
    if (W->newton.back.worn) FN(give_own)(&W->newton.back, (size_t)l, P->g_theta + (size_t)i * (size_t)P->n_theta);
    B->open[l] = 0;
    for (int32_t c = 0; has_jumps(P) && c < W->d; c++) /* unjump_starts does the rest */
        W->chunk_lambda[(size_t)B->local[l] * (size_t)W->d + (size_t)c] = B->lambda[(size_t)c * L + (size_t)l];
    for (int64_t j = 0; !has_jumps(P) && j < n_times(P, i) && time_of(P, i, j) == time_of(P, i, 0); j++)
        for (int32_t c = 0; c < W->d; c++) B->lambda[(size_t)c * L + (size_t)l] += (T)FN(cotangent)(W, row + j, c);
    for (int32_t c = 0; c < W->d; c++) {
        size_t at = (size_t)c * L + (size_t)l;
        if (P->g_y0 && !has_jumps(P)) P->g_y0[(size_t)i * (size_t)W->d + (size_t)c] = (double)B->lambda[at] + (B->z ? (double)B->mu[at] : 0);
        B->lambda[at] = B->mu[at] = 0;
    }
}

/* Samples that took no step. */
PN_SMALL static void FN(motionless)(FN(work) * W) {
    for (int32_t j = 0; j < W->count; j++) {
        if (W->P->status[W->first + j] != PN_OK || W->P->accepted[W->first + j] > 0) continue;
        FN(begin_back)(W, 0, j);
        FN(end_back)(W, 0);
    }
}

/* Block i, made again if it was not kept, with all after it up to the next shot. */
static pn_status FN(block_at)(FN(work) * W, int64_t i, FN(block) * *b) {
    pn_status st = PN_OK;
    if (!W->dropped || i < W->kept) {
        *b = pn_tape_at(&W->tape, i);
        return st;
    }
    if ((i + 1) % W->every == 0) W->stretch.n = 0;
    if (W->stretch.n <= i % W->every) {
        int64_t end = W->n_blocks;
        W->stretch.n = 0;
        FN(go_back_to)(W, pn_tape_at(&W->shots, i / W->every));
        W->replaying = 1;
        W->store_used = W->first_slots;
        W->n_blocks = i / W->every * W->every;
        st = FN(go_on)(W, i + 1);
        W->n_blocks = end;
        W->replaying = 0;
        if (st == PN_OK && !FN(same_again)(W, i)) st = PN_REPLAY;
    }
    if (st == PN_OK) *b = pn_tape_at(&W->stretch, i % W->every);
    return st;
}

/* Lanes whose sample has no step in this attempt: set their cotangents aside, and bring them back. A lane without a sample has
   the cotangent 0. */
static void FN(rest)(FN(work) * W, int back) {
    FN(back) *B = &W->back;
    int some = 0;
    for (int l = 0; l < L; l++) some |= B->open[l] & !B->live[l];
    if (!some) return;
    T *x[4] = {B->lambda, B->mu, B->y, B->z};
    int n = B->z ? 4 : 1;
    for (int q = 0; q < n; q++)
        for (size_t l = 0; l < L; l++)
            for (size_t c = 0; !B->live[l] && c < (size_t)W->d; c++) {
                T *at = x[q] + c * L + l, *kept = B->kept[q] + c * L + l;
                if (back) *at = *kept;
                else *kept = *at;
                if (!back && q < 2) *at = 0;
            }
}

/* The lanes' steps of a block; idle lanes copy a live one, so that their numbers stay harmless. 0: no lane has one. */
static int FN(fetch)(FN(work) * W, FN(block) * b) {
    FN(back) *B = &W->back;
    const pn_record *record = B->record = FN(block_records)(b);
    int some = -1;
    for (int l = 0; l < L; l++) {
        if (!(B->live[l] = record[l].local >= 0)) continue;
        B->live[l] = W->P->status[W->first + record[l].local] == PN_OK;
        if (!B->live[l]) b->files = -1; /* they hold a sample that failed later */
        if (!B->live[l]) continue;
        some = l;
        if (!B->open[l]) FN(begin_back)(W, l, record[l].local);
    }
    if (some < 0) return 0;
    FN(rest)(W, 0);
    if (!B->z) {
        FN(copy)(B->y, FN(block_y)(b), (size_t)W->d * L);
        FN(copy)(B->k[0], FN(block_k)(W, b), (size_t)W->d * L);
    }
    for (int l = 0; l < L; l++) {
        int from = B->live[l] ? l : some;
        const pn_record *r = &record[from];
        B->t[l] = r->t;
        B->t_new[l] = r->t_new;
        B->h[l] = r->t_new - r->t;
        W->flow.sample[l] = B->sample[from];
        W->flow.seg[l] = r->seg;
        for (int32_t c = 0; from != l && c < W->d; c++) {
            size_t at = (size_t)c * L + (size_t)l, source = (size_t)c * L + (size_t)from;
            B->y[at] = B->y[source];
            if (B->z) B->z[at] = B->z[source];
            else B->k[0][at] = B->k[0][source];
        }
    }
    FN(wear)(&W->reverse, W->files, W->flow.sample);
    return 1;
}

/* The cotangents of f(t0, y0) that first steps began with, L samples at a time. */
static pn_status FN(starts_back)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    FN(exec) *E = &W->reverse;
    size_t d = (size_t)W->d;
    int64_t j = 0;
    while (j < W->count) {
        double gt[L] = {0}, gh[L] = {0}, h[L] = {0};
        int n = 0;
        memset(B->live, 0, L);
        for (; j < W->count && n < L; j++) {
            int64_t i = W->first + j;
            if (!W->from_start[j]) continue;
            B->live[n] = 1;
            B->sample[n] = W->flow.sample[n] = i;
            B->local[n] = (int32_t)j;
            B->t[n] = time_of(P, i, 0);
            W->flow.seg[n] = first_segment(P, i, B->t[n], time_of(P, i, n_times(P, i) - 1) > B->t[n] ? 1 : -1);
            for (size_t c = 0; c < d; c++) {
                B->y[c * L + (size_t)n] = has_jumps(P) ? W->chunk_y[(size_t)j * d + c] : ((const T *)P->y0)[(size_t)i * d + c];
                B->gk[0][c * L + (size_t)n] = W->chunk_gk[(size_t)j * d + c];
            }
            n++;
        }
        if (n == 0) break;
        for (int l = n; l < L; l++) { /* idle lanes copy the first */
            W->flow.sample[l] = W->flow.sample[0];
            W->flow.seg[l] = W->flow.seg[0];
            B->t[l] = B->t[0];
            for (size_t c = 0; c < d; c++) B->y[c * L + (size_t)l] = B->y[c * L], B->gk[0][c * L + (size_t)l] = 0;
        }
        memcpy(W->active, B->live, L);
        memset(B->g_base, 0, d * L * sizeof(T));
        FN(step) S = {W->files, B->t, h, B->t, B->gk, B->g_base, B->y, P->g_t ? gt : NULL, P->g_t ? gh : NULL, B->k};
        if (FN(stages)(W, E, W->files, W->files_stride, B->y, B->t, h, B->t, B->k, 0, 1) || FN(reverse_stages)(W, &S, 0, 1)) return PN_CALLBACK;
        for (size_t l = 0; P->theta_each && l < L; l++) FN(clear_own)(E, l);
        FN(add_gradient)(E, W->files, W->files_stride, 1);
        for (int l = 0; l < n; l++) {
            int64_t i = B->sample[l];
            if (P->theta_each) FN(give_own)(E, (size_t)l, P->g_theta + (size_t)i * (size_t)P->n_theta);
            if (P->g_t) P->g_t[P->row[i]] += gt[l];
            for (size_t c = 0; c < d; c++) {
                T v = B->g_base[c * L + (size_t)l];
                if (has_jumps(P)) W->chunk_lambda[(size_t)B->local[l] * d + c] += v;
                else if (P->g_y0) P->g_y0[(size_t)i * d + c] += (double)v;
            }
        }
        if (FN(look_up)(W) != PN_OK) return PN_INTERRUPTED;
    }
    return PN_OK;
}

static pn_status FN(run_backward)(FN(work) * W) {
    FN(back) *B = &W->back;
    pn_status st = PN_OK;
    memset(B->open, 0, L);
    FN(clear)(B->lambda, (size_t)W->d * L); /* NaN may be left in lanes without a sample */
    FN(clear)(B->mu, (size_t)W->d * L);
    memset(W->from_start, 0, (size_t)W->count);
    if (W->P->stiff) memset(B->away, 0, (size_t)W->count);
    if (W->dropped && W->kept == 0) st = FN(keep_files)(W);
    FN(motionless)(W);
    for (int64_t i = W->n_blocks; st == PN_OK && i-- > 0;) {
        FN(block) *b = NULL;
        st = FN(block_at)(W, i, &b);
        if (st != PN_OK) continue;
        FN(use)(W, b->way);
        if (!FN(fetch)(W, b)) continue;
        st = B->z ? FN(reversible_back)(W) : FN(step_back)(W, b);
        if (st != PN_OK) return st;
        FN(rest)(W, 1);
        for (int l = 0; l < L; l++)
            if (B->live[l] && B->record[l].first) FN(end_back)(W, l);
            else if (B->live[l] && B->record[l].resumed) FN(leave_back)(W, l);
        st = FN(look_up)(W);
    }
    FN(use)(W, 0);
    if (st == PN_OK) st = FN(starts_back)(W);
    return st == PN_OK && has_jumps(W->P) ? FN(unjump_starts)(W) : st;
}
