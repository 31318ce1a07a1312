"""Which pictures there are: a table for each kind of model, a row a picture. `model.plot(kind)` looks here."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pynode.plots.agreement import agreement
from pynode.plots.densities import density
from pynode.plots.flows import density_flow, sample_flow
from pynode.plots.latent_series import series
from pynode.plots.latent_states import latent_space
from pynode.plots.losses import latent_loss, loss, training
from pynode.plots.misfit import residuals
from pynode.plots.over_time import trajectories
from pynode.plots.overviews import density_overview, overview, sample_overview
from pynode.plots.phase_portrait import phase
from pynode.plots.profiles import profile
from pynode.plots.regions import predicted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Family = Literal["trajectories", "samples", "density", "latent"]

PICTURES: dict[str, dict[str, Callable[..., "Figure"]]] = {
    "trajectories": {
        "overview": overview,
        "trajectories": trajectories,
        "phase": phase,
        "residuals": residuals,
        "agreement": agreement,
        "profile": profile,
        "loss": loss,
    },
    "samples": {
        "overview": sample_overview,
        "regions": predicted,
        "flow": sample_flow,
        "training": training,
    },
    "density": {
        "overview": density_overview,
        "density": density,
        "flow": density_flow,
        "training": training,
    },
    "latent": {
        "series": series,
        "latent": latent_space,
        "loss": latent_loss,
    },
}
"""Family of models -> name of the picture -> the function (model, data=None, ...) that draws it."""


def draw(family: "Family", kind: str, model: Any, *data: Any, **options: Any) -> "Figure":
    """The picture of this name.

    Parameters
    ----------
    family : {"trajectories", "samples", "density", "latent"}
        What kind of model it is; a key of `PICTURES`.
    kind : str
        The name of the picture, in the table of its family.
    model : fitted model
        A model of this family.
    *data
        What the picture is drawn over, as its function takes it.
    **options
        Further arguments of the function.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There is no such picture for models of this family.
    MissingExtraError
        Matplotlib is not installed.

    See Also
    --------
    pynode.NeuralODE.plot

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> model = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t))
    >>> pn.plots.draw("trajectories", "loss", model).axes[0].get_xlabel()
    'iteration'
    """
    pictures = PICTURES[family]
    if not isinstance(kind, str) or kind not in pictures:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(pictures)}")
    return pictures[kind](model, *data, **options)
