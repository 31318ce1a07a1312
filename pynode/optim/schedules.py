"""Schedules: the factor of the learning rate as a function of the part of training done (0 to 1)."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant() -> Schedule:
    """The same rate all the time."""
    return lambda done: 1.0


def cosine(final: float = 0.1) -> Schedule:
    """Half a cosine from 1 to `final` (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts)."""
    return lambda done: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def exponential(final: float = 0.01) -> Schedule:
    """From 1 to `final` by the same factor in each iteration."""
    if not final > 0:
        raise ValueError(f"final={final!r} must be positive")
    return lambda done: final**done


def one_cycle(warm_up: float = 0.25, start: float = 0.04, final: float = 1e-3) -> Schedule:
    """Up along half a cosine for the part `warm_up`, then down to `final` (Smith & Topin 2019, arXiv:1708.07120)."""
    if not 0 < warm_up < 1:
        raise ValueError(f"warm_up={warm_up!r} must be between 0 and 1")

    def factor(done: float) -> float:
        if done < warm_up:
            return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * done / warm_up))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))

    return factor


SCHEDULES = {"constant": constant, "cosine": cosine, "exponential": exponential, "one_cycle": one_cycle}


def as_schedule(schedule: str | Schedule) -> Schedule:
    """The function behind the name of a schedule; a function is taken as it is."""
    if callable(schedule):
        return schedule
    if not isinstance(schedule, str) or schedule not in SCHEDULES:
        raise ValueError(
            f"schedule={schedule!r} is not one of {', '.join(SCHEDULES)}, nor a function of the part of training done"
        )
    make: Callable[[], Schedule] = SCHEDULES[schedule]
    return make()
