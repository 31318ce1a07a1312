/* The CPython/NumPy wrapper of the core: what its files share.

   module.c    the module, its state, instruction sets, threads, tables (OPS, STATUS, tableaus)
   arrays.c    anything array-like -> a checked, C-contiguous NumPy array
   callback.c  from C back into Python: fields that are Python callables, signals, status -> exception
   program.c   Program and evaluate()
   tableau.c   Tableau and tableaus()
   problem*.c  Problem: has everything checked once by the core, keeps its own copy of every array (problem.h)
   fits.c      Problem.fits: whether it serves another call
   run.c       Problem.run: one solve
   results.c   Results: what a run returns
   tape.c      Tape: what a run keeps, so that its gradient can be asked for later
   xla*.c      solves for programs that XLA compiled (xla_call.h)

   Rules. Every function either succeeds or sets a Python exception. A Program and a Problem do not change after their
   construction, a run keeps all it changes in its own frame, and the two settings of the module are atomic; so several
   threads may run one Problem at a time. Py_mod_gil is nevertheless not declared: nobody has run the tests on a
   free-threaded interpreter yet.
   Only what the stable ABI of Python 3.11 has is used (setup.py defines Py_LIMITED_API), so that one build serves all
   later versions; its functions in place of macros cost a call some tens of nanoseconds. */
#ifndef PNPY_H
#define PNPY_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdio.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL pnpy_array_api
#ifndef PNPY_IMPORT_ARRAY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stdatomic.h>

#include "pynode.h"

/* ---- names, interned once ---------------------------------------------------------------------------------- */
/* clang-format off */
#define PNPY_RUN_ARGUMENTS(X)                                                                                          \
    X(theta) X(y0) X(target) X(weight) X(data) X(g_y) X(gradient) X(wrt_y0) X(wrt_t) X(wrt_inputs) X(wrt_data)           \
    X(wrt_target) X(sensitivity) X(memory) X(callback) X(out) X(event) X(event_theta) X(event_direction) X(event_side)   \
    X(after) X(tape)
#define PNPY_RESULTS(X)                                                                                                \
    X(y) X(status) X(stop_t) X(stop_component) X(nfe) X(accepted) X(rejected) X(stiff_steps) X(jacobians)              \
    X(factorisations) X(sample_loss) X(sample_weight)                                                                  \
    X(g_theta) X(g_y0) X(g_t) X(g_coef) X(y_before) X(g_data) X(g_target)                                              \
    X(sensitivity) X(quadrature) X(quadrature_coef) X(steps) X(failed) X(total_loss) X(total_weight) X(isa)           \
    X(event_which) X(event_side) X(event_y) X(theta) X(y0) X(below) X(many)
/* clang-format on */
enum {
#define X(name) PNPY_ARG_##name,
    PNPY_RUN_ARGUMENTS(X)
#undef X
        PNPY_N_ARGS
};
enum {
#define X(name) PNPY_OUT_##name,
    PNPY_RESULTS(X)
#undef X
        PNPY_N_OUTS
};

/* ---- module state ------------------------------------------------------------------------------------------ */
typedef struct {
    PyTypeObject *program_type, *tableau_type, *problem_type, *results_type, *tape_type, *xla_call_type;
    PyObject *arg_names[PNPY_N_ARGS], *out_names[PNPY_N_OUTS], *isa_names[PN_N_ISA];
    atomic_int isa, threads;
} pnpy_state;

/* ---- arrays.c ---------------------------------------------------------------------------------------------- */
enum { PNPY_ANY = -1, PNPY_MAX_DIMS = 3 };

/* TypeError: what must be wanted, not the type of obj */
void pnpy_wrong_type(const char *what, const char *wanted, PyObject *obj);
/* obj as a new reference to a C-contiguous, aligned, native array of that type and shape (PNPY_ANY: any extent);
   `copy`: always memory of its own. Numbers may change their precision, never their kind. */
PyArrayObject *pnpy_array(PyObject *obj, const char *name, int typenum, int ndim, const npy_intp *shape, int copy);
const void *pnpy_as_is(PyObject *obj, int typenum, int ndim, const npy_intp *shape); /* its data if it is that already */
PyArrayObject *pnpy_vector(PyObject *obj, const char *name, int typenum, npy_intp length, int copy);
PyArrayObject *pnpy_in_a_store(PyArrayObject *vector, size_t bytes); /* a copy, in memory that is kept between calls */
/* The same for int32, where every value has to fit. */
PyArrayObject *pnpy_int32(PyObject *obj, const char *name, int ndim, const npy_intp *shape);
/* A whole number between low and high. */
int pnpy_integer(PyObject *obj, const char *name, int64_t low, int64_t high, int64_t *out);
/* An array to write to: nothing is converted. Borrowed. */
int pnpy_check_out(PyObject *obj, const char *name, int typenum, int ndim, const npy_intp *shape);
/* 1: float32, 0: anything else */
int pnpy_is_f32(PyObject *obj);

/* ---- program.c --------------------------------------------------------------------------------------------- */
typedef struct {
    PyObject_HEAD
    pn_program *program;
    int32_t n_slots, n_outputs, n_spaces, n_grads;
    int has_call;
    int32_t slot_size[PN_MAX_SLOTS], output_size[PN_MAX_OUTPUTS]; /* output size 0: identically zero */
    int64_t n_theta[PN_MAX_SPACES], n_grad[PN_MAX_SPACES];
} pnpy_program;

extern PyType_Spec pnpy_program_spec;
PyObject *pnpy_evaluate(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *names);
PyObject *pnpy_evaluate_row(PyObject *module, PyObject *const *args, Py_ssize_t n_args);

/* ---- tableau.c --------------------------------------------------------------------------------------------- */
typedef struct {
    PyObject_HEAD
    pn_tableau table;                 /* its strings are those of name and source, its second table that of second */
    PyObject *name, *source, *second; /* the latter two may be NULL */
} pnpy_tableau;

extern PyType_Spec pnpy_tableau_spec;
PyObject *pnpy_tableaus(PyObject *module, PyObject *args);

/* ---- problem.c, fits.c, run.c -------------------------------------------------------------------------------------- */
/* The arrays that a Problem keeps, each its own copy. */
enum {
    PNPY_y0,
    PNPY_t,
    PNPY_t_start,
    PNPY_t_len,
    PNPY_row,
    PNPY_knot,
    PNPY_knot_start,
    PNPY_knot_len,
    PNPY_seg_start,
    PNPY_cross_knots,
    PNPY_coef,
    PNPY_atol,
    PNPY_grid,
    PNPY_grid_start,
    PNPY_grid_len,
    PNPY_stops,
    PNPY_jump_set,
    PNPY_jump_add,
    PNPY_jump_data,
    PNPY_target,
    PNPY_weight,
    PNPY_mass,
    PNPY_mass_inverse,
    PNPY_pattern,
    PNPY_N_KEPT
};

/* The programs at save times, those of the Jacobian, those of pn_hoisted. */
enum {
    PNPY_JUMP,
    PNPY_JUMP_REVERSE,
    PNPY_LOSS,
    PNPY_LOSS_REVERSE,
    PNPY_JACOBIAN,
    PNPY_JACOBIAN_REVERSE,
    PNPY_ONCE,
    PNPY_ONCE_REVERSE,
    PNPY_REST,
    PNPY_REST_REVERSE,
    PNPY_N_PARTS
};

typedef struct {
    PyObject_HEAD
    pn_problem problem; /* what does not change from run to run */
    pnpy_program *field, *reverse, *part[PNPY_N_PARTS];
    pnpy_tableau *tableau; /* NULL: the method is one of the core */
    pn_pattern *pattern;   /* or NULL */
    PyArrayObject *kept[PNPY_N_KEPT];
    int f32;
    int rows_gap;     /* some rows belong to no sample */
    int shared_times; /* all samples have all of t */
    int want_quadrature, want_quadrature_coef, want_steps;
} pnpy_problem;

extern PyType_Spec pnpy_problem_spec;
PyObject *pnpy_problem_fits(PyObject *self, PyObject *const *args, Py_ssize_t n_args);
PyObject *pnpy_problem_takes(PyObject *self, PyObject *theta);
PyObject *pnpy_problem_run(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *names);
PyObject *pnpy_problem_back(PyObject *self, PyObject *const *args, Py_ssize_t n_args);
int pnpy_took_many(const pn_problem *p); /* some sample took so many steps that it is worth looking why */
int pnpy_is_below(const pn_problem *p, int f32);

/* ---- results.c --------------------------------------------------------------------------------------------- */
enum { PNPY_N_REPORTS = 11 };
typedef struct {
    PyObject_HEAD
    PyObject *out[PNPY_N_OUTS]; /* NULL: there is none, or it is in the block still */
    PyObject *block;            /* what is said of n samples; the reports begin at byte `at`, -1: not there */
    npy_intp n, at[PNPY_N_REPORTS];
} pnpy_results;

extern PyType_Spec pnpy_results_spec;
pnpy_results *pnpy_results_new(const pnpy_state *state);
int pnpy_results_report(pnpy_results *self, pn_problem *p);
PyObject *pnpy_results_get(pnpy_results *self, int out);
PyObject *pnpy_collect_steps(const pn_problem *p); /* (records, offsets) */

/* ---- tape.c ------------------------------------------------------------------------------------------------ */
typedef struct {
    PyObject_HEAD
    pn_tapes *tapes;
    pn_problem problem; /* of the run that filled it, whose arrays the references below keep */
    pnpy_problem *of;   /* NULL: empty */
    pnpy_results *results;
    PyArrayObject *theta, *y0;
    int busy; /* a run uses it */
} pnpy_tape;

extern PyType_Spec pnpy_tape_spec;
void pnpy_tape_clear(pnpy_tape *self); /* the references */

/* ---- callback.c -------------------------------------------------------------------------------------------- */
/* What a solve needs to get back into Python. The exception that stopped it is kept here until the GIL is back. */
typedef struct {
    PyObject *callable;       /* borrowed, or NULL */
    int32_t size[4];          /* of the slots t, y, u, seed */
    int32_t jacobian_size[4]; /* of the programs of the Jacobian */
    PyObject *type, *value, *traceback;
    int stopped;
    int64_t last_poll; /* ns */
} pnpy_context;

int pnpy_call(void *context, int which, int n_active, const double *t, const double *y, const double *u, const double *seed,
              double *out, int n_out);
int pnpy_poll(void *context);
int pnpy_check_callable(PyObject *obj, int needed, PyObject **callable);
/* 0 if ok; else -1, with the exception of this status set. Needs the GIL. */
int pnpy_raise(pn_status status, pnpy_context *context, const char *message);
#endif
