"""What a fitted NeuralODE is used for: rollouts with bands, initial states, gradients, the field, the score."""

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.sensitivities import sensitivities
from pynode.calls.solve import solve
from pynode.data.arrays import real_array
from pynode.data.clock import times_of
from pynode.data.signal import Signal
from pynode.models.trajectories.derivatives import Derivatives, named_inputs, named_states, times_of_each
from pynode.models.trajectories.ensemble import combined
from pynode.models.trajectories.frames import frame_of
from pynode.models.trajectories.intervals.calibration import Calibration
from pynode.models.trajectories.intervals.predicted import Band, Kind, bands, check_interval
from pynode.models.trajectories.intervals.shown import Shown
from pynode.models.trajectories.known.protocol import Protocol
from pynode.models.trajectories.known.results import predict as predict_known
from pynode.models.trajectories.process_noise import Driven, along, rollouts, strengths
from pynode.models.trajectories.series import (
    Inputs,
    RaggedTimes,
    Times,
    own_control,
)
from pynode.models.trajectories.visits import Visited, is_network, warn_of_far
from pynode.optim.few_rows import LARGE
from pynode.training.equations.averaging import Averaged
from pynode.training.sizes import MAX_STATES

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


class Rollouts(Derivatives):
    """The part of `NeuralODE` that predicts; its attributes are explained there."""

    columns_: dict[str, Any]
    estimators_: "list[NeuralODE]"
    initial_states_: Array
    protocol_: Protocol | None
    calibration_: Calibration | None = None
    averaged_: Averaged | None = None
    driven_: Driven | None = None
    shown_: Shown | None = None
    in_frames_: bool = False
    visited_: Visited | None = None
    strays_: tuple[int, ...] = ()
    aside_: tuple[int, ...] = ()
    input_kind_: Literal["previous", "linear", "cubic"] = "linear"
    covariance_: Array | None
    determined_covariance_: Array | None
    state_gain_: Array | None
    state_covariance_: Array | None

    @overload
    def predict(
        self,
        t: Times,
        y0: ArrayLike | None = None,
        *,
        u: Inputs | None = None,
        doses: Any = None,
        trajectory: int = 0,
        return_std: Literal[False] = False,
        unobserved: bool = False,
        interval: None = None,
        kind: Kind = "mean",
        as_frame: Literal[False] = False,
    ) -> Array: ...

    @overload
    def predict(
        self,
        t: RaggedTimes,
        y0: ArrayLike | None = None,
        *,
        u: Inputs | None = None,
        doses: Any = None,
        trajectory: int = 0,
        return_std: Literal[False] = False,
        unobserved: bool = False,
        interval: None = None,
        kind: Kind = "mean",
        as_frame: Literal[False] = False,
    ) -> list[Array]: ...

    @overload
    def predict(
        self,
        t: Times,
        y0: ArrayLike | None = None,
        *,
        u: Inputs | None = None,
        doses: Any = None,
        trajectory: int = 0,
        return_std: Literal[True],
        unobserved: bool = False,
        interval: None = None,
        kind: Kind = "mean",
        as_frame: Literal[False] = False,
    ) -> tuple[Array, Array]: ...

    @overload
    def predict(
        self,
        t: RaggedTimes,
        y0: ArrayLike | None = None,
        *,
        u: Inputs | None = None,
        doses: Any = None,
        trajectory: int = 0,
        return_std: Literal[True],
        unobserved: bool = False,
        interval: None = None,
        kind: Kind = "mean",
        as_frame: Literal[False] = False,
    ) -> tuple[list[Array], list[Array]]: ...

    @overload
    def predict(
        self,
        t: Any,
        y0: ArrayLike | None = None,
        *,
        u: Inputs | None = None,
        doses: Any = None,
        trajectory: int = 0,
        return_std: Literal[False] = False,
        unobserved: Literal[False] = False,
        interval: float,
        kind: Kind = "mean",
        as_frame: Literal[False] = False,
    ) -> Band: ...

    @overload
    def predict(
        self,
        t: Any,
        y0: ArrayLike | None = None,
        *,
        u: Inputs | None = None,
        doses: Any = None,
        trajectory: int = 0,
        return_std: Literal[False] = False,
        unobserved: Literal[False] = False,
        interval: float | None = None,
        kind: Kind = "mean",
        as_frame: Literal[True],
    ) -> Any: ...

    def predict(
        self,
        t: Any,
        y0: ArrayLike | None = None,
        *,
        u: Inputs | None = None,
        doses: Any = None,
        trajectory: int = 0,
        return_std: bool = False,
        unobserved: bool = False,
        interval: float | None = None,
        kind: Kind = "mean",
        as_frame: bool = False,
    ) -> Any:
        """Trajectories of the learned equation.

        Parameters
        ----------
        t : (T,) array_like, or list of (T_i,) arrays where y0 is a batch
            Times, rising or falling; the state at the first one is y0.
        y0 : (d,) or (B, d) array_like, optional
            Initial states (of a model with unobserved states: all of them, see `initial_states`). Default: the
            fitted trajectory, from its own first time, continued to wherever t is; only times not before that. A pandas
            Series or DataFrame with the names of the states goes by them.
        u : see `fit`, optional
            Control inputs of these trajectories. Without y0 the default is what the trajectory was fitted with.
        doses : list of Dose, optional
            Doses of this trajectory, of a model that was fitted with doses, observation functions or the like. Without
            y0 the default is what the trajectory was fitted with.
        trajectory : int, default 0
            Which one, without y0.
        return_std : bool, default False
            Return (mean, std): the standard deviation of each entry that the uncertainty of the parameters causes
            (linearised; with y0 given, y0 is exact; without, that of the fitted initial state is included). It is
            that of the state, not of a new measurement, which has the noise in `report_` on top. In an ensemble it
            contains how the members differ. With `process_noise` it contains what the random force does.
        unobserved : bool, default False
            Return the unobserved states too, after the others; of a model with an observation function the states in
            place of what is measured.
        interval : float, optional
            Return an interval that holds this part of all, such as 0.9, as (mean, lower, upper). Its width is calibrated on
            the data at the first call (refits to which a part of the data is not shown, see docs/training.md), so that
            misfit counts too; -inf and inf stand where a network was shown nothing.
        kind : {"mean", "prediction"}, default "mean"
            The interval of the trajectory, or of a new reading, which has noise.
        as_frame : bool, default False
            Return a pandas.DataFrame with the columns of the data; the ends of intervals are NAME_lower and NAME_upper.

        Returns
        -------
        (T, d) or (B, T, d) array, or list of (T_i, d) arrays
            NaN (and a SolveWarning) where the solver failed. With return_std a pair of them, with interval a `Band` of
            three.
        """
        self.check_is_fitted()
        t, y0 = times_of(t, self.clock_), named_states(self, "y0", y0)
        u = named_inputs(self, u)
        if interval is not None or as_frame:
            if return_std or unobserved:
                raise ValueError("return_std and unobserved do not go with interval and as_frame: ask for one of them")
            return self._predict_with(interval, kind, as_frame, t, y0, {"u": u, "doses": doses, "trajectory": trajectory})
        if self.protocol_ is not None:
            known: Any = self
            given: dict[str, Any] = {"u": u, "doses": doses, "trajectory": trajectory, "return_std": return_std}
            return predict_known(known, t, y0, **given, states=unobserved)
        if doses is not None:
            raise ValueError("doses are for models that were fitted with doses, initial, observe or an error model")
        if self.estimators_:
            return self._predict_ensemble(t, y0, u, trajectory, return_std, unobserved)
        if return_std:
            self._check_uncertainty()
        known_model: Any = self
        if y0 is None:
            t, z0, signal = self._continued(t, u, trajectory)
            self._check_known(signal, [t])
            if self.driven_ is not None:
                result = along(known_model, t[1:], signal, trajectory, return_std)
                self._warn_of_far(t[1:], result)
            else:
                result = self._rollout(z0, t, signal, return_std, trajectory)
                self._warn_of_far(t, result)
                result = tuple(x[1:] for x in result) if return_std else result[1:]
        else:
            y0 = self._full_state(y0)
            signal = own_control(u, self.field_.inputs, times_of_each(t, y0), self.input_kind_)
            self._check_known(signal, times_of_each(t, y0))
            z0 = self.scaling_.states(y0)
            if self.driven_ is not None and return_std:
                result = rollouts(known_model, z0, t, signal)
            else:
                result = self._rollout(z0, t, signal, return_std)
            self._warn_of_far(t, result)
        return result if unobserved or not self.n_unobserved_ else self._only_observed(result)

    def _check_uncertainty(self) -> None:
        """Check that a single model knows how uncertain its parameters are."""
        if not self.field_.n_params:
            raise ValueError("return_std: the field has no parameters, so nothing of it was estimated: leave return_std out")
        if self.covariance_ is None:
            raise ValueError(
                "return_std needs an ensemble (n_estimators), or a model that was trained by Levenberg-Marquardt "
                f"(optimizer='auto' with a field of at most {LARGE} parameters and {MAX_STATES} states: covariances of more "
                "parameters are not formed)"
            )

    @property
    def process_noise_(self) -> dict[str, float] | None:
        """State -> the standard deviation that the random force alone gives it in a unit of time; None without one."""
        known: Any = self
        return None if self.driven_ is None else strengths(known)

    def _predict_with(
        self, interval: float | None, kind: Kind, as_frame: bool, t: Any, y0: ArrayLike | None, given: dict[str, Any]
    ) -> Any:
        """Predictions with an interval, or as a table."""
        known: Any = self
        if interval is None:
            found = Band(self.predict(t, y0, **given), None, None)
        else:
            check_interval(interval, kind)
            found = bands(known, t, y0, float(interval), kind, given)
        if not as_frame:
            return found
        ids = () if y0 is not None or self.data_ is None else (self.data_.ids[given["trajectory"]],)
        return frame_of(known, t, found, ids)

    def _predict_ensemble(
        self, t: Any, y0: ArrayLike | None, u: Inputs | None, trajectory: int, return_std: bool, unobserved: bool
    ) -> Any:
        self._check_start(y0)
        if unobserved and self.n_unobserved_:
            raise ValueError("unobserved=True: the members of an ensemble have unobserved states of their own; ask them")
        options: dict[str, Any] = {"u": u, "trajectory": trajectory, "unobserved": unobserved}
        means_only = return_std and any(model.covariance_ is None for model in self.estimators_)
        options["return_std"] = return_std and not means_only
        predictions = [model.predict(t, y0, **options) for model in self.estimators_]
        if means_only:  # trained by gradient descent: how the members differ is all there is
            predictions = [(y, _zeros_like(y)) for y in predictions]
        return combined(predictions, return_std, self.average)

    def _check_start(self, y0: ArrayLike | None) -> None:
        """Refuse initial states that cannot be those of all members of an ensemble."""
        if y0 is not None and self.n_unobserved_:
            raise ValueError(
                "members of an ensemble have unobserved states of their own, so no y0 fits all of them: simulate(u, "
                "warmup=(t, y, u)) lets each find its own, no y0 continues a fitted trajectory"
            )

    def _warn_of_far(self, t: Any, result: Any) -> None:
        """Warn of rollouts of a network that leave the data; result: (T, d) or more, or (mean, std)."""
        model: Any = self
        if is_network(model):
            warn_of_far(model, t, result[0] if isinstance(result, tuple) else result)

    def _only_observed(self, result: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return type(result)(self._only_observed(x) for x in result)
        return result[..., : len(self.names_)]

    def _rollout(self, z0: Array, t: Any, signal: Signal | None, return_std: bool, trajectory: int | None = None) -> Any:
        """Rollouts in the units of the data, or (mean, std)."""
        tau, scaling = self.scaling_.times(t), self.scaling_
        options = self.solve_options() | {"inputs": scaling.inputs(signal)}
        if not return_std:
            z = solve(self.field_, z0, tau, self.theta_, **options).y
            return [scaling.states_back(x) for x in z] if isinstance(z, list) else scaling.states_back(z)
        rollout = sensitivities(self.field_, z0, tau, self.theta_, **options)
        gain: Any = self.state_gain_
        state_covariance: Any = self.state_covariance_
        covariance: Any = np.nan_to_num(np.asarray(self.covariance_))  # NaN: not determined; bands are given its value

        def deviation(J: Array, J0: Array, z: Array) -> Array:
            variance = np.zeros(z.shape)
            if trajectory is not None:
                J = J - J0 @ gain[trajectory]
                variance = np.einsum("...ci,ij,...cj->...c", J0, state_covariance[trajectory], J0)
            flat = J.reshape(-1, J.shape[-1])
            variance = variance + np.einsum("ij,ij->i", flat @ covariance, flat).reshape(z.shape)
            slope = scaling.slope_of_states_back(scaling.states_back(z))
            return np.asarray(np.sqrt(np.maximum(variance, 0.0)) * slope)

        z, back = rollout.solution.y, scaling.states_back
        J, J0 = rollout.theta, rollout.y0
        if isinstance(z, list):
            return [back(x) for x in z], [deviation(*x) for x in zip(J, J0, z, strict=True)]
        return back(z), deviation(J, J0, z)

    def _continued(self, t: Any, u: Any, trajectory: int) -> tuple[Array, Array, Signal | None]:
        """(times, z0, control inputs) of a fitted trajectory, from its first time on."""
        if isinstance(trajectory, bool) or not isinstance(trajectory, (int, np.integer)):
            raise TypeError(f"trajectory={trajectory!r} must be an integer")
        if not 0 <= trajectory < len(self.initial_states_):
            raise ValueError(f"trajectory={trajectory!r} must be from 0 to {len(self.initial_states_) - 1}")
        if self.data_ is None:
            raise ValueError("the model was saved without its data: give y0")
        t, first = np.atleast_1d(real_array("t", t, np.float64)), self.data_.t[trajectory][0]
        if t.ndim != 1 or (t < first).any() or (np.diff(t) < 0).any():
            where = f"{first:g}" if self.clock_ is None else self.clock_.to_text(first)[0]
            raise ValueError(f"without y0, t must rise from {where} or later, where the trajectory starts")
        times = np.concatenate([[first], t])
        signal: Signal | None
        if u is None and self.data_.signal is not None:
            signal = self.data_.signal.take([trajectory])
        elif u is not None and not isinstance(u, tuple) and not hasattr(u, "pieces"):
            raise ValueError("without y0, u must be a pynode.Signal or (times, values): it starts where the trajectory does")
        else:
            signal = own_control(u, self.field_.inputs, [times], self.input_kind_)
        return times, self.scaling_.states(self.initial_states_[trajectory]), signal


def _zeros_like(y: Any) -> Any:
    """Zeros of the shape of an array, or of those of a list of arrays."""
    return [np.zeros(x.shape) for x in y] if isinstance(y, list) else np.zeros(y.shape)
