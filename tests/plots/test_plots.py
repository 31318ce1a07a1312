"""Pictures and reports: every kind for one, two and three states; what is in them."""

import copy
import re
import sys
import warnings

import numpy as np
import pytest

import pynode as pn
from pynode import plots
from pynode.data.trajectories import Trajectories
from pynode.models import NeuralODE, pages
from pynode.models.trajectories.publishing import report
from pynode.plots import misfit, parts, paths

pytest.importorskip("matplotlib")

T = np.linspace(0, 5, 30)


@pytest.fixture(scope="module", params=[1, 2, 3])
def model(request):
    d = request.param
    Y = np.stack([np.exp(0.5 * np.cos(T + k)) for k in range(d)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)  # few iterations
        return NeuralODE(hidden=(6,), max_iter=5, random_state=0, log=d == 2).fit([T, T], [Y, Y], names=list("abc")[:d])


def test_every_picture(model):
    d = len(model.names_)
    for kind in plots.PICTURES["trajectories"]:
        if kind not in ("overview", "profile"):
            assert pages.png(model.plot(kind), dpi=40).startswith(b"\x89PNG")
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
        np.testing.assert_allclose(parts.true_slopes(field, np.ones((4, d))), parts.true_slopes(truth, np.ones((4, d))))


def test_arrows_point_along_the_field():
    Y = np.stack([np.cos(T), -np.sin(T)], axis=1)
    model = NeuralODE(hidden=(8,), max_iter=60, random_state=0).fit(T, Y)
    arrows = model.plot("phase").axes[0].collections[0]
    x, v = arrows.XY.T
    edge = np.hypot(x, v) > 0.5
    cos = (arrows.U * v - arrows.V * x) / np.hypot(x, v)
    assert (cos[edge] > 0.85).all()  # the field is (v, -x); axes of nearly equal length


@pytest.mark.filterwarnings("ignore::pynode.errors.ExtrapolationWarning")  # forecasts of a quick fit
def test_forecasts_and_rollouts(model):
    d = len(model.names_)
    later = Trajectories.from_arrays(T + 5.2, np.ones((2, 30, d)), names=model.names_)
    figure = plots.trajectories(model, forecast=later)
    texts = ["model", "90 % band", "data", "90 % of new readings", "forecast", "held out"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == texts
    figure = plots.trajectories(model, start="first", label="truth", max_columns=1)
    assert len(figure.axes) == d
    with pytest.raises(ValueError, match="start='last'"):
        plots.trajectories(model, start="last")
    with pytest.raises(ValueError, match="kind='pie' is not one of"):
        model.plot("pie")
    with pytest.raises(ValueError, match="states, the model"):
        plots.phase(model, Trajectories.from_arrays(T, np.ones((30, 5))))


def test_pictures_are_the_same_each_time(model):
    assert pages.png(model.plot("trajectories")) == pages.png(model.plot("trajectories"))


def test_prediction():
    figure = plots.prediction(T, np.ones((30, 2)), ["a", "b"], "year")
    assert [ax.get_ylabel() for ax in figure.axes] == ["a", "b"] and figure.axes[1].get_xlabel() == "year"
    banded = plots.prediction(T, np.ones((30, 1)), ["a"], band=(np.zeros((30, 1)), np.full((30, 1), 2.0)))
    assert [text.get_text() for text in banded.legends[0].get_texts()] == ["model", "90 % band"]


def test_without_matplotlib(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(plots.MissingExtraError, match=r"pip install 'pynode-ode\[plot\]'"):
        model.plot()


def test_the_report_is_one_file(model):
    page = report.model_report(model)
    assert page.count("data:image/png;base64,") == 4
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert 'name="viewport"' in page and page.rstrip().endswith("</html>")
    for name in model.names_:
        assert name in page


def test_names_are_escaped():
    model = NeuralODE(hidden=(3,), random_state=0).fit(T, np.exp(-T), names=["<script>x</script>"])
    assert "<script>" not in report.model_report(model)


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
    assert report.readable(x) == text


# ---- What is drawn -----------------------------------------------------------------------------------------


def fitted(d=2, n=2, noise=0.05, missing=0.0, times=30, **options):
    """A model of n trajectories of a linear chain."""
    rng = np.random.default_rng(1)
    A = -np.eye(d) + np.eye(d, k=1) - np.eye(d, k=-1)
    t = np.linspace(0, 4, times)
    Y = pn.solve(pn.field(state=d)(lambda t, y: A @ y), rng.normal(size=(n, d)), t).y
    Y = Y + noise * rng.standard_normal(Y.shape)
    Y[rng.random(Y.shape) < missing] = np.nan
    return NeuralODE(**{"hidden": (5,), "max_iter": 8, "random_state": 0} | options).fit(
        t, np.exp(Y) if options.get("log") else Y
    )


@pytest.fixture(scope="module")
def plane():
    return fitted()


def labels_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def parts_of(overview):
    return [part for row in overview.subfigs for part in row.subfigs]


def title_of(figure):
    return figure.legends[0].get_title().get_text()


def lines(ax, label):
    return [line for line in ax.lines if line.get_label() == label]


class Wrapped:
    """A model of which only some states were observed."""

    def __init__(self, model, observed, full):
        self.model, self.full = model, full
        self.names_, self.n_unobserved_ = model.names_[:observed], len(model.names_) - observed
        self.data_ = Trajectories(model.data_.t, tuple(y[:, :observed] for y in model.data_.y), self.names_)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def predict(self, *args, return_std=False, **options):
        columns = slice(None if self.full else len(self.names_))
        out = self.model.predict(*args, return_std=return_std, **options)
        return tuple(x[:, columns] for x in out) if return_std else out[:, columns]


@pytest.mark.parametrize("log", [False, True])
def test_residuals_are_those_of_the_fitted_trajectories(log):
    model = fitted(missing=0.3, log=log)
    figure = plots.residuals(model)
    points, bars = figure.axes[0::2], figure.axes[1::2]
    for j, name in enumerate(model.names_):
        r = []
        for i, (t, y) in enumerate(zip(model.data_.t, model.data_.y, strict=True)):
            p = model.predict(t, trajectory=i)
            r.append((np.log(y / p) if log else y - p)[:, j] / model.report_["noise"][name])
        r = np.concatenate(r)
        r = r[~np.isnan(r)]
        drawn = np.concatenate([line.get_ydata() for line in lines(points[j], "residual")])
        np.testing.assert_allclose(np.sort(drawn), np.sort(r[np.abs(r) <= points[j].get_ylim()[1]]), rtol=1e-6, atol=1e-9)
        assert bars[j].texts[0].get_text().startswith(f"rms {np.sqrt(np.mean(r**2)):.2f}")
        area = sum(bar.get_width() * bar.get_height() for bar in bars[j].patches)
        assert area == pytest.approx(np.mean(np.abs(r) <= points[j].get_ylim()[1]), abs=0.03)
    assert ("log data - log model" in title_of(figure)) is log


@pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_ragged_trajectories_with_gaps(d):
    rng = np.random.default_rng(0)
    t = [np.sort(rng.uniform(0, 3, n)) for n in (30, 9, 2)]
    Y = [np.exp(-x)[:, None] * np.arange(1, d + 1) + 0.05 * rng.standard_normal((len(x), d)) for x in t]
    Y[0][4:9] = np.nan
    Y[1][:, 0] = np.nan
    model = NeuralODE(hidden=(4,), max_iter=4, random_state=0).fit(t, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = parts_of(plots.overview(model))
        drawn = lines(plots.residuals(model).axes[0], "residual")[0].get_xdata()
    assert {"data", "90 % band"} - set(labels_of(parts[0])) == ({"90 % band"} if d == 4 else set())
    assert len(drawn) >= 25 and not set(t[0][4:9]) & set(drawn)


def test_means_of_noise_and_of_a_trend():
    rng = np.random.default_rng(0)
    t, r = np.linspace(0, 1, 4000), rng.standard_normal(4000)
    at, mean, half = misfit.binned_means(t, r)
    assert len(at) == 24 and np.mean(np.abs(mean) < half) > 0.7
    assert np.mean(np.abs(misfit.binned_means(t, r + np.sin(9 * t))[1]) < half) < 0.4
    assert len(misfit.binned_means(t[:20], r[:20])[0]) == 0


def test_outliers_lie_at_the_edge(plane):
    model = copy.copy(plane)
    y = [x.copy() for x in model.data_.y]
    y[0][3, 0] += 100.0
    model.data_ = Trajectories(model.data_.t, tuple(y), model.data_.names)
    ax, side = plots.residuals(model).axes[:2]
    mark = [line for line in ax.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert [line.get_xdata().tolist() for line in mark] == [[model.data_.t[0][3]]]
    assert ax.get_ylim()[1] < 10 and "1 beyond" in side.texts[0].get_text()


def test_unknown_noise(plane):
    model = copy.copy(plane)
    model.report_ = model.report_ | {"noise": {"y1": float("nan"), "y2": 0.0}}
    figure = plots.residuals(model)
    assert "rms" in title_of(figure) and figure.axes[1].texts[0].get_text() == "rms 1.00"


def test_band_of_the_field():
    model = fitted(1)
    ax = plots.phase(model).axes[0]
    grid, slope = ax.lines[0].get_data()
    J, theta = [], model.theta_.copy()
    for k in range(len(theta)):
        model.theta_ = theta + 1e-5 * np.eye(len(theta))[k]
        J.append((model.derivative(0.0, grid[:, None])[:, 0] - slope) / 1e-5)
    half = 1.645 * np.sqrt(np.einsum("pn,pq,qn->n", J, model.covariance_, J))
    band = ax.collections[0].get_paths()[0].vertices
    for x, y in ((grid, slope + half), (grid, slope - half)):
        for k in (50, 200, 350):
            near = band[np.isclose(band[:, 0], x[k])][:, 1]
            assert np.abs(near - y[k]).min() < 2e-3 * half[k] + 1e-4


def test_width_of_the_tube():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    path = np.stack([np.linspace(0, 10, 20), np.ones(20)], axis=1)
    lost = paths.draw_tube(ax, path, path + np.array([5.0, 0.3]), False, np.array([10.0, 4.0]))
    vertices = np.concatenate([p.vertices for p in ax.collections[0].get_paths()])
    assert not lost.any() and np.allclose(np.unique(vertices[:, 1].round(9)), [0.7, 1.3])  # across, not along
    assert paths.draw_tube(ax, path, path + np.array([0.0, 3.0]), False, np.array([10.0, 4.0])).all()
    path = np.exp(path)
    paths.draw_tube(ax, path, path * np.exp([0.0, 0.3]), True, np.array([10.0, 4.0]))
    vertices = np.concatenate([p.vertices for p in ax.collections[-1].get_paths()])
    assert np.allclose(np.unique(np.log(vertices[:, 1]).round(9)), [0.7, 1.3])


def test_arrows_fade_where_the_direction_is_uncertain(plane):
    model = copy.copy(plane)
    counts = []
    for factor in (1e-12, 1.0, 1e12):
        model.covariance_ = factor * plane.covariance_
        arrows = {c.get_label(): c.N for c in model.plot("phase").axes[0].collections if hasattr(c, "XY")}
        counts.append(arrows.get("direction uncertain", 0))
        assert sum(arrows.values()) == 17**2
    assert counts[0] <= counts[1] <= counts[2] and counts[0] <= 2 and counts[2] > 280


def test_a_wide_band_does_not_squeeze_the_data(plane):
    model = copy.copy(plane)
    model.covariance_ = 1e8 * plane.covariance_
    before, after = (np.array(m.plot("trajectories").axes[0].get_ylim()) for m in (plane, model))
    assert np.ptp(after) < 3 * np.ptp(before)
    assert "band too wide to draw" in labels_of(model.plot("phase"))


def test_principal_components():
    model = fitted(5, n=4)
    figure = model.plot("phase")
    ax = figure.axes[0]
    y = np.concatenate(model.data_.y)
    z = (y - y.mean(axis=0)) / y.std(axis=0)
    size, axes = np.linalg.eigh(z.T @ z)
    drawn = np.concatenate([np.stack(line.get_data(), axis=1) for line in lines(ax, "data")])
    for k in range(2):
        np.testing.assert_allclose(np.abs(drawn[:, k]), np.abs(z @ axes[:, -1 - k]), atol=1e-8)
        largest = f"{np.abs(axes[:, -1 - k]).max():.2f} {model.names_[np.abs(axes[:, -1 - k]).argmax()]}"
        words = (ax.get_xlabel(), ax.get_ylabel())[k]
        assert words.startswith(f"component {k + 1}: {100 * size[-1 - k] / size.sum():.0f} % of variance\n({largest}")
    assert "5 standardised states" in title_of(figure)


def test_two_states_where_rows_have_gaps():
    model = fitted(5, n=4, missing=0.5)
    figure = model.plot("phase")
    spread = np.nanstd(np.concatenate(model.data_.y), axis=0)
    names = {figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()}
    assert names == {model.names_[k] for k in np.argsort(spread)[-2:]}
    assert "of largest variance" in title_of(figure) and "90 % band" in labels_of(figure)


def test_many_data_are_thinned(plane):
    model = copy.copy(plane)
    t = np.linspace(0, 4, 1000)
    Y = np.tile(plane.predict(t, trajectory=0), (250, 1, 1)) + 0.05 * np.random.default_rng(0).normal(size=(250, 1000, 2))
    model.data_ = Trajectories.from_arrays(t, Y)
    model.initial_states_ = np.tile(plane.initial_states_[0], (250, 1))
    model.state_gain_, model.state_covariance_ = (
        np.tile(x[0], (250, 1, 1)) for x in (plane.state_gain_, plane.state_covariance_)
    )
    phase, residuals, trajectories = (model.plot(kind) for kind in ("phase", "residuals", "trajectories"))
    ax = phase.axes[0]
    assert title_of(phase) == "40 of 250 trajectories, every 10th point"
    assert len(lines(ax, "fitted trajectory")) == 40 and sum(len(x.get_xdata()) for x in lines(ax, "data")) <= 4000
    assert title_of(residuals).endswith("200 of 250 trajectories, every 50th point")
    assert len(lines(residuals.axes[0], "residual")[0].get_xdata()) <= 4000
    assert title_of(trajectories) == "3 of 250 trajectories" and len(trajectories.axes) == 6


def test_many_states_are_cut():
    model = fitted(10, n=2, max_iter=30, optimizer="lbfgs")
    assert len(model.plot("trajectories").axes) == 16 and "8 of 10 states" in title_of(model.plot("trajectories"))
    assert len(model.plot("residuals", max_states=3).axes) == 6


def test_overview(model):
    figure = model.plot("overview")
    parts = parts_of(figure)
    titles = {title_of(part).split(":")[0] for part in parts}
    assert titles == {"Phase portrait", "Trajectories", "Residuals", "Loss while training"}
    assert "90 % band" in labels_of(parts[0])
    boxes = []
    figure.draw_without_rendering()
    for part in parts:
        boxes += [ax.get_tightbbox() for ax in part.axes] + [legend.get_window_extent() for legend in part.legends]
        legend = part.legends[0].get_window_extent()
        assert all(ax.get_window_extent().y1 <= legend.y0 + 1 for ax in part.axes)  # above, not over, the panels
        assert part.bbox.x0 - 1 <= legend.x0 and legend.x1 <= part.bbox.x1 + 1
    assert all(figure.bbox.x0 - 1 <= b.x0 and b.x1 <= figure.bbox.x1 + 1 and b.y0 >= -1 for b in boxes)


def test_no_bands_without_a_covariance():
    model = fitted(optimizer="lbfgs")
    assert model.covariance_ is None
    for part in parts_of(model.plot("overview")):
        assert not {"90 % band", "direction uncertain"} & set(labels_of(part))
    page = report.model_report(model)
    assert (
        "There are no error bands" in page and "effective parameters" not in page and "90 %" not in page.split("What the")[0]
    )


@pytest.mark.parametrize("full", [False, True])
def test_unobserved_states(full):
    whole = fitted(3)
    model = Wrapped(whole, 2, full)
    ax = plots.phase(model).axes[0]
    assert not [c for c in ax.collections if hasattr(c, "XY")] and lines(ax, "fitted trajectory")
    axes = plots.trajectories(model).axes
    assert [a.get_ylabel() for a in axes[::2]] == ["y1", "y2", *["z1"] * full]
    if full:
        assert not lines(axes[4], "data") and len(lines(axes[4], "model")) == 1
    assert len(plots.residuals(model).axes) == 4
    plots.overview(model)
    assert "Arrows" in report.phase_words(fitted(), False, True)
    assert "Arrows" not in report.phase_words(model, False, True)
    model = Wrapped(whole, 1, full)
    assert "along the fitted trajectories" in report.model_report(model)
    path = lines(plots.phase(model).axes[0], "fitted trajectory")[0].get_data()
    t = np.linspace(0, 4, 800)
    states = whole.predict(t, trajectory=0)
    np.testing.assert_allclose(path, [states[:, 0], whole.derivative(0.0, states)[:, 0]], atol=0.02)


def test_a_field_with_inputs_has_no_arrows(plane):
    model = copy.copy(plane)

    class Driven:
        inputs, time_dependent = 1, False

    model.predict = plane.predict
    model.field_ = Driven()
    ax = plots.phase(model, data=Trajectories.from_arrays(T, np.ones((30, 2)) * T[:, None])).axes[0]
    assert not [c for c in ax.collections if hasattr(c, "XY")]


def test_a_field_of_time_says_when():
    field = pn.field(state=2, theta={"k": 1.0})(lambda t, y, th: [y[1], -th.k * y[0] + np.sin(t)])
    t = 1.5 + T
    model = NeuralODE(field=field, max_iter=5, random_state=0).fit(t, pn.solve(field, [1.0, 0.0], t, [1.2]).y)
    figure = model.plot("phase")
    assert "learned field at t = 1.5" in labels_of(figure)


def test_a_failed_solve_is_a_gap(plane):
    model = copy.copy(plane)
    model.predict = lambda t, y0=None, *, trajectory=0, **more: np.full((len(t), 2), np.nan)
    model.covariance_ = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.residuals(model)
        plots.overview(model)
    assert "2 of them could not be solved" in title_of(figure) and figure.axes[1].texts[0].get_text() == "none"


def test_undone_stages_are_told(plane):
    model = copy.copy(plane)
    stages = [dict(stage) for stage in plane.report_["stages"]]
    stages[-1]["status"] = "undone"
    model.report_ = plane.report_ | {"stages": stages, "rmse": {"y1": 1.0, "y2": 0.01}, "warnings": ["Beware."]}
    assert labels_of(model.plot("loss"))[-1] == "whole trajectories (undone)"
    notes = report.model_notes(model)
    assert notes[0] == "Beware." and "was undone" in notes[1] and "misses y1 by more" in notes[2] and len(notes) == 3
    page = report.model_report(model)
    assert page.index("Beware.") < page.index("In brief") and page.count("<div") == page.count("</div>")


def test_the_report_in_numbers(plane):
    page = report.model_report(plane)
    gamma = plane.report_["effective_parameters"]
    assert f"{gamma:.1f} of {len(plane.theta_)}" in page and report.readable(plane.report_["noise"]["y2"]) in page
    assert all(f"<td>{stage['name']}</td>" in page for stage in plane.report_["stages"])
    assert report.model_notes(plane) == [] and 'class="notes"' not in page


@pytest.mark.parametrize("width", [2.0, 4.0, 6.2, 12.0])
def test_legends_fit(width):
    from matplotlib.figure import Figure

    labels = ["true field", "learned field", "direction uncertain", "data", "90 % band", "fitted trajectory"]
    figure = Figure(figsize=(width, 3), dpi=100, layout="constrained")
    ax = figure.subplots()
    for label in labels:
        ax.plot([0, 1], label=label)
    parts.draw_heading(figure, ax, "")
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= 100 * width and len(labels_of(figure)) == 6


# ---- The table of pictures ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def families():
    """Family of models -> (a small model of it, what its pictures are drawn over)."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    near = np.hypot(*X.T) < 1
    series = pn.datasets.periodic(n_train=6, n_held_out=0)
    return {
        "trajectories": (fitted(), ()),
        "samples": (pn.NeuralODEClassifier(max_iter=2, random_state=0).fit(X, near), (X, near)),
        "density": (pn.CNF(max_iter=2, random_state=0).fit(X), (X,)),
        "latent": (pn.LatentODE(max_iter=2, random_state=0).fit(series.train), (series.train,)),
    }


@pytest.mark.parametrize("family, kind", [(family, kind) for family, kinds in plots.PICTURES.items() for kind in kinds])
def test_every_row_of_the_table(families, family, kind):
    from inspect import signature

    draw = plots.PICTURES[family][kind]
    names = list(signature(draw).parameters)
    assert names[:2] == ["model", "data"] and signature(draw).parameters["data"].default is None
    assert getattr(plots, draw.__name__) is draw  # also without the table
    if kind != "profile":  # of equations alone: test_profiles.py
        assert pages.png(plots.draw(family, kind, families[family][0], *families[family][1]), dpi=30).startswith(b"\x89PNG")


@pytest.mark.parametrize("family", plots.PICTURES)
def test_unknown_pictures_are_refused(families, family):
    model, data = families[family]
    for kind in ("pie", None, ["loss"]):
        with pytest.raises(ValueError, match=f"is not one of {', '.join(plots.PICTURES[family])}"):
            plots.draw(family, kind, model, *data)
