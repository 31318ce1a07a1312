"""The solver of an exported file: the step control, save points and methods of the core (csrc/forward), for one sample.

Texts of C; lines between %if NAME and %end are left out where NAME does not hold, @n@ and @N@ stand for the file's name.
"""

from __future__ import annotations

from collections.abc import Mapping


def rendered(template: str, holds: Mapping[str, bool], values: Mapping[str, str]) -> str:
    """A template with its conditions decided and its names filled in."""
    lines: list[str] = []
    open_: list[bool] = []
    for line in template.splitlines():
        if line.startswith("%if "):
            name = line[4:].strip()
            open_.append(not holds[name[1:]] if name[0] == "!" else holds[name])
        elif line == "%end":
            open_.pop()
        elif all(open_):
            lines.append(line)
    text = "\n".join(lines) + "\n"
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


WORK = """\
/* What a solve works with. */
typedef struct {
    const real *theta;
%if knots
    const @n@_signal *signal;
    long segment;
    real segment_start, input[M][DEGREE_U + 1];
%end
    real u[M1];
    real y[D], y_new[D], k[STAGES][D], coef[DEGREE][D];
    real t, t_new, t_last, h, dir, step, origin;
    long count, attempts, max_steps, steps, rejected, evaluations;
    int have, again, evaluated;
%if adaptive
    real rtol, atol[D], wanted, memory, max_step, err;
    int cut;
%end
%if stops
    int crossing;
%end
%if implicit
    real lu[D][D], slope[D];
    int swap[D];
%end
} work;

"""

INPUTS = """\
/* ---- input signals: polynomials between knots ---- */
static long n_knots(const @n@_signal *u)
{
    return u->n@KNOTS_MORE@;
}

static real knot(const @n@_signal *u, long i)
{
%if previous
    if (i == n_knots(u) - 1) return (real)INFINITY;
%end
    @KNOT@
}

static real value(const @n@_signal *u, long i, int j)
{
    @VALUE@
}

%if cubic
/* Slope at a knot: of the parabola through three neighbours. */
static real slope(const @n@_signal *u, long i, int j)
{
    long n = n_knots(u), first = i == 0 ? 0 : i == n - 1 ? n - 3 : i - 1;
    if (n == 2) return (value(u, 1, j) - value(u, 0, j)) / (knot(u, 1) - knot(u, 0));
    real a = knot(u, first + 1) - knot(u, first), b = knot(u, first + 2) - knot(u, first + 1);
    real u0 = value(u, first, j), u1 = value(u, first + 1, j), u2 = value(u, first + 2, j);
    if (i == 0) return -(2 * a + b) / (a * (a + b)) * u0 + (a + b) / (a * b) * u1 - a / (b * (a + b)) * u2;
    if (i == n - 1) return b / (a * (a + b)) * u0 - (a + b) / (a * b) * u1 + (2 * b + a) / (b * (a + b)) * u2;
    return -b / (a * (a + b)) * u0 + (b - a) / (a * b) * u1 + a / (b * (a + b)) * u2;
}

%end
static void enter_segment(work *w)
{
    const @n@_signal *u = w->signal;
    long i = w->segment;
    w->segment_start = knot(u, i);
    for (int j = 0; j < M; j++) {
        w->input[j][0] = value(u, i, j);
%if linear
        w->input[j][1] = (value(u, i + 1, j) - value(u, i, j)) / (knot(u, i + 1) - knot(u, i));
%end
%if cubic
        real h = knot(u, i + 1) - knot(u, i), rise = value(u, i + 1, j) - value(u, i, j);
        real s0 = slope(u, i, j), s1 = slope(u, i + 1, j);
        w->input[j][1] = s0;
        w->input[j][2] = (3 * rise / h - 2 * s0 - s1) / h;
        w->input[j][3] = (s0 + s1 - 2 * rise / h) / (h * h);
%end
    }
}

static void first_segment(work *w, real t)
{
    long i = 0, last = n_knots(w->signal) - 2;
    while (i < last && (w->dir >= R0 ? knot(w->signal, i + 1) <= t : knot(w->signal, i + 1) < t)) i++;
    w->segment = i;
    enter_segment(w);
}

/* The segment that begins where the solution has come to. */
static void next_segment(work *w)
{
    for (;;) {
        long next = w->dir > R0 ? w->segment + 1 : w->segment;
        if (next <= 0 || next >= n_knots(w->signal) - 1 || w->dir * (knot(w->signal, next) - w->t) > R0) return;
        w->segment += w->dir > R0 ? 1 : -1;
        enter_segment(w);
        w->have = 0;
        w->origin = w->t;
        w->count = 0;
    }
}

static int bad_signal(const @n@_signal *u, real low, real high)
{
    if (u == NULL || u->n < @KNOTS_LEAST@) return 1;
    for (long i = 0; i < u->n; i++) {
        if (i > 0 && !(u->t[i] > u->t[i - 1])) return 1;
        for (int j = 0; j < M; j++)
            if (!finite_number(value(u, i, j))) return 1;
    }
    return !(knot(u, 0) <= low && high <= knot(u, n_knots(u) - 1));
}

"""

STAGES = """\
/* ---- one step ---- */
static real larger(real a, real b)
{
    return a > b ? a : b;
}

/* f(t, z) with the inputs of that time */
static void evaluate(work *w, real t, const real *z, real *k)
{
%if moving
    real dt = t - w->segment_start;
    for (int j = 0; j < M; j++) {
        real v = w->input[j][DEGREE_U];
        for (int q = DEGREE_U; q-- > 0;) v = v * dt + w->input[j][q];
        w->u[j] = v;
    }
%end
%if held
    for (int j = 0; j < M; j++) w->u[j] = w->input[j][0];
%end
    field(t, z, w->u, w->theta, k);
}

/* The state of stage i, or the new state where i is S. */
static void combine(const work *w, real h, int i, real *out)
{
    for (int c = 0; c < D; c++) {
        real sum = R0;
%if partitioned
        const real *a = (c < D / 2 ? A : A2) + i * (i - 1) / 2;
%end
%if !partitioned
        const real *a = A + i * (i - 1) / 2;
%end
        for (int j = 0; j < i; j++)
            if (a[j] != R0) sum += a[j] * w->k[j][c];
        out[c] = w->y[c] + h * sum;
    }
}

%if implicit
/* Factors of W = I - gamma h df/dy in place; rows are exchanged where an entry below is ten times as large. */
static void factor(work *w)
{
    for (int k = 0; k < D; k++) {
        int best = k;
        real most = m_fabs(w->lu[k][k]);
        for (int i = k + 1; i < D; i++)
            if (m_fabs(w->lu[i][k]) > most) most = m_fabs(w->lu[i][k]), best = i;
        if (!(most > 10 * m_fabs(w->lu[k][k]))) best = k;
        w->swap[k] = best;
        for (int j = 0; best != k && j < D; j++) {
            real x = w->lu[k][j];
            w->lu[k][j] = w->lu[best][j];
            w->lu[best][j] = x;
        }
        w->lu[k][k] = R1 / w->lu[k][k];
        for (int i = k + 1; i < D; i++) {
            w->lu[i][k] *= w->lu[k][k];
            for (int j = k + 1; w->lu[i][k] != R0 && j < D; j++) w->lu[i][j] -= w->lu[i][k] * w->lu[k][j];
        }
    }
}

static void solve_linear(const work *w, real *b)
{
    for (int k = 0; k < D; k++) {
        real x = b[w->swap[k]];
        b[w->swap[k]] = b[k];
        b[k] = x;
    }
    for (int i = 1; i < D; i++)
        for (int j = 0; j < i; j++) b[i] -= w->lu[i][j] * b[j];
    for (int i = D; i-- > 0;) {
        for (int j = i + 1; j < D; j++) b[i] -= w->lu[i][j] * b[j];
        b[i] *= w->lu[i][i];
    }
}

/* df/dy, df/dt and the factors of W for a step of size h */
static void linearise(work *w, real h)
{
    real J[ENTRIES];
%if no_slopes
    jacobian(w->t, w->y, w->u, w->theta, J);
%end
%if moving
    real dt = w->t - w->segment_start, u[2 * M];
    for (int j = 0; j < M; j++) {
        real v = w->input[j][DEGREE_U], rate = R0;
        for (int q = DEGREE_U; q-- > 0;) v = v * dt + w->input[j][q];
        for (int q = DEGREE_U; q > 0; q--) rate = rate * dt + (real)q * w->input[j][q];
        u[j] = v;
        u[M + j] = rate;
    }
    jacobian(w->t, w->y, u, w->theta, J);
%end
%if held
    for (int j = 0; j < M; j++) w->u[j] = w->input[j][0];
    jacobian(w->t, w->y, w->u, w->theta, J);
%end
    for (int i = 0; i < D; i++)
        for (int j = 0; j < D; j++) w->lu[i][j] = i == j ? R1 : R0;
    for (int e = 0; e < ON_PATTERN; e++) w->lu[ROW[e]][COLUMN[e]] -= GAMMA * h * J[e];
    for (int c = 0; c < D; c++) w->slope[c] = ENTRIES > ON_PATTERN ? J[(ON_PATTERN + c) % ENTRIES] : R0;
    factor(w);
}

%end
/* Stages from .. to - 1 of the step from w->t to t_new. */
static void stages(work *w, real h, real t_new, int from, int to)
{
    for (int i = from; i < to; i++) {
        real z[D];
        if (i == 0)
            for (int c = 0; c < D; c++) z[c] = w->y[c];
        else combine(w, h, i, z);
        evaluate(w, C[i] == R1 ? t_new : w->t + C[i] * h, z, w->k[i]);
%if implicit
        if (i >= S) continue;
        for (int c = 0; c < D; c++) {
            real sum = w->k[i][c];
            for (int j = 0; j < i; j++) sum += COUPLING[i * (i - 1) / 2 + j] * w->k[j][c];
            w->k[i][c] = GAMMA * (sum + BY_T[i] * h * w->slope[c]);
        }
        solve_linear(w, w->k[i]);
%end
    }
}

"""
