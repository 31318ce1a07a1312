"""Recurrent cells: h+ = cell(h, x), as fields whose inputs are the data x of an observation.

As the jump of a `System` a cell changes the state at each observation; as the field of an Euler step it is a discrete
recurrent network.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.fields.make import field
from pynode.programs.functions import sigmoid


def gru_cell(size: int, inputs: int) -> Field:
    """A gated recurrent unit (Cho et al. 2014, arXiv:1406.1078, eq. 5-8, with biases).

        r = sigmoid(W_r [x, h] + b_r),   u = sigmoid(W_u [x, h] + b_u)
        h+ = u h + (1 - u) tanh(W [x, r h] + b)

    Parameters
    ----------
    size : int
        Size of the hidden state h.
    inputs : int
        Size of an observation x.

    Returns
    -------
    Field
        With state `size`, inputs `inputs`; parameters gates.W (2 size, inputs + size), gates.b, new.W, new.b.

    See Also
    --------
    rnn_cell : a plain recurrent unit.
    System : where a cell can be the jump at each observation.

    Examples
    --------
    >>> import pynode as pn
    >>> cell = pn.gru_cell(4, 2)
    >>> cell(0.0, [0.0] * 4, cell.init(0), u=[1.0, 2.0]).shape
    (4,)
    """
    n = inputs + size
    theta = {
        "gates": {"W": (2 * size, n), "b": np.zeros(2 * size)},
        "new": {"W": (size, n), "b": np.zeros(size)},
    }

    @field(state=size, theta=theta, inputs=inputs, name=f"gru({size}, {inputs})")
    def cell(t: Any, h: Any, th: Any, x: Any) -> Any:
        gates = sigmoid(th.gates.W @ np.concatenate([x, h]) + th.gates.b)
        r = gates[:size]
        u = gates[size:]
        new = np.tanh(th.new.W @ np.concatenate([x, r * h]) + th.new.b)
        return new + u * (h - new)

    return cell


def rnn_cell(size: int, inputs: int) -> Field:
    """A plain recurrent unit (Elman 1990), h+ = tanh(W [x, h] + b).

    Parameters
    ----------
    size : int
        Size of the hidden state h.
    inputs : int
        Size of an observation x.

    Returns
    -------
    Field
        With state `size`, inputs `inputs`; parameters W (size, inputs + size) and b.

    See Also
    --------
    gru_cell : a gated recurrent unit.

    Examples
    --------
    >>> import pynode as pn
    >>> cell = pn.rnn_cell(4, 2)
    >>> cell(0.0, [0.0] * 4, cell.init(0), u=[1.0, 2.0]).shape
    (4,)
    """

    @field(state=size, theta={"W": (size, inputs + size), "b": np.zeros(size)}, inputs=inputs, name=f"rnn({size}, {inputs})")
    def cell(t: Any, h: Any, th: Any, x: Any) -> Any:
        return np.tanh(th.W @ np.concatenate([x, h]) + th.b)

    return cell
