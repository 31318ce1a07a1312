/* The kernels of an instruction set, one for each precision and number of lanes. */
#ifndef PN_INSTANCES_H
#define PN_INSTANCES_H
#include "program/program.h"
#include "solve/shared.h"

typedef struct pn_kernels { /* one instance */
    int lanes;
    size_t element;
    /* run tasks until none is left; `main` polls for interrupts */
    pn_status (*work)(pn_shared *s, int main);
    pn_status (*evaluate)(const pn_program *program, int64_t n, const void *const *slots, const void *const *theta,
                          void *const *outputs, double *const *grads, pn_callback call, void *call_ctx);
    void (*discard)(void *work); /* what pn_tapes keeps of a chunk */
} pn_kernels;

struct pn_tapes {
    const pn_kernels *kernels; /* whose chunks these are */
    void **work;               /* (n) or NULL where a chunk has none yet */
    int64_t n;
    int filled;
    void *theta; /* or NULL: what the programs read there, see solve/hoisted.h */
    int64_t n_theta;
};

typedef enum pn_lanes { PN_LANES_ONE, PN_LANES_TWO, PN_LANES_NARROW, PN_LANES_WIDE, PN_N_LANES } pn_lanes;
typedef struct pn_instance {           /* one instruction set */
    pn_kernels kernels[2][PN_N_LANES]; /* [f32] */
} pn_instance;
extern const pn_instance pn_instance_plain, pn_instance_baseline;
#ifdef PN_HAVE_X86_ISA
extern const pn_instance pn_instance_avx2, pn_instance_avx512;
#endif
const pn_kernels *pn_kernels_get(int f32, pn_isa isa, int64_t n, int adaptive, int calls); /* for n samples */
const pn_kernels *pn_kernels_pair(int f32, pn_isa isa);                                    /* for two; NULL: there are none */
#endif
