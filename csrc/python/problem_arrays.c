/* Problem: arrays. It owns a copy of every one, so nobody can change an index after it was checked. */
#include "python/problem.h"

#include <math.h>

static int keep(pnpy_problem *self, const pnpy_given *g, int which, int typenum, int ndim, const npy_intp *shape) {
    if (!g->array[which]) return 0;
    self->kept[which] = pnpy_array(g->array[which], pnpy_array_names[which], typenum, ndim, shape, 1);
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

static int take_times(pnpy_problem *self, const pnpy_given *g) {
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

static int take_inputs(pnpy_problem *self, const pnpy_given *g) {
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

static int take_grid(pnpy_problem *self, const pnpy_given *g) {
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

static int take_rest(pnpy_problem *self, const pnpy_given *g) {
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

int pnpy_take_arrays(pnpy_problem *self, const pnpy_given *g) {
    if (take_times(self, g) < 0 || take_inputs(self, g) < 0 || take_grid(self, g) < 0) return -1;
    return take_rest(self, g);
}
