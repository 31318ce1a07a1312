"""What a fitted NeuralODE says for a publication: estimates, errors, intervals, criteria."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pynode.fields.parameters import Parameter, parameter_names
from pynode.models.trajectories.ensemble import chosen_by
from pynode.models.trajectories.intervals.averaged import is_found
from pynode.models.trajectories.known.refitting import Refitting
from pynode.models.trajectories.publishing.summary_text import as_html, as_text, number
from pynode.models.trajectories.series import input_names
from pynode.training.criteria import akaike, akaike_corrected, bayes
from pynode.training.curriculum import FitError
from pynode.training.error_models import ERROR_MODELS
from pynode.training.likelihood.profile import Profile, Scale
from pynode.training.sizes import prior_groups
from pynode.training.verdict.causes import LOOSE

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

SCALES = {"positive": "log", "bounded": "logit"}
"""Constraint -> the coordinate in which an interval is symmetric; "linear" without one."""

LARGE = 0.5
"""Standard errors beyond this part of the estimates ask for combinations of parameters."""

NEAR = 1e-6
"""A bounded parameter is at a bound within this part of the range; a positive one at 0 below this part of its start."""


@dataclass(frozen=True)
class Group:
    """An array of weights of a network, which mean nothing one by one.

    Attributes
    ----------
    name : str
    shape : tuple of int
    size : float
        Root mean square of the weights.
    """

    name: str
    shape: tuple[int, ...]
    size: float


@dataclass(frozen=True, repr=False)
class Summary:
    """The results of a fit: print it, show it in a notebook, or take its numbers.

    Attributes
    ----------
    title : str
        What was fitted to what.
    names : tuple of str
        The parameters, m of them; arrays have a name for each number. Weights of networks are in `groups`.
    units : tuple of str
        Empty where not given.
    estimate, standard_error : (m,) arrays
        NaN: the data do not determine it. 0: frozen.
    low, high : (m,) arrays
        The confidence interval: Wald's, with Student's quantiles, or that of the profile likelihood.
    scale : tuple of str
        The coordinate in which Wald's interval is symmetric: "log" for positive parameters, whose interval then
        stays positive, "logit" for bounded ones, else "linear".
    level : float
        Of confidence.
    kind : {"Wald", "profile likelihood"}
        Of the intervals.
    status : tuple of str
        "" for an estimate like any other, "frozen", "at 0", "at its bound 1", "not determined".
    covariance, correlation : (m, m) arrays
        Of the estimates.
    combinations : tuple of str
        Sentences about parameters of which the data determine combinations only.
    groups : tuple of Group
        Weights of networks.
    log_likelihood : float
        Of the measured numbers.
    n_observed : int
        How many those are.
    degrees : float
        Numbers estimated from them, besides those of the errors: parameters (of networks: effective ones) and initial
        states.
    n_noise : int
        Parameters of the errors.
    aic, aicc, bic : float
        Akaike's criterion, its correction for few readings, the Bayesian criterion; all count degrees + n_noise.
    log_evidence : float
        log p(data) by Laplace's approximation; without priors -bic / 2.
    r2, rmse : dict
        For each measured column.
    noise : dict
        Column -> parameters of its errors, by name.
    noise_of : str
        What the errors are those of: "states", "logarithms", "readings".
    warnings : tuple of str
        Those of the fit.
    notes : tuple of str
        How the numbers were found, and what is missing.
    profiles : dict
        Name -> `pynode.training.likelihood.profile.Profile`, if asked for.
    """

    title: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    estimate: Array
    standard_error: Array
    low: Array
    high: Array
    scale: tuple[str, ...]
    level: float
    kind: str
    status: tuple[str, ...]
    covariance: Array
    combinations: tuple[str, ...]
    groups: tuple[Group, ...]
    log_likelihood: float
    n_observed: int
    degrees: float
    n_noise: int
    log_evidence: float
    r2: dict[str, float]
    rmse: dict[str, float]
    noise: dict[str, dict[str, float]]
    noise_of: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    profiles: dict[str, Profile] = field(default_factory=dict)

    @property
    def n_estimated(self) -> float:
        """Numbers estimated from the data, those of the errors included."""
        return self.degrees + self.n_noise

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return akaike(self.log_likelihood, self.n_estimated)

    @property
    def aicc(self) -> float:
        """Akaike's information criterion, corrected for few readings."""
        return akaike_corrected(self.log_likelihood, self.n_estimated, self.n_observed)

    @property
    def bic(self) -> float:
        """The Bayesian information criterion."""
        return bayes(self.log_likelihood, self.n_estimated, self.n_observed)

    @property
    def correlation(self) -> Array:
        """(m, m) correlations of the estimates; NaN for those without a standard error."""
        error = np.where(self.standard_error > 0, self.standard_error, np.nan)
        return np.asarray(self.covariance / error / error[:, None], dtype=np.float64)

    def to_frame(self) -> Any:
        """The parameters as a pandas.DataFrame (needs pandas), a row each, the names being its index."""
        import pandas

        columns = {
            "estimate": self.estimate,
            "standard_error": self.standard_error,
            "low": self.low,
            "high": self.high,
            "unit": list(self.units),
            "scale": list(self.scale),
            "status": list(self.status),
        }
        return pandas.DataFrame(columns, index=pandas.Index(self.names, name="parameter"))

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self)


def summarise(
    model: "NeuralODE",
    units: Mapping[str, str] | None,
    level: float,
    profiles: Mapping[str, Profile] | None = None,
) -> Summary:
    """The summary of a fitted model; profiles: by name, whose intervals it then has."""
    report = model.report_
    field, theta = model.field_, model.theta_
    hidden = np.concatenate([np.empty(0, dtype=np.intp), *_weights(model)])
    shown = np.setdiff1d(np.arange(len(theta)), hidden)
    every = parameter_names(field.spec)
    names = tuple(every[k] for k in shown)
    of = [p for p in field.spec for _ in range(p.size)]
    constraints = [of[k].constraint for k in shown]
    start = np.concatenate([np.empty(0), *(_start(p) for p in field.spec)])[shown]
    estimate = np.array(theta[shown])
    n = len(shown)
    covariance = np.full((n, n), np.nan) if model.covariance_ is None else np.array(model.covariance_[np.ix_(shown, shown)])
    frozen = np.array([c[0] == "frozen" for c in constraints], bool)
    error = np.where(frozen, 0.0, np.sqrt(np.maximum(np.diag(covariance), 0.0)))
    left = report["n_observed"] - report["degrees"]
    scales = [Scale(SCALES.get(c[0], "linear"), *(c[1:] if c[0] == "bounded" else ())) for c in constraints]
    low, high = wald(estimate, error, scales, level, left)
    status = tuple(_status(constraints[j], estimate[j], error[j], start[j], model.covariance_ is not None) for j in range(n))
    for name, profile in (profiles or {}).items():
        low[names.index(name)], high[names.index(name)] = profile.low, profile.high
    r2 = _r2(model)
    noise = _noise(report)
    return Summary(
        title=_title(model),
        names=names,
        units=_units(names, [of[k].name for k in shown], units),
        estimate=estimate,
        standard_error=error,
        low=low,
        high=high,
        scale=tuple(s.kind for s in scales),
        level=level,
        kind="Wald" if not profiles else "profile likelihood",
        status=status,
        covariance=covariance,
        combinations=_combinations(model, every, error, estimate),
        groups=tuple(_group(p, theta) for p in field.spec if np.isin(p.offset, hidden) and p.size),
        log_likelihood=float(report["log_likelihood"]),
        n_observed=int(report["n_observed"]),
        degrees=float(report["degrees"]),
        n_noise=sum(len(own) for own in noise.values()),
        log_evidence=float(report["log_evidence"]),
        r2=r2,
        rmse=dict(report["rmse"]),
        noise=noise,
        noise_of=report["noise_of"],
        warnings=tuple(report["warnings"]),
        notes=(*_notes(model, left, profiles), *_conditions(names, status, error)),
        profiles=dict(profiles or {}),
    )


def wald(estimate: Array, error: Array, scales: Sequence[Scale], level: float, left: float) -> tuple[Array, Array]:
    """(low, high) of Wald's intervals with Student's quantile of `left` degrees of freedom, symmetric in the scales."""
    quantile = float(stdtrit(left, 0.5 + 0.5 * level)) if left > 0 else np.nan
    low = np.empty(len(estimate))
    high = np.empty(len(estimate))
    for j, scale in enumerate(scales):
        slope = scale.slope(estimate[j])
        if error[j] == 0 or not slope > 0:
            low[j] = high[j] = estimate[j] if error[j] == 0 else np.nan
            continue
        u, half = scale.inside(estimate[j]), quantile * error[j] / slope
        low[j], high[j] = (scale.outside(u - half), scale.outside(u + half)) if np.isfinite(half) else (np.nan, np.nan)
    return low, high


def _weights(model: "NeuralODE") -> list[NDArray[np.intp]]:
    """Positions of what belongs to networks."""
    return prior_groups(model.field_)


def _start(p: Parameter) -> Array:
    """The initial values of a parameter, if it has any."""
    return np.array(p.init[1], dtype=np.float64) if p.init[0] == "value" else np.full(p.size, np.nan)


def _group(p: Parameter, theta: Array) -> Group:
    own = theta[p.offset : p.stop]
    return Group(p.name, p.shape, float(np.sqrt(np.mean(own * own))))


def _units(names: Sequence[str], arrays: Sequence[str], units: Mapping[str, str] | None) -> tuple[str, ...]:
    """The unit of each number: that of its own name, or of its array."""
    given = dict(units or {})
    unknown = [name for name in given if name not in names and name not in arrays]
    if unknown:
        raise ValueError(f"units has {unknown[0]!r}, which is no parameter; there are {', '.join(dict.fromkeys(arrays))}")
    return tuple(str(given.get(name, given.get(array, ""))) for name, array in zip(names, arrays, strict=True))


def _status(constraint: tuple[Any, ...], value: float, error: float, start: float, known: bool) -> str:
    """What is to be said of an estimate."""
    if constraint[0] == "frozen":
        return "frozen"
    if constraint[0] == "bounded":
        low, high = constraint[1:]
        for bound in (low, high):
            apart = abs(value - bound)
            if apart < NEAR * (high - low) and not 0 < error < LOOSE * apart:
                return f"at its bound {bound:g}"
    if constraint[0] == "positive" and (value == 0 or value < NEAR * start) and np.isnan(error):
        return "at 0"
    return "not determined" if known and not np.isfinite(error) else ""


def _title(model: "NeuralODE") -> str:
    report = model.report_
    what = "NeuralODE" if model.field is None else model.field_.name
    of = ", ".join(model.names_) + (" (logarithms)" if model.log else "")
    n = report["n_samples"]
    return f"{what} of {of}: {report['n_observed']} readings in {n} {'trajectory' if n == 1 else 'trajectories'}"


def _noise(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Column -> parameters of its errors."""
    models = report.get("error_models")
    if models is None:
        return {name: {"additive": x} if np.isfinite(x) else {} for name, x in report["noise"].items()}
    found = {}
    for name, row in models.items():
        kind = ERROR_MODELS[row["model"]]
        found[name] = {"of the logarithm" if kind.logarithmic else k: row[k] for k in kind.parameters if k in row}
    return found


def _r2(model: "NeuralODE") -> dict[str, float]:
    """The part of the variance of each column that is explained, of what was trained on; NaN without the data.

    Censored readings are left out.
    """
    data = model.data_
    found = {}
    for c, name in enumerate(model.names_):
        found[name] = np.nan
        if data is None:
            continue
        y = np.concatenate([x[:, c] for i, x in enumerate(data.y) if i not in model.aside_])
        if data.censored is not None:
            y = np.where(np.concatenate([x[:, c] for x in data.censored]) != 0, np.nan, y)
        y = y[~np.isnan(y)]
        spread = float(np.var(y)) if len(y) else 0.0
        rmse = float(model.report_["rmse"][name])
        found[name] = 1.0 - rmse**2 / spread if spread > 0 else np.nan
    return found


def _combinations(model: "NeuralODE", names: Sequence[str], error: Array, estimate: Array) -> tuple[str, ...]:
    """Sentences about parameters of which combinations are determined, where standard errors are missing or large."""
    doubtful = np.isnan(error) | (error > LARGE * np.abs(estimate))
    if model.field is None or model.covariance_ is None or model.data_ is None or model.estimators_ or doubtful.sum() < 2:
        return ()
    try:
        return tuple(group.words([names[k] for k in range(len(names))]) for group in Refitting(model).combinations(names))
    except (FitError, ValueError):
        return ()


def _conditions(names: Sequence[str], status: Sequence[str], error: Array) -> list[str]:
    """That errors hold with parameters where they are whose own are unknown."""
    ends = [f"{name} {s}" for name, s, x in zip(names, status, error, strict=True) if s.startswith("at ") and np.isnan(x)]
    if not ends or not (error > 0).any():
        return []
    return [f"The standard errors hold with {', '.join(ends)}: what is found with other values there may lie outside them."]


def _of_inputs(model: "NeuralODE") -> list[str]:
    """How control inputs were taken between their times."""
    found = model.report_.get("inputs")
    if not model.field_.inputs or found is None:
        return []
    kind = {"previous": "held until the next time", "linear": "straight lines between their times"}.get(
        found["kind"], f"{found['kind']} between their times"
    )
    names = input_names(model.columns_, len(found["delay"]))
    late = [f"{name} {number(delay)} later" for name, delay in zip(names, found["delay"], strict=True) if delay]
    return [f"Control inputs: {kind}{', taking effect ' + ', '.join(late) if late else ''}."]


def _notes(model: "NeuralODE", left: float, profiles: Mapping[str, Profile] | None) -> list[str]:
    """How the numbers were found, and what is missing."""
    notes = []
    if is_found(model):
        message = model.report_["message"]
        notes.append(message[0].upper() + message[1:] + ".")
    if model.estimators_:
        notes.append(f"Of {len(model.estimators_)} members of an ensemble, the one of the {chosen_by(model)}.")
    if model.covariance_ is None and model.field_.n_params:
        notes.append(
            "No standard errors: this way of training gives no uncertainty of the parameters "
            "(optimizer='levenberg-marquardt' does)."
        )
    elif not left > 0:
        notes.append("No intervals: as many numbers are estimated as were read.")
    for profile in (profiles or {}).values():
        notes += [words[0].upper() + words[1:] + "." for words in profile.words]
    return notes + _of_inputs(model)
