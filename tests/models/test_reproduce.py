"""Numbers that others computed: the peers' on the same arrays, the worked examples of the course and its errata."""

import bench_cases
import numpy as np
import pytest

import pynode as pn


def case(name):
    """(field, theta, arguments of loss_and_grad) of a case of the bench."""
    c = bench_cases.make(name)
    f = pn.mlp(c["d"], c["hidden"])
    if c.get("cubic"):
        net = f

        @pn.field(state=c["d"], theta={"net": net})
        def f(t, y, th):
            return th.net(y**3)

    theta = np.concatenate([np.concatenate([W.ravel(), b]) for W, b in c["params"]])
    control = {"step": c["dt"]} if "dt" in c else {"rtol": c["rtol"], "atol": c["atol"]}
    return c, f, theta, control


def loss_and_norm(name, dtype=None, **options):
    c, f, theta, control = case(name)
    y0 = c["y0"] if dtype is None else c["y0"].astype(dtype)
    value = pn.loss_and_grad(
        f, y0, c["t"], theta, c["target"].transpose(1, 0, 2), **{"method": c["method"], **control, **options}
    )
    assert value.y.dtype == (dtype or c["dtype"])
    return value.loss, np.linalg.norm(value.theta)


@pytest.mark.parametrize(
    ("name", "method", "loss", "norm"),
    [
        ("codelab", "euler", 3.6774275934445573, 4.483893236806059),
        ("rk4one", "rk4", 19.86328416424388, 168.620030210082),
        ("rk4one", "rk38", 19.86328423704413, 168.62003125349),
    ],
)
def test_fixed_steps(name, method, loss, norm):
    # the peers' step sizes are these, so all digits agree
    assert loss_and_norm(name, method=method) == pytest.approx((loss, norm), rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("name", "loss", "norm", "rel"),
    [
        ("spiral", 1.892195, 0.511433, 1e-6),
        ("vdp", 4.6208, 34.032, 1e-5),
        ("big", 2.06181, 2.78474, 1e-5),
        ("wide", 2.61993, 0.59966, 5e-3),  # at rtol = atol = 1e-3; the peers' own error is 1.1e-3, 4.4e-3
    ],
)
def test_adaptive_steps(name, loss, norm, rel):
    assert loss_and_norm(name) == pytest.approx((loss, norm), rel=rel)


@pytest.mark.parametrize(("name", "rel"), [("spiral", 1e-6), ("vdp", 1e-6), ("wide", 6e-4)])  # wide: at rtol 1e-3
def test_adaptive_steps_against_tight_tolerances(name, rel):
    want = loss_and_norm(name, dtype=np.float64, method="dop853", rtol=1e-11, atol=1e-12)
    assert loss_and_norm(name) == pytest.approx(want, rel=rel)


def test_odeint_rk4_is_the_three_eighths_rule():
    # torchdiffeq's "rk4" is the 3/8 rule: pn.odeint takes its names, pn.solve has both
    c, f, theta, control = case("rk4one")
    t = np.linspace(0, 10, 201)
    y = pn.odeint(f, c["y0"], c["t"], theta, method="rk4", options={"step_size": 0.05})
    assert y.shape == (101, 1, 2)
    assert np.mean((y - c["target"]) ** 2) == pytest.approx(19.86328423704413, rel=1e-12)
    # without step_size the intervals of t are the steps
    assert np.array_equal(pn.odeint(f, c["y0"], t, theta, method="rk4")[::2], y)
    three_eighths, classical = (pn.solve(f, c["y0"], c["t"], theta, method=m, **control).y for m in ("rk38", "rk4"))
    assert np.array_equal(three_eighths[0], y[:, 0])
    assert np.abs(classical[0] - y[:, 0]).max() > 1e-9


# ---- The worked examples 3.1.1 and 3.1.2 of the course: f(y) = w2 tanh(w1 y + b1) + b2, one step at a time

T = np.array([0.0, 0.25, 0.5])
TARGET = np.array([[np.nan], [np.nan], [0.37]])
THETA = np.array([1.5, 0.0, -2.0, 0.0])  # w1, b1, w2, b2, which is the flat theta of pn.mlp(1, (1,))
COURSE = pn.mlp(1, (1,))
EULER = {"method": "euler", "step": 0.25}


def half(value):
    """Gradients of L = (y(0.5) - 0.37)^2 / 2 from those of the sum of squares."""
    return 0.5 * value


def test_worked_example_states():
    y = pn.solve(COURSE, [1.0], T, THETA, **EULER).y[:, 0]
    assert y == pytest.approx([1.0, 0.547426, 0.209581], abs=1e-6)
    jacobian = pn.jacobian(COURSE)
    assert float(np.squeeze(jacobian(0.0, y[1:2], THETA))) == pytest.approx(-1.6303, abs=5e-5)
    assert float(np.squeeze(jacobian(0.0, y[2:3], THETA))) == pytest.approx(-2.7220, abs=5e-5)
    assert np.tanh(1.5 * y[2]) == pytest.approx(0.3044, abs=5e-5)


def test_worked_example_discrete_adjoint():
    value = pn.loss_and_grad(COURSE, [1.0], T, THETA, TARGET, loss="sse", wrt=("theta", "y0"), **EULER)
    assert half(value.theta[2]) == pytest.approx(-0.0486034, abs=1e-7)
    # a1 is the gradient with respect to the initial state of the last step alone
    y1 = value.y[1]
    last = pn.loss_and_grad(COURSE, y1, T[1:], THETA, TARGET[1:], loss="sse", wrt="y0", **EULER)
    assert half(last.y0[0]) == pytest.approx(-0.095035, abs=1e-6)
    # dL/dy0 by hand: a2 (1 + h f'(y1)) (1 + h f'(y0)) with f' = w1 w2 (1 - tanh^2)
    slope = [-3.0 * (1 - np.tanh(1.5 * y) ** 2) for y in (1.0, y1[0])]
    a2 = value.y[2, 0] - 0.37
    assert half(value.y0[0]) == pytest.approx(a2 * (1 + 0.25 * slope[0]) * (1 + 0.25 * slope[1]), rel=1e-13)

    # and dL/dw2 as finite differences of the Euler loss
    def loss(w2):
        theta = np.array([1.5, 0.0, w2, 0.0])
        return half((pn.solve(COURSE, [1.0], T, theta, **EULER).y[-1, 0] - 0.37) ** 2)

    assert (loss(-2 + 1e-5) - loss(-2 - 1e-5)) / 2e-5 == pytest.approx(half(value.theta[2]), abs=1e-9)


@pytest.mark.parametrize("adjoint", ["discrete", "backsolve", "interpolating"])
def test_worked_example_continuous_flow(adjoint):
    # y(t) = asinh(sinh(1.5) e^(-3t)) / 1.5
    t = np.linspace(0, 0.5, 11)
    exact = np.arcsinh(np.sinh(1.5) * np.exp(-3 * t)) / 1.5
    target = np.full((11, 1), np.nan)
    target[-1] = 0.37
    value = pn.loss_and_grad(
        COURSE,
        [1.0],
        t,
        THETA,
        target,
        loss="sse",
        wrt=("theta", "y0"),
        adjoint=adjoint,
        method="dop853",
        rtol=1e-12,
        atol=1e-13,
    )
    assert np.abs(value.y[:, 0] - exact).max() < 1e-11
    assert value.y[-1, 0] == pytest.approx(0.3058909, abs=1e-7)
    assert half(value.theta[2]) == pytest.approx(-0.0137557, abs=1e-7)
    # dy(t)/dy0 = tanh-slope ratio f(y(t)) / f(y(0)), since the field has no time in it
    growth = np.tanh(1.5 * exact[-1]) / np.tanh(1.5)
    assert half(value.y0[0]) == pytest.approx((exact[-1] - 0.37) * growth, abs=1e-10)


# ---- The exercise "scalar adjoint": y' = -a y, L = (y(T) - y*)^2 / 2


@pytest.mark.parametrize("adjoint", ["discrete", "backsolve", "interpolating"])
@pytest.mark.parametrize(("a", "y0", "star", "end"), [(0.7, 1.3, 0.2, 2.0), (-0.4, -0.8, 1.0, 1.5), (2.5, 3.0, 0.0, 1.0)])
def test_scalar_adjoint(adjoint, a, y0, star, end):
    @pn.field(state=1, theta={"a": ()})
    def decay(t, y, th):
        return -th.a * y

    target = np.array([[np.nan], [star]])
    value = pn.loss_and_grad(
        decay,
        [y0],
        [0.0, end],
        [a],
        target,
        loss="sse",
        wrt=("theta", "y0", "t"),
        adjoint=adjoint,
        method="dop853",
        rtol=1e-12,
        atol=1e-14,
    )
    residual, y_end = y0 * np.exp(-a * end) - star, y0 * np.exp(-a * end)
    assert half(value.y0[0]) == pytest.approx(residual * np.exp(-a * end), abs=1e-9)
    assert half(value.theta[0]) == pytest.approx(-residual * end * y_end, abs=1e-9)
    # the times: dL/dT = residual y'(T), dL/dt0 = -a(t0) y'(t0)
    assert half(value.t) == pytest.approx([residual * a * y_end, -residual * a * y_end], abs=1e-9)
