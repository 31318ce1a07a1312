"""Counts what the layout of the project promises, and fails where a count gets worse: python tools/structure.py

Some counts have a limit (no file over 500 lines, no private name imported, imports between floors in one direction, ...).
The others may only fall: the lowest numbers so far are in tools/structure.json.

    python tools/structure.py              print the table; exit status 1 where something got worse
    python tools/structure.py --list       with the place of everything that is counted
    python tools/structure.py --quick      without mypy and numpydoc: only the standard library, a second
    python tools/structure.py --update     write the numbers that fell to tools/structure.json
"""

import argparse
import ast
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from floors import CIRCLES, GROUND, LAZY, LONG_FILES, LONG_FUNCTIONS, RESTS_ON

ROOT = Path(__file__).resolve().parent.parent
RATCHET = ROOT / "tools" / "structure.json"
PACKAGE = "pynode"
FOLDERS = ("pynode", "tests", "benchmarks", "docs", "examples", "tools")
FILE_LINES = 500
CLASS_LINES = 400
FUNCTION_LINES = 60
PACKED_TARGETS = 3
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Import:
    """A file of the package that another one imports, and the name that it takes from there (None: the module itself)."""

    line: int
    target: str
    name: str | None
    lazy: bool
    typing_only: bool


@dataclass
class Source:
    """A Python file and its syntax tree."""

    path: Path

    @cached_property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def module(self) -> str:
        """Dotted name."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def floor(self) -> str:
        return self.module.split(".")[1] if "." in self.module else "__init__"

    def imports(self, modules: set[str]) -> Iterator[Import]:
        """What this file imports of the package; `modules` are the dotted names of its files."""
        yield from self._imports(self.tree, modules, lazy=False, typing_only=False)

    def _imports(self, node: ast.AST, modules: set[str], lazy: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == PACKAGE:
                for alias in child.names:
                    whole = f"{child.module}.{alias.name}"
                    target, name = (whole, None) if whole in modules else (child.module or "", alias.name)
                    yield Import(child.lineno, target, name, lazy, typing_only)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    if alias.name.split(".")[0] == PACKAGE:
                        yield Import(child.lineno, alias.name, None, lazy, typing_only)
            else:
                for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from self._imports(child, modules, lazy or isinstance(child, FUNCTIONS), typing_only or for_types)


@dataclass
class Count:
    """One row of the table: what is counted, where it was found, and what is allowed."""

    title: str
    places: list[str]
    limit: int | None = None
    groups: Counter[str] = field(default_factory=Counter)
    granted: int = 0

    def worse(self, ratchet: dict[str, dict[str, int]]) -> list[str]:
        """What is worse than allowed, in words."""
        if self.limit is not None:
            return [f"{self.title}: {place}" for place in self.places] if len(self.places) > self.limit else []
        before = ratchet.get(self.title, {})
        return [
            f"{self.title}: {group} has {number}, and {before.get(group, 0)} before"
            for group, number in sorted(self.groups.items())
            if number > before.get(group, 0)
        ]


# ---- Sizes


def without_docstring(node: ast.AST) -> int:
    """Lines of a function, those of its docstring left out."""
    assert isinstance(node, FUNCTIONS) and node.end_lineno is not None
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        first = node.body[0]
        assert first.end_lineno is not None
        length -= first.end_lineno - first.lineno + 1
    return length


def long_functions(sources: list[Source]) -> Count:
    """Functions of the package and the tools beyond FUNCTION_LINES; a test may tell a long story."""
    found = []
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, FUNCTIONS) and without_docstring(node) > FUNCTION_LINES:
                found.append((f"{source.name}:{node.name}", without_docstring(node)))
    places = [f"{place} ({lines} lines)" for place, lines in found if place not in LONG_FUNCTIONS]
    return Count(f"functions over {FUNCTION_LINES} lines", places, 0, granted=len(found) - len(places))


def long_tests(paths: list[Path]) -> Count:
    """Test files beyond FILE_LINES."""
    names = [
        path.relative_to(ROOT).as_posix() for path in paths if path.read_text(encoding="utf-8").count("\n") > FILE_LINES
    ]
    return Count(f"test files over {FILE_LINES} lines", names, groups=Counter(name.split("/")[1] for name in names))


def long_classes(sources: list[Source]) -> Count:
    places = []
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef) and (lines := (node.end_lineno or 0) - node.lineno + 1) > CLASS_LINES:
                places.append(f"{source.name}:{node.name} ({lines} lines)")
    return Count(f"classes over {CLASS_LINES} lines", places, 0)


def long_files(title: str, paths: list[Path]) -> Count:
    names = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in paths}
    found = {name: lines for name, lines in names.items() if lines > FILE_LINES}
    places = [f"{name} ({lines} lines)" for name, lines in found.items() if name not in LONG_FILES]
    return Count(title, places, 0, granted=len(found) - len(places))


# ---- Imports


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(package: list[Source], modules: set[str]) -> Count:
    """Names that begin with _, imported from another file."""
    places = [
        f"{source.name}:{found.line} {found.target}.{found.name}"
        for source in package
        for found in source.imports(modules)
        if found.name is not None and is_private(found.name) and found.target != PACKAGE
    ]
    return Count("private names imported", places, 0)


def private_attributes(package: list[Source]) -> Count:
    """Uses of x._name where the file neither defines nor sets _name itself."""
    places, groups = [], Counter[str]()
    for source in package:
        own = {
            name
            for node in ast.walk(source.tree)
            for name in (
                [node.name]
                if isinstance(node, (*FUNCTIONS, ast.ClassDef))
                else [node.attr]
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                else [node.id]
                if isinstance(node, ast.Name)
                else []
            )
        }
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own | {"_core"}:
                places.append(f"{source.name}:{node.lineno} {ast.unparse(node)}")
                groups[source.floor] += 1
    return Count("private attributes of others", places, groups=groups)


def wrong_direction(package: list[Source], modules: set[str]) -> Count:
    """Imports of a floor that does not lie below; those for types alone do not run and do not count."""
    places = []
    for source in package:
        allowed = {source.floor, *GROUND, *RESTS_ON.get(source.floor, ())}
        if source.floor == "__init__":
            allowed = {"_version"}
        for found in source.imports(modules):
            floor = found.target.split(".")[1] if "." in found.target else "the whole package"
            if floor not in allowed and not found.typing_only:
                places.append(f"{source.name}:{found.line} {source.floor} -> {floor}")
    unknown = {source.floor for source in package} - {"__init__", *GROUND, *RESTS_ON}
    places += [f"{floor} is not in the table of floors (tools/floors.py)" for floor in sorted(unknown)]
    return Count("imports against the direction", places, 0)


def lazy_imports(package: list[Source], modules: set[str]) -> Count:
    """Imports of the package inside functions, but for those that tools/floors.py grants."""
    places, granted = [], 0
    for source in package:
        for found in source.imports(modules):
            if not found.lazy:
                continue
            floor = found.target.split(".")[1] if "." in found.target else PACKAGE
            if (source.floor, "*") in LAZY or (source.floor, floor) in LAZY:
                granted += 1
            else:
                places.append(f"{source.name}:{found.line} imports {found.target} inside a function")
    return Count("imports inside functions", places, 0, granted=granted)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972, SIAM J. Comput. 1, 146-160)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def circles_of_files(package: list[Source], modules: set[str]) -> Count:
    """Files that import each other, inside functions too; imports for types alone do not count."""
    graph: dict[str, set[str]] = {source.module: set() for source in package}
    for source in package:
        for found in source.imports(modules):
            if not found.typing_only and found.target in graph and found.target not in (source.module, PACKAGE):
                graph[source.module].add(found.target)
    found_circles = circles(graph)
    places = [" <-> ".join(circle) for circle in found_circles if frozenset(circle) not in CIRCLES]
    return Count("circles of files", places, 0, granted=len(found_circles) - len(places))


def circles_of_includes(paths: list[Path]) -> Count:
    """C files that include each other; an include is looked for beside the file, then in csrc/."""
    graph: dict[str, set[str]] = {path.relative_to(ROOT).as_posix(): set() for path in paths}
    for path in paths:
        for quoted in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.M):
            for folder in (path.parent, ROOT / "csrc"):
                target = (folder / quoted).resolve()
                if target.exists():
                    graph[path.relative_to(ROOT).as_posix()].add(target.relative_to(ROOT).as_posix())
                    break
    for name, targets in graph.items():
        targets.intersection_update(graph)
        targets.discard(name)
    return Count("circles of C includes", [" <-> ".join(circle) for circle in circles(graph)], 0)


# ---- Numbers that may only fall


def packed_assignments(sources: list[Source]) -> Count:
    """a, b, c = x, y, z: as many values as targets, three or more; unpacking one thing is fine."""
    places, groups = [], Counter[str]()
    for source in sources:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple | ast.List):
                continue
            sizes = {len(target.elts) for target in node.targets if isinstance(target, ast.Tuple | ast.List)}
            starred = any(isinstance(value, ast.Starred) for value in node.value.elts)
            if max(sizes, default=0) >= PACKED_TARGETS and len(node.value.elts) in sizes and not starred:
                places.append(f"{source.name}:{node.lineno}")
                groups[source.name.split("/")[0]] += 1
    return Count("packed assignments", places, groups=groups)


def long_c_functions(paths: list[Path]) -> Count:
    """C functions of more than FUNCTION_LINES lines, from the line of the opening brace to } in the first column."""
    places, groups = [], Counter[str]()
    for path in paths:
        name, begun = path.relative_to(ROOT).as_posix(), None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if begun is None and re.match(r"(?!typedef|enum|struct \w+ \{|union)\S.*\)\s*\{$|\s+\S.*\)\s*\{$", line):
                begun = number
            elif line.startswith("}") and begun is not None:
                if number - begun + 1 > FUNCTION_LINES:
                    places.append(f"{name}:{begun} ({number - begun + 1} lines)")
                    groups["csrc"] += 1
                begun = None
    return Count(f"C functions over {FUNCTION_LINES} lines", places, groups=groups)


def strict_types() -> Count:
    """Errors of mypy --strict, by floor."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--hide-error-context",
        "--no-pretty",
        PACKAGE,
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode not in (0, 1) or "No module named mypy" in run.stderr:
        raise SystemExit(f"mypy does not run here (--quick leaves it out):\n{run.stderr or run.stdout}")
    places = [line for line in run.stdout.splitlines() if ": error:" in line]
    floors = (Path(place.split(":")[0]).parts[1] for place in places)
    return Count("mypy --strict", places, groups=Counter(floor.removesuffix(".py").removesuffix(".pyi") for floor in floors))


def docstrings() -> list[Count]:
    """Problems that numpydoc finds in docstrings of public names, and public names without an example."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "docstrings.py"), "--json"]
    run = subprocess.run(command, cwd=ROOT / "tools", capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"tools/docstrings.py failed (--quick leaves it out):\n{run.stderr}")
    counts = []
    for title, found in json.loads(run.stdout).items():
        groups = Counter(place.split(" ")[0].split(".")[0] for place in found)
        counts.append(Count(title, found, groups=groups))
    return counts


# ---- The table


def files(folder: str, *suffixes: str) -> list[Path]:
    hidden = {"build", "_build", "course", "generated"}
    return [
        path
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in suffixes and (folder == PACKAGE or not hidden.intersection(path.relative_to(ROOT).parts[:-1]))
    ]


def all_counts(quick: bool) -> list[Count]:
    python = {folder: [Source(path) for path in files(folder, ".py")] for folder in FOLDERS}
    package = python[PACKAGE]
    everything = list(itertools.chain.from_iterable(python.values()))
    modules = {source.module for source in package} | {f"{PACKAGE}._core"}
    c_files = files("csrc", ".c", ".h", ".inl", ".def")
    counts = [
        long_files(f"Python files over {FILE_LINES} lines", [source.path for source in (*package, *python["tools"])]),
        long_files(f"C files over {FILE_LINES} lines", c_files),
        long_classes(package),
        long_functions([*package, *python["tools"]]),
        private_names(package, modules),
        circles_of_files(package, modules),
        circles_of_includes(c_files),
        wrong_direction(package, modules),
        lazy_imports(package, modules),
        private_attributes(package),
        long_tests([source.path for source in python["tests"]]),
        packed_assignments(everything),
        long_c_functions(c_files),
    ]
    return counts if quick else [*counts, strict_types(), *docstrings()]


def print_table(counts: list[Count], ratchet: dict[str, dict[str, int]], everything: bool) -> None:
    print(f"{'':38s} {'now':>6s} {'at most':>8s}")
    for count in counts:
        allowed = count.limit if count.limit is not None else sum(ratchet.get(count.title, {}).values())
        note = f"  and {count.granted} with a reason" if count.granted else ""
        if count.groups:
            note += "  " + ", ".join(f"{group} {number}" for group, number in sorted(count.groups.items()))
        print(f"{count.title:38s} {len(count.places):6d} {allowed:8d}{note}")
        if everything:
            for place in count.places:
                print(f"    {place}")


def update(counts: list[Count], ratchet: dict[str, dict[str, int]]) -> None:
    """Record the numbers that fell, and those that are counted for the first time."""
    for count in counts:
        if count.limit is None:
            before = ratchet.get(count.title)
            lowest = {group: min(n, before.get(group, 0)) if before is not None else n for group, n in count.groups.items()}
            ratchet[count.title] = {group: n for group, n in sorted(lowest.items()) if n}
    RATCHET.write_text(json.dumps(ratchet, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="with the place of everything that is counted")
    parser.add_argument("--quick", action="store_true", help="without mypy and numpydoc")
    parser.add_argument("--update", action="store_true", help="record the numbers that fell")
    options = parser.parse_args()
    ratchet = json.loads(RATCHET.read_text(encoding="utf-8")) if RATCHET.exists() else {}
    counts = all_counts(options.quick)
    if options.update:
        update(counts, ratchet)
    print_table(counts, ratchet, options.list)
    worse = [line for count in counts for line in count.worse(ratchet)]
    for line in worse:
        print(line)
    fell = any(
        number > count.groups.get(group, 0)
        for count in counts
        if count.limit is None
        for group, number in ratchet.get(count.title, {}).items()
    )
    if fell and not options.update:
        print("Some numbers fell: python tools/structure.py --update records them.")
    return bool(worse)


if __name__ == "__main__":
    sys.exit(main())
