"""Whether the data determine rollouts of a learned field: from states between trajectories, and from their first ones.

Of models with control inputs also simulations under other inputs, from states that a warm-up tells.
"""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import evenly
from pynode.data.signal import Signal
from pynode.errors import users_level
from pynode.models.trajectories.intervals.averaged import average_of, is_found, variance_of
from pynode.models.trajectories.intervals.refits import placed
from pynode.models.trajectories.visits import is_network
from pynode.training.curriculum import FitWarning
from pynode.training.equations.averaging import Averaged

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

LOOSE = 0.38
"""Half of the rollouts may be this uncertain, in standard deviations of the noise of a reading: about ten times as much as
those of an equation of four numbers fitted to 2500 readings ..."""

LOOSE_EQUATION = 0.8
"""... and those of an equation that was found twice as much. Of 109 such fits (`benchmarks/systems.py`) one had more, 0.94,
of terms that are not the truth's; the next, relaxation oscillators and chaos with the right terms, had 0.64 at most."""

FORMS = 0.15
"""Other terms than those found, which explain the data about as well, may make every second rollout this much more
uncertain: the root of what their variance adds, in standard deviations of the noise ..."""

MORE = 4 / 3
"""... unless the uncertainty that the coefficients have anyway becomes less than this many times as large. Of 189 equations
(data seeds 0 to 2 of `benchmarks/systems.py`) nine have more of both, among them all three that missed in silence before."""

SURE = 0.03
"""Rollouts that are uncertain by less are not looked at so: that costs as much as a small fit."""

FIRST = 1.0
"""Rollouts from the first states of trajectories may be this uncertain: where most readings are at rest, those from states
between trajectories tell nothing. Of 74 fits (data seed 0 of `benchmarks/systems.py`) two have more, of a nerve, ..."""

FIRST_PART = 0.1
"""... and one more than this, in standard deviations of the states."""

PART = 5e-3
"""They may be this uncertain in any case, in standard deviations of the states."""

SIMULATED = 2.0
"""Simulations under the inputs of the data in reverse order may be this uncertain, in deviations of the noise ..."""

SIMULATED_PART = 0.03
"""... and of the states. Of 36 fits of 18 driven systems of which one output was read, 21 have more of both: 19 of the 24
whose simulations of new records are off by as much, and 2 of the other 12. Halves in another order tell 14 of the 24."""

WARMUP = 50
"""Readings that tell where a simulation starts, half of a trajectory at most."""

STARTS = 12
"""From so many states ..."""

TIMES = 25
"""... at so many times."""

COMPARED = 2000
"""States among which the nearest of another trajectory is looked for."""


def warn_if_loose(model: "NeuralODE") -> None:
    """Warn where rollouts of a network, or of an equation that was found, are uncertain.

    Networks have no covariance where they are large or were trained by gradient descent; then nothing is known.
    """
    found = is_found(model)
    if model.covariance_ is None or not (found or is_network(model)) or model.report_["status"] == "stopped":
        return
    if model.data_ is None or model.log or model.driven_ is not None:
        return
    words = None if model.n_unobserved_ else _words(model, found)
    words = words or _of_simulations(model, found)
    if words is not None:
        model.report_["warnings"].append(words)
        warnings.warn(words, FitWarning, stacklevel=users_level())


def _words(model: "NeuralODE", found: bool) -> str | None:
    """What is loose, if anything is; found: of an equation that was found."""
    data: Any = model.data_
    loosely = f"the data determine the {'equation' if found else 'network'} loosely: every second rollout"
    starts = between(data.y, model.random_state_)
    uncertain, part = uncertainty(model, *starts)
    if uncertain > (LOOSE_EQUATION if found else LOOSE) and part > PART:
        return told(f"{loosely} from states between the trajectories", uncertain, part)
    first, part = uncertainty(model, *beginnings(data.y))
    if first > FIRST and part > FIRST_PART:
        return told(f"{loosely} from the first states of the trajectories", first, part)
    if found and uncertain > SURE and (average := of_forms(model)) is not None:
        wider, part = uncertainty(model, *starts, average)
        added = np.sqrt(max(wider**2 - uncertain**2, 0.0))
        if (wider > LOOSE_EQUATION or (added > FORMS and wider > MORE * uncertain)) and part > PART:
            others = "other terms than these explain the data about as well: with them every second rollout"
            return told(f"{others} from states between the trajectories", wider, part)
    return None


def _of_simulations(model: "NeuralODE", found: bool) -> str | None:
    """What is to be said of simulations under other inputs, if they are uncertain."""
    data: Any = model.data_
    if data.signal is None or data.signal.kind == "constant":
        return None
    uncertain, part = under_other_inputs(model)
    if not (uncertain > SIMULATED and part > SIMULATED_PART):
        return None
    return told(
        f"the data determine the {'equation' if found else 'network'} loosely: a simulation under the inputs of the data "
        "in reverse order",
        uncertain,
        part,
        "simulate(..., interval=) gives bands; a longer record, inputs that vary more",
    )


def under_other_inputs(model: "NeuralODE") -> tuple[float, float]:
    """The standard deviation of the median simulation whose inputs are those of a trajectory in reverse order.

    It starts where the trajectory does; the first readings, of which there are as many as WARMUP, tell the state there.

    Returns
    -------
    in_noise, in_states : float
        Root mean squares over times and states, in standard deviations of the noise and of the states.
    """
    data: Any = model.data_
    long = np.flatnonzero([len(t) > 2 for t in data.t])
    noise, spread = _scales(model)
    found = [(0.0, 0.0)] * (not len(long))
    for i in long[evenly(len(long), STARTS)].tolist():
        signal = data.signal.take([i])
        other = Signal([signal.t[0]], [signal.u[0][::-1]], signal.kind, signal.knots)
        t, start = data.t[i], np.asarray(model.initial_states_[i])
        n = min(WARMUP, len(t) // 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = np.asarray(model.predict(t[:n], start, u=other))
            readings = replace(data.take([i]), t=(t[:n],), y=(path,), signal=other, censored=None)
            _, std = placed(model, readings, start[None]).predict(t[n:][evenly(len(t) - n, TIMES)], return_std=True)
        found.append(_in(std, noise, spread))
    in_noise, in_states = np.median(found, axis=0)
    return float(in_noise), float(in_states)


def told(
    what: str, uncertain: float, part: float, remedy: str = "predict(..., interval=) gives bands, and more trajectories"
) -> str:
    """A sentence on rollouts that are uncertain by so much, in standard deviations of the noise and of the states."""
    size = "cannot be followed as long as the data are"
    if np.isfinite(uncertain):
        much = f"{uncertain:.2g} standard deviations of the noise"
        size = f"is uncertain by {much} or more ({100 * part:.2g} % of the states' own)"
    return f"{what} {size}; {remedy}, or what is known of the equation (field=), make them narrower"


def of_forms(model: "NeuralODE") -> Averaged | None:
    """The average over the forms that an equation may have; None where it cannot be had."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return average_of(model)


def uncertainty(
    model: "NeuralODE", trajectory: NDArray[np.intp], y0: Array, average: Averaged | None = None
) -> tuple[float, float]:
    """The standard deviation of the median rollout from these states, at the times and with the inputs of trajectories.

    By the covariance of the parameters, or by the average over forms of the equation; zeros if there are no states.

    Returns
    -------
    in_noise, in_states : float
        Root mean squares over times and states, in standard deviations of the noise and of the states.
    """
    data: Any = model.data_
    if not len(y0):
        return 0.0, 0.0
    times = [_thinned(data.t[i]) for i in trajectory]
    noise, spread = _scales(model)
    found = []
    for t, i, start in zip(times, trajectory, y0, strict=True):
        signal = None if data.signal is None else data.signal.take([i])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if average is None:
                _, std = model.predict(t, start, u=signal, return_std=True)
            else:
                std = np.sqrt(variance_of(model, average, t, start, {"u": signal}))
        found.append(_in(std, noise, spread))
    in_noise, in_states = np.median(found, axis=0)
    return float(in_noise), float(in_states)


def _scales(model: "NeuralODE") -> tuple[Array, Array]:
    """(d,) standard deviations of the noise and of the readings; infinite where either is 0."""
    data: Any = model.data_
    noise = np.array([model.report_["noise"][name] for name in model.names_])
    spread = np.nanstd(np.concatenate(data.y), axis=0)
    moving = (noise > 0) & (spread > 0)
    return np.where(moving, noise, np.inf), np.where(moving, spread, np.inf)


def _in(std: Array, noise: Array, spread: Array) -> tuple[float, float]:
    """Root mean squares of deviations (T, d) in units of the noise and of the states, where these are finite."""
    moving = np.isfinite(noise)
    both = [float(np.sqrt(np.mean((std[:, moving] / of[moving]) ** 2))) if moving.any() else 0.0 for of in (noise, spread)]
    in_noise, in_states = (x if np.isfinite(x) else np.inf for x in both)
    return in_noise, in_states


def between(states: Any, seed: int) -> tuple[NDArray[np.intp], Array]:
    """(n,) trajectories and (n, d) states half way between one of their states and the nearest of another trajectory.

    Parameters
    ----------
    states : sequence of (T_i, d) arrays
        Of two trajectories at least; rows with gaps are left out.
    seed : int
        Which are drawn.
    """
    which = np.repeat(np.arange(len(states)), [len(y) for y in states])
    rows = np.concatenate(states)
    whole = np.isfinite(rows).all(axis=1)
    rows, which = rows[whole], which[whole]
    rng = np.random.default_rng(seed)
    if len(rows) > COMPARED:
        kept = np.sort(rng.choice(len(rows), COMPARED, replace=False))
        rows, which = rows[kept], which[kept]
    spread = rows.std(axis=0) if len(rows) else np.ones(rows.shape[1])
    scaled = rows / np.where(spread > 0, spread, 1.0)
    found = []
    for i in rng.permutation(len(rows)) if len(states) > 1 else ():
        others = np.flatnonzero(which != which[i])
        if len(others):
            nearest = others[np.argmin(((scaled[others] - scaled[i]) ** 2).sum(axis=1))]
            found.append((which[i], 0.5 * (rows[i] + rows[nearest])))
        if len(found) == STARTS:
            break
    return np.array([i for i, _ in found], dtype=np.intp), np.array([y for _, y in found])


def beginnings(states: Any) -> tuple[NDArray[np.intp], Array]:
    """(n,) trajectories and (n, d) states that they begin with, where those were read; STARTS at most, evenly spread.

    Parameters
    ----------
    states : sequence of (T_i, d) arrays
    """
    whole = np.flatnonzero([len(y) > 1 and bool(np.isfinite(y[0]).all()) for y in states])
    some = whole[evenly(len(whole), STARTS)]
    return some, np.array([states[i][0] for i in some])


def _thinned(t: Array) -> Array:
    """At most so many of the times, first and last among them."""
    return np.asarray(t[evenly(len(t), TIMES)])
