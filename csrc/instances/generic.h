/* Names of one instance: element type T, lanes L in PN_VECTORS vectors (0: one lane), vector functions without their suffix.
   Included by instances.inl before, and undone by generic_end.h after, each instance. */
#define PN_CAT3_(a, b, c) a##b##c
#define PN_CAT3(a, b, c) PN_CAT3_(a, b, c)
#if PN_F32
#define T float
#define vec vf32
#define VE PN_VE32
#define V(name) PN_CAT3(v_, name, _f32)
#else
#define T double
#define vec vf64
#define VE PN_VE64
#define V(name) PN_CAT3(v_, name, _f64)
#endif
#define NV PN_VECTORS
#if defined PN_TWO_LANES
#define PN_PAIR 1
#define PN_BLOCK 1
#define L 2
#define PN_LAYOUT PN_LAYOUT_SINGLE
#define SENS T
#define PN_LANES_NAME pair
#elif NV > 0
#define PN_PAIR 0
#define PN_BLOCK 1
#define L (NV * VE)
#define PN_LAYOUT PN_LAYOUT_BLOCK
#define SENS T /* sensitivities */
#if NV == 1
#define PN_LANES_NAME narrow
#else
#define PN_LANES_NAME block
#endif
#else
#define PN_PAIR 0
#define PN_BLOCK 0
#define L 1
#define PN_LAYOUT PN_LAYOUT_SINGLE
#define SENS double
#define PN_LANES_NAME single
#endif
#define PN_WHOLE_VECTORS (PN_BLOCK && !PN_PAIR) /* a row of the lanes is one or more of them */
#if PN_F32
#define FN(name) PN_CAT3(name, _f32_, PN_LANES_NAME)
#else
#define FN(name) PN_CAT3(name, _f64_, PN_LANES_NAME)
#endif
