"""The floors of pynode, and every exception that tools/structure.py grants, each with its reason.

The direction is kept here and not in contracts of import-linter. Those count imports inside functions like any others, and
here the lazy ones (the command line, pictures of models) are the exceptions; circles, sizes and ratchets need the same
syntax trees anyway; and a script of the standard library runs before anything is installed.
"""

GROUND = ("errors", "_core", "_version")
"""What every floor may rest on."""

STAIRS = ("data", "programs", "fields", "engine", "events", "calls")
"""From the bottom up: each rests on those before it."""


def _below(name: str) -> tuple[str, ...]:
    return STAIRS[: STAIRS.index(name) + 1]


RESTS_ON: dict[str, tuple[str, ...]] = {
    **{floor: STAIRS[:i] for i, floor in enumerate(STAIRS)},
    "experiments": _below("calls"),
    "optim": ("data",),
    "datasets": _below("calls"),
    "export": _below("calls"),
    "control": _below("calls"),
    "plots": _below("calls"),
    "torch": _below("calls"),
    "training": (*_below("calls"), "experiments", "optim"),
    "fit": ("optim", "training"),
    "jax": (*_below("calls"), "training"),
    "models": (*_below("calls"), "experiments", "optim", "training", "plots", "export"),
    "app": (*_below("calls"), "experiments", "optim", "training", "models", "plots", "datasets"),
    "course": (*_below("calls"), "optim", "training", "models", "plots", "datasets", "control"),
    "__main__": ("app",),
}
"""Floor (a folder, or a file directly in pynode/) -> the floors that it may import, beside GROUND."""

LAZY: dict[tuple[str, str], str] = {
    ("app", "*"): "a command loads what it needs when it runs: `pynode --help` stays quick",
    ("models", "plots"): "fitting needs no matplotlib",
    ("models", "export"): "fitting needs nothing that writes files for other places",
}
"""(floor, imported floor or *) -> why its imports of the package may stand inside functions."""

CIRCLES: dict[frozenset[str], str] = {}
"""Files that import each other in a circle -> why they may."""

LONG_FUNCTIONS: dict[str, str] = {}
"""file:function of more than 60 lines -> why it is one function."""

LONG_FILES: dict[str, str] = {}
"""File of more than 500 lines -> why it is one file."""
