"""Planning: actions that lower a cost, by the gradient of the cost through a model, learned or true.

A *plant* is a vector field dy/dt = f(t, y, u; theta) whose last component is the cost so far, as in `pynode.agents`.
`priced` makes one of a `LatentODE` that was fitted with control inputs (a world model); `Planner` improves plans on any.
"""

from dataclasses import dataclass

import numpy as np

from pynode.calls.loss_and_grad import loss_and_grad
from pynode.data.arrays import as_integer, as_positive, real_array
from pynode.fields.field import Field
from pynode.fields.make import field
from pynode.fields.system import System


def priced(model, cost):
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
    """
    model.check_is_fitted()
    units, equation, decoder = model.units_, model.networks_.generator.field, model.networks_.decoder
    if not units.m:
        raise ValueError("this model has no control inputs, so there is nothing to plan: fit(t, Y, u=...)")
    latent = equation.d

    @field(state=latent + 1, theta={"equation": equation, "decoder": decoder}, inputs=units.m, name="world")
    def plant(t, y, th, u):
        z = y[:latent]
        dz = th.equation((t - units.t0) / units.t_scale, z, (u - units.u_shift) / units.u_scale) / units.t_scale
        rate = cost(th.decoder(z) * units.scale + units.shift, u)
        return np.concatenate([dz, np.stack([_scalar(rate)])])

    return plant, np.concatenate([model.equation_theta_, model.decoder_theta_])


def _scalar(rate):
    if np.shape(rate) in ((), (1,)):
        return rate if np.shape(rate) == () else rate[0]
    raise ValueError(f"cost(x, u) must be one number, not of shape {np.shape(rate)}")


@dataclass(frozen=True)
class Plan:
    """Actions u (K, m), held for an interval each, and what the model says they cost."""

    u: np.ndarray
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
    theta : (n_params,) array or None
    step : float
        Length of an interval.
    n_steps : int
        K, the horizon.
    low, high : float or (m,) array
        Bounds of the actions.
    terminal : callable, optional
        terminal(y) -> a cost of the last state (without the cost so far), written for tracing.
    n_plans : int
        Plans that are improved side by side.
    n_fresh : int
        How many of the worst are replaced by random ones each time.
    iterations : int
        Of L-BFGS-B, each time.
    random_state : int
    rtol, atol : float
        Of the solves.

    Attributes
    ----------
    plans : (n_plans, K, m) array
        The guesses of the next call.

    Examples
    --------
    A point is pushed to the origin; the model is exact here.

    >>> import numpy as np, pynode as pn
    >>> from pynode.planning import Planner
    >>> @pn.field(state=3, inputs=1)
    ... def point(t, y, u):
    ...     return [y[1], u[0], y[0] ** 2 + 0.1 * y[1] ** 2]
    >>> planner = Planner(point, None, 0.25, 12, -1.0, 1.0, random_state=0)
    >>> plan = planner([1.0, 0.0])
    >>> plan.u.shape, bool(plan.u[0, 0] < -0.9)
    ((12, 1), True)
    """

    def __init__(
        self,
        plant,
        theta,
        step,
        n_steps,
        low,
        high,
        *,
        terminal=None,
        n_plans=8,
        n_fresh=2,
        iterations=12,
        random_state=0,
        rtol=1e-4,
        atol=1e-5,
    ):
        if not isinstance(plant, Field) or not plant.inputs or plant.n_out != plant.d or plant.d < 2:
            raise ValueError("plant must be a vector field with inputs, its last component the cost so far")
        m, d = plant.inputs, plant.d
        low, high = (real_array(name, x, np.float64) for name, x in (("low", low), ("high", high)))
        if any(x.shape not in ((), (m,)) or not np.isfinite(x).all() for x in (low, high)) or not (low < high).all():
            raise ValueError(f"low and high must be finite, one number or {m}, low < high; not {low} and {high}")
        self.n_plans, self.n_fresh = as_integer("n_plans", n_plans, 1), as_integer("n_fresh", n_fresh, 0)
        if self.n_fresh >= self.n_plans:
            raise ValueError(f"n_fresh={n_fresh} must be less than n_plans={n_plans}: the best plan stays")
        self.t = as_positive("step", step) * np.arange(as_integer("n_steps", n_steps, 1))
        self.span = np.array([0.0, as_positive("step", step) * len(self.t)])
        self.iterations, self.options = as_integer("iterations", iterations, 1), {"rtol": rtol, "atol": atol}
        self.rng = np.random.default_rng(random_state)
        self.middle, self.half = np.broadcast_to((high + low) / 2, (m,)), np.broadcast_to((high - low) / 2, (m,))

        @field(state=d, out=1, inputs=1, name="final cost")
        def final(t, y, u):
            return [y[d - 1] if terminal is None else y[d - 1] + _scalar(terminal(y[: d - 1]))]

        self.system = System(plant, loss=final)
        self.theta = np.empty(0) if theta is None else theta
        self.plans = self._guesses(self.n_plans)

    def _guesses(self, n):
        return self.middle + self.half * self.rng.uniform(-1, 1, (n, len(self.t), len(self.middle)))

    def cost(self, u, y0):
        """Costs of plans and their gradients.

        Parameters
        ----------
        u : (n, K, m) array
        y0 : (d - 1,) array, or (S, d - 1)
            The state without the cost; several: the mean cost over them, as where the state is known as draws only.

        Returns
        -------
        cost : (n,) array
        gradient : (n, K, m) array
        """
        u, y0 = self._actions(u), self._state(y0)
        n, draws = len(u), len(y0)
        starts = np.tile(np.append(y0, np.zeros((draws, 1)), axis=1), (n, 1))
        target = np.broadcast_to([[np.nan], [0.0]], (n * draws, 2, 1))
        inputs = self.t, np.repeat(u, draws, axis=0), "previous"
        keys = self.options | {"loss": "program", "wrt": "inputs", "inputs": inputs}
        value = loss_and_grad(self.system, starts, self.span, self.theta, target, **keys)
        g = value.inputs.reshape(n, draws, *u.shape[1:])
        return value.sample_loss.reshape(n, draws).mean(axis=1), g.mean(axis=1)

    def __call__(self, y0):
        """The best plan from the state y0, see `cost`; the plans then move on by one interval.

        Returns
        -------
        Plan
        """
        from scipy.optimize import minimize

        shape = self.plans.shape

        def total(x):
            cost, gradient = self.cost(self.middle + self.half * x.reshape(shape), y0)
            return float(cost.sum()), (gradient * self.half).ravel()

        x0 = ((self.plans - self.middle) / self.half).ravel()
        found = minimize(
            total, x0, jac=True, method="L-BFGS-B", bounds=[(-1, 1)] * x0.size, options={"maxiter": self.iterations}
        )
        plans = self.middle + self.half * found.x.reshape(shape)
        cost = self.cost(plans, y0)[0]
        order = np.argsort(cost)
        best = Plan(plans[order[0]].copy(), float(cost[order[0]]))
        plans = np.concatenate([plans[:, 1:], plans[:, -1:]], axis=1)
        worst = order[self.n_plans - self.n_fresh :]
        plans[worst] = self._guesses(len(worst))
        self.plans = plans
        return best

    def _actions(self, u):
        u = real_array("u", u, np.float64)
        if u.ndim != 3 or u.shape[1:] != self.plans.shape[1:]:
            raise ValueError(f"u has shape {u.shape}; plans are (n, {', '.join(map(str, self.plans.shape[1:]))})")
        if not np.isfinite(u).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(u))[0])
            raise ValueError(f"u{list(where)} is {u[where]}: actions must be finite")
        return u

    def _state(self, y0):
        y0 = real_array("y0", y0, np.float64)
        if y0.ndim not in (1, 2) or y0.shape[-1] != self.system.d - 1 or y0.size == 0 or not np.isfinite(y0).all():
            raise ValueError(
                f"y0 has shape {y0.shape}; it must be finite, ({self.system.d - 1},) or (draws, {self.system.d - 1}): the "
                "state without the cost so far"
            )
        return np.atleast_2d(y0)
