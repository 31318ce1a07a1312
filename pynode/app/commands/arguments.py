"""What several commands need: types of arguments, flags of options, checks of paths, tables."""

import argparse
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
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


def natural_or_auto(text: str) -> int | str:
    """A whole number >= 0, or "auto"."""
    return text if text == "auto" else natural(text)


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


def check_given(model: Any) -> None:
    """Check the options of a model that flags gave; what is wrong is told by the names of the flags."""
    with told_by_flags(type(model)):
        try:
            model.check_options()
        except (TypeError, ValueError) as error:  # begins with the name of the option
            name, _, rest = str(error).partition(" ")
            raise UserError(f"{option_flags(type(model)).get(name, name)} {rest}") from error


@contextmanager
def told_by_flags(model: Any) -> Iterator[None]:
    """Errors inside are told by the names of the flags."""
    try:
        yield
    except (UserError, ValueError) as error:
        raise UserError(by_flags(str(error), model)) from error


VALUE = r"'[^']*'|\[[^]]*\]|\([^)]*\)|[^\s,:;()]+"
"""A value in a message about options."""

ALSO = re.compile(r" \(--[^()]*\)|; --[a-z, -]+(?=\))")
"""Where a message names the flags beside the arguments of Python."""

READING = {
    **{
        name: f"--{name}"
        for name in ("decimal", "thousands", "encoding", "missing", "sheet", "censored", "wide", "input", "id")
    },
    **{name: f"--{name.replace('_', '-')}" for name in ("units_row", "date_format", "time_unit")},
    "separator": "--sep",
}
"""Argument of `pynode.read_csv` -> its flag."""

WHOLE = {"replicates='keep'": "--replicates", "replicates='average'": "--average", "units_row=False": "--no-units-row"}
"""Arguments of `pynode.read_csv` with values that have flags of their own."""


def option_flags(model: Any) -> dict[str, str | None]:
    """Option of a model -> its flag, or None."""
    from pynode.models.options import table

    return {name: None if row.flag is None else row.flag.name for name, row in table(model).items()}


def by_flags(message: str, model: Any) -> str:
    """A message as users of the command line know it: n_estimators=0 is --ensemble 0; what has no flag is for Python.

    Parameters
    ----------
    message : str
        Of reading a table, of a model's options, or of a fit.
    model : type
        The class of the model.

    Returns
    -------
    str
    """
    message = ALSO.sub("", message)
    for text, flag in WHOLE.items():
        message = message.replace(text, flag)
    for name, one in (READING | option_flags(model)).items():
        message = re.sub(rf"(?<![\w.]){name}=(?!=)({VALUE})?", partial(_argument, name, one), message)
        if one is not None:
            alone = rf"\b{name}\b" if "_" in name else rf"(?<=\(){name}(?=[,)])|(?<=, ){name}(?=\))"  # others are words too
            message = re.sub(alone, one, message)
    return message


def _argument(name: str, flag: str | None, found: re.Match[str]) -> str:
    """An argument of Python, with its value if there is one, as its flag."""
    if flag is None:
        return f"{found[0]} (in Python)"
    if found[1] is None or found[1] == "True":
        return flag
    return f"no {flag}" if found[1] == "False" else f"{flag} {shlex.quote(found[1].strip(chr(39)))}"


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
    if isinstance(rule, options.CountOrAuto):
        return {"type": natural_or_auto}
    if isinstance(rule, (options.Positive, options.Fraction, options.Finite)):
        return {"type": float}
    return {}


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The flags that say how a table is written, see `pynode.read_csv`."""
    group = parser.add_argument_group("how the table is written (default: as it shows)")
    group.add_argument("--sep", metavar="SIGN", help="what separates entries; tab and blank by name")
    group.add_argument("--decimal", choices=(".", ","), help="the decimal sign")
    group.add_argument("--thousands", metavar="SIGN", help="what separates thousands")
    group.add_argument("--encoding", metavar="NAME", help="such as utf-8, utf-16, latin-1")
    group.add_argument("--missing", nargs="+", metavar="CODE", help="what means: not observed, such as -999")
    group.add_argument("--units-row", action=argparse.BooleanOptionalAction, help="the row below the header holds units")
    group.add_argument("--date-format", metavar="FORMAT", help="of dates, such as %%d.%%m.%%Y %%H:%%M")
    group.add_argument("--time-unit", metavar="UNIT", help="s, min, h, d, ...: what times that are dates are counted in")
    group.add_argument("--sheet", metavar="NAME", help="of a workbook")


def reading_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags of `add_reading` give `pynode.read_csv`."""
    named = {"tab": "\t", "\\t": "\t", "blank": " ", "space": " "}
    return {
        "separator": named.get(args.sep, args.sep),
        "decimal": args.decimal,
        "thousands": named.get(args.thousands, args.thousands),
        "encoding": args.encoding,
        "missing": args.missing,
        "units_row": args.units_row,
        "date_format": args.date_format,
        "time_unit": args.time_unit,
        "sheet": args.sheet,
    }


def check_folder(path: str | os.PathLike[str]) -> None:
    """Before long work: can a file be written there?"""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.absolute().parent}: make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(f"no permission to write to {path.absolute().parent}")


def print_model(model: Any) -> None:
    """What there is to know of a model, and its equation where it can be read."""
    from pynode.models.trajectories.publishing.report import model_summary

    rows = model_summary(model)
    try:
        lines = str(model.equation()).splitlines()
    except ValueError:  # a network, an ensemble
        lines = []
    print_rows([*rows, *zip(["equation", *[""] * len(lines)], lines, strict=False)])


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """A table of two columns."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value}")
