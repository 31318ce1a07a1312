"""Mutation testing of the C core: python tests/mutants.py --count 500 --seed 0 --minutes 90

A mutant is the core with one token changed: an operator, a comparison, a constant, a bound, a condition. It is killed
where a test in C fails, crashes (an index beyond an array of the test or of a function does), or takes much longer than
without the change. Those tried are drawn with the seed from all changes that the .c and .inl files of the core allow, by
a hash of the changed line, so that changes elsewhere alter nothing.

All mutants are in one build: of each function there is a copy for each of its mutants, and the variable PN_MUTANT says
which copy runs. What lies outside of functions (tables) is compiled alone. The build has one instruction set, baseline;
tests end at their first failure, and those that do not run the changed line (gcov) are left out. A mutant that does not
compile, that the build leaves out, or of which the compiler makes the code of the original, is not counted.

Mutants that survive because they compute the same are listed with the reason in tests/mutants.json.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from mutations import code_of_copies, mutants_of, with_copies

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests" / "mutants.json"
FLAGS = [
    *("-std=c11", "-O1", "-w", "-pthread", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden"),
    *("-fno-jump-tables", "-DPN_WITHOUT_PLAIN"),
    *("-fstack-protector-all", "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"),
]
ANOTHER_BUILD = {"test_isa", "test_vmath"}
"""Tests of what the build has not: other instruction sets, functions of vmath.h."""

COUNT = ["--coverage", "-fprofile-update=atomic"]

SWITCH = """#include <stdlib.h>
int pn_mutant = -1;
__attribute__((constructor)) static void choose(void) {
    if (getenv("PN_MUTANT")) pn_mutant = atoi(getenv("PN_MUTANT"));
}
"""


class Lines:
    """Lines of the core that each test runs, as gcov counts them."""

    def __init__(self, core):
        self.core = core
        self.known = defaultdict(set)
        self.run = defaultdict(set)

    def add(self, test, objects):
        """What a test has run."""
        for target in objects:
            counts = target.with_suffix(".gcda")
            if not counts.exists():
                continue
            command = ["gcov", "--json-format", "--stdout", str(counts)]
            said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=self.core).stdout
            for file in json.loads(said)["files"]:
                name = os.path.relpath(self.core / file["file"], self.core)
                for line in file["lines"]:
                    self.known[name].add(line["line_number"])
                    if line["count"]:
                        self.run[test, name].add(line["line_number"])
            counts.unlink()

    def reached(self, test, m):
        """Whether a test runs the line of a mutant, or what its statement begins with; of a label, its function."""
        line = m.runs
        while line not in self.known[m.file] and line > 1:
            line -= 1
        return line in self.run[test, m.file]


class Build:
    """The core in a folder, with all mutants in one build."""

    def __init__(self, folder, compiler, mutants):
        self.folder, self.compiler = folder, compiler
        self.core, self.copies = folder / "csrc", folder / "copies"
        for old in (self.core, self.copies):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(ROOT / "csrc", self.core, ignore=shutil.ignore_patterns("python", "build"))
        for test in (self.core / "tests").glob("*.[ch]"):
            text = test.read_text().replace("PN_ISA_PLAIN", "PN_ISA_BASELINE")
            test.write_text(text.replace("failures++;", "_Exit(1);") if test.name == "check.h" else text)
        shutil.copytree(self.core, self.copies)
        (folder / "switch.c").write_text(SWITCH)
        sources = [p.relative_to(self.core) for p in sorted(self.core.rglob("*.c")) if "tests" not in p.parts]
        self.sources = [p for p in sources if p.stem not in ("avx2", "avx512", "plain")]
        self.objects = {p: folder / f"{p.parent.name}_{p.stem}.o" for p in self.sources}
        self.mutants = dict(enumerate(mutants))
        self.outcomes = {}
        self.compile_core()
        self.compile(folder / "switch.c", folder / "switch.o", self.core)
        self.counted = {p: folder / f"counted_{o.name}" for p, o in self.objects.items()}
        for source, target in self.counted.items():
            self.compile(self.core / source, target, self.core, *COUNT)
        self.lines = Lines(self.core)
        self.seconds, self.own = {}, []
        for test in sorted((self.core / "tests").glob("test_*.c")):
            if test.stem not in ANOTHER_BUILD:
                self.add_test(test)

    def compile(self, source, target, core, *more):
        """What the compiler has to say, or "" where it is done."""
        action = "-S" if target.suffix == ".s" else "-c"
        command = [*self.compiler, *FLAGS, *more, f"-I{core}", action, str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
        return done.stderr if done.returncode else ""

    def compile_core(self):
        """All of the core, without the mutants that do not compile, are left out, or have the code of the original."""
        by = defaultdict(dict)
        lines, unchanged = {}, {}
        for number, m in self.mutants.items():
            if m.function is not None:
                by[m.file][number] = m
        changed = set(by)
        code = {}
        for source in self.sources:
            assembler = self.folder / "core.s"
            while True:
                for file in changed:
                    text, lines[file], more = with_copies((self.core / file).read_text(), by[file])
                    (self.copies / file).write_text(text)
                    unchanged |= more
                said = self.compile(self.copies / source, assembler, self.copies)
                if not said:
                    break
                changed = set()
                for file, line in set(re.findall(rf"{self.copies}/(\S+?):(\d+):", said)):
                    for number, (first, last) in lines.get(file, {}).items():
                        if first <= int(line) <= last and by[file].pop(number, None):
                            changed.add(file)
                if not changed:
                    raise SystemExit(said)
            changed = set()
            code |= code_of_copies(assembler.read_text())
            self.compile(assembler, self.objects[source], self.copies)
        for number, m in list(self.mutants.items()):
            if m.function is not None and number not in code:
                self.outcomes[m.key] = "no code"
            elif m.function is not None and code[number] == code[unchanged[number]]:
                self.outcomes[m.key] = "same code"

    def add_test(self, test):
        """Compile and link a test; how long it takes, and which lines it runs."""
        name = test.stem
        if '.inl"' in test.read_text():  # it has a part of the core for itself
            self.own.append(test)
        self.compile(test, self.folder / f"{name}.o", self.copies if test in self.own else self.core)
        self.link(name, self.objects, self.folder / name)
        good, self.seconds[name] = self.run(self.folder / name, {}, 600)
        if not good:
            raise SystemExit(f"{name} fails without any change")
        counted = dict(self.counted)
        if test in self.own:
            counted[test] = self.folder / f"counted_{name}.o"
            self.compile(test, counted[test], self.core, *COUNT)
        self.link(name, counted, self.folder / "alone", "--coverage")
        self.run(self.folder / "alone", {}, 600)
        self.lines.add(name, counted.values())

    def link(self, name, objects, program, *more):
        """A test with these objects; its own, unless it is among them."""
        wrapped = ("malloc", "calloc", "realloc", "aligned_alloc", "free") if name == "test_alloc" else ()
        own = [] if any(source.stem == name for source in objects) else [self.folder / f"{name}.o"]
        objects = [*own, self.folder / "switch.o", *objects.values()]
        options = ["-pthread", *more, *(f"-Wl,--wrap={f}" for f in wrapped), "-lm", "-o", str(program)]
        subprocess.run([*self.compiler, *map(str, objects), *options], check=True)

    def run(self, program, env, seconds):
        """(whether a test passes, seconds of processors that it took)."""

        def limits():
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
            resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        test = subprocess.Popen(
            str(program),
            env=os.environ | env,
            cwd=ROOT / "csrc" / "tests",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=limits,
            start_new_session=True,
        )
        try:
            good = test.wait(30 + 5 * seconds) == 0
        except subprocess.TimeoutExpired:
            good = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(test.pid, signal.SIGKILL)
        test.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return good, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def changed(self, m):
        """What is compiled again for a change, also tests that have a part of the core; None where it does not compile."""
        path, objects = self.core / m.file, {}
        text = path.read_text()
        path.write_text(text[: m.start] + m.new + text[m.end :])
        units = [Path(m.file)] if m.file.endswith(".c") else [Path("instances") / "baseline.c", *self.own]
        for unit in units:
            objects[unit] = self.folder / f"changed_{unit.stem}.o"
            if self.compile(self.core / unit, objects[unit], self.core):
                objects = None
                break
        path.write_text(text)
        return objects

    def killer(self, number, tests):
        """The first of the tests that a mutant fails; "" where it survives, None where it does not compile."""
        m = self.mutants[number]
        objects = self.changed(m) if m.function is None else {}
        for name in tests if objects is not None else ():
            program = self.folder / name
            if m.function is None:
                program = self.folder / "alone"
                own = {test: o for test, o in objects.items() if test.stem == name or test not in self.own}
                self.link(name, self.objects | own, program)
            elif not self.lines.reached(name, m):
                continue
            if not self.run(program, {"PN_MUTANT": str(number)}, 1 + 4 * self.seconds[name])[0]:
                return name
        return None if objects is None else ""


def drawn(seed, only, count):
    """The first `count` of all mutants in the order of the seed."""
    core = ROOT / "csrc"
    files = [p for p in sorted(core.rglob("*")) if p.suffix in (".c", ".inl")]
    files = [p for p in files if not {"tests", "instances", "python"} & set(p.relative_to(core).parts)]
    every = [m for p in files for m in mutants_of(p, p.relative_to(core).as_posix()) if m.file.startswith(only)]
    print(f"{len(every)} changes are possible", flush=True)
    return sorted(every, key=lambda m: hashlib.sha256(f"{seed} {m.key}".encode()).digest())[:count]


def outcome(build, m, numbers, kills):
    """What becomes of a mutant: "killed by ...", "survived", "same code", "no code" (not compiled, or left out)."""
    if m.key in build.outcomes:
        return build.outcomes[m.key]
    tests = sorted(build.seconds, key=lambda name: build.seconds[name] / (1 + kills[m.file, name]))
    by = build.killer(numbers[m.key], tests)
    kills[m.file, by] += 1
    return "no code" if by is None else f"killed by {by}" if by else "survived"


def report(mutants, counted, results, reasons, least):
    """Print the figures; 1 where too few are killed, or what is killed is listed as equivalent."""
    left_out = Counter(results[m.key] for m in mutants if results.get(m.key) in ("no code", "same code"))
    killed = [m for m in counted if results[m.key] != "survived"]
    survivors = [m for m in counted if results[m.key] == "survived"]
    equivalent = [m for m in survivors if m.key in reasons]
    wrong = [m for m in killed if m.key in reasons]
    share = 100 * len(killed) / max(1, len(counted) - len(equivalent))
    print(", ".join(f"{name} {n}" for name, n in Counter(results[m.key] for m in killed).most_common()))
    print(
        f"not counted: {left_out['no code']} that do not compile or are left out, {left_out['same code']} of the same code"
    )
    print(f"{len(counted)} mutants: {len(killed)} killed, {len(equivalent)} equal, {len(survivors) - len(equivalent)} more")
    print(
        f"{share:.1f} % of those that are not equivalent are killed, {100 * len(killed) / max(1, len(counted)):.1f} % of all"
    )
    for m in wrong:
        print("listed as equivalent, but killed:", m)
    return int(share < least or bool(wrong))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--only", default="", help="files whose path under csrc begins so")
    parser.add_argument("--least", type=float, default=95, help="percentage to be killed")
    parser.add_argument(
        "--work",
        type=Path,
        help="a folder to keep the build and results.json in; what was killed, or is listed, is not tried again",
    )
    given = parser.parse_args()
    ends = time.monotonic() + 60 * given.minutes
    reasons = {(e["file"], e["was"], e["becomes"], e.get("nth", 0)): e["reason"] for e in json.loads(EQUIVALENT.read_text())}
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(exist_ok=True)
        kept, results = work / "results.json", {}
        if kept.exists():
            results = {tuple(e["key"]): e["outcome"] for e in json.loads(kept.read_text())}
        mutants = drawn(given.seed, given.only, given.count * 9 // 8)
        untried = [
            m
            for m in mutants
            if results.get(m.key, "survived") == "survived" and not (m.key in results and m.key in reasons)
        ]
        build = Build(work, os.environ.get("CC", "gcc").split(), untried)
        numbers = {m.key: number for number, m in build.mutants.items()}
        minutes = given.minutes - (ends - time.monotonic()) / 60
        print(
            f"{minutes:.1f} min until {len(untried)} are built; tests take {sum(build.seconds.values()):.0f} s", flush=True
        )
        kills = Counter()
        for m in sorted(untried, key=lambda m: m.key in results):
            if time.monotonic() > ends:
                break
            results[m.key] = outcome(build, m, numbers, kills)
            if results[m.key] == "survived":
                reached = m.function is None or any(build.lines.reached(name, m) for name in build.seconds)
                said = "equivalent" if m.key in reasons else "survives" if reached else "not reached"
                print(f"{said}: {m}", flush=True)
            kept.write_text(json.dumps([{"key": key, "outcome": value} for key, value in results.items()], indent=0))
    counted = [m for m in mutants if results.get(m.key, "no code") not in ("no code", "same code")][: given.count]
    return report(mutants, counted, results, reasons, given.least)


if __name__ == "__main__":
    sys.exit(main())
