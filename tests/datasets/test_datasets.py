"""Data sets and tables."""

import numpy as np
import pytest

import pynode as pn
from pynode import datasets
from pynode.data.csv import read_csv
from pynode.data.tables import TableError, TableWarning
from pynode.data.trajectories import Trajectories


def test_lynx_hare_is_the_record():
    data = datasets.lynx_hare()
    assert data.train.names == ("hare", "lynx") and data.train.time_name == "year"
    np.testing.assert_array_equal(data.train.t[0], np.arange(1900, 1921))
    np.testing.assert_array_equal(data.train.y[0][[0, -1]], [[30.0, 4.0], [24.7, 8.6]])
    np.testing.assert_allclose(data.train.y[0].sum(axis=0), [715.7, 423.5])
    assert "Odum" in data.source and "Hudson's Bay" in data.source
    assert data.held_out is None


def test_lynx_hare_keeps_the_last_years_apart():
    data = datasets.lynx_hare(held_out=5)
    assert data.train.t[0][-1] == 1915 and data.held_out.t[0][0] == 1916
    with pytest.raises(ValueError, match="held_out"):
        datasets.lynx_hare(held_out=20)


def test_van_der_pol_follows_its_protocol():
    from scipy.integrate import solve_ivp

    data = datasets.van_der_pol(random_state=3)
    assert len(data.train) == 16 and len(data.held_out) == 8 and data.train.lengths == (101,) * 16
    rng = np.random.default_rng(3)
    y0 = rng.uniform(-3, 3, (24, 2))
    noise = 0.05 * rng.standard_normal((16, 101, 2))
    np.testing.assert_array_equal([y[0] for y in data.held_out.y], y0[16:])
    np.testing.assert_allclose([y[0] for y in data.train.y], y0[:16] + noise[:, 0], atol=1e-12)
    truth = solve_ivp(
        lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]],
        (0, 10),
        y0[20],
        "DOP853",
        data.held_out.t[4],
        rtol=1e-11,
        atol=1e-11,
    ).y.T
    np.testing.assert_allclose(data.held_out.y[4], truth, atol=1e-7)
    np.testing.assert_allclose(data.field(0.0, [2.0, 1.0]), [1.0, -5.0])
    np.testing.assert_array_equal(datasets.van_der_pol(3).train.y[5], data.train.y[5])


@pytest.mark.parametrize("options", [{"noise": -1}, {"n_train": 0}, {"n_times": 1}, {"duration": 0}])
def test_van_der_pol_checks_its_arguments(options):
    with pytest.raises(ValueError):
        datasets.van_der_pol(**options)


# ------------------------------------------------------------------------------------------------------------

T = np.arange(4.0)


@pytest.mark.parametrize(
    "t, Y, lengths, d",
    [
        (T, np.ones(4), (4,), 1),
        (T, np.ones((4, 3)), (4,), 3),
        (list(T), [[1, 2], [3, 4], [5, 6], [7, 8]], (4,), 2),
        (T, np.ones((5, 4, 2)), (4,) * 5, 2),
        (T, [np.ones((4, 2)), np.ones((4, 2))], (4, 4), 2),
        ([T, T[:3]], [np.ones((4, 2)), np.ones((3, 2))], (4, 3), 2),
        ([T, T[:3]], [np.ones(4), np.ones(3)], (4, 3), 1),
        (np.stack([T, T + 1]), np.ones((2, 4, 1)), (4, 4), 1),
    ],
)
def test_arrays_become_trajectories(t, Y, lengths, d):
    data = Trajectories.from_arrays(t, Y)
    assert (data.lengths, data.d) == (lengths, d)
    assert data.n_observed == sum(lengths) * d


@pytest.mark.parametrize(
    "t, Y, message",
    [
        (T[::-1], np.ones(4), "must increase strictly, but index 0 has 3 and 1 has 2"),
        ([0, 1, 1, 2], np.ones(4), "increase strictly"),
        ([0, 1, np.nan, 2], np.ones(4), "must be finite"),
        (T, np.ones(5), "must have 4 rows; it has 5"),
        (T, np.ones((2, 5, 1)), "trajectory 0"),
        ([T, T], [np.ones((4, 1))], "times of 2 trajectories, Y has 1"),
        (T, [1, 2, np.inf, 3], "infinite at t = 2"),
        (T, np.ones((1, 1, 1, 4)), "Y must have shape"),
        ([T, T], [np.ones((4, 2)), np.ones((4, 3))], "trajectory 1 of Y"),
    ],
)
def test_bad_arrays_are_refused(t, Y, message):
    with pytest.raises(ValueError, match=message):
        Trajectories.from_arrays(t, Y)


def test_strings_are_refused():
    with pytest.raises(TypeError, match="Y must hold real numbers"):
        Trajectories.from_arrays(T, ["a", "b", "c", "d"])


def test_names_are_checked():
    with pytest.raises(ValueError, match="2 different names"):
        Trajectories.from_arrays(T, np.ones((4, 2)), names=["a", "a"])


# ------------------------------------------------------------------------------------------------------------

LONG = """# a comment
run,time,x,v

a,0,1.0,
b,0.5,3,4
a,2,NA,7
a,1,2.0,6
b,1.5,nan,5
"""


@pytest.fixture
def table(tmp_path):
    def write(text, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_csv_in_long_form(table):
    data = read_csv(table(LONG), "time", ["x", "v"], "run")
    assert data.ids == ("a", "b") and data.names == ("x", "v")
    np.testing.assert_array_equal(data.t[0], [0, 1, 2])
    np.testing.assert_array_equal(data.y[0], [[1, np.nan], [2, 6], [np.nan, 7]])
    np.testing.assert_array_equal(data.y[1], [[3, 4], [np.nan, 5]])
    assert data.n_observed == 7


@pytest.mark.parametrize(
    "text",
    [
        "t;x\r\n0;1\r\n1;2\r\n",
        "t\tx\n0\t1\n1\t2",
        "\ufefft,x\n0,1\n1,2\n",
        '"t", "x"\n0, 1\n1,"2"\n',
        "t,other,x\n0,?,1\n1,!,2\n",
    ],
)
def test_csv_dialects(table, text):
    data = read_csv(table(text), "t", "x")
    np.testing.assert_array_equal(data.t[0], [0, 1])
    np.testing.assert_array_equal(data.y[0], [[1], [2]])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("t,x\n", "a header but no rows"),
        ("t,y\n0,1\n", "no column 'x'; its columns are t, y"),
        ("t,x,x\n0,1,2\n", "more than one column 'x'"),
        ("t,x\n0,1\n1\n", "line 3: 1 entries, but the header has 2"),
        ("# hi\nt,x\n0,1\n1,zwei\n", "line 4, column 'x': 'zwei' is not a number"),
        ('t;x\n0;1\n1;"2,5 m"\n', "line 3, column 'x': '2,5 m' is not a number; write the number alone"),
        ("t,x\n0,1\n,2\n", "line 3: the time 't' is missing"),
        ("t,x\n0,1\n1,2\n0,3\n", "lines 2 and 4 have the same time t = 0: name the column that tells"),
        ("t,x\n0,1\n1,inf\n", "infinite"),
        ('t,x\n0,"1\n', "table.csv"),
    ],
)
def test_bad_csv_is_refused(table, text, message):
    with pytest.raises(TableError, match=message):
        read_csv(table(text), "t", "x")


def test_csv_in_another_encoding(table):
    with pytest.warns(TableWarning, match="not in UTF-8"):
        data = read_csv(table("t,größe\n0,1\n", encoding="latin-1"), "t", "größe")
    assert data.names == ("größe",)


def test_same_time_in_one_trajectory(table):
    with pytest.raises(TableError, match="both belong to id 'a'"):
        read_csv(table("id,t,x\na,0,1\nb,0,2\na,0,3\n"), "t", "x", "id")
    with pytest.raises(TableError, match="named twice"):
        read_csv(table("t,x\n0,1\n"), "t", ["x", "t"])


def test_data_frames(table):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(table(LONG), comment="#")
    data = Trajectories.from_frame(frame, "time", ["x", "v"], "run")
    same = read_csv(table(LONG), "time", ["x", "v"], "run")
    for a, b in zip((*data.t, *data.y), (*same.t, *same.y), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(TableError, match="no column 'z'"):
        Trajectories.from_frame(frame, "time", "z")
    with pytest.raises(TableError, match="'a' is not a number"):
        Trajectories.from_frame(frame, "time", "run")


def test_names_of_the_package():
    assert pn.datasets is datasets


def test_no_random_state_gives_other_data_each_time():
    first, second = (datasets.periodic(None, n_train=2, n_held_out=0) for _ in range(2))
    assert not np.array_equal(first.train.y[0], second.train.y[0])
    assert "random_state None" in first.source
