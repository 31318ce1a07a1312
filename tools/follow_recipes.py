"""Follows the recipes of docs/adding.md in a copy of the tree: python tools/follow_recipes.py [--keep FOLDER]

A paragraph that names a file and a place, "`path`, after `text`:", says where the block of code below it goes:

    new                  the block is the file
    after / before       beside the first line that contains the text
    in place of          instead of that line
    without (no block)   that line is left out

All recipes are followed in one copy, which is then built; then every line "Check: `command`" and every block marked
"try" is run there. The exit status is 1 if one fails.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "adding.md"
PLACE = re.compile(r"^`(?P<path>[^`]+)`, (?P<verb>new|after|before|in place of|without)(?: `(?P<text>.+)`)?[:.]$")
LEFT_OUT = {".git", "build", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis", ".pytest_cache", "_build"}


@dataclass
class Recipes:
    """What the page says: edits (path, verb, text, block), commands and programs to try."""

    edits: list[tuple[str, str, str, str]] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)


def read(page: str) -> Recipes:
    """The recipes of the page."""
    recipes = Recipes()
    lines = iter(page.splitlines())
    waiting: tuple[str, str, str] | None = None
    for line in lines:
        if line.startswith("```"):
            block = []
            for inside in lines:
                if inside.startswith("```"):
                    break
                block.append(inside)
            code = "\n".join(block) + "\n"
            if line.endswith(" try"):
                recipes.programs.append(code)
            elif waiting is not None:
                recipes.edits.append((*waiting, code))
            else:
                raise SystemExit(f"{PAGE.name}: a block without a place:\n{code}")
            waiting = None
        elif found := PLACE.match(line):
            waiting = (found["path"], found["verb"], found["text"] or "")
            if found["verb"] == "without":
                recipes.edits.append((*waiting, ""))
                waiting = None
        elif line.startswith("Check: `"):
            recipes.checks.append(line.removeprefix("Check: `").removesuffix("`"))
        elif line.strip() and waiting is not None:
            raise SystemExit(f"{PAGE.name}: no block below {waiting}")
    return recipes


def follow(tree: Path, path: str, verb: str, text: str, block: str) -> None:
    """One edit in the tree."""
    target = tree / path
    if verb == "new":
        if target.exists():
            raise SystemExit(f"{path} is there already")
        target.write_text(block, encoding="utf-8")
        return
    lines = target.read_text(encoding="utf-8").splitlines(keepends=True)
    at = next((i for i, line in enumerate(lines) if text in line), None)
    if at is None:
        raise SystemExit(f"{path} has no line with {text!r}: docs/adding.md is out of date")
    first = at + 1 if verb == "after" else at
    last = at if verb == "before" else at + 1
    lines[first:last] = [block]
    target.write_text("".join(lines), encoding="utf-8")


def run(command: list[str], tree: Path, source: str | None = None, **variables: str) -> bool:
    """Whether a command succeeds in the tree, with these in its environment; what it prints is shown where it does not."""
    environment = os.environ | {"PYTHONPATH": str(tree), "MPLBACKEND": "Agg"} | variables
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(command, cwd=tree, env=environment, input=source, capture_output=True, text=True)
    print(
        f"{'ok    ' if done.returncode == 0 else 'FAILED'} {shlex.join(command[1:]) if source is None else 'try'}",
        flush=True,
    )
    if done.returncode:
        print(source or "", done.stdout[-6000:], done.stderr[-6000:])
    return done.returncode == 0


def python(command: str) -> list[str]:
    """The command of a check, with this interpreter."""
    words = shlex.split(command)
    if words[0] == "pytest":
        return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words[1:]]
    return [sys.executable, *words[1:]] if words[0] == "python" else words


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--keep", type=Path, help="folder of the copy, which is then kept (and built again where it is there)"
    )
    options = parser.parse_args()
    recipes = read(PAGE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        tree = (options.keep or Path(folder)).resolve() / "tree"
        if options.keep is None or not tree.exists():
            shutil.copytree(ROOT, tree, ignore=lambda _, names: LEFT_OUT.intersection(names))
            for edit in recipes.edits:
                follow(tree, *edit)
        if not run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], tree, PYNODE_ISAS="native"):  # soon built
            return 1
        results = [run([sys.executable, "-"], tree, program) for program in recipes.programs]
        results += [run(python(command), tree) for command in dict.fromkeys(recipes.checks)]
    print(f"{len(recipes.edits)} edits, {len(results)} checks, {results.count(False)} failed")
    return not all(results)


if __name__ == "__main__":
    sys.exit(main())
