/* Problem: the programs, and whether they fit together. */
#include "python/problem.h"

static int64_t length_of(const int64_t *lengths, int n) { return n > 0 ? lengths[0] : 0; }

static int optional(int32_t size, int32_t expected) { return size == 0 || size == expected; }

int pnpy_take_programs(pnpy_problem *self, const pnpy_given *g, const pnpy_state *state) {
    PyObject *field = g->field, *reverse = g->reverse;
    if (!field || !Py_IS_TYPE(field, state->program_type) || (reverse && !Py_IS_TYPE(reverse, state->program_type))) {
        PyErr_SetString(PyExc_TypeError, "field must be a Program, reverse a Program or None");
        return -1;
    }
    self->field = (pnpy_program *)Py_NewRef(field);
    self->reverse = (pnpy_program *)Py_XNewRef(reverse);
    for (int i = 0; i < PNPY_N_PARTS; i++) {
        if (g->part[i] && !Py_IS_TYPE(g->part[i], state->program_type)) {
            PyErr_Format(PyExc_TypeError, "%s must be a Program or None", pnpy_part_names[i]);
            return -1;
        }
        self->part[i] = (pnpy_program *)Py_XNewRef(g->part[i]);
    }
    self->problem.field = self->field->program;
    self->problem.reverse = reverse ? self->reverse->program : NULL;
    return 0;
}

/* A field is f(t, y, u; theta); its reverse also takes a seed and gives [f, s f_y, s f_t, s f_u], see docs/program.md. */
int pnpy_check_programs(pnpy_problem *self) {
    const pnpy_program *f = self->field, *r = self->reverse;
    pn_problem *p = &self->problem;
    const char *wrong = NULL;
    const int32_t d = p->d;
    if (f->n_slots != 3 || f->slot_size[0] != 1)
        wrong = "field: the slots must be t (1), y (d) and u (m)";
    else if (f->slot_size[1] != d)
        wrong = "field: the state has not as many features as y0";
    else if (f->n_outputs < 1 || !optional(f->output_size[0], d))
        wrong = "field: output 0 must have the size of y";
    else if (f->n_spaces > 1 || f->n_grads > 1)
        wrong = "field: more than one parameter vector or gradient";
    p->m = f->slot_size[2];
    self->n_theta = length_of(f->n_theta, f->n_spaces);
    if (!wrong && r) {
        const int32_t *slot = r->slot_size, *out = r->output_size;
        if (r->n_slots != 4 || slot[0] != 1 || slot[1] != d || slot[2] != p->m || slot[3] != d)
            wrong = "reverse: the slots must be t (1), y (d), u (m) and the seed (d)";
        else if (r->n_outputs != 4 || !optional(out[0], d) || !optional(out[1], d) || !optional(out[2], 1) ||
                 !optional(out[3], p->m))
            wrong = "reverse: the outputs must be f (d), s f_y (d), s f_t (1) and s f_u (m)";
        else if (r->n_spaces > 1 || length_of(r->n_theta, r->n_spaces) != self->n_theta)
            wrong = "reverse: the parameters are not those of the field";
        else if (r->n_grads > 1 || (r->n_grads == 1 && r->n_grad[0] != self->n_theta))
            wrong = "reverse: the gradient has not the length of theta";
    }
    if (!wrong) return 0;
    PyErr_SetString(PyExc_ValueError, wrong);
    return -1;
}

/* A program at save times: slots t (1), y (d), data (k), n_out results; its vjp takes a seed (n_out) too. Its parameters
   stand behind those that there are. */
static int check_part(pnpy_problem *self, int which, int32_t n_out, pn_part *part) {
    const pnpy_program *f = self->part[which], *r = self->part[which + 1];
    const char *name = pnpy_part_names[which], *wrong = NULL;
    const int32_t d = self->problem.d;
    if (!f && r) wrong = "its vjp is given, but not the program itself";
    if (!f && !r) return 0;
    if (wrong) {
    } else if (f->n_slots != 3 || f->slot_size[0] != 1 || f->slot_size[1] != d)
        wrong = "the slots must be t (1), y (d) and the data (k)";
    else if (f->n_outputs < 1 || !optional(f->output_size[0], n_out))
        wrong = "output 0 has the wrong size: d for a jump, 1 for a loss";
    else if (f->n_spaces > 1 || f->n_grads > 1)
        wrong = "more than one parameter vector or gradient";
    else if (f->has_call || (r && r->has_call))
        wrong = "a callback cannot be run at save times";
    else if (r) {
        const int32_t *slot = r->slot_size, *out = r->output_size, k = f->slot_size[2];
        if (r->n_slots != 4 || slot[0] != 1 || slot[1] != d || slot[2] != k || slot[3] != n_out)
            wrong = "the slots of its vjp must be t (1), y (d), the data (k) and the seed";
        else if (r->n_outputs != 4 || !optional(out[0], n_out) || !optional(out[1], d) || !optional(out[2], 1) ||
                 !optional(out[3], k))
            wrong = "the outputs of its vjp must be the value and the cotangents of y, t and the data";
        else if (r->n_spaces > 1 || length_of(r->n_theta, r->n_spaces) != length_of(f->n_theta, f->n_spaces) ||
                 (r->n_grads == 1 && r->n_grad[0] != length_of(f->n_theta, f->n_spaces)) || r->n_grads > 1)
            wrong = "the parameters of its vjp are not its own";
    }
    if (wrong) {
        PyErr_Format(PyExc_ValueError, "%s: %s", name, wrong);
        return -1;
    }
    const int64_t n = length_of(f->n_theta, f->n_spaces);
    *part = (pn_part){.program = f->program, .reverse = r ? r->program : NULL, .offset = self->n_theta, .k = f->slot_size[2]};
    if (__builtin_add_overflow(self->n_theta, n, &self->n_theta)) {
        PyErr_SetString(PyExc_ValueError, "too many parameters");
        return -1;
    }
    return 0;
}

int pnpy_check_parts(pnpy_problem *self, const pnpy_given *g) {
    pn_problem *p = &self->problem;
    const char *wrong = NULL;
    if (check_part(self, PNPY_JUMP, p->d, &p->jump) < 0 || check_part(self, PNPY_LOSS, 1, &p->loss_part) < 0) return -1;
    if (!p->jump.program && g->array[PNPY_jump_data])
        wrong = "jump_data belongs to a jump";
    else if (p->jump.program && p->jump.k == 0 && g->array[PNPY_jump_data])
        wrong = "jump_data: the jump takes no data";
    else if (p->jump.program && (p->lambda > 0 || g->array[PNPY_jump_add] || self->want_quadrature))
        wrong = "a jump needs coupling = 0 and does not go with jump_set, jump_add or quadrature";
    else if (p->loss == PN_LOSS_PROGRAM && !p->loss_part.program)
        wrong = "loss='program' needs loss_program";
    else if (p->loss == PN_LOSS_PROGRAM && p->loss_part.k == 0 && g->array[PNPY_target])
        wrong = "target: the loss program takes none";
    else if (p->loss == PN_LOSS_PROGRAM && g->array[PNPY_weight])
        wrong = "weight belongs to the built-in losses";
    if (!wrong) return 0;
    PyErr_SetString(PyExc_ValueError, wrong);
    return -1;
}

int pnpy_check_wishes(const pnpy_problem *self) {
    const pnpy_program *f = self->field;
    const char *wrong = NULL;
    if (self->want_quadrature && f->n_grads != 1) wrong = "quadrature: the field accumulates nothing";
    if (self->want_quadrature_coef) {
        if (!self->want_quadrature)
            wrong = "quadrature_coef comes with quadrature only";
        else if (f->n_outputs < 4 || !optional(f->output_size[3], self->problem.m))
            wrong = "quadrature_coef: output 3 of the field must be the cotangent of u (m)";
        else if (self->problem.m == 0)
            wrong = "quadrature_coef: the field has no inputs";
        else if (self->shared_segments)
            wrong = "quadrature_coef: samples must not share segments of the inputs";
    }
    if (!wrong) return 0;
    PyErr_SetString(PyExc_ValueError, wrong);
    return -1;
}
