"""What notebooks show: tables and sentences with computed numbers, one style for pictures."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pynode.course.pictures import sharp_png
from pynode.plots.style import STYLE


class Markdown(str):
    """A string that notebooks show as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)


def text(string: str) -> Markdown:
    """A sentence, usually an f-string with numbers of this notebook.

    Parameters
    ----------
    string : str
        Markdown.

    Returns
    -------
    Markdown
        The same string, which notebooks show as Markdown.

    See Also
    --------
    pynode.course.table

    Examples
    --------
    >>> from pynode.course import text
    >>> text(f"The error is **{1 / 3:.2f}**.")
    The error is **0.33**.
    """
    return Markdown(string)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markdown:
    """A table; numbers that are neither strings nor whole are written with four significant digits.

    Parameters
    ----------
    header : sequence of str
        The names of the columns.
    rows : iterable of sequences
        The cells of each row.

    Returns
    -------
    Markdown

    See Also
    --------
    pynode.course.text

    Examples
    --------
    >>> from pynode.course import table
    >>> table(["steps", "error"], [(10, 0.0123456)])
    | steps | error |
    |---|---|
    | 10 | 0.01235 |
    """
    lines = ["| " + " | ".join(map(_cell, header)) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return Markdown("\n".join(lines))


def _cell(value: Any) -> str:
    """What a cell shows; a bar, as of |f|, would end the cell."""
    if isinstance(value, (int, np.integer)) or not (isinstance(value, str) or hasattr(value, "__float__")):
        return str(value)
    return value.replace("|", "\\|") if isinstance(value, str) else f"{value:.4g}"


def style() -> None:
    """Give pyplot the style of the course's pictures; in a notebook, figures are shown sharp, with a description.

    See Also
    --------
    pynode.plots

    Examples
    --------
    >>> from pynode.course import style
    >>> style()  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        from matplotlib.figure import Figure

        shell.run_line_magic("matplotlib", "inline")
        shell.display_formatter.formatters["image/png"].for_type(Figure, sharp_png)

    plt.rcParams.update(STYLE)
    plt.rcParams.update({"figure.figsize": (7.0, 3.8), "figure.constrained_layout.use": True})
