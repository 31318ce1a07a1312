/* The gradient of a large matrix leaves the cache, and a step has few samples to add to it. So a and b of several steps wait, until they
   are WAITING samples or the gradient is wanted: of a tiles of MR rows, tile[file][row][lane], of b panels as in product.inl, each with room
   for all that may wait. Then the sums over all of them are added to the gradient at once. With one lane or two a step has a sample for each of its
   stages, and matrices of some rows wait already. */
enum { FN(WAITING) = PN_WHOLE_VECTORS ? PN_WAITING : PN_WAITING / 4 };

static inline int FN(waits)(const pn_decoded *x) { return x->op == PN_OP_ACC_OUTER && pn_waits(x->m, x->n, !PN_WHOLE_VECTORS); }

#if !PN_BLOCK
static void FN(fill_panel)(T *panel, const T *B, size_t stride, int n_files, int32_t columns) {
    (void)stride, (void)n_files;
    for (int32_t j = 0; j < FN(COLUMNS); j++) panel[j] = j < columns ? B[j] : 0;
}
#endif

/* The samples of a register file; one lane: that counts so often. */
static void FN(wait_for_more)(const FN(exec) * E, const pn_decoded *x, T *file, T weight) {
    const T *A = FN(at)(E, file, x->a), *B = FN(at)(E, file, x->b);
    T *tiles = E->waiting + (size_t)x->pack * FN(WAITING), *panels = tiles + (size_t)(x->m + PN_PAD - 1) / PN_PAD * PN_PAD * FN(WAITING);
    for (int32_t i = 0; i < x->m; i += MR) {
        const size_t rows = (size_t)(x->m - i < MR ? x->m - i : MR);
        T *tile = tiles + (size_t)i * FN(WAITING) + (size_t)E->n_waiting * MR;
        if (PN_BLOCK) FN(copy)(tile, A + (size_t)i * L, rows * L);
        for (size_t k = 0; !PN_BLOCK && k < rows; k++) tile[k] = weight * A[(size_t)i + k];
    }
    for (int32_t j = 0; j < x->n; j += FN(COLUMNS))
        FN(fill_panel)(panels + (size_t)j * FN(WAITING) + (size_t)E->n_waiting * FN(COLUMNS), B + (size_t)j * L, 0, 1, x->n - j);
}

/* So many rows of tiles stay in the second-level cache while the panels go by. */
enum { FN(STRIP) = (256 << 10) / sizeof(T) / FN(WAITING) };

static void FN(add_waiting)(const FN(exec) * E, const pn_decoded *x) {
    const T *tiles = E->waiting + (size_t)x->pack * FN(WAITING), *panels = tiles + (size_t)(x->m + PN_PAD - 1) / PN_PAD * PN_PAD * FN(WAITING);
    double *g = E->grad[x->k] + x->p;
    const size_t n = (size_t)x->n;
    const int n_files = (int)(E->n_waiting / L);
    for (int32_t begin = 0; begin < x->m; begin += FN(STRIP)) {
        const int32_t end = x->m - begin < FN(STRIP) ? x->m : begin + FN(STRIP);
        for (int32_t j = 0; j < x->n; j += FN(COLUMNS)) {
            const int32_t columns = x->n - j < FN(COLUMNS) ? x->n - j : FN(COLUMNS);
            for (int32_t i = begin; i < end;) {
                const T *tile = tiles + (size_t)(i / MR * MR) * FN(WAITING) + (size_t)(i % MR) * L;
                double *to = g + (size_t)i * n + (size_t)j;
                for (int32_t k = 0; k < MR && i + k < end; k++)
                    for (int32_t c = 0; c < columns; c += 8) PN_SOON(to + (size_t)k * n + c);
                i += FN(product_rows)(end - i, tile, MR * L, n_files, panels + (size_t)j * FN(WAITING), columns, to, n);
            }
        }
    }
}

#if !PN_BLOCK
/* Add the sums to the gradient, and begin anew. */
static void FN(add_sums)(FN(exec) * E) {
    for (const pn_decoded *x = E->lay->code + E->lay->n_reverse, *stop = E->lay->code + E->lay->n_code; x < stop; x++) {
        if (FN(waits)(x)) continue;
        size_t m = (size_t)x->m, n = (size_t)x->n, by_b = n > m || (x->op == PN_OP_ACC_OUTER && n == m),
               length = FN(padded)(by_b ? x->n : x->m);
        const double *sum = E->sums + x->pack;
        double *g = E->grad[x->k] + x->p;
        for (size_t i = 0; by_b && i < m; i++)
            for (size_t j = 0; j < n; j++) g[i * n + j] += sum[i * length + j];
        for (size_t from = 0; !by_b && from < n; from += PN_PAD) { /* some columns at a time, each in its order in memory */
            const size_t to = n - from < PN_PAD ? n : from + PN_PAD;
            for (size_t i = 0; i < m; i++)
                for (size_t j = from; j < to; j++) g[i * n + j] += sum[j * length + i];
        }
    }
    memset(E->sums, 0, (size_t)E->lay->sums_size * sizeof(double));
}
#endif

/* Add what waits to the gradient. */
static void FN(give_waiting)(FN(exec) * E) {
    for (const pn_decoded *x = E->lay->code + E->lay->n_reverse, *stop = E->lay->code + E->lay->n_code; E->n_waiting && x < stop; x++)
        if (FN(waits)(x)) FN(add_waiting)(E, x);
    E->n_waiting = 0;
}

/* Add what is not in the gradient yet. */
static void FN(flush)(FN(exec) * E) {
    if (PN_BLOCK || PN_LARGE_ALONE) FN(give_waiting)(E);
#if !PN_BLOCK
    FN(add_sums)(E);
#endif
}

/* The register files of a step join what waits; weight (n_files) or NULL: one lane, how often each counts. */
static void FN(wait)(FN(exec) * E, T *files, size_t stride, int n_files, const T *weight) {
    for (int f = 0; (PN_BLOCK || PN_LARGE_ALONE) && f < n_files && E->lay->waiting_rows; f++) {
        if (weight && weight[f] == 0) continue;
        for (const pn_decoded *x = E->lay->code + E->lay->n_reverse, *stop = E->lay->code + E->lay->n_code; x < stop; x++)
            if (FN(waits)(x)) FN(wait_for_more)(E, x, files + (size_t)f * stride, weight ? weight[f] : 1);
        E->n_waiting += L;
        if (E->n_waiting == FN(WAITING)) FN(give_waiting)(E);
    }
}
