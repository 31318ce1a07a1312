"""Pictures of notebooks: sharp on any screen, and described in words for those who do not see them."""

import re
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARP = 2
"""Pixels of a picture for each pixel of the page."""

GREEK_AND_SIGNS = {r"\theta": "θ", r"\eta": "η", r"\lambda": "λ", r"\mu": "μ", r"\sigma": "σ", r"\partial": "∂", r"\,": " "}


def describe(figure: "Figure") -> str:
    """What is drawn, in words: of each panel its title, its axes, and the entries of its legend.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A drawn figure.

    Returns
    -------
    str
        Sentences. Panels with colours for values say "colour map".

    See Also
    --------
    pynode.course.style
    """
    return " ".join(words for words in map(_describe_panel, figure.axes) if words) or "A picture without labels."


def _describe_panel(ax: "Axes") -> str:
    x, y, title = (_plain(text) for text in (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()))
    if hasattr(ax, "_colorbar"):
        return f"Colours of the colour map: {y or x}." if y or x else ""
    shown = dict.fromkeys(_plain(label) for label in ax.get_legend_handles_labels()[1])
    axes = f"axes: {y} against {x}" if x and y else f"axis: {x or y}" if x or y else ""
    sentences = [title, axes, f"shown: {'; '.join(shown)}" if shown else ""]
    if ax.images or any(hasattr(collection, "get_coordinates") for collection in ax.collections):
        sentences.append("a colour map")
    return " ".join(f"{_begin(sentence).rstrip('.')}." for sentence in sentences if sentence)


def _begin(sentence: str) -> str:
    """With a capital, unless it begins with the name of a quantity: t is not T."""
    return sentence if re.match(r"\w\b", sentence) else f"{sentence[:1].upper()}{sentence[1:]}"


def _plain(text: str) -> str:
    """Text without the markup of formulas."""
    for command, sign in GREEK_AND_SIGNS.items():
        text = text.replace(command, sign)
    text = re.sub(r"\\dot\s*\{?\\?(?:mathbf)?\s*(\w)\}?", r"d\1/dt", text)
    text = re.sub(r"\\(a?(?:sin|cos|tan)h?|exp|log|ln)\b", r"\1", text)
    text = re.sub(r"\\\w+\s*", "", text)
    return " ".join(re.sub(r"[${}]", "", text).split())


def sharp_png(figure: "Figure") -> tuple[bytes, dict[str, Any]]:
    """The figure as PNG with `SHARP` pixels for each pixel of the page; its size there, and its description.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        A figure.

    Returns
    -------
    (bytes, dict)
        The picture; width, height and alt.

    See Also
    --------
    pynode.course.style
    """
    from IPython.core import pylabtools

    untyped: Any = pylabtools
    png = untyped.print_figure(figure, fmt="png", dpi=SHARP * figure.dpi)
    width, height = struct.unpack(">II", png[16:24])
    return png, {"width": width // SHARP, "height": height // SHARP, "alt": describe(figure)}
