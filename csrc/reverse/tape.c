#include "reverse/tape.h"

#include <stdlib.h>
#include <string.h>

void *pn_tape_push(pn_tape *t) {
    if (t->n == t->n_blocks * PN_TAPE_BLOCK) {
        if (t->n_blocks == t->cap_blocks) {
            int64_t cap = t->cap_blocks ? 2 * t->cap_blocks : 16;
            char **grown = realloc(t->block, (size_t)cap * sizeof *grown);
            if (!grown) return NULL;
            t->block = grown;
            t->cap_blocks = cap;
        }
        char *block = malloc(PN_TAPE_BLOCK * t->stride);
        if (!block) return NULL;
        t->block[t->n_blocks++] = block;
    }
    return pn_tape_at(t, t->n++);
}

void pn_tape_free(pn_tape *t) {
    for (int64_t i = 0; i < t->n_blocks; i++) free(t->block[i]);
    free(t->block);
    *t = (pn_tape){.stride = t->stride};
}

double *pn_list_push(pn_list *l, int64_t count) {
    if (l->n + count > l->cap) {
        int64_t cap = l->cap ? l->cap : 256;
        while (cap < l->n + count) cap *= 2;
        double *grown = realloc(l->x, (size_t)cap * sizeof *grown);
        if (!grown) return NULL;
        l->x = grown;
        l->cap = cap;
    }
    l->n += count;
    return l->x + l->n - count;
}

void *pn_arena_take(pn_arena *a, size_t bytes) {
    void *p = a->base ? a->base + a->used : NULL;
    a->used += (bytes + 63) / 64 * 64;
    return p;
}

int pn_arena_allocate(pn_arena *a) {
    size_t bytes = a->used ? a->used : 64;
    a->base = aligned_alloc(64, bytes);
    if (!a->base) return 0;
    memset(a->base, 0, bytes);
    a->used = 0;
    return 1;
}
