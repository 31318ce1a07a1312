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
