/* Back through the stages of a step. */

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

/* What flows back through stages n - 1 .. from of one Runge-Kutta step from `base` (their register files are filled):
   gk (cotangents of the stages) in, g_base += ..., gt and gh += derivatives with respect to t and h. */
typedef struct FN(step) {
    T *files;
    const double *t, *h, *t_new;
    T **gk, *g_base;
    const T *base;
    double *gt, *gh; /* (L) or NULL */
    T *const *k;     /* the stages, of a Rosenbrock method */
} FN(step);

/* to = from (NULL: 0) + h a v in part p of the state. Whole vectors where that is all of it: see by_rows. */
static inline void FN(add_scaled)(const FN(work) * W, int p, T *to, const T *from, const double *h, double a, const T *v) {
    size_t begin = (size_t)W->sums->half[p].from * L, end = (size_t)W->sums->half[p].to * L;
    T step[L];
    for (int l = 0; l < L; l++) step[l] = (T)h[l] * (T)a;
    if (L < VE && W->sums->n_halves > 1) {
        for (size_t e = begin; e < end; e++) to[e] = (from ? from[e] : 0) + step[e % L] * v[e];
        return;
    }
    for (size_t e = begin; e < end; e += VE) {
        vec x = FN(of_lanes)(step, e) * V(load)(v + e);
        V(store)(to + e, from ? V(load)(from + e) + x : x);
    }
}

#include "reverse/implicit.inl"

static int FN(reverse_stages)(FN(work) * W, const FN(step) * S, int from, int n) {
    const pn_problem *P = W->P;
    FN(exec) *E = &W->reverse;
    const pn_layout *lay = E->lay;
    size_t size = (size_t)W->d * L;
    const int32_t *has = E->prog->output_size;
    for (int i = n - 1; i >= from; i--) {
        T *file = S->files + (size_t)i * W->files_stride;
        if (FN(is_implicit)(W)) FN(unsolve_stage)(W, S, i);
        FN(copy)(file + (size_t)lay->slot[3] * L, S->gk[i], size);
        if (FN(run)(E, file, lay->n_forward, lay->n_reverse)) return 1;
        double ti[L];
        FN(stage_time)(ti, S->t, S->h, S->t_new, W->tab->c[i]);
        if (has[1]) {
            const T *v = FN(at)(E, file, lay->output[1]), *Y = FN(state_slot)(E, file);
            FN(add)(S->g_base, v, size);
            for (int p = 0; p < W->sums->n_halves; p++)
                for (int j = 0; j < i; j++) {
                    double a = W->sums->half[p].tab->a[i][j];
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
                    gt[l] += FN(input_back)(P, W->back.sample[l], FN(segment_of)(W, l, ti[l]), ti[l], FN(at)(E, file, lay->output[3]) + l, 1, P->g_coef);
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
        for (int p = 0; p < W->sums->n_halves; p++) FN(add_scaled)(W, p, gk[i], NULL, h, W->sums->half[p].tab->b[i], g);
}
