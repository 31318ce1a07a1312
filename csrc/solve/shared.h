/* A solve as its threads see it. */
#ifndef PN_SHARED_H
#define PN_SHARED_H
#include <stdatomic.h>

#include "pynode.h"

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
#endif
