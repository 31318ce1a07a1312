"""Pages of the course that compute in the reader's browser, each complete in itself: docs/live/NAME.html and NAME.mjs.

conf.py calls `build`, and the site has them in live/.
"""

import base64
import re
from pathlib import Path

from pynode.export.page import CSS, bundle, web_file

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
    script = (LIVE / f"{name}.mjs").read_text(encoding="utf-8")
    script = re.sub(r'import (\{[^}]*\}) from "\./(\w+)\.mjs";', r"const \1 = module_\2;", script)
    core = base64.b64encode(web_file("pynode.wasm.gz")).decode()
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{CSS}{STYLE}</style>\n</head>\n'
        f'<body>\n{body}\n<script type="text/plain" id="core">{core}</script>\n'
        f'<script type="module">\n{bundle(MODULES)}{script}</script>\n</body>\n</html>\n'
    )


def build(folder):
    """Write all pages to `folder`/live; returns `folder`, for Sphinx's html_extra_path."""
    made = Path(folder) / "live"
    made.mkdir(parents=True, exist_ok=True)
    for path in sorted(LIVE.glob("*.mjs")):
        (made / f"{path.stem}.html").write_text(page(path.stem), encoding="utf-8")
    return str(folder)
