"""Every live page has its place on the site, and a frame there is as high as its page, and as dark as the one around it."""

import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
pytest.importorskip("docutils")
import live_figures  # noqa: E402
from docutils import nodes  # noqa: E402

PAGES = [path.stem for path in sorted((DOCS / "live").glob("*.mjs"))]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_has_a_place(name):
    place = live_figures.PLACES[name]
    for document in place.documents:
        source = (
            ROOT / "notebooks" / f"{document.removeprefix('course/')}.ipynb"
            if "course/" in document
            else DOCS / f"{document}.md"
        )
        assert source.exists()
    assert place.about.endswith(".")


def test_every_place_has_a_page():
    assert live_figures.PLACES.keys() <= set(PAGES)


@pytest.mark.parametrize("name", [name for name, place in live_figures.PLACES.items() if place.section])
def test_sections_exist(name):
    place = live_figures.PLACES[name]
    for document in place.documents:
        headings = [
            line.lstrip("# ").lower()
            for line in (DOCS / f"{document}.md").read_text("utf-8").splitlines()
            if line.startswith("#")
        ]
        assert place.section.replace("-", " ") in headings


def document(*sections):
    """A section with a paragraph and code for each name."""
    parts = []
    for name in sections:
        part = nodes.section(ids=[name])
        part += [nodes.paragraph("", name), nodes.container("", nodes.literal_block("", "1 + 1"), classes=["cell"])]
        parts.append(part)
    top = nodes.section("", *parts, ids=["top"])
    tree = nodes.Element("", top)
    return tree, parts


@pytest.mark.parametrize(("section", "where"), [("", 0), ("second", 1)])
def test_a_figure_comes_before_the_code(section, where):
    tree, parts = document("first", "second")
    place = live_figures.Place("Title <1>", "What it shows.", ("guide",), section)
    live_figures.add(tree, "code_lab", place, "../")
    kinds = [type(node).__name__ for node in parts[where]]
    assert kinds == ["paragraph", "raw", "container"]
    html = parts[where][1].astext()
    assert 'src="../live/code_lab.html" title="Title &lt;1&gt;: a live figure" loading="lazy"' in html
    assert 'href="../live/code_lab.html"' in html


def test_a_section_that_is_missing_is_said():
    tree, _ = document("first")
    with pytest.raises(LookupError, match="no section 'other'"):
        live_figures.add(tree, "code_lab", live_figures.Place("", "", ("guide",), "other"), "")


def test_the_list_has_every_page():
    text = live_figures.listed(live_figures.places())
    assert live_figures.LIST in (DOCS / "live.md").read_text("utf-8")
    for name in PAGES:
        assert f'href="live/{name}.html"' in text


AROUND = """<!doctype html><html><body data-theme="dark" style="margin: 0"><p style="height: 300px">above</p>
<div class="live"><iframe src="live/{name}.html" style="width: 100%; height: 50px; border: 0"></iframe></div>
<script src="live.js"></script></body></html>"""


def inside(page):
    """wait(condition) for the page in the frame: from disk it is none that the page around it may look into."""
    frame = page.send("Page.getFrameTree")["frameTree"]["childFrames"][0]["frame"]["id"]
    context = page.send("Page.createIsolatedWorld", frameId=frame)["executionContextId"]

    def wait(condition):
        for _ in range(500):
            got = page.send("Runtime.evaluate", expression=condition, contextId=context, returnByValue=True)["result"]
            if got["value"]:
                return
            time.sleep(0.02)
        raise TimeoutError(condition)

    return wait


@pytest.mark.parametrize("name", PAGES)
def test_a_frame_fits(live_folder, browser, name):
    path = live_folder.parent / f"around_{name}.html"
    path.write_text(AROUND.format(name=name), encoding="utf-8")
    (live_folder.parent / "live.js").write_text((DOCS / "_static" / "live.js").read_text("utf-8"), encoding="utf-8")
    page = browser.open(path)
    wait = inside(page)
    wait("document.documentElement.dataset.ready !== undefined")
    page.wait("document.querySelector('iframe').clientHeight > 300")
    wait("document.documentElement.scrollHeight === innerHeight")
    wait("getComputedStyle(document.body).backgroundColor === 'rgb(20, 25, 31)'")
    page.evaluate("document.body.dataset.theme = 'light'")
    wait("getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)'")
    page.evaluate("document.body.dataset.theme = 'auto'")
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    wait("getComputedStyle(document.body).backgroundColor === 'rgb(20, 25, 31)'")
    assert page.errors == []
    page.send("Page.close")
