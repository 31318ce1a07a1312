/* Problem: everything about a solve that does not change from run to run, checked once.
   It owns a copy of every array, so nobody can change an index after it was checked. */
#include "python/pnpy.h"

#include <math.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* ---- the keywords ------------------------------------------------------------------------------------------ */
/* name in Python, member of pn_problem, what is allowed */
typedef enum { ANY_REAL, NOT_NEGATIVE, POSITIVE, UNIT, AT_LEAST_ONE } range;
typedef struct {
    const char *name;
    size_t offset;
    range allowed;
} scalar;

#define AT(member) offsetof(pn_problem, member)
static const scalar reals[] = {
    {"step", AT(step), NOT_NEGATIVE},
    {"first_step", AT(first_step), NOT_NEGATIVE},
    {"max_step", AT(max_step), NOT_NEGATIVE},
    {"rtol", AT(rtol), NOT_NEGATIVE},
    {"safety", AT(safety), UNIT},
    {"min_factor", AT(min_factor), UNIT},
    {"max_factor", AT(max_factor), AT_LEAST_ONE},
    {"beta", AT(beta), NOT_NEGATIVE},
    {"coupling", AT(lambda), NOT_NEGATIVE},
    {"loss_scale", AT(loss_scale), POSITIVE},
    {"loss_dof", AT(loss_dof), POSITIVE},
};
static const scalar flags[] = {
    {"adaptive", AT(adaptive), ANY_REAL},
    {"land", AT(land), ANY_REAL},
    {"input_jumps", AT(input_jumps), ANY_REAL},
    {"dense", AT(dense), ANY_REAL},
};
/* in the order of PNPY_y0 ... */
static const char *const array_names[PNPY_N_KEPT] = {
    "y0",   "t",    "t_start",    "t_len",    "row",      "knot",     "knot_start", "knot_len", "seg_start", "coef",
    "atol", "grid", "grid_start", "grid_len", "jump_set", "jump_add", "jump_data",  "target",   "weight",
};
static const char *const part_names[PNPY_N_PARTS] = {"jump", "jump_reverse", "loss_program", "loss_reverse"};
enum { O_METHOD, O_LOSS, O_THREADS, O_MAX_STEPS, O_QUADRATURE, O_QUADRATURE_COEF, O_STEPS, N_OTHER };
static const char *const other_names[N_OTHER] = {"method",          "loss", "threads", "max_steps", "quadrature",
                                                 "quadrature_coef", "steps"};
enum { N_REALS = sizeof reals / sizeof *reals, N_FLAGS = sizeof flags / sizeof *flags };

typedef struct { /* borrowed; NULL where not given or None */
    PyObject *real[N_REALS], *flag[N_FLAGS], *array[PNPY_N_KEPT], *other[N_OTHER], *part[PNPY_N_PARTS];
} given;

static PyObject **place_of(given *g, PyObject *key) {
    for (int i = 0; i < PNPY_N_KEPT; i++)
        if (!PyUnicode_CompareWithASCIIString(key, array_names[i])) return &g->array[i];
    for (int i = 0; i < N_REALS; i++)
        if (!PyUnicode_CompareWithASCIIString(key, reals[i].name)) return &g->real[i];
    for (int i = 0; i < N_FLAGS; i++)
        if (!PyUnicode_CompareWithASCIIString(key, flags[i].name)) return &g->flag[i];
    for (int i = 0; i < N_OTHER; i++)
        if (!PyUnicode_CompareWithASCIIString(key, other_names[i])) return &g->other[i];
    for (int i = 0; i < PNPY_N_PARTS; i++)
        if (!PyUnicode_CompareWithASCIIString(key, part_names[i])) return &g->part[i];
    return NULL;
}

static int sort_keywords(PyObject *kwargs, given *g, PyObject **field, PyObject **reverse) {
    PyObject *key, *value;
    for (Py_ssize_t i = 0; kwargs && PyDict_Next(kwargs, &i, &key, &value);) {
        PyObject **place = place_of(g, key);
        if (!PyUnicode_CompareWithASCIIString(key, "field")) place = field;
        if (!PyUnicode_CompareWithASCIIString(key, "reverse")) place = reverse;
        if (!place) {
            PyErr_Format(PyExc_TypeError, "Problem() has no argument %R", key);
            return -1;
        }
        if (*place) {
            PyErr_Format(PyExc_TypeError, "Problem() got the argument %R twice", key);
            return -1;
        }
        if (value != Py_None) *place = value;
    }
    return 0;
}

/* ---- scalars ----------------------------------------------------------------------------------------------- */
static int read_real(PyObject *obj, const scalar *s, pn_problem *p) {
    static const char *const text[] = {"a number", "not negative", "positive", "between 0 and 1", "at least 1"};
    const double value = PyFloat_AsDouble(obj);
    if (value == -1.0 && PyErr_Occurred()) return -1;
    const int good =
        isfinite(value) &&
        (s->allowed == ANY_REAL || (s->allowed == NOT_NEGATIVE && value >= 0) || (s->allowed == POSITIVE && value > 0) ||
         (s->allowed == UNIT && value > 0 && value <= 1) || (s->allowed == AT_LEAST_ONE && value >= 1));
    if (!good) {
        PyErr_Format(PyExc_ValueError, "%s must be finite and %s, got %R", s->name, text[s->allowed], obj);
        return -1;
    }
    *(double *)((char *)p + s->offset) = value;
    return 0;
}

static int read_integer(PyObject *obj, const char *name, int64_t low, int64_t high, int64_t *out) {
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

static int read_name(PyObject *obj, const char *what, const char *const *names, int n, int *out) {
    if (!PyUnicode_Check(obj)) {
        PyErr_Format(PyExc_TypeError, "%s must be a string, not %s", what, Py_TYPE(obj)->tp_name);
        return -1;
    }
    for (int i = 0; i < n; i++)
        if (!PyUnicode_CompareWithASCIIString(obj, names[i])) {
            *out = i;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "unknown %s %R", what, obj);
    return -1;
}

static int read_method(PyObject *obj, pn_problem *p) {
    const char *name = obj ? PyUnicode_AsUTF8(obj) : "dopri5";
    if (!name) return -1;
    p->tableau = pn_tableau_find(name);
    if (p->tableau) return 0;
    PyErr_Format(PyExc_ValueError, "unknown method %R", obj);
    return -1;
}

static int read_flag(PyObject *obj, int *out) {
    if (!obj) return 0;
    *out = PyObject_IsTrue(obj);
    return *out < 0 ? -1 : 0;
}

static int read_scalars(pnpy_problem *self, const given *g) {
    static const char *const losses[] = {"none", "squared", "absolute", "huber", "student", "program"};
    pn_problem *p = &self->problem;
    int64_t threads = 0;
    int loss = 0, value = 0;

    p->adaptive = !g->array[PNPY_grid];
    p->rtol = 1e-6;
    p->safety = 0.9;
    p->min_factor = 0.2;
    p->max_factor = 10;
    p->max_steps = 100000;
    p->loss_scale = 1;
    p->loss_dof = 4;
    for (int i = 0; i < N_REALS; i++)
        if (g->real[i] && read_real(g->real[i], &reals[i], p) < 0) return -1;
    for (int i = 0; i < N_FLAGS; i++) {
        if (!g->flag[i]) continue;
        if (read_flag(g->flag[i], &value) < 0) return -1;
        *(int32_t *)((char *)p + flags[i].offset) = value;
    }
    if (read_method(g->other[O_METHOD], p) < 0) return -1;
    if (g->other[O_LOSS] && read_name(g->other[O_LOSS], "loss", losses, 6, &loss) < 0) return -1;
    if (g->other[O_THREADS] && read_integer(g->other[O_THREADS], "threads", 0, 4096, &threads) < 0) return -1;
    if (g->other[O_MAX_STEPS] && read_integer(g->other[O_MAX_STEPS], "max_steps", 1, INT64_MAX, &p->max_steps) < 0) return -1;
    p->loss = (pn_loss)loss;
    p->threads = (int32_t)threads;
    if (read_flag(g->other[O_QUADRATURE], &self->want_quadrature) < 0 ||
        read_flag(g->other[O_QUADRATURE_COEF], &self->want_quadrature_coef) < 0 ||
        read_flag(g->other[O_STEPS], &self->want_steps) < 0)
        return -1;
    return 0;
}

static int check_scalars(const pn_problem *p) {
    const char *wrong = NULL;
    if (p->grid && p->adaptive)
        wrong = "a grid prescribes the steps: adaptive must be False";
    else if (p->adaptive && p->tableau->error_order == 0)
        wrong = "this method has no error estimate: give adaptive=False and a step";
    else if (!p->adaptive && !p->grid && !(p->step > 0))
        wrong = "a fixed step must be positive: give step= or grid=";
    else if (p->tableau->second && p->d % 2)
        wrong = "this method splits the state into halves: its size must be even";
    else if (p->tableau->second && p->lambda > 0)
        wrong = "this method has no reversible scheme: coupling must be 0";
    else if (p->lambda > 1)
        wrong = "coupling must be between 0 and 1";
    else if (p->min_factor > p->max_factor)
        wrong = "min_factor must not exceed max_factor";
    for (int32_t i = 0; !wrong && p->adaptive && i < p->d; i++)
        if (!(p->rtol > 0) && !(p->atol[i] > 0)) wrong = "rtol and atol must not both be 0";
    if (!wrong) return 0;
    PyErr_SetString(PyExc_ValueError, wrong);
    return -1;
}

/* ---- arrays ------------------------------------------------------------------------------------------------ */
static int keep(pnpy_problem *self, const given *g, int which, int typenum, int ndim, const npy_intp *shape) {
    if (!g->array[which]) return 0;
    self->kept[which] = pnpy_array(g->array[which], array_names[which], typenum, ndim, shape, 1);
    return self->kept[which] ? 0 : -1;
}

static const void *kept_data(const pnpy_problem *self, int which) {
    return self->kept[which] ? PyArray_DATA(self->kept[which]) : NULL;
}

/* An index array of one entry a sample, or value, value + stride, ... where none was given. */
static const int64_t *keep_index(pnpy_problem *self, const given *g, int which, int64_t value, int64_t stride) {
    npy_intp n = (npy_intp)self->problem.n;
    if (g->array[which]) return keep(self, g, which, NPY_INT64, 1, &n) < 0 ? NULL : kept_data(self, which);
    int64_t last;
    if (__builtin_mul_overflow(stride, (int64_t)n, &last) || __builtin_add_overflow(last, value, &last)) {
        PyErr_SetString(PyExc_ValueError, "too many rows");
        return NULL;
    }
    self->kept[which] = (PyArrayObject *)PyArray_SimpleNew(1, &n, NPY_INT64);
    if (!self->kept[which]) return NULL;
    int64_t *data = PyArray_DATA(self->kept[which]);
    for (npy_intp i = 0; i < n; i++) data[i] = value + stride * (int64_t)i;
    return data;
}

/* start[i] .. start[i] + len[i] inside 0 .. total, len[i] >= least */
static int check_ranges(const char *name, int64_t n, const int64_t *start, const int64_t *len, int64_t least, int64_t total) {
    for (int64_t i = 0; i < n; i++)
        if (len[i] < least || len[i] > total || start[i] < 0 || start[i] > total - len[i]) {
            PyErr_Format(PyExc_ValueError,
                         "sample %lld: %s_start = %lld, %s_len = %lld; the length must be at least %lld and the end "
                         "inside the %lld entries of %s",
                         (long long)i, name, (long long)start[i], name, (long long)len[i], (long long)least, (long long)total,
                         name);
            return -1;
        }
    return 0;
}

/* `sense` is +1, -1 or 0 (either way); `strict`: no repeats */
static int check_monotone(const char *name, int64_t n, const double *x, const int64_t *start, const int64_t *len, int sense,
                          int strict) {
    for (int64_t i = 0; i < n; i++) {
        const double *v = x + start[i];
        const int64_t m = len[i];
        if (i > 0 && start[i] == start[i - 1] && m == len[i - 1]) continue; /* shared */
        const int way = sense ? sense : v[m - 1] < v[0] ? -1 : 1;
        int64_t bad = isfinite(v[0]) ? -1 : 0;
        for (int64_t j = 1; j < m && bad < 0; j++) {
            const double gap = way * (v[j] - v[j - 1]);
            if (!isfinite(v[j]) || (strict ? !(gap > 0) : !(gap >= 0))) bad = j;
        }
        if (bad < 0) continue;
        PyErr_Format(PyExc_ValueError, "%s of sample %lld must be finite and %s (entry %lld is not)", name, (long long)i,
                     strict ? (sense ? "strictly increasing" : "strictly monotone") : "monotone", (long long)bad);
        return -1;
    }
    return 0;
}

static int take_state(pnpy_problem *self, const given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any[2] = {PNPY_ANY, PNPY_ANY};
    if (!g->array[PNPY_y0] || !g->array[PNPY_t]) {
        PyErr_SetString(PyExc_TypeError, "Problem() needs y0 and t");
        return -1;
    }
    self->f32 = pnpy_is_f32(g->array[PNPY_y0]);
    if (keep(self, g, PNPY_y0, self->f32 ? NPY_FLOAT : NPY_DOUBLE, 2, any) < 0) return -1;
    p->y0 = kept_data(self, PNPY_y0);
    p->n = PyArray_DIM(self->kept[PNPY_y0], 0);
    if (PyArray_DIM(self->kept[PNPY_y0], 1) < 1 || PyArray_DIM(self->kept[PNPY_y0], 1) > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "y0 must have at least one feature");
        return -1;
    }
    p->d = (int32_t)PyArray_DIM(self->kept[PNPY_y0], 1);
    return 0;
}

/* Rows of the result: increasing and disjoint, since each sample (thread) writes its own. */
static int check_rows(pnpy_problem *self) {
    const pn_problem *p = &self->problem;
    int64_t end = 0;
    for (int64_t i = 0; i < p->n; i++) {
        if (p->row[i] < end || p->row[i] > INT64_MAX - p->t_len[i]) {
            PyErr_Format(PyExc_ValueError, "sample %lld: row = %lld; rows must be increasing and must not overlap",
                         (long long)i, (long long)p->row[i]);
            return -1;
        }
        self->rows_gap |= p->row[i] != end;
        end = p->row[i] + p->t_len[i];
    }
    self->rows = end;
    return 0;
}

static int take_times(pnpy_problem *self, const given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any = PNPY_ANY;
    if (keep(self, g, PNPY_t, NPY_DOUBLE, 1, &any) < 0) return -1;
    const int64_t total = PyArray_DIM(self->kept[PNPY_t], 0);
    p->t = kept_data(self, PNPY_t);
    if ((!g->array[PNPY_t_start]) != (!g->array[PNPY_t_len]) || (g->array[PNPY_t_len] && !g->array[PNPY_row])) {
        PyErr_SetString(PyExc_TypeError, "t_start, t_len and row go together (none of them: all samples share t)");
        return -1;
    }
    if (!(p->t_start = keep_index(self, g, PNPY_t_start, 0, 0))) return -1;
    if (!(p->t_len = keep_index(self, g, PNPY_t_len, total, 0))) return -1;
    if (check_ranges("t", p->n, p->t_start, p->t_len, 1, total) < 0) return -1;
    if (check_monotone("t", p->n, p->t, p->t_start, p->t_len, 0, 0) < 0) return -1;
    if (!(p->row = keep_index(self, g, PNPY_row, 0, total))) return -1;
    self->shared_times = 1;
    for (int64_t i = 0; i < p->n; i++) self->shared_times &= p->t_len[i] == total;
    return check_rows(self);
}

static int take_inputs(pnpy_problem *self, const given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any = PNPY_ANY, shape[3] = {PNPY_ANY, PNPY_ANY, p->m};
    p->degree = -1;
    if ((p->m > 0) != (g->array[PNPY_coef] != NULL) || (p->m > 0) != (g->array[PNPY_knot] != NULL)) {
        PyErr_Format(PyExc_ValueError, "the field has %d inputs: %s", (int)p->m,
                     p->m ? "give knot and coef" : "knot and coef are out of place");
        return -1;
    }
    if (p->m == 0) return 0;
    if (keep(self, g, PNPY_knot, NPY_DOUBLE, 1, &any) < 0) return -1;
    if (keep(self, g, PNPY_coef, self->f32 ? NPY_FLOAT : NPY_DOUBLE, 3, shape) < 0) return -1;
    const int64_t total = PyArray_DIM(self->kept[PNPY_knot], 0), terms = PyArray_DIM(self->kept[PNPY_coef], 1);
    self->segments = PyArray_DIM(self->kept[PNPY_coef], 0);
    if (terms < 1 || terms > 64) {
        PyErr_SetString(PyExc_ValueError, "coef must have between 1 and 64 coefficients a segment");
        return -1;
    }
    p->degree = (int32_t)terms - 1;
    p->knot = kept_data(self, PNPY_knot);
    p->coef = kept_data(self, PNPY_coef);
    if (!(p->knot_start = keep_index(self, g, PNPY_knot_start, 0, 0))) return -1;
    if (!(p->knot_len = keep_index(self, g, PNPY_knot_len, total, 0))) return -1;
    if (!(p->seg_start = keep_index(self, g, PNPY_seg_start, 0, 0))) return -1;
    if (check_ranges("knot", p->n, p->knot_start, p->knot_len, 2, total) < 0) return -1;
    if (check_monotone("knot", p->n, p->knot, p->knot_start, p->knot_len, 1, 1) < 0) return -1;
    int64_t end = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const int64_t count = p->knot_len[i] - 1;
        if (p->seg_start[i] < 0 || count > self->segments || p->seg_start[i] > self->segments - count) {
            PyErr_Format(PyExc_ValueError, "sample %lld: seg_start = %lld, with %lld segments of the %lld in coef",
                         (long long)i, (long long)p->seg_start[i], (long long)count, (long long)self->segments);
            return -1;
        }
        self->shared_segments |= p->seg_start[i] < end;
        end = p->seg_start[i] + count;
    }
    return 0;
}

static int take_grid(pnpy_problem *self, const given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any = PNPY_ANY;
    if (!g->array[PNPY_grid]) return 0;
    if (keep(self, g, PNPY_grid, NPY_DOUBLE, 1, &any) < 0) return -1;
    const int64_t total = PyArray_DIM(self->kept[PNPY_grid], 0);
    p->grid = kept_data(self, PNPY_grid);
    if (!(p->grid_start = keep_index(self, g, PNPY_grid_start, 0, 0))) return -1;
    if (!(p->grid_len = keep_index(self, g, PNPY_grid_len, total, 0))) return -1;
    if (check_ranges("grid", p->n, p->grid_start, p->grid_len, 1, total) < 0) return -1;
    if (check_monotone("grid", p->n, p->grid, p->grid_start, p->grid_len, 0, 1) < 0) return -1;
    for (int64_t i = 0; i < p->n; i++) {
        const double *grid = p->grid + p->grid_start[i], *t = p->t + p->t_start[i];
        const double g0 = grid[0], g1 = grid[p->grid_len[i] - 1], t0 = t[0], t1 = t[p->t_len[i] - 1];
        if (g0 == t0 && (t1 >= t0 ? g1 >= t1 : g1 <= t1)) continue;
        PyErr_Format(PyExc_ValueError, "sample %lld: the grid must start at the initial time and reach the last one",
                     (long long)i);
        return -1;
    }
    return 0;
}

static int take_rest(pnpy_problem *self, const given *g) {
    pn_problem *p = &self->problem;
    const int typenum = self->f32 ? NPY_FLOAT : NPY_DOUBLE;
    const npy_intp d = p->d, rows[2] = {(npy_intp)self->rows, d};
    if (g->array[PNPY_atol]) {
        if (keep(self, g, PNPY_atol, NPY_DOUBLE, 1, &d) < 0) return -1;
    } else {
        self->kept[PNPY_atol] = (PyArrayObject *)PyArray_SimpleNew(1, &d, NPY_DOUBLE);
        if (!self->kept[PNPY_atol]) return -1;
        double *atol = PyArray_DATA(self->kept[PNPY_atol]);
        for (npy_intp i = 0; i < d; i++) atol[i] = 1e-8;
    }
    p->atol = kept_data(self, PNPY_atol);
    for (npy_intp i = 0; i < d; i++)
        if (!isfinite(p->atol[i]) || p->atol[i] < 0) {
            PyErr_SetString(PyExc_ValueError, "atol must be finite and not negative");
            return -1;
        }
    const npy_intp jump_rows[2] = {(npy_intp)self->rows, p->jump.k}, loss_rows[2] = {(npy_intp)self->rows, p->loss_part.k};
    for (int which = PNPY_jump_set; which <= PNPY_weight; which++) {
        const npy_intp *shape = which == PNPY_jump_data                              ? jump_rows
                                : which == PNPY_target && p->loss == PN_LOSS_PROGRAM ? loss_rows
                                                                                     : rows;
        if (keep(self, g, which, typenum, 2, shape) < 0) return -1;
    }
    if (!self->kept[PNPY_jump_set] != !self->kept[PNPY_jump_add]) {
        PyErr_SetString(PyExc_ValueError, "jump_set and jump_add go together");
        return -1;
    }
    p->jump_set = kept_data(self, PNPY_jump_set);
    p->jump_add = kept_data(self, PNPY_jump_add);
    p->jump.data = kept_data(self, PNPY_jump_data);
    p->target = kept_data(self, PNPY_target);
    p->weight = kept_data(self, PNPY_weight);
    return 0;
}

/* ---- programs ---------------------------------------------------------------------------------------------- */
static int64_t length_of(const int64_t *lengths, int n) { return n > 0 ? lengths[0] : 0; }

static int optional(int32_t size, int32_t expected) { return size == 0 || size == expected; }

/* A field is f(t, y, u; theta); its reverse also takes a seed and gives [f, s f_y, s f_t, s f_u], see docs/program.md. */
static int check_programs(pnpy_problem *self) {
    const pnpy_program *f = self->field, *r = self->reverse;
    pn_problem *p = &self->problem;
    const char *wrong = NULL;
    const int32_t d = p->d;
    if (f->n_slots != 3 || f->slot_size[0] != 1)
        wrong = "field: the slots must be t (1), y (d) and u (m)";
    else if (f->slot_size[1] != d)
        wrong = "field: the state has not as many features as y0";
    else if (f->n_outputs < 1 || !optional(f->output_size[0], d))
        wrong = "field: output 0 must have the size of y";
    else if (f->n_spaces > 1 || f->n_grads > 1)
        wrong = "field: more than one parameter vector or gradient";
    p->m = f->slot_size[2];
    self->n_theta = length_of(f->n_theta, f->n_spaces);
    if (!wrong && r) {
        const int32_t *slot = r->slot_size, *out = r->output_size;
        if (r->n_slots != 4 || slot[0] != 1 || slot[1] != d || slot[2] != p->m || slot[3] != d)
            wrong = "reverse: the slots must be t (1), y (d), u (m) and the seed (d)";
        else if (r->n_outputs != 4 || !optional(out[0], d) || !optional(out[1], d) || !optional(out[2], 1) ||
                 !optional(out[3], p->m))
            wrong = "reverse: the outputs must be f (d), s f_y (d), s f_t (1) and s f_u (m)";
        else if (r->n_spaces > 1 || length_of(r->n_theta, r->n_spaces) != self->n_theta)
            wrong = "reverse: the parameters are not those of the field";
        else if (r->n_grads > 1 || (r->n_grads == 1 && r->n_grad[0] != self->n_theta))
            wrong = "reverse: the gradient has not the length of theta";
    }
    if (!wrong) return 0;
    PyErr_SetString(PyExc_ValueError, wrong);
    return -1;
}

/* A program at save times: slots t (1), y (d), data (k), n_out results; its vjp takes a seed (n_out) too. Its parameters
   stand behind those that there are. */
static int check_part(pnpy_problem *self, int which, int32_t n_out, pn_part *part) {
    const pnpy_program *f = self->part[which], *r = self->part[which + 1];
    const char *name = part_names[which], *wrong = NULL;
    const int32_t d = self->problem.d;
    if (!f && r) wrong = "its vjp is given, but not the program itself";
    if (!f && !r) return 0;
    if (wrong) {
    } else if (f->n_slots != 3 || f->slot_size[0] != 1 || f->slot_size[1] != d)
        wrong = "the slots must be t (1), y (d) and the data (k)";
    else if (f->n_outputs < 1 || !optional(f->output_size[0], n_out))
        wrong = "output 0 has the wrong size: d for a jump, 1 for a loss";
    else if (f->n_spaces > 1 || f->n_grads > 1)
        wrong = "more than one parameter vector or gradient";
    else if (f->has_call || (r && r->has_call))
        wrong = "a callback cannot be run at save times";
    else if (r) {
        const int32_t *slot = r->slot_size, *out = r->output_size, k = f->slot_size[2];
        if (r->n_slots != 4 || slot[0] != 1 || slot[1] != d || slot[2] != k || slot[3] != n_out)
            wrong = "the slots of its vjp must be t (1), y (d), the data (k) and the seed";
        else if (r->n_outputs != 4 || !optional(out[0], n_out) || !optional(out[1], d) || !optional(out[2], 1) ||
                 !optional(out[3], k))
            wrong = "the outputs of its vjp must be the value and the cotangents of y, t and the data";
        else if (r->n_spaces > 1 || length_of(r->n_theta, r->n_spaces) != length_of(f->n_theta, f->n_spaces) ||
                 (r->n_grads == 1 && r->n_grad[0] != length_of(f->n_theta, f->n_spaces)) || r->n_grads > 1)
            wrong = "the parameters of its vjp are not its own";
    }
    if (wrong) {
        PyErr_Format(PyExc_ValueError, "%s: %s", name, wrong);
        return -1;
    }
    const int64_t n = length_of(f->n_theta, f->n_spaces);
    *part = (pn_part){.program = f->program, .reverse = r ? r->program : NULL, .offset = self->n_theta, .k = f->slot_size[2]};
    if (__builtin_add_overflow(self->n_theta, n, &self->n_theta)) {
        PyErr_SetString(PyExc_ValueError, "too many parameters");
        return -1;
    }
    return 0;
}

static int check_parts(pnpy_problem *self, const given *g) {
    pn_problem *p = &self->problem;
    const char *wrong = NULL;
    if (check_part(self, PNPY_JUMP, p->d, &p->jump) < 0 || check_part(self, PNPY_LOSS, 1, &p->loss_part) < 0) return -1;
    if (!p->jump.program && g->array[PNPY_jump_data])
        wrong = "jump_data belongs to a jump";
    else if (p->jump.program && p->jump.k == 0 && g->array[PNPY_jump_data])
        wrong = "jump_data: the jump takes no data";
    else if (p->jump.program && (p->lambda > 0 || g->array[PNPY_jump_add] || self->want_quadrature))
        wrong = "a jump needs coupling = 0 and does not go with jump_set, jump_add or quadrature";
    else if (p->loss == PN_LOSS_PROGRAM && !p->loss_part.program)
        wrong = "loss='program' needs loss_program";
    else if (p->loss == PN_LOSS_PROGRAM && p->loss_part.k == 0 && g->array[PNPY_target])
        wrong = "target: the loss program takes none";
    else if (p->loss == PN_LOSS_PROGRAM && g->array[PNPY_weight])
        wrong = "weight belongs to the built-in losses";
    if (!wrong) return 0;
    PyErr_SetString(PyExc_ValueError, wrong);
    return -1;
}

static int check_wishes(const pnpy_problem *self) {
    const pnpy_program *f = self->field;
    const char *wrong = NULL;
    if (self->want_quadrature && f->n_grads != 1) wrong = "quadrature: the field accumulates nothing";
    if (self->want_quadrature_coef) {
        if (!self->want_quadrature)
            wrong = "quadrature_coef comes with quadrature only";
        else if (f->n_outputs < 4 || !optional(f->output_size[3], self->problem.m))
            wrong = "quadrature_coef: output 3 of the field must be the cotangent of u (m)";
        else if (self->problem.m == 0)
            wrong = "quadrature_coef: the field has no inputs";
        else if (self->shared_segments)
            wrong = "quadrature_coef: samples must not share segments of the inputs";
    }
    if (!wrong) return 0;
    PyErr_SetString(PyExc_ValueError, wrong);
    return -1;
}

/* ---- the type ---------------------------------------------------------------------------------------------- */
static int take_programs(PyTypeObject *type, const given *g, PyObject *field, PyObject *reverse, pnpy_problem *self) {
    const pnpy_state *state = PyType_GetModuleState(type);
    if (!state) return -1;
    if (!field || !Py_IS_TYPE(field, state->program_type) || (reverse && !Py_IS_TYPE(reverse, state->program_type))) {
        PyErr_SetString(PyExc_TypeError, "field must be a Program, reverse a Program or None");
        return -1;
    }
    self->field = (pnpy_program *)Py_NewRef(field);
    self->reverse = (pnpy_program *)Py_XNewRef(reverse);
    for (int i = 0; i < PNPY_N_PARTS; i++) {
        if (g->part[i] && !Py_IS_TYPE(g->part[i], state->program_type)) {
            PyErr_Format(PyExc_TypeError, "%s must be a Program or None", part_names[i]);
            return -1;
        }
        self->part[i] = (pnpy_program *)Py_XNewRef(g->part[i]);
    }
    self->problem.field = self->field->program;
    self->problem.reverse = reverse ? self->reverse->program : NULL;
    return 0;
}

static PyObject *problem_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const Py_ssize_t n_args = PyTuple_GET_SIZE(args);
    PyObject *field = n_args > 0 ? PyTuple_GET_ITEM(args, 0) : NULL;
    PyObject *reverse = n_args > 1 ? PyTuple_GET_ITEM(args, 1) : NULL;
    given g = {0};
    if (n_args > 2) {
        PyErr_SetString(PyExc_TypeError, "Problem(field, reverse=None, *, ...) takes two positional arguments at most");
        return NULL;
    }
    if (sort_keywords(kwargs, &g, &field, &reverse) < 0) return NULL;
    if (reverse == Py_None) reverse = NULL;
    pnpy_problem *self = (pnpy_problem *)type->tp_alloc(type, 0); /* zeroed */
    if (!self) return NULL;
    if (take_programs(type, &g, field, reverse, self) < 0 || take_state(self, &g) < 0 || check_programs(self) < 0 ||
        read_scalars(self, &g) < 0 || check_parts(self, &g) < 0 || take_times(self, &g) < 0 || take_inputs(self, &g) < 0 ||
        take_grid(self, &g) < 0 || take_rest(self, &g) < 0 || check_scalars(&self->problem) < 0 || check_wishes(self) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int problem_traverse(PyObject *obj, visitproc visit, void *arg) {
    pnpy_problem *self = (pnpy_problem *)obj;
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->field);
    Py_VISIT(self->reverse);
    for (int i = 0; i < PNPY_N_PARTS; i++) Py_VISIT(self->part[i]);
    for (int i = 0; i < PNPY_N_KEPT; i++) Py_VISIT(self->kept[i]);
    return 0;
}

/* No tp_clear: a Problem is immutable and its arrays and programs refer to nothing, so no cycle runs through it. */
static void problem_dealloc(PyObject *obj) {
    pnpy_problem *self = (pnpy_problem *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    Py_CLEAR(self->field);
    Py_CLEAR(self->reverse);
    for (int i = 0; i < PNPY_N_PARTS; i++) Py_CLEAR(self->part[i]);
    for (int i = 0; i < PNPY_N_KEPT; i++) Py_CLEAR(self->kept[i]);
    type->tp_free(obj);
    Py_DECREF(type);
}

static PyMemberDef problem_members[] = {
    {"field", T_OBJECT, offsetof(pnpy_problem, field), READONLY, "The field, a Program."},
    {"reverse", T_OBJECT, offsetof(pnpy_problem, reverse), READONLY, "Its vjp, a Program or None."},
    {"n", T_LONGLONG, offsetof(pnpy_problem, problem) + offsetof(pn_problem, n), READONLY, "Number of samples."},
    {"d", T_INT, offsetof(pnpy_problem, problem) + offsetof(pn_problem, d), READONLY, "Features of the state."},
    {"m", T_INT, offsetof(pnpy_problem, problem) + offsetof(pn_problem, m), READONLY, "Number of inputs."},
    {"rows", T_LONGLONG, offsetof(pnpy_problem, rows), READONLY, "Rows of the result."},
    {"n_theta", T_LONGLONG, offsetof(pnpy_problem, n_theta), READONLY, "Number of parameters."},
    {0},
};

static PyMethodDef problem_methods[] = {
    {"takes", pnpy_problem_takes, METH_O,
     "takes($self, theta, /)\n--\n\nWhether theta can go to run as it is: right type and length, all finite."},
    {"fits", (PyCFunction)(void (*)(void))pnpy_problem_fits, METH_FASTCALL,
     "fits($self, single, theta, y0, t, target=None, /)\n--\n\nWhether run(theta, y0=y0, target=target) does what a new "
     "problem of these arrays would: types and shapes as they are, the same times, theta finite, target not infinite and "
     "not all NaN. single: y0 is (d,), target (T, d)."},
    {"run", (PyCFunction)(void (*)(void))pnpy_problem_run, METH_FASTCALL | METH_KEYWORDS,
     "run($self, /, theta, *, y0=None, target=None, weight=None, data=None, g_y=None, gradient='none', wrt_y0=False, "
     "wrt_t=False, wrt_inputs=False, wrt_data=False, wrt_target=False, sensitivity=False, memory=0, callback=None, "
     "out=None, event=None, event_theta=None, event_direction=None, event_side=None, after=None)\n--\n\nSolve, and where asked "
     "differentiate."},
    {0},
};

static PyType_Slot problem_slots[] = {
    {Py_tp_new, problem_new},
    {Py_tp_dealloc, problem_dealloc},
    {Py_tp_traverse, problem_traverse},
    {Py_tp_members, problem_members},
    {Py_tp_methods, problem_methods},
    {Py_tp_doc, "Problem(field, reverse=None, *, y0, t, ...)\n\nOne solve for a batch of samples, checked and ready "
                "to run. Keywords: the members of pn_problem (csrc/pynode.h)."},
    {0, NULL},
};

PyType_Spec pnpy_problem_spec = {
    .name = "pynode._core.Problem",
    .basicsize = sizeof(pnpy_problem),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = problem_slots,
};
