"""What a fit leaves open, in words: misfit, structure in the residuals, stages that did not end, undetermined parameters.

A fit is judged against the noise that the smoother found before anything was fitted, not against a "noise" that follows
the residuals. Thresholds are from 98 fits of known systems: a variance 1.5 times the smoother's is exceeded by 15 of 21 bad
ones and by none of 77 good ones; the lag-1 autocorrelation alone would flag every eighth good one.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.training.curriculum import Run
from pynode.training.second_order import SecondOrderRun
from pynode.training.verdict.causes import at_bounds, codes, stiff, turns
from pynode.training.verdict.driven_residuals import words_for
from pynode.training.verdict.outliers import outliers
from pynode.training.verdict.repeats import repeats
from pynode.training.verdict.residuals import (
    ALIKE,
    EXACT,
    NOTHING,
    PURE,
    READINGS,
    allowed,
    autocorrelation,
    excess,
    follow_inputs,
    larger_where_fast,
    noisy_columns,
    nothing_but_noise,
    placed,
    scatter,
    too_large,
)

Array = NDArray[np.float64]

SLIGHT = 1.2
"""Residuals that follow each other are misfit where their variance exceeds the smoother's estimate by this factor too."""

TOGETHER = 3.0
"""The standardised lag-1 autocorrelation that makes a stage suspicious which ended before it came to a minimum."""

LEFT = 1e-3
"""A stage that found no better point stalled where the linearised problem promises to lower the objective by this part,"""

MOST_PARAMETERS = 20_000
"""A network of at most so many parameters ..."""

MOST_STATES = 3
"""... and states, trained by gradients, is better trained by second order."""

SOLVERS = 1e-10
"""and more than this part of the variance of the data is left, which is what solvers leave."""


def all_doubts(run: Run, data: Trajectories) -> list[str]:
    """What is doubtful about a run that came to its end, and about its data.

    Parameters
    ----------
    run : Run
        All its stages are done.
    data : Trajectories
        What it was fitted to.

    Returns
    -------
    list of str
        Sentences with the likely cause and what helps; empty for a good fit.
    """
    words = [*doubts(run, data.names, data.y), *_unfollowed(run, data.names), *outliers(run, data)]
    return [*words, *repeats(data, noisy_columns(run)[: len(data.names)], bool(words))]


def _unfollowed(run: Run, names: Sequence[str]) -> list[str]:
    """What is to be said of states that the model does not explain where smoothing finds no more in them than noise.

    That speaks against the data, not the model, so `doubts`, by which models are chosen, does not say it.
    """
    count, variance = scatter(run)
    noise = np.nan_to_num(run.smoothed.variance, nan=0.0)
    which = (variance > NOTHING * run.data.spread) & (noise >= PURE * variance) & (count >= READINGS)
    which &= run.data.seen & ~run.data.still
    found = [name for name, yes in zip(names, which, strict=False) if yes]
    return [nothing_but_noise(", ".join(found))] if found else []


def doubts(run: Run, names: Sequence[str], y: Sequence[Array] | None = None) -> list[str]:
    """What is doubtful about a run that came to its end.

    Parameters
    ----------
    run : Run
        All its stages are done.
    names : sequence of str
        Of the states that the user has names for, the first ones.
    y : list of (T_i, d) arrays, optional
        The data in the user's units. Default: those of the run.

    Returns
    -------
    list of str
        Sentences with the likely cause and what helps; empty for a good fit.
    """
    measured = np.flatnonzero(run.data.seen)
    ratio = excess(run)
    count, variance = scatter(run)
    rough = variance > EXACT * run.data.spread
    noise = np.nan_to_num(run.smoothed.variance, nan=0.0)
    z = autocorrelation(run)
    remedy = _remedy(run)
    words = codes(run.data.y if y is None else y, names)

    def named(which: NDArray[np.bool_]) -> str:
        return ", ".join(names[j] if j < len(names) else f"state {j + 1}" for j in measured.tolist() if which[j])

    unexplained = rough & (variance > NOTHING * run.data.spread) & (noise < PURE * variance) & ~run.data.still
    missed = too_large(run) & ~unexplained
    alike = rough & (z > ALIKE) & ~(ratio <= SLIGHT) & ~missed & ~unexplained
    depend = placed(run) & ~missed & ~unexplained & ~alike
    follow = follow_inputs(run)
    faster = larger_where_fast(run)
    fast = (faster > 1) & ~missed & ~unexplained & ~alike & ~depend & ~follow
    if (unexplained & run.data.seen).any():
        words.append(
            f"the model explains hardly anything of {named(unexplained)}: the residuals are as large as the data vary; "
            f"{remedy}"
        )
    if (missed & run.data.seen).any():
        times = ", ".join(f"{np.sqrt(ratio[j]):.2g}" for j in measured if missed[j])
        words.append(
            f"the residuals of {named(missed)} are {times} times what smoothing finds of noise: this is misfit; {remedy}"
        )
    if (alike & run.data.seen).any():
        words.append(
            f"the residuals of {named(alike)} follow each other, as those of noise do not: this is misfit; {remedy}"
        )
    if depend.any():
        words.append(
            f"the residuals of {named(depend)} depend on where the states are, as those of noise do not: this is misfit; "
            f"{remedy}"
        )
    if follow.any():
        words.append(words_for(named(follow)))
    if fast.any():
        times = ", ".join(f"{np.sqrt(faster[j]):.2g}" for j in measured if fast[j])
        words.append(
            f"the residuals of {named(fast)} are {times} times as large where the states are fast as elsewhere: fast parts "
            f"are missed, or the times of readings are not exact; more readings there help most, else {remedy}"
        )
    poor = bool((rough & ~(ratio <= allowed(count)))[measured].any())
    if stiff(run):
        words.append(
            "steps are as short as stability wants them, not as accuracy does: with these parameters the equation is stiff, "
            "and its method is explicit: take method='rodas5p', put fast states at their balance, or bound rates "
            "(pynode.bounded)"
        )
    if isinstance(run, SecondOrderRun):
        words += _of_second_order(run, poor, bool((rough & (z > TOGETHER))[measured].any()))
    return words


def _of_second_order(run: SecondOrderRun, poor: bool, together: bool) -> list[str]:
    """What Levenberg-Marquardt leaves open.

    poor: the residuals are, or may be, more than noise; together: they follow each other.
    """
    words = []
    done = [stage for stage in run.training.stages if stage.windows and stage.kept]
    status = done[-1].status if done else ""
    if (poor or together) and status == "max_iter":
        words.append(
            f"{done[-1].name} ended after max_iter={run.recipe.max_iter} steps, not at a minimum: take a larger max_iter, "
            "or start elsewhere"
        )
    exact = bool((run.variance <= SOLVERS * run.spread)[..., run.seen].all())
    still = bool(done) and done[-1].iterations == 0 and not exact
    if (poor or still) and status == "stalled" and run.posterior.left > LEFT:
        made = "made no step" if still else "ended where no step fits the data better"
        words.append(
            f"{done[-1].name} {made} although the slopes of the loss promise one: tighter tolerances (rtol, atol), other "
            "values of the parameters, or shorter windows may help"
        )
    if not run.posterior.estimated and len(run.coordinates) and poor:
        words.append(
            "the noise was never estimated from the residuals, for training did not settle: standard errors and bands mean "
            "little; take a larger max_iter, or start elsewhere"
        )
    n = run.data.n_observed
    free = run.n_initial
    if n - run.posterior.gamma - free < 1 and not run.posterior.gamma > 0.5 * n:
        words.append(
            f"{run.posterior.gamma + free:.0f} numbers are estimated from {n}: nothing is left to tell the noise from, and "
            "standard errors mean little; fix parameters (pynode.frozen) or initial states (initial=), or take more data"
        )
    if run.posterior.gamma > 0.5 * n:
        words.append(
            f"{run.posterior.gamma:.0f} effective parameters are fitted to {n} numbers: the data are "
            "interpolated, and errors are larger than the bands; take a smaller model or more data"
        )
    lost = run.undetermined
    named = {name for name, _ in _values(run, lost)}
    bound = [f"{name} = {at:g}" for name, at in at_bounds(run, _deviations(run)) if name not in named]
    if bound:
        words.append(
            f"{', '.join(bound)} ended at a bound: the data favour a value beyond it, or say little; widen the bound if it "
            "is not a fact, and do not trust the standard error"
        )
    if lost.any():
        values = ", ".join(f"{name} = {value:.3g}" for name, value in _values(run, lost))
        words.append(
            f"the data do not determine {values}: at 0 or at a bound, without influence on what was measured, or only "
            "together with others (model.summary() names them). The covariance is NaN there; freeze the parameter "
            "(pynode.frozen), bound it (pynode.bounded), or start it elsewhere"
        )
    return words


def _deviations(run: SecondOrderRun) -> Array:
    """(p,) standard deviations of the coordinates of the parameters; infinite where there is none."""
    found = np.full(len(run.training.theta), np.inf)
    if run.posterior.covariance is not None:
        found[run.coordinates.index] = np.sqrt(np.maximum(np.diag(run.posterior.covariance), 0.0))
    return found


def _values(run: Run, which: NDArray[np.bool_]) -> Iterable[tuple[str, float]]:
    """(name, value) of some parameters."""
    for parameter in run.field.spec:
        for k in range(parameter.offset, parameter.stop):
            if which[k]:
                single = parameter.stop - parameter.offset == 1
                yield parameter.name if single else f"{parameter.name}[{k - parameter.offset}]", float(run.training.theta[k])


def _remedy(run: Run) -> str:
    """What may help against misfit."""
    if turns(run):
        how = (
            "declare a second state in the field"
            if run.recipe.kind == "own"
            else "augment=1 adds a state, augment='auto' as many as it takes"
        )
        return f"the data rise and fall, which one state alone cannot (it cannot oscillate): {how}"
    second = isinstance(run, SecondOrderRun)
    noise = "noise='student' bears outliers" + "; process_noise=True, if chance drives the states" * second
    if run.recipe.kind == "own":
        return (
            "the equation may lack something, or training ended in a poor minimum: try other values of the parameters, "
            f"or windows=(None,); {noise}"
        )
    if run.recipe.kind == "found":
        return (
            "the equation may lack terms that are not among the candidates (structure='network' learns any field, field= "
            f"takes what is known), or a state may be missing (augment='auto'); {noise}"
        )
    again = "another random_state" + ", n_restarts" * second
    if not second and run.field.n_params <= MOST_PARAMETERS and run.field.d <= MOST_STATES and not run.field.callbacks:
        again += "; optimizer='levenberg-marquardt' comes to better ones, and takes longer"
    return (
        f"the network may be too small, a state may be missing (augment='auto'), or training ended in a poor minimum "
        f"({again}); {noise}"
    )
