/* Quadrature of the continuous adjoint: sum_i b_i h (accumulate at stage i), for the lanes just accepted. */
static int FN(quadrature)(FN(work) * W) {
    const pn_problem *P = W->P;
    FN(flow) *f = &W->flow;
    FN(exec) *E = &W->field;
    int s = W->tab->s;
    for (int i = 0; i < s; i++)
        for (int l = 0; l < L; l++) W->back.weight[i * L + l] = f->accepted[l] ? (T)(W->tab->b[i] * f->h[l]) : (T)0;
    FN(accumulate)(E, W->file, W->file_stride, s, W->back.weight);
    if (!P->quadrature_coef || E->prog->n_outputs < 4 || !E->prog->output_size[3]) return 0;
    for (int i = 0; i < s; i++) {
        double ti[L];
        const T *gu = FN(at)(E, W->file + (size_t)i * W->file_stride, E->lay->output[3]);
        FN(stage_time)(ti, f->t, f->h, f->t_new, W->tab->c[i]);
        for (int l = 0; l < L; l++)
            if (f->accepted[l])
                FN(input_back)(P, f->sample[l], FN(segment_of)(W, l, ti[l]), ti[l], gu + l, (double)W->back.weight[i * L + l], P->quadrature_coef);
    }
    return 0;
}
