"""What classifiers and regressors predict: regions of classes, curves of values."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.plots.protocols import Array, SampleModel
from pynode.plots.samples import bounds_of, class_colour, class_labels, coloured_samples, first_output
from pynode.plots.style import DATA, LEARNED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent


@styled
def predicted(model: SampleModel, data: ArrayLike | None = None, target: ArrayLike | None = None) -> "Figure":
    """What a model of one or two features predicts: regions (shades: the probability of the class), or values.

    Parameters
    ----------
    model : NeuralODEClassifier or NeuralODERegressor
        A fitted model.
    data : (n, n_features) array
        Samples to draw.
    target : (n,) array, optional
        The labels or values of the samples, their colours; default: what is predicted.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        No samples are given, `target` is not as long as they are, or there are more than two features.

    See Also
    --------
    pynode.plots.sample_overview, pynode.plots.sample_flow

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> model = pn.NeuralODEClassifier(max_iter=2, random_state=0).fit(X, X[:, 0] > 0)
    >>> pn.plots.predicted(model, X).axes[0].get_title()
    'What is predicted'
    """
    X, y, colours = coloured_samples(model, data, target)
    figure = new_figure(5.6, 4.6)
    draw_predicted(figure, model, X, y, colours)
    return figure


def draw_predicted(parent: "Parent", model: SampleModel, X: Array, y: NDArray[Any], colours: NDArray[Any]) -> None:
    """Curves over one feature, regions in the plane of two."""
    n = model.n_features_in_
    if n > 2:
        raise ValueError(f"what is predicted is drawn of 1 or 2 features, this model has {n}: take 'flow' or 'training'")
    if n == 1:
        _draw_curves(parent, model, X, y, colours)
    else:
        _draw_regions(parent, model, X, colours)


def _draw_curves(parent: "Parent", model: Any, X: Array, y: NDArray[Any], colours: NDArray[Any]) -> None:
    """One feature: the probabilities of the classes, or the value predicted, over the samples."""
    ax = parent.subplots()
    (low,), (high,) = bounds_of(X, 0.05)
    x = np.linspace(low, high, 300)
    classes = class_labels(model)
    if classes is not None:
        for i, p in enumerate(model.predict_proba(x[:, None]).T):
            ax.plot(x, p, color=class_colour(i), lw=1.8, label=str(classes[i]))
        ax.scatter(X[:, 0], np.full(len(X), -0.03), s=7, c=colours, linewidths=0)
        ax.set(ylabel="probability")
    else:
        ax.scatter(X[:, 0], y, s=9, c=DATA, linewidths=0, label="samples")
        ax.plot(x, first_output(model.predict(x[:, None])), color=LEARNED, lw=1.8, label="predicted")
        ax.set(ylabel="value")
    ax.legend()
    ax.set(xlabel="feature 1", title="What is predicted")


def _draw_regions(parent: "Parent", model: Any, X: Array, colours: NDArray[Any], n: int = 90) -> None:
    """Two features: shades on a grid of n x n points, under the samples."""
    ax = parent.subplots()
    (a, b), (c, d) = np.stack(bounds_of(X), axis=1)
    u = np.linspace(a, b, n)
    v = np.linspace(c, d, n)
    points = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    classes = class_labels(model)
    if classes is not None:
        from matplotlib.colors import to_rgb

        p = model.predict_proba(points)
        base = np.array([to_rgb(class_colour(i)) for i in range(len(classes))])
        shade = 1 - 0.45 * (p @ (1 - base))
        ax.imshow(shade.reshape(n, n, 3), origin="lower", extent=(a, b, c, d), aspect="auto", interpolation="bilinear")
        if len(classes) == 2:
            ax.contour(u, v, p[:, 1].reshape(n, n), [0.5], colors="#333333", linewidths=1.2)
        for i, label in enumerate(classes[:10]):
            ax.plot([], [], "o", ms=4, color=class_colour(i), label=str(label))
        ax.legend(loc="upper right", handletextpad=0.2, frameon=True, framealpha=0.8)
    else:
        value = first_output(model.predict(points))
        image = ax.contourf(u, v, value.reshape(n, n), 24, cmap="viridis", alpha=0.55)
        parent.colorbar(image, ax=ax, label="predicted")
    ax.scatter(X[:, 0], X[:, 1], s=7, c=colours, linewidths=0)
    ax.grid(False)
    ax.set(xlim=(a, b), ylim=(c, d), xlabel="feature 1", ylabel="feature 2", title="What is predicted")
