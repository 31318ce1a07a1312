"""Calls with any options and odd arrays: an answer, unchanged arguments, the same bits with other threads and memory."""

import sys

import numpy as np
from odd import copied, is_answer, number, odd, one_of, unchanged

import pynode as pn

FIELDS = {}


def field_of(d, m):
    """A network for d states and m inputs."""
    if (d, m) not in FIELDS:
        FIELDS[d, m] = pn.mlp(d, (3,), inputs=m, time=True)
    return FIELDS[d, m]


def times(rng, n):
    """Times: ordinary ones, and equal, next to each other, huge, descending, unordered ones."""
    t = np.sort(rng.uniform(0, 2, n))
    kind = rng.integers(14)
    if kind == 0 and n > 1:
        t[1:] = t[0]
    elif kind == 1 and n > 1:
        t[1] = np.nextafter(t[0], 9)
    elif kind == 2:
        t = t + 1e16
    elif kind == 3:
        t = t[::-1]
    elif kind == 4:
        rng.shuffle(t)
    elif kind == 5:
        t = t * one_of(rng, 1e-12, 1e-300, 50.0)
    elif kind == 6:
        t = t[:1]
    return t


def options_of(rng, d, t, rows):
    """Options of solve: some of them, most of them sensible."""
    pairs = {
        "method": lambda: one_of(rng, *pn.METHODS, "auto", "no", None),
        "rtol": lambda: one_of(rng, 1e-3, 1e-8, 1e-12, number(rng)),
        "atol": lambda: one_of(rng, 1e-6, np.full(d, 1e-4), number(rng), odd(rng, np.full(d, 1e-6))),
        "step": lambda: one_of(rng, 0.1, 1.0, number(rng)),
        "save": lambda: one_of(rng, "interpolate", "land", "no"),
        "max_steps": lambda: one_of(rng, 20, 1000, 1, 0, number(rng)),
        "first_step": lambda: one_of(rng, 0.01, number(rng)),
        "max_step": lambda: one_of(rng, 0.1, number(rng)),
        "grid": lambda: one_of(rng, t, odd(rng, t)),
        "coupling": lambda: one_of(rng, 0.9, number(rng)),
        "dtype": lambda: one_of(rng, np.float32, "float64", "int8"),
        "mass": lambda: one_of(rng, np.eye(d), np.ones(d), odd(rng, np.eye(d))),
        "errors": lambda: one_of(rng, "ignore", "raise", "warn"),
    }
    chosen = rng.choice(list(pairs), rng.integers(0, 5), replace=False)
    return {"max_steps": 2000} | {str(name): pairs[name]() for name in chosen}


def case(rng):
    d = int(one_of(rng, 1, 2, 3, 5, 17, one_of(rng, 0, 64, 200)))
    m = int(one_of(rng, 0, 0, 1, 2))
    n = int(one_of(rng, 1, 1, 2, 9, 40))
    rows = int(rng.integers(1, 8))
    f = field_of(max(d, 1), m)
    t = times(rng, rows)
    y0 = rng.normal(size=(n, d) if rng.random() < 0.8 or n > 1 else d)
    theta = 0.5 * rng.normal(size=(n, f.n_params) if rng.random() < 0.2 else f.n_params)
    options = options_of(rng, d, t, rows)
    if m:
        knots = np.linspace(0, 2, 4)
        options["inputs"] = one_of(
            rng, (knots, rng.normal(size=(4, m))), (odd(rng, knots), odd(rng, rng.normal(size=(4, m))))
        )
    given = [odd(rng, y0), odd(rng, t), odd(rng, theta)]
    before = [copied(x) for x in given]
    kind = rng.integers(3 if d < 64 else 2)  # the price of sensitivities grows with d^2 p
    if kind == 0:
        same_everywhere(rng, lambda **more: pn.solve(f, *given, **options, **more).y, {"threads": [1, 3]}, n, d)
    elif kind == 1:
        target = odd(rng, rng.normal(size=(n, rows, d)))
        more = {"loss": one_of(rng, "mse", "mae", "huber", "student"), "wrt": one_of(rng, "theta", ("theta", "y0", "t"))}
        more["adjoint"] = one_of(rng, "discrete", "discrete", "backsolve", "interpolating", "reversible")
        exact = more["adjoint"] == "discrete"
        changes = {"threads": [1, 3]} | ({"memory": [None, "64KB", "1MB"]} if exact else {})
        same_everywhere(
            rng, lambda **which: vector(pn.loss_and_grad(f, *given, target, **more, **options, **which)), changes, n, d
        )
    else:
        options = {k: v for k, v in options.items() if k not in ("grid", "errors")}
        same_everywhere(
            rng, lambda **which: pn.sensitivities(f, *given, **options, **which).theta, {"threads": [1, 3]}, n, d
        )
    assert all(unchanged(x, b) for x, b in zip(given, before, strict=True)), "an argument was changed"


def vector(val):
    """Loss and gradients as one array."""
    parts = [val.loss, val.theta, val.y0, val.t]
    return np.concatenate([np.ravel(p) for p in parts if p is not None and not isinstance(p, list)])


def same_everywhere(rng, call, changes, n, d):
    """Call once with each value of the changes; an answer each time, and the same bits."""
    results = []
    for name, values in changes.items():
        for value in values:
            try:
                results.append(call(**{name: value}))
            except BaseException as error:
                assert is_answer(error), f"{type(error).__name__}: {error}"
                if name == "memory" and "memory" in str(error):
                    continue  # too little
                results.append(type(error))
    first = results[0]
    for other in results[1:]:
        if isinstance(first, type):
            assert other is first, f"{first} or {other}"
        else:
            assert not isinstance(other, type), other
            for a, b in zip(listed(first), listed(other), strict=True):
                assert a.tobytes() == b.tobytes(), "other bits"


def listed(x):
    """A list of arrays, from one or several."""
    return [np.asarray(a) for a in x] if isinstance(x, list) else [np.asarray(x)]


if __name__ == "__main__":
    sys.exit("run tests/fuzz/run.py calls")
