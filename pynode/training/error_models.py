"""Error models: how readings scatter about what the model predicts, as likelihoods.

A reading y of a prediction f has a scale s(f) and a standardised residual z = (y - f) / s. Half its deviance is

    log s + rho(z) / 2 + constant.

Readings below (or above) a limit count with the probability of that (Beal 2001, J. Pharmacokinet. Pharmacodyn. 28, 481,
method M3). Curvatures are expected ones (Fisher's information), so that a step of Gauss-Newton is one of Fisher scoring.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, ndtr, stdtr

from pynode.training.noise import HUBER, STUDENT

Array = NDArray[np.float64]

FAR = 1e5
"""Standardised residuals beyond which tails are those of their limits."""

SMALLEST = 1e-6
"""A proportional error is at least that of a prediction of this part of the typical reading."""


@dataclass(frozen=True)
class ErrorModel:
    """How the scale of a reading follows from the prediction.

    Attributes
    ----------
    parameters : tuple of str
        Its parameters: "additive", a standard deviation in the units of the readings, and "proportional", one relative
        to the prediction. Their logarithms are what is estimated.
    logarithmic : bool
        Readings and predictions are compared by their logarithms.
    """

    parameters: tuple[str, ...]
    logarithmic: bool = False


ERROR_MODELS = {
    "additive": ErrorModel(("additive",)),
    "proportional": ErrorModel(("proportional",)),
    "combined": ErrorModel(("additive", "proportional")),
    "lognormal": ErrorModel(("additive",), logarithmic=True),
}
"""The error models by name. To add one is to add a row, and what it means to `scale` if it has another parameter."""


def scale(model: ErrorModel, f: Array, sigma: Array, least: float, typical: float) -> tuple[Array, Array, Array]:
    """The scale of readings, and its derivatives.

    Parameters
    ----------
    model : ErrorModel
        How it follows from the prediction.
    f : (n,) array
        Predictions.
    sigma : (m,) array
        Its parameters.
    least : float
        The scale of rounding, which is added in quadrature.
    typical : float
        The size of a typical reading.

    Returns
    -------
    s, ds/df : (n,) arrays
    ds/dlog(sigma) : (n, m) array
    """
    terms = np.empty((len(f), len(sigma)))
    by_f = np.zeros(len(f))
    for j, name in enumerate(model.parameters):
        if name == "additive":
            terms[:, j] = sigma[j] ** 2
        else:
            size = np.maximum(np.abs(f), SMALLEST * typical)
            terms[:, j] = (sigma[j] * size) ** 2
            by_f += sigma[j] ** 2 * np.where(size > SMALLEST * typical, f, 0.0)
    s = np.sqrt(terms.sum(axis=1) + least**2)
    return s, by_f / s, terms / s[:, None]


@dataclass(frozen=True)
class Density:
    """A distribution of standardised residuals.

    Attributes
    ----------
    deviance : callable
        z -> rho(z), with the constant that makes exp(-rho / 2) a density.
    score : callable
        z -> psi(z) = rho'(z) / 2.
    location, scale : float
        Fisher's information of location and of the logarithm of the scale, for a scale of 1.
    """

    deviance: Callable[[Array], Array]
    score: Callable[[Array], Array]
    location: float
    scale: float


@cache
def density(noise: str) -> Density:
    """The distribution by its name: "gaussian", "student" (4 degrees of freedom), "huber"."""
    if noise == "gaussian":
        return Density(lambda z: z * z + np.log(2 * np.pi), lambda z: z, 1.0, 2.0)
    if noise == "student":
        n = STUDENT
        # Gamma(5/2) / Gamma(2) / sqrt(4 pi) is 3 / 8: the density of four degrees of freedom at 0
        constant = -2 * np.log(3 / 8)
        return Density(
            lambda z: (n + 1) * np.log1p(z * z / n) + constant,
            lambda z: (n + 1) * z / (n + z * z),
            (n + 1) / (n + 3),
            2 * n / (n + 3),
        )
    k = HUBER
    edge = np.exp(-0.5 * k * k)
    # integrals of z^0, z^2, z^4 within the threshold, and of |z|^0, |z|, z^2 outside
    in0 = np.sqrt(2 * np.pi) * (1 - 2 * np.exp(log_ndtr(-k)))
    in2 = in0 - 2 * k * edge
    in4 = 3 * in2 - 2 * k**3 * edge
    out0 = 2 * edge / k
    out1 = 2 * edge * (1 + 1 / k**2)
    out2 = 2 * edge * (k + 2 / k + 2 / k**3)
    whole = in0 + out0
    return Density(
        lambda z: np.where(np.abs(z) < k, z * z, 2 * k * np.abs(z) - k * k) + 2 * np.log(whole),
        lambda z: np.clip(z, -k, k),
        (in2 + k * k * out0) / whole,
        float(1 + (in4 + k * k * out2 - 2 * (in2 + k * out1)) / whole),
    )


def tail(noise: str, z: Array) -> tuple[Array, Array, Array]:
    """Readings of which only is known that their standardised residual is below z.

    Returns
    -------
    deviance, slope, curvature : (n,) arrays
        -2 log P, and first and second derivative (positive) of half of it with respect to z.
    """
    if noise == "gaussian":
        h = np.sqrt(2 / np.pi) / erfcx(-z / np.sqrt(2))
        bend = np.where(z < -FAR, 1.0, h * (z + h))
        return -2 * log_ndtr(z), -h, np.maximum(bend, 1e-300)
    log_p = _log_student(z) if noise == "student" else _log_huber(z)
    h = np.where(z < -FAR, 4 / np.abs(np.minimum(z, -FAR)), 0.0) if noise == "student" else np.full(z.shape, HUBER)
    near = z > (-FAR if noise == "student" else -HUBER)
    h[near] = np.exp(-0.5 * density(noise).deviance(z[near]) - log_p[near])
    # Student's tail is not log-concave: the square of the slope, whose mean is Fisher's information, takes its place
    bend = h * h if noise == "student" else h * (h - np.clip(-z, -HUBER, HUBER))
    return -2 * log_p, -h, np.maximum(bend, 1e-300)


def _log_student(z: Array) -> Array:
    """log P of Student's distribution with 4 degrees of freedom, of which 3 / z^4 is the tail."""
    out: Array = np.log(3.0) - 4 * np.log(np.maximum(np.abs(z), 1.0))
    near = z > -FAR
    out[near] = np.log(stdtr(STUDENT, z[near]))
    return out


def _log_huber(z: Array) -> Array:
    """log P of Huber's distribution, a Gaussian between exponential tails."""
    k = HUBER
    edge = np.exp(-0.5 * k * k) / k
    middle = np.sqrt(2 * np.pi) * (ndtr(np.clip(z, -k, k)) - ndtr(-k))
    above = edge * -np.expm1(-k * np.maximum(z - k, 0.0))
    log_whole = np.log(2 * edge + np.sqrt(2 * np.pi) * (1 - 2 * ndtr(-k)))
    inside = np.log(edge + middle + above)
    return np.asarray(np.where(z < -k, k * z + 0.5 * k * k - np.log(k), inside) - log_whole)


def as_error_models(noise: Any, columns: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """(distribution, error model of each column) from the option `noise` of a model.

    Parameters
    ----------
    noise : str or dict of str
        A distribution ("gaussian", "huber", "student"; the error is then additive), an error model (the distribution is then
        Gaussian), or column -> error model.
    columns : tuple of str
        What is measured.
    """
    if isinstance(noise, str):
        if noise in ERROR_MODELS:
            return "gaussian", (noise,) * len(columns)
        return noise, ("additive",) * len(columns)
    unknown = [name for name in noise if name not in columns]
    if unknown:
        raise ValueError(f"noise names {unknown[0]!r}, which is not measured; measured are {', '.join(columns)}")
    return "gaussian", tuple(noise.get(name, "additive") for name in columns)
