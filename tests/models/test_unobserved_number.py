"""augment="auto": as many unobserved states as the evidence asks for."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.app.cli import main
from pynode.fit import FitWarning
from pynode.models.trajectories import unobserved
from pynode.models.trajectories.unobserved import _enough

T = np.linspace(0, 12, 120)
LINEAR = {"hidden": (), "random_state": 0, "augment": "auto"}


def chain(n, seed=0, count=3, noise=0.01):
    """Positions of the first of n masses on springs, (count, T, 1)."""
    stiff = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)

    def masses(t, y):
        return np.concatenate([y[n:], -stiff @ y[:n] - 0.1 * y[n:]])

    rng = np.random.default_rng(seed)
    y = pn.solve(pn.field(state=2 * n)(masses), rng.uniform(-1, 1, (count, 2 * n)), T, rtol=1e-8, atol=1e-8).y[:, :, :1]
    return y + noise * rng.standard_normal(y.shape)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("masses", [1, 2])
def test_oscillators_have_two_states_each(masses):
    y = chain(masses)
    model = pn.NeuralODE(**LINEAR).fit(T, y)
    assert model.n_unobserved_ == 2 * masses - 1
    assert f"{2 * masses - 1} unobserved state" in model.report_["message"]
    same = pn.NeuralODE(**LINEAR | {"augment": 2 * masses - 1}).fit(T, y)
    assert np.array_equal(model.theta_, same.theta_)
    assert model.report_["noise"]["y1"] == pytest.approx(0.01, rel=0.15)


def test_an_equation_of_the_measured_states_needs_no_others():
    fall = pn.field(state=2)(lambda t, y: [y[1], -np.sin(y[0]) - 0.1 * y[1]])
    rng = np.random.default_rng(0)
    y = pn.solve(fall, rng.uniform(-2, 2, (5, 2)), T).y
    model = pn.NeuralODE(augment="auto", random_state=0).fit(T, y + 0.01 * rng.standard_normal(y.shape))
    assert model.n_unobserved_ == 0
    assert model.report_["message"].startswith("0 unobserved states, by log evidence (0: ")
    assert "an equation of" in model.report_["message"]


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_a_driven_record_is_simulated_with_the_states_that_were_found(tmp_path):
    spring = pn.field(state=2, inputs=1)(lambda t, y, u: [y[1], u[0] - y[0] - 0.5 * y[1]])

    def record(seed):
        rng = np.random.default_rng(seed)
        t, u = 0.1 * np.arange(300), np.repeat(rng.standard_normal(60), 5)
        y = pn.solve(spring, [0.3, 0.0], t, inputs=(t, u[:, None], "previous")).y[:, :1]
        return t, u, y, y + 0.01 * rng.standard_normal(y.shape)

    t, u, _, y = record(0)
    model = pn.NeuralODE(**LINEAR).fit(t, y, u=u)
    assert model.n_unobserved_ == 1 and model.input_kind_ == model.report_["inputs"]["kind"]
    t, u, truth, y = record(1)
    band = model.simulate((t, u), (t[:40], y[:40]), interval=0.9)
    assert np.sqrt(np.mean((band.mean - truth) ** 2)) < 0.02
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    assert again.augment == "auto" and again.n_unobserved_ == 1
    assert np.array_equal(again.simulate((t, u), (t[:40], y[:40])), model.simulate((t, u), (t[:40], y[:40])))


def test_more_states_are_tried_until_they_promise_nothing():
    assert not _enough([(1.0, 5.0)])
    assert not _enough([(1.0, 5.0), (1.0, 4.0)])
    assert _enough([(1.0, 5.0), (1.0, 4.0), (1.0, 3.0)])
    assert not _enough([(1.0, 5.0), (1.0, 4.0), (1.0, 6.0)])
    assert _enough([(1.0, 5.0), (1.0, -60.0)])
    assert not _enough([(0.0, 5.0), (0.0, -60.0)])  # neither follows whole trajectories
    assert _enough([(0.0, 90.0), (1.0, 5.0), (0.0, 80.0), (-1.0, -np.inf)])


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_a_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    y = chain(1)
    whole = pn.NeuralODE(**LINEAR).fit(T, y)
    calls = []
    attempted = unobserved.attempted

    def interrupted(params, *rest):
        calls.append(params["augment"])
        if len(calls) == 2:
            raise RuntimeError("the power fails")
        return attempted(params, *rest)

    monkeypatch.setattr(unobserved, "attempted", interrupted)
    path = tmp_path / "fit.npz"
    with pytest.raises(RuntimeError):
        pn.NeuralODE(**LINEAR).fit(T, y, checkpoint=path)
    assert (tmp_path / "fit.npz.1").exists()
    model = pn.NeuralODE(**LINEAR).fit(T, y, checkpoint=path)
    assert np.array_equal(model.theta_, whole.theta_) and not list(tmp_path.iterdir())


def test_an_interrupt_keeps_the_best_so_far():
    y = chain(1)
    seen = []

    def stop(iteration):
        seen.append(iteration.stage)
        if len(seen) == 12:
            raise KeyboardInterrupt

    model = pn.NeuralODE(**LINEAR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        with pytest.raises(KeyboardInterrupt):
            model.fit(T, y, callback=stop)
    assert np.isfinite(model.predict(T[:5], trajectory=0)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "lbfgs"}, "optimizer='lbfgs'"),
        ({"weight_decay": 0.1}, "weight_decay=0.1"),
        ({"early_stopping": True}, "early_stopping=True"),
        ({"n_estimators": 3}, r"n_estimators=3: give the number that a single fit finds \(n_unobserved_\)"),
        ({"n_restarts": 2}, "n_restarts=2"),
        ({"process_noise": True}, "process_noise=True"),
        ({"batch_size": 5}, "batch_size"),
    ],
)
def test_options_without_evidence_are_refused(options, words):
    with pytest.raises(ValueError, match=f"augment='auto' does not go with {words}"):
        pn.NeuralODE(augment="auto", **options).fit(T, np.sin(T))


def test_other_values_are_refused():
    for value in ("many", -1):
        with pytest.raises(ValueError, match=f"augment={value!r}"):
            pn.NeuralODE(augment=value).fit(T, np.sin(T))
    with pytest.raises((TypeError, ValueError), match=r"augment=1\.5"):
        pn.NeuralODE(augment=1.5).fit(T, np.sin(T))
    own = pn.field(state=1)(lambda t, y: [-y[0]])
    with pytest.raises(ValueError, match="augment adds states to the network"):
        pn.NeuralODE(field=own, augment="auto").fit(T, np.exp(-T))
    with pytest.raises(ValueError, match=r"augment='auto' does not go with .*: give the number"):
        pn.NeuralODE(augment="auto", noise="proportional").fit(T, 2 + np.sin(T))
    with pytest.raises(ValueError, match=r"the network is too large .*: give a number"):
        pn.NeuralODE(augment="auto", hidden=(80, 80), max_iter=1).fit(T, np.sin(T))


def test_from_the_command_line(tmp_path, capsys):
    table = tmp_path / "table.csv"
    y = chain(1, count=1)[0, :, 0]
    table.write_text("t,x\n" + "\n".join(f"{a:.6g},{b:.6g}" for a, b in zip(T, y, strict=True)))
    model = tmp_path / "model.npz"
    how = ["fit", str(table), "--time", "t", "--state", "x", "--hidden", "4"]
    assert main([*how, "--augment", "auto", "--max-iter", "20", "--quiet", "-o", str(model)]) == 0
    assert pn.load(model).n_unobserved_ >= 1
    with pytest.raises(SystemExit):
        main([*how, "--augment", "some"])
    assert "'some' is not a whole number" in capsys.readouterr().err
