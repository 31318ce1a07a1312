"""Fingerprints of what training depends on: the same in every process, another one where anything differs."""

import hashlib
from collections.abc import Iterable
from dataclasses import is_dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np


def fingerprint(*what: Any) -> str:
    """A hash of values, and of lists, tuples, sets and dicts of them.

    Parameters
    ----------
    *what
        Arrays, numbers, strings; objects with `to_dict()`; functions, by their code, defaults and what they close over, but
        not by the globals that they read; other objects by their state.

    Returns
    -------
    str
    """
    digest = hashlib.sha256()

    def add(x: Any, around: tuple[int, ...]) -> None:
        again = id(x) in around  # a recursive function closes over itself
        kind, own, parts = _taken_apart(range(around.index(id(x))) if again else x)
        inside = tuple(parts)
        digest.update(f"{kind} {len(own)} {len(inside)} ".encode() + own)
        for part in inside:
            add(part, (*around, id(x)))

    add(what, ())
    return digest.hexdigest()


def _taken_apart(x: Any) -> tuple[str, bytes, Iterable[Any]]:
    """(the kind of a value, the bytes of its own, the values in it)."""
    x = x.item() if isinstance(x, np.generic) else x
    kind = type(x).__qualname__
    if isinstance(x, np.ndarray):
        about = str((x.dtype.str, x.shape)).encode()
        return (kind, about, x.ravel().tolist()) if x.dtype.hasobject else (kind, about + x.tobytes(), ())
    if isinstance(x, dict):
        return "dict", b"", (part for item in x.items() for part in item)
    if isinstance(x, (list, tuple)):
        return "list", b"", x
    if isinstance(x, (set, frozenset)):
        return "set", b"", sorted(map(fingerprint, x))
    if isinstance(x, partial):
        return kind, b"", (x.func, x.args, x.keywords)
    if isinstance(x, MethodType):
        return kind, b"", (x.__self__, x.__func__)
    if isinstance(x, CodeType):
        sizes = (x.co_argcount, x.co_posonlyargcount, x.co_kwonlyargcount, x.co_flags)
        return kind, x.co_code, (x.co_consts, x.co_names, x.co_freevars, x.co_exceptiontable, sizes)
    if hasattr(x, "__qualname__"):
        code = (x.__code__, x.__defaults__, x.__kwdefaults__, _closed_over(x)) if isinstance(x, FunctionType) else ()
        return kind, f"{x.__module__}.{x.__qualname__}".encode(), code
    if hasattr(x, "to_dict"):
        return kind, b"", (x.to_dict(),)
    told: Any = type(x).__repr__
    opaque = is_dataclass(x) or told is object.__repr__  # whose text is cut short, or is an address
    if opaque:
        return kind, b"", (x.__getstate__(), type(x).__call__ if callable(x) else None)
    return kind, repr(x).encode(), ()


def _closed_over(function: FunctionType) -> list[Any]:
    """What the variables of the functions around it hold."""
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # nothing yet
            found.append(None)
    return found
