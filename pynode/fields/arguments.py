"""What users give as a vector field and its parameters, checked."""

import numpy as np

from pynode.data.arrays import real_array
from pynode.fields.callback import callback_field
from pynode.fields.field import Field
from pynode.fields.parameters import checked_theta
from pynode.fields.system import System


def as_field(f, d=None):
    """A Field, or a Python callable f(t, y) as a callback field (slow: Python runs at every stage of every step)."""
    if isinstance(f, Field):
        return f
    if isinstance(f, System):
        raise TypeError("a System cannot be used here: give its field (system.field)")
    if callable(f):
        if d is None:
            raise TypeError("a plain function is no field here: make one with pynode.field or pynode.callback_field")
        return callback_field(f, d)
    raise TypeError(f"f must be a Field (pynode.mlp, pynode.field, ...) or a function f(t, y), not {type(f).__name__}")


def as_dynamics(f, d=None):
    """A Field or a System; a Python callable as in `as_field`. Its derivative must have the size of its state."""
    f = f if isinstance(f, System) else as_field(f, d)
    if f.n_out != f.d:
        raise ValueError(f"{f.name} maps {f.d} state components to {f.n_out}: a vector field has as many of each")
    return f


def as_theta(f, theta, dtype):
    """The flat parameter vector (n_params,); a nested dict is flattened; None only where there are no parameters."""
    if theta is None and f.n_params == 0:
        return np.zeros(0, dtype)
    if theta is None:
        raise ValueError(f"{f.name} has {f.n_params} parameters: give theta, for example {f.name}.init(seed)")
    ready = type(theta) is np.ndarray and theta.dtype == dtype and theta.shape == (f.n_params,)  # in a training loop
    if not ready:
        theta = checked_theta(f.spec, theta)
    if not np.isfinite(theta).all():
        i = int(np.flatnonzero(~np.isfinite(theta))[0])
        raise ValueError(f"theta[{i}] is {theta[i]}: parameters must be finite")
    return np.ascontiguousarray(theta) if ready else real_array("theta", theta, dtype)
