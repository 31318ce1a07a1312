"""Points carried by a flow: minibatches of samples that a field takes from t0 to t1, with a loss where they arrive."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pynode.data.batch import as_batch
from pynode.data.signal import Signal
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.errors import OK
from pynode.fields.field import Field
from pynode.fields.system import System
from pynode.fields.transforms import vjp
from pynode.optim.minibatches import Epochs

Array = NDArray[np.float64]


class FlowSamples:
    """z -> (loss, gradient), a stochastic objective for `pynode.fit.adam`: `draw(k)` chooses the samples of iteration k.

    loss = mean over the samples of l(y(t1), target; theta) + decay |z|^2,   dy/dt = f(t, y, u; theta),   y(t0) = start

    The samples are those of `Epochs`. A sample that cannot be solved adds nothing to an iteration.

    Parameters
    ----------
    field : Field
        f, with d states.
    loss : Field
        l: d states, one number; its inputs are the target of the sample.
    x : (n, k) array
        Samples.
    target : (n, m) array
        m = loss.inputs, at least 1.
    batch_size : int
        How many samples an iteration has.
    random_state : int
        Seed of minibatches and noise.
    lift : Field, optional
        y(t0) = lift(x), with parameters of its own. Default: x. States that this leaves start at zero.
    noise : callable, optional
        noise(rng, n) -> (n, field.inputs): the inputs of a batch, held over [t0, t1], drawn anew in each iteration.
    span : (float, float)
        t0, t1.
    decay : float
        Weight of |z|^2.
    dtype : {float64, float32}
        Of the solves; z, loss and gradient are float64.
    **options
        See `pynode.solve`.

    Attributes
    ----------
    nfe, solved, failed : int
        Evaluations of the field in forward solves, samples solved, and failures among them, so far.
    """

    def __init__(
        self,
        field: Field,
        loss: Field,
        x: Array,
        target: Array,
        batch_size: int,
        random_state: int,
        *,
        lift: Field | None = None,
        noise: Callable[[np.random.Generator, int], Array] | None = None,
        span: tuple[float, float] = (0.0, 1.0),
        decay: float = 0.0,
        dtype: DTypeLike | None = np.float64,
        **options: Any,
    ) -> None:
        if loss.inputs < 1:
            raise ValueError(f"{loss.name} needs a target: only a row that has one is left out where samples start")
        self.system, self.lift, self.noise = System(field, loss=loss), lift, noise
        self.x, self.dtype, self.random_state, self.decay = x, dtype, random_state, decay
        self.rows = np.full((len(x), 2, loss.inputs), np.nan, dtype=dtype)  # nothing is lost at t0
        self.rows[:, 1] = target
        self.t, self.options = np.array(span, dtype=np.float64), options
        self.epochs = Epochs(len(x), batch_size, random_state)
        self.nfe = self.solved = self.failed = 0
        self.setups: dict[int, PreparedSolve] = {}
        self.fixed = self._padded(x) if lift is None else None
        self.draw(1)

    @property
    def n_params(self) -> int:
        """Length of z = [field | loss | lift]."""
        return self.system.n_params + (0 if self.lift is None else self.lift.n_params)

    def draw(self, k: int) -> None:
        """The samples of iteration k = 1, 2, ..."""
        self.which, self.number = self.epochs.batch(k), k

    @property
    def n_batches(self) -> int:
        """Iterations of an epoch."""
        return self.epochs.n_batches

    def _padded(self, y: Array) -> NDArray[Any]:
        """States at t0 from those that are not zero."""
        y0 = np.zeros((len(y), self.system.d), dtype=self.dtype)
        y0[:, : y.shape[1]] = y
        return y0

    def value(self, z: Array) -> float:
        """The mean loss over all samples, without decay; inf where one of them cannot be solved.

        Their inputs are those of the iteration that was drawn last: the same ones in each call, if nothing is drawn.
        """
        raw = self._run(z, np.arange(len(self.x)))
        return float(raw["sample_loss"].mean()) if (raw["status"] == OK).all() else np.inf

    def __call__(self, z: Array) -> tuple[float, Array]:
        x, n = self.x[self.which], self.system.n_params
        raw = self._run(z, self.which, gradient="discrete", wrt_y0=self.lift is not None)
        ok = len(x) - raw["failed"]
        self.nfe += int(raw["nfe"].sum())
        self.solved, self.failed = self.solved + len(x), self.failed + len(x) - ok
        if not ok:
            return np.inf, np.zeros_like(z)
        gradient = raw["g_theta"]
        if self.lift is not None:
            g_start = raw["g_y0"][:, : self.lift.n_out].astype(np.float64)
            gradient = np.concatenate([gradient, vjp(self.lift)(0.0, x, z[n:], g_start).theta])
        loss, gradient = raw["total_loss"] / ok, gradient / ok
        if self.decay:
            loss, gradient = loss + self.decay * float(z @ z), gradient + 2 * self.decay * z
        return loss, gradient

    def _run(self, z: Array, which: NDArray[np.int64], **keys: Any) -> Any:
        """What the core makes of these samples."""
        n, rows = self.system.n_params, self.rows[which].reshape(2 * len(which), -1)
        if self.fixed is not None:
            y0 = self.fixed[which]
        else:
            assert self.lift is not None
            y0 = self._padded(self.lift(0.0, self.x[which], z[n:]))
        theta = np.ascontiguousarray(z[:n], dtype=self.dtype)
        return self._setup(y0, rows).run(theta, y0=y0, target=rows, **keys)

    def _setup(self, y0: NDArray[Any], rows: NDArray[Any]) -> PreparedSolve:
        """The problem of the core for a batch of this size; made anew where it has inputs, which change."""
        if self.noise is None and len(y0) in self.setups:
            return self.setups[len(y0)]
        inputs = None
        if self.noise is not None:
            inputs = Signal(
                None, self.noise(np.random.default_rng([self.random_state, 1, self.number]), len(y0)), "constant"
            )
        batch, options = as_batch(y0, self.t, self.system.d), Options(inputs=inputs, **self.options)
        setup = self.setups[len(y0)] = PreparedSolve(self.system, batch, options, gradient=True, target=rows, loss="program")
        return setup
