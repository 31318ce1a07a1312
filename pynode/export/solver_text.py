"""The solver of an exported file, in C99, with the steps of `pynode.solve` (csrc/forward, csrc/method/control.inl).

NAME_ and name_ stand for the prefix, {f} for the suffix of functions of math.h.
"""

DECLARATIONS = """\
typedef enum {
    NAME_OK,
    NAME_MAX_STEPS,      /* max_steps attempts were not enough: a larger max_steps, or looser tolerances */
    NAME_STEP_TOO_SMALL, /* the error is too large however small the step: the solution may end here */
    NAME_NON_FINITE,     /* infinity or NaN appeared: shorter fixed steps, or another initial state */
    NAME_BAD_INPUT       /* times not in order, a state that is not finite, an option or a signal that makes no sense */
} name_status;

/* Control inputs u(t): on [knot[j], knot[j + 1]] the polynomials
       u_i = sum_q coef[(j (degree + 1) + q) NAME_INPUTS + i] (t - knot[j])^q;
   before the first knot and after the last the first and the last of them. name_previous and name_linear make them. */
typedef struct {
    size_t n_knots; /* at least 2 */
    int degree;     /* 0 to 3 */
    const name_real *knot;
    const name_real *coef;
} name_signal;

typedef struct {
    name_real step;               /* fixed steps of this length; 0: error control */
    name_real rtol;               /* of error control, as the next ones */
    name_real atol[NAME_STATES];
    name_real first_step;         /* 0: chosen */
    name_real max_step;           /* 0: no limit */
    long max_steps;
} name_options;

extern const name_options name_defaults;
"""

SOLVE_DECLARATION = """\
/* The solution at n times, the first of which is that of y0; they rise or fall. y: n rows of NAME_STATES numbers, NaN from
   where it stopped. theta NULL: the parameters of this file; u NULL: its signal; options NULL: name_defaults. */
name_status name_solve(const name_real *y0, size_t n, const name_real *t, const name_real *theta, const name_signal *u,
                       const name_options *options, name_real *y);

/* One step of length h by the method, without error control: the state at t + h in place of the one at t. */
name_status name_step(name_real t, name_real h, const name_real *theta, const name_signal *u, name_real *y);
"""

SIGNAL_DECLARATIONS = """\
/* Coefficients of signals from values at knots (n rows of NAME_INPUTS): held until the next knot, coef of n - 1 rows,
   degree 0; straight lines, coef of 2 (n - 1) rows, degree 1. */
void name_previous(size_t n, const name_real *value, name_real *coef);
void name_linear(size_t n, const name_real *knot, const name_real *value, name_real *coef);
"""

SIGNALS = """\
void name_previous(size_t n, const real *value, real *coef)
{
    for (size_t i = 0; i + 1 < n; i++)
        for (size_t c = 0; c < INPUTS; c++) coef[i * INPUTS + c] = value[i * INPUTS + c];
}

void name_linear(size_t n, const real *knot, const real *value, real *coef)
{
    for (size_t i = 0; i + 1 < n; i++)
        for (size_t c = 0; c < INPUTS; c++) {
            coef[2 * i * INPUTS + c] = value[i * INPUTS + c];
            coef[(2 * i + 1) * INPUTS + c] = (value[(i + 1) * INPUTS + c] - value[i * INPUTS + c]) / (knot[i + 1] - knot[i]);
        }
}

/* the inputs at time t of the field, of one segment */
static void input(const name_signal *s, size_t segment, real t, real *u)
{
    size_t q1 = (size_t)s->degree + 1;
    const real *c = s->coef + segment * q1 * INPUTS;
    real dt = (t - scale_time(s->knot[segment])) / RATE;
    for (size_t i = 0; i < INPUTS; i++) {
        real v = c[(q1 - 1) * INPUTS + i];
        for (size_t q = q1 - 1; q-- > 0;) v = v * dt + c[q * INPUTS + i];
        u[i] = v;
    }
}
"""

RUN = """\
/* where a solution is, in the units of the field */
typedef struct {
    const real *theta;
    const name_signal *signal;
    name_options o;
    real t, t_first, t_last, dir, t_new, h;
    real next;   /* the next step; of fixed steps: where they are counted from */
    real memory; /* the logarithm of the last error; of fixed steps: how many there were */
    real error;  /* the square of its norm */
    size_t segment;
    long attempts;
    int have, again, cut; /* k[0] is known; the step is tried again; it was cut short */
    real y[STATES], y_new[STATES], k[STAGES][STATES];
} run;

#if INPUTS > 0
static real knot(const run *s, size_t j) { return scale_time(s->signal->knot[j]); }
#endif

static void slope(const run *s, real t, const real *y, real *k)
{
#if INPUTS > 0
    real u[INPUTS], scaled[INPUTS];
    input(s->signal, s->segment, t, u);
    scale_inputs(u, scaled);
    rhs(t, y, scaled, s->theta, k);
#else
    rhs(t, y, NULL, s->theta, k);
#endif
}

/* y + h times a combination of the first n slopes; of the second half of the states another one */
static void combine(const run *s, const real *first, const real *second, size_t n, real *to)
{
    for (size_t c = 0; c < STATES; c++) {
        const real *row = 2 * c < STATES ? first : second;
        real sum = 0;
        for (size_t j = 0; j < n; j++) sum += row[j] * s->k[j][c];
        to[c] = s->y[c] + s->h * sum;
    }
}

static void stages(run *s, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        real z[STATES], t = C[i] >= 1 && C[i] <= 1 ? s->t_new : s->t + C[i] * s->h;
        combine(s, A[i], A2[i], i, z);
        slope(s, t, z, s->k[i]);
    }
}

static int all_finite(const real *y)
{
    real bad = 0;
    for (size_t c = 0; c < STATES; c++) bad += y[c] * 0;
    return bad >= 0 && bad <= 0;
}

/* sum of squares of the error over its tolerance; NaN where anything is not finite */
static real squares(const run *s, const real *weight)
{
    real sum = 0;
    for (size_t c = 0; c < STATES; c++) {
        real e = 0, a = fabs{f}(s->y[c]), b = fabs{f}(s->y_new[c]);
        for (size_t j = 0; j < STAGES; j++)
            if (weight[j] < 0 || weight[j] > 0) e += weight[j] * s->k[j][c];
        e *= s->h / (s->o.atol[c] + s->o.rtol * (a > b ? a : b) + TINY);
        e += s->y_new[c] - s->y_new[c];
        sum += e * e;
    }
    return sum;
}

/* whether the step is good, and the length of the next one: PI controller (Gustafsson 1991) */
static int control(run *s)
{
    real first = squares(s, E), h = fabs{f}(s->h), q = ONE / (ERROR_ORDER + 1), beta = BETA * q, size, grow, shrink;
#if SECOND_ERROR
    real third = squares(s, E2), sum = first + (real)0.01 * third;
    first = sum > 0 ? first * (first / sum) : first;
#endif
    s->error = first / STATES;
    size = (real)0.5 * log{f}(s->error > LEAST ? s->error : LEAST);
    grow = exp{f}(log{f}(SAFETY) - (q - (real)0.75 * beta) * size + beta * s->memory);
    shrink = exp{f}(log{f}(SAFETY) - q * size);
    grow = grow > GROWTH ? GROWTH : grow < DECAY ? DECAY : grow;
    if (!(s->error >= 0)) shrink = (real)0.1;
    shrink = shrink < DECAY ? DECAY : shrink > (real)0.9 ? (real)0.9 : shrink;
    if (!(s->error <= 1)) {
        s->next = h * shrink;
        s->again = 1;
        return 0;
    }
    grow = h * (s->again && grow > 1 ? ONE : grow);
    s->next = s->cut && !s->again && grow < s->next ? s->next : grow;
    s->memory = size > MEMORY ? size : MEMORY;
    return 1;
}

static real norm(const run *s, const real *x)
{
    real sum = 0;
    for (size_t c = 0; c < STATES; c++) {
        real q = x[c] / (s->o.atol[c] + s->o.rtol * fabs{f}(s->y[c]) + TINY);
        sum += q * q;
    }
    return sqrt{f}(sum / STATES);
}

/* the first step (Hairer, Norsett, Wanner, II.4), and k[0] */
static void begin(run *s)
{
    real d0, d1, d2, h, h1, most, z[STATES], k[STATES];
    real span = fabs{f}(s->t_last - s->t), least = 16 * EPSILON * fabs{f}(s->t);
    slope(s, s->t, s->y, s->k[0]);
    s->have = 1;
    d0 = norm(s, s->y);
    d1 = norm(s, s->k[0]);
    h = d0 < (real)1e-5 || !(d1 >= (real)1e-5) ? (real)1e-6 : (real)0.01 * d0 / d1;
    if (!(h > 0)) h = (real)1e-6;
    if (h < least) h = least;
    if (h > span) h = span;
    for (size_t c = 0; c < STATES; c++) z[c] = s->y[c] + s->dir * h * s->k[0][c];
    slope(s, s->t + s->dir * h, z, k);
    for (size_t c = 0; c < STATES; c++) k[c] -= s->k[0][c];
    d2 = norm(s, k);
    most = d1 > d2 / h ? d1 : d2 / h;
    h1 = (real)1e-6 > h * (real)1e-3 ? (real)1e-6 : h * (real)1e-3;
    if (most > (real)1e-15) h1 = pow{f}(10 / most, ONE / (ERROR_ORDER + 1));
    if (!(h1 < 100 * h)) h1 = 100 * h;
    if (!(h1 > 0)) h1 = h;
    s->next = h1 < least ? least : h1;
}

/* whether a lies before b, where the solution goes, but for rounding */
static int before(const run *s, real a, real b)
{
    real size = fabs{f}(a) > fabs{f}(b) ? fabs{f}(a) : fabs{f}(b);
    return s->dir * (b - a) > 4 * EPSILON * size;
}

/* where the step ends: as far as error control wants, at a knot of the inputs, or at the last time */
static void plan(run *s)
{
    real to = s->t_last;
#if INPUTS > 0
    size_t next = s->dir > 0 ? s->segment + 1 : s->segment;
    if (next > 0 && next + 1 < s->signal->n_knots && s->dir * (knot(s, next) - to) < 0) to = knot(s, next);
#endif
    if (s->o.step > 0) {
        real next_end = s->next + s->dir * (s->memory + 1) * s->o.step;
        s->t_new = s->dir * (to - next_end) <= NEARLY * s->o.step ? to : next_end;
    } else {
        real most = s->o.max_step > 0 ? s->o.max_step : HUGE_VAL{F}, h = s->next > most ? most : s->next;
        real reach = (real)1.05 * s->next, room = s->dir * (to - s->t);
        reach = reach > most ? most : reach;
        s->t_new = room <= reach ? to : s->t + s->dir * h;
        s->cut = h < s->next || (room <= reach && room < h);
    }
    s->h = s->t_new - s->t;
}

/* the segment of the inputs that begins where the solution has come to */
static void advance_inputs(run *s)
{
#if INPUTS > 0
    for (;;) {
        size_t next = s->dir > 0 ? s->segment + 1 : s->segment;
        if (next == 0 || next + 1 >= s->signal->n_knots || s->dir * (knot(s, next) - s->t) > 0) return;
        if (s->dir > 0)
            s->segment++;
        else
            s->segment--;
        s->have = 0;
        if (s->o.step > 0) s->next = s->t, s->memory = 0;
    }
#else
    (void)s;
#endif
}

/* a step that is accepted; then 1 in `moved` */
static name_status attempt(run *s, int *have_new, int *moved)
{
    real size = fabs{f}(s->t), span = (real)1e-3 * fabs{f}(s->t_last - s->t_first);
    real least = 16 * EPSILON * (size > span ? size : span);
    *moved = *have_new = 0;
    plan(s);
    if (s->attempts++ >= s->o.max_steps) return NAME_MAX_STEPS;
    if (s->again && s->next < least) return s->error >= 0 ? NAME_STEP_TOO_SMALL : NAME_NON_FINITE;
    if (!(s->h < 0 || s->h > 0)) return s->again && !(s->error >= 0) ? NAME_NON_FINITE : NAME_STEP_TOO_SMALL;
    if (!s->have) slope(s, s->t, s->y, s->k[0]);
    s->have = 1;
    stages(s, 1, CORE);
    combine(s, A[CORE], A2[CORE], CORE, s->y_new);
    if (s->o.step > 0) {
        if (!all_finite(s->y_new)) return NAME_NON_FINITE;
        *moved = 1;
        return NAME_OK;
    }
#if ERROR_USES_NEW
    stages(s, CORE, CORE + 1);
    *have_new = 1;
#endif
    *moved = control(s);
    return NAME_OK;
}

/* the solution inside the step at time t, by dense output */
static void inside(const run *s, real t, real *y)
{
    real x = (t - s->t) / s->h;
    for (size_t c = 0; c < STATES; c++) {
        real v = 0;
        for (size_t g = DEGREE; g > 0; g--) {
            real sum = 0;
            for (size_t j = 0; j < STAGES; j++) sum += (2 * c < STATES ? DENSE : DENSE2)[j][g] * s->k[j][c];
            v = (v + s->h * sum) * x;
        }
        y[c] = s->y[c] + v;
    }
}

static name_status check(const run *s, size_t n, const real *t)
{
    const name_options *o = &s->o;
    if (n == 0 || t == NULL || !all_finite(s->y) || o->max_steps < 1 || !(o->step >= 0)) return NAME_BAD_INPUT;
    if (ERROR_ORDER == 0 && !(o->step > 0)) return NAME_BAD_INPUT;
    if (!(o->step > 0) && (!(o->rtol >= 0) || !(o->first_step >= 0) || !(o->max_step >= 0))) return NAME_BAD_INPUT;
    for (size_t c = 0; c < STATES; c++)
        if (!(o->step > 0) && !(o->atol[c] >= 0 && o->atol[c] + o->rtol > 0)) return NAME_BAD_INPUT;
    for (size_t i = 0; i < n; i++) {
        real on = i > 0 ? t[i] - t[i - 1] : t[i] * 0; /* NaN where t is not finite */
        if (!(on * s->dir >= 0) || !(t[i] * 0 >= 0) || (s->dir * s->dir < 1 && (on < 0 || on > 0))) return NAME_BAD_INPUT;
    }
#if INPUTS > 0
    if (s->signal == NULL || s->signal->n_knots < 2 || s->signal->degree < 0 || s->signal->degree > 3) return NAME_BAD_INPUT;
    for (size_t i = 0; i + 1 < s->signal->n_knots; i++)
        if (!(s->signal->knot[i] < s->signal->knot[i + 1])) return NAME_BAD_INPUT;
#endif
    return NAME_OK;
}

static void prepare(run *s, const real *y0, real t, real t_last, const real *theta, const name_signal *u,
                    const name_options *o)
{
    s->theta = theta != NULL ? theta : THETA;
    s->signal = u != NULL ? u : SIGNAL;
    s->o = *o;
    s->o.step *= RATE;
    s->o.first_step *= RATE;
    s->o.max_step *= RATE;
    s->t = s->t_first = scale_time(t);
    s->t_last = scale_time(t_last);
    s->dir = t_last > t ? ONE : t_last < t ? -ONE : 0;
    s->next = o->step > 0 ? s->t : s->o.first_step;
    s->memory = s->error = 0;
    s->segment = 0;
    s->attempts = 0;
    s->have = s->again = s->cut = 0;
    scale_states(y0, s->y);
    for (size_t j = 0; j < STAGES; j++)
        for (size_t c = 0; c < STATES; c++) s->k[j][c] = 0;
#if INPUTS > 0
    while (s->signal != NULL && s->segment + 2 < s->signal->n_knots &&
           (s->dir >= 0 ? knot(s, s->segment + 1) <= s->t : knot(s, s->segment + 1) < s->t))
        s->segment++;
#endif
}

/* the state at the end of the step, the saved ones up to there; returns how many are saved */
static size_t take(run *s, size_t saved, size_t n, const real *t, int have_new, real *y)
{
    size_t end = saved;
    while (end < n && before(s, scale_time(t[end]), s->t_new)) end++;
    if (end > saved && DENSE_USES_NEW) {
        stages(s, have_new ? CORE + 1 : CORE, STAGES);
        have_new = 1;
    }
    for (; saved < end; saved++) {
        real z[STATES];
        inside(s, scale_time(t[saved]), z);
        unscale_states(z, y + saved * STATES);
    }
    for (; saved < n && !before(s, s->t_new, scale_time(t[saved])); saved++) unscale_states(s->y_new, y + saved * STATES);
    for (size_t c = 0; c < STATES; c++) {
        s->y[c] = s->y_new[c];
        if (have_new) s->k[0][c] = s->k[CORE][c];
    }
    s->have = have_new;
    s->again = 0;
    s->t = s->t_new;
    if (s->o.step > 0) s->memory += 1;
    advance_inputs(s);
    return saved;
}

name_status name_solve(const real *y0, size_t n, const real *t, const real *theta, const name_signal *u,
                       const name_options *options, real *y)
{
    run s;
    size_t saved = 0;
    name_status status;
    prepare(&s, y0, n > 0 ? t[0] : 0, n > 0 ? t[n - 1] : 0, theta, u, options != NULL ? options : &name_defaults);
    status = check(&s, n, t);
    for (; status == NAME_OK && saved < n && !(s.dir * (scale_time(t[saved]) - s.t) > 0); saved++)
        for (size_t c = 0; c < STATES; c++) y[saved * STATES + c] = y0[c];
    if (status == NAME_OK && saved < n && !(s.o.step > 0) && !(s.o.first_step > 0)) begin(&s);
    while (status == NAME_OK && saved < n) {
        int have_new, moved;
        status = attempt(&s, &have_new, &moved);
        if (status == NAME_OK && moved) saved = take(&s, saved, n, t, have_new, y);
    }
    for (; saved < n; saved++)
        for (size_t c = 0; c < STATES; c++) y[saved * STATES + c] = NOT_A_NUMBER;
    return status;
}

name_status name_step(real t, real h, const real *theta, const name_signal *u, real *y)
{
    run s;
    name_options o = name_defaults;
    real times[2];
    o.step = fabs{f}(h);
    times[0] = t;
    times[1] = t + h;
    prepare(&s, y, times[0], times[1], theta, u, &o);
    if (check(&s, 2, times) != NAME_OK) return NAME_BAD_INPUT;
    if (!(h < 0 || h > 0)) return NAME_OK;
    s.t_new = s.t_last;
    s.h = s.t_new - s.t;
    slope(&s, s.t, s.y, s.k[0]);
    stages(&s, 1, CORE);
    combine(&s, A[CORE], A2[CORE], CORE, s.y_new);
    if (!all_finite(s.y_new)) return NAME_NON_FINITE;
    unscale_states(s.y_new, y);
    return NAME_OK;
}
"""
