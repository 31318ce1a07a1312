"""A plugin of pytest that counts which lines of the package run, for a few percent of the time (SlipCover).

    PYTHONPATH=tools/plugins PYNODE_LINES=FOLDER pytest -p count_lines ...     each process leaves a file in the folder
    python tools/coverage.py --lines FOLDER                            the share, which may only rise

Counted are the processes of pytest (and pytest-xdist) themselves; tools/coverage.py without --lines counts those that tests
start, too, and takes longer.
"""

import importlib.util
import json
import os
import uuid
from pathlib import Path

from slipcover import FileMatcher, ImportManager, Slipcover

FOLDER = Path(os.environ["PYNODE_LINES"]).resolve()


def package():
    """The folder of the package, which is not imported yet."""
    found = importlib.util.find_spec("pynode")
    if found is None or found.origin is None:
        raise SystemExit("count_lines: pynode is not installed here")
    return Path(found.origin).resolve().parent


PACKAGE = package()
COUNTER = Slipcover(source=[str(PACKAGE)])
MATCHER = FileMatcher(sources=[str(PACKAGE)])
ImportManager(COUNTER, MATCHER).__enter__()


def pytest_sessionfinish():
    """{file: [lines that ran, lines that did not]} of this process."""
    files = {}
    for name, lines in COUNTER.get_coverage()["files"].items():
        path = Path(name).resolve().relative_to(PACKAGE.parent).as_posix()
        files[path] = [lines["executed_lines"], lines["missing_lines"]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{uuid.uuid4().hex}.json").write_text(json.dumps(files))
