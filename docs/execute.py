"""Execute the notebooks of the course from clean kernels: python docs/execute.py [--jobs 2] [--into docs/course] [NAME ...]

The executed copies are what the site shows; a cell that raises, or a notebook that takes more than a minute, is an error.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 60.0
"""Seconds that a notebook may take."""


def execute(path, into):
    """Execute one notebook in an empty folder and write the copy; (seconds, None or what went wrong)."""
    notebook = nbformat.read(path, as_version=4)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=4 * LIMIT, kernel_name="python3", resources={"metadata": {"path": folder}})
        try:
            client.execute()
        except CellExecutionError as error:
            return time.perf_counter() - begun, str(error)
    nbformat.write(notebook, into / path.name)
    return time.perf_counter() - begun, None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of names; default: all")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="notebooks at once")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "course", help="folder of the executed copies")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a notebook may take")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    for name in ("PYNODE_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # the notebooks share the cores
    paths = [
        path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.name.startswith(tuple(options.names) or "")
    ]
    failed, begun = [], time.perf_counter()
    with ThreadPoolExecutor(options.jobs) as pool:  # the work is done by the kernels
        for path, (seconds, error) in zip(paths, pool.map(execute, paths, [options.into] * len(paths)), strict=True):
            if error is None and seconds > options.limit:
                error = f"took {seconds:.0f} s, more than {options.limit:g}"
            print(f"{path.name:45s} {seconds:6.1f} s  {'failed' if error else 'ok'}", flush=True)
            if error:
                failed.append(path.name)
                print(error, flush=True)
    print(f"{len(paths)} notebooks, {time.perf_counter() - begun:.0f} s; failed: {', '.join(failed) or 'none'}")
    return bool(failed) or not paths


if __name__ == "__main__":
    sys.exit(main())
