"""Systems with control inputs: what plain values mean, delays, unobserved states, warm-ups, ensembles, experiments."""

import warnings

import numpy as np
import pytest
import scipy.integrate

import pynode as pn
from pynode.app.cli import main
from pynode.fit import FitWarning
from pynode.models.trajectories import inputs
from pynode.training.equations.input_evidence import InputEvidence

T = 0.2 * np.arange(240)
QUICK = {"hidden": (6,), "random_state": 0}


def steps_of(seed, n=240):
    """Inputs that change every third time."""
    return np.repeat(np.random.default_rng(seed).standard_normal(n // 3), 3)


@pn.field(state=2, inputs=1)
def duffing(t, y, u):
    return [y[1], u[0] - y[0] - 0.5 * y[1] - 0.3 * y[0] ** 3]


@pn.field(state=2, inputs=1)
def tanks(t, y, u):
    return [0.5 * u[0] - 0.4 * np.sqrt(np.abs(y[0]) + 0.01), 0.4 * np.sqrt(np.abs(y[0]) + 0.01) - 0.3 * y[1]]


def measured(field, seed, kind="previous", delay=0.0, noise=0.01, start=(0.5, 0.2)):
    """(inputs, true states, measured states)."""
    u = steps_of(seed) if field is duffing else 1.5 + 0.5 * np.clip(steps_of(seed), -2, 2)
    signal = (T, u[:, None], kind)
    if delay:
        signal = (np.concatenate([T[:1], T + delay]), np.concatenate([u[:1], u])[:, None], kind)
    y = pn.solve(field, list(start), T, inputs=signal).y
    return u, y, y + noise * np.random.default_rng(seed + 100).standard_normal(y.shape)


@pytest.mark.parametrize("kind", ["previous", "linear"])
def test_what_plain_values_mean_is_chosen_by_evidence(kind):
    u, _, y = measured(duffing, 1, kind)
    model = pn.NeuralODE(**QUICK).fit(T, y, u=u)
    assert model.input_kind_ == model.report_["inputs"]["kind"] == kind
    tried = model.report_["inputs"]["log_evidence"]
    assert tried[kind] == 0.0 and max(x for name, x in tried.items() if name != kind) < -20
    same = pn.NeuralODE(**QUICK, input_kind=kind).fit(T, y, u=u)
    given = pn.NeuralODE(**QUICK).fit(T, y, u=(T, u[:, None], kind))
    assert np.array_equal(model.theta_, same.theta_) and np.array_equal(model.theta_, given.theta_)
    assert given.report_["inputs"] == {"kind": kind, "delay": [0.0], "log_evidence": {}}


@pytest.mark.parametrize(
    ("logs", "explained", "trials", "kind"),
    [
        ((0, 20, 0), True, [], "previous"),  # polynomials explain the data: they decide, whatever they say
        ((0, 4, 0), True, [], "linear"),
        ((0, 20, 0), False, [(0, 9, 1)], "previous"),  # two looks that agree
        ((0, -300, 0), False, [(0, 36, 1)], "linear"),  # together they do not speak against straight lines
        ((0, -4, 0), False, [(0, 16, 0), (0, 30, 0)], "previous"),
        ((0, -4, 0), False, [(0, 16, 0), (0, 2, 0)], "linear"),  # only one of three looks is clear
        (None, False, [(0, 70), (0, 8, 20)], "previous"),  # cubics are not tried where held values are far ahead
        (None, False, [(0, 3, 0)], "linear"),
        (None, False, [(-np.inf, 1), (-np.inf, 1)], "previous"),
    ],
)
def test_several_looks_say_what_inputs_are_between_their_times(monkeypatch, logs, explained, trials, kind):
    u, _, y = measured(duffing, 1)
    looked = None if logs is None else InputEvidence(list(map(float, logs)), explained)
    monkeypatch.setattr(inputs, "_along_smoothed", lambda *_: looked)
    answers = iter([float(x) for trial in trials for x in trial])
    monkeypatch.setattr(inputs.Trial, "evidence", lambda *_: next(answers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        model = pn.NeuralODE(**QUICK, max_iter=1, structure="network").fit(T, y, u=u)
    assert model.input_kind_ == kind
    assert next(answers, None) is None  # all were asked


def test_predictions_take_plain_values_as_the_data_were_taken():
    u, _, y = measured(duffing, 1)
    model = pn.NeuralODE(**QUICK).fit(T, y, u=u)
    v = steps_of(7)
    plain = model.predict(T, [0.5, 0.2], u=v)
    assert np.array_equal(plain, model.predict(T, [0.5, 0.2], u=(T, v[:, None], "previous")))
    assert not np.allclose(plain, model.predict(T, [0.5, 0.2], u=(T, v[:, None], "linear")))


def test_a_delay_is_found_and_used_everywhere():
    u, truth, y = measured(duffing, 2, delay=0.8)
    model = pn.NeuralODE(**QUICK, input_kind="previous", input_delay="auto").fit(T, y, u=u)
    assert model.report_["inputs"]["delay"] == pytest.approx([0.8])
    assert model.report_["noise"]["y1"] == pytest.approx(0.01, rel=0.15)
    assert np.abs(model.predict(T, truth[0], u=u) - truth).max() < 0.1
    given = pn.NeuralODE(**QUICK, input_kind="previous", input_delay=0.8).fit(T, y, u=u)
    assert given.report_["noise"]["y1"] == pytest.approx(model.report_["noise"]["y1"], rel=0.03)
    none = pn.NeuralODE(**QUICK, input_kind="previous").fit(T, measured(duffing, 2)[2], u=u)
    assert not none.scaling_.u_delay.any()


def test_delays_of_two_inputs_are_found_one_by_one():
    @pn.field(state=1, inputs=2)
    def mixed(t, y, u):
        return [u[0] + 0.5 * u[1] - y[0]]

    u, v = steps_of(3), steps_of(4)
    late = np.stack([np.concatenate([u[:1].repeat(4), u[:-4]]), np.concatenate([v[:1].repeat(2), v[:-2]])], axis=1)
    y = pn.solve(mixed, [0.0], T, inputs=(T, late, "previous")).y + 0.005 * np.random.default_rng(0).standard_normal(
        (240, 1)
    )
    model = pn.NeuralODE(hidden=(), input_kind="previous", input_delay="auto", random_state=0)
    model.fit(T, y, u=np.stack([u, v], axis=1))
    assert model.report_["inputs"]["delay"] == pytest.approx([0.8, 0.4])


@pytest.mark.parametrize("kind", ["previous", "linear"])
def test_a_delayed_signal_is_that_of_earlier_times(kind):
    from pynode.data.delays import delayed

    rng = np.random.default_rng(0)
    t = np.cumsum(rng.random(30))
    signal = pn.Signal(t, rng.standard_normal((30, 2)), kind)
    late = delayed(signal, np.array([0.7, 1.9]))
    asked = np.linspace(t[0] + 2.0, t[-1], 200)
    expected = np.stack([signal(asked - 0.7)[:, 0], signal(asked - 1.9)[:, 1]], axis=1)
    assert np.allclose(late(asked), expected, atol=1e-12)
    assert np.array_equal(late(t[:1]), signal(t[:1]))  # held before


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # five iterations end at no minimum
@pytest.mark.parametrize("unit", [1.0, 60.0, 1 / 7])
def test_delayed_values_change_at_the_readings_in_all_units_of_time(unit):
    from pynode.data.delays import delayed

    u, y = measured(duffing, 2, delay=0.4)[::2]
    late = delayed(pn.Signal(T * unit, u[:, None], "previous"), np.array([0.4 * unit]))
    assert np.array_equal(late(T * unit)[2:, 0], u[:-2])
    fits = [
        pn.NeuralODE(
            hidden=(3,), structure="network", max_iter=5, input_kind="previous", input_delay=0.4 * x, random_state=0
        )
        for x in (1.0, unit)
    ]
    one, other = (fit.fit(T[:60] * x, y[:60], u=u[:60]).theta_ for fit, x in zip(fits, (1.0, unit), strict=True))
    np.testing.assert_allclose(other, one, atol=1e-6)


@pytest.mark.filterwarnings("ignore:the data determine the network loosely")  # the tanks, by 7 times the noise
@pytest.mark.parametrize("field, seed", [(duffing, 5), (tanks, 6)])
def test_simulation_of_an_unobserved_state_from_a_warmup(field, seed):
    u, _, y = measured(field, seed)
    model = pn.NeuralODE(**QUICK, augment=1, input_kind="previous")
    model.fit(T, y[:, 1:] if field is tanks else y[:, :1], u=u)
    column = slice(1, 2) if field is tanks else slice(0, 1)
    v, truth, z = measured(field, seed + 10, start=(0.9, 0.6))
    warm = (T[:40], z[:40, column], v[:40])
    path = model.simulate((T[40:], v[40:]), warmup=warm)
    assert path.shape == (200, 1)
    assert np.sqrt(np.mean((path - truth[40:, column]) ** 2)) < 0.04
    whole = model.simulate((T, v), warmup=(T[:40], z[:40, column]))  # the inputs reach back to the warm-up
    assert np.allclose(whole[40:], path, atol=1e-6)
    assert model.simulate((T, v), warmup=warm, unobserved=True).shape == (240, 2)
    two = model.simulate([(T[40:], v[40:]), (T[60:], v[60:])], warmup=[warm, (T[:60], z[:60, column], v[:60])])
    assert len(two) == 2 and np.array_equal(two[0], path) and len(two[1]) == 180


def test_inputs_that_miss_between_warmup_and_experiment_are_named():
    u, _, y = measured(tanks, 7)
    model = pn.NeuralODE(**QUICK, augment=1, input_kind="previous").fit(T, y[:, 1:], u=u)
    warm = (T[:30], y[:30, 1:], u[:30])
    with pytest.warns(pn.SolveWarning, match=r"no control inputs are given for a stretch of 2\.\d*, .*held"):
        model.simulate((T[40:], u[40:]), warmup=warm)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pn.SolveWarning)
        model.simulate((T[30:], u[30:]), warmup=warm)


def test_the_state_after_a_warmup_is_the_least_squares_one():
    u, _, y = measured(duffing, 8)
    model = pn.NeuralODE(**QUICK, augment=1, input_kind="previous").fit(T, y[:, :1], u=u)
    found = model.initial_states([T[:60]], [y[:60, :1]], u=[u[:60]])[0]

    def misfit(start):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ((model.predict(T[:60], start, u=u[:60]) - y[:60, :1]) ** 2).sum()

    best = min(misfit(found + step) for step in np.random.default_rng(0).standard_normal((200, 2)) * [0.003, 0.05])
    assert misfit(found) < best * 1.01


def test_several_experiments_are_learned_together():
    parts = [measured(tanks, seed) for seed in (20, 21, 22)]
    model = pn.NeuralODE(**QUICK, augment=1).fit([T] * 3, [y[:, 1:] for *_, y in parts], u=[u for u, *_ in parts])
    u, truth, y = measured(tanks, 23)
    path = model.simulate((T, u), warmup=(T[:30], y[:30, 1:]))
    assert np.sqrt(np.mean((path - truth[:, 1:]) ** 2)) < 0.02


@pytest.mark.parametrize("average", ["mean", "median"])
def test_ensembles_with_unobserved_states_simulate(average):
    u, _, y = measured(duffing, 9)
    model = pn.NeuralODE(**QUICK, augment=1, input_kind="previous", n_estimators=3, average=average).fit(T, y[:, :1], u=u)
    v, truth, z = measured(duffing, 19)
    warm = (T[:40], z[:40, :1])
    path, std = model.simulate((T, v), warm, return_std=True)
    each = [member.simulate((T, v), warm) for member in model.estimators_]
    assert np.allclose(path, getattr(np, average)(each, axis=0), atol=1e-7) and std.shape == path.shape
    own = [member.simulate((T, v), warm, return_std=True)[1] for member in model.estimators_]
    assert (std**2 > getattr(np, average)(own, axis=0) ** 2).mean() > 0.9  # how they differ is on top
    held = model.simulate((T, v), warm, interval=0.9)
    assert np.mean((held.lower <= truth[:, :1]) & (truth[:, :1] <= held.upper)) > 0.6
    assert np.sqrt(np.mean((path - truth[:, :1]) ** 2)) < 0.1
    again = type(model).from_content(model.to_content())
    assert np.array_equal(again.simulate((T, v), warm), model.simulate((T, v), warm))
    with pytest.raises(ValueError, match=r"simulate\(u, warmup="):
        model.predict(T, [0.5, 0.2], u=v)


def test_an_ensemble_leaves_out_members_that_leave_the_data(monkeypatch):
    u, _, y = measured(duffing, 9)
    from pynode.models.trajectories import far_field

    calls = []

    def strays(model):
        calls.append(model)
        return (0,) if len(calls) == 2 else ()

    monkeypatch.setattr(far_field, "strays", strays)
    with pytest.warns(FitWarning) as said:
        model = pn.NeuralODE(**QUICK, input_kind="previous", n_estimators=3).fit(T, y, u=u)
    assert any("1 of 3 members" in str(x.message) for x in said)
    assert len(model.estimators_) == 2 and any("1 of 3 members" in words for words in model.report_["warnings"])


def test_a_median_bears_a_member_that_explodes():
    from pynode.models.trajectories.ensemble import combined

    good = np.ones((4, 1))
    found = combined([good, 1.1 * good, np.full((4, 1), np.nan)], False, "median")
    assert np.allclose(found, 1.05)
    lost = combined([good, np.full((4, 1), np.nan), np.full((4, 1), np.nan)], False, "median")
    assert np.isnan(lost).all()
    middle, std = combined([(good, 0 * good), (2 * good, 0 * good), (1e9 * good, 0 * good)], True, "median")
    assert np.allclose(middle, 2.0) and np.allclose(std, 1.4826)


def test_models_without_inputs_are_simulated_at_times():
    @pn.field(state=2)
    def circle(t, y):
        return [y[1], -y[0]]

    t = np.linspace(0, 10, 101)
    y = pn.solve(circle, [1.0, 0.0], t).y
    model = pn.NeuralODE(hidden=(), augment=1, random_state=0).fit(t, y[:, :1])
    path = model.simulate(t=t[30:], warmup=(t[:31], y[:31, :1]))
    reference = scipy.integrate.solve_ivp(lambda t, y: [y[1], -y[0]], (0, 10), [1.0, 0.0], t_eval=t, rtol=1e-9, atol=1e-9)
    assert np.abs(path[:, 0] - reference.y[0, 30:]).max() < 1e-3


@pytest.mark.filterwarnings("ignore:the data determine the network loosely")
def test_what_cannot_be_simulated_is_said_in_words():
    u, _, y = measured(duffing, 9)
    model = pn.NeuralODE(**QUICK, input_kind="previous").fit(T[:80], y[:80], u=u[:80])
    warm = (T[:20], y[:20], u[:20])
    for given, words in [
        (((T, u),), "the start is unknown: give warmup"),
        (((T[30:], u[30:]), (T[:20], y[:20])), "begin at 6, the warm-up at 0"),
        (((T, u), (T[10:20], y[10:20])), "before the warm-up at 2"),
        ((u, warm), "give t, its times"),
        ((None, warm), "1 control input: give u"),
        (((T, u), (T[:20], y[:19])), "y has shape"),
        (((T, u), (T[:20], np.full((20, 2), np.nan))), "nothing is observed"),
        (((T, np.ones((240, 2))), warm), "1 column"),
        (([(T, u)] * 2, [warm]), "of one length"),
    ]:
        with pytest.raises(ValueError, match=words.replace("(", r"\(")):
            model.simulate(*given)
    with pytest.raises(ValueError, match="not both"):
        model.simulate((T, u), warm, y0=[0.0, 0.0])
    for asked, words in [
        ({"interval": 0.9, "return_std": True}, "ask for one of them"),
        ({"interval": 0.9, "unobserved": True}, "ask for one of them"),
        ({"interval": 1.5}, "interval=1.5"),
        ({"interval": 0.9, "kind": "median"}, "kind='median'"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.simulate((T, u), warm, **asked)
    assert model.simulate((T, u), y0=[0.5, 0.2]).shape == (240, 2)


@pytest.mark.parametrize("delay", [-1.0, "long", [0.1, np.inf], True])
def test_delays_that_make_no_sense_are_refused(delay):
    with pytest.raises(ValueError, match="input_delay="):
        pn.NeuralODE(input_delay=delay).fit(T, steps_of(0), u=steps_of(1))


def test_delays_without_inputs_and_of_a_wrong_number_are_refused():
    with pytest.raises(ValueError, match="needs control inputs"):
        pn.NeuralODE(input_delay=1.0).fit(T, steps_of(0))
    with pytest.raises(ValueError, match="2 numbers for 1 control"):
        pn.NeuralODE(input_delay=(1.0, 2.0)).fit(T, steps_of(0), u=steps_of(1))


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # two iterations explain nothing
@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (0.0, r"known on \[0, 356400\], but its times reach from 0 to 432000"),
        (
            np.datetime64("2024-03-01"),
            r"known on \[2024-03-01, 2024-03-05 03:00\], but its times reach from 2024-03-01 to 2024-03-06",
        ),
    ],
)
def test_times_without_inputs_are_told_as_the_user_wrote_them(origin, words, tmp_path, capsys):
    hours = np.arange(100)
    t = origin + hours * (3600.0 if origin == 0.0 else np.timedelta64(1, "h"))
    u = np.sin(hours / 7.0)[:, None]
    model = pn.NeuralODE(hidden=(2,), max_iter=2, random_state=0, input_delay=0.0).fit(t, np.cos(hours / 9.0), u=u)
    late = t[0] + 120 * (t[1] - t[0])
    with pytest.raises(ValueError, match=words):
        model.predict([t[0], late])
    signal = pn.Signal(model.data_.t[0], u)
    with pytest.raises(ValueError, match=words):
        model.predict([t[0], late], [1.0], u=signal)
    with pytest.raises(ValueError, match=words):
        model.vjp([t[0], late], [1.0], np.ones((2, 1)), u=signal)
    model.save(tmp_path / "model.npz")
    assert main(["predict", str(tmp_path / "model.npz"), "--t", f"{t[0]},{late}"]) != 0
    said = capsys.readouterr().err
    assert "are known until" in said and "--inputs FILE" in said


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # two iterations explain nothing
def test_a_delayed_input_is_known_for_longer_by_the_delay():
    t = np.arange(100) * 3600.0
    model = pn.NeuralODE(hidden=(2,), max_iter=2, random_state=0, input_delay=7200.0).fit(
        t, np.cos(t / 3e4), u=np.sin(t / 2e4)
    )
    assert np.isfinite(model.predict(t[-1:] + 7200.0)).all()
    with pytest.raises(ValueError, match=r"known on \[0, 363600\], but its times reach from 0 to 370800"):
        model.predict(t[-1:] + 14400.0)
