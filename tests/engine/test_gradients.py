"""Exact gradients: the discrete adjoint against an independent integrator in complex arithmetic, finite differences on
frozen steps, closed forms; and that they do not depend on memory, threads or neighbours."""

import os
import subprocess
import sys

import numpy as np
import pytest
import rk_reference as rk
from gradient_cases import KNOTS, THETA, TIGHT, agree, check, driven, driven_reference, ragged
from scipy.linalg import expm, expm_frechet

import pynode as pn

ADAPTIVE = [name for name, row in pn.METHODS.items() if row["error_order"]]
CONTROLS = [*((name, "fixed") for name in pn.METHODS), *((name, "adaptive") for name in ADAPTIVE)]


# ---- Every method


@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize(("method", "control"), CONTROLS)
def test_methods(method, control, save):
    rng = np.random.default_rng(1)
    t, target, weight = ragged(rng)
    inputs = ("cubic", [KNOTS], [rng.normal(size=(6, 2))])
    options = {"step": 0.11} if control == "fixed" else {"rtol": 1e-3, "atol": 1e-4}
    value = agree(
        driven,
        driven_reference,
        rng.normal(size=(3, 2)),
        t,
        THETA,
        target,
        weight=weight,
        inputs=inputs,
        wrt=("theta", "y0", "t", "inputs"),
        method=method,
        save=save,
        **options,
    )
    assert control == "fixed" or save == "land" or value.stats.accepted.min() > 3


# ---- Every activation, loss, kind of input


@pytest.mark.parametrize("activation", rk.ACTIVATIONS)
def test_activations(activation):
    rng = np.random.default_rng(2)
    f = pn.mlp(2, (5, 4), activation=activation, time=True)
    theta = rng.normal(size=f.n_params)
    t, target, _ = ragged(rng)
    options = {"rtol": 1e-4, "atol": 1e-5, "method": "tsit5"}
    if activation in ("relu", "elu", "leaky_relu"):  # a kink inside a step is no matter to the exact gradient
        options = {"step": 0.05, "method": "rk4"}
    agree(f, rk.mlp((3, 5, 4, 2), activation, time=True), 0.5 * rng.normal(size=(3, 2)), t, theta, target, **options)


def test_all_activations_are_tested():
    from pynode.programs.functions import ACTIVATIONS

    assert set(ACTIVATIONS) == set(rk.ACTIVATIONS)


LOSS_CASES = [
    ("mse", 1, 4),
    ("sse", 1, 4),
    ("mae", 1, 4),
    ("huber", 1.0, 4),
    ("huber", 0.4, 4),
    ("student", 1.0, 4),
    ("student", 0.3, 7.5),
]


@pytest.mark.parametrize(("loss", "scale", "dof"), LOSS_CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_losses(loss, scale, dof, weighted):
    rng = np.random.default_rng(3)
    t, target, weight = ragged(rng)
    f = pn.mlp(2, (4,))
    agree(
        f,
        rk.mlp((2, 4, 2)),
        rng.normal(size=(3, 2)),
        t,
        rng.normal(size=f.n_params),
        target,
        weight=weight if weighted else None,
        loss=loss,
        scale=scale,
        dof=dof,
        rtol=1e-3,
        atol=1e-3,
    )


def test_all_losses_are_tested():
    from pynode.engine.losses import LOSSES

    assert set(LOSSES) == {name for name, *_ in LOSS_CASES}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", ["constant", "previous", "linear", "cubic"])
@pytest.mark.parametrize(
    ("save", "options"), [("interpolate", {"rtol": 1e-4, "atol": 1e-6}), ("land", {"method": "rk38", "step": 0.2})]
)
def test_inputs(kind, shared, save, options):
    rng = np.random.default_rng(4)
    t, target, weight = ragged(rng, backward=(0, 2))
    n = 1 if shared else 3
    if kind == "constant":
        knots, values = None, [rng.normal(size=(1, 2)) for _ in range(n)]
    else:
        knots = [KNOTS + 0.01 * i for i in range(n)]
        values = [rng.normal(size=(6, 2)) for _ in range(n)]
    agree(
        driven,
        driven_reference,
        rng.normal(size=(3, 2)),
        t,
        THETA,
        target,
        weight=weight,
        inputs=(kind, knots, values),
        wrt=("theta", "y0", "t", "inputs"),
        save=save,
        **options,
    )


def test_two_knots_and_different_numbers_of_knots():
    rng = np.random.default_rng(5)
    t, target, _ = ragged(rng)
    knots = [np.array([-0.1, 3.5]), np.array([0.0, 1.0, 3.1]), KNOTS]
    for kind in ("linear", "cubic", "previous"):
        values = [rng.normal(size=(len(k), 2)) for k in knots]
        agree(
            driven,
            driven_reference,
            rng.normal(size=(3, 2)),
            t,
            THETA,
            target,
            inputs=(kind, knots, values),
            wrt=("theta", "y0", "inputs"),
            rtol=1e-3,
            atol=1e-3,
        )


@pytest.mark.parametrize("kind", ["previous", "linear", "cubic"])
@pytest.mark.parametrize(
    ("save", "adjoint", "options"),
    [
        ("interpolate", "discrete", {"rtol": 1e-4, "atol": 1e-6}),
        ("land", "discrete", {"method": "rk4", "step": 0.2}),
        ("land", "reversible", {"rtol": 1e-3, "atol": 1e-3}),
    ],
)
def test_times_at_knots(kind, save, adjoint, options):
    rng = np.random.default_rng(22)
    t = [KNOTS[1:5], KNOTS[4:1:-1].copy(), np.array([0.7, 0.9, 1.6, 1.6, 2.0]), np.array([2.2, 1.0, 0.31])]
    target = [rng.normal(size=(len(x), 2)) for x in t]
    agree(
        driven,
        driven_reference,
        rng.normal(size=(4, 2)),
        t,
        THETA,
        target,
        inputs=(kind, [KNOTS], [rng.normal(size=(6, 2))]),
        wrt=("theta", "y0", "inputs"),
        save=save,
        adjoint=adjoint,
        tolerance=1e-11,
        **options,
    )


# ---- Times


@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize(
    "options", [{"rtol": 1e-4, "atol": 1e-4}, {"step": 0.1, "method": "rk4"}, {"step": 0.1, "method": "dop853"}]
)
def test_repeated_times(save, options):
    rng = np.random.default_rng(6)
    t = [np.array([0.0, 0.0, 0.3, 0.3, 0.3, 0.8, 1.0, 1.0]), np.array([2.0, 2.0, 2.0, 0.5, 0.1, 0.1]), np.array([0.7, 0.7])]
    target = [rng.normal(size=(len(x), 2)) for x in t]
    f = pn.mlp(2, (4,), time=True)
    agree(
        f,
        rk.mlp((3, 4, 2), time=True),
        rng.normal(size=(3, 2)),
        t,
        rng.normal(size=f.n_params),
        target,
        save=save,
        **options,
    )


def test_fixed_steps_that_end_at_saved_times():
    # with save="interpolate" the grid does not move with the times inside: their derivative is f(t, y)
    f = pn.mlp(2, (4,), time=True)
    rng = np.random.default_rng(7)
    theta, y0, t = rng.normal(size=f.n_params), rng.normal(size=2), np.linspace(0, 2, 11)
    target = rng.normal(size=(11, 2))
    value = pn.loss_and_grad(f, y0, t, theta, target, loss="sse", wrt="t", method="heun", step=0.1)
    slope = f(t, value.y, theta)
    assert value.t[1:-1] == pytest.approx((2 * (value.y - target) * slope).sum(axis=1)[1:-1], rel=1e-12)
    problem = rk.Problem(
        rk.mlp((3, 4, 2), time=True), "heun", [np.linspace(0, 2, 21)], y0[None], [t], theta, [target], loss="sse"
    )
    check(value.t, problem.t_gradient()[0], 20 * TIGHT)


def test_single_time():
    # nothing is solved: the loss is that of y0
    f = pn.mlp(2, (4,))
    y0, target = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[[0.0, 0.5]], [[1.0, np.nan]]])
    value = pn.loss_and_grad(f, y0, [0.7], f.init(0), target, loss="sse", wrt=("theta", "y0", "t"))
    assert value.loss == pytest.approx(1 + 2.25 + 4)
    assert np.array_equal(value.y0, [[2.0, 3.0], [4.0, 0.0]])
    assert not value.theta.any() and not value.t.any()


@pytest.mark.parametrize("kind", ["single", "shared", "own"])
def test_shapes_of_batches(kind):
    # the gradient with respect to shared times is summed over the samples
    rng = np.random.default_rng(8)
    f = pn.mlp(2, (4,), time=True)
    theta, y0 = rng.normal(size=f.n_params), rng.normal(size=(3, 2))
    t = np.sort(rng.uniform(0, 2, 5))
    target = rng.normal(size=(3, 5, 2))
    each = pn.loss_and_grad(f, y0, [t] * 3, theta, list(target), loss="sse", wrt=("theta", "y0", "t"))
    if kind == "single":
        value = pn.loss_and_grad(f, y0[1], t, theta, target[1], loss="sse", wrt=("theta", "y0", "t"))
        alone = pn.loss_and_grad(f, y0[1:2], [t], theta, list(target[1:2]), loss="sse")
        assert value.y0.shape == (2,) and value.t.shape == (5,)
        check(value.theta, alone.theta)
        check(value.y0, each.y0[1])
        check(value.t, each.t[1])
        return
    value = pn.loss_and_grad(
        f, y0, t if kind == "shared" else np.stack([t] * 3), theta, target, loss="sse", wrt=("theta", "y0", "t")
    )
    assert np.array_equal(value.theta, each.theta) and np.array_equal(value.y0, each.y0)
    check(value.t, np.sum(each.t, axis=0) if kind == "shared" else np.stack(each.t))


# ---- Finite differences: check_grad


@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize(("method", "control"), CONTROLS)
def test_check_grad(method, control, save):
    rng = np.random.default_rng(9)
    t = np.sort(rng.uniform(0, 2, (2, 5)))
    result = pn.check_grad(
        driven,
        rng.normal(size=(2, 2)),
        t,
        THETA,
        rng.normal(size=(2, 5, 2)),
        wrt=("theta", "y0", "t", "inputs"),
        inputs=(KNOTS, rng.normal(size=(6, 2)), "linear"),
        method=method,
        save=save,
        **({"step": 0.13} if control == "fixed" else {"rtol": 1e-3, "atol": 1e-3}),
    )
    assert len(result.names) == 4 + 4 + 10 + 12
    assert result.max_error < 1e-9, str(result)


def test_check_grad_sees_a_wrong_gradient():
    # a field whose vjp is wrong by 1e-6
    def vjp(t, y, th, g):
        return np.array([-th[0] * g[0]]), np.array([-y[0] * g[0] * (1 + 1e-6)])

    f = pn.callback_field(lambda t, y, th: -th[0] * y, 1, 1, vjp)
    result = pn.check_grad(f, [1.0], [0.0, 1.0], [0.5], [[np.nan], [0.0]], step=0.1)
    assert 5e-7 < result.max_error < 2e-6


# ---- The same bits whatever the memory, the threads, the neighbours


def many(rng, n, dtype=np.float64):
    """n ragged samples of a network driven by an input, some hard."""
    f = pn.mlp(2, (8,), time=True, inputs=1, gain=2.0)
    t = [np.sort(rng.uniform(0, 5, rng.integers(1, 9))) for _ in range(n)]
    t = [x if i % 3 else x[::-1].copy() for i, x in enumerate(t)]
    y0 = (rng.normal(size=(n, 2)) * 10 ** rng.uniform(-2, 1, (n, 1))).astype(dtype)
    target = [rng.normal(size=(len(x), 2)).astype(dtype) for x in t]
    return f, y0, t, f.init(1), target


def same_bits(a, b, wrt=("theta", "y0", "t", "inputs")):
    assert a.loss == b.loss
    for name in wrt:
        x, y = getattr(a, name), getattr(b, name)
        for p, q in zip(x, y, strict=True) if isinstance(x, list) else [(x, y)]:
            assert np.array_equal(p, q), name


@pytest.mark.parametrize("kind", ["linear", "previous", "cubic"])
@pytest.mark.parametrize("n", [1, 6, 40])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_memory_budget(n, kind, dtype):
    rng = np.random.default_rng(10)
    f, y0, _, theta, _ = many(rng, n, dtype)
    t = [np.linspace(0, 5, 7 + i % 3) for i in range(n)]
    target = [rng.normal(size=(len(x), 2)).astype(dtype) for x in t]
    inputs = (np.linspace(0, 5, 12), rng.normal(size=(12, 1)), kind)
    tight = {"rtol": 1e-7, "atol": 1e-9} if dtype == np.float64 else {"rtol": 3e-6, "atol": 1e-6, "max_step": 0.05}
    options = {"wrt": ("theta", "y0", "t", "inputs"), "inputs": inputs, **tight}
    free = pn.loss_and_grad(f, y0, t, theta, target, **options)
    assert n == 1 or dtype == np.float32 or free.stats.rejected.max() > 0
    tape = free.stats.accepted.sum() * (64 + 2 * dtype().itemsize)  # bytes of the records; half of the budget is theirs
    done = []
    for part in (2, 0.9, 0.6, 0.4, 0.2, 0.1, 0.05):
        try:
            value = pn.loss_and_grad(f, y0, t, theta, target, memory=int(2 * part * tape), threads=1, **options)
        except ValueError as error:  # too small: says so
            assert "memory" in str(error)
            continue
        same_bits(free, value)
        done.append(part)
    assert done[:3] == [2, 0.9, 0.6]


@pytest.mark.parametrize("method", pn.METHODS)
def test_memory_budget_of_every_method(method):
    rng = np.random.default_rng(11)
    f = pn.mlp(2, (8,), time=True, gain=2.0)
    theta, y0 = f.init(1), rng.normal(size=(20, 2))
    t = [np.sort(rng.uniform(0, 3, rng.integers(1, 9))) for _ in y0]
    target = [rng.normal(size=(len(x), 2)) for x in t]
    wrt = ("theta", "y0", "t")
    for save in ("interpolate", "land"):
        for options in [
            {"step": 0.02},
            *([{"rtol": 1e-8, "atol": 1e-8, "first_step": 2.0, "max_step": 0.05}] if method in ADAPTIVE else []),
        ]:
            options |= {"method": method, "save": save, "wrt": wrt}
            free = pn.loss_and_grad(f, y0, t, theta, target, **options)
            for part in (0.9, 0.4):
                memory = int(2 * part * free.stats.accepted.sum() * 80)
                same_bits(free, pn.loss_and_grad(f, y0, t, theta, target, memory=memory, threads=1, **options), wrt)


@pytest.mark.parametrize("method", ["euler", "rk4", "rodas5p"])
@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("fails", [False, True])
def test_memory_budget_of_samples_in_step(isa, method, n, fails):
    """They have the same times and steps, until one fails: their books are kept once for all, also from a checkpoint on."""
    f = pn.mlp(2, (8,), time=True)
    if fails:
        f = pn.field(state=2, theta={"a": np.ones(2)})(lambda t, y, th: th.a * y**2)
    rng = np.random.default_rng(4)
    y0, t = rng.uniform(-1.0, -0.5, (n, 2)), np.linspace(0, 3, 8)
    if fails and n > 1:
        y0[n // 2] = 1.0  # infinite at t = 1
    target, theta = rng.normal(size=(n, 8, 2)), f.init(0)
    options = {"method": method, "step": 0.01, "wrt": ("theta", "y0", "t"), "errors": "ignore"}
    free = pn.loss_and_grad(f, y0, t, theta, target, **options)
    assert np.isnan(free.solution.y[:, -1]).any(axis=1).sum() == (fails and n > 1)
    for memory in (20_000, 60_000, 200_000, 2_000_000):
        tight = pn.loss_and_grad(f, y0, t, theta, target, memory=memory, threads=1, **options)
        same_bits(free, tight, options["wrt"])
        assert tight.loss == free.loss


def counted(steps, memory):
    """(loss and gradient of y' = -theta y by RK4, how often the field was evaluated)."""
    calls = []

    def f(t, y, th):
        calls.append(t)
        return -th[0] * y

    field = pn.callback_field(f, 1, 1, lambda t, y, th, g: (-th[0] * g, -y * g))
    options = {"method": "rk4", "step": 1 / steps, "memory": memory}
    return pn.loss_and_grad(field, [1.0], [0.0, 1.0], [0.5], np.zeros((2, 1)), **options), len(calls)


def test_stages_that_are_made_again_are_kept():
    """Where the budget has room for them beside the blocks, the way back evaluates nothing a third time."""
    counts = [counted(4000, memory)[1] for memory in (None, 400_000)]
    assert counts[0] == 16000
    assert 32000 <= counts[1] < 33000


@pytest.mark.parametrize(("steps", "again"), [(200, 0), (4000, 0.95)])
def test_stages_that_fit_into_the_budget_are_kept_at_once(steps, again):
    """Of a longer solve the first ones are, the others are made again."""
    results, counts = zip(*(counted(steps, memory) for memory in (None, "64MB")), strict=True)
    assert counts[0] == 4 * steps
    assert again * 4 * steps / 2 <= counts[1] - counts[0] <= again * 4 * steps
    assert np.array_equal(results[0].theta, results[1].theta)


def test_shots_that_are_thinned_give_up_the_first_blocks():
    """Budgets in which the first blocks are kept at first, and then are not; also where a later chunk keeps its own."""
    f = pn.mlp(2, (8,))
    rng = np.random.default_rng(7)
    y0 = rng.normal(size=(150, 2))
    t = [0.0, 1.0]
    target = np.zeros((150, 2, 2))
    for options in ({"method": "rk4", "step": 1 / 400}, {"rtol": 1e-4, "atol": 1e-4, "max_step": 1 / 400}):
        free = pn.loss_and_grad(f, y0, t, f.init(0), target, wrt=("theta", "y0"), **options)
        for memory in (100_000, 300_000, 700_000, 1_500_000, 3_000_000):
            tight = pn.loss_and_grad(f, y0, t, f.init(0), target, wrt=("theta", "y0"), memory=memory, threads=1, **options)
            same_bits(free, tight, ("theta", "y0"))


@pytest.mark.parametrize("adjoint", ["discrete", "reversible", "backsolve", "interpolating"])
def test_threads(adjoint):
    rng = np.random.default_rng(12)
    f, y0, t, theta, target = many(rng, 300)
    inputs = (np.linspace(0, 5, 12), rng.normal(size=(12, 1)))
    options = {"wrt": ("theta", "y0", "t", "inputs"), "inputs": inputs, "adjoint": adjoint, "rtol": 1e-3, "atol": 1e-3}
    one = pn.loss_and_grad(f, y0, t, theta, target, threads=1, **options)
    assert np.all(one.status == 0)
    for threads in (2, 3, 7):
        same_bits(one, pn.loss_and_grad(f, y0, t, theta, target, threads=threads, **options))
    if adjoint == "discrete":
        same_bits(one, pn.loss_and_grad(f, y0, t, theta, target, threads=3, memory="1MB", **options))


def test_gradient_of_the_initial_states_does_not_depend_on_neighbours():
    rng = np.random.default_rng(13)
    f, y0, t, theta, target = many(rng, 70)
    inputs = (np.linspace(0, 5, 12), rng.normal(size=(12, 1)))
    options = {"wrt": ("y0", "t"), "loss": "sse", "inputs": inputs}
    whole = pn.loss_and_grad(f, y0, t, theta, target, **options)
    for n in (2, 5, 16, 17, 33):
        some = rng.permutation(70)[:n]
        part = pn.loss_and_grad(f, y0[some], [t[i] for i in some], theta, [target[i] for i in some], **options)
        assert np.array_equal(part.y0, whole.y0[some])
        assert all(np.array_equal(part.t[j], whole.t[i]) for j, i in enumerate(some))


# ---- The ways to ask for a gradient


@pytest.mark.parametrize("adjoint", ["discrete", "reversible", "backsolve", "interpolating"])
def test_vjp_with_the_cotangent_of_the_loss(adjoint):
    rng = np.random.default_rng(14)
    t, target, weight = ragged(rng)
    inputs = (KNOTS, rng.normal(size=(6, 2)), "cubic")
    y0, wrt = rng.normal(size=(3, 2)), ("theta", "y0", "t", "inputs")
    options = {"inputs": inputs, "rtol": 1e-5, "atol": 1e-6}
    value = pn.loss_and_grad(driven, y0, t, THETA, target, weight=weight, adjoint=adjoint, wrt=wrt, **options)
    sol = pn.solve(driven, y0, t, THETA, coupling=0.99 if adjoint == "reversible" else 0.0, **options)
    total = sum((w * ~np.isnan(x)).sum() for w, x in zip(weight, target, strict=True))
    dy = [np.nan_to_num(2 * w * (y - x)) / total for w, y, x in zip(weight, sol.y, target, strict=True)]
    grads = sol.vjp(dy, wrt=wrt, adjoint=adjoint)
    for name in wrt:
        check(getattr(grads, name), getattr(value, name), 1e-13 if adjoint in ("discrete", "reversible") else 1e-4)
    assert sol.vjp(dy, wrt="y0", adjoint=adjoint).theta is None


def test_vjp_memory():
    f = pn.mlp(2, (4,))
    sol = pn.solve(f, [1.0, 0.5], np.linspace(0, 40, 9), f.init(3), rtol=1e-9, atol=1e-11)
    dy = np.ones((9, 2))
    free, tight = sol.vjp(dy), sol.vjp(dy, memory=3000)
    assert sol.stats.accepted * 96 > 3000 / 2
    assert np.array_equal(free.theta, tight.theta) and np.array_equal(free.y0, tight.y0)


@pytest.mark.parametrize("adjoint", ["discrete", "reversible", "backsolve", "interpolating"])
def test_objective(adjoint):
    rng = np.random.default_rng(15)
    f = pn.mlp(2, (4,))
    y0, t, target = rng.normal(size=(5, 2)), np.linspace(0, 1, 4), rng.normal(size=(5, 4, 2))
    target[0, 1] = np.nan
    objective = pn.Objective(f, y0, t, target, adjoint=adjoint, rtol=1e-4)
    assert objective.n_observed == 38
    for seed in range(3):
        theta = f.init(seed)
        value = pn.loss_and_grad(f, y0, t, theta, target, adjoint=adjoint, rtol=1e-4)
        loss, gradient = objective(theta)
        assert loss == value.loss and np.array_equal(gradient, value.theta)
        assert objective.value(theta) == value.loss


# ---- Sensitivities: the Jacobian of all saved states


@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize(("method", "control"), CONTROLS)
def test_sensitivities(method, control, save):
    rng = np.random.default_rng(20)
    t, y0 = ragged(rng)[0], rng.normal(size=(3, 2))
    t[0] = np.concatenate([t[0][:1], t[0], t[0][-1:]])  # repeated times
    signal = rng.normal(size=(6, 2))
    options = {"inputs": (KNOTS, signal, "linear"), "method": method, "save": save}
    options |= {"step": 0.11} if control == "fixed" else {"rtol": 1e-3, "atol": 1e-4}
    result = pn.sensitivities(driven, y0, t, THETA, **options)
    sol = pn.solve(driven, y0, t, THETA, steps=True, **options)
    problem = rk.Problem(
        driven_reference, method, sol.steps, y0, t, THETA, None, inputs=("linear", [KNOTS], [signal]), land=save == "land"
    )
    for i in range(3):
        check(result.solution.y[i], sol.y[i], 1e-14)
        by_theta = problem.path(i, theta=THETA + 1j * rk.EPS * np.eye(4)).imag / rk.EPS
        by_y0 = problem.path(i, y0=y0[i] + 1j * rk.EPS * np.eye(2)).imag / rk.EPS
        check(result.theta[i], np.moveaxis(by_theta, 0, -1))
        check(result.y0[i], np.moveaxis(by_y0, 0, -1))


def test_sensitivities_and_adjoint():
    # S^T dy is the vector-Jacobian product; networks, shapes, failures, float32
    rng = np.random.default_rng(21)
    f = pn.mlp(3, (7,), time=True)
    theta, y0, t, dy = f.init(0), rng.normal(size=(5, 3)), np.linspace(0, 2, 4), rng.normal(size=(5, 4, 3))
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        result = pn.sensitivities(f, y0, t, theta, method="rk4", step=0.1, dtype=dtype)
        grads = pn.solve(f, y0, t, theta, method="rk4", step=0.1, dtype=dtype).vjp(dy)
        assert result.theta.shape == (5, 4, 3, f.n_params) and result.y0.shape == (5, 4, 3, 3)
        check(np.einsum("btd,btdp->p", dy, result.theta), grads.theta, tolerance)
        check(np.einsum("btd,btde->be", dy, result.y0), grads.y0, tolerance)
    one = pn.sensitivities(f, y0[0], t, theta)
    assert one.theta.shape == (4, 3, f.n_params) and np.array_equal(one.y0[0], np.eye(3)) and not one.theta[0].any()
    y0[1, 0] = np.nan
    bad = pn.sensitivities(f, y0, t, theta, method="rk4", step=0.1, errors="ignore")
    good = np.array([0, 2, 3, 4])
    assert np.isnan(bad.theta[1]).all() and np.isnan(bad.y0[1]).all() and bad.solution.status[1] != 0
    check(bad.theta[good], pn.sensitivities(f, y0[good], t, theta, method="rk4", step=0.1).theta, 1e-15)


# ---- Failed samples


@pytest.mark.parametrize("adjoint", ["discrete", "reversible", "backsolve", "interpolating"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_failed_samples_add_nothing(adjoint, dtype):
    @pn.field(state=2, theta={"a": 1.0, "b": 0.5})
    def blow(t, y, th):
        return [th.a * y[0] ** 2, th.b * y[1]]

    rng = np.random.default_rng(16)
    y0 = rng.uniform(0.1, 0.8, (23, 2)).astype(dtype)
    bad = np.array([0, 4, 5, 17, 22])
    y0[bad, 0] = [5.0, 1e200 if dtype == np.float64 else 1e30, np.nan, 3.0, 50.0]
    good = np.setdiff1d(np.arange(23), bad)
    t, target = np.linspace(0, 1, 4), rng.normal(size=(23, 4, 2)).astype(dtype)
    options = {"adjoint": adjoint, "wrt": ("theta", "y0", "t"), "rtol": 1e-4, "atol": 1e-5}
    with pytest.warns(pn.SolveWarning, match="5 of 23 samples failed"):
        value = pn.loss_and_grad(blow, y0, t, blow.init(), target, **options)
    assert np.array_equal(np.flatnonzero(value.status), bad)
    want = pn.loss_and_grad(blow, y0[good], t, blow.init(), target[good], **options)
    assert value.loss == pytest.approx(want.loss, rel=1e-14)
    check(value.theta, want.theta, 1e-14 if dtype == np.float64 else 1e-6)
    check(value.y0[good], want.y0, 1e-14)
    check(value.t, want.t, 1e-14)
    assert not value.y0[bad].any()
    with pytest.raises(pn.SolveError):
        pn.loss_and_grad(blow, y0, t, blow.init(), target, errors="raise", **options)
    # the cotangent given for a failed sample does not count either
    sol = pn.solve(
        blow, y0, t, blow.init(), rtol=1e-4, atol=1e-5, coupling=0.99 if adjoint == "reversible" else 0.0, errors="ignore"
    )
    grads = sol.vjp(np.ones_like(sol.y), adjoint=adjoint)
    assert not grads.y0[bad].any()
    part = pn.solve(blow, y0[good], t, blow.init(), rtol=1e-4, atol=1e-5, coupling=0.99 if adjoint == "reversible" else 0.0)
    check(grads.theta, part.vjp(np.ones_like(part.y), adjoint=adjoint).theta, 1e-14 if dtype == np.float64 else 1e-6)


def test_all_samples_failed():
    @pn.field(state=1, theta={"a": 1.0})
    def blow(t, y, th):
        return th.a * y**2

    objective = pn.Objective(blow, [[5.0], [4.0]], [0.0, 1.0], np.zeros((2, 2, 1)))
    loss, gradient = objective([1.0])
    assert np.isnan(loss) and np.array_equal(gradient, [0.0])


def test_an_infinite_slope_at_the_end_of_the_last_step_fails():
    # the dense output needs f(1), which is infinite though the states are not
    @pn.field(state=1, theta={"a": 1.0})
    def singular(t, y, th):
        return [th.a / np.sqrt(1 - t)]

    with pytest.warns(pn.SolveWarning, match="non_finite"):
        value = pn.loss_and_grad(singular, [0.0], [0.0, 0.9, 1.0], [1.0], np.zeros((3, 1)), method="euler", step=0.25)
    assert pn.STATUS[value.status] == "non_finite" and np.isnan(value.loss) and np.array_equal(value.theta, [0.0])
    value = pn.loss_and_grad(singular, [0.0], [0.0, 1.0], [1.0], np.zeros((2, 1)), method="euler", step=0.25)
    assert value.status == 0 and np.isfinite(value.theta).all()


# ---- Closed forms


@pytest.mark.parametrize("adjoint", ["discrete", "backsolve", "interpolating"])
@pytest.mark.parametrize("method", ["dopri5", "tsit5", "dop853"])
def test_linear_system(method, adjoint):
    # y' = A y, L = sum_k c_k^T y(t_k): dL/dy0 = sum_k expm(A t_k)^T c_k, dL/dA from the Frechet derivative of expm
    @pn.field(state=3, theta={"A": (3, 3)})
    def linear(t, y, th):
        return th.A @ y

    rng = np.random.default_rng(17)
    A, y0, t, c = rng.normal(size=(3, 3)), rng.normal(size=3), np.array([0.0, 0.4, 1.1, 1.5]), rng.normal(size=(4, 3))
    tight = {"dopri5": 1e-11, "tsit5": 1e-11, "dop853": 1e-12}[method]
    sol = pn.solve(linear, y0, t, A.ravel(), method=method, rtol=tight, atol=tight)
    grads = sol.vjp(c, wrt=("theta", "y0", "t"), adjoint=adjoint)
    flows = [expm(A * s) for s in t]
    assert np.abs(sol.y - [E @ y0 for E in flows]).max() < 1e-9
    dy0 = sum(E.T @ ck for E, ck in zip(flows, c, strict=True))
    check(grads.y0, dy0, 1e-9)
    dA = sum(s * expm_frechet((A * s).T, np.outer(ck, y0), compute_expm=False) for s, ck in zip(t, c, strict=True))
    check(grads.theta, dA, 1e-9)
    dt = np.array([ck @ A @ E @ y0 for E, ck in zip(flows, c, strict=True)])
    dt[0] = -sum(ck @ E @ A @ y0 for E, ck in zip(flows[1:], c[1:], strict=True))  # y(t0) = y0 whatever t0
    check(grads.t, dt, 1e-8)


# ---- float32


@pytest.mark.parametrize("adjoint", ["discrete", "reversible"])
def test_float32(adjoint):
    rng = np.random.default_rng(18)
    f = pn.mlp(2, (16,), time=True)
    y0, t, target = rng.normal(size=(20, 2)), np.linspace(0, 2, 9), rng.normal(size=(20, 9, 2))
    theta = f.init(0)
    options = {"method": "rk4", "step": 0.05, "adjoint": adjoint, "wrt": ("theta", "y0", "t")}
    single = pn.loss_and_grad(f, y0.astype(np.float32), t, theta, target.astype(np.float32), **options)
    double = pn.loss_and_grad(f, y0, t, theta.astype(np.float32).astype(np.float64), target, **options)
    assert single.y.dtype == np.float32
    assert single.loss == pytest.approx(double.loss, rel=2e-6)
    check(single.theta, double.theta, 5e-6)
    check(single.y0, double.y0, 5e-6)
    check(single.t, double.t, 5e-5)


@pytest.mark.parametrize("isa", pn.ISAS)
@pytest.mark.parametrize("n", [1, 20])
def test_instruction_sets(isa, n):
    rng = np.random.default_rng(19)
    f = pn.mlp(2, (7, 5), time=True)
    theta, y0, t, target = f.init(0), rng.normal(size=(n, 2)), np.linspace(0, 2, 9), rng.normal(size=(n, 9, 2))
    before = pn.isa()
    values = []
    try:
        for name in (isa, "plain"):
            pn.set_isa(name)
            assert pn.isa() == name
            values.append(
                pn.loss_and_grad(f, y0, t, theta, target, wrt=("theta", "y0", "t"), rtol=1e-9, atol=1e-9, threads=1)
            )
    finally:
        pn.set_isa(before)
    assert values[0].loss == pytest.approx(values[1].loss, rel=1e-9)
    for name in ("theta", "y0", "t"):
        check(getattr(values[0], name), getattr(values[1], name), 1e-8)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not tell the peak memory")
def test_memory_stays_within_the_budget():
    """100,000 steps of 16 samples: their tape would take 115 MB."""
    program = """if True:
        import re, numpy as np, pynode as pn

        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1e3

        f = pn.mlp(2, (4,))
        y0, t, target = np.ones((16, 2)), [0.0, 10.0], np.zeros((16, 2, 2))
        run = lambda steps: pn.loss_and_grad(f, y0, t, f.init(0), target, method="rk4", step=10 / steps, memory="4MB")
        run(10)
        before = peak()
        run(100_000)
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 12
