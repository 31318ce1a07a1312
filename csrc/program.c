/* Programs: every index, size and offset is checked here, once, so that the kernels need no check. */
#include "program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum shape {
    LEAF,
    AFFINE,
    AFFINE_T,
    MATVEC,
    MATVEC_T,
    OUTER,
    SAME,
    BCAST,
    SUM,
    SLICE,
    CONCAT,
    GATHER,
    SCATTER,
    CALL,
    ACC
} shape;
typedef struct op_row {
    const char *name;
    shape shape;
    int operands;
} op_row;
static const op_row ops[PN_N_OPS] = {
#define PN_OP(name, shape, operands) {#name, shape, operands},
#include "ops.def"
};

enum { MAX_REG = 1 << 20, MAX_SIZE = 1 << 24, MAX_ROWS = 1 << 22 };

typedef struct checker {
    const pn_program_spec *s;
    char *message;
    unsigned char *state; /* (n_reg) 0 not written yet, else 1 + segment */
    int32_t *uses;        /* (n_reg) how often read */
} checker;

static pn_status bad(char *message, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, PN_MESSAGE, format, ap);
    va_end(ap);
    return PN_BAD_PROGRAM;
}

static pn_status check_header(const pn_program_spec *s, char *message) {
    if (s->n_reg < 1 || s->n_reg > MAX_REG) return bad(message, "program: %d registers (1 to %d)", s->n_reg, MAX_REG);
    if (s->n_slots < 0 || s->n_slots > PN_MAX_SLOTS || s->n_slots > s->n_reg)
        return bad(message, "program: %d slots (at most %d, at most the registers)", s->n_slots, PN_MAX_SLOTS);
    if (s->n_outputs < 1 || s->n_outputs > PN_MAX_OUTPUTS)
        return bad(message, "program: %d outputs (1 to %d)", s->n_outputs, PN_MAX_OUTPUTS);
    if (s->n_code < 0 || s->n_consts < 0 || s->n_index < 0) return bad(message, "program: negative length");
    if (s->n_spaces < 0 || s->n_spaces > PN_MAX_SPACES || s->n_grads < 0 || s->n_grads > PN_MAX_SPACES)
        return bad(message, "program: %d parameter and %d gradient vectors (at most %d each)", s->n_spaces, s->n_grads,
                   PN_MAX_SPACES);
    int64_t total = 0;
    for (int i = 0; i < 3; i++) {
        if (s->segments[i] < 0) return bad(message, "program: segment %d has %d instructions", i, s->segments[i]);
        total += s->segments[i];
    }
    if (total > s->n_code)
        return bad(message, "program: segments of %lld instructions, code of %d", (long long)total, s->n_code);
    for (int i = 0; i < s->n_spaces; i++)
        if (s->n_theta[i] < 0 || s->n_theta[i] > INT32_MAX)
            return bad(message, "program: parameter vector %d has length %lld", i, (long long)s->n_theta[i]);
    for (int i = 0; i < s->n_grads; i++)
        if (s->n_grad[i] < 0 || s->n_grad[i] > INT32_MAX)
            return bad(message, "program: gradient vector %d has length %lld", i, (long long)s->n_grad[i]);
    int64_t rows = 0;
    for (int32_t r = 0; r < s->n_reg; r++) {
        if (s->sizes[r] < (r < s->n_slots ? 0 : 1) || s->sizes[r] > MAX_SIZE)
            return bad(message, "program: register %d has size %d", r, s->sizes[r]);
        rows += s->sizes[r] + PN_PAD;
    }
    if (rows > MAX_ROWS) return bad(message, "program: the registers need %lld rows (at most %d)", (long long)rows, MAX_ROWS);
    return PN_OK;
}

static int segment_of(const pn_program_spec *s, int32_t i) {
    int32_t end = 0;
    for (int g = 0; g < 3; g++)
        if (i < (end += s->segments[g])) return g;
    return 3;
}

/* theta_k[p : p + count] inside the parameter (or gradient) vector? */
static int inside(int64_t p, int64_t count, int64_t length) { return p >= 0 && count <= length && p <= length - count; }

static pn_status check_operands(checker *c, int32_t i, const op_row *row, int segment) {
    const pn_ins *x = &c->s->code[i];
    const int32_t operand[3] = {x->a, x->b, x->c};
    for (int j = 0; j < 3 && j < row->operands; j++) {
        int32_t r = operand[j];
        if (r < 0 || r >= c->s->n_reg)
            return bad(c->message, "instruction %d (%s): operand %d is register %d of %d", i, row->name, j, r, c->s->n_reg);
        if (!c->state[r])
            return bad(c->message, "instruction %d (%s): register %d is read before it is written", i, row->name, r);
        if (segment == 0 && c->state[r] != 1)
            return bad(c->message,
                       "instruction %d (%s): the prologue reads register %d, which is not a function of the parameters alone",
                       i, row->name, r);
        if (c->s->sizes[r] == 0) return bad(c->message, "instruction %d (%s): reads slot %d of size 0", i, row->name, r);
        c->uses[r]++;
    }
    if (row->shape == ACC)
        return segment == 3 ? PN_OK : bad(c->message, "instruction %d (%s): outside the accumulating segment", i, row->name);
    if (segment == 3) return bad(c->message, "instruction %d (%s): not allowed in the accumulating segment", i, row->name);
    if (x->out < c->s->n_slots || x->out >= c->s->n_reg)
        return bad(c->message, "instruction %d (%s): writes register %d", i, row->name, x->out);
    if (c->state[x->out]) return bad(c->message, "instruction %d (%s): register %d is written twice", i, row->name, x->out);
    return PN_OK;
}

static int index_ok(const pn_program_spec *s, int32_t p, int64_t count, int64_t limit) {
    if (!inside(p, count, s->n_index)) return 0;
    for (int64_t i = 0; i < count; i++)
        if (s->index[p + i] < 0 || s->index[p + i] >= limit) return 0;
    return 1;
}

static int in_space(const pn_program_spec *s, const pn_ins *x, int64_t p, int64_t count) {
    return x->k >= 0 && x->k < s->n_spaces && inside(p, count, s->n_theta[x->k]);
}

/* The sizes of the output and the operands fit together, and offsets lie inside their pools. */
static int shape_ok(const pn_program_spec *s, const pn_ins *x, const op_row *row) {
    const int32_t *z = s->sizes;
    int64_t out = row->shape == ACC ? 0 : z[x->out], a = row->operands > 0 ? z[x->a] : 0, b = row->operands > 1 ? z[x->b] : 0;
    switch (row->shape) {
    case LEAF: return x->op == PN_OP_CONST ? inside(x->p, out, s->n_consts) : in_space(s, x, x->p, out);
    case AFFINE: return in_space(s, x, x->p, out * a) && (x->q < 0 || in_space(s, x, x->q, out));
    case AFFINE_T: return in_space(s, x, x->p, out * a);
    case MATVEC:
    case MATVEC_T: return a == out * b;
    case OUTER: return out == a * b;
    case SAME: return a == out && (row->operands < 2 || b == out) && (row->operands < 3 || z[x->c] == out);
    case BCAST: return a == 1;
    case SUM: return out == 1;
    case SLICE: {
        int64_t last = x->p + (out - 1) * x->q;
        return x->q != 0 && x->p >= 0 && x->p < a && last >= 0 && last < a;
    }
    case CONCAT: return out == a + b;
    case GATHER: return index_ok(s, x->p, out, a);
    case SCATTER: return index_ok(s, x->p, a, out);
    case CALL: return x->p >= 0 && x->p <= 1 && s->n_slots >= 3 + x->p && z[0] == 1;
    case ACC: return x->k >= 0 && x->k < s->n_grads && inside(x->p, row->operands == 2 ? a * b : a, s->n_grad[x->k]);
    }
    return 0;
}

static pn_status check_code(checker *c) {
    const pn_program_spec *s = c->s;
    for (int32_t r = 0; r < s->n_slots; r++) c->state[r] = 2;
    for (int32_t i = 0; i < s->n_code; i++) {
        const pn_ins *x = &s->code[i];
        if (x->op < 0 || x->op >= PN_N_OPS)
            return bad(c->message, "instruction %d: operation %d (0 to %d)", i, x->op, PN_N_OPS - 1);
        const op_row *row = &ops[x->op];
        int segment = segment_of(s, i);
        pn_status st = check_operands(c, i, row, segment);
        if (st != PN_OK) return st;
        if (row->shape == CALL && segment == 0) return bad(c->message, "instruction %d (CALL): in the prologue", i);
        if (!shape_ok(s, x, row)) return bad(c->message, "instruction %d (%s): sizes or offsets do not fit", i, row->name);
        if (row->shape != ACC) c->state[x->out] = (unsigned char)(1 + segment);
    }
    for (int32_t i = 0; i < s->n_outputs; i++) {
        int32_t r = s->outputs[i];
        if (r < -1 || r >= s->n_reg || (r >= 0 && !c->state[r]))
            return bad(c->message, "output %d is register %d, which is not written", i, r);
        if (i == 0 && r >= 0 && c->state[r] == 3)
            return bad(c->message, "output 0 is register %d, which the reverse segment writes", r);
        if (r >= 0) c->uses[r] += 2; /* never fused away */
    }
    return PN_OK;
}

/* ---- decoding ---------------------------------------------------------------------------------------------- */
static int is_unary(int32_t op) { return ops[op].shape == SAME && ops[op].operands == 1; }

/* Where packed weights of one matrix live; the same matrix is packed once. */
static int64_t pack_offset(pn_layout *l, int32_t n_done, const pn_decoded *x, int64_t rows, int64_t cols, int single) {
    for (int32_t i = 0; i < n_done; i++) {
        const pn_decoded *o = &l->code[i];
        int t = o->op == PN_OP_AFFINE_T;
        if ((o->op == PN_OP_AFFINE || t) && o->p == x->p && o->k == x->k && (t ? o->n : o->m) == rows &&
            (t ? o->m : o->n) == cols)
            return o->pack;
    }
    int64_t at = l->pack_size, pad = PN_PAD - 1;
    int64_t size = single ? rows * ((cols + pad) / PN_PAD * PN_PAD) + cols * ((rows + pad) / PN_PAD * PN_PAD) : rows * cols;
    l->pack_size += (size + pad) / PN_PAD * PN_PAD;
    return at;
}

static int64_t padded(int64_t n) { return (n + PN_PAD - 1) / PN_PAD * PN_PAD; }

static pn_decoded decode_one(const pn_program_spec *s, const int32_t *place, const pn_ins *x) {
    const op_row *row = &ops[x->op];
    pn_decoded d = {.op = x->op, .act = PN_N_OPS, .p = x->p, .q = x->q, .k = x->k};
    if (row->shape == ACC) {
        d.m = s->sizes[x->a];
        d.n = row->operands == 2 ? s->sizes[x->b] : 1;
    } else {
        d.m = s->sizes[x->out];
        d.n = row->operands > 0 ? s->sizes[x->a] : 0;
        d.out = place[x->out];
    }
    if (row->operands > 0) d.a = place[x->a];
    if (row->operands > 1) d.b = place[x->b];
    if (row->operands > 2) d.c = place[x->c];
    return d;
}

/* AFFINE whose value is read only by the activation right after it: one instruction. */
static int fuses(const pn_program_spec *s, const int32_t *uses, int32_t i) {
    return s->fuse && i + 1 < s->n_code && s->code[i].op == PN_OP_AFFINE && is_unary(s->code[i + 1].op) &&
           s->code[i + 1].a == s->code[i].out && uses[s->code[i].out] == 1 && segment_of(s, i) == segment_of(s, i + 1);
}

static pn_status decode(const pn_program_spec *s, const checker *c, int which, pn_layout *l) {
    int single = which == PN_LAYOUT_SINGLE;
    int32_t *place = malloc((size_t)s->n_reg * sizeof *place);
    l->code = malloc(((size_t)s->n_code + 1) * sizeof *l->code);
    if (!place || !l->code) {
        free(place);
        return PN_MEMORY;
    }
    for (int reverse = 0; reverse < 2; reverse++) { /* what the reverse segment writes comes last */
        for (int32_t r = 0; r < s->n_reg; r++) {
            int32_t rows = single ? (s->sizes[r] + PN_PAD - 1) / PN_PAD * PN_PAD : s->sizes[r];
            int shared = c->state[r] == 1;
            int32_t *at = shared ? &l->shared_rows : &l->file_rows;
            if ((c->state[r] == 3) != reverse) continue;
            place[r] = shared ? ~*at : *at;
            *at += rows;
            if (r < s->n_slots) l->slot[r] = place[r];
        }
        if (!reverse) l->forward_rows = l->file_rows;
    }
    for (int32_t i = 0; i < s->n_outputs; i++) l->output[i] = s->outputs[i] >= 0 ? place[s->outputs[i]] : 0;
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_code; i++) {
        pn_decoded x = decode_one(s, place, &s->code[i]);
        int segment = segment_of(s, i);
        if (x.op == PN_OP_AFFINE) x.pack = pack_offset(l, n, &x, x.m, x.n, single);
        if (x.op == PN_OP_AFFINE_T) x.pack = pack_offset(l, n, &x, x.n, x.m, single);
        if (segment == 3) {
            x.pack = l->sums_size;
            l->sums_size += x.m < x.n ? x.m * padded(x.n) : x.n * padded(x.m);
        }
        if (fuses(s, c->uses, i)) {
            i++;
            x.act = s->code[i].op;
            x.out = place[s->code[i].out];
        }
        l->code[n++] = x;
        if (segment < 1) l->n_prologue = n;
        if (segment < 2) l->n_forward = n;
        if (segment < 3) l->n_reverse = n;
    }
    l->n_code = n;
    if (l->n_forward < l->n_prologue) l->n_forward = l->n_prologue;
    if (l->n_reverse < l->n_forward) l->n_reverse = l->n_forward;
    free(place);
    return PN_OK;
}

static void *copy(const void *from, size_t bytes) {
    void *to = malloc(bytes ? bytes : 1);
    if (to && bytes) memcpy(to, from, bytes);
    return to;
}

static pn_status fill(const checker *c, pn_program *p) {
    const pn_program_spec *s = c->s;
    p->n_slots = s->n_slots;
    p->n_outputs = s->n_outputs;
    p->n_spaces = s->n_spaces;
    p->n_grads = s->n_grads;
    for (int i = 0; i < s->n_slots; i++) p->slot_size[i] = s->sizes[i];
    for (int i = 0; i < s->n_outputs; i++) p->output_size[i] = s->outputs[i] >= 0 ? s->sizes[s->outputs[i]] : 0;
    for (int i = 0; i < s->n_spaces; i++) p->n_theta[i] = s->n_theta[i];
    for (int i = 0; i < s->n_grads; i++) p->n_grad[i] = s->n_grad[i];
    for (int32_t i = 0; i < s->n_code; i++)
        if (s->code[i].op == PN_OP_CALL) {
            p->has_call = 1;
            if (s->sizes[s->code[i].out] > p->call_rows) p->call_rows = s->sizes[s->code[i].out];
        }
    p->consts = copy(s->consts, (size_t)s->n_consts * sizeof *p->consts);
    p->index = copy(s->index, (size_t)s->n_index * sizeof *p->index);
    if (!p->consts || !p->index) return PN_MEMORY;
    for (int i = 0; i < PN_N_LAYOUTS; i++) {
        pn_status st = decode(s, c, i, &p->layout[i]);
        if (st != PN_OK) return st;
    }
    return PN_OK;
}

pn_status pn_program_create(const pn_program_spec *spec, char message[PN_MESSAGE], pn_program **out) {
    *out = NULL;
    message[0] = 0;
    pn_status st = check_header(spec, message);
    if (st != PN_OK) return st;
    checker c = {.s = spec, .message = message};
    c.state = calloc((size_t)spec->n_reg, 1);
    c.uses = calloc((size_t)spec->n_reg, sizeof *c.uses);
    pn_program *p = calloc(1, sizeof *p);
    st = !c.state || !c.uses || !p ? PN_MEMORY : check_code(&c);
    if (st == PN_OK) st = fill(&c, p);
    if (st == PN_OK)
        *out = p;
    else if (p)
        pn_program_destroy(&p);
    free(c.state);
    free(c.uses);
    return st;
}

void pn_program_destroy(pn_program **program) {
    pn_program *p = *program;
    if (!p) return;
    for (int i = 0; i < PN_N_LAYOUTS; i++) free(p->layout[i].code);
    free(p->consts);
    free(p->index);
    free(p);
    *program = NULL;
}
