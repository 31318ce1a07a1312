/* A checked program as the kernels see it: its registers in a file, its instructions decoded. */
#ifndef PN_LAYOUT_H
#define PN_LAYOUT_H
#include "program/ops.h"

/* Registers live in a register file, one file a stage, except those of the prologue (functions of theta only), which
   live in one shared file. An operand is its first row in its file; a row of the shared file r is written ~r (< 0). */
typedef struct pn_decoded {
    int32_t op, act;      /* act: unary operation applied to the output of an AFFINE (PN_N_OPS: none) */
    int32_t m, n;         /* sizes of the output (ACC: of a) and of operand a (ACC_OUTER: of b) */
    int32_t out, a, b, c; /* operands */
    int32_t p, q, k;      /* AFFINE, AFFINE_T: k = PN_CONSTANT is a matrix of constants; PN_SPARSE: matrix number p;
                             GATHER, SCATTER: q is 1 where the index has long runs, of neighbours */
    /* AFFINE, AFFINE_T: where this matrix starts in the packed weights (or constants), < 0: it is read as it is (and
       two lanes pack it -1 - pack behind all others); ACC, ACC_OUTER: in the
       sums, or of a large matrix: in what waits */
    int64_t pack;
} pn_decoded;

/* Operations on registers of one number, in the layout of one lane: codes beyond those of ops.def. They write that number only,
   where others write whole vectors. */
typedef enum pn_one {
    PN_ONE_ADD = PN_N_OPS + 1,
    PN_ONE_SUB,
    PN_ONE_MUL,
    PN_ONE_DIV,
    PN_ONE_DMUL,
    PN_ONE_DDIV,
    PN_ONE_NEG,
    PN_ONE_SQUARE,
    PN_ONE_COPY,
    PN_SPARSE, /* out = S a, S a sparse matrix of constants; this code and the next are no arithmetic on one number */
    PN_STRIPS  /* the next n instructions are elementwise, on m rows: PN_STRIP elements may be done at a time, by all of them */
} pn_one;
enum { PN_CONSTANT = -1 };
enum { PN_MOST_IN_STRIPS = 16 };
/* Lengths from which a program is run in another way: a build that fuzzes has less, so that small programs are run in every way. */
#ifndef PN_STRIP
#define PN_STRIP 512 /* elements of a strip */
#endif
#ifndef PN_LARGE
#define PN_LARGE (1 << 16) /* elements of a large matrix */
#endif
#ifndef PN_LARGE_FOR_ONE
#define PN_LARGE_FOR_ONE (1 << 10) /* elements of one whose gradient waits where there is one lane */
#endif
#ifndef PN_WAITING
#define PN_WAITING 256 /* samples that its gradient waits for, with one lane a quarter; a multiple of every number of lanes */
#endif

/* A matrix of constants by its entries that are not 0: of row i they are start[i] .. start[i + 1] - 1. */
typedef struct pn_sparse {
    int32_t p, m, n, transposed; /* of the matrix at consts[p], or of its transpose, (m, n) */
    double *value;               /* (start[m]); the other arrays lie behind it */
    int32_t *column, *start;     /* (start[m]), (m + 1) */
} pn_sparse;

enum { PN_LAYOUT_SINGLE, PN_LAYOUT_BLOCK, PN_N_LAYOUTS };
enum { PN_PAD = 16 }; /* a register of the single-lane layout starts at a multiple of this many rows */

/* Whether one lane has kernels of its own for large matrices: builds that have to be small have none. */
#ifdef PN_F64_ONLY
enum { PN_LARGE_ALONE = 0 };
#else
enum { PN_LARGE_ALONE = 1 };
#endif

static inline int pn_is_large(int32_t m, int32_t n) { return (int64_t)m * n >= PN_LARGE; }
/* Whether one lane reads it as it lies in memory: packing takes as long as a few products. */
static inline int pn_is_wide(int32_t m, int32_t n) { return PN_LARGE_ALONE && pn_is_large(m, n) && m >= 64 && n >= 64; }
/* Whether what is added to the gradient of a matrix waits for more of it, see waiting.inl. */
static inline int pn_waits(int32_t m, int32_t n, int single) {
    return single ? PN_LARGE_ALONE && (int64_t)m * n >= PN_LARGE_FOR_ONE : pn_is_large(m, n);
}

/* The layouts differ in padding only: with one lane, or two, a register is a padded vector of features, in a block of L lanes a
   row is L elements and needs none. */
typedef struct pn_layout {
    pn_decoded *code;
    int32_t n_prologue, n_forward, n_reverse, n_code; /* ends of the segments, cumulative */
    int32_t file_rows, shared_rows;
    int32_t forward_rows;           /* the file begins with the slots and what the forward segment writes */
    int32_t slot[PN_MAX_SLOTS];     /* first row of each slot, in the file */
    int32_t output[PN_MAX_OUTPUTS]; /* operand of each output */
    int64_t pack_size, fixed_size;  /* elements of packed weights and of packed constants */
    int64_t wide_size;              /* those of matrices that one lane reads as they are, where two lanes pack them */
    pn_sparse *sparse;              /* (n_sparse) */
    int32_t n_sparse;
    int64_t sums_size;    /* one lane: elements of the sums of the accumulating segment, padded */
    int64_t waiting_rows; /* rows of what waits, see waiting.inl */
} pn_layout;

/* The segment of instruction i: 0 prologue, 1 forward, 2 reverse, 3 accumulate. */
int pn_segment_of(const pn_program_spec *s, int32_t i);

/* Layout number `which` (PN_LAYOUT_SINGLE, ...) of a program that was checked. state (n_reg): 1 + the segment that writes a
   register; uses (n_reg): how often it is read, outputs twice more. */
pn_status pn_layout_make(const pn_program_spec *s, const unsigned char *state, const int32_t *uses, int which, pn_layout *l);
void pn_layout_free(pn_layout *l);

/* Whether a matrix of constants x (m, n) has few entries that are not 0: a quarter of them at most. */
int pn_is_sparse(const double *x, int64_t m, int64_t n);
/* The arrays of *out, of which p, m, n and transposed are set. */
pn_status pn_sparse_make(const double *consts, pn_sparse *out);
#endif
