/* Reversible scheme: rebuild (y, z) at the start of the step from its end, then reverse both increments. */
static pn_status FN(reversible_back)(FN(work) * W) {
    FN(back) *B = &W->back;
    FN(exec) *E = &W->reverse;
    const pn_tableau *tab = W->tab;
    size_t size = (size_t)W->d * L;
    T *second = W->files + (size_t)tab->s * W->files_stride, lambda = (T)W->P->lambda, *y_new = W->flow.y_new, *g_z = W->flow.z_new;
    double back[L], gt2[L] = {0}, gh2[L] = {0}, gt[L] = {0}, gh[L] = {0};
    int timed = W->P->g_t != NULL;
    if (timed && FN(held_ends)(W, -1)) return PN_CALLBACK;
    FN(collect_saves)(W);
    if (timed && FN(held_ends)(W, 1)) return PN_CALLBACK;
    memcpy(W->active, B->live, L);
    for (int l = 0; l < L; l++) back[l] = -B->h[l];
    memcpy(y_new, B->y, size * sizeof(T));
    /* z = z_new + Psi_{-h}(t_new, y_new); z_new = z - Psi: cotangent -mu of Psi flows to y_new */
    if (FN(stages)(W, E, second, W->files_stride, y_new, B->t_new, back, B->t, B->k, 0, tab->s)) return PN_CALLBACK;
    FN(combine)(B->z, B->z, back, &W->sums->rows[tab->s], B->k, W->d);
    for (size_t e = 0; e < size; e++) B->g_base[e] = -B->mu[e];
    if (timed)
        for (int i = 0; i < tab->s; i++)
            for (int32_t c = 0; c < W->d; c++)
                for (size_t l = 0; l < L; l++) gh2[l] += tab->b[i] * (double)B->k[i][(size_t)c * L + l] * (double)B->g_base[(size_t)c * L + l];
    FN(seed_stages)(W, B->gk, back, B->g_base);
    FN(step) S2 = {second, B->t_new, back, B->t, B->gk, B->lambda, y_new, timed ? gt2 : NULL, timed ? gh2 : NULL, NULL};
    if (FN(reverse_stages)(W, &S2, 0, tab->s)) return PN_CALLBACK;
    FN(add_gradient)(E, second, W->files_stride, tab->s);
    /* y = (y_new - (1 - lambda) z - Psi_h(t, z)) / lambda */
    if (FN(stages)(W, E, W->files, W->files_stride, B->z, B->t, B->h, B->t_new, B->k, 0, tab->s)) return PN_CALLBACK;
    FN(combine)(B->y, B->z, B->h, &W->sums->rows[tab->s], B->k, W->d);
    for (size_t e = 0; e < size; e++) {
        B->y[e] = B->z[e] + (y_new[e] - B->y[e]) / lambda;
        g_z[e] = B->mu[e] + (1 - lambda) * B->lambda[e];
    }
    if (timed)
        for (int i = 0; i < tab->s; i++)
            for (int32_t c = 0; c < W->d; c++)
                for (size_t l = 0; l < L; l++) gh[l] += tab->b[i] * (double)B->k[i][(size_t)c * L + l] * (double)B->lambda[(size_t)c * L + l];
    FN(seed_stages)(W, B->gk, B->h, B->lambda);
    FN(step) S1 = {W->files, B->t, B->h, B->t_new, B->gk, g_z, B->z, timed ? gt : NULL, timed ? gh : NULL, NULL};
    if (FN(reverse_stages)(W, &S1, 0, tab->s)) return PN_CALLBACK;
    FN(add_gradient)(E, W->files, W->files_stride, tab->s);
    for (size_t e = 0; e < size; e++) B->lambda[e] *= lambda;
    memcpy(B->mu, g_z, size * sizeof(T));
    for (int l = 0; timed && l < L; l++) { /* the second increment starts at t_new = t + h with step -h */
        gt[l] += gt2[l];
        gh[l] += gt2[l] - gh2[l];
    }
    if (timed && FN(time_ends)(W, gt, gh)) return PN_CALLBACK;
    return PN_OK;
}
