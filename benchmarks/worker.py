"""Runs in the environment of a peer, for harness.Worker: obeys one line of JSON with one line of JSON.

python worker.py PEER START      (START: time.time() when the process was asked for)
"""

import importlib
import json
import math
import os
import sys
import time

START = float(sys.argv[2])


# speed ------------------------------------------------------------------------------------------------------


class Speed:
    """`variants` of the peer for one case, made one by one: compiling takes time."""

    def __init__(self, peer, name):
        from cases import CASES

        self.making, self.made, self.warm = peer.variants(CASES[name]), {}, set()

    def make(self):
        """The next variant and its first gradient, or None after the last."""
        found = next(self.making, None)
        if found is None:
            return None
        name, forward, gradient = found
        try:
            loss, norm = numbers(gradient())
        except Exception as error:  # one way of a peer may fail where another works
            return {"variant": name, "error": f"{type(error).__name__}: {error}"[:300]}
        self.warm.add((name, "gradient"))
        self.made[name] = {"forward": forward, "gradient": gradient}
        return {"variant": name, "loss": loss, "norm": norm}

    def measure(self, variant, what, seconds):
        """The fastest of some calls; None if there is nothing to call."""
        call = self.made[variant][what]
        if call is None:
            return None
        if (variant, what) not in self.warm:
            call()  # compiles
            self.warm.add((variant, what))
        return fastest(call, seconds)[0]


def fastest(call, seconds, clock=time.perf_counter):
    """(time of the fastest of some calls, what the last gave)"""
    best, until = math.inf, time.perf_counter() + seconds
    while best == math.inf or time.perf_counter() < until:
        begin = clock()
        result = call()
        best = min(best, clock() - begin)
    return best, result


def mixed(peer):
    """Van der Pol oscillators of mixed stiffness, warm: ([sum of the last x, of the last v], the call), or (None, None)."""
    import cases

    if not hasattr(peer, "mixed"):
        return None, None
    last, solve = peer.mixed(*cases.mixed())
    return [float(x) for x in last.sum(axis=0)], solve


class Stiff:
    """What the peer has for one of stiff_problems.py."""

    def __init__(self, peer, name):
        from stiff_problems import PROBLEMS

        self.problem = PROBLEMS[name]
        self.solvers = peer.stiff(self.problem)
        self.calls = {}

    def measure(self, solver, what, seconds):
        """{"seconds", "error", ...}, {"failed"}, or None. what: a tolerance, "forward", "gradient", "slope TOLERANCE"."""
        key = solver, what
        try:
            if key not in self.calls:
                self.calls[key] = self._call(self.solvers[solver], what)
                if self.calls[key] is None:
                    return None
                self.calls[key]()  # warm
            return self._measured(self.calls[key], what, seconds)
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}".strip().splitlines()[-1][:200]}

    def _call(self, ways, what):
        if not isinstance(what, str):
            return ways.one(what)
        if what.startswith("slope"):
            return ways.slope and ways.slope(float(what.split()[1]))
        return getattr(ways, what)

    def _measured(self, call, what, seconds):
        import numpy as np

        best, result = fastest(call, seconds, time.process_time)
        if not isinstance(what, str):
            end, steps = result
            return {"seconds": best, "error": self.problem.error(end), "steps": steps}
        if what.startswith("slope"):
            return {"seconds": best, "error": self.problem.gradient_error(result)}
        error = self.problem.error(result[0], "first") if what == "forward" else self.problem.gradient_error(result[0])
        share = float(np.mean(np.isfinite(result).all(axis=1)))
        return {"seconds": best * len(self.problem.samples) / len(result), "error": error, "share": share}


def numbers(result):
    """(loss, norm of the gradient) of what a gradient function returned: an array or nested sequences of them."""
    import numpy as np

    def leaves(x):
        return [leaf for part in x for leaf in leaves(part)] if isinstance(x, (list, tuple)) else [x]

    loss, gradient = result
    squares = [np.sum(np.asarray(leaf, dtype=float) ** 2) for leaf in leaves(gradient)]
    return float(loss), float(np.sqrt(np.sum(squares)))


# training ---------------------------------------------------------------------------------------------------


def fit(peer, path, steps, repeats):
    """Train from the start of the process, then again. [(what `report` was told and found, ...), ...], a list a run."""
    import numpy as np

    data = dict(np.load(path))
    held_out, runs = data.pop("held_out"), []
    for k in range(1 + repeats):
        curve, begin = [], START if k == 0 else time.time()

        def report(step, predict, noise=None, curve=curve, begin=begin):
            """Stops the clock for the held-out error."""
            now = time.time()
            mean, std = predict(data["t"], held_out[:, 0])
            errors = ((mean - held_out) ** 2).mean(axis=(1, 2))
            point = {"step": step, "seconds": now - begin - sum(p["pause"] for p in curve)}
            point |= {"median": float(np.median(errors)), "mean": float(errors.mean())}
            if noise is not None:
                point["noise"] = float(noise)
            if std is not None:  # bands of 90 %; at the first time the state is given
                inside = np.abs(mean - held_out)[:, 1:] <= 1.645 * std[:, 1:]
                point["coverage"] = float(inside.mean())
            curve.append(point | {"pause": time.time() - now})

        peer.fit(data, steps, report)
        runs.append(curve)
    return runs


def systems(peer, path, steps):
    """Learn from the arrays of a file: errors on held-out trajectories, in standard deviations; seconds of the processor."""
    import numpy as np

    data = dict(np.load(path))
    held, held_t, held_u = (data.pop(name, None) for name in ("held", "held_t", "held_u"))
    begin = time.process_time()
    try:
        predict = peer.systems(data, steps)
        seconds = time.process_time() - begin
        with np.errstate(all="ignore"):
            square = np.mean(((predict(held_t, held[:, 0], held_u) - held) / data["y"].std(axis=(0, 1))) ** 2, axis=(1, 2))
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}".strip().splitlines()[-1][:200]}
    return {"cpu": seconds, "held": [float(x) if x < 1e300 else None for x in np.sqrt(square)]}


# ------------------------------------------------------------------------------------------------------------


def versions(peer):
    from importlib.metadata import PackageNotFoundError, version

    names = ["pynode-ode" if "{checkout}" in need else need for need in peer.REQUIREMENTS]
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the library as it stands in the checkout
            found[name] = getattr(sys.modules.get(name.removesuffix("-ode")), "__version__", "?")
    return found


def main():
    # what libraries print goes to stderr, so that nothing disturbs the conversation
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    peer, speed = importlib.import_module(f"peers.{sys.argv[1]}"), None
    for line in sys.stdin:
        match json.loads(line):
            case ["versions"]:
                answer = versions(peer)
            case ["fit", path, steps, repeats]:
                answer = fit(peer, path, steps, repeats)
            case ["case", name]:
                speed = Speed(peer, name)
                answer = speed.make()
            case ["make"]:
                answer = speed.make()
            case ["measure", variant, what, seconds]:
                answer = speed.measure(variant, what, seconds)
            case ["mixed"]:
                answer, solve = mixed(peer)
            case ["solve", seconds]:
                answer = fastest(solve, seconds)[0]
            case ["systems", path, steps]:
                answer = systems(peer, path, steps)
            case ["stiff", name]:
                stiff = Stiff(peer, name)
                answer = list(stiff.solvers)
            case ["stiff", solver, what, seconds]:
                answer = stiff.measure(solver, what, seconds)
            case ["van_der_pol", seed, path]:
                import numpy as np
                from cases import van_der_pol

                np.savez(path, **van_der_pol(seed))
                answer = None
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
