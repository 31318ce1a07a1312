"""Summaries, comparisons and profiles against least squares by SciPy and closed forms."""

import warnings

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import curve_fit
from scipy.stats import norm, t

import pynode as pn
from pynode.training.curriculum import FitWarning

T = np.linspace(0, 5, 25)


@pn.field(state=1, theta={"k": pn.positive(1.0), "c": 0.0})
def decay(time, y, th):
    return th.c - th.k * y


def curve(time, y0, k, c):
    return c / k + (y0 - c / k) * np.exp(-k * time)


def noisy(seed=0, sigma=0.03):
    return curve(T, 2.0, 0.8, 0.3) + sigma * np.random.default_rng(seed).standard_normal(len(T))


@pytest.fixture(scope="module")
def data():
    return noisy()


@pytest.fixture(scope="module")
def model(data):
    return pn.NeuralODE(field=decay).fit(T, data)


@pytest.fixture(scope="module")
def least_squares(data):
    return curve_fit(curve, T, data, [2.0, 1.0, 0.0])


def quiet(model, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return model.fit(*args, **options)


def test_numbers_are_those_of_least_squares(model, data, least_squares):
    best, covariance = least_squares
    s = model.summary(level=0.9)
    error = np.sqrt(np.diag(covariance))[1:]
    np.testing.assert_allclose(s.estimate, best[1:], rtol=1e-3)
    np.testing.assert_allclose(s.standard_error, error, rtol=5e-3)
    assert s.correlation[0, 1] == pytest.approx(covariance[1, 2] / error.prod(), rel=1e-2)
    q = t.ppf(0.95, len(T) - 3)
    half = q * error[0] / best[1]  # of log k
    np.testing.assert_allclose([s.low[0], s.high[0]], best[1] * np.exp([-half, half]), rtol=2e-3)
    np.testing.assert_allclose([s.low[1], s.high[1]], best[2] + np.array([-q, q]) * error[1], rtol=5e-3)
    assert s.names == ("k", "c")
    assert s.scale == ("log", "linear")
    assert s.status == ("", "")


def test_criteria_are_those_of_the_closed_form(model, data, least_squares):
    r = data - curve(T, *least_squares[0])
    n, k = len(T), 4  # y0, k, c, sigma
    fit = norm.logpdf(r, scale=np.sqrt(np.mean(r**2))).sum()
    s = model.summary()
    assert s.log_likelihood == pytest.approx(fit, abs=1e-3)
    assert (s.n_observed, s.degrees, s.n_noise) == (n, 3, 1)
    assert s.aic == pytest.approx(2 * k - 2 * fit, abs=2e-3)
    assert s.aicc == pytest.approx(2 * k - 2 * fit + 2 * k * (k + 1) / (n - k - 1), abs=2e-3)
    assert s.bic == pytest.approx(k * np.log(n) - 2 * fit, abs=2e-3)
    assert s.log_evidence == pytest.approx(-s.bic / 2, abs=1e-9)
    assert s.r2["y1"] == pytest.approx(1 - r.var() / data.var(), abs=1e-4)
    assert s.noise["y1"]["additive"] == pytest.approx(np.sqrt((r**2).sum() / (n - 3)), rel=2e-3)


def test_both_kinds_of_fit_agree(model, data):
    """A fit by likelihood, and one in stages, of the same equation."""
    likelihood = pn.NeuralODE(field=decay, initial=[np.nan]).fit(T, data)
    a, b = model.summary(), likelihood.summary()
    np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-3)
    np.testing.assert_allclose(a.standard_error, b.standard_error, rtol=5e-3)
    for name in ("log_likelihood", "aicc", "bic", "log_evidence"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=2e-3)


def test_logarithms_have_the_likelihood_of_the_numbers_themselves():
    """A log-normal error and a fit of logarithms are one model."""
    y = 3 * np.exp(-0.5 * T) * np.exp(0.1 * np.random.default_rng(1).standard_normal(len(T)))

    @pn.field(state=1, theta={"k": 1.0})
    def line(time, z, th):
        return [-th.k]

    @pn.field(state=1, theta={"k": 1.0})
    def rate(time, y, th):
        return -th.k * y

    logs = pn.NeuralODE(field=line, log=True).fit(T, y)
    plain = pn.NeuralODE(field=rate, noise="lognormal").fit(T, y)
    assert logs.summary().log_likelihood == pytest.approx(plain.summary().log_likelihood, abs=1e-3)
    assert plain.summary().noise["y1"]["of the logarithm"] == pytest.approx(logs.summary().noise["y1"]["additive"], rel=1e-2)
    table = logs.compare(plain, names=["logs", "log-normal"])
    np.testing.assert_allclose(table.difference, 0, atol=5e-3)
    a, b = logs.profile("k")["k"], plain.profile("k")["k"]
    np.testing.assert_allclose([a.low, a.high], [b.low, b.high], rtol=1e-3)


def test_weights(data):
    w = np.where(T < 2, 4.0, 1.0)
    s = pn.NeuralODE(field=decay).fit(T, data, weight=w[:, None]).summary()
    best, covariance = curve_fit(curve, T, data, [2.0, 1.0, 0.0], sigma=1 / np.sqrt(w))
    r = data - curve(T, *best)
    scale = np.sqrt(np.mean(w * r**2))
    np.testing.assert_allclose(s.standard_error, np.sqrt(np.diag(covariance))[1:], rtol=1e-2)
    assert s.log_likelihood == pytest.approx(norm.logpdf(r, scale=scale / np.sqrt(w)).sum(), abs=1e-2)


def test_frozen_parameters_and_bounds():
    @pn.field(state=1, theta={"k": pn.bounded(0.5, 0.0, 2.0), "c": pn.frozen(0.3)})
    def bounded(time, y, th):
        return th.c - th.k * y

    s = pn.NeuralODE(field=bounded).fit(T, noisy()).summary(units={"k": "1/s"})
    assert s.status == ("", "frozen")
    assert s.scale[0] == "logit"
    assert 0 < s.low[0] < 0.8 < s.high[0] < 2
    assert s.standard_error[1] == 0
    assert s.units == ("1/s", "")
    text = str(s)
    assert "1/s" in text
    assert "frozen" in text
    with pytest.raises(ValueError, match="units has 'q', which is no parameter; there are k, c"):
        pn.NeuralODE(field=bounded).fit(T, noisy()).summary(units={"q": "m"})


@pytest.mark.parametrize(
    "rate, words",
    [
        (lambda a, b: a + b, "only a + b is determined by the data, not a and b by themselves"),
        (lambda a, b: a * b, "only a * b is determined by the data, not a and b by themselves"),
        (lambda a, b: a / b, "only a / b is determined by the data, not a and b by themselves"),
    ],
)
@pytest.mark.parametrize("kind", [pn.positive, float])
@pytest.mark.parametrize("options", [{}, {"initial": [2.0]}])
def test_what_is_determined_has_a_name(rate, words, kind, options):
    @pn.field(state=1, theta={"a": kind(1.0), "b": kind(1.0)})
    def two(time, y, th):
        return -rate(th.a, th.b) * y

    y = 2 * np.exp(-0.8 * T) + 0.02 * np.random.default_rng(2).standard_normal(len(T))
    s = quiet(pn.NeuralODE(field=two, **options), T, y).summary()
    assert s.combinations == (words,)
    assert s.status == ("not determined", "not determined")
    assert s.degrees == pytest.approx(1 if options else 2, rel=1e-12)
    assert words[1:] in " ".join(str(s).split())


def test_a_parameter_without_influence():
    @pn.field(state=1, theta={"k": pn.positive(1.0), "b": 1.0})
    def idle(time, y, th):
        return -th.k * y + 0 * th.b

    s = quiet(pn.NeuralODE(field=idle), T, noisy()).summary()
    assert s.status == ("", "not determined")
    assert s.combinations == ()
    assert np.isnan(s.low[1])


def test_profiles_are_those_of_refitting(model, data):
    """Against the profile of the closed form: k held, y0 and c by least squares."""
    n = len(T)

    def rss(k):
        X = np.stack([np.exp(-k * T), (1 - np.exp(-k * T)) / k], axis=1)
        return float(np.linalg.lstsq(X, data, rcond=None)[1][0])

    found = model.profile("k")["k"]
    best = min(rss(k) for k in np.linspace(found.low, found.high, 2001))
    ratio = 1 + t.ppf(0.975, n - 3) ** 2 / (n - 3)
    for end in (found.low, found.high):
        assert rss(end) / best == pytest.approx(ratio, rel=2e-3)
    inner = np.abs(found.values - found.estimate) > 1e-3
    expected = [n * np.log(rss(k) / best) for k in found.values[inner]]
    np.testing.assert_allclose(found.rise[inner], expected, rtol=2e-2, atol=5e-3)
    s = model.summary(profile=True)
    assert s.kind == "profile likelihood"
    assert s.low[0] == pytest.approx(found.low, rel=1e-3)
    assert set(s.profiles) == {"k", "c"}


def test_a_profile_without_an_end():
    """Michaelis-Menten far below saturation: V and K have no upper ends, V / K has."""

    @pn.field(state=1, theta={"V": pn.positive(1.0), "K": pn.positive(1.0)})
    def enzyme(time, s, th):
        return -th.V * s / (th.K + s)

    y = solve_ivp(lambda _, s: -20.0 * s / (50.0 + s), (0, 5), [1.0], t_eval=T, rtol=1e-9).y[0]
    y = y + 0.02 * np.random.default_rng(3).standard_normal(len(T))
    fit = quiet(pn.NeuralODE(field=enzyme, initial=[1.0]), T, y)
    found = fit.profile("V")["V"]
    assert found.high == np.inf
    assert "the upper end of V is open" in found.words[0]
    assert found.low > 0.1
    s = fit.summary()
    assert len(s.combinations) == 1
    assert "V / K is determined" in s.combinations[0]


def test_networks_are_shown_by_arrays():
    model = pn.NeuralODE(hidden=(8,), random_state=0).fit(T, noisy())
    s = model.summary()
    assert s.names == ()
    assert [g.name for g in s.groups] == ["W0", "b0", "W1", "b1", "A"]
    assert s.degrees < 26
    assert np.isfinite([s.aicc, s.bic, s.log_evidence]).all()
    assert "W0" in str(s)
    with pytest.raises(ValueError, match="field of your own"):
        model.profile()

    @pn.field(state=1, theta={"k": pn.positive(1.0), "net": pn.mlp(1, (4,), 1)})
    def hybrid(time, y, th):
        return -th.k * y + th.net(y)

    s = quiet(pn.NeuralODE(field=hybrid, random_state=0), T, noisy()).summary()
    assert s.names == ("k",)
    assert [g.name for g in s.groups] == ["net.W0", "net.b0", "net.W1", "net.b1"]


def test_arrays_are_shown_by_index():
    @pn.field(state=2, theta={"A": (2, 2), "b": np.zeros(2)}, init={"A": -np.eye(2)})
    def linear(time, y, th):
        return th.A @ y + th.b

    y = pn.solve(linear, [1.0, 2.0], T, linear.init(0)).y + 0.01 * np.random.default_rng(0).standard_normal((25, 2))
    s = quiet(pn.NeuralODE(field=linear), T, y).summary(units={"A": "1/s", "b[1]": "m/s"})
    assert s.names == ("A[0]", "A[1]", "A[2]", "A[3]", "b[0]", "b[1]")
    assert s.units == ("1/s",) * 4 + ("", "m/s")


def test_gradient_descent_has_no_errors():
    s = pn.NeuralODE(field=decay, optimizer="lbfgs", max_iter=30).fit(T, noisy()).summary()
    assert np.isnan(s.standard_error).all()
    assert "No standard errors" in str(s)
    assert "unknown" in str(s)


def test_comparison(model, data):
    @pn.field(state=1, theta={"k": pn.positive(1.0)})
    def wrong(time, y, th):
        return -th.k * y

    worse = quiet(pn.NeuralODE(field=wrong), T, data)
    table = worse.compare(model)
    assert table.names == ("decay", "wrong")
    s, r = model.summary(), worse.summary()
    np.testing.assert_allclose(table.difference, [0, r.aicc - s.aicc])
    np.testing.assert_allclose(
        table.weight, np.array([1, np.exp((s.aicc - r.aicc) / 2)]) / (1 + np.exp((s.aicc - r.aicc) / 2))
    )
    assert "decay" in str(table)
    assert "<table" in table._repr_html_()
    assert any("wrong: its fit warned" in words for words in table.notes)
    assert worse.compare(model, names=["one", "two"]).names == ("two", "one")


def test_models_of_other_data_are_not_compared(model, data):
    changed = data.copy()
    changed[3] += 0.1
    fit = pn.NeuralODE(field=decay)
    with pytest.raises(ValueError, match=r"trajectory 0 differs in y1 at t = 0.625"):
        model.compare(fit.fit(T, changed))
    with pytest.raises(ValueError, match="fitted to 25 and to 24 readings"):
        model.compare(pn.NeuralODE(field=decay).fit(T[1:], data[1:]))
    with pytest.raises(ValueError, match="the times of trajectory 0 differ"):
        model.compare(pn.NeuralODE(field=decay).fit(T * 1.01, data))
    with pytest.raises(ValueError, match="different weights"):
        model.compare(pn.NeuralODE(field=decay).fit(T, data, weight=1 + T[:, None]))
    with pytest.raises(TypeError, match="model 2 is 3"):
        model.compare(3)
    with pytest.raises(ValueError, match="must be 2 different names"):
        model.compare(model, names=["one"])


def test_files_keep_what_a_summary_needs(tmp_path, data):
    model = pn.NeuralODE(field=decay, initial=[np.nan]).fit(T, data, weight=np.full((25, 1), 2.0))
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    assert str(again.summary()) == str(model.summary())
    assert again.profile("k")["k"].low == model.profile("k")["k"].low
    model.save(tmp_path / "model.npz", data=False)
    again = pn.load(tmp_path / "model.npz")
    assert again.summary().aicc == model.summary().aicc
    with pytest.raises(ValueError, match="without its data"):
        again.profile()


def test_tables(model):
    pandas = pytest.importorskip("pandas")
    frame = model.summary(units={"k": "1/h"}).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc["k", "unit"] == "1/h"
    assert list(frame.index) == ["k", "c"]
    assert model.compare(model, names=["a", "b"]).to_frame().loc["a", "weight"] == pytest.approx(0.5)


def test_html_is_escaped(model):
    html = model.summary(units={"k": "<b>"})._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html.replace("<p><b>", "")


@pytest.mark.parametrize("level", [0, 1, 1.5, True, "95"])
def test_levels(model, level):
    with pytest.raises(ValueError, match="level="):
        model.summary(level=level)


def test_profiles_name_what_they_do_not_know(model):
    with pytest.raises(ValueError, match="there is no parameter 'q'; there are k, c"):
        model.profile("q")


def test_the_report_is_a_page(model, tmp_path):
    pytest.importorskip("matplotlib")
    page = model.report(tmp_path / "report.html", title="Decay & more")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert page.startswith("<!doctype html>")
    assert "<title>Decay &amp; more</title>" in page
    assert "Parameters" in page
    assert "AICc" in page
    network = pn.NeuralODE(hidden=(4,), random_state=0).fit(T, noisy())
    assert "W0" in network.report()


def test_a_maximum_elsewhere_is_mentioned():
    """Profiles begin at the maximum along whole trajectories, which the parameters of a model need not be."""
    model = quiet(pn.NeuralODE(field=decay), T, noisy())
    error = model.summary().standard_error[0]
    model.theta_ = model.theta_ + np.array([2 * error, 0.0])
    found = model.profile("k")["k"]
    assert "along whole trajectories the likelihood is highest at k = " in found.words[0]
    assert not quiet(pn.NeuralODE(field=decay), T, noisy()).profile("k")["k"].words


def test_errors_that_hold_with_a_parameter_at_0_say_so():
    """Whoever lets b be something finds four times the error of a."""
    f = pn.field(state=1, theta={"a": pn.positive(0.5), "b": pn.positive(0.5)})(lambda t, y, th: -th.a * y - th.b * y * y)
    t = np.linspace(0, 3, 40)
    y = np.exp(-t) + 0.02 * np.random.default_rng(1).standard_normal(40)
    with pytest.warns(FitWarning, match="do not determine b"):
        held = pn.NeuralODE(field=f, initial=[1.0]).fit(t, y).summary()
    assert held.status == ("", "at 0")
    assert any("hold with b at 0" in note for note in held.notes)
    free = pn.NeuralODE(field=f, initial=[1.0]).fit(t, y * np.exp(-0.2 * (1 - np.exp(-t)))).summary()
    assert free.status == ("", "")
    assert free.standard_error[0] > 3 * held.standard_error[0]
    assert not free.notes


def test_how_inputs_were_taken_is_said():
    flow = pn.field(state=1, inputs=2, theta={"k": 1.0})(lambda t, y, th, u: u[0] - th.k * y + u[1])
    t = np.linspace(0, 8, 41)
    u = np.stack([np.sin(t), np.cos(2 * t)], axis=1)
    late = np.stack([u[:, 0], np.r_[u[0, 1], u[:-1, 1]]], axis=1)  # times are 0.2 apart
    y = pn.solve(flow, [0.0], t, [0.7], inputs=(t, late, "previous")).y
    model = pn.NeuralODE(field=flow, input_kind="previous", input_delay=(0.0, 0.2), random_state=0).fit(t, y, u=u)
    assert "Control inputs: held until the next time, taking effect u2 0.2 later." in str(model.summary())


def test_a_field_without_parameters_has_no_errors_and_says_why():
    t = np.linspace(0, 3, 20)
    model = pn.NeuralODE(field=pn.field(state=1)(lambda t, y: -y)).fit(t, np.exp(-t)[:, None])
    assert "standard errors" not in str(model.summary())
    with pytest.raises(ValueError, match="the field has no parameters"):
        model.predict(t, return_std=True)
