/* Patterns: checks, the order of elimination, and what fills in. */
#include "solve/pattern.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FEW = 4,        /* so many equations are solved as full matrices, see kernels/lu.inl */
    MOST = 1 << 13, /* of them */
};
#define FULL 0.7 /* with more than this share of entries, factors are full matrices */

/* Sets of 0 .. d - 1, one a row. */
typedef struct sets {
    size_t words;
    uint64_t *bits;
} sets;

static uint64_t *word(const sets *s, int32_t i, int32_t j) { return s->bits + (size_t)i * s->words + (uint32_t)j / 64; }
static uint64_t bit(int32_t j) { return (uint64_t)1 << (uint32_t)j % 64; }
static int has(const sets *s, int32_t i, int32_t j) { return (*word(s, i, j) & bit(j)) != 0; }
static void put(sets *s, int32_t i, int32_t j) { *word(s, i, j) |= bit(j); }
static void drop(sets *s, int32_t i, int32_t j) { *word(s, i, j) &= ~bit(j); }
static void unite(sets *s, int32_t i, int32_t j) { /* i with j */
    for (size_t w = 0; w < s->words; w++) s->bits[(size_t)i * s->words + w] |= s->bits[(size_t)j * s->words + w];
}
static int32_t count(const sets *s, int32_t i) {
    int32_t n = 0;
    for (size_t w = 0; w < s->words; w++) n += __builtin_popcountll(s->bits[(size_t)i * s->words + w]);
    return n;
}
/* The first member from j on, or -1. */
static int32_t next(const sets *s, int32_t i, int32_t j) {
    for (size_t w = (size_t)j / 64; w < s->words; w++) {
        uint64_t rest = s->bits[(size_t)i * s->words + w];
        if (w == (size_t)j / 64) rest &= ~(uint64_t)0 << ((uint32_t)j % 64);
        if (rest) return (int32_t)(64 * w) + __builtin_ctzll(rest);
    }
    return -1;
}
#define EACH_OF(s, i, j) for (int32_t j = next(s, i, 0); j >= 0; j = next(s, i, j + 1))

typedef struct maker {
    pn_pattern *p;
    sets W;                           /* rows of W by equations, then by the components that they are solved for */
    sets rows, cols;                  /* at work */
    int32_t *order, *other, *scratch; /* (d) */
    int32_t *in_row, *in_col;         /* (d) entries */
} maker;

/* ---- which equation belongs to which component -------------------------------------------------------------------------- */
/* An equation for component c, by a path that changes those of others (Kuhn); `seen` are equations tried. */
static int augment(maker *m, int32_t c, int32_t *owner, sets *seen) {
    for (int32_t r = 0; r < m->p->d; r++) {
        if (!has(&m->W, r, c) || has(seen, 0, r)) continue;
        put(seen, 0, r);
        if (owner[r] >= 0 && !augment(m, owner[r], owner, seen)) continue;
        owner[r] = c;
        m->p->equation[c] = r;
        return 1;
    }
    return 0;
}

/* 0: there is no such matching, W is singular whatever its entries are. */
static int match(maker *m) {
    int32_t d = m->p->d, *owner = m->other, ok = 1;
    for (int32_t c = 0; c < d; c++) owner[c] = m->p->equation[c] = has(&m->W, c, c) ? c : -1;
    for (int32_t c = 0; ok && c < d; c++) {
        if (m->p->equation[c] >= 0) continue;
        memset(m->rows.bits, 0, m->rows.words * sizeof(uint64_t));
        ok = augment(m, c, owner, &m->rows);
    }
    for (int32_t c = 0; ok && c < d; c++) m->p->exchanged |= m->p->equation[c] != c;
    for (int32_t c = 0; ok && c < d; c++)
        memcpy(m->rows.bits + (size_t)c * m->W.words, m->W.bits + (size_t)m->p->equation[c] * m->W.words,
               m->W.words * sizeof(uint64_t));
    if (ok) memcpy(m->W.bits, m->rows.bits, (size_t)d * m->W.words * sizeof(uint64_t));
    return ok;
}

/* ---- orders ------------------------------------------------------------------------------------------------------------------ */
static void work_sets(maker *m) {
    size_t bytes = (size_t)m->p->d * m->W.words * sizeof(uint64_t);
    memcpy(m->rows.bits, m->W.bits, bytes);
    memset(m->cols.bits, 0, bytes);
    for (int32_t r = 0; r < m->p->d; r++) EACH_OF(&m->W, r, c) put(&m->cols, c, r);
}

/* Markowitz (1957), on the diagonal: next is the unknown with the least (entries of its row - 1) (entries of its column - 1). */
static void order_by_fill(maker *m, int32_t *order) {
    int32_t d = m->p->d;
    work_sets(m);
    for (int32_t c = 0; c < d; c++) m->scratch[c] = 0, m->in_row[c] = count(&m->rows, c), m->in_col[c] = count(&m->cols, c);
    for (int32_t k = 0; k < d; k++) {
        int32_t best = -1;
        int64_t least = INT64_MAX;
        for (int32_t c = 0; c < d; c++) {
            int64_t cost = (int64_t)(m->in_row[c] - 1) * (m->in_col[c] - 1);
            if (!m->scratch[c] && cost < least) least = cost, best = c;
        }
        order[k] = best;
        m->scratch[best] = 1;
        EACH_OF(&m->cols, best, r) drop(&m->rows, r, best);
        EACH_OF(&m->rows, best, c) drop(&m->cols, c, best);
        drop(&m->cols, best, best);
        EACH_OF(&m->cols, best, r) unite(&m->rows, r, best), m->in_row[r] = count(&m->rows, r);
        EACH_OF(&m->rows, best, c) unite(&m->cols, c, best), m->in_col[c] = count(&m->cols, c);
    }
}

/* Cuthill, McKee (1969), reversed: level by level from a component with few neighbours. */
static void order_by_band(maker *m, int32_t *order) {
    int32_t d = m->p->d, n = 0;
    work_sets(m);
    for (size_t w = 0; w < (size_t)d * m->W.words; w++) m->rows.bits[w] |= m->cols.bits[w];
    for (int32_t c = 0; c < d; c++) m->scratch[c] = count(&m->rows, c);
    memset(m->cols.bits, 0, m->cols.words * sizeof(uint64_t)); /* its first row: those in the order */
    for (int32_t from = 0; n < d; from++) {
        if (from == n) {
            int32_t start = -1;
            for (int32_t c = 0; c < d; c++)
                if (!has(&m->cols, 0, c) && (start < 0 || m->scratch[c] < m->scratch[start])) start = c;
            put(&m->cols, 0, start);
            order[n++] = start;
        }
        int32_t first = n;
        EACH_OF(&m->rows, order[from], c) {
            if (has(&m->cols, 0, c)) continue;
            put(&m->cols, 0, c);
            int32_t at = n++;
            for (; at > first && m->scratch[order[at - 1]] > m->scratch[c]; at--) order[at] = order[at - 1];
            order[at] = c;
        }
    }
    for (int32_t i = 0; i < d / 2; i++) {
        int32_t c = order[i];
        order[i] = order[d - 1 - i];
        order[d - 1 - i] = c;
    }
}

/* The rows of L + U in this order, in m->rows, by unknowns. How many operations. */
static int64_t fill_in(maker *m, const int32_t *order, int64_t *size) {
    int32_t d = m->p->d;
    int64_t ops = 0;
    *size = 0;
    for (int32_t i = 0; i < d; i++) m->scratch[order[i]] = i;
    memset(m->rows.bits, 0, (size_t)d * m->rows.words * sizeof(uint64_t));
    for (int32_t i = 0; i < d; i++) {
        EACH_OF(&m->W, order[i], c) put(&m->rows, i, m->scratch[c]);
        EACH_OF(&m->rows, i, k) {
            if (k >= i) break;
            for (int32_t j = next(&m->rows, k, k + 1); j >= 0; j = next(&m->rows, k, j + 1)) put(&m->rows, i, j), ops++;
        }
        *size += count(&m->rows, i);
    }
    return ops;
}

/* ---- the pattern ------------------------------------------------------------------------------------------------------------- */
static int32_t *array(int64_t n) { return calloc((size_t)(n > 0 ? n : 1), sizeof(int32_t)); }

/* Rows of the factors from m->rows. */
static int write_factors(maker *m, const int32_t *order, int64_t size, int64_t ops) {
    pn_pattern *p = m->p;
    int32_t d = p->d, at = 0, *where = m->other;
    int64_t q = 0;
    p->size = (int32_t)size;
    p->n_ops = ops;
    p->column = array(size);
    p->of = array(size);
    p->target = array(ops);
    if (!p->column || !p->of || !p->target) return 0;
    for (int32_t i = 0; i < d; i++) {
        p->label[i] = order[i];
        p->start[i] = at;
        EACH_OF(&m->rows, i, j) {
            if (j == i) p->diag[i] = at;
            p->column[at] = j;
            p->of[at] = order[j];
            at++;
        }
    }
    p->start[d] = at;
    for (int32_t i = 0; i < d; i++) {
        for (int32_t e = p->start[i]; e < p->start[i + 1]; e++) where[p->column[e]] = e;
        for (int32_t e = p->start[i]; e < p->diag[i]; e++) {
            int32_t k = p->column[e];
            for (int32_t u = p->diag[k] + 1; u < p->start[k + 1]; u++) p->target[q++] = where[p->column[u]];
        }
    }
    return 1;
}

/* The place of entry (r, c) of W. */
static int32_t place_of(const maker *m, int32_t r, int32_t c) {
    const pn_pattern *p = m->p;
    if (!p->sparse) return r * p->d + c;
    int32_t i = m->order[m->other[r]], at = p->start[i]; /* other: the component of each equation; order: its unknown */
    while (p->of[at] != c) at++;
    return at;
}

static int choose(maker *m) {
    pn_pattern *p = m->p;
    int32_t d = p->d, *banded = m->other;
    int64_t size, size_banded;
    p->size = d * d;
    for (int32_t c = 0; c < d; c++) p->equation[c] = p->label[c] = c;
    if (d <= FEW || !match(m)) return 1;
    order_by_fill(m, m->order);
    int64_t ops = fill_in(m, m->order, &size);
    order_by_band(m, banded);
    if (fill_in(m, banded, &size_banded) < ops) memcpy(m->order, banded, (size_t)d * sizeof *banded);
    ops = fill_in(m, m->order, &size);
    if ((double)size > FULL * d * d) return 1;
    p->sparse = 1;
    return write_factors(m, m->order, size, ops);
}

static pn_status wrong(char message[PN_MESSAGE], const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, PN_MESSAGE, format, ap);
    va_end(ap);
    return PN_BAD_ARGUMENT;
}

static pn_status make(maker *m, const int32_t *row, const int32_t *col, const double *mass, char message[PN_MESSAGE]) {
    pn_pattern *p = m->p;
    int32_t d = p->d;
    for (int32_t e = 0; e < p->n; e++) {
        if (has(&m->W, row[e], col[e])) return wrong(message, "pattern: (%d, %d) is there twice", (int)row[e], (int)col[e]);
        put(&m->W, row[e], col[e]);
    }
    for (int32_t e = 0, q = 0; e < d * d; e++) {
        if (mass ? mass[e] == 0 : e % (d + 1) != 0) continue;
        put(&m->W, e / d, e % d);
        p->mass[q++] = e;
    }
    if (!choose(m)) return PN_MEMORY;
    for (int32_t i = 0; i < d; i++) m->order[p->label[i]] = i, m->other[p->equation[i]] = i;
    for (int32_t e = 0; e < p->n; e++) p->row[e] = row[e], p->col[e] = col[e], p->place[e] = place_of(m, row[e], col[e]);
    for (int32_t q = 0; q < p->n_mass; q++) p->moored[q] = place_of(m, p->mass[q] / d, p->mass[q] % d);
    return PN_OK;
}

static pn_status allocate(maker *m, const int32_t *row, const int32_t *col, const double *mass, char message[PN_MESSAGE]) {
    pn_pattern *p = m->p;
    int64_t d = p->d, words = (d + 63) / 64;
    p->n_mass = (int32_t)d;
    if (mass) p->n_mass = 0;
    for (int64_t e = 0; mass && e < d * d; e++) p->n_mass += mass[e] != 0;
    uint64_t *bits = calloc((size_t)(3 * d * words), sizeof *bits);
    int32_t *numbers = array(5 * d);
    p->row = array(p->n), p->col = array(p->n), p->place = array(p->n);
    p->mass = array(p->n_mass), p->moored = array(p->n_mass);
    p->start = array(d + 1), p->diag = array(d), p->label = array(d), p->equation = array(d);
    m->W = (sets){(size_t)words, bits};
    m->order = numbers;
    pn_status st = PN_MEMORY;
    int ok = bits && numbers && p->row && p->col && p->place && p->mass && p->moored && p->start && p->diag && p->label &&
             p->equation;
    if (ok) {
        m->rows = (sets){(size_t)words, bits + d * words};
        m->cols = (sets){(size_t)words, bits + 2 * d * words};
        m->other = numbers + d;
        m->scratch = numbers + 2 * d;
        m->in_row = numbers + 3 * d;
        m->in_col = numbers + 4 * d;
        st = make(m, row, col, mass, message);
    }
    free(bits);
    free(numbers);
    return st;
}

pn_status pn_pattern_create(int32_t d, int64_t n, const int32_t *row, const int32_t *col, const double *mass,
                            char message[PN_MESSAGE], pn_pattern **out) {
    *out = NULL;
    if (d < 1 || d > MOST) return wrong(message, "pattern: d must be 1 to %d, got %d", MOST, (int)d);
    if (n < 0 || n > (int64_t)d * d) return wrong(message, "pattern: %lld entries of %d x %d", (long long)n, (int)d, (int)d);
    for (int64_t e = 0; e < n; e++) {
        if (row[e] < 0 || row[e] >= d || col[e] < 0 || col[e] >= d)
            return wrong(message, "pattern: entry %lld is (%d, %d), outside %d x %d", (long long)e, (int)row[e], (int)col[e],
                         (int)d, (int)d);
    }
    pn_pattern *p = calloc(1, sizeof *p);
    if (!p) return PN_MEMORY;
    p->d = d;
    p->n = (int32_t)n;
    maker m = {.p = p};
    pn_status st = allocate(&m, row, col, mass, message);
    if (st != PN_OK) pn_pattern_destroy(&p);
    *out = p;
    return st;
}

int pn_pattern_has(const pn_pattern *p, const double *mass) {
    int32_t q = 0;
    for (int64_t e = 0; e < (int64_t)p->d * p->d; e++) {
        int listed = q < p->n_mass && p->mass[q] == e;
        q += listed;
        if (!listed && (mass ? mass[e] != 0 : e % (p->d + 1) == 0)) return 0;
    }
    return 1;
}

void pn_pattern_destroy(pn_pattern **p) {
    if (!*p) return;
    int32_t *const all[] = {(*p)->row,  (*p)->col,   (*p)->place,    (*p)->mass,   (*p)->moored, (*p)->start,
                            (*p)->diag, (*p)->label, (*p)->equation, (*p)->column, (*p)->of,     (*p)->target};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(*p);
    *p = NULL;
}
