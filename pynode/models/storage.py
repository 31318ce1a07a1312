"""What models read back from their files, checked: values, vectors, histories, reports, trajectories."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pynode.data.clock import Clock
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.optim.result import HISTORY

T = TypeVar("T")

REPORT: dict[str, type] = {
    "status": str,
    "message": str,
    "loss": float,
    "nfe": float,
    "seconds": float,
    "n_iter": int,
    "n_params": int,
    "n_samples": int,
    "n_failed": int,
    "random_state": int,
    "warnings": list,
    "version": str,
}
"""What the report of every model holds."""


MAX_TRAJECTORIES = 100_000
"""Most trajectories in a file: reading each takes some microseconds."""


MAX_INSTRUCTIONS = 100_000
"""Longest program of a field in a file."""


MAX_REGISTERS = 1 << 26
"""Most numbers that such a program keeps at a time, for one sample."""


# ---- Values


def of_type(value: Any, kind: type[T], what: str) -> T:
    """The value if it is of this type; for a float None is NaN, and an integer will do."""
    found: Any = value
    if kind is float:
        found = math.nan if value is None else value
        if type(found) is int and abs(found) < 2**53:
            found = float(found)
    if type(found) is not kind:
        raise ValueError(f"{what} is not of type {kind.__name__}")
    return found


def texts(values: Any, what: str) -> tuple[str, ...]:
    """A tuple of texts."""
    if not isinstance(values, list) or not all(type(value) is str for value in values):
        raise ValueError(f"{what} must be a list of texts, not {values!r}")
    return tuple(values)


def without_nan(value: Any) -> Any:
    """The same with None for numbers that JSON lacks."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# ---- Fields


def stored_field(stored: Any) -> Field:
    """A field from a file, if its program is of a size that is worth checking."""
    program = stored["program"]
    code, sizes = program["code"], program["sizes"]
    if not isinstance(code, np.ndarray) or len(code) > MAX_INSTRUCTIONS:
        raise ValueError(f"the program of the field must be an array of at most {MAX_INSTRUCTIONS} instructions")
    if not all(type(n) is int and n >= 0 for n in sizes) or sum(sizes) > MAX_REGISTERS:
        raise ValueError(f"the registers of the field must hold at most {MAX_REGISTERS} numbers together")
    field = Field.from_dict(stored)
    offset = 0
    for p in field.spec:
        if p.offset != offset or not all(type(n) is int and n >= 0 for n in p.shape):
            raise ValueError(f"the parameter {p.name!r} of the field does not begin where the one before it ends")
        kind, value = p.init
        drawn = kind == "normal" and type(value) in (int, float) and math.isfinite(value)
        given = kind == "value" and isinstance(value, list) and len(value) == p.size
        if not (drawn or (given and all(type(x) in (int, float) for x in value))):
            raise ValueError(f"the parameter {p.name!r} of the field has no initial value")
        offset = p.stop
    return field


def n_of_layers(*widths: int) -> int:
    """How many parameters a network of these widths has, each layer with biases."""
    return sum((n + 1) * m for n, m in pairwise(widths))


def check_implied(n_params: int, theta: Any) -> None:
    """Before networks are made that a file's options describe: whether they are those to which its parameters belong."""
    if np.shape(theta) != (n_params,):
        raise ValueError(f"theta has shape {np.shape(theta)}, but the options describe networks of {n_params} parameters")


# ---- Arrays


def stored_array(array: Any, shape: tuple[int, ...], what: str, gaps: bool = False) -> NDArray[np.float64]:
    """An array from a file, if it is finite (or NaN, with gaps) and of this shape."""
    good = isinstance(array, np.ndarray) and array.dtype == np.float64 and array.shape == shape
    if not good or not (np.isfinite(array) | (gaps & np.isnan(array))).all():
        raise ValueError(f"{what} must be finite and of shape {shape}")
    made: NDArray[np.float64] = array
    return made


def optional_array(array: Any, shape: tuple[int, ...], what: str, gaps: bool = False) -> NDArray[np.float64] | None:
    """The same, or None."""
    return None if array is None else stored_array(array, shape, what, gaps)


def stored_history(stored: Any, more: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """A history from a file: vectors of one length; more: names besides those that every model has."""
    history = {name: stored[name] for name in (*HISTORY, *more)}
    shape = np.shape(history["loss"])
    if any(not isinstance(x, np.ndarray) or x.ndim != 1 or x.shape != shape for x in history.values()):
        raise ValueError("the history must be vectors of one length")
    return history


def stored_report(stored: Any, more: dict[str, type], names: Sequence[str] = ()) -> dict[str, Any]:
    """A report from a file.

    Parameters
    ----------
    stored : object
    more : dict
        Types by name of what this model has besides REPORT; a dict is a number for each of `names`.
    names : sequence of str
        States.
    """
    stored = of_type(stored, dict, "the report")
    kinds = REPORT | more
    report: dict[str, Any] = {
        name: of_type(stored[name], kinds[name], f"{name} of the report") for name in stored if name in kinds
    }
    if report.keys() != kinds.keys():
        raise ValueError(f"the report lacks {', '.join(kinds.keys() - report.keys())}")
    report["warnings"] = list(texts(report["warnings"], "the warnings of the report"))
    for name, kind in kinds.items():
        if kind is dict:
            if tuple(report[name]) != tuple(names):
                raise ValueError(f"{name} of the report is not by state")
            report[name] = {state: of_type(x, float, name) for state, x in report[name].items()}
    return report


# ---- Trajectories


def data_to_dict(data: Trajectories) -> dict[str, Any]:
    """Trajectories as plain data and arrays."""
    if len(data) > MAX_TRAJECTORIES:
        raise ValueError(f"a file holds at most {MAX_TRAJECTORIES} trajectories, not {len(data)}: save(..., data=False)")
    return {
        "t": np.concatenate(data.t),
        "y": np.concatenate(data.y),
        "lengths": np.array(data.lengths, dtype=np.int64),
        "ids": [i if isinstance(i, (str, int)) else str(i) for i in data.ids],
        "signal": None if data.signal is None else _signal_to_dict(data.signal),
        "input_names": list(data.input_names),
        "id_name": data.id_name,
        "repeated": data.repeated,
        "censored": None if data.censored is None else np.concatenate(data.censored),
        "doses": None if data.doses is None else [[dict(dose) for dose in own] for own in data.doses],
        "covariates": data.covariates,
        "covariate_names": list(data.covariate_names),
    }


def data_from_dict(stored: Any, names: tuple[str, ...], time_name: str, clock: Clock | None = None) -> Trajectories:
    """Trajectories from a file."""
    t, y = stored["t"], stored["y"]
    lengths = stored["lengths"]
    if lengths.ndim != 1 or (lengths < 1).any() or lengths.sum() != len(t) or y.shape != (len(t), len(names)):
        raise ValueError("the lengths of the trajectories do not fit the data")
    if len(stored["ids"]) != len(lengths) or len(lengths) > MAX_TRAJECTORIES:
        raise ValueError(f"{len(lengths)} trajectories have {len(stored['ids'])} ids; there may be {MAX_TRAJECTORIES}")
    if not all(type(i) in (str, int) for i in stored["ids"]):
        raise ValueError("ids must be strings or integers")
    cuts = np.cumsum(lengths)[:-1]
    times, values = tuple(np.split(t, cuts)), tuple(np.split(y, cuts))
    marks = stored["censored"]
    if marks is not None and (marks.dtype != np.int64 or marks.shape != y.shape):
        raise ValueError("the marks of censored readings do not fit the data")
    covariate_names = texts(stored["covariate_names"], "the names of covariates")
    return Trajectories(
        times,
        values,
        names,
        time_name,
        tuple(stored["ids"]),
        _signal_from_dict(stored["signal"]),
        texts(stored["input_names"], "the names of inputs"),
        None if stored["id_name"] is None else of_type(stored["id_name"], str, "the name of ids"),
        clock,
        of_type(stored["repeated"], bool, "whether times repeat"),
        None if marks is None else tuple(np.split(marks, cuts)),
        None if stored["doses"] is None else _doses_from_list(stored["doses"], len(lengths)),
        optional_array(stored["covariates"], (len(lengths), len(covariate_names)), "the covariates", gaps=True),
        covariate_names,
    )


def _doses_from_list(stored: Any, n: int) -> tuple[tuple[dict[str, Any], ...], ...]:
    """Doses of each of n trajectories from a file: numbers and texts by name."""
    if not isinstance(stored, list) or len(stored) != n or not all(isinstance(own, list) for own in stored):
        raise ValueError(f"there must be a list of doses for each of {n} trajectories")
    for dose in (dose for own in stored for dose in own):
        if not isinstance(dose, dict) or not all(type(x) in (int, float, str, type(None)) for x in dose.values()):
            raise ValueError("a dose must consist of numbers and texts")
        if any(type(x) is float and not math.isfinite(x) for x in dose.values()):
            raise ValueError("the numbers of a dose must be finite")
    return tuple(tuple(own) for own in stored)


def _signal_to_dict(signal: Signal) -> dict[str, Any]:
    return {
        "kind": signal.kind,
        "knots": signal.knots,
        "shared": signal.shared,
        "t": None if signal.kind == "constant" else np.concatenate(signal.t),
        "u": np.concatenate(signal.u),
        "lengths": np.array([len(u) for u in signal.u], dtype=np.int64),
    }


def _signal_from_dict(stored: Any) -> Signal | None:
    if stored is None:
        return None
    t, u = stored["t"], stored["u"]
    lengths = stored["lengths"]
    if lengths.ndim != 1 or (lengths < 1).any() or lengths.sum() != len(u) or not np.isfinite(u).all():
        raise ValueError("the control inputs make no sense")
    if len(lengths) > MAX_TRAJECTORIES:
        raise ValueError(f"there are control inputs for more than {MAX_TRAJECTORIES} trajectories")
    cuts = np.cumsum(lengths)[:-1]
    us = np.split(u, cuts)
    if stored["kind"] == "constant":
        return Signal(None, us[0][0] if stored["shared"] else [v[0] for v in us], "constant")
    ts = np.split(t, cuts)
    knots = stored.get("knots", "auto")
    return Signal(ts[0], us[0], stored["kind"], knots) if stored["shared"] else Signal(ts, us, stored["kind"], knots)
