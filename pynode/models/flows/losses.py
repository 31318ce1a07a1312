"""Readouts and losses where a flow arrives: fields of the state there, whose input u is the target."""

from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.fields.make import field


def log_sum_exp(z: Any) -> Any:
    """log sum_i exp z_i without overflow, inside a field."""
    top = z[0]
    for i in range(1, len(z)):
        top = np.maximum(top, z[i])
    return top + np.log(np.sum(np.exp(z - top)))


def _cross_entropy(z: Any, u: Any) -> Any:
    return log_sum_exp(z) - np.sum(u * z)


def _squared(z: Any, u: Any) -> Any:
    return np.mean((z - u) ** 2)


def _huber(z: Any, u: Any) -> Any:
    r = np.abs(z - u)
    return np.mean(np.where(r < 1.0, 0.5 * r**2, r - 0.5))


LOSSES = {"cross-entropy": _cross_entropy, "squared": _squared, "huber": _huber}


def end_loss(readout: Field, d: int, loss: str, weighted: bool = False) -> Field:
    """The field l(y, u) = loss(readout(y), u), plus what states after the d-th hold (`pynode.fit.with_penalty`).

    weighted: times one more input, the weight of the sample, the last.
    """
    extra, m = d - readout.d, readout.n_out

    @field(state=d, theta={"readout": readout}, inputs=m + weighted, out=1, name=loss)
    def end(t: Any, y: Any, th: Any, u: Any) -> Any:
        value = LOSSES[loss](th.readout(y[: readout.d]), u[:m])
        value = value + y[d - 1] if extra else value
        return np.reshape(u[m] * value if weighted else value, (1,))

    return end


def first_states(d: int, m: int) -> Field:
    """The readout without parameters: the first m states."""

    @field(state=d, out=m, name="first states")
    def first(t: Any, y: Any) -> Any:
        return y[:m]

    return first
