"""What a fitted NeuralODE is besides its rollouts: slopes, and gradients of losses of rollouts."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.solve import solve
from pynode.data.arrays import is_ragged, real_array
from pynode.data.clock import Clock, times_of
from pynode.data.labels import by_given_name, by_name
from pynode.data.signal import Signal
from pynode.engine.gradients import Gradients
from pynode.fields.field import Field
from pynode.models.trajectories.known.protocol import Protocol
from pynode.models.trajectories.options import NeuralODEOptions
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import Inputs, RaggedTimes, Times, check_inputs, own_control

Array = NDArray[np.float64]

WRT = ("theta", "y0", "inputs")

FINER = 1e-2
"""Rollouts are solved to this part of the noise, ..."""

FINEST = 1e-11
"""... but not closer than this part of the states."""


class Derivatives(NeuralODEOptions):
    """The part of `NeuralODE` that differentiates; its attributes are explained there."""

    field_: Field
    scaling_: Scaling
    clock_: Clock | None
    names_: tuple[str, ...]
    n_unobserved_: int
    protocol_: Protocol | None
    input_kind_: Literal["previous", "linear", "cubic"]

    def _full_state(self, y0: ArrayLike) -> Array:
        """y0 checked: all states of the field, in the units of the data."""
        y0 = np.atleast_1d(real_array("y0", named_states(self, "y0", y0), np.float64))
        d, n = self.field_.d, len(self.names_)
        if self.n_unobserved_ and y0.shape[-1] == n:
            raise ValueError(
                f"y0 has the {n} observed states, but this model has {self.n_unobserved_} more: estimate all of them with "
                "initial_states(t, Y) from a stretch of measurements, or continue a fitted trajectory (no y0)"
            )
        if y0.ndim > 2 or y0.shape[-1] != d:
            raise ValueError(f"y0 has shape {y0.shape}; it must be ({d},) or (B, {d})")
        if self.log and not (y0[..., :n] > 0).all():
            raise ValueError("y0 must be positive: the model is one of logarithms")
        return y0

    def solve_options(self) -> dict[str, Any]:
        """How rollouts are solved; tolerances are well below the noise, so that residuals are those of the equation.

        Returns
        -------
        dict
            Keywords of `pynode.solve`: method, rtol, atol.
        """
        spread, scale = self.scaling_.spread, self.scaling_.scale
        noise = np.array([self.report_["noise"].get(name, np.nan) for name in self.names_], dtype=np.float64)
        relative = noise / (scale * spread)[: len(noise)] if self.protocol_ is None else np.full(1, np.nan)
        relative = relative[np.isfinite(relative) & (relative > 0)]
        finest = max(FINER * float(relative.min()), FINEST) if len(relative) else 1.0
        return {
            "method": self.method,
            **self.scaling_.tolerances(min(self.rtol, 1e-6, finest), min(self.atol, 1e-8, finest)),
        }

    def vjp(
        self,
        t: Times | RaggedTimes,
        y0: ArrayLike,
        dy: ArrayLike | Sequence[ArrayLike],
        *,
        u: Inputs | None = None,
        wrt: str | Sequence[str] = ("theta", "y0"),
    ) -> Gradients:
        """Gradients of any loss of yours of rollouts: what optimal control and design need.

        Parameters
        ----------
        t : (T,) array_like, or list of (T_i,) arrays
            Times, as in `predict`.
        y0 : (d,) or (B, d) array_like
            Initial states, as in `predict`.
        dy : array of the shape of predict(t, y0, unobserved=True)
            dL/dy at every entry.
        u : array, tuple or Signal, optional
            Control inputs, as in `predict`.
        wrt : str or tuple of str, default ("theta", "y0")
            What to differentiate with respect to: "theta", "y0", "inputs".

        Returns
        -------
        Gradients
            Gradients of L, in your units; `inputs` has the shape of u, or of the values of a `pynode.Signal`.

        See Also
        --------
        pynode.Solution.vjp : the same for a solve of your own.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> t = np.linspace(0, 2, 20)
        >>> model = pn.NeuralODE(hidden=(), random_state=0).fit(t, np.exp(-t))
        >>> y = model.predict(t, [2.0])
        >>> model.vjp(t, [2.0], 2 * (y - 1), wrt="y0").y0.shape  # of the sum of (y - 1)^2
        (1,)
        """
        self.check_is_fitted()
        wanted = (wrt,) if isinstance(wrt, str) else tuple(wrt)
        unknown = [name for name in wanted if name not in WRT]
        if unknown:
            raise ValueError(f"wrt={unknown[0]!r} is not one of {', '.join(WRT)}")
        t = times_of(t, self.clock_)
        start, scaling = self._full_state(y0), self.scaling_
        signal = own_control(named_inputs(self, u), self.field_.inputs, times_of_each(t, start), self.input_kind_)
        self._check_known(signal, times_of_each(t, start))
        if "inputs" in wanted and self.scaling_.u_delay.any():
            raise ValueError(
                "gradients with respect to inputs that take effect later (input_delay) are not known: leave out"
            )
        options = self.solve_options() | {"inputs": scaling.inputs(signal)}
        solution = solve(self.field_, scaling.states(start), scaling.times(t), self.theta_, **options)
        slope = scaling.slope_of_states_back
        ragged = isinstance(solution.y, list)
        shapes = [np.shape(x) for x in solution.y] if ragged else np.shape(solution.y)
        if _shape(dy) != shapes:
            raise ValueError(f"dy must have the shape of predict(t, y0, unobserved=True), {shapes}, not {_shape(dy)}")
        dz: Any
        if ragged:
            cotangents: Any = dy
            dz = [
                real_array("dy", g, np.float64) * slope(scaling.states_back(z))
                for g, z in zip(cotangents, solution.y, strict=True)
            ]
        else:
            dz = real_array("dy", dy, np.float64) * slope(scaling.states_back(solution.y))
        g = solution.vjp(dz, wrt=wanted)
        inputs: Any = g.inputs
        if inputs is not None:
            inputs = [x / scaling.u_scale for x in inputs] if isinstance(inputs, list) else inputs / scaling.u_scale
            if start.ndim == 1 and not isinstance(u, (Signal, tuple)):
                given: Any = u
                inputs = inputs[0].reshape(np.shape(given))
        return Gradients(g.theta, None if g.y0 is None else g.y0 / slope(start), None, inputs)

    def _check_known(self, signal: Signal | None, t: Any) -> None:
        """Refuse control inputs of trajectories that are not finite, or not known at their times (T_i,)."""
        if signal is not None:
            check_inputs(signal, t, self.scaling_.u_delay, self.clock_)

    @overload
    def derivative(self, y: ArrayLike, /) -> Array: ...
    @overload
    def derivative(self, t: ArrayLike, y: ArrayLike, u: ArrayLike | None = None) -> Array: ...
    def derivative(self, t: ArrayLike, y: ArrayLike | None = None, u: ArrayLike | None = None) -> Array:
        """dy/dt of the learned equation, in your units: ``derivative(t, y)``, or ``derivative(y)`` at t = 0.

        Parameters
        ----------
        t : float or (B,) array_like
            Matters only to a field of your own that depends on time. One argument alone is y.
        y : (d,) or (B, d) array_like
            States.
        u : (m,) or (B, m) array_like, optional
            Control inputs.

        Returns
        -------
        array of the shape of y
            An ensemble gives that of the member of the lowest loss.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> t = np.linspace(0, 2, 20)
        >>> model = pn.NeuralODE(hidden=(), random_state=0).fit(t, np.exp(-t))
        >>> model.derivative([0.5]).round(3)
        array([-0.5])
        """
        if y is None:
            t, y = 0.0, t
        self.check_is_fitted()
        state, scaling = real_array("y", named_states(self, "y", y), np.float64), self.scaling_
        if u is not None:
            u = (real_array("u", named_inputs(self, u), np.float64) - scaling.u_shift) / scaling.u_scale
        value = self.field_(scaling.times(times_of(t, self.clock_)), scaling.states(state), self.theta_, u)
        slope: Array = scaling.slopes_back(state, value)
        return slope


def named_states(model: "Derivatives", name: str, y: Any) -> Any:
    """States in the order of the field where they are labelled by names: its own, or those of the data's columns."""
    if model.field_.state_names:
        return by_name(name, y, model.field_.state_names)
    return by_given_name(name, y, model.names_ if len(model.names_) == model.field_.d else ())


def named_inputs(model: Any, u: Any) -> Any:
    """Control inputs, or (times, values, kind), in the order of the columns of the fit where they are labelled by names.

    Dates become numbers, and values without a kind go between their times as those of the fit did.
    """
    names = model.columns_.get("input") or ()
    if isinstance(u, tuple) and len(u) > 1:
        return (times_of(u[0], model.clock_), by_name("u", u[1], names), *(u[2:] or (model.input_kind_,)))
    return by_name("u", u, names)


def times_of_each(t: Any, y0: Array) -> Any:
    """The times of each initial state."""
    if is_ragged(t):
        return t
    return [t] * (len(y0) if y0.ndim == 2 else 1)


def _shape(x: Any) -> Any:
    """The shape of an array, or those of a list of arrays."""
    if isinstance(x, list) and len(x) and isinstance(x[0], np.ndarray):
        return [np.shape(part) for part in x]
    return np.shape(x)
