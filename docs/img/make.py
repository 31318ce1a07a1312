"""Draws phase.png (the phase portrait of the demo), profile.png, forced.png and process_noise.png, in 32 colours.

python docs/img/make.py
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
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


@pn.field(state=2, inputs=1)
def spring(t, y, u):
    """A mass on a hardening spring."""
    return [y[1], u[0] - y[0] - 0.5 * y[1] - 0.3 * y[0] ** 3]


def experiment(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Times, a force, positions and readings of them, as in docs/forced.md."""
    rng = np.random.default_rng(seed)
    t, u = 0.2 * np.arange(n), np.repeat(rng.standard_normal(n // 3), 3)
    y = pn.solve(spring, rng.standard_normal(2), t, inputs=(t, u[:, None], "previous")).y[:, :1]
    return t, u, y, y + 0.02 * rng.standard_normal(y.shape)


def simulation() -> Figure:
    """A simulation from a warm-up, over the truth."""
    t, u, _, y = experiment(0)
    model = pn.NeuralODE(hidden=(8,), augment=1, input_kind="previous", random_state=0).fit(t, y, u=u)
    t, u, truth, y = experiment(1)
    found = model.simulate((t, u), warmup=(t[:40], y[:40]), interval=0.9, kind="prediction")
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.axvspan(t[0], t[39], color="#eeeeee", lw=0)
    ends = found.lower[:, 0], found.upper[:, 0]
    top.fill_between(t, *ends, color="#0072B2", alpha=0.2, lw=0, label="90 % of new readings")
    top.plot(t, truth, color="#333333", lw=1, ls="--", label="truth")
    top.plot(t, found.mean, color="#0072B2", lw=1.6, label="simulation")
    top.plot(t[:40], y[:40], ".", color="#D55E00", ms=5, label="readings of the warm-up")
    top.set_ylabel("position")
    top.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    bottom.step(t, u, where="post", color="#6b6b6b", lw=1)
    bottom.set(xlabel="t", ylabel="force", xlim=(t[0], t[-1]))
    return figure


def driven() -> Figure:
    """The paths and the forecast of docs/process-noise.md, over the truth."""
    t, states, y = pushed()
    model = pn.NeuralODE(process_noise=True, hidden=(16,), random_state=0).fit(t[:81], y[:, :81])
    plain = pn.NeuralODE(structure="network", hidden=(16,), random_state=0).fit(t[:81], y[:, :81])
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    models = {"all noise taken for that of readings": plain, "process_noise=True": model}
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (title, one) in zip(panels, models.items(), strict=True):
        band = one.predict(t, trajectory=0, interval=0.9)
        axes.axvspan(t[0], t[80], color="#eeeeee", lw=0)
        axes.fill_between(t, band.lower[:, 0], band.upper[:, 0], color="#0072B2", alpha=0.2, lw=0, label="90 %")
        axes.plot(t, states[0, :, 0], color="#333333", lw=1, ls="--", label="truth")
        axes.plot(t, band.mean[:, 0], color="#0072B2", lw=1.6, label="model")
        axes.plot(t[:81], y[0, :81, 0], ".", color="#D55E00", ms=3, label="readings")
        axes.set(title=title, xlabel="t", ylim=(-3, 3), xlim=(t[0], t[-1]))
    panels[0].set_ylabel("x")
    panels[1].legend(frameon=False, ncols=2, loc="lower left")
    return figure


def pushed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, states and readings of van der Pol's oscillator under a random force, as in docs/process-noise.md."""
    rng = np.random.default_rng(1)
    y = rng.uniform(-2, 2, (6, 2))
    path = [y]
    for _ in range(120 * 50):
        slope = np.stack([y[:, 1], y[:, 1] * (1 - y[:, 0] ** 2) - y[:, 0]], axis=1)
        y = y + 0.003 * slope + 0.1 * np.sqrt(0.003) * rng.standard_normal(y.shape)
        path.append(y)
    states = np.stack(path[::50], axis=1)
    return 0.15 * np.arange(121), states, states + 0.05 * rng.standard_normal(states.shape)


def save(figure: object, name: str) -> None:
    """Write a figure in few colours."""
    image = Image.open(BytesIO(pages.png(figure))).convert("RGB").quantize(32, dither=Image.Dither.NONE)
    image.save(Path(__file__).with_name(name), optimize=True)


outcome = demo.van_der_pol()
save(plots.phase(outcome.model, truth=outcome.dataset.field), "phase.png")
save(far_from_saturation().plot("profile"), "profile.png")
save(simulation(), "forced.png")
save(driven(), "process_noise.png")
