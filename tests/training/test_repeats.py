"""Readings that stand still, and rows that are there twice, are told; counts, exact solutions and noise are not."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.verdict.repeats import copies, still

T = np.linspace(0, 10, 101)
SPRING = pn.field(state=2, theta={"mu": 0.6, "k": 1.5})(
    lambda t, y, th: [y[1], th.mu * (1 - y[0] ** 2) * y[1] - th.k * y[0]]
)
NOISY = np.array([True, True])


def measured(noise=0.02):
    rng = np.random.default_rng(0)
    clean = pn.solve(SPRING, 1.5 * rng.normal(size=(6, 2)), T, [1.0, 1.0], rtol=1e-9, atol=1e-9).y
    return clean + noise * rng.normal(size=clean.shape)


def table(y, **more):
    return pn.Trajectories.from_arrays(T[: y.shape[1]], y, names=["x", "v"][: y.shape[2]], **more)


def test_noise_counts_and_rounding_stand_still_nowhere():
    y = measured()
    counts = np.random.default_rng(1).poisson(2.0, (6, 101, 2)).astype(float)
    for data in (table(y), table(y.round(1)), table(counts), table(y[:, :9]), table(np.where(y > 9, 0.0, y))):
        assert still(data, NOISY) == []
        assert copies(data, NOISY) == []
    assert still(table(np.zeros((3, 101, 2))), ~NOISY) == [] and copies(table(np.zeros((3, 101, 2))), ~NOISY) == []


def test_a_sensor_that_stands_still_is_named():
    y = measured()
    y[3, 40:60, 1] = y[3, 40, 1]
    (words,) = still(table(y), NOISY)
    assert words.startswith(
        f"v is {y[3, 40, 1]:g} in 20 readings on end (from t = 4 of trajectory 3 on), as of a stuck sensor"
    )
    y[3, 45, 1] = np.nan  # a gap does not end it
    assert "in 19 readings on end" in still(table(y), NOISY)[0]
    y[3, 40:60, 1] = measured()[3, 40:60, 1]
    y[2, :9, 0] = 0.1  # of nine readings nothing is concluded
    assert still(table(y), NOISY) == []


def test_a_limit_of_what_is_measured_is_named():
    data = table(np.clip(measured(), -1.0, None))
    words = still(data, NOISY)
    assert len(words) == 2 and all("is -1 in" in w and "the lowest value there is, a limit" in w for w in words)
    assert "the longest of" in words[0]
    assert "the highest value there is" in still(table(np.clip(measured(), None, 1.0)), NOISY)[0]


def test_one_trajectory_may_end_where_the_next_begins():
    y = measured()
    y[2, -6:, 0] = y[3, :6, 0] = 0.5
    assert still(table(y), NOISY) == []


@pytest.mark.parametrize("rows", [slice(None), slice(30, 60)])
def test_copies_are_counted(rows):
    y = measured()
    y[5, rows] = y[2, rows]
    (words,) = copies(table(y), NOISY)
    n = 2 * len(T[rows])
    assert words.startswith(f"{n} of 606 rows are there more than once, to the last digit (first in trajectories 2 and 5)")


def test_copies_with_gaps_and_of_overlapping_windows():
    y = measured()
    y[1, ::3, 0] = np.nan
    whole = [*y, y[1].copy()]
    assert copies(pn.Trajectories.from_arrays(T, whole), NOISY)[0].startswith("202 of 707 rows")
    windows = np.array([way[a : a + 40] for way in measured() for a in (0, 20, 40, 60)])
    assert copies(table(windows), NOISY)[0].startswith(f"{6 * 4 * 40 - 6 * 2 * 20} of {6 * 4 * 40} rows")


def test_rows_without_readings_are_no_copies():
    y = measured()
    y[1:4, 20:40] = np.nan
    y[5, 60:80] = np.nan
    assert copies(table(y), NOISY) == [] and still(table(y), NOISY) == []
    assert copies(table(y[:, :3]), NOISY) == []


def test_four_rows_may_be_chance():
    y = measured()
    y[5, 10:14] = y[2, 10:14]
    assert copies(table(y), NOISY) == []


FITS = {"equation": {}, "own field": {"field": SPRING}, "protocol": {"field": SPRING, "initial": [np.nan, np.nan]}}


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("kind", FITS)
def test_a_fit_says_so(kind):
    y = measured()
    with pytest.warns(pn.fit.FitWarning, match="202 of 707 rows are there more than once"):
        pn.NeuralODE(random_state=0, **FITS[kind]).fit(T, np.concatenate([y, y[:1]]))
    if kind == "equation":  # a network takes its place, for longer
        return
    y[3, 40:60, 1] = y[3, 40, 1]
    with pytest.warns(pn.fit.FitWarning, match="20 readings on end"):
        pn.NeuralODE(random_state=0, **FITS[kind]).fit(T, y)


def test_a_fit_that_misses_nothing_says_nothing_of_still_readings():
    rest = pn.field(state=1, theta={"k": 0.5})(lambda t, y, th: [-th.k * y[0]])
    y = np.array([[2.0], [1.0], [0.0]]) * np.exp(-0.5 * T) + 0.01 * np.random.default_rng(2).normal(size=(3, 101))
    y[2] = 0.0  # a blank: what it holds agrees
    model = pn.NeuralODE(field=rest, random_state=0).fit(T, y[:, :, None])
    assert not model.report_["warnings"]


def test_censored_readings_may_stand_still():
    y = measured()
    y[:, :, 0] = np.maximum(y[:, :, 0], -1.0)
    low = np.zeros(y.shape, int)
    low[:, :, 0] = y[:, :, 0] == -1.0
    plain = table(y)
    assert still(plain, NOISY)
    data = pn.Trajectories(plain.t, plain.y, plain.names, censored=tuple(low))
    assert still(data, NOISY) == []
