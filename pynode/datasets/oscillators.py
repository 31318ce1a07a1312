"""Oscillators with a known equation."""

from typing import Any

import numpy as np

from pynode.calls.solve import solve
from pynode.data.trajectories import Trajectories
from pynode.datasets.base import Dataset
from pynode.fields.field import Field
from pynode.fields.make import field


def van_der_pol(
    random_state: int | None = 0,
    *,
    n_train: int = 16,
    n_held_out: int = 8,
    noise: float = 0.05,
    duration: float = 10.0,
    n_times: int = 101,
    mu: float = 1.0,
) -> Dataset:
    """Noisy trajectories of the Van der Pol oscillator x'' = mu (1 - x^2) x' - x.

    Initial states are uniform in [-3, 3]^2. The field is solved by `dop853` with tolerance 1e-10.

    Parameters
    ----------
    random_state : int or None, default 0
        The same number, the same data; None: others each time.
    n_train, n_held_out : int, default 16 and 8
        Trajectories to learn from (with noise) and to test on (without).
    noise : float, default 0.05
        Standard deviation of the measurement noise.
    duration : float, default 10.0
        The trajectories run from 0 to `duration`.
    n_times : int, default 101
        Equidistant times of measurement.
    mu : float, default 1.0
        Damping.

    Returns
    -------
    Dataset
        States x and v.

    Raises
    ------
    ValueError
        A number is out of its range.

    See Also
    --------
    pynode.datasets.lynx_hare, pynode.datasets.spirals

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.datasets.van_der_pol(n_train=4, noise=0.1)
    >>> data.train.y[0].shape
    (101, 2)
    """
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise!r}")
    if n_train < 1 or n_held_out < 0 or n_times < 2 or not duration > 0:
        raise ValueError(
            "van_der_pol needs n_train >= 1, n_held_out >= 0, n_times >= 2 and duration > 0, got "
            f"{n_train!r}, {n_held_out!r}, {n_times!r}, {duration!r}"
        )
    rng = np.random.default_rng(random_state)
    t = np.linspace(0.0, duration, n_times)
    truth = van_der_pol_field(float(mu))
    y0 = rng.uniform(-3.0, 3.0, (n_train + n_held_out, 2))
    Y = solve(truth, y0, t, method="dop853", rtol=1e-10, atol=1e-10, errors="raise").y
    noisy = Y[:n_train] + noise * rng.standard_normal(Y[:n_train].shape)
    names = ("x", "v")
    held_out = Trajectories.from_arrays(t, Y[n_train:], names=names) if n_held_out else None
    return Dataset(
        Trajectories.from_arrays(t, noisy, names=names),
        held_out,
        truth,
        f"Van der Pol oscillator, mu = {mu:g}, measurement noise {noise:g}, random_state {random_state}",
    )


def van_der_pol_field(mu: float = 1.0) -> Field:
    """The field of the Van der Pol oscillator, states x and v."""

    @field(state=2)
    def van_der_pol(t: Any, y: Any) -> list[Any]:
        x, v = y
        return [v, mu * (1 - x**2) * v - x]

    return van_der_pol
