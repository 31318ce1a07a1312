"""Climbs from several starts: the best is kept; interrupts, checkpoints, and what the verdict says."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import norm

import pynode as pn
from pynode.experiments.forward import Experiment
from pynode.experiments.initial import as_initial
from pynode.optim.checkpoint import Checkpoint, opened
from pynode.training.coordinates import Coordinates
from pynode.training.curriculum import FitError
from pynode.training.likelihood.problem import LikelihoodProblem, times_and_readings
from pynode.training.likelihood.run import Likelihood, LikelihoodRun, Start
from pynode.training.likelihood.verdict import ALONE, Verdict, following, pure

T = np.linspace(0.0, 10.0, 30)


@pn.field(state=2, theta={"w": pn.positive(1.0), "A": pn.positive(1.0)})
def swing(t, y, th):
    return [y[1], -(th.w**2) * y[0]]


def wave(t, w, A):
    return A * np.cos(w * t)


def readings(seed=0, sigma=0.1):
    return wave(T, 1.7, 2.0) + sigma * np.random.default_rng(seed).standard_normal(len(T))


def likelihood(y, tol=1e-9, max_iter=100, held=()):
    times, found = times_and_readings([T], [np.stack([y, np.full(len(T), np.nan)], axis=1)])

    def problem(coordinates, states, part):
        n = max(int(part * len(T)), 2)
        own = found.take(found.row < n)
        ex = Experiment(swing, [times[0][:n]], as_initial(lambda th: [th.A, 0.0], swing, 1, ()), rtol=1e-9, atol=1e-11)
        return LikelihoodProblem(ex, own, ("additive", "additive"), "gaussian", coordinates, states)

    return Likelihood(problem, swing.spec, tol=tol, max_iter=max_iter, held=held)


def start(w, A=1.0, name=None):
    return Start(name or f"w = {w}", np.array([w, A]), np.zeros((1, 2)))


def theta_of(run):
    return run.best.problem.theta(run.best.posterior.theta)


def test_the_maximum_and_its_curvature_are_those_of_least_squares():
    y = readings()
    run = LikelihoodRun(likelihood(y), [start(1.5)])
    run.train()
    p, c = curve_fit(wave, T, y, p0=[1.6, 1.9])
    np.testing.assert_allclose(theta_of(run), p, rtol=1e-5)
    known = run.best.determined
    spread = run.best.problem.coordinates.spread(run.best.posterior.theta[:2], known.covariance)
    np.testing.assert_allclose(spread * 30 / 28, c, rtol=2e-3)
    assert run.best.degrees == pytest.approx(2.0)
    sigma = np.sqrt(np.mean((y - wave(T, *p)) ** 2))
    assert run.best.loss == pytest.approx(-2 * norm.logpdf(y, wave(T, *p), sigma).sum(), abs=1e-5)


def test_a_start_far_away_is_led_there_by_growing_parts_of_the_time():
    y = readings()
    plain = LikelihoodRun(likelihood(y), [start(0.3)], explains=lambda maximum: True)
    plain.train()
    assert abs(theta_of(plain)[0] - 1.7) > 0.2
    helped = LikelihoodRun(likelihood(y), [start(0.3)], explains=lambda maximum: maximum.loss < 0)
    helped.train()
    np.testing.assert_allclose(theta_of(helped), [1.7, 2.0], atol=0.1)
    assert any("%" in stage.name for stage in helped.stages)
    assert helped.others == 1


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_of_several_starts_is_kept(order):
    run = LikelihoodRun(likelihood(readings()), [start(0.3), start(1.5)][::order], explains=lambda maximum: maximum.loss < 0)
    run.train()
    assert run.best.name == "w = 1.5"
    np.testing.assert_allclose(theta_of(run), [1.7, 2.0], atol=0.1)
    assert len(run.stages) == len({stage.name for stage in run.stages})
    assert sum(stage.iterations for stage in run.stages) <= len(run.history["loss"]) <= 2 * len(run.stages) * 100


def test_more_starts_are_asked_for_only_where_nothing_explains_the_data():
    asked = []

    def more():
        asked.append(True)
        return [start(1.5, name="more")]

    LikelihoodRun(likelihood(readings()), [start(1.5)], more, lambda maximum: True).train()
    assert not asked
    run = LikelihoodRun(likelihood(readings()), [start(0.3)], more, lambda maximum: False)
    run.train()
    assert asked
    assert run.best.loss < 0


def test_held_parameters_stay():
    run = LikelihoodRun(likelihood(readings(), held=(0,)), [start(1.65)])
    run.train()
    assert theta_of(run)[0] == 1.65
    assert len(run.best.posterior.theta) == 2  # A and the noise


def test_starts_that_cannot_be_solved_are_named():
    impossible = [start(1e200, name="one"), start(1e200, name="two")]
    with pytest.raises(FitError, match=r"any start \(one, two\)"):
        LikelihoodRun(likelihood(readings()), impossible).train()
    run = LikelihoodRun(likelihood(readings()), [*impossible, start(1.5)])
    run.train()
    assert run.lost[:2] == ["one", "two"]
    np.testing.assert_allclose(theta_of(run), [1.7, 2.0], atol=0.1)


def test_a_callback_stops():
    run = LikelihoodRun(likelihood(readings()), [start(0.3), start(1.5)], callback=lambda step: step.number == 3)
    run.train()
    assert run.stopped
    assert len(run.history["loss"]) == 3
    assert run.best is not None


# ---- Interrupts


@pytest.mark.parametrize("number", [1, 3, 12])
def test_an_interrupt_keeps_the_best_so_far(number):
    def callback(step):
        if step.number == number:
            raise KeyboardInterrupt

    run = LikelihoodRun(likelihood(readings()), [start(1.5), start(0.3)], callback=callback)
    with pytest.raises(pn.fit.FitInterrupted) as caught:
        run.train()
    assert run.best is not None
    np.testing.assert_array_equal(caught.value.result.theta, theta_of(run))
    assert len(caught.value.result.history["loss"]) == number
    assert run.best.posterior.covariance is not None


class Stop(Exception):
    pass


def test_a_checkpoint_goes_on_to_the_same_bits(tmp_path):
    starts = [start(0.3), start(0.9)]

    steps = []

    def run(path, stop=None):
        steps.clear()

        def callback(step):
            steps.append(step.number)
            if step.number == stop:
                raise Stop

        with opened(None if path is None else Checkpoint(path, every=0), 0, lambda: ("a fit",)) as saved:
            made = LikelihoodRun(likelihood(readings()), starts, None, lambda m: m.loss < -1e9, callback, saved)
            made.train()
        return made

    whole = run(None)
    n = len(whole.history["loss"])
    assert n > 20
    for stop in (1, n // 3, n // 2, n - 1):
        path = tmp_path / f"{stop}.npz"
        with pytest.raises(Stop):
            run(path, stop)
        assert path.exists() is (stop > 1)  # nothing is saved before the first step is done
        again = run(path)
        assert steps == list(range(stop if stop > 1 else 1, n + 1))
        assert not path.exists()
        np.testing.assert_array_equal(again.best.posterior.theta, whole.best.posterior.theta)
        np.testing.assert_array_equal(again.history["loss"], whole.history["loss"])
        assert [s.name for s in again.stages] == [s.name for s in whole.stages]
        assert (again.others, again.lost) == (whole.others, whole.lost)


# ---- Verdicts


def test_white_residuals_do_not_follow_each_other():
    rng = np.random.default_rng(0)
    for n in (12, 20, 100):
        values = [following(rng.standard_normal(n), np.zeros(n, int)) for _ in range(4000)]
        assert np.mean(np.array(values) > ALONE) < 0.004
        assert np.mean(values) == pytest.approx(0.0, abs=0.1)
        assert np.std(values) == pytest.approx(1.0, abs=0.15)


def test_smooth_residuals_follow_each_other():
    for n in (12, 20, 100):
        assert following(np.sin(np.linspace(0, 6, n)), np.zeros(n, int)) > ALONE
    assert following(np.ones(4), np.zeros(4, int)) == 0  # too few
    assert following(np.zeros(20), np.zeros(20, int)) == 0
    assert following(np.ones(20), np.arange(20)) == 0  # one reading a trajectory
    assert following(np.empty(0), np.empty(0, int)) == 0
    assert following((-1.0) ** np.arange(50), np.zeros(50, int)) < -5


def test_replicates_tell_the_noise():
    rng = np.random.default_rng(1)
    row = np.repeat(np.arange(50), 4)
    variance, left = pure(0.3 * rng.standard_normal(200) + row, row)
    assert left == 150
    assert variance == pytest.approx(0.09, rel=0.2)
    assert pure(np.ones(3), np.arange(3)) == (0.0, 0)


@pytest.mark.parametrize("jumps", [False, True])
def test_a_verdict(jumps):
    y = readings()
    good = LikelihoodRun(likelihood(y), [start(1.5)])
    good.train()
    bad = LikelihoodRun(likelihood(y), [start(0.3)], explains=lambda maximum: True)
    bad.train()
    verdict = Verdict([T], [np.stack([y, np.full(len(T), np.nan)], axis=1)], ("position", "speed"), jumps)
    assert verdict.explains(good.best)
    assert not verdict.explains(bad.best)
    assert verdict.doubts(good, ()) == []
    assert len(verdict.doubts(bad, ())) == 1
    assert "position" in verdict.doubts(bad, ())[0]
    words = verdict.doubts(good, ["w = 3", "A = 1"])
    assert len(words) == 1
    assert "do not determine w = 3, A = 1" in words[0]


def test_a_climb_that_ends_early_says_so():
    run = LikelihoodRun(likelihood(readings(), max_iter=1), [start(1.6)])
    run.train()
    words = Verdict([T], [np.stack([readings(), np.full(len(T), np.nan)], axis=1)], ("a", "b"), True).doubts(run, ())
    assert any("max_iter" in each for each in words)


def test_the_coordinates_of_a_start_are_those_of_the_spec():
    with pytest.raises(ValueError, match="w"):
        Coordinates(swing.spec, np.array([-1.0, 1.0]))
