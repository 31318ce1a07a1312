/* The tests of test_windows.c for one precision and number of lanes. */
#include "instances/generic.h"
#include "events/windows.inl"

/* Polynomials of degree 4 through five probes, on windows of a step of 4 or 8 intervals: calm or tense as the coefficients by the book
   say, with the largest third and fourth differences. */
static void FN(calm)(int probes) {
    enum { MOST = 9, STRIDE = 2 };
    T g[MOST * STRIDE * L], side[L], margin[L];
    unsigned char watched[L], tense[L];
    memset(g, 0, sizeof g);
    int some = 0;
    for (size_t l = 0; l < L; l++) {
        const double level = 2 * uniform(), slope = uniform(), bend = uniform(), rest = 0.3 * uniform();
        side[l] = (T)(level < 0 ? -1 : 1), watched[l] = l % 3 != 2, tense[l] = 7;
        for (int k = 0; k <= probes; k++) {
            const double x = (double)k / probes;
            g[(size_t)k * STRIDE * L + l] = (T)(level + x * (slope + x * (bend + rest * x * (1 - x))));
        }
    }
    const int calm = FN(is_calm)(g, STRIDE * L, probes, side, watched, margin, tense);
    for (size_t l = 0; l < L; l++) {
        double x[MOST], third = 0, fourth = 0, least = INFINITY, b[5];
        for (int k = 0; k <= probes; k++) x[k] = (double)g[(size_t)k * STRIDE * L + l];
        for (int k = 0; k + 3 <= probes; k++) {
            const double d = x[k + 3] - 3 * x[k + 2] + 3 * x[k + 1] - x[k];
            third = fmax(third, fabs(d));
            if (k > 0) fourth = fmax(fourth, fabs(d - (x[k + 2] - 3 * x[k + 1] + 3 * x[k] - x[k - 1])));
        }
        for (int k = 0; k < probes; k += 4) {
            coefficients(x + k, b);
            for (int q = k ? 0 : 1; q < 5; q++) least = fmin(least, (double)side[l] * b[q]); /* the first probe is known */
        }
        const double m = 0.1 * third + 0.2 * fourth, size = sizeof(T) == 4 ? 1e-5 : 1e-13;
        CHECKF(fabs((double)margin[l] - m) < size, "margin %g, not %g", (double)margin[l], m);
        if (fabs(least - m) < size) continue;
        CHECKF(tense[l] == (watched[l] && !(least > m)), "probes %d, lane %d: least %g, margin %g: %d", probes, (int)l, least,
               m, tense[l]);
        some |= tense[l];
    }
    CHECK(calm == !some);
}

/* One window: simple or not by the book. */
static void FN(simple)(void) {
    window w = {.at = 0, .width = 1, .margin = 0.01 * (1 + uniform())};
    const double level = uniform(), slope = 3 * uniform(), bend = uniform(), rest = uniform();
    double b[5], up = INFINITY, down = -INFINITY;
    for (int k = 0; k < 5; k++) {
        const double x = 0.25 * k;
        w.g[k] = level + x * (slope + x * (bend + rest * x * (1 - x)));
    }
    const int side = level < 0 ? -1 : 1, ends = uniform() > 0.5; /* at 0: it may cross there */
    for (int k = 0; ends && k < 5; k++) w.g[k] -= w.g[4];
    coefficients(w.g, b);
    if (ends) b[4] = 0;
    double least = side * b[4];
    for (int k = 1; k < 4; k++) least = fmin(least, side * b[k] - w.margin);
    for (int k = 0; k < 4; k++) up = fmin(up, b[k + 1] - b[k]), down = fmax(down, b[k + 1] - b[k]);
    const double near =
        fmin(ends && least > -1e-12 ? 1 : fabs(least), fmin(fabs(up - 7 * w.margin), fabs(down + 7 * w.margin)));
    if (near > 1e-12)
        CHECKF(is_simple(&w, side) == ((least > 0 && !ends) || up > 7 * w.margin || down < -7 * w.margin),
               "%g %g %g, margin %g", least, up, down, w.margin);
    const double *g = w.g, d0 = g[3] - 3 * g[2] + 3 * g[1] - g[0], d1 = g[4] - 3 * g[3] + 3 * g[2] - g[1];
    const double m = 0.1 * fmax(fabs(d0), fabs(d1)) + 0.2 * fabs(d1 - d0);
    CHECK(fabs(margin_of(g, 0) - m) < 1e-14 && margin_of(g, 1 + m) == 1 + m);
}

/* Hunts on functions whose roots are known, with probes where they are asked for. */
static void FN(hunts)(void) {
    for (int direction = -1; direction <= 1; direction++)
        for (int windows = 1; windows <= 2; windows++)
            for (int tries = 0; tries < 200; tries++) {
                const double first = 0.5 + 0.5 * uniform(), second = 0.5 + 0.5 * uniform();
                if (fabs(first - second) < 0.01) continue; /* closer than the resolution */
                const double lo = fmin(first, second), hi = fmax(first, second), sign = tries % 2 ? 1 : -1;
                hunt s = {.side = (int)sign, .direction = direction, .flip = 2, .zero = -1, .open = 1};
                for (int k = windows - 1; k >= 0; k--) {
                    window *w = k ? &s.later[s.waiting++] : &s.now;
                    *w = (window){.at = (double)k / windows, .width = 1.0 / windows, .margin = 1, .known = 1};
                    for (int j = 0; j < 5; j++) {
                        const double x = w->at + 0.25 * j * w->width;
                        w->g[j] = sign * (x - lo) * (x - hi);
                    }
                }
                proceed(&s);
                for (int asked = 0; s.open; asked++) {
                    CHECK(asked < 70);
                    for (int j = 1; j < 4; j += 2) {
                        const double x = s.now.at + 0.25 * j * s.now.width;
                        s.now.g[j] = sign * (x - lo) * (x - hi);
                    }
                    s.now.margin = margin_of(s.now.g, s.now.margin);
                    proceed(&s);
                }
                const double want =
                    direction == 0 || direction == -(int)sign ? lo : hi; /* falls at lo where it is positive before */
                CHECKF(s.hi >= want && s.lo <= want && s.hi - s.lo <= 0.5 && s.from == (want == lo ? (int)sign : -(int)sign),
                       "direction %d, %d windows, roots %g %g: %g to %g, from %d", direction, windows, lo, hi, s.lo, s.hi,
                       s.from);
                CHECKF(want == lo ? s.flip == 2 : s.flip <= lo && lo - s.flip <= 0.5, "flip %g", s.flip);
            }
}

/* A function that is never simple is cut down to the shortest window at its beginning, and until all splits are used up. */
static void FN(endless)(double floor, int splits) {
    hunt s = {.side = 1, .flip = 2, .zero = -1, .open = 1, .now = {.width = 1, .margin = 1e9, .known = 1}};
    double least = 1;
    for (int j = 0; j < 5; j++) s.now.g[j] = floor;
    proceed(&s);
    for (int asked = 0; s.open && asked < 999; asked++) {
        least = fmin(least, s.now.width);
        s.now.margin = floor;
        for (int j = 1; j < 4; j += 2) s.now.g[j] = floor * (2 + sin(1e5 * (double)asked));
        proceed(&s);
    }
    CHECKF(!s.open && s.splits == splits && least == PN_WINDOW && s.hi == 0, "%d splits, down to %g", s.splits, least);
}

static void FN(all)(void) {
    FN(endless)(1, PN_SPLITS);

    for (int tries = 0; tries < 500; tries++) FN(calm)(4), FN(calm)(8), FN(simple)();
    FN(hunts)();
}
#include "instances/generic_end.h"
