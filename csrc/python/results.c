/* Results of a run: a mapping with names of its own. What is said of each sample lies in one block of memory; the arrays of it are
   made when they are asked for, since a small solve takes no longer than making them. */
#include "python/pnpy.h"

#include <stddef.h>
#include <string.h>

enum { ALWAYS, WITH_LOSS };
/* Of each sample, in the order of the block: wide numbers first. */
static const struct {
    int out, typenum, when;
    npy_intp size;
    size_t member; /* of pn_problem: the pointer to it */
} reports[] = {
    {PNPY_OUT_stop_t, NPY_DOUBLE, ALWAYS, 8, offsetof(pn_problem, stop_t)},
    {PNPY_OUT_nfe, NPY_INT64, ALWAYS, 8, offsetof(pn_problem, nfe)},
    {PNPY_OUT_accepted, NPY_INT64, ALWAYS, 8, offsetof(pn_problem, accepted)},
    {PNPY_OUT_rejected, NPY_INT64, ALWAYS, 8, offsetof(pn_problem, rejected)},
    {PNPY_OUT_stiff_steps, NPY_INT64, ALWAYS, 8, offsetof(pn_problem, stiff_steps)},
    {PNPY_OUT_jacobians, NPY_INT64, ALWAYS, 8, offsetof(pn_problem, jacobians)},
    {PNPY_OUT_factorisations, NPY_INT64, ALWAYS, 8, offsetof(pn_problem, factorisations)},
    {PNPY_OUT_sample_loss, NPY_DOUBLE, WITH_LOSS, 8, offsetof(pn_problem, sample_loss)},
    {PNPY_OUT_sample_weight, NPY_DOUBLE, WITH_LOSS, 8, offsetof(pn_problem, sample_weight)},
    {PNPY_OUT_status, NPY_INT32, ALWAYS, 4, offsetof(pn_problem, status)},
    {PNPY_OUT_stop_component, NPY_INT32, ALWAYS, 4, offsetof(pn_problem, stop_component)},
};
enum { N_REPORTS = sizeof reports / sizeof reports[0] };
_Static_assert((int)N_REPORTS == (int)PNPY_N_REPORTS, "pnpy.h counts the reports");

pnpy_results *pnpy_results_new(const pnpy_state *state) { return (pnpy_results *)PyType_GenericAlloc(state->results_type, 0); }

/* Memory for the reports of a run, but for those that there are already. */
int pnpy_results_report(pnpy_results *self, pn_problem *p) {
    const npy_intp n = (npy_intp)p->n;
    const int there_is[] = {1, p->loss != PN_LOSS_NONE};
    npy_intp size = 0;
    for (int i = 0; i < N_REPORTS; i++) {
        const int there = there_is[reports[i].when];
        self->at[i] = there && !self->out[reports[i].out] ? size : -1;
        if (there) size += n * reports[i].size;
    }
    self->n = n;
    self->block = PyArray_ZEROS(1, &size, NPY_UINT8, 0);
    if (!self->block) return -1;
    for (int i = 0; i < N_REPORTS; i++) {
        if (self->at[i] < 0) continue;
        void *data = PyArray_BYTES((PyArrayObject *)self->block) + self->at[i];
        memcpy((char *)p + reports[i].member, &data, sizeof data);
    }
    return 0;
}

/* The array of report i, made of its part of the block. */
static PyObject *report_array(const pnpy_results *self, int i) {
    PyArray_Descr *type = PyArray_DescrFromType(reports[i].typenum);
    char *data = PyArray_BYTES((PyArrayObject *)self->block) + self->at[i];
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, type, 1, &self->n, NULL, data, NPY_ARRAY_CARRAY, NULL);
    if (array && PyArray_SetBaseObject((PyArrayObject *)array, Py_NewRef(self->block)) < 0) Py_CLEAR(array);
    return array;
}

static int64_t stride_of(const pn_problem *p) { return p->dense ? 2 + ((int64_t)p->tableau->dense_degree + 1) * p->d : 2; }

/* (all records (total, stride), offsets (n + 1)) */
PyObject *pnpy_collect_steps(const pn_problem *p) {
    const int64_t stride = stride_of(p), n = p->n;
    const npy_intp n_offsets = (npy_intp)n + 1;
    PyObject *records = NULL, *result = NULL, *offsets = PyArray_SimpleNew(1, &n_offsets, NPY_INT64);
    if (!offsets) goto done;
    int64_t *offset = PyArray_DATA((PyArrayObject *)offsets);
    offset[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t count = p->steps[i].record ? p->steps[i].n : 0;
        if (count < 0 || __builtin_add_overflow(offset[i], count, &offset[i + 1])) {
            PyErr_SetString(PyExc_OverflowError, "too many steps");
            goto done;
        }
    }
    const npy_intp shape[2] = {(npy_intp)offset[n], (npy_intp)stride};
    records = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
    if (!records) goto done;
    double *to = PyArray_DATA((PyArrayObject *)records);
    for (int64_t i = 0; i < n; i++) {
        const int64_t count = offset[i + 1] - offset[i];
        if (count) memcpy(to + offset[i] * stride, p->steps[i].record, (size_t)(count * stride) * sizeof *to);
    }
    result = PyTuple_Pack(2, records, offsets);
done:
    Py_XDECREF(records);
    Py_XDECREF(offsets);
    return result;
}

/* Number of a name, -1 if it is none. */
static int number_of(PyObject *obj, PyObject *name) {
    const pnpy_state *state = PyType_GetModuleState(Py_TYPE(obj));
    for (int i = 0; i < PNPY_N_OUTS; i++)
        if (name == state->out_names[i]) return i;
    for (int i = 0; PyUnicode_Check(name) && i < PNPY_N_OUTS; i++)
        if (PyUnicode_Compare(name, state->out_names[i]) == 0) return i;
    return -1;
}

static int report_of(const pnpy_results *self, int out) {
    for (int i = 0; self->block && i < N_REPORTS; i++)
        if (reports[i].out == out && self->at[i] >= 0) return i;
    return -1;
}

/* Borrowed; NULL without an exception if there is none of that number. */
PyObject *pnpy_results_get(pnpy_results *self, int out) {
    if (out < 0 || self->out[out]) return out < 0 ? NULL : self->out[out];
    const int i = report_of(self, out);
    return i < 0 ? NULL : (self->out[out] = report_array(self, i));
}

static PyObject *subscript(PyObject *obj, PyObject *name) {
    PyObject *value = pnpy_results_get((pnpy_results *)obj, number_of(obj, name));
    if (!value && !PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, name);
    return Py_XNewRef(value);
}

static int set_subscript(PyObject *obj, PyObject *name, PyObject *value) {
    const int i = number_of(obj, name);
    if (i < 0 || !value) {
        if (i < 0)
            PyErr_SetObject(PyExc_KeyError, name);
        else
            PyErr_SetString(PyExc_TypeError, "a result cannot be deleted");
        return -1;
    }
    PyObject **place = &((pnpy_results *)obj)->out[i], *old = *place;
    *place = Py_NewRef(value);
    Py_XDECREF(old);
    return 0;
}

static int has(const pnpy_results *self, int i) { return i >= 0 && (self->out[i] || report_of(self, i) >= 0); }

static int contains(PyObject *obj, PyObject *name) { return has((pnpy_results *)obj, number_of(obj, name)); }

static Py_ssize_t length(PyObject *obj) {
    Py_ssize_t n = 0;
    for (int i = 0; i < PNPY_N_OUTS; i++) n += has((pnpy_results *)obj, i);
    return n;
}

static PyObject *keys(PyObject *obj, PyObject *unused) {
    const pnpy_state *state = PyType_GetModuleState(Py_TYPE(obj));
    PyObject *list = PyList_New(0);
    (void)unused;
    for (int i = 0; list && i < PNPY_N_OUTS; i++)
        if (has((pnpy_results *)obj, i) && PyList_Append(list, state->out_names[i]) < 0) Py_CLEAR(list);
    return list;
}

static PyObject *iter(PyObject *obj) {
    PyObject *list = keys(obj, NULL), *it = list ? PyObject_GetIter(list) : NULL;
    Py_XDECREF(list);
    return it;
}

static PyObject *get(PyObject *obj, PyObject *const *args, Py_ssize_t n_args) {
    if (n_args < 1 || n_args > 2) {
        PyErr_Format(PyExc_TypeError, "get() takes a name and a default, %zd arguments were given", n_args);
        return NULL;
    }
    PyObject *value = pnpy_results_get((pnpy_results *)obj, number_of(obj, args[0]));
    if (!value && PyErr_Occurred()) return NULL;
    return Py_NewRef(value ? value : n_args > 1 ? args[1] : Py_None);
}

/* Copies and pickles: all arrays, through a dict. */
static PyObject *reduce(PyObject *obj, PyObject *unused) {
    PyObject *dict = PyDict_New(), *result = NULL;
    (void)unused;
    if (dict && PyDict_Update(dict, obj) == 0) result = Py_BuildValue("O(O)", Py_TYPE(obj), dict);
    Py_XDECREF(dict);
    return result;
}

static PyObject *results_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    static const char *const accepted[] = {"", NULL};
    PyObject *dict, *name, *value, *obj;
    Py_ssize_t at = 0;
    if (!PyArg_ParseTupleAndKeywords(args, names, "O!", (char **)(void *)accepted, &PyDict_Type, &dict)) return NULL;
    obj = PyType_GenericAlloc(type, 0);
    while (obj && PyDict_Next(dict, &at, &name, &value))
        if (set_subscript(obj, name, value) < 0) Py_CLEAR(obj);
    return obj;
}

static void dealloc(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    pnpy_results *self = (pnpy_results *)obj;
    PyObject_GC_UnTrack(obj);
    for (int i = 0; i < PNPY_N_OUTS; i++) Py_CLEAR(self->out[i]);
    Py_CLEAR(self->block);
    PyObject_GC_Del(obj);
    Py_DECREF(type);
}

static int traverse(PyObject *obj, visitproc visit, void *arg) {
    pnpy_results *self = (pnpy_results *)obj;
    for (int i = 0; i < PNPY_N_OUTS; i++) Py_VISIT(self->out[i]);
    Py_VISIT(self->block);
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static int clear(PyObject *obj) {
    pnpy_results *self = (pnpy_results *)obj;
    for (int i = 0; i < PNPY_N_OUTS; i++) Py_CLEAR(self->out[i]);
    return 0;
}

static PyMethodDef results_methods[] = {
    {"keys", keys, METH_NOARGS, "keys($self, /)\n--\n\nNames of the results that there are."},
    {"get", (PyCFunction)(void (*)(void))get, METH_FASTCALL,
     "get($self, name, default=None, /)\n--\n\nThe result of that name, or the default."},
    {"__reduce__", reduce, METH_NOARGS, NULL},
    {0},
};

static PyType_Slot results_slots[] = {
    {Py_tp_new, results_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, results_methods},
    {Py_tp_iter, iter},
    {Py_mp_length, length},
    {Py_mp_subscript, subscript},
    {Py_mp_ass_subscript, set_subscript},
    {Py_sq_contains, contains},
    {Py_tp_doc, "Results(results, /)\n--\n\nWhat Problem.run found: a mapping with fixed names."},
    {0, NULL},
};

PyType_Spec pnpy_results_spec = {
    .name = "pynode._core.Results",
    .basicsize = sizeof(pnpy_results),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = results_slots,
};
