/* Problem.run: one solve. Everything that a run changes lives in its own frame. */
#include "python/pnpy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

typedef struct {
    const pnpy_problem *self;
    pn_problem problem;
    pnpy_context context;
    int f32;
    pn_isa isa;
    PyObject *given[PNPY_N_ARGS]; /* borrowed, NULL where not given or None */
    PyArrayObject *in[PNPY_N_ARGS];
    pnpy_results *results;
    PyObject **out; /* those of results */
    pn_steps *steps;
    pnpy_tape *tape; /* borrowed, or NULL; busy with this run */
} run;

static void run_clear(run *r) {
    if (r->tape) r->tape->busy = 0;
    for (int i = 0; i < PNPY_N_ARGS; i++) Py_CLEAR(r->in[i]);
    Py_CLEAR(r->results);
    Py_CLEAR(r->context.type);
    Py_CLEAR(r->context.value);
    Py_CLEAR(r->context.traceback);
    if (r->steps)
        for (int64_t i = 0; i < r->problem.n; i++) free(r->steps[i].record);
    free(r->steps);
}

/* ---- arguments --------------------------------------------------------------------------------------------- */
static int parse(const pnpy_state *state, run *r, PyObject *const *args, Py_ssize_t n_args, PyObject *names) {
    const Py_ssize_t n_names = names ? PyTuple_Size(names) : 0;
    if (n_args > 1) {
        PyErr_Format(PyExc_TypeError, "run() takes one positional argument, theta; %zd were given", n_args);
        return -1;
    }
    if (n_args == 1) r->given[PNPY_ARG_theta] = args[0];
    for (Py_ssize_t i = 0; i < n_names; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        int k = 0;
        while (k < PNPY_N_ARGS && name != state->arg_names[k]) k++; /* both are interned, as a rule */
        if (k == PNPY_N_ARGS)
            for (k = 0; k < PNPY_N_ARGS && PyUnicode_Compare(name, state->arg_names[k]); k++) {
            }
        if (k == PNPY_N_ARGS || (k == PNPY_ARG_theta && n_args)) {
            PyErr_Format(PyExc_TypeError, k == PNPY_N_ARGS ? "run() has no argument %R" : "run() got %R twice", name);
            return -1;
        }
        r->given[k] = args[n_args + i];
    }
    for (int i = 0; i < PNPY_N_ARGS; i++)
        if (r->given[i] == Py_None) r->given[i] = NULL;
    if (r->given[PNPY_ARG_theta]) return 0;
    PyErr_SetString(PyExc_TypeError, "run() needs theta");
    return -1;
}

static int flag(const run *r, int which, int *out) {
    *out = r->given[which] ? PyObject_IsTrue(r->given[which]) : 0;
    return *out < 0 ? -1 : 0;
}

static int parse_gradient(run *r) {
    static const char *const names[] = {"none", "discrete", "reversible"};
    PyObject *obj = r->given[PNPY_ARG_gradient];
    r->problem.gradient = PN_GRAD_NONE;
    if (!obj) return 0;
    for (int i = 0; PyUnicode_Check(obj) && i < 3; i++)
        if (!PyUnicode_CompareWithASCIIString(obj, names[i])) {
            r->problem.gradient = (pn_gradient)i;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "gradient must be 'none', 'discrete' or 'reversible', got %R", obj);
    return -1;
}

static int parse_memory(run *r) {
    PyObject *obj = r->given[PNPY_ARG_memory];
    if (!obj) return 0;
    PyObject *index = PyNumber_Index(obj);
    if (!index) return -1;
    r->problem.memory = PyLong_AsLongLong(index);
    Py_DECREF(index);
    if (r->problem.memory == -1 && PyErr_Occurred()) return -1;
    if (r->problem.memory >= 0) return 0;
    PyErr_SetString(PyExc_ValueError, "memory must not be negative (0: no limit)");
    return -1;
}

/* A copy: other Python threads may write to the array while the solve runs. */
static const void *take(run *r, int which, const char *name, int ndim, const npy_intp *shape, const void *otherwise) {
    if (!r->given[which]) return otherwise;
    r->in[which] = pnpy_array(r->given[which], name, r->f32 ? NPY_FLOAT : NPY_DOUBLE, ndim, shape, 1);
    return r->in[which] ? PyArray_DATA(r->in[which]) : NULL;
}

/* Theta: another large block would go back to the system after each call, and fault its pages in again at the next. */
static const void *take_theta(run *r, const npy_intp *n_theta) {
    const size_t bytes = (size_t)*n_theta * (r->f32 ? sizeof(float) : sizeof(double));
    if (bytes < PN_SMALL_STORE || bytes > PN_STORE) return take(r, PNPY_ARG_theta, "theta", 1, n_theta, NULL);
    PyArrayObject *given = pnpy_array(r->given[PNPY_ARG_theta], "theta", r->f32 ? NPY_FLOAT : NPY_DOUBLE, 1, n_theta, 0);
    if (!given) return NULL;
    r->in[PNPY_ARG_theta] = pnpy_in_a_store(given, bytes);
    Py_DECREF((PyObject *)given);
    return r->in[PNPY_ARG_theta] ? PyArray_DATA(r->in[PNPY_ARG_theta]) : NULL;
}

/* An array (rows, d) of one row a sample or a saved entry: also as (d,) for one sample, or as (samples, times, d). */
static const void *take_rows(run *r, int which, const char *name, npy_intp rows, const void *otherwise) {
    const npy_intp n = (npy_intp)r->problem.n, d = r->problem.d, shape[2] = {rows, d};
    PyObject *obj = r->given[which];
    if (obj && PyArray_CheckExact(obj)) {
        PyArrayObject *array = (PyArrayObject *)obj;
        const int ndim = PyArray_NDIM(array);
        const npy_intp *dims = PyArray_DIMS(array);
        const int fits = (ndim == 1 && rows == 1 && dims[0] == d) ||
                         (ndim == 3 && dims[0] == n && dims[0] * dims[1] == rows && dims[2] == d);
        if (fits && PyArray_TYPE(array) == (r->f32 ? NPY_FLOAT : NPY_DOUBLE) && PyArray_ISCARRAY_RO(array)) {
            r->in[which] = (PyArrayObject *)PyArray_NewCopy(array, NPY_CORDER);
            return r->in[which] ? PyArray_DATA(r->in[which]) : NULL;
        }
    }
    return take(r, which, name, 2, shape, otherwise);
}

static int take_arrays(run *r) {
    pn_problem *p = &r->problem;
    const npy_intp rows = (npy_intp)r->problem.rows, n_theta[2] = {(npy_intp)p->n, (npy_intp)p->n_theta};
    PyObject *theta = r->given[PNPY_ARG_theta];
    p->theta_each = PyArray_Check(theta) && PyArray_NDIM((PyArrayObject *)theta) == 2;
    p->theta = p->theta_each ? take(r, PNPY_ARG_theta, "theta", 2, n_theta, NULL) : take_theta(r, n_theta + 1);
    if (!p->theta) return -1;
    p->y0 = take_rows(r, PNPY_ARG_y0, "y0", (npy_intp)p->n, p->y0);
    if (!p->y0) return -1;
    const npy_intp loss_rows[2] = {rows, p->loss_part.k ? p->loss_part.k : PNPY_ANY};
    const npy_intp jump_rows[2] = {rows, p->jump.k ? p->jump.k : PNPY_ANY};
    p->target = p->loss == PN_LOSS_PROGRAM ? take(r, PNPY_ARG_target, "target", 2, loss_rows, p->target)
                                           : take_rows(r, PNPY_ARG_target, "target", rows, p->target);
    if (!p->target && r->given[PNPY_ARG_target]) return -1;
    p->loss_part.data = p->target;
    p->jump.data = take(r, PNPY_ARG_data, "data", 2, jump_rows, p->jump.data);
    if (!p->jump.data && r->given[PNPY_ARG_data]) return -1;
    p->weight = take_rows(r, PNPY_ARG_weight, "weight", rows, p->weight);
    if (!p->weight && r->given[PNPY_ARG_weight]) return -1;
    p->g_y = take_rows(r, PNPY_ARG_g_y, "g_y", rows, NULL);
    if (!p->g_y && r->given[PNPY_ARG_g_y]) return -1;
    return 0;
}

/* An earlier result of this problem with the same theta, whose samples only jumped: the way back begins there. */
static int take_after(const pnpy_state *state, run *r) {
    pn_problem *p = &r->problem;
    PyObject *after = r->given[PNPY_ARG_after];
    const npy_intp shape[2] = {(npy_intp)r->problem.rows, p->d}, n = (npy_intp)p->n;
    if (!after) return 0;
    pnpy_results *given = Py_IS_TYPE(after, state->results_type) ? (pnpy_results *)after : NULL;
    PyObject *before = given ? pnpy_results_get(given, PNPY_OUT_y_before) : NULL;
    PyObject *status = before ? pnpy_results_get(given, PNPY_OUT_status) : NULL;
    if (!before || !status || !p->jump.program || p->gradient != PN_GRAD_DISCRETE || !p->g_y) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError,
                            "after must be the result of a run of this problem, which jumps; it goes with g_y");
        return -1;
    }
    if (pnpy_check_out(before, "y_before", r->f32 ? NPY_FLOAT : NPY_DOUBLE, 2, shape) < 0 ||
        pnpy_check_out(status, "status", NPY_INT32, 1, &n) < 0)
        return -1;
    p->solved = 1;
    p->y_before = PyArray_DATA((PyArrayObject *)(r->out[PNPY_OUT_y_before] = Py_NewRef(before)));
    p->status = PyArray_DATA((PyArrayObject *)(r->out[PNPY_OUT_status] = Py_NewRef(status)));
    return 0;
}

static int borrow_tape(run *r, pnpy_tape *tape) {
    if (tape->busy) {
        PyErr_SetString(PyExc_RuntimeError, "tape: another thread is using it");
        return -1;
    }
    tape->busy = 1;
    r->tape = tape;
    r->problem.tapes = tape->tapes;
    return 0;
}

/* Where the way back comes later. */
static int take_tape(const pnpy_state *state, run *r) {
    PyObject *tape = r->given[PNPY_ARG_tape];
    if (!tape) return 0;
    if (!Py_IS_TYPE(tape, state->tape_type)) {
        pnpy_wrong_type("tape", "a Tape", tape);
        return -1;
    }
    if (borrow_tape(r, (pnpy_tape *)tape) < 0) return -1;
    pnpy_tape_clear(r->tape);
    return 0;
}

/* What the way back will need lives as long as the tape. */
static void fill_tape(run *r) {
    pnpy_tape *tape = r->tape;
    if (!tape) return;
    tape->problem = r->problem;
    tape->problem.steps = NULL;
    tape->of = (pnpy_problem *)Py_NewRef((PyObject *)r->self);
    tape->results = (pnpy_results *)Py_NewRef((PyObject *)r->results);
    tape->theta = (PyArrayObject *)Py_XNewRef((PyObject *)r->in[PNPY_ARG_theta]);
    tape->y0 = (PyArrayObject *)Py_XNewRef((PyObject *)r->in[PNPY_ARG_y0]);
}

/* The programs whose sign changes end a sample; see pn_problem. */
static int take_events(const pnpy_state *state, run *r) {
    pn_problem *p = &r->problem;
    PyObject *event = r->given[PNPY_ARG_event];
    if (!event) return 0;
    if (!Py_IS_TYPE(event, state->program_type)) {
        PyErr_SetString(PyExc_TypeError, "event must be a Program");
        return -1;
    }
    const pnpy_program *program = (pnpy_program *)event;
    const npy_intp n_theta = program->n_spaces > 0 ? (npy_intp)program->n_theta[0] : 0, n_events = program->output_size[0];
    const npy_intp sides[2] = {(npy_intp)p->n, n_events}, states[3] = {(npy_intp)p->n, 2, p->d}, n = (npy_intp)p->n;
    p->event = program->program;
    const npy_intp each[2] = {n, n_theta};
    p->event_theta = take(r, PNPY_ARG_event_theta, "event_theta", p->theta_each ? 2 : 1, p->theta_each ? each : &n_theta, NULL);
    if (!r->given[PNPY_ARG_event_theta] || !r->given[PNPY_ARG_event_direction] || !r->given[PNPY_ARG_event_side]) {
        PyErr_SetString(PyExc_TypeError, "event needs event_theta, event_direction and event_side");
        return -1;
    }
    if (!p->event_theta) return -1;
    r->in[PNPY_ARG_event_direction] = pnpy_int32(r->given[PNPY_ARG_event_direction], "event_direction", 1, &n_events);
    if (!r->in[PNPY_ARG_event_direction]) return -1;
    p->event_direction = PyArray_DATA(r->in[PNPY_ARG_event_direction]);
    r->in[PNPY_ARG_event_side] = pnpy_int32(r->given[PNPY_ARG_event_side], "event_side", 2, sides);
    if (!r->in[PNPY_ARG_event_side]) return -1;
    if (!(r->out[PNPY_OUT_event_side] = PyArray_NewCopy(r->in[PNPY_ARG_event_side], NPY_CORDER)) ||
        !(r->out[PNPY_OUT_event_which] = PyArray_SimpleNew(1, &n, NPY_INT32)) ||
        !(r->out[PNPY_OUT_event_y] = PyArray_ZEROS(3, states, r->f32 ? NPY_FLOAT : NPY_DOUBLE, 0)))
        return -1;
    p->event_side = PyArray_DATA((PyArrayObject *)r->out[PNPY_OUT_event_side]);
    p->event_which = PyArray_DATA((PyArrayObject *)r->out[PNPY_OUT_event_which]);
    p->event_y = PyArray_DATA((PyArrayObject *)r->out[PNPY_OUT_event_y]);
    for (npy_intp i = 0; i < n; i++) p->event_which[i] = -1;
    return 0;
}

/* ---- results ----------------------------------------------------------------------------------------------- */
static void *make(run *r, int which, int typenum, int ndim, const npy_intp *shape, int zeros) {
    r->out[which] = zeros ? PyArray_ZEROS(ndim, shape, typenum, 0) : PyArray_SimpleNew(ndim, shape, typenum);
    return r->out[which] ? PyArray_DATA((PyArrayObject *)r->out[which]) : NULL;
}

static void fill_nan(PyArrayObject *array) {
    const npy_intp size = PyArray_SIZE(array);
    if (PyArray_TYPE(array) == NPY_FLOAT) {
        float *data = PyArray_DATA(array);
        for (npy_intp i = 0; i < size; i++) data[i] = (float)NAN;
    } else {
        double *data = PyArray_DATA(array);
        for (npy_intp i = 0; i < size; i++) data[i] = (double)NAN;
    }
}

static int make_y(run *r) {
    const int typenum = r->f32 ? NPY_FLOAT : NPY_DOUBLE;
    const npy_intp shape[2] = {(npy_intp)r->problem.rows, r->problem.d};
    PyObject *out = r->given[PNPY_ARG_out];
    if (out) {
        if (pnpy_check_out(out, "out", typenum, 2, shape) < 0) return -1;
        r->out[PNPY_OUT_y] = Py_NewRef(out);
    } else if (!make(r, PNPY_OUT_y, typenum, 2, shape, 0))
        return -1;
    if (r->self->rows_gap || r->problem.solved) fill_nan((PyArrayObject *)r->out[PNPY_OUT_y]);
    r->problem.y = PyArray_DATA((PyArrayObject *)r->out[PNPY_OUT_y]);
    return 0;
}

/* States before the jumps; gradients of the data of jumps and loss. */
static int make_parts(run *r, int wrt_data, int wrt_target) {
    pn_problem *p = &r->problem;
    const npy_intp rows = (npy_intp)r->problem.rows;
    const npy_intp state[2] = {rows, p->d}, data[2] = {rows, p->jump.k}, target[2] = {rows, p->loss_part.k};
    if (p->jump.program && !p->solved) {
        if (!(p->y_before = make(r, PNPY_OUT_y_before, r->f32 ? NPY_FLOAT : NPY_DOUBLE, 2, state, 0))) return -1;
        fill_nan((PyArrayObject *)r->out[PNPY_OUT_y_before]);
    }
    if (wrt_data && !(p->jump.g_data = make(r, PNPY_OUT_g_data, NPY_DOUBLE, 2, data, 1))) return -1;
    if (wrt_target && !(p->loss_part.g_data = make(r, PNPY_OUT_g_target, NPY_DOUBLE, 2, target, 1))) return -1;
    return 0;
}

static int make_gradients(run *r, int wrt_y0, int wrt_t, int wrt_inputs) {
    pn_problem *p = &r->problem;
    const npy_intp n_theta[2] = {(npy_intp)p->n, (npy_intp)p->n_theta}, rows = (npy_intp)p->rows;
    const npy_intp state[2] = {(npy_intp)p->n, p->d};
    const npy_intp coef[3] = {(npy_intp)p->n_segments, p->degree + 1, p->m};
    if (p->gradient != PN_GRAD_NONE && (!p->tapes || p->back) &&
        !(p->g_theta = make(r, PNPY_OUT_g_theta, NPY_DOUBLE, p->theta_each ? 2 : 1, n_theta + !p->theta_each, 1)))
        return -1;
    if (wrt_y0 && !(p->g_y0 = make(r, PNPY_OUT_g_y0, NPY_DOUBLE, 2, state, 1))) return -1;
    if (wrt_t && !(p->g_t = make(r, PNPY_OUT_g_t, NPY_DOUBLE, 1, &rows, 1))) return -1;
    if (wrt_inputs && !(p->g_coef = make(r, PNPY_OUT_g_coef, NPY_DOUBLE, 3, coef, 1))) return -1;
    return 0;
}

static int make_extras(run *r, int sensitivity) {
    pn_problem *p = &r->problem;
    const pnpy_problem *self = r->self;
    const npy_intp rows = (npy_intp)p->rows, coef[3] = {(npy_intp)p->n_segments, p->degree + 1, p->m};
    if (sensitivity) {
        const npy_intp columns = self->reverse && self->reverse->n_grads ? (npy_intp)self->reverse->n_grad[0] : 0;
        const npy_intp shape[3] = {rows, p->d, columns + p->d};
        if (!(p->sensitivity = make(r, PNPY_OUT_sensitivity, NPY_DOUBLE, 3, shape, 1))) return -1;
    }
    if (self->want_quadrature) {
        const npy_intp length = self->field->n_grads ? (npy_intp)self->field->n_grad[0] : 0;
        if (!(p->quadrature = make(r, PNPY_OUT_quadrature, NPY_DOUBLE, 1, &length, 1))) return -1;
    }
    if (self->want_quadrature_coef && !(p->quadrature_coef = make(r, PNPY_OUT_quadrature_coef, NPY_DOUBLE, 3, coef, 1)))
        return -1;
    if (self->want_steps) {
        p->steps = r->steps = calloc((size_t)p->n + 1, sizeof *r->steps);
        if (!r->steps) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

/* Sums over the samples, pairwise. */
static double sum(const double *x, int64_t n) {
    double s = 0;
    if (n > 64) return sum(x, n / 2) + sum(x + n / 2, n - n / 2);
    for (int64_t i = 0; i < n; i++) s += x[i];
    return s;
}

static int make_totals(run *r) {
    const pn_problem *p = &r->problem;
    long failed = 0;
    for (int64_t i = 0; i < p->n; i++) failed += p->status[i] != PN_OK;
    if (!(r->out[PNPY_OUT_failed] = PyLong_FromLong(failed))) return -1;
    if (p->loss == PN_LOSS_NONE) return 0;
    if (!(r->out[PNPY_OUT_total_loss] = PyFloat_FromDouble(sum(p->sample_loss, p->n)))) return -1;
    return (r->out[PNPY_OUT_total_weight] = PyFloat_FromDouble(sum(p->sample_weight, p->n))) ? 0 : -1;
}

#define PN_MANY 1000 /* steps */

/* Whether some sample took so many steps that it is worth looking why. */
int pnpy_took_many(const pn_problem *p) {
    int many = 0;
    for (int64_t i = 0; p->adaptive && i < p->n; i++) many |= p->accepted[i] >= PN_MANY;
    return many;
}

/* Whether some component of the last state of all is below its atol (or NaN): then it is worth looking at all of them. */
int pnpy_is_below(const pn_problem *p, int f32) {
    int below = 0;
    if (!p->adaptive || p->rows == 0) return 0;
    for (int32_t c = 0; c < p->d; c++) {
        const size_t at = (size_t)(p->rows - 1) * (size_t)p->d + (size_t)c;
        const double y = f32 ? (double)((const float *)p->y)[at] : ((const double *)p->y)[at];
        below |= !(fabs(y) >= p->atol[c]);
    }
    return below;
}

/* ---- the call ---------------------------------------------------------------------------------------------- */
static int solve(const pnpy_state *state, run *r) {
    pn_problem *p = &r->problem;
    const pn_isa isa = r->isa = (pn_isa)atomic_load(&state->isa);
    pn_status status;
    if (p->threads == 0) p->threads = atomic_load(&state->threads);
    if (r->context.callable) {
        p->threads = 1; /* Python runs one at a time */
        p->call = pnpy_call;
        p->call_ctx = &r->context;
        r->context.size[0] = 1;
        r->context.size[1] = r->context.size[3] = p->d;
        r->context.size[2] = p->m;
        if (p->jacobian) {
            const pnpy_program *J = r->self->part[PNPY_JACOBIAN];
            const int32_t size[4] = {1, p->d, J->slot_size[2], J->output_size[0]};
            memcpy(r->context.jacobian_size, size, sizeof size);
        }
    }
    p->poll = pnpy_poll;
    p->poll_ctx = &r->context;
    char message[PN_MESSAGE] = "";
    if (p->n == 0) {
        status = pn_problem_check(p, r->f32, message);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        status = pn_solve(p, r->f32, isa, message);
        Py_END_ALLOW_THREADS;
    }
    return pnpy_raise(status, &r->context, *message ? message : NULL);
}

/* What is known after the solve. */
static int finish(const pnpy_state *state, run *r) {
    if (make_totals(r) < 0 || (r->steps && !(r->out[PNPY_OUT_steps] = pnpy_collect_steps(&r->problem)))) return -1;
    r->out[PNPY_OUT_isa] = Py_NewRef(state->isa_names[r->isa]);
    r->out[PNPY_OUT_below] = PyBool_FromLong(pnpy_is_below(&r->problem, r->f32));
    r->out[PNPY_OUT_many] = PyBool_FromLong(pnpy_took_many(&r->problem));
    r->out[PNPY_OUT_theta] = Py_XNewRef((PyObject *)r->in[PNPY_ARG_theta]); /* the run's own copies */
    r->out[PNPY_OUT_y0] = Py_XNewRef((PyObject *)r->in[PNPY_ARG_y0]);
    return 0;
}

PyObject *pnpy_problem_run(PyObject *obj, PyObject *const *args, Py_ssize_t n_args, PyObject *names) {
    const pnpy_state *state = PyType_GetModuleState(Py_TYPE(obj));
    const pnpy_problem *self = (pnpy_problem *)obj;
    PyObject *result = NULL;
    int wrt_y0, wrt_t, wrt_inputs, wrt_data, wrt_target, sensitivity;
    run r = {.self = self, .problem = self->problem, .f32 = self->f32};
    if (!state || !(r.results = pnpy_results_new(state))) return NULL;
    r.out = r.results->out;
    const int calls = self->field->has_call || (self->reverse && self->reverse->has_call);

    if (parse(state, &r, args, n_args, names) < 0 || parse_gradient(&r) < 0 || parse_memory(&r) < 0 ||
        flag(&r, PNPY_ARG_wrt_y0, &wrt_y0) < 0 || flag(&r, PNPY_ARG_wrt_t, &wrt_t) < 0 ||
        flag(&r, PNPY_ARG_wrt_inputs, &wrt_inputs) < 0 || flag(&r, PNPY_ARG_wrt_data, &wrt_data) < 0 ||
        flag(&r, PNPY_ARG_wrt_target, &wrt_target) < 0 || flag(&r, PNPY_ARG_sensitivity, &sensitivity) < 0 ||
        pnpy_check_callable(r.given[PNPY_ARG_callback], calls, &r.context.callable) < 0)
        goto done;
    if (!calls) r.context.callable = NULL; /* nothing would call it */
    if (r.problem.gradient == PN_GRAD_NONE &&
        (wrt_y0 || wrt_t || wrt_inputs || wrt_data || wrt_target || r.given[PNPY_ARG_g_y])) {
        PyErr_SetString(PyExc_ValueError, "wrt_* and g_y need gradient='discrete' or 'reversible'");
        goto done;
    }
    if (take_arrays(&r) < 0 || take_events(state, &r) < 0 || take_after(state, &r) < 0 || take_tape(state, &r) < 0) goto done;
    if (make_y(&r) < 0 || pnpy_results_report(r.results, &r.problem) < 0 || make_parts(&r, wrt_data, wrt_target) < 0 ||
        make_gradients(&r, wrt_y0, wrt_t, wrt_inputs) < 0 || make_extras(&r, sensitivity) < 0)
        goto done;
    if (solve(state, &r) < 0 || finish(state, &r) < 0) goto done;
    fill_tape(&r);
    result = Py_NewRef((PyObject *)r.results);
done:
    run_clear(&r);
    return result;
}

/* The tape of a run of this problem, and room for its gradients. */
static int take_way_back(const pnpy_state *state, run *r, PyObject *given) {
    pnpy_tape *tape = Py_IS_TYPE(given, state->tape_type) ? (pnpy_tape *)given : NULL;
    if (!tape || tape->of != r->self) {
        PyErr_SetString(PyExc_ValueError, "tape must be one that a run of this problem has filled");
        return -1;
    }
    r->problem = tape->problem;
    if (borrow_tape(r, tape) < 0) return -1;
    r->problem.back = 1;
    r->problem.g_y = take_rows(r, PNPY_ARG_g_y, "g_y", (npy_intp)r->problem.rows, NULL);
    return r->problem.g_y ? 0 : -1;
}

/* back(tape, g_y, wrt_y0, wrt_t, wrt_inputs) */
PyObject *pnpy_problem_back(PyObject *obj, PyObject *const *args, Py_ssize_t n_args) {
    const pnpy_state *state = PyType_GetModuleState(Py_TYPE(obj));
    const pnpy_problem *self = (pnpy_problem *)obj;
    PyObject *result = NULL;
    int wrt[3] = {0};
    if (n_args < 2 || n_args > 5) {
        PyErr_Format(PyExc_TypeError, "back() takes tape, g_y, wrt_y0, wrt_t, wrt_inputs; %zd arguments were given", n_args);
        return NULL;
    }
    for (Py_ssize_t i = 2; i < n_args; i++)
        if ((wrt[i - 2] = PyObject_IsTrue(args[i])) < 0) return NULL;
    run r = {.self = self, .problem = self->problem, .f32 = self->f32};
    if (!state || !(r.results = pnpy_results_new(state))) return NULL;
    r.out = r.results->out;
    r.given[PNPY_ARG_g_y] = args[1];
    if (take_way_back(state, &r, args[0]) < 0 || make_gradients(&r, wrt[0], wrt[1], wrt[2]) < 0) goto done;
    if (solve(state, &r) < 0) goto done;
    result = Py_NewRef((PyObject *)r.results);
done:
    run_clear(&r);
    return result;
}
