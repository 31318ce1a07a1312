"""Pictures of fitted models: functions (model, data=None, ...) that return a matplotlib Figure, without pyplot or a display.

A picture is a function in a small file of this folder and a row of `PICTURES`, where `model.plot(kind)` finds it.
"""

from pynode.plots.agreement import agreement
from pynode.plots.densities import density
from pynode.plots.flows import density_flow, sample_flow
from pynode.plots.latent_series import series
from pynode.plots.latent_states import latent_space
from pynode.plots.losses import latent_loss, loss, training
from pynode.plots.misfit import residuals
from pynode.plots.over_time import prediction, trajectories
from pynode.plots.overviews import density_overview, overview, sample_overview
from pynode.plots.parts import has_plain_field
from pynode.plots.phase_portrait import phase
from pynode.plots.profiles import profile
from pynode.plots.regions import predicted
from pynode.plots.registry import PICTURES, draw
from pynode.plots.style import STYLE, MissingExtraError

__all__ = [
    "PICTURES",
    "STYLE",
    "MissingExtraError",
    "agreement",
    "density",
    "density_flow",
    "density_overview",
    "draw",
    "has_plain_field",
    "latent_loss",
    "latent_space",
    "loss",
    "overview",
    "phase",
    "predicted",
    "prediction",
    "profile",
    "residuals",
    "sample_flow",
    "sample_overview",
    "series",
    "training",
    "trajectories",
]
