"""A mass on a spring, learned from noisy data: Hamiltonian, second order, and plain, over a hundred periods.

    python examples/mass_spring.py [picture.png] [--sets N]

25 trajectories of 30 points over half a period, energies 1/8 to 9/8, noise 0.1 (Greydanus, Dzamba, Yosinski 2019, have the
same kind of data; they train on slopes, here the solution is fitted). The learned equations then run from (1, 0)
for a hundred periods; the error is that of the true energy q^2 / 2 + p^2 / 2 along the way.
"""

import argparse
import time

import numpy as np

import pynode as pn


@pn.field(state=2, out=1, theta={"T": pn.mlp(1, (8,), 1), "V": pn.mlp(1, (8,), 1)})
def separable(t, y, th):
    return th.T(y[1:])[0] + th.V(y[:1])[0]


FIELDS = {
    "plain network": None,
    "Hamiltonian, network H(q, p)": pn.hamiltonian(pn.mlp(2, (16,), 1)),
    "Hamiltonian, T(p) + V(q)": pn.hamiltonian(separable),
    "second order, q'' = a(q)": pn.second_order(pn.mlp(1, (8,), 1)),
}
LEAPFROG = ("Hamiltonian, T(p) + V(q)", "second order, q'' = a(q)")
"""Fields for which leapfrog is symplectic."""


POINTS = 50
"""Points a period."""


def energy(y):
    return 0.5 * (y**2).sum(axis=-1)


def data(seed, noise=0.1):
    """Times (30,) and measured (25, 30, 2)."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 3, 30)
    radius, phase = rng.uniform(0.5, 1.5, (25, 1)), rng.uniform(0, 2 * np.pi, (25, 1))
    y = radius[..., None] * np.stack([np.cos(t + phase), -np.sin(t + phase)], axis=-1)
    return t, y + noise * rng.standard_normal(y.shape)


def rollouts(seed, periods=100, hidden=(16,)):
    """(times, name -> (states from (1, 0), seconds of the fit)).

    By Dormand and Prince at the tolerance of `predict`, by leapfrog of 100 steps a period where that is symplectic.
    """
    t, Y = data(seed)
    times, out = np.linspace(0, 2 * np.pi * periods, POINTS * periods + 1), {}
    for name, field in FIELDS.items():
        started = time.perf_counter()
        model = pn.NeuralODE(hidden=hidden, field=field, random_state=0).fit(t, Y)
        seconds = time.perf_counter() - started
        if name in LEAPFROG:
            step = 2 * np.pi / 100
            y = pn.solve(model.field_, [1.0, 0.0], times, model.theta_, method="leapfrog", step=step).y
        else:
            y = model.predict(times, [1.0, 0.0])
        out[name] = y, seconds
    return times, out


def table(sets):
    """name -> (mean energy error, seconds), a row a data set."""
    rows = {name: [] for name in FIELDS}
    for seed in range(sets):
        for name, (y, seconds) in rollouts(seed)[1].items():
            rows[name].append((np.abs(energy(y) - 0.5).mean(), seconds))
    return {name: np.array(row) for name, row in rows.items()}


def picture(path, seed=0):
    from matplotlib import pyplot as plt

    runs = rollouts(seed)[1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=[1, 1.5])
    colours = dict(zip(FIELDS, ["C3", "C0", "C2", "C4"], strict=True))
    plain, structured = "plain network", "Hamiltonian, T(p) + V(q)"
    for name in (plain, structured):
        for period, alpha in ((9, 0.4), (29, 0.7), (99, 1.0)):
            y = runs[name][0][POINTS * period : POINTS * (period + 1) + 1]
            label = name if period == 99 else None
            left.plot(y[:, 0], y[:, 1], lw=1.2, color=colours[name], alpha=alpha, label=label)
            if name == plain:
                left.annotate(f"{period + 1}", y[0], color=colours[name], fontsize=8)
    angle = np.linspace(0, 2 * np.pi, 200)
    left.plot(np.cos(angle), np.sin(angle), "k--", lw=1, label="truth")
    left.set(aspect="equal", xlabel="q", ylabel="p", title="periods 10, 30 and 100 from (1, 0)", ylim=(-1.1, 1.65))
    left.legend(loc="upper center", fontsize=8)
    for name, (y, _) in runs.items():
        error = np.abs(energy(y[1:]) - 0.5).reshape(-1, POINTS).mean(axis=1)
        right.semilogy(np.arange(1, len(error) + 1), error, color=colours[name], lw=1.2, label=name)
    right.set(
        xlabel="periods", ylabel="error of the energy, mean over a period", title="energy 0.5 at the start", ylim=(1e-3, 2)
    )
    right.legend(fontsize=8, loc="center right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?")
    parser.add_argument("--sets", type=int, default=10, help="data sets")
    args = parser.parse_args()
    rows = table(args.sets)
    plain = rows["plain network"][:, 0]
    print(f"{'':32}energy error: median, worst   beside plain: median   fit")
    for name, row in rows.items():
        error, seconds = row.T
        print(
            f"{name:32}{np.median(error):20.4f} {error.max():7.4f} {np.median(plain / error):19.1f} x"
            f"   {np.median(seconds):.2f} s"
        )
    if args.picture:
        picture(args.picture)


if __name__ == "__main__":
    main()
