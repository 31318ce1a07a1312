"""Hostile programs are refused or run, and never trap. A thousand here; `node tests/wasm/fuzz.mjs ... 100000` does more."""

import json
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def test_hostile_programs_do_not_trap(node, module):
    command = [node, str(HERE / "fuzz.mjs"), str(HERE.parents[1] / "wasm"), str(module), "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert counts["ran"] > 50
    assert counts["refused"] > 100
    assert counts["memory"] < 200e6
