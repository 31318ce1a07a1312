"""What all models have in common: options as in scikit-learn, files, reports, and the check that a model was fitted."""

import importlib
import os
import secrets
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pynode import _version
from pynode.data import files
from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.models import options

MODELS = {
    "NeuralODE": "pynode.models.trajectories.neural_ode",
    "NeuralODEClassifier": "pynode.models.flows.predictors",
    "NeuralODERegressor": "pynode.models.flows.predictors",
    "CNF": "pynode.models.flows.cnf",
    "LatentODE": "pynode.models.latent.latent_ode",
}
"""Models that files hold: the module of each, whose class has `from_content`."""


MESSAGES = {
    "finished": "all iterations were done, or nothing was left to improve",
    "early": "the loss on the data kept aside no longer fell",
    "stopped": "a callback asked for it",
    "interrupted": "interrupted by the user; the model keeps the best so far",
}
"""What the statuses of reports mean."""


class NotFittedError(ValueError, AttributeError):
    """The model was not fitted yet."""


class Estimator:
    """Options as in scikit-learn, files, and the check that a model was fitted.

    Below it comes a dataclass of options (`pynode.models.options`). A model defines `to_content()`, plain data for a file,
    and `from_content(content)`, which trusts nothing.
    """

    kind: ClassVar[str] = "model"
    """What scikit-learn calls it."""

    theta_: NDArray[np.float64]
    history_: dict[str, NDArray[Any]]
    report_: dict[str, Any]
    random_state_: int

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The options of the constructor by name, as in scikit-learn.

        Parameters
        ----------
        deep : bool, default True
            No option is itself a model, so this changes nothing.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in options.table(self)}

    def set_params(self, **params: Any) -> Self:
        """Change options, as in scikit-learn.

        Parameters
        ----------
        **params
            Options of the constructor by name; `fit` checks them.

        Returns
        -------
        Estimator
            This model.

        Raises
        ------
        ValueError
            It has no option of this name.
        """
        known = options.table(self)
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def check_options(self) -> None:
        """Check the options, as `fit` does.

        Raises
        ------
        TypeError, ValueError
            An option has a value that makes no sense, by itself or beside another one.
        """
        options.check(self)

    def check_is_fitted(self) -> None:
        """Raise NotFittedError unless the model was fitted or read from a file."""
        if not hasattr(self, "theta_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit, or read one with pynode.load")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file that `pynode.load` reads; an existing file is replaced in one step.

        Parameters
        ----------
        path : path
            The file.
        """
        self.check_is_fitted()
        files.write(path, {"model": type(self).__name__} | self.to_content())

    def to_content(self) -> dict[str, Any]:
        """The fitted model as plain data and arrays, for `pynode.data.files.write`."""
        raise NotImplementedError

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> Self:
        """The model from what a file holds; any exception where that is not one."""
        raise NotImplementedError

    def _seed(self) -> int:
        """The seed of this fit: random_state, or a new one."""
        value: Any = getattr(self, "random_state", None)
        return secrets.randbits(31) if value is None else int(value)

    def _told(self, *besides: str) -> tuple[dict[str, Any], Any]:
        """(options, field) that a fit follows from, for the fingerprint of a checkpoint; but for those named."""
        params = {name: value for name, value in self.get_params().items() if name not in ("field", *besides)}
        own: Field | None = getattr(self, "field", None)
        return params, None if own is None else own.to_dict()

    def common_report(self, status: str, message: str, warnings: Iterable[str] = (), **rest: Any) -> dict[str, Any]:
        """A report with what those of all models hold.

        Parameters
        ----------
        status, message : str
            How the fit ended; the message of a known status is its own.
        warnings : iterable of str
            What is doubtful about the fit.
        **rest
            loss, nfe, seconds, n_iter, n_samples, n_failed, and what only this model has.

        Returns
        -------
        dict
        """
        first = {"status": status, "message": MESSAGES.get(status, message)}
        last = {
            "n_params": len(self.theta_),
            "random_state": self.random_state_,
            "warnings": list(warnings),
            "version": _version.__version__,
        }
        return first | rest | last

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "theta_")

    def __repr__(self) -> str:
        rows = options.table(self)
        given = [f"{name}={x!r}" for name, x in self.get_params().items() if not _same(x, rows[name].default)]
        fitted = f": {len(self.theta_)} parameters" if hasattr(self, "theta_") else ", not fitted"
        return f"<{type(self).__name__}({', '.join(given)}){fitted}>"


def _same(a: object, b: object) -> bool:
    return a is b or (type(a) is type(b) and bool(np.all(a == b)))


class SeriesEstimator(Estimator):
    """A model of trajectories, `data_`, which its file may hold too.

    A subclass defines `to_content(data)`; data: whether with them.
    """

    data_: Trajectories | None
    names_: tuple[str, ...]
    time_name_: str

    def save(self, path: str | os.PathLike[str], *, data: bool = True) -> None:
        """Write the model to a file that `pynode.load` reads; an existing file is replaced in one step.

        Parameters
        ----------
        path : path
            The file.
        data : bool, default True
            Store the data it was fitted to as well, for figures and reports, and for intervals that were never asked for:
            those are calibrated on the data at the first call, and what they need is stored from then on.
        """
        self.check_is_fitted()
        files.write(path, {"model": type(self).__name__} | self.to_content(data))

    def to_content(self, data: bool = True) -> dict[str, Any]:
        """The fitted model as plain data and arrays, for `pynode.data.files.write`; data: whether with them."""
        raise NotImplementedError


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model that `save` of any model wrote.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    NeuralODE, or the model of another kind that was saved

    Raises
    ------
    ModelFileError
        The file is damaged or not a model.
    OSError
        It cannot be opened.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 2, 20)
    >>> model = pn.NeuralODE(hidden=(), random_state=0).fit(t, np.exp(-t))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(pathlib.Path(folder, "decay.npz"))
    ...     again = pn.load(pathlib.Path(folder, "decay.npz"))
    >>> bool((again.predict(t, [2.0]) == model.predict(t, [2.0])).all())
    True
    """
    content = files.read(path)
    try:
        kind = content["model"]
        if kind not in MODELS:
            raise ValueError(f"unknown kind of model {kind!r}")
        return getattr(importlib.import_module(MODELS[kind]), kind).from_content(content)
    except Exception as error:  # whatever a hostile file makes the constructors say
        raise files.ModelFileError(f"{path} does not hold a valid model: {type(error).__name__}: {error}") from error
