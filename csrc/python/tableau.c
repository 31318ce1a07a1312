/* Tableau: a Runge-Kutta method made in Python, an immutable, checked table. tableaus(): those of the core as dicts. */
#include "python/pnpy.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* ---- a table as a dict ------------------------------------------------------------------------------------- */
/* (rows, cols) of a table whose rows are `pitch` apart; one dimension if cols is 0 */
static PyObject *trimmed(const double *data, int rows, int cols, int pitch) {
    const npy_intp shape[2] = {rows, cols};
    PyObject *array = PyArray_SimpleNew(cols ? 2 : 1, shape, NPY_DOUBLE);
    if (!array) return NULL;
    double *to = PyArray_DATA((PyArrayObject *)array);
    if (!cols) memcpy(to, data, (size_t)rows * sizeof *to);
    for (int i = 0; cols && i < rows; i++)
        memcpy(to + (size_t)i * (size_t)cols, data + (size_t)i * (size_t)pitch, (size_t)cols * sizeof *to);
    return array;
}

static PyObject *make_row(const pn_tableau *m) {
    const int S = pn_tableau_stages(m), s = m->s;
    PyObject *array[8] = {
        trimmed(m->c, S, 0, 0),
        trimmed(&m->a[0][0], S, S, PN_MAX_STAGES),
        trimmed(m->b, s, 0, 0),
        trimmed(m->e, S, 0, 0),
        trimmed(m->e2, S, 0, 0),
        trimmed(&m->dense[0][0], S, m->dense_degree + 1, PN_MAX_DEGREE + 1),
        trimmed(&m->coupling[0][0], s, s, PN_MAX_CORE),
        trimmed(m->by_t, s, 0, 0),
    };
    PyObject *dict = NULL;
    int good = 1;
    for (int i = 0; i < 8; i++) good = good && array[i];
    if (good)
        dict = Py_BuildValue("{s:s,s:i,s:i,s:i,s:i,s:N,s:i,s:i,s:N,s:N,s:O,s:O,s:O,s:O,s:O,s:O,s:d,s:O,s:O,s:O,s:s,s:N}",
                             "name", m->name, "order", m->order, "error_order", m->error_order, "s", s, "n_extra", m->n_extra,
                             "error_uses_new", PyBool_FromLong(m->error_uses_new), "dense_degree", m->dense_degree,
                             "dense_order", m->dense_order, "dense_uses_new", PyBool_FromLong(m->dense_uses_new), "has_e2",
                             PyBool_FromLong(m->has_e2), "c", array[0], "a", array[1], "b", array[2], "e", array[3], "e2",
                             array[4], "dense", array[5], "gamma", m->gamma, "coupling", array[6], "by_t", array[7],
                             "any_matrix", PyBool_FromLong(m->any_matrix), "source", m->source, "second",
                             m->second ? make_row(m->second) : Py_NewRef(Py_None));
    for (int i = 0; i < 8; i++) Py_XDECREF(array[i]);
    return dict;
}

PyObject *pnpy_tableaus(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args)) {
    const int n = pn_tableau_count();
    PyObject *list = PyList_New(n);
    for (int i = 0; list && i < n; i++) {
        PyObject *row = make_row(pn_tableau_at(i));
        if (!row)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, row);
    }
    return list;
}

/* ---- Tableau ----------------------------------------------------------------------------------------------- */
/* As in the dicts, but for what follows from the coefficients: s = len(b), s + 1 + n_extra = len(c), the degree of dense
   output from its columns, and the flags. */
typedef struct { /* borrowed; NULL where not given or None */
    PyObject *name, *order, *error_order, *c, *a, *b, *e, *e2, *dense, *dense_order, *second, *source;
} given;

static int parse(PyObject *args, PyObject *kwargs, given *g) {
    static char *keywords[] = {"name", "order", "error_order", "c",      "a",      "b", "e",
                               "e2",   "dense", "dense_order", "second", "source", NULL};
    PyObject **const all[] = {&g->name, &g->order, &g->error_order, &g->c,           &g->a,      &g->b,
                              &g->e,    &g->e2,    &g->dense,       &g->dense_order, &g->second, &g->source};
    const int needed[] = {1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$OOOOOOOOOOO:Tableau", keywords, all[0], all[1], all[2], all[3], all[4],
                                     all[5], all[6], all[7], all[8], all[9], all[10], all[11]))
        return -1;
    for (int i = 0; keywords[i]; i++) {
        if (*all[i] == Py_None) *all[i] = NULL;
        if (*all[i] || !needed[i]) continue;
        PyErr_Format(PyExc_TypeError, "Tableau() needs %s", keywords[i]);
        return -1;
    }
    return 0;
}

/* The text of a string, which lives as long as that. */
static const char *text_of(PyObject *obj, const char *what) {
    Py_ssize_t size;
    if (!PyUnicode_Check(obj)) {
        pnpy_wrong_type(what, "a string", obj);
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8AndSize(obj, &size);
    if (!text || (Py_ssize_t)strlen(text) == size) return text;
    PyErr_Format(PyExc_ValueError, "%s must not contain a null character, got %R", what, obj);
    return NULL;
}

static int read_int(PyObject *obj, const char *name, int *out) {
    int64_t value = 0;
    if (obj && pnpy_integer(obj, name, INT32_MIN, INT32_MAX, &value) < 0) return -1;
    *out = (int)value;
    return 0;
}

/* An array of that shape into rows that are `pitch` apart; nothing is done where it was not given. */
static int read_array(PyObject *obj, const char *name, int ndim, const npy_intp *shape, double *to, int pitch) {
    if (!obj) return 0;
    PyArrayObject *array = pnpy_array(obj, name, NPY_DOUBLE, ndim, shape, 0);
    if (!array) return -1;
    const double *from = PyArray_DATA(array);
    const size_t rows = ndim == 2 ? (size_t)PyArray_DIM(array, 0) : 1, cols = (size_t)PyArray_DIM(array, ndim - 1);
    for (size_t i = 0; i < rows; i++) memcpy(to + i * (size_t)pitch, from + i * cols, cols * sizeof *to);
    Py_DECREF(array);
    return 0;
}

/* The length of one dimension of an array, at least `least` and at most `most`. */
static int read_length(PyObject *obj, const char *name, int ndim, npy_intp least, npy_intp most, int *out) {
    const npy_intp any[2] = {PNPY_ANY, PNPY_ANY};
    PyArrayObject *array = pnpy_array(obj, name, NPY_DOUBLE, ndim, any, 0);
    if (!array) return -1;
    const npy_intp n = PyArray_DIM(array, ndim - 1);
    Py_DECREF(array);
    if (n < least || n > most) {
        PyErr_Format(PyExc_ValueError, "%s must have between %zd and %zd %s, got %zd", name, (Py_ssize_t)least,
                     (Py_ssize_t)most, ndim == 2 ? "columns" : "entries", (Py_ssize_t)n);
        return -1;
    }
    *out = (int)n;
    return 0;
}

static int read_table(const given *g, pn_tableau *m) {
    int stages, columns;
    if (read_int(g->order, "order", &m->order) < 0 || read_int(g->error_order, "error_order", &m->error_order) < 0 ||
        read_int(g->dense_order, "dense_order", &m->dense_order) < 0)
        return -1;
    if (read_length(g->b, "b", 1, 1, PN_MAX_CORE, &m->s) < 0) return -1;
    if (read_length(g->c, "c", 1, m->s + 1, PN_MAX_STAGES, &stages) < 0) return -1;
    if (read_length(g->dense, "dense", 2, 2, PN_MAX_DEGREE + 1, &columns) < 0) return -1;
    m->n_extra = stages - 1 - m->s;
    m->dense_degree = columns - 1;
    const npy_intp core = m->s, all = stages, square[2] = {stages, stages}, dense[2] = {stages, columns};
    if (read_array(g->c, "c", 1, &all, m->c, 0) < 0 || read_array(g->b, "b", 1, &core, m->b, 0) < 0 ||
        read_array(g->e, "e", 1, &all, m->e, 0) < 0 || read_array(g->e2, "e2", 1, &all, m->e2, 0) < 0)
        return -1;
    if (read_array(g->a, "a", 2, square, &m->a[0][0], PN_MAX_STAGES) < 0) return -1;
    return read_array(g->dense, "dense", 2, dense, &m->dense[0][0], PN_MAX_DEGREE + 1);
}

static PyObject *tableau_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    given g = {0};
    char message[PN_MESSAGE];
    if (parse(args, kwargs, &g) < 0) return NULL;
    if (g.second && !Py_IS_TYPE(g.second, type)) {
        pnpy_wrong_type("second", "a Tableau or None", g.second);
        return NULL;
    }
    pnpy_tableau *self = (pnpy_tableau *)PyType_GenericAlloc(type, 0); /* zeroed */
    if (!self) return NULL;
    self->name = Py_NewRef(g.name);
    self->source = Py_XNewRef(g.source);
    self->second = Py_XNewRef(g.second);
    pn_tableau *m = &self->table;
    m->second = g.second ? &((pnpy_tableau *)g.second)->table : NULL;
    m->name = text_of(self->name, "name");
    m->source = self->source ? text_of(self->source, "source") : "";
    if (!m->name || !m->source || read_table(&g, m) < 0) goto bad;
    if (pn_tableau_check(m, message, sizeof message)) return (PyObject *)self;
    PyErr_Format(PyExc_ValueError, "%s", message); /* which may end within a character */
bad:
    Py_DECREF(self);
    return NULL;
}

/* It refers to strings and to a Tableau that was there before it: no cycle runs through it. */
static void tableau_dealloc(PyObject *obj) {
    pnpy_tableau *self = (pnpy_tableau *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    Py_CLEAR(self->name);
    Py_CLEAR(self->source);
    Py_CLEAR(self->second);
    PyObject_Free(obj);
    Py_DECREF(type);
}

static PyObject *tableau_repr(PyObject *obj) { return PyUnicode_FromFormat("<Tableau %R>", ((pnpy_tableau *)obj)->name); }

static PyObject *tableau_row(PyObject *obj, PyObject *Py_UNUSED(args)) { return make_row(&((pnpy_tableau *)obj)->table); }

static PyMemberDef tableau_members[] = {
    {"name", T_OBJECT_EX, offsetof(pnpy_tableau, name), READONLY, "The name."},
    {"second", T_OBJECT, offsetof(pnpy_tableau, second), READONLY, "The table of the second half of the state, or None."},
    {0},
};

static PyMethodDef tableau_methods[] = {
    {"row", tableau_row, METH_NOARGS, "row($self, /)\n--\n\nThe table as a dict, as in tableaus()."},
    {0},
};

static PyType_Slot tableau_slots[] = {
    {Py_tp_new, tableau_new},
    {Py_tp_dealloc, tableau_dealloc},
    {Py_tp_repr, tableau_repr},
    {Py_tp_members, tableau_members},
    {Py_tp_methods, tableau_methods},
    {Py_tp_doc,
     "Tableau(name, *, order, error_order=0, c, a, b, e=None, e2=None, dense, dense_order, second=None, source='')\n\n"
     "A Runge-Kutta method, checked and ready to be a Problem's. The arrays: csrc/method/tableau.h."},
    {0, NULL},
};

PyType_Spec pnpy_tableau_spec = {
    .name = "pynode._core.Tableau",
    .basicsize = sizeof(pnpy_tableau),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tableau_slots,
};
