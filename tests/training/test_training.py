"""What training takes and gives: constraints, control inputs, unobserved states, checkpoints, ensembles, regularisers."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import least_squares as scipy_least_squares

import pynode as pn
from pynode import NeuralODE, datasets
from pynode.fit import Checkpoint, FitWarning
from pynode.optim.schedules import SCHEDULES, as_schedule
from pynode.training import shooting
from pynode.training.coordinates import Coordinates
from pynode.training.objective import Minibatches, TrainingObjective
from pynode.training.windows import Data

T = np.linspace(0, 6, 40)
RNG = np.random.default_rng(5)


def after(here, step):
    """The best step of the free states with a step of the shared coordinates."""
    gain, shift = here.free.eliminated()[2:]
    return -(shift + gain @ step)


def circles(n=4, noise=0.02, seed=0):
    phase = np.linspace(0, 1.2, n)[:, None]
    clean = np.stack([np.cos(T + phase), -np.sin(T + phase)], axis=2)
    return clean, clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)


def differences(f, x, h=1e-6):
    return np.array([(f(x + h * e)[0] - f(x - h * e)[0]) / (2 * h) for e in np.eye(len(x))])


# ---- Constraints ---------------------------------------------------------------------------------------------------


@pn.field(
    state=2, theta={"k": pn.positive(0.4), "c": pn.bounded([0.1], 0.0, 0.6), "g": pn.frozen(2.0), "net": pn.mlp(2, (3,), 1)}
)
def mixed(t, y, th):
    return [y[1], -th.k * y[0] - th.c[0] * y[1] + 0.01 * th.g * th.net(y)[0]]


def test_coordinates_and_their_slope():
    theta = mixed.init(0)
    c = Coordinates(mixed.spec, theta)
    x = c.x(theta)
    assert len(x) == len(theta) - 1 and not c.trivial
    np.testing.assert_allclose(c.theta(x), theta, rtol=1e-14)
    slope = np.array([(c.theta(x + 1e-6 * e) - c.theta(x - 1e-6 * e)).sum() / 2e-6 for e in np.eye(len(x))])
    np.testing.assert_allclose(c.slope(x), slope, rtol=1e-8)
    far = c.theta(np.full(len(x), 50.0))
    assert far[0] > 0 and far[1] <= 0.6 and far[2] == 2.0
    np.testing.assert_array_equal(c.groups([np.array([2]), np.array([0, 2, 3])])[0], [0, 2])


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # misfit, on purpose
def test_constraints_hold_while_fitting():
    @pn.field(state=2, theta={"k": pn.positive(0.4), "c": pn.bounded(0.3, 0.1, 0.6), "m": pn.frozen(1.0)})
    def f(t, y, th):
        return [y[1], (-th.k * y[0] - th.c * y[1]) / th.m]

    true = np.array([1.5, 0.0, 1.0])  # c is out of its bounds
    y = pn.solve(f, [1.0, 0.0], T, true).y
    model = NeuralODE(field=f, random_state=0).fit(T, y + 0.01 * RNG.standard_normal(y.shape))
    k, c, m = model.theta_
    assert m == 1.0 and 0.1 <= c < 0.11 and 1.2 < k < 1.8
    assert model.covariance_[2].tolist() == [0, 0, 0] and model.covariance_[0, 0] > 0
    for optimizer in ("lbfgs", "adam"):
        first = NeuralODE(field=f, optimizer=optimizer, max_iter=60, random_state=0).fit(T, y)
        assert first.theta_[2] == 1.0 and 0.1 <= first.theta_[1] <= 0.6 and first.theta_[0] > 0


def test_declaring_constraints():
    assert [p.constraint[0] for p in mixed.spec] == ["positive", "bounded", "frozen", *["free"] * 4]
    again = pn.Field.from_dict(mixed.to_dict())
    assert again.spec == mixed.spec
    inner = pn.field(state=2, theta={"f": pn.frozen(pn.mlp(2, (3,)))})(lambda t, y, th: th.f(y))
    assert {p.constraint for p in inner.spec} == {("frozen",)}
    with pytest.raises(ValueError, match="parameter k must be positive to be fitted, but starts at -1"):
        pn.field(state=1, theta={"k": pn.positive(-1.0)})(lambda t, y, th: th.k * y)
    with pytest.raises(ValueError, match="low < high"):
        pn.bounded(1.0, 2.0, 1.0)
    with pytest.raises(TypeError, match="initial value"):
        pn.positive(())
    bad = mixed.to_dict()
    bad["spec"][1][4] = ["bounded", 1.0, 0.0]
    with pytest.raises(ValueError, match="no constraint"):
        pn.Field.from_dict(bad)


# ---- Control inputs ------------------------------------------------------------------------------------------------


@pn.field(state=2, theta={"k": 0.5, "c": 0.1}, inputs=1)
def driven(t, y, th, u):
    return [y[1], -th.k * y[0] - th.c * y[1] + u[0]]


def driven_data(n=4):
    rng = np.random.default_rng(1)
    u = np.stack([np.interp(T, np.linspace(0, 6, 7), rng.standard_normal(7)) for _ in range(n)])[:, :, None]
    y0 = rng.standard_normal((n, 2))
    y = pn.solve(driven, y0, T, [1.0, 0.3], inputs=([T] * n, list(u))).y
    return u, y0, y, y + 0.02 * rng.standard_normal(y.shape)


def test_inputs_are_used():
    u, y0, clean, y = driven_data()
    known = NeuralODE(field=driven, random_state=0).fit(T, y, u=u)
    error = np.abs(known.theta_ - [1.0, 0.3])
    assert (error < 4 * np.sqrt(np.diag(known.covariance_))).all() and (error < 0.02).all()
    net = NeuralODE(hidden=(8,), random_state=0).fit(T, y, u=list(u[:, :, 0]))
    assert net.field_.inputs == 1
    assert np.sqrt(np.mean((net.predict(T, y0, u=u) - clean) ** 2)) < 0.02
    np.testing.assert_allclose(net.predict(T, trajectory=2), clean[2], atol=0.05)
    first = NeuralODE(field=driven, optimizer="lbfgs", random_state=0).fit(T, y, u=u)
    np.testing.assert_allclose(first.theta_, known.theta_, atol=0.01)


def test_gradients_with_respect_to_inputs_and_states():
    u, y0, _, y = driven_data(2)
    model = NeuralODE(hidden=(4,), max_iter=5, random_state=0).fit(T, y, u=u)
    w, h = np.random.default_rng(2).standard_normal(y.shape), 1e-5
    g = model.vjp(T, y0, w, u=u, wrt=("theta", "y0", "inputs"))

    def loss(y0, u):
        return float((w * model.predict(T, y0, u=u)).sum())

    for i, j in ((0, 0), (1, 17), (1, 39)):
        more, less = u.copy(), u.copy()
        more[i, j] += h
        less[i, j] -= h
        assert g.inputs[i][j, 0] == pytest.approx((loss(y0, more) - loss(y0, less)) / (2 * h), rel=1e-4, abs=1e-4)
    more, less = y0.copy(), y0.copy()
    more[1, 0] += h
    less[1, 0] -= h
    assert g.y0[1, 0] == pytest.approx((loss(more, u) - loss(less, u)) / (2 * h), rel=1e-4, abs=1e-4)
    assert g.theta.shape == (model.field_.n_params,)


@pytest.mark.parametrize("kind", ["linear", "previous", "cubic"])
def test_windows_of_a_signal_are_the_signal(kind):
    rng = np.random.default_rng(0)
    t = [np.sort(rng.uniform(0, 10, 30)) for _ in range(2)]
    for x in t:
        x[0], x[-1] = 0, 10
    signal = pn.Signal(t, [rng.standard_normal((30, 2)) for _ in t], kind)
    parts = signal.windows([0, 1, 1], [0.0, 3.3, 7.0], [2.5, 6.1, 10.0])
    for w, (sample, a, b) in enumerate(((0, 0.0, 2.5), (1, 3.3, 6.1), (1, 7.0, 10.0))):
        at = np.linspace(a, b, 50)[: -1 if kind == "previous" else None]
        np.testing.assert_allclose(parts(at, w), signal(at, sample), rtol=1e-12, atol=1e-13)
        assert len(parts.t[w]) < 30


@pytest.mark.parametrize(
    "u, message",
    [
        (np.ones((3, 40, 1)), "u is for 3 trajectories"),
        (np.ones((4, 39, 1)), "39"),
        (np.full((4, 40, 1), np.nan), "finite"),
        (np.ones((4, 40, 2)), "2"),
        (None, "control input"),
        ((T[:20], np.ones((20, 1))), "known on"),
    ],
)
def test_bad_inputs_are_refused(u, message):
    with pytest.raises(ValueError, match=message):
        NeuralODE(field=driven, random_state=0).fit(T, driven_data()[3], u=u)


# ---- States that nobody measured -----------------------------------------------------------------------------------


def test_an_unobserved_state_is_added(tmp_path):
    clean, y = circles()
    model = NeuralODE(hidden=(8,), augment=1, random_state=0).fit(T, y[:, :, :1])
    assert model.n_unobserved_ == 1 and model.initial_states_.shape == (4, 2) and model.names_ == ("y1",)
    assert model.report_["rmse"]["y1"] == pytest.approx(0.02, rel=0.2)
    assert model.predict(T, trajectory=0, unobserved=True).shape == (40, 2)
    states = model.initial_states(T[:15], y[:, :15, :1])
    np.testing.assert_allclose(model.predict(T, states)[:, :, 0], clean[:, :, 0], atol=0.05)
    assert model.score(T, clean[:, :, :1]) > 0.99
    with pytest.raises(ValueError, match=r"1 observed states, but this model has 1 more: .* initial_states"):
        model.predict(T, [1.0])
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(pn.load(tmp_path / "m.npz").predict(T, states), model.predict(T, states))
    mean, std = model.predict(np.linspace(0, 9, 20), return_std=True)
    assert mean.shape == std.shape == (20, 1) and std[-1] > std[3] > 0


def test_a_state_of_ones_own_field_that_was_not_measured():
    @pn.field(state=2, theta={"k": 0.5, "c": 0.3})
    def f(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    y = pn.solve(f, [[1.0, 0.0], [0.0, 1.0]], T, [1.2, 0.1]).y
    y += 0.01 * np.random.default_rng(0).standard_normal(y.shape)
    y[:, :, 1] = np.nan
    model = NeuralODE(field=f, random_state=0).fit(T, y)
    assert (np.abs(model.theta_ - [1.2, 0.1]) < 4 * np.sqrt(np.diag(model.covariance_))).all()
    assert np.abs(model.initial_states_[1, 1] - 1) < 0.1 and np.isnan(model.report_["noise"]["y2"])


# ---- Noise, weights, early stopping, ensembles ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")
def test_weights_take_bad_entries_out():
    clean, y = circles()
    bad = RNG.random(y.shape) < 0.1
    y[bad] += 1.0
    weighted = NeuralODE(hidden=(8,), random_state=0).fit(T, y, weight=np.where(bad, 1e-8, 1.0))
    first = NeuralODE(hidden=(8,), optimizer="lbfgs", random_state=0).fit(T, y, weight=list(np.where(bad, 0.0, 1.0)))
    for model, limit in ((weighted, 0.03), (first, 0.05)):
        assert np.sqrt(np.mean((model.predict(T, trajectory=1) - clean[1]) ** 2)) < limit
    for weight, message in ((-1.0, "not negative"), (np.nan, "finite"), (np.ones((4, 7, 2)), r"shape \(7, 2\)")):
        with pytest.raises(ValueError, match=message):
            NeuralODE(random_state=0).fit(T, y, weight=weight)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
def test_early_stopping_keeps_the_best_for_the_held_out(optimizer):
    _, y = circles(6)
    model = NeuralODE(hidden=(8,), optimizer=optimizer, early_stopping=True, patience=3, random_state=0).fit(T, y)
    assert len(model.data_) == 6 and model.initial_states_.shape == (6, 2) and len(model.aside_) == 1
    last = model.history_["stage"] == model.history_["stage"][-1]
    validation = model.history_["validation"]
    assert np.isfinite(validation[last]).all() and np.isnan(validation[model.history_["stage"] == 0]).all()
    with pytest.raises(ValueError, match="two or more"):
        NeuralODE(early_stopping=True, random_state=0).fit(T, y[0])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_ensembles(tmp_path, n_jobs):
    if n_jobs:
        pytest.importorskip("joblib")
    clean, y = circles(2)
    model = NeuralODE(hidden=(4,), n_estimators=3, n_jobs=n_jobs, random_state=0).fit(T, y)
    alone = [NeuralODE(hidden=(4,), random_state=s).fit(T, y) for s in (0, 1000, 2000)]
    members = [m.predict(T, clean[0, 0], return_std=True) for m in alone]
    mean, std = model.predict(T, clean[0, 0], return_std=True)
    np.testing.assert_allclose(mean, np.mean([m for m, _ in members], axis=0), rtol=1e-12)
    variance = np.mean([s**2 for _, s in members], axis=0) + np.var([m for m, _ in members], axis=0, ddof=1)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-10, atol=1e-15)
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(pn.load(tmp_path / "m.npz").predict(T, trajectory=1), model.predict(T, trajectory=1))


def test_ensembles_with_unobserved_states():
    clean, y = circles(3)
    model = NeuralODE(hidden=(4,), augment=1, n_estimators=2, random_state=0).fit(T, y[:, :, :1])
    assert model.score(T, clean[:, :, :1]) >= min(m.score(T, clean[:, :, :1]) for m in model.estimators_) > 0.99
    assert model.predict(T, trajectory=1, return_std=True)[1].shape == (40, 1)
    with pytest.raises(ValueError, match="unobserved states of their own"):
        model.predict(T, model.initial_states_[0])


@pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")
def test_bands_of_a_model_whose_training_ends_on_windows(tmp_path):
    _, y = circles(3)
    model = NeuralODE(hidden=(8,), windows=(10,), random_state=0).fit(T, y)
    _, std = model.predict(T, trajectory=2, return_std=True)
    assert np.isfinite(std).all() and (std > 0).all()
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(pn.load(tmp_path / "m.npz").predict(T, trajectory=2, return_std=True)[1], std)


# ---- Checkpoints ---------------------------------------------------------------------------------------------------

FITS = {
    "second order": "NeuralODE(hidden=(8,), random_state=0, max_iter=12)",
    "student": "NeuralODE(hidden=(8,), random_state=0, noise='student', max_iter=12)",
    "unobserved": "NeuralODE(hidden=(8,), random_state=0, augment=1, max_iter=12)",
    "early": "NeuralODE(hidden=(8,), random_state=0, early_stopping=True, max_iter=12)",
    "first order": "NeuralODE(hidden=(8,), random_state=0, optimizer='adam+lbfgs', max_iter=30)",
    "minibatches": "NeuralODE(hidden=(8,), random_state=0, optimizer='adam', batch_size=4, max_iter=10)",
}
PROGRAM = """
import os, signal, sys
import numpy as np
from pynode import NeuralODE
from pynode.fit import Checkpoint
t, y = np.linspace(0, 6, 40), np.load(sys.argv[1])
seen = [0]
def callback(iteration):
    seen[0] += 1
    if seen[0] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
{fit}.fit(t, y, checkpoint=Checkpoint(sys.argv[2], every=0), callback=callback)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is one of POSIX")
@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("name", FITS)
def test_a_killed_fit_goes_on_to_the_same_bits(name, tmp_path):
    _, y = circles()
    y = y[:, :, :1] if name == "unobserved" else y
    data, file = tmp_path / "y.npy", tmp_path / "checkpoint.npz"
    np.save(data, y)
    make = lambda: eval(FITS[name])  # noqa: E731
    whole = make().fit(T, y)
    n = len(whole.history_["loss"])
    last = int(np.flatnonzero(whole.history_["stage"] == whole.history_["stage"][-1])[0])
    at = max(last + 2, (last + n) // 2)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(fit=FITS[name]), data, file, str(at)], env=os.environ
    )
    assert done.returncode == -signal.SIGKILL and file.exists()
    seen = []
    again = make().fit(T, y, checkpoint=Checkpoint(file, every=0), callback=lambda iteration: seen.append(1))
    assert not file.exists() and len(seen) <= n - last
    np.testing.assert_array_equal(again.theta_, whole.theta_)
    np.testing.assert_array_equal(again.initial_states_, whole.initial_states_)
    np.testing.assert_array_equal(again.history_["loss"], whole.history_["loss"])
    if whole.covariance_ is not None:
        np.testing.assert_array_equal(again.covariance_, whole.covariance_)


def test_checkpoints_of_another_fit_and_damaged_ones_are_refused(tmp_path):
    _, y = circles(2)
    file = tmp_path / "c.npz"

    def stop(iteration):
        if iteration.stage == "whole trajectories":
            raise RuntimeError("power cut")

    model = NeuralODE(hidden=(4,), random_state=0)
    with pytest.raises(RuntimeError, match="power cut"):
        model.fit(T, y, checkpoint=Checkpoint(file, every=0), callback=stop)
    assert file.exists()
    with pytest.raises(ValueError, match="checkpoint of another fit"):
        model.fit(T, y + 1, checkpoint=file)
    with pytest.raises(ValueError, match="checkpoint of another fit"):
        NeuralODE(hidden=(5,), random_state=0).fit(T, y, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(pn.ModelFileError):
        model.fit(T, y, checkpoint=file)
    with pytest.raises(ValueError, match="random_state"):
        NeuralODE().fit(T, y, checkpoint=tmp_path / "d.npz")


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_optimisers_go_on_from_their_checkpoints(optimizer, tmp_path):
    def bowl(x):
        return float(((x - 1) ** 4).sum() + (x[0] * x[1]) ** 2), 4 * (x - 1) ** 3 + 2 * x[0] * x[1] * x[[1, 0, 2]] * [
            1,
            1,
            0,
        ]

    minimise = getattr(pn.fit, optimizer)
    whole = minimise(bowl, np.zeros(3), max_iter=40)

    def cut(iteration):
        if iteration.number == 17:
            raise OSError

    with pytest.raises(OSError):
        minimise(bowl, np.zeros(3), max_iter=40, checkpoint=Checkpoint(tmp_path / "c", every=0), callback=cut)
    again = minimise(bowl, np.zeros(3), max_iter=40, checkpoint=tmp_path / "c")
    np.testing.assert_array_equal(again.theta, whole.theta)
    np.testing.assert_array_equal(again.history["loss"], whole.history["loss"])


# ---- Objectives of gradient descent --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"penalty": (0.3, 0.2)},
        {"loss": "huber", "loss_scale": 0.3},
        {"loss": "student", "loss_scale": 0.2, "penalty": (0.1, 0.0)},
    ],
)
def test_gradients_of_the_training_objective(options):
    rng, clean = np.random.default_rng(0), driven_data(2)
    data = Data([T] * 2, [y + 0.3 * rng.standard_normal(y.shape) for y in clean[2]], [rng.uniform(0.5, 2, (40, 2))] * 2)
    data.y[0][3, 1] = np.nan
    signal = pn.Signal([T] * 2, list(clean[0]))
    data = Data(data.t, data.y, data.weight, signal)

    @pn.field(state=2, theta={"k": pn.positive(0.5), "g": pn.frozen(1.0), "net": pn.mlp(2, (3,), 1)}, inputs=1)
    def f(t, y, th, u):
        return [y[1], -th.k * y[0] + th.g * th.net(y)[0] + u[0]]

    cut = data.windows(13)
    coordinates = Coordinates(f.spec, f.init(0))
    objective = TrainingObjective(
        f,
        cut,
        cut.initial(list(clean[2])),
        decay=0.2,
        weight=np.array([1.0, 3.0]),
        coordinates=coordinates,
        rtol=1e-10,
        atol=1e-10,
        **options,
    )
    z = objective.join(coordinates.x(f.init(0)))
    np.testing.assert_allclose(objective(z)[1], differences(objective, z), rtol=3e-5, atol=1e-7)


@pytest.mark.parametrize("inputs", [0, 1])
def test_the_penalty_of_a_field_without_parameters(inputs):
    """dq/dt = |f|^2 + |df/dy|^2 along y = exp(-t)."""
    decay = pn.field(state=1, inputs=inputs)((lambda t, y, u: -y) if inputs else (lambda t, y: -y))
    whole = pn.fit.with_penalty(decay, kinetic=1.0, jacobian_norm=1.0)
    y = pn.solve(whole, [1.0, 0.0], [0.0, 2.0], inputs=[0.0] if inputs else None, rtol=1e-9, atol=1e-11).y[-1]
    assert whole.n_params == 0
    np.testing.assert_allclose(y, [np.exp(-2), (1 - np.exp(-4)) / 2 + 2], rtol=1e-8)


def test_the_penalty_is_the_integral_along_the_path():
    f = pn.mlp(2, (4,))
    theta, t = f.init(3), np.linspace(0, 2, 4001)
    whole = pn.fit.with_penalty(f, kinetic=0.7, jacobian_norm=0.4)
    y = pn.solve(whole, [0.3, -0.5, 0.0], t, theta, rtol=1e-10, atol=1e-12).y
    jacobian = pn.jacobian(f)(np.zeros(len(t)), y[:, :2], theta).reshape(-1, 2, 2)
    rate = 0.35 * (f(0.0, y[:, :2], theta) ** 2).sum(axis=1) + 0.2 * (jacobian**2).sum(axis=(1, 2))
    np.testing.assert_allclose(y[-1, 2], np.trapezoid(rate, t), rtol=1e-6)


def test_minibatches():
    _, y = circles(6)
    data = Data([T] * 6, list(y))
    cut, f = data.windows(10), pn.mlp(2, (3,))
    y0 = cut.initial(list(y))
    batches = Minibatches(f, cut, y0, 5, random_state=3)
    whole = TrainingObjective(f, cut, y0)
    z, seen, total = batches.join(f.init(0)), [], 0.0
    for k in range(1, batches.n_batches + 1):
        batches.draw(k)
        loss, gradient = batches(z)
        seen += batches.which.tolist()
        rest = np.setdiff1d(np.arange(len(z)), batches.touched)
        assert (gradient[rest] == 0).all()
        total += loss * batches.objective.n_observed / whole.n_observed
    assert sorted(seen) == list(range(len(cut)))  # an epoch sees every window once
    assert total == pytest.approx(whole(z)[0], rel=1e-12)
    batches.draw(2)
    again = batches.which
    batches.draw(batches.n_batches + 2)
    assert again.tolist() != batches.which.tolist()
    batches.draw(2)
    np.testing.assert_array_equal(batches.which, again)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
def test_steer_moves_the_last_times():
    _, y = circles(2)
    cut, f = Data([T] * 2, list(y)).windows(10), pn.mlp(2, (3,))
    steered = Minibatches(f, cut, cut.initial(list(y)), len(cut), random_state=0, steer=0.5)
    moved = steered.objective.t[steered.objective.last] - [t[-1] for t in cut.t]
    assert (np.abs(moved) <= 0.5 * (T[1] - T[0]) + 1e-12).all() and np.ptp(moved) > 0
    NeuralODE(hidden=(4,), optimizer="adam", steer=0.3, max_iter=5, windows=(10,), random_state=0).fit(T, y)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    factor = SCHEDULES[name]()
    values = np.array([factor(x) for x in np.linspace(0, 1, 101)])
    assert ((values > 0) & (values <= 1)).all() and values.max() == pytest.approx(1, abs=1e-3)
    assert (np.diff(values[30:]) <= 0).all()
    with pytest.raises(ValueError, match="schedule='wild'"):
        as_schedule("wild")


def test_large_gradients_are_shortened():
    steps = []
    pn.fit.adam(
        lambda x: (float(x @ x), 2 * x),
        np.full(2, 1e6),
        max_iter=3,
        max_gradient=1.0,
        learning_rate=0.1,
        schedule="constant",
        callback=lambda it: steps.append(it.theta),
    )
    assert np.abs(np.diff(steps, axis=0)).max() <= 0.11


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kinetic_energy": 0.1, "optimizer": "levenberg-marquardt"}, "kinetic_energy belongs to gradient descent"),
        ({"batch_size": 4, "optimizer": "lbfgs"}, "make the loss random"),
        ({"steer": 1.5}, "below 1"),
        ({"augment": 1, "field": driven}, "declares all its states itself"),
        ({"augment": -1}, "augment=-1"),
        ({"n_jobs": 0}, "n_jobs=0"),
        ({"schedule": "wild"}, "schedule='wild'"),
        ({"validation_fraction": 1.0}, "between 0 and 1"),
        ({"patience": 0}, "patience=0"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        NeuralODE(**options).fit(T, circles()[1])


# ---- The pieces ----------------------------------------------------------------------------------------------------


def test_levenberg_marquardt_agrees_with_scipy():
    x = np.linspace(0, 3, 50)
    y = 2.0 * np.exp(-1.3 * x) + 0.5 + 0.05 * np.random.default_rng(0).standard_normal(50)

    def residuals(p):
        e = np.exp(-p[1] * x)
        return p[0] * e + p[2] - y, np.stack([e, -p[0] * x * e, np.ones(50)], axis=1)

    mine = pn.fit.levenberg_marquardt(residuals, [1.0, 1.0, 0.0])
    theirs = scipy_least_squares(lambda p: residuals(p)[0], [1.0, 1.0, 0.0], lambda p: residuals(p)[1], xtol=1e-12)
    np.testing.assert_allclose(mine.theta, theirs.x, rtol=1e-6)
    covariance = np.linalg.inv(theirs.jac.T @ theirs.jac) * (2 * theirs.cost / 47)
    np.testing.assert_allclose(mine.covariance, covariance, rtol=1e-4)
    assert mine.status == "converged" and len(mine.history["loss"]) == mine.n_iter
    stopped = pn.fit.levenberg_marquardt(residuals, [1.0, 1.0, 0.0], callback=lambda it: it.number == 2)
    assert (stopped.status, stopped.n_iter) == ("stopped", 2)


def test_matching_and_shooting_by_themselves():
    clean, y = circles(3)
    f = pn.mlp(2, (6,), skip=True)
    start = pn.fit.gradient_matching(f, T, y)
    slope = np.stack([clean[:, :, 1], -clean[:, :, 0]], axis=2)
    assert np.sqrt(np.mean((f(0.0, clean.reshape(-1, 2), start.theta) - slope.reshape(-1, 2)) ** 2)) < 0.2
    fit = pn.fit.multiple_shooting(f, T, y, start.theta, windows=(8, None))
    assert np.sqrt(np.mean((np.stack(fit.states) - clean) ** 2)) < 0.01
    assert fit.covariance.shape == (f.n_params,) * 2
    first = pn.fit.multiple_shooting(f, T, y, start.theta, windows=(8,), optimizer="lbfgs")
    assert first.covariance is None and np.sqrt(np.mean((np.stack(first.states) - clean) ** 2)) < 0.02


def test_parts_of_limited_memory_give_the_same_normal_equations(monkeypatch):
    _, y = circles(5)
    f, data = pn.mlp(2, (4,)), Data([T] * 3 + [T[:20]] * 2, [*y[:3], y[3][:20], y[4][:20]])
    y0 = np.stack([v[0] for v in data.y])
    one = shooting.ShootingProblem(f, data, y0)
    monkeypatch.setattr(shooting, "PART", 3000)
    many = shooting.ShootingProblem(f, data, y0)
    assert len(one.parts) == 1 and len(many.parts) > 2
    a, b = (problem.linearise(f.init(0), y0) for problem in (one, many))
    np.testing.assert_allclose(b.H, a.H, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(b.g, a.g, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(after(b, np.ones(f.n_params)), after(a, np.ones(f.n_params)), rtol=1e-9)
    assert b.loss == pytest.approx(a.loss, rel=1e-12)


def test_many_trajectories_start_with_a_part():
    data = datasets.van_der_pol(0, n_train=400, n_times=21, duration=2.0, n_held_out=0)
    model = NeuralODE(hidden=(4,), random_state=0).fit(data.train)
    names = [stage["name"] for stage in model.report_["stages"]]
    assert names[-2:] == ["whole trajectories of a part", "whole trajectories"]
    assert model.report_["stages"][-1]["windows"] == 400 > model.report_["stages"][-2]["windows"]
    assert len(model.initial_states_) == 400


def test_windows_that_cannot_be_solved_are_left_out_and_counted():
    @pn.field(state=1, theta={"k": 1.0})
    def blows_up(t, y, th):
        return th.k * y**2

    t = np.linspace(0, 0.9, 20)
    y = [1 / (1 / a - t)[:, None] for a in (0.2, 0.3, 0.5, 0.4)]
    y.append(np.full((20, 1), 5.0))  # not of this equation, which explodes from here
    with pytest.warns(FitWarning, match="1 of 5 windows could not be solved"):
        fit = pn.fit.multiple_shooting(blows_up, [t] * 5, y, [1.01], windows=(None,))
    assert fit.theta[0] == pytest.approx(1.0, abs=1e-3)
