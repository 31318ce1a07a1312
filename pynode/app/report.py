"""Reports: one self-contained HTML file, pictures embedded, readable on a phone."""

import base64
import html
import io
import math

import numpy as np

from pynode import plots
from pynode._version import __version__
from pynode.data.files import write_bytes

MISFIT = 1.5
"""Root mean square of residuals over noise, above which a report says that the model misses the data."""


CSS = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5d6b78; --line: #e1e5e9; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 1.2rem 1rem 3rem; }
h1 { font-size: 1.55rem; margin: .6rem 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; }
p { margin: .5rem 0; max-width: 75ch; } .soft, figcaption { color: var(--soft); font-size: .92rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; }
figure { margin: 1.1rem 0; min-width: 0; } img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { max-width: 75ch; margin: .4rem auto 0; }
.pictures { display: grid; gap: .4rem 2rem; grid-template-columns: repeat(2, minmax(0, 1fr)); }
.pictures .wide { grid-column: 1 / -1; }
.notes { border-left: 4px solid #d55e00; background: #fdf4ee; padding: .4rem 1rem .4rem 2.2rem; margin: 1rem 0; }
.notes li { margin: .3rem 0; }
@media (max-width: 760px) {
  .pictures { display: block; }
  figure .scroll img { max-width: none; width: max(100%, 430px); }
  figure.wide .scroll img { width: max(100%, 620px); }
}
"""


def document(title, parts):
    """A whole page.

    Parameters
    ----------
    title : str
    parts : iterable of str
        HTML, made by `heading`, `text`, `table`, `picture`.

    Returns
    -------
    str
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        f"<style>{CSS}</style></head><body><main>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(parts)
        + f'\n<p class="soft">Made by pynode {html.escape(__version__)}.</p>\n</main></body></html>\n'
    )


def heading(words):
    return f"<h2>{html.escape(words)}</h2>"


def text(words, soft=False):
    return f"<p{' class=soft' if soft else ''}>{html.escape(words)}</p>"


def table(header, rows):
    """A table of strings; header may be None."""
    head = "" if header is None else "<tr>" + "".join(f"<th>{html.escape(str(x))}</th>" for x in header) + "</tr>"
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(x))}</td>" for x in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}{body}</table></div>'


def picture(figure, caption, wide=False):
    """A matplotlib Figure, embedded; on a narrow screen it scrolls sideways."""
    data = base64.b64encode(png(figure)).decode("ascii")
    words = html.escape(caption)
    image = f'<div class="scroll"><img alt="{words}" src="data:image/png;base64,{data}"></div>'
    return f"<figure{' class=wide' if wide else ''}>{image}<figcaption>{words}</figcaption></figure>"


def notes(sentences):
    """A list of things to know; nothing if there are none."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{items}</ul>' if items else ""


def png(figure, dpi=130):
    """A matplotlib Figure as the bytes of a PNG file, the same each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save(path, page):
    """Write a page to a file, in one step."""
    write_bytes(path, page.encode("utf-8"))


# ------------------------------------------------------------------------------------------------------------


def number(x, digits=3):
    """A number for people: 0.00123, 1.23e-07, 12300."""
    if x is None or not math.isfinite(x):
        return "unknown"
    return f"{x:.{digits}g}" if 1e-4 <= abs(x) < 1e5 or x == 0 else f"{x:.{digits - 1}e}"


def model_summary(model):
    """[(what, value)] about a fitted model: for tables of reports and for `pynode info`."""
    report = model.report_
    what = model.field_.name + (", of log states" if model.log else "")
    extra = f", and {model.n_unobserved_} unobserved" if model.n_unobserved_ else ""
    rows = [
        ("states", ", ".join(model.names_) + extra),
        ("time", model.time_name_),
        ("field", f"{what}, {model.field_.n_params} parameters"),
        (
            "fitted to",
            f"{report['n_observed']} numbers in {report['n_samples']} "
            + ("trajectory" if report["n_samples"] == 1 else "trajectories"),
        ),
        ("residual (root mean square)", "; ".join(f"{k} {number(v)}" for k, v in report["rmse"].items())),
        (f"noise of {report['noise_of']}, estimated", "; ".join(f"{k} {number(v)}" for k, v in report["noise"].items())),
        ("loss", number(report["loss"])),
        (
            "training",
            f"{report['status']}, {report['seconds']:.1f} s, {report['n_evaluations']} gradients, "
            f"{report['nfe']} field evaluations",
        ),
        (
            "solver",
            f"{model.method}, rtol {model.rtol:g}, atol {model.atol:g}, random_state {report['random_state']}",
        ),
    ]
    if model.field_.inputs:
        rows.insert(2, ("control inputs", str(model.field_.inputs)))
    if model.estimators_:
        rows.insert(2, ("ensemble", f"{len(model.estimators_)} members; what follows is about the one of the lowest loss"))
    effective = report.get("effective_parameters", math.nan)
    if effective is not None and math.isfinite(effective):
        rows.append(("effective parameters", f"{effective:.1f} of {report['n_params']}: so many the data determine"))
    return rows


def model_notes(model):
    """What a reader must know before trusting the model: a list of sentences."""
    report = model.report_
    sentences = []
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


def state_table(model):
    """How well each state is described."""
    report, data = model.report_, model.data_
    rows = []
    for j, name in enumerate(model.names_):
        seen = "" if data is None else str(sum(int((~np.isnan(y[:, j])).sum()) for y in data.y))
        rows.append((name, seen, number(report["rmse"].get(name)), number(report["noise"].get(name))))
    of = "" if report["noise_of"] == "states" else f" of {report['noise_of']}"
    return table(("state", "measured", "residual (root mean square)", f"noise{of}, estimated"), rows)


def model_parts(model, truth=None, forecast=None):
    """The pictures of a model and the table of its stages, as parts of a page."""
    bands, parts = model.covariance_ is not None, []
    if model.data_ is not None:
        words = "The model over the data. Points: what was measured. Line: the model, from the fitted initial state."
        if forecast is not None:
            words += " Dashed: the model continued, against what took no part in fitting."
        if bands:
            words += (
                " Shaded: the state lies there with a probability of 90 %, given the uncertainty of the parameters;"
                " measurements scatter more, by the noise."
            )
        parts.append(picture(plots.trajectories(model, forecast=forecast), words, wide=True))
        wide = model.data_.d == 3
        parts.append(picture(plots.phase(model, truth=truth), _phase_words(model, truth, bands), wide))
        words = (
            "What the model leaves unexplained, in units of the noise. If that is only noise, points lie evenly around "
            "zero, 19 of 20 in the grey band, 9 of 10 bars (means over stretches of time) cross zero, and the histogram "
            "follows the curve. Waves or slopes here mean that the equation lacks something."
        )
        parts += [] if wide else ["<div>"]  # residuals and loss beside the phase portrait, or under it
        parts.append(picture(plots.residuals(model), words))
    words = "The loss while training. Each stage starts from the one before; their losses measure different things."
    parts = ['<div class="pictures">', *parts, picture(plots.loss(model), words), "</div>" * (1 + parts.count("<div>"))]
    rows = [
        (s["name"], s["status"], s["iterations"], number(s["loss"]), f"{s['seconds']:.2f}\u00a0s")
        for s in model.report_["stages"]
    ]
    return [*parts, heading("Stages of training"), table(("stage", "ended", "iterations", "loss", "time"), rows)]


def _phase_words(model, truth, bands):
    d, field = model.data_.d, plots.has_plain_field(model)
    known = " The true field lies below the learned one." if truth is not None and d < 3 and field else ""
    if d == 1 and field:
        words = "How fast the state changes, depending on the state; below, where the data lie."
        return words + (" Shaded: 90 % band of the learned field." if bands else "") + known
    if d == 1:
        return "How fast the state changes along the fitted trajectories, depending on the state; below, where the data lie."
    if d > 3:
        return "Phase portrait: each fitted trajectory as a path in the plane that the axes name."
    words = "Phase portrait: each fitted trajectory as a path in the space of states" + (
        ", with its 90 % band." if bands else "."
    )
    if d == 2 and field:
        words += " Arrows: direction of the learned field" + (
            "; grey where the data leave it uncertain by more than about 30 degrees." if bands else "."
        )
    return words + known


def model_page(model, title="A learned differential equation"):
    """The report of one model, as HTML."""
    parts = [text(f"A Neural ODE for {', '.join(model.names_)}, learned from measured trajectories.")]
    if model.data_ is None:
        parts.append(text("The model was saved without its data, so pictures over the data are missing.", soft=True))
    parts += [notes(model_notes(model)), heading("In brief"), table(None, model_summary(model)), heading("Pictures")]
    return document(title, [*parts, *model_parts(model), heading("States"), state_table(model)])
