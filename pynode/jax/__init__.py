"""Solves as parts of programs in JAX; see docs/jax.md.

    y = pynode.jax.odeint(f, y0, t, theta)                # arrays in and out; jit, grad, vmap, jvp, hessian
    theta = pynode.jax.ravel(f, {"W0": ..., "b0": ...})   # named arrays as the parameter vector, and back: unravel
    f, theta = pynode.jax.from_equinox(mlp)               # a network of Equinox as a field, and back: to_equinox

JAX is imported here, and by no other part of pynode.
"""

import importlib
import importlib.util

if importlib.util.find_spec("jax") is None:
    raise ImportError("pynode.jax needs JAX, which is not installed here: pip install jax")

_HOMES = {
    "pynode.jax.solves": ["odeint"],
    "pynode.jax.xla": ["handlers"],
    "pynode.jax.networks": ["ravel", "unravel", "from_equinox", "to_equinox", "from_flax", "to_flax"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'pynode.jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
