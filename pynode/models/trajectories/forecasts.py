"""Forecasts of a NeuralODE: its trajectories, continued from where their data end."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import is_ragged, real_array
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.derivatives import named_inputs
from pynode.models.trajectories.frames import frame_of
from pynode.models.trajectories.intervals.predicted import Band, Kind, check_interval
from pynode.models.trajectories.new_trajectories import NewTrajectories
from pynode.models.trajectories.scaling import Scaling

Array = NDArray[np.float64]


class Forecasts(NewTrajectories):
    """The part of `NeuralODE` that continues trajectories."""

    def forecast(
        self,
        steps: Any,
        *,
        u: Any = None,
        doses: Any = None,
        interval: float | None = None,
        kind: Kind = "prediction",
        as_frame: bool | None = None,
    ) -> Any:
        """What comes after the data of each trajectory.

        Parameters
        ----------
        steps : int, (S,) array, or list of (S_i,) arrays
            How many steps, each as long as the median one of the trajectory's data; or times, of all trajectories or of
            each, after the end of the data.
        u : (S, m) array, list of (S_i, m) arrays, tuple or Signal, optional
            Control inputs at the times of the forecast: they go on from those of the data as these went. A `pynode.Signal`
            or (times, values[, kind]) replaces them all. Default: those of the data, where they reach so far.
        doses : list of Dose, optional
            All doses of the trajectory, see `predict`.
        interval : float, optional
            Intervals that hold this part of all, such as 0.9.
        kind : {"prediction", "mean"}, default "prediction"
            Intervals of new readings, or of the trajectory itself.
        as_frame : bool, optional
            A pandas.DataFrame with the columns of the data: time, trajectory (where there are several), states, and
            NAME_lower and NAME_upper. Default: if the model was fitted to a data frame.

        Returns
        -------
        (S, d) array, list of (S_i, d) arrays where there are several trajectories, `Band`, or pandas.DataFrame
            A `Band` (mean, lower, upper) of such arrays with `interval`.

        Raises
        ------
        ValueError
            Times are not after the data, or inputs are missing.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> t = np.linspace(0, 2, 20)
        >>> model = pn.NeuralODE(hidden=(), random_state=0).fit(t, np.exp(-t))
        >>> model.forecast(5).shape
        (5, 1)
        """
        self.check_is_fitted()
        data = self.data_
        if data is None:
            raise ValueError("the model was saved without its data, so there is no end to go on from: use predict with y0")
        if interval is not None:
            check_interval(interval, kind)
        times = _times(steps, data)
        signals = _signals(named_inputs(self, u), data, times, self.scaling_)
        bands = []
        for i, t in enumerate(times):
            given: dict[str, Any] = {"u": signals[i], "doses": doses, "trajectory": i}
            if interval is None:
                bands.append(Band(self.predict(t, **given), None, None))
            else:
                bands.append(self.predict(t, interval=float(interval), kind=kind, **given))
        parts: Any = [list(x) for x in zip(*bands, strict=True)]
        if self.in_frames_ if as_frame is None else as_frame:
            known: Any = self
            return frame_of(known, times, Band(parts[0], None if interval is None else parts[1], parts[2]), data.ids)
        if interval is None:
            return parts[0] if len(data) > 1 else parts[0][0]
        return Band(*parts) if len(data) > 1 else bands[0]


def _times(steps: Any, data: Trajectories) -> list[Array]:
    """The times (S_i,) of the forecast of each trajectory."""
    if isinstance(steps, (bool, np.bool_)):
        raise TypeError(f"steps={steps!r} must be a number of steps, or times")
    if isinstance(steps, (int, np.integer)):
        if steps < 1:
            raise ValueError(f"steps={steps!r} must be at least 1")
        found = []
        for name, t in zip(data.ids, data.t, strict=True):
            different = np.diff(t)[np.diff(t) > 0]
            if not len(different):
                raise ValueError(f"trajectory {name} has a single time, which tells no step: give times")
            found.append(t[-1] + np.median(different) * np.arange(1, int(steps) + 1))
        return found
    ragged = is_ragged(steps)
    if ragged and len(steps) != len(data):
        raise ValueError(f"there are times of {len(steps)} forecasts for {len(data)} trajectories")
    clock: Any = getattr(data, "clock", None)
    found = []
    for i, t in enumerate(data.t):
        given = steps[i] if ragged else steps
        if clock is not None and np.asarray(given).dtype.kind not in "if":
            given = clock.to_numbers(given)
        times = np.atleast_1d(real_array("steps", given, np.float64))
        if times.ndim != 1 or not len(times) or not (times > t[-1]).all() or (np.diff(times) < 0).any():
            raise ValueError(f"times of a forecast must rise, from after {t[-1]:g}, where trajectory {data.ids[i]} ends")
        found.append(times)
    return found


def _signals(u: Any, data: Trajectories, times: list[Array], scaling: Scaling) -> list[Signal | None]:
    """The control inputs of each trajectory, from its first time to the end of the forecast; None: those of the data."""
    past: Any = data.signal
    if u is None or past is None:
        if u is not None:
            raise ValueError("the model has no control inputs: leave u out")
        late = None if past is None else scaling.late(past)
        if late is not None and any(late.known_until(i) < t[-1] for i, t in enumerate(times)):
            raise ValueError("the control inputs of the data end before the forecast does: give u=, values at its times")
        return [None] * len(times)
    if isinstance(u, tuple):
        u = Signal(*u)
    if isinstance(u, Signal):
        return [u.take([i]) for i in range(len(times))]
    if past.kind == "constant":
        raise ValueError("the control inputs of the data are constants, which go on: leave u out, or give a pynode.Signal")
    listed = [u] * len(times)
    if isinstance(u, list) and len(u) == len(times) > 1:
        listed = u if all(np.shape(one)[:1] == t.shape for one, t in zip(u, times, strict=True)) else listed
    found: list[Signal | None] = []
    for i, (t, one) in enumerate(zip(times, listed, strict=True)):
        values = real_array("u", one, np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.shape != (len(t), past.m):
            raise ValueError(f"u has shape {values.shape}; the forecast has {len(t)} times and the model {past.m} inputs")
        own = 0 if past.shared else i
        before = past.t[own] < t[0]
        knots = np.concatenate([past.t[own][before], t])
        found.append(Signal([knots], [np.concatenate([past.u[own][before], values])], past.kind, past.knots))
    return found
