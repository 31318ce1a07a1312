"""Programs that lie: the C core refuses them or runs them. A seeded loop over mutations of valid programs.

Run it under AddressSanitizer and UBSan too, see tests/campaign.sh. PYNODE_FUZZ: how many cases instead of the default.
"""

import os

import numpy as np
import pytest

import pynode as pn
from pynode import _core

CASES = int(os.environ.get("PYNODE_FUZZ", 10_000))
NAMES = ("sizes", "code", "consts", "index", "outputs", "n_theta", "n_grad", "segments")
EDGES = np.array(
    [
        -(2**31),
        -(2**30),
        -65536,
        -100,
        -2,
        -1,
        0,
        1,
        2,
        3,
        4,
        7,
        8,
        15,
        16,
        17,
        64,
        255,
        1 << 20,
        (1 << 20) + 1,
        1 << 24,
        (1 << 24) + 1,
        2**31 - 2,
        2**31 - 1,
    ]
)


@pn.field(state=3, theta={"k": (), "A": (3, 3), "net": pn.mlp(3, (4,), 3)}, inputs=2)
def everything(t, y, th, u):
    x = np.concatenate([y[::-1], u])
    z = th.net(y) * np.where(y > t, np.tanh(y), np.exp(-np.abs(y))) + th.A @ y
    return z + th.k * np.array([x[0] * x[3], np.sum(x), np.maximum(x[1], x[4])])


@pn.field(state=2)
def plain(t, y):
    return [y[1], -np.sin(y[0]) - t]


CALLBACK = pn.callback_field(lambda t, y, th: -th * y, 2, n_params=2, vjp=lambda t, y, th, g: (-th * g, -y * g))
PROGRAMS = [
    p
    for f in (everything, plain, pn.mlp(2, (5,), activation="sigmoid"), pn.mlp(2, (3, 3), activation="elu", time=True))
    for p in (f.program, f.vjp_program)
]
PROGRAMS += [
    pn.jacobian(plain).program,
    pn.divergence(everything).program,
    everything.backsolve_program,
    CALLBACK.program,
    CALLBACK.vjp_program,
]


def arrays_of(p):
    return {
        "sizes": np.array(p.sizes, np.int32),
        "code": np.array(p.code),
        "consts": np.array(p.consts),
        "index": np.array(p.index),
        "outputs": np.array(p.outputs, np.int32),
        "n_theta": np.array(p.n_theta, np.int64),
        "n_grad": np.array(p.n_grad, np.int64),
        "segments": np.array(p.segments, np.int32),
        "n_slots": p.n_slots,
    }


VALID = [arrays_of(p) for p in PROGRAMS]


def value(rng, old):
    """Another number in place of old."""
    kind = rng.integers(4)
    if kind == 0:
        return int(rng.choice(EDGES))
    if kind == 1:
        return int(np.clip(int(old) + rng.integers(-3, 4), -(2**31), 2**31 - 1))
    if kind == 2:
        return int(rng.integers(0, 30))
    return int(rng.integers(-(2**31), 2**31))


def mutate(rng, good):
    """One to four changes anywhere."""
    a = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in good.items()}
    for _ in range(rng.integers(1, 5)):
        name = str(rng.choice((*NAMES, "code", "code", "code", "n_slots")))
        if name == "n_slots":
            a[name] = value(rng, a[name])
            continue
        x, kind = a[name], rng.integers(10)
        if kind < 7 and x.size:
            at = tuple(rng.integers(0, n) for n in x.shape)
            if name == "consts":
                x[at] = rng.choice([0.0, np.nan, np.inf, -1e308, 5e-324])
            elif name == "code" and rng.random() < 0.3:
                x[at[0], 0] = rng.integers(0, len(_core.OPS))
            else:
                x[at] = value(rng, x[at])
        elif kind == 7 and len(x):
            a[name] = x[: rng.integers(0, len(x))]
        elif kind == 8 and len(x):
            a[name] = np.concatenate([x, x[rng.integers(0, len(x))][None]])
        elif len(x) > 1:
            i, j = rng.integers(0, len(x), 2)
            x[[i, j]] = x[[j, i]]
    return a


def callback(which, t, y, u, seed):
    n, d = y.shape if y is not None else (len(t), 0)
    return np.ones((n, callback.size or d))


callback.size = None


def run(rng, p, f32=False):
    """Evaluate a program that was accepted. False: too large to try."""
    if sum(p.n_theta) + sum(p.n_grad) + sum(p.slot_sizes) + sum(p.output_sizes) > 1 << 22:
        return False
    dtype = np.float32 if f32 else np.float64
    n = int(rng.choice([1, 2, 3, 17]))
    slots = [rng.normal(size=(n, s)).astype(dtype) for s in p.slot_sizes]
    thetas = [rng.normal(size=m).astype(dtype) for m in p.n_theta]
    try:
        with np.errstate(all="ignore"):
            outputs, grads = _core.evaluate(p, slots, thetas, callback=callback if p.has_call else None)
    except (ValueError, MemoryError):  # a callback of another size; registers beyond the memory
        return True
    assert [g.shape for g in grads] == [(m,) for m in p.n_grad]
    for x, size in zip(outputs, p.output_sizes, strict=True):
        assert x is None if size == 0 else x.shape == (n, size)
    return True


def test_the_unchanged_programs_are_accepted_and_run():
    rng = np.random.default_rng(0)
    for a in VALID:
        for f32 in (False, True):
            assert run(rng, _core.Program(**a), f32)


def registers(a):
    return int(np.clip(a["sizes"].astype(np.int64), 0, None).sum()) if np.ndim(a["sizes"]) == 1 else 0


def test_mutated_programs_are_refused_or_run():
    rng, accepted = np.random.default_rng(1), 0
    for case in range(CASES):
        a = mutate(rng, VALID[rng.integers(len(VALID))])
        try:
            p = _core.Program(**a, fuse=bool(case % 2))
        except (ValueError, TypeError) as error:
            assert len(str(error)) > 10
            continue
        except MemoryError:
            continue
        if registers(a) < 1 << 20:  # larger ones need gigabytes
            accepted += run(rng, p, case % 3 == 0)
    assert accepted > CASES / 50


def test_pure_noise_is_refused():
    rng = np.random.default_rng(2)
    for _ in range(CASES // 20):
        n_reg, n_code = rng.integers(1, 10), rng.integers(0, 10)
        code = rng.integers(-2, 12, (n_code, 8))
        code[:, 0] = rng.integers(0, len(_core.OPS), n_code)
        try:
            p = _core.Program(
                sizes=rng.integers(-1, 6, n_reg),
                n_slots=int(rng.integers(-1, 6)),
                code=code,
                consts=rng.normal(size=rng.integers(0, 9)),
                index=rng.integers(-1, 6, rng.integers(0, 9)),
                outputs=rng.integers(-1, 9, rng.integers(0, 4)),
                n_theta=rng.integers(-1, 9, rng.integers(0, 3)),
                n_grad=rng.integers(-1, 9, rng.integers(0, 3)),
                segments=rng.integers(-1, 6, 3),
            )
        except ValueError:
            continue
        run(rng, p)


@pytest.mark.parametrize(
    "change, error",
    [
        ({"sizes": [[1]]}, ValueError),
        ({"sizes": ["a"]}, TypeError),
        ({"sizes": [0.5]}, TypeError),
        ({"sizes": [2**40]}, ValueError),
        ({"sizes": None}, (TypeError, ValueError)),
        ({"sizes": []}, ValueError),
        ({"code": np.zeros((2, 7), np.int32)}, ValueError),
        ({"code": np.zeros(8, np.int32)}, ValueError),
        ({"segments": [1, 2]}, ValueError),
        ({"segments": [2**31 - 1] * 3}, ValueError),
        ({"segments": [-1, 0, 0]}, ValueError),
        ({"consts": [1j]}, TypeError),
        ({"outputs": []}, ValueError),
        ({"outputs": [0] * 17}, ValueError),
        ({"outputs": [-2]}, ValueError),
        ({"n_theta": [2**62]}, ValueError),
        ({"n_theta": [-1]}, ValueError),
        ({"n_theta": [1, 1, 1]}, ValueError),
        ({"n_grad": [2**40]}, ValueError),
        ({"n_slots": -1}, ValueError),
        ({"n_slots": 17}, ValueError),
        ({"n_slots": 2**40}, OverflowError),
        ({"n_slots": 1.5}, TypeError),
        ({"n_slots": None}, TypeError),
        ({"extra": 1}, TypeError),
    ],
)
def test_wrong_kinds_of_arrays(change, error):
    with pytest.raises(error):
        _core.Program(**VALID[0] | change)


def test_a_program_keeps_its_own_copy():
    a = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in VALID[0].items()}
    p = _core.Program(**a)
    rng = np.random.default_rng(0)
    slots = [rng.normal(size=(2, s)) for s in p.slot_sizes]
    theta = [rng.normal(size=m) for m in p.n_theta]
    before = _core.evaluate(p, slots, theta)[0][0]
    for v in a.values():
        if isinstance(v, np.ndarray):
            v[...] = 2**30
    np.testing.assert_array_equal(before, _core.evaluate(p, slots, theta)[0][0])


def test_evaluate_with_wrong_arguments():
    p = _core.Program(**VALID[2])  # plain
    good = [np.zeros((3, s)) for s in p.slot_sizes]
    theta = [np.zeros(m) for m in p.n_theta]
    for slots in (
        [],
        good[:2],
        [*good, good[0]],
        [good[0], np.zeros((2, 2)), good[2]],
        [good[0], np.zeros((3, 3)), good[2]],
        [good[0], np.zeros(2), good[2]],
        [good[0], None, good[2]],
        [good[0], np.zeros((3, 2), complex), good[2]],
        [good[0], good[1].astype(np.float32), good[2]],
        ["a", good[1], good[2]],
        5,
        None,
    ):
        with pytest.raises((ValueError, TypeError)):
            _core.evaluate(p, slots, theta)
    for thetas in ([np.zeros(3)], [theta[0], theta[0]], 5):
        with pytest.raises((ValueError, TypeError)):
            _core.evaluate(p, good, thetas)
    with pytest.raises(TypeError):
        _core.evaluate(None, good, theta)
    with pytest.raises(TypeError):
        _core.evaluate(p, good, theta, callback=5)
    with pytest.raises(ValueError, match="callback="):
        _core.evaluate(CALLBACK.program.core, [np.zeros((1, 1)), np.zeros((1, 2)), np.zeros((1, 0))], [np.zeros(2)])


def test_evaluate_row_takes_what_is_ready():
    p = FIELD
    arrays = tuple(np.full(s, 0.5) if s else None for s in p.slot_sizes)
    theta = tuple(np.full(m, 0.25) for m in p.n_theta)
    found = _core.evaluate_row(p, arrays, theta)
    batch = _core.evaluate(p, [np.full((1, s), 0.5) for s in p.slot_sizes], theta)
    for one, all_ in zip(found[0], batch[0], strict=True):
        assert all_ is None if one is None else np.array_equal(one, all_[0])
    read_only = arrays[1].copy()
    read_only.flags.writeable = False
    assert _core.evaluate_row(p, (arrays[0], read_only, *arrays[2:]), theta) is not None
    for wrong in (
        arrays[1].astype(np.float32),
        arrays[1].astype(">f8"),
        arrays[1].tolist(),
        arrays[1][None],
        np.zeros(5),
        np.zeros(4)[::2],
        np.ma.zeros(2),
        None,
        0.5,
        "a",
    ):
        assert _core.evaluate_row(p, (arrays[0], wrong, *arrays[2:]), theta) is None
    for wrong in (None, "a", True, 10**30, np.float32(1), [1.0], np.array(0.5)):
        assert _core.evaluate_row(p, (wrong, *arrays[1:]), theta) is None
    for number in (1.0, 1, -(2**62), np.float64(1)):
        assert _core.evaluate_row(p, (number, *arrays[1:]), theta) is not None
    for slots, thetas in ((arrays[:1], theta), (arrays, ()), (arrays, (theta[0][1:],)), (arrays, (theta[0].tolist(),))):
        assert _core.evaluate_row(p, slots, thetas) is None
    empty = np.zeros(1), np.zeros(2), None
    assert _core.evaluate_row(CALLBACK.program.core, empty, (np.zeros(2),)) is None
    for args in ((), (p,), (p, arrays), (None, arrays, theta), (p, list(arrays), theta), (p, arrays, list(theta))):
        with pytest.raises(TypeError, match="evaluate_row"):
            _core.evaluate_row(*args)


# ---- problems

FIELD, REVERSE = everything.program.core, everything.vjp_program.core
N, D, M = 5, 3, 2


def problem():
    """Keywords of a valid problem with everything that has indices."""
    t = np.concatenate([np.linspace(0, 1, 4) + i * 0.1 for i in range(N)])
    knot = np.concatenate([np.array([-1.0, 0.5, 3.0]) for i in range(N)])
    rng = np.random.default_rng(0)
    return {
        "y0": rng.normal(size=(N, D)),
        "t": t,
        "t_start": np.arange(N) * 4,
        "t_len": np.full(N, 4),
        "row": np.arange(N) * 4,
        "knot": knot,
        "knot_start": np.arange(N) * 3,
        "knot_len": np.full(N, 3),
        "seg_start": np.arange(N) * 2,
        "coef": rng.normal(size=(2 * N, 2, M)),
        "atol": np.full(D, 1e-6),
        "target": rng.normal(size=(4 * N, D)),
        "weight": np.ones((4 * N, D)),
        "loss": "squared",
    }


INDICES = ("t_start", "t_len", "row", "knot_start", "knot_len", "seg_start")
BIG = np.array([-(2**63), -(2**62), -(2**31), -1, 0, 1, 2, 3, 4, 5, 19, 20, 21, 1 << 20, 2**31 - 1, 2**31, 2**62, 2**63 - 1])


def hostile(rng):
    keys = problem()
    if rng.random() < 0.4:
        grid = np.concatenate([np.linspace(0, 1, 4) + i * 0.1 for i in range(N)])
        keys |= {"grid": grid, "grid_start": np.arange(N) * 4, "grid_len": np.full(N, 4), "adaptive": False}
    for _ in range(rng.integers(1, 4)):
        name = str(rng.choice([*keys]))
        x = keys[name]
        if not isinstance(x, np.ndarray):
            continue
        x = keys[name] = x.copy()
        kind = rng.integers(8)
        if kind < 5 and x.size:
            at = tuple(rng.integers(0, n) for n in x.shape)
            x[at] = rng.choice(BIG) if x.dtype.kind == "i" and kind else x[at] + rng.integers(-3, 4)
            if x.dtype.kind == "f" and kind == 0:
                x[at] = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324])
        elif kind == 5 and len(x):
            keys[name] = x[: rng.integers(0, len(x))]
        elif kind == 6:
            del keys[name]
        else:
            keys[name] = np.roll(x, 1, axis=0)
    return keys


def test_hostile_index_arrays_of_problems():
    rng, ran = np.random.default_rng(3), 0
    theta = everything.init(0) * 0.1
    for case in range(CASES // 5):
        keys = hostile(rng)
        gradient = {"gradient": "discrete", "wrt_y0": True, "wrt_t": True, "wrt_inputs": True} if case % 2 else {}
        if case % 3 == 0 and gradient:
            keys["coupling"], gradient["gradient"] = 0.9, "reversible"
        try:
            p = _core.Problem(FIELD, REVERSE, max_steps=200, threads=1 + case % 2, steps=True, dense=bool(case % 5), **keys)
        except (ValueError, TypeError) as error:
            assert len(str(error)) > 5
            continue
        if p.rows > 1 << 20:
            continue
        try:
            raw = p.run(theta, memory=int(rng.choice([0, 1, 10_000, 10**7])), **gradient)
        except (ValueError, MemoryError):
            continue
        ran += 1
        assert raw["y"].shape == (p.rows, D) and raw["status"].shape == (p.n,)
    assert ran > CASES / 100


def test_rows_beyond_the_memory():
    keys = problem()
    keys["row"] = keys["row"] + np.array([0, 0, 0, 0, 2**40])
    for name in ("target", "weight", "loss"):
        del keys[name]
    with pytest.raises(MemoryError):
        _core.Problem(FIELD, **keys).run(everything.init(0))


@pytest.mark.parametrize(
    "field, reverse",
    [
        (plain.program.core, None),
        (FIELD, plain.vjp_program.core),
        (FIELD, FIELD),
        (REVERSE, None),
        (None, None),
        (FIELD, 5),
        (5, None),
        (pn.jacobian(plain).program.core, None),
    ],
)
def test_programs_that_do_not_belong_together(field, reverse):
    with pytest.raises((ValueError, TypeError)):
        _core.Problem(field, reverse, **problem())


def test_wrong_keywords_of_problem_and_run():
    for keys in (
        {"foo": 1},
        {"step": "a"},
        {"rtol": np.nan},
        {"loss": "foo"},
        {"loss": 5},
        {"method": "foo"},
        {"method": 5},
        {"method": "a\0b"},
        {"threads": -1},
        {"max_steps": 0},
        {"threads": 1.5},
        {"y0": None},
        {"t": None},
        {"safety": 2},
        {"min_factor": 0},
        {"max_factor": 0.5},
        {"coupling": 2},
        {"beta": -1},
        {"jump_set": np.zeros((20, 3))},
        {"quadrature": True},
        {"grid": [0.0], "adaptive": True},
    ):
        with pytest.raises((ValueError, TypeError)):
            _core.Problem(FIELD, REVERSE, **problem() | keys)
    p, theta = _core.Problem(FIELD, REVERSE, **problem()), everything.init(0)
    for keys in (
        {"foo": 1},
        {"gradient": "foo"},
        {"gradient": 5},
        {"memory": -1},
        {"memory": 1.5},
        {"y0": np.zeros((2, 3))},
        {"target": np.zeros(3)},
        {"out": np.zeros((3, 3))},
        {"out": [1]},
        {"out": np.zeros((20, 3), np.float32)},
        {"g_y": np.zeros((20, 3))},
        {"wrt_y0": True},
        {"gradient": "reversible"},
        {"callback": 5},
    ):
        with pytest.raises((ValueError, TypeError)):
            p.run(theta, **keys)
    for args in ((), (None,), (theta, theta), (theta[:2],), ("a",)):
        with pytest.raises((ValueError, TypeError)):
            p.run(*args)
