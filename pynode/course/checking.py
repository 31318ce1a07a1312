"""Checking the answers of exercises: `check`, `hint`."""

import difflib

from pynode.course.answers import Unanswered, Verdict, Wrong
from pynode.course.exercises import EXERCISES


def check(name, answer=...):
    """Check the answer of an exercise.

    Parameters
    ----------
    name : str
        The exercise, as written in the notebook.
    answer : number, array or function, as the task asks
        ``...`` or None: no answer yet.

    Returns
    -------
    Verdict
        True where the answer is right.

    Raises
    ------
    ValueError
        There is no exercise of this name.
    """
    exercise = _find(name)
    nothing = Verdict(False, f"Wanted: {exercise.empty}. Hint: `hint({name!r})`.", answered=False)
    if answer is None or answer is ...:
        return nothing
    try:
        return Verdict(True, exercise.test(answer))
    except Unanswered:
        return nothing
    except Wrong as wrong:
        return Verdict(False, str(wrong))


def hint(name):
    """The hint of an exercise."""
    return Verdict(False, _find(name).hint, answered=False)


def _find(name):
    if name not in EXERCISES:
        close = difflib.get_close_matches(str(name), EXERCISES, n=3) or EXERCISES
        raise ValueError(f"there is no exercise {name!r}; there are: {', '.join(close)}")
    return EXERCISES[name]
