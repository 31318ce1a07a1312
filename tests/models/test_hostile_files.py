"""Files made to do harm: whatever they hold, they are refused at once or load, in 2 seconds and 200 MB.

The files are read in a process of its own, which measures; run as a program, this file is that process.
"""

import copy
import io
import json
import pathlib
import resource
import struct
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest

import pynode as pn
from pynode.data import files

SECONDS = 2.0
MEGABYTES = 200
TRIES = 80

T = np.linspace(0, 4, 9)
Y = np.stack([np.cos(T), np.sin(T)])[:, :, None]
X = np.random.default_rng(0).standard_normal((20, 3))
QUICK = {"max_iter": 2, "random_state": 0}


@pn.field(state=2, theta={"k": pn.positive(0.7), "c": pn.bounded(0.1, 0.0, 1.0)})
def spring(t, y, th):
    return [y[1], -th.k * y[0] - th.c * y[1]]


def known_equation():
    """A model with all that a protocol holds."""
    options = {"observe": lambda t, y, th: y / (1 + th.c), "initial": {0: pn.positive(1.0), 1: 0.0}, "lag": {1: 0.1}}
    doses = [[pn.Dose(0.5, "k", 1, interval=1.0, count=2)], [pn.Dose(1.0, 2.0, duration=0.5, bioavailability="c")]]
    model = pn.NeuralODE(field=spring, noise={"y1": "combined"}, **options, **QUICK)
    return model.fit(T, np.concatenate([Y, Y], axis=2) ** 2 + 0.1, doses=doses)


HEUN = pn.Tableau([[], ["1"]], ["1/2", "1/2"], b_hat=[1, 0], name="heun with an estimate")
MODELS = {
    "NeuralODE": lambda: pn.NeuralODE(hidden=(3,), augment=1, **QUICK).fit(T, Y, u=Y),
    "ensemble": lambda: pn.NeuralODE(hidden=(2,), n_estimators=2, **QUICK).fit(T, Y),
    "known equation": known_equation,
    "own field": lambda: pn.NeuralODE(field=spring, **QUICK).fit(T, np.concatenate([Y, Y], axis=2)),
    "LatentODE": lambda: pn.LatentODE(latent=2, method=HEUN, **QUICK).fit(T, Y, u=Y),
    "LatentODE, own field": lambda: pn.LatentODE(latent=2, field=spring, encoder="ode-rnn", noise=0.1, **QUICK).fit(T, Y),
    "classifier": lambda: pn.NeuralODEClassifier(hidden=(3,), augment=1, **QUICK).fit(X, np.where(X[:, 0] > 0, "yes", "no")),
    "lifted": lambda: pn.NeuralODEClassifier(hidden=(3,), lift=2, **QUICK).fit(X, X[:, 0] > 0),
    "regressor": lambda: pn.NeuralODERegressor(hidden=(3,), layers=4, **QUICK).fit(X, X[:, :2]),
    "read first": lambda: pn.NeuralODERegressor(hidden=(), readout="first", **QUICK).fit(X, X[:, 0]),
    "CNF": lambda: pn.CNF(hidden=(3, 3), **QUICK).fit(X),
}


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


NUMBERS = [10**7, 10**9, 2**31, 2**62, 10**30, -1, 0, 1, 1e308, -1e308, 1e-308, 0.5, {"$float": "nan"}, {"$float": "inf"}]
NONSENSE = [
    *NUMBERS,
    None,
    True,
    "",
    "x" * 200_000,
    "U100000000",
    "f8",
    "1e999999999",
    "1" * 100_000 + "/3",
    [],
    {},
    [1] * 20_000,
    [2] * 300,
    [10**6] * 5,
    ["a"] * 20_000,
    [[0.0] * 200] * 200,
    nested(30),
    nested(100),
    {"$array": "theta"},
    {"$array": "nothing"},
    {str(i): i for i in range(5000)},
]


# ---- Making files


def parts_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of two members with the same name
        for name, data in parts.items() if isinstance(parts, dict) else parts:
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def header_of(parts):
    return json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes())


def with_header(parts, header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return parts | {"header.npy": npy(np.frombuffer(text, np.uint8))}


def with_array(parts, name, array):
    header = header_of(parts)
    header["arrays"][name] = [array.dtype.str, list(array.shape)]
    return with_header(parts | {f"{name}.npy": npy(array)}, header)


def places(tree):
    """(container, key) of every value of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from places(value)


def mutated(rng, parts):
    """A file with one to three things changed."""
    kind = rng.integers(6)
    if kind == 0:  # bytes of the file
        data = bytearray(packed(parts))
        for at in rng.integers(len(data), size=rng.integers(1, 8)):
            data[at] = rng.integers(256)
        return bytes(data[: rng.integers(1, len(data))]) if rng.random() < 0.2 else bytes(data)
    header = header_of(parts)
    if kind == 1:  # an array
        names = list(header["arrays"])
        name = names[rng.integers(len(names))]
        array = np.load(io.BytesIO(parts[f"{name}.npy"]))
        shape = list(array.shape)
        choice = rng.integers(5)
        if choice == 0 and shape:
            shape[rng.integers(len(shape))] = int(rng.choice([0, 1, 2, 10**5, 10**6]))
            array = np.zeros(shape if np.prod(shape) <= 2e6 else (10**6,), array.dtype)
        elif choice == 1 and array.size:
            array.flat[rng.integers(array.size)] = rng.choice([2**31 - 1, -1, -(2**31), 0, 7])
        elif choice == 2 and array.dtype.kind == "f":
            array = np.full_like(array, rng.choice([np.nan, np.inf, 1e308, 0.0, -1.0]))
        elif choice == 3:
            with np.errstate(invalid="ignore"):
                array = array.astype(rng.choice(["<f8", "<i4", "<i8"]))
        else:
            array = array.reshape(-1)[: array.size // 2]
        return packed(with_array(parts, name, array))
    for _ in range(rng.integers(1, 4)):  # the header
        there = list(places(header["content"]))
        container, key = there[rng.integers(len(there))]
        number = isinstance(container[key], (int, float)) and rng.random() < 0.7
        values = NUMBERS if number else NONSENSE
        if rng.random() < 0.05:
            del container[key]
        else:
            container[key] = copy.deepcopy(values[rng.integers(len(values))])
    return packed(with_header(parts, header))


def with_options(parts, **more):
    header = header_of(parts)
    header["content"]["params"].update(more)
    return packed(with_header(parts, header))


def with_content(parts, change):
    header = header_of(parts)
    change(header["content"])
    return packed(with_header(parts, header))


def with_doses(parts, doses):
    return with_content(parts, lambda c: c["protocol"].update(doses=[doses, []]))


def many_members(parts, n):
    return packed([*parts.items(), *((f"m{i}.npy", b"") for i in range(n))], zipfile.ZIP_STORED)


def zip64(parts):
    """A record of 4 GiB archives before the end."""
    data = packed(parts)
    return data[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + data[-22:]


def large_flow(p):
    """A flow of many features in which everything fits."""
    k = 600_000
    sizes = {"theta": (k + 1 + 1) + 2 * k, "shift": k, "scale": k}
    for name, n in sizes.items():
        p = with_array(p, name, np.ones(n))
    header = header_of(p)
    header["content"]["params"]["hidden"] = [1]
    header["content"]["n_features"] = k
    return packed(with_header(p, header))


def deep_flow(p):
    """As many layers as there may be."""
    p = with_array(p, "theta", np.ones(5 + 2 * 999 + 2 * 3))  # 3 features and the time
    header = header_of(p)
    header["content"]["params"]["hidden"] = [1] * 1000
    return packed(with_header(p, header))


MIB = 1 << 20
PARTS = {
    "NeuralODE": {
        "every member twice": lambda p: packed([*p.items(), *p.items()]),
        "theta twice": lambda p: packed([*p.items(), ("theta.npy", p["theta.npy"])]),
        "many members": lambda p: many_members(p, 30_000),
        "very many members": lambda p: many_members(p, 70_000),
        "a record of zip64": zip64,
        "a comment": lambda p: packed(p)[:-2] + b"\x04\x00note",
        "lzma": lambda p: packed(p, zipfile.ZIP_LZMA),
        "bzip2": lambda p: packed(p, zipfile.ZIP_BZIP2),
        "a bomb of theta": lambda p: packed(with_array(p, "theta", np.zeros(50 * MIB))),
        "a bomb of a member": lambda p: packed(p | {"theta.npy": bytes(100 * MIB)}),
        "a bomb of the header": lambda p: packed(p | {"header.npy": npy(np.full(100 * MIB, 32, np.uint8))}),
        "spaces": lambda p: packed(with_header(p, json.dumps(header_of(p)).encode() + b" " * (15 * MIB))),
        "nested lists": lambda p: packed(with_header(p, b"[" * MIB + b"]" * MIB)),
        "many lists": lambda p: packed(with_header(p, b"[" + b"[]," * (4 * MIB) + b"[]]")),
        "many dicts": lambda p: packed(with_header(p, b"[" + b'{"a":{}},' * MIB + b"{}]")),
        "a long number": lambda p: packed(with_header(p, b"1" * (8 * MIB))),
        "a long fraction": lambda p: packed(with_header(p, b"0." + b"1" * (8 * MIB))),
        "an infinite number": lambda p: packed(with_header(p, json.dumps(header_of(p)).replace("0.5", "1e999").encode())),
        "one array in many places": lambda p: with_content(p, lambda c: c.update(more=[{"$array": "theta"}] * 10_000)),
        "an array of no use": lambda p: packed(with_array(p, "more", np.zeros(3))),
        "many trajectories": lambda p: packed(with_array(p, "data.lengths", np.ones(3 * MIB, np.int64))),
        "a shape below 0": lambda p: packed(
            p | {"theta.npy": p["theta.npy"].replace(b"(", b"(-", 1)} | {"header.npy": p["header.npy"]}
        ),
        "many members of the ensemble": lambda p: with_content(p, lambda c: c.update(estimators=[{}] * 100_000)),
        "a pickle": lambda p: packed(p | {"theta.npy": npy(np.array([{}], object))}),
        "long registers": lambda p: with_content(p, lambda c: c["field"]["program"]["sizes"].append(2**31 - 1)),
    },
    "known equation": {
        "a dose given often": lambda p: with_doses(p, [{"time": 0.0, "interval": 1.0, "count": 200_000}]),
        "doses given often": lambda p: with_doses(p, [{"time": 0.0, "interval": 1.0, "count": 10**6}] * 2),
        "a dose given too often": lambda p: with_doses(p, [{"time": 0.0, "interval": 1.0, "count": 10**15}]),
        "many doses": lambda p: with_doses(p, [{"time": 0.0}] * 300_000),
        "a dose of another state": lambda p: with_doses(p, [{"time": 0.0, "state": 10**9}]),
        "a dose by a name": lambda p: with_doses(p, [{"time": "x" * 10**6}]),
        "a dose with more": lambda p: with_doses(p, [{"time": 0.0, "more": 1}]),
        "many error models": lambda p: with_content(p, lambda c: c["protocol"].update(models=["additive"] * 400_000)),
        "many states": lambda p: with_content(p, lambda c: c["protocol"].update(states=["x"] * 400_000)),
        "many lags": lambda p: with_content(p, lambda c: c["protocol"].update(lag={str(i): 0.0 for i in range(300_000)})),
        "a lag below 0": lambda p: with_content(p, lambda c: c["protocol"].update(lag={"0": -1.0})),
        "a lag of nothing": lambda p: with_content(p, lambda c: c["protocol"].update(lag={"0": {"$float": "nan"}})),
        "bounds in disorder": lambda p: packed(with_array(p, "protocol.low", np.array([2.0, 2.0]))),
        "infinite initial states": lambda p: packed(with_array(p, "protocol.known", np.full((2, 2), np.inf))),
        "many trajectories": lambda p: packed(with_array(p, "protocol.first", np.zeros(3 * MIB))),
    },
    "LatentODE": {
        "latent": lambda p: with_options(p, latent=10_000_000),
        "encoder": lambda p: with_options(p, encoder_hidden=10_000_000),
        "hidden": lambda p: with_options(p, hidden=[10**9]),
        "many layers": lambda p: with_options(p, hidden=[1] * 100_000),
        "decoder": lambda p: with_options(p, decoder_hidden=[2**40]),
        "a tableau": lambda p: with_content(p, lambda c: c["params"]["method"].update(b=["1e999999999", "1"])),
        "a large tableau": lambda p: with_content(p, lambda c: c["params"]["method"].update(b=["1/3"] * 100_000)),
        "names": lambda p: with_content(p, lambda c: c.update(names=["x"] * 400_000)),
    },
    "classifier": {
        "augment": lambda p: with_options(p, augment=10_000_000),
        "lift": lambda p: with_options(p, augment=0, lift=10_000_000),
        "hidden": lambda p: with_options(p, hidden=[10_000_000]),
        "layers": lambda p: with_options(p, layers=10**15),
        "many layers": lambda p: with_options(p, hidden=[2] * 5000),
        "features": lambda p: with_content(p, lambda c: c.update(n_features=1 << 20)),
        "long labels": lambda p: with_content(p, lambda c: c.update(classes_dtype="<U500000000")),
        "many labels": lambda p: with_content(p, lambda c: c.update(classes=[str(i) for i in range(400_000)])),
    },
    "CNF": {
        "features": lambda p: with_content(p, lambda c: c.update(n_features=1 << 20)),
        "hidden": lambda p: with_options(p, hidden=[2**31, 2**31]),
        "many layers": lambda p: with_options(p, hidden=[3] * 30_000),
        "features that fit": large_flow,
        "layers that fit": deep_flow,
    },
}
ACCEPTED = {"spaces", "a dose given often", "layers", "features that fit", "layers that fit"}
"""Harmless: spaces after the header, steps that are taken in a solve only, and what is large but fits."""


# ---- Reading them


def measured(path):
    """What reading a file gives, and what it costs: seconds of this process, and megabytes at most so far."""
    start = time.process_time()
    try:
        pn.load(path)
        outcome = "loaded"
    except pn.ModelFileError:
        outcome = "refused"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    return outcome, time.process_time() - start, peak_memory()


def peak_memory():
    """In megabytes. Linux counts for getrusage what the process that started this one took, too."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def read_all(good, folder):
    """Read the good file, then all of a folder; print the outcomes as JSON. The good one loads what any model needs."""
    warnings.simplefilter("ignore")
    outcomes = {"good": measured(good)}
    for path in sorted(pathlib.Path(folder).iterdir()):
        outcomes[path.name] = measured(path)
    print(json.dumps(outcomes))


def outcomes_of(good, folder):
    """The same, in a process of its own."""
    command = [sys.executable, __file__, str(good), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def check_costs(outcomes):
    assert outcomes["good"][0] == "loaded"
    before = outcomes["good"][2]
    for name, (outcome, seconds, peak) in outcomes.items():
        assert outcome in ("loaded", "refused"), (name, outcome)
        assert name == "good" or seconds < SECONDS, (name, seconds)
        assert peak < before + MEGABYTES, (name, peak - before)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """name -> path of a saved model."""
    folder = tmp_path_factory.mktemp("good")

    def save(name):
        path = folder / f"{name}.npz"
        if not path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                MODELS[name]().save(path)
        return path

    return save


@pytest.mark.parametrize("name", MODELS)
def test_random_changes(name, saved, tmp_path):
    good = saved(name)
    rng = np.random.default_rng(sum(map(ord, name)))
    parts = parts_of(good.read_bytes())
    for i in range(TRIES):
        (tmp_path / f"{i}.npz").write_bytes(mutated(rng, parts))
    outcomes = outcomes_of(good, tmp_path)
    check_costs(outcomes)
    assert sum(outcome == "refused" for outcome, *_ in outcomes.values()) > TRIES // 2


@pytest.mark.parametrize("name", PARTS)
def test_bombs(name, saved, tmp_path):
    good = saved(name)
    parts = parts_of(good.read_bytes())
    for what, make in PARTS[name].items():
        (tmp_path / what).write_bytes(make(parts))
    outcomes = outcomes_of(good, tmp_path)
    check_costs(outcomes)
    assert {what for what, (outcome, *_) in outcomes.items() if outcome == "loaded"} <= {"good"} | ACCEPTED


def test_files_of_little_but_zeros_load_again(tmp_path):
    content = {"model": "none", "zeros": np.zeros(6 * MIB)}
    files.write(tmp_path / "zeros.npz", content)
    assert not files.read(tmp_path / "zeros.npz")["zeros"].any()


def test_what_could_not_be_read_is_not_written(tmp_path):
    for content in ({"many": list(range(files.MAX_ITEMS + 1))}, {"long": "x" * (files.MAX_HEADER + 1)}):
        with pytest.raises(ValueError, match="too large for a file"):
            files.write(tmp_path / "large.npz", content)
    assert not list(tmp_path.iterdir())


if __name__ == "__main__":
    read_all(*sys.argv[1:])
