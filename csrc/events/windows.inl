/* Where an event function first changes its side within a step, on the dense output p (of degree 3 and more: cubic where the
   method has none).

   g(theta) = g_e(t + theta h, p(theta)) is known at equidistant probes, five for p of degree 4 at most, else nine. On a *window*
   of five of them the quartic through them has Bernstein coefficients b_0 .. b_4. Where these have one sign it has no root, where they
   rise or fall throughout it has one at most (Lane & Riesenfeld 1981, BIT 21). The margin

       m = 0.1 max |third differences| + 0.2 max |fourth differences|

   is for what the quartic misses: where g_e is linear in (t, y) and p of degree 7, |g - quartic| <= 0.19 max |fourth differences| (linear
   programs over polynomials of degree 7, nine probes, both windows); up to degree 4 the quartic is g; sin(w theta) stays within it up to
   w = 8 a window. A window of one root at most is decided by its ends. Another is cut into halves, the first of them first, until it is as
   short as PN_WINDOW of the step, or the splits are used up: then its probes decide. */

#define PN_WINDOW (1.0 / 256) /* of a step: four intervals of 1/1024, the resolution that docs/guide.md promises */

/* Halvings in one step, of one event; windows that wait: one at each of 8 halvings, and a half of the step. */
enum { FN(SPLITS) = 64, FN(LATER) = 10 };

static inline int FN(sign)(double x) { return (x > 0) - (x < 0); }

typedef struct FN(window) {
    double at, width, margin, g[5];
    int known; /* also at the odd probes */
} FN(window);

typedef struct FN(hunt) { /* the first crossing of one event in the lane's step */
    FN(window) now, later[FN(LATER)];
    int waiting, splits, open;
    int side, direction, from; /* at present; that counts; before the crossing */
    double lo, hi;             /* the last probe on the present side, and where it is left: 0 is not at all */
    double zero;               /* a probe behind lo at which g is 0, or -1 */
    double flip;               /* lo of the first change in the other direction, or 2 */
    double noise;              /* values up to this on the other side are rounding, while none has been on the present one */
} FN(hunt);

/* Whether g, probes + 1 rows of L numbers, `stride` apart, stays on its side in every lane that is watched. Else `tense` says in which
   it may not, and `margin` has m. */
static int FN(is_calm)(const T *g, size_t stride, int probes, const T *side, const unsigned char *watched, T *margin,
                       unsigned char *tense) {
    T third[L], fourth[L], before[L], least[L];
    int some = 0;
    for (int l = 0; l < L; l++)
        third[l] = fourth[l] = before[l] = 0, least[l] = side[l] * g[stride * (size_t)probes + (size_t)l];
    for (int k = 3; k <= probes; k++) {
        const T *q = g + stride * (size_t)k;
        for (int l = 0; l < L; l++) {
            T d3 = q[l] - q[l - (ptrdiff_t)(3 * stride)] - 3 * (q[l - (ptrdiff_t)stride] - q[l - (ptrdiff_t)(2 * stride)]),
              a = d3 < 0 ? -d3 : d3;
            T d4 = k > 3 ? d3 - before[l] : 0, b = d4 < 0 ? -d4 : d4;
            third[l] = a > third[l] ? a : third[l];
            fourth[l] = b > fourth[l] ? b : fourth[l];
            before[l] = d3;
        }
    }
    for (int k = 0; k < probes; k += 4) {
        const T *q0 = g + stride * (size_t)k, *q1 = q0 + stride, *q2 = q1 + stride, *q3 = q2 + stride, *q4 = q3 + stride;
        for (int l = 0; l < L; l++) {
            T outer = -3 * (q0[l] + q4[l]), low = (48 * q1[l] + 16 * q3[l] - 36 * q2[l] - 10 * q0[l] + outer) / 12;
            T high = (16 * q1[l] + 48 * q3[l] - 36 * q2[l] - 10 * q4[l] + outer) / 12;
            T mid = (13 * (q0[l] + q4[l]) - 64 * (q1[l] + q3[l]) + 120 * q2[l]) / 18;
            least[l] = side[l] * low < least[l] ? side[l] * low : least[l];
            least[l] = side[l] * mid < least[l] ? side[l] * mid : least[l];
            least[l] = side[l] * high < least[l] ? side[l] * high : least[l];
            if (k + 4 < probes) least[l] = side[l] * q4[l] < least[l] ? side[l] * q4[l] : least[l];
        }
    }
    for (int l = 0; l < L; l++) {
        margin[l] = (T)0.1 * third[l] + (T)0.2 * fourth[l];
        tense[l] = (unsigned char)(watched[l] & !(least[l] > margin[l]));
        some |= tense[l];
    }
    return !some;
}

/* The margin of a window by itself, not below `least`. */
static double FN(margin_of)(const double *g, double least) {
    double first = g[3] - g[0] - 3 * (g[2] - g[1]), second = g[4] - g[1] - 3 * (g[3] - g[2]);
    double m = 0.1 * fmax(fabs(first), fabs(second)) + 0.2 * fabs(second - first);
    return m > least ? m : least;
}

/* Whether g has one root at most in the window: the coefficients, g being on `side` before, do not change their sign, or rise or fall
   throughout, by so much that what the quartic misses cannot change it: as a difference of coefficients, its slope errs by 1.33 max
   |fourth differences| at most. */
enum { FN(SLOPE) = 7 };
static int FN(is_simple)(const FN(window) * w, int side) {
    const double *g = w->g, m = w->margin;
    double b[5] = {g[0], (48 * g[1] + 16 * g[3] - 36 * g[2] - 13 * g[0] - 3 * g[4]) / 12,
                   (13 * (g[0] + g[4]) - 64 * (g[1] + g[3]) + 120 * g[2]) / 18,
                   (16 * g[1] + 48 * g[3] - 36 * g[2] - 3 * g[0] - 13 * g[4]) / 12, g[4]};
    double least = side * g[4], rise = b[1] - b[0], up = rise, down = rise;
    for (int k = 1; k < 4; k++) {
        least = side * b[k] - m < least ? side * b[k] - m : least;
        rise = b[k + 1] - b[k];
        up = rise < up ? rise : up;
        down = rise > down ? rise : down;
    }
    return least > 0 || up > FN(SLOPE) * m || down < -FN(SLOPE) * m;
}

/* Go over the probes of the present window. 1: a change that counts lies between lo and hi. */
static int FN(walk)(FN(hunt) * s) {
    const FN(window) *w = &s->now;
    for (int k = 0; k < 5; k++) {
        double x = w->at + 0.25 * k * w->width, g = w->g[k];
        int now = FN(sign)(g);
        if ((x == 0 && s->side != 0) || g != g) continue; /* at the beginning the side is given, g may be 0 by rounding */
        if (now == 0) {
            if (s->zero < 0) s->zero = x;
            continue;
        }
        if (now == -s->side && fabs(g) <= s->noise) continue;
        s->noise = 0;
        if (s->side != 0 && now != s->side) {
            if (s->direction == 0 || s->direction == now) {
                s->hi = s->zero >= 0 ? s->zero : x;
                s->from = s->side;
                return 1;
            }
            if (s->flip > 1) s->flip = s->lo;
        }
        s->side = now;
        s->lo = x;
        s->zero = -1;
    }
    return 0;
}

/* Go on until a window is to be probed (open), or all is known. */
static void FN(proceed)(FN(hunt) * s) {
    for (;;) {
        FN(window) *w = &s->now;
        if (w->width > PN_WINDOW && s->splits < FN(SPLITS) && !FN(is_simple)(w, s->side)) {
            double half = 0.5 * w->width, margin = 0.125 * w->margin; /* the quartic's error falls by 32 */
            s->later[s->waiting++] = (FN(window)){w->at + half, half, margin, {w->g[2], 0, w->g[3], 0, w->g[4]}, 0};
            *w = (FN(window)){w->at, half, margin, {w->g[0], 0, w->g[1], 0, w->g[2]}, 0};
            s->splits++;
            return;
        }
        s->open = 0;
        if (FN(walk)(s)) return;
        if (!s->waiting) { /* g is 0 at the end of the step: it happens there */
            if (s->side == 0 || w->g[4] != 0 || (s->direction != 0 && s->direction == s->side)) return;
            s->hi = s->zero;
            s->from = s->side;
            return;
        }
        *w = s->later[--s->waiting];
        s->open = 1;
        if (!w->known) return;
    }
}
