"""Summaries as text and as HTML."""

import html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pynode.models.trajectories.publishing.summary import Summary

WIDTH = 92
"""Of lines of text."""

MANY = 12
"""Correlations of more parameters than this are not printed."""

STRONG = 0.9
"""Correlations beyond this are named where the matrix is not printed."""

TABLE = "margin:.6em 0;border-collapse:collapse;font-variant-numeric:tabular-nums"
CELL = "text-align:{};padding:.2em .8em;border-bottom:1px solid #e1e5e9"


def number(x: float, digits: int = 4) -> str:
    """A number for people: 0.00123, 1.23e-07, 12300."""
    if np.isnan(x):
        return ""
    if np.isinf(x):
        return "inf" if x > 0 else "-inf"
    return f"{x:.{digits}g}" if 1e-4 <= abs(x) < 1e6 or x == 0 else f"{x:.{digits - 1}e}"


def parameter_rows(summary: "Summary") -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the table of parameters; columns that would be empty are left out."""
    s = summary
    percent = f"{100 * s.level:g} %"
    rows = []
    for j, name in enumerate(s.names):
        interval = "" if np.isnan(s.low[j]) or s.status[j] == "frozen" else f"{number(s.low[j])} to {number(s.high[j])}"
        error = "" if s.status[j] == "frozen" else number(s.standard_error[j], 3)
        scale = s.scale[j] if interval and s.kind == "Wald" and s.scale[j] != "linear" else ""
        rows.append([name, number(s.estimate[j], 5), s.units[j], error, interval, scale, s.status[j]])
    header = ["parameter", "estimate", "unit", "std. error", f"{percent} interval", "symmetric in", ""]
    keep = [j for j in range(len(header)) if j < 2 or any(row[j] for row in rows)]
    return [header[j] for j in keep], [[row[j] for j in keep] for row in rows]


def criteria(summary: "Summary") -> list[tuple[str, str]]:
    """(what, value) of the fit as a whole."""
    s = summary
    return [
        ("log-likelihood", _known(s.log_likelihood)),
        ("readings", str(s.n_observed)),
        ("estimated numbers", "unknown" if np.isnan(s.n_estimated) else f"{s.n_estimated:.4g} ({s.n_noise} of the errors)"),
        ("AICc", _known(s.aicc)),
        ("BIC", _known(s.bic)),
        ("log evidence", _known(s.log_evidence)),
    ]


def _known(x: float) -> str:
    return "unknown" if np.isnan(x) else "infinite" if np.isinf(x) else f"{x:.2f}"


def column_rows(summary: "Summary") -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the table of what was measured."""
    s = summary
    rows = []
    for name, own in s.noise.items():
        errors = ", ".join(
            number(x, 3) if k == "additive" and len(own) == 1 else f"{k} {number(x, 3)}" for k, x in own.items()
        )
        rows.append([name, number(s.r2[name], 4), number(s.rmse[name], 3), errors])
    of = "" if s.noise_of in ("states", "readings") else f" of {s.noise_of}"
    return ["measured", "R2", "residual (rms)", f"noise{of} (std. dev.)"], rows


def remarks(summary: "Summary", warnings: bool = True) -> list[str]:
    """Sentences: how intervals were made, combinations, warnings, notes."""
    s = summary
    sentences = [words[0].upper() + words[1:] + "." for words in (*s.combinations, *(s.warnings if warnings else ()))]
    sentences += s.notes
    if len(s.names) > MANY:
        sentences += _strong(s)
    if np.isfinite(s.low).any():
        if s.kind == "Wald":
            how = "Intervals: Wald, with Student's quantiles"
            inside = {"log": "of positive parameters in their logarithms", "logit": "of bounded ones in the logit"}
            used = [words for scale, words in inside.items() if scale in s.scale]
            sentences.append(f"{how}{'; ' if used else ''}{', '.join(used)}.")
        else:
            sentences.append("Intervals: profile likelihood.")
    return sentences


def _strong(s: "Summary") -> list[str]:
    R = s.correlation
    pairs = [
        f"{s.names[i]} and {s.names[j]} {R[i, j]:+.3f}" for i in range(len(R)) for j in range(i) if abs(R[i, j]) > STRONG
    ]
    return [f"Strong correlations: {', '.join(pairs[:8])}{', ...' if len(pairs) > 8 else ''}."] if pairs else []


def correlation_rows(summary: "Summary") -> tuple[list[str], list[list[str]]] | None:
    """(header, rows) of the correlations of at most MANY parameters; None where there are none."""
    s = summary
    own = np.flatnonzero(np.isfinite(s.standard_error) & (s.standard_error > 0))
    if not 2 <= len(own) <= MANY:
        return None
    R = s.correlation
    names = [s.names[k] for k in own]
    return ["correlation", *names[:-1]], [
        [names[i], *(f"{R[own[i], own[j]]:+.3f}" if j < i else "" for j in range(len(own) - 1))] for i in range(1, len(own))
    ]


def group_rows(summary: "Summary") -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the weights of networks."""
    rows = [[g.name, " x ".join(map(str, g.shape)) or "1", number(g.size, 3)] for g in summary.groups]
    return ["weights", "shape", "root mean square"], rows


def as_text(summary: "Summary") -> str:
    """A summary in lines of text."""
    s = summary
    lines = textwrap.wrap(s.title, WIDTH)
    lines.append("=" * WIDTH)
    pairs = criteria(s)
    half = (len(pairs) + 1) // 2
    for (a, x), (b, y) in zip(pairs[:half], pairs[half:], strict=True):
        lines.append(f"{a:<20}{x:>24}    {b:<20}{y:>24}".rstrip())
    if s.names:
        lines += ["-" * WIDTH, *aligned(*parameter_rows(s))]
    if s.groups:
        lines += ["-" * WIDTH, *aligned(*group_rows(s))]
    lines += ["-" * WIDTH, *aligned(*column_rows(s))]
    correlations = correlation_rows(s)
    if correlations is not None:
        lines += ["-" * WIDTH, *aligned(*correlations)]
    lines.append("=" * WIDTH)
    for sentence in remarks(s):
        lines += textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines, the first column to the left, numbers to the right."""
    widths = [max(len(row[j]) for row in (header, *rows)) for j in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [
            x.rjust(w) if _numeric(rows, j) else x.ljust(w) for j, (x, w) in enumerate(zip(row, widths, strict=True)) if j
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _numeric(rows: Sequence[Sequence[str]], j: int) -> bool:
    """Whether all entries of a column are numbers, intervals, or empty."""
    return all(not row[j] or row[j][0] in "+-0123456789" or row[j].startswith("inf") for row in rows)


def as_html(summary: "Summary", within: bool = False) -> str:
    """A summary as a piece of HTML; within: a page that has a title, warnings, and a table of what was measured."""
    s = summary
    parts = [] if within else [f"<p><b>{html.escape(s.title)}</b></p>"]
    pairs = criteria(s)
    half = (len(pairs) + 1) // 2
    parts.append(html_table(None, [[*a, *b] for a, b in zip(pairs[:half], pairs[half:], strict=True)]))
    if s.names:
        parts.append(html_table(*parameter_rows(s)))
    if s.groups:
        parts.append(html_table(*group_rows(s)))
    if not within:
        parts.append(html_table(*column_rows(s)))
    correlations = correlation_rows(s)
    if correlations is not None:
        parts.append(html_table(*correlations))
    said = remarks(s, warnings=not within)
    if said:
        parts.append("<ul>" + "".join(f"<li>{html.escape(words)}</li>" for words in said) + "</ul>")
    return "\n".join(parts)


def html_table(header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> str:
    """A table that looks right within any page."""
    cells = []
    for tag, row in ([] if header is None else [("th", header)]) + [("td", row) for row in rows]:
        inside = ""
        for j, cell in enumerate(row):
            side = "right" if j and _numeric(rows, j) else "left"
            inside += f'<{tag} style="{CELL.format(side)}">{html.escape(cell)}</{tag}>'
        cells.append(f"<tr>{inside}</tr>")
    return f'<table style="{TABLE}">{"".join(cells)}</table>'
