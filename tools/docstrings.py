"""Docstrings of public names: python tools/docstrings.py [--json | --run]

Public are the names of pynode, those of its public modules (pynode.fit, ...), and the public methods and properties of the
classes among them, inherited ones included. The pynode that is imported is the installed one, or that of PYTHONPATH.

    python tools/docstrings.py           what numpydoc finds in them, and which have no example
    python tools/docstrings.py --json    the same for tools/structure.py
    python tools/docstrings.py --run     run every example (doctest), in an empty folder
"""

import argparse
import doctest
import importlib
import inspect
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpydoc.validate import validate

import pynode

CHECKS = {
    "GL06": "unknown section",
    "GL07": "sections in the wrong order",
    "GL08": "no docstring",
    "SS01": "no summary",
    "PR01": "parameters that are not documented",
    "PR02": "documented parameters that do not exist",
    "PR03": "parameters in another order",
    "PR04": "a parameter without its type",
    "PR07": "a parameter without a description",
    "PR10": "no space before the colon of a parameter",
    "RT01": "no Returns",
    "YD01": "no Yields",
}
"""The checks of numpydoc that are made. The others are about commas, capitals and full stops, ask for long summaries, or
want the summary on the second line."""


@dataclass(frozen=True)
class Public:
    """A public object, the path by which it is imported, and whether it is more than a method."""

    path: str
    thing: object
    top: bool

    @property
    def place(self) -> str:
        """Where it is defined, without the name of the package: engine.solution.Solution."""
        thing = getattr(self.thing, "fget", None) or getattr(self.thing, "func", None) or self.thing
        module = (getattr(thing, "__module__", None) or "pynode").removeprefix("pynode").lstrip(".")
        return f"{module}.{getattr(thing, '__qualname__', self.path.split('.')[-1])}"


def members(owner: str, thing: type) -> Iterator[Public]:
    """Public methods and properties of a class, those of its bases in pynode included."""
    seen = set()
    for base in thing.__mro__:
        if not base.__module__.startswith("pynode"):
            continue
        for name, value in vars(base).items():
            is_method = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
            if is_method and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield Public(f"{owner}.{name}", getattr(base, name), top=False)


def public_objects() -> list[Public]:
    """Everything public that has a docstring of its own; an object that has two names once."""
    names = [f"pynode.{name}" for name in pynode.__all__ if not name.startswith("_")]
    found: list[Public] = []
    for path in names:
        thing = getattr(pynode, path.removeprefix("pynode."))
        if inspect.ismodule(thing):
            module = importlib.import_module(path)
            found += [Public(f"{path}.{name}", getattr(module, name), True) for name in module.__all__]
        else:
            found.append(Public(path, thing, True))
    documented = [one for one in found if inspect.isroutine(one.thing) or inspect.isclass(one.thing)]
    for one in list(documented):
        if inspect.isclass(one.thing):
            documented += members(one.path, one.thing)
    unique = {id(one.thing) if one.top else one.place: one for one in reversed(documented)}
    return list(reversed(unique.values()))


def is_result(thing: object) -> bool:
    """Whether a class is made by the library alone: it documents its attributes, and no parameters of its constructor."""
    text = inspect.getdoc(thing) or ""
    return inspect.isclass(thing) and "\nAttributes\n---" in text and "\nParameters\n---" not in text


def problems() -> dict[str, list[str]]:
    """Title -> what is wrong, each beginning with the place."""
    wrong, without_example = [], []
    for one in public_objects():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                errors = validate(one.path)["errors"]
            except StopIteration:  # numpydoc 1.11 looks for the line of "def"
                errors = [("GL08", "a property made of a lambda can have no docstring")]
        ignored = {"PR01"} if is_result(one.thing) else set()
        wrong += [f"{one.place} {code}: {text}" for code, text in errors if code in CHECKS.keys() - ignored]
        is_exception = inspect.isclass(one.thing) and issubclass(one.thing, BaseException)
        if one.top and not is_exception and ">>>" not in (inspect.getdoc(one.thing) or ""):
            without_example.append(f"{one.place} has no example")
    return {"problems of numpydoc": wrong, "public names without an example": without_example}


def run_examples() -> int:
    """Run the examples of every public docstring; the number of those that fail."""
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    np.set_printoptions(legacy=False)
    names = {"np": np, "pn": pynode}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for one in public_objects():
            for test in finder.find(one.thing, one.path, module=False, globs=dict(names)):
                runner.run(test, clear_globs=True)
        os.chdir("/")
    print(f"{runner.tries} lines of examples, {runner.failures} failed")
    return runner.failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="for tools/structure.py")
    parser.add_argument("--run", action="store_true", help="run the examples")
    options = parser.parse_args()
    if options.run:
        return bool(run_examples())
    found = problems()
    if options.json:
        json.dump(found, sys.stdout)
        return 0
    for title, lines in found.items():
        print(f"{title}: {len(lines)}", *lines, sep="\n    ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
