/* How a sample ends. */

/* The first row of the Jacobian of lane l that is not finite, or -1. */
static int32_t FN(bad_row)(FN(work) * W, int l) {
    FN(newton) *N = &W->newton;
    int32_t d = W->d, size = FN(is_implicit)(W) ? N->J.prog->output_size[0] : 0, n = size ? (int32_t)FN(entries)(W) : 0;
    const T *J = size ? FN(at)(&N->J, N->file, N->J.lay->output[0]) : NULL;
    for (int32_t e = 0; e < size; e++)
        if (J[(size_t)e * L + (size_t)l] * 0 != 0) return e >= n ? e - n : N->pattern ? N->pattern->row[e] : e / d;
    return -1;
}

static void FN(fail)(FN(work) * W, int l, pn_status status) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    T *y = P->y;
    P->status[i] = (int32_t)status;
    P->stop_t[i] = f->t[l];
    if (status == PN_NON_FINITE)
        for (int32_t c = W->d; c-- > 0;) {
            double v = (double)f->y_new[(size_t)c * L + (size_t)l];
            if (!(v - v == 0)) P->stop_component[i] = c;
        }
    int32_t row = status == PN_NON_FINITE ? FN(bad_row)(W, l) : -1;
    if (row >= 0) P->stop_component[i] = row;
    for (int64_t j = f->save[l]; j < n_times(P, i); j++)
        for (int32_t c = 0; c < W->d; c++) y[(size_t)(P->row[i] + j) * (size_t)W->d + (size_t)c] = (T)NAN;
    f->ends[l] = f->save_end[l] = f->save[l];
    f->live[l] = 0;
    W->marching = 0;
}

static void FN(begin_steps)(const FN(work) * W, pn_steps *to) {
    if (W->screening) free(to->record); /* of the first run */
    to->record = NULL;
    to->n = 0;
}

/* The steps that were listed for lane l become those of its sample, after those that it has. */
static pn_status FN(give_steps)(FN(work) * W, int l) {
    pn_list *s = &W->steps[l];
    pn_steps *to = &W->P->steps[W->flow.sample[l]];
    int64_t stride = 2 + (W->P->dense ? (int64_t)(W->tab->dense_degree + 1) * W->d : 0), had = to->n * stride;
    if (s->n == 0) return PN_OK;
    double *grown = realloc(to->record, (size_t)(had + s->n) * sizeof(double));
    if (!grown) return PN_MEMORY;
    memcpy(grown + had, s->x, (size_t)s->n * sizeof(double));
    to->record = grown;
    to->n += s->n / stride;
    s->n = 0;
    return PN_OK;
}

/* The sample leaves its lane: counts, steps. */
static pn_status FN(finish)(FN(work) * W, int l) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    int64_t i = f->sample[l];
    f->live[l] = 0;
    if (W->replaying) return PN_OK;
    for (int32_t c = 0; f->z && c < W->d; c++) W->chunk_z[(size_t)(i - W->first) * (size_t)W->d + (size_t)c] = f->z[(size_t)c * L + (size_t)l];
    P->nfe[i] = f->evals[l];
    P->accepted[i] = f->index[l];
    P->rejected[i] = f->rejects[l];
    if (P->stiff_steps) P->stiff_steps[i] = f->stiff_steps[l];
    if (P->jacobians) P->jacobians[i] = f->jacobians[l];
    if (P->factorisations) P->factorisations[i] = f->factors[l];
    return P->steps ? FN(give_steps)(W, l) : PN_OK;
}
