/* A stiff field by hand, for tests: van der Pol's oscillator, driven,

       y0' = y1,   y1' = mu (1 - y0^2) y1 - y0 + t^2,   theta = {mu},

   or with an input u added to y1', with the programs that a Rosenbrock method needs: its Jacobian
   [0, 1, -2 mu y0 y1 - 1, mu (1 - y0^2)] with df/dt = [0, 2 t + u'], and the vjps of both. */
#ifndef PN_STIFF_H
#define PN_STIFF_H
#include "tests/check.h"

typedef struct stiff {
    builder b;
    int32_t t, y, u, seed, y0, y1, mu, one, two, zero, damping, product; /* registers; damping 1 - y0^2, product y0 y1 */
} stiff;

UNUSED static int32_t stiff_op(stiff *s, int32_t op, int32_t a, int32_t b) { return add(&s->b, op, 1, a, b, -1, 0, 0, 0); }
UNUSED static int32_t stiff_entry(stiff *s, int32_t a, int32_t i) { return add(&s->b, PN_OP_SLICE, 1, a, -1, -1, i, 1, 0); }
UNUSED static int32_t stiff_join(stiff *s, const int32_t *part, int32_t n) {
    int32_t all = part[0];
    for (int32_t i = 1; i < n; i++) all = add(&s->b, PN_OP_CONCAT, i + 1, all, part[i], -1, 0, 0, 0);
    return all;
}

/* Slots, u of that size, with a seed if it has one; constants, parameters and what all four programs need. */
UNUSED static void stiff_begin(stiff *s, int32_t u, int32_t seed) {
    *s = (stiff){.b = {.spec = {.n_spaces = 1, .fuse = 1, .n_consts = 3}, .n_theta = {1}, .consts = {0, 1, 2}}};
    s->t = add_slot(&s->b, 1), s->y = add_slot(&s->b, 2);
    s->u = add_slot(&s->b, u);
    if (seed) s->seed = add_slot(&s->b, seed);
    s->zero = add(&s->b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0);
    s->one = add(&s->b, PN_OP_CONST, 1, -1, -1, -1, 1, 0, 0);
    s->two = add(&s->b, PN_OP_CONST, 1, -1, -1, -1, 2, 0, 0);
    s->mu = add(&s->b, PN_OP_PARAM, 1, -1, -1, -1, 0, 0, 0);
    s->b.spec.segments[0] = s->b.spec.n_code;
    s->y0 = stiff_entry(s, s->y, 0), s->y1 = stiff_entry(s, s->y, 1);
    s->damping = stiff_op(s, PN_OP_SUB, s->one, stiff_op(s, PN_OP_SQUARE, s->y0, -1));
    s->product = stiff_op(s, PN_OP_MUL, s->y0, s->y1);
}

/* -2 mu y0 y1 - 1 */
UNUSED static int32_t stiff_pull(stiff *s) {
    int32_t twice = stiff_op(s, PN_OP_MUL, s->two, stiff_op(s, PN_OP_MUL, s->mu, s->product));
    return stiff_op(s, PN_OP_NEG, stiff_op(s, PN_OP_ADD, twice, s->one), -1);
}

/* The forward segment ends here with this value. */
UNUSED static void stiff_value(stiff *s, int32_t value) {
    add_output(&s->b, value);
    s->b.spec.segments[1] = s->b.spec.n_code - s->b.spec.segments[0];
}

/* The cotangents of y, t, u (-1: none) and mu end a vjp. */
UNUSED static pn_program *stiff_cotangents(stiff *s, int32_t gy0, int32_t gy1, int32_t gt, int32_t gu, int32_t gmu) {
    const int32_t gy[] = {gy0, gy1};
    add_output(&s->b, stiff_join(s, gy, 2)), add_output(&s->b, gt), add_output(&s->b, gu);
    s->b.spec.segments[2] = s->b.spec.n_code - s->b.spec.segments[0] - s->b.spec.segments[1];
    s->b.spec.n_grads = 1, s->b.n_grad[0] = 1;
    add(&s->b, PN_OP_ACC, 0, gmu, -1, -1, 0, 0, 0);
    return must_create(&s->b);
}

UNUSED static pn_program *stiff_field(int driven, int vjp) {
    stiff s;
    stiff_begin(&s, driven, vjp ? 2 : 0);
    int32_t push = stiff_op(&s, PN_OP_MUL, s.damping, s.y1), damped = stiff_op(&s, PN_OP_MUL, s.mu, push);
    int32_t force = stiff_op(&s, PN_OP_SUB, damped, s.y0);
    if (driven) force = stiff_op(&s, PN_OP_ADD, force, s.u);
    const int32_t f[] = {s.y1, stiff_op(&s, PN_OP_ADD, force, stiff_op(&s, PN_OP_SQUARE, s.t, -1))};
    stiff_value(&s, stiff_join(&s, f, 2));
    if (!vjp) return must_create(&s.b);
    int32_t g0 = stiff_entry(&s, s.seed, 0), g1 = stiff_entry(&s, s.seed, 1);
    int32_t gy0 = stiff_op(&s, PN_OP_MUL, g1, stiff_pull(&s));
    int32_t gy1 = stiff_op(&s, PN_OP_ADD, g0, stiff_op(&s, PN_OP_MUL, g1, stiff_op(&s, PN_OP_MUL, s.mu, s.damping)));
    int32_t gt = stiff_op(&s, PN_OP_MUL, g1, stiff_op(&s, PN_OP_MUL, s.two, s.t));
    return stiff_cotangents(&s, gy0, gy1, gt, driven ? g1 : -1, stiff_op(&s, PN_OP_MUL, g1, push));
}

UNUSED static pn_program *stiff_jacobian(int driven, int vjp) {
    stiff s;
    stiff_begin(&s, 2 * driven, vjp ? 6 : 0);
    int32_t slope = stiff_op(&s, PN_OP_MUL, s.two, s.t);
    if (driven) slope = stiff_op(&s, PN_OP_ADD, slope, stiff_entry(&s, s.u, 1));
    const int32_t value[] = {s.zero, s.one, stiff_pull(&s), stiff_op(&s, PN_OP_MUL, s.mu, s.damping), s.zero, slope};
    stiff_value(&s, stiff_join(&s, value, 6));
    if (!vjp) return must_create(&s.b);
    int32_t g2 = stiff_entry(&s, s.seed, 2), g3 = stiff_entry(&s, s.seed, 3), g5 = stiff_entry(&s, s.seed, 5);
    int32_t minus = stiff_op(&s, PN_OP_NEG, stiff_op(&s, PN_OP_MUL, s.two, s.mu), -1);
    int32_t first = stiff_op(&s, PN_OP_ADD, stiff_op(&s, PN_OP_MUL, g2, s.y1), stiff_op(&s, PN_OP_MUL, g3, s.y0));
    int32_t gy0 = stiff_op(&s, PN_OP_MUL, minus, first);
    int32_t gy1 = stiff_op(&s, PN_OP_MUL, minus, stiff_op(&s, PN_OP_MUL, g2, s.y0));
    int32_t by_product = stiff_op(&s, PN_OP_MUL, g2, stiff_op(&s, PN_OP_MUL, s.two, s.product));
    int32_t gmu = stiff_op(&s, PN_OP_SUB, stiff_op(&s, PN_OP_MUL, g3, s.damping), by_product);
    const int32_t gu[] = {s.zero, g5};
    return stiff_cotangents(&s, gy0, gy1, stiff_op(&s, PN_OP_MUL, g5, s.two), driven ? stiff_join(&s, gu, 2) : -1, gmu);
}

/* n samples of it, with an input or without, ragged times, squared loss; the programs of the Jacobian are part[0] and part[1]. */
UNUSED static fixture driven_fixture(int driven, int64_t n, int f32, const char *method, double mu) {
    fixture f = fixture_begin(2, driven, n, f32, "dopri5");
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    p->field = f.field = stiff_field(driven, 0);
    p->reverse = f.reverse = stiff_field(driven, 1);
    p->jacobian = f.part[0] = stiff_jacobian(driven, 0);
    p->jacobian_reverse = f.part[1] = stiff_jacobian(driven, 1);
    p->n_theta = (int64_t)(f.n_theta = 1);
    set(f.theta, 0, f32, mu);
    p->tableau = pn_tableau_find(method);
    p->rtol = f32 ? 1e-3 : 1e-6;
    return f;
}
UNUSED static fixture stiff_fixture(int64_t n, int f32, const char *method, double mu) {
    return driven_fixture(0, n, f32, method, mu);
}

/* dopri5, and rodas5p while a sample is stiff. */
UNUSED static fixture changing(int64_t n, int f32, double mu) {
    fixture f = stiff_fixture(n, f32, "dopri5", mu);
    f.p.stiff = pn_tableau_find("rodas5p");
    f.p.stability = 3.3;
    f.p.stiff_steps = keep((size_t)n + 1, sizeof *f.p.stiff_steps);
    for (int64_t i = 0; i < f.p.n_t; i++) f.t[i] *= 3; /* long enough to be noticed */
    return f;
}
#endif
