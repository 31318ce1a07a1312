/* Evaluating the field: stages of a step, in all lanes at once. */

/* k = f(t, state in slot 1 of the file). Nonzero: stopped by the callback, or interrupted. */
static int FN(eval)(FN(work) * W, const FN(exec) * E, T *file, const double *t, T *restrict k) {
    T *time = file + (size_t)E->lay->slot[0] * L;
    if (W->costly && FN(look_up)(W) != PN_OK) return 1;
    for (size_t l = 0; l < (L > VE ? L : VE); l++) time[l] = (T)t[l % L]; /* whole vectors: operations read these */
    if (W->P->degree >= 0) FN(set_inputs)(W, t, file + (size_t)E->lay->slot[2] * L);
    FN(wear)(E, file, W->flow.sample);
    if (FN(run)(E, file, E->lay->n_prologue, E->eval_end)) return 1;
    const T *out = FN(at)(E, file, E->lay->output[0]);
    if (!E->prog->output_size[0]) memset(k, 0, (size_t)W->d * L * sizeof(T));
    else if (!PN_BLOCK && FN(is_implicit)(W) && W->d <= 4)
        for (int32_t c = 0; c < W->d; c++) k[c] = out[c]; /* see gather_stage */
    else FN(copy)(k, out, (size_t)W->d * L);
    return 0;
}

static inline T *FN(state_slot)(const FN(exec) * E, T *file) { return file + (size_t)E->lay->slot[1] * L; }

#include "forward/implicit.inl"

/* Stages from .. to - 1 of the lanes' step from `base`, in register files `stride` apart (0: one file for all). */
static int FN(stages)(FN(work) * W, const FN(exec) * E, T *file, size_t stride, const T *base, const double *t, const double *h,
                      const double *t_new, T *const *k, int from, int to) {
    for (int i = from; i < to; i++) {
        double ti[L];
        T *fi = file + (size_t)i * stride;
        FN(stage_time)(ti, t, h, t_new, W->tab->c[i]);
        FN(combine_stage)(W, FN(state_slot)(E, fi), base, h, k, i);
        if (FN(eval)(W, E, fi, ti, k[i])) return 1;
        if (FN(is_implicit)(W) && i < W->tab->s) FN(solve_stage)(W, i, h, k);
    }
    return 0;
}

static void FN(count_evals)(FN(flow) * f, const unsigned char *which, int n) {
    for (int l = 0; l < L; l++) f->evals[l] += which[l] ? n : 0;
}

static int FN(any)(const unsigned char *x) {
    for (int l = 0; l < L; l++)
        if (x[l]) return 1;
    return 0;
}
