"""The Jacobian of a field as a program, for methods that solve linear systems."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field
from pynode.programs.builder import Builder
from pynode.programs.derivatives import pushforward
from pynode.programs.sparsity import colours, jacobian_mask


class Jacobian(NamedTuple):
    """A field whose value is [entries of df/dy, df/dt], and the rows and columns (2, n) of these entries, None for all."""

    field: Field
    pattern: NDArray[np.int32] | None


def jacobian_field(f: Field, moving: bool) -> Jacobian:
    """The Jacobian of a field.

    Parameters
    ----------
    f : Field
        A vector field with d states.
    moving : bool
        Its inputs change with time: the slot u holds [u, du/dt], and df/dt contains what they change.

    Returns
    -------
    Jacobian
        Its field has the n entries of df/dy that are not 0 whatever the numbers are, then the d of df/dt, unless f
        does not depend on time.

    Raises
    ------
    ValueError
        The field calls Python.
    """
    derived = f.__dict__.setdefault("_derived", {})
    key = ("implicit", moving)
    if key not in derived:
        derived[key] = _made(f, moving)
    made: Jacobian = derived[key]
    return made


def _made(f: Field, moving: bool) -> Jacobian:
    program = f.program
    m = f.inputs if moving else 0
    b = Builder((1, f.d, f.inputs + m), program.n_theta)
    u = b.slice(2, 0, f.inputs) if m else 2
    env = b.replay(program, [0, 1, u])
    value, pattern = _entries(f, b, env)
    if f.time_dependent or m:
        rate = b.slice(2, f.inputs, f.inputs) if m else None
        (slope,) = pushforward(b, program, env, [b.const(np.ones(1)), None, rate])
        if slope is not None:
            value = b.concat(value, slope)
    return Jacobian(Field(b.finish([value]), f.spec, f"jacobian({f.name})", (b.sizes[value],)), pattern)


def _entries(f: Field, b: Builder, env: list[int]) -> tuple[int, NDArray[np.int32] | None]:
    """The register of the entries, and where in df/dy they are. Those of one register stay together: that moves none."""
    mask = jacobian_mask(f.program, 1)
    colour = colours(mask)
    found: dict[int, list[tuple[int, int, int]]] = {}  # register -> (its element, row, column)
    for k in range(int(colour.max()) + 1):
        columns = np.flatnonzero(colour == k)
        (tangent,) = pushforward(b, f.program, env, [None, b.const((colour == k).astype(float)), None])
        rows, which = np.nonzero(mask[:, columns])
        if tangent is None:
            continue
        for r, c in zip(rows.tolist(), columns[which].tolist(), strict=True):
            register, element = _origin(b, tangent, r)
            constant = b.const_value(register)
            if constant is None or constant[element] != 0:
                found.setdefault(register, []).append((element, r, c))
    if not found:
        return b.full(1, 0.0), np.zeros((2, 1), dtype=np.int32)
    order = sorted(found, key=lambda r: b.varying[r])  # what depends on theta alone first, computed once
    value = b.concat(*[b.gather(r, [element for element, _, _ in found[r]]) for r in order])
    places = np.array([(r, c) for register in order for _, r, c in found[register]])
    if len(places) < f.d**2:
        return value, np.ascontiguousarray(places.T, dtype=np.int32)
    return b.gather(value, np.argsort(places @ [f.d, 1])), None


def _origin(b: Builder, register: int, element: int) -> tuple[int, int]:
    """Where an element of a concatenation comes from."""
    ins = b.made[register]
    while ins is not None and ins.op == "CONCAT":
        cut = b.sizes[ins.a]
        register, element = (ins.a, element) if element < cut else (ins.b, element - cut)
        ins = b.made[register]
    return register, element
