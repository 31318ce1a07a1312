/* Saved times that cannot take the end of a step along, at knots of held inputs and at switches of the field: cotangents of times
   against one-sided differences. What they see is the slope on the side before. */
#include "tests/check.h"

enum { N = 9 };
static const double SWITCH = 1, STOPS[] = {0x1.fffffffffffecp-1, 0x1.000000000000ap+0};

static double loss_without(fixture *f) {
    f->p.gradient = PN_GRAD_NONE;
    CHECK(fixture_solve(f, PN_ISA_BASELINE) == PN_OK);
    f->p.gradient = PN_GRAD_DISCRETE;
    return total_loss(f);
}

/* dL/dt of times, each moved alone to where samples come from; dir: where time goes. Initial times if they lie on the switch. */
static void difference_back(fixture *f, double dir, const char *what) {
    pn_problem *p = &f->p;
    CHECK(fixture_solve(f, pn_isa_best()) == PN_OK);
    double *got = keep(f->rows, sizeof *got), here = total_loss(f);
    memcpy(got, p->g_t, f->rows * sizeof *got);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = p->n_stops && f->t[p->row[i]] == SWITCH ? 0 : 1; j < f->t_len[i]; j++) {
            double *t = &f->t[p->row[i] + j], old = *t, h = 1e-3, loss[2];
            for (int k = 0; k < 2; k++) *t = old - dir * (k + 1) * h, loss[k] = loss_without(f);
            *t = old;
            double slope = dir * (3 * here - 4 * loss[0] + loss[1]) / (2 * h), g = got[p->row[i] + j];
            CHECKF(fabs(slope - g) <= 1e-4 * (1 + fabs(slope)), "%s %s land %d: g_t[%d][%d] (t = %g): %.9g, differences %.9g",
                   what, p->tableau->name, p->land, (int)i, (int)j, old, g, slope);
        }
}

static void tight(fixture *f) {
    double *atol = keep(2, sizeof *atol);
    atol[0] = atol[1] = 1e-10;
    f->p.rtol = 1e-9, f->p.atol = atol;
}

/* Inputs constant between knots, which lie on some saved times. */
static void knots(const char *name, int land, double dir) {
    static const double times[2][5] = {{0.2, 0.6, 0.93, 1.4, 2.1}, {0.3, 0.93, 1.2, 1.86, 2.3}};
    seed_state = 3;
    fixture f = fixture_begin(2, 1, N, 0, name);
    pn_problem *p = &f.p;
    double *knot = keep(4, sizeof *knot);
    p->degree = 0, p->g_coef = NULL, p->land = land, p->knot = knot;
    for (int k = 0; k < 4; k++) knot[k] = dir > 0 ? 0.93 * k : -0.93 * (3 - k);
    tight(&f);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < f.t_len[i]; j++) f.t[p->row[i] + j] = dir * times[i % 2][j];
    difference_back(&f, dir, "held input");
    fixture_end(&f);
    release(0);
}

/* A pendulum with damping that is pushed after t = 1. */
static int pushed(void *ctx, int which, int n, const double *t, const double *y, const double *u, const double *seed,
                  double *out, int n_out) {
    (void)ctx, (void)u;
    for (int i = 0; i < n; i++, y += 2, out += n_out, seed += seed ? (which == PN_CALL_VJP ? 2 : 6) : 0) {
        double stiffness = -cos(y[0]), damping = -0.3;
        const double J[] = {0, 1, stiffness, damping, 0, 0};
        switch (which) {
        case PN_CALL_FIELD:
            out[0] = y[1];
            out[1] = -sin(y[0]) + damping * y[1] + (t[i] > SWITCH ? 1.5 : 0);
            break;
        case PN_CALL_VJP:
            out[0] = seed[1] * stiffness;
            out[1] = seed[0] + seed[1] * damping;
            break;
        case PN_CALL_JACOBIAN: memcpy(out, J, sizeof J); break;
        default: out[0] = seed[2] * sin(y[0]), out[1] = 0;
        }
    }
    return 0;
}

static void switches(const char *name, int land, const double *mass, const double *inverse) {
    static const double times[4][5] = {
        {0.2, 0.6, 1, 1.4, 2.1}, {0.3, 1, 1.2, 1.8, 2.3}, {0.1, 0.3, 0.5, 0.8, 1}, {1, 1.3, 1.5, 1.6, 2}};
    seed_state = 5;
    fixture f = fixture_begin(2, 0, N, 0, name);
    pn_problem *p = &f.p;
    pn_program_destroy(&f.field), pn_program_destroy(&f.reverse);
    p->field = f.field = calling(0), p->reverse = f.reverse = calling(1);
    p->jacobian = f.part[0] = calling_jacobian(0), p->jacobian_reverse = f.part[1] = calling_jacobian(1);
    if (!(p->tableau->gamma > 0)) p->jacobian = p->jacobian_reverse = NULL;
    p->n_theta = (int64_t)(f.n_theta = 0);
    p->call = pushed, p->stops = STOPS, p->n_stops = 2, p->land = land;
    p->mass = mass, p->mass_inverse = inverse;
    tight(&f);
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < f.t_len[i]; j++) f.t[p->row[i] + j] = times[i % 4][j];
    difference_back(&f, 1, mass ? "switch, mass" : "switch");
    fixture_end(&f);
    release(0);
}

int main(void) {
    static const double mass[] = {2, 1, 0, 1}, inverse[] = {0.5, -0.5, 0, 1};
    for (int land = 0; land < 2; land++) {
        knots("tsit5", land, 1), knots("dop853", land, 1), knots("tsit5", land, -1);
        switches("tsit5", land, NULL, NULL), switches("bosh3", land, NULL, NULL);
        switches("rodas5p", land, NULL, NULL), switches("rodas5p", land, mass, inverse);
    }
    return finish("test_held");
}
