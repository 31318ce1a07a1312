/* Input signals u(t): piecewise polynomials, one for each sample. */

/* The segment that lane l uses at time t. Where its steps cross knots it depends on t alone, so that the way back finds the same. */
static inline int32_t FN(segment_of)(const FN(work) * W, int l, double t) {
    return crosses_knots(W->P, W->flow.sample[l]) ? segment_at(W->P, W->flow.sample[l], t) : W->flow.seg[l];
}

/* u(t) of one sample: sum_q coef[seg][q] (t - knot)^q, row stride of the result L */
static void FN(input)(const pn_problem *P, int64_t sample, int32_t seg, double t, T *u) {
    int32_t m = P->m, q1 = P->degree + 1;
    const T *c = (const T *)P->coef + (size_t)(P->seg_start[sample] + seg) * (size_t)q1 * (size_t)m;
    T dt = (T)(t - P->knot[P->knot_start[sample] + seg]);
    for (int32_t i = 0; i < m; i++) {
        T v = c[(size_t)P->degree * (size_t)m + (size_t)i];
        for (int32_t q = P->degree; q-- > 0;) v = v * dt + c[(size_t)q * (size_t)m + (size_t)i];
        u[(size_t)i * L] = v;
    }
}

/* du/dt of one sample, row stride of the result L; see `input` */
static void FN(input_rate)(const pn_problem *P, int64_t sample, int32_t seg, double t, T *rate) {
    int32_t m = P->m, q1 = P->degree + 1;
    const T *c = (const T *)P->coef + (size_t)(P->seg_start[sample] + seg) * (size_t)q1 * (size_t)m;
    T dt = (T)(t - P->knot[P->knot_start[sample] + seg]);
    for (int32_t i = 0; i < m; i++) {
        T v = 0;
        for (int32_t q = P->degree; q > 0; q--) v = v * dt + (T)q * c[(size_t)q * (size_t)m + (size_t)i];
        rate[(size_t)i * L] = v;
    }
}

/* u of every lane at its time t into the file. Constant inputs are looked up when a lane's sample or segment changes. */
static void FN(set_inputs)(FN(work) * W, const double *t, T *u) {
    const pn_problem *P = W->P;
    const FN(flow) *f = &W->flow;
    int64_t moved = 0;
    for (int l = 0; l < L; l++) moved |= (W->u_sample[l] ^ f->sample[l]) | (W->u_seg[l] ^ f->seg[l]);
    for (int l = 0; l < L && (moved || P->degree > 0); l++)
        if (f->sample[l] >= 0) FN(input)(P, f->sample[l], FN(segment_of)(W, l, t[l]), t[l], W->u + l);
    if (moved) memcpy(W->u_sample, f->sample, sizeof W->u_sample), memcpy(W->u_seg, f->seg, sizeof W->u_seg);
    FN(copy)(u, W->u, (size_t)P->m * L);
}
