/* pn_evaluate: a program by itself, for n samples. */

enum { FN(FILES) = 4 };

/* What is added to gradients is added once for several register files, where they are small: by sizes that do not depend on
   how the program is laid out, as sums in another order have other bits. */
static int FN(files_at_once)(const pn_program *prog, int64_t n) {
    int64_t numbers = 0, parameters = 0;
    for (int i = 0; i < prog->n_slots; i++) numbers += prog->slot_size[i];
    for (int i = 0; i < prog->n_grads; i++) parameters += prog->n_grad[i];
    return parameters > 0 && parameters < 1 << 17 && numbers < 512 && n > L ? FN(FILES) : 1;
}

/* The samples from i on, at most one for each lane, into a file. */
static int64_t FN(fill_slots)(const FN(exec) * E, const pn_program *prog, T *file, const void *const *slots, int64_t i,
                              int64_t n) {
    const int64_t some = n - i < L ? n - i : L;
    for (int s = 0; s < prog->n_slots; s++)
        if (prog->slot_size[s]) FN(gather_lanes)(file + (size_t)E->lay->slot[s] * L, slots[s], i, some, prog->slot_size[s]);
    return some;
}

static void FN(write_outputs)(const FN(exec) * E, const pn_program *prog, T *file, void *const *outputs, int64_t i,
                              int64_t some) {
    for (int o = 0; o < prog->n_outputs; o++) {
        const int32_t size = prog->output_size[o];
        const T *from = FN(at)(E, file, E->lay->output[o]);
        for (int64_t l = 0; l < some; l++)
            for (int32_t c = 0; c < size; c++)
                ((T *)outputs[o])[(size_t)(i + l) * (size_t)size + (size_t)c] = from[(size_t)c * L + (size_t)l];
    }
}

static pn_status FN(evaluate)(const pn_program *prog, int64_t n, const void *const *slots, const void *const *theta,
                              void *const *outputs, double *const *grads, pn_callback call, void *call_ctx) {
    pn_arena a = {0};
    FN(exec) E = {0};
    unsigned char active[L];
    T *files, weight[FN(FILES) * L];
    size_t stride = 0;
    const int n_files = FN(files_at_once)(prog, n);
    pn_status st = PN_OK;
    const pn_problem P = {.call = call, .call_ctx = call_ctx};
    for (int pass = 0; pass < 2; pass++) {
        FN(carve_exec)(&E, &a, &P, prog, active);
        files = FN(carve_files)(&E, &a, n_files, &stride);
        if (pass == 0 && !pn_arena_allocate(&a)) return PN_MEMORY;
    }
    for (int i = 0; i < prog->n_spaces; i++) E.theta[i] = theta[i];
    for (int i = 0; i < prog->n_grads; i++) E.grad[i] = grads[i];
    FN(ready)(&E, files);
    for (int64_t i = 0; i < n && st == PN_OK; i += (int64_t)n_files * L) {
        const int used = n - i < (int64_t)n_files * L ? (int)((n - i + L - 1) / L) : n_files;
        for (int f = 0; f < used && st == PN_OK; f++) {
            T *file = files + (size_t)f * stride;
            const int64_t begin = i + (int64_t)f * L, some = FN(fill_slots)(&E, prog, file, slots, begin, n);
            for (int l = 0; l < L; l++) {
                active[l] = l < some;
                weight[f * L + l] = l < some ? 1 : 0;
            }
            if (FN(run)(&E, file, E.lay->n_prologue, E.lay->n_reverse))
                st = PN_CALLBACK;
            else
                FN(write_outputs)(&E, prog, file, outputs, begin, some);
        }
        if (st == PN_OK) FN(accumulate)(&E, files, stride, used, n - i < (int64_t)used * L ? weight : NULL);
    }
    FN(flush)(&E);
    pn_aligned_free(a.base);
    return st;
}
