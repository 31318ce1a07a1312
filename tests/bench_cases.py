"""The cases on which the peers were measured: the same arrays, from the same seeds (a copy of the tracker's generator)."""

import itertools

import numpy as np

CASES = {
    "codelab": {"d": 1, "hidden": (8,), "B": 5, "t1": 1.0, "n": 21, "method": "euler", "dt": 0.05, "dtype": "float64"},
    "rk4one": {"d": 2, "hidden": (16,), "B": 1, "t1": 10.0, "n": 101, "method": "rk4", "dt": 0.05, "dtype": "float64"},
    "spiral": {
        "d": 2,
        "hidden": (50,),
        "B": 20,
        "t1": 9 * 25 / 999,
        "n": 10,
        "method": "dopri5",
        "rtol": 1e-7,
        "atol": 1e-9,
        "dtype": "float32",
        "cubic": True,
    },
    "vdp": {
        "d": 2,
        "hidden": (32, 32),
        "B": 64,
        "t1": 7.0,
        "n": 100,
        "method": "dopri5",
        "rtol": 1e-6,
        "atol": 1e-8,
        "dtype": "float64",
    },
    "big": {
        "d": 2,
        "hidden": (64, 64),
        "B": 4096,
        "t1": 1.0,
        "n": 10,
        "method": "dopri5",
        "rtol": 1e-5,
        "atol": 1e-5,
        "dtype": "float32",
    },
    "wide": {
        "d": 64,
        "hidden": (256,),
        "B": 128,
        "t1": 1.0,
        "n": 2,
        "method": "dopri5",
        "rtol": 1e-3,
        "atol": 1e-3,
        "dtype": "float32",
    },
}


def make(name):
    """The case with its weights `params` [(W, b), ...], y0 (B, d), t (n,) and target (n, B, d)."""
    c = dict(CASES[name])
    r = np.random.default_rng(7)
    sizes = (c["d"], *c["hidden"], c["d"])
    gain, dt = 1.5 if len(sizes) == 3 else 1.2, c["dtype"]
    c["params"] = [
        ((r.standard_normal((o, i)) * np.sqrt(1.0 / i) * gain).astype(dt), (r.standard_normal(o) * 0.1).astype(dt))
        for i, o in itertools.pairwise(sizes)
    ]
    c["y0"] = r.standard_normal((c["B"], c["d"])).astype(dt)
    c["t"] = np.linspace(0, c["t1"], c["n"]).astype(dt)
    c["target"] = r.standard_normal((c["n"], c["B"], c["d"])).astype(dt)
    return c
