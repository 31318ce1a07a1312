"""A field as JSON text, for other programs than Python: what `Field.to_json` writes and `Field.from_json` reads.

The schema is in docs/export.md. A text may come from anywhere: this file checks types and lengths, the core the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

FORMAT = "pynode-field"

VERSION = 1

LARGEST = 64 * 1024 * 1024
"""Characters of a text at most."""

LONGEST_ARRAY = 1 << 24
"""Numbers of an array at most."""

NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""Numbers that JSON has no digits for."""

INT32 = 2**31


def to_text(data: Mapping[str, Any]) -> str:
    """The text of what `Field.to_dict` gave."""
    import json  # few want it, and it takes a tenth of the first solve's imports

    program = data["program"]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": data["name"],
        "out_shape": data["out_shape"],
        "parameters": [
            {"name": name, "shape": shape, "offset": offset, "init": _plain(init), "constraint": _plain(constraint)}
            for name, shape, offset, init, constraint in data["spec"]
        ],
        "states": [{"name": name, "start": start, "constraint": _plain(limits)} for name, start, limits in data["states"]],
        "program": {key: _plain(value.tolist() if hasattr(value, "tolist") else value) for key, value in program.items()},
    }
    return json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Lists and numbers; infinite ones and NaN as text."""
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def from_text(text: str | bytes) -> dict[str, Any]:
    """What `Field.from_dict` takes, from a text of this schema.

    Raises
    ------
    ValueError
        The text is not of this schema; the message names the place.
    """
    content = _members(_parsed(text), "the field", TOP)
    if content["format"] != FORMAT:
        raise ValueError(f"from_json: format is {content['format']!r}, not {FORMAT!r}: this is no field of pynode")
    if content["version"] != VERSION:
        raise ValueError(f"from_json: version is {content['version']!r}; this version of pynode reads {VERSION}")
    program = _members(content["program"], "program", PROGRAM)
    parameters = [_members(p, f"parameters[{i}]", PARAMETER) for i, p in enumerate(content["parameters"])]
    states = [_members(s, f"states[{i}]", STATE) for i, s in enumerate(content["states"])]
    stop = 0
    for i, p in enumerate(parameters):
        size = math.prod(p["shape"])
        if p["offset"] != stop or size > LONGEST_ARRAY:
            raise ValueError(f"from_json: parameters[{i}]: offset is {p['offset']} with {size} numbers; it must be {stop}")
        if p["init"][0] == "value" and len(p["init"][1]) != size:
            raise ValueError(f"from_json: parameters[{i}]: init has {len(p['init'][1])} numbers, the parameter {size}")
        stop += size
    return {
        "name": content["name"],
        "out_shape": content["out_shape"],
        "program": program,
        "spec": [[p["name"], p["shape"], p["offset"], p["init"], p["constraint"]] for p in parameters],
        "states": [[s["name"], s["start"], s["constraint"]] for s in states],
    }


def _parsed(text: Any) -> Any:
    import json

    if not isinstance(text, (str, bytes)):
        raise TypeError(f"from_json takes a text, not {type(text).__name__}: read the file first")
    if len(text) > LARGEST:
        raise ValueError(f"from_json: the text has {len(text)} characters, more than {LARGEST}")
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ValueError(f"from_json: this is no JSON text: {error}") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


# ---- Checks: each takes a value and the name of its place, and returns the value as Field.from_dict wants it


def _wrong(value: Any, where: str, wanted: str) -> ValueError:
    shown = repr(value)
    return ValueError(f"from_json: {where} must be {wanted}, not {shown if len(shown) < 60 else shown[:57] + '...'}")


def _members(value: Any, where: str, table: Mapping[str, Callable[[Any, str], Any]]) -> dict[str, Any]:
    """An object with these members, each checked."""
    if not isinstance(value, dict):
        raise _wrong(value, where, "an object")
    missing, unknown = sorted(table.keys() - value.keys()), sorted(value.keys() - table.keys())
    if missing or unknown:
        raise ValueError(f"from_json: {where}: members missing: {missing}, unknown: {[name[:40] for name in unknown[:8]]}")
    return {name: check(value[name], f"{where}.{name}") for name, check in table.items()}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, where, "a text")
    return value


def _whole(value: Any, where: str) -> int:
    if type(value) is not int or not -INT32 <= value < INT32:
        raise _wrong(value, where, "a whole number of 32 bits")
    return value


def _counts(value: Any, where: str) -> list[int]:
    found = _wholes(value, where)
    if min(found, default=0) < 0:
        raise _wrong(value, where, "a list of numbers that are not negative")
    return found


def _number(value: Any, where: str) -> float:
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _wrong(value, where, "a number, 'inf', '-inf' or 'nan'")
    return float(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > LONGEST_ARRAY:
        raise _wrong(value, where, "a list")
    return value


def _wholes(value: Any, where: str) -> list[int]:
    return [_whole(x, f"{where}[{i}]") for i, x in enumerate(_list(value, where))]


def _numbers(value: Any, where: str) -> list[float]:
    return [_number(x, f"{where}[{i}]") for i, x in enumerate(_list(value, where))]


def _texts(value: Any, where: str) -> list[str]:
    return [_text(x, f"{where}[{i}]") for i, x in enumerate(_list(value, where))]


def _code(value: Any, where: str) -> list[list[int]]:
    rows = [_wholes(row, f"{where}[{i}]") for i, row in enumerate(_list(value, where))]
    for i, row in enumerate(rows):
        if len(row) != 8:
            raise _wrong(row, f"{where}[{i}]", "eight numbers: op, out, a, b, c, p, q, k")
    return rows


def _init(value: Any, where: str) -> list[Any]:
    kind, what = _list(value, where) if isinstance(value, list) and len(value) == 2 else (None, None)
    if kind == "value":
        return [kind, _numbers(what, f"{where}[1]")]
    if kind == "normal":
        return [kind, _number(what, f"{where}[1]")]
    raise _wrong(value, where, "['normal', deviation] or ['value', [numbers]]")


def _constraint(value: Any, where: str) -> list[Any]:
    found = _list(value, where)
    kind = found[0] if found and isinstance(found[0], str) else None
    if len(found) != {"free": 1, "positive": 1, "frozen": 1, "bounded": 3}.get(kind or "", -1):
        raise _wrong(value, where, "['free'], ['positive'], ['frozen'] or ['bounded', low, high]")
    return [kind, *_numbers(found[1:], where)]


def _limits(value: Any, where: str) -> list[Any]:
    found = _constraint(value, where)
    if found[0] == "frozen":
        raise _wrong(value, where, "['free'], ['positive'] or ['bounded', low, high]")
    return found


def _start(value: Any, where: str) -> float | None:
    return None if value is None else _number(value, where)


TOP = {
    "format": _text,
    "version": _whole,
    "name": _text,
    "out_shape": _counts,
    "parameters": _list,
    "states": _list,
    "program": lambda value, where: value,
}

PARAMETER = {"name": _text, "shape": _counts, "offset": _whole, "init": _init, "constraint": _constraint}

STATE = {"name": _text, "start": _start, "constraint": _limits}

PROGRAM = {
    "ops": _texts,
    "sizes": _counts,
    "n_slots": _whole,
    "code": _code,
    "consts": _numbers,
    "index": _wholes,
    "outputs": _wholes,
    "n_theta": _counts,
    "n_grad": _counts,
    "segments": _counts,
}
