"""A universal differential equation: growth and decay are known, how the species interact is learned.

    python examples/ude_lotka_volterra.py [picture.png] [--sets N]

    dx/dt =  1.3 x - x U_1(x, y)        truth: U_1 = 0.9 y
    dy/dt = -1.8 y + y U_2(x, y)               U_2 = 0.8 x

as in Rackauckas et al. 2020 (arXiv:2001.04385, section 3.1), with U a network, the constants and the initial state of
that paper, and far more noise: one trajectory over 6 units of time, 61 points, noise of standard deviation 0.05. What is
known besides: a species that is absent stays so, hence the factors x and y. A plain network learns the same
data for comparison; what it says of the interaction is its value less the known terms.
"""

import argparse
import time
from itertools import product

import numpy as np

import pynode as pn

GROWTH, DECAY = 1.3, 1.8
SIDE = 25
START = np.array([0.44249296, 4.6280594])
END = 6.0
NOISE = 0.05

KNOWN_AND_NETWORK = {"growth": pn.frozen(GROWTH), "decay": pn.frozen(DECAY), "U": pn.mlp(2, (8,), 2)}


@pn.field(state=2, theta=KNOWN_AND_NETWORK)
def interaction(t, y, th):
    U = th.U(y)
    return [-y[0] * U[0], y[1] * U[1]]


@pn.field(state=2, theta=KNOWN_AND_NETWORK)
def ude(t, y, th):
    U = th.U(y)
    return [y[0] * (th.growth - U[0]), y[1] * (U[1] - th.decay)]


@pn.field(state=2)
def truth(t, y):
    return [GROWTH * y[0] - 0.9 * y[0] * y[1], 0.8 * y[0] * y[1] - DECAY * y[1]]


def true_interaction(y):
    return y[..., :1] * y[..., 1:] * np.array([-0.9, 0.8])


def known(y):
    return y * np.array([GROWTH, -DECAY])


def exact(t):
    return pn.solve(truth, START, t, rtol=1e-10, atol=1e-10).y


def data(seed):
    """Times (61,) and measured states (61, 2)."""
    t = np.linspace(0, END, 61)
    return t, exact(t) + NOISE * np.random.default_rng(seed).standard_normal((len(t), 2))


def models(seed):
    """The fitted equations (ude, plain)."""
    t, Y = data(seed)
    return pn.NeuralODE(field=ude, random_state=0).fit(t, Y), pn.NeuralODE(hidden=(8,), random_state=0).fit(t, Y)


def around():
    """States (SIDE^2, 2) of the rectangle around the trajectory, row by row."""
    return np.stack(np.meshgrid(np.linspace(0.05, 9, SIDE), np.linspace(0.05, 7, SIDE)), axis=-1).reshape(-1, 2)


def relative_error(model, y):
    """Root mean square error of the learned interaction at the states y, beside its own root mean square."""
    true = true_interaction(y)
    return np.sqrt(((model.derivative(0.0, y) - known(y) - true) ** 2).mean() / (true**2).mean())


def interaction_with_band(model, y):
    """Learned interaction (B, 2) and its standard deviation, which the uncertainty of the parameters causes."""
    J = pn.jacobian(interaction, wrt="theta")(0.0, y, model.theta_)
    return interaction(0.0, y, model.theta_), np.sqrt(np.einsum("bip,pq,biq->bi", J, model.covariance_, J))


def law(y, values, degree=2, threshold=0.2):
    """The interaction in powers of x and y: coefficients below the threshold are left out one after the other
    (Brunton, Proctor, Kutz 2016). Returns a line of text for each species."""
    powers = [p for p in product(range(degree + 1), repeat=2) if sum(p) <= degree]
    library, lines = np.stack([y[:, 0] ** i * y[:, 1] ** j for i, j in powers], axis=1), []
    for v in values.T:
        keep = np.arange(len(powers))
        while True:
            coefficients = np.linalg.lstsq(library[:, keep], v, rcond=None)[0]
            least = np.argmin(np.abs(coefficients))
            if len(keep) == 1 or abs(coefficients[least]) >= threshold:
                break
            keep = np.delete(keep, least)
        names = ["1" if powers[k] == (0, 0) else "x" * powers[k][0] + "y" * powers[k][1] for k in keep]
        lines.append(" ".join(f"{c:+.2f} {name}" for c, name in zip(coefficients, names, strict=True)))
    return lines


def draw_solutions(axes, t, Y, both):
    fine = np.linspace(0, 2 * END, 481)
    true, (model, plain) = exact(fine), both
    for ax, i, name in zip(axes, (0, 1), ("prey x", "predators y"), strict=True):
        ax.axvspan(END, 2 * END, color="0.95")
        ax.plot(fine, plain.predict(fine)[:, i], color="C3", lw=1.2, label="plain network")
        ax.plot(fine, model.predict(fine)[:, i], color="C0", lw=1.8, label="known growth + network")
        ax.plot(fine, true[:, i], "k--", lw=1, label="truth")
        ax.plot(t, Y[:, i], ".", color="0.4", ms=5, label="data")
        ax.set(xlabel="t", ylabel=name, ylim=(-0.5, 1.35 * true[:, i].max()))
    axes[0].legend(fontsize=8, loc="upper left", ncols=2)


def draw_along(axes, model):
    """The learned terms and the true ones, and their difference, along the true trajectory."""
    t = np.linspace(0, END, 241)
    y = exact(t)
    (learned, std), true = interaction_with_band(model, y), true_interaction(y)
    for i, (colour, text) in enumerate((("C1", "on prey, -0.9 xy"), ("C2", "on predators, 0.8 xy"))):
        axes[0].plot(t, learned[:, i], color=colour, lw=1.8, label=f"learned, {text}")
        axes[0].plot(t, true[:, i], "k--", lw=1, label="truth" if i else None)
        axes[1].fill_between(t, -2 * std[:, i], 2 * std[:, i], color=colour, alpha=0.25, lw=0)
        axes[1].plot(t, learned[:, i] - true[:, i], color=colour, lw=1.5)
    axes[0].set(xlabel="t", ylabel="interaction", title="interaction along the trajectory", ylim=(-32, 48))
    axes[1].set(xlabel="t", ylabel="learned - true", title="its error, bands of 2 standard deviations")
    axes[0].legend(fontsize=8, loc="upper left")


def draw_around(figure, axes, both):
    from matplotlib.colors import PowerNorm

    square, path = around(), exact(np.linspace(0, END, 241))
    size = np.linalg.norm(true_interaction(square), axis=1).max()
    levels = np.array([0, 0.5, 1, 2, 5, 10, 20, 50])
    for ax, model, name in zip(axes, both, ("known growth + network", "plain network"), strict=True):
        error = np.linalg.norm(model.derivative(0.0, square) - known(square) - true_interaction(square), axis=1)
        x = square[:SIDE, 0]
        y = square[::SIDE, 1]
        percent = 100 * (error / size).reshape(SIDE, SIDE)
        mesh = ax.contourf(x, y, percent, levels, norm=PowerNorm(0.4, 0, levels[-1]), cmap="Blues", extend="max")
        ax.plot(path[:, 0], path[:, 1], "k-", lw=1)
        ax.set(xlabel="x", ylabel="y", title=f"error around it, {name}", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    figure.colorbar(mesh, ax=list(axes), label="% of the largest interaction", ticks=levels)


def picture(path, seed=0):
    from matplotlib import pyplot as plt

    (t, Y), both = data(seed), models(seed)
    figure = plt.figure(figsize=(14, 7.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2, 1.15])
    axes, maps = left.subplots(2, 2), right.subplots(2, 1)
    draw_solutions(axes[0], t, Y, both)
    draw_along(axes[1], both[0])
    draw_around(right, maps, both)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?")
    parser.add_argument("--sets", type=int, default=10, help="data sets")
    args = parser.parse_args()
    started, rows = time.perf_counter(), []
    along = exact(np.linspace(0, END, 241))
    for seed in range(args.sets):
        both = models(seed)
        rows.append([[relative_error(model, y) for y in (along, around())] for model in both])
        prey, predators = law(along, both[0].derivative(0.0, along) - known(along))
        print(f"data set {seed}: interaction on prey {prey}, on predators {predators}")
    rows = 100 * np.array(rows)
    print(f"\nerror of the interaction, %     along the trajectory     around it ({time.perf_counter() - started:.0f} s)")
    for k, name in enumerate(("known growth + network", "plain network")):
        values = [f"{np.median(rows[:, k, i]):5.1f} (worst {rows[:, k, i].max():5.1f})" for i in range(2)]
        print(f"{name:31} {values[0]:24} {values[1]}")
    if args.picture:
        picture(args.picture)


if __name__ == "__main__":
    main()
