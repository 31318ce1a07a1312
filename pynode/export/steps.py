"""The choice of steps in an exported file, in the form of `pynode.export.solver`."""

CONTROL = """\
/* ---- the choice of steps ---- */
/* Whether time a lies before b, where dir leads, and is not the same but for rounding. */
static int before(real a, real b, real dir)
{
    return dir * (b - a) > 4 * EPS * larger(m_fabs(a), m_fabs(b));
}

%if stops
/* Times that steps end on, in pairs around those at which the field changes its form. */
static real stop(int i)
{
    real width = larger(5 * EPS * BREAKS[i / 2][1], EPS * EPS * larger(m_fabs(BREAKS[i / 2][0]), R1));
    return i % 2 == 0 ? BREAKS[i / 2][0] - width : BREAKS[i / 2][0] + width;
}

static real next_stop(real t, real dir, real to)
{
    for (int i = 0; i < N_STOPS; i++) {
        real s = stop(dir > R0 ? i : N_STOPS - 1 - i);
        if (before(t, s, dir) && dir * (to - s) > R0) return s;
    }
    return to;
}

static int crosses(real t, real t_new)
{
    real middle = R05 * (t + t_new);
    for (int i = 0; i < N_STOPS; i += 2)
        if (stop(i) <= middle && middle < stop(i + 1)) return m_fabs(t_new - t) <= 2 * (stop(i + 1) - stop(i));
    return 0;
}

static int is_stop(real t)
{
    for (int i = 0; i < N_STOPS; i++)
        if (stop(i) == t) return 1;
    return 0;
}

%end
/* The nearest time in front that a step must end on. */
static real target(const work *w)
{
    real to = w->t_last;
%if knots
    long next = w->dir > R0 ? w->segment + 1 : w->segment;
    if (next > 0 && next < n_knots(w->signal) - 1 && w->dir * (knot(w->signal, next) - to) < R0) to = knot(w->signal, next);
%end
%if stops
    to = next_stop(w->t, w->dir, to);
%end
    return to;
}

/* Where the next step ends. */
static void plan(work *w)
{
    real to = target(w);
%if adaptive
    if (w->step > R0) {
%end
        real next = w->origin + w->dir * (real)(w->count + 1) * w->step;
        w->t_new = w->dir * (to - next) <= NEARLY * w->step ? to : next;
%if adaptive
    } else {
        real most = w->max_step > R0 ? w->max_step : (real)INFINITY;
        real h = w->wanted > most ? most : w->wanted, reach = (real)1.05 * w->wanted, room = w->dir * (to - w->t);
        reach = reach > most ? most : reach;
        w->t_new = room <= reach ? to : w->t + w->dir * h;
        w->cut = h < w->wanted || (room <= reach && room < h);
    }
%end
    w->h = w->t_new - w->t;
%if stops
    w->crossing = crosses(w->t, w->t_new);
%end
}

%if adaptive
static real squared_error(const work *w, const real *e)
{
    real sum = R0;
    for (int c = 0; c < D; c++) {
        real s = R0, b = w->y_new[c], scale = w->atol[c] + w->rtol * larger(m_fabs(w->y[c]), m_fabs(b)) + TINY;
        for (int j = 0; j < N_ERROR; j++)
            if (e[j] != R0) s += e[j] * w->k[j][c];
        real q = w->h * s / scale + (b - b);
        sum += q * q;
    }
    return sum;
}

/* Whether the step is accepted; the next step size and the memory of the error (a PI controller). */
static int control(work *w)
{
    const real q = R1 / (real)(ERROR_ORDER + 1), beta = (real)0.2 * q, safety = m_log((real)0.9);
    real err = squared_error(w, E);
%if has_e2
    real den = err + (real)0.01 * squared_error(w, E2);
    err = den > R0 ? err * err / den : err;
%end
    err /= (real)D;
    w->err = err;
    real log_err = R05 * m_log(err > LEAST_ERROR ? err : LEAST_ERROR);
    real grow = m_exp(safety - (q - (real)0.75 * beta) * log_err + beta * w->memory);
    real shrink = m_exp(safety - q * log_err), h = m_fabs(w->h);
    real up = grow > (real)10 ? (real)10 : grow < (real)0.2 ? (real)0.2 : grow;
    real down = err == err ? shrink : (real)0.1;
    down = down < (real)0.2 ? (real)0.2 : down > (real)0.9 ? (real)0.9 : down;
    up = h * (w->again && up > R1 ? R1 : up);
    if (w->cut && !w->again && up < w->wanted) up = w->wanted;
%if stops
    int good = err <= R1 || (w->crossing && err < (real)INFINITY);
%end
%if !stops
    int good = err <= R1;
%end
    w->wanted = good ? up : h * down;
    if (good) w->memory = larger(log_err, LEAST_MEMORY);
    if (!good) w->again = 1;
    return good;
}

static real weighted_norm(const work *w, const real *x)
{
    real sum = R0;
    for (int c = 0; c < D; c++) {
        real q = x[c] / (w->atol[c] + w->rtol * m_fabs(w->y[c]) + TINY);
        sum += q * q;
    }
    return m_sqrt(sum / (real)D);
}

/* The first step (Hairer, Norsett, Wanner, Solving ODEs I, II.4). */
static void first_step(work *w)
{
    real z[D], k1[D], span = m_fabs(w->t_last - w->t), least = 16 * EPS * m_fabs(w->t), h;
    evaluate(w, w->t, w->y, w->k[0]);
    real d0 = weighted_norm(w, w->y), d1 = weighted_norm(w, w->k[0]);
    h = (d0 < (real)1e-5 || !(d1 >= (real)1e-5)) ? (real)1e-6 : (real)0.01 * d0 / d1;
    if (!(h > R0)) h = (real)1e-6;
    if (h < least) h = least;
    if (h > span) h = span;
    for (int c = 0; c < D; c++) z[c] = w->y[c] + w->dir * h * w->k[0][c];
    evaluate(w, w->t + w->dir * h, z, k1);
    for (int c = 0; c < D; c++) k1[c] -= w->k[0][c];
    real most = larger(d1, weighted_norm(w, k1) / h);
    real next = larger((real)1e-6, h * (real)1e-3);
    if (most > (real)1e-15) next = m_pow((real)10 / most, R1 / (real)(ERROR_ORDER + 1));
    w->wanted = next < 100 * h ? next : 100 * h;
    if (!(w->wanted > R0)) w->wanted = h;
    if (w->wanted < least) w->wanted = least;
    w->have = !IMPLICIT;
    w->evaluations = 2;
}

%end
/* Why no step can be taken, or @N@_OK. */
static @n@_status check(work *w, real span)
{
    if (w->attempts++ >= w->max_steps) return @N@_MAX_STEPS;
%if adaptive
    real least = 16 * EPS * larger(m_fabs(w->t), (real)1e-3 * span);
    if (w->again && w->step <= R0 && w->wanted < least) return w->err == w->err ? @N@_STEP_TOO_SMALL : @N@_NON_FINITE;
%end
%if !adaptive
    (void)span;
%end
    return w->h == R0 ? @N@_STEP_TOO_SMALL : @N@_OK;
}

/* One attempt: 1 where the step is accepted, 0 where a smaller one is tried, -1 where the state is not finite. */
static int attempt(work *w)
{
%if implicit
    linearise(w, w->h);
    stages(w, w->h, w->t_new, 0, S);
    w->evaluations += S;
%end
%if !implicit
    if (!w->have) {
        stages(w, w->h, w->t_new, 0, 1);
        w->evaluations++;
    }
    w->have = 1;
    stages(w, w->h, w->t_new, 1, S);
    w->evaluations += S - 1;
%end
    combine(w, w->h, S, w->y_new);
    w->evaluated = S;
%if adaptive
    if (w->step <= R0) {
%if error_uses_new
        stages(w, w->h, w->t_new, S, S + 1);
        w->evaluations++;
        w->evaluated = S + 1;
%end
        return control(w);
    }
%end
    for (int c = 0; c < D; c++)
        if (!finite_number(w->y_new[c])) return -1;
    return 1;
}

/* Dense output: what it needs of stages, and the coefficients of its polynomial. 0: they are not finite. */
static int interpolate(work *w)
{
%if dense_uses_new
    if (w->evaluated < STAGES) {
        w->evaluations += STAGES - w->evaluated;
        stages(w, w->h, w->t_new, w->evaluated, STAGES);
        w->evaluated = STAGES;
    }
%end
    for (int c = 0; c < D; c++) {
%if partitioned
        const real (*dense)[DEGREE] = c < D / 2 ? DENSE : DENSE2;
%end
%if !partitioned
        const real (*dense)[DEGREE] = DENSE;
%end
        for (int g = 0; g < DEGREE; g++) {
            real s = R0;
            for (int j = 0; j < N_DENSE; j++)
                if (dense[j][g] != R0) s += dense[j][g] * w->k[j][c];
            w->coef[g][c] = w->h * s;
            if (!finite_number(w->coef[g][c])) return 0;
        }
    }
    return 1;
}

/* The accepted step is taken. */
static void advance(work *w)
{
    for (int c = 0; c < D; c++) w->y[c] = w->y_new[c];
%if !implicit
    w->have = w->evaluated > S;
    for (int c = 0; w->have && c < D; c++) w->k[0][c] = w->k[S][c];
%end
    w->t = w->t_new;
    w->again = 0;
    w->steps++;
    w->count++;
%if stops
    if (is_stop(w->t)) w->origin = w->t, w->count = 0;
%end
%if knots
    next_segment(w);
%end
}

"""
