/* Programs at save times: the loss l(t, y, target; theta), the jump y+ = J(t, y-, x; theta), and the way back through both.

   L rows of the result run side by side, one a lane: of the loss any rows of the chunk, of the jump those that its lanes
   have just come to. A row whose data begin with NaN is left out. With s the cotangent of the value (1 of a loss,
   lambda+ of a jump) the vjp program gives s^T d/dy, s^T d/dt, s^T d/dx of the row and adds s^T d/dtheta to the gradient.
   For that, register files are kept until PN_PART_FILES of them are full: sums over many lanes cost little more than over
   few. A row never counts in a lane that does not hold it (weight 0), whatever the numbers there are. */

static pn_status FN(look_up)(FN(work) * W);
static void FN(gather_lanes)(T *to, const T *from, int64_t first, int64_t n, int32_t size);
static void FN(carve_exec)(FN(exec) * E, pn_arena *a, const pn_problem *P, const pn_program *prog, unsigned char *active);
static T *FN(carve_files)(const FN(exec) * E, pn_arena *a, int n, size_t *stride);
static void FN(ready)(FN(exec) * E, T *file);

/* The register file to fill next. */
static inline T *FN(part_file)(const FN(part) * A) { return A->files + (size_t)A->used * A->stride; }

/* to[c][lane] = row[lane][c], c < n */
static void FN(fill_rows)(T *to, const T *const *row, int32_t n) {
#if PN_BLOCK
    for (int32_t c = 0, from; n >= VE && c < n; c += VE) {
        from = c + VE <= n ? c : n - VE; /* the last ones overlap those before */
        for (size_t half = 0; half < L; half += VE) {
            vec v[VE];
            PN_UNROLL for (size_t k = 0; k < VE; k++) v[k] = V(load)(row[half + k] + from);
            V(transpose)(v);
            PN_UNROLL for (size_t k = 0; k < VE; k++) V(store)(to + ((size_t)from + k) * L + half, v[k]);
        }
    }
    if (n >= VE) return;
#endif
    for (size_t l = 0; l < L; l++)
        for (int32_t c = 0; c < n; c++) to[(size_t)c * L + l] = row[l][c];
}

/* Slots t, y and x of the lanes with a row of the data (not -1), y (rows, d) being its states; the others copy one of those. */
static void FN(fill_file)(const FN(work) * W, const FN(part) * A, T *file, const int64_t *row, const double *t, const T *y) {
    const int32_t *slot = A->E.lay->slot;
    size_t d = (size_t)W->d, k = (size_t)A->part->k, some = 0;
    const T *state[L], *data[L];
    while (row[some] < 0) some++;
    for (size_t l = 0; l < L; l++) {
        size_t from = row[l] < 0 ? some : l;
        file[(size_t)slot[0] * L + l] = (T)t[from];
        state[l] = y + (size_t)row[from] * d;
        data[l] = (const T *)A->part->data + (size_t)row[from] * k;
    }
    FN(fill_rows)(file + (size_t)slot[1] * L, state, W->d);
    FN(fill_rows)(file + (size_t)slot[2] * L, data, (int32_t)k);
}

/* Output o of the program in a file, or NULL where it is identically zero. */
static inline const T *FN(part_output)(const FN(part) * A, T *file, int o) {
    return A->E.prog->output_size[o] ? FN(at)(&A->E, file, A->E.lay->output[o]) : NULL;
}

/* Add what the register files in use hold to the gradient. */
static void FN(part_flush)(FN(part) * A) {
    if (A->used) FN(accumulate)(&A->E, A->files, A->stride, A->used, A->partly ? A->weight : NULL);
    A->used = A->partly = 0;
}

/* What one run of a vjp program says of row `row`, in lane l, besides s^T d/dy: into g_t and the gradient of the data. */
static void FN(part_extra)(const FN(work) * W, const FN(part) * A, T *file, int64_t row, size_t l) {
    const T *gt = FN(part_output)(A, file, 2), *gx = FN(part_output)(A, file, 3);
    int32_t k = A->part->k;
    double *to = A->part->g_data;
    if (W->P->g_t && gt) W->P->g_t[row] += (double)gt[l];
    for (int32_t c = 0; to && gx && c < k; c++) to[(size_t)row * (size_t)k + (size_t)c] = (double)gx[(size_t)c * L + l];
}

/* ---- the loss ----------------------------------------------------------------------------------------------------------- */
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
    if (++A->used == PN_PART_FILES) FN(part_flush)(A);
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
            row[n] = P->row[i] + j, sample[n] = i, t[n] = FN(time_of)(P, i, j);
            if (++n < L) continue;
            pn_status st = FN(loss_block)(W, row, sample, t, n);
            if (st == PN_OK) st = FN(look_up)(W);
            if (st != PN_OK) return st;
            n = 0;
        }
    }
    for (int l = n; l < L; l++) row[l] = -1;
    pn_status st = n ? FN(loss_block)(W, row, sample, t, n) : PN_OK;
    FN(part_flush)(&W->loss);
    return st;
}

/* ---- jumps -------------------------------------------------------------------------------------------------------------- */
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
            t[l] = FN(time_of)(P, i, at[l]);
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
    return j < FN(n_times)(P, i) && FN(time_of)(P, i, j) == FN(time_of)(P, i, 0);
}

/* L samples of the chunk from number `base` on: row[l] of their save time j at the initial time; -1: has none. How many. */
static int FN(initial_rows)(const FN(work) * W, int64_t base, int32_t j, int64_t *row, double *t) {
    const pn_problem *P = W->P;
    int n = 0;
    for (int l = 0; l < L; l++) {
        int64_t i = W->first + base + l;
        row[l] = base + l < W->count && FN(is_initial)(P, i, j) ? P->row[i] + j : -1;
        if (row[l] < 0) continue;
        t[l] = FN(time_of)(P, i, 0);
        n++;
    }
    return n;
}

/* chunk_y = the states after the jumps at the initial times, L samples at a time. */
static pn_status FN(jump_starts)(FN(work) * W) {
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

/* ---- back through jumps ------------------------------------------------------------------------------------------------- */
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
    if (++A->used == PN_PART_FILES) FN(part_flush)(A);
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
            t[l] = FN(time_of)(P, i, --next[l]);
            row[l] = P->row[i] + next[l];
            any = 1;
        }
        pn_status st = any ? FN(unjump_lanes)(W, row, t, B->lambda) : PN_OK;
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

/* From chunk_lambda, the cotangents of the states after the jumps at the initial times, to those of y0. */
static pn_status FN(unjump_starts)(FN(work) * W) {
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
    FN(part_flush)(&W->jump_back);
    return PN_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------------------------- */
static void FN(carve_part)(FN(work) * W, FN(part) * A, const pn_part *part, const pn_program *prog, int n_files) {
    if (!prog) return;
    pn_arena *a = &W->arena;
    FN(carve_exec)(&A->E, a, W->P, prog, W->active);
    A->part = part;
    A->E.theta[0] = (const T *)W->P->theta + part->offset;
    A->files = FN(carve_files)(&A->E, a, n_files, &A->stride);
    A->weight = pn_arena_take(a, (size_t)n_files * L * sizeof(T) + 64);
}

/* The loss is the forward half of its vjp program wherever there is one: the same bits with a gradient and without. */
static void FN(carve_parts)(FN(work) * W) {
    const pn_problem *P = W->P;
    int grad = P->gradient != PN_GRAD_NONE;
    size_t chunk = (size_t)W->s->chunk * (size_t)W->d * sizeof(T);
    const pn_part *loss = &P->loss_part;
    if (P->loss == PN_LOSS_PROGRAM) {
        FN(carve_part)(W, &W->loss, loss, loss->reverse ? loss->reverse : loss->program, grad ? PN_PART_FILES : 1);
        W->g_rows = pn_arena_take(&W->arena, grad ? (size_t)W->s->chunk_rows * (size_t)W->d * sizeof(T) : 8);
    }
    if (!P->jump.program) return;
    FN(carve_part)(W, &W->jump, &P->jump, P->jump.program, 1);
    W->chunk_y = pn_arena_take(&W->arena, chunk);
    if (!grad) return;
    FN(carve_part)(W, &W->jump_back, &P->jump, P->jump.reverse, PN_PART_FILES);
    W->chunk_lambda = pn_arena_take(&W->arena, chunk);
}

/* Each part with its packed weights and prologue; for each task, the gradient that it adds to. */
static void FN(ready_parts)(FN(work) * W) {
    FN(part) *all[] = {&W->loss, &W->jump, &W->jump_back};
    for (int i = 0; i < 3; i++)
        if (all[i]->E.prog) FN(ready)(&all[i]->E, all[i]->files);
}
static void FN(parts_begin)(FN(work) * W, double *grad) {
    FN(part) *all[] = {&W->loss, &W->jump_back};
    for (int i = 0; i < 2; i++)
        if (all[i]->E.prog) all[i]->E.grad[0] = grad + all[i]->part->offset;
}
static void FN(parts_end)(const FN(work) * W) {
    const FN(part) *all[] = {&W->loss, &W->jump_back};
    for (int i = 0; i < 2; i++)
        if (all[i]->E.prog) FN(flush)(&all[i]->E);
}
