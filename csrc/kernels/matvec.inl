/* Small dense algebra lane by lane: matrices computed in registers. */

static void FN(matvec)(T *restrict o, const T *restrict A, const T *restrict x, int32_t m, int32_t n) {
#if !PN_BLOCK
    if (n >= 2 * (int32_t)VE) { /* short rows overlap each other */
        for (int32_t i = 0; i < m; i++) o[i] = FN(dot)(A + (size_t)i * (size_t)n, x, (size_t)n);
        return;
    }
#endif
    for (int32_t i = 0; i < m; i++) {
        T s[L] = {0};
        for (int32_t j = 0; j < n; j++)
            for (size_t l = 0; l < L; l++) s[l] += A[((size_t)i * (size_t)n + (size_t)j) * L + l] * x[(size_t)j * L + l];
        for (size_t l = 0; l < L; l++) o[(size_t)i * L + l] = s[l];
    }
}

static void FN(matvec_t)(T *restrict o, const T *restrict A, const T *restrict x, int32_t m, int32_t n) {
    for (size_t e = 0; e < (size_t)n * L; e++) o[e] = 0; /* o (n), x (m) */
    for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < n; j++)
            for (size_t l = 0; l < L; l++) o[(size_t)j * L + l] += A[((size_t)i * (size_t)n + (size_t)j) * L + l] * x[(size_t)i * L + l];
}

static void FN(outer)(T *restrict o, const T *restrict a, const T *restrict b, int32_t m, int32_t n) {
    for (int32_t i = 0; i < m; i++)
        for (int32_t j = 0; j < n; j++)
            for (size_t l = 0; l < L; l++) o[((size_t)i * (size_t)n + (size_t)j) * L + l] = a[(size_t)i * L + l] * b[(size_t)j * L + l];
}

static void FN(sum)(T *restrict o, const T *restrict a, int32_t n) {
#if !PN_BLOCK
    vec some[4] = {V(set1)((T)0), V(set1)((T)0), V(set1)((T)0), V(set1)((T)0)};
    T rest = 0;
    size_t k = 0, count = (size_t)n;
    for (; k + 4 * VE <= count; k += 4 * VE)
        for (size_t v = 0; v < 4; v++) some[v] += V(load)(a + k + v * VE);
    for (; k + VE <= count; k += VE) some[0] += V(load)(a + k);
    if (count >= VE) rest = V(hsum)((some[0] + some[1]) + (some[2] + some[3]));
    for (; k < count; k++) rest += a[k];
    o[0] = rest;
#else
    T s[L] = {0};
    for (int32_t j = 0; j < n; j++)
        for (size_t l = 0; l < L; l++) s[l] += a[(size_t)j * L + l];
    for (int l = 0; l < L; l++) o[l] = s[l];
#endif
}
