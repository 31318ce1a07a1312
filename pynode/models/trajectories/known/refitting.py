"""A fitted model of an equation as a likelihood of whole trajectories, to be asked and fitted again with parameters held."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.fields import constraints
from pynode.models.trajectories.known.fits import KnownFit
from pynode.training.curriculum import FitError
from pynode.training.likelihood.identifiable import Undetermined, undetermined
from pynode.training.likelihood.run import LikelihoodRun, Maximum, Start
from pynode.training.sizes import prior_groups

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


class Refitting:
    """The likelihood of the data of a fitted model, along whole trajectories.

    Parameters
    ----------
    model : NeuralODE
        Fitted, with a field of its own and with its data.

    Attributes
    ----------
    best : Maximum
        The maximum next to the fitted parameters.

    Raises
    ------
    ValueError
        The model has no field of its own, or no data.
    pynode.fit.FitError
        Its equation cannot be solved along whole trajectories.
    """

    def __init__(self, model: "NeuralODE") -> None:
        self.fit = _likelihood_of(model)
        self.spec = self.fit.protocol.field.spec
        self.best = self.maximum(np.asarray(model.theta_), model.initial_states_)

    def maximum(self, theta: Array, states: Array, held: Sequence[int] = ()) -> Maximum:
        """The maximum that parameters theta and initial states lead to; held: positions of those that stay."""
        what = self.fit.likelihood(tuple(held))
        run = LikelihoodRun(what, [Start("profile", theta, states)], explains=lambda maximum: True)
        run.train()
        assert run.best is not None
        return run.best

    def theta(self, maximum: Maximum) -> Array:
        """The parameters of a maximum."""
        return maximum.problem.theta(maximum.posterior.theta)

    def states(self, maximum: Maximum) -> Array:
        """The free initial states of a maximum."""
        return maximum.problem.states_out(np.asarray(maximum.posterior.free))[0]

    def deviance(self, index: int, value: float, start: tuple[Array, Array]) -> tuple[float, tuple[Array, Array]]:
        """(the least deviance with this parameter held at this value, (theta, initial states) there).

        The deviance is infinite where the equation cannot be solved.
        """
        theta = start[0].copy()
        theta[index] = value
        found: list[Maximum] = []
        for begin in (self._followed(index, value, start), (theta, start[1])):
            if begin is None or found:
                continue
            try:
                found.append(self.maximum(*begin, (index,)))
            except FitError:
                continue
        if not found:
            return np.inf, start
        return found[0].loss, (self.theta(found[0]), self.states(found[0]))

    def _followed(self, index: int, value: float, start: tuple[Array, Array]) -> tuple[Array, Array] | None:
        """Where the others go with this parameter, by the linearised equations; None where that is no better."""
        problem = self.best.problem
        coordinates = problem.coordinates
        n = len(coordinates)
        noise = self.best.posterior.theta[n:]
        x = np.concatenate([coordinates.x(start[0]), noise])
        free = problem.states_in(start[1])
        here = problem.linearise(x, free)
        if here is None or here.free is None:
            return None
        theta = start[0].copy()
        theta[index] = value
        plain = np.concatenate([coordinates.x(theta), noise])
        k = int(np.flatnonzero(coordinates.index == index)[0])
        others = np.delete(np.arange(len(x)), k)
        step = plain - x
        step[others] = -np.linalg.pinv(here.H[np.ix_(others, others)], hermitian=True) @ here.H[others, k] * step[k]
        step[n:] = 0.0
        moved = free - np.asarray(here.free_gain) @ step
        if not problem.loss(x + step, moved) < problem.loss(plain, free):
            return None
        return problem.theta(x + step), problem.states_out(moved)[0]

    def information(self) -> tuple[NDArray[np.intp], Array]:
        """(positions of the parameters that are neither frozen nor weights of networks, Fisher's information of them).

        Everything else that was estimated is eliminated.
        """
        problem, state = self.best.problem, self.best.posterior
        here = problem.linearise(state.theta, np.asarray(state.free))
        coordinates = problem.coordinates
        n = len(coordinates)
        slope = coordinates.slope(state.theta[:n])
        weights = np.concatenate([np.empty(0, dtype=np.intp), *prior_groups(self.fit.protocol.field)])
        own = np.flatnonzero(~np.isin(coordinates.index, weights) & (slope > 0))
        if here is None:
            return coordinates.index[own], np.zeros((0, 0))
        rest = np.setdiff1d(np.arange(len(here.H)), own)
        H = here.H[np.ix_(own, own)]
        if len(rest):
            across = here.H[np.ix_(rest, own)]
            H = H - across.T @ np.linalg.pinv(here.H[np.ix_(rest, rest)], hermitian=True) @ across
        return coordinates.index[own], H / slope[own] / slope[own][:, None]

    def combinations(self, names: Sequence[str]) -> list[Undetermined]:
        """Parameters of which the data determine combinations only; names: of all numbers in theta."""
        index, information = self.information()
        if len(index) < 2 or not len(information):
            return []
        theta = self.theta(self.best)
        states = self.states(self.best)

        def rise(which: NDArray[np.intp], values: Array) -> float:
            moved = theta.copy()
            moved[index[which]] = values
            if not all(_allowed(p, moved[p.offset : p.stop]) for p in self.spec):
                return np.nan
            try:
                return self.maximum(moved, states, tuple(index[which].tolist())).loss - self.best.loss
            except FitError:
                return np.inf

        found = undetermined([names[k] for k in index], theta[index], information, rise)
        return [replace(group, index=index[group.index]) for group in found]


def _allowed(parameter: Any, value: Array) -> bool:
    try:
        constraints.check(parameter, value)
    except ValueError:
        return False
    return True


def _likelihood_of(model: "NeuralODE") -> KnownFit:
    """The likelihood of what a model was fitted to."""
    if model.field is None:
        raise ValueError(
            "profiles are for the parameters of a field of your own (field=): the weights of a network mean nothing one by "
            "one"
        )
    if model.data_ is None:
        raise ValueError("the model was saved without its data (save(..., data=False)), and profiles fit them again")
    if model.estimators_:
        raise ValueError("profiles are for a single fit, not for an ensemble: take n_estimators=1")
    data = model.data_
    made: Any = type(model)(**model.get_params())
    if model.log:
        made.set_params(log=False)
        data = replace(data, y=tuple(np.log(y) for y in data.y))
    doses = None if model.protocol_ is None else model.protocol_.doses
    fit = KnownFit(made, data, model.weight_, model.random_state_, doses, model.field_)
    return fit
