"""What a model file holds: a LatentODE as plain data, and back, trusting nothing."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.data.arrays import as_positive
from pynode.models.latent.belief import Units
from pynode.models.latent.training import implied_parameters, make_networks
from pynode.models.options import from_plain, to_plain
from pynode.models.storage import (
    check_implied,
    data_from_dict,
    data_to_dict,
    of_type,
    stored_array,
    stored_field,
    stored_history,
    stored_report,
    texts,
    without_nan,
)
from pynode.models.trajectories.series import n_inputs

if TYPE_CHECKING:
    from pynode.models.latent.latent_ode import LatentODE

REPORT: dict[str, type] = {
    "n_observed": int,
    "elbo": float,
    "iwae": float,
    "kl": float,
    "rmse": dict,
    "noise": dict,
}
"""What a report holds besides what those of all models do."""


def to_content(model: "LatentODE", data: bool = True) -> dict[str, Any]:
    """A fitted LatentODE as JSON values and arrays, for `pynode.data.files.write`."""
    return {
        "params": to_plain(model),
        "field": None if model.field is None else model.field.to_dict(),
        "theta": model.theta_,
        "units": asdict(model.units_),
        "names": list(model.names_),
        "time_name": model.time_name_,
        "history": model.history_,
        "report": without_nan(model.report_),
        "data": data_to_dict(model.data_) if data and model.data_ is not None else None,
    }


def from_content(content: dict[str, Any], make: Any) -> Any:
    """The model again, but for its noise; raises where the content makes no sense.

    Parameters
    ----------
    content : dict
        From `pynode.data.files.read`.
    make : type
        LatentODE.

    Returns
    -------
    LatentODE
    """
    field = None if content["field"] is None else stored_field(content["field"])
    model = from_plain(make, content["params"], field=field)
    names = texts(content["names"], "names")
    units = Units(**content["units"])
    _check_units(units, len(names))
    if model.field is not None and model.field.inputs != units.m:
        raise ValueError(f"the field has {model.field.inputs} control inputs, the scaling {units.m}")
    model.names_ = names
    model.time_name_ = of_type(content["time_name"], str, "the name of time")
    model.units_ = units
    model.t0_ = units.t0
    check_implied(implied_parameters(model, len(names), units.m), content["theta"])
    model.networks_ = make_networks(model, len(names), units)
    model.theta_ = stored_array(content["theta"], (model.networks_.n_params,), "theta")
    model.history_ = stored_history(content["history"])
    model.report_ = stored_report(content["report"], REPORT, names)
    model.random_state_ = model.report_["random_state"]
    model.data_ = None if content["data"] is None else data_from_dict(content["data"], names, model.time_name_)
    if model.data_ is not None and n_inputs(model.data_) != units.m:
        raise ValueError(f"the model has {units.m} control inputs, the data {n_inputs(model.data_)}")
    return model


def _check_units(units: Units, d: int) -> None:
    for name in ("shift", "scale"):
        if not (stored_array(getattr(units, name), (d,), name) > 0).all() and name == "scale":
            raise ValueError("scale must be positive")
    m = np.shape(units.u_shift)
    if len(m) != 1:
        raise ValueError("u_shift must hold a number for each control input")
    stored_array(units.u_shift, m, "u_shift")
    if not (stored_array(units.u_scale, m, "u_scale") > 0).all():
        raise ValueError("u_scale must be positive")
    of_type(units.t0, float, "t0")
    as_positive("t_scale", units.t_scale)
    as_positive("gap", units.gap)
