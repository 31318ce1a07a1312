"""What setup.py builds: the instruction sets that PYNODE_ISAS names."""

import os
import platform
import runpy
import shlex
import sysconfig
from pathlib import Path

import pytest

import pynode as pn

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "setup.py"
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")

pytestmark = [
    pytest.mark.skipif(not SETUP.exists(), reason="the tests of an installed package have no setup.py"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="others have plain and baseline only"),
]


@pytest.fixture
def built(monkeypatch):
    """The instruction sets for a value of PYNODE_ISAS."""
    pytest.importorskip("setuptools", minversion="77")
    setup = runpy.run_path(str(SETUP))
    if not setup["knows"](COMPILER, "x86_64"):
        pytest.skip(f"{COMPILER[0]} is no compiler for x86-64 here")

    def of(value):
        monkeypatch.setenv("PYNODE_ISAS", value)
        return setup["instruction_sets"](COMPILER)

    return of


def test_all_instruction_sets_unless_some_are_asked_for(built):
    assert built("") == ["plain", "baseline", "avx2", "avx512"]
    assert built("plain") == ["plain"]
    assert built("avx512, baseline") == ["baseline", "avx512"]


def test_there_is_always_one_that_every_processor_has(built):
    assert built("avx2") == ["baseline", "avx2"]


def test_native_is_the_best_of_this_processor(built):
    best = [isa for isa in ("avx2", "avx512") if isa in pn.ISAS][-1:]
    assert built("native") == ["baseline", *best]


def test_an_unknown_instruction_set_is_refused(built):
    with pytest.raises(SystemExit, match="PYNODE_ISAS names 'sse9'; choose from plain, baseline, avx2, avx512 and native"):
        built("baseline sse9")
