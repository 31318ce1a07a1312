/* A field with a sparse Jacobian, for tests:

       y' = A y + mu y^2 (by components),   J = A + 2 diag(mu y),   theta = mu,

   A constant, with the programs that a Rosenbrock method needs, of all entries of J or of those on a pattern. */
#ifndef PN_SPARSE_H
#define PN_SPARSE_H
#include "tests/check.h"

enum { WIDE = 8 };
typedef struct sparse {
    double A[WIDE][WIDE];
    int32_t n, row[WIDE * WIDE], col[WIDE * WIDE]; /* entries: those off the diagonal first */
} sparse;

/* Neighbours in a line, and the ends of it. */
UNUSED static sparse sparse_line(void) {
    sparse s = {.n = 0};
    for (int32_t r = 0; r < WIDE; r++)
        for (int32_t c = 0; c < WIDE; c++) {
            if (r == c || (abs(r - c) > 1 && abs(r - c) < WIDE - 1)) continue;
            s.A[r][c] = uniform();
            s.row[s.n] = r, s.col[s.n++] = c;
        }
    for (int32_t r = 0; r < WIDE; r++) s.A[r][r] = uniform(), s.row[s.n] = s.col[s.n] = r, s.n++;
    return s;
}

/* The field or its Jacobian, on the pattern or whole; or the vjp of that. */
UNUSED static pn_program *sparse_program(const sparse *s, int jacobian, int whole, int vjp) {
    enum { TWO = WIDE * WIDE, ENTRIES = TWO + 1 };
    const int32_t off = s->n - WIDE, all = !jacobian ? WIDE : whole ? WIDE * WIDE : s->n;
    builder b = {.spec = {.n_spaces = 1, .fuse = 1, .n_consts = ENTRIES + s->n}, .n_theta = {WIDE}};
    memcpy(b.consts, s->A, sizeof s->A);
    b.consts[TWO] = 2;
    for (int32_t e = 0; e < s->n; e++) b.consts[ENTRIES + e] = s->A[s->row[e]][s->col[e]];
    add_slot(&b, 1);
    int32_t y = add_slot(&b, WIDE);
    add_slot(&b, 0);
    int32_t seed = vjp ? add_slot(&b, all) : -1;
    int32_t A = add(&b, PN_OP_CONST, WIDE * WIDE, -1, -1, -1, 0, 0, 0), two = add(&b, PN_OP_CONST, 1, -1, -1, -1, TWO, 0, 0);
    int32_t fixed = add(&b, PN_OP_CONST, s->n, -1, -1, -1, ENTRIES, 0, 0);
    int32_t mu = add(&b, PN_OP_PARAM, WIDE, -1, -1, -1, 0, 0, 0);
    b.spec.segments[0] = b.spec.n_code;
    int32_t mu_y = add(&b, PN_OP_MUL, WIDE, mu, y, -1, 0, 0, 0), squares = add(&b, PN_OP_MUL, WIDE, mu_y, y, -1, 0, 0, 0);
    int32_t twos = add(&b, PN_OP_BCAST, WIDE, two, -1, -1, 0, 0, 0);
    int32_t twice = add(&b, PN_OP_MUL, WIDE, twos, mu_y, -1, 0, 0, 0);
    int32_t value = add(&b, PN_OP_ADD, WIDE, add(&b, PN_OP_MATVEC, WIDE, A, y, -1, 0, 0, 0), squares, -1, 0, 0, 0);
    if (jacobian) {
        int32_t beside = add(&b, PN_OP_SLICE, off, fixed, -1, -1, 0, 1, 0);
        int32_t diag = add(&b, PN_OP_ADD, WIDE, add(&b, PN_OP_SLICE, WIDE, fixed, -1, -1, off, 1, 0), twice, -1, 0, 0, 0);
        value = add(&b, PN_OP_CONCAT, s->n, beside, diag, -1, 0, 0, 0);
        for (int32_t e = 0; e < s->n; e++) b.index[e] = s->row[e] * WIDE + s->col[e];
        b.spec.n_index = s->n;
        if (whole) value = add(&b, PN_OP_SCATTER, WIDE * WIDE, value, -1, -1, 0, 0, 0);
    }
    add_output(&b, value);
    b.spec.segments[1] = b.spec.n_code - b.spec.segments[0];
    if (!vjp) return must_create(&b);
    int32_t of = seed;
    if (jacobian) of = add(&b, PN_OP_SLICE, WIDE, seed, -1, -1, whole ? 0 : off, whole ? WIDE + 1 : 1, 0);
    int32_t back =
        add(&b, PN_OP_MUL, WIDE, of, jacobian ? add(&b, PN_OP_MUL, WIDE, twos, mu, -1, 0, 0, 0) : twice, -1, 0, 0, 0);
    if (!jacobian) back = add(&b, PN_OP_ADD, WIDE, add(&b, PN_OP_MATVEC_T, WIDE, A, seed, -1, 0, 0, 0), back, -1, 0, 0, 0);
    int32_t by_mu = add(&b, PN_OP_MUL, WIDE, y, jacobian ? twos : y, -1, 0, 0, 0);
    add_output(&b, back), add_output(&b, -1), add_output(&b, -1);
    int32_t gmu = add(&b, PN_OP_MUL, WIDE, of, by_mu, -1, 0, 0, 0);
    b.spec.segments[2] = b.spec.n_code - b.spec.segments[0] - b.spec.segments[1];
    b.spec.n_grads = 1, b.n_grad[0] = WIDE;
    add(&b, PN_OP_ACC, 0, gmu, -1, -1, 0, 0, 0);
    return must_create(&b);
}

/* n samples of it; fixed steps of this length, as many as the sample has times, less one. */
UNUSED static fixture sparse_fixture(const sparse *s, int64_t n, int whole, const char *method, double step) {
    fixture f = fixture_begin(WIDE, 0, n, 0, "dopri5");
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    p->field = f.field = sparse_program(s, 0, whole, 0);
    p->reverse = f.reverse = sparse_program(s, 0, whole, 1);
    p->jacobian = f.part[0] = sparse_program(s, 1, whole, 0);
    p->jacobian_reverse = f.part[1] = sparse_program(s, 1, whole, 1);
    p->n_theta = (int64_t)(f.n_theta = WIDE);
    p->tableau = pn_tableau_find(method);
    p->adaptive = 0, p->step = step;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < f.t_len[i]; j++) f.t[p->row[i] + j] = step * (double)j;
    return f;
}
#endif
