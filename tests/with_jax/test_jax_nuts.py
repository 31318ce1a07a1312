"""NUTS over the parameters of an equation: the example, whose posterior is near Laplace's approximation of it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numpyro", reason="NumPyro is not installed")
pytest.importorskip("threadpoolctl", reason="NeuralODE.fit needs threadpoolctl")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nuts_lotka_volterra.py"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nuts_and_laplace_agree(capsys):
    spec = importlib.util.spec_from_file_location("nuts_lotka_volterra", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    mean, deviation, drawn = example.compare(150)
    assert np.abs((drawn.mean(axis=(0, 1)) - mean) / deviation).max() < 0.35
    spread = drawn.std(axis=(0, 1)) / deviation
    assert ((spread > 0.85) & (spread < 1.3)).all()
    within = drawn.std(axis=1).mean(axis=0)
    assert (np.ptp(drawn.mean(axis=1), axis=0) < within).all()  # the chains are in one place
    printed = capsys.readouterr().out
    assert "0 of them diverged" in printed
    assert all(name in printed for name in example.GUESS)
