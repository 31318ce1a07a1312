"""What all models have in common: parameters as in scikit-learn, files, and the check that a model was fitted."""

import importlib
import inspect
from typing import Any

import numpy as np

from pynode.data import files

KINDS = {
    "NeuralODE": "pynode.models.trajectories.neural_ode",
    "NeuralODEClassifier": "pynode.models.flows.predictors",
    "NeuralODERegressor": "pynode.models.flows.predictors",
    "CNF": "pynode.models.flows.cnf",
    "LatentODE": "pynode.models.latent.latent_ode",
}
"""Models that files hold: the module of each, whose class has `_from_content`."""


class NotFittedError(ValueError, AttributeError):
    """The model was not fitted yet."""


class Estimator:
    """Parameters as in scikit-learn, files, and the check that a model was fitted.

    A subclass defines `_content()`, plain data for a file, and `_from_content(content)`, which trusts nothing.
    """

    field: Any
    kind = "model"
    """What scikit-learn calls it."""

    def get_params(self, deep=True):
        """The parameters of the constructor by name (as in scikit-learn)."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params):
        """Change parameters of the constructor (as in scikit-learn); returns this model."""
        known = inspect.signature(type(self)).parameters
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def _told(self, *besides):
        """(parameters, field) that a fit follows from, for the fingerprint of a checkpoint; but for those named."""
        params = {name: value for name, value in self.get_params().items() if name not in ("field", *besides)}
        return params, None if self.field is None else self.field.to_dict()

    def save(self, path):
        """Write the model to a file that `pynode.load` reads; an existing file is replaced in one step."""
        self._fitted()
        files.write(path, {"model": type(self).__name__} | self._content())

    def _content(self):
        raise NotImplementedError

    def _fitted(self):
        if not hasattr(self, "theta_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit, or read one with pynode.load")

    def __sklearn_is_fitted__(self):
        return hasattr(self, "theta_")

    def __repr__(self):
        defaults = inspect.signature(type(self)).parameters
        given = [f"{k}={v!r}" for k, v in self.get_params().items() if not _same(v, defaults[k].default)]
        fitted = f": {len(self.theta_)} parameters" if hasattr(self, "theta_") else ", not fitted"
        return f"<{type(self).__name__}({', '.join(given)}){fitted}>"


def _same(a, b):
    return a is b or (type(a) is type(b) and bool(np.all(a == b)))


def plain_params(model):
    """The parameters of the constructor that a file can hold."""
    params = model.get_params()
    if "schedule" in params and callable(params["schedule"]):
        raise ValueError("schedule is a function of yours, which no model file can hold: set_params(schedule='cosine')")
    params = params | ({"field": None} if "field" in params else {})  # stored as what it is, not as a parameter
    return {
        k: x.tolist() if isinstance(x, np.ndarray) else list(x) if isinstance(x, tuple) else x for k, x in params.items()
    }


class SeriesEstimator(Estimator):
    """A model of trajectories, `data_`, which its file may hold too.

    A subclass defines `_content(data)`; data: whether with them.
    """

    def save(self, path, *, data=True):
        """Write the model to a file that `pynode.load` reads; an existing file is replaced in one step.

        Parameters
        ----------
        path : path
        data : bool
            Store the data it was fitted to as well, for pictures and reports.
        """
        self._fitted()
        files.write(path, {"model": type(self).__name__} | self._content(data))

    def _content(self, data=True):
        raise NotImplementedError

    def _fitted(self):
        if not hasattr(self, "theta_"):
            raise NotFittedError("this model was not fitted yet: call fit(t, Y), or read one with pynode.load(path)")


def load(path):
    """Read a model that `save` of any model wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    NeuralODE, or the model of another kind that was saved

    Raises
    ------
    ModelFileError
        The file is damaged or not a model.
    OSError
        It cannot be opened.
    """
    content = files.read(path)
    try:
        kind = content["model"]
        if kind not in KINDS:
            raise ValueError(f"unknown kind of model {kind!r}")
        return getattr(importlib.import_module(KINDS[kind]), kind)._from_content(content)
    except Exception as error:  # whatever a hostile file makes the constructors say
        raise files.ModelFileError(f"{path} does not hold a valid model: {type(error).__name__}: {error}") from error
