"""Speed: six cases, the library and its peers in turns on the same arrays, their results compared; and what else is claimed.

    python benchmarks/run.py [--cases codelab vdp] [--topics straggler] [--peers diffrax] [--limit FOLDER] [--quick]

forward: solve. gradient: loss and its gradient with respect to the weights. Both warm, the fastest of many calls, of the
fastest variant of each library that agrees with pynode. first gradient: from the start of the process, with the first
variant. FOLDER holds hand-made C programs, see LIMITS and MIXED. A second table holds every claim, its bound and whether it
is met: those about the cases (TARGETS), mixed stiffness, and those of the topics, each a file of that name.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import harness
from cases import CASES
from environments import FOLDER, LIBRARY
from topics import TOPICS, claim

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


MIXED = ("lanes.c", ("-O3", "-march=native", "-fno-math-errno"), r"hetero: ([\d.]+) ms")
"""Mixed stiffness: source, how it is built, what it prints."""

# what is claimed ---------------------------------------------------------------------------------------------

TARGETS = {  # forward: best of the peers, torchdiffeq; gradient: best of the peers, torchdiffeq's backprop
    "codelab": (4, 150, 5, 250),
    "rk4one": (4, 600, 6, 800),
    "spiral": (4, 150, 7, 100),
    "vdp": (2, 25, 4, 28),
    "big": (2, 4, 2.5, 2.5),
    "wide": (1.4, 4, 2, 3),
}
BOUNDS = {"vdp": 1.5, "rk4one": 2.0}
"""Our gradient over that of the program in C, at most."""

COLD = 10
"""First gradient of torchdiffeq and diffrax over ours, at least."""

MIXED_BOUNDS = {"C program": 1.5, "diffrax": 8}


def ratios(timings):
    """Claims about one case."""
    by_name = {timing.library: timing for timing in timings}
    mine, case = by_name[LIBRARY], timings[0].case
    peers = [timing for name, timing in by_name.items() if name not in (LIBRARY, TWO, "C program")]
    for what, (best, torch) in (("forward", TARGETS[case][:2]), ("gradient", TARGETS[case][2:])):
        times = [getattr(peer, what) for peer in peers if getattr(peer, what)]
        if times:
            yield claim(f"{case}, {what}: best of the peers", min(times) / getattr(mine, what), "x", least=best)
        if "torchdiffeq" in by_name:
            made = next((m for m in by_name["torchdiffeq"].made if m["variant"] == "backprop" and m.get(what)), None)
            if made:
                yield claim(f"{case}, {what}: torchdiffeq", min(made[what]) / getattr(mine, what), "x", least=torch)
    if "C program" in by_name:
        ratio = mine.gradient / by_name["C program"].gradient
        yield claim(f"{case}, gradient over the program in C", ratio, "x", most=BOUNDS[case])
    for name in ("torchdiffeq", "diffrax"):
        if name in by_name and by_name[name].first:
            yield claim(f"{case}, first gradient: {name}", by_name[name].first / mine.first, "x", least=COLD)


def mixed(pythons, options, scratch):
    """Claims about 256 Van der Pol oscillators with mu from 0.1 to 50, in turns with the program lanes.c."""
    times, sums, program = {}, {}, Path(scratch) / "mixed"
    if options.limit:
        source, flags, pattern = MIXED
        subprocess.run([shutil.which("gcc") or "cc", *flags, "-o", program, options.limit / source, "-lm"], check=True)
    with ExitStack() as stack:
        workers = {n: stack.enter_context(harness.Worker(p, n, options.threads, scratch)) for n, p in pythons.items()}
        for name, worker in workers.items():
            harness.progress(f"mixed stiffness: {name}")
            sums[name] = worker.ask("mixed")
        for _ in range(options.rounds):
            if options.limit:
                printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
                times.setdefault("C program", []).append(1e-3 * float(re.search(pattern, printed)[1]))
            for name, worker in workers.items():
                if sums[name]:
                    times.setdefault(name, []).append(worker.ask("solve", options.seconds))
    harness.progress("")
    best = {name: min(found) for name, found in times.items()}
    yield claim("mixed stiffness (256 oscillators)", 1e3 * best[LIBRARY], "ms")
    if "C program" in best:
        yield claim(
            "mixed stiffness, over the program in C", best[LIBRARY] / best["C program"], "x", most=MIXED_BOUNDS["C program"]
        )
    for name in best.keys() - {LIBRARY, "C program"}:
        apart = max(abs(a - b) for a, b in zip(sums[name], sums[LIBRARY], strict=True))
        yield claim(f"mixed stiffness: {name}", best[name] / best[LIBRARY], "x", least=MIXED_BOUNDS.get(name))
        yield claim(f"mixed stiffness: {name}, sums of the last states apart by", apart, "", most=0.1)


def topic(name, python, options):
    """The claims of a topic, from a process of its own with the library's Python."""
    harness.progress(name)
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYNODE_NUM_THREADS": "1"}
    command = [python, FOLDER / f"{name}.py", *(["--quick"] if options.quick else [])]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=settings).stdout
    harness.progress("")
    return [json.loads(line) for line in printed.splitlines()]


def show_claims(claims):
    def bound(one):
        return f"<= {one['most']:g}" if "most" in one else f">= {one['least']:g}" if "least" in one else ""

    rows = [
        [
            one["what"],
            f"{one['value']:.3g} {one['unit']}".strip(),
            bound(one),
            ("met" if one["met"] else "NOT MET") if bound(one) else "",
        ]
        for one in claims
    ]
    print()
    harness.table(["claim", "measured", "bound", ""], rows)


# ------------------------------------------------------------------------------------------------------------

TWO = f"{LIBRARY}, 2 threads"


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
        worker = stack.enter_context(harness.Worker(pythons[LIBRARY], LIBRARY, 2 * options.threads, scratch))
        workers[TWO], timings[TWO] = worker, Timing(case, TWO, made=[worker.ask("case", case)])
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
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=[*CASES, "mixed"],
        default=[*CASES, "mixed"],
        metavar="CASE",
        help=", ".join(CASES) + ", mixed",
    )
    parser.add_argument("--topics", nargs="*", choices=TOPICS, default=list(TOPICS), metavar="TOPIC", help=", ".join(TOPICS))
    parser.add_argument("--limit", type=Path, metavar="FOLDER", help="of the programs in C (they need AVX-512 and gcc)")
    harness.add_options(parser, "variants", "run")
    options = parser.parse_args()
    options.rounds, options.seconds, options.starts = (1, 0.02, 1) if options.quick else (5, 0.15, 2)
    pythons = harness.interpreters(options)
    timings, claims = [], []
    with tempfile.TemporaryDirectory() as scratch:
        about = harness.describe(pythons, options.threads, scratch)
        for case in [case for case in options.cases if case in CASES]:
            timings += (found := measure(case, pythons, options, scratch))
            choose(found, CASES[case].agree)
            claims += ratios(found)
        if "mixed" in options.cases:
            claims += mixed(pythons, options, scratch)
    for name in options.topics:
        claims += topic(name, pythons[LIBRARY], options)
    show(timings)
    show_claims(claims)
    rows = [vars(timing) for timing in timings]
    harness.keep({"benchmark": "run", "about": about, "rows": rows, "claims": claims}, options, pythons)
    return all(timing.agrees for timing in timings)


if __name__ == "__main__":
    raise SystemExit(not main())
