/* Whether a table that nobody vouches for is a method as the core understands it (see tableau.h). What is asked for is
   what memory and the machinery depend on; whether y_new is of the order that is claimed is not. */
#include "method/tableau.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Sums of rounded coefficients: row sums of a, and dense output at theta = 1. */
#define TOLERANCE 1e-10

typedef struct checker {
    const pn_tableau *m;
    int stages; /* all of them */
    char *message;
    size_t room;
} checker;

__attribute__((format(printf, 2, 3))) static int wrong(const checker *k, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(k->message, k->room, format, ap);
    va_end(ap);
    return 0;
}

static int in_range(const checker *k, const char *name, int value, int low, int high) {
    if (value >= low && value <= high) return 1;
    return wrong(k, "%s must be between %d and %d, got %d", name, low, high, value);
}

static int good_sizes(const checker *k) {
    const pn_tableau *m = k->m;
    const char *end = m->name ? memchr(m->name, 0, PN_MAX_NAME + 1) : NULL;
    if (!m->name || end == m->name) return wrong(k, "name must not be empty");
    if (!end) return wrong(k, "name must have at most %d bytes, got '%.16s...'", PN_MAX_NAME, m->name);
    if (!in_range(k, "the number of core stages (entries of b)", m->s, 1, PN_MAX_CORE)) return 0;
    if (!in_range(k, "the number of extra stages", m->n_extra, 0, PN_MAX_STAGES - 1 - m->s)) return 0;
    /* an explicit method of s stages has an order of s at most, its embedded one, which may use f_new, of s + 1 */
    return in_range(k, "order", m->order, 1, m->s) && in_range(k, "error_order", m->error_order, 0, m->s + 1) &&
           in_range(k, "dense_degree", m->dense_degree, 1, PN_MAX_DEGREE) &&
           in_range(k, "dense_order", m->dense_order, 1, m->dense_degree);
}

/* n numbers; a row of a matrix where row >= 0 */
static int all_finite(const checker *k, const char *name, int row, const double *x, int n) {
    for (int j = 0; j < n; j++) {
        if (isfinite(x[j])) continue;
        if (row < 0) return wrong(k, "%s[%d] = %g: every coefficient must be finite", name, j, x[j]);
        return wrong(k, "%s[%d, %d] = %g: every coefficient must be finite", name, row, j, x[j]);
    }
    return 1;
}

static int is_finite(const checker *k) {
    const pn_tableau *m = k->m;
    const int n = k->stages;
    if (!all_finite(k, "c", -1, m->c, n) || !all_finite(k, "b", -1, m->b, m->s)) return 0;
    if (!all_finite(k, "e", -1, m->e, n) || !all_finite(k, "e2", -1, m->e2, n)) return 0;
    for (int i = 0; i < n; i++)
        if (!all_finite(k, "a", i, m->a[i], n) || !all_finite(k, "dense", i, m->dense[i], m->dense_degree + 1)) return 0;
    return 1;
}

/* Explicit, c_i = sum_j a_ij, and stage s is f_new = f(t + h, y_new). */
static int good_stages(const checker *k) {
    const pn_tableau *m = k->m;
    for (int i = 0; i < k->stages; i++) {
        double sum = 0;
        for (int j = 0; j < k->stages; j++) {
            if (j >= i && m->a[i][j] != 0)
                return wrong(k, "a[%d, %d] = %.17g: a must be strictly lower triangular, the method explicit", i, j,
                             m->a[i][j]);
            sum += m->a[i][j];
        }
        if (!(fabs(m->c[i] - sum) <= TOLERANCE))
            return wrong(k, "c[%d] = %.17g, but row %d of a sums to %.17g", i, m->c[i], i, sum);
    }
    if (m->c[0] != 0) return wrong(k, "c[0] = %.17g: the first stage must be f(t, y), c[0] = 0", m->c[0]);
    if (m->c[m->s] != 1)
        return wrong(k, "c[%d] = %.17g: stage %d must be f(t + h, y_new), c[%d] = 1", m->s, m->c[m->s], m->s, m->s);
    for (int j = 0; j < m->s; j++)
        if (m->a[m->s][j] != m->b[j])
            return wrong(k, "a[%d, %d] = %.17g, but b[%d] = %.17g: row %d of a must be b, its stage f(t + h, y_new)", m->s, j,
                         m->a[m->s][j], j, m->b[j], m->s);
    return 1;
}

static int is_zero(const double *x, int n) {
    for (int j = 0; j < n; j++)
        if (x[j] != 0) return 0;
    return 1;
}

/* Error estimates are sums over the core stages and f_new. */
static int good_errors(const checker *k) {
    const pn_tableau *m = k->m;
    for (int i = m->s + 1; i < k->stages; i++) {
        if (m->e[i] != 0) return wrong(k, "e[%d] = %.17g: an error estimate must not use the extra stages", i, m->e[i]);
        if (m->e2[i] != 0) return wrong(k, "e2[%d] = %.17g: an error estimate must not use the extra stages", i, m->e2[i]);
    }
    const int none = is_zero(m->e, k->stages);
    if (m->error_order > 0 && none)
        return wrong(k, "error_order = %d, but e is zero: it must be the weights of an error", m->error_order);
    if (m->error_order == 0 && !none)
        return wrong(k, "error_order = 0, but e is given: say of which order the embedded solution is");
    if (m->error_order == 0 && !is_zero(m->e2, k->stages))
        return wrong(k, "e2 is given, but error_order = 0: e2 comes with e only");
    return 1;
}

/* y at theta = 0 and y_new at theta = 1. */
static int good_dense(const checker *k) {
    const pn_tableau *m = k->m;
    for (int i = 0; i < k->stages; i++) {
        const double want = i < m->s ? m->b[i] : 0;
        double sum = 0;
        if (m->dense[i][0] != 0)
            return wrong(k, "dense[%d, 0] = %.17g: dense output must be y at theta = 0", i, m->dense[i][0]);
        for (int j = 1; j <= m->dense_degree; j++) sum += m->dense[i][j];
        if (!(fabs(sum - want) <= TOLERANCE))
            return wrong(k, "row %d of dense sums to %.17g: dense output must be y_new at theta = 1, where the weight is %.17g",
                         i, sum, want);
    }
    return 1;
}

/* The table of the second half of the state stands beside this one, stage by stage. */
static int good_second(const checker *k) {
    const pn_tableau *m = k->m, *o = m->second;
    if (!o) return 1;
    if (o->second) return wrong(k, "second must not have a second table itself, got '%s'", o->name);
    if (o->s != m->s || o->n_extra != m->n_extra)
        return wrong(k, "second has %d core and %d extra stages, the first table %d and %d", o->s, o->n_extra, m->s,
                     m->n_extra);
    if (o->dense_degree != m->dense_degree)
        return wrong(k, "second has dense output of degree %d, the first table of degree %d", o->dense_degree, m->dense_degree);
    for (int i = 0; i < k->stages; i++)
        if (o->c[i] != m->c[i]) return wrong(k, "second has c[%d] = %.17g, the first table %.17g", i, o->c[i], m->c[i]);
    if (m->error_order > 0 || o->error_order > 0)
        return wrong(k, "error_order = %d: a method with a second table has no error estimate",
                     m->error_order > 0 ? m->error_order : o->error_order);
    return 1;
}

static int dense_reaches(const pn_tableau *m, int stages) { /* f_new, or beyond */
    for (int i = m->s; i < stages; i++)
        if (!is_zero(m->dense[i], m->dense_degree + 1)) return 1;
    return 0;
}

int pn_tableau_check(pn_tableau *m, char *message, size_t room) {
    checker k = {.m = m, .message = message, .room = room};
    if (!good_sizes(&k)) return 0;
    k.stages = pn_tableau_stages(m);
    if (!is_finite(&k) || !good_stages(&k) || !good_errors(&k) || !good_dense(&k) || !good_second(&k)) return 0;
    m->error_uses_new = m->e[m->s] != 0 || m->e2[m->s] != 0;
    m->has_e2 = !is_zero(m->e2, k.stages);
    m->dense_uses_new = dense_reaches(m, k.stages) || (m->second && dense_reaches(m->second, k.stages));
    return 1;
}
