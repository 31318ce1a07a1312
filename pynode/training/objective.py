"""What first-order training minimises: the mean loss over windows of the data, with regularisers; pure functions."""

import copy

import numpy as np

from pynode.data.batch import Batch
from pynode.engine.losses import LOSSES, slope
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.errors import OK
from pynode.optim.minibatches import Epochs
from pynode.training.coordinates import Coordinates
from pynode.training.noise import STUDENT
from pynode.training.regularisers import with_penalty


class TrainingObjective:
    """z -> (loss, gradient) with z = (x, free initial states in units of the spread); any optimiser may call it.

    loss = mean of weight * rho(y - data) over the observed entries + decay / n_observed * |x|^2 + penalties

    Where a window cannot be solved to its end the loss is infinite: failing is never an improvement.

    Parameters
    ----------
    field : Field
    windows : Windows
    y0 : (W, d) array
        Initial states, where z starts.
    decay : float
        Strength of the Gaussian prior on x.
    weight : (d,) array, optional
        Of the states; the windows' own weights multiply it.
    loss : {"mse", "huber", "student"}
    loss_scale : float
        See `pynode.loss_and_grad`.
    penalty : (float, float)
        Kinetic energy and Jacobian norm (see `pynode.fit.regularisers`), means over the windows.
    coordinates : Coordinates, optional
    **options
        Of `pynode.solve`.

    Attributes
    ----------
    nfe : int
        Evaluations of the field so far (of the forward solves, all windows together).
    """

    def __init__(
        self,
        field,
        windows,
        y0,
        decay=0.0,
        weight=None,
        loss="mse",
        loss_scale=1.0,
        penalty=(0.0, 0.0),
        coordinates=None,
        **options,
    ):
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates
        self.n_x, self.d, self.penalised = len(self.coordinates), field.d, any(penalty)
        weight = np.ones(field.d) if weight is None else np.asarray(weight, dtype=np.float64)
        target = np.concatenate(windows.y)
        weights = np.broadcast_to(weight, target.shape)
        weights = np.array(weights if windows.weight is None else weights * np.concatenate(windows.weight))
        if self.penalised:
            field = with_penalty(field, *penalty)
            target, weights = np.pad(target, ((0, 0), (0, 1)), constant_values=np.nan), np.pad(weights, ((0, 0), (0, 1)))
            options = options | {"atol": np.append(np.broadcast_to(options.get("atol", 1e-8), self.d), 1e-3)}
        self.field, self.unit, self.decay_total = field, weight**-0.5, decay
        self.loss, self.options, self.signal = {"loss_scale": loss_scale, "name": loss}, options, windows.signal
        length = np.array([len(t) for t in windows.t], dtype=np.int64)
        self._assemble(np.array(y0, dtype=np.float64), np.concatenate(windows.t), length, target, weights)

    def _assemble(self, y0, t, length, target, weights):
        """The problem of the core for these windows, all rows one after the other."""
        self.y0, self.t, self.length, self.target, self.weights, self.nfe = y0, t, length, target, weights, 0
        self.start = np.cumsum(length) - length
        self.batch = Batch(t, self.start, length, self.start, self._whole(y0), "ragged", 0)
        rho = {"loss": LOSSES[self.loss["name"]][0], "loss_scale": self.loss["loss_scale"]}
        self.solver = Options(inputs=self.signal, **self.options)
        self.setup = PreparedSolve(
            self.field, self.batch, self.solver, gradient=True, target=target, weight=weights, loss_dof=STUDENT, **rho
        )
        self.last = self.start + length - 1
        self.n_observed = int((~np.isnan(target) & (weights > 0)).sum())
        self.scale, self.decay = 1.0 / max(self.n_observed, 1), self.decay_total / max(self.n_observed, 1)
        self.bare = None

    def part(self, which, last_times=None):
        """The same of some of the windows, their last times moved perhaps."""
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

    def join(self, x):
        """The z to start from."""
        return np.concatenate([x, (self.y0 / self.unit).ravel()])

    def split(self, z):
        """(x, y0 (W, d)) of a z."""
        return z[: self.n_x].copy(), z[self.n_x :].reshape(self.y0.shape) * self.unit

    def __call__(self, z):
        x, y0 = self.split(z)
        raw, loss, g_theta, g_y0 = self._solve(np.ascontiguousarray(self.coordinates.theta(x)), y0)
        if (raw["status"] != OK).any():
            return np.inf, np.zeros_like(z)
        loss += self.decay * (x @ x)
        g_x = self.coordinates.pull(x, g_theta) + 2 * self.decay * x
        return float(loss), np.concatenate([g_x, (g_y0 * self.unit).ravel()])

    def sample(self, x, y0):
        """(loss, gradient of x, gradient of y0, whether a window failed (W,)): failed windows add nothing."""
        raw, loss, g_theta, g_y0 = self._solve(np.ascontiguousarray(self.coordinates.theta(x)), y0)
        return loss, self.coordinates.pull(x, g_theta), g_y0, raw["status"] != OK

    def _solve(self, theta, y0):
        if not self.penalised:
            raw = self.setup.run(theta, y0=np.ascontiguousarray(y0), gradient="discrete", wrt_y0=True)
            self.nfe += int(raw["nfe"].sum())
            return raw, self.scale * raw["sample_loss"].sum(), self.scale * raw["g_theta"], self.scale * raw["g_y0"]
        raw = self.setup.run(theta, y0=self._whole(y0))
        self.nfe += int(raw["nfe"].sum())
        ok = raw["status"] == OK
        residual = np.where(np.isnan(self.target), 0.0, raw["y"] - self.target)
        seed = self.scale * self.weights * slope(self.loss["name"], residual, self.loss["loss_scale"], STUDENT)
        seed[np.repeat(~ok, self.length)] = 0.0
        seed[self.last[ok], -1] = 1.0 / len(ok)
        loss = self.scale * raw["sample_loss"].sum() + raw["y"][self.last[ok], -1].sum() / len(ok)
        if self.bare is None:
            self.bare = PreparedSolve(self.field, self.batch, self.solver, gradient=True)
        back = self.bare.run(theta, y0=self._whole(y0), g_y=seed, gradient="discrete", wrt_y0=True)
        return raw, loss, back["g_theta"], back["g_y0"][:, :-1]

    def _whole(self, y0):
        return np.concatenate([y0, np.zeros((len(y0), 1))], axis=1) if self.penalised else np.ascontiguousarray(y0)


class Minibatches:
    """A stochastic objective over windows: `draw(k)` chooses the windows of iteration k, by the random state and k alone.

    Windows that fail add nothing to an iteration; they are counted.

    Parameters
    ----------
    field, windows, y0, **options : see `TrainingObjective`
    batch_size : int
        Windows of an iteration.
    random_state : int
    steer : float
        End times are moved at random by at most this part of the last interval (STEER; Ghosh et al. 2020,
        arXiv:2006.10711); 0: not.

    Attributes
    ----------
    touched : int array
        Entries of z that the windows drawn depend on.
    failed : int
        Failures so far.
    """

    def __init__(self, field, windows, y0, batch_size, random_state, steer=0.0, **options):
        self.whole = TrainingObjective(field, windows, y0, **options)
        self.epochs = Epochs(len(windows), batch_size, random_state)
        self.random_state, self.steer, self.d = random_state, steer, field.d
        self.n_x, self.unit, self.y0 = self.whole.n_x, self.whole.unit, self.whole.y0
        self.failed, self.nfe = 0, 0
        self.decay = self.whole.decay
        self.draw(1)

    @property
    def n_batches(self):
        """Iterations of an epoch."""
        return self.epochs.n_batches

    def join(self, x):
        return self.whole.join(x)

    def split(self, z):
        return self.whole.split(z)

    def draw(self, k):
        """The windows of iteration k = 1, 2, ..."""
        self.which, moved, whole = np.sort(self.epochs.batch(k)), None, self.whole
        if self.steer:
            move = np.random.default_rng([self.random_state, 1, k]).uniform(-self.steer, self.steer, len(self.which))
            last = whole.last[self.which]
            if whole.signal is not None:  # control inputs may end with the data
                move = -np.abs(move)
            moved = whole.t[last] + move * (whole.t[last] - whole.t[last - 1])
        self.objective = whole.part(self.which, moved)
        states = (self.which[:, None] * self.d + np.arange(self.d)).ravel()
        self.touched = np.concatenate([np.arange(self.n_x), self.n_x + states])

    def __call__(self, z):
        x, y0 = self.split(z)
        loss, g_x, g_y0, failed = self.objective.sample(x, y0[self.which])
        self.nfe += self.objective.nfe
        self.objective.nfe = 0
        self.failed += int(failed.sum())
        if failed.all():
            return np.inf, np.zeros_like(z)
        gradient = np.zeros_like(z)
        gradient[: self.n_x] = g_x + 2 * self.decay * x
        gradient[self.touched[self.n_x :]] = (g_y0 * self.unit).ravel()
        return float(loss + self.decay * (x @ x)), gradient
