"""Planning: actions that lower a cost, by the gradient of the cost through a model, learned or true.

A *plant* is a vector field dy/dt = f(t, y, u; theta) whose last component is the cost so far, as in `HeldPolicy`.
`priced` makes one of a `LatentODE` that was fitted with control inputs (a world model); `Planner` improves plans on any.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.loss_and_grad import loss_and_grad
from pynode.data.arrays import as_integer, as_positive, real_array
from pynode.data.labels import by_name
from pynode.fields.arguments import as_theta
from pynode.fields.field import Field
from pynode.fields.make import field
from pynode.fields.system import System

if TYPE_CHECKING:
    from pynode.models.latent.latent_ode import LatentODE

Array = NDArray[np.float64]


def priced(model: "LatentODE", cost: Callable[[Any, Any], Any]) -> tuple[Field, Array]:
    """The latent equation of a world model with a cost: a plant, in the units of the data.

    Parameters
    ----------
    model : LatentODE
        Fitted with control inputs.
    cost : callable
        cost(x, u) -> the cost of a unit of time, written for tracing (`pynode.field`); x (d,) is what would be seen, without
        noise, u (m,) the inputs.

    Returns
    -------
    plant : Field
        State (z, cost so far).
    theta : (n_params,) array
        Its parameters, those of the latent equation and of the decoder.

    Raises
    ------
    ValueError
        The model has no control inputs.

    See Also
    --------
    Planner : plans actions on a plant.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> rng = np.random.default_rng(0)
    >>> t, u = np.linspace(0, 2, 11), rng.uniform(-1, 1, (8, 11, 1))
    >>> Y = np.cumsum(u, axis=1) / 5
    >>> world = pn.LatentODE(2, (8,), max_iter=5, random_state=0).fit(t, Y, u=(t, u, "previous"))
    >>> plant, theta = pn.control.priced(world, lambda x, u: x[0] ** 2 + 0.1 * u[0] ** 2)
    >>> plant.d, plant.inputs, theta.shape == (plant.n_params,)
    (3, 1, True)
    """
    model.check_is_fitted()
    units = model.units_
    equation = model.networks_.generator.field
    decoder = model.networks_.decoder
    if not units.m:
        raise ValueError("this model has no control inputs, so there is nothing to plan: fit(t, Y, u=...)")
    latent = equation.d

    @field(state=latent + 1, theta={"equation": equation, "decoder": decoder}, inputs=units.m, name="world")
    def plant(t: Any, y: Any, th: Any, u: Any) -> Any:
        z = y[:latent]
        dz = th.equation((t - units.t0) / units.t_scale, z, (u - units.u_shift) / units.u_scale) / units.t_scale
        rate = cost(th.decoder(z) * units.scale + units.shift, u)
        return np.concatenate([dz, np.stack([_scalar(rate)])])

    return plant, np.concatenate([model.equation_theta_, model.decoder_theta_])


def _scalar(rate: Any) -> Any:
    if np.shape(rate) in ((), (1,)):
        return rate if np.shape(rate) == () else rate[0]
    raise ValueError(f"cost(x, u) must be one number, not of shape {np.shape(rate)}")


@dataclass(frozen=True)
class Plan:
    """Actions, and what the model says they cost.

    Attributes
    ----------
    u : (K, m) array
        The actions, each held for an interval.
    cost : float
        The cost of all K intervals, in the unit of the plant's last component.

    See Also
    --------
    Planner : makes plans.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> plan = pn.control.Plan(u=np.zeros((5, 1)), cost=0.0)
    >>> plan.u.shape
    (5, 1)
    """

    u: Array
    cost: float


class Planner:
    """Actions of the next K intervals, from several guesses that are improved together, by L-BFGS-B.

        u_k in [low, high], held for `step`:   minimise the cost so far at K step, and terminal(y(K step))

    The gradient with respect to the actions is exact (the discrete adjoint of the engine). Called again and again, in a
    closed loop, it goes on from its plans of before, moved by one interval; the worst make way for new guesses.

    Parameters
    ----------
    plant : Field
        dy/dt = f(t, y, u; theta), its last component the cost so far; of `priced`, or your own. Time is 0 at the start.
    theta : (n_params,) array_like or None
        Parameters of the plant.
    step : float
        Length of an interval.
    n_steps : int
        K, the horizon.
    low, high : float or (m,) array_like
        Bounds of the actions.
    terminal : callable, optional
        terminal(y) -> a cost of the last state (without the cost so far), written for tracing.
    n_plans : int, default 8
        Plans that are improved side by side.
    n_fresh : int, default 2
        How many of the worst are replaced by random ones each time.
    max_iter : int, default 12
        Iterations of L-BFGS-B, each time.
    random_state : int or None, default 0
        Of the guesses.
    rtol, atol : float, default 1e-4, 1e-5
        Tolerances of the solves.

    Attributes
    ----------
    plans : (n_plans, K, m) array
        The guesses of the next call.
    t : (K,) array
        When the intervals begin, from 0.

    See Also
    --------
    priced : makes a plant of a learned model.
    HeldPolicy : learns a policy instead.

    Examples
    --------
    A point is pushed to the origin; the model is exact here.

    >>> import numpy as np, pynode as pn
    >>> @pn.field(state=3, inputs=1)
    ... def point(t, y, u):
    ...     return [y[1], u[0], y[0] ** 2 + 0.1 * y[1] ** 2]
    >>> planner = pn.control.Planner(point, None, 0.25, 12, -1.0, 1.0, random_state=0)
    >>> plan = planner([1.0, 0.0])
    >>> plan.u.shape, bool(plan.u[0, 0] < -0.9)
    ((12, 1), True)
    """

    def __init__(
        self,
        plant: Field,
        theta: ArrayLike | None,
        step: float,
        n_steps: int,
        low: ArrayLike,
        high: ArrayLike,
        *,
        terminal: Callable[[Any], Any] | None = None,
        n_plans: int = 8,
        n_fresh: int = 2,
        max_iter: int = 12,
        random_state: int | None = 0,
        rtol: float = 1e-4,
        atol: float = 1e-5,
    ) -> None:
        if not isinstance(plant, Field) or not plant.inputs or plant.n_out != plant.d or plant.d < 2:
            raise ValueError("plant must be a vector field with inputs, its last component the cost so far")
        m, d = plant.inputs, plant.d
        least: Array = real_array("low", low, np.float64)
        most: Array = real_array("high", high, np.float64)
        good = all(x.shape in ((), (m,)) and np.isfinite(x).all() for x in (least, most))
        if not good or not (least < most).all():
            raise ValueError(f"low and high must be finite, one number or {m}, low < high; not {least} and {most}")
        self.n_plans: int = as_integer("n_plans", n_plans, 1)
        self.n_fresh: int = as_integer("n_fresh", n_fresh, 0)
        if self.n_fresh >= self.n_plans:
            raise ValueError(f"n_fresh={n_fresh} must be less than n_plans={n_plans}: the best plan stays")
        self.t: Array = as_positive("step", step) * np.arange(as_integer("n_steps", n_steps, 1), dtype=np.float64)
        self.span = np.array([0.0, as_positive("step", step) * len(self.t)])
        self.max_iter: int = as_integer("max_iter", max_iter, 1)
        self.options = {"rtol": rtol, "atol": atol}
        self.rng = np.random.default_rng(random_state)
        self.middle: Array = np.broadcast_to((most + least) / 2, (m,))
        self.half: Array = np.broadcast_to((most - least) / 2, (m,))

        @field(state=d, out=1, inputs=1, name="final cost")
        def final(t: Any, y: Any, u: Any) -> Any:
            return [y[d - 1] if terminal is None else y[d - 1] + _scalar(terminal(y[: d - 1]))]

        self.system = System(plant, loss=final)
        self.theta: Array = as_theta(plant, theta, np.float64)
        self.plans = self._guesses(self.n_plans)

    def _guesses(self, n: int) -> Array:
        return self.middle + self.half * self.rng.uniform(-1, 1, (n, len(self.t), len(self.middle)))

    def cost(self, u: ArrayLike, y0: ArrayLike) -> tuple[Array, Array]:
        """Costs of plans and their gradients.

        Parameters
        ----------
        u : (n, K, m) array_like
            n plans: the actions of the K intervals.
        y0 : (d - 1,) or (S, d - 1) array_like
            The state without the cost; several: the mean cost over them, as where the state is known as draws only.

        Returns
        -------
        cost : (n,) array
        gradient : (n, K, m) array
        """
        actions, states = self._actions(u), self._state(y0)
        n, draws = len(actions), len(states)
        starts = np.tile(np.append(states, np.zeros((draws, 1)), axis=1), (n, 1))
        target = np.broadcast_to([[np.nan], [0.0]], (n * draws, 2, 1))
        inputs = self.t, np.repeat(actions, draws, axis=0), "previous"
        keys: dict[str, Any] = self.options | {"loss": "program", "wrt": "inputs", "inputs": inputs}
        value: Any = loss_and_grad(self.system, starts, self.span, self.theta, target, **keys)
        g = value.inputs.reshape(n, draws, *actions.shape[1:])
        return value.sample_loss.reshape(n, draws).mean(axis=1), g.mean(axis=1)

    def __call__(self, y0: ArrayLike) -> Plan:
        """The best plan from a state; the plans then move on by one interval.

        Parameters
        ----------
        y0 : (d - 1,) or (S, d - 1) array_like
            See `cost`.

        Returns
        -------
        Plan
        """
        from scipy.optimize import minimize

        shape = self.plans.shape

        def total(x: Array) -> tuple[float, Array]:
            cost, gradient = self.cost(self.middle + self.half * x.reshape(shape), y0)
            return float(cost.sum()), (gradient * self.half).ravel()

        x0 = ((self.plans - self.middle) / self.half).ravel()
        bounds = [(-1, 1)] * x0.size
        found = minimize(total, x0, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": self.max_iter})
        plans = self.middle + self.half * found.x.reshape(shape)
        cost = self.cost(plans, y0)[0]
        order = np.argsort(cost)
        best = Plan(plans[order[0]].copy(), float(cost[order[0]]))
        plans = np.concatenate([plans[:, 1:], plans[:, -1:]], axis=1)
        worst = order[self.n_plans - self.n_fresh :]
        plans[worst] = self._guesses(len(worst))
        self.plans = plans
        return best

    def _actions(self, given: ArrayLike) -> Array:
        u: Array = real_array("u", given, np.float64)
        if u.ndim != 3 or u.shape[1:] != self.plans.shape[1:]:
            raise ValueError(f"u has shape {u.shape}; plans are (n, {', '.join(map(str, self.plans.shape[1:]))})")
        if not np.isfinite(u).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(u))[0])
            raise ValueError(f"u{list(where)} is {u[where]}: actions must be finite")
        return u

    def _state(self, given: ArrayLike) -> Array:
        names = self.system.field.state_names[:-1]  # of the plant, whose last state is the cost
        y0: Array = real_array("y0", by_name("y0", given, names), np.float64)
        if y0.ndim not in (1, 2) or y0.shape[-1] != self.system.d - 1 or y0.size == 0:
            raise ValueError(
                f"y0 has shape {y0.shape}; it must be ({self.system.d - 1},) or (draws, {self.system.d - 1}): the state "
                "without the cost so far"
            )
        if not np.isfinite(y0).all():
            raise ValueError(f"y0 = {y0.tolist()}: states must be finite")
        return np.atleast_2d(y0)
