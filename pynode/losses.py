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
