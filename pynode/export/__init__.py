"""Fields and models for places without Python: `c`, `html`, `sympy`.

Everything is imported when it is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynode.export.c_file import c
    from pynode.export.page import html
    from pynode.export.symbolic import sympy

__all__ = ["c", "html", "sympy"]

_HOME = {"c": "c_file", "html": "page", "sympy": "symbolic"}


def __getattr__(name: str) -> object:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'pynode.export' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"pynode.export.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
