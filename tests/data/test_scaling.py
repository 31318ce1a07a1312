"""The shift and scale of columns."""

import numpy as np
import pytest

from pynode.data.scaling import shift_and_scale

X = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 3))


def test_columns_have_mean_zero_and_variance_one():
    shift, scale = shift_and_scale(X)
    np.testing.assert_array_equal(shift, X.mean(axis=0))
    np.testing.assert_array_equal(scale, X.std(axis=0))


def test_what_does_not_vary_or_is_not_observed_keeps_its_unit():
    x = X.copy()
    x[:, 1], x[:, 2], x[::2, 0] = 4.0, np.nan, np.nan
    shift, scale = shift_and_scale(x)
    assert shift[1:].tolist() == [4.0, 0.0] and scale[1:].tolist() == [1.0, 1.0]
    assert shift[0] == pytest.approx(X[1::2, 0].mean()) and scale[0] == pytest.approx(X[1::2, 0].std())


def test_weights_count_rows():
    weight = np.arange(50) % 3.0
    for a, b in zip(shift_and_scale(X, weight), shift_and_scale(np.repeat(X, weight.astype(int), axis=0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
