"""Tracing: ordinary NumPy code, called with `Traced` arrays, writes a program.

`new_trace` begins a program, `trace` calls the code. What traced arrays are is in `pynode.programs.traced`, and
what NumPy may do with them in `pynode.programs.numpy_functions` and `contractions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pynode.programs import contractions, numpy_functions  # noqa: F401  (they fill the registries of what can be traced)
from pynode.programs.builder import Builder
from pynode.programs.traced import Trace, Traced, TraceError, source_line


def new_trace(
    slot_sizes: Sequence[int], n_theta: Sequence[int] = (0,), parent: Trace | None = None, capture_slot: int | None = None
) -> Trace:
    """A trace into a new program.

    Parameters
    ----------
    slot_sizes : sequence of int
        Sizes of the inputs.
    n_theta : sequence of int
        Lengths of the parameter vectors.
    parent, capture_slot
        See `Trace`.
    """
    return Trace(Builder(slot_sizes, n_theta), parent, capture_slot)


def trace(fn: Callable[..., Any], args: Sequence[Any], the_trace: Trace, size: int | None = None) -> Traced:
    """Call `fn` with traced arguments.

    Parameters
    ----------
    fn : callable
        Ordinary NumPy code.
    args : list
        Its arguments: traced arrays, or containers of them.
    the_trace : Trace
        The program that is being written.
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


def _flattened(the_trace: Trace, value: Any) -> Traced:
    """A returned value: arrays keep their shape, lists are stacked; lists of different lengths end to end."""
    if isinstance(value, (list, tuple)):
        parts = [_flattened(the_trace, v) for v in value]
        if not parts:
            raise TraceError("an empty list")
        if len({part.shape for part in parts}) == 1:
            return the_trace.join(np.stack, parts)
        return the_trace.join(np.concatenate, [part.ravel() for part in parts])
    return the_trace.lift(value)


def _definition(fn: Callable[..., Any]) -> str:
    """Where a function was written."""
    code = getattr(fn, "__code__", None)
    return source_line(code.co_filename, code.co_firstlineno) if code else f"in {fn!r}"
