/* The instances of one instruction set: f64 and f32, with one lane, a block of lanes in two vectors, and, where vectors are wide
   enough for few samples, in one, and (f64) two lanes, less than a vector. The including file defines PN_VBYTES (bytes of a
   vector) and PN_INSTANCE (the name of the result). With PN_F64_ONLY there is no f32, for builds that have to be small. */
#define _POSIX_C_SOURCE 200809L
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "instances/instances.h"
#include "memory.h"
#include "reverse/tape.h"
#include "solve/pattern.h"

/* what few ask for, as derivatives with respect to times, and what is done once or seldom: small rather than fast */
#define PN_RARE __attribute__((noinline, cold))
/* The same without saying that it is rare, which makes all that leads there slow, too, where a call is unconditional. */
#ifdef __clang__
#define PN_SMALL __attribute__((noinline, minsize))
#else
#define PN_SMALL __attribute__((noinline))
#endif

#include "kernels/simd.h"
#include "kernels/vmath.h"

/* what depends neither on the precision nor on lanes */
#include "events/hunt.inl"
#include "forward/times.inl"
#include "solve/finite.inl"

#define PN_F32 0
#define PN_VECTORS 0
#include "instances/instance.inl"
#define PN_F32 0
#define PN_VECTORS 2
#include "instances/instance.inl"
#ifndef PN_F64_ONLY
#define PN_F32 1
#define PN_VECTORS 0
#include "instances/instance.inl"
#define PN_F32 1
#define PN_VECTORS 2
#include "instances/instance.inl"
#endif
#if PN_VBYTES == 64
#define PN_F32 0
#define PN_VECTORS 1
#include "instances/instance.inl"
#ifndef PN_F64_ONLY
#define PN_F32 1
#define PN_VECTORS 1
#include "instances/instance.inl"
#endif
#else
#define work_on_f64_narrow work_on_f64_block
#define evaluate_f64_narrow evaluate_f64_block
#define discard_f64_narrow discard_f64_block
#define work_on_f32_narrow work_on_f32_block
#define evaluate_f32_narrow evaluate_f32_block
#define discard_f32_narrow discard_f32_block
#endif
#if PN_VBYTES >= 32
#define PN_F32 0
#define PN_VECTORS 1
#define PN_TWO_LANES
#include "instances/instance.inl"
#define PN_TWO {2, sizeof(double), work_on_f64_pair, evaluate_f64_pair, discard_f64_pair}
#else
#define PN_TWO {0} /* a vector is no more than two numbers, or a block has few lanes */
#endif
#define PN_NARROW (PN_VBYTES == 64 ? 1 : 2)

const pn_instance PN_INSTANCE = {{
    {{1, sizeof(double), work_on_f64_single, evaluate_f64_single, discard_f64_single},
     PN_TWO,
     {PN_NARROW * PN_VE64, sizeof(double), work_on_f64_narrow, evaluate_f64_narrow, discard_f64_narrow},
     {2 * PN_VE64, sizeof(double), work_on_f64_block, evaluate_f64_block, discard_f64_block}},
#ifndef PN_F64_ONLY
    {{1, sizeof(float), work_on_f32_single, evaluate_f32_single, discard_f32_single},
     {0}, /* floats for two would make the core larger by a tenth */
     {PN_NARROW * PN_VE32, sizeof(float), work_on_f32_narrow, evaluate_f32_narrow, discard_f32_narrow},
     {2 * PN_VE32, sizeof(float), work_on_f32_block, evaluate_f32_block, discard_f32_block}},
#endif
}};
