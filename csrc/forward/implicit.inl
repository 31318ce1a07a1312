/* Rosenbrock methods (tableau.h): the matrix W = M - gamma h J of a step in each lane, its factors, and the stages

       W k_i = gamma g_i,   g_i = f(t_i, Y_i) + M sum_j coupling_ij k_j + by_t_i h f_t,

   J and f_t being those of the program `jacobian`: slots t, y and [u, du/dt]; output J (d, d), and f_t (d) where the field depends on t. */

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

/* Slots of a program of the Jacobian. */
static void FN(fill_jacobian)(FN(work) * W, const FN(exec) * E, T *file, const T *y, const double *t) {
    const FN(flow) *f = &W->flow;
    T *time = file + (size_t)E->lay->slot[0] * L, *u = file + (size_t)E->lay->slot[2] * L;
    FN(wear)(E, file, f->sample);
    FN(copy)(FN(state_slot)(E, file), y, (size_t)W->d * L);
    for (int l = 0; l < L; l++) time[l] = (T)t[l];
    if (W->P->degree < 0) return;
    FN(set_inputs)(W, t, u);
    if (E->prog->slot_size[2] == W->m) return;
    for (int l = 0; l < L; l++)
        if (f->sample[l] >= 0) FN(input_rate)(W->P, f->sample[l], f->seg[l], t[l], u + (size_t)W->m * L + l);
}

/* f_t of the step, or NULL where it is 0. */
static const T *FN(slope_in_t)(FN(work) * W) {
    FN(newton) *N = &W->newton;
    size_t square = (size_t)W->d * (size_t)W->d;
    return (size_t)N->J.prog->output_size[0] > square ? FN(at)(&N->J, N->file, N->J.lay->output[0]) + square * L : NULL;
}

/* The program of the Jacobian on its file. A callback is asked for lanes that have moved only: not for a step that is taken again.
   `jacobian_cost` is what the callback makes of an evaluation in calls of f. */
static int FN(renew)(FN(work) * W, const T *y, const double *t) {
    FN(newton) *N = &W->newton;
    FN(flow) *f = &W->flow;
    unsigned char asked[L];
    memcpy(asked, W->active, L);
    for (size_t l = 0; N->J.prog->has_call && l < L; l++) {
        if (!asked[l]) continue;
        int moved = N->sample[l] != f->sample[l] || N->seg[l] != f->seg[l] || N->t[l] != t[l];
        for (size_t e = l; e < (size_t)W->d * L; e += L) moved |= N->y[e] != y[e], N->y[e] = y[e];
        N->sample[l] = f->sample[l], N->seg[l] = f->seg[l], N->t[l] = t[l];
        W->active[l] = (unsigned char)moved;
    }
    int stopped = FN(run)(&N->J, N->file, N->J.lay->n_prologue, N->J.lay->n_forward);
    for (int l = 0; l < L; l++) {
        f->jacobians[l] += W->active[l];
        f->factors[l] += asked[l];
        f->evals[l] += W->active[l] * W->P->jacobian_cost;
    }
    memcpy(W->active, asked, L);
    return stopped;
}

/* J at (t, y), and the factors of W for steps h. */
static int FN(linearise)(FN(work) * W, const T *y, const double *t, const double *h) {
    FN(newton) *N = &W->newton;
    size_t d = (size_t)W->d;
    T scale[L];
    FN(fill_jacobian)(W, &N->J, N->file, y, t);
    if (FN(renew)(W, y, t)) return 1;
    const T *J = FN(at)(&N->J, N->file, N->J.lay->output[0]);
    for (int l = 0; l < L; l++) scale[l] = (T)(-W->tab->gamma * h[l]);
    if (N->J.prog->output_size[0])
        for (size_t e = 0; e < d * d * L; e += L)
            for (size_t l = 0; l < L; l++) N->lu[e + l] = scale[l] * J[e + l];
    else memset(N->lu, 0, d * d * L * sizeof(T));
    for (size_t i = 0; i < d; i++)
        for (size_t j = W->P->mass ? 0 : i; j < (W->P->mass ? d : i + 1); j++) {
            T m = W->P->mass ? (T)W->P->mass[i * d + j] : 1;
            for (size_t l = 0; l < L; l++) N->lu[(i * d + j) * L + l] += m;
        }
    FN(factor)(N->lu, N->swap, N->moved, W->d);
    return 0;
}

/* to += M x, or M^T x; (d, L) */
static void FN(add_mass)(const FN(work) * W, T *to, const T *x, int transposed) {
    size_t d = (size_t)W->d;
    const double *M = W->P->mass;
    for (size_t e = 0; !M && e < d * L; e++) to[e] += x[e];
    for (size_t i = 0; M && i < d; i++)
        for (size_t j = 0; j < d; j++) {
            T m = (T)(transposed ? M[j * d + i] : M[i * d + j]);
            for (size_t l = 0; m != 0 && l < L; l++) to[i * L + l] += m * x[j * L + l];
        }
}

/* k_i holds f(t_i, Y_i), and then the stage. */
static void FN(solve_stage)(FN(work) * W, int i, const double *h, T *const *k) {
    FN(newton) *N = &W->newton;
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    const T *ft = tab->by_t[i] != 0 ? FN(slope_in_t)(W) : NULL;
    T *sum = W->P->mass ? W->spare : k[i], gamma = (T)tab->gamma;
    if (W->P->mass) memset(sum, 0, size * sizeof(T));
    for (int j = 0; j < i; j++) {
        T c = (T)tab->coupling[i][j];
        for (size_t e = 0; c != 0 && e < size; e++) sum[e] += c * k[j][e];
    }
    if (W->P->mass) FN(add_mass)(W, k[i], sum, 0);
    for (size_t e = 0; ft && e < size; e += L)
        for (size_t l = 0; l < L; l++) k[i][e + l] += (T)(tab->by_t[i] * h[l]) * ft[e + l];
    for (size_t e = 0; e < size; e++) k[i][e] *= gamma;
    FN(lu_solve)(N->lu, N->swap, N->moved, k[i], W->d);
}
