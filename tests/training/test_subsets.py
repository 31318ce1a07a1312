"""The search for the best subset, against all subsets scored one by one."""

import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal

from pynode.training.equations.sparse_field import sparse_field
from pynode.training.equations.subsets import Regression
from pynode.training.equations.terms import Term, drags, evaluate, polynomials, waves


def regression(P=9, n=60, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, P)) + rng.standard_normal((n, 1))
    y = X[:, 1] - 2 * X[:, 4] + 0.3 * X[:, 7] + noise * rng.standard_normal(n)
    prior = rng.uniform(0.05, 0.2, P)
    cost = rng.uniform(0.5, 2.0, P)
    return X, y, prior, cost, Regression(X.T @ X / noise**2, X.T @ y / noise**2, prior, cost)


def test_scores_are_log_evidences():
    """Against the density of y with the coefficients integrated out."""
    X, y, prior, cost, found = regression()

    def exact(s):
        C = 0.25 * np.eye(len(y)) + (X[:, s] / prior[s]) @ X[:, s].T
        return multivariate_normal(np.zeros(len(y)), C).logpdf(y) - cost[s].sum()

    for choice in found.search()[:5]:
        s = list(choice.columns)
        np.testing.assert_allclose(choice.score, exact(s) - exact([]), rtol=1e-8)


def test_the_best_subset_is_found_from_anywhere():
    *_, found = regression()
    everything = [s for k in range(10) for s in itertools.combinations(range(9), k)]
    for k in range(1, 10):
        found.scores([s for s in everything if len(s) == k])
    best = max(found.known, key=found.known.get)
    *_, climbing = regression()
    climbing.known = {(): 0.0}
    here = (0, 2, 3, 5, 8)
    climbing.scores([here])
    while (new := climbing._climbed(here, 12)) != here:
        here = new
    assert here == best == climbing.search()[0].columns


def test_rounding_does_no_harm():
    """Two equal columns, and one that is their sum to rounding."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 2))
    X = np.column_stack([a, a[:, 0], a @ [1, 1], a[:, 1] * (1 + 1e-15)])
    y = X[:, 3]
    best = Regression(X.T @ X / 1e-10, X.T @ y / 1e-10, np.full(5, 0.01), np.full(5, 2.0)).search()[0]
    assert best.columns == (3,)


def test_terms_and_their_field():
    x = np.random.default_rng(0).standard_normal((5, 2))
    terms = [Term((2, 1), "", (0, 0)), Term((0, 1), "sin", (1, -2)), Term((0, 0), "", (0, 0))]
    expected = np.stack([x[:, 0] ** 2 * x[:, 1], x[:, 1] * np.sin(x[:, 0] - 2 * x[:, 1]), np.ones(5)], axis=1)
    np.testing.assert_allclose(evaluate(terms, x), expected, rtol=1e-14)
    f = sparse_field([terms, []], [[1.0, -2.0, 0.5], []], 0, ["a.b", "c"])
    np.testing.assert_allclose(
        f(0.0, x, f.init(0)), np.stack([expected @ [1.0, -2.0, 0.5], np.zeros(5)], axis=1), rtol=1e-14
    )
    assert [p.name for p in f.spec] == ["a_b: a_b^2*c", "a_b: c*sin(a_b - 2*c)", "a_b: 1"]


def test_how_many_terms_there_are():
    assert [len(polynomials(n, k)) for n, k in ((1, 3), (2, 3), (3, 3), (10, 2))] == [4, 10, 20, 66]
    assert len(waves(2, [0, 1])) == len(set(waves(2, [0, 1]))) == 4 + 4 + 4 + 8
    assert polynomials(2, 2)[0].cost < polynomials(2, 2)[-1].cost < waves(2, [0])[0].cost


def test_one_factor_serves_all_changes():
    """Scores of what single changes lead to, against a factor of their own each."""
    *_, found = regression()
    for s in ((), (3,), (0, 2, 3, 5, 8)):
        scores, own = found._around(s)
        for k in range(len(s) + 1):
            kept = [j for i, j in enumerate(s, 1) if i != k]
            expected, its_own = found._with_one_more(np.array([kept], dtype=np.intp))
            np.testing.assert_allclose(scores[k], expected[0], rtol=1e-9)
            np.testing.assert_allclose(own[k], its_own[0], rtol=1e-9, atol=1e-9)


def test_a_column_of_which_nothing_is_left_takes_no_part():
    """After others were eliminated its square is rounding, here below 0; the rest is searched as if it were not there."""
    X, y, prior, cost, _ = regression()
    H, b = X.T @ X / 0.25, X.T @ y / 0.25
    expected = Regression(H[1:, 1:], b[1:], prior[1:], cost[1:]).search()[0]
    H[0] = H[:, 0] = 1e-9
    H[0, 0] = -1e-17
    b[0] = 1e-10
    prior[0] = 1e-30
    found = Regression(H, b, prior, cost).search()[0]
    assert found.columns == tuple(k + 1 for k in expected.columns)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-9)


def test_few_that_only_many_show():
    """Exact data of a driven pendulum: from few columns on, eight wrong ones are found, and no single change leads on."""
    t = np.linspace(0, 10, 512)

    def f(t, x):
        return [x[1], 1.67 - np.sin(x[0]) - 0.64 * x[1] * abs(x[1])]

    x = solve_ivp(f, (0, 10), [1.47, -0.2], "LSODA", t, rtol=1e-9, atol=1e-10).y.T
    terms = polynomials(2, 3) + waves(2, [0, 1]) + drags(2, [1])
    X = np.cumsum(evaluate(terms, x), axis=0).reshape(16, 32, -1) * t[1]
    X = (X - X.mean(axis=1, keepdims=True)).reshape(len(t), -1)
    which = (0, terms.index(Term((0, 0), "sin", (1, 0))), terms.index(Term((0, 1), "abs", (0, 1))))
    z = X[:, which] @ [1.67, -1.0, -0.64]
    prior = np.full(len(terms), 0.01)
    cost = np.array([term.cost for term in terms])
    found = Regression(X.T @ X / 1e-11, X.T @ z / 1e-11, prior, cost)
    assert found.search(most=8)[0].columns == which


@pytest.mark.parametrize("apart", [0.03, 0.01])
def test_rounding_explains_nothing(apart):
    """Nine columns that are nearly one, and data whose noise is 1e-6 of them: sums of squares took (4, 5), or (2, 3, 4)."""
    t, noise = np.linspace(0, 1, 300), 1e-6
    X = np.stack([(1 + apart * t) ** k for k in range(9)], axis=1)
    z = X[:, 4] + noise * np.random.default_rng(0).standard_normal(300)
    power = float(z @ z / noise**2)
    found = Regression(X.T @ X / noise**2, X.T @ z / noise**2, np.full(9, 0.01), np.full(9, 2.0), power)
    best = found.scored_again(found.search(most=9), X / noise, z / noise)[0]
    assert best.columns == (4,)
    assert -200 < best.score - 0.5 * power < -130  # 300 numbers of noise, a column


def test_scores_from_columns_are_those_from_their_products():
    X, y, *_, found = regression()
    choices = found.search()
    again = found.scored_again(choices, X / 0.5, y / 0.5)
    assert [choice.columns for choice in again] == [choice.columns for choice in choices]
    np.testing.assert_allclose([choice.score for choice in again], [choice.score for choice in choices], rtol=1e-9)


def test_columns_without_influence_are_pruned():
    *_, found = regression()
    choice = found.pruned(tuple(range(9)))
    best = found.search()[0]
    assert choice.columns == best.columns
    np.testing.assert_allclose(choice.score, best.score, rtol=1e-12)


def test_many_columns_stay_many():
    """Where all of 60 columns matter they are found from there, not from a few."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 80))
    y = X[:, :60] @ rng.choice([-1.0, 1.0], 60) + 0.1 * rng.standard_normal(400)
    found = Regression(X.T @ X / 0.01, X.T @ y / 0.01, np.full(80, 0.1), np.full(80, 2.0))
    start = tuple(range(5, 65))
    assert found.search([start], most=80, every=500)[0].columns == tuple(range(60))
