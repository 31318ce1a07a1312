"""Regularisers along the path: the integral over time of a function of the field, as one more state."""

from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.fields.make import field
from pynode.fields.transforms import jacobian


def with_penalty(f: Field, kinetic: float = 0.0, jacobian_norm: float = 0.0) -> Field:
    """The field with one more state q, dq/dt = kinetic |f|^2 / d + jacobian_norm |df/dy|_F^2 / d.

    The kinetic energy and the Frobenius norm of the Jacobian along the path keep dynamics simple and cheap to solve
    (Finlay et al. 2020, arXiv:2002.02798, eq. 6; here the exact norm in place of its stochastic estimate).

    Parameters
    ----------
    f : Field
        The vector field, with d states and p parameters.
    kinetic : float, default 0
        The weight of the kinetic energy.
    jacobian_norm : float, default 0
        The weight of the squared norm of the Jacobian.

    Returns
    -------
    Field
        d + 1 states and the same parameters. Where q starts at 0, its last value is the penalty of the path.

    See Also
    --------
    pynode.NeuralODE : its options kinetic_energy and jacobian_norm.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> decay = pn.field(state=1)(lambda t, y: -y)
    >>> f = pn.fit.with_penalty(decay, kinetic=1.0)
    >>> y = pn.solve(f, [1.0, 0.0], [0.0, 1.0]).y[-1]
    >>> bool(abs(y[1] - (1 - np.exp(-2)) / 2) < 1e-6)  # the integral of exp(-2 t)
    True
    """
    derivative = jacobian(f) if jacobian_norm else None

    def penalised(t: Any, y: Any, th: Any, u: Any = None) -> Any:
        state = y[: f.d]
        slope = f.bind(th)(t, state, u)
        rate: Any = kinetic / f.d * np.sum(slope**2) if kinetic else 0.0
        if derivative is not None:
            rate = rate + jacobian_norm / f.d * np.sum(derivative.bind(th)(t, state, u) ** 2)
        return np.concatenate([slope, np.reshape(rate, (1,))])

    name = f"{f.name} with a penalty"
    if not f.n_params:
        bare = field(state=f.d + 1, inputs=f.inputs, name=name)
        return bare((lambda t, y, u: penalised(t, y, None, u)) if f.inputs else (lambda t, y: penalised(t, y, None)))
    make = field(state=f.d + 1, theta=f.n_params, inputs=f.inputs, name=name)
    return make(penalised if f.inputs else lambda t, y, th: penalised(t, y, th))
