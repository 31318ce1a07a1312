/* Anything array-like -> a checked, C-contiguous NumPy array; whole numbers. */
#include "python/pnpy.h"

#include <string.h>

#include "memory.h"

void pnpy_wrong_type(const char *what, const char *wanted, PyObject *obj) {
    PyObject *name = PyType_GetName(Py_TYPE(obj));
    if (name) PyErr_Format(PyExc_TypeError, "%s must be %s, not %U", what, wanted, name);
    Py_XDECREF(name);
}

/* "(3, any)" */
static void shape_text(char *text, size_t size, int ndim, const npy_intp *shape) {
    size_t used = (size_t)snprintf(text, size, "(");
    for (int i = 0; i < ndim && used < size; i++) {
        const char *tail = i + 1 < ndim ? ", " : ndim == 1 ? "," : "";
        if (shape[i] == PNPY_ANY)
            used += (size_t)snprintf(text + used, size - used, "any%s", tail);
        else
            used += (size_t)snprintf(text + used, size - used, "%lld%s", (long long)shape[i], tail);
    }
    if (used < size) snprintf(text + used, size - used, ")");
}

static int check_shape(PyArrayObject *array, const char *name, int ndim, const npy_intp *shape) {
    char want[96], got[96];
    int good = PyArray_NDIM(array) == ndim;
    for (int i = 0; good && i < ndim; i++) good = shape[i] == PNPY_ANY || PyArray_DIM(array, i) == shape[i];
    if (good) return 0;
    shape_text(want, sizeof want, ndim, shape);
    shape_text(got, sizeof got, PyArray_NDIM(array), PyArray_DIMS(array));
    PyErr_Format(PyExc_ValueError, "%s has shape %s, expected %s", name, got, want);
    return -1;
}

static int has_shape(PyArrayObject *array, int ndim, const npy_intp *shape) {
    if (PyArray_NDIM(array) != ndim) return 0;
    for (int i = 0; i < ndim; i++)
        if (shape[i] != PNPY_ANY && PyArray_DIM(array, i) != shape[i]) return 0;
    return 1;
}

/* An empty list is an array of float64: let it be an empty array of anything. */
static int castable(PyArrayObject *array, PyArray_Descr *to) {
    return PyArray_SIZE(array) == 0 || PyArray_CanCastArrayTo(array, to, NPY_SAME_KIND_CASTING);
}

PyArrayObject *pnpy_array(PyObject *obj, const char *name, int typenum, int ndim, const npy_intp *shape, int copy) {
    PyArrayObject *array = NULL, *result = NULL;
    PyArray_Descr *descr = NULL;
    const int flags = NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_ENSUREARRAY;

    if (!copy && PyArray_CheckExact(obj)) { /* the usual case, without further ado */
        array = (PyArrayObject *)obj;
        if (PyArray_TYPE(array) == typenum && PyArray_ISCARRAY_RO(array) && has_shape(array, ndim, shape))
            return (PyArrayObject *)Py_NewRef(obj);
    }
    array = (PyArrayObject *)PyArray_FromAny(obj, NULL, 0, 0, NPY_ARRAY_ENSUREARRAY, NULL);
    if (!array) goto done;
    if (check_shape(array, name, ndim, shape) < 0) goto done;
    descr = PyArray_DescrFromType(typenum);
    if (!descr) goto done;
    if (!castable(array, descr)) {
        PyErr_Format(PyExc_TypeError, "%s has dtype %S, expected %S", name, (PyObject *)PyArray_DESCR(array),
                     (PyObject *)descr);
        goto done;
    }
    /* steals descr, also when it fails */
    result = (PyArrayObject *)PyArray_FromArray(array, descr, flags | NPY_ARRAY_FORCECAST | (copy ? NPY_ARRAY_ENSURECOPY : 0));
    descr = NULL;
done:
    Py_XDECREF((PyObject *)descr);
    Py_XDECREF((PyObject *)array);
    return result;
}

PyArrayObject *pnpy_vector(PyObject *obj, const char *name, int typenum, npy_intp length, int copy) {
    return pnpy_array(obj, name, typenum, 1, &length, copy);
}

PyArrayObject *pnpy_int32(PyObject *obj, const char *name, int ndim, const npy_intp *shape) {
    PyArrayObject *wide = NULL, *result = NULL;
    if (PyArray_Check(obj) && PyArray_TYPE((PyArrayObject *)obj) == NPY_INT32)
        return pnpy_array(obj, name, NPY_INT32, ndim, shape, 0);
    wide = pnpy_array(obj, name, NPY_INT64, ndim, shape, 0);
    if (!wide) goto done;
    const int64_t *from = PyArray_DATA(wide);
    const npy_intp size = PyArray_SIZE(wide);
    for (npy_intp i = 0; i < size; i++)
        if (from[i] < INT32_MIN || from[i] > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s: %lld does not fit in 32 bits", name, (long long)from[i]);
            goto done;
        }
    result = (PyArrayObject *)PyArray_SimpleNew(ndim, PyArray_DIMS(wide), NPY_INT32);
    if (!result) goto done;
    int32_t *to = PyArray_DATA(result);
    for (npy_intp i = 0; i < size; i++) to[i] = (int32_t)from[i];
done:
    Py_XDECREF((PyObject *)wide);
    return result;
}

int pnpy_check_out(PyObject *obj, const char *name, int typenum, int ndim, const npy_intp *shape) {
    if (!PyArray_CheckExact(obj)) {
        pnpy_wrong_type(name, "an array", obj);
        return -1;
    }
    PyArrayObject *array = (PyArrayObject *)obj;
    if (check_shape(array, name, ndim, shape) < 0) return -1;
    if (PyArray_TYPE(array) != typenum || !PyArray_ISCARRAY(array)) {
        PyErr_Format(PyExc_ValueError, "%s must be a writable, aligned, C-contiguous array of %s", name,
                     typenum == NPY_FLOAT   ? "float32"
                     : typenum == NPY_INT32 ? "int32"
                                            : "float64");
        return -1;
    }
    return 0;
}

int pnpy_is_f32(PyObject *obj) { return PyArray_Check(obj) && PyArray_TYPE((PyArrayObject *)obj) == NPY_FLOAT; }

int pnpy_integer(PyObject *obj, const char *name, int64_t low, int64_t high, int64_t *out) {
    if (!PyIndex_Check(obj)) {
        pnpy_wrong_type(name, "a whole number", obj);
        return -1;
    }
    PyObject *index = PyNumber_Index(obj);
    if (!index) return -1;
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (value == -1 && PyErr_Occurred()) return -1;
    if (overflow || value < low || value > high) {
        PyErr_Format(PyExc_ValueError, "%s must be between %lld and %lld, got %R", name, (long long)low, (long long)high, obj);
        return -1;
    }
    *out = value;
    return 0;
}

static void give_back(PyObject *capsule) {
    pn_store_give(PyCapsule_GetPointer(capsule, NULL), (size_t)PyCapsule_GetContext(capsule));
}

/* A copy of a vector in memory that is kept between calls, see pn_store_take. */
PyArrayObject *pnpy_in_a_store(PyArrayObject *vector, size_t bytes) {
    const size_t size = pn_store_size(bytes);
    void *store = pn_store_take(size);
    PyObject *owner = store ? PyCapsule_New(store, NULL, give_back) : PyErr_NoMemory(), *copy;
    if (!owner) {
        pn_store_give(store, size);
        return NULL;
    }
    PyCapsule_SetContext(owner, (void *)size);
    copy = PyArray_SimpleNewFromData(1, PyArray_DIMS(vector), PyArray_TYPE(vector), store);
    if (!copy) {
        Py_DECREF(owner);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)copy, owner) < 0) {
        Py_DECREF(copy);
        return NULL;
    }
    memcpy(store, PyArray_DATA(vector), bytes);
    return (PyArrayObject *)copy;
}
