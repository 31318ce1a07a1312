"""Fits from several starts: how they are drawn, that the data decide, in parallel as in turn."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.models.trajectories import stages
from pynode.training.starts import drawn

T = np.linspace(0, 20, 60)
TRUE = [4.0, 0.1]


@pn.field(state=["x", "v"], theta={"k": pn.positive(100.0), "c": pn.bounded(0.01, 1.0)})
def spring(t, y, th):
    return [y[1], -th.k * y[0] - th.c * y[1]]


def positions(seed=0):
    """Of a spring; velocities are not measured."""
    y = pn.solve(spring, [1.0, 0.0], T, TRUE, rtol=1e-9, atol=1e-9).y
    y[:, 0] += 0.02 * np.random.default_rng(seed).standard_normal(len(T))
    y[:, 1] = np.nan
    return y


def fitted(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        return NeuralODE(field=spring, random_state=0, **options).fit(T, positions())


def test_draws_cover_the_declared_ranges():
    theta = {
        "sized": pn.bounded(1e-3, 10.0),
        "even": pn.bounded(2.0, -5.0, 5.0),
        "positive": pn.positive(3.0),
        "plain": np.array([0.0, 50.0]),
        "held": pn.frozen(7.0),
        "net": pn.mlp(1, (3,)),
    }

    @pn.field(state=1, theta=theta)
    def f(t, y, th):
        return th.net(y) + th.sized * th.even * th.positive * th.plain[0] * th.plain[1] * th.held

    n = 41
    starts = drawn(f, n, 5)
    parts = [f.unflatten(x) for x in starts]
    np.testing.assert_array_equal(starts[0], f.init(5))
    np.testing.assert_array_equal(starts, drawn(f, n, 5))
    assert not np.array_equal(starts[1:], drawn(f, n, 6)[1:])
    place = np.sort([(np.log10(p["sized"]) + 3) / 4 for p in parts[1:]])
    assert ((place * (n - 1)).astype(int) == np.arange(n - 1)).all()  # one in each of 40 equal parts of the decades
    place = np.sort([(p["even"] + 5) / 10 for p in parts[1:]])
    assert ((place * (n - 1)).astype(int) == np.arange(n - 1)).all()
    factor = np.array([np.log10(p["positive"] / 3.0) for p in parts[1:]])
    assert np.abs(factor[::2]).max() <= 1 and 1 < np.abs(factor[1::2]).max() <= 2
    plain = np.array([p["plain"] for p in parts[1:]])
    assert 0.5 < plain[::2, 0].std() < 1.5 and 25 < plain[::2, 1].std() < 75
    assert all(p["held"] == 7.0 and not p["net"]["b0"].any() for p in parts)
    assert np.unique([p["net"]["W0"][0, 0] for p in parts]).size == n


def log_likelihood(model):
    """Of the positions, its noise estimated."""
    residual = positions()[:, 0] - model.predict(T, trajectory=0)[:, 0]
    return -0.5 * len(T) * np.log(np.mean(residual**2))


def test_the_data_of_whole_trajectories_decide():
    one = fitted()
    best = fitted(n_restarts=5)
    np.testing.assert_allclose(best.theta_, TRUE, rtol=0.2)
    assert log_likelihood(one) < log_likelihood(best) - 10  # from its own values this field ends in a bad minimum
    others = [NeuralODE(field=spring, random_state=0)]
    for theta in drawn(spring, 5, 0)[1:]:
        k, c = theta
        start = pn.field(state=2, theta={"k": pn.positive(k), "c": pn.bounded(c, 0.01, 1.0)})
        others.append(NeuralODE(field=start(lambda t, y, th: [y[1], -th.k * y[0] - th.c * y[1]]), random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        alone = [log_likelihood(model.fit(T, positions())) for model in others]
    assert log_likelihood(best) == pytest.approx(max(alone), abs=0.05)
    assert best.field_ is spring and best.random_state_ == 0 and best.report_["message"].startswith("the best of 5 starts")


def test_side_by_side_gives_the_same_bits():
    pytest.importorskip("joblib")
    np.testing.assert_array_equal(fitted(n_restarts=3, n_jobs=2).theta_, fitted(n_restarts=3).theta_)


def test_networks_keep_the_start_of_highest_evidence():
    y = pn.solve(spring, [[1.0, 0.0], [0.0, 1.0]], T[:40], [1.0, 0.1]).y
    y = y + 0.02 * np.random.default_rng(0).standard_normal(y.shape)
    singles = [NeuralODE(hidden=(4,), random_state=k).fit(T[:40], y) for k in range(3)]
    best = NeuralODE(hidden=(4,), random_state=0, n_restarts=3).fit(T[:40], y)
    scores = [model.score_of_start_ for model in singles]
    np.testing.assert_array_equal(best.theta_, singles[scores.index(max(scores))].theta_)


def test_a_callback_ends_all_starts():
    seen = []

    def stop(iteration):
        seen.append(iteration.number)
        return len(seen) == 3

    model = NeuralODE(field=spring, random_state=0, n_restarts=4).fit(T, positions(), callback=stop)
    assert len(seen) == 3 and model.report_["status"] == "stopped"


def test_interrupts_keep_the_best_so_far():
    count = []

    def interrupt(iteration):
        count.append(iteration)
        if len(count) == 8:
            raise KeyboardInterrupt

    model = NeuralODE(field=spring, random_state=0, n_restarts=4)
    with pytest.raises(pn.fit.FitInterrupted):
        model.fit(T, positions(), callback=interrupt)
    assert np.isfinite(model.theta_).all() and model.predict(T, [1.0, 0.0]).shape == (60, 2)


def test_starts_that_cannot_be_solved_are_passed_over():
    @pn.field(state=1, theta={"a": pn.bounded(40.0, -60.0, 60.0)})
    def cubic(t, y, th):
        return th.a * y + th.a * y**3  # explodes where a > 0

    t = np.linspace(0, 1, 12)
    y = pn.solve(cubic, [1.0], t, [-2.0]).y + 1e-3 * np.random.default_rng(0).standard_normal((12, 1))
    model = NeuralODE(field=cubic, random_state=1, n_restarts=6, windows=(None,)).fit(t, y)
    assert model.theta_[0] == pytest.approx(-2.0, rel=0.05)


def test_fits_by_likelihood_draw_their_starts_too():
    one = fitted(initial={"v": 0.0})
    many = fitted(initial={"v": 0.0}, n_restarts=6)
    assert len(many.report_["stages"]) > len(one.report_["stages"])
    assert many.report_["log_likelihood"] > one.report_["log_likelihood"] - 1e-6  # which draws starts too, if it must
    np.testing.assert_allclose(many.theta_, TRUE, rtol=0.2)


def between_stages(monkeypatch, number):
    """Ctrl-C after the last stage of a fit, before it is kept: of the fit of this number."""
    count = []
    plain = stages.polish

    def polish(*given):
        count.append(1)
        if len(count) == number:
            raise KeyboardInterrupt
        return plain(*given)

    monkeypatch.setattr(stages, "polish", polish)


@pytest.mark.parametrize("number", [1, 3])
def test_interrupts_between_stages_keep_the_best_so_far(number, monkeypatch):
    between_stages(monkeypatch, number)
    model = NeuralODE(field=spring, random_state=0, n_restarts=4)
    with pytest.raises(pn.fit.FitInterrupted) as raised:
        model.fit(T, positions())
    assert model.report_["status"] == "interrupted"
    np.testing.assert_array_equal(raised.value.result.theta, model.theta_)
    assert model.predict(T, [1.0, 0.0]).shape == (60, 2)


def test_an_interrupt_before_anything_is_there_is_a_plain_one(monkeypatch):
    def prepare(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "prepare", prepare)
    for options in ({}, {"n_restarts": 2}, {"n_estimators": 2}):
        model = NeuralODE(field=spring, random_state=0, **options)
        with pytest.raises(KeyboardInterrupt) as raised:
            model.fit(T, positions())
        assert type(raised.value) is KeyboardInterrupt and not hasattr(model, "report_")


def test_an_interrupt_between_stages_leaves_a_model_that_says_so(monkeypatch):
    between_stages(monkeypatch, 1)
    model = NeuralODE(field=spring, random_state=0)
    with pytest.raises(pn.fit.FitInterrupted):
        model.fit(T, positions())
    assert model.report_["status"] == "interrupted" and model.predict(T, [1.0, 0.0]).shape == (60, 2)
