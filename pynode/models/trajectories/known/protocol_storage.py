"""A protocol as plain data, and back, trusting nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.experiments.doses import Dose
from pynode.experiments.initial import Initial
from pynode.fields.constraints import bounded, positive
from pynode.fields.field import Field
from pynode.models.storage import MAX_TRAJECTORIES, of_type, stored_array, stored_field, texts
from pynode.models.trajectories.known.protocol import Protocol
from pynode.training.error_models import ERROR_MODELS
from pynode.training.noise import ROBUST

Array = NDArray[np.float64]

MOST_DOSES = 200_000
"""Most doses that the trajectories of a file are given in all."""


def protocol_to_dict(protocol: Protocol) -> dict[str, Any]:
    """A protocol as plain data and arrays."""
    initial = protocol.initial
    if sum(dose.count for own in protocol.doses for dose in own) > MOST_DOSES:
        raise ValueError(f"a model with more than {MOST_DOSES} doses is too large for a file")
    return {
        "observe": None if protocol.observe is None else protocol.observe.to_dict(),
        "formula": None if initial.formula is None else initial.formula.to_dict(),
        "known": initial.known,
        "told": initial.told.tolist(),
        "start": initial.start,
        "low": initial.low,
        "high": initial.high,
        "doses": [[dose.to_dict() for dose in own] for own in protocol.doses],
        "lag": {str(state): x for state, x in protocol.lag.items()},
        "bioavailability": {str(state): x for state, x in protocol.bioavailability.items()},
        "states": list(protocol.states),
        "noise": protocol.noise,
        "models": list(protocol.models),
        "first": protocol.first,
    }


def protocol_from_dict(stored: Any, field: Field) -> Protocol:
    """The protocol again; any exception where that is none."""
    n, d = len(stored["first"]), field.d
    if n > MAX_TRAJECTORIES:
        raise ValueError(f"there is a protocol for more than {MAX_TRAJECTORIES} trajectories")
    observe = _part(stored["observe"], field, None)
    formula = _part(stored["formula"], field, d)
    told = np.array(stored["told"], dtype=bool)
    if told.shape != (d,) or (told.any() and formula is None):
        raise ValueError("what is told of the initial states does not fit the field")
    limits = [np.asarray(stored[name], dtype=np.float64) for name in ("low", "high")]
    if any(x.shape != (d,) or np.isnan(x).any() for x in limits) or not (limits[0] < limits[1]).all():
        raise ValueError("the bounds of initial states make no sense")
    known = stored_array(stored["known"], (n, d), "known initial states", gaps=True)
    start = stored_array(stored["start"], (n, d), "starts of initial states", gaps=True)
    doses = tuple(tuple(Dose(**dose) for dose in own) for own in stored["doses"])
    if len(doses) != n or sum(dose.count for own in doses for dose in own) > MOST_DOSES:
        raise ValueError(f"there are doses for {len(doses)} trajectories of {n}, or more than {MOST_DOSES}")
    if stored["noise"] not in ROBUST or any(name not in ERROR_MODELS for name in stored["models"]):
        raise ValueError("there is no such error model")
    protocol = Protocol(
        field,
        observe,
        Initial(known, formula, told, start, *limits),
        doses,
        _by_state(stored["lag"], d),
        _by_state(stored["bioavailability"], d),
        texts(stored["states"], "names of states"),
        of_type(stored["noise"], str, "the noise"),
        texts(stored["models"], "error models"),
        stored_array(stored["first"], (n,), "the first times"),
    )
    if len(protocol.models) != protocol.n_measured or len(protocol.states) not in (0, d):
        raise ValueError("the error models or the names of states do not fit the field")
    protocol.schedule()  # checks states and names of parameters
    return protocol


def as_option(initial: Initial) -> Any:
    """The option `initial` that leads to this."""
    if initial.formula is not None:
        return initial.formula
    limited = np.isfinite(initial.low) | np.isfinite(initial.high)
    if not limited.any():
        return None if np.isnan(initial.known).all() else initial.known
    option: dict[int, Any] = {}
    for j, (low, high) in enumerate(zip(initial.low.tolist(), initial.high.tolist(), strict=True)):
        if not limited[j]:
            option[j] = None if np.isnan(initial.known[:, j]).any() else initial.known[:, j]
        else:
            option[j] = positive(initial.start[:, j]) if high == np.inf else bounded(initial.start[:, j], low, high)
    return option


def _part(stored: Any, field: Field, out: int | None) -> Field | None:
    """An observation function or a formula of initial states, a function of all parameters of the field."""
    if stored is None:
        return None
    part = stored_field(stored)
    if part.spec != field.spec or part.inputs not in (0, field.inputs) or (out is not None and part.n_out != out):
        raise ValueError(f"{part.name} does not fit the field")
    if out is None and part.d != field.d:
        raise ValueError(f"{part.name} is a function of {part.d} states, the field has {field.d}")
    return part


def _by_state(stored: Any, d: int) -> dict[Any, float | str]:
    """State -> number or name, of d states."""
    found: dict[Any, float | str] = {}
    if len(of_type(stored, dict, "a table by state")) > d:
        raise ValueError(f"a table by state has more than {d} entries")
    for state, x in stored.items():
        key = int(state) if state.isdecimal() else state
        if type(x) is not str and not 0 <= of_type(x, float, "a number by state") < np.inf:
            raise ValueError(f"a number by state is {x}: it must be finite and not negative")
        found[key] = x
    return found
