"""From tensors to arrays and back."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pynode.data.arrays import real_array
from pynode.errors import users_level

FLOATS = (torch.float32, torch.float64)

WARNED: set[str] = set()
"""Devices that a warning has named."""


def to_array(x: Any) -> NDArray[Any]:
    """The numbers of a tensor: its own memory where it is on the CPU and contiguous."""
    a = x.detach() if x.requires_grad else x
    if not a.is_cpu:
        _warn_of_copies(a.device.type)
        a = a.cpu()
    array: NDArray[Any] = a.numpy()
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _warn_of_copies(device: str) -> None:
    """Once for each kind of device."""
    if device in WARNED:
        return
    WARNED.add(device)
    warnings.warn(
        f"pynode solves on the CPU: tensors on {device!r} are copied there and back in every call. Move the part of the "
        "model around the equation to the CPU if it is small",
        UserWarning,
        stacklevel=users_level(),
    )


def to_tensor(x: NDArray[Any], like: Any) -> Any:
    """An array as a tensor of the type and on the device of `like`, without a copy where that is possible."""
    y = torch.from_numpy(x)
    return y if like.is_cpu and y.dtype == like.dtype else y.to(device=like.device, dtype=like.dtype)


def as_tensor(name: str, x: Any, dtype: Any = None, device: Any = None) -> Any:
    """A tensor of float32 or float64; arrays and lists become one.

    Raises
    ------
    TypeError
        It holds other numbers.
    """
    if not isinstance(x, torch.Tensor):
        x = torch.tensor(real_array(name, x), device=device)
    elif x.dtype not in FLOATS:
        if x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool:
            raise TypeError(
                f"{name} is a tensor of {x.dtype}: give float32 or float64, for example {name}.to(torch.float32)"
            )
        x = x.to(torch.float64)
    return x if dtype is None or x.dtype == dtype else x.to(dtype)
