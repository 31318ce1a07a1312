"""Model files with everything training can leave in them: round trips, and every JSON value replaced by nonsense."""

import contextlib
import copy
import io
import json
import warnings
import zipfile

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.data.files import ModelFileError

T = np.linspace(0, 4, 21)
Y = np.stack([np.cos(T + p) + 0.1 * np.sin(2 * T) for p in (0.0, 0.7, 1.5)])[:, :, None]
U = np.stack([np.sin(2 * T), np.cos(T), T / 4])[:, :, None]
QUICK = {"hidden": (3,), "max_iter": 4, "random_state": 0}

MODELS = {
    "augmented, inputs": lambda: NeuralODE(**QUICK, augment=1).fit(T, Y, u=U),
    "held inputs": lambda: NeuralODE(**QUICK).fit(T, Y, u=(T[::5], U[0, ::5], "previous")),
    "constants": lambda: NeuralODE(**QUICK, noise="huber").fit([T, T[:9], T], [Y[0], Y[1, :9], Y[2]], u=np.eye(3)),
    "ensemble": lambda: NeuralODE(**QUICK, n_estimators=2, early_stopping=True, patience=2).fit(T, Y, u=U),
    "own field": lambda: NeuralODE(field=spring, random_state=0, max_iter=5).fit(T, np.pad(Y, ((0, 0),) * 2 + ((0, 1),))),
    "gradient descent": lambda: NeuralODE(**QUICK, optimizer="adam", steer=0.1, batch_size=2).fit(T, np.exp(Y)),
    "logarithms": lambda: NeuralODE(**QUICK, log=True, augment=1).fit(T, np.exp(Y)),
}


@pn.field(state=2, theta={"k": pn.positive(0.7), "c": pn.bounded(0.1, 0.0, 1.0), "m": pn.frozen(1.0)})
def spring(t, y, th):
    return [y[1], (-th.k * y[0] - th.c * y[1]) / th.m]


@pytest.fixture(scope="module")
def fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        return {name: make() for name, make in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name, fitted, tmp_path):
    model = fitted[name]
    model.save(tmp_path / "m.npz")
    other = pn.load(tmp_path / "m.npz")
    params = {k: v for k, v in model.get_params().items() if k != "field"}
    assert {k: v for k, v in other.get_params().items() if k != "field"} == params
    std = {"return_std": model.covariance_ is not None}
    for trajectory in range(len(model.initial_states_)):
        for a, b in zip(
            np.atleast_1d(model.predict(T, trajectory=trajectory, unobserved=True, **std)),
            np.atleast_1d(other.predict(T, trajectory=trajectory, unobserved=True, **std)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(other.theta_, model.theta_)
    for key, column in model.history_.items():
        np.testing.assert_array_equal(other.history_[key], column)
    assert [p.constraint for p in other.field_.spec] == [p.constraint for p in model.field_.spec]
    for mine, theirs in zip(model.estimators_, other.estimators_, strict=True):
        np.testing.assert_array_equal(mine.theta_, theirs.theta_)
        for a, b in zip(mine.data_.y, theirs.data_.y, strict=True):
            np.testing.assert_array_equal(a, b)  # members keep the same trajectories aside
    other.save(tmp_path / "again.npz")
    assert header(tmp_path / "again.npz") == header(tmp_path / "m.npz")


def header(path):
    with np.load(path) as stored:
        return json.loads(stored["header"].tobytes())


def leaves(tree, path=()):
    """Paths to every value of a JSON tree, containers too."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


NONSENSE = [
    None,
    True,
    -1,
    0,
    3,
    10**30,
    1e308,
    -2.5,
    "",
    "x",
    [],
    {},
    [[1.0]],
    {"$array": "theta"},
    {"$float": "nan"},
    "theta",
]


def changed(tree, path, value):
    tree = copy.deepcopy(tree)
    at = tree
    for key in path[:-1]:
        at = at[key]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return tree


@pytest.mark.parametrize("name", ["augmented, inputs", "held inputs", "ensemble", "own field"])
def test_every_value_replaced_by_nonsense(name, fitted, tmp_path):
    """A load gives a ModelFileError, or a model that predicts or says why not; nothing else."""
    path = tmp_path / "m.npz"
    fitted[name].save(path)
    good = header(path)
    with zipfile.ZipFile(path) as archive:
        parts = {n: archive.read(n) for n in archive.namelist() if n != "header.npy"}
    places = list(leaves(good))
    rng, refused, read = np.random.default_rng(0), 0, 0
    for k in rng.permutation(len(places) * (len(NONSENSE) + 1))[:250]:
        place, value = places[k // (len(NONSENSE) + 1)], [*NONSENSE, KeyError][k % (len(NONSENSE) + 1)]
        text = np.frombuffer(json.dumps(changed(good, place, value)).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, text)
        with zipfile.ZipFile(path, "w") as archive:
            for n, data in (parts | {"header.npy": buffer.getvalue()}).items():
                archive.writestr(n, data)
        try:
            model = pn.load(path)
        except ModelFileError:
            refused += 1
            continue
        read += 1
        if model.data_ is not None:
            with warnings.catch_warnings(), contextlib.suppress(ValueError):  # of units like 1e308
                warnings.simplefilter("ignore")
                model.predict(T[:5] + 1.0 if name != "own field" else T[:5])
        repr(model)
    assert refused > 25 and read > 2, (refused, read)
