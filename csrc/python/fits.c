/* Problem.fits: whether a problem that was made for an earlier call serves another one. A handful of cheap tests by value,
   so that an array changed in place never goes unnoticed; whoever gets False checks everything anew and says what is wrong. */
#include "python/pnpy.h"

#include <string.h>

const void *pnpy_as_is(PyObject *obj, int typenum, int ndim, const npy_intp *shape) {
    if (!PyArray_CheckExact(obj)) return NULL;
    PyArrayObject *array = (PyArrayObject *)obj;
    if (PyArray_NDIM(array) != ndim || PyArray_TYPE(array) != typenum || !PyArray_ISCARRAY_RO(array)) return NULL;
    for (int i = 0; i < ndim; i++)
        if (PyArray_DIM(array, i) != shape[i]) return NULL;
    return PyArray_DATA(array);
}

/* What there is among n numbers, by their bits: |x| is NaN above the bits of infinity. */
typedef struct {
    int nan, infinite, finite;
} kinds;

#define KINDS(name, real, bits, infinity)                                                                                      \
    static kinds name(const real *x, npy_intp n) {                                                                             \
        kinds k = {0, 0, 0};                                                                                                   \
        for (npy_intp i = 0; i < n; i++) {                                                                                     \
            bits b;                                                                                                            \
            memcpy(&b, x + i, sizeof b);                                                                                       \
            b &= (bits) - 1 >> 1;                                                                                              \
            k.nan |= b > (infinity);                                                                                           \
            k.infinite |= b == (infinity);                                                                                     \
            k.finite |= b < (infinity);                                                                                        \
        }                                                                                                                      \
        return k;                                                                                                              \
    }
KINDS(kinds_f32, float, uint32_t, UINT32_C(0x7f800000))
KINDS(kinds_f64, double, uint64_t, UINT64_C(0x7ff0000000000000))
#undef KINDS

static kinds kinds_of(int f32, const void *x, npy_intp n) { return f32 ? kinds_f32(x, n) : kinds_f64(x, n); }

/* The parameters as they are: an array of the right type and length, all finite; with `each` also a row for each sample. */
static int takes(const pnpy_problem *self, PyObject *theta, int each) {
    const npy_intp shape[2] = {(npy_intp)self->problem.n, (npy_intp)self->problem.n_theta};
    const int typenum = self->f32 ? NPY_FLOAT : NPY_DOUBLE;
    npy_intp size = shape[1];
    const void *x = pnpy_as_is(theta, typenum, 1, shape + 1);
    if (!x && each) {
        x = pnpy_as_is(theta, typenum, 2, shape);
        size *= shape[0];
    }
    if (!x) return 0;
    const kinds k = kinds_of(self->f32, x, size);
    return !k.nan && !k.infinite;
}

static int fits(const pnpy_problem *self, int single, PyObject *theta, PyObject *y0, PyObject *t, PyObject *target) {
    const pn_problem *p = &self->problem;
    const int typenum = self->f32 ? NPY_FLOAT : NPY_DOUBLE;
    const npy_intp n = (npy_intp)p->n, d = p->d;
    const npy_intp times = PyArray_DIM(self->kept[PNPY_t], 0), shape[3] = {n, times, d}, state[2] = {n, d};
    if (!self->shared_times || n == 0 || (single && n != 1)) return 0;
    if (!pnpy_as_is(y0, typenum, single ? 1 : 2, single ? &d : state)) return 0;
    const void *now = pnpy_as_is(t, NPY_DOUBLE, 1, &times);
    if (!now || memcmp(now, p->t, (size_t)times * sizeof(double)) || !takes(self, theta, !single)) return 0;
    if (target == Py_None) return 1;
    const void *x = pnpy_as_is(target, typenum, single ? 2 : 3, single ? shape + 1 : shape);
    if (!x) return 0;
    const kinds k = kinds_of(self->f32, x, n * times * d);
    return k.finite && !k.infinite;
}

PyObject *pnpy_problem_takes(PyObject *self, PyObject *theta) { return PyBool_FromLong(takes((pnpy_problem *)self, theta, 1)); }

PyObject *pnpy_problem_fits(PyObject *self, PyObject *const *args, Py_ssize_t n_args) {
    if (n_args < 4 || n_args > 5) {
        PyErr_Format(PyExc_TypeError, "fits() takes single, theta, y0, t and perhaps target; %zd arguments were given", n_args);
        return NULL;
    }
    const int single = PyObject_IsTrue(args[0]);
    if (single < 0) return NULL;
    return PyBool_FromLong(fits((pnpy_problem *)self, single, args[1], args[2], args[3], n_args > 4 ? args[4] : Py_None));
}
