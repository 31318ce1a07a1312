"""A result belongs to itself: what the caller does afterwards to an array that was handed in changes nothing of it.

Each case makes a result twice from equal arrays. One is asked at once, the other after everything that was handed in has
been scribbled over. Both must say the same, to the bit.
"""

import copy

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0.0, 1.0, 5)
MLP = pn.mlp(2, (3,))
DRIVEN = pn.field(state=1, inputs=1, theta={"k": 2.0})(lambda t, y, th, u: -th.k * y + u)
DECAY = pn.field(state=1, theta={"k": 2.0})(lambda t, y, th: -th.k * y)
DOSED = pn.System(
    DECAY,
    jump=pn.field(state=1, inputs=1)(lambda t, y, u: y + u),
    loss=pn.field(state=1, inputs=1, out=1)(lambda t, y, u: [(y[0] - u[0]) ** 2]),
)
RNG = np.random.default_rng(0)
CURVES = RNG.standard_normal((3, 12, 2)).cumsum(axis=1) * 0.1
TABLE = RNG.standard_normal((24, 2))
LABELS = (TABLE[:, 0] > 0).astype(float)


def told(x):
    """What is said by an object, as plain copies."""
    if isinstance(x, np.ndarray):
        return x.copy()
    if isinstance(x, dict):
        return {name: told(value) for name, value in x.items() if name != "seconds"}
    if isinstance(x, (list, tuple)):
        return [told(value) for value in x]
    if isinstance(x, pn.Solution):
        return solution(x)
    if isinstance(x, (pn.LossAndGrad, pn.Gradients, pn.Signal, pn.Trajectories, pn.Events, pn.fit.FitResult)):
        names = (
            "loss",
            "theta",
            "y0",
            "t",
            "y",
            "u",
            "inputs",
            "data",
            "target",
            "sample_loss",
            "signal",
            "before",
            "after",
        )
        return {name: told(getattr(x, name, None)) for name in names}
    return copy.copy(x) if isinstance(x, (int, float, str, np.generic)) else None


def solution(sol):
    """What a solution says and computes."""
    before = [sol.theta, sol.t, sol.y, sol.batch.y0, sol.batch.t, sol.status]
    ones = [np.ones_like(y) for y in sol.y] if isinstance(sol.y, list) else np.ones_like(sol.y)
    found = [told(x) for x in before]
    wrt = ["theta", "y0", "t"]
    wrt += ["inputs"] if sol.field.inputs else []
    wrt += ["data"] if getattr(sol.field, "n_data", 0) else []
    found.append(told(sol.vjp(ones, wrt=tuple(wrt))))
    for adjoint in (
        ("backsolve", "interpolating") if type(sol.field) is pn.Field and sol.prepared.options.grid is None else ()
    ):
        found.append(told(sol.vjp(ones, adjoint=adjoint)))
    if "steps" in sol.results:
        found += [told(sol.steps), told(sol(0.3))]
    if isinstance(sol, pn.EventSolution):
        found.append(told(sol.events))
    return found


def objective(o):
    """What an objective says at some parameters."""
    theta = o.field.init(1) if hasattr(o.field, "init") else np.array([1.5])
    return [told(o(theta)), o.value(theta), told(o.evaluate(theta)), o.n_observed]


def fitted(model):
    """The fitted attributes of a model."""
    return {name: told(x) for name, x in vars(model).items() if name.endswith("_") and name not in ("report_", "history_")}


def settings(**more):
    return {"t": T.copy(), "theta": MLP.init(0)} | more


CALLS = {
    "solve": (lambda y0, t, theta: pn.solve(MLP, y0, t, theta, dense=True), settings(y0=np.array([1.0, 0.0])), solution),
    "solve float32": (
        lambda y0, t, theta: pn.solve(MLP, y0, t, theta),
        settings(y0=np.array([1.0, 0.0], np.float32)),
        solution,
    ),
    "solve batch": (lambda y0, t, theta: pn.solve(MLP, y0, t, theta, dense=True), settings(y0=TABLE[:3]), solution),
    "solve own times": (
        lambda y0, t, theta: pn.solve(MLP, y0, t, theta),
        settings(y0=TABLE[:2], t=np.stack([T, 2 * T])),
        solution,
    ),
    "solve lists of times": (
        lambda y0, a, b, theta: pn.solve(MLP, y0, [a, b], theta),
        {"y0": TABLE[:2].copy(), "a": T.copy(), "b": T[:3].copy(), "theta": MLP.init(0)},
        solution,
    ),
    "solve grid": (
        lambda y0, t, theta, grid: pn.solve(MLP, y0, t, theta, method="rk4", grid=grid),
        settings(y0=np.array([1.0, 0.0]), grid=np.linspace(0, 1, 9)),
        solution,
    ),
    "solve grids": (
        lambda y0, t, theta, grid: pn.solve(MLP, y0, t, theta, method="rk4", grid=[grid, grid]),
        settings(y0=TABLE[:2], grid=np.linspace(0, 1, 9)),
        solution,
    ),
    "solve atol": (
        lambda y0, t, theta, atol: pn.solve(MLP, y0, t, theta, atol=atol, rtol=1e-4),
        settings(y0=np.array([1.0, 0.0]), atol=np.array([1e-4, 1e-5])),
        solution,
    ),
    "solve inputs": (
        lambda y0, t, theta, knots, u: pn.solve(DRIVEN, y0, t, theta, inputs=(knots, u)),
        settings(
            y0=np.array([1.0]), theta=np.array([2.0]), knots=np.array([0.0, 0.5, 1.0]), u=np.array([[0.0], [1.0], [0.5]])
        ),
        solution,
    ),
    "solve constant inputs": (
        lambda y0, t, theta, u: pn.solve(DRIVEN, y0, t, theta, inputs=u),
        settings(y0=np.array([1.0]), theta=np.array([2.0]), u=np.array([0.5])),
        solution,
    ),
    "solve jumps": (
        lambda y0, t, theta, data: pn.solve(DOSED, y0, t, theta, data=data),
        settings(y0=np.array([1.0]), theta=np.array([2.0]), data=np.full((5, 1), 0.1)),
        solution,
    ),
    "solve events": (
        lambda y0, t, theta: pn.solve(DECAY, y0, t, theta, events=pn.event(lambda t, y: y[0] - 0.5, terminal=False)),
        settings(y0=np.array([1.0]), theta=np.array([2.0])),
        solution,
    ),
    "solve jumps and events": (
        lambda y0, t, theta, data: pn.solve(
            DOSED, y0, t, theta, data=data, events=pn.event(lambda t, y: y[0] - 0.5, terminal=False)
        ),
        settings(y0=np.array([1.0]), theta=np.array([2.0]), data=np.full((5, 1), 0.1)),
        solution,
    ),
    "odeint": (lambda y0, t, theta: pn.odeint(MLP, y0, t, theta=theta), settings(y0=TABLE[:2]), told),
    "sensitivities": (
        lambda y0, t, theta: pn.sensitivities(MLP, y0, t, theta),
        settings(y0=TABLE[:2]),
        lambda s: [told(s.theta), told(s.y0), solution(s.solution)],
    ),
    "SensitivityProblem": (
        lambda y0, t: pn.SensitivityProblem(MLP, y0, t),
        {"y0": TABLE[:2].copy(), "t": T.copy()},
        lambda p: told(p.run(MLP.init(1))["sensitivity"]),
    ),
    "Signal": (
        lambda knots, u: pn.Signal(knots, u, "cubic"),
        {"knots": T.copy(), "u": np.sin(T)[:, None]},
        lambda s: [told(s), told(s([0.1, 0.7])), told(s.pull(np.ones((4, 4, 1)))), told(s.mean([0.1], [0.4]))],
    ),
    "Signal of a batch": (
        lambda knots, u: pn.Signal([knots, knots], [u, u]),
        {"knots": T.copy(), "u": np.sin(T)[:, None]},
        lambda s: [told(s), told(s([0.1, 0.7], 1)), told(s.take([1]))],
    ),
    "Trajectories": (
        lambda t, y: pn.Trajectories((t, t), (y, y), ("a", "b")),
        {"t": T.copy(), "y": TABLE[:5].copy()},
        lambda data: [told(data), data.n_observed],
    ),
    "Trajectories.from_arrays": (
        lambda t, y, u: pn.Trajectories.from_arrays(t, y, u=u),
        {"t": np.linspace(0, 1, 12), "y": CURVES.copy(), "u": CURVES[..., :1].copy()},
        lambda data: [told(data), told(data.signal), told(data.take([1]).t)],
    ),
    "Tableau": (
        lambda a, b, b_hat: pn.Tableau(a, b, b_hat=b_hat),
        {"a": np.array([[0.0, 0.0], [1.0, 0.0]]), "b": np.array([0.5, 0.5]), "b_hat": np.array([1.0, 0.0])},
        lambda m: [told(m.a), told(m.b), told(m.b_hat), told(pn.solve(DECAY, [1.0], T, [2.0], method=m).y)],
    ),
    "HeldPolicy": (
        lambda t, y0, noise: pn.control.HeldPolicy(
            pn.field(state=2, inputs=1)(lambda t, y, u: [u[0], y[0] ** 2]), pn.mlp(1, (), 1), t, 0.1
        ).rollout([-1.0, 0.0], y0, noise),
        {"t": T.copy(), "y0": TABLE[:3].copy(), "noise": RNG.standard_normal((3, 4, 1))},
        lambda episodes: [told(episodes.y), told(episodes.noise), [solution(s) for s in episodes.solutions]],
    ),
    "Planner": (
        lambda theta, low, high: pn.control.Planner(
            pn.field(state=2, inputs=1, theta={"k": 2.0})(lambda t, y, th, u: [u[0] - th.k * y[0], y[0] ** 2]),
            theta,
            0.25,
            3,
            low,
            high,
            random_state=0,
        ),
        {"theta": np.array([2.0]), "low": np.array([-1.0]), "high": np.array([1.0])},
        lambda planner: told(planner.cost(np.full((2, 3, 1), 0.5), [1.0])),
    ),
    "adam": (
        lambda theta0: pn.fit.adam(lambda x: (x @ x, 2 * x), theta0, max_iter=5),
        {"theta0": np.array([1.0, 2.0])},
        lambda r: [told(r.theta), told(r.history["loss"])],
    ),
    "levenberg_marquardt": (
        lambda theta0: pn.fit.levenberg_marquardt(lambda x: (x, np.eye(2)), theta0, max_iter=5),
        {"theta0": np.array([1.0, 2.0])},
        lambda r: [told(r.theta), told(r.history["loss"])],
    ),
    "multiple_shooting": (
        lambda t, Y, theta0, weight: pn.fit.multiple_shooting(DECAY, t, Y, theta0, weight=weight, max_iter=3),
        {"t": T.copy(), "Y": np.exp(-T)[:, None], "theta0": np.array([0.5]), "weight": np.ones((5, 1))},
        lambda r: [told(r.theta), told(r.states), told(r.history["loss"])],
    ),
    "NeuralODE": (
        lambda t, Y, weight: pn.NeuralODE(hidden=(3,), max_iter=3, random_state=0).fit(t, Y, weight=weight),
        {"t": np.linspace(0, 1, 12), "Y": CURVES.copy(), "weight": np.ones((12, 2))},
        lambda m: [fitted(m), told(m.predict(T, [0.1, 0.2])), m.score(np.linspace(0, 1, 12), CURVES)],
    ),
    "LatentODE": (
        lambda t, Y: pn.LatentODE(latent=2, max_iter=2, random_state=0).fit(t, Y),
        {"t": np.linspace(0, 1, 12), "Y": CURVES.copy()},
        fitted,
    ),
    "NeuralODEClassifier": (
        lambda X, y, w: pn.NeuralODEClassifier(hidden=(3,), max_iter=3, random_state=0).fit(X, y, sample_weight=w),
        {"X": TABLE.copy(), "y": LABELS.copy(), "w": np.linspace(1, 2, 24)},
        lambda m: [fitted(m), told(m.predict_proba(TABLE))],
    ),
    "NeuralODERegressor": (
        lambda X, y: pn.NeuralODERegressor(hidden=(3,), max_iter=3, random_state=0).fit(X, y),
        {"X": TABLE.copy(), "y": LABELS.copy()},
        lambda m: [fitted(m), told(m.predict(TABLE))],
    ),
    "CNF": (
        lambda X: pn.CNF(hidden=(3,), max_iter=3, random_state=0).fit(X),
        {"X": TABLE.copy()},
        lambda m: [fitted(m), told(m.score_samples(TABLE))],
    ),
}

KEYS = {"t": T, "target": RNG.standard_normal((3, 5, 2)), "weight": RNG.uniform(1, 2, (3, 5, 2)), "y0": TABLE[:3]}
for adjoint in ("discrete", "backsolve", "interpolating", "reversible"):
    CALLS[f"Objective {adjoint}"] = (
        lambda y0, t, target, weight, adjoint=adjoint: pn.Objective(MLP, y0, t, target, weight=weight, adjoint=adjoint),
        KEYS,
        objective,
    )
    CALLS[f"loss_and_grad {adjoint}"] = (
        lambda y0, t, target, weight, theta, adjoint=adjoint: pn.loss_and_grad(
            MLP, y0, t, theta, target, weight=weight, adjoint=adjoint, wrt=("theta", "y0", "t")
        ),
        KEYS | {"theta": MLP.init(0)},
        lambda value: [told(value), None if value.solution.prepared.options.coupling else solution(value.solution)],
    )
CALLS["Objective of a System"] = (
    lambda y0, t, target, data: pn.Objective(
        DOSED, y0, t, target, data=data, loss="program", wrt=("theta", "data", "target")
    ),
    {"y0": np.array([1.0]), "t": T, "target": np.zeros((5, 1)), "data": np.full((5, 1), 0.1)},
    objective,
)
CALLS["Objective with events"] = (
    lambda y0, t, target: pn.Objective(DECAY, y0, t, target, events=pn.event(lambda t, y: y[0] - 0.5, terminal=False)),
    {"y0": np.array([1.0]), "t": T, "target": np.zeros((5, 1))},
    objective,
)
CALLS["Objective with inputs"] = (
    lambda y0, t, target, knots, u: pn.Objective(DRIVEN, y0, t, target, inputs=(knots, u), wrt=("theta", "inputs")),
    {"y0": np.array([1.0]), "t": T, "target": np.zeros((5, 1)), "knots": T, "u": np.sin(T)[:, None]},
    objective,
)
CALLS["loss_and_grad without weights"] = (
    lambda y0, t, target, theta: pn.loss_and_grad(MLP, y0, t, theta, target),
    {name: x for name, x in KEYS.items() if name != "weight"} | {"theta": MLP.init(0)},
    lambda value: [told(value), solution(value.solution)],
)


def same(a, b, where=""):
    """Equal to the bit, NaN being itself."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for name in a:
            same(a[name], b[name], f"{where}.{name}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    elif a is None or isinstance(a, str):
        assert a == b, where
    else:
        assert np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"), where


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
@pytest.mark.filterwarnings("ignore::pynode.ExtrapolationWarning")  # models of three iterations
@pytest.mark.parametrize("name", CALLS)
def test_a_result_does_not_follow_the_arrays_that_were_handed_in(name):
    make, given, show = CALLS[name]
    expected = show(make(**{key: x.copy() for key, x in given.items()}))
    for _ in range(2):  # the second time through what was prepared for the first
        arrays = {key: x.copy() for key, x in given.items()}
        result = make(**arrays)
        for x in arrays.values():
            x *= -3
            x += 7
        same(expected, show(result))


def test_what_a_solution_was_made_of_cannot_be_changed_in_silence():
    for _ in range(2):
        sol = pn.solve(MLP, TABLE[:2], T, MLP.init(0))
        for x in (sol.theta, sol.t, sol.batch.y0, sol.batch.t):
            with pytest.raises(ValueError, match="read-only"):
                x[...] = 0
    data = pn.Trajectories.from_arrays(T, TABLE[:5])
    signal = pn.Signal(T, TABLE[:5])
    for x in (data.t[0], data.y[0], signal.t[0], signal.u[0]):
        with pytest.raises(ValueError, match="read-only"):
            x[...] = 0


def test_objectives_of_optimisers_may_use_one_array_for_all_gradients():
    buffer = np.empty(2)

    def reused(x):
        buffer[:] = 2 * x * [1.0, 10.0]
        return float(x[0] ** 2 + 10 * x[1] ** 2), buffer

    def fresh(x):
        return float(x[0] ** 2 + 10 * x[1] ** 2), 2 * x * [1.0, 10.0]

    for optimise in (pn.fit.lbfgs, pn.fit.adam):
        a, b = (optimise(f, np.array([1.0, 2.0]), max_iter=10) for f in (reused, fresh))
        assert np.array_equal(a.theta, b.theta)
