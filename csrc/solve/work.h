/* What the instances share: the thread's view of a solve. */
#ifndef PN_WORK_H
#define PN_WORK_H
#include <stdatomic.h>

#include "program/program.h"
#include "reverse/tape.h"

typedef struct pn_shared { /* one for each solve, seen by all its threads */
    const pn_problem *problem;
    atomic_int stop; /* a pn_status that ends everything */
    atomic_llong next_task;
    int64_t chunk, n_chunks, chunks_per_task, n_tasks;
    double *task_grad;       /* (n_tasks, p) or NULL */
    double *task_quadrature; /* (n_tasks, p) or NULL */
    int64_t p, q;            /* lengths of those rows */
    int64_t budget;          /* bytes of tape for each thread, 0: no limit */
    int64_t chunk_rows;      /* most rows of the result that a chunk spans */
} pn_shared;

enum { PN_PART_FILES = 4 }; /* register files of a program at save times that are added to the gradient together */

typedef struct pn_kernels { /* one instance */
    int lanes;
    size_t element;
    /* run tasks until none is left; `main` polls for interrupts */
    pn_status (*work)(pn_shared *s, int main);
    pn_status (*evaluate)(const pn_program *program, int64_t n, const void *const *slots, const void *const *theta,
                          void *const *outputs, double *const *grads, pn_callback call, void *call_ctx);
} pn_kernels;

typedef enum pn_lanes { PN_LANES_ONE, PN_LANES_NARROW, PN_LANES_WIDE, PN_N_LANES } pn_lanes;
typedef struct pn_instance {           /* one instruction set */
    pn_kernels kernels[2][PN_N_LANES]; /* [f32] */
} pn_instance;
extern const pn_instance pn_instance_plain, pn_instance_baseline;
#ifdef PN_HAVE_X86_ISA
extern const pn_instance pn_instance_avx2, pn_instance_avx512;
#endif
const pn_kernels *pn_kernels_get(int f32, pn_isa isa, int64_t n, int adaptive, int calls); /* for n samples */
#endif
