/* Built-in losses: the sum over the observed entries of a sample of weight rho(y - target). */

static double V(rho)(const pn_problem *P, double r, double *slope) {
    double s = P->loss_scale, a = fabs(r), nu = P->loss_dof;
    switch (P->loss) {
    case PN_LOSS_SQUARED: *slope = 2 * r; return r * r;
    case PN_LOSS_ABSOLUTE: *slope = r > 0 ? 1 : r < 0 ? -1 : 0; return a;
    case PN_LOSS_HUBER: *slope = a <= s ? r : r > 0 ? s : -s; return a <= s ? 0.5 * r * r : s * (a - 0.5 * s);
    case PN_LOSS_STUDENT: *slope = (nu + 1) * r / (nu * s * s + r * r); return 0.5 * (nu + 1) * log1p(r * r / (nu * s * s));
    default: *slope = 0; return 0;
    }
}

/* sum[k] += w rho(y - target), weight[k] += w for n values from number `at` on; one without target counts nothing. */
enum { V(SUMS) = 8 };
static inline __attribute__((always_inline)) void V(add_loss)(const pn_problem *P, size_t at, size_t n, double *sum, double *weight) {
    const T *y = (const T *)P->y + at, *target = (const T *)P->target + at, *given = P->weight ? (const T *)P->weight + at : NULL;
    double r[V(SUMS)], w[V(SUMS)], slope;
    for (size_t k = 0; k < n; k++) {
        w[k] = target[k] == target[k] ? (given ? (double)given[k] : 1) : 0;
        r[k] = w[k] != 0 ? (double)y[k] - (double)target[k] : 0;
    }
    if (P->loss == PN_LOSS_SQUARED)
        for (size_t k = 0; k < n; k++) r[k] *= r[k];
    else
        for (size_t k = 0; k < n; k++) r[k] = w[k] != 0 ? V(rho)(P, r[k], &slope) : 0;
    for (size_t k = 0; k < n; k++) sum[k] += w[k] * r[k], weight[k] += w[k];
}

static void V(sample_loss)(const pn_problem *P, int64_t i) {
    double sum[V(SUMS)] = {0}, weight[V(SUMS)] = {0};
    size_t at = (size_t)P->row[i] * (size_t)P->d, end = at + (size_t)P->t_len[i] * (size_t)P->d;
    for (; at + V(SUMS) <= end; at += V(SUMS)) V(add_loss)(P, at, V(SUMS), sum, weight);
    V(add_loss)(P, at, end - at, sum, weight);
    P->sample_loss[i] = P->sample_weight[i] = 0;
    for (size_t k = 0; k < V(SUMS); k++) P->sample_loss[i] += sum[k], P->sample_weight[i] += weight[k];
}
