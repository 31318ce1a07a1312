"""How the cases of tests/combinations.py are differentiated."""

import numpy as np

import pynode as pn


class Derivatives:
    """That part of a case."""

    def draw_derivatives(self):
        own = self.own
        self.adjoint = self.pick(
            "adjoint", ["discrete", "memory", "interpolating", "backsolve", "reversible"], [0.6, 0.12, 0.1, 0.08, 0.1]
        )
        if self.events and own.random() < 0.9:
            self.adjoint = self.told["adjoint"] = "discrete"
        if self.jump and self.adjoint not in ("discrete", "memory") and own.random() < 0.8:
            self.adjoint = self.told["adjoint"] = "discrete"
        if (
            self.way_of_steps in ("rosenbrock", "mass", "grid")
            and self.adjoint in ("reversible", "backsolve")
            and own.random() < 0.8
        ):
            self.adjoint = self.told["adjoint"] = "discrete"
        if self.adjoint == "reversible":
            self.bound, self.gradient_bound = max(self.bound, 1e-5), max(self.gradient_bound, 1e-3)
        if self.adjoint in ("interpolating", "backsolve"):
            self.gradient_bound = max(self.gradient_bound, 2e-3)
        self.wrt = ["theta", "y0"]
        if own.random() < 0.7 and not (self.kind == "callback" and (self.m or self.events)):
            self.wrt.append("t")
        if self.m and own.random() < 0.7 and self.kind != "callback":
            self.wrt.append("inputs")
        if self.data is not None and any((~np.isnan(x)).any() for x in self.data):
            self.wrt.append("data")
        self.told["wrt"] = self.wrt
        self.weight = None
        if self.loss == "vjp":
            self.seed = [own.normal(size=(len(t), self.d)) for t in self.times]
            if self.batch == "shared":
                self.seed = [own.normal(size=(len(self.times[0]), self.d)) for _ in range(self.B)]
            return
        width = 1 if self.loss == "program" else self.d
        self.target = [own.normal(size=(len(t), width)) for t in self.times]
        for x in self.target:
            x[own.random(x.shape) < 0.2] = np.nan
        if self.loss == "program":
            self.wrt.append("target")
        elif self.pick("weighted", [False, True]):
            self.weight = [own.uniform(0, 2, x.shape) for x in self.target]
            for w in self.weight:
                w[own.random(w.shape) < 0.1] = 0.0

    def misfit(self, t, y, r, x):
        return 0.5 * (y[0] - x[0]) ** 2 * (1 + 0.1 * np.tanh(r[0] + y[1])) + 0.1 * t * y[1]

    def loss_of(self, i, path, moved):
        """(sum, weight) of a sample."""
        if self.loss == "vjp":
            total = np.nansum(path.y * self.seed[i])
            for k, (_, t, before, after) in enumerate(path.events):
                total += 0.3 * t + np.sum(before) * 0.2 - (k + 1) * 0.1 * np.sum(after)
            return total, 1.0
        if self.loss == "program":
            x = self.target[i]
            if "target" in moved:
                cut = np.cumsum([v.size for v in self.target])[:-1]
                x = x + np.split(moved["target"], cut)[i].reshape(x.shape)
            th = self.theta + moved["theta"].reshape(self.theta.shape) if "theta" in moved else self.theta
            r = (th[i] if th.ndim == 2 else th)[self.n_field + self.n_jump :]
            t = self.samples(**{k: v for k, v in moved.items() if k == "t"})[i].t
            rows = [self.misfit(t[j], path.y[j], r, x[j]) for j in range(len(x))]
            return np.nansum(rows), 1.0
        r = path.y - self.target[i]
        w = np.ones_like(r) if self.weight is None else self.weight[i]
        w = np.where(np.isnan(r), 0.0, w)
        r = np.nan_to_num(r)
        rho = np.where(np.abs(r) <= 0.7, 0.5 * r * r, 0.7 * (np.abs(r) - 0.35)) if self.loss == "huber" else r * r
        return (w * rho).sum(), w.sum()

    def reduced(self, total, weight):
        return total / weight if self.loss in ("mse", "huber") and weight > 0 else total

    def options(self):
        return {k: v for k, v in self.keys.items() if k not in ("events", "data", "threads")}

    def differentiate(self, paths):
        adjoint = {"adjoint": self.adjoint} if self.adjoint != "memory" else {"adjoint": "discrete", "memory": "60kB"}
        wrt = tuple(self.wrt)
        if self.loss == "vjp":
            keys = self.keys | ({"coupling": 0.99} if self.adjoint == "reversible" else {})
            sol = pn.solve(*self.arguments, **keys, errors="raise")
            more = {}
            if self.events:
                order = [k for path in paths for k in range(len(path.events))]
                more = {
                    "event_t": np.full(len(order), 0.3),
                    "event_before": np.full((len(order), self.d), 0.2),
                    "event_after": -0.1 * (1 + np.array(order))[:, None] * np.ones(self.d),
                }
            seed = [np.where(np.isnan(p.y), 0.0, s) for p, s in zip(paths, self.seed, strict=True)]
            return sol.vjp(self.of_batch(seed), wrt=wrt, **adjoint, **more)
        keys = self.keys | adjoint | {"loss": self.loss, "wrt": wrt, "loss_scale": 0.7}
        if self.weight is not None:
            keys["weight"] = self.of_batch(self.weight)
        return pn.loss_and_grad(*self.arguments, self.of_batch(self.target), **keys, errors="raise")

    def sensitivities(self):
        return pn.sensitivities(*self.arguments, **self.keys, errors="raise")
