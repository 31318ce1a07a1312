"""What first-order training minimises: the mean loss over windows of the data, with regularisers; pure functions."""

import numpy as np

from pynode.errors import OK
from pynode.fit.coordinates import Coordinates
from pynode.fit.regularisers import with_penalty
from pynode.gradients import Objective
from pynode.solving import Setup


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
        self.coordinates = coordinates or Coordinates((), np.zeros(field.n_params))
        self.n_x, self.y0, self.d = len(self.coordinates), np.array(y0, dtype=np.float64), field.d
        self.penalised = any(penalty)
        y, start, weight = windows.y, self.y0, np.ones(field.d) if weight is None else np.asarray(weight, dtype=np.float64)
        self.unit = weight**-0.5
        weights = [
            weight * np.ones(v.shape) if windows.weight is None else weight * windows.weight[i] for i, v in enumerate(y)
        ]
        if self.penalised:
            field = with_penalty(field, *penalty)
            y = [np.concatenate([v, np.full((len(v), 1), np.nan)], axis=1) for v in y]
            weights = [np.concatenate([w, np.zeros((len(w), 1))], axis=1) for w in weights]
            options = options | {"atol": np.append(np.broadcast_to(options.get("atol", 1e-8), self.d), 1e-3)}
        inputs = {} if windows.signal is None else {"inputs": windows.signal}
        self.objective = Objective(
            field, self._whole(start), windows.t, y, loss=loss, loss_scale=loss_scale, weight=weights, **inputs, **options
        )
        self.last = np.cumsum([len(v) for v in y]) - 1
        self.scale, self.decay = 1.0 / self.objective.n_observed, decay / self.objective.n_observed
        self.nfe = 0

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
        setup = self.objective.setup
        if not self.penalised:
            raw = setup.run(theta, y0=np.ascontiguousarray(y0), gradient="discrete", wrt_y0=True)
            self.nfe += int(raw["nfe"].sum())
            return raw, self.scale * raw["sample_loss"].sum(), self.scale * raw["g_theta"], self.scale * raw["g_y0"]
        raw = setup.run(theta, y0=self._whole(y0))
        self.nfe += int(raw["nfe"].sum())
        ok = raw["status"] == OK
        seed = self.objective.seed(raw) * self.scale
        seed[self.last[ok], -1] = 1.0 / len(ok)
        loss = self.scale * raw["sample_loss"].sum() + raw["y"][self.last[ok], -1].sum() / len(ok)
        back = self._pulled(setup, theta, y0, seed)
        return raw, loss, back["g_theta"], back["g_y0"][:, :-1]

    def _pulled(self, setup, theta, y0, seed):
        if not hasattr(self, "bare"):
            self.bare = Setup(setup.field, setup.batch, setup.options, gradient=True)
        return self.bare.run(theta, y0=self._whole(y0), g_y=seed, gradient="discrete", wrt_y0=True)

    def _whole(self, y0):
        return np.concatenate([y0, np.zeros((len(y0), 1))], axis=1) if self.penalised else np.ascontiguousarray(y0)


class Minibatches:
    """A stochastic objective over windows: `draw(k)` chooses the windows of iteration k, by the seed and k alone.

    Windows are shuffled once an epoch. Windows that fail add nothing to an iteration; they are counted.

    Parameters
    ----------
    field, windows, y0, **options : see `TrainingObjective`
    batch_size : int
        Windows of an iteration.
    seed : int
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

    def __init__(self, field, windows, y0, batch_size, seed, steer=0.0, coordinates=None, **options):
        self.coordinates = coordinates or Coordinates((), np.zeros(field.n_params))
        self.field, self.windows, self.y0, self.options = field, windows, np.array(y0), options
        self.batch_size, self.seed, self.steer = min(batch_size, len(windows)), seed, steer
        weight = options.get("weight")
        self.unit = np.ones(field.d) if weight is None else np.asarray(weight) ** -0.5
        self.n_x, self.failed, self.nfe, self.epoch = len(self.coordinates), 0, 0, -1
        self.n_batches = max(1, len(windows) // self.batch_size)
        self.draw(1)

    def join(self, x):
        return np.concatenate([x, (self.y0 / self.unit).ravel()])

    def split(self, z):
        return z[: self.n_x].copy(), z[self.n_x :].reshape(self.y0.shape) * self.unit

    def draw(self, k):
        """The windows of iteration k = 1, 2, ..."""
        epoch, batch = divmod(k - 1, self.n_batches)
        if epoch != self.epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.windows))
            self.order, self.epoch = np.array_split(order, self.n_batches), epoch
        self.which = np.sort(self.order[batch])
        d, windows = self.field.d, self.windows.take(self.which)
        if self.steer:
            rng = np.random.default_rng([self.seed, 1, k])
            for i, t in enumerate(windows.t):
                move = rng.uniform(-self.steer, self.steer) * (t[-1] - t[-2])
                windows.t[i] = np.append(t[:-1], t[-1] + (min(move, 0.0) if windows.signal is not None else move))
        self.objective = TrainingObjective(
            self.field, windows, self.y0[self.which], coordinates=self.coordinates, **self.options
        )
        self.objective.decay = self.options.get("decay", 0.0) / self.windows.n_observed
        states = (self.which[:, None] * d + np.arange(d)).ravel()
        self.touched = np.concatenate([np.arange(self.n_x), self.n_x + states])

    def __call__(self, z):
        x, y0 = self.split(z)
        before = self.objective.nfe
        loss, g_x, g_y0, failed = self.objective.sample(x, y0[self.which])
        self.nfe += self.objective.nfe - before
        self.failed += int(failed.sum())
        if failed.all():
            return np.inf, np.zeros_like(z)
        gradient = np.zeros_like(z)
        gradient[: self.n_x] = g_x + 2 * self.objective.decay * x
        gradient[self.touched[self.n_x :]] = (g_y0 * self.unit).ravel()
        return float(loss + self.objective.decay * (x @ x)), gradient
