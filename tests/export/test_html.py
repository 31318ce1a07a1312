"""What a page of a field cannot hold is refused where it is written: its reader could not mend it."""

import pytest

import pynode as pn

swing = pn.field(state=["x", "v"])(lambda t, y: [y[1], -y[0]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "dopri"}, "method='dopri' is not one of"),
        ({"method": "rk4"}, "method='rk4' has no error estimate"),
        ({"rtol": -1.0}, "rtol=-1.0 must be"),
        ({"rtol": float("nan")}, "rtol=nan must be"),
        ({"atol": [1e-6] * 3}, r"atol has shape \(3,\)"),
        ({"t": 10.0}, "t=10.0 must be two numbers"),
        ({"t": (0.0, 1.0, 2.0)}, "must be two numbers"),
        ({"t": (1.0, 0.0)}, "must be the first and a later time"),
        ({"states": ["a", "a"]}, "names a state twice"),
        ({"ranges": {"x": 3.0}}, r"ranges\['x'\]=3.0 must be two numbers"),
    ],
)
def test_what_a_page_cannot_hold_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        pn.export.html(swing, None, **({"y0": [1.0, 0.0], "t": (0.0, 1.0)} | options))


def test_a_page_is_of_a_field():
    with pytest.raises(TypeError, match="field must be a Field, not System"):
        pn.export.html(pn.System(swing), None, y0=[1.0, 0.0], t=(0.0, 1.0))
