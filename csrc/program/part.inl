/* Programs that run on rows of the result: the loss l(t, y, target; theta) and the jump y+ = J(t, y-, x; theta).

   L rows run side by side, one a lane: of the loss any rows of the chunk, of the jump those that its lanes have just come
   to. A row whose data begin with NaN is left out. With s the cotangent of the value (1 of a loss, lambda+ of a jump) the
   vjp program gives s^T d/dy, s^T d/dt, s^T d/dx of the row and adds s^T d/dtheta to the gradient. For that, register files
   are kept until PN_PART_FILES of them are full: sums over many lanes cost little more than over few. A row never counts in
   a lane that does not hold it (weight 0), whatever the numbers there are. */

#define PN_PART_FILES 4 /* register files of a program at save times that are added to the gradient together */

/* Whether the row has data (see pn_part). */
static inline int FN(has_data)(const pn_part *A, int64_t row) {
    if (!A->program || A->k == 0) return A->program != NULL;
    T first = ((const T *)A->data)[(size_t)row * (size_t)A->k];
    return first == first;
}

/* The register file to fill next. */
static inline T *FN(part_file)(const FN(part) * A) { return A->files + (size_t)A->used * A->stride; }

/* Whose row of the result it is: samples have their rows one after the other. */
static int64_t FN(sample_of)(const pn_problem *P, int64_t row) {
    int64_t low = 0, high = P->n; /* row[low] <= row < row[high] */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (P->row[middle] <= row) low = middle;
        else high = middle;
    }
    return low;
}

/* Slots t, y and x of the lanes with a row of the data (not -1), y (rows, d) being its states; the others copy one of those. */
static void FN(fill_file)(const FN(work) * W, const FN(part) * A, T *file, const int64_t *row, const double *t, const T *y) {
    const int32_t *slot = A->E.lay->slot;
    size_t d = (size_t)W->d, k = (size_t)A->part->k, some = 0;
    const T *state[L], *data[L];
    while (row[some] < 0) some++;
    for (size_t l = 0; l < L; l++) {
        size_t from = row[l] < 0 ? some : l;
        file[(size_t)slot[0] * L + l] = (T)t[from];
        state[l] = y + (size_t)row[from] * d;
        data[l] = (const T *)A->part->data + (size_t)row[from] * k;
    }
    FN(fill_rows)(file + (size_t)slot[1] * L, state, W->d);
    FN(fill_rows)(file + (size_t)slot[2] * L, data, (int32_t)k);
    if (!A->E.worn) return;
    int64_t sample[L];
    for (size_t l = 0; l < L; l++) sample[l] = FN(sample_of)(W->P, row[row[l] < 0 ? some : l]);
    FN(wear)(&A->E, file, sample);
}

/* Output o of the program in a file, or NULL where it is identically zero. */
static inline const T *FN(part_output)(const FN(part) * A, T *file, int o) {
    return A->E.prog->output_size[o] ? FN(at)(&A->E, file, A->E.lay->output[o]) : NULL;
}

/* Add what the one register file in use holds to the gradients of the samples whose rows its lanes hold. */
static void FN(part_give)(const pn_problem *P, FN(part) * A) {
    for (size_t l = 0; l < L; l++) FN(clear_own)(&A->E, l);
    FN(accumulate_own)(&A->E, A->files, A->stride, 1);
    for (size_t l = 0; l < L; l++)
        if (A->weight[l] != 0) FN(give_own)(&A->E, l, P->g_theta + (size_t)A->E.wearer[l] * (size_t)P->n_theta + A->part->offset);
}

/* Add what the register files in use hold to the gradient. */
static void FN(part_flush)(const pn_problem *P, FN(part) * A) {
    if (A->used && A->E.worn) FN(part_give)(P, A);
    else if (A->used) FN(accumulate)(&A->E, A->files, A->stride, A->used, A->partly ? A->weight : NULL);
    A->used = A->partly = 0;
}

/* What one run of a vjp program says of row `row`, in lane l, besides s^T d/dy: into g_t and the gradient of the data. */
static void FN(part_extra)(const FN(work) * W, const FN(part) * A, T *file, int64_t row, size_t l) {
    const T *gt = FN(part_output)(A, file, 2), *gx = FN(part_output)(A, file, 3);
    int32_t k = A->part->k;
    double *to = A->part->g_data;
    if (W->P->g_t && gt) W->P->g_t[row] += (double)gt[l];
    for (int32_t c = 0; to && gx && c < k; c++) to[(size_t)row * (size_t)k + (size_t)c] = (double)gx[(size_t)c * L + l];
}

/* ---- memory ------------------------------------------------------------------------------------------------------------- */
static void FN(carve_part)(FN(work) * W, FN(part) * A, const pn_part *part, const pn_program *prog, int n_files) {
    if (!prog) return;
    pn_arena *a = &W->arena;
    FN(carve_exec)(&A->E, a, W->P, prog, W->active);
    A->part = part;
    if (A->E.worn) A->E.wardrobe += part->offset;
    else A->E.theta[0] = (const T *)W->P->theta + part->offset;
    A->most = A->E.worn ? 1 : PN_PART_FILES;
    A->files = FN(carve_files)(&A->E, a, n_files, &A->stride);
    A->weight = pn_arena_take(a, (size_t)n_files * L * sizeof(T) + 64);
}

/* The loss is the forward half of its vjp program wherever there is one: the same bits with a gradient and without. */
static void FN(carve_parts)(FN(work) * W) {
    const pn_problem *P = W->P;
    int grad = P->gradient != PN_GRAD_NONE;
    size_t chunk = (size_t)W->s->chunk * (size_t)W->d * sizeof(T);
    const pn_part *loss = &P->loss_part;
    if (P->loss == PN_LOSS_PROGRAM) {
        FN(carve_part)(W, &W->loss, loss, loss->reverse ? loss->reverse : loss->program, grad ? PN_PART_FILES : 1);
        W->g_rows = pn_arena_take(&W->arena, grad ? (size_t)W->s->chunk_rows * (size_t)W->d * sizeof(T) : 8);
    }
    if (!has_jumps(P)) return;
    FN(carve_part)(W, &W->jump, &P->jump, P->jump.program, 1);
    W->chunk_y = pn_arena_take(&W->arena, chunk);
    if (!grad) return;
    FN(carve_part)(W, &W->jump_back, &P->jump, P->jump.reverse, PN_PART_FILES);
    W->chunk_lambda = pn_arena_take(&W->arena, chunk);
}

/* Each part with its packed weights and prologue. */
static void FN(ready_parts)(FN(work) * W) {
    FN(part) *all[] = {&W->loss, &W->jump, &W->jump_back};
    for (int i = 0; i < 3; i++)
        if (all[i]->E.prog) FN(ready)(&all[i]->E, all[i]->files);
}
/* From here to end_gradient the field and the parts add to grad (p). */
static void FN(begin_gradient)(FN(work) * W, double *grad) {
    FN(part) *all[] = {&W->loss, &W->jump_back};
    if (!PN_BLOCK && W->P->theta_each) grad = W->P->g_theta; /* that of the one sample */
    else if (!W->s->task_grad) return;
    if (!grad) return;
    W->reverse.grad[0] = grad;
    W->newton.back.grad[0] = grad;
    for (int i = 0; i < 2; i++)
        if (all[i]->E.prog) all[i]->E.grad[0] = grad + all[i]->part->offset;
}
static void FN(end_gradient)(FN(work) * W) {
    FN(part) *all[] = {&W->loss, &W->jump_back};
    if (!W->s->task_grad) return;
    FN(flush)(&W->reverse);
    if (W->newton.back.prog) FN(flush)(&W->newton.back);
    for (int i = 0; i < 2; i++)
        if (all[i]->E.prog) FN(flush)(&all[i]->E);
}
