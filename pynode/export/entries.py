"""The functions of an exported file that callers call, in the form of `pynode.export.solver`."""

SOLVE = """\
/* ---- what callers call ---- */
void @n@_defaults(@n@_options *options)
{
    static const real atol[D] = {@ATOL@};
    options->step = @STEP@;
    options->rtol = @RTOL@;
    for (int c = 0; c < D; c++) options->atol[c] = atol[c];
    options->first_step = R0;
    options->max_step = R0;
    options->max_steps = @MAX_STEPS@;
}

static int bad_options(const @n@_options *o)
{
%if adaptive
    for (int c = 0; c < D; c++)
        if (!(o->atol[c] >= R0) || !finite_number(o->atol[c]) || (o->rtol <= R0 && o->atol[c] <= R0)) return 1;
    if (!(o->rtol >= R0 && o->rtol < R1 && o->first_step >= R0 && o->max_step >= R0 && o->step >= R0)) return 1;
    return !finite_number(o->step) || o->max_steps < 1;
%end
%if !adaptive
    return !(o->step > R0) || !finite_number(o->step) || o->max_steps < 1;
%end
}

/* A row of results, in the units of the caller. */
static void save_row(const real *z, real *row)
{
    for (int c = 0; c < D; c++) row[c] = from_units(z[c], c);
}

/* The save times that the accepted step covers; -1 where dense output is not finite. */
static long save_rows(work *w, const real *t, long n, long j, real *y)
{
    int known = 0;
    for (; j < n && before(to_time(t[j]), w->t_new, w->dir); j++) {
        real z[D], x = (to_time(t[j]) - w->t) / w->h;
        if (!known && !interpolate(w)) return -1;
        known = 1;
        for (int c = 0; c < D; c++) {
            real v = w->coef[DEGREE - 1][c];
            for (int g = DEGREE - 1; g-- > 0;) v = v * x + w->coef[g][c];
            z[c] = w->y[c] + x * v;
        }
        save_row(z, y + j * D);
    }
    for (; j < n && !before(w->t_new, to_time(t[j]), w->dir); j++) save_row(w->y_new, y + j * D);
    return j;
}

/* Checks of what the caller gave, and the start. */
static @n@_status start(work *w, const real *y0, const real *t, long n, const @n@_options *o)
{
    if (n < 1 || y0 == NULL || t == NULL || o == NULL || bad_options(o)) return @N@_BAD_ARGUMENT;
    w->t = to_time(t[0]);
    w->t_last = to_time(t[n - 1]);
    w->dir = w->t_last > w->t ? R1 : w->t_last < w->t ? -R1 : R0;
    for (long j = 0; j < n; j++)
        if (!finite_number(t[j]) || (j > 0 && (t[j] - t[j - 1]) * (w->dir == R0 ? R1 : w->dir) < R0))
            return @N@_BAD_ARGUMENT;
    for (int c = 0; c < D; c++) {
        w->y[c] = to_units(y0[c], c);
        if (!finite_number(w->y[c])) return @N@_BAD_ARGUMENT;
    }
    w->step = o->step / T_SCALE;
    w->origin = w->t;
%if adaptive
    w->rtol = o->rtol;
    for (int c = 0; c < D; c++) w->atol[c] = o->atol[c];
    w->wanted = o->first_step / T_SCALE;
    w->max_step = o->max_step / T_SCALE;
%end
    w->max_steps = o->max_steps;
    return @N@_OK;
}

@SOLVE_HEAD@
{
    work w = {0};
    @n@_status status = start(&w, y0, t, n, options);
    long j = 0;
    w.theta = @THETA@;
%if knots
    w.signal = @SIGNAL@;
    if (status == @N@_OK && bad_signal(w.signal, w.t < w.t_last ? w.t : w.t_last, larger(w.t, w.t_last)))
        status = @N@_BAD_INPUTS;
    if (status == @N@_OK) first_segment(&w, w.t);
%end
%if constant
    for (int c = 0; c < M; c++) w.u[c] = to_input(u[c], c);
%end
    real span = m_fabs(w.t_last - w.t);
    for (; status == @N@_OK && j < n && to_time(t[j]) == w.t; j++) save_row(w.y, y + j * D);
%if adaptive
    if (status == @N@_OK && j < n && w.step <= R0 && w.wanted <= R0) first_step(&w);
%end
    while (status == @N@_OK && j < n) {
        plan(&w);
        status = check(&w, span);
        if (status != @N@_OK) break;
        int accepted = attempt(&w);
        long next = accepted > 0 ? save_rows(&w, t, n, j, y) : j;
        if (accepted < 0 || next < 0) {
            status = @N@_NON_FINITE;
            break;
        }
        j = next;
        if (accepted) advance(&w);
        else w.rejected++;
    }
    for (long e = j * D; status != @N@_BAD_ARGUMENT && e < n * D; e++) y[e] = (real)NAN;
    if (stats != NULL) {
        stats->steps = w.steps;
        stats->rejected = w.rejected;
        stats->evaluations = w.evaluations;
        stats->t = w.t * T_SCALE + T_SHIFT;
    }
    return status;
}

@STEP_HEAD@
{
    work w = {0};
    w.theta = @THETA@;
    w.t = to_time(t);
    for (int c = 0; c < D; c++) w.y[c] = to_units(y[c], c);
%if inputs
    for (int c = 0; c < M; c++) w.u[c] = to_input(u[c], c);
%end
%if knots
    for (int c = 0; c < M; c++) w.input[c][0] = w.u[c];
%end
    w.h = h / T_SCALE;
    w.t_new = to_time(t + h);
%if implicit
    linearise(&w, w.h);
%end
    stages(&w, w.h, w.t_new, 0, S);
    combine(&w, w.h, S, w.y_new);
    for (int c = 0; c < D; c++)
        if (!finite_number(w.y_new[c])) return @N@_NON_FINITE;
    for (int c = 0; c < D; c++) y[c] = from_units(w.y_new[c], c);
    return @N@_OK;
}

@FIELD_HEAD@
{
    real z[D], v[M1];
    for (int c = 0; c < D; c++) z[c] = to_units(y[c], c);
%if inputs
    for (int c = 0; c < M; c++) v[c] = to_input(u[c], c);
%end
%if !inputs
    v[0] = R0;
%end
    field(to_time(t), z, v, @THETA@, dy);
    for (int c = 0; c < D; c++) dy[c] *= unit(y[c], c) / T_SCALE;
}
"""

VJP = """\

%if log
/* d unit / dy */
static real unit_slope(int c)
{
    return @UNIT_SLOPE@;
}

%end
static real weight(int i, int j, int c)
{
%if partitioned
    return (c < D / 2 ? A : A2)[i * (i - 1) / 2 + j];
%end
%if !partitioned
    (void)c;
    return A[i * (i - 1) / 2 + j];
%end
}

%if implicit
/* The transpose of solve_linear. */
static void solve_transposed(const work *w, real *b)
{
    for (int i = 0; i < D; i++) {
        for (int j = 0; j < i; j++) b[i] -= w->lu[j][i] * b[j];
        b[i] *= w->lu[i][i];
    }
    for (int i = D; i-- > 0;)
        for (int j = i + 1; j < D; j++) b[i] -= w->lu[j][i] * b[j];
    for (int k = D; k-- > 0;) {
        real x = b[w->swap[k]];
        b[w->swap[k]] = b[k];
        b[k] = x;
    }
}

/* W k = gamma (f + sum of couplings + b h df/dt) backwards: k_bar[i] becomes the cotangent of f, those of the stages before
   and of the Jacobian's entries are added to. */
static void solve_back(const work *w, real h, int i, real (*k_bar)[D], real *entries_bar)
{
    real *v = k_bar[i];
    solve_transposed(w, v);
    for (int c = 0; c < D; c++) v[c] *= GAMMA;
    for (int j = 0; j < i; j++)
        for (int c = 0; c < D; c++) k_bar[j][c] += COUPLING[i * (i - 1) / 2 + j] * v[c];
    for (int e = 0; e < ON_PATTERN; e++) entries_bar[e] += h * v[ROW[e]] * w->k[i][COLUMN[e]];
    for (int c = 0; ENTRIES > ON_PATTERN && c < D; c++) entries_bar[(ON_PATTERN + c) % ENTRIES] += BY_T[i] * h * v[c];
}

%end
@VJP_HEAD@
{
    real z[D], v[M1], seed[D], f[D], gz[D] = {R0}, gt[1] = {R0}, gv[M1] = {R0};
    for (int c = 0; c < D; c++) {
        z[c] = to_units(y[c], c);
        seed[c] = s[c] * unit(y[c], c) / T_SCALE;
    }
%if inputs
    for (int c = 0; c < M; c++) v[c] = to_input(u[c], c);
%end
%if !inputs
    v[0] = R0;
%end
    field_vjp(to_time(t), z, v, @THETA@, seed, f, gz, gt, gv, g_theta);
    for (int c = 0; c < D; c++) g_y[c] = gz[c] / unit(y[c], c);
%if log
    for (int c = 0; c < D; c++) g_y[c] += s[c] * unit_slope(c) * f[c] / T_SCALE;
%end
%if inputs
    for (int c = 0; c < M; c++) g_u[c] = gv[c] / U_SCALE[c];
%end
    *g_t = gt[0] / T_SCALE;
}

@STEP_VJP_HEAD@
{
    work w = {0};
    real z[D], f[D], lambda[D], k_bar[STAGES][D], gz[D];
    w.theta = @THETA@;
    w.t = to_time(t);
    for (int c = 0; c < D; c++) w.y[c] = to_units(y[c], c);
%if inputs
    for (int c = 0; c < M; c++) w.u[c] = to_input(u[c], c);
    for (int c = 0; c < M; c++) g_u[c] = R0;
%end
%if knots
    for (int c = 0; c < M; c++) w.input[c][0] = w.u[c];
%end
    real step = h / T_SCALE, t_new = to_time(t + h);
%if implicit
    real entries[ENTRIES], entries_bar[ENTRIES] = {R0};
    linearise(&w, step);
%end
    stages(&w, step, t_new, 0, S);
    combine(&w, step, S, w.y_new);
    for (int c = 0; c < D; c++) {
        lambda[c] = s[c] * unit(from_units(w.y_new[c], c), c);
        for (int i = 0; i < S; i++) k_bar[i][c] = step * weight(S, i, c) * lambda[c];
    }
    for (int i = S; i-- > 0;) {
        real gt[1] = {R0}, gv[M1] = {R0};
        for (int c = 0; c < D; c++) z[c] = w.y[c], gz[c] = R0;
        if (i > 0) combine(&w, step, i, z);
%if implicit
        solve_back(&w, step, i, k_bar, entries_bar);
%end
        field_vjp(C[i] == R1 ? t_new : w.t + C[i] * step, z, w.u, w.theta, k_bar[i], f, gz, gt, gv, g_theta);
        for (int c = 0; c < D; c++) {
            lambda[c] += gz[c];
            for (int j = 0; j < i; j++) k_bar[j][c] += step * weight(i, j, c) * gz[c];
        }
%if inputs
        for (int c = 0; c < M; c++) g_u[c] += gv[c] / U_SCALE[c];
%end
    }
%if implicit
    real gt[1] = {R0}, gv[2 * M1] = {R0}, u_and_rate[2 * M1] = {R0};
    for (int c = 0; c < M1; c++) u_and_rate[c] = w.u[c];
    for (int c = 0; c < D; c++) gz[c] = R0;
    jacobian_vjp(w.t, w.y, u_and_rate, w.theta, entries_bar, entries, gz, gt, gv, g_theta);
    for (int c = 0; c < D; c++) lambda[c] += gz[c];
%if inputs
    for (int c = 0; c < M; c++) g_u[c] += gv[c] / U_SCALE[c];
%end
%end
    for (int c = 0; c < D; c++) g_y[c] = lambda[c] / unit(y[c], c);
}
"""
