/* What the checks of a problem share: each returns 1, or says what is wrong and returns 0. */
#ifndef PN_CHECK_H
#define PN_CHECK_H
#include "program/program.h"

typedef struct pn_checker {
    const pn_problem *P;
    int f32;
    char *message;
} pn_checker;

int pn_wrong(const pn_checker *c, const char *format, ...);

/* The first of the rules that is broken; a rule is a condition that must not hold, and what it means. */
typedef struct pn_rule {
    int broken;
    const char *text;
} pn_rule;
int pn_keep_to(const pn_checker *c, const char *what, const pn_rule *rules, size_t n);
#define PN_KEEP_TO(c, what, ...)                                                                                               \
    pn_keep_to(c, what, (const pn_rule[]){__VA_ARGS__}, sizeof((pn_rule[]){__VA_ARGS__}) / sizeof(pn_rule))

static inline int pn_optional(int32_t size, int32_t expected) { return size == 0 || size == expected; }
static inline int64_t pn_parameters(const pn_program *f) { return f->n_spaces > 0 ? f->n_theta[0] : 0; }

/* check_implicit.c: the program of the Jacobian that a Rosenbrock method needs, its vjp, the pattern and the mass; the two methods
   of a solve that changes between them. */
int pn_check_implicit(const pn_checker *c);
#endif
