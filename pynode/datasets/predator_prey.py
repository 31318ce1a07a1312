"""The equations of predator and prey."""

from typing import Any

import numpy as np

from pynode.fields.constraints import positive
from pynode.fields.field import Field
from pynode.fields.make import field


def lotka_volterra() -> Field:
    """The equations of Lotka and Volterra for the logarithms of prey and predator, with what a fit may start from.

    d ln(prey) / dt = a - b predator,  d ln(predator) / dt = -c + d prey; all four positive.

    Returns
    -------
    Field
        For ``NeuralODE(field=..., log=True)``; parameters a, b, c, d in units of years and thousands.

    See Also
    --------
    pynode.datasets.lynx_hare : A record to fit them to.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.datasets.lotka_volterra()
    >>> f.d, f.n_params
    (2, 4)
    """

    @field(state=2, theta={"a": positive(0.5), "b": positive(0.03), "c": positive(0.8), "d": positive(0.03)})
    def lotka_volterra(t: Any, z: Any, th: Any) -> list[Any]:
        prey, predator = np.exp(z)
        return [th.a - th.b * predator, -th.c + th.d * prey]

    return lotka_volterra
