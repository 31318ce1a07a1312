"""Options of models: one row each, from which checks, files, flags of the command line and docstrings are made.

A model is a dataclass whose fields are the rows of its table:

    max_iter: int = option(100, Integer(1), "Epochs.", flag=Flag("--max-iter", "passes over the data"))

As in scikit-learn the constructor keeps what it is given, and `fit` checks it (`check`). A model file holds the options as
plain data (`to_plain`, `from_plain`); `documented` writes the section "Parameters" of the class's docstring.
"""

import dataclasses
import difflib
import functools
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pynode.data.arrays import as_integer, as_positive, real_dtype
from pynode.engine.options import AUTO, METHODS, method_row
from pynode.engine.tableau import Tableau
from pynode.fields.field import Field
from pynode.optim.schedules import SCHEDULES, as_schedule
from pynode.programs.functions import ACTIVATIONS

T = TypeVar("T")

LARGEST_SEED = 2**32 - 1


ELSEWHERE = frozenset({"field", "observe", "initial"})
"""Options that a file holds as what was made of them."""


MOST_LAYERS = 1000
"""Most hidden layers of a network."""


SAME: Any = object()
"""The default of a flag that is the default of its option."""

WIDTH = 118
"""Longest line of a docstring that is made here."""


class Rule(ABC):
    """What the value of an option must be."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The type, as numpydoc writes it."""

    @abstractmethod
    def check(self, name: str, value: Any) -> None:
        """Raise TypeError or ValueError, with the name and the value, unless the value is a good one."""

    def restore(self, value: Any) -> Any:
        """The value from what a file holds in its place."""
        return value


@dataclass(frozen=True)
class Integer(Rule):
    """An integer from `least` to `most`; `booleans`: True and False will do."""

    least: int = -(2**62)
    most: int = 2**62
    booleans: bool = False
    text = "int"

    def check(self, name: str, value: Any) -> None:
        if not (self.booleans and isinstance(value, (bool, np.bool_))):
            as_integer(name, value, self.least, self.most)


@dataclass(frozen=True)
class CountOrAuto(Rule):
    """A number of things, or "auto"."""

    text = 'int or "auto"'

    def check(self, name: str, value: Any) -> None:
        if isinstance(value, str) and value != "auto":
            raise ValueError(f"{name}={value!r} must be a number, 0 or more, or 'auto'")
        if not isinstance(value, str):
            as_integer(name, value, 0, 2**62)


@dataclass(frozen=True)
class Seed(Rule):
    """A seed of random numbers."""

    text = "int"

    def check(self, name: str, value: Any) -> None:
        as_integer(name, value, 0, LARGEST_SEED)


@dataclass(frozen=True)
class Positive(Rule):
    """A finite number > 0; `zero`: or 0."""

    zero: bool = False
    text = "float"

    def check(self, name: str, value: Any) -> None:
        as_positive(name, _not_text(name, value), zero=self.zero)


@dataclass(frozen=True)
class Finite(Rule):
    """A finite number of either sign."""

    text = "float"

    def check(self, name: str, value: Any) -> None:
        if not np.isscalar(_not_text(name, value)):
            raise TypeError(f"{name} must be a number, not {value!r}")
        if not np.isfinite(value):
            raise ValueError(f"{name}={value!r} must be finite")


@dataclass(frozen=True)
class Fraction(Rule):
    """A number between 0 and 1; `zero`, `one`: whether the ends are allowed."""

    zero: bool = False
    one: bool = False
    text = "float"

    def check(self, name: str, value: Any) -> None:
        number = as_positive(name, _not_text(name, value), zero=self.zero)
        if number > 1 or (number == 1 and not self.one):
            raise ValueError(f"{name}={value!r} must be between 0 and 1{'' if self.one else ', and below 1'}")


def _not_text(name: str, value: Any) -> Any:
    """The value; text is refused, which float() would read."""
    if isinstance(value, str):
        raise TypeError(f"{name} must be a number, not {value!r}")
    return value


@dataclass(frozen=True)
class Switch(Rule):
    """True or False."""

    text = "bool"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}={value!r} must be True or False")


@dataclass(frozen=True)
class OneOf(Rule):
    """One of a few names."""

    names: tuple[str, ...]

    @property
    def text(self) -> str:
        return "{" + ", ".join(f'"{name}"' for name in self.names) + "}"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in self.names:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(self.names)}")


@dataclass(frozen=True)
class Activation(OneOf):
    """The name of an activation function."""

    names: tuple[str, ...] = tuple(ACTIVATIONS)
    text = "str"


@dataclass(frozen=True)
class AdaptiveMethod(Rule):
    """A method that chooses its steps: the name of a built-in one, "auto", or a `pynode.Tableau`."""

    text = "str or Tableau"

    def check(self, name: str, value: Any) -> None:
        adaptive = ", ".join(known for known, row in METHODS.items() if row["error_order"])
        own = isinstance(value, Tableau)
        if not (own or (isinstance(value, str) and value in (AUTO, *METHODS))) or not method_row(value)["error_order"]:
            raise ValueError(
                f"{name}={value!r} must be an adaptive method: {adaptive}, {AUTO}, or a pynode.Tableau with b_hat="
            )

    def restore(self, value: Any) -> Any:
        return Tableau.from_dict(value) if isinstance(value, dict) else value


@dataclass(frozen=True)
class Schedule(Rule):
    """The name of a schedule, or a function of the part of training done."""

    @property
    def text(self) -> str:
        return OneOf(tuple(SCHEDULES)).text + " or callable"

    def check(self, name: str, value: Any) -> None:
        as_schedule(value)


@dataclass(frozen=True)
class Dtype(Rule):
    """The dtype of solves."""

    text = '{"float32", "float64"}'

    def check(self, name: str, value: Any) -> None:
        if real_dtype(value) is None:
            raise ValueError(f"{name}=None must be 'float32' or 'float64'")


@dataclass(frozen=True)
class OwnField(Rule):
    """A field in place of the network."""

    text = "Field"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, Field):
            raise TypeError(f"{name} must be a Field (pynode.field, pynode.mlp, ...), not {type(value).__name__}")


@dataclass(frozen=True)
class Widths(Rule):
    """Widths of hidden layers; a single one may be given as an integer."""

    text = "tuple of int"

    def check(self, name: str, value: Any) -> None:
        single = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if isinstance(value, str) or not (single or isinstance(value, Iterable)):
            raise TypeError(_wrong_widths(name, value))
        if len(widths(value)) > MOST_LAYERS:
            raise ValueError(f"{name} has {len(widths(value))} layers; there may be {MOST_LAYERS}")
        for width in widths(value):
            try:
                as_integer(name, width, 1)
            except (TypeError, ValueError) as error:
                raise type(error)(_wrong_widths(name, value)) from None

    def restore(self, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


def _wrong_widths(name: str, value: Any) -> str:
    return f"{name} holds the widths of the hidden layers, positive whole numbers such as 16; got {value!r}"


@dataclass(frozen=True)
class Checked(Rule):
    """Whatever `function(value)` lets pass; `sequence`: it may be a tuple, which files hold as a list."""

    kind: str
    function: Callable[[Any], object]
    sequence: bool = False

    @property
    def text(self) -> str:
        return self.kind

    def check(self, name: str, value: Any) -> None:
        self.function(value)

    def restore(self, value: Any) -> Any:
        return tuple(value) if self.sequence and isinstance(value, list) else value


@dataclass(frozen=True)
class Flag:
    """How the command line names an option, and what it says of it; default: where it differs from the option's."""

    name: str
    help: str
    metavar: str | None = None
    default: Any = SAME


@dataclass(frozen=True)
class Option:
    """A row of the table.

    Attributes
    ----------
    default : object
    rule : Rule
    doc : str
        Sentences for the docstring.
    optional : bool
        None is allowed.
    flag : Flag or None
    """

    default: Any
    rule: Rule
    doc: str
    optional: bool
    flag: Flag | None

    def check(self, name: str, value: Any) -> None:
        """Raise unless the value is a good one."""
        if value is None and self.optional:
            return
        self.rule.check(name, value)

    def documentation(self, name: str) -> str:
        """The entry of numpydoc's section "Parameters"."""
        default = '"' + self.default + '"' if isinstance(self.default, str) else repr(self.default)
        ending = "optional" if self.default is None else f"default {default}"
        lines = textwrap.wrap(f"{name} : {self.rule.text}, {ending}", WIDTH, subsequent_indent="    ")
        lines += textwrap.wrap(self.doc, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
        return "\n".join(lines)


def option(default: T, rule: Rule, doc: str = "", *, optional: bool = False, flag: Flag | None = None) -> T:
    """A field of a dataclass which is a row of the table of options.

    Parameters
    ----------
    default : object
        None: the option is optional.
    rule : Rule
    doc : str
    optional : bool
        None is allowed though the default is another.
    flag : Flag, optional

    Returns
    -------
    dataclasses.Field
        For type checkers, which know dataclasses, a value of the type of the default.
    """
    row = Option(default, rule, doc, optional or default is None, flag)
    made: Any = dataclasses.field(default=default, metadata={"option": row})
    value: T = made
    return value


def table(model: Any) -> dict[str, Option]:
    """The options of a model or its class by name, in the order of the constructor."""
    signature = sorted(dataclasses.fields(model), key=lambda row: row.kw_only is True)
    return {row.name: row.metadata["option"] for row in signature}


def check(model: Any) -> None:
    """Check every option by itself."""
    for name, row in table(model).items():
        row.check(name, getattr(model, name))


def to_plain(model: Any) -> dict[str, Any]:
    """The options as a file can hold them; a field is stored elsewhere, as what it is."""
    values = {name: getattr(model, name) for name in table(model)}
    if callable(values.get("schedule")):
        raise ValueError("schedule is a function of yours, which no model file can hold: set_params(schedule='cosine')")
    for name in ELSEWHERE & values.keys():
        values[name] = None
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Tableau):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def from_plain(make: Any, stored: Any, **more: Any) -> Any:
    """An unfitted model with the options of a file, checked; more: options that are stored elsewhere.

    An option that the file lacks has its default, so that a later option does not make files unreadable.
    """
    rows = table(make)
    if not isinstance(stored, dict):
        raise ValueError("the options must be a dict")
    unknown = stored.keys() - rows.keys()
    if unknown:
        raise ValueError(f"{make.__name__} has no options {', '.join(sorted(unknown))}")
    values = {name: rows[name].rule.restore(value) for name, value in stored.items()}
    model = make(**values | more)
    model.check_options()
    return model


def documented(model: type[T]) -> type[T]:
    """Class decorator: the line {options} of the docstring becomes the section "Parameters"; unknown options are told."""
    _refuse_unknown(model)
    if model.__doc__ is not None:  # it is, under python -OO
        entries = "\n".join(row.documentation(name) for name, row in table(model).items())
        section = f"Parameters\n----------\n{entries}"
        model.__doc__ = model.__doc__.replace("    {options}", textwrap.indent(section, "    "))
    return model


def _refuse_unknown(model: type[Any]) -> None:
    """Let errors about options that a model does not have name the model, what is close, and where the option belongs."""
    made = model.__init__

    @functools.wraps(made)
    def init(self: Any, *args: Any, **options: Any) -> None:
        known = table(model)
        for name in options:
            if name in known:
                continue
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"its options are {', '.join(known)}"
            hint = BELONGS.get(name, hint)
            raise TypeError(f"{model.__name__} has no option {name!r}: {hint}")
        made(self, *args, **options)

    model.__init__ = init


BELONGS = {
    "events": "events belong to pn.solve and pn.loss_and_grad; known times: NeuralODE.fit(doses=[pn.Dose(...)])",
    "doses": "doses belong to the data: NeuralODE.fit(..., doses=[pn.Dose(...)])",
    "names": "names belong to the data: fit(t, Y, names=[...])",
    "weight": "weights belong to the data: fit(t, Y, weight=...)",
    "callback": "a callback is given to fit(..., callback=...)",
    "checkpoint": "a checkpoint is given to fit(..., checkpoint=...)",
    "progress": "fit(..., progress=True) or verbose=1 show progress",
    "seed": "it is called random_state",
}
"""Names that users try as options -> where they belong."""


def widths(hidden: int | Sequence[int]) -> tuple[int, ...]:
    """Widths of hidden layers as a tuple."""
    return (int(hidden),) if isinstance(hidden, (int, np.integer)) else tuple(hidden)
