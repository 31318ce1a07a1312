/* Rosenbrock methods (tableau.h): the matrix W = M - gamma h J of a step in each lane, its factors, and the stages

       W k_i = gamma g_i,   g_i = f(t_i, Y_i) + M sum_j coupling_ij k_j + by_t_i h f_t,

   J and f_t being those of the program `jacobian`: slots t, y and [u, du/dt]; output J (d, d), or its entries on the problem's pattern,
   and f_t (d) where the field depends on t. */

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
        if (f->sample[l] >= 0) FN(input_rate)(W->P, f->sample[l], FN(segment_of)(W, l, t[l]), t[l], u + (size_t)W->m * L + l);
}

/* How many entries of J there are. */
static inline size_t FN(entries)(const FN(work) * W) {
    return W->newton.pattern ? (size_t)W->newton.pattern->n : (size_t)W->d * (size_t)W->d;
}

/* f_t of the step, or NULL where it is 0. */
static const T *FN(slope_in_t)(FN(work) * W) {
    FN(newton) *N = &W->newton;
    size_t n = FN(entries)(W);
    return (size_t)N->J.prog->output_size[0] > n ? FN(at)(&N->J, N->file, N->J.lay->output[0]) + n * L : NULL;
}

/* W on a pattern. J NULL: 0 */
static void FN(assemble)(FN(work) * W, const T *J, const T *scale) {
    FN(newton) *N = &W->newton;
    const pn_pattern *p = N->pattern;
    memset(N->lu, 0, (size_t)p->size * L * sizeof(T));
    for (size_t e = 0; J && e < (size_t)p->n; e++) {
        T *to = N->lu + (size_t)p->place[e] * L;
        for (size_t l = 0; l < L; l++) to[l] = scale[l] * J[e * L + l];
    }
    for (int32_t q = 0; q < p->n_mass; q++) {
        T *to = N->lu + (size_t)p->moored[q] * L, m = W->P->mass ? (T)W->P->mass[p->mass[q]] : 1;
        for (size_t l = 0; l < L; l++) to[l] += m;
    }
}

/* W of lane l as a full matrix, and its factors. */
static void FN(start_whole)(FN(work) * W, const T *J, const T *scale, size_t l) {
    FN(whole) *w = &W->newton.whole;
    const pn_pattern *p = W->newton.pattern;
    size_t d = (size_t)W->d;
    T *A = w->A + l * d * w->stride;
    memset(A, 0, d * w->stride * sizeof(T));
    for (size_t e = 0; J && e < (size_t)p->n; e++) A[(size_t)p->row[e] * w->stride + (size_t)p->col[e]] = scale[l] * J[e * L + l];
    for (int32_t q = 0; q < p->n_mass; q++) {
        size_t e = (size_t)p->mass[q];
        A[e / d * w->stride + e % d] += W->P->mass ? (T)W->P->mass[e] : 1;
    }
    FN(whole_factor)(w, (int)l, W->d);
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
    const T *J = N->J.prog->output_size[0] ? FN(at)(&N->J, N->file, N->J.lay->output[0]) : NULL;
    for (int l = 0; l < L; l++) scale[l] = (T)(-W->tab->gamma * h[l]);
    if (N->pattern) {
        FN(assemble)(W, J, scale);
        if (!N->sparse) FN(factor)(N->lu, N->swap, N->moved, W->d);
        else if ((N->whole.any = FN(sparse_factor)(N->pattern, N->lu, N->swap, N->whole.used)))
            for (size_t l = 0; l < L; l++)
                if (N->whole.used[l]) FN(start_whole)(W, J, scale, l);
        return 0;
    }
    if (J)
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

/* b (d, L) <- W^-1 b or W^-T b */
static void FN(solve_linear)(FN(work) * W, T *b, int transposed) {
    FN(newton) *N = &W->newton;
    FN(whole) *w = &N->whole;
    if (!N->sparse) {
        if (transposed) FN(lu_solve_t)(N->lu, N->swap, N->moved, b, W->d);
        else FN(lu_solve)(N->lu, N->swap, N->moved, b, W->d);
        return;
    }
    size_t d = (size_t)W->d;
    for (size_t l = 0; w->any && l < L; l++)
        for (size_t c = 0; w->used[l] && c < d; c++) w->b[l * w->stride + c] = b[c * L + l];
    if (transposed) FN(sparse_solve_t)(N->pattern, N->lu, b, N->swap);
    else FN(sparse_solve)(N->pattern, N->lu, b, N->swap);
    for (size_t l = 0; w->any && l < L; l++) {
        if (!w->used[l]) continue;
        FN(whole_solve)(w, (int)l, w->b + l * w->stride, W->d, transposed);
        for (size_t c = 0; c < d; c++) b[c * L + l] = w->b[l * w->stride + c];
    }
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

/* The sum of stage i without mass: to = scale (from + sum_j coupling_ij k_j + by_t_i h f_t); ft NULL: without the last. */
static void FN(gather_stage)(const FN(work) * W, int i, T *to, const T *from, const double *h, const T *ft, T scale, T *const *k) {
    const V(terms) *s = &W->sums->coupling[i];
    size_t size = (size_t)W->d * L;
    T by_t[L];
    for (int l = 0; l < L; l++) by_t[l] = (T)(W->tab->by_t[i] * h[l]);
#if PN_BLOCK
    for (size_t e = 0; e < size; e += L)
        for (size_t v = 0; v < L; v += VE) {
            vec sum = V(load)(from + e + v);
            for (int q = 0; q < s->n; q++) sum += V(set1)(s->a[q]) * V(load)(k[s->j[q]] + e + v);
            if (ft) sum += V(load)(by_t + v) * V(load)(ft + e + v);
            V(store)(to + e + v, V(set1)(scale) * sum);
        }
#else
    enum { FEW = 4 }; /* one by one: a vector would wait for the stores of its elements */
    for (size_t e = 0; size <= FEW && e < size; e++) {
        T sum = from[e];
        for (int q = 0; q < s->n; q++) sum += s->a[q] * k[s->j[q]][e];
        if (ft) sum += by_t[0] * ft[e];
        to[e] = scale * sum;
    }
    for (size_t e = 0; size > FEW && e < size; e += VE) {
        vec sum = V(load)(from + e);
        for (int q = 0; q < s->n; q++) sum += V(set1)(s->a[q]) * V(load)(k[s->j[q]] + e);
        if (ft) sum += V(set1)(by_t[0]) * V(load)(ft + e);
        V(store)(to + e, V(set1)(scale) * sum);
    }
#endif
}

/* k_i holds f(t_i, Y_i), and then the stage. */
static void FN(solve_stage)(FN(work) * W, int i, const double *h, T *const *k) {
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    const T *ft = tab->by_t[i] != 0 ? FN(slope_in_t)(W) : NULL;
    T gamma = (T)tab->gamma;
    if (W->P->mass) {
        T *sum = W->spare;
        memset(sum, 0, size * sizeof(T));
        FN(gather_stage)(W, i, sum, sum, h, NULL, 1, k);
        FN(add_mass)(W, k[i], sum, 0);
        for (size_t e = 0; ft && e < size; e += L)
            for (size_t l = 0; l < L; l++) k[i][e + l] += (T)(tab->by_t[i] * h[l]) * ft[e + l];
        for (size_t e = 0; e < size; e++) k[i][e] *= gamma;
    } else FN(gather_stage)(W, i, k[i], k[i], h, ft, gamma, k);
    FN(solve_linear)(W, k[i], 0);
}
