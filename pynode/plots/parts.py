"""What several pictures need: heads, legends, names, axes."""

from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.plots.style import MAX_MARKERS


def draw_head(parent, ax, title, *notes, extra=None, markerscale=1.0):
    """Title, what was left out, and legend, above all axes."""
    handles: dict[str, Any] = {}
    for one in (ax, extra):
        if one is not None:
            handles |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
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


def _legend_columns(labels, width):
    """How many columns of a legend fit into a width in inches."""
    sizes = [0.066 * len(label) + 0.56 for label in labels]
    for columns in range(len(labels), 1, -1):
        if sum(part.max() for part in np.array_split(sizes, columns)) < 0.95 * width:
            return columns
    return 1


def how_many_of(n, total, what):
    """3 of 100 trajectories", or nothing where all are there."""
    return f"{n} of {total} {what}" if n < total else ""


def stride(n):
    """Every how manieth of n points is drawn."""
    return max(1, -(-n // MAX_MARKERS))


def ordinal(n):
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def evenly_spread(n, most):
    """Indices of at most `most` of n, evenly spread, the first and the last among them."""
    return range(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int)).tolist()


def n_unobserved(model):
    return int(getattr(model, "n_unobserved_", 0))


def n_states(model):
    """How many states `predict` gives."""
    if not n_unobserved(model):
        return len(model.names_)
    return model.predict(model.data_.t[0][:1], trajectory=0).shape[1]


def state_names(model, n):
    return [*model.names_, *(f"z{k + 1}" for k in range(n - len(model.names_)))]


def set_whole_ticks(ax, t):
    """No ticks at half years where all times are whole numbers."""
    if (t == np.round(t)).all():
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def set_log_axes(ax):
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())


def data_of(model, data):
    data = model.data_ if data is None else data
    if data is None:
        raise ValueError("the model was saved without its data: give data=")
    if data.d != len(model.names_):
        raise ValueError(f"the data have {data.d} states, the model {len(model.names_)}")
    return data


def true_slopes(truth, y, t=0.0):
    """The true field at rows of y: a Field at once, any function row by row."""
    if isinstance(truth, Field):
        return truth(t, y)
    return np.stack([np.asarray(truth(t, row), dtype=np.float64) for row in y])
