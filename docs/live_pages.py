"""Pages of the course that compute in the reader's browser, each complete in itself: docs/live/NAME.html and NAME.mjs.

conf.py calls `build`, and the site has them in live/.
"""

import re
from pathlib import Path

from pynode.export.page import bundle, document, inlined

LIVE = Path(__file__).resolve().parent / "live"
MODULES = ("program", "core", "field", "solve", "fit", "plot")
"""Of wasm/, each after those that it imports."""

STYLE = """
main { max-width: 1100px; } .figures { grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
form { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
fieldset label { grid-template-columns: 8rem minmax(0, 1fr) 4rem; } .figures { margin: .5rem 0; }
canvas { height: 260px; } h2 { font-size: 1rem; } h2 .soft { font-weight: normal; }
button { min-width: 6rem; min-height: 2.6rem; } #message { color: inherit; font-weight: normal; min-height: 3em; }
"""


def page(name):
    """The page with this name, as text."""
    body = (LIVE / f"{name}.html").read_text(encoding="utf-8")
    title = re.search(r"<h1>(.*?)</h1>", body)[1]
    script = inlined((LIVE / f"{name}.mjs").read_text(encoding="utf-8"))
    return document(title, body, bundle(MODULES) + script, STYLE)


def build(folder):
    """Write all pages to `folder`/live; returns `folder`, for Sphinx's html_extra_path."""
    made = Path(folder) / "live"
    made.mkdir(parents=True, exist_ok=True)
    for path in sorted(LIVE.glob("*.mjs")):
        (made / f"{path.stem}.html").write_text(page(path.stem), encoding="utf-8")
    return str(folder)
