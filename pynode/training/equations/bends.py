"""Functions of one variable that saturate, repress or decay, each with a scale K > 0 that is fitted.

Michaelis and Menten, Monod, Holling: x / (K + x); Hill: x^n / (K^n + x^n) and 1 / (1 + (x / K)^n); Ricker: exp(-x / K).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UP = "up"
"""x^n / (K^n + x^n)."""

DOWN = "down"
"""1 / (1 + (x / K)^n)."""

DECAY = "decay"
"""exp(-x / K)."""


class Bend(NamedTuple):
    """One of these functions.

    Attributes
    ----------
    kind : {"up", "down", "decay"}
    of : int
        Which variable x is.
    n : int
        The exponent; 1 in "decay".
    scale : float
        K. Bends of the same scale, to the last bit, share it as one parameter.
    """

    kind: str
    of: int
    n: int
    scale: float

    def value(self, x: Any, scale: Any = None) -> Any:
        """The value at x, an array or a traced number; scale: in place of its own."""
        K = self.scale if scale is None else scale
        if self.kind == DECAY:
            return np.exp(-(x / K))
        if self.kind == DOWN:
            return 1.0 / (1.0 + power(x / K, self.n))
        top = power(x, self.n)
        return top / (power(K, self.n) + top)

    def with_scale(self, scale: float) -> "Bend":
        """The same, its scale another one."""
        return self._replace(scale=scale)

    def with_kind(self, kind: str) -> "Bend":
        """The same scale and exponent in another function."""
        return self._replace(kind=kind)

    def with_exponent(self, n: int) -> "Bend":
        """The same, its exponent another one."""
        return self._replace(n=n)

    def slope(self, x: Array, h: Array | None = None) -> Array:
        """Its derivative with respect to log K; h: its value, where that is known."""
        h = self.value(x) if h is None else h
        if self.kind == DECAY:
            return np.asarray(x / self.scale * h, dtype=np.float64)
        sign = self.n if self.kind == DOWN else -self.n
        return np.asarray(sign * h * (1.0 - h), dtype=np.float64)

    def text(self, name: str, scale: str) -> str:
        """In words, such as x^2/(K^2 + x^2)."""
        if self.kind == DECAY:
            return f"exp(-{name}/{scale})"
        n = f"^{self.n}" if self.n > 1 else ""
        if self.kind == DOWN:
            return f"1/(1 + ({name}/{scale}){n})" if n else f"1/(1 + {name}/{scale})"
        return f"{name}{n}/({scale}{n} + {name}{n})"


def power(x: Any, n: int) -> Any:
    """x^n by squaring."""
    found: Any = None
    while n:
        if n & 1:
            found = x if found is None else found * x
        n >>= 1
        if n:
            x = x * x
    return found
