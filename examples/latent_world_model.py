"""A latent ODE as a world model of a pendulum that is seen through noise: learn, filter, forecast, plan, act.

    python examples/latent_world_model.py [folder for the picture]

Seen are cosine and sine of the angle, with noise, and one time in five nothing; never the speed. The torque is too weak to
lift the pendulum: it has to swing up. Nothing is told about pendulums: `LatentODE` learns an equation dz/dt = f(z, u) and
what is seen of z. In the closed loop the last second gives z (the filter), and `Planner` improves the torques of the next
seconds by the gradient of the cost through the latent equation.
"""

import sys
from pathlib import Path

import numpy as np

import pynode as pn
from pynode.control.planning import Planner, priced

DT = 0.1
NOISE = 0.05
MISSING = 0.2
LIMIT = 2.5
CONTEXT = 10
WINDOW = 20
HORIZON = 25
"""Numbers of intervals: those the encoder sees, those of a window in training, those of a plan."""


@pn.field(state=2, inputs=1)
def pendulum(t, y, u):
    """The truth: angle (0 hangs down) and speed."""
    return [y[1], -4.0 * np.sin(y[0]) - 0.1 * y[1] + u[0]]


@pn.field(state=3, inputs=1)
def true_plant(t, y, u):
    """The truth with the cost so far, for a planner that knows it."""
    return [y[1], -4.0 * np.sin(y[0]) - 0.1 * y[1] + u[0], 1 + np.cos(y[0]) + 0.01 * u[0] ** 2]


def cost(x, u):
    """0 upright, 2 hanging down, and a price of effort."""
    return 1 + x[0] + 0.01 * u[0] ** 2


def look(angle, rng):
    """What is seen of angles (...): cosine and sine with noise, or NaN."""
    seen = np.stack([np.cos(angle), np.sin(angle)], axis=-1) + NOISE * rng.normal(size=(*np.shape(angle), 2))
    seen[rng.random(np.shape(angle)) < MISSING] = np.nan
    return seen


def experience(n=256, steps=80, seed=0):
    """Times (T,), what is seen (n, T, 2), torques held from each time (n, T, 1), true states (n, T, 2)."""
    rng = np.random.default_rng(seed)
    t = DT * np.arange(steps + 1)
    u = np.repeat(rng.uniform(-LIMIT, LIMIT, (n, steps // 4 + 1)), 4, axis=1)[:, : steps + 1, None]
    y0 = np.stack([rng.uniform(-np.pi, np.pi, n), 2.5 * rng.normal(size=n)], axis=1)
    y0[::2] = [np.pi, 0.0] + 0.4 * rng.normal(size=y0[::2].shape)  # half of them begin where it is to stay
    y = pn.solve(pendulum, y0, t, inputs=(t, u, "previous")).y
    return t, look(y[..., 0], rng), u, y


def windows(t, seen, u, length=WINDOW, every=10):
    """Pieces of the episodes, all with the clock of the first."""
    starts = range(0, len(t) - length, every)
    Y, U = (np.concatenate([x[:, a : a + length + 1] for a in starts]) for x in (seen, u))
    return t[: length + 1], Y, U


def learn(n=400, max_iter=12000, seed=0, **options):
    """The world model."""
    t, Y, U = windows(*experience(n, seed=seed)[:3])
    settings = {"latent": 3, "hidden": (64,), "encoder_hidden": 48, "decoder_hidden": (), "learning_rate": 7e-3} | options
    model = pn.LatentODE(context=CONTEXT * DT, t0=0.0, max_iter=max_iter, random_state=seed, **settings)
    return model.fit(t, Y, u=(t, U, "previous"))


def forecasts(model, n=64, seed=1):
    """(rms error (T,), mean standard deviation (T,)) of forecasts after a second of new episodes, T = 21 over 2 s."""
    t, seen, u, y = experience(n, 30, seed)
    signal, k = (t, u, "previous"), CONTEXT
    belief = model.filter(t[: k + 1], seen[:, : k + 1], u=signal)
    mean, std = model.rollout(t[k:], belief, u=signal, return_std=True)
    truth = np.stack([np.cos(y[..., 0]), np.sin(y[..., 0])], axis=2)
    return np.sqrt(np.mean((mean - truth[:, k:]) ** 2, axis=(0, 2))), std.mean(axis=(0, 2))


def planner_of(model, **options):
    """A planner through the world model."""
    return Planner(*priced(model, cost), DT, HORIZON, -LIMIT, LIMIT, **options)


def closed_loop(act, seconds=8.0, seed=5):
    """Hang and look for a second, then act: u = act(t, seen, u so far, true state); what happened, at every interval."""
    rng = np.random.default_rng(seed)
    state = np.zeros(2)
    steps = round(seconds / DT) + CONTEXT
    t = DT * np.arange(steps + 1)
    states = []
    seen = []
    u = []
    for k in range(steps + 1):
        states.append(state)
        seen.append(look(state[0], rng))
        u.append(act(t[: k + 1], np.array(seen), u, state) if k >= CONTEXT else np.zeros(1))
        state = pn.solve(pendulum, state, [0.0, DT], inputs=u[-1]).y[-1]
    return {"t": t - CONTEXT * DT, "state": np.array(states), "seen": np.array(seen), "u": np.array(u)}


def by_model(model, planner, beliefs=None):
    """The policy that filters and plans with the model."""

    def act(t, seen, u, state):
        k = slice(-CONTEXT - 1, None)
        now = np.concatenate([u, [u[-1]]])  # the last row holds from now on: of no effect on the past
        belief = model.filter(t[k], seen[k], u=(t[k], now[k], "previous"), n_samples=1 if beliefs is None else 100)
        plan = planner(belief.mean)
        if beliefs is not None:
            beliefs.append((belief, plan.u))
        return plan.u[0]

    return act


def by_truth(planner):
    """The policy that knows the state and the equation."""
    return lambda t, seen, u, state: planner(state).u[0]


def at_random(seed=0):
    """Random torques."""
    rng = np.random.default_rng(seed)
    return lambda t, seen, u, state: rng.uniform(-LIMIT, LIMIT, 1)


def score(log):
    """Mean of 1 + cos(angle) in the last two seconds: 0 upright, 2 hanging down."""
    return float(np.mean(1 + np.cos(log["state"][log["t"] > log["t"][-1] - 2, 0])))


def main(folder="."):
    import matplotlib.pyplot as plt

    model = learn()
    error, std = forecasts(model)
    print(f"learned in {model.report_['seconds']:.0f} s; noise {model.noise_.round(3)} (true {NOISE})")
    print("forecast after 0, 0.5, 1, 2 s: rms error", error[[0, 5, 10, 20]].round(3), "band", std[[0, 5, 10, 20]].round(3))
    beliefs = []
    log = closed_loop(by_model(model, planner_of(model), beliefs))
    for seed in range(5, 8):
        ours = log if seed == 5 else closed_loop(by_model(model, planner_of(model)), seed=seed)
        known = closed_loop(by_truth(Planner(true_plant, None, DT, HORIZON, -LIMIT, LIMIT)), seed=seed)
        print(f"seed {seed}: {score(ours):.3f} world model, {score(known):.3f} true model and state", end=", ")
        print(f"{score(closed_loop(at_random(seed), seed=seed)):.3f} random torques")

    figure, axes = plt.subplots(2, 1, figsize=(8, 5.5), sharex=True, layout="constrained")
    t, at = log["t"], int(np.argmin(np.cos(log["state"][:, 0]) > 0.5))  # on the way up
    belief, u = beliefs[max(at - CONTEXT - 5, 0)]
    s = DT * np.arange(HORIZON + 1)
    mean, std = model.rollout(s, belief, u=(s[:-1], u, "previous"), return_std=True)
    start = belief.t - CONTEXT * DT
    axes[0].plot(t, log["seen"][:, 0], ".", ms=3, color="0.5", label="seen")
    axes[0].plot(t, np.cos(log["state"][:, 0]), color="k", label="truth")
    axes[0].plot(start + s, mean[:, 0], "--", color="#2a6f97", label=f"plan at {start:.1f} s, as imagined")
    low, high = (mean[:, 0] + sign * 1.645 * std[:, 0] for sign in (-1, 1))
    axes[0].fill_between(start + s, low, high, color="#2a6f97", alpha=0.2, lw=0, label="90 % band")
    axes[0].set(ylabel="cos(angle), -1: upright", title="Swing-up through the gradients of a latent ODE")
    axes[0].legend(frameon=False, ncols=2, fontsize=8)
    axes[1].step(t, log["u"][:, 0], where="post", color="#2a6f97")
    axes[1].set(ylabel="torque", xlabel="seconds after the first action", ylim=(-1.15 * LIMIT, 1.15 * LIMIT))
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder) / "latent_world_model.png", dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
