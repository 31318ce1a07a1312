/* What a thread works with is carved out of one arena: a pass for its size, and one for the places. */

/* What the linear systems of a Rosenbrock method need. */
static void FN(carve_newton)(FN(work) * W, pn_arena *a) {
    const pn_problem *P = W->P;
    FN(newton) *N = &W->newton;
    size_t d = (size_t)W->d, stride;
    FN(carve_exec)(&N->J, a, P, P->jacobian, W->active);
    N->J.eval_end = N->J.lay->n_forward;
    N->file = FN(carve_files)(&N->J, a, 1, &stride);
    N->pattern = P->pattern;
    N->sparse = P->pattern && P->pattern->sparse;
    N->lu = pn_arena_take(a, ((N->sparse ? (size_t)P->pattern->size : d * d) * L + PN_PAD) * sizeof(T));
    N->swap = pn_arena_take(a, (d * L + PN_PAD) * sizeof(T));
    N->moved = pn_arena_take(a, d);
    N->y = pn_arena_take(a, N->J.prog->has_call ? (d * L + PN_PAD) * sizeof(T) : 8);
    if (P->gradient == PN_GRAD_NONE && !FN(has_sensitivities)(W)) return;
    FN(carve_exec)(&N->back, a, P, P->jacobian_reverse, W->active);
    N->back_file = FN(carve_files)(&N->back, a, 1, &stride);
}

/* Derivatives of the state by the parameters and y0, for forward sensitivities. */
static void FN(carve_columns)(FN(work) * W, pn_arena *a) {
    const pn_problem *P = W->P;
    W->columns = (P->reverse->n_grads > 0 ? P->reverse->n_grad[0] : 0) + W->d;
    W->sens_size = ((size_t)W->d * (size_t)W->columns * L + 31) / 32 * 32;
    W->sens = pn_arena_take(a, W->sens_size * sizeof(SENS));
    W->sens_new = pn_arena_take(a, W->sens_size * sizeof(SENS));
    W->sens_coef = pn_arena_take(a, L > 1 ? 0 : W->sens_size * sizeof(SENS) * (size_t)W->tab->dense_degree);
}

PN_RARE static void FN(carve)(FN(work) * W) {
    const pn_problem *P = W->P;
    pn_arena *a = &W->arena;
    size_t state = ((size_t)W->d * L + PN_PAD) * sizeof(T);
    int rev = P->lambda != 0, s = W->tab->s, wide = W->tab->dense_degree > W->most_stages ? W->tab->dense_degree : W->most_stages;
    FN(flow) *f = &W->flow;
    FN(back) *B = &W->back;
    int keep = P->quadrature || P->sensitivity; /* the register files of all stages of a step */
    FN(carve_exec)(&W->field, a, P, FN(has_sensitivities)(W) ? P->reverse : P->field, W->active);
    W->file = FN(carve_files)(&W->field, a, keep ? W->most_stages : 1, &W->file_stride);
    f->y = pn_arena_take(a, state);
    f->y_new = pn_arena_take(a, state);
    f->z = rev ? pn_arena_take(a, state) : NULL;
    f->z_new = pn_arena_take(a, state);
    f->coef = pn_arena_take(a, state * (size_t)wide);
    for (int i = 0; i < W->most_stages; i++) f->k[i] = pn_arena_take(a, state);
    W->spare = pn_arena_take(a, state);
    W->u = pn_arena_take(a, ((size_t)W->m * L + PN_PAD) * sizeof(T));
    W->stage_stride = keep ? W->file_stride : 0;
    B->weight = pn_arena_take(a, (size_t)(2 * W->most_stages) * L * sizeof(T) + 64);
    size_t chunk = (size_t)W->s->chunk;
    W->chunk_k = pn_arena_take(a, chunk * (size_t)W->d * sizeof(T));
    W->chunk_h = pn_arena_take(a, chunk * sizeof(double));
    W->turn = pn_arena_take(a, chunk * sizeof *W->turn);
    W->kind = pn_arena_take(a, chunk);
    W->refused = pn_arena_take(a, chunk);
    W->chunk_gk = pn_arena_take(a, chunk * (size_t)W->d * sizeof(T));
    W->from_start = pn_arena_take(a, chunk);
    FN(carve_watch)(W);
    if (FN(is_implicit)(W)) FN(carve_newton)(W, a);
    W->chunk_z = pn_arena_take(a, rev ? chunk * (size_t)W->d * sizeof(T) : 8);
    FN(carve_parts)(W);
    if (P->gradient == PN_GRAD_NONE && !FN(has_sensitivities)(W)) return;
    FN(carve_screen)(W);
    if (FN(has_sensitivities)(W)) {
        W->reverse = W->field;
        W->files = W->file;
        W->files_stride = W->file_stride;
    } else {
        FN(carve_exec)(&W->reverse, a, P, P->reverse, W->active);
        W->files = W->own_files = FN(carve_files)(&W->reverse, a, rev ? 2 * s : W->most_stages, &W->files_stride);
    }
    B->y = pn_arena_take(a, state);
    B->lambda = pn_arena_take(a, state);
    B->z = rev ? pn_arena_take(a, state) : NULL;
    B->mu = pn_arena_take(a, state);
    B->g_base = pn_arena_take(a, state);
    B->feed = pn_arena_take(a, state);
    B->left = pn_arena_take(a, P->stiff ? chunk * (size_t)W->d * sizeof(T) : 8);
    B->left_carry = pn_arena_take(a, P->stiff ? chunk * sizeof(double) : 8);
    B->away = pn_arena_take(a, P->stiff ? chunk : 8);
    for (int i = 0; i < (rev ? 4 : 1); i++) B->kept[i] = pn_arena_take(a, state);
    B->g_coef = pn_arena_take(a, state * (size_t)wide);
    for (int i = 0; i < W->most_stages; i++) {
        B->k[i] = pn_arena_take(a, state);
        B->gk[i] = pn_arena_take(a, state);
    }
    if (FN(has_sensitivities)(W)) FN(carve_columns)(W, a);
}
