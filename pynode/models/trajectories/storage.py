"""What a model file holds: a NeuralODE as plain data, and back, trusting nothing."""

import numpy as np

from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.models.base import plain_params
from pynode.models.trajectories import options
from pynode.models.trajectories.scaling import Scaling
from pynode.training import curriculum
from pynode.training.curriculum import Stage

REPORT = {
    "status": str,
    "loss": float,
    "rmse": dict,
    "noise": dict,
    "noise_of": str,
    "optimizer": str,
    "effective_parameters": float,
    "seed": int,
    "seconds": float,
    "nfe": int,
    "evaluations": int,
    "n_params": int,
    "n_trajectories": int,
    "n_observed": int,
    "time_scale": float,
    "stages": list,
    "version": str,
}
"""What a report holds."""


HISTORY = {name: np.dtype(np.int64 if name == "stage" else np.float64) for name in curriculum.STAGED_HISTORY}


def to_content(model, data=True):
    """A fitted NeuralODE as JSON values and arrays, for `pynode.files.write`."""
    return {
        "model": "NeuralODE",
        "params": plain_params(model),
        "own_field": model.field is not None,
        "field": model.field_.to_dict(),
        "theta": model.theta_,
        "n_unobserved": model.n_unobserved_,
        "scaling": vars(model.scaling_),
        "names": list(model.names_),
        "time_name": model.time_name_,
        "initial_states": model.initial_states_,
        "covariance": model.covariance_,
        "state_gain": model._state_gain,
        "state_covariance": model._state_covariance,
        "report": without_nan(model.report_),
        "estimators": [to_content(member, False) for member in model.estimators_],
        "history": {name: np.asarray(model.history_[name], dtype=dtype) for name, dtype in HISTORY.items()},
        "data": data_to_dict(model.data_) if data and model.data_ is not None else None,
    }


def from_content(content, make, member=False):
    """The model again.

    Parameters
    ----------
    content : dict
        From `pynode.files.read`.
    make : callable
        make(**params) -> an unfitted model.

    Raises
    ------
    Exception
        Of any kind, where the content is not that of a model.
    """
    if content["model"] != "NeuralODE":
        raise ValueError(f"unknown kind of model {content['model']!r}")
    field = Field.from_dict(content["field"])
    of_type(field.name, str, "the name of the field")
    params = content["params"] | {"field": field if content["own_field"] else None}
    tuples = {name: tuple(x) for name, x in params.items() if name in ("hidden", "windows") and isinstance(x, list)}
    model = make(**(params | tuples))
    options.check(model)
    names, extra = tuple(content["names"]), of_type(content["n_unobserved"], int, "n_unobserved")
    seen = field.d - extra
    if not all(isinstance(name, str) for name in names) or len(names) != seen or extra < 0 or field.n_out != field.d:
        raise ValueError(f"the field has {field.d} states, {extra} of them unobserved, the names are {names}")
    theta, states = content["theta"], content["initial_states"]
    if theta.shape != (field.n_params,) or not np.isfinite(theta).all():
        raise ValueError(f"theta must be {field.n_params} finite numbers")
    if states.ndim != 2 or states.shape[1] != field.d or not np.isfinite(states).all():
        raise ValueError(f"the initial states must be finite and of shape (B, {field.d})")
    b, d, p = len(states), field.d, field.n_params
    model.covariance_ = _optional(content["covariance"], (p, p), "the covariance")
    model._state_gain = _optional(content["state_gain"], (b, d, p), "the gain of the initial states")
    model._state_covariance = _optional(content["state_covariance"], (b, d, d), "the covariance of the initial states")
    scaling = Scaling(**content["scaling"])
    fits = scaling.shift.shape == (field.d,) and scaling.u_shift.shape == (field.inputs,)
    if not fits or scaling.log is not bool(model.log) or scaling.extra != extra:
        raise ValueError("the scaling does not fit the field")
    data = None if content["data"] is None else data_from_dict(content["data"], names, content["time_name"])
    if data is not None and (0 if data.signal is None else data.signal.m) != field.inputs:
        raise ValueError(f"the field has {field.inputs} control inputs, the data others")
    if data is not None and len(data) != len(states):
        raise ValueError(f"{len(states)} initial states for {len(data)} trajectories")
    model.field_, model.theta_, model.scaling_, model.initial_states_ = field, theta, scaling, states
    model.names_, model.time_name_, model.data_ = names, as_text(content["time_name"]), data
    model.history_, model.report_ = _history(content["history"]), _report(content["report"], names)
    model.seed_, model.n_unobserved_ = model.report_["seed"], extra
    model.estimators_ = [] if member else [from_content(part, make, member=True) for part in content["estimators"]]
    if any(m.names_ != names or m.n_unobserved_ != extra or m.field_.inputs != field.inputs for m in model.estimators_):
        raise ValueError("the members of the ensemble do not fit each other")
    for part in model.estimators_:
        if data is not None and len(part.initial_states_) == len(data):
            part.data_ = data
    return model


def _optional(array, shape, what):
    """An array of this shape, or None."""
    if array is not None and (array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all()):
        raise ValueError(f"{what} must be finite and of shape {shape}")
    return array


def _history(stored):
    history = {name: stored[name] for name in HISTORY}
    if any(x.ndim != 1 or x.shape != history["loss"].shape or x.dtype != HISTORY[n] for n, x in history.items()):
        raise ValueError("the history must be vectors of one length")
    return history


def _report(stored, names):
    stored = of_type(stored, dict, "the report")
    report = {name: of_type(stored[name], kind, f"{name} of the report") for name, kind in REPORT.items()}
    for name in ("rmse", "noise"):
        if tuple(report[name]) != names:
            raise ValueError(f"{name} of the report is not by state")
        report[name] = {state: of_type(x, float, name) for state, x in report[name].items()}
    kinds = Stage.__annotations__
    report["stages"] = [{name: of_type(stage[name], kinds[name], "a stage") for name in kinds} for stage in report["stages"]]
    return report


def of_type(value, kind, what):
    """The value if it is of this type; None is NaN."""
    if kind is float:
        value = float("nan") if value is None else value
        if type(value) is int and abs(value) < 2**53:
            value = float(value)
    if type(value) is not kind:
        raise ValueError(f"{what} is not of type {kind.__name__}")
    return value


def as_text(value):
    return of_type(value, str, "the name of time")


def data_to_dict(data):
    return {
        "t": np.concatenate(data.t),
        "y": np.concatenate(data.y),
        "lengths": np.array(data.lengths, dtype=np.int64),
        "ids": [i if isinstance(i, (str, int)) else str(i) for i in data.ids],
        "signal": None if data.signal is None else _signal_to_dict(data.signal),
    }


def _signal_to_dict(signal):
    return {
        "kind": signal.kind,
        "shared": signal.shared,
        "t": None if signal.kind == "constant" else np.concatenate(signal.t),
        "u": np.concatenate(signal.u),
        "lengths": np.array([len(u) for u in signal.u], dtype=np.int64),
    }


def _signal_from_dict(stored):
    if stored is None:
        return None
    lengths, u, t = stored["lengths"], stored["u"], stored["t"]
    if lengths.ndim != 1 or (lengths < 1).any() or lengths.sum() != len(u) or not np.isfinite(u).all():
        raise ValueError("the control inputs make no sense")
    cuts = np.cumsum(lengths)[:-1]
    us = np.split(u, cuts)
    if stored["kind"] == "constant":
        return Signal(None, us[0][0] if stored["shared"] else [v[0] for v in us], "constant")
    ts = np.split(t, cuts)
    return Signal(ts[0], us[0], stored["kind"]) if stored["shared"] else Signal(ts, us, stored["kind"])


def data_from_dict(stored, names, time_name):
    t, y, lengths = stored["t"], stored["y"], stored["lengths"]
    if lengths.ndim != 1 or (lengths < 1).any() or lengths.sum() != len(t) or y.shape != (len(t), len(names)):
        raise ValueError("the lengths of the trajectories do not fit the data")
    if not all(type(i) in (str, int) for i in stored["ids"]):
        raise ValueError("ids must be strings or integers")
    cuts = np.cumsum(lengths)[:-1]
    parts = tuple(np.split(t, cuts)), tuple(np.split(y, cuts))
    return Trajectories(*parts, names, as_text(time_name), tuple(stored["ids"]), _signal_from_dict(stored["signal"]))


def without_nan(value):
    """Numbers that JSON lacks as None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
