#include "memory.h"

#include <stdlib.h>
#include <string.h>

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
