/* Lanes in step. Samples with the same times and steps of fixed size all do the same, as long as none fails: the bookkeeping
   of a step is done for lane 0 and spread. What attempt.inl keeps of each lane is right after every step, so that the lanes can
   go on by themselves from anywhere; the bits are the same. */

static int FN(can_march)(const FN(work) * W) {
    const pn_problem *P = W->P;
    int64_t first = W->first;
    const double *t = P->t + P->t_start[first];
    if (P->adaptive || P->grid || P->lambda > 0 || P->event || has_jumps(P) || P->jump_add) return 0;
    if (FN(has_sensitivities)(W) || P->quadrature || P->steps || P->dense || W->knots || P->n_stops) return 0;
    for (int64_t i = first + 1; i < first + W->count; i++) {
        const double *other = P->t + P->t_start[i];
        if (P->t_len[i] != P->t_len[first] || (other != t && memcmp(other, t, (size_t)P->t_len[i] * sizeof *t) != 0)) return 0;
    }
    return 1;
}

/* Stages and new state. Idle lanes follow lane 0 from the first step on. */
static int FN(march_stages)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    int s = W->tab->s, have = f->have_k[0];
    FN(choose_files)(W);
    if (f->index[0] == 0 || W->replaying) FN(shadow)(W);
    memcpy(W->active, f->live, L);
    memset(f->source, have ? PN_SOURCE_PREVIOUS : PN_SOURCE_HERE, L);
    if (FN(is_implicit)(W)) {
        if (FN(linearise)(W, f->y, f->t, f->h)) return 1;
        if (FN(stages)(W, W->now, W->now_file, W->now_stride, f->y, f->t, f->h, f->t_new, f->k, 0, 1)) return 1;
    } else if (!have) {
        FN(copy)(FN(state_slot)(W->now, W->now_file), f->y, (size_t)W->d * L);
        if (FN(eval)(W, W->now, W->now_file, f->t, f->k[0])) return 1;
    }
    if (FN(stages)(W, W->now, W->now_file, W->now_stride, f->y, f->t, f->h, f->t_new, f->k, 1, s)) return 1;
    W->evaluated = s;
    for (int l = 0; l < L; l++) f->evals[l] += s - have;
    FN(combine_stage)(W, f->y_new, f->y, f->h, f->k, s);
    return 0;
}

/* The save times in the step, those of lane 0 for all. 1: some lie inside it. */
static int FN(march_saves)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    f->ends[0] = f->save_end[0] = f->save[0];
    f->interior[0] = f->landed[0] = 0;
    if (!FN(before)(f->t_new[0], f->t_save[0], f->dir[0])) FN(find_saves_of)(W, f, 0);
    int32_t ends = f->ends[0], save_end = f->save_end[0];
    W->n_saving = 0;
    for (int l = 0; f->save[0] < save_end && l < W->lanes; l++)
        if (f->live[l]) W->saving[W->n_saving++] = l;
    memset(f->interior, f->interior[0], L), memset(f->landed, f->landed[0], L);
    for (int l = 0; l < L; l++) f->ends[l] = f->live[l] ? ends : f->save[l], f->save_end[l] = f->live[l] ? save_end : f->save[l];
    return f->interior[0];
}

/* The lanes go to the ends of their steps. */
static pn_status FN(march_on)(FN(work) * W, int have_new) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int origin = P->land && f->landed[0];
    double t_new = f->t_new[0], c0 = origin ? t_new : f->c0[0], c1 = origin ? 0 : f->c1[0] + 1;
    T *y = f->y;
    f->y = f->y_new, f->y_new = y;
    if (have_new) FN(copy)(f->k[0], f->k[W->tab->s], (size_t)W->d * L);
    memset(f->have_k, have_new, L);
    for (int l = 0; l < L; l++) {
        f->t[l] = t_new;
        f->c0[l] = c0;
        f->c1[l] = c1;
        f->index[l]++;
    }
    int64_t i = f->sample[0];
    int32_t end = f->save_end[0];
    if (end == f->save[0]) return PN_OK;
    double next = end < n_times(P, i) ? time_of(P, i, end) : 0;
    pn_status st = PN_OK;
    for (int q = 0; st == PN_OK && q < W->n_saving; q++) {
        f->save[W->saving[q]] = end, f->t_save[W->saving[q]] = next;
        if (end == n_times(P, i)) st = FN(finish)(W, W->saving[q]);
    }
    return st;
}

/* A step of all lanes. */
static pn_status FN(march)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    double to = P->land ? f->t_save[0] : f->t_last[0], t_new = FN(fixed_end)(P, f, 0, to), h = t_new - f->t[0];
    if (f->attempts[0] >= P->max_steps || h == 0) W->marching = 0;
    if (!W->marching) return FN(attempt)(W);
    for (int l = 0; l < L; l++) {
        f->t_new[l] = t_new;
        f->h[l] = h;
        f->attempts[l]++;
    }
    if (FN(march_stages)(W)) return PN_CALLBACK;
    pn_status st = FN(accept_finite)(W);
    if (st != PN_OK || !W->marching) return st == PN_OK ? FN(complete)(W, 0) : st;
    int have_new = 0;
    if (FN(march_saves)(W)) st = FN(interpolate)(W, &have_new);
    if (st == PN_OK && P->gradient != PN_GRAD_NONE) st = FN(keep)(W);
    if (st != PN_OK) return st;
    FN(write_saves)(W);
    return W->marching ? FN(march_on)(W, have_new) : FN(advance)(W, have_new);
}
