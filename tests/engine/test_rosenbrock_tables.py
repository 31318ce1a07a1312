"""Coefficients of the Rosenbrock methods: order conditions, stability, what the core's form of them must satisfy.

Conditions are those of Hairer, Wanner, Solving ODEs II, IV.7: those of Runge-Kutta methods, but a node with one branch takes
alpha + Gamma where one with several takes alpha. A W-method has any matrix in the place of the Jacobian (Steihaug,
Wolfbrandt 1979): there every node with one branch takes alpha or Gamma, and all sums with some Gamma are 0.
"""

import itertools

import numpy as np
import pytest
import tableau_conditions as tc
from rosenbrock_reference import table_of

import pynode as pn
from pynode.engine.order_conditions import rosenbrock_order

ROWS = {name: row for name, row in pn.METHODS.items() if row["gamma"] > 0}
THETAS = np.linspace(0, 1, 9)
FAILS = 1e-5
TABLE = 1e-9
"""Coefficients are given to 16 digits, and transformed back."""

SHIPPED = ("rosenbrock23", "ros34pw2", "rodas4", "rodas5p")
"""Names that users rely on; methods that are added need not stand here."""


@pytest.fixture(params=ROWS)
def row(request):
    return ROWS[request.param]


def tolerance(row):
    """Coefficients are given to 16 digits, and some are large."""
    table = table_of(row)
    return 1e-14 * (1 + np.abs(table.alpha).max() + np.abs(table.Gamma).max()) ** 2


def elementary(tree, table):
    """The stage weights of a tree."""
    A = table.beta if len(tree) == 1 else table.alpha
    g = np.ones(len(A))
    for child in tree:
        g = g * (A @ elementary(child, table))
    return g


def coloured(tree, table):
    """(stage weights, whether Gamma is in them) of a tree, for each choice between alpha and Gamma."""
    below = [coloured(child, table) for child in tree]
    for choice in itertools.product(*below):
        if len(choice) == 1:
            yield table.alpha @ choice[0][0], choice[0][1]
            yield table.Gamma @ choice[0][0], True
            continue
        g = np.ones(len(table.alpha))
        for weights, _ in choice:
            g = g * (table.alpha @ weights)
        yield g, any(has for _, has in choice)


def worst_of_any_matrix(weights, table, order, theta=1.0):
    """max |weights . g - theta^|t| / gamma(t)| over the choices without Gamma, |weights . g| over the others."""
    return max(
        abs(weights @ g - (0 if has else theta**order / tc.gamma(tree)))
        for tree in tc.trees(order)
        for g, has in coloured(tree, table)
    )


def worst(weights, table, order, theta=1.0):
    """max |weights . g(t) - theta^|t| / gamma(t)| over the trees of that order."""
    trees = tc.trees(order)
    return max(abs(weights @ elementary(tree, table) - theta**order / tc.gamma(tree)) for tree in trees)


def test_the_methods_are_there():
    assert [name for name in ROWS if name in SHIPPED] == list(SHIPPED)


def test_numbers(row):
    s = row["s"]
    assert row["coupling"].shape == (s, s) and row["by_t"].shape == (s,)
    assert row["n_extra"] == 0 and row["second"] is None and row["source"]
    assert not (row["error_uses_new"] or row["dense_uses_new"] or row["has_e2"])
    assert not np.triu(row["coupling"]).any() and not np.triu(row["a"]).any()
    assert (row["a"][s, :s] == row["b"]).all() and row["c"][s] == 1  # the new state
    assert not row["e"][s] and not row["dense"][s].any()  # f there is not used


def test_explicit_methods_have_none_of_it():
    for name, explicit in pn.METHODS.items():
        if name not in ROWS:
            assert explicit["gamma"] == 0 and not explicit["coupling"].any() and not explicit["by_t"].any()


def test_times_are_sums_of_rows(row):
    table = table_of(row)
    np.testing.assert_allclose(table.alpha.sum(axis=1), row["c"][: row["s"]], rtol=0, atol=tolerance(row))
    np.testing.assert_allclose(table.Gamma.sum(axis=1), row["by_t"], rtol=0, atol=tolerance(row))
    np.testing.assert_allclose(np.diag(table.Gamma), row["gamma"], rtol=1e-14)


def test_order(row):
    table = table_of(row)
    for order in range(1, row["order"] + 1):
        assert worst(table.b, table, order) < tolerance(row), order
    assert worst(table.b, table, row["order"] + 1) > FAILS


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row["any_matrix"]])
def test_order_with_any_matrix(name):
    """Of y_new and the embedded solution; of dense output one less, which leaves that of y_new at the ends of steps."""
    row = ROWS[name]
    table = table_of(row)
    limit = tolerance(row)
    for order in range(1, row["order"] + 1):
        assert worst_of_any_matrix(table.b, table, order) < limit, order
        if order <= row["error_order"] < row["order"]:
            assert worst_of_any_matrix(table.embedded, table, order) < limit, order
        for theta in THETAS if order < row["order"] else ():
            assert worst_of_any_matrix(tc.weights(table.dense, theta), table, order, theta) < limit, (order, theta)


def test_who_claims_to_take_any_matrix():
    """All that satisfy the conditions do, and those alone."""
    for name, row in ROWS.items():
        table = table_of(row)
        fits = all(worst_of_any_matrix(table.b, table, q) < tolerance(row) for q in range(1, row["order"] + 1))
        assert row["any_matrix"] == fits, name
        assert not any(explicit["any_matrix"] for explicit in pn.METHODS.values() if explicit["gamma"] == 0)


def test_the_library_counts_alike(row):
    table = table_of(row)
    assert rosenbrock_order(table.b, table.alpha, table.Gamma, TABLE) == row["order"]
    assert rosenbrock_order(table.dense, table.alpha, table.Gamma, TABLE) == row["dense_order"]
    assert (rosenbrock_order(table.b, table.alpha, table.Gamma, TABLE, any_matrix=True) == row["order"]) == row["any_matrix"]


def test_order_of_the_error_estimate(row):
    """Error of the embedded solution, or of y_new: O(h^(error_order + 1))."""
    table = table_of(row)
    e = table.b - table.embedded
    sizes = [max(abs(e @ elementary(tree, table)) for tree in tc.trees(q)) for q in range(1, row["error_order"] + 2)]
    assert max(sizes[:-1]) < tolerance(row) and sizes[-1] > FAILS, sizes


def test_order_of_dense_output(row):
    table = table_of(row)
    limit = tolerance(row) + 1e-15 * np.abs(row["dense"]).max()
    for order in range(1, row["dense_order"] + 1):
        for theta in THETAS:
            assert worst(tc.weights(table.dense, theta), table, order, theta) < limit, (order, theta)
    assert max(worst(tc.weights(table.dense, theta), table, row["dense_order"] + 1, theta) for theta in THETAS) > FAILS
    assert row["dense_order"] in (row["order"] - 1, row["order"])


def test_dense_output_joins_the_steps(row):
    assert not row["dense"][:, 0].any()
    b = np.append(row["b"], 0.0)
    assert np.abs(row["dense"].sum(axis=1) - b).max() < 4e-16 * np.abs(row["dense"]).sum(axis=1).max()


def stability(weights, table, z):
    """R(z) = 1 + z b (I - z beta)^-1 1 of y' = lambda y, z = h lambda."""
    s = len(weights)
    return 1 + z * weights @ np.linalg.solve(np.eye(s) - z * table.beta, np.ones(s))


def test_stability(row):
    """A-stable, its poles being at 1 / gamma > 0 only; and R(infinity) = 0: L-stable."""
    table = table_of(row)
    y = np.concatenate([np.linspace(0, 20, 2001), np.geomspace(20, 1e8, 400)])
    assert max(abs(stability(table.b, table, 1j * x)) for x in y) <= 1 + 1e-12
    assert abs(1 - table.b @ np.linalg.solve(table.beta, np.ones(row["s"]))) < tolerance(row)
    z = -np.geomspace(1e-3, 1e8, 200)
    assert max(abs(stability(table.b, table, x)) for x in z) < 1


def test_ros34pw2_is_stiffly_accurate():
    """b is the last row of alpha + Gamma; and R(infinity) of the embedded solution is below 1."""
    table = table_of(ROWS["ros34pw2"])
    np.testing.assert_allclose(table.beta[-1], table.b, rtol=0, atol=tolerance(ROWS["ros34pw2"]))
    assert abs(1 - table.embedded @ np.linalg.solve(table.beta, np.ones(4))) < 0.6
    np.testing.assert_allclose(table.Gamma[1, 0], -2 * ROWS["ros34pw2"]["gamma"], rtol=1e-14)


@pytest.mark.parametrize("name", ["rodas4", "rodas5p"])
def test_stiffly_accurate(name):
    """The last stage is the new state, and the one before it the embedded one: alpha_si + gamma_si = b_i."""
    table = table_of(ROWS[name])
    limit = tolerance(ROWS[name])
    np.testing.assert_allclose(table.beta[-1], table.b, rtol=0, atol=limit)
    np.testing.assert_allclose(table.beta[-2], table.embedded, rtol=0, atol=limit)
    np.testing.assert_allclose(table.alpha[-1], table.embedded, rtol=0, atol=limit)
    assert abs(1 - table.embedded[:-1] @ np.linalg.solve(table.beta[:-1, :-1], np.ones(len(table.b) - 1))) < limit


def test_rosenbrock23_is_that_of_its_authors():
    """Shampine, Reichelt (1997): d = 1 / (2 + sqrt 2), k2 and k3 in W k = ..., the estimate h (k1 - 2 k2 + k3) / 6."""
    row = ROWS["rosenbrock23"]
    d, e32 = 1 / (2 + np.sqrt(2)), 6 + np.sqrt(2)
    lam = -3.0 + 0.5j
    f_t = 0.7
    h = 0.1
    t, y = 0.2, 1.3

    def f(at, state):
        return lam * state + f_t * at

    W = 1 - h * d * lam
    k1 = (f(t, y) + h * d * f_t) / W
    f1 = f(t + h / 2, y + h / 2 * k1)
    k2 = (f1 - k1) / W + k1
    new = y + h * k2
    k3 = (f(t + h, new) - e32 * (k2 - f1) - 2 * (k1 - f(t, y)) + h * d * f_t) / W
    k = []
    for i in range(3):
        inner = y + h * sum(row["a"][i, j] * k[j] for j in range(i))
        coupled = sum(row["coupling"][i, j] * k[j] for j in range(i))
        k.append(row["gamma"] * (f(t + row["c"][i] * h, inner) + coupled + row["by_t"][i] * h * f_t) / W)
    assert y + h * np.dot(row["b"], k) == pytest.approx(new, rel=1e-14)
    assert abs(h * np.dot(row["e"][:3], k)) == pytest.approx(abs(h / 6 * (k1 - 2 * k2 + k3)), rel=1e-12)
    s = 0.3
    middle = y + h * np.dot(row["dense"][:3] @ s ** np.arange(row["dense_degree"] + 1), k)
    assert middle == pytest.approx(y + h * (s * (1 - s) * k1 + s * (s - 2 * d) * k2) / (1 - 2 * d), rel=1e-14)
