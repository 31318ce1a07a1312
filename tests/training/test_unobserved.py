"""What nobody measured: augmented states, NaN columns of own fields, single entries; weights, noise, early stopping,
ensembles, smoothing; what odd arrays and bad data do."""

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.fit import FitWarning
from pynode.training.smoothing import smooth, with_derivatives, with_implied
from pynode.training.windows import as_weights

T = np.linspace(0, 6, 40)
QUICK = {"hidden": (4,), "max_iter": 4, "random_state": 0}


def circles(n=3, sigma=0.02, seed=0):
    phase = np.linspace(0, 1.2, n)[:, None]
    clean = np.stack([np.cos(T + phase), -np.sin(T + phase)], axis=2)
    return clean, clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)


@pn.field(state=3, theta={"k": pn.positive(0.6), "tau": pn.positive(1.5)})
def sensor(t, y, th):
    """An oscillator seen through a lag: only the third state is measured."""
    return [y[1], -th.k * y[0], (y[0] - y[2]) / th.tau]


# ---- States never observed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [1, 2, 3])
def test_augmented_models_predict_what_they_should(augment):
    clean, y = circles()
    model = NeuralODE(hidden=(6,), augment=augment, random_state=0).fit(T, y[:, :, :1])
    assert model.field_.d == 1 + augment == model.initial_states_.shape[1]
    assert model.report_["rmse"]["y1"] < 0.025
    full = model.predict(T, model.initial_states_, unobserved=True)
    assert full.shape == (3, 40, 1 + augment)
    np.testing.assert_array_equal(model.predict(T, model.initial_states_), full[:, :, :1])
    np.testing.assert_allclose(full[1, :, :1], model.predict(T, trajectory=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(full[:, :, 0], clean[:, :, 0], atol=0.1)
    mean, std = model.predict(T, trajectory=2, return_std=True, unobserved=True)
    assert mean.shape == std.shape == (40, 1 + augment) and (std > 0).all()


def test_initial_states_of_augmented_models():
    """Estimated from a stretch, continued: within a few times the noise. Few rows leave more uncertain, never fail."""
    clean, y = circles(4)
    model = NeuralODE(hidden=(6,), augment=1, random_state=0).fit(T, y[:3, :, :1])
    for rows, limit in ((20, 0.06), (8, 0.15)):
        states = model.initial_states(T[:rows], y[3, :rows, :1])
        assert np.abs(model.predict(T, states)[0, :, 0] - clean[3, :, 0]).max() < limit
    for few in (1, 2, 3):
        assert np.isfinite(model.initial_states(T[:few], y[3, :few, :1])).all()
    alone = np.full((40, 1), np.nan)
    alone[7] = y[3, 7, 0]
    assert np.isfinite(model.initial_states(T, alone)).all()
    ragged = model.initial_states([T[:20], T[5:30]], [y[3, :20, :1], y[3, 5:30, :1]])
    np.testing.assert_allclose(model.predict(T[5:], ragged[1])[:, 0], clean[3, 5:, 0], atol=0.06)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # misfit, on purpose
def test_estimated_states_are_a_least_squares_solution():
    """A known linear field: against numpy.linalg.lstsq on its matrix exponentials."""
    from scipy.linalg import expm

    A = np.array([[0.0, 1.0], [-1.3, -0.2]])

    @pn.field(state=2, theta={"A": pn.frozen(A)})
    def linear(t, y, th):
        return th.A @ y

    _, y = circles(1)
    model = NeuralODE(field=linear, random_state=0).fit(T, y)
    model.rtol = model.atol = 1e-10
    y = y.copy()
    y[0, ::3, 0] = y[0, 1::2, 1] = np.nan
    rows = np.stack([expm(A * t) for t in T])
    seen = ~np.isnan(y[0])
    sigma = np.array([model.report_["noise"][name] for name in model.names_])
    weight = np.broadcast_to(1 / sigma, seen.shape)[seen]
    best, *_ = np.linalg.lstsq(rows[seen] * weight[:, None], y[0][seen] * weight, rcond=None)
    np.testing.assert_allclose(model.initial_states(T, y)[0], best, atol=2e-5)


@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
@pytest.mark.parametrize("windows", [None, (None,)])
def test_two_of_three_states_hidden(optimizer, windows):
    """The slope of what is seen tells the position, and only the slope of that the velocity."""
    true = np.array([1.0, 0.5])
    y = pn.solve(sensor, [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], T, true, rtol=1e-9, atol=1e-9).y
    noisy = y + 0.01 * np.random.default_rng(0).standard_normal(y.shape)
    noisy[:, :, :2] = np.nan
    options = {"optimizer": optimizer, "windows": windows, "random_state": 0}
    model = NeuralODE(field=sensor, **options).fit(T, noisy, names=["x", "v", "seen"])
    np.testing.assert_allclose(model.theta_, true, rtol=0.03)
    np.testing.assert_allclose(model.predict(T, trajectory=1), y[1], atol=0.05)
    if optimizer == "levenberg-marquardt":
        assert (np.abs(model.theta_ - true) < 4 * np.sqrt(np.diag(model.covariance_))).all()
        assert model.report_["noise"]["seen"] == pytest.approx(0.01, rel=0.25)
    assert np.isnan(model.report_["noise"]["x"]) and np.isnan(model.report_["rmse"]["v"])
    assert model.score(T, noisy) > 0.99


def test_one_entry_of_a_state_and_whole_rows():
    """Next to a full trajectory, one entry of the second state, rows without any, and one observed row."""
    clean, y = circles(4)
    y[1, :, 1] = np.where(np.arange(40) == 11, y[1, :, 1], np.nan)
    y[2, 10:30] = np.nan
    y[3, 1:] = np.nan
    model = NeuralODE(hidden=(8,), random_state=0).fit(T, y)
    for i in range(3):
        np.testing.assert_allclose(model.predict(T, trajectory=i), clean[i], atol=0.1)
    assert np.isfinite(model.predict(T, trajectory=3)).all()
    assert model.report_["n_observed"] == 80 + 41 + 40 + 2


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs", "adam"])
def test_trajectories_of_one_row_are_kept(optimizer):
    _, y = circles(3)
    t, Y = [T, T[:1], T, T[:2]], [y[0], y[1, :1], y[2], y[1, :2]]
    model = NeuralODE(**QUICK | {"optimizer": optimizer, "max_iter": 20}).fit(t, Y)
    assert model.initial_states_.shape == (4, 2) and len(model.data_) == 4
    np.testing.assert_allclose(model.initial_states_[1], y[1, 0], atol=0.1)
    assert model.predict([0.0, 1.0], trajectory=1).shape == (2, 2)


# ---- Weights, noise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
def test_weight_zero_is_nan(optimizer):
    """The fit of an own field (no smoothing of the start matters at the optimum) is that without the entries."""

    @pn.field(state=2, theta={"k": 0.7, "c": 0.1})
    def spring(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    _, y = circles()
    out = np.random.default_rng(1).random(y.shape) < 0.2
    options = {"field": spring, "optimizer": optimizer, "random_state": 0}
    dropped = NeuralODE(**options).fit(T, np.where(out, np.nan, y))
    weighted = NeuralODE(**options).fit(T, y, weight=np.where(out, 0.0, 1.0))
    np.testing.assert_allclose(weighted.theta_, dropped.theta_, atol=5e-4)  # standard errors are 2e-3


def test_weights_are_relative():
    _, y = circles()
    one, seven = (NeuralODE(hidden=(4,), random_state=0).fit(T, y, weight=w) for w in (1.0, 7.0))
    np.testing.assert_allclose(one.predict(T, trajectory=0), seven.predict(T, trajectory=0), atol=1e-3)


def test_forms_of_weights():
    y = [np.ones((4, 2)), np.ones((3, 2))]
    assert as_weights(None, y) is None
    for weight, wanted in (
        (2.0, [[2, 2], [2, 2]]),
        ([1.0, 3.0], [[1, 3], [1, 3]]),
        ([np.arange(1.0, 5), np.arange(1.0, 4)], [[1, 1], [1, 1]]),
        ([[[1.0, 2.0]] * 4, [[3.0, 4.0]] * 3], [[1, 2], [3, 4]]),
    ):
        got = as_weights(weight, y)
        assert [w.shape for w in got] == [(4, 2), (3, 2)]
        np.testing.assert_array_equal([w[0] for w in got], wanted)


@pytest.mark.parametrize(
    "weight, error, message",
    [
        (-1.0, ValueError, "not negative"),
        (np.nan, ValueError, "finite"),
        (np.inf, ValueError, "finite"),
        (0.0, ValueError, "weight is 0 wherever"),
        (np.ones(7), ValueError, r"weight of trajectory 0 has shape \(7,\)"),
        (np.ones((2, 40, 2)), ValueError, "weight is for 2 trajectories"),
        ([np.ones(40)] * 2 + [np.ones(3)], ValueError, "weight of trajectory 2"),
        ("heavy", TypeError, "weight must hold real numbers"),
        (np.ones((3, 40, 2)) * 1j, TypeError, "weight"),
    ],
)
@pytest.mark.parametrize("fit", [lambda *a, **k: NeuralODE(**QUICK).fit(*a, **k), None])
def test_bad_weights(weight, error, message, fit):
    fit = fit or (lambda *a, **k: pn.fit.multiple_shooting(pn.mlp(2, (3,)), *a, **k, max_iter=2))
    with pytest.raises(error, match=message):
        fit(T, circles()[1], weight=weight)


@pytest.mark.filterwarnings("ignore:y[12]. .*far from the fit:pynode.fit.FitWarning")
@pytest.mark.filterwarnings("ignore:the residuals of y2 are 1.8 times:pynode.fit.FitWarning")  # least squares
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
@pytest.mark.parametrize("noise", ["huber", "student"])
def test_outliers_do_not_count(noise, optimizer):
    """5 % of the entries off by 50 standard deviations. Median over three draws, against plain least squares."""

    @pn.field(state=2, theta={"k": 0.7, "c": 0.1})
    def spring(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    errors = {"gaussian": [], noise: []}
    for seed in range(3):
        _, y = circles(seed=seed)
        bad = np.random.default_rng(seed).random(y.shape) < 0.05
        for kind, found in errors.items():
            model = NeuralODE(field=spring, optimizer=optimizer, noise=kind, random_state=0).fit(T, y + bad * 1.0)
            found.append(np.abs(model.theta_ - [1.0, 0.0]).max())
    assert np.median(errors[noise]) < 0.02 and np.median(errors[noise]) < 0.5 * np.median(errors["gaussian"]), errors


# ---- Early stopping, ensembles -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs", "adam"])
def test_early_stopping_ends_with_the_best_for_the_held_out(optimizer):
    """The parameters kept are those of the smallest validation of the last stage, not the last ones."""
    _, y = circles(6, sigma=0.15)
    thetas = []
    model = NeuralODE(
        hidden=(16,), optimizer=optimizer, early_stopping=True, patience=4, windows=(5,), random_state=0, max_iter=60
    ).fit(T, y, callback=lambda it: thetas.append(it.theta))
    stage, validation = model.history_["stage"], model.history_["validation"]
    last = np.flatnonzero(stage == stage[-1])
    best = last[np.argmin(validation[last])]
    np.testing.assert_array_equal(model.theta_, thetas[best][: len(model.theta_)])
    if model.report_["stages"][-1]["status"] == "early":
        assert len(thetas) - 1 - best == 4


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_held_out_trajectories_that_miss_a_state():
    """Whichever one is kept aside, its error can be told."""
    _, y = circles(4)
    y[1:, :, 1] = np.nan
    for optimizer in ("levenberg-marquardt", "lbfgs"):
        for seed in range(4):
            model = NeuralODE(**QUICK | {"optimizer": optimizer, "random_state": seed}, early_stopping=True).fit(T, y)
            stage, validation = model.history_["stage"], model.history_["validation"]
            on_windows = np.array([s["windows"] > 0 for s in model.report_["stages"]])
            assert np.isfinite(validation[on_windows[stage]]).all()


@pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")
def test_members_of_an_ensemble_keep_the_same_trajectories_aside():
    """So that trajectory=i means one trajectory."""
    clean, y = circles(5)
    model = NeuralODE(hidden=(4,), n_estimators=3, early_stopping=True, random_state=0).fit(T, y)
    for member in model.estimators_:
        for a, b in zip(member.data_.y, model.data_.y, strict=True):
            np.testing.assert_array_equal(a, b)
    for i, kept in enumerate(model.data_.ids):
        np.testing.assert_allclose(model.predict(T, trajectory=i), clean[kept], atol=0.1)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_bands_of_ensembles_of_gradient_descent(optimizer):
    _, y = circles()
    model = NeuralODE(**QUICK | {"max_iter": 20}, optimizer=optimizer, n_estimators=3).fit(T, y)
    means = [m.predict(T, [1.0, 0.0]) for m in model.estimators_]
    mean, std = model.predict(T, [1.0, 0.0], return_std=True)
    np.testing.assert_allclose(mean, np.mean(means, axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, np.std(means, axis=0, ddof=1), rtol=1e-9, atol=1e-15)
    ragged, spread = model.predict([T, T[:4]], np.eye(2), return_std=True)
    assert [x.shape for x in ragged] == [x.shape for x in spread] == [(40, 2), (4, 2)]
    with pytest.raises(ValueError, match="return_std needs an ensemble"):
        model.estimators_[0].predict(T, [1.0, 0.0], return_std=True)


def test_own_fields_travel_to_other_processes():
    pytest.importorskip("joblib")
    y = pn.solve(sensor, [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], T, [1.0, 0.5]).y
    here, there = (NeuralODE(field=sensor, n_estimators=2, n_jobs=n, random_state=0).fit(T, y) for n in (None, 2))
    for a, b in zip(here.estimators_, there.estimators_, strict=True):
        np.testing.assert_array_equal(a.theta_, b.theta_)
    with pytest.raises(ValueError, match="callback"):
        NeuralODE(n_estimators=2, n_jobs=2).fit(T, y, callback=print)
    with pytest.raises(ValueError, match="n_jobs=0"):
        NeuralODE(n_estimators=2, n_jobs=0).fit(T, y)


# ---- Smoothing -----------------------------------------------------------------------------------------------------


def test_series_smoothed_together_and_one_by_one(monkeypatch):
    """Batches of series are only a way to be quick: with the same number of neighbours the results are the same."""
    from pynode.training import smoothing

    monkeypatch.setattr(smoothing, "NEIGHBOURS", (9,))
    rng = np.random.default_rng(0)
    lengths = [1, 2, 3, 5, 9, 9, 30, 57, 60]
    t = [np.sort(rng.uniform(0, 5, n)) for n in lengths]
    y = [rng.standard_normal((n, 2)) for n in lengths]
    for x in y[3:]:
        x[rng.random(x.shape) < 0.2] = np.nan
    together = smooth(t, y)
    for i in range(len(t)):
        alone = smooth(t[i : i + 1], y[i : i + 1])
        np.testing.assert_allclose(together.y[i], alone.y[0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(together.slope[i], alone.slope[0], rtol=1e-7, atol=1e-7)
    monkeypatch.setattr(smoothing, "ROWS", 20)
    parts = smooth(t, y)
    for a, b in zip(together.y + together.slope, parts.y + parts.slope, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_guesses_for_states_never_seen():
    """Derivatives of a sine are cosines, of unit variance; implied states of a known field are the true ones."""
    t = [np.linspace(0, 12, 200)] * 2
    y = [np.sin(x + p)[:, None] for p, x in zip((0.0, 1.0), t, strict=True)]
    guess = with_derivatives(t, smooth(t, y), 2)
    at = np.concatenate([np.cos(x + p) for p, x in zip((0.0, 1.0), t, strict=True)])
    first, second = np.concatenate(guess.y)[:, 1:].T
    assert abs(np.corrcoef(first, at)[0, 1]) > 0.999 and np.std(first) == pytest.approx(1, rel=0.02)
    assert abs(np.corrcoef(second, np.concatenate(y)[:, 0])[0, 1]) > 0.99

    @pn.field(state=2)
    def oscillator(t, y):
        return [y[1] ** 3 + y[1], -y[0]]

    exact = pn.solve(oscillator, [1.0, 0.0], t[0], rtol=1e-9, atol=1e-9).y
    half = exact.copy()
    half[:, 1] = np.nan
    found = with_implied(oscillator, np.zeros(0), t[:1], smooth(t[:1], [half]), None)
    np.testing.assert_allclose(found.y[0], exact, atol=0.02)


# ---- Odd arrays, bad data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        np.asfortranarray,
        lambda x: x.astype(">f8"),
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x.tolist(),
        lambda x: x.astype(np.longdouble),
    ],
    ids=["Fortran", "byte-swapped", "strided", "list", "long double"],
)
def test_odd_arrays_give_the_same_bits(odd):
    _, y = circles()
    reference = NeuralODE(**QUICK).fit(T, y)
    np.testing.assert_array_equal(NeuralODE(**QUICK).fit(odd(T), odd(y)).theta_, reference.theta_)
    np.testing.assert_array_equal(reference.predict(odd(T), odd(np.array([1.0, 0.0]))), reference.predict(T, [1.0, 0.0]))


def test_integers_and_read_only_arrays():
    Y = np.round(100 * circles()[1]).astype(np.int16)
    fixed = Y.astype(float)
    fixed.flags.writeable = False
    a, b = NeuralODE(**QUICK).fit(np.arange(40), Y), NeuralODE(**QUICK).fit(np.arange(40.0), fixed)
    np.testing.assert_array_equal(a.theta_, b.theta_)


@pytest.mark.parametrize(
    "t, Y, error, message",
    [
        ([], [], ValueError, "empty|no trajectories"),
        (np.zeros(0), np.zeros((0, 2)), ValueError, "the trajectory is empty"),
        (T, np.zeros((0, 40, 2)), ValueError, "no trajectories"),
        (T, np.zeros((40, 0)), ValueError, "Y has shape"),
        (T[::-1], circles()[1], ValueError, "t must not fall"),
        (T * np.nan, circles()[1], ValueError, "t must be finite"),
        (T, np.full((40, 1), np.inf), ValueError, "infinite"),
        (T, circles()[1] * 1j, TypeError, "Y must hold real numbers"),
        (T, [["a", "b"]] * 40, TypeError, "Y must hold real numbers"),
        (T, 1.0, ValueError, "Y must have shape"),
        ([T, T], circles()[1], ValueError, "2 trajectories, Y has 3"),
        (T[:5], circles()[1], ValueError, "t has shape"),
        (T, np.full((40, 2), np.nan), ValueError, "nothing is observed"),
        (T[:1], [[1.0, 2.0]], ValueError, "nothing to learn"),
    ],
)
def test_bad_data(t, Y, error, message):
    with pytest.raises(error, match=message):
        NeuralODE(**QUICK).fit(t, Y)


def test_names_that_clash():
    for names in (["x", "x"], ["x"], ["x", "v", "z"]):
        with pytest.raises(ValueError, match="names must be 2 different names"):
            NeuralODE(**QUICK).fit(T, circles()[1], names=names)


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e12, 1e150])
def test_units_far_from_one(scale):
    _, y = circles()
    one, other = NeuralODE(**QUICK).fit(T, y), NeuralODE(**QUICK).fit(T * scale, y)
    np.testing.assert_allclose(other.predict(T * scale, trajectory=1), one.predict(T, trajectory=1), atol=1e-3)
    other = NeuralODE(**QUICK).fit(T, y * scale)
    np.testing.assert_allclose(other.predict(T, trajectory=1) / scale, one.predict(T, trajectory=1), atol=1e-3)


def test_scores():
    _, y = circles()
    model = NeuralODE(hidden=(8,), random_state=0).fit(T, y)
    predicted = model.predict(T, y[:, 0])
    rest, got = y[:, 1:].reshape(-1, 2), predicted[:, 1:].reshape(-1, 2)
    r2 = 1 - ((rest - got) ** 2).sum(axis=0) / ((rest - rest.mean(axis=0)) ** 2).sum(axis=0)
    assert model.score(T, y) == pytest.approx(r2.mean(), rel=1e-12)
    assert model.score([T, T[:1]], [y[0], y[1, :1]]) == pytest.approx(model.score(T, y[0]))
    with pytest.raises(ValueError, match="nothing to score"):
        model.score(T[:1], y[0, :1])
    with pytest.warns(FitWarning, match="nothing changes"):
        still = NeuralODE(**QUICK).fit(T, np.ones((40, 1)))
    assert still.score(T, np.ones((40, 1))) in (0.0, 1.0)  # as in scikit-learn, where nothing varies


@pytest.mark.parametrize("windows", [(), (0,), (2.5,), "ab", 3, (-1, None)])
def test_windows_that_make_no_sense(windows):
    _, y = circles()
    for call in (
        lambda: NeuralODE(**QUICK, windows=windows).fit(T, y),
        lambda: pn.fit.multiple_shooting(pn.mlp(2, (3,)), T, y, windows=windows),
    ):
        with pytest.raises(ValueError, match="windows="):
            call()


def test_pieces_refuse_what_they_cannot_do():
    callback = pn.callback_field(
        lambda t, y, th: -th[0] * y, 1, 1, vjp=lambda t, y, th, g: (-th[0] * g, np.array([-(g * y).sum()])), init=[2.0]
    )
    with pytest.raises(ValueError, match="traced field"):
        pn.fit.gradient_matching(callback, T, np.exp(-T))
    with pytest.raises(ValueError, match="max_iter=0"):
        pn.fit.multiple_shooting(pn.mlp(1, (3,)), T, np.exp(-T), max_iter=0)
    with pytest.raises(ValueError, match="optimizer='sgd'"):
        pn.fit.multiple_shooting(pn.mlp(1, (3,)), T, np.exp(-T), optimizer="sgd")
    fit = pn.fit.multiple_shooting(callback, T, np.exp(-T), windows=(None,))
    assert fit.theta[0] == pytest.approx(1.0, abs=1e-3)
