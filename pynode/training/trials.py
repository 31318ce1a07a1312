"""Starts on trial, and the plain data that checkpoints hold of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.optim.posterior import LaplacePosterior

Rival = tuple[float, LaplacePosterior, NDArray[np.float64], float, list[NDArray[np.float64]]]
"""A start on trial: its log evidence, posterior, variance of the noise, unexplained part of the variance, states."""

Fitted = tuple[int | None, bool, int] | None
"""The stage that it went through last, see `SecondOrderRun.fitted`."""


def as_plain(rival: Rival, fitted: Fitted) -> list[Any]:
    """A start on trial as plain data and arrays."""
    score, posterior, variance, unexplained, states = rival
    lengths = np.array([len(x) for x in states], dtype=np.int64)
    return [score, dict(vars(posterior)), variance, unexplained, np.concatenate(states), lengths, fitted]


def tried_before(plain: list[Any]) -> tuple[Rival, Fitted]:
    """Inverse of `as_plain`."""
    score, posterior, variance, unexplained, states, lengths, fitted = plain
    cut = np.split(states, np.cumsum(lengths)[:-1])
    return (score, LaplacePosterior(**posterior), variance, unexplained, cut), None if fitted is None else tuple(fitted)
