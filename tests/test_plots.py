"""Pictures and reports: every kind for one, two and three states; what is in them."""

import re
import sys

import numpy as np
import pytest

import pynode as pn
from pynode import plots, report
from pynode.models import NeuralODE
from pynode.tables import Trajectories

pytest.importorskip("matplotlib")

T = np.linspace(0, 5, 30)


@pytest.fixture(scope="module", params=[1, 2, 3])
def model(request):
    d = request.param
    Y = np.stack([np.exp(0.5 * np.cos(T + k)) for k in range(d)], axis=1)
    return NeuralODE(hidden=(6,), max_iter=5, random_state=0, log=d == 2).fit([T, T], [Y, Y], names=list("abc")[:d])


def test_every_picture(model):
    d = len(model.names_)
    for kind in plots.PICTURES:
        assert report.png(model.plot(kind), dpi=40).startswith(b"\x89PNG")
    axes = model.plot("trajectories").axes
    assert len(axes) == 2 * d
    assert [ax.get_ylabel() for ax in axes[::2]] == list(model.names_)
    assert axes[-1].get_xlabel() == "t"
    labels = [text.get_text() for text in model.plot("phase").legends[0].get_texts()]
    assert "data" in labels
    assert model.plot("loss").axes[0].get_yscale() == "log"


def test_the_true_field_is_drawn(model):
    def truth(t, y):
        return -y

    d = len(model.names_)
    labels = [text.get_text() for text in model.plot("phase", truth=truth).legends[0].get_texts()]
    assert ("true field" in labels) is (d < 3)
    field = pn.field(state=d)(lambda t, y: -y)
    if d < 3:
        np.testing.assert_allclose(plots._true_slopes(field, np.ones((4, d))), plots._true_slopes(truth, np.ones((4, d))))


def test_arrows_point_along_the_field():
    Y = np.stack([np.cos(T), -np.sin(T)], axis=1)
    model = NeuralODE(hidden=(8,), max_iter=60, random_state=0).fit(T, Y)
    arrows = model.plot("phase").axes[0].collections[0]
    x, v = arrows.XY.T
    edge = np.hypot(x, v) > 0.5
    cos = (arrows.U * v - arrows.V * x) / np.hypot(x, v)
    assert (cos[edge] > 0.85).all()  # the field is (v, -x); axes of nearly equal length


def test_forecasts_and_rollouts(model):
    d = len(model.names_)
    later = Trajectories.from_arrays(T + 5.2, np.ones((2, 30, d)), names=model.names_)
    figure = plots.trajectories(model, forecast=later)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "model",
        "90 % band",
        "data",
        "forecast",
        "held out",
    ]
    figure = plots.trajectories(model, start="first", label="truth", max_columns=1)
    assert len(figure.axes) == d
    with pytest.raises(ValueError, match="start='last'"):
        plots.trajectories(model, start="last")
    with pytest.raises(ValueError, match="kind='pie' is not one of"):
        model.plot("pie")
    with pytest.raises(ValueError, match="states, the model"):
        plots.phase(model, Trajectories.from_arrays(T, np.ones((30, 5))))


def test_pictures_are_the_same_each_time(model):
    assert report.png(model.plot("trajectories")) == report.png(model.plot("trajectories"))


def test_prediction():
    figure = plots.prediction(T, np.ones((30, 2)), ["a", "b"], "year")
    assert [ax.get_ylabel() for ax in figure.axes] == ["a", "b"] and figure.axes[1].get_xlabel() == "year"


def test_without_matplotlib(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(plots.MissingExtraError, match=r"pip install 'pynode-ode\[plot\]'"):
        model.plot()


def test_the_report_is_one_file(model):
    page = report.model_page(model)
    assert page.count("data:image/png;base64,") == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert 'name="viewport"' in page and page.rstrip().endswith("</html>")
    for name in model.names_:
        assert name in page


def test_names_are_escaped():
    model = NeuralODE(hidden=(3,), random_state=0).fit(T, np.exp(-T), names=["<script>x</script>"])
    assert "<script>" not in report.model_page(model)


@pytest.mark.parametrize(
    "x, text",
    [
        (0.0123456, "0.0123"),
        (1.5e-7, "1.50e-07"),
        (0.0, "0"),
        (float("nan"), "unknown"),
        (123456.0, "1.23e+05"),
        (None, "unknown"),
    ],
)
def test_numbers_for_people(x, text):
    assert report.number(x) == text
