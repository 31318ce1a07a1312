"""Reports: one self-contained HTML file, pictures embedded, readable on a phone."""

import base64
import html
import io
import math

from pynode import plots
from pynode._version import __version__
from pynode.files import write_bytes

CSS = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5d6b78; --line: #e1e5e9; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 1.2rem 1rem 3rem; }
h1 { font-size: 1.55rem; margin: .6rem 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; }
p { margin: .5rem 0; } .soft, figcaption { color: var(--soft); font-size: .92rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; }
figure { margin: 1.1rem 0; } img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
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


def picture(figure, caption):
    """A matplotlib Figure, embedded."""
    data = base64.b64encode(png(figure)).decode("ascii")
    words = html.escape(caption)
    image = f'<img alt="{words}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"


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
    rows = [
        ("states", ", ".join(model.names_)),
        ("time", model.time_name_),
        ("field", f"{what}, {model.field_.n_params} parameters"),
        (
            "fitted to",
            f"{report['n_observed']} numbers in {report['n_trajectories']} "
            + ("trajectory" if report["n_trajectories"] == 1 else "trajectories"),
        ),
        ("residual (root mean square)", "; ".join(f"{k} {number(v)}" for k, v in report["rmse"].items())),
        (
            f"noise of {report['noise_of']}, from the data alone",
            "; ".join(f"{k} {number(v)}" for k, v in report["noise"].items()),
        ),
        ("loss", number(report["loss"])),
        (
            "training",
            f"{report['status']}, {report['seconds']:.1f} s, {report['evaluations']} gradients, "
            f"{report['nfe']} field evaluations",
        ),
        (
            "solver",
            f"{model.method}, rtol {model.rtol:g}, atol {model.atol:g}, random_state {report['seed']}",
        ),
    ]
    return rows


def model_parts(model, truth=None, forecast=None):
    """The pictures of a model and the table of its stages, as parts of a page."""
    parts = []
    if model.data_ is not None:
        ends = ", and beyond: dashed, against years that took no part in fitting" if forecast is not None else ""
        parts.append(picture(plots.trajectories(model, forecast=forecast), f"The model over the data{ends}."))
        known = "; the true field below the learned one" if truth is not None else ""
        parts.append(
            picture(
                plots.phase(model, truth=truth),
                f"Phase portrait: data, fitted trajectories, directions of the learned field{known}.",
            )
        )
    parts.append(
        picture(
            plots.loss(model),
            "The loss while training. Each stage starts from the one before; their losses measure different things.",
        )
    )
    rows = [
        (s["name"], s["status"], s["iterations"], number(s["loss"]), f"{s['seconds']:.2f} s")
        for s in model.report_["stages"]
    ]
    parts.append(table(("stage", "ended", "iterations", "loss", "time"), rows))
    return parts


def model_page(model, title="A learned differential equation"):
    """The report of one model, as HTML."""
    parts = [text(f"A Neural ODE for {', '.join(model.names_)}, learned from measured trajectories.")]
    if model.data_ is None:
        parts.append(text("The model was saved without its data, so pictures over the data are missing.", soft=True))
    parts += [table(None, model_summary(model)), heading("Pictures"), *model_parts(model)]
    return document(title, parts)
