"""The look of pictures: colours, sizes, limits of what is drawn."""

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from pynode.errors import SolveWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

# Okabe and Ito: safe for the colour-blind
LEARNED = "#0072B2"
TRUTH = "#D55E00"
DATA = "#333333"
QUIET = "#8c8c8c"

PATH = "#005f96"
PALE = "#cde2f0"
ARROW = "#6aa9d3"
DOUBTFUL = "#c4c8cc"
FAINT = "#e9ebee"
GRID = "#c9c9c9"

STAGES = ("#8c8c8c", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
"""A colour for each stage of training."""

CLASSES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c8c", "#5b3f8c", "#7a5c00", "#333333")
"""A colour for each class."""

BAND = 1.645
"""Half width of a 90 % band in standard deviations."""

MAX_MARKERS = 4000
"""Most points drawn in one panel."""

MAX_PATHS = 40
"""Most fitted trajectories drawn in one phase portrait."""

MAX_FOLLOWED = 200
"""Most trajectories whose residuals are computed."""

MAX_SENSITIVITIES = 4e6
"""Most numbers of a sensitivity dy(t)/dtheta computed for one band; longer ones are interpolated."""

UNKNOWN = 0.9
"""Where states are stranger than this (`pynode.data.support`), about two thirds of a standard deviation from the data, a
network knows nothing."""

DOUBT = 0.5
"""Where the 90 % band of the field across its direction is wider than this part of its length, the direction is known
to about 30 degrees at best."""

TOO_WIDE = 0.25
"""Half widths of a band in a phase portrait, as part of the range of the data, that are not drawn."""

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "figure.titlesize": 11,
    "figure.dpi": 110,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "pynode",
}
"""Matplotlib's settings for all pictures: its name of a parameter -> the value."""


class MissingExtraError(ImportError):
    """A package that only pictures, tables or progress need is not installed."""


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws with STYLE; where a solve fails, the picture has a gap instead of a warning.

    Raises
    ------
    MissingExtraError
        When it is called without matplotlib.
    """

    @functools.wraps(draw)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            import matplotlib
        except ImportError:
            raise MissingExtraError("pictures need matplotlib: pip install 'pynode-ode[plot]'") from None
        with matplotlib.rc_context(STYLE), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", SolveWarning)
            return draw(*args, **options)

    return call


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches; pyplot does not know of it, so nothing is shown or kept."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
