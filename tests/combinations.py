"""Random combinations of what a solve can do, against SciPy's DOP853: python tests/combinations.py --count 1000 --seed 0

A case draws a field (traced, network, linear, callback), switches and kinks in time, inputs, jumps at data times, events
with resets, a mass matrix, a method, batches and their times, how it is solved, and how it is differentiated. States and
events are compared with those of one sample after the other by SciPy, which stops at each discontinuity
(combination_reference.py); gradients with differences of those, along one direction for each group. A saved time that lies
on a knot or a switch moves to the side before. A case that is refused by a ValueError is counted with its message. Cases are
numbered: --case K is that one alone. Exits with 1 if something is wrong.
"""

import argparse
import collections
import sys
import time
import warnings

import numpy as np
from combination_cases import Case
from combination_reference import LeftOutError, run

import pynode as pn

STENCIL = {1: 2 / 3, 2: -1 / 12}
"""f' = sum c_k (f(k h) - f(-k h)) / h."""

ONE_SIDED = {0: 11 / 6, 1: -3.0, 2: 1.5, 3: -1 / 3}
"""f' = sum c_k f(-k h) / h."""

STEP = 3e-4
STEP_OF_TIMES = 2e-4


class Wrong(AssertionError):
    """A deviation."""


def order_of(path, t):
    """Which events happen, and after how many of the saved times."""
    return [(e[0], int((np.abs(t - t[0]) < abs(e[1] - t[0]) - 1e-3).sum())) for e in path.events]


class Comparison:
    """One case: solved, differentiated and compared."""

    def __init__(self, case):
        self.case = case
        self.paths = [run(s) for s in case.samples()]
        if not all(np.isfinite(s.y[~np.isnan(s.y)]).all() for s in self.paths):
            raise LeftOutError("unbounded")

    # ---- Forward

    def close(self, what, found, right, bound):
        found, right = np.asarray(found, float), np.asarray(right, float)
        if found.shape != right.shape:
            raise Wrong(f"{what}: shape {found.shape}, not {right.shape}")
        if (np.isnan(found) != np.isnan(right)).any():
            raise Wrong(f"{what}: NaN\n{found}\n{right}")
        error = np.nanmax(np.abs(found - right), initial=0.0) / max(1.0, np.nanmax(np.abs(right), initial=0.0))
        if error > bound:
            raise Wrong(f"{what}: off by {error:.1e}\n{found}\n{right}")

    def forward(self):
        case, bound = self.case, self.case.bound
        sol = pn.solve(*case.arguments, **case.keys, dense=case.dense, errors="raise")
        each = [sol.y] if case.single else list(sol.y)
        for i, (y, path) in enumerate(zip(each, self.paths, strict=True)):
            self.close(f"y[{i}]", y, path.y, bound)
            if case.system is not None and case.system.jump is not None:
                before = sol.y_before if case.single else sol.y_before[i]
                self.close(f"y_before[{i}]", before, path.before, bound)
            if case.events:
                own = sol.events.of(sample=i)
                if own.which.tolist() != [e[0] for e in path.events]:
                    raise Wrong(f"events {own.which.tolist()} at {own.t}, not {[e[:2] for e in path.events]}")
                for k, name in ((1, "t"), (2, "before"), (3, "after")):
                    if path.events:
                        self.close(f"event {name}[{i}]", getattr(own, name), [e[k] for e in path.events], bound)
                ended = sol.terminated if case.single else sol.terminated[i]
                if bool(ended) != path.terminated:
                    raise Wrong(f"terminated[{i}] is {ended}")
        if case.dense:
            self.between(sol)
        return sol

    def between(self, sol):
        """Dense output at times where nothing happens."""
        for i, sample in enumerate(self.case.samples()):
            special = [*sample.t, *sample.breaks, *(e[1] for e in self.paths[i].events)]
            at = self.case.own.uniform(*np.sort(np.array(sample.t)[[0, -1]]), 3)
            at = np.array([t for t in at if np.abs(np.array(special) - t).min(initial=1.0) > 1e-3])
            if not len(at):
                continue
            more = np.sort(np.append(sample.t, at))[:: 1 if sample.t[-1] >= sample.t[0] else -1]
            data = sample.data
            if sample.jump is not None:
                if data is None:
                    continue
                data = np.full((len(more), data.shape[1]), np.nan)
                data[np.searchsorted(more * np.sign(more[-1] - more[0]), sample.t * np.sign(more[-1] - more[0]))] = (
                    sample.data
                )
                if len(np.unique(sample.t)) < len(sample.t):
                    continue
            right = run(sample.but(t=more, data=data))
            if right.terminated:
                continue
            found = sol(at) if self.case.single else sol(at, sample=i)
            self.close(f"dense[{i}]", found, right.y[[np.flatnonzero(more == t)[0] for t in at]], 20 * self.case.bound)

    # ---- Gradients

    def nearby(self, **moved):
        """The paths of the moved numbers; LeftOutError if other things happen there."""
        paths = [run(sample) for sample in self.case.samples(**moved)]
        for path, was, t in zip(paths, self.paths, self.case.times, strict=True):
            if order_of(path, t) != order_of(was, t):
                raise LeftOutError("other events nearby")
        return paths

    def loss(self, **moved):
        """That of the moved numbers."""
        each = [self.case.loss_of(i, path, moved) for i, path in enumerate(self.nearby(**moved))]
        return self.case.reduced(*np.sum(each, axis=0))

    def along(self, name, direction, one_sided=False, h=STEP):
        if one_sided:
            return sum(c * self.loss(**{name: -k * h * direction}) for k, c in ONE_SIDED.items()) / h
        up_down = (
            (c, self.loss(**{name: k * h * direction}), self.loss(**{name: -k * h * direction})) for k, c in STENCIL.items()
        )
        return sum(c * (up - down) for c, up, down in up_down) / h

    def gradients(self):
        case = self.case
        value = case.differentiate(self.paths)
        for name in case.wrt:
            if name == "t":
                self.by_times(case.flat("t", value.t))
                continue
            gradient = case.flat(name, getattr(value, name))
            direction = case.direction(name)
            found = float((gradient * direction).sum())
            self.same(name, found, self.along(name, direction), np.abs(gradient * direction).sum())
        self.loss_value(value)

    def loss_value(self, value):
        if hasattr(value, "loss"):
            self.close("loss", value.loss, self.loss(), 20 * self.case.bound)

    def same(self, what, found, right, size):
        scale = max(size, abs(right), 1e-2 * max(1.0, abs(self.loss())))
        if not abs(found - right) <= self.case.gradient_bound * scale:
            raise Wrong(f"gradient {what}: {found:.9g}, differences {right:.9g} (scale {scale:.2g})")

    def by_times(self, gradient):
        free, held = self.case.movable_times(self.paths)
        if len(free):
            direction = np.zeros(gradient.size)
            direction[free] = self.case.own.normal(size=len(free))
            direction = self.case.tied(direction)
            found = float((gradient * direction).sum())
            self.same("t", found, self.along("t", direction, h=STEP_OF_TIMES), np.abs(gradient * direction).sum())
        for entry in held:
            direction = self.case.before(entry)
            found = float((gradient * direction).sum())
            right = self.along("t", direction, one_sided=True, h=STEP_OF_TIMES)
            self.same(f"t[{entry}], held", found, right, np.abs(gradient).sum())

    # ---- Sensitivities

    def sensitivities(self):
        case = self.case
        s = case.sensitivities()
        n, rows = 0, {}
        for name in ("theta", "y0"):
            direction = case.direction(name)
            moved = {k: self.nearby(**{name: k * STEP * direction}) for k in (-2, -1, 1, 2)}
            rows[name] = [
                sum(c * (moved[k][i].y - moved[-k][i].y) for k, c in STENCIL.items()) / STEP for i in range(case.B)
            ]  # fmt: skip
            by = getattr(s, name)
            for i, right in enumerate(rows[name]):
                own = by if case.single else by[i]
                along = case.of_sample(name, direction, i)
                n += 1
                bad = np.isnan(own).any(axis=(1, 2)) | np.isnan(right).any(axis=1)
                found = np.where(bad[:, None], 0.0, np.nan_to_num(own) @ along)
                scale = 1 + (np.abs(np.nan_to_num(own)) @ np.abs(along)).max()
                error = np.abs(found - np.where(bad[:, None], 0.0, right))
                error[case.at_events(i, self.paths)] = 0.0
                if error.max() > max(case.gradient_bound, 1e-5) * scale:
                    raise Wrong(f"sensitivities by {name}[{i}]:\n{found}\n{right}")


def one(seed, number):
    """(outcome, text) of one case."""
    try:
        case = Case(np.random.default_rng([seed, number]))
    except LeftOutError as reason:
        return "left out", str(reason), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            comparison = Comparison(case)
        except LeftOutError as reason:
            return "left out", str(reason), case
        outcome = ("right", "", case)
        for part in ("forward", "gradients", "sensitivities"):
            try:
                getattr(comparison, part)()
            except LeftOutError as reason:
                outcome = "left out", str(reason), case
            except Wrong as error:
                return "WRONG", f"{part}: {error}", case
            except ValueError as error:
                outcome = "refused", f"{part}: {error}", case
            except Exception as error:  # an error that nobody meant
                return "WRONG", f"{part}: {type(error).__name__}: {error}", case
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--case", type=int, help="this one alone, with what was drawn")
    parser.add_argument("--minutes", type=float, default=np.inf, help="no new case after so long")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    numbers = range(given.first, given.first + given.count) if given.case is None else [given.case]
    outcomes, refused = collections.Counter(), collections.Counter()
    for number in numbers:
        if time.monotonic() > end:
            break
        outcome, text, case = one(given.seed, number)
        outcomes[outcome] += 1
        if outcome == "refused":
            refused[text[:110]] += 1
        if outcome == "WRONG" or given.case is not None:
            print(f"case {number} (seed {given.seed}): {outcome}: {text}\n    {case}", flush=True)
    for text, count in refused.most_common():
        print(f"refused {count:4}  {text}")
    print(", ".join(f"{outcome}: {count}" for outcome, count in outcomes.items()))
    return int(outcomes["WRONG"] > 0)


if __name__ == "__main__":
    sys.exit(main())
