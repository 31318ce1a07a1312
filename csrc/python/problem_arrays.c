/* Problem: arrays. It owns a copy of every index, so nobody can change one after the core has checked it. */
#include "python/problem.h"

static int keep(pnpy_problem *self, const pnpy_given *g, int which, int typenum, int ndim, const npy_intp *shape) {
    if (!g->array[which]) return 0;
    self->kept[which] = pnpy_array(g->array[which], pnpy_array_names[which], typenum, ndim, shape, 1);
    return self->kept[which] ? 0 : -1;
}

/* Of numbers that are no index: without a copy of an array that is read-only and owns what it shows. */
static int keep_numbers(pnpy_problem *self, const pnpy_given *g, int which, int typenum, int ndim, const npy_intp *shape) {
    PyObject *given = g->array[which];
    const int own = given && PyArray_CheckExact(given) && PyArray_CHKFLAGS((PyArrayObject *)given, NPY_ARRAY_OWNDATA) &&
                    !PyArray_CHKFLAGS((PyArrayObject *)given, NPY_ARRAY_WRITEABLE);
    if (!own) return keep(self, g, which, typenum, ndim, shape);
    self->kept[which] = pnpy_array(given, pnpy_array_names[which], typenum, ndim, shape, 0);
    return self->kept[which] ? 0 : -1;
}

static const void *kept_data(const pnpy_problem *self, int which) {
    return self->kept[which] ? PyArray_DATA(self->kept[which]) : NULL;
}

/* An index array of one entry a sample, or value, value + stride, ... where none was given. */
static const int64_t *keep_index(pnpy_problem *self, const pnpy_given *g, int which, int64_t value, int64_t stride) {
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

int pnpy_take_state(pnpy_problem *self, const pnpy_given *g) {
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

/* How many rows the result has: what the last sample's end says. */
static int count_rows(pnpy_problem *self) {
    pn_problem *p = &self->problem;
    int64_t end = 0;
    for (int64_t i = 0; i < p->n; i++) {
        self->rows_gap |= p->row[i] != end;
        if (!__builtin_add_overflow(p->row[i], p->t_len[i], &end)) continue;
        PyErr_Format(PyExc_ValueError, "sample %lld: row = %lld is too large", (long long)i, (long long)p->row[i]);
        return -1;
    }
    p->rows = end;
    return 0;
}

static int take_times(pnpy_problem *self, const pnpy_given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any = PNPY_ANY;
    if (keep(self, g, PNPY_t, NPY_DOUBLE, 1, &any) < 0) return -1;
    const int64_t total = p->n_t = PyArray_DIM(self->kept[PNPY_t], 0);
    p->t = kept_data(self, PNPY_t);
    if ((!g->array[PNPY_t_start]) != (!g->array[PNPY_t_len]) || (g->array[PNPY_t_len] && !g->array[PNPY_row])) {
        PyErr_SetString(PyExc_TypeError, "t_start, t_len and row go together (none of them: all samples share t)");
        return -1;
    }
    if (!(p->t_start = keep_index(self, g, PNPY_t_start, 0, 0))) return -1;
    if (!(p->t_len = keep_index(self, g, PNPY_t_len, total, 0))) return -1;
    if (!(p->row = keep_index(self, g, PNPY_row, 0, total))) return -1;
    self->shared_times = 1;
    for (int64_t i = 0; i < p->n; i++) self->shared_times &= p->t_len[i] == total;
    return count_rows(self);
}

static int take_inputs(pnpy_problem *self, const pnpy_given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any = PNPY_ANY, shape[3] = {PNPY_ANY, PNPY_ANY, p->m};
    if (keep(self, g, PNPY_knot, NPY_DOUBLE, 1, &any) < 0) return -1;
    if (keep_numbers(self, g, PNPY_coef, self->f32 ? NPY_FLOAT : NPY_DOUBLE, 3, shape) < 0) return -1;
    p->knot = kept_data(self, PNPY_knot);
    p->coef = kept_data(self, PNPY_coef);
    if (!p->knot || !p->coef) return 0;
    const npy_intp terms = PyArray_DIM(self->kept[PNPY_coef], 1);
    p->n_knots = PyArray_DIM(self->kept[PNPY_knot], 0);
    p->n_segments = PyArray_DIM(self->kept[PNPY_coef], 0);
    p->degree = terms <= INT32_MAX ? (int32_t)terms - 1 : INT32_MAX;
    if (!(p->knot_start = keep_index(self, g, PNPY_knot_start, 0, 0))) return -1;
    if (!(p->knot_len = keep_index(self, g, PNPY_knot_len, p->n_knots, 0))) return -1;
    if (!(p->cross_knots = keep_index(self, g, PNPY_cross_knots, 0, 0))) return -1;
    return (p->seg_start = keep_index(self, g, PNPY_seg_start, 0, 0)) ? 0 : -1;
}

static int take_grid(pnpy_problem *self, const pnpy_given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any = PNPY_ANY;
    if (!g->array[PNPY_grid]) return 0;
    if (keep(self, g, PNPY_grid, NPY_DOUBLE, 1, &any) < 0) return -1;
    p->n_grid = PyArray_DIM(self->kept[PNPY_grid], 0);
    p->grid = kept_data(self, PNPY_grid);
    if (!(p->grid_start = keep_index(self, g, PNPY_grid_start, 0, 0))) return -1;
    return (p->grid_len = keep_index(self, g, PNPY_grid_len, p->n_grid, 0)) ? 0 : -1;
}

static int take_stops(pnpy_problem *self, const pnpy_given *g) {
    pn_problem *p = &self->problem;
    const npy_intp any = PNPY_ANY;
    if (keep(self, g, PNPY_stops, NPY_DOUBLE, 1, &any) < 0) return -1;
    p->stops = kept_data(self, PNPY_stops);
    p->n_stops = self->kept[PNPY_stops] ? PyArray_DIM(self->kept[PNPY_stops], 0) : 0;
    return 0;
}

static int take_atol(pnpy_problem *self, const pnpy_given *g) {
    const npy_intp d = self->problem.d;
    if (g->array[PNPY_atol]) {
        if (keep(self, g, PNPY_atol, NPY_DOUBLE, 1, &d) < 0) return -1;
    } else {
        self->kept[PNPY_atol] = (PyArrayObject *)PyArray_SimpleNew(1, &d, NPY_DOUBLE);
        if (!self->kept[PNPY_atol]) return -1;
        double *atol = PyArray_DATA(self->kept[PNPY_atol]);
        for (npy_intp i = 0; i < d; i++) atol[i] = 1e-8;
    }
    self->problem.atol = kept_data(self, PNPY_atol);
    return 0;
}

/* Arrays of one row for each row of the result. */
static int take_rows(pnpy_problem *self, const pnpy_given *g) {
    pn_problem *p = &self->problem;
    const int typenum = self->f32 ? NPY_FLOAT : NPY_DOUBLE;
    const npy_intp rows[2] = {(npy_intp)p->rows, p->d};
    const int32_t k = p->jump.k, x = p->loss_part.k;
    const npy_intp jump_rows[2] = {(npy_intp)p->rows, k ? k : PNPY_ANY}, loss_rows[2] = {(npy_intp)p->rows, x ? x : PNPY_ANY};
    for (int which = PNPY_jump_set; which <= PNPY_weight; which++) {
        const npy_intp *shape = which == PNPY_jump_data                              ? jump_rows
                                : which == PNPY_target && p->loss == PN_LOSS_PROGRAM ? loss_rows
                                                                                     : rows;
        if (keep(self, g, which, typenum, 2, shape) < 0) return -1;
    }
    p->jump_set = kept_data(self, PNPY_jump_set);
    p->jump_add = kept_data(self, PNPY_jump_add);
    p->jump.data = kept_data(self, PNPY_jump_data);
    p->target = kept_data(self, PNPY_target);
    if (p->loss == PN_LOSS_PROGRAM) p->loss_part.data = p->target;
    p->weight = kept_data(self, PNPY_weight);
    return 0;
}

int pnpy_check_setup(const pnpy_problem *self) {
    char message[PN_MESSAGE] = "quadrature: the field accumulates nothing";
    if (self->want_quadrature && self->field->n_grads != 1) {
        PyErr_SetString(PyExc_ValueError, message);
        return -1;
    }
    if (pn_problem_check_setup(&self->problem, self->f32, message) == PN_OK) return 0;
    PyErr_SetString(PyExc_ValueError, message);
    return -1;
}

static int take_mass(pnpy_problem *self, const pnpy_given *g) {
    const npy_intp square[2] = {self->problem.d, self->problem.d};
    if (keep(self, g, PNPY_mass, NPY_DOUBLE, 2, square) < 0 || keep(self, g, PNPY_mass_inverse, NPY_DOUBLE, 2, square) < 0)
        return -1;
    self->problem.mass = kept_data(self, PNPY_mass);
    self->problem.mass_inverse = kept_data(self, PNPY_mass_inverse);
    return 0;
}

/* (2, n): rows and columns. */
static int take_pattern(pnpy_problem *self, const pnpy_given *g) {
    const npy_intp pairs[2] = {2, PNPY_ANY};
    char message[PN_MESSAGE] = "";
    if (keep(self, g, PNPY_pattern, NPY_INT32, 2, pairs) < 0) return -1;
    const int32_t *row = kept_data(self, PNPY_pattern);
    if (!row) return 0;
    const int64_t n = PyArray_DIM(self->kept[PNPY_pattern], 1);
    pn_status st = pn_pattern_create(self->problem.d, n, row, row + n, self->problem.mass, message, &self->pattern);
    if (st == PN_MEMORY)
        PyErr_NoMemory();
    else if (st != PN_OK)
        PyErr_SetString(PyExc_ValueError, message);
    self->problem.pattern = self->pattern;
    return st == PN_OK ? 0 : -1;
}

int pnpy_take_arrays(pnpy_problem *self, const pnpy_given *g) {
    if (take_times(self, g) < 0 || take_inputs(self, g) < 0 || take_grid(self, g) < 0 || take_stops(self, g) < 0 ||
        take_atol(self, g) < 0 || take_mass(self, g) < 0 || take_pattern(self, g) < 0)
        return -1;
    if (pnpy_check_setup(self) < 0 || take_rows(self, g) < 0 || pnpy_check_setup(self) < 0) return -1;
    self->problem.checked = 1;
    self->problem.finite_inputs = pn_inputs_finite(&self->problem, self->f32);
    return 0;
}
