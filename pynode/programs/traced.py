"""What tracing computes with: a `Trace` writes a program, and a `Traced` array is a register of it with a shape.

What NumPy may do with a traced array is listed in two registries, `UFUNCS` and `FUNCTIONS`, which
`pynode.programs.numpy_functions` and `contractions` fill.
"""

from __future__ import annotations

import functools
import linecache
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn, Self, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynode.programs.builder import Builder

UFUNCS: dict[np.ufunc, Callable[..., Traced]] = {}
"""ufunc -> function (trace, *operands): of one shape, but for `numpy.matmul`."""


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""NumPy function -> function (trace, *arguments as the user gave them)."""

INSTEAD = (
    "It jumps again and again, and steps must end where a field jumps. What repeats: doses by "
    "NeuralODE.fit(doses=[pn.Dose(time, amount, interval=24.0, count=7)]); a pulse or a schedule as a control input, "
    'pn.field(..., inputs=1) and inputs=pn.Signal(times, values, kind="previous"); what varies smoothly as '
    "np.sin(2 * np.pi * t / period). A few jumps at known times: np.where(t < 5.0, a, b)"
)

JUMPS: dict[Callable[..., Any], str] = dict.fromkeys(
    (np.floor, np.ceil, np.trunc, np.rint, np.remainder, np.fmod, np.floor_divide, np.divmod, np.modf, np.round, np.fix),
    INSTEAD,
)
"""Functions of NumPy that jump -> what their user can write instead."""


_NOT_THE_USER = (
    os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep,
    os.path.dirname(os.path.realpath(np.__file__)) + os.sep,
    "<__array_function__",
)


class TraceError(TypeError):
    """Code that cannot be traced into a program. The message names the line and what to write instead.

    Parameters
    ----------
    message : str
        What cannot be traced, and what to write instead.
    where : str, optional
        The line of code; default: the innermost one that is neither this package's nor NumPy's.
    """

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(f"{message}\n  {where or _user_line()}")


def _user_line() -> str:
    """The innermost line of code that is neither ours nor NumPy's."""
    frame: FrameType = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_USER):
        frame = frame.f_back
    return source_line(frame.f_code.co_filename, frame.f_lineno)


def source_line(filename: str, number: int) -> str:
    """A line of a file, as an error names it."""
    source = linecache.getline(filename, number).strip()
    return f"at {filename}:{number}" + (f": {source}" if source else "")


class Trace:
    """A program being traced.

    A trace inside another one may use the values of the outer one: they are captured, as parts of the slot
    `capture_slot` (`close` gives it its size), and `captured` lists them.

    Parameters
    ----------
    builder : Builder
        What writes the program.
    parent : Trace, optional
        The trace around this one.
    capture_slot : int, optional
        The slot that holds values of the parent.

    Attributes
    ----------
    depth : int
        How many traces are around this one.
    captured : list of Traced
        The values of the parent that are used here, in their order in the slot.
    """

    def __init__(self, builder: Builder, parent: Self | None = None, capture_slot: int | None = None) -> None:
        self.builder = builder
        self.parent = parent
        self.capture_slot = capture_slot
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.captured: list[Traced] = []
        self._at: dict[int, int] = {}
        self._end = 0
        if capture_slot is not None:
            builder.sizes[capture_slot] = sys.maxsize  # not known yet: no register is the whole of it

    def close(self) -> None:
        """Give the slot of captured values its size: nothing more will be captured."""
        if self.capture_slot is not None:
            self.builder.sizes[self.capture_slot] = self._end

    def array(self, register: int, shape: Iterable[int], mask: bool = False) -> Traced:
        """A register as an array of this shape."""
        return Traced(self, register, shape, mask)

    def slot(self, slot: int, shape: Iterable[int] | None = None) -> Traced:
        """An input slot as an array, flat where no shape is given."""
        return self.array(slot, (self.builder.sizes[slot],) if shape is None else shape)

    def theta(self) -> Traced | None:
        """The flat parameter vector, None where it is empty."""
        register = self.builder.theta()
        return None if register is None else self.array(register, (self.builder.sizes[register],))

    def const(self, values: ArrayLike) -> Traced:
        """Numbers as a traced array."""
        values = np.asarray(values)
        if values.dtype.kind not in "fiub":
            raise TraceError(f"a constant of type {values.dtype} cannot be part of a field; real numbers only")
        if values.size == 0:
            raise TraceError("an empty array cannot be part of a field")
        return self.array(self.builder.const(values), values.shape, values.dtype.kind == "b")

    def lift(self, x: Any) -> Traced:
        """Anything as a traced array of this trace: traced values (also those of outer traces), numbers, arrays,
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

    def _stacked(self, x: Any) -> Traced:
        """Nested lists, or an array of objects, with traced values among their elements."""
        if isinstance(x, np.ndarray) and x.ndim == 0:
            return self.lift(x.item())
        try:
            return self.join(np.stack, x)
        except ValueError as error:
            raise TraceError(f"a list of arrays of different shapes: {error}") from error

    def join(self, func: Callable[..., NDArray[Any]], parts: Iterable[Any], *args: Any, **kwargs: Any) -> Traced:
        """The parts end to end, then moved as the NumPy function (concatenate, stack, ...) moves their indices."""
        arrays = [self.lift(part) for part in parts]
        starts = np.cumsum([0, *(part.size for part in arrays)])
        index = func([indices(part.shape) + start for part, start in zip(arrays, starts, strict=False)], *args, **kwargs)
        flat = self.builder.concat(*(part.register for part in arrays))
        return self.array(self.builder.gather(flat, index), index.shape, all(part.mask for part in arrays))

    def _capture(self, x: Traced) -> Traced:
        if self.parent is None or self.capture_slot is None:
            raise TraceError("this value was traced in another field: values cannot be kept from one trace to the next")
        x = self.parent.lift(x)
        n = x.size
        if x.register not in self._at:
            self._at[x.register] = self._end
            self.captured.append(x)
            self._end += n
        return self.array(self.builder.slice(self.capture_slot, self._at[x.register], n), x.shape, x.mask)


def _leaves(x: Any) -> Iterator[Any]:
    """The elements of nested lists, tuples and object arrays."""
    if isinstance(x, (list, tuple)) or (isinstance(x, np.ndarray) and x.dtype == object and x.ndim):
        for v in x:
            yield from _leaves(v)
    else:
        yield x.item() if isinstance(x, np.ndarray) and x.dtype == object else x


def trace_of(*args: Any) -> Trace | None:
    """The innermost trace among traced arguments (nested in lists too), None if there is none."""
    traces = [v.trace for v in _leaves(list(args)) if isinstance(v, Traced)]
    return max(traces, key=lambda t: t.depth) if traces else None


def the_trace_of(*args: Any) -> Trace:
    """The innermost trace among arguments of which one at least is traced."""
    t = trace_of(*args)
    if t is None:
        raise TypeError("none of these values is traced")
    return t


Axis = int | tuple[int, ...] | None


class Traced(NDArrayOperatorsMixin):
    """An array whose numbers are not known yet; behaves like a NumPy array of float64.

    Attributes
    ----------
    trace : Trace
        The program that is being written.
    register : int
        The register there that holds the value, row by row.
    shape : tuple of int
    mask : bool
        Made by a comparison: holds zeros and ones.
    """

    __array_priority__ = 1000.0
    __hash__ = object.__hash__
    dtype = np.dtype(np.float64)

    def __init__(self, trace: Trace, register: int, shape: Iterable[int], mask: bool = False) -> None:
        self.trace = trace
        self.register = register
        self.shape = tuple(int(n) for n in shape)
        self.mask = mask

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def T(self) -> Traced:
        """The transpose."""
        return self.transpose()

    @property
    def flat(self) -> Iterator[Traced]:
        """The elements, row by row."""
        return iter(self.ravel())

    @property
    def real(self) -> Traced:
        """The array itself: traced values are real."""
        return self

    def __repr__(self) -> str:
        return f"Traced(shape={self.shape})"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a traced scalar")
        return self.shape[0]

    def __iter__(self) -> Iterator[Traced]:
        if not self.shape:
            raise TraceError("iteration over a traced scalar")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key: Any) -> Traced:
        if trace_of(*key if isinstance(key, tuple) else (key,)) is not None:
            raise TraceError(
                "an index cannot be a traced value: the program is the same for every sample and time; "
                "use np.where, or a product with a mask"
            )
        return self.moved(indices(self.shape)[key])

    def moved(self, index: ArrayLike) -> Traced:
        """The elements at these positions, in the shape of `index`."""
        index = np.asarray(index)
        if index.size == 0:
            raise TraceError(f"this leaves nothing of an array of shape {self.shape}")
        return self.trace.array(self.trace.builder.gather(self.register, index), index.shape, self.mask)

    def broadcast(self, shape: tuple[int, ...]) -> Traced:
        """The array repeated along new axes, as `numpy.broadcast_to` does."""
        if self.shape == shape:
            return self
        return self.moved(np.broadcast_to(indices(self.shape), shape))

    # What NumPy calls

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Traced:
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
            raise TraceError(f"np.{ufunc.__name__} cannot be traced. {JUMPS.get(ufunc) or supported(UFUNCS)}")
        t = the_trace_of(*inputs)
        operands = [t.lift(x) for x in inputs]
        if ufunc is np.matmul:
            return UFUNCS[ufunc](t, *operands)
        try:
            shape = np.broadcast_shapes(*(x.shape for x in operands))
        except ValueError:
            raise TraceError(
                f"np.{ufunc.__name__}: the shapes {' and '.join(str(x.shape) for x in operands)} do not go together"
            ) from None
        return UFUNCS[ufunc](t, *(x.broadcast(shape) for x in operands))

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        if func not in FUNCTIONS:
            raise TraceError(f"np.{func.__name__} cannot be traced. {JUMPS.get(func) or supported(FUNCTIONS)}")
        t = the_trace_of(*args, *kwargs.values())
        try:
            return FUNCTIONS[func](t, *args, **kwargs)
        except TraceError:
            raise
        except (TypeError, ValueError) as error:
            raise TraceError(f"np.{func.__name__}: {error}") from error

    # Methods of arrays

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Traced:
        """See `numpy.sum`."""
        value: Traced = FUNCTIONS[np.sum](self.trace, self, axis, keepdims=keepdims)
        return value

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Traced:
        """See `numpy.mean`."""
        value: Traced = FUNCTIONS[np.mean](self.trace, self, axis, keepdims=keepdims)
        return value

    def max(self, axis: Axis = None, keepdims: bool = False) -> Traced:
        """See `numpy.max`."""
        value: Traced = FUNCTIONS[np.max](self.trace, self, axis, keepdims=keepdims)
        return value

    def min(self, axis: Axis = None, keepdims: bool = False) -> Traced:
        """See `numpy.min`."""
        value: Traced = FUNCTIONS[np.min](self.trace, self, axis, keepdims=keepdims)
        return value

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Traced:
        """See `numpy.prod`."""
        value: Traced = FUNCTIONS[np.prod](self.trace, self, axis, keepdims=keepdims)
        return value

    def dot(self, other: Any) -> Traced:
        """See `numpy.dot`."""
        array: Any = self
        return cast(Traced, np.dot(array, other))

    def clip(self, low: Any = None, high: Any = None) -> Traced:
        """See `numpy.clip`."""
        array: Any = self
        return cast(Traced, np.clip(array, low, high))

    def reshape(self, *shape: Any) -> Traced:
        """See `numpy.reshape`."""
        return self.moved(indices(self.shape).reshape(*shape))

    def ravel(self) -> Traced:
        """All elements, row by row, on one axis."""
        return self.reshape(-1)

    flatten = ravel

    def squeeze(self, axis: Axis = None) -> Traced:
        """See `numpy.squeeze`."""
        return self.moved(indices(self.shape).squeeze(axis))

    def transpose(self, *axes: Any) -> Traced:
        """See `numpy.transpose`."""
        return self.moved(indices(self.shape).transpose(*axes))

    def copy(self) -> Traced:
        """The array itself: a traced value never changes."""
        return self

    def astype(self, dtype: DTypeLike, **_: Any) -> Traced:
        """The array itself, for a floating-point type; others are refused."""
        if np.dtype(dtype).kind != "f":
            raise TraceError(f"a traced value cannot become {np.dtype(dtype)}: fields compute in floating point")
        return self

    # What a traced value cannot do

    def __bool__(self) -> bool:
        raise TraceError(
            "the truth of a traced value is not known while tracing (if, and, or, not, while, min(), max()); "
            "use np.where(condition, a, b), np.logical_and, np.maximum"
        )

    def _no_number(self, *_: Any) -> NoReturn:
        raise TraceError(
            "a traced value has no number yet (float(), int(), math.sin() or filling an array made by "
            "np.zeros ask for one); use np.sin in place of math.sin, and return a list or "
            "np.stack([...]) in place of filling an array"
        )

    __float__ = _no_number
    __int__ = _no_number
    __index__ = _no_number
    __complex__ = _no_number
    __round__ = _no_number
    item = _no_number
    tolist = _no_number

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TraceError(
            "a traced value cannot be changed in place; make a new one, e.g. np.concatenate or "
            "np.where(mask, new, old), or return a list of components"
        )

    # y += 1 makes a new value, as it does for a Python number
    __iadd__ = NDArrayOperatorsMixin.__add__
    __isub__ = NDArrayOperatorsMixin.__sub__
    __imul__ = NDArrayOperatorsMixin.__mul__
    __itruediv__ = NDArrayOperatorsMixin.__truediv__
    __ipow__ = NDArrayOperatorsMixin.__pow__
    __imatmul__ = NDArrayOperatorsMixin.__matmul__

    def __and__(self, other: Any) -> Traced:
        return self._logical(np.logical_and, other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Traced:
        return self._logical(np.logical_or, other)

    __ror__ = __or__

    def __invert__(self) -> Traced:
        return self._logical(np.logical_not)

    def _logical(self, ufunc: np.ufunc, *other: Any) -> Traced:
        if not self.mask:
            raise TraceError("&, | and ~ are for conditions only, such as (x > 0) & (x < 1)")
        value: Traced = ufunc(self, *other)
        return value

    def __getattr__(self, name: str) -> Callable[..., Traced]:
        if any(name == ufunc.__name__ for ufunc in UFUNCS):  # NumPy calls x.sin() on the elements of an array of objects
            return functools.partial(getattr(np, name), self)
        raise AttributeError(f"a traced array has no {name!r}")


def indices(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """The position of every element in an array of this shape, row by row."""
    return np.arange(math.prod(shape)).reshape(shape)


def supported(functions: Iterable[Callable[..., Any]]) -> str:
    """What an error says of the functions that can be traced."""
    return "Supported: " + ", ".join(sorted({f.__name__ for f in functions}))
