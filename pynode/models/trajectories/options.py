"""The options of NeuralODE: what is checked before a fit."""

import numpy as np

from pynode.data.arrays import as_positive
from pynode.engine.options import METHODS
from pynode.fields.field import Field
from pynode.optim.schedules import as_schedule
from pynode.programs.functions import ACTIVATIONS
from pynode.training.curriculum import checked_windows
from pynode.training.early_stopping import check_fraction
from pynode.training.first_order import OPTIMIZERS
from pynode.training.noise import ROBUST
from pynode.training.steps import SECOND_ORDER

FIRST_ORDER_ONLY = {
    "batch_size": None,
    "kinetic_energy": 0.0,
    "jacobian_norm": 0.0,
    "steer": 0.0,
    "max_gradient": None,
}
"""Options that only gradient descent has, with the value that turns them off."""


def widths(hidden):
    """Widths of the hidden layers as a tuple."""
    return (hidden,) if isinstance(hidden, (int, np.integer)) and not isinstance(hidden, bool) else tuple(hidden)


def first_order_options(model):
    """Those of FIRST_ORDER_ONLY that are turned on."""
    return [name for name, off in FIRST_ORDER_ONLY.items() if getattr(model, name) != off]


def check(model):
    """Everything that can be said before there are data."""
    try:
        hidden = widths(model.hidden)
    except TypeError:
        hidden = (None,)
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in hidden):
        raise ValueError(f"hidden={model.hidden!r} must hold the widths of layers, integers >= 1")
    _one_of("activation", model.activation, ACTIVATIONS)
    if model.field is not None and not isinstance(model.field, Field):
        raise TypeError(f"field must be a Field (pynode.field, pynode.mlp, ...), not {type(model.field).__name__}")
    adaptive = [name for name, row in METHODS.items() if row["error_order"]]
    if model.method not in adaptive:
        raise ValueError(f"method={model.method!r} must be an adaptive method: {', '.join(adaptive)}")
    _one_of("optimizer", model.optimizer, ("auto", SECOND_ORDER, *OPTIMIZERS))
    _one_of("noise", model.noise, ROBUST)
    as_schedule(model.schedule)
    _numbers(model)
    _integers(model)
    if model.field is not None and model.augment:
        raise ValueError("augment adds states to the network; a field of your own declares all its states itself")
    if model.windows is not None:
        checked_windows(model.windows)
    if model.optimizer == SECOND_ORDER and first_order_options(model):
        name = first_order_options(model)[0]
        raise ValueError(f"{name} belongs to gradient descent: take optimizer='adam' or 'auto', not {SECOND_ORDER!r}")
    if model.optimizer in OPTIMIZERS and model.n_restarts != 1:
        raise ValueError(f"n_restarts belongs to {SECOND_ORDER}; optimizer={model.optimizer!r} has n_estimators")
    if (model.batch_size is not None or model.steer) and "lbfgs" in model.optimizer:
        raise ValueError("batch_size and steer make the loss random: take optimizer='adam', L-BFGS needs a fixed one")


def _one_of(name, value, names):
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(names)}")


def _numbers(model):
    for name in ("rtol", "atol", "learning_rate"):
        as_positive(name, getattr(model, name))
    for name in ("kinetic_energy", "jacobian_norm", "steer"):
        as_positive(name, getattr(model, name), zero=True)
    for name in ("weight_decay", "max_gradient"):
        if getattr(model, name) is not None:
            as_positive(name, getattr(model, name), zero=name == "weight_decay")
    if not as_positive("steer", model.steer, zero=True) < 1:
        raise ValueError(f"steer={model.steer!r} must be below 1, a part of the last interval")
    check_fraction(model.validation_fraction)


def _integers(model):
    least = {
        "max_iter": 1,
        "n_restarts": 1,
        "n_estimators": 1,
        "patience": 1,
        "batch_size": 1,
        "augment": 0,
        "random_state": 0,
        "n_jobs": None,
        "verbose": 0,
    }
    for name, low in least.items():
        value = getattr(model, name)
        if value is None and name in ("max_iter", "batch_size", "random_state", "n_jobs"):
            continue
        if name == "verbose" and isinstance(value, bool):
            continue
        bad = isinstance(value, bool) or not isinstance(value, (int, np.integer))
        if bad or (low is not None and value < low) or (name == "n_jobs" and value == 0):
            what = (
                "a positive integer" if low == 1 else "None or an integer >= 0" if name == "random_state" else "an integer"
            )
            raise ValueError(f"{name}={value!r} must be {what}" + (" >= 0" if low == 0 and name != "random_state" else ""))
