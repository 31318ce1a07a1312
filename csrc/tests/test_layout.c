/* Layouts: random programs give the same bits fused and as they are, that is with views, concatenation in place, broadcast
   conditions and rows given on to other registers; and what is fused is smaller. */
#include "tests/check.h"
#include "program/program.h"

enum { FEW = 7, MANY = 37 }; /* a narrow block has at least 8 lanes */

static int32_t draw(int32_t n) { /* 0 .. n - 1 */
    int32_t r = (int32_t)((1 + uniform()) / 2 * n);
    return r < n ? r : n - 1;
}

/* A register from `from` on of that size (0: any), late ones more often; -1: there is none. */
static int32_t pick(const builder *b, int32_t from, int32_t size) {
    for (int tries = 0; tries < 20 && b->spec.n_reg > from; tries++) {
        int32_t n = b->spec.n_reg - from, r = b->spec.n_reg - 1 - draw(1 + draw(n));
        if (r >= from && (!size || b->sizes[r] == size)) return r;
    }
    return -1;
}

/* One instruction more, which reads registers from `from` on only. */
static void grow(builder *b, int32_t from) {
    static const int32_t unary[] = {PN_OP_TANH, PN_OP_NEG, PN_OP_SIN, PN_OP_ABS, PN_OP_SQUARE},
                         binary[] = {PN_OP_ADD, PN_OP_SUB, PN_OP_MAX, PN_OP_LT, PN_OP_MUL, PN_OP_DMUL};
    int32_t a = pick(b, from, 0), n = a < 0 ? 0 : b->sizes[a], other = a < 0 ? -1 : pick(b, from, n), kind = draw(12);
    if (a < 0) {
        add(b, PN_OP_PARAM, 1 + draw(4), -1, -1, -1, draw(4), 0, 0);
        return;
    }
    if (other < 0) other = a;
    if (kind < 3) { /* of a and another */
        int32_t with = pick(b, from, 0);
        if (n + b->sizes[with] <= 12) add(b, PN_OP_CONCAT, n + b->sizes[with], a, with, -1, 0, 0, 0);
    } else if (kind < 6) {
        int32_t p = draw(n), size = 1 + draw(n - p), step = draw(4) ? 1 : -1;
        if (step < 0) p = n - 1, size = 1 + draw(n);
        add(b, PN_OP_SLICE, size, a, -1, -1, p, step, 0);
    } else if (kind == 6) {
        int32_t m = 1 + draw(5), r = add(b, PN_OP_AFFINE, m, a, -1, -1, draw(4), draw(2) ? 1 : -1, 0);
        if (draw(2)) add(b, PN_OP_TANH, m, r, -1, -1, 0, 0, 0);
    } else if (kind == 7) {
        int32_t one = pick(b, from, 1), x = other;
        if (one < 0) return;
        int32_t cond = add(b, PN_OP_BCAST, n, one, -1, -1, 0, 0, 0);
        for (int32_t i = draw(3); i >= 0; i--) x = add(b, PN_OP_WHERE, n, cond, a, x, 0, 0, 0);
        if (draw(3) == 0) add(b, PN_OP_SUB, n, cond, x, -1, 0, 0, 0);
    } else if (kind == 8) {
        add(b, PN_OP_SUM, 1, a, -1, -1, 0, 0, 0);
    } else if (kind < 11) {
        add(b, binary[draw(6)], n, a, other, -1, 0, 0, 0);
    } else {
        add(b, unary[draw(5)], n, a, -1, -1, 0, 0, 0);
    }
}

/* Three segments of random instructions, random outputs, sums of random registers. */
static builder random_program(void) {
    builder b = {.spec = {.n_spaces = 1, .n_grads = 1}, .n_theta = {80}, .n_grad = {160}};
    for (int i = 0; i < 3; i++) add_slot(&b, 1 + draw(6));
    int32_t from = b.spec.n_reg, ends[3], before = 0;
    for (int s = 0; s < 3; s++) {
        for (int32_t i = (s ? 6 : 2) + draw(s ? 16 : 3); i > 0 && b.spec.n_code < 80 && b.spec.n_reg < 80; i--)
            grow(&b, s ? 0 : from);
        ends[s] = b.spec.n_code;
        b.spec.segments[s] = ends[s] - before;
        before = ends[s];
        if (s == 1) add_output(&b, pick(&b, from, 0));
    }
    for (int i = draw(3); i >= 0; i--) add_output(&b, pick(&b, from, 0));
    for (int i = draw(4); i >= 0; i--) {
        int32_t a = pick(&b, 0, 0), c = pick(&b, 0, 0);
        add(&b, draw(2) ? PN_OP_ACC : PN_OP_ACC_OUTER, 0, a, c, -1, draw(8), 0, 0);
    }
    return b;
}

/* Fused or not, n samples; everything that comes out in one array. */
static double *run_it(builder *b, int fuse, pn_isa isa, int f32, int64_t n, const void *const *slot, const void *const *theta) {
    pn_program *p;
    void *out[PN_MAX_OUTPUTS];
    size_t each = (size_t)n * 16, total = each * PN_MAX_OUTPUTS;
    double *all = keep(total + 160, sizeof(double)), *grad[PN_MAX_SPACES] = {all + total};
    b->spec.fuse = fuse;
    p = must_create(b);
    for (int o = 0; o < b->spec.n_outputs; o++) out[o] = all + each * (size_t)o;
    CHECK(pn_evaluate(p, f32, isa, n, slot, theta, out, grad, NULL, NULL) == PN_OK);
    pn_program_destroy(&p);
    return all;
}

static void same_bits(int tries) {
    for (int i = 0; i < tries; i++) {
        builder b = random_program();
        for (int f32 = 0; f32 < 2; f32++)
            for (int64_t n = 1; n <= MANY; n += n == 1 ? FEW - 1 : MANY - FEW) {
                size_t mark = n_kept;
                const void *slot[PN_MAX_SLOTS], *theta[PN_MAX_SPACES] = {random_array(80, f32, 1)};
                for (int s = 0; s < 3; s++) slot[s] = random_array((size_t)(n * b.sizes[s]), f32, 1);
                EACH_ISA(isa) {
                    const double *plain = run_it(&b, 0, isa, f32, n, slot, theta),
                                 *fused = run_it(&b, 1, isa, f32, n, slot, theta);
                    CHECKF(!memcmp(plain, fused, ((size_t)n * 16 * PN_MAX_OUTPUTS + 160) * sizeof(double)),
                           "program %d, %s, f32 %d, %d samples", i, pn_isa_name(isa), f32, (int)n);
                }
                release(mark);
            }
    }
}

/* Registers that are worked on in strips: elementwise instructions between slices at 0, 1 and 2 and concatenations, so that operands
   are also parts of each other that do not begin in the same place. */
enum { LENGTH = 1100 };
static builder long_program(void) {
    static const int32_t unary[] = {PN_OP_TANH, PN_OP_NEG, PN_OP_SQUARE},
                         binary[] = {PN_OP_ADD, PN_OP_SUB, PN_OP_MUL, PN_OP_DMUL};
    builder b = {.spec = {.fuse = 1}};
    add_slot(&b, LENGTH);
    add_slot(&b, LENGTH - 2);
    for (int i = 0; i < 25; i++) {
        int32_t a = pick(&b, 0, 0), n = b.sizes[a], other = pick(&b, 0, n), third = pick(&b, 0, n), kind = draw(8);
        if (other < 0) other = a;
        if (third < 0) third = a;
        if (kind == 0 && n == LENGTH)
            add(&b, PN_OP_SLICE, n - 2, a, -1, -1, draw(3), 1, 0);
        else if (kind < 2 && n == LENGTH - 2) { /* a part of what is read next, from another row on */
            int32_t two = add(&b, PN_OP_SLICE, 2, other, -1, -1, draw(9), 1, 0), first = draw(2);
            two = add(&b, PN_OP_NEG, 2, two, -1, -1, 0, 0, 0);
            int32_t part = add(&b, unary[draw(3)], n, a, -1, -1, 0, 0, 0);
            int32_t whole = add(&b, PN_OP_CONCAT, LENGTH, first ? two : part, first ? part : two, -1, 0, 0, 0);
            int32_t shifted = add(&b, PN_OP_SLICE, n, whole, -1, -1, draw(3), 1, 0);
            add(&b, PN_OP_SUB, n, shifted, third, -1, 0, 0, 0);
        } else if (kind < 4)
            add(&b, unary[draw(3)], n, a, -1, -1, 0, 0, 0);
        else if (kind == 4)
            add(&b, PN_OP_WHERE, n, a, other, third, 0, 0, 0);
        else
            add(&b, binary[draw(4)], n, a, other, -1, 0, 0, 0);
    }
    for (int i = 0; i < 2; i++) {
        int32_t last = pick(&b, 2, LENGTH);
        add_output(&b, last < 0 ? 0 : last);
    }
    b.spec.segments[1] = b.spec.n_code;
    return b;
}

static void strips(int tries) {
    int seen = 0;
    for (int i = 0; i < tries; i++) {
        builder b = long_program();
        for (int f32 = 0; f32 < 2; f32++)
            for (int64_t n = 1; n <= FEW; n += FEW - 1) {
                size_t mark = n_kept, length = (size_t)n * LENGTH * (f32 ? sizeof(float) : sizeof(double));
                const void *slot[] = {random_array((size_t)n * LENGTH, f32, 1), random_array((size_t)n * (LENGTH - 2), f32, 1)};
                EACH_ISA(isa) {
                    void *out[2][2];
                    for (int fuse = 0; fuse < 2; fuse++) {
                        pn_program *p;
                        for (int o = 0; o < 2; o++) out[fuse][o] = keep(length, 1);
                        b.spec.fuse = fuse;
                        p = must_create(&b);
                        for (int32_t x = 0; x < p->layout[PN_LAYOUT_SINGLE].n_code; x++)
                            seen += p->layout[PN_LAYOUT_SINGLE].code[x].op == PN_STRIPS;
                        CHECK(pn_evaluate(p, f32, isa, n, slot, NULL, out[fuse], NULL, NULL, NULL) == PN_OK);
                        pn_program_destroy(&p);
                    }
                    for (int o = 0; o < 2; o++)
                        CHECKF(!memcmp(out[0][o], out[1][o], length), "strips %d, %s, f32 %d, %d samples", i, pn_isa_name(isa),
                               f32, (int)n);
                }
                release(mark);
            }
    }
    CHECKF(seen > 10 * tries, "%d", seen);
}

/* [y_1, -y_0] from scalars: no instruction moves anything; a chain of temporaries needs the rows of two. */
static void small(void) {
    builder b = {.spec = {.segments = {0, 4, 0}, .fuse = 1}};
    int32_t y = (add_slot(&b, 1), add_slot(&b, 2)), left = add(&b, PN_OP_SLICE, 1, y, -1, -1, 1, 1, 0);
    int32_t right = add(&b, PN_OP_NEG, 1, add(&b, PN_OP_SLICE, 1, y, -1, -1, 0, 1, 0), -1, -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_CONCAT, 2, left, right, -1, 0, 0, 0));
    pn_program *p = must_create(&b);
    CHECKF(p->layout[PN_LAYOUT_BLOCK].n_code == 2, "%d", p->layout[PN_LAYOUT_BLOCK].n_code); /* -y_0, a copy of y_1 */
    CHECKF(p->layout[PN_LAYOUT_BLOCK].file_rows == 5, "%d", p->layout[PN_LAYOUT_BLOCK].file_rows);
    pn_program_destroy(&p);
    enum { VERY_LONG = 1900000 };
    b = (builder){.spec = {.segments = {0, 4, 0}, .fuse = 1, .n_consts = 2},
                  .consts = {1, 2}}; /* no slots: a number behind a long vector */
    const int32_t behind = add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0), first = add(&b, PN_OP_CONST, 1, -1, -1, -1, 1, 0, 0);
    const int32_t many_numbers = add(&b, PN_OP_BCAST, VERY_LONG, first, -1, -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_CONCAT, VERY_LONG + 1, many_numbers, behind, -1, 0, 0, 0));
    p = must_create(&b);
    CHECKF(p->layout[PN_LAYOUT_BLOCK].file_rows == VERY_LONG + 2, "%d", p->layout[PN_LAYOUT_BLOCK].file_rows);
    pn_program_destroy(&p);
    static const int32_t sizes[] = {1, 7, 4095, 4096, 4097}; /* rows of registers as large as the last are not given on */
    for (int k = 0; k < 5; k++) {
        const int32_t n = sizes[k], each = (n + PN_PAD - 1) / PN_PAD * PN_PAD, many = n > 4096 ? 51 : 3;
        b = (builder){.spec = {.segments = {0, 50, 0}, .fuse = 1}};
        int32_t r = add_slot(&b, n);
        for (int i = 0; i < 50; i++) r = add(&b, PN_OP_SIN, n, r, -1, -1, 0, 0, 0);
        add_output(&b, r);
        p = must_create(&b);
        CHECKF(p->layout[PN_LAYOUT_BLOCK].file_rows == many * n, "%d", p->layout[PN_LAYOUT_BLOCK].file_rows);
        CHECKF(p->layout[PN_LAYOUT_SINGLE].file_rows == many * each, "%d", p->layout[PN_LAYOUT_SINGLE].file_rows);
        pn_program_destroy(&p);
        b = (builder){.spec = {.segments = {0, 9, 9}, .fuse = 1}}; /* the way back has none of the rows of the way forward */
        int32_t seed = (r = add_slot(&b, n), add_slot(&b, n));
        for (int i = 0; i < 9; i++) r = add(&b, PN_OP_SIN, n, r, -1, -1, 0, 0, 0);
        add_output(&b, r);
        for (int i = 0; i < 9; i++) seed = add(&b, PN_OP_COS, n, seed, -1, -1, 0, 0, 0);
        add_output(&b, seed);
        p = must_create(&b);
        for (int which = 0; which < PN_N_LAYOUTS; which++) {
            const pn_layout *l = &p->layout[which];
            for (int32_t i = 0; i < l->n_reverse; i++)
                CHECKF(l->code[i].op == PN_STRIPS || (l->code[i].out >= l->forward_rows) == (i >= l->n_forward),
                       "%d rows, instruction %d", (int)n, (int)i);
        }
        pn_program_destroy(&p);
    }
}

int main(int argc, char **argv) {
    small();
    strips(argc > 1 && !strcmp(argv[1], "--quick") ? 10 : 100);
    same_bits(argc > 1 && !strcmp(argv[1], "--quick") ? 100 : 3000);
    return finish("test_layout");
}
