/* Whether the gradients of samples are finite. */
#include "solve/finite.h"

static inline int own_gradient(const pn_problem *P) { return P->theta_each && P->g_theta; }

/* Whether what the samples first .. first + count - 1 have by themselves is finite, and grad (p), the sum of what they share. */
static int gradient_finite(const pn_problem *P, const double *grad, int64_t p, int64_t first, int64_t count) {
    size_t d = (size_t)P->d, per = (size_t)(P->degree + 1) * (size_t)P->m;
    if (!pn_all_finite(grad, (size_t)p)) return 0;
    if (own_gradient(P) && !pn_all_finite(P->g_theta + (size_t)first * (size_t)P->n_theta, (size_t)(count * P->n_theta))) return 0;
    if (P->g_y0 && !pn_all_finite(P->g_y0 + (size_t)first * d, (size_t)count * d)) return 0;
    for (int64_t i = first; i < first + count; i++) {
        size_t row = (size_t)P->row[i], n = (size_t)P->t_len[i], k = (size_t)P->jump.k, x = (size_t)P->loss_part.k;
        if (P->g_t && !pn_all_finite(P->g_t + row, n)) return 0;
        if (P->g_coef && !pn_all_finite(P->g_coef + (size_t)P->seg_start[i] * per, (size_t)(P->knot_len[i] - 1) * per)) return 0;
        if (P->jump.g_data && !pn_all_finite(P->jump.g_data + row * k, n * k)) return 0;
        if (P->loss_part.g_data && !pn_all_finite(P->loss_part.g_data + row * x, n * x)) return 0;
    }
    return 1;
}

/* Forget what an earlier run said of these samples. */
static void forget(const pn_problem *P, int64_t first, int64_t count) {
    size_t d = (size_t)P->d, per = (size_t)(P->degree + 1) * (size_t)P->m;
    if (own_gradient(P)) memset(P->g_theta + first * P->n_theta, 0, (size_t)(count * P->n_theta) * sizeof(double));
    if (P->g_y0) memset(P->g_y0 + (size_t)first * d, 0, (size_t)count * d * sizeof(double));
    for (int64_t i = first; i < first + count; i++) {
        size_t row = (size_t)P->row[i], n = (size_t)P->t_len[i] * sizeof(double), k = (size_t)P->jump.k, x = (size_t)P->loss_part.k;
        if (P->g_t) memset(P->g_t + row, 0, n);
        if (P->g_coef) memset(P->g_coef + (size_t)P->seg_start[i] * per, 0, (size_t)(P->knot_len[i] - 1) * per * sizeof(double));
        if (P->jump.g_data) memset(P->jump.g_data + row * k, 0, n * k);
        if (P->loss_part.g_data) memset(P->loss_part.g_data + row * x, 0, n * x);
    }
}
