"""A second interpreter in the process: NumPy cannot be loaded there, and says so; the first one goes on."""

import subprocess
import sys

import pytest

PROGRAM = '''
import sys
try:
    import _interpreters as module
    run = module.exec
except ImportError:
    import _xxsubinterpreters as module
    run = module.run_string
import numpy as np
import pynode as pn
f = pn.mlp(2, (8,))
before = pn.solve(f, [1.0, 0.0], [0.0, 1.0], f.init(0)).y
other = module.create()
code = """
import sys
sys.path = {path!r}
try:
    import pynode
    pynode.mlp(2, (8,))(0.0, [1.0, 0.0], [0.0] * 42)
except ImportError as error:
    print("refused:", error, flush=True)
else:
    print("ran", flush=True)
""".format(path=sys.path)
found = run(other, code)
assert found is None, found
module.destroy(other)
assert (pn.solve(f, [1.0, 0.0], [0.0, 1.0], f.init(0)).y == before).all()
print("the first goes on")
'''


def test_a_second_interpreter_is_refused_or_works():
    try:
        import _interpreters  # noqa: F401
    except ImportError:
        pytest.importorskip("_xxsubinterpreters")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.strip().splitlines()
    assert first.startswith("refused:") or first == "ran"
    assert last == "the first goes on"
