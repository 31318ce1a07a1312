"""Whether the tolerances say anything about each component of the state: `Accuracy`.

The error of a step is measured in units of atol + rtol |y|. A component that stays below its atol may be wrong by more than
itself, and no step is shortened for it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.errors import ToleranceWarning, users_level

if TYPE_CHECKING:
    from pynode.data.batch import SaveTimes

ROUNDING = 4e-15
"""Components this much smaller than the largest one may be its rounding; they count as 0."""


FEW = 12
"""Up to so many components Python is faster than NumPy."""


class Accuracy:
    """The tolerances of a solve, which say whether the accuracy of its result is controlled.

    Parameters
    ----------
    options : dict
        From `Options.arguments`.
    times : SaveTimes
        Where the last time of each sample is its first, nothing is solved.

    Attributes
    ----------
    rtol : float
    atol : (d,) array
        0 where no error is measured: steps are prescribed, or nothing is solved.
    largest : float
        Of atol.
    last : tuple of int or None
        Where the last state stands among all numbers of the states, if it has few components.
    """

    def __init__(self, options: dict[str, Any], times: SaveTimes) -> None:
        first, last = times.t[times.start], times.t[times.start + times.length - 1]
        measured = options["adaptive"] and bool((first != last).any())
        self.rtol: float = options["rtol"]
        self.atol: NDArray[np.float64] = options["atol"] if measured else np.zeros_like(options["atol"])
        self.largest = float(self.atol.max(initial=0.0))
        d = len(self.atol)
        self.last = tuple(range(-d, 0)) if d <= FEW else None

    def check(self, y: NDArray[Any]) -> None:
        """Warn of components that are not 0 and below their atol in all saved states y (rows, d)."""
        largest = self.largest
        if largest == 0.0:
            return
        # As a rule all components are above the tolerances in the last state: a quick look settles the matter.
        if self.last is None:
            if (np.abs(y[-1]) >= largest).all():
                return
        else:
            item = y.item
            for i in self.last:
                x = item(i)
                if not (x >= largest or x <= -largest):  # or NaN
                    break
            else:
                return
        self._warn(y)

    def _warn(self, y: NDArray[Any]) -> None:
        """The same, for states among which the last one has a component below its tolerance."""
        size = np.fmax.reduce(np.abs(y), axis=0, initial=0.0)  # NaN after a failure
        small = (size > ROUNDING * size.max(initial=0.0)) & (size < self.atol)
        if not small.any():
            return
        which = np.flatnonzero(small).tolist()
        least = float(size[small].min())
        named = f"component {which[0]} of the state stays"
        if len(which) > 1:
            named = f"components {', '.join(map(str, which[:5]))}{', ...' * (len(which) > 5)} of the state stay"
        warnings.warn(
            f"{named} below atol={float(self.atol[small].max()):g} at all times and in all samples (|y| up to {least:.2g}): "
            "the tolerances control neither the accuracy there nor that of gradients; give "
            f"atol={max(self.rtol, 1e-6) * least:.1g}, a number for each component, or scale the state",
            ToleranceWarning,
            stacklevel=users_level(),
        )
