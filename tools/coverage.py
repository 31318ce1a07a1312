"""How much of the project its tests run: branches and lines of the C core, lines of the package. python tools/coverage.py

The core is counted (gcc --coverage) under the tests in C and, as the extension, under pytest and tests/nomemory.py. A branch
that several instruction sets or precisions compile counts as taken where one of them takes it. Functions are not inlined,
for each copy would have branches of its own. Lines of the package are counted by coverage.py (pip install coverage), also in
processes that tests start; what is for JAX and PyTorch only where these are. The shares may only rise: tools/coverage.json.

    python tools/coverage.py                       all of it; takes an hour
    python tools/coverage.py --c                   the core under the tests in C alone, plain and baseline kernels; a minute
    python tools/coverage.py --tests tests/engine  pytest on these only: then nothing is compared
    python tools/coverage.py --also PYTHON TESTS   more tests by another Python, which has JAX or PyTorch, and coverage.py
    python tools/coverage.py --list csrc/events    the branches never taken, of files that begin so
    python tools/coverage.py --update              keep what rose
    python tools/coverage.py --work FOLDER         keep the builds and counts there
    python tools/coverage.py --work FOLDER --report    count what is there, run nothing
    python tools/coverage.py --lines FOLDER        lines of the package, as tools/plugins/count_lines.py counts them in CI
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "tools" / "coverage.json"
FLAGS = "-O1 -g -w --coverage -fprofile-update=atomic -fno-inline -Dalways_inline="
COUNTED = """[run]
parallel = true
concurrency = thread, multiprocessing
patch = subprocess
sigterm = true
"""
SLACK = 0.1
"""Percentage points that a share may fall: threads and signals come at other moments."""


def call(command, **more):
    """Run a command; its failure ends all."""
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, **more)


def run_c(work, alone=False):
    """The tests in C; alone: on the kernels that any processor has."""
    how = FLAGS.replace("atomic", "single") if alone else FLAGS  # a third of the time; threads lose a count now and then
    flags = [f"CFLAGS={how}", f"BUILD={work / 'c'}", "ARGS=--quick"]
    if alone:
        names = sorted(path.stem for path in (ROOT / "csrc" / "tests").glob("test_*.c"))
        flags += ["X86=", "ONLY=" + " ".join(name for name in names if name != "test_isa")]  # which asks for AVX
    call(["make", "-s", "-C", "csrc/tests", f"-j{os.cpu_count()}", "check", "CC=gcc", *flags])


def build_python(work, pythons):
    """The package as it is installed, its extension with handlers for the JAX of one of these Pythons."""
    lib = work / "lib"
    env = os.environ | {"CC": "gcc", "PYNODE_CFLAGS": FLAGS, "PYNODE_LDFLAGS": "--coverage"}
    for python in pythons:
        asked = subprocess.run([python, "-c", "import jax; print(jax.ffi.include_dir())"], capture_output=True, text=True)
        if asked.returncode == 0:
            env["PYNODE_XLA_INCLUDE"] = asked.stdout.strip()
    build = [sys.executable, "setup.py", "build", f"--build-lib={lib}", f"--build-temp={work / 'python'}"]
    call(build, env=env, stdout=subprocess.DEVNULL)


def run_python(work, python, tests):
    """pytest under coverage.py, on all cores where that Python has pytest-xdist."""
    settings = work / "settings"
    settings.write_text(f"{COUNTED}source = {work / 'lib' / 'pynode'}\ndata_file = {work / 'lines'}\n")
    env = os.environ | {"PYTHONPATH": str(work / "lib"), "PYTHONSAFEPATH": "1"}
    count = [python, "-m", "coverage", "run", f"--rcfile={settings}"]
    asked = subprocess.run([python, "-c", "import xdist"], capture_output=True)
    cores = ["-n", str(os.cpu_count())] if asked.returncode == 0 else []
    command = [*count, "-m", "pytest", "-q", "-p", "no:cacheprovider", *cores, *tests]
    subprocess.run(command, cwd=ROOT, env=env, check=False)  # a test that measures time may fail; what ran counts


def run_without_memory(work):
    """tests/nomemory.py, to a regular end, for counts are written there; needs Python's module _testcapi."""
    if importlib.util.find_spec("_testcapi") is None:
        print("left out: tests/nomemory.py, this Python has no _testcapi")
        return
    script = "import os, runpy, sys; os._exit = sys.exit; runpy.run_path('tests/nomemory.py', run_name='__main__')"
    env = os.environ | {"PYTHONPATH": str(work / "lib"), "PYTHONSAFEPATH": "1"}
    call([sys.executable, "-c", script], env=env)


def gcov(work):
    """{file: ({line: ran}, {(line, branch): taken})}, over all objects."""
    lines, branches = defaultdict(dict), defaultdict(dict)
    for data in sorted(work.rglob("*.gcda")):
        command = ["gcov", "--json-format", "--stdout", "--branch-probabilities", str(data)]
        said = subprocess.run(command, cwd=data.parent, capture_output=True, text=True, check=True).stdout
        for part in said.splitlines():
            for file in json.loads(part)["files"] if part.startswith("{") else ():
                path = (ROOT / file["file"]).resolve()
                if not path.is_relative_to(ROOT / "csrc") or path.is_relative_to(ROOT / "csrc" / "tests"):
                    path = (ROOT / "csrc" / "tests" / file["file"]).resolve()  # make compiles from there
                if not path.is_relative_to(ROOT / "csrc") or path.is_relative_to(ROOT / "csrc" / "tests"):
                    continue
                name = str(path.relative_to(ROOT))
                for line in file["lines"]:
                    n = line["line_number"]
                    lines[name][n] = lines[name].get(n, False) or line["count"] > 0
                    for i, branch in enumerate(line["branches"]):
                        branches[name][n, i] = branches[name].get((n, i), False) or branch["count"] > 0
    xla = [name for name in lines if name.startswith("csrc/python/xla")]
    if not any(any(lines[name].values()) for name in xla):  # no JAX
        for name in xla:
            del lines[name], branches[name]
    return lines, branches


def share(tables):
    """Percentage of what is true in tables of truth values."""
    values = [value for table in tables for value in table.values()]
    return 100.0 * sum(values) / max(1, len(values))


def package_lines(work):
    """(percentage of lines of the package, {file: percentage}), or None where there is no count."""
    if not list(work.glob("lines.*")):
        return None
    coverage = [sys.executable, "-m", "coverage"]
    call([*coverage, "combine", "-q", "--keep", f"--data-file={work / 'all_lines'}", *work.glob("lines.*")])
    call([*coverage, "json", "-q", f"--data-file={work / 'all_lines'}", "-o", work / "lines.json"])
    found = json.loads((work / "lines.json").read_text())
    files = {Path(name).relative_to(work / "lib").as_posix(): x["summary"] for name, x in found["files"].items()}
    for part in ("pynode/jax/", "pynode/torch/"):  # left out where that framework is not there
        if not any(x["covered_lines"] for name, x in files.items() if name.startswith(part)):
            files = {name: x for name, x in files.items() if not name.startswith(part)}
    ran, there = (sum(x[what] for x in files.values()) for what in ("covered_lines", "num_statements"))
    return 100.0 * ran / max(1, there), {name: x["percent_covered"] for name, x in files.items()}


def tell_least(files):
    """Print the files of the package of which least runs, from {file: percentage}."""
    for name, value in sorted(files.items(), key=lambda pair: pair[1])[:15]:
        print(f"{name:60} {value:6.1f} %")


def counted_lines(folder):
    """{what: percentage} of the counts of tools/plugins/count_lines.py, but for JAX and PyTorch, which CI tests apart."""
    ran, there = defaultdict(set), defaultdict(set)
    for path in folder.glob("*.json"):
        for name, (executed, missing) in json.loads(path.read_text()).items():
            if not name.startswith(("pynode/jax/", "pynode/torch/")):
                ran[name].update(executed)
                there[name].update(executed, missing)
    if not there:
        raise SystemExit(f"no counts in {folder}")
    tell_least({name: 100.0 * len(ran[name]) / max(1, len(there[name])) for name in there})
    total = 100.0 * sum(map(len, ran.values())) / sum(map(len, there.values()))
    return {"lines of pynode, processes of pytest alone": round(total, 1)}


def report(work, listed, alone=False):
    """Print the tables; returns the shares, which have names of their own where the tests in C ran alone."""
    lines, branches = gcov(work)
    print(f"{'file':34} {'lines':>7} {'branches':>9}")
    for name in sorted(lines):
        print(f"{name:34} {share([lines[name]]):6.1f} % {share([branches[name]]):7.1f} %")
        if listed and name.startswith(listed):
            source = (ROOT / name).read_text().splitlines()
            missed = defaultdict(list)
            for (n, i), taken in sorted(branches[name].items()):
                if not taken:
                    missed[n].append(i)
            for n, which in missed.items():
                print(f"   {n}: {which}{'' if lines[name][n] else ' never run'}: {source[n - 1].strip()}")
    where = "the core, tests in C alone" if alone else "csrc"
    shares = {f"lines of {where}": share(lines.values()), f"branches of {where}": share(branches.values())}
    package = package_lines(work)
    if package is not None:
        tell_least(package[1])
        shares["lines of pynode"] = package[0]
    return {name: round(value, 1) for name, value in shares.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--c", action="store_true", help="the tests in C alone")
    parser.add_argument("--tests", nargs="+", help="of pytest; default: all")
    parser.add_argument("--also", nargs=2, action="append", default=[], metavar=("PYTHON", "TESTS"))
    parser.add_argument("--list", metavar="PREFIX")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--lines", type=Path, metavar="FOLDER", help="counts of tools/plugins/count_lines.py")
    given = parser.parse_args()
    if given.lines:
        return compare(counted_lines(given.lines), given.update)
    with tempfile.TemporaryDirectory() as folder:
        work = given.work.resolve() if given.work else Path(folder)
        if not given.report:
            run_c(work, given.c)
        if not given.report and not given.c:
            build_python(work, [python for python, _ in given.also])
            for python, *tests in ([sys.executable, *(given.tests or ["tests"])], *given.also):
                run_python(work, python, tests)
            run_without_memory(work)
        shares = report(work, given.list, given.c)
    return compare(shares, given.update, bool(given.tests))


def compare(shares, update, partial=False):
    """The exit status: 1 where a share fell below what was kept (not if it is that of a part of the tests)."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    worse = [name for name, value in kept.items() if shares.get(name, value) < value - SLACK]
    for name, value in shares.items():
        print(f"{name:45} {value:6.1f} %   at least {kept.get(name, 0.0):.1f} %")
    if update:
        KEPT.write_text(
            json.dumps(kept | {name: max(value, kept.get(name, 0.0)) for name, value in shares.items()}, indent=4) + "\n"
        )
    return int(bool(worse) and not update and not partial)


if __name__ == "__main__":
    sys.exit(main())
