"""Model files: what comes back, and what damaged and hostile files do."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

import pynode as pn
from pynode.data import files
from pynode.data.files import ModelFileError
from pynode.models import NeuralODE, load
from pynode.models.trajectories.publishing.report import model_summary

T = np.linspace(0, 6, 25)
CIRCLE = np.stack([np.cos(T), -np.sin(T)], axis=1)


@pytest.fixture(scope="module")
def model():
    return NeuralODE(hidden=(6,), max_iter=15, random_state=0).fit([T, T[:9]], [CIRCLE, CIRCLE[:9]], names=["x", "v"])


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.npz"
    model.save(path)
    return path.read_bytes()


@pytest.fixture
def reads(tmp_path):
    def read(data):
        path = tmp_path / "file.npz"
        path.write_bytes(data)
        return load(path)

    return read


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(parts):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def with_header(data, change):
    """The file with its header changed by change(dict), or replaced by what it returns."""
    parts = members(data)
    header = json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes())
    header = change(header) or header
    parts["header.npy"] = npy(np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
    return pack(parts)


# ------------------------------------------------------------------------------------------------------------


def test_everything_comes_back(model, good, reads):
    other = reads(good)
    np.testing.assert_array_equal(other.predict(T, [1, 0]), model.predict(T, [1, 0]))
    np.testing.assert_array_equal(other.predict(T[3:], trajectory=1), model.predict(T[3:], trajectory=1))
    np.testing.assert_array_equal(other.derivative(0.0, [1.0, 0.5]), model.derivative(0.0, [1.0, 0.5]))
    assert other.get_params() == model.get_params()
    assert other.names_ == model.names_ and other.random_state_ == model.random_state_
    assert other.report_ == model.report_
    for name, values in model.history_.items():
        np.testing.assert_array_equal(other.history_[name], values)
    for a, b in zip((*model.data_.t, *model.data_.y), (*other.data_.t, *other.data_.y), strict=True):
        np.testing.assert_array_equal(a, b)
    assert other.data_.ids == model.data_.ids
    other.theta_[0] = 1.0  # arrays can be written to


def test_a_model_read_can_be_saved_and_fitted_again(good, reads, tmp_path):
    model = reads(good)
    model.save(tmp_path / "again.npz")
    assert load(tmp_path / "again.npz").report_ == model.report_
    model.fit(T, CIRCLE)


def test_files_are_the_same_each_time(model, tmp_path):
    model.save(tmp_path / "a.npz")
    model.save(tmp_path / "b.npz")
    assert members((tmp_path / "a.npz").read_bytes()) == members((tmp_path / "b.npz").read_bytes())


def test_numpy_reads_it_without_pickle(good):
    with np.load(io.BytesIO(good), allow_pickle=False) as arrays:
        assert json.loads(arrays["header"].tobytes())["format"] == "pynode model"
        assert arrays["theta"].dtype == np.float64


def test_a_field_of_ones_own_comes_back(tmp_path):
    @pn.field(state=2, theta={"k": (), "net": pn.mlp(2, (4,))})
    def spring(t, y, th):
        return [y[1] + th.net(y)[0], -th.k * y[0]]

    model = NeuralODE(field=spring, max_iter=5, random_state=0).fit(T, CIRCLE)
    model.save(tmp_path / "m.npz", data=False)
    other = load(tmp_path / "m.npz")
    np.testing.assert_array_equal(other.predict(T, [1, 0]), model.predict(T, [1, 0]))
    assert other.data_ is None and other.field.name == "spring"
    with pytest.raises(ValueError, match="saved without its data"):
        other.predict(T)


def test_a_python_callback_cannot_be_saved(tmp_path):
    field = pn.callback_field(
        lambda t, y, th: th * y, 1, 1, vjp=lambda t, y, th, g: (g * th, np.array([g @ y])), init=[-1.0]
    )
    model = NeuralODE(field=field, max_iter=3).fit(T, np.exp(-T))
    with pytest.raises(ValueError, match="Python callback"):
        model.save(tmp_path / "m.npz")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m.npz"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.save(path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_does_not_exist(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "no" / "m.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "no.npz")


# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x93NUMPY\x01\x00", pickle.dumps([1, 2]), pack({})])
def test_other_files_are_refused(reads, data):
    with pytest.raises(ModelFileError, match=r"file\.npz"):
        reads(data)


def test_an_npz_of_something_else(reads):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    with pytest.raises(ModelFileError, match="no header"):
        reads(buffer.getvalue())


def test_truncated_files_are_refused(good, reads):
    for n in np.linspace(0, len(good) - 1, 60).astype(int):
        with pytest.raises(ModelFileError):
            reads(good[:n])


def test_flipped_bits_are_found_or_harmless(model, good, reads):
    rng = np.random.default_rng(0)
    expected, refused = model.predict(T, [1, 0]), 0
    for _ in range(250):
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            other = reads(bytes(data))
        except ModelFileError:
            refused += 1
        else:  # the flip hit a date or the like
            np.testing.assert_array_equal(other.predict(T, [1, 0]), expected)
    assert refused > 150


def test_noise_in_place_of_a_block_is_found(good, reads):
    rng = np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(good)
        at = rng.integers(len(data) - 64)
        data[at : at + 64] = rng.bytes(64)
        with pytest.raises(ModelFileError):
            reads(bytes(data))


class Evil:
    def __reduce__(self):
        return os.system, ("echo hacked > hacked.txt",)


def test_a_pickle_inside_is_not_opened(good, reads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = npy(np.array([Evil()], dtype=object), allow_pickle=True)
    for name in ("theta.npy", "header.npy"):
        with pytest.raises(ModelFileError):
            reads(pack(members(good) | {name: evil}))
    assert not (tmp_path / "hacked.txt").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(20, dtype=np.float32),
        np.zeros(20, dtype=complex),
        np.zeros((4, 5)),
        np.zeros(19),
        np.array("x" * 20),
        np.zeros(20, dtype=">f8"),
        np.asfortranarray(np.zeros((4, 5))),
        np.full(32, np.nan),
        np.full(32, np.inf),
    ],
)
def test_arrays_of_the_wrong_type_shape_or_value(good, reads, array):
    with pytest.raises(ModelFileError):
        reads(pack(members(good) | {"theta.npy": npy(array)}))


def test_an_array_that_claims_to_be_huge(good, reads):
    data = npy(np.zeros(32)).replace(b"(32,)", b"(1000000000000,)").replace(b"           \n", b"\n", 1)
    with pytest.raises(ModelFileError):
        reads(pack(members(good) | {"theta.npy": data}))


def test_a_bomb_is_refused_unopened(good, reads, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(ModelFileError, match="unpacked"):
        reads(good)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda h: [1], "does not name a model"),
        (lambda h: h.update(format="other"), "does not name a model"),
        (lambda h: h.update(version=files.VERSION + 1), "newer version of pynode"),
        (lambda h: h.update(version=files.VERSION - 1), "older version of pynode"),
        (lambda h: h.update(version="1"), "makes no sense"),
        (lambda h: h["arrays"].pop("theta") and None, "not those that the header lists"),
        (lambda h: h["arrays"].update(theta=["|O", [20]]), "never hold"),
        (lambda h: h["content"].pop("field") and None, "field"),
        (lambda h: h["content"].update(model="Other"), "unknown kind of model"),
        (lambda h: h["content"]["params"].update(method="rk5"), "method='rk5'"),
        (lambda h: h["content"]["params"].update(surprise=1), "surprise"),
        (lambda h: h["content"]["params"].update(log=True), "scaling"),
        (lambda h: h["content"].update(names=["x"]), "names"),
        (lambda h: h["content"].update(names=[["x"], "v"]), "names"),
        (lambda h: h["content"]["scaling"].update(t_scale=0), "positive"),
        (lambda h: h["content"]["scaling"].update(t_scale="1"), "valid model"),
        (lambda h: h["content"]["report"].update(random_state="x"), "valid model"),
        (lambda h: h["content"].update(report=3), "report"),
        (lambda h: h["content"]["data"].update(ids=[1]), "ids"),
        (lambda h: h["content"]["data"].update(t={"$array": "nothing"}), "not a model file"),
        (lambda h: h["content"]["field"]["program"].update(sizes=[1, 2, 0, 10**9]), "valid model"),
        (lambda h: h["content"]["field"]["program"].update(n_slots=-1), "valid model"),
        (lambda h: h["content"]["field"]["program"].update(outputs=[99]), "valid model"),
        (lambda h: h["content"]["field"]["program"].update(ops=["NOPE"]), "does not know"),
        (
            lambda h: h["content"]["field"].update(spec=[["W0", [10**6, 10**6], 0, ["normal", 1]]]),
            "valid model",
        ),
        (lambda h: h["content"].update(own_field=True, field=None), "not used"),
    ],
)
def test_a_header_that_lies(good, reads, change, message):
    with pytest.raises(ModelFileError, match=message):
        reads(with_header(good, change))


def leaves(value, path=()):
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list) and value:
        for i in range(len(value)):
            yield from leaves(value[i], (*path, i))
    else:
        yield path


def test_any_value_of_the_header_may_be_nonsense(good, reads):
    """Whatever stands in the header: a ModelFileError, or a model that works."""
    parts = members(good)
    header = json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes())
    paths, rng = list(leaves(header)), np.random.default_rng(0)
    nonsense = [
        None,
        True,
        -1,
        0,
        10**30,
        2**31,
        1.5,
        "x",
        "",
        [],
        {},
        [[1]],
        {"$array": "theta"},
        {"$array": [1]},
    ]
    refused = 0
    for _ in range(300):
        value = json.loads(json.dumps(header))
        path = paths[rng.integers(len(paths))]
        place = value
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = nonsense[rng.integers(len(nonsense))]
        text = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
        try:
            other = reads(pack(parts | {"header.npy": npy(text)}))
        except ModelFileError:
            refused += 1
        else:
            assert other.predict(T[:3], [1, 0]).shape == (3, 2)
            assert model_summary(other)
    assert refused > 100


def test_deep_nesting_is_refused(good, reads):
    text = np.frombuffer(b"[" * 100_000, dtype=np.uint8)
    with pytest.raises(ModelFileError):
        reads(pack(members(good) | {"header.npy": npy(text)}))


def test_not_a_number_in_the_header(good, reads):
    text = np.frombuffer(b'{"format": "pynode model", "version": NaN}', dtype=np.uint8)
    with pytest.raises(ModelFileError, match="NaN"):
        reads(pack(members(good) | {"header.npy": npy(text)}))
