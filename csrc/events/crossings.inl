/* Where an event function first changes its side within a step, on the dense output p (of degree 3 and more: cubic where the
   method has none).

   g(theta) = g_e(t + theta h, p(theta)) is known at equidistant probes, five for p of degree 4 at most, else nine. On a *window*
   of five of them the quartic through them has Bernstein coefficients b_0 .. b_4. Where these have one sign it has no root, where they
   rise or fall throughout it has one at most (Lane & Riesenfeld 1981, BIT 21). The margin

       m = 0.1 max |third differences| + 0.2 max |fourth differences|

   is for what the quartic misses: where g_e is linear in (t, y) and p of degree 7, |g - quartic| <= 0.19 max |fourth differences| (linear
   programs over polynomials of degree 7, nine probes, both windows); up to degree 4 the quartic is g; sin(w theta) stays within it up to
   w = 8 a window. A window of one root at most is decided by its ends. Another is cut into halves, the first of them first, until it is as
   short as PN_WINDOW of the step, or the splits are used up: then its probes decide. */

/* Whether g, probes + 1 rows of L numbers, `stride` apart, stays on its side in every lane that is watched. Else `tense` says in which
   it may not, and `margin` has m. */
static int FN(is_calm)(const T *g, size_t stride, int probes, const T *side, const unsigned char *watched, T *margin,
                       unsigned char *tense) {
    T third[L], fourth[L], before[L], least[L];
    int some = 0;
    for (int l = 0; l < L; l++)
        third[l] = fourth[l] = before[l] = 0, least[l] = side[l] * g[stride * (size_t)probes + (size_t)l];
    for (int k = 3; k <= probes; k++) {
        const T *q = g + stride * (size_t)k;
        for (int l = 0; l < L; l++) {
            T d3 = q[l] - q[l - (ptrdiff_t)(3 * stride)] - 3 * (q[l - (ptrdiff_t)stride] - q[l - (ptrdiff_t)(2 * stride)]),
              a = d3 < 0 ? -d3 : d3;
            T d4 = k > 3 ? d3 - before[l] : 0, b = d4 < 0 ? -d4 : d4;
            third[l] = a > third[l] ? a : third[l];
            fourth[l] = b > fourth[l] ? b : fourth[l];
            before[l] = d3;
        }
    }
    for (int k = 0; k < probes; k += 4) {
        const T *q0 = g + stride * (size_t)k, *q1 = q0 + stride, *q2 = q1 + stride, *q3 = q2 + stride, *q4 = q3 + stride;
        for (int l = 0; l < L; l++) {
            T outer = -3 * (q0[l] + q4[l]), low = (48 * q1[l] + 16 * q3[l] - 36 * q2[l] - 10 * q0[l] + outer) / 12;
            T high = (16 * q1[l] + 48 * q3[l] - 36 * q2[l] - 10 * q4[l] + outer) / 12;
            T mid = (13 * (q0[l] + q4[l]) - 64 * (q1[l] + q3[l]) + 120 * q2[l]) / 18;
            least[l] = side[l] * low < least[l] ? side[l] * low : least[l];
            least[l] = side[l] * mid < least[l] ? side[l] * mid : least[l];
            least[l] = side[l] * high < least[l] ? side[l] * high : least[l];
            if (k + 4 < probes) least[l] = side[l] * q4[l] < least[l] ? side[l] * q4[l] : least[l];
        }
    }
    for (int l = 0; l < L; l++) {
        margin[l] = (T)0.1 * third[l] + (T)0.2 * fourth[l];
        tense[l] = (unsigned char)(watched[l] & !(least[l] > margin[l]));
        some |= tense[l];
    }
    return !some;
}

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
