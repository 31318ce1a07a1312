"""Tables of odd text: read, or refused with words that say why."""

import tempfile
from pathlib import Path

from odd import is_answer, one_of

import pynode as pn

PATH = Path(tempfile.mkdtemp(), "table.csv")
CELLS = (
    "1",
    "2.5",
    "-3e5",
    "",
    "NA",
    "nan",
    "inf",
    "1,5",
    "1 000",
    "2020-01-01",
    "01/02/2021 10:00",
    "<0.5",
    '"x"',
    '"',
    "é",
    "\x00",
)
CELLS += ("1e400", "--1", "0x10", "١", "1_000", "#", "=1+1", "9" * 400, "a\nb", "\ufeff", "1;2", "\t")
NAMES = ("time", "x", "y", "id", "u", "", "time", "X", " x", "x [m]", "état")
ENCODINGS = ("utf-8", "utf-16", "latin-1", "utf-8-sig")


def table(rng):
    """Mostly a table; sometimes noise."""
    columns = int(rng.integers(1, 6))
    separator = one_of(rng, ",", ",", ";", "\t", " ", "|")
    lines = [
        separator.join(
            ["time", "x", "y", "id", "u"][:columns] if rng.random() < 0.7 else [one_of(rng, *NAMES) for _ in range(columns)]
        )
    ]
    for k in range(int(rng.integers(0, 12))):
        cells = [str(k * 0.5 + (rng.random() < 0.05))] + [f"{rng.normal():.3g}" for _ in range(columns - 1)]
        while rng.random() < 0.25:
            cells[rng.integers(columns)] = one_of(rng, *CELLS)
        if rng.random() < 0.05:
            cells = cells[: rng.integers(0, columns + 1)] + ["7"] * int(rng.integers(0, 3))
        lines.append(separator.join(cells))
    text = one_of(rng, "\n", "\n", "\r\n", "\r").join(lines)
    data = text.encode(one_of(rng, *ENCODINGS), errors="replace")
    if rng.random() < 0.1:
        data = bytearray(data)
        for _ in range(3):
            if data:
                data[rng.integers(len(data))] = int(rng.integers(256))
    return bytes(data)


def case(rng):
    PATH.write_bytes(table(rng))
    options = {}
    if rng.random() < 0.3:
        options["id"] = one_of(rng, "id", "no", "x")
    if rng.random() < 0.2:
        options["input"] = one_of(rng, "u", ["u"], "no")
    if rng.random() < 0.2:
        options["separator"] = one_of(rng, ",", ";", "", ",,", "\n")
    if rng.random() < 0.2:
        options["decimal"] = one_of(rng, ",", ".", "x", "")
    if rng.random() < 0.2:
        options["thousands"] = one_of(rng, ",", " ", ".")
    if rng.random() < 0.2:
        options["encoding"] = one_of(rng, *ENCODINGS, "no")
    if rng.random() < 0.2:
        options["missing"] = one_of(rng, "NA", ["1", "2.5"], 3, "")
    if rng.random() < 0.2:
        options["units_row"] = one_of(rng, True, False)
    if rng.random() < 0.2:
        options["date_format"] = one_of(rng, "%Y-%m-%d", "iso", "%", "dmy")
    if rng.random() < 0.2:
        options["replicates"] = one_of(rng, "keep", "mean", "refuse", "no")
    if rng.random() < 0.1:
        options["censored"] = True
    if rng.random() < 0.1:
        options["wide"] = True
    try:
        data = pn.read_csv(PATH, "time", one_of(rng, "x", ["x", "y"], "no", []), **options)
        assert len(data.t) == len(data.y)
        assert all(t.shape[0] == y.shape[0] for t, y in zip(data.t, data.y, strict=True))
    except BaseException as error:
        assert is_answer(error) or isinstance(error, LookupError), f"{type(error).__name__}: {error}"
