"""The objective of first-order training: the mean loss over windows of the data, with regularisers."""

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import Batch
from pynode.engine.losses import LOSSES, slope
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.errors import OK
from pynode.fields.field import Field
from pynode.fields.states import limits
from pynode.optim.minibatches import Epochs
from pynode.training.coordinates import Coordinates
from pynode.training.noise import STUDENT
from pynode.training.regularisers import with_penalty
from pynode.training.windows import Windows

Array = NDArray[np.float64]


class TrainingObjective:
    """z -> (loss, gradient) with z = (x, free initial states in units of the spread); any optimiser may call it.

    Initial states with limits are coordinates without limits, as parameters are: u with y0 = low + exp(u), or the logit of
    their place between two limits.

    loss = mean of weight * rho(y - data) over the observed entries + decay / n_observed * |x|^2 + penalties

    Where a window cannot be solved to its end the loss is infinite: failing is never an improvement.

    Parameters
    ----------
    field : Field
        The vector field, with d states.
    windows : Windows
        W windows of the data.
    y0 : (W, d) array
        Initial states, where z starts.
    decay : float, default 0
        Strength of the Gaussian prior on x.
    weight : (d,) array, optional
        Weights of the states; the windows' own weights multiply them. Default: 1.
    loss : {"mse", "huber", "student"}, default "mse"
        rho, see `pynode.loss_and_grad`.
    loss_scale : float, default 1
        Its scale, see there.
    penalty : (float, float), default (0, 0)
        Weights of kinetic energy and Jacobian norm (see `pynode.fit.with_penalty`), means over the windows.
    coordinates : Coordinates, optional
        The map theta = T(x). Default: x is theta.
    **options
        See `pynode.solve`.

    Attributes
    ----------
    nfe : int
        Evaluations of the field so far, in the forward solves of all windows together.
    """

    y0: Array
    t: Array
    length: NDArray[np.int64]
    target: Array
    weights: Array
    nfe: int

    def __init__(
        self,
        field: Field,
        windows: Windows,
        y0: Array,
        decay: float = 0.0,
        weight: Array | None = None,
        loss: str = "mse",
        loss_scale: float = 1.0,
        penalty: tuple[float, float] = (0.0, 0.0),
        coordinates: Coordinates | None = None,
        **options: Any,
    ) -> None:
        self.limits = limits(field)
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates
        self.n_x = len(self.coordinates)
        self.d = field.d
        self.penalised = any(penalty)
        weight = np.ones(field.d) if weight is None else np.asarray(weight, dtype=np.float64)
        target = np.concatenate(windows.y)
        weights = np.broadcast_to(weight, target.shape)
        weights = np.array(weights if windows.weight is None else weights * np.concatenate(windows.weight))
        if self.penalised:
            field = with_penalty(field, *penalty)
            target = np.pad(target, ((0, 0), (0, 1)), constant_values=np.nan)
            weights = np.pad(weights, ((0, 0), (0, 1)))
            options = options | {"atol": np.append(np.broadcast_to(options.get("atol", 1e-8), self.d), 1e-3)}
        self.field = field
        self.unit = weight**-0.5
        self.decay_total = decay
        self.loss = loss
        self.loss_scale = loss_scale
        self.options = options
        self.signal = windows.signal
        length = np.array([len(t) for t in windows.t], dtype=np.int64)
        self._assemble(np.array(y0, dtype=np.float64), np.concatenate(windows.t), length, target, weights)

    def _assemble(self, y0: Array, t: Array, length: NDArray[np.int64], target: Array, weights: Array) -> None:
        """Make the core's problem for these windows, all rows one after the other."""
        self.y0 = y0
        self.t = t
        self.length = length
        self.target = target
        self.weights = weights
        self.nfe = 0
        self.start = np.cumsum(length) - length
        self.batch = Batch(t, self.start, length, self.start, self._whole(y0), "ragged", 0)
        self.solver = Options(inputs=self.signal, **self.options)
        self.setup = PreparedSolve(
            self.field,
            self.batch,
            self.solver,
            gradient=True,
            target=target,
            weight=weights,
            loss=LOSSES[self.loss][0],
            loss_scale=self.loss_scale,
            loss_dof=STUDENT,
        )
        self.last = self.start + length - 1
        self.n_observed = int((~np.isnan(target) & (weights > 0)).sum())
        self.scale = 1.0 / max(self.n_observed, 1)
        self.decay = self.decay_total / max(self.n_observed, 1)
        self.bare: PreparedSolve | None = None

    def part(self, which: NDArray[np.intp], last_times: Array | None = None) -> Self:
        """The objective of some of the windows, perhaps with other last times."""
        part = copy.copy(self)
        part.signal = None if self.signal is None else self.signal.take(which)
        length = self.length[which]
        begin = np.cumsum(length) - length
        rows = np.repeat(self.start[which] - begin, length) + np.arange(length.sum())
        t = self.t[rows]
        if last_times is not None:
            t[begin + length - 1] = last_times
        part._assemble(self.y0[which], t, length, self.target[rows], self.weights[rows])
        return part

    def join(self, x: Array) -> Array:
        """The z of x and the first initial states."""
        return np.concatenate([x, self.of_states(self.y0).ravel()])

    def split(self, z: Array) -> tuple[Array, Array]:
        """(x, initial states (W, d)) of a z."""
        return z[: self.n_x].copy(), self.states(z[self.n_x :].reshape(self.y0.shape))[0]

    def of_states(self, y0: Array) -> Array:
        """Coordinates of initial states (W, d)."""
        if self.limits is None:
            return np.asarray(y0 / self.unit, dtype=np.float64)
        low, high = self.limits
        with np.errstate(invalid="ignore", divide="ignore"):
            above = np.log(y0 - low)
            place = above - np.log(high - y0)
        return np.where(np.isfinite(high), place, np.where(np.isfinite(low), above, y0 / self.unit))

    def states(self, u: Array) -> tuple[Array, Array]:
        """(initial states (W, d) of their coordinates, their slopes)."""
        if self.limits is None:
            return u * self.unit, np.broadcast_to(self.unit, u.shape)
        low, high = self.limits
        boxed, positive = np.isfinite(high), np.isfinite(low) & ~np.isfinite(high)
        width = np.where(boxed, high - np.where(boxed, low, 0.0), 1.0)
        base = np.where(np.isfinite(low), low, 0.0)
        share = 0.5 * (1.0 + np.tanh(0.5 * u))
        growth = np.exp(np.minimum(u, 700.0))
        y0 = np.where(boxed, base + width * share, np.where(positive, base + growth, u * self.unit))
        return y0, np.where(boxed, width * share * (1 - share), np.where(positive, growth, self.unit))

    def __call__(self, z: Array) -> tuple[float, Array]:
        x = z[: self.n_x].copy()
        y0, slope_y0 = self.states(z[self.n_x :].reshape(self.y0.shape))
        raw, loss, g_theta, g_y0 = self._solve(np.ascontiguousarray(self.coordinates.theta(x)), y0)
        if (raw["status"] != OK).any():
            return np.inf, np.zeros_like(z)
        g_x = self.coordinates.pull(x, g_theta) + 2 * self.decay * x
        return float(loss + self.decay * (x @ x)), np.concatenate([g_x, (g_y0 * slope_y0).ravel()])

    def sample(self, x: Array, y0: Array) -> tuple[float, Array, Array, NDArray[np.bool_]]:
        """(loss, its gradients with respect to x and y0, whether each window failed (W,)); failed windows add nothing."""
        raw, loss, g_theta, g_y0 = self._solve(np.ascontiguousarray(self.coordinates.theta(x)), y0)
        return loss, self.coordinates.pull(x, g_theta), g_y0, raw["status"] != OK

    def _solve(self, theta: Array, y0: Array) -> tuple[Any, float, Array, Array]:
        """(results of the core, loss without decay, its gradients with respect to theta and y0)."""
        if not self.penalised:
            raw = self.setup.run(theta, y0=np.ascontiguousarray(y0), gradient="discrete", wrt_y0=True)
            self.nfe += int(raw["nfe"].sum())
            return raw, self.scale * raw["sample_loss"].sum(), self.scale * raw["g_theta"], self.scale * raw["g_y0"]
        raw = self.setup.run(theta, y0=self._whole(y0))
        self.nfe += int(raw["nfe"].sum())
        ok = raw["status"] == OK
        residual = np.where(np.isnan(self.target), 0.0, raw["y"] - self.target)
        seed = self.scale * self.weights * slope(self.loss, residual, self.loss_scale, STUDENT)
        seed[np.repeat(~ok, self.length)] = 0.0
        seed[self.last[ok], -1] = 1.0 / len(ok)
        loss = self.scale * raw["sample_loss"].sum() + raw["y"][self.last[ok], -1].sum() / len(ok)
        if self.bare is None:
            self.bare = PreparedSolve(self.field, self.batch, self.solver, gradient=True)
        back = self.bare.run(theta, y0=self._whole(y0), g_y=seed, gradient="discrete", wrt_y0=True)
        return raw, loss, back["g_theta"], back["g_y0"][:, :-1]

    def _whole(self, y0: Array) -> Array:
        """Initial states with the one of the penalty, where there is one."""
        return np.concatenate([y0, np.zeros((len(y0), 1))], axis=1) if self.penalised else np.ascontiguousarray(y0)


class Minibatches:
    """A stochastic objective over windows: `draw(k)` chooses the windows of iteration k.

    The choice depends on the random state and k alone. Windows that cannot be solved add nothing to an iteration; they are
    counted.

    Parameters
    ----------
    field, windows, y0, **options
        See `TrainingObjective`.
    batch_size : int
        How many windows an iteration has.
    random_state : int
        The same number, the same choices.
    steer : float, default 0
        End times are moved at random by at most this part of the last interval (STEER; Ghosh et al. 2020,
        arXiv:2006.10711); 0: they are not moved.

    Attributes
    ----------
    touched : int array
        Entries of z that the windows drawn depend on.
    failed : int
        Windows that could not be solved so far.
    nfe : int
        Evaluations of the field so far.
    """

    def __init__(
        self,
        field: Field,
        windows: Windows,
        y0: Array,
        batch_size: int,
        random_state: int,
        steer: float = 0.0,
        **options: Any,
    ) -> None:
        self.whole = TrainingObjective(field, windows, y0, **options)
        self.epochs = Epochs(len(windows), batch_size, random_state)
        self.random_state = random_state
        self.steer = steer
        self.d = field.d
        self.n_x = self.whole.n_x
        self.unit = self.whole.unit
        self.y0 = self.whole.y0
        self.decay = self.whole.decay
        self.failed = 0
        self.nfe = 0
        self.draw(1)

    @property
    def n_batches(self) -> int:
        """Iterations in an epoch."""
        return self.epochs.n_batches

    def join(self, x: Array) -> Array:
        """The z of x and the first initial states."""
        return self.whole.join(x)

    def split(self, z: Array) -> tuple[Array, Array]:
        """(x, initial states (W, d)) of a z."""
        return self.whole.split(z)

    def draw(self, k: int) -> None:
        """Choose the windows of iteration k = 1, 2, ..."""
        whole = self.whole
        moved = None
        self.which = np.sort(self.epochs.batch(k))
        if self.steer:
            move = np.random.default_rng([self.random_state, 1, k]).uniform(-self.steer, self.steer, len(self.which))
            last = whole.last[self.which]
            if whole.signal is not None:  # control inputs may end with the data
                move = -np.abs(move)
            moved = whole.t[last] + move * (whole.t[last] - whole.t[last - 1])
        self.objective = whole.part(self.which, moved)
        states = (self.which[:, None] * self.d + np.arange(self.d)).ravel()
        self.touched = np.concatenate([np.arange(self.n_x), self.n_x + states])

    def __call__(self, z: Array) -> tuple[float, Array]:
        x = z[: self.n_x].copy()
        y0, slope_y0 = self.whole.states(z[self.n_x :].reshape(self.y0.shape))
        loss, g_x, g_y0, failed = self.objective.sample(x, y0[self.which])
        self.nfe += self.objective.nfe
        self.objective.nfe = 0
        self.failed += int(failed.sum())
        if failed.all():
            return np.inf, np.zeros_like(z)
        gradient = np.zeros_like(z)
        gradient[: self.n_x] = g_x + 2 * self.decay * x
        gradient[self.touched[self.n_x :]] = (g_y0 * slope_y0[self.which]).ravel()
        return float(loss + self.decay * (x @ x)), gradient
