"""Functions that NumPy lacks, for NumPy arrays and inside fields alike."""

import math

import numpy as np

from pynode.programs.tracing import trace_of

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _operation(op, on_numbers, doc):
    """A function that is one operation of programs."""

    def call(x):
        t = trace_of(x)
        if t is None:
            return on_numbers(np.asarray(x, dtype=np.float64))[()]
        x = t.lift(x)
        return t.array(t.builder.same(op, x.register), x.shape)

    call.__name__ = call.__qualname__ = op.lower()
    call.__doc__ = (
        doc
        + """

    Parameters
    ----------
    x : array_like, or a value inside a field

    Returns
    -------
    array of the same shape
    """
    )
    return call


sigmoid = _operation("SIGMOID", lambda x: np.exp(-np.logaddexp(0.0, -x)), "The logistic function 1 / (1 + exp(-x)).")


softplus = _operation("SOFTPLUS", lambda x: np.logaddexp(0.0, x), "log(1 + exp(x)), without overflow.")


relu = _operation("RELU", lambda x: np.maximum(x, 0.0), "max(x, 0); its derivative at 0 is 0.")


erf = _operation("ERF", _erf, "The error function.")


def _array(x):
    """x as an array of numbers or as a traced array."""
    t = trace_of(x)
    return np.asarray(x, dtype=np.float64) if t is None else t.lift(x)


def silu(x):
    """x sigmoid(x) (also called swish)."""
    x = _array(x)
    return x * sigmoid(x)


def gelu(x):
    """x Phi(x), Phi the distribution function of N(0, 1) (the exact form, not the tanh approximation)."""
    x = _array(x)
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


def elu(x, alpha=1.0):
    """x where x > 0, else alpha (exp(x) - 1)."""
    x = _array(x)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))[()]


def leaky_relu(x, slope=0.01):
    """x where x > 0, else slope x."""
    x = _array(x)
    return np.where(x > 0, x, slope * x)[()]


ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "relu": relu,
    "silu": silu,
    "gelu": gelu,
    "elu": elu,
    "leaky_relu": leaky_relu,
    "sin": np.sin,
    "identity": lambda x: x,
}
