"""Points carried by a flow: minibatches of samples that a field takes from t0 to t1, with a loss where they arrive."""

import numpy as np

from pynode.arguments import as_batch
from pynode.errors import OK
from pynode.inputs import Signal
from pynode.solving import Options, Setup
from pynode.transforms import vjp


class CarriedSamples:
    """z -> (loss, gradient), a stochastic objective for `pynode.fit.adam`: `draw(k)` chooses the samples of iteration k.

    loss = mean over the samples of l(y(t1), target; theta) + decay |z|^2,   dy/dt = f(t, y, u; theta),   y(t0) = start

    Samples are shuffled once an epoch, by the seed and the number of the epoch alone. A sample that cannot be solved adds
    nothing to an iteration.

    Parameters
    ----------
    field : Field
        d states.
    loss : Field
        l: d states, one number; its inputs are the target of the sample.
    x : (n, k) array
        Samples.
    target : (n, m) array
        m = loss.inputs, perhaps 0.
    batch_size : int
    seed : int
    lift : Field, optional
        y(t0) = lift(x), with parameters of its own. Default: x. States that this leaves start at zero.
    noise : callable, optional
        noise(rng, n) -> (n, field.inputs): the inputs of a batch, held over [t0, t1], drawn anew in each iteration.
    span : (float, float)
        t0, t1.
    decay : float
    dtype : {float64, float32}
        Of the solves; z, loss and gradient are float64.
    **options
        Of `pynode.solve`.

    Attributes
    ----------
    n_batches : int
        Iterations of an epoch.
    nfe, solved, failed : int
        Evaluations of the field in forward solves, samples solved, and failures among them, so far.
    """

    def __init__(
        self,
        field,
        loss,
        x,
        target,
        batch_size,
        seed,
        *,
        lift=None,
        noise=None,
        span=(0.0, 1.0),
        decay=0.0,
        dtype=np.float64,
        **options,
    ):
        self.field, self.loss, self.lift, self.noise = field, loss, lift, noise
        self.x, self.target, self.dtype, self.seed, self.decay = x, target, dtype, seed, decay
        self.t, self.options = np.array(span, dtype=np.float64), options
        self.n_batches = max(1, len(x) // batch_size)
        self.nfe = self.solved = self.failed = 0
        self.setups: dict = {}
        self.epoch = -1
        self.draw(1)

    @property
    def n_params(self):
        """Length of z = [field | loss | lift]."""
        return sum(part.n_params for part in (self.field, self.loss, self.lift) if part is not None)

    def draw(self, k):
        """The samples of iteration k = 1, 2, ..."""
        epoch, batch = divmod(k - 1, self.n_batches)
        if epoch != self.epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))
            self.order, self.epoch = np.array_split(order, self.n_batches), epoch
        self.which, self.number = self.order[batch], k

    def start(self, x, z):
        """(n, d) states at t0."""
        y = x if self.lift is None else self.lift(0.0, x, z[len(z) - self.lift.n_params :])
        return np.pad(y, ((0, 0), (0, self.field.d - y.shape[1])))

    def __call__(self, z):
        x, p, q = self.x[self.which], self.field.n_params, self.field.n_params + self.loss.n_params
        y0 = self.start(x, z)
        setup, theta = self._setup(y0), np.ascontiguousarray(z[:p], dtype=self.dtype)
        raw = setup.run(theta)
        ok = raw["status"] == OK
        self.nfe += int(raw["nfe"].sum())
        self.solved, self.failed = self.solved + len(x), self.failed + int((~ok).sum())
        if not ok.any():
            return np.inf, np.zeros_like(z)
        value, g_end, g_loss = self._end(raw["y"][1::2], z[p:q], ok)
        seed = np.zeros(raw["y"].shape, self.dtype)
        seed[1::2] = g_end
        back = setup.run(theta, g_y=seed, gradient="discrete", wrt_y0=self.lift is not None)
        parts = [back["g_theta"], g_loss]
        if self.lift is not None:
            g_start = back["g_y0"][:, : self.lift.n_out].astype(np.float64)
            parts.append(vjp(self.lift)(0.0, x, z[q:], g_start).theta)
        return value + self.decay * float(z @ z), np.concatenate(parts) + 2 * self.decay * z

    def _end(self, y, theta, ok):
        """(mean loss, its gradient with respect to the states where samples arrive, that of the loss's parameters)."""
        y, target = np.where(ok[:, None], y, 0.0).astype(np.float64), self.target[self.which]
        inputs = {"u": target} if self.loss.inputs else {}
        given = (theta,) if self.loss.n_params else ()
        weight = ok[:, None] / ok.sum()
        value = self.loss(self.t[1], y, *given, **inputs)
        g = vjp(self.loss)(self.t[1], y, *given, weight, **inputs)
        return float((value * weight).sum()), g.y, g.theta

    def _setup(self, y0):
        """The problem of the core for a batch that starts at y0; kept for each size of batch, but for inputs, which change."""
        y0 = np.ascontiguousarray(y0, dtype=self.dtype)
        inputs = None
        if self.noise is not None:
            rng = np.random.default_rng([self.seed, 1, self.number])
            inputs = Signal(None, self.noise(rng, len(y0)), "constant")
        setup = None if inputs is not None else self.setups.get(len(y0))
        if setup is None:
            batch = as_batch(y0, self.t, self.field.d)
            setup = _At(Setup(self.field, batch, Options(inputs=inputs, **self.options), gradient=True))
            self.setups[len(y0)] = setup
        setup.y0 = y0
        return setup


class _At:
    """A problem with other initial states."""

    def __init__(self, setup):
        self.setup, self.y0 = setup, None

    def run(self, theta, **keys):
        return self.setup.run(theta, y0=self.y0, **keys)
