"""What users may give: every kind of bad input gets an error that names it, everything else the right result."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pynode as pn
from pynode.errors import STATUS

NET = pn.mlp(2, (4,))
THETA = NET.init(0)
DRIVEN = pn.mlp(2, (4,), inputs=1)
T = np.linspace(0, 1, 5)
Y0 = np.array([0.1, 0.2])
BATCH = np.array([[0.1, 0.2], [0.3, -0.4], [1.0, 1.0]])
TARGET = np.zeros((5, 2))

decay = pn.field(state=1, name="decay")(lambda t, y: [-y[0]])
one = pn.field(state=1, name="one")(lambda t, y: [1.0 + 0 * y[0]])
half = pn.field(state=2, name="half")(lambda t, y: [1.0, 0.0])
still = pn.field(state=1, name="still")(lambda t, y: [0.0])
clock = pn.field(state=1, name="clock")(lambda t, y: [t])
integral = pn.field(state=1, inputs=1, name="integral")(lambda t, y, u: [u[0]])


def solve(y0=Y0, t=T, theta=THETA, f=NET, **options):
    return pn.solve(f, y0, t, theta, **options)


def loss(y0=Y0, t=T, theta=THETA, target=TARGET, f=NET, **options):
    return pn.loss_and_grad(f, y0, t, theta, target, **options)


def refuses(call, error, *words):
    """The call raises exactly this kind of error, and its message holds all the words."""
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def status_of(solution):
    return [STATUS[s] for s in np.atleast_1d(solution.status)]


def same(a, b):
    np.testing.assert_array_equal(a, b, strict=True)


# ---- y0


@pytest.mark.parametrize(
    "y0, error, words",
    [
        (1.0, ValueError, ["y0 has shape ()", "(d,)", "(B, d)"]),
        ([], ValueError, ["y0 has shape (0,)", "(B, d)"]),
        (np.zeros((3, 0)), ValueError, ["y0 has shape (3, 0)"]),
        (np.zeros((2, 2, 2)), ValueError, ["y0 has shape (2, 2, 2)", "(B, d)"]),
        ([1, 2, 3], ValueError, ["y0 has 3 components", "the field has 2"]),
        ([[1, 2], [3]], ValueError, ["y0", "different lengths"]),
        (["1", "2"], TypeError, ["y0 must hold real numbers", "U1", "convert it"]),
        ({"x": 1.0, "v": 2.0}, TypeError, ["y0 must hold real numbers in an array", "not a dict", "pandas.Series"]),
        (None, TypeError, ["y0 must hold real numbers", "object"]),
        ([1j, 2], TypeError, ["y0 must hold real numbers", "complex128"]),
        (np.array([1, 2], object), TypeError, ["y0 must hold real numbers", "object", "dtype=float"]),
        (np.array(["2020", "2021"], "M8[D]"), TypeError, ["y0 must hold real numbers", "datetime64"]),
        ([10**400, 0], TypeError, ["y0 must hold real numbers"]),
        (np.ma.masked_array([1.0, 2.0], [True, False]), ValueError, ["y0 has masked entries", "fill"]),
    ],
)
def test_bad_y0(y0, error, words):
    refuses(lambda: solve(y0), error, *words)
    refuses(lambda: loss(y0), error, *words)


def test_scalar_y0_with_a_plain_function():
    refuses(lambda: pn.solve(lambda t, y: -y, 1.0, T), ValueError, "y0 has shape ()")


def test_samples_of_a_scalar_state_need_a_column():
    refuses(lambda: pn.solve(decay, np.zeros(3), T), ValueError, "y0 has 3 components", "give shape (3, 1)")


def test_too_large_for_the_dtype():
    refuses(lambda: solve([1e300, 0], dtype=np.float32), ValueError, "y0 holds 1e+300", "float32", "scale")
    refuses(lambda: solve(theta=np.full(22, 1e300), dtype=np.float32), ValueError, "theta holds 1e+300", "float32")
    refuses(lambda: solve(np.array(["1e400", "0"], "g")), ValueError, "y0 holds 1e+400", "float64")


@pytest.mark.parametrize("value, text", [(np.nan, "y0[1] is nan"), (np.inf, "y0[1] is inf")])
def test_non_finite_y0_is_a_status(value, text):
    with pytest.warns(pn.SolveWarning) as caught:
        s = solve([0.0, value])
    assert status_of(s) == ["bad_input"] and np.isnan(s.y).all()
    assert text in str(caught[0].message)
    with pytest.raises(pn.SolveError, match="bad_input"):
        solve([0.0, value], errors="raise")


def test_one_bad_sample_leaves_the_others_alone():
    bad = BATCH.copy()
    bad[1, 1] = np.nan
    s = solve(bad, errors="ignore")
    assert status_of(s) == ["ok", "bad_input", "ok"] and "1 of 3" in s.message() and "y0[1, 1] is nan" in s.message()
    same(s.y[[0, 2]], solve(BATCH).y[[0, 2]])
    a = loss(bad, target=np.zeros((3, 5, 2)), errors="ignore")
    b = loss(BATCH[[0, 2]], target=np.zeros((2, 5, 2)))
    assert a.loss == pytest.approx(b.loss, rel=1e-14) and np.isfinite(a.theta).all()
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "dtype, error, word",
    [
        (int, ValueError, "int64"),
        ("float16", ValueError, "float16"),
        (complex, ValueError, "complex128"),
        ("abc", TypeError, "'abc'"),
        (np.longdouble, ValueError, "dtype="),
    ],
)
def test_bad_dtype(dtype, error, word):
    refuses(lambda: solve(dtype=dtype), error, "dtype=", word, "float64", "float32")
    refuses(lambda: loss(dtype=dtype), error, "dtype=", word)


@pytest.mark.parametrize(
    "given, wanted",
    [
        ("f2", "f8"),
        ("f4", "f4"),
        (">f4", "f4"),
        ("f8", "f8"),
        (">f8", "f8"),
        ("g", "f8"),
        ("i1", "f8"),
        ("u8", "f8"),
        ("?", "f8"),
    ],
)
def test_dtypes_of_y0(given, wanted):
    y0 = np.array([1, 0]).astype(given)
    s = solve(y0)
    assert s.y.dtype == np.dtype(wanted)
    same(s.y, solve(np.array([1.0, 0.0], wanted)).y)


# ---- t


@pytest.mark.parametrize(
    "t, error, words",
    [
        (1.0, ValueError, ["t must be a non-empty 1-d array", "()"]),
        ([], ValueError, ["t must be a non-empty 1-d array", "(0,)"]),
        ([0, np.nan, 1], ValueError, ["t[1] is nan", "finite"]),
        ([0, np.inf], ValueError, ["t[1] is inf", "finite"]),
        ([0, 2, 1], ValueError, ["t[1] = 2", "t[2] = 1", "sort"]),
        ([2, 0, 1], ValueError, ["t[1] = 0", "t[2] = 1", "sort"]),
        (None, TypeError, ["t must hold real numbers"]),
        ("abc", TypeError, ["t must hold real numbers"]),
        ([0, 1j], TypeError, ["t must hold real numbers", "complex128"]),
        (np.ma.masked_array([0.0, 1.0], [False, True]), ValueError, ["t has masked entries"]),
        ([-1.7e308, 1.7e308], ValueError, ["t reaches from -1.7e+308 to 1.7e+308", "scale"]),
        (np.zeros((2, 3)), ValueError, ["times of their own", "(B, d)"]),
        (np.zeros((2, 2, 2)), ValueError, ["t must be a non-empty 1-d array", "(2, 2, 2)"]),
    ],
)
def test_bad_t(t, error, words):
    refuses(lambda: solve(t=t), error, *words)


@pytest.mark.parametrize(
    "t, words",
    [
        (np.zeros((2, 3)), ["t holds 2 arrays", "3 samples"]),
        ([T, T], ["t holds 2 arrays", "3 samples"]),
        ([T, [], T], ["t[1]", "non-empty", "(0,)"]),
        ([T, 1.0, T], ["t[1]", "non-empty", "()"]),
        ([T, [T], T], ["t[1]", "1-d", "(1, 5)"]),
        ([T, T, [0, np.nan]], ["t[2][1] is nan"]),
        ([T, [0, 2, 1], T], ["t[1][1] = 2", "t[1][2] = 1"]),
        (np.zeros((3, 0)), ["t[0]", "non-empty"]),
    ],
)
def test_bad_times_of_their_own(t, words):
    refuses(lambda: solve(BATCH, t), ValueError, *words)


def test_one_time():
    for y0 in (Y0, BATCH):
        s = solve(y0, [0.5], dense=True)
        same(s.y, y0[..., None, :] if y0.ndim == 2 else y0[None])
        assert s.ok and np.all(s.stats.nfe == 0) and np.shape(s(0.5)) == y0.shape
    for adjoint in ("discrete", "reversible", "backsolve", "interpolating"):
        v = loss(t=[0.5], target=np.zeros((1, 2)), wrt=("theta", "y0", "t"), adjoint=adjoint)
        assert not v.theta.any() and v.t.tolist() == [0.0]
        np.testing.assert_allclose(v.y0, Y0)


def test_no_interval():
    s = solve(t=[1.0, 1.0, 1.0])
    same(s.y, np.tile(Y0, (3, 1)))


def test_repeated_times():
    s = solve(t=[0.0, 0.0, 1.0, 1.0])
    same(s.y[0], s.y[1])
    same(s.y[2], s.y[3])
    assert s.ok


@pytest.mark.filterwarnings("ignore:component:pynode.ToleranceWarning")
@pytest.mark.parametrize("f, exact", [(one, lambda t: t), (still, lambda t: 0 * t)])
@pytest.mark.parametrize(
    "t",
    [
        [1.0, np.nextafter(1, 2)],
        [1.0, np.nextafter(1, 0)],
        [0.0, 5e-324],
        [0.0, 1e-300],
        [0.0, 1e300],
        [-1e300, 1e300],
        [1e300, -1e300],
        [1.7e12, 1.7e12 + 10],
        [1.0, 1 + 2.3e-16, 1 + 4.5e-16, 1 + 3e-15],
        [-1e-300, 0.0, 1e-300],
        [0.0, 1.7e308],
    ],
)
@pytest.mark.parametrize("options", [{}, {"save": "land"}, {"atol": 0.0}, {"method": "dop853"}, {"coupling": 0.99}])
def test_times_close_together_huge_and_tiny(f, exact, t, options):
    s = pn.solve(f, [0.0], t, **options)
    assert s.ok
    t = np.array(t)
    np.testing.assert_allclose(s.y[:, 0], exact(t) - exact(t[0]), rtol=1e-12, atol=np.spacing(np.abs(t).max()))


def test_times_of_a_clock_in_milliseconds():
    t = 1.7e12 + np.arange(0.0, 10.0)
    np.testing.assert_allclose(pn.solve(decay, [1.0], t).y[:, 0], np.exp(-np.arange(10.0)), rtol=1e-4)
    np.testing.assert_allclose(pn.solve(one, [0.0], t).y[:, 0], np.arange(10.0), rtol=1e-12)


def test_backwards():
    np.testing.assert_allclose(pn.solve(decay, [1.0], [1.0, 0.0]).y[-1], np.e, rtol=1e-5)


# ---- no samples


@pytest.mark.parametrize("t, shape", [(T, (0, 5, 2)), (np.zeros((0, 5)), (0, 5, 2)), ([], None)])
@pytest.mark.parametrize(
    "options", [{}, {"dense": True}, {"steps": True}, {"coupling": 0.9}, {"method": "rk4", "step": 0.1}, {"grid": T}]
)
def test_no_samples(t, shape, options):
    s = solve(np.zeros((0, 2)), t, **options)
    assert s.ok and s.status.shape == (0,) and s.stats.nfe.shape == (0,) and s.message() == "ok"
    assert s.y == [] if shape is None else s.y.shape == shape
    assert len(s.t) == (0 if shape != (0, 5, 2) or np.ndim(t) == 2 else 5)
    if options.get("dense"):
        assert s([0.0, 0.5]).shape == (0, 2, 2)


def test_no_samples_elsewhere():
    empty = np.zeros((0, 2))
    assert pn.solve(DRIVEN, empty, T, DRIVEN.init(0), inputs=([0, 1], [[1.0], [2.0]])).y.shape == (0, 5, 2)
    assert pn.solve(lambda t, y: -y, empty, T).y.shape == (0, 5, 2)
    assert pn.odeint(NET, empty, T, THETA).shape == (5, 0, 2)
    refuses(lambda: loss(empty, target=np.zeros((0, 5, 2))), ValueError, "target has no observed entry", "no samples")


# ---- theta


def replaced(i, value):
    return np.where(np.arange(22) == i, value, THETA)


@pytest.mark.parametrize(
    "theta, error, words",
    [
        (None, ValueError, ["has 22 parameters", "give theta", "f.init(0)"]),
        (THETA[:-1], ValueError, ["theta must have shape (22,)", "(21,)"]),
        (THETA[None, None], ValueError, ["theta must have shape (22,)", "(1, 1, 22)"]),
        (1.0, ValueError, ["theta must have shape (22,)", "()"]),
        (replaced(3, np.nan), ValueError, ["theta[3] is nan", "finite"]),
        (replaced(21, -np.inf), ValueError, ["theta[21] is -inf", "finite"]),
        (np.where(np.arange(22) % 2, np.inf, -np.inf), ValueError, ["theta[0] is -inf"]),
        (THETA.astype(complex), TypeError, ["theta must hold real numbers", "complex128"]),
        (THETA.astype(object), TypeError, ["theta must hold real numbers", "object"]),
        (THETA.astype(str), TypeError, ["theta must hold real numbers"]),
        (np.ma.masked_array(THETA, np.arange(22) == 1), ValueError, ["theta has masked entries"]),
        ({}, ValueError, ["missing: ['W0', 'W1', 'b0', 'b1']"]),
        ({"W0": 1.0, "x": 2}, ValueError, ["missing: ['W1', 'b0', 'b1']", "unknown: ['x']"]),
        (NET.unflatten(THETA) | {"b0": np.zeros(9)}, ValueError, ["parameter b0 has shape (4,)", "(9,)"]),
        (NET.unflatten(THETA) | {"b0": np.zeros(4, complex)}, TypeError, ["parameter b0", "complex128"]),
        (NET.unflatten(THETA) | {"b0": np.full(4, np.nan)}, ValueError, ["is nan", "finite"]),
    ],
)
def test_bad_theta(theta, error, words):
    refuses(lambda: solve(theta=theta), error, *words)
    refuses(lambda: loss(theta=theta), error, *words)
    refuses(lambda: pn.Objective(NET, Y0, T, TARGET)(theta), error, *words)
    refuses(lambda: pn.Objective(NET, Y0, T, TARGET).value(theta), error, *words)
    refuses(lambda: pn.check_grad(NET, Y0, T, theta, TARGET), error, *words)


def test_theta_where_there_is_none():
    refuses(lambda: pn.solve(decay, [1.0], T, [1.0]), ValueError, "theta must have shape (0,)", "(1,)")
    for nothing in (None, [], np.zeros(0), {}):
        same(pn.solve(decay, [1.0], T, nothing).y, pn.solve(decay, [1.0], T).y)


def test_huge_theta_fails_as_non_finite_not_as_a_small_step():
    s = solve(theta=np.full(22, 1.7e308), errors="ignore")
    assert status_of(s) == ["non_finite"] and "component 0" in s.message()
    v = loss(theta=np.full(22, 1.7e308), errors="ignore")
    assert np.isnan(v.loss) and not v.theta.any()


def test_dict_theta_is_the_flat_one():
    same(solve(theta=NET.unflatten(THETA)).y, solve().y)


# ---- f


@pytest.mark.parametrize(
    "f, error, words",
    [
        (None, TypeError, ["f must be a Field", "NoneType"]),
        ("mlp", TypeError, ["f must be a Field", "str"]),
        (pn.mlp(2, (3,), 1), ValueError, ["2 state components to 1", "vector field"]),
    ],
)
def test_bad_f(f, error, words):
    for call in (solve, loss):
        refuses(lambda c=call: c(f=f, theta=np.zeros(13)), error, *words)


def test_a_plain_function_has_no_gradient():
    refuses(lambda: loss(f=lambda t, y: y, theta=None), TypeError, "plain function", "pynode.field")
    refuses(
        lambda: loss(f=pn.callback_field(lambda t, y: y, 2), theta=None),
        ValueError,
        "no vjp",
        "callback_field(..., vjp=...)",
    )


# ---- options of the solve


@pytest.mark.parametrize("name", ["step", "first_step", "max_step", "loss_scale", "loss_dof"])
@pytest.mark.parametrize(
    "value, error",
    [
        (0, ValueError),
        (-1, ValueError),
        (np.nan, ValueError),
        (np.inf, ValueError),
        ("x", TypeError),
        ([1, 2], TypeError),
        (1j, TypeError),
    ],
)
def test_numbers_that_must_be_positive(name, value, error):
    call = loss if name.startswith("loss") else solve
    refuses(
        lambda: call(**{name: value}), error, name, repr(value), "finite and positive" if error is ValueError else "number"
    )


@pytest.mark.parametrize("name", ["rtol", "coupling"])
@pytest.mark.parametrize(
    "value, error", [(-1, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("x", TypeError), (None, TypeError)]
)
def test_numbers_that_must_not_be_negative(name, value, error):
    refuses(lambda: solve(**{name: value}), error, name, repr(value))
    refuses(lambda: loss(**{name: value}), error, name, repr(value))


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"rtol": 1}, ValueError, ["rtol=1", "below 1"]),
        ({"rtol": 0, "atol": 0}, ValueError, ["rtol and atol", "both be 0"]),
        ({"rtol": 0, "atol": [1, 0]}, ValueError, ["rtol and atol", "both be 0"]),
        ({"atol": -1}, ValueError, ["atol=-1", "not negative"]),
        ({"atol": np.nan}, ValueError, ["atol=nan", "finite"]),
        ({"atol": [1, np.inf]}, ValueError, ["atol=[1.0, inf]", "finite"]),
        ({"atol": [1, 2, 3]}, ValueError, ["atol has shape (3,)", "2 state components"]),
        ({"atol": "x"}, TypeError, ["atol must hold real numbers"]),
        ({"atol": 1j}, TypeError, ["atol must hold real numbers", "complex128"]),
        ({"coupling": 1.5}, ValueError, ["coupling=1.5", "between 0 and 1"]),
        ({"method": "foo"}, ValueError, ["method='foo'", "dopri5"]),
        ({"method": ["dopri5"]}, ValueError, ["method=['dopri5']", "dopri5"]),
        ({"method": "rk4"}, ValueError, ["method='rk4' has no error estimate", "step="]),
        ({"save": "often"}, ValueError, ["save='often'", "'land'"]),
        ({"step": 0.1, "grid": T}, ValueError, ["step and grid", "one of them"]),
        ({"step": 0.1, "first_step": 0.1}, ValueError, ["first_step", "no meaning with step="]),
        ({"grid": T, "max_step": 0.1}, ValueError, ["max_step", "no meaning"]),
        ({"step": 1e-300}, ValueError, ["step=1e-300", "1e+300 steps", "larger"]),
        ({"step": 1e-11}, ValueError, ["step=1e-11", "1e+11 steps"]),
        ({"grid": [0, np.nan, 1]}, ValueError, ["grid", "entry 1"]),
        ({"grid": [0, 0.5]}, ValueError, ["grid", "reach the last"]),
        ({"grid": [0, 0.5, 0.4, 1]}, ValueError, ["grid", "entry 2"]),
        ({"grid": [0.1, 1]}, ValueError, ["grid", "start at the initial time"]),
        ({"grid": []}, ValueError, ["grid", "(0,)"]),
        ({"grid": 1.0}, ValueError, ["grid", "1-d"]),
        ({"grid": "abc"}, TypeError, ["grid must hold real numbers"]),
        ({"grid": [T, T]}, ValueError, ["grid holds 2 arrays", "1 samples"]),
        ({"max_steps": 0}, ValueError, ["max_steps=0", "positive integer"]),
        ({"max_steps": 1.5}, ValueError, ["max_steps=1.5"]),
        ({"max_steps": np.nan}, ValueError, ["max_steps=nan"]),
        ({"max_steps": np.inf}, ValueError, ["max_steps=inf"]),
        ({"max_steps": True}, ValueError, ["max_steps=True"]),
        ({"max_steps": 2**70}, ValueError, ["max_steps=1180591620717411303424"]),
        ({"max_steps": "x"}, TypeError, ["max_steps='x'"]),
        ({"threads": -1}, ValueError, ["threads=-1", "between 0 and 4096"]),
        ({"threads": 5000}, ValueError, ["threads=5000"]),
        ({"threads": 1.5}, ValueError, ["threads=1.5"]),
        ({"threads": "x"}, TypeError, ["threads='x'"]),
        ({"errors": "foo"}, ValueError, ["errors='foo'", "raise"]),
        ({"errors": None}, ValueError, ["errors=None"]),
        ({"foo": 1}, TypeError, ["'foo'"]),
        ({"inputs": [1.0]}, ValueError, ["inputs were given", "declare them"]),
    ],
)
def test_bad_options(options, error, words):
    refuses(lambda: solve(**options), error, *words)
    refuses(lambda: loss(**options), error, *words)
    if "errors" not in options:
        refuses(lambda: pn.Objective(NET, Y0, T, TARGET, **options), error, *words)


def test_unknown_options_of_a_loss_are_listed():
    refuses(lambda: loss(foo=1), TypeError, "loss_and_grad()", "'foo'", "rtol, atol, step")


def test_errors_is_checked_before_the_work():
    def called(t, y):
        raise AssertionError("solved")

    refuses(lambda: pn.solve(called, [1.0], T, errors="foo"), ValueError, "errors='foo'")


@pytest.mark.parametrize(
    "options",
    [
        {"rtol": 0},
        {"rtol": 1e-300},
        {"atol": 0},
        {"atol": 1e-300},
        {"atol": [0, 1e-8]},
        {"first_step": 1e-300},
        {"first_step": 1e300},
        {"max_step": 1e300},
        {"max_steps": 5.0},
        {"max_steps": np.int64(50)},
        {"threads": None},
        {"threads": np.int32(2)},
    ],
)
def test_odd_options_that_work(options):
    np.testing.assert_allclose(solve(**options).y, solve(rtol=1e-12, atol=1e-14).y, rtol=1e-5)


def test_atol_of_each_component():
    loose, tight = solve(rtol=0, atol=[1e-2, 1e-2]), solve(rtol=0, atol=np.array([1e-12, 1e-12]))
    assert tight.stats.nfe > loose.stats.nfe
    same(solve(atol=[1e-8, 1e-8]).y, solve(atol=1e-8).y)


def test_budgets_end_a_solve():
    assert status_of(solve(max_steps=1, errors="ignore")) == ["max_steps"]
    s = solve(max_step=1e-300, errors="ignore")
    assert status_of(s) == ["max_steps"] and "max_steps" in s.message()
    same(s.y[0], Y0)
    assert np.isnan(s.y[1:]).all()
    assert status_of(solve(t=T + 1, first_step=1e-300, errors="ignore")) == ["step_too_small"]
    assert status_of(solve(step=1e-300, max_steps=100, errors="ignore")) == ["max_steps"]


def test_a_step_larger_than_the_interval():
    np.testing.assert_allclose(pn.solve(decay, [1.0], [0, 1.0], method="rk4", step=5.0).y[-1], 0.375, rtol=1e-15)
    same(
        pn.solve(decay, [1.0], [0, 1.0], method="rk4", step=1e300).y,
        pn.solve(decay, [1.0], [0, 1.0], method="rk4", step=1.0).y,
    )


def test_a_component_that_stays_zero_without_atol():
    for f, y0, end in ((half, [0.0, 0.0], [1.0, 0.0]), (still, [0.0], [0.0]), (one, [0.0], [1.0]), (one, [1e-300], [1.0])):
        s = pn.solve(f, y0, [0, 1.0], atol=0)
        assert s.ok
        np.testing.assert_allclose(s.y[-1], end, rtol=1e-14)


@pytest.mark.parametrize(
    "t, grid, named",
    [
        ([0.0, -5.0, -6.0], [0.0, -4.0, -6.0], "t = -5 is not"),
        ([0.0, 0.5, 1e6], [0.0, 0.5 + 1e-12, 1e6 - 5e-10], "t = 0.5 is not"),  # the last is nearer than rounding
    ],
)
def test_times_that_the_grid_lacks_are_named(t, grid, named):
    with pytest.raises(ValueError, match=named):
        pn.solve(pn.mlp(1, (2,)), [1.0], t, method="rk4", grid=grid, save="land")


def test_a_grid_must_not_step_over_a_knot():
    signal = ([0, 0.5, 1.0], [[0.0], [1.0], [0.0]])
    refuses(
        lambda: pn.solve(integral, [0.0], [0, 1.0], grid=[0, 0.3, 1.0], inputs=signal),
        ValueError,
        "grid[0]",
        "t = 0.5",
        "knot",
    )
    np.testing.assert_allclose(pn.solve(integral, [0.0], [0, 1.0], grid=[0, 0.5, 1.0], inputs=signal).y[-1], 0.5)


# ---- target, weight, loss, wrt, memory, adjoint


@pytest.mark.parametrize(
    "target, error, words",
    [
        (np.zeros((4, 2)), ValueError, ["target has shape (4, 2)", "(5, 2)"]),
        (np.zeros(5), ValueError, ["target has shape (5,)", "(5, 2)"]),
        (np.zeros((1, 5, 2)), ValueError, ["target has shape (1, 5, 2)"]),
        (np.full((5, 2), np.nan), ValueError, ["target has no observed entry"]),
        (np.full((5, 2), np.inf), ValueError, ["target has infinite entries", "NaN"]),
        (np.zeros((5, 2), complex), TypeError, ["target must hold real numbers", "complex128"]),
        ("abc", TypeError, ["target must hold real numbers"]),
        (None, TypeError, ["target must hold real numbers"]),
        ([[1], [2, 3]], ValueError, ["target", "different lengths"]),
    ],
)
def test_bad_target(target, error, words):
    refuses(lambda: loss(target=target), error, *words)
    refuses(lambda: pn.check_grad(NET, Y0, T, THETA, target), error, *words)


def test_bad_ragged_target():
    t = [T, T[:2], T[:1]]
    good = [np.zeros((len(x), 2)) for x in t]
    assert np.isfinite(loss(BATCH, t, target=good).loss)
    refuses(lambda: loss(BATCH, t, target=np.zeros((3, 5, 2))), ValueError, "target must be a list of 3 arrays")
    refuses(lambda: loss(BATCH, t, target=good[:2]), ValueError, "target must be a list of 3 arrays")
    refuses(lambda: loss(BATCH, t, target=[good[0], good[0], good[2]]), ValueError, "target[1] has shape (5, 2)", "(2, 2)")
    refuses(lambda: loss(BATCH, t, target=[good[0], good[1].astype(complex), good[2]]), TypeError, "target[1]", "complex128")


def test_masked_target_is_not_observed():
    mask = np.arange(10).reshape(5, 2) % 3 == 0
    a = loss(target=np.ma.masked_array(TARGET + 1, mask))
    b = loss(target=np.where(mask, np.nan, TARGET + 1))
    assert a.loss == b.loss
    same(a.theta, b.theta)


@pytest.mark.parametrize(
    "weight, error, words",
    [
        (np.nan, ValueError, ["weight", "nan"]),
        (-1, ValueError, ["weight", "-1"]),
        (np.inf, ValueError, ["weight", "inf"]),
        (np.zeros(3), ValueError, ["weight has shape (3,)", "(5, 2)"]),
        ("x", TypeError, ["weight must hold real numbers"]),
        (1j, TypeError, ["weight must hold real numbers", "complex128"]),
        (np.zeros((5, 2)), ValueError, ["no observed entry", "weight 0"]),
    ],
)
def test_bad_weight(weight, error, words):
    refuses(lambda: loss(weight=weight), error, *words)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"loss": "foo"}, ValueError, ["loss='foo'", "mse", "huber"]),
        ({"loss": ["mse"]}, ValueError, ["loss=['mse']"]),
        ({"adjoint": "foo"}, ValueError, ["adjoint='foo'", "discrete"]),
        ({"adjoint": None}, ValueError, ["adjoint=None"]),
        ({"adjoint": ["discrete"]}, ValueError, ["adjoint=['discrete']"]),
        ({"wrt": "foo"}, ValueError, ["wrt='foo'", "theta, y0"]),
        ({"wrt": ("theta", "foo")}, ValueError, ["wrt='foo'"]),
        ({"wrt": None}, TypeError, ["wrt=None", "theta, y0"]),
        ({"wrt": 5}, TypeError, ["wrt=5"]),
        ({"wrt": "inputs"}, ValueError, ["wrt='inputs'", "no inputs"]),
        ({"memory": 0}, ValueError, ["memory=0", "64MB"]),
        ({"memory": -1}, ValueError, ["memory=-1", "64MB"]),
        ({"memory": "64"}, ValueError, ["memory='64'", "64MB"]),
        ({"memory": "-5MB"}, ValueError, ["memory='-5MB'", "positive"]),
        ({"memory": "nanMB"}, ValueError, ["memory='nanMB'"]),
        ({"memory": np.nan}, ValueError, ["memory=nan"]),
        ({"memory": [1]}, TypeError, ["memory=[1]"]),
        ({"memory": True}, ValueError, ["memory=True"]),
        ({"memory": 2**70}, ValueError, ["memory=1180591620717411303424"]),
        ({"memory": 1}, ValueError, ["memory budget is too small", "raise memory="]),
        ({"memory": "1MB", "adjoint": "backsolve"}, ValueError, ["memory=", "adjoint='backsolve' has none"]),
        ({"coupling": 0.5}, ValueError, ["coupling=0.5", "adjoint='reversible'"]),
    ],
)
def test_bad_gradient_options(options, error, words):
    refuses(lambda: loss(**options), error, *words)


def test_odd_memory():
    for memory in ("infMB", "1e30GB", " 2 mb ", "1e5KiB", 10**7, 1e7):
        assert loss(memory=memory).loss == loss().loss


def test_bad_cotangent():
    s = solve()
    refuses(lambda: s.vjp(TARGET * np.nan), ValueError, "dy must be finite", "give 0")
    refuses(lambda: s.vjp(TARGET[:2]), ValueError, "dy has shape (2, 2)", "(5, 2)")
    refuses(lambda: s.vjp(None), TypeError, "dy must hold real numbers")
    refuses(lambda: s.vjp(TARGET, wrt="foo"), ValueError, "wrt='foo'")
    refuses(lambda: s.vjp(TARGET, adjoint="reversible"), ValueError, "coupling=0.99")
    refuses(lambda: s.vjp(TARGET, memory="x"), ValueError, "memory='x'")


def test_bad_check_grad():
    def check(**o):
        return pn.check_grad(NET, Y0, T, THETA, TARGET, **o)

    refuses(lambda: check(n_entries=-1), ValueError, "n_entries=-1")
    refuses(lambda: check(delta=0), ValueError, "delta=0")
    refuses(lambda: check(delta=np.nan), ValueError, "delta=nan")
    refuses(lambda: check(foo=1), TypeError, "'foo'")
    refuses(lambda: check(max_steps=1), pn.SolveError, "max_steps", "raise max_steps")
    assert pn.check_grad(NET, Y0, [0.0], THETA, TARGET[:1], wrt=("theta", "y0", "t")).max_error < 1e-10


def test_bad_dense_output():
    s = solve(BATCH, dense=True)
    refuses(lambda: s(2.0), ValueError, "t must lie in the interval", "[0, 1]")
    refuses(lambda: s(np.nan), ValueError, "t must lie in the interval")
    refuses(lambda: s("a"), TypeError, "t must hold real numbers")
    refuses(lambda: s(0.5, sample=3), IndexError, "sample=3", "3 samples")
    refuses(lambda: solve()(0.5), ValueError, "dense=True")
    refuses(lambda: solve().steps, ValueError, "steps=True")
    same(s(0.5, sample=-1), s(0.5)[2])


def test_objective_with_nothing_left():
    o = pn.Objective(NET, Y0, T, TARGET, max_steps=1)
    value, gradient = o(THETA)
    assert np.isnan(value) and not gradient.any() and np.isnan(o.value(THETA))


# ---- inputs

KNOTS, VALUES = np.linspace(0, 1, 5), np.ones((5, 1))


def driven(inputs):
    return pn.solve(DRIVEN, Y0, T, DRIVEN.init(0), inputs=inputs)


@pytest.mark.parametrize(
    "inputs, error, words",
    [
        (None, ValueError, ["has 1 input", "inputs=(t, u)"]),
        (1.0, ValueError, ["inputs: u has shape ()", "(m,)"]),
        ((1.0, 2.0), ValueError, ["inputs", "(K, m)"]),
        ((1.0,), ValueError, ["inputs is a tuple of 1", "(t, u, kind)"]),
        ((KNOTS, VALUES, "linear", "step", 3), ValueError, ["inputs is a tuple of 5"]),
        ([1.0, 2.0], ValueError, ["field has 1 inputs", "signal 2"]),
        ((KNOTS, VALUES[:4]), ValueError, ["inputs of sample 0", "(5,)", "(4, 1)"]),
        ((KNOTS, VALUES[:, 0]), ValueError, ["inputs: u has shape (5,)", "(K, m)"]),
        ((KNOTS[:3], VALUES[:3]), ValueError, ["[0, 0.5]", "from 0 to 1", "cover"]),
        ((KNOTS, VALUES, "foo"), ValueError, ["kind='foo'", "linear"]),
        ((KNOTS[::-1], VALUES), ValueError, ["strictly increasing"]),
        ((KNOTS * np.nan, VALUES), ValueError, ["finite"]),
        ((KNOTS, VALUES * 1j), TypeError, ["inputs: u must hold real numbers", "complex128"]),
        ((KNOTS * 1j, VALUES), TypeError, ["inputs of sample 0: t must hold real numbers"]),
        ("abc", ValueError, ["inputs: u has shape ()"]),
        ((KNOTS, [["a"]] * 5), TypeError, ["inputs: u must hold real numbers"]),
        ((None, VALUES), ValueError, ["constant input has t=None"]),
        ((KNOTS, np.ones((2, 5, 1))), ValueError, ["2 signals for 1 samples"]),
        ((KNOTS, np.zeros((5, 0))), ValueError, ["(5, 0)"]),
        (([0.0], [[1.0]]), ValueError, ["at least 2 knots"]),
        ((KNOTS, np.ma.masked_array(VALUES, VALUES > 0)), ValueError, ["inputs: u has masked entries"]),
    ],
)
def test_bad_inputs(inputs, error, words):
    refuses(lambda: driven(inputs), error, *words)


def test_lists_are_signals_too():
    wanted = driven((KNOTS, VALUES)).y
    for inputs in (
        (KNOTS.tolist(), VALUES.tolist()),
        (tuple(KNOTS), VALUES),
        (KNOTS, VALUES[None]),
        ([KNOTS], [VALUES]),
        ([KNOTS.tolist()], [VALUES.tolist()]),
        (KNOTS, VALUES.astype(int)),
        pn.Signal(KNOTS, VALUES),
    ):
        same(driven(inputs).y, wanted)
    same(driven([1.0]).y, driven(np.ones((1, 1))).y)


def test_non_finite_input_is_a_status():
    with pytest.warns(pn.SolveWarning, match="bad_input"):
        s = driven((KNOTS, VALUES * np.nan))
    assert status_of(s) == ["bad_input"]


# ---- odd fields


def test_fields_without_parameters_and_with_outputs_that_are_identically_zero():
    for f, y0, end in ((half, [0.0, 3.0], [1.0, 3.0]), (still, [2.0], [2.0]), (clock, [0.0], [0.5]), (one, [0.0], [1.0])):
        d = len(y0)
        for adjoint in ("discrete", "reversible", "backsolve", "interpolating"):
            v = pn.loss_and_grad(
                f, y0, [0, 1.0], None, np.zeros((2, d)), loss="sse", wrt=("theta", "y0", "t"), adjoint=adjoint
            )
            np.testing.assert_allclose(v.y[-1], end, rtol=1e-12)
            assert v.theta.shape == (0,)
            np.testing.assert_allclose(v.y0, 2 * (np.array(y0) + end), rtol=1e-12)


def test_a_large_state_and_many_parameters():
    f = pn.mlp(500, (8,))
    s = pn.solve(f, np.ones((2, 500)), T, f.init(0))
    assert s.ok and s.y.shape == (2, 5, 500)
    np.testing.assert_allclose(s.y[0], pn.solve(f, np.ones(500), T, f.init(0)).y, rtol=1e-10, atol=1e-12)
    f = pn.mlp(2, (400, 400))
    v = pn.loss_and_grad(f, Y0, T[:2], f.init(0), np.ones((2, 2)), rtol=1e-3)
    assert v.theta.shape == (f.n_params,) == (162402,) and np.isfinite(v.theta).all()


def test_results_that_do_not_fit_into_memory():
    with pytest.raises(MemoryError):
        pn.solve(decay, np.ones((10**6, 1)), np.linspace(0, 1, 10**6))


# ---- the same numbers in any array

FORMS = {
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "fortran": np.asfortranarray,
    "strided": lambda a: (
        np.repeat(np.repeat(a, 2, axis=0), 3, axis=-1)[::2, ..., ::3] if a.ndim > 1 else np.repeat(a, 3)[::3]
    ),
    "backwards": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "masked array": np.ma.asarray,
    "matrix of a subclass": lambda a: a.view(type("Sub", (np.ndarray,), {})),
    "transposed twice": lambda a: np.ascontiguousarray(a.T).T,
    "longdouble": lambda a: a.astype(np.longdouble),
    "object with __array__": lambda a: type(
        "Has", (), {"__array__": lambda s, dtype=None, copy=None: a, "__len__": lambda s: len(a)}
    )(),
}


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS["read-only"] = read_only


@pytest.mark.parametrize("form", FORMS)
def test_any_array_gives_the_same_bits(form):
    change = FORMS[form]
    y0, theta, target, weight = (
        BATCH,
        THETA,
        np.sin(np.arange(30.0)).reshape(3, 5, 2),
        np.linspace(0, 1, 30).reshape(3, 5, 2),
    )
    a = pn.loss_and_grad(NET, y0, T, theta, target, weight=weight, wrt=("theta", "y0", "t"))
    b = pn.loss_and_grad(
        NET, change(y0), change(T), change(theta), change(target), weight=change(weight), wrt=("theta", "y0", "t")
    )
    assert a.loss == b.loss
    for name in ("theta", "y0", "t", "y"):
        same(getattr(a, name), getattr(b, name))
    own = np.stack([T, T + 1, T * 2])
    same(pn.solve(NET, change(y0), change(own), change(theta)).y, pn.solve(NET, y0, own, theta).y)


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame, series = pandas.DataFrame(BATCH, columns=["a", "b"]), pandas.Series(T)
    same(solve(frame, series).y, solve(BATCH, T).y)
    same(solve(pandas.DataFrame(BATCH).astype("Float64").to_numpy(float), T).y, solve(BATCH, T).y)
    assert loss(target=pandas.DataFrame(TARGET)).loss == loss().loss


def test_arguments_are_not_changed_and_not_kept():
    y0, t, theta, target = BATCH.copy(), T.copy(), THETA.copy(), np.zeros((3, 5, 2))
    o = pn.Objective(NET, y0, t, target)
    before = o(theta)
    for a, b in ((y0, BATCH), (t, T), (theta, THETA)):
        same(a, b)
    y0[:] = 9
    t[:] = np.nan
    target[:] = 9
    after = o(theta)
    assert before[0] == after[0]
    same(before[1], after[1])


@st.composite
def batches(draw):
    """y0, t in some form, and the same plain."""
    n, steps = draw(st.integers(0, 11)), draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    dtype = draw(st.sampled_from(["f8", "f4", ">f8", ">f4", "f2", "i2", "g"]))
    y0 = np.round(rng.normal(size=(n, 2)) * 2, 2).astype(dtype)
    plain = y0.astype(np.float32 if dtype[-2:] == "f4" else np.float64)
    kind = draw(st.sampled_from(["shared", "own", "ragged"]))
    way = draw(st.sampled_from([1, -1]))
    if kind == "ragged":
        t = [way * np.sort(rng.uniform(0, 2, rng.integers(1, 6))).round(1) for _ in range(n)]
    else:
        t = way * np.sort(rng.uniform(0, 2, (n, steps) if kind == "own" else steps)).round(1)
    view = draw(st.sampled_from(["plain", "strided", "backwards", "fortran", "offset"]))
    if view == "strided":
        y0 = np.repeat(y0, 2, axis=1)[:, ::2]
    elif view == "backwards":
        y0 = np.ascontiguousarray(y0[::-1, ::-1])[::-1, ::-1]
    elif view == "fortran":
        y0 = np.asfortranarray(y0)
    elif view == "offset":
        y0 = np.pad(y0, 1)[1:-1, 1:-1]
    return y0, t, plain, draw(st.sampled_from([{}, {"save": "land"}, {"method": "rk4", "step": 0.3}, {"threads": 2}]))


@settings(max_examples=120, deadline=None)
@given(batches())
def test_every_sample_is_as_if_it_were_alone_and_plain(case):
    y0, t, plain, options = case
    ragged = isinstance(t, list)
    s = pn.solve(NET, y0, t, THETA, **options)
    assert s.ok
    rows = s.y if ragged else list(s.y)
    assert len(rows) == len(plain) == len(s.status)
    for i, y in enumerate(rows):
        times = t[i] if ragged or t.ndim == 2 else t
        assert y.dtype == plain.dtype and y.shape == (len(times), 2)
        pair = pn.solve(NET, plain[[i, i]], times, THETA, **options)  # two samples: the block of lanes, as in a batch
        if len(plain) > 1:
            same(y, pair.y[0])
        else:
            same(y, pn.solve(NET, plain[i], times, THETA, **options).y)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=0, max_size=5),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=4),
)
def test_any_numbers_end(t, y):
    """Whatever the floats are: a result, a status or a ValueError; no other exception, no warning of NumPy, and it ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", pn.ToleranceWarning)  # some are tiny
        try:
            s = pn.solve(decay, np.array(y)[:, None], t, errors="ignore", max_steps=200)
        except ValueError as error:
            assert str(error).startswith("t"), error
            return
    for i, name in enumerate(status_of(s)):
        if name == "ok":
            assert np.isfinite(s.y[i]).all()
        else:
            assert name in ("bad_input", "max_steps", "step_too_small", "non_finite")
            assert np.isnan(s.y[i, -1]).all()
