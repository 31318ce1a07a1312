"""Signals: where they have values, and what they refuse."""

import numpy as np
import pytest

import pynode as pn


@pn.field(state=1, inputs=1)
def lag(t, y, u):
    return u - y


@pytest.mark.parametrize("kind", ["linear", "cubic", "previous"])
def test_times_beyond_the_knots_by_rounding_are_solved(kind):
    knots = np.array([0.0, 0.1, 0.2, 0.3])
    signal = pn.Signal(knots, np.sin(knots)[:, None], kind)
    found = pn.solve(lag, [0.0], [0.0, 0.1, 0.1 + 0.2], inputs=signal)
    assert np.allclose(found.y, pn.solve(lag, [0.0], [0.0, 0.1, 0.3], inputs=signal).y, rtol=1e-14)
    assert signal([0.1 + 0.2])[0, 0] == pytest.approx(np.sin(0.3), rel=1e-14)
    back = pn.solve(lag, [0.0], [0.3, 1 - 0.9, -1e-17], inputs=pn.Signal(knots - 0.1 + 0.1, knots[:, None], kind))
    assert np.isfinite(back.y).all()


def test_times_beyond_the_knots_are_refused_with_all_their_digits():
    with pytest.raises(ValueError, match=r"known on \[0.0, 0.3\].*reach from 0.0 to 0.3000000001: give knots"):
        pn.solve(lag, [0.0], [0.0, 0.3 + 1e-10], inputs=([0.0, 0.3], [[0.0], [1.0]]))
    with pytest.raises(ValueError, match=r"known on \[0.0, inf\].*reach from -1e-10 to 1.0: give knots"):
        pn.solve(lag, [0.0], [-1e-10, 1.0], inputs=([0.0, 0.3], [[0.0], [1.0]], "previous"))
