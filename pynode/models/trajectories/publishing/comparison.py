"""Several models of the same data, the best first."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.models.options import widths
from pynode.models.trajectories.publishing.summary import Summary, summarise
from pynode.models.trajectories.publishing.summary_text import aligned, html_table, number

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Models of the same data, sorted by AICc.

    Attributes
    ----------
    names : tuple of str
        The models, the best first.
    log_likelihood, n_estimated, aicc, bic, log_evidence : (m,) arrays
        See `Summary`.
    difference : (m,) array
        Of AICc, from the best. Burnham and Anderson (2002): up to 2 a model is nearly as good, above 10 it is not.
    weight : (m,) array
        Akaike's weights, exp(-difference / 2), which sum to 1.
    notes : tuple of str
        What to beware of.
    """

    names: tuple[str, ...]
    log_likelihood: Array
    n_estimated: Array
    aicc: Array
    difference: Array
    weight: Array
    bic: Array
    log_evidence: Array
    notes: tuple[str, ...]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        header = ["model", "log-likelihood", "estimated", "AICc", "difference", "weight", "BIC", "log evidence"]
        rows = []
        for j, name in enumerate(self.names):
            first = [_two(self.log_likelihood[j]), number(self.n_estimated[j]), _two(self.aicc[j]), _two(self.difference[j])]
            rows.append([name, *first, _share(self.weight[j]), _two(self.bic[j]), _two(self.log_evidence[j])])
        return header, rows

    def to_frame(self) -> Any:
        """The table as a pandas.DataFrame (needs pandas)."""
        import pandas

        columns = ("log_likelihood", "n_estimated", "aicc", "difference", "weight", "bic", "log_evidence")
        return pandas.DataFrame(
            {name: getattr(self, name) for name in columns}, index=pandas.Index(self.names, name="model")
        )

    def __str__(self) -> str:
        return "\n".join([*aligned(*self._table()), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(words)}</p>" for words in self.notes)
        return html_table(*self._table()) + notes


def _two(x: float) -> str:
    """A number with two decimals: differences between criteria count, not their sizes."""
    return "unknown" if np.isnan(x) else f"{x:.2f}"


def _share(x: float) -> str:
    return "" if np.isnan(x) else f"{x:.3f}" if x >= 5e-4 or x == 0 else f"{x:.0e}"


def compared(models: Sequence["NeuralODE"], names: Sequence[str] | None) -> Comparison:
    """The comparison of fitted models; names: in the same order."""
    for k, model in enumerate(models):
        if not hasattr(model, "report_") or not hasattr(model, "names_"):
            raise TypeError(f"model {k + 1} is {model!r}: compare takes fitted NeuralODEs")
        model.check_is_fitted()
    called = _names(models, names)
    for model, name in zip(models[1:], called[1:], strict=True):
        _check_same(models[0], model, called[0], name)
    summaries = [summarise(model, None, 0.95) for model in models]
    aicc = np.array([s.aicc for s in summaries])
    best = np.nanmin(aicc) if np.isfinite(aicc).any() else np.nan
    order = np.argsort(np.where(np.isnan(aicc), np.inf, aicc), kind="stable")
    difference = aicc - best if np.isfinite(best) else np.full(len(aicc), np.nan)
    share = np.exp(-0.5 * difference)
    weight = share / np.nansum(share) if np.isfinite(share).any() else share
    notes = _remarks(summaries, called)

    def sorted_(values: Any) -> Array:
        return np.asarray(values, dtype=np.float64)[order]

    return Comparison(
        tuple(called[k] for k in order),
        sorted_([s.log_likelihood for s in summaries]),
        sorted_([s.n_estimated for s in summaries]),
        sorted_(aicc),
        sorted_(difference),
        sorted_(weight),
        sorted_([s.bic for s in summaries]),
        sorted_([s.log_evidence for s in summaries]),
        tuple(notes),
    )


def _remarks(summaries: Sequence[Summary], names: Sequence[str]) -> list[str]:
    notes = []
    for s, name in zip(summaries, names, strict=True):
        if np.isnan(s.aicc):
            notes.append(f"{name}: how many numbers its data determine is unknown, so it has no criteria.")
        elif np.isinf(s.aicc):
            notes.append(f"{name}: it estimates as many numbers as there are readings, or nearly so.")
        if s.warnings:
            notes.append(f"{name}: its fit warned ({len(s.warnings)}), see its summary.")
    return notes


def _names(models: Sequence["NeuralODE"], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        if isinstance(names, str) or len(names) != len(models) or len(set(names)) != len(models):
            raise ValueError(f"names={names!r} must be {len(models)} different names, this model's first")
        return [str(name) for name in names]
    own = [f"hidden={widths(m.hidden)}" if m.field is None else m.field_.name for m in models]
    return [name if own.count(name) == 1 else f"{name} ({k + 1})" for k, name in enumerate(own)]


def _check_same(first: "NeuralODE", other: "NeuralODE", a: str, b: str) -> None:
    """Refuse models of different data, in words."""

    def refuse(words: str) -> None:
        raise ValueError(f"{a} and {b} cannot be compared: {words}; likelihoods are comparable for the same readings only")

    x, y = first.data_, other.data_
    if x is None or y is None:
        refuse(f"{a if x is None else b} was saved without its data")
    assert x is not None and y is not None
    if x.names != y.names:
        refuse(f"they are of {', '.join(x.names)} and of {', '.join(y.names)}")
    if len(x) != len(y):
        refuse(f"they were fitted to {len(x)} and to {len(y)} trajectories")
    n, m = first.report_["n_observed"], other.report_["n_observed"]
    if n != m:
        refuse(f"they were fitted to {n} and to {m} readings (early_stopping keeps some aside)")
    _check_readings(x, y, refuse)
    if not _alike(first.weight_, other.weight_):
        refuse("their readings have different weights")


def _check_readings(x: Trajectories, y: Trajectories, refuse: Any) -> None:
    for i in range(len(x)):
        same_times = len(x.t[i]) == len(y.t[i]) and np.array_equal(x.t[i], y.t[i])
        if not same_times:
            refuse(f"the times of trajectory {x.ids[i]} differ")
        if not np.array_equal(x.y[i], y.y[i], equal_nan=True):
            where = np.argwhere(~((x.y[i] == y.y[i]) | (np.isnan(x.y[i]) & np.isnan(y.y[i]))))[0]
            refuse(f"trajectory {x.ids[i]} differs in {x.names[where[1]]} at {x.time_name} = {x.t[i][where[0]]:g}")
    if not _alike(x.censored, y.censored):
        refuse("different readings are censored")


def _alike(a: Sequence[Any] | None, b: Sequence[Any] | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
