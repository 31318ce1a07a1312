"""A Neural ODE seen as an agent: when to stop thinking, who gets the credit, how to learn to act.

`halting` and `euler_halting` make depth adaptive; `credit` is the adjoint a(t) = dL/dy(t), which a discrete chain of steps
knows as its return-to-go; `HeldPolicy` has both gradients of an expected cost, the pathwise one (through the dynamics) and
REINFORCE (by the likelihood of the actions). Plans through a model, learned or true, are in `pynode.planning`.
"""

from dataclasses import dataclass

import numpy as np

from pynode.calls.solve import solve
from pynode.data.arrays import as_positive
from pynode.fields.event import event
from pynode.fields.field import Field, run


def halting(f, threshold, hold=True):
    """The terminal event "|f(t, y; theta)| has fallen to the threshold": adaptive depth, with an exact gradient.

    Parameters
    ----------
    f : Field
        The vector field that is solved: the event uses its parameters.
    threshold : float
    hold : bool
        Later results are the state at which the sample halted, instead of NaN.

    Returns
    -------
    Event
    """
    limit = as_positive("threshold", threshold) ** 2

    def speed(t, y):
        return (f(t, y) ** 2).sum() - limit

    def speed_of(t, y, th):
        return (f(t, y, th) ** 2).sum() - limit

    return event(speed_of if f.n_params else speed, terminal=True, direction=-1, hold=hold, name="halting")


def euler_halting(f, y0, theta, step, threshold, max_steps, t0=0.0):
    """Euler steps, each sample deciding before each step whether to stop: where |f(t, y)| <= threshold it does.

    The discrete version of `halting`; its depth is a whole number, so a loss has no gradient through the decision.

    Parameters
    ----------
    f : Field
    y0 : (B, d) array
    theta : (n_params,) array
    step, threshold : float
    max_steps : int

    Returns
    -------
    y : (B, d) array
        States where the samples stopped.
    depth : (B,) int array
        Steps taken.
    """
    y, depth = np.array(y0, dtype=np.float64), np.zeros(len(y0), dtype=np.int64)
    going = np.arange(len(y))
    for n in range(max_steps):
        slope = f(np.full(len(going), t0 + n * step), y[going], theta)
        moves = np.linalg.norm(slope, axis=1) > threshold
        going, slope = going[moves], slope[moves]
        if not len(going):
            break
        y[going] += step * slope
        depth[going] += 1
    return y, depth


def credit(f, t, y, theta, slope, **options):
    """dL/dy(t_k) for a loss L of the last state: the adjoint a(t_k), by a solve from each time to the last.

    With ``method="euler", step=h`` and t on multiples of h it is the return-to-go of a residual network: the derivative of
    what is left of the chain.

    Parameters
    ----------
    f : Field
    t : (T,) array
    y : (T, d) array
        States at these times.
    theta : (n_params,) array
    slope : (d,) array
        dL/dy(t_T).
    **options : see `solve`

    Returns
    -------
    (T, d) array
    """
    sol = solve(f, y, [np.array([s, t[-1]]) for s in t], theta, **options)
    dy = np.zeros((len(t), 2, y.shape[1]))
    dy[:, 1] = slope
    return sol.vjp([*dy], wrt="y0").y0


@dataclass(frozen=True)
class Episodes:
    """What happened to B samples: states (B, K + 1, d), noise of the actions (B, K, m), one solution for each interval."""

    y: np.ndarray
    noise: np.ndarray
    solutions: list

    @property
    def cost(self):
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
    t : (K + 1,) array
        When the policy acts; the last entry is the end.
    sigma : float
        Standard deviation of the exploration.
    **options : of `solve`
    """

    def __init__(self, plant, policy, t, sigma, **options):
        if not isinstance(plant, Field) or plant.n_params or not plant.inputs or plant.n_out != plant.d:
            raise ValueError("plant must be a vector field with inputs and without parameters")
        if policy.d != plant.d - 1 or policy.n_out != plant.inputs:
            raise ValueError(
                f"policy maps {policy.d} numbers to {policy.n_out}; this plant needs {plant.d - 1} to {plant.inputs}"
            )
        self.plant, self.policy, self.t = plant, policy, np.asarray(t, dtype=np.float64)
        self.sigma, self.options = as_positive("sigma", sigma, zero=True), options

    def rollout(self, theta, y0, noise):
        """Episodes from y0 (B, d) with the noise (B, K, m)."""
        y, states, solutions = np.asarray(y0, dtype=np.float64), [np.asarray(y0, dtype=np.float64)], []
        for k in range(len(self.t) - 1):
            u = self.policy(self.t[k], y[:, :-1], theta) + self.sigma * noise[:, k]
            solutions.append(solve(self.plant, y, self.t[k : k + 2], inputs=u, **self.options))
            y = solutions[-1].y[:, -1]
            states.append(y)
        return Episodes(np.stack(states, axis=1), noise, solutions)

    def _pull(self, k, y, theta, seed):
        """Cotangents of the policy's state and parameters (summed over samples)."""
        t = np.full(len(y), self.t[k])
        (_, g_y, _, _), grads = run(self.policy.vjp_program, {"t": t, "y": y[:, :-1], "u": None, "seed": seed}, [theta])
        return g_y, grads[0]

    def pathwise(self, theta, episodes):
        """Gradient of the mean cost through dynamics and policy, the noise held: exact for these episodes."""
        B, d = len(episodes.y), self.plant.d
        g_theta, lam = np.zeros(self.policy.n_params), np.zeros((B, d))
        lam[:, -1] = 1.0 / B
        for k in range(len(self.t) - 2, -1, -1):
            g = episodes.solutions[k].vjp(np.stack([np.zeros_like(lam), lam], axis=1), wrt=("y0", "inputs"))
            g_y, g_policy = self._pull(k, episodes.y[:, k], theta, g.inputs)
            lam, g_theta = np.array(g.y0), g_theta + g_policy
            lam[:, :-1] += g_y
        return g_theta

    def reinforce(self, theta, episodes, baseline=True):
        """The same gradient from costs and likelihoods alone (Williams 1992): mean of sum_k G_k d log p(u_k) / d theta.

        G_k is the cost still to come; the baseline is its mean over the other episodes, which leaves the estimate unbiased.
        """
        if self.sigma == 0:
            raise ValueError("sigma=0: a deterministic policy has no likelihood to differentiate")
        B, total = len(episodes.y), np.zeros(self.policy.n_params)
        for k in range(len(self.t) - 1):
            to_go = episodes.y[:, -1, -1] - episodes.y[:, k, -1]
            if baseline:
                to_go = to_go - (to_go.sum() - to_go) / (B - 1)
            seed = to_go[:, None] * episodes.noise[:, k] / (self.sigma * B)
            total += self._pull(k, episodes.y[:, k], theta, seed)[1]
        return total
