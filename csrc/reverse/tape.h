/* The tape: a growing store of the attempts that the forward half accepted, for the way back. */
#ifndef PN_TAPE_H
#define PN_TAPE_H
#include <stddef.h>
#include <stdint.h>

/* One lane's part in an attempt that at least one lane accepted. */
typedef struct pn_record {
    double t, t_new;        /* the step taken */
    int32_t save, save_end; /* save times in (t, t_new]: save .. save_end - 1 */
    int32_t ends;           /* those from here on are at t_new, the others inside the step */
    int32_t seg, local;     /* segment of the input; sample within its chunk, -1: no step was accepted in this lane */
    unsigned char landed;   /* 1: t_new is, and moves with, the time of save_end - 1 */
    unsigned char first;    /* 1: the sample's first step */
    unsigned char resumed;  /* 1: its first step in this lane, after others in some other */
    unsigned char source;   /* where k_0 came from, a pn_source */
} pn_record;

typedef enum pn_source {
    PN_SOURCE_HERE,     /* evaluated in this attempt */
    PN_SOURCE_EARLIER,  /* evaluated in an earlier attempt of this step, which failed */
    PN_SOURCE_PREVIOUS, /* the step before ended with it */
    PN_SOURCE_START     /* f(t0, y0), evaluated with the choice of the first step */
} pn_source;

enum { PN_TAPE_BLOCK = 16 };
typedef struct pn_tape { /* entries of `stride` bytes, in blocks that never move */
    char **block;
    int64_t n_blocks, cap_blocks, n;
    size_t stride;
} pn_tape;
void *pn_tape_push(pn_tape *t); /* NULL: out of memory */
static inline void *pn_tape_at(const pn_tape *t, int64_t i) {
    return t->block[i / PN_TAPE_BLOCK] + (size_t)(i % PN_TAPE_BLOCK) * t->stride;
}
void pn_tape_free(pn_tape *t);
#endif
