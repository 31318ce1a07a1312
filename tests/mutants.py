"""Mutation testing of the C core: python tests/mutants.py --count 500 --seed 0 --minutes 60

A mutant is the core with one token changed: an operator, a comparison, a constant, a bound, a condition. It is killed
where a test in C fails, crashes, or takes ten times as long as without the change. What survives is printed, with its
line: a test is missing there, or the change makes no difference. Lines are drawn with the seed from those of the core
that hold code.

Only the file that holds the change is compiled for each mutant, for one instruction set
(baseline); the others stay as they are. A mutant that does not compile, or whose object is the same, is not counted.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["-std=c11", "-O1", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden", "-pthread", "-w"]
TESTS = (
    *("test_refusals", "test_tableau", "test_program", "test_layout", "test_problem", "test_pattern", "test_exec"),
    *("test_implicit_calls", "test_own_theta", "test_rosenbrock", "test_rows", "test_threads", "test_alloc", "test_events"),
    *("test_calls", "test_solve"),
)
"""The tests in C, short ones first."""

SWAPS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+=": "-=",
    "-=": "+=",
    "*=": "/=",
}
TOKEN = re.compile(
    r"\s(\+|-|\*|<=?|>=?|==|!=|&&|\|\||\+=|-=|\*=)\s"
    r"|(?<![\w.%'\"])(\d+\.?\d*(?:e-?\d+)?)(?![\w.'\"])"
    r"|\bif \((?=[^;]*$)|(\+\+|--)"
)


def places(text):
    """[(position, end, replacement)] of the changes that a file allows."""
    found = []
    comment = False
    at = 0
    for line in text.splitlines(keepends=True):
        code = line.split("/*")[0].split("//")[0]
        inside = comment or line.lstrip().startswith(("#", "_Static_assert", "*", "CHECK", "typedef", "enum", "PN_KEEP_TO"))
        if "/*" in line or comment:
            comment = "*/" not in line[max(line.rfind("/*"), 0) :]
        if not inside and '"' not in code:
            for match in TOKEN.finditer(code):
                found += changes(match, at)
        at += len(line)
    return found


def changes(match, at):
    """The changes of one token."""
    whole = match.group(0)
    if match.group(1):
        return [(at + match.start(1), at + match.end(1), SWAPS[match.group(1)])]
    if match.group(2):
        number = match.group(2)
        other = str(int(number) + 1) if number.isdigit() else f"(1.25 * {number})"
        return [(at + match.start(2), at + match.end(2), other)]
    if whole.startswith("if"):
        return [(at + match.start(), at + match.end(), "if (!(")]  # the closing one is added below
    return [(at + match.start(3), at + match.end(3), "--" if match.group(3) == "++" else "++")]


def closed(text, start):
    """The position after the bracket that closes the one before `start`."""
    depth = 1
    for k in range(start, len(text)):
        depth += (text[k] == "(") - (text[k] == ")")
        if depth == 0:
            return k
    return None


def mutated(text, change):
    """The text with a change, or None."""
    start, end, new = change
    if new == "if (!(":
        close = closed(text, end)
        return None if close is None else text[:start] + new + text[end:close] + ")" + text[close:]
    return text[:start] + new + text[end:]


class Build:
    """A copy of the core with its objects and tests, in a folder."""

    def __init__(self, folder, compiler):
        self.folder = folder
        self.compiler = compiler
        shutil.copytree(ROOT / "csrc", folder / "csrc", ignore=shutil.ignore_patterns("python", "build"))
        core = folder / "csrc"
        self.sources = [p for p in core.rglob("*.c") if "tests" not in p.parts and p.stem not in ("avx2", "avx512")]
        self.objects = {p: folder / f"{p.parent.name}_{p.stem}.o" for p in self.sources}
        for source, target in self.objects.items():
            self.compile(source, target)
        for name in TESTS:
            self.compile(core / "tests" / f"{name}.c", folder / f"{name}.o")
        self.seconds = {name: self.run(name, 600)[1] for name in TESTS}

    def compile(self, source, target):
        command = [*self.compiler, *FLAGS, f"-I{self.folder / 'csrc'}", "-c", str(source), "-o", str(target)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def run(self, name, limit):
        """(whether a test passes, seconds)."""
        wrap = (
            [f"-Wl,--wrap={f}" for f in ("malloc", "calloc", "realloc", "aligned_alloc", "free")]
            if name == "test_alloc"
            else []
        )
        program = self.folder / name
        objects = [str(o) for o in self.objects.values()]
        link = [*self.compiler, "-pthread", str(self.folder / f"{name}.o"), *objects, *wrap, "-lm", "-o", str(program)]
        if subprocess.run(link, capture_output=True).returncode != 0:
            raise SystemExit(f"{name} cannot be linked")
        start = time.monotonic()
        try:
            good = subprocess.run([str(program), "--quick"], capture_output=True, timeout=limit).returncode == 0
        except subprocess.TimeoutExpired:
            good = False
        return good, time.monotonic() - start

    def units(self, path):
        """The sources to compile where `path` changes."""
        if path.suffix == ".c":
            return [path]
        return [p for p in self.sources if p.stem == "baseline"]

    def try_mutant(self, path, text):
        """Which test kills the mutant; "" where it survives; None where it is none."""
        original = path.read_text()
        units = self.units(path)
        before = {unit: self.objects[unit].read_bytes() for unit in units}
        try:
            path.write_text(text)
            if not all(self.compile(unit, self.objects[unit]) for unit in units):
                return None
            if all(self.objects[unit].read_bytes() == before[unit] for unit in units):
                return None
            for name in TESTS:
                if not self.run(name, 5 + 10 * self.seconds[name])[0]:
                    return name
            return ""
        finally:
            path.write_text(original)
            for unit in units:
                self.objects[unit].write_bytes(before[unit])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--only", default="", help="files whose path under csrc begins so")
    parser.add_argument("--alone", action="store_true", help="only .c files, which are compiled in a second")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    ends = time.monotonic() + 60 * given.minutes
    by = Counter()
    survivors = []
    with tempfile.TemporaryDirectory() as work:
        build = Build(Path(work), os.environ.get("CC", "gcc").split())
        core = build.folder / "csrc"
        files = [
            p for p in sorted(core.rglob("*.*")) if p.suffix in (".c", ".inl") and not {"tests", "instances"} & set(p.parts)
        ]
        files = [p for p in files if str(p.relative_to(core)).startswith(given.only)]
        files = [p for p in files if p.suffix == ".c" or not given.alone]
        everything = [(p, change) for p in files for change in places(p.read_text())]
        print(f"{len(everything)} changes are possible; the tests take {sum(build.seconds.values()):.0f} s", flush=True)
        rng.shuffle(everything)
        tried = 0
        for path, change in everything:
            if tried == given.count or time.monotonic() > ends:
                break
            text = path.read_text()
            new = mutated(text, change)
            killer = None if new is None else build.try_mutant(path, new)
            if killer is None:
                continue
            tried += 1
            by[killer] += 1
            if not killer:
                line = text.count("\n", 0, change[0])
                was = text.splitlines()[line].strip()
                survivors.append(
                    f"{path.relative_to(core)}:{line + 1}: {text[change[0] : change[1]]!r} -> {change[2]!r}: {was}"
                )
                print("survives", survivors[-1], flush=True)
    killed = tried - len(survivors)
    print(", ".join(f"{name or 'none'} {n}" for name, n in by.most_common()))
    print(f"{tried} mutants, {killed} killed: {100 * killed / max(1, tried):.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
