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

void *pn_zeroed(size_t bytes); /* as calloc, in large pages where there are such; NULL: out of memory. Freed by free. */

/* 64-byte aligned memory, for vectors; `bytes` is a multiple of 64. NULL: out of memory. Freed by nothing but pn_aligned_free. */
void *pn_aligned_alloc(size_t bytes);
void pn_aligned_free(void *block);

/* Blocks of memory, 64-byte aligned, not zeroed, which every gradient wants and gives back. A freed block of this size goes to the
   system (with glibc: until its thresholds have grown, or where its heap is trimmed), and each call would fault its pages in again: up
   to PN_STORES of PN_STORE bytes, of half as many, and so on to PN_SMALL_STORE, are kept, without a lock, so that a fork at any moment finds
   them whole. Others are not. */
#ifndef PN_STORE /* a build that fuzzes has less */
#define PN_STORE ((size_t)16 << 20)
#endif
#define PN_SMALL_STORE (PN_STORE >> 4)
enum { PN_STORES = 8 };
size_t pn_store_size(size_t bytes); /* of the least that is kept and has so many, at most PN_STORE */
void *pn_store_take(size_t bytes);  /* NULL: out of memory */
void pn_store_give(void *store, size_t bytes);
void pn_stores_free(void); /* those that are kept */

/* One block of zeroed, 64-byte aligned memory, carved up: size it first (base NULL), then allocate, then carve again. */
typedef struct pn_arena {
    char *base;
    size_t used, plain, zeroed; /* bytes taken of both kinds; of those that are zeroed, which come first */
} pn_arena;
void *pn_arena_take(pn_arena *a, size_t bytes);
void *pn_arena_take_plain(pn_arena *a, size_t bytes); /* not zeroed: large, and written before it is read */
int pn_arena_allocate(pn_arena *a);                   /* after a sizing pass; 0: out of memory */
#endif
