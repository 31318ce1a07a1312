"""Control inputs: every form in which they may be given, windows and gradients of them, tables with input columns."""

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.data.csv import read_csv
from pynode.data.trajectories import Trajectories
from pynode.training.coordinates import Coordinates
from pynode.training.objective import Minibatches, TrainingObjective
from pynode.training.windows import Data

T = np.linspace(0, 5, 31)
TRUE = np.array([1.2, 0.4])
KINDS = ("linear", "previous", "cubic")
MAKE = {"hidden": (3,), "max_iter": 3, "random_state": 0}


@pn.field(state=1, theta={"k": 0.7, "g": 0.8}, inputs=1)
def heated(t, y, th, u):
    return -th.k * y + th.g * u


def levels(n=3, m=1, seed=0):
    return np.random.default_rng(seed).standard_normal((n, len(T), m))


def runs(u, y0=(0.5, -1.0, 1.0), kind="linear", sigma=0.01):
    y0 = np.array(y0)[: len(u), None]
    y = pn.solve(heated, y0, T, TRUE, inputs=([T] * len(u), list(u), kind), rtol=1e-10, atol=1e-10).y
    return y + sigma * np.random.default_rng(1).standard_normal(y.shape)


def theta(y, u, t=T, **options):
    return NeuralODE(field=heated, random_state=0, **options).fit(t, y, u=u).theta_


# ---- Forms ---------------------------------------------------------------------------------------------------------

U = levels()
FORMS = {
    "array (B, T, 1)": U,
    "list of (T, 1)": list(U),
    "list of (T,)": [u[:, 0] for u in U],
    "lists": [u[:, 0].tolist() for u in U],
    "signal": pn.Signal([T] * 3, list(U)),
    "tuple": ([T] * 3, list(U), "linear"),
    "float32 rounds": U.astype(np.float32).astype(float),
    "Fortran order": np.asfortranarray(U),
    "byte-swapped": U.astype(">f8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_signal_give_the_same_model(form):
    y = runs(U)
    reference, got = theta(y, U), theta(y, FORMS[form])
    if form == "float32 rounds":
        np.testing.assert_allclose(got, reference, rtol=1e-5)
    else:
        np.testing.assert_array_equal(got, reference)


def test_read_only_and_integer_inputs():
    u = np.rint(3 * U).astype(np.int32)
    fixed = u.astype(float)
    fixed.flags.writeable = False
    y = runs(fixed)
    y.flags.writeable = False
    np.testing.assert_array_equal(theta(y, u), theta(y, fixed))


def test_one_input_shared_by_all():
    y = runs(np.stack([U[0]] * 3))
    reference = theta(y, [U[0]] * 3)
    for shared in (U[0], U[0, :, 0], (T, U[0]), pn.Signal(T, U[0])):
        np.testing.assert_allclose(theta(y, shared), reference, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # misfit, on purpose
@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_told_apart(kind, optimizer):
    """Data of one kind, nearly without noise: right when fitted with it, far off (0.04 and more) with another one."""
    y = runs(U, kind=kind, sigma=1e-4)
    options = {"optimizer": optimizer}
    right = theta(y, ([T] * 3, list(U), kind), **options)
    np.testing.assert_allclose(right, TRUE, atol=2e-3)
    other = {"linear": "previous", "previous": "linear", "cubic": "previous"}[kind]
    assert np.abs(theta(y, ([T] * 3, list(U), other), **options) - TRUE).max() > 0.02


def test_constants():
    u = np.array([[1.0], [-0.5], [2.0]])
    clean = pn.solve(heated, [[0.5], [-1.0], [1.0]], T, TRUE, inputs=u).y
    y = clean + 0.01 * np.random.default_rng(0).standard_normal(clean.shape)
    model = NeuralODE(field=heated, random_state=0).fit(T, y, u=u)
    assert (np.abs(model.theta_ - TRUE) < 4 * np.sqrt(np.diag(model.covariance_))).all()
    np.testing.assert_array_equal(theta(y, pn.Signal(None, u, "constant")), model.theta_)
    np.testing.assert_allclose(model.predict(T, [[0.5], [0.1]], u=u[:2])[0], model.predict(T, [0.5], u=u[:1]), rtol=1e-9)


def test_knots_of_their_own_and_ragged_trajectories():
    knots = [np.array([0.0, 1.1, 2.0, 5.0]), np.array([-1.0, 0.3, 6.0])]
    values = [np.array([[0.0], [2.0], [-1.0], [1.0]]), np.array([[1.0], [-1.0], [0.5]])]
    t = [T, T[3:20]]
    y = pn.solve(heated, [[1.0], [0.0]], t, TRUE, inputs=(knots, values), rtol=1e-10, atol=1e-10).y
    model = NeuralODE(field=heated, random_state=0, windows=(4, None)).fit(t, y, u=(knots, values))
    np.testing.assert_allclose(model.theta_, TRUE, atol=1e-4)
    later = model.predict([3.2, 5.9], trajectory=1)  # the signal goes on to 6
    exact = pn.solve(heated, [0.0], [T[3], 3.2, 5.9], TRUE, inputs=(knots[1], values[1]), rtol=1e-10, atol=1e-10).y[1:]
    np.testing.assert_allclose(later, exact, atol=1e-3)
    with pytest.raises(ValueError, match="known on"):
        model.predict([5.5], trajectory=0)
    np.testing.assert_allclose(
        model.predict(T[:5], [1.0], u=(knots[0], values[0])),
        model.predict(t, [[1.0], [0.0]], u=(knots, values))[0][:5],
        rtol=1e-6,  # of the solves: the last time ends a step of one and lies inside a step of the other
    )


@pytest.mark.parametrize(
    "u, error, message",
    [
        (None, ValueError, "control input"),
        (1.0, ValueError, r"u has shape \(\)"),
        ("abc", TypeError, "u must hold real numbers"),
        ([["a"] * 31] * 3, TypeError, r"u\[0\] must hold real numbers"),
        ([[None] * 31] * 3, TypeError, r"u\[0\]"),
        (U[:2], ValueError, "u is for 2 trajectories, there are 3"),
        (U[:, :-1], ValueError, r"u of trajectory 0 has shape \(30, 1\)"),
        (U[:, :, [0, 0]], ValueError, "the field has 1"),
        (U * np.nan, ValueError, "u of trajectory 0 is not finite"),
        (U * 1j, TypeError, "u must hold real numbers"),
        (U[:, :0], ValueError, "u of trajectory 0"),
        (U[:0], ValueError, "u is for 0 trajectories"),
        (U[None], ValueError, "u has shape"),
        ([], ValueError, "u has shape"),
        ((T,), ValueError, "tuple of 1"),
        ((T, U[0], "step"), ValueError, "kind='step'"),
        ((T[::-1], U[0]), ValueError, "strictly increasing"),
        ((np.repeat(T[:16], 2)[:31], U[0]), ValueError, "strictly increasing"),
        ((T[:9], U[0, :9]), ValueError, "known on"),
        ((T * np.nan, U[0]), ValueError, "finite"),
        (pn.Signal(None, np.ones((2, 1)), "constant"), ValueError, "2 trajectories"),
    ],
)
def test_bad_inputs(u, error, message):
    with pytest.raises(error, match=message):
        theta(runs(U), u)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # misfit, on purpose
def test_as_many_trajectories_as_times_is_ambiguous():
    """Rows of u (5, 1) could be times or trajectories: nothing is guessed."""
    t, u = T[:5], U[0, :5]
    y = pn.solve(heated, np.ones((5, 1)), t, TRUE, inputs=(t, u), rtol=1e-9, atol=1e-9).y
    with pytest.raises(ValueError, match="5 trajectories of 5 times"):
        theta(y, u, t)
    np.testing.assert_allclose(theta(y, (t, u), t), TRUE, rtol=1e-3)
    assert theta(y, pn.Signal(None, u, "constant"), t).shape == (2,)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
def test_bad_inputs_of_predictions():
    model = NeuralODE(**MAKE).fit(T, runs(U), u=U)
    for call in (
        lambda: model.predict(T, [0.5]),
        lambda: model.predict(T, [0.5], u=U),
        lambda: model.predict(T, np.ones((2, 1)), u=U),
        lambda: model.predict(T, [0.5], u=U[0, :7]),
        lambda: model.vjp(T, [0.5], np.ones((31, 1))),
        lambda: model.score(T, runs(U)),
        lambda: model.initial_states(T, runs(U)),
        lambda: model.predict(T, u=U[0]),
    ):
        with pytest.raises(ValueError, match=r"input|\bu\b"):
            call()
    plain = NeuralODE(**MAKE).fit(T, runs(U))
    for u in (U[0], (T, U[0])):
        with pytest.raises(ValueError, match=r"the field has (0|no)|the field has none"):
            plain.predict(T, [0.5], u=u)


# ---- Signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "constant"])
@pytest.mark.parametrize("shared", [True, False])
def test_take_scaled_and_call(kind, shared):
    rng = np.random.default_rng(0)
    t, u = np.sort(rng.uniform(-2, 3, 9)), rng.standard_normal((4, 9, 2))
    if kind == "constant":
        signal = pn.Signal(None, u[0, 0] if shared else u[:, 0], kind)
    else:
        signal = pn.Signal(t if shared else [t] * 4, u[0] if shared else list(u), kind)
    at = np.linspace(t[0], t[-1], 41)
    part, scaled = signal.take([2, 0]), signal.scaled(np.array([1.0, -2.0]), np.array([2.0, 0.5]), 0.5, 4.0)
    np.testing.assert_array_equal(part(at, 0), signal(at, 2))
    np.testing.assert_array_equal(part(at, 1), signal(at, 0))
    inner = (at - 0.5) / 4.0
    np.testing.assert_allclose(
        scaled(inner[1:-1], 3), (signal(at, 3)[1:-1] - [1.0, -2.0]) / [2.0, 0.5], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_goes_through_its_knots(kind):
    t, u = np.array([0.0, 0.5, 2.0, 2.1]), np.array([[1.0], [-2.0], [3.0], [0.0]])
    signal = pn.Signal(t, u, kind)
    np.testing.assert_allclose(signal(t), u, atol=1e-12)
    middle = signal(np.array([0.25]))[0, 0]
    if kind != "cubic":
        assert middle == pytest.approx({"linear": -0.5, "previous": 1.0}[kind])
    line = pn.Signal(t, 3 * t[:, None] - 1, kind)
    if kind != "previous":  # straight lines are exact
        np.testing.assert_allclose(line(np.linspace(0, 2.1, 9))[:, 0], 3 * np.linspace(0, 2.1, 9) - 1, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_solve_as_the_whole(kind):
    """Rollouts over windows, from the states of the whole rollout: the same path to the tolerance."""
    u, signal = U[:2], pn.Signal([T] * 2, list(U[:2]), kind)
    y = pn.solve(heated, [[0.5], [-1.0]], T, TRUE, inputs=signal, rtol=1e-11, atol=1e-11, save="land").y
    cut = Data([T] * 2, list(y), None, signal).windows(7)
    again = pn.solve(heated, cut.initial(list(y)), cut.t, TRUE, inputs=cut.signal, rtol=1e-11, atol=1e-11, save="land").y
    for a, b in zip(again, cut.y, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert len(u) == 2 and sum(len(x) for x in cut.signal.t) < len(cut) * len(T)


# ---- Gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "constant"])
def test_vjp_of_models(kind, log):
    """Against differences of predictions; all of theta, y0 and u."""
    y, rng = np.exp(0.5 * runs(U)), np.random.default_rng(0)
    u = np.array([[0.3], [-0.2], [0.5]]) if kind == "constant" else U
    wrap = (lambda v: v) if kind == "constant" else (lambda v: ([T] * 3, list(v), kind))
    model = NeuralODE(**MAKE, log=log).fit(T, y, u=wrap(u))
    model.rtol = model.atol = 1e-10
    y0, w = y[:, 0].copy(), rng.standard_normal(y.shape)
    g = model.vjp(T, y0, w, u=wrap(u), wrt=("theta", "y0", "inputs"))
    g_u = np.stack(g.inputs)
    assert g_u.shape == u.shape and g.y0.shape == y0.shape and g.theta.shape == model.theta_.shape

    def loss():
        return float((w * model.predict(T, y0, u=wrap(u))).sum())

    h, kept = 1e-5, model.theta_.copy()
    for array, gradient in ((model.theta_, g.theta), (y0, g.y0), (u, g_u)):
        if kind != "constant" and array is u:
            array = u = u.copy()
        scale = np.abs(gradient).max()
        for at in rng.choice(array.size, min(6, array.size), replace=False):
            where = np.unravel_index(at, array.shape)
            before = array[where]
            array[where] = before + h
            more = loss()
            array[where] = before - h
            less = loss()
            array[where] = before
            assert (more - less) / (2 * h) == pytest.approx(gradient[where], abs=1e-4 * scale)
    np.testing.assert_array_equal(model.theta_, kept)


def test_vjp_of_ragged_rollouts():
    model = NeuralODE(**MAKE).fit(T, runs(U), u=U)
    t = [T[:12], T[2:9]]
    signal = ([T] * 2, list(U[:2]))
    w = [np.random.default_rng(i).standard_normal((len(x), 1)) for i, x in enumerate(t)]
    y0 = np.array([[0.4], [-0.6]])
    g = model.vjp(t, y0, w, u=signal, wrt=("theta", "y0", "inputs"))
    one = [model.vjp(t[i], y0[i], w[i], u=(T, U[i]), wrt=("theta", "y0", "inputs")) for i in range(2)]
    np.testing.assert_allclose(g.theta, one[0].theta + one[1].theta, rtol=1e-9, atol=1e-12)
    for i in range(2):
        np.testing.assert_allclose(g.y0[i], one[i].y0, rtol=1e-9)
        np.testing.assert_allclose(np.reshape(g.inputs[i], -1), np.reshape(one[i].inputs, -1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "dy", [np.ones((31, 2)), np.ones((2, 31, 1)), np.ones(31), 1.0, [np.ones((31, 1))], np.ones((30, 1))]
)
def test_dy_of_another_shape_is_refused(dy):
    model = NeuralODE(**MAKE).fit(T, runs(U), u=U)
    with pytest.raises(ValueError, match="dy"):
        model.vjp(T, [0.5], dy, u=U[0])
    with pytest.raises(ValueError, match="dy"):
        model.vjp([T[:5], T[:5]], [[0.5], [0.1]], [np.ones((5, 1)), np.ones((4, 1))], u=list(U[:2, :5]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"loss": "student", "loss_scale": 0.3}, {"penalty": (0.2, 0.1)}])
def test_gradients_of_objectives_with_inputs(kind, options):
    signal = pn.Signal([T] * 3, list(U), kind)
    data = Data([T] * 3, list(runs(U, sigma=0.2)), None, signal)
    cut = data.windows(9)
    coordinates = Coordinates(heated.spec, TRUE)
    common = {"decay": 0.1, "coordinates": coordinates, "rtol": 1e-10, "atol": 1e-10} | options
    y0 = cut.initial(data.y)
    whole = TrainingObjective(heated, cut, y0, **common)
    batches = Minibatches(heated, cut, y0, 4, random_state=1, steer=0.4, **common)
    batches.draw(2)
    for objective in (whole, batches):
        z, h = objective.join(TRUE), 1e-5
        z = z + 0.1 * np.random.default_rng(0).standard_normal(len(z))
        numeric = np.array([(objective(z + h * e)[0] - objective(z - h * e)[0]) / (2 * h) for e in np.eye(len(z))])
        np.testing.assert_allclose(objective(z)[1], numeric, rtol=1e-4, atol=1e-6 * np.abs(numeric).max())


# ---- Tables --------------------------------------------------------------------------------------------------------


def table(tmp_path, change=lambda rows: rows):
    y = runs(U)
    rows = [("run", "t", "x", "power")]
    rows += [
        (f"r{i}", repr(float(t)), repr(float(y[i, k, 0])), repr(float(U[i, k, 0])))
        for i in range(3)
        for k, t in enumerate(T)
    ]
    order = [0, *(1 + np.random.default_rng(0).permutation(len(rows) - 1))]
    rows = change([rows[i] for i in order])
    (tmp_path / "d.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    return y


def test_csv_and_data_frames_with_inputs(tmp_path):
    pandas = pytest.importorskip("pandas")
    y = table(tmp_path)
    data = read_csv(tmp_path / "d.csv", "t", "x", "run", input="power")
    frame = pandas.read_csv(tmp_path / "d.csv")
    order = [int(name[1:]) for name in data.ids]
    reference = NeuralODE(field=heated, random_state=0).fit(T, y[order], u=U[order])
    np.testing.assert_array_equal(NeuralODE(field=heated, random_state=0).fit(data).theta_, reference.theta_)
    columns = {"time": "t", "state": "x", "id": "run", "input": "power"}
    model = NeuralODE(field=heated, random_state=0).fit(frame, **columns)
    np.testing.assert_array_equal(model.theta_, reference.theta_)
    part = data.take([2, 0]).rows(3, 9)
    np.testing.assert_allclose(part.signal(part.t[0], 0), U[order[2], 3:9])
    assert model.score(part, None) > 0.9


@pytest.mark.parametrize("entry, message", [("", "missing"), ("NaN", "missing"), ("inf", "infinite"), ("x", "not a number")])
def test_unknown_inputs_in_a_table_are_named(entry, message, tmp_path):
    table(tmp_path, lambda rows: [*rows[:5], (*rows[5][:3], entry), *rows[6:]])
    with pytest.raises(pn.TableError if hasattr(pn, "TableError") else ValueError, match=rf"line 6.*power.*|{message}"):
        read_csv(tmp_path / "d.csv", "t", "x", "run", input="power")


def test_input_columns_that_clash(tmp_path):
    table(tmp_path)
    for names in ({"input": "x"}, {"input": "t"}, {"input": "run"}, {"input": ["power", "power"]}, {"input": "nothing"}):
        with pytest.raises(ValueError, match="column"):
            read_csv(tmp_path / "d.csv", "t", "x", "run", **names)


def test_signals_of_another_number_of_trajectories():
    with pytest.raises(ValueError, match="control inputs for 2"):
        Trajectories((T, T, T), tuple(runs(U)), ("x",), signal=pn.Signal([T] * 2, list(U[:2])))
    data = Trajectories.from_arrays(T, runs(U), u=U)
    with pytest.raises(TypeError, match="no u"):
        NeuralODE(**MAKE).fit(data, u=U)


# ---- Networks ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")
def test_a_network_learns_what_inputs_do():
    """Held-out input: the error of the rollout is below the noise (0.01) times 3."""
    u = levels(8, 2, seed=3)

    @pn.field(state=1, inputs=2)
    def true(t, y, u):
        return -0.8 * y + u[0] - 0.5 * u[1] * y

    signal = ([T] * 8, list(u))
    y = pn.solve(true, np.linspace(-1, 1, 8)[:, None], T, inputs=signal, rtol=1e-9, atol=1e-9).y
    starts = []
    for seed in range(3):  # the error of an initial state is a draw of the noise: the median of three
        noisy = y + 0.01 * np.random.default_rng(seed).standard_normal(y.shape)
        model = NeuralODE(hidden=(10,), random_state=0).fit(T, noisy[:7], u=u[:7])
        assert np.sqrt(np.mean((model.predict(T, y[7, 0], u=u[7]) - y[7]) ** 2)) < 0.03
        assert model.report_["noise"]["y1"] == pytest.approx(0.01, rel=0.25)
        at = np.array([0.3, -0.4])
        np.testing.assert_allclose(model.derivative(0.0, [0.5], u=at), true(0.0, [0.5], None, at), atol=0.05)
        starts.append(np.abs(model.initial_states(T, noisy, u=u) - y[:, 0]).max())
        assert model.score(T, noisy, u=u) > 0.99
    assert np.median(starts) < 0.03
