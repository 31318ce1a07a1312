"""Execute the notebooks of the course from clean kernels: python docs/execute.py [--jobs 2] [--into docs/course] [NAME ...]

The executed copies are what the site shows. A cell that raises is an error, and so is a notebook that needs more than a
minute of one core (processor time, so that a busy machine does not matter).
"""

import argparse
import os
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 60.0
"""Seconds of processor time that a notebook may take."""
PATIENCE = 600
"""Seconds after which a cell is given up."""
CLOCK = "import time; print(time.process_time())"


def execute(path, into, python):
    """Execute one notebook in an empty folder and write the copy; (seconds, processor seconds, None or what went wrong)."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CLOCK))
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.create_kernel_manager().kernel_spec.argv[0] = python
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError) as error:
            return time.perf_counter() - begun, float("nan"), str(error)
    used = float(notebook.cells.pop().outputs[0].text)
    for_the_site(notebook, path)
    nbformat.write(notebook, into / path.name)
    wrong = [cell.source for cell in notebook.cells if "solution" in cell.metadata.get("tags", []) and not solved(cell)]
    problem = f"a solution that its checker does not accept:\n{wrong[0]}" if wrong else None
    return time.perf_counter() - begun, used, f"needs more than {LIMIT:g} s" if used > LIMIT else problem


def for_the_site(notebook, path):
    """Add to an executed copy what only the site shows: the download, and descriptions of pictures as alternative texts."""
    lines = f"{{download}}`Download this notebook <../../notebooks/{path.name}>` · open locally: `jupyter lab {path.name}`"
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(lines))
    for cell in notebook.cells:
        described = [out.metadata.get("image/png", {}).get("alt") for out in cell.get("outputs", []) if "metadata" in out]
        if any(described):
            words = " ".join(filter(None, described))
            cell.metadata.setdefault("mystnb", {}).setdefault("image", {}).setdefault("alt", words)


def solved(cell):
    """Whether the checkers that a cell calls, if any, say right."""
    said = str(cell.outputs)
    return "check(" not in cell.source or ("right:" in said and "not yet:" not in said)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="beginnings of names; default: all")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="notebooks at once")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "course", help="folder of the executed copies")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter of the kernels; it sees the packages of this one"
    )
    options = parser.parse_args()
    if options.python != sys.executable:
        os.environ["PYTHONPATH"] = os.pathsep.join([sysconfig.get_path("purelib"), os.environ.get("PYTHONPATH", "")])
    options.into.mkdir(parents=True, exist_ok=True)
    for name in ("PYNODE_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # the notebooks share the cores
    paths = [
        path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.name.startswith(tuple(options.names) or "")
    ]
    failed, begun = [], time.perf_counter()
    with ThreadPoolExecutor(options.jobs) as pool:  # the work is done by the kernels
        results = pool.map(lambda path: execute(path, options.into, options.python), paths)
        for path, (seconds, used, error) in zip(paths, results, strict=True):
            print(f"{path.name:36s} {used:6.1f} s of a core, {seconds:6.1f} s  {'failed' if error else 'ok'}", flush=True)
            if error:
                failed.append(path.name)
                print(error, flush=True)
    print(f"{len(paths)} notebooks, {time.perf_counter() - begun:.0f} s; failed: {', '.join(failed) or 'none'}")
    return bool(failed) or not paths


if __name__ == "__main__":
    sys.exit(main())
