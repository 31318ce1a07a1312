/* Which instruction sets this build and this processor have. */
#include "instances/instances.h"
#ifdef PN_HAVE_X86_ISA
#include "instances/cpuid.h"
#endif

static const pn_instance *const instances[PN_N_ISA] = {
#ifndef PN_WITHOUT_PLAIN /* a build may leave out what it does not need */
    [PN_ISA_PLAIN] = &pn_instance_plain,
#endif
#ifndef PN_WITHOUT_BASELINE
    [PN_ISA_BASELINE] = &pn_instance_baseline,
#endif
#if defined PN_HAVE_X86_ISA && !defined PN_WITHOUT_AVX2
    [PN_ISA_AVX2] = &pn_instance_avx2,
#endif
#if defined PN_HAVE_X86_ISA && !defined PN_WITHOUT_AVX512
    [PN_ISA_AVX512] = &pn_instance_avx512,
#endif
};

const char *pn_isa_name(pn_isa isa) {
    static const char *const names[PN_N_ISA] = {"plain", "baseline", "avx2", "avx512"};
    return (unsigned)isa < PN_N_ISA ? names[isa] : "unknown";
}

int pn_isa_available(pn_isa isa) {
    if ((unsigned)isa >= PN_N_ISA || !instances[isa]) return 0;
#ifdef PN_HAVE_X86_ISA
    if (isa == PN_ISA_AVX2) return pn_cpu_has(PN_CPU_AVX2);
    if (isa == PN_ISA_AVX512) return pn_cpu_has(PN_CPU_AVX512);
#endif
    return 1;
}

pn_isa pn_isa_best(void) {
    int isa = PN_N_ISA - 1;
    while (isa > 0 && !pn_isa_available((pn_isa)isa)) isa--;
    return (pn_isa)isa;
}

/* A wide block takes 1.8 times as long as a narrow one, samples with steps of their own leave lanes idle at the end, and a
   callback is best called for many samples at once. */
const pn_kernels *pn_kernels_get(int f32, pn_isa isa, int64_t n, int adaptive, int calls) {
    const pn_kernels *k = instances[isa]->kernels[f32 != 0];
    int64_t blocks = 1 + (n - 1) / k[PN_LANES_NARROW].lanes;
    int narrow = blocks == 1 || blocks == 3 || (blocks == 2 && adaptive);
    return &k[n == 1 ? PN_LANES_ONE : narrow && !calls ? PN_LANES_NARROW : PN_LANES_WIDE];
}

const pn_kernels *pn_kernels_pair(int f32, pn_isa isa) {
    const pn_kernels *k = &instances[isa]->kernels[f32 != 0][PN_LANES_TWO];
    return k->lanes ? k : NULL;
}
