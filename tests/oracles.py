"""Random fields against SciPy's DOP853, gradients against the complex step through it: python tests/oracles.py --count 500

A field is drawn with 1 to 5 states, 4 to 30 parameters and a random composition of smooth functions, and solved here
by each of several methods at tolerance 1e-10. SciPy solves the same NumPy function (rtol 1e-13), which was never
traced. The derivative of a sum of squares with respect to one parameter or initial value is Im L(x + i e) / e, e =
1e-30, where SciPy solves with complex numbers (Squire & Trapp 1998). The first --diffrax fields are also solved and
differentiated by diffrax (Dopri8, rtol 1e-12; all entries of the gradient; jax and diffrax are needed then). The worst
relative errors are printed; exits with 1 where one exceeds its bound.
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
    "tanh": lambda xp, x: xp.tanh(x),
    "sin": lambda xp, x: xp.sin(x),
    "cos": lambda xp, x: xp.cos(x),
    "sigmoid": lambda xp, x: 1.0 / (1.0 + xp.exp(-x)),
    "bell": lambda xp, x: xp.exp(-x * x),
    "rational": lambda xp, x: x / (1.0 + x * x),
    "root": lambda xp, x: xp.sqrt(1.0 + x * x),
    "log": lambda xp, x: xp.log(1.0 + x * x),
    "cubic": lambda xp, x: x - 0.1 * x * x * x,
}
"""Functions of an array x by those of a module xp: numpy, jax.numpy."""


def drawn(rng):
    """(number of states, function f(t, y, theta, xp) of the arrays of a module xp, theta, y0)."""
    d = int(rng.integers(1, 6))
    h = int(rng.integers(1, 5))
    one, two = (SMOOTH[str(name)] for name in rng.choice(list(SMOOTH), 2))
    sizes = {"W": (h, d), "b": (h,), "V": (d, h), "c": (d,), "w": ()}
    kind = int(rng.integers(4))

    def f(t, y, th, xp=np):
        hidden = one(xp, th["W"] @ y + th["b"])
        out = th["V"] @ hidden + th["c"] * xp.sin(th["w"] * t)
        if kind == 1:
            out = out + 0.3 * two(xp, y)
        elif kind == 2:
            out = out * two(xp, th["c"] * y)
        elif kind == 3 and d > 1:
            out = out + xp.concatenate([y[1:], y[:1]]) * two(xp, y)
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


def by_diffrax(f, theta, y0):
    """The states at T by diffrax, and dL/dtheta (flat, in the order of theta), dL/dy0 of L = sum y^2 at T."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    term = diffrax.ODETerm(lambda t, y, th: f(t, y, th, jnp))
    tight = diffrax.PIDController(rtol=1e-12, atol=1e-14, dtmax=0.25)

    def loss(theta, y0):
        sol = diffrax.diffeqsolve(
            term,
            diffrax.Dopri8(),
            T[0],
            T[-1],
            None,
            y0,
            theta,
            saveat=diffrax.SaveAt(ts=jnp.asarray(T)),
            stepsize_controller=tight,
            max_steps=2**14,
        )
        return jnp.sum(sol.ys**2), sol.ys

    (_, y), (g_theta, g_y0) = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(theta, y0)
    return np.asarray(y), np.concatenate([np.ravel(g_theta[name]) for name in theta]), np.asarray(g_y0)


def one(rng, worst, with_diffrax):
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
    second = by_diffrax(f, theta, y0) if with_diffrax else None
    for method in METHODS:
        found = pn.solve(field, y0, T, x, method=method, rtol=TOL, atol=TOL, max_steps=10**6).y
        keep(worst, f"states, {method}", np.abs(found - right).max() / scale)
        if second is not None:
            keep(worst, f"states, {method}, diffrax", np.abs(found - second[0]).max() / scale)
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
        if second is not None:
            error = max(np.abs(val.theta - second[1]).max(), np.abs(val.y0 - second[2]).max())
            keep(worst, f"gradient, {adjoint}, diffrax", error / size)


def keep(worst, name, error):
    """Remember the largest error of a name, all errors for their median."""
    worst.setdefault(name, []).append(float(error))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--diffrax", type=int, default=0, help="so many of the fields by diffrax, too")
    given = parser.parse_args()
    worst = {}
    for k in range(given.count):
        one(np.random.default_rng([given.seed, k]), worst, k < given.diffrax)
    for name, errors in worst.items():
        print(f"{name:32} {len(errors):5} fields: median {np.median(errors):.1e}, worst {max(errors):.1e}")
    return int(any(max(errors) > BOUNDS.get(name.partition(",")[0], 0.0) for name, errors in worst.items()))


if __name__ == "__main__":
    sys.exit(main())
