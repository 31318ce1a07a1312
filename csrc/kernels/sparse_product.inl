/* Products with sparse matrices of constants (see pn_sparse). */

/* out = S a, the entries of each row in their order */
static __attribute__((noinline)) void FN(sparse_product)(const FN(exec) * E, const pn_decoded *x, T *out, const T *a) {
    const pn_sparse *s = &E->lay->sparse[x->p];
    for (int32_t i = 0; i < x->m; i++) {
#if PN_WHOLE_VECTORS
        vec acc[NV];
        PN_UNROLL for (int v = 0; v < NV; v++) acc[v] = V(set1)((T)0);
        for (int32_t e = s->start[i]; e < s->start[i + 1]; e++) {
            const T *from = a + (size_t)s->column[e] * L;
            const vec value = V(set1)((T)s->value[e]);
            PN_UNROLL for (int v = 0; v < NV; v++) acc[v] += value * V(load)(from + v * VE);
        }
        PN_UNROLL for (int v = 0; v < NV; v++) V(store)(out + (size_t)i * L + (size_t)v * VE, acc[v]);
#else
        T sum[L] = {0};
        for (int32_t e = s->start[i]; e < s->start[i + 1]; e++)
            for (size_t l = 0; l < L; l++) sum[l] += (T)s->value[e] * a[(size_t)s->column[e] * L + l];
        for (size_t l = 0; l < L; l++) out[(size_t)i * L + l] = sum[l];
#endif
    }
    if (x->act != PN_N_OPS) V(unary)(x->act, out, out, (size_t)x->m * L);
}
