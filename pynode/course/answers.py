"""Kinds of answers, and what is said of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOUR_DIGITS = 5e-4
"""Relative tolerance of the answers that are numbers, wherever an exercise does not say another one."""
SLIP = 2e-3
"""Relative tolerance at which a usual slip is recognised: wrong numbers are often rounded."""


@dataclass(frozen=True)
class Verdict:
    """What `check`, `hint` and `quiz` say. True where the answer is right; notebooks show it as Markdown.

    Attributes
    ----------
    right : bool
        Whether the answer is right.
    message : str
        Why, or what to look at.
    answered : bool
        False where there is no answer yet.

    See Also
    --------
    pynode.course.check, pynode.course.quiz

    Examples
    --------
    >>> from pynode.course import check
    >>> bool(check("euler-stability", 1.0))
    True
    >>> check("euler-stability", 1.0).word
    'right'
    """

    right: bool
    message: str
    answered: bool = True

    @property
    def word(self) -> str:
        """right, not yet, or no answer yet."""
        return "right" if self.right else "not yet" if self.answered else "no answer yet"

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{self.word}: {self.message}"

    def _repr_markdown_(self) -> str:
        sign = "✅" if self.right else "❌" if self.answered else "✏️"
        return f"{sign} **{self.word.capitalize()}.** {self.message}"


class Wrong(Exception):
    """An answer is wrong; the message says what to look at."""


class Unanswered(Exception):
    """The student's function still returns the ``...`` of the empty cell."""


@dataclass(frozen=True)
class Exercise:
    """A task with a test of its answer.

    Attributes
    ----------
    test : callable
        test(answer) -> what to say of a right answer; raises `Wrong` with what to look at.
    empty : str
        What is asked for, in a few words.
    hint : str
        How to begin.
    """

    test: Callable[[Any], str]
    empty: str
    hint: str


# ---- Kinds of answers ----------------------------------------------------------------------------------------------


def numbers(answer: Any, shape: tuple[int, ...] = (), what: str = "a number") -> NDArray[np.float64]:
    """The answer as a finite float array of this shape, or `Wrong`."""
    try:
        value = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError):
        raise Wrong(f"The answer must be {what}, not {type(answer).__name__}.") from None
    if value.shape != shape and value.size == int(np.prod(shape)):
        value = value.reshape(shape)
    if value.shape != shape:
        raise Wrong(f"The answer must be {what} (shape {shape}), not of shape {value.shape}.")
    if not np.isfinite(value).all():
        raise Wrong("The answer is not finite.")
    return value


@dataclass(frozen=True)
class Number:
    """A test for one number.

    Attributes
    ----------
    value : callable
        value() -> the right number: computed, never typed in.
    good : str
        What to say of it; may name {value}.
    slips : mapping of str to callable
        What to look at -> the number that this slip gives.
    rtol : float
        Relative tolerance: half a unit of the fourth digit, unless the right number is itself measured or estimated.
    """

    value: Callable[[], float]
    good: str
    slips: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    rtol: float = FOUR_DIGITS

    def __call__(self, answer: Any) -> str:
        """What to say of a right answer; raises `Wrong` otherwise."""
        given = float(numbers(answer))
        value = float(self.value())
        if self._close(given, value):
            return self.good.format(value=f"{value:.6g}")
        for what, slip in self.slips.items():
            if self._close(given, float(slip()), max(self.rtol, SLIP)):
                raise Wrong(what)
        if self._close(-given, value):
            raise Wrong("The size is right, the sign is not.")
        if self.rtol <= FOUR_DIGITS and abs(given - value) <= 0.01 * abs(value):
            raise Wrong(f"{given:.6g} is near, but not to four digits: the answer is wanted to 0.05 %.")
        raise Wrong(f"{given:.6g} is too {'large' if given > value else 'small'}.")

    @property
    def precision(self) -> str:
        """How exact the answer has to be, in words."""
        if self.rtol < FOUR_DIGITS:
            return "exactly"
        return "to four digits" if self.rtol == FOUR_DIGITS else f"to {100 * self.rtol:g} %"

    def _close(self, a: float, b: float, rtol: float | None = None) -> bool:
        return abs(a - b) <= (self.rtol if rtol is None else rtol) * max(abs(b), 1e-12)


@dataclass(frozen=True)
class Choice:
    """A test for one of several letters: the right one, and what to say of each.

    Attributes
    ----------
    right : str
        The letter of the right option.
    reasons : mapping of str to str
        Letter -> why it is right or wrong.
    """

    right: str
    reasons: Mapping[str, str]

    def __call__(self, answer: Any) -> str:
        """What to say of a right answer; raises `Wrong` otherwise."""
        letter = as_letter(answer)
        if letter not in self.reasons:
            raise Wrong(f"The answer is one of the letters {', '.join(self.reasons)}, not {answer!r}.")
        if letter != self.right:
            raise Wrong(self.reasons[letter])
        return self.reasons[letter]


def as_letter(answer: Any) -> str:
    """The letter that was meant by "B", "(b)" or "b."."""
    return str(answer).strip().lower().strip("().")


def called(function: Any, *arguments: Any, shape: tuple[int, ...] = (), what: str = "a number") -> NDArray[np.float64]:
    """What the student's function returns for these arguments, as an array of this shape."""
    if not callable(function):
        raise Wrong(f"The answer must be a function that you can call, not {type(function).__name__}.")
    try:
        value = function(*arguments)
    except Exception as error:
        raise Wrong(f"Your function raised {type(error).__name__}: {error}") from error
    if value is ... or value is None:
        raise Unanswered
    return numbers(value, shape, f"a function that returns {what}")
