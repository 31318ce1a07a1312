"""Learned dynamics: `NeuralODE()` with defaults on many systems, beside what knows the true form.

    python benchmarks/systems.py OUT.jsonl [--systems NAME ...] [--seeds 0 1 2] [--noises 0 1] [--only-fit] [--again]

Needs a Python that has pynode and SciPy. Systems and their data: systems_problems.py; the errors of the oracle are kept in
systems_oracle.json, and found where they are not. A line of JSON for each system, noise and seed; what is in OUT already is
not done again (--again: it is). --only-fit: no bands. Then the summary: systems_summary.py shows that of a file.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from systems_oracle import errors, kept, oracle
from systems_problems import NOISES, SYSTEMS, sample
from systems_summary import LEVEL, load, tell

import pynode as pn


def fitted(data, seed, within):
    """(model or None, what its fit told): stopped after `within` seconds of the processor."""
    begin = time.process_time()
    wall = time.perf_counter()

    def late(_):
        return time.process_time() - begin > within

    row = {}
    model = pn.NeuralODE(random_state=seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(data.t, data.y, u=data.u, callback=late)
        except (pn.fit.FitError, ValueError, ArithmeticError) as error:
            row["failed"] = f"{type(error).__name__}: {error}"
            model = None
    row |= {"cpu": round(time.process_time() - begin, 2), "wall": round(time.perf_counter() - wall, 2)}
    told = [] if model is None else model.report_["warnings"]
    row["warnings"] = list(dict.fromkeys([*told, *(str(one.message) for one in caught)]))
    if model is not None:
        report = model.report_
        estimated = np.array([report["noise"][name] for name in model.names_])
        row |= {name: report[name] for name in ("status", "optimizer", "effective_parameters", "n_params")}
        row["noise_ratio"] = _rounded(estimated**2 / data.sigma**2)
        row["equation"] = report["message"].startswith("an equation")  # found, not a network
        row["stages"] = [[stage["name"], stage["status"], stage.get("iterations")] for stage in report["stages"]]
    return model, row


def rolled(model, data):
    """(HELD, T, d) predictions from the true held-out initial states, NaN where there is none."""
    out = np.full(data.held.shape, np.nan)
    for i, way in enumerate(data.held):
        u = None if data.held_u is None else data.held_u[i]
        try:
            out[i] = model.predict(data.held_t, way[0], u=u)
        except (pn.SolveError, ArithmeticError):
            continue
    return out


def covered(model, data, seed):
    """Of each held-out trajectory: what the bands of the mean hold of it, and those of new readings of such readings."""
    begin = time.process_time()
    rng = np.random.default_rng([seed, 90])
    found = {"coverages": [], "readings": []}
    for i, way in enumerate(data.held):
        u = None if data.held_u is None else data.held_u[i]
        seen = {"mean": way, "prediction": way + data.sigma * rng.standard_normal(way.shape)}
        for into, (kind, values) in zip(found.values(), seen.items(), strict=True):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    _, lower, upper = model.predict(data.held_t, way[0], u=u, interval=LEVEL, kind=kind)
                into.append(float(np.mean((lower <= values) & (values <= upper))))
            except (pn.SolveError, ArithmeticError) as error:
                into.append(None)
                last = str(error)
    row = found | {"band_cpu": round(time.process_time() - begin, 2)}
    for name, mean in (("coverages", "coverage"), ("readings", "reading_coverage")):
        there = [x for x in found[name] if x is not None]
        row |= {mean: round(float(np.mean(there)), 4)} if there else {"no_bands": last}
    return row


def measured(system, noise, seed, options):
    """The row of a fit."""
    data = sample(system, noise, seed)
    model, row = fitted(data, seed, options.within)
    best = kept(system.name, noise, seed)
    if best is None:
        best = oracle(system, data)
    row |= {"oracle": _rounded(best)}
    if model is not None:
        row["held"] = _rounded(errors(data.held, rolled(model, data), data.std))
        if not options.only_fit:
            row |= covered(model, data, seed)
    return {"system": system.name, "kind": system.kind, "noise": noise, "seed": seed} | row


def _rounded(values):
    return [float(f"{x:.4g}") for x in values]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--systems", nargs="+", metavar="NAME", default=list(SYSTEMS), help=", ".join(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--noises", nargs="+", type=int, default=list(range(len(NOISES))), help=f"of {NOISES}, by index")
    parser.add_argument("--only-fit", action="store_true", help="no bands")
    parser.add_argument("--again", action="store_true", help="also what the file has already")
    parser.add_argument("--within", type=float, default=120.0, help="seconds of the processor for one fit (%(default)s)")
    options = parser.parse_args()
    if unknown := [name for name in options.systems if name not in SYSTEMS]:
        parser.error(f"no such system: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    options.out.touch()
    done = load(options.out)
    for seed in options.seeds:
        for name in options.systems:
            for noise in options.noises:
                if options.again or (name, noise, seed) not in done:
                    row = measured(SYSTEMS[name], noise, seed, options)
                    with options.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    wanted = {(n, k, s) for n in options.systems for k in options.noises for s in options.seeds}
    tell([row for key, row in load(options.out).items() if key in wanted])


if __name__ == "__main__":
    main()
