/* Programs: every index, size and offset is checked here, once, so that the kernels need no check. */
#include "program/program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* theta_k[p : p + count] inside the parameter (or gradient) vector? */
static int inside(int64_t p, int64_t count, int64_t length) { return p >= 0 && count <= length && p <= length - count; }

static pn_status check_operands(checker *c, int32_t i, const pn_op_row *row, int segment) {
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
    if (row->shape == PN_SHAPE_ACC)
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
static int shape_ok(const pn_program_spec *s, const pn_ins *x, const pn_op_row *row) {
    const int32_t *z = s->sizes;
    int64_t out = row->shape == PN_SHAPE_ACC ? 0 : z[x->out], a = row->operands > 0 ? z[x->a] : 0,
            b = row->operands > 1 ? z[x->b] : 0;
    switch (row->shape) {
    case PN_SHAPE_LEAF: return x->op == PN_OP_CONST ? inside(x->p, out, s->n_consts) : in_space(s, x, x->p, out);
    case PN_SHAPE_AFFINE: return in_space(s, x, x->p, out * a) && (x->q < 0 || in_space(s, x, x->q, out));
    case PN_SHAPE_AFFINE_T: return in_space(s, x, x->p, out * a);
    case PN_SHAPE_MATVEC:
    case PN_SHAPE_MATVEC_T: return a == out * b;
    case PN_SHAPE_OUTER: return out == a * b;
    case PN_SHAPE_SAME: return a == out && (row->operands < 2 || b == out) && (row->operands < 3 || z[x->c] == out);
    case PN_SHAPE_BCAST: return a == 1;
    case PN_SHAPE_SUM: return out == 1;
    case PN_SHAPE_SLICE: {
        int64_t last = x->p + (out - 1) * x->q;
        return x->q != 0 && x->p >= 0 && x->p < a && last >= 0 && last < a;
    }
    case PN_SHAPE_CONCAT: return out == a + b;
    case PN_SHAPE_GATHER: return index_ok(s, x->p, out, a);
    case PN_SHAPE_SCATTER: return index_ok(s, x->p, a, out);
    case PN_SHAPE_CALL: return x->p >= 0 && x->p <= 3 && s->n_slots >= 3 + x->p % 2 && z[0] == 1;
    case PN_SHAPE_ACC: return x->k >= 0 && x->k < s->n_grads && inside(x->p, row->operands == 2 ? a * b : a, s->n_grad[x->k]);
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
        const pn_op_row *row = &pn_ops[x->op];
        int segment = pn_segment_of(s, i);
        pn_status st = check_operands(c, i, row, segment);
        if (st != PN_OK) return st;
        if (row->shape == PN_SHAPE_CALL && segment == 0) return bad(c->message, "instruction %d (CALL): in the prologue", i);
        if (!shape_ok(s, x, row)) return bad(c->message, "instruction %d (%s): sizes or offsets do not fit", i, row->name);
        if (row->shape != PN_SHAPE_ACC) c->state[x->out] = (unsigned char)(1 + segment);
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
    for (int32_t i = 0; i < s->n_code; i++) {
        static const unsigned char smooth_not[] = {PN_OP_ABS, PN_OP_SIGN, PN_OP_RELU, PN_OP_STEP, PN_OP_MAX,
                                                   PN_OP_MIN, PN_OP_LT,   PN_OP_LE,   PN_OP_EQ,   PN_OP_CALL};
        for (size_t k = 0; k < sizeof smooth_not; k++) p->switches |= s->code[i].op == smooth_not[k];
    }
    p->reads_t = p->has_call || (s->n_slots > 0 && c->uses[0] > 0);
    p->n_consts = s->n_consts;
    p->consts = copy(s->consts, (size_t)s->n_consts * sizeof *p->consts);
    p->index = copy(s->index, (size_t)s->n_index * sizeof *p->index);
    p->run = malloc(((size_t)s->n_index + 1) * sizeof *p->run);
    if (!p->consts || !p->index || !p->run) return PN_MEMORY;
    for (int32_t i = s->n_index; i-- > 0;)
        p->run[i] = i + 1 < s->n_index && (int64_t)s->index[i] + 1 == s->index[i + 1] ? p->run[i + 1] + 1 : 1;
    for (int i = 0; i < PN_N_LAYOUTS; i++) {
        pn_status st = pn_layout_make(s, c->state, c->uses, i, &p->layout[i]);
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
    for (int i = 0; i < PN_N_LAYOUTS; i++) pn_layout_free(&p->layout[i]);
    free(p->consts);
    free(p->index);
    free(p->run);
    free(p);
    *program = NULL;
}
