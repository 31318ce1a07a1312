/* The operations with their shapes: the rows of ops.def. */
#ifndef PN_OPS_H
#define PN_OPS_H
#include "pynode.h"

typedef enum pn_shape {
    PN_SHAPE_LEAF,
    PN_SHAPE_AFFINE,
    PN_SHAPE_AFFINE_T,
    PN_SHAPE_MATVEC,
    PN_SHAPE_MATVEC_T,
    PN_SHAPE_OUTER,
    PN_SHAPE_SAME,
    PN_SHAPE_BCAST,
    PN_SHAPE_SUM,
    PN_SHAPE_SLICE,
    PN_SHAPE_CONCAT,
    PN_SHAPE_GATHER,
    PN_SHAPE_SCATTER,
    PN_SHAPE_CALL,
    PN_SHAPE_ACC
} pn_shape;
typedef struct pn_op_row { /* a row of ops.def */
    const char *name;
    pn_shape shape;
    int operands;
} pn_op_row;
extern const pn_op_row pn_ops[PN_N_OPS];
#endif
