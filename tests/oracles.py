"""Random fields against SciPy's DOP853, gradients against the complex step through it: python tests/oracles.py --count 500

A field is drawn with 1 to 5 states, 4 to 30 parameters and a random composition of smooth functions, and solved here
by each of several methods at tolerance 1e-10. SciPy solves the same NumPy function (rtol 1e-13), which was never
traced. The derivative of a sum of squares with respect to one parameter or initial value is Im L(x + i e) / e, e =
1e-30, where SciPy solves with complex numbers (Squire & Trapp 1998). The worst relative errors are printed; exits
with 1 where one exceeds its bound.
"""

import argparse
import sys

import numpy as np
from scipy.integrate import solve_ivp

import pynode as pn

METHODS = ("dopri5", "tsit5", "dop853", "bosh3", "rodas5p", "auto")
TOL = 1e-10
BOUNDS = {"states": 1e-6, "gradient": 1e-6}
STEP = 1e-30
T = np.linspace(0.0, 2.0, 5)

SMOOTH = {
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "bell": lambda x: np.exp(-x * x),
    "rational": lambda x: x / (1.0 + x * x),
    "root": lambda x: np.sqrt(1.0 + x * x),
    "log": lambda x: np.log(1.0 + x * x),
    "cubic": lambda x: x - 0.1 * x * x * x,
}


def drawn(rng):
    """(number of states, function f(t, y, theta) of arrays, theta, y0)."""
    d = int(rng.integers(1, 6))
    h = int(rng.integers(1, 5))
    one, two = (SMOOTH[str(name)] for name in rng.choice(list(SMOOTH), 2))
    sizes = {"W": (h, d), "b": (h,), "V": (d, h), "c": (d,), "w": ()}
    kind = int(rng.integers(4))

    def f(t, y, th):
        hidden = one(th["W"] @ y + th["b"])
        out = th["V"] @ hidden + th["c"] * np.sin(th["w"] * t)
        if kind == 1:
            out = out + 0.3 * two(y)
        elif kind == 2:
            out = out * two(th["c"] * y)
        elif kind == 3 and d > 1:
            out = out + np.concatenate([y[1:], y[:1]]) * two(y)
        return out - 0.8 * y

    theta = {name: 0.8 * rng.normal(size=size) for name, size in sizes.items()}
    return d, f, theta, rng.normal(size=d)


def independent(f, theta, y0):
    """The states at T by SciPy; complex where an argument is."""
    kind = np.result_type(y0.dtype, *(np.asarray(x).dtype for x in theta.values()))
    sol = solve_ivp(
        lambda t, y: f(t, y, theta), (T[0], T[-1]), y0.astype(kind), "DOP853", T, rtol=1e-13, atol=1e-15, max_step=0.25
    )
    return sol.y.T


def complex_step(f, theta, y0, name, index):
    """dL/dx of L = sum y^2 at T, x being one entry of a parameter, or of y0 where name is None."""
    theta = {key: np.array(x, dtype=complex) for key, x in theta.items()}
    y0 = y0.astype(complex)
    (y0 if name is None else theta[name])[index] += 1j * STEP
    y = independent(f, theta, y0)
    return float(np.sum(y * y).imag / STEP)


def one(rng, worst):
    """Compare one field; `worst` keeps the largest errors."""
    d, f, theta, y0 = drawn(rng)

    class Named(dict):
        __getattr__ = dict.__getitem__

    field = pn.field(state=d, theta=theta)(lambda t, y, th: f(t, y, Named({n: getattr(th, n) for n in theta})))
    right = independent(f, theta, y0)
    if len(right) < len(T) or not np.isfinite(right).all() or np.abs(right).max() > 1e6:
        keep(worst, "left out, unbounded", 0.0)
        return
    x = field.init(0)
    scale = np.abs(right).max()
    for method in METHODS:
        found = pn.solve(field, y0, T, x, method=method, rtol=TOL, atol=TOL, max_steps=10**6).y
        keep(worst, f"states, {method}", np.abs(found - right).max() / scale)
    name = [None, *theta][rng.integers(1 + len(theta))]
    shape = np.shape(y0 if name is None else theta[name])
    index = tuple(int(rng.integers(n)) for n in shape)
    exact = complex_step(f, theta, y0, name, index)
    for adjoint in ("discrete", "backsolve", "interpolating"):
        val = pn.loss_and_grad(
            field,
            y0,
            T,
            x,
            np.zeros((len(T), d)),
            loss="mse",
            reduction="sum",
            adjoint=adjoint,
            wrt=("theta", "y0"),
            rtol=TOL,
            atol=TOL,
        )
        parameters = field.unflatten(val.theta) if name is not None else None
        found = val.y0[index] if parameters is None else np.asarray(parameters[name])[index]
        size = max(np.abs(val.theta).max(), np.abs(val.y0).max())
        keep(worst, f"gradient, {adjoint}", abs(found - exact) / size)


def keep(worst, name, error):
    """Remember the largest error of a name, all errors for their median."""
    worst.setdefault(name, []).append(float(error))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    worst = {}
    for k in range(given.count):
        one(np.random.default_rng([given.seed, k]), worst)
    for name, errors in worst.items():
        print(f"{name:24} {len(errors):5} fields: median {np.median(errors):.1e}, worst {max(errors):.1e}")
    return int(any(max(errors) > BOUNDS.get(name.partition(",")[0], 0.0) for name, errors in worst.items()))


if __name__ == "__main__":
    sys.exit(main())
