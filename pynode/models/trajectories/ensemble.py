"""Ensembles: members that differ in their random start, fitted side by side."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.models.options import LARGEST_SEED
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import Iteration
from pynode.training.curriculum import FitError
from pynode.training.noise import NORMAL

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE


@dataclass(frozen=True)
class Tried:
    """One of several fits: the model, or why there is none, and the interrupt that ended it."""

    model: Any
    error: FitError | None = None
    interrupt: KeyboardInterrupt | None = None

    @classmethod
    def of(cls, model: Any, interrupt: KeyboardInterrupt) -> "Tried":
        """A fit that was interrupted, of which there may be nothing yet."""
        return cls(model if hasattr(model, "report_") else None, interrupt=interrupt)


def fit_members(
    model: "NeuralODE",
    data: Trajectories,
    weight: Any,
    seed: int,
    progress: bool | str,
    callback: Callable[[Iteration], Any] | None,
    doses: Any = None,
    checkpoint: Checkpoint | None = None,
) -> "tuple[list[NeuralODE], str, KeyboardInterrupt | None]":
    """Fitted copies of a model, one for each random start, and what to say of those that are left out.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories
    weight : see `NeuralODE.fit`
    seed : int
    progress, callback : see `NeuralODE.fit`; callback only where members are fitted one after the other
    doses : see `NeuralODE.fit`
    checkpoint : Checkpoint, optional
        Its parts are those of the members, and are removed when all are there, unless it stays.

    Returns
    -------
    members : list of NeuralODE
        Those that could be fitted and follow the data they were trained on; all that could be fitted if none does.
    words : str
        Empty where all are there.
    interrupt : KeyboardInterrupt or None
        What ended the fits before their time: the members that were finished are kept, or else the one at work, which
        may have hardly begun and would spoil the mean of others.

    Raises
    ------
    FitError
        No member could be fitted.
    KeyboardInterrupt
        No member has results yet.
    """
    make, n = type(model), int(model.n_estimators)
    params = model.get_params() | {"n_estimators": 1, "n_jobs": None}
    seeds = [(seed + 1000 * i) % (LARGEST_SEED + 1) for i in range(n)]
    members = [params | {"random_state": each} for each in seeds]
    common = (make, data, weight, doses)
    tried = side_by_side(_fit, members, common, model.n_jobs, progress, callback, "member", checkpoint)
    interrupt = next((each.interrupt for each in tried if each.interrupt is not None), None)
    if checkpoint is not None and interrupt is None:
        checkpoint.remove_parts(n, *([int(model.n_restarts)] if model.n_restarts > 1 else []))
    failed = [each.error for each in tried if each.error is not None]
    fitted = [each.model for each in tried if each.model is not None]
    if not fitted:
        raise interrupt or failed[0]
    finished = [each.model for each in tried if each.model is not None and each.interrupt is None]
    kept, words = _accepted(finished or fitted)
    if failed:
        lost = f"{len(failed)} of {n} members of the ensemble could not be fitted, and are left out ({failed[0]})"
        words = f"{lost}; {words}" if words else lost
    return kept, words, interrupt


def side_by_side(
    work: Callable[..., tuple[Tried, bool]],
    members: list[dict[str, Any]],
    common: tuple[Any, ...],
    n_jobs: int | None,
    progress: bool | str,
    callback: Callable[[Iteration], Any] | None,
    what: str,
    checkpoint: Checkpoint | None = None,
) -> list[Tried]:
    """Results of work(params, part, *common[, progress, callback]) -> (result, whether to go on), in turn or by joblib.

    Ctrl-C ends all that are at work elsewhere; those that are done by then are kept, the others have that interrupt alone.

    Parameters
    ----------
    work : callable
    members : list of dict
        The options of each model.
    common : tuple
        What all are given.
    n_jobs : int or None
        How many work at once.
    progress, callback
        See `NeuralODE.fit`; callback only where they work one after the other.
    what : str
        What the display of progress calls one of them.
    checkpoint : Checkpoint, optional
        Each gets its part of it.
    """
    given = [(params, None if checkpoint is None else checkpoint.part(k)) for k, params in enumerate(members)]
    if n_jobs in (None, 1):
        results = []
        for i, each in enumerate(given):
            label = f"{progress}, " if isinstance(progress, str) else ""
            result, more = work(*each, *common, progress and f"{label}{what} {i + 1} of {len(members)}", callback)
            results.append(result)
            if not more:
                break
        return results
    if callback is not None:
        raise ValueError(f"callback= cannot be called from {what}s that are fitted elsewhere: leave n_jobs out")
    try:
        from joblib import Parallel, delayed
    except ImportError:
        raise ImportError("n_jobs needs joblib: pip install 'pynode-ode[parallel]'") from None
    jobs = (delayed(_numbered)(k, work, *each, *common) for k, each in enumerate(given))
    found: dict[int, Tried] = {}
    try:
        for k, result in _as_they_end(Parallel, jobs, n_jobs=n_jobs, verbose=10 if progress else 0):
            found[k] = result
    except KeyboardInterrupt as interrupt:
        return [found.get(k) or Tried(None, interrupt=interrupt) for k in range(len(given))]
    return [found[k] for k in range(len(given))]


def _numbered(k: int, work: Callable[..., tuple[Tried, bool]], *given: Any) -> tuple[int, Tried]:
    """(k, what work gives)."""
    return k, work(*given)[0]


def _as_they_end(parallel: Any, jobs: Iterable[Any], **options: Any) -> Iterable[Any]:
    """Results of jobs, one by one as they end; of backends, and versions of joblib, that cannot do so, all at the end."""
    found: Iterable[Any]
    try:
        found = parallel(return_as="generator_unordered", **options)(jobs)
    except (TypeError, ValueError):
        found = parallel(**options)(jobs)
    return found


def _fit(
    params: dict[str, Any],
    checkpoint: Checkpoint | None,
    make: "type[NeuralODE]",
    data: Trajectories,
    weight: Any,
    doses: Any,
    progress: bool | str = False,
    callback: Callable[[Iteration], Any] | None = None,
) -> tuple[Tried, bool]:
    """(a member, whether to go on with the next)."""
    model = make(**params)
    try:
        model.fit(data, weight=weight, doses=doses, progress=progress, callback=callback, checkpoint=checkpoint)
    except FitError as error:
        return Tried(None, error), True
    except KeyboardInterrupt as interrupt:
        return Tried.of(model, interrupt), False
    return Tried(model), True


def combined(predictions: list[Any], return_std: bool, average: str = "mean") -> Any:
    """The members' predictions as one.

    Parameters
    ----------
    predictions : list of arrays, or of (mean, std)
        Those of the members.
    return_std : bool
        They are pairs, and so is the result: the variance is the mean of the members' own plus that of their means.
    average : {"mean", "median"}
        With the median, members that could not be solved take no part as long as most could, and variances are medians too.
    """
    if average == "median":
        return _medians(predictions, return_std)
    if not return_std:
        return _over(lambda *ys: np.mean(ys, axis=0), predictions)
    means, stds = [p[0] for p in predictions], [p[1] for p in predictions]

    def deviation(*parts: Any) -> Any:
        own = np.mean([s**2 for s in parts[len(means) :]], axis=0)
        apart = np.var(parts[: len(means)], axis=0, ddof=1) if len(means) > 1 else 0.0
        return np.sqrt(own + apart)

    return _over(lambda *ys: np.mean(ys, axis=0), means), _over(deviation, [*means, *stds])


def _medians(predictions: list[Any], return_std: bool) -> Any:
    """Medians of the members' predictions, those that are NaN left out where most are not; or (median, std)."""

    def middle(*ys: Any) -> Any:
        y = np.asarray(ys, dtype=np.float64)
        few = 2 * np.isfinite(y).sum(axis=0) <= len(y)
        y = np.where(np.isfinite(y) | few, y, np.nan)
        found = np.full(y.shape[1:], np.nan)
        found[~few] = np.nanmedian(y[:, ~few], axis=0)
        return found

    if not return_std:
        return _over(middle, predictions)
    means = [p[0] for p in predictions]

    def deviation(*parts: Any) -> Any:
        y, own = np.asarray(parts[: len(means)]), np.asarray(parts[len(means) :])
        return np.hypot(middle(*own), NORMAL * middle(*np.abs(y - middle(*y))))

    return _over(middle, means), _over(deviation, [*means, *[p[1] for p in predictions]])


def _accepted(members: "list[NeuralODE]") -> "tuple[list[NeuralODE], str]":
    """The members that follow the data they were trained on, and what to say of the others."""
    lost = [bool(member.strays_) for member in members]
    if not any(lost):
        return members, ""
    if all(lost):
        return members, (
            "all members of the ensemble leave the data on the training trajectories: none can be trusted; take a smaller "
            "network (hidden), far_field='inward', or other windows"
        )
    kept = [member for member, away in zip(members, lost, strict=True) if not away]
    return kept, (
        f"{sum(lost)} of {len(members)} members of the ensemble leave the data on the training trajectories: they are left "
        "out"
    )


def best_of(members: "list[NeuralODE]") -> "NeuralODE":
    """The member that speaks for the ensemble: of the lowest loss; of the highest evidence where a force drives the states.

    Their variances follow their residuals, so that the loss of all of the latter is about 1.
    """
    if any(member.driven_ is not None for member in members):
        return max(members, key=lambda member: tuple(member.score_of_start_))
    return min(members, key=lambda member: float(member.report_["loss"]))


def chosen_by(model: "NeuralODE") -> str:
    """By what the member was chosen that speaks for an ensemble."""
    return "lowest loss" if model.driven_ is None else "highest evidence"


def _over(function: Callable[..., Any], values: list[Any]) -> Any:
    """A function of arrays, or of lists of arrays element by element."""
    if isinstance(values[0], list):
        return [function(*parts) for parts in zip(*values, strict=True)]
    return function(*values)
