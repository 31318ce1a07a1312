/* pn_problem_check refuses what would end in a crash or a wrong number; what it lets through has a status for each sample. */
#include "check.h"

static void indices(void) {
    fixture f = fixture_begin(2, 1, 3, 0, "dopri5");
    unchanged = f.p;
    int64_t other[3];
    double times[5];
#define CHANGED(member, i, value) (memcpy(other, p->member, sizeof other), other[i] = (value), p->member = other)
    REFUSED(f, "t_start", CHANGED(t_start, 1, -1));
    REFUSED(f, "t_start", CHANGED(t_start, 2, p->n_t));
    REFUSED(f, "t_len", CHANGED(t_len, 1, 0));
    REFUSED(f, "t_len", CHANGED(t_len, 1, INT64_MAX));
    REFUSED(f, "2^31", CHANGED(t_len, 0, (int64_t)1 << 31));
    REFUSED(f, "overlap", CHANGED(row, 1, 0));
    REFUSED(f, "overlap", CHANGED(row, 0, -1));
    REFUSED(f, "outside the", CHANGED(row, 2, p->rows));
    REFUSED(f, "outside the", CHANGED(row, 2, INT64_MAX));
    REFUSED(f, "knot_start", CHANGED(knot_start, 1, 1));
    REFUSED(f, "knot_len", CHANGED(knot_len, 1, 1));
    REFUSED(f, "seg_start", CHANGED(seg_start, 1, p->n_segments - 1));
    REFUSED(f, "seg_start", CHANGED(seg_start, 1, -1));
    REFUSED(f, "share", p->gradient = PN_GRAD_DISCRETE; CHANGED(seg_start, 1, 0));
    REFUSED(f, "monotone", memcpy(times, p->t, sizeof times); times[0] = NAN; p->t = times; p->n = 1);
    REFUSED(f, "monotone", memcpy(times, p->t, sizeof times); times[2] = NAN; p->t = times; p->n = 1);
    REFUSED(f, "monotone", memcpy(times, p->t, sizeof times); times[2] = 9; p->t = times; p->n = 1);
    REFUSED(f, "initial time", p->adaptive = 0; p->grid = p->t + 1; p->n_grid = p->n_t - 1; p->grid_start = p->t_start;
            p->grid_len = p->t_len; p->n = 1; CHANGED(grid_len, 0, 2));
    const double stops[] = {1, 2, 2, 3};
    REFUSED(f, "pairs", p->stops = stops; p->n_stops = 3);
    REFUSED(f, "pairs", p->n_stops = 2);
    REFUSED(f, "strictly increasing", p->stops = stops; p->n_stops = 4);
    REFUSED(f, "finite", times[0] = -INFINITY; times[1] = 0; p->stops = times; p->n_stops = 2);
    REFUSED(f, "theta", p->n_theta--);
    REFUSED(f, "theta", p->theta = NULL);
    REFUSED(f, "u has", p->m = 2);
    REFUSED(f, "inputs", p->degree = -1);
    REFUSED(f, "inputs", p->coef = NULL);
    REFUSED(f, "64", p->degree = 64);
    REFUSED(f, "no room", p->y = NULL);
    REFUSED(f, "no room", p->nfe = NULL);
    CHECK(fixture_solve(&f, PN_ISA_PLAIN) == PN_OK);
    fixture_end(&f);
    release(0);
}

static void numbers(void) {
    fixture f = fixture_begin(2, 0, 3, 0, "dopri5");
    unchanged = f.p;
    const double bad[] = {NAN, -1, INFINITY};
    for (int i = 0; i < 3; i++) {
        REFUSED(f, "step", p->step = bad[i]);
        REFUSED(f, "first_step", p->first_step = bad[i]);
        REFUSED(f, "max_step", p->max_step = bad[i]);
        REFUSED(f, "rtol", p->rtol = bad[i]);
        REFUSED(f, "safety", p->safety = bad[i]);
        REFUSED(f, "min_factor", p->min_factor = bad[i]);
        REFUSED(f, "max_factor", p->max_factor = bad[i]);
        REFUSED(f, "beta", p->beta = bad[i]);
        REFUSED(f, "coupling", p->lambda = bad[i]);
        REFUSED(f, "loss_scale", p->loss_scale = bad[i]);
        REFUSED(f, "atol", double atol[2] = {1e-8, bad[i]}; p->atol = atol);
    }
    REFUSED(f, "both be 0", double atol[2] = {0}; p->atol = atol; p->rtol = 0);
    REFUSED(f, "max_steps", p->max_steps = 0);
    REFUSED(f, "memory", p->memory = -1);
    CHECK(fixture_solve(&f, PN_ISA_PLAIN) == PN_OK);
    fixture_end(&f);
    release(0);
}

/* What does not go together. */
static void combinations(void) {
    fixture f = fixture_begin(2, 0, 3, 0, "heun");
    f.p.adaptive = 0;
    unchanged = f.p;
    double sum[64];
    REFUSED(f, "coupling", p->lambda = 0.9);
    REFUSED(f, "coupling", p->lambda = 0.9; p->memory = 100000);
    REFUSED(f, "keeps nothing", p->lambda = 0.9; p->gradient = PN_GRAD_REVERSIBLE; p->memory = 100000);
    REFUSED(f, "coupling", p->gradient = PN_GRAD_REVERSIBLE);
    REFUSED(f, "accumulates nothing", p->gradient = PN_GRAD_NONE; p->quadrature = sum);
    REFUSED(f, "sensitivity", p->sensitivity = sum);
    REFUSED(f, "go together", p->jump_add = p->y0);
    f.p.lambda = 0.9, f.p.gradient = PN_GRAD_REVERSIBLE;
    CHECK(fixture_solve(&f, PN_ISA_PLAIN) == PN_OK);
    fixture_end(&f);
    release(0);
}

/* Events, which cut steps. */
static void events(void) {
    fixture f = fixture_begin(2, 0, 1, 0, "rk4");
    builder b = {.spec = {.fuse = 1}};
    add_slot(&b, 1), add_slot(&b, 2), add_slot(&b, 0);
    add_output(&b, add(&b, PN_OP_SLICE, 1, 1, -1, -1, 0, 1, 0));
    b.spec.segments[1] = b.spec.n_code;
    pn_program *event = must_create(&b);
    int32_t direction = 0, side = 1, which = -1;
    double states[4], grid[] = {0, 1, 3};
    int64_t start = 0, length = 3;
    f.p.gradient = PN_GRAD_NONE;
    f.p.event = event, f.p.event_direction = &direction, f.p.event_side = &side, f.p.event_which = &which, f.p.event_y = states;
    unchanged = f.p;
    REFUSED(f, "prescribes", p->grid = grid; p->n_grid = 3; p->grid_start = &start; p->grid_len = &length);
    REFUSED(f, "forward solve", p->gradient = PN_GRAD_DISCRETE);
    REFUSED(f, "event_direction", direction = 2);
    direction = 0;
    REFUSED(f, "event_side", side = -5);
    side = 1;
    REFUSED(f, "event_side", p->event_side = NULL);
    REFUSED(f, "no room", p->event_y = NULL);
    CHECK(fixture_solve(&f, PN_ISA_PLAIN) == PN_OK);
    pn_program_destroy(&event);
    fixture_end(&f);
    release(0);
}

/* y' = -k |y| y with |y| = sqrt(sum y^2): NaN in the gradient at the origin. */
static void norm_field(builder *b, int vjp) {
    *b = (builder){.spec = {.n_spaces = 1, .fuse = 1}, .n_theta = {1}};
    add_slot(b, 1);
    int32_t y = add_slot(b, 2), s = (add_slot(b, 0), vjp ? add_slot(b, 2) : -1);
    int32_t k = add(b, PN_OP_PARAM, 1, -1, -1, -1, 0, 0, 0),
            r2 = add(b, PN_OP_SUM, 1, add(b, PN_OP_SQUARE, 2, y, -1, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    int32_t r = add(b, PN_OP_SQRT, 1, r2, -1, -1, 0, 0, 0),
            kr = add(b, PN_OP_NEG, 1, add(b, PN_OP_MUL, 1, k, r, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    int32_t wide = add(b, PN_OP_BCAST, 2, kr, -1, -1, 0, 0, 0);
    add_output(b, add(b, PN_OP_MUL, 2, wide, y, -1, 0, 0, 0));
    b->spec.segments[1] = b->spec.n_code;
    if (!vjp) return;
    int32_t sy = add(b, PN_OP_SUM, 1, add(b, PN_OP_MUL, 2, s, y, -1, 0, 0, 0), -1, -1, 0, 0, 0); /* s . y = -cotangent of k r */
    int32_t to_r = add(b, PN_OP_NEG, 1, add(b, PN_OP_MUL, 1, k, sy, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    int32_t unit = add(b, PN_OP_DIV, 2, y, add(b, PN_OP_BCAST, 2, r, -1, -1, 0, 0, 0), -1, 0, 0, 0); /* 0/0 at the origin */
    int32_t more = add(b, PN_OP_MUL, 2, unit, add(b, PN_OP_BCAST, 2, to_r, -1, -1, 0, 0, 0), -1, 0, 0, 0);
    add_output(b, add(b, PN_OP_ADD, 2, more, add(b, PN_OP_MUL, 2, wide, s, -1, 0, 0, 0), -1, 0, 0, 0));
    int32_t to_k = add(
        b, PN_OP_NEG, 1,
        add(b, PN_OP_MUL, 1, sy, add(b, PN_OP_MUL, 1, r, add(b, PN_OP_DIV, 1, r2, r2, -1, 0, 0, 0), -1, 0, 0, 0), -1, 0, 0, 0),
        -1, -1, 0, 0, 0);
    add_output(b, -1), add_output(b, -1);
    b->spec.segments[2] = b->spec.n_code - b->spec.segments[1];
    b->spec.n_grads = 1;
    b->n_grad[0] = 1;
    add(b, PN_OP_ACC, 0, to_k, -1, -1, 0, 0, 0);
}

/* A sample without a derivative gets a status of its own; the others' gradients are those of a batch without it. */
static void lost_gradients(void) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int64_t n = 1; n <= 700; n = 3 * n + 40) EACH_ISA(isa)
    for (int threads = 1; threads <= 2; threads++) {
        fixture f = fixture_begin(2, 0, n, f32, "dopri5");
        builder b;
        pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
        norm_field(&b, 0), f.field = must_create(&b);
        norm_field(&b, 1), f.reverse = must_create(&b);
        f.p.field = f.field, f.p.reverse = f.reverse;
        f.p.n_theta = 1, f.n_theta = 1, f.p.threads = threads;
        set(f.theta, 0, f32, 0.7);
        f.p.steps = keep((size_t)n, sizeof *f.p.steps);
        CHECK(fixture_solve(&f, isa) == PN_OK);
        double whole = f.p.g_theta[0], lost = 0, *g_y0 = keep((size_t)n * 2, 8);
        memcpy(g_y0, f.p.g_y0, (size_t)n * 2 * 8);
        CHECK(isfinite(whole));
        for (int64_t i = 0; i < n; i++) free(f.p.steps[i].record), f.p.steps[i] = (pn_steps){0, NULL};
        int64_t bad[] = {n / 3, n - 1};
        for (int k = 0; k < 2; k++) {          /* what these samples say by themselves: the gradient without them */
            if (f.t_len[bad[k]] < 2) continue; /* takes no step: has a gradient even there */
            fixture one = f;
            one.p.steps = NULL;
            double g;
            one.p.n = 1, one.p.y0 = (char *)f.y0 + (size_t)bad[k] * 2 * (f32 ? 4 : 8);
            one.p.t_start += bad[k], one.p.t_len += bad[k], one.p.row += bad[k];
            one.p.g_theta = &g, one.p.g_y0 = NULL, one.p.g_t = NULL;
            if (k == 0 || bad[0] != bad[1]) {
                CHECK(pn_solve(&one.p, f32, isa, said) == PN_OK);
                lost += g;
            }
        }
        for (int k = 0; k < 2; k++)
            for (size_t c = 0; c < 2; c++) set(f.y0, 2 * (size_t)bad[k] + c, f32, 0);
        CHECK(fixture_solve(&f, isa) == PN_OK);
        CHECKF(fabs(f.p.g_theta[0] - (whole - lost)) <= (f32 ? 1e-4 : 1e-11) * (fabs(whole) + fabs(lost) + 1), "%g, without %g",
               f.p.g_theta[0], whole - lost);
        for (int64_t i = 0; i < n; i++) {
            int is_bad = (i == bad[0] || i == bad[1]) && f.t_len[i] > 1;
            CHECKF(f.p.status[i] == (is_bad ? PN_GRADIENT : PN_OK), "sample %d of %d: %d", (int)i, (int)n, (int)f.p.status[i]);
            for (size_t c = 0; c < 2; c++) {
                double g = f.p.g_y0[2 * (size_t)i + c], was = g_y0[2 * (size_t)i + c];
                if (i != bad[0] && i != bad[1]) CHECKF(g == was, "%g was %g", g, was);
                if (is_bad) CHECK(g == 0 && f.p.sample_loss[i] == 0 && f.p.sample_weight[i] == 0);
            }
            CHECK((f.t_len[i] == 1) == (f.p.steps[i].record == NULL));
            free(f.p.steps[i].record);
        }
        fixture_end(&f);
        release(0);
    }
}

/* y' = -k y, with sqrt(u) or sqrt(t); jumps by sqrt(x); a loss y^2 + sqrt(x): derivatives that are infinite where the root is 0, of
   nothing but what is in the root. */
enum { OF_INPUT, OF_TIME, OF_JUMP, OF_LOSS, ROOTS };
static pn_program *rooted_field(int kind, int vjp) {
    builder b = {.spec = {.n_spaces = 1}, .n_theta = {1}};
    int32_t t = add_slot(&b, 1), y = add_slot(&b, 1), u = add_slot(&b, kind == OF_INPUT), s = vjp ? add_slot(&b, 1) : -1;
    int32_t k = add(&b, PN_OP_PARAM, 1, -1, -1, -1, 0, 0, 0), root = -1;
    int32_t f = add(&b, PN_OP_NEG, 1, add(&b, PN_OP_MUL, 1, k, y, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    if (kind <= OF_TIME) {
        root = add(&b, PN_OP_SQRT, 1, kind == OF_INPUT ? u : t, -1, -1, 0, 0, 0);
        f = add(&b, PN_OP_ADD, 1, f, root, -1, 0, 0, 0);
    }
    add_output(&b, f);
    b.spec.segments[1] = b.spec.n_code;
    if (!vjp) return must_create(&b);
    add_output(&b, add(&b, PN_OP_NEG, 1, add(&b, PN_OP_MUL, 1, k, s, -1, 0, 0, 0), -1, -1, 0, 0, 0));
    int32_t slope = -1;
    if (root >= 0) slope = add(&b, PN_OP_DIV, 1, s, add(&b, PN_OP_ADD, 1, root, root, -1, 0, 0, 0), -1, 0, 0, 0);
    add_output(&b, kind == OF_TIME ? slope : -1), add_output(&b, kind == OF_INPUT ? slope : -1);
    int32_t to_k = add(&b, PN_OP_NEG, 1, add(&b, PN_OP_MUL, 1, y, s, -1, 0, 0, 0), -1, -1, 0, 0, 0);
    b.spec.segments[2] = b.spec.n_code - b.spec.segments[1];
    b.spec.n_grads = 1, b.n_grad[0] = 1;
    add(&b, PN_OP_ACC, 0, to_k, -1, -1, 0, 0, 0);
    return must_create(&b);
}
static pn_program *rooted_part(int square, int vjp) { /* y or y^2, and the roots of two numbers */
    builder b = {.spec = {.n_spaces = 0}};
    int32_t y = (add_slot(&b, 1), add_slot(&b, 1)), x = add_slot(&b, 2), s = vjp ? add_slot(&b, 1) : -1;
    int32_t root = add(&b, PN_OP_SQRT, 2, x, -1, -1, 0, 0, 0), sum = add(&b, PN_OP_SUM, 1, root, -1, -1, 0, 0, 0);
    int32_t first = square ? add(&b, PN_OP_SQUARE, 1, y, -1, -1, 0, 0, 0) : y;
    add_output(&b, add(&b, PN_OP_ADD, 1, first, sum, -1, 0, 0, 0));
    b.spec.segments[1] = b.spec.n_code;
    if (!vjp) return must_create(&b);
    int32_t twice = square ? add(&b, PN_OP_ADD, 1, y, y, -1, 0, 0, 0) : -1;
    add_output(&b, square ? add(&b, PN_OP_MUL, 1, twice, s, -1, 0, 0, 0) : add(&b, PN_OP_BCAST, 1, s, -1, -1, 0, 0, 0));
    add_output(&b, -1);
    int32_t wide = add(&b, PN_OP_BCAST, 2, s, -1, -1, 0, 0, 0);
    add_output(&b, add(&b, PN_OP_DIV, 2, wide, add(&b, PN_OP_ADD, 2, root, root, -1, 0, 0, 0), -1, 0, 0, 0));
    b.spec.segments[2] = b.spec.n_code - b.spec.segments[1];
    return must_create(&b);
}

/* Whatever of its gradient is not finite, a sample says so, and takes no part; what the others have stays. */
static void infinite(int kind, int64_t n) {
    seed_state = 4;
    fixture f = fixture_begin(1, kind == OF_INPUT, n, 0, "bosh3");
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    p->field = f.field = rooted_field(kind, 0), p->reverse = f.reverse = rooted_field(kind, 1);
    p->n_theta = (int64_t)(f.n_theta = 1);
    set(f.theta, 0, 0, 0.6);
    for (size_t r = 0; r < f.rows; r++) f.t[r] += kind == OF_TIME;
    double *data = keep(f.rows * 2, sizeof *data);
    for (size_t r = 0; r < 2 * f.rows; r++) data[r] = 1 + 0.1 * (double)(r % 7);
    for (size_t e = 0; e < 2 * f.segments; e++) set(f.coef, e, 0, e % 2 ? 0 : 1 + 0.1 * (double)(e % 6));
    if (kind == OF_INPUT) p->g_t = NULL;
    if (kind >= OF_JUMP) {
        f.part[0] = rooted_part(kind == OF_LOSS, 0), f.part[1] = rooted_part(kind == OF_LOSS, 1);
        pn_part part = {f.part[0], f.part[1], 1, data, 2, keep(f.rows * 2, sizeof(double))};
        if (kind == OF_JUMP) p->jump = part, p->y_before = keep(f.rows, sizeof(double));
        if (kind == OF_LOSS) p->loss_part = part, p->loss = PN_LOSS_PROGRAM, p->target = NULL;
    }
    double *const all[] = {p->g_coef, p->g_t, p->jump.g_data, p->loss_part.g_data}, *g = all[kind];
    const size_t bad = (size_t)(n - 1 - (n > 7)), row = (size_t)p->row[bad], rows = (size_t)f.t_len[bad];
    const size_t own = kind == OF_INPUT ? 6 : kind == OF_TIME ? rows : 2 * rows;
    const size_t from = kind == OF_INPUT ? 6 * bad : kind == OF_TIME ? row : 2 * row;
    const size_t size = kind == OF_INPUT ? 2 * f.segments : kind == OF_TIME ? f.rows : 2 * f.rows;
    double *was = keep(size, sizeof *was), *y0_was = keep((size_t)n, sizeof *was);
    EACH_ISA(isa) {
        CHECK(rows > 1 && fixture_solve(&f, isa) == PN_OK);
        for (int64_t i = 0; i < n; i++) CHECK(p->status[i] == PN_OK);
        memcpy(was, g, size * sizeof *g), memcpy(y0_was, p->g_y0, (size_t)n * sizeof *g);
        if (kind == OF_INPUT)
            for (size_t e = 0; e < 6; e++) set(f.coef, 6 * bad + e, 0, 0);
        if (kind == OF_TIME)
            for (size_t j = 0; j < rows; j++) f.t[row + j] -= 1;
        if (kind >= OF_JUMP) data[2 * (row + rows) - 1] = 0;
        CHECK(fixture_solve(&f, isa) == PN_OK);
        for (size_t i = 0; i < (size_t)n; i++) {
            CHECKF(p->status[i] == (i == bad ? PN_GRADIENT : PN_OK), "kind %d, sample %d: %s", kind, (int)i,
                   pn_status_name((pn_status)p->status[i]));
            CHECK(p->g_y0[i] == (i == bad ? 0 : y0_was[i]));
        }
        for (size_t e = 0; e < size; e++) {
            const int its = e >= from && e < from + own;
            CHECKF(g[e] == (its ? 0 : was[e]), "kind %d, number %d: %g, was %g", kind, (int)e, g[e], was[e]);
        }
        CHECK(isfinite(p->g_theta[0]));
        for (size_t e = 0; kind == OF_INPUT && e < 6; e++) set(f.coef, 6 * bad + e, 0, e % 2 ? 0 : 1 + 0.1 * (double)e);
        for (size_t j = 0; kind == OF_TIME && j < rows; j++) f.t[row + j] += 1;
        data[2 * (row + rows) - 1] = 1;
    }
    fixture_end(&f);
    release(0);
}

/* A field with a state of its own: where parts of the solve are made again, that is noticed. */
static int calls_left;
static int moody(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                 double *out, int n_out) {
    (void)ctx, (void)u;
    const double mood = --calls_left > 0 ? 1 : 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < 2; j++) out[n_out * i + j] = mood * cos(40 * t[i]) * (which ? seed[2 * i + j] : y[2 * i + j]);
    return 0;
}
static void moody_replays(void) {
    fixture f = fixture_begin(2, 0, 1, 0, "dopri5");
    pn_program *field = calling(0), *reverse = calling(1);
    f.p.field = field, f.p.reverse = reverse, f.p.call = moody, f.p.n_theta = 0, f.n_theta = 0;
    for (int64_t j = 0; j < f.t_len[0]; j++) f.t[j] = 10 * (double)j;
    f.p.memory = 30000;
    calls_left = INT32_MAX;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    int used = INT32_MAX - calls_left, noticed = 0;
    f.p.gradient = PN_GRAD_NONE;
    calls_left = INT32_MAX;
    CHECK(fixture_solve(&f, pn_isa_best()) == PN_OK);
    int forward = INT32_MAX - calls_left;
    f.p.gradient = PN_GRAD_DISCRETE;
    CHECKF(2 * used > 5 * forward, "%d %d: nothing is made again", used, forward);
    for (int k = 1; k < 40; k++) {
        calls_left = forward + (used - forward) * k / 40;
        pn_status status = fixture_solve(&f, pn_isa_best());
        CHECKF(status == PN_OK || status == PN_REPLAY, "%s", pn_status_name(status));
        noticed += status == PN_REPLAY;
    }
    CHECKF(noticed > 20, "%d of 39", noticed);
    pn_program_destroy(&field), pn_program_destroy(&reverse);
    fixture_end(&f);
    release(0);
}

/* y' = cos(w t) in float32. */
static void coarse_times(void) {
    static const struct {
        double begin, span, w;
        int status;
    } cases[] = {{0, 10, 1, PN_OK},
                 {0, 1000, 1, PN_OK},
                 {1e3, 10, 1, PN_OK},
                 {3e5, 1e3, 1, PN_COARSE_TIME},
                 {1e6, 1e4, 1, PN_COARSE_TIME},
                 {1.7e9, 3e5, 1, PN_COARSE_TIME},
                 {1.7e9, 3e7, 2e-7, PN_OK},
                 {3e7, 10, 1, PN_COARSE_TIME},
                 {1.7e9, 10, 1, PN_COARSE_TIME}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (int f32 = 0; f32 < 2; f32++)
            for (int64_t n = 1; n <= 21; n += 20) {
                fixture f = fixture_begin(1, 0, n, f32, "dopri5");
                builder b = {.spec = {.fuse = 1, .n_consts = 1}, .consts = {cases[k].w}};
                add_slot(&b, 1), add_slot(&b, 1), add_slot(&b, 0);
                int32_t w = add(&b, PN_OP_CONST, 1, -1, -1, -1, 0, 0, 0);
                add_output(&b, add(&b, PN_OP_COS, 1, add(&b, PN_OP_MUL, 1, w, 0, -1, 0, 0, 0), -1, -1, 0, 0, 0));
                b.spec.segments[1] = b.spec.n_code;
                pn_program_destroy(&f.field);
                f.p.field = f.field = must_create(&b), f.p.n_theta = 0, f.p.theta = NULL, f.p.reverse = NULL;
                f.p.gradient = PN_GRAD_NONE, f.p.loss = PN_LOSS_NONE, f.p.rtol = 1e-4, f.p.max_steps = 10000000;
                for (int64_t i = 0; i < n; i++)
                    for (int64_t j = 0; j < f.t_len[i]; j++)
                        f.t[f.p.row[i] + j] = cases[k].begin + cases[k].span * (double)j / 4;
                const int expected = f32 ? cases[k].status : PN_OK;
                pn_status status = fixture_solve(&f, pn_isa_best());
                CHECKF(status == (expected == PN_BAD_ARGUMENT ? PN_BAD_ARGUMENT : PN_OK), "%s", said);
                for (int64_t i = 0; status == PN_OK && i < n; i++)
                    CHECKF(f.t_len[i] == 1 || f.p.status[i] == expected, "case %d f%d: %s", (int)k, f32 ? 32 : 64,
                           pn_status_name((pn_status)f.p.status[i]));
                fixture_end(&f);
                release(0);
            }
}

int main(void) {
    indices();
    numbers();
    combinations();
    events();
    lost_gradients();
    for (int kind = 0; kind < ROOTS; kind++) infinite(kind, 1), infinite(kind, 7), infinite(kind, 23);
    moody_replays();
    coarse_times();
    return finish("test_problem");
}
