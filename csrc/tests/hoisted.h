/* A field that computes a matrix of its parameters alone, for tests:

       y' = M y + c + u,   M = tanh(W),   theta = W (d d), c (d),

   u one number or none, with the programs that compute M once (pn_hoisted): part[4] to part[7]. */
#ifndef PN_HOISTED_TEST_H
#define PN_HOISTED_TEST_H
#include "tests/check.h"

/* Slots, with a seed for a vjp; the parameters, with `more` behind those of the field. */
UNUSED static void hoisted_begin(builder *b, int32_t d, int32_t m, int vjp, int32_t more) {
    *b = (builder){.spec = {.n_spaces = 1, .fuse = 1}, .n_theta = {d * d + d + more}};
    add_slot(b, 1), add_slot(b, d), add_slot(b, m);
    if (vjp) add_slot(b, d);
}

/* The cotangents of y, t and u end the reverse segment. */
UNUSED static void hoisted_cotangents(builder *b, int32_t m, int32_t gy) {
    add_output(b, gy), add_output(b, -1);
    add_output(b, m ? add(b, PN_OP_SUM, 1, 3, -1, -1, 0, 0, 0) : -1);
    b->spec.segments[2] = b->spec.n_code - b->spec.segments[0] - b->spec.segments[1];
    b->spec.n_grads = 1, b->n_grad[0] = b->n_theta[0];
}

UNUSED static void hoisted_value(builder *b, int32_t d, int32_t m, int32_t f) {
    add_output(b, m ? add(b, PN_OP_ADD, d, f, add(b, PN_OP_BCAST, d, 2, -1, -1, 0, 0, 0), -1, 0, 0, 0) : f);
    b->spec.segments[1] = b->spec.n_code - b->spec.segments[0];
}

UNUSED static pn_program *hoisted_field(int32_t d, int32_t m, int vjp) {
    builder b;
    hoisted_begin(&b, d, m, vjp, 0);
    const int32_t W = add(&b, PN_OP_PARAM, d * d, -1, -1, -1, 0, 0, 0), M = add(&b, PN_OP_TANH, d * d, W, -1, -1, 0, 0, 0);
    const int32_t c = add(&b, PN_OP_PARAM, d, -1, -1, -1, d * d, 0, 0);
    b.spec.segments[0] = b.spec.n_code;
    hoisted_value(&b, d, m, add(&b, PN_OP_ADD, d, add(&b, PN_OP_MATVEC, d, M, 1, -1, 0, 0, 0), c, -1, 0, 0, 0));
    if (!vjp) return must_create(&b);
    const int32_t product = add(&b, PN_OP_OUTER, d * d, 3, 1, -1, 0, 0, 0);
    const int32_t slope = add(&b, PN_OP_DTANH, d * d, product, M, -1, 0, 0, 0);
    hoisted_cotangents(&b, m, add(&b, PN_OP_MATVEC_T, d, M, 3, -1, 0, 0, 0));
    add(&b, PN_OP_ACC, 0, slope, -1, -1, 0, 0, 0);
    add(&b, PN_OP_ACC, 0, 3, -1, -1, d * d, 0, 0);
    return must_create(&b);
}

UNUSED static pn_program *hoisted_rest(int32_t d, int32_t m, int vjp) {
    builder b;
    const int32_t M = d * d + d;
    hoisted_begin(&b, d, m, vjp, d * d);
    hoisted_value(&b, d, m, add(&b, PN_OP_AFFINE, d, 1, -1, -1, M, d * d, 0));
    if (!vjp) return must_create(&b);
    hoisted_cotangents(&b, m, add(&b, PN_OP_AFFINE_T, d, 3, -1, -1, M, -1, 0));
    add(&b, PN_OP_ACC_OUTER, 0, 3, 1, -1, M, 0, 0);
    add(&b, PN_OP_ACC, 0, 3, -1, -1, d * d, 0, 0);
    return must_create(&b);
}

UNUSED static pn_program *hoisted_once(int32_t d, int vjp) {
    builder b = {.spec = {.n_spaces = 1, .fuse = 1}, .n_theta = {d * d + d}};
    const int32_t seed = vjp ? add_slot(&b, d * d) : -1;
    const int32_t W = add(&b, PN_OP_PARAM, d * d, -1, -1, -1, 0, 0, 0), M = add(&b, PN_OP_TANH, d * d, W, -1, -1, 0, 0, 0);
    b.spec.segments[0] = b.spec.n_code;
    add_output(&b, vjp ? -1 : M);
    if (!vjp) return must_create(&b);
    const int32_t slope = add(&b, PN_OP_DTANH, d * d, seed, M, -1, 0, 0, 0);
    b.spec.segments[1] = 1;
    b.spec.n_grads = 1, b.n_grad[0] = b.n_theta[0];
    add(&b, PN_OP_ACC, 0, slope, -1, -1, 0, 0, 0);
    return must_create(&b);
}

/* n samples of it, with parts or without (see fixture_parts). */
UNUSED static fixture hoisted_fixture(int32_t d, int32_t m, int64_t n, int f32, const char *method, int parts) {
    fixture f = fixture_begin(d, m, n, f32, method);
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    p->field = f.field = hoisted_field(d, m, 0);
    p->reverse = f.reverse = hoisted_field(d, m, 1);
    for (int vjp = 0; vjp < 2; vjp++) f.part[4 + vjp] = hoisted_once(d, vjp), f.part[6 + vjp] = hoisted_rest(d, m, vjp);
    p->hoisted = (pn_hoisted){f.part[4], f.part[5], f.part[6], f.part[7]};
    p->n_theta = (int64_t)(f.n_theta = (size_t)(d * d + d));
    p->theta = f.theta = random_array(f.n_theta, f32, 0.8);
    p->g_theta = keep(f.n_theta, sizeof(double));
    if (parts) fixture_parts(&f, 2);
    return f;
}
#endif
