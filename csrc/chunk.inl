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
    f->stop_at[l] = INT64_MAX;
    f->t[l] = FN(time_of)(P, i, 0);
    f->t_last[l] = FN(time_of)(P, i, FN(n_times)(P, i) - 1);
    f->dir[l] = f->t_last[l] > f->t[l] ? 1 : f->t_last[l] < f->t[l] ? -1 : 0;
    f->c0[l] = P->adaptive ? P->first_step : f->t[l];
    f->c1[l] = P->adaptive ? -9.210340371976182 : 0;
    f->seg[l] = FN(first_segment)(P, i, f->t[l], f->dir[l]);
    P->status[i] = PN_OK;
    P->stop_t[i] = f->t_last[l];
    P->stop_component[i] = -1;
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
    return f->save[l] == FN(n_times)(P, i) ? FN(finish)(W, l) : PN_OK;
}

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
    double d0[L], d1[L], d2[L], h[L], probe[L], one[1] = {1};
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
    FN(combine)(state, f->y, f->h, one, &k0, 1, W->d);
    if (FN(eval)(W, &W->field, W->file, probe, k1)) return 1;
    for (size_t e = 0; e < size; e++) k1[e] -= k0[e];
    FN(weighted_norm)(W, k1, d2);
    FN(count_evals)(f, f->live, 2);
    for (int l = 0; l < L; l++) {
        double most = d1[l] > d2[l] / h[l] ? d1[l] : d2[l] / h[l];
        double next = most > 1e-15 ? pow(0.01 / most, 1.0 / (W->tab->error_order + 1)) : (1e-6 > h[l] * 1e-3 ? 1e-6 : h[l] * 1e-3);
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

/* Fill idle lanes with the next samples of the chunk. */
static pn_status FN(refill)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    for (int l = 0; l < L; l++)
        while (!f->live[l] && W->next < W->count) {
            int64_t j = W->next++;
            pn_status st = FN(open)(W, l, W->first + j);
            if (st != PN_OK) return st;
            if (W->P->sensitivity) FN(sens_open)(W, l);
            W->tape_lane[j] = l;
            if (W->chunk_h[j] == 0) continue;
            f->c0[l] = W->chunk_h[j];
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
static pn_status FN(run_forward)(FN(work) * W) {
    pn_status st = W->P->jump.program ? FN(jump_starts)(W) : PN_OK;
    if (st == PN_OK) st = FN(prepare_chunk)(W);
    FN(vacate)(&W->flow);
    for (int l = 0; l < L; l++) W->tape[l].n = 0, W->steps[l].n = 0;
    W->next = 0;
    W->every = 1;
    memset(W->n_steps, 0, (size_t)W->count * sizeof *W->n_steps);
    while (st == PN_OK) {
        st = FN(refill)(W);
        if (st != PN_OK || !FN(any)(W->flow.live)) return st;
        st = FN(attempt)(W);
        if (st == PN_OK) st = FN(look_up)(W);
    }
    return st;
}

/* The budget is used up: keep every second checkpoint only. Steps in between are taken again on the way back. */
static pn_status FN(checkpoint_thin)(FN(work) * W) {
    W->every *= 2;
    if (2 * W->every * L > W->tape_room) return PN_BUDGET;
    for (int l = 0; l < L; l++) {
        pn_tape *tape = &W->tape[l];
        int64_t kept = 0;
        for (int64_t i = 0; i < tape->n; i++) {
            const pn_record *r = pn_tape_at(tape, i);
            if (r->index % W->every) continue;
            if (r->index == 0) W->tape_first[r->local] = kept;
            if (i != kept) memcpy(pn_tape_at(tape, kept), r, W->record_size);
            kept++;
        }
        tape->n = kept;
    }
    return PN_OK;
}

/* ---- backward --------------------------------------------------------------------------------------------------------------- */
/* Take the steps from .. to - 1 of the lane's sample again, from the checkpoint at `from`. */
static void FN(rewind_lane)(FN(work) * W, int l, int64_t from, int64_t to) {
    FN(flow) *f = &W->flow;
    FN(back) *B = &W->back;
    int32_t j = B->local[l];
    const pn_record *r = pn_tape_at(&W->tape[W->tape_lane[j]], W->tape_first[j] + from / W->every);
    int64_t i = W->first + j;
    f->sample[l] = i;
    f->live[l] = 1;
    f->have_k[l] = f->again[l] = 0;
    f->t[l] = r->t;
    f->t_last[l] = FN(time_of)(W->P, i, FN(n_times)(W->P, i) - 1);
    f->dir[l] = f->t_last[l] > FN(time_of)(W->P, i, 0) ? 1 : -1;
    f->c0[l] = r->c0;
    f->c1[l] = r->c1;
    f->save[l] = r->save;
    f->jump_at[l] = 0;
    f->seg[l] = r->seg;
    f->grid[l] = r->grid;
    f->index[l] = from;
    f->stop_at[l] = to;
    f->attempts[l] = f->evals[l] = f->rejects[l] = 0;
    FN(load_state)(W, l, (const T *)(const void *)(r + 1));
}

/* Some lane has no step at hand: replay the segment before it, and that of every lane with at most half a segment left. */
static pn_status FN(replay)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    FN(back) *B = &W->back;
    int64_t every = W->every;
    pn_status st = PN_OK;
    FN(vacate)(f);
    for (int l = 0; l < L; l++) {
        if (!B->live[l] || B->left[l] - B->lo[l] > every / 2 || B->lo[l] == 0) continue;
        int64_t from = (B->lo[l] - 1) / every * every;
        FN(rewind_lane)(W, l, from, B->lo[l]);
        B->lo[l] = from;
    }
    W->replaying = 1;
    while (st == PN_OK && FN(any)(f->live)) {
        st = FN(attempt)(W);
        if (st == PN_OK) st = FN(look_up)(W);
    }
    W->replaying = 0;
    return st;
}

static void FN(begin_back)(FN(work) * W, int l, int32_t j) {
    FN(back) *B = &W->back;
    int64_t i = W->first + j;
    B->sample[l] = i;
    B->local[l] = j;
    B->left[l] = B->lo[l] = W->n_steps[j];
    B->carry[l] = 0;
    B->live[l] = 1;
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
    B->live[l] = 0;
    if (P->jump.program) { /* unjump_starts does the rest */
        for (int32_t c = 0; c < W->d; c++) W->chunk_lambda[(size_t)B->local[l] * (size_t)W->d + (size_t)c] = B->lambda[(size_t)c * L + (size_t)l];
        return;
    }
    for (int64_t j = 0; j < FN(n_times)(P, i) && FN(time_of)(P, i, j) == FN(time_of)(P, i, 0); j++)
        for (int32_t c = 0; c < W->d; c++) B->lambda[(size_t)c * L + (size_t)l] += (T)FN(cotangent)(W, row + j, c);
    for (int32_t c = 0; P->g_y0 && c < W->d; c++) {
        size_t at = (size_t)c * L + (size_t)l;
        P->g_y0[(size_t)i * (size_t)W->d + (size_t)c] = (double)B->lambda[at] + (B->z ? (double)B->mu[at] : 0);
    }
}

/* The records of the next step of every live lane; idle lanes copy a live one, so that their numbers stay harmless. */
static pn_status FN(fetch)(FN(work) * W) {
    FN(back) *B = &W->back;
    int some = -1, missing = 0;
    if (W->every > 1) {
        for (int l = 0; l < L; l++) missing |= B->live[l] && B->left[l] == B->lo[l];
        pn_status st = missing ? FN(replay)(W) : PN_OK;
        if (st != PN_OK) return st;
    }
    for (int l = 0; l < L; l++) {
        if (!B->live[l]) continue;
        int64_t at = --B->left[l];
        some = l;
        B->record[l] = W->every > 1 ? (const pn_record *)(const void *)(B->ring[l] + (size_t)(at % (2 * W->every)) * W->record_size)
                                    : pn_tape_at(&W->tape[W->tape_lane[B->local[l]]], W->tape_first[B->local[l]] + at);
    }
    for (int l = 0; l < L; l++) {
        int from = B->live[l] ? l : some;
        const pn_record *r = B->record[from];
        const T *y = (const T *)(const void *)(r + 1);
        B->t[l] = r->t;
        B->t_new[l] = r->t_new;
        B->h[l] = r->t_new - r->t;
        W->flow.sample[l] = B->sample[from];
        W->flow.seg[l] = r->seg;
        for (int32_t c = 0; c < W->d; c++) {
            size_t at = (size_t)c * L + (size_t)l, source = (size_t)c * L + (size_t)from;
            if (!B->z) B->y[at] = y[c];
            else if (from != l) B->y[at] = B->y[source], B->z[at] = B->z[source];
            if (from != l) B->lambda[at] = 0;
            if (B->z && from != l) B->mu[at] = 0;
        }
    }
    return PN_OK;
}

static pn_status FN(run_backward)(FN(work) * W) {
    FN(back) *B = &W->back;
    int32_t next = 0;
    pn_status st = PN_OK;
    memset(B->live, 0, L);
    if (W->every > 1)
        for (int l = 0; l < L; l++) {
            free(B->ring[l]);
            B->ring[l] = malloc((size_t)(2 * W->every) * W->record_size);
            if (!B->ring[l]) return PN_MEMORY;
        }
    while (st == PN_OK) {
        for (int l = 0; l < L; l++)
            while (!B->live[l] && next < W->count) {
                int32_t j = next++;
                if (W->P->status[W->first + j] != PN_OK) continue;
                FN(begin_back)(W, l, j);
                if (B->left[l] == 0) FN(end_back)(W, l);
            }
        if (!FN(any)(B->live)) return W->P->jump.program ? FN(unjump_starts)(W) : PN_OK;
        st = FN(fetch)(W);
        if (st == PN_OK) st = B->z ? FN(reversible_back)(W) : FN(step_back)(W);
        for (int l = 0; st == PN_OK && l < L; l++)
            if (B->live[l] && B->left[l] == 0) FN(end_back)(W, l);
        if (st == PN_OK) st = FN(look_up)(W);
    }
    return st;
}

static pn_status FN(run_chunk)(FN(work) * W, int64_t chunk) {
    const pn_problem *P = W->P;
    W->first = chunk * W->s->chunk;
    W->count = P->n - W->first < W->s->chunk ? P->n - W->first : W->s->chunk;
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
    E->sums = pn_arena_take(a, L > 1 ? 0 : (size_t)E->lay->sums_size * sizeof(double));
    E->theta[0] = P->theta;
    E->call = P->call;
    E->call_ctx = P->call_ctx;
    E->active = active;
    int64_t rows = prog->call_rows;
    for (int i = 0; i < prog->n_slots; i++) rows += prog->slot_size[i];
    E->call_buffer = pn_arena_take(a, prog->has_call ? (size_t)rows * L * sizeof(double) : 8);
}

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
    W->stage_stride = keep ? W->file_stride : 0;
    B->weight = pn_arena_take(a, (size_t)(2 * W->stages) * L * sizeof(T) + 64);
    size_t chunk = (size_t)W->s->chunk;
    W->chunk_k = pn_arena_take(a, chunk * (size_t)W->d * sizeof(T));
    W->chunk_h = pn_arena_take(a, chunk * sizeof(double));
    W->tape_first = pn_arena_take(a, chunk * sizeof(int64_t));
    W->n_steps = pn_arena_take(a, chunk * sizeof(int64_t));
    W->tape_lane = pn_arena_take(a, chunk * sizeof(int32_t));
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

static pn_status FN(work_on)(pn_shared *s, int main) {
    const pn_problem *P = s->problem;
    pn_status st = PN_MEMORY;
    FN(work) *W = calloc(1, sizeof *W);
    if (!W) goto done;
    *W = (FN(work)){.s = s, .P = P, .tab = P->tableau, .main = main, .d = P->d, .m = P->m, .stages = pn_tableau_stages(P->tableau)};
    FN(carve)(W);
    if (!pn_arena_allocate(&W->arena)) goto done;
    FN(carve)(W);
    W->record_size = (sizeof(pn_record) + (P->lambda != 0 ? 0 : (size_t)W->d * sizeof(T)) + 7) / 8 * 8;
    for (int l = 0; l < L; l++) W->tape[l].stride = W->record_size;
    if (s->budget && P->gradient != PN_GRAD_NONE && P->lambda == 0) {
        W->tape_room = s->budget / 2 / (int64_t)W->record_size;
        if (W->tape_room < 4 * s->chunk) {
            st = PN_BUDGET;
            goto done;
        }
    }
    W->last_poll = FN(clock)();
    W->costly = (W->field.lay->pack_size + W->field.lay->file_rows) * L > 1 << 15;
    FN(vacate)(&W->flow);
    FN(ready)(&W->field, W->file);
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
    for (int l = 0; W && l < L; l++) {
        pn_tape_free(&W->tape[l]);
        free(W->steps[l].x);
        free(W->back.ring[l]);
    }
    if (W) free(W->arena.base);
    free(W);
    return st;
}

/* ---- plain evaluation ------------------------------------------------------------------------------------------------------- */
static void FN(gather_lanes)(T *to, const T *from, int64_t first, int64_t n, int32_t size) {
    for (int32_t c = 0; c < size; c++)
        for (int64_t l = 0; l < L; l++) to[(size_t)c * L + (size_t)l] = from[(size_t)(first + (l < n ? l : 0)) * (size_t)size + (size_t)c];
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
