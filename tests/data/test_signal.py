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
    with pytest.raises(ValueError, match=r"known on \[0, 0.3\].*reach from 0 to 0.3000000001: give knots"):
        pn.solve(lag, [0.0], [0.0, 0.3 + 1e-10], inputs=([0.0, 0.3], [[0.0], [1.0]]))
    with pytest.raises(ValueError, match=r"known on \[0, inf\].*reach from -1e-10 to 1: give knots"):
        pn.solve(lag, [0.0], [-1e-10, 1.0], inputs=([0.0, 0.3], [[0.0], [1.0]], "previous"))


def test_values_have_the_shape_of_the_times():
    signal = pn.Signal([0.0, 1.0], np.array([[[0.0, 1.0], [2.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]]))
    assert signal(0.25).tolist() == [0.5, 1.0]
    assert signal([[0.25], [0.5]], sample=-1).tolist() == [[[0.25, 0.0]], [[0.5, 0.0]]]
    assert signal([]).shape == (0, 2)
    with pytest.raises(IndexError, match="sample=2 is none of the 2 samples"):
        signal([0.5], sample=2)
    with pytest.raises(TypeError, match=r"sample=0\.5 must be an integer"):
        signal([0.5], sample=0.5)


def test_dense_output_at_no_times_and_of_no_sample():
    one = pn.solve(lag, [1.0], [0.0, 1.0], inputs=[1.0], dense=True)
    assert one([]).shape == (0, 1)
    both = pn.solve(lag, [[1.0], [2.0]], [0.0, 1.0], inputs=[1.0], dense=True)
    assert both([]).shape == (2, 0, 1) and both([], sample=1).shape == (0, 1)
    with pytest.raises(TypeError, match=r"sample=1\.0 must be an integer"):
        both(0.5, sample=1.0)


def test_functions_are_no_inputs():
    for inputs in (np.sin, ([0.0, 1.0], np.sin), (None, lambda t: t, "constant")):
        with pytest.raises(TypeError, match=r"is a function; inputs are numbers: give values at knots, \(t, u\(t\)\)"):
            pn.solve(lag, [0.0], [0.0, 1.0], inputs=inputs)


@pytest.mark.parametrize("kind", ["linear", "previous"])
def test_inputs_that_are_not_finite_are_told(kind):
    u = np.array([[[0.0], [1.0], [1.0]], [[0.0], [np.nan], [1.0]]])
    keys = {"inputs": ([0.0, 0.5, 1.0], u, kind), "errors": "ignore"}
    told = pn.solve(lag, [[1.0], [1.0]], [0.0, 1.0], **keys).message()
    assert "sample 1: bad_input" in told and "input 0 at its knot 1 (t = 0.5) is nan" in told
    met = pn.event(lambda t, y: y[0] - 3.0)
    assert "knot 1 (t = 0.5) is nan" in pn.solve(lag, [[1.0], [1.0]], [0.0, 1.0], events=met, **keys).message()
    constant = pn.solve(lag, [[1.0], [1.0]], [0.0, 1.0], inputs=np.array([[np.inf], [1.0]]), errors="ignore")
    assert "input 0 is inf" in constant.message()
    u[1, 1] = 1e300
    single = np.ones((2, 1), np.float32)
    with np.errstate(over="ignore"):
        told = pn.solve(lag, single, [0.0, 1.0], inputs=([0.0, 0.5, 1.0], u, kind), errors="ignore").message()
    assert "input 0 at its knot 1 (t = 0.5) is 1e+300" in told
