/* pynode core: the public header. Plain C11, no Python, no globals that change.
   A program (program/) is a field; a problem is one solve (solve/); instances/ holds the kernels, one set for each
   precision x instruction set x number of lanes. All arrays are C-contiguous; "T" is float or double. */
#ifndef PYNODE_H
#define PYNODE_H
#include <stddef.h>
#include <stdint.h>

#include "method/tableau.h"

typedef enum pn_status {
#define PN_STATUS(name, exception, message) PN_##name,
#include "status.def"
    PN_N_STATUS
} pn_status;
const char *pn_status_name(pn_status s);    /* "MAX_STEPS" */
const char *pn_status_message(pn_status s); /* with a hint for the user */

typedef enum pn_op {
#define PN_OP(name, shape, operands) PN_OP_##name,
#include "program/ops.def"
    PN_N_OPS
} pn_op;

/* ---- programs ---------------------------------------------------------------------------------------------- */
typedef struct pn_ins { /* one instruction, see docs/program.md */
    int32_t op, out, a, b, c, p, q, k;
} pn_ins;

enum { PN_MAX_SPACES = 2, PN_MAX_OUTPUTS = 16, PN_MAX_SLOTS = 16 };

typedef struct pn_program_spec { /* what a caller or a model file says; nothing in it is trusted */
    int32_t n_reg, n_slots, n_code, n_consts, n_index, n_outputs, n_spaces, n_grads;
    const int32_t *sizes;   /* (n_reg) */
    const pn_ins *code;     /* (n_code) */
    const double *consts;   /* (n_consts) */
    const int32_t *index;   /* (n_index) */
    const int32_t *outputs; /* (n_outputs) */
    const int64_t *n_theta; /* (n_spaces) lengths of the parameter vectors */
    const int64_t *n_grad;  /* (n_grads) lengths of the gradient accumulators */
    int32_t segments[3];    /* prologue, forward, reverse; the rest accumulates */
    int32_t fuse;           /* 0: leave the instructions as they are (the reference path) */
} pn_program_spec;

typedef struct pn_program pn_program;
enum { PN_MESSAGE = 256 };
pn_status pn_program_create(const pn_program_spec *spec, char message[PN_MESSAGE], pn_program **out);
void pn_program_destroy(pn_program **p);

/* The entries of J = df/dy that may differ from 0, of d states: entry e is (row[e], col[e]), in any order, each once. mass (d, d),
   or NULL for the identity: M of M y' = f, of which the entries that are 0 count. What follows from it for linear systems with
   M - gamma h J, an order of elimination and what fills in, is found here, once. PN_OK; PN_BAD_ARGUMENT, with `message`; PN_MEMORY. */
typedef struct pn_pattern pn_pattern;
pn_status pn_pattern_create(int32_t d, int64_t n, const int32_t *row, const int32_t *col, const double *mass,
                            char message[PN_MESSAGE], pn_pattern **out);
void pn_pattern_destroy(pn_pattern **p);

/* A field that C does not know: fills out[lane][n_out] for the n_active lanes given; arrays are double. `which` is that of a
   CALL: f, its vjp (with a seed), [df/dy, df/dt] (u: [u, du/dt] where that program has them), the vjp of that (with a seed).
   Returns 0, or nonzero to stop everything (status PN_CALLBACK). */
enum { PN_CALL_FIELD, PN_CALL_VJP, PN_CALL_JACOBIAN, PN_CALL_JACOBIAN_VJP };
typedef int (*pn_callback)(void *ctx, int which, int n_active, const double *t, const double *y, const double *u,
                           const double *seed, double *out, int n_out);

/* ---- a solve ----------------------------------------------------------------------------------------------- */
typedef enum pn_loss {
    PN_LOSS_NONE,
    PN_LOSS_SQUARED,
    PN_LOSS_ABSOLUTE,
    PN_LOSS_HUBER,
    PN_LOSS_STUDENT,
    PN_LOSS_PROGRAM
} pn_loss;
typedef enum pn_gradient { PN_GRAD_NONE, PN_GRAD_DISCRETE, PN_GRAD_REVERSIBLE } pn_gradient;

typedef struct pn_steps { /* the accepted steps of one sample: n records of `stride` doubles: t, h, coefficients */
    int64_t n;
    double *record; /* malloc'ed by the solve, freed by the caller */
} pn_steps;

/* A program that runs on rows of the result: slots t, y (d) and a row x (k) of data; its parameters are theta[offset ..].
   A row of data that begins with NaN is left out. */
typedef struct pn_part {
    const pn_program *program, *reverse; /* forward, and its vjp or NULL; program NULL: there is no such part */
    int64_t offset;
    const void *data; /* T (rows, k); NULL where k is 0 */
    int32_t k;
    double *g_data; /* (rows, k) or NULL: cotangents of the data, set where a row has some */
} pn_part;

/* What a field computes of its parameters alone is computed once for a solve: `once` has no slots and gives numbers that `rest`, the
   field without that, reads as further parameters, behind the field's own; the vjp of `once` has one slot, their cotangent, and adds to
   the gradient of theta. All NULL: the field runs as it is, as it always does for sensitivities, quadratures and parameters of
   each sample. */
typedef struct pn_hoisted {
    const pn_program *once, *once_reverse, *rest, *rest_reverse; /* the vjps, or NULL */
} pn_hoisted;

/* Forward halves that wait for their way back. A solve with gradient PN_GRAD_DISCRETE that is given tapes goes forward and keeps in
   them what the way back needs; with `back` it goes that way, as often as wanted, for one g_y after another. Between the two, theta,
   y0 and status must stay where they are, and so must all else that the problem says. Tapes that are filled again find their memory
   there. Samples whose gradient is not finite are not looked for. */
typedef struct pn_tapes pn_tapes;
pn_tapes *pn_tapes_create(void); /* NULL: out of memory */
void pn_tapes_destroy(pn_tapes **p);
enum { PN_KEPT_CHUNKS = 64 }; /* at most so many chunks are kept, each with a store of its own */

/* Whether programs may change states at data times: builds that have to be small leave that out. */
#ifdef PN_WITHOUT_JUMPS
enum { PN_JUMPS = 0 };
#else
enum { PN_JUMPS = 1 };
#endif

typedef struct pn_problem {
    /* the vector field: `field` runs forward; `reverse` (or NULL) is its vjp program */
    const pn_program *field, *reverse;
    pn_hoisted hoisted;
    /* of a Rosenbrock method: slots t (1), y (d), u (m) or [u, du/dt] (2 m); output df/dy (d d) or [df/dy, df/dt] (d d + d), df/dt
       with what u changes in it; the parameters of the field. Its vjp, for gradients, or NULL. With `pattern` df/dy has the
       entries of that only, and mass must be 0 where the pattern was made so. */
    const pn_program *jacobian, *jacobian_reverse;
    const pn_pattern *pattern;
    int32_t jacobian_cost;      /* a callback's: so many evaluations of f that nfe counts for each Jacobian */
    const double *mass;         /* (d, d) M y' = f, of a Rosenbrock method; NULL: the identity */
    const double *mass_inverse; /* for derivatives by save times on switches; NULL where M is singular */
    const void *theta;          /* T (n_theta); with theta_each T (n, n_theta), a row for each sample */
    int64_t n_theta;            /* of field, jump and loss program together */
    int32_t theta_each;         /* every sample has parameters of its own, and a gradient of its own with respect to them */
    pn_callback call;
    void *call_ctx;
    const pn_tableau *tableau;
    /* or NULL: the Rosenbrock method by which a sample goes on while it is stiff, see forward/switch.inl; the tableau is then an
       explicit one whose last stage is at the end of the step, and stability the length of its real stability interval */
    const pn_tableau *stiff;
    double stability;
    int32_t d, m;   /* state and input dimensions */
    int64_t n;      /* samples */
    const void *y0; /* T (n, d) */
    /* save times, sample i: t[t_start[i] .. + t_len[i]], monotone, its first is the initial time;
       its results are rows row[i] .. of y; rows of samples rise and do not overlap */
    const double *t; /* (n_t) */
    const int64_t *t_start, *t_len, *row;
    int64_t n_t, rows;
    /* inputs u(t): piecewise polynomials, segment j of sample i on [knot_j, knot_j+1]:
       u = sum_q coef[seg][q][m] (t - knot_j)^q; degree < 0: none. n_seg = knot_len - 1, at least 1 */
    const double *knot; /* (n_knots) */
    const int64_t *knot_start, *knot_len, *seg_start;
    const void *coef; /* T (n_segments, degree + 1, m) */
    int64_t n_knots, n_segments;
    int32_t degree;
    const int64_t *cross_knots; /* (n) or NULL; 1: steps go over the knots of the sample, where its polynomials join */
    /* step control */
    int32_t adaptive, land;
    double step;                 /* fixed step (> 0), when not adaptive and no grid is given */
    double first_step, max_step; /* 0: automatic, none */
    double rtol;
    const double *atol; /* (d) */
    double safety, min_factor, max_factor, beta;
    int64_t max_steps;
    const double *grid; /* (n_grid) or NULL: prescribed step ends, first = initial time */
    const int64_t *grid_start, *grid_len;
    int64_t n_grid;
    /* or NULL: times where f jumps or has a kink, each as a pair (before, after), all of them increasing, for all samples. Steps
       end there, none reaches across, and one inside a pair is accepted whatever its error. A grid passes them. */
    const double *stops;
    int64_t n_stops;
    double lambda; /* coupling of the reversible scheme; 0: the plain method */
    /* jumps at save times (landed on): z <- where(isnan(set), z, set) + add; rows as in y; or NULL */
    const void *jump_set, *jump_add; /* T (rows, d) */
    /* or y <- J(t, y, x; theta) at save times that have data, in their order; those are landed on, a grid contains them */
    pn_part jump;
    void *y_before;          /* T (rows, d) with jump: states before the jumps */
    int32_t solved;          /* y_before and status are those of an earlier run, whose samples only jumped, at their initial
                                times: go back from there, for cotangents g_y; y is not written */
    double *quadrature;      /* or NULL: (n_grad) integral of the accumulate segment along the path */
    double *quadrature_coef; /* or NULL: the same for the cotangent of the input's coefficients */
    /* events g_e(t, y; event_theta): slots t (1), y (d), none; one output, a number for each event; or NULL. A sample ends
       where the first of them changes its side (sign) in a direction that counts, see events/events.inl */
    const pn_program *event;
    const void *event_theta;        /* T (n_theta) of that program; with theta_each (n, n_theta) */
    const int32_t *event_direction; /* (events) -1: falling, 1: rising, 0: both */
    int32_t *event_side;            /* (n, events) side at the start, 0: not known; set to that at the end */
    int32_t *event_which;           /* (n) which event ended the sample, at stop_t; left alone if none did */
    void *event_y;                  /* T (n, 2, d) the state at the beginning of the step that ends there, and there */
    /* results */
    void *y;                             /* T (rows, d) */
    int32_t *status;                     /* (n) pn_status of each sample */
    double *stop_t;                      /* (n) where it stopped */
    int32_t *stop_component;             /* (n) first non-finite component, or -1 */
    int64_t *nfe, *accepted, *rejected;  /* (n) */
    int64_t *stiff_steps;                /* (n) or NULL: of the accepted steps those by the stiff method */
    int64_t *jacobians, *factorisations; /* (n) or NULL: of a method that solves linear systems */
    pn_steps *steps;                     /* (n) or NULL */
    int32_t dense;                       /* steps carry dense coefficients: stride 2 + (degree + 1) d */
    /* loss: sum over observed entries of weight rho(y - target); NaN target = not observed */
    pn_loss loss;
    pn_part loss_part;                   /* PN_LOSS_PROGRAM: sum over rows of l(t, y, x; theta), sample_weight counts rows */
    double loss_scale;                   /* Huber's delta, Student's scale */
    double loss_dof;                     /* Student's degrees of freedom */
    const void *target, *weight;         /* T (rows, d); weight may be NULL */
    double *sample_loss, *sample_weight; /* (n) */
    /* gradient: cotangents of y come from the loss, or from g_y */
    pn_gradient gradient;
    int64_t memory;      /* bytes for tape and checkpoints of all threads; 0: no limit */
    const void *g_y;     /* T (rows, d) or NULL */
    double *g_theta;     /* (n_theta) of field and parts, set; with theta_each (n, n_theta) */
    double *g_y0;        /* (n, d) or NULL */
    double *g_t;         /* (total times, as rows) or NULL */
    double *g_coef;      /* (n_segments, degree + 1, m) or NULL */
    pn_tapes *tapes;     /* or NULL */
    int32_t back;        /* along the tapes */
    double *sensitivity; /* or NULL: (rows, d, n_grad of reverse + d) d y / d (theta, y0); needs reverse */
    /* running */
    int32_t threads;
    int (*poll)(void *); /* called now and then from the calling thread; nonzero stops */
    void *poll_ctx;
    int32_t finite_inputs; /* pn_inputs_finite has said so: pn_solve need not look at all of coef */
    int32_t checked;       /* pn_problem_check_setup has been through this problem: pn_solve need not do it again */
} pn_problem;

/* Every member at its default: no arrays, no programs, "dopri5" with rtol = 1e-6, one thread. */
void pn_problem_init(pn_problem *problem);

/* PN_OK, or PN_BAD_ARGUMENT with what is wrong in `message`. The setup is what runs share: programs, numbers, times, rows,
   inputs, grid, each index inside its array. pn_problem_check looks at what one run is asked for as well, and whether all that goes
   together; pn_solve begins with it. Both trust pointers and lengths: an array has the length that the comments above give. */
pn_status pn_problem_check_setup(const pn_problem *problem, int f32, char message[PN_MESSAGE]);
pn_status pn_problem_check(const pn_problem *problem, int f32, char message[PN_MESSAGE]);

/* Whether all coefficients of the inputs are finite; 1 without inputs. Samples whose are not end with PN_BAD_INPUT. */
int pn_inputs_finite(const pn_problem *problem, int f32);

typedef enum pn_isa { PN_ISA_PLAIN, PN_ISA_BASELINE, PN_ISA_AVX2, PN_ISA_AVX512, PN_N_ISA } pn_isa;
const char *pn_isa_name(pn_isa isa);
int pn_isa_available(pn_isa isa);
pn_isa pn_isa_best(void);

/* Solve, and where asked differentiate. PN_OK even if samples failed (see status). message: PN_MESSAGE bytes for what is
   wrong with the problem, or NULL. Arrays must not change meanwhile. */
pn_status pn_solve(const pn_problem *problem, int f32, pn_isa isa, char *message);

/* Run prologue, forward, reverse and accumulate once for each of n samples: slots[i] is T (n, size) or NULL where the
   size is 0, outputs[i] T (n, size) or NULL, grads[k] double (n_grad) added to. */
pn_status pn_evaluate(const pn_program *program, int f32, pn_isa isa, int64_t n, const void *const *slots,
                      const void *const *theta, void *const *outputs, double *const *grads, pn_callback call, void *call_ctx);
#endif
