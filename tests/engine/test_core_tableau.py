"""`_core.Tableau`: a copy of a method gives its bits everywhere; a table that breaks a rule is refused by name and value."""

import gc
import sys
import weakref

import numpy as np
import pytest

import pynode as pn
from pynode import _core

ROWS = {row["name"]: row for row in _core.tableaus() if row["gamma"] == 0}  # the others cannot be given
FIELD = pn.mlp(2, (8,))
THETA = FIELD.init(0)
GIVEN = ("order", "error_order", "c", "a", "b", "e", "e2", "dense", "dense_order", "source")
INSIDE = np.linspace(0.0, 2.0, 17)  # many of them inside steps


def tableau(row, **changes):
    """A Tableau of a row of `tableaus()`, with other values for some of its arguments."""
    second = row["second"] and tableau(row["second"])
    return _core.Tableau(**{"name": row["name"]} | {key: row[key] for key in GIVEN} | {"second": second} | changes)


def arrays_of(results):
    return {name: results[name] for name in results if name != "isa"}


def run(method, samples, wishes, *, f32=False, **keys):
    y0 = np.random.default_rng(samples).normal(size=(samples, 2)).astype(np.float32 if f32 else float)
    name = method if isinstance(method, str) else method.name
    if not ROWS[name]["error_order"]:
        keys = {"adaptive": False, "step": 0.15} | keys
    problem = _core.Problem(FIELD.program.core, FIELD.vjp_program.core, y0=y0, t=INSIDE, method=method, **keys)
    return arrays_of(problem.run(THETA.astype(y0.dtype), **wishes))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        for one, two in zip(*((x[name] if isinstance(x[name], tuple) else (x[name],)) for x in (a, b)), strict=True):
            assert np.array_equal(one, two, equal_nan=True), name


def seeds(samples, f32=False):
    return np.random.default_rng(5).normal(size=(samples * INSIDE.size, 2)).astype(np.float32 if f32 else float)


@pytest.fixture(params=ROWS)
def name(request):
    return request.param


@pytest.fixture(params=[1, 5])
def samples(request):
    return request.param


def test_the_row_comes_back(name):
    def same(a, b):
        assert a.keys() == b.keys()
        for key in a:
            if isinstance(a[key], dict):
                same(a[key], b[key])
            else:
                assert np.array_equal(a[key], b[key]), key

    made = tableau(ROWS[name])
    same(made.row(), ROWS[name])  # flags too, which follow from the coefficients
    assert made.name == name and (made.second is None) == (ROWS[name]["second"] is None)
    assert repr(made) == f"<Tableau {name!r}>"


@pytest.mark.parametrize("f32", [False, True])
def test_forward_dense_output_and_steps(name, samples, f32):
    wishes = {"steps": True, "dense": True}
    assert_same(*(run(m, samples, {}, f32=f32, **wishes) for m in (name, tableau(ROWS[name]))))


@pytest.mark.parametrize("land", [False, True])
def test_discrete_gradient(name, samples, land):
    wishes = {"gradient": "discrete", "g_y": seeds(samples), "wrt_y0": True, "wrt_t": True}
    assert_same(*(run(m, samples, wishes, land=land) for m in (name, tableau(ROWS[name]))))


def test_discrete_gradient_from_checkpoints(name):
    wishes = {"gradient": "discrete", "g_y": seeds(5), "memory": 60000}
    assert_same(*(run(m, 5, wishes, rtol=1e-5) for m in (name, tableau(ROWS[name]))))


def test_reversible_scheme(name, samples):
    wishes = {"gradient": "reversible", "g_y": seeds(samples), "wrt_y0": True, "wrt_t": True}
    made = tableau(ROWS[name])
    if made.second:
        with pytest.raises(ValueError, match="no reversible scheme"):
            run(made, samples, wishes, coupling=0.97, land=True)
        return
    assert_same(*(run(m, samples, wishes, coupling=0.97, land=True) for m in (name, made)))


def test_sensitivities(name, samples):
    assert_same(*(run(m, samples, {"sensitivity": True}) for m in (name, tableau(ROWS[name]))))


def test_instruction_sets_and_threads():
    """Samples enough for several chunks, on every instruction set that there is."""
    wishes = {"gradient": "discrete", "g_y": seeds(300)}
    before = _core.isa()
    try:
        for isa in _core.ISAS:
            _core.set_isa(isa)
            assert_same(*(run(m, 300, wishes, threads=2) for m in ("tsit5", tableau(ROWS["tsit5"]))))
    finally:
        _core.set_isa(before)


def test_flags_follow_from_the_coefficients():
    row = ROWS["heun"]
    made = tableau(row, dense=[[0, 0.5], [0, 0.5], [0, 0]], dense_order=1)
    assert made.row()["dense_degree"] == 1 and not made.row()["dense_uses_new"] and not made.row()["error_uses_new"]
    y = run(made, 1, {}, adaptive=False, step=0.5)["y"]
    ends = run("heun", 1, {}, adaptive=False, step=0.5)["y"]
    assert np.array_equal(y[::4], ends[::4])  # steps end at every fourth save time; dense output between them is linear
    assert np.allclose(y[1], 0.75 * y[0] + 0.25 * y[4], rtol=1e-14)


def test_a_method_that_the_core_does_not_have():
    """Kutta's third-order method with the midpoint rule inside and cubic Hermite interpolation: y' = y."""
    b = np.array([1 / 6, 2 / 3, 1 / 6])
    made = _core.Tableau(
        "kutta3",
        order=3,
        error_order=2,
        c=[0, 1 / 2, 1, 1],
        a=[[0, 0, 0, 0], [1 / 2, 0, 0, 0], [-1, 2, 0, 0], [*b, 0]],
        b=b,
        e=[1 / 6, -1 / 3, 1 / 6, 0],
        dense=[[0, 1, 3 * b[0] - 2, 1 - 2 * b[0]], *([0, 0, 3 * w, -2 * w] for w in b[1:]), [0, 0, -1, 1]],
        dense_order=3,
    )
    row = made.row()
    assert row["dense_uses_new"] and not row["error_uses_new"] and not row["has_e2"] and row["source"] == ""
    field = pn.field(state=1, theta=1)(lambda t, y, th: [th[0] * y[0]])
    errors = []
    for step in (0.1, 0.05):
        problem = _core.Problem(
            field.program.core, y0=[[1.0]], t=np.linspace(0, 1, 12), method=made, adaptive=False, step=step
        )
        errors.append(np.abs(problem.run([1.0])["y"][:, 0] - np.exp(np.linspace(0, 1, 12))).max())
    assert 7 < errors[0] / errors[1] < 9.5
    problem = _core.Problem(field.program.core, y0=[[1.0]], t=[0.0, 1.0], method=made, rtol=1e-8, atol=[1e-8])
    assert problem.run([1.0])["y"][1, 0] == pytest.approx(np.e, rel=1e-6)


def changed(name, key, at, value):
    array = ROWS[name][key].copy()
    array[at] = value
    return {key: array}


BROKEN = [
    ("rk4", {"name": ""}, "name must not be empty"),
    ("rk4", {"name": "x" * 64}, "name must have at most 63 bytes, got 'xxxxxxxxxxxxxxxx...'"),
    ("rk4", {"name": "a\0b"}, r"name must not contain a null character, got 'a\x00b'"),
    ("rk4", {"name": "é" * 40}, "name must have at most 63 bytes"),
    ("rk4", {"order": 0}, "order must be between 1 and 4, got 0"),
    ("rk4", {"order": 5}, "order must be between 1 and 4, got 5"),
    ("rk4", {"order": 2**40}, "order must be between -2147483648 and 2147483647, got 1099511627776"),
    ("dopri5", {"error_order": -1}, "error_order must be between 0 and 7, got -1"),
    ("rk4", {"error_order": 3}, "error_order = 3, but e is zero"),
    ("dopri5", {"error_order": 0}, "error_order = 0, but e is given"),
    ("rk4", {"dense_order": 4}, "dense_order must be between 1 and 3, got 4"),
    ("rk4", {"b": []}, "b must have between 1 and 12 entries, got 0"),
    ("rk4", {"b": np.full(13, 1 / 13)}, "b must have between 1 and 12 entries, got 13"),
    ("rk4", {"c": np.zeros(4)}, "c must have between 5 and 16 entries, got 4"),
    ("rk4", {"c": np.zeros(17)}, "c must have between 5 and 16 entries, got 17"),
    ("rk4", {"c": np.zeros((5, 1))}, "c has shape (5, 1)"),
    ("rk4", {"a": np.zeros((4, 4))}, "a has shape (4, 4), expected (5, 5)"),
    ("dopri5", {"e": np.zeros(6)}, "e has shape (6,), expected (7,)"),
    ("dop853", {"e2": np.zeros(12)}, "e2 has shape (12,), expected (16,)"),
    ("rk4", {"dense": np.zeros((5, 1))}, "dense must have between 2 and 8 columns, got 1"),
    ("rk4", {"dense": np.zeros((5, 9))}, "dense must have between 2 and 8 columns, got 9"),
    ("rk4", {"dense": np.zeros((4, 4))}, "dense has shape (4, 4), expected (5, 4)"),
    ("rk4", changed("rk4", "a", (2, 1), np.nan), "a[2, 1] = nan: every coefficient must be finite"),
    ("rk4", changed("rk4", "b", 3, np.inf), "b[3] = inf: every coefficient must be finite"),
    ("rk4", changed("rk4", "c", 1, -np.inf), "c[1] = -inf: every coefficient must be finite"),
    ("dopri5", changed("dopri5", "e", 6, np.nan), "e[6] = nan: every coefficient must be finite"),
    ("dop853", changed("dop853", "e2", 1, np.nan), "e2[1] = nan: every coefficient must be finite"),
    ("rk4", changed("rk4", "dense", (4, 2), np.nan), "dense[4, 2] = nan: every coefficient must be finite"),
    ("rk4", changed("rk4", "a", (1, 1), 0.25), "a[1, 1] = 0.25: a must be strictly lower triangular"),
    ("rk4", changed("rk4", "a", (0, 3), 2.0), "a[0, 3] = 2: a must be strictly lower triangular"),
    ("rk4", changed("rk4", "c", 1, 0.25), "c[1] = 0.25, but row 1 of a sums to 0.5"),
    ("rk4", changed("rk4", "c", 0, 1e-12), "c[0] = 9.9999999999999998e-13"),
    ("rk4", changed("rk4", "c", 4, 1 + 1e-12), "c[4] = 1.000000000001"),
    ("rk4", changed("rk4", "b", 0, 0.25), "but b[0] = 0.25: row 4 of a must be b"),
    ("dop853", changed("dop853", "e", 13, 0.5), "e[13] = 0.5: an error estimate must not use the extra stages"),
    ("dop853", changed("dop853", "e2", 15, 0.5), "e2[15] = 0.5: an error estimate must not use the extra stages"),
    ("rk4", changed("rk4", "e2", 0, 1.0), "e2 is given, but error_order = 0"),
    ("rk4", changed("rk4", "dense", (1, 0), 1.0), "dense[1, 0] = 1: dense output must be y at theta = 0"),
    ("rk4", changed("rk4", "dense", (0, 1), 2.0), "row 0 of dense sums to 1.1666666666666667"),
    ("rk4", changed("rk4", "dense", (4, 3), 1 + 1e-9), "row 4 of dense sums to 1.00000"),
    ("leapfrog", {"second": tableau(ROWS["leapfrog"])}, "second must not have a second table itself, got 'leapfrog'"),
    ("leapfrog", {"second": tableau(ROWS["rk4"])}, "second has 4 core and 0 extra stages, the first table 3 and 0"),
    ("heun", {"second": tableau(ROWS["midpoint"])}, "second has c[1] = 0.5, the first table 1"),
    ("heun", {"second": tableau(ROWS["heun"])}, "error_order = 1: a method with a second table has no error estimate"),
]


@pytest.mark.parametrize(("name", "changes", "message"), BROKEN, ids=[message[:40] for _, _, message in BROKEN])
def test_a_broken_rule_is_named(name, changes, message):
    with pytest.raises(ValueError) as caught:
        tableau(ROWS[name], **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "name must be a string, not int"),
        ({"name": None}, "Tableau() needs name"),
        ({"source": b"book"}, "source must be a string, not bytes"),
        ({"order": 2.5}, "order must be a whole number, not float"),
        ({"order": None}, "Tableau() needs order"),
        ({"dense": None}, "Tableau() needs dense"),
        ({"second": ROWS["rk4"]}, "second must be a Tableau or None, not dict"),
        ({"b": np.zeros(4) * 1j}, "b has dtype complex128, expected float64"),
        ({"colour": 1}, "Tableau() "),
    ],
)
def test_wrong_types(changes, message):
    with pytest.raises(TypeError) as caught:
        tableau(ROWS["rk4"], **changes)
    assert message in str(caught.value)


def test_a_problem_takes_names_and_tables_only():
    for method in (3, b"rk4", ROWS["rk4"], _core.Tableau):
        with pytest.raises(TypeError, match="method must be a string or a Tableau"):
            _core.Problem(FIELD.program.core, y0=[[1.0, 0.0]], t=[0.0, 1.0], method=method)
    with pytest.raises(ValueError, match="no error estimate"):
        _core.Problem(FIELD.program.core, y0=[[1.0, 0.0]], t=[0.0, 1.0], method=tableau(ROWS["rk4"]))
    with pytest.raises(ValueError, match="its size must be even"):
        keys = {"adaptive": False, "step": 0.1, "method": tableau(ROWS["leapfrog"])}
        _core.Problem(pn.mlp(3, (4,)).program.core, y0=[[1.0, 0.0, 0.0]], t=[0.0, 1.0], **keys)


def test_references():
    """A problem keeps its table, a table its second half; nobody keeps either longer."""
    made = tableau(ROWS["leapfrog"])
    gc.collect()
    base, base_second = sys.getrefcount(made), sys.getrefcount(made.second)
    keys = {"y0": [[1.0, 0.0]], "t": [0.0, 1.0], "adaptive": False, "step": 0.1}
    problems = [_core.Problem(FIELD.program.core, method=made, **keys) for _ in range(5)]
    assert sys.getrefcount(made) == base + 5 and problems[0].tableau is made
    assert _core.Problem(FIELD.program.core, method="leapfrog", **keys).tableau is None
    results = [problem.run(THETA) for problem in problems]
    assert sys.getrefcount(made) == base + 5  # results hold none
    expected = results[0]["y"].copy()
    problem = problems.pop()
    del problems, results
    gc.collect()
    counts = sys.getrefcount(made), sys.getrefcount(made.second)
    assert counts == (base + 1, base_second)
    name = problem.tableau.name
    del made
    gc.collect()
    assert problem.tableau.name == name and np.array_equal(problem.run(THETA)["y"], expected)
    table = problem.tableau
    del problem
    assert sys.getrefcount(table) == 2


def test_failures_leave_nothing_behind():
    """Neither the arguments nor the type are held by a table that was refused."""
    row = ROWS["leapfrog"]
    second = tableau(ROWS["rk4"])
    text = "a name of its own"
    gc.collect()
    counts = sys.getrefcount(second), sys.getrefcount(text), sys.getrefcount(_core.Tableau), sys.getrefcount(row["a"])
    for _ in range(100):
        for changes in ({"second": second}, {"order": 99}, {"a": np.zeros((2, 2))}):
            with pytest.raises(ValueError):
                tableau(row, **{"name": text} | changes)
    gc.collect()
    assert counts == (
        sys.getrefcount(second),
        sys.getrefcount(text),
        sys.getrefcount(_core.Tableau),
        sys.getrefcount(row["a"]),
    )


def test_a_table_cannot_be_changed():
    made, row = tableau(ROWS["rk4"]), ROWS["rk4"]
    a = row["a"].copy()
    kept = tableau(row, a=a)
    a[:] = 7
    assert np.array_equal(kept.row()["a"], row["a"])
    kept.row()["a"][:] = 7
    assert np.array_equal(kept.row()["a"], row["a"])
    with pytest.raises(AttributeError):
        made.name = "other"
    with pytest.raises(AttributeError):
        made.extra = 1
    with pytest.raises(TypeError):
        weakref.ref(made)
    with pytest.raises(TypeError):
        type("Sub", (_core.Tableau,), {})
