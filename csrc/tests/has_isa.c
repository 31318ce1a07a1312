/* has_isa NAME: exits with 0 where the processor and the system run that instruction set (csrc/tests/Makefile). */
#include <string.h>
#ifdef __x86_64__
#include "instances/cpuid.h"
#endif

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    if (!strcmp(argv[1], "plain") || !strcmp(argv[1], "baseline")) return 0;
#ifdef __x86_64__
    if (!strcmp(argv[1], "avx2")) return !pn_cpu_has(PN_CPU_AVX2);
    if (!strcmp(argv[1], "avx512")) return !pn_cpu_has(PN_CPU_AVX512);
#endif
    return 1;
}
