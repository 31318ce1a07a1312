"""Fits of the right equation have nothing to warn of, whatever the noise; wrong ones have."""

import warnings

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0.0, 8.0, 30)
SEEDS = range(12)


@pn.field(state=1, theta={"A": pn.positive(3.0), "k": pn.positive(1.0)})
def decay(t, y, th):
    return -th.k * y


def fitted(t, y, noise, **options):
    """The warnings of a fit."""
    model = pn.NeuralODE(field=decay, initial=lambda th: [th.A], noise=noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        if "censored" in options:
            data = pn.Trajectories((t,), (y[:, None],), ("y1",), censored=(options["censored"][:, None],))
            return model.fit(data).report_["warnings"]
        return model.fit(t, y, **options).report_["warnings"]


def readings(kind, f, rng):
    """(readings, error model, options of the fit)."""
    z = rng.standard_normal(len(f))
    if kind == "few":
        return f + 0.1 * z, "additive", {}
    if kind == "proportional":
        return f * (1 + 0.1 * z), kind, {}
    if kind == "combined":
        return f + np.hypot(0.05, 0.1 * f) * z, kind, {}
    if kind == "lognormal":
        return f * np.exp(0.15 * z), kind, {}
    if kind == "student":
        return f + 0.1 * rng.standard_t(3, len(f)), kind, {}
    if kind == "weights":
        weight = rng.uniform(0.1, 10.0, len(f))
        return f + 0.1 * z / np.sqrt(weight), "additive", {"weight": weight[:, None]}
    y = f + 0.1 * z
    return np.maximum(y, 0.5), "additive", {"censored": np.where(y < 0.5, 1, 0)}


KINDS = ["few", "proportional", "combined", "lognormal", "student", "weights", "censored"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_false_alarm(kind):
    t = T[::3] if kind == "few" else T
    for seed in SEEDS:
        y, noise, options = readings(kind, 5 * np.exp(-0.4 * t), np.random.default_rng(seed))
        assert fitted(t, y, noise, **options) == [], seed


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "few"])
def test_a_wrong_equation_is_found(kind):
    for seed in SEEDS[:2]:
        truth = 0.7 + 4.3 * np.exp(-0.8 * T) + 1.5 * np.sin(T) * np.exp(-0.1 * T) ** 2 + 0.8
        y, noise, options = readings(kind, truth, np.random.default_rng(seed))
        assert fitted(T, y, noise, **options), seed
