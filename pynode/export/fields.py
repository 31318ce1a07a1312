"""A field as JSON, as the JavaScript module of wasm/ reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pynode.fields.field import Field


def _plain(x: Any) -> Any:
    """Arrays as lists, numbers that JSON has no word for as text."""
    if isinstance(x, np.ndarray):
        return _plain(x.tolist())
    if isinstance(x, dict):
        return {name: _plain(value) for name, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    if isinstance(x, float) and not np.isfinite(x):
        return {np.inf: "Infinity", -np.inf: "-Infinity"}.get(x, "nan")
    return x


def field_data(field: Field) -> dict[str, Any]:
    """What `Field.to_dict` gives, with the times at which the field changes its form, as JSON has it.

    Parameters
    ----------
    field : Field
        A traced field or a network.

    Returns
    -------
    dict
        Numbers, strings, lists and dictionaries.
    """
    data: dict[str, Any] = _plain(field.to_dict() | {"breaks": field.program.breaks})
    return data


def field_json(field: Field) -> str:
    """`field_data` as text.

    Parameters
    ----------
    field : Field
        A traced field or a network.

    Returns
    -------
    str
    """
    return json.dumps(field_data(field), allow_nan=False)
