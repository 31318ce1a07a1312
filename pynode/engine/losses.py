"""Losses of a residual r = y - target: rho(r) and its derivative, as in csrc/back.inl."""

import numpy as np

LOSSES = {
    "mse": ("squared", True),
    "sse": ("squared", False),
    "mae": ("absolute", True),
    "huber": ("huber", True),
    "student": ("student", True),
}
"""name -> (the core's name for rho, whether the sum is divided by the sum of the weights)"""


def slope(name, r, scale, dof):
    """d rho / d r."""
    kind = LOSSES[name][0]
    if kind == "squared":
        return 2 * r
    if kind == "absolute":
        return np.sign(r)
    if kind == "huber":
        return np.clip(r, -scale, scale)
    return (dof + 1) * r / (dof * scale**2 + r**2)


def rho(name, r, scale, dof):
    """The loss of a residual r."""
    kind = LOSSES[name][0]
    if kind == "squared":
        return r**2
    if kind == "absolute":
        return np.abs(r)
    if kind == "huber":
        a = np.abs(r)
        return np.where(a <= scale, 0.5 * r**2, scale * (a - 0.5 * scale))
    return 0.5 * (dof + 1) * np.log1p(r**2 / (dof * scale**2))
