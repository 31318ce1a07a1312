"""ResNet: a residual network as what it is to a Neural ODE, Euler's method with N steps."""

import numpy as np

from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, real_array


class ResNet:
    """N residual layers y <- y + h f(t_n, y; theta), h = (t1 - t0) / N: the flow of f by Euler's method.

    All layers share theta, so that N can be changed after training: as N grows, the output tends to that of the Neural ODE
    dy/dt = f(t, y; theta) like 1/N, and so do gradients (Chen et al. 2018, arXiv:1806.07366, eq. 1-2).

    Parameters
    ----------
    field : Field
        d states to d; it may depend on t, which tells layers apart.
    layers : int
        N.
    span : (float, float)
        t0, t1.

    Attributes
    ----------
    n_params : int
        Those of the field, whatever N is.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(2, (16,), time=True)
    >>> net = pn.ResNet(f, 10)
    >>> theta = net.init(0)
    >>> net([[1.0, 0.0]], theta).shape
    (1, 2)
    """

    def __init__(self, field, layers, span=(0.0, 1.0)):
        if field.n_out != field.d or field.inputs:
            raise ValueError(
                f"a residual layer adds f(y) to y: {field.name} maps {field.d} states to {field.n_out}, with {field.inputs} "
                "inputs; give a field with as many outputs as states and no inputs"
            )
        self.field, self.layers = field, as_integer("layers", layers, 1, 10_000_000)
        span = real_array("span", span, np.float64)
        if span.shape != (2,) or not np.isfinite(span).all() or span[0] == span[1]:
            raise ValueError(f"span must be two different times (t0, t1), not {span}")
        self.span = (float(span[0]), float(span[1]))

    n_params = property(lambda self: self.field.n_params)

    def init(self, seed=None):
        """Initial parameters, those of the field."""
        return self.field.init(seed)

    @property
    def times(self):
        """(N + 1,) where the layers begin, and t1."""
        return np.linspace(*self.span, self.layers + 1)

    def __call__(self, y, theta=None):
        """The output, of the shape of y: (d,) or (B, d)."""
        return self._solve(y, theta, self.times[[0, -1]]).y[..., -1, :]

    def activations(self, y, theta=None):
        """(N + 1, d) or (B, N + 1, d): the input, and what each layer makes of it."""
        return self._solve(y, theta, self.times).y

    def vjp(self, y, theta, g, wrt=("theta", "y0")):
        """Backpropagation: gradients of any loss of yours from its derivative with respect to the output.

        Parameters
        ----------
        y : (d,) or (B, d) array
        theta : (n_params,) array
        g : array of the shape of y
        wrt : tuple out of "theta", "y0"

        Returns
        -------
        Gradients
            theta, summed over the batch, and y0, of the shape of y.
        """
        sol = self._solve(y, theta, self.times[[0, -1]])
        g = real_array("g", g, np.float64)
        if g.shape != np.shape(y):
            raise ValueError(f"g has shape {g.shape}; it must have the shape of y, {np.shape(y)}")
        dy = np.zeros_like(sol.y)
        dy[..., -1, :] = g
        return sol.vjp(dy, wrt=wrt)

    def _solve(self, y, theta, t):
        return solve(self.field, y, t, theta, method="euler", grid=self.times, errors="raise")

    def __repr__(self):
        return f"<ResNet of {self.layers} layers y + h f, f = {self.field!r}>"
