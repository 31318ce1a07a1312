"""What can be reached at most: SciPy's least squares on the solutions of the true equation, from the true parameters on.

    python benchmarks/systems_oracle.py [--systems NAME ...] [--seeds 0 1 2]

finds the errors on held-out trajectories again and writes them to systems_oracle.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from systems_problems import NOISES, SYSTEMS, sample

KEPT = Path(__file__).resolve().parent / "systems_oracle.json"
SETTINGS = {"method": "DOP853", "rtol": 1e-8, "atol": 1e-9}
STEP = 1e-5
"""Of finite differences, relative to a parameter or to the standard deviation of a state."""


class Problem:
    """Parameters and initial states of all trajectories as one vector; residuals over the noise, and their slopes.

    All perturbed solutions are columns of one solve, so that they share their steps.
    """

    def __init__(self, system, data):
        self.system, self.data = system, data
        self.names = list(system.parameters)
        self.shapes = [np.shape(v) for v in system.parameters.values()]
        flat = np.concatenate([np.ravel(v) for v in system.parameters.values()]).astype(float)
        self.p, self.n, self.d = len(flat), *data.clean[:, 0].shape
        self.start = np.concatenate([flat, data.clean[:, 0].ravel()])
        self.step = STEP * np.concatenate([np.maximum(np.abs(flat), 1e-2), data.std])

    def parameters(self, flat):
        """As a dict; `flat` is (p,) or (p, columns)."""
        out = {}
        at = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = int(np.prod(shape))
            out[name] = flat[at : at + size].reshape((*shape, *flat.shape[1:]))
            at += size
        return out

    def solved(self, x, columns):
        """(columns, n, T, d): `columns` are pairs (index of a parameter or p + state, step)."""
        theta = x[: self.p]
        y0 = x[self.p :].reshape(self.n, self.d)
        thetas = np.repeat(theta[:, None], len(columns), axis=1)
        starts = np.repeat(y0[None], len(columns), axis=0)
        for c, (k, step) in enumerate(columns):
            if k < self.p:
                thetas[k, c] += step
            else:
                starts[c, :, k - self.p] += step
        u = None if self.data.u is None else np.tile(self.data.u, (len(columns), 1, 1))
        values = self.parameters(np.repeat(thetas, self.n, axis=1))
        y = self.system.solve(starts.reshape(-1, self.d), self.data.t, u, values, SETTINGS)
        return y.reshape(len(columns), self.n, *y.shape[1:])

    def residuals(self, x):
        y = self.solved(x, [(0, 0.0)])[0]
        return np.nan_to_num((y - self.data.y) / self.data.sigma, nan=1e6).ravel()

    def slopes(self, x):
        """(numbers, unknowns): an initial state is of its own trajectory only."""
        found = self.solved(x, [(0, 0.0), *enumerate(self.step)])
        steps = self.step[:, None, None, None]
        slope = np.nan_to_num((found[1:] - found[0]) / steps / self.data.sigma)
        J = np.zeros((self.n, *slope.shape[2:], self.p + self.n * self.d))
        J[..., : self.p] = np.moveaxis(slope[: self.p], 0, -1)
        for i in range(self.n):
            at = self.p + i * self.d
            J[i, ..., at : at + self.d] = np.moveaxis(slope[self.p :, i], 0, -1)
        return J.reshape(-1, J.shape[-1])


def errors(held, found, std):
    """(held-out trajectories,) root mean square of errors, in standard deviations of the states; infinite where unsolved."""
    with np.errstate(all="ignore"):
        square = np.mean(((found - held) / std) ** 2, axis=(1, 2))
    return np.sqrt(np.where(np.isfinite(square), square, np.inf))


def oracle(system, data):
    """(HELD,) errors of the estimated parameters on the held-out trajectories."""
    problem = Problem(system, data)
    found = least_squares(problem.residuals, problem.start, problem.slopes, method="lm", x_scale="jac", max_nfev=30)
    parameters = problem.parameters(found.x[: problem.p])
    predicted = system.solve(data.held[:, 0], data.held_t, data.held_u, parameters)
    return errors(data.held, predicted, data.std)


def kept(name, noise, seed):
    """The stored errors, or None."""
    table = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    found = table.get(name, {}).get(f"{noise} {seed}")
    return None if found is None else np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    for name in options.systems:
        for seed in options.seeds:
            for noise in range(len(NOISES)):
                found = oracle(SYSTEMS[name], sample(SYSTEMS[name], noise, seed))
                table = json.loads(KEPT.read_text()) if KEPT.exists() else {}
                table.setdefault(name, {})[f"{noise} {seed}"] = [float(f"{x:.3g}") for x in found]
                lines = [f"{json.dumps(key)}: {json.dumps(table[key])}" for key in sorted(table)]
                KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
                print(f"{name}, noise {noise}, seed {seed}: {np.median(found):.2g}", flush=True)


if __name__ == "__main__":
    main()
