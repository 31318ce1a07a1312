"""`sensitivities`: how every saved state depends on the parameters and the initial state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pynode.data.arrays import own_array, real_dtype
from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Solution, warn_or_raise
from pynode.errors import OK
from pynode.fields.arguments import as_dynamics, has_events, shared_start
from pynode.fields.system import System

if TYPE_CHECKING:
    from pynode.engine.options import SolveOptions
    from pynode.engine.solution import Errors
    from pynode.fields.arguments import Theta, Times
    from pynode.fields.event import Event
    from pynode.fields.field import Field


class Sensitivities(NamedTuple):
    """The result of `sensitivities`.

    Attributes
    ----------
    solution : Solution
    theta : (T, d, n_params), (B, T, d, n_params), or a list
        dy/dtheta at every saved time; NaN from a sample's failure on. Where theta has a row for each sample, the derivatives
        with respect to that row.
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
    f, y0, t, dtype : as in `solve`
        What is solved; a System may have a loss, but no jump.
    events : None
        Sensitivities do not go through events: with any, an error says what to use instead.
    **options : as in `solve`
        How it is solved.

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
        events: Event | Sequence[Event] | None = None,
        **options: Unpack[SolveOptions],
    ) -> None:
        if has_events(f, events):
            named = f"events={events!r}" if events is not None else f"f={f!r}"
            raise ValueError(
                f"{named}: sensitivities do not go through events; take gradients (loss_and_grad(..., events=), sol.vjp)"
            )
        f = as_dynamics(f)
        if isinstance(f, System) and f.jump is not None:
            raise ValueError(f"f={f!r}: sensitivities do not go through jumps; take gradients (loss_and_grad, sol.vjp)")
        batch = as_batch(y0, t, f.d, dtype)
        chosen = Options.of("sensitivities", options)
        self.setup = PreparedSolve(f, batch, chosen, gradient=True)
        # States do not depend on the parameters of a loss: the field is solved by itself.
        self._alone = PreparedSolve(f.field, batch, chosen, gradient=True) if isinstance(f, System) else self.setup
        if chosen.coupling > 0:
            raise ValueError("sensitivities are those of the plain method: coupling must be 0")

    def run(self, theta: Theta, y0: Any = None) -> Any:
        """Solve for some parameters.

        Parameters
        ----------
        theta : (n_params,) array or nested dict; or (B, n_params)
            The parameters, of all samples or a row for each.
        y0 : (B, d) array, optional
            Other initial states.

        Returns
        -------
        mapping
            The core's results: among others y (rows, d), status (B,), and sensitivity (rows, d, n_params + d), the
            derivatives with respect to the parameters and the initial state; 0 for the parameters of a loss.
        """
        ready = self.setup.parameters(theta)
        n = self._alone.field.n_params
        raw = self._alone.run(np.ascontiguousarray(ready[..., :n]), y0=y0, sensitivity=True)
        if n < ready.shape[-1]:
            raw["sensitivity"] = np.insert(raw["sensitivity"], [n] * (ready.shape[-1] - n), 0.0, axis=2)
        return raw


def sensitivities(
    f: Field | System | Callable[..., Any],
    y0: ArrayLike,
    t: Times,
    theta: Theta = None,
    *,
    errors: Errors = "warn",
    dtype: DTypeLike | None = None,
    events: Event | Sequence[Event] | None = None,
    **options: Unpack[SolveOptions],
) -> Sensitivities:
    """Solve, with the exact sensitivities dy/dtheta and dy/dy0 of the steps taken (step sizes frozen).

    With J_i = df/dy and F_i = df/dtheta at stage i: K_i = J_i (S + h sum_j a_ij K_j) + F_i, S_new = S + h sum b_i K_i
    (staggered direct method; Hairer, Norsett, Wanner, Solving ODEs I, II.6).

    Parameters
    ----------
    f, y0, t, theta, errors, dtype : as in `solve`
        What is solved; a System may have a loss, but no jump.
    events : None
        Sensitivities do not go through events: with any, an error says what to use instead.
    **options : as in `solve`
        How it is solved.

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
    y0 = own_array("y0", y0, real_dtype(dtype))
    if not has_events(f, events):
        f = as_dynamics(f)
        y0 = shared_start(f, y0, theta)
    problem = SensitivityProblem(f, y0, t, dtype=dtype, events=events, **options)
    setup = problem.setup
    raw = problem.run(theta)
    S, n = raw["sensitivity"], setup.field.n_params
    failed = np.repeat(raw["status"] != OK, setup.batch.length)
    S[failed & np.isnan(raw["y"]).any(axis=1)] = np.nan
    solution = Solution(setup, setup.parameters(theta), raw)
    warn_or_raise(solution, errors)
    unflatten = setup.batch.unflatten
    return Sensitivities(solution, unflatten(S[:, :, :n]), unflatten(S[:, :, n:]))
