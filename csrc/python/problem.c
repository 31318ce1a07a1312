/* Problem: everything about a solve that does not change from run to run, checked once by the core. */
#include "python/problem.h"

#include <stddef.h>
#include <structmember.h>

/* ---- the arguments ----------------------------------------------------------------------------------------- */
const char *const pnpy_array_names[PNPY_N_KEPT] = {
    "y0",        "t",           "t_start",   "t_len",  "row",    "knot",       "knot_start",   "knot_len",
    "seg_start", "cross_knots", "coef",      "atol",   "grid",   "grid_start", "grid_len",     "stops",
    "jump_set",  "jump_add",    "jump_data", "target", "weight", "mass",       "mass_inverse", "pattern",
};
const char *const pnpy_part_names[PNPY_N_PARTS] = {"jump",     "jump_reverse",     "loss_program", "loss_reverse",
                                                   "jacobian", "jacobian_reverse", "once",         "once_reverse",
                                                   "rest",     "rest_reverse"};
static const char *const other_names[PNPY_N_OTHER] = {"method",          "loss",  "threads", "max_steps",    "quadrature",
                                                      "quadrature_coef", "steps", "stiff",   "jacobian_cost"};

static PyObject **place_of(pnpy_given *g, PyObject *key) {
    for (int i = 0; i < PNPY_N_KEPT; i++)
        if (!PyUnicode_CompareWithASCIIString(key, pnpy_array_names[i])) return &g->array[i];
    for (int i = 0; i < PNPY_N_REALS; i++)
        if (!PyUnicode_CompareWithASCIIString(key, pnpy_reals[i].name)) return &g->real[i];
    for (int i = 0; i < PNPY_N_FLAGS; i++)
        if (!PyUnicode_CompareWithASCIIString(key, pnpy_flags[i].name)) return &g->flag[i];
    for (int i = 0; i < PNPY_N_OTHER; i++)
        if (!PyUnicode_CompareWithASCIIString(key, other_names[i])) return &g->other[i];
    for (int i = 0; i < PNPY_N_PARTS; i++)
        if (!PyUnicode_CompareWithASCIIString(key, pnpy_part_names[i])) return &g->part[i];
    return NULL;
}

static int sort_keywords(PyObject *kwargs, pnpy_given *g) {
    PyObject *key, *value;
    for (Py_ssize_t i = 0; kwargs && PyDict_Next(kwargs, &i, &key, &value);) {
        PyObject **place = place_of(g, key);
        if (!PyUnicode_CompareWithASCIIString(key, "field")) place = &g->field;
        if (!PyUnicode_CompareWithASCIIString(key, "reverse")) place = &g->reverse;
        if (!place) {
            PyErr_Format(PyExc_TypeError, "Problem() has no argument %R", key);
            return -1;
        }
        if (*place) {
            PyErr_Format(PyExc_TypeError, "Problem() got the argument %R twice", key);
            return -1;
        }
        if (value != Py_None) *place = value;
    }
    return 0;
}

/* ---- the type ---------------------------------------------------------------------------------------------- */
static PyObject *problem_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const pnpy_state *state = PyType_GetModuleState(type);
    const Py_ssize_t n_args = PyTuple_Size(args);
    pnpy_given g = {0};
    if (!state) return NULL;
    if (n_args > 2) {
        PyErr_SetString(PyExc_TypeError, "Problem(field, reverse=None, *, ...) takes two positional arguments at most");
        return NULL;
    }
    if (n_args > 0) g.field = PyTuple_GetItem(args, 0);
    if (n_args > 1) g.reverse = PyTuple_GetItem(args, 1);
    if (sort_keywords(kwargs, &g) < 0) return NULL;
    if (g.reverse == Py_None) g.reverse = NULL;
    pnpy_problem *self = (pnpy_problem *)PyType_GenericAlloc(type, 0); /* zeroed */
    if (!self) return NULL;
    pn_problem_init(&self->problem);
    if (pnpy_take_programs(self, &g, state) < 0 || pnpy_take_state(self, &g) < 0 || pnpy_read_programs(self) < 0 ||
        pnpy_read_scalars(self, &g, state) < 0 || pnpy_take_arrays(self, &g) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int problem_traverse(PyObject *obj, visitproc visit, void *arg) {
    pnpy_problem *self = (pnpy_problem *)obj;
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->field);
    Py_VISIT(self->reverse);
    Py_VISIT(self->tableau);
    for (int i = 0; i < PNPY_N_PARTS; i++) Py_VISIT(self->part[i]);
    for (int i = 0; i < PNPY_N_KEPT; i++) Py_VISIT(self->kept[i]);
    return 0;
}

/* No tp_clear: a Problem is immutable and its arrays, programs and table refer to nothing, so no cycle runs through it. */
static void problem_dealloc(PyObject *obj) {
    pnpy_problem *self = (pnpy_problem *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    Py_CLEAR(self->field);
    Py_CLEAR(self->reverse);
    Py_CLEAR(self->tableau);
    for (int i = 0; i < PNPY_N_PARTS; i++) Py_CLEAR(self->part[i]);
    for (int i = 0; i < PNPY_N_KEPT; i++) Py_CLEAR(self->kept[i]);
    pn_pattern_destroy(&self->pattern);
    PyObject_GC_Del(obj);
    Py_DECREF(type);
}

static PyMemberDef problem_members[] = {
    {"field", T_OBJECT, offsetof(pnpy_problem, field), READONLY, "The field, a Program."},
    {"reverse", T_OBJECT, offsetof(pnpy_problem, reverse), READONLY, "Its vjp, a Program or None."},
    {"tableau", T_OBJECT, offsetof(pnpy_problem, tableau), READONLY, "The method, where that is a Tableau, or None."},
    {"n", T_LONGLONG, offsetof(pnpy_problem, problem) + offsetof(pn_problem, n), READONLY, "Number of samples."},
    {"d", T_INT, offsetof(pnpy_problem, problem) + offsetof(pn_problem, d), READONLY, "Features of the state."},
    {"m", T_INT, offsetof(pnpy_problem, problem) + offsetof(pn_problem, m), READONLY, "Number of inputs."},
    {"rows", T_LONGLONG, offsetof(pnpy_problem, problem) + offsetof(pn_problem, rows), READONLY, "Rows of the result."},
    {"n_theta", T_LONGLONG, offsetof(pnpy_problem, problem) + offsetof(pn_problem, n_theta), READONLY, "Number of parameters."},
    {0},
};

static PyMethodDef problem_methods[] = {
    {"takes", pnpy_problem_takes, METH_O,
     "takes($self, theta, /)\n--\n\nWhether theta can go to run as it is: right type and length, all finite."},
    {"fits", (PyCFunction)(void (*)(void))pnpy_problem_fits, METH_FASTCALL,
     "fits($self, single, theta, y0, t, target=None, /)\n--\n\nWhether run(theta, y0=y0, target=target) does what a new "
     "problem of these arrays would: types and shapes as they are, the same times, theta finite, target not infinite and "
     "not all NaN. single: y0 is (d,), target (T, d)."},
    {"run", (PyCFunction)(void (*)(void))pnpy_problem_run, METH_FASTCALL | METH_KEYWORDS,
     "run($self, /, theta, *, y0=None, target=None, weight=None, data=None, g_y=None, gradient='none', wrt_y0=False, "
     "wrt_t=False, wrt_inputs=False, wrt_data=False, wrt_target=False, sensitivity=False, memory=0, callback=None, "
     "out=None, event=None, event_theta=None, event_direction=None, event_side=None, after=None, "
     "tape=None)\n--\n\nSolve, and where asked differentiate."},
    {"back", (PyCFunction)(void (*)(void))pnpy_problem_back, METH_FASTCALL,
     "back($self, tape, g_y, wrt_y0=False, wrt_t=False, wrt_inputs=False, /)\n--\n\nThe gradients of a run that filled this "
     "tape."},
    {0},
};

static PyType_Slot problem_slots[] = {
    {Py_tp_new, problem_new},
    {Py_tp_dealloc, problem_dealloc},
    {Py_tp_traverse, problem_traverse},
    {Py_tp_members, problem_members},
    {Py_tp_methods, problem_methods},
    {Py_tp_doc, "Problem(field, reverse=None, *, y0, t, ...)\n\nOne solve for a batch of samples, checked and ready "
                "to run. Keywords: the members of pn_problem (csrc/pynode.h)."},
    {0, NULL},
};

PyType_Spec pnpy_problem_spec = {
    .name = "pynode._core.Problem",
    .basicsize = sizeof(pnpy_problem),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = problem_slots,
};
