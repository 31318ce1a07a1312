/* Parameters of each sample. A lane wears those of its sample: `worn` (n_theta, L) holds them, and the prologue, computed from
   them, has numbers of its own in every lane anyway. So that an evaluation costs what it costs with one theta for all, but for
   matrices, of which each lane reads its own. What a lane wears changes only when it is given another sample. */

/* Lane l wears the parameters of sample[l]; one without a sample (-1) keeps what it has, or copies a neighbour. */
static void FN(change)(const FN(exec) * E, T *file, const int64_t *sample) {
    size_t n = E->prog->n_spaces > 0 ? (size_t)E->prog->n_theta[0] : 0;
    const T *row[L];
    int changed = 0, some = 0;
    while (some < L - 1 && sample[some] < 0) some++;
    for (int l = 0; l < L; l++) {
        int64_t to = sample[l] >= 0 ? sample[l] : E->wearer[l] >= 0 ? E->wearer[l] : sample[some] >= 0 ? sample[some] : 0;
        changed += to != E->wearer[l];
        row[l] = to == E->wearer[l] || !n ? NULL : E->wardrobe + (size_t)to * E->wardrobe_stride;
        E->wearer[l] = to;
    }
    if (changed == L) FN(fill_rows)(E->worn, row, (int32_t)n);
    else
        for (size_t l = 0; l < L; l++)
            for (size_t j = 0; row[l] && j < n; j++) E->worn[j * L + l] = row[l][j];
    if (!PN_BLOCK) FN(pack)(E);
    FN(run)(E, file, 0, E->lay->n_prologue);
}

/* Before an evaluation: nothing to do where theta is that of all samples, or where no lane has another sample. */
static inline void FN(wear)(const FN(exec) * E, T *file, const int64_t *sample) {
    int64_t differ = 0;
    if (!E->worn) return;
    for (int l = 0; l < L; l++) differ |= sample[l] < 0 && E->wearer[l] >= 0 ? 0 : E->wearer[l] ^ sample[l];
    if (differ) FN(change)(E, file, sample);
}

/* The accumulating segment where each lane's sample has a gradient of its own. */
static void FN(accumulate_own)(FN(exec) * E, T *files, size_t stride, int n_files) {
#if PN_BLOCK
    size_t n = E->prog->n_grads > 0 ? (size_t)E->prog->n_grad[0] * L : 0;
    int widen = sizeof(T) != sizeof(double);
    if (widen) memset(E->own_step, 0, n * sizeof(T));
    FN(accumulate_lanes)(E, files, stride, n_files, E->own_step);
    for (size_t i = 0; widen && i < n; i++) E->own[i] += (double)E->own_step[i];
#else
    FN(accumulate)(E, files, stride, n_files, NULL);
#endif
}

/* Nothing has been added up for lane l yet. */
static void FN(clear_own)(FN(exec) * E, size_t l) {
#if PN_BLOCK
    for (size_t j = 0; E->prog->n_grads > 0 && j < (size_t)E->prog->n_grad[0]; j++) E->own[j * L + l] = 0;
#else
    (void)l;
    E->n_waiting = 0;
    memset(E->sums, 0, (size_t)E->lay->sums_size * sizeof(double));
#endif
}

/* Add what was added up for lane l to the gradient of its sample, g (n_grad). */
static void FN(give_own)(FN(exec) * E, size_t l, double *g) {
#if PN_BLOCK
    for (size_t j = 0; E->prog->n_grads > 0 && j < (size_t)E->prog->n_grad[0]; j++) g[j] += E->own[j * L + l];
#else
    (void)l;
    E->grad[0] = g;
    FN(flush)(E);
#endif
}

/* What the register files of a step, `stride` elements apart, add to the gradient. */
static void FN(add_gradient)(FN(exec) * E, T *files, size_t stride, int n_files) {
    if (E->worn) FN(accumulate_own)(E, files, stride, n_files);
    else FN(accumulate)(E, files, stride, n_files, NULL);
}
