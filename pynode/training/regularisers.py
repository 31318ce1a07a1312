"""Regularisers along the path: integrals over time of functions of the field, as one more state."""

import numpy as np

from pynode.fields.field import Field
from pynode.fields.make import field
from pynode.fields.transforms import jacobian


def with_penalty(f: Field, kinetic=0.0, jacobian_norm=0.0):
    """The field with one more state q, dq/dt = kinetic |f|^2 / d + jacobian_norm |df/dy|_F^2 / d.

    The kinetic energy and the Frobenius norm of the Jacobian along the path keep dynamics simple and cheap to solve
    (Finlay et al. 2020, arXiv:2002.02798, eq. 6; here the norm itself in place of its stochastic estimate).

    Parameters
    ----------
    f : Field
        d states, with p parameters.
    kinetic, jacobian_norm : float

    Returns
    -------
    Field
        d + 1 states and the same parameters.
    """
    derivative = jacobian(f) if jacobian_norm else None

    def penalised(t, y, th, u=None):
        state = y[: f.d]
        slope = f.bind(th)(t, state, u)
        rate = kinetic / f.d * np.sum(slope**2) if kinetic else 0.0
        if derivative is not None:
            rate = rate + jacobian_norm / f.d * np.sum(derivative.bind(th)(t, state, u) ** 2)
        return np.concatenate([slope, np.reshape(rate, (1,))])

    make = field(state=f.d + 1, theta=f.n_params, inputs=f.inputs, name=f"{f.name} with a penalty")
    return make(penalised if f.inputs else lambda t, y, th: penalised(t, y, th))
