/* Layouts: where the registers of a checked program live, and its instructions decoded for the kernels.

   Fused, an instruction that only moves numbers is left out where that can be:
   - a contiguous SLICE is a view of its operand;
   - an operand of CONCAT is written into its place in the result (with one lane only by instructions that do not write whole
     vectors, past the end of a register);
   - with one lane, arithmetic on one number is done without vectors;
   - WHERE reads a condition that was broadcast from its one row;
   - a product with a matrix of constants is AFFINE with constants for weights, or a sparse product;
   - an activation belongs to the AFFINE before it, which only it reads;
   - elementwise instructions on long registers are done for some elements at a time, which stay in the first cache;
   - registers that are dead give their rows to others of their size, so that a file holds little more than what the way back
     needs. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "program/layout.h"

enum { REUSED = 4096 }; /* rows of the largest register whose rows are given on */

typedef struct plan {
    const pn_program_spec *s;
    const unsigned char *state; /* see pn_layout_make */
    const int32_t *uses;
    int single;
    int32_t *maker;           /* (n_reg) the instruction that writes a register, -1: none */
    int32_t *parent, *offset; /* (n_reg) the register that a register is a part of, or -1, and the row it begins with */
    int32_t *last;       /* (n_reg) of those that are no part: the last instruction that reads or writes them, or FOREVER */
    int32_t *next;       /* (n_reg) links of lists of registers */
    int32_t *place;      /* (n_reg) */
    int32_t *ends;       /* (n_code) list of the registers whose last instruction it is */
    unsigned char *gone; /* (n_code) left out */
} plan;

#define FOREVER INT32_MAX

int pn_segment_of(const pn_program_spec *s, int32_t i) {
    int32_t end = 0;
    for (int g = 0; g < 3; g++)
        if (i < (end += s->segments[g])) return g;
    return 3;
}

static int64_t padded(int64_t n) { return (n + PN_PAD - 1) / PN_PAD * PN_PAD; }

static int is_unary(int32_t op) { return pn_ops[op].shape == PN_SHAPE_SAME && pn_ops[op].operands == 1; }

/* Arithmetic on one number, in the layout of one lane: its code there, or 0. */
static int32_t one_of(const plan *p, const pn_ins *x) {
    if (!p->single || !p->s->fuse || x->out < 0 || p->s->sizes[x->out] != 1) return 0;
    switch (x->op) {
    case PN_OP_ADD: return PN_ONE_ADD;
    case PN_OP_SUB: return PN_ONE_SUB;
    case PN_OP_MUL: return PN_ONE_MUL;
    case PN_OP_DIV: return PN_ONE_DIV;
    case PN_OP_DMUL: return PN_ONE_DMUL;
    case PN_OP_DDIV: return PN_ONE_DDIV;
    case PN_OP_NEG: return PN_ONE_NEG;
    case PN_OP_SQUARE: return PN_ONE_SQUARE;
    case PN_OP_BCAST: return PN_ONE_COPY;
    default: return 0;
    }
}

/* Whether an instruction writes nothing past the end of its register. */
static int is_exact(const plan *p, int32_t i) {
    const pn_ins *x = &p->s->code[i];
    switch (x->op) {
    case PN_OP_CONST:
    case PN_OP_PARAM:
    case PN_OP_BCAST:
    case PN_OP_SLICE:
    case PN_OP_CONCAT:
    case PN_OP_GATHER:
    case PN_OP_SCATTER: return 1;
    default: return !p->single || (one_of(p, x) && !p->gone[i]);
    }
}

/* MATVEC, MATVEC_T whose matrix is constant: the instruction that makes it, or -1. */
static int32_t matrix_of(const plan *p, const pn_ins *x) {
    int32_t i = p->s->fuse && (x->op == PN_OP_MATVEC || x->op == PN_OP_MATVEC_T) ? p->maker[x->a] : -1;
    return i >= 0 && p->s->code[i].op == PN_OP_CONST ? i : -1;
}

/* AFFINE whose value is read only by the activation right after it: one instruction. */
static int fuses(const plan *p, int32_t i) {
    const pn_program_spec *s = p->s;
    const pn_ins *x = &s->code[i];
    if (!s->fuse || i + 1 >= s->n_code || !(x->op == PN_OP_AFFINE || (x->op == PN_OP_MATVEC && matrix_of(p, x) >= 0))) return 0;
    return is_unary(s->code[i + 1].op) && s->code[i + 1].a == x->out && p->uses[x->out] == 1 &&
           pn_segment_of(s, i) == pn_segment_of(s, i + 1);
}

/* WHERE whose condition is the same in all rows: the instruction that broadcasts it, or -1. */
static int32_t broadcasts(const plan *p, const pn_ins *x) {
    int32_t i = p->s->fuse && x->op == PN_OP_WHERE ? p->maker[x->a] : -1;
    return i >= 0 && p->s->code[i].op == PN_OP_BCAST ? i : -1;
}

/* The registers that instruction i reads: how many. */
static int reads(const plan *p, int32_t i, int32_t operand[3]) {
    const pn_ins *x = &p->s->code[i];
    int32_t from = broadcasts(p, x);
    operand[0] = from < 0 ? x->a : p->s->code[from].a;
    operand[1] = x->b;
    operand[2] = x->c;
    if (matrix_of(p, x) >= 0) {
        operand[0] = x->b;
        return 1;
    }
    return pn_ops[x->op].operands;
}

/* The register that it writes, with an activation that belongs to it; -1: none. */
static int32_t writes(const plan *p, int32_t i) {
    const pn_ins *x = &p->s->code[fuses(p, i) ? i + 1 : i];
    return pn_ops[x->op].shape == PN_SHAPE_ACC ? -1 : x->out;
}

/* The register that r is a part of in the end. */
static int32_t root_of(plan *p, int32_t r) {
    int32_t root = r, total = 0;
    for (; p->parent[root] >= 0; root = p->parent[root]) total += p->offset[root];
    while (p->parent[r] >= 0 && p->parent[r] != root) { /* the way is short next time */
        int32_t above = p->parent[r], own = p->offset[r];
        p->parent[r] = root;
        p->offset[r] = total;
        total -= own;
        r = above;
    }
    return root;
}

static void become_part(plan *p, int32_t r, int32_t whole, int32_t offset) {
    p->parent[r] = whole;
    p->offset[r] = offset;
}

static void find_parts(plan *p) {
    const pn_program_spec *s = p->s;
    for (int32_t i = 0; i < s->n_code; i++)
        if (pn_ops[s->code[i].op].shape != PN_SHAPE_ACC) p->maker[s->code[i].out] = i;
    for (int32_t i = 0; s->fuse && i < s->n_code; i++) {
        const pn_ins *x = &s->code[i];
        p->gone[i] = i > 0 && fuses(p, i - 1);
        if (x->op == PN_OP_SLICE && x->q == 1) {
            become_part(p, x->out, x->a, x->p);
            p->gone[i] = 1;
        }
        for (int j = 0; x->op == PN_OP_CONCAT && j < 2; j++) {
            int32_t r = j ? x->b : x->a;
            if (p->maker[r] >= 0 && is_exact(p, p->maker[r]) && p->parent[r] < 0 && p->state[r] == p->state[x->out])
                become_part(p, r, x->out, j ? s->sizes[x->a] : 0);
        }
    }
    for (int32_t i = 0; i < s->n_code; i++) { /* broadcasts and matrices that nothing else reads */
        int32_t from = broadcasts(p, &s->code[i]);
        if (from < 0) from = matrix_of(p, &s->code[i]);
        if (from < 0) continue;
        int32_t r = s->code[from].out;
        p->next[r]++;
        p->gone[from] = p->next[r] == p->uses[r];
    }
}

static void find_ends(plan *p) {
    const pn_program_spec *s = p->s;
    for (int32_t i = 0; i < s->n_code; i++) {
        int32_t operand[3], out = writes(p, i), segment = pn_segment_of(s, i);
        if (p->gone[i]) continue;
        for (int j = reads(p, i, operand); j-- > 0;) {
            int32_t r = root_of(p, operand[j]);
            p->last[r] = p->state[r] == segment + 1 && p->last[r] != FOREVER ? i : FOREVER;
        }
        if (out < 0) continue;
        out = root_of(p, out);
        if (p->last[out] < i) p->last[out] = i;
    }
    for (int32_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i] >= 0) p->last[root_of(p, s->outputs[i])] = FOREVER;
    for (int32_t i = 0; i < s->n_code; i++) p->ends[i] = -1;
    for (int32_t r = s->n_slots; r < s->n_reg; r++) {
        int32_t end = p->last[r];
        if (!s->fuse || p->state[r] < 2 || end < 0 || end == FOREVER) continue;
        p->next[r] = p->ends[end];
        p->ends[end] = r;
    }
}

/* ---- where registers live ---------------------------------------------------------------------------------------- */
static int32_t rows_of(const plan *p, int32_t r) { return p->single ? (int32_t)padded(p->s->sizes[r]) : p->s->sizes[r]; }

/* Slots, then what the forward segment writes, then what the reverse segment writes; the prologue's in the shared file. */
static pn_status place_all(plan *p, pn_layout *l) {
    const pn_program_spec *s = p->s;
    int32_t *vacant = malloc((REUSED + 1) * sizeof *vacant), reverse = 0; /* registers that are dead, by their rows */
    if (!vacant) return PN_MEMORY;
    memset(vacant, -1, (REUSED + 1) * sizeof *vacant);
    for (int32_t r = 0; r < s->n_reg; r++) p->place[r] = -1;
    for (int32_t r = 0; r < s->n_slots; r++) {
        l->slot[r] = p->place[r] = l->file_rows;
        l->file_rows += rows_of(p, r);
    }
    for (int32_t i = 0; i < s->n_code; i++) {
        int32_t segment = pn_segment_of(s, i), r = p->gone[i] ? -1 : writes(p, i), rows;
        if (segment >= 2 && !reverse) {
            reverse = 1;
            l->forward_rows = l->file_rows;
            memset(vacant, -1, (REUSED + 1) * sizeof *vacant);
        }
        if (r >= 0 && p->place[r = root_of(p, r)] < 0) {
            int32_t *rest = segment == 0 ? &l->shared_rows : &l->file_rows;
            rows = rows_of(p, r);
            if (segment > 0 && rows <= REUSED && vacant[rows] >= 0) {
                p->place[r] = p->place[vacant[rows]];
                vacant[rows] = p->next[vacant[rows]];
            } else {
                p->place[r] = *rest;
                *rest += rows;
            }
        }
        for (int32_t dead = p->ends[i], after; dead >= 0; dead = after) {
            after = p->next[dead];
            rows = rows_of(p, dead);
            if (rows > REUSED) continue;
            p->next[dead] = vacant[rows];
            vacant[rows] = dead;
        }
    }
    if (!reverse) l->forward_rows = l->file_rows;
    for (int32_t r = 0; r < s->n_reg; r++) {
        int32_t root = root_of(p, r);
        if (r != root) p->place[r] = p->place[root] + p->offset[r];
    }
    for (int32_t r = 0; r < s->n_reg; r++)
        if (p->state[root_of(p, r)] == 1) p->place[r] = ~p->place[r];
    free(vacant);
    return PN_OK;
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */
/* An earlier product with the same matrix; either: a transposed one, too. NULL: there is none. */
static const pn_decoded *same_matrix(const pn_layout *l, int32_t n_done, const pn_decoded *x, int either) {
    const int32_t other = x->op == PN_OP_AFFINE ? PN_OP_AFFINE_T : PN_OP_AFFINE;
    for (const pn_decoded *o = l->code; o < l->code + n_done; o++) {
        if (o->p != x->p || o->k != x->k) continue;
        if (o->op == x->op && o->m == x->m && o->n == x->n) return o;
        if (either && o->op == other && o->m == x->n && o->n == x->m) return o;
    }
    return NULL;
}

/* Where packed weights of one matrix live; the same matrix is packed once, but that in a block a transposed product has an order of its
   own. */
static int64_t pack_offset(pn_layout *l, int32_t n_done, const pn_decoded *x, int64_t rows, int64_t cols, int single) {
    const pn_decoded *same = same_matrix(l, n_done, x, single);
    if (same) return same->pack;
    int64_t *end = x->k == PN_CONSTANT ? &l->fixed_size : &l->pack_size, at = *end;
    int64_t size = single ? rows * padded(cols) + cols * padded(rows) : rows * cols;
    *end += padded(size);
    return at;
}

/* The same of a matrix that one lane reads as it is, see pn_decoded. */
static int64_t wide_offset(pn_layout *l, int32_t n_done, const pn_decoded *x) {
    const pn_decoded *same = same_matrix(l, n_done, x, 0);
    if (same) return same->pack;
    const int64_t at = l->wide_size;
    l->wide_size += x->n * padded(x->m);
    return -1 - at;
}

/* Its matrix is sparse: the product has a table of it, which may be there already. */
static pn_status make_sparse(pn_layout *l, const double *consts, pn_decoded *x) {
    const int transposed = x->op == PN_OP_AFFINE_T;
    int32_t i = 0;
    for (; i < l->n_sparse; i++) {
        const pn_sparse *o = &l->sparse[i];
        if (o->p == x->p && o->m == x->m && o->n == x->n && o->transposed == transposed) break;
    }
    if (i == l->n_sparse) {
        pn_sparse *more = realloc(l->sparse, ((size_t)i + 1) * sizeof *more);
        if (!more) return PN_MEMORY;
        l->sparse = more;
        more[i] = (pn_sparse){.p = x->p, .m = x->m, .n = x->n, .transposed = transposed};
        pn_status st = pn_sparse_make(consts, &more[i]);
        if (st != PN_OK) return st;
        l->n_sparse++;
    }
    x->op = PN_SPARSE;
    x->p = i;
    return PN_OK;
}

/* Where the matrix of an AFFINE or AFFINE_T is found. */
static pn_status place_matrix(pn_layout *l, int32_t n_done, const double *consts, pn_decoded *x, int single) {
    const int transposed = x->op == PN_OP_AFFINE_T, constant = x->k == PN_CONSTANT;
    const int32_t rows = transposed ? x->n : x->m, cols = transposed ? x->m : x->n;
    if (constant && pn_is_sparse(consts + x->p, rows, cols)) return make_sparse(l, consts, x);
    const int as_it_is = single ? pn_is_wide(rows, cols) : transposed && !pn_is_large(rows, cols);
    if (constant || !as_it_is)
        x->pack = pack_offset(l, n_done, x, rows, cols, single);
    else
        x->pack = single ? wide_offset(l, n_done, x) : -1;
    return PN_OK;
}

/* Where the sums of an instruction that accumulates live. */
static void place_sums(pn_layout *l, pn_decoded *x, int single) {
    if (x->op == PN_OP_ACC_OUTER && pn_waits(x->m, x->n, single)) {
        x->pack = l->waiting_rows;
        l->waiting_rows += padded(x->m) + 2 * padded((x->n + 1) / 2);
        return;
    }
    x->pack = l->sums_size;
    l->sums_size += x->m < x->n ? x->m * padded(x->n) : x->n * padded(x->m);
}

/* Whether the index of a GATHER or SCATTER has runs of four neighbours and more in the mean. */
static int has_runs(const pn_program_spec *s, const pn_ins *x) {
    const int32_t n = s->sizes[x->op == PN_OP_GATHER ? x->out : x->a], *index = s->index + x->p;
    int32_t runs = 1;
    for (int32_t i = 1; i < n; i++) runs += index[i] - 1 != index[i - 1];
    return n >= 4 * runs;
}

static pn_decoded decode_one(const plan *p, int32_t i) {
    const pn_program_spec *s = p->s;
    const pn_ins *x = &s->code[i];
    const pn_op_row *row = &pn_ops[x->op];
    pn_decoded d = {.op = x->op, .act = PN_N_OPS, .p = x->p, .q = x->q, .k = x->k};
    int32_t operand[3], out = writes(p, i);
    reads(p, i, operand);
    if (row->shape == PN_SHAPE_ACC) {
        d.m = s->sizes[x->a];
        d.n = row->operands == 2 ? s->sizes[x->b] : 1;
    } else {
        d.m = s->sizes[x->out];
        d.n = row->operands > 0 ? s->sizes[operand[0]] : 0;
        d.out = p->place[out];
        if (out != x->out) d.act = s->code[i + 1].op;
        if (one_of(p, x)) d.op = one_of(p, x);
    }
    if (x->op == PN_OP_GATHER || x->op == PN_OP_SCATTER) d.q = has_runs(s, x);
    int32_t matrix = matrix_of(p, x);
    if (matrix >= 0) {
        d.op = x->op == PN_OP_MATVEC ? PN_OP_AFFINE : PN_OP_AFFINE_T;
        d.n = s->sizes[x->b];
        d.a = p->place[x->b];
        d.p = s->code[matrix].p;
        d.q = -1;
        d.k = PN_CONSTANT;
        return d;
    }
    if (row->operands > 0) d.a = p->place[operand[0]];
    if (row->operands > 1) d.b = p->place[operand[1]];
    if (row->operands > 2) d.c = p->place[operand[2]];
    return d;
}

/* `rows` rows further on */
static int32_t behind(int32_t place, int32_t rows) { return place < 0 ? ~(~place + rows) : place + rows; }

/* CONCAT: copies of the operands that are not in their places already. How many. */
static int32_t copies(const plan *p, const pn_ins *x, pn_decoded *to) {
    const pn_decoded *first = to;
    for (int j = 0; j < 2; j++) {
        int32_t r = j ? x->b : x->a, size = p->s->sizes[r], at = behind(p->place[x->out], j ? p->s->sizes[x->a] : 0);
        if (p->place[r] == at) continue;
        *to = (pn_decoded){.op = p->single && size == 1 ? PN_ONE_COPY : PN_OP_SLICE,
                           .act = PN_N_OPS,
                           .m = size,
                           .n = size,
                           .out = at,
                           .a = p->place[r],
                           .q = 1};
        to++;
    }
    return (int32_t)(to - first);
}

/* ---- strips ------------------------------------------------------------------------------------------------------ */
static int is_long(const pn_decoded *x, int single) {
    return x->op >= PN_OP_NEG && x->op <= PN_OP_WHERE && x->n == x->m && x->out >= 0 &&
           x->m > (single ? PN_STRIP : PN_STRIP / 8);
}

/* Whether rows from x and from y on, m of them, are the same ones or have none in common. */
static int same_or_apart(int32_t x, int32_t y, int32_t m) { return x == y || x < 0 || y < 0 || x + m <= y || y + m <= x; }

/* Whether y may take its turn after each strip of x: they share rows only where they have them in the same strips. */
static int go_together(const pn_decoded *x, const pn_decoded *y, int single) {
    const int32_t m = single ? (int32_t)padded(x->m) : x->m;
    const int32_t read[2][3] = {{x->a, x->b, x->c}, {y->a, y->b, y->c}};
    int good = x->m == y->m && same_or_apart(x->out, y->out, m);
    for (int j = 0; good && j < 3; j++) {
        good = j >= pn_ops[y->op].operands || same_or_apart(x->out, read[1][j], m);
        good = good && (j >= pn_ops[x->op].operands || same_or_apart(y->out, read[0][j], m));
    }
    return good;
}

/* How many instructions from x on, before `stop`, are done in strips. */
static int32_t strips(const pn_decoded *x, const pn_decoded *stop, int single) {
    int32_t n = 0;
    for (; n < PN_MOST_IN_STRIPS && x + n < stop && is_long(x + n, single); n++)
        for (int32_t i = 0; i < n; i++)
            if (!go_together(x + i, x + n, single)) return n;
    return n;
}

/* PN_STRIPS before each two and more of them. */
static pn_status cut_strips(pn_layout *l, int single) {
    const int32_t ends[] = {l->n_prologue, l->n_forward, l->n_reverse, l->n_code};
    int32_t *to[] = {&l->n_prologue, &l->n_forward, &l->n_reverse, &l->n_code}, n = 0;
    pn_decoded *code = malloc(2 * ((size_t)l->n_code + 1) * sizeof *code);
    if (!code) return PN_MEMORY;
    for (int32_t g = 0, i = 0; g < 4; g++) {
        while (i < ends[g]) {
            int32_t some = g == 3 ? 0 : strips(l->code + i, l->code + ends[g], single);
            if (some > 1) code[n++] = (pn_decoded){.op = PN_STRIPS, .act = PN_N_OPS, .m = l->code[i].m, .n = some};
            for (int32_t k = 0; k < (some > 1 ? some : 1); k++) code[n++] = l->code[i++];
        }
        *to[g] = n;
    }
    free(l->code);
    l->code = code;
    return PN_OK;
}

static pn_status decode(const plan *p, pn_layout *l) {
    const pn_program_spec *s = p->s;
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_code; i++) {
        int segment = pn_segment_of(s, i);
        if (!p->gone[i] && s->fuse && s->code[i].op == PN_OP_CONCAT)
            n += copies(p, &s->code[i], l->code + n);
        else if (!p->gone[i]) {
            pn_decoded x = decode_one(p, i);
            if (x.op == PN_OP_AFFINE || x.op == PN_OP_AFFINE_T) {
                pn_status st = place_matrix(l, n, s->consts, &x, p->single);
                if (st != PN_OK) return st;
            }
            if (segment == 3) place_sums(l, &x, p->single);
            l->code[n++] = x;
        }
        if (segment < 1) l->n_prologue = n;
        if (segment < 2) l->n_forward = n;
        if (segment < 3) l->n_reverse = n;
    }
    l->n_code = n;
    for (int32_t i = 0; i < s->n_outputs; i++) l->output[i] = s->outputs[i] >= 0 ? p->place[s->outputs[i]] : 0;
    return PN_OK;
}

pn_status pn_layout_make(const pn_program_spec *s, const unsigned char *state, const int32_t *uses, int which, pn_layout *l) {
    size_t regs = (size_t)s->n_reg, n = (size_t)s->n_code;
    plan p = {.s = s, .state = state, .uses = uses, .single = which == PN_LAYOUT_SINGLE};
    int32_t *block = malloc((6 * regs + n) * sizeof *block);
    p.gone = calloc(n + 1, 1);
    l->code = malloc((2 * n + 1) * sizeof *l->code);
    pn_status st = PN_MEMORY;
    if (block && p.gone && l->code) {
        p.maker = block;
        p.parent = block + regs;
        p.offset = block + 2 * regs;
        p.last = block + 3 * regs;
        p.next = block + 4 * regs;
        p.place = block + 5 * regs;
        p.ends = block + 6 * regs;
        for (size_t r = 0; r < regs; r++) p.maker[r] = p.parent[r] = p.last[r] = -1, p.offset[r] = p.next[r] = 0;
        find_parts(&p);
        find_ends(&p);
        st = place_all(&p, l);
        if (st == PN_OK) st = decode(&p, l);
        if (st == PN_OK && s->fuse) st = cut_strips(l, p.single);
    }
    free(block);
    free(p.gone);
    return st;
}

void pn_layout_free(pn_layout *l) {
    for (int32_t i = 0; i < l->n_sparse; i++) free(l->sparse[i].value);
    free(l->sparse);
    free(l->code);
}
