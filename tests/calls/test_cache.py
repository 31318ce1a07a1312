"""Plans of earlier calls: they serve equal calls only, whatever was changed in place since."""

import numpy as np
import pytest

import pynode as pn
from pynode import _core


@pytest.fixture
def case():
    f = pn.mlp(2, (4,))
    rng = np.random.default_rng(0)
    t = np.linspace(0.0, 1.0, 6)
    return f, rng.standard_normal((3, 2)), t, f.init(0), rng.standard_normal((3, 6, 2))


def fresh(f):
    """The same field without plans."""
    return pn.Field(f.program, f.spec, f.name)


def same_solve(f, *args, **keys):
    now, then = pn.solve(f, *args, **keys), pn.solve(fresh(f), *args, **keys)
    np.testing.assert_array_equal(now.y, then.y)
    np.testing.assert_array_equal(now.t, then.t)
    np.testing.assert_array_equal(now.stats.nfe, then.stats.nfe)
    return now


def same_gradient(f, *args, **keys):
    now, then = pn.loss_and_grad(f, *args, **keys), pn.loss_and_grad(fresh(f), *args, **keys)
    assert now.loss == then.loss
    np.testing.assert_array_equal(now.theta, then.theta)
    np.testing.assert_array_equal(now.y, then.y)
    return now


def test_a_plan_is_used_again(case):
    f, y0, t, theta, target = case
    pn.solve(f, y0, t, theta)
    (plan,) = f.plans.values()
    assert pn.solve(f, y0 + 1, t.copy(), theta * 2).prepared is plan
    assert pn.solve(f, y0, t, theta, rtol=1e-5).prepared is not plan
    pn.loss_and_grad(f, y0, t, theta, target)
    assert len(f.plans) == 3


@pytest.mark.parametrize("which", range(4))
def test_arrays_changed_in_place(case, which):
    f, *arrays = case
    y0, t, theta, target = arrays
    same_solve(f, y0, t, theta)
    same_gradient(f, y0, t, theta, target)
    arrays[which][...] *= 0.5
    same_solve(f, y0, t, theta)
    same_gradient(f, y0, t, theta, target)


@pytest.mark.parametrize("kind", [np.array, list, tuple])
def test_a_tolerance_for_each_component_is_known_by_value(case, kind):
    f, y0, t, theta, target = case
    atol = kind([1e-6, 1e-3])
    same_solve(f, y0, t, theta, atol=atol)
    (plan,) = f.plans.values()
    assert pn.solve(f, y0, t, theta, atol=kind([1e-6, 1e-3])).prepared is plan
    same_gradient(f, y0, t, theta, target, atol=atol)
    assert len(f.plans) == 2
    same_gradient(f, y0, t, theta, target, atol=kind([1e-6, 1e-3]))
    assert len(f.plans) == 2
    if kind is not tuple:
        atol[0] = 1e-2
        assert same_solve(f, y0, t, theta, atol=atol).prepared is not plan
        same_gradient(f, y0, t, theta, target, atol=atol)


def test_other_shapes_types_and_options(case):
    f, y0, t, theta, target = case
    same_solve(f, y0, t, theta)
    same_gradient(f, y0, t, theta, target)
    for y, s, g in [
        (y0[:2], t, target[:2]),
        (y0[0], t, target[0]),
        (y0, t[:3], target[:, :3]),
        (y0.tolist(), t.tolist(), target),
    ]:
        same_solve(f, y, s, theta)
        same_gradient(f, y, s, theta, g)
    for dtype in (np.float32, np.float64):
        assert same_solve(f, y0.astype(dtype), t, theta).y.dtype == dtype
    assert same_solve(f, y0[:1], t, theta).y.shape == (1, 6, 2)
    assert same_solve(f, y0[0], t, theta).y.shape == (6, 2)
    atol = np.array([1e-3, 1e-8])
    same_solve(f, y0, t, theta, atol=atol)
    atol *= 1e-3
    same_solve(f, y0, t, theta, atol=atol)
    same_solve(f, np.asfortranarray(y0), t[::-1][::-1], f.unflatten(theta))


def test_lists_of_numbers_have_plans():
    f = pn.mlp(2, (4,))
    theta, t = f.init(0), [0, 1, 2.5]
    first = same_solve(f, [1.0, 0.5], t, theta)
    (plan,) = f.plans.values()
    for y0, times, p in [
        ([1.0, 0.5], [0.0, 1.0, 2.5], theta.tolist()),
        ([1, 0.5], np.array(t), theta),
        (np.array([1.0, 0.5]), t, theta.astype(np.float32)),
    ]:
        again = same_solve(f, y0, times, p)
        assert again.prepared is plan and again.y.dtype == np.float64
        np.testing.assert_array_equal(again.t, first.t)
    np.testing.assert_array_equal(same_solve(f, [2, 3], t, theta).batch.y0, [[2.0, 3.0]])
    target = np.ones((3, 2))
    same_gradient(f, [1.0, 0.5], t, theta, target)
    same_gradient(f, [0.5, 1], t, theta, target)
    for y0, times in [(["a", 1.0], t), ([1.0, [2.0]], t), ([1.0, None], t), ([1.0, 2j], t), ([1.0, 0.5], [0.0, "1", 2.5])]:
        messages = []
        for g in (f, fresh(f)):
            with pytest.raises((ValueError, TypeError)) as caught:
                pn.solve(g, y0, times, theta)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    single = fresh(f)
    assert same_solve(single, np.float32([1.0, 0.5]), t, theta).y.dtype == np.float32
    assert same_solve(single, [1.0, 0.5], t, theta).y.dtype == np.float64


def test_inputs_changed_in_place():
    f = pn.mlp(1, (3,), inputs=1)
    theta, t, u = f.init(1), np.linspace(0, 1, 3), np.array([0.5])
    first = same_solve(f, [1.0], t, theta, inputs=u).y
    u[:] = 2.0
    assert not np.array_equal(first, same_solve(f, [1.0], t, theta, inputs=u).y)
    assert not f.plans


def test_errors_are_those_of_a_first_call(case):
    f, y0, t, theta, target = case
    pn.solve(f, y0, t, theta)
    pn.loss_and_grad(f, y0, t, theta, target)
    bad = theta.copy()
    bad[3] = np.nan
    with pytest.raises(ValueError, match=r"theta\[3\] is nan"):
        pn.solve(f, y0, t, bad)
    with pytest.raises(ValueError, match=r"theta\[3\] is nan"):
        pn.loss_and_grad(f, y0, t, bad, target)
    with pytest.raises(ValueError, match="target has infinite entries"):
        pn.loss_and_grad(f, y0, t, theta, np.where(target > 0, np.inf, target))
    with pytest.raises(ValueError, match="no observed entry"):
        pn.loss_and_grad(f, y0, t, theta, target * np.nan)
    with pytest.raises(ValueError, match="parameters must be finite"):
        pn.Objective(f, y0, t, target)(bad)
    with pytest.raises(ValueError, match="errors="):
        pn.loss_and_grad(f, y0, t, theta, target, errors="no")
    with pytest.warns(pn.SolveWarning):
        assert np.isnan(pn.solve(f, y0 * np.nan, t, theta).y).all()


def test_a_plan_keeps_the_solution_of_its_call(case):
    """t and y0 of a solution are those of the call, not of the first one with that plan."""
    f, y0, t, theta, target = case
    first = pn.solve(f, y0, t, theta, dense=True)
    times, states = t.copy(), y0 + 0.5
    t[:] = 7.0
    again = pn.solve(f, states, times, theta, dense=True)
    np.testing.assert_array_equal(again.t, times)
    np.testing.assert_allclose(again(0.0), states)
    np.testing.assert_array_equal(again.vjp(target).theta, pn.solve(fresh(f), states, times, theta).vjp(target).theta)
    assert first.prepared is again.prepared


def test_plans_are_few_and_small(case):
    f, y0, t, theta, _ = case
    for i in range(40):
        pn.solve(f, y0, t, theta, rtol=1e-3 / (i + 1))
    assert len(f.plans) <= 16
    g = fresh(f)
    pn.solve(g, np.zeros((40_000, 2)), t[:2], theta, method="euler", step=1.0)
    assert not g.plans


def test_fits_and_takes(case):
    f, y0, t, theta, target = case
    problem = _core.Problem(f.program.core, None, y0=y0, t=t)
    assert problem.takes(theta)
    assert (
        not problem.takes(theta[:-1]) and not problem.takes(theta.astype(np.float32)) and not problem.takes(theta.tolist())
    )
    assert problem.fits(False, theta, y0, t, target)
    assert not problem.fits(True, theta, y0, t)
    assert not problem.fits(False, theta, y0, t + 1)
    assert not problem.fits(False, theta, y0, t, target[:, :5])
    assert not problem.fits(False, theta, y0, t, target[:, ::-1])
    assert problem.fits(False, theta, y0, t, np.where(target > 0, np.nan, target))
    own = _core.Problem(f.program.core, None, y0=y0[:2], t=t, t_start=[0, 3], t_len=[3, 3], row=[0, 3])
    assert not own.fits(False, theta, y0[:2], t)
    with pytest.raises(TypeError, match="fits"):
        problem.fits(False, theta)


def test_floats_and_doubles_together(case):
    """float32 states with parameters and times of either type, as `init` and data files give them, have one plan."""
    f, y0, t, theta, target = case
    t, y0, target = np.arange(6) / 8, y0.astype(np.float32), target.astype(np.float32)
    for p in (theta, theta.astype(np.float32)):
        for times in (t, t.astype(np.float32)):
            now = same_solve(f, y0, times, p)
            assert now.y.dtype == now.theta.dtype == np.float32 and now.t.dtype == np.float64
            same_gradient(f, y0, times, p, target)
    plans = dict(f.plans)
    assert pn.solve(f, y0, t, theta).prepared is pn.solve(f, y0, t.astype(np.float32), theta.astype(np.float32)).prepared
    assert f.plans == plans
    for bad in (np.full_like(theta, 1e300), np.full_like(theta, np.nan)):  # too large for float32
        with pytest.raises(ValueError, match=r"theta"):
            pn.solve(f, y0, t, bad)


@pytest.fixture
def system():
    """A System with a jump and a loss, and what a call takes: y0, t, theta, data, target."""
    rng = np.random.default_rng(1)
    made = pn.System(pn.mlp(2, (4,)), jump=pn.gru_cell(2, 3), loss=pn.mlp(2, (4,), 1, inputs=2))
    t = np.linspace(0.0, 1.0, 5)
    arrays = [rng.standard_normal((3, 2)), t, made.init(0), rng.standard_normal((3, 5, 3)), rng.standard_normal((3, 5, 2))]
    arrays[3][1, 2] = np.nan
    return made, *arrays


def other_system(made):
    """The same system without plans."""
    return pn.System(made.field, made.jump, made.loss)


@pytest.mark.parametrize("loss", ["mse", "program"])
def test_a_plan_of_a_system(system, loss):
    made, y0, t, theta, data, target = system

    def both(**keys):
        now = pn.loss_and_grad(made, y0, t, theta, target, loss=loss, data=data, wrt=("theta", "y0"), **keys)
        then = pn.loss_and_grad(other_system(made), y0, t, theta, target, loss=loss, data=data, wrt=("theta", "y0"), **keys)
        assert now.loss == then.loss
        np.testing.assert_array_equal(now.theta, then.theta)
        np.testing.assert_array_equal(now.y0, then.y0)
        np.testing.assert_array_equal(now.y, then.y)

    both()
    (plan,) = made.plans.values()
    both()
    assert list(made.plans.values()) == [plan]
    for array in (y0, theta):
        array *= 0.5
        both()
        assert list(made.plans.values()) == [plan]
    for array in (data, target, t):
        array *= 0.5
        both()
    data[0, 1] = np.nan
    both()
    target[2] = np.nan
    both()


def test_a_plan_with_data_serves_no_call_without(system):
    made, y0, t, theta, data, _ = system
    first = pn.solve(made, y0, t, theta, data=data)
    assert pn.solve(made, y0, t, theta, data=data.copy()).prepared is first.prepared
    with pytest.raises(ValueError, match="data is missing"):
        pn.solve(made, y0, t, theta)
    with pytest.raises(ValueError, match=r"data has shape \(3, 3, 5\)"):
        pn.solve(made, y0, t, theta, data=data.reshape(3, 3, 5))
    with pytest.raises(ValueError, match=r"data has shape \(15, 3\)"):
        pn.solve(made, y0, t, theta, data=data.reshape(15, 3))
