/* Back through a step of a Rosenbrock method (forward/implicit.inl). With gk_i the cotangent of stage i,

       mu_i = W^-T gk_i,   q_i = gamma mu_i                  (of g_i),
       gk_j += coupling_ij M^T q_i,   gf_t += by_t_i h q_i,   gJ += gamma h mu_i k_i^T,

   and q_i goes through f as the cotangent of an explicit stage does. In the end the vjp of the program `jacobian`, with the seeds
   [gJ, gf_t], says what they mean for y, t, u and theta: second derivatives of f, one sweep for the whole step. */

static T *FN(jacobian_seed)(const FN(newton) * N) { return N->back_file + (size_t)N->back.lay->slot[3] * L; }

static void FN(clear_seed)(FN(work) * W) {
    FN(newton) *N = &W->newton;
    memset(FN(jacobian_seed)(N), 0, (size_t)N->back.prog->slot_size[3] * L * sizeof(T));
}

/* gk_i becomes q_i. */
static void FN(unsolve_stage)(FN(work) * W, const FN(step) * S, int i) {
    FN(newton) *N = &W->newton;
    const pn_tableau *tab = W->tab;
    size_t d = (size_t)W->d, size = d * L;
    T *q = S->gk[i], *gJ = FN(jacobian_seed)(N), *gft = gJ + FN(entries)(W) * L, gh[L], gamma = (T)tab->gamma;
    const T *ft = tab->by_t[i] != 0 ? FN(slope_in_t)(W) : NULL, *k = S->k[i];
    FN(solve_linear)(W, q, 1);
    for (int l = 0; l < L; l++) gh[l] = (T)(tab->gamma * S->h[l]);
    const pn_pattern *p = N->pattern;
    for (size_t e = 0; p && N->J.prog->output_size[0] && e < (size_t)p->n; e++)
        for (size_t l = 0; l < L; l++) gJ[e * L + l] += gh[l] * q[(size_t)p->row[e] * L + l] * k[(size_t)p->col[e] * L + l];
    for (size_t r = 0; !p && N->J.prog->output_size[0] && r < d; r++)
        for (size_t c = 0; c < d; c++)
            for (size_t l = 0; l < L; l++) gJ[(r * d + c) * L + l] += gh[l] * q[r * L + l] * k[c * L + l];
    for (size_t e = 0; e < size; e++) q[e] *= gamma;
    for (int j = 0; j < i; j++) {
        T c = (T)tab->coupling[i][j];
        if (c == 0) continue;
        for (size_t e = 0; e < size; e++) W->spare[e] = c * q[e];
        FN(add_mass)(W, S->gk[j], W->spare, 1);
    }
    if (!ft) return;
    for (size_t e = 0; e < size; e += L)
        for (size_t l = 0; l < L; l++) {
            gft[e + l] += (T)(tab->by_t[i] * S->h[l]) * q[e + l];
            if (S->gh) S->gh[l] += tab->by_t[i] * (double)(q[e + l] * ft[e + l]);
        }
}

/* Cotangents gr (m) of du/dt: into the gradient of the coefficients; what they say of t. See `input_back`. */
static double FN(rate_back)(const pn_problem *P, int64_t sample, int32_t seg, double t, const T *gr, double *g_coef) {
    int32_t m = P->m, q1 = P->degree + 1;
    int64_t first = (P->seg_start[sample] + seg) * q1;
    const T *c = (const T *)P->coef + (size_t)first * (size_t)m;
    double dt = t - P->knot[P->knot_start[sample] + seg], slope = 0;
    for (int32_t i = 0; i < m; i++) {
        double g = (double)gr[(size_t)i * L], power = 1, bend = 0;
        for (int32_t q = 1; q < q1; q++) {
            if (g_coef) g_coef[(size_t)(first + q) * (size_t)m + (size_t)i] += g * q * power;
            if (q + 1 < q1) bend += (q + 1) * q * power * (double)c[(size_t)(q + 1) * (size_t)m + (size_t)i];
            power *= dt;
        }
        slope += g * bend;
    }
    return slope;
}

/* What the cotangents of J and f_t mean. Their gradient with respect to theta is in back_file, to be accumulated. */
static int FN(linearised_back)(FN(work) * W, const FN(step) * S) {
    FN(newton) *N = &W->newton;
    FN(exec) *E = &N->back;
    const pn_problem *P = W->P;
    const int32_t *has = E->prog->output_size;
    size_t d = (size_t)W->d;
    FN(fill_jacobian)(W, E, N->back_file, S->base, S->t);
    if (FN(run)(E, N->back_file, E->lay->n_prologue, E->lay->n_reverse)) return 1;
    if (has[1]) FN(add)(S->g_base, FN(at)(E, N->back_file, E->lay->output[1]), d * L);
    double gt[L] = {0};
    for (int l = 0; has[2] && l < L; l++) gt[l] = (double)FN(at)(E, N->back_file, E->lay->output[2])[l];
    const T *gu = has[3] && (P->g_coef || S->gt) ? FN(at)(E, N->back_file, E->lay->output[3]) : NULL;
    for (int l = 0; gu && l < L; l++) {
        if (!W->back.live[l]) continue;
        int64_t i = W->back.sample[l];
        int32_t seg = FN(segment_of)(W, l, S->t[l]);
        gt[l] += FN(input_back)(P, i, seg, S->t[l], gu + l, 1, P->g_coef);
        if (has[3] > P->m) gt[l] += FN(rate_back)(P, i, seg, S->t[l], gu + (size_t)P->m * L + l, P->g_coef);
    }
    for (int l = 0; S->gt && l < L; l++) S->gt[l] += gt[l];
    if (!S->gh || !N->J.prog->output_size[0]) return 0;
    const T *J = FN(at)(&N->J, N->file, N->J.lay->output[0]), *gJ = FN(jacobian_seed)(N); /* W depends on h: d/dh = <J, gJ> / h */
    for (size_t e = 0; e < FN(entries)(W) * L; e += L)
        for (size_t l = 0; l < L; l++)
            if (S->h[l] != 0) S->gh[l] += (double)J[e + l] * (double)gJ[e + l] / S->h[l];
    return 0;
}
