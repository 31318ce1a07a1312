"""`pynode.Tableau`: methods typed in by hand, at work and refused."""

import copy
import pickle
from fractions import Fraction as Q

import numpy as np
import pytest
import tableau_conditions as conditions

import pynode as pn
from pynode.engine.order_conditions import density, nodes_of, order_of, rooted_trees

HEUN = pn.Tableau([[], [1]], [Q(1, 2), Q(1, 2)], b_hat=[1, 0], name="heun by hand")
RALSTON = pn.Tableau([[], [2 / 3]], [1 / 4, 3 / 4], b_hat=[1, 0], name="ralston")
BOGACKI_SHAMPINE = pn.Tableau(
    [[], ["1/2"], [0, "3/4"], ["2/9", "1/3", "4/9"]],
    ["2/9", "1/3", "4/9", 0],
    b_hat=["7/24", "1/4", "1/3", "1/8"],
    name="bogacki-shampine",
)
CASH_KARP = pn.Tableau(
    [
        [],
        [1 / 5],
        [3 / 40, 9 / 40],
        [3 / 10, -9 / 10, 6 / 5],
        [-11 / 54, 5 / 2, -70 / 27, 35 / 27],
        [1631 / 55296, 175 / 512, 575 / 13824, 44275 / 110592, 253 / 4096],
    ],
    [37 / 378, 0, 250 / 621, 125 / 594, 0, 512 / 1771],
    c=[0, 1 / 5, 3 / 10, 3 / 5, 1, 7 / 8],
    b_hat=[2825 / 27648, 0, 18575 / 48384, 13525 / 55296, 277 / 14336, 1 / 4],
    name="cash-karp",
)
RK38 = pn.Tableau(
    [[0, 0, 0, 0], [1 / 3, 0, 0, 0], [-1 / 3, 1, 0, 0], [1, -1, 1, 0]], [1 / 8, 3 / 8, 3 / 8, 1 / 8], name="rk38 by hand"
)
OWN = [HEUN, RALSTON, BOGACKI_SHAMPINE, CASH_KARP, RK38]
ADAPTIVE = OWN[:-1]
ORDERS = [(2, 1, 2), (2, 1, 2), (3, 2, 3), (5, 4, 3), (4, 0, 3)]  # of y, of the error estimate, of dense output

own = pytest.mark.parametrize("method", OWN, ids=lambda method: method.name)
adaptive = pytest.mark.parametrize("method", ADAPTIVE, ids=lambda method: method.name)


@pn.field(state=2, theta={"a": 1.0, "b": 0.5})
def swinging(t, y, th):
    return [y[1], -th.a * np.sin(y[0]) - th.b * y[1] * np.cos(t)]


THETA = swinging.init(0)
Y0 = [1.0, 0.3]
T = np.array([0.0, 0.7, 2.0])


def exact(t):
    return pn.solve(swinging, Y0, t, THETA, method="dop853", rtol=1e-13, atol=1e-14).y


def slope(errors):
    return np.log2(errors[0] / errors[1])


# ---- Conditions


def test_trees():
    for n in range(1, 9):
        trees = rooted_trees(n)
        assert len(trees) == len(set(trees)) == len(conditions.trees(n))
        assert all(nodes_of(tree) == n for tree in trees)
        assert sorted(density(tree) for tree in trees) == sorted(conditions.gamma(tree) for tree in conditions.trees(n))


@pytest.mark.parametrize("name", [name for name, row in pn.METHODS.items() if not row["second"] and row["gamma"] == 0])
def test_orders_of_the_built_in(name):
    row = pn.METHODS[name]
    b = np.pad(row["b"], (0, len(row["c"]) - row["s"]))
    assert order_of(b, row["a"])[0] == row["order"]
    assert order_of(row["dense"], row["a"])[0] == row["dense_order"]
    if row["error_order"] and not row["has_e2"]:
        assert order_of(b - row["e"], row["a"])[0] == row["error_order"]


def test_orders_are_found():
    assert [(m.order, m.error_order, m.dense_order) for m in OWN] == ORDERS


def test_fractions_give_the_bits_of_the_built_in_rows():
    for name, method in (("heun", HEUN), ("bosh3", BOGACKI_SHAMPINE)):
        for key, value in pn.METHODS[name].items():
            if key not in ("name", "source", "any_matrix"):
                np.testing.assert_array_equal(method.row[key], value, err_msg=key)


# ---- At work


@own
def test_order_of_convergence(method):
    n = 20 if method.order < 5 else 8
    want = exact(T)[-1]
    ends = [pn.solve(swinging, Y0, T[[0, 2]], THETA, method=method, step=2.0 / k).y[-1] for k in (n, 2 * n)]
    assert slope([np.abs(y - want).max() for y in ends]) == pytest.approx(method.order, abs=0.2)


@own
def test_dense_output(method):
    t = np.linspace(0.0, 2.0, 60)
    want = exact(t)
    errors = [np.abs(pn.solve(swinging, Y0, t, THETA, method=method, step=2.0 / k).y - want).max() for k in (20, 40)]
    assert slope(errors) == pytest.approx(min(method.order, method.dense_order + 1), abs=0.3)


@adaptive
def test_adaptive_steps_meet_the_tolerance(method):
    sol = pn.solve(swinging, Y0, T, THETA, method=method, rtol=1e-6, atol=1e-8)
    assert np.abs(sol.y - exact(T)).max() < 2e-5
    assert sol.stats.accepted > 5


@own
def test_gradients(method):
    target = np.zeros((3, 2))
    options = {} if method.error_order else {"step": 0.05}
    report = pn.check_grad(swinging, Y0, T, THETA, target, method=method, **options)
    assert report.max_error < 1e-9


@own
def test_gradients_of_the_other_adjoints(method):
    target = np.zeros((3, 2))
    options = {"method": method, "step": 0.01}
    want = pn.loss_and_grad(swinging, Y0, T, THETA, target, **options)
    for adjoint, tolerance in (("backsolve", 1e-3), ("interpolating", 1e-3), ("reversible", 1e-2)):
        got = pn.loss_and_grad(swinging, Y0, T, THETA, target, adjoint=adjoint, **options)
        np.testing.assert_allclose(got.theta, want.theta, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "method"), [("heun", HEUN), ("bosh3", BOGACKI_SHAMPINE)])
def test_bits_of_the_built_in(name, method):
    t = np.linspace(0.0, 2.0, 9)
    y0 = np.random.default_rng(0).normal(size=(5, 2))
    for options in ({"rtol": 1e-6}, {"step": 0.1}, {"step": 0.1, "coupling": 0.9}):
        ours, theirs = (pn.solve(swinging, y0, t, THETA, method=m, **options) for m in (method, name))
        np.testing.assert_array_equal(ours.y, theirs.y)
    a, b = (pn.loss_and_grad(swinging, y0, t, THETA, np.zeros((5, 9, 2)), method=m) for m in (method, name))
    np.testing.assert_array_equal(a.theta, b.theta)


def test_every_call_takes_it():
    target = np.zeros((3, 2))
    objective = pn.Objective(swinging, Y0, T, target, method=BOGACKI_SHAMPINE)
    np.testing.assert_array_equal(
        objective(THETA)[1], pn.loss_and_grad(swinging, Y0, T, THETA, target, method=BOGACKI_SHAMPINE).theta
    )
    assert pn.sensitivities(swinging, Y0, T, THETA, method=BOGACKI_SHAMPINE).theta.shape == (3, 2, 2)
    system = pn.System(swinging, jump=pn.mlp(2, ()))
    theta = system.init(0)
    assert pn.solve(system, Y0, T, theta, method=BOGACKI_SHAMPINE).ok


def test_models_take_it_and_files_keep_it(tmp_path):
    t = np.linspace(0.0, 3.0, 16)
    model = pn.NeuralODE(hidden=4, method=CASH_KARP, max_iter=5, random_state=0).fit(t, np.exp(-t))
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    assert again.method == CASH_KARP
    np.testing.assert_array_equal(again.predict(t, [1.0]), model.predict(t, [1.0]))
    with pytest.raises(ValueError, match="adaptive"):
        pn.NeuralODE(method=RK38).fit(t, np.exp(-t))


# ---- The object


@own
def test_values(method):
    for other in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method), pn.Tableau.from_dict(method.to_dict())):
        assert other == method and hash(other) == hash(method) and other is not method
        assert not other.a.flags.writeable
        np.testing.assert_array_equal(other.row["e"], method.row["e"])
    assert method != pn.Tableau([[]], [1])
    assert method.name in repr(method)
    with pytest.raises(AttributeError, match="cannot be changed"):
        method.order = 7


def test_shown():
    assert (
        str(BOGACKI_SHAMPINE)
        == """\
Tableau('bogacki-shampine', 3 stages, order 3, error_order 2, dense_order 3)
0   |
1/2 | 1/2
3/4 | 0     3/4
1   | 2/9   1/3  4/9
----+---------------------
    | 2/9   1/3  4/9  0
    | 7/24  1/4  1/3  1/8"""
    )


def test_a_cached_call_is_of_the_same_method():
    first = pn.solve(swinging, Y0, T, THETA, method=RK38, step=0.5).y
    pn.solve(swinging, Y0, T, THETA, method=HEUN, step=0.5)
    np.testing.assert_array_equal(
        pn.solve(swinging, Y0, T, THETA, method=pickle.loads(pickle.dumps(RK38)), step=0.5).y, first
    )


# ---- Refused

HALF = [[], [0.5]]

REFUSED = [
    (
        ([[], [0.5], [0, 0.5], [0.1, 0, 0.9]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        {"order": 4},
        r"of order 3 .*1/6 \(tree \[\[t\]\]\)",
    ),
    ((HALF, [0.0, 1.1]), {}, r"sum\(b\) = 1 .*residual of 0\.1"),
    ((HALF, [0.0, 1.0]), {"order": 3}, "order 3"),
    ((HALF, [0.0, 1.0]), {"order": 9}, "order=9"),
    ((HALF, [0.0, 1.0]), {"b_hat": [0.5, 0.4]}, r"b_hat is not of order 1"),
    ((HALF, [0.0, 1.0]), {"b_hat": [0.5, 0.5], "error_order": 2}, r"b_hat @ c = 1/2"),
    ((HALF, [0.0, 1.0]), {"b_hat": [0.0, 1.0]}, "no error estimate"),
    ((HALF, [0.0, 1.0]), {"error_order": 1}, "give b_hat="),
    ((HALF, [0.0, 1.0]), {"c": [0.0, 1.0]}, r"c\[1\] = 1, but a\[1\] sums to 0.5"),
    ((HALF, [0.0, 1.0]), {"dense": [[0, 0], [0, 2]]}, "dense is no dense output"),
    ((HALF, [0.0, 1.0]), {"dense": [[0, 1], [0, 0]]}, "differs from b"),
    ((HALF, [0.0, 1.0]), {"dense": [0, 1]}, "dense has shape"),
    ((HALF, [0.0, 1.0]), {"name": ""}, "name=''"),
    (([[1.0]], [1.0]), {}, "strictly lower triangular"),
    (([[0, 1.0], [0, 0]], [1.0, 0.0]), {}, "only explicit methods"),
    ((HALF, [1.0]), {}, "a must have a row"),
    (([[], [float("nan")]], [0.0, 1.0]), {}, "finite"),
    (([[]] * 14, [1.0] + [0.0] * 13), {}, "14 stages"),
]


@pytest.mark.parametrize(("args", "options", "message"), REFUSED)
def test_refused(args, options, message):
    with pytest.raises(ValueError, match=message):
        pn.Tableau(*args, **options)


def test_fixed_steps_only_without_an_error_estimate():
    with pytest.raises(ValueError, match=r"rk38 by hand.*no error estimate: give step="):
        pn.solve(swinging, Y0, T, THETA, method=RK38)
    with pytest.raises(ValueError, match=r"nor a pynode\.Tableau"):
        pn.solve(swinging, Y0, T, THETA, method=3)
