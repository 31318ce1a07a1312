/* The entries of a Jacobian that may differ from 0, and what the factors of W = M - gamma h J look like. Made by
   pn_pattern_create, read only afterwards.

   The factors of a sparse W: unknown i of the order stands for component label[i] of the state, and for the equation
   equation[label[i]]. Row i of the factors takes the places start[i] .. start[i + 1] - 1 of an array: L, the diagonal at diag[i],
   U, each with its unknown in `column`; `of` is the component of that unknown. */
#ifndef PN_PATTERN_H
#define PN_PATTERN_H
#include "pynode.h"

struct pn_pattern {
    int32_t d, n;                             /* order; entries of J */
    int32_t sparse;                           /* 0: the factors are full matrices */
    int32_t exchanged;                        /* equation[c] != c for some c */
    int32_t size;                             /* entries of the factors; d d if full */
    int32_t n_mass;                           /* entries of M that may differ from 0 */
    int64_t n_ops;                            /* a -= b c in the factorisation */
    int32_t *row, *col;                       /* (n) entries of J */
    int32_t *place;                           /* (n) where they are in W */
    int32_t *mass, *moored;                   /* (n_mass) entries of M as r d + c, and their places in W */
    int32_t *start, *diag, *label, *equation; /* (d + 1), (d), (d), (d) */
    int32_t *column, *of;                     /* (size) */
    int32_t *target;                          /* (n_ops) the places of a in their order, see kernels/sparse.inl */
};

/* Whether the pattern was made for a mass that is 0 where this one is (NULL: the identity). */
int pn_pattern_has(const pn_pattern *p, const double *mass);
#endif
