/* Forward halves that wait for their way back. Programs of JAX are pure: the way back gets the same y0 and theta as the solve before
   it, and nothing that the solve could hand over. So a solve whose way back may come is kept here, and found by its numbers; the bits
   are those of a solve from the start. A few serve all calls: those that were used for a way back are taken first. */
#include "python/xla_call.h"

#include <stdlib.h>
#include <string.h>

enum { HALVES = 8, MOST_SAMPLES = 4096, MOST_WASTED = 16 };

struct pnpy_half {
    pn_tapes *tapes;
    const pnpy_ready *of; /* NULL: nothing is kept */
    pn_problem problem;
    pn_isa isa;
    char *memory; /* y0, theta, reports */
    size_t size;
    uint64_t when; /* larger is later */
    int busy, spent;
};

static pnpy_half halves[HALVES];
static uint64_t now;

static size_t size_of(const pnpy_xla_arrays *a) { return a->f32 ? sizeof(float) : sizeof(double); }

/* In multiples of 64 bytes. */
static size_t padded(size_t size) { return (size + 63) / 64 * 64; }

static size_t y0_size(const pnpy_xla_arrays *a) { return (size_t)a->n * (size_t)a->d * size_of(a); }

static size_t theta_size(const pnpy_xla_arrays *a) {
    return (size_t)(a->theta_each ? a->n : 1) * (size_t)a->n_theta * size_of(a);
}

/* Which half to fill: one whose way back came, else one that is empty, else the oldest. Under the lock. */
static pnpy_half *choose(void) {
    pnpy_half *best = NULL;
    for (int i = 0; i < HALVES; i++) {
        pnpy_half *h = &halves[i];
        if (h->busy) continue;
        const int rank = h->of ? h->spent ? 2 : 0 : 1, best_rank = !best ? -1 : best->of ? best->spent ? 2 : 0 : 1;
        const int later = best && h->when > best->when;
        if (rank > best_rank || (rank == best_rank && (rank == 2 ? later : !later))) best = h;
    }
    return best;
}

/* 0, or -1 where there is no memory. */
static int make_room(pnpy_half *h, size_t size) {
    if (!h->tapes && !(h->tapes = pn_tapes_create())) return -1;
    if (h->size < size) {
        free(h->memory);
        h->memory = malloc(size);
        h->size = h->memory ? size : 0;
    }
    return h->memory ? 0 : -1;
}

pnpy_half *pnpy_half_for(pnpy_ready *ready, const pnpy_xla_arrays *a, pnpy_context *context, pn_problem *p) {
    if (!a->keep || a->n > MOST_SAMPLES) return NULL;
    pnpy_xla_lock();
    pnpy_half *h = ready->wasted < MOST_WASTED ? choose() : NULL;
    if (h) {
        if (h->of && !h->spent && h->of == ready) ready->wasted++;
        h->busy = 1;
        h->of = NULL;
    }
    pnpy_xla_unlock();
    if (!h) return NULL;
    const size_t y0 = padded(y0_size(a)), theta = padded(theta_size(a)), reports = pnpy_xla_report_size(a->n);
    if (make_room(h, y0 + theta + reports) < 0) {
        pnpy_half_drop(h);
        return NULL;
    }
    memcpy(h->memory, a->y0, y0_size(a));
    memcpy(h->memory + y0, a->theta, theta_size(a));
    memset(h->memory + y0 + theta, 0, reports);
    *p = pnpy_xla_problem(ready, a, h->memory + y0 + theta, context);
    p->y0 = h->memory;
    p->theta = h->memory + y0;
    p->gradient = PN_GRAD_DISCRETE;
    p->tapes = h->tapes;
    return h;
}

void pnpy_half_keep(pnpy_half *h, pnpy_ready *ready, const pn_problem *p, pn_isa isa) {
    pnpy_xla_lock();
    h->problem = *p;
    h->isa = isa;
    h->of = ready;
    h->when = ++now;
    h->busy = h->spent = 0;
    pnpy_xla_unlock();
}

void pnpy_half_drop(pnpy_half *h) {
    pnpy_xla_lock();
    h->busy = 0;
    h->of = NULL;
    pnpy_xla_unlock();
}

/* The next one from i on that may be it, taken. */
static pnpy_half *candidate(pnpy_ready *ready, int *i) {
    pnpy_half *found = NULL;
    pnpy_xla_lock();
    ready->wasted = 0;
    for (; !found && *i < HALVES; ++*i)
        if (halves[*i].of == ready && !halves[*i].busy) {
            found = &halves[*i];
            found->busy = 1;
        }
    pnpy_xla_unlock();
    return found;
}

pnpy_half *pnpy_half_of(pnpy_ready *ready, const pnpy_xla_arrays *a, pn_problem *p, pn_isa *isa) {
    int i = 0;
    pnpy_half *h;
    while ((h = candidate(ready, &i))) {
        *p = h->problem;
        *isa = h->isa;
        if (!memcmp(p->y0, a->y0, y0_size(a)) && !memcmp(p->theta, a->theta, theta_size(a))) return h;
        pnpy_xla_lock();
        h->busy = 0;
        pnpy_xla_unlock();
    }
    return NULL;
}

void pnpy_half_used(pnpy_half *h) {
    pnpy_xla_lock();
    h->busy = 0;
    h->spent = 1;
    h->when = ++now;
    pnpy_xla_unlock();
}

void pnpy_halves_forget(const pnpy_ready *ready) {
    for (int i = 0; i < HALVES; i++)
        if (halves[i].of == ready) halves[i].of = NULL;
}
