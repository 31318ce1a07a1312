"""Profile likelihoods of the parameters of a fitted equation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pynode.fields.parameters import parameter_names
from pynode.models.trajectories.known.refitting import Refitting
from pynode.training.likelihood.profile import Profile, Scale, profile, rise_of
from pynode.training.sizes import prior_groups

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

AWAY = 0.5
"""A maximum along whole trajectories that is more standard errors than this from the estimate is mentioned."""


def profiles_of(model: "NeuralODE", names: Sequence[str], level: float) -> dict[str, Profile]:
    """Name -> profile, of these parameters, or of all that are fitted."""
    again = Refitting(model)
    spec = again.spec
    every = parameter_names(spec)
    constraint = [p.constraint for p in spec for _ in range(p.size)]
    unknown = [name for name in names if name not in every]
    if unknown:
        raise ValueError(f"there is no parameter {unknown[0]!r}; there are {', '.join(every[:20])}")
    frozen = [name for name in names if constraint[every.index(name)][0] == "frozen"]
    if frozen:
        raise ValueError(f"{frozen[0]} is frozen: it has no profile")
    weights = {int(k) for group in prior_groups(again.fit.protocol.field) for k in group}
    chosen = names or [name for k, name in enumerate(every) if constraint[k][0] != "frozen" and k not in weights]
    best = again.best
    theta, states = again.theta(best), again.states(best)
    n = best.problem.n_observed
    limit = rise_of(level, n, n - best.degrees)
    covariance = model.covariance_
    found = {}
    for name in chosen:
        k = every.index(name)
        error = np.nan if covariance is None else float(np.sqrt(covariance[k, k]))
        kind = constraint[k]
        scale = Scale("log") if kind[0] == "positive" else Scale("logit", *kind[1:]) if kind[0] == "bounded" else Scale()
        one = profile(
            again.deviance,
            k,
            float(theta[k]),
            (theta, states),
            best.loss,
            level=level,
            rise=limit,
            width=error,
            scale=scale,
            name=name,
        )
        given = float(model.theta_[k])
        if abs(theta[k] - given) > AWAY * error:
            moved = f"along whole trajectories the likelihood is highest at {name} = {theta[k]:.4g}, the fit has {given:.4g}"
            one = replace(one, words=(moved, *one.words))
        found[name] = one
    return found
