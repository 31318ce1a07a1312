"""Recurrent cells: h+ = cell(h, x), as fields whose inputs are the data x of an observation.

As the jump of a `System` a cell changes the state at each observation; as the field of an Euler step it is a discrete
recurrent network.
"""

import numpy as np

from pynode.fields.make import field
from pynode.programs.functions import sigmoid


def gru_cell(size, inputs):
    """A gated recurrent unit (Cho et al. 2014, arXiv:1406.1078, eq. 5-8, with biases).

        r = sigmoid(W_r [x, h] + b_r),   u = sigmoid(W_u [x, h] + b_u)
        h+ = u h + (1 - u) tanh(W [x, r h] + b)

    Parameters
    ----------
    size : int
        Of the hidden state h.
    inputs : int
        Of an observation x.

    Returns
    -------
    Field
        With state `size`, inputs `inputs`; parameters gates.W (2 size, inputs + size), gates.b, new.W, new.b.
    """
    n = inputs + size
    theta = {
        "gates": {"W": (2 * size, n), "b": np.zeros(2 * size)},
        "new": {"W": (size, n), "b": np.zeros(size)},
    }

    @field(state=size, theta=theta, inputs=inputs, name=f"gru({size}, {inputs})")
    def cell(t, h, th, x):
        gates = sigmoid(th.gates.W @ np.concatenate([x, h]) + th.gates.b)
        r, u = gates[:size], gates[size:]
        new = np.tanh(th.new.W @ np.concatenate([x, r * h]) + th.new.b)
        return new + u * (h - new)

    return cell


def rnn_cell(size, inputs):
    """A plain recurrent unit (Elman 1990), h+ = tanh(W [x, h] + b).

    Parameters
    ----------
    size, inputs : see `gru_cell`

    Returns
    -------
    Field
    """

    @field(state=size, theta={"W": (size, inputs + size), "b": np.zeros(size)}, inputs=inputs, name=f"rnn({size}, {inputs})")
    def cell(t, h, th, x):
        return np.tanh(th.W @ np.concatenate([x, h]) + th.b)

    return cell
