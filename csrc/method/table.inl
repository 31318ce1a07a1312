/* The sums over stages that a method consists of, see sums.inl. */

typedef struct V(terms) { /* of a sum over stages */
    int n;
    unsigned char j[PN_MAX_STAGES];
    T a[PN_MAX_STAGES];
} V(terms);

typedef struct V(half) { /* components of the state that share a table */
    const pn_tableau *tab;
    int32_t from, to;
    V(terms) dense[PN_MAX_DEGREE + 1]; /* of coefficient 1, 2, ... of the dense output */
} V(half);

typedef struct V(stage_sums) { /* what a method says, see method/sums.inl */
    const pn_tableau *tab;
    int32_t stages;
    int n_halves;
    V(half) half[2];              /* of a partitioned method the halves of the state, else all of it */
    V(terms) rows[PN_MAX_STAGES]; /* of the table: stage states, the last the new state */
    V(terms) coupling[PN_MAX_STAGES];
    V(terms) error, error2;       /* and its error estimates */
    V(terms) slope, move;         /* f at the end of the step less f in the last stage, over h; what lies between their states, over h */
} V(stage_sums);

/* The terms a_j k_j, j < n, of a sum; of a_j those that stand `stride` apart. */
static void V(terms_of)(V(terms) * s, const double *a, int stride, int n) {
    s->n = 0;
    for (int j = 0; j < n; j++)
        if (a[j * stride] != 0) s->a[s->n] = (T)a[j * stride], s->j[s->n++] = (unsigned char)j;
}

/* The sums over stages that a method consists of. */
static void V(read_table)(V(stage_sums) * to, const pn_tableau *tab, int32_t d, int stiff) {
    int s = tab->s, n_error = s + (tab->error_uses_new ? 1 : 0);
    to->tab = tab;
    to->stages = pn_tableau_stages(tab);
    to->n_halves = tab->second ? 2 : 1;
    to->half[0].tab = tab;
    to->half[0].from = 0;
    to->half[0].to = d / to->n_halves;
    to->half[1].tab = tab->second;
    to->half[1].from = d / 2;
    to->half[1].to = d;
    for (int i = 0; i <= to->stages && i < PN_MAX_STAGES; i++) V(terms_of)(&to->rows[i], tab->a[i], 1, i);
    for (int i = 0; tab->gamma > 0 && i < s; i++) V(terms_of)(&to->coupling[i], tab->coupling[i], 1, i);
    V(terms_of)(&to->error, tab->e, 1, n_error);
    V(terms_of)(&to->error2, tab->e2, 1, n_error);
    for (int p = 0; p < to->n_halves; p++)
        for (int j = 1; j <= tab->dense_degree; j++)
            V(terms_of)(&to->half[p].dense[j], &to->half[p].tab->dense[0][j], PN_MAX_DEGREE + 1, to->stages);
    if (!stiff) return;
    double last[PN_MAX_STAGES], between[PN_MAX_STAGES];
    for (int j = 0; j <= s; j++) last[j] = (j == s) - (j == s - 1), between[j] = tab->b[j] - tab->a[s - 1][j];
    V(terms_of)(&to->slope, last, 1, s + 1);
    V(terms_of)(&to->move, between, 1, s);
}
