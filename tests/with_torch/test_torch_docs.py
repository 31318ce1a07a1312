"""The examples of docstrings, and of docs/torch.md."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("solves", "block", "modules", "program_module", "diffeq")


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"pynode.torch.{name}"), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0 and found.failed == 0


def test_the_page():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "torch.md").read_text(encoding="utf-8"), re.S)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["loss"].item() > 0
