"""Intervals, forecasts and tables of NeuralODE, and the calibration behind them."""

import copy
import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.data.support import Support
from pynode.errors import SolveWarning
from pynode.models.trajectories.intervals import predicted as intervals
from pynode.models.trajectories.intervals.calibration import Calibration, Errors, fit_growth, split_noise
from pynode.models.trajectories.intervals.random_force import carried
from pynode.models.trajectories.intervals.refits import folds

T = np.linspace(0, 8, 50)
NOISE = 0.05


def waves(n, noise=NOISE, seed=0):
    rng = np.random.default_rng(seed)
    phase = np.arange(n)[:, None]
    y = np.stack([np.cos(T + phase), -np.sin(T + phase)], axis=2)
    return y + noise * rng.standard_normal(y.shape)


@pytest.fixture(scope="module")
def model():
    return pn.NeuralODE(hidden=(), random_state=0).fit(T, waves(2), names=["x", "v"])


@pn.field(state=1, theta={"r": pn.positive(0.3), "K": pn.positive(8.0)})
def logistic(t, y, th):
    return [th.r * y[0] * (1 - y[0] / th.K)]


# ---- The calibration by itself


def test_misfit_is_told_from_noise():
    rng = np.random.default_rng(0)
    white = [rng.standard_normal((200, 1)) for _ in range(4)]
    noise, misfit, _ = split_noise(white, np.ones(1), np.full(1, np.nan), 4.0)
    assert misfit[0] < 0.1
    slow = [w + 2 * np.sin(np.linspace(0, 12, 200))[:, None] for w in white]  # of variance 2
    noise, misfit, inflation = split_noise(slow, np.full(1, 3.0), np.full(1, np.nan), 4.0)
    np.testing.assert_allclose(misfit, 2.0, rtol=0.2)
    np.testing.assert_allclose(noise + misfit, 3.0)
    assert inflation > 2


def normal_errors(rng, n, parameters, process, growth=1.0, force=0.0):
    variance = 0.1 + growth * parameters + force * process
    ones = np.ones(n)
    error = np.sqrt(variance) * rng.standard_normal(n)
    return Errors(error, 0.1 * ones, parameters, process, 0 * ones, np.inf * ones, np.zeros(n, dtype=np.intp))


def test_growth_of_well_calibrated_errors_is_one():
    rng = np.random.default_rng(1)
    errors = normal_errors(rng, 900, rng.uniform(0, 2, 900), rng.uniform(0, 2, 900))
    factors, scores, _, _ = fit_growth(errors, 900)
    assert factors["growth"] < 1.6
    assert factors["process"] < 0.1
    assert abs(np.quantile(scores, 0.9) - 1.645) < 0.15


@pytest.mark.parametrize(("growth", "force"), [(30.0, 0.0), (1.0, 1.0)])
def test_errors_tell_what_grows(growth, force):
    rng = np.random.default_rng(2)
    errors = normal_errors(rng, 900, rng.uniform(0, 2, 900), rng.uniform(0, 9, 900), growth, force)
    factors, scores, _, _ = fit_growth(errors, 900)
    assert 0.5 < factors["growth"] / growth < 2
    assert abs(factors["process"] - force) < 0.5
    assert abs(np.quantile(scores, 0.9) - 1.645) < 0.15


def test_a_random_force_does_what_the_closed_form_says():
    """P(t) of dz = -a z dt + L dW is (1 - exp(-2 a t)) q / (2 a)."""
    a = 0.7
    q = 0.3
    n = 400
    h = 0.01
    P = carried(np.full((n, 1, 1), -a * h), np.array([[q * h]]), np.ones(n))[:, 0, 0]
    t = h * np.arange(1, n + 1)
    np.testing.assert_allclose(P, (1 - np.exp(-2 * a * t)) * q / (2 * a), rtol=1e-4)


def test_no_refit_is_shown_everything():
    for lengths in [(40,), (40, 30), (20, 30, 40), (9,) * 7, (6,)]:
        for shown in folds(lengths):
            assert len(shown) == len(lengths)
            assert all(a <= b for a, b in zip(shown, lengths, strict=True)) and shown != lengths


def half(calibration, variance, ahead, reading):
    """Half of the interval of 90 % where the mean has this variance."""
    return float(calibration.half(0.9, np.full((1, 1), variance), np.full((1, 1), ahead), reading)[0, 0])


def test_intervals_follow_the_errors_of_refits_where_there_are_many():
    noise = np.ones(1)
    wide = Calibration(noise, 0 * noise, scores=np.linspace(0, 10, 401), independent=1e6)
    np.testing.assert_allclose(half(wide, 1.0, True, False), 9.0, rtol=1e-2)
    np.testing.assert_allclose(half(wide, 3.0, True, True), 18.0, rtol=1e-2)
    np.testing.assert_allclose(half(wide, 1.0, False, False), 1.6449, rtol=1e-4)
    np.testing.assert_allclose(half(wide, 1.0, False, True), 1.6449 * np.sqrt(2), rtol=1e-4)


def test_refits_that_know_more_than_they_say_do_not_hide_the_noise():
    """Their covariances, of shorter records, are too wide: that tells nothing of the noise, which is as large as ever."""
    rng = np.random.default_rng(3)
    noise = np.ones(1)
    plain = np.sort(np.abs(rng.standard_normal(2000)))
    cautious = Calibration(noise, 0 * noise, scores=plain / 4, plain=plain, independent=1e6)
    np.testing.assert_allclose(half(cautious, 0.0, True, True), 1.6449, rtol=0.05)
    np.testing.assert_allclose(half(cautious, 3.0, True, True), 2 * 1.6449, rtol=0.05)
    np.testing.assert_allclose(half(cautious, 3.0, True, False), np.sqrt(3) * 1.6449, rtol=1e-4)
    quiet = Calibration(noise, 0 * noise, scores=plain / 4, plain=plain / 4, independent=1e6)  # noise is less than it seemed
    np.testing.assert_allclose(half(quiet, 0.0, True, True), 1.6449 / 4, rtol=0.05)


def test_support_knows_where_data_never_were():
    x = np.linspace(-1, 1, 100)
    support = Support.of([np.stack([x, 2 * x, 0 * x + 5], axis=1)])
    assert support.never(np.array([[0.1, 0.2, 5.0], [0.1, 0.5, 5.0], [0.1, 0.2, 6.0]])).tolist() == [False, True, True]
    near, far = support.strangeness(np.array([[0.5, 1.0, 5.0], [5.0, 10.0, 5.0]]))
    assert near < 0.01
    assert far > 0.99


# ---- Models


def test_intervals_cover(model):
    inside = []
    later = np.linspace(8.2, 12, 20)
    for k in range(2):
        _, lower, upper = model.predict(later, trajectory=k, interval=0.9, kind="prediction")
        truth = np.stack([np.cos(later + k), -np.sin(later + k)], axis=1)
        truth = truth + NOISE * np.random.default_rng(k).standard_normal(truth.shape)
        inside.append((lower < truth) & (truth < upper))
    assert 0.8 <= np.mean(inside) <= 1
    assert np.isclose(np.sqrt(model.calibration_.noise), NOISE, rtol=0.35).all()


def test_a_wrong_equation_has_wider_intervals_than_its_covariance_says():
    """Gompertz growth, fitted by logistic growth: the bands of the parameters alone hold 1 of 12 later values."""
    t = np.linspace(0, 8, 30)
    y = 10 * np.exp(np.log(0.1) * np.exp(-0.5 * t))
    y = y + 0.1 * np.random.default_rng(0).standard_normal(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        model = pn.NeuralODE(field=logistic, random_state=0).fit(t, y)
    later = np.linspace(8.3, 11, 12)
    truth = 10 * np.exp(np.log(0.1) * np.exp(-0.5 * later))[:, None]
    mean, std = model.predict(later, return_std=True)
    assert (np.abs(truth - mean) < 1.645 * std).mean() < 0.5
    _, lower, upper = model.predict(later, interval=0.9)
    assert ((lower < truth) & (truth < upper)).mean() > 0.9


def test_kinds_levels_and_batches(model):
    mean, lower, upper = model.predict(T, interval=0.9)
    np.testing.assert_array_equal(mean, model.predict(T))
    wider = model.predict(T, interval=0.9, kind="prediction")
    assert (wider.upper - wider.lower > upper - lower).all()
    assert (model.predict(T, interval=0.5).upper < upper).all()
    both = model.predict(T, np.eye(2), interval=0.9)
    np.testing.assert_array_equal(both.lower[1], model.predict(T, [0.0, 1.0], interval=0.9).lower)
    ragged = model.predict([T, T[:4]], np.eye(2), interval=0.9)
    assert [x.shape for x in ragged.upper] == [(50, 2), (4, 2)]
    assert np.isfinite(lower).all()


@pytest.mark.parametrize("bad", [0, 1, -0.1, 90, True, "x"])
def test_refuses_levels(model, bad):
    with pytest.raises(ValueError, match="interval="):
        model.predict(T, interval=bad)


def test_refuses_kinds_and_mixtures(model):
    with pytest.raises(ValueError, match="kind="):
        model.predict(T, interval=0.9, kind="both")
    with pytest.raises(ValueError, match="do not go with"):
        model.predict(T, interval=0.9, return_std=True)


def test_intervals_are_saved_and_reproduced(model, tmp_path):
    first = model.predict(T, interval=0.9)
    model.save(tmp_path / "m.npz")
    for again in (pn.load(tmp_path / "m.npz"), pn.NeuralODE(hidden=(), random_state=0).fit(T, waves(2), names=["x", "v"])):
        for a, b in zip(first, again.predict(T, interval=0.9), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "options", [{"hidden": ()}, {"hidden": (4,), "structure": "network"}, {"hidden": (4,), "n_estimators": 2}]
)
def test_intervals_of_a_model_saved_without_its_data(options, tmp_path):
    model = pn.NeuralODE(random_state=0, **options).fit(T, waves(3), names=["x", "v"])
    starts = [[1.0, 0.0], [0.3, -0.4], [4.0, 4.0]]  # the last one is far from the data
    model.save(tmp_path / "m.npz", data=False)
    with pytest.raises(ValueError, match=r"ask for an interval once\s+before save, or save with data=True"):
        pn.load(tmp_path / "m.npz").predict(T, starts[0], interval=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.ExtrapolationWarning)
        known = model.predict(T, starts, interval=0.9)
        model.save(tmp_path / "m.npz", data=False)
        pn.load(tmp_path / "m.npz").save(tmp_path / "again.npz", data=False)
        again = pn.load(tmp_path / "again.npz")
        assert again.data_ is None
        for a, b in zip(known, again.predict(T, starts, interval=0.9), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="saved without its data: give y0"):
        again.predict(T, interval=0.9)


def test_no_reading_is_in_a_file_without_data(model, tmp_path):
    model.predict(T, interval=0.9)
    content = model.to_content(data=False)
    extremes = [model.data_.y[0].min(), model.data_.y[0].max()]  # ranges are told
    readings = set(np.concatenate(model.data_.y).ravel()) - set(extremes) - set(np.concatenate(model.data_.y).min(axis=0))
    readings -= set(np.concatenate(model.data_.y).max(axis=0))

    def numbers(part):
        if isinstance(part, dict):
            return set().union(*map(numbers, part.values()), set())
        if isinstance(part, (list, tuple)):
            return set().union(*map(numbers, part), set())
        return set(part.ravel()) if isinstance(part, np.ndarray) and part.dtype == float else set()

    assert not readings & numbers(content)


def test_logarithms_stay_positive():
    y = np.exp(waves(1)[0])
    model = pn.NeuralODE(hidden=(), log=True, random_state=0).fit(T, y)
    _, lower, upper = model.forecast(30, interval=0.9)
    assert (lower > 0).all()
    assert (upper > lower).all()


def test_a_constant_column_is_unknown():
    y = np.append(waves(2), np.full((2, 50, 1), 3.0), axis=2)
    with pytest.warns(pn.fit.FitWarning, match="never changes"):
        model = pn.NeuralODE(hidden=(4,), random_state=0).fit(T, y, names=["x", "v", "w"])
    assert any("w never changes" in words for words in model.report_["warnings"])
    assert np.isfinite(model.predict(T, [1.0, 0.0, 3.0], interval=0.9).upper).all()
    assert np.isinf(model.predict(T, [1.0, 0.0, 4.0], interval=0.9).upper).all()


def test_exact_data_are_told_from_the_error_of_the_solver():
    y = np.stack([np.cos(T), -np.sin(T)], axis=1)
    model = pn.NeuralODE(hidden=(), random_state=0).fit(T, y)
    noise = np.array(list(model.report_["noise"].values()))
    assert (np.sqrt(((y - model.predict(T)) ** 2).mean(axis=0)) < 1.5 * noise).all()
    assert (noise < 1e-6).all()


# ---- Forecasts


def test_forecast_goes_on_from_the_end(model):
    step = T[1]
    later = T[-1] + step * np.arange(1, 6)
    found = model.forecast(5)
    assert [x.shape for x in found] == [(5, 2)] * 2
    for k, y in enumerate(found):
        np.testing.assert_allclose(y, model.predict(later, trajectory=k), atol=1e-9)
    np.testing.assert_allclose(model.forecast(later)[0], found[0], atol=1e-9)
    band = model.forecast([later, later[:2]], interval=0.9)
    assert [x.shape for x in band.lower] == [(5, 2), (2, 2)]
    for bad in (0, [1.0, 2.0], [later]):
        with pytest.raises(ValueError):
            model.forecast(bad)


def test_forecast_with_inputs():
    u = np.sin(2 * T)[:, None]
    model = pn.NeuralODE(hidden=(), random_state=0).fit(T, waves(1)[0], u=u)
    with pytest.raises(ValueError, match="end before the forecast"):
        model.forecast(2)
    with pytest.raises(ValueError, match="u has shape"):
        model.forecast(3, u=[[0.0]])
    later = T[-1] + T[1] * np.arange(1, 4)
    values = np.sin(2 * later)[:, None]
    signal = pn.Signal(np.append(T, later), np.append(u, values, axis=0))
    np.testing.assert_allclose(model.forecast(3, u=values), model.predict(later, u=signal), atol=1e-9)
    assert np.isfinite(model.forecast(3, u=values, interval=0.9).upper).all()


def test_bands_with_inputs_at_the_times_of_one_trajectory():
    u = np.sin(2 * T)[:, None]
    model = pn.NeuralODE(hidden=(), random_state=0).fit(T, waves(1)[0], u=u)
    start = np.array([0.5, 0.2])
    alone = model.predict(T, start, u=u, interval=0.9)
    for name, found in model.predict(T, start[None], u=u[None], interval=0.9)._asdict().items():
        np.testing.assert_array_equal(getattr(alone, name), found[0])
    np.testing.assert_array_equal(model.predict(T, start, u=pn.Signal(T, u), interval=0.9).upper, alone.upper)


def test_tables_have_the_columns_of_the_data():
    pd = pytest.importorskip("pandas")
    y = waves(2)
    frame = pd.DataFrame(
        {"who": np.repeat(["a", "b"], 50), "day": np.tile(T, 2), "x": y[..., 0].ravel(), "v": y[..., 1].ravel()}
    )
    model = pn.NeuralODE(hidden=(), random_state=0).fit(frame, time="day", state=["x", "v"], id="who")
    table = model.forecast(3, interval=0.9)
    assert list(table.columns)[1:] == ["day", "x", "x_lower", "x_upper", "v", "v_lower", "v_upper"]
    assert list(table.iloc[:, 0]) == ["a"] * 3 + ["b"] * 3
    assert ((table.x_lower < table.x) & (table.x < table.x_upper)).all()
    assert isinstance(model.forecast(3, as_frame=False), list)
    assert list(model.predict(T, as_frame=True, trajectory=1).columns)[1:] == ["day", "x", "v"]


def test_refits_that_fail_are_not_told(model, monkeypatch):
    again = copy.copy(model)
    again.calibration_ = None

    def failing(_):
        warnings.warn("1 of 3 samples failed", SolveWarning, stacklevel=1)

    monkeypatch.setattr(intervals, "average_of", failing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibration = intervals.calibrated(again)
    assert calibration.degrees > 1 and again.averaged_ is None
