/* What an x86-64 processor has, and the system keeps, asked of the processor itself: __builtin_cpu_supports needs a table
   that the compiler's run-time library fills in, and not all of them do (zig's answers 0 to everything). */
#ifndef PN_CPUID_H
#define PN_CPUID_H
#include <cpuid.h>
#include <stdatomic.h>

enum { PN_CPU_ASKED = 1, PN_CPU_AVX2 = 2, PN_CPU_AVX512 = 4 };

/* Which vector registers the system saves when it changes threads. */
static inline unsigned pn_cpu_saved(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static inline int pn_cpu_ask(void) {
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;                 /* leaf 1, ecx */
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* leaf 7, ebx: f, dq, bw, vl */
    const unsigned ymm = 1u << 1 | 1u << 2, zmm = 1u << 5 | 1u << 6 | 1u << 7; /* sse and avx; opmask, upper halves, zmm16-31 */
    unsigned a, b, c, d, found = PN_CPU_ASKED;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave | avx)) != (fma | osxsave | avx)) return (int)found;
    const unsigned saved = pn_cpu_saved();
    if ((saved & ymm) != ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2)) return (int)found;
    found |= PN_CPU_AVX2;
    if ((saved & zmm) == zmm && (b & avx512) == avx512) found |= PN_CPU_AVX512;
    return (int)found;
}

/* Some of the constants above. Asked once: a virtual machine answers in microseconds. */
static inline int pn_cpu_has(int what) {
    static atomic_int known;
    int found = atomic_load_explicit(&known, memory_order_relaxed);
    if (!found) {
        found = pn_cpu_ask();
        atomic_store_explicit(&known, found, memory_order_relaxed);
    }
    return (found & what) != 0;
}
#endif
