/* Samples whose gradient is not finite, though their solution is. In a sum over samples one NaN hides all others; so, where a
   task's gradient is not finite, its samples are run again, in halves of halves, until those are found. They get a status of their own
   and take no part. A gradient that is finite costs a look at its numbers. */

static inline int FN(own_gradient)(const pn_problem *P) { return P->theta_each && P->g_theta; }

/* Whether what the samples first .. first + count - 1 have by themselves is finite, and grad (p), the sum of what they share. */
static int FN(gradient_finite)(const FN(work) * W, const double *grad, int64_t first, int64_t count) {
    const pn_problem *P = W->P;
    size_t d = (size_t)W->d, per = (size_t)(P->degree + 1) * (size_t)P->m;
    if (!FN(all_finite)(grad, (size_t)W->s->p)) return 0;
    if (FN(own_gradient)(P) && !FN(all_finite)(P->g_theta + (size_t)first * (size_t)P->n_theta, (size_t)(count * P->n_theta))) return 0;
    if (P->g_y0 && !FN(all_finite)(P->g_y0 + (size_t)first * d, (size_t)count * d)) return 0;
    for (int64_t i = first; i < first + count; i++) {
        size_t row = (size_t)P->row[i], n = (size_t)P->t_len[i], k = (size_t)P->jump.k, x = (size_t)P->loss_part.k;
        if (P->g_t && !FN(all_finite)(P->g_t + row, n)) return 0;
        if (P->g_coef && !FN(all_finite)(P->g_coef + (size_t)P->seg_start[i] * per, (size_t)(P->knot_len[i] - 1) * per)) return 0;
        if (P->jump.g_data && !FN(all_finite)(P->jump.g_data + row * k, n * k)) return 0;
        if (P->loss_part.g_data && !FN(all_finite)(P->loss_part.g_data + row * x, n * x)) return 0;
    }
    return 1;
}

/* Forget what an earlier run said of these samples. */
static void FN(forget)(const FN(work) * W, int64_t first, int64_t count) {
    const pn_problem *P = W->P;
    size_t d = (size_t)W->d, per = (size_t)(P->degree + 1) * (size_t)P->m;
    if (FN(own_gradient)(P)) memset(P->g_theta + first * P->n_theta, 0, (size_t)(count * P->n_theta) * sizeof(double));
    if (P->g_y0) memset(P->g_y0 + (size_t)first * d, 0, (size_t)count * d * sizeof(double));
    for (int64_t i = first; i < first + count; i++) {
        size_t row = (size_t)P->row[i], n = (size_t)P->t_len[i] * sizeof(double), k = (size_t)P->jump.k, x = (size_t)P->loss_part.k;
        if (P->g_t) memset(P->g_t + row, 0, n);
        if (P->g_coef) memset(P->g_coef + (size_t)P->seg_start[i] * per, 0, (size_t)(P->knot_len[i] - 1) * per * sizeof(double));
        if (P->jump.g_data) memset(P->jump.g_data + row * k, 0, n * k);
        if (P->loss_part.g_data) memset(P->loss_part.g_data + row * x, 0, n * x);
    }
}

/* Run these samples, their part of the gradient in W->apart alone. */
static pn_status FN(run_apart)(FN(work) * W, int64_t first, int64_t count) {
    memset(W->apart, 0, (size_t)W->s->p * sizeof(double));
    FN(forget)(W, first, count);
    FN(begin_gradient)(W, W->apart);
    pn_status st = FN(run_chunk)(W, first, count);
    FN(end_gradient)(W);
    return st;
}

/* Mark those of the samples that are to be left out. 1 in *clean: none, and W->apart is their gradient. */
static pn_status FN(find_bad_samples)(FN(work) * W, int64_t first, int64_t count, int *clean) {
    pn_status st = FN(run_apart)(W, first, count);
    *clean = st == PN_OK && FN(gradient_finite)(W, W->apart, first, count);
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
static pn_status FN(screen_chunk)(FN(work) * W, double *grad, int64_t first, int64_t count) {
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
