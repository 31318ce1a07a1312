"""The search for an equation of few terms, and its fit."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.solve import solve
from pynode.data.trajectories import Trajectories
from pynode.errors import OK
from pynode.models.trajectories.recipe import polish
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import n_inputs, names_of
from pynode.optim.normal_equations import small_matrices
from pynode.training.curriculum import FitError
from pynode.training.equations.bend_columns import never_negative
from pynode.training.equations.noise_shape import grows_where_slow, shape_along, weights_of
from pynode.training.equations.numbers import Numbers, lost, simplified, told, vague
from pynode.training.equations.saturation import BULKY, bent_equations
from pynode.training.equations.search import FIRST, Candidate, equations, likeliest_first
from pynode.training.equations.sparse_field import sparse_field
from pynode.training.equations.terms import Term, crowded, inner_of, with_inner
from pynode.training.second_order import SecondOrderRun
from pynode.training.second_order_recipe import SecondOrder
from pynode.training.smoothing import Smoothed, smooth
from pynode.training.state import Training, first_states
from pynode.training.verdict.residuals import autocorrelation, speeds
from pynode.training.verdict.trajectories import TOGETHER, doubts
from pynode.training.windows import Data

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

EXACT = 1e-5
"""Residuals below this part of the deviations of the states are those of solvers: no network comes nearer ..."""

CLEAN = 1e-3
"""... and between that and this part, misfit is not told from noise: the network has its chance."""

CLEAR = 0.05
"""Where more than this part of the variance of the data is left, the smoother's noise may be signal, likewise ..."""

MANY = 100
"""... unless this many numbers of a state were read."""

ROWS = 3000
"""About as many times are enough to find terms on."""

BEYOND = 0.25
"""How far beyond the data, in ranges of them, initial states are tried ..."""

RICH = 3
"""Equations that have more terms than this for each state, and products among them, may stand for one that bends."""

STARTS = 16
"""... and how many."""

NOISE = 5.0
"""A state that changes its sign by no more than this many standard deviations of the noise never does."""

ASIDE = 0.01
"""An equation must bear this change of initial states, in ranges of the data."""

OTHER = 0.1
"""Weights are those of other noise, that grows or not, where their logarithms differ by so much in the mean."""

NEAR = 3.0
"""Equations whose log evidence differs by less are named as others that explain the data as well."""


class EquationFit:
    """The search for an equation, and its fit.

    Parameters
    ----------
    model : NeuralODE
        With its options.
    data : Trajectories
    weight : list of arrays or None
    seed : int

    Attributes
    ----------
    plain : Smoothed
        The data smoothed in units of order one, as networks want them.
    run : SecondOrderRun or None
        The fit of the likeliest equation; None where there is none.
    words : str
        What the report says of it.
    """

    def __init__(self, model: "NeuralODE", data: Trajectories, weight: list[Array] | None, seed: int) -> None:
        self.model = model
        self.data = data
        self.weight = weight
        self.seed = seed
        spread = Scaling.of(data.y, False, data.signal)
        self.scaling = spread.unscaled()
        self.plain = smooth(list(data.t), [spread.states(y) for y in data.y])
        self.inside = Data(list(data.t), list(data.y), weight, self.scaling.inputs(data.signal))
        smoothed = in_units(self.plain, spread)
        self.smoothed = replace(smoothed, y=first_states(self.inside, smoothed))
        self.run: SecondOrderRun | None = None
        self.candidates = self._search()
        self.words = ""

    def along(self, states: list[Array]) -> "EquationFit":
        """What is found along better states than the smoother's: (T_i, d) arrays in the units of the data."""
        found = copy.copy(self)
        found.smoothed = replace(self.smoothed, y=states)
        found.run = None
        found.words = ""
        m = n_inputs(self.data)
        few = [c for c in found._search(BULKY) if not crowded(c.terms, m)]  # guesses of more may lead there
        found.candidates = likeliest_first([*few, *found.bent(known=True)])
        return found

    def polynomials_along(self) -> list[Candidate]:
        """Candidates without terms that bend, along the trajectories of its own equation."""
        if self.run is None or not self.run.whole or self.run.stopped:
            return []
        found = copy.copy(self)
        found.smoothed = replace(self.smoothed, y=self.run.training.states)
        return found._search(1.0)

    def bent(self, known: bool = False) -> list[Candidate]:
        """Candidates with terms that bend; known: the states are better than the smoother's."""
        inside, smoothed = self._part()
        with small_matrices(1):
            return bent_equations(inside, smoothed, self.search_options(), known)

    def with_candidates(self, candidates: list[Candidate], callback: Any = None) -> "EquationFit":
        """The fit of the likeliest of these and its own candidates; itself where that is its own."""
        both = likeliest_first([*self.candidates, *candidates])
        if not candidates or (self.candidates and both[0] is self.candidates[0]):
            return self
        found = copy.copy(self)
        found.run = None
        found.words = ""
        found.candidates = both
        found.train(callback)
        return self if found.run is None else found

    def _search(self, most: float = np.inf) -> list[Candidate]:
        inside, smoothed = self._part()
        with small_matrices(1):
            return equations(inside, smoothed, self.search_options(), most)

    def _part(self) -> tuple[Data, Smoothed]:
        """As many trajectories as terms are found on, of those that observe all states: twice, or in a single row."""
        whole = np.array([bool((np.isfinite(y).sum(axis=0) >= min(2, len(y))).all()) for y in self.inside.y])
        some = np.flatnonzero(whole)
        if sum(len(self.inside.t[i]) for i in some) > ROWS:
            order = some[np.random.default_rng(self.seed).permutation(len(some))]
            count = np.cumsum([len(self.inside.t[i]) for i in order])
            some = np.sort(order[: max(1, int(np.searchsorted(count, ROWS)))])
        if len(some) == len(self.inside):
            return self.inside, self.smoothed
        smoothed = self.smoothed
        y, slope = ([x[i] for i in some] for x in (smoothed.y, smoothed.slope))
        return self.inside.take(some), replace(smoothed, y=y, slope=slope)

    def search_options(self) -> dict[str, Any]:
        """Options of `pynode.solve` for equations that may be wrong."""
        options = self._options() | {"max_steps": 4000}
        if self.model.method == "auto":
            options["method"] = "dopri5"  # programs of implicit methods take longer to write than all solves of a search
        return options

    def _options(self) -> dict[str, Any]:
        model = self.model
        return {
            "method": model.method,
            **self.scaling.tolerances(min(model.rtol, 1e-7), min(model.atol, 1e-7)),
            "max_steps": 20_000,
        }

    def train(self, callback: Any = None) -> None:
        """Fit the likeliest candidate to whole trajectories."""
        if not self.candidates:
            return
        best = self.candidates[0]
        states = best.fitted.guess.states
        shape = best.fitted.guess.shape
        if len(states) != len(self.inside):
            states = [x.copy() for x in self.smoothed.y]
            shape = 1.0 / weights_of(np.concatenate(states), self.weight)
        windows = (None,) if best.whole else (best.fitted.intervals, None)
        run = self._trained(best.terms, best.coefficients, None, states, self._weighted(shape), callback, windows)
        if run is not None:
            run, shape = self._weighted_again(run, shape, callback)
        self.run = run
        if run is None:
            return
        self.words = self._message()
        if run.whole and not run.stopped and run.covariance is not None:
            self._simplify(run, self._weighted(shape), callback)

    def _weighted_again(self, run: SecondOrderRun, shape: Array, callback: Any) -> tuple[SecondOrderRun, Array]:
        """The run and the shape of its noise; where its residuals say another shape, fitted again by that."""
        if not run.whole or run.stopped:
            return run, shape
        now = shape_along(np.concatenate(run.training.states), self.inside)
        if not np.abs(np.log(now / shape)).mean(axis=0).max() > OTHER:
            return run, shape
        terms, rows = self._moved(run.training.theta)
        again = self._trained(terms, rows, None, run.training.states, self._weighted(now), callback, (None,))
        return (run, shape) if again is None or not again.whole else (again, now)

    def _moved(self, theta: Array) -> tuple[list[list[Term]], list[Array]]:
        """The terms of the likeliest candidate and their coefficients, as the parameters (p,) say."""
        terms = self.candidates[0].terms
        n = sum(map(len, terms))
        old = inner_of(terms)
        rows = np.split(theta[:n], np.cumsum([len(row) for row in terms])[:-1])
        return [with_inner(row, old, theta[n:]) for row in terms], rows

    def _simplify(self, run: SecondOrderRun, inside: Data, callback: Any) -> None:
        """Fit the equation again with the fewer numbers that the data prefer, if they do."""
        terms = self.candidates[0].terms
        theta = run.training.theta
        covariance = np.asarray(run.covariance)
        found = simplified(terms, theta, covariance, not self.crowded)
        if found is None:
            return
        moved, rows = self._moved(found.theta)
        for windows in ((None,), (FIRST, None)):  # where trajectories part fast, those of other numbers are lost at once
            again = self._trained(moved, rows, found.numbers, run.training.states, inside, callback, windows)
            if again is not None and again.whole and lost(run, again) < found.gain:
                break
        else:
            return
        self.run = again
        deviation = np.sqrt(np.diag(covariance))
        names = names_of(self.data)
        self.words += "".join("; " + told(claim, terms, names, theta, deviation) for claim in found.claims)

    def _trained(
        self,
        terms: Sequence[Sequence[Term]],
        coefficients: Sequence[Array],
        numbers: Numbers | None,
        states: list[Array],
        inside: Data,
        callback: Any,
        windows: tuple[int | None, ...],
    ) -> SecondOrderRun | None:
        """An equation fitted from there over windows of so many intervals; None where that fails."""
        m = n_inputs(self.data)
        field = sparse_field(terms, coefficients, m, names_of(self.data), numbers)
        model = self.model
        recipe = SecondOrder(
            windows,
            int(model.max_iter or 100),
            3e-4,
            [],
            0.0,
            "gaussian",
            [],
            self._options(),
            random_state=self.seed,
            kind="found",
        )
        training = Training(field.init(0), [np.array(x, dtype=np.float64) for x in states])
        run = SecondOrderRun(field, inside, training, self.smoothed, recipe, callback=callback)
        run.position = 1
        run.quiet = True
        try:
            run.train()
            polish(run, self.scaling, min(self.model.rtol, 1e-7))
        except FitError:
            return None
        return run

    def _weighted(self, shape: Array) -> Data:
        """The data, weights falling where the noise grows with the state; shape: see `noise_shape`."""
        if not np.ptp(shape):
            return self.inside
        return replace(self.inside, weight=np.split(1.0 / shape, np.cumsum([len(t) for t in self.inside.t])[:-1]))

    @property
    def steady(self) -> bool:
        """Whether the equation can be solved from near the first states of the data, too."""
        rng = np.random.default_rng(self.seed)
        first = np.array([x[0] for x in self.run.training.states]) if self.run is not None else np.zeros((0, self.inside.d))
        which = np.arange(STARTS) % max(len(first), 1)
        if not len(first):
            return False
        least, most = self.box(BEYOND)
        moved = first[which] + ASIDE * (most - least) * rng.standard_normal((STARTS, self.inside.d))
        return bool(self.solved(np.clip(moved, least, most)).all())

    def box(self, beyond: float) -> tuple[Array, Array]:
        """(least, most) of states up to this part of the data's range beyond them.

        Those that never change sign keep it, and those in a logarithm stay above 0.
        """
        rows = np.concatenate(self.inside.y)
        low = np.nanmin(rows, axis=0)
        high = np.nanmax(rows, axis=0)
        noise = NOISE * np.sqrt(np.nan_to_num(self.smoothed.variance, nan=0.0))
        small = np.minimum(noise, 0.5 * (high - low))
        low = np.where((low < 0) & (low > -small), 0.0, low)
        high = np.where((high > 0) & (high < small), 0.0, high)
        reach = beyond * (high - low)
        least = np.where(low >= 0, np.maximum(low - reach, 0.0), low - reach)
        most = np.where(high <= 0, np.minimum(high + reach, 0.0), high + reach)
        logarithm = [any(term.function == "log" and term.wave[j] for term in self.terms) for j in range(len(low))]
        least = np.where(logarithm, np.maximum(least, 0.5 * low), least)
        return np.asarray(least, dtype=np.float64), np.asarray(most, dtype=np.float64)

    def solved(self, starts: Array) -> NDArray[np.bool_]:
        """(n,) whether the equation can be solved from initial states (n, d) as long as the data are."""
        run: Any = self.run
        inside = self.inside
        longest = max(range(len(inside)), key=lambda i: inside.t[i][-1] - inside.t[i][0])
        t = inside.t[longest][[0, -1]]
        signal = None if inside.signal is None else inside.signal.take([longest] * len(starts))
        options = self.search_options()
        found = solve(run.field, starts, t, run.training.theta, inputs=signal, errors="ignore", **options)
        return np.atleast_1d(found.status == OK)

    @property
    def final(self) -> bool:
        """Whether no network is to be tried."""
        return self.model.structure == "equation" or self.accepted or (self.run is not None and self.run.stopped)

    @property
    def crowded(self) -> bool:
        """Whether it has more terms than an equation that people write. A linear one may have any number of them."""
        return bool(self.candidates) and crowded(self.candidates[0].terms, n_inputs(self.data))

    @property
    def rich(self) -> bool:
        """Whether one with terms that bend may be behind it: it has many terms, or functions of what is never negative."""
        positive = never_negative(np.concatenate(self.smoothed.y))
        if any(any(w for w, p in zip(term.wave, positive, strict=False) if p) for term in self.terms):
            return True
        return self.long

    @property
    def long(self) -> bool:
        """Whether it has many terms, some of which are not linear."""
        return len(self.terms) > RICH * self.inside.d and not all(term.linear for term in self.terms)

    @property
    def terms(self) -> list[Term]:
        """Those of all states."""
        return [term for row in self.candidates[0].terms for term in row] if self.candidates else []

    @property
    def accepted(self) -> bool:
        """Whether it explains the data as far as that can be told, so that no network can be better."""
        run = self.run
        if (
            self.crowded
            or run is None
            or run.stopped
            or run.fitted is None
            or run.whole != self.candidates[0].whole
            or not self.steady
        ):
            return False
        measured = run.seen & ~run.data.still
        relative = np.sqrt(run.variance / run.spread)[measured]
        if (relative < EXACT).all():
            return True
        many = (~np.isnan(np.concatenate(self.inside.y))).sum(axis=0)[measured] >= MANY
        if not ((relative > CLEAN) & (many | (relative**2 < CLEAR))).all():
            return False
        inner = inner_of(self.candidates[0].terms)
        if inner and (vague(run, run.field.n_params - len(inner)) or (autocorrelation(run)[measured] > TOGETHER).any()):
            return False
        return not self.misses_jumps and not doubts(run, self.data.names, self.data.y)

    @property
    def misses_jumps(self) -> bool:
        """Whether its noise grows with a state only where that is fast: this may be misfit."""
        run: Any = self.run
        states = np.concatenate(run.training.states)
        return not grows_where_slow(np.concatenate(self.inside.y) - states, states, speeds(run)).all()

    def _message(self) -> str:
        best = self.candidates[0]
        n = sum(map(len, best.terms))
        words = f"an equation of {n} terms, chosen by evidence"
        near = [c for c in self.candidates[1:] if best.fitted.evidence - c.fitted.evidence < NEAR and c.whole == best.whole]
        texts = [text for text in dict.fromkeys(map(self._text, near)) if text != self._text(best)]
        if texts:
            words += f"; within {NEAR:g} of its log evidence: " + " / ".join(texts[:3])
        return words

    def _text(self, candidate: Candidate) -> str:
        """The terms of a candidate."""
        names = names_of(self.data)
        return "; ".join(
            f"{names[i]}: " + ", ".join(term.text(names) for term in terms) for i, terms in enumerate(candidate.terms)
        )


def in_units(found: Smoothed, scaling: Scaling) -> Smoothed:
    """Smoothed states in the units of the data."""
    return Smoothed(
        [scaling.states_back(y) for y in found.y],
        [slope * scaling.scale for slope in found.slope],
        found.variance * scaling.scale**2,
    )
