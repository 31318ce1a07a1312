/* Explicit Runge-Kutta methods as data.
 *
 * One step of size h from (t, y), the same for every method:
 *
 *   k_i   = f(t + c_i h, y + h sum_{j<i} a_ij k_j)      i = 0 .. s-1   core stages
 *   y_new = y + h sum_{i<s} b_i k_i
 *   k_s   = f(t + h, y_new)                             f_new, always stage number s
 *   k_i   as above for i = s+1 .. s+n_extra             extra stages, dense output only
 *
 * Row s of a is b and c_s = 1, so no user of the table needs a special case for
 * f_new; it is also stage 0 of the next step.  Entries not mentioned are zero.
 *
 * Error estimate, where error_order > 0:
 *
 *   err = h sum_i e_i k_i
 *
 * where b - e are the weights of the embedded solution.  dop853 has two,
 * err5 = h sum_i e_i k_i of order 5 and err3 = h sum_i e2_i k_i of order 3, and takes
 *
 *   ||err|| = ||err5||^2 / sqrt(||err5||^2 + 0.01 ||err3||^2)
 *
 * (0 if both vanish), which is O(h^8): its error_order is 7, as if there were one
 * embedded solution of order 7.  So ||err|| = O(h^(error_order + 1)) for all.
 *
 * Dense output, 0 <= theta <= 1:
 *
 *   y(t + theta h) ~ y + h sum_i k_i sum_{j=1..dense_degree} dense[i][j] theta^j
 *
 * It equals y_new at theta = 1 (up to rounding: the coefficients of dop853 are large,
 * so there up to 1e-13 h |k|).  Of the methods in tableau.c its derivative is k_0 at
 * theta = 0 and f_new at theta = 1, so that the solution is C1 across steps.  Its local error is
 * O(h^(dense_order + 1)); over many steps its global error is of order
 * min(order, dense_order + 1).
 *
 * A partitioned method has two tables: the one in `second` gives a, b and dense of the
 * second half of the state, its s, c and dense_degree being the same.  With y = (q, v)
 * in halves and kick-drift-kick staged explicitly, each stage is still one evaluation of
 * the whole field.
 *
 * A Rosenbrock method (gamma > 0) solves a linear system with the matrix W = M - gamma h J, J = df/dy(t, y) and M = I or
 * the mass matrix, for each stage:
 *
 *   W k_i = gamma (f(t + c_i h, y + h sum_{j<i} a_ij k_j) + M sum_{j<i} coupling_ij k_j + by_t_i h df/dt(t, y))
 *
 * (Hairer & Wanner, Solving ODEs II, IV.7, (7.25), with k_i = u_i / h). All the rest is as above; f_new is not used. Rows of
 * a do not sum to c_i there: k_i is no derivative. A W-method (any_matrix) keeps its order with any matrix in the place of J and
 * any vector in that of df/dt.
 *
 * Notation and order conditions: Hairer, Norsett, Wanner, Solving Ordinary
 * Differential Equations I, 2nd ed. (HNW), chapter II. */
#ifndef PN_TABLEAU_H
#define PN_TABLEAU_H
#include <stddef.h>

#define PN_MAX_NAME 63   /* bytes of a name at most */
#define PN_MAX_CORE 12   /* s at most */
#define PN_MAX_STAGES 16 /* s + 1 + n_extra at most */
#define PN_MAX_DEGREE 7  /* dense_degree at most */

typedef struct pn_tableau {
    const char *name;
    int order;          /* of y_new */
    int error_order;    /* of the embedded solution; 0: no error estimate, fixed step only */
    int s;              /* core stages */
    int n_extra;        /* stages after f_new that dense output needs */
    int error_uses_new; /* the error estimate needs f_new */
    int dense_degree;   /* degree of the interpolating polynomial */
    int dense_order;    /* its order of accuracy, uniform in theta */
    int dense_uses_new; /* dense output needs f_new (and then the extra stages) */
    int has_e2;         /* a second error estimator is given in e2 */
    double c[PN_MAX_STAGES];
    double a[PN_MAX_STAGES][PN_MAX_STAGES];
    double b[PN_MAX_CORE];
    double e[PN_MAX_STAGES];
    double e2[PN_MAX_STAGES];
    double dense[PN_MAX_STAGES][PN_MAX_DEGREE + 1];
    double gamma; /* > 0: a Rosenbrock method, with the two tables that follow */
    double coupling[PN_MAX_CORE][PN_MAX_CORE];
    double by_t[PN_MAX_CORE];
    int any_matrix;                  /* a W-method: the order does not need the Jacobian to be right */
    const char *source;              /* paper, table */
    const struct pn_tableau *second; /* of the second half of the state, or NULL: one table for all */
} pn_tableau;

/* The method called `name`, or NULL. */
const pn_tableau *pn_tableau_find(const char *name);

/* All methods: pn_tableau_at(i) for 0 <= i < pn_tableau_count(), NULL outside. */
int pn_tableau_count(void);
const pn_tableau *pn_tableau_at(int i);

/* The Rosenbrock methods among them. */
int pn_rosenbrock_count(void);
const pn_tableau *pn_rosenbrock_at(int i);

/* Whether a table from outside can be used as a method, in C or by pn_solve: sizes, finite coefficients, an explicit method
 * with c_i = sum_j a_ij, row s as above, dense output that is y at theta = 0 and y_new at theta = 1 (to 1e-10), a second
 * table of the same shape. Then 1, and error_uses_new, dense_uses_new and has_e2 are set from the coefficients; else 0, and
 * a message of at most `room` bytes that names the member and its value. Neither the orders of accuracy nor C1 joins of the
 * dense output are looked into: nothing in the core depends on them. */
int pn_tableau_check(pn_tableau *m, char *message, size_t room);

/* All stages: core, f_new, extra. */
static inline int pn_tableau_stages(const pn_tableau *m) { return m->s + 1 + m->n_extra; }

#endif
