"""What fit.py and run.py share: processes of the peers, the machine, tables. Standard library only."""

import json
import os
import platform
import select
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import environments

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYNODE_NUM_THREADS")


def cpu_seconds(run, repeats, rounds=7):
    """CPU time of a call, the least of several rounds."""
    run()
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repeats):
            run()
        best = min(best, (time.process_time() - start) / repeats)
    return best


class Worker:
    """A process of worker.py in a peer's environment, with a bound on its threads.

    `path`: its PYTHONPATH; `command`: another file that answers requests, and its arguments. `ask(...)` gives the answer to
    a request; `first_answer` is the time from the start of the process to the answer to the first one, in seconds; `dead`:
    whether it ended on the way.
    """

    def __init__(self, python, peer, threads, scratch, path=None, command=None):
        settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        settings |= dict.fromkeys(THREAD_VARIABLES, str(threads)) | ({"PYTHONPATH": str(path)} if path else {})
        self.peer, self.first_answer, self.started = peer, None, time.time()
        self.dead = False
        self.log = open(Path(scratch) / f"{peer}.log", "w+", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self.process = subprocess.Popen(
            [python, *(command or [environments.FOLDER / "worker.py", peer, str(self.started)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=settings,
            cwd=scratch,
        )

    def ask(self, *request, within=None):
        """The answer. After `within` seconds the process is ended: TimeoutError."""
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            self._died(request)
        if within is not None and not select.select([self.process.stdout], [], [], within)[0]:
            self.dead = True
            self.process.kill()
            raise TimeoutError(f"not within {within:g} s")
        answer = self.process.stdout.readline()
        if not answer:
            self._died(request)
        if self.first_answer is None:
            self.first_answer = time.time() - self.started
        return json.loads(answer)

    def _died(self, request):
        self.dead = True
        self.process.wait()
        self.log.seek(0)
        raise SystemExit(f"{self.log.read()[-3000:]}\n{self.peer} died over {request}")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        if error[0] is not None or self.dead:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def add_options(parser, task, results):
    everyone = environments.peers(task)
    others = [name for name in everyone if name != environments.LIBRARY]
    parser.add_argument("--peers", nargs="*", choices=others, default=others, metavar="PEER", help=", ".join(others))
    parser.add_argument("--threads", type=int, default=1, help="for each library (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="less of everything: does it work?")
    parser.add_argument("--out", type=Path, default=environments.FOLDER / "results", help="folder of %(default)s")
    environments.add_options(parser)
    parser.set_defaults(task=task, results=results)


def interpreters(options):
    """{name: Python} of the library and the peers asked for."""
    everyone = environments.peers(options.task)
    names = [environments.LIBRARY, *options.peers]
    return {name: environments.interpreter(everyone[name], options.cache, options.pip) for name in names}


def describe(pythons, threads, scratch, path=None):
    """The machine and the versions, for the results."""
    about = {"cpu": cpu(), "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    about |= {"threads": threads, "date": datetime.now().isoformat(timespec="minutes"), "versions": {}}
    for name, python in pythons.items():
        with Worker(python, name, threads, scratch, path) as worker:
            about["versions"] |= worker.ask("versions")
    return about


def cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def keep(results, options, pythons):
    """Write the results, have them drawn in the library's environment, say where they are."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.results}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    picture = path.with_suffix(".png")
    subprocess.run([pythons[environments.LIBRARY], environments.FOLDER / "pictures.py", path, picture], check=True)
    print(f"\n{path}\n{picture}")


def table(header, rows):
    """Aligned columns, the first to the left; a row None is a line."""
    text = [[("" if cell is None else str(cell)) for cell in row] if row else None for row in [header, None, *rows]]
    widths = [max(len(row[k]) for row in text if row) for k in range(len(header))]
    for row in text:
        if row is None:
            print("  ".join("-" * width for width in widths))
        else:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            print("  ".join(cells).rstrip())


def progress(text):
    """One line on the terminal that the next replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
