"""The inputs that the fuzzer of the core kept, in one file: python tests/fuzz/corpus.py unpack|pack FOLDER

`corpus.bin` holds them one after the other, each behind its length in two bytes, the lower one first. libFuzzer wants a
file for each, which `unpack` writes; `pack` makes `corpus.bin` of the files in a folder. It is read by
`csrc/tests/test_corpus.c`.
"""

import hashlib
import sys
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus.bin")


def unpack(folder):
    """Write each input into the folder, under the name that libFuzzer gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = CORPUS.read_bytes()
    at = 0
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 2], "little")
        one = packed[at + 2 : at + 2 + size]
        (folder / hashlib.sha1(one, usedforsecurity=False).hexdigest()).write_bytes(one)
        at += 2 + size


def pack(folder):
    """Put the files of the folder into `corpus.bin`, ordered by name."""
    inputs = [path.read_bytes() for path in sorted(folder.iterdir())]
    CORPUS.write_bytes(b"".join(len(one).to_bytes(2, "little") + one for one in inputs))
    print(f"{len(inputs)} inputs, {CORPUS.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("pack", "unpack"):
        raise SystemExit(__doc__)
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]))
