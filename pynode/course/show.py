"""What notebooks show: tables and sentences with computed numbers, one style for pictures."""

import sys


class Markdown(str):
    """A string that notebooks show as Markdown."""

    def _repr_markdown_(self):
        return str(self)

    def __repr__(self):
        return str(self)


def text(string):
    """A sentence, usually an f-string with numbers of this notebook."""
    return Markdown(string)


def table(header, rows):
    """A table; numbers that are not strings are written with four significant digits.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences
    """
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return Markdown("\n".join(lines))


def _cell(value):
    if isinstance(value, str) or (hasattr(value, "__index__") and not hasattr(value, "dtype")):
        return str(value)
    return f"{value:.4g}" if hasattr(value, "__float__") else str(value)


def style():
    """One style for the course's pictures; in a notebook, figures are shown in the page."""
    import matplotlib.pyplot as plt

    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()) is not None:
        shell.run_line_magic("matplotlib", "inline")

    from pynode.plots.style import STYLE

    plt.rcParams.update(STYLE)
    plt.rcParams.update({"figure.figsize": (7.0, 3.8), "figure.constrained_layout.use": True})
