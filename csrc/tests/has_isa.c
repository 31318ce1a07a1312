/* has_isa NAME: exits with 0 where the processor and the system run that instruction set (csrc/tests/Makefile). */
#include <string.h>

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    if (!strcmp(argv[1], "plain") || !strcmp(argv[1], "baseline")) return 0;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!strcmp(argv[1], "avx2")) return !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
    if (!strcmp(argv[1], "avx512"))
        return !(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma"));
#endif
    return 1;
}
