/* Growing stores used by a solve: the tape of accepted steps, and plain lists of doubles. Nothing here depends on the
   precision or the number of lanes. */
#ifndef PN_TAPE_H
#define PN_TAPE_H
#include <stddef.h>
#include <stdint.h>

/* What is needed to take an accepted step again, followed by the state y, T (d), at its beginning. */
typedef struct pn_record {
    double t, t_new;        /* the step taken */
    double c0, c1;          /* state of the step control when the step was first tried */
    int64_t index;          /* number of the step within its sample */
    int32_t save, save_end; /* save times in (t, t_new]: save .. save_end - 1 */
    int32_t seg, grid;      /* segment of the input, position in a prescribed grid */
    int32_t local, landed;  /* sample within its chunk; 1: t_new is, and moves with, the time of save_end - 1 */
} pn_record;

enum { PN_TAPE_BLOCK = 64 };
typedef struct pn_tape { /* records of one lane, in blocks that never move */
    char **block;
    int64_t n_blocks, cap_blocks, n;
    size_t stride;
} pn_tape;
pn_record *pn_tape_push(pn_tape *t); /* NULL: out of memory */
static inline pn_record *pn_tape_at(const pn_tape *t, int64_t i) {
    return (pn_record *)(void *)(t->block[i / PN_TAPE_BLOCK] + (size_t)(i % PN_TAPE_BLOCK) * t->stride);
}
void pn_tape_free(pn_tape *t);

typedef struct pn_list {
    double *x;
    int64_t n, cap;
} pn_list;
double *pn_list_push(pn_list *l, int64_t count); /* room for count more; NULL: out of memory */

/* One block of zeroed, 64-byte aligned memory, carved up: size it first (base NULL), then allocate, then carve again. */
typedef struct pn_arena {
    char *base;
    size_t used;
} pn_arena;
void *pn_arena_take(pn_arena *a, size_t bytes);
int pn_arena_allocate(pn_arena *a); /* after a sizing pass; 0: out of memory */
#endif
