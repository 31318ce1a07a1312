"""Fits to data in partitions: the fit of data in memory, the same bits wherever they are computed, what is refused."""

import copy
import warnings

import numpy as np
import pytest
from printed_terms import terms_of

import pynode as pn
from pynode import NeuralODE, Partitions

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

COLUMNS = {"time": "t", "state": ["x", "v"], "id": "run"}
N_PARTS = 5


@pn.field(state=["x", "v"], theta={"mu": pn.positive(0.5), "k": 1.5})
def oscillator(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - th.k * y[0]]


TRUE = [1.0, 1.0]


def tables(n=24, noise=0.05, missing=0.0, seed=0, field=oscillator, theta=TRUE, u=None):
    """A table for each partition, of n trajectories of 20 to 30 times."""
    made = []
    for k in range(N_PARTS):
        rng = np.random.default_rng([seed, k])
        parts = []
        for i in range(n):
            t = np.sort(rng.uniform(0, 4, rng.integers(20, 31)))
            force = None if u is None else u(t, rng)
            inputs = {} if u is None else {"inputs": (t, force[:, None])}
            y = pn.solve(field, rng.uniform(-2, 2, 2), t, theta, rtol=1e-8, atol=1e-8, **inputs).y
            y = y + noise * rng.standard_normal(y.shape)
            y[rng.random(y.shape) < missing] = np.nan
            part = pd.DataFrame({"run": k * n + i, "t": t, "x": y[:, 0], "v": y[:, 1]})
            parts.append(part if u is None else part.assign(u=force))
        made.append(pd.concat(parts))
    return made


def written(folder, frames):
    paths = [str(folder / f"{k:02d}.parquet") for k in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        frame.to_parquet(path)
    return paths


@pytest.fixture(scope="module")
def frames():
    return tables()


@pytest.fixture(scope="module")
def files(frames, tmp_path_factory):
    return written(tmp_path_factory.mktemp("runs"), frames)


def model(**options):
    return NeuralODE(**{"field": oscillator, "random_state": 0} | options)


@pytest.fixture(scope="module")
def local(files):
    return model().fit(files, **COLUMNS)


def assert_same(a, b, *besides):
    names = {"theta_", "covariance_", "initial_states_", "state_gain_", "state_covariance_"} - set(besides)
    for name in sorted(names):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
    assert a.history_["loss"].tobytes() == b.history_["loss"].tobytes()
    for name in ("loss", "n_observed", "noise", "rmse", "log_likelihood", "log_evidence", "nfe", "n_samples"):
        assert a.report_[name] == b.report_[name], name


def in_memory(frames, **options):
    return model(**options).fit(pd.concat(frames), **COLUMNS)


def assert_agree(many, whole, errors=0.05):
    """The same parameters, up to a part of their standard errors, and the same standard errors."""
    error = np.sqrt(np.diag(whole.covariance_))
    assert (np.abs(many.theta_ - whole.theta_) < errors * error).all(), (many.theta_ - whole.theta_) / error
    np.testing.assert_allclose(np.sqrt(np.diag(many.covariance_)), error, rtol=0.01)
    for name in ("noise", "rmse"):
        for state in whole.names_:
            np.testing.assert_allclose(many.report_[name][state], whole.report_[name][state], rtol=2e-3)
    for name in ("n_observed", "n_samples"):
        assert many.report_[name] == whole.report_[name]
    np.testing.assert_allclose(many.report_["log_likelihood"], whole.report_["log_likelihood"], atol=0.5)


def test_files_one_after_the_other_give_the_fit_of_all_data_in_memory(local, frames):
    whole = in_memory(frames)
    assert_agree(local, whole)
    np.testing.assert_allclose(local.report_["log_evidence"], whole.report_["log_evidence"], atol=0.5)
    assert local.report_["degrees"] == pytest.approx(whole.report_["degrees"])
    assert local.report_["stages"][-1]["name"] == "all partitions, whole trajectories"
    assert local.report_["status"] == "finished" and local.report_["stages"][-1]["status"] == "converged"


def test_more_trajectories_than_the_sample_decide(frames, files, local, monkeypatch):
    monkeypatch.setattr("pynode.models.trajectories.partitions.fits.SAMPLE", 0)  # so that it is FEWEST
    some = model().fit(files, **COLUMNS)
    assert len(some.data_) == 32 and some.report_["n_samples"] == 24 * N_PARTS
    assert_agree(some, in_memory(frames), errors=0.15)
    alone = model().fit(some.data_)
    assert np.sqrt(np.diag(alone.covariance_)).min() > 1.4 * np.sqrt(np.diag(some.covariance_)).max() * 0.5
    error = np.sqrt(np.diag(local.covariance_))
    assert np.abs((some.theta_ - local.theta_) / error).max() < 0.15 < np.abs((alone.theta_ - local.theta_) / error).max()


def test_missing_entries(tmp_path):
    gaps = tables(n=12, missing=0.3)
    assert_agree(model().fit(written(tmp_path, gaps), **COLUMNS), in_memory(gaps), errors=0.1)


@pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")
def test_windows(tmp_path):
    options = {"field": None, "hidden": (5,), "windows": (6,)}
    data = tables(n=12)
    many = model(**options).fit(written(tmp_path, data), **COLUMNS)
    whole = in_memory(data, **options)
    last = many.report_["stages"][-1]
    assert last["name"] == "all partitions, windows of 6" and last["windows"] == whole.report_["stages"][-1]["windows"] > 200
    for name in ("x", "v"):
        assert many.report_["noise"][name] == pytest.approx(whole.report_["noise"][name], rel=0.02)


def test_an_equation_is_found_and_a_network_learned(tmp_path):
    paths = written(tmp_path, tables(n=15))
    found = NeuralODE(random_state=0).fit(paths, **COLUMNS)
    assert set(terms_of(found)) == {"x: v", "v: x", "v: v", "v: v*x^2"}
    net = NeuralODE(hidden=(6,), random_state=0).fit(paths, **COLUMNS)
    assert net.field_.n_params > 30 and net.report_["noise"]["x"] == pytest.approx(0.05, rel=0.06)
    y, std = net.predict(np.linspace(0, 4, 30), [1.0, 0.5], return_std=True)
    truth = pn.solve(oscillator, [1.0, 0.5], np.linspace(0, 4, 30), TRUE).y
    assert np.abs(y - truth).max() < 0.05 and (std < 0.05).all()


def test_large_fields_by_gradients(tmp_path):
    paths = written(tmp_path, tables(n=8))
    by_gradient = model(optimizer="lbfgs").fit(paths, **COLUMNS)
    by_matrices = model().fit(paths, **COLUMNS)
    error = np.sqrt(np.diag(by_matrices.covariance_))
    assert np.abs((by_gradient.theta_ - by_matrices.theta_) / error).max() < 0.2
    assert by_gradient.covariance_ is None and by_gradient.report_["optimizer"] == "lbfgs"


@pytest.mark.parametrize("delay", [0.0, 0.25])
@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # the data have no delay
def test_control_inputs(delay, tmp_path):
    driven = pn.field(state=["x", "v"], inputs=1, theta={"k": 1.5, "b": 0.5})(
        lambda t, y, th, u: [y[1], -th.k * y[0] - 0.3 * y[1] + th.b * u[0]]
    )
    data = tables(n=6, field=driven, theta=[1.0, 1.0], u=lambda t, rng: np.sin(t + rng.uniform(0, 6)))
    options = {"field": driven, "random_state": 0, "input_kind": "linear", "input_delay": delay}
    many = NeuralODE(**options).fit(written(tmp_path, data), input="u", **COLUMNS)
    whole = NeuralODE(**options).fit(pd.concat(data), input="u", **COLUMNS)
    assert_agree(many, whole, errors=0.1)


def test_logarithms(tmp_path):
    prey = pn.field(state=2)(lambda t, y: [1.1 * y[0] - 0.4 * y[0] * y[1], 0.1 * y[0] * y[1] - 0.4 * y[1]])
    rng = np.random.default_rng(0)
    t = np.linspace(0, 6, 25)
    frames = []
    for k in range(3):
        y = pn.solve(prey, rng.uniform([4, 2], [12, 6], (6, 2)), t).y
        y = y * np.exp(0.03 * rng.standard_normal(y.shape))
        frames.append(pd.DataFrame({"run": np.repeat(np.arange(6) + 6 * k, 25), "t": np.tile(t, 6), "x": y[..., 0].ravel()}))
        frames[-1]["v"] = y[..., 1].ravel()
    options = {"field": None, "hidden": (5,), "log": True}
    many = model(**options).fit(written(tmp_path, frames), **COLUMNS)
    whole = in_memory(frames, **options)
    assert many.report_["noise_of"] == "logarithms"
    assert many.report_["noise"]["x"] == pytest.approx(whole.report_["noise"]["x"], rel=0.03)
    assert many.report_["log_likelihood"] == pytest.approx(whole.report_["log_likelihood"], abs=4)
    frames[1].loc[3, "v"] = -1.0
    with pytest.raises(ValueError, match=r"partition 1: log=True needs positive states, but state 2 is -1"):
        model(**options).fit(written(tmp_path, frames), **COLUMNS)


def test_columns_go_to_the_states_of_their_names(files, local):
    swapped = model().fit(files, **COLUMNS | {"state": ["v", "x"]})
    assert swapped.names_ == ("x", "v")
    assert_same(swapped, local)


def test_the_model_is_an_ordinary_one(local, tmp_path):
    local.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    t = np.linspace(0, 4, 9)
    np.testing.assert_array_equal(again.predict(t, [1.0, 0.0]), local.predict(t, [1.0, 0.0]))
    later = local.data_.t[3][0] + t
    mean, std = local.predict(later, trajectory=3, return_std=True)
    own = local.initial_states_[3]
    np.testing.assert_allclose(mean[0], own, rtol=1e-6)
    assert (std > 0).all() and std[0].max() < 0.05
    assert "mu" in str(local.summary()) and local.forecast(3)[0].shape == (3, 2)
    band = local.predict(t, [1.0, 0.0], interval=0.9)
    assert (band.lower <= band.mean).all() and 0 < (band.upper - band.lower).max() < 0.1
    assert copy.deepcopy(local).theta_.tobytes() == local.theta_.tobytes()


def test_standard_errors_are_right(tmp_path):
    """Over data sets parameters scatter as their standard errors say."""
    z = []
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        many = model().fit(written(folder, tables(n=4, seed=seed + 1)), **COLUMNS)
        z.append((many.theta_ - TRUE) / np.sqrt(np.diag(many.covariance_)))
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.5


class Stop(Exception):
    pass


@pytest.mark.parametrize("options", [{"field": None, "hidden": (5,)}, {"optimizer": "lbfgs"}])
def test_a_fit_goes_on_from_its_checkpoint(options, files, tmp_path, monkeypatch):
    monkeypatch.setattr("pynode.models.trajectories.partitions.fits.SAMPLE", 0)
    whole = model(**options).fit(files, **COLUMNS)
    steps = [int(k) for k in whole.history_["stage"]].count(len(whole.report_["stages"]) - 1)
    assert steps >= 2
    path = tmp_path / "fit.npz"
    for after in (1, 2):
        seen = []

        def stop(iteration, seen=seen, after=after):
            seen.append(iteration.stage)
            if sum(name.startswith("all") for name in seen) == after:
                raise Stop

        with pytest.raises(Stop):
            model(**options).fit(files, **COLUMNS, checkpoint=pn.fit.Checkpoint(path, every=0), callback=stop)
    assert path.exists()
    with pytest.raises(ValueError, match="checkpoint of another fit"):
        model(**options | {"rtol": 1e-6}).fit(files, **COLUMNS, checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint of another fit"):
        model(**options).fit(files[:-1], **COLUMNS, checkpoint=path)
    seen = []
    again = model(**options).fit(files, **COLUMNS, checkpoint=path, callback=lambda it: seen.append(it.stage))
    assert len(seen) == steps - 1 and all(name.startswith("all") for name in seen)  # the sample is not fitted again
    assert again.theta_.tobytes() == whole.theta_.tobytes()
    assert again.history_["loss"].tobytes() == whole.history_["loss"].tobytes()
    assert again.report_["noise"] == whole.report_["noise"] and not path.exists()


def test_callbacks_and_interrupts_leave_a_model(files, monkeypatch):
    monkeypatch.setattr("pynode.models.trajectories.partitions.fits.SAMPLE", 0)

    def end(iteration):
        return iteration.stage.startswith("all")

    stopped = model().fit(files, **COLUMNS, callback=end)
    assert stopped.report_["status"] == "stopped" and stopped.covariance_ is not None

    def interrupt(iteration):
        if iteration.stage.startswith("all"):
            raise KeyboardInterrupt

    broken = model()
    with pytest.raises(pn.fit.FitInterrupted):
        broken.fit(files, **COLUMNS, callback=interrupt)
    assert broken.report_["status"] == "interrupted"
    assert broken.predict([0.0, 1.0], [1.0, 0.0]).shape == (2, 2)
    early = model().fit(files, **COLUMNS, callback=lambda it: True)
    assert early.report_["status"] == "stopped" and early.report_["n_samples"] <= 24 * N_PARTS


def test_partitions_that_are_not_alike_are_warned_of(frames, tmp_path, monkeypatch):
    monkeypatch.setattr("pynode.models.trajectories.partitions.fits.SAMPLE", 0)
    odd = [frame.copy() for frame in frames]
    row = odd[3].columns.get_loc("x")
    odd[3].iloc[::50, row] += 8.0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model().fit(written(tmp_path, odd), **COLUMNS)
    assert any("partitions" in str(x.message) or "smoothing" in str(x.message) for x in said)


REFUSED = {
    "augment": (1, {"field": None}),
    "observe": (lambda t, y, th: y[0], {}),
    "initial": ([0.0, 0.0], {}),
    "limits": ({"x": (0, 1)}, {"field": None}),
    "process_noise": (True, {}),
    "noise": ("student", {}),
    "early_stopping": (True, {"field": None, "optimizer": "lbfgs"}),
    "n_estimators": (3, {"field": None}),
    "n_restarts": (3, {}),
    "optimizer": ("adam", {}),
    "steer": (0.5, {"optimizer": "auto"}),
    "kinetic_energy": (0.1, {"field": None}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_do_not_go_with_partitions_are_named(name, files):
    value, more = REFUSED[name]
    with pytest.raises(ValueError, match=f"{name}=.* does not go with data in partitions"):
        model(**more | {name: value}).fit(files, **COLUMNS)


@pytest.mark.parametrize("name", ["Y", "u", "weight", "doses"])
def test_arguments_that_do_not_go_with_partitions_are_named(name, files):
    with pytest.raises(TypeError, match=f"{name}= does not go with data in partitions"):
        model().fit(Partitions(files, **COLUMNS), **{name: [1.0]})


def test_texts_are_dates_where_states_are_given():
    days = [f"2024-01-{k:02d}" for k in range(1, 21)]
    fit = NeuralODE(random_state=0).fit(days, np.exp(-0.1 * np.arange(20)))
    assert fit.clock_ is not None


def test_states_with_limits_and_implicit_methods(frames, tmp_path):
    limited = pn.field(state={"x": pn.positive, "v": None}, theta={"k": pn.positive(0.5)})(
        lambda t, y, th: [-th.k * y[0], th.k * y[0] - y[1]]
    )
    data = tables(n=8, field=limited, theta=[1.0])
    for frame in data:
        sign = np.sign(frame.groupby("run")["x"].transform("sum"))  # the equation is linear
        frame[["x", "v"]] = frame[["x", "v"]].mul(sign, axis=0)
    fits = [model(field=limited, method=method).fit(written(tmp_path, data), **COLUMNS) for method in ("dopri5", "rodas5p")]
    error = np.sqrt(np.diag(fits[0].covariance_))
    assert np.abs((fits[0].theta_ - fits[1].theta_) / error).max() < 0.1
    assert (fits[0].initial_states_[:, 0] > 0).all()


def test_fields_without_parameters_and_fields_that_call_python(files):
    plain = pn.field(state=2)(lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]])
    fit = model(field=plain).fit(files, **COLUMNS)
    assert len(fit.theta_) == 0 and fit.report_["noise"]["x"] == pytest.approx(0.05, rel=0.1)
    called = pn.callback_field(lambda t, y, th: -th[0] * y, 2, 1)
    with pytest.raises(ValueError, match="calls Python, which does not go with data in partitions"):
        model(field=called).fit(files, **COLUMNS)


def test_sources_that_cannot_be_read_are_named(files, frames, tmp_path):
    for source, error, words in (
        ([], ValueError, "there are no partitions"),
        (str(tmp_path / "*.parquet"), ValueError, "there is no file"),
        (3.0, TypeError, "float is none of"),
        ([files[0], 3], TypeError, "list is none of"),
    ):
        with pytest.raises(error, match=words):
            Partitions(source, **COLUMNS)
    with pytest.raises(TypeError, match="give time= and state="):
        Partitions(files)
    with pytest.raises(ValueError, match="engine='ray' is not one of local, dask"):
        Partitions(files, **COLUMNS, engine="ray")
    with pytest.raises(TypeError, match=r"give time= to pynode\.Partitions"):
        model().fit(Partitions(files, **COLUMNS), time="t")
    (tmp_path / "no.parquet").write_text("t,x\n0,1\n")
    with pytest.raises(ValueError, match=r"partition 0 \(.*no.parquet\): it cannot be read as a Parquet file"):
        model().fit(tmp_path / "no.parquet", **COLUMNS)
    with pytest.raises(ValueError, match=r"partition 0 .*: there is no column 'w'"):
        NeuralODE().fit(files, **COLUMNS | {"state": ["x", "w"]})
    with pytest.raises(ValueError, match="state v is never observed"):
        model().fit(files, **COLUMNS | {"state": "x"})


def test_trajectories_torn_by_partitions_are_refused(frames, tmp_path):
    whole = pd.concat(frames)
    cut = [whole.iloc[: len(whole) // 2], whole.iloc[len(whole) // 2 :]]
    with pytest.raises(ValueError, match=r"trajectory \d+ is in two partitions"):
        model().fit(written(tmp_path, cut), **COLUMNS)
    empty = [whole.iloc[:0], whole]  # no trajectory at all is no mistake
    assert model().fit(written(tmp_path, empty), **COLUMNS).report_["n_samples"] == 24 * N_PARTS
    with pytest.raises(ValueError, match="no trajectories"):
        model().fit(written(tmp_path, [whole.iloc[:0]]), **COLUMNS)
    gone = whole.assign(v=np.nan)
    with pytest.raises(ValueError, match="state v is never observed"):
        model().fit(written(tmp_path, [gone]), **COLUMNS)


# ---- Dask


dask = pytest.importorskip("dask")


def as_pairs(frame):
    return [(run["t"].to_numpy(), run[["x", "v"]].to_numpy()) for _, run in frame.groupby("run")]


def one_of(pairs):
    return [t for t, _ in pairs], [y for _, y in pairs]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_dask_gives_the_same_bits(scheduler, files, local):
    with dask.config.set(scheduler=scheduler):
        assert_same(model().fit(Partitions(files, **COLUMNS, engine="dask")), local)


def test_collections_of_dask(files, frames, local):
    lazy = [dask.delayed(frame) for frame in frames]
    with dask.config.set(scheduler="synchronous"):
        assert_same(model().fit(lazy, **COLUMNS), local)
        pairs = [dask.delayed(as_pairs)(frame) for frame in frames]
        assert_same(model().fit(pairs, names=["x", "v"]), local)
        assert_same(model().fit([dask.delayed(one_of)(part) for part in pairs]), local)
        bag = pytest.importorskip("dask.bag").from_delayed(pairs)
        assert_same(model().fit(bag, names=["x", "v"]), local)
        table = pytest.importorskip("dask.dataframe").read_parquet(files)
        assert_same(model().fit(table, **COLUMNS), local)
        array = pytest.importorskip("dask.array").ones((4, 5, 2), chunks=(1, 5, 2))
        with pytest.raises(TypeError, match=r"a dask.array has no times: give its blocks"):
            model().fit(array)
        with pytest.raises(TypeError, match=r"partition \d: int is none of: a data frame"):
            model().fit([dask.delayed(3)])
        with pytest.raises(TypeError, match=r"partition \d: data frames need time= and state="):
            model().fit(lazy)
        with pytest.raises(ValueError, match="engine='local' is for Parquet files"):
            Partitions(lazy, **COLUMNS, engine="local")
