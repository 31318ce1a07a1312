/* Event functions at probes. A side is the sign of g_e. The caller says on which one a sample starts, since g_e is 0 there after
   an event. */

/* g (n, L) at probe number k of the step */
static inline T *FN(probe)(const FN(watch) * E, int k) { return E->probe + (size_t)k * (size_t)E->n * L; }

/* g (events, L) at times t and states y (d, L) */
static int FN(watch_eval)(FN(work) * W, const double *t, const T *y, T *g) {
    FN(watch) *E = &W->watch;
    T *time = E->file + (size_t)E->exec.lay->slot[0] * L;
    for (int l = 0; l < L; l++) time[l] = (T)t[l];
    memcpy(FN(state_slot)(&E->exec, E->file), y, (size_t)W->d * L * sizeof(T));
    FN(wear)(&E->exec, E->file, W->flow.sample);
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

/* g at all probes of the accepted steps, the first of which is the last of the step before. */
static int FN(probe_steps)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    int first = 0;
    double theta[L];
    for (int l = 0; l < L; l++) first |= f->accepted[l] && f->index[l] == 0;
    if (first) { /* of a sample: g is not known at its beginning */
        if (FN(watch_eval)(W, f->t, f->y, E->g)) return 1;
        for (int32_t e = 0; e < E->n; e++)
            for (int l = 0; l < L; l++)
                if (f->accepted[l] && f->index[l] == 0) E->g0[(size_t)e * L + (size_t)l] = E->g[(size_t)e * L + (size_t)l];
    }
    for (int k = 1; k < E->probes; k++) {
        for (int l = 0; l < L; l++) theta[l] = (double)k / E->probes;
        if (FN(watch_dense)(W, theta, FN(probe)(E, k))) return 1;
    }
    return FN(watch_eval)(W, f->t_new, f->y_new, E->g1);
}

/* bad[l] = 1 where one of the n rows of lane l is NaN. */
static void FN(find_nan)(T *bad, const T *x, size_t n) {
    for (int l = 0; l < L; l++) bad[l] = 0;
    for (size_t e = 0; e < n * L; e += L)
        for (size_t l = 0; l < L; l++) bad[l] = x[e + l] == x[e + l] ? bad[l] : 1;
}

/* An event function that is NaN ends the sample. */
static pn_status FN(check_events)(FN(work) * W) {
    FN(flow) *f = &W->flow;
    const FN(watch) *E = &W->watch;
    T bad[L];
    FN(find_nan)(bad, FN(probe)(E, 1), (size_t)E->probes * (size_t)E->n);
    for (int l = 0; l < L; l++) {
        if (!f->accepted[l] || bad[l] == 0) continue;
        f->accepted[l] = 0;
        FN(fail)(W, l, PN_BAD_EVENT);
        pn_status st = FN(finish)(W, l);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}
