"""`sensitivities`: how every saved state depends on the parameters and the initial state."""

from typing import NamedTuple

import numpy as np

from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Solution, warn_or_raise
from pynode.errors import OK
from pynode.fields.arguments import as_dynamics, as_field, as_theta


class Sensitivities(NamedTuple):
    """The result of `sensitivities`.

    Attributes
    ----------
    solution : Solution
    theta : (T, d, n_params), (B, T, d, n_params), or a list
        dy/dtheta at every saved time; NaN from a sample's failure on.
    y0 : (T, d, d), (B, T, d, d), or a list
        dy/dy0.
    """

    solution: Solution
    theta: object
    y0: object


class SensitivityProblem:
    """A batch, checked once, whose Jacobian is wanted for many theta (and y0): for Gauss-Newton loops.

    Parameters
    ----------
    f, y0, t, **options : see `solve`
    """

    def __init__(self, f, y0, t, *, dtype=None, **options):
        f = as_dynamics(as_field(f))
        batch = as_batch(y0, t, f.d, dtype)
        self.setup = PreparedSolve(f, batch, Options(**options), gradient=True)
        if self.setup.options.coupling > 0:
            raise ValueError("sensitivities are those of the plain method: coupling must be 0")

    def run(self, theta, y0=None):
        """The core's results for these parameters (and (B, d) initial states): a dict with y (rows, d), status, and
        sensitivity (rows, d, n_params + d)."""
        theta = as_theta(self.setup.field, theta, self.setup.dtype)
        return self.setup.run(theta, y0=y0, sensitivity=True)


def sensitivities(f, y0, t, theta=None, *, errors="warn", dtype=None, **options):
    """Solve, with the exact sensitivities dy/dtheta and dy/dy0 of the steps taken (step sizes frozen).

    With J_i = df/dy and F_i = df/dtheta at stage i: K_i = J_i (S + h sum_j a_ij K_j) + F_i, S_new = S + h sum b_i K_i
    (staggered direct method; Hairer, Norsett, Wanner, Solving ODEs I, II.6).

    Parameters
    ----------
    f, y0, t, theta, errors, **options : see `solve`

    Returns
    -------
    Sensitivities
    """
    problem = SensitivityProblem(f, y0, t, dtype=dtype, **options)
    setup = problem.setup
    raw = problem.run(theta)
    S, n = raw["sensitivity"], setup.field.n_params
    failed = np.repeat(raw["status"] != OK, setup.batch.length)
    S[failed & np.isnan(raw["y"]).any(axis=1)] = np.nan
    solution = Solution(setup, as_theta(setup.field, theta, setup.dtype), raw)
    warn_or_raise(solution, errors)
    unflatten = setup.batch.unflatten
    return Sensitivities(solution, unflatten(S[:, :, :n]), unflatten(S[:, :, n:]))
