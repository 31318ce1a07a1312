"""Example data: a real record, a system with a known equation, families of curves."""

from importlib import resources

import numpy as np

from pynode.calls.solve import solve
from pynode.data.csv import read_csv
from pynode.data.trajectories import Trajectories
from pynode.datasets.base import Dataset
from pynode.datasets.curves import Curves, periodic, spirals
from pynode.fields.constraints import positive
from pynode.fields.make import field

__all__ = ["Curves", "Dataset", "lotka_volterra", "lynx_hare", "periodic", "spirals", "van_der_pol"]


def lynx_hare(held_out=0):
    """Pelts of hare and lynx (thousands) traded by the Hudson's Bay Company, a value a year, 1900 to 1920.

    Parameters
    ----------
    held_out : int
        How many of the last years to keep apart.

    Returns
    -------
    Dataset
        One trajectory, states hare and lynx; `held_out` holds the last years.
    """
    path = resources.files(__name__) / "lynx_hare.csv"
    with resources.as_file(path) as file:
        data = read_csv(file, time="year", state=["hare", "lynx"])
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    source = " ".join(line.lstrip("# ") for line in comments)
    n = data.lengths[0]
    if isinstance(held_out, bool) or not isinstance(held_out, (int, np.integer)) or not 0 <= held_out <= n - 2:
        raise ValueError(f"held_out must be a number of years from 0 to {n - 2}, not {held_out!r}")
    if not held_out:
        return Dataset(data, source=source)
    return Dataset(data.rows(stop=n - held_out), data.rows(start=n - held_out), source=source)


def lotka_volterra():
    """The equations of Lotka and Volterra for the logarithms of prey and predator, with what a fit may start from.

    d ln(prey) / dt = a - b predator,  d ln(predator) / dt = -c + d prey; all four positive.

    Returns
    -------
    Field
        For ``NeuralODE(field=..., log=True)``; parameters a, b, c, d in units of years and thousands.
    """

    @field(state=2, theta={"a": positive(0.5), "b": positive(0.03), "c": positive(0.8), "d": positive(0.03)})
    def lotka_volterra(t, z, th):
        prey, predator = np.exp(z)
        return [th.a - th.b * predator, -th.c + th.d * prey]

    return lotka_volterra


def van_der_pol(seed=0, *, n_train=16, n_held_out=8, noise=0.05, duration=10.0, n_times=101, mu=1.0):
    """Noisy trajectories of the Van der Pol oscillator x'' = mu (1 - x^2) x' - x.

    Initial states are uniform in [-3, 3]^2. The field is solved by `dop853` with tolerance 1e-10.

    Parameters
    ----------
    seed : int
        The same seed, the same data.
    n_train, n_held_out : int
        Trajectories to learn from (with noise) and to test on (without).
    noise : float
        Standard deviation of the measurement noise.
    duration : float
        The trajectories run from 0 to `duration`.
    n_times : int
        Equidistant times of measurement.
    mu : float
        Damping.

    Returns
    -------
    Dataset
        States x and v.
    """
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise!r}")
    if n_train < 1 or n_held_out < 0 or n_times < 2 or not duration > 0:
        raise ValueError(
            "van_der_pol needs n_train >= 1, n_held_out >= 0, n_times >= 2 and duration > 0, got "
            f"{n_train!r}, {n_held_out!r}, {n_times!r}, {duration!r}"
        )
    rng = np.random.default_rng(seed)
    t = np.linspace(0.0, duration, n_times)
    truth = _van_der_pol_field(float(mu))
    y0 = rng.uniform(-3.0, 3.0, (n_train + n_held_out, 2))
    Y = solve(truth, y0, t, method="dop853", rtol=1e-10, atol=1e-10, errors="raise").y
    noisy = Y[:n_train] + noise * rng.standard_normal(Y[:n_train].shape)
    names = ("x", "v")
    held_out = Trajectories.from_arrays(t, Y[n_train:], names=names) if n_held_out else None
    return Dataset(
        Trajectories.from_arrays(t, noisy, names=names),
        held_out,
        truth,
        f"Van der Pol oscillator, mu = {mu:g}, measurement noise {noise:g}, seed {seed}",
    )


def _van_der_pol_field(mu):
    @field(state=2)
    def van_der_pol(t, y):
        x, v = y
        return [v, mu * (1 - x**2) * v - x]

    return van_der_pol
