"""What several commands need: types of arguments, flags of options, checks of paths, tables."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pynode.app.commands import UserError


def natural(text: str) -> int:
    """A whole number >= 0."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return value


def add_options(parser: argparse.ArgumentParser, model: Any) -> None:
    """The flags of a model's options, of those that have one."""
    from pynode.models.options import SAME, table

    for name, row in table(model).items():
        if row.flag is None:
            continue
        keys: dict[str, Any] = {"dest": name, "help": row.flag.help}
        keys["default"] = row.default if row.flag.default is SAME else row.flag.default
        keys |= _reading(row.rule)
        if row.flag.metavar is not None:
            keys["metavar"] = row.flag.metavar
        parser.add_argument(row.flag.name, **keys)


def given_options(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    """The options that the flags of `add_options` give."""
    from pynode.models.options import table

    return {name: row.rule.restore(getattr(args, name)) for name, row in table(model).items() if row.flag is not None}


def _reading(rule: Any) -> dict[str, Any]:
    """How argparse reads what the rule allows."""
    from pynode.models import options

    if isinstance(rule, options.Switch):
        return {"action": "store_true"}
    if isinstance(rule, options.Widths):
        return {"type": natural, "nargs": "+"}
    if isinstance(rule, options.Seed) or (isinstance(rule, options.Integer) and rule.least >= 0):
        return {"type": natural}
    if isinstance(rule, options.Integer):
        return {"type": int}
    if isinstance(rule, (options.Positive, options.Fraction, options.Finite)):
        return {"type": float}
    return {}


def check_folder(path: str | os.PathLike[str]) -> None:
    """Before long work: can a file be written there?"""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.absolute().parent}: make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(f"no permission to write to {path.absolute().parent}")


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """A table of two columns."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value}")
