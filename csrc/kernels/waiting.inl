/* The gradient of a large matrix leaves the cache, and a step has few samples to add to it. So a and b of several steps wait, until they
   are PN_WAITING samples or the gradient is wanted: of a tiles of MR rows, tile[file][row][lane], of b panels as above, each with room for
   all that may wait. Then the sums over all of them are added to the gradient at once. */
static inline int FN(waits)(const pn_decoded *x) { return x->op == PN_OP_ACC_OUTER && pn_is_large(x->m, x->n); }

static void FN(wait_for_more)(const FN(exec) * E, const pn_decoded *x, T *file) {
    const T *A = FN(at)(E, file, x->a), *B = FN(at)(E, file, x->b);
    T *tiles = E->waiting + (size_t)x->pack * PN_WAITING, *panels = tiles + (size_t)(x->m + PN_PAD - 1) / PN_PAD * PN_PAD * PN_WAITING;
    for (int32_t i = 0; i < x->m; i += MR) {
        const size_t rows = (size_t)(x->m - i < MR ? x->m - i : MR);
        FN(copy)(tiles + (size_t)i * PN_WAITING + (size_t)E->n_waiting * MR, A + (size_t)i * L, rows * L);
    }
    for (int32_t j = 0; j < x->n; j += FN(COLUMNS))
        FN(fill_panel)(panels + (size_t)j * PN_WAITING + (size_t)E->n_waiting * FN(COLUMNS), B + (size_t)j * L, 0, 1, x->n - j);
}

/* So many rows of tiles stay in the second-level cache while the panels go by. */
enum { FN(STRIP) = (256 << 10) / sizeof(T) / PN_WAITING };

static void FN(add_waiting)(const FN(exec) * E, const pn_decoded *x) {
    const T *tiles = E->waiting + (size_t)x->pack * PN_WAITING, *panels = tiles + (size_t)(x->m + PN_PAD - 1) / PN_PAD * PN_PAD * PN_WAITING;
    double *g = E->grad[x->k] + x->p;
    const size_t n = (size_t)x->n;
    const int n_files = (int)(E->n_waiting / L);
    for (int32_t begin = 0; begin < x->m; begin += FN(STRIP)) {
        const int32_t end = x->m - begin < FN(STRIP) ? x->m : begin + FN(STRIP);
        for (int32_t j = 0; j < x->n; j += FN(COLUMNS)) {
            const int32_t columns = x->n - j < FN(COLUMNS) ? x->n - j : FN(COLUMNS);
            for (int32_t i = begin; i < end;) {
                const T *tile = tiles + (size_t)(i / MR * MR) * PN_WAITING + (size_t)(i % MR) * L;
                double *to = g + (size_t)i * n + (size_t)j;
                for (int32_t k = 0; k < MR && i + k < end; k++)
                    for (int32_t c = 0; c < columns; c += 8) PN_SOON(to + (size_t)k * n + c);
                i += FN(product_rows)(end - i, tile, MR * L, n_files, panels + (size_t)j * PN_WAITING, columns, to, n);
            }
        }
    }
}
