"""Sums over products of arrays by the names of their axes: `numpy.einsum`, `numpy.tensordot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pynode.programs.traced import FUNCTIONS, Trace, Traced, TraceError

HINT = "give the axes of each array as letters, and those of the result behind ->: np.einsum('ij,jk->ik', A, B)"


def _einsum(t: Trace, subscripts: Any, *operands: Any, optimize: Any = None, **options: Any) -> Traced:
    if not isinstance(subscripts, str) or "." in subscripts:
        raise TraceError(f"np.einsum({subscripts!r}, ...) cannot be traced: {HINT}")
    if options:
        raise TraceError(f"np.einsum with options {list(options)} cannot be traced")
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    names = inputs.split(",")
    if not arrow:  # as NumPy has it: axes named once, in the order of the alphabet
        result = "".join(sorted(name for name in set("".join(names)) if "".join(names).count(name) == 1))
    arrays = [t.lift(x) for x in operands]
    _check(subscripts, names, result, arrays)
    parts = [_own_axes(x, axes) for x, axes in zip(arrays, names, strict=True)]
    while len(parts) > 1:
        others = {name for _, axes in parts[2:] for name in axes}
        parts = [_product(t, *parts[0], *parts[1], others | set(result)), *parts[2:]]
    x, axes = parts[0]
    x = _summed(x, axes, result)
    kept = [name for name in axes if name in result]
    return x.transpose([kept.index(name) for name in result])


def _check(subscripts: str, names: Sequence[str], result: str, arrays: Sequence[Traced]) -> None:
    letters = "".join(names) + result
    sizes: dict[str, int] = {}
    fits = len(names) == len(arrays) and all(len(axes) == x.ndim for axes, x in zip(names, arrays, strict=False))
    for axes, x in zip(names, arrays, strict=False) if fits else ():
        fits = fits and all(sizes.setdefault(name, n) == n for name, n in zip(axes, x.shape, strict=True))
    known = letters == "" or letters.isalpha()
    if not (fits and known and len(set(result)) == len(result) and set(result) <= set("".join(names))):
        raise TraceError(f"np.einsum({subscripts!r}, ...) of shapes {', '.join(str(x.shape) for x in arrays)}: {HINT}")


def _own_axes(x: Traced, axes: str) -> tuple[Traced, str]:
    """An array without repeated names of axes: those are its diagonal."""
    for name in sorted(set(axes)):
        while axes.count(name) > 1:
            first = axes.index(name)
            second = axes.index(name, first + 1)
            x = FUNCTIONS[np.diagonal](x.trace, x, 0, first, second)  # the diagonal is the last axis
            axes = axes[:first] + axes[first + 1 : second] + axes[second + 1 :] + name
    return x, axes


def _summed(x: Traced, axes: str, kept: Any) -> Traced:
    """The sum over all axes that are not among `kept`."""
    over = tuple(i for i, name in enumerate(axes) if name not in kept)
    return x.sum(axis=over) if over else x


def _product(t: Trace, x: Traced, a: str, y: Traced, b: str, wanted: set[str]) -> tuple[Traced, str]:
    """Two arrays as one, with those axes that the result or another array still has."""
    x, a = _summed(x, a, wanted | set(b)), "".join(name for name in a if name in wanted or name in b)
    y, b = _summed(y, b, wanted | set(a)), "".join(name for name in b if name in wanted or name in a)
    over = [name for name in a if name in b and name not in wanted]
    both = [name for name in a if name in b and name in wanted]
    left, right = [name for name in a if name not in b], [name for name in b if name not in a]
    axes = "".join([*both, *left, *right])
    x = x.transpose([a.index(name) for name in [*both, *left, *over]])
    y = y.transpose([b.index(name) for name in [*both, *over, *right]])
    n = len(both)
    shape = x.shape[: n + len(left)] + y.shape[n + len(over) :]
    if not over:
        return x.reshape(x.shape + (1,) * len(right)) * y.reshape(y.shape[:n] + (1,) * len(left) + y.shape[n:]), axes
    many, inner = math.prod(x.shape[:n]), math.prod(x.shape[n + len(left) :])
    x = x.reshape((many, -1, inner) if left else (many, inner))
    y = y.reshape((many, inner, -1) if right else (many, inner))
    products = [x[i] @ y[i] for i in range(many)]
    return t.join(np.stack, products).reshape(shape), axes


def _tensordot(t: Trace, x: Any, y: Any, axes: Any = 2) -> Traced:
    x, y = t.lift(x), t.lift(y)
    if np.ndim(axes) == 0:
        pairs = [(x.ndim - axes + i, i) for i in range(axes)]
    else:
        ends = [[end] if np.ndim(end) == 0 else list(end) for end in axes]
        pairs = [(i % x.ndim, j % y.ndim) for i, j in zip(*ends, strict=True)]
    if any(i < 0 or x.shape[i] != y.shape[j] for i, j in pairs):
        raise TraceError(f"np.tensordot of shapes {x.shape} and {y.shape} over axes {axes!r}")
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    a = list(letters[: x.ndim])
    b = list(letters[x.ndim : x.ndim + y.ndim])
    for i, j in pairs:
        b[j] = a[i]
    result = [name for name in [*a, *b] if not (name in a and name in b)]
    return _einsum(t, f"{''.join(a)},{''.join(b)}->{''.join(result)}", x, y)


FUNCTIONS.update({np.einsum: _einsum, np.tensordot: _tensordot})
