"""What tests/combinations.py compares with: one sample by SciPy's DOP853, from one discontinuity to the next."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

RTOL, ATOL = 1e-11, 1e-12
TINY = 1e-7
"""So long after an event the same one is not looked for."""


class LeftOutError(Exception):
    """A case that has no answer: an event grazes, or there are too many."""


@dataclass(frozen=True)
class Sample:
    """One sample. Functions of the field take (t, s, y, theta, u): s is where in time it is seen from, for switches."""

    rhs: Any
    theta: Any
    y0: Any
    t: Any
    breaks: tuple = ()
    signal: Any = None  # (kind, knots, values)
    jump: Any = None  # J(t, y, theta, x)
    data: Any = None  # (T, k); NaN: no jump
    events: tuple = ()  # (g(t, y, theta), reset(t, y, theta) or None, terminal, direction, hold)
    algebraic: Any = None  # the last component as a function of the others

    def but(self, **keys):
        return replace(self, **keys)


@dataclass
class Path:
    y: Any
    before: Any
    events: list  # (which, t, before, after)
    terminated: bool


def signal_at(signal, t, s):
    """u(t), by the piece in which s lies."""
    if signal is None:
        return None
    kind, knots, values = signal
    if kind == "constant":
        return values
    k = int(np.clip(np.searchsorted(knots, s, side="right") - 1, 0, len(knots) - (1 if kind == "previous" else 2)))
    if kind == "previous":
        return values[k]
    h, x = knots[k + 1] - knots[k], t - knots[k]
    if kind == "linear":
        return values[k] + (values[k + 1] - values[k]) * (x / h)
    a, b = _slope(knots, values, k), _slope(knots, values, k + 1)
    x /= h
    rise = values[k + 1] - values[k]
    return values[k] + rise * x * x * (3 - 2 * x) + h * x * (1 - x) * (a * (1 - x) - b * x)


def _slope(knots, values, k):
    """That at knot k of the parabola through it and its neighbours."""
    if len(knots) == 2:
        return (values[1] - values[0]) / (knots[1] - knots[0])
    i = min(max(k - 1, 0), len(knots) - 3)
    x, v = knots[i : i + 3], values[i : i + 3]
    first, second = (v[1] - v[0]) / (x[1] - x[0]), (v[2] - v[1]) / (x[2] - x[1])
    bend = (second - first) / (x[2] - x[0])
    return first + bend * (2 * knots[k] - x[0] - x[1])


class _Run:
    def __init__(self, sample):
        self.p = sample
        self.way = 1.0 if sample.t[-1] >= sample.t[0] else -1.0
        self.found = []
        self.last = (-1, None)

    def state(self, y):
        return y if self.p.algebraic is None else np.append(y, self.p.algebraic(y))

    def slope(self, t, y, s):
        p = self.p
        value = np.asarray(p.rhs(t, s, self.state(y), p.theta, signal_at(p.signal, t, s)), float)
        return value if p.algebraic is None else value[:-1]

    def smooth(self, y, a, b, s, events=()):
        """From a to b, or to the first of some events: (y, t, which)."""
        if a == b:
            return y, b, -1
        p, watched = self.p, []
        for e in events:
            g, _, _, direction, _ = p.events[e]

            def watch(t, y, g=g):
                return g(t, self.state(y), p.theta)

            watch.terminal, watch.direction = True, direction
            watched.append(watch)
        sol = solve_ivp(
            lambda t, y: self.slope(t, y, s), (a, b), y, "DOP853", rtol=RTOL, atol=ATOL,
            events=watched or None, first_step=min(abs(b - a), 0.01), max_step=0.04 if watched else np.inf,
        )  # fmt: skip
        if not sol.success or np.abs(sol.y).max() > 1e3:
            raise LeftOutError("unbounded")
        if sol.status != 1:
            return sol.y[:, -1], b, -1
        which = events[int(np.flatnonzero([len(t) for t in sol.t_events])[0])]
        return self.polished(sol.y[:, -2], sol.t[-2], float(sol.t[-1]), s, which)

    def polished(self, y0, t0, t, s, which):
        g = self.p.events[which][0]
        for _ in range(3):
            y = self.smooth(y0, t0, t, s)[0]
            f, h = self.slope(t, y, s), 1e-5
            up, down = (g(t + k * h, self.state(y + k * h * f), self.p.theta) for k in (1, -1))
            rate = (up - down) / (2 * h)
            if abs(rate) < 0.03:
                raise LeftOutError("grazes")
            t -= g(t, self.state(y), self.p.theta) / rate
        return self.smooth(y0, t0, t, s)[0], t, which

    def stretch(self, y, a, b, s):
        """From a to b inside which nothing is known to happen, through events: (y, whether it ended)."""
        while a != b:
            last, when = self.last
            if when == a:
                until = a + self.way * TINY
                until = until if self.way * (b - until) > 0 else b
                others = [e for e in range(len(self.p.events)) if e != last]
                y, a, which = self.smooth(y, a, until, s, others)
                if which >= 0:
                    raise LeftOutError("events that nearly coincide")
            y, a, which = self.smooth(y, a, b, s, list(range(len(self.p.events))) if a != b else [])
            if which < 0:
                return y, False
            a = b if abs(a - b) < 1e-12 else a
            self.last = which, a
            y, ended = self.happen(y, a, which)
            if ended:
                return y, True
        return y, False

    def happen(self, y, t, which):
        _, reset, terminal, _, _ = self.p.events[which]
        before, after = self.state(y), self.state(y)
        if reset is not None:
            after = np.asarray(reset(t, before, self.p.theta), float)
        self.found.append((which, t, before, after))
        if len(self.found) > 6:
            raise LeftOutError("many events")
        return after if self.p.algebraic is None else after[:-1], terminal


def run(sample):
    """The `Path` of a sample."""
    p, r = sample, _Run(sample)
    n, d = len(p.t), len(p.y0)
    out, before = np.full((n, d), np.nan), np.full((n, d), np.nan)
    y = np.array(p.y0, float)
    y = y if p.algebraic is None else y[:-1]
    t = float(p.t[0])
    knots = () if p.signal is None or p.signal[0] == "constant" else p.signal[1]
    breaks = np.array([*p.breaks, *knots])
    for j in range(n):
        inside = breaks[(r.way * (breaks - t) > 0) & (r.way * (p.t[j] - breaks) > 0)]
        for end in [*np.sort(inside)[:: int(r.way)], float(p.t[j])]:
            y, ended = r.stretch(y, t, float(end), 0.5 * (t + float(end)))
            t = float(end)
            if ended:
                which, when, _, after = r.found[-1]
                rest = slice(j, None) if p.events[which][4] else np.arange(j, n)[np.abs(np.array(p.t[j:]) - when) < 1e-12]
                out[rest] = before[rest] = after
                return Path(out, before, r.found, True)
        before[j] = r.state(y)
        if p.jump is not None and (p.data is None or not np.isnan(p.data[j]).any()):
            y = np.asarray(p.jump(t, r.state(y), p.theta, None if p.data is None else p.data[j]), float)
            y = y if p.algebraic is None else y[:-1]
        out[j] = r.state(y)
    return Path(out, before, r.found, False)
