/* The plan of a step: where it is to end. Steps end on save times that land, on jumps, on knots of the input, on stops and on
   the times of a prescribed grid. */

/* Whether time a lies before b, where dir leads, and is not the same but for rounding. */
static inline int FN(before)(double a, double b, double dir) {
    double size = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
    return dir * (b - a) > 8.9e-16 * size;
}

/* Whether a step that ends at save time j of the sample belongs there, and moves along with it. */
static inline int FN(lands)(const pn_problem *P, int64_t i, int32_t j) {
    return !has_jumps(P) || P->land || j == n_times(P, i) - 1 || FN(has_data)(&P->jump, P->row[i] + j);
}

/* The next save time that jumps, or the last time. */
static double FN(next_jump)(const pn_problem *P, FN(flow) * f, int l) {
    int64_t i = f->sample[l], last = n_times(P, i) - 1;
    int32_t j = f->jump_at[l] > f->save[l] ? f->jump_at[l] : f->save[l];
    while (j < last && !FN(has_data)(&P->jump, P->row[i] + j)) j++;
    f->jump_at[l] = j;
    return time_of(P, i, j);
}

/* How many stops are not later than t. */
static int64_t FN(stops_until)(const pn_problem *P, double t) {
    int64_t low = 0, high = P->n_stops;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (P->stops[middle] <= t)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The next stop that is not where the lane is, or `to` if that comes first. */
static double FN(next_stop)(const pn_problem *P, double t, double dir, double to) {
    int64_t i = FN(stops_until)(P, t);
    if (dir > 0) {
        while (i < P->n_stops && !FN(before)(t, P->stops[i], dir)) i++;
        return i < P->n_stops && P->stops[i] < to ? P->stops[i] : to;
    }
    while (i > 0 && !FN(before)(t, P->stops[i - 1], dir)) i--;
    return i > 0 && P->stops[i - 1] > to ? P->stops[i - 1] : to;
}

/* Whether a step lies inside a pair of stops, but for rounding. */
static int FN(crosses)(const pn_problem *P, double t, double t_new) {
    int64_t i = FN(stops_until)(P, 0.5 * (t + t_new));
    return i % 2 == 1 && fabs(t_new - t) <= 2 * (P->stops[i] - P->stops[i - 1]);
}

static int FN(is_stop)(const pn_problem *P, double t) {
    int64_t i = FN(stops_until)(P, t);
    return i > 0 && P->stops[i - 1] == t;
}

/* The nearest time in front that the lane must land on. */
static double FN(target)(const pn_problem *P, FN(flow) * f, int l) {
    int64_t i = f->sample[l];
    double dir = f->dir[l], to = P->land           ? time_of(P, i, f->save[l])
                                 : has_jumps(P) ? FN(next_jump)(P, f, l)
                                                   : f->t_last[l];
    if (P->degree >= 0 && !crosses_knots(P, i)) {
        int32_t next = dir > 0 ? f->seg[l] + 1 : f->seg[l];
        double knot = P->knot[P->knot_start[i] + next];
        if (next > 0 && next < P->knot_len[i] - 1 && dir * (knot - to) < 0) to = knot;
    }
    return P->n_stops ? FN(next_stop)(P, f->t[l], dir, to) : to;
}

#define PN_REACH 1.05 /* a step that ends within 5% of a time to land on is stretched to it */

/* Where the steps of an adaptive method end, unless they are cut: as far as the control wants, or at `to`. */
static void FN(plan_adaptive)(const pn_problem *P, FN(flow) * f, const double *to) {
    double most = P->max_step > 0 ? P->max_step : INFINITY;
    for (int l = 0; l < L; l++) {
        double wanted = f->c0[l], h = wanted > most ? most : wanted, reach = PN_REACH * wanted,
               room = f->dir[l] * (to[l] - f->t[l]);
        double end = to[l], far = f->t[l] + f->dir[l] * h;
        reach = reach > most ? most : reach;
        f->t_new[l] = room <= reach ? end : far;
        f->cut[l] = (h < wanted) | ((room <= reach) & (room < h));
    }
}

/* Where the fixed step of lane l ends: step number c1 + 1 from c0, but at `to` if it is nearly there. */
static inline double FN(fixed_end)(const pn_problem *P, const FN(flow) * f, int l, double to) {
    double next = f->c0[l] + f->dir[l] * (f->c1[l] + 1) * P->step;
    return f->dir[l] * (to - next) <= 1e-9 * P->step ? to : next;
}

/* t_new and h of every live lane; a lane that cannot move gets t_new == t. */
static void FN(plan)(const FN(work) * W, FN(flow) * f) {
    const pn_problem *P = W->P;
    double to[L];
    int watch = P->land || has_jumps(P) || W->knots || P->n_stops; /* more than the last time */
    for (int l = 0; l < L; l++) to[l] = f->t_last[l];
    for (int l = 0; (P->grid || watch) && l < W->lanes; l++) {
        if (!f->live[l]) continue;
        if (P->grid)
            f->t_new[l] = P->grid[P->grid_start[f->sample[l]] + f->grid[l] + 1];
        else
            to[l] = FN(target)(P, f, l);
    }
    if (P->adaptive)
        FN(plan_adaptive)(P, f, to);
    else if (!P->grid)
        for (int l = 0; l < L; l++) f->t_new[l] = FN(fixed_end)(P, f, l, to[l]);
    for (int l = 0; l < L; l++) {
        f->t_new[l] = f->live[l] ? f->t_new[l] : f->t[l];
        f->h[l] = f->t_new[l] - f->t[l];
    }
    for (int l = 0; P->n_stops && l < L; l++) f->crossing[l] = (unsigned char)FN(crosses)(P, f->t[l], f->t_new[l]);
}
