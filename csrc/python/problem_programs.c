/* Problem: the programs. */
#include "python/problem.h"

static int64_t length_of(const int64_t *lengths, int n) { return n > 0 ? lengths[0] : 0; }

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

/* A program at save times; its parameters stand behind those that there are. */
static int read_part(pnpy_problem *self, int which, pn_part *part) {
    const pnpy_program *f = self->part[which], *r = self->part[which + 1];
    pn_problem *p = &self->problem;
    *part = (pn_part){.reverse = r ? r->program : NULL, .offset = p->n_theta};
    if (!f) return 0;
    part->program = f->program;
    part->k = f->slot_size[2];
    if (!__builtin_add_overflow(p->n_theta, length_of(f->n_theta, f->n_spaces), &p->n_theta)) return 0;
    PyErr_SetString(PyExc_ValueError, "too many parameters");
    return -1;
}

static const pn_program *program_of(const pnpy_problem *self, int which) {
    return self->part[which] ? self->part[which]->program : NULL;
}

int pnpy_read_programs(pnpy_problem *self) {
    const pnpy_program *f = self->field;
    pn_problem *p = &self->problem;
    p->m = f->slot_size[2];
    p->n_theta = length_of(f->n_theta, f->n_spaces);
    p->jacobian = program_of(self, PNPY_JACOBIAN);
    p->jacobian_reverse = program_of(self, PNPY_JACOBIAN_REVERSE);
    p->hoisted = (pn_hoisted){.once = program_of(self, PNPY_ONCE),
                              .once_reverse = program_of(self, PNPY_ONCE_REVERSE),
                              .rest = program_of(self, PNPY_REST),
                              .rest_reverse = program_of(self, PNPY_REST_REVERSE)};
    return read_part(self, PNPY_JUMP, &p->jump) < 0 || read_part(self, PNPY_LOSS, &p->loss_part) < 0 ? -1 : 0;
}
