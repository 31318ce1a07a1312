"""Runge-Kutta methods that users bring at run time: `Tableau`, checked against `pynode.engine.order_conditions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode import _core
from pynode.data.arrays import as_integer, real_array
from pynode.engine.order_conditions import HIGHEST_ORDER, TOLERANCE, order_of

if TYPE_CHECKING:
    from fractions import Fraction

MAX_CORE = 12
"""Most stages of a step (PN_MAX_CORE in csrc/method/tableau.h)."""


MAX_DEGREE = 7
"""Highest degree of dense output (PN_MAX_DEGREE)."""


MAX_TEXT = 100
"""Longest coefficient that is written as text."""


MAX_NAME = 63
"""Longest name of a method, in bytes (PN_MAX_NAME)."""


# ---- What users type in


def _exact(x: Any) -> Fraction:
    """x as a fraction. Loaded when a table is made: importing `fractions` takes longer than a small solve."""
    from fractions import Fraction

    return Fraction(x)


def _number(x: Any, what: str) -> Fraction:
    """Any real number, exactly."""
    if isinstance(x, str) and (len(x) > MAX_TEXT or "e" in x.lower()[:-5]):
        raise ValueError(f"{what} holds {x[:MAX_TEXT]!r}: write it with at most {MAX_TEXT} characters and 3 in the exponent")
    try:
        return _exact(x.item() if isinstance(x, np.generic) else x)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{what} holds {x!r}: give finite numbers (float, int, Fraction) or strings such as '1/3'"
        ) from None


def _vector(what: str, x: Any, sizes: Sequence[int]) -> list[Fraction]:
    """A sequence of exact numbers of one of these lengths, with zeros up to the longest."""
    values = [_number(v, what) for v in np.asarray(x, dtype=object).ravel()] if np.ndim(x) == 1 else None
    if values is None or len(values) not in sizes:
        wanted = " or ".join(f"({n},)" for n in sizes)
        raise ValueError(f"{what} has shape {np.shape(x)}: it must be {wanted}, a number a stage")
    return values + [_exact(0)] * (max(sizes) - len(values))


def _lower(a: Any, n: int) -> list[list[Fraction]]:
    """The matrix a as n rows of n exact numbers; rows may end before the diagonal."""
    if not isinstance(a, (list, tuple, np.ndarray)) or any(np.ndim(row) != 1 for row in a):
        raise ValueError(f"a must be a matrix, or a list of rows, strictly lower triangular; not {a!r}")
    if len(a) != n:
        raise ValueError(f"a must have a row for each of the {n} weights b; it has {len(a)}")
    rows = []
    for i, row in enumerate(a):
        values = [_number(v, f"a[{i}]") for v in row]
        if len(values) > n or any(values[i:]):
            raise ValueError(
                f"a[{i}] = {[float(v) for v in values]} is not strictly lower triangular: only explicit methods can "
                f"be used, with a[{i}][j] = 0 for j >= {i}"
            )
        rows.append([*values[:i], *[_exact(0)] * (n - min(i, len(values)))])
    return rows


def _floats(values: Any) -> NDArray[np.float64]:
    """Exact numbers rounded to double."""
    return _frozen(np.array(values, dtype=object).astype(np.float64))


def _texts(values: Any) -> list[Any]:
    """Exact numbers as strings."""
    return [_texts(v) if isinstance(v, list) else str(v) for v in values]


def _frozen(array: NDArray[np.float64]) -> NDArray[np.float64]:
    array.flags.writeable = False
    return array


def _hermite(b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic Hermite interpolation of (y, k_0) and (y_new, f_new) by stage, f_new last (HNW II.6)."""
    zero = np.zeros_like(b)
    rows = np.stack([zero, zero, 3 * b, -2 * b], axis=1)
    rows[0] = [0.0, 1.0, 3 * b[0] - 2, 1 - 2 * b[0]]
    return np.concatenate([rows, [[0.0, 0.0, -1.0, 1.0]]])


class Tableau:
    """An explicit Runge-Kutta method given by its coefficients; ``method=`` takes it wherever it takes a name.

    One step of size h from (t, y) is y + h sum_i b_i k_i with k_i = f(t + c_i h, y + h sum_j a_ij k_j). The coefficients
    are checked against the order conditions of rooted trees, so that a mistyped one is found here and not in a
    solution. Nothing is compiled.

    Parameters
    ----------
    a : (s, s) array_like, or list of s rows
        Strictly lower triangular; rows may end before the diagonal. At most 12 stages, not counting a last one that is
        evaluated at the new state (a[-1] equal to b).
    b : (s,) array_like
        Weights of the new state.
    c : (s,) array_like, optional
        Times of the stages; default: the sums of the rows of a. Others are refused.
    b_hat : (s,) or (s + 1,) array_like, optional
        Weights of the embedded solution, whose difference from the new state is the error estimate; one number more is
        the weight of f at the new state. Without them only fixed steps can be taken (``step=``, ``grid=``).
    name : str
        What messages call the method.
    order : int, optional
        The order of b that is claimed; default: the one found. At most 8.
    error_order : int, optional
        The order of the embedded solution that is claimed; default: the one found.
    dense : (s, k + 1) or (s + 1, k + 1) array_like, optional
        Coefficients of the weights of dense output, b_i(theta) = sum_j dense[i][j] theta^j with 0 <= theta <= 1 and
        k <= 7; one row more is that of f at the new state. Default: cubic Hermite interpolation, of order min(order, 3).

    Attributes
    ----------
    name : str
    order, error_order, dense_order : int
        Orders of the new state, of the error estimate (0: none) and of dense output.
    a, b, c, b_hat, dense : arrays of float64
        As given, rounded to double; read-only. b_hat is None where there is none; the last row of dense is that of f at the
        new state.
    row : mapping
        The method as one of `pynode.METHODS`.

    Raises
    ------
    ValueError
        The method is implicit, shapes do not fit, c is not the row sums, or an order claimed is not reached; the message
        names the condition that fails, its tree, order and residual.

    See Also
    --------
    pynode.METHODS : the built-in methods.

    Notes
    -----
    Numbers may be `fractions.Fraction`, or strings such as "1/3"; they are rounded once, after b - b_hat was computed.

    Examples
    --------
    Ralston's second-order method (Math. Comp. 16, 1962), with Euler inside:

    >>> import pynode as pn
    >>> ralston = pn.Tableau([[], [2 / 3]], [1 / 4, 3 / 4], b_hat=[1, 0], name="ralston")
    >>> ralston
    Tableau('ralston', 2 stages, order 2, error_order 1, dense_order 2)
    >>> f = pn.callback_field(lambda t, y: -y, 1)
    >>> sol = pn.solve(f, [1.0], [0.0, 1.0], method=ralston, rtol=1e-4)
    """

    name: str
    order: int
    error_order: int
    dense_order: int
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    b_hat: NDArray[np.float64] | None
    dense: NDArray[np.float64]
    row: Mapping[str, Any]
    _exact: dict[str, Any]

    def __init__(
        self,
        a: ArrayLike | Sequence[Sequence[Any]],
        b: ArrayLike | Sequence[Any],
        c: ArrayLike | Sequence[Any] | None = None,
        b_hat: ArrayLike | Sequence[Any] | None = None,
        name: str = "tableau",
        order: int | None = None,
        error_order: int | None = None,
        dense: ArrayLike | None = None,
    ) -> None:
        if not isinstance(name, str) or not 0 < len(name.encode()) <= MAX_NAME or "\0" in name:
            raise ValueError(f"name={name!r} must be a string of 1 to {MAX_NAME} bytes")
        n = np.size(np.asarray(b, dtype=object))
        if n > MAX_CORE + 1:
            raise ValueError(f"b has {n} stages; there must be 1 to {MAX_CORE}, and one more where a[-1] equals b")
        weights = _vector("b", b, (n,))
        rows = _lower(a, n)
        times = _times(c, rows)
        # f at the new state is evaluated after every step anyway: a last stage that is just this is not another one.
        last_is_new = n > 1 and not weights[-1] and rows[-1] == weights
        s = n - 1 if last_is_new else n
        if not 1 <= s <= MAX_CORE:
            raise ValueError(f"b has {n} stages; there must be 1 to {MAX_CORE}, and one more where a[-1] equals b")
        embedded = None if b_hat is None else _vector("b_hat", b_hat, (n,) if last_is_new else (n, n + 1))
        # Stage s is f at the new state, as in csrc/method/tableau.h.
        stages = np.zeros((s + 1, s + 1))
        stages[:s, :s] = _floats(rows)[:s, :s]
        stages[s, :s] = _floats(weights)[:s]
        error = np.zeros(s + 1)
        if embedded is not None:
            padded = [*weights, *[_exact(0)] * (s + 1 - n)]
            error = _floats([x - y for x, y in zip(padded, embedded, strict=True)])
            embedded = embedded if embedded[-1] else embedded[:n]
        found = self._found_order(name, "order", "b", stages[s], stages, order)
        found_error = 0
        if embedded is not None:
            if not error.any():
                raise ValueError(
                    f"{name}: b_hat equals b, so there is no error estimate: leave it out, or give other weights"
                )
            found_error = self._found_order(name, "error_order", "b_hat", stages[s] - error, stages, error_order)
        elif error_order is not None:
            raise ValueError(f"{name}: error_order={error_order!r} needs an embedded solution: give b_hat=")
        coefficients = _hermite(stages[s, :s]) if dense is None else _dense(name, dense, n, s, stages)
        vars(self).update(
            name=name,
            order=found,
            error_order=min(found_error, found),
            dense_order=min(found, 3) if dense is None else order_of(coefficients, stages)[0],
            a=_floats(rows),
            b=_floats(weights),
            c=_floats(times),
            b_hat=None if embedded is None else _floats(embedded),
            dense=_frozen(coefficients),
            _exact={"a": _texts(rows), "b": _texts(weights), "c": _texts(times), "b_hat": embedded and _texts(embedded)},
        )
        vars(self).update(row=self._row(s, stages, error))

    @staticmethod
    def _found_order(
        name: str, what: str, weights: str, values: NDArray[np.float64], a: NDArray[np.float64], claimed: int | None
    ) -> int:
        """The order claimed, checked; the one found where none is claimed."""
        if claimed is not None:
            claimed = as_integer(what, claimed, 1, HIGHEST_ORDER)
        found, failure = order_of(values, a)
        if failure is not None and found < (claimed or 1):
            raise ValueError(f"{name}: {weights} is not of order {claimed or 1}: {failure.message(weights)}")
        return claimed or found

    def _row(self, s: int, stages: NDArray[np.float64], error: NDArray[np.float64]) -> dict[str, Any]:
        """The method in the form of the core's own (csrc/method/tableau.h)."""
        return {
            "name": self.name,
            "source": "pynode.Tableau",
            "order": self.order,
            "error_order": self.error_order,
            "s": s,
            "n_extra": 0,
            "error_uses_new": bool(error[s]),
            "dense_degree": self.dense.shape[1] - 1,
            "dense_order": self.dense_order,
            "dense_uses_new": bool(self.dense[s].any()),
            "has_e2": False,
            "c": _frozen(np.append(self.c[:s], 1.0)),
            "a": _frozen(stages),
            "b": _frozen(stages[s, :s].copy()),
            "e": _frozen(error),
            "e2": _frozen(np.zeros(s + 1)),
            "dense": self.dense,
            "gamma": 0.0,
            "coupling": _frozen(np.zeros((s, s))),
            "by_t": _frozen(np.zeros(s)),
            "second": None,
        }

    def to_dict(self) -> dict[str, Any]:
        """The method as plain data.

        Returns
        -------
        dict
            Numbers, strings and lists, which `from_dict` reads. Coefficients are exact: strings such as "1/3".
        """
        orders = {"order": self.order, "error_order": self.error_order or None}
        dense = None if np.array_equal(self.dense, _hermite(self.row["b"])) else self.dense.tolist()
        return {**self._exact, "name": self.name, **orders, "dense": dense}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; everything is checked as what users type in is.

        Parameters
        ----------
        data : dict
            What `to_dict` gave.

        Returns
        -------
        Tableau

        Raises
        ------
        ValueError
            The coefficients are not those of an explicit Runge-Kutta method of the orders that it claims.
        """
        return cls(**data)

    @cached_property
    def core(self) -> _core.Tableau:
        """The C object that ``_core.Problem(method=...)`` takes."""
        names = ("name", "order", "error_order", "c", "a", "b", "e", "dense", "dense_order", "source")
        return _core.Tableau(**{name: self.row[name] for name in names})

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        numbers = (self.a, self.b, self.c, self.row["e"], self.dense)
        return (self.name, self.order, self.error_order, self.dense_order, *(x.tobytes() for x in numbers))

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tableau) and self._key == other._key

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Tableau cannot be changed: make another one in place of setting {name}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("core", "_key", "_hash")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for value in (*state.values(), *state["row"].values()):
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __repr__(self) -> str:
        s = self.row["s"]
        return (
            f"Tableau({self.name!r}, {s} stage{'s' * (s > 1)}, order {self.order}, error_order {self.error_order}, "
            f"dense_order {self.dense_order})"
        )

    def __str__(self) -> str:
        """The Butcher tableau, with fractions where they are short."""
        cells = [[_short(c), *map(_short, row[:i])] for i, (c, row) in enumerate(zip(self.c, self.a, strict=True))]
        below = [["", *map(_short, self.b)]]
        if self.b_hat is not None:
            below.append(["", *map(_short, self.b_hat)])
        columns = max(map(len, below))
        widths = [max(len(row[j]) for row in (*cells, *below) if j < len(row)) for j in range(columns)]

        def line(row: list[str]) -> str:
            texts = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
            return f"{texts[0]} | {'  '.join(texts[1:])}".rstrip()

        rule = "-" * (widths[0] + 1) + "+" + "-" * (sum(widths[1:]) + 2 * (columns - 1))
        return "\n".join([repr(self), *map(line, cells), rule, *map(line, below)])


def _short(x: float) -> str:
    """A number as a fraction where that is exact to double precision, else with six digits."""
    near = _exact(float(x)).limit_denominator(100_000)
    return str(near) if float(near) == x else f"{x:.6g}"


def _times(c: Any, rows: list[list[Fraction]]) -> list[Fraction]:
    """c, which must be the sums of the rows."""
    sums = [sum(row, _exact(0)) for row in rows]
    times = sums if c is None else _vector("c", c, (len(rows),))
    for i, (time, total) in enumerate(zip(times, sums, strict=True)):
        if abs(time - total) > TOLERANCE:
            raise ValueError(f"c[{i}] = {float(time):.12g}, but a[{i}] sums to {float(total):.12g}: they must be the same")
    return times


def _dense(name: str, dense: Any, n: int, s: int, stages: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of dense output as (s + 1, k + 1), checked: continuous, and of order 1 at least."""
    coefficients = real_array("dense", dense, np.float64)
    if coefficients.ndim != 2 or len(coefficients) not in (n, s + 1) or not 2 <= coefficients.shape[1] <= MAX_DEGREE + 1:
        wanted = " or ".join(str(rows) for rows in sorted({n, s + 1}))
        raise ValueError(
            f"{name}: dense has shape {coefficients.shape}: it must have {wanted} rows, one a stage, and 2 to "
            f"{MAX_DEGREE + 1} columns, the coefficients of theta^0, theta^1, ..."
        )
    coefficients = np.pad(coefficients, ((0, s + 1 - len(coefficients)), (0, 0)))
    order, failure = order_of(coefficients, stages)
    if failure is not None and order < 1:
        raise ValueError(f"{name}: dense is no dense output: {failure.message('dense')}")
    gap = np.abs(coefficients.sum(axis=1) - stages[s])
    if coefficients[:, 0].any() or gap.max() > TOLERANCE * max(1.0, float(np.abs(coefficients).max())):
        raise ValueError(
            f"{name}: dense must be 0 at theta = 0 and b at theta = 1, so that the solution is continuous; at theta = 1 it "
            f"differs from b by up to {gap.max():.2g}"
        )
    return coefficients
