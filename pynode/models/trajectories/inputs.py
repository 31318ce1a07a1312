"""Control inputs as a model takes them: how they go between their times, and by how much later they take effect.

Both are chosen by evidence where they are left open. How they go is told by polynomials along smoothed data first
(`pynode.training.equations.input_evidence`); else, and for delays, a small network (or the field of one's own) is fitted to
short windows of a part of the data with each of the candidates.
"""

import copy
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.delays import delayed, of_kind
from pynode.data.signal import Kind, Signal
from pynode.data.trajectories import Trajectories
from pynode.errors import users_level
from pynode.models.options import widths
from pynode.models.trajectories.recipe import prepare
from pynode.models.trajectories.series import check_inputs
from pynode.optim.levenberg_marquardt import log_evidence
from pynode.training.curriculum import FitError, FitWarning
from pynode.training.equations.input_evidence import InputEvidence, input_evidence
from pynode.training.second_order import SecondOrderRun
from pynode.training.smoothing import smooth

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

CHOICE: tuple[Kind, ...] = ("linear", "previous", "cubic")
"""What plain values may mean; the first is taken where the data do not tell."""

AHEAD = 5.0
"""Another one is taken where its log evidence is ahead by more than this."""

CLEAR = 50.0
"""Where holding inputs is ahead of straight lines by more than this, cubics are not tried."""

ROWS = (240, 600)
"""So many times of the data, or a few more, are what the kind is chosen by, and what delays are, on request. A small network
is so far from some fields that chance decides: what speaks against straight lines has to do so at both ends of the data."""

MANY = 3000
"""So many times are enough for a look along smoothed data."""

WINDOWS = ((10,), (10, 30))
"""Intervals of the windows of the trial; with unobserved states, which short windows say little about: the second."""

TRIAL_STEPS = 30
"""The most steps of a stage of the trial."""

HIDDEN = 6
"""The widest layer of the trial."""

FARTHEST = 20
"""The longest delay that is tried, in sampling intervals."""

CLOSE = 3
"""How many of the delays that slopes favour are tried on the data, for each input; then those next to the best, ..."""

MOST = 20
"""... until about so many have been tried."""

UNTOLD = (
    "no trial fit could tell how control inputs go between their times, or how late they take effect: straight lines and no "
    "delay are taken where input_kind and input_delay leave it open; say what you know of them"
)


@dataclass(frozen=True)
class Choice:
    """How control inputs are taken.

    Attributes
    ----------
    kind : str
        Between their times; "none" without inputs.
    delay : (m,) array
    evidence : dict of str -> float
        Log evidence of what was tried, less that of the best.
    """

    kind: str
    delay: Array
    evidence: dict[str, float]

    def report(self) -> dict[str, Any]:
        """As plain data."""
        return {"kind": self.kind, "delay": self.delay.tolist(), "log_evidence": self.evidence}


def choose_inputs(
    model: "NeuralODE", data: Trajectories, plain: bool, known: bool, seed: int
) -> tuple[Trajectories, Choice]:
    """The data with control inputs as they are taken, and how that is.

    Parameters
    ----------
    model : NeuralODE
        With its options.
    data : Trajectories
    plain : bool
        The inputs were given as plain values at the times of the data.
    known : bool
        The fit is one with a protocol.
    seed : int
    """
    signal = data.signal
    delays = model.input_delay
    if signal is None:
        if not _is_auto(delays) and np.any(delays):
            raise ValueError(f"input_delay={delays!r} needs control inputs: give u=")
        return data, Choice("none", np.zeros(0), {})
    if known and (_is_auto(delays) or np.any(delays)):
        raise ValueError(f"input_delay={delays!r} does not go with doses, observe, initial or error models")
    delay = np.zeros(signal.m) if _is_auto(delays) else np.asarray(delays, dtype=np.float64)
    if delay.ndim == 1 and len(delay) not in (1, signal.m):
        raise ValueError(f"input_delay={delays!r} has {len(delay)} numbers for {signal.m} control inputs")
    delay = np.array(np.broadcast_to(delay, (signal.m,)))
    check_inputs(signal, data.t, delay, data.clock)
    if signal.kind != "constant" and delay.any():
        reach = max(t[-1] - signal.t[0 if signal.shared else i][0] for i, t in enumerate(data.t))
        if (delay >= reach).any():
            raise ValueError(f"input_delay={delays!r} is {reach:g} or more: nothing but first values would take effect")
    open_kind = plain and model.input_kind == "auto" and not known
    if plain and model.input_kind != "auto":
        data = _with(data, of_kind(signal, model.input_kind))
    if signal.kind == "constant" or known or not (open_kind or _is_auto(delays)):
        assert data.signal is not None
        return data, Choice(data.signal.kind, delay, {})
    evidence: dict[str, float] = {}
    if _is_auto(delays):
        delay = _choose_delay(Trial(model, _part(data, ROWS[1]), seed), evidence)
    if open_kind:
        kind = _choose_kind(model, data, seed, delay, evidence)
        data = _with(data, of_kind(signal, kind))
    assert data.signal is not None
    if not evidence:
        warnings.warn(UNTOLD, FitWarning, stacklevel=users_level())
    return data, Choice(data.signal.kind, delay, evidence)


class Trial:
    """Fits of a small model to short windows of a part of the data."""

    def __init__(self, model: "NeuralODE", data: Trajectories, seed: int) -> None:
        self.data = data
        self.seed = seed
        self.model: Any = copy.copy(model)
        small = tuple(min(n, HIDDEN) for n in widths(model.hidden))
        windows = WINDOWS[bool(model.augment or data.never_observed)]
        plain = {"batch_size": None, "kinetic_energy": 0.0, "jacobian_norm": 0.0, "steer": 0.0, "max_gradient": None}
        self.model.set_params(
            hidden=small,
            windows=windows,
            optimizer="auto",
            n_restarts=1,
            early_stopping=False,
            augment=1 if model.augment == "auto" else model.augment,
            max_iter=TRIAL_STEPS,
            **plain,
        )

    def evidence(self, signal: Signal, delay: Array) -> float:
        """The log evidence of windows; -inf where they cannot be fitted."""
        try:
            run, *_ = prepare(self.model, _with(self.data, signal), None, self.seed, delay)
            if not isinstance(run, SecondOrderRun):
                return -np.inf
            run.quiet = True
            run.train()
        except (FitError, np.linalg.LinAlgError):
            return -np.inf
        return -np.inf if run.fitted is None else log_evidence(run.fitted[2], run.posterior)


def _choose_kind(model: "NeuralODE", data: Trajectories, seed: int, delay: Array, evidence: dict[str, float]) -> Kind:
    """The kind with the highest evidence of several looks at the data; two of these speak against the first kind, or none.

    Where polynomials explain the data as well as smoothing does, they tell alone; else trials at both ends of the data.
    """
    first = CHOICE[0]
    kinds = [kind for kind in CHOICE if kind != "cubic" or np.ptp(delay) == 0]
    looks: list[dict[Any, float]] = []
    looked = _along_smoothed(model, _part(data, MANY), kinds, delay)
    if looked is not None:
        looks.append(dict(zip(kinds, looked.logs, strict=True)))
        if looked.explained:
            evidence |= _less_best(looks[0])
            return _ahead(looks[0])
    total = looks[0] if looks else dict.fromkeys(kinds, 0.0)
    for last in (False, True):
        trial = Trial(model, _part(data, ROWS[0], last), seed + last)
        signal: Any = trial.data.signal
        found: dict[Any, float] = {}
        for kind in kinds:
            if kind != "cubic" or not found["previous"] - found["linear"] > CLEAR:  # else it is not smooth
                found[kind] = trial.evidence(of_kind(signal, kind), delay)
        looks.append(found)
        total = {kind: x + total[kind] for kind, x in found.items() if kind in total}
        best = _ahead(total)
        if best == first or sum(look.get(best, -np.inf) - look[first] > AHEAD for look in looks) > 1:
            break
    else:
        best = first
    evidence |= _less_best(total)
    return best


def _along_smoothed(model: "NeuralODE", data: Trajectories, kinds: Sequence[Kind], delay: Array) -> InputEvidence | None:
    """What polynomials say; None where these are not what is fitted, or where a state is missing."""
    signal = data.signal
    given = model.augment not in (0, "auto")
    if signal is None or model.field is not None or given or model.log or data.never_observed:
        return None
    signals = [delayed(of_kind(signal, kind), delay) for kind in kinds]
    return input_evidence(data.t, data.y, smooth(list(data.t), list(data.y)), signals)


def _ahead(found: dict[Any, float]) -> Kind:
    """The kind that is clearly ahead of the first one, or that."""
    first = CHOICE[0]
    best: Kind = max(found, key=lambda kind: found[kind])
    return best if found[best] - found[first] > AHEAD else first


def _less_best(found: dict[Any, float]) -> dict[str, float]:
    """Log evidence less that of the best; what could not be fitted is left out."""
    fitted = {name: float(x) for name, x in found.items() if np.isfinite(x)}
    best = max(fitted.values(), default=0.0)
    return {name: x - best for name, x in fitted.items()}


def _choose_delay(trial: Trial, evidence: dict[str, float]) -> Array:
    """The delays (m,) with the highest evidence, of those that slopes favour."""
    signal: Any = trial.data.signal
    step = _step(trial.data)
    longest = [x[-1] - x[0] for x in trial.data.t]
    steps = min(FARTHEST, int(max(longest) / step / 4))
    candidates = np.array([float(f"{k * step:.10g}") for k in range(steps + 1)])
    slopes = _Slopes.of(trial.data)
    delay = np.zeros(signal.m)
    for _ in range(1 if signal.m == 1 else 2):
        for j in range(signal.m):
            delay[j] = candidates[int(np.argmin([slopes.misfit(_at(delay, j, c)) for c in candidates]))]
    zero = tuple(np.zeros(signal.m))
    ahead = [zero, tuple(delay)]
    for j in range(signal.m):
        order = np.argsort([slopes.misfit(_at(delay, j, c)) for c in candidates])[:CLOSE]
        ahead += [tuple(_at(delay, j, candidates[k])) for k in order]
    found: dict[tuple[float, ...], float] = {}
    while ahead and len(found) < MOST:
        found |= {each: trial.evidence(signal, np.array(each)) for each in dict.fromkeys(ahead)}
        best = max(found, key=lambda each: found[each])
        ahead = [each for each in _neighbours(best, candidates) if each not in found]
    evidence |= _less_best({f"delay {', '.join(f'{x:.4g}' for x in each)}": x for each, x in found.items()})
    return np.array(best if found[best] - found[zero] > AHEAD or not np.isfinite(found[zero]) else zero)


def _neighbours(delay: tuple[float, ...], candidates: Array) -> list[tuple[float, ...]]:
    """The delays next to these, an input at a time."""
    found = []
    for j, x in enumerate(delay):
        at = int(np.argmin(np.abs(candidates - x)))
        found += [tuple(_at(np.array(delay), j, c)) for c in candidates[max(at - 1, 0) : at + 2] if c != x]
    return found


@dataclass(frozen=True)
class _Slopes:
    """Slopes of smoothed data, explained by quadratic functions of states and inputs: a first look at delays."""

    signal: Signal
    times: list[Array]
    states: list[Array]
    slope: Array

    @classmethod
    def of(cls, data: Trajectories) -> "_Slopes":
        seen = [name not in data.never_observed for name in data.names]
        smoothed = smooth(list(data.t), [y[:, seen] for y in data.y])
        assert data.signal is not None
        return cls(data.signal, list(data.t), list(smoothed.y), np.concatenate(smoothed.slope))

    def misfit(self, delay: Array) -> float:
        """The part of the variance of the slopes that is left."""
        moved = delayed(self.signal, delay)
        u = np.concatenate([moved(t, i) for i, t in enumerate(self.times)])
        x = np.concatenate([np.concatenate(self.states), u], axis=1)
        known = np.isfinite(x).all(axis=1) & np.isfinite(self.slope).all(axis=1)
        x, slope = x[known], self.slope[known]
        x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
        pairs = itertools.combinations_with_replacement(range(x.shape[1]), 2)
        terms = np.column_stack([np.ones(len(x)), x, *[x[:, i] * x[:, j] for i, j in pairs]])
        left = slope - terms @ np.linalg.lstsq(terms, slope, rcond=None)[0]
        return float((left.var(axis=0) / np.maximum(slope.var(axis=0), 1e-300)).mean())


def _at(delay: Array, j: int, value: float) -> Array:
    """The delays, that of input j replaced."""
    return np.where(np.arange(len(delay)) == j, value, delay)


def _step(data: Trajectories) -> float:
    """The median sampling interval."""
    steps = np.concatenate([np.diff(t) for t in data.t])
    return float(np.median(steps[steps > 0]))


def _part(data: Trajectories, rows: int, last: bool = False) -> Trajectories:
    """The first (or the last) trajectories that have so many times together, the last one cut."""
    order = range(len(data))[::-1] if last else range(len(data))
    left = rows
    kept = []
    for i in order:
        if left <= 0:
            break
        n = data.lengths[i]
        many = min(n, left + WINDOWS[0][0])
        kept.append(slice(n - many, n) if last else slice(many))
        left -= n
    some = data.take(order[: len(kept)])
    t = tuple(x[part] for x, part in zip(some.t, kept, strict=True))
    y = tuple(x[part] for x, part in zip(some.y, kept, strict=True))
    return replace(some, t=t, y=y, censored=None)


def _with(data: Trajectories, signal: Signal) -> Trajectories:
    return replace(data, signal=signal)


def _is_auto(delay: Any) -> bool:
    return isinstance(delay, str)


def decided(model: "NeuralODE", choice: Choice) -> "NeuralODE":
    """The model with what was chosen in place of "auto", for fits of the same data that come of it."""
    if not _is_auto(model.input_delay):
        return model
    made = copy.copy(model)
    made.set_params(input_delay=tuple(choice.delay.tolist()))
    return made


def keep_choice(model: "NeuralODE", choice: Choice) -> None:
    """Set what a fit leaves of how control inputs were taken."""
    kind: Any = next((kind for kind in (choice.kind, model.input_kind) if kind in CHOICE), CHOICE[0])
    model.input_kind_ = kind
    if choice.kind != "none":
        model.report_["inputs"] = choice.report()
