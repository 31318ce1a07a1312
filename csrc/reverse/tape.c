#include "reverse/tape.h"

#include <stdlib.h>

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
