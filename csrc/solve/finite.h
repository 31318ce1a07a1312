/* Whether numbers are finite. */
#ifndef PN_FINITE_H
#define PN_FINITE_H
#include <stddef.h>

static inline int pn_all_finite(const double *x, size_t n) {
    enum { WAYS = 8 };
    double bad[WAYS] = {0}, some = 0;
    size_t i = 0;
    for (; i + WAYS <= n; i += WAYS)
        for (size_t k = 0; k < WAYS; k++) bad[k] += x[i + k] * 0;
    for (; i < n; i++) some += x[i] * 0;
    for (size_t k = 0; k < WAYS; k++) some += bad[k];
    return some == 0;
}
#endif
