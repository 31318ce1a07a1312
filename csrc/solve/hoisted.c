#include "solve/hoisted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instances/instances.h"
#include "memory.h"
#include "solve/check.h"
#include "solve/finite.h"

static size_t size_of(int f32) { return f32 ? sizeof(float) : sizeof(double); }

/* Where the programs read their parameters: in tapes, for they have to be there on the way back, or behind the gradient. */
static char *room_for(pn_hoisting *h, const pn_problem *P, size_t gradient, size_t bytes) {
    if (!P->tapes) return h->store + gradient;
    char *room = realloc(P->tapes->theta, bytes);
    if (room) {
        P->tapes->theta = room;
        P->tapes->n_theta = h->problem.n_theta;
    }
    return room;
}

static pn_status compute(const pn_hoisting *h, const pn_problem *P, int f32, pn_isa isa, char *theta) {
    const size_t size = size_of(f32), at = (size_t)h->at * size, made = (size_t)h->made * size;
    const char *given = P->theta;
    if (!theta) return PN_MEMORY;
    if (at) memcpy(theta, given, at);
    if (P->n_theta > h->at) memcpy(theta + at + made, given + at, (size_t)(P->n_theta - h->at) * size);
    return pn_evaluate(P->hoisted.once, f32, isa, 1, NULL, &P->theta, (void *[]){theta + at}, NULL, NULL, NULL);
}

pn_status pn_hoist(pn_hoisting *h, const pn_problem *P, int f32, pn_isa isa, char *text) {
    const int64_t at = pn_parameters(P->field), made = P->hoisted.once->output_size[0];
    *h = (pn_hoisting){.problem = *P, .at = at, .made = made};
    pn_problem *Q = &h->problem;
    Q->field = P->hoisted.rest;
    Q->reverse = P->hoisted.rest_reverse;
    Q->hoisted = (pn_hoisted){.once = NULL};
    Q->n_theta += made;
    Q->jump.offset += made;
    Q->loss_part.offset += made;
    const size_t gradient = P->g_theta ? (size_t)Q->n_theta * sizeof(double) : 0, bytes = (size_t)Q->n_theta * size_of(f32);
    const size_t needed = gradient + (P->tapes ? 0 : bytes);
    if (P->tapes && !P->back) P->tapes->filled = 0; /* whatever fails from here on */
    h->bytes = needed > PN_STORE ? (needed + 63) / 64 * 64 : pn_store_size(needed);
    h->store = pn_store_take(h->bytes);
    if (!h->store) return PN_MEMORY;
    if (P->g_theta) Q->g_theta = memset(h->store, 0, gradient);
    if (!P->back) Q->theta = room_for(h, P, gradient, bytes);
    if (!P->back) return compute(h, P, f32, isa, (char *)Q->theta);
    Q->theta = P->tapes->theta;
    if (Q->theta && P->tapes->n_theta == Q->n_theta) return PN_OK;
    snprintf(text, PN_MESSAGE, "tapes: they are not those of a solve of this problem");
    return PN_BAD_ARGUMENT;
}

pn_status pn_pull_back(const pn_hoisting *h, const pn_problem *P, int f32, pn_isa isa, int *finite) {
    *finite = 1;
    if (!P->g_theta || P->gradient == PN_GRAD_NONE || (P->tapes && !P->back)) return PN_OK;
    double *g = h->problem.g_theta, *seed = g + h->at;
    memcpy(P->g_theta, g, (size_t)h->at * sizeof(double));
    memcpy(P->g_theta + h->at, seed + h->made, (size_t)(P->n_theta - h->at) * sizeof(double));
    for (int64_t i = 0; f32 && i < h->made; i++) { /* in its own place */
        const float x = (float)seed[i];
        memcpy((char *)seed + (size_t)i * sizeof x, &x, sizeof x);
    }
    pn_status st = pn_evaluate(P->hoisted.once_reverse, f32, isa, 1, (const void *[]){seed}, &P->theta, (void *[]){NULL},
                               &P->g_theta, NULL, NULL);
    *finite = pn_all_finite(P->g_theta, (size_t)P->n_theta);
    return st;
}

void pn_hoisting_end(pn_hoisting *h) { pn_store_give(h->store, h->bytes); }
