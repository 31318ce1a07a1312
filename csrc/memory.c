#define _DEFAULT_SOURCE /* madvise */
#include "memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* A fault for each 4 kB of a large new block takes longer than the work of a small solve: the system is asked for pages of 2 MB. */
static void *in_large_pages(void *block, size_t bytes) {
#ifdef MADV_HUGEPAGE
    const size_t page = (size_t)2 << 20, skip = (page - (uintptr_t)block % page) % page;
    if (block && bytes >= 2 * page) madvise((char *)block + skip, (bytes - skip) / page * page, MADV_HUGEPAGE);
#else
    (void)bytes;
#endif
    return block;
}

void *pn_zeroed(size_t bytes) { return in_large_pages(calloc(1, bytes), bytes); }

#ifdef _WIN32
#include <malloc.h>

void *pn_aligned_alloc(size_t bytes) { return _aligned_malloc(bytes, 64); }
void pn_aligned_free(void *block) { _aligned_free(block); }
#else
void *pn_aligned_alloc(size_t bytes) { return in_large_pages(aligned_alloc(64, bytes), bytes); }
void pn_aligned_free(void *block) { free(block); }
#endif

size_t pn_store_size(size_t bytes) {
    size_t size = PN_SMALL_STORE;
    while (size < bytes && size < PN_STORE) size *= 2;
    return size;
}

#ifndef PN_KEEP_STORES
#ifdef PN_NO_THREADS
#define PN_KEEP_STORES 0
#else
#define PN_KEEP_STORES 1
#endif
#endif

#if PN_KEEP_STORES
enum { KINDS = 5 };
static _Atomic(void *) kept[KINDS][PN_STORES];

/* Those of a size, or NULL. */
static _Atomic(void *) *of_size(size_t bytes) {
    for (int i = 0; i < KINDS; i++)
        if (bytes == PN_SMALL_STORE << i) return kept[i];
    return NULL;
}

void *pn_store_take(size_t bytes) {
    _Atomic(void *) *place = of_size(bytes);
    for (int i = 0; place && i < PN_STORES; i++) {
        void *store = atomic_exchange(&place[i], NULL);
        if (store) return store;
    }
    return pn_aligned_alloc(bytes);
}

void pn_store_give(void *store, size_t bytes) {
    _Atomic(void *) *place = of_size(bytes);
    for (int i = 0; store && place && i < PN_STORES; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&place[i], &none, store)) return;
    }
    pn_aligned_free(store);
}

void pn_stores_free(void) {
    for (int i = 0; i < KINDS * PN_STORES; i++) pn_aligned_free(atomic_exchange(&kept[i / PN_STORES][i % PN_STORES], NULL));
}
#else
void *pn_store_take(size_t bytes) { return pn_aligned_alloc(bytes); }
void pn_store_give(void *store, size_t bytes) {
    (void)bytes;
    pn_aligned_free(store);
}
void pn_stores_free(void) {}
#endif

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

void *pn_arena_take_plain(pn_arena *a, size_t bytes) {
    void *p = a->base ? a->base + a->zeroed + a->plain : NULL;
    a->plain += (bytes + 63) / 64 * 64;
    return p;
}

int pn_arena_allocate(pn_arena *a) {
    size_t bytes = a->used + a->plain;
    a->base = pn_aligned_alloc(bytes ? bytes : 64);
    if (!a->base) return 0;
    memset(a->base, 0, a->used);
    a->zeroed = a->used;
    a->used = a->plain = 0;
    return 1;
}
