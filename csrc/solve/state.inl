/* What a thread works with: the forward half (flow), the backward half (back), what is kept between them (block). */

enum { FN(LP) = L > PN_VE64 ? L : PN_VE64 }; /* lane arrays of doubles hold whole vectors */

typedef struct FN(flow) {
    unsigned char live[L]; /* holds a sample that still needs steps */
    unsigned char have_k[L]; /* 1: k[0] is f(t, y) already; 2: so it is, thanks to a neighbour, and not counted yet */
    unsigned char again[L]; /* the last attempt of this step failed */
    unsigned char cut[L];   /* the step is shorter than the control wants: to land, or by max_step */
    unsigned char crossing[L]; /* the step lies inside a pair of stops; set where there are some */
    unsigned char accepted[L], interior[L], landed[L];
    unsigned char source[L]; /* where k[0] came from, a pn_source */
    unsigned char counted[L]; /* f_new is among evals: where only a neighbour needs it, it is not */
    int64_t sample[L];
    int32_t seg[L], grid[L];
    int32_t save[L], ends[L], save_end[L]; /* in the step: save times save .. save_end - 1, those from `ends` on at its end */
    int32_t jump_at[L];     /* no save time from save to here has a jump */
    int64_t index[L], attempts[L], evals[L], rejects[L], jacobians[L], factors[L];
    unsigned char resumed[L]; /* the sample has just been given this lane, to go on by the other method */
    unsigned char change[L];  /* it is to go on by the other method */
    unsigned char returns[L]; /* how often it came back from the stiff one */
    int32_t hits[L], misses[L]; /* steps that speak for that, and against it since */
    int64_t stiff_steps[L];
    double dir[L], t[L], t_new[L], t_last[L], h[L], c0[L], c1[L];
    double t_save[L];       /* the next time to save at */
    double err[FN(LP)], log_err[FN(LP)];
    T *y, *y_new, *z, *z_new, *coef; /* (d, L), coef (degree, d, L) */
    T *k[PN_MAX_STAGES];             /* (d, L) */
} FN(flow);

typedef struct FN(back) {
    unsigned char open[L];           /* holds a sample */
    unsigned char live[L];           /* and has a step in the attempt at hand */
    unsigned char fed[L];            /* the step after this one began with this one's f_new, whose cotangent is feed */
    int64_t sample[L];
    int32_t local[L];
    double t[L], h[L], carry[L];
    double t_new[L];
    const pn_record *record;         /* (L) */
    T *y, *lambda, *z, *mu;          /* (d, L): state, its cotangent; reversible scheme: second state, its cotangent */
    T *feed;                         /* (d, L) */
    T *left;                         /* (chunk, d) lambda of samples that are without a lane, see reverse/switch.inl */
    double *left_carry;              /* (chunk) and their carry */
    unsigned char *away;             /* (chunk) 1: such a sample */
    T *kept[4];                      /* (d, L) lambda, mu, y, z of lanes that rest */
    T *k[PN_MAX_STAGES], *gk[PN_MAX_STAGES], *g_coef, *g_base; /* (d, L), g_coef (degree, d, L) */
    T *weight;                       /* (stages, L) */
} FN(back);

/* What is kept of an attempt that some lane accepted; the lanes' records, y and k_0 follow (see block_*). */
typedef struct FN(block) {
    int64_t files; /* its register files in the store, -1: none */
    int32_t n;     /* stages evaluated */
    int32_t here;  /* those files hold stage 0 of every lane */
    int32_t way;   /* the method, 1: the stiff one */
} FN(block);

typedef struct FN(part) { /* a program at save times, see program/part.inl */
    FN(exec) E;
    const pn_part *part;
    T *files;      /* (PN_PART_FILES) register files of a vjp program, one of a forward program; `stride` elements apart */
    size_t stride;
    int used;      /* files that wait to be added to the gradient */
    int most;      /* so many of them */
    int partly;    /* some lane of those holds no row */
    T *weight;     /* (PN_PART_FILES, L) 1: the lane of that file holds a row */
} FN(part);

typedef struct FN(newton) { /* the linear systems of a Rosenbrock method, see forward/implicit.inl */
    FN(exec) J, back;     /* the program of the Jacobian, and its vjp */
    T *file, *back_file;  /* their register files */
    const pn_pattern *pattern; /* of the Jacobian; NULL: all entries */
    int sparse;           /* factors are those of kernels/sparse.inl */
    T *lu, *swap;         /* (d, d, L) or (size of the pattern, L) factors of W, (d, L) exchanges of rows */
    FN(whole) whole;      /* sparse: of lanes that need other pivots */
    unsigned char *moved; /* (d) some lane exchanged this row */
    T *y;                 /* (d, L) a callback: where each lane's Jacobian is that of, of which sample and input */
    double t[L];
    int64_t sample[L];
    int32_t seg[L];
} FN(newton);

typedef struct FN(watch) { /* events, see events/events.inl */
    FN(exec) exec;
    int32_t n;                   /* how many */
    T *file, *y;                 /* register file; (d, L) state at a probe */
    int probes;                  /* of a step, that at its beginning not counted */
    T *probe, *g0, *g1, *g, *ga; /* (probes + 1, n, L) their functions; at the step's beginning and end, its first and last rows; elsewhere */
    double *theta;               /* (n, L) where in the step each happens, 0: not in this one */
    double *flip;                /* (n, L) it crosses in the other direction behind this one before, 2: not at all */
    signed char *end;            /* (n, L) side at the step's end, or before the crossing */
    unsigned char shortened[L];  /* the step ends earlier than planned */
    int32_t which[L];            /* the event that ends the lane's sample, or -1 */
    int from[L];                 /* side before it */
    double far[L];               /* its interval on the dense output ends here */
} FN(watch);

typedef struct FN(work) {
    pn_shared *s;
    const pn_problem *P;
    /* the method: that of the problem, or where lanes change to the stiff one (forward/switch.inl) one of the two */
    const pn_tableau *tab;
    const V(stage_sums) *sums;
    int32_t stages;
    int way;             /* 1: the stiff one */
    int32_t most_stages; /* of both */
    int main;
    int32_t d, m;
    FN(exec) field, reverse;
    T *file;                  /* register file of the field, one for each stage (quadrature, sensitivities) or for all */
    size_t file_stride, stage_stride;
    T *spare;                 /* (d, L) */
    T *u;                     /* (m, L) inputs, of these samples in these segments */
    int64_t u_sample[L];
    int32_t u_seg[L];
    SENS *sens, *sens_new, *sens_coef; /* sensitivities (d, columns, L); of the dense output, one sample (degree, size) */
    int64_t columns;
    size_t sens_size;
    int fresh;                /* the first stage was evaluated in this attempt: its register file is filled */
    T *files;                 /* register files of the reverse program, one a stage (reversible: two sets) */
    T *own_files;             /* where `files` is without a store */
    size_t files_stride;
    /* what the forward half evaluates with: the field in `file`, or where the backward half will find all stages again, the
       forward part of `reverse` in the store */
    const FN(exec) *now;
    T *now_file;
    size_t now_stride;        /* 0: one file for all stages */
    /* Register files of whole attempts, `slot` elements each. Of them the forward rows are used; the others of all attempts share
       one place, which stays in the cache: slot 0 of the store, as `files`. */
    T *store;
    size_t slot, store_bytes;
    int64_t store_room, store_used; /* slots, the first included */
    size_t store_planned;     /* bytes, while a chunk goes forward */
    int64_t first_slots;      /* those before this one are for blocks as they come, the others for blocks that are made again */
    int shadowed;             /* the lane that idle ones follow */
    unsigned char shadow[L];  /* 1: this one does */
    int32_t evaluated;        /* stages of the attempt at hand */
    FN(flow) flow;
    FN(back) back;
    FN(watch) watch;
    FN(newton) newton;
    pn_arena arena, late; /* late: what only samples need that change their method */
    size_t room;          /* bytes of the arena */
    char *old;            /* of an earlier solve, while it is not known whether it serves this one */
    FN(part) loss, jump, jump_back;
    T *chunk_y, *chunk_lambda; /* (chunk, d) states after the jumps at the initial times; their cotangents */
    T *g_rows;                /* (rows of the chunk, d) cotangents of y from the loss program, from row first_row on */
    int64_t first_row;
    unsigned char jumped[L];
    int saving[L], n_saving;  /* the lanes with save times in this step */
    /* the chunk at hand */
    int64_t first, count, next;
    int knots;                /* some input has more than one segment */
    int marching;             /* the lanes go in step, see forward/march.inl */
    int lanes;                /* those from here on never hold a sample of it */
    T *chunk_z;               /* (chunk, d) second state of the reversible scheme at the end */
    T *chunk_k;               /* (chunk, d) f(t0, y0) from the choice of the first step */
    double *chunk_h;          /* (chunk) first steps; 0: not known */
    int32_t *turn;            /* (chunk) the order in which samples are given lanes */
    unsigned char *kind;      /* (chunk) and where in it each belongs */
    T *chunk_gk;              /* (chunk, d) cotangents of f(t0, y0) where the first step began with it */
    unsigned char *refused;   /* (chunk) PN_OK, or why the sample takes no step: float32 cannot tell its times apart as its field does;
                                 its input is not finite */
    unsigned char *from_start; /* (chunk) 1: chunk_gk holds one */
    pn_tape tape;             /* blocks of the chunk */
    pn_tape stretch;          /* those made again, from one shot to the next */
    pn_tape parked;           /* samples that wait to go on by the other method, in the order in which they left their lanes */
    int64_t unparked;         /* so many of them have gone on */
    pn_tape shots;            /* with a budget: the forward half as it was before block 0, every, 2 every, ... */
    int64_t n_blocks, every;  /* blocks so far; distance of shots */
    int64_t first_every;      /* and at first */
    int64_t share;            /* half of the budget */
    int limited;              /* there is one */
    int in_stretches;         /* it has room for the files of all blocks from one shot to the next */
    int dropped;              /* from now on blocks are counted only; */
    int64_t kept;             /* so many, the first, are in the tape */
    int replaying;
    pn_list steps[L];
    int costly;               /* one evaluation takes long: look for interrupts at each */
    unsigned polls;
    double last_poll;
    /* samples whose gradient is not finite, see solve/screen.inl */
    double *apart;            /* (p) the gradient of some samples */
    unsigned char *left_out;  /* (chunk) 1: it takes no part, from sample `screened` on */
    int64_t screened;
    int screening;
    unsigned char active[L]; /* lanes a callback is asked about */
    V(stage_sums) of[2];          /* the last: not cleared, read_table fills what is used */
} FN(work);

/* Two lanes have neither, see is_plain in solve.c. */
static inline int FN(is_implicit)(const FN(work) * W) { return !PN_PAIR && W->tab->gamma > 0; } /* a Rosenbrock method */
static inline int FN(has_sensitivities)(const FN(work) * W) { return !PN_PAIR && W->P->sensitivity; }
