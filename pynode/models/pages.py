"""Pages of HTML: one self-contained file, pictures embedded, readable on a phone."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from pynode._version import __version__
from pynode.data.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">\
<title>{title}</title><style>{css}</style></head><body><main>
<h1>{title}</h1>
{content}
<p class="soft">Made by pynode {version}.</p>
</main></body></html>
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Parameters
    ----------
    title : str
        Plain text.
    parts : iterable of str
        HTML, made by the other functions of this module.

    Returns
    -------
    str
    """
    return PAGE.format(title=html.escape(title), css=CSS, content="\n".join(parts), version=html.escape(__version__))


def heading(words: str) -> str:
    """A heading of a section."""
    return f"<h2>{html.escape(words)}</h2>"


def paragraph(words: str, soft: bool = False) -> str:
    """A paragraph; a soft one is small and grey."""
    style = " class=soft" if soft else ""
    return f"<p{style}>{html.escape(words)}</p>"


def table(header: Sequence[object] | None, rows: Iterable[Sequence[object]]) -> str:
    """A table of strings; the header may be None."""
    head = "" if header is None else _row("th", header)
    body = "".join(_row("td", row) for row in rows)
    return scrolled(f"<table>{head}{body}</table>")


def scrolled(content: str) -> str:
    """HTML that scrolls sideways where it is wider than the screen."""
    return f'<div class="scroll">{content}</div>'


def _row(tag: str, cells: Sequence[object]) -> str:
    inside = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def picture(figure: "Figure", caption: str, wide: bool = False) -> str:
    """A matplotlib Figure, embedded; on a narrow screen it scrolls sideways."""
    data = base64.b64encode(png(figure)).decode("ascii")
    words = html.escape(caption)
    style = " class=wide" if wide else ""
    image = scrolled(f'<img alt="{words}" src="data:image/png;base64,{data}">')
    return f"<figure{style}>{image}<figcaption>{words}</figcaption></figure>"


def notes(sentences: Iterable[str]) -> str:
    """A list of things to know, set off from the rest; nothing if there are none."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{items}</ul>' if items else ""


def png(figure: "Figure", dpi: int = 130) -> bytes:
    """A matplotlib Figure as the bytes of a PNG file, the same each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


IMAGES = ("png", "pdf", "svg")
"""Kinds of pictures that are written to files."""


def image(figure: "Figure", path: str | PathLike[str]) -> bytes:
    """A matplotlib Figure as the bytes of a file, of the kind that its name tells; the same each time.

    Raises
    ------
    ValueError
        The name ends in none of .png, .pdf and .svg.
    """
    kind = picture_kind(path)
    if kind == "png":
        return png(figure)
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "pynode"}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else {"CreationDate": None})
    return buffer.getvalue()


def picture_kind(path: str | PathLike[str]) -> str:
    """The kind of picture that a file's name tells."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in IMAGES:
        raise ValueError(f"{path} must end in one of {', '.join('.' + name for name in IMAGES)}: that says what is written")
    return kind


def write_page(path: str | PathLike[str], content: str) -> None:
    """Write a page to a file, in one step: no reader ever finds half of it."""
    write_bytes(path, content.encode("utf-8"))
