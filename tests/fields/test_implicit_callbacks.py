"""Callback fields with Rosenbrock methods: Jacobians given or by differences, their gradients, and what may go wrong."""

import gc
import sys
import threading

import numpy as np
import pytest

import pynode as pn
from pynode.fields.differences import RELATIVE, Scales

IMPLICIT = [name for name, row in pn.METHODS.items() if row["gamma"] > 0]
ANY_MATRIX = [name for name, row in pn.METHODS.items() if row["any_matrix"]]
methods = pytest.mark.parametrize("method", IMPLICIT)
T = np.linspace(0, 2, 6)
THETA = np.array([30.0, 0.7])
Y0 = np.array([1.2, -0.4])
BATCH = Y0 + 0.1 * np.random.default_rng(0).normal(size=(19, 2))  # more than one block of lanes


def f(t, y, th):
    return np.stack([y[..., 1] + 0 * t, th[0] * (1 - y[..., 0] ** 2) * y[..., 1] - y[..., 0] + np.sin(th[1] * t)], axis=-1)


def vjp(t, y, th, g):
    a, b = y[..., 0], y[..., 1]
    gy = np.stack([g[..., 1] * (-2 * th[0] * a * b - 1), g[..., 0] + g[..., 1] * th[0] * (1 - a * a)], axis=-1)
    return gy, np.stack([g[..., 1] * (1 - a * a) * b, g[..., 1] * t * np.cos(th[1] * t)], axis=-1)


def jacobian(t, y, th):
    a, b = y[..., 0], y[..., 1]
    rows = [[0 * a, 1 + 0 * a], [-2 * th[0] * a * b - 1, th[0] * (1 - a * a)]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def time_derivative(t, y, th):
    return np.stack([0 * y[..., 0], th[1] * np.cos(th[1] * t) + 0 * y[..., 0]], axis=-1)


def field(given=False, vectorized=False, **more):
    keys = {"vjp": vjp, "vectorized": vectorized}
    keys |= {"jacobian": jacobian, "time_derivative": time_derivative} if given else {}
    return pn.callback_field(f, 2, 2, **keys | more)


traced = pn.field(state=2, theta=(2,))(lambda t, y, th: [y[1], th[0] * (1 - y[0] ** 2) * y[1] - y[0] + np.sin(th[1] * t)])


# ---- Values


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("given", [False, True])
@methods
def test_the_same_as_the_traced_field(method, given, vectorized):
    """A Jacobian that is given is that of the program; differences are right to 1e-8, which a step hardly notices."""
    g = field(given, vectorized)
    for y0 in (Y0, BATCH):
        for options in ({}, {"step": 0.02}, {"save": "land"}):
            a = pn.solve(g, y0, T, THETA, method=method, **options)
            b = pn.solve(traced, y0, T, THETA, method=method, **options)
            np.testing.assert_allclose(a.y, b.y, rtol=1e-11 if given else 1e-6, atol=1e-12 if given else 1e-7)
            assert np.abs(a.stats.accepted - b.stats.accepted).max() <= 1
            assert a.stats.jacobian == ("given" if given else "differences") and b.stats.jacobian == "program"


def test_single_precision_and_backwards():
    for dtype, limit in ((np.float32, 1e-2), (np.float64, 1e-5)):
        a = pn.solve(field(), BATCH, T, THETA, method="rodas5p", dtype=dtype, rtol=1e-4)
        b = pn.solve(traced, BATCH, T, THETA, method="rodas5p", dtype=dtype, rtol=1e-4)
        assert a.y.dtype == dtype and np.abs(a.y - b.y).max() < limit
    seen = []

    def decay(t, y):
        seen.append(t)
        return -y * (1 + 0 * t)

    sol = pn.solve(decay, [1.0], [1.0, 0.0], method="rodas5p")
    assert sol.y[1, 0] == pytest.approx(np.e, rel=1e-5) and max(seen) <= 1.0 and min(seen) >= 0.0


@pytest.mark.parametrize("kind", ["constant", "previous", "linear", "cubic"])
@pytest.mark.parametrize("given", [False, True])
def test_inputs(given, kind):
    """Inputs that move belong to df/dt, whether or not that is given."""

    def driven(t, y, u):
        return -20.0 * (y - u) + 0.1 * t * u

    more = {"jacobian": lambda t, y, u: [[-20.0]], "time_derivative": lambda t, y, u: 0.1 * u} if given else {}
    g = pn.callback_field(driven, 1, inputs=1, **more)
    knots = np.array([0.0, 0.4, 0.5, 1.1, 2.0])
    values = np.random.default_rng(0).normal(size=(5, 1))
    signal = pn.Signal(None, values[0], kind) if kind == "constant" else pn.Signal(knots, values, kind)
    same = pn.field(state=1, inputs=1)(driven)
    for method in IMPLICIT:
        a = pn.solve(g, [0.3], T, inputs=signal, method=method, step=0.05)
        np.testing.assert_allclose(a.y, pn.solve(same, [0.3], T, inputs=signal, method=method, step=0.05).y, atol=1e-7)


@methods
def test_events_and_jumps(method):
    ball = pn.callback_field(lambda t, y: np.array([y[1], -9.81 - 0.2 * y[1] * abs(y[1])]), 2)
    same = pn.field(state=2)(lambda t, y: [y[1], -9.81 - 0.2 * y[1] * abs(y[1])])
    bounce = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y: [0 * y[0], -0.7 * y[1]])
    options = {"method": method, "events": bounce}
    a, b = (pn.solve(g, [1.0, 0.0], np.linspace(0, 1.9, 5), **options) for g in (ball, same))
    np.testing.assert_allclose(a.events.t, b.events.t, atol=1e-7)
    np.testing.assert_allclose(a.y, b.y, atol=1e-6)
    assert a.stats.jacobian == "differences" and a.stats.factorisations > a.stats.jacobians >= a.stats.accepted
    assert b.stats.factorisations == b.stats.jacobians > b.stats.accepted  # roots are found by steps of other lengths
    jump = pn.field(state=2, inputs=1)(lambda t, y, x: [y[0] + x[0], y[1]])
    data = np.where(np.arange(6) == 3, 0.5, np.nan)[:, None]
    a, b = (pn.solve(pn.System(g, jump=jump), Y0, T, THETA, data=data, method=method) for g in (field(), traced))
    np.testing.assert_allclose(a.y, b.y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_differences_keep_to_the_scale_of_the_state(scale):
    """The same equation in units in which y is small or large: as many steps as with the true Jacobian."""

    def logistic(t, y):
        return 1e4 * y * (1 - y / scale)

    options = {"method": "rodas5p", "rtol": 1e-6, "atol": 1e-8 * scale}
    a = pn.solve(logistic, [0.2 * scale], [0.0, 1.0], **options)
    b = pn.solve(pn.field(state=1)(logistic), [0.2 * scale], [0.0, 1.0], **options)
    assert a.ok and a.y[-1, 0] == pytest.approx(scale, rel=1e-6)
    assert abs(a.stats.accepted - b.stats.accepted) <= 1


def test_steps_of_differences():
    scales = Scales(np.array([1e-3, 0.0]), -10.0)
    y = np.array([[0.0, 0.0], [-2.0, 1e-30], [1e-9, -3e20]])
    steps = scales.of_states(y)
    np.testing.assert_allclose(steps, RELATIVE * np.array([[1e-3, 1.0], [-2.0, 1e-30], [1e-3, -3e20]]), rtol=1e-7)
    assert (((y + steps) - y) == steps).all()
    t = np.array([0.0, 1.0, 1e9])
    assert (scales.of_times(t) < 0).all() and (np.abs(scales.of_times(t)) < 1e-2).all()


# ---- What it costs


@pytest.mark.parametrize("vectorized", [False, True])
def test_evaluations_are_counted(vectorized):
    """Those of the function itself: stages, the choice of the first step, and d + 2 for each Jacobian by differences."""
    rows = {"f": 0, "jacobian": 0}

    def counting(name, function):
        def counted(t, y, th):
            rows[name] += len(t) if vectorized else 1
            return function(t, y, th)

        return counted

    for given in (False, True):
        more = {"jacobian": counting("jacobian", jacobian), "time_derivative": time_derivative} if given else {}
        g = pn.callback_field(counting("f", f), 2, 2, vectorized=vectorized, **more)
        for y0 in (Y0, BATCH):
            rows |= {"f": 0, "jacobian": 0}
            stats = pn.solve(g, y0, T, THETA, method="rodas5p", rtol=1e-8).stats
            attempts = np.sum(stats.accepted) + np.sum(stats.rejected)
            samples = 1 if y0.ndim == 1 else len(y0)
            assert np.sum(stats.nfe) == rows["f"]
            assert np.sum(stats.nfe) == 2 * samples + 8 * attempts + (0 if given else 4) * np.sum(stats.jacobians)
            assert np.sum(stats.jacobians) == np.sum(stats.accepted) and np.sum(stats.factorisations) == attempts
            assert not given or rows["jacobian"] == np.sum(stats.jacobians)
    assert np.sum(stats.rejected) > 0  # which took no Jacobian


def test_counts_of_programs():
    sol = pn.solve(traced, BATCH, T, THETA, method="rodas4", rtol=1e-8)
    attempts = sol.stats.accepted + sol.stats.rejected
    np.testing.assert_array_equal(sol.stats.jacobians, attempts)
    np.testing.assert_array_equal(sol.stats.factorisations, attempts)
    fixed = pn.solve(traced, BATCH, T, THETA, method="rodas4", step=0.02).stats  # lanes in step
    assert (fixed.jacobians == 100).all() and (fixed.factorisations == 100).all() and (fixed.nfe == 600).all()
    explicit = pn.solve(traced, Y0, T, THETA).stats
    assert (explicit.jacobians, explicit.factorisations, explicit.jacobian) == (0, 0, "none")


# ---- W-methods


@pytest.mark.parametrize("method", IMPLICIT)
def test_order_with_a_wrong_jacobian(method):
    """Half of it, and no df/dt: W-methods keep their order, at times between the steps too, others fall to 1 or 2."""
    order = pn.METHODS[method]["order"]
    mild = np.array([1.5, 0.7])
    wrong = field(jacobian=lambda t, y, th: 0.5 * jacobian(t, y, th) + 0.3, time_derivative=lambda t, y, th: 0 * y)
    t = np.array([0.0, 0.33, 0.91, 2.0])
    want = pn.solve(traced, Y0, t, mild, method="dop853", rtol=1e-12, atol=1e-13).y
    errors = [np.abs(pn.solve(wrong, Y0, t, mild, method=method, step=1 / n).y - want)[1:] for n in (40, 80, 160)]
    slopes = np.log2(np.array([e.max() for e in errors])[:-1] / np.array([e.max() for e in errors])[1:])
    assert (slopes[-1] > order - 0.3) == (method in ANY_MATRIX), slopes
    assert slopes[-1] > 0.7


# ---- Gradients


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("given", [False, True])
@methods
def test_gradients_are_those_of_the_traced_field(method, given, vectorized):
    """On the same steps. Second derivatives are differences of the vjp along the steps of the Jacobian's."""
    g = np.random.default_rng(1).normal(size=(19, 6, 2))
    options = {"method": method, "step": 0.02}
    a = pn.solve(field(given, vectorized), BATCH, T, THETA, **options).vjp(g, wrt=("theta", "y0"))
    b = pn.solve(traced, BATCH, T, THETA, **options).vjp(g, wrt=("theta", "y0"))
    np.testing.assert_allclose(a.theta, b.theta, rtol=3e-6)
    np.testing.assert_allclose(a.y0, b.y0, rtol=3e-6, atol=3e-6 * np.abs(b.y0).max())


def test_gradients_with_a_budget_and_sensitivities():
    g = np.random.default_rng(1).normal(size=(6, 2))
    options = {"method": "rodas5p", "rtol": 1e-7}
    sol = pn.solve(field(), Y0, T, THETA, **options)
    back = sol.vjp(g)
    assert np.array_equal(sol.vjp(g, memory="30KB").theta, back.theta)
    S = pn.sensitivities(field(), Y0, T, THETA, **options)
    np.testing.assert_allclose(np.einsum("tc,tcp->p", g, S.theta), back.theta, rtol=1e-6)
    np.testing.assert_allclose(np.einsum("tc,tcp->p", g, S.y0), back.y0, rtol=1e-6)


def test_a_gradient_needs_a_vjp():
    blind = pn.callback_field(f, 2, 2, jacobian=jacobian)
    with pytest.raises(ValueError, match="has no vjp, so it has no gradient"):
        pn.loss_and_grad(blind, Y0, T, THETA, np.zeros((6, 2)), method="rodas5p")


# ---- Algebraic equations


def test_mass():
    """Robertson with a conserved sum as an algebraic equation."""

    def robertson(t, y):
        back, fast = 1e4 * y[1] * y[2], 3e7 * y[1] ** 2
        return np.array([back - 0.04 * y[0], 0.04 * y[0] - back - fast, y[0] + y[1] + y[2] - 1.0])

    blind = pn.callback_field(robertson, 3)
    M = [1.0, 1.0, 0.0]
    start = pn.consistent_state(blind, [1.0, 0.0, 0.1], mass=M)
    np.testing.assert_allclose(start, [1.0, 0.0, 0.0], atol=1e-12)
    t = [0.0, 0.4, 40.0, 4e3]
    options = {"method": "rodas5p", "mass": M, "rtol": 1e-8, "atol": [1e-10, 1e-14, 1e-10]}
    same = pn.field(state=3)(lambda t, y: list(robertson(t, y)))
    np.testing.assert_allclose(pn.solve(blind, start, t, **options).y, pn.solve(same, start, t, **options).y, rtol=1e-6)
    with pytest.raises(ValueError, match="does not satisfy the algebraic equations"):
        pn.solve(blind, [1.0, 0.0, 0.1], t, **options)


# ---- What may go wrong


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (np.zeros(4), ValueError, r"jacobian must return an array of shape \(2, 2\), not \(4,\)"),
        (np.zeros((2, 3)), ValueError, r"\(2, 2\), not \(2, 3\)"),
        (None, TypeError, "what jacobian returns"),
        (np.zeros((2, 2), complex), TypeError, "what jacobian returns"),
    ],
)
def test_wrong_returns(value, error, words):
    with pytest.raises(error, match=words):
        pn.solve(field(jacobian=lambda t, y, th: value), Y0, T, THETA, method="rodas4")
    with pytest.raises(ValueError, match=r"time_derivative must return an array of shape \(2,\)"):
        pn.solve(field(time_derivative=lambda t, y, th: 0.0), Y0, T, THETA, method="rodas4")
    with pytest.raises(ValueError, match=r", 2, 2\), not \(2, 2\)"):
        pn.solve(field(True, True, jacobian=lambda t, y, th: np.eye(2)), BATCH, T, THETA, method="rodas4")


@pytest.mark.parametrize("name", ["jacobian", "time_derivative"])
def test_what_is_no_function(name):
    with pytest.raises(TypeError, match=f"{name} must be a function, not 3"):
        pn.callback_field(f, 2, 2, **{name: 3})


@pytest.mark.parametrize("options", [{}, {"step": 0.1}])
def test_a_jacobian_that_is_nan_ends_its_sample(options):
    """That of one sample, and says so; the others do not notice."""

    y0 = np.vstack([[0.0, 0.0], BATCH])

    def root(t, y, th):
        return -y

    def slope(t, y, th):
        return np.where(y[:, :1, None] == 0, np.nan, -np.eye(2))

    g = pn.callback_field(root, 2, 2, vectorized=True, jacobian=slope)
    with pytest.warns(pn.SolveWarning, match="1 of 20 samples failed; sample 0: non_finite .* component 0: .*its Jacobian"):
        sol = pn.solve(g, y0, T, THETA, method="rodas4", **options)
    assert (sol.status[1:] == 0).all() and np.isnan(sol.y[0, 1:]).all() and np.isfinite(sol.y[1:]).all()


class Mine(Exception):
    pass


@pytest.mark.parametrize("where", ["f", "jacobian", "time_derivative"])
@pytest.mark.parametrize("vectorized", [False, True])
def test_exceptions_come_out_unchanged(where, vectorized):
    error, calls = Mine(where), []

    def raising(function):
        def raises_it(t, y, th):
            calls.append(1)
            if len(calls) > 7:
                raise error
            return function(t, y, th)

        return raises_it

    functions = {"f": f, "jacobian": jacobian, "time_derivative": time_derivative}
    functions[where] = raising(functions[where])
    g = pn.callback_field(functions.pop("f"), 2, 2, vectorized=vectorized, **functions)
    with pytest.raises(Mine) as caught:
        pn.solve(g, BATCH, [0.0, 1e3], THETA, method="rodas5p")
    assert caught.value is error and len(calls) == 8
    del calls[:]
    with pytest.raises(Mine):  # by differences
        pn.solve(pn.callback_field(raising(f), 2, 2, vectorized=vectorized), BATCH, T, THETA, method="rosenbrock23")


def test_exceptions_in_the_vjp():
    def raises_it(t, y, th, g):
        raise Mine

    for options in ({}, {"memory": "30KB"}):
        with pytest.raises(Mine):
            pn.loss_and_grad(field(vjp=raises_it), Y0, T, THETA, np.zeros((6, 2)), method="rodas5p", **options)


def test_ctrl_c_in_a_jacobian():
    calls = []

    def interrupts(t, y, th):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return jacobian(t, y, th)

    with pytest.raises(KeyboardInterrupt):
        pn.solve(field(jacobian=interrupts), Y0, [0.0, 1e6], THETA, method="rodas5p", max_steps=10**9)
    assert len(calls) == 5


def test_no_memory_is_lost():
    def once(i):
        pn.solve(field(i % 2 == 0, i % 3 == 0), BATCH, T[:3], THETA, method="rosenbrock23", rtol=1e-2)
        pn.solve(field(), Y0, T[:3], THETA, method="rodas4").vjp(np.ones((3, 2)))
        with pytest.raises(ValueError):
            pn.solve(field(jacobian=lambda t, y, th: np.eye(3)), BATCH, T, THETA, method="rodas4")

    for i in range(6):
        once(i)
    gc.collect()
    watched = [BATCH, THETA, jacobian, f]
    counts = [sys.getrefcount(x) for x in watched]
    for i in range(60):
        once(i)
    gc.collect()
    assert [sys.getrefcount(x) for x in watched] == counts


def test_callbacks_from_several_threads():
    want = pn.solve(field(True), BATCH, T, THETA, method="rodas4").y
    got = {}

    def work(i):
        got[i] = pn.solve(field(True, i % 2 == 1), BATCH, T, THETA, method="rodas4").y

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        np.testing.assert_allclose(got[i], want, rtol=1e-12)
