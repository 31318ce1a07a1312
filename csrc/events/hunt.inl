/* The hunt for the first crossing of one event in the step of one lane, from one window of probes to the next; see windows.inl. */

#define PN_WINDOW (1.0 / 256) /* of a step: four intervals of 1/1024, the resolution that docs/guide.md promises */

/* Halvings in one step, of one event; windows that wait: one at each of 8 halvings, and a half of the step. */
enum { PN_SPLITS = 64, PN_LATER = 10 };

enum { PN_SECANTS = 12 }; /* towards one root of the step itself: near a simple one far fewer do */

typedef struct window {
    double at, width, margin, g[5];
    int known; /* also at the odd probes */
} window;

typedef struct hunt { /* the first crossing of one event in the lane's step */
    window now, later[PN_LATER];
    int waiting, splits, open;
    int side, direction, from; /* at present; that counts; before the crossing */
    double lo, hi;             /* the last probe on the present side, and where it is left: 0 is not at all */
    double zero;               /* a probe behind lo at which g is 0, or -1 */
    double flip;               /* lo of the first change in the other direction, or 2 */
    double noise;              /* values up to this on the other side are rounding, while none has been on the present one */
    int been;                  /* whether one has been on the present side */
} hunt;

static inline int sign(double x) { return (x > 0) - (x < 0); }

/* The margin of a window by itself, not below `least`. */
static double margin_of(const double *g, double least) {
    double first = g[3] - g[0] - 3 * (g[2] - g[1]), second = g[4] - g[1] - 3 * (g[3] - g[2]);
    double m = 0.1 * fmax(fabs(first), fabs(second)) + 0.2 * fabs(second - first);
    return m > least ? m : least;
}

/* Whether g has one root at most in the window: the coefficients, g being on `side` before, do not change their sign, or rise or fall
   throughout, by so much that what the quartic misses cannot change it: as a difference of coefficients, its slope errs by 1.33 max
   |fourth differences| at most. */
enum { PN_SLOPE = 7 };
static int is_simple(const window *w, int side) {
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
    return least > 0 || up > PN_SLOPE * m || down < -PN_SLOPE * m;
}

/* Go over the probes of the present window. 1: a change that counts lies between lo and hi. */
static int walk(hunt *s) {
    const window *w = &s->now;
    for (int k = 0; k < 5; k++) {
        double x = w->at + 0.25 * k * w->width, g = w->g[k];
        int now = sign(g);
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
        s->been = 1;
        s->lo = x;
        s->zero = -1;
    }
    return 0;
}

/* Go on until a window is to be probed (open), or all is known. */
static void proceed(hunt *s) {
    for (;;) {
        window *w = &s->now;
        if (w->width > PN_WINDOW && s->splits < PN_SPLITS && !is_simple(w, s->side)) {
            double half = 0.5 * w->width, margin = 0.125 * w->margin; /* the quartic's error falls by 32 */
            s->later[s->waiting++] = (window){w->at + half, half, margin, {w->g[2], 0, w->g[3], 0, w->g[4]}, 0};
            *w = (window){w->at, half, margin, {w->g[0], 0, w->g[1], 0, w->g[2]}, 0};
            s->splits++;
            return;
        }
        s->open = 0;
        if (walk(s)) return;
        if (!s->waiting) { /* g is 0 at the end of the step: it happens there */
            if (s->side == 0 || !s->been || w->g[4] != 0 || (s->direction != 0 && s->direction == s->side)) return;
            s->hi = s->zero;
            s->from = s->side;
            return;
        }
        *w = s->later[--s->waiting];
        s->open = 1;
        if (!w->known) return;
    }
}
