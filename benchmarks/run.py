"""Speed: six cases, the library and its peers in turns on the same arrays, their results compared.

    python benchmarks/run.py [--cases codelab vdp] [--peers torchdiffeq diffrax casadi] [--limit FOLDER] [--quick]

forward: solve. gradient: loss and its gradient with respect to the weights. Both warm, the fastest of many calls, of the
fastest variant of each library that agrees with pynode. first gradient: from the start of the process, with the first
variant. FOLDER holds hand-made C programs, see LIMITS.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import harness
from cases import CASES
from environments import LIBRARY

HOPELESS = 5
"""After the first round, a variant so many times slower than the best of its library is not measured again."""


@dataclass
class Timing:
    """Best times of one library on one case, in seconds."""

    case: str
    library: str
    first: float | None = None
    forward: float | None = None
    gradient: float | None = None
    variant: str = ""  # of the fastest gradient
    agrees: bool = False  # whether any variant does
    made: list = field(default_factory=list)  # each variant: loss, norm of the gradient, best times of the rounds


# programs in C ----------------------------------------------------------------------------------------------

BUILD = ("-O3", "-march=native", "-ffast-math")

LIMITS = {  # case: source, and where it prints the time of forward and of what a gradient takes on top; unit
    "vdp": ("batch.c", r"H=32 fwd B=64: .* 98 evals ([\d.]+) ms", r"H=32 fwd\+vjp B=64: .* 98: ([\d.]+) ms", 1e-3),
    "rk4one": ("single.c", r"forward ([\d.]+) us", r"backward\(recompute\+vjp\) ([\d.]+) us", 1e-6),
}


class Limit:
    """What one core can do, by a program written for the case alone."""

    def __init__(self, folder, case, scratch):
        name, *self.patterns, self.unit = LIMITS[case]
        self.made = {"variant": "", "forward": [], "gradient": []}
        self.program = Path(scratch) / case
        compiler = shutil.which("gcc") or "cc"
        subprocess.run([compiler, *BUILD, "-o", self.program, folder / name, "-lm"], check=True)

    def measure(self):
        """Adds to what is made."""
        printed = subprocess.run([self.program], capture_output=True, text=True, check=True).stdout
        forward, back = (float(re.search(pattern, printed)[1]) * self.unit for pattern in self.patterns)
        self.made["forward"].append(forward)
        self.made["gradient"].append(forward + back)


# ------------------------------------------------------------------------------------------------------------


def measure(case, pythons, options, scratch):
    """[Timing, ...] of a case, the library first."""
    timings = {name: Timing(case, name) for name in pythons}
    with ExitStack() as stack:
        for _ in range(options.starts):
            stack.close()  # only the last processes go on
            workers = {}
            for name, python in pythons.items():
                harness.progress(f"{case}: first gradient of {name}")
                worker = stack.enter_context(harness.Worker(python, name, options.threads, scratch))
                made = worker.ask("case", case)
                if made is not None:
                    workers[name], timings[name].made = worker, [made]
                    timings[name].first = min(timings[name].first or worker.first_answer, worker.first_answer)
        for name, worker in workers.items():
            harness.progress(f"{case}: variants of {name}")
            while (made := worker.ask("make")) is not None:
                timings[name].made.append(made)
        limit = Limit(options.limit, case, scratch) if options.limit and case in LIMITS else None
        if limit:
            timings["C program"] = Timing(case, "C program", made=[limit.made])
        for turn in range(options.rounds):
            harness.progress(f"{case}: round {turn + 1} of {options.rounds}")
            for name, worker in workers.items():
                for made in timings[name].made:
                    for what in ("forward", "gradient") if "error" not in made else ():
                        times = made.setdefault(what, [])
                        if times and min(times) > HOPELESS * min(t for m in timings[name].made for t in m.get(what, ())):
                            continue
                        seconds = worker.ask("measure", made["variant"], what, options.seconds)
                        times.extend([seconds] if seconds else [])
            if limit:
                limit.measure()
    harness.progress("")
    return [timing for timing in timings.values() if timing.made]


def choose(timings, tolerance):
    """The fastest variants that have the loss and the norm of the gradient of the library. What is left out is told."""
    reference = timings[0].made[0]
    if "error" in reference:
        raise SystemExit(f"{timings[0].case}: {LIBRARY} failed: {reference['error']}")
    for timing in timings:
        right = []
        for made in timing.made:
            where = f"{timing.case}: {timing.library}, {made['variant'] or 'default'}"
            if "error" in made:
                print(f"{where}: {made['error']}")
                continue
            # a program in C has weights of its own
            made["differs"] = max(abs(made[key] / reference[key] - 1) for key in ("loss", "norm")) if "loss" in made else 0.0
            if made["differs"] <= tolerance:
                right.append(made)
            else:
                print(f"{where}: another loss or gradient (by {made['differs']:.1%})")
        timing.agrees = bool(right)
        timing.first = timing.first if timing.made[0] in right else None
        timing.forward = min((best for made in right for best in made["forward"]), default=None)
        gradients = [(min(made["gradient"]), made["variant"]) for made in right]
        timing.gradient, timing.variant = min(gradients, default=(None, ""))


def show(timings):
    def cell(value, mine, library):
        if value is None:
            return ["", ""]
        ratio = "" if library == LIBRARY or mine is None else f"{value / mine:.3g} x"
        return [f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.2f} s", ratio]

    lines, mine = [], None
    for timing in timings:
        if timing.library == LIBRARY:
            lines += [None] if lines else []
            mine = timing
        pairs = [(timing.forward, mine.forward), (timing.gradient, mine.gradient), (timing.first, mine.first)]
        times = [text for value, own in pairs for text in cell(value, own, timing.library)]
        note = timing.variant if timing.agrees else "NONE AGREES"
        lines.append([timing.case if timing is mine else "", timing.library, *times, note])
    harness.table(["", "", "forward", "", "gradient", "", "first gradient", "", "variant"], lines)
    print(f"\nx: time over that of {LIBRARY}. variant: the one with the fastest gradient, of those that agree.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--limit", type=Path, metavar="FOLDER", help="of the programs in C (they need AVX-512 and gcc)")
    harness.add_options(parser, "variants", "run")
    options = parser.parse_args()
    options.rounds, options.seconds, options.starts = (1, 0.02, 1) if options.quick else (5, 0.15, 2)
    pythons = harness.interpreters(options)
    timings = []
    with tempfile.TemporaryDirectory() as scratch:
        about = harness.describe(pythons, options.threads, scratch)
        for case in options.cases:
            timings += (found := measure(case, pythons, options, scratch))
            choose(found, CASES[case].agree)
    show(timings)
    rows = [vars(timing) for timing in timings]
    harness.keep({"benchmark": "run", "about": about, "rows": rows}, options, pythons)
    return all(timing.agrees for timing in timings)


if __name__ == "__main__":
    raise SystemExit(not main())
