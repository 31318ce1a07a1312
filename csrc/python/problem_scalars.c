/* Problem: numbers, flags, names. */
#include "python/problem.h"

#include <stddef.h>

#define AT(member) offsetof(pn_problem, member)
const pnpy_scalar pnpy_reals[PNPY_N_REALS] = {
    {"step", AT(step)},       {"first_step", AT(first_step)}, {"max_step", AT(max_step)},     {"rtol", AT(rtol)},
    {"safety", AT(safety)},   {"min_factor", AT(min_factor)}, {"max_factor", AT(max_factor)}, {"beta", AT(beta)},
    {"coupling", AT(lambda)}, {"loss_scale", AT(loss_scale)}, {"loss_dof", AT(loss_dof)},     {"stability", AT(stability)},
};
const pnpy_scalar pnpy_flags[PNPY_N_FLAGS] = {
    {"adaptive", AT(adaptive)},
    {"land", AT(land)},
    {"dense", AT(dense)},
};

static int read_real(PyObject *obj, const pnpy_scalar *s, pn_problem *p) {
    const double value = PyFloat_AsDouble(obj);
    if (value == -1.0 && PyErr_Occurred()) return -1;
    *(double *)((char *)p + s->offset) = value;
    return 0;
}

static int read_name(PyObject *obj, const char *what, const char *const *names, int n, int *out) {
    if (!PyUnicode_Check(obj)) {
        pnpy_wrong_type(what, "a string", obj);
        return -1;
    }
    for (int i = 0; i < n; i++)
        if (!PyUnicode_CompareWithASCIIString(obj, names[i])) {
            *out = i;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "unknown %s %R", what, obj);
    return -1;
}

/* A name, or a table that lives as long as the Problem. */
static int read_method(PyObject *obj, const pnpy_state *state, pnpy_problem *self) {
    pn_problem *p = &self->problem;
    if (obj && Py_IS_TYPE(obj, state->tableau_type)) {
        self->tableau = (pnpy_tableau *)Py_NewRef(obj);
        p->tableau = &self->tableau->table;
        return 0;
    }
    if (obj && !PyUnicode_Check(obj)) {
        pnpy_wrong_type("method", "a string or a Tableau", obj);
        return -1;
    }
    const char *name = obj ? PyUnicode_AsUTF8AndSize(obj, NULL) : "dopri5";
    if (!name) return -1;
    p->tableau = pn_tableau_find(name);
    if (p->tableau) return 0;
    PyErr_Format(PyExc_ValueError, "unknown method %R", obj);
    return -1;
}

/* The name of a method of the core that takes over where a sample is stiff, or nothing. */
static int read_stiff(PyObject *obj, pn_problem *p) {
    const char *name = obj ? PyUnicode_AsUTF8AndSize(obj, NULL) : NULL;
    if (!obj) return 0;
    if (!name) return -1;
    p->stiff = pn_tableau_find(name);
    if (p->stiff) return 0;
    PyErr_Format(PyExc_ValueError, "unknown method %R", obj);
    return -1;
}

static int read_flag(PyObject *obj, int *out) {
    if (!obj) return 0;
    *out = PyObject_IsTrue(obj);
    return *out < 0 ? -1 : 0;
}

int pnpy_read_scalars(pnpy_problem *self, const pnpy_given *g, const pnpy_state *state) {
    static const char *const losses[] = {"none", "squared", "absolute", "huber", "student", "program"};
    pn_problem *p = &self->problem;
    int64_t threads = 0, cost = 0;
    int loss = 0, value = 0;

    p->adaptive = !g->array[PNPY_grid];
    p->beta = 0;
    for (int i = 0; i < PNPY_N_REALS; i++)
        if (g->real[i] && read_real(g->real[i], &pnpy_reals[i], p) < 0) return -1;
    for (int i = 0; i < PNPY_N_FLAGS; i++) {
        if (!g->flag[i]) continue;
        if (read_flag(g->flag[i], &value) < 0) return -1;
        *(int32_t *)((char *)p + pnpy_flags[i].offset) = value;
    }
    if (read_method(g->other[PNPY_METHOD], state, self) < 0 || read_stiff(g->other[PNPY_STIFF], p) < 0) return -1;
    if (g->other[PNPY_LOSS_NAME] && read_name(g->other[PNPY_LOSS_NAME], "loss", losses, 6, &loss) < 0) return -1;
    if (g->other[PNPY_THREADS] && pnpy_integer(g->other[PNPY_THREADS], "threads", 0, 4096, &threads) < 0) return -1;
    if (g->other[PNPY_MAX_STEPS] && pnpy_integer(g->other[PNPY_MAX_STEPS], "max_steps", 1, INT64_MAX, &p->max_steps) < 0)
        return -1;
    if (g->other[PNPY_JACOBIAN_COST] && pnpy_integer(g->other[PNPY_JACOBIAN_COST], "jacobian_cost", 0, INT32_MAX, &cost) < 0)
        return -1;
    p->jacobian_cost = (int32_t)cost;
    p->loss = (pn_loss)loss;
    p->threads = (int32_t)threads;
    if (read_flag(g->other[PNPY_QUADRATURE], &self->want_quadrature) < 0 ||
        read_flag(g->other[PNPY_QUADRATURE_COEF], &self->want_quadrature_coef) < 0 ||
        read_flag(g->other[PNPY_STEPS], &self->want_steps) < 0)
        return -1;
    return 0;
}
