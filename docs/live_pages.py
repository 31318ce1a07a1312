"""Pages of the course that compute in the reader's browser, each complete in itself: docs/live/NAME.html, .mjs, .css.

conf.py calls `build`, and the site has them in live/. What pages share is in docs/live/parts; the core is in wasm/.
Where the site shows them is in live_figures.py.
"""

import re
from pathlib import Path

import live_data

from pynode.export.page import document, inlined, web_file, wrapped

LIVE = Path(__file__).resolve().parent / "live"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.mjs";', re.MULTILINE)


def module(name):
    """The text of a module that pages import: a part, or one of wasm/."""
    part = LIVE / "parts" / f"{name}.mjs"
    return part.read_text(encoding="utf-8") if part.exists() else web_file(f"{name}.mjs").decode()


def imported(source, found=()):
    """Names of all modules that a source needs, each after those that it imports itself."""
    for name in IMPORT.findall(source):
        if name not in found:
            found = (*imported(module(name), found), name)
    return found


def page(name):
    """The page with this name, as text."""
    body = (LIVE / f"{name}.html").read_text(encoding="utf-8") + live_data.element(name)
    title = re.search(r"<h1>(.*?)</h1>", body)[1]
    source = (LIVE / f"{name}.mjs").read_text(encoding="utf-8")
    modules = "".join(wrapped(each, module(each)) for each in ("embedded", *imported(source)))
    styles = [path for path in (LIVE / "parts" / "live.css", LIVE / f"{name}.css") if path.exists()]
    return document(title, body, modules + inlined(source), "".join(path.read_text(encoding="utf-8") for path in styles))


def names():
    """All live pages, in alphabetical order."""
    return [path.stem for path in sorted(LIVE.glob("*.mjs"))]


def build(folder):
    """Write all pages to `folder`/live; returns `folder`, for Sphinx's html_extra_path."""
    made = Path(folder) / "live"
    made.mkdir(parents=True, exist_ok=True)
    for name in names():
        (made / f"{name}.html").write_text(page(name), encoding="utf-8")
    return str(folder)
