/* The forward half: L samples side by side, each with its own time, step size, error estimate and status.

   One attempt of a step, for a Runge-Kutta method (tableau.h), lane by lane:
       k_i = f(t + c_i h, y + h sum_j a_ij k_j),  y_new = y + h sum_i b_i k_i,  error = h sum_i e_i k_i
   and, with lambda > 0, the reversible scheme of McCallum & Foster (2024, arXiv:2410.11648, eq. 4-5), Psi_h(t, y) being
   the increment h sum_i b_i k_i:
       y_new = lambda y + (1 - lambda) z + Psi_h(t, z),   z_new = z - Psi_{-h}(t + h, y_new).
   Step control: error per step in the root mean square norm, PI controller (Gustafsson 1991; Hairer, Norsett, Wanner,
   Solving ODEs I, II.4 and IV.2). */

/* ---- bookkeeping of an accepted step -------------------------------------------------------------------------------- */
static pn_status FN(list_step)(FN(work) * W, int l) {
    FN(flow) *f = &W->flow;
    int32_t d = W->d, degree = W->tab->dense_degree;
    int64_t stride = 2 + (W->P->dense ? (degree + 1) * d : 0);
    double *to = pn_list_push(&W->steps[l], stride);
    if (!to) return PN_MEMORY;
    *to++ = f->t[l];
    *to++ = f->h[l];
    if (!W->P->dense) return PN_OK;
    for (int32_t c = 0; c < d; c++) *to++ = (double)f->y[(size_t)c * L + (size_t)l];
    for (int32_t e = 0; e < degree * d; e++) *to++ = (double)f->coef[(size_t)e * L + (size_t)l];
    return PN_OK;
}

/* x = x_new in accepted lanes; (d, L) both */
static void FN(take)(const FN(work) * W, const T *moved, T *x, const T *x_new) {
    if (!PN_BLOCK && moved[0] != 0) FN(copy)(x, x_new, (size_t)W->d);
    for (size_t l = 0; PN_BLOCK && l < L; l += VE) {
        vec keep = FN(of_lanes)(moved, l);
        for (size_t e = l; e < (size_t)W->d * L; e += L > VE ? L : VE)
            V(store)(x + e, V(sel)(keep != V(set1)((T)0), V(load)(x_new + e), V(load)(x + e)));
    }
}

/* The segment of the input that begins at the time a lane has come to; fixed steps are counted from there. */
static void FN(next_segment)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    int32_t next, last = (int32_t)P->knot_len[i] - 1;
    while ((next = f->dir[l] > 0 ? f->seg[l] + 1 : f->seg[l]) > 0 && next < last &&
           f->dir[l] * (P->knot[P->knot_start[i] + next] - f->t[l]) <= 0) { /* a prescribed grid may pass knots */
        f->seg[l] += f->dir[l] > 0 ? 1 : -1;
        f->have_k[l] = 0; /* u jumps, or has other last bits seen from here: as when the step is taken again */
        if (!P->adaptive) f->c0[l] = f->t[l], f->c1[l] = 0;
    }
}

/* Move the accepted lanes to the end of their steps. */
static pn_status FN(advance)(FN(work) * W, int have_new) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    T moved[L > VE ? L : VE];
    for (int l = 0; l < L; l++) moved[l] = f->accepted[l];
    for (int l = 0; W->way && l < L; l++) f->stiff_steps[l] += f->accepted[l];
    FN(take)(W, moved, f->y, f->y_new);
    if (f->z) FN(take)(W, moved, f->z, f->z_new);
    if (have_new) FN(take)(W, moved, f->k[0], f->k[W->tab->s]);
    int have = have_new && !P->quadrature, jumps = P->jump_add || has_jumps(P), lands = P->land || has_jumps(P);
    for (int l = 0; l < L; l++) {
        int next = !have ? 0 : f->counted[l] ? 1 : 2;
        f->have_k[l] = (unsigned char)(f->accepted[l] ? next : f->have_k[l]);
        f->source[l] = f->accepted[l] ? PN_SOURCE_PREVIOUS : f->source[l];
        f->again[l] = f->accepted[l] ? 0 : f->again[l];
        f->index[l] += f->accepted[l];
        f->grid[l] += f->accepted[l];
        f->t[l] = f->accepted[l] ? f->t_new[l] : f->t[l];
    }
    for (int l = 0; !P->adaptive && l < L; l++) { /* fixed steps are counted from where the last one landed */
        int origin = f->accepted[l] & ((lands & f->landed[l]) | (P->n_stops && FN(is_stop)(P, f->t[l])));
        f->c0[l] = origin ? f->t[l] : f->c0[l];
        f->c1[l] = origin ? 0 : f->c1[l] + f->accepted[l];
    }
    for (int l = 0; (jumps || W->knots) && l < W->lanes; l++) {
        if (!f->accepted[l]) continue;
        if ((P->jump_add && f->save_end[l] > f->save[l]) || (has_jumps(P) && W->jumped[l])) f->have_k[l] = 0;
        if (W->knots && !crosses_knots(P, f->sample[l])) FN(next_segment)(W, l);
    }
    pn_status st = PN_OK;
    for (int q = 0; st == PN_OK && q < W->n_saving; q++) {
        int l = W->saving[q], stopped = P->event && W->watch.which[l] >= 0;
        int64_t i = f->sample[l];
        if (!f->accepted[l]) continue;
        f->save[l] = f->save_end[l];
        if (f->save[l] < n_times(P, i)) f->t_save[l] = time_of(P, i, f->save[l]);
        else if (!stopped) st = FN(finish)(W, l);
    }
    for (int l = 0; P->event && st == PN_OK && l < W->lanes; l++)
        if (f->accepted[l] && W->watch.which[l] >= 0) st = FN(stop_at_event)(W, l);
    return st == PN_OK && P->stiff ? FN(park_lanes)(W) : st;
}

/* ---- one attempt of a step in every live lane --------------------------------------------------------------------- */
static pn_status FN(check_lanes)(FN(work) * W) { /* budgets and steps that vanish, before any work */
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    unsigned char suspect[L];
    int any = 0;
    for (int l = 0; l < L; l++) {
        suspect[l] = (unsigned char)(f->live[l] & ((f->attempts[l] >= P->max_steps) | (f->again[l] & P->adaptive) | (f->h[l] == 0)));
        f->attempts[l] += f->live[l];
        any |= suspect[l];
    }
    for (int l = 0; any && l < W->lanes; l++) {
        if (!suspect[l]) continue;
        pn_status st = PN_OK;
        double span = fabs(f->t_last[l] - time_of(P, f->sample[l], 0)), t = fabs(f->t[l]);
        double least = 16 * 2.220446049250313e-16 * (t > 1e-3 * span ? t : 1e-3 * span);
        if (f->attempts[l] > P->max_steps) st = PN_MAX_STEPS;
        else if (f->again[l] && P->adaptive && f->c0[l] < least) st = f->err[l] == f->err[l] ? PN_STEP_TOO_SMALL : PN_NON_FINITE;
        else if (f->h[l] == 0) st = PN_STEP_TOO_SMALL;
        if (st == PN_OK) continue;
        FN(fail)(W, l, st);
        st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

static int FN(first_stage)(FN(work) * W, const T *base) {
    FN(flow) *f = &W->flow;
    unsigned char need[L];
    for (int l = 0; l < L; l++) {
        unsigned char here = f->live[l] & (f->have_k[l] == 0), late = f->live[l] & (f->have_k[l] == 2), source = f->source[l];
        need[l] = here;
        f->source[l] = here ? PN_SOURCE_HERE : source == PN_SOURCE_HERE ? PN_SOURCE_EARLIER : source;
        f->have_k[l] = late ? 1 : f->have_k[l];
        f->evals[l] += late;
    }
    W->fresh = FN(any)(need);
    if (!W->fresh) return 0;
    T *all = W->spare;
    FN(copy)(FN(state_slot)(W->now, W->now_file), base, (size_t)W->d * L);
    memcpy(W->active, need, L);
    if (FN(eval)(W, W->now, W->now_file, f->t, all)) return 1;
    T fresh[L > VE ? L : VE];
    for (int l = 0; l < L; l++) fresh[l] = need[l], f->have_k[l] |= need[l];
    FN(take)(W, fresh, f->k[0], all);
    FN(count_evals)(f, need, 1);
    return 0;
}

/* All stages of a Rosenbrock method: none is f of another step. */
static int FN(implicit_stages)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    int s = W->tab->s;
    memcpy(W->active, f->live, L);
    memset(f->source, PN_SOURCE_HERE, L);
    W->fresh = 1;
    if (FN(linearise)(W, f->y, f->t, f->h)) return 1;
    if (FN(stages)(W, W->now, W->now_file, W->now_stride, f->y, f->t, f->h, f->t_new, f->k, 0, s)) return 1;
    FN(count_evals)(f, f->live, s);
    return 0;
}

/* z_new = z - Psi_{-h}(t + h, y_new); uses the spare stages of the back half */
static int FN(reversible_second)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    double back[L];
    T *k[PN_MAX_STAGES];
    for (int i = 0; i < W->tab->s; i++) k[i] = f->coef + (size_t)i * (size_t)W->d * L;
    for (int l = 0; l < L; l++) back[l] = -f->h[l];
    memcpy(W->active, f->accepted, L);
    if (FN(stages)(W, &W->field, W->file, 0, f->y_new, f->t_new, back, f->t, k, 0, W->tab->s)) return 1;
    for (int l = 0; l < L; l++) back[l] = f->h[l]; /* z - (-h) sum b k */
    FN(combine)(f->z_new, f->z, back, &W->sums->rows[W->tab->s], k, W->d);
    FN(count_evals)(f, f->accepted, W->tab->s);
    return 0;
}

/* bad[l] = 0 where the n rows of lane l are finite, NaN elsewhere. */
static inline void FN(find_bad)(T *bad, const T *x, size_t n) {
    for (int l = 0; l < L; l++) bad[l] = 0;
    for (size_t e = 0; e < n * L; e += L)
        for (size_t l = 0; l < L; l++) bad[l] += x[e + l] * 0;
}

/* Without step control every step is accepted whose end is finite. */
static pn_status FN(accept_finite)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    T bad[L];
    FN(find_bad)(bad, f->y_new, (size_t)W->d);
    for (int l = 0; l < L; l++) f->accepted[l] = (unsigned char)(f->live[l] & (bad[l] == 0));
    for (int l = 0; l < W->lanes; l++) {
        if (f->accepted[l] == f->live[l]) continue;
        FN(fail)(W, l, PN_NON_FINITE);
        pn_status st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

/* Stages, new state, error, decision. */
static pn_status FN(try_step)(FN(work) * W, int *have_new) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int s = W->tab->s, rev = f->z != NULL;
    const T *base = rev ? f->z : f->y;
    if (FN(is_implicit)(W)) {
        if (FN(implicit_stages)(W)) return PN_CALLBACK;
    } else {
        if (FN(first_stage)(W, base)) return PN_CALLBACK;
        memcpy(W->active, f->live, L);
        if (FN(stages)(W, W->now, W->now_file, W->now_stride, base, f->t, f->h, f->t_new, f->k, 1, s)) return PN_CALLBACK;
        FN(count_evals)(f, f->live, s - 1);
    }
    W->evaluated = s;
    FN(combine_stage)(W, f->y_new, base, f->h, f->k, s);
    if (rev)
        for (size_t e = 0; e < (size_t)W->d * L; e++) f->y_new[e] += (T)P->lambda * (f->y[e] - f->z[e]);
    *have_new = 0;
    if (P->adaptive) {
        if (W->tab->error_uses_new) {
            if (FN(stages)(W, W->now, W->now_file, W->now_stride, base, f->t, f->h, f->t_new, f->k, s, s + 1)) return PN_CALLBACK;
            W->evaluated = s + 1;
            FN(count_evals)(f, f->live, 1);
            *have_new = !rev;
        }
        FN(error)(W, f->y, f->y_new);
        FN(control)(W);
        if (W->P->stiff) FN(notice)(W);
        return PN_OK;
    }
    return FN(accept_finite)(W);
}

/* Dense output where a save time lies inside the step: f_new and the extra stages first. The reversible scheme, whose
   stages start from z, adds theta (1 - lambda) (z - y), so that it ends in its y_new. */
static pn_status FN(interpolate)(FN(work) * W, int *have_new) {
    FN(flow) *f = &W->flow;
    int s = W->tab->s, from = *have_new ? s + 1 : s, to = W->tab->dense_uses_new ? W->stages : s;
    unsigned char need[L];
    int all = W->P->dense || W->P->event;
    for (int l = 0; l < L; l++) need[l] = (unsigned char)(f->accepted[l] & (f->interior[l] | all));
    if (from < to) {
        memcpy(W->active, f->accepted, L);
        if (FN(stages)(W, W->now, W->now_file, W->now_stride, f->z ? f->z : f->y, f->t, f->h, f->t_new, f->k, from, to)) return PN_CALLBACK;
        W->evaluated = to;
        FN(count_evals)(f, need, to - from);
        if (from == s) memcpy(f->counted, need, L);
        *have_new = !f->z;
    }
    FN(dense_coef)(W, f->k, f->h, f->coef);
    for (size_t e = 0; f->z && e < (size_t)W->d * L; e++) f->coef[e] += (T)(1 - W->P->lambda) * (f->z[e] - f->y[e]);
    T bad[L];
    int some = 0; /* f_new may be infinite though y_new is not */
    FN(find_bad)(bad, f->coef, (size_t)W->tab->dense_degree * (size_t)W->d);
    for (int l = 0; l < L; l++) some |= f->accepted[l] & f->interior[l] & (bad[l] != 0);
    for (int l = 0; some && l < W->lanes; l++) {
        if (!f->accepted[l] || !f->interior[l] || bad[l] == 0) continue;
        f->accepted[l] = 0;
        FN(fail)(W, l, PN_NON_FINITE);
        pn_status st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

/* What follows from an attempt that was accepted in some lanes. */
static pn_status FN(complete)(FN(work) * W, int have_new) {
    FN(flow) *f = &W->flow;
    pn_status st = PN_OK;
    if (!FN(any)(f->accepted)) return st;
    if (f->z && FN(reversible_second)(W)) return PN_CALLBACK;
    if (FN(find_saves)(W)) st = FN(interpolate)(W, &have_new);
    if (st == PN_OK && W->P->event) st = FN(find_events)(W);
    if (st != PN_OK) return st;
    if (W->P->quadrature && FN(quadrature)(W)) return PN_CALLBACK;
    if (FN(has_sensitivities)(W) && FN(sens_step)(W)) return PN_CALLBACK;
    if (W->P->gradient != PN_GRAD_NONE) st = FN(keep)(W);
    for (int l = 0; W->P->steps && !W->replaying && st == PN_OK && l < W->lanes; l++)
        if (f->accepted[l]) st = FN(list_step)(W, l);
    if (st != PN_OK) return st;
    FN(write_saves)(W);
    if (has_jumps(W->P) && (st = FN(jump_saves)(W)) != PN_OK) return st;
    return FN(advance)(W, have_new);
}

static pn_status FN(attempt)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    int have_new;
    FN(plan)(W, f);
    pn_status st = FN(check_lanes)(W);
    if (st != PN_OK || !FN(any)(f->live)) return st;
    memset(f->counted, 1, L);
    if (FN(choose_files)(W)) FN(shadow)(W);
    st = FN(try_step)(W, &have_new);
    return st == PN_OK ? FN(complete)(W, have_new) : st;
}
