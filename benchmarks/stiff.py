"""Stiff problems: one sample, a batch of 256, its gradient, and error against time; the library and its peers in turns.

    python benchmarks/stiff.py [--quick] [--here] [--problems ROBER ...] [--peers diffrax ...] [--limit FOLDER] [--within 90]

Problems and errors: stiff_problems.py. Times are of the processor, the fastest of several calls, without compiling. A batch
has parameters times exp(0.1 N(0, 1)); libraries that take its samples one by one do some of them, and their time is scaled.
What takes longer than --within seconds is left out, and told.

--here: the library as it is built in this checkout, by this Python; otherwise it is installed into an environment of its
own, as those of the peers are. --limit: a FOLDER with ros.c, gen.py and problems.py, Rodas5P written for these problems
alone, for AVX-512.

Results go to results/stiff.json and stiff.png; stiff_page.py makes the tables and the picture of the former again.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import environments
import harness
from environments import CHECKOUT, FOLDER, LIBRARY

PROBLEMS = ("ROBER", "HIRES", "OREGO", "POLLU", "VDP1000", "BRUSS64", "AKZO")
QUICK = ("ROBER", "AKZO")
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
RTOL = 1e-6
SLOW = 1.0
"""Seconds of a call above which finer tolerances, and further rounds, are left out."""

PROGRAM = "C program"


class Turns:
    """The workers of one problem, and what they measured: rows {library, solver, what, seconds, error, ...}."""

    def __init__(self, name, options, start):
        self.name, self.options = name, options
        self.start = start  # (library) -> Worker
        self.workers, self.solvers = {}, []
        self.rows = {}

    def begin(self, libraries):
        """Every worker makes the problem; those that cannot are told."""
        for library in libraries:
            harness.progress(f"{self.name}: {library} begins")
            found = self._ask(library, "stiff", self.name)
            if isinstance(found, list):
                self.solvers += [(library, solver) for solver in found]
            else:
                print(f"{self.name}: {library}: {found['failed']}", flush=True)

    def measure(self, what):
        """One turn of all solvers that are not known to fail at this or to be too slow."""
        for library, solver in self.solvers:
            row = self.rows.setdefault((library, solver, what), {})
            if "failed" in row or row.get("seconds", 0) > SLOW or self._hopeless(library, solver, what):
                continue  # what is slow is asked once
            harness.progress(f"{self.name}: {library} {solver} {what}")
            found = self._ask(library, "stiff", solver, what, self.options.seconds)
            if found is None:
                row["failed"] = ""  # it has no such thing
            elif "failed" in found:
                row["failed"] = found["failed"]
                print(f"{self.name}: {library} {solver}, {what}: {found['failed']}", flush=True)
            else:
                row |= found | {"seconds": min(found["seconds"], row.get("seconds", found["seconds"]))}

    def _hopeless(self, library, solver, what):
        """Whether it failed with the first request, or a coarser tolerance failed or took too long."""
        if "failed" in self.rows.get((library, solver, RTOL), {}):
            return True
        return not isinstance(what, str) and any(
            key[:2] == (library, solver) and key[2] >= what and ("failed" in row or row.get("seconds", 0) > SLOW)
            for key, row in self.rows.items()
            if not isinstance(key[2], str)
        )

    def _ask(self, library, *request):
        """The answer of the worker, which is started if there is none; one that was too slow or died leaves."""
        try:
            if library not in self.workers:
                self.workers[library] = self.start(library)
                if request[1:] != (self.name,):
                    self.workers[library].ask("stiff", self.name)
            return self.workers[library].ask(*request, within=self.options.within)
        except (TimeoutError, SystemExit) as error:
            self.workers.pop(library)
            return {"failed": str(error).strip().splitlines()[-1]}

    def results(self):
        rows = [
            {"problem": self.name, "library": library, "solver": solver, "what": what, **row}
            for (library, solver, what), row in self.rows.items()
        ]
        return [row for row in rows if "seconds" in row or row.get("failed")]


class Program:
    """ros.c of a folder, built for one problem: one lane, and eight of them for the batch."""

    def __init__(self, folder, python, name, scratch):
        self.programs, self.best = [], {}
        work = scratch / PROGRAM
        if not work.exists():
            shutil.copytree(folder, work)
            subprocess.run([python, "gen.py"], cwd=work, check=True)
        if not (work / f"{name}_data.h").exists():
            return
        shared = ["-O3", "-march=native", "-DMETH=5", f"-DPROB={name}", f'-DDATA_H="{name}_data.h"', f'-DCG_C="{name}_cg.c"']
        for lanes in ((), ("-DLANES=8",)):
            program = work / f"{name}{len(lanes)}"
            command = [shutil.which("gcc") or "cc", *shared, *lanes, "ros.c", "-o", program, "-lm"]
            subprocess.run(command, cwd=work, check=True)
            self.programs.append(program)

    def measure(self):
        for program, what in zip(self.programs, (RTOL, "forward"), strict=False):
            said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
            number = {key: float(re.search(rf"{key} ([\d.e+-]+)", said)[1]) for key in ("fwd1", "steps", "relerr", "fwd256")}
            seconds = number["fwd1" if what == RTOL else "fwd256"] * 1e-3
            row = self.best.setdefault(what, {"seconds": seconds, "error": number["relerr"], "steps": int(number["steps"])})
            row["seconds"] = min(seconds, row["seconds"])

    def results(self, name):
        return [{"problem": name, "library": PROGRAM, "solver": "rodas5p", "what": w, **row} for w, row in self.best.items()]


def measured(name, pythons, options, scratch):
    """The rows of one problem."""
    with ExitStack() as stack:

        def start(library):
            path = CHECKOUT if options.here and library == LIBRARY else None
            return stack.enter_context(harness.Worker(pythons[library], library, options.threads, scratch, path))

        turns = Turns(name, options, start)
        turns.begin(pythons)
        program = Program(options.limit, pythons["casadi"], name, scratch) if options.limit else None
        for _ in range(options.rounds):
            turns.measure(RTOL)
            if program:
                program.measure()
        for rtol in options.tolerances:
            turns.measure(rtol)
        for rtol in options.tolerances:
            turns.measure(f"slope {rtol:g}")
        for what in ("forward", "gradient"):
            for _ in range(options.rounds):
                turns.measure(what)
    harness.progress("")
    return turns.results() + (program.results(name) if program else [])


def interpreters(options):
    """{name: Python} of those that are there or can be installed; the others are told."""
    everyone, found = environments.peers("stiff"), {}
    for name in [LIBRARY, *options.peers]:
        if name == LIBRARY and options.here:
            found[name] = sys.executable
            continue
        try:
            found[name] = environments.interpreter(everyone[name], options.cache, options.pip)
        except SystemExit as error:
            if name == LIBRARY:
                raise
            print(f"left out: {name}, which cannot be installed ({error})")
    if options.limit and "casadi" not in found:
        raise SystemExit("--limit needs casadi among --peers: its programs are made with it")
    return found


def described(pythons, options, scratch):
    """The machine and the versions; peers that do not start are told and taken out of `pythons`."""
    about = {}
    for name in list(pythons):
        try:
            path = CHECKOUT if options.here and name == LIBRARY else None
            found = harness.describe({name: pythons[name]}, options.threads, scratch, path)
        except SystemExit as error:
            if name == LIBRARY:
                raise
            print(f"left out: {name}, which does not start: {str(error).strip().splitlines()[-2]}")
            del pythons[name]
            continue
        about = found | {"versions": about.get("versions", {}) | found["versions"]}
    return about


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, metavar="PROBLEM", help=", ".join(PROBLEMS))
    parser.add_argument("--limit", type=environments.Path, metavar="FOLDER", help="of the program in C")
    parser.add_argument("--here", action="store_true", help="the library as it is built in this checkout, with this Python")
    parser.add_argument("--within", type=float, default=90, help="seconds for one request (%(default)s)")
    harness.add_options(parser, "stiff", "stiff")
    options = parser.parse_args()
    options.problems = options.problems or (QUICK if options.quick else PROBLEMS)
    options.rounds, options.seconds = (1, 0.02) if options.quick else (3, 0.1)
    options.tolerances = (1e-3, 1e-6, 1e-9) if options.quick else TOLERANCES
    return options


def main():
    options, begun = arguments(), time.time()
    pythons, rows = interpreters(options), []
    with tempfile.TemporaryDirectory() as scratch:
        about = described(pythons, options, scratch)
        for name in options.problems:
            rows += measured(name, pythons, options, environments.Path(scratch))
            print(f"{name}: {time.time() - begun:.0f} s", file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "stiff.json"
    about["seconds"] = round(time.time() - begun)
    path.write_text(json.dumps({"benchmark": "stiff", "about": about, "rows": rows}, indent=1) + "\n")
    settings = os.environ | ({"PYTHONPATH": str(CHECKOUT)} if options.here else {})
    subprocess.run([pythons[LIBRARY], FOLDER / "stiff_page.py", path, path.with_suffix(".png")], check=True, env=settings)
    print(f"\n{path}\n{path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
