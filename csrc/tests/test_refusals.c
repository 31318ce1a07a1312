/* Programs, arrays and wishes that do not fit a problem: pn_problem_check refuses each, and says why. */
#include "program/program.h"
#include "tests/hoisted.h"
#include "tests/sparse.h"
#include "tests/stiff.h"

static pn_program own; /* a copy of a program, of which one thing is changed */
#define OWN(member, change) (own = *p->member, change, p->member = &own)

static int no_call(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                   double *out, int n_out) {
    (void)ctx, (void)which, (void)n, (void)t, (void)y, (void)u, (void)seed, (void)out, (void)n_out;
    return 1;
}

/* Slots, outputs and parameters of a field, and of its vjp. */
static void fields(void) {
    fixture f = fixture_begin(2, 1, 3, 0, "dopri5");
    unchanged = f.p;
    REFUSED(f, "field: there is none", p->field = NULL);
    REFUSED(f, "field: the slots", OWN(field, own.n_slots = 2));
    REFUSED(f, "field: the slots", OWN(field, own.slot_size[0] = 2));
    REFUSED(f, "not as many features as y0", OWN(field, own.slot_size[1] = 3));
    REFUSED(f, "another size than m", OWN(field, own.slot_size[2] = 3));
    REFUSED(f, "field: output 0", OWN(field, own.n_outputs = 0));
    REFUSED(f, "field: output 0", OWN(field, own.output_size[0] = 3));
    REFUSED(f, "field: more than one", OWN(field, own.n_spaces = 2));
    REFUSED(f, "field: more than one", OWN(field, own.n_grads = 2));
    REFUSED(f, "theta is shorter", OWN(field, own.n_theta[0]++));
    for (int k = 0; k < 4; k++) REFUSED(f, "reverse: the slots", OWN(reverse, own.slot_size[k]++));
    for (int k = 0; k < 4; k++) REFUSED(f, "reverse: the outputs", OWN(reverse, own.output_size[k] = 9));
    REFUSED(f, "reverse: the slots", OWN(reverse, own.n_slots = 3));
    REFUSED(f, "reverse: the outputs", OWN(reverse, own.n_outputs = 3));
    REFUSED(f, "reverse: the parameters", OWN(reverse, own.n_spaces = 2));
    REFUSED(f, "reverse: the parameters", OWN(reverse, own.n_theta[0]--));
    REFUSED(f, "reverse: the parameters", OWN(reverse, own.n_spaces = 0));
    REFUSED(f, "reverse: the gradient", OWN(reverse, own.n_grads = 2));
    REFUSED(f, "reverse: the gradient", OWN(reverse, own.n_grad[0]--));
    fixture_end(&f);
    release(0);
}

/* A field in two parts. */
static void hoisted(void) {
    fixture f = hoisted_fixture(2, 1, 3, 0, "dopri5", 0);
    unchanged = f.p;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    REFUSED(f, "rest: it goes with once", p->hoisted.once = NULL);
    REFUSED(f, "rest: it goes with once", p->hoisted.once = p->hoisted.rest = p->hoisted.rest_reverse = NULL);
    REFUSED(f, "rest: it goes with once", p->hoisted.once = p->hoisted.rest = p->hoisted.once_reverse = NULL);
    REFUSED(f, "no slots and one output", OWN(hoisted.once, own.n_slots = 1));
    REFUSED(f, "no slots and one output", OWN(hoisted.once, own.n_outputs = 2));
    REFUSED(f, "no slots and one output", OWN(hoisted.once, own.output_size[0] = 0));
    REFUSED(f, "once: its parameters", OWN(hoisted.once, own.n_spaces = 0));
    REFUSED(f, "once: its parameters", OWN(hoisted.once, own.n_theta[0]--));
    REFUSED(f, "once: its parameters", OWN(hoisted.once, own.n_grads = 1));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.n_slots = 0));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.slot_size[0]++));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.n_spaces = 0));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.n_theta[0]++));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.n_outputs = 0));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.output_size[0] = 1));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.n_grads = 0));
    REFUSED(f, "once: its vjp must take", OWN(hoisted.once_reverse, own.n_grad[0]--));
    REFUSED(f, "rest must read", p->hoisted.rest = NULL);
    REFUSED(f, "rest must read", OWN(hoisted.rest, own.n_theta[0]--));
    REFUSED(f, "where the field has one", p->hoisted.once_reverse = NULL);
    REFUSED(f, "where the field has one", p->hoisted.rest_reverse = NULL);
    const pn_program **const each[] = {&f.p.hoisted.once, &f.p.hoisted.once_reverse, &f.p.hoisted.rest,
                                       &f.p.hoisted.rest_reverse};
    for (int i = 0; i < 4; i++)
        REFUSED(f, "a callback is not in two parts", own = **each[i], own.has_call = 1, *each[i] = &own);
    REFUSED(f, "rest: the slots", OWN(hoisted.rest, own.slot_size[0] = 2));
    REFUSED(f, "rest: output 0", OWN(hoisted.rest, own.output_size[0] = 3));
    REFUSED(f, "rest_reverse: the outputs", OWN(hoisted.rest_reverse, own.n_outputs = 3));
    REFUSED(f, "rest_reverse: the gradient", OWN(hoisted.rest_reverse, own.n_grad[0]--));
    f.p.gradient = PN_GRAD_NONE; /* which needs no vjps */
    f.p.reverse = f.p.hoisted.once_reverse = f.p.hoisted.rest_reverse = NULL;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    fixture_end(&f);
    release(0);
}

/* The programs of jumps and losses. */
static void parts(void) {
    fixture f = fixture_begin(2, 0, 3, 0, "dopri5");
    fixture_parts(&f, 3);
    unchanged = f.p;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    REFUSED(f, "jump: its vjp is given, but not the program itself", p->jump.program = NULL);
    REFUSED(f, "jump: the slots", OWN(jump.program, own.n_slots = 2));
    REFUSED(f, "jump: the slots", OWN(jump.program, own.slot_size[0] = 2));
    REFUSED(f, "jump: the slots", OWN(jump.program, own.slot_size[1] = 3));
    REFUSED(f, "jump: the slot of the data", OWN(jump.program, own.slot_size[2] = 2));
    REFUSED(f, "jump: output 0", OWN(jump.program, own.n_outputs = 0));
    REFUSED(f, "jump: output 0", OWN(jump.program, own.output_size[0] = 1));
    REFUSED(f, "loss_program: output 0", OWN(loss_part.program, own.output_size[0] = 2));
    REFUSED(f, "jump: more than one", OWN(jump.program, own.n_spaces = 2));
    REFUSED(f, "jump: more than one", OWN(jump.program, own.n_grads = 2));
    REFUSED(f, "jump: a callback", OWN(jump.program, own.has_call = 1));
    REFUSED(f, "jump: a callback", OWN(jump.reverse, own.has_call = 1));
    REFUSED(f, "jump: its parameters lie outside", p->jump.offset = -1);
    REFUSED(f, "loss_program: its parameters lie outside", p->loss_part.offset++);
    for (int k = 0; k < 4; k++) REFUSED(f, "jump: the slots of its vjp", OWN(jump.reverse, own.slot_size[k]++));
    for (int k = 0; k < 4; k++) REFUSED(f, "jump: the outputs of its vjp", OWN(jump.reverse, own.output_size[k] = 9));
    REFUSED(f, "jump: the slots of its vjp", OWN(jump.reverse, own.n_slots = 3));
    REFUSED(f, "jump: the outputs of its vjp", OWN(jump.reverse, own.n_outputs = 3));
    REFUSED(f, "jump: the parameters of its vjp", OWN(jump.reverse, own.n_spaces = 2));
    REFUSED(f, "jump: the parameters of its vjp", OWN(jump.reverse, own.n_theta[0]--));
    REFUSED(f, "jump: the parameters of its vjp", OWN(jump.reverse, own.n_grads = 2));
    REFUSED(f, "jump: the parameters of its vjp", OWN(jump.reverse, own.n_grad[0]--));
    fixture_end(&f);
    release(0);
}

/* What goes with them. */
static void given(void) {
    fixture f = fixture_begin(2, 0, 3, 0, "dopri5");
    fixture_parts(&f, 3);
    unchanged = f.p;
    REFUSED(f, "needs loss_program", p->loss_part.program = p->loss_part.reverse = NULL);
    REFUSED(f, "weight belongs", p->weight = p->y0);
    REFUSED(f, "no jump that takes any", p->jump.program = p->jump.reverse = NULL);
    REFUSED(f, "does not go with jump_set", p->jump_add = p->jump_set = p->y0);
    REFUSED(f, "does not go with jump_set", OWN(field, own.n_grads = 1); p->quadrature = f.t);
    REFUSED(f, "does not go with jump_set", p->lambda = 0.9);
    REFUSED(f, "the loss needs a target", p->loss_part.data = NULL);
    REFUSED(f, "the jump needs data", p->jump.data = NULL);
    REFUSED(f, "sample_weight: no room", p->sample_weight = NULL);
    REFUSED(f, "sample_loss, sample_weight: no room", p->sample_loss = NULL);
    REFUSED(f, "y_before: no room", p->y_before = NULL);
    REFUSED(f, "jump_reverse and loss_reverse", p->jump.reverse = NULL);
    REFUSED(f, "jump_reverse and loss_reverse", p->loss_part.reverse = NULL);
    REFUSED(f, "after: all times", p->solved = 1);
    REFUSED(f, "sensitivity does not go through jumps", p->gradient = PN_GRAD_NONE; p->sensitivity = f.t);
    const pn_loss no_such = (pn_loss)(PN_LOSS_PROGRAM + 1);
    REFUSED(f, "there is no such one", p->loss = no_such);
    REFUSED(f, "there is no such one", p->loss = (pn_loss)-1);
    fixture_end(&f);
    release(0);
}

/* Programs that take no data. */
static void without_data(void) {
    fixture g = fixture_begin(2, 0, 3, 0, "dopri5");
    fixture_parts(&g, 0);
    builder b;
    for (int vjp = 0; vjp < 2; vjp++) { /* l = sum of the state */
        b = (builder){.spec = {.fuse = 1}};
        add_slot(&b, 1), add_slot(&b, 2), add_slot(&b, 0);
        int32_t s = vjp ? add_slot(&b, 1) : -1;
        add_output(&b, add(&b, PN_OP_SUM, 1, 1, -1, -1, 0, 0, 0));
        b.spec.segments[1] = b.spec.n_code;
        if (vjp) {
            add_output(&b, add(&b, PN_OP_BCAST, 2, s, -1, -1, 0, 0, 0));
            add_output(&b, -1), add_output(&b, -1);
            b.spec.segments[2] = b.spec.n_code - b.spec.segments[1];
        }
        pn_program_destroy(&g.part[2 + vjp]);
        g.part[2 + vjp] = must_create(&b);
    }
    g.p.loss_part = (pn_part){g.part[2], g.part[3], 0, NULL, 0, NULL};
    g.p.jump.data = NULL, g.p.jump.g_data = NULL;
    unchanged = g.p;
    CHECK(pn_problem_check(&g.p, 0, said) == PN_OK);
    REFUSED(g, "target: the loss program takes none", p->loss_part.data = p->y0);
    REFUSED(g, "data: the jump takes no data", p->jump.data = p->y0);
    REFUSED(g, "wrt_data (wrt_target)", p->jump.g_data = g.t);
    REFUSED(g, "wrt_data (wrt_target)", p->loss_part.g_data = g.t);
    fixture_end(&g);
    release(0);
}

/* What a jump does to times that a grid prescribes, and after the solve. */
static void jumps_on_grids(void) {
    fixture f = fixture_begin(2, 0, 2, 0, "rk4");
    fixture_parts(&f, 1);
    double times[] = {0, 1, 2, 0, 1, 2}, grid[] = {0, 0.5, 1, 1.5, 2}, data[] = {0, NAN, 0, NAN, 0, NAN};
    float data32[] = {0, NAN, 0, NAN, 0, NAN};
    int64_t start[] = {0, 3}, length[] = {3, 3}, grid_start[] = {0, 0}, grid_length[] = {5, 5};
    f.p.t = times, f.p.t_start = f.p.row = start, f.p.t_len = length, f.p.n_t = 6, f.p.rows = 6;
    f.p.grid = grid, f.p.grid_start = grid_start, f.p.grid_len = grid_length, f.p.n_grid = 5;
    f.p.jump.data = data;
    unchanged = f.p;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    times[1] = 0.75; /* no jump there: no step has to end */
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    f.p.jump.data = data32;
    CHECK(pn_problem_check(&f.p, 1, said) == PN_OK);
    REFUSED(f, "sample 0: it jumps at 0.75", data[1] = 1);
    data[1] = NAN, times[1] = 1;
    REFUSED(f, "there is no gradient to go back for", p->solved = 1; p->gradient = PN_GRAD_NONE);
    REFUSED(f, "after: all times", p->solved = 1; p->loss = PN_LOSS_NONE; p->g_y = p->y0);
    REFUSED(f, "the initial time", grid[0] = -1);
    grid[0] = 0;
    REFUSED(f, "reach the last one", grid_length[1] = 4);
    grid_length[1] = 5;
    REFUSED(f, "strictly monotone", grid[2] = 0.5);
    grid[2] = 1;
    REFUSED(f, "grid_start, grid_len: one entry a sample", p->grid_start = NULL);
    REFUSED(f, "grid_start, grid_len: one entry a sample", p->grid_len = NULL);
    REFUSED(f, "adaptive must be False", p->adaptive = 1);
    for (int i = 0; i < 6; i++) times[i] = -times[i];
    for (int i = 0; i < 5; i++) grid[i] = -grid[i];
    unchanged = f.p;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    REFUSED(f, "reach the last one", grid_length[1] = 4);
    grid_length[1] = 5;
    f.p.jump = (pn_part){.program = NULL}, f.p.loss_part = f.p.jump;
    f.p.loss = PN_LOSS_NONE, f.p.gradient = PN_GRAD_NONE, f.p.jump_set = f.p.jump_add = f.p.y0;
    unchanged = f.p;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    REFUSED(f, "it jumps at -0.75", times[4] = -0.75);
    REFUSED(f, "go together", p->jump_set = NULL);
    REFUSED(f, "sensitivity does not go through jumps", p->sensitivity = grid);
    fixture_end(&f);
    release(0);
}

/* Sizes, times, rows, inputs. */
static void arrays(void) {
    fixture f = fixture_begin(2, 1, 3, 0, "dopri5");
    unchanged = f.p;
    int64_t crossed[3] = {0, 0, 1}, other[3];
    double knots[4], times[16];
    REFUSED(f, "a size is negative", p->n = -1);
    REFUSED(f, "a size is negative", p->d = 0);
    REFUSED(f, "a size is negative", p->m = -1);
    REFUSED(f, "a size is negative", p->n_theta = -1);
    REFUSED(f, "t: there is none", p->t = NULL);
    REFUSED(f, "t_start, t_len: one entry", p->t_start = NULL);
    REFUSED(f, "t_start, t_len: one entry", p->t_len = NULL);
    REFUSED(f, "t_len", memcpy(other, p->t_len, sizeof other); other[1] = p->n_t + 1; p->t_len = other);
    REFUSED(f, "row: one entry", p->row = NULL);
    REFUSED(f, "outside the", p->rows = 1);
    REFUSED(f, "the field has 1 inputs: give knot and coef", p->knot = NULL);
    REFUSED(f, "strictly increasing (entry 2 is not)", memcpy(knots, p->knot, sizeof knots); knots[2] = knots[1];
            p->knot = knots);
    REFUSED(f, "seg_start = -1, with 3 segments", p->seg_start = NULL);
    REFUSED(f, "with 3 segments of the 2 in coef", p->n_segments = 2);
    REFUSED(f, "cross_knots: inputs that are constant", p->degree = 0; p->cross_knots = crossed);
    crossed[2] = 0;
    f.p.degree = 0, f.p.cross_knots = crossed, f.p.g_coef = NULL;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    REFUSED(f, "monotone", memcpy(times, p->t, (size_t)p->n_t * 8); times[p->t_start[0] + 1] = INFINITY; p->t = times);
    REFUSED(f, "stops come in pairs", p->n_stops = -2);
    const double stop[] = {1, NAN};
    REFUSED(f, "finite and strictly increasing (entry 1", p->stops = stop; p->n_stops = 2);
    f.p.safety = f.p.min_factor = f.p.max_factor = 1; /* the ends of what is allowed */
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    REFUSED(f, "tableau: there is no method", p->tableau = NULL);
    REFUSED(f, "atol: there is none", p->atol = NULL);
    REFUSED(f, "safety must be finite and between 0 and 1, got 1.5", p->safety = 1.5);
    REFUSED(f, "loss_dof must be finite and positive, got 0", p->loss_dof = 0);
    REFUSED(f, "max_factor must be finite and at least 1, got 0.5", p->max_factor = 0.5);
    REFUSED(f, "no error estimate", p->tableau = pn_tableau_find("rk4"));
    REFUSED(f, "a fixed step must be positive", p->adaptive = 0; p->step = 0);
    REFUSED(f, "coupling must be between", p->lambda = 1.5);
    fixture_end(&f);
    fixture g = fixture_begin(3, 0, 3, 0, "leapfrog");
    unchanged = g.p;
    REFUSED(g, "its size must be even", (void)p);
    fixture_end(&g);
    fixture h = fixture_begin(2, 0, 3, 0, "leapfrog");
    unchanged = h.p;
    REFUSED(h, "no reversible scheme", p->lambda = 0.9);
    REFUSED(h, "quadrature does not go with a method that splits", p->gradient = PN_GRAD_NONE; OWN(field, own.n_grads = 1);
            p->quadrature = h.t);
    fixture_end(&h);
    release(0);
}

/* Gradients, sensitivities, quadrature. */
static void wishes(void) {
    fixture f = fixture_begin(2, 1, 3, 0, "dopri5");
    double room[256];
    const void **const results[] = {(const void **)&f.p.y0,
                                    (const void **)&f.p.y,
                                    (const void **)&f.p.status,
                                    (const void **)&f.p.stop_t,
                                    (const void **)&f.p.stop_component,
                                    (const void **)&f.p.nfe,
                                    (const void **)&f.p.accepted,
                                    (const void **)&f.p.rejected};
    unchanged = f.p;
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) REFUSED(f, "accepted, rejected: no room", *results[i] = NULL);
    REFUSED(f, "theta_each: a callback", p->theta_each = 1; p->call = no_call);
    REFUSED(f, "theta_each: quadrature", p->theta_each = 1; p->quadrature = room);
    REFUSED(f, "a callback is needed", OWN(field, own.has_call = 1));
    REFUSED(f, "a callback is needed", OWN(reverse, own.has_call = 1));
    REFUSED(f, "sensitivity needs", p->sensitivity = room);
    REFUSED(f, "sensitivity needs", p->sensitivity = room; p->gradient = PN_GRAD_NONE; p->lambda = 0.9);
    REFUSED(f, "sensitivity needs", p->sensitivity = room; p->gradient = PN_GRAD_NONE; p->reverse = NULL);
    REFUSED(f, "sensitivity does not go with quadrature", p->sensitivity = room; p->gradient = PN_GRAD_NONE;
            p->quadrature = room);
    REFUSED(f, "that of the plain method", OWN(field, own.n_grads = 1); p->gradient = PN_GRAD_NONE; p->quadrature = room;
            p->lambda = 0.9);
    REFUSED(f, "comes with quadrature only", p->quadrature_coef = room);
    REFUSED(f, "output 3 of the field", OWN(field, own.n_grads = 1); p->quadrature = p->quadrature_coef = room);
    REFUSED(f, "output 3 of the field", OWN(field, (own.n_grads = 1, own.n_outputs = 4, own.output_size[3] = 2));
            p->quadrature = p->quadrature_coef = room);
    int64_t shared[3] = {0, 0, 3};
    REFUSED(f, "quadrature_coef: samples must not share", OWN(field, (own.n_grads = 1, own.n_outputs = 4));
            p->quadrature = p->quadrature_coef = room; p->gradient = PN_GRAD_NONE; p->seg_start = shared);
    REFUSED(f, "gradient: there is no such one", p->gradient = (pn_gradient)9);
    REFUSED(f, "needs the reverse program", p->reverse = NULL);
    REFUSED(f, "g_theta: no room", p->g_theta = NULL);
    REFUSED(f, "either a loss or g_y", p->loss = PN_LOSS_NONE);
    REFUSED(f, "either a loss or g_y", p->g_y = p->y0);
    REFUSED(f, "the reversible scheme: coupling > 0", p->gradient = PN_GRAD_REVERSIBLE);
    REFUSED(f, "needs gradient='reversible'", p->lambda = 0.9);
    REFUSED(f, "jump_set and jump_add have no gradient", p->jump_set = p->jump_add = p->y0);
    REFUSED(f, "quadrature goes without", OWN(field, own.n_grads = 1); p->quadrature = room);
    REFUSED(f, "the loss needs a target", p->target = NULL);
    REFUSED(f, "after: all times", p->solved = 1);
    fixture_end(&f);
    release(0);
}

static void tapes(void) {
    fixture f = fixture_begin(2, 1, 3, 0, "dopri5");
    unchanged = f.p;
    REFUSED(f, "back: there are no tapes", p->back = 1);
    pn_tapes *own_tapes = pn_tapes_create();
    f.p.tapes = own_tapes, f.p.loss = PN_LOSS_NONE;
    unchanged = f.p;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    REFUSED(f, "tapes: they go with gradient='discrete'", p->gradient = PN_GRAD_NONE);
    REFUSED(f, "tapes: they go without a loss", p->loss = PN_LOSS_SQUARED);
    REFUSED(f, "tapes: memory=", p->memory = 1000000);
    REFUSED(f, "tapes: a callback field has none", p->call = no_call);
    REFUSED(f, "tapes: jumps and events", p->event = p->field);
    REFUSED(f, "tapes: the way back needs g_y", p->back = 1);
    REFUSED(f, "tapes: g_y is for the way back", p->g_y = p->y0);
    REFUSED(f, "tapes: they are not those of a solve", p->back = 1; p->g_y = p->y);
    fixture many = fixture_begin(2, 0, 70 * 256, 0, "euler");
    many.p.tapes = own_tapes, many.p.loss = PN_LOSS_NONE;
    unchanged = many.p;
    REFUSED(many, "tapes: there are too many samples", (void)p);
    pn_tapes_destroy(&own_tapes);
    fixture_end(&many);
    fixture_end(&f);
    release(0);
}

/* Without inputs. */
static void without_inputs(void) {
    double room[256];
    fixture g = fixture_begin(2, 0, 3, 0, "dopri5");
    unchanged = g.p;
    REFUSED(g, "the field has 0 inputs: knot and coef are out of place", p->coef = room);
    REFUSED(g, "wrt_inputs: the field has no inputs", p->g_coef = room);
    REFUSED(g, "quadrature_coef: the field has no inputs", OWN(field, own.n_grads = 1);
            p->quadrature = p->quadrature_coef = room);
    CHECK(pn_solve(&g.p, 0, PN_N_ISA, NULL) == PN_BAD_ARGUMENT);
    g.p.d = 0;
    CHECK(pn_solve(&g.p, 0, PN_ISA_PLAIN, NULL) == PN_BAD_ARGUMENT);
    g.p = unchanged;
    CHECK(pn_solve(&g.p, 0, PN_N_ISA, said) == PN_BAD_ARGUMENT && strstr(said, "no such instruction set"));
    g.p.lambda = 0.9, g.p.gradient = PN_GRAD_REVERSIBLE;
    unchanged = g.p;
    REFUSED(g, "memory: the reversible gradient", p->memory = 1000);
    fixture_end(&g);
    release(0);
}

/* Events: a program of its own, that goes with a plain solve. */
static void events(void) {
    fixture f = fixture_begin(2, 0, 3, 0, "rk4");
    builder b = {.spec = {.fuse = 1, .n_spaces = 1}, .n_theta = {1}};
    add_slot(&b, 1), add_slot(&b, 2), add_slot(&b, 0);
    int32_t level = add(&b, PN_OP_PARAM, 1, -1, -1, -1, 0, 0, 0), first = add(&b, PN_OP_SLICE, 1, 1, -1, -1, 0, 1, 0);
    add_output(&b, add(&b, PN_OP_SUB, 1, first, level, -1, 0, 0, 0));
    b.spec.segments[1] = b.spec.n_code;
    pn_program *event = must_create(&b);
    int32_t direction = 0, side[3] = {0}, which[3] = {-1, -1, -1};
    double states[12], room[256], level_at = 0.1;
    f.p.gradient = PN_GRAD_NONE;
    f.p.event = event, f.p.event_theta = &level_at;
    f.p.event_direction = &direction, f.p.event_side = side, f.p.event_which = which, f.p.event_y = states;
    unchanged = f.p;
    CHECK(pn_problem_check(&f.p, 0, said) == PN_OK);
    for (int k = 0; k < 3; k++) REFUSED(f, "event: the slots", OWN(event, own.slot_size[k]++));
    REFUSED(f, "event: the slots", OWN(event, own.n_slots = 2));
    REFUSED(f, "event: the slots", OWN(event, own.n_outputs = 2));
    REFUSED(f, "event: the slots", OWN(event, own.output_size[0] = 0));
    REFUSED(f, "event: the slots", OWN(event, own.n_spaces = 2));
    REFUSED(f, "event: the slots", OWN(event, own.has_call = 1));
    REFUSED(f, "event: it goes with a plain", p->sensitivity = room);
    REFUSED(f, "event: it goes with a plain", OWN(field, own.n_grads = 1); p->quadrature = room);
    REFUSED(f, "event: it goes with a plain", p->lambda = 0.9);
    REFUSED(f, "event: it goes with a plain", p->jump_set = p->jump_add = p->y0);
    REFUSED(f, "event_theta is needed", p->event_theta = NULL);
    REFUSED(f, "event_direction and event_side", p->event_direction = NULL);
    REFUSED(f, "event_which, event_y", p->event_which = NULL);
    REFUSED(f, "event_side must be -1, 0 or 1", side[2] = 2);
    side[2] = 0;
    REFUSED(f, "event_direction must be -1, 0 or 1", direction = -2);
    direction = 0;
    fixture_parts(&f, 1);
    f.p.loss = PN_LOSS_NONE, f.p.loss_part = (pn_part){.program = NULL};
    unchanged = f.p;
    REFUSED(f, "event: it goes with a plain", (void)p);
    pn_program_destroy(&event);
    fixture_end(&f);
    release(0);
}

/* Rosenbrock methods. */
static void implicit(void) {
    fixture f = stiff_fixture(3, 0, "rodas5p", 2);
    double mass[4] = {1, 0, 0, NAN}, room[64];
    unchanged = f.p;
    REFUSED(f, "needs the program of the Jacobian", p->jacobian = NULL);
    REFUSED(f, "jacobian: the slots", OWN(jacobian, own.n_slots = 2));
    REFUSED(f, "jacobian: the slots", OWN(jacobian, own.slot_size[0] = 2));
    REFUSED(f, "jacobian: the slots", OWN(jacobian, own.slot_size[1] = 3));
    REFUSED(f, "the slot u must have m features", OWN(jacobian, own.slot_size[2] = 1));
    REFUSED(f, "must not be a callback", OWN(jacobian, own.has_call = 1));
    REFUSED(f, "output 0 must have d d", OWN(jacobian, own.output_size[0] = 3));
    REFUSED(f, "output 0 must have d d", OWN(jacobian, own.n_outputs = 0));
    REFUSED(f, "the parameters are not those of the field", OWN(jacobian, own.n_spaces = 2));
    REFUSED(f, "the parameters are not those of the field", OWN(jacobian, own.n_grads = 2));
    REFUSED(f, "the parameters are not those of the field", OWN(jacobian, own.n_theta[0] = 2));
    REFUSED(f, "no reversible scheme", p->lambda = 0.9);
    REFUSED(f, "quadrature needs an explicit method", p->quadrature = room);
    REFUSED(f, "jacobian_cost", p->jacobian_cost = -1);
    REFUSED(f, "mass must be finite, entry 3", p->mass = mass);
    REFUSED(f, "mass must be finite, entry 0", mass[3] = 1; mass[0] = NAN; p->mass = mass);
    mass[0] = mass[3] = 1, f.p.mass = mass;
    CHECK(pn_solve(&f.p, 0, PN_ISA_PLAIN, said) == PN_OK);
    mass[3] = NAN;
    for (int k = 0; k < 4; k++) REFUSED(f, "jacobian_reverse: the slots", OWN(jacobian_reverse, own.slot_size[k]++));
    for (int k = 1; k < 4; k++) REFUSED(f, "jacobian_reverse: the outputs", OWN(jacobian_reverse, own.output_size[k] = 9));
    REFUSED(f, "jacobian_reverse: the slots", OWN(jacobian_reverse, own.n_slots = 3));
    REFUSED(f, "jacobian_reverse: the outputs", OWN(jacobian_reverse, own.n_outputs = 3));
    REFUSED(f, "jacobian_reverse: the parameters", OWN(jacobian_reverse, own.n_spaces = 2));
    REFUSED(f, "jacobian_reverse: the parameters", OWN(jacobian_reverse, own.n_theta[0] = 0));
    REFUSED(f, "jacobian_reverse: the parameters", OWN(jacobian_reverse, own.n_grads = 2));
    REFUSED(f, "jacobian_reverse: the parameters", OWN(jacobian_reverse, own.n_grad[0] = 0));
    REFUSED(f, "need jacobian_reverse", p->jacobian_reverse = NULL);
    REFUSED(f, "need jacobian_reverse", p->jacobian_reverse = NULL; p->gradient = PN_GRAD_NONE; p->sensitivity = room);
    REFUSED(f, "explicit and has no use", p->tableau = pn_tableau_find("dopri5"));
    REFUSED(f, "explicit and has no use", p->tableau = pn_tableau_find("dopri5"); p->jacobian = NULL);
    REFUSED(f, "explicit and has no use", p->tableau = pn_tableau_find("dopri5"); p->jacobian = p->jacobian_reverse = NULL;
            mass[3] = 1; p->mass = mass);
    fixture_end(&f);
    release(0);
}

static void changes_of_method(void) {
    double mass[4] = {1, 0, 0, 1};
    fixture g = changing(3, 0, 2);
    pn_tableau other = *g.p.tableau;
    unchanged = g.p;
    REFUSED(g, "stiff: it must be an adaptive Rosenbrock", p->stiff = pn_tableau_find("tsit5"));
    pn_tableau fixed = *g.p.stiff;
    REFUSED(g, "stiff: it must be an adaptive Rosenbrock", fixed.error_order = 0; p->stiff = &fixed);
    REFUSED(g, "needs the program of the Jacobian", p->jacobian = NULL);
    REFUSED(g, "coupling must be 0", p->lambda = 0.9);
    REFUSED(g, "stiff: the tableau must be that of an explicit", p->tableau = p->stiff);
    REFUSED(g, "stiff: a method that splits", p->adaptive = 0; p->tableau = pn_tableau_find("leapfrog"));
    REFUSED(g, "stiff: the explicit method needs", p->adaptive = 0; p->tableau = pn_tableau_find("euler"));
    REFUSED(g, "stiff: the explicit method needs", p->tableau = pn_tableau_find("bosh3"));
    REFUSED(g, "stiff: the explicit method needs", other.error_uses_new = 0; p->tableau = &other);
    other = *g.p.tableau;
    REFUSED(g, "stiff: the dense outputs", other.dense_degree++; p->tableau = &other);
    REFUSED(g, "stiff: the steps are fixed", p->adaptive = 0);
    REFUSED(g, "stiff: a mass matrix", p->mass = mass);
    REFUSED(g, "stability must be finite and positive", p->stability = 0);
    REFUSED(g, "stability must be finite and positive", p->stability = INFINITY);
    fixture_end(&g);
    release(0);
}

static void defaults(void) {
    pn_problem p;
    pn_problem_init(&p);
    CHECK(p.tableau == pn_tableau_find("dopri5") && p.degree == -1 && p.adaptive == 1 && p.rtol == 1e-6 && p.threads == 1);
    CHECK(p.safety == 0.9 && p.min_factor == 0.2 && p.max_factor == 10 && p.beta == 0.2 && p.max_steps == 100000);
    CHECK(p.loss_scale == 1 && p.loss_dof == 4 && !p.field && p.lambda == 0 && !p.memory && p.loss == PN_LOSS_NONE);
}

int main(void) {
    defaults();
    fields();
    hoisted();
    parts();
    given();
    without_data();
    jumps_on_grids();
    arrays();
    wishes();
    tapes();
    without_inputs();
    events();
    implicit();
    changes_of_method();
    return finish("test_refusals");
}
