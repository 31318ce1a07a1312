#include "program/ops.h"

const pn_op_row pn_ops[PN_N_OPS] = {
#define PN_OP(name, shape, operands) {#name, PN_SHAPE_##shape, operands},
#include "program/ops.def"
};
