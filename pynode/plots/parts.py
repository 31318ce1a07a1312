"""What several pictures need: headings, legends, thinning, names, axes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.plots.protocols import Array, TrajectoryModel
from pynode.plots.style import DATA, MAX_MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    Parent = Figure | SubFigure


def draw_heading(
    parent: "Parent", ax: "Axes", title: str, *notes: str, extra: "Axes | None" = None, markerscale: float = 1.0
) -> None:
    """Title, what was left out, and the legend of `ax` (and `extra`), above all axes."""
    handles: dict[str, Any] = {}
    for one in (ax, extra):
        if one is not None:
            artists, labels = one.get_legend_handles_labels()
            handles |= dict(zip(labels, artists, strict=True))
    words = ", ".join(note.removesuffix(f" {title.lower()}") for note in notes if note)
    legend = parent.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=_legend_columns(list(handles), parent.bbox.width / parent.figure.dpi),
        title=f"{title}: {words}" if title and words else title or words or None,
        title_fontsize=11 if title else 10,
        markerscale=markerscale,
        columnspacing=1.5,
    )
    legend.set_label("head")


def _legend_columns(labels: list[str], width: float) -> int:
    """How many columns of a legend fit into a width in inches."""
    sizes = [0.066 * len(label) + 0.56 for label in labels]
    for columns in range(len(labels), 1, -1):
        if sum(part.max() for part in np.array_split(sizes, columns)) < 0.95 * width:
            return columns
    return 1


def how_many_of(n: int, total: int, what: str) -> str:
    """A note such as "3 of 100 trajectories"; empty where all are drawn."""
    return f"{n} of {total} {what}" if n < total else ""


def stride(n: int) -> int:
    """The step through n points that leaves at most MAX_MARKERS of them to draw."""
    return max(1, -(-n // MAX_MARKERS))


def every_point(step: int) -> str:
    """A note such as "every 2nd point"; empty where all are drawn."""
    if step == 1:
        return ""
    ending = "th" if step % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(step % 10, "th")
    return f"every {step}{ending} point"


def evenly_spread(n: int, most: int) -> Sequence[int]:
    """Indices of at most `most` of n, evenly spread, the first and the last among them."""
    if n <= most:
        return range(n)
    return [int(i) for i in np.unique(np.linspace(0, n - 1, most).round())]


def marker_style(n: int) -> dict[str, Any]:
    """How n measured points of a panel are drawn: the more, the smaller."""
    return {"color": DATA, "ms": 4.5 if n < 40 else 3.4 if n < 400 else 1.8, "mew": 0, "alpha": 0.45}


def n_states(model: TrajectoryModel) -> int:
    """How many states `predict` gives."""
    if not model.n_unobserved_ or model.data_ is None:
        return len(model.names_)
    return int(model.predict(model.data_.t[0][:1], trajectory=0).shape[1])


def state_names(model: TrajectoryModel, n: int) -> list[str]:
    """Names of n states: those that were measured, then z1, z2, ..."""
    return [*model.names_, *(f"z{k + 1}" for k in range(n - len(model.names_)))]


def measures_states(model: TrajectoryModel) -> bool:
    """Whether `predict` gives states themselves, not what an observation function makes of them."""
    protocol: Any = getattr(model, "protocol_", None)
    return protocol is None or protocol.observe is None


def times_of_jumps(model: TrajectoryModel, i: int) -> Array:
    """Times at which doses change a state of trajectory i at once."""
    protocol: Any = getattr(model, "protocol_", None)
    return np.zeros(0) if protocol is None else np.asarray(protocol.times_of_jumps(model.theta_, i))


def reading_scale(model: TrajectoryModel, name: str, path: Array) -> Array | None:
    """(T,) the standard deviations of readings of a column along its predictions; None where only one number is known."""
    row = model.report_.get("error_models", {}).get(name)
    if row is None or "proportional" not in row:
        return None
    return np.asarray(np.hypot(row.get("additive", 0.0), row["proportional"] * path))


def is_logarithmic(model: TrajectoryModel, name: str) -> bool:
    """Whether readings of a column are compared by their logarithms."""
    return model.log or model.report_.get("error_models", {}).get(name, {}).get("model") == "lognormal"


def data_of(model: TrajectoryModel, data: Trajectories | None) -> Trajectories:
    """The data to draw: what was given, or what the model was fitted to.

    Raises
    ------
    ValueError
        Where there are none, or their states are not those of the model.
    """
    data = model.data_ if data is None else data
    if data is None:
        raise ValueError("the model was saved without its data: give data=")
    if data.d != len(model.names_):
        raise ValueError(f"the data have {data.d} states, the model {len(model.names_)}")
    return data


def has_plain_field(model: TrajectoryModel) -> bool:
    """Whether dy/dt is a function of the states that are drawn (and perhaps of time).

    Parameters
    ----------
    model : NeuralODE
        A fitted model.

    Returns
    -------
    bool
        False where the model has control inputs or states that were never observed, or an observation function makes
        what is drawn of the states: dy/dt depends on more then.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> pn.plots.has_plain_field(pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t)))
    True
    """
    return measures_states(model) and not model.n_unobserved_ and not model.field_.inputs


def true_slopes(truth: Field | Callable[[float, Array], ArrayLike], y: Array, t: float = 0.0) -> Array:
    """The true field at rows of y: a Field at once, any function row by row."""
    if isinstance(truth, Field):
        return np.asarray(truth(t, y))
    return np.stack([np.asarray(truth(t, row), dtype=np.float64) for row in y])


def limit_y(ax: "Axes", values: Array, room: float = 0.5) -> None:
    """Keep the limits of y within `room` of the range of the values that matter."""
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low = values.min()
    high = values.max()
    reach = room * (high - low) or max(abs(high), 1.0) * 0.1
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, low - reach), min(top, high + reach))


def set_log_axes(ax: "Axes") -> None:
    """Logarithmic axes with ticks at 1, 2 and 5, written as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
