"""Model files and checkpoints with bytes, members and header entries changed: read, or refused with ModelFileError."""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from odd import EDGES, is_answer, one_of

import pynode as pn
from pynode.data import files

T = np.linspace(0, 3, 20)
CIRCLE = np.stack([np.cos(T), -np.sin(T)], axis=1)
X = np.random.default_rng(0).normal(size=(30, 2))
FOLDER = tempfile.mkdtemp()
PATH = Path(FOLDER, "model.npz")


def saved(model):
    model.save(PATH)
    return PATH.read_bytes()


def checkpoint_bytes():
    """A checkpoint of a fit that was stopped by an exception."""

    def stop(iteration):
        if iteration.number == 4:
            raise RuntimeError

    PATH.unlink()
    with contextlib.suppress(RuntimeError):
        fit(stop)
    data = PATH.read_bytes()
    PATH.unlink()
    return data


def fit(callback=None):
    point = pn.fit.Checkpoint(PATH, every=0)
    return pn.fit.adam(lambda x: (x @ x, 2 * x), np.ones(3), max_iter=6, checkpoint=point, callback=callback)


MODELS = [
    saved(pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0, structure="network").fit(T, CIRCLE)),
    saved(pn.NeuralODE(random_state=0, structure="equation").fit(T, CIRCLE)),
    saved(pn.NeuralODEClassifier((3,), max_iter=1, random_state=0).fit(X, X[:, 0] > 0)),
    saved(pn.CNF((3,), max_iter=1, random_state=0).fit(X)),
    saved(pn.LatentODE(max_iter=1, random_state=0).fit(T, CIRCLE[None])),
]
CHECKPOINT = checkpoint_bytes()
VALUES = (
    *EDGES,
    -1,
    2**31,
    2**63,
    "",
    "x" * 100,
    [],
    {},
    None,
    True,
    [[]],
    {"$array": "theta"},
    {"$float": "nan"},
    {"$array": 1},
)


def changed_bytes(rng, data):
    """Some bytes changed, cut, doubled."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(data)))
        kind = rng.integers(4)
        if kind == 0:
            data[at] = int(rng.integers(256))
        elif kind == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 30))]
        else:
            data[at:at] = data[at : at + int(rng.integers(1, 30))]
        if not data:
            break
    return bytes(data)


def places(value, path=()):
    """All places in a tree."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed_header(rng, data):
    """The archive made anew, with entries of its header or numbers of its arrays changed."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays.pop("header").tobytes())
    for _ in range(int(rng.integers(1, 4))):
        if rng.random() < 0.3 and arrays:
            name = one_of(rng, *arrays)
            x = arrays[name] = arrays[name].copy()
            if x.size:
                x.flat[rng.integers(x.size)] = (
                    one_of(rng, 0, 1, -1, 2, 127, 1000) if x.dtype.kind == "i" else one_of(rng, *EDGES)
                )
            continue
        known = list(places(header["content"]))
        *path, last = ("content", *known[rng.integers(len(known))])
        parent = header
        for key in path:
            parent = parent[key]
        kind = rng.integers(3)
        if kind == 0 and isinstance(parent, dict):
            del parent[last]
            parent[str(rng.integers(9))] = 1
            break
        parent[last] = one_of(rng, *VALUES)
        if not isinstance(header.get("content"), (dict, list)):
            break
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(buffer, header=text, **arrays)
    return buffer.getvalue()


def use(model):
    """What one does with a model that was read."""
    if isinstance(model, pn.NeuralODE):
        model.predict(T[:4], [1.0, 0.0])
    elif isinstance(model, pn.CNF):
        model.score_samples(X[:3])
    elif isinstance(model, pn.NeuralODEClassifier):
        model.predict_proba(X[:3])
    str(model)
    model.save(PATH)


def case(rng):
    of_model = rng.random() < 0.8
    data = one_of(rng, *MODELS) if of_model else CHECKPOINT
    try:
        data = changed_bytes(rng, data) if rng.random() < 0.4 else changed_header(rng, data)
    except (ValueError, TypeError, KeyError):
        return  # this change itself makes no file
    PATH.write_bytes(data)
    if not of_model:
        try:
            fit()
        except BaseException as error:
            assert isinstance(error, (files.ModelFileError, ValueError)), f"{type(error).__name__}: {error}"
        PATH.unlink(missing_ok=True)
        return
    try:
        model = pn.load(PATH)
    except BaseException as error:
        assert isinstance(error, files.ModelFileError), f"{type(error).__name__}: {error}"
        return
    finally:
        assert os.listdir(FOLDER) == [PATH.name]
    try:
        use(model)
    except BaseException as error:
        assert is_answer(error), f"in use, {type(error).__name__}: {error}"
