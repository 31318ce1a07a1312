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
    """

    def __init__(self, options: dict[str, Any], times: SaveTimes) -> None:
        first, last = times.t[times.start], times.t[times.start + times.length - 1]
        measured = options["adaptive"] and bool((first != last).any())
        self.rtol: float = options["rtol"]
        self.atol: NDArray[np.float64] = options["atol"] if measured else np.zeros_like(options["atol"])
        self.largest = float(self.atol.max(initial=0.0))

    def check(self, y: NDArray[Any]) -> None:
        """Warn of components that are not 0 and below their atol in all saved states y (rows, d).

        As a rule no component is below it in the last state, which a run says at once (``results["below"]``).
        """
        if self.largest == 0.0:
            return
        size = np.fmax.reduce(np.abs(y.T, order="C"), axis=1, initial=0.0)  # NaN after a failure
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
