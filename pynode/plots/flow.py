"""Pictures of classifiers and regressors: decision regions, the flow, training."""

from collections.abc import Callable

import numpy as np

from pynode.data.samples import as_table
from pynode.plots.style import DATA, LEARNED, STAGES, new_figure, styled

MAX_POINTS = 1500
"""Most samples drawn."""


MAX_PATHS = 60
"""Most samples whose way is drawn."""


CLASSES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8c8c8c", "#5b3f8c", "#7a5c00", "#333333")


GRID = "#c9c9c9"


@styled
def overview(model, X, y=None):
    """What is predicted, the flow, and training, side by side.

    Parameters
    ----------
    model : NeuralODEClassifier or NeuralODERegressor
    X : (n, n_features) array
        Samples to draw.
    y : (n,) array, optional
        Their colours; default: what is predicted.

    Returns
    -------
    matplotlib.figure.Figure
    """
    X, y, color = _samples(model, X, y)
    if model.n_features_in_ <= 2:
        wide = model.field_.d > 1
        figure = new_figure(15.0 if wide else 12.0, 4.2)
        left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1.6 if wide else 1, 0.85))
        _draw_predictions(left, model, X, y, color)
    else:
        figure = new_figure(12.0, 4.2)
        middle, right = figure.subfigures(1, 2, width_ratios=(1.8, 1))
    _draw_flow(middle, model, X, color)
    draw_training(right, model)
    return figure


@styled
def regions(model, X, y=None):
    """What is predicted, of a model of one or two features: regions (shades: the probability of the class), or values."""
    X, y, color = _samples(model, X, y)
    figure = new_figure(5.6, 4.6)
    _draw_predictions(figure, model, X, y, color)
    return figure


@styled
def flow(model, X, y=None):
    """Where the flow carries samples and a grid of points; of one feature, the paths against time.

    Of more than two states the first two are drawn (with `augment`, the first feature against the last state).
    """
    X, y, color = _samples(model, X, y)
    figure = new_figure(9.6 if model.field_.d > 1 else 5.2, 4.4)
    _draw_flow(figure, model, X, color)
    return figure


@styled
def training(model, X=None, y=None):
    """The loss and the number of evaluations of the field against epochs."""
    figure = new_figure(5.2, 4.4)
    draw_training(figure, model)
    return figure


PICTURES: dict[str, Callable] = {"overview": overview, "regions": regions, "flow": flow, "training": training}
"""Names of pictures for `plot`."""


def _samples(model, X, y):
    """At most MAX_POINTS samples, what y says of them, and a colour for each."""
    if X is None:
        raise ValueError("this picture needs samples: plot(kind, X) or plot(kind, X, y)")
    X = as_table(X, type(model).__name__, model.n_features_in_)
    y = model.predict(X) if y is None else np.asarray(y)
    if len(y) != len(X):
        raise ValueError(f"y has {len(y)} entries for {len(X)} samples")
    if len(X) > MAX_POINTS:
        some = np.random.default_rng(0).choice(len(X), MAX_POINTS, replace=False)
        X, y = X[some], y[some]
    if not hasattr(model, "classes_"):
        y = y if y.ndim == 1 else y[:, 0]
        return X, y, _value_colors(y)
    which = np.searchsorted(model.classes_, y)
    return X, y, [CLASSES[i % len(CLASSES)] for i in which]


def _value_colors(y):
    from matplotlib import colormaps

    low, high = np.min(y), np.max(y)
    return colormaps["viridis"]((y - low) / (high - low if high > low else 1.0))


def bounds_of(X, margin=0.15):
    low, high = X.min(axis=0), X.max(axis=0)
    room = margin * np.where(high > low, high - low, 1.0)
    return low - room, high + room


def _draw_predictions(parent, model, X, y, color):
    n = model.n_features_in_
    if n > 2:
        raise ValueError(f"what is predicted is drawn of 1 or 2 features, this model has {n}: take 'flow' or 'training'")
    _draw_curves(parent, model, X, y, color) if n == 1 else _draw_regions(parent, model, X, color)


def _draw_curves(parent, model, X, y, color):
    """One feature: the probabilities of the classes, or the value predicted, over the samples."""
    ax = parent.subplots()
    (low,), (high,) = bounds_of(X, 0.05)
    x = np.linspace(low, high, 300)
    if hasattr(model, "classes_"):
        for i, p in enumerate(model.predict_proba(x[:, None]).T):
            ax.plot(x, p, color=CLASSES[i % len(CLASSES)], lw=1.8, label=str(model.classes_[i]))
        ax.scatter(X[:, 0], np.full(len(X), -0.03), s=7, c=color, linewidths=0)
        ax.set(ylabel="probability")
    else:
        value = model.predict(x[:, None])
        ax.scatter(X[:, 0], y, s=9, c=DATA, linewidths=0, label="samples")
        ax.plot(x, value if value.ndim == 1 else value[:, 0], color=LEARNED, lw=1.8, label="predicted")
        ax.set(ylabel="value")
    ax.legend()
    ax.set(xlabel="feature 1", title="What is predicted")


def _draw_regions(parent, model, X, color):
    ax = parent.subplots()
    (a, b), (c, d) = np.stack(bounds_of(X), axis=1)
    u, v = np.linspace(a, b, 90), np.linspace(c, d, 90)
    points = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    if hasattr(model, "classes_"):
        from matplotlib.colors import to_rgb

        p = model.predict_proba(points)
        base = np.array([to_rgb(CLASSES[i % len(CLASSES)]) for i in range(len(model.classes_))])
        shade = 1 - 0.45 * (p @ (1 - base))
        ax.imshow(shade.reshape(90, 90, 3), origin="lower", extent=(a, b, c, d), aspect="auto", interpolation="bilinear")
        if len(model.classes_) == 2:
            ax.contour(u, v, p[:, 1].reshape(90, 90), [0.5], colors="#333333", linewidths=1.2)
        for i, label in enumerate(model.classes_[:10]):
            ax.plot([], [], "o", ms=4, color=CLASSES[i % len(CLASSES)], label=str(label))
        ax.legend(loc="upper right", handletextpad=0.2, frameon=True, framealpha=0.8)
    else:
        value = model.predict(points)
        value = value if value.ndim == 1 else value[:, 0]
        image = ax.contourf(u, v, value.reshape(90, 90), 24, cmap="viridis", alpha=0.55)
        parent.colorbar(image, ax=ax, label="predicted")
    ax.scatter(*X.T, s=7, c=color, linewidths=0)
    ax.grid(False)
    ax.set(xlim=(a, b), ylim=(c, d), xlabel="feature 1", ylabel="feature 2", title="What is predicted")


def _draw_flow(parent, model, X, color):
    if model.field_.d == 1:
        _draw_paths(parent, model, X, color)
        return
    before, after = parent.subplots(1, 2)
    t = np.linspace(0, 1, 41)
    states = model.trajectories(X, t)
    axis = (0, model.field_.d - 1)  # of an augmented state the first feature and the last zero say most
    if model.n_features_in_ == 2 and model.lift_ is None:
        axis = (0, 1)
        _draw_grid(before, after, model, X)
    elif model.n_features_in_ == 1 and model.lift_ is None:
        axis = (0, 1)
    for ax, s in ((before, states[:, 0]), (after, states[:, -1])):
        ax.scatter(s[:, axis[0]], s[:, axis[1]], s=8, c=color, linewidths=0, zorder=3)
        ax.set(xlabel=f"state {axis[0] + 1}")
        ax.set_aspect("equal", adjustable="datalim")
        ax.grid(False)
    for path in states[:: max(1, len(states) // MAX_PATHS)]:
        after.plot(path[:, axis[0]], path[:, axis[1]], color="#777777", lw=0.5, alpha=0.6, zorder=2)
    before.set(ylabel=f"state {axis[1] + 1}", title="t = 0")
    extra = model.field_.d - 2
    after.set_title("t = 1" + (f" ({extra} more not drawn)" if extra else ""))


def _draw_grid(before, after, model, X, n=13):
    """A grid of lines over the samples, and what the flow makes of it (the first two states)."""
    (a, b), (c, d) = np.stack(bounds_of(X, 0.05), axis=1)
    fine = np.linspace(0, 1, 60)
    for k in np.linspace(0, 1, n):
        for line in (
            np.stack([np.full(60, a + k * (b - a)), c + fine * (d - c)], axis=1),
            np.stack([a + fine * (b - a), np.full(60, c + k * (d - c))], axis=1),
        ):
            ends = model.trajectories(line)
            for ax, s in ((before, ends[:, 0]), (after, ends[:, 1])):
                ax.plot(s[:, 0], s[:, 1], color=GRID, lw=0.6, zorder=1)


def _draw_paths(parent, model, X, color):
    ax = parent.subplots()
    t = np.linspace(0, 1, 61)
    every = max(1, len(X) // MAX_PATHS)
    for path, c in zip(model.trajectories(X[::every], t), color[::every], strict=True):
        ax.plot(t, path[:, 0], color=c, lw=0.9)
    ax.set(xlabel="t", ylabel="state", title="Paths: they cannot cross", xlim=(0, 1))


def draw_training(parent, model):
    """Loss and evaluations against epochs, one above the other."""
    over, under = parent.subplots(2, 1, sharex=True)
    number = np.arange(1, len(model.history_["loss"]) + 1)
    over.plot(number, model.history_["loss"], color=STAGES[2], lw=1.6, label="training")
    validation = model.history_["validation"]
    if np.isfinite(validation).any():
        over.plot(number, np.where(np.isfinite(validation), validation, np.nan), color=STAGES[5], lw=1.6, label="kept aside")
        over.legend(frameon=True, framealpha=0.8)
    if model.history_["loss"].min() > 0 and np.ptp(np.log10(model.history_["loss"])) > 1:
        over.set_yscale("log")
    over.set(ylabel="loss", title="Training")
    under.plot(number, model.history_["nfe"], color=STAGES[4], lw=1.6)
    under.set(ylabel="evaluations a sample", xlabel="epoch", ylim=(0, None))
    parent.align_ylabels()
