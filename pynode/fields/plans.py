"""What is kept with a field for later calls (`Plans`), and what Python functions read while they are traced (`Reading`)."""

from __future__ import annotations

import dis
from collections.abc import Iterable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

MOST = 16
"""So many plans of a field are kept."""


class Plans(dict[Any, Any]):
    """What earlier calls found out, by what was asked; see `pynode.calls.cache`."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self and len(self) >= MOST:
            self.clear()
        super().__setitem__(key, value)


MISSING = object()

NUMBERS = (bool, int, float, complex, str, type(None))

LIBRARIES = ("builtins", "math", "numpy", "pynode")
"""Modules whose functions and constants nobody changes."""

OF_LIBRARIES = (ModuleType, FunctionType, BuiltinFunctionType, type, type(np.where))

IMPORT = dis.opmap["IMPORT_NAME"]


class Reading:
    """What functions read besides their arguments: whether tracing them once more would give the same.

    Parameters
    ----------
    functions : iterable
        Functions, or objects of the types `fixed`.
    fixed : tuple of type
        Whose objects never change.

    Attributes
    ----------
    known : bool
        False where something may change unseen: an array, an attribute, an object that is called.
    """

    def __init__(self, functions: Iterable[Any], fixed: tuple[type, ...]) -> None:
        self.known = True
        self._fixed = (*fixed, np.number, np.bool_, np.ufunc)
        self._places: list[tuple[Any, str, Any]] = []  # (what holds a value, its name there, the value)
        self._seen: set[int] = set()
        for function in functions:
            self._value(function)

    def same(self) -> bool:
        """Whether all of it is what it was."""
        return all(_held(holder, name) is value for holder, name, value in self._places)

    def _place(self, holder: Any, name: str) -> Any:
        value = _held(holder, name)
        self._places.append((holder, name, value))
        return value

    def _value(self, value: Any) -> None:
        module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(value, OF_LIBRARIES) and str(module).partition(".")[0] in LIBRARIES:
            return
        if type(value) in NUMBERS or isinstance(value, self._fixed) or id(value) in self._seen:
            return
        if not isinstance(value, FunctionType) or value.__kwdefaults__ or value.__dict__:
            self.known = False
            return
        self._seen.add(id(value))
        code = self._place(value, "__code__")
        for default in self._place(value, "__defaults__") or ():
            self._value(default)
        for cell in value.__closure__ or ():
            self._value(self._place(cell, "cell_contents"))
        self._code(code, value.__globals__)

    def _code(self, code: CodeType, names: dict[str, Any]) -> None:
        self.known &= IMPORT not in code.co_code[::2]
        for name in code.co_names:  # attributes among them, which does no harm
            value = self._place(names, name)
            if value is not MISSING:
                self._value(value)
        for part in code.co_consts:
            if isinstance(part, CodeType):
                self._code(part, names)


def _held(holder: Any, name: str) -> Any:
    if type(holder) is dict:
        return holder.get(name, MISSING)
    try:
        return getattr(holder, name)
    except ValueError:  # a cell that is empty
        return MISSING
