"""Candidate terms of an equation: products of powers of the states and inputs, and functions of them, in the user's units.

A right-hand side is linear in its coefficients, dy_i/dt = sum_k c_ik term_k(y, u), most of them zero. Terms that bend
(`pynode.training.equations.bends`) have parameters of their own beside their coefficient, such as a scale.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.training.equations.bends import Bend

Array = NDArray[np.float64]

CHEAP = np.log(4.0)
"""What a term of degree 0 or 1 costs, as log prior odds ..."""

DEGREE = np.log(2.0)
"""... how much more for each further degree, or multiple of an angle ..."""

FUNCTION = np.log(16.0)
"""... and for a sine, a root, another function, or one that bends; ..."""

OWN_ANGLE = np.log(8.0)
"""... and more for an angle times its own sine: what turns counts from nowhere."""

CROWDED = 5
"""Equations with more terms than this for each state (and one for each input) are series of something else: inside the data
they are no better than a network, and what they are sure of is wrong. They are kept only where the user asked for one."""

FOUND = "equation"
"""What fields of few terms are called."""


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sin": np.sin,
    "cos": np.cos,
    "abs": np.abs,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0.0)),  # nothing runs out of an empty tank
    "log": np.log,
    "radial": lambda s: 1.0 / (s * np.sqrt(s)),
}
"""Of sums of variables, the last of their squares."""


EVERYWHERE = frozenset({"", "sin", "cos", "abs"})
"""Those that have a value and a derivative wherever states may go."""


class Term(NamedTuple):
    """x_1^p_1 ... x_n^p_n, times a function of w_1 x_1 + ... + w_n x_n, or times one that bends.

    Attributes
    ----------
    powers : tuple of int
        p, one for each state and input.
    function : {"", "sin", "cos", "abs", "sqrt", "log", "radial", "bend"}
        "": the powers alone; "radial": 1 / r^3, r^2 being w_1 x_1^2 + ... + w_n x_n^2.
    wave : tuple of int
        w, all 0 where there is none.
    bend : Bend or None
        The function that bends.
    origin : tuple of float
        From where the variables with powers count, 0 but for those very far from zero; empty: all from 0.
    """

    powers: tuple[int, ...]
    function: str
    wave: tuple[int, ...]
    bend: Bend | None = None
    origin: tuple[float, ...] = ()

    @property
    def degree(self) -> int:
        """The sum of the powers."""
        return sum(self.powers)

    @property
    def linear(self) -> bool:
        """Whether it is a constant, a state or an input."""
        return self.degree <= 1 and not self.function

    @property
    def couples(self) -> bool:
        """Whether it is the sine of a difference of two variables."""
        return self.function == "sin" and not self.degree and sorted(filter(None, self.wave)) == [-1, 1]

    @property
    def cost(self) -> float:
        """-log of the prior odds that the term is there: simple ones are likelier."""
        extra = DEGREE * max(self.degree - 1, 0)
        if self.bend is not None:
            extra += FUNCTION + 0.5 * DEGREE * (self.bend.n - 1) + DEGREE * (len(self.bend.inner) - 1)
        elif self.function:
            extra += FUNCTION + DEGREE * (sum(map(abs, self.wave)) - 1)
            if self.function in ("sin", "cos") and any(p and w for p, w in zip(self.powers, self.wave, strict=True)):
                extra += OWN_ANGLE
        return float(CHEAP + extra)

    def has(self, which: Sequence[bool] | NDArray[np.bool_]) -> bool:
        """Whether one of these variables is in it."""
        bent = self.bend is not None and bool(which[self.bend.of])
        return bent or any(there and (p or w) for there, p, w in zip(which, self.powers, self.wave, strict=True))

    def degree_in(self, which: Sequence[bool] | NDArray[np.bool_]) -> int:
        """The sum of the powers of these variables."""
        return sum(p for there, p in zip(which, self.powers, strict=True) if there)

    def text(self, names: Sequence[str], symbols: Sequence[str] = ()) -> str:
        """The term in words, such as x^2*sin(y); "1" for the constant; symbols: what parameters that it has are called."""
        counted = [_counted(name, o) for name, o in zip(names, self.origins, strict=True)]
        parts = [f"{name}^{p}" if p > 1 else name for name, p in zip(counted, self.powers, strict=True) if p]
        if self.bend is not None:
            parts.append(self.bend.text(names[self.bend.of], symbols or [f"{value:.4g}" for _, value in self.inner]))
        elif self.function == "radial":
            squares = " + ".join(f"{name}^2" for name, w in zip(names, self.wave, strict=True) if w)
            return f"{'*'.join(parts) or '1'}/({squares})^1.5"
        elif self.function:
            parts.append(f"{self.function}({weighted_sum(self.wave, names, '*')})")
        return "*".join(parts) or "1"

    def value(self, x: Sequence[Any], inner: Sequence[Any] | None = None) -> Any:
        """The value for states and inputs x, arrays or traced numbers; 1.0 for the constant; inner: in place of its own."""
        found: Any = None
        for v, p, o in zip(x, self.powers, self.origins, strict=True):
            part = v - o if p and o else v
            for _ in range(p):
                found = part if found is None else found * part
        if self.bend is not None:
            bent = self.bend.value(x[self.bend.of], inner)
            return bent if found is None else found * bent
        if self.function:
            angle: Any = None
            for v, w in zip(x, self.wave, strict=True):
                if w:
                    part = v * v if self.function == "radial" else v if w == 1 else w * v
                    angle = part if angle is None else angle + part
            other = FUNCTIONS[self.function](angle)
            found = other if found is None else found * other
        return 1.0 if found is None else found

    @property
    def origins(self) -> tuple[float, ...]:
        """From where each variable counts."""
        return self.origin or (0.0,) * len(self.powers)

    def counted_from(self, origins: Sequence[float]) -> "Term":
        """The same with variables that count from elsewhere, where they have powers."""
        there = tuple(float(o) if p else 0.0 for o, p in zip(origins, self.powers, strict=True))
        return self._replace(origin=there if any(there) else ())

    @property
    def inner(self) -> tuple[tuple[str, float], ...]:
        """The names and values of parameters that it has beside its coefficient."""
        return () if self.bend is None else self.bend.inner

    def with_bend(self, bend: Bend) -> "Term":
        """The same powers times another function that bends."""
        return self._replace(bend=bend)

    @property
    def factor(self) -> "Term":
        """The powers alone."""
        return self._replace(function="", wave=(0,) * len(self.powers), bend=None)


def _counted(name: str, origin: float) -> str:
    """A variable that counts from elsewhere, in words."""
    return f"({name} {'-' if origin > 0 else '+'} {abs(origin):.15g})" if origin else name


def weighted_sum(weights: Sequence[float], names: Sequence[str], times: str) -> str:
    """A sum in words, such as x - 0.5 y, without what has the weight 0; times: what stands between a weight and a name."""
    text = ""
    for w, name in zip(weights, names, strict=True):
        if w:
            size = f"{abs(w):.3g}"
            sign = ("-" if w < 0 else "") if not text else (" - " if w < 0 else " + ")
            text += sign + (name if size == "1" else f"{size}{times}{name}")
    return text


def inner_of(chosen: Iterable[Iterable[Term]]) -> list[tuple[str, float]]:
    """The names and values of the parameters inside the terms of all states, each once, in order."""
    return list(dict.fromkeys(key for row in chosen for term in row for key in term.inner))


def with_inner(terms: Iterable[Term], old: Sequence[tuple[str, float]], new: Iterable[float]) -> list[Term]:
    """Terms with new parameters inside in place of the old ones."""
    place = dict(zip(old, map(float, new), strict=True))

    def changed(term: Term) -> Term:
        bend = term.bend
        return term if bend is None else term.with_bend(bend.with_inner([place.get(key, key[1]) for key in bend.inner]))

    return [changed(term) for term in terms]


def polynomials(n: int, degree: int) -> list[Term]:
    """All products of at most `degree` of n variables, the constant first."""
    none = (0,) * n
    found = []
    for k in range(degree + 1):
        for which in itertools.combinations_with_replacement(range(n), k):
            found.append(Term(tuple(which.count(i) for i in range(n)), "", none))
    return found


def powers(n: int, degree: int) -> list[Term]:
    """The powers of this degree of each of n variables."""
    none = (0,) * n
    return [Term((*none[:i], degree, *none[i + 1 :]), "", none) for i in range(n)]


def waves(n: int, angles: Iterable[int]) -> list[Term]:
    """Sines and cosines of the variables that may be angles.

    Of one or two variables also those of twice an angle, of sums and differences, and products with a variable; of more,
    sines of differences.
    """
    none = (0,) * n
    angles = list(angles)

    def sum_of(*pairs: tuple[int, int]) -> tuple[int, ...]:
        w = [0] * n
        for i, k in pairs:
            w[i] = k
        return tuple(w)

    singles = [unit(n, i) for i in angles]
    if n > 2:
        apart = [sum_of((i, 1), (j, -1)) for i, j in itertools.combinations(angles, 2)]
        return [Term(none, name, w) for w in singles for name in ("sin", "cos")] + [Term(none, "sin", w) for w in apart]
    doubles = [sum_of((i, 2)) for i in angles]
    pairs = [sum_of((i, 1), (j, k)) for i, j in itertools.combinations(angles, 2) for k in (1, -1)]
    plain = [Term(none, name, w) for w in (*singles, *doubles, *pairs) for name in ("sin", "cos")]
    times = [Term(unit(n, i), name, w) for w in singles for name in ("sin", "cos") for i in range(n)]
    return plain + times


def components(n: int, angles: Iterable[int]) -> list[Term]:
    """Sines and cosines of what may be angles times each other variable: what moves ahead goes v cos(angle) along x."""
    return [Term(unit(n, i), name, unit(n, j)) for j in angles for i in range(n) if i != j for name in ("sin", "cos")]


def drags(n: int, signed: Iterable[int]) -> list[Term]:
    """Absolute values of the variables that change their sign, alone and times these: the drag of a fluid is -c v |v|.

    Of up to three variables times the others, too: a floor that is touched from above damps by v (|x| - x).
    """
    none = (0,) * n
    others = [unit(n, i) for i in range(n)] if n <= 3 else []
    return [Term(powers, "abs", unit(n, j)) for j in signed for powers in dict.fromkeys([none, unit(n, j), *others])]


def roots_and_logarithms(n: int, positive: Iterable[int]) -> list[Term]:
    """Of variables that are positive: sqrt(x), as of what runs out of a tank (Torricelli), and x log(x) (Gompertz)."""
    none = (0,) * n
    return [term for j in positive for term in (Term(none, "sqrt", unit(n, j)), Term(unit(n, j), "log", unit(n, j)))]


def attractions(n: int, pairs: Iterable[tuple[int, int]]) -> list[Term]:
    """x / r^3 and y / r^3 of pairs of variables, r^2 = x^2 + y^2: gravity, and the force between charges."""
    return [Term(unit(n, k), "radial", tuple(map(max, unit(n, i), unit(n, j)))) for i, j in pairs for k in (i, j)]


def unit(n: int, i: int) -> tuple[int, ...]:
    """(n,) 1 at i, else 0."""
    return tuple(int(k == i) for k in range(n))


def crowded(chosen: Sequence[Sequence[Term]], m: int, times: float = 1.0) -> bool:
    """Whether the terms of all states, with m inputs, are more than (so many times) those of an equation that people write.

    Linear ones never are. Sines of differences count as one in each row, the sum over neighbours that couples oscillators.
    """
    terms = [term for row in chosen for term in row]
    sums = [sum(term.couples for term in row) for row in chosen]
    n = len(terms) - sum(max(count - 1, 0) for count in sums)
    return n > times * (CROWDED + m) * len(chosen) and not all(term.linear for term in terms)


def evaluate(terms: Sequence[Term], x: Array) -> Array:
    """(n, terms) values at n rows of states and inputs x."""
    columns = list(x.T)
    return np.stack([np.broadcast_to(term.value(columns), len(x)) for term in terms], axis=1)
