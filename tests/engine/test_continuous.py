"""The other gradients: continuous adjoints (which converge to the exact gradient as tolerances shrink), the reversible
scheme, callback fields."""

import time

import numpy as np
import pytest
import rk_reference as rk
from gradient_cases import KNOTS, THETA, agree, check, driven, driven_reference, ragged

import pynode as pn

CONTINUOUS = ["backsolve", "interpolating"]
EXACT = ["discrete", "reversible"]
WRT = ("theta", "y0", "t", "inputs")
REVERSIBLE = [name for name, row in pn.METHODS.items() if not row["second"] and row["gamma"] == 0]


def flat(x):
    return np.concatenate([np.ravel(a) for a in (x if isinstance(x, list) else [x])])


# ---- Continuous adjoints


@pytest.fixture(scope="module")
def forced():
    """Ragged samples, two of them backward in time, driven by a signal; and their gradients to 12 digits."""
    rng = np.random.default_rng(1)
    t, target, weight = ragged(rng, backward=(1, 2))
    arguments = (driven, rng.normal(size=(3, 2)), t, THETA, target)
    options = {"weight": weight, "inputs": (KNOTS, rng.normal(size=(6, 2)), "linear"), "wrt": WRT}
    exact = pn.loss_and_grad(*arguments, method="dop853", rtol=1e-13, atol=1e-13, **options)
    return arguments, options, exact


@pytest.mark.parametrize("adjoint", CONTINUOUS)
@pytest.mark.parametrize(
    ("method", "tolerances"),
    [
        ("bosh3", [1e-4, 1e-6, 1e-8]),
        ("dopri5", [1e-5, 1e-7, 1e-9, 1e-11]),
        ("tsit5", [1e-5, 1e-7, 1e-9, 1e-11]),
        ("dop853", [1e-6, 1e-8, 1e-10, 1e-12]),
    ],
)
def test_convergence_with_the_tolerance(adjoint, method, tolerances, forced):
    arguments, options, exact = forced
    errors = {name: [] for name in WRT}
    for tol in tolerances:
        value = pn.loss_and_grad(*arguments, adjoint=adjoint, method=method, rtol=tol, atol=tol, **options)
        for name in WRT:
            want = flat(getattr(exact, name))
            errors[name].append(np.abs(flat(getattr(value, name)) - want).max() / np.abs(want).max())
    for name in WRT:
        slope = np.polyfit(np.log(tolerances), np.log(errors[name]), 1)[0]
        assert 0.65 < slope < 1.4, (name, slope, errors[name])
        assert errors[name][-1] < 300 * tolerances[-1], (name, errors[name])


@pytest.mark.parametrize("adjoint", CONTINUOUS)
@pytest.mark.parametrize("kind", ["constant", "previous", "linear", "cubic"])
@pytest.mark.parametrize("shared", [True, False])
def test_kinds_of_inputs(adjoint, kind, shared):
    rng = np.random.default_rng(2)
    t, target, _ = ragged(rng)
    u = rng.normal(size=(3, 6, 2))
    if kind == "constant":
        signal = pn.Signal(None, u[0, 0] if shared else u[:, 0], kind)
    else:
        signal = pn.Signal(KNOTS, u[0] if shared else u, kind)
    options = {"inputs": signal, "wrt": WRT, "method": "dop853", "rtol": 1e-11, "atol": 1e-12}
    y0 = rng.normal(size=(3, 2))
    value, exact = (pn.loss_and_grad(driven, y0, t, THETA, target, adjoint=a, **options) for a in (adjoint, "discrete"))
    for name in WRT:
        assert np.shape(flat(getattr(value, name))) == np.shape(flat(getattr(exact, name)))
        check(flat(getattr(value, name)), flat(getattr(exact, name)), 1e-8)


@pytest.mark.parametrize("adjoint", CONTINUOUS)
@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize("kind", ["single", "shared", "own"])
def test_shapes_and_repeated_times(adjoint, save, kind):
    rng = np.random.default_rng(3)
    f = pn.mlp(2, (5,), time=True)
    t = np.array([0.2, 0.2, 0.5, 0.9, 0.9, 1.4, 1.4])
    y0, target = rng.normal(size=(3, 2)), rng.normal(size=(3, 7, 2))
    if kind == "single":
        y0, target = y0[0], target[0]
    t = np.stack([t, t + 0.1, t[::-1]]) if kind == "own" else t
    options = {
        "wrt": ("theta", "y0", "t"),
        "save": save,
        "method": "dop853",
        "rtol": 1e-12,
        "atol": 1e-12,
        "loss": "student",
    }
    value, exact = (pn.loss_and_grad(f, y0, t, f.init(0), target, adjoint=a, **options) for a in (adjoint, "discrete"))
    check(value.theta, exact.theta, 1e-9)
    check(value.y0, exact.y0, 1e-9)
    assert value.y0.shape == np.shape(y0) and value.t.shape == exact.t.shape == t.shape
    rows = t.reshape(-1, 7)
    check(
        [rk.together(s, g) for s, g in zip(rows, value.t.reshape(-1, 7), strict=True)],
        [rk.together(s, g) for s, g in zip(rows, exact.t.reshape(-1, 7), strict=True)],
        1e-8,
    )


@pytest.mark.parametrize("adjoint", CONTINUOUS)
@pytest.mark.parametrize(("loss", "scale", "dof"), [("sse", 1, 4), ("mae", 1, 4), ("huber", 0.4, 4), ("student", 0.3, 7.5)])
def test_losses(adjoint, loss, scale, dof):
    rng = np.random.default_rng(8)
    t, target, weight = ragged(rng)
    f = pn.mlp(2, (4,))
    arguments = (f, rng.normal(size=(3, 2)), t, rng.normal(size=f.n_params), target)
    options = {"loss": loss, "loss_scale": scale, "loss_dof": dof, "weight": weight, "wrt": ("theta", "y0")}
    value, exact = (
        pn.loss_and_grad(*arguments, adjoint=a, method="dop853", rtol=1e-11, atol=1e-11, **options)
        for a in (adjoint, "discrete")
    )
    assert value.loss == pytest.approx(exact.loss, rel=1e-12)
    check(value.theta, exact.theta, 1e-8)
    check(value.y0, exact.y0, 1e-8)


@pytest.mark.parametrize("adjoint", CONTINUOUS)
def test_fixed_steps(adjoint):
    # with fixed steps of order p the gradient converges with the step^p
    rng = np.random.default_rng(4)
    f = pn.mlp(2, (5,), time=True)
    y0, t, target, theta = rng.normal(size=(3, 2)), np.linspace(0, 2, 5), rng.normal(size=(3, 5, 2)), 2 * f.init(0)
    exact = pn.loss_and_grad(f, y0, t, theta, target, method="dop853", rtol=1e-13, atol=1e-13)
    for method, order in (("midpoint", 2), ("rk4", 4)):
        errors = [
            np.abs(
                pn.loss_and_grad(f, y0, t, theta, target, adjoint=adjoint, method=method, step=h).theta - exact.theta
            ).max()
            for h in (0.05, 0.025, 0.0125)
        ]
        assert np.abs(np.log2(np.divide(errors[:-1], errors[1:])) - order).max() < 0.2, errors


def test_backsolve_fails_where_the_way_back_is_unstable():
    # y0' = -k (y0 - cos t) is easy forward; backward an error grows like e^(k t). y1 lets it reach the gradient
    @pn.field(state=2, theta={"k": (), "c": 1.0})
    def stiff(t, y, th):
        return [-th.k * (y[0] - np.cos(t)), th.c * y[0] ** 2]

    def gradients(k, adjoint):
        return pn.loss_and_grad(
            stiff,
            [1.5, 0.0],
            [0.0, 2.0],
            [k, 1.0],
            np.zeros((2, 2)),
            adjoint=adjoint,
            wrt=("theta", "y0"),
            rtol=1e-6,
            atol=1e-8,
        )

    start = time.perf_counter()
    for k in (1.0, 20.0, 60.0, 500.0):
        exact = gradients(k, "discrete")
        check(gradients(k, "interpolating").theta, exact.theta, 1e-5)
        if k == 1.0:
            check(gradients(k, "backsolve").theta, exact.theta, 1e-4)
        elif k < 100:  # finite, and visibly wrong
            assert np.abs(gradients(k, "backsolve").theta).max() > 1e6
        else:  # the state overflows on the way back: the sample has failed, it says so, and it adds nothing
            with pytest.warns(pn.SolveWarning, match="non_finite"):
                value = gradients(k, "backsolve")
            assert value.status != 0 and np.isnan(value.loss)
            assert not value.theta.any() and not value.y0.any()
    sol = pn.solve(stiff, [[1.5, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 0.1]], [500.0, 1.0])
    with pytest.warns(pn.SolveWarning, match="could not be solved backwards"):
        grads = sol.vjp([np.ones((2, 2))] * 2, adjoint="backsolve")
    pair = pn.solve(stiff, [[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.1]] * 2, [500.0, 1.0])  # the second counts nothing
    alone = pair.vjp([np.ones((2, 2)), np.zeros((2, 2))], adjoint="backsolve")
    check(grads.theta, alone.theta, 1e-12)
    assert not grads.y0[0].any()
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("way", [1, -1])
def test_interpolating_along_tiny_steps(dtype, way):
    # the seventh power of 1e-10 has no inverse in float32
    f = pn.mlp(2, (5,), time=True)
    t, tight = way * np.array([0.0, 0.5, 2.0]), 1e-10 if dtype == np.float64 else 1e-5
    values = [
        pn.loss_and_grad(
            f,
            np.array([1.0, 0.5], dtype),
            t,
            f.init(0),
            np.zeros((3, 2), dtype),
            adjoint=adjoint,
            method="dop853",
            rtol=tight,
            atol=tight,
            first_step=1e-10 if dtype == np.float32 else 1e-60,
            wrt=("theta", "y0", "t"),
        )
        for adjoint in ("interpolating", "discrete")
    ]
    for name in ("theta", "y0", "t"):
        check(getattr(values[0], name), getattr(values[1], name), 100 * tight)


def test_refused():
    f = pn.mlp(1, (2,))
    theta, target = f.init(0), np.zeros((2, 1))
    for adjoint in (*CONTINUOUS, "reversible"):
        with pytest.raises(ValueError, match="memory"):
            pn.loss_and_grad(f, [1.0], [0.0, 1.0], theta, target, adjoint=adjoint, memory="1MB")
    for adjoint in CONTINUOUS:
        with pytest.raises(ValueError, match="grid"):
            pn.loss_and_grad(f, [1.0], [0.0, 1.0], theta, target, adjoint=adjoint, grid=[0, 0.5, 1])
    for adjoint in (*CONTINUOUS, "discrete"):
        with pytest.raises(ValueError, match="reversible"):
            pn.loss_and_grad(f, [1.0], [0.0, 1.0], theta, target, adjoint=adjoint, coupling=0.9)
        with pytest.raises(ValueError, match="reversible"):
            pn.solve(f, [1.0], [0.0, 1.0], theta, coupling=0.9).vjp(target, adjoint=adjoint)
    with pytest.raises(ValueError, match="coupling"):
        pn.solve(f, [1.0], [0.0, 1.0], theta).vjp(target, adjoint="reversible")
    with pytest.raises(ValueError, match="grid"):  # the scheme has no dense output to differentiate
        pn.solve(f, [1.0], [0.0, 0.3, 1.0], theta, coupling=0.9, grid=[0, 0.5, 1])


# ---- The reversible scheme


@pytest.mark.parametrize("coupling", [1.0, 0.99, 0.8])
@pytest.mark.parametrize(
    ("method", "control"),
    [
        *((name, "fixed") for name in REVERSIBLE),
        *((name, "adaptive") for name in REVERSIBLE if pn.METHODS[name]["error_order"]),
    ],
)
def test_reversible_gradients_are_exact(method, control, coupling):
    rng = np.random.default_rng(5)
    t, target, weight = ragged(rng)
    t, target, weight = t[:2], target[:2], weight[:2]
    options = {"step": 0.11} if control == "fixed" else {"rtol": 1e-3, "atol": 1e-3}
    inputs = ("cubic", [KNOTS], [rng.normal(size=(6, 2))])
    value = agree(
        driven,
        driven_reference,
        rng.normal(size=(2, 2)),
        t,
        THETA,
        target,
        weight=weight,
        inputs=inputs,
        wrt=WRT,
        adjoint="reversible",
        method=method,
        coupling=coupling,
        tolerance=1e-10,
        **options,
    )
    assert value.stats.accepted.min() >= 4


def test_reversible_default_coupling():
    f = pn.mlp(2, (3,))
    arguments = (f, [1.0, 0.5], [0.0, 0.7, 1.0], f.init(0), np.zeros((3, 2)))
    value, same = (pn.loss_and_grad(*arguments, adjoint="reversible", **k) for k in ({}, {"coupling": 0.99}))
    assert value.loss == same.loss and np.array_equal(value.theta, same.theta)
    assert value.loss != pn.loss_and_grad(*arguments).loss
    result = pn.check_grad(*arguments, adjoint="reversible", wrt=("theta", "y0", "t"))
    assert result.max_error < 1e-9, str(result)


@pytest.mark.parametrize("method", REVERSIBLE)
def test_order_of_the_reversible_scheme(method):
    # that of the method (McCallum & Foster 2024, theorem 2.1)
    @pn.field(state=2)
    def f(t, y):
        rate = 4 * (1 + 0.3 * np.cos(t)) * (y[0] ** 2 + y[1] ** 2) ** 0.25
        return [rate * y[1], -rate * y[0]]

    def exact(t):
        phase = 4 * (t + 0.3 * np.sin(t))
        return np.stack([np.sin(phase), np.cos(phase)], axis=-1)

    order, errors = pn.METHODS[method]["order"], {}
    steps = {1: 640, 2: 80, 3: 160, 4: 80, 5: 160, 8: 10}[order] * np.array([1, 2, 4])
    for coupling in (1.0, 0.99, 0.5):
        errors[coupling] = np.array(
            [
                np.abs(
                    pn.solve(f, exact(0.5), [0.5, 1.5], method=method, step=1 / n, coupling=coupling).y[-1] - exact(1.5)
                ).max()
                for n in steps
            ]
        )
    slopes = {c: np.log2(e[:-1] / e[1:]) for c, e in errors.items()}
    assert np.abs(slopes[0.5] - order).max() < 0.2, errors
    if order == 5:  # the leading term is small at coupling 1: rounding is reached before it rules
        assert errors[1.0].max() < errors[0.5].max()
    else:
        assert np.abs(slopes[1.0] - order).max() < 0.2, errors
    # in between, y - z takes 1 / (1 - coupling) steps to settle: for odd orders the error goes from the one to the other
    assert np.all(errors[0.99] < 1.2 * np.maximum(errors[1.0], errors[0.5]))


def test_reconstruction_and_its_limit():
    # going back multiplies rounding by 1 / coupling a step: exact where that is harmless, a warning where it is not
    f = pn.mlp(2, (5,), time=True)
    rng = np.random.default_rng(6)
    y0, target, theta = rng.normal(size=2), rng.normal(size=(2, 2)), f.init(0)
    errors = {}
    for coupling, steps in ((1.0, 1000), (0.999, 1000), (0.99, 1000), (0.9, 100), (0.5, 25), (0.5, 40)):
        grid = np.linspace(0, 2, steps + 1)
        arguments = (f, y0, [0.0, 2.0], theta, target)
        reference = rk.Problem(
            rk.mlp((3, 5, 2), time=True),
            "midpoint",
            [grid],
            y0[None],
            [np.array([0.0, 2.0])],
            theta,
            [target],
            coupling=coupling,
        )
        options = {"adjoint": "reversible", "method": "midpoint", "grid": grid, "coupling": coupling, "wrt": ("theta", "y0")}
        if steps == 40:
            with pytest.warns(pn.SolveWarning, match="coupling"):
                value = pn.loss_and_grad(*arguments, **options)
        else:
            value = pn.loss_and_grad(*arguments, **options)
        want = reference.theta_gradient()
        errors[coupling, steps] = np.abs(value.theta - want).max() / np.abs(want).max()
        assert errors[coupling, steps] < 1e-15 * 1000 * coupling**-steps
    assert max(errors[1.0, 1000], errors[0.999, 1000]) < 1e-12
    assert errors[0.5, 40] > 1e-8  # the limit is real


# ---- Callback fields


class Network:
    """The driven field as Python functions, sample by sample or for all samples at once."""

    def __init__(self, vectorized):
        self.vectorized = vectorized
        self.field = pn.callback_field(self.f, 2, 4, self.vjp, inputs=2, vectorized=vectorized)

    def _columns(self, *arrays):
        return [np.moveaxis(np.asarray(a), -1, 0) for a in arrays]

    def f(self, t, y, th, u):
        (x, v), (a, b) = self._columns(y, u)
        return np.stack([v + 0.1 * b, -th[0] * np.sin(x) - th[1] * v + a * np.cos(th[2] * t) + th[3] * b * x], axis=-1)

    def vjp(self, t, y, th, u, g):
        (x, v), (a, b), (g0, g1) = self._columns(y, u, g)
        gy = np.stack([g1 * (-th[0] * np.cos(x) + th[3] * b), g0 - g1 * th[1]], axis=-1)
        return gy, np.stack([-g1 * np.sin(x), -g1 * v, -g1 * a * t * np.sin(th[2] * t), g1 * b * x], axis=-1)


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("adjoint", EXACT)
@pytest.mark.parametrize(
    "options", [{"rtol": 1e-4, "atol": 1e-5}, {"method": "rk4", "step": 0.2}, {"method": "dop853", "step": 0.3}]
)
def test_callback_fields(vectorized, adjoint, options):
    rng = np.random.default_rng(7)
    t, target, weight = ragged(rng)
    inputs, y0 = (KNOTS, rng.normal(size=(6, 2)), "linear"), rng.normal(size=(3, 2))
    options = {**options, "inputs": inputs, "adjoint": adjoint, "weight": weight, "wrt": ("theta", "y0")}
    traced = pn.loss_and_grad(driven, y0, t, THETA, target, **options)
    f = Network(vectorized).field
    value = pn.loss_and_grad(f, y0, t, THETA, target, **options)
    assert value.stats.backend == "callback" and np.array_equal(value.stats.accepted, traced.stats.accepted)
    assert value.loss == pytest.approx(traced.loss, rel=1e-12)
    check(value.theta, traced.theta, 1e-11)
    check(value.y0, traced.y0, 1e-11)
    loss, gradient = pn.Objective(f, y0, t, target, **{k: v for k, v in options.items() if k != "wrt"})(THETA)
    assert loss == value.loss and np.array_equal(gradient, value.theta)


def test_callback_fields_and_continuous_adjoints():
    f = pn.callback_field(lambda t, y, th: -th[0] * y, 1, 1, lambda t, y, th, g: (-th[0] * g, np.array([-(y @ g)])))
    for adjoint in CONTINUOUS:
        with pytest.raises(ValueError, match="callback"):
            pn.loss_and_grad(f, [1.0], [0.0, 1.0], [0.5], [[0.0], [0.0]], adjoint=adjoint)
        with pytest.raises(ValueError, match="callback"):
            pn.solve(f, [1.0], [0.0, 1.0], [0.5]).vjp([[0.0], [1.0]], adjoint=adjoint)
    without = pn.callback_field(lambda t, y, th: -th[0] * y, 1, 1)
    for adjoint in EXACT:
        with pytest.raises(ValueError, match="vjp"):
            pn.loss_and_grad(without, [1.0], [0.0, 1.0], [0.5], [[0.0], [0.0]], adjoint=adjoint)


def test_callback_gradient_closed_form():
    f = pn.callback_field(lambda t, y, th: -th[0] * y, 1, 1, lambda t, y, th, g: (-th[0] * g, np.array([-(y @ g)])))
    value = pn.loss_and_grad(
        f, [1.5], [0.0, 2.0], [0.5], [[np.nan], [0.3]], loss="sse", wrt=("theta", "y0"), rtol=1e-11, atol=1e-12
    )
    end = 1.5 * np.exp(-1.0)
    assert value.y0[0] == pytest.approx(2 * (end - 0.3) * np.exp(-1.0), rel=1e-9)
    assert value.theta[0] == pytest.approx(-2 * (end - 0.3) * 2 * end, rel=1e-9)


def test_callback_gradient_within_a_memory_budget():
    f, inputs = Network(vectorized=False).field, (KNOTS, np.ones((6, 2)), "cubic")
    arguments = (f, [1.0, 0.5], np.linspace(0, 3, 5), THETA, np.zeros((5, 2)))
    for options in ({"step": 0.05}, {"rtol": 1e-8, "atol": 1e-8, "first_step": 2.0}):
        free = pn.loss_and_grad(*arguments, inputs=inputs, **options)
        thin = pn.loss_and_grad(*arguments, inputs=inputs, memory=int(free.stats.accepted * 80), **options)
        assert thin.loss == free.loss and np.array_equal(thin.theta, free.theta)
