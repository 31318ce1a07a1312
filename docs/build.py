"""Build the site: python docs/build.py [--no-execute]

Executes the notebooks (docs/execute.py), builds the pages with warnings as errors, and follows every link inside the site.
The pages are then in docs/_build/html. They describe the pynode that is installed (-P: not that of the current folder).
"""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DOCS = Path(__file__).resolve().parent
SITE = DOCS / "_build" / "html"


class Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]


def broken_links(site):
    """(page, link) of each link inside the site that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or (target in pages and unquote(parts.fragment) not in pages[target].anchors):
                broken.append((path.relative_to(site), link))
    return broken, len(pages)


def skipped(path):
    """Whether the executed notebook says that it was executed without what it needs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return any("Skipped" in json.dumps(cell.get("outputs", [])) for cell in cells)


def main():
    if "--no-execute" not in sys.argv[1:]:
        subprocess.run([sys.executable, str(DOCS / "execute.py")], check=True)
    builder = [sys.executable, "-P", "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    subprocess.run([*builder, "-d", str(DOCS / "_build" / "doctrees"), str(DOCS), str(SITE)], check=True)
    if skipped(DOCS / "course" / "18_torchdiffeq.ipynb"):
        print("18_torchdiffeq was executed without torch; with it: python docs/execute.py --python PYTHON_WITH_TORCH 18")
    broken, n_pages = broken_links(SITE)
    for page, link in broken:
        print(f"{page}: {link} leads nowhere")
    print(f"{n_pages} pages in {SITE}; broken links: {len(broken)}")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
