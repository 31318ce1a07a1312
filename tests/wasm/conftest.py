"""The modules under test: those built into the folder PYNODE_WASM (as .ci/run does), and that of the repository."""

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def node():
    """The command of node."""
    command = shutil.which("node") or shutil.which("nodejs")
    if command is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs)")
    return command


@pytest.fixture(scope="session", params=["pynode", "pynode-scalar", "kept"])
def module(request, tmp_path_factory):
    """A module: those just built, with vectors and without, and the one that the repository keeps and the package ships."""
    if request.param != "kept":
        if "PYNODE_WASM" not in os.environ:
            pytest.skip("PYNODE_WASM is not set: python wasm/build.py, then PYNODE_WASM=build/wasm (as .ci/run does)")
        return Path(os.environ["PYNODE_WASM"]).resolve() / f"{request.param}.wasm"
    target = tmp_path_factory.mktemp("wasm") / "pynode.wasm"
    target.write_bytes(gzip.decompress((ROOT / "wasm" / "pynode.wasm.gz").read_bytes()))
    return target


@pytest.fixture
def run(node, module):
    """run(calls, rounds=1) -> what tests/wasm/run.mjs answers."""

    def run(calls, rounds=1):
        script = Path(__file__).with_name("run.mjs")
        text = json.dumps({"calls": calls, "rounds": rounds})
        done = subprocess.run(
            [node, str(script), str(ROOT / "wasm"), str(module)], input=text, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
