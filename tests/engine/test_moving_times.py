"""dL/dt where a saved time lies on a switch of the field, or a knot at which an input jumps: what is before counts."""

import numpy as np
import pytest

import pynode as pn


@pn.field(state=1, inputs=1)
def driven(t, y, u):
    return u


SWITCHED = [
    pn.field(state=1)(lambda t, y: np.where(t < 1, 1.0, 3.0) + 0 * y),
    pn.field(state=1)(lambda t, y: np.where(t <= 1, 1.0, 3.0) + 0 * y),
]
WAYS = [
    {},
    {"save": "land"},
    {"save": "land", "method": "rk4", "step": 0.3},
    {"save": "land", "method": "dop853"},
    {"save": "land", "method": "rodas4"},
    {"adjoint": "reversible", "coupling": 0.99},
    {"method": "tsit5", "save": "land", "memory": "32kB"},
]
KNOTS = ([0, 1, 2, 3], [[1.0], [3.0], [2.0], [5.0]], "previous")


def by_time(f, t, **keys):
    return pn.loss_and_grad(f, [0.0], t, None, np.zeros((len(t), 1)), loss="sse", wrt="t", **keys).t


@pytest.mark.parametrize("way", [*WAYS, {"method": "rodas4", "save": "land", "mass": [1.0]}], ids=str)
def test_saved_times_on_knots(way):
    """y = 0, 1, 4, 6; dL/dt = 2 y y', y' from before. dL/dt0 is all of it: -2 (1 + 4 + 6)."""
    np.testing.assert_allclose(by_time(driven, [0.0, 1, 2, 3], inputs=KNOTS, **way), [-22, 2, 24, 24], rtol=1e-10)
    back = by_time(
        driven, [3.0, 2, 1, 0], inputs=KNOTS, **way
    )  # y = 0, -2, -5, -6; at 3 the value 5 holds, and its end moves away
    np.testing.assert_allclose(back, [2 * 2 * 13, -8, -30, -12], rtol=1e-10)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("field", SWITCHED, ids=["<", "<="])
def test_saved_times_on_a_switch(field, way):
    """y = 0, 0.5, 1, 2.5: slope 1 up to the switch, 3 behind."""
    np.testing.assert_allclose(by_time(field, [0.0, 0.5, 1, 1.5], **way), [-8, 1, 2, 15], rtol=1e-7)
    np.testing.assert_allclose(by_time(field, [1.5, 1.0, 0.5], **way), [21, -9, -4], rtol=1e-7)
    np.testing.assert_allclose(by_time(field, [0.0, 1.0], **way), [-2, 2], rtol=1e-7)
    first = by_time(field, [1.0, 2.0], **way)
    assert first[1] == pytest.approx(18) and min(abs(first[0] + [6, 18])) < 1e-6  # one of the slopes, no mixture


def plus(t, y):
    return y + 1


@pytest.mark.parametrize("way", [w for w in WAYS if "coupling" not in w], ids=str)
def test_jumps_on_knots_and_switches(way):
    """A jump y + 1 at each time: dL/dt is again 2 y y', y after the jump."""
    jump = pn.field(state=1)(plus)
    y = np.array([1.0, 3.0, 7.0, 10.0])
    expected = [-2 * (y[1:].sum()), 2 * y[1] * 1, 2 * y[2] * 3, 2 * y[3] * 2]
    np.testing.assert_allclose(
        by_time(pn.System(driven, jump=jump), [0.0, 1, 2, 3], inputs=KNOTS, **way), expected, rtol=1e-10
    )
    for field in SWITCHED:
        y = np.array([1.0, 2.5, 4.0, 6.5])
        expected = [-2 * y[1:].sum(), 2 * y[1], 2 * y[2], 6 * y[3]]
        np.testing.assert_allclose(by_time(pn.System(field, jump=jump), [0.0, 0.5, 1, 1.5], **way), expected, rtol=1e-7)


@pytest.mark.parametrize("way", [{}, {"save": "land"}, {"method": "rodas4"}], ids=str)
def test_a_jump_of_a_nonlinear_field_on_a_knot(way):
    """y' = u y, then y -> y^2: earlier by e it is y^2 (1 - 2 u e), and goes on by the same u for e."""
    f = pn.field(state=1, inputs=1)(lambda t, y, u: u * y)
    square = pn.field(state=1, inputs=1)(lambda t, y, x: y * y + 0 * x)
    data = np.array([[np.nan], [1.0], [np.nan]])
    keys = {"inputs": ([0, 1, 2], [[0.2], [0.5], [0.1]], "previous"), "rtol": 1e-10, "atol": 1e-12, "data": data, **way}
    value = pn.loss_and_grad(
        pn.System(f, jump=square), [1.5], [0.0, 1, 2], None, np.zeros((3, 1)), loss="sse", wrt="t", **keys
    )
    after = (1.5 * np.exp(0.2)) ** 2
    last = after * np.exp(0.5)
    assert value.t[1] == pytest.approx(2 * after * 2 * 0.2 * after + 2 * last * (2 * 0.2 - 0.2) * last, rel=1e-7)


def test_samples_with_and_without_knots_have_the_bits_that_they_have_alone():
    t = np.array([[0.0, 1, 2, 3], [0.0, 0.9, 2.1, 3]])
    y0, target = np.zeros((2, 1)), np.zeros((2, 4, 1))
    keys = {"loss": "sse", "reduction": "sum", "wrt": "t", "save": "land", "inputs": KNOTS}
    both = pn.loss_and_grad(
        driven, np.repeat(y0, 20, axis=0), np.tile(t, (20, 1)), None, np.tile(target, (20, 1, 1)), **keys
    ).t
    for threads in (1, 2):
        for i in range(2):
            alone = pn.loss_and_grad(driven, y0[:1], t[i : i + 1], None, target[:1], threads=threads, **keys).t
            assert np.array_equal(alone[0], both[i])


HELD = [{"method": m, **way} for m in ("rodas4", "rodas5p", "ros34pw2") for way in ({}, {"save": "land"})]


@pytest.mark.parametrize("mass", [None, [2.0], [[2.0, 0.5], [-0.3, 1.0]]], ids=str)
@pytest.mark.parametrize("way", HELD, ids=str)
def test_a_mass_matrix_and_times_on_switches(way, mass):
    """M y' = f is y' = M^-1 f, with jumps or without, forwards and backwards."""
    M = np.eye(2) if mass is None else np.diag(np.broadcast_to(mass, 2)) if np.ndim(mass) == 1 else np.array(mass)
    keys = way if mass is None else {**way, "mass": M}

    @pn.field(state=2)
    def f(t, y):
        r = [np.where(t < 1, 0.3, 1.0) * y[1] + 0.2, np.where(t < 1, -0.8, 0.2) * y[0] + 0 * t]
        return [M[0, 0] * r[0] + M[0, 1] * r[1], M[1, 0] * r[0] + M[1, 1] * r[1]]

    def g(t, y):
        r = [np.where(t < 1, 0.3, 1.0) * y[1] + 0.2, np.where(t < 1, -0.8, 0.2) * y[0] + 0 * t]
        return [r[0] + 0.0, r[1] + 0.0]

    plain = pn.field(state=2)(g)
    jump = pn.field(state=2)(lambda t, y: [y[0] * y[1], y[1] + 0.3])
    for t in ([0.0, 0.6, 1.0, 1.7], [1.7, 1.0, 0.6]):
        for system, other in ((f, plain), (pn.System(f, jump=jump), pn.System(plain, jump=jump))):
            args = [1.0, 0.5], t, None, np.zeros((len(t), 2))
            tight = {"loss": "sse", "wrt": "t", "rtol": 1e-9, "atol": 1e-10}
            right = pn.loss_and_grad(other, *args, **tight, save="land", method="dop853").t
            np.testing.assert_allclose(pn.loss_and_grad(system, *args, **tight, **keys).t, right, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("way", [{}, {"save": "land"}, {"method": "rodas4"}, {"method": "rk4", "step": 0.3}], ids=str)
def test_jumps_on_knots_and_switches_beside_events(way):
    """The same as without the events, which happen elsewhere, or not at all."""
    jump = pn.field(state=1)(plus)
    for time in (0.25, 9.0):
        away = pn.event(lambda t, y, time=time: t - time, terminal=False)
        y = np.array([1.0, 3.0, 7.0, 10.0])
        expected = [-2 * (y[1:].sum()), 2 * y[1] * 1, 2 * y[2] * 3, 2 * y[3] * 2]
        found = by_time(pn.System(driven, jump=jump, events=away), [0.0, 1, 2, 3], inputs=KNOTS, **way)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        twice = [by_time(pn.System(driven, jump=jump, events=e), [0.0, 1, 1, 2], inputs=KNOTS, **way) for e in ((), away)]
        np.testing.assert_allclose(*([x[0], x[1] + x[2], x[3]] for x in twice), rtol=1e-10)
        for field in SWITCHED:
            y = np.array([1.0, 2.5, 4.0, 6.5])
            expected = [-2 * y[1:].sum(), 2 * y[1], 2 * y[2], 6 * y[3]]
            found = by_time(pn.System(field, jump=jump, events=away), [0.0, 0.5, 1, 1.5], **way)
            np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("adjoint", ["backsolve", "interpolating"])
def test_continuous_adjoints_take_the_side_before(adjoint):
    np.testing.assert_allclose(by_time(driven, [0.0, 1, 2, 3], inputs=KNOTS, adjoint=adjoint), [-22, 2, 24, 24], rtol=1e-6)
    for field in SWITCHED:
        found = by_time(field, [0.0, 0.5, 1, 1.5], adjoint=adjoint)
        np.testing.assert_allclose(found, [-8, 1, 2, 15], rtol=1e-6)
        np.testing.assert_allclose(by_time(field, [1.5, 1.0, 0.5], adjoint=adjoint), [21, -9, -4], rtol=1e-6)


def test_a_loss_that_depends_on_time_has_its_part_beside_events():
    f = pn.field(state=1)(lambda t, y: -0.5 * y)
    loss = pn.field(state=1, out=1)(lambda t, y: [t * t * y[0]])
    late = pn.event(lambda t, y: t - 0.3, terminal=False)
    for t in ([0.0, 0.5, 1.2], [[0.0, 0.5, 1.2], [0.0, 0.7, 2.0]], [[0.0, 0.5], [0.0, 0.7, 2.0]]):
        y0 = np.ones(1) if np.ndim(t[0]) == 0 else np.ones((2, 1))
        times = t if np.ndim(t[0]) == 0 else [np.array(x) for x in t]
        plain, beside = (
            pn.loss_and_grad(
                pn.System(f, loss=loss, events=e), y0, times, None, loss="program", wrt="t", rtol=1e-10, atol=1e-12
            )
            for e in ((), late)
        )
        for a, b in zip(np.atleast_1d(plain.t) if np.ndim(t[0]) == 0 else plain.t, beside.t, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
