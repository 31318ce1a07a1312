"""The C core called as it is: every argument of a wrong kind is refused by name, and what Python raises comes out."""

import gc
import threading

import numpy as np
import pytest

import pynode as pn
from pynode import _core

NET = pn.mlp(3, (4,), inputs=1)
THETA = NET.init(0)
FIELD, REVERSE = NET.program.core, NET.vjp_program.core
T = np.linspace(0.0, 1.0, 4)
Y0 = np.random.default_rng(0).normal(size=(2, 3))
INPUTS = {"knot": [0.0, 1.0], "knot_start": [0, 0], "knot_len": [2, 2], "seg_start": [0, 1], "coef": np.ones((2, 1, 1))}
ROWS = 8
WIDE = pn.field(state=2)(lambda t, y: [y[1], -y[0]])
WIDE_FIELD, WIDE_REVERSE = WIDE.program.core, WIDE.vjp_program.core


class Broken:
    """Neither true nor false, and no number."""

    def __bool__(self):
        raise RuntimeError("no truth")

    def __index__(self):
        raise RuntimeError("no index")

    def __float__(self):
        raise RuntimeError("no number")


def problem(field=FIELD, reverse=REVERSE, **keys):
    return _core.Problem(field, reverse, **({"y0": Y0, "t": T} | (INPUTS if field is FIELD else {}) | keys))


@pytest.fixture
def plain():
    return problem()


@pytest.fixture
def graded():
    return problem(loss="squared", target=np.zeros((ROWS, 3)))


# ---- Problem


@pytest.mark.parametrize("name", ["adaptive", "land", "dense", "quadrature", "quadrature_coef", "steps"])
def test_flags_without_truth(name):
    with pytest.raises(RuntimeError, match="no truth"):
        problem(**{name: Broken()})


@pytest.mark.parametrize("name", ["jacobian_cost", "threads", "max_steps"])
def test_whole_numbers(name):
    with pytest.raises(RuntimeError, match="no index"):
        problem(**{name: Broken()})
    with pytest.raises(TypeError, match=f"{name} must be a whole number, not float"):
        problem(**{name: 1.5})
    for value in (2**70, -(2**70), -2):
        with pytest.raises(ValueError, match=f"{name} must be between . and [0-9]*, got {value}"):
            problem(**{name: value})


def test_numbers():
    with pytest.raises(RuntimeError, match="no number"):
        problem(rtol=Broken())


def test_names():
    for name in ("method", "stiff"):
        with pytest.raises(UnicodeEncodeError):
            problem(**{name: "\ud800"})
        with pytest.raises(ValueError, match="unknown method 'nothing'"):
            problem(**{name: "nothing"})
    with pytest.raises(TypeError, match="method must be a string or a Tableau, not int"):
        problem(method=5)
    with pytest.raises(TypeError):
        problem(stiff=5)
    with pytest.raises(TypeError, match="loss must be a string, not int"):
        problem(loss=3)
    with pytest.raises(ValueError, match="unknown loss 'cubic'"):
        problem(loss="cubic")


def test_programs():
    keys = INPUTS | {"y0": Y0, "t": T}
    assert _core.Problem(field=FIELD, reverse=REVERSE, **keys).field is FIELD
    for args in ((), (3,), (FIELD, 3), (None,)):
        with pytest.raises(TypeError, match="field must be a Program, reverse a Program or None"):
            _core.Problem(*args, **keys)
    with pytest.raises(TypeError, match="field must be a Program"):
        _core.Problem()
    with pytest.raises(TypeError, match="two positional arguments at most"):
        _core.Problem(FIELD, REVERSE, None, **keys)
    with pytest.raises(TypeError, match="got the argument 'field' twice"):
        _core.Problem(FIELD, field=FIELD, **keys)
    with pytest.raises(TypeError, match="has no argument 'nothing'"):
        _core.Problem(FIELD, nothing=1, **keys)
    with pytest.raises(TypeError, match="jump must be a Program or None"):
        problem(jump=THETA)
    with pytest.raises(TypeError, match="needs y0 and t"):
        _core.Problem(FIELD, y0=Y0)


def test_arrays():
    wrong = {
        "y0": np.zeros(3),
        "t": np.zeros((2, 2)),
        "t_start": [0],
        "t_len": [4],
        "row": [0],
        "knot": np.zeros((2, 2)),
        "coef": np.zeros(3),
        "cross_knots": [0],
        "grid": np.zeros((2, 2)),
        "stops": np.zeros((2, 2)),
        "atol": np.zeros(2),
        "mass": np.eye(2),
        "pattern": np.zeros((3, 2), np.int32),
        "target": np.zeros((3, 3)),
        "weight": np.zeros((3, 3)),
    }
    times = {"t_start": [0, 0], "t_len": [4, 4], "row": [0, 4]}
    for name, array in wrong.items():
        with pytest.raises(ValueError, match=f"^{name} has shape"):
            problem(**(times if name in times else {}) | {name: array})
    with pytest.raises(ValueError, match="y0 must have at least one feature"):
        problem(y0=np.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"pattern: \(0, 0\) is there twice"):
        problem(pattern=np.zeros((2, 2), np.int32))
    with pytest.raises(TypeError, match="t has dtype <U1, expected float64"):
        problem(t=["a"])
    with pytest.raises(ValueError, match="inhomogeneous"):
        problem(t=[[1.0], [1.0, 2.0]])


def test_arrays_of_one_owner_are_not_copied():
    target = np.zeros((ROWS, 3))
    target.flags.writeable = False
    for dtype in (np.float64, np.float32):
        run = problem(y0=Y0.astype(dtype), loss="squared", target=target.astype(dtype)).run(THETA)
        assert run["total_weight"] == 3 * ROWS
    with pytest.raises(ValueError, match="target has shape"):
        wrong = np.zeros((ROWS, 2))
        wrong.flags.writeable = False
        problem(loss="squared", target=wrong)


# ---- run


@pytest.mark.parametrize("name", ["wrt_y0", "wrt_t", "wrt_inputs", "wrt_data", "wrt_target", "sensitivity"])
def test_flags_of_runs(plain, graded, name):
    with pytest.raises(RuntimeError, match="no truth"):
        plain.run(THETA, **{name: Broken()})
    if name != "sensitivity":
        with pytest.raises(ValueError, match=r"wrt_\* and g_y need gradient='discrete' or 'reversible'"):
            graded.run(THETA, **{name: True})


def test_names_of_arguments(plain):
    with pytest.raises(TypeError, match="takes one positional argument, theta; 2 were given"):
        plain.run(THETA, THETA)
    with pytest.raises(TypeError, match=r"run\(\) needs theta"):
        plain.run()
    with pytest.raises(TypeError, match=r"run\(\) got 'theta' twice"):
        plain.run(THETA, theta=THETA)
    with pytest.raises(TypeError, match=r"run\(\) has no argument 'nothing'"):
        plain.run(THETA, nothing=1)
    found = plain.run(**{"".join(["the", "ta"]): THETA, "".join(["y", "0"]): 2 * Y0})  # strings that nobody interned
    np.testing.assert_array_equal(found["y"][::4], 2 * Y0)


def test_memory(graded):
    with pytest.raises(OverflowError):
        graded.run(THETA, memory=2**70)
    with pytest.raises(RuntimeError, match="no index"):
        graded.run(THETA, memory=Broken())
    with pytest.raises(ValueError, match="memory must not be negative"):
        graded.run(THETA, memory=-1)
    with pytest.raises(ValueError, match="gradient must be 'none', 'discrete' or 'reversible', got 3"):
        graded.run(THETA, gradient=3)


def test_rows(graded):
    right = graded.run(THETA, target=np.ones((ROWS, 3)))["total_loss"]
    for target in (np.ones((2, 4, 3)), np.asfortranarray(np.ones((ROWS, 3))), np.ones((ROWS, 3), int)):
        assert graded.run(THETA, target=target)["total_loss"] == right
    for shape in [(3, 4, 3), (2, 3, 3), (2, 4, 2), (ROWS,), (1, 2, 4, 3)]:
        with pytest.raises(ValueError, match=r"target has shape .*, expected \(8, 3\)"):
            graded.run(THETA, target=np.ones(shape))
    for target in (np.asfortranarray(np.ones((2, 4, 3))), np.ones((2, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="target has shape"):
            graded.run(THETA, target=target)
    for name in ("weight", "y0"):
        with pytest.raises(ValueError, match=f"{name} has shape"):
            graded.run(THETA, **{name: np.ones((3, 3))})
    with pytest.raises(ValueError, match="g_y has shape"):
        graded.run(THETA, gradient="discrete", g_y=np.ones((3, 3)))
    with pytest.raises(ValueError, match="theta has shape"):
        graded.run(THETA[1:])
    with pytest.raises(ValueError, match="data: there is no jump that takes any"):
        graded.run(THETA, data=np.ones((ROWS, 3)))


def test_out(plain):
    for out, kind in ((np.zeros((3, 3)), ValueError), (np.zeros((ROWS, 3), np.float32), ValueError), ([1], TypeError)):
        with pytest.raises(kind, match=r"^out "):
            plain.run(THETA, out=out)
    for out in (np.asfortranarray(np.zeros((ROWS, 3))), np.broadcast_to(0.0, (ROWS, 3))):
        with pytest.raises(ValueError, match="out must be a writable, aligned, C-contiguous array of float64"):
            plain.run(THETA, out=out)
    single = problem(y0=Y0.astype(np.float32), coef=INPUTS["coef"].astype(np.float32))
    with pytest.raises(ValueError, match="C-contiguous array of float32"):
        single.run(THETA, out=np.zeros((ROWS, 3)))


# ---- events, jumps, tapes


def test_events():
    level = pn.event(lambda t, y: y[0])
    watched = problem(WIDE_FIELD, WIDE_REVERSE, y0=Y0[:, :2])
    prepared = []
    kept = _core.Problem

    class Watching:
        def __init__(self, *args, **keys):
            self.problem = kept(*args, **keys)

        def __getattr__(self, name):
            return getattr(self.problem, name)

        def run(self, *args, **keys):
            prepared.append(keys)
            return self.problem.run(*args, **keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "Problem", Watching)
        pn.solve(WIDE, Y0[:, :2], T, events=level)
    keys = {name: value for name, value in next(k for k in prepared if k.get("event")).items() if name.startswith("event")}
    assert sorted(keys) == ["event", "event_direction", "event_side", "event_theta"]
    assert set(watched.run(np.zeros(0), **keys)["status"]) == {0}
    with pytest.raises(TypeError, match="event must be a Program"):
        watched.run(np.zeros(0), **keys | {"event": level})
    for name in ("event_theta", "event_direction", "event_side"):
        with pytest.raises(TypeError, match="event needs event_theta, event_direction and event_side"):
            watched.run(np.zeros(0), **keys | {name: None})
        with pytest.raises(ValueError, match=f"{name} has shape"):
            watched.run(np.zeros(0), **keys | {name: np.zeros((3, 3), np.int32)})
    with pytest.raises(ValueError, match="does not fit in 32 bits"):
        watched.run(np.zeros(0), **keys | {"event_direction": [2**40]})


def test_what_comes_after(graded):
    first = graded.run(THETA)
    for after in (first, {}, 3):
        with pytest.raises(ValueError, match="after must be the result of a run of this problem, which jumps"):
            graded.run(THETA, gradient="discrete", after=after)
    jumping = problem(WIDE_FIELD, WIDE_REVERSE, y0=Y0[:, :2], t=[0.0, 0.0], jump=WIDE_FIELD, jump_reverse=WIDE_REVERSE)
    cotangent = np.ones((4, 2))
    before = jumping.run(np.zeros(0))
    again = jumping.run(np.zeros(0), gradient="discrete", g_y=cotangent, after=before, wrt_y0=True)
    jacobian = np.array([[0.0, 1.0], [-1.0, 0.0]])
    one_jump = cotangent[:1] @ jacobian
    np.testing.assert_allclose(again["g_y0"], np.repeat(one_jump @ jacobian + one_jump, 2, axis=0))
    with pytest.raises(ValueError, match="after must be"):
        jumping.run(np.zeros(0), gradient="none", after=before)
    with pytest.raises(ValueError, match="after must be"):
        jumping.run(np.zeros(0), gradient="discrete", after=before)
    for name, value, kind in (("status", np.zeros(2), ValueError), ("y_before", 3, TypeError)):
        changed = type(before)(dict(before))
        changed[name] = value
        with pytest.raises(kind, match=f"^{name} must be"):
            jumping.run(np.zeros(0), gradient="discrete", g_y=cotangent, after=changed)
    with pytest.raises(TypeError, match="a result cannot be deleted"):
        del before["y"]


def test_tapes(plain):
    with pytest.raises(TypeError):
        _core.Tape(1)
    with pytest.raises(TypeError, match="tape must be a Tape, not int"):
        plain.run(THETA, gradient="discrete", tape=3)
    tape = _core.Tape()
    for wrong in (tape, 3):
        with pytest.raises(ValueError, match="tape must be one that a run of this problem has filled"):
            plain.back(wrong, np.ones((ROWS, 3)))
    with pytest.raises(TypeError, match="1 arguments were given"):
        plain.back(tape)
    plain.run(THETA, gradient="discrete", tape=tape)
    with pytest.raises(RuntimeError, match="no truth"):
        plain.back(tape, np.ones((ROWS, 3)), Broken())
    with pytest.raises(ValueError, match="g_y has shape"):
        plain.back(tape, np.ones((3, 3)))
    assert plain.back(tape, np.ones((ROWS, 3)), True)["g_y0"].shape == (2, 3)
    tape.clear()
    with pytest.raises(ValueError, match="tape must be one that a run of this problem has filled"):
        plain.back(tape, np.ones((ROWS, 3)))


def test_a_tape_serves_one_thread_at_a_time():
    long = problem(WIDE_FIELD, WIDE_REVERSE, y0=Y0[:, :2], adaptive=False, step=2e-6, max_steps=10**7, method="euler")
    short = problem(WIDE_FIELD, WIDE_REVERSE, y0=Y0[:, :2])
    tape = _core.Tape()
    errors = set()
    worker = threading.Thread(target=long.run, args=(np.zeros(0),), kwargs={"gradient": "discrete", "tape": tape})
    worker.start()
    while worker.is_alive():
        try:
            short.run(np.zeros(0), gradient="discrete", tape=_core.Tape())  # another is no matter
            short.run(np.zeros(0), gradient="discrete", tape=tape)
        except RuntimeError as error:
            errors.add(str(error))
            with pytest.raises(RuntimeError, match="tape: another thread is using it"):
                tape.clear()
            break
    worker.join()
    assert errors == {"tape: another thread is using it"}


# ---- evaluate, results, the module


def test_evaluate():
    slots = [np.zeros((1, 1)), np.ones((1, 3)), np.zeros((1, 1))]
    for args, keys in (
        ((FIELD, slots), {}),
        ((FIELD, slots, [THETA], None, None), {}),
        ((FIELD, slots, [THETA]), {"call": None}),
    ):
        with pytest.raises(TypeError, match=r"expected evaluate\(program, slots, thetas, callback=None\)"):
            _core.evaluate(*args, **keys)
    with pytest.raises(TypeError, match="thetas: float32 and float64 are mixed"):
        _core.evaluate(FIELD, slots, [THETA.astype(np.float32)])
    with pytest.raises(TypeError, match="slots: float32 and float64 are mixed"):
        _core.evaluate(FIELD, [slots[0], slots[1].astype(np.float32), slots[2]], [THETA])
    lists = _core.evaluate(FIELD, [x.tolist() for x in slots], [THETA.tolist()])[0][0]
    np.testing.assert_array_equal(lists, _core.evaluate(FIELD, slots, [THETA])[0][0])
    empty = _core.evaluate(FIELD, [x[:0] for x in slots], [THETA])
    assert empty[0][0].shape == (0, 3)
    wide = [np.zeros((1, 1)), np.ones((1, 2)), None]
    np.testing.assert_array_equal(_core.evaluate(WIDE_FIELD, wide, [np.zeros(0)])[0][0], [[1.0, -1.0]])
    with pytest.raises(ValueError):
        _core.evaluate(WIDE_FIELD, [None, np.ones((1, 2)), None], [np.zeros(0)])


def test_a_program_of_parameters_only():
    code = [[_core.OPS["PARAM"]["code"], 0, -1, -1, -1, 1, 0, 0]]
    program = _core.Program([2], 0, code, [], [], [0], [3], [], [1, 0, 0])
    np.testing.assert_array_equal(_core.evaluate(program, [], [np.array([5.0, 6.0, 7.0])])[0][0], [[6.0, 7.0]])
    for name, value in (("index", "a"), ("outputs", "a"), ("n_theta", "a"), ("n_grad", "a")):
        keys = {"index": [], "outputs": [0], "n_theta": [3], "n_grad": []} | {name: value}
        with pytest.raises(ValueError, match=f"{name} has shape"):
            _core.Program([2], 0, code, [], segments=[1, 0, 0], **keys)


def test_results(plain):
    found = plain.run(THETA)
    assert found.get("nothing", 5) == 5 and found.get("g_theta") is None and 3 not in found
    for args in ((), ("y", 1, 2)):
        with pytest.raises(TypeError, match=r"get\(\) takes a name and a default"):
            found.get(*args)
    with pytest.raises(KeyError, match="nothing"):
        found["nothing"] = 1
    with pytest.raises(KeyError):
        found[3]
    with pytest.raises(KeyError):
        _core.Results({"y": found["y"], "nothing": 1})
    with pytest.raises(TypeError):
        _core.Results([1])


def test_the_collector_sees_what_is_held():
    table = pn.Tableau([[], [1.0]], [0.5, 0.5], b_hat=[1.0, 0.0], name="held").core
    held = problem(WIDE_FIELD, WIDE_REVERSE, y0=Y0[:, :2], method=table, jump=WIDE_FIELD)
    found = held.run(np.zeros(0))
    for what in (WIDE_FIELD, WIDE_REVERSE, table, _core.Problem):
        assert any(x is held for x in gc.get_referrers(what))
    for what in (found["y"], _core.Results):
        assert any(x is found for x in gc.get_referrers(what))
    types = (_core.Program, _core.Tableau, _core.Problem, _core.Results, _core.Tape, _core.XlaCall)
    assert all(any(x is _core for x in gc.get_referrers(kind)) for kind in types)


def test_a_table_of_a_wrong_kind():
    row = pn.Tableau([[], [1.0]], [0.5, 0.5], b_hat=[1.0, 0.0], name="mine").row
    keys = {name: row[name] for name in ("name", "order", "error_order", "c", "a", "b", "e", "dense", "dense_order")}
    for name in ("order", "error_order", "dense_order"):
        with pytest.raises(TypeError, match=f"{name} must be a whole number, not str"):
            _core.Tableau(**keys | {name: "a"})
    for name in ("c", "b", "e", "e2", "a", "dense"):
        with pytest.raises((ValueError, TypeError), match=name):
            _core.Tableau(**keys | {name: np.ones((2, 2, 2))})
    with pytest.raises(UnicodeEncodeError):
        _core.Tableau(**keys | {"name": "\ud800"})
    with pytest.raises(ValueError, match="must not contain a null character"):
        _core.Tableau(**keys | {"name": "a\0b"})
