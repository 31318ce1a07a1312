"""The live pages in a browser."""

import subprocess
import sys
from pathlib import Path

import pytest
from browser import Browser

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="session")
def live_folder(tmp_path_factory):
    """All live pages, as the site has them."""
    pytest.importorskip("latex2mathml", reason="pages are built with what pip install .[docs] brings")
    made = tmp_path_factory.mktemp("site")
    build = f"import sys; sys.path.insert(0, {str(DOCS)!r}); import live_pages; live_pages.build({str(made)!r})"
    subprocess.run([sys.executable, "-c", build], check=True)
    return made / "live"


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium, one process for all tests."""
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture
def live(live_folder, browser):
    """live(name, ...) -> the page with this name, ready; at the end it has thrown nothing and asked for nothing else."""
    opened = []

    def live(name, *size, **reader):
        page = browser.open(live_folder / f"{name}.html", *size, **reader)
        opened.append(page)
        page.wait("document.documentElement.dataset.ready")
        return page

    yield live
    for page in opened:
        assert page.errors == []
        assert all(address.startswith(("file:", "data:", "blob:")) for address in page.requests)
        page.send("Page.close")
