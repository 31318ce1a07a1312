/* Events: a sample ends where g_e(t, y; theta), one of several functions, changes its sign in a direction that counts.

   After an accepted step from y to y_new, with p the dense output (of degree 3 and more: cubic where the method has none),
       g_e at the step's beginning, middle and end, and, where these lie on one side, at the vertices of parabolas that come
       close to 0 in between,
   is looked at; a pair of crossings between two of these points that parabolas do not find is not seen. The root of g_e(p) is found by ITP (Oliveira &
   Takahashi 2020, ACM TOMS 47), the first of all events counts, and then the step itself is taken again, with the length x
   for which g_e(t + x, y + x sum_i b_i k_i) = 0 to rounding (secant steps inside a bracket): the step that is recorded ends
   on the event. Where a crossing of the dense output is none of the step (grazing, within the local error), the step ends
   there without an event, and the sample goes on.

   A side is the sign of g_e. The caller says on which one a sample starts, since g_e is 0 there after an event. */

static inline int FN(sign)(double x) { return (x > 0) - (x < 0); }

/* g (events, L) at times t and states y (d, L) */
static int FN(watch_eval)(FN(work) * W, const double *t, const T *y, T *g) {
    FN(watch) *E = &W->watch;
    T *time = E->file + (size_t)E->exec.lay->slot[0] * L;
    for (int l = 0; l < L; l++) time[l] = (T)t[l];
    memcpy(FN(state_slot)(&E->exec, E->file), y, (size_t)W->d * L * sizeof(T));
    if (FN(run)(&E->exec, E->file, E->exec.lay->n_prologue, E->exec.lay->n_forward)) return 1;
    memcpy(g, FN(at)(&E->exec, E->file, E->exec.lay->output[0]), (size_t)E->n * L * sizeof(T));
    return 0;
}

/* g on the dense output of the step, theta (L) */
static int FN(watch_dense)(FN(work) * W, const double *theta, T *g) {
    const FN(flow) *f = &W->flow;
    int degree = W->tab->dense_degree;
    size_t stride = (size_t)W->d * L;
    double t[L];
    for (int l = 0; l < L; l++) t[l] = f->t[l] + theta[l] * f->h[l];
    for (int32_t c = 0; c < W->d; c++)
        for (size_t l = 0; l < L; l++) {
            const T *q = f->coef + (size_t)c * L + l;
            T v = q[(size_t)(degree - 1) * stride];
            for (int j = degree - 1; j-- > 0;) v = v * (T)theta[l] + q[(size_t)j * stride];
            W->watch.y[(size_t)c * L + l] = f->y[(size_t)c * L + l] + (T)theta[l] * v;
        }
    return FN(watch_eval)(W, t, W->watch.y, g);
}

static inline int32_t *FN(side_of)(const FN(work) * W, int l) {
    return W->P->event_side + (size_t)W->flow.sample[l] * (size_t)W->watch.n;
}

typedef struct FN(dip) { /* three points of g_e in the lane's step, all on one side, and where a parabola through them turns back */
    double x[3], g[3], turn;
    int open;
} FN(dip);

/* Whether a parabola comes close to 0 inside the step. */
static int FN(turns)(FN(dip) * p, int side) {
    double w = p->x[1] - p->x[0], v = p->x[1] - p->x[2], a = p->g[1] - p->g[2], b = p->g[1] - p->g[0], q = w * a - v * b;
    double least = fmin(fabs(p->g[0]), fmin(fabs(p->g[1]), fabs(p->g[2]))), turn = p->x[1] - 0.5 * (w * w * a - v * v * b) / q;
    double bend = q / (w * v * (p->x[2] - p->x[0])), drop = bend * (p->x[1] - turn) * (p->x[1] - turn); /* g = g(turn) + bend (x - turn)^2 */
    p->turn = turn;
    return bend * side > 0 && turn > p->x[0] && turn < p->x[2] && turn != p->x[1] && side * (p->g[1] - drop) < 0.5 * least;
}

/* Narrow the three points down to the lowest with g at p->turn. */
static void FN(narrow)(FN(dip) * p, int side, double g) {
    int right = p->turn > p->x[1], low = side * g < side * p->g[1], lose = low == right ? 0 : 2;
    if (low) {
        p->x[lose] = p->x[1];
        p->g[lose] = p->g[1];
        p->x[1] = p->turn;
        p->g[1] = g;
    } else {
        p->x[lose] = p->turn;
        p->g[lose] = g;
    }
}

/* The first interval between probes (theta[0..n), values g) in which the side changes in a direction that counts: its ends
   in lo, hi. Returns the side at the end of the step, or 2 if there is a crossing; *from is the side before that. */
static int FN(walk)(int side, int direction, const double *theta, const double *g, int n, double *lo, double *hi, int *from) {
    double before = 0;
    for (int k = 0; k < n; k++) {
        int now = FN(sign)(g[k]);
        if (side == 0) side = now;
        else if (now != side) {
            int to = -side;
            if (direction == 0 || direction == to) {
                *lo = before;
                *hi = theta[k];
                *from = side;
                return 2;
            }
            side = now ? now : to;
        }
        before = theta[k];
    }
    return side;
}

enum { FN(DIPS) = 6 }; /* parabolas tried */

/* Look at event e over the steps of all accepted lanes: bracket (lo, hi) and side before it, hi = 0 where it does not happen.
   1 in *some: it happens somewhere. */
static int FN(look)(FN(work) * W, int32_t e, double *lo, double *hi, int *from, int *some) {
    const FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    FN(dip) p[L];
    double turn[L], there[L];
    for (int l = 0; l < L; l++) {
        size_t at = (size_t)e * L + (size_t)l;
        int side = f->accepted[l] ? FN(side_of)(W, l)[e] : 0;
        p[l] = (FN(dip)){{0, 0.5, 1}, {(double)E->g0[at], (double)E->gm[at], (double)E->g1[at]}, 0.5, side != 0};
        for (int k = 1; k < 3; k++) p[l].open &= FN(sign)(p[l].g[k]) == side;
        turn[l] = 0.5;
        there[l] = p[l].g[1];
    }
    for (int tries = 0; tries < FN(DIPS); tries++) {
        int any = 0;
        for (int l = 0; l < L; l++) {
            p[l].open = p[l].open && FN(turns)(&p[l], FN(side_of)(W, l)[e]);
            if (p[l].open) turn[l] = p[l].turn, any = 1;
        }
        if (!any) break;
        if (FN(watch_dense)(W, turn, E->g)) return 1;
        for (int l = 0; l < L; l++) {
            if (!p[l].open) continue;
            int side = FN(side_of)(W, l)[e];
            there[l] = (double)E->g[(size_t)e * L + (size_t)l];
            if (FN(sign)(there[l]) != side) p[l].open = 0;
            else FN(narrow)(&p[l], side, there[l]);
        }
    }
    *some = 0;
    for (int l = 0; l < L; l++) {
        lo[l] = hi[l] = 0;
        if (!f->accepted[l]) continue;
        size_t at = (size_t)e * L + (size_t)l;
        int late = turn[l] > 0.5, end; /* two probes at 0.5 do no harm */
        double theta[3] = {late ? 0.5 : turn[l], late ? turn[l] : 0.5, 1};
        double g[3] = {late ? (double)E->gm[at] : there[l], late ? there[l] : (double)E->gm[at], (double)E->g1[at]};
        end = FN(walk)(FN(side_of)(W, l)[e], W->P->event_direction[e], theta, g, 3, &lo[l], &hi[l], &from[l]);
        if (end == 2) *some = 1;
        E->end[at] = (signed char)(end == 2 ? from[l] : end);
    }
    return 0;
}

/* Roots of event e in the brackets, on the dense output; a lane without one has hi = 0. Ends hi - lo <= 1e-10 hi + least. */
static int FN(itp)(FN(work) * W, int32_t e, double *lo, double *hi, const int *from) {
    const FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    double a[L], b[L], x[L] = {0}, eps[L], most[L], all[L];
    unsigned char sure[L], open[L]; /* g at lo is on the side before the crossing: it may be 0 by rounding at the start */
    for (int l = 0; l < L; l++) { /* values at the ends */
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
        sure[l] = FN(sign)(a[l]) == from[l];
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
            int way = FN(sign)(half - guess);
            if (delta <= fabs(half - guess)) guess += way * delta;
            else guess = half;
            x[l] = fabs(guess - half) <= r ? guess : half - way * r;
            if (!(x[l] > lo[l] && x[l] < hi[l])) x[l] = half;
        }
        if (FN(watch_dense)(W, x, E->g)) return 1;
        for (int l = 0; l < L; l++) {
            if (!open[l]) continue;
            double g = (double)E->g[(size_t)e * L + (size_t)l];
            if (FN(sign)(g) == from[l]) {
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

/* Take the steps of all accepted lanes again, to the ends t_new; lanes whose end is what it was get the same bits. */
static int FN(retake)(FN(work) * W, int stages) {
    FN(flow) *f = &W->flow;
    int s = W->tab->s;
    for (int l = 0; l < L; l++) f->h[l] = f->t_new[l] - f->t[l];
    memcpy(W->active, f->accepted, L);
    if (FN(stages)(W, &W->field, W->file, W->stage_stride, f->y, f->t, f->h, f->t_new, f->k, 1, s)) return 1;
    FN(combine_stage)(W, f->y_new, f->y, f->h, f->k, s);
    return stages > s && FN(stages)(W, &W->field, W->file, W->stage_stride, f->y, f->t, f->h, f->t_new, f->k, s, stages);
}

typedef struct FN(polish) { /* one lane: the length x of its step, a bracket, the best so far */
    double x, lo, hi, slope, before, g_before, best, g_best, small;
    int from, seen, stalled, root, done; /* seen: a step that ends behind the crossing was taken */
} FN(polish);

/* The next length to try after g at the present one; done: x is the best, and root says whether it is a root. */
static void FN(polish_next)(FN(polish) * p, double t, double dir, double g) {
    if (p->best != p->best || fabs(g) < fabs(p->g_best)) p->best = p->x, p->g_best = g;
    else p->stalled++;
    if (FN(sign)(g) == p->from) p->lo = p->x;
    else p->hi = p->x, p->seen = 1;
    if (p->before == p->before && p->x != p->before) {
        double secant = (g - p->g_before) / (p->x - p->before), ratio = secant / p->slope;
        if (ratio > 0.1 && ratio < 10) p->slope = secant; /* else rounding */
    }
    p->before = p->x;
    p->g_before = g;
    double least = 1.2e-16 * fabs(t + dir * p->x) + (sizeof(T) == 4 ? 1e-7 * p->x : 0), move = -g / p->slope, next = p->x + move;
    p->root = g == 0 || fabs(move) <= least || (p->seen && p->hi - p->lo <= least) ||
              (p->stalled >= 2 && (p->seen || fabs(p->g_best) <= p->small));
    p->done = p->root || (!p->seen && p->hi - p->lo <= least);
    if (p->done) {
        p->x = p->best;
        return;
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
        double scale = fabs((double)E->gm[e]) > fabs((double)E->g1[e]) ? fabs((double)E->gm[e]) : fabs((double)E->g1[e]);
        x = x < least ? least : x;
        p[l] = (FN(polish)){.x = x < far ? x : far, .hi = far, .from = E->from[l], .before = NAN, .best = NAN,
                            .slope = ((double)E->g[e] - (double)E->ga[e]) / (2 * width[l] * h), .small = 1e-12 * scale};
        p[l].seen = E->far[l] == 1 && FN(sign)((double)E->g1[e]) != E->from[l];
        f->t_new[l] = f->t[l] + f->dir[l] * p[l].x;
    }
    while (open && rounds++ < 60) {
        if (FN(retake)(W, W->tab->s) || FN(watch_eval)(W, f->t_new, f->y_new, E->g)) return 1;
        open = 0;
        for (int l = 0; l < L; l++) {
            if (E->which[l] < 0 || p[l].done) continue;
            f->evals[l] += W->tab->s - 1;
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

/* The sides of all events where the lane's sample stops, or at the end of its step. */
static void FN(settle)(FN(work) * W, int l, const double *theta) {
    const FN(watch) *E = &W->watch;
    int32_t *side = FN(side_of)(W, l);
    for (int32_t e = 0; e < E->n; e++) {
        size_t at = (size_t)e * L + (size_t)l;
        if (E->which[l] < 0 && !E->shortened[l]) side[e] = E->end[at];
        else if (e == E->which[l]) side[e] = -E->from[l];
        else if (theta[at] > 0) side[e] = E->end[at]; /* it is to cross later: the side before that */
        else {
            int now = FN(sign)((double)E->g1[at]);
            if (now) side[e] = now;
        }
    }
}

/* An event function that is NaN ends the sample. */
static pn_status FN(check_events)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    const FN(watch) *E = &W->watch;
    for (int l = 0; l < L; l++) {
        double bad = 0;
        for (int32_t e = 0; e < E->n && f->accepted[l]; e++) {
            double m = (double)E->gm[(size_t)e * L + (size_t)l], b = (double)E->g1[(size_t)e * L + (size_t)l];
            bad += m != m || b != b;
        }
        if (bad == 0) continue;
        f->accepted[l] = 0;
        FN(fail)(W, l, PN_BAD_EVENT);
        pn_status st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

/* Events of the accepted steps: lanes that have one end their step on it. */
static pn_status FN(find_events)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    double middle[L], lo[L] = {0}, hi[L] = {0}, first_lo[L] = {0}, first_hi[L] = {0};
    int from[L] = {0}, some, any = 0;
    for (int l = 0; l < L; l++) {
        middle[l] = 0.5;
        E->which[l] = -1;
        E->shortened[l] = 0;
    }
    for (int l = 0; l < L; l++) any |= f->accepted[l] && f->index[l] == 0;
    if (any) { /* the first step of a sample: g is not known at its beginning */
        if (FN(watch_eval)(W, f->t, f->y, E->g)) return PN_CALLBACK;
        for (int32_t e = 0; e < E->n; e++)
            for (int l = 0; l < L; l++)
                if (f->accepted[l] && f->index[l] == 0) E->g0[(size_t)e * L + (size_t)l] = E->g[(size_t)e * L + (size_t)l];
    }
    if (FN(watch_dense)(W, middle, E->gm) || FN(watch_eval)(W, f->t_new, f->y_new, E->g1)) return PN_CALLBACK;
    pn_status st = FN(check_events)(W);
    if (st != PN_OK) return st;
    any = 0;
    for (int32_t e = 0; e < E->n; e++) {
        if (FN(look)(W, e, lo, hi, from, &some)) return PN_CALLBACK;
        double far[L];
        memcpy(far, hi, sizeof far);
        if (some && FN(itp)(W, e, lo, hi, from)) return PN_CALLBACK;
        any |= some;
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
    if (any) {
        for (int l = 0; l < L; l++) E->shortened[l] = E->which[l] >= 0;
        if (FN(land_on_events)(W, first_lo, first_hi)) return PN_CALLBACK;
        int stages = W->tab->dense_uses_new ? W->stages : W->tab->s;
        if (FN(retake)(W, stages)) return PN_CALLBACK;
        FN(count_evals)(f, E->shortened, stages - 1);
        FN(dense_coef)(W, f->k, f->h, f->coef);
        FN(find_saves)(W);
        if (FN(watch_eval)(W, f->t_new, f->y_new, E->g1)) return PN_CALLBACK;
    }
    for (int l = 0; l < L; l++) {
        if (!f->accepted[l]) continue;
        FN(settle)(W, l, E->theta);
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
static pn_status FN(stop_at_event)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    P->event_which[i] = W->watch.which[l];
    P->stop_t[i] = f->t[l];
    for (int64_t row = P->row[i] + f->save[l]; row < P->row[i] + FN(n_times)(P, i); row++)
        for (int32_t c = 0; c < W->d; c++) ((T *)P->y)[(size_t)row * (size_t)W->d + (size_t)c] = (T)NAN;
    return FN(finish)(W, l);
}

static void FN(carve_watch)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(watch) *E = &W->watch;
    pn_arena *a = &W->arena;
    size_t stride;
    if (!P->event) return;
    FN(carve_exec)(&E->exec, a, P, P->event, W->active);
    E->exec.theta[0] = P->event_theta;
    E->file = FN(carve_files)(&E->exec, a, 1, &stride);
    E->n = P->event->output_size[0];
    E->y = pn_arena_take(a, ((size_t)W->d * L + PN_PAD) * sizeof(T));
    T **values[] = {&E->g0, &E->gm, &E->g1, &E->g, &E->ga};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) *values[i] = pn_arena_take(a, ((size_t)E->n * L + PN_PAD) * sizeof(T));
    E->theta = pn_arena_take(a, (size_t)E->n * L * sizeof(double));
    E->end = pn_arena_take(a, (size_t)E->n * L);
}
