"""What docs/browser.md says about the module in a page of one's own, done to the letter."""

import functools
import gzip
import http.server
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```html\n(.*?)^```", (ROOT / "docs" / "browser.md").read_text("utf-8"), re.M | re.S)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a folder with the modules and the core, as the page says."""
    folder = tmp_path_factory.mktemp("embedded")
    for path in (ROOT / "wasm").glob("*.mjs"):
        shutil.copy(path, folder)
    (folder / "pynode.wasm").write_bytes(gzip.decompress((ROOT / "wasm" / "pynode.wasm.gz").read_bytes()))
    for k, block in enumerate(BLOCKS):
        said = block.replace("console.log(", "window.said = Array.from(").replace(
            "const show =", "const show = window.show ="
        )
        (folder / f"page{k}.html").write_text(f"<!doctype html><link rel=icon href=data:,>{said}", encoding="utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_network_is_trained(address, browser):
    page = browser.open(f"{address}/page0.html")
    page.wait("window.said")
    assert np.allclose(page.evaluate("window.said"), np.exp(-2 * np.linspace(0, 1, 5)), atol=1e-6)
    assert page.errors == []
    page.send("Page.close")


def test_a_figure_is_drawn_and_dragged(address, browser):
    page = browser.open(f"{address}/page1.html")
    page.wait("typeof window.show === 'function'")
    picture = "document.getElementById('figure').toDataURL()"
    page.wait(f"{picture}.length > 5000")
    before = page.evaluate(picture)
    page.drag_within("#figure", (0.5, 0.5), (0.5, 0.1))
    page.wait(f"{picture} !== {before!r}")
    assert page.errors == []
    page.send("Page.close")
