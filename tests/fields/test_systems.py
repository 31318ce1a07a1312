"""Systems: jumps and losses as programs at save times. Values and gradients against an implementation in NumPy with complex
steps (system_reference.py), against differences on frozen steps and closed forms; masks, bits, failures, bad input."""

import copy
import pickle

import numpy as np
import pytest
import system_reference as ref

import pynode as pn
from pynode.data import files

D, K, M, H = 2, 3, 4, 0.17  # state, data, target; step of the fixed ones

NET = pn.mlp(D, (5,), time=True)


@pn.field(state=D, theta={"net": pn.mlp(D, (4,), D, inputs=K, time=True), "gate": (D,)}, inputs=K)
def update(t, y, th, x):
    z = pn.sigmoid(th.gate + x[:2])
    return z * y + (1 - z) * np.tanh(th.net(t, y, x))


@pn.field(state=D, out=1, theta={"decoder": pn.mlp(D, (3,), 2, time=True), "log_noise": 0.3}, inputs=M)
def score(t, y, th, x):  # x: two observations and the mask of each
    r = th.decoder(t, y) - x[:2]
    return [np.sum(x[2:] * (0.5 * r * r * np.exp(-2 * th.log_noise) + th.log_noise))]


SYSTEM = pn.System(NET, update, score)
THETA = SYSTEM.init(3)


def reference_parts(theta):
    """The same as functions of NumPy."""
    p = SYSTEM.split(np.arange(float(SYSTEM.n_params)))
    flow, jump, loss = (theta[np.array(p[name], dtype=int)] for name in ("field", "jump", "loss"))

    def f(t, y):
        return ref.network(flow, (3, 5, 2), np.concatenate([y, [t]]))

    def J(t, y, x):
        n = update.n_params - D
        z = ref.sigmoid(jump[n:] + x[:2])
        return z * y + (1 - z) * np.tanh(ref.network(jump[:n], (6, 4, 2), np.concatenate([y, [t], x])))

    def loss_of(t, y, x):
        s = loss[-1]
        r = ref.network(loss[:-1], (3, 3, 2), np.concatenate([y, [t]])) - x[:2]
        return np.sum(x[2:] * (0.5 * r * r * np.exp(-2 * s) + s))

    return f, J, loss_of


def case(kind, seed=0):
    """y0, t, data, target of a batch: rows left out, repeated times, jumps at the initial time, both directions of time."""
    rng = np.random.default_rng(seed)

    def rows(n):
        x, z = rng.normal(size=(n, K)), np.concatenate([rng.normal(size=(n, 2)), rng.integers(0, 2, (n, 2))], axis=1)
        x[rng.uniform(size=n) < 0.3, 0] = np.nan
        z[rng.uniform(size=n) < 0.3] = np.nan
        z[-1] = [0.1, -0.2, 1, 1]
        return x, z

    t = np.array([0.1, 0.1, 0.5, 0.9, 0.9, 0.9, 1.4])
    if kind == "single":
        return rng.normal(size=D), t, *rows(7)
    if kind == "ragged":
        times = [t, np.array([0.3]), t[::-1].copy(), np.array([0.0, 0.0]), np.sort(rng.uniform(0, 1, 9))]
    else:
        times = [t] * 3 if kind == "shared" else [t + 0.1 * i for i in range(2)]
    xs, zs = zip(*(rows(len(s)) for s in times), strict=True)
    y0 = rng.normal(size=(len(times), D))
    if kind == "ragged":
        return y0, times, list(xs), list(zs)
    return y0, t if kind == "shared" else np.array(times), np.array(xs), np.array(zs)


def samples(kind, *arrays):
    """One tuple for each sample."""
    if kind == "single":
        return [arrays]
    y0, t, *rest = arrays
    return list(zip(y0, [t] * len(y0) if kind == "shared" else t, *rest, strict=True))


def largest(x):
    return max(np.abs(np.concatenate([np.ravel(a) for a in x]) if isinstance(x, (list, tuple)) else x).max(), 1e-300)


def close(got, want, tolerance=2e-12):
    got, want = (
        np.concatenate([np.ravel(a) for a in x]) if isinstance(x, (list, tuple)) else np.ravel(x) for x in (got, want)
    )
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * largest(want)


def same(a, b):
    """The same bits (NaN like NaN)."""
    a, b = (np.concatenate([np.ravel(p) for p in x]) if isinstance(x, list) else np.asarray(x) for x in (a, b))
    return a.tobytes() == b.tobytes()


# ---- against the implementation in NumPy


@pytest.mark.parametrize("jump", [True, False], ids=["jumps", "no jumps"])
@pytest.mark.parametrize("kind", ["single", "shared", "own", "ragged"])
def test_against_numpy(kind, jump):
    y0, t, x, z = case(kind)
    parts = {"field": NET, "jump": update if jump else None, "loss": score}
    system, used = pn.System(**parts), ("field", "jump", "loss") if jump else ("field", "loss")
    theta = system.join(**{name: SYSTEM.split(THETA)[name] for name in used})
    wrt = ("theta", "y0", "t", "target") + (("data",) if jump else ())
    options = {"method": "rk4", "step": H, "save": "land"} | ({"data": x} if jump else {})
    val = pn.loss_and_grad(system, y0, t, theta, z, loss="program", wrt=wrt, **options)

    def value(p, y0, t, x, z, part=slice(None)):
        f, J, loss = reference_parts(p)
        sum_ = 0
        for a, s, u, w in samples(kind, y0, t, x, z)[part]:
            y, _ = ref.rollout(f, J if jump else None, a, s + 0j, u, H)
            sum_ = sum_ + ref.total(loss, s, y, w)
        return sum_

    full = SYSTEM.join(**(SYSTEM.split(THETA) | system.split(theta)))
    close(val.loss, value(full, y0, t, x, z).real)
    f, J, _ = reference_parts(full)
    trajectories = [ref.rollout(f, J if jump else None, a, s + 0j, u, H) for a, s, u, _ in samples(kind, y0, t, x, z)]
    close(val.y if kind == "ragged" else [val.y], [y.real for y, _ in trajectories])
    if jump:
        before = val.solution.y_before
        close(before if kind == "ragged" else [before], [y.real for _, y in trajectories])
    g = ref.complex_gradient(lambda p: value(p, y0, t, x, z), full)
    close(val.theta, np.concatenate([SYSTEM.split(g)[name] for name in used]))
    assert all(largest(part) > 1e-3 for part in system.split(val.theta).values())
    close(val.y0, ref.complex_gradient(lambda a: value(full, a, t, x, z), y0))
    _compare_rows(val, kind, (y0, t, x, z), lambda *a: value(full, *a), jump)


def _compare_rows(val, kind, arrays, value, jump):
    """Gradients with respect to data, target and times; ragged ones sample by sample."""
    if kind != "ragged":
        parts = {name: getattr(val, name) for name in ("t", "data", "target")}
        _compare_sample(parts, arrays, value, jump)
        return
    for i, (a, s, x, z) in enumerate(zip(*arrays, strict=True)):
        parts = {name: None if getattr(val, name) is None else getattr(val, name)[i] for name in ("t", "data", "target")}

        def alone(a, s, x, z):
            return value(a[None], [s], [x], [z])

        _compare_sample(parts, (a, s, x, z), alone, jump)


def _compare_sample(parts, arrays, value, jump):
    y0, t, x, z = arrays
    if jump:
        want = ref.complex_gradient(lambda a: value(y0, t, a, z), x)
        close(parts["data"], np.where(np.isnan(x[..., :1]), 0, want))
    want = ref.complex_gradient(lambda a: value(y0, t, x, a), z)
    close(parts["target"], np.where(np.isnan(z[..., :1]), 0, want))
    want = ref.complex_gradient(lambda a: value(y0, a, x, z), t)
    repeated = np.diff(t, axis=-1) == 0  # those move together only
    ends = [(0, 0)] * (t.ndim - 1)
    alone = ~(np.pad(repeated, [*ends, (1, 0)]) | np.pad(repeated, [*ends, (0, 1)]))
    assert alone.any() or t.size <= 2
    assert np.abs(np.where(alone, parts["t"] - want, 0)).max() <= 3e-12 * max(largest(want), 1e-3)


# ---- against differences on frozen steps


@pytest.mark.parametrize("kind", ["single", "shared", "own", "ragged"])
@pytest.mark.parametrize(
    "options", [{}, {"method": "dop853", "rtol": 1e-9}, {"method": "bosh3", "save": "land"}, {"method": "heun", "step": 0.2}]
)
def test_differences_on_frozen_steps(kind, options):
    y0, t, x, z = case(kind, seed=5)
    wrt = ("theta", "y0", "t", "data", "target")
    check = pn.check_grad(SYSTEM, y0, t, THETA, z, loss="program", data=x, wrt=wrt, n_entries=12, **options)
    assert len(check.names) >= 30 and check.max_error < 2e-9, str(check)


@pytest.mark.parametrize("adjoint", ["discrete", "reversible"])
@pytest.mark.parametrize("save", ["interpolate", "land"])
def test_loss_without_jumps(adjoint, save):
    """Saved values inside steps, and the reversible scheme: the loss's cotangents take every way back."""
    y0, t, _, z = case("ragged", seed=6)
    system = pn.System(NET, loss=score)
    theta = system.init(0)
    wrt = ("theta", "y0", "t", "target")
    check = pn.check_grad(system, y0, t, theta, z, loss="program", wrt=wrt, adjoint=adjoint, save=save, n_entries=12)
    assert check.max_error < 5e-9, str(check)


def test_inputs_and_jumps():
    """The field's signal u, its knots between the jumps, and a loss built in."""

    @pn.field(state=1, theta={"k": 0.7}, inputs=1)
    def heated(t, y, th, u):
        return -th.k * y + u * np.cos(y)

    @pn.field(state=1, theta={"gain": 0.4}, inputs=2)
    def kick(t, y, th, x):
        return y + th.gain * x[:1] * np.sin(x[1] * t) * y

    t, rng = np.linspace(0, 2, 9), np.random.default_rng(0)
    x, target = rng.normal(size=(2, 9, 2)), rng.normal(size=(2, 9, 1))
    signal = (np.array([-0.5, 0.3, 1.1, 2.5]), rng.normal(size=(4, 1)), "linear")
    system = pn.System(heated, kick)
    options = {"data": x, "inputs": signal, "loss": "huber", "wrt": ("theta", "y0", "t", "data", "inputs")}
    check = pn.check_grad(system, rng.normal(size=(2, 1)), t, system.init(), target, **options)
    assert check.max_error < 1e-9, str(check)


# ---- closed forms


@pn.field(state=1, theta={"a": 0.8})
def decay(t, y, th):
    return -th.a * y


@pn.field(state=1, theta={"scale": 1.0}, inputs=1)
def dose(t, y, th, x):
    return y + th.scale * x


def test_doses_have_a_closed_form():
    """y' = -a y with doses x_j at t_j (pharmacokinetics): y(t) = sum_j s x_j exp(-a (t - t_j)), t_j <= t."""
    system = pn.System(decay, dose)
    t, x = np.array([0.0, 1.0, 1.0, 2.5, 4.0]), np.array([[3.0], [np.nan], [2.0], [1.0], [np.nan]])
    theta = system.join(field={"a": 0.8}, jump={"scale": 1.5})
    sol = pn.solve(system, [0.0], t, theta, data=x, rtol=1e-11, atol=1e-13)
    given = ~np.isnan(x[:, 0])

    def exact(t, strict):
        over = (t >= t_of[:, None]) if not strict else (t > t_of[:, None])
        return (1.5 * x_of[:, None] * np.exp(-0.8 * (t - t_of[:, None])) * over).sum(axis=0)

    t_of, x_of = t[given], x[given, 0]
    assert np.abs(sol.y[[0, 2, 3, 4], 0] - exact(t, False)[[0, 2, 3, 4]]).max() < 1e-9
    assert np.abs(sol.y_before[[0, 1, 3, 4], 0] - exact(t, True)[[0, 1, 3, 4]]).max() < 1e-9
    assert sol.y[1, 0] == sol.y_before[1, 0] == sol.y_before[2, 0]
    dy = np.zeros((5, 1))
    dy[4] = 1.0
    g = sol.vjp(dy, wrt=("theta", "y0", "data", "t"))
    age = 4.0 - t_of
    parts = 1.5 * x_of * np.exp(-0.8 * age)
    assert abs(g.theta[0] + (age * parts).sum()) < 1e-8 and abs(g.theta[1] - parts.sum() / 1.5) < 1e-8
    assert np.abs(g.data[given, 0] - 1.5 * np.exp(-0.8 * age)).max() < 1e-8 and (g.data[~given] == 0).all()
    assert abs(g.y0[0] - np.exp(-3.2)) < 1e-8
    assert abs(g.t[3] - 0.8 * parts[2]) < 1e-8  # a later dose is a larger one, of a state after it


def test_a_jump_without_data_happens_at_every_time():
    @pn.field(state=1)
    def double(t, y):
        return 2 * y

    system = pn.System(decay, double)
    sol = pn.solve(system, [1.0], np.linspace(0, 1, 5), [0.3], rtol=1e-10, atol=1e-12)
    assert np.abs(sol.y[:, 0] - 2.0 ** np.arange(1, 6) * np.exp(-0.3 * np.linspace(0, 1, 5))).max() < 1e-7
    g = sol.vjp(np.array([[0.0]] * 4 + [[1.0]]))
    assert abs(g.y0[0] - 32 * np.exp(-0.3)) < 1e-7 and abs(g.theta[0] + 32 * np.exp(-0.3)) < 1e-7


def test_a_loss_without_target_counts_every_row():
    @pn.field(state=1, out=1, theta={"w": 2.0})
    def energy(t, y, th):
        return th.w * y * y * (1 + t)

    system = pn.System(decay, loss=energy)
    t = np.linspace(0, 1, 5)
    val = pn.loss_and_grad(system, [1.5], t, system.init(), loss="program", rtol=1e-10, atol=1e-12, wrt=("theta", "t"))
    want = 2 * (1.5 * np.exp(-0.8 * t)) ** 2 * (1 + t)
    assert abs(val.loss - want.sum()) < 1e-8 and abs(val.theta[1] - want.sum() / 2) < 1e-8
    assert np.abs(val.t[1:] - (want / (1 + t) - 1.6 * want)[1:]).max() < 1e-6
    with pytest.raises(ValueError, match="takes none"):
        pn.loss_and_grad(system, [1.5], t, system.init(), np.zeros((5, 1)), loss="program")


def test_steps_end_at_jumps_only():
    """Times without data are interpolated: they cost nothing, and say the same of y before and after."""
    system = pn.System(decay, dose)
    t, x = np.linspace(0, 5, 501), np.full((501, 1), np.nan)
    x[250] = 1.0
    sol = pn.solve(system, [1.0], t, [0.8, 1.0], data=x, rtol=1e-9, atol=1e-12, steps=True)
    few = pn.solve(system, [1.0], t[[0, 250, 500]], [0.8, 1.0], data=x[[0, 250, 500]], rtol=1e-9, atol=1e-12, steps=True)
    assert same(sol.steps, few.steps) and t[250] in sol.steps and len(sol.steps) < 100
    assert np.abs(sol.y[:, 0] - np.exp(-0.8 * t) - np.where(t >= 2.5, np.exp(-0.8 * (t - 2.5)), 0)).max() < 1e-8
    moved = sol.y[:, 0] != sol.y_before[:, 0]
    assert moved.sum() == 1 and moved[250] and sol.y_before[250, 0] + 1 == sol.y[250, 0]
    landing = pn.solve(system, [1.0], t, [0.8, 1.0], data=x, save="land", steps=True)
    assert set(t) <= set(landing.steps)


# ---- masks, lanes, bits


def batch(n=300, seed=2, dtype=np.float64, times=5):
    """Many ragged samples."""
    rng = np.random.default_rng(seed)
    t = [np.sort(rng.uniform(0, 2, rng.integers(1, times + 1))) for _ in range(n)]
    for s in t[::3]:
        s[: len(s) // 2] = s[0]
    x, z = ([rng.normal(size=(len(s), k)) for s in t] for k in (K, M))
    for a, b in zip(x, z, strict=True):
        a[rng.uniform(size=len(a)) < 0.3, 0] = np.nan
        b[rng.uniform(size=len(b)) < 0.3, 0] = np.nan
    return rng.normal(size=(n, D)).astype(dtype), t, x, z


WRT = ("theta", "y0", "t", "data", "target")


def gradients(y0, t, x, z, **options):
    options = {"loss": "program", "data": x, "wrt": WRT} | options
    return pn.loss_and_grad(SYSTEM, y0, t, THETA, z, **options)


def everything(val):
    return [np.array([val.loss]), val.theta, val.y0, *val.t, *val.data, *val.target, *val.y, *val.solution.y_before]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_same_bits_for_any_number_of_threads(dtype):
    arrays = batch(dtype=dtype)
    options = {"rtol": 1e-4, "atol": 1e-5}
    one = gradients(*arrays, threads=1, **options)
    assert np.isfinite(one.loss) and one.solution.ok and one.y[0].dtype == dtype
    for threads in (2, 3, 7):
        assert same(everything(one), everything(gradients(*arrays, threads=threads, **options)))
    assert same(everything(one), everything(gradients(*arrays, threads=1, **options)))


@pytest.mark.parametrize("options", [{"method": "rk4", "step": 0.004}, {"rtol": 1e-11, "atol": 1e-13, "method": "bosh3"}])
@pytest.mark.parametrize("n", [None, 1, 21])
def test_the_same_bits_for_any_budget(n, options):
    y0, t, x, z = batch(n or 1, seed=9)
    t[0] = np.linspace(0, 2, 6)
    rng = np.random.default_rng(0)
    x[0], z[0] = rng.normal(size=(6, K)), rng.normal(size=(6, M))
    x[0][2, 0] = np.nan
    arrays = (y0, t, x, z) if n else (y0[0], t[0], x[0], z[0])
    full = gradients(*arrays, **options)
    steps, thinned = int(np.sum(full.stats.accepted)), 0
    for memory in (2_000_000, 1_000_000, 500_000, 250_000, 120_000, 60_000, 30_000, 15_000):
        try:
            val = gradients(*arrays, memory=memory, **options)
        except ValueError as error:
            assert "budget" in str(error)
            break
        thinned += memory < 2 * steps * 80
        got, want = ([v.loss, v.theta, v.y0, *v.t, *v.data, *v.target, *v.y] for v in (val, full))
        assert all(same(np.asarray(a), np.asarray(b)) for a, b in zip(got, want, strict=True))
    assert thinned


def test_a_sample_does_not_depend_on_its_neighbours():
    y0, t, x, z = batch(80)
    order = np.random.default_rng(1).permutation(80)[:33]
    a = gradients(y0, t, x, z)
    b = gradients(y0[order], [t[i] for i in order], [x[i] for i in order], [z[i] for i in order])
    for name in ("y", "t", "data", "target"):
        assert same([getattr(a, name)[i] for i in order], list(getattr(b, name)))
    assert same(a.y0[order], b.y0) and same(a.sample_loss[order], b.sample_loss)
    assert same([a.solution.y_before[i] for i in order], b.solution.y_before)


def test_rows_that_are_left_out_may_hold_anything():
    y0, t, x, z = batch(40)
    a = gradients(y0, t, x, z)
    for rows in (*x, *z):
        rows[np.isnan(rows[:, 0]), 1:] = np.inf
    b = gradients(y0, t, x, z)
    assert same(everything(a), everything(b))
    assert all((g[np.isnan(r[:, 0])] == 0).all() for g, r in zip(a.data, x, strict=True))
    assert all((g[np.isnan(r[:, 0])] == 0).all() for g, r in zip(a.target, z, strict=True))


def test_without_data_the_field_alone_is_left():
    y0, t, x, z = batch(40)
    for rows in x[::2]:
        rows[:, 0] = np.nan
    val = gradients(y0, t, x, z)
    alone = pn.solve(NET, y0, t, SYSTEM.split(THETA)["field"])
    assert same(val.y[::2], alone.y[::2]) and not same(val.y[1::2], alone.y[1::2])
    assert (val.stats.nfe[::2] == alone.stats.nfe[::2]).all()


def test_instruction_sets_agree():
    arrays, isa = batch(40), pn.isa()
    options = {"method": "rk4", "step": 0.05}
    try:
        want = gradients(*arrays, **options)
        for name in pn.ISAS:
            pn.set_isa(name)
            got = gradients(*arrays, **options)
            for a, b in zip(everything(got), everything(want), strict=True):
                assert np.allclose(a, b, rtol=1e-10, atol=1e-11, equal_nan=True)
    finally:
        pn.set_isa(isa)


def test_one_sample_and_a_batch_agree():
    y0, t, x, z = batch(10)
    many = gradients(y0, t, x, z, method="rk4", step=0.05)
    total = 0
    for i in range(10):
        if np.isnan(z[i][:, 0]).all():
            continue
        one = gradients(y0[i], t[i], x[i], z[i], method="rk4", step=0.05)
        assert np.allclose(one.y0, many.y0[i], rtol=1e-11, atol=1e-12)
        total = total + one.theta
    assert np.allclose(total, many.theta, rtol=1e-11, atol=1e-12)


def test_float32_is_close_to_float64():
    y0, t, x, z = batch(50)
    options = {"method": "rk4", "step": 0.1}
    a, b = gradients(y0, t, x, z, **options), gradients(y0.astype(np.float32), t, x, z, **options)
    assert abs(a.loss - b.loss) < 1e-4 * abs(a.loss)
    for name in ("theta", "y0", "data", "target", "t"):
        close(getattr(b, name), getattr(a, name), 1e-4)


def test_loss_program_and_built_in_loss_agree():
    @pn.field(state=D, out=1, inputs=D)
    def squares(t, y, x):
        return np.sum((y - x) ** 2)

    y0, t, x, _ = batch(60)
    target = [np.random.default_rng(i).normal(size=(len(s), D)) for i, s in enumerate(t)]
    target[5][0] = np.nan
    system = pn.System(NET, update, squares)
    theta = SYSTEM.split(THETA)
    theta = system.join(field=theta["field"], jump=theta["jump"])
    own = pn.loss_and_grad(system, y0, t, theta, target, loss="program", data=x, wrt=("theta", "y0", "t", "data"))
    built_in = pn.loss_and_grad(system, y0, t, theta, target, loss="sse", data=x, wrt=("theta", "y0", "t", "data"))
    assert abs(own.loss - built_in.loss) < 1e-12 * own.loss
    for name in ("theta", "y0", "data", "t"):
        close(getattr(own, name), getattr(built_in, name), 1e-13)
    assert (own.stats.nfe == built_in.stats.nfe).all()  # no second solve
    mean = pn.loss_and_grad(system, y0, t, theta, target, loss="program", reduction="mean", data=x)
    rows = sum(int((~np.isnan(v[:, 0])).sum()) for v in target)
    assert abs(mean.loss * rows - own.loss) < 1e-10 * own.loss and np.allclose(mean.theta * rows, own.theta)
    total = pn.loss_and_grad(system, y0, t, theta, target, loss="mse", reduction="sum", data=x)
    assert total.loss == built_in.loss and same(total.theta, built_in.theta)
    objective = pn.Objective(system, y0, t, target, loss="program", data=x)
    loss, g = objective(theta)
    assert loss == own.loss and same(g, own.theta) and objective.value(theta) == loss and objective.n_observed == rows


def test_vjp_is_the_gradient():
    y0, t, x, _ = batch(60)
    target = [np.random.default_rng(i).normal(size=(len(s), D)) for i, s in enumerate(t)]
    wrt = ("theta", "y0", "t", "data")
    val = pn.loss_and_grad(SYSTEM, y0, t, THETA, target, loss="sse", data=x, wrt=wrt)
    sol = pn.solve(SYSTEM, y0, t, THETA, data=x)
    dy = [2 * (a - b) for a, b in zip(sol.y, target, strict=True)]
    for memory in (None, "1MB"):
        g = sol.vjp(dy, wrt=wrt, memory=memory)
        for name in wrt:
            close(getattr(g, name), getattr(val, name), 1e-13)
    assert (g.theta[SYSTEM.offsets["loss"] :] == 0).all()


# ---- failures


@pn.field(state=1, theta={"w": 1.0}, inputs=1)
def invert(t, y, th, x):
    return th.w * y / x


def test_a_jump_to_infinity_ends_its_sample_only():
    system = pn.System(decay, invert)
    n, t = 20, np.linspace(0, 1, 5)
    x, y0 = np.full((n, 5, 1), 2.0), np.ones((n, 1))
    x[3, 2], x[7, 0], x[9, 4] = 0.0, 0.0, 0.0  # on the way, at the initial time, at the last
    y0[11] = np.nan
    sol = pn.solve(system, y0, t, system.init(), data=x, errors="ignore")
    bad = [3, 7, 9, 11]
    good = [i for i in range(n) if i not in bad]
    names = [pn.STATUS[s] for s in sol.status]
    assert [names[i] for i in bad] == ["non_finite"] * 3 + ["bad_input"] and all(names[i] == "ok" for i in good)
    assert [sol.results["stop_t"][i] for i in bad[:3]] == [0.5, 0.0, 1.0]
    assert (sol.results["stop_component"][bad[:3]] == 0).all()
    assert np.isfinite(sol.y[3, :2]).all() and np.isnan(sol.y[3, 2:]).all() and np.isnan(sol.y[[7, 11]]).all()
    assert np.isfinite(sol.y[9, :4]).all() and np.isnan(sol.y[9, 4]).all() and np.isfinite(sol.y_before[9]).all()
    target = np.zeros((n, 5, 1))
    options = {"loss": "sse", "wrt": ("theta", "y0", "data", "t"), "errors": "ignore"}
    val = pn.loss_and_grad(system, y0, t, system.init(), target, data=x, **options)
    rest = pn.loss_and_grad(system, y0[good], t, system.init(), target[good], data=x[good], **options)
    assert (val.sample_loss[bad] == 0).all() and (val.y0[bad] == 0).all() and (val.data[bad] == 0).all()
    assert np.isclose(val.loss, rest.loss, rtol=1e-14) and np.allclose(val.theta, rest.theta, rtol=1e-13)
    assert np.allclose(val.t, rest.t, rtol=1e-12)
    with pytest.raises(pn.SolveError, match=r"non_finite at t = 0\.5"):
        pn.solve(system, y0[3], t, system.init(), data=x[3], errors="raise")


def test_a_field_that_fails_adds_nothing_to_the_loss():
    @pn.field(state=1)
    def pole(t, y):
        return y * y

    @pn.field(state=1, out=1, theta={"w": 1.0}, inputs=1)
    def square(t, y, th, x):
        return th.w * (y - x) ** 2

    system = pn.System(pole, loss=square)
    y0, t = np.array([[0.5], [2.0], [-1.0]]), np.linspace(0, 1, 4)  # 1 / (1/y0 - t): a pole at t = 0.5
    val = pn.loss_and_grad(system, y0, t, [1.0], np.zeros((3, 4, 1)), loss="program", errors="ignore", wrt=("theta", "y0"))
    assert [s == 0 for s in val.status] == [True, False, True]
    exact = 1 / (1 / y0[[0, 2]] - t)
    assert np.isclose(val.loss, (exact**2).sum(), rtol=1e-5) and np.isclose(val.theta[0], val.loss)
    assert val.sample_loss[1] == 0 and val.y0[1] == 0


def test_all_samples_failed():
    val = pn.loss_and_grad(
        SYSTEM, np.full((3, D), np.nan), [0.0, 1.0], THETA, np.ones((3, 2, M)), data=np.ones((3, 2, K)), loss="program",
        errors="ignore",
    )  # fmt: skip
    assert (val.theta == 0).all() and np.isnan(val.loss)


# ---- shapes at the edge


def test_empty_batch():
    sol = pn.solve(SYSTEM, np.zeros((0, D)), [0.0, 1.0], THETA, data=np.zeros((0, 2, K)))
    assert sol.y.shape == (0, 2, D) and sol.y_before.shape == (0, 2, D)
    with pytest.raises(ValueError, match="no row that counts"):
        pn.loss_and_grad(
            SYSTEM, np.zeros((0, D)), [0.0], THETA, np.zeros((0, 1, M)), data=np.zeros((0, 1, K)), loss="program"
        )


@pytest.mark.parametrize("repeats", [1, 2, 40])
def test_nothing_but_the_initial_time(repeats):
    rng, t = np.random.default_rng(0), np.full(repeats, 0.7)
    x, z, y0 = rng.normal(size=(9, repeats, K)), rng.normal(size=(9, repeats, M)), rng.normal(size=(9, D))
    check = pn.check_grad(SYSTEM, y0, t, THETA, z, loss="program", data=x, wrt=("theta", "y0", "data", "target"))
    assert check.max_error < 1e-9, str(check)
    y = y0
    jump = SYSTEM.split(THETA)["jump"]
    for j in range(repeats):
        y = update(0.7, y, jump, x[:, j])
    sol = pn.solve(SYSTEM, y0, t, THETA, data=x)
    assert np.allclose(sol.y[:, -1], y, rtol=1e-13) and (sol.stats.accepted == 0).all()


@pytest.mark.parametrize("d, k", [(1, 1), (9, 37), (33, 3)])
@pytest.mark.parametrize("n", [1, 2, 16, 17])
def test_sizes_that_fill_no_vector(d, k, n):
    system = pn.System(pn.mlp(d, (3,)), pn.mlp(d, (5,), inputs=k), pn.mlp(d, (4,), 1, inputs=k))
    rng, t = np.random.default_rng(d), np.array([0.0, 0.0, 0.2, 0.7])
    y0, x, z = rng.normal(size=(n, d)), rng.normal(size=(n, 4, k)), rng.normal(size=(n, 4, k))
    x[0, 2, 0] = z[-1, 1, 0] = np.nan
    options = {"loss": "program", "data": x, "n_entries": 6, "wrt": ("theta", "y0", "data", "target")}
    check = pn.check_grad(system, y0, t, system.init(0), z, **options)
    assert check.max_error < 1e-8, str(check)


def test_a_jump_that_forgets():
    """J without y, t or parameters: outputs of its vjp are missing."""

    @pn.field(state=2, inputs=2)
    def reset(t, y, x):
        return x

    @pn.field(state=2, out=1)
    def constant(t, y):
        return [3.0]

    system = pn.System(pn.mlp(2, (3,)), reset, constant)
    x = np.array([[np.nan, 0], [1.0, 2.0], [np.nan, 0]])
    theta = system.init(0)
    sol = pn.solve(system, [0.3, 0.4], [0.0, 1.0, 2.0], theta, data=x)
    assert (sol.y[1] == [1, 2]).all()
    g = sol.vjp([[0, 0], [0, 0], [1, 0]], wrt=("theta", "y0", "data"))
    assert (g.y0 == 0).all() and np.abs(g.data[1]).min() > 0 and np.abs(g.theta).max() > 0
    val = pn.loss_and_grad(system, [0.3, 0.4], [0.0, 1.0, 2.0], theta, data=x, loss="program", wrt=("theta", "y0", "t"))
    assert val.loss == 9.0 and (val.theta == 0).all() and (val.t == 0).all()


def test_callback_field_with_programs():
    """The field in Python; its jumps and loss in C."""
    slow = pn.callback_field(
        lambda t, y, th: -th[0] * y, 1, n_params=1, vjp=lambda t, y, th, g: (-th[0] * g, np.array([-(g * y).sum()]))
    )
    fast = pn.System(decay, dose)
    t, x = np.linspace(0, 1, 4), np.ones((3, 4, 1))
    target = np.zeros((3, 4, 1))
    options = {"data": x, "wrt": ("theta", "y0", "data"), "method": "rk4", "step": 0.1}
    a = pn.loss_and_grad(pn.System(slow, dose), np.ones((3, 1)), t, [0.8, 1.0], target, **options)
    b = pn.loss_and_grad(fast, np.ones((3, 1)), t, [0.8, 1.0], target, **options)
    assert a.stats.backend == "callback" and np.allclose(a.theta, b.theta, rtol=1e-13) and np.allclose(a.data, b.data)


def test_dense_output_and_steps():
    system = pn.System(decay, dose)
    sol = pn.solve(
        system, [0.0], [0.0, 1.0, 2.0], [0.8, 1.0], data=[[1.0], [1.0], [1.0]], dense=True, rtol=1e-10, atol=1e-12
    )
    assert {0.0, 1.0, 2.0} <= set(sol.steps)
    assert same(sol.y_before[0], [0.0]) and abs(sol.y_before[1, 0] - np.exp(-0.8)) < 1e-9
    s = np.array([0.25, 0.999, 1.0, 1.5])
    want = np.exp(-0.8 * s) + np.where(s >= 1, np.exp(-0.8 * (s - 1)), 0)
    assert np.abs(sol(s)[:, 0] - want).max() < 1e-8


# ---- the object


def test_split_join_init():
    parts = SYSTEM.split(THETA)
    assert list(parts) == ["field", "jump", "loss"] and same(SYSTEM.join(**parts), THETA)
    assert all(np.shares_memory(part, THETA) for part in parts.values())
    tree = SYSTEM.unflatten(THETA)
    assert same(SYSTEM.flatten(tree), THETA) and same(SYSTEM.join(**{name: tree[name] for name in parts}), THETA)
    assert SYSTEM.n_params == NET.n_params + update.n_params + score.n_params
    assert parts["loss"][-1] == 0.3  # an initial value given by the loss
    assert same(SYSTEM.init(3), THETA) and not same(SYSTEM.init(4), THETA)
    assert "jump=update" in repr(SYSTEM) and f"{SYSTEM.n_params} parameters" in repr(SYSTEM)


def test_files(tmp_path):
    files.write(tmp_path / "system.npz", {"system": SYSTEM.to_dict(), "theta": THETA})
    content = files.read(tmp_path / "system.npz")
    for again in (pn.System.from_dict(content["system"]), pickle.loads(pickle.dumps(SYSTEM)), copy.deepcopy(SYSTEM)):
        y0, t, x, z = batch(20)
        a = pn.loss_and_grad(again, y0, t, content["theta"], z, loss="program", data=x)
        b = pn.loss_and_grad(SYSTEM, y0, t, THETA, z, loss="program", data=x)
        assert a.loss == b.loss and same(a.theta, b.theta)
    broken = content["system"] | {"loss": content["system"]["jump"]}
    with pytest.raises(ValueError, match="loss maps 2 state components to 2"):
        pn.System.from_dict(broken)
    with pytest.raises(ValueError, match="not a system"):
        pn.System.from_dict({"field": {}, "hook": {}})


# ---- bad input


@pytest.mark.parametrize(
    "parts, error, words",
    [
        ({"field": None}, TypeError, "field must be a Field"),
        ({"field": score}, ValueError, "vector field"),
        ({"jump": lambda t, y, x: y}, TypeError, "jump must be a Field"),
        ({"jump": score}, ValueError, "must map 2 to 2"),
        ({"loss": update}, ValueError, "must map 2 to 1"),
        ({"jump": pn.mlp(3, (2,))}, ValueError, "must map 2 to 2"),
        ({"loss": pn.callback_field(lambda t, y, th: y[:1], 2)}, ValueError, "callback"),
    ],
)
def test_bad_parts(parts, error, words):
    with pytest.raises(error, match=words):
        pn.System(**({"field": NET} | parts))


T3, Y0 = [0.0, 0.5, 1.0], np.ones((2, D))
X, Z = np.ones((2, 3, K)), np.ones((2, 3, M))


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"data": None}, ValueError, "data is missing"),
        ({"data": np.ones((2, 3, K + 1))}, ValueError, r"data has shape .* \(2, 3, 3\) \(sample, time, entry\)"),
        ({"data": np.where(np.arange(3) == 1, np.nan, X)}, ValueError, "entry 1, and 1 in its first"),
        ({"data": np.where(np.arange(3) == 0, np.inf, X)}, ValueError, "inf in entry 0"),
        ({"data": "abc"}, (TypeError, ValueError), "data"),
        ({"target": None}, ValueError, "target is missing"),
        ({"target": np.ones((2, 3, D))}, ValueError, "target has shape"),
        ({"target": np.full((2, 3, M), np.nan)}, ValueError, "no row that counts"),
        ({"target": np.where(np.arange(4) == 3, np.nan, Z)}, ValueError, "target: row 0 has nan in entry 3"),
        ({"weight": np.ones((2, 3, M))}, ValueError, "weight= belongs to the built-in losses"),
        ({"reduction": "max"}, ValueError, "reduction='max'"),
        ({"loss": "programme"}, ValueError, "not one of"),
        ({"adjoint": "reversible"}, ValueError, "cannot go back through jumps"),
        ({"adjoint": "backsolve"}, ValueError, "System"),
        ({"adjoint": "interpolating"}, ValueError, "System"),
        ({"coupling": 0.9, "adjoint": "reversible"}, ValueError, "cannot go back through jumps"),
        ({"wrt": ("inputs",)}, ValueError, "no inputs"),
        ({"theta": THETA[:-1]}, ValueError, "shape"),
        ({"grid": [0.0, 0.4, 1.0]}, ValueError, "every time among the grid"),
        ({"memory": 5}, ValueError, "budget"),
    ],
)
def test_bad_arguments(change, error, words):
    args = {"y0": Y0, "t": T3, "theta": THETA, "target": Z, "data": X, "loss": "program"} | change
    with pytest.raises(error, match=words):
        pn.loss_and_grad(SYSTEM, **args)


def test_what_belongs_to_systems_only():
    with pytest.raises(ValueError, match="data= is for the jumps of a System"):
        pn.solve(NET, Y0, T3, NET.init(0), data=X)
    with pytest.raises(ValueError, match="no jump that takes it"):
        pn.solve(pn.System(NET), Y0, T3, NET.init(0), data=X)
    with pytest.raises(ValueError, match="needs a System with a loss"):
        pn.loss_and_grad(NET, Y0, T3, NET.init(0), Z, loss="program")
    with pytest.raises(ValueError, match="needs a System with a loss"):
        pn.loss_and_grad(pn.System(NET, update), Y0, T3, NET.init(0), Z, loss="program", data=X)
    with pytest.raises(ValueError, match="wrt='data'"):
        pn.loss_and_grad(NET, Y0, T3, NET.init(0), np.ones((2, 3, D)), wrt=("data",))
    with pytest.raises(ValueError, match="wrt='target'"):
        pn.loss_and_grad(NET, Y0, T3, NET.init(0), np.ones((2, 3, D)), wrt=("target",))
    with pytest.raises(ValueError, match="data is missing"):
        pn.sensitivities(SYSTEM, Y0, T3, THETA)
    with pytest.raises(ValueError, match="y_before"):
        _ = pn.solve(NET, Y0, T3, NET.init(0)).y_before
    with pytest.raises(ValueError, match=r"unknown: \['jmp'\]"):
        SYSTEM.join(field=np.zeros(NET.n_params), jmp=[1.0])
    with pytest.raises(ValueError, match="reversible scheme"):
        pn.solve(SYSTEM, Y0, T3, THETA, data=X, coupling=0.9)
    assert same(pn.solve(pn.System(NET), Y0, T3, NET.init(0)).y, pn.solve(NET, Y0, T3, NET.init(0)).y)


def test_the_core_checks_programs():
    """What the wrapper is given by a caller that does not go through System."""
    from pynode import _core

    keys = {"y0": np.ones((2, D)), "t": np.array([0.0, 1.0])}
    good = {"jump": update.program.core, "jump_data": np.ones((4, K))}
    bad = [
        ({"jump": score.program.core, "jump_data": np.ones((4, M))}, "jump: output 0"),
        ({"jump": pn.mlp(3, (2,)).program.core}, "jump: the slots"),
        (good | {"jump_reverse": score.vjp_program.core}, "vjp must be"),
        ({"jump_reverse": update.vjp_program.core}, "not the program itself"),
        (good | {"coupling": 0.5}, "coupling = 0"),
        ({"jump_data": np.ones((4, K))}, "belongs to a jump"),
        ({"loss": "program"}, "needs loss_program"),
        (good | {"jump_data": np.ones((3, K))}, "jump_data has shape"),
        (good | {"jump_set": np.ones((4, D)), "jump_add": np.ones((4, D))}, "jump_set"),
    ]
    for extra, words in bad:
        with pytest.raises(ValueError, match=words):
            _core.Problem(NET.program.core, NET.vjp_program.core, **(keys | extra))
    with pytest.raises(TypeError, match="must be a Program"):
        _core.Problem(NET.program.core, jump=3, **keys)
    problem = _core.Problem(NET.program.core, NET.vjp_program.core, **(keys | {"jump": update.program.core}))
    theta = np.zeros(NET.n_params + update.n_params)
    with pytest.raises(ValueError, match="the jump needs data"):
        problem.run(theta)
    with pytest.raises(ValueError, match="needs jump_reverse"):
        problem.run(theta, data=np.ones((4, K)), g_y=np.ones((4, D)), gradient="discrete")
    assert problem.run(theta, data=np.ones((4, K)))["y"].shape == (4, D)
