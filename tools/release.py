"""A release, tried without one: python tools/release.py [--tag v0.1.0] [--dist dist]

Versions have to be the same everywhere: in pynode/_version.py, CITATION.cff, the conda recipe, the tag (given, or that of
the commit), and with a tag the first heading of CHANGELOG.md, with its date. With --dist, the folder has to hold a source
distribution and a wheel of that version for each platform of tools/wheels.py (--only: for some). Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from wheel_files import check_metadata
from wheel_targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("setup.py", "pyproject.toml", "csrc/pynode.h", "csrc/status.def", "csrc/kernels/dense.inl", "wasm/pynode.wasm.gz")
"""Some of what a source distribution cannot be built without."""


def _found(path: Path, pattern: str) -> str:
    """The first group of a pattern in a file."""
    match = re.search(pattern, path.read_text(encoding="utf-8"), re.M)
    return match[1] if match else "nothing"


def faults(root: Path, tag: str | None) -> list[str]:
    """What is not ready for a release with that tag; without one, what never holds together."""
    version = _found(root / "pynode" / "_version.py", r'^__version__ = "(.+)"$')
    found = []
    for name, pattern in {
        "CITATION.cff": r"^version: (\S+)$",
        "packaging/conda/recipe.yaml": r'^  version: "(.+)"$',
    }.items():
        other = _found(root / name, pattern)
        if other != version:
            found.append(f"{name} has version {other}, pynode/_version.py {version}")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        found.append(f"pynode/_version.py has {version!r}, which is not MAJOR.MINOR.PATCH")
    if tag is None:
        return found
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, pynode/_version.py says v{version}")
    heading = _found(root / "CHANGELOG.md", r"^## (.+)$")
    if not re.fullmatch(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d", heading):
        found.append(f"CHANGELOG.md begins with {heading!r}; a release needs '[{version}] - YEAR-MONTH-DAY'")
    return found


def tag_here() -> str | None:
    """The tag of the commit, if it has one."""
    run = subprocess.run(["git", "describe", "--exact-match", "--tags"], cwd=ROOT, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else None


def faults_of(dist: Path, platforms: list[str]) -> list[str]:
    """What is wrong with the files of a release."""
    version = _found(ROOT / "pynode" / "_version.py", r'^__version__ = "(.+)"$')
    found = []
    for name in platforms:
        path = dist / f"pynode_ode-{version}-cp311-abi3-{TARGETS[name].tag}.whl"
        if path.exists():
            check_metadata(path)
        else:
            found.append(f"{path} is missing: python tools/wheels.py {name} --out {dist}")
    source = dist / f"pynode_ode-{version}.tar.gz"
    if not source.exists():
        return [*found, f"{source} is missing: python -m build --sdist -o {dist}"]
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return found + [f"{source} lacks {name} (MANIFEST.in)" for name in NEEDED if name not in names]


def main() -> None:
    """Say what is not ready."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tag", help="the tag that the release will have (that of the commit)")
    parser.add_argument("--dist", type=Path, help="folder of its files")
    parser.add_argument("--only", nargs="+", choices=TARGETS, metavar="PLATFORM", help="wheels that have to be there (all)")
    arguments = parser.parse_args()
    tag = arguments.tag or tag_here()
    found = faults(ROOT, tag)
    if arguments.dist:
        found += faults_of(arguments.dist, arguments.only or list(TARGETS))
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        raise SystemExit(1)
    print(f"ready: {tag}" if tag else "versions agree; no tag yet")


if __name__ == "__main__":
    main()
