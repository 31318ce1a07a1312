"""process_noise=True: a random force drives the states, and its strength is estimated."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import expm
from scipy.optimize import minimize

import pynode as pn
from pynode.fit import FitInterrupted, FitWarning
from pynode.training.coordinates import Coordinates
from pynode.training.driven import DrivenProblem, Strengths
from pynode.training.noise import GAUSSIAN, ROBUST
from pynode.training.windows import Data


@pn.field(state=2, theta={"mu": 0.5, "k": 0.5})
def oscillator(t, y, th):
    return [y[1], th.mu * y[1] * (1 - y[0] ** 2) - th.k * y[0]]


@pn.field(state=2, theta={"a": 0.5, "b": 1.5})
def linear(t, y, th):
    return [-th.a * y[0] + th.b * y[1], -th.b * y[0] - th.a * y[1]]


def driven(slope, seed, B=6, K=80, dt=0.15, force=0.1, noise=0.05, fine=50):
    """(t, states, readings) of van der Pol-like SDEs by Euler-Maruyama."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(-2, 2, (B, 2))
    h = dt / fine
    path = [y]
    for _ in range(K):
        for _ in range(fine):
            y = y + h * slope(y) + force * np.sqrt(h) * rng.standard_normal(y.shape)
        path.append(y)
    states = np.stack(path, axis=1)
    return dt * np.arange(K + 1), states, states + noise * rng.standard_normal(states.shape)


def van_der_pol(y):
    return np.stack([y[:, 1], y[:, 1] * (1 - y[:, 0] ** 2) - y[:, 0]], axis=1)


def turning(y):
    return y @ np.array([[-0.3, 1.0], [-1.0, -0.3]]).T


def log_likelihood(theta, reading, force, t, y):
    """ln p of the readings (T, 2) of `linear`, from their whole covariance matrix; the first state is the likeliest."""
    a, b = theta
    T, d = y.shape
    step = t[1] - t[0]
    powers = np.stack([expm(np.array([[-a, b], [-b, -a]]) * step * k) for k in range(T)])
    ways = [expm(np.array([[-a, b], [-b, -a]]) * x) for x in step * (np.arange(40) + 0.5) / 40]
    kick = sum(F @ np.diag(force) @ F.T for F in ways) * step / 40
    cov = np.zeros((T, d, T, d))
    P = np.zeros((d, d))
    for k in range(T):
        cov[k:, :, k, :] = powers[: T - k] @ P
        cov[k, :, k:, :] = cov[k:, :, k, :].transpose(2, 0, 1)
        P = powers[1] @ P @ powers[1].T + kick
    C = cov.reshape(T * d, T * d) + np.diag(np.tile(reading, T))
    A, r = powers.reshape(T * d, d), y.ravel()
    inverse = np.linalg.inv(C)
    x0 = np.linalg.solve(A.T @ inverse @ A, A.T @ inverse @ r)
    left = r - A @ x0
    return -0.5 * (left @ inverse @ left + np.linalg.slogdet(C)[1] + T * d * np.log(2 * np.pi))


@pytest.fixture(scope="module")
def turned():
    t, _, y = driven(turning, 0, B=3, K=60, force=0.2)
    return t, y, pn.NeuralODE(field=linear, process_noise=True, random_state=0, rtol=1e-9).fit(t, y)


def test_likelihood_against_the_whole_covariance_matrix(turned):
    t, y, model = turned
    reading = np.array(list(model.report_["noise"].values())) ** 2
    force = np.array(list(model.process_noise_.values())) ** 2
    exact = sum(log_likelihood(model.theta_, reading, force, t, one) for one in y)
    assert model.report_["log_likelihood"] == pytest.approx(exact, abs=0.02)


def test_against_maximum_likelihood(turned):
    """The variances allow for what the first states and the parameters use up, so they are not quite the likeliest ones."""
    t, y, model = turned

    def misfit(x):
        return -sum(log_likelihood(x[:2], np.exp(x[2:4]), np.exp(x[4:]), t, one) for one in y)

    variances = np.array([*model.report_["noise"].values(), *model.process_noise_.values()]) ** 2
    found = np.array([*model.theta_, *np.log(variances)])
    best = minimize(misfit, found, method="Nelder-Mead", options={"maxiter": 250, "xatol": 1e-3, "fatol": 1e-3})
    assert misfit(found) < best.fun + 0.5
    assert (np.abs(model.theta_ - best.x[:2]) < 0.2 * np.sqrt(np.diag(model.covariance_))).all()


@pytest.mark.parametrize("options", [{"field": oscillator}, {"hidden": (16,)}])
def test_van_der_pol_with_a_force(options):
    t, states, y = driven(van_der_pol, 1, K=120)
    past = slice(0, 81)
    with pytest.warns(FitWarning):
        plain = pn.NeuralODE(**options, structure="network", random_state=0).fit(t[past], y[:, past])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = pn.NeuralODE(**options, process_noise=True, random_state=0).fit(t[past], y[:, past])
    assert model.report_["log_evidence"] > plain.report_["log_evidence"] + 100
    for name in ("y1", "y2"):
        assert model.report_["noise"][name] == pytest.approx(0.05, rel=0.2)
        assert model.process_noise_[name] == pytest.approx(0.1, rel=0.3)
    if "field" in options:
        assert (np.abs(model.theta_ - 1) < 4 * np.sqrt(np.diag(model.covariance_))).all()
    held = []
    for i in range(len(y)):
        band = model.forecast(t[81:], interval=0.9, kind="mean")
        held.append((states[i, 81:] > band.lower[i]) & (states[i, 81:] < band.upper[i]))
        band = model.predict(t[past], trajectory=i, interval=0.9)
        inside = (states[i, past] > band.lower) & (states[i, past] < band.upper)
        assert 0.75 < inside.mean() <= 1
    assert 0.7 < np.mean(held) < 0.99


def test_of_several_starts_the_likeliest_is_kept():
    t, _, y = driven(turning, 0, B=3, K=40, force=0.2)
    one = pn.NeuralODE(field=linear, process_noise=True, random_state=0).fit(t, y)
    best = pn.NeuralODE(field=linear, process_noise=True, n_restarts=3, random_state=0).fit(t, y)
    assert best.score_of_start_ == pytest.approx(one.score_of_start_, abs=0.01)
    np.testing.assert_allclose(best.theta_, one.theta_, rtol=1e-3)
    assert "the best of 3 starts" in best.report_["message"] and best.process_noise_.keys() == {"y1", "y2"}
    net = {"process_noise": True, "hidden": (6,), "windows": (5,), "max_iter": 15}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        each = [pn.NeuralODE(**net, random_state=k).fit(t, y) for k in (0, 1)]
        both = pn.NeuralODE(**net, random_state=0, n_restarts=2).fit(t, y)
    scores = [model.score_of_start_[1] for model in each]
    assert both.score_of_start_[1] == max(scores) > min(scores)
    np.testing.assert_array_equal(both.theta_, each[int(np.argmax(scores))].theta_)


def pendulum(y):
    return np.stack([y[:, 1], -2 * np.sin(y[:, 0]) - 0.3 * y[:, 1]], axis=1)


@pytest.fixture(scope="module")
def members():
    """(times, true states, readings, an ensemble whose members differ)."""
    t, states, y = driven(pendulum, 5, K=60, force=0.15)
    options = {"process_noise": True, "hidden": (4,), "windows": (10,), "n_estimators": 3, "average": "median"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return t, states, y, pn.NeuralODE(**options, random_state=0).fit(t[:46], y[:, :46])


def test_an_ensemble_is_the_median_of_its_members(members):
    t, states, y, many = members
    each = many.estimators_
    assert len(each) == 3 and all(member.process_noise_ is not None for member in each)
    best = max(each, key=lambda member: member.report_["log_evidence"])
    assert many.process_noise_ == best.process_noise_ and "highest evidence" in many.summary().notes[0]
    found, std = many.predict(t, trajectory=1, return_std=True)
    pairs = [member.predict(t, trajectory=1, return_std=True) for member in each]
    assert np.abs(pairs[0][0] - pairs[1][0]).max() > 1e-4
    np.testing.assert_array_equal(found, np.median([mean for mean, _ in pairs], axis=0))
    assert (std[1:] >= np.median([own for _, own in pairs], axis=0)[1:] * (1 - 1e-12)).all()
    assert np.sqrt(np.mean((found[:46] - states[1, :46]) ** 2)) < 0.05
    band = many.forecast(t[46:], interval=0.9, kind="mean")
    held = [(x[46:] > low) & (x[46:] < high) for x, low, high in zip(states, band.lower, band.upper, strict=True)]
    assert 0.6 < np.mean(held) <= 1
    start = many.predict(t[:9], [1.0, 0.0], return_std=True)
    single = [member.predict(t[:9], [1.0, 0.0], return_std=True) for member in each]
    np.testing.assert_array_equal(start[0], np.median([mean for mean, _ in single], axis=0))
    path = many.simulate(t=t[:30], warmup=(t[:20], y[0, :20]))
    np.testing.assert_array_equal(
        path, np.median([member.simulate(t=t[:30], warmup=(t[:20], y[0, :20])) for member in each], axis=0)
    )


def test_files_of_an_ensemble(members, tmp_path):
    t, _, _, many = members
    many.save(tmp_path / "m.pynode")
    again = pn.load(tmp_path / "m.pynode")
    np.testing.assert_array_equal(
        again.predict(t, trajectory=2, return_std=True), many.predict(t, trajectory=2, return_std=True)
    )
    many.save(tmp_path / "m.pynode", data=False)
    bare = pn.load(tmp_path / "m.pynode")
    np.testing.assert_array_equal(
        bare.predict(t, [[1.0, 0.0]] * 2, return_std=True), many.predict(t, [[1.0, 0.0]] * 2, return_std=True)
    )


def test_members_of_forced_systems_find_their_unobserved_states_and_stray_ones_are_left_out(monkeypatch):
    from pynode.models.trajectories import far_field

    rng = np.random.default_rng(3)
    t = 0.2 * np.arange(90)
    u = np.repeat(rng.standard_normal(30), 3)[:, None]
    x = np.zeros((90, 2))
    for k in range(89):
        slope = np.array([x[k, 1], u[k, 0] - x[k, 0] - 0.5 * x[k, 1]])
        x[k + 1] = x[k] + 0.2 * slope + 0.02 * rng.standard_normal(2)
    y = x[:, :1] + 0.02 * rng.standard_normal((90, 1))
    fitted = []

    def strays(model):
        fitted.append(model)
        return (0,) if len(fitted) == 2 else ()

    monkeypatch.setattr(far_field, "strays", strays)
    options = {
        "hidden": (3,),
        "augment": 1,
        "input_kind": "previous",
        "process_noise": True,
        "n_estimators": 3,
        "max_iter": 8,
    }
    with pytest.warns(FitWarning) as said:
        many = pn.NeuralODE(**options, windows=(10,), random_state=0).fit(t, y, u=u)
    assert any("1 of 3 members" in str(x.message) for x in said)
    assert len(many.estimators_) == 2 and any("1 of 3 members" in words for words in many.report_["warnings"])
    warm = (t[:30], y[:30])
    path, std = many.simulate((t, u), warm, return_std=True)
    each = [member.simulate((t, u), warm) for member in many.estimators_]
    np.testing.assert_array_equal(path, np.mean(each, axis=0))
    assert std.shape == path.shape and (std >= 0).all()
    assert np.sqrt(np.mean((path - x[:, :1]) ** 2)) < 0.5 * x[:, 0].std()


@pytest.mark.parametrize("noise", ["huber", "student"])
def test_outliers_are_borne(noise):
    t, states, y = driven(van_der_pol, 0, B=4)
    rng = np.random.default_rng(50)
    outliers = rng.random(y.shape) < 0.1
    y = y + outliers * rng.choice([-1, 1], y.shape) * rng.uniform(0.5, 2, y.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        plain, robust = (
            pn.NeuralODE(field=oscillator, process_noise=True, noise=kind, random_state=0).fit(t, y)
            for kind in ("gaussian", noise)
        )

    def miss(model):
        return np.sqrt(np.mean([(model.predict(t, trajectory=i) - states[i]) ** 2 for i in range(4)]))

    assert miss(robust) < 0.75 * miss(plain)
    assert robust.report_["log_evidence"] > plain.report_["log_evidence"] + 100
    assert max(robust.report_["noise"].values()) < 0.7 * min(plain.report_["noise"].values())
    assert (np.abs(robust.theta_ - 1) < 4 * np.sqrt(np.diag(robust.covariance_))).all()
    if noise == "student":
        assert miss(robust) < 0.05
        for name in ("y1", "y2"):
            assert 0.05 < robust.process_noise_[name] < 0.15


def test_variances_and_weights_settle_together():
    """Data on which over-relaxed variances went to and fro for 350 iterations."""
    rng = np.random.default_rng(4)
    y = rng.uniform(0.8, 1.5, (6, 2))
    path = [y]
    for _ in range(120):
        for _ in range(100):
            slope = np.stack([y[:, 0] * (1 - y[:, 1]), y[:, 1] * (y[:, 0] - 1)], axis=1)
            y = y + 0.002 * slope + np.sqrt(0.002) * 0.05 * rng.standard_normal(y.shape)
        path.append(y)
    readings = np.stack(path, axis=1)
    readings = readings + 0.05 * rng.standard_normal(readings.shape)
    gross = rng.choice((-1.0, 1.0), readings.shape) * rng.uniform(10, 40, readings.shape)
    readings += 0.05 * gross * (rng.random(readings.shape) < 0.1)
    model = pn.NeuralODE(process_noise=True, noise="student", hidden=(16,), random_state=0)
    model.fit(0.2 * np.arange(81), readings[:, :81], callback=lambda step: step.number > 200)
    assert model.report_["status"] == "finished"
    assert model.report_["stages"][-1]["iterations"] < 60


def test_gaussian_noise_is_the_same_to_those_who_bear_outliers():
    t, _, y = driven(van_der_pol, 1, B=4)
    fits = {kind: pn.NeuralODE(field=oscillator, process_noise=True, noise=kind).fit(t, y) for kind in ROBUST}
    for name in ("y1", "y2"):
        for kind in ("huber", "student"):
            assert fits[kind].report_["noise"][name] == pytest.approx(fits["gaussian"].report_["noise"][name], rel=0.2)
            assert fits[kind].process_noise_[name] == pytest.approx(fits["gaussian"].process_noise_[name], rel=0.35)
            assert fits[kind].report_["log_evidence"] < fits["gaussian"].report_["log_evidence"]


def test_without_a_force_the_likelihood_is_that_of_students_distribution():
    t, _, _ = driven(turning, 2, B=3, K=60, force=0.0, noise=0.0)
    states = pn.solve(linear, [[1.0, 0.5], [-1.5, 1.0], [0.5, -1.0]], t, [0.3, 1.0]).y
    y = states + 0.05 * np.random.default_rng(0).standard_t(4, states.shape)
    model = pn.NeuralODE(field=linear, process_noise=True, noise="student", scale=False, random_state=0).fit(t, y)
    assert max(model.process_noise_.values()) < 0.02
    scale = np.array(list(model.report_["noise"].values())) / np.sqrt(GAUSSIAN["student"])
    left = [y[i] - model.predict(t, trajectory=i) for i in range(3)]
    expected = stats.t.logpdf(np.concatenate(left) / scale, 4).sum() - len(t) * 3 * np.log(scale).sum()
    assert model.report_["log_likelihood"] == pytest.approx(expected, abs=4)
    assert scale == pytest.approx(0.05, rel=0.25)


@pytest.mark.parametrize("noise", ["huber", "student"])
def test_weights_of_readings_are_those_that_raise_the_bound(noise):
    t, _, y = driven(turning, 0, B=2, K=30, force=0.2)
    y[0, 10] += 0.6
    data = Data([t, t], list(y))
    strengths = Strengths(np.full(2, 0.05**2), np.full(2, 0.2**2))
    trivial = Coordinates(linear.spec, np.array([0.3, 1.0]))
    options = {"noise": noise, "rtol": 1e-8, "atol": 1e-8, "method": "dopri5"}
    problem = DrivenProblem(linear, data, np.concatenate(y), strengths, np.full(2, 1e-300), trivial, **options)
    state = SimpleNamespace(theta=np.array([0.3, 1.0]), free=problem.start.copy())
    for _ in range(100):
        here = problem.linearise(state.theta, state.free).free
        state.free = state.free - here.eliminated()[-1]
        problem.weigh(state.free, np.einsum("kii->ki", here.covariances()[0]))
    best, given = problem.log_likelihood(state), problem.given
    assert given[10].max() < 0.5 < np.median(given)
    for row in (10, 20, 45):
        for factor in (0.8, 1.25):
            problem.given = given.copy()
            problem.given[row] *= factor
            assert problem.log_likelihood(state) < best


def test_without_a_force_none_is_found():
    t, _, y = driven(van_der_pol, 2, force=0.0)
    plain = pn.NeuralODE(field=oscillator, random_state=0).fit(t, y)
    model = pn.NeuralODE(field=oscillator, process_noise=True, random_state=0).fit(t, y)
    assert max(model.process_noise_.values()) < 0.02
    assert (np.abs(model.theta_ - plain.theta_) < 0.3 * np.sqrt(np.diag(plain.covariance_))).all()
    assert model.report_["log_evidence"] < plain.report_["log_evidence"]


def test_what_is_missing_and_ragged_and_forced():
    @pn.field(state=1, inputs=1, theta={"k": 0.5})
    def tank(t, y, th, u):
        return [u[0] - th.k * y[0]]

    rng = np.random.default_rng(0)
    times = []
    inputs = []
    readings = []
    for n in (90, 60, 3, 2):
        t = np.cumsum(rng.uniform(0.05, 0.2, n))
        u = np.sin(t)[:, None]
        x = [1.0]
        for k in range(n - 1):
            h = t[k + 1] - t[k]
            x.append(x[-1] + h * (u[k, 0] - x[-1]) + 0.1 * np.sqrt(h) * rng.standard_normal())
        y = np.array(x)[:, None] + 0.02 * rng.standard_normal((n, 1))
        y[1::7] = np.nan
        times.append(t)
        inputs.append(u)
        readings.append(y)
    model = pn.NeuralODE(field=tank, process_noise=True, random_state=0).fit(times, readings, u=inputs)
    assert model.theta_[0] == pytest.approx(1.0, abs=4 * np.sqrt(model.covariance_[0, 0]))
    assert model.process_noise_["y1"] == pytest.approx(0.1, rel=0.4)
    mean, std = model.predict(times[0], trajectory=0, return_std=True)
    seen = ~np.isnan(readings[0][:, 0])
    assert np.sqrt(np.mean((mean - readings[0])[seen] ** 2)) < 0.03
    assert std[~seen].mean() > std[seen].mean()
    assert np.isfinite(model.predict(times[2], trajectory=2)).all()
    np.testing.assert_array_equal(model.predict(times[0], u=(times[0], inputs[0])), model.predict(times[0]))
    with pytest.raises(ValueError, match=r"u differs from the inputs of trajectory 0 before its readings end.*give y0="):
        model.predict(times[0], u=(times[0], inputs[0] + 0.1))
    later = np.r_[times[0][-1], times[0][-1] + 1.0]
    others = np.r_[times[0], later[1:]], np.r_[inputs[0], [[5.0]]]
    assert np.isfinite(model.predict(later, u=others)).all()


def test_paths_go_on_without_a_jump_where_the_data_end(turned):
    t, _, model = turned
    at = np.array([t[-1] - 1e-9, t[-1], t[-1] + 1e-9, t[-1] + 1.0])
    mean, std = model.predict(at, trajectory=1, return_std=True)
    np.testing.assert_allclose(mean[0], mean[2], atol=1e-6)
    np.testing.assert_allclose(std[0], std[2], rtol=1e-3)
    assert (std[3] > std[2]).all()
    exact, spread = model.predict([0.0, 1e-9, 0.1], [1.0, 0.0], return_std=True)
    np.testing.assert_allclose(spread[0], 0)
    np.testing.assert_allclose(spread[2], np.sqrt(0.1) * np.array(list(model.process_noise_.values())), rtol=0.1)
    backward = model.predict([0.1, 0.0], exact[2], return_std=True)
    np.testing.assert_allclose(backward[0][1], exact[0], atol=1e-6)
    assert (backward[1][1] > 0).all()


def test_files(turned, tmp_path):
    t, _, model = turned
    model.save(tmp_path / "m.pynode")
    again = pn.load(tmp_path / "m.pynode")
    for kind in ("mean", "prediction"):
        for x, z in zip(
            model.predict(t, trajectory=2, interval=0.8, kind=kind),
            again.predict(t, trajectory=2, interval=0.8, kind=kind),
            strict=True,
        ):
            np.testing.assert_array_equal(x, z)
    assert again.process_noise_ == model.process_noise_
    model.save(tmp_path / "m.pynode", data=False)
    bare = pn.load(tmp_path / "m.pynode")
    assert bare.process_noise_ == model.process_noise_
    np.testing.assert_array_equal(
        bare.predict(t, [[1.0, 0.0]] * 2, return_std=True)[1], model.predict(t, [[1.0, 0.0]] * 2, return_std=True)[1]
    )


def test_interrupted_and_resumed(tmp_path):
    t, _, y = driven(van_der_pol, 3, B=3, K=40)
    whole = pn.NeuralODE(field=oscillator, process_noise=True, random_state=0).fit(t, y)
    last = [s["name"] for s in whole.report_["stages"]].index("random force")
    before = int((whole.history_["stage"] < last).sum())

    def interrupt(step):
        if step.number == before + 3:
            raise KeyboardInterrupt

    model = pn.NeuralODE(field=oscillator, process_noise=True, random_state=0)
    path = tmp_path / "checkpoint"
    with pytest.raises(FitInterrupted):
        model.fit(t, y, callback=interrupt, checkpoint=pn.fit.Checkpoint(path, every=0))
    model = pn.NeuralODE(field=oscillator, process_noise=True, random_state=0).fit(t, y, checkpoint=path)
    np.testing.assert_array_equal(model.theta_, whole.theta_)
    assert model.process_noise_ == whole.process_noise_


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": "proportional"}, "noise='proportional'"),
        ({"early_stopping": True}, "early_stopping"),
        ({"optimizer": "adam"}, "optimizer='adam'"),
        ({"batch_size": 8}, "batch_size"),
        ({"structure": "equation"}, "process_noise=True"),
        ({"hidden": (400, 400)}, "too large"),
        ({"initial": [0.0, 0.0]}, "initial"),
        ({"hidden": (128, 16)}, "fewer hidden units"),
    ],
)
def test_refused(options, words):
    t, _, y = driven(van_der_pol, 0, B=2 if "hidden" not in options else 60, K=100, fine=1)
    with pytest.raises(ValueError, match=words):
        pn.NeuralODE(process_noise=True, random_state=0, **options).fit(t, y)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
def test_of_replicates_the_mean_counts_as_two():
    t = np.linspace(0.0, 5.0, 40)
    y = np.exp(-t) + 0.05 * np.random.default_rng(0).standard_normal((2, 40))
    twice = np.repeat(t, np.where(np.arange(40) == 7, 2, 1))
    both = np.insert(y[0], 8, y[1, 7])
    mean = np.where(np.arange(40) == 7, y.mean(axis=0), y[0])
    weight = np.where(np.arange(40) == 7, 2.0, 1.0)[:, None]
    model = pn.NeuralODE(process_noise=True, hidden=(2,), max_iter=5, random_state=0).fit(twice, both)
    same = pn.NeuralODE(process_noise=True, hidden=(2,), max_iter=5, random_state=0).fit(t, mean, weight=weight)
    np.testing.assert_allclose(model.predict(t, trajectory=0), same.predict(t, trajectory=0), rtol=0, atol=1e-4)
