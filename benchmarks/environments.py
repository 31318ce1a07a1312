"""A virtual environment for each peer and for the library, made once and kept.

    python benchmarks/environments.py [PEER ...] [--cache DIR] [--pip OPTIONS] [--fresh]

What a peer needs stands in its file as REQUIREMENTS. They are installed by plain pip, with your configuration of pip
and the OPTIONS given. Of the packages in its CPU_BUILDS the newest version "+cpu" is taken if pip sees one.
"""

import argparse
import ast
import hashlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CHECKOUT = FOLDER.parent
LIBRARY = "pynode"


@dataclass(frozen=True)
class Peer:
    """What can be known of benchmarks/peers/NAME.py without importing it."""

    name: str
    requirements: tuple
    cpu_builds: tuple
    tasks: frozenset  # names of its functions: "variants" (speed), "fit" (training)


def peers(task=None):
    """{name: Peer} of those that do the task, the library first."""
    found = {}
    for path in sorted((FOLDER / "peers").glob("*.py"), key=lambda path: (path.stem != LIBRARY, path.stem)):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        lists = {n.targets[0].id: n.value for n in body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)}
        needs, cpu_builds = (
            tuple(ast.literal_eval(lists[name])) if name in lists else () for name in ("REQUIREMENTS", "CPU_BUILDS")
        )
        tasks = frozenset(node.name for node in body if isinstance(node, ast.FunctionDef))
        if task is None or task in tasks:
            found[path.stem] = Peer(path.stem, needs, cpu_builds, tasks)
    return found


def add_options(parser):
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pynode-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="folder of the environments (%(default)s)")
    parser.add_argument("--pip", default="", metavar="OPTIONS", help='for pip install, e.g. "--extra-index-url ..."')


def interpreter(peer, cache, pip_options=""):
    """The Python of the environment of a peer, which is made or brought up to date if need be."""
    home = cache.expanduser().resolve() / peer.name
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp, state = home / "installed.txt", _state(peer, pip_options)
    if python.exists() and stamp.exists() and stamp.read_text() == state:
        return python
    print(f"installing {peer.name} into {home}", file=sys.stderr)
    if not (peer.name == LIBRARY and stamp.exists()):
        _run(sys.executable, "-m", "venv", "--clear", home)
    stamp.unlink(missing_ok=True)
    needs = [need.format(checkout=CHECKOUT) for need in peer.requirements]
    needs = [_cpu_build(python, need, pip_options) if need in peer.cpu_builds else need for need in needs]
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *shlex.split(pip_options), *needs)
    stamp.write_text(state)
    return python


def _state(peer, pip_options):
    """What the environment depends on, for the library its sources too."""
    digest = hashlib.sha256()
    if peer.name == LIBRARY:
        sources = [path for folder in ("pynode", "csrc") for path in (CHECKOUT / folder).rglob("*.*")]
        for path in sorted([*sources, CHECKOUT / "setup.py", CHECKOUT / "pyproject.toml"]):
            if path.is_file() and path.suffix not in {".so", ".pyc", ".o"}:
                digest.update(path.read_bytes())
    return "\n".join([sys.version, *peer.requirements, *peer.cpu_builds, pip_options, digest.hexdigest()])


def _cpu_build(python, name, pip_options):
    """Wheels of the default index may bring gigabytes of CUDA: take the newest build without, if pip sees any."""
    command = [python, "-m", "pip", "index", "versions", *shlex.split(pip_options), name]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    versions = re.search("Available versions: (.*)", listed)
    found = next((v for v in versions[1].split(", ") if v.endswith("+cpu")), None) if versions else None
    if found is None:
        print(f"pip sees no CPU build of {name}: the default may be large. An index that has one: --pip", file=sys.stderr)
    return f"{name}=={found}" if found else name


def _run(*command):
    if subprocess.run([str(part) for part in command], stdout=sys.stderr).returncode:
        raise SystemExit(f"this failed: {shlex.join(str(part) for part in command)}")


def main():
    everyone = peers()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(everyone)} (default: all)")
    parser.add_argument("--fresh", action="store_true", help="make them again, with the newest versions")
    add_options(parser)
    options = parser.parse_args()
    if unknown := set(options.peers) - set(everyone):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    for name in options.peers or everyone:
        if options.fresh:
            (options.cache.expanduser() / name / "installed.txt").unlink(missing_ok=True)
        print(name, interpreter(everyone[name], options.cache, options.pip))


if __name__ == "__main__":
    main()
