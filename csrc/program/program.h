/* A checked program, with a layout for one lane and one for a block. Made by pn_program_create, read only afterwards. */
#ifndef PN_PROGRAM_H
#define PN_PROGRAM_H
#include "program/layout.h"

struct pn_program {
    int32_t n_slots, n_outputs, n_spaces, n_grads, has_call;
    int32_t reads_t;  /* slot 0 is used, or a callback may use it */
    int32_t switches; /* some operation is not smooth: a comparison, or a callback may have one */
    int32_t slot_size[PN_MAX_SLOTS], output_size[PN_MAX_OUTPUTS]; /* output size 0: identically zero */
    int64_t n_theta[PN_MAX_SPACES], n_grad[PN_MAX_SPACES];
    int32_t call_rows; /* largest output of a CALL */
    int32_t n_consts;
    double *consts; /* (n_consts) */
    int32_t *index; /* (n_index) */
    int32_t *run;   /* (n_index) so many of the index, from this one on, follow each other by 1 */
    pn_layout layout[PN_N_LAYOUTS];
};
#endif
