/* Program: an immutable, checked program of the core. evaluate(): run one for a batch of samples. */
#include "python/pnpy.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>

/* ---- Program ----------------------------------------------------------------------------------------------- */
enum { A_SIZES, A_CODE, A_CONSTS, A_INDEX, A_OUTPUTS, A_THETA, A_GRAD, A_SEGMENTS, N_A };

static int check_counts(PyArrayObject *const *a) {
    static const char *const names[N_A] = {"sizes", "code", "consts", "index", "outputs", "n_theta", "n_grad", "segments"};
    for (int i = 0; i < N_A; i++)
        if (PyArray_DIM(a[i], 0) > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s is too long", names[i]);
            return -1;
        }
    return 0;
}

static void fill_spec(pn_program_spec *spec, PyArrayObject *const *a) {
    spec->n_reg = (int32_t)PyArray_DIM(a[A_SIZES], 0);
    spec->n_code = (int32_t)PyArray_DIM(a[A_CODE], 0);
    spec->n_consts = (int32_t)PyArray_DIM(a[A_CONSTS], 0);
    spec->n_index = (int32_t)PyArray_DIM(a[A_INDEX], 0);
    spec->n_outputs = (int32_t)PyArray_DIM(a[A_OUTPUTS], 0);
    spec->n_spaces = (int32_t)PyArray_DIM(a[A_THETA], 0);
    spec->n_grads = (int32_t)PyArray_DIM(a[A_GRAD], 0);
    spec->sizes = PyArray_DATA(a[A_SIZES]);
    spec->code = PyArray_DATA(a[A_CODE]);
    spec->consts = PyArray_DATA(a[A_CONSTS]);
    spec->index = PyArray_DATA(a[A_INDEX]);
    spec->outputs = PyArray_DATA(a[A_OUTPUTS]);
    spec->n_theta = PyArray_DATA(a[A_THETA]);
    spec->n_grad = PyArray_DATA(a[A_GRAD]);
    memcpy(spec->segments, PyArray_DATA(a[A_SEGMENTS]), sizeof spec->segments);
}

/* What the wrapper itself has to know, from a spec that the core has accepted. */
static void keep_spec(pnpy_program *self, const pn_program_spec *spec) {
    self->n_slots = spec->n_slots;
    self->n_outputs = spec->n_outputs;
    self->n_spaces = spec->n_spaces;
    self->n_grads = spec->n_grads;
    for (int i = 0; i < spec->n_slots; i++) self->slot_size[i] = spec->sizes[i];
    for (int i = 0; i < spec->n_outputs; i++) self->output_size[i] = spec->outputs[i] < 0 ? 0 : spec->sizes[spec->outputs[i]];
    for (int i = 0; i < spec->n_spaces; i++) self->n_theta[i] = spec->n_theta[i];
    for (int i = 0; i < spec->n_grads; i++) self->n_grad[i] = spec->n_grad[i];
    for (int32_t i = 0; i < spec->n_code; i++) self->has_call |= spec->code[i].op == PN_OP_CALL;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"sizes",   "n_slots", "code",     "consts", "index", "outputs",
                               "n_theta", "n_grad",  "segments", "fuse",   NULL};
    PyObject *o[N_A] = {NULL};
    PyArrayObject *a[N_A] = {NULL};
    pnpy_program *self = NULL;
    pn_program_spec spec = {.fuse = 1};
    char message[PN_MESSAGE] = "";
    const npy_intp any[2] = {PNPY_ANY, 8}, three = 3;
    int good = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OiOOOOOOO|p:Program", keywords, &o[A_SIZES], &spec.n_slots, &o[A_CODE],
                                     &o[A_CONSTS], &o[A_INDEX], &o[A_OUTPUTS], &o[A_THETA], &o[A_GRAD], &o[A_SEGMENTS],
                                     &spec.fuse))
        return NULL;
    if (!(a[A_SIZES] = pnpy_int32(o[A_SIZES], "sizes", 1, any)) || !(a[A_CODE] = pnpy_int32(o[A_CODE], "code", 2, any)) ||
        !(a[A_CONSTS] = pnpy_vector(o[A_CONSTS], "consts", NPY_DOUBLE, PNPY_ANY, 0)) ||
        !(a[A_INDEX] = pnpy_int32(o[A_INDEX], "index", 1, any)) ||
        !(a[A_OUTPUTS] = pnpy_int32(o[A_OUTPUTS], "outputs", 1, any)) ||
        !(a[A_THETA] = pnpy_vector(o[A_THETA], "n_theta", NPY_INT64, PNPY_ANY, 0)) ||
        !(a[A_GRAD] = pnpy_vector(o[A_GRAD], "n_grad", NPY_INT64, PNPY_ANY, 0)) ||
        !(a[A_SEGMENTS] = pnpy_int32(o[A_SEGMENTS], "segments", 1, &three)))
        goto done;
    if (check_counts(a) < 0) goto done;
    fill_spec(&spec, a);
    self = (pnpy_program *)PyType_GenericAlloc(type, 0); /* zeroed */
    if (!self) goto done;
    if (pnpy_raise(pn_program_create(&spec, message, &self->program), NULL, message) < 0) goto done;
    keep_spec(self, &spec);
    good = 1;
done:
    for (int i = 0; i < N_A; i++) Py_XDECREF((PyObject *)a[i]);
    if (!good) Py_CLEAR(self);
    return (PyObject *)self;
}

static void program_dealloc(PyObject *obj) {
    pnpy_program *self = (pnpy_program *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    if (self->program) pn_program_destroy(&self->program);
    PyObject_Free(obj);
    Py_DECREF(type);
}

static PyObject *tuple32(const int32_t *values, int n) {
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple && i < n; i++) {
        PyObject *value = PyLong_FromLong(values[i]);
        if (!value)
            Py_CLEAR(tuple);
        else
            PyTuple_SetItem(tuple, i, value);
    }
    return tuple;
}

static PyObject *tuple64(const int64_t *values, int n) {
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple && i < n; i++) {
        PyObject *value = PyLong_FromLongLong(values[i]);
        if (!value)
            Py_CLEAR(tuple);
        else
            PyTuple_SetItem(tuple, i, value);
    }
    return tuple;
}

static PyObject *get_slot_sizes(PyObject *obj, void *Py_UNUSED(closure)) {
    pnpy_program *self = (pnpy_program *)obj;
    return tuple32(self->slot_size, self->n_slots);
}

static PyObject *get_output_sizes(PyObject *obj, void *Py_UNUSED(closure)) {
    pnpy_program *self = (pnpy_program *)obj;
    return tuple32(self->output_size, self->n_outputs);
}

static PyObject *get_n_theta(PyObject *obj, void *Py_UNUSED(closure)) {
    pnpy_program *self = (pnpy_program *)obj;
    return tuple64(self->n_theta, self->n_spaces);
}

static PyObject *get_n_grad(PyObject *obj, void *Py_UNUSED(closure)) {
    pnpy_program *self = (pnpy_program *)obj;
    return tuple64(self->n_grad, self->n_grads);
}

static PyObject *get_has_call(PyObject *obj, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(((pnpy_program *)obj)->has_call);
}

static PyGetSetDef program_getset[] = {
    {"slot_sizes", get_slot_sizes, NULL, "Number of features of each slot.", NULL},
    {"output_sizes", get_output_sizes, NULL, "Number of features of each output, 0: identically zero.", NULL},
    {"n_theta", get_n_theta, NULL, "Lengths of the parameter vectors.", NULL},
    {"n_grad", get_n_grad, NULL, "Lengths of the gradient accumulators.", NULL},
    {"has_call", get_has_call, NULL, "Whether it calls back into Python.", NULL},
    {0},
};

static PyType_Slot program_slots[] = {
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_getset, program_getset},
    {Py_tp_doc, "Program(sizes, n_slots, code, consts, index, outputs, n_theta, n_grad, segments, fuse=True)\n--\n\n"
                "A checked program of the core, see docs/program.md. Raises ValueError if it is malformed."},
    {0, NULL},
};

PyType_Spec pnpy_program_spec = {
    .name = "pynode._core.Program",
    .basicsize = sizeof(pnpy_program),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};

/* ---- evaluate ---------------------------------------------------------------------------------------------- */
typedef struct {
    pnpy_program *program;
    pnpy_context context;
    int typenum; /* of slots, theta and outputs */
    npy_intp n;  /* samples, -1 while unknown */
    int row;     /* one sample, whose outputs are (size,) */
    double numbers[PN_MAX_SLOTS];
    const void *ready[PN_MAX_SLOTS + PN_MAX_SPACES]; /* data of slots and parameters that were taken as they are */
    PyObject *slots[PN_MAX_SLOTS], *thetas[PN_MAX_SPACES];
    PyObject *outputs[PN_MAX_OUTPUTS], *grads[PN_MAX_SPACES];
} evaluation;

static void evaluation_clear(evaluation *e) {
    for (int i = 0; i < PN_MAX_SLOTS; i++) Py_CLEAR(e->slots[i]);
    for (int i = 0; i < PN_MAX_SPACES; i++) Py_CLEAR(e->thetas[i]);
    for (int i = 0; i < PN_MAX_OUTPUTS; i++) Py_CLEAR(e->outputs[i]);
    for (int i = 0; i < PN_MAX_SPACES; i++) Py_CLEAR(e->grads[i]);
    Py_CLEAR(e->context.type);
    Py_CLEAR(e->context.value);
    Py_CLEAR(e->context.traceback);
}

/* All slots and parameters have one precision: that of the first array of floats. */
static int same_precision(evaluation *e, PyObject *obj, const char *name) {
    if (!PyArray_Check(obj)) return 0;
    const int typenum = PyArray_TYPE((PyArrayObject *)obj);
    if (typenum != NPY_FLOAT && typenum != NPY_DOUBLE) return 0;
    if (e->typenum < 0) e->typenum = typenum;
    if (e->typenum == typenum) return 0;
    PyErr_Format(PyExc_TypeError, "%s: float32 and float64 are mixed", name);
    return -1;
}

static int take_arrays(evaluation *e, PyObject *slots, PyObject *thetas) {
    const pnpy_program *p = e->program;
    char name[32];
    if (PyTuple_Size(slots) != p->n_slots || PyTuple_Size(thetas) != p->n_spaces) {
        PyErr_Format(PyExc_ValueError, "got %zd slots and %zd parameter vectors, the program has %d and %d",
                     PyTuple_Size(slots), PyTuple_Size(thetas), (int)p->n_slots, (int)p->n_spaces);
        return -1;
    }
    for (int i = 0; i < p->n_slots; i++)
        if (same_precision(e, PyTuple_GetItem(slots, i), "slots") < 0) return -1;
    for (int i = 0; i < p->n_spaces; i++)
        if (same_precision(e, PyTuple_GetItem(thetas, i), "thetas") < 0) return -1;
    if (e->typenum < 0) e->typenum = NPY_DOUBLE;
    for (int i = 0; i < p->n_slots; i++) {
        PyObject *obj = PyTuple_GetItem(slots, i);
        const npy_intp shape[2] = {e->n < 0 ? PNPY_ANY : e->n, p->slot_size[i]};
        if (p->slot_size[i] == 0 && obj == Py_None) continue;
        snprintf(name, sizeof name, "slots[%d]", i);
        e->slots[i] = (PyObject *)pnpy_array(obj, name, e->typenum, 2, shape, 0);
        if (!e->slots[i]) return -1;
        e->n = PyArray_DIM((PyArrayObject *)e->slots[i], 0);
    }
    for (int i = 0; i < p->n_spaces; i++) {
        snprintf(name, sizeof name, "thetas[%d]", i);
        e->thetas[i] = (PyObject *)pnpy_vector(PyTuple_GetItem(thetas, i), name, e->typenum, (npy_intp)p->n_theta[i], 0);
        if (!e->thetas[i]) return -1;
    }
    if (e->n < 0) e->n = 1; /* a function of theta only */
    return 0;
}

static int make_results(evaluation *e) {
    const pnpy_program *p = e->program;
    for (int i = 0; i < p->n_outputs; i++) {
        const npy_intp shape[2] = {e->n, p->output_size[i]};
        e->outputs[i] = shape[1] ? PyArray_ZEROS(2 - e->row, shape + e->row, e->typenum, 0) : Py_NewRef(Py_None);
        if (!e->outputs[i]) return -1;
    }
    for (int i = 0; i < p->n_grads; i++) {
        const npy_intp length = (npy_intp)p->n_grad[i];
        e->grads[i] = PyArray_ZEROS(1, &length, NPY_DOUBLE, 0);
        if (!e->grads[i]) return -1;
    }
    return 0;
}

static void *data_or_null(PyObject *obj) { return obj && obj != Py_None ? PyArray_DATA((PyArrayObject *)obj) : NULL; }

static int execute(evaluation *e, pn_isa isa) {
    const pnpy_program *p = e->program;
    const void *slots[PN_MAX_SLOTS] = {NULL}, *thetas[PN_MAX_SPACES] = {NULL};
    void *outputs[PN_MAX_OUTPUTS] = {NULL};
    double *grads[PN_MAX_SPACES] = {NULL};
    const int f32 = e->typenum == NPY_FLOAT;
    pn_status status = PN_OK;

    for (int i = 0; i < p->n_slots; i++) slots[i] = e->row ? e->ready[i] : p->slot_size[i] ? data_or_null(e->slots[i]) : NULL;
    for (int i = 0; i < p->n_spaces; i++) thetas[i] = e->row ? e->ready[PN_MAX_SLOTS + i] : data_or_null(e->thetas[i]);
    for (int i = 0; i < p->n_outputs; i++) outputs[i] = data_or_null(e->outputs[i]);
    for (int i = 0; i < p->n_grads; i++) grads[i] = data_or_null(e->grads[i]);
    if (e->n == 0) return 0;
    if (e->context.callable) {
        for (int i = 0; i < 4; i++) e->context.size[i] = e->context.jacobian_size[i] = i < p->n_slots ? p->slot_size[i] : 0;
        status = pn_evaluate(p->program, f32, isa, e->n, slots, thetas, outputs, grads, pnpy_call, &e->context);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        status = pn_evaluate(p->program, f32, isa, e->n, slots, thetas, outputs, grads, NULL, NULL);
        Py_END_ALLOW_THREADS;
    }
    return pnpy_raise(status, &e->context, NULL);
}

static PyObject *list_of(PyObject *const *items, int n) {
    PyObject *list = PyList_New(n);
    for (int i = 0; list && i < n; i++) PyList_SetItem(list, i, Py_NewRef(items[i]));
    return list;
}

static PyObject *results_of(const evaluation *e) {
    PyObject *outputs = list_of(e->outputs, e->program->n_outputs), *result = NULL;
    PyObject *grads = outputs ? list_of(e->grads, e->program->n_grads) : NULL;
    if (grads) result = PyTuple_Pack(2, outputs, grads);
    Py_XDECREF(grads);
    Py_XDECREF(outputs);
    return result;
}

/* evaluate(program, slots, thetas, callback=None) */
PyObject *pnpy_evaluate(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *names) {
    pnpy_state *state = PyModule_GetState(module);
    PyObject *slots = NULL, *thetas = NULL, *result = NULL;
    PyObject *callback = n_args > 3 ? args[3] : NULL;
    evaluation e = {.typenum = -1, .n = -1};
    const Py_ssize_t n_names = names ? PyTuple_Size(names) : 0;

    if (n_args < 3 || n_args + n_names > 4 ||
        (n_names && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "callback"))) {
        PyErr_SetString(PyExc_TypeError, "expected evaluate(program, slots, thetas, callback=None)");
        return NULL;
    }
    if (n_names) callback = args[n_args];
    if (!Py_IS_TYPE(args[0], state->program_type)) {
        pnpy_wrong_type("program", "a Program", args[0]);
        return NULL;
    }
    e.program = (pnpy_program *)args[0];
    if (pnpy_check_callable(callback, e.program->has_call, &e.context.callable) < 0) return NULL;
    /* tuples: converting an item may run Python, which could shorten a list */
    slots = PySequence_Tuple(args[1]);
    thetas = slots ? PySequence_Tuple(args[2]) : NULL;
    if (!thetas) goto done;
    if (take_arrays(&e, slots, thetas) < 0 || make_results(&e) < 0) goto done;
    if (execute(&e, (pn_isa)atomic_load(&state->isa)) < 0) goto done;
    result = results_of(&e);
done:
    Py_XDECREF(slots);
    Py_XDECREF(thetas);
    evaluation_clear(&e);
    return result;
}

/* Slot i of one sample as it is: an array of doubles, a number where the size is 1, None where it is 0. */
static int take_slot(evaluation *e, int i, PyObject *obj) {
    const npy_intp size = e->program->slot_size[i];
    if (size == 0) return obj == Py_None;
    if (size > 1 || PyArray_CheckExact(obj)) return (e->ready[i] = pnpy_as_is(obj, NPY_DOUBLE, 1, &size)) != NULL;
    int over = 0;
    if (!PyFloat_Check(obj) && !PyLong_CheckExact(obj)) return 0;
    e->numbers[i] = PyFloat_Check(obj) ? PyFloat_AsDouble(obj) : (double)PyLong_AsLongLongAndOverflow(obj, &over);
    e->ready[i] = e->numbers + i;
    return !over;
}

/* evaluate_row(program, slots, thetas): tuples, whose items keep what is read alive */
PyObject *pnpy_evaluate_row(PyObject *module, PyObject *const *args, Py_ssize_t n_args) {
    const pnpy_state *state = PyModule_GetState(module);
    evaluation e = {.typenum = NPY_DOUBLE, .n = 1, .row = 1};
    PyObject *result = NULL;
    if (n_args != 3 || !Py_IS_TYPE(args[0], state->program_type) || !PyTuple_CheckExact(args[1]) ||
        !PyTuple_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "expected evaluate_row(program, slots, thetas), two tuples");
        return NULL;
    }
    const pnpy_program *p = e.program = (pnpy_program *)args[0];
    int good = !p->has_call && PyTuple_Size(args[1]) == p->n_slots && PyTuple_Size(args[2]) == p->n_spaces;
    for (int i = 0; good && i < p->n_slots; i++) good = take_slot(&e, i, PyTuple_GetItem(args[1], i));
    for (int i = 0; good && i < p->n_spaces; i++) {
        PyObject *theta = PyTuple_GetItem(args[2], i);
        const npy_intp size = (npy_intp)p->n_theta[i];
        if (size || theta != Py_None) good = (e.ready[PN_MAX_SLOTS + i] = pnpy_as_is(theta, NPY_DOUBLE, 1, &size)) != NULL;
    }
    if (!good) return Py_NewRef(Py_None);
    if (make_results(&e) == 0 && execute(&e, (pn_isa)atomic_load(&state->isa)) == 0) result = results_of(&e);
    evaluation_clear(&e);
    return result;
}
