/* Cotangents of the values saved in a step, and derivatives with respect to their times. */

/* States of few components: the cotangents of the values inside the step of lane l, a vector of times at once. */
static void FN(collect_inside)(const FN(work) * W, int l) {
    const FN(back) *B = &W->back;
    const pn_record *r = &B->record[l];
    size_t degree = (size_t)W->tab->dense_degree, d = (size_t)W->d;
    int64_t row = W->P->row[B->sample[l]];
    for (int32_t j = r->save; j < r->ends; j += VE) {
        size_t n = r->ends - j < (int32_t)VE ? (size_t)(r->ends - j) : VE;
        T theta[VE], g[FN(FEW) * VE] = {0};
        FN(thetas)(W->P, B->sample[l], j, n, B->t[l], B->h[l], theta);
        for (size_t k = 0; k < n; k++) FN(cotangents)(W, row + j + (int64_t)k, g + k, VE);
        vec x = V(load)(theta);
        for (size_t c = 0; c < d; c++) {
            vec v = V(load)(g + c * VE);
            B->g_base[c * L + (size_t)l] += V(hsum)(v);
            for (size_t q = 0; q < degree; q++) B->g_coef[(q * d + c) * L + (size_t)l] += V(hsum)(v *= x);
        }
    }
}

/* Whether the step goes over a switch of the field, on a part of it that no rounding can tell. */
PN_RARE static int FN(on_switch)(const FN(work) * W, int l) {
    return W->P->n_stops && FN(crosses)(W->P, W->back.t[l], W->back.t_new[l]);
}

/* Whether the end of the step is a save time that cannot take it along: at a switch of the field, or a knot where the input jumps.
   The last time can, as the end of what is before a knot. */
PN_RARE static int FN(is_held)(const FN(work) * W, int l) {
    const pn_problem *P = W->P;
    const pn_record *r = &W->back.record[l];
    int64_t i = W->back.sample[l], n = n_times(P, i);
    if (!r->landed) return 0;
    if (FN(on_switch)(W, l)) return 1;
    if (r->save_end == n) return 0;
    if (P->n_stops && FN(is_stop)(P, r->t_new)) return 1;
    int32_t next = r->t_new > r->t ? r->seg + 1 : r->seg;
    int knot = P->degree == 0 && !crosses_knots(P, i) && next > 0 && next < P->knot_len[i] - 1;
    return knot && P->knot[P->knot_start[i] + next] == r->t_new;
}

/* Whether f tells y': not where M is singular. */
static inline int FN(tells_slope)(const pn_problem *P) { return !P->mass || P->mass_inverse; }

/* Whether the derivative by the save time at the step's end is the slope of the dense output, not what the end does as it moves. */
static int FN(by_dense)(const FN(work) * W, int l) {
    return !W->back.record[l].landed || (!FN(tells_slope)(W->P) && FN(is_held)(W, l));
}

/* Adds the cotangents of the step's saved values: to lambda at its end, to g_base and g_coef inside. 1: some inside. */
static int FN(collect_saves)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    size_t degree = (size_t)W->tab->dense_degree, d = (size_t)W->d, size = d * L;
    int32_t first[L], ends[L], most = 0, any = 0;
    FN(clear)(B->g_base, size);
    for (size_t l = 0; l < L; l++) {
        const pn_record *r = &B->record[l];
        first[l] = ends[l] = 0;
        if (!B->live[l]) continue;
        int64_t i = B->sample[l];
        first[l] = r->save, ends[l] = r->ends;
        if (ends[l] - first[l] > most) most = ends[l] - first[l];
        any |= P->g_t && r->save < r->save_end && FN(by_dense)(W, (int)l); /* for f_new */
        for (int32_t j = r->ends; !has_jumps(P) && j < r->save_end; j++) /* with jumps: unjump_saves */
            for (size_t c = 0; c < d; c++) B->lambda[c * L + l] += (T)FN(cotangent)(W, P->row[i] + j, (int32_t)c);
    }
    if (!any && most == 0) return 0;
    memset(B->g_coef, 0, degree * size * sizeof(T));
    if (W->d <= FN(FEW)) {
        for (int l = 0; l < L; l++)
            if (B->live[l]) FN(collect_inside)(W, l);
        return 1;
    }
    for (int32_t round = 0; round < most; round++) {
        int64_t row[L];
        T theta[L], *g = W->spare;
        FN(inside)(P, round, B->sample, first, ends, B->t, B->h, row, theta);
        for (size_t l = 0; l < L; l++) FN(cotangents)(W, row[l], g + l, L);
        for (size_t e = 0; e < size; e++) B->g_base[e] += g[e];
        for (size_t q = 0; q < degree; q++)
            for (size_t c = 0; c < d; c++) {
                T *to = B->g_coef + (q * d + c) * L, *power = g + c * L;
                for (size_t l = 0; l < L; l++) to[l] += power[l] *= theta[l];
            }
    }
    return 1;
}

static void FN(seed_dense)(const FN(work) * W, T **gk) {
    const FN(back) *B = &W->back;
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    for (int i = tab->s; i < W->stages; i++) memset(gk[i], 0, size * sizeof(T));
    for (int i = 0; i < W->stages; i++)
        for (int j = 1; j <= tab->dense_degree; j++) {
            const T *g = B->g_coef + (size_t)(j - 1) * size;
            for (int p = 0; p < W->sums->n_halves; p++) {
                double b = W->sums->half[p].tab->dense[i][j];
                if (b != 0) FN(add_scaled)(W, p, gk[i], gk[i], B->h, b, g);
            }
        }
}

/* M^-1 f of lane l in component c */
static double FN(slope_of)(const FN(work) * W, size_t c, size_t l) {
    const double *inverse = W->P->mass_inverse;
    double sum = inverse ? 0 : (double)W->spare[c * L + l];
    size_t d = (size_t)W->d;
    for (size_t e = 0; inverse && e < d; e++) sum += inverse[c * d + e] * (double)W->spare[e * L + l];
    return sum;
}

/* dL/dt of rows (-1: none) += sign lambda . y'(t, y), y being the state in that row; own: the cotangent of the row for lambda. */
PN_RARE static int FN(add_slopes)(FN(work) * W, const int64_t *row, const double *t, const T *y, double sign, int own) {
    FN(back) *B = &W->back;
    size_t d = (size_t)W->d;
    T *state = FN(state_slot)(&W->reverse, W->files);
    int some = 0;
    FN(copy)(state, B->y, d * L);
    for (size_t l = 0; l < L; l++) {
        some |= row[l] >= 0;
        for (size_t c = 0; row[l] >= 0 && c < d; c++) state[c * L + l] = y[(size_t)row[l] * d + c];
    }
    if (!some) return 0;
    memcpy(W->active, B->live, L);
    if (FN(eval)(W, &W->reverse, W->files, t, W->spare)) return 1;
    for (size_t l = 0; l < L; l++)
        for (size_t c = 0; row[l] >= 0 && c < d; c++) {
            size_t at = c * L + l;
            double lambda = own ? FN(cotangent)(W, row[l], (int32_t)c) : (double)B->lambda[at] + (B->z ? (double)B->mu[at] : 0);
            W->P->g_t[row[l]] += sign * lambda * FN(slope_of)(W, c, l);
        }
    return 0;
}

/* Save times that are held move alone. On the side before, y- = y(t) and what follows begins with y+ (after jumps, else the same):
   dL/dt = lambda- . y'(t, y-) - lambda+ . y'(t, y+). The second part while lambda is lambda+ (sign -1), then the first (1). */
PN_RARE static int FN(held_ends)(FN(work) * W, int sign) {
    const pn_problem *P = W->P;
    int jumps = sign > 0 && has_jumps(P);
    FN(back) *B = &W->back;
    int64_t row[L];
    double t[L];
    for (int l = 0; l < L; l++) {
        const pn_record *r = &B->record[l];
        int held = B->live[l] && FN(tells_slope)(P) && FN(is_held)(W, l);
        row[l] = held ? P->row[B->sample[l]] + (jumps ? r->ends : r->save_end - 1) : -1;
        t[l] = held && !FN(on_switch)(W, l) ? r->t_new : B->t[l];
    }
    return FN(add_slopes)(W, row, t, (const T *)(jumps ? P->y_before : P->y), sign, 0);
}

/* Derivatives with respect to time of the saves in the step, grid frozen: theta = (t_s - t) / h. */
static void FN(time_saves)(FN(work) * W, double *gt, double *gh) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    int degree = W->tab->dense_degree;
    size_t size = (size_t)W->d * L;
    T *coef = W->flow.coef;
    FN(dense_coef)(W, B->k, B->h, coef);
    for (int l = 0; l < L; l++) {
        if (!B->live[l]) continue;
        const pn_record *r = &B->record[l];
        for (int32_t j = r->save; j < r->save_end; j++) {
            int64_t i = B->sample[l], row = P->row[i] + j;
            double ts = time_of(P, i, j), theta = (ts - B->t[l]) / B->h[l], slope = 0, value = 0;
            int end = j >= r->ends, on = FN(on_switch)(W, l); /* end of the step: unless that moves along, the slope is f_new */
            if (end && !FN(by_dense)(W, l)) continue;
            if (on && FN(tells_slope)(P)) continue; /* switch_saves */
            if (on) theta = 0;                      /* before the switch */
            for (int32_t c = 0; c < W->d; c++) {
                double g = FN(cotangent)(W, row, c), power = 1;
                for (int q = 0; q < degree; q++) {
                    double k = (double)coef[(size_t)q * size + (size_t)c * L + (size_t)l];
                    slope += g * (q + 1) * k * power;
                    power *= theta;
                    value += g * k * power;
                }
            }
            P->g_t[row] += slope / B->h[l];
            if (end || on) continue;
            gt[l] -= slope / B->h[l];
            gh[l] += value / B->h[l] - theta * slope / B->h[l];
        }
    }
}

/* Save times on a switch that take no step along: the slope is that before. */
PN_RARE static int FN(switch_saves)(FN(work) * W) {
    const FN(back) *B = &W->back;
    for (int32_t k = 0, any = FN(tells_slope)(W->P); any; k++) {
        int64_t row[L];
        any = 0;
        for (int l = 0; l < L; l++) {
            const pn_record *r = &B->record[l];
            int32_t j = r->save + k;
            int here = B->live[l] && j < r->save_end && (j < r->ends || FN(by_dense)(W, l)) && FN(on_switch)(W, l);
            row[l] = here ? W->P->row[B->sample[l]] + j : -1;
            any |= here;
        }
        if (any && FN(add_slopes)(W, row, B->t, (const T *)W->P->y, 1, 1)) return 1;
    }
    return 0;
}

/* The ends of the step are grid points: d/dt_new = gh (+ what the next step says of its start), d/dt = gt - gh. A first step on a
   switch begins with the slope before it. */
static int FN(time_ends)(FN(work) * W, const double *gt, const double *gh) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    int64_t begins[L];
    for (int l = 0; l < L; l++) {
        const pn_record *r = &B->record[l];
        int held = B->live[l] && FN(is_held)(W, l), on = B->live[l] && r->first && FN(tells_slope)(P) && FN(on_switch)(W, l);
        begins[l] = on ? P->row[B->sample[l]] + r->save - 1 : -1;
        if (!B->live[l]) continue;
        if (r->landed && !held) P->g_t[P->row[B->sample[l]] + r->save_end - 1] += gh[l] + B->carry[l];
        B->carry[l] = on ? 0 : gt[l] - gh[l];
    }
    return P->n_stops && (FN(add_slopes)(W, begins, B->t, (const T *)P->y, -1, 0) || FN(switch_saves)(W));
}
