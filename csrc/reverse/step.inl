/* The reverse half: the exact derivative of the steps really taken (discrete adjoint), steps and step sizes frozen.

   lambda = dL/dy_new arrives from the right. A step is
       Y_i = y + h sum_j a_ij k_j,  k_i = f(t + c_i h, Y_i),  y_new = y + h sum b_i k_i,
       y(t + theta h) = y + h sum_i k_i sum_j dense_ij theta^j at save times inside it,
   so, with g the cotangents of the saved values,
       gk_i = h b_i lambda + h sum_j dense_ij (sum_saves g theta^j),  gy = lambda + sum_saves g,
   and from the last stage to the first
       v = gk_i^T df/dy(Y_i),  gy += v,  gk_j += h a_ij v,  gtheta += gk_i^T df/dtheta(Y_i).
   (Hairer, Lubich, Wanner, Geometric Numerical Integration, VI.4; Sanz-Serna 2016, SIAM Review 58, sec. 3.) */

/* The same of a Rosenbrock method: files hold f of the stages, W is made again. */
static int FN(load_implicit)(FN(work) * W, FN(block) * b, int have, int n, T *files) {
    FN(back) *B = &W->back;
    FN(exec) *E = &W->reverse;
    if (FN(linearise)(W, B->y, B->t, B->h)) return 1;
    for (int i = 0; i < n; i++) {
        if (b->files < 0 || i >= have) {
            if (FN(stages)(W, E, files, W->files_stride, B->y, B->t, B->h, B->t_new, B->k, i, i + 1)) return 1;
            continue;
        }
        const T *f = FN(at)(E, files + (size_t)i * W->files_stride, E->lay->output[0]);
        if (E->prog->output_size[0]) FN(copy)(B->k[i], f, (size_t)W->d * L);
        else memset(B->k[i], 0, (size_t)W->d * L * sizeof(T));
        FN(solve_stage)(W, i, B->h, B->k);
    }
    return 0;
}

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
    if (FN(is_implicit)(W)) return FN(load_implicit)(W, b, have, n, *files);
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
    FN(back) *B = &W->back;
    if (W->P->g_t && FN(held_ends)(W, -1)) return PN_CALLBACK;
    pn_status st = has_jumps(W->P) ? FN(unjump_saves)(W) : PN_OK;
    if (st != PN_OK) return st;
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    double gt[L] = {0}, gh[L] = {0};
    T *files;
    int inside = FN(collect_saves)(W), n = inside ? W->stages : tab->s, timed = W->P->g_t != NULL, fed = 0, stage0 = b->here;
    if (inside && !tab->dense_uses_new) n = tab->s;
    if (timed && FN(held_ends)(W, 1)) return PN_CALLBACK;
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
    FN(step) S = {files, B->t, B->h, B->t_new, B->gk, B->g_base, B->y, timed ? gt : NULL, timed ? gh : NULL, B->k};
    if (FN(is_implicit)(W)) FN(clear_seed)(W);
    if (FN(reverse_stages)(W, &S, 1, n)) return PN_CALLBACK;
    FN(pass_on)(W, b->here);
    if (stage0 && FN(reverse_stages)(W, &S, 0, 1)) return PN_CALLBACK;
    if (FN(is_implicit)(W) && FN(linearised_back)(W, &S)) return PN_CALLBACK;
    int first = stage0 ? 0 : 1; /* idle lanes have cotangent 0 */
    FN(add_gradient)(&W->reverse, files + (size_t)first * W->files_stride, W->files_stride, n - first);
    W->reverse.later = 0;
    if (FN(is_implicit)(W)) FN(add_gradient)(&W->newton.back, W->newton.back_file, 0, 1);
    FN(copy)(B->lambda, B->g_base, size);
    if (timed && FN(time_ends)(W, gt, gh)) return PN_CALLBACK;
    return PN_OK;
}
