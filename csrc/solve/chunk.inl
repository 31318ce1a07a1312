/* A chunk of samples from first step to last gradient, and the thread that works through chunks. */

/* ---- loading lanes ------------------------------------------------------------------------------------------------------ */
static void FN(load_state)(FN(work) * W, int l, const T *y) {
    FN(flow) *f = &W->flow;
    for (int32_t c = 0; c < W->d; c++) {
        f->y[(size_t)c * L + (size_t)l] = y[c];
        if (f->z) f->z[(size_t)c * L + (size_t)l] = y[c];
    }
}

static int32_t FN(first_segment)(const pn_problem *P, int64_t i, double t, double dir) {
    if (P->degree < 0) return 0;
    const double *knot = P->knot + P->knot_start[i];
    int32_t seg = 0, last = (int32_t)P->knot_len[i] - 2;
    while (seg < last && (dir >= 0 ? knot[seg + 1] <= t : knot[seg + 1] < t)) seg++;
    return seg;
}

static int FN(finite_sample)(const FN(work) * W, int64_t i) {
    const pn_problem *P = W->P;
    const T *y0 = (const T *)P->y0 + (size_t)i * (size_t)W->d;
    double bad = 0;
    for (int32_t c = 0; c < W->d; c++) bad += (double)y0[c] * 0;
    if (P->degree >= 0) {
        int64_t per = (int64_t)(P->degree + 1) * P->m;
        const T *coef = (const T *)P->coef + (size_t)(P->seg_start[i] * per);
        for (int64_t e = 0; e < (P->knot_len[i] - 1) * per; e++) bad += (double)coef[e] * 0;
    }
    return bad == 0;
}

/* Put sample i into lane l at its initial time, with the save times there written. live[l]: it has steps to take. */
static pn_status FN(open)(FN(work) * W, int l, int64_t i) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    f->sample[l] = i;
    f->live[l] = 1;
    f->have_k[l] = f->again[l] = 0;
    f->save[l] = f->grid[l] = f->jump_at[l] = 0;
    f->index[l] = f->attempts[l] = f->evals[l] = f->rejects[l] = 0;
    f->source[l] = PN_SOURCE_HERE;
    f->t[l] = FN(time_of)(P, i, 0);
    f->t_last[l] = FN(time_of)(P, i, FN(n_times)(P, i) - 1);
    f->dir[l] = f->t_last[l] > f->t[l] ? 1 : f->t_last[l] < f->t[l] ? -1 : 0;
    f->c0[l] = P->adaptive ? P->first_step : f->t[l];
    f->c1[l] = 0;
    f->seg[l] = FN(first_segment)(P, i, f->t[l], f->dir[l]);
    if (!W->replaying) {
        P->status[i] = PN_OK;
        P->stop_t[i] = f->t_last[l];
        P->stop_component[i] = -1;
    }
    const T *y = P->jump.program ? W->chunk_y + (size_t)(i - W->first) * (size_t)W->d : (const T *)P->y0 + (size_t)i * (size_t)W->d;
    FN(load_state)(W, l, y);
    if (!FN(finite_sample)(W, i)) {
        FN(fail)(W, l, PN_BAD_INPUT);
        return FN(finish)(W, l);
    }
    if (P->jump.program && FN(jump_open)(W, l)) return FN(finish)(W, l);
    while (f->save[l] < FN(n_times)(P, i) && FN(time_of)(P, i, f->save[l]) == f->t[l]) {
        if (P->sensitivity) FN(sens_first)(W, P->row[i] + f->save[l]);
        FN(jump)(P, P->row[i] + f->save[l], W->d, f->y + l);
        FN(save_row)(W, P->row[i] + f->save[l]++, f->y + l);
    }
    if (f->save[l] == FN(n_times)(P, i)) return FN(finish)(W, l);
    f->t_save[l] = FN(time_of)(P, i, f->save[l]);
    return PN_OK;
}

/* Bytes of register files that a thread keeps for the way back, so that stages are not evaluated twice. */
#ifndef PN_STORE
#define PN_STORE ((size_t)16 << 20)
#define PN_FIRST_SHOTS 4           /* blocks from one shot to the next, at first */
#define PN_LEAST_SHOTS (256 << 10) /* bytes of shots that a smaller budget, too, has room for */
#endif

static void FN(vacate)(FN(flow) * f) {
    memset(f->live, 0, L);
    memset(f->accepted, 0, L);
    memset(f->have_k, 0, L);
    for (int l = 0; l < L; l++) f->sample[l] = -1;
}

/* ---- the first step (Hairer, Norsett, Wanner, Solving ODEs I, II.4, "Starting step size") ------------------------------- */
static void FN(weighted_norm)(const FN(work) * W, const T *x, double *norm) {
    const FN(flow) *f = &W->flow;
    for (int l = 0; l < L; l++) norm[l] = 0;
    for (int32_t c = 0; c < W->d; c++)
        for (size_t l = 0; l < L; l++) {
            double q = (double)x[(size_t)c * L + l] / (W->P->atol[c] + W->P->rtol * fabs((double)f->y[(size_t)c * L + l]) + PN_TINY);
            norm[l] += q * q;
        }
    for (int l = 0; l < L; l++) norm[l] = sqrt(norm[l] / W->d);
}

/* A step that moves t by some of its last digits. */
static double FN(least_step)(const FN(flow) * f, int l) { return 16 * 2.220446049250313e-16 * fabs(f->t[l]); }

static int FN(first_steps)(FN(work) * W, double *h1) {
    FN(flow) *f = &W->flow;
    double d0[L], d1[L], d2[L], h[L], probe[L];
    const FN(terms) euler = {.n = 1, .a = {1}};
    T *state = FN(state_slot)(&W->field, W->file), *k0 = f->k[0], *k1 = f->k[1];
    size_t size = (size_t)W->d * L;
    memcpy(W->active, f->live, L);
    memcpy(state, f->y, size * sizeof(T));
    if (FN(eval)(W, &W->field, W->file, f->t, k0)) return 1;
    FN(weighted_norm)(W, f->y, d0);
    FN(weighted_norm)(W, k0, d1);
    for (int l = 0; l < L; l++) {
        double span = fabs(f->t_last[l] - f->t[l]), least = FN(least_step)(f, l);
        h[l] = d0[l] < 1e-5 || !(d1[l] >= 1e-5) ? 1e-6 : 0.01 * d0[l] / d1[l];
        if (!(h[l] > 0)) h[l] = 1e-6; /* the norms overflow */
        if (h[l] < least) h[l] = least;
        if (h[l] > span) h[l] = span;
        probe[l] = f->t[l] + f->dir[l] * h[l];
        f->h[l] = f->dir[l] * h[l];
    }
    FN(combine)(state, f->y, f->h, &euler, &k0, W->d);
    if (FN(eval)(W, &W->field, W->file, probe, k1)) return 1;
    for (size_t e = 0; e < size; e++) k1[e] -= k0[e];
    FN(weighted_norm)(W, k1, d2);
    FN(count_evals)(f, f->live, 2);
    for (int l = 0; l < L; l++) {
        double most = d1[l] > d2[l] / h[l] ? d1[l] : d2[l] / h[l];
        double next = most > 1e-15 ? pow(PN_FIRST / most, 1.0 / (W->tab->error_order + 1)) : (1e-6 > h[l] * 1e-3 ? 1e-6 : h[l] * 1e-3);
        h1[l] = next < 100 * h[l] ? next : 100 * h[l];
        if (!(h1[l] > 0)) h1[l] = h[l]; /* not finite: the step control will shrink it */
        if (h1[l] < FN(least_step)(f, l)) h1[l] = FN(least_step)(f, l);
    }
    return 0;
}

/* Choose the first steps of all samples of the chunk, L at a time. */
static pn_status FN(prepare_chunk)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    size_t d = (size_t)W->d;
    memset(W->chunk_h, 0, (size_t)W->count * sizeof(double));
    if (!W->P->adaptive || W->P->first_step > 0 || W->P->grid) return PN_OK;
    for (int64_t base = 0; base < W->count; base += L) {
        double h1[L];
        FN(vacate)(f);
        for (int l = 0; l < L && base + l < W->count; l++) {
            pn_status st = FN(open)(W, l, W->first + base + l);
            if (st != PN_OK) return st;
        }
        if (FN(first_steps)(W, h1)) return PN_CALLBACK;
        for (int l = 0; l < L && base + l < W->count; l++) {
            W->chunk_h[base + l] = h1[l];
            for (size_t c = 0; c < d; c++) W->chunk_k[(size_t)(base + l) * d + c] = f->k[0][c * L + (size_t)l];
        }
    }
    return PN_OK;
}

/* The turns of the samples: those that seem to take the most steps come first, so that at the end few lanes idle. Steps, if all
   were as long as the first, are told apart to an eighth of an octave; alike, the order is that of the samples. */
static void FN(take_turns)(FN(work) * W) {
    const pn_problem *P = W->P;
    enum { KINDS = 256 };
    int32_t place[KINDS + 1] = {0};
    if (W->count <= W->lanes) {
        for (int32_t j = 0; j < W->count; j++) W->turn[j] = j;
        return;
    }
    for (int32_t j = 0; j < W->count; j++) {
        int64_t i = W->first + j;
        double span = fabs(FN(time_of)(P, i, FN(n_times)(P, i) - 1) - FN(time_of)(P, i, 0));
        double h = W->chunk_h[j] > 0 ? W->chunk_h[j] : P->adaptive ? P->first_step : P->step;
        float steps = (float)fmin(P->grid ? (double)P->grid_len[i] : span / h, 1e30);
        uint32_t bits, one = 127u << 3;
        memcpy(&bits, &steps, sizeof bits);
        bits >>= 20; /* exponent and 3 bits of the mantissa */
        W->kind[j] = (unsigned char)(bits <= one ? KINDS - 1 : bits >= one + KINDS ? 0 : KINDS - 1 - (bits - one));
        place[W->kind[j] + 1]++;
    }
    for (int k = 0; k < KINDS; k++) place[k + 1] += place[k];
    for (int32_t j = 0; j < W->count; j++) W->turn[place[W->kind[j]]++] = j;
}

/* Fill idle lanes with the next samples of the chunk. */
static pn_status FN(refill)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    for (int l = 0; l < W->lanes && W->next < W->count; l++)
        while (!f->live[l] && W->next < W->count) {
            int64_t j = W->turn[W->next++];
            pn_status st = FN(open)(W, l, W->first + j);
            if (st != PN_OK) return st;
            if (W->P->sensitivity) FN(sens_open)(W, l);
            if (W->chunk_h[j] == 0) continue;
            f->c0[l] = W->chunk_h[j];
            f->source[l] = PN_SOURCE_START;
            f->evals[l] = 2;
            f->have_k[l] = W->P->lambda == 0 && !W->P->quadrature; /* those fill the register files anew */
            for (int32_t c = 0; c < W->d; c++) f->k[0][(size_t)c * L + (size_t)l] = W->chunk_k[(size_t)j * (size_t)W->d + (size_t)c];
        }
    return PN_OK;
}

/* ---- interrupts ----------------------------------------------------------------------------------------------------------- */
static double FN(clock)(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static pn_status FN(look_up)(FN(work) * W) {
    const pn_problem *P = W->P;
    if (W->main && P->poll && (P->call || W->costly || ++W->polls % 16 == 0)) {
        double now = FN(clock)();
        if (now - W->last_poll > 0.02) {
            W->last_poll = now;
            if (P->poll(P->poll_ctx)) atomic_store(&W->s->stop, PN_INTERRUPTED);
        }
    }
    return (pn_status)atomic_load_explicit(&W->s->stop, memory_order_relaxed);
}

/* ---- forward ---------------------------------------------------------------------------------------------------------------- */
/* A shot is the forward half between two attempts: struct flow, W->next, y, k_0. */
static pn_status FN(shoot)(FN(work) * W) {
    size_t state = (size_t)W->d * L * sizeof(T);
    char *to = pn_tape_push(&W->shots);
    if (!to) return PN_MEMORY;
    memcpy(to, &W->flow, sizeof W->flow);
    memcpy(to += sizeof W->flow, &W->next, sizeof W->next);
    memcpy(to += sizeof W->next, W->flow.y, state);
    memcpy(to + state, W->flow.k[0], state);
    return PN_OK;
}

static void FN(go_back_to)(FN(work) * W, const char *from) {
    size_t state = (size_t)W->d * L * sizeof(T);
    memcpy(&W->flow, from, sizeof W->flow);
    memcpy(&W->next, from += sizeof W->flow, sizeof W->next);
    memcpy(W->flow.y, from += sizeof W->next, state);
    memcpy(W->flow.k[0], from + state, state);
}

/* Half of the budget is for blocks, half for shots. Blocks beyond it are not kept any more: those between two shots are made
   again on the way back. Too many shots: keep every second one. */
static pn_status FN(budget_spent)(FN(work) * W) {
    int64_t room = W->s->budget / 2;
    if ((W->tape.n + 1) * (int64_t)W->tape.stride > room) {
        pn_tape_free(&W->tape);
        W->dropped = 1;
    }
    while (W->shots.n * (int64_t)W->shots.stride > (room > PN_LEAST_SHOTS ? room : PN_LEAST_SHOTS)) {
        W->every *= 2;
        for (int64_t i = 0; 2 * i < W->shots.n; i++) memcpy(pn_tape_at(&W->shots, i), pn_tape_at(&W->shots, 2 * i), W->shots.stride);
        W->shots.n = (W->shots.n + 1) / 2;
    }
    return W->every * (int64_t)W->tape.stride > room ? PN_BUDGET : PN_OK;
}

/* Attempts until every sample is through, or until there are `end` blocks. */
static pn_status FN(go_on)(FN(work) * W, int64_t end) {
    pn_status st = PN_OK;
    while (st == PN_OK && W->n_blocks < end) {
        if (W->limited && !W->replaying && W->n_blocks == W->shots.n * W->every) st = FN(shoot)(W);
        if (st == PN_OK) st = FN(refill)(W);
        if (st != PN_OK || !FN(any)(W->flow.live)) return st;
        st = W->marching ? FN(march)(W) : FN(attempt)(W);
        if (st == PN_OK) st = FN(look_up)(W);
    }
    return st;
}

static pn_status FN(run_forward)(FN(work) * W) {
    W->tape.n = W->shots.n = W->n_blocks = W->next = 0;
    W->dropped = 0;
    if (W->P->solved) return PN_OK;
    pn_status st = W->P->jump.program ? FN(jump_starts)(W) : PN_OK;
    if (st == PN_OK) st = FN(prepare_chunk)(W);
    FN(take_turns)(W);
    FN(vacate)(&W->flow);
    for (int l = 0; l < L; l++) W->steps[l].n = 0;
    W->store_used = 1;
    W->every = PN_FIRST_SHOTS;
    W->marching = FN(can_march)(W);
    return st == PN_OK ? FN(go_on)(W, INT64_MAX) : st;
}

/* ---- backward --------------------------------------------------------------------------------------------------------------- */
static void FN(begin_back)(FN(work) * W, int l, int32_t j) {
    FN(back) *B = &W->back;
    int64_t i = W->first + j;
    B->sample[l] = i;
    B->local[l] = j;
    B->carry[l] = 0;
    B->open[l] = 1;
    B->fed[l] = 0;
    const T *y = (const T *)W->P->y + (size_t)(W->P->row[i] + FN(n_times)(W->P, i) - 1) * (size_t)W->d;
    for (int32_t c = 0; c < W->d; c++) {
        size_t at = (size_t)c * L + (size_t)l;
        B->lambda[at] = 0;
        if (B->z) { /* where the reversible scheme starts from */
            B->mu[at] = 0;
            B->y[at] = y[c];
            B->z[at] = W->chunk_z[(size_t)j * (size_t)W->d + (size_t)c];
        }
    }
}

/* lambda is dL/dy at t0 but for the saves there. */
static void FN(end_back)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    int64_t i = B->sample[l], row = P->row[i];
    if (P->g_t) P->g_t[row] += B->carry[l];
    B->open[l] = 0;
    for (int32_t c = 0; P->jump.program && c < W->d; c++) /* unjump_starts does the rest */
        W->chunk_lambda[(size_t)B->local[l] * (size_t)W->d + (size_t)c] = B->lambda[(size_t)c * L + (size_t)l];
    for (int64_t j = 0; !P->jump.program && j < FN(n_times)(P, i) && FN(time_of)(P, i, j) == FN(time_of)(P, i, 0); j++)
        for (int32_t c = 0; c < W->d; c++) B->lambda[(size_t)c * L + (size_t)l] += (T)FN(cotangent)(W, row + j, c);
    for (int32_t c = 0; c < W->d; c++) {
        size_t at = (size_t)c * L + (size_t)l;
        if (P->g_y0 && !P->jump.program) P->g_y0[(size_t)i * (size_t)W->d + (size_t)c] = (double)B->lambda[at] + (B->z ? (double)B->mu[at] : 0);
        B->lambda[at] = B->mu[at] = 0;
    }
}

/* Samples that took no step. */
static void FN(motionless)(FN(work) * W) {
    for (int32_t j = 0; j < W->count; j++) {
        if (W->P->status[W->first + j] != PN_OK || W->P->accepted[W->first + j] > 0) continue;
        FN(begin_back)(W, 0, j);
        FN(end_back)(W, 0);
    }
}

/* Block i, made again if it was not kept, with all after it up to the next shot. */
static pn_status FN(block_at)(FN(work) * W, int64_t i, FN(block) * *b) {
    pn_status st = PN_OK;
    if (W->dropped && (i + 1) % W->every == 0) W->tape.n = 0;
    if (W->dropped && W->tape.n <= i % W->every) {
        int64_t end = W->n_blocks;
        W->tape.n = 0;
        FN(go_back_to)(W, pn_tape_at(&W->shots, i / W->every));
        W->replaying = 1;
        W->n_blocks = i / W->every * W->every;
        st = FN(go_on)(W, i + 1);
        W->n_blocks = end;
        W->replaying = 0;
    }
    if (st == PN_OK) *b = pn_tape_at(&W->tape, W->dropped ? i % W->every : i);
    return st;
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
            B->t[n] = FN(time_of)(P, i, 0);
            W->flow.seg[n] = FN(first_segment)(P, i, B->t[n], FN(time_of)(P, i, FN(n_times)(P, i) - 1) > B->t[n] ? 1 : -1);
            for (size_t c = 0; c < d; c++) {
                B->y[c * L + (size_t)n] = P->jump.program ? W->chunk_y[(size_t)j * d + c] : ((const T *)P->y0)[(size_t)i * d + c];
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
        FN(step) S = {W->files, B->t, h, B->t, B->gk, B->g_base, B->y, P->g_t ? gt : NULL, P->g_t ? gh : NULL};
        if (FN(stages)(W, E, W->files, W->files_stride, B->y, B->t, h, B->t, B->k, 0, 1) || FN(reverse_stages)(W, &S, 0, 1)) return PN_CALLBACK;
        FN(accumulate)(E, W->files, W->files_stride, 1, NULL);
        for (int l = 0; l < n; l++) {
            int64_t i = B->sample[l];
            if (P->g_t) P->g_t[P->row[i]] += gt[l];
            for (size_t c = 0; c < d; c++) {
                T v = B->g_base[c * L + (size_t)l];
                if (P->jump.program) W->chunk_lambda[(size_t)B->local[l] * d + c] += v;
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
    memset(W->from_start, 0, (size_t)W->count);
    FN(motionless)(W);
    for (int64_t i = W->n_blocks; st == PN_OK && i-- > 0;) {
        FN(block) *b = NULL;
        st = FN(block_at)(W, i, &b);
        if (st != PN_OK || !FN(fetch)(W, b)) continue;
        st = B->z ? FN(reversible_back)(W) : FN(step_back)(W, b);
        if (st != PN_OK) return st;
        FN(rest)(W, 1);
        for (int l = 0; l < L; l++)
            if (B->live[l] && B->record[l].first) FN(end_back)(W, l);
        st = FN(look_up)(W);
    }
    if (st == PN_OK) st = FN(starts_back)(W);
    return st == PN_OK && W->P->jump.program ? FN(unjump_starts)(W) : st;
}

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

/* ---- a thread ----------------------------------------------------------------------------------------------------------------- */
static void FN(carve_exec)(FN(exec) * E, pn_arena *a, const pn_problem *P, const pn_program *prog, unsigned char *active) {
    E->prog = prog;
    E->lay = &prog->layout[PN_LAYOUT];
    E->eval_end = P->quadrature ? E->lay->n_reverse : E->lay->n_forward;
    E->shared = pn_arena_take(a, ((size_t)E->lay->shared_rows * L + PN_PAD) * sizeof(T));
    E->pack = pn_arena_take(a, ((size_t)E->lay->pack_size + PN_PAD) * sizeof(T));
    E->panel = pn_arena_take(a, L == 1 || E->lay->n_code == E->lay->n_reverse ? 0 : (size_t)(2 * PN_MAX_STAGES * L * VE) * sizeof(T));
    E->sums = pn_arena_take(a, L > 1 ? 0 : (size_t)E->lay->sums_size * sizeof(double));
    E->theta[0] = P->theta;
    E->call = P->call;
    E->call_ctx = P->call_ctx;
    E->active = active;
    int64_t rows = prog->call_rows;
    for (int i = 0; i < prog->n_slots; i++) rows += prog->slot_size[i];
    E->call_buffer = pn_arena_take(a, prog->has_call ? (size_t)rows * L * sizeof(double) : 8);
}

static void FN(carve_watch)(FN(work) * W);

static T *FN(carve_files)(const FN(exec) * E, pn_arena *a, int n, size_t *stride) {
    *stride = ((size_t)E->lay->file_rows * L + 2 * PN_PAD - 1) / PN_PAD * PN_PAD;
    return pn_arena_take(a, (size_t)n * *stride * sizeof(T));
}

static void FN(carve)(FN(work) * W) {
    const pn_problem *P = W->P;
    pn_arena *a = &W->arena;
    size_t state = ((size_t)W->d * L + PN_PAD) * sizeof(T);
    int rev = P->lambda != 0, s = W->tab->s, wide = W->tab->dense_degree > s ? W->tab->dense_degree : s;
    FN(flow) *f = &W->flow;
    FN(back) *B = &W->back;
    int keep = P->quadrature || P->sensitivity; /* the register files of all stages of a step */
    FN(carve_exec)(&W->field, a, P, P->sensitivity ? P->reverse : P->field, W->active);
    W->file = FN(carve_files)(&W->field, a, keep ? W->stages : 1, &W->file_stride);
    f->y = pn_arena_take(a, state);
    f->y_new = pn_arena_take(a, state);
    f->z = rev ? pn_arena_take(a, state) : NULL;
    f->z_new = pn_arena_take(a, state);
    f->coef = pn_arena_take(a, state * (size_t)wide);
    for (int i = 0; i < W->stages; i++) f->k[i] = pn_arena_take(a, state);
    W->spare = pn_arena_take(a, state);
    W->u = pn_arena_take(a, ((size_t)W->m * L + PN_PAD) * sizeof(T));
    W->stage_stride = keep ? W->file_stride : 0;
    B->weight = pn_arena_take(a, (size_t)(2 * W->stages) * L * sizeof(T) + 64);
    size_t chunk = (size_t)W->s->chunk;
    W->chunk_k = pn_arena_take(a, chunk * (size_t)W->d * sizeof(T));
    W->chunk_h = pn_arena_take(a, chunk * sizeof(double));
    W->turn = pn_arena_take(a, chunk * sizeof *W->turn);
    W->kind = pn_arena_take(a, chunk);
    W->chunk_gk = pn_arena_take(a, chunk * (size_t)W->d * sizeof(T));
    W->from_start = pn_arena_take(a, chunk);
    FN(carve_watch)(W);
    W->chunk_z = pn_arena_take(a, rev ? chunk * (size_t)W->d * sizeof(T) : 8);
    FN(carve_parts)(W);
    if (P->gradient == PN_GRAD_NONE && !P->sensitivity) return;
    if (P->sensitivity) {
        W->reverse = W->field;
        W->files = W->file;
        W->files_stride = W->file_stride;
    } else {
        FN(carve_exec)(&W->reverse, a, P, P->reverse, W->active);
        W->files = FN(carve_files)(&W->reverse, a, rev ? 2 * s : W->stages, &W->files_stride);
    }
    B->y = pn_arena_take(a, state);
    B->lambda = pn_arena_take(a, state);
    B->z = rev ? pn_arena_take(a, state) : NULL;
    B->mu = pn_arena_take(a, state);
    B->g_base = pn_arena_take(a, state);
    B->feed = pn_arena_take(a, state);
    for (int i = 0; i < (rev ? 4 : 1); i++) B->kept[i] = pn_arena_take(a, state);
    B->g_coef = pn_arena_take(a, state * (size_t)wide);
    for (int i = 0; i < W->stages; i++) {
        B->k[i] = pn_arena_take(a, state);
        B->gk[i] = pn_arena_take(a, state);
    }
    if (!P->sensitivity) return;
    W->columns = (P->reverse->n_grads > 0 ? P->reverse->n_grad[0] : 0) + W->d;
    W->sens_size = ((size_t)W->d * (size_t)W->columns * L + 31) / 32 * 32;
    W->sens = pn_arena_take(a, W->sens_size * sizeof(SENS));
    W->sens_new = pn_arena_take(a, W->sens_size * sizeof(SENS));
    W->sens_coef = pn_arena_take(a, L > 1 ? 0 : W->sens_size * sizeof(SENS) * (size_t)W->tab->dense_degree);
}

static void FN(ready)(FN(exec) * E, T *file) { /* weights packed, prologue run: once for each solve */
    FN(pack)(E);
    FN(run)(E, file, 0, E->lay->n_prologue);
}

static pn_status FN(run_task)(FN(work) * W, int64_t task) {
    pn_shared *s = W->s;
    int64_t end = (task + 1) * s->chunks_per_task;
    if (s->task_grad) {
        W->reverse.grad[0] = s->task_grad + task * s->p;
        FN(parts_begin)(W, W->reverse.grad[0]);
    }
    if (s->task_quadrature) W->field.grad[0] = s->task_quadrature + task * s->q;
    pn_status st = PN_OK;
    for (int64_t c = task * s->chunks_per_task; st == PN_OK && c < end && c < s->n_chunks; c++) st = FN(run_chunk)(W, c);
    if (s->task_grad) {
        FN(flush)(&W->reverse);
        FN(parts_end)(W);
    }
    if (s->task_quadrature) FN(flush)(&W->field);
    return st;
}

/* Sizes of what the forward half keeps for the backward half; the store for register files, if there is no budget. */
static pn_status FN(prepare_tape)(FN(work) * W) {
    const pn_problem *P = W->P;
    size_t state = P->lambda != 0 ? 0 : (size_t)W->d * L * sizeof(T);
    size_t padding = PN_BLOCK ? 0 : VE * sizeof(T);
    W->tape.stride = (sizeof(FN(block)) + L * sizeof(pn_record) + 2 * state + padding + 7) / 8 * 8;
    W->shots.stride = (sizeof W->flow + sizeof W->next + 2 * state + 7) / 8 * 8;
    if (P->gradient != PN_GRAD_DISCRETE) return PN_OK;
    W->limited = W->s->budget > 0;
    if (W->limited) {
        int64_t room = W->s->budget / 2;
        return PN_FIRST_SHOTS * (int64_t)W->tape.stride > room || 2 * (int64_t)W->shots.stride > room ? PN_BUDGET : PN_OK;
    }
    W->slot = (size_t)W->stages * W->files_stride;
    W->store_room = (int64_t)(PN_STORE / sizeof(T) / W->slot);
    if (W->store_room < 2) return PN_OK;
    W->store = aligned_alloc(64, PN_STORE);
    if (!W->store) return PN_MEMORY;
    W->files = W->store;
    return PN_OK;
}

/* The sums over stages that the method consists of. */
static void FN(read_table)(FN(work) * W) {
    const pn_tableau *tab = W->tab;
    int n_error = tab->s + (tab->error_uses_new ? 1 : 0);
    W->n_halves = tab->second ? 2 : 1;
    W->half[0].tab = tab, W->half[0].from = 0, W->half[0].to = W->d / W->n_halves;
    W->half[1].tab = tab->second, W->half[1].from = W->d / 2, W->half[1].to = W->d;
    for (int i = 0; i <= W->stages && i < PN_MAX_STAGES; i++) FN(terms_of)(&W->rows[i], tab->a[i], 1, i);
    FN(terms_of)(&W->error, tab->e, 1, n_error);
    FN(terms_of)(&W->error2, tab->e2, 1, n_error);
    for (int p = 0; p < W->n_halves; p++)
        for (int j = 1; j <= tab->dense_degree; j++)
            FN(terms_of)(&W->half[p].dense[j], &W->half[p].tab->dense[0][j], PN_MAX_DEGREE + 1, W->stages);
}

static pn_status FN(work_on)(pn_shared *s, int main) {
    const pn_problem *P = s->problem;
    pn_status st = PN_MEMORY;
    FN(work) *W = malloc(sizeof *W);
    if (!W) goto done;
    *W = (FN(work)){.s = s, .P = P, .tab = P->tableau, .main = main, .d = P->d, .m = P->m, .stages = pn_tableau_stages(P->tableau)};
    FN(carve)(W);
    if (!pn_arena_allocate(&W->arena)) goto done;
    FN(carve)(W);
    for (int l = 0; l < L; l++) W->u_sample[l] = -1;
    FN(read_table)(W);
    st = FN(prepare_tape)(W);
    if (st != PN_OK) goto done;
    W->last_poll = FN(clock)();
    W->costly = (W->field.lay->pack_size + W->field.lay->file_rows) * L > 1 << 15;
    FN(vacate)(&W->flow);
    FN(ready)(&W->field, W->file);
    if (P->event) FN(ready)(&W->watch.exec, W->watch.file);
    if (W->reverse.prog && !P->sensitivity) FN(ready)(&W->reverse, W->files);
    FN(ready_parts)(W);
    st = PN_OK;
    for (;;) {
        int64_t task = (int64_t)atomic_fetch_add(&s->next_task, 1);
        if (task >= s->n_tasks || st != PN_OK) break;
        st = FN(run_task)(W, task);
    }
done:
    if (st != PN_OK) {
        int none = 0;
        atomic_compare_exchange_strong(&s->stop, &none, (int)st);
    }
    for (int l = 0; W && l < L; l++) free(W->steps[l].x);
    if (W) {
        pn_tape_free(&W->tape);
        pn_tape_free(&W->shots);
        free(W->store);
        free(W->arena.base);
    }
    free(W);
    return st;
}

/* ---- plain evaluation ------------------------------------------------------------------------------------------------------- */
static void FN(gather_lanes)(T *to, const T *from, int64_t first, int64_t n, int32_t size) {
    const T *row[L];
    for (int64_t l = 0; l < L; l++) row[l] = from + (size_t)(first + (l < n ? l : 0)) * (size_t)size;
    FN(fill_rows)(to, row, size);
}

static pn_status FN(evaluate)(const pn_program *prog, int64_t n, const void *const *slots, const void *const *theta,
                              void *const *outputs, double *const *grads, pn_callback call, void *call_ctx) {
    pn_arena a = {0};
    FN(exec) E = {0};
    unsigned char active[L];
    T *file, weight[L];
    size_t stride;
    pn_status st = PN_OK;
    const pn_problem P = {.call = call, .call_ctx = call_ctx};
    for (int pass = 0; pass < 2; pass++) {
        FN(carve_exec)(&E, &a, &P, prog, active);
        file = FN(carve_files)(&E, &a, 1, &stride);
        if (pass == 0 && !pn_arena_allocate(&a)) return PN_MEMORY;
    }
    for (int i = 0; i < prog->n_spaces; i++) E.theta[i] = theta[i];
    for (int i = 0; i < prog->n_grads; i++) E.grad[i] = grads[i];
    FN(ready)(&E, file);
    for (int64_t i = 0; i < n && st == PN_OK; i += L) {
        int64_t some = n - i < L ? n - i : L;
        for (int l = 0; l < L; l++) {
            active[l] = l < some;
            weight[l] = l < some ? 1 : 0;
        }
        for (int s = 0; s < prog->n_slots; s++)
            if (prog->slot_size[s]) FN(gather_lanes)(file + (size_t)E.lay->slot[s] * L, slots[s], i, some, prog->slot_size[s]);
        if (FN(run)(&E, file, E.lay->n_prologue, E.lay->n_reverse)) st = PN_CALLBACK;
        if (st == PN_OK) FN(accumulate)(&E, file, 0, 1, weight);
        for (int o = 0; st == PN_OK && o < prog->n_outputs; o++) {
            int32_t size = prog->output_size[o];
            const T *from = FN(at)(&E, file, E.lay->output[o]);
            for (int64_t l = 0; l < some; l++)
                for (int32_t c = 0; c < size; c++) ((T *)outputs[o])[(size_t)(i + l) * (size_t)size + (size_t)c] = from[(size_t)c * L + (size_t)l];
        }
    }
    FN(flush)(&E);
    free(a.base);
    return st;
}
