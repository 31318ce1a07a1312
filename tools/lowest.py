"""The oldest versions of dependencies that pyproject.toml allows: python tools/lowest.py

Prints one requirement for each lower bound, numpy==2.0 for numpy>=2.0, for .ci/run to install. A dependency without a lower
bound is an error. Those of the extras below are what users need; the tools of developers are taken as they come.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
EXTRAS = ("plot", "table", "progress", "parallel", "dask", "all")


def bounds(path: Path = PYPROJECT) -> dict[str, str]:
    """Name of each dependency of users -> its lower bound."""
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    found = {}
    for requirement in wanted:
        match = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement)
        if match:
            found[match[1]] = match[2]
        elif not requirement.startswith(f"{project['name']}["):
            raise SystemExit(f"{path}: {requirement!r} has no lower bound of the form name>=version")
    return found


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}=={version}\n" for name, version in bounds().items()))
