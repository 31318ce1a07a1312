"""Checking the answers of exercises: `check`, `hint`."""

import difflib
from typing import Any

from pynode.course.answers import Exercise, Number, Unanswered, Verdict, Wrong
from pynode.course.exercises import EXERCISES


def check(name: str, answer: Any = ...) -> Verdict:
    """Check the answer of an exercise.

    Parameters
    ----------
    name : str
        The exercise, as written in the notebook.
    answer : number, array or function, default ...
        As the task asks; ``...`` or None: no answer yet. Numbers are wanted to four digits (0.05 %); where the right
        number is itself estimated, ``check(name)`` says which tolerance holds.

    Returns
    -------
    Verdict
        True where the answer is right.

    Raises
    ------
    ValueError
        There is no exercise of this name.

    See Also
    --------
    pynode.course.hint, pynode.course.quiz

    Examples
    --------
    >>> from pynode.course import check
    >>> check("euler-y2", 0.2096)
    right: y(0.5) by two Euler steps is 0.209581.
    >>> check("euler-y2", 0.5474)
    not yet: That is after one step; one more.
    """
    exercise = _find(name)
    precision = f", {exercise.test.precision}" if isinstance(exercise.test, Number) else ""
    nothing = Verdict(False, f"Wanted: {exercise.empty}{precision}. Hint: `hint({name!r})`.", answered=False)
    if answer is None or answer is ...:
        return nothing
    try:
        return Verdict(True, exercise.test(answer))
    except Unanswered:
        return nothing
    except Wrong as wrong:
        return Verdict(False, str(wrong))


def hint(name: str) -> Verdict:
    """The hint of an exercise.

    Parameters
    ----------
    name : str
        The exercise, as written in the notebook.

    Returns
    -------
    Verdict
        An unanswered one; its message is the hint.

    Raises
    ------
    ValueError
        There is no exercise of this name.

    See Also
    --------
    pynode.course.check

    Examples
    --------
    >>> from pynode.course import hint
    >>> hint("euler-stability").message
    'Solve |1 - 2h| = 1.'
    """
    return Verdict(False, _find(name).hint, answered=False)


def _find(name: str) -> Exercise:
    if name not in EXERCISES:
        close = difflib.get_close_matches(str(name), EXERCISES, n=3) or EXERCISES
        raise ValueError(f"there is no exercise {name!r}; there are: {', '.join(close)}")
    return EXERCISES[name]
