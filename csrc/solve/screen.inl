/* Samples whose gradient is not finite, though their solution is. In a sum over samples one NaN hides all others; so, where a
   task's gradient is not finite, its samples are run again, in halves of halves, until those are found. They get a status of their own
   and take no part. A gradient that is finite costs a look at its numbers. */

/* Run these samples, their part of the gradient in W->apart alone. */
PN_SMALL static pn_status FN(run_apart)(FN(work) * W, int64_t first, int64_t count) {
    memset(W->apart, 0, (size_t)W->s->p * sizeof(double));
    forget(W->P, first, count);
    FN(begin_gradient)(W, W->apart);
    pn_status st = FN(run_chunk)(W, first, count);
    FN(end_gradient)(W);
    return st;
}

/* Mark those of the samples that are to be left out. 1 in *clean: none, and W->apart is their gradient. */
PN_SMALL static pn_status FN(find_bad_samples)(FN(work) * W, int64_t first, int64_t count, int *clean) {
    pn_status st = FN(run_apart)(W, first, count);
    *clean = st == PN_OK && gradient_finite(W->P, W->apart, W->s->p, first, count);
    if (st != PN_OK || *clean) return st;
    if (count == 1) {
        W->left_out[first - W->screened] = 1;
        return PN_OK;
    }
    int ignored;
    st = FN(find_bad_samples)(W, first, count / 2, &ignored);
    return st == PN_OK ? FN(find_bad_samples)(W, first + count / 2, count - count / 2, &ignored) : st;
}

/* A chunk once more; grad += its gradient without the samples that are left out. */
PN_SMALL static pn_status FN(screen_chunk)(FN(work) * W, double *grad, int64_t first, int64_t count) {
    int clean;
    memset(W->left_out, 0, (size_t)W->s->chunk);
    W->screened = first;
    W->screening = 1;
    pn_status st = FN(find_bad_samples)(W, first, count, &clean);
    if (st == PN_OK && !clean) st = FN(run_apart)(W, first, count);
    W->screening = 0;
    for (int64_t j = 0; j < W->s->p; j++) grad[j] += W->apart[j];
    return st;
}

static void FN(carve_screen)(FN(work) * W) {
    W->apart = pn_arena_take(&W->arena, ((size_t)W->s->p + 1) * sizeof(double));
    W->left_out = pn_arena_take(&W->arena, (size_t)W->s->chunk);
}
