"""Series and data frames of pandas: what is labelled by names goes by them, as a dict does; all else by position."""

import subprocess
import sys

import numpy as np
import pytest

import pynode as pn

pd = pytest.importorskip("pandas")

T = [0.0, 0.5, 1.0]
Y0 = np.array([1.0, 5.0])
THETA = np.array([1.5, 2.0])
BATCH = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 0.5]])


@pn.field(state=["prey", "pred"], theta={"a": 1.5, "b": 2.0})
def hunt(t, y, th):
    return [th.a * y[0] - y[0] * y[1], y[0] * y[1] - th.b * y[1]]


def swapped(x, names=("prey", "pred")):
    """A Series or data frame of x whose entries stand the other way round."""
    kind = pd.DataFrame(x, columns=list(names)) if np.ndim(x) == 2 else pd.Series(x, index=list(names))
    return kind[list(names)[::-1]]


CALLS = {
    "solve": lambda y0, th: pn.solve(hunt, y0, T, th).y,
    "solve, events": lambda y0, th: pn.solve(hunt, y0, T, th, events=pn.event(lambda t, y: y[0] - 50)).y,
    "loss_and_grad": lambda y0, th: pn.loss_and_grad(hunt, y0, T, th, np.zeros((*np.shape(y0)[:-1], 3, 2))).theta,
    "Objective": lambda y0, th: pn.Objective(hunt, y0, T, np.zeros((*np.shape(y0)[:-1], 3, 2)))(th)[1],
    "sensitivities": lambda y0, th: pn.sensitivities(hunt, y0, T, th).y0,
    "system": lambda y0, th: pn.solve(pn.System(hunt), y0, T, th).y,
    "field": lambda y0, th: hunt(0.0, y0, th),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("y0", [Y0, BATCH], ids=["one", "batch"])
def test_names_say_what_is_what(call, y0):
    plain = call(y0, THETA)
    for _ in range(2):  # what the first call found out must not serve the second by position
        np.testing.assert_array_equal(call(swapped(y0), swapped(THETA, "ab")), plain)
    by_position = pd.DataFrame(y0) if y0.ndim == 2 else pd.Series(y0)
    np.testing.assert_array_equal(call(by_position, pd.Series(THETA)), plain)


def test_other_names_are_refused():
    for y0 in (
        pd.Series({"fox": 1.0, "hare": 5.0}),
        pd.Series({"prey": 1.0, "pred": 5.0, "t": 0.0}),
        pd.Series([1.0, 5.0], ["prey"] * 2),
    ):
        with pytest.raises(ValueError, match=r"y0 is labelled .*, but its entries are prey, pred: .* y0\.to_numpy\(\)"):
            pn.solve(hunt, y0, T, THETA)
    with pytest.raises(ValueError, match="theta is labelled a, c, but its entries are a, b"):
        pn.solve(hunt, Y0, T, pd.Series({"a": 1.5, "c": 2.0}))


def test_states_without_names_go_by_position():
    still = pn.field(state=2)(lambda t, y: [0.0, 0.0])
    assert pn.solve(still, pd.Series({"b": 1.0, "a": 2.0}), T).y[0].tolist() == [1.0, 2.0]


def test_thetas_of_samples_and_entries_of_vectors():
    thetas = np.array([[1.5, 2.0], [1.0, 0.5], [2.0, 1.0]])
    np.testing.assert_array_equal(pn.solve(hunt, BATCH, T, swapped(thetas, "ab")).y, pn.solve(hunt, BATCH, T, thetas).y)
    vector = pn.field(state=1, theta={"k": (2,), "c": 3.0})(lambda t, y, th: [th.k[0] * y[0] + th.k[1] - th.c])
    labelled = pd.Series({"c": 3.0, "k[1]": 2.0, "k[0]": 1.0})
    assert vector(0.0, [1.0], labelled) == vector(0.0, [1.0], [1.0, 2.0, 3.0])
    prefixed = pd.Series({"field.b": 2.0, "field.a": 1.5})
    assert pn.solve(pn.System(hunt), Y0, T, prefixed).theta.tolist() == [1.5, 2.0]


def test_targets_and_weights():
    target, weight = np.arange(6.0).reshape(3, 2), np.array([[1.0, 2.0], [3.0, 0.5], [1.0, 1.0]])
    plain = pn.loss_and_grad(hunt, Y0, T, THETA, target, weight=weight)
    named = pn.loss_and_grad(hunt, Y0, T, THETA, swapped(target), weight=swapped(weight))
    assert named.loss == plain.loss
    ragged = pn.loss_and_grad(hunt, [Y0], [T], THETA, [target])
    assert pn.loss_and_grad(hunt, [swapped(Y0)], [T], THETA, [swapped(target)]).loss == ragged.loss


def test_consistent_states():
    total = pn.field(state=["x", "rest"])(lambda t, y: [-y[0], y[0] + y[1] - 1.0])
    start = pn.consistent_state(total, pd.Series({"rest": 9.0, "x": 0.25}), mass=[1.0, 0.0])
    assert start.tolist() == [0.25, 0.75]


def test_optimisers_know_no_names():
    objective = pn.Objective(hunt, Y0, T, np.ones((3, 2)))
    start = swapped(THETA, "ab")
    with pytest.raises(ValueError, match=r"theta0 is labelled b, a, .*field\.flatten\(theta0\)"):
        pn.fit.lbfgs(objective, start)
    assert hunt.flatten(start).tolist() == THETA.tolist()


def test_a_model_takes_states_by_name():
    t = np.linspace(0.0, 2.0, 30)
    table = pd.DataFrame({"fast": np.exp(-t), "slow": 2.0 * np.exp(-0.3 * t)})
    model = pn.NeuralODE(hidden=(), random_state=0).fit(t, table)
    assert model.names_ == ("fast", "slow")
    assert model.score(t, table[["slow", "fast"]]) == model.score(t, table.to_numpy()) > 0.999
    y0 = np.array([1.0, 2.0])
    other = swapped(y0, ("fast", "slow"))
    np.testing.assert_array_equal(model.predict(t, other), model.predict(t, y0))
    np.testing.assert_array_equal(model.predict(t, other, interval=0.9).lower, model.predict(t, y0, interval=0.9).lower)
    np.testing.assert_array_equal(model.predict(t, swapped(y0[None], ("fast", "slow"))), model.predict(t, y0[None]))
    np.testing.assert_array_equal(model.derivative(other), model.derivative(y0))
    with pytest.raises(ValueError, match="y0 is labelled x, y, but its entries are fast, slow"):
        model.predict(t, pd.Series({"x": 1.0, "y": 2.0}))


def test_a_model_of_ones_own_equation_finds_its_columns():
    t = np.linspace(0.0, 1.0, 20)
    y = pn.solve(hunt, Y0, t, THETA, rtol=1e-9, atol=1e-9).y
    model = pn.NeuralODE(field=hunt, random_state=0).fit(t, swapped(y))
    np.testing.assert_allclose(model.theta_, THETA, rtol=1e-3)
    np.testing.assert_array_equal(model.predict(t, swapped(Y0)), model.predict(t, Y0))


def test_default_names_are_nobodys():
    t = np.linspace(0.0, 2.0, 30)
    y = np.stack([np.exp(-t), 2.0 * np.exp(-0.3 * t)], axis=1)
    model = pn.NeuralODE(hidden=(), random_state=0).fit(t, y)
    np.testing.assert_array_equal(model.predict(t, pd.Series({"b": 1.0, "a": 2.0})), model.predict(t, [1.0, 2.0]))
    turned = pd.Series({"y2": 2.0, "y1": 1.0})  # what predictions are called: these labels are names
    np.testing.assert_array_equal(model.predict(t, turned), model.predict(t, [1.0, 2.0]))


def test_tolerances_and_masses_go_by_position_and_say_so():
    labelled = pd.Series({"pred": 1e-3, "prey": 1e-8})
    with pytest.raises(ValueError, match=r"atol is labelled pred, prey, but goes by position.*atol\.to_numpy\(\)"):
        pn.solve(hunt, Y0, T, THETA, atol=labelled)
    with pytest.raises(ValueError, match="mass is labelled pred, prey"):
        pn.solve(hunt, Y0, T, THETA, method="rodas5p", mass=labelled)


def test_a_page_takes_states_and_draws_by_name():
    draws = np.tile(THETA, (3, 1)) + np.arange(3)[:, None]
    expected = pn.export.html(hunt, THETA, y0=Y0, t=(0, 1), draws=draws)
    found = pn.export.html(hunt, THETA, y0=swapped(Y0), t=(0, 1), draws=swapped(draws, ("a", "b")))
    assert found == expected


def test_control_inputs_go_by_the_names_of_their_columns():
    t = np.linspace(0.0, 2.0, 30)
    u = pd.DataFrame({"pump": np.sin(t), "valve": np.cos(t)})
    table = u.assign(t=t, x=np.exp(-t))
    model = pn.NeuralODE(structure="network", hidden=(2,), max_iter=3, random_state=0)
    model.fit(table, time="t", state="x", input=["pump", "valve"])
    other = u[["valve", "pump"]]
    for call in (
        lambda u: model.predict(t, [1.0], u=(t, u)),
        lambda u: model.predict(t, [1.0], u=(t, u), interval=0.9).lower,
        lambda u: model.predict(t, u=(t, u)),
        lambda u: model.predict(t, [1.0], u=[u]),
        lambda u: model.simulate(u=(t, u), y0=[1.0]),
        lambda u: model.vjp(t, [1.0], np.ones((30, 1)), u=(t, u), wrt="y0").y0,
        lambda u: model.score(t, table[["x"]], u=u),
        lambda u: model.derivative([1.0], u=u.iloc[3]),
    ):
        np.testing.assert_array_equal(call(other), call(u))
    np.testing.assert_array_equal(model.predict(t, [1.0], u=(t, other)), model.predict(t, [1.0], u=(t, u.to_numpy())))
    with pytest.raises(ValueError, match="u is labelled tap, valve, but its entries are pump, valve"):
        model.predict(t, [1.0], u=(t, u.rename(columns={"pump": "tap"})))


def test_the_package_imports_no_pandas():
    solve = "pn.solve(pn.mlp(1, (2,)), [1.0], [0.0, 1.0], [0.0] * 7)"
    code = f"import sys, pynode as pn; {solve}; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
