"""Initial states of differential-algebraic equations M dy/dt = f(t, y): `consistent_state`, and a check of those given."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.signal import as_signal
from pynode.engine.options import Options
from pynode.fields.arguments import as_field, as_theta
from pynode.fields.field import Field
from pynode.fields.system import System
from pynode.fields.transforms import jacobian

Array = NDArray[np.float64]

RANK = 1e-12
"""Singular values of the mass matrix below this part of the largest are 0."""

NEWTON = 50
"""The most steps of Newton's method."""

SATISFIED = 1e-6
"""Equations count as satisfied where an algebraic variable would move by less than this part of its size and 1."""


def consistent_state(
    f: Field, y0: ArrayLike, theta: Any = None, *, mass: ArrayLike, t: float = 0.0, inputs: Any = None
) -> Array:
    """An initial state that satisfies the algebraic equations of M dy/dt = f(t, y; theta), near y0.

    Parts of the state that M says have a derivative keep their values; Newton's method finds the others.

    Parameters
    ----------
    f : Field
        The right-hand side.
    y0 : (d,) array_like
        Where to look.
    theta : (n_params,) array or nested dict, optional
        Its parameters.
    mass : (d, d) or (d,) array_like
        M, or its diagonal.
    t : float, default 0
        The initial time.
    inputs : as in `solve`, optional
        Input signals, of one sample.

    Returns
    -------
    (d,) array

    Raises
    ------
    ValueError
        The algebraic equations do not determine the algebraic variables (the index is above 1), or Newton's method finds no
        solution near y0.

    See Also
    --------
    solve : takes the mass matrix as mass=.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> circle = pn.field(state=2)(lambda t, y: [-y[0], y[0] ** 2 + y[1] ** 2 - 1])
    >>> pn.consistent_state(circle, [0.6, 1.0], mass=[1.0, 0.0]).round(6).tolist()
    [0.6, 0.8]
    """
    field = as_field(f)
    options = Options("rodas5p", inputs=inputs, mass=mass)
    left, right = _spaces(options.mass_matrix(field.d))
    ready = as_theta(field, theta, np.float64)
    signal = as_signal(options.inputs, field.inputs)
    u = None if signal is None else signal(np.array([t]), 0)[0]
    y = np.array(y0, dtype=np.float64)
    if y.shape != (field.d,) or not np.isfinite(y).all():
        raise ValueError(f"y0 must be ({field.d},) finite numbers, not {y0!r}")
    for _ in range(NEWTON):
        move = _newton_step(field, t, y, ready, u, left, right)
        y = y + right @ move
        if not np.isfinite(y).all():
            break
        if np.abs(move).max(initial=0.0) <= 1e-13 * max(1.0, float(np.abs(y).max())):
            return y
    raise ValueError(
        f"no state near y0={np.array(y0).tolist()} satisfies the algebraic equations at t = {t:g}: start elsewhere"
    )


def check_consistent(f: Field | System, batch: Any, options: Options, theta: Any) -> None:
    """Refuse initial states that do not satisfy the algebraic equations; nothing to do where M is regular."""
    field = f.field if isinstance(f, System) else f
    left, right = _spaces(options.mass_matrix(field.d))
    if not right.shape[1]:
        return
    ready = as_theta(field, np.asarray(theta)[: field.n_params] if isinstance(f, System) else theta, np.float64)
    signal = as_signal(options.inputs, field.inputs)
    first = batch.t[batch.start]
    for i, (t, y) in enumerate(zip(first, batch.y0.astype(np.float64), strict=True)):
        own = ready[i] if ready.ndim == 2 else ready
        u = None if signal is None else signal(np.array([t]), 0 if signal.shared else i)[0]
        move = right @ _newton_step(field, float(t), y, own, u, left, right)
        size = float(np.abs(move).max(initial=0.0))
        if size > SATISFIED * max(1.0, float(np.abs(y).max())):
            raise ValueError(
                f"y0 of sample {i} does not satisfy the algebraic equations of mass=: component "
                f"{int(np.argmax(np.abs(move)))} "
                f"would have to move by about {size:.2g}; pynode.consistent_state finds a state near it that does"
            )


def _spaces(M: Array) -> tuple[Array, Array]:
    """(d, k) bases: of rows of f that are algebraic equations, and of directions that have no derivative."""
    U, s, Vt = np.linalg.svd(M)
    lost = s <= RANK * max(float(s.max(initial=0.0)), 1e-300)
    return U[:, lost], Vt[lost].T


def _slope(field: Field, t: float, y: Array, theta: Array, u: Any) -> Array:
    """(d, d) df/dy; of a callback that which is given, or by differences."""
    d = field.d
    if field.callback is None:
        return np.asarray(jacobian(field, "y")(t, y, theta, u), dtype=np.float64).reshape(d, d)
    inputs = None if u is None else np.reshape(u, (1, -1))
    both = np.asarray(field.bind_callbacks(theta)(2, np.array([float(t)]), y[None], inputs, None), dtype=np.float64)
    return both[0, : d * d].reshape(d, d)


def _newton_step(field: Field, t: float, y: Array, theta: Array, u: Any, left: Array, right: Array) -> Array:
    """(k,) the step of Newton's method for the algebraic variables."""
    residual = left.T @ field(t, y, theta, u)
    slope = left.T @ _slope(field, t, y, theta, u) @ right
    if not (np.isfinite(slope).all() and np.isfinite(residual).all()):
        raise ValueError(f"the algebraic equations of mass= are NaN or infinite at t = {t:g}, y = {y.tolist()}")
    if slope.size and np.linalg.cond(slope) > 1e14:
        raise ValueError(
            "the algebraic equations of mass= do not determine the algebraic variables: the index is above 1 (differentiate "
            "the constraint, as in the index-1 form of a pendulum)"
        )
    return np.asarray(-np.linalg.solve(slope, residual), dtype=np.float64)
