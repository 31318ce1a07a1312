/* Problems whose field computes numbers of its parameters alone (pn_hoisted): they are computed, the problem is solved by the rest of
   the field, and the gradient goes back through what computed them, once. */
#ifndef PN_HOISTED_H
#define PN_HOISTED_H
#include "pynode.h"

typedef struct pn_hoisting {
    pn_problem
        problem; /* what is solved: `rest` is its field, theta is [that of the field, what was computed, that of the parts] */
    int64_t at, made; /* so many numbers, from there on */
    char *store;      /* the gradient with respect to what `problem` reads, then that, where tapes do not have it */
    size_t bytes;     /* of the store */
} pn_hoisting;

/* Whether a problem is solved that way. */
static inline int pn_hoists(const pn_problem *P) {
    return P->hoisted.once && !P->theta_each && !P->sensitivity && !P->quadrature && !P->call;
}

pn_status pn_hoist(pn_hoisting *h, const pn_problem *P, int f32, pn_isa isa, char *text);
/* P->g_theta from the gradient of h->problem; 0 in *finite: it is not, though that one is. */
pn_status pn_pull_back(const pn_hoisting *h, const pn_problem *P, int f32, pn_isa isa, int *finite);
void pn_hoisting_end(pn_hoisting *h);
#endif
