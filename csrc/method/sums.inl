/* What a method (tableau.h) says about a step of size h, as sums over its stages k_j with the coefficients that are not 0:
       the state of stage i   y + h sum_{j<i} a_ij k_j          y_new   y + h sum_j b_j k_j   (row s of a)
       errors                 h sum_j e_j k_j                   dense output, coefficient of theta^g   h sum_j dense_jg k_j
   A partitioned method has a table for each half of the state. */

/* The table of component c. */
static inline const pn_tableau *FN(table)(const FN(work) * W, int32_t c) {
    return W->sums->half[W->sums->n_halves > 1 && c >= W->sums->half[1].from].tab;
}

/* out = y + h sum_j a_j k_j */
static void FN(combine)(T *out, const T *y, const double *h, const V(terms) * s, T *const *k, int32_t d) {
    enum { WIDTH = NV > 0 ? NV : 1 };
    vec step[WIDTH];
    T hl[L];
    for (int l = 0; l < L; l++) hl[l] = (T)h[l];
    for (size_t v = 0; v < WIDTH; v++) step[v] = FN(of_lanes)(hl, v * VE);
    for (size_t e = 0; e < (size_t)d * L; e += WIDTH * VE) {
        vec sum[WIDTH];
        for (int v = 0; v < WIDTH; v++) sum[v] = V(set1)((T)0);
        for (int q = 0; q < s->n; q++) {
            const T *kq = k[s->j[q]] + e;
            for (int v = 0; v < WIDTH; v++) sum[v] += V(set1)(s->a[q]) * V(load)(kq + v * VE);
        }
        for (int v = 0; v < WIDTH; v++) V(store)(out + e + v * VE, V(load)(y + e + v * VE) + step[v] * sum[v]);
    }
}

/* The state of stage i, or y_new where i is s. */
static void FN(combine_stage)(const FN(work) * W, T *out, const T *y, const double *h, T *const *k, int i) {
    if (W->sums->n_halves == 1) {
        FN(combine)(out, y, h, &W->sums->rows[i], k, W->d);
        return;
    }
    for (int32_t c = 0; c < W->d; c++) { /* halves need not begin with a whole vector */
        const double *a = FN(table)(W, c)->a[i];
        for (size_t l = 0, e = (size_t)c * L; l < L; l++, e++) {
            T s = 0;
            for (int j = 0; j < i; j++)
                if (a[j] != 0) s += (T)a[j] * k[j][e];
            out[e] = y[e] + (T)h[l] * s;
        }
    }
}

static inline void FN(stage_time)(double *to, const double *t, const double *h, const double *t_new, double c) {
    for (int l = 0; l < L; l++) to[l] = c == 1.0 ? t_new[l] : t[l] + c * h[l];
}

/* s = sum of the terms of component c; (L) */
static inline void FN(weigh)(T *s, const V(terms) * w, T *const *k, int32_t c) {
#if PN_WHOLE_VECTORS
    vec sum[NV] = {V(set1)((T)0)};
    for (int v = 1; v < NV; v++) sum[v] = sum[0];
    for (int q = 0; q < w->n; q++)
        for (int v = 0; v < NV; v++) sum[v] += V(set1)(w->a[q]) * V(load)(k[w->j[q]] + (size_t)c * L + (size_t)v * VE);
    for (int v = 0; v < NV; v++) V(store)(s + v * VE, sum[v]);
#else
    for (int l = 0; l < L; l++) s[l] = 0;
    for (int q = 0; q < w->n; q++)
        for (size_t l = 0; l < L; l++) s[l] += w->a[q] * k[w->j[q]][(size_t)c * L + l];
#endif
}

/* coef[j - 1] = h sum_i dense[i][j] k_i, so that y(t + theta h) = y + sum_j coef[j - 1] theta^j */
static void FN(dense_coef)(const FN(work) * W, T *const *k, const double *h, T *coef) {
#if !PN_BLOCK
    size_t d = (size_t)W->d;
    for (size_t e = 0; W->sums->n_halves == 1 && e < d; e += VE)
        for (int j = 1; j <= W->tab->dense_degree; j++) {
            const V(terms) *w = &W->sums->half[0].dense[j];
            T all[VE], *to = coef + (size_t)(j - 1) * d + e;
            vec sum = V(set1)((T)0);
            for (int q = 0; q < w->n; q++) sum += V(set1)(w->a[q]) * V(load)(k[w->j[q]] + e);
            sum = V(set1)((T)h[0]) * sum;
            if (e + VE <= d) {
                V(store)(to, sum);
                continue;
            }
            V(store)(all, sum); /* what lies behind belongs to the next coefficient */
            for (size_t i = 0; e + i < d; i++) to[i] = all[i];
        }
    if (W->sums->n_halves == 1) return;
#endif
    for (int j = 1; j <= W->tab->dense_degree; j++)
        for (int32_t c = 0; c < W->d; c++) {
            T hl[L], s[L], *to = coef + ((size_t)(j - 1) * (size_t)W->d + (size_t)c) * L;
            FN(weigh)(s, &W->sums->half[W->sums->n_halves > 1 && c >= W->sums->half[1].from].dense[j], k, c);
            for (int l = 0; l < L; l++) hl[l] = (T)h[l];
            for (int l = 0; l < L; l++) to[l] = hl[l] * s[l];
        }
}

/* From here on the method of the problem, or with 1 its stiff one. */
static void FN(use)(FN(work) * W, int way) {
    W->way = way;
    W->sums = &W->of[way];
    W->tab = W->sums->tab;
    W->stages = W->sums->stages;
}
