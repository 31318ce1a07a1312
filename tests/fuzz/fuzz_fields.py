"""Random traced fields: the program has the values of plain NumPy, and solves the same with two threads."""

import numpy as np
from odd import is_answer, number, one_of

import pynode as pn

UNARY = {
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "exp": lambda x: np.exp(np.minimum(x, 3.0)) if np.isrealobj(x) else np.exp(x),
    "square": np.square,
    "negative": np.negative,
    "abs": np.abs,
    "sign": lambda x: np.sign(x + 0.123),
    "sqrt": lambda x: np.sqrt(np.square(x) + 1.0),
    "reverse": lambda x: x[::-1],
    "stride": lambda x: x[::2].sum() * x,
    "arctan": np.arctan,
    "log1p": lambda x: np.log1p(np.square(x)),
    "cumulative": lambda x: np.concatenate([x[1:], x[:1]]),
    "where": lambda x: np.where(x > 0.25, x, 2.0 * x),
    "maximum": lambda x: np.maximum(x, 0.5),
    "mean": lambda x: x - x.mean(),
    "dot": lambda x: (x @ x) * x,
    "outer": lambda x: np.outer(x, x) @ x,
}
BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": lambda a, b: a / (1.0 + np.square(b)),
    "minimum": np.minimum,
    "power": lambda a, b: np.power(np.square(a) + 0.5, 0.5) + b,
    "less": lambda a, b: np.where(a < b, a, b),
}


def recipe(rng):
    """A list of operations on a stack."""
    steps = []
    for _ in range(int(rng.integers(1, 12))):
        kind = rng.random()
        if kind < 0.15:
            steps.append(("const", float(np.clip(number(rng), -1e3, 1e3))))  # sums of larger ones cancel
        elif kind < 0.6:
            steps.append(("unary", one_of(rng, *UNARY)))
        else:
            steps.append(("binary", one_of(rng, *BINARY), int(rng.integers(0, 4))))
    return steps


def evaluate(steps, t, y, k):
    """The field of a recipe, in NumPy or traced."""
    stack = [y, t * y, k * y]
    for step in steps:
        if step[0] == "const":
            stack.append(stack[-1] * 0.5 + step[1])
        elif step[0] == "unary":
            stack.append(UNARY[step[1]](stack[-1]))
        else:
            stack.append(BINARY[step[1]](stack[-1], stack[-1 - step[2] % len(stack)]))
    return stack[-1]


def shaky(rng, steps, t, y, right):
    """Where NumPy itself gives other values once y changes by 1e-11, as sin(1e12) does: there is no right value."""
    shaky = np.zeros(right.shape, bool)
    for _ in range(16):
        near = y * (1.0 + 1e-11 * rng.normal(size=y.shape))
        with np.errstate(all="ignore"):
            other = np.stack([np.broadcast_to(evaluate(steps, t, row, 0.7), right.shape[1:]) for row in near])
        shaky |= ~np.isclose(other, right, rtol=1e-9, atol=1e-9)
    return shaky


def case(rng):
    d = int(one_of(rng, 1, 2, 3, 8, 17))
    steps = recipe(rng)
    try:
        f = pn.field(state=d, theta={"k": 1.0})(lambda t, y, th: evaluate(steps, t, y, th.k))
    except BaseException as error:
        assert is_answer(error) or isinstance(error, pn.TraceError), f"{type(error).__name__}: {error}"
        return
    for n in (1, 5):
        y = rng.normal(size=(n, d))
        t = float(np.round(rng.normal(), 2))
        found = np.stack([np.asarray(f(t, row, np.array([0.7]))) for row in y])
        with np.errstate(all="ignore"):
            right = np.stack([np.broadcast_to(evaluate(steps, t, row, 0.7), (d,)) for row in y])
        close = np.isclose(found, right, rtol=1e-9, atol=1e-9 * (1 + np.nanmax(np.abs(right), initial=0.0)), equal_nan=True)
        huge = ~np.isfinite(right) | ~np.isfinite(found)
        assert (close | huge | shaky(rng, steps, t, y, right)).all(), (steps, found, right)
        sol = pn.solve(f, y, np.linspace(0, 0.5, 3), [0.7], max_steps=200, errors="ignore")
        assert sol.y.shape == (n, 3, d)
        again = pn.solve(f, y, np.linspace(0, 0.5, 3), [0.7], max_steps=200, errors="ignore", threads=2)
        assert sol.y.tobytes() == again.y.tobytes(), "other bits with two threads"
