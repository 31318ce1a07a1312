"""ResNet: a residual network as what it is to a Neural ODE, Euler's method with N steps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, real_array
from pynode.engine.gradients import Gradients
from pynode.engine.solution import Solution
from pynode.fields.field import Field

Array = NDArray[np.float64]


class ResNet:
    """N residual layers y <- y + h f(t_n, y; theta), h = (t1 - t0) / N: the flow of f by Euler's method.

    All layers share theta, so that N can be changed after training: as N grows, the output tends to that of the Neural ODE
    dy/dt = f(t, y; theta) like 1/N, and so do gradients (Chen et al. 2018, arXiv:1806.07366, eq. 1-2).

    It is a function of (y, theta), not an estimator, so that it has no options and no `fit`: `NeuralODEClassifier(layers=N)`
    trains one.

    Parameters
    ----------
    field : Field
        d states to d; it may depend on t, which tells layers apart.
    layers : int
        N.
    span : (float, float), default (0, 1)
        t0, t1.

    Attributes
    ----------
    n_params : int
        Those of the field, whatever N is.
    times : (N + 1,) array
        Where the layers begin, and t1.

    See Also
    --------
    NeuralODEClassifier, NeuralODERegressor : `layers=N` trains a residual network.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(2, (16,), time=True)
    >>> net = pn.ResNet(f, 10)
    >>> theta = net.init(0)
    >>> net([[1.0, 0.0]], theta).shape
    (1, 2)
    """

    def __init__(self, field: Field, layers: int, span: tuple[float, float] = (0.0, 1.0)) -> None:
        if field.n_out != field.d or field.inputs:
            raise ValueError(
                f"a residual layer adds f(y) to y: {field.name} maps {field.d} states to {field.n_out}, with {field.inputs} "
                "inputs; give a field with as many outputs as states and no inputs"
            )
        self.field = field
        self.layers: int = as_integer("layers", layers, 1, 10_000_000)
        ends = real_array("span", span, np.float64)
        if ends.shape != (2,) or not np.isfinite(ends).all() or ends[0] == ends[1]:
            raise ValueError(f"span must be two different times (t0, t1), not {ends}")
        self.span = (float(ends[0]), float(ends[1]))

    @property
    def n_params(self) -> int:
        """Those of the field, whatever N is."""
        return int(self.field.n_params)

    def init(self, random_state: int | np.random.Generator | None = None) -> Array:
        """Initial parameters, those of the field.

        Parameters
        ----------
        random_state : int or numpy.random.Generator, optional
            The same number, the same parameters; default: other ones at every call.

        Returns
        -------
        (n_params,) array
        """
        theta: Array = self.field.init(random_state)
        return theta

    @property
    def times(self) -> Array:
        """(N + 1,) where the layers begin, and t1."""
        return np.linspace(*self.span, self.layers + 1)

    def __call__(self, y: ArrayLike, theta: ArrayLike | None = None) -> Array:
        """The output.

        Parameters
        ----------
        y : (d,) or (B, d) array_like
        theta : (n_params,) array_like

        Returns
        -------
        array of the shape of y
        """
        end: Array = self._solve(y, theta, self.times[[0, -1]]).y[..., -1, :]
        return end

    def activations(self, y: ArrayLike, theta: ArrayLike | None = None) -> Array:
        """The input, and what each layer makes of it.

        Parameters
        ----------
        y : (d,) or (B, d) array_like
            The input.
        theta : (n_params,) array_like
            Parameters of the field; None where it has none.

        Returns
        -------
        (N + 1, d) or (B, N + 1, d) array
        """
        states: Array = self._solve(y, theta, self.times).y
        return states

    def vjp(
        self,
        y: ArrayLike,
        theta: ArrayLike | None,
        dy: ArrayLike,
        *,
        wrt: str | Sequence[str] = ("theta", "y0"),
    ) -> Gradients:
        """Backpropagation: gradients of any loss of yours from its derivative with respect to the output.

        Parameters
        ----------
        y : (d,) or (B, d) array_like
            The input.
        theta : (n_params,) array_like
            Parameters of the field; None where it has none.
        dy : array_like of the shape of y
            dL/d(output).
        wrt : str or tuple of str, default ("theta", "y0")
            What to differentiate with respect to: "theta", "y0".

        Returns
        -------
        Gradients
            theta, summed over the batch, and y0, of the shape of y.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> net = pn.ResNet(pn.mlp(2, (16,)), 10)
        >>> net.vjp([1.0, 0.0], net.init(0), [1.0, 1.0], wrt="y0").y0.shape
        (2,)
        """
        sol = self._solve(y, theta, self.times[[0, -1]])
        end: Array = real_array("dy", dy, np.float64)
        if end.shape != np.shape(y):
            raise ValueError(f"dy has shape {end.shape}; it must have the shape of y, {np.shape(y)}")
        cotangent = np.zeros_like(sol.y)
        cotangent[..., -1, :] = end
        return sol.vjp(cotangent, wrt=wrt)

    def _solve(self, y: ArrayLike, theta: ArrayLike | None, t: Array) -> Solution:
        return solve(self.field, y, t, theta, method="euler", grid=self.times, errors="raise")

    def __repr__(self) -> str:
        return f"<ResNet of {self.layers} layers y + h f, f = {self.field!r}>"
