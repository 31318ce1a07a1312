"""Fuzzing through the public API: python tests/fuzz/run.py [section ...] --count 10000 --seed 0

Sections: calls (solve, loss_and_grad, sensitivities with odd arrays and all options), fields (random traced fields, against
plain NumPy), files (model files and checkpoints), csv (tables), cli (arguments of the command line), threads (50 of them).

A case is a number; all of it is drawn from (section, seed, case), so that one alone can be run again:
python tests/fuzz/run.py calls --case 1234. Each section runs in a child; where that crashes, takes ten seconds or
something is broken, the case is told and the next one goes on. Exits with 1 if there was any.
"""

import argparse
import faulthandler
import importlib
import signal
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

HANGS = 10
"""Seconds of the processor after which a case is taken to hang ..."""

WAITS = 120
"""... or these by the clock."""

SECTIONS = ("calls", "fields", "files", "csv", "cli", "threads")

BATCH = 2000
"""Cases of one child."""


def child(section, seed, first, count):
    """Cases first .. first + count; ends at the first that is broken, with its number as the last line."""
    sys.path.insert(0, str(Path(__file__).parent))
    case = importlib.import_module(f"fuzz_{section}").case
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    faulthandler.register(signal.SIGPROF, chain=True)
    for k in range(first, first + count):
        print(k, flush=True)
        faulthandler.dump_traceback_later(WAITS, exit=True)
        signal.setitimer(signal.ITIMER_PROF, HANGS)
        case(np.random.default_rng([zlib.crc32(section.encode()), seed, k]))
        faulthandler.cancel_dump_traceback_later()
    return 0


def run(section, seed, count, first=0):
    """(cases done, numbers of those that are broken)."""
    done, broken = first, []
    while done < count:
        some = min(BATCH, count - done)
        command = [sys.executable, "-X", "faulthandler", __file__, section, "--child", f"{seed},{done},{some}"]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if ended.returncode == 0:
            done += some
            continue
        numbers = [line for line in ended.stdout.splitlines() if line.isdigit()]
        case = int(numbers[-1]) if numbers else done
        broken.append(case)
        print(f"{section} {case} (seed {seed}): exit {ended.returncode}\n{ended.stderr[-1800:]}", flush=True)
        done = case + 1
        if len(broken) > 20:
            break
    return done - first, broken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=SECTIONS, metavar="section")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.sections[0], *map(int, given.child.split(",")))
    if given.case is not None:
        return child(given.sections[0], given.seed, given.case, 1)
    failed = 0
    for section in given.sections:
        start = time.monotonic()
        count = given.count if section != "threads" else max(1, given.count // 200)
        done, broken = run(section, given.seed, count)
        failed += len(broken)
        print(f"{section}: {done} cases in {time.monotonic() - start:.0f} s, {len(broken)} broken", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
