"""Exceptions and warnings."""

from pynode import _core

STATUS = tuple(name.lower() for name, _ in _core.STATUS)
"""Names of the ways a sample can end, by number: "ok", "max_steps", "step_too_small", ..."""


MESSAGES = tuple(message for _, message in _core.STATUS)


OK = STATUS.index("ok")


class SolveError(RuntimeError):
    """A sample could not be solved to its last time (``errors="raise"``)."""


class SolveWarning(UserWarning):
    """Some samples could not be solved to their last times; their results are NaN from there on."""


class ToleranceWarning(UserWarning):
    """A component of the state stays below its absolute tolerance, which allows for errors larger than itself."""


class StiffnessWarning(UserWarning):
    """An explicit method took its steps at the limit of its stability: the equation is stiff."""


class ExtrapolationWarning(UserWarning):
    """A rollout of a learned field goes where it was shown nothing."""


def users_level() -> int:
    """The `stacklevel` with which a warning of the caller is one of the first code outside this package."""
    import inspect  # which takes a while to import, and is needed for a warning only

    level = 0
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("pynode."):
        frame = frame.f_back
        level += 1
    return level
