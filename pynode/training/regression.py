"""`Regression`: the loss of a function on the rows of a table, as a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import as_integer, as_positive, own_array
from pynode.engine.losses import LOSSES, REDUCTIONS, check_weights, rho
from pynode.fields import parameters
from pynode.fields.arguments import Theta
from pynode.fields.field import Field
from pynode.optim.minibatches import Epochs
from pynode.programs import derivatives
from pynode.programs.program import Program
from pynode.programs.tracing import new_trace, trace

Array = NDArray[np.float64]

PART = 1 << 16
"""So many rows at once: between parts, Ctrl-C is heard."""

RowLoss = Literal["mse", "sse", "mae", "huber", "student"]


class Regression:
    """The loss of a function on the rows of a table, as a function of its parameters: for plain networks, without any solve.

    ``regression(theta)`` returns (loss, gradient), which is what `pynode.fit.adam` and `pynode.fit.lbfgs` take.

    Parameters
    ----------
    f : Field
        The function: `pynode.mlp`, or one that `pynode.field` made. It takes d numbers, and n_out numbers are its value.
    x : (n, d) array_like
        A row for each call of f.
    target : (n, k) array_like
        What f(x) is compared with; (n,) if k = 1. For the losses that have a name, k = n_out, and NaN marks what is not
        known.
    loss : {"mse", "sse", "mae", "huber", "student"} or callable, default "mse"
        As in `loss_and_grad`: rho(f(x) - target), added up over the entries of all rows, each times its weight. Or a
        function loss(value, target) of NumPy operations on (n_out,) and (k,) arrays that gives one number; it is called
        once, to be traced as fields are.
    reduction : {"sum", "mean"}, optional
        Whether the sum is divided by the sum of the weights. Default: "sum" for "sse", else "mean".
    weight : (n, k) or (n, 1) array_like, optional
        Weights of the entries of the target, or of rows, not negative. For a callable loss (n,) or (n, 1). Default: 1.
    loss_scale : float, default 1
        The scale of "huber" and "student".
    loss_dof : float, default 4
        The degrees of freedom of "student".
    t : float or (n,) array_like, default 0
        Times, for an f that depends on t.
    u : (n, inputs) array_like, optional
        Inputs, for an f that has inputs.
    batch_size : int, optional
        Rows of a minibatch, which `pynode.fit.adam` draws anew for each iteration. Default: all rows.
    random_state : int, default 0
        The same number, the same minibatches.

    Attributes
    ----------
    field : Field
        The function.
    n_rows : int
        How many rows there are.
    n_observed : int
        Entries of the target that count; rows for a callable loss.
    n_batches : int
        Minibatches in an epoch; 1 without `batch_size`.

    Raises
    ------
    ValueError, TypeError
        An argument does not fit the others; the message names it. NaN or infinity in x, t or u, too.
    pynode.TraceError
        A loss that cannot be traced.

    See Also
    --------
    Objective : for functions that are right-hand sides: the loss of what they lead to.
    NeuralODERegressor : a model for rows that is a flow.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> x = np.linspace(-2, 2, 200)[:, None]
    >>> net = pn.mlp(1, (16,))
    >>> regression = pn.Regression(net, x, np.sin(2 * x))
    >>> result = pn.fit.lbfgs(regression, net.init(0), max_iter=300)
    >>> bool(np.abs(net(0.0, x, result.theta) - np.sin(2 * x)).max() < 0.05)
    True

    A loss of one's own, here the cross-entropy of two classes:

    >>> def cross_entropy(logit, label):
    ...     return pn.softplus(logit[0]) - label[0] * logit[0]
    >>> regression = pn.Regression(net, x, x > 0.3, loss=cross_entropy)
    >>> loss, gradient = regression(net.init(0))
    """

    def __init__(
        self,
        f: Field,
        x: ArrayLike,
        target: ArrayLike,
        *,
        loss: RowLoss | Callable[[Any, Any], Any] = "mse",
        reduction: Literal["sum", "mean"] | None = None,
        weight: ArrayLike | None = None,
        loss_scale: float = 1.0,
        loss_dof: float = 4.0,
        t: float | ArrayLike = 0.0,
        u: ArrayLike | None = None,
        batch_size: int | None = None,
        random_state: int = 0,
    ) -> None:
        if not isinstance(f, Field):
            raise TypeError(f"f must be a Field (pynode.mlp, pynode.field), not {type(f).__name__}")
        if f.callback is not None:
            raise TypeError("f is a callback field, which has no program to differentiate: write it with pynode.field")
        if not callable(loss) and (not isinstance(loss, str) or loss not in LOSSES):
            raise ValueError(f"loss={loss!r} is not one of {', '.join(LOSSES)}, nor a function of (value, target)")
        if reduction is not None and reduction not in REDUCTIONS:
            raise ValueError(f"reduction={reduction!r} must be 'sum' or 'mean'")
        if (u is None) != (f.inputs == 0):
            raise ValueError(f"f has {f.inputs} inputs, u {'is missing' if u is None else 'was given'}")
        self.field = f
        rows = _finite("x", x, None, f.d)
        n = self.n_rows = len(rows)
        if n == 0:
            raise ValueError("x has no rows")
        times = _finite("t", np.broadcast_to(t, n) if np.ndim(t) == 0 else t, n, 1)
        inputs = np.empty((n, 0)) if u is None else _finite("u", u, n, f.inputs)
        columns = None if callable(loss) else f.n_out
        goal, weights = _goal(target, n, columns), None if weight is None else _weights(weight, n, columns)
        if not callable(loss) and (unknown := np.isnan(goal)).any():
            weights = np.where(unknown, 0.0, 1.0 if weights is None else weights)
            goal = np.where(unknown, 0.0, goal)
        self._slots = [times, rows, inputs, goal] + ([] if weights is None else [weights])
        self.n_observed = (n if callable(loss) else goal.size) if weights is None else int((weights > 0).sum())
        if self.n_observed == 0:
            raise ValueError("no entry of target counts: all are NaN or of weight 0")
        self._mean = loss != "sse" if reduction is None else reduction == "mean"
        self._each = 1 if callable(loss) else f.n_out
        scale, dof = as_positive("loss_scale", loss_scale), as_positive("loss_dof", loss_dof)
        of_entries = loss if callable(loss) else lambda value, goal: rho(loss, value - goal, scale, dof)
        self._value = _program(f, goal.shape[1], None if weights is None else weights.shape[1], of_entries, self._each)
        self._gradient = derivatives.gradient_program(self._value)
        size = None if batch_size is None else as_integer("batch_size", batch_size, 1)
        self._epochs = Epochs(n, size, as_integer("random_state", random_state, 0))
        self.n_batches = self._epochs.n_batches
        self._now = self._slots
        if self.n_batches > 1:
            self.draw = self._draw  # what tells `pynode.fit.adam` that it is stochastic

    def __call__(self, theta: Theta) -> tuple[float, Array]:
        """(loss, gradient) of the rows drawn last, or of all rows.

        Parameters
        ----------
        theta : (n_params,) array or nested dict
            The parameters of f.

        Returns
        -------
        loss : float
        gradient : (n_params,) array
        """
        total, gradient = self._summed(self._gradient, theta, self._now)
        scale = self._scale(self._now)
        return total * scale, gradient * scale

    def value(self, theta: Theta) -> float:
        """The loss of all rows alone.

        Parameters
        ----------
        theta : (n_params,) array or nested dict
            The parameters of f.

        Returns
        -------
        float
        """
        return self._summed(self._value, theta, self._slots)[0] * self._scale(self._slots)

    def _draw(self, k: int) -> None:
        """Take the minibatch of iteration k = 1, 2, ...."""
        rows = self._epochs.batch(k)
        self._now = [slot[rows] for slot in self._slots]

    def _summed(self, program: Program, theta: Theta, slots: list[Array]) -> tuple[float, Array]:
        """(value, gradient) added up over rows."""
        flat = parameters.checked_theta(self.field.spec, theta)
        total, gradient = 0.0, np.zeros(len(flat))
        for begin in range(0, len(slots[0]), PART):
            (value,), found = program.evaluate([slot[begin : begin + PART] for slot in slots], [flat])
            total += 0.0 if value is None else float(value.sum())
            for part in found:
                gradient += part
        return total, gradient

    def _scale(self, slots: list[Array]) -> float:
        """What the sum is multiplied with; 0 for a minibatch in which nothing counts."""
        if not self._mean:
            return 1.0
        weight = float(slots[4].sum()) if len(slots) > 4 else float(len(slots[0]) * self._each)
        return 1.0 / weight if weight > 0 else 0.0


def _table(name: str, value: Any, n: int | None, columns: int | None) -> Array:
    """A copy (n, columns) of what a user gave; (n,) for one column."""
    a = own_array(name, value, np.float64)
    if a.ndim == 1 and columns in (None, 1):
        a = a[:, None]
    if a.ndim != 2 or (n is not None and len(a) != n) or (columns is not None and a.shape[1] != columns):
        wanted = f"({'n' if n is None else n}, {'k' if columns is None else columns})"
        raise ValueError(f"{name} has shape {np.shape(value)}; it must be {wanted}")
    return a


def _finite(name: str, value: Any, n: int | None, columns: int) -> Array:
    a = _table(name, value, n, columns)
    bad = np.flatnonzero(~np.isfinite(a).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{name} is not finite in {len(bad)} rows, the first is row {bad[0]}: leave them out or fill them in"
        )
    return a


def _goal(target: Any, n: int, columns: int | None) -> Array:
    """The target, with NaN where it is not known and columns are those of a function's value."""
    a = _table("target", target, n, columns)
    if columns is None and np.isnan(a).any():
        raise ValueError("target has NaN, of which a loss of one's own knows nothing: leave these rows out")
    if np.isinf(a).any():
        raise ValueError("target has infinite entries; leave these rows out")
    return a


def _weights(weight: Any, n: int, columns: int | None) -> Array:
    """(n, columns), or (n, 1) where columns is None; a column of them stands for all columns."""
    rows = np.ndim(weight) == 1 or np.shape(weight)[1:] == (1,)
    a = _table("weight", weight, n, 1 if rows or columns is None else columns)
    check_weights(a)
    return a if columns is None else np.ascontiguousarray(np.broadcast_to(a, (n, columns)))


def _program(f: Field, k: int, weights: int | None, loss: Callable[[Any, Any], Any], numbers: int) -> Program:
    """Slots (t, y, u, target) and, if there are some, weights; the loss of a row, a sum over so many numbers."""
    sizes = (1, f.d, f.inputs, k, *([] if weights is None else [weights]))
    the_trace = new_trace(sizes, (f.n_params,))
    given = [the_trace.slot(0, ()), the_trace.slot(1), *([the_trace.slot(2)] if f.inputs else [])]
    value = f.bind(the_trace.theta())(*given)
    each = trace(loss, [value, the_trace.slot(3)], the_trace, numbers)
    weighted: Any = each if weights is None else the_trace.slot(4) * each
    return the_trace.builder.finish([np.sum(weighted).register])
