"""Expressions of NumPy that fields may be made of, and what they are compared with: NumPy itself."""

import numpy as np

from pynode.programs.tracing import new_trace, trace


def traced(fn, *arrays, size=None):
    """The value of fn, by tracing it: one slot an argument."""
    arrays = [np.asarray(x, dtype=np.float64) for x in arrays]
    the_trace = new_trace([x.size for x in arrays])
    args = [the_trace.slot(i, x.shape) for i, x in enumerate(arrays)]
    result = trace(fn, args, the_trace, size)
    program = the_trace.builder.finish([result.register])
    (value,), _ = program.evaluate([x.reshape(1, -1) for x in arrays], [np.empty(0)])
    return value.reshape(result.shape)


def assert_as_numpy(fn, *arrays, rtol=4e-15):
    """Same shape and numbers as NumPy gives. A function that returns lists is compared stacked."""
    with np.errstate(all="ignore"):
        expected = np.asarray(fn(*(np.asarray(x, dtype=np.float64) for x in arrays)), dtype=np.float64)
    value = traced(fn, *arrays)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=rtol, atol=1e-300)


def _accumulated(x):
    total = 0.0
    for i in range(3):
        total += x[i] * i
    y = x * 1.0
    y -= total
    y *= 2.0
    y /= 3.0
    y **= 2
    return y


x = np.array([0.5, -1.0, 2.0])
z = np.array([1.5, 0.3, -0.7])
A = np.array([[1.0, -2.0, 0.5], [0.3, 4.0, -1.0]])
C = np.array([[0.1, 2.0], [-1.0, 0.4], [3.0, 0.7]])
K = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, -1.0]])  # a constant of the field

EXPRESSIONS = {
    "operators": lambda x, z: (x + z) - 2 * x / (z - 5) + (-x) * +z - 1.0 + 3 / (z + 9) - (1 - x),
    "broadcast rows": lambda A, x: A * x + x,
    "broadcast columns": lambda A: A - A[:, :1],
    "outer sum": lambda x, z: x[:, None] + z,
    "constant arrays": lambda x: np.array([1.0, 2.0, 3.0]) * x + [1, 2, 3],
    "constant on the left": lambda x: np.float64(2.0) * x + np.arange(3) - np.int64(1) * x,
    "powers": lambda x: x**2 + x**3 - x**7 + x**0 + x**1,
    "negative powers": lambda x: x**-1 + x**-2 - np.power(x, -3),
    "halves": lambda x: np.abs(x) ** 0.5 + np.abs(x) ** -1.5 + (x * x) ** 2.5,
    "general power": lambda x, z: np.abs(x) ** z + 2.0**x + np.abs(x) ** 0.3,
    "array of powers": lambda x: np.abs(x) ** np.array([1.0, 2.0, 0.5]),
    "abs": lambda x: abs(x),
    "comparisons": lambda x, z: (x < z) + 2.0 * (x <= z) + 4.0 * (x > 0) + 8.0 * (x >= 0.5) + 16.0 * (x == 2),
    "masks": lambda x, z: 1.0 * ((x > 0) & (z > 0)) + 2.0 * ((x > 0) | (z > 0)) + 4.0 * ~(x != 2.0),
    "logical": lambda x: 1.0 * np.logical_and(x > 0, x < 1) + np.where(np.logical_not(x), 1.0, 3.0),
    "where": lambda x, z: np.where(x > z, x, 0.0) + np.where(x > 0, 1.0, z) + np.where(True, x, z),
    "where broadcast": lambda A, x: np.where(x < A, A, x),
    "clip": lambda x: np.clip(x, -0.5, 1.0) + np.clip(x, None, 0.3) + x.clip(0.0) + np.clip(x, min=0, max=1),
    "index": lambda x: [x[0], x[-1], x[np.int64(1)]],
    "slices": lambda x: np.concatenate([x[1:], x[:2], x[::-1], x[::2], x[-2:-1]]),
    "index arrays": lambda x: x[[2, 0, 0]] + x[np.array([1, 1, -1])],
    "boolean index": lambda x: x[np.array([True, False, True])],
    "newaxis": lambda x: x[None] + x[:, None],
    "ellipsis": lambda A: A[..., 1] + A[1, ..., 2],
    "matrix index": lambda A: A[0] + A[1, :] * A[0, 0] + A[:, 1].sum(),
    "matrix blocks": lambda A: A[:, 1:] @ A[:, :2].T,
    "fancy": lambda A: A[[0, 1, 1], [2, 0, 1]],
    "unpacking": lambda x: (lambda a, b, c: [a, b * c])(*x),
    "iteration": lambda A: sum(row[0] * row for row in A),
    "len": lambda x: x * len(x) + x.size + x.ndim + x.shape[0] + np.size(x) + np.ndim(x) + np.shape(x)[0],
    "T": lambda A: A.T,
    "methods": lambda A: A.sum() + A.mean() + A.sum(axis=0) + A.max() - A.min() + A.prod() + A.dot(A[0])[0],
    "reshape": lambda A: A.reshape(3, 2) + A.reshape((3, -1)),
    "ravel": lambda A: A.ravel() + A.flatten() + A.reshape(-1),
    "matvec": lambda A, x: A @ x + A.dot(x) + np.dot(A, x) + np.matmul(A, x) + np.inner(A, x),
    "vecmat": lambda x, C: x @ C + np.dot(x, C),
    "vecvec": lambda x, z: x @ z + np.dot(x, z) + np.vdot(x, z) + np.inner(x, z),
    "matmat": lambda A, C: A @ C + np.matmul(A, C) + np.dot(A, C),
    "stacks of matrices": lambda A, C: (A[None] * C[:, :, None]) @ C + A @ (A[0][:, None, None] * C),
    "transposed": lambda A, x: A.T @ (A @ x) + (A @ x) @ A + (A.T @ A) @ x,
    "constant matrix": lambda x: K @ x + x @ K.T,
    "constant vector": lambda x: x @ np.array([1.0, 2.0, 3.0]) + np.array([1.0, 2.0, 3.0]) @ x,
    "outer": lambda x, z: np.outer(x, z),
    "dot of scalars": lambda x: np.dot(x[0], x) + np.dot(2.0, x),
    "sum": lambda A: np.sum(A) + np.sum(A, axis=0) + np.sum(A, axis=-1, keepdims=True),
    "mean": lambda A: np.mean(A) + np.mean(A, axis=0) + np.mean(A, axis=1, keepdims=True),
    "max, min, prod": lambda A: np.max(A, axis=0) + np.min(A, axis=0) + np.prod(A, axis=1).sum() + np.max(A),
    "sum of a list": lambda x: np.sum([x[0], x[1]]) + np.sum([x, 2 * x], axis=0) + sum(x),
    "concatenate": lambda A, x: np.concatenate([A, A[:1], [x]]),
    "concatenate columns": lambda A: np.concatenate([A, 2 * A], axis=1),
    "stack": lambda x, z: np.stack([x, z]) + np.stack([z, x]),
    "stack columns": lambda x, z: np.stack([x, z, x], axis=1),
    "stack with numbers": lambda x: np.stack([x[0], 1.0, x[2]]),
    "hstack": lambda x, A: np.hstack([x, A[0], [1.0]]) + np.hstack([A, A]).sum(),
    "vstack": lambda x, A: np.vstack([x, A]),
    "column_stack": lambda x, z: np.column_stack([x, z]),
    "np.array": lambda x: np.array([x[1], -x[0], 1.0]) * 2,
    "np.array of arrays": lambda x: np.array([[x[0], 1.0], [0.0, x[1]]]) @ np.array([x[2], 3.0]),
    "np.array of vectors": lambda x, z: np.sin(np.array([x, z])),
    "np.asarray": lambda x: np.asarray(x) * 2.0,
    "norm": lambda x, A: np.linalg.norm(x) + np.linalg.norm(A, axis=0) + np.linalg.norm(x, 1),
    "norms": lambda x, A: np.linalg.norm(x, np.inf) + np.linalg.norm(A) + np.linalg.norm(A, "fro"),
    "like": lambda x: np.zeros_like(x) + np.ones_like(x) + np.full_like(x, 3.0) * x,
    "full_like of a value": lambda x: np.full_like(x, x[1]),
    "einsum": lambda A, C, x: np.einsum("ij,jk->ik", A, C) + np.einsum("ij, j", A, x)[:, None] + np.einsum("ij,jk", A, C),
    "einsum of three": lambda A, C, x: np.einsum("ij,jk,j->ki", A, C, x) + np.einsum("ai,a,i->", A, x[:2], x),
    "einsum of one": lambda A: np.einsum("ij->ji", A) + np.einsum("ij->j", A)[:, None] + np.einsum("ij->", A),
    "einsum over batches": lambda A, C: (
        np.einsum("ijk,jkl->jil", A[..., None], C[:, None, :]) + np.einsum("ij,ji->j", A, C).sum()
    ),
    "einsum of products": lambda x, z: (
        np.einsum("i,i->i", x, z) + np.einsum("i,j->ij", x, z)[1] + np.einsum("i,j->ji", x, z)[0]
    ),
    "einsum of diagonals": lambda A: (
        np.einsum("ii->i", A[:, :2]) + np.einsum("ii", A[:, 1:]) + np.einsum("iij->j", A[None] * A[:, None])[0]
    ),
    "einsum of matrices": lambda A: np.einsum("bij,bjk->bik", A[None] * A[:, None], np.swapaxes(A[None] * A[:, None], 1, 2)),
    "tensordot": lambda A, C: np.tensordot(A, C.T) + np.tensordot(A, C, 1) + np.tensordot(A, C, axes=([0], [1]))[0, 0],
    "tensordot of vectors": lambda x, z: np.tensordot(x, z, axes=0) + np.tensordot(x, z, axes=1),
    "cumsum": lambda A, x: np.cumsum(x) + np.cumsum(A, axis=0) + np.cumsum(A, axis=1) + np.cumsum(A)[3],
    "var": lambda A, x: np.var(A, axis=0) + np.std(x) + np.var(A, ddof=1) + np.std(A, axis=1, keepdims=True),
    "kron": lambda A, C, x, z: np.kron(A, C) + np.kron(x, z)[4],
    "cross": lambda A, x, z: np.cross(x, z) + np.cross(A, A[::-1]),
    "interp": lambda x, z: np.interp(x, [-0.7, 0.5, 1.0], [2.0, -1.0, 4.0]) + np.interp(x[1], [-3.0, 0.0, 2.0], z),
    "interp with ends": lambda x: np.interp(x, [-0.7, 0.5, 1.0], [2.0, -1.0, 4.0], left=7.0, right=-3.0),
    "roll": lambda x: np.roll(x, 1) - 2 * x + np.roll(x, -1),
    "diff": lambda A: np.diff(A)[:, 0] + np.diff(A, axis=0).sum() + np.diff(A[0], n=2),
    "trace": lambda A: np.trace(A[:, :2]) + np.diagonal(A[:, :2]),
    "flips": lambda A: np.flip(A) + np.fliplr(A) + np.flipud(A) + np.rot90(A, 2),
    "axes": lambda A: np.swapaxes(A, 0, 1) + np.moveaxis(A, 0, 1) + np.transpose(A) + A.transpose(1, 0),
    "expand": lambda x: np.expand_dims(x, 0) + np.atleast_2d(x) + np.atleast_1d(x) + np.broadcast_to(x, (2, 3)),
    "squeeze": lambda x: np.squeeze(x[None]) + x[None].squeeze() + np.copy(x) + x.copy(),
    "repeat": lambda x: np.repeat(x, 2) + np.tile(x, 2),
    "take": lambda x: np.take(x, [0, 2]),
    "split": lambda x: (lambda a, b: np.concatenate([b, a]))(*np.split(x, [1])) + np.array_split(x, 2)[0][0],
    "np.reshape": lambda A: np.reshape(A, (3, 2)) + np.ravel(A)[0],
    "in place on names": lambda x: _accumulated(x),
    "scalar state": lambda x: x[0] * x[1],
    "nested lists": lambda x: [[x[0], x[1]], [x[2], 0.0]],
    "constants only": lambda x: [1.0, 2.0],
    "astype": lambda x: x.astype(np.float64) + x.astype(float),
    "identity of an array": lambda x: x,
}
