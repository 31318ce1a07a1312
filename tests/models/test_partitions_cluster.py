"""Fits on a cluster of processes: the same bits with one worker and with four, and where a worker dies in the middle."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import pynode as pn

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

# of the cluster, not of the library: ports in use, clocks of a busy machine, sockets that close late
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:distributed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

COLUMNS = {"time": "t", "state": ["x", "v"], "id": "run"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    f = pn.field(state=2)(lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]])
    t = np.linspace(0, 4, 25)
    for k in range(7):
        rng = np.random.default_rng(k)
        y = pn.solve(f, rng.uniform(-2, 2, (20, 2)), t).y + 0.05 * rng.standard_normal((20, 25, 2))
        table = {
            "run": np.repeat(np.arange(20) + 20 * k, 25),
            "t": np.tile(t, 20),
            "x": y[..., 0].ravel(),
            "v": y[..., 1].ravel(),
        }
        pd.DataFrame(table).to_parquet(folder / f"{k}.parquet")
    return sorted(map(str, folder.glob("*.parquet")))


def fitted(source, **columns):
    field = pn.field(state=2, theta={"mu": pn.positive(0.5), "k": 1.5})(
        lambda t, y, th: [y[1], th.mu * (1 - y[0] ** 2) * y[1] - th.k * y[0]]
    )
    return pn.NeuralODE(field=field, random_state=0).fit(source, **columns)


def bits(model):
    numbers = (model.theta_, model.covariance_, model.initial_states_, model.history_["loss"])
    return [x.tobytes() for x in numbers], model.report_["noise"], model.report_["log_evidence"], model.report_["nfe"]


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_bit(workers, files, monkeypatch):
    monkeypatch.setattr("pynode.models.trajectories.partitions.fits.SAMPLE", 0)
    here = fitted(files, **COLUMNS)
    assert here.report_["stages"][-1]["iterations"] > 0
    options = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        there = fitted(pn.Partitions(files, **COLUMNS, engine="dask"))
    assert bits(here) == bits(there)


def fatal(path, folder):
    """The table of a partition; the worker that reads it for the third time, which is while training, dies."""
    count = len(list(Path(folder).iterdir()))
    Path(folder, str(count)).touch()
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return pd.read_parquet(path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_worker_that_dies_loses_nothing(files, tmp_path, monkeypatch):
    monkeypatch.setattr("pynode.models.trajectories.partitions.fits.SAMPLE", 0)
    here = fitted(files, **COLUMNS)
    parts = [
        dask.delayed(fatal if k == 3 else pd.read_parquet)(path, *[tmp_path] * (k == 3)) for k, path in enumerate(files)
    ]
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        there = fitted(parts, **COLUMNS)
    assert len(list(tmp_path.iterdir())) > 3  # it did die, and was asked again
    assert bits(here) == bits(there)
