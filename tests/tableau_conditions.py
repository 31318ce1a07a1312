"""Order conditions of Runge-Kutta methods from rooted trees.

A method (A, b, c) has order p when, for every rooted tree t with at most p
nodes (Butcher; Hairer, Norsett, Wanner, Solving ODEs I, section II.2),

    sum_i b_i g_i(t) = 1 / gamma(t),
    g_i(leaf) = 1,   g_i([t_1 ... t_m]) = prod_k sum_j a_ij g_j(t_k),
    gamma(leaf) = 1, gamma([t_1 ... t_m]) = |t| gamma(t_1) ... gamma(t_m).

Continuous weights b(theta) have order q when sum_i b_i(theta) g_i(t) =
theta^|t| / gamma(t) for every tree with at most q nodes (section II.6).

A tree is the sorted tuple of its subtrees below the root; the leaf is ().
Arrays may hold floats or any exact numbers (dtype object).
"""

from functools import cache
from itertools import combinations_with_replacement
from math import factorial

import numpy as np


def _forests(nodes, largest):
    """Multisets of trees with `nodes` nodes in all, none larger than `largest`."""
    if nodes == 0:
        yield ()
        return
    for n in range(min(nodes, largest), 0, -1):
        for count in range(1, nodes // n + 1):
            for same in combinations_with_replacement(trees(n), count):
                for rest in _forests(nodes - count * n, n - 1):
                    yield same + rest


@cache
def trees(order):
    """All rooted trees with `order` nodes."""
    return tuple(sorted(tuple(sorted(f)) for f in _forests(order - 1, order - 1)))


def size(tree):
    """|t|: the number of nodes."""
    return 1 + sum(size(child) for child in tree)


def symmetry(tree):
    """sigma(t): the number of automorphisms."""
    product = 1
    for child in set(tree):
        m = tree.count(child)
        product *= factorial(m) * symmetry(child) ** m
    return product


def gamma(tree):
    """The density gamma(t)."""
    product = size(tree)
    for child in tree:
        product *= gamma(child)
    return product


def stage_weights(tree, A, c):
    """The vector g(t), one entry a stage.  A 1 is taken to be c."""
    g = np.ones_like(c)
    for child in tree:
        g = g * (A.dot(stage_weights(child, A, c)) if child else c)
    return g


def weights(dense, theta):
    """b(theta): b_i(theta) = sum_{j>=1} dense[i, j] theta^j."""
    total = 0 * dense[:, 0]
    for column in dense[:, :0:-1].T:
        total = (total + column) * theta
    return total


def residuals(A, b, c, order, theta=1):
    """b.g(t) - theta^|t| / gamma(t) for every tree with exactly `order` nodes.

    b may have fewer entries than A has rows (the later stages then have weight
    zero).  Give b = b(theta) together with theta for a continuous method.
    """
    n = len(b)
    return np.array([b.dot(stage_weights(tree, A[:n, :n], c[:n])) - theta**order / gamma(tree) for tree in trees(order)])


def worst(A, b, c, order, theta=1):
    """max |residual| over the trees with exactly `order` nodes."""
    return max(abs(r) for r in residuals(A, b, c, order, theta))
