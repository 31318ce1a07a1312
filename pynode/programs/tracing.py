"""Tracing: ordinary NumPy code, called with `Traced` arrays, writes a program.

A `Traced` is a register with a shape (row by row). What NumPy may do with it is listed in two tables:
`UFUNCS` and `FUNCTIONS`. Functions that only move numbers (`MOVES`, `JOINS`) are asked of NumPy itself, on
an array of indices.
"""

import functools
import linecache
import math
import os
import sys
from pathlib import Path

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from pynode.programs.builder import Builder

_NOT_THE_USER = (
    str(Path(__file__).resolve().parent) + os.sep,
    str(Path(np.__file__).resolve().parent) + os.sep,
    "<__array_function__",
)


class TraceError(TypeError):
    """Code that cannot be traced into a program. The message names the line and what to write instead."""

    def __init__(self, message, where=None):
        super().__init__(f"{message}\n  {where or _user_line()}")


def _user_line():
    """The innermost line of code that is neither ours nor NumPy's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_USER):
        frame = frame.f_back
    return _line(frame.f_code.co_filename, frame.f_lineno)


def _line(filename, number):
    source = linecache.getline(filename, number).strip()
    return f"at {filename}:{number}" + (f": {source}" if source else "")


def _definition(fn):
    code = getattr(fn, "__code__", None)
    return _line(code.co_filename, code.co_firstlineno) if code else f"in {fn!r}"


class Trace:
    """A program being traced.

    A trace inside another one may use the values of the outer one: they are captured, as parts of the slot
    `capture_slot` (`close` gives it its size), and `captured` lists them.
    """

    def __init__(self, builder, parent=None, capture_slot=None):
        self.builder, self.parent, self.capture_slot = builder, parent, capture_slot
        self.depth = 0 if parent is None else parent.depth + 1
        self.captured, self._at, self._end = [], {}, 0
        if capture_slot is not None:
            builder.sizes[capture_slot] = sys.maxsize  # not known yet: no register is the whole of it

    def close(self):
        """Nothing more will be captured."""
        self.builder.sizes[self.capture_slot] = self._end

    def array(self, register, shape, mask=False):
        return Traced(self, register, shape, mask)

    def slot(self, slot, shape=None):
        return self.array(slot, (self.builder.sizes[slot],) if shape is None else shape)

    def theta(self):
        """The flat parameter vector, None where it is empty."""
        register = self.builder.theta()
        return None if register is None else self.array(register, (self.builder.sizes[register],))

    def const(self, values):
        values = np.asarray(values)
        if values.dtype.kind not in "fiub":
            raise TraceError(f"a constant of type {values.dtype} cannot be part of a field; real numbers only")
        if values.size == 0:
            raise TraceError("an empty array cannot be part of a field")
        return self.array(self.builder.const(values), values.shape, values.dtype.kind == "b")

    def lift(self, x):
        """Anything as a traced array of this trace: traced values (of outer traces too), numbers, arrays,
        lists."""
        if isinstance(x, Traced):
            return x if x.trace is self else self._capture(x)
        if trace_of(x) is not None:
            return self._stacked(x)
        try:
            return self.const(x)
        except (ValueError, TypeError) as error:
            if isinstance(error, TraceError):
                raise
            raise TraceError(f"{type(x).__name__} is not an array of numbers") from error

    def _stacked(self, x):
        """Nested lists, or an array of objects, with traced values among their elements."""
        if isinstance(x, np.ndarray) and x.ndim == 0:
            return self.lift(x.item())
        try:
            return _join(np.stack, self, x)
        except ValueError as error:
            raise TraceError(f"a list of arrays of different shapes: {error}") from error

    def _capture(self, x):
        if self.parent is None or self.capture_slot is None:
            raise TraceError("this value was traced in another field: values cannot be kept from one trace to the next")
        x = self.parent.lift(x)
        b, n = self.builder, x.size
        if x.register not in self._at:
            self._at[x.register] = self._end
            self.captured.append(x)
            self._end += n
        return self.array(b.slice(self.capture_slot, self._at[x.register], n), x.shape, x.mask)


def _leaves(x):
    """The elements of nested lists, tuples and object arrays."""
    if isinstance(x, (list, tuple)) or (isinstance(x, np.ndarray) and x.dtype == object and x.ndim):
        for v in x:
            yield from _leaves(v)
    else:
        yield x.item() if isinstance(x, np.ndarray) and x.dtype == object else x


def trace_of(*args):
    """The innermost trace among traced arguments (nested in lists too), None if there is none."""
    traces = [v.trace for v in _leaves(list(args)) if isinstance(v, Traced)]
    return max(traces, key=lambda t: t.depth) if traces else None


def trace(fn, args, the_trace, size=None):
    """Call `fn` with traced arguments.

    Parameters
    ----------
    fn : callable
    args : list
        Its arguments: traced arrays, or containers of them.
    the_trace : Trace
    size : int, optional
        How many numbers it must return.

    Returns
    -------
    Traced
        The value returned; lists and tuples stacked.

    Raises
    ------
    TraceError
        Where the code cannot be traced, or the size is not the one declared.
    """
    try:
        value = fn(*args)
    except (ValueError, TypeError) as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, TraceError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None  # NumPy hides our message behind its own
    name = getattr(fn, "__name__", "the function")
    if value is None:
        raise TraceError(f"{name} returned None; return the derivative, e.g. a list of its components", _definition(fn))
    try:
        result = _flattened(the_trace, value)
    except TraceError as error:
        raise TraceError(
            f"{name} returned a value that is not an array: {str(error).splitlines()[0]}", _definition(fn)
        ) from None
    if size is not None and result.size != size:
        raise TraceError(
            f"{name} returned {result.size} numbers (shape {result.shape}), but {size} are declared",
            _definition(fn),
        )
    return result


def _flattened(the_trace, value):
    """A returned value: arrays keep their shape, lists are stacked; lists of different lengths end to end."""
    if isinstance(value, (list, tuple)):
        parts = [_flattened(the_trace, v) for v in value]
        if not parts:
            raise TraceError("an empty list")
        if len({part.shape for part in parts}) == 1:
            return FUNCTIONS[np.stack](the_trace, parts)
        return FUNCTIONS[np.concatenate](the_trace, [part.ravel() for part in parts])
    return the_trace.lift(value)


class Traced(NDArrayOperatorsMixin):
    """An array whose numbers are not known yet; behaves like a NumPy array of float64.

    Attributes
    ----------
    trace, register : where its value is
    shape : tuple of int
    mask : bool
        Made by a comparison: holds zeros and ones.
    """

    __array_priority__ = 1000.0
    __hash__ = object.__hash__
    dtype = np.dtype(np.float64)

    def __init__(self, trace, register, shape, mask=False):
        self.trace, self.register, self.shape, self.mask = trace, register, tuple(int(n) for n in shape), mask

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    T = property(lambda self: self.transpose())
    flat = property(lambda self: iter(self.ravel()))
    real = property(lambda self: self)

    def __repr__(self):
        return f"Traced(shape={self.shape})"

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of a traced scalar")
        return self.shape[0]

    def __iter__(self):
        if not self.shape:
            raise TraceError("iteration over a traced scalar")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key):
        if trace_of(*key if isinstance(key, tuple) else (key,)) is not None:
            raise TraceError(
                "an index cannot be a traced value: the program is the same for every sample and time; "
                "use np.where, or a product with a mask"
            )
        return self._moved(_indices(self.shape)[key])

    def _moved(self, index):
        """The elements at these positions, in the shape of `index`."""
        index = np.asarray(index)
        if index.size == 0:
            raise TraceError(f"this leaves nothing of an array of shape {self.shape}")
        return self.trace.array(self.trace.builder.gather(self.register, index), index.shape, self.mask)

    def _broadcast(self, shape):
        if self.shape == shape:
            return self
        return self._moved(np.broadcast_to(_indices(self.shape), shape))

    # What NumPy calls

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if kwargs.get("out") is not None:
            raise TraceError(
                "a traced value cannot be written into an array (`+=` on a NumPy array, or out=); "
                "make a new value: dy = dy + ..."
            )
        if method != "__call__" or kwargs:
            raise TraceError(
                f"np.{ufunc.__name__}{'' if method == '__call__' else '.' + method} with options "
                f"{list(kwargs)} cannot be traced"
            )
        if ufunc not in UFUNCS:
            raise TraceError(f"np.{ufunc.__name__} cannot be traced. {_supported(UFUNCS)}")
        t = trace_of(*inputs)
        inputs = tuple(t.lift(x) for x in inputs)
        if ufunc is np.matmul:
            return UFUNCS[ufunc](t, *inputs)
        try:
            shape = np.broadcast_shapes(*(x.shape for x in inputs))
        except ValueError:
            raise TraceError(
                f"np.{ufunc.__name__}: the shapes {' and '.join(str(x.shape) for x in inputs)} do not go together"
            ) from None
        return UFUNCS[ufunc](t, *(x._broadcast(shape) for x in inputs))

    def __array_function__(self, func, types, args, kwargs):
        if func not in FUNCTIONS:
            raise TraceError(f"np.{func.__name__} cannot be traced. {_supported(FUNCTIONS)}")
        t = trace_of(*args, *kwargs.values())
        try:
            return FUNCTIONS[func](t, *args, **kwargs)
        except TraceError:
            raise
        except (TypeError, ValueError) as error:
            raise TraceError(f"np.{func.__name__}: {error}") from error

    # Methods of arrays

    def sum(self, axis=None, keepdims=False):
        return FUNCTIONS[np.sum](self.trace, self, axis, keepdims=keepdims)

    def mean(self, axis=None, keepdims=False):
        return FUNCTIONS[np.mean](self.trace, self, axis, keepdims=keepdims)

    def max(self, axis=None, keepdims=False):
        return FUNCTIONS[np.max](self.trace, self, axis, keepdims=keepdims)

    def min(self, axis=None, keepdims=False):
        return FUNCTIONS[np.min](self.trace, self, axis, keepdims=keepdims)

    def prod(self, axis=None, keepdims=False):
        return FUNCTIONS[np.prod](self.trace, self, axis, keepdims=keepdims)

    def dot(self, other):
        return np.dot(self, other)

    def clip(self, low=None, high=None):
        return np.clip(self, low, high)

    def reshape(self, *shape):
        return self._moved(_indices(self.shape).reshape(*shape))

    def ravel(self):
        return self.reshape(-1)

    flatten = ravel

    def squeeze(self, axis=None):
        return self._moved(_indices(self.shape).squeeze(axis))

    def transpose(self, *axes):
        return self._moved(_indices(self.shape).transpose(*axes))

    def copy(self):
        return self

    def astype(self, dtype, **_):
        if np.dtype(dtype).kind != "f":
            raise TraceError(f"a traced value cannot become {np.dtype(dtype)}: fields compute in floating point")
        return self

    # What a traced value cannot do

    def __bool__(self):
        raise TraceError(
            "the truth of a traced value is not known while tracing (if, and, or, not, while, min(), max()); "
            "use np.where(condition, a, b), np.logical_and, np.maximum"
        )

    def _no_number(self, *_):
        raise TraceError(
            "a traced value has no number yet (float(), int(), math.sin() or filling an array made by "
            "np.zeros ask for one); use np.sin in place of math.sin, and return a list or "
            "np.stack([...]) in place of filling an array"
        )

    __float__ = __int__ = __index__ = __complex__ = __round__ = item = tolist = _no_number

    def __setitem__(self, key, value):
        raise TraceError(
            "a traced value cannot be changed in place; make a new one, e.g. np.concatenate or "
            "np.where(mask, new, old), or return a list of components"
        )

    # y += 1 makes a new value, as it does for a Python number
    __iadd__, __isub__ = NDArrayOperatorsMixin.__add__, NDArrayOperatorsMixin.__sub__
    __imul__, __itruediv__ = NDArrayOperatorsMixin.__mul__, NDArrayOperatorsMixin.__truediv__
    __ipow__, __imatmul__ = NDArrayOperatorsMixin.__pow__, NDArrayOperatorsMixin.__matmul__

    def __and__(self, other):
        return self._logical(np.logical_and, other)

    __rand__ = __and__

    def __or__(self, other):
        return self._logical(np.logical_or, other)

    __ror__ = __or__

    def __invert__(self):
        return self._logical(np.logical_not)

    def _logical(self, ufunc, *other):
        if not self.mask:
            raise TraceError("&, | and ~ are for conditions only, such as (x > 0) & (x < 1)")
        return ufunc(self, *other)

    def __getattr__(self, name):
        if name in _METHODS:  # NumPy calls x.sin() on the elements of an array of objects
            return functools.partial(getattr(np, name), self)
        raise AttributeError(f"a traced array has no {name!r}")


def _indices(shape):
    return np.arange(math.prod(shape)).reshape(shape)


def _supported(functions):
    return "Supported: " + ", ".join(sorted({f.__name__ for f in functions}))


# ---- Elementwise functions: (trace, *operands of one shape) -> Traced


def _op(name, mask=False):
    """The ufunc that is one operation."""

    def call(t, *x):
        return t.array(t.builder.same(name, *(v.register for v in x)), x[0].shape, mask)

    return call


def _formula(f, mask=False):
    """The ufunc given by a formula on traced values."""

    def call(t, *x):
        y = f(*x)
        return t.array(y.register, y.shape, mask)

    return call


def _truth(x):
    """1 where x is not zero."""
    return x if x.mask else 1.0 - _op("EQ")(x.trace, x, x.trace.const(0.0)._broadcast(x.shape))


def power(t, x, e):
    """x ** e; constant exponents that are integers or halves by multiplication and square roots."""
    value = t.builder.const_value(e.register)
    if value is not None and (value == value[0]).all() and 2 * value[0] == round(2 * value[0]) and abs(value[0]) <= 32:
        return _half_integer_power(x, float(value[0]))
    return _op("POW")(t, x, e)


def _half_integer_power(x, e):
    if e < 0:
        return np.reciprocal(_half_integer_power(x, -e))
    n, root = int(e), e != int(e)
    result = np.sqrt(x) if root else None
    while n:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        x = np.square(x) if n else x
    return np.ones_like(x) if result is None else result


def _arcsinh(x):
    def positive(x):
        return np.log1p(x + x * x / (1.0 + np.sqrt(1.0 + x * x)))

    return np.where(x < 0, -positive(np.where(x < 0, -x, 0.0)), positive(np.where(x < 0, 0.0, x)))


def _arctan2(y, x):
    steep = np.abs(y) > np.abs(x)
    over, under = np.where(steep, x, y), np.where(steep, y, x)
    angle = np.arctan(over / np.where(under == 0, 1.0, under))
    half_turn = np.where(x < 0, np.where(y < 0, -np.pi, np.pi), 0.0)
    return np.where(steep, np.where(y < 0, -np.pi / 2, np.pi / 2) - angle, angle + half_turn)


def _cbrt(x):
    return np.sign(x) * np.abs(x) ** (1.0 / 3.0)


def _first_number(choose):
    """fmax, fmin: the other operand where one is NaN."""
    return lambda a, b: np.where(np.equal(a, a), np.where(np.equal(b, b), choose(a, b), a), b)


UFUNCS = {
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
    np.power: power,
    np.float_power: power,
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
    np.hypot: _formula(lambda x, y: np.sqrt(x * x + y * y)),
    np.logaddexp: _formula(lambda x, y: np.maximum(x, y) + np.log1p(np.exp(-np.abs(x - y)))),
    np.fmax: _formula(_first_number(np.maximum)),
    np.fmin: _formula(_first_number(np.minimum)),
    np.heaviside: _formula(lambda x, h: np.where(np.equal(x, 0.0), h, 1.0 * (x > 0))),
    np.deg2rad: _formula(lambda x: x * (math.pi / 180.0)),
    np.rad2deg: _formula(lambda x: x * (180.0 / math.pi)),
    np.conjugate: _formula(lambda x: x),
}


_METHODS = frozenset(ufunc.__name__ for ufunc in UFUNCS) | {"conjugate"}


# ---- Products


def _matmul(t, x, y):
    if not x.shape or not y.shape:
        raise TraceError("matmul of a scalar; use *")
    if x.ndim > 2 or y.ndim > 2 or x.shape[-1] != y.shape[0]:
        raise TraceError(f"matmul of shapes {x.shape} and {y.shape}")
    b = t.builder
    if x.ndim == 1 and y.ndim == 1:
        return (x * y).sum()
    if y.ndim == 1:
        return t.array(b.matvec(x.register, y.register), x.shape[:1])
    if x.ndim == 1:
        return t.array(b.matvec_t(y.register, x.register), y.shape[1:])
    return np.stack([_matmul(t, x, y[:, j]) for j in range(y.shape[1])], axis=1)


def _dot(t, x, y):
    x, y = t.lift(x), t.lift(y)
    return _matmul(t, x, y) if x.shape and y.shape else x * y


def _inner(t, x, y):
    x, y = t.lift(x), t.lift(y)
    return _dot(t, x, y.T if y.ndim == 2 else y)


def _outer(t, x, y):
    x, y = t.lift(x).ravel(), t.lift(y).ravel()
    return t.array(t.builder.outer(x.register, y.register), (x.size, y.size))


UFUNCS[np.matmul] = _matmul


# ---- Reductions


def _rows(x, axis):
    """x with the reduced axes last and flat: (kept, reduced), and the shapes of the result."""
    axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = tuple(x.shape[i] for i in kept)
    full = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    rows = x.transpose([*kept, *axes]).reshape(math.prod(shape), -1)
    return rows, shape, full


def _sum(t, x, axis=None, dtype=None, out=None, keepdims=False):
    rows, shape, full = _rows(t.lift(x), axis)
    b = t.builder
    if rows.shape[0] == 1:
        register = b.sum(rows.register)
    else:
        register = b.matvec(rows.register, b.full(rows.shape[1], 1.0))
    return t.array(register, full if keepdims else shape)


def _mean(t, x, axis=None, dtype=None, out=None, keepdims=False):
    total = _sum(t, x, axis, keepdims=keepdims)
    return total * (total.size / t.lift(x).size)


def _fold(combine):
    """A reduction by halves with a function of two arrays."""

    def call(t, x, axis=None, dtype=None, out=None, keepdims=False):
        rows, shape, full = _rows(t.lift(x), axis)
        while rows.shape[1] > 1:
            n = rows.shape[1] // 2
            pairs = combine(rows[:, :n], rows[:, n : 2 * n])
            rows = np.concatenate([pairs, rows[:, 2 * n :]], axis=1) if rows.shape[1] % 2 else pairs
        return rows.reshape(full if keepdims else shape)

    return call


def _norm(t, x, ord=None, axis=None, keepdims=False):
    x = t.lift(x)
    if ord in (None, 2) or (ord == "fro" and x.ndim == 2):
        if ord == 2 and axis is None and x.ndim == 2:
            raise TraceError("np.linalg.norm(matrix, 2) cannot be traced")
        return np.sqrt(_sum(t, x * x, axis, keepdims=keepdims))
    if (ord in (1, np.inf)) and (x.ndim == 1 or axis is not None):
        reduce = _sum if ord == 1 else FUNCTIONS[np.max]
        return reduce(t, np.abs(x), axis, keepdims=keepdims)
    raise TraceError(f"np.linalg.norm with ord={ord!r} cannot be traced")


# ---- The other functions: (trace, *arguments as the user gave them) -> Traced


def _where(t, condition, *branches):
    if len(branches) != 2:
        raise TraceError("np.where(condition) asks for positions; np.where(condition, a, b) can be traced")
    values = [t.lift(v) for v in (condition, *branches)]
    shape = np.broadcast_shapes(*(v.shape for v in values))
    return _op("WHERE")(t, *(v._broadcast(shape) for v in values))


def _clip(t, x, a_min=None, a_max=None, *, min=None, max=None, **_):
    low, high = a_min if min is None else min, a_max if max is None else max
    x = t.lift(x)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _like(value):
    return lambda t, x, dtype=None, **_: t.const(np.full(np.shape(x), value))


def _move(func, t, x, *args, **kwargs):
    """reshape, roll, ...: the elements moved as NumPy moves their indices."""
    if trace_of(*args, *kwargs.values()) is not None:
        raise TraceError(f"np.{func.__name__}: only the first argument can be a traced value")
    x = t.lift(x)
    index = func(_indices(x.shape), *args, **kwargs)
    return [x._moved(part) for part in index] if isinstance(index, (list, tuple)) else x._moved(index)


def _join(func, t, parts, *args, **kwargs):
    """concatenate, stack, ...: the parts end to end, then moved as NumPy moves their indices."""
    parts = [t.lift(part) for part in parts]
    starts = np.cumsum([0, *(part.size for part in parts)])
    index = func([_indices(part.shape) + start for part, start in zip(parts, starts, strict=False)], *args, **kwargs)
    flat = t.builder.concat(*(part.register for part in parts))
    return t.array(t.builder.gather(flat, index), index.shape, all(part.mask for part in parts))


MOVES = (
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


JOINS = (np.concatenate, np.stack, np.hstack, np.vstack, np.column_stack)


FUNCTIONS = {
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
    np.full_like: lambda t, x, value, **_: t.lift(value)._broadcast(np.shape(x)),
    np.diff: lambda t, x, n=1, axis=-1: _diff(t.lift(x), n, axis),
    np.trace: lambda t, x: _sum(t, np.diagonal(t.lift(x))),
    np.shape: lambda t, x: t.lift(x).shape,
    np.ndim: lambda t, x: t.lift(x).ndim,
    np.size: lambda t, x: t.lift(x).size,
    **{func: functools.partial(_move, func) for func in MOVES},
    **{func: functools.partial(_join, func) for func in JOINS},
}


def _diff(x, n, axis):
    for _ in range(n):
        x = np.swapaxes(x, axis, -1)
        x = np.swapaxes(x[..., 1:] - x[..., :-1], axis, -1)
    return x


def new_trace(slot_sizes, n_theta=(0,), parent=None, capture_slot=None):
    """A trace into a new program."""
    return Trace(Builder(slot_sizes, n_theta), parent, capture_slot)
