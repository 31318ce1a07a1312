/* pn_evaluate: a program by itself, for n samples. */

static pn_status FN(evaluate)(const pn_program *prog, int64_t n, const void *const *slots, const void *const *theta,
                              void *const *outputs, double *const *grads, pn_callback call, void *call_ctx) {
    pn_arena a = {0};
    FN(exec) E = {0};
    unsigned char active[L];
    T *file, weight[L];
    size_t stride;
    pn_status st = PN_OK;
    const pn_problem P = {.call = call, .call_ctx = call_ctx};
    for (int pass = 0; pass < 2; pass++) {
        FN(carve_exec)(&E, &a, &P, prog, active);
        file = FN(carve_files)(&E, &a, 1, &stride);
        if (pass == 0 && !pn_arena_allocate(&a)) return PN_MEMORY;
    }
    for (int i = 0; i < prog->n_spaces; i++) E.theta[i] = theta[i];
    for (int i = 0; i < prog->n_grads; i++) E.grad[i] = grads[i];
    FN(ready)(&E, file);
    for (int64_t i = 0; i < n && st == PN_OK; i += L) {
        int64_t some = n - i < L ? n - i : L;
        for (int l = 0; l < L; l++) {
            active[l] = l < some;
            weight[l] = l < some ? 1 : 0;
        }
        for (int s = 0; s < prog->n_slots; s++)
            if (prog->slot_size[s]) FN(gather_lanes)(file + (size_t)E.lay->slot[s] * L, slots[s], i, some, prog->slot_size[s]);
        if (FN(run)(&E, file, E.lay->n_prologue, E.lay->n_reverse)) st = PN_CALLBACK;
        if (st == PN_OK) FN(accumulate)(&E, file, 0, 1, weight);
        for (int o = 0; st == PN_OK && o < prog->n_outputs; o++) {
            int32_t size = prog->output_size[o];
            const T *from = FN(at)(&E, file, E.lay->output[o]);
            for (int64_t l = 0; l < some; l++)
                for (int32_t c = 0; c < size; c++) ((T *)outputs[o])[(size_t)(i + l) * (size_t)size + (size_t)c] = from[(size_t)c * L + (size_t)l];
        }
    }
    FN(flush)(&E);
    pn_aligned_free(a.base);
    return st;
}
