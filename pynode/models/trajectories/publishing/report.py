"""Reports of models: what was fitted to what, how well, and what to beware of, as one HTML file."""

import math
from typing import TYPE_CHECKING

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.models.pages import heading, notes, page, paragraph, picture, scrolled, table
from pynode.models.trajectories.ensemble import chosen_by
from pynode.models.trajectories.publishing.summary import summarise
from pynode.models.trajectories.publishing.summary_text import as_html

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE
    from pynode.plots.phase_portrait import Truth

LEVEL = 0.95
"""Of confidence intervals."""

MISFIT = 1.5
"""Root mean square of residuals over noise, above which a report says that the model misses the data."""

LOSS_WORDS = (
    "The loss while training. Each stage starts from the one before, but for trials: several starts go through the stages, "
    "and the best goes on. The losses of stages measure different things."
)

RESIDUAL_WORDS = (
    "What the model leaves unexplained, in units of the noise. If that is only noise, points lie evenly around "
    "zero, 19 of 20 in the grey band, 9 of 10 bars (means over stretches of time) cross zero, and the histogram "
    "follows the curve. Waves or slopes here mean that the equation lacks something."
)


def readable(x: float | None, digits: int = 3) -> str:
    """A number for people: 0.00123, 1.23e-07, 12300."""
    if x is None or not math.isfinite(x):
        return "unknown"
    return f"{x:.{digits}g}" if 1e-4 <= abs(x) < 1e5 or x == 0 else f"{x:.{digits - 1}e}"


def model_summary(model: "NeuralODE") -> list[tuple[str, str]]:
    """[(what, value)] about a fitted model: for tables of reports and for `pynode info`."""
    report = model.report_
    what = model.field_.name + (", of log states" if model.log else "")
    trajectories = "trajectory" if report["n_samples"] == 1 else "trajectories"
    extra = f", and {model.n_unobserved_} unobserved" if model.n_unobserved_ else ""
    rows: list[tuple[str, str]] = [
        ("states", ", ".join(model.names_) + extra),
        ("time", model.time_name_ if model.clock_ is None else model.clock_.label(model.time_name_)),
        ("field", f"{what}, {model.field_.n_params} parameter{'s' * (model.field_.n_params != 1)}"),
        ("fitted to", f"{report['n_observed']} numbers in {report['n_samples']} {trajectories}"),
        ("residual (root mean square)", "; ".join(f"{k} {readable(v)}" for k, v in report["rmse"].items())),
        (f"noise of {report['noise_of']}, estimated", "; ".join(f"{k} {readable(v)}" for k, v in report["noise"].items())),
        ("loss", readable(report["loss"])),
        (
            "training",
            f"{report['status']}, {report['seconds']:.1f} s, {report['n_evaluations']} gradients, "
            f"{report['nfe']} field evaluations",
        ),
        ("solver", f"{model.method}, rtol {model.rtol:g}, atol {model.atol:g}, random_state {report['random_state']}"),
    ]
    if model.field_.inputs:
        rows.insert(2, ("control inputs", str(model.field_.inputs)))
    if model.estimators_:
        words = f"{len(model.estimators_)} members; what follows is about the one of the {chosen_by(model)}"
        rows.insert(2, ("ensemble", words))
    effective = report.get("effective_parameters", math.nan)
    if effective is not None and math.isfinite(effective):
        rows.append(("effective parameters", f"{effective:.1f} of {report['n_params']}: so many the data determine"))
    return rows


def model_notes(model: "NeuralODE") -> list[str]:
    """What a reader must know before trusting the model: a list of sentences."""
    report = model.report_
    names = [stage["name"] for stage in report["stages"]]  # more is said of these below
    sentences = [str(words) for words in report["warnings"] if not any(name in words for name in names)]
    if report["status"] not in ("finished",):
        sentences.append(f"Training did not end by itself ({report['status']}): more iterations may fit better.")
    for stage in report["stages"]:
        if stage["status"] == "undone":
            sentences.append(
                f"The stage over {stage['name']} was undone, for the model lost the data; the parameters are those fitted "
                "to shorter pieces. Over longer times the model may leave the data, as chaotic systems do."
            )
        elif stage["status"] == "left out":
            sentences.append(f"The stage over {stage['name']} was left out: the equation could not be solved there.")
        elif stage.get("failed"):
            sentences.append(
                f"{stage['failed']} times a piece of data could not be solved over {stage['name']} and was left out."
            )
    if report["noise_of"] == "states":
        worse = [k for k, v in report["rmse"].items() if report["noise"].get(k, math.nan) * MISFIT < v]
        if worse:
            sentences.append(
                f"The model misses {', '.join(worse)} by more than the noise of the data explains: it may be too small, or "
                "the equation may lack something (a state that was not measured, an input, time)."
            )
    if model.covariance_ is None:
        sentences.append("There are no error bands: this way of training gives no uncertainty of the parameters.")
    return sentences


def table_of_states(model: "NeuralODE") -> str:
    """How well each state is described."""
    report = model.report_
    data = model.data_
    rows = []
    for j, name in enumerate(model.names_):
        seen = "" if data is None else str(sum(int((~np.isnan(y[:, j])).sum()) for y in data.y))
        rows.append((name, seen, readable(report["rmse"].get(name)), readable(report["noise"].get(name))))
    noise_of = "" if report["noise_of"] == "states" else f" of {report['noise_of']}"
    return table(("state", "measured", "residual (root mean square)", f"noise{noise_of}, estimated"), rows)


def table_of_stages(model: "NeuralODE") -> str:
    """What each stage of training did."""
    rows = [
        (
            stage["name"],
            stage["status"],
            stage["iterations"],
            readable(stage["loss"]),
            f"{stage['seconds']:.2f}\u00a0s",
        )
        for stage in model.report_["stages"]
    ]
    return table(("stage", "ended", "iterations", "loss", "time"), rows)


def model_pictures(model: "NeuralODE", truth: "Truth | None" = None, forecast: Trajectories | None = None) -> list[str]:
    """The pictures of a model with their captions, as parts of a page; those over the data where it has them."""
    from pynode import plots

    loss = picture(plots.loss(model), LOSS_WORDS)
    if model.data_ is None:
        return ['<div class="pictures">', loss, "</div>"]
    bands = model.covariance_ is not None
    wide = model.data_.d == 3
    trajectories = plots.trajectories(model, forecast=forecast)
    phase = plots.phase(model, truth=truth)
    residuals = picture(plots.residuals(model), RESIDUAL_WORDS)
    beside = [residuals, loss]
    if not wide:  # residuals and loss, one under the other, beside the phase portrait
        beside = ["<div>", *beside, "</div>"]
    return [
        '<div class="pictures">',
        picture(trajectories, trajectory_words(forecast is not None, bands), wide=True),
        picture(phase, phase_words(model, truth is not None, bands), wide),
        *beside,
        "</div>",
    ]


def trajectory_words(forecast: bool, bands: bool) -> str:
    """The caption of the trajectories."""
    words = "The model over the data. Points: what was measured. Line: the model, from the fitted initial state."
    if forecast:
        words += " Dashed: the model continued, against what took no part in fitting."
    if bands:
        words += (
            " Shaded: the state lies there with a probability of 90 %, given the uncertainty of the parameters;"
            " measurements scatter more, by the noise."
        )
    return words


def phase_words(model: "NeuralODE", truth: bool, bands: bool) -> str:
    """The caption of the phase portrait of a model that has its data."""
    from pynode.plots.parts import has_plain_field

    assert model.data_ is not None
    d = model.data_.d
    field = has_plain_field(model)
    known = " The true field lies below the learned one." if truth and d < 3 and field else ""
    if d == 1 and field:
        words = "How fast the state changes, depending on the state; below, where the data lie."
        return words + (" Shaded: 90 % band of the learned field." if bands else "") + known
    if d == 1:
        return "How fast the state changes along the fitted trajectories, depending on the state; below, where the data lie."
    if d > 3:
        return "Phase portrait: each fitted trajectory as a path in the plane that the axes name."
    words = "Phase portrait: each fitted trajectory as a path in the space of states"
    words += ", with its 90 % band." if bands else "."
    if d == 2 and field:
        words += " Arrows: direction of the learned field"
        words += "; grey where the data leave it uncertain by more than about 30 degrees." if bands else "."
    return words + known


def model_report(model: "NeuralODE", title: str = "A learned differential equation") -> str:
    """The report of one model, as an HTML page."""
    parts = [paragraph(f"A Neural ODE for {', '.join(model.names_)}, learned from measured trajectories.")]
    if model.data_ is None:
        parts.append(paragraph("The model was saved without its data, so pictures over the data are missing.", soft=True))
    parts += [notes(model_notes(model)), heading("In brief"), table(None, model_summary(model))]
    parts += [
        heading("Parameters" if model.field is not None else "Likelihood"),
        scrolled(as_html(summarise(model, None, LEVEL), within=True)),
    ]
    parts += [heading("Pictures"), *model_pictures(model)]
    parts += [heading("Stages of training"), table_of_stages(model)]
    parts += [heading("States"), table_of_states(model)]
    return page(title, parts)
