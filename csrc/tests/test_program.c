/* Programs: every way in which one can be malformed is found, with its own message, and good ones are taken. */
#include "tests/check.h"

/* t (1), y (3), u (0), seed (3); CONST, PARAM in the prologue; two operations forward, one back, one accumulates */
static void valid(builder *b) {
    *b = (builder){.spec = {.n_spaces = 1, .n_grads = 1, .n_consts = 4, .n_index = 3}, .n_theta = {20}, .n_grad = {20}};
    add_slot(b, 1), add_slot(b, 3), add_slot(b, 0), add_slot(b, 3);
    int32_t c = add(b, PN_OP_CONST, 3, -1, -1, -1, 1, 0, 0);  /* 0: register 4 */
    int32_t w = add(b, PN_OP_PARAM, 9, -1, -1, -1, 11, 0, 0); /* 1: register 5 */
    int32_t z = add(b, PN_OP_AFFINE, 3, 1, -1, -1, 0, 9, 0);  /* 2: register 6 */
    int32_t f = add(b, PN_OP_ADD, 3, z, c, -1, 0, 0, 0);      /* 3: register 7 */
    int32_t v = add(b, PN_OP_MATVEC, 3, w, 3, -1, 0, 0, 0);   /* 4: register 8 */
    add(b, PN_OP_ACC_OUTER, 0, 3, 1, -1, 0, 0, 0);            /* 5 */
    add_output(b, f), add_output(b, v), add_output(b, -1);
    b->index[0] = 2;
    b->index[1] = 0;
    b->index[2] = 1;
    b->spec.segments[0] = 2;
    b->spec.segments[1] = 2;
    b->spec.segments[2] = 1;
}

static void refused(builder *b, const char *part, int line) {
    pn_program *p = (pn_program *)b;
    pn_status st = create(b, &p);
    CHECKF(st == PN_BAD_PROGRAM && !p, "line %d: %s", line, pn_status_name(st));
    CHECKF(strstr(b->message, part) != NULL, "line %d: \"%s\" does not say \"%s\"", line, b->message, part);
    if (st == PN_OK) pn_program_destroy(&p);
}
#define BAD(part, ...)                                                                                                         \
    do {                                                                                                                       \
        builder b;                                                                                                             \
        valid(&b);                                                                                                             \
        __VA_ARGS__;                                                                                                           \
        refused(&b, part, __LINE__);                                                                                           \
    } while (0)

static void headers(void) {
    BAD("registers", b.spec.n_reg = 0);
    BAD("registers", b.spec.n_reg = (1 << 20) + 1);
    BAD("slots", b.spec.n_slots = -1);
    BAD("slots", b.spec.n_slots = PN_MAX_SLOTS + 1);
    BAD("slots", b.spec.n_slots = 4, b.spec.n_reg = 3);
    BAD("outputs", b.spec.n_outputs = 0);
    BAD("outputs", b.spec.n_outputs = PN_MAX_OUTPUTS + 1);
    BAD("negative length", b.spec.n_code = -1);
    BAD("negative length", b.spec.n_consts = -1);
    BAD("negative length", b.spec.n_index = INT32_MIN);
    BAD("parameter and", b.spec.n_spaces = 3);
    BAD("parameter and", b.spec.n_spaces = -1);
    BAD("parameter and", b.spec.n_grads = 3);
    BAD("parameter and", b.spec.n_grads = -1);
    BAD("segment 1", b.spec.segments[1] = -1);
    BAD("segments of", b.spec.segments[0] = INT32_MAX, b.spec.segments[1] = INT32_MAX);
    BAD("parameter vector", b.n_theta[0] = -1);
    BAD("parameter vector", b.n_theta[0] = (int64_t)1 << 31);
    BAD("gradient vector", b.n_grad[0] = -1);
    BAD("gradient vector", b.n_grad[0] = (int64_t)1 << 31);
    BAD("register 6", b.sizes[6] = 0); /* only slots may be empty */
    BAD("register 2", b.sizes[2] = -1);
    BAD("register 4", b.sizes[4] = (1 << 24) + 1);
    BAD("need", for (int i = 0; i < 40; i++) add_register(&b, 1 << 23));
}

static void operands(void) {
    BAD("operation 50 (0 to 49)", b.code[2].op = PN_N_OPS);
    BAD("operation -1", b.code[2].op = -1);
    BAD("operand 0", b.code[2].a = -1);
    BAD("operand 0", b.code[2].a = 9);
    BAD("operand 1", b.code[3].b = INT32_MAX);
    BAD("before it is written", b.code[2].a = 7);
    BAD("before it is written", b.code[3].a = 7); /* itself */
    BAD("prologue reads", b.code[1] = (pn_ins){PN_OP_NEG, 5, 1, -1, -1, 0, 0, 0}, b.sizes[5] = 3);
    BAD("size 0", b.code[3].b = 2);
    BAD("outside the accumulating", b.code[4] = b.code[5]);
    BAD("not allowed in the accumulating", b.spec.segments[2] = 0);
    BAD("writes register", b.code[2].out = 1); /* a slot */
    BAD("writes register", b.code[2].out = -1);
    BAD("writes register", b.code[2].out = 9);
    BAD("written twice", b.code[3].out = 6);
    BAD("output 0", b.outputs[0] = 9);
    BAD("output 0", b.outputs[0] = -2);
    BAD("reverse segment", b.outputs[0] = 8);
    BAD("output 1", b.sizes[9] = 1, b.spec.n_reg++, b.outputs[1] = 9); /* a register nobody writes */
}

/* Instruction 3 replaced by `op` of a register of size `out` and operands of sizes na, nb, nc. */
static void one(builder *b, int32_t op, int32_t out, int32_t na, int32_t nb, int32_t nc, int32_t p, int32_t q, int32_t k) {
    *b = (builder){.spec = {.n_spaces = 1, .n_grads = 1, .n_consts = 4, .n_index = 3, .segments = {0, 1, 0}},
                   .n_theta = {20},
                   .n_grad = {20},
                   .index = {2, 0, 1}};
    const int32_t size[3] = {na, nb, nc};
    int32_t r[3] = {-1, -1, -1};
    for (int i = 0; i < 3; i++)
        if (size[i]) r[i] = add_slot(b, size[i]);
    int32_t f = add(b, op, out, r[0], r[1], r[2], p, q, k);
    if (!out) b->spec.segments[1] = 0, f = r[0];
    add_output(b, f);
}
static void fits(int line, int expected, int32_t op, int32_t out, int32_t na, int32_t nb, int32_t nc, int32_t p, int32_t q,
                 int32_t k) {
    builder b;
    pn_program *made = NULL;
    one(&b, op, out, na, nb, nc, p, q, k);
    pn_status st = create(&b, &made);
    CHECKF((st == PN_OK) == expected, "line %d: %s %s", line, pn_status_name(st), b.message);
    if (!expected) CHECKF(st == PN_BAD_PROGRAM && strstr(b.message, "do not fit"), "line %d: %s", line, b.message);
    pn_program_destroy(&made);
    CHECK(made == NULL);
}
#define FITS(...) fits(__LINE__, 1, __VA_ARGS__)
#define MISFIT(...) fits(__LINE__, 0, __VA_ARGS__)

static void shapes(void) {
    FITS(PN_OP_CONST, 4, 0, 0, 0, 0, 0, 0), MISFIT(PN_OP_CONST, 4, 0, 0, 0, 1, 0, 0), MISFIT(PN_OP_CONST, 1, 0, 0, 0, -1, 0, 0);
    FITS(PN_OP_PARAM, 5, 0, 0, 0, 15, 0, 0), MISFIT(PN_OP_PARAM, 5, 0, 0, 0, 16, 0, 0),
        MISFIT(PN_OP_PARAM, 1, 0, 0, 0, 0, 0, 1);
    MISFIT(PN_OP_PARAM, 1, 0, 0, 0, INT32_MAX, 0, 0), MISFIT(PN_OP_PARAM, 1, 0, 0, 0, INT32_MIN, 0, 0),
        MISFIT(PN_OP_PARAM, 1, 0, 0, 0, 0, 0, -1);
    FITS(PN_OP_AFFINE, 4, 4, 0, 0, 0, 16, 0), FITS(PN_OP_AFFINE, 4, 5, 0, 0, 0, -1, 0),
        MISFIT(PN_OP_AFFINE, 4, 4, 0, 0, 0, 17, 0);
    MISFIT(PN_OP_AFFINE, 4, 5, 0, 0, 1, -1, 0), MISFIT(PN_OP_AFFINE, 1 << 20, 1 << 20, 0, 0, 0, -1, 0);
    FITS(PN_OP_AFFINE_T, 4, 5, 0, 0, 0, -1, 0), MISFIT(PN_OP_AFFINE_T, 4, 5, 0, 0, 1, -1, 0);
    FITS(PN_OP_MATVEC, 2, 6, 3, 0, 0, 0, 0), MISFIT(PN_OP_MATVEC, 2, 6, 2, 0, 0, 0, 0),
        MISFIT(PN_OP_MATVEC, 4, 6, 2, 0, 0, 0, 0);
    FITS(PN_OP_MATVEC_T, 2, 6, 3, 0, 0, 0, 0), MISFIT(PN_OP_MATVEC_T, 2, 7, 3, 0, 0, 0, 0);
    FITS(PN_OP_OUTER, 6, 2, 3, 0, 0, 0, 0), MISFIT(PN_OP_OUTER, 5, 2, 3, 0, 0, 0, 0);
    FITS(PN_OP_TANH, 3, 3, 0, 0, 0, 0, 0), MISFIT(PN_OP_TANH, 3, 4, 0, 0, 0, 0, 0);
    FITS(PN_OP_MUL, 3, 3, 3, 0, 0, 0, 0), MISFIT(PN_OP_MUL, 3, 3, 1, 0, 0, 0, 0), MISFIT(PN_OP_MUL, 3, 1, 3, 0, 0, 0, 0);
    FITS(PN_OP_WHERE, 3, 3, 3, 3, 0, 0, 0), MISFIT(PN_OP_WHERE, 3, 3, 3, 2, 0, 0, 0);
    FITS(PN_OP_BCAST, 7, 1, 0, 0, 0, 0, 0), MISFIT(PN_OP_BCAST, 7, 2, 0, 0, 0, 0, 0);
    FITS(PN_OP_SUM, 1, 7, 0, 0, 0, 0, 0), MISFIT(PN_OP_SUM, 2, 7, 0, 0, 0, 0, 0);
    FITS(PN_OP_SLICE, 3, 7, 0, 0, 0, 3, 0), FITS(PN_OP_SLICE, 3, 7, 0, 0, 6, -3, 0), MISFIT(PN_OP_SLICE, 3, 7, 0, 0, 1, 0, 0);
    MISFIT(PN_OP_SLICE, 3, 7, 0, 0, 1, 3, 0), MISFIT(PN_OP_SLICE, 3, 7, 0, 0, 5, -3, 0),
        MISFIT(PN_OP_SLICE, 1, 7, 0, 0, 7, 1, 0);
    MISFIT(PN_OP_SLICE, 1, 7, 0, 0, -1, 1, 0), MISFIT(PN_OP_SLICE, 3, 7, 0, 0, 0, INT32_MIN, 0),
        MISFIT(PN_OP_SLICE, 3, 7, 0, 0, 6, INT32_MAX, 0);
    FITS(PN_OP_CONCAT, 5, 2, 3, 0, 0, 0, 0), MISFIT(PN_OP_CONCAT, 6, 2, 3, 0, 0, 0, 0);
    FITS(PN_OP_GATHER, 3, 3, 0, 0, 0, 0, 0), MISFIT(PN_OP_GATHER, 3, 2, 0, 0, 0, 0, 0),
        MISFIT(PN_OP_GATHER, 3, 3, 0, 0, 1, 0, 0);
    FITS(PN_OP_SCATTER, 3, 3, 0, 0, 0, 0, 0), MISFIT(PN_OP_SCATTER, 2, 3, 0, 0, 0, 0, 0),
        MISFIT(PN_OP_SCATTER, 3, 3, 0, 0, -1, 0, 0);
    FITS(PN_OP_ACC, 0, 4, 0, 0, 16, 0, 0), MISFIT(PN_OP_ACC, 0, 4, 0, 0, 17, 0, 0), MISFIT(PN_OP_ACC, 0, 4, 0, 0, 0, 0, 1);
    FITS(PN_OP_ACC_OUTER, 0, 4, 5, 0, 0, 0, 0), MISFIT(PN_OP_ACC_OUTER, 0, 4, 5, 0, 1, 0, 0),
        MISFIT(PN_OP_ACC_OUTER, 0, 4, 5, 0, 0, 0, -1);
}

static void calls(void) {
    for (int slots = 1; slots <= 4; slots++)
        for (int32_t p = -1; p <= 4; p++) {
            builder b = {.spec = {.segments = {0, 1, 0}}};
            for (int i = 0; i < slots; i++) add_slot(&b, i ? 2 : 1);
            add_output(&b, add(&b, PN_OP_CALL, 2, -1, -1, -1, p, 0, 0));
            pn_program *made;
            int expected = p >= 0 && p <= PN_CALL_JACOBIAN_VJP && slots >= 3 + p % 2; /* a vjp has a seed */
            CHECKF((create(&b, &made) == PN_OK) == expected, "%d slots, p = %d: %s", slots, p, b.message);
            pn_program_destroy(&made);
        }
    builder b = {.spec = {.segments = {1, 0, 0}}};
    add_slot(&b, 1), add_slot(&b, 2), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_CALL, 2, -1, -1, -1, 0, 0, 0));
    refused(&b, "in the prologue", __LINE__);
    b.spec.segments[0] = 0;
    b.spec.segments[1] = 1;
    b.sizes[0] = 2;
    refused(&b, "do not fit", __LINE__);
}

/* Good programs with numbers changed at random: refused, or safe to run (under the sanitizers of tests/campaign.sh). */
static int32_t odd_number(void) {
    static const int32_t odd[] = {-1, 0, 1, 2, 3, 8, 16, 17, 64, 1 << 20, INT32_MAX, INT32_MIN};
    int32_t r = (int32_t)(12 + 12 * uniform());
    return r < 12 ? odd[r] : r - 12;
}
static void run_it(const builder *b, const pn_program *p) {
    for (int64_t n = 1; n <= 3; n += 2) {
        size_t mark = n_kept, count = (size_t)n, most = 1;
        const void *slot[PN_MAX_SLOTS], *theta[PN_MAX_SPACES] = {NULL};
        void *output[PN_MAX_OUTPUTS];
        double *grad[PN_MAX_SPACES] = {NULL};
        for (int32_t r = 0; r < b->spec.n_reg; r++)
            if ((size_t)b->sizes[r] > most) most = (size_t)b->sizes[r];
        if (most > 1 << 10) return;
        for (int32_t s = 0; s < b->spec.n_slots; s++) slot[s] = random_array(count * (size_t)b->sizes[s], 0, 1);
        for (int o = 0; o < b->spec.n_outputs; o++)
            output[o] = keep(count * (b->outputs[o] < 0 ? 1 : (size_t)b->sizes[b->outputs[o]]), 8);
        for (int k = 0; k < b->spec.n_spaces; k++) theta[k] = random_array((size_t)b->n_theta[k], 0, 1);
        for (int k = 0; k < b->spec.n_grads; k++) grad[k] = keep((size_t)b->n_grad[k], 8);
        EACH_ISA(isa) CHECK(pn_evaluate(p, 0, isa, n, slot, theta, output, grad, NULL, NULL) == PN_OK);
        release(mark);
    }
}
static void fuzz(void) {
    int taken = 0, tries = 30000;
    for (int i = 0; i < tries; i++) {
        builder b;
        pn_program *p;
        if (i % 2)
            valid(&b);
        else
            net(&b, 3, 2, 5, 1, 1);
        for (int changes = 1 + i % 3; changes > 0; changes--) {
            int32_t *x = (int32_t *)&b.code[(int)((1 + uniform()) / 2 * b.spec.n_code)];
            switch (i / 2 % 8) {
            case 0: b.sizes[(int)((1 + uniform()) / 2 * b.spec.n_reg)] = odd_number(); break;
            case 1: b.spec.segments[(int)((1 + uniform()) * 1.5)] = odd_number(); break;
            case 2: b.outputs[(int)((1 + uniform()) / 2 * b.spec.n_outputs)] = odd_number(); break;
            case 3: x[0] = (int32_t)((1 + uniform()) / 2 * PN_OP_CALL); break;
            default: x[(int)((1 + uniform()) * 4)] = odd_number();
            }
            if (i % 64 == 0) b.n_theta[0] = i % 80, b.n_grad[0] = i % 70;
        }
        if (create(&b, &p) != PN_OK) continue;
        taken++;
        run_it(&b, p);
        pn_program_destroy(&p);
    }
    CHECKF(taken > tries / 50 && taken < tries, "%d of %d", taken, tries);
}

/* Registers have 2^22 rows at most, each with the padding of 16 rows that one lane may need. */
static void rows(void) {
    for (int32_t more = 0; more < 2; more++) {
        builder b = {.spec = {.segments = {0, 1, 0}}};
        const int32_t y = add_slot(&b, (1 << 22) - 33 + more);
        add_output(&b, add(&b, PN_OP_SUM, 1, y, -1, -1, 0, 0, 0));
        pn_program *p = NULL;
        const pn_status st = create(&b, &p);
        CHECKF(more ? st == PN_BAD_PROGRAM && strstr(b.message, "rows") : st == PN_OK, "%s %s", pn_status_name(st), b.message);
        pn_program_destroy(&p);
    }
}

int main(void) {
    builder b;
    pn_program *p;
    valid(&b);
    CHECKF(create(&b, &p) == PN_OK, "%s", b.message);
    CHECK(b.message[0] == 0);
    pn_program_destroy(&p);
    pn_program_destroy(&p); /* NULL now */
    for (int32_t m = 0; m < 3; m++)
        for (int vjp = 0; vjp < 2; vjp++) {
            net(&b, 3, m, 5, vjp, 1);
            CHECKF(create(&b, &p) == PN_OK, "%s", b.message);
            pn_program_destroy(&p);
        }
    b = (builder){.spec = {.n_outputs = 1}, .outputs = {-1}}; /* no code at all: identically zero */
    add_slot(&b, 1);
    CHECK(create(&b, &p) == PN_OK);
    pn_program_destroy(&p);
    headers();
    operands();
    shapes();
    calls();
    fuzz();
    for (int s = 0; s < PN_N_STATUS; s++) CHECK(pn_status_name((pn_status)s)[0] && pn_status_message((pn_status)s)[0]);
    rows();
    return finish("test_program");
}
