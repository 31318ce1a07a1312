"""`sensitivities`: how every saved state depends on the parameters and the initial state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Solution, warn_or_raise
from pynode.errors import OK
from pynode.fields.arguments import as_dynamics, as_theta, has_events
from pynode.fields.system import System

if TYPE_CHECKING:
    from pynode.engine.options import SolveOptions
    from pynode.engine.solution import Errors
    from pynode.fields.arguments import Theta, Times
    from pynode.fields.field import Field


class Sensitivities(NamedTuple):
    """The result of `sensitivities`.

    Attributes
    ----------
    solution : Solution
    theta : (T, d, n_params), (B, T, d, n_params), or a list
        dy/dtheta at every saved time; NaN from a sample's failure on.
    y0 : (T, d, d), (B, T, d, d), or a list
        dy/dy0.

    See Also
    --------
    sensitivities : makes it.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> solution, by_theta, by_y0 = pn.sensitivities(f, [1.0, 0.0], [0.0, 0.5, 1.0], f.init(0))
    >>> by_theta.shape, by_y0.shape
    ((3, 2, 42), (3, 2, 2))
    """

    solution: Solution
    theta: Any
    y0: Any


class SensitivityProblem:
    """A batch, checked once, whose Jacobian is wanted for many theta (and y0): for Gauss-Newton loops.

    Parameters
    ----------
    f, y0, t, dtype, **options : as in `solve`
        What is solved, and how; a System may have a loss, but no jump and no events.

    See Also
    --------
    sensitivities : for a single solve.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> problem = pn.SensitivityProblem(f, [1.0, 0.0], [0.0, 0.5, 1.0])
    >>> problem.run(f.init(0))["sensitivity"].shape
    (3, 2, 44)
    """

    def __init__(
        self,
        f: Field | System | Callable[..., Any],
        y0: ArrayLike,
        t: Times,
        *,
        dtype: DTypeLike | None = None,
        **options: Unpack[SolveOptions],
    ) -> None:
        f = as_dynamics(f)
        if has_events(f):
            raise ValueError(
                f"f={f!r}: sensitivities do not go through events; take gradients (loss_and_grad(..., events=), sol.vjp)"
            )
        if isinstance(f, System) and f.jump is not None:
            raise ValueError(f"f={f!r}: sensitivities do not go through jumps; take gradients (loss_and_grad, sol.vjp)")
        batch = as_batch(y0, t, f.d, dtype)
        self.setup = PreparedSolve(f, batch, Options.of("sensitivities", options), gradient=True)
        if self.setup.options.coupling > 0:
            raise ValueError("sensitivities are those of the plain method: coupling must be 0")

    def run(self, theta: Theta, y0: Any = None) -> Any:
        """Solve for some parameters.

        Parameters
        ----------
        theta : (n_params,) array or nested dict
            The parameters.
        y0 : (B, d) array, optional
            Other initial states.

        Returns
        -------
        mapping
            The core's results: among others y (rows, d), status (B,), and sensitivity (rows, d, n_params + d), the
            derivatives with respect to the parameters of the field and the initial state.
        """
        ready = as_theta(self.setup.field, theta, self.setup.dtype)
        return self.setup.run(ready, y0=y0, sensitivity=True)


def sensitivities(
    f: Field | System | Callable[..., Any],
    y0: ArrayLike,
    t: Times,
    theta: Theta = None,
    *,
    errors: Errors = "warn",
    dtype: DTypeLike | None = None,
    **options: Unpack[SolveOptions],
) -> Sensitivities:
    """Solve, with the exact sensitivities dy/dtheta and dy/dy0 of the steps taken (step sizes frozen).

    With J_i = df/dy and F_i = df/dtheta at stage i: K_i = J_i (S + h sum_j a_ij K_j) + F_i, S_new = S + h sum b_i K_i
    (staggered direct method; Hairer, Norsett, Wanner, Solving ODEs I, II.6).

    Parameters
    ----------
    f, y0, t, theta, errors, dtype, **options : as in `solve`
        What is solved, and how.

    Returns
    -------
    Sensitivities

    Raises
    ------
    ValueError
        There are jumps or events, or coupling is not 0.

    See Also
    --------
    SensitivityProblem : for many parameters.
    loss_and_grad : the gradient of a loss, which costs less.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.field(state=1, theta={"k": 2.0})(lambda t, y, th: -th.k * y)
    >>> s = pn.sensitivities(f, [1.0], [0.0, 1.0], f.init(), rtol=1e-10, atol=1e-12)
    >>> bool(abs(s.theta[1, 0, 0] + np.exp(-2)) < 1e-8)
    True
    """
    problem = SensitivityProblem(f, y0, t, dtype=dtype, **options)
    setup = problem.setup
    raw = problem.run(theta)
    S, n = raw["sensitivity"], (f.field if isinstance(f, System) else setup.field).n_params
    failed = np.repeat(raw["status"] != OK, setup.batch.length)
    S[failed & np.isnan(raw["y"]).any(axis=1)] = np.nan
    solution = Solution(setup, as_theta(setup.field, theta, setup.dtype), raw)
    warn_or_raise(solution, errors)
    unflatten = setup.batch.unflatten
    of_loss = np.zeros((*S.shape[:2], setup.field.n_params - n))  # states do not depend on the parameters of a loss
    theta_part = np.concatenate([S[:, :, :n], of_loss], axis=2) if of_loss.size else S[:, :, :n]
    return Sensitivities(solution, unflatten(theta_part), unflatten(S[:, :, n:]))
