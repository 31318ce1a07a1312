/* How a sample starts: it is put into a lane at its initial time, its first step is chosen, and it waits for its turn. */

/* ---- loading lanes ------------------------------------------------------------------------------------------------------ */
static void FN(load_state)(FN(work) * W, int l, const T *y) {
    FN(flow) *f = &W->flow;
    for (int32_t c = 0; c < W->d; c++) {
        f->y[(size_t)c * L + (size_t)l] = y[c];
        if (f->z) f->z[(size_t)c * L + (size_t)l] = y[c];
    }
}

static int FN(finite)(const T *x, size_t n) {
    vec bad = V(set1)((T)0);
    T rest = 0;
    size_t e = 0;
    for (; e + VE <= n; e += VE) bad += V(load)(x + e) * V(set1)((T)0);
    for (; e < n; e++) rest += x[e] * 0;
    return V(hsum)(bad) + rest == 0;
}

/* Samples whose input is not finite take no step. Those that share one are looked at once. */
PN_SMALL static void FN(check_signals)(FN(work) * W) {
    const pn_problem *P = W->P;
    size_t per = (size_t)(P->degree + 1) * (size_t)P->m;
    memset(W->refused, PN_OK, (size_t)W->count);
    for (int64_t j = 0; P->degree >= 0 && !P->finite_inputs && j < W->count; j++) {
        int64_t i = W->first + j;
        int same = j > 0 && P->seg_start[i] == P->seg_start[i - 1] && P->knot_len[i] == P->knot_len[i - 1];
        if (same) W->refused[j] = W->refused[j - 1];
        else if (!FN(finite)((const T *)P->coef + (size_t)P->seg_start[i] * per, (size_t)(P->knot_len[i] - 1) * per))
            W->refused[j] = PN_BAD_INPUT;
    }
}

/* Put sample i into lane l at its initial time, with the save times there written. live[l]: it has steps to take. */
static pn_status FN(open)(FN(work) * W, int l, int64_t i) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    f->sample[l] = i;
    f->live[l] = 1;
    f->have_k[l] = f->again[l] = 0;
    f->save[l] = f->grid[l] = f->jump_at[l] = 0;
    f->index[l] = f->attempts[l] = f->evals[l] = f->rejects[l] = f->jacobians[l] = f->factors[l] = 0;
    f->source[l] = PN_SOURCE_HERE;
    f->resumed[l] = f->change[l] = f->returns[l] = 0;
    f->hits[l] = f->misses[l] = 0;
    f->stiff_steps[l] = 0;
    f->t[l] = time_of(P, i, 0);
    f->t_last[l] = time_of(P, i, n_times(P, i) - 1);
    f->dir[l] = f->t_last[l] > f->t[l] ? 1 : f->t_last[l] < f->t[l] ? -1 : 0;
    f->c0[l] = P->adaptive ? P->first_step : f->t[l];
    f->c1[l] = 0;
    f->seg[l] = first_segment(P, i, f->t[l], f->dir[l]);
    if (!W->replaying) {
        P->status[i] = PN_OK;
        P->stop_t[i] = f->t_last[l];
        P->stop_component[i] = -1;
        if (P->steps) FN(begin_steps)(W, &P->steps[i]);
    }
    const T *y = has_jumps(P) ? W->chunk_y + (size_t)(i - W->first) * (size_t)W->d : (const T *)P->y0 + (size_t)i * (size_t)W->d;
    FN(load_state)(W, l, y);
    pn_status refused = (pn_status)W->refused[i - W->first];
    if (refused == PN_OK && !FN(finite)((const T *)W->P->y0 + (size_t)i * (size_t)W->d, (size_t)W->d)) refused = PN_BAD_INPUT;
    if (refused != PN_OK) {
        FN(fail)(W, l, refused);
        return FN(finish)(W, l);
    }
    if (has_jumps(P) && FN(jump_open)(W, l)) return FN(finish)(W, l);
    while (f->save[l] < n_times(P, i) && time_of(P, i, f->save[l]) == f->t[l]) {
        if (FN(has_sensitivities)(W)) FN(sens_first)(W, P->row[i] + f->save[l]);
        FN(jump)(P, P->row[i] + f->save[l], W->d, f->y + l);
        FN(save_row)(W, P->row[i] + f->save[l]++, f->y + l);
    }
    if (f->save[l] == n_times(P, i)) return FN(finish)(W, l);
    f->t_save[l] = time_of(P, i, f->save[l]);
    return PN_OK;
}

static void FN(vacate)(FN(flow) * f) {
    memset(f->live, 0, L);
    memset(f->accepted, 0, L);
    memset(f->have_k, 0, L);
    for (int l = 0; l < L; l++) f->sample[l] = -1;
}

/* ---- the first step (Hairer, Norsett, Wanner, Solving ODEs I, II.4, "Starting step size") ------------------------------- */
/* (PN_FIRST / derivative)^(1/order) is bolder than the 0.01 of the book: a failed try costs no more than a step too short. */
#define PN_FIRST 10.0

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
    const V(terms) euler = {.n = 1, .a = {1}};
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

/* ---- times in float32 ----------------------------------------------------------------------------------------------------- */
/* The field at times of the sample, and at the next float32 numbers: a difference that is not small beside the changes from
   one time to another says that its changes are finer than the numbers. */
PN_SMALL static int FN(look_at_times)(FN(work) * W, unsigned char *coarse) {
    static const double place[] = {0.07, 0.41, 0.83};
    FN(flow) *f = &W->flow;
    size_t size = (size_t)W->d * L;
    T *state = FN(state_slot)(&W->field, W->file), *here = f->k[0], *next = f->k[1], *least = f->y_new, *most = W->spare, *moved = f->coef;
    memcpy(W->active, f->live, L);
    for (int q = 0; q < 3; q++) {
        double t[L], beside[L];
        for (int l = 0; l < L; l++) {
            t[l] = f->t[l] + place[q] * (f->t_last[l] - f->t[l]);
            beside[l] = (double)nextafterf((float)t[l], (float)INFINITY);
        }
        memcpy(state, f->y, size * sizeof(T));
        if (FN(eval)(W, &W->field, W->file, t, here)) return 1;
        memcpy(state, f->y, size * sizeof(T));
        if (FN(eval)(W, &W->field, W->file, beside, next)) return 1;
        for (size_t e = 0; e < size; e++) {
            T step = next[e] > here[e] ? next[e] - here[e] : here[e] - next[e];
            least[e] = q == 0 || here[e] < least[e] ? here[e] : least[e];
            most[e] = q == 0 || here[e] > most[e] ? here[e] : most[e];
            moved[e] = q == 0 || step > moved[e] ? step : moved[e];
        }
    }
    for (int l = 0; l < L; l++) coarse[l] = 0;
    for (size_t e = 0; e < size; e++) {
        double span = (double)most[e] - (double)least[e], large = fmax(fabs((double)most[e]), fabs((double)least[e]));
        coarse[e % L] |= (double)moved[e] > 1e-3 * span && (double)moved[e] > 1e-5 * large;
    }
    return 0;
}

/* Samples whose field changes with t faster than float32 can tell are not solved. A callback is not asked. */
PN_SMALL static pn_status FN(check_times)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    if (sizeof(T) != sizeof(float) || !W->P->field->reads_t || W->P->call) return PN_OK;
    for (int64_t base = 0; base < W->count; base += L) {
        unsigned char coarse[L];
        FN(vacate)(f);
        for (int l = 0; l < L && base + l < W->count; l++) {
            pn_status st = FN(open)(W, l, W->first + base + l);
            if (st != PN_OK) return st;
        }
        if (FN(look_at_times)(W, coarse)) return PN_CALLBACK;
        for (int l = 0; l < L && base + l < W->count; l++)
            if (f->live[l] && coarse[l]) W->refused[base + l] = PN_COARSE_TIME;
    }
    return PN_OK;
}

/* Choose the first steps of all samples of the chunk, L at a time. */
static pn_status FN(prepare_chunk)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    size_t d = (size_t)W->d;
    memset(W->chunk_h, 0, (size_t)W->count * sizeof(double));
    FN(check_signals)(W);
    pn_status checked = FN(check_times)(W);
    if (checked != PN_OK) return checked;
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
        double span = fabs(time_of(P, i, n_times(P, i) - 1) - time_of(P, i, 0));
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
    for (int l = 0; l < W->lanes && W->unparked < W->parked.n; l++)
        if (!f->live[l] && !FN(resume)(W, l)) break;
    for (int l = 0; l < W->lanes && W->way == 0 && W->next < W->count; l++)
        while (!f->live[l] && W->next < W->count) {
            int64_t j = W->turn[W->next++];
            pn_status st = FN(open)(W, l, W->first + j);
            if (st != PN_OK) return st;
            if (FN(has_sensitivities)(W)) FN(sens_open)(W, l);
            if (W->chunk_h[j] == 0) continue;
            f->c0[l] = W->chunk_h[j];
            f->evals[l] = 2;
            if (FN(is_implicit)(W)) continue; /* its first stage is no f */
            f->source[l] = PN_SOURCE_START;
            f->have_k[l] = W->P->lambda == 0 && !W->P->quadrature; /* those fill the register files anew */
            for (int32_t c = 0; c < W->d; c++) f->k[0][(size_t)c * L + (size_t)l] = W->chunk_k[(size_t)j * (size_t)W->d + (size_t)c];
        }
    return PN_OK;
}
