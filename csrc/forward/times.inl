/* The save times of a sample, whether its states jump there, and the segments of its input between knots. */

static inline int has_jumps(const pn_problem *P) { return PN_JUMPS && P->jump.program; }
static inline int64_t n_times(const pn_problem *P, int64_t i) { return P->t_len[i]; }
static inline double time_of(const pn_problem *P, int64_t i, int64_t j) { return P->t[P->t_start[i] + j]; }

/* The last segment of a sample's input that begins at t or before, or the first. Guessed as if knots were evenly spaced, and found
   from there by steps that double, and by halving. */
static int32_t segment_at(const pn_problem *P, int64_t i, double t) {
    const double *knot = P->knot + P->knot_start[i];
    int64_t n = P->knot_len[i] - 1;
    double place = (t - knot[0]) / (knot[n] - knot[0]) * (double)n;
    int64_t low = place >= (double)n ? n - 1 : place > 0 ? (int64_t)place : 0, high = low + 1, reach = 1;
    for (; low > 0 && knot[low] > t; reach *= 2) high = low, low = low > reach ? low - reach : 0;
    for (; high < n && knot[high] <= t; reach *= 2) low = high, high = n - high > reach ? high + reach : n;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (knot[middle] <= t) low = middle;
        else high = middle;
    }
    return (int32_t)low;
}

static inline int crosses_knots(const pn_problem *P, int64_t i) { return P->cross_knots && P->cross_knots[i]; }

/* The segment of a step that leaves time t in direction dir. */
static int32_t first_segment(const pn_problem *P, int64_t i, double t, double dir) {
    if (P->degree < 0) return 0;
    int32_t seg = segment_at(P, i, t);
    return dir < 0 && seg > 0 && P->knot[P->knot_start[i] + seg] == t ? seg - 1 : seg;
}
