"""What a model must have to be drawn. Models stand above pictures, so that pictures name only what they use of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.trajectories import Trajectories

Array = NDArray[np.float64]


class Trained(Protocol):
    """A model that kept the course of its training."""

    @property
    def history_(self) -> Mapping[str, NDArray[Any]]: ...

    @property
    def report_(self) -> Mapping[str, Any]: ...


class TrajectoryModel(Trained, Protocol):
    """A model of measured trajectories, such as `pynode.NeuralODE`."""

    @property
    def log(self) -> bool: ...

    @property
    def names_(self) -> Sequence[str]: ...

    @property
    def n_unobserved_(self) -> int: ...

    @property
    def data_(self) -> Trajectories | None: ...

    @property
    def field_(self) -> Any: ...

    @property
    def theta_(self) -> Array: ...

    @property
    def covariance_(self) -> Array | None: ...

    @property
    def initial_states_(self) -> Array: ...

    @property
    def scaling_(self) -> Any: ...

    @property
    def predict(self) -> Any: ...

    @property
    def derivative(self) -> Any: ...


class Profiled(Protocol):
    """A model whose parameters have profile likelihoods."""

    @property
    def profile(self) -> Any: ...

    @property
    def summary(self) -> Any: ...


class SampleModel(Trained, Protocol):
    """A model that carries samples along a flow, such as `pynode.NeuralODEClassifier` and `pynode.NeuralODERegressor`."""

    @property
    def n_features_in_(self) -> int: ...

    @property
    def field_(self) -> Any: ...

    @property
    def lift_(self) -> Any: ...

    def predict(self, X: ArrayLike, /) -> NDArray[Any]: ...

    @property
    def trajectories(self) -> Any: ...


class DensityModel(Trained, Protocol):
    """A model of a density, such as `pynode.CNF`."""

    @property
    def n_features_in_(self) -> int: ...

    @property
    def field_(self) -> Any: ...

    @property
    def theta_(self) -> Array: ...

    def log_prob(self, X: ArrayLike, /) -> Array: ...

    @property
    def sample(self) -> Any: ...

    @property
    def trajectories(self) -> Any: ...


class LatentModel(Trained, Protocol):
    """A model of many short series, such as `pynode.LatentODE`."""

    @property
    def latent(self) -> int: ...

    @property
    def t0_(self) -> float: ...

    @property
    def names_(self) -> Sequence[str]: ...

    @property
    def time_name_(self) -> str: ...

    @property
    def data_(self) -> Trajectories | None: ...

    @property
    def predict(self) -> Any: ...

    @property
    def encode(self) -> Any: ...

    @property
    def sample(self) -> Any: ...
