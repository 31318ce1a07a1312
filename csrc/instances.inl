/* The four instances of one instruction set: f64 and f32, a block of lanes and a single lane.
   The including file defines PN_VBYTES (bytes of a vector) and PN_INSTANCE (the name of the result). */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "work.h"

#include "simd.h"
#include "vmath.h"

#define PN_F32 0
#define PN_BLOCK 1
#include "instance.inl"
#define PN_F32 0
#define PN_BLOCK 0
#include "instance.inl"
#define PN_F32 1
#define PN_BLOCK 1
#include "instance.inl"
#define PN_F32 1
#define PN_BLOCK 0
#include "instance.inl"

const pn_instance PN_INSTANCE = {{
    {{1, sizeof(double), work_on_f64_single, evaluate_f64_single}, {2 * PN_VE64, sizeof(double), work_on_f64_block, evaluate_f64_block}},
    {{1, sizeof(float), work_on_f32_single, evaluate_f32_single}, {2 * PN_VE32, sizeof(float), work_on_f32_block, evaluate_f32_block}},
}};
