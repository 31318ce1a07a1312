"""The systems that `systems.py` learns, and their data: trajectories with noise, and others held out, known exactly.

Held-out trajectories start inside the data: half way between a state of one trajectory, in the first half of its time, and
the nearest one of another; those of a single record on that record. Data of a seed are the same for all noise levels, but
for the noise.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import systems_kinds as kinds
from scipy.integrate import solve_ivp

NOISES = (0.02, 0.1)
"""Standard deviations of the noise, over those of the states."""

HELD = 8
EXACT = {"method": "DOP853", "rtol": 1e-9, "atol": 1e-10}


@dataclass(frozen=True)
class System:
    """A differential equation and how it is measured. `low`, `high`: initial states are uniform between them, or `draw`n;
    `settle`: the time that passes before the first measurement; `signal`: (rng, n, t) -> inputs (n, T, 1)."""

    name: str
    kind: str
    rhs: Callable
    parameters: dict
    low: tuple
    high: tuple
    duration: float
    n: int = 12
    times: int = 101
    settle: float = 0.0
    draw: Callable | None = None
    signal: Callable | None = None
    span: float | None = None  # of held-out trajectories, of a single record
    steps: float = np.inf  # the longest that the reference takes

    @property
    def d(self):
        return len(self.low)

    @property
    def t(self):
        return np.linspace(0.0, self.duration, self.times)

    def field(self):
        """The true form as a field of pynode, from the true parameters."""
        import pynode as pn

        rhs = self.rhs
        if self.signal is not None:
            return pn.field(state=self.d, inputs=1, theta=self.parameters)(lambda t, y, th, u: rhs(t, y, th, u))
        return pn.field(state=self.d, theta=self.parameters)(lambda t, y, th: rhs(t, y, th, None))

    def solve(self, y0, t, u=None, parameters=None, settings=EXACT):
        """(n, T, d) solutions from y0 (n, d), the inputs u (n, T, 1) in straight lines between the times.

        Entries of `parameters` end in an axis of n, or hold for all. What cannot be solved is NaN.
        """
        n, d = y0.shape
        values = SimpleNamespace(**(self.parameters if parameters is None else parameters))
        at = None if u is None else _lines(t, u)

        def slope(x, flat):
            y = flat.reshape(d, n)
            rows = self.rhs(x, y, values, None if at is None else at(x))
            return np.concatenate([np.broadcast_to(row, n) for row in rows])

        with np.errstate(all="ignore"):
            way = solve_ivp(slope, (t[0], t[-1]), y0.T.ravel(), t_eval=t, max_step=self.steps, **settings)
        out = np.full((n, len(t), d), np.nan)
        out[:, : way.y.shape[1]] = way.y.reshape(d, n, -1).transpose(1, 2, 0)
        return out


def _lines(t, u):
    rows = np.moveaxis(u, 0, -1)  # (T, 1, n)

    def at(x):
        k = min(max(int(np.searchsorted(t, x, side="right")) - 1, 0), len(t) - 2)
        part = (x - t[k]) / (t[k + 1] - t[k])
        return (1 - part) * rows[k] + part * rows[k + 1]

    return at


@dataclass(frozen=True)
class Sample:
    """Data of a system: what is fitted, and what is held out."""

    t: np.ndarray
    y: np.ndarray  # (n, T, d) with noise
    u: np.ndarray | None
    clean: np.ndarray
    sigma: np.ndarray  # (d,) of the noise
    std: np.ndarray  # (d,) of the states
    held_t: np.ndarray
    held: np.ndarray  # (HELD, T, d), without noise
    held_u: np.ndarray | None


def sample(system, noise, seed):
    """The data of a seed; noise: the index into NOISES."""
    word = zlib.crc32(system.name.encode())
    rng = np.random.default_rng([word, seed])
    t = system.t
    n = system.n
    u = None if system.signal is None else system.signal(rng, n + HELD, t)
    own = None if u is None else u[:n]
    other = None if u is None else u[n:]
    if system.draw is not None:
        start = system.draw(rng, n)
    else:
        start = rng.uniform(system.low, system.high, (n, system.d))
    if system.settle:
        start = system.solve(start, np.array([0.0, system.settle]))[:, -1]
    y = system.solve(start, t, own)
    std = y.std(axis=(0, 1))
    held_t = t if system.span is None else t[t <= system.span]
    held = system.solve(_inside(y, std, rng), held_t, other)
    sigma = NOISES[noise] * std
    error = np.random.default_rng([word, seed, noise + 1]).standard_normal(y.shape)
    return Sample(t, y + sigma * error, own, y, sigma, std, held_t, held, other)


def _inside(y, std, rng):
    """(HELD, d) states between the data."""
    n, times, d = y.shape
    half = (times + 1) // 2
    which = rng.integers(0, n, HELD)
    states = y[which, rng.integers(0, half, HELD)]
    if n == 1:
        return states
    early = y[:, :half].reshape(-1, d)
    far = (((states[:, None] - early) / std) ** 2).sum(axis=-1)
    far[which[:, None] == np.repeat(np.arange(n), half)] = np.inf
    return 0.5 * (states + early[far.argmin(axis=1)])


# ---- Inputs and initial states of some


def waves(rng, n, t):
    """Sums of three sines, of random frequencies and phases."""
    rate, phase = rng.uniform(0.3, 2.0, (2, n, 3, 1))
    return (np.sin(rate * t + 6 * phase).sum(axis=1) / 1.5)[..., None]


def tone(rng, n, t):
    """A cosine of one frequency and amplitude, at any phase."""
    return np.cos(1.2 * t + rng.uniform(0, 2 * np.pi, (n, 1)))[..., None]


def steps(rng, n, t):
    """Levels of a pump, held for a while each."""
    level = rng.uniform(0.5, 2.0, (n, 1 + len(t) // 15))
    return np.repeat(level, 15, axis=1)[:, : len(t), None]


def orbits(rng, n):
    """Ellipses of moderate eccentricity about (0, 0), from the far or the near end, turned by any angle."""
    eccentricity, angle = rng.uniform(-0.3, 0.3, n), rng.uniform(0, 2 * np.pi, n)
    r = rng.uniform(0.9, 1.2, n)
    v = np.sqrt((1 + eccentricity) / r)
    return np.stack([r * np.cos(angle), r * np.sin(angle), -v * np.sin(angle), v * np.cos(angle)], axis=1)


def rotations():
    """A stable matrix (10, 10): five damped oscillations, mixed."""
    rng = np.random.default_rng(7)
    A = np.zeros((10, 10))
    for k, (rate, damping) in enumerate(zip((0.3, 0.6, 1.0, 1.5, 2.0), (0.02, 0.05, 0.1, 0.05, 0.15), strict=True)):
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[-damping, rate], [-rate, -damping]]
    q, _ = np.linalg.qr(rng.standard_normal((10, 10)))
    return q @ A @ q.T


VANO = ((1, 1.09, 1.52, 0), (0, 1, 0.44, 1.36), (2.33, 0, 1, 0.47), (1.21, 0.51, 0.35, 1))
GOLDBETER = {
    "vs": 0.76,
    "vm": 0.65,
    "ks": 0.38,
    "v1": 3.2,
    "v2": 1.58,
    "v3": 5.0,
    "v4": 2.5,
    "vd": 0.95,
    "k1": 1.9,
    "k2": 1.3,
}
SQUID = {"i": 10.0, "gna": 120.0, "gk": 36.0, "gl": 0.3, "ena": 50.0, "ek": -77.0, "el": -54.4}
YEAST = {"j0": 2.5, "k1": 100.0, "k2": 6.0, "k3": 16.0, "k4": 100.0, "k5": 1.28, "k6": 12.0, "k": 1.8, "kappa": 13.0}
YEAST["ki"] = 0.52
YEAST_LOW = (0.15, 0.19, 0.04, 0.10, 0.08, 0.14, 0.05)
YEAST_HIGH = (1.60, 2.16, 0.20, 0.35, 0.30, 2.67, 0.10)
CHAIN = {"a1": 5.0, "b1": 3.0, "a2": 0.1, "b2": 2.0, "d1": 0.4, "d2": 0.01}


def _systems():
    k = kinds
    mu = {"mu": 1.0}
    yield System("van der Pol, mu 1", "oscillation", k.van_der_pol, mu, (-3, -3), (3, 3), 10)
    yield System("van der Pol, mu 5", "relaxation", k.van_der_pol, {"mu": 5.0}, (-2, -3), (2, 3), 15)
    yield System("van der Pol, long", "one record", k.van_der_pol, mu, (-2, -2), (2, 2), 200, 1, 2000, span=20)
    yield System("Brusselator", "oscillation", k.brusselator, {"a": 1.0, "b": 3.0}, (0.5, 1), (3, 4), 15)
    yield System("FitzHugh-Nagumo", "relaxation", k.fitzhugh_nagumo, FITZHUGH, (-2, -0.5), (2, 1.5), 60)
    yield System("Sel'kov", "oscillation", k.selkov, {"a": 0.08, "b": 0.6}, (0.2, 0.5), (1.5, 2.5), 25)
    yield System("Goodwin", "oscillation", k.goodwin, GOODWIN, (0.2, 0.2, 0.2), (1.5, 1.5, 1.5), 40)
    yield System("repressilator", "oscillation", k.repressilator, GENES, (0,) * 6, (30,) * 6, 15)
    yield System("Morris-Lecar", "relaxation", k.morris_lecar, MORRIS, (-0.5, 0), (0.3, 0.5), 20)
    yield System("reactor", "relaxation", k.reactor, REACTOR, (0.1, 0.5), (0.7, 4), 10)
    yield System(
        "Lorenz", "chaos", k.lorenz, {"s": 10.0, "r": 28.0, "b": 8 / 3}, (-10, -10, 15), (10, 10, 35), 2, settle=5.0
    )
    yield System("Rossler", "chaos", k.rossler, {"a": 0.2, "b": 0.2, "c": 5.7}, (-5, -5, 0), (5, 5, 1), 15, settle=20.0)
    yield System("food chain", "chaos", k.food_chain, CHAIN, (0.4, 0.1, 7), (1, 0.4, 10), 150, settle=100.0)
    yield System("competition, 4 species", "chaos", k.competition, COMPETITION, (0.1,) * 4, (0.9,) * 4, 30)
    yield System("SIR", "life", k.sir, {"b": 0.8, "g": 0.25}, (0.8, 0.01, 0), (0.99, 0.1, 0.1), 25)
    yield System("SEIR", "life", k.seir, {"b": 0.9, "s": 0.4, "g": 0.25}, (0.8, 0, 0.01, 0), (0.99, 0.05, 0.1, 0.1), 40)
    yield System("two compartments", "life", k.two_compartments, DRUG, (2, 0, 0), (10, 3, 2), 12)
    yield System("enzyme", "life", k.enzyme, ENZYME, (0.5, 0, 0), (4, 0.5, 0.5), 8)
    yield System("chemostat", "life", k.chemostat, CHEMOSTAT, (0.1, 0.2), (2, 4), 12)
    yield System("Goldbeter", "life", k.goldbeter, GOLDBETER, (0.2, 0.2, 0.2, 0.2, 0.3), (2.5, 2, 1.5, 2, 2), 48)
    yield System(
        "Hodgkin-Huxley", "relaxation", k.hodgkin_huxley, SQUID, (-70, 0, 0.2, 0.3), (-50, 0.2, 0.7, 0.6), 12, times=121
    )
    yield System("glycolysis", "life", k.glycolysis, YEAST, YEAST_LOW, YEAST_HIGH, 4)
    yield System("Lotka-Volterra", "life", k.lotka_volterra, PREY, (1, 0.5), (5, 3), 12)
    yield System("Rosenzweig-MacArthur", "life", k.satiation, SATIATION, (1, 0.5), (8, 4), 40)
    yield System("toggle switch", "life", k.toggle, {"a": 4.0, "b": 4.0}, (0, 0), (4, 4), 8)
    yield System("logistic", "life", k.logistic, {"r": 0.8, "k": 5.0}, (0.1,), (8,), 8)
    yield System("pendulum with input", "forced", k.pendulum, PENDULUM, (-1.5, -1), (1.5, 1), 15, signal=waves)
    yield System("Duffing, forced", "forced", k.forced_duffing, FORCED, (-1.5, -1), (1.5, 1), 20, signal=tone)
    yield System("two tanks", "forced", k.tanks, TANKS, (1, 1), (8, 8), 40, signal=steps)
    yield System("Duffing", "mechanics", k.duffing, {"a": 1.0, "b": 2.0, "c": 0.2}, (-1.5, -1.5), (1.5, 1.5), 12)
    yield System("double well", "mechanics", k.duffing, {"a": -1.0, "b": 1.0, "c": 0.15}, (-1.8, -1), (1.8, 1), 15)
    yield System("Kepler", "mechanics", k.kepler, {"m": 1.0}, (-1,) * 4, (1,) * 4, 10, draw=orbits)
    yield System("rigid body", "mechanics", k.rigid_body, {"a": -2.0, "b": 1.25, "c": -0.5}, (-1, -1, -1), (1, 1, 1), 12)
    yield System("linear, 10 states", "mechanics", k.linear, {"A": rotations()}, (-1,) * 10, (1,) * 10, 15)
    yield System("Kuramoto, 5", "oscillation", k.kuramoto, PHASES, (-1.5,) * 5, (1.5,) * 5, 8)
    yield System("bouncing ball", "switching", k.bouncing, {"g": 2.0, "k": 200.0, "c": 10.0}, (0.5, -1), (2, 1), 6)
    yield System("switching spring", "switching", k.switching, {"k1": 1.0, "k2": 4.0, "c": 0.3}, (-2, -2), (2, 2), 12)


FITZHUGH = {"a": 0.7, "b": 0.8, "tau": 12.5, "i": 0.5}
GOODWIN = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.4}
GENES = {"alpha": 60.0, "leak": 0.2, "beta": 2.0}
MORRIS = {"i": 0.475, "gca": 2.2, "gk": 4.0, "gl": 1.0, "phi": 0.4}
REACTOR = {"da": 0.15, "b": 11.0, "beta": 1.5, "gamma": 20.0}
COMPETITION = {"r": np.array([1, 0.72, 1.53, 1.27]), "A": np.array(VANO)}
DRUG = {"ka": 1.2, "ke": 0.3, "k12": 0.5, "k21": 0.3}
ENZYME = {"on": 2.0, "off": 0.5, "cat": 1.0, "total": 1.0}
CHEMOSTAT = {"m": 1.0, "k": 0.5, "d": 0.4, "s": 4.0, "y": 0.5}
PREY = {"a": 1.0, "b": 0.6, "c": 0.3, "d": 0.8}
SATIATION = {"r": 1.0, "k": 10.0, "a": 0.6, "h": 0.4, "e": 0.7, "m": 0.45}
PENDULUM = {"g": 2.0, "c": 0.2, "k": 0.5}
FORCED = {"a": -1.0, "b": 1.0, "c": 0.3, "k": 0.2}
TANKS = {"k": 1.0, "a": 0.6, "b": 0.5}
PHASES = {"w": np.array([-0.5, -0.2, 0.0, 0.3, 0.4]), "k": 0.8}

SYSTEMS = {system.name: system for system in _systems()}
