"""A world model of a pendulum of which only the angle is seen, through noise: learn, filter, predict, plan, act.

    python examples/world_model.py [folder for the picture]

The torque is too weak to lift the pendulum: it has to swing up. The model knows that speed is the derivative of the angle;
the acceleration is a network, learned from swings under random torques with the speed never measured (a column of NaN). In
the closed loop an extended Kalman filter (exact sensitivities of the model) estimates angle and speed, and a planner
improves the torques of the next seconds by the model's gradient with respect to its inputs, several plans side by side.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

import pynode as pn

DT = 0.1
NOISE = 0.05
LIMIT = 2.5
UP = np.array([np.pi, 0.0])
FORECAST = 8
"""Interval whose plan is drawn."""


@pn.field(state=2, inputs=1)
def pendulum(t, y, u):
    """The truth: angle (0 hangs down) and speed."""
    return [y[1], -4.0 * np.sin(y[0]) - 0.1 * y[1] + u[0]]


@pn.field(state=2, theta={"net": pn.mlp(3, (16,), 1)}, inputs=1)
def world(t, y, th, u):
    """The model: what is not kinematics is learned."""
    seen = np.stack([np.sin(y[0]), np.cos(y[0]), u[0]])
    return [y[1], 4.0 * th.net(seen)[0] - 0.1 * y[1]]


def experience(n=16, steps=60, seed=0):
    """Times, noisy angles (speed NaN), torques at the times, and the truth."""
    rng = np.random.default_rng(seed)
    t = DT * np.arange(steps + 1)
    torque = np.repeat(rng.uniform(-LIMIT, LIMIT, (n, steps // 5 + 1)), 5, axis=1)[:, : steps + 1, None]
    y0 = rng.normal(size=(n, 2)) * [1.5, 1.5]
    truth = pn.solve(pendulum, y0, t, inputs=(t, torque, "linear")).y
    seen = np.full_like(truth, np.nan)
    seen[:, :, 0] = truth[:, :, 0] + NOISE * rng.normal(size=truth.shape[:2])
    return t, seen, torque, truth


def learn(seed=0):
    """(fitted model, largest error of its acceleration on a grid)."""
    t, seen, torque, _ = experience(seed=seed)
    model = pn.NeuralODE(field=world, windows=(5, 10, 20, None), random_state=0).fit(t, seen, u=torque)
    angle, speed, u = (x.ravel() for x in np.meshgrid(np.linspace(-4, 4, 33), np.linspace(-4, 4, 9), [-1.0, 0.0, 1.0]))
    points = np.stack([angle, speed], axis=1)
    gap = world(0.0 * angle, points, model.theta_, u[:, None]) - pendulum(0.0 * angle, points, None, u[:, None])
    return model, float(np.abs(gap[:, 1]).max())


class Filter:
    """Extended Kalman filter: mean and covariance of the state, carried along by the model and its sensitivities."""

    def __init__(self, theta, mean, covariance):
        self.theta = theta
        self.mean = np.array(mean)
        self.P = np.array(covariance)

    def predict(self, u):
        s = pn.sensitivities(world, self.mean, [0.0, DT], self.theta, inputs=np.atleast_1d(u))
        A = s.y0[-1]
        self.mean, self.P = s.solution.y[-1], A @ self.P @ A.T + np.diag([1e-6, 1e-3])

    def update(self, angle):
        gain = self.P[:, 0] / (self.P[0, 0] + NOISE**2)
        self.mean = self.mean + gain * (angle - self.mean[0])
        self.P = self.P - np.outer(gain, self.P[0])


class Planner:
    """Torques of the next `steps` intervals: n plans from different guesses, improved together, the best one kept."""

    def __init__(self, theta, steps=30, n=8, iterations=12, seed=0):
        self.theta = theta
        self.iterations = iterations
        self.rng = np.random.default_rng(seed)
        self.t = DT * np.arange(steps + 1)
        self.plans = self.rng.uniform(-LIMIT, LIMIT, (n, steps, 1))
        self.weight = np.tile([1.0, 0.1], (steps + 1, 1))
        self.weight[-8:] = [3.0, 0.5]

    def cost(self, flat, y0):
        """Cost of all plans and its gradient; the plans do not know of each other."""
        u = flat.reshape(self.plans.shape)
        held = np.concatenate([u, u[:, -1:]], axis=1)
        target = np.broadcast_to(UP, (len(u), len(self.t), 2))
        options = {"loss": "sse", "weight": self.weight, "wrt": "inputs", "rtol": 1e-4, "atol": 1e-5}
        starts = np.tile(y0, (len(u), 1))
        val = pn.loss_and_grad(world, starts, self.t, self.theta, target, inputs=(self.t, held, "previous"), **options)
        g = val.inputs[:, :-1] + 0.02 * u
        g[:, -1] += val.inputs[:, -1]
        self.each = val.sample_loss + 0.01 * (u**2).sum(axis=(1, 2))
        return float(self.each.sum()), g.ravel()

    def __call__(self, y0):
        """The best plan (steps,) from the state y0; the plans then move on by one interval."""
        bounds = [(-LIMIT, LIMIT)] * self.plans.size
        options = {"maxiter": self.iterations}
        found = minimize(
            self.cost, self.plans.ravel(), args=(y0,), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        self.cost(found.x, y0)
        self.plans = found.x.reshape(self.plans.shape)
        order = np.argsort(self.each)
        best = self.plans[order[0], :, 0].copy()
        self.plans[order[-2:]] = self.rng.uniform(-LIMIT, LIMIT, (2, *self.plans.shape[1:]))  # fresh guesses for the worst
        self.plans = np.concatenate([self.plans[:, 1:], self.plans[:, -1:]], axis=1)
        return best


def closed_loop(theta, seconds=8.0, seed=5):
    """Act on the true pendulum; what happened, at every interval."""
    rng, steps = np.random.default_rng(seed), round(seconds / DT)
    state, planner = np.zeros(2), Planner(theta)
    watch = Filter(theta, [0.0, 0.0], np.diag([0.1, 0.1]))
    log = {name: [] for name in ("state", "seen", "mean", "std", "u")}
    for k in range(steps + 1):
        angle = state[0] + NOISE * rng.normal()
        watch.update(angle)
        plan = planner(watch.mean)
        u = plan[0]
        for name, x in (
            ("state", state),
            ("seen", angle),
            ("mean", watch.mean),
            ("std", np.sqrt(np.diag(watch.P))),
            ("u", u),
        ):
            log[name].append(np.copy(x))
        if k == FORECAST:
            held = np.append(plan, plan[-1])[:, None]
            log["forecast"] = pn.solve(world, watch.mean, planner.t, theta, inputs=(planner.t, held, "previous")).y
        watch.predict(u)
        state = pn.solve(pendulum, state, [0.0, DT], inputs=np.atleast_1d(u)).y[-1]
    return {name: np.array(x) for name, x in log.items()}


def main(folder="."):
    import matplotlib.pyplot as plt

    model, gap = learn()
    noise = model.report_["noise"]["y1"]
    print(f"model: noise {noise:.4f} (true {NOISE}), largest error of the acceleration {gap:.3f} (of {4 + LIMIT})")
    t, _, torque, truth = experience(8, seed=1)
    rollout = pn.solve(world, truth[:, 0], t, model.theta_, inputs=(t, torque, "linear")).y
    error = np.sqrt(((rollout - truth) ** 2).mean(axis=(0, 1)))
    print(f"prediction over 6 s from held-out starts: rms error of angle {error[0]:.3f}, of speed {error[1]:.3f}")
    log = closed_loop(model.theta_)
    s = DT * np.arange(len(log["u"]))
    late = s > s[-1] - 2
    miss, wrong = np.abs(log["state"][late, 0] - np.pi).max(), np.sqrt(((log["mean"] - log["state"]) ** 2).mean(axis=0))
    print(
        f"closed loop: at most {miss:.3f} rad from upright in the last 2 s; "
        f"filter rms {wrong[0]:.3f} rad, {wrong[1]:.3f} rad/s"
    )

    figure, axes = plt.subplots(3, 1, figsize=(8, 8), sharex=True, layout="constrained")
    axes[0].axhline(np.pi, color="0.7", lw=1)
    axes[0].plot(s, log["seen"], ".", ms=3, color="0.5", label="measured")
    axes[0].plot(s, log["state"][:, 0], color="k", label="true angle")
    axes[0].plot(
        s[FORECAST] + Planner(model.theta_).t,
        log["forecast"][:, 0],
        "--",
        color="#2a6f97",
        label="plan, 0.8 s after the start",
    )
    axes[0].set(ylabel="angle", title="Swing-up through the gradients of a learned model")
    axes[0].legend(frameon=False)
    axes[1].plot(s, log["state"][:, 1], color="k", label="true speed (never measured)")
    axes[1].plot(s, log["mean"][:, 1], color="#c1442e", label="filter")
    low, high = (log["mean"][:, 1] + sign * 2 * log["std"][:, 1] for sign in (-1, 1))
    axes[1].fill_between(s, low, high, color="#c1442e", alpha=0.2, lw=0)
    axes[1].set(ylabel="speed")
    axes[1].legend(frameon=False)
    axes[2].step(s, log["u"], where="post", color="#2a6f97")
    axes[2].axhline(LIMIT, color="0.7", lw=1)
    axes[2].axhline(-LIMIT, color="0.7", lw=1)
    axes[2].set(ylabel="torque", xlabel="seconds")
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "world_model.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
