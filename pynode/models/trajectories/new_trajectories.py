"""What a fitted NeuralODE says of new trajectories: their initial states, and how well it predicts them."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.control import rows_of_constants
from pynode.data.delays import of_kind
from pynode.data.ragged import is_frame, states_of
from pynode.data.trajectories import Trajectories
from pynode.errors import ExtrapolationWarning
from pynode.models.trajectories.derivatives import named_inputs
from pynode.models.trajectories.ensemble import combined
from pynode.models.trajectories.known.fits import means
from pynode.models.trajectories.known.results import initial_states as states_of_known
from pynode.models.trajectories.known.results import score as score_of_known
from pynode.models.trajectories.predictions import Rollouts
from pynode.models.trajectories.series import (
    Inputs,
    Series,
    as_trajectories,
    check_positive,
    n_inputs,
    with_covariates,
)
from pynode.models.trajectories.warmups import estimated
from pynode.training.initial_states import estimate_states
from pynode.training.smoothing import smooth, with_implied
from pynode.training.state import Training
from pynode.training.windows import Data

Array = NDArray[np.float64]


class NewTrajectories(Rollouts):
    """The part of `NeuralODE` that takes new data."""

    def initial_states(
        self, t: Series | Trajectories, Y: Series | None = None, *, u: Inputs | None = None, doses: Any = None
    ) -> Array:
        """Initial states of new trajectories, estimated from measurements: what `predict` starts from.

        Of a model with a protocol: before any dose, as in `fit`.

        Parameters
        ----------
        t, Y : arrays, Trajectories, or a data frame
            Times and measured states, as in `fit`; a data frame with the columns of `fit` (`columns_`) holds both.
        u : array, tuple or Signal, optional
            Control inputs, as in `fit`.
        doses : list of Dose, list of lists, or dict, optional
            As in `fit`, of a model with doses.

        Returns
        -------
        (B, d) array
            All states of the model, unobserved ones too, at the first time of each trajectory; in your units. An
            ensemble gives those of the member of the lowest loss.
        """
        self.check_is_fitted()
        data = self._new_data(t, Y, u)
        if self.protocol_ is not None:
            known: Any = self
            return states_of_known(known, data, doses)[0]
        scaling, extra = self.scaling_, self.n_unobserved_
        z = [scaling.states(np.pad(y, ((0, 0), (0, extra)), constant_values=np.nan)) for y in data.y]
        inside = Data(scaling.times(list(data.t)), z, None, scaling.inputs(data.signal))
        smoothed = smooth(inside.t, z)
        if not inside.seen.all():
            smoothed = with_implied(self.field_, self.theta_, inside.t, smoothed, inside.inputs_at_rows())
        start = np.stack([states[0] for states in Training.start(self.theta_, inside, smoothed).states])
        noise = np.array([self.report_["noise"][name] for name in self.names_])
        noise = np.append(noise / scaling.scale[: data.d], np.ones(extra))
        weight = 1.0 / np.maximum(np.nan_to_num(noise, nan=1.0), 1e-6 * scaling.spread) ** 2
        if extra and self.visited_ is not None:
            found, _ = estimated(self.field_, self.theta_, inside, start, self.visited_, weight, **self.solve_options())
            return scaling.states_back(found)
        prior = np.full(start.shape, 1e-4) / scaling.spread**2
        found, _ = estimate_states(self.field_, self.theta_, inside, start, weight, prior, **self.solve_options())
        return scaling.states_back(found)

    def _columns_of(self, width: int) -> tuple[str, ...]:
        """The names of so many columns: of all states, or of those that were read when the model was fitted."""
        noise = self.report_["noise"]
        read = tuple(name for name in self.names_ if self.protocol_ is not None or np.isfinite(noise[name]))
        return read if width == len(read) else self.names_

    def _with_unread(self, y: Array, names: Sequence[str]) -> Array:
        """States (T, d) of columns (T, n) of these names; NaN where a state has none."""
        whole = np.full((len(y), len(self.names_)), np.nan)
        whole[:, [self.names_.index(name) for name in names]] = y
        return whole

    def _new_data(self, t: Series | Trajectories, Y: Series | None, u: Inputs | None) -> Trajectories:
        u = rows_of_constants(named_inputs(self, u), self.field_.inputs)
        names, columns = self.names_, {}
        if is_frame(t):
            frame: Any = t
            names = self._columns_of(sum(name in frame.columns or name in frame.index.names for name in names))
            columns = self.columns_ | {"state": names}
        elif Y is not None:
            names = self._columns_of(states_of(Y)[0].shape[1])
        data = as_trajectories(t, Y, u, names, **columns, clock=self.clock_, fitted=True, replicates="keep")
        if data.d == len(names):
            data = replace(data, y=tuple(self._with_unread(y, names) for y in data.y), names=self.names_)
        if data.signal is not None and data.plain:
            data = replace(data, signal=of_kind(data.signal, self.input_kind_))
        data = with_covariates(data)
        if data.d != len(self.names_):
            raise ValueError(f"the data have {data.d} states, the model {len(self.names_)}")
        m = n_inputs(data)
        if m != self.field_.inputs:
            raise ValueError(f"the model has {self.field_.inputs} control inputs, u {m}")
        if self.log:
            check_positive(data)
        if self.protocol_ is not None:
            return data
        self._check_known(data.signal, data.t)
        return means(data, None)[0]

    def score(
        self, t: Series | Trajectories, Y: Series | None = None, *, u: Inputs | None = None, doses: Any = None
    ) -> float:
        """Coefficient of determination R^2 of rollouts from the first row of each trajectory.

        Where that row is not observed in full, or the model has unobserved states, the initial state is estimated from
        the whole trajectory (`initial_states`).

        Parameters
        ----------
        t, Y : arrays, Trajectories, or a data frame
            Times and measured states, as in `fit`; a data frame with the columns of `fit` (`columns_`) holds both.
        u : array, tuple or Signal, optional
            Control inputs, as in `fit`.
        doses : list of Dose, list of lists, or dict, optional
            As in `fit`, of a model with doses.

        Returns
        -------
        float
            Mean over the states of 1 - sum (y - prediction)^2 / sum (y - mean)^2; 1 is perfect. -inf if a
            rollout fails.
        """
        self.check_is_fitted()
        data = self._new_data(t, Y, u)
        if self.protocol_ is not None:
            known: Any = self
            return score_of_known(known, data, doses)
        members: Sequence[NewTrajectories] = self.estimators_ or [self]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExtrapolationWarning)  # the score says it
            parts = [np.concatenate([p[1:] for p in model._rollouts(data)]) for model in members]
        predicted = combined(parts, False, self.average)
        truth = np.concatenate([y[1:] for y in data.y])
        if not np.isfinite(predicted).all():
            return -np.inf
        known = ~np.isnan(truth).all(axis=0)
        if not known.any():
            raise ValueError("nothing is observed after the first rows: there is nothing to score")
        truth, predicted = truth[:, known], predicted[:, known]
        spread = np.nansum((truth - np.nanmean(truth, axis=0)) ** 2, axis=0)
        miss = np.nansum((truth - predicted) ** 2, axis=0)
        constant = np.where(miss > 0, 0.0, 1.0)  # as in scikit-learn
        return float(np.mean(np.where(spread > 0, 1 - miss / np.where(spread > 0, spread, 1.0), constant)))

    def _rollouts(self, data: Trajectories) -> list[Array]:
        """Rollouts along trajectories, from their first rows, or from estimated states where those are not known."""
        y0 = np.stack([y[0] for y in data.y])
        if self.n_unobserved_ or np.isnan(y0).any():
            y0 = self.initial_states(data, None)
        return self.predict(list(data.t), y0, u=data.signal)
