"""What a model file holds: a NeuralODE as plain data, and back, trusting nothing."""

from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from pynode.data.clock import Clock
from pynode.models.options import from_plain, to_plain
from pynode.models.storage import (
    data_from_dict,
    data_to_dict,
    of_type,
    optional_array,
    stored_array,
    stored_field,
    stored_history,
    stored_report,
    texts,
    without_nan,
)
from pynode.models.trajectories.inputs import CHOICE
from pynode.models.trajectories.intervals.averaged import as_content, from_stored
from pynode.models.trajectories.intervals.calibration import Calibration
from pynode.models.trajectories.intervals.predicted import Measure
from pynode.models.trajectories.intervals.shown import as_content as shown_content
from pynode.models.trajectories.intervals.shown import from_stored as shown_from
from pynode.models.trajectories.known.protocol_storage import as_option, protocol_from_dict, protocol_to_dict
from pynode.models.trajectories.process_noise import as_content as driven_content
from pynode.models.trajectories.process_noise import from_stored as driven_from
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import n_inputs
from pynode.models.trajectories.visits import Visited, as_dict
from pynode.training.error_models import ERROR_MODELS
from pynode.training.state import Stage

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

REPORT: dict[str, type] = {
    "nfe": int,
    "rmse": dict,
    "noise": dict,
    "noise_of": str,
    "optimizer": str,
    "effective_parameters": float,
    "n_evaluations": int,
    "n_observed": int,
    "time_scale": float,
    "stages": list,
    "log_likelihood": float,
    "degrees": float,
    "log_evidence": float,
}
"""What a report holds besides what those of all models do; with a protocol there is "error_models" too."""


def to_content(model: "NeuralODE", data: bool = True) -> dict[str, Any]:
    """A fitted NeuralODE as JSON values and arrays, for `pynode.data.files.write`."""
    members = [to_content(member, False) | {"driven": driven_content(member.driven_, data)} for member in model.estimators_]
    return {
        "model": "NeuralODE",
        "params": to_plain(model),
        "own_field": model.field is not None,
        "field": model.field_.to_dict(),
        "theta": model.theta_,
        "n_unobserved": model.n_unobserved_,
        "scaling": vars(model.scaling_),
        "names": list(model.names_),
        "time_name": model.time_name_,
        "clock": None if model.clock_ is None else model.clock_.to_dict(),
        "columns": {name: list(x) if isinstance(x, tuple) else x for name, x in model.columns_.items()},
        "initial_states": model.initial_states_,
        "covariance": model.covariance_,
        "determined_covariance": model.determined_covariance_,
        "state_gain": model.state_gain_,
        "state_covariance": model.state_covariance_,
        "report": without_nan(model.report_),
        "estimators": members,
        "history": model.history_,
        "calibration": None if model.calibration_ is None else vars(model.calibration_),
        "averaged": as_content(model.averaged_),
        "driven": driven_content(model.driven_, data and model.data_ is not None),
        "shown": shown_content(model, Measure.of(model).logs, data),
        "in_frames": model.in_frames_,
        "visited": as_dict(model.visited_),
        "strays": list(model.strays_),
        "aside": list(model.aside_),
        "input_kind": model.input_kind_,
        "protocol": None if model.protocol_ is None else protocol_to_dict(model.protocol_),
        "data": data_to_dict(model.data_) if data and model.data_ is not None else None,
        "weight": np.concatenate(model.weight_) if data and model.weight_ is not None else None,
    }


def from_content(content: dict[str, Any], make: type["NeuralODE"], member: bool = False) -> "NeuralODE":
    """The model again.

    Parameters
    ----------
    content : dict
        From `pynode.data.files.read`.
    make : type
        NeuralODE.
    member : bool
        It is one of an ensemble, and has no members of its own.

    Returns
    -------
    NeuralODE

    Raises
    ------
    Exception
        Of any kind, where the content is not that of a model.
    """
    if content["model"] != "NeuralODE":
        raise ValueError(f"unknown kind of model {content['model']!r}")
    field = stored_field(content["field"])
    of_type(field.name, str, "the name of the field")
    protocol = None if content.get("protocol") is None else protocol_from_dict(content["protocol"], field)
    parts = {} if protocol is None else {"observe": protocol.observe, "initial": as_option(protocol.initial)}
    model: NeuralODE = from_plain(make, content["params"], field=field if content["own_field"] else None, **parts)
    model.field_ = field
    model.protocol_ = protocol
    _restore_states(model, content)
    _restore_parameters(model, content)
    _restore_calibration(model, content)
    _restore_data(model, content)
    _restore_visited(model, content)
    model.driven_ = driven_from(content.get("driven"), model)
    model.history_ = stored_history(content["history"], ("stage",))
    if model.history_["stage"].dtype != np.int64:
        raise ValueError("the stages of the history must be integers")
    model.report_ = _report(content["report"], model.names_, REPORT)
    model.random_state_ = model.report_["random_state"]
    model.estimators_ = [] if member else [from_content(part, make, member=True) for part in content["estimators"]]
    _check_members(model)
    for part, stored in zip(model.estimators_, () if member else content["estimators"], strict=True):
        part.driven_ = driven_from(stored.get("driven"), part)  # now that it has the data
    return model


def _restore_states(model: "NeuralODE", content: dict[str, Any]) -> None:
    """What the states are, and their scaling."""
    field = model.field_
    names = texts(content["names"], "names")
    extra = of_type(content["n_unobserved"], int, "n_unobserved")
    measured = field.d - extra if model.protocol_ is None else model.protocol_.n_measured
    if len(names) != measured or extra < 0 or field.n_out != field.d:
        raise ValueError(f"the field has {field.d} states, {extra} of them unobserved, the names are {names}")
    scaling = Scaling(**content["scaling"])
    fits = scaling.shift.shape == (field.d,) and scaling.u_shift.shape == (field.inputs,)
    if not fits or scaling.log is not bool(model.log) or scaling.extra != extra:
        raise ValueError("the scaling does not fit the field")
    model.names_ = names
    model.time_name_ = of_type(content["time_name"], str, "the name of time")
    model.clock_ = None if content["clock"] is None else Clock.from_dict(content["clock"])
    model.columns_ = _columns(content["columns"], names, model.time_name_)
    model.n_unobserved_ = extra
    model.scaling_ = scaling


def _columns(stored: Any, names: tuple[str, ...], time_name: str) -> dict[str, Any]:
    """The columns of tables from which the model was fitted."""
    id_name = stored["id"]
    if stored["time"] != time_name or texts(stored["state"], "the columns of states") != names:
        raise ValueError("the columns are not those of the states and of time")
    if id_name is not None:
        of_type(id_name, str, "the column of ids")
    return {"time": time_name, "state": names, "id": id_name, "input": texts(stored["input"], "the columns of inputs")}


def _restore_parameters(model: "NeuralODE", content: dict[str, Any]) -> None:
    """Parameters and initial states, with their uncertainty."""
    d, p = model.field_.d, model.field_.n_params
    b = len(content["initial_states"])
    model.theta_ = stored_array(content["theta"], (p,), "theta")
    model.initial_states_ = stored_array(content["initial_states"], (b, d), "the initial states")
    model.covariance_ = optional_array(content["covariance"], (p, p), "the covariance", gaps=True)
    determined = content.get("determined_covariance")
    model.determined_covariance_ = optional_array(determined, (p, p), "the covariance of what is determined", gaps=True)
    model.state_gain_ = optional_array(content["state_gain"], (b, d, p), "the gain of the initial states")
    model.state_covariance_ = optional_array(content["state_covariance"], (b, d, d), "the covariance of the initial states")


def _restore_calibration(model: "NeuralODE", content: dict[str, Any]) -> None:
    """How wide intervals must be, or None; files of models before there were intervals say nothing of them."""
    stored = content.get("calibration")
    model.in_frames_ = of_type(content.get("in_frames", False), bool, "in_frames")
    model.calibration_ = None
    model.averaged_ = from_stored(content.get("averaged"), model.field_.d, model.field_.inputs)
    model.shown_ = shown_from(content.get("shown"), len(model.initial_states_), len(model.names_), model.field_.d)
    if stored is None:
        return
    n = (len(model.names_),)
    factors = ("inflation", "growth", "process", "strange", "independent")
    numbers = {name: of_type(stored[name], float, name) for name in factors}
    scores = stored_array(stored["scores"], (len(stored["scores"]),), "the scores")
    plain = stored.get("plain", np.zeros(0))  # older files have none
    plain = stored_array(plain, (len(plain),), "the errors in noise")
    noise = stored_array(stored["noise"], n, "the noise", gaps=True)
    misfit = stored_array(stored["misfit"], n, "the misfit")
    degrees = stored.get("degrees", np.inf)
    if not (type(degrees) is float and degrees > 0):
        raise ValueError(f"the degrees of freedom of the noise must be positive, not {degrees!r}")
    model.calibration_ = Calibration(noise, misfit, scores=scores, plain=plain, degrees=degrees, **numbers)


def _restore_visited(model: "NeuralODE", content: dict[str, Any]) -> None:
    """Where it was while it was trained, without which data, and how inputs were taken; older files do not say."""
    stored = content.get("visited")
    model.visited_ = None
    model.strays_ = tuple(of_type(i, int, "strays") for i in of_type(content.get("strays", []), list, "strays"))
    model.aside_ = tuple(of_type(i, int, "aside") for i in of_type(content.get("aside", []), list, "aside"))
    kind: Any = content.get("input_kind", "linear")
    if kind not in CHOICE:
        raise ValueError(f"input_kind {kind!r} is unknown")
    model.input_kind_ = kind
    if stored is not None:
        d, n = model.field_.d, len(stored["states"])
        shapes = {"states": (n, d), "inputs": (n, model.field_.inputs), "low": (d,), "high": (d,)}
        model.visited_ = Visited(**{name: stored_array(stored[name], shape, name) for name, shape in shapes.items()})


def _restore_data(model: "NeuralODE", content: dict[str, Any]) -> None:
    """The trajectories it was fitted to, or None."""
    model.data_ = None
    model.weight_ = None
    if content["data"] is None:
        return
    data = data_from_dict(content["data"], model.names_, model.time_name_, model.clock_)
    if n_inputs(data) != model.field_.inputs:
        raise ValueError(f"the field has {model.field_.inputs} control inputs, the data others")
    if len(data) != len(model.initial_states_):
        raise ValueError(f"{len(model.initial_states_)} initial states for {len(data)} trajectories")
    model.data_ = data
    if content.get("weight") is not None:
        weight = stored_array(content["weight"], (sum(data.lengths), data.d), "the weights")
        model.weight_ = np.split(weight, np.cumsum(data.lengths)[:-1])


def _check_members(model: "NeuralODE") -> None:
    """Members of an ensemble must be of the same states and inputs; they share its data."""
    for part in model.estimators_:
        same_states = part.names_ == model.names_ and part.n_unobserved_ == model.n_unobserved_
        if not same_states or part.field_.inputs != model.field_.inputs:
            raise ValueError("the members of the ensemble do not fit each other")
        if model.data_ is not None and len(part.initial_states_) == len(model.data_):
            part.data_ = model.data_


def _report(stored: Any, names: tuple[str, ...], more: dict[str, type]) -> dict[str, Any]:
    models = of_type(stored, dict, "the report").get("error_models")
    report = stored_report({k: x for k, x in stored.items() if k not in ("error_models", "inputs")}, more, names)
    if stored.get("inputs") is not None:
        report["inputs"] = _inputs(stored["inputs"])
    if models is not None:
        report["error_models"] = _error_models(models, names)
    report["stages"] = [_stage(entry) for entry in report["stages"]]
    return report


def _stage(stored: Any) -> dict[str, Any]:
    """A stage of training; files of older models do not say how long its windows were, and whether it was a trial."""
    intervals = stored.get("intervals")
    more = {
        "intervals": None if intervals is None else of_type(intervals, int, "a stage"),
        "trial": of_type(stored.get("trial", False), bool, "a stage"),
    }
    return {
        name: of_type(stored[name], kind, "a stage") for name, kind in get_type_hints(Stage).items() if name not in more
    } | more


def _inputs(stored: Any) -> dict[str, Any]:
    """How control inputs were taken."""
    delay = [of_type(x, float, "a delay") for x in of_type(stored["delay"], list, "delays")]
    tried = of_type(stored["log_evidence"], dict, "evidence")
    evidence = {of_type(name, str, "what was tried"): of_type(x, float, "evidence") for name, x in tried.items()}
    return {"kind": of_type(stored["kind"], str, "a kind of inputs"), "delay": delay, "log_evidence": evidence}


def _error_models(stored: Any, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Column -> its error model and the parameters of that."""
    if tuple(of_type(stored, dict, "the error models")) != names:
        raise ValueError("the error models are not by column")
    found = {}
    for name, row in stored.items():
        kind = of_type(row["model"], str, "an error model")
        parameters = {k: of_type(x, float, f"{k} of an error model") for k, x in row.items() if k != "model"}
        if not set(parameters) <= set(ERROR_MODELS[kind].parameters):
            raise ValueError(f"the error model {kind!r} has other parameters than {', '.join(parameters)}")
        found[name] = {"model": kind} | parameters
    return found
