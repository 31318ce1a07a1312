"""Solves as parts of models in PyTorch; see docs/torch.md.

    y = pynode.torch.odeint(f, y0, t, theta)              # tensors in and out, differentiable
    block = pynode.torch.ODEBlock(f)                      # a torch.nn.Module: a layer
    f, theta = pynode.torch.from_torch(module)            # a module as a field, and back: to_torch
    from pynode.torch.diffeq import odeint                # torchdiffeq's calls

torch is imported here, and by no other part of pynode.
"""

import importlib
import importlib.util

_FOUND = importlib.util.find_spec("torch")
if _FOUND is None or _FOUND.origin is None:  # a folder of that name is not it
    raise ImportError("pynode.torch needs PyTorch, which is not installed here: pip install torch")

_HOMES = {
    "pynode.torch.solves": ["odeint"],
    "pynode.torch.block": ["ODEBlock"],
    "pynode.torch.modules": ["from_torch"],
    "pynode.torch.program_module": ["ProgramModule", "to_torch"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME, "diffeq"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name == "diffeq":
        value = importlib.import_module("pynode.torch.diffeq")
    else:
        raise AttributeError(f"module 'pynode.torch' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
