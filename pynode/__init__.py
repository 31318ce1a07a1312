"""Neural ODEs: learn dy/dt = f(t, y; theta) from data, with solvers and exact gradients in C.

    f = pynode.mlp(2, (32, 32))                                # a vector field
    sol = pynode.solve(f, y0, t, theta)                        # trajectories
    val = pynode.loss_and_grad(f, y0, t, theta, target)        # loss and exact gradients
    model = pynode.NeuralODE().fit(t, Y)                       # a model from measured trajectories

Everything is imported when it is first used, so that ``import pynode`` costs little more than ``import numpy``.
"""

import importlib
import importlib.util

from pynode._version import __version__

# Module -> the public names that it defines. tools/make_stub.py makes __init__.pyi from this table, for type checkers.
_HOMES = {
    "pynode._core": ["ISAS", "isa", "set_isa", "num_threads", "set_num_threads"],
    "pynode.errors": [
        "SolveError",
        "SolveWarning",
        "ToleranceWarning",
        "StiffnessWarning",
        "ExtrapolationWarning",
        "STATUS",
    ],
    "pynode.data.clock": ["Clock"],
    "pynode.data.tables": ["TableError", "TableWarning"],
    "pynode.data.trajectories": ["Trajectories"],
    "pynode.data.partitions": ["Partitions"],
    "pynode.data.csv": ["read_csv"],
    "pynode.data.nonmem": ["read_nonmem"],
    "pynode.data.signal": ["Signal"],
    "pynode.data.files": ["ModelFileError"],
    "pynode.programs.traced": ["TraceError"],
    "pynode.programs.functions": ["sigmoid", "softplus", "relu", "erf", "silu", "gelu", "elu", "leaky_relu"],
    "pynode.fields.field": ["Field"],
    "pynode.fields.make": ["field", "mlp"],
    "pynode.fields.callback": ["callback_field"],
    "pynode.fields.constraints": ["positive", "bounded", "frozen"],
    "pynode.fields.transforms": ["vjp", "jvp", "jacobian", "divergence", "grad", "hvp"],
    "pynode.fields.mechanics": ["hamiltonian", "second_order"],
    "pynode.fields.cells": ["gru_cell", "rnn_cell"],
    "pynode.fields.system": ["System"],
    "pynode.fields.event": ["event", "Event"],
    "pynode.engine.options": ["METHODS"],
    "pynode.engine.tableau": ["Tableau"],
    "pynode.engine.solution": ["Solution", "Stats", "LossAndGrad"],
    "pynode.engine.gradients": ["Gradients"],
    "pynode.calls.sensitivities": ["sensitivities", "Sensitivities", "SensitivityProblem", "EventSensitivities"],
    "pynode.events.solution": ["EventSolution", "Events"],
    "pynode.calls.solve": ["solve"],
    "pynode.calls.objective": ["Objective"],
    "pynode.calls.loss_and_grad": ["loss_and_grad"],
    "pynode.calls.check_grad": ["check_grad"],
    "pynode.calls.odeint": ["odeint"],
    "pynode.calls.consistent": ["consistent_state"],
    "pynode.experiments.doses": ["Dose"],
    "pynode.training.regression": ["Regression"],
    "pynode.models.base": ["load"],
    "pynode.models.trajectories.neural_ode": ["NeuralODE"],
    "pynode.models.latent.latent_ode": ["LatentODE"],
    "pynode.models.flows.predictors": ["NeuralODEClassifier", "NeuralODERegressor"],
    "pynode.models.flows.resnet": ["ResNet"],
    "pynode.models.flows.cnf": ["CNF"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("control", "course", "datasets", "export", "fit", "models", "plots")
_OPTIONAL = ("jax", "torch")
"""Modules that need a package which need not be there: loaded on demand like the others, but in no list of names."""

__all__ = ["__version__", *_HOME, *_MODULES]

if importlib.util.find_spec("pynode._core") is None:
    raise ImportError(
        f"the C core of pynode is not built in {__path__[0]}: run `python setup.py build_ext --inplace` in the folder above "
        "it, or `pip install .` there and start Python in another folder"
    )


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in (*_MODULES, *_OPTIONAL):
        value = importlib.import_module(f"pynode.{name}")
    else:
        raise AttributeError(f"module 'pynode' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
