"""The demo: learn Van der Pol trajectories and the lynx-hare record; a table, pictures and a report."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pynode import datasets
from pynode.models.trajectories.neural_ode import NeuralODE

HELD_OUT_YEARS = 5


CYCLE = 10
"""Years of a cycle of lynx and hare."""


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
    def row(self):
        """A row of the table."""
        report = self.model.report_
        return (
            self.name,
            f"{report['loss']:.4f}",
            self.error,
            self.baseline,
            f"{report['seconds']:.1f} s",
            f"{report['nfe'] / 1e6:.2f} million",
        )


HEADER = ("experiment", "loss", "held-out error", "to compare", "time", "field evaluations")


def van_der_pol(seed=0, progress=False):
    """Learn 16 noisy trajectories; test on 8 other initial states, against the noise-free truth."""
    data = datasets.van_der_pol(seed)
    model = NeuralODE(random_state=seed).fit(data.train, progress=progress and "Van der Pol")
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


def lynx_hare(seed=0, progress=False):
    """Learn the pelts of 1900 to 1915; forecast the five years after."""
    data = datasets.lynx_hare(HELD_OUT_YEARS)
    model = NeuralODE(log=True, n_restarts=5, random_state=seed).fit(data.train, progress=progress and "lynx and hare")
    truth = np.log(data.held_out.y[0])

    def error(forecast):
        return float(np.sqrt(np.mean((np.log(forecast) - truth) ** 2)))

    t, y = data.train.t[0], data.train.y[0]
    first, last = t[[0, -1]]
    cycle = [np.exp(np.log(y[(t - year) % CYCLE == 0]).mean(axis=0)) for year in data.held_out.t[0]]
    classic = NeuralODE(field=datasets.lotka_volterra(), log=True, random_state=seed).fit(data.train)
    return Outcome(
        "lynx and hare",
        data,
        model,
        f"RMSE of log {error(model.predict(data.held_out.t[0])):.2f}",
        f"persistence {error(y[-1:]):.2f}, mean cycle {error(cycle):.2f}, "
        f"Lotka-Volterra {error(classic.predict(data.held_out.t[0])):.2f}",
        f"Pelts of hare and lynx, {first:.0f} to {last:.0f}, learned as logarithms. Held out: the "
        f"{HELD_OUT_YEARS} years after, forecast from the fitted trajectory. To compare: the last value "
        f"for all years; the years a cycle of {CYCLE} before; and the equations of Lotka and Volterra, fitted by this "
        "library. Root mean square error of the logarithms. " + data.source,
    )


EXPERIMENTS = (van_der_pol, lynx_hare)


def run(folder, seed=0, progress=True, say=print):
    """Run the demo.

    Parameters
    ----------
    folder : path
        Where pictures and report go; it is made if need be.
    seed : int
    progress : bool
        Show progress while training.
    say : callable
        Prints a line.

    Returns
    -------
    list of Outcome
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = [experiment(seed, progress) for experiment in EXPERIMENTS]
    for line in text_table(HEADER, [outcome.row for outcome in outcomes]):
        say(line)
    try:
        report = write_pictures(folder, outcomes)
    except ImportError as error:  # plots.MissingExtraError
        say(f"No pictures and no report: {error}")
    else:
        say(f"Pictures and report: {report.resolve()}")
    return outcomes


def write_pictures(folder, outcomes):
    """Write the pictures of the outcomes and one report; returns the report's path."""
    from pynode import plots
    from pynode.app import report

    parts = [
        report.text("Two differential equations, learned from measured trajectories by pynode, on this computer."),
        report.table(HEADER, [outcome.row for outcome in outcomes]),
    ]
    for outcome in outcomes:
        data, model = outcome.dataset, outcome.model
        stem = outcome.name.lower().replace(" ", "-")
        forecast = data.held_out if model.log else None
        figures = {
            "trajectories": (
                plots.trajectories(model, forecast=forecast),
                "The model over the data it learned from"
                + ("; dashed: forecast of the years held out." if forecast else "."),
            ),
            "phase": (
                plots.phase(model, truth=data.field),
                "Phase portrait: arrows show the direction of the "
                "learned field" + (", bars that of the true one." if data.field else "."),
            ),
            "loss": (plots.loss(model), "The loss while training; each stage starts from the one before."),
        }
        if forecast is None:
            rollouts = plots.trajectories(model, data.held_out, start="first", label="truth")
            figures["held-out"] = (rollouts, "Held-out initial states: the model and the noise-free truth.")
        parts += [report.heading(outcome.name), report.text(outcome.story)]
        for name, (figure, caption) in figures.items():
            (folder / f"{stem}-{name}.png").write_bytes(report.png(figure))
            parts.append(report.picture(figure, caption))
        parts.append(report.table(None, report.model_summary(model)))
    path = folder / "report.html"
    report.save(path, report.document("pynode demo", parts))
    return path


def text_table(header, rows):
    """Lines of a table, columns aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
