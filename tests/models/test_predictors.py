"""Classifier, regressor (flows, read out where points arrive), ResNet: gradients, topology, scikit-learn, bad input."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.data import files
from pynode.fit import FitInterrupted, with_penalty
from pynode.models.flows.losses import end_loss, first_states
from pynode.models.flows.samples import FlowSamples
from pynode.training.early_stopping import split_classes

RK4 = {"method": "rk4", "step": 0.1}


def blobs(n=60, k=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    angle = 2 * np.pi * y / k
    return 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.4 * rng.normal(size=(n, 2)), y


def disk_and_ring(n=150, seed=0):
    rng = np.random.default_rng(seed)
    inner = np.arange(n) < n // 3
    r = np.sqrt(np.where(inner, rng.uniform(0, 0.25, n), rng.uniform(1, 2.25, n)))
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1), np.where(inner, "disk", "ring")


def small(**options):
    return pn.NeuralODEClassifier(**{"hidden": (8,), "max_iter": 15, "batch_size": 16, "random_state": 0} | options)


@pytest.fixture(scope="module")
def fitted():
    X, y = blobs()
    return small().fit(X, y)


# ---- Gradients -----------------------------------------------------------------------------------------------------


def differences(objective, z, delta=1e-4):
    """Central differences of order 6."""
    gradient = np.zeros_like(z)
    for i in range(len(z)):
        for step, weight in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60)):
            e = np.zeros_like(z)
            e[i] = step * delta
            gradient[i] += weight * (objective(z + e)[0] - objective(z - e)[0]) / delta
    return gradient


@pytest.mark.parametrize("case", ["cross-entropy", "squared", "huber", "lift and penalties", "Euler layers", "decay"])
def test_gradient_against_finite_differences(case):
    rng = np.random.default_rng(1)
    x, labels, f = rng.normal(size=(14, 2)), np.eye(3)[rng.integers(0, 3, 14)], pn.mlp(3, (4,), time=True)
    readout, options, target = pn.mlp(3, (), 3), dict(RK4), labels
    if case == "lift and penalties":
        options["lift"] = pn.mlp(2, (), 3)
    if case == "Euler layers":
        options = {"method": "euler", "step": 1 / 7}
    if case == "decay":
        options["decay"] = 0.3
    if case == "huber":
        readout, target = first_states(3, 3), 4 * labels  # residuals on both sides of the bend
    carried = with_penalty(f, 0.2, 0.1) if case == "lift and penalties" else f
    loss = end_loss(readout, carried.d, case if case in ("squared", "huber") else "cross-entropy")
    objective = FlowSamples(carried, loss, x, target, 14, 0, **options)
    z = rng.normal(size=objective.n_params)
    value, gradient = objective(z)
    assert np.isfinite(value)
    np.testing.assert_allclose(gradient, differences(objective, z), atol=1e-9 * max(1, np.abs(gradient).max()))


def test_the_loss_is_the_cross_entropy_of_the_solution():
    rng = np.random.default_rng(2)
    x, index = rng.normal(size=(9, 2)), rng.integers(0, 3, 9)
    f, readout = pn.mlp(3, (5,), time=True), pn.mlp(3, (), 3)
    objective = FlowSamples(f, end_loss(readout, 3, "cross-entropy"), x, np.eye(3)[index], 9, 0, **RK4)
    z = rng.normal(size=objective.n_params)
    end = pn.solve(f, np.pad(x, ((0, 0), (0, 1))), [0.0, 1.0], z[: f.n_params], **RK4).y[:, -1]
    W, b = z[f.n_params : f.n_params + 9].reshape(3, 3), z[f.n_params + 9 :]
    logits = end @ W.T + b
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(objective(z)[0], -np.log(p[np.arange(9), index]).mean(), rtol=1e-12)


def test_large_logits_do_not_overflow():
    loss = end_loss(first_states(3, 3), 3, "cross-entropy")
    value = loss(1.0, [1e4, 0.0, -1e4], u=[0.0, 1.0, 0.0])
    np.testing.assert_allclose(value, [1e4])


def test_minibatches_cover_every_sample_once_an_epoch():
    f = pn.mlp(2, (4,), time=True)
    objective = FlowSamples(f, end_loss(pn.mlp(2, (), 1), 2, "squared"), np.zeros((23, 2)), np.zeros((23, 1)), 5, 3, **RK4)
    for epoch in range(2):
        seen = []
        for k in range(objective.n_batches):
            objective.draw(epoch * objective.n_batches + k + 1)
            seen += objective.which.tolist()
        assert sorted(seen) == list(range(23))


def test_a_sample_that_cannot_be_solved_adds_nothing():
    @pn.field(state=1, theta={"k": 1.0})
    def explosive(t, y, th):
        return th.k * y**2

    def objective(x):
        x = np.array(x)[:, None]
        loss = end_loss(first_states(1, 1), 1, "squared")
        return FlowSamples(explosive, loss, x, np.zeros_like(x), len(x), 0, method="dopri5", rtol=1e-6, atol=1e-6)

    whole, good = objective([0.1, 5.0, 0.2]), objective([0.1, 0.2])
    for a, b in zip(whole(np.ones(1)), good(np.ones(1)), strict=True):
        np.testing.assert_allclose(a, b)
    assert whole.failed == 1 and good.failed == 0
    assert objective([5.0])(np.ones(1))[0] == np.inf


# ---- What it learns --------------------------------------------------------------------------------------------------


def test_an_augmented_flow_separates_a_disk_from_a_ring():
    X, y = disk_and_ring()
    model = pn.NeuralODEClassifier((16,), augment=1, max_iter=40, batch_size=32, learning_rate=2e-2, random_state=0).fit(
        X, y
    )
    assert model.score(X, y) == 1.0
    assert model.score(*disk_and_ring(seed=1)) > 0.97
    far = model.predict_log_proba([[0.0, 0.0], [1.2, 0.0]])
    assert far[0, 0] > far[0, 1] and far[1, 1] > far[1, 0]


def test_a_flow_of_the_line_cannot_swap_two_points():
    """g(-1) = 1, g(1) = -1: order is kept without augment, so that no mean squared error is below 1."""
    x, g = np.array([[-1.0], [1.0]]), np.array([1.0, -1.0])
    options = {"readout": "first", "max_iter": 150, "learning_rate": 2e-2, "random_state": 0, "hidden": (16,)}
    plain = pn.NeuralODERegressor(**options).fit(x, g)
    augmented = pn.NeuralODERegressor(augment=1, **options).fit(x, g)
    assert 1.0 <= np.mean((plain.predict(x) - g) ** 2) < 1.2
    assert np.mean((augmented.predict(x) - g) ** 2) < 1e-3


def test_regression_of_two_outputs():
    x = np.linspace(-1, 1, 80)[:, None]
    y = np.stack([np.sin(3 * x[:, 0]), 5 + 10 * x[:, 0] ** 2], axis=1)
    model = pn.NeuralODERegressor((16,), lift=4, max_iter=80, batch_size=20, random_state=0).fit(x, y)
    assert model.predict(x).shape == (80, 2) and model.score(x, y) > 0.99
    assert pn.NeuralODERegressor((4,), max_iter=2).fit(x, y[:, 0]).predict(x).shape == (80,)


def test_evaluations_are_recorded_and_penalties_cut_them():
    X, y = disk_and_ring()
    options = {"hidden": (16,), "max_iter": 30, "learning_rate": 2e-2, "random_state": 0, "rtol": 1e-4, "atol": 1e-4}
    plain = pn.NeuralODEClassifier(**options).fit(X, y)
    gentle = pn.NeuralODEClassifier(kinetic_energy=0.3, **options).fit(X, y)
    for name in ("loss", "nfe", "seconds"):
        assert plain.history_[name].shape == (30,) and np.isfinite(plain.history_[name]).all()
    assert plain.history_["loss"][-1] < plain.history_["loss"][0]
    assert (plain.history_["nfe"] > 5).all() and (np.diff(plain.history_["seconds"]) > 0).all()
    assert gentle.history_["nfe"][-1] < plain.history_["nfe"][-1]
    assert plain.report_["nfe"] == plain.history_["nfe"][-1] and plain.report_["n_failed"] == 0


# ---- ResNet ----------------------------------------------------------------------------------------------------------


def test_layers_are_residual():
    f = pn.mlp(2, (5,), time=True)
    theta, y = f.init(0), np.array([[0.5, -1.0], [0.1, 0.2]])
    net = pn.ResNet(f, 4, span=(0.0, 2.0))
    states = [y]
    for n in range(4):
        states.append(states[-1] + 0.5 * f(np.full(2, 0.5 * n), states[-1], theta))
    np.testing.assert_allclose(net.activations(y, theta), np.stack(states, axis=1), rtol=1e-13)
    np.testing.assert_allclose(net(y, theta), states[-1], rtol=1e-13)
    assert net(y[0], theta).shape == (2,) and net.n_params == f.n_params
    assert (net.init(3) == f.init(3)).all()


def test_output_and_gradient_converge_to_the_neural_ode_like_one_over_the_number_of_layers():
    f = pn.mlp(2, (8,), time=True)
    theta, rng = f.init(1) * 1.5, np.random.default_rng(0)
    y, g = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    sol = pn.solve(f, y, [0.0, 1.0], theta, rtol=1e-11, atol=1e-11)
    dy = np.zeros_like(sol.y)
    dy[:, -1] = g
    exact = sol.vjp(dy)
    layers = np.array([16, 32, 64, 128, 256])
    errors = []
    for n in layers:
        net = pn.ResNet(f, int(n))
        back = net.vjp(y, theta, g)
        pairs = ((net(y, theta), sol.y[:, -1]), (back.theta, exact.theta), (back.y0, exact.y0))
        errors.append([np.abs(a - b).max() for a, b in pairs])
    order = -np.polyfit(np.log(layers), np.log(errors), 1)[0]
    np.testing.assert_allclose(order, 1.0, atol=0.1)


def test_gradient_of_a_resnet():
    f, rng = pn.mlp(2, (3,), time=True), np.random.default_rng(0)
    theta, y, g = rng.normal(size=f.n_params), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    net = pn.ResNet(f, 6)

    def loss(z):
        return (np.sum(net(y, z) * g),)

    np.testing.assert_allclose(net.vjp(y, theta, g).theta, differences(loss, theta), atol=1e-9)


def test_a_classifier_of_layers_is_a_resnet():
    X, y = blobs()
    model = small(layers=6).fit(X, y)
    assert (model.history_["nfe"] == 6).all()
    net = pn.ResNet(model.field_, 6)
    x = (X - model.shift_) / model.scale_
    p = model.field_.n_params
    logits = model.readout_(0.0, net(x, model.theta_[:p]), model.theta_[p:])
    np.testing.assert_allclose(model.predict_log_proba(X), logits - np.log(np.exp(logits).sum(axis=1))[:, None], atol=1e-12)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda f: pn.ResNet(f, 0), "layers=0"),
        (lambda f: pn.ResNet(f, 2.5), "layers=2.5"),
        (lambda f: pn.ResNet(f, 2, span=(1.0, 1.0)), "two different times"),
        (lambda f: pn.ResNet(pn.mlp(2, (3,), 1), 2), "as many outputs as states"),
        (lambda f: pn.ResNet(f, 2)([1.0, 2.0, 3.0], f.init(0)), "the field has 2"),
        (lambda f: pn.ResNet(f, 2).vjp([1.0, 2.0], f.init(0), [1.0]), "dy has shape"),
    ],
)
def test_what_a_resnet_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make(pn.mlp(2, (3,)))


# ---- Labels, bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["cat", "dog", "eel"]),
        np.array(["cat", "dog", "eel"], dtype=object),
        np.array([-7, 0, 12]),
        np.array([0.0, 1.0, 5.0]),
        np.array([3, 200, 255], dtype=np.uint8),
        np.array([False, True, True]),
        np.array(["2020-01-01", "2021-01-01", "2022-01-01"], dtype="datetime64[D]"),
    ],
    ids=lambda x: str(x.dtype),
)
def test_labels_of_any_dtype(labels):
    X, y = blobs()
    model = small(max_iter=25, learning_rate=2e-2).fit(X, labels[y])
    assert model.classes_.dtype == labels.dtype and (model.classes_ == np.unique(labels)).all()
    assert model.predict(X).dtype == labels.dtype and model.score(X, labels[y]) > 0.9
    p = model.predict_proba(X)
    assert p.shape == (60, len(np.unique(labels))) and (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


X0, Y0 = blobs()


def with_entry(a, at, value):
    a = np.array(a, dtype=float)
    a[at] = value
    return a


@pytest.mark.parametrize(
    "X, y, message",
    [
        (with_entry(X0, (3, 1), np.nan), Y0, r"X\[3, 1\] is nan"),
        (with_entry(X0, (3, 1), np.inf), Y0, r"X\[3, 1\] is inf"),
        (X0[:, 0], Y0, "Reshape your data"),
        (X0[:, :0], Y0, "0 feature"),
        (X0[:1], Y0[:1], "n_samples=1"),
        (X0 + 1j, Y0, "Complex data not supported"),
        (X0.astype(str), Y0, "X must hold numbers"),
        (X0, Y0[:-1], "y should be a 1d array of 60 labels"),
        (X0, np.zeros(60, int), "one class only"),
        (X0, Y0 + 0.5, "continuous"),
        (X0, with_entry(Y0, 4, np.nan), r"y\[4\] is NaN"),
        (X0, np.array([None, *Y0[1:]], dtype=object), r"y\[0\] is None"),
        (X0, np.array(["a", *Y0[1:]], dtype=object), "mixes"),
        (X0, None, "requires y"),
    ],
)
def test_what_fit_refuses(X, y, message):
    with pytest.raises(ValueError, match=message):
        small().fit(X, y)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"augment": -1}, "augment=-1"),
        ({"lift": 0}, "lift=0"),
        ({"lift": 3, "augment": 1}, "give one of them"),
        ({"layers": 0}, "layers=0"),
        ({"method": "rk4"}, "method='rk4'"),
        ({"rtol": 0.0}, "rtol=0.0"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"weight_decay": np.nan}, "weight_decay=nan"),
        ({"activation": "step"}, "activation='step'"),
        ({"hidden": (4, 0)}, "hidden holds the widths of the hidden layers.*got \\(4, 0\\)"),
        ({"dtype": "float16"}, "dtype=float16"),
        ({"random_state": -1}, "random_state=-1"),
        ({"schedule": "linear"}, "linear"),
        ({"field": pn.mlp(3, (4,))}, "need 2 states"),
        ({"field": pn.mlp(2, (4,), inputs=1)}, "no inputs"),
    ],
)
def test_options_that_fit_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options).fit(X0, Y0)


def test_what_a_regressor_refuses():
    for y, message in ((with_entry(Y0, 2, np.inf), r"y\[2\] is inf"), (Y0[:3], "y has shape"), (Y0 * 1j, "real numbers")):
        with pytest.raises(ValueError, match=message):
            pn.NeuralODERegressor(max_iter=1).fit(X0, y)
    with pytest.raises(ValueError, match="give augment=1 or more"):
        pn.NeuralODERegressor(readout="first", max_iter=1).fit(X0, np.zeros((60, 3)))
    with pytest.raises(ValueError, match="loss='l1'"):
        pn.NeuralODERegressor(loss="l1").fit(X0, Y0)


def test_before_fit_and_with_other_features(fitted):
    for call in ("predict", "predict_proba", "trajectories"):
        with pytest.raises(pn.models.NotFittedError, match="not fitted yet: call fit"):
            getattr(small(), call)(X0)
        with pytest.raises(ValueError, match="X has 3 features, but NeuralODEClassifier is expecting 2"):
            getattr(fitted, call)(np.zeros((4, 3)))
    with pytest.raises(pn.models.NotFittedError):
        small().save("nowhere.npz")
    with pytest.raises(pn.models.NotFittedError):
        small().plot()
    assert "not fitted" in repr(small()) and "parameters" in repr(fitted)


# ---- Same numbers, files, stopping -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(fitted):
    again, threads = small().fit(X0, Y0), pn.num_threads()
    assert (again.theta_ == fitted.theta_).all()
    pn.set_num_threads(2 if threads == 1 else 1)
    try:
        assert (small().fit(X0, Y0).theta_ == fitted.theta_).all()
    finally:
        pn.set_num_threads(threads)
    assert (small(random_state=1).fit(X0, Y0).theta_ != fitted.theta_).any()
    one_by_one = np.concatenate([fitted.predict_proba(X0[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(one_by_one, fitted.predict_proba(X0[:5]), rtol=1e-12)


@pytest.mark.parametrize(
    "labels", [np.array(["a", "b", "c"]), np.array(["a", "b", "c"], dtype=object), np.arange(3), [0.0, 1, 2]]
)
def test_classifier_to_file_and_back(labels, tmp_path):
    model = small(lift=3, max_iter=2).fit(X0, np.asarray(labels)[Y0])
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    assert type(again) is pn.NeuralODEClassifier and again.get_params() == model.get_params()
    assert (again.predict_proba(X0) == model.predict_proba(X0)).all() and (again.predict(X0) == model.predict(X0)).all()
    assert again.classes_.dtype == model.classes_.dtype and again.report_ == model.report_
    assert (again.history_["nfe"] == model.history_["nfe"]).all()


def test_regressor_with_a_field_of_ones_own_to_file_and_back(tmp_path):
    @pn.field(state=3, theta={"net": pn.mlp(3, (4,), 3), "k": 0.1})
    def own(t, y, th):
        return th.net(y) - th.k * y

    model = pn.NeuralODERegressor(field=own, augment=1, max_iter=2, random_state=0).fit(X0, np.stack([Y0, -Y0], axis=1))
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    assert (again.predict(X0) == model.predict(X0)).all() and again.field.n_params == own.n_params


def test_files_that_are_refused(fitted, tmp_path):
    content = {"model": "NeuralODEClassifier"} | fitted.to_content()
    for change in (
        {"theta": content["theta"][:-1]},
        {"scale": -content["scale"]},
        {"classes": [2, 1, 0]},
        {"classes": ["a", 1, 2]},
        {"n_features": 5},
        {"params": content["params"] | {"method": "magic"}},
        {"model": "Classifier"},
    ):
        files.write(tmp_path / "bad.npz", content | change)
        with pytest.raises(pn.ModelFileError):
            pn.load(tmp_path / "bad.npz")
    odd = small(max_iter=1).fit(X0, np.array(["2020", "2021", "2022"], dtype="datetime64[Y]")[Y0])
    with pytest.raises(ValueError, match="numbers or text"):
        odd.save(tmp_path / "odd.npz")


def test_callbacks_stop_and_interrupts_keep_the_model():
    seen = []

    def three(epoch):
        seen.append(epoch)
        return epoch.number == 3

    model = small().fit(X0, Y0, callback=three)
    assert [e.number for e in seen] == [1, 2, 3] and model.n_iter_ == 3 and model.report_["status"] == "stopped"

    def interrupt(epoch):
        raise KeyboardInterrupt

    model = small()
    with pytest.raises(FitInterrupted):
        model.fit(X0, Y0, callback=interrupt)
    assert model.predict(X0).shape == (60,) and model.report_["status"] == "interrupted"


def test_progress_is_shown_if_asked(capsys):
    small(max_iter=2).fit(X0, Y0, progress="blobs")
    assert "blobs: 100 %" in capsys.readouterr().err
    small(max_iter=2).fit(X0, Y0)
    assert capsys.readouterr().err == ""


# ---- Weights, early stopping, checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("penalties", [{}, {"kinetic_energy": 0.1}])
def test_weights_are_repetitions(penalties):
    """In the loss and its gradient over all samples, and in the scaling."""
    rng = np.random.default_rng(0)
    times = rng.integers(1, 4, 60)
    weighted, repeated = small(max_iter=1, dtype="float64", **penalties), small(max_iter=1, dtype="float64", **penalties)
    weighted.fit(X0, Y0, 0.7 * times), repeated.fit(np.repeat(X0, times, axis=0), np.repeat(Y0, times))
    np.testing.assert_allclose(weighted.scale_, repeated.scale_, rtol=1e-12)
    np.testing.assert_allclose(weighted.shift_, repeated.shift_, rtol=1e-12, atol=1e-14)
    theta, (a, b) = rng.normal(size=len(weighted.theta_)), (np.eye(3)[Y0], np.eye(3)[np.repeat(Y0, times)])
    for model in (weighted, repeated):
        model.layers, model.batch_size = 5, 10**6
    one = weighted._objective(weighted._scaled(X0), a, 0.7 * times, weighted._penalty)
    two = repeated._objective(repeated._scaled(np.repeat(X0, times, axis=0)), b, None, repeated._penalty)
    (loss, gradient), (loss2, gradient2) = one(theta), two(theta)
    np.testing.assert_allclose(loss, loss2, rtol=1e-12)
    np.testing.assert_allclose(gradient, gradient2, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.value(theta), loss, rtol=1e-12)
    predictions = weighted.predict(X0)
    assert weighted.score(X0, predictions[::-1], times) == pytest.approx(
        np.average(predictions == predictions[::-1], weights=times)
    )


def test_weight_zero_leaves_out_and_equal_weights_are_none(fitted):
    some = np.arange(60) % 5 > 0
    a, b = small().fit(X0, Y0, some.astype(float)), small().fit(X0[some], Y0[some])
    assert (a.theta_ == b.theta_).all() and a.report_["n_samples"] == 48
    assert (small().fit(X0, Y0, np.full(60, 0.1)).theta_ == fitted.theta_).all()
    options = {"hidden": (4,), "max_iter": 2, "random_state": 0}
    y, w = X0[:, 0] ** 2, np.where(some, 2.0, 0.0)
    c = pn.NeuralODERegressor(**options).fit(X0, y, w)
    d = pn.NeuralODERegressor(**options).fit(X0[some], y[some])
    assert (c.theta_ == d.theta_).all() and c.y_shift_ == d.y_shift_
    assert c.score(X0, y, w) == pytest.approx(d.score(X0[some], y[some]))


def test_weights_turn_a_classifier():
    """Of two classes in one place the heavier one is predicted; its probability is its part of the weight."""
    X, y = np.repeat(X0, 2, axis=0), np.tile([0, 1], 60)
    p = [small(max_iter=30).fit(X, y, np.where(y == 1, w, 1.0)).predict_proba(X)[:, 1].mean() for w in (0.25, 4.0)]
    np.testing.assert_allclose(p, [0.2, 0.8], atol=0.05)


@pytest.mark.parametrize(
    "weight, message",
    [
        (np.ones(59), "60 numbers"),
        (np.ones((60, 1)), "60 numbers"),
        (np.full(60, "a"), "60 numbers"),
        (with_entry(np.ones(60), 3, -1), r"sample_weight\[3\] is -1"),
        (with_entry(np.ones(60), 3, np.nan), r"sample_weight\[3\] is nan"),
        (np.zeros(60), "every sample_weight is zero"),
        ((Y0 == 1).astype(float), "one class only"),
    ],
)
def test_weights_that_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        small().fit(X0, Y0, weight)


def noisy_labels(n=90, seed=1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    return X, (X[:, 0] + 1.5 * rng.normal(size=n) > 0).astype(int)


STOPPING = {"hidden": (24,), "augment": 2, "max_iter": 80, "batch_size": 16, "learning_rate": 3e-2, "random_state": 0}


@pytest.mark.parametrize("weight", [None, np.random.default_rng(0).uniform(0.2, 2.0, 90)])
def test_early_stopping_keeps_the_best_parameters(weight):
    X, y = noisy_labels()
    model = pn.NeuralODEClassifier(**STOPPING, early_stopping=True, patience=5).fit(X, y, weight)
    validation = model.history_["validation"]
    best = int(validation.argmin())
    assert model.report_["status"] == "early" and model.n_iter_ == len(validation) == best + 6 < 80
    assert validation[-1] > validation[best] and model.report_["loss"] == model.history_["loss"][best]
    kept, aside = split_classes(y, 0.2, 0)
    assert model.report_["n_samples"] == len(kept) == 72 and sorted([*kept, *aside]) == list(range(90))
    log_p = model.predict_log_proba(X[aside])[np.arange(len(aside)), y[aside]]
    # training solves loosely, predictions tightly
    np.testing.assert_allclose(
        -np.average(log_p, weights=None if weight is None else weight[aside]), validation[best], rtol=0.05
    )
    plain = pn.NeuralODEClassifier(**STOPPING).fit(X, y)
    assert np.isnan(plain.history_["validation"]).all()
    fresh, label = noisy_labels(1000, seed=2)
    loss = [-m.predict_log_proba(fresh)[np.arange(1000), label].mean() for m in (model, plain)]
    assert loss[0] < loss[1] - 0.05


def test_early_stopping_that_never_stops_keeps_the_best_too():
    X, y = noisy_labels()
    epochs = []
    model = pn.NeuralODERegressor(**STOPPING | {"max_iter": 9}, early_stopping=True, patience=100, loss="huber")
    model.fit(X, y.astype(float), callback=epochs.append)
    validation = model.history_["validation"]
    assert [e.validation for e in epochs] == validation.tolist() and model.report_["status"] == "finished"
    assert np.isfinite(validation).all() and model.report_["loss"] == model.history_["loss"][validation.argmin()]


def test_no_class_is_lost_to_early_stopping():
    index = np.array([0] * 40 + [1] * 2 + [2])
    for seed in range(20):
        kept, aside = split_classes(index, 0.5, seed)
        assert set(index[kept]) == {0, 1, 2} and sorted([*kept, *aside]) == list(range(43))
        assert (index[aside] == 0).sum() == 20 and (index[aside] == 1).sum() == 1
    with pytest.raises(ValueError, match="one class must have two"):
        split_classes(np.arange(3), 0.5, 0)


@pytest.mark.parametrize(
    "options, message", [({"patience": 0}, "patience=0"), ({"validation_fraction": 1.0}, "between 0 and 1")]
)
def test_options_of_early_stopping_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options).fit(X0, Y0)


# ---- Pictures, scikit-learn ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["overview", "regions", "flow", "training"])
def test_pictures(fitted, kind):
    pytest.importorskip("matplotlib")
    assert fitted.plot(kind, X0, Y0).axes
    assert fitted.plot(kind, X0).axes


def test_pictures_of_other_sizes():
    pytest.importorskip("matplotlib")
    line = pn.NeuralODERegressor((4,), max_iter=1, random_state=0).fit(X0[:, :1], X0[:, 1])
    assert line.plot("flow", X0[:, :1]).axes[0].lines
    plane = pn.NeuralODERegressor((4,), augment=1, max_iter=1, random_state=0).fit(X0, X0[:, 1])
    assert len(plane.plot("overview", X0, X0[:, 1]).axes) > 4
    assert line.plot("overview", X0[:, :1], X0[:, 1]).axes
    assert small(max_iter=1).fit(X0[:, :1], Y0).plot("regions", X0[:, :1]).axes
    many = pn.NeuralODERegressor((4,), max_iter=1, random_state=0).fit(np.hstack([X0, X0]), X0[:, 1])
    assert many.plot("overview", np.hstack([X0, X0])).axes
    with pytest.raises(ValueError, match="drawn of 1 or 2 features, this model has 4"):
        many.plot("regions", np.hstack([X0, X0]))
    with pytest.raises(ValueError, match="needs samples"):
        line.plot("flow")
    with pytest.raises(ValueError, match="kind='loss'"):
        line.plot("loss")


@pytest.mark.parametrize("make", [pn.NeuralODEClassifier, pn.NeuralODERegressor])
def test_the_checks_of_scikit_learn(make):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    model = make(hidden=(4,), max_iter=8, batch_size=32, learning_rate=5e-2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = checks.check_estimator(model, on_fail=None, on_skip=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    assert len(results) > 45
    # it wants scikit-learn's own NotFittedError, and scikit-learn is optional here; ours is a ValueError and AttributeError;
    # and minibatches of repeated samples are others than those of weighted ones
    assert failed <= {"check_estimators_unfitted", "check_sample_weight_equivalence_on_dense_data"}
