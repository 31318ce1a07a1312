"""Stiff problems, written once for all libraries, and the references that they are compared with.

A right-hand side is f(xp, t, y, p) -> list: y and p are sequences of scalars, xp has sqrt for them (numpy, casadi,
jax.numpy). Sources: E. Hairer, G. Wanner, Solving Ordinary Differential Equations II, IV.1 and IV.10; F. Mazzia,
C. Magherini, Test Set for Initial Value Problem Solvers, release 2.4 (Bari, 2008).

    python benchmarks/stiff_problems.py [PROBLEM ...]

finds the references again (SciPy's Radau at 1e-12; minutes) and writes them to stiff_references.json.
"""

import json
import multiprocessing
import sys
from dataclasses import dataclass
from math import pi
from pathlib import Path

import numpy as np

REFERENCES = Path(__file__).resolve().parent / "stiff_references.json"
SAMPLES = 256
RTOL = 1e-6
FLOOR = 1e-12
"""What is added to the sizes of components in relative errors and in the loss."""


def rober(xp, t, y, p):
    """Robertson (1966): three species, rates over nine decades."""
    slow = p[0] * y[0]
    fast = p[1] * y[1] * y[1]
    back = p[2] * y[1] * y[2]
    return [back - slow, slow - back - fast, fast]


def hires(xp, t, y, p):
    """Schaefer (1975): growth of plants by light."""
    bound, released = p[8] * y[5] * y[7], p[10] * y[6]
    return [
        -p[0] * y[0] + p[1] * y[1] + p[2] * y[2] + p[11],
        p[0] * y[0] - p[3] * y[1],
        -p[4] * y[2] + p[1] * y[3] + p[5] * y[4],
        p[2] * y[1] + p[0] * y[2] - p[6] * y[3],
        -p[7] * y[4] + p[1] * y[5] + p[1] * y[6],
        -bound + p[9] * y[3] + p[0] * y[4] - p[1] * y[5] + p[9] * y[6],
        bound - released,
        released - bound,
    ]


def orego(xp, t, y, p):
    """Field and Noyes (1974): the Belousov-Zhabotinsky reaction."""
    return [p[0] * (y[1] + y[0] * (1 - p[2] * y[0] - y[1])), (y[2] - (1 + y[0]) * y[1]) / p[0], p[1] * (y[0] - y[2])]


def pollu(xp, t, y, k):
    """Verwer (1994): air pollution, 25 reactions of 20 species."""
    takes = (0, 1, 4, 6, 6, 6, 8, 8, 10, 10, 12, 9, 13, 0, 2, 3, 3, 15, 15, 16, 18, 18, 0, 18, 19)
    partners = {1: 3, 2: 1, 5: 5, 7: 5, 8: 1, 9: 0, 11: 1, 13: 5, 19: 5, 22: 3, 23: 0}
    r = [None] + [k[i] * y[n] * y[partners[i]] if i in partners else k[i] * y[n] for i, n in enumerate(takes)]
    return [
        -r[1] - r[10] - r[14] - r[23] - r[24] + r[2] + r[3] + r[9] + r[11] + r[12] + r[22] + r[25],
        -r[2] - r[3] - r[9] - r[12] + r[1] + r[21],
        -r[15] + r[1] + r[17] + r[19] + r[22],
        -r[2] - r[16] - r[17] - r[23] + r[15],
        -r[3] + 2 * r[4] + r[6] + r[7] + r[13] + r[20],
        -r[6] - r[8] - r[14] - r[20] + r[3] + 2 * r[18],
        -r[4] - r[5] - r[6] + r[13],
        r[4] + r[5] + r[6] + r[7],
        -r[7] - r[8],
        -r[12] + r[7] + r[9],
        -r[9] - r[10] + r[8] + r[11],
        r[9],
        -r[11] + r[10],
        -r[13] + r[12],
        r[14],
        -r[18] - r[19] + r[16],
        -r[20],
        r[20],
        -r[21] - r[22] - r[24] + r[23] + r[25],
        -r[25] + r[24],
    ]


def vdp(xp, t, y, p):
    """Van der Pol's oscillator."""
    return [y[1], p[0] * ((1 - y[0] * y[0]) * y[1]) - y[0]]


CELLS = 32


def brusselator(xp, t, y, p):
    """Reaction and diffusion on a line, u and v of a cell side by side (Hairer & Wanner, IV.1.6'); p: A, B, alpha."""
    u, v = [1.0, *y[0::2], 1.0], [3.0, *y[1::2], 3.0]
    spread = p[2] * (CELLS + 1) ** 2
    rates = []
    for i in range(1, CELLS + 1):
        born = u[i] * u[i] * v[i]
        rates.append(p[0] + born - (p[1] + 1) * u[i] + spread * (u[i - 1] - 2 * u[i] + u[i + 1]))
        rates.append(p[1] * u[i] - born + spread * (v[i - 1] - 2 * v[i] + v[i + 1]))
    return rates


def brusselator_arrays(xp, t, y, p):
    """The same for libraries of arrays: y (2 CELLS, ...)."""
    u, v = y[0::2], y[1::2]

    def spread(w, edge):
        edges = xp.full_like(w[:1], edge)
        return xp.concatenate([edges, w[:-1]]) - 2 * w + xp.concatenate([w[1:], edges])

    born, rate = u * u * v, p[2] * (CELLS + 1) ** 2
    du = p[0] + born - (p[1] + 1) * u + rate * spread(u, 1.0)
    dv = p[1] * u - born + rate * spread(v, 3.0)
    return xp.stack([du, dv], 1).reshape(y.shape)


KS = 115.83


def akzo(xp, t, y, p):
    """Chemical Akzo Nobel (test set, II-1), its algebraic variable put in. p: k1 to k4, K, klA, p(CO2)."""
    return _akzo(xp, y, KS * y[0] * y[3], p)


def akzo_dae(xp, t, y, p):
    """The same with the algebraic equation 0 = Ks y1 y4 - y6."""
    return [*_akzo(xp, y, y[5], p), KS * y[0] * y[3] - y[5]]


def _akzo(xp, y, bound, p):
    root = xp.sqrt(y[1])
    r1 = p[0] * y[0] ** 4 * root
    r2, r3 = p[1] * y[2] * y[3], p[1] / p[4] * y[0] * y[4]
    r4, r5 = p[2] * y[0] * y[3] ** 2, p[3] * bound**2 * root
    inflow = p[5] * (p[6] / 737.0 - y[1])
    return [-2 * r1 + r2 - r3 - r4, -0.5 * r1 - r4 - 0.5 * r5 + inflow, r1 - r2 + r3, -r2 + r3 - 2 * r4, r2 - r3 + r5]


@dataclass(frozen=True)
class Ways:
    """How one solver does a problem.

    `one(rtol)` makes a call that gives (y at the end, steps or None). For the batch, at rtol 1e-6: `forward()` gives y at
    the end (n, d), `gradient()` the derivatives of the loss (n, k); n may be less than 256, then time is scaled.
    `slope(rtol)` makes a call that gives the derivatives of the loss of the first sample (k,).
    """

    one: object
    forward: object = None
    gradient: object = None
    slope: object = None


@dataclass(frozen=True)
class Problem:
    """dy/dt = f(t, y; p) from y0 at 0 to `end`; atol for rtol 1e-6.

    `dae`: f, mass and what is appended to y0, of the form with an algebraic equation.
    """

    name: str
    f: object
    y0: list
    p: list
    end: float
    atol: list
    arrays: object = None
    dae: tuple | None = None

    @property
    def samples(self):
        """Parameters (256, k) of the batch."""
        p = np.array(self.p)
        return p * np.exp(0.1 * np.random.default_rng(0).standard_normal((SAMPLES, p.size)))

    @property
    def reference(self):
        """`end`: y at the end, for p. `first`, `gradient`: y and derivatives of the loss, for the first of the samples."""
        return {key: np.array(value) for key, value in json.loads(REFERENCES.read_text())[self.name].items()}

    @property
    def weights(self):
        """The loss of a sample is sum((weights y(end))^2)."""
        return 1 / (np.abs(self.reference["end"]) + FLOOR)

    def atol_at(self, rtol):
        return np.array(self.atol) * (rtol / RTOL)

    def scaled(self):
        """(scale, f for z = y / scale and q = p / self.p), for libraries with one atol for all: that of z is min(atol)."""
        scale = np.array(self.atol) / min(self.atol)

        def f(xp, t, z, q):
            p = [q[j] * value for j, value in enumerate(self.p)]
            y = [z[i] * scale[i] if scale[i] != 1 else z[i] for i in range(scale.size)]
            return [rate / s if s != 1 else rate for rate, s in zip(self.f(xp, t, y, p), scale, strict=True)]

        return scale, f

    def error(self, y, name="end"):
        """The largest relative error of y."""
        exact = self.reference[name]
        return float(np.max(np.abs(np.asarray(y)[: exact.size] - exact) / (np.abs(exact) + FLOOR)))

    def gradient_error(self, gradient):
        """Relative, in the 2-norm, of derivatives with respect to the logarithms of the first sample's parameters."""
        exact, p = self.reference["gradient"], self.samples[0]
        return float(np.linalg.norm(p * (np.asarray(gradient) - exact)) / np.linalg.norm(p * exact))


POLLU_RATES = [
    *(0.35, 26.6, 1.23e4, 8.6e-4, 8.2e-4, 1.5e4, 1.3e-4, 2.4e4, 1.65e4, 9e3, 0.022, 1.2e4, 1.88),
    *(1.63e4, 4.8e6, 3.5e-4, 0.0175, 1e8, 4.44e11, 1240.0, 2.1, 5.78, 0.0474, 1780.0, 3.12),
]
POLLU_START = [0, 0.2, 0, 0.04, 0, 0, 0.1, 0.3, 0.01, 0, 0, 0, 0, 0, 0, 0, 0.007, 0, 0, 0]
HIRES_RATES = [1.71, 0.43, 8.32, 8.75, 10.03, 0.035, 1.12, 1.745, 280.0, 0.69, 1.81, 0.0007]
GRID = [(i + 1) / (CELLS + 1) for i in range(CELLS)]
BRUSSELATOR_START = np.ravel([[1 + np.sin(2 * pi * x), 3.0] for x in GRID]).tolist()
AKZO_START = [0.444, 0.00123, 0.0, 0.007, 0.0]
AKZO_DAE = (akzo_dae, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0], [KS * 0.444 * 0.007])

PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("ROBER", rober, [1.0, 0.0, 0.0], [0.04, 3e7, 1e4], 1e5, [1e-8, 1e-12, 1e-8]),
        Problem("HIRES", hires, [1.0, *[0.0] * 6, 0.0057], HIRES_RATES, 321.8122, [1e-9] * 8),
        Problem("OREGO", orego, [1.0, 2.0, 3.0], [77.27, 0.161, 8.375e-6], 360.0, [1e-6] * 3),
        Problem("POLLU", pollu, [float(y) for y in POLLU_START], POLLU_RATES, 60.0, [1e-11] * 20),
        Problem("VDP1000", vdp, [2.0, 0.0], [1000.0], 2000.0, [1e-6] * 2),
        Problem("BRUSS64", brusselator, BRUSSELATOR_START, [1.0, 3.0, 0.02], 10.0, [1e-6] * 64, arrays=brusselator_arrays),
        Problem("AKZO", akzo, AKZO_START, [18.7, 0.58, 0.09, 0.42, 34.4, 3.3, 0.9], 180.0, [1e-9] * 5, dae=AKZO_DAE),
    )
}


# references ---------------------------------------------------------------------------------------------------------


def functions(problem, p):
    """f(t, y) and its Jacobian, in NumPy: all columns of complex steps at once."""
    if problem.arrays:

        def many(t, y):
            return np.asarray(problem.arrays(np, t, y, p))

        one = many
    else:

        def many(t, y):
            return np.array(np.broadcast_arrays(*problem.f(np, t, list(y), p)))

        def one(t, y):
            return np.array(problem.f(np, t, y.tolist(), p))

    p = np.asarray(p).tolist()
    d = len(problem.y0)
    steps = 1e-30j * np.eye(d)

    def jacobian(t, y):
        return many(t, y[:, None] + steps).imag / 1e-30

    return one, jacobian


def tight(problem, p, rtol=1e-12):
    """y at the end, by Radau."""
    from scipy.integrate import solve_ivp

    f, jacobian = functions(problem, p)
    atol = np.array(problem.atol) * 1e-6
    found = solve_ivp(f, (0.0, problem.end), problem.y0, "Radau", rtol=rtol, atol=atol, jac=jacobian)
    if not found.success:
        raise RuntimeError(f"{problem.name}: {found.message}")
    return found.y[:, -1]


STENCIL = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
"""Differences of order 4."""

STEP = 3e-4
"""In the logarithm of a parameter: truncation and the errors of solves weigh about the same in OREGO."""


def reference(name):
    """What `Problem.reference` says, by solves at 1e-12: derivatives by differences in the logarithms of the parameters."""
    problem = PROBLEMS[name]
    end, first = tight(problem, problem.p), tight(problem, problem.samples[0])
    weights, p = 1 / (np.abs(end) + FLOOR), problem.samples[0]
    gradient = []
    for j in range(p.size):
        moved = [np.where(np.arange(p.size) == j, p * np.exp(k * STEP), p) for k in STENCIL]
        losses = [np.sum((weights * tight(problem, q)) ** 2) for q in moved]
        gradient.append(float(np.dot(list(STENCIL.values()), losses)) / (STEP * p[j]))
    return name, {"end": end.tolist(), "first": first.tolist(), "gradient": gradient}


def main(names):
    found = json.loads(REFERENCES.read_text()) if REFERENCES.exists() else {}
    with multiprocessing.Pool() as pool:
        for name, one in pool.imap_unordered(reference, names or list(PROBLEMS)):
            print(name, flush=True)
            found[name] = one
            kept = {name: found[name] for name in PROBLEMS if name in found}
            REFERENCES.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
