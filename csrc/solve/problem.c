/* A problem: its defaults, and whether it can be solved. Every index, size and combination is checked here, once, for all who
   call the core; what passes cannot end in a crash, a loop without end or a silent error. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "solve/check.h"

void pn_problem_init(pn_problem *problem) {
    *problem = (pn_problem){.tableau = pn_tableau_find("dopri5"),
                            .degree = -1,
                            .adaptive = 1,
                            .rtol = 1e-6,
                            .safety = 0.9,
                            .min_factor = 0.2,
                            .max_factor = 10,
                            .beta = 0.2,
                            .max_steps = 100000,
                            .loss_scale = 1,
                            .loss_dof = 4,
                            .threads = 1};
}

/* Each check returns 1, or says what is wrong and returns 0. */
int pn_wrong(const pn_checker *c, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(c->message, PN_MESSAGE, format, ap);
    va_end(ap);
    return 0;
}

int pn_keep_to(const pn_checker *c, const char *what, const pn_rule *rules, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (rules[i].broken) return pn_wrong(c, "%s%s", what, rules[i].text);
    return 1;
}

/* ---- programs ---------------------------------------------------------------------------------------------------------- */
/* A field is f(t, y, u; theta); its reverse also takes a seed and gives [f, s f_y, s f_t, s f_u], see docs/program.md. name:
   what both are called; n_theta: the numbers that it may read. */
static int check_field(const pn_checker *c, const char *const name[2], const pn_program *f, const pn_program *r,
                       int64_t n_theta) {
    const pn_problem *P = c->P;
    if (!f) return pn_wrong(c, "%sthere is none", name[0]);
    if (!PN_KEEP_TO(c, name[0], {f->n_slots != 3 || f->slot_size[0] != 1, "the slots must be t (1), y (d) and u (m)"},
                    {f->slot_size[1] != P->d, "the state has not as many features as y0"},
                    {f->slot_size[2] != P->m, "the slot u has another size than m"},
                    {f->n_outputs < 1 || !pn_optional(f->output_size[0], P->d), "output 0 must have the size of y"},
                    {f->n_spaces > 1 || f->n_grads > 1, "more than one parameter vector or gradient"},
                    {pn_parameters(f) > n_theta, "theta is shorter than its parameter vector"}))
        return 0;
    if (!r) return 1;
    const int32_t *slot = r->slot_size, *out = r->output_size;
    return PN_KEEP_TO(
        c, name[1],
        {r->n_slots != 4 || slot[0] != 1 || slot[1] != P->d || slot[2] != P->m || slot[3] != P->d,
         "the slots must be t (1), y (d), u (m) and the seed (d)"},
        {r->n_outputs != 4 || !pn_optional(out[0], P->d) || !pn_optional(out[1], P->d) || !pn_optional(out[2], 1) ||
             !pn_optional(out[3], P->m),
         "the outputs must be f (d), s f_y (d), s f_t (1) and s f_u (m)"},
        {r->n_spaces > 1 || pn_parameters(r) != pn_parameters(f), "the parameters are not those of the field"},
        {r->n_grads > 1 || (r->n_grads == 1 && r->n_grad[0] != pn_parameters(f)), "the gradient has not the length of theta"});
}

static int calls(const pn_program *p) { return p && p->has_call; }

/* What is computed once, and the field without it, whose parameters are those of the field and what was computed. */
static int check_hoisted(const pn_checker *c) {
    const pn_problem *P = c->P;
    const pn_hoisted *h = &P->hoisted;
    const pn_program *once = h->once, *back = h->once_reverse;
    if (!once) return !(back || h->rest || h->rest_reverse) || pn_wrong(c, "rest: it goes with once");
    const int64_t n = pn_parameters(P->field), made = once->n_outputs == 1 ? once->output_size[0] : 0;
    if (!PN_KEEP_TO(
            c, "once: ", {once->n_slots != 0 || made < 1, "it must have no slots and one output"},
            {once->n_spaces != 1 || pn_parameters(once) != n || once->n_grads > 0, "its parameters are not those of the field"},
            {back && (back->n_slots != 1 || back->slot_size[0] != made || back->n_spaces != 1 || pn_parameters(back) != n ||
                      back->n_outputs != 1 || back->output_size[0] != 0 || back->n_grads != 1 || back->n_grad[0] != n),
             "its vjp must take the cotangent of its output and add to the gradient of theta"},
            {!h->rest || pn_parameters(h->rest) != n + made, "rest must read theta and what is computed"},
            {calls(once) || calls(back) || calls(h->rest) || calls(h->rest_reverse), "a callback is not in two parts"},
            {P->reverse && !(back && h->rest_reverse), "its vjp and that of rest are needed where the field has one"}))
        return 0;
    return check_field(c, (const char *[]){"rest: ", "rest_reverse: "}, h->rest, h->rest_reverse, P->n_theta + made);
}

/* A program at save times: slots t (1), y (d), data (k), n_out results; its vjp takes a seed (n_out) too. */
static int check_part(const pn_checker *c, const pn_part *part, const char *name, int32_t n_out) {
    const pn_problem *P = c->P;
    const pn_program *f = part->program, *r = part->reverse;
    if (!f) return r ? pn_wrong(c, "%sits vjp is given, but not the program itself", name) : 1;
    if (!PN_KEEP_TO(c, name,
                    {f->n_slots != 3 || f->slot_size[0] != 1 || f->slot_size[1] != P->d,
                     "the slots must be t (1), y (d) and the data (k)"},
                    {f->slot_size[2] != part->k, "the slot of the data has another size than k"},
                    {f->n_outputs < 1 || !pn_optional(f->output_size[0], n_out),
                     "output 0 has the wrong size: d for a jump, 1 for a loss"},
                    {f->n_spaces > 1 || f->n_grads > 1, "more than one parameter vector or gradient"},
                    {f->has_call || (r && r->has_call), "a callback cannot be run at save times"},
                    {part->offset < 0 || part->offset > P->n_theta - pn_parameters(f), "its parameters lie outside theta"}))
        return 0;
    if (!r) return 1;
    const int32_t *slot = r->slot_size, *out = r->output_size;
    return PN_KEEP_TO(c, name,
                      {r->n_slots != 4 || slot[0] != 1 || slot[1] != P->d || slot[2] != part->k || slot[3] != n_out,
                       "the slots of its vjp must be t (1), y (d), the data (k) and the seed"},
                      {r->n_outputs != 4 || !pn_optional(out[0], n_out) || !pn_optional(out[1], P->d) ||
                           !pn_optional(out[2], 1) || !pn_optional(out[3], part->k),
                       "the outputs of its vjp must be the value and the cotangents of y, t and the data"},
                      {r->n_spaces > 1 || pn_parameters(r) != pn_parameters(f) || r->n_grads > 1 ||
                           (r->n_grads == 1 && r->n_grad[0] != pn_parameters(f)),
                       "the parameters of its vjp are not its own"});
}

/* ---- numbers ------------------------------------------------------------------------------------------------------------ */
typedef enum { NOT_NEGATIVE, POSITIVE, UNIT, AT_LEAST_ONE } range;
static const struct {
    const char *name;
    size_t offset;
    range allowed;
} numbers[] = {
    {"step", offsetof(pn_problem, step), NOT_NEGATIVE},
    {"first_step", offsetof(pn_problem, first_step), NOT_NEGATIVE},
    {"max_step", offsetof(pn_problem, max_step), NOT_NEGATIVE},
    {"rtol", offsetof(pn_problem, rtol), NOT_NEGATIVE},
    {"safety", offsetof(pn_problem, safety), UNIT},
    {"min_factor", offsetof(pn_problem, min_factor), UNIT},
    {"max_factor", offsetof(pn_problem, max_factor), AT_LEAST_ONE},
    {"beta", offsetof(pn_problem, beta), NOT_NEGATIVE},
    {"coupling", offsetof(pn_problem, lambda), NOT_NEGATIVE},
    {"loss_scale", offsetof(pn_problem, loss_scale), POSITIVE},
    {"loss_dof", offsetof(pn_problem, loss_dof), POSITIVE},
};

static int check_numbers(const pn_checker *c) {
    static const char *const text[] = {"not negative", "positive", "between 0 and 1", "at least 1"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double x;
        memcpy(&x, (const char *)c->P + numbers[i].offset, sizeof x);
        const range allowed = numbers[i].allowed;
        if (isfinite(x) && (allowed == NOT_NEGATIVE   ? x >= 0
                            : allowed == AT_LEAST_ONE ? x >= 1
                                                      : x > 0 && (allowed == POSITIVE || x <= 1)))
            continue;
        return pn_wrong(c, "%s must be finite and %s, got %g", numbers[i].name, text[allowed], x);
    }
    return 1;
}

static int check_method(const pn_checker *c) {
    const pn_problem *P = c->P;
    if (!P->tableau) return pn_wrong(c, "tableau: there is no method");
    if (!PN_KEEP_TO(
            c, "", {P->grid && P->adaptive, "a grid prescribes the steps: adaptive must be False"},
            {P->adaptive && P->tableau->error_order == 0, "this method has no error estimate: give adaptive=False and a step"},
            {!P->adaptive && !P->grid && !(P->step > 0), "a fixed step must be positive: give step= or grid="},
            {P->tableau->second && P->d % 2, "this method splits the state into halves: its size must be even"},
            {P->tableau->second && P->lambda > 0, "this method has no reversible scheme: coupling must be 0"},
            {P->lambda > 1, "coupling must be between 0 and 1"}, {P->max_steps < 1, "max_steps must be at least 1"},
            {P->memory < 0, "memory must not be negative (0: no limit)"}, {!P->atol, "atol: there is none"}))
        return 0;
    for (int32_t i = 0; i < P->d; i++) {
        if (!isfinite(P->atol[i]) || P->atol[i] < 0)
            return pn_wrong(c, "atol must be finite and not negative, entry %d is %g", (int)i, P->atol[i]);
        if (P->adaptive && !(P->rtol > 0) && !(P->atol[i] > 0)) return pn_wrong(c, "rtol and atol must not both be 0");
    }
    return 1;
}

/* ---- arrays and indices into them ---------------------------------------------------------------------------------------- */
/* start[i] .. start[i] + len[i] inside 0 .. total, len[i] >= least; the kernels count along them in 32 bits */
static int check_ranges(const pn_checker *c, const char *name, const int64_t *start, const int64_t *len, int64_t least,
                        int64_t total) {
    if (!start || !len) return pn_wrong(c, "%s_start, %s_len: one entry a sample is needed", name, name);
    for (int64_t i = 0; i < c->P->n; i++) {
        if (len[i] >= INT32_MAX)
            return pn_wrong(c, "sample %lld: %s_len = %lld is not below 2^31", (long long)i, name, (long long)len[i]);
        if (len[i] < least || len[i] > total || start[i] < 0 || start[i] > total - len[i])
            return pn_wrong(
                c,
                "sample %lld: %s_start = %lld, %s_len = %lld; the length must be at least %lld and the end inside the %lld "
                "entries of %s",
                (long long)i, name, (long long)start[i], name, (long long)len[i], (long long)least, (long long)total, name);
    }
    return 1;
}

/* `sense` is +1, -1 or 0 (either way); `strict`: no repeats */
static int check_monotone(const pn_checker *c, const char *name, const double *x, const int64_t *start, const int64_t *len,
                          int sense, int strict) {
    for (int64_t i = 0; i < c->P->n; i++) {
        const double *v = x + start[i];
        const int64_t m = len[i];
        if (i > 0 && start[i] == start[i - 1] && m == len[i - 1]) continue; /* shared */
        const int way = sense ? sense : v[m - 1] < v[0] ? -1 : 1;
        int64_t bad = isfinite(v[0]) ? -1 : 0;
        for (int64_t j = 1; j < m && bad < 0; j++) {
            const double gap = way * (v[j] - v[j - 1]);
            if (!isfinite(v[j]) || (strict ? !(gap > 0) : !(gap >= 0))) bad = j;
        }
        if (bad < 0) continue;
        return pn_wrong(c, "%s of sample %lld must be finite and %s (entry %lld is not)", name, (long long)i,
                        strict ? (sense ? "strictly increasing" : "strictly monotone") : "monotone", (long long)bad);
    }
    return 1;
}

int pn_inputs_finite(const pn_problem *P, int f32) {
    const size_t n = P->degree < 0 ? 0 : (size_t)P->n_segments * (size_t)(P->degree + 1) * (size_t)P->m;
    uint64_t bad = 0;
    for (size_t e = 0; f32 && e < n; e++) bad |= !(fabsf(((const float *)P->coef)[e]) <= FLT_MAX);
    for (size_t e = 0; !f32 && e < n; e++) bad |= !(fabs(((const double *)P->coef)[e]) <= DBL_MAX);
    return !bad;
}

/* Rows of the result: increasing and disjoint, since each sample (thread) writes its own. */
static int check_rows(const pn_checker *c) {
    const pn_problem *P = c->P;
    int64_t end = 0;
    if (!P->row) return pn_wrong(c, "row: one entry a sample is needed");
    for (int64_t i = 0; i < P->n; i++) {
        if (P->row[i] < end)
            return pn_wrong(c, "sample %lld: row = %lld; rows must be increasing and must not overlap", (long long)i,
                            (long long)P->row[i]);
        if (P->t_len[i] > P->rows || P->row[i] > P->rows - P->t_len[i])
            return pn_wrong(c, "sample %lld: its rows %lld .. + %lld lie outside the %lld rows of the result", (long long)i,
                            (long long)P->row[i], (long long)P->t_len[i], (long long)P->rows);
        end = P->row[i] + P->t_len[i];
    }
    return 1;
}

static int check_inputs(const pn_checker *c) {
    const pn_problem *P = c->P;
    if ((P->m > 0) != (P->coef != NULL) || (P->m > 0) != (P->knot != NULL) || (P->m > 0) != (P->degree >= 0))
        return pn_wrong(c, "the field has %d inputs: %s", (int)P->m,
                        P->m ? "give knot and coef" : "knot and coef are out of place");
    if (P->m == 0) return 1;
    if (P->degree > 63) return pn_wrong(c, "coef must have between 1 and 64 coefficients a segment");
    for (int64_t i = 0; P->degree == 0 && P->cross_knots && i < P->n; i++)
        if (P->cross_knots[i]) return pn_wrong(c, "cross_knots: inputs that are constant between knots jump there");
    if (!check_ranges(c, "knot", P->knot_start, P->knot_len, 2, P->n_knots)) return 0;
    if (!check_monotone(c, "knot", P->knot, P->knot_start, P->knot_len, 1, 1)) return 0;
    for (int64_t i = 0; i < P->n; i++) {
        const int64_t count = P->knot_len[i] - 1;
        if (P->seg_start && P->seg_start[i] >= 0 && count <= P->n_segments && P->seg_start[i] <= P->n_segments - count)
            continue;
        return pn_wrong(c, "sample %lld: seg_start = %lld, with %lld segments of the %lld in coef", (long long)i,
                        P->seg_start ? (long long)P->seg_start[i] : -1LL, (long long)count, (long long)P->n_segments);
    }
    return 1;
}

static int check_grid(const pn_checker *c) {
    const pn_problem *P = c->P;
    if (!P->grid) return 1;
    if (!check_ranges(c, "grid", P->grid_start, P->grid_len, 1, P->n_grid)) return 0;
    if (!check_monotone(c, "grid", P->grid, P->grid_start, P->grid_len, 0, 1)) return 0;
    for (int64_t i = 0; i < P->n; i++) {
        const double *grid = P->grid + P->grid_start[i], *t = P->t + P->t_start[i];
        const double g0 = grid[0], g1 = grid[P->grid_len[i] - 1], t0 = t[0], t1 = t[P->t_len[i] - 1];
        if (g0 == t0 && (t1 >= t0 ? g1 >= t1 : g1 <= t1)) continue;
        return pn_wrong(c, "sample %lld: the grid must start at the initial time and reach the last one", (long long)i);
    }
    return 1;
}

static int check_stops(const pn_checker *c) {
    const pn_problem *P = c->P;
    if (P->n_stops < 0 || P->n_stops % 2 != 0 || (P->n_stops > 0 && !P->stops))
        return pn_wrong(c, "stops come in pairs (before, after), not %lld of them", (long long)P->n_stops);
    for (int64_t i = 0; i < P->n_stops; i++)
        if (!isfinite(P->stops[i]) || (i > 0 && !(P->stops[i] > P->stops[i - 1])))
            return pn_wrong(c, "stops must be finite and strictly increasing (entry %lld is not)", (long long)i);
    return 1;
}

/* Programs see t in the precision of the state: float32 must tell the times of a sample apart. (Whether a field changes faster than
   that is looked at where it can be evaluated, in forward/start.inl.) */
static int check_resolution(const pn_checker *c, int reads_t) {
    const pn_problem *P = c->P;
    for (int64_t i = 0; c->f32 && reads_t && i < P->n; i++) {
        const double *t = P->t + P->t_start[i], t0 = t[0], t1 = t[P->t_len[i] - 1];
        const double span = fabs(t1 - t0), spacing = 0x1p-23 * fmax(fabs(t0), fabs(t1));
        if (span == 0 || spacing <= 1e-3 * span) continue;
        return pn_wrong(c,
                        "t of sample %lld is %.9g to %.9g, where float32 numbers (the states) are %.2g apart, too far for "
                        "programs of t; subtract "
                        "the initial time from t (and in the programs), or give float64 states",
                        (long long)i, t0, t1, spacing);
    }
    return 1;
}
static int reads_t(const pn_program *f) { return f && f->reads_t; }
/* Fields that switch at some t cannot be looked at: see look_at_times. */
static int switches_at_t(const pn_program *f) { return f->reads_t && f->switches; }

/* ---- what a run is asked for --------------------------------------------------------------------------------------------- */
/* Loss, jumps and what they are given. */
static int check_together(const pn_checker *c) {
    const pn_problem *P = c->P;
    const int loss = P->loss == PN_LOSS_PROGRAM, jump = P->jump.program != NULL;
    return PN_KEEP_TO(c, "", {(int)P->loss < 0 || (int)P->loss > PN_LOSS_PROGRAM, "loss: there is no such one"},
                      {loss && !P->loss_part.program, "loss='program' needs loss_program"},
                      {loss && P->loss_part.k == 0 && P->loss_part.data, "target: the loss program takes none"},
                      {loss && P->weight, "weight belongs to the built-in losses"},
                      {!jump && P->jump.data, "data: there is no jump that takes any (jump_data belongs to a jump)"},
                      {jump && P->jump.k == 0 && P->jump.data, "data: the jump takes no data"},
                      {!P->jump_set != !P->jump_add, "jump_set and jump_add go together"},
                      {jump && (P->lambda > 0 || P->jump_add || P->quadrature),
                       "a jump needs coupling = 0 and does not go with jump_set, jump_add or quadrature"});
}

/* Whether row `row` jumps: it has data that do not begin with NaN. */
static int jumps_at(const pn_checker *c, int64_t row) {
    const pn_part *jump = &c->P->jump;
    if (!jump->program || jump->k == 0) return 1;
    const size_t at = (size_t)row * (size_t)jump->k;
    const double first = c->f32 ? (double)((const float *)jump->data)[at] : ((const double *)jump->data)[at];
    return first == first;
}

/* Jumps happen where steps end: of a prescribed grid, too. */
static int check_grid_jumps(const pn_checker *c) {
    const pn_problem *P = c->P;
    for (int64_t i = 0; P->grid && (P->jump.program || P->jump_add) && i < P->n; i++) {
        const double *t = P->t + P->t_start[i], *g = P->grid + P->grid_start[i];
        int64_t q = 0;
        for (int64_t j = 0; j < P->t_len[i]; j++) {
            if (!jumps_at(c, P->row[i] + j)) continue;
            while (q + 1 < P->grid_len[i] && fabs(g[q] - t[j]) > fabs(g[q + 1] - t[j])) q++;
            if (fabs(g[q] - t[j]) > 8.9e-16 * fmax(fabs(g[q]), fabs(t[j])))
                return pn_wrong(c, "sample %lld: it jumps at %.17g, where no step of the grid ends", (long long)i, t[j]);
        }
    }
    return 1;
}

/* What a loss and a jump need, and room for what they give. */
static int check_given(const pn_checker *c) {
    const pn_problem *P = c->P;
    const int loss = P->loss == PN_LOSS_PROGRAM, jump = P->jump.program != NULL;
    return PN_KEEP_TO(
        c, "",
        {loss ? P->loss_part.k > 0 && !P->loss_part.data : P->loss != PN_LOSS_NONE && !P->target, "the loss needs a target"},
        {P->loss != PN_LOSS_NONE && !(P->sample_loss && P->sample_weight), "sample_loss, sample_weight: no room for results"},
        {jump && !PN_JUMPS, "this build has no jumps"}, {jump && P->jump.k > 0 && !P->jump.data, "the jump needs data"},
        {jump && !P->y_before, "y_before: no room for results"});
}

/* Samples that share segments of the inputs would share their gradients. */
static int shared_segments(const pn_problem *P) {
    int64_t end = 0;
    for (int64_t i = 0; i < P->n; i++) {
        if (P->seg_start[i] < end) return 1;
        end = P->seg_start[i] + P->knot_len[i] - 1;
    }
    return 0;
}

/* All times of each sample are its first. */
static int only_jumps(const pn_problem *P) {
    for (int64_t i = 0; i < P->n; i++) {
        const double *t = P->t + P->t_start[i];
        if (t[P->t_len[i] - 1] != t[0]) return 0;
    }
    return 1;
}

static int check_tapes(const pn_checker *c) {
    const pn_problem *P = c->P;
    if (!P->tapes) return P->back ? pn_wrong(c, "back: there are no tapes") : 1;
    return PN_KEEP_TO(c, "tapes: ", {P->gradient != PN_GRAD_DISCRETE, "they go with gradient='discrete'"},
                      {P->loss != PN_LOSS_NONE, "they go without a loss"}, {P->memory > 0, "memory= has no say in them"},
                      {P->call != NULL, "a callback field has none"},
                      {P->jump.program || P->event, "jumps and events have none"},
                      {P->back && !P->g_y, "the way back needs g_y"}, {!P->back && P->g_y, "g_y is for the way back"});
}

static int check_gradient(const pn_checker *c) {
    const pn_problem *P = c->P;
    const int later = P->tapes && !P->back; /* the gradient is */
    if (P->gradient == PN_GRAD_NONE) return P->solved ? pn_wrong(c, "after: there is no gradient to go back for") : 1;
    const int reversible = P->gradient == PN_GRAD_REVERSIBLE;
    return PN_KEEP_TO(
        c, "", {!reversible && P->gradient != PN_GRAD_DISCRETE, "gradient: there is no such one"},
        {!P->reverse, "a gradient needs the reverse program"},
        {P->n_theta > 0 && !P->g_theta && !later, "g_theta: no room for results"},
        {!later && (P->loss != PN_LOSS_NONE) == (P->g_y != NULL), "a gradient needs either a loss or g_y"},
        {reversible && !(P->lambda > 0), "gradient='reversible' needs the reversible scheme: coupling > 0"},
        {!reversible && P->lambda > 0, "a solve with coupling > 0 needs gradient='reversible'"},
        {reversible && P->memory > 0, "memory: the reversible gradient keeps nothing"},
        {reversible && P->jump.program, "gradient='reversible' does not go through jumps"},
        {P->jump_add != NULL, "jump_set and jump_add have no gradient"},
        {P->quadrature != NULL, "quadrature goes without a gradient"},
        {P->g_coef && P->m == 0, "wrt_inputs: the field has no inputs"},
        {P->g_coef && P->m > 0 && shared_segments(P), "wrt_inputs: samples must not share segments of the inputs"},
        {(P->jump.program && !P->jump.reverse) || (P->loss == PN_LOSS_PROGRAM && !P->loss_part.reverse),
         "a gradient needs jump_reverse and loss_reverse, too"},
        {(P->jump.g_data && P->jump.k == 0) || (P->loss_part.g_data && P->loss_part.k == 0),
         "wrt_data (wrt_target) needs a jump (a loss program) that takes data"},
        {P->solved && !(P->jump.program && !reversible && P->g_y && only_jumps(P)),
         "after: all times of each sample must be the initial one; it goes with a jump, gradient='discrete' and g_y"});
}

/* n numbers of -1, 0, 1? */
static int signs(const int32_t *x, int64_t n) {
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= x[i] < -1 || x[i] > 1;
    return !bad;
}

static int check_event(const pn_checker *c) {
    const pn_problem *P = c->P;
    const pn_program *e = P->event;
    if (!e) return 1;
    if (!check_resolution(c, reads_t(e))) return 0;
    return PN_KEEP_TO(
        c, "event: ",
        {e->n_slots != 3 || e->slot_size[0] != 1 || e->slot_size[1] != P->d || e->slot_size[2] != 0 || e->n_outputs != 1 ||
             e->output_size[0] < 1 || e->n_spaces > 1 || e->has_call,
         "the slots must be t (1), y (d) and u (0), its only output the event functions"},
        {P->gradient != PN_GRAD_NONE || P->sensitivity || P->quadrature || P->lambda > 0 || P->jump_add || P->jump.program,
         "it goes with a plain forward solve only"},
        {P->grid != NULL, "it would cut the steps that a grid prescribes: give a fixed step, or adaptive steps"},
        {pn_parameters(e) > 0 && !P->event_theta, "event_theta is needed"},
        {!P->event_direction || !P->event_side, "event_direction and event_side are needed"},
        {!P->event_which || !P->event_y, "event_which, event_y: no room for results"},
        {P->event_direction && !signs(P->event_direction, e->output_size[0]), "event_direction must be -1, 0 or 1"},
        {P->event_side && !signs(P->event_side, P->n * e->output_size[0]), "event_side must be -1, 0 or 1"});
}

static int check_extras(const pn_checker *c) {
    const pn_problem *P = c->P;
    const pn_program *f = P->field;
    return PN_KEEP_TO(
        c, "",
        {P->n > 0 && !(P->y0 && P->y && P->status && P->stop_t && P->stop_component && P->nfe && P->accepted && P->rejected),
         "y0, y, status, stop_t, stop_component, nfe, accepted, rejected: no room"},
        {P->n_theta > 0 && !P->theta, "theta: there is none"},
        {P->jacobian && !P->jacobian_reverse && (P->gradient != PN_GRAD_NONE || P->sensitivity),
         "gradients and sensitivities of a Rosenbrock method need jacobian_reverse"},
        {P->theta_each && P->call, "theta_each: a callback has one theta for all samples"},
        {P->theta_each && P->quadrature, "theta_each: quadrature has one theta for all samples"},
        {(f->has_call || (P->reverse && P->reverse->has_call)) && !P->call, "the field calls back: a callback is needed"},
        {P->sensitivity && !(P->reverse && P->gradient == PN_GRAD_NONE && P->lambda == 0),
         "sensitivity needs the reverse program, gradient='none' and coupling = 0"},
        {P->sensitivity && (P->jump_add || P->jump.program), "sensitivity does not go through jumps"},
        {P->sensitivity && P->quadrature, "sensitivity does not go with quadrature"},
        {P->quadrature && f->n_grads != 1, "quadrature: the field accumulates nothing"},
        {P->quadrature && P->lambda > 0, "quadrature is that of the plain method: coupling must be 0"},
        {P->quadrature && P->tableau->second, "quadrature does not go with a method that splits the state"},
        {P->quadrature_coef && !P->quadrature, "quadrature_coef comes with quadrature only"},
        {P->quadrature_coef && P->m == 0, "quadrature_coef: the field has no inputs"},
        {P->quadrature_coef && (f->n_outputs < 4 || !pn_optional(f->output_size[3], P->m)),
         "quadrature_coef: output 3 of the field must be the cotangent of u (m)"},
        {P->quadrature_coef && P->m > 0 && shared_segments(P),
         "quadrature_coef: samples must not share segments of the inputs"});
}

/* ---- both ---------------------------------------------------------------------------------------------------------------- */
static int good_setup(const pn_checker *c) {
    const pn_problem *P = c->P;
    if (P->n < 0 || P->d < 1 || P->m < 0 || P->n_theta < 0)
        return pn_wrong(c, "n, d, m, n_theta: a size is negative, or d is 0");
    if (P->n > 0 && !P->t) return pn_wrong(c, "t: there is none");
    return check_field(c, (const char *[]){"field: ", "reverse: "}, P->field, P->reverse, P->n_theta) && check_hoisted(c) &&
           check_part(c, &P->jump, "jump: ", P->d) && check_part(c, &P->loss_part, "loss_program: ", 1) && check_numbers(c) &&
           check_method(c) && pn_check_implicit(c) && check_ranges(c, "t", P->t_start, P->t_len, 1, P->n_t) &&
           check_monotone(c, "t", P->t, P->t_start, P->t_len, 0, 0) && check_rows(c) && check_inputs(c) && check_grid(c) &&
           check_stops(c) && check_together(c) &&
           check_resolution(c, switches_at_t(P->field) || reads_t(P->jump.program) || reads_t(P->loss_part.program));
}

static int good_run(const pn_checker *c) {
    return check_extras(c) && check_together(c) && check_given(c) && check_grid_jumps(c) && check_tapes(c) &&
           check_gradient(c) && check_event(c);
}

pn_status pn_problem_check_setup(const pn_problem *problem, int f32, char message[PN_MESSAGE]) {
    const pn_checker c = {problem, f32, message};
    return good_setup(&c) ? PN_OK : PN_BAD_ARGUMENT;
}

pn_status pn_problem_check(const pn_problem *problem, int f32, char message[PN_MESSAGE]) {
    const pn_checker c = {problem, f32, message};
    return (problem->checked || good_setup(&c)) && good_run(&c) ? PN_OK : PN_BAD_ARGUMENT;
}
