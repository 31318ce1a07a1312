"""Sees a slowdown without a clock: instructions of the core for small forms of the six cases, for two other activations, for
fields of constants and for a matrix that is computed of parameters, against stored counts.

    python benchmarks/guard.py             # exit status 1 if some count is more than 5 % above the stored one
    python benchmarks/guard.py --update    # after a change that is meant: store the counts, commit the file

The core is built by csrc/tests/Makefile without Python, and run by `valgrind --tool=callgrind` on the instruction sets
that valgrind knows (it has no AVX-512), each call of pn_solve by itself. Counts do not depend on the processor or on what
else it does. They do depend on the compiler: counts.json holds a table for each; with another one, or without valgrind,
nothing is checked, and this is said. Standard library only.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = Path(__file__).with_name("counts.json")
ISAS = ("baseline", "avx2")
ROOM = 0.05
"""Relative; what one case may cost more. Libraries of C differ by less."""


def build(folder):
    """The program csrc/tests/work.c in the folder, where `make check` may have built the core already."""
    jobs = str(os.cpu_count() or 1)
    command = ["make", "-s", "-C", ROOT / "csrc/tests", "-j", jobs, f"BUILD={folder}", f"{folder}/work"]
    subprocess.run(command, check=True)
    return folder / "work"


def count(program, isa, names, folder):
    """{case and what: instructions}, or None where the processor lacks the instruction set."""
    if subprocess.run([program, isa]).returncode:
        return None
    valgrind = ["valgrind", "--tool=callgrind", "--toggle-collect=pn_solve", "--dump-after=pn_solve", "-q"]
    subprocess.run([*valgrind, f"--callgrind-out-file={folder}/{isa}", program, isa], check=True, capture_output=True)
    calls = [f"{name} {what}" for name in names for what in ("solve", "gradient")]
    totals = []
    for k in range(len(calls)):
        text = (folder / f"{isa}.{k + 1}").read_text()
        totals.append(int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1]))
    return dict(zip(calls, totals, strict=True))


def compiler():
    """Name and version, and the machine it makes code for."""
    cc = os.environ.get("CC", "cc")
    first = subprocess.run([cc, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    machine = subprocess.run([cc, "-dumpmachine"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{first}, {machine}"


def compare(found, stored):
    """Whether all is well; prints a table."""
    good = True
    print(f"{'':20}{'stored':>14}{'now':>14}")
    for isa, counts in found.items():
        for name, now in counts.items():
            old = stored.get(isa, {}).get(name)
            change = now / old - 1 if old else 0.0
            note = "new" if not old else "SLOWER" if change > ROOM else "faster: --update" if change < -ROOM else ""
            good = good and change <= ROOM and old is not None
            print(f"{isa + ' ' + name:28}{old or '-':>14}{now:>14}  {change:+7.1%}  {note}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="store the counts of this compiler")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="of objects, as BUILD of csrc/tests/Makefile")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("left out: no valgrind")
        return True
    stored, mine = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}, compiler()
    if mine not in stored and not options.update:
        print(f"left out: no counts for {mine} (there are some for {'; '.join(stored)}); guard.py --update makes them")
        return True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        program = build(options.build.resolve() if options.build else folder)
        names = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
        counted = {isa: count(program, isa, names, folder) for isa in ISAS}
    found = {isa: counts for isa, counts in counted.items() if counts}
    good = compare(found, stored.get(mine, {}))
    if options.update:
        COUNTS.write_text(json.dumps(stored | {mine: found}, indent=1) + "\n")
        print(f"stored in {COUNTS}")
        return True
    return good


if __name__ == "__main__":
    raise SystemExit(not main())
