/* Problem(field, reverse=None, *, ...): what the files that read its arguments share.

   problem.c            sorts the arguments; the type
   problem_programs.c   field, reverse, jump and loss programs
   problem_scalars.c    numbers, flags, names
   problem_arrays.c     every array; then the core checks all of it

   Each function returns 0, or -1 with a Python exception set. Arrays are read last: the programs and the scalars say which
   shapes they have. */
#ifndef PNPY_PROBLEM_H
#define PNPY_PROBLEM_H
#include "python/pnpy.h"

/* A keyword that is a number or a flag: its name in Python, the member of pn_problem. */
typedef struct {
    const char *name;
    size_t offset;
} pnpy_scalar;
enum { PNPY_N_REALS = 12, PNPY_N_FLAGS = 3 };
extern const pnpy_scalar pnpy_reals[PNPY_N_REALS], pnpy_flags[PNPY_N_FLAGS];

enum {
    PNPY_METHOD,
    PNPY_LOSS_NAME,
    PNPY_THREADS,
    PNPY_MAX_STEPS,
    PNPY_QUADRATURE,
    PNPY_QUADRATURE_COEF,
    PNPY_STEPS,
    PNPY_STIFF,
    PNPY_JACOBIAN_COST,
    PNPY_N_OTHER
};
extern const char *const pnpy_array_names[PNPY_N_KEPT]; /* in the order of PNPY_y0 ... */
extern const char *const pnpy_part_names[PNPY_N_PARTS];

typedef struct { /* borrowed; NULL where not given or None */
    PyObject *field, *reverse;
    PyObject *real[PNPY_N_REALS], *flag[PNPY_N_FLAGS], *array[PNPY_N_KEPT], *other[PNPY_N_OTHER], *part[PNPY_N_PARTS];
} pnpy_given;

/* ---- problem_programs.c ------------------------------------------------------------------------------------ */
int pnpy_take_programs(pnpy_problem *self, const pnpy_given *g, const pnpy_state *state);
int pnpy_read_programs(pnpy_problem *self);

/* ---- problem_scalars.c ------------------------------------------------------------------------------------- */
int pnpy_read_scalars(pnpy_problem *self, const pnpy_given *g, const pnpy_state *state);

/* ---- problem_arrays.c -------------------------------------------------------------------------------------- */
int pnpy_take_state(pnpy_problem *self, const pnpy_given *g);
int pnpy_take_arrays(pnpy_problem *self, const pnpy_given *g);
#endif
