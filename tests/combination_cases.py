"""What tests/combinations.py draws: `Case`."""

import numpy as np
from combination_losses import Derivatives
from combination_reference import Sample, run

import pynode as pn

EXPLICIT = ("dopri5", "dopri5", "tsit5", "dop853", "dop853", "bosh3", "auto")
ROSENBROCK = ("rodas5p", "rodas5p", "rodas4", "ros34pw2")
FIXED = {"rk4": 0.01, "rk38": 0.01, "dopri5": 0.02, "midpoint": 0.002, "rodas4": 0.02, "yoshida4": 0.005, "leapfrog": 0.002}


def switched(kind, t, s, a, b):
    """What a field does at the times a and b; s: where in time it is seen from, in the library t itself."""
    if kind == "ramp":
        return np.maximum(t - a, 0.0) if s is t else max(s - a, 0.0) and t - a
    if kind == "kink":
        return np.abs(t - a) if s is t else np.sign(s - a) * (t - a)
    return {
        "step": lambda: np.where(s < a, 1.0, -0.5),
        "closed": lambda: np.where(s <= a, -0.5, 1.0),
        "pulse": lambda: np.where((s > a) & (s < b), 2.0, 0.0),
    }[kind]()


class Case(Derivatives):
    """All of it is drawn from rng; `str` tells what."""

    def __init__(self, rng):
        self.own = rng
        self.told = {}
        self.draw_times()
        self.draw_field()
        self.draw_jump()
        self.draw_theta()
        self.draw_solver()
        self.draw_events()
        self.draw_derivatives()
        self.build()

    def __str__(self):
        return ", ".join(f"{name}={x}" for name, x in self.told.items())

    def pick(self, name, options, p=None):
        value = options[int(self.own.choice(len(options), p=p))]
        self.told[name] = value
        return value

    # ---- What is solved

    def draw_times(self):
        own = self.own
        self.way = self.pick("way", [1, -1], [0.75, 0.25])
        self.begin = self.pick("begin", [0.0, 1.3, -2.0], [0.6, 0.2, 0.2])
        self.batch = self.pick("batch", ["single", "shared", "own", "ragged"], [0.5, 0.2, 0.15, 0.15])
        self.single = self.batch == "single"
        self.B = 1 if self.single else int(own.integers(1, 4))
        self.d = self.pick("d", [2, 3])
        self.m = self.pick("m", [0, 1, 2], [0.45, 0.4, 0.15])
        self.switch = self.pick(
            "switch", [None, "step", "closed", "pulse", "ramp", "kink"], [0.45, 0.15, 0.1, 0.15, 0.1, 0.05]
        )
        a, b = np.sort(own.choice(np.arange(4, 36), 2, replace=False)) / 20.0
        self.ab = tuple(sorted(float(self.at(x)) for x in (a, b)))
        self.signal_kind = (
            self.pick("kind", ["constant", "previous", "linear", "cubic"], [0.1, 0.4, 0.3, 0.2]) if self.m else None
        )
        self.signal = None
        special = list(self.ab[: 1 + (self.switch == "pulse")]) if self.switch else []
        if self.m:
            special += self.draw_signal()
        special = np.array(special) if len(special) else np.array([self.at(1.0)])
        n = int(own.integers(2, 6))
        self.times = []
        for _ in range(1 if self.batch in ("single", "shared") else self.B):
            count = n if self.batch != "ragged" else int(own.integers(2, 6))
            t = self.at(np.sort(np.append(0.0, own.uniform(0.1, 2.0, count))))
            for j in range(1, len(t)):
                if own.random() < 0.35:
                    t[j] = own.choice(special)
                if own.random() < 0.1:
                    t[j] = t[j - 1]
            t[1:] = np.sort(t[1:])[:: self.way]
            if own.random() < 0.1 and (first := special[(special - t[1]) * self.way < -0.05]).size:
                t[0] = own.choice(first)
            t[1:] = np.where((t[1:] - t[0]) * self.way < 0.02, self.at(2.0), t[1:])
            t[1:] = np.sort(t[1:])[:: self.way]
            self.times.append(t)
        self.times = [self.times[i if len(self.times) > 1 else 0] for i in range(self.B)]
        self.told["times"] = [t.round(3).tolist() for t in self.times]

    def at(self, s):
        return np.round(self.begin + self.way * np.asarray(s), 12)

    def draw_signal(self):
        own, kind = self.own, self.signal_kind
        self.shared_signal = self.single or self.pick("shared", [True, False])
        n = 1 if self.shared_signal else self.B
        inner = np.sort(own.choice(np.arange(2, 19), int(own.integers(1, 4)), replace=False)) / 10.0
        ends = [self.pick("first knot", [0.0, -0.3]), self.pick("last knot", [2.0, 2.3])]
        self.knots = np.sort(self.at(np.array([ends[0], *inner, ends[1]])))
        shape = (n, self.m) if kind == "constant" else (n, len(self.knots), self.m)
        self.values = own.normal(size=shape)
        self.told["knots"] = self.knots.tolist()
        self.knot_steps = self.pick("knot steps", ["auto", "step"]) if kind != "constant" else "auto"
        return [] if kind == "constant" else self.knots[1:-1].tolist()

    def draw_field(self):
        """What the field is, as a formula of t, s (where a switch is seen from), y, p and u."""
        self.kind = kind = self.pick("field", ["traced", "linear", "mlp", "callback"], [0.55, 0.15, 0.15, 0.15])
        d, m = self.d, self.m
        switch = self.switch
        a, b = self.ab
        if kind in ("mlp", "callback"):
            self.switch = switch = self.told["switch"] = None
        if kind == "mlp":
            self.network = pn.mlp(d, (4,), time=True, inputs=m)
            self.n_field = self.network.n_params
        else:
            self.n_field = d * d + d if kind == "linear" else 5

        def formula(t, s, y, p, u):
            if kind == "mlp":
                x = np.concatenate([y, [t], [] if u is None else u])
                w = np.split(p, np.cumsum([4 * len(x), 4, 4 * d]))
                return w[2].reshape(d, 4) @ np.tanh(w[0].reshape(4, -1) @ x + w[1]) + w[3]
            extra = 0.0 if switch is None else switched(switch, t, s, a, b)
            if kind == "linear":
                drive = 0.0 if u is None else u[0]
                out = p[: d * d].reshape(d, d) @ y
                return [out[i] + p[d * d + i] * (extra + drive + 0.5) for i in range(d)]
            drive = 0.0 if u is None else u[0] * (1 + p[2] * y[0]) + (u[1] if m > 1 else 0.0)
            out = [
                p[0] * y[1] - 0.4 * y[0] + 0.3 * np.sin(p[1] * t) + drive + p[4] * extra,
                -p[0] * y[0] - 0.3 * y[1] + np.tanh(p[2] * y[0]) + 0.2 * extra * y[0],
            ]
            return out if d == 2 else [*out, p[3] * y[0] * y[1] - 0.5 * y[2] + 0.1 * t]

        self.formula = formula

    def draw_jump(self):
        self.jump = self.pick("jump", [None, "data", "always"], [0.55, 0.3, 0.15])
        self.n_jump = 1 if self.jump else 0
        self.loss = self.pick("loss", ["vjp", "sse", "mse", "huber", "program"], [0.35, 0.2, 0.15, 0.1, 0.2])
        self.n_loss = 1 if self.loss == "program" else 0
        self.data = None
        if self.jump == "data":
            self.data = [self.own.normal(size=(len(t), 1)) for t in self.times]
            for x in self.data:
                x[self.own.random(len(x)) < 0.4] = np.nan
            if self.batch in ("single", "shared"):
                self.told["jumps"] = (~np.isnan(self.data[0][:, 0])).tolist()
        self.algebraic = False

    def jumped(self, t, y, q, x):
        if self.jump == "always":
            return [y[i] * (1 - 0.2 * q[0]) + 0.1 * np.sin(t + i) for i in range(self.d)]
        return [y[i] + q[0] * x[0] * np.cos(y[(i + 1) % self.d]) + 0.1 * t for i in range(self.d)]

    def draw_theta(self):
        own, d = self.own, self.d
        size = {"linear": d * d + d, "mlp": self.n_field}.get(self.kind, 5)
        p = own.normal(size=size) * (0.7 if self.kind != "traced" else 0.5) + (
            0.5 if self.kind in ("traced", "callback") else 0.0
        )
        self.theta = np.concatenate([p, 0.6 + 0.2 * own.normal(size=self.n_jump), 0.3 * own.normal(size=self.n_loss)])
        self.y0 = own.normal(size=(self.B, d))

    # ---- How

    def draw_solver(self):
        self.keys, self.mass = {}, None
        self.bound, self.gradient_bound = 2e-6, 1e-4
        way = self.pick("steps", ["explicit", "rosenbrock", "mass", "fixed", "grid"], [0.4, 0.15, 0.2, 0.15, 0.1])
        tight = {"rtol": 1e-9, "atol": 1e-10}
        self.way_of_steps = way
        if way == "fixed":
            method = self.pick("method", list(FIXED))
            if self.d == 3 and method in ("yoshida4", "leapfrog"):
                method = self.told["method"] = "rk4"
            if method == "yoshida4" and self.switch:  # whose stages lie beyond the ends of its steps
                method = self.told["method"] = "rk4"
            self.keys = {"method": method, "step": FIXED[method]}
            self.bound = 5e-5
        elif way == "grid":
            marks = [*self.ab, *(self.knots if self.m and self.signal_kind != "constant" else [])]
            grids = []
            for t in self.times:
                low, high = np.sort(t[[0, -1]])
                inside = [x for x in [*marks, *t] if low <= x <= high]
                grids.append(np.unique([*np.linspace(low, high, 120), *inside])[:: self.way])
            self.keys = {
                "method": self.pick("method", ["rk4", "dopri5", "rodas4"]),
                "grid": grids if len(grids) > 1 else grids[0],
            }
            self.bound = 5e-5
        else:
            self.keys = {"method": self.pick("method", EXPLICIT if way == "explicit" else ROSENBROCK)} | tight
            if self.keys["method"] == "bosh3":
                self.keys |= {"rtol": 1e-8, "atol": 1e-9}
                self.bound = 2e-5
        if way == "mass":
            self.draw_mass()
        if self.pick("land", [False, True], [0.7, 0.3]):
            self.keys["save"] = "land"
        self.dense = self.pick("dense", [False, True], [0.6, 0.4])
        self.float32 = self.pick("float32", [False, True], [0.92, 0.08])
        if self.float32:
            self.keys |= {"rtol": 1e-5, "atol": 1e-6} if "rtol" in self.keys else {}
            self.bound, self.gradient_bound = 3e-3, 3e-2
        if "rtol" in self.keys and self.pick("max_step", [None, 0.1], [0.8, 0.2]):
            self.keys["max_step"] = 0.1
        if self.pick("threads", [0, 2], [0.8, 0.2]):
            self.keys["threads"] = 2

    def draw_mass(self):
        kind = self.pick("mass", ["diagonal", "full", "singular"], [0.35, 0.45, 0.2])
        d = self.d
        if kind == "singular" and (self.jump or self.kind in ("mlp", "linear", "callback")):
            kind = self.told["mass"] = "full"
        if kind == "diagonal":
            self.mass = self.own.uniform(0.5, 2.0, d)
        elif kind == "full":
            self.mass = np.eye(d) + 0.25 * self.own.normal(size=(d, d))
            if np.linalg.cond(self.mass) > 10:
                self.mass = np.eye(d) + 0.2 * np.eye(d, k=1)
        else:
            self.algebraic = True
            self.mass = np.append(np.ones(d - 1), 0.0)
            self.y0[:, -1] = self.last_of(self.y0[:, :-1].T)
        self.keys["mass"] = self.mass

    def last_of(self, y):
        return 0.5 * np.sin(y[0])

    def right(self, t, s, y, theta, u):
        """dy/dt for the reference."""
        value = np.asarray(self.formula(t, s, y, theta[: self.n_field], u), float)
        if self.mass is None or self.algebraic:
            return value
        return value / self.mass if self.mass.ndim == 1 else np.linalg.solve(self.mass, value)

    # ---- Events

    def draw_events(self):
        own = self.own
        self.events, self.event_parts = [], []
        self.n_events = 0
        count = self.pick("events", [0, 1, 2], [0.55, 0.3, 0.15])
        if self.way_of_steps == "grid" and own.random() < 0.9:
            count = self.told["events"] = 0
        if not count:
            return
        for _ in range(count):
            i = int(own.integers(self.B))
            t = self.times[i]
            when = float(t[0] + (t[-1] - t[0]) * own.uniform(0.15, 0.9))
            kind = self.pick(f"event{len(self.events)}", ["level", "own level", "time", "own time"], [0.35, 0.3, 0.2, 0.15])
            if kind == "time":
                special = [*self.ab[:1], *t[1:], *(self.knots[1:-1] if self.m and self.signal_kind != "constant" else [])]
                special = [x for x in special if (x - t[0]) * self.way > 0.05 and (t[-1] - x) * self.way >= 0]
                when = float(own.choice(special)) if special and own.random() < 0.7 else when
                self.told[f"event{len(self.events)}"] = f"time {when}"
            level = self.level_at(i, when)
            self.add_event(kind, when, level, own.choice([None, "reset", "terminal", "hold"], p=[0.25, 0.45, 0.15, 0.15]))

    def level_at(self, i, when):
        sample = self.samples()[i]
        data = None if sample.jump is None else np.full((2, 1), np.nan)
        return float(run(sample.but(t=np.array([sample.t[0], when]), data=data, jump=None, events=())).y[-1][0])

    def add_event(self, kind, when, level, does):
        n, at = len(self.events), len(self.theta)
        if does == "reset" and self.algebraic:
            does = None
        self.told[f"event{n} does"] = str(does)
        direction = 0 if kind in ("time", "own time") else int(self.own.choice([0, 1, -1]))
        p1 = self.theta[1]
        if kind == "level" and self.kind in ("traced",):
            g = lambda t, y, th: y[0] - (level - 0.3 * p1) - 0.3 * th.p[1]  # noqa: E731
            right = lambda t, y, th: y[0] - (level - 0.3 * p1) - 0.3 * th[1]  # noqa: E731
        elif kind == "level":
            g = lambda t, y: y[0] + 0.2 * t - level - 0.2 * when  # noqa: E731
            right = lambda t, y, th: g(t, y)  # noqa: E731
        elif kind == "time":
            g = lambda t, y: t - when  # noqa: E731
            right = lambda t, y, th: t - when  # noqa: E731
        else:
            first = level if kind == "own level" else when
            of = (lambda t, y: y[0]) if kind == "own level" else (lambda t, y: t)
            g = pn.field(state=self.d, out=1, theta={"c": first})(lambda t, y, th: of(t, y) - th.c + 0 * y[0])
            right = lambda t, y, th: of(t, y) - th[at]  # noqa: E731
            self.theta = np.append(self.theta, first)
            self.n_events += 1
        reset = None
        if does == "reset":
            reset = self.reset
        ends = does in ("terminal", "hold")
        self.events.append((right, None if reset is None else lambda t, y, th: reset(t, y), ends, direction, does == "hold"))
        self.event_parts.append(pn.event(g, reset=reset, terminal=ends, direction=direction, hold=does == "hold"))

    def reset(self, t, y):
        after = [y[0] - 0.5 - 0.1 * y[1], 0.8 * y[1] + 0.1 * np.sin(t)]
        return after if self.d == 2 else [*after, y[2] * y[0]]

    # ---- The library's side

    def build(self):
        p, d = self.n_field, self.d
        formula = self.formula
        if self.kind == "mlp":
            field = self.network
        else:
            last = self.last_of if self.algebraic else None

            def whole(t, y, th, u=None):
                out = formula(t, t, y, th.p, u)
                return out if last is None else [*out[: d - 1], last(y) - y[d - 1]]

            three = (lambda t, y, th: whole(t, y, th)) if not self.m else whole
            field = pn.field(state=d, theta={"p": self.theta[:p]}, inputs=self.m)(three)
            if self.kind == "callback":
                field = self.called(field)
        if self.jump or self.loss == "program":
            jump = misfit = None
            if self.jump:
                three = (lambda t, y, th: self.jumped(t, y, th.q, None)) if self.jump == "always" else (
                    lambda t, y, th, x: self.jumped(t, y, th.q, x))  # fmt: skip
                jump = pn.field(state=d, theta={"q": (1,)}, inputs=int(self.jump == "data"))(three)
            if self.loss == "program":
                misfit = pn.field(state=d, out=1, theta={"r": (1,)}, inputs=1)(
                    lambda t, y, th, x: [self.misfit(t, y, th.r, x)]
                )
            field = pn.System(field, jump=jump, loss=misfit)
        self.system = field if isinstance(field, pn.System) else None
        y0 = self.y0.astype(np.float32) if self.float32 else self.y0
        theta = self.theta
        self.rows = False
        if not self.single and not self.events and self.own.random() < 0.25:
            self.rows = self.told["rows of theta"] = True
            self.theta = theta = theta + 0.05 * self.own.normal(size=(self.B, theta.size))
        t = self.times[0] if self.batch in ("single", "shared") else self.times
        t = np.stack(t) if self.batch == "own" else t
        self.arguments = (field, y0[0] if self.single else y0, t, theta)
        if self.m:
            constant = self.signal_kind == "constant"
            values = self.values[0] if self.shared_signal else self.values
            self.keys["inputs"] = pn.Signal(None if constant else self.knots, values, self.signal_kind, self.knot_steps)
        if self.data is not None:
            self.keys["data"] = self.of_batch(self.data)
        if self.events:
            self.keys["events"] = self.event_parts

    def called(self, traced):
        """The same field as Python functions."""
        back = pn.vjp(traced)
        formula, m = self.formula, self.m
        slope = pn.callback_field
        if m:
            return slope(
                lambda t, y, th, u: formula(t, t, y, th, u), self.d, self.n_field, inputs=m,
                vjp=lambda t, y, th, u, dy: (lambda g: (g.y, g.theta))(back(t, y, th, dy, u=u)),
            )  # fmt: skip
        return slope(
            lambda t, y, th: formula(t, t, y, th, None), self.d, self.n_field,
            vjp=lambda t, y, th, dy: (lambda g: (g.y, g.theta))(back(t, y, th, dy)),
            time_derivative=lambda t, y, th: [0.3 * th[1] * np.cos(th[1] * t), 0.0, 0.1][: self.d],
        )  # fmt: skip

    def of_batch(self, rows):
        """An array for each sample, as the library takes them all."""
        if self.single:
            return rows[0]
        return list(rows) if self.batch == "ragged" else np.stack(rows)

    # ---- Moved numbers

    def samples(self, theta=None, y0=None, t=None, inputs=None, data=None, **rest):
        """The reference's samples, some of the numbers moved by flat arrays."""
        times = self.times if t is None else [x + m for x, m in zip(self.times, self.of_rows(t), strict=True)]
        starts = self.y0 if y0 is None else self.y0 + y0.reshape(self.y0.shape)
        if y0 is not None and self.algebraic:
            starts = np.column_stack([starts[:, :-1], self.last_of(starts[:, :-1].T)])
        whole = self.theta if theta is None else self.theta + theta.reshape(self.theta.shape)
        values = None if not self.m else self.values if inputs is None else self.values + inputs.reshape(self.values.shape)
        rows = self.data
        if data is not None:
            cut = np.cumsum([x.size for x in rows])[:-1]
            rows = [x + m.reshape(x.shape) for x, m in zip(rows, np.split(data, cut), strict=True)]
        out = []
        for i in range(self.B):
            th = whole[i] if whole.ndim == 2 else whole
            q = th[self.n_field : self.n_field + self.n_jump]
            signal = None if values is None else (self.signal_kind, self.knots, values[0 if self.shared_signal else i])
            jump = (lambda t, y, _, x, q=q: self.jumped(t, y, q, x)) if self.jump else None
            out.append(
                Sample(
                    self.right, th, starts[i], times[i], self.ab if self.switch else (), signal, jump,
                    None if rows is None else rows[i], tuple(self.events), self.last_of if self.algebraic else None,
                )
            )  # fmt: skip
        return out

    def of_rows(self, t):
        """A flat array of times as one for each sample."""
        if self.batch in ("single", "shared"):
            return [t] * self.B
        return np.split(t, np.cumsum([len(x) for x in self.times])[:-1])

    def flat(self, name, value):
        if isinstance(value, list):
            return np.concatenate([np.ravel(v) for v in value])
        return np.ravel(np.asarray(value, float))

    def direction(self, name):
        """One that the numbers of a group move along."""
        size = {"theta": self.theta.size, "y0": self.y0.size}
        if name in size:
            v = self.own.normal(size=size[name])
            if name == "theta" and self.rows is False and self.n_events:
                v[-self.n_events :] *= 0.3
            if name == "y0" and self.algebraic:
                v = v.reshape(self.B, -1)
                move = 1e-6 * v[:, :-1]
                y = self.y0[:, :-1]
                v[:, -1] = (self.last_of((y + move).T) - self.last_of((y - move).T)) / 2e-6
                v = v.ravel()
            return v
        if name == "inputs":
            return self.own.normal(size=self.values.size)
        rows = self.data if name == "data" else self.target
        return np.concatenate([np.where(np.isnan(x), 0.0, self.own.normal(size=x.shape)).ravel() for x in rows])

    def of_sample(self, name, direction, i):
        if name == "theta":
            return direction.reshape(self.theta.shape)[i] if self.rows else direction
        return direction.reshape(self.y0.shape)[i]

    def flat_times(self):
        return np.concatenate(self.times[:1] if self.batch in ("single", "shared") else self.times)

    def tied(self, direction):
        """Equal times of a sample move together."""
        at, out = 0, direction.copy()
        for t in self.times[:1] if self.batch in ("single", "shared") else self.times:
            own = out[at : at + len(t)]
            for j in range(1, len(t)):
                if t[j] == t[j - 1]:
                    own[j] = own[j - 1]
            at += len(t)
        return out

    def before(self, entry):
        """The direction in which one saved time, with those equal to it, moves to later times; the first one: the same."""
        at = 0
        for t in self.times[:1] if self.batch in ("single", "shared") else self.times:
            if entry < at + len(t):
                out = np.zeros(len(self.flat_times()))
                out[at : at + len(t)] = self.way * (t == t[entry - at])
                return out
            at += len(t)
        raise IndexError

    def movable_times(self, paths):
        """(entries that may move either way, entries on a knot or a switch); none that lie on an event."""
        free, held = [], []
        at = 0
        shared = self.batch in ("single", "shared")
        special = [*(self.ab if self.switch else ()), *(self.knots if self.m and self.signal_kind != "constant" else ())]
        for i, t in enumerate(self.times[:1] if shared else self.times):
            events = [e[1] for path in (paths if shared else paths[i : i + 1]) for e in path.events]
            for j, x in enumerate(t):
                on = np.abs(np.array(special) - x).min(initial=1.0)
                near = np.abs(np.array(events) - x).min(initial=1.0)
                first = x == t[0]
                if self.algebraic and self.switch and on < 1e-12:
                    continue  # not known: the slope of algebraic variables before a switch
                if near < 2e-3 or (1e-12 < on < 2e-3) or (on < 1e-12 and first):
                    continue
                if on < 1e-12:
                    if j == 0 or x != t[j - 1]:
                        held.append(at + j)
                else:
                    free.append(at + j)
            at += len(t)
        return np.array(free, int), held

    def at_events(self, i, paths):
        events = np.array([e[1] for e in paths[i].events])
        return np.array([np.abs(events - x).min(initial=1.0) < 1e-9 for x in self.times[i]])
