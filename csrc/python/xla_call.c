/* XlaCall: one call of pynode.jax.odeint, with the problems that were prepared for its arrays. What a run needs of Python, it asks for
   once: a problem for shapes and times that are new, and words where a solve failed. */
#include "python/xla_call.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_READY = 8 };

typedef struct call {
    struct call *next;
    int64_t number;
    PyObject *prepare, *again;
    const pnpy_state *state;
    pnpy_ready *ready; /* the last one used comes first */
    int users, gone;   /* gone: the last user frees it */
    int ignores, of_tangents;
} call;

typedef struct {
    PyObject_HEAD
    call *call;
} xla_call;

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static call *calls; /* all that there are */

void pnpy_xla_lock(void) { pthread_mutex_lock(&guard); }

void pnpy_xla_unlock(void) { pthread_mutex_unlock(&guard); }

/* ---- words ------------------------------------------------------------------------------------------------- */
/* The exception that is set, as text; -1. */
static int take_exception(char *message) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *name = type ? PyObject_GetAttrString(type, "__name__") : NULL, *text = value ? PyObject_Str(value) : NULL;
    PyObject *whole = name && text ? PyUnicode_FromFormat("%U: %U", name, text) : NULL;
    const char *utf8 = whole ? PyUnicode_AsUTF8AndSize(whole, NULL) : NULL;
    snprintf(message, PNPY_XLA_MESSAGE, "%s", utf8 ? utf8 : "an error without a message");
    PyErr_Clear();
    Py_XDECREF(whole);
    Py_XDECREF(text);
    Py_XDECREF(name);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return -1;
}

/* ---- arrays for Python ------------------------------------------------------------------------------------- */
static PyObject *copied(int f32, const void *data, int ndim, const npy_intp *shape) {
    PyObject *array = PyArray_SimpleNew(ndim, shape, f32 ? NPY_FLOAT : NPY_DOUBLE);
    if (array) memcpy(PyArray_DATA((PyArrayObject *)array), data, (size_t)PyArray_NBYTES((PyArrayObject *)array));
    return array;
}

/* function(y0, t, theta, g), g None where there is none. Needs the GIL. */
static PyObject *ask(PyObject *function, const pnpy_xla_arrays *a) {
    const npy_intp n = (npy_intp)a->n, d = (npy_intp)a->d, times = (npy_intp)a->times, state[2] = {n, d}, saved[2] = {n, times};
    const npy_intp theta[2] = {n, (npy_intp)a->n_theta}, whole[3] = {n, times, d};
    PyObject *args[4] = {
        copied(a->f32, a->y0, 2, state),
        copied(a->f32, a->t, 2, saved),
        copied(a->f32, a->theta, a->theta_each ? 2 : 1, theta + !a->theta_each),
        a->g ? copied(a->f32, a->g, 3, whole) : Py_NewRef(Py_None),
    };
    PyObject *result = NULL;
    if (args[0] && args[1] && args[2] && args[3])
        result = PyObject_CallFunctionObjArgs(function, args[0], args[1], args[2], args[3], NULL);
    for (int i = 0; i < 4; i++) Py_XDECREF(args[i]);
    return result;
}

/* ---- prepared problems ------------------------------------------------------------------------------------- */
static size_t times_size(const pnpy_xla_arrays *a) {
    return (size_t)a->n * (size_t)a->times * (a->f32 ? sizeof(float) : sizeof(double));
}

static void free_ready(pnpy_ready *r) {
    Py_XDECREF((PyObject *)r->problem);
    free(r->t);
    free(r);
}

/* The one for these arrays, which becomes the first, taken; NULL: there is none. Under the lock. */
static pnpy_ready *find_ready(call *c, const pnpy_xla_arrays *a) {
    for (pnpy_ready **at = &c->ready; *at; at = &(*at)->next) {
        pnpy_ready *r = *at;
        if (r->n != a->n || r->times != a->times || r->f32 != a->f32 || r->theta_each != a->theta_each) continue;
        if (memcmp(r->t, a->t, times_size(a))) continue;
        *at = r->next;
        r->next = c->ready;
        c->ready = r;
        r->users++;
        return r;
    }
    return NULL;
}

/* Those behind the first few that nobody uses, out of the list. Under the lock. */
static pnpy_ready *take_old(call *c) {
    pnpy_ready *old = NULL;
    int count = 0;
    for (pnpy_ready **at = &c->ready; *at;) {
        pnpy_ready *r = *at;
        if (++count <= MOST_READY || r->users) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        pnpy_halves_forget(r);
        r->next = old;
        old = r;
    }
    return old;
}

/* Whether a problem is one for these arrays. */
static int serves(const pnpy_problem *problem, const pnpy_xla_arrays *a) {
    const pn_problem *p = &problem->problem;
    return problem->f32 == a->f32 && p->n == a->n && p->d == a->d && p->n_theta == a->n_theta && p->rows == a->n * a->times &&
           !problem->rows_gap && !p->call && !problem->field->has_call && !p->jump.program && !problem->want_steps;
}

/* A new one, by Python. Needs the GIL. */
static pnpy_ready *make_ready(call *c, const pnpy_xla_arrays *a, char *message) {
    PyObject *made = ask(c->prepare, a);
    pnpy_ready *r = NULL, *old = NULL;
    if (made && !Py_IS_TYPE(made, c->state->problem_type)) {
        pnpy_wrong_type("what prepare returns", "a Problem", made);
        goto done;
    }
    if (made && !serves((pnpy_problem *)made, a)) {
        PyErr_SetString(PyExc_ValueError, "what prepare returns is not a problem for these arrays");
        goto done;
    }
    if (!made || !(r = calloc(1, sizeof *r)) || !(r->t = malloc(times_size(a) + 1))) {
        if (made) PyErr_NoMemory();
        goto done;
    }
    *r = (pnpy_ready){.problem = (pnpy_problem *)Py_NewRef(made),
                      .state = c->state,
                      .f32 = a->f32,
                      .theta_each = a->theta_each,
                      .users = 1,
                      .n = a->n,
                      .times = a->times,
                      .t = r->t};
    memcpy(r->t, a->t, times_size(a));
    pnpy_xla_lock();
    r->next = c->ready;
    c->ready = r;
    old = take_old(c);
    pnpy_xla_unlock();
    for (pnpy_ready *next; old; old = next) {
        next = old->next;
        free_ready(old);
    }
done:
    Py_XDECREF(made);
    if (PyErr_Occurred()) {
        take_exception(message);
        free(r);
        return NULL;
    }
    return r;
}

static pnpy_ready *ready_for(call *c, const pnpy_xla_arrays *a, char *message) {
    pnpy_xla_lock();
    pnpy_ready *r = find_ready(c, a);
    pnpy_xla_unlock();
    if (r) return r;
    PyGILState_STATE gil = PyGILState_Ensure();
    r = make_ready(c, a, message);
    PyGILState_Release(gil);
    return r;
}

/* ---- a run ------------------------------------------------------------------------------------------------- */
/* Wide numbers first: stop_t, nfe, accepted, rejected; status, stop_component. */
size_t pnpy_xla_report_size(int64_t n) { return (size_t)n * (4 * sizeof(int64_t) + 2 * sizeof(int32_t)); }

pn_problem pnpy_xla_problem(const pnpy_ready *ready, const pnpy_xla_arrays *a, char *reports, pnpy_context *context) {
    pn_problem p = ready->problem->problem;
    int64_t *wide = (int64_t *)(void *)reports;
    p.y0 = a->y0;
    p.theta = a->theta;
    p.theta_each = a->theta_each;
    p.y = a->y;
    p.stop_t = (double *)(void *)wide;
    p.nfe = wide + a->n;
    p.accepted = wide + 2 * a->n;
    p.rejected = wide + 3 * a->n;
    p.status = (int32_t *)(void *)(wide + 4 * a->n);
    p.stop_component = p.status + a->n;
    p.stiff_steps = p.jacobians = p.factorisations = NULL;
    if (p.threads == 0) p.threads = atomic_load(&ready->state->threads);
    p.poll = pnpy_poll;
    p.poll_ctx = context;
    return p;
}

/* pn_solve, what goes wrong as Python would say it. */
static int solve(const pn_problem *p, int f32, pn_isa isa, char *message) {
    char words[PN_MESSAGE] = "";
    const pn_status status = pn_solve(p, f32, isa, words);
    pnpy_context *context = p->poll_ctx;
    if (status == PN_OK && !context->stopped) return 0;
    PyGILState_STATE gil = PyGILState_Ensure();
    if (pnpy_raise(status, context, *words ? words : NULL) < 0) take_exception(message);
    PyGILState_Release(gil);
    return -1;
}

/* Whether Python has something to say of this solve: samples that failed, many steps, a component that may be below its atol at all
   times. */
static int is_remarkable(const call *c, const pn_problem *p, int f32) {
    for (int64_t i = 0; i < p->n && !c->ignores; i++)
        if (p->status[i] != PN_OK) return 1;
    if (c->of_tangents) return 0;
    if (!c->ignores && pnpy_took_many(p)) return 1;
    if (!pnpy_is_below(p, f32)) return 0;
    for (int32_t k = 0; k < p->d; k++) {
        double most = 0;
        for (int64_t at = k; at < p->rows * p->d; at += p->d)
            most = fmax(most, fabs(f32 ? (double)((const float *)p->y)[at] : ((const double *)p->y)[at]));
        if (most > 0 && most < p->atol[k]) return 1;
    }
    return 0;
}

/* Once more by Python, which warns or raises. */
static int say(const call *c, const pnpy_xla_arrays *a, char *message) {
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *said = ask(c->again, a);
    const int status = said ? 0 : take_exception(message);
    Py_XDECREF(said);
    PyGILState_Release(gil);
    return status;
}

static int no_memory(char *message) {
    snprintf(message, PNPY_XLA_MESSAGE, "MemoryError: %s", pn_status_message(PN_MEMORY));
    return -1;
}

static int forward(const call *c, pnpy_ready *ready, const pnpy_xla_arrays *a, char *message) {
    const pn_isa isa = (pn_isa)atomic_load(&ready->state->isa);
    pnpy_context context = {0};
    pn_problem p;
    char *reports = NULL;
    pnpy_half *half = pnpy_half_for(ready, a, &context, &p);
    if (!half) {
        if (!(reports = calloc(1, pnpy_xla_report_size(a->n)))) return no_memory(message);
        p = pnpy_xla_problem(ready, a, reports, &context);
    }
    const int status = solve(&p, a->f32, isa, message), remarkable = status == 0 && is_remarkable(c, &p, a->f32);
    if (half && status == 0)
        pnpy_half_keep(half, ready, &p, isa);
    else if (half)
        pnpy_half_drop(half);
    free(reports);
    return remarkable ? say(c, a, message) : status;
}

static int is_finite(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] - x[i]; /* 0, or NaN */
    return sum == 0;
}

static int64_t theta_length(const pnpy_xla_arrays *a) { return (a->theta_each ? a->n : 1) * a->n_theta; }

/* Along the tapes of a solve that is kept. 1: there is none, or some gradient is not finite, and the samples must be looked for. */
static int back_along(pnpy_ready *ready, const pnpy_xla_arrays *a, double *g_y0, double *g_theta, char *message) {
    pnpy_context context = {0};
    pn_problem p;
    pn_isa isa;
    pnpy_half *half = pnpy_half_of(ready, a, &p, &isa);
    if (!half) return 1;
    p.back = 1;
    p.poll_ctx = &context;
    p.g_y = a->g;
    p.g_y0 = g_y0;
    p.g_theta = g_theta;
    const int status = solve(&p, a->f32, isa, message);
    pnpy_half_used(half);
    if (status < 0) return -1;
    return !(is_finite(g_y0, a->n * a->d) && is_finite(g_theta, theta_length(a)));
}

/* From the start: solve, then back. */
static int solve_and_back(const call *c, pnpy_ready *ready, const pnpy_xla_arrays *a, double *g_y0, double *g_theta,
                          char *message) {
    const size_t reports = pnpy_xla_report_size(a->n), rows = (size_t)a->n * (size_t)a->times * (size_t)a->d;
    pnpy_context context = {0};
    char *memory = calloc(1, reports + rows * (a->f32 ? sizeof(float) : sizeof(double)));
    if (!memory) return no_memory(message);
    pn_problem p = pnpy_xla_problem(ready, a, memory, &context);
    p.y = memory + reports;
    p.gradient = PN_GRAD_DISCRETE;
    p.g_y = a->g;
    p.g_y0 = g_y0;
    p.g_theta = g_theta;
    const int status = solve(&p, a->f32, (pn_isa)atomic_load(&ready->state->isa), message);
    const int remarkable = status == 0 && is_remarkable(c, &p, a->f32);
    free(memory);
    return remarkable ? say(c, a, message) : status;
}

static void narrow(const double *from, float *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)from[i];
}

static int backward(const call *c, pnpy_ready *ready, const pnpy_xla_arrays *a, char *message) {
    const int64_t states = a->n * a->d, parameters = theta_length(a);
    double *wide = a->f32 ? malloc((size_t)(states + parameters) * sizeof(double)) : NULL;
    if (a->f32 && !wide) return no_memory(message);
    double *g_y0 = wide ? wide : a->g_y0, *g_theta = wide ? wide + states : a->g_theta;
    for (int from_start = 0, status = 1; status > 0; from_start = 1) {
        memset(g_y0, 0, (size_t)states * sizeof(double));
        memset(g_theta, 0, (size_t)parameters * sizeof(double));
        status =
            from_start ? solve_and_back(c, ready, a, g_y0, g_theta, message) : back_along(ready, a, g_y0, g_theta, message);
        if (status < 0) {
            free(wide);
            return -1;
        }
    }
    if (wide) {
        narrow(g_y0, a->g_y0, states);
        narrow(g_theta, a->g_theta, parameters);
    }
    free(wide);
    return 0;
}

/* ---- calls ------------------------------------------------------------------------------------------------- */
static call *take_call(int64_t number) {
    pnpy_xla_lock();
    call *c = calls;
    while (c && c->number != number) c = c->next;
    if (c) c->users++;
    pnpy_xla_unlock();
    return c;
}

/* Nobody runs it any more. Its halves are forgotten here, not where it went: a run that was under way kept one since. Needs the
   GIL. */
static void free_call(call *c) {
    pnpy_xla_lock();
    for (pnpy_ready *r = c->ready; r; r = r->next) pnpy_halves_forget(r);
    pnpy_xla_unlock();
    for (pnpy_ready *r = c->ready, *next; r; r = next) {
        next = r->next;
        free_ready(r);
    }
    Py_XDECREF(c->prepare);
    Py_XDECREF(c->again);
    free(c);
}

static void return_call(call *c, pnpy_ready *ready) {
    pnpy_xla_lock();
    if (ready) ready->users--;
    const int last = --c->users == 0 && c->gone;
    pnpy_xla_unlock();
    if (!last) return;
    PyGILState_STATE gil = PyGILState_Ensure();
    free_call(c);
    PyGILState_Release(gil);
}

int pnpy_xla_run(int64_t number, const pnpy_xla_arrays *a, char message[PNPY_XLA_MESSAGE]) {
    call *c = take_call(number);
    if (!c) {
        snprintf(message, PNPY_XLA_MESSAGE,
                 "pynode.jax: the solve of this program is not there: it was compiled in another process, or is gone. Trace it "
                 "again");
        return -1;
    }
    pnpy_ready *ready = ready_for(c, a, message);
    const int status = !ready ? -1 : a->g ? backward(c, ready, a, message) : forward(c, ready, a, message);
    return_call(c, ready);
    return status;
}

/* ---- the type ---------------------------------------------------------------------------------------------- */
static PyObject *xla_call_new(PyTypeObject *type, PyObject *args, PyObject *names) {
    static const char *const accepted[] = {"number", "prepare", "again", "ignores", "of_tangents", NULL};
    PyObject *prepare, *again;
    long long number;
    int ignores = 0, of_tangents = 0;
    if (!PyArg_ParseTupleAndKeywords(args, names, "LOO|pp", (char **)(void *)accepted, &number, &prepare, &again, &ignores,
                                     &of_tangents))
        return NULL;
    xla_call *self = (xla_call *)PyType_GenericAlloc(type, 0);
    call *c = calloc(1, sizeof *c);
    if (!self || !c) {
        free(c);
        Py_XDECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    c->number = number;
    c->prepare = Py_NewRef(prepare);
    c->again = Py_NewRef(again);
    c->state = PyType_GetModuleState(type);
    c->ignores = ignores;
    c->of_tangents = of_tangents;
    self->call = c;
    pnpy_xla_lock();
    c->next = calls;
    calls = c;
    pnpy_xla_unlock();
    return (PyObject *)self;
}

static void dealloc(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    call *c = ((xla_call *)obj)->call;
    if (c) {
        pnpy_xla_lock();
        call **at = &calls;
        while (*at != c) at = &(*at)->next;
        *at = c->next;
        c->gone = 1;
        const int unused = c->users == 0;
        pnpy_xla_unlock();
        if (unused) free_call(c);
    }
    PyObject_Free(obj);
    Py_DECREF(type);
}

static PyType_Slot xla_call_slots[] = {
    {Py_tp_new, xla_call_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_doc,
     "XlaCall(number, prepare, again, ignores=False, of_tangents=False)\n--\n\nWhat a program that XLA compiled finds by its "
     "number as long as this lives. prepare(y0, t, theta, g): the Problem of such arrays; again(y0, t, theta, g): warns or "
     "raises "
     "where a solve was remarkable."},
    {0, NULL},
};

PyType_Spec pnpy_xla_call_spec = {
    .name = "pynode._core.XlaCall",
    .basicsize = sizeof(xla_call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = xla_call_slots,
};
