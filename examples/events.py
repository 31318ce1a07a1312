"""A bouncing ball: events with resets, and what their exact gradients are good for.

    python examples/events.py [folder for the picture]

Gravity and restitution are learned from the noisy times of the bounces alone: the loss is about event times, its gradient
goes through every bounce.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

import pynode as pn

TRUE, NOISE = np.array([9.81, 0.85]), 0.003
T = np.array([0.0, 4.2])
DROPS = np.array([[1.0, 0.0], [1.6, 0.0], [2.2, 1.0]])


@pn.field(state=2, theta={"gravity": 8.0, "restitution": 0.7})
def ball(t, y, th):
    return [y[1], -th.gravity]


BOUNCE = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y, th: [0.0, -th.restitution * y[1]])


def measured(seed=0):
    """Noisy times of the first four bounces of each ball (3, 4)."""
    events = pn.solve(ball, DROPS, T, TRUE, events=BOUNCE).events
    first = np.array([events.of(sample=i).t[:4] for i in range(3)])
    return first + NOISE * np.random.default_rng(seed).normal(size=first.shape)


def loss(theta, times):
    """Squared error of those bounces that happen by then, and its gradient."""
    until = [np.array([0.0, last + 0.1]) for last in times[:, -1]]
    sol = pn.solve(ball, DROPS, until, theta, events=BOUNCE)
    seed = np.zeros(len(sol.events))
    value = 0.0
    for i in range(3):
        mine = np.flatnonzero(sol.events.sample == i)[:4]
        gap = sol.events.t[mine] - times[i, : len(mine)]
        value += (gap**2).sum()
        seed[mine] = 2 * gap
    return value, sol.vjp(event_t=seed, wrt="theta").theta


def main(folder="."):
    import matplotlib.pyplot as plt

    times, path = measured(), []
    options = {"jac": True, "method": "BFGS", "callback": lambda x: path.append(x.copy())}
    fit = minimize(loss, ball.init(), args=(times,), **options)
    for name, x, true in zip(("gravity", "restitution"), fit.x, TRUE, strict=True):
        print(f"{name}: {x:.4f} (true {true}), from {ball.unflatten(ball.init())[name]}")
    print(f"rms error of the bounce times {np.sqrt(fit.fun / times.size):.4f} s (noise {NOISE}), {fit.nfev} solves")

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    t = np.linspace(0, 2.75, 600)
    for theta, style in ((ball.init(), {"color": "0.75", "lw": 1}), (fit.x, {"color": "#2a6f97"})):
        axes[0].plot(t, pn.solve(ball, DROPS[0], t, theta, events=BOUNCE).y[:, 0], **style)
    axes[0].plot(times[0], 0 * times[0], "x", color="#c1442e", label="measured bounces")
    axes[0].set(xlabel="t", ylabel="height", title="Before (grey) and after learning")
    axes[0].legend(frameon=False, loc="upper right")
    way = np.array([ball.init(), *path])
    axes[1].plot(way[:, 0], way[:, 1], "o-", ms=4, color="#2a6f97")
    axes[1].plot(*TRUE, "*", ms=14, color="#c1442e")
    axes[1].set(xlabel="gravity", ylabel="restitution", title="Steps of BFGS, exact gradients")
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "events.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
