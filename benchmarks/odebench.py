"""ODEBench: 63 systems from books, each learned from one trajectory, then followed from another initial state.

    python benchmarks/odebench.py odebench.json [--sigma 0.05] [--drop 0.5] [--seeds 0 1] [--only 3 27] [--structure network]

The file is that of d'Ascoli et al. 2024 (ODEFormer, arXiv:2310.05573; MIT licence), with an entry a system: "dim",
"substituted" (the formulas, their constants put in), "init" (two initial states). Protocol of the paper: 512 points on
[0, 10] from the first initial state, each multiplied by 1 + sigma N(0, 1), a part of them dropped. R2 is weighted by the
variance of the states (scikit-learn's `variance_weighted`, as in the paper's code) and compares with the clean solution: of
the reconstruction from the first initial state (as fitted), and of the generalisation from the second. Counted is R2 > 0.9.
"""

import argparse
import ast
import json
import time
import warnings

import numpy as np
from scipy.integrate import solve_ivp

import pynode as pn

POINTS = 512
END = 10.0
GOOD = 0.9
FUNCTIONS = {"sin": np.sin, "cos": np.cos, "exp": np.exp, "log": np.log, "Abs": np.abs, "cot": lambda x: 1.0 / np.tan(x)}
ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.Load,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Pow,
    ast.USub,
    ast.UAdd,
)


def right_hand_side(formulas):
    """f(t, x) of formulas in x_0, x_1, ...: nothing but arithmetic and FUNCTIONS is let through."""
    compiled = []
    for text in formulas:
        tree = ast.parse(text, mode="eval")
        for node in ast.walk(tree):
            name = node.id if isinstance(node, ast.Name) else None
            known = name is None or name in FUNCTIONS or (name.startswith("x_") and name[2:].isdigit())
            if not (isinstance(node, ALLOWED) and known):
                raise ValueError(f"{ast.dump(node)} in the formula {text!r} is no arithmetic")
        compiled.append(compile(tree, "formula", "eval"))

    def f(t, x):
        values = FUNCTIONS | {f"x_{i}": v for i, v in enumerate(x)}
        return [eval(code, {"__builtins__": {}}, values) for code in compiled]

    return f


def solution(f, y0, t):
    """The states (T, d), or None where the equation cannot be solved so far."""
    with np.errstate(all="ignore"):
        found = solve_ivp(f, (t[0], t[-1]), y0, "LSODA", t, rtol=1e-9, atol=1e-10)
    return found.y.T if found.success and np.isfinite(found.y).all() else None


def r2(true, found):
    """The coefficient of determination, states weighted by their variance; -inf where there is nothing to compare."""
    if found is None or not np.isfinite(found).all():
        return -np.inf
    return 1.0 - float(((found - true) ** 2).sum() / ((true - true.mean(axis=0)) ** 2).sum())


def corrupted(clean, sigma, drop, seed):
    """(rows kept, the measurements there)."""
    rng = np.random.default_rng(seed)
    noisy = clean * (1.0 + sigma * rng.standard_normal(clean.shape))
    kept = np.arange(POINTS)
    if drop:
        kept = np.sort(rng.choice(POINTS, POINTS - round(drop * POINTS), replace=False))
    return kept, noisy[kept]


def tried(system, sigma, drop, seed, options):
    """How one system went."""
    t = np.linspace(0.0, END, POINTS)
    f = right_hand_side(system["substituted"][0])
    first, second = (solution(f, y0, t) for y0 in system["init"])
    kept, y = corrupted(first, sigma, drop, 1000 * seed + system["id"])
    started = time.perf_counter()
    cpu = time.process_time()
    model = pn.NeuralODE(random_state=seed, **options).fit(t[kept], y)
    row = {"id": system["id"], "seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    back = followed(model, t, None)
    new = followed(model, t, system["init"][1])
    row |= {"reconstruction": r2(first, back), "generalisation": np.nan if second is None else r2(second, new)}
    return row | {"warnings": model.report_["warnings"], "message": model.report_["message"], "equation": written(model)}


def written(model):
    """The equation of a model as text."""
    try:
        return str(model.equation())
    except ValueError:
        return "a network"


def followed(model, t, y0):
    """The model's states (T, d), or None."""
    try:
        return model.predict(t, model.initial_states_[0] if y0 is None else np.array(y0, dtype=float))
    except (RuntimeError, ValueError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="odebench.json")
    parser.add_argument("--sigma", type=float, default=0.0, help="of the multiplicative noise (default 0)")
    parser.add_argument("--drop", type=float, default=0.0, help="part of the points left out (default 0)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of noise and model (default 0)")
    parser.add_argument("--only", type=int, nargs="+", help="these systems, by number")
    parser.add_argument("--structure", help="the option of NeuralODE (default: its default)")
    parser.add_argument("--out", help="a file for the numbers (JSON)")
    parser.add_argument("--words", action="store_true", help="print equations and warnings too")
    args = parser.parse_args()
    warnings.simplefilter("ignore", pn.fit.FitWarning)
    with open(args.file, encoding="utf-8") as file:
        systems = [s for s in json.load(file) if args.only is None or s["id"] in args.only]
    options = {} if args.structure is None else {"structure": args.structure}
    rows = []
    for seed in args.seeds:
        for system in systems:
            row = tried(system, args.sigma, args.drop, seed, options)
            rows.append(row | {"seed": seed})
            print(
                f"{seed:2d} {row['id']:3d} {row['reconstruction']:9.4f} {row['generalisation']:9.4f} {row['cpu']:6.2f} s  "
                + system["eq_description"][:60],
                flush=True,
            )
            if args.words:
                print(
                    "      " + "\n      ".join([*row["equation"].splitlines(), row["message"], *row["warnings"]]), flush=True
                )
    for name in ("reconstruction", "generalisation"):
        values = np.array([row[name] for row in rows])
        print(f"{name}: R2 > {GOOD} for {100 * np.mean(values > GOOD):.0f} % ({(values > GOOD).sum()} of {len(values)})")
    print(
        f"{sum(row['cpu'] for row in rows) / len(args.seeds):.1f} s of the processor for the fits of {len(systems)} systems"
    )
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
