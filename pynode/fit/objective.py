"""What training minimises: the mean squared error over windows of the data, with weight decay; pure."""

import itertools
from dataclasses import dataclass

import numpy as np

from pynode.errors import OK
from pynode.gradients import Objective


@dataclass(frozen=True)
class Windows:
    """Pieces of trajectories, each with an initial state of its own.

    Attributes
    ----------
    t : list of (K_i,) arrays
    y : list of (K_i, d) arrays
        NaN: not observed.
    source : (W, 2) int array
        Trajectory and first index of each window.
    """

    t: list
    y: list
    source: np.ndarray

    @classmethod
    def cut(cls, t, y, intervals=None):
        """Cut trajectories into windows of about `intervals` steps of time; neighbours share an end.

        None: whole trajectories. Windows in which fewer than two times are observed are left out.
        """
        ts, ys, source = [], [], []
        for i, (times, states) in enumerate(zip(t, y, strict=True)):
            last = max(len(times) - 1, 1)
            pieces = 1 if intervals is None else max(1, round(last / intervals))
            ends = np.linspace(0, last, pieces + 1).round().astype(int)
            for a, b in itertools.pairwise(ends):
                if (~np.isnan(states[a : b + 1])).any(axis=1).sum() >= 2:
                    ts.append(times[a : b + 1])
                    ys.append(states[a : b + 1])
                    source.append((i, a))
        if not ts:
            raise ValueError("no trajectory is observed at two times or more: there is nothing to learn from")
        return cls(ts, ys, np.array(source))

    def __len__(self):
        return len(self.t)


class TrainingObjective:
    """x -> (loss, gradient) with x = (theta, sqrt(weight) * initial states); any optimiser may call it.

    loss = mean of weight (y - data)^2 over the observed entries + decay / n_observed * |theta|^2

    Where a window cannot be solved to its end the loss is infinite: failing is never an improvement.

    Parameters
    ----------
    field : Field
    windows : Windows
    y0 : (W, d) array
        Initial states, the part of the first x.
    decay : float
        Strength of the Gaussian prior on theta.
    weight : (d,) array, optional
        Of the states.
    **options
        Of `pynode.solve`.

    Attributes
    ----------
    nfe : int
        Evaluations of the field so far (of the forward solves, all windows together).
    """

    def __init__(self, field, windows, y0, decay=0.0, weight=None, **options):
        self.objective = Objective(field, y0, windows.t, windows.y, weight=weight, **options)
        self.n_theta, self.y0 = field.n_params, np.array(y0, dtype=np.float64)
        self.unit = np.ones(field.d) if weight is None else np.asarray(weight) ** -0.5
        self.scale, self.decay = 1.0 / self.objective.n_observed, decay / self.objective.n_observed
        self.nfe = 0

    def join(self, theta):
        """The x to start from."""
        return np.concatenate([theta, (self.y0 / self.unit).ravel()])

    def split(self, x):
        """(theta, y0 (W, d)) of an x."""
        return x[: self.n_theta].copy(), x[self.n_theta :].reshape(self.y0.shape) * self.unit

    def __call__(self, x):
        theta, y0 = self.split(x)
        raw = self.objective.setup.run(theta, y0=y0, gradient="discrete", wrt_y0=True)
        self.nfe += int(raw["nfe"].sum())
        if (raw["status"] != OK).any():
            return np.inf, np.zeros_like(x)
        loss = self.scale * raw["sample_loss"].sum() + self.decay * (theta @ theta)
        g_theta = self.scale * raw["g_theta"] + 2 * self.decay * theta
        g_y0 = self.scale * raw["g_y0"] * self.unit
        return float(loss), np.concatenate([g_theta, g_y0.ravel()])
