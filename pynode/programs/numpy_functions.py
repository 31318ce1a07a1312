"""The NumPy functions that can be traced, and what each becomes in a program: adding one is a row of a table here.

`UFUNCS`
    Elementwise functions, and `numpy.matmul`: ``(trace, *operands) -> Traced``. A row is an operation of programs
    (`_op`) or a formula on traced values (`_formula`), which may use every function that is traced.
`MOVES`, `JOINS`
    Functions that only move numbers. They need no formula: NumPy itself is asked, on an array of positions.
`FUNCTIONS`
    The others: ``(trace, *arguments as the user gave them) -> Traced``.

Formulas are typed with Any: to the stubs of NumPy a traced array is unknown.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pynode.programs.traced import FUNCTIONS, UFUNCS, Axis, Trace, Traced, TraceError, indices, trace_of

# ---- Elementwise functions: (trace, *operands of one shape) -> Traced


def _op(name: str, mask: bool = False) -> Callable[..., Traced]:
    """The ufunc that is one operation."""

    def call(t: Trace, *x: Traced) -> Traced:
        return t.array(t.builder.same(name, *(v.register for v in x)), x[0].shape, mask)

    return call


def _formula(f: Callable[..., Any], mask: bool = False) -> Callable[..., Traced]:
    """The ufunc given by a formula on traced values."""

    def call(t: Trace, *x: Traced) -> Traced:
        y = f(*x)
        return t.array(y.register, y.shape, mask)

    return call


def _truth(x: Any) -> Any:
    """1 where x is not zero."""
    return x if x.mask else 1.0 - _op("EQ")(x.trace, x, x.trace.const(0.0).broadcast(x.shape))


def _power(t: Trace, x: Traced, e: Traced) -> Traced:
    """x ** e; constant exponents that are integers or halves by multiplication and square roots."""
    value = t.builder.const_value(e.register)
    if value is not None and (value == value[0]).all() and abs(value[0]) <= 32 and 2 * value[0] == round(2 * value[0]):
        result: Traced = _half_integer_power(x, float(value[0]))
        return result
    return _op("POW")(t, x, e)


def _half_integer_power(x: Any, e: float) -> Any:
    if e < 0:
        return np.reciprocal(_half_integer_power(x, -e))
    n = int(e)
    result = None if e == n else np.sqrt(x)
    while n:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        x = np.square(x) if n else x
    return np.ones_like(x) if result is None else result


def _arcsinh(x: Any) -> Any:
    size = np.where(x < 0, -x, x)
    small = size < 1e8  # else log(2 x), the same to rounding, where squares may overflow
    z = np.where(small, size, 0.0)
    value = np.where(small, np.log1p(z + z * z / (1.0 + np.sqrt(1.0 + z * z))), np.log(size) + math.log(2.0))
    return np.where(x < 0, -value, value)


def _arctan2(y: Any, x: Any) -> Any:
    steep = np.abs(y) > np.abs(x)
    over = np.where(steep, x, y)
    under = np.where(steep, y, x)
    angle = np.arctan(over / np.where(under == 0, 1.0, under))
    half_turn = np.where(x < 0, np.where(y < 0, -np.pi, np.pi), 0.0)
    return np.where(steep, np.where(y < 0, -np.pi / 2, np.pi / 2) - angle, angle + half_turn)


def _cbrt(x: Any) -> Any:
    """The power, and a step of Newton's method, since the number next to 1/3 is not 1/3. At 0 and infinity the power."""
    size = np.where(x < 0, -x, x)
    power = size ** (1.0 / 3.0)
    value = np.where(np.equal(size, 0.0) | np.equal(size, np.inf), power, power - (power - size / (power * power)) / 3.0)
    return np.where(x < 0, -value, value)


def _hypot(x: Any, y: Any) -> Any:
    """By the ratio of the smaller to the larger, whose square does not overflow. At 0 the derivative is 0.

    Where both are infinite one is taken for 1, for the ratio would be NaN.
    """
    steep = np.abs(y) > np.abs(x)
    large = np.where(steep, y, x)
    small = np.where(steep, x, y)
    ratio = np.where(np.equal(np.abs(small), np.inf), 1.0, small) / np.where(np.equal(large, 0.0), 1.0, large)
    return np.abs(large) * np.sqrt(1.0 + ratio * ratio)


def _logaddexp(x: Any, y: Any) -> Any:
    """By branches that both are smooth where x = y."""
    above = x > y
    large = np.where(above, x, y)
    return large + np.log1p(np.exp(np.where(above, y, x) - large))


def _first_number(choose: np.ufunc) -> Callable[[Any, Any], Any]:
    """fmax, fmin: the other operand where one is NaN."""
    return lambda a, b: np.where(np.equal(a, a), np.where(np.equal(b, b), choose(a, b), a), b)


# ---- Products

FEW = 4
"""Rows and columns of a matrix on the right from which on each row of the other one is multiplied by it as a whole."""


def _matmul(t: Trace, x: Traced, y: Traced) -> Traced:
    if not x.shape or not y.shape:
        raise TraceError("matmul of a scalar; use *")
    if min(x.ndim, y.ndim) < 2 < max(x.ndim, y.ndim) or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise TraceError(f"matmul of shapes {x.shape} and {y.shape}")
    if max(x.ndim, y.ndim) > 2:
        return _matmul_of_each(t, x, y)
    b = t.builder
    if x.ndim == 1 and y.ndim == 1:
        return _sum(t, x * y)
    if y.ndim == 1:
        return t.array(b.matvec(x.register, y.register), x.shape[:1])
    if x.ndim == 1:
        return t.array(b.matvec_t(y.register, x.register), y.shape[1:])
    if not b.varying[y.register] and min(y.shape) >= FEW:  # rows lie together, columns do not
        return t.join(np.stack, [_matmul(t, x[i], y) for i in range(x.shape[0])], axis=0)
    return t.join(np.stack, [_matmul(t, x, y[:, j]) for j in range(y.shape[1])], axis=1)


def _matmul_of_each(t: Trace, x: Traced, y: Traced) -> Traced:
    """Stacks of matrices."""
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = x.broadcast((*batch, *x.shape[-2:])), y.broadcast((*batch, *y.shape[-2:]))
    axes = "abcdefgh"[: len(batch)]
    value: Traced = FUNCTIONS[np.einsum](t, f"{axes}ij,{axes}jk->{axes}ik", x, y)
    return value


def _dot(t: Trace, x: Any, y: Any) -> Traced:
    x = t.lift(x)
    y = t.lift(y)
    if max(x.ndim, y.ndim) > 2:
        raise TraceError(f"np.dot of shapes {x.shape} and {y.shape}: np.matmul and np.tensordot can be traced")
    value: Traced = _matmul(t, x, y) if x.shape and y.shape else x * y
    return value


def _inner(t: Trace, x: Any, y: Any) -> Traced:
    y = t.lift(y)
    return _dot(t, x, y.T if y.ndim == 2 else y)


def _outer(t: Trace, x: Any, y: Any) -> Traced:
    x = t.lift(x).ravel()
    y = t.lift(y).ravel()
    return t.array(t.builder.outer(x.register, y.register), (x.size, y.size))


# ---- Reductions


def _rows(x: Traced, axis: Axis) -> tuple[Traced, tuple[int, ...], tuple[int, ...]]:
    """x with the reduced axes last and flat: (kept, reduced), and the shapes of the result."""
    axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = tuple(x.shape[i] for i in kept)
    full = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    rows = x.transpose([*kept, *axes]).reshape(math.prod(shape), -1)
    return rows, shape, full


def _sum(t: Trace, x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Traced:
    rows, shape, full = _rows(t.lift(x), axis)
    b = t.builder
    if rows.shape[0] == 1:
        register = b.sum(rows.register)
    else:
        register = b.matvec(rows.register, b.full(rows.shape[1], 1.0))
    return t.array(register, full if keepdims else shape)


def _mean(t: Trace, x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Traced:
    total = _sum(t, x, axis, keepdims=keepdims)
    mean: Traced = total * (total.size / t.lift(x).size)
    return mean


def _fold(combine: np.ufunc) -> Callable[..., Traced]:
    """A reduction by halves with a function of two arrays."""

    def call(t: Trace, x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Traced:
        rows, shape, full = _rows(t.lift(x), axis)
        while rows.shape[1] > 1:
            n = rows.shape[1] // 2
            pairs = combine(rows[:, :n], rows[:, n : 2 * n])
            rows = t.join(np.concatenate, [pairs, rows[:, 2 * n :]], axis=1) if rows.shape[1] % 2 else pairs
        return rows.reshape(full if keepdims else shape)

    return call


def _norm(t: Trace, x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    x = t.lift(x)
    if ord in (None, 2) or (ord == "fro" and x.ndim == 2):
        if ord == 2 and axis is None and x.ndim == 2:
            raise TraceError("np.linalg.norm(matrix, 2) cannot be traced")
        return np.sqrt(_sum(t, x * x, axis, keepdims=keepdims))
    if (ord in (1, np.inf)) and (x.ndim == 1 or axis is not None):
        reduce = _sum if ord == 1 else _fold(np.maximum)
        return reduce(t, np.abs(x), axis, keepdims=keepdims)
    raise TraceError(f"np.linalg.norm with ord={ord!r} cannot be traced")


# ---- The other functions: (trace, *arguments as the user gave them) -> Traced


def _where(t: Trace, condition: Any, *branches: Any) -> Traced:
    if len(branches) != 2:
        raise TraceError("np.where(condition) asks for positions; np.where(condition, a, b) can be traced")
    values = [t.lift(v) for v in (condition, *branches)]
    shape = np.broadcast_shapes(*(v.shape for v in values))
    return _op("WHERE")(t, *(v.broadcast(shape) for v in values))


def _clip(t: Trace, x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None, **_: Any) -> Any:
    low = a_min if min is None else min
    high = a_max if max is None else max
    x = t.lift(x)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _like(value: float) -> Callable[..., Traced]:
    return lambda t, x, dtype=None, **_: t.const(np.full(np.shape(x), value))


def _move(func: Callable[..., Any], t: Trace, x: Any, *args: Any, **kwargs: Any) -> Traced | list[Traced]:
    """reshape, roll, ...: the elements moved as NumPy moves their indices."""
    if trace_of(*args, *kwargs.values()) is not None:
        raise TraceError(f"np.{func.__name__}: only the first argument can be a traced value")
    x = t.lift(x)
    index = func(indices(x.shape), *args, **kwargs)
    return [x.moved(part) for part in index] if isinstance(index, (list, tuple)) else x.moved(index)


def _join(func: Callable[..., Any], t: Trace, parts: Iterable[Any], *args: Any, **kwargs: Any) -> Traced:
    return t.join(func, parts, *args, **kwargs)


def _diff(x: Any, n: int, axis: int) -> Any:
    for _ in range(n):
        x = np.swapaxes(x, axis, -1)
        x = np.swapaxes(x[..., 1:] - x[..., :-1], axis, -1)
    return x


def _cumsum(t: Trace, x: Any, axis: Any = None) -> Traced:
    x = t.lift(x).ravel() if axis is None else FUNCTIONS[np.moveaxis](t, x, axis, -1)
    rows: Traced = x @ t.const(np.triu(np.ones((x.shape[-1], x.shape[-1]))))
    return rows if axis is None else FUNCTIONS[np.moveaxis](t, rows, -1, axis)


def _var(t: Trace, x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Any:
    x = t.lift(x)
    off = x - _mean(t, x, axis, keepdims=True)
    total = _sum(t, off * off, axis, keepdims=keepdims)
    return total * (1.0 / (x.size / total.size - ddof))


def _kron(t: Trace, x: Any, y: Any) -> Any:
    x, y = t.lift(x), t.lift(y)
    if x.ndim > 2 or x.ndim != y.ndim:
        raise TraceError(f"np.kron of shapes {x.shape} and {y.shape}: two vectors or two matrices can be traced")
    products = FUNCTIONS[np.einsum](t, "i,k->ik" if x.ndim == 1 else "ij,kl->ikjl", x, y)
    return products.reshape([m * n for m, n in zip(x.shape, y.shape, strict=True)])


def _cross(t: Trace, x: Any, y: Any) -> Any:
    x, y = t.lift(x), t.lift(y)
    if x.shape[-1:] != (3,) or y.shape[-1:] != (3,):
        raise TraceError(
            f"np.cross of shapes {x.shape} and {y.shape}: vectors of three numbers, on the last axis, can be traced"
        )
    turn, back = [1, 2, 0], [2, 0, 1]
    return x[..., turn] * y[..., back] - x[..., back] * y[..., turn]


def _interp(t: Trace, x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Lines between the points, as a sum of ramps that begin at them."""
    if trace_of(xp) is not None or period is not None:
        raise TraceError("np.interp: the points xp must be numbers, and period= cannot be traced")
    at = np.asarray(xp, dtype=np.float64)
    values = t.lift(fp)
    if at.ndim != 1 or values.shape != at.shape or (np.diff(at) <= 0).any():
        raise TraceError(f"np.interp: xp (shape {at.shape}) must rise, and fp (shape {values.shape}) have a value for each")
    x = t.lift(x)
    slopes = (values[1:] - values[:-1]) / np.diff(at)
    bends = t.join(np.concatenate, [slopes, [0.0]]) - t.join(np.concatenate, [[0.0], slopes])
    found = values[0] + np.maximum(x[..., None] - at, 0.0) @ bends
    found = found if left is None else np.where(x < at[0], left, found)
    return found if right is None else np.where(x > at[-1], right, found)


# ---- The tables

UFUNCS.update(
    {
        **{
            getattr(np, name): _op(op)
            for name, op in {
                "negative": "NEG",
                "absolute": "ABS",
                "fabs": "ABS",
                "sign": "SIGN",
                "square": "SQUARE",
                "reciprocal": "RECIP",
                "sqrt": "SQRT",
                "exp": "EXP",
                "expm1": "EXPM1",
                "log": "LOG",
                "log1p": "LOG1P",
                "sin": "SIN",
                "cos": "COS",
                "tanh": "TANH",
                "arctan": "ATAN",
                "add": "ADD",
                "subtract": "SUB",
                "multiply": "MUL",
                "divide": "DIV",
                "maximum": "MAX",
                "minimum": "MIN",
            }.items()
        },
        np.matmul: _matmul,
        np.less: _op("LT", True),
        np.less_equal: _op("LE", True),
        np.equal: _op("EQ", True),
        np.greater: _formula(lambda a, b: np.less(b, a), True),
        np.greater_equal: _formula(lambda a, b: np.less_equal(b, a), True),
        np.not_equal: _formula(lambda a, b: 1.0 - np.equal(a, b), True),
        np.logical_and: _formula(lambda a, b: _truth(a) * _truth(b), True),
        np.logical_or: _formula(lambda a, b: np.maximum(_truth(a), _truth(b)), True),
        np.logical_not: _formula(lambda a: 1.0 - _truth(a), True),
        np.positive: _formula(lambda x: x),
        np.power: _power,
        np.float_power: _power,
        np.exp2: _formula(lambda x: 2.0**x),
        np.log2: _formula(lambda x: np.log(x) * (1.0 / math.log(2.0))),
        np.log10: _formula(lambda x: np.log(x) * (1.0 / math.log(10.0))),
        np.cbrt: _formula(_cbrt),
        np.tan: _formula(lambda x: np.sin(x) / np.cos(x)),
        np.sinh: _formula(lambda x: 0.5 * (np.expm1(x) - np.expm1(-x))),
        np.cosh: _formula(lambda x: 0.5 * (np.exp(x) + np.exp(-x))),
        np.arcsin: _formula(lambda x: 2.0 * np.arctan(x / (1.0 + np.sqrt((1.0 - x) * (1.0 + x))))),
        np.arccos: _formula(lambda x: 2.0 * np.arctan(np.sqrt((1.0 - x) / (1.0 + x)))),
        np.arcsinh: _formula(_arcsinh),
        np.arctanh: _formula(lambda x: 0.5 * (np.log1p(x) - np.log1p(-x))),
        np.arctan2: _formula(_arctan2),
        np.hypot: _formula(_hypot),
        np.logaddexp: _formula(_logaddexp),
        np.fmax: _formula(_first_number(np.maximum)),
        np.fmin: _formula(_first_number(np.minimum)),
        np.heaviside: _formula(lambda x, h: np.where(np.equal(x, 0.0), h, 1.0 * (x > 0))),
        np.deg2rad: _formula(lambda x: x * (math.pi / 180.0)),
        np.rad2deg: _formula(lambda x: x * (180.0 / math.pi)),
        np.conjugate: _formula(lambda x: x),
    }
)


MOVES: tuple[Callable[..., Any], ...] = (
    np.reshape,
    np.ravel,
    np.transpose,
    np.squeeze,
    np.expand_dims,
    np.broadcast_to,
    np.swapaxes,
    np.moveaxis,
    np.roll,
    np.flip,
    np.fliplr,
    np.flipud,
    np.rot90,
    np.repeat,
    np.tile,
    np.take,
    np.diagonal,
    np.split,
    np.array_split,
    np.atleast_1d,
    np.atleast_2d,
    np.copy,
)
"""Functions of one array that only move its numbers; they are asked of NumPy, on an array of positions."""


JOINS: tuple[Callable[..., Any], ...] = (np.concatenate, np.stack, np.hstack, np.vstack, np.column_stack)
"""Functions that put arrays together."""


FUNCTIONS.update(
    {
        np.dot: _dot,
        np.inner: _inner,
        np.outer: _outer,
        np.vdot: lambda t, x, y: _dot(t, t.lift(x).ravel(), t.lift(y).ravel()),
        np.sum: _sum,
        np.mean: _mean,
        np.prod: _fold(np.multiply),
        np.max: _fold(np.maximum),
        np.min: _fold(np.minimum),
        np.linalg.norm: _norm,
        np.where: _where,
        np.clip: _clip,
        np.zeros_like: _like(0.0),
        np.ones_like: _like(1.0),
        np.full_like: lambda t, x, value, **_: t.lift(value).broadcast(np.shape(x)),
        np.cumsum: _cumsum,
        np.var: _var,
        np.std: lambda t, x, *args, **kwargs: np.sqrt(_var(t, x, *args, **kwargs)),
        np.kron: _kron,
        np.cross: _cross,
        np.interp: _interp,
        np.diff: lambda t, x, n=1, axis=-1: _diff(t.lift(x), n, axis),
        np.trace: lambda t, x: _sum(t, np.diagonal(t.lift(x))),
        np.shape: lambda t, x: t.lift(x).shape,
        np.ndim: lambda t, x: t.lift(x).ndim,
        np.size: lambda t, x: t.lift(x).size,
    }
)
FUNCTIONS.update({func: functools.partial(_move, func) for func in MOVES})
FUNCTIONS.update({func: functools.partial(_join, func) for func in JOINS})
