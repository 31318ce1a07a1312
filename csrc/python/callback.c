/* From C back into Python: fields that are Python callables, signals, and status -> exception. */
#include "python/pnpy.h"

#include <string.h>
#include <time.h>

enum { POLL_NS = 20000000 }; /* look for a signal every 20 ms: taking the GIL may wait for other threads */

/* Keep the exception that is set: the frame that raised it may not be the one that reports it. */
static int stop(pnpy_context *c) {
    PyErr_Fetch(&c->type, &c->value, &c->traceback);
    c->stopped = 1;
    return 1;
}

/* (n, size) doubles as an array of Python's own, None where there is nothing */
static PyObject *wrap(const double *data, int n, int32_t size, int ndim) {
    npy_intp shape[2] = {n, size};
    if (!data || size == 0) Py_RETURN_NONE;
    PyObject *array = PyArray_SimpleNew(ndim, shape, NPY_DOUBLE);
    if (array) memcpy(PyArray_DATA((PyArrayObject *)array), data, (size_t)n * (size_t)size * sizeof(double));
    return array;
}

/* callable(which, t, y, u, seed) -> (n_active, n_out) */
int pnpy_call(void *context, int which, int n_active, const double *t, const double *y, const double *u, const double *seed,
              double *out, int n_out) {
    pnpy_context *c = context;
    if (c->stopped) return 1;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *args[6] = {NULL}, *result = NULL;
    PyArrayObject *array = NULL;
    npy_intp shape[2] = {n_active, n_out};
    const int32_t *size = which < PN_CALL_JACOBIAN ? c->size : c->jacobian_size;
    int failed = 1;

    args[1] = PyLong_FromLong(which);
    args[2] = wrap(t, n_active, 1, 1);
    args[3] = wrap(y, n_active, size[1], 2);
    args[4] = wrap(u, n_active, size[2], 2);
    args[5] = wrap(which % 2 ? seed : NULL, n_active, size[3], 2); /* the field itself and its Jacobian have none */
    for (int i = 1; i < 6; i++)
        if (!args[i]) goto done;
    result = PyObject_CallFunctionObjArgs(c->callable, args[1], args[2], args[3], args[4], args[5], NULL);
    if (!result) goto done;
    array = pnpy_array(result, "the result of the callback", NPY_DOUBLE, 2, shape, 0);
    if (!array) goto done;
    memcpy(out, PyArray_DATA(array), (size_t)n_active * (size_t)n_out * sizeof(double));
    failed = 0;
done:
    if (failed) failed = stop(c);
    Py_XDECREF((PyObject *)array);
    Py_XDECREF(result);
    for (int i = 1; i < 6; i++) Py_XDECREF(args[i]);
    PyGILState_Release(gil);
    return failed;
}

int pnpy_poll(void *context) {
    pnpy_context *c = context;
    struct timespec now;
    if (c->stopped) return 1;
    if (timespec_get(&now, TIME_UTC) != TIME_UTC) return 0;
    const int64_t ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (c->last_poll == 0) c->last_poll = ns;
    if (ns >= c->last_poll && ns - c->last_poll < POLL_NS) return 0;
    c->last_poll = ns;
    PyGILState_STATE gil = PyGILState_Ensure();
    const int stopped = PyErr_CheckSignals() < 0 ? stop(c) : 0;
    PyGILState_Release(gil);
    return stopped;
}

/* None or a callable; `needed`: the program contains a CALL */
int pnpy_check_callable(PyObject *obj, int needed, PyObject **callable) {
    *callable = NULL;
    if (obj && obj != Py_None) {
        if (!PyCallable_Check(obj)) {
            pnpy_wrong_type("callback", "callable", obj);
            return -1;
        }
        *callable = obj;
    }
    if (needed && !*callable) {
        PyErr_SetString(PyExc_ValueError, "the program calls back into Python: give callback=");
        return -1;
    }
    return 0;
}

enum { RAISE_None, RAISE_SolveError, RAISE_MemoryError, RAISE_ValueError };

int pnpy_raise(pn_status status, pnpy_context *c, const char *message) {
    static const unsigned char raises[] = {
#define PN_STATUS(name, exception, text) RAISE_##exception,
#include "status.def"
    };
    if (c && c->stopped) { /* whatever the core made of it */
        PyErr_Restore(c->type, c->value, c->traceback);
        c->type = c->value = c->traceback = NULL;
        return -1;
    }
    if (status == PN_OK) return 0;
    if (!message || !*message) message = pn_status_message(status);
    switch ((unsigned)status < PN_N_STATUS ? raises[status] : RAISE_SolveError) {
    case RAISE_MemoryError: PyErr_NoMemory(); break;
    case RAISE_ValueError: PyErr_SetString(PyExc_ValueError, message); break;
    default: PyErr_Format(PyExc_RuntimeError, "%s: %s", pn_status_name(status), message);
    }
    return -1;
}
