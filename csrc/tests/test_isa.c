/* Names; which instruction sets the core says are there, against the compiler's own answer, where its run-time library has one. */
#include "tests/check.h"

static void same_as_the_compiler(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse2")) { /* every such processor has it */
        printf("test_isa: the table of __builtin_cpu_supports is empty here, nothing to compare with\n");
        return;
    }
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    CHECK(pn_isa_available(PN_ISA_AVX2) == avx2);
    CHECK(pn_isa_available(PN_ISA_AVX512) == (avx2 && avx512));
#endif
}

int main(void) {
    CHECK(pn_isa_available(PN_ISA_PLAIN) && pn_isa_available(PN_ISA_BASELINE));
    CHECK(!pn_isa_available(PN_N_ISA) && !pn_isa_available((pn_isa)-1));
    for (int i = 0; i < PN_N_ISA; i++) /* the best is the last of those that are there */
        CHECK(pn_isa_available((pn_isa)i) ? i <= (int)pn_isa_best() : i != (int)pn_isa_best());
    CHECK(!strcmp(pn_isa_name(PN_ISA_AVX2), "avx2") && !strcmp(pn_isa_name(PN_N_ISA), "unknown"));
    CHECK(!strcmp(pn_status_name(PN_CALLBACK), "CALLBACK") && !strcmp(pn_status_name(PN_N_STATUS), "UNKNOWN"));
    CHECK(!strcmp(pn_status_message((pn_status)-1), "unknown status"));
    same_as_the_compiler();
    return finish("test_isa");
}
