"""Profile likelihoods: how far each parameter may go while the others make up for it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from pynode.plots.parts import draw_heading, how_many_of
from pynode.plots.protocols import Profiled
from pynode.plots.style import DATA, LEARNED, PALE, QUIET, new_figure, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HIGH = 1.7
"""Rises up to this many times that of the ends are drawn."""

MANY = 12
"""The most parameters drawn."""

DECADE = 1.0
"""Positive parameters whose values span more decades than this have a logarithmic axis."""


@styled
def profile(model: Profiled, data: Any = None, *, names: "Sequence[str] | None" = None, level: float = 0.95) -> "Figure":
    """The rise of the deviance (-2 log L) along each parameter, the others being fitted again, over that of Wald's interval.

    An interval ends where the line crosses that of the level. A line that stays below it has no end there: the data do not
    determine the parameter.

    Parameters
    ----------
    model : NeuralODE
        Fitted, with a field of its own.
    data : None
        Profiles are of the data that the model was fitted to.
    names : sequence of str, optional
        Parameters. Default: all that were fitted, at most 12.
    level : float, default 0.95
        Of confidence.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        The model has no field of its own, or no data.

    See Also
    --------
    pynode.NeuralODE.profile

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> @pn.field(state=1, theta={"k": pn.positive(1.0)})
    ... def decay(t, y, th):
    ...     return -th.k * y
    >>> t = np.linspace(0, 4, 20)
    >>> y = np.exp(-0.5 * t) + 0.02 * np.random.default_rng(0).standard_normal(20)
    >>> pn.plots.profile(pn.NeuralODE(field=decay).fit(t, y)).axes[0].get_xlabel()
    'k'
    """
    if data is not None:
        raise ValueError("profiles are of the data that the model was fitted to: give no data")
    wald = model.summary(level=level)
    fitted = [name for name, status in zip(wald.names, wald.status, strict=True) if status != "frozen"]
    chosen = list(names) if names is not None else fitted[:MANY]
    found = model.profile(*chosen, level=level)
    if not found:
        raise ValueError("nothing was fitted but weights of networks, or nothing at all: there are no profiles")
    columns = min(len(found), 3)
    rows = -(-len(found) // columns)
    figure = new_figure(min(3.3 * columns + 0.6, 12), 2.8 * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for ax, (name, one) in zip(axes.flat, found.items(), strict=False):
        k = wald.names.index(name)
        _draw(ax, one, (float(wald.low[k]), float(wald.high[k])), wald.n_observed)
        unit = f" ({wald.units[k]})" if wald.units[k] else ""
        ax.set_xlabel(name + unit)
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("rise of the deviance")
    note = how_many_of(len(found), len(fitted), "parameters") if names is None else ""
    draw_heading(figure, axes[0, 0], "", note)
    return figure


def _draw(ax: "Axes", one: Any, wald: tuple[float, float], n: int) -> None:
    """The profile of one parameter; n: readings."""
    top = HIGH * one.limit
    finite = np.isfinite(one.rise)
    values, rise = one.values[finite], one.rise[finite]
    inside = np.array([one.scale.inside(x) for x in values])
    root = np.sqrt(np.maximum(rise, 0.0)) * np.sign(values - one.estimate)
    near = _shown(root, float(np.sqrt(top)))
    inside = inside[near]
    root = root[near]
    values = values[near]
    u = np.linspace(inside[0], inside[-1], 200)
    x = np.array([one.scale.outside(v) for v in u])
    z = PchipInterpolator(inside, root)(u) if len(u) > 1 and inside[-1] > inside[0] else np.zeros(len(u))
    keep = z**2 <= top
    ax.plot(x[keep], z[keep] ** 2, color=LEARNED, lw=1.8, label="profile likelihood")
    drawn = root**2 <= top
    ax.plot(values[drawn], root[drawn] ** 2, "o", color=LEARNED, ms=3)
    if np.isfinite(wald).all() and wald[0] < one.estimate < wald[1]:
        _draw_wald(ax, one, wald, n, u, top)
    ax.axhline(one.limit, color=QUIET, lw=1, label=f"{100 * one.level:g} %")
    ends = [end for end in (one.low, one.high) if x.min() <= end <= x.max()]
    ax.vlines(ends, 0, one.limit, color=QUIET, lw=1)
    if len(ends) == 2:
        ax.axvspan(*ends, color=PALE, alpha=0.4, lw=0)
    ax.plot([one.estimate], [0], "|", color=DATA, ms=10, clip_on=False)
    if one.scale.kind == "log" and np.log10(x.max() / x.min()) > DECADE:
        ax.set_xscale("log")
    ax.set_ylim(0, top)
    ax.margins(x=0.02)


def _draw_wald(ax: "Axes", one: Any, wald: tuple[float, float], n: int, u: Any, top: float) -> None:
    """How the deviance would rise if the model were linear in the coordinate of the parameter."""
    low, middle, high = (one.scale.inside(value) for value in (wald[0], one.estimate, wald[1]))
    half = np.where(u < middle, middle - low, high - middle)
    rise = n * np.log1p(np.expm1(one.limit / n) * ((u - middle) / half) ** 2)
    keep = rise <= top
    x = np.array([one.scale.outside(v) for v in u])
    ax.plot(x[keep], rise[keep], "--", color=QUIET, lw=1.2, label="Wald")


def _shown(root: Any, top: float) -> Any:
    """Which points are drawn: those below the top, and one more on each side."""
    below = np.abs(root) <= top
    first, last = int(np.argmax(below)), len(below) - 1 - int(np.argmax(below[::-1]))
    return slice(max(first - 1, 0), last + 2)
