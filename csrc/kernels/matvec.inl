/* Small dense algebra lane by lane: matrices computed in registers. */

static void FN(matvec)(T *restrict o, const T *restrict A, const T *restrict x, int32_t m, int32_t n) {
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
    T s[L] = {0};
    for (int32_t j = 0; j < n; j++)
        for (size_t l = 0; l < L; l++) s[l] += a[(size_t)j * L + l];
    for (int l = 0; l < L; l++) o[l] = s[l];
}
