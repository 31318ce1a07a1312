"""Neural ODEs: learn dy/dt = f(t, y; theta) from data, with solvers and exact gradients in C.

    f = pynode.mlp(2, (32, 32))                                # a vector field
    sol = pynode.solve(f, y0, t, theta)                        # trajectories
    val = pynode.loss_and_grad(f, y0, t, theta, target)        # loss and exact gradients
    model = pynode.NeuralODE().fit(t, Y)                       # a model from measured trajectories

Everything is imported when it is first used, so that ``import pynode`` costs little more than ``import numpy``.
"""

import importlib

from pynode._version import __version__

_HOMES = {
    "pynode._core": ["ISAS", "isa", "set_isa", "num_threads", "set_num_threads"],
    "pynode.errors": ["SolveError", "SolveWarning", "STATUS"],
    "pynode.tracing": ["TraceError"],
    "pynode.fields": ["Field", "field", "mlp"],
    "pynode.systems": ["System"],
    "pynode.constraints": ["positive", "bounded", "frozen"],
    "pynode.callbacks": ["callback_field"],
    "pynode.functions": ["sigmoid", "softplus", "relu", "erf", "silu", "gelu", "elu", "leaky_relu"],
    "pynode.transforms": ["vjp", "jvp", "jacobian", "divergence", "grad", "hvp"],
    "pynode.physics": ["hamiltonian", "second_order"],
    "pynode.inputs": ["Signal"],
    "pynode.solving": ["solve", "Solution", "Stats", "METHODS"],
    "pynode.gradients": ["loss_and_grad", "Objective", "LossAndGrad", "Gradients"],
    "pynode.check": ["check_grad"],
    "pynode.events": ["event", "Hybrid", "EventObjective"],
    "pynode.jacobians": ["sensitivities", "Sensitivities", "SensitivityProblem"],
    "pynode.compat": ["odeint"],
    "pynode.cells": ["gru_cell", "rnn_cell"],
    "pynode.models": ["NeuralODE", "load"],
    "pynode.models.classifier": ["NeuralODEClassifier", "NeuralODERegressor"],
    "pynode.models.resnet": ["ResNet"],
    "pynode.models.cnf": ["CNF"],
    "pynode.models.latent_ode": ["LatentODE"],
    "pynode.files": ["ModelFileError"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("course", "datasets", "fit", "models", "plots")

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name):
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"pynode.{name}")
    else:
        raise AttributeError(f"module 'pynode' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return __all__
