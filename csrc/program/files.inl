/* The memory of a program that is executed: register files, packed weights, sums; and filling rows of it. */

/* Parameters of each sample: a block has the gradient of a lane's sample in `own`, one lane in `sums`. */
static void FN(carve_own)(FN(exec) * E, pn_arena *a, const pn_problem *P, const pn_program *prog) {
    size_t n = prog->n_spaces > 0 ? (size_t)prog->n_theta[0] : 0, q = L > 1 && prog->n_grads > 0 ? (size_t)prog->n_grad[0] : 0;
    E->worn = pn_arena_take(a, (n * L + PN_PAD) * sizeof(T));
    E->theta[0] = E->worn; /* one lane packs its matrices from there */
    E->wearer = pn_arena_take(a, L * sizeof *E->wearer);
    E->wardrobe = P->theta;
    E->wardrobe_stride = (size_t)P->n_theta;
    E->own_step = pn_arena_take(a, (q * L + PN_PAD) * sizeof(T));
    E->own = sizeof(T) == sizeof(double) ? (void *)E->own_step : pn_arena_take(a, (q * L + PN_PAD) * sizeof(double));
}

static void FN(carve_exec)(FN(exec) * E, pn_arena *a, const pn_problem *P, const pn_program *prog, unsigned char *active) {
    E->prog = prog;
    E->lay = &prog->layout[PN_LAYOUT];
    E->eval_end = P->quadrature ? E->lay->n_reverse : E->lay->n_forward;
    E->shared = pn_arena_take(a, ((size_t)E->lay->shared_rows * L + PN_PAD) * sizeof(T));
    size_t packed = L > 1 && P->theta_each ? 0 : (size_t)(E->lay->pack_size + (PN_PAIR ? E->lay->wide_size : 0));
    E->pack = PN_WHOLE_VECTORS ? pn_arena_take_plain(a, (packed + PN_PAD) * sizeof(T)) : pn_arena_take(a, (packed + PN_PAD) * sizeof(T));
    const size_t fixed = ((size_t)E->lay->fixed_size + PN_PAD) * sizeof(T);
    E->fixed = PN_WHOLE_VECTORS ? pn_arena_take_plain(a, fixed) : pn_arena_take(a, fixed);
    E->constants = pn_arena_take_plain(a, sizeof(T) == sizeof(double) || E->lay->fixed_size == 0 ? 0 : (size_t)prog->n_consts * sizeof(T));
    E->panel = pn_arena_take(a, L == 1 || E->lay->n_code == E->lay->n_reverse ? 0 : (size_t)(2 * PN_MAX_STAGES * L * VE) * sizeof(T));
    E->waiting = pn_arena_take_plain(a, PN_BLOCK && P->theta_each ? 0 : (size_t)E->lay->waiting_rows * FN(WAITING) * sizeof(T));
    E->n_waiting = 0;
    E->sums = pn_arena_take(a, L > 1 ? 0 : (size_t)E->lay->sums_size * sizeof(double));
    E->theta[0] = P->theta;
    if (P->theta_each) FN(carve_own)(E, a, P, prog);
    E->call = P->call;
    E->call_ctx = P->call_ctx;
    E->active = active;
    int64_t rows = prog->call_rows;
    for (int i = 0; i < prog->n_slots; i++) rows += prog->slot_size[i];
    E->call_buffer = pn_arena_take(a, prog->has_call ? (size_t)rows * L * sizeof(double) : 8);
}

static T *FN(carve_files)(const FN(exec) * E, pn_arena *a, int n, size_t *stride) {
    *stride = ((size_t)E->lay->file_rows * L + 2 * PN_PAD - 1) / PN_PAD * PN_PAD;
    return pn_arena_take(a, (size_t)n * *stride * sizeof(T));
}

static void FN(ready)(FN(exec) * E, T *file) { /* weights packed, prologue run: once for each solve, or by `wear` */
    FN(pack_constants)(E);
    if (E->worn) {
        for (int l = 0; l < L; l++) E->wearer[l] = -1;
        return;
    }
    FN(pack)(E);
    FN(run)(E, file, 0, E->lay->n_prologue);
}

/* to[c][lane] = row[lane][c], c < n */
static void FN(fill_rows)(T *to, const T *const *row, int32_t n) {
#if PN_WHOLE_VECTORS
    for (int32_t c = 0, from; n >= VE && c < n; c += VE) {
        from = c + VE <= n ? c : n - VE; /* the last ones overlap those before */
        for (size_t half = 0; half < L; half += VE) {
            vec v[VE];
            PN_UNROLL for (size_t k = 0; k < VE; k++) v[k] = V(load)(row[half + k] + from);
            V(transpose)(v);
            PN_UNROLL for (size_t k = 0; k < VE; k++) V(store)(to + ((size_t)from + k) * L + half, v[k]);
        }
    }
    if (n >= VE) return;
#endif
    for (size_t l = 0; l < L; l++)
        for (int32_t c = 0; c < n; c++) to[(size_t)c * L + l] = row[l][c];
}

static void FN(gather_lanes)(T *to, const T *from, int64_t first, int64_t n, int32_t size) {
    const T *row[L];
    for (int64_t l = 0; l < L; l++) row[l] = from + (size_t)(first + (l < n ? l : 0)) * (size_t)size;
    FN(fill_rows)(to, row, size);
}
