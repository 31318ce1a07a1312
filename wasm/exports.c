/* What a page may call: programs, methods, one solve, one evaluation. All arrays lie in the module's memory and belong to the
   caller (pnw_alloc, pnw_free). Numbers are double; counts come back as double, too, since JavaScript has no int64.
   What is wrong with an argument is said by pnw_message(). */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pynode.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

static char message[PN_MESSAGE];

/* The core asks for the time to look for interrupts, which cannot come from within one call: so no host function is needed. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    (void)clock;
    *now = (struct timespec){0};
    return 0;
}

void *EXPORT(pnw_alloc)(uint32_t bytes) { return malloc(bytes ? bytes : 1); }
void EXPORT(pnw_free)(void *p) { free(p); }
const char *EXPORT(pnw_message)(void) { return message; }
const char *EXPORT(pnw_status_name)(int32_t status) { return pn_status_name((pn_status)status); }
const char *EXPORT(pnw_status_text)(int32_t status) { return pn_status_message((pn_status)status); }

/* ---- the table of operations: one line of a text each, "NAME SHAPE operands\n" ------------------------------------------------ */
const char *EXPORT(pnw_operations)(void) {
    return
#define PN_OP(name, shape, operands) #name " " #shape " " #operands "\n"
#include "program/ops.def"
        ;
}

/* ---- methods ------------------------------------------------------------------------------------------------------------------ */
const pn_tableau *EXPORT(pnw_method)(const char *name) { return pn_tableau_find(name); }

static const pn_tableau *method_at(int i) {
    return i < pn_tableau_count() ? pn_tableau_at(i) : pn_rosenbrock_at(i - pn_tableau_count());
}

/* Name of method i, or NULL; its order, order of the error estimate (0: fixed steps only) and whether it is implicit. */
const char *EXPORT(pnw_method_at)(int32_t i, int32_t *facts) {
    if (i < 0 || i >= pn_tableau_count() + pn_rosenbrock_count()) return NULL;
    const pn_tableau *m = method_at(i);
    if (!m) return NULL;
    facts[0] = m->order, facts[1] = m->error_order, facts[2] = m->gamma > 0, facts[3] = m->second != NULL;
    return m->name;
}

/* ---- programs -------------------------------------------------------------------------------------------------------------- */
typedef struct program_arguments {
    int32_t n_reg, n_slots, n_code, n_consts, n_index, n_outputs, n_spaces, n_grads, segments[3];
    const int32_t *sizes;
    const pn_ins *code;
    const double *consts;
    const int32_t *index, *outputs, *n_theta, *n_grad;
} program_arguments;

/* NULL, and a message, if it is malformed. */
pn_program *EXPORT(pnw_program)(const program_arguments *a) {
    int64_t theta[PN_MAX_SPACES] = {0}, grad[PN_MAX_SPACES] = {0};
    pn_program *program = NULL;
    for (int i = 0; i < a->n_spaces && i < PN_MAX_SPACES; i++) theta[i] = a->n_theta[i];
    for (int i = 0; i < a->n_grads && i < PN_MAX_SPACES; i++) grad[i] = a->n_grad[i];
    const pn_program_spec spec = {.n_reg = a->n_reg,
                                  .n_slots = a->n_slots,
                                  .n_code = a->n_code,
                                  .n_consts = a->n_consts,
                                  .n_index = a->n_index,
                                  .n_outputs = a->n_outputs,
                                  .n_spaces = a->n_spaces,
                                  .n_grads = a->n_grads,
                                  .sizes = a->sizes,
                                  .code = a->code,
                                  .consts = a->consts,
                                  .index = a->index,
                                  .outputs = a->outputs,
                                  .n_theta = theta,
                                  .n_grad = grad,
                                  .segments = {a->segments[0], a->segments[1], a->segments[2]},
                                  .fuse = 1};
    for (int32_t i = 0; i < a->n_code; i++)
        if (a->code[i].op == PN_OP_CALL) {
            snprintf(message, sizeof message, "instruction %d (CALL): a callback cannot run in WebAssembly", (int)i);
            return NULL;
        }
    const pn_status status = pn_program_create(&spec, message, &program);
    if (status != PN_OK && !*message) snprintf(message, sizeof message, "%s", pn_status_message(status));
    return program;
}

void EXPORT(pnw_program_free)(pn_program *program) { pn_program_destroy(&program); }

/* slots, theta, outputs, grads: addresses of arrays, as pn_evaluate has them. */
int32_t EXPORT(pnw_evaluate)(const pn_program *program, int32_t n, const void *const *slots, const void *const *theta,
                             void *const *outputs, double *const *grads) {
    return (int32_t)pn_evaluate(program, 0, pn_isa_best(), n, slots, theta, outputs, grads, NULL, NULL);
}

/* ---- a solve: a table of members, so that the module's JavaScript and this file cannot disagree in silence -------------------- */
/* clang-format off */
#define ADDRESSES(X)                                                                                                           \
    X(field) X(reverse) X(jacobian) X(jacobian_reverse) X(tableau) X(stiff) X(theta) X(y0) X(t) X(knot) X(coef) X(atol)        \
    X(mass) X(stops) X(target) X(weight) X(g_y) X(event) X(event_theta) X(event_direction) X(event_side) X(event_which)        \
    X(event_y) X(y) X(status) X(stop_t) X(stop_component) X(sample_loss) X(sample_weight) X(g_theta) X(g_y0) X(g_t)            \
    X(sensitivity) X(steps)
#define COUNTS(X)                                                                                                              \
    X(d) X(m) X(n) X(n_theta) X(theta_each) X(adaptive) X(land) X(degree) X(loss) X(gradient) X(n_stops) X(max_steps)          \
    X(n_knots) X(memory)
#define NUMBERS(X)                                                                                                             \
    X(step) X(first_step) X(max_step) X(rtol) X(beta) X(stability) X(lambda) X(loss_scale) X(loss_dof)
/* those that pn_problem has not: (n, 3) double, counts of nfe, accepted and rejected; save times of each sample, and whether
   every sample has times of its own */
#define MORE_ADDRESSES(X) X(counts)
#define MORE_COUNTS(X) X(n_times) X(times_each)
typedef struct solve_arguments {
#define X(name) void *name;
    ADDRESSES(X) MORE_ADDRESSES(X)
#undef X
#define X(name) int32_t name;
    COUNTS(X) MORE_COUNTS(X)
#undef X
#define X(name) double name;
    NUMBERS(X)
#undef X
} solve_arguments;

/* "name kind offset\n" of each member: p an address, i an int32, d a double. */
const char *EXPORT(pnw_layout)(void) {
    static char text[2048];
    size_t used = 0;
#define LINE(name, kind)                                                                                                       \
    used += (size_t)snprintf(text + used, sizeof text - used, "%s %c %u\n", #name, kind,                                       \
                             (unsigned)offsetof(solve_arguments, name));
#define X(name) LINE(name, 'p')
    ADDRESSES(X) MORE_ADDRESSES(X)
#undef X
#define X(name) LINE(name, 'i')
    COUNTS(X) MORE_COUNTS(X)
#undef X
#define X(name) LINE(name, 'd')
    NUMBERS(X)
#undef X
    return text;
}
/* clang-format on */

_Static_assert(sizeof(pn_steps) == 16 && offsetof(pn_steps, record) == 8, "solveCall in core.mjs reads pn_steps as four words");

uint32_t EXPORT(pnw_layout_size)(void) { return sizeof(solve_arguments); }

enum { START, LENGTH, ROW, NFE, ACCEPTED, REJECTED, KNOT_START, KNOT_LENGTH, SEGMENT, N_LISTS };

static void fill(pn_problem *p, const solve_arguments *a, int64_t *list) {
    int64_t *at[N_LISTS];
    for (int i = 0; i < N_LISTS; i++) at[i] = list + (int64_t)i * a->n;
    for (int64_t i = 0; i < a->n; i++) {
        at[START][i] = a->times_each ? i * a->n_times : 0;
        at[LENGTH][i] = a->n_times;
        at[ROW][i] = i * a->n_times;
        at[KNOT_LENGTH][i] = a->n_knots;
    }
    pn_problem_init(p);
#define X(name) p->name = a->name;
    ADDRESSES(X)
#undef X
    p->d = a->d, p->m = a->m, p->n = a->n, p->n_theta = a->n_theta, p->theta_each = a->theta_each;
    p->adaptive = a->adaptive, p->land = a->land, p->degree = a->degree, p->n_stops = a->n_stops;
    p->loss = (pn_loss)a->loss, p->gradient = (pn_gradient)a->gradient, p->max_steps = a->max_steps, p->memory = a->memory;
#define X(name) p->name = a->name;
    NUMBERS(X)
#undef X
    p->t_start = at[START], p->t_len = at[LENGTH], p->row = at[ROW];
    p->n_t = (int64_t)a->n_times * (a->times_each ? a->n : 1), p->rows = (int64_t)a->n * a->n_times;
    p->nfe = at[NFE], p->accepted = at[ACCEPTED], p->rejected = at[REJECTED];
    if (a->m > 0) {
        p->knot_start = at[KNOT_START], p->knot_len = at[KNOT_LENGTH], p->seg_start = at[SEGMENT];
        p->n_knots = a->n_knots, p->n_segments = a->n_knots - 1;
    }
}

/* A pn_status; what is wrong with the problem is in pnw_message(). */
int32_t EXPORT(pnw_solve)(const solve_arguments *a) {
    *message = 0;
    if (a->n < 0 || a->n_times < 1 || a->n > INT32_MAX / 64 / a->n_times) {
        snprintf(message, sizeof message, "%d samples with %d times: too many, or none", (int)a->n, (int)a->n_times);
        return PN_BAD_ARGUMENT;
    }
    pn_problem p;
    int64_t *list = calloc((size_t)a->n * N_LISTS + 1, sizeof *list);
    if (!list) return PN_MEMORY;
    fill(&p, a, list);
    const pn_status status = pn_solve(&p, 0, pn_isa_best(), message);
    for (int64_t i = 0; a->counts && i < a->n; i++)
        for (int k = 0; k < 3; k++) ((double *)a->counts)[3 * i + k] = (double)list[(NFE + k) * (int64_t)a->n + i];
    free(list);
    return (int32_t)status;
}
