"""What Python adds to the core: per call, and at import."""

import os
import subprocess
import sys
import tempfile
import time

from cases import CASES
from topics import best, claim, tell

IMPORTS = ("import numpy", "import pynode", "import pynode as pn; pn.mlp; pn.solve; pn.loss_and_grad")


def calls(quick):
    """codelab: a call of the public functions less `run` of a `_core.Problem` made beforehand."""
    import pynode as pn

    case = CASES["codelab"]
    _, y0, t, target = case.arrays()
    f, theta = pn.mlp(case.d, case.hidden), pn.mlp(case.d, case.hidden).init(0)
    options, target = {"method": case.method, "step": case.step}, target.swapaxes(0, 1).copy()
    objective = pn.Objective(f, y0, t, target, **options)
    solved = pn.solve(f, y0, t, theta, **options).prepared.problem
    functions = {
        "core, solve": lambda: solved.run(theta),
        "solve": lambda: pn.solve(f, y0, t, theta, **options),
        "core, gradient": lambda: objective.setup.problem.run(theta, gradient="discrete"),
        "loss_and_grad": lambda: pn.loss_and_grad(f, y0, t, theta, target, **options),
        "Objective": lambda: objective(theta),
    }
    times = dict(zip(functions, best(list(functions.values()), 0.1 if quick else 2.0, batch=5), strict=True))
    for name, core in (("solve", "solve"), ("loss_and_grad", "gradient"), ("Objective", "gradient")):
        yield claim(f"Python around {name} (codelab)", 1e6 * (times[name] - times[f"core, {core}"]), "us", most=5)


def imports(quick):
    """Processes that import and end, in turns; with byte code as pip leaves it."""
    fastest = dict.fromkeys(IMPORTS, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        settings = os.environ | {"PYTHONPYCACHEPREFIX": folder}
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(3 if quick else 12):
            for code in IMPORTS:
                begin = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], check=True, env=settings, cwd=folder)
                if turn:  # the first one compiles
                    fastest[code] = min(fastest[code], time.perf_counter() - begin)
    numpy, bare, used = fastest.values()
    yield claim("import pynode, over numpy", 1e3 * max(bare - numpy, 0), "ms", most=30)
    yield claim("import and look up mlp, solve, loss_and_grad, over numpy", 1e3 * (used - numpy), "ms", most=30)


def claims(quick):
    yield from calls(quick)
    yield from imports(quick)


if __name__ == "__main__":
    tell(claims)
