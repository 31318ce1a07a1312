"""Numbers of an equation that are one, or the same: dx/dt = v, what one state loses and another gains, mu (v - x^2 v).

Two coefficients of 0.302 +- 0.003 and -0.299 +- 0.002 are one number. Left free, they make amplitudes, periods and sums
uncertain that the data know well.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field
from pynode.training.equations.bends import LONGEST, SCALE
from pynode.training.equations.terms import Term, evaluate, inner_of

if TYPE_CHECKING:
    from pynode.training.second_order import SecondOrderRun

Array = NDArray[np.float64]

VELOCITY = np.log(4.0)
"""-log of the prior odds that the coefficient of another state alone is 1."""

RARE = np.log(16.0)
"""The same that some coefficient is 1 or -1, shared by all coefficients; and that some two are one number but for their
sign, shared by all pairs of one row or one degree."""

AGAIN = 4.0
"""Each such claim that holds makes others of its kind likelier: k of them by the factor 1 + 4 k, as a gamma distribution of
shape 1/4 for how many there are says."""

FLOW = np.log(2.0)
"""-log of the prior odds that two coefficients of one term, which is in two rows and of opposite signs there, are the same:
what flows from one state into another; and those of the two components of a force to a centre."""

KNOWN = 1e-9
"""A combination of coefficients whose deviation is a smaller part of what it was is known from others."""

MOST = 100
"""Of more coefficients than this only velocities, flows, and what is 1 are looked for."""

SURE = 3.0
"""The data tell a coefficient that is more than so many standard deviations from 0."""

POINTS = 4
"""At so many points for each term a field is asked for its numbers ..."""

WHOLE = 1e-6
"""... which are whole there but for rounding."""


class Numbers(NamedTuple):
    """What the coefficients of an equation are, in the order of its rows.

    Attributes
    ----------
    which : tuple of int
        The parameter of each; -1: none.
    factor : tuple of float
        1 or -1, times that parameter; alone where there is none.
    """

    which: tuple[int, ...]
    factor: tuple[float, ...]

    @classmethod
    def free(cls, n: int) -> "Numbers":
        """A parameter for each of n coefficients."""
        return cls(tuple(range(n)), (1.0,) * n)

    @classmethod
    def shared(cls, which: Sequence[int], coefficients: Sequence[float]) -> "Numbers":
        """Coefficients whose `which` is one positive number are one parameter; 0: a parameter of its own; -1: known."""
        order: dict[int, int] = {}
        for k, shared in enumerate(which):
            if shared >= 0:
                order.setdefault(shared or -k - 1, len(order))
        place = [order[shared or -k - 1] if shared >= 0 else -1 for k, shared in enumerate(which)]
        lead = [coefficients[place.index(p)] if p >= 0 else 1.0 for p in place]
        factor = [-1.0 if c * of < 0 else 1.0 for c, of in zip(coefficients, lead, strict=True)]
        return cls(tuple(place), tuple(factor))

    @property
    def n(self) -> int:
        """How many parameters there are."""
        return max(self.which, default=-1) + 1

    def first(self) -> list[int]:
        """Of each parameter the first coefficient that it is."""
        return [self.which.index(k) for k in range(self.n)]

    def of(self, coefficients: Sequence[float] | Array) -> list[float]:
        """The parameters for given coefficients."""
        return [float(self.factor[j] * coefficients[j]) for j in self.first()]


class Claim(NamedTuple):
    """That a coefficient is `sign` times the other, or, where the other is -1, `sign` itself.

    Attributes
    ----------
    one, other : int
        The coefficients are counted first, then the numbers inside terms.
    sign : float
    odds : float
        -log of the prior odds.
    kind : {"velocity", "flow", "one", "same", "scale"}
        A velocity; what flows from one state into another, or a force; 1 or -1; one number for two coefficients; the same
        inside two terms.
    """

    one: int
    other: int
    sign: float
    odds: float
    kind: str

    @property
    def early(self) -> bool:
        """Whether it is asked for before the others."""
        return self.kind in ("velocity", "flow")


class Simplified(NamedTuple):
    """Numbers that the data prefer to as many as there are coefficients.

    Attributes
    ----------
    numbers : Numbers
    theta : (p,) array
        The likeliest coefficients and what is inside terms, given that; linearised.
    claims : list of Claim
        What is taken to hold, the surest first.
    gain : float
        By how much log evidence and prior odds may fall before as many numbers as coefficients are likelier.
    """

    numbers: Numbers
    theta: Array
    claims: list[Claim]
    gain: float


def simplified(terms: Sequence[Sequence[Term]], theta: Array, covariance: Array, few: bool = True) -> Simplified | None:
    """The numbers that an equation may have fewer of; None where it needs one for each coefficient.

    A claim is compared with a coefficient that is anything of its order by their evidence: the Gaussian posterior where
    the claim holds over a Gaussian prior there (Savage-Dickey; Dickey 1971, doi:10.1214/aoms/1177693507). The likeliest
    is taken, the others follow it, and so on.

    Parameters
    ----------
    terms : sequence of sequences of Term
        Of each state.
    theta : (p,) array
        Their coefficients, then what is inside terms.
    covariance : (p, p) array
        Of these.
    few : bool, default True
        Else only rows are looked at that may say that a state is another one's derivative.
    """
    n = sum(map(len, terms))
    if not np.isfinite(covariance).all() or not np.isfinite(theta).all():
        return None
    at = theta.copy()
    spread = covariance.copy()
    inner = inner_of(terms)
    groups = Groups(n + len(inner))
    claims = list(_claims(terms, theta, few))
    table = Table.of(claims, theta)
    first = table.variances(covariance)
    taken: list[Claim] = []
    likelier = np.zeros(len(claims))
    gain = 0.0
    while claims and groups.free > 1:  # something is left to be fitted
        scores = np.where(groups.would_change(table), table.scores(at, spread, first) + likelier, -np.inf)
        # that the last two are the same uses both: one of them is fitted in any case
        joined = groups.joins(table) if groups.free == 2 else np.zeros(len(claims), dtype=bool)
        best = int(np.lexsort((scores, joined & (scores > 0), table.early & (scores > 0)))[-1])
        if not scores[best] > 0:
            break
        claim = claims[best]
        a, b = _constraint(claim, len(theta))
        along = spread @ a
        variance = float(a @ along)
        gain += float(scores[best]) + 0.5 * (float(a @ at) - b) ** 2 / variance
        at += along * ((b - float(a @ at)) / variance)
        spread -= np.outer(along, along) / variance
        groups.take(claim)
        taken.append(claim)
        if not claim.early:
            likelier[table.kind == claim.kind] = np.log1p(AGAIN * sum(claim.kind == other.kind for other in taken))
    positive = np.array([False] * n + [name == SCALE for name, _ in inner])
    at[positive] = np.maximum(at[positive], theta[positive] * np.exp(-LONGEST))  # what is linearised may take it below 0
    for k in range(n, n + len(inner)):
        at[k] = at[groups.root[k]]  # those of the same value are one parameter
    return Simplified(groups.numbers(n), at, taken, gain) if taken else None


def told(claim: Claim, terms: Sequence[Sequence[Term]], names: Sequence[str], theta: Array, deviation: Array) -> str:
    """What a claim takes to hold, in words, and what the data say: coefficients theta with standard deviations."""
    where = [(i, term) for i, row in enumerate(terms) for term in row]
    inner = inner_of(terms)

    def place(k: int) -> str:
        key = inner[k - len(where)] if k >= len(where) else None
        i, term = where[k] if key is None else next((i, term) for i, term in where if key in term.inner)
        return f"{'' if key is None else key[0] + ' of '}{term.text(names)} in d{names[i]}/dt"

    def data(k: int) -> str:
        return f"{theta[k]:.6g} +- {deviation[k]:.2g}"

    k, j = claim.one, claim.other
    if j >= 0:
        same = "the same number" if claim.sign > 0 else "the same number but for its sign"
        return f"{place(k)} and {place(j)} are taken to have {same} (the data say {data(k)} and {data(j)})"
    if claim.kind == "velocity":
        i, term = where[k]
        return f"d{names[i]}/dt = {term.text(names)} is taken to be exact (the data say {data(k)} times)"
    return f"the number of {place(k)} is taken to be {claim.sign:.0f} (the data say {data(k)})"


def lost(free: "SecondOrderRun", tied: "SecondOrderRun") -> float:
    """By how much the log likelihood falls from one fit to another with the same noise in each state."""
    fall = np.log(tied.variance / free.variance)
    n = (~np.isnan(np.concatenate(free.data.y))).sum(axis=0)
    return float(0.5 * (n * fall)[free.seen].sum())


def vague(run: "SecondOrderRun", n: int) -> bool:
    """Whether the data do not tell one of the first n parameters, the coefficients: terms may stand in for others then."""
    if run.covariance is None:
        return True
    deviation = np.sqrt(np.diag(run.covariance))
    return not bool((np.abs(run.training.theta) > SURE * deviation)[:n].all())


def _claims(terms: Sequence[Sequence[Term]], theta: Array, few: bool) -> Iterator[Claim]:
    """What may hold of the coefficients."""
    where = [(i, term) for i, row in enumerate(terms) for term in row]
    n = len(where)
    alone = [len(terms[i]) == 1 and _is_another_state(term, i, len(terms)) for i, term in where]
    rows = {term: [k for k, (_, other) in enumerate(where) if other == term] for _, term in where}
    for k in range(n):
        if alone[k] and theta[k] > 0:
            yield Claim(k, -1, 1.0, VELOCITY, "velocity")
        elif few:
            yield Claim(k, -1, float(np.sign(theta[k])), RARE + np.log(n), "one")
    for own in rows.values():
        if few and len(own) == 2 and theta[own[0]] * theta[own[1]] < 0:
            yield Claim(own[0], own[1], -1.0, FLOW, "flow")
    if not few or n > MOST:
        return
    pairs = [pair for pair in itertools.combinations(range(n), 2) if _may_share(*(where[k] for k in pair))]
    for k, j in pairs:
        sign = float(np.sign(theta[k] * theta[j]))
        force = _central(where[k][1], where[j][1]) and sign > 0
        yield Claim(k, j, sign, *((FLOW, "flow") if force else (RARE + np.log(len(pairs)), "same")))
    pairs = [pair for pair in itertools.combinations(range(n, len(theta)), 2) if _alike(terms, *(k - n for k in pair))]
    for k, j in pairs:
        yield Claim(k, j, 1.0, RARE + np.log(len(pairs)), "scale")


def _central(one: Term, other: Term) -> bool:
    """Whether two terms are components of one force."""
    return one.function == other.function == "radial" and one.wave == other.wave


def _may_share(one: tuple[int, Term], other: tuple[int, Term]) -> bool:
    """Whether two (state, term) may have one number: a factor of a row, or rates in the same units."""
    return one[0] == other[0] or one[1].degree == other[1].degree


def _alike(terms: Sequence[Sequence[Term]], k: int, j: int) -> bool:
    """Whether two of the parameters inside terms are those of the same function, of one or of two variables."""
    inner = inner_of(terms)
    bends = [next(t.bend for row in terms for t in row if t.bend and inner[i] in t.bend.inner) for i in (k, j)]
    kinds = {(inner[i][0], bend.kind, bend.n) for i, bend in zip((k, j), bends, strict=True)}
    return len(kinds) == 1


def _is_another_state(term: Term, i: int, d: int) -> bool:
    return term.degree == 1 and not term.function and not term.origin and any(term.powers[j] for j in range(d) if j != i)


def _constraint(claim: Claim, p: int) -> tuple[Array, float]:
    """(a, b): the claim says a @ theta = b."""
    a = np.zeros(p)
    a[claim.one] = 1.0
    if claim.other < 0:
        return a, claim.sign
    a[claim.other] = -claim.sign
    return a, 0.0


class Table(NamedTuple):
    """Claims as arrays.

    Attributes
    ----------
    one, other : (n,) int arrays
        `other` is `one` where there is none.
    pair : (n,) bool array
        Whether there is another.
    sign, odds, early, kind : (n,) arrays
        See `Claim`.
    size : (n,) array
        Deviation of the prior of what a claim says is 0.
    """

    one: NDArray[np.intp]
    other: NDArray[np.intp]
    pair: NDArray[np.bool_]
    sign: Array
    odds: Array
    early: NDArray[np.bool_]
    kind: NDArray[np.str_]
    size: Array

    @classmethod
    def of(cls, claims: Sequence[Claim], theta: Array) -> "Table":
        """For coefficients theta."""
        one = np.array([claim.one for claim in claims], dtype=np.intp)
        other = np.array([claim.other for claim in claims], dtype=np.intp)
        pair = other >= 0
        other = np.where(pair, other, one)
        sign = np.array([claim.sign for claim in claims])
        odds = np.array([claim.odds for claim in claims])
        early = np.array([claim.early for claim in claims], dtype=bool)
        kind = np.array([claim.kind for claim in claims], dtype=np.str_)
        size = np.where(pair, np.hypot(theta[one], theta[other]), 1.0)
        return cls(one, other, pair, sign, odds, early, kind, size)

    def variances(self, spread: Array) -> Array:
        """(n,) of what the claims say is 0, coefficients having this covariance."""
        own = np.diag(spread)
        both = own[self.one] + own[self.other] - 2.0 * self.sign * spread[self.one, self.other]
        return np.where(self.pair, both, own[self.one])

    def scores(self, at: Array, spread: Array, first: Array) -> Array:
        """(n,) log odds that they hold, -inf where the data do not know it, or others decide it.

        first: the variances before any claim held.
        """
        variance = self.variances(spread)
        off = at[self.one] - self.sign * np.where(self.pair, at[self.other], 1.0)
        known = (first > 0) & (variance > KNOWN * first) & (self.size > 0)
        with np.errstate(all="ignore"):
            evidence = np.log(self.size) - 0.5 * np.log(variance) - 0.5 * off**2 / variance
        return np.where(known, evidence + np.where(self.pair, 0.0, 0.5) - self.odds, -np.inf)


class Groups:
    """Which coefficients, and numbers inside terms, are the same but for their sign, and which are known.

    Parameters
    ----------
    n : int
        How many there are.
    """

    def __init__(self, n: int) -> None:
        self.root = np.arange(n)
        self.sign = np.ones(n)
        self.known = np.zeros(n, dtype=bool)

    def would_change(self, table: Table) -> NDArray[np.bool_]:
        """Which claims say something about what is not known or the same already."""
        free = ~self.known[self.root[table.one]] | ~self.known[self.root[table.other]]
        return np.asarray(free & (~table.pair | (self.root[table.one] != self.root[table.other])))

    def joins(self, table: Table) -> NDArray[np.bool_]:
        """Which claims say that two numbers that are not known are the same."""
        free = ~self.known[self.root[table.one]] & ~self.known[self.root[table.other]]
        return np.asarray(free & (self.root[table.one] != self.root[table.other]))

    @property
    def free(self) -> int:
        """How many numbers are not known."""
        return int((~self.known[np.unique(self.root)]).sum())

    def take(self, claim: Claim) -> None:
        """Let it hold."""
        k = self.root[claim.one]
        if claim.other < 0:
            self.sign[self.root == k] *= self.sign[claim.one] * claim.sign
            self.known[k] = True
            return
        other = self.root[claim.other]
        into, gone = (other, k) if self.known[other] else (k, other)
        there = self.root == gone
        self.sign[there] *= self.sign[claim.one] * self.sign[claim.other] * claim.sign
        self.root[there] = into

    def numbers(self, n: int) -> Numbers:
        """For the first n a parameter for each group that is not known; its first coefficient has the factor 1."""
        roots = self.root[:n].tolist()
        order = {root: k for k, root in enumerate(dict.fromkeys(r for r in roots if not self.known[r]))}
        lead = {root: 1.0 if self.known[root] else self.sign[roots.index(root)] for root in roots}
        factor = tuple(float(s * lead[root]) for s, root in zip(self.sign[:n], roots, strict=True))
        return Numbers(tuple(order.get(root, -1) for root in roots), factor)


def numbers_in(field: Field, terms: Sequence[Term], theta: Array) -> tuple[NDArray[np.intp], Array] | None:
    """What a field is made of; None where it is no sum of these terms with such numbers.

    Its derivatives with respect to theta are asked at random points, where they are sums of terms with the factors 1 or -1.

    Returns
    -------
    which : (d, terms) int array
        k + 1 where the coefficient of a term is parameter k, or minus it; -1 where it is 1 or -1; 0: the term is not there.
    coefficients : (d, terms) array
    """
    rng = np.random.default_rng(0)
    n = field.d + field.inputs
    x = rng.uniform(0.5, 2.0, (POINTS * len(terms), n))
    roots = [any(term.function in ("sqrt", "log") and term.wave[j] for term in terms) for j in range(n)]
    x[:, ~np.array(roots)] *= rng.choice([-1.0, 1.0], (len(x), n - sum(roots)))
    origins = np.array([term.origins for term in terms])
    x += origins[np.abs(origins).argmax(axis=0), np.arange(n)]  # products are told apart near where they count from
    A = evaluate(terms, x)
    which = np.zeros((field.d, len(terms)), dtype=np.intp)
    coefficients = np.zeros(which.shape)

    def slopes(theta: Array) -> Array:
        return np.asarray(field(np.zeros(len(x)), x[:, : field.d], theta, x[:, field.d :] if field.inputs else None))

    known = slopes(np.zeros(len(theta)))
    values = [known, *(slopes(one) - known for one in np.eye(len(theta)))]
    for k, value in enumerate(values):
        factor = np.asarray(np.linalg.lstsq(A, value, rcond=None)[0])
        whole = np.round(factor)
        if np.abs(factor - whole).max() > WHOLE or np.abs(whole).max() > 1:
            return None
        there = whole.T != 0
        if which[there].any():
            return None  # a sum of numbers
        which[there] = k or -1
        coefficients[there] = whole.T[there] * (theta[k - 1] if k else 1.0)
    return which, coefficients


def velocities(which: NDArray[np.intp], coefficients: Array, terms: Sequence[Term]) -> list[int]:
    """The states whose derivative is another state, no number being fitted; arguments as `numbers_in` gives them."""
    d = len(which)
    found = []
    for i in range(d):
        there = np.flatnonzero(which[i]).tolist()
        known = len(there) == 1 and which[i, there[0]] == -1 and coefficients[i, there[0]] == 1.0
        if known and _is_another_state(terms[there[0]], i, d):
            found.append(i)
    return found
