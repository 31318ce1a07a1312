/* Samples that change between an explicit method and a Rosenbrock method (method="auto").

   Stiff is where the explicit method takes its steps at the limit of its stability. Its last two evaluations, f at the end of the
   step and in the last stage, whose time is the same, tell the fastest rate (Hairer, Wanner, Solving ODEs II, IV.2):
       h lambda ~ |f(y_new) - f(Y_s)| / (|y_new - Y_s| / h)
   PN_HITS steps with h lambda near the limit, fewer than PN_MISSES others in a row between them, and the sample goes on by the
   Rosenbrock method. It comes back when for PN_CALM steps in a row a bound of all rates, the row sums of |J| in units of the
   tolerances, says that the explicit method would be stable with these steps too. Every return asks for twice as many hits.

   Lanes never take steps of different methods. A sample that changes leaves its lane, and waits till no lane has work by the method
   at hand; then all that wait are given lanes again. So what a sample does depends on nothing but itself. */

#define PN_GRACE 16  /* so many first steps of a sample are not looked at: short solves pay nothing */
#define PN_NEAR 0.7  /* part of the limit: step control may settle a little below it */
#define PN_HITS 15
#define PN_MISSES 6
#define PN_CALM 5
#define PN_RETURNS 6 /* then it stays with the Rosenbrock method */

typedef struct FN(parked) { /* a sample between two lanes; its sensitivities, its state and its event functions follow */
    int64_t sample, index, attempts, evals, rejects, jacobians, factors, stiff_steps;
    int32_t seg, grid, save, jump_at;
    double t, t_last, dir, c0, t_save;
    int32_t way, returns;
} FN(parked);

static size_t FN(parked_stride)(const FN(work) * W) {
    size_t sens = FN(has_sensitivities)(W) ? (size_t)W->d * (size_t)W->columns * sizeof(SENS) : 0;
    return (sizeof(FN(parked)) + sens + ((size_t)W->d + (size_t)W->watch.n) * sizeof(T) + 7) / 8 * 8;
}

/* The lane's numbers into a parked sample, or back. */
static void FN(carry)(FN(work) * W, int l, FN(parked) * p, int back) {
    FN(flow) *f = &W->flow;
    size_t n = FN(has_sensitivities)(W) ? (size_t)W->d * (size_t)W->columns : 0, d = (size_t)W->d, events = (size_t)W->watch.n, at = (size_t)l;
    SENS *sens = (SENS *)(void *)(p + 1);
    T *y = (T *)(void *)(sens + n), *g = y + d;
    for (size_t e = 0; e < n; e++)
        if (back) W->sens[e * L + at] = sens[e];
        else sens[e] = W->sens[e * L + at];
    for (size_t c = 0; c < d; c++)
        if (back) f->y[c * L + at] = y[c];
        else y[c] = f->y[c * L + at];
    for (size_t e = 0; e < events; e++)
        if (back) W->watch.g0[e * L + at] = g[e];
        else g[e] = W->watch.g0[e * L + at];
}

/* The sample of lane l waits to go on by the other method. */
static pn_status FN(park)(FN(work) * W, int l) {
    FN(flow) *f = &W->flow;
    FN(parked) *p = pn_tape_push(&W->parked);
    if (!p) return PN_MEMORY;
    *p = (FN(parked)){.sample = f->sample[l], .index = f->index[l], .attempts = f->attempts[l], .evals = f->evals[l],
                      .rejects = f->rejects[l], .jacobians = f->jacobians[l], .factors = f->factors[l],
                      .stiff_steps = f->stiff_steps[l], .seg = f->seg[l], .grid = f->grid[l],
                      .save = f->save[l], .jump_at = f->jump_at[l], .t = f->t[l], .t_last = f->t_last[l], .dir = f->dir[l],
                      .c0 = f->c0[l], .t_save = f->t_save[l], .way = !W->way, .returns = f->returns[l] + W->way};
    FN(carry)(W, l, p, 0);
    pn_status st = W->P->steps && !W->replaying ? FN(give_steps)(W, l) : PN_OK;
    f->live[l] = 0;
    return st;
}

static pn_status FN(park_lanes)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    pn_status st = PN_OK;
    for (int l = 0; l < W->lanes; l++) {
        if (!f->accepted[l]) continue;
        f->resumed[l] = 0;
        if (f->live[l] && f->change[l] && st == PN_OK) st = FN(park)(W, l);
    }
    return st;
}

/* The next sample that waits goes on in lane l. 0: the next one waits for the other method. */
static int FN(resume)(FN(work) * W, int l) {
    FN(flow) *f = &W->flow;
    FN(parked) *p = pn_tape_at(&W->parked, W->unparked);
    if (p->way != W->way) return 0;
    W->unparked++;
    f->sample[l] = p->sample, f->index[l] = p->index, f->attempts[l] = p->attempts, f->evals[l] = p->evals;
    f->jacobians[l] = p->jacobians, f->factors[l] = p->factors;
    f->rejects[l] = p->rejects, f->stiff_steps[l] = p->stiff_steps, f->seg[l] = p->seg, f->grid[l] = p->grid;
    f->save[l] = p->save, f->jump_at[l] = p->jump_at, f->t[l] = p->t, f->t_last[l] = p->t_last, f->dir[l] = p->dir;
    f->c0[l] = p->c0, f->c1[l] = 0, f->t_save[l] = p->t_save;
    f->returns[l] = (unsigned char)p->returns;
    f->hits[l] = f->misses[l] = 0;
    f->have_k[l] = f->again[l] = f->change[l] = 0;
    f->source[l] = PN_SOURCE_HERE;
    f->live[l] = f->resumed[l] = 1;
    FN(carry)(W, l, p, 1);
    return 1;
}

static void FN(carve_newton)(FN(work) * W, pn_arena *a);

/* Linear systems have memory from the first time on that a sample of this thread is stiff. */
static pn_status FN(open_newton)(FN(work) * W) {
    FN(newton) *N = &W->newton;
    if (N->J.prog) return PN_OK;
    FN(carve_newton)(W, &W->late);
    if (!pn_arena_allocate(&W->late) || (N->sparse && !FN(allocate_whole)(&N->whole, W->d))) {
        N->J.prog = N->back.prog = NULL;
        return PN_MEMORY;
    }
    FN(carve_newton)(W, &W->late);
    FN(ready)(&N->J, N->file);
    if (N->back.prog) FN(ready)(&N->back, N->back_file);
    return PN_OK;
}

/* Of an explicit step: hit[l] where h lambda is near the limit of stability. 1: somewhere it is. */
static int FN(at_the_limit)(const FN(work) * W, int *hit) {
    const FN(flow) *f = &W->flow;
    double slope[L] = {0}, move[L] = {0}, limit = PN_NEAR * PN_NEAR * W->P->stability * W->P->stability;
    int any = 0;
    for (int32_t i = 0; i < W->d; i++) {
        T s[L], m[L];
        FN(weigh)(s, &W->sums->slope, f->k, i);
        FN(weigh)(m, &W->sums->move, f->k, i);
        double atol = W->P->atol[i] + PN_TINY, rtol = W->P->rtol;
        for (size_t l = 0; l < L; l++) {
            double q = 1 / (atol + rtol * fabs((double)f->y[(size_t)i * L + l])), x = q * (double)s[l], y = q * (double)m[l];
            slope[l] += x * x;
            move[l] += y * y;
        }
    }
    for (int l = 0; l < L; l++) any |= hit[l] = slope[l] > limit * move[l];
    return any;
}

/* Of a step of the Rosenbrock method: hit[l] where the explicit one would be stable with it. */
static void FN(below_the_limit)(const FN(work) * W, int *hit) {
    const FN(flow) *f = &W->flow;
    const FN(newton) *N = &W->newton;
    const pn_pattern *p = N->pattern;
    size_t d = (size_t)W->d, n = N->J.prog->output_size[0] ? FN(entries)(W) : 0;
    const T *J = n ? FN(at)(&N->J, N->file, N->J.lay->output[0]) : NULL;
    double most[L] = {0};
    T *sum = W->spare;
    memset(sum, 0, d * L * sizeof(T));
    for (size_t e = 0; e < n; e++) {
        size_t i = p ? (size_t)p->row[e] : e / d, j = p ? (size_t)p->col[e] : e % d;
        for (size_t l = 0; l < L; l++) {
            double size = W->P->atol[j] + W->P->rtol * fabs((double)f->y[j * L + l]);
            sum[i * L + l] += (T)(fabs((double)J[e * L + l]) * size);
        }
    }
    for (size_t i = 0; i < d; i++)
        for (size_t l = 0; l < L; l++) {
            double x = (double)sum[i * L + l] / (W->P->atol[i] + W->P->rtol * fabs((double)f->y[i * L + l]) + PN_TINY);
            most[l] = x > most[l] ? x : most[l];
        }
    for (int l = 0; l < L; l++) hit[l] = most[l] * fabs(f->h[l]) < W->P->stability;
}

/* change[l]: the sample of the lane, whose step was accepted, is to go on by the other method. */
static void FN(notice)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    int hit[L], some = W->way;
    int32_t hits = 0;
    for (int l = 0; l < L; l++) some |= f->index[l] >= PN_GRACE, hits |= f->hits[l];
    if (!some) return;
    if (W->way) FN(below_the_limit)(W, hit);
    else if (!FN(at_the_limit)(W, hit) && !hits) return;
    for (int l = 0; l < W->lanes; l++) {
        if (!f->accepted[l] || f->returns[l] >= PN_RETURNS || (!W->way && f->index[l] < PN_GRACE)) continue;
        f->hits[l] += hit[l];
        f->misses[l] = hit[l] ? 0 : f->misses[l] + 1;
        if (f->misses[l] >= (W->way ? 1 : PN_MISSES)) f->hits[l] = f->misses[l] = 0;
        f->change[l] = f->hits[l] >= (W->way ? PN_CALM : PN_HITS << f->returns[l]);
    }
}
