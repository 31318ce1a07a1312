"""Order conditions of Runge-Kutta methods, from rooted trees.

A method (A, b, c) with c = A 1 has order p where, for every rooted tree t with at most p nodes (Butcher 1963; Hairer,
Norsett, Wanner, Solving Ordinary Differential Equations I, section II.2),

    b . g(t) = 1 / gamma(t),    g(leaf) = 1,    g([t_1 ... t_m]) = A g(t_1) * ... * A g(t_m)    (componentwise),
    gamma(leaf) = 1,            gamma([t_1 ... t_m]) = |t| gamma(t_1) ... gamma(t_m).

A Rosenbrock method (A, Gamma, b), Gamma lower triangular, has order p where these hold with A + Gamma in the place of A
at nodes with one branch (Hairer, Wanner, Solving Ordinary Differential Equations II, section IV.7). Its Jacobian may be
any matrix (it is a W-method: Steihaug, Wolfbrandt 1979, Math. Comp. 33) where they hold with A at all nodes, and
b . g = 0 with Gamma in the place of A at any choice of nodes with one branch.

Weights b(theta) of dense output have order q where b(theta) . g(t) = theta^|t| / gamma(t) for every tree with at most q
nodes (section II.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HIGHEST_ORDER = 8
"""Order conditions are looked at up to this order."""


TOLERANCE = 1e-10
"""A condition holds up to this much, relative to the size of its terms where these are large."""


# ---- Rooted trees: a tree is the sorted tuple of the subtrees at its root, the leaf is ()

Tree = tuple[Any, ...]


def _grown(tree: Tree) -> Iterable[Tree]:
    """The trees with one leaf more."""
    yield tuple(sorted((*tree, ())))
    for i, child in enumerate(tree):
        for taller in _grown(child):
            yield tuple(sorted((*tree[:i], taller, *tree[i + 1 :])))


@cache
def rooted_trees(nodes: int) -> tuple[Tree, ...]:
    """All rooted trees with so many nodes: 1, 1, 2, 4, 9, 20, 48, 115, ..."""
    if nodes == 1:
        return ((),)
    return tuple(sorted({taller for tree in rooted_trees(nodes - 1) for taller in _grown(tree)}))


def nodes_of(tree: Tree) -> int:
    """How many nodes a tree has."""
    return 1 + sum(nodes_of(child) for child in tree)


def density(tree: Tree) -> int:
    """gamma(t), the product of the sizes of all subtrees."""
    product = nodes_of(tree)
    for child in tree:
        product *= density(child)
    return product


def _brackets(tree: Tree) -> str:
    """A tree in Butcher's notation, e.g. ``[t, [t]]``."""
    return f"[{', '.join(map(_brackets, tree))}]" if tree else "t"


def _formula(tree: Tree) -> str:
    """g(t) in matrix notation, e.g. ``c * (A @ c)``."""
    leaves = tree.count(())
    power = [f"c**{leaves}" if leaves > 1 else "c"] if leaves else []
    products = [f"A @ {_bracketed(_formula(child))}" for child in tree if child]
    if not power and len(products) == 1:
        return products[0]
    return " * ".join([*power, *(f"({product})" for product in products)])


def _bracketed(formula: str) -> str:
    return f"({formula})" if " " in formula else formula


def _stage_weights(tree: Tree, a: NDArray[np.float64], known: dict[Tree, NDArray[np.float64]]) -> NDArray[np.float64]:
    """g(t), one number a stage; `known` remembers those of subtrees."""
    if tree not in known:
        g = np.ones(len(a))
        for child in tree:
            g = g * (a @ _stage_weights(child, a, known))
        known[tree] = g
    return known[tree]


class Failure(NamedTuple):
    """An order condition that does not hold.

    Attributes
    ----------
    tree : tuple
    power : int
        The power of theta whose coefficient is wrong; 0 for weights that do not depend on theta.
    value, wanted : float
        The left side of the condition and the right one.
    """

    tree: Tree
    power: int
    value: float
    wanted: float

    def message(self, weights: str) -> str:
        """The condition in words, for weights of this name."""
        g = _formula(self.tree)
        left = f"{weights} @ {_bracketed(g)}" if g else f"sum({weights})"
        right = "1" if not self.tree else f"1/{density(self.tree)}"
        at = ""
        if self.power:
            left = left.replace(weights, f"{weights}(theta)", 1)
            right = f"{'' if right == '1' else right + ' '}theta**{nodes_of(self.tree)}"
            at = f" in theta**{self.power}"
        return (
            f"the condition of order {nodes_of(self.tree)} {left} = {right} (tree {_brackets(self.tree)}) does not hold: "
            f"it is {self.value:.12g}{at}, with a residual of {self.value - self.wanted:.2g}"
        )


def order_of(weights: NDArray[np.float64], a: NDArray[np.float64]) -> tuple[int, Failure | None]:
    """The order of a method, up to HIGHEST_ORDER, and the worst failure among the conditions of the next order.

    Parameters
    ----------
    weights : (n,) array, or (n, k + 1) array
        Weights b of the stages; or those of dense output, as coefficients of theta^0 ... theta^k.
    a : (n, n) array
        Coefficients of the stages.

    Returns
    -------
    order : int
    failure : Failure or None
        None where no condition fails.
    """
    known: dict[Tree, NDArray[np.float64]] = {}
    dense = weights.ndim == 2
    for order in range(1, HIGHEST_ORDER + 1):
        worst = TOLERANCE
        failure = None
        for tree in rooted_trees(order):
            terms = np.atleast_2d(weights.T * _stage_weights(tree, a, known))
            terms = np.pad(terms, ((0, max(0, (order + 1) * dense - len(terms))), (0, 0)))
            wanted = np.zeros(len(terms))
            wanted[order * dense] = 1 / density(tree)
            value = terms.sum(axis=1)
            residual = np.abs(value - wanted) / max(1.0, float(np.abs(terms).max()))
            power = int(residual.argmax())
            if residual[power] > worst:
                worst = residual[power]
                failure = Failure(tree, power, float(value[power]), float(wanted[power]))
        if failure is not None:
            return order - 1, failure
    return HIGHEST_ORDER, None


def _rosenbrock_weights(
    tree: Tree, a: NDArray[np.float64], gamma: NDArray[np.float64], any_matrix: bool
) -> Iterator[tuple[NDArray[np.float64], bool]]:
    """(g(t), whether its condition is b . g = 0): one, or with any_matrix one for each choice at nodes with one branch."""
    for below in product(*(list(_rosenbrock_weights(child, a, gamma, any_matrix)) for child in tree)):
        zero = any(empty for _, empty in below)
        if len(below) == 1:
            g = below[0][0]
            yield (a @ g if any_matrix else (a + gamma) @ g), zero
            if any_matrix:
                yield gamma @ g, True
            continue
        yield np.prod([a @ g for g, _ in below], axis=0) if below else np.ones(len(a)), zero


def rosenbrock_order(
    weights: NDArray[np.float64],
    a: NDArray[np.float64],
    gamma: NDArray[np.float64],
    tolerance: float = TOLERANCE,
    *,
    any_matrix: bool = False,
) -> int:
    """The order of a Rosenbrock method, up to HIGHEST_ORDER.

    Parameters
    ----------
    weights : (n,) array, or (n, k + 1) array
        Weights b of the stages; or those of dense output, as coefficients of theta^0 ... theta^k.
    a, gamma : (n, n) arrays
        Coefficients of the stages, in the form of the authors.
    tolerance : float
        Conditions hold up to this much.
    any_matrix : bool, default False
        The order with any matrix in the place of the Jacobian.
    """
    dense = weights.ndim == 2
    for order in range(1, HIGHEST_ORDER + 1):
        for tree in rooted_trees(order):
            for g, zero in _rosenbrock_weights(tree, a, gamma, any_matrix):
                value = np.atleast_1d(weights.T @ g)
                value = np.pad(value, (0, max(0, (order + 1) * dense - len(value))))
                value[order * dense] -= 0.0 if zero else 1 / density(tree)
                if np.abs(value).max() > tolerance:
                    return order - 1
    return HIGHEST_ORDER
