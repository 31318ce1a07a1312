"""Tracing: every supported NumPy function against NumPy itself, and every refusal."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reference_interpreter import backend  # noqa: F401
from tracing_cases import EXPRESSIONS, A, C, K, assert_as_numpy, traced, x, z
from tracing_cases import __file__ as cases

from pynode.fields.make import field, mlp
from pynode.fields.transforms import grad, vjp
from pynode.programs import functions
from pynode.programs.traced import FUNCTIONS, UFUNCS, Traced, TraceError
from pynode.programs.tracing import new_trace, trace

pytestmark = pytest.mark.usefixtures("backend")


LINE = np.array([-2.5, -1.0, -0.3, 0.0, 0.4, 1.0, 3.0])
POSITIVE = np.array([1e-8, 0.1, 0.5, 1.0, 2.0, 7.5, 1e5])
INSIDE = np.array([-0.99, -0.5, -1e-9, 0.0, 1e-9, 0.3, 0.99])
OTHER = np.array([1.5, -1.0, 0.2, 2.0, -0.4, 1.0, 0.0])
NUMBERS = np.array([np.nan, 1.0, np.inf, 2.0, np.nan])
MORE_NUMBERS = np.array([1.0, np.nan, 1.0, 3.0, np.nan])

# ufunc -> arguments; those not named here take LINE (and OTHER)
ARGUMENTS = {
    **dict.fromkeys([np.sqrt, np.log, np.log2, np.log10, np.reciprocal], (POSITIVE,)),
    **dict.fromkeys([np.arcsin, np.arccos, np.arctanh, np.log1p], (INSIDE,)),
    **dict.fromkeys([np.power, np.float_power], (POSITIVE, OTHER)),
    **dict.fromkeys([np.fmax, np.fmin, np.maximum, np.minimum], (NUMBERS, MORE_NUMBERS)),
    np.divide: (LINE, OTHER + 3),
    np.matmul: (LINE, OTHER),
}


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_ufunc(ufunc):
    assert_as_numpy(ufunc, *ARGUMENTS.get(ufunc, (LINE, OTHER)[: ufunc.nin]))


@pytest.mark.parametrize("ufunc", [np.sinh, np.arcsinh, np.arctanh, np.tan, np.arcsin, np.expm1, np.log1p])
def test_tiny_arguments_keep_their_digits(ufunc):
    assert_as_numpy(ufunc, np.array([1e-20, -1e-12, 1e-7, -1e-3]))


@pytest.mark.parametrize("ufunc", [np.arcsinh, np.logaddexp, np.hypot, np.arctan2, np.cosh])
def test_large_arguments(ufunc):
    assert_as_numpy(ufunc, *([[-600.0, 30.0, 650.0], [-590.0, -25.0, 3.0]][: ufunc.nin]))


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "relu", "erf", "silu", "gelu", "elu", "leaky_relu"])
def test_our_functions(name):
    assert_as_numpy(getattr(functions, name), LINE)
    assert_as_numpy(getattr(functions, name), [[-40.0, 800.0], [1e-9, 40.0]])
    assert isinstance(getattr(functions, name)(1.0), float)


def test_our_functions_have_the_right_values():
    x = np.array([-1.5, 0.0, 2.0])
    e = np.exp(x)
    np.testing.assert_allclose(functions.sigmoid(x), e / (1 + e))
    np.testing.assert_allclose(functions.softplus(x), np.log(1 + e))
    np.testing.assert_allclose(functions.relu(x), [0, 0, 2])
    np.testing.assert_allclose(functions.silu(x), x * e / (1 + e))
    np.testing.assert_allclose(functions.gelu(x), [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in x])
    np.testing.assert_allclose(functions.elu(x, 0.7), [0.7 * math.expm1(-1.5), 0, 2])
    np.testing.assert_allclose(functions.leaky_relu(x, 0.2), [-0.3, 0, 2])
    np.testing.assert_allclose(functions.erf([0.5, -2]), [math.erf(0.5), math.erf(-2)])


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expression(name):
    fn = EXPRESSIONS[name]
    arguments = {"x": x, "z": z, "A": A, "C": C}
    assert_as_numpy(fn, *(arguments[p] for p in fn.__code__.co_varnames[: fn.__code__.co_argcount]))


def test_every_function_is_tested():
    """Each function in the table is called by name in an expression above, or is reached through a method."""
    source = Path(__file__).read_text() + Path(cases).read_text()
    missing = [f.__name__ for f in FUNCTIONS if not re.search(rf"np\.(linalg\.)?{f.__name__}\(", source)]
    assert not missing


def test_result_lists_are_stacked():
    assert traced(lambda x: [x[0], x[1:]], x).shape == (3,)
    assert traced(lambda x: (x, 2 * x), x).shape == (2, 3)
    assert traced(lambda x: 2.0, x).shape == ()


def listing(fn, *shapes, theta=0):
    """The operations that a function becomes."""
    the_trace = new_trace([int(np.prod(s)) for s in shapes], (theta,))
    args = [the_trace.slot(i, s) for i, s in enumerate(shapes)]
    if theta:
        args.append(the_trace.theta())
    result = trace(fn, args, the_trace)
    return [ins.op for ins in the_trace.builder.finish([result.register]).instructions]


def test_parameter_matrices_become_affine():
    def layer(y, th):
        return np.tanh(th[:6].reshape(2, 3) @ y + th[6:])

    assert listing(layer, (3,), theta=8) == ["AFFINE", "TANH"]
    assert listing(lambda y, th: th[6:] + th[:6].reshape(2, 3).dot(y), (3,), theta=8) == ["AFFINE"]
    assert listing(lambda y, th: y @ th[:6].reshape(2, 3), (2,), theta=8) == ["AFFINE_T"]
    assert listing(lambda y, th: th[:6].reshape(2, 3).T @ y, (2,), theta=8) == ["AFFINE_T"]
    assert listing(lambda y, th: y @ th[:6].reshape(2, 3).T, (3,), theta=8) == ["AFFINE"]
    assert listing(lambda y: K @ y, (3,)) == ["CONST", "MATVEC"]


# ---- Refusals. Each function is on a line of its own: the message names it.


def refused(fn, *shapes):
    the_trace = new_trace([int(np.prod(s)) for s in shapes])
    args = [the_trace.slot(i, s) for i, s in enumerate(shapes)]
    with pytest.raises(TraceError) as caught:
        trace(fn, args, the_trace)
    return str(caught.value)


def branch(y):
    if y[0] > 0:
        return y
    return -y


def fill(y):
    dy = np.zeros(3)
    dy[0] = y[0]
    return dy


def write(y):
    y[0] = 1.0
    return y


def increment(y):
    y[0] += 1.0
    return y


def add_into(y):
    dy = np.zeros(3)
    dy += y
    return dy


def smallest(y):
    return min(y[0], y[1])


def while_loop(y):
    while y[0] < 1:
        y = 2 * y
    return y


REFUSALS = {
    "if": (branch, "if y[0] > 0:", "np.where"),
    "while": (while_loop, "while y[0] < 1:", "np.where"),
    "min": (smallest, "min(y[0], y[1])", "np.maximum"),
    "and": (lambda y: (y > 0) and (y < 1), "(y > 0) and", "np.logical_and"),
    "chained": (lambda y: y[1] < y[0] < 1, "y[1] < y[0] < 1", "np.logical_and"),
    "float": (lambda y: float(y[0]), "float(y[0])", "no number"),
    "int": (lambda y: int(y[0]), "int(y[0])", "no number"),
    "range": (lambda y: list(range(y[0])), "range(y[0])", "no number"),
    "math": (lambda y: math.sin(y[0]), "math.sin(y[0])", "np.sin in place of math.sin"),
    "item": (lambda y: y[0].item(), ".item()", "no number"),
    "float array": (lambda y: np.array([y[0], 1.0], dtype=float), "dtype=float", "np.stack"),
    "fill": (fill, "dy[0] = y[0]", "np.stack"),
    "write": (write, "y[0] = 1.0", "np.concatenate"),
    "increment": (increment, "y[0] += 1.0", "np.concatenate"),
    "add into": (add_into, "dy += y", "dy = dy + ..."),
    "out": (lambda y: np.add(y, 1, out=np.zeros(3)), "out=np.zeros(3)", "out="),
    "ufunc": (lambda y: np.spacing(y), "np.spacing(y)", "np.spacing cannot be traced. Supported: absolute"),
    "modulo": (lambda y: y % 2, "y % 2", "np.remainder"),
    "floor division": (lambda y: y // 2, "y // 2", "np.floor_divide"),
    "function": (lambda y: np.sort(y), "np.sort(y)", "np.sort cannot be traced. Supported: "),
    "einsum": (lambda y: np.einsum("...i,i", y, y), "np.einsum", "the axes of each array as letters"),
    "einsum of lists": (lambda y: np.einsum(y, [0]), "np.einsum", "the axes of each array as letters"),
    "einsum of other sizes": (lambda y: np.einsum("i,i", y, y[:2]), "np.einsum", "(3,), (2,)"),
    "einsum of other axes": (lambda y: np.einsum("ij,j->i", y, y), "np.einsum", "(3,), (3,)"),
    "einsum to new axes": (lambda y: np.einsum("i->ij", y), "np.einsum", "of shapes (3,)"),
    "einsum options": (lambda y: np.einsum("i,i", y, y, casting="no"), "np.einsum", "casting"),
    "tensordot": (lambda y: np.tensordot(y, y[:2], 1), "np.tensordot", "(3,) and (2,)"),
    "tensordot of too many axes": (lambda y: np.tensordot(y, y, 2), "np.tensordot", "over axes 2"),
    "kron": (lambda y: np.kron(y, y[:, None]), "np.kron", "two vectors or two matrices"),
    "cross": (lambda y: np.cross(y[:2], y[:2]), "np.cross", "three numbers"),
    "interp": (lambda y: np.interp(0.5, y, [1.0, 2.0, 3.0]), "np.interp", "xp must be numbers"),
    "interp with a period": (lambda y: np.interp(y, [0.0, 1.0], [0.0, 1.0], period=1.0), "np.interp", "period="),
    "interp of falling points": (lambda y: np.interp(y, [1.0, 0.0], [0.0, 1.0]), "np.interp", "must rise"),
    "reduce": (lambda y: np.add.accumulate(y), "accumulate", "np.add.accumulate"),
    "ufunc options": (lambda y: np.add(y, 1, where=[True]), "where=[True]", "options"),
    "shapes": (lambda y: y + np.ones(2), "np.ones(2)", "(3,) and (2,)"),
    "matmul": (lambda y: np.ones((2, 2)) @ y, "np.ones((2, 2)) @ y", "(2, 2) and (3,)"),
    "matmul of a scalar": (lambda y: np.matmul(y[0], y), "np.matmul(y[0]", "scalar"),
    "index": (lambda y: y[y[0]], "y[y[0]]", "index"),
    "mask index": (lambda y: y[y > 0], "y[y > 0]", "index"),
    "take": (lambda y: np.take(np.ones(3), y), "np.take(", "first argument"),
    "empty": (lambda y: y[3:], "y[3:]", "nothing"),
    "string": (lambda y: y + "a", '"a"', "constant"),
    "complex": (lambda y: y * 1j, "1j", "real numbers"),
    "no array": (lambda y: np.multiply(y, object()), "object()", "constant"),
    "ragged list": (lambda y: np.multiply(y, [y, y[:2]]), "[y, y[:2]]", "different shapes"),
    "bits": (lambda y: y & y, "y & y", "conditions only"),
    "astype int": (lambda y: y.astype(int), "astype(int)", "floating point"),
    "iterate a scalar": (lambda y: list(y[0]), "list(y[0])", "scalar"),
    "concatenate": (lambda y: np.concatenate([y, y[0]]), "np.concatenate", "zero-dimensional"),
    "norm": (lambda y: np.linalg.norm(y, 3), "np.linalg.norm(y, 3)", "ord=3"),
    "where without values": (lambda y: np.where(y > 0), "np.where(y > 0)", "positions"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name):
    fn, source, hint = REFUSALS[name]
    message = refused(fn, (3,))
    assert f"{__file__}:" in message
    assert source in message.splitlines()[-1]
    assert hint in message


def test_the_line_named_is_the_users():
    message = refused(branch, (3,))
    number = int(re.search(rf"{re.escape(__file__)}:(\d+)", message).group(1))
    assert number == branch.__code__.co_firstlineno + 1


def test_the_line_named_is_the_users_where_another_module_refuses():
    net = mlp(2, (3,))

    def wrong(t, y, th):
        return th.net(y, y, y, y)

    with pytest.raises(TraceError, match="not 4 arguments") as caught:
        field(state=2, theta={"net": net})(wrong)
    assert f"{__file__}:{wrong.__code__.co_firstlineno + 1}: return th.net(y, y, y, y)" in str(caught.value)


def test_programs_do_not_import_scipy():
    code = "import sys, pynode.programs.functions, pynode.programs.tracing; print([m for m in sys.modules if m == 'scipy'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_results():
    def short(t, y):
        return [y[0]]

    with pytest.raises(TraceError, match=r"short returned 1 numbers.*2 are declared") as caught:
        field(state=2)(short)
    assert f"{__file__}:{short.__code__.co_firstlineno}: def short(t, y):" in str(caught.value)

    def nothing(t, y):
        pass

    with pytest.raises(TraceError, match="nothing returned None"):
        field(state=2)(nothing)

    with pytest.raises(TraceError, match="not an array"):
        field(state=2)(lambda t, y: ["a", "b"])
    with pytest.raises(TraceError, match="not an array"):
        field(state=2)(lambda t, y: [])


def test_a_value_does_not_leave_its_trace():
    kept = []

    @field(state=2)
    def first(t, y):
        kept.append(y)
        return y

    with pytest.raises(TraceError, match="another field"):
        field(state=2)(lambda t, y: y + kept[0])


def test_errors_of_the_users_own_pass_unchanged():
    def broken(y):
        raise ValueError("my own")

    the_trace = new_trace([3])
    with pytest.raises(ValueError, match="my own"):
        trace(broken, [the_trace.slot(0)], the_trace)
    with pytest.raises(IndexError):
        trace(lambda y: y[3], [the_trace.slot(0)], the_trace)
    with pytest.raises(AttributeError, match="no 'foo'"):
        trace(lambda y: y.foo, [the_trace.slot(0)], the_trace)


def test_traced_values_look_like_arrays():
    the_trace = new_trace([6])
    y = the_trace.slot(0, (2, 3))
    assert (y.shape, y.ndim, y.size, len(y), y.dtype) == ((2, 3), 2, 6, 2, np.float64)
    assert repr(y) == "Traced(shape=(2, 3))"
    assert isinstance(y[0, 0], Traced)
    assert not hasattr(y, "nonsense")
    with pytest.raises(TypeError):
        len(y[0, 0])
    assert len({y, y[0]}) == 2


def test_functions_inside_functions_capture_values():
    """A function traced inside another one may use its values, through two levels."""

    @field(state=2, theta={"k": (), "net": mlp(2, (3,), 1)}, init={"k": 0.7})
    def f(t, y, th):
        scale = np.sin(t) + th.k * y[0]

        def inner(z):
            slope = grad(lambda w: (w * z * scale).sum() + th.net(w)[0])(z)
            return (slope**2).sum() * th.k

        return grad(inner)(y)

    @field(state=2, theta={"k": (), "net": mlp(2, (3,), 1)}, init={"k": 0.7})
    def by_hand(t, y, th):
        scale = np.sin(t) + th.k * y[0]
        hidden = th.net.parameters
        W, b, V = hidden.W0, hidden.b0, hidden.W1[0]

        def slope(z):
            return z * scale + (V * (1 - np.tanh(W @ z + b) ** 2)) @ W

        h = np.tanh(W @ y + b)
        hessian = W.T @ ((-2 * V * h * (1 - h**2))[:, None] * W)
        return 2 * th.k * (scale * slope(y) + hessian @ slope(y))

    theta = f.init(3)
    y = np.array([[0.3, -0.8], [1.2, 0.4]])
    np.testing.assert_allclose(f(0.4, y, theta), by_hand(0.4, y, theta), rtol=1e-12)


@pytest.mark.parametrize(
    "f",
    [lambda t, y: np.floor(t) * y, lambda t, y: (t % 24.0) * y, lambda t, y: (t // 24.0) * y, lambda t, y: np.round(t) * y],
)
def test_functions_that_jump_say_what_to_write_for_what_repeats(f):
    with pytest.raises(TraceError, match=r"pn\.Dose\(.*interval=.*pn\.Signal\("):
        field(state=1)(f)


def test_a_power_of_infinity_is_that_of_numpy():
    y = np.array([0.0, 0.5, 1.0, 2.0])
    for e in (np.inf, -np.inf):
        with np.errstate(divide="ignore"):
            assert (field(state=4)(lambda t, y, e=e: y ** np.full(4, e))(0.0, y) == y**e).all()


def test_a_matrix_times_weights_is_a_product_a_row():
    W = np.random.default_rng(0).standard_normal((5, 4))
    f = field(state=15, theta={"W": W}, out=12)(lambda t, y, th: (y.reshape(3, 5) @ th.W).reshape(-1))
    y = np.arange(15.0)
    assert [ins.op for ins in f.program.instructions].count("AFFINE_T") == 3
    np.testing.assert_allclose(f(0.0, y, f.init(0)), (y.reshape(3, 5) @ W).ravel(), rtol=1e-14)


def test_gradients_of_antisymmetric_weights_need_no_matrix():
    f = field(state=3, theta={"A": (3, 3)})(lambda t, y, th: np.tanh((th.A - th.A.T) @ y))
    assert "OUTER" not in [ins.op for ins in f.vjp_program.instructions]
    A = np.random.default_rng(1).standard_normal((3, 3))
    y = np.array([0.3, -0.7, 1.1])
    s = np.array([1.0, 0.5, -2.0])
    slope = s * (1 - np.tanh((A - A.T) @ y) ** 2)
    expected = np.outer(slope, y) - np.outer(y, slope)
    np.testing.assert_allclose(vjp(f)(0.0, y, A.ravel(), s).theta, expected.ravel(), rtol=1e-13)
