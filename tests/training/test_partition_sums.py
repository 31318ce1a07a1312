"""What partitions contribute: windows, moments, normal equations; each against the code for data in memory."""

import pickle

import numpy as np
import pytest

import pynode as pn
from pynode.data.partitions import in_pairs
from pynode.data.rows import Rows
from pynode.data.tables import TableError
from pynode.models.trajectories.scaling import Scaling
from pynode.training.coordinates import Coordinates
from pynode.training.initial_states import estimate_states
from pynode.training.partitions.sums import Task, sums
from pynode.training.partitions.survey import draw, drawn, survey
from pynode.training.shooting import WEAK, ShootingProblem
from pynode.training.windows import Data

OPTIONS = {"method": "dopri5", "rtol": 1e-9, "atol": np.full(2, 1e-9)}


@pn.field(state=2, theta={"k": pn.positive(1.3), "c": 0.2, "net": pn.mlp(1, (3,))})
def spring(t, y, th):
    return [y[1], -th.k * y[0] - th.c * y[1] + th.net(y[:1])[0]]


def table(seed=0, lengths=(12, 1, 30, 12, 7, 25), missing=0.2):
    """Columns of trajectories with gaps; the first trajectory never observes the second state."""
    rng = np.random.default_rng(seed)
    t = np.concatenate([np.cumsum(rng.uniform(0.05, 0.3, n)) for n in lengths])
    ids = np.repeat([f"run {k}" for k in range(len(lengths))], lengths)
    y = np.stack([np.cos(t), -np.sin(t)], axis=1) + 0.05 * rng.standard_normal((len(t), 2))
    y[rng.random(y.shape) < missing] = np.nan
    y[: lengths[0], 1] = np.nan
    return {"id": ids, "t": t, "x": y[:, 0], "v": y[:, 1]}


def rows(**options):
    return Rows.of_columns(table(**options), "t", ("x", "v"), "id", ())


@pytest.mark.parametrize("intervals", [None, 1, 7, 10, 100])
def test_windows_are_those_of_data_in_memory(intervals):
    t, y, _ = rows().series()
    want = Data(t, y).windows(intervals)
    got, source = rows().windows(intervals)
    np.testing.assert_array_equal(got.t, np.concatenate(want.t))
    np.testing.assert_array_equal(got.y, np.concatenate(want.y))
    np.testing.assert_array_equal(got.length, [len(x) for x in want.t])
    np.testing.assert_array_equal(source, want.source[:, 0])


def test_columns_in_any_order_are_the_same_trajectories():
    whole = table()
    order = np.random.default_rng(1).permutation(len(whole["t"]))
    mixed = Rows.of_columns({name: x[order] for name, x in whole.items()}, "t", ("x", "v"), "id", ())
    for name in ("t", "y", "length", "ids"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(rows(), name))


def test_rows_are_taken_and_joined():
    all_rows = rows()
    half = all_rows.take(np.array([0, 2])) + all_rows.take(np.array([4]))
    t, y, _ = all_rows.series()
    np.testing.assert_array_equal(half.t, np.concatenate([t[0], t[2], t[4]]))
    np.testing.assert_array_equal(half.y, np.concatenate([y[0], y[2], y[4]]))
    assert half.ids.tolist() == ["run 0", "run 2", "run 4"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"t": lambda x: np.where(np.arange(len(x)) == 3, np.nan, x)}, "row 3, column 't': nan is no finite number"),
        ({"x": lambda x: np.where(np.arange(len(x)) == 5, np.inf, x)}, "run 0, t = .*: x is infinite"),
        ({"t": lambda x: np.where(np.arange(len(x)) == 3, x[2], x)}, "trajectory run 0 has t = .* twice"),
        ({"t": lambda x: x.astype("datetime64[s]")}, "'t' holds dates"),
        ({"v": lambda x: x.astype(str)}, None),
        ({"v": lambda x: np.array(["a"] * len(x))}, "'v' holds <U1, not numbers"),
    ],
)
def test_columns_that_cannot_be_read_are_named(change, words):
    columns = {name: change[name](x) if name in change else x for name, x in table().items()}
    if words is None:  # numbers as text are numbers
        np.testing.assert_array_equal(Rows.of_columns(columns, "t", ("x", "v"), "id", ()).y, rows().y)
        return
    with pytest.raises(TableError, match=words):
        Rows.of_columns(columns, "t", ("x", "v"), "id", ())


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(TableError, match="no column 'z'"):
        Rows.of_columns(table(), "t", ("x", "z"), "id", ())


@pytest.mark.parametrize("n", range(1, 20))
def test_sums_keep_the_order_and_hold_few_parts(n):
    alive = most = 0

    class Part:
        def __init__(self, text):
            nonlocal alive, most
            self.text = text
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

        def __add__(self, other):
            return Part(f"({self.text}{other.text})")

    found = in_pairs(Part(chr(97 + k)) for k in range(n)).text
    assert found.replace("(", "").replace(")", "") == "".join(chr(97 + k) for k in range(n))
    assert most <= n.bit_length() + 3


def test_the_survey_has_the_moments_of_all_partitions():
    parts = [rows(seed=k, lengths=(12, 4 + k, 9)) for k in range(5)]
    found = in_pairs(survey(k, part, False, True) for k, part in enumerate(parts))
    y = np.concatenate([part.y for part in parts])
    np.testing.assert_array_equal(found.count, (~np.isnan(y)).sum(axis=0))
    np.testing.assert_allclose(found.mean, np.nanmean(y, axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.scale, np.nanstd(y, axis=0), rtol=1e-13)
    np.testing.assert_array_equal([found.low, found.high], [np.nanmin(y, axis=0), np.nanmax(y, axis=0)])
    assert (len(found), found.n_rows, found.longest, found.sizes) == (15, len(y), 12, (3,) * 5)
    assert found.torn() == "run 0"  # every partition calls its first trajectory so


def test_the_sample_is_drawn_evenly():
    sizes = (3, 500, 0, 97, 400)
    counts = np.zeros(5)
    for seed in range(40):
        found = draw(sizes, 100, seed)
        for k, which in found.items():
            assert (np.diff(which) > 0).all() and which[0] >= 0 and which[-1] < sizes[k]
            counts[k] += len(which)
    np.testing.assert_allclose(counts / counts.sum(), np.array(sizes) / 1000, atol=0.02)
    assert sum(len(which) for which in draw(sizes, 10_000, 0).values()) == 1000
    np.testing.assert_array_equal(drawn(1, rows(), {1: np.array([2])}).t, rows().take(np.array([2])).t)
    assert len(drawn(0, rows(), {1: np.array([2])})) == 0


def task(second=True, intervals=None):
    theta = spring.init(3)
    scaling = Scaling(np.array([0.1, -0.2]), np.array([0.7, 0.6]), np.ones(2), t_scale=1.5)
    coordinates = Coordinates(spring.spec, theta)
    made = Task(pickle.dumps(spring), scaling, coordinates, OPTIONS, intervals, "linear", np.ones(2), second)
    return made, coordinates.x(theta)


VARIANCE = np.array([0.004, 0.009])


@pytest.mark.parametrize("intervals", [None, 6])
def test_normal_equations_are_those_of_multiple_shooting(intervals):
    made, x = task(intervals=intervals)
    found = sums(0, rows(), made, x, VARIANCE, {})
    t, y, _ = rows().series()
    cut = Data([made.scaling.times(a) for a in t], [made.scaling.states(b) for b in y]).windows(intervals)
    start = np.stack([[v[~np.isnan(v)][0] if (~np.isnan(v)).any() else 0.0 for v in w.T] for w in cut.y])
    prior = np.broadcast_to(WEAK / VARIANCE, start.shape)
    theta = made.coordinates.theta(x)
    free, _ = estimate_states(spring, theta, cut, start, 1 / VARIANCE, prior, max_iter=200, **OPTIONS)
    problem = ShootingProblem(spring, cut, start, 1 / VARIANCE, prior, made.coordinates, **OPTIONS)
    here = problem.linearise(x, free)
    seen = ~np.isnan(np.concatenate(cut.y))
    np.testing.assert_array_equal(found.count, seen.sum(axis=0))
    np.testing.assert_allclose(found.loss, here.loss, rtol=2e-5)
    np.testing.assert_allclose(found.H, here.H, rtol=0.02, atol=2e-3 * np.abs(here.H).max())
    np.testing.assert_allclose(found.g, here.g, rtol=0.02, atol=2e-3 * np.abs(here.g).max())
    np.testing.assert_allclose(found.squares, (problem.residual(x, free) ** 2).sum(axis=0), rtol=0.01)
    assert found.n_windows == len(cut) and not found.failed


@pytest.mark.parametrize("second", [True, False])
def test_the_gradient_is_that_of_the_projected_loss(second):
    made, x = task(second)
    found = sums(0, rows(), made, x, VARIANCE, {})
    slope = np.zeros(len(x))
    for i in range(len(x)):
        h = np.zeros(len(x))
        h[i] = 1e-3
        ends = [sums(0, rows(), made, x + sign * h, VARIANCE, {}).loss for sign in (1, -1)]
        slope[i] = (ends[0] - ends[1]) / 2e-3
    np.testing.assert_allclose(2 * found.g, slope, rtol=5e-3, atol=5e-3 * np.abs(slope).max())


def test_a_partition_has_the_same_bits_each_time_and_pieces_add_up(monkeypatch):
    made, x = task()
    whole = sums(0, rows(), made, x, VARIANCE, {})
    again = sums(0, rows(), made, x, VARIANCE, {})
    assert whole.H.tobytes() == again.H.tobytes() and whole.loss == again.loss
    monkeypatch.setattr("pynode.training.partitions.sums.PART", 500)  # a trajectory or two at a time
    parts = sums(0, rows(), made, x, VARIANCE, {})
    np.testing.assert_allclose(parts.H, whole.H, rtol=1e-2, atol=1e-3 * np.abs(whole.H).max())
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-4)
    assert parts.n_windows == whole.n_windows


def test_trajectories_that_cannot_be_solved_are_named_and_left_out():
    f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: th.k * y * y)
    t = np.tile(np.linspace(0, 1, 5), 3)
    ids = np.repeat([0, 1, 2], 5)
    y = np.where(ids == 1, 5.0, 0.1)  # grows beyond bounds at 0.2
    data = Rows.of_columns({"id": ids, "t": t, "y": y}, "t", ("y",), "id", ())
    made = Task(
        pickle.dumps(f), Scaling.identity(1), Coordinates(f.spec, f.init()), {"method": "dopri5"}, None, "linear", np.ones(1)
    )
    found = sums(7, data, made, f.init(), np.ones(1), {})
    assert found.loss == np.inf and found.n_windows == 2 and {k: w.tolist() for k, w in found.failed.items()} == {7: [1]}
    rest = sums(7, data, made, f.init(), np.ones(1), found.failed)
    assert np.isfinite(rest.loss) and rest.n_windows == 2 and not rest.failed
    np.testing.assert_array_equal(rest.count, [10])
