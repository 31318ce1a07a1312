"""Times the core in WebAssembly, under node, against the native one: python wasm/measure.py [FOLDER of the modules].

CPU time of one process each, one thread; the best of several rounds.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import pynode as pn
from pynode import _core

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import {{ readFileSync }} from "node:fs";
const pn = await import({module!r});
await pn.init(readFileSync({core!r}));
const {{ field, y0, t, theta, calls, rounds }} = JSON.parse(readFileSync(0, "utf8"));
const f = pn.Field.fromJSON(field);
const target = new Float64Array(y0.flat().length * t.length);
const work = {{ solve: () => pn.solve(f, y0, t, theta), gradient: () => pn.lossAndGrad(f, y0, t, theta, target) }};
const best = {{}};
for (const [name, run] of Object.entries(work)) {{
  best[name] = Infinity;
  for (let round = 0; round < rounds; round++) {{
    const start = process.cpuUsage();
    for (let i = 0; i < calls; i++) run();
    const {{ user, system }} = process.cpuUsage(start);
    best[name] = Math.min(best[name], (user + system) / calls);
  }}
}}
console.log(JSON.stringify(best));
"""


def best_of(rounds: int, calls: int, work: Callable[[], object]) -> float:
    """Microseconds of CPU a call, the least of some rounds."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            work()
        found.append((time.process_time() - start) / calls * 1e6)
    return min(found)


def main() -> None:
    """Print one line for each size."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "wasm").resolve()
    f = pn.mlp(2, (16, 16))
    theta = f.init(0)
    t = np.linspace(0.0, 5.0, 20)
    print(f"{'samples':>8} {'what':>9} {'native':>9} {'SSE2':>9} {'wasm':>9} {'scalar':>9}   (microseconds)")
    for n, calls, rounds in ((1, 300, 12), (64, 30, 12)):
        y0 = np.random.default_rng(0).standard_normal((n, 2))
        target = np.zeros((n, len(t), 2))
        work = {
            "solve": lambda y0=y0: pn.solve(f, y0, t, theta, threads=1),
            "gradient": lambda y0=y0, target=target: pn.loss_and_grad(f, y0, t, theta, target, threads=1),
        }
        times: dict[str, list[float]] = {name: [] for name in work}
        for isa in (_core.isa(), "baseline"):
            _core.set_isa(isa)
            for name, run in work.items():
                times[name].append(best_of(rounds, calls, run))
        data = {"field": f.to_json(), "y0": y0.tolist(), "t": t.tolist(), "theta": theta.tolist()}
        for module in ("pynode.wasm", "pynode-scalar.wasm"):
            script = SCRIPT.format(module=str(ROOT / "wasm" / "pynode.mjs"), core=str(folder / module))
            text = json.dumps(data | {"calls": calls, "rounds": rounds})
            command = ["node", "--input-type=module", "-e", script]
            answer = json.loads(subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout)
            for name, microseconds in answer.items():
                times[name].append(microseconds)
        for name, row in times.items():
            print(f"{n:>8} {name:>9} " + " ".join(f"{x:>9.0f}" for x in row))


if __name__ == "__main__":
    main()
