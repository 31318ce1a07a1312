"""All live pages of the site: complete in themselves, accessible, on phones too. What one does: test_live_NAME.py."""

import re
from pathlib import Path

import pytest

LIVE = Path(__file__).resolve().parents[2] / "docs" / "live"
PAGES = [path.stem for path in sorted(LIVE.glob("*.mjs"))]

NAMELESS = """[...document.querySelectorAll("input, select, textarea, button, canvas")].filter((e) => {
  const text = e.tagName === "BUTTON" ? e.textContent : e.labels?.[0]?.textContent;
  return !(text?.trim() || e.getAttribute("aria-label"));
}).map((e) => e.outerHTML)"""

PAINTED = """[...document.querySelectorAll("canvas")].filter((e) => e.clientWidth).map((e) =>
  e.getContext("2d").getImageData(0, 0, e.width, e.height).data.some((x) => x > 0))"""


@pytest.mark.parametrize("name", PAGES)
def test_complete_in_itself(live_folder, name):
    text = (live_folder / f"{name}.html").read_text(encoding="utf-8")
    assert not re.search(
        r"(src|href)=[\"']?(https?:)?//|@import|url\(", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    )


@pytest.mark.parametrize("name", PAGES)
def test_ready_within_a_second(live, name):
    page = live(name)
    assert page.evaluate("Number(document.documentElement.dataset.ready)") < 1000 * SLOW
    assert page.evaluate("document.getElementById('message').textContent").strip()


SLOW = 5  # machines that test are slower, and busy


@pytest.mark.parametrize("name", PAGES)
def test_all_readers(live, name):
    page = live(name)
    assert page.evaluate(NAMELESS) == []
    painted = page.evaluate(PAINTED)
    assert painted or name == "quiz"  # words only
    assert all(painted)
    assert page.evaluate("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_in_the_dark(live, name):
    page = live(name, 360, 740, phone=True, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = """[...document.querySelectorAll("button, select, input")].filter((e) => e.offsetParent && e.type !== "file"
      && (e.closest("label") ?? e).getBoundingClientRect().height < 38).map((e) => e.outerHTML)"""
    assert page.evaluate(small) == []
