/* Events: a sample ends where g_e(t, y; theta), one of several functions, changes its sign in a direction that counts.

   After an accepted step from y to y_new, windows.inl says where in it each g_e first does so on the dense output p. The root of
   g_e(p) is found by ITP (Oliveira & Takahashi 2020, ACM TOMS 47), the first of all events counts, and then the step itself is taken
   again, with the length x for which g_e(t + x, y + x sum_i b_i k_i) = 0 to rounding (secant steps inside a bracket): the step that
   is recorded ends on the event. Where a crossing of the dense output is none of the step (grazing, within the local error), the
   step ends there without an event, and the sample goes on. */

/* Roots of event e in the brackets, on the dense output; a lane without one has hi = 0. Ends hi - lo <= 1e-10 hi + least. */
static int FN(itp)(FN(work) * W, int32_t e, double *lo, double *hi, const int *from) {
    const FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    double a[L], b[L], x[L] = {0}, eps[L], most[L], all[L];
    unsigned char sure[L], open[L]; /* g at lo is on the side before the crossing: it may be 0 by rounding at the start */
    for (int l = 0; l < L; l++) {   /* values at the ends */
        size_t at = (size_t)e * L + (size_t)l;
        open[l] = hi[l] > 0;
        x[l] = lo[l];
        a[l] = (double)E->g0[at];
        b[l] = (double)E->g1[at];
        all[l] = hi[l] - lo[l];
        eps[l] = open[l] ? 0.5 * FN(least_step)(f, l) / fabs(f->h[l]) + 1e-14 : 1;
        most[l] = open[l] ? ceil(log2((hi[l] - lo[l]) / (2 * eps[l]))) + 1 : 0;
    }
    if (FN(watch_dense)(W, x, E->g)) return 1;
    for (int l = 0; l < L; l++) {
        if (lo[l] > 0) a[l] = (double)E->g[(size_t)e * L + (size_t)l];
        x[l] = hi[l];
        sure[l] = sign(a[l]) == from[l];
    }
    if (FN(watch_dense)(W, x, E->g)) return 1;
    for (int l = 0; l < L; l++)
        if (open[l] && hi[l] < 1) b[l] = (double)E->g[(size_t)e * L + (size_t)l];
    for (int j = 0; j < 64 && FN(any)(open); j++) {
        for (int l = 0; l < L; l++) {
            if (!open[l]) continue;
            double half = 0.5 * (lo[l] + hi[l]), width = hi[l] - lo[l], r = eps[l] * exp2(most[l] - j) - 0.5 * width;
            x[l] = half;
            if (!sure[l] || !(r > 0)) continue;
            double guess = (b[l] * lo[l] - a[l] * hi[l]) / (b[l] - a[l]), delta = 0.2 * width * width / all[l];
            int way = sign(half - guess);
            if (delta <= fabs(half - guess))
                guess += way * delta;
            else
                guess = half;
            x[l] = fabs(guess - half) <= r ? guess : half - way * r;
            if (!(x[l] > lo[l] && x[l] < hi[l])) x[l] = half;
        }
        if (FN(watch_dense)(W, x, E->g)) return 1;
        for (int l = 0; l < L; l++) {
            if (!open[l]) continue;
            double g = (double)E->g[(size_t)e * L + (size_t)l];
            if (sign(g) == from[l]) {
                lo[l] = x[l];
                a[l] = g;
                sure[l] = 1;
            } else {
                hi[l] = x[l];
                b[l] = g;
            }
            open[l] = hi[l] - lo[l] > 1e-10 * hi[l] + 2 * eps[l];
        }
    }
    return 0;
}

/* The first stage that depends on the length of the step. */
static int FN(first_to_retake)(const FN(work) * W) { return FN(is_implicit)(W) ? 0 : 1; }

/* Take the steps of all accepted lanes again, to the ends t_new; lanes whose end is what it was get the same bits. */
PN_SMALL static int FN(retake)(FN(work) * W, int stages) {
    FN(flow) *f = &W->flow;
    int s = W->tab->s, first = FN(first_to_retake)(W);
    for (int l = 0; l < L; l++) f->h[l] = f->t_new[l] - f->t[l];
    memcpy(W->active, f->accepted, L);
    if (FN(is_implicit)(W) && FN(linearise)(W, f->y, f->t, f->h)) return 1;
    if (FN(stages)(W, &W->field, W->file, W->stage_stride, f->y, f->t, f->h, f->t_new, f->k, first, s)) return 1;
    FN(combine_stage)(W, f->y_new, f->y, f->h, f->k, s);
    return stages > s && FN(stages)(W, &W->field, W->file, W->stage_stride, f->y, f->t, f->h, f->t_new, f->k, s, stages);
}

typedef struct FN(polish) { /* one lane: the length x of its step, a bracket, the best so far */
    double x, lo, hi, slope, before, g_before, best, g_best, small, reach;
    int from, seen, tries, stalled, root, done; /* seen: a step that ends behind the crossing was taken */
} FN(polish);

/* The next length to try after g at the present one; done: x is the best, and root says whether it is a root. */
static void FN(polish_next)(FN(polish) * p, double t, double dir, double g) {
    if (p->best != p->best || fabs(g) < fabs(p->g_best))
        p->best = p->x, p->g_best = g;
    else
        p->stalled++;
    if (sign(g) == p->from)
        p->lo = p->x;
    else
        p->hi = p->x, p->seen = 1;
    if (p->before == p->before && p->x != p->before) {
        double secant = (g - p->g_before) / (p->x - p->before), ratio = secant / p->slope;
        if (ratio > 0.1 && ratio < 10) p->slope = secant; /* else rounding */
    }
    p->before = p->x;
    p->g_before = g;
    double least = 1.2e-16 * fabs(t + dir * p->x) + (sizeof(T) == 4 ? 1e-7 * p->x : 0), move = -g / p->slope,
           next = p->x + move;
    int tiny = fabs(p->g_best) <= p->small; /* where the end of the bracket is a root too, none of its steps may end behind */
    p->root = g == 0 || fabs(move) <= least || (p->seen && p->hi - p->lo <= least) || (p->stalled >= 2 && p->seen) ||
              (p->stalled && !p->seen && tiny);
    p->done = p->root || (!p->seen && p->hi - p->lo <= least);
    p->root |= p->done && tiny;
    if (p->done) {
        p->x = p->best;
        return;
    }
    if (++p->tries > PN_SECANTS) { /* a multiple root, which they near ever more slowly: pass it, then halve */
        int passed = p->hi - p->lo < 1.5 * p->reach;
        if (!passed) p->reach = 8 * p->reach + least;
        next = passed ? NAN : p->x + (sign(g) == p->from ? p->reach : -p->reach);
    }
    if (!(next > p->lo && next < p->hi) || p->stalled) next = p->seen ? 0.5 * (p->lo + p->hi) : p->hi;
    p->x = next;
}

/* Make the steps of the lanes with an event (which >= 0) end on it. */
static int FN(land_on_events)(FN(work) * W, const double *lo, const double *hi) {
    FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    FN(polish) p[L];
    memset(p, 0, sizeof p);
    double at[L], width[L];
    int rounds = 0, open = 1;
    for (int side = 0; side < 2; side++) { /* slope of g at the root, on the dense output */
        for (int l = 0; l < L; l++) {
            double root = 0.5 * (lo[l] + hi[l]);
            width[l] = 1e-4 * (root > 0 ? root : 1);
            at[l] = E->which[l] < 0 ? 0.5 : root + (side ? width[l] : -width[l]);
        }
        if (FN(watch_dense)(W, at, side ? E->g : E->ga)) return 1;
    }
    for (int l = 0; l < L; l++) {
        if (E->which[l] < 0) continue;
        size_t e = (size_t)E->which[l] * L + (size_t)l;
        double h = fabs(f->h[l]), least = FN(least_step)(f, l), x = 0.5 * (lo[l] + hi[l]) * h, far = E->far[l] * h;
        double scale = 0;
        for (int k = 1; k <= E->probes; k++) {
            double size = fabs((double)FN(probe)(E, k)[e]);
            if (size > scale) scale = size;
        }
        x = x < least ? least : x;
        p[l] = (FN(polish)){.x = x < far ? x : far,
                            .hi = far,
                            .from = E->from[l],
                            .before = NAN,
                            .best = NAN,
                            .slope = ((double)E->g[e] - (double)E->ga[e]) / (2 * width[l] * h),
                            .small = (sizeof(T) == 4 ? 1e-6 : 1e-12) * scale};
        p[l].seen = E->far[l] == 1 && sign((double)E->g1[e]) != E->from[l];
        f->t_new[l] = f->t[l] + f->dir[l] * p[l].x;
    }
    while (open && rounds++ < 60) {
        if (FN(retake)(W, W->tab->s) || FN(watch_eval)(W, f->t_new, f->y_new, E->g)) return 1;
        open = 0;
        for (int l = 0; l < L; l++) {
            if (E->which[l] < 0 || p[l].done) continue;
            f->evals[l] += W->tab->s - FN(first_to_retake)(W);
            FN(polish_next)(&p[l], f->t[l], f->dir[l], (double)E->g[(size_t)E->which[l] * L + (size_t)l]);
            f->t_new[l] = f->t[l] + f->dir[l] * p[l].x;
            open |= !p[l].done;
        }
    }
    for (int l = 0; l < L; l++)
        if (E->which[l] >= 0 && !p[l].root) { /* the step itself does not cross */
            E->which[l] = -1;
            f->t_new[l] = f->t[l] + f->dir[l] * p[l].hi;
            if (!W->P->adaptive) f->c0[l] = f->t_new[l], f->c1[l] = -1;
        }
    return 0;
}

/* The side of event e where the lane's step stops before it would cross, at theta < 1 of the planned step. */
static int FN(side_at_stop)(const FN(work) * W, int32_t e, int l, double stop) {
    const FN(watch) *E = &W->watch;
    size_t at = (size_t)e * L + (size_t)l;
    int side = FN(side_of)(W, l)[e], now = sign((double)E->g1[at]);
    int later = E->theta[at] > 0,
        same = later && E->theta[at] - stop < 1e-6; /* the time is that of this event, to rounding: it comes next */
    if (later && (same || E->flip[at] > 1)) return E->end[at];
    if (later && E->flip[at] >= stop) return side;
    return now ? now : side;
}

/* The sides of all events where the lane's sample stops, or at the end of its step, which was to end at stop = 1. */
PN_RARE static void FN(settle)(FN(work) * W, int l, double stop) {
    const FN(watch) *E = &W->watch;
    int32_t *side = FN(side_of)(W, l);
    for (int32_t e = 0; e < E->n; e++)
        if (E->which[l] < 0 && !E->shortened[l])
            side[e] = E->end[(size_t)e * L + (size_t)l];
        else
            side[e] = e == E->which[l] ? -E->from[l] : FN(side_at_stop)(W, e, l, stop);
}

/* The first event of every lane: which, or -1, and its bracket. 1 in *any: there is one. */
static int FN(first_events)(FN(work) * W, double *first_lo, double *first_hi, int *any) {
    FN(watch) *E = &W->watch;
    double lo[L], hi[L], far[L];
    int from[L], some;
    *any = 0;
    for (int l = 0; l < L; l++) {
        E->which[l] = -1;
        first_lo[l] = first_hi[l] = 0;
    }
    for (int32_t e = 0; e < E->n; e++) {
        if (FN(look)(W, e, lo, hi, from, &some)) return 1;
        memcpy(far, hi, sizeof far);
        if (some && FN(itp)(W, e, lo, hi, from)) return 1;
        *any |= some;
        for (int l = 0; l < L; l++) {
            E->theta[(size_t)e * L + (size_t)l] = hi[l];
            if (hi[l] > 0 && (E->which[l] < 0 || hi[l] < first_hi[l])) {
                E->which[l] = e;
                E->from[l] = from[l];
                E->far[l] = far[l];
                first_lo[l] = lo[l], first_hi[l] = hi[l];
            }
        }
    }
    return 0;
}

/* Events of the accepted steps: lanes that have one end their step on it. */
PN_RARE static pn_status FN(find_events)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    double lo[L], hi[L], stop[L];
    int any;
    if (FN(probe_steps)(W)) return PN_CALLBACK;
    pn_status st = FN(check_events)(W);
    if (st != PN_OK) return st;
    if (FN(first_events)(W, lo, hi, &any)) return PN_CALLBACK;
    for (int l = 0; l < L; l++) {
        E->shortened[l] = E->which[l] >= 0;
        stop[l] = f->h[l];
    }
    if (any) {
        if (FN(land_on_events)(W, lo, hi)) return PN_CALLBACK;
        int stages = W->tab->dense_uses_new ? W->stages : W->tab->s;
        if (FN(retake)(W, stages)) return PN_CALLBACK;
        FN(count_evals)(f, E->shortened, stages - FN(first_to_retake)(W));
        FN(dense_coef)(W, f->k, f->h, f->coef);
        FN(find_saves)(W);
        if (FN(watch_eval)(W, f->t_new, f->y_new, E->g1)) return PN_CALLBACK;
    }
    for (int l = 0; l < L; l++) {
        if (!f->accepted[l]) continue;
        FN(settle)(W, l, f->h[l] / stop[l]);
        T *y = (T *)W->P->event_y + (size_t)f->sample[l] * 2 * (size_t)W->d;
        for (int32_t c = 0; E->which[l] >= 0 && c < W->d; c++) {
            y[c] = f->y[(size_t)c * L + (size_t)l];
            y[c + W->d] = f->y_new[(size_t)c * L + (size_t)l];
        }
        for (int32_t e = 0; e < E->n; e++) E->g0[(size_t)e * L + (size_t)l] = E->g1[(size_t)e * L + (size_t)l];
    }
    return PN_OK;
}

/* The lane's step has ended on an event: the sample stops here, its later rows are NaN. */
PN_RARE static pn_status FN(stop_at_event)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    P->event_which[i] = W->watch.which[l];
    P->stop_t[i] = f->t[l];
    for (int64_t row = P->row[i] + f->save[l]; row < P->row[i] + n_times(P, i); row++)
        for (int32_t c = 0; c < W->d; c++) ((T *)P->y)[(size_t)row * (size_t)W->d + (size_t)c] = (T)NAN;
    return FN(finish)(W, l);
}

PN_SMALL static void FN(carve_watch)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(watch) *E = &W->watch;
    pn_arena *a = &W->arena;
    size_t stride;
    if (!P->event) return;
    FN(carve_exec)(&E->exec, a, P, P->event, W->active);
    if (!P->theta_each) E->exec.theta[0] = P->event_theta;
    E->exec.wardrobe = P->event_theta;
    E->exec.wardrobe_stride = P->event->n_spaces > 0 ? (size_t)P->event->n_theta[0] : 0;
    E->file = FN(carve_files)(&E->exec, a, 1, &stride);
    E->n = P->event->output_size[0];
    E->y = pn_arena_take(a, ((size_t)W->d * L + PN_PAD) * sizeof(T));
    E->probes = W->tab->dense_degree <= 4 ? 4 : 8;
    E->probe = pn_arena_take(a, ((size_t)(E->probes + 1) * (size_t)E->n * L + PN_PAD) * sizeof(T));
    if (E->probe) E->g0 = FN(probe)(E, 0), E->g1 = FN(probe)(E, E->probes);
    E->g = pn_arena_take(a, ((size_t)E->n * L + PN_PAD) * sizeof(T));
    E->ga = pn_arena_take(a, ((size_t)E->n * L + PN_PAD) * sizeof(T));
    E->theta = pn_arena_take(a, (size_t)E->n * L * sizeof(double));
    E->flip = pn_arena_take(a, (size_t)E->n * L * sizeof(double));
    E->end = pn_arena_take(a, (size_t)E->n * L);
}
