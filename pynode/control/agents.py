"""A Neural ODE seen as an agent: when to stop thinking, who gets the credit, how to learn to act.

`halting` and `euler_halting` make depth adaptive; `credit` is the adjoint a(t) = dL/dy(t), which a discrete chain of steps
knows as its return-to-go; `HeldPolicy` has both gradients of an expected cost, the pathwise one (through the dynamics) and
REINFORCE (by the likelihood of the actions). `pynode.control.Planner` plans through a model, learned or true.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, as_positive, kept, own_array, real_array
from pynode.engine.solution import Solution
from pynode.fields.arguments import states_by_name
from pynode.fields.event import Event, event
from pynode.fields.field import Field, run
from pynode.fields.parameters import checked_theta

Array = NDArray[np.float64]


def halting(f: Field, threshold: float, hold: bool = True) -> Event:
    """The terminal event "|f(t, y; theta)| has fallen to the threshold": adaptive depth, with an exact gradient.

    Parameters
    ----------
    f : Field
        The vector field that is solved: the event uses its parameters.
    threshold : float
        Where to halt, in units of f.
    hold : bool, default True
        Later results are the state at which the sample halted, instead of NaN.

    Returns
    -------
    Event
        For `events=` of `pynode.solve`.

    See Also
    --------
    euler_halting : the discrete version.

    Examples
    --------
    >>> import pynode as pn
    >>> decay = pn.field(state=1)(lambda t, y: -y)
    >>> sol = pn.solve(decay, [1.0], [0.0, 10.0], events=pn.control.halting(decay, 0.1))
    >>> sol.y[-1].round(3)
    array([0.1])
    """
    limit = as_positive("threshold", threshold) ** 2

    def speed(t: Any, y: Any) -> Any:
        return (f(t, y) ** 2).sum() - limit

    def speed_of(t: Any, y: Any, th: Any) -> Any:
        return (f(t, y, th) ** 2).sum() - limit

    return event(speed_of if f.n_params else speed, terminal=True, direction=-1, hold=hold, name="halting")


def euler_halting(
    f: Field,
    y0: ArrayLike,
    theta: ArrayLike | None,
    step: float,
    threshold: float,
    max_steps: int,
    t0: float = 0.0,
) -> tuple[Array, NDArray[np.int64]]:
    """Euler steps, each sample deciding before each step whether to stop: where |f(t, y)| <= threshold it does.

    The discrete version of `halting`; its depth is a whole number, so a loss has no gradient through the decision.

    Parameters
    ----------
    f : Field
        The vector field of the d states.
    y0 : (B, d) array_like
        Initial states.
    theta : (n_params,) array_like or None
        Parameters of f; None where it has none.
    step : float
        Length of a step, in the unit of time.
    threshold : float
        A sample stops where |f| is not above this (the Euclidean norm).
    max_steps : int
        A sample that has not stopped after so many steps is stopped.
    t0 : float, default 0
        Time of y0.

    Returns
    -------
    y : (B, d) array
        States where the samples stopped.
    depth : (B,) int array
        Steps taken.

    See Also
    --------
    halting : the continuous version.

    Examples
    --------
    >>> import pynode as pn
    >>> decay = pn.field(state=1)(lambda t, y: -y)
    >>> y, depth = pn.control.euler_halting(decay, [[1.0], [8.0]], None, 0.5, 0.5, 20)
    >>> depth
    array([1, 4])
    """
    y: Array = np.array(_rows("y0", states_by_name("y0", f, y0), f.d))
    step, threshold = as_positive("step", step), as_positive("threshold", threshold, zero=True)
    depth = np.zeros(len(y), dtype=np.int64)
    going = np.arange(len(y))
    for n in range(as_integer("max_steps", max_steps, 1)):
        slope = f(np.full(len(going), t0 + n * step), y[going], theta)
        moves = np.linalg.norm(slope, axis=1) > threshold
        going, slope = going[moves], slope[moves]
        if not len(going):
            break
        y[going] += step * slope
        depth[going] += 1
    return y, depth


def _rows(name: str, x: Any, d: int) -> Array:
    """States, a row each."""
    rows: Array = real_array(name, x, np.float64)
    if rows.ndim != 2 or rows.shape[1] != d:
        raise ValueError(f"{name} has shape {rows.shape}: give (B, {d}), a row of {d} states for each sample")
    return rows


def credit(f: Field, t: ArrayLike, y: ArrayLike, theta: ArrayLike | None, dy: ArrayLike, **options: Any) -> Array:
    """dL/dy(t_k) for a loss L of the last state: the adjoint a(t_k), by a solve from each time to the last.

    With ``method="euler", step=h`` and t on multiples of h it is the return-to-go of a residual network: the derivative of
    what is left of the chain.

    Parameters
    ----------
    f : Field
        The vector field of the d states.
    t : (T,) array_like
        Times, in order.
    y : (T, d) array_like
        States at these times.
    theta : (n_params,) array_like or None
        Parameters of f; None where it has none.
    dy : (d,) array_like
        dL/dy(t_T).
    **options
        See `pynode.solve`.

    Returns
    -------
    (T, d) array

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> decay = pn.field(state=1)(lambda t, y: -y)
    >>> t = np.array([0.0, 1.0, 2.0])
    >>> pn.control.credit(decay, t, np.exp(-t)[:, None], None, [1.0])[:, 0].round(3)  # exp(t - 2)
    array([0.135, 0.368, 1.   ])
    """
    times = real_array("t", t, np.float64)
    states = _rows("y", states_by_name("y", f, y), f.d)
    end: Array = real_array("dy", states_by_name("dy", f, dy), np.float64)
    if len(states) != len(times) or end.shape != (f.d,):
        raise ValueError(
            f"y has shape {states.shape} and dy {end.shape}: give ({len(times)}, {f.d}), a row a time, and ({f.d},)"
        )
    sol = solve(f, states, [np.array([s, times[-1]]) for s in times], theta, **options)
    cotangent = np.zeros((len(times), 2, states.shape[1]))
    cotangent[:, 1] = end
    along: Array = sol.vjp([*cotangent], wrt="y0").y0
    return along


@dataclass(frozen=True)
class Episodes:
    """What happened to B samples under a `HeldPolicy`.

    Attributes
    ----------
    y : (B, K + 1, d) array
        States where the policy acts, and at the end.
    noise : (B, K, m) array
        Of the actions.
    solutions : list of Solution
        One for each interval.
    cost : (B,) array
        The last component of the last states.

    See Also
    --------
    HeldPolicy.rollout : makes them.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> plant = pn.field(state=2, inputs=1)(lambda t, y, u: [u[0], y[0] ** 2])
    >>> agent = pn.control.HeldPolicy(plant, pn.mlp(1, (), 1), np.linspace(0, 1, 5), sigma=0.0)
    >>> episodes = agent.rollout(np.zeros(2), [[1.0, 0.0], [2.0, 0.0]], np.zeros((2, 4, 1)))  # no action: y stays
    >>> episodes.cost.round(6).tolist(), len(episodes.solutions)
    ([1.0, 4.0], 4)
    """

    y: Array
    noise: Array
    solutions: list[Solution]

    @property
    def cost(self) -> Array:
        """(B,) the last component of the last states."""
        return self.y[:, -1, -1]


class HeldPolicy:
    """A plant under u_k = policy(y(t_k); theta) + sigma xi_k, held from t_k to t_{k+1}; xi_k ~ N(0, 1).

    Parameters
    ----------
    plant : Field
        dy/dt = f(t, y, u); no parameters of its own. Its last component is the cost so far.
    policy : Field
        Takes the state without the cost (d - 1 numbers), returns m, the plant's number of inputs.
    t : (K + 1,) array_like
        When the policy acts; the last entry is the end.
    sigma : float
        Standard deviation of the exploration.
    **options
        See `pynode.solve`.

    See Also
    --------
    Planner : plans actions for one state, without a policy.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> plant = pn.field(state=2, inputs=1)(lambda t, y, u: [u[0], y[0] ** 2 + 0.1 * u[0] ** 2])
    >>> policy = pn.mlp(1, (), 1)
    >>> agent = pn.control.HeldPolicy(plant, policy, np.linspace(0, 1, 5), sigma=0.1)
    >>> theta, noise = np.array([-1.0, 0.0]), np.zeros((3, 4, 1))
    >>> episodes = agent.rollout(theta, [[0.5, 0.0], [1.0, 0.0], [2.0, 0.0]], noise)
    >>> episodes.cost.shape, agent.pathwise(theta, episodes).shape
    ((3,), (2,))
    """

    def __init__(self, plant: Field, policy: Field, t: ArrayLike, sigma: float, **options: Any) -> None:
        if not isinstance(plant, Field) or plant.n_params or not plant.inputs or plant.n_out != plant.d:
            raise ValueError("plant must be a vector field with inputs and without parameters")
        if policy.d != plant.d - 1 or policy.n_out != plant.inputs:
            raise ValueError(
                f"policy maps {policy.d} numbers to {policy.n_out}; this plant needs {plant.d - 1} to {plant.inputs}"
            )
        self.plant = plant
        self.policy = policy
        self.t = own_array("t", t, np.float64)
        self.sigma: float = as_positive("sigma", sigma, zero=True)
        self.options: dict[str, Any] = {name: kept(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}

    def rollout(self, theta: ArrayLike, y0: ArrayLike, noise: ArrayLike) -> Episodes:
        """What happens from initial states, with this noise.

        Parameters
        ----------
        theta : (n_params,) array_like
            Parameters of the policy.
        y0 : (B, d) array_like
            Initial states, the cost so far included.
        noise : (B, K, m) array_like
            Of the actions, before it is multiplied by sigma.

        Returns
        -------
        Episodes
        """
        y = _rows("y0", states_by_name("y0", self.plant, y0), self.plant.d)
        xi = own_array("noise", noise, np.float64)
        wanted = (len(y), len(self.t) - 1, self.plant.inputs)
        if xi.shape != wanted:
            raise ValueError(f"noise has shape {xi.shape}: give {wanted}, (sample, interval, action)")
        states = [y]
        solutions = []
        for k in range(len(self.t) - 1):
            u = self.policy(self.t[k], y[:, :-1], theta) + self.sigma * xi[:, k]
            solutions.append(solve(self.plant, y, self.t[k : k + 2], inputs=u, **self.options))
            y = solutions[-1].y[:, -1]
            states.append(y)
        return Episodes(np.stack(states, axis=1), xi, solutions)

    def _pull(self, k: int, y: Array, theta: ArrayLike, du: Array) -> tuple[Array, Array]:
        """Cotangents of the policy's state and parameters (summed over samples) from that of the actions."""
        t = np.full(len(y), self.t[k])
        parameters = checked_theta(self.policy.spec, theta)
        point = {"t": t, "y": y[:, :-1], "u": None, "seed": du}
        (_, g_y, _, _), grads = run(self.policy.vjp_program, point, [parameters])
        return g_y, grads[0]

    def pathwise(self, theta: ArrayLike, episodes: Episodes) -> Array:
        """Gradient of the mean cost through dynamics and policy, the noise held: exact for these episodes.

        Parameters
        ----------
        theta : (n_params,) array_like
            Parameters of the policy.
        episodes : Episodes
            From `rollout` with the same theta.

        Returns
        -------
        (n_params,) array
        """
        B, d = len(episodes.y), self.plant.d
        g_theta, lam = np.zeros(self.policy.n_params), np.zeros((B, d))
        lam[:, -1] = 1.0 / B
        for k in range(len(self.t) - 2, -1, -1):
            g = episodes.solutions[k].vjp(np.stack([np.zeros_like(lam), lam], axis=1), wrt=("y0", "inputs"))
            g_y, g_policy = self._pull(k, episodes.y[:, k], theta, g.inputs)
            lam, g_theta = np.array(g.y0), g_theta + g_policy
            lam[:, :-1] += g_y
        return g_theta

    def reinforce(self, theta: ArrayLike, episodes: Episodes, baseline: bool = True) -> Array:
        """The same gradient from costs and likelihoods alone (Williams 1992): mean of sum_k G_k d log p(u_k) / d theta.

        G_k is the cost still to come; the baseline is its mean over the other episodes, which leaves the estimate unbiased.

        Parameters
        ----------
        theta : (n_params,) array_like
            Parameters of the policy.
        episodes : Episodes
            From `rollout` with the same theta; at least 2 with the baseline.
        baseline : bool, default True
            Subtract from each cost the mean over the other episodes.

        Returns
        -------
        (n_params,) array

        Raises
        ------
        ValueError
            sigma is 0: the policy has no likelihood; or baseline=True with one episode.
        """
        if self.sigma == 0:
            raise ValueError("sigma=0: a deterministic policy has no likelihood to differentiate")
        B, total = len(episodes.y), np.zeros(self.policy.n_params)
        if baseline and B < 2:
            raise ValueError(f"baseline=True needs 2 episodes or more, not {B}: roll out more, or take baseline=False")
        for k in range(len(self.t) - 1):
            to_go = episodes.y[:, -1, -1] - episodes.y[:, k, -1]
            if baseline:
                to_go = to_go - (to_go.sum() - to_go) / (B - 1)
            du = to_go[:, None] * episodes.noise[:, k] / (self.sigma * B)
            total += self._pull(k, episodes.y[:, k], theta, du)[1]
        return total
