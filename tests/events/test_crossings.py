"""Several crossings within one step: all of them, in order, against closed forms, scipy and finite differences."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import pynode as pn

pytestmark = pytest.mark.filterwarnings("ignore::pynode.ToleranceWarning")  # no error is measured: one step is wanted

LOOSE = {"rtol": 0.9, "atol": 1e9, "first_step": 1.0}
METHODS = {  # of [0, 1] one step; up to the degree for which the method and its dense output are exact
    "midpoint": (2, {"step": 1.0}),
    "heun": (2, {"step": 1.0}),
    "rk4": (3, {"step": 1.0}),
    "rk38": (3, {"step": 1.0}),
    "bosh3": (3, LOOSE),
    "dopri5": (4, LOOSE),
    "tsit5": (4, LOOSE),
    "dop853": (7, LOOSE),
}
RESOLUTION = 1 / 1024  # of a step; see docs/guide.md


@pn.field(state=2, theta={"c": (2, 7)})
def polynomials(t, y, th):
    """y_i = p_i(t), c their derivatives, the highest power first."""
    out = []
    for i in range(2):
        value = th.c[i, 0]
        for k in range(1, 7):
            value = value * t + th.c[i, k]
        out.append(value + 0 * y[i])
    return out


def from_roots(*roots_of_each, scale=1.0):
    """(y0, theta, p) of polynomials with these roots."""
    p = [scale * np.poly1d(roots, r=True) for roots in roots_of_each]
    c = np.zeros((2, 7))
    for i, q in enumerate(p):
        d = q.deriv().coeffs
        c[i, 7 - len(d) :] = d
    return np.array([q(0.0) for q in p]), c.ravel(), p


def crossing(i, direction=0, terminal=False):
    return pn.event(lambda t, y: y[i], direction=direction, terminal=terminal)


def apart(*roots):
    """Whether all lie inside, further apart than the resolution."""
    every = np.concatenate([[0.0], np.sort(np.concatenate(roots)), [1.0]])
    return np.diff(every).min() > 1.5 * RESOLUTION


# ---- all of them -------------------------------------------------------------------------------------------------------


ROOTS = [[0.3, 0.7], [0.11, 0.14], [0.2, 0.5, 0.9], [0.6, 0.61, 0.62], [0.1, 0.4, 0.6, 0.9], [0.25, 0.5, 0.75]]


@pytest.mark.parametrize(("method", "roots"), [(m, r) for m in METHODS for r in ROOTS if len(r) <= METHODS[m][0]])
@pytest.mark.parametrize("way", [1, -1])
def test_all_roots_of_a_polynomial_in_one_step(method, roots, way):
    _, keys = METHODS[method]
    y0, theta, p = from_roots(roots, [2.0])
    if way < 0:
        y0 = np.array([q(1.0) for q in p])
    sol = pn.solve(polynomials, y0, [0.0, 1.0][::way], theta, events=crossing(0), method=method, **keys)
    assert np.abs(sol.events.t - roots[::way]).max() < 1e-9
    assert np.abs(sol.y[-1] - [q(1.0 if way > 0 else 0.0) for q in p]).max() < 1e-12


@pytest.mark.parametrize("roots", [[0.1, 0.3, 0.5, 0.7, 0.9], [0.05, 0.1, 0.5, 0.55, 0.9, 0.95], np.linspace(0.1, 0.9, 7)])
def test_five_to_seven_roots_in_one_step_of_dop853(roots):
    y0, theta, _ = from_roots(roots, [2.0])
    sol = pn.solve(polynomials, y0, [0.0, 1.0], theta, events=crossing(0), method="dop853", **LOOSE)
    assert np.abs(sol.events.t - roots).max() < 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_the_cubic_of_scipy_issue_9228(method):
    @pn.field(state=1)
    def f(t, y):
        return [3 * t**2 + 12 * t - 4 + 0 * y[0]]

    keys = {"step": 2.5} if "step" in METHODS[method][1] else {}
    p = np.poly1d([1, 6, -4, -24])
    sol = pn.solve(f, [p(-8.0)], [-8.0, 4.0], events=pn.event(lambda t, y: y[0], terminal=False), method=method, **keys)
    if METHODS[method][0] > 2:
        assert np.abs(sol.events.t - [-6, -2, 2]).max() < 1e-6
    ends = pn.solve(f, [p(-8.0)], [-8.0, 4.0], events=pn.event(lambda t, y: y[0]), method=method, **keys)
    assert ends.terminated and ends.events.t[0] == sol.events.t[0] and ends.events.t[0] < -5.5


@pn.field(state=8)
def horner(t, y):
    """y_0' is the polynomial with coefficients y_1 .. y_7."""
    value = y[7]
    for k in range(6, 0, -1):
        value = value * t + y[k]
    return [value] + [0 * y[k] for k in range(1, 8)]


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m][0] > 2])
def test_the_first_of_roots_that_lie_on_probes(method):
    """Multiples of 1/32: g is 0 there, or a rounding error on either side."""
    rng = np.random.default_rng(0)
    first, y0 = [], []
    for _ in range(1000):
        roots = np.sort(rng.choice(np.arange(1, 32), rng.integers(1, min(METHODS[method][0], 5) + 1), replace=False)) / 32
        p = np.zeros(8)
        p[: len(roots) + 1] = np.poly(roots)[::-1] * rng.choice([-1, 1]) * 10 ** rng.uniform(-2, 2)
        first.append(roots[0])
        y0.append([p[0], *(p[1:] * np.arange(1, 8))])
    halt = pn.event(lambda t, y: y[0])
    sol = pn.solve(horner, np.array(y0), [0.0, 1.0], events=halt, method=method, step=1.0)
    assert len(sol.events) == 1000 and np.abs(sol.events.t - first).max() < 1e-6


roots_of = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=7)


@settings(deadline=None, max_examples=150)
@given(
    roots=st.tuples(roots_of, roots_of),
    direction=st.tuples(st.sampled_from([-1, 0, 1]), st.sampled_from([-1, 0, 1])),
    method=st.sampled_from(sorted(METHODS)),
    size=st.floats(1e-3, 1e3),
    way=st.sampled_from([1, -1]),
    land=st.booleans(),
)
def test_two_random_polynomials_with_directions(roots, direction, method, size, way, land):
    degree, keys = METHODS[method]
    roots = [np.sort(np.unique(r[:degree])) for r in roots]
    if not apart(*roots):
        return
    y0, theta, p = from_roots(*roots, scale=size)
    if way < 0:
        y0 = np.array([q(1.0) for q in p])
    expected = []
    for i in range(2):
        for r in roots[i]:
            rises = way * np.sign(p[i].deriv()(r))
            expected += [(r, i)] if direction[i] in (0, rises) else []
    expected.sort(reverse=way < 0)
    events = [crossing(0, direction[0]), crossing(1, direction[1])]
    t = np.linspace(0, 1, 4)[::way]
    sol = pn.solve(polynomials, y0, t, theta, events=events, method=method, save="land" if land else "interpolate", **keys)
    assert sol.events.which.tolist() == [i for _, i in expected]
    slope = [abs(p[i].deriv()(r)) for r, i in expected]
    bound = 1e-12 * size / np.array(slope) * (1 + np.array([np.abs(p[i].coeffs).sum() for _, i in expected]) / size)
    assert (np.abs(sol.events.t - [r for r, _ in expected]) < 1e-13 + 10 * bound).all()


@settings(deadline=None, max_examples=60)
@given(middle=st.floats(0.01, 0.99), gap=st.floats(1.05 * RESOLUTION, 0.05), method=st.sampled_from(sorted(METHODS)))
def test_a_pair_as_close_as_the_resolution_is_found(middle, gap, method):
    roots = middle + gap * np.array([-0.5, 0.5])
    if roots[0] <= 0.001 or roots[1] >= 0.999:
        return
    y0, theta, _ = from_roots(roots, [2.0])
    sol = pn.solve(polynomials, y0, [0.0, 1.0], theta, events=crossing(0), method=method, **METHODS[method][1])
    assert len(sol.events) == 2 and np.abs(sol.events.t - roots).max() < 1e-9


@pn.field(state=3)
def clock(t, y):
    return [1.0 + 0 * y[0], 0 * y[0], 0 * y[0]]


@pytest.mark.parametrize(("method", "most"), [("rk4", 9.0), ("tsit5", 9.0), ("dop853", 20.0)])
def test_waves_within_one_step(method, most):
    """g = sin(w t + phase) + shift, up to 1.5 periods a step (3 with dop853)."""
    rng = np.random.default_rng(0)
    keys = METHODS[method][1]
    keys = keys if "step" in keys else {"step": 1.0}
    phase, shift = rng.uniform(0, 2 * np.pi, 60), rng.uniform(-1.1, 1.1, 60)
    y0 = np.stack([np.zeros(60), phase, shift], axis=1)
    for w in (0.5 * most, most):
        wave = pn.event(lambda t, y, w=w: np.sin(w * y[0] + y[1]) + y[2], terminal=False)
        sol = pn.solve(clock, y0, [0.0, 1.0], events=wave, method=method, **keys)
        n = np.arange(-1, 8)
        for i in range(60):
            if abs(shift[i]) > 1 - 1e-4:
                continue
            a = np.arcsin(-shift[i])
            exact = (np.concatenate([a + 2 * np.pi * n, np.pi - a + 2 * np.pi * n]) - phase[i]) / w
            exact = np.sort(exact[(exact > 0) & (exact < 1)])
            found = sol.events.of(sample=i).t
            assert len(found) == len(exact) and np.abs(found - exact).max(initial=0) < 1e-9


def test_against_scipy_with_small_steps():
    def f(t, y):
        return [y[1], -np.sin(y[0]) - 0.05 * y[1] + 0.6 * np.cos(2.1 * t)]

    def g(t, y):
        return np.sin(5 * y[0]) - 0.3 * y[1]

    steps = solve_ivp(f, (0, 12), [1.5, 0.0], events=g, max_step=0.005, rtol=1e-10, atol=1e-12)
    exact = steps.t_events[0]
    field = pn.field(state=2)(f)
    assert len(exact) > 15
    for method, tol in (("dopri5", 1e-6), ("tsit5", 1e-6), ("dop853", 1e-6)):
        event = pn.event(g, terminal=False)
        sol = pn.solve(field, [1.5, 0.0], [0.0, 12.0], events=event, method=method, rtol=tol, atol=tol)
        assert len(sol.events) == len(exact) and np.abs(sol.events.t - exact).max() < 1e-4
        single = pn.solve(field, np.float32([1.5, 0.0]), [0.0, 12.0], events=event, method=method, rtol=1e-5, atol=1e-5)
        assert len(single.events) == len(exact) and np.abs(single.events.t - exact).max() < 1e-3


def test_a_batch_finds_what_its_samples_find_alone():
    rng = np.random.default_rng(3)
    t = np.array([0.0, 0.5, 1.0])
    theta = from_roots([0.2, 0.5, 0.8], [0.3, 0.6])[1]
    y0 = from_roots([0.2, 0.5, 0.8], [0.3, 0.6])[0] + rng.uniform(-0.02, 0.02, (40, 2))
    for method in ("rk4", "dopri5"):
        keys = METHODS[method][1]
        events = [crossing(0), crossing(1, 1)]
        both = pn.solve(polynomials, y0, t, theta, events=events, method=method, **keys)
        for i in range(40):
            alone = pn.solve(polynomials, y0[i], t, theta, events=events, method=method, **keys)
            found = both.events.of(sample=i)
            assert found.which.tolist() == alone.events.which.tolist()
            assert np.abs(found.t - alone.events.t).max(initial=0) < 1e-12


# ---- what an event leaves behind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["rk4", "dopri5", "dop853"])
def test_another_event_that_turns_back_before_it_counts_keeps_its_side(method):
    """Cut at 0.3, the second event falls at 0.5, which does not count, and rises at 0.7."""
    y0, theta, _ = from_roots([0.3], [0.5, 0.7])
    events = [crossing(0), crossing(1, direction=1)]
    sol = pn.solve(polynomials, y0, [0.0, 1.0], theta, events=events, method=method, **METHODS[method][1])
    assert sol.events.which.tolist() == [0, 1] and np.abs(sol.events.t - [0.3, 0.7]).max() < 1e-12
    sol = pn.solve(polynomials, y0, [0.0, 0.6], theta, events=events, method=method, **METHODS[method][1])
    assert sol.events.which.tolist() == [0]


def test_a_touch_at_a_probe_is_no_crossing():
    for touch in (0.25, 0.5, 0.75, 0.125):
        square = pn.event(lambda t, y, a=touch: (y[0] - a) ** 2, terminal=False)
        sol = pn.solve(clock, np.zeros(3), [0.0, 1.0], events=square, method="rk4", step=1.0)
        assert len(sol.events) == 0
        cube = pn.event(lambda t, y, a=touch: (y[0] - a) ** 3, terminal=False)
        sol = pn.solve(clock, np.zeros(3), [0.0, 1.0], events=cube, method="rk4", step=1.0)
        assert np.abs(sol.events.t - [touch]).max() < 1e-4


def test_a_reset_within_what_was_one_step_and_a_start_on_the_surface():
    """y' = 1, back to 0 at 0.3: three times a step. Each stretch starts on the surface of the second event."""
    up = pn.event(lambda t, y: y[0] - 0.3, reset=lambda t, y: [0 * y[0], y[1], y[2]])
    low = pn.event(lambda t, y: y[0] * (0.1 - y[0]), terminal=False)
    for method, (_, keys) in METHODS.items():
        sol = pn.solve(clock, np.zeros(3), [0.0, 0.95], events=[up, low], method=method, **keys)
        assert sol.events.which.tolist() == [1, 0, 1, 0, 1, 0]
        assert np.abs(sol.events.t - [0.1, 0.3, 0.4, 0.6, 0.7, 0.9]).max() < 1e-12
        assert np.abs(sol.y[-1, 0] - 0.05) < 1e-12


def test_an_oscillation_beyond_the_resolution_ends():
    """Near 0 everywhere, nowhere 0: the splits of a step are limited."""
    hum = pn.event(lambda t, y: np.sin(5000 * y[0]) + 1.0001, terminal=False)
    sol = pn.solve(clock, np.zeros((40, 3)), [0.0, 1.0], events=hum, method="rk4", step=0.5)
    assert sol.ok


# ---- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["rk4", "dopri5", "dop853"])
@pytest.mark.parametrize("save", ["interpolate", "land"])
def test_gradient_through_crossings_of_one_step(method, save):
    """Resets at each crossing of what a plain solve would take as one step, against central differences."""
    keys = {"step": 1.0} if method == "rk4" else LOOSE
    y0, theta, _ = from_roots([0.2, 0.5, 0.9], [0.35, 0.7])
    swap = pn.event(lambda t, y: y[0], terminal=False, reset=lambda t, y: [y[0], 1.1 * y[1] + 0.01 * t])
    other = pn.event(lambda t, y: y[1] - 0.01 * t, terminal=False, reset=lambda t, y: [0.9 * y[0] + 0.2 * y[1], y[1]])
    t = np.array([0.0, 0.4, 0.6, 1.0])

    def solve(theta, y0):
        return pn.solve(polynomials, y0, t, theta, events=[swap, other], method=method, save=save, **keys)

    sol = solve(theta, y0)
    assert len(sol.events) >= 4
    rng = np.random.default_rng(0)
    dy, dt = rng.normal(size=sol.y.shape), rng.normal(size=len(sol.events))
    g = sol.vjp(dy, event_t=dt)

    def loss(theta, y0):
        s = solve(theta, y0)
        assert s.events.which.tolist() == sol.events.which.tolist()
        return (s.y * dy).sum() + (s.events.t * dt).sum()

    h = 1e-6
    for k in (3, 4, 5, 6, 12, 13):
        e = h * np.eye(14)[k]
        fd = (loss(theta + e, y0) - loss(theta - e, y0)) / (2 * h)
        assert abs(g.theta[k] - fd) < 1e-6 * max(1, abs(fd)), k
    for k in range(2):
        e = h * np.eye(2)[k]
        fd = (loss(theta, y0 + e) - loss(theta, y0 - e)) / (2 * h)
        assert abs(g.y0[k] - fd) < 1e-6 * max(1, abs(fd)), k


@pn.field(state=2, theta={"gravity": 1.0, "restitution": 0.5})
def fall(t, y, th):
    return [y[1], -th.gravity]


def bounces(h, v, g, e, end, n):
    """(position and velocity) at `end` after n bounces from 0 at (h, v); complex arguments allowed."""
    now = 0.0
    for _ in range(n):
        length = (v + np.sqrt(v * v + 2 * g * h)) / g
        now = now + length
        v = -e * (v - g * length)
        h = 0 * h
    s = end - now
    return np.array([h + v * s - 0.5 * g * s * s, v - g * s])


def exact_gradient(h, end, n):
    """[component][sample, (h, v, gravity, restitution)], by complex steps."""
    parts = [bounces(*(x + 1e-30j * (i == k) for k, x in enumerate((h, 0.0, 1.0, 0.5))), end, n) for i in range(4)]
    return np.moveaxis(np.imag(parts) / 1e-30, 0, -1)


BOUNCE = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y, th: [0.0 * y[0], -th.restitution * y[1]])
RESIDUE = pn.event(lambda t, y: y[0], reset=lambda t, y, th: [y[0], -th.restitution * y[1]])  # stays where rounding left it
WITNESS = pn.event(lambda t, y: 2 * y[0], direction=-1, terminal=False)


@pytest.mark.parametrize(
    "events", [[BOUNCE], [RESIDUE], [WITNESS, BOUNCE], [WITNESS, RESIDUE]], ids=["zero", "residue", "two", "both"]
)
@pytest.mark.parametrize("method", ["rk4", "midpoint", "dopri5", "dop853"])
@pytest.mark.parametrize("save", ["land", "interpolate"])
def test_the_gradient_of_300_balls_that_land_on_step_ends(events, method, save):
    """All falls take multiples of the step, to rounding before or behind: a bounce is at a step's end and at a saved time.

    With two events at one time the second stretch has no length.
    """
    rng = np.random.default_rng(0)
    for step, start in ((0.1, 0.0), (0.1, 10.0), (0.3, -7.3), (0.125, 0.0)):
        first = step * 4 * rng.integers(1, 5, 300)
        h = 0.5 * first**2 * (1 + rng.integers(-3, 4, 300) * 2.0**-53)
        end = 2.61 * first  # bounces at first, 2 first, 2.5 first
        t = [start + np.array([0.0, a, 2 * a, b]) for a, b in zip(first, end, strict=True)]
        y0 = np.stack([h, 0 * h], axis=1)
        keys = {} if method == "dop853" else {"step": step}
        sol = pn.solve(fall, y0, t, fall.init(), events=events, method=method, save=save, **keys)
        assert len(sol.events.of(which=len(events) - 1)) == 900
        exact = exact_gradient(h, end, 3)
        for c in range(2):
            dy = [np.array([[0.0, 0.0]] * 3 + [np.eye(2)[c]]) for _ in t]
            g = sol.vjp(dy)
            assert np.abs(g.y0 - exact[c, :, :2]).max() < 1e-7, (step, start, c)
            assert np.abs(g.theta - exact[c, :, 2:].sum(axis=0)).max() < 1e-7 * np.abs(exact).sum(), (step, start, c)


def test_events_of_one_sample_are_ordered_in_time():
    y0, theta, _ = from_roots([0.2, 0.5, 0.8], [0.3, 0.6])
    sol = pn.solve(polynomials, y0, [0.0, 1.0], theta, events=[crossing(1), crossing(0)], method="rk4", step=1.0)
    assert sol.events.which.tolist() == [1, 0, 1, 0, 1]
    assert all(a < b for a, b in pairwise(sol.events.t))
