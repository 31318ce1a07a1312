"""Problems of gradients, and their comparison with rk_reference.py."""

import numpy as np
import pytest
import rk_reference as rk

import pynode as pn

TIGHT = 2e-12  # of complex steps, relative to the largest entry


@pn.field(state=2, theta=(4,), inputs=2)
def driven(t, y, th, u):
    return [y[1] + 0.1 * u[1], -th[0] * np.sin(y[0]) - th[1] * y[1] + u[0] * np.cos(th[2] * t) + th[3] * u[1] * y[0]]


def driven_reference(t, y, th, u):
    a = y[:, 1] + 0.1 * u[:, 1]
    b = -th[:, 0] * np.sin(y[:, 0]) - th[:, 1] * y[:, 1] + u[:, 0] * np.cos(th[:, 2] * t) + th[:, 3] * u[:, 1] * y[:, 0]
    return np.stack([a, b], axis=1)


THETA = np.array([1.3, 0.2, 1.7, -0.4])
KNOTS = np.array([-0.5, 0.31, 0.7, 1.6, 2.2, 3.4])


def ragged(rng, backward=(1,)):
    """Times, targets (some not observed) and weights of three samples."""
    t = [np.sort(rng.uniform(0, 3, n)) for n in (6, 4, 9)]
    t = [x[::-1].copy() if i in backward else x for i, x in enumerate(t)]
    target = [rng.normal(size=(len(x), 2)) for x in t]
    for y in target:
        y[rng.uniform(size=y.shape) < 0.3] = np.nan
    weight = [rng.uniform(0, 2, y.shape) for y in target]
    return t, target, weight


def check(got, want, tolerance=TIGHT):
    """Error relative to the largest entry wanted."""
    got, want = (np.concatenate([np.ravel(a) for a in x]) if isinstance(x, list) else np.ravel(x) for x in (got, want))
    assert got.shape == want.shape
    scale = np.abs(want).max()
    assert scale > 0
    error = np.abs(got - want).max() / scale
    assert error < tolerance, error


def agree(
    f,
    F,
    y0,
    t,
    theta,
    target,
    *,
    weight=None,
    inputs=None,
    wrt=("theta", "y0", "t"),
    adjoint="discrete",
    tolerance=TIGHT,
    loss="mse",
    scale=1.0,
    dof=4.0,
    **options,
):
    """The gradients of `loss_and_grad` are those of the reference on the same steps."""
    value = pn.loss_and_grad(
        f,
        y0,
        t,
        theta,
        target,
        weight=weight,
        wrt=wrt,
        adjoint=adjoint,
        loss=loss,
        loss_scale=scale,
        loss_dof=dof,
        inputs=None if inputs is None else signal_of(inputs),
        **options,
    )
    assert np.all(value.status == 0)
    coupling = options.get("coupling", 0.99 if adjoint == "reversible" else 0.0)
    sol = pn.solve(
        f,
        y0,
        t,
        theta,
        inputs=None if inputs is None else signal_of(inputs),
        steps=True,
        **{**options, "coupling": coupling},
    )
    problem = rk.Problem(
        F,
        options.get("method", "dopri5"),
        sol.steps,
        y0,
        t,
        theta,
        target,
        weight,
        loss,
        scale,
        dof,
        inputs,
        coupling,
        options.get("save") == "land",
    )
    for i, y in enumerate(value.y):
        assert np.array_equal(y, sol.y[i])
        want = problem.path(i)[0].real
        assert np.abs(y - want).max() < 1e-12 * max(1, np.abs(want).max())
    assert value.loss == pytest.approx(problem.value(), rel=1e-12)
    if "theta" in wrt:
        check(value.theta, problem.theta_gradient(), tolerance)
    if "y0" in wrt:
        check(value.y0, problem.y0_gradient(), tolerance)
    if "t" in wrt:
        check([rk.together(x, g) for x, g in zip(t, value.t, strict=True)], problem.t_gradient(), 20 * tolerance)
    if "inputs" in wrt:
        shared = len(inputs[2]) == 1
        check([value.inputs] if shared else list(value.inputs), problem.input_gradient(), tolerance)
    return value


def signal_of(inputs):
    """A pn.Signal from the (kind, knots, values) of the reference."""
    kind, knots, values = inputs
    if kind == "constant":
        return pn.Signal(None, values[0][0] if len(values) == 1 else np.stack([v[0] for v in values]), kind)
    return pn.Signal(knots[0] if len(knots) == 1 else knots, values[0] if len(values) == 1 else values, kind)
