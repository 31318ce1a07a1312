/* XLA's foreign function interface: call frames of compiled programs to pnpy_xla_run. The header comes with jaxlib (PNPY_XLA: it
   is there). XLA promises to support a version of it for a year at least. */
#include "python/xla_call.h"

#ifndef PNPY_XLA

PyObject *pnpy_xla_handlers(PyObject *module, PyObject *minor) {
    (void)module, (void)minor;
    return PyDict_New();
}

#else
#include <string.h>

#include <xla/ffi/api/c_api.h>

static XLA_FFI_Error *failed(const XLA_FFI_CallFrame *frame, XLA_FFI_Error_Code code, const char *message) {
    XLA_FFI_Error_Create_Args args = {.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = message, .errc = code};
    return frame->api->XLA_FFI_Error_Create(&args);
}

/* The version of the interface that handlers speak: that of the header, or an earlier one, where all that is used here was the same. */
enum { EARLIEST_MINOR = 1 };
static int64_t spoken = XLA_FFI_API_MINOR;

/* What XLA asks when a handler is registered. */
static int says_version(const XLA_FFI_CallFrame *frame) {
    if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata) return 0;
    XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
    metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    metadata->api_version.minor_version = (int)spoken;
    return 1;
}

/* A whole number among the attributes. */
static int attribute(const XLA_FFI_CallFrame *frame, const char *name, int64_t *value) {
    const XLA_FFI_Attrs *attrs = &frame->attrs;
    for (int64_t i = 0; i < attrs->size; i++) {
        if (attrs->names[i]->len != strlen(name) || memcmp(attrs->names[i]->ptr, name, strlen(name))) continue;
        const XLA_FFI_Scalar *scalar = attrs->attrs[i];
        if (attrs->types[i] != XLA_FFI_AttrType_SCALAR || scalar->dtype != XLA_FFI_DataType_S64) return -1;
        memcpy(value, scalar->value, sizeof *value);
        return 0;
    }
    return -1;
}

static int is(const XLA_FFI_Buffer *b, XLA_FFI_DataType dtype, int64_t rank, const int64_t *dims) {
    return b->dtype == dtype && b->rank == rank && !memcmp(b->dims, dims, (size_t)rank * sizeof *dims);
}

/* Data of a buffer: never NULL, where it is empty either. */
static void *data_of(const XLA_FFI_Buffer *b) {
    static double nothing[1];
    return b->data ? b->data : nothing;
}

/* y0, t, theta[, g] -> y or g_y0, g_theta; 0 where they fit together. */
static int take(const XLA_FFI_CallFrame *frame, int back, pnpy_xla_arrays *a) {
    if (frame->args.size != 3 + back || frame->rets.size != 1 + back) return -1;
    XLA_FFI_Buffer *const *in = (XLA_FFI_Buffer *const *)frame->args.args, *const *out =
                                                                               (XLA_FFI_Buffer *const *)frame->rets.rets;
    const XLA_FFI_Buffer *y0 = in[0], *t = in[1], *theta = in[2];
    const XLA_FFI_DataType type = y0->dtype;
    if (type != XLA_FFI_DataType_F32 && type != XLA_FFI_DataType_F64) return -1;
    if (y0->rank != 2 || t->rank != 2 || (theta->rank != 1 && theta->rank != 2)) return -1;
    *a = (pnpy_xla_arrays){.f32 = type == XLA_FFI_DataType_F32,
                           .theta_each = theta->rank == 2,
                           .n = y0->dims[0],
                           .d = y0->dims[1],
                           .times = t->dims[1],
                           .n_theta = theta->dims[theta->rank - 1],
                           .y0 = data_of(y0),
                           .t = data_of(t),
                           .theta = data_of(theta)};
    const int64_t saved[2] = {a->n, a->times}, each[2] = {a->n, a->n_theta}, states[3] = {a->n, a->times, a->d};
    if (a->n < 1 || !is(t, type, 2, saved) || !is(theta, type, theta->rank, each + !a->theta_each)) return -1;
    if (!back) {
        a->y = data_of(out[0]);
        return is(out[0], type, 3, states) ? 0 : -1;
    }
    a->g = data_of(in[3]);
    a->g_y0 = data_of(out[0]);
    a->g_theta = data_of(out[1]);
    return is(in[3], type, 3, states) && is(out[0], type, 2, y0->dims) && is(out[1], type, theta->rank, theta->dims) ? 0 : -1;
}

static XLA_FFI_Error *handle(const XLA_FFI_CallFrame *frame, int back) {
    char message[PNPY_XLA_MESSAGE];
    pnpy_xla_arrays a;
    int64_t number, keep;
    if (says_version(frame)) return NULL;
    if (frame->stage != XLA_FFI_ExecutionStage_EXECUTE) return NULL;
    if (take(frame, back, &a) < 0 || attribute(frame, "number", &number) < 0 || attribute(frame, "keep", &keep) < 0)
        return failed(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT, "pynode.jax: arrays or attributes of a call do not fit");
    a.keep = keep != 0;
    if (pnpy_xla_run(number, &a, message) == 0) return NULL;
    return failed(frame, XLA_FFI_Error_Code_INTERNAL, message);
}

static XLA_FFI_Error *solve(XLA_FFI_CallFrame *frame) { return handle(frame, 0); }

static XLA_FFI_Error *back(XLA_FFI_CallFrame *frame) { return handle(frame, 1); }

static int add(PyObject *handlers, const char *name, XLA_FFI_Handler *handler) {
    void *pointer;
    _Static_assert(sizeof pointer == sizeof handler, "capsules hold pointers to functions");
    memcpy(&pointer, &handler, sizeof pointer);
    PyObject *capsule = PyCapsule_New(pointer, NULL, NULL);
    const int status = capsule ? PyDict_SetItemString(handlers, name, capsule) : -1;
    Py_XDECREF(capsule);
    return status;
}

PyObject *pnpy_xla_handlers(PyObject *module, PyObject *minor) {
    int64_t wanted;
    (void)module;
    if (pnpy_integer(minor, "minor", 0, INT32_MAX, &wanted) < 0) return NULL;
    PyObject *handlers = PyDict_New();
    if (wanted < EARLIEST_MINOR) return handlers;
    spoken = wanted < XLA_FFI_API_MINOR ? wanted : XLA_FFI_API_MINOR;
    if (handlers && (add(handlers, "solve", solve) < 0 || add(handlers, "backward", back) < 0)) Py_CLEAR(handlers);
    return handlers;
}
#endif
