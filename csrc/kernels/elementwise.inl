/* Elementwise operations on flat arrays as in operations.inl, those that are small or know of lanes. */

/* States in whole vectors, which their padding allows: a call of memcpy takes as long as a small layer, and the load of a vector
   waits until stores of its elements have reached the cache. */
static inline void FN(copy)(T *to, const T *from, size_t n) {
    if (n <= VE) V(store)(to, V(load)(from));
    else memcpy(to, from, n * sizeof(T));
}

static inline void FN(clear)(T *to, size_t n) {
    for (size_t e = 0; e < n; e += VE) V(store)(to + e, V(set1)((T)0));
}
static inline void FN(add)(T *to, const T *from, size_t n) {
    for (size_t e = 0; e < n; e += VE) V(store)(to + e, V(load)(to + e) + V(load)(from + e));
}

/* Numbers x (L) of the lanes, beside elements e, e + 1, ... of a register, e at the beginning of a vector. */
static inline vec FN(of_lanes)(const T *x, size_t e) {
#if PN_PAIR
    (void)e;
    return V(repeat)(x);
#else
    return PN_BLOCK ? V(load)(x + e % L) : V(set1)(x[0]);
#endif
}

/* WHERE with the same condition in all rows */
static void FN(where_rows)(T *o, const T *cond, const T *a, const T *b, size_t count) {
    for (size_t i = 0; i < count; i += VE) {
        const vec c = FN(of_lanes)(cond, i);
        V(store)(o + i, V(sel)(c == V(set1)((T)0), V(load)(b + i), V(load)(a + i)));
    }
}
