/* Solves for programs that XLA compiled (pynode.jax): their arrays go in and come out without Python.

   xla_call.c   XlaCall: one call of pynode.jax.odeint, and the problems that were prepared for it
   xla_halves.c forward halves that wait for their way back
   xla.c        XLA's call frames; empty where the extension is built without XLA's header

   An XlaCall is known to a compiled program by its number. Whoever runs it holds it (users), so that nothing goes away meanwhile.
   One lock guards all lists; nobody who has it waits for the GIL. */
#ifndef PNPY_XLA_CALL_H
#define PNPY_XLA_CALL_H
#include "python/pnpy.h"

enum { PNPY_XLA_MESSAGE = 1024 };

/* What a program hands over; T is float (f32) or double. */
typedef struct {
    int f32, theta_each, keep; /* keep: forward, and the way back may come */
    int64_t n, times, d, n_theta;
    const void *y0, *t, *theta; /* T (n, d), (n, times), (n_theta); with theta_each (n, n_theta) */
    const void *g;              /* T (n, times, d): go back; or NULL */
    void *y;                    /* T (n, times, d), forward */
    void *g_y0, *g_theta;       /* T, as y0 and theta, back */
} pnpy_xla_arrays;

/* A problem that was prepared for arrays of these shapes, and these times. */
typedef struct pnpy_ready {
    struct pnpy_ready *next;
    pnpy_problem *problem;
    const pnpy_state *state;
    int f32, theta_each, users;
    int wasted; /* forward halves in a row whose way back never came */
    int64_t n, times;
    void *t; /* T (n, times) */
} pnpy_ready;

/* ---- xla_call.c -------------------------------------------------------------------------------------------- */
extern PyType_Spec pnpy_xla_call_spec;
/* 0, or -1 with what is wrong in `message`. For any thread, without the GIL. */
int pnpy_xla_run(int64_t number, const pnpy_xla_arrays *a, char message[PNPY_XLA_MESSAGE]);
void pnpy_xla_lock(void);
void pnpy_xla_unlock(void);
/* The problem of one run: its arrays, reports in `reports` (pnpy_xla_report_size bytes, zeros), threads. */
pn_problem pnpy_xla_problem(const pnpy_ready *ready, const pnpy_xla_arrays *a, char *reports, pnpy_context *context);
size_t pnpy_xla_report_size(int64_t n);

/* ---- xla_halves.c ------------------------------------------------------------------------------------------ */
typedef struct pnpy_half pnpy_half;
/* One to go forward with: its own copies of y0 and theta, its tapes. NULL: there is none, or it would be of no use. */
pnpy_half *pnpy_half_for(pnpy_ready *ready, const pnpy_xla_arrays *a, pnpy_context *context, pn_problem *p);
void pnpy_half_keep(pnpy_half *half, pnpy_ready *ready, const pn_problem *p, pn_isa isa); /* it went well */
void pnpy_half_drop(pnpy_half *half);
/* The one that went forward with these arrays, and the problem that goes back; or NULL. */
pnpy_half *pnpy_half_of(pnpy_ready *ready, const pnpy_xla_arrays *a, pn_problem *p, pn_isa *isa);
void pnpy_half_used(pnpy_half *half);
void pnpy_halves_forget(const pnpy_ready *ready); /* under the lock */

/* ---- xla.c ------------------------------------------------------------------------------------------------- */
/* xla_handlers(minor): name -> capsule, for an XLA whose interface has this minor version */
PyObject *pnpy_xla_handlers(PyObject *module, PyObject *minor);
#endif
