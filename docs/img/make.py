"""Draws docs/img/phase.png, the phase portrait of the demo, and profile.png, in 32 colours.   python docs/img/make.py"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import pynode as pn
from pynode import plots
from pynode.app import demo
from pynode.models import pages


@pn.field(state=1, theta={"vmax": pn.positive(1.0), "km": pn.positive(1.0)})
def enzyme(t, s, th):
    """Michaelis and Menten's."""
    return -th.vmax * s / (th.km + s)


def far_from_saturation() -> pn.NeuralODE:
    """A fit to readings that do not tell the parameters apart."""
    t = np.linspace(0, 5, 25)
    s = pn.solve(enzyme, [0.3], t, [1.0, 0.8]).y[:, 0] + 0.02 * np.random.default_rng(1).standard_normal(25)
    return pn.NeuralODE(field=enzyme, initial=[np.nan]).fit(t, s)


def save(figure: object, name: str) -> None:
    """Write a figure in few colours."""
    image = Image.open(BytesIO(pages.png(figure))).convert("RGB").quantize(32, dither=Image.Dither.NONE)
    image.save(Path(__file__).with_name(name), optimize=True)


outcome = demo.van_der_pol()
save(plots.phase(outcome.model, truth=outcome.dataset.field), "phase.png")
save(far_from_saturation().plot("profile"), "profile.png")
