"""Control inputs as they are given: with times of their own, dates, labels; and those that cannot be meant so."""

import numpy as np
import pandas as pd
import pytest

import pynode as pn
from pynode.fit import FitWarning
from pynode.models.trajectories.visits import warn_of_far

pytestmark = pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations explain little

T = 0.2 * np.arange(60)
QUICK = {"hidden": (3,), "structure": "network", "max_iter": 5, "random_state": 0}
START = np.datetime64("2024-03-01T00:00:00")


@pn.field(state=2, inputs=2)
def pushed(t, y, u):
    return [y[1] + u[1], u[0] - y[0] - 0.5 * y[1]]


def experiment(seed, kind="previous"):
    """(inputs, states)."""
    u = np.repeat(np.random.default_rng(seed).standard_normal((20, 2)), 3, axis=0)
    return u, pn.solve(pushed, [0.5, 0.2], T, inputs=(T, u, kind)).y


@pytest.fixture(scope="module")
def held():
    u, y = experiment(0)
    return pn.NeuralODE(**QUICK, input_kind="previous").fit(T, y, u=u)


def test_times_and_values_may_be_lists(held):
    u, y = experiment(1)
    path = held.predict(T, y[0], u=u)
    assert np.array_equal(held.predict(T.tolist(), y[0].tolist(), u=u.tolist()), path)


def test_values_at_falling_times_have_times_of_their_own(held):
    u, y = experiment(1)
    path = held.predict(T[::-1], y[-1], u=(T, u))
    assert path.shape == y.shape
    with pytest.raises(ValueError, match=r"the times of u of trajectory 0 fall: give \(times, values\)"):
        held.predict(T[::-1], y[-1], u=u[::-1])


def test_values_with_times_go_between_them_as_those_of_the_fit_did(held):
    u, y = experiment(1)
    path = held.predict(T, y[0], u=u)
    assert not np.allclose(held.predict(T, y[0], u=(T, u, "linear")), path)
    assert np.array_equal(held.predict(T, y[0], u=(T, u)), path)
    assert np.array_equal(held.simulate((T, u), y0=y[0]), path)
    assert held.score(T, y, u=(T, u)) == held.score(T, y, u=u)
    found = held.simulate((T[20:], u[20:]), warmup=(T[:20], y[:20], (T[:20], u[:20])))
    assert np.array_equal(found, held.simulate((T[20:], u[20:]), warmup=(T[:20], y[:20], u[:20])))
    u, y = experiment(0)
    assert np.array_equal(pn.NeuralODE(**QUICK, input_kind="previous").fit(T, y, u=(T, u)).theta_, held.theta_)


@pytest.mark.parametrize("options", [{}, {"initial": [0.5, 0.2]}])
def test_a_known_equation_takes_plain_values_as_the_fit_did(options):
    @pn.field(state=2, inputs=2, theta={"k": pn.positive(1.5)})
    def known(t, y, th, u):
        return [y[1] + u[1], u[0] - th.k * y[0] - 0.5 * y[1]]

    u, y = experiment(0)
    model = pn.NeuralODE(field=known, input_kind="previous", random_state=0, **options).fit(T, y, u=u)
    v, z = experiment(1)
    np.testing.assert_allclose(model.predict(T, z[0], u=v), z, atol=1e-4)
    np.testing.assert_allclose(model.predict(T, z[0], u=(T, v)), z, atol=1e-4)


def test_times_of_inputs_may_be_dates():
    def dates(t):
        return START + np.rint(t * 3600).astype(int) * np.timedelta64(1, "s")

    u, y = experiment(0)
    model = pn.NeuralODE(**QUICK).fit(dates(T), y, u=(dates(T), u, "previous"))
    t = model.clock_.to_numbers(dates(T))
    path = model.predict(t, y[0], u=(t, u, "previous"))
    given = (dates(T), u, "previous")
    assert np.array_equal(model.predict(dates(T), y[0], u=given), path)
    assert np.array_equal(model.simulate(given, y0=y[0]), path)
    assert model.score(dates(T), y, u=given) == model.score(t, y, u=(t, u, "previous"))
    late = (dates(T[20:]), u[20:])
    warm = (dates(T[:20]), y[:20], (dates(T[:20]), u[:20]))
    assert np.array_equal(model.simulate(late, warm), model.simulate((t[20:], u[20:]), (t[:20], y[:20], u[:20])))
    with pytest.raises(ValueError, match="begin at 2024-03-01, before the warm-up at 2024-03-01 02:00"):
        model.simulate(given, (dates(T[10:20]), y[10:20]))


def test_a_rollout_that_leaves_the_data_says_when_in_dates():
    dates = START + np.arange(60) * np.timedelta64(1, "h")
    model = pn.NeuralODE(**QUICK).fit(dates, np.exp(-0.1 * np.arange(60.0)))
    with pytest.warns(pn.ExtrapolationWarning, match="y1 is 99 at 2024-03-01 01:00, beyond its range"):
        warn_of_far(model, np.arange(2.0), np.array([[0.5], [99.0]]))


def test_a_fit_to_constants_keeps_the_kind_that_was_given():
    u, y = experiment(0)
    model = pn.NeuralODE(**QUICK, input_kind="previous").fit([T, T], [y, 0.9 * y], u=np.array([[1.0, 2.0], [0.5, 1.0]]))
    assert np.array_equal(model.predict(T, y[0], u=u), model.predict(T, y[0], u=(T, u, "previous")))


def test_labelled_inputs_go_by_name():
    u, y = experiment(0)
    frame = pd.DataFrame(u, columns=["heat", "pump"])
    other = frame[["pump", "heat"]]
    model = pn.NeuralODE(**QUICK, input_kind="linear").fit([T, T], [y, y], u=[frame, other])
    assert model.columns_["input"] == ("heat", "pump")
    path = model.predict(T, y[0], u=u)
    assert np.array_equal(model.predict(T, y[0], u=other), path)
    assert np.array_equal(model.simulate((T, other), y0=y[0]), path)
    assert model.score([T], [y], u=[other]) == model.score([T], [y], u=[u])
    given = pn.NeuralODE(**QUICK, input_kind="linear").fit([T, T], [y, y], u=([T, T], [frame, other]))
    assert np.array_equal(given.theta_, model.theta_)
    with pytest.raises(ValueError, match="labelled a, b, but its entries are heat, pump"):
        model.predict(T, y[0], u=frame.set_axis(["a", "b"], axis=1))


def test_inputs_with_gaps_or_too_short_are_refused_in_the_units_of_the_user(held):
    u, y = experiment(0)
    gap = np.where(T[:, None] == T[5], np.nan, u)
    fresh = pn.NeuralODE(**QUICK)
    for call in (
        lambda signal: fresh.fit(T, y, u=signal),
        lambda signal: held.predict(T, y[0], u=signal),
        lambda signal: held.initial_states(T, y, u=signal),
        lambda signal: held.simulate(signal, (T, y), t=T),
    ):
        with pytest.raises(ValueError, match=r"sample 0 are not finite everywhere, input 0 at its knot 5 \(t = 1\) is nan"):
            call(pn.Signal(T, gap))
        with pytest.raises(ValueError, match=r"known on \[0, 3.8\d*\], but its times reach from 0 to 11.8"):
            call(pn.Signal(T[:20], u[:20]))


def test_constants_of_a_simulation_hold_in_its_warmup_too(held):
    u, y = experiment(1)
    constant = pn.Signal(None, [1.0, 0.5], "constant")
    ones = np.tile([1.0, 0.5], (20, 1))
    path = held.simulate(constant, (T[:20], y[:20]), t=T)
    for own in (ones, (T[:20], ones), constant):
        assert np.array_equal(held.simulate(constant, (T[:20], y[:20], own), t=T), path)
    for own in (u[:20], (T[:20], u[:20]), pn.Signal(None, [1.0, -0.5], "constant")):
        with pytest.raises(ValueError, match="inputs of the warm-up are not the constants of u"):
            held.simulate(constant, (T[:20], y[:20], own), t=T)


def test_tables_and_trajectories_are_taken_as_arrays_are(held, tmp_path):
    u, y = experiment(0)
    frame = pd.DataFrame({"t": T, "x": y[:, 0], "v": y[:, 1], "heat": u[:, 0], "pump": u[:, 1]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    columns = {"time": "t", "state": ["x", "v"], "input": ["heat", "pump"]}
    tables = [
        pn.Trajectories.from_arrays(T, y, u=u),
        pn.Trajectories.from_frame(frame, **columns),
        pn.read_csv(tmp_path / "data.csv", **columns),
    ]
    for data in tables:
        model = pn.NeuralODE(**QUICK, input_kind="previous").fit(data)
        assert model.report_["inputs"]["kind"] == "previous"
        np.testing.assert_allclose(model.theta_, held.theta_, rtol=1e-9)
        assert held.score(data) == pytest.approx(held.score(T, y, u=u), rel=1e-12)
    given = pn.Trajectories.from_arrays(T, y, u=(T, u, "linear"))
    assert pn.NeuralODE(**QUICK, input_kind="previous").fit(given).report_["inputs"]["kind"] == "linear"


def test_an_equation_tells_by_how_much_inputs_are_late():
    @pn.field(state=2, inputs=2, theta={"k": pn.positive(1.5)})
    def known(t, y, th, u):
        return [y[1] + u[1], th.k * u[0] - y[0] - 0.5 * y[1]]

    u, y = experiment(0)
    model = pn.NeuralODE(field=known, input_kind="previous", input_delay=(0.4, 0.0), random_state=0).fit(T, y, u=u)
    first, second = model.equation().right
    assert first == "y2 + u2" and "u1(t - 0.4)" in second and "u1(t - 0.4)" in model.equation().latex


def test_an_experiment_may_have_a_single_reading(held):
    u, y = experiment(0)
    two = pn.NeuralODE(**QUICK, input_kind="previous").fit([T, T[:1]], [y, y[:1]], u=[u, u[:1]])
    assert two.report_["inputs"]["kind"] == "previous" and two.predict(T, trajectory=0).shape == (60, 2)


def test_forecasts_of_unequal_lengths_have_inputs_of_their_own():
    u, y = experiment(0)
    model = pn.NeuralODE(**QUICK, input_kind="previous").fit([T, T[:40]], [y, y[:40]], u=[u, u[:40]])
    steps = [T[-1] + T[1:4], T[39] + T[1:3]]
    new = [np.ones((3, 2)), np.zeros((2, 2))]
    first, second = model.forecast(steps, u=new)
    assert np.allclose(first, model.forecast(3, u=np.ones((3, 2)).tolist())[0], rtol=1e-9)
    assert np.allclose(second, model.forecast(2, u=np.zeros((2, 2)))[1], rtol=1e-9)
    assert model.forecast(2, u=([0.0, 20.0], np.ones((2, 2))))[0].shape == (2, 2)


def test_a_delay_beyond_the_data_is_refused():
    u, y = experiment(0)
    with pytest.raises(ValueError, match=r"input_delay=100\.0 is 11\.8 or more: nothing but first values would take effect"):
        pn.NeuralODE(**QUICK, input_delay=100.0).fit(T, y, u=u)


@pytest.mark.parametrize("kind", ["previous", "linear"])
def test_a_warmup_beyond_the_inputs_has_its_own(held, kind):
    u, y = experiment(1)
    whole = held.simulate((T, u, kind), (T[:40], y[:40]), t=T[:10])
    given = (T[:40], y[:40], (T[:40], u[:40], kind))
    np.testing.assert_allclose(held.simulate((T[:10], u[:10], kind), given), whole, atol=1e-7)
    np.testing.assert_allclose(held.simulate((T[5:10], u[5:10], kind), given), whole[5:], atol=1e-7)


def test_warmups_may_be_lists(held):
    u, y = experiment(1)
    path = held.simulate((T, u), (T[:20], y[:20]))
    for found in held.simulate([(T, u)] * 2, [[T[:20], y[:20]], [T[:20].tolist(), y[:20].tolist()]]):
        assert np.array_equal(found, path)


def test_new_data_need_no_columns_for_states_that_nobody_read():
    @pn.field(state={"pos": None, "vel": None}, inputs=2, theta={"k": pn.positive(1.2)})
    def known(t, y, th, u):
        return [y[1] + u[1], u[0] - th.k * y[0] - 0.5 * y[1]]

    u, y = experiment(0)
    frame = pd.DataFrame({"t": T, "pos": y[:, 0], "heat": u[:, 0], "pump": u[:, 1]})
    model = pn.NeuralODE(field=known, input_kind="previous", input_delay="auto", random_state=0)
    model.fit(frame, time="t", state="pos", input=["heat", "pump"])
    whole = np.column_stack([y[:, 0], np.full(60, np.nan)])
    score, start = model.score(T, whole, u=u), model.initial_states(T, whole, u=u)
    path = model.simulate((T, u), (T[:20], whole[:20]))
    assert model.score(frame) == model.score(T, y[:, :1], u=u) == model.score(T, frame[["pos"]], u=u) == score
    assert np.array_equal(model.initial_states(frame), start)
    for warm in (y[:20, 0], y[:20, :1], frame[["pos"]][:20]):
        assert np.array_equal(model.simulate((T, u), (T[:20], warm)), path)
    assert model.simulate((T, u), (T[0], y[0, 0])).shape == (60, 2)
    with pytest.raises(ValueError, match="Y is labelled vel, but its entries are pos"):
        model.score(T, pd.DataFrame({"vel": y[:, 1]}), u=u)


def test_a_warmup_of_one_reading_may_be_a_row(held):
    u, y = experiment(1)
    assert np.array_equal(held.simulate((T, u), (T[0], y[0])), held.simulate((T, u), (T[:1], y[:1])))


def test_members_with_unobserved_states_share_none():
    u, y = experiment(0)
    model = pn.NeuralODE(**QUICK, augment=1, n_estimators=2, input_kind="previous").fit(T, y[:, :1], u=u)
    with pytest.raises(ValueError, match="so no y0 fits all of them"):
        model.leaves(T, [0.5, 0.2], u=u)
    with pytest.raises(ValueError, match="members of an ensemble have unobserved states of their own"):
        model.predict(T, unobserved=True)


def test_a_choice_that_no_trial_could_make_is_told():
    u, y = experiment(0)
    with pytest.warns(FitWarning, match="no trial fit could tell how control inputs go between their times"):
        pn.NeuralODE(field=pushed, random_state=0).fit(T, y, u=u)
    with pytest.raises(ValueError, match="process_noise=True needs levenberg-marquardt, and that a traced field with param"):
        pn.NeuralODE(field=pushed, process_noise=True, random_state=0).fit(T, y, u=u)


def test_a_forecast_reaches_as_far_as_late_inputs_do():
    u, y = experiment(0)
    model = pn.NeuralODE(**QUICK, input_kind="linear", input_delay=0.4).fit(T, y, u=u)
    assert model.forecast(2).shape == (2, 2)
    with pytest.raises(ValueError, match="the control inputs of the data end before the forecast does"):
        model.forecast(3)
