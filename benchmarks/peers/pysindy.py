"""PySINDy: polynomials of degree 3, sequentially thresholded least squares on smoothed slopes."""

import warnings

import numpy as np
import pysindy as ps
from scipy.integrate import solve_ivp
from systems_nets import Inputs

REQUIREMENTS = ["pysindy", "scipy", "numpy"]

THRESHOLDS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""The one with which the trajectories of the data are followed best is taken."""

FAR = 100.0
"""In standard deviations of the states: beyond this a solution is given up."""


def systems(data, steps):
    """predict(t, y0 (n, d), u (n, T, m) or None) -> (n, T, d); `steps` are for those that need any."""
    warnings.simplefilter("ignore")
    t = data["t"]
    y = data["y"]
    u = data.get("u")
    scale = y.std(axis=(0, 1))
    time = t[-1] / 10
    best, chosen = np.inf, None
    for threshold in THRESHOLDS:
        model = ps.SINDy(
            optimizer=ps.STLSQ(threshold=threshold),
            feature_library=ps.PolynomialLibrary(degree=3),
            differentiation_method=ps.SmoothedFiniteDifference(),
        )
        model.fit(list(y / scale), t=t / time, u=None if u is None else list(u))
        square = np.mean((_simulated(model, scale, time, t, y[:, 0], u) / scale - y / scale) ** 2, axis=(1, 2))
        missed = float(np.median(np.where(np.isfinite(square), square, np.inf)))
        if chosen is None or missed < best:
            best, chosen = missed, model
    return lambda t, y0, u: _simulated(chosen, scale, time, t, y0, u)


def _simulated(model, scale, time, t, y0, u):
    """All trajectories at once; those that get lost stay where they are, and are NaN."""
    n, d = y0.shape
    inputs = Inputs(t / time, None if u is None else u.swapaxes(0, 1))

    def slope(x, z):
        z = z.reshape(n, d)
        kept = np.abs(z).max(axis=1) < FAR
        with np.errstate(all="ignore"):
            return (model.predict(np.clip(z, -FAR, FAR), u=inputs(x)) * kept[:, None]).ravel()

    found = solve_ivp(slope, (t[0] / time, t[-1] / time), (y0 / scale).ravel(), t_eval=t / time, rtol=1e-5, atol=1e-5)
    out = np.full((n, len(t), d), np.nan)
    out[:, : found.y.shape[1]] = found.y.reshape(n, d, -1).swapaxes(1, 2)
    out[np.abs(out).max(axis=(1, 2)) >= FAR] = np.nan
    return out * scale
