"""The demo: learn Van der Pol trajectories and the lynx-hare record; a table, pictures and a report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pynode import datasets
from pynode.models.trajectories.neural_ode import NeuralODE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD_OUT_YEARS = 5
"""Years of the record that are forecast."""

CYCLE = 10
"""Years of a cycle of lynx and hare."""

HEADER = ("experiment", "loss", "held-out error", "to compare", "time", "field evaluations")


@dataclass(frozen=True)
class Outcome:
    """One experiment of the demo.

    Attributes
    ----------
    name : str
    dataset : Dataset
    model : NeuralODE
    error, baseline : str
        Held-out error, and what to compare it with.
    story : str
        What was done, in a sentence or two.
    """

    name: str
    dataset: datasets.Dataset
    model: NeuralODE
    error: str
    baseline: str
    story: str

    @property
    def row(self) -> tuple[str, ...]:
        """A row of the table, under `HEADER`."""
        report = self.model.report_
        return (
            self.name,
            f"{report['loss']:.4f}",
            self.error,
            self.baseline,
            f"{report['seconds']:.1f} s",
            f"{report['nfe'] / 1e6:.2f} million",
        )


def van_der_pol(random_state: int = 0, progress: bool = False) -> Outcome:
    """Learn 16 noisy trajectories; test on 8 other initial states, against the noise-free truth."""
    data = datasets.van_der_pol(random_state)
    assert data.held_out is not None
    model = NeuralODE(random_state=random_state).fit(data.train, progress=progress and "Van der Pol")
    truth = np.stack(data.held_out.y)
    predicted = model.predict(data.held_out.t[0], truth[:, 0])
    mse = np.mean((predicted - truth) ** 2, axis=(1, 2))
    noise = np.mean(list(model.report_["noise"].values()))
    return Outcome(
        "Van der Pol",
        data,
        model,
        f"MSE {np.median(mse):.2g} (median), {mse.mean():.2g} (mean)",
        f"noise {noise**2:.2g}",
        "16 trajectories of the Van der Pol oscillator, 101 times each, with measurement noise 0.05. "
        "Held out: 8 other initial states, rolled out over 10 s and compared with the noise-free truth: mean "
        "squared error of each, median and mean over the 8. To compare: the variance of the noise, estimated "
        "from the data.",
    )


def lynx_hare(random_state: int = 0, progress: bool = False) -> Outcome:
    """Learn the pelts of 1900 to 1915; forecast the five years after."""
    data = datasets.lynx_hare(HELD_OUT_YEARS)
    assert data.held_out is not None
    model = NeuralODE(log=True, n_restarts=5, random_state=random_state)
    model.fit(data.train, progress=progress and "lynx and hare")
    years = data.held_out.t[0]
    truth = np.log(data.held_out.y[0])

    def error(forecast: ArrayLike) -> float:
        return float(np.sqrt(np.mean((np.log(forecast) - truth) ** 2)))

    t = data.train.t[0]
    y = data.train.y[0]
    cycle = [np.exp(np.log(y[(t - year) % CYCLE == 0]).mean(axis=0)) for year in years]
    classic = NeuralODE(field=datasets.lotka_volterra(), log=True, random_state=random_state).fit(data.train)
    return Outcome(
        "lynx and hare",
        data,
        model,
        f"RMSE of log {error(model.predict(years)):.2f}",
        f"persistence {error(y[-1:]):.2f}, mean cycle {error(cycle):.2f}, "
        f"Lotka-Volterra {error(classic.predict(years)):.2f}",
        f"Pelts of hare and lynx, {t[0]:.0f} to {t[-1]:.0f}, learned as logarithms. Held out: the "
        f"{HELD_OUT_YEARS} years after, forecast from the fitted trajectory. To compare: the last value "
        f"for all years; the years a cycle of {CYCLE} before; and the equations of Lotka and Volterra, fitted by this "
        "library. Root mean square error of the logarithms. " + data.source,
    )


EXPERIMENTS: tuple[Callable[[int, bool], Outcome], ...] = (van_der_pol, lynx_hare)
"""Functions (random_state, progress) -> Outcome."""


def run(
    folder: str | PathLike[str], random_state: int = 0, progress: bool = True, say: Callable[[str], object] = print
) -> list[Outcome]:
    """Run the demo.

    Parameters
    ----------
    folder : path
        Where pictures and report go; it is made if need be.
    random_state : int, default 0
        The same number, the same figures.
    progress : bool, default True
        Show progress while training.
    say : callable, default print
        Prints a line.

    Returns
    -------
    list of Outcome
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = [experiment(random_state, progress) for experiment in EXPERIMENTS]
    for line in text_table(HEADER, [outcome.row for outcome in outcomes]):
        say(line)
    try:
        report = write_report(folder, outcomes)
    except ImportError as error:  # plots.MissingExtraError
        say(f"No pictures and no report: {error}")
    else:
        say(f"Pictures and report: {report.resolve()}")
    return outcomes


def write_report(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write the pictures of the outcomes, a PNG file each, and one report of all; returns the report's path."""
    from pynode.models import pages
    from pynode.models.trajectories.publishing.report import model_summary

    parts = [
        pages.paragraph("Two differential equations, learned from measured trajectories by pynode, on this computer."),
        pages.table(HEADER, [outcome.row for outcome in outcomes]),
    ]
    for outcome in outcomes:
        parts += [pages.heading(outcome.name), pages.paragraph(outcome.story)]
        stem = outcome.name.lower().replace(" ", "-")
        for name, (figure, caption) in _pictures(outcome).items():
            (folder / f"{stem}-{name}.png").write_bytes(pages.png(figure))
            parts.append(pages.picture(figure, caption))
        parts.append(pages.table(None, model_summary(outcome.model)))
    path = folder / "report.html"
    pages.write_page(path, pages.page("pynode demo", parts))
    return path


def _pictures(outcome: Outcome) -> "dict[str, tuple[Figure, str]]":
    """Name of the file -> (figure, caption)."""
    from pynode import plots

    data = outcome.dataset
    model = outcome.model
    forecast = data.held_out if model.log else None
    over_data = "The model over the data it learned from"
    over_data += "; dashed: forecast of the years held out." if forecast else "."
    portrait = "Phase portrait: arrows show the direction of the learned field"
    portrait += ", bars that of the true one." if data.field else "."
    pictures = {
        "trajectories": (plots.trajectories(model, forecast=forecast), over_data),
        "phase": (plots.phase(model, truth=data.field), portrait),
        "loss": (plots.loss(model), "The loss while training; each stage starts from the one before."),
    }
    if forecast is None:
        rollouts = plots.trajectories(model, data.held_out, start="first", label="truth")
        pictures["held-out"] = (rollouts, "Held-out initial states: the model and the noise-free truth.")
    return pictures


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, columns aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
