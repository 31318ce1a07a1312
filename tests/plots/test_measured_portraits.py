"""Phase portraits of models that measure functions of their states."""

import numpy as np
import pytest

import pynode as pn
from pynode import plots

DOSES = [pn.Dose(0.0, 100.0), pn.Dose(6.0, 50.0)]


@pytest.fixture(scope="module")
def amount():
    """A dose leaves the gut for the blood and then the body; the concentration of all that is there is measured."""

    @pn.field(state=2, theta={"ka": pn.positive(1.2), "ke": pn.positive(0.15)})
    def body(t, y, th):
        return [-th.ka * y[0], th.ka * y[0] - th.ke * y[1]]

    t = np.linspace(0.5, 12.0, 24)
    after = [
        np.where(t > s, a / 1.05 * (1.2 * np.exp(-0.15 * (t - s)) - 0.15 * np.exp(-1.2 * (t - s))), 0)
        for s, a in [(0, 100), (6, 50)]
    ]
    model = pn.NeuralODE(field=body, observe=lambda t, y, th: (y[0] + y[1]) / 20.0, initial=[0.0, 0.0], random_state=0)
    return model.fit(t, sum(after) / 20.0, doses=DOSES)


def test_the_slopes_of_what_is_measured_are_drawn_from_dose_to_dose(amount):
    assert not plots.has_plain_field(amount)
    ax = plots.phase(amount).axes[0]
    drawn = [line.get_data() for line in ax.lines if line.get_label() == "fitted trajectory"]
    assert len(drawn) == 2
    for (y, slope), begin, end in zip(drawn, (0.5, 6.0), (6.0, 12.0), strict=True):
        t = np.linspace(begin, end, 2001)[1:-1]
        blood = amount.predict(t, unobserved=True)[:, 1]
        exact = -amount.theta_[1] * blood / 20.0
        np.testing.assert_allclose([slope.min(), slope.max()], [exact.min(), exact.max()], atol=0.02)
        assert np.ptp(y) > 0.5


def test_the_report_has_the_portrait(amount, tmp_path):
    amount.report(tmp_path / "report.html")
    assert "along the fitted trajectories, depending on the state" in (tmp_path / "report.html").read_text(encoding="utf-8")
