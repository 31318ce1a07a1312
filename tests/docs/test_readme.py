"""Every python block of README.md and docs/*.md runs; those of a page in order, with shared names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()]
ELSEWHERE = ("jax.md", "torch.md")
"""Pages whose blocks need more than is installed with the tests; tests/with_jax and tests/with_torch run these."""
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def blocks(path):
    """(line number, code) of every python block."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in BLOCK.finditer(text)]


@pytest.mark.parametrize(
    "path", [path for path in PAGES if blocks(path) and path.name not in ELSEWHERE], ids=lambda path: path.name
)
def test_blocks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what a block writes
    names = {"__name__": path.stem}
    for line, code in blocks(path):
        exec(compile("\n" * line + code, str(path), "exec"), names)


def test_links_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            place = target.replace("course/", "../notebooks/", 1) if target.startswith("course/") else target
            assert (path.parent / place).exists(), f"{path.name}: {target}"  # the site has the notebooks in course/


def test_the_examples_are_there():
    assert blocks(ROOT / "README.md")
    assert len(blocks(ROOT / "docs" / "guide.md")) > 10
