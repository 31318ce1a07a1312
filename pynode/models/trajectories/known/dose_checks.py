"""Doses against which the readings speak: entered at a wrong time, or with a wrong amount."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from pynode.experiments.doses import Dose
from pynode.experiments.parts import over
from pynode.fields.parameters import Parameter
from pynode.models.trajectories.known.fits import KnownFit
from pynode.training.coordinates import Coordinates
from pynode.training.likelihood.problem import LikelihoodProblem
from pynode.training.likelihood.run import Maximum
from pynode.training.likelihood.verdict import Columns

Array = NDArray[np.float64]

MOST = 30
"""Of more doses none is checked: each costs two sensitivities."""

FOLLOWING = 1.0
"""Doses are checked where no smoothing tells the noise and residuals follow each other by more than this."""

LEVEL = 1e-3
"""Of the test, for all doses together."""

NEW = 1e-4
"""A direction of which the parameters that are estimated explain more than all but this part is none of its own."""

LEFT = 3
"""Readings that must be left beyond all numbers that are estimated."""


def doubtful_dose(fit: KnownFit, best: Maximum, found: Columns) -> tuple[int, Dose] | None:
    """(trajectory, dose) of the dose that readings contradict most, if they do.

    Were the time and the amount of a dose estimated too, residuals would fall: how far is known to first order without
    another fit (the score test: Rao 1948, Proc. Camb. Phil. Soc. 44, 50), and judged by Fisher's F.

    Parameters
    ----------
    fit : KnownFit
        With doses.
    best : Maximum
        Where it ended.
    found : Columns
        Its residuals.
    """
    rows = [(i, k, dose) for i, own in enumerate(fit.protocol.doses) for k, dose in enumerate(own)]
    telling = (found.alike > FOLLOWING) & ~np.isfinite(found.noise)
    if not telling.any() or not 0 < len(rows) <= MOST or best.problem.noise != "gaussian":
        return None
    problem, owner = with_doses(fit, best, rows)
    state = best.posterior
    n, more = len(best.problem.coordinates), len(owner)
    x = np.concatenate([state.theta[:n], problem.coordinates.base[-more:] if more else [], state.theta[n:]])
    here = problem.linearise(x, np.asarray(state.free))
    if here is None:
        return None
    base = np.delete(np.arange(len(x)), n + np.arange(more))
    p = np.ones(len(rows))
    for k in range(len(rows)):
        fall, q = explained(here.H, here.g, base, n + np.flatnonzero(owner == k))
        left = problem.n_observed - best.degrees - q
        if q and left >= LEFT:
            part = min(fall / problem.n_observed, 1 - 1e-12)
            p[k] = fdtrc(q, left, part / q * left / (1 - part))
    worst = int(np.argmin(p))
    return None if p[worst] * len(rows) > LEVEL else (rows[worst][0], rows[worst][2])


def explained(H: Array, g: Array, base: NDArray[np.intp], own: NDArray[np.intp]) -> tuple[float, int]:
    """By how much residuals fall, to first order, if the coordinates `own` are varied beside `base`.

    Parameters
    ----------
    H, g : (n, n), (n,) arrays
        J^T J and J^T r of all coordinates.
    base, own : int arrays
        Some of them.

    Returns
    -------
    float
        The fall of the sum of squares.
    int
        Directions of `own` that `base` does not cover.
    """
    scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
    H, g = H * scale * scale[:, None], g * scale
    both = np.column_stack([H[np.ix_(base, own)], g[base]])
    solved = np.linalg.pinv(H[np.ix_(base, base)], rcond=1e-10, hermitian=True) @ both
    whole = np.column_stack([H[np.ix_(own, own)], g[own]]) - H[np.ix_(own, base)] @ solved
    w, V = np.linalg.eigh(whole[:, :-1])
    new = w > NEW
    return float(((V[:, new].T @ whole[:, -1]) ** 2 / w[new]).sum()), int(new.sum())


def with_doses(
    fit: KnownFit, best: Maximum, rows: list[tuple[int, int, Dose]]
) -> tuple[LikelihoodProblem, NDArray[np.intp]]:
    """(the problem with times and amounts of doses as parameters more, the row of the dose that each belongs to)."""
    protocol = fit.protocol
    spec = list(protocol.field.spec)
    theta = best.problem.theta(best.posterior.theta)
    named: Any = replace
    doses = [list(own) for own in protocol.doses]
    owner = []
    for m, (i, k, dose) in enumerate(rows):
        for what in ("time",) if dose.kind == "reset" else ("time", "amount"):
            value = getattr(dose, what)
            if isinstance(value, str):
                continue
            name = f"{what} of dose {m}"
            spec.append(Parameter(name, (), len(theta), ("value", [float(value)])))
            theta = np.append(theta, value)
            doses[i][k] = named(doses[i][k], **{what: name})
            owner.append(m)
    whole = tuple(spec)
    formula = protocol.initial.formula
    changed = replace(
        protocol,
        field=over(whole, protocol.field),
        observe=None if protocol.observe is None else over(whole, protocol.observe),
        initial=replace(protocol.initial, formula=None if formula is None else over(whole, formula)),
        doses=tuple(tuple(own) for own in doses),
    )
    experiment = changed.experiment(fit.times, fit.data.signal, **fit.options)
    parts = (experiment, best.problem.readings, protocol.models, protocol.noise, Coordinates(whole, theta), best.start)
    return LikelihoodProblem(*parts), np.array(owner, dtype=np.intp)
