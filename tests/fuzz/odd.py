"""Odd arrays and numbers for the fuzzers, and which exceptions are answers."""

import numpy as np

import pynode as pn

ANSWERS = (ValueError, TypeError, pn.SolveError, MemoryError, OverflowError, NotImplementedError)
"""A call may refuse what it is given with one of these, and words that say why."""

EDGES = (0.0, -0.0, 1.0, -1.0, 1e-3, 1e3, 1e-300, 1e300, np.nan, np.inf, -np.inf, 1e16, 1 + 2**-52, 5e-324, -1e-8, 709.8)


def one_of(rng, *things):
    """One of these things."""
    return things[rng.integers(len(things))]


def number(rng):
    """A number, often an odd one."""
    return float(one_of(rng, *EDGES)) if rng.random() < 0.3 else float(np.round(rng.normal(), 3))


def odd(rng, x):
    """The array x in an odd form: strides, byte order, read-only, a list, one entry changed; often as it is."""
    x = np.asarray(x)
    kind = rng.integers(16)
    if kind == 0 and x.ndim:
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
        wide[..., 1::2] = x
        return wide[..., 1::2]
    if kind == 1 and x.ndim:
        return np.ascontiguousarray(x[::-1])[::-1]
    if kind == 2:
        return x.astype(x.dtype.newbyteorder())
    if kind == 3:
        x = x.copy()
        x.setflags(write=False)
        return x
    if kind == 4 and x.ndim:
        return np.broadcast_to(x[:1], x.shape)  # stride 0
    if kind == 5 and x.size:
        x = x.astype(float)
        x.flat[rng.integers(x.size)] = number(rng)
        return x
    if kind == 6:
        return x.tolist()
    if kind == 7:
        return one_of(
            rng, x[..., None], x[None], x[:0] if x.ndim else x, np.asfortranarray(x), x.astype(object), x.astype(str)
        )
    if kind == 8 and rng.random() < 0.3:
        return one_of(rng, None, "no", np.array([]), 1 + 2j, [[1], [1, 2]], x.astype(np.float16), x.astype(np.int32), x > 0)
    return x


def copied(x):
    """A copy to compare with later, or None."""
    return x.copy() if isinstance(x, np.ndarray) else None


def unchanged(x, before):
    """Whether an argument is what it was."""
    return before is None or (x.tobytes() == before.tobytes() and x.dtype == before.dtype)


def is_answer(error):
    """Whether an exception says why."""
    return isinstance(error, ANSWERS) and (len(str(error)) > 8 or isinstance(error, MemoryError))
