/* Memory of a solve: plain lists of doubles that grow, and an arena. */
#ifndef PN_MEMORY_H
#define PN_MEMORY_H
#include <stddef.h>
#include <stdint.h>

typedef struct pn_list {
    double *x;
    int64_t n, cap;
} pn_list;
double *pn_list_push(pn_list *l, int64_t count); /* room for count more; NULL: out of memory */

/* One block of zeroed, 64-byte aligned memory, carved up: size it first (base NULL), then allocate, then carve again. */
typedef struct pn_arena {
    char *base;
    size_t used;
} pn_arena;
void *pn_arena_take(pn_arena *a, size_t bytes);
int pn_arena_allocate(pn_arena *a); /* after a sizing pass; 0: out of memory */
#endif
