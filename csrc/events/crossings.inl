/* Event functions over the steps of all lanes: hunts for their first crossings, see windows.inl. */

/* The hunt in lane l for event e, from the probes of the step. */
static void FN(begin_hunt)(const FN(work) * W, int32_t e, int l, double margin, hunt *s) {
    const FN(watch) *E = &W->watch;
    int side = FN(side_of)(W, l)[e], windows = E->probes / 4;
    s->waiting = s->splits = s->from = 0;
    s->open = 1;
    s->side = side;
    s->direction = W->P->event_direction[e];
    s->lo = s->hi = 0;
    s->zero = -1;
    s->flip = 2;
    for (int k = windows - 1; k >= 0; k--) {
        window *w = k ? &s->later[s->waiting++] : &s->now;
        *w = (window){.at = (double)k / windows, .width = 1.0 / windows, .margin = margin, .known = 1};
        for (int j = 0; j < 5; j++) w->g[j] = (double)FN(probe)(E, 4 * k + j)[(size_t)e * L + (size_t)l];
    }
    double first = s->now.g[0];
    s->been = sign(first) == side;
    s->noise = sign(first) == -side ? 4 * fabs(first) : 0; /* it is to be 0, on `side`: the residue of a reset */
    proceed(s);
}

/* Probe the windows that are open in some lane, until none is. */
static int FN(run_hunts)(FN(work) * W, int32_t e, hunt *hunts, unsigned char *open) {
    double at[L];
    while (FN(any)(open)) {
        for (int odd = 1; odd < 4; odd += 2) {
            for (int l = 0; l < L; l++) at[l] = open[l] ? hunts[l].now.at + 0.25 * odd * hunts[l].now.width : 0.5;
            if (FN(watch_dense)(W, at, W->watch.g)) return 1;
            for (int l = 0; l < L; l++)
                if (open[l]) hunts[l].now.g[odd] = (double)W->watch.g[(size_t)e * L + (size_t)l];
        }
        for (int l = 0; l < L; l++) {
            if (!open[l]) continue;
            window *w = &hunts[l].now;
            w->margin = margin_of(w->g, w->margin);
            proceed(&hunts[l]);
            open[l] = (unsigned char)hunts[l].open;
        }
    }
    return 0;
}

/* Look at event e over the steps of all accepted lanes: bracket (lo, hi) and side before it, hi = 0 where it does not happen.
   1 in *some: it happens somewhere. */
static int FN(look)(FN(work) * W, int32_t e, double *lo, double *hi, int *from, int *some) {
    const FN(flow) *f = &W->flow;
    FN(watch) *E = &W->watch;
    size_t first = (size_t)e * L;
    T side[L], margin[L];
    unsigned char tense[L], open[L];
    *some = 0;
    for (int l = 0; l < L; l++) {
        side[l] = (T)(f->accepted[l] ? FN(side_of)(W, l)[e] : 0);
        E->end[first + (size_t)l] = (signed char)side[l];
        E->flip[first + (size_t)l] = 2;
        lo[l] = hi[l] = 0;
    }
    if (FN(is_calm)(FN(probe)(E, 0) + first, (size_t)E->n * L, E->probes, side, f->accepted, margin, tense)) return 0;
    hunt hunts[L];
    for (int l = 0; l < L; l++) {
        if (tense[l]) FN(begin_hunt)(W, e, l, (double)margin[l], &hunts[l]);
        open[l] = (unsigned char)(tense[l] && hunts[l].open);
    }
    if (FN(run_hunts)(W, e, hunts, open)) return 1;
    for (int l = 0; l < L; l++) {
        if (!tense[l]) continue;
        const hunt *s = &hunts[l];
        E->flip[first + (size_t)l] = s->flip;
        E->end[first + (size_t)l] = (signed char)(s->hi > 0 ? s->from : s->side);
        if (!(s->hi > 0)) continue;
        lo[l] = s->lo;
        hi[l] = s->hi;
        from[l] = s->from;
        *some = 1;
    }
    return 0;
}
