"""Draws docs/img/phase.png: the phase portrait of the demo, reduced to 32 colours.   python docs/img/make.py"""

from io import BytesIO
from pathlib import Path

from PIL import Image

from pynode import plots
from pynode.app import demo
from pynode.models import pages

outcome = demo.van_der_pol()
picture = pages.png(plots.phase(outcome.model, truth=outcome.dataset.field))
image = Image.open(BytesIO(picture)).convert("RGB").quantize(32, dither=Image.Dither.NONE)
image.save(Path(__file__).with_name("phase.png"), optimize=True)
