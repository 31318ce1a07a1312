"""structure=: equations of few terms are found where there are some, and networks kept where there are none."""

import copy
import warnings

import numpy as np
import pytest
from printed_terms import terms_of

import pynode as pn
from pynode import NeuralODE
from pynode.data import files
from pynode.models.trajectories.equations.structure import EquationFit
from pynode.training.curriculum import FitWarning
from pynode.training.equations.saturation import bent_equations
from pynode.training.smoothing import smooth
from pynode.training.windows import Data


def trajectories(f, starts, t, noise=0.0, seed=0, proportional=False):
    """(clean, noisy) states (B, T, d)."""
    field = pn.field(state=len(starts[0]))(f)
    clean = pn.solve(field, np.array(starts, dtype=float), t, rtol=1e-10, atol=1e-10).y
    rng = np.random.default_rng(seed)
    size = np.abs(clean) if proportional else clean.std(axis=(0, 1))
    return clean, clean + noise * size * rng.standard_normal(clean.shape)


SYSTEMS = {
    "Lotka-Volterra": (
        lambda t, y: [1.1 * y[0] - 0.4 * y[0] * y[1], 0.1 * y[0] * y[1] - 0.4 * y[1]],
        [[10.0, 5.0]],
        np.linspace(0, 25, 200),
        {"y1: y1": 1.1, "y1: y1*y2": -0.4, "y2: y2": -0.4, "y2: y1*y2": 0.1},
    ),
    "Lorenz": (
        lambda t, y: [10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]],
        [[1.0, 1.0, 20.0]],
        np.linspace(0, 5, 300),
        {"y1: y1": -10, "y1: y2": 10, "y2: y1": 28, "y2: y2": -1, "y2: y1*y3": -1, "y3: y3": -8 / 3, "y3: y1*y2": 1},
    ),
    "SIR": (
        lambda t, y: [-0.5 * y[0] * y[1], 0.5 * y[0] * y[1] - 0.3 * y[1]],
        [[3.0, 0.05]],
        np.linspace(0, 20, 150),
        {"y1: y1*y2": -0.5, "y2: y2": -0.3, "y2: y1*y2": 0.5},
    ),
    "pendulum": (
        lambda t, y: [y[1], -2.0 * np.sin(y[0]) - 0.2 * y[1]],
        [[2.5, 0.0]],
        np.linspace(0, 15, 250),
        {"y1: y2": 1.0, "y2: y2": -0.2, "y2: sin(y1)": -2.0},
    ),
    "drag": (
        lambda t, y: [y[1], -2.0 * y[0] - 0.4 * y[1] * np.abs(y[1])],
        [[2.0, 0.0]],
        np.linspace(0, 12, 250),
        {"y1: y2": 1.0, "y2: y1": -2.0, "y2: abs(y2)*y2": -0.4},
    ),
    "a spring harder on one side": (
        lambda t, y: [y[1], -2.5 * y[0] - 1.5 * np.abs(y[0]) - 0.1 * y[1]],
        [[2.0, 0.0]],
        np.linspace(0, 12, 250),
        {"y1: y2": 1.0, "y2: y1": -2.5, "y2: y2": -0.1, "y2: abs(y1)": -1.5},
    ),
    "tanks": (
        lambda t, y: [-0.8 * np.sqrt(y[0]), 0.8 * np.sqrt(y[0]) - 0.5 * np.sqrt(y[1])],
        [[6.0, 0.5]],
        np.linspace(0, 5, 250),
        {"y1: sqrt(max(y1, 0))": -0.8, "y2: sqrt(max(y1, 0))": 0.8, "y2: sqrt(max(y2, 0))": -0.5},
    ),
    "Gompertz": (
        lambda t, y: [0.9 * y[0] - 0.5 * y[0] * np.log(y[0])],
        [[0.1]],
        np.linspace(0, 8, 250),
        {"y1: y1": 0.9, "y1: log(y1)*y1": -0.5},
    ),
    "radiation": (
        lambda t, y: [0.6 + 0.5 * y[1] - 0.5 * y[0] ** 4, -1.2 * y[2], 1.2 * y[1]],
        [[1.6, 1.0, 0.0]],
        np.linspace(0, 15, 250),
        {"y1: 1": 0.6, "y1: y2": 0.5, "y1: y1^4": -0.5, "y2: y3": -1.2, "y3: y2": 1.2},
    ),
}


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("name", list(SYSTEMS))
def test_known_systems_give_their_terms(name, noise):
    f, starts, t, terms = SYSTEMS[name]
    clean, y = trajectories(f, starts, t, noise)
    model = NeuralODE(random_state=0).fit(t, y[0])
    found = terms_of(model)
    assert set(found) == set(terms)
    error = np.array([found[k] - terms[k] for k in terms])
    if not noise:
        np.testing.assert_allclose(error, 0, atol=1e-4)
        return
    deviation = np.sqrt(np.diag(model.covariance_)).max()
    assert np.abs(error).max() < 4 * deviation
    assert np.abs(error / np.array(list(terms.values()))).max() < 0.1
    np.testing.assert_allclose(list(model.report_["noise"].values()), 0.01 * clean.std(axis=(0, 1)), rtol=0.2)


def test_a_polynomial_is_not_taken_for_an_angle_times_its_sine():
    """The growth of a population that is lost below a threshold."""
    starts = np.random.default_rng(0).uniform(0.1, 3, (10, 1))
    kept = 0
    for seed in range(3):
        _, y = trajectories(
            lambda t, y: 0.5 * y * (y / 0.6 - 1) * (1 - y / 2), starts, np.linspace(0, 12, 61), noise=0.03, seed=seed
        )
        model = NeuralODE(random_state=0).fit(np.linspace(0, 12, 61), y)
        kept += set(terms_of(model)) == {"y1: y1", "y1: y1^2", "y1: y1^3"}
    assert kept >= 2


def test_exact_data_need_no_long_series():
    """A pendulum in a fluid: its few terms leave rounding alone, a series of ten more, which its shape makes no likelier."""
    t = np.linspace(0, 10, 512)
    y, _ = trajectories(lambda t, y: [y[1], -np.sin(y[0]) - y[1] - 0.07 * y[1] * np.cos(y[0])], [[0.45, 0.9]], t)
    model = NeuralODE(random_state=0).fit(t, y[0])
    assert set(terms_of(model)) == {"y1: y2", "y2: y2", "y2: sin(y1)", "y2: cos(y1)*y2"}


def test_velocities_are_exact_where_their_units_say_so():
    """dx/dt = v has no parameter; of a velocity in other units it has one."""
    f, starts, t, _ = SYSTEMS["pendulum"]
    _, y = trajectories(f, starts, t, 0.01)
    model = NeuralODE(random_state=0).fit(t, y[0], names=["x", "v"])
    assert str(model.equation()).splitlines()[0] == "dx/dt = v"
    assert "dx/dt = v is taken to be exact" in model.report_["message"]
    other = NeuralODE(random_state=0).fit(t, y[0] * [1.0, 1e3], names=["x", "v"])
    found = {p.name: other.theta_[p.offset] for p in other.field_.spec}
    assert found["x: v"] == pytest.approx(1e-3, rel=0.02)


def test_what_flows_is_not_lost_and_the_summary_says_so():
    """An epidemic: two numbers, and susceptible, infected and recovered are always as many."""
    t = np.linspace(0, 20, 101)
    starts = [[0.99, 0.01, 0.0], [0.8, 0.1, 0.1], [0.6, 0.05, 0.35]]
    _, y = trajectories(lambda t, y: [-0.8 * y[0] * y[1], 0.8 * y[0] * y[1] - 0.25 * y[1], 0.25 * y[1]], starts, t, 0.05)
    model = NeuralODE(random_state=0).fit(t, y, names=["S", "I", "R"])
    assert model.field_.n_params == 2
    assert np.abs(model.derivative(0.0, y[0]).sum(axis=-1)).max() < 1e-15
    words = " ".join(str(model.summary()).split())
    assert "S*I in dS/dt and S*I in dI/dt are taken to have the same number but for its sign (the data say -0." in words
    free = NeuralODE(random_state=0).fit(t, y * [1.0, 1.1, 0.9])  # counted with other errors: nothing flows
    assert free.field_.n_params == 4


def test_terms_that_smoothing_loses_are_found_along_the_network(monkeypatch):
    """Sparse records of a double well: not on smoothed data, but along the trajectories of the network."""
    monkeypatch.setattr(EquationFit, "bent", lambda self, known=False: [])  # which stand in for these terms until then
    rng = np.random.default_rng(3)
    t = np.linspace(0, 20, 61)
    _, y = trajectories(lambda t, y: [y[1], y[0] - y[0] ** 3 - 0.1 * y[1]], rng.uniform(-1.5, 1.5, (10, 2)), t, 0.05)
    model = NeuralODE(random_state=0).fit(t, y)
    assert set(terms_of(model)) == {"y1: y2", "y2: y1", "y2: y2", "y2: y1^3"}
    assert model.report_["log_evidence"] > NeuralODE(structure="network", random_state=0).fit(t, y).report_["log_evidence"]


def test_noise_that_grows_with_the_state():
    """Constant weights would not see what a small state says of its rates (Lotka-Volterra competition)."""
    _, y = trajectories(
        lambda t, y: [y[0] * (0.8 - 0.1 * y[0]), y[1] * (0.5 - 0.2 * y[0])],
        [[0.1, 2.0]],
        np.linspace(0, 10, 200),
        0.05,
        1,
        True,
    )
    model = NeuralODE(random_state=0).fit(np.linspace(0, 10, 200), y[0])
    found = {p.name: model.theta_[p.offset] for p in model.field_.spec}
    assert set(found) == {"y1: y1", "y1: y1^2", "y2: y2", "y2: y1*y2"}
    assert found["y2: y2"] == pytest.approx(0.5, rel=0.1)
    assert model.weight_ is None


def test_a_dense_linear_system_is_an_equation():
    """Of ten terms a state, more than any other equation may have."""
    rng = np.random.default_rng(7)
    d = 10
    A = rng.standard_normal((d, d)) / np.sqrt(d)
    A = A - A.T - 0.2 * np.eye(d)
    t = np.linspace(0, 5, 51)
    _, y = trajectories(lambda t, y: A @ y, rng.standard_normal((10, d)), t, 0.01)
    model = NeuralODE(random_state=0).fit(t, y)
    terms = terms_of(model)
    assert len(terms) > 8 * d
    found = np.array([[terms.get(f"y{i}: y{j}", 0.0) for j in range(1, d + 1)] for i in range(1, d + 1)])
    np.testing.assert_allclose(found, A, atol=0.02)
    start = rng.standard_normal(d)
    expected = pn.solve(pn.field(state=d)(lambda t, y: A @ y), start, t).y
    np.testing.assert_allclose(model.predict(t, start), expected, atol=0.05)


def test_few_terms_of_many_states_are_found():
    """Twelve states, whose products of three are too many to be tried: cubes of single ones are."""
    m = 6

    def ring(t, y):
        q = y[:m]
        springs = [0.3 * (q[i - 1] + q[(i + 1) % m] - 2 * q[i]) for i in range(m)]
        return [*y[m:], *(-q[i] - 0.3 * q[i] ** 3 - 0.1 * y[m + i] + springs[i] for i in range(m))]

    rng = np.random.default_rng(3)
    t = np.linspace(0, 6, 61)
    _, y = trajectories(ring, rng.standard_normal((12, 2 * m)), t, 0.02)
    model = NeuralODE(random_state=0).fit(t, y)
    assert set(terms_of(model)) >= {f"y{i + 7}: y{i + 1}^3" for i in range(m)}
    assert model.field_.n_params < 5 * 2 * m
    start = rng.standard_normal(2 * m)
    expected = pn.solve(pn.field(state=2 * m)(ring), start, t).y
    assert np.abs(model.predict(t, start) - expected).max() < 0.05


def test_what_has_no_such_form_keeps_its_network():
    def switch(t, y):
        return [y[1], -np.tanh(8 * (y[0] + y[1])) - 0.5 * y[0] + 0.5 * np.exp(-((y[0] - 0.5) ** 2) / 0.02)]

    rng = np.random.default_rng(0)
    t = np.linspace(0, 8, 100)
    _, y = trajectories(switch, rng.uniform(-2, 2, (6, 2)), t, 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        model = NeuralODE(random_state=0).fit(t, y)
        other = NeuralODE(structure="network", random_state=0).fit(t, y)
    assert model.field_.spec[0].name == "W0"
    np.testing.assert_array_equal(model.theta_, other.theta_)
    with pytest.raises(ValueError, match="is a network"):
        model.equation()


@pytest.fixture(scope="module")
def prey():
    f, starts, t, _ = SYSTEMS["Lotka-Volterra"]
    clean, y = trajectories(f, starts, t, 0.01)
    return t, clean[0], NeuralODE(random_state=0).fit(t, y[0], names=["prey", "predators"])


def test_equation_as_text_and_latex(prey):
    _, _, model = prey
    found = model.equation(2)
    assert str(found).splitlines()[0] == "dprey/dt      = 1.1*prey - 0.4*prey*predators"
    assert found.states == ("prey", "predators")
    assert (
        r"\frac{\mathrm{d} \mathrm{prey}}{\mathrm{d} t} &= 1.1 \mathrm{prey} - 0.4 \mathrm{prey} \mathrm{predators}"
        in found.latex
    )
    assert found.log_evidence == model.report_["log_evidence"]
    assert found._repr_latex_().startswith("$") and "4 terms" in found.words
    assert "prey: prey*predators" in str(model.summary())


def test_everything_else_works_on_it(prey, tmp_path):
    t, clean, model = prey
    other = NeuralODE(structure="network", random_state=0).fit(t, model.data_.y[0])
    assert model.report_["log_evidence"] > other.report_["log_evidence"] + 20
    mean, low, high = model.predict(t, clean[0], interval=0.9, kind="mean")
    assert np.abs(mean - clean).max() < 0.2 and (high >= low).all()
    model.save(tmp_path / "m.pynode")
    back = pn.load(tmp_path / "m.pynode")
    assert back.equation() == model.equation() and back.structure == "auto"
    np.testing.assert_array_equal(back.predict(t, clean[0]), model.predict(t, clean[0]))
    assert str(copy.deepcopy(model).equation()) == str(model.equation())


def test_a_file_whose_program_is_another_is_read_as_that(prey, tmp_path):
    """The text is made from the program: no file can show one equation and solve another. Damaged ones are refused."""
    _, _, model = prey
    content = model.to_content()
    content["theta"] = content["theta"][:-1]
    files.write(tmp_path / "bad.pynode", content)
    with pytest.raises(pn.ModelFileError):
        pn.load(tmp_path / "bad.pynode")
    content = model.to_content()
    content["params"] = content["params"] | {"structure": "cubist"}
    files.write(tmp_path / "worse.pynode", content)
    with pytest.raises(pn.ModelFileError):
        pn.load(tmp_path / "worse.pynode")


def test_inputs_are_among_the_terms():
    @pn.field(state=1, inputs=1)
    def tank(t, y, u):
        return [0.5 * u[0] - 0.8 * y[0]]

    t = np.linspace(0, 20, 150)
    u = np.sin(t)[:, None] + 0.5 * np.sin(2.7 * t)[:, None]
    y = pn.solve(tank, [1.0], t, inputs=(t, u)).y + 0.01 * np.random.default_rng(0).standard_normal((150, 1))
    model = NeuralODE(random_state=0).fit(t, y, u=u)
    found = {p.name: model.theta_[p.offset] for p in model.field_.spec}
    assert set(found) == {"y1: y1", "y1: u1"}
    assert found["y1: u1"] == pytest.approx(0.5, abs=0.02)


def test_own_fields_have_equations_too():
    @pn.field(state={"x": None, "v": None}, theta={"k": 2.0})
    def spring(t, y, th):
        return [y[1], -th.k * y[0]]

    t = np.linspace(0, 5, 40)
    y = np.stack([np.cos(t), -np.sin(t)], axis=1)
    model = NeuralODE(field=spring, random_state=0).fit(t, y)
    assert str(model.equation(3)) == "dx/dt = v\ndv/dt = -x"

    @pn.field(state=2, theta={"rest": pn.mlp(2, (4,), 1)})
    def mixed(t, y, th):
        return [y[1], th.rest(y)[0]]

    with pytest.raises(ValueError, match=r"contains a network \(rest\)"):
        NeuralODE(field=mixed, random_state=0, max_iter=3).fit(t, y).equation()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"structure": "sparse"}, "structure='sparse'"),
        ({"structure": "equation", "augment": 1}, "structure='equation' cannot be had: augment=1"),
        ({"structure": "equation", "log": True}, "cannot be had: log=True"),
        ({"structure": "equation", "noise": "student"}, "cannot be had: noise='student'"),
        ({"structure": "equation", "early_stopping": True}, "cannot be had: early_stopping"),
        ({"structure": "equation", "optimizer": "adam"}, "cannot be had: optimizer='adam'"),
        ({"structure": "equation", "n_estimators": 3}, "nothing random"),
        ({"structure": "equation", "field": pn.mlp(2, ())}, "field= gives one"),
    ],
)
def test_errors(options, message):
    t = np.linspace(0, 3, 20)
    y = np.stack([1.5 + np.cos(t), 1.5 - np.sin(t)], axis=1)
    with pytest.raises(ValueError, match=message):
        NeuralODE(**options).fit(t, y)


def test_a_substrate_that_inhibits_is_found():
    """Chlorine dioxide, iodine and malonic acid (Lengyel & Epstein 1991): the product of both over 1 + y1^2."""

    def f(t, y):
        both = y[0] * y[1] / (1 + y[0] ** 2)
        return [8.9 - y[0] - 4 * both, 1.4 * y[0] - 1.4 * both]

    t = np.linspace(0, 10, 300)
    _, y = trajectories(f, [[0.2, 0.35], [3.0, 7.8]], t, 0.005)
    model = NeuralODE(random_state=0).fit(t, y)
    found = {p.name: model.theta_[p.offset] for p in model.field_.spec}
    assert len(found) == 4 and found["K"] == pytest.approx(1.0, rel=0.1)
    assert found["y1: y1*y2*1/(1 + (y1/K)^2)"] == pytest.approx(-4.0, rel=0.1)
    assert str(model.equation(2)).splitlines()[0] == "dy1/dt = 8.9 - y1 - 4*y1*y2/(y1^2 + 1)"


def test_who_shapes_the_network_gets_it():
    t = np.linspace(0, 3, 40)
    y = np.stack([np.cos(t), -np.sin(t)], axis=1)
    assert NeuralODE(hidden=(4,), random_state=0, max_iter=5).fit(t, y).field_.name.startswith("mlp")
    assert NeuralODE(random_state=0).fit(t, y).field_.name == "equation"
    assert NeuralODE(hidden=(4,), structure="equation", random_state=0).fit(t, y).field_.name == "equation"
    with pytest.raises(ValueError, match="digits=0"):
        NeuralODE(random_state=0).fit(t, y).equation(0)


def test_saturating_terms_are_found_and_kept(tmp_path):
    """Rosenzweig and MacArthur's predators: the same scale in both rows, one parameter; files, pickles, bands, LaTeX."""

    def f(t, y):
        eaten = 0.6 * y[0] * y[1] / (1 + 0.4 * y[0])
        return [y[0] * (1 - y[0] / 10) - eaten, 0.7 * eaten - 0.45 * y[1]]

    rng = np.random.default_rng(1)
    t = np.linspace(0, 30, 81)
    _, y = trajectories(f, rng.uniform([1, 0.5], [8, 4], (8, 2)), t, 0.02)
    model = NeuralODE(random_state=0).fit(t, y, names=["prey", "hunters"])
    found = {p.name: model.theta_[p.offset] for p in model.field_.spec}
    assert found["K"] == pytest.approx(2.5, rel=0.1)
    assert len(found) == 6 and found["prey: hunters*prey/(K + prey)"] == pytest.approx(-1.5, rel=0.1)
    assert str(model.equation(2)).splitlines()[1] == "dhunters/dt = -0.45*hunters + hunters*prey/(prey + 2.5)"
    assert r"\frac" in model.equation().latex
    start = np.array([3.0, 1.0])
    expected = pn.solve(pn.field(state=2)(f), start, t).y
    mean, low, high = model.predict(t, start, interval=0.9)
    np.testing.assert_allclose(mean, expected, atol=0.02 * np.abs(expected).max())
    assert np.mean((low <= expected) & (expected <= high)) > 0.6
    model.save(tmp_path / "m.pnode")
    again = pn.load(tmp_path / "m.pnode")
    np.testing.assert_array_equal(again.predict(t, start), mean)
    np.testing.assert_array_equal(copy.deepcopy(model).predict(t, start), mean)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_switches_are_found(noise, tmp_path):
    """The gate of a channel, open above a threshold, and what follows slowly."""

    def f(t, y):
        return [-1.2 * y[0] + 2.5 * pn.sigmoid((y[0] - 0.2) / 0.25) - 1.5 * y[1], 0.4 * (y[0] - y[1])]

    t = np.linspace(0, 12, 101)
    _, y = trajectories(f, np.random.default_rng(1).uniform(-1, 1.5, (8, 2)), t, noise)
    model = NeuralODE(random_state=0).fit(t, y)
    found = {p.name: model.theta_[p.offset] for p in model.field_.spec}
    gate = "y1: sigmoid(y1/K - c)"
    assert set(found) == {"y1: y1", "y1: y2", gate, "y2: y1", "K", "c"}  # y2 has the number of y1 in the second row
    error = max(1e-4, noise)
    assert found["K"] == pytest.approx(0.25, rel=error)
    assert found["c"] * found["K"] == pytest.approx(0.2, abs=0.25 * error)
    assert found[gate] == pytest.approx(2.5, rel=error)
    assert "sigmoid(" in str(model.equation()) and "sigmoid" in model.equation().latex
    model.save(tmp_path / "m.pnode")
    start = np.array([0.5, -0.5])
    np.testing.assert_array_equal(pn.load(tmp_path / "m.pnode").predict(t, start), model.predict(t, start))
    expected = pn.solve(pn.field(state=2)(f), start, t).y
    np.testing.assert_allclose(model.predict(t, start), expected, atol=max(1e-5, 0.3 * noise))


def exchange(t, y):
    return [-0.5 * (y[0] - y[1]), 0.2 * (y[0] - y[1]) - 0.1 * (y[1] - 0.3)]


def kelvins(noise=0.02, n=8):
    """(times, temperatures in K): two bodies, and what is around them."""
    t = np.linspace(0, 15, 81)
    starts = np.random.default_rng(1).uniform(-1, 2, (n, 2))
    return t, 285.0 + trajectories(exchange, starts, t, noise)[1]


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_states_far_from_zero_have_the_terms_of_their_differences(noise):
    t, y = kelvins(noise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = NeuralODE(random_state=0).fit(t, y)
    found = terms_of(model)
    expected = {"y1: y1": -0.5, "y1: y2": 0.5, "y2: 1": 0.1 * 285.3, "y2: y1": 0.2, "y2: y2": -0.3}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert abs(found[name] / value - 1) < 4 * noise, name


def test_functions_that_are_nothing_along_the_data_do_not_overflow():
    t, y = kelvins()
    data = Data([t] * len(y), list(y), None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bent_equations(data, smooth(data.t, data.y), {"rtol": 1e-7, "atol": 1e-7})


def test_a_column_that_never_changes_takes_nothing_away():
    f, _, t, terms = SYSTEMS["pendulum"]
    _, y = trajectories(f, np.random.default_rng(0).uniform(-2, 2, (6, 2)), t[:101], 0.02)
    both = np.concatenate([y, np.full((6, 101, 1), 3.7)], axis=-1)
    said = "y3 never changes in the data"
    with pytest.warns(FitWarning, match=said):
        model = NeuralODE(random_state=0).fit(t[:101], both)
    assert [w for w in model.report_["warnings"] if said not in w] == []
    assert {term for term in terms_of(model) if not term.startswith("y3")} == set(terms)
    assert np.ptp(model.predict(t[:101], [1.0, 0.5, 3.7])[:, 2]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, lower, upper = model.predict(t[:101], [1.0, 0.5, 3.7], interval=0.9)
    assert np.isfinite(lower).all() and np.isfinite(upper).all()


@pytest.mark.parametrize("rows", [1, 60])
def test_a_trajectory_with_a_single_reading_leaves_the_equation_of_the_others(rows):
    f, _, _, _ = SYSTEMS["Lotka-Volterra"]
    t = np.linspace(0, 20, 60)
    _, y = trajectories(f, [[10.0, 5.0], [6.0, 2.0]], t, 0.01)
    lone = np.where(np.arange(rows)[:, None] > 0, np.nan, y[0, :rows])
    model = NeuralODE(random_state=0).fit([t, t, t[:rows]], [*y, lone])
    assert terms_of(model).keys() == {"y1: y1", "y1: y1*y2", "y2: y2", "y2: y1*y2"}
    np.testing.assert_allclose(model.predict(t[:1], trajectory=2)[0], lone[0], atol=0.1)


def test_a_copy_of_a_state_is_told_as_a_difference():
    f, starts, t, _ = SYSTEMS["Lotka-Volterra"]
    _, y = trajectories(f, starts, t, 0.01)
    both = np.concatenate([y[0], 1.8 * y[0, :, :1] + 32], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        model = NeuralODE(random_state=0, structure="equation").fit(t, both)
    assert any(w.startswith("y1 - 0.556 y3 never changes") for w in model.report_["warnings"])


def test_misfit_of_an_equation_is_not_laid_to_a_network(monkeypatch):
    monkeypatch.setattr(EquationFit, "bent", lambda self, known=False: [])  # a switch has this form
    t = np.linspace(0, 12, 121)
    starts = np.random.default_rng(0).uniform(-2, 2, (8, 2))
    _, y = trajectories(lambda t, y: [y[1], -y[0] - 0.4 * np.tanh(8 * y[1])], starts, t, 0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        told = " ".join(NeuralODE(structure="equation", random_state=0).fit(t, y).report_["warnings"])
    assert "this is misfit" in told and "the equation may lack terms" in told and "structure='network'" in told
    assert "the network may be" not in told and "n_restarts" not in told
