"""The solver of exported C: the steps and the numbers of `pynode.solve`, for every method, input and unit."""

import numpy as np
import pytest

import pynode as pn

ROUNDING = {"rodas5p": 3e-11}
"""Step sizes that are chosen differ in their last digits, and states with them: by more than 1e-12 of one method."""

ADAPTIVE = [name for name, row in pn.METHODS.items() if row["error_order"]]


@pn.field(state=4, theta={"k": 1.3, "net": pn.mlp(4, (5,), 4)})
def swing(t, y, th):
    return np.concatenate([y[2:], -th.k * np.sin(y[:2])]) + 0.1 * th.net(y) * np.cos(t)


@pn.field(state=2, inputs=2, theta={"k": 2.0})
def driven(t, y, th, u):
    return [y[1], -th.k * y[0] - 0.3 * y[1] + u[0] - u[1] * y[0]]


@pn.field(state=1)
def switched(t, y):
    return -y + np.where(t > 1.3, 2.0, 0.0) * np.where(t < 2.1, 1.0, 0.3)


@pn.field(state=2, theta={"mu": 50.0})
def stiff(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0] + 0 * t]


THETA = swing.init(0)
Y0 = np.array([0.5, -0.2, 0.1, 0.9])
T = np.linspace(0.2, 4.2, 23)


def agrees(found, sol, atol=1e-12):
    status, y, stats = found
    assert status == 0
    assert (stats.steps, stats.rejected) == (sol.stats.accepted, sol.stats.rejected)
    assert stats.evaluations == sol.stats.nfe
    assert np.allclose(y, sol.y, rtol=1e-12, atol=atol), np.abs(y - sol.y).max()


@pytest.mark.parametrize("method", pn.METHODS)
def test_fixed_steps(exported, method):
    made = exported(swing, THETA, method=method, step=0.07)
    agrees(made.solve(Y0, T), pn.solve(swing, Y0, T, THETA, method=method, step=0.07))
    status, y = made.step(0.3, 0.11, Y0)
    assert status == 0
    one = pn.solve(swing, Y0, [0.3, 0.41], THETA, method=method, step=1.0)
    assert np.allclose(y, one.y[-1], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    "t", [T, T[::-1], [0.0, 9.0], [1.0, 1.0, 1.5, 1.5, 2.0]], ids=["rising", "falling", "two", "repeated"]
)
@pytest.mark.parametrize("method", ADAPTIVE)
def test_steps_that_are_chosen(exported, method, t):
    options = {"rtol": 1e-5, "atol": [1e-6, 1e-7, 1e-6, 1e-7]}
    made = exported(swing, THETA, method=method, parameters="argument")
    atol = ROUNDING.get(method, 1e-12)
    agrees(made.solve(Y0, t, **options), pn.solve(swing, Y0, t, THETA, method=method, **options), atol)
    more = options | {"first_step": 0.03, "max_step": 0.4}
    agrees(made.solve(Y0, t, **more), pn.solve(swing, Y0, t, THETA, method=method, **more), atol)


def test_a_stiff_field(exported):
    made = exported(stiff, [50.0], method="rodas5p")
    t = [0.0, 20.0, 60.0]
    agrees(made.solve([2.0, 0.0], t), pn.solve(stiff, [2.0, 0.0], t, [50.0], method="rodas5p"), atol=1e-9)


def test_a_tableau_of_ones_own(exported):
    ralston = pn.Tableau([[], [2 / 3]], [1 / 4, 3 / 4], b_hat=[1, 0], name="ralston")
    made = exported(swing, THETA, method=ralston)
    agrees(made.solve(Y0, T, rtol=1e-4), pn.solve(swing, Y0, T, THETA, method=ralston, rtol=1e-4))


@pytest.mark.parametrize("method", ["dopri5", "heun", "rodas4"])
def test_a_field_that_switches(exported, method):
    made = exported(switched, method=method)
    for t in ([0.0, 1.0, 3.0], [3.0, 0.5]):
        agrees(made.solve([1.0], t), pn.solve(switched, [1.0], t, method=method))
    agrees(made.solve([1.0], [0.0, 3.0], step=0.1), pn.solve(switched, [1.0], [0.0, 3.0], method=method, step=0.1))


KNOTS = np.array([0.0, 0.4, 1.1, 1.5, 3.0, 4.5])
VALUES = np.stack([np.sin(KNOTS * 2), np.cos(KNOTS)], axis=1)


@pytest.mark.parametrize("baked", [False, True])
@pytest.mark.parametrize("kind", ["previous", "linear", "cubic"])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "rodas5p"])
def test_inputs(exported, method, kind, baked):
    signal = pn.Signal(KNOTS, VALUES, kind)
    step = 0.06 if method == "rk4" else None
    options = {"method": method} | ({"step": step} if step else {})
    made = exported(driven, [2.0], inputs=signal if baked else kind, **options)
    for t in (T, T[::-1], np.array([0.2, 4.2])):
        got = made.solve([1.0, 0.0], t, None if baked else (KNOTS, VALUES))
        agrees(got, pn.solve(driven, [1.0, 0.0], t, [2.0], inputs=signal, **options), ROUNDING.get(method, 1e-12))
    if not baked:
        status, *_ = made.solve([1.0, 0.0], [0.2, 9.0], (KNOTS[:3], VALUES[:3]))
        assert status == (0 if kind == "previous" else 2)
        assert made.solve([1.0, 0.0], [0.2, 0.3], (KNOTS[::-1], VALUES))[0] == 2


def test_two_and_three_knots(exported):
    made = exported(driven, [2.0], inputs="cubic")
    for n in (2, 3):
        t = [0.0, float(KNOTS[n - 1])]
        sol = pn.solve(driven, [1.0, 0.0], t, [2.0], inputs=(KNOTS[:n], VALUES[:n], "cubic"))
        agrees(made.solve([1.0, 0.0], t, (KNOTS[:n], VALUES[:n])), sol)


def test_inputs_that_are_held(exported):
    made = exported(driven, [2.0])
    sol = pn.solve(driven, [1.0, 0.0], T, [2.0], inputs=(None, [0.3, -0.2], "constant"))
    agrees(made.solve([1.0, 0.0], T, u=[0.3, -0.2]), sol)


def test_float(exported):
    made = exported(swing, THETA, precision="float")
    status, y, stats = made.solve(Y0, T)
    sol = pn.solve(swing, Y0, T, THETA)
    assert status == 0
    assert np.abs(y - sol.y).max() < 2e-5
    assert stats.steps < 2 * sol.stats.accepted


@pn.field(state=1)
def explodes(t, y):
    return y**2


def test_statuses(exported):
    made = exported(explodes)
    status, y, stats = made.solve([1.0], [0.0, 0.5, 2.0])
    assert status in (3, 4)
    assert abs(stats.t - 1) < 1e-3
    assert np.isnan(y[2, 0]) and abs(y[1, 0] - 2) < 1e-5
    assert made.solve([1.0], [0.0, 0.5], max_steps=3)[0] == 5
    assert made.solve([1.0], [0.0, 2.0], step=0.1)[0] in (0, 3)
    assert made.solve([np.nan], [0.0, 0.5])[0] == 1
    assert made.solve([1.0], [0.0, 0.5, 0.2])[0] == 1
    assert made.solve([1.0], [0.0, np.inf])[0] == 1
    for bad in (
        {"rtol": -1.0},
        {"rtol": 0.0, "atol": 0.0},
        {"max_steps": 0},
        {"step": -1.0},
        {"step": np.nan},
        {"first_step": -1.0},
    ):
        assert made.solve([1.0], [0.0, 0.5], **bad)[0] == 1, bad


@pytest.mark.parametrize("method", pn.METHODS)
def test_gradients_of_a_step(exported, method):
    step = 0.3
    made = exported(swing, THETA, method=method, step=step, vjp=True, parameters="argument")
    s = np.array([1.0, -0.5, 0.2, 0.7])
    g_y, _, _, g_theta = made.pull(0.1, Y0, s, h=step)
    exact = pn.solve(swing, Y0, [0.1, 0.1 + step], THETA, method=method, step=step).vjp(np.stack([0 * s, s]))
    assert np.allclose(g_y, exact.y0, rtol=1e-11, atol=1e-13)
    assert np.allclose(g_theta, exact.theta, rtol=1e-11, atol=1e-13)


def by_differences(of, x, s, e=1e-6):
    """s^T d of / dx"""
    x = np.asarray(x, dtype=float)
    return np.array([s @ (of(x + e * row) - of(x - e * row)) / (2 * e) for row in np.eye(len(x))])


@pytest.mark.parametrize("kind", ["constant", "previous", "linear", "cubic"])
@pytest.mark.parametrize("method", ["rodas4", "rosenbrock23"])
def test_gradients_of_an_implicit_step_with_inputs(exported, kind, method):
    made = exported(driven, [2.0], method=method, inputs=kind, vjp=True, parameters="argument")
    y, u = [0.4, -1.0], [0.7, 1.4]
    s = np.array([1.0, -0.3])
    h = 0.5
    g_y, _, g_u, g_theta = made.pull(0.1, y, s, u, h=h)
    assert np.allclose(g_y, by_differences(lambda y: made.step(0.1, h, y, u)[1], y, s), rtol=1e-8)
    assert np.allclose(g_u, by_differences(lambda u: made.step(0.1, h, y, u)[1], u, s), rtol=1e-8)
    held = pn.Signal([0.1, 0.1 + h], [u, u], "linear")
    sol = pn.solve(driven, y, [0.1, 0.1 + h], [2.0], method=method, step=h, inputs=held)
    assert np.allclose(g_theta, sol.vjp(np.stack([0 * s, s])).theta, rtol=1e-11)


def test_gradients_of_an_implicit_step_that_exchanges_rows(exported):
    """W = I - gamma h df/dy with a small first pivot and a large entry below."""

    @pn.field(state=3, theta={"k": 1.0})
    def steep(t, y, th):
        return [3.0 * y[0] + 0.1 * np.sin(y[1]), 50 * th.k * np.tanh(y[0]) - y[1], np.sin(y[0] * y[2]) + 2 * y[1]]

    made = exported(steep, [1.0], method="rodas4", vjp=True, parameters="argument")
    y = np.array([0.3, 0.2, -0.4])
    s = np.array([1.0, -0.3, 0.5])
    h = 0.6
    gamma = pn.METHODS["rodas4"]["gamma"]
    assert 50 * gamma * h / np.cosh(y[0]) ** 2 > 10 * abs(1 - 3 * gamma * h)  # rows are exchanged
    g_y, _, _, g_theta = made.pull(0.0, y, s, h=h)
    exact = pn.solve(steep, y, [0.0, h], [1.0], method="rodas4", step=h).vjp(np.stack([0 * s, s]))
    assert np.allclose(g_y, exact.y0, rtol=1e-10)
    assert np.allclose(g_theta, exact.theta, rtol=1e-10)


def test_refusals(tmp_path):
    path = tmp_path / "model.c"
    f = pn.mlp(2, (3,))
    theta = f.init(0)
    for error, match, args, options in [
        (ValueError, "must end in .c", (f, theta, tmp_path / "model.cpp"), {}),
        (ValueError, "theta is missing", (f, None, path), {}),
        (ValueError, "must be finite", (f, theta * np.nan, path), {}),
        (ValueError, "precision='half'", (f, theta, path), {"precision": "half"}),
        (ValueError, "method='auto'", (f, theta, path), {"method": "auto"}),
        (ValueError, "no error estimate", (f, theta, path), {"method": "rk4"}),
        (ValueError, "has no inputs", (f, theta, path), {"inputs": "linear"}),
        (ValueError, "name='Bad'", (f, theta, path), {"name": "Bad"}),
        (ValueError, "max_steps", (f, theta, path), {"max_steps": 0}),
        (ValueError, "step=-1", (f, theta, path), {"step": -1}),
        (ValueError, "not one of", (driven, [1.0], path), {"inputs": "quintic"}),
        (ValueError, "calls Python", (pn.callback_field(lambda t, y: -y, 1), None, path), {}),
        (ValueError, "does not fit", (driven, [1e300], path), {"precision": "float"}),
        (ValueError, "even", (pn.mlp(3, (2,)), pn.mlp(3, (2,)).init(0), path), {"method": "leapfrog", "step": 0.1}),
        (ValueError, "fit it first", (pn.NeuralODE(), None, path), {}),
        (TypeError, "must be a Field", (3, None, path), {}),
    ]:
        with pytest.raises(error, match=match):
            pn.export.c(*args, **options)
    assert not path.exists()


def test_names_of_functions_inside_the_file_are_refused(tmp_path):
    f = pn.field(state=1)(lambda t, y: -y)
    for name, inside in (("first", "first_step"), ("field", "field_vjp")):
        with pytest.raises(ValueError, match=f"name={name!r}: {inside} is a function inside the file already"):
            pn.export.c(f, None, tmp_path / f"{name}.c", vjp=True)
        assert pn.export.c(f, None, tmp_path / f"{name}.c", vjp=True, name="decay").source.exists()
