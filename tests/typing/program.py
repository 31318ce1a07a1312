"""A user's program, for type checkers: .ci/run checks it with mypy --strict and pyright. It is never run."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import pynode as pn

Floats = NDArray[np.float64]

t = np.linspace(0, 6, 61)
data = np.stack([np.cos(t), -np.sin(t)], axis=1)

# ---- Fields

f = pn.mlp(2, (8,))
assert_type(f, pn.Field)
assert_type(f.n_params, int)
theta = f.init(0)


@pn.field(state=2, theta={"k": 1.0})
def spring(t: Any, y: Any, th: Any) -> Any:
    return [y[1], -th.k * y[0]]


assert_type(spring, pn.Field)
assert_type(pn.hamiltonian(pn.mlp(2, (8,), 1)), pn.Field)
e = pn.event(pn.mlp(2, (), 1), terminal=True)

# ---- Solving

sol = pn.solve(f, data[0], t, theta, method="tsit5", rtol=1e-8)
assert_type(sol, pn.Solution)
assert_type(sol.ok, bool)
assert_type(sol.stats, pn.Stats)
assert_type(sol.stats.backend, str)
pn.solve(f, [0.5, 0.0], [0.0, 1.0, 2.0], theta, step=0.1, save="land")
pn.solve(f, data[:3], [t, t, t[:5]], theta, dense=True, events=e)

# ---- Systems and events

system = pn.System(spring, jump=pn.mlp(2, (4,), 2, inputs=1), loss=pn.mlp(2, (4,), 1), events=e)
assert_type(system, pn.System)
assert_type(system.n_params, int)
assert_type(system.split(system.init(0))["field"], Floats)
sol = pn.solve(system, data[0], t, system.init(0), data=t[:, None])
if isinstance(sol, pn.EventSolution):
    assert_type(sol.events, pn.Events)
    assert_type(sol.events.of(sample=0), pn.Events)
    assert_type(sol.vjp(event_t=np.ones(len(sol.events))), pn.Gradients)
pn.loss_and_grad(system, data[0], t, system.init(0), loss="program", data=t[:, None], reduction="mean")
assert_type(pn.check_grad(f, data[0], t, theta, data, events=e, rtol=1e-10).max_error, float)
assert_type(pn.sensitivities(f, data[0], t, theta, method="rk4", step=0.1), pn.Sensitivities)
sens = pn.sensitivities(system, data[0], t, system.init(0), data=t[:, None], events=e, observe=lambda t, y: [y[0]])
assert_type(sens.events, pn.EventSensitivities | None)
assert_type(pn.SensitivityProblem(f, data[0], t, events=e).evaluate(theta, "ignore"), pn.Sensitivities)

# ---- Gradients

value = pn.loss_and_grad(f, data[0], t, theta, data, wrt=("theta", "y0"), adjoint="discrete")
assert_type(value, pn.LossAndGrad)
assert_type(value.loss, float)
objective = pn.Objective(f, data[0], t, data)
result = pn.fit.lbfgs(objective, theta, max_iter=20)
assert_type(result, pn.fit.FitResult)
assert_type(result.loss, float)
assert_type(result.theta, Floats)


def stop(iteration: pn.fit.Iteration) -> bool:
    assert_type(iteration.number, int)
    assert_type(iteration.loss, float)
    assert_type(iteration.stage, str)
    return iteration.loss < 1e-6


pn.fit.adam(objective, theta, max_iter=10, callback=stop)

# ---- Models

model = pn.NeuralODE(hidden=(8,), random_state=0).fit(t, data, callback=stop)
assert_type(model, pn.NeuralODE)
classifier = pn.NeuralODEClassifier(random_state=0).fit(data, np.arange(61) % 2)
assert_type(classifier, pn.NeuralODEClassifier)
flow = pn.CNF().fit(data)
assert_type(flow, pn.CNF)
trajectories = pn.read_csv("data.csv", time="t", state=["x", "v"])
assert_type(trajectories, pn.Trajectories)
