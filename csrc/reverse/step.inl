/* The reverse half: the exact derivative of the steps really taken (discrete adjoint), steps and step sizes frozen.

   lambda = dL/dy_new arrives from the right. A step is
       Y_i = y + h sum_j a_ij k_j,  k_i = f(t + c_i h, Y_i),  y_new = y + h sum b_i k_i,
       y(t + theta h) = y + h sum_i k_i sum_j dense_ij theta^j at save times inside it,
   so, with g the cotangents of the saved values,
       gk_i = h b_i lambda + h sum_j dense_ij (sum_saves g theta^j),  gy = lambda + sum_saves g,
   and from the last stage to the first
       v = gk_i^T df/dy(Y_i),  gy += v,  gk_j += h a_ij v,  gtheta += gk_i^T df/dtheta(Y_i).
   (Hairer, Lubich, Wanner, Geometric Numerical Integration, VI.4; Sanz-Serna 2016, SIAM Review 58, sec. 3.) */

/* ---- loss ----------------------------------------------------------------------------------------------------------- */
static double FN(rho)(const pn_problem *P, double r, double *slope) {
    double s = P->loss_scale, a = fabs(r), nu = P->loss_dof;
    switch (P->loss) {
    case PN_LOSS_SQUARED: *slope = 2 * r; return r * r;
    case PN_LOSS_ABSOLUTE: *slope = r > 0 ? 1 : r < 0 ? -1 : 0; return a;
    case PN_LOSS_HUBER: *slope = a <= s ? r : r > 0 ? s : -s; return a <= s ? 0.5 * r * r : s * (a - 0.5 * s);
    case PN_LOSS_STUDENT: *slope = (nu + 1) * r / (nu * s * s + r * r); return 0.5 * (nu + 1) * log1p(r * r / (nu * s * s));
    default: *slope = 0; return 0;
    }
}

/* cotangent of the saved value (row, c) */
static inline double FN(cotangent)(const FN(work) * W, int64_t row, int32_t c) {
    const pn_problem *P = W->P;
    size_t at = (size_t)row * (size_t)P->d + (size_t)c;
    if (P->loss == PN_LOSS_PROGRAM) return (double)W->g_rows[at - (size_t)W->first_row * (size_t)P->d];
    if (P->g_y) return (double)((const T *)P->g_y)[at];
    double target = (double)((const T *)P->target)[at], slope, w = P->weight ? (double)((const T *)P->weight)[at] : 1;
    if (target != target || w == 0) return 0;
    if (P->loss == PN_LOSS_SQUARED) return w * 2 * ((double)((const T *)P->y)[at] - target);
    FN(rho)(P, (double)((const T *)P->y)[at] - target, &slope);
    return w * slope;
}

/* to[c * stride] = those of the row, or 0 (row -1) */
static inline void FN(cotangents)(const FN(work) * W, int64_t row, T *to, size_t stride) {
    const pn_problem *P = W->P;
    size_t d = (size_t)W->d, at = (size_t)row * d;
    if (row < 0)
        for (size_t c = 0; c < d; c++) to[c * stride] = 0;
    else if (P->loss == PN_LOSS_PROGRAM || P->g_y) {
        const T *from = P->g_y ? (const T *)P->g_y + at : W->g_rows + at - (size_t)W->first_row * d;
        for (size_t c = 0; c < d; c++) to[c * stride] = from[c];
    } else
        for (size_t c = 0; c < d; c++) to[c * stride] = (T)FN(cotangent)(W, row, (int32_t)c);
}

/* sum[k] += w rho(y - target), weight[k] += w for n values from number `at` on; one without target counts nothing. */
enum { FN(SUMS) = 8 };
static inline __attribute__((always_inline)) void FN(add_loss)(const pn_problem *P, size_t at, size_t n, double *sum, double *weight) {
    const T *y = (const T *)P->y + at, *target = (const T *)P->target + at, *given = P->weight ? (const T *)P->weight + at : NULL;
    double r[FN(SUMS)], w[FN(SUMS)], slope;
    for (size_t k = 0; k < n; k++) {
        w[k] = target[k] == target[k] ? (given ? (double)given[k] : 1) : 0;
        r[k] = w[k] != 0 ? (double)y[k] - (double)target[k] : 0;
    }
    if (P->loss == PN_LOSS_SQUARED)
        for (size_t k = 0; k < n; k++) r[k] *= r[k];
    else
        for (size_t k = 0; k < n; k++) r[k] = w[k] != 0 ? FN(rho)(P, r[k], &slope) : 0;
    for (size_t k = 0; k < n; k++) sum[k] += w[k] * r[k], weight[k] += w[k];
}

static void FN(sample_loss)(const pn_problem *P, int64_t i) {
    double sum[FN(SUMS)] = {0}, weight[FN(SUMS)] = {0};
    size_t at = (size_t)P->row[i] * (size_t)P->d, end = at + (size_t)P->t_len[i] * (size_t)P->d;
    for (; at + FN(SUMS) <= end; at += FN(SUMS)) FN(add_loss)(P, at, FN(SUMS), sum, weight);
    FN(add_loss)(P, at, end - at, sum, weight);
    P->sample_loss[i] = P->sample_weight[i] = 0;
    for (size_t k = 0; k < FN(SUMS); k++) P->sample_loss[i] += sum[k], P->sample_weight[i] += weight[k];
}

/* ---- pieces ----------------------------------------------------------------------------------------------------------- */
/* d u / d t of one input component set, dotted with gu; and dL/d(coefficients) */
static double FN(input_back)(const pn_problem *P, int64_t sample, int32_t seg, double t, const T *gu, double weight, double *g_coef) {
    int32_t m = P->m, q1 = P->degree + 1;
    int64_t first = (P->seg_start[sample] + seg) * q1;
    const T *c = (const T *)P->coef + (size_t)first * (size_t)m;
    double dt = t - P->knot[P->knot_start[sample] + seg], slope = 0;
    for (int32_t i = 0; i < m; i++) {
        double g = (double)gu[(size_t)i * L] * weight, power = 1, du = 0;
        for (int32_t q = 0; q < q1; q++) {
            if (g_coef) g_coef[(size_t)(first + q) * (size_t)m + (size_t)i] += g * power;
            if (q + 1 < q1) du += (q + 1) * power * (double)c[(size_t)(q + 1) * (size_t)m + (size_t)i];
            power *= dt;
        }
        slope += g * du;
    }
    return slope;
}

/* Quadrature of the continuous adjoint: sum_i b_i h (accumulate at stage i), for the lanes just accepted. */
static int FN(quadrature)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    const FN(exec) *E = &W->field;
    int s = W->tab->s;
    for (int i = 0; i < s; i++)
        for (int l = 0; l < L; l++) W->back.weight[i * L + l] = f->accepted[l] ? (T)(W->tab->b[i] * f->h[l]) : (T)0;
    FN(accumulate)(E, W->file, W->file_stride, s, W->back.weight);
    if (!P->quadrature_coef || E->prog->n_outputs < 4 || !E->prog->output_size[3]) return 0;
    for (int i = 0; i < s; i++) {
        double ti[L];
        const T *gu = FN(at)(E, W->file + (size_t)i * W->file_stride, E->lay->output[3]);
        FN(stage_time)(ti, f->t, f->h, f->t_new, W->tab->c[i]);
        for (int l = 0; l < L; l++)
            if (f->accepted[l]) FN(input_back)(P, f->sample[l], f->seg[l], ti[l], gu + l, (double)W->back.weight[i * L + l], P->quadrature_coef);
    }
    return 0;
}

/* What flows back through stages n - 1 .. from of one Runge-Kutta step from `base` (their register files are filled):
   gk (cotangents of the stages) in, g_base += ..., gt and gh += derivatives with respect to t and h. */
typedef struct FN(step) {
    T *files;
    const double *t, *h, *t_new;
    T **gk, *g_base;
    const T *base;
    double *gt, *gh; /* (L) or NULL */
} FN(step);

/* to = from (NULL: 0) + h a v in part p of the state. Whole vectors where that is all of it: see by_rows. */
static inline void FN(add_scaled)(const FN(work) * W, int p, T *to, const T *from, const double *h, double a, const T *v) {
    size_t begin = (size_t)W->half[p].from * L, end = (size_t)W->half[p].to * L;
    T step[L];
    for (int l = 0; l < L; l++) step[l] = (T)h[l] * (T)a;
    if (!PN_BLOCK && W->n_halves > 1) {
        for (size_t e = begin; e < end; e++) to[e] = (from ? from[e] : 0) + step[0] * v[e];
        return;
    }
    for (size_t e = begin; e < end; e += VE) {
        vec x = (PN_BLOCK ? V(load)(step + e % L) : V(set1)(step[0])) * V(load)(v + e);
        V(store)(to + e, from ? V(load)(from + e) + x : x);
    }
}

static int FN(reverse_stages)(FN(work) * W, const FN(step) * S, int from, int n) {
    const pn_problem *P = W->P;
    FN(exec) *E = &W->reverse;
    const pn_layout *lay = E->lay;
    size_t size = (size_t)W->d * L;
    const int32_t *has = E->prog->output_size;
    for (int i = n - 1; i >= from; i--) {
        T *file = S->files + (size_t)i * W->files_stride;
        FN(copy)(file + (size_t)lay->slot[3] * L, S->gk[i], size);
        if (FN(run)(E, file, lay->n_forward, lay->n_reverse)) return 1;
        double ti[L];
        FN(stage_time)(ti, S->t, S->h, S->t_new, W->tab->c[i]);
        if (has[1]) {
            const T *v = FN(at)(E, file, lay->output[1]), *Y = FN(state_slot)(E, file);
            FN(add)(S->g_base, v, size);
            for (int p = 0; p < W->n_halves; p++)
                for (int j = 0; j < i; j++) {
                    double a = W->half[p].tab->a[i][j];
                    if (a != 0) FN(add_scaled)(W, p, S->gk[j], S->gk[j], S->h, a, v);
                }
            if (S->gh && i > 0)
                for (int32_t c = 0; c < W->d; c++)
                    for (size_t l = 0; l < L; l++)
                        if (S->h[l] != 0) S->gh[l] += (double)v[(size_t)c * L + l] * (double)(Y[(size_t)c * L + l] - S->base[(size_t)c * L + l]) / S->h[l];
        }
        double gt[L] = {0};
        if (has[2])
            for (int l = 0; l < L; l++) gt[l] = (double)FN(at)(E, file, lay->output[2])[l];
        if (has[3] && (P->g_coef || S->gt))
            for (int l = 0; l < L; l++)
                if (W->back.live[l])
                    gt[l] += FN(input_back)(P, W->back.sample[l], W->flow.seg[l], ti[l], FN(at)(E, file, lay->output[3]) + l, 1, P->g_coef);
        if (S->gt)
            for (int l = 0; l < L; l++) {
                S->gt[l] += gt[l];
                S->gh[l] += W->tab->c[i] * gt[l];
            }
    }
    return 0;
}

/* gk_i = h b_i g, i < s */
static void FN(seed_stages)(const FN(work) * W, T **gk, const double *h, const T *g) {
    for (int i = 0; i < W->tab->s; i++)
        for (int p = 0; p < W->n_halves; p++) FN(add_scaled)(W, p, gk[i], NULL, h, W->half[p].tab->b[i], g);
}

/* ---- save points ------------------------------------------------------------------------------------------------------- */
/* States of few components: the cotangents of the values inside the step of lane l, a vector of times at once. */
static void FN(collect_inside)(const FN(work) * W, int l) {
    const FN(back) *B = &W->back;
    const pn_record *r = &B->record[l];
    size_t degree = (size_t)W->tab->dense_degree, d = (size_t)W->d;
    int64_t row = W->P->row[B->sample[l]];
    for (int32_t j = r->save; j < r->ends; j += VE) {
        size_t n = r->ends - j < (int32_t)VE ? (size_t)(r->ends - j) : VE;
        T theta[VE], g[FN(FEW) * VE] = {0};
        FN(thetas)(W->P, B->sample[l], j, n, B->t[l], B->h[l], theta);
        for (size_t k = 0; k < n; k++) FN(cotangents)(W, row + j + (int64_t)k, g + k, VE);
        vec x = V(load)(theta);
        for (size_t c = 0; c < d; c++) {
            vec v = V(load)(g + c * VE);
            B->g_base[c * L + (size_t)l] += V(hsum)(v);
            for (size_t q = 0; q < degree; q++) B->g_coef[(q * d + c) * L + (size_t)l] += V(hsum)(v *= x);
        }
    }
}

/* Adds the cotangents of the step's saved values: to lambda at its end, to g_base and g_coef inside. 1: some inside. */
static int FN(collect_saves)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    size_t degree = (size_t)W->tab->dense_degree, d = (size_t)W->d, size = d * L;
    int32_t first[L], ends[L], most = 0, any = 0;
    FN(clear)(B->g_base, size);
    for (size_t l = 0; l < L; l++) {
        const pn_record *r = &B->record[l];
        first[l] = ends[l] = 0;
        if (!B->live[l]) continue;
        int64_t i = B->sample[l];
        first[l] = r->save, ends[l] = r->ends;
        if (ends[l] - first[l] > most) most = ends[l] - first[l];
        any |= !r->landed && P->g_t && r->save < r->save_end; /* for f_new */
        for (int32_t j = r->ends; !P->jump.program && j < r->save_end; j++) /* with jumps: unjump_saves */
            for (size_t c = 0; c < d; c++) B->lambda[c * L + l] += (T)FN(cotangent)(W, P->row[i] + j, (int32_t)c);
    }
    if (!any && most == 0) return 0;
    memset(B->g_coef, 0, degree * size * sizeof(T));
    if (W->d <= FN(FEW)) {
        for (int l = 0; l < L; l++)
            if (B->live[l]) FN(collect_inside)(W, l);
        return 1;
    }
    for (int32_t round = 0; round < most; round++) {
        int64_t row[L];
        T theta[L], *g = W->spare;
        FN(inside)(P, round, B->sample, first, ends, B->t, B->h, row, theta);
        for (size_t l = 0; l < L; l++) FN(cotangents)(W, row[l], g + l, L);
        for (size_t e = 0; e < size; e++) B->g_base[e] += g[e];
        for (size_t q = 0; q < degree; q++)
            for (size_t c = 0; c < d; c++) {
                T *to = B->g_coef + (q * d + c) * L, *power = g + c * L;
                for (size_t l = 0; l < L; l++) to[l] += power[l] *= theta[l];
            }
    }
    return 1;
}

static void FN(seed_dense)(const FN(work) * W, T **gk) {
    const FN(back) *B = &W->back;
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    for (int i = tab->s; i < W->stages; i++) memset(gk[i], 0, size * sizeof(T));
    for (int i = 0; i < W->stages; i++)
        for (int j = 1; j <= tab->dense_degree; j++) {
            const T *g = B->g_coef + (size_t)(j - 1) * size;
            for (int p = 0; p < W->n_halves; p++) {
                double b = W->half[p].tab->dense[i][j];
                if (b != 0) FN(add_scaled)(W, p, gk[i], gk[i], B->h, b, g);
            }
        }
}

/* Derivatives with respect to time of the saves in the step, grid frozen: theta = (t_s - t) / h. */
static void FN(time_saves)(FN(work) * W, double *gt, double *gh) {
    const pn_problem *P = W->P;
    FN(back) *B = &W->back;
    int degree = W->tab->dense_degree;
    size_t size = (size_t)W->d * L;
    T *coef = W->flow.coef;
    FN(dense_coef)(W, B->k, B->h, coef);
    for (int l = 0; l < L; l++) {
        if (!B->live[l]) continue;
        const pn_record *r = &B->record[l];
        for (int32_t j = r->save; j < r->save_end; j++) {
            int64_t i = B->sample[l], row = P->row[i] + j;
            double ts = FN(time_of)(P, i, j), theta = (ts - B->t[l]) / B->h[l], slope = 0, value = 0;
            int end = j >= r->ends; /* of the step: unless that moves along, the slope is f_new */
            if (end && r->landed) continue;
            for (int32_t c = 0; c < W->d; c++) {
                double g = FN(cotangent)(W, row, c), power = 1;
                for (int q = 0; q < degree; q++) {
                    double k = (double)coef[(size_t)q * size + (size_t)c * L + (size_t)l];
                    slope += g * (q + 1) * k * power;
                    power *= theta;
                    value += g * k * power;
                }
            }
            P->g_t[row] += slope / B->h[l];
            if (end) continue;
            gt[l] -= slope / B->h[l];
            gh[l] += value / B->h[l] - theta * slope / B->h[l];
        }
    }
}

/* The ends of the step are grid points: d/dt_new = gh (+ what the next step says of its start), d/dt = gt - gh. */
static void FN(time_ends)(FN(work) * W, const double *gt, const double *gh) {
    FN(back) *B = &W->back;
    for (int l = 0; l < L; l++) {
        if (!B->live[l]) continue;
        const pn_record *r = &B->record[l];
        if (r->landed) W->P->g_t[W->P->row[B->sample[l]] + r->save_end - 1] += gh[l] + B->carry[l];
        B->carry[l] = gt[l] - gh[l];
    }
}

/* ---- one step back in every live lane ------------------------------------------------------------------------------- */
static pn_status FN(unjump_saves)(FN(work) * W);

/* The register files of stages 1 .. n - 1, and of stage 0 if it is wanted, where they are stored, or evaluated again. */
static int FN(load_stages)(FN(work) * W, FN(block) * b, int stage0, int n, T **files) {
    FN(back) *B = &W->back;
    FN(exec) *E = &W->reverse;
    size_t size = (size_t)W->d * L;
    int have = 1; /* stages 1 .. have - 1 are there */
    *files = W->files;
    if (b->files >= 0) {
        *files = W->store + (size_t)b->files * W->slot;
        have = b->n < n ? b->n : n;
        for (int i = 1; i < have; i++) {
            const T *k = FN(at)(E, *files + (size_t)i * W->files_stride, E->lay->output[0]);
            if (E->prog->output_size[0]) FN(copy)(B->k[i], k, size);
            else memset(B->k[i], 0, size * sizeof(T));
        }
    }
    E->later = W->files - *files;
    if (stage0 && !(b->files >= 0 && b->here) && FN(stages)(W, E, *files, W->files_stride, B->y, B->t, B->h, B->t_new, B->k, 0, 1)) return 1;
    return FN(stages)(W, E, *files, W->files_stride, B->y, B->t, B->h, B->t_new, B->k, have, n);
}

/* The cotangent of k_0 of lanes that did not evaluate it in this step goes where they did; here: all did. */
static void FN(pass_on)(FN(work) * W, int here) {
    FN(back) *B = &W->back;
    for (int l = 0; l < L; l++) B->fed[l] &= (unsigned char)!B->live[l];
    for (size_t l = 0; !here && l < L; l++) {
        if (!B->live[l]) continue;
        unsigned char source = B->record[l].source;
        B->fed[l] = source == PN_SOURCE_PREVIOUS;
        if (source == PN_SOURCE_START) W->from_start[B->local[l]] = 1;
        if (source != PN_SOURCE_START && source != PN_SOURCE_PREVIOUS) continue;
        for (size_t c = 0; c < (size_t)W->d; c++) {
            T *to = source == PN_SOURCE_PREVIOUS ? B->feed + c * L + l : W->chunk_gk + (size_t)B->local[l] * (size_t)W->d + c;
            *to = B->gk[0][c * L + l];
            B->gk[0][c * L + l] = 0;
        }
    }
}

static pn_status FN(step_back)(FN(work) * W, FN(block) * b) {
    pn_status st = W->P->jump.program ? FN(unjump_saves)(W) : PN_OK;
    if (st != PN_OK) return st;
    FN(back) *B = &W->back;
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    double gt[L] = {0}, gh[L] = {0};
    T *files;
    int inside = FN(collect_saves)(W), n = inside ? W->stages : tab->s, timed = W->P->g_t != NULL, fed = 0, stage0 = b->here;
    if (inside && !tab->dense_uses_new) n = tab->s;
    for (int l = 0; l < L; l++) fed |= B->live[l] & B->fed[l];
    for (int l = 0; !stage0 && l < L; l++) {
        if (!B->live[l]) continue;
        stage0 |= B->record[l].source == PN_SOURCE_HERE || B->record[l].source == PN_SOURCE_EARLIER;
    }
    if (fed && n == tab->s) n++;
    memcpy(W->active, B->live, L);
    if (FN(load_stages)(W, b, stage0, n, &files)) return PN_CALLBACK;
    FN(seed_stages)(W, B->gk, B->h, B->lambda);
    for (int i = tab->s; i < n; i++) memset(B->gk[i], 0, size * sizeof(T));
    if (inside) FN(seed_dense)(W, B->gk);
    for (size_t l = 0; fed && l < L; l++)
        for (size_t c = 0; B->live[l] && B->fed[l] && c < (size_t)W->d; c++) B->gk[tab->s][c * L + l] += B->feed[c * L + l];
    FN(add)(B->g_base, B->lambda, size);
    if (timed)
        for (int i = 0; i < tab->s; i++)
            for (int32_t c = 0; c < W->d; c++)
                for (size_t l = 0; l < L; l++) gh[l] += FN(table)(W, c)->b[i] * (double)B->k[i][(size_t)c * L + l] * (double)B->lambda[(size_t)c * L + l];
    if (timed && inside) FN(time_saves)(W, gt, gh);
    FN(step) S = {files, B->t, B->h, B->t_new, B->gk, B->g_base, B->y, timed ? gt : NULL, timed ? gh : NULL};
    if (FN(reverse_stages)(W, &S, 1, n)) return PN_CALLBACK;
    FN(pass_on)(W, b->here);
    if (stage0 && FN(reverse_stages)(W, &S, 0, 1)) return PN_CALLBACK;
    int first = stage0 ? 0 : 1; /* idle lanes have cotangent 0 */
    FN(accumulate)(&W->reverse, files + (size_t)first * W->files_stride, W->files_stride, n - first, NULL);
    W->reverse.later = 0;
    if (timed) FN(time_ends)(W, gt, gh);
    FN(copy)(B->lambda, B->g_base, size);
    return PN_OK;
}

/* Lanes whose sample has no step in this attempt: set their cotangents aside, and bring them back. A lane without a sample has
   the cotangent 0. */
static void FN(rest)(FN(work) * W, int back) {
    FN(back) *B = &W->back;
    int some = 0;
    for (int l = 0; l < L; l++) some |= B->open[l] & !B->live[l];
    if (!some) return;
    T *x[4] = {B->lambda, B->mu, B->y, B->z};
    int n = B->z ? 4 : 1;
    for (int q = 0; q < n; q++)
        for (size_t l = 0; l < L; l++)
            for (size_t c = 0; !B->live[l] && c < (size_t)W->d; c++) {
                T *at = x[q] + c * L + l, *kept = B->kept[q] + c * L + l;
                if (back) *at = *kept;
                else *kept = *at;
                if (!back && q < 2) *at = 0;
            }
}

/* Reversible scheme: rebuild (y, z) at the start of the step from its end, then reverse both increments. */
static pn_status FN(reversible_back)(FN(work) * W) {
    FN(back) *B = &W->back;
    FN(exec) *E = &W->reverse;
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    T *second = W->files + (size_t)tab->s * W->files_stride, lambda = (T)W->P->lambda, *y_new = W->flow.y_new, *g_z = W->flow.z_new;
    double back[L], gt2[L] = {0}, gh2[L] = {0}, gt[L] = {0}, gh[L] = {0};
    int timed = W->P->g_t != NULL;
    FN(collect_saves)(W);
    memcpy(W->active, B->live, L);
    for (int l = 0; l < L; l++) back[l] = -B->h[l];
    memcpy(y_new, B->y, size * sizeof(T));
    /* z = z_new + Psi_{-h}(t_new, y_new); z_new = z - Psi: cotangent -mu of Psi flows to y_new */
    if (FN(stages)(W, E, second, W->files_stride, y_new, B->t_new, back, B->t, B->k, 0, tab->s)) return PN_CALLBACK;
    FN(combine)(B->z, B->z, back, &W->rows[tab->s], B->k, W->d);
    for (size_t e = 0; e < size; e++) B->g_base[e] = -B->mu[e];
    if (timed)
        for (int i = 0; i < tab->s; i++)
            for (int32_t c = 0; c < W->d; c++)
                for (size_t l = 0; l < L; l++) gh2[l] += tab->b[i] * (double)B->k[i][(size_t)c * L + l] * (double)B->g_base[(size_t)c * L + l];
    FN(seed_stages)(W, B->gk, back, B->g_base);
    FN(step) S2 = {second, B->t_new, back, B->t, B->gk, B->lambda, y_new, timed ? gt2 : NULL, timed ? gh2 : NULL};
    if (FN(reverse_stages)(W, &S2, 0, tab->s)) return PN_CALLBACK;
    FN(accumulate)(E, second, W->files_stride, tab->s, NULL);
    /* y = (y_new - (1 - lambda) z - Psi_h(t, z)) / lambda */
    if (FN(stages)(W, E, W->files, W->files_stride, B->z, B->t, B->h, B->t_new, B->k, 0, tab->s)) return PN_CALLBACK;
    FN(combine)(B->y, B->z, B->h, &W->rows[tab->s], B->k, W->d);
    for (size_t e = 0; e < size; e++) {
        B->y[e] = B->z[e] + (y_new[e] - B->y[e]) / lambda;
        g_z[e] = B->mu[e] + (1 - lambda) * B->lambda[e];
    }
    if (timed)
        for (int i = 0; i < tab->s; i++)
            for (int32_t c = 0; c < W->d; c++)
                for (size_t l = 0; l < L; l++) gh[l] += tab->b[i] * (double)B->k[i][(size_t)c * L + l] * (double)B->lambda[(size_t)c * L + l];
    FN(seed_stages)(W, B->gk, B->h, B->lambda);
    FN(step) S1 = {W->files, B->t, B->h, B->t_new, B->gk, g_z, B->z, timed ? gt : NULL, timed ? gh : NULL};
    if (FN(reverse_stages)(W, &S1, 0, tab->s)) return PN_CALLBACK;
    FN(accumulate)(E, W->files, W->files_stride, tab->s, NULL);
    for (size_t e = 0; e < size; e++) B->lambda[e] *= lambda;
    memcpy(B->mu, g_z, size * sizeof(T));
    for (int l = 0; timed && l < L; l++) { /* the second increment starts at t_new = t + h with step -h */
        gt[l] += gt2[l];
        gh[l] += gt2[l] - gh2[l];
    }
    if (timed) FN(time_ends)(W, gt, gh);
    return PN_OK;
}
