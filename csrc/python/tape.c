/* Tape: what Problem.run(..., tape=) keeps of a solve, for Problem.back. */
#include "python/pnpy.h"

#include <string.h>

void pnpy_tape_clear(pnpy_tape *self) {
    Py_CLEAR(self->of);
    Py_CLEAR(self->results);
    Py_CLEAR(self->theta);
    Py_CLEAR(self->y0);
}

static PyObject *tape_clear(PyObject *obj, PyObject *unused) {
    (void)unused;
    pnpy_tape *self = (pnpy_tape *)obj;
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "tape: another thread is using it");
        return NULL;
    }
    pnpy_tape_clear(self);
    return Py_NewRef(Py_None);
}

static PyMethodDef tape_methods[] = {
    {"clear", tape_clear, METH_NOARGS,
     "clear($self, /)\n--\n\nLet go of the run that filled it and of its arrays; the tape's own memory stays, for the next "
     "run."},
    {0},
};

static PyObject *tape_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    static const char *const accepted[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, names, "", (char **)(void *)accepted)) return NULL;
    pnpy_tape *self = (pnpy_tape *)PyType_GenericAlloc(type, 0);
    if (self && !(self->tapes = pn_tapes_create())) {
        Py_CLEAR(self);
        PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void dealloc(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    pnpy_tape *self = (pnpy_tape *)obj;
    pnpy_tape_clear(self);
    if (self->tapes) pn_tapes_destroy(&self->tapes);
    PyObject_Free(obj);
    Py_DECREF(type);
}

static PyType_Slot tape_slots[] = {
    {Py_tp_new, tape_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, tape_methods},
    {Py_tp_doc,
     "Tape()\n--\n\nWhat a run keeps for its gradient: Problem.run(theta, gradient='discrete', tape=), then Problem.back."},
    {0, NULL},
};

PyType_Spec pnpy_tape_spec = {
    .name = "pynode._core.Tape",
    .basicsize = sizeof(pnpy_tape),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tape_slots,
};
