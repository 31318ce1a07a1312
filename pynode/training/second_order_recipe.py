"""How to train by Levenberg-Marquardt: what a `SecondOrderRun` is told."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.training.recipe import Kind

Array = NDArray[np.float64]

MATCHING_STEPS = 40
"""The most steps on slopes."""


@dataclass(frozen=True)
class SecondOrder:
    """How to train by Levenberg-Marquardt: the options of a `SecondOrderRun`.

    Attributes
    ----------
    windows : tuple of int or None
        Lengths of the windows in intervals between times, one for each stage; None: whole trajectories.
    max_iter : int
        The most steps of a stage on windows.
    tol : float
        A stage ends when steps lower the objective by less than this fraction.
    groups : list of int arrays
        Groups of parameters that share the precision of their prior, which is estimated.
    alpha : float
        The precision of the prior of the other parameters.
    noise : {"gaussian", "huber", "student"}
        The distribution of the noise.
    starts : list of (p,) arrays
        Where to start; all are fitted to the slopes, and the best goes on.
    options : dict
        Options of `pynode.solve`.
    plain : int or None
        Starts from this position on are not random but plain (linear); None: all are random.
    part : int or None
        Start with this many of the trajectories, drawn at random; all of them come in a last stage. None: start with all.
    random_state : int
        Seed of what is drawn.
    own : bool
        The field is a user's own, see `pynode.training.rivals`.
    kind : {"own", "found", "network"}
        What the field is, see `pynode.training.recipe`.
    max_growth : float or None
        The bound on how fast nearby rollouts part, see `pynode.training.growth`, in the units of the field.
    """

    windows: tuple[int | None, ...]
    max_iter: int
    tol: float
    groups: list[NDArray[np.intp]]
    alpha: float
    noise: str
    starts: list[Array]
    options: dict[str, Any]
    plain: int | None = None
    part: int | None = None
    random_state: int = 0
    own: bool = False
    kind: Kind = "network"
    max_growth: float | None = None

    @property
    def total_iterations(self) -> int:
        """The most iterations that there can be."""
        return self.max_iter * (len(self.windows) + (self.part is not None)) + self.matching * len(self.starts)

    @property
    def matching(self) -> int:
        """The most steps on slopes."""
        return min(self.max_iter, MATCHING_STEPS)
