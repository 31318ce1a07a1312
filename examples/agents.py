"""The agent's view of a Neural ODE, in three experiments: depth, credit, and two policy gradients.

    python examples/agents.py [folder for pictures]

1. Adaptive depth: a classifier whose samples stop where |f| has fallen to a threshold, trained through the stopping times.
2. Credit: the return-to-go of a residual network converges to the adjoint.
3. The pathwise gradient and REINFORCE on one control problem: the same mean, very different variances.
"""

import sys
from pathlib import Path

import numpy as np

import pynode as pn
from pynode.control.agents import HeldPolicy, credit, euler_halting, halting

RED, BLUE = "#c1442e", "#2a6f97"


# ---- 1 ----------------------------------------------------------------------------------------------------------------


@pn.field(state=3, theta={"net": pn.mlp(3, (16,))})
def thinker(t, y, th):
    """Two coordinates and one of its own, which starts at 0."""
    return 3 * np.tanh(th.net(y))


def moons(n, seed):
    """Two half circles, and their classes; classes of the states are the sign of the first component."""
    rng = np.random.default_rng(seed)
    a, label = rng.uniform(0, np.pi, n), np.arange(n) % 2
    x = np.stack([np.cos(a) * (1 - 2 * label) + label, np.sin(a) * (1 - 2 * label) + 0.5 * label], axis=1)
    x = x - [0.5, 0.25] + 0.08 * rng.normal(size=(n, 2))
    return np.concatenate([x, np.zeros((n, 1))], axis=1), label


def adaptive_depth(seed=0, n=200, iterations=200, threshold=0.25, horizon=8.0):
    """Train to be right at t = 2, then to be right where it halts; compare its depth with Euler's, sample by sample."""
    x, label = moons(n, seed)
    target = np.full((n, 2, 3), np.nan)
    target[:, 1] = np.where(label, 1.0, -1.0)[:, None] * [1.0, 0.0, 0.0]  # where to come to rest
    stop = halting(thinker, threshold)
    options = {"events": stop, "rtol": 1e-5, "atol": 1e-6}
    objective = pn.Objective(thinker, x, [0.0, horizon], target, **options)
    plain = pn.Objective(thinker, x, [0.0, 2.0], target, rtol=1e-5, atol=1e-6)
    start = pn.fit.adam(plain, thinker.init(seed), max_iter=1000, learning_rate=0.03)
    fit = pn.fit.adam(objective, start.theta, max_iter=iterations, learning_rate=0.02)
    new, truth = moons(1000, seed + 1)
    sol = pn.solve(thinker, new, [0.0, horizon], fit.theta, **options)
    time = np.full(len(new), horizon)
    time[sol.events.sample] = sol.events.t
    y, depth = euler_halting(thinker, new, fit.theta, 0.02, threshold, int(horizon / 0.02))
    return {
        "x": new,
        "label": truth,
        "time": time,
        "accuracy": float(((sol.y[:, 1, 0] > 0) == truth).mean()),
        "halted": float(sol.terminated.mean()),
        "euler_accuracy": float(((y[:, 0] > 0) == truth).mean()),
        "euler_depth": depth,
        "difference": np.quantile(np.abs(0.02 * depth - time)[sol.terminated], [0.5, 0.95, 1.0]),
        "loss": fit.loss,
        "theta": fit.theta,
    }


def draw_depth(axes, result):
    x, time = result["x"], result["time"]
    points = axes[0].scatter(x[:, 0], x[:, 1], c=time, s=8, cmap="viridis")
    axes[0].figure.colorbar(points, ax=axes[0], label="time until it halts")
    axes[0].set(title=f"Thinking time; accuracy {result['accuracy']:.3f}", xlabel="$x_1$", ylabel="$x_2$")
    axes[1].plot(time, 0.02 * result["euler_depth"], ".", ms=3, color=BLUE)
    axes[1].plot([0, time.max()], [0, time.max()], color="0.6", lw=1)
    axes[1].set(xlabel="time of the event", ylabel="Euler steps x 0.02", title="Halting event and Euler's decisions")


# ---- 2 ----------------------------------------------------------------------------------------------------------------


def credit_convergence(depths=(8, 16, 32, 64, 128, 256), seed=1):
    """Largest difference between dL/dh_k of a residual network of N layers and the adjoint a(t_k), for each N."""
    f = pn.mlp(2, (16,))
    y0 = np.array([1.0, -0.5])
    slope = np.array([1.0, 0.5])
    theta = f.init(seed)
    errors, curves = [], {}
    for n in depths:
        t = np.linspace(0.0, 2.0, n + 1)
        exact_y = pn.solve(f, y0, t, theta, rtol=1e-11, atol=1e-12, method="dop853").y
        exact = credit(f, t, exact_y, theta, slope, rtol=1e-11, atol=1e-12, method="dop853")
        layers = {"method": "euler", "step": 2.0 / n}
        y = pn.solve(f, y0, t, theta, **layers).y
        chain = credit(f, t, y, theta, slope, **layers)
        errors.append(float(np.abs(chain - exact).max()))
        curves[n] = (t, chain, exact)
    order = -np.polyfit(np.log(depths[2:]), np.log(errors[2:]), 1)[0]
    return {"depths": depths, "errors": errors, "order": float(order), "curves": curves}


def draw_credit(axes, result):
    t, _, exact = result["curves"][max(result["depths"])]
    axes[0].plot(t, exact[:, 0], color="k", label="adjoint a(t)")
    for n, colour in ((8, RED), (32, BLUE)):
        axes[0].plot(
            result["curves"][n][0], result["curves"][n][1][:, 0], ".-", ms=4, lw=0.8, color=colour, label=f"N = {n}"
        )
    axes[0].set(xlabel="t", ylabel="$dL / dy_1$", title="Credit of each layer")
    axes[0].legend(frameon=False)
    axes[1].loglog(result["depths"], result["errors"], "o-", color=BLUE)
    axes[1].set(xlabel="layers N", ylabel="largest error", title=f"Measured order {result['order']:.2f}")


# ---- 3 ----------------------------------------------------------------------------------------------------------------


@pn.field(state=3, inputs=1)
def cart(t, y, u):
    """An inverted pendulum near the top: angle, speed, cost so far."""
    angle, speed = y[0], y[1]
    return [speed, np.sin(angle) - 0.1 * speed + u[0], angle**2 + 0.1 * speed**2 + 0.01 * u[0] ** 2]


def policy_gradients(batch=32, repeats=60, sigma=0.3, actions=20, seed=2):
    """Mean and variance of both estimators of the same gradient at an untrained policy."""
    policy = pn.mlp(2, (8,), 1)
    theta = policy.init(seed)
    agent = HeldPolicy(cart, policy, np.linspace(0, 2, actions + 1), sigma, method="rk4", step=0.05)
    rng = np.random.default_rng(seed)
    estimates = {"pathwise": [], "REINFORCE, baseline": [], "REINFORCE": []}
    for _ in range(repeats):
        y0 = np.zeros((batch, 3))
        y0[:, :2] = rng.normal(size=(batch, 2)) * [0.5, 0.3]
        episodes = agent.rollout(theta, y0, rng.normal(size=(batch, actions, 1)))
        estimates["pathwise"].append(agent.pathwise(theta, episodes))
        estimates["REINFORCE, baseline"].append(agent.reinforce(theta, episodes))
        estimates["REINFORCE"].append(agent.reinforce(theta, episodes, baseline=False))
    each = {name: np.array(g) for name, g in estimates.items()}
    variance = {name: float(g.var(axis=0, ddof=1).sum()) for name, g in each.items()}
    mean = {name: g.mean(axis=0) for name, g in each.items()}
    gap = mean["pathwise"] - mean["REINFORCE, baseline"]
    error = np.sqrt(sum(each[name].var(axis=0, ddof=1) for name in ("pathwise", "REINFORCE, baseline")) / repeats)
    return {"variance": variance, "mean": mean, "gap": gap / error, "sigma": sigma, "batch": batch}


def learning(rule, learning_rate, steps=60, batch=32, seed=3):
    """Cost of the deterministic policy on fixed starts while it learns by one of the rules."""
    policy = pn.mlp(2, (8,), 1)
    theta, rng = policy.init(2), np.random.default_rng(seed)
    agent = HeldPolicy(cart, policy, np.linspace(0, 2, 21), 0.3, method="rk4", step=0.05)
    fixed = np.zeros((64, 3))
    fixed[:, :2] = np.random.default_rng(9).normal(size=(64, 2)) * [0.5, 0.3]
    costs = []
    first = np.zeros_like(theta)
    second = np.zeros_like(theta)
    for n in range(steps):
        costs.append(float(agent.rollout(theta, fixed, np.zeros((64, 20, 1))).cost.mean()))
        y0 = np.zeros((batch, 3))
        y0[:, :2] = rng.normal(size=(batch, 2)) * [0.5, 0.3]
        episodes = agent.rollout(theta, y0, rng.normal(size=(batch, 20, 1)))
        g = getattr(agent, rule)(theta, episodes)
        first, second = 0.9 * first + 0.1 * g, 0.99 * second + 0.01 * g**2  # Adam
        step = first / (1 - 0.9 ** (n + 1)) / (np.sqrt(second / (1 - 0.99 ** (n + 1))) + 1e-8)
        theta = theta - learning_rate * step
    return costs


def draw_policies(axes, result, curves):
    names = list(result["variance"])
    axes[0].bar(names, [result["variance"][n] for n in names], color=[BLUE, RED, "0.6"])
    axes[0].set_yscale("log")
    axes[0].set(ylabel="variance (sum over parameters)", title=f"Gradient of {result['batch']} episodes")
    axes[0].tick_params(axis="x", labelsize=8)
    for (name, costs), colour in zip(curves.items(), (BLUE, RED), strict=True):
        axes[1].plot(costs, color=colour, label=name)
    axes[1].set(xlabel="updates (Adam 0.02)", ylabel="cost", title="Learning to balance", yscale="log")
    axes[1].legend(frameon=False)


def main(folder="."):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 2, figsize=(9, 11), layout="constrained")
    depth = adaptive_depth()
    print(
        f"adaptive depth: accuracy {depth['accuracy']:.3f} (Euler {depth['euler_accuracy']:.3f}), {depth['halted']:.1%} halt"
    )
    median, most, largest = depth["difference"]
    print(
        f"  at {depth['time'].min():.2f} to {depth['time'].max():.2f}; Euler's times differ by {median:.3f} (median), "
        f"{most:.3f} (95 %), {largest:.3f} (largest: a dip of |f| that only one of them meets)"
    )
    draw_depth(axes[0], depth)
    chain = credit_convergence()
    print(f"credit: errors {', '.join(f'{e:.1e}' for e in chain['errors'])}, order {chain['order']:.3f}")
    draw_credit(axes[1], chain)
    result = policy_gradients()
    ratio = {name: v / result["variance"]["pathwise"] for name, v in result["variance"].items()}
    print("policy gradients: variance / pathwise " + ", ".join(f"{n} {r:.0f}" for n, r in ratio.items()))
    print(f"  means agree: gap / standard error rms {np.sqrt((result['gap'] ** 2).mean()):.2f}")
    curves = {rule: learning(rule, 0.02) for rule in ("pathwise", "reinforce")}
    print("  cost after 60 updates: " + ", ".join(f"{n} {c[-1]:.3f} (from {c[0]:.3f})" for n, c in curves.items()))
    draw_policies(axes[2], result, curves)
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "agents.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
