"""The public names: the reference lists all of them, and a checkout without a built core says what to do."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pynode as pn

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("control", "course", "datasets", "export", "fit", "plots")
"""Modules whose names are public; those of pynode.models have a home of their own in pynode."""


def listed():
    """The names that docs/api.md lists, without pynode."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\{eval-rst\}\n\.\. autosummary::(.*?)```", text, re.S)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip() and ":" not in line]


def public():
    names = [name for name in pn.__all__ if not name.startswith("_") and name not in (*MODULES, "models")]
    return names + [f"{module}.{name}" for module in MODULES for name in getattr(pn, module).__all__]


def test_the_reference_lists_every_public_name():
    assert sorted(set(public()) - set(listed())) == []


def test_the_reference_lists_nothing_else():
    assert len(listed()) == len(set(listed()))
    for name in listed():
        thing = pn
        for part in name.split("."):
            thing = getattr(thing, part)


@pytest.mark.parametrize("module", ["pynode", *(f"pynode.{name}" for name in (*MODULES, "models"))])
def test_every_name_of_all_is_there(module):
    namespace = importlib.import_module(module)
    assert [name for name in namespace.__all__ if not hasattr(namespace, name)] == []
    assert set(namespace.__all__) <= set(dir(namespace))


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'pynode' has no attribute 'solv'"):
        pn.solv  # noqa: B018


def test_without_a_built_core(tmp_path):
    folder = tmp_path / "pynode"
    folder.mkdir()
    for name in ("__init__.py", "_version.py"):
        shutil.copy(Path(pn.__file__).with_name(name), folder)
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pynode"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: the C core of pynode is not built in {folder}")
    assert "python setup.py build_ext --inplace" in last
    assert "pip install ." in last


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone."""
    names = sorted(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [name for name in names if names.count(name) > 1] == []
