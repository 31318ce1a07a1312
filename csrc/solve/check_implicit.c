/* Checks of what methods need that solve linear systems. */
#include <math.h>
#include <stddef.h>

#include "solve/check.h"
#include "solve/pattern.h"

/* The two methods of a solve that changes between them. */
static int check_stiff(const pn_checker *c) {
    const pn_problem *P = c->P;
    const pn_tableau *tab = P->tableau, *stiff = P->stiff;
    return PN_KEEP_TO(c,
                      "stiff: ", {!(stiff->gamma > 0) || stiff->error_order == 0, "it must be an adaptive Rosenbrock method"},
                      {tab->gamma > 0, "the tableau must be that of an explicit method"},
                      {tab->second != NULL, "a method that splits the state cannot change to another"},
                      {tab->s < 2 || tab->c[tab->s - 1] != 1 || !tab->error_uses_new,
                       "the explicit method needs a last stage at the end of the step and f there (dopri5, tsit5)"},
                      {tab->dense_degree != stiff->dense_degree, "the dense outputs have different degrees"},
                      {!P->adaptive, "the steps are fixed, and no method is changed"},
                      {P->mass != NULL, "a mass matrix needs the Rosenbrock method alone"},
                      {!(P->stability > 0) || !isfinite(P->stability), "stability must be finite and positive"});
}

/* The program of the Jacobian that a Rosenbrock method needs, and its vjp. */
int pn_check_implicit(const pn_checker *c) {
    const pn_problem *P = c->P;
    const pn_program *f = P->jacobian, *r = P->jacobian_reverse;
    if (P->stiff ? !check_stiff(c) : 0) return 0;
    if (!P->stiff && !(P->tableau->gamma > 0))
        return f || r || P->mass || P->pattern
                   ? pn_wrong(c, "jacobian, pattern, mass: this method is explicit and has no use for them")
                   : 1;
    if (!f) return pn_wrong(c, "jacobian: this method solves linear systems and needs the program of the Jacobian");
    const int64_t square = (int64_t)P->d * P->d, entries = P->pattern ? P->pattern->n : square;
    const int32_t n_out = f->n_outputs > 0 ? f->output_size[0] : -1;
    if (!PN_KEEP_TO(
            c, "jacobian: ",
            {f->n_slots != 3 || f->slot_size[0] != 1 || f->slot_size[1] != P->d, "the slots must be t (1), y (d) and u"},
            {f->slot_size[2] != P->m && f->slot_size[2] != 2 * P->m, "the slot u must have m features, or 2 m with du/dt"},
            {f->has_call && !P->field->has_call, "it must not be a callback where the field is none"},
            {P->pattern && P->pattern->d != P->d, "the pattern is that of another number of states"},
            {n_out != 0 && n_out != entries && n_out != entries + P->d,
             "output 0 must have d d features, or d d + d, with a pattern as many as that has, or d more"},
            {f->n_spaces > 1 || f->n_grads > 1 || pn_parameters(f) > P->n_theta, "the parameters are not those of the field"},
            {P->lambda > 0, "a Rosenbrock method has no reversible scheme: coupling must be 0"},
            {P->quadrature != NULL, "quadrature needs an explicit method"},
            {P->jacobian_cost < 0, "jacobian_cost must not be negative"}, {P->mass && !P->d, "mass: there are no states"}))
        return 0;
    for (int64_t e = 0; P->mass && e < square; e++)
        if (!isfinite(P->mass[e])) return pn_wrong(c, "mass must be finite, entry %lld is %g", (long long)e, P->mass[e]);
    if (P->pattern && !pn_pattern_has(P->pattern, P->mass)) return pn_wrong(c, "pattern: it was made for another mass");
    if (!r) return 1;
    const int32_t *slot = r->slot_size, *out = r->output_size;
    return PN_KEEP_TO(
        c, "jacobian_reverse: ",
        {r->n_slots != 4 || slot[0] != 1 || slot[1] != P->d || slot[2] != f->slot_size[2] || (n_out && slot[3] != n_out),
         "the slots must be those of the jacobian, and the seed"},
        {r->n_outputs != 4 || !pn_optional(out[1], P->d) || !pn_optional(out[2], 1) || !pn_optional(out[3], f->slot_size[2]),
         "the outputs must be the value and the cotangents of y, t and u"},
        {r->n_spaces > 1 || pn_parameters(r) != pn_parameters(f) || r->n_grads > 1 ||
             (r->n_grads == 1 && r->n_grad[0] != pn_parameters(f)),
         "the parameters are not those of the jacobian"});
}
