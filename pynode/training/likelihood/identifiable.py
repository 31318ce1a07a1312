"""Which combinations of parameters data determine, where they do not determine each: directions in which nothing changes,
in words.

With Fisher's information F of relative changes of the parameters, an eigenvector of the eigenvalue w is a direction that
is known to 1 / sqrt(w). Along a direction v of theta that is not known at all, what is known is constant: v = (1, -1) is
that of a + b, and (a, -b), which is (1, -1) in logarithms, that of a b.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space

from pynode.training.determined import within_rounding

Array = NDArray[np.float64]
Index = NDArray[np.intp]

UNKNOWN = 1e3
"""A direction that is known to no better than this factor is not known."""

POOR = 1.0
"""A direction that is known to this factor only ..."""

APART = 1e-2
"""... and has less than this part of the information of every other one is named too."""

TOUCHED = 0.05
"""Parameters with a smaller part than this in a direction do not belong to it."""

MOST = 3
"""Exponents and factors are fractions of numbers up to this ..."""

CLOSE = 0.03
"""... to this accuracy; others have no name."""

SAME = 0.1
"""A move along what is claimed to leave the data alone may raise the deviance by this (or, where a direction is only poorly
known, by `LITTLE`)."""

TIE = 0.01
"""A sum must be better than a product by this: a / b and a - 3 b stay the same along the same line if a is 3 b by chance."""

LITTLE = 4.0
"""About what a parameter changes within its 95 % interval."""

MOVE = 0.5
"""How far such a move goes, relative to the parameters."""


@dataclass(frozen=True)
class Undetermined:
    """Parameters of which only combinations are determined.

    Attributes
    ----------
    index : int array
        Their positions.
    combinations : tuple of str
        What is determined, such as "a * b"; empty where it has no name.
    known : bool
        These directions are known, but poorly.
    direction : (k,) array
        Relative changes of the parameters that leave the data (almost) alone.
    """

    index: Index
    combinations: tuple[str, ...]
    known: bool
    direction: Array

    def words(self, names: Sequence[str]) -> str:
        """A sentence."""
        own = [names[k] for k in self.index]
        every = _listed(own)
        if self.combinations:
            verb = "is" if len(self.combinations) == 1 else "are"
            what = _listed(self.combinations)
            if self.known:
                return f"hardly more than {what} {verb} determined: {every} by themselves may be twice as large or nothing"
            return f"only {what} {verb} determined by the data, not {every} by themselves"
        most = np.copysign(np.abs(self.direction).max(), self.direction[0])
        changes = ", ".join(f"{name} {10 * x / most:+.2g} %" for name, x in zip(own, self.direction, strict=True))
        much = "hardly anything" if self.known else "nothing"
        return f"{every} are not determined by themselves: where they change together ({changes}) {much} of the data changes"


def undetermined(
    names: Sequence[str], theta: Array, information: Array, rise: Callable[[Index, Array], float] | None = None
) -> list[Undetermined]:
    """Groups of parameters of which the data determine combinations only.

    Parameters
    ----------
    names : sequence of str
        Of the parameters.
    theta : (n,) array
        Their estimates.
    information : (n, n) array
        Fisher's information of them.
    rise : callable, optional
        rise(positions, values) -> by how much the deviance rises at most where some parameters have other values, the rest
        being fitted again. Default: not asked, and the simplest name is taken.

    Returns
    -------
    list of Undetermined
        Without parameters of which nothing is known at all: those have no influence.
    """
    size = np.where(theta != 0, np.abs(theta), 1.0)
    unit = within_rounding(size, information, UNKNOWN**-2)
    w, V = np.linalg.eigh(information * unit * unit[:, None])
    lost = w < UNKNOWN**-2
    if (unit < size).any():
        V = (unit / size)[:, None] * V
        V /= np.linalg.norm(V, axis=0)
        V[:, lost] = np.linalg.qr(V[:, lost])[0]
    found = _groups(names, theta, V[:, lost], False, rise)
    taken = np.unique(np.concatenate([np.empty(0, dtype=np.intp), *(group.index for group in found)]))
    poor = ~lost & (w < POOR**-2)
    for k in np.flatnonzero(poor):  # one direction at a time, if far from the next one
        above = float(w[k + 1]) if k + 1 < len(w) else np.inf
        if w[k] < APART * above:
            found += [g for g in _groups(names, theta, V[:, [k]], True, rise) if not np.isin(g.index, taken).any()]
    return found


def _groups(
    names: Sequence[str], theta: Array, V: Array, known: bool, rise: Callable[[Index, Array], float] | None
) -> list[Undetermined]:
    """The groups of parameters that the directions V (n, m), of relative changes, connect."""
    if not V.shape[1]:
        return []
    P = V @ V.T
    groups = []
    left = list(np.flatnonzero(np.diag(P) > TOUCHED**2))
    while left:
        group = [left.pop(0)]
        for a in group:
            near = [b for b in left if abs(P[a, b]) > TOUCHED * np.sqrt(P[a, a] * P[b, b])]
            group += near
            left = [b for b in left if b not in near]
        index = np.array(sorted(group), dtype=np.intp)
        own = V[index]
        U, s, _ = np.linalg.svd(own, full_matrices=False)
        own = U[:, s > 0.5]
        if len(index) > 1 and 0 < own.shape[1] < len(index):
            groups.append(_named(names, theta, index, own, known, rise))
    return groups


def _named(
    names: Sequence[str],
    theta: Array,
    index: Index,
    V: Array,
    known: bool,
    rise: Callable[[Index, Array], float] | None,
) -> Undetermined:
    """The group of these parameters, with the names of what is determined if there are such names."""
    own = [names[k] for k in index]
    value = theta[index]
    size = np.where(value != 0, np.abs(value), 1.0)
    best = LITTLE if known else SAME
    words: tuple[str, ...] = ()
    for write, change, move in (
        (_product, V * np.sign(value)[:, None], lambda v: value * np.exp(v)),
        (_sum, V * size[:, None], lambda v: value + v),
    ):
        if (write is _product and (value == 0).any()) or (write is _sum and known):
            continue  # a poorly known direction is long, and bends: many a sum would fit it nearby
        rows = _simple(change)
        if rows is None:
            continue
        step = change / np.abs(change if write is _product else V).max(axis=0)
        up = 0.0 if rise is None else max(_either_way(rise, index, move, MOVE * v) for v in step.T)
        if up < best - (TIE if words else 0.0):
            best = up
            words = tuple(write(own, row) for row in rows)
    return Undetermined(index, words, known, V[:, 0])


def _either_way(rise: Callable[[Index, Array], float], index: Index, move: Callable[[Array], Array], step: Array) -> float:
    """The larger rise of a step forwards and one backwards, of those that bounds allow (NaN: not allowed)."""
    found = [rise(index, move(step)), rise(index, move(-step))]
    allowed = [x for x in found if not np.isnan(x)]
    return max(allowed) if allowed else np.inf


def _simple(V: Array) -> list[list[int]] | None:
    """Integer combinations (rows) that stay constant along all columns of V (k, m); None where they are not integers, or
    leave one of the k out."""
    rest = null_space(V.T, rcond=1e-8).T
    rows = []
    for k in range(len(rest)):
        rest[k:] = rest[k:][np.argsort(-np.abs(rest[k:]).max(axis=1))]
        at = int(np.argmax(np.abs(rest[k])))
        rest[k] /= rest[k, at]
        others = np.arange(len(rest)) != k
        rest[others] -= rest[others, at][:, None] * rest[k]
    for row in rest:
        parts = [Fraction(float(x)).limit_denominator(3) for x in row]
        if any(abs(float(f) - x) > CLOSE or abs(f) > MOST for f, x in zip(parts, row, strict=True)):
            return None
        common = lcm(*(f.denominator for f in parts))
        whole = [int(f * common) for f in parts]
        first = next(x for x in whole if x)
        rows.append([x if first > 0 else -x for x in whole])
    if not np.any(rows, axis=0).all():  # 8e-4 of one and 1e12 of the other have no sum: the small one by itself is no name
        return None
    return rows


def _product(names: Sequence[str], powers: Sequence[int]) -> str:
    """a * b^2 / c"""
    if not any(p > 0 for p in powers):
        powers = [-p for p in powers]
    above = [_power(name, p) for name, p in zip(names, powers, strict=True) if p > 0]
    below = [_power(name, -p) for name, p in zip(names, powers, strict=True) if p < 0]
    text = " * ".join(above)
    if below:
        text += " / " + (below[0] if len(below) == 1 else f"({' * '.join(below)})")
    return text


def _power(name: str, p: int) -> str:
    return name if p == 1 else f"{name}^{p}"


def _sum(names: Sequence[str], factors: Sequence[int]) -> str:
    """a + 2 b - c"""
    text = ""
    for name, x in zip(names, factors, strict=True):
        if x:
            sign = " - " if x < 0 else " + "
            text += (sign if text else sign.strip().strip("+")) + (name if abs(x) == 1 else f"{abs(x)} {name}")
    return text


def _listed(words: Sequence[str]) -> str:
    """a, b and c"""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
