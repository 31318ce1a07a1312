"""Initial states of differential-algebraic equations M dy/dt = f(t, y): `consistent_state`, and a check of those given."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.batch import Batch
from pynode.data.signal import as_signal
from pynode.engine.accuracy import Accuracy
from pynode.engine.options import Options
from pynode.fields.arguments import as_field, as_theta, states_by_name
from pynode.fields.field import Field
from pynode.fields.system import System
from pynode.fields.transforms import jacobian

Array = NDArray[np.float64]

RANK = 1e-12
"""Singular values of the mass matrix below this part of the largest are 0."""

NEWTON = 50
"""The most steps of Newton's method."""

SATISFIED = 1e-6
"""Equations count as satisfied where Newton's method moves each component by less than this part of it, or by its atol."""

CONVERGED = 1e-13
"""The part of each component that the last step of Newton's method may be."""

ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Of states, relative; `newton_steps` says how far it moves each component."""

STALLED = 1e-8
"""Steps below this part of the largest number met that no longer fall are rounding."""


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
    left, right = spaces(options.mass_matrix(field.d))
    ready = as_theta(field, theta, np.float64)
    signal = as_signal(options.inputs, field.inputs)
    u = None if signal is None else signal(np.array([t]), 0)
    y = np.array(states_by_name("y0", field, y0), dtype=np.float64)
    if y.shape != (field.d,) or not np.isfinite(y).all():
        raise ValueError(f"y0 must be ({field.d},) finite numbers, not {y0!r}")
    if not right.size:
        return y
    largest, last = np.abs(y), np.inf
    for _ in range(NEWTON):
        moves, noise = newton_steps(field, np.array([float(t)]), y[None], ready, u, left, right)
        move = np.abs(moves[0])
        if np.isnan(move).any():
            raise ValueError(f"the algebraic equations of mass= are NaN or infinite at t = {t:g}, y = {y.tolist()}")
        y += moves[0]
        if (move <= CONVERGED * np.abs(y) + ROUNDING * noise[0]).all():
            return y
        largest = np.maximum(largest, np.maximum(np.abs(y), move))
        part = float(np.max(move / np.where(largest > 0, largest, 1.0)))
        if last <= part <= STALLED:
            return y
        last = part
    raise ValueError(
        f"no state near y0={np.array(y0).tolist()} satisfies the algebraic equations at t = {t:g}: start elsewhere"
    )


def check_consistent(f: Field | System, batch: Batch, options: Options, theta: Array) -> None:
    """Refuse initial states that do not satisfy the algebraic equations; nothing to do where M is regular.

    Where these are NaN or infinite it is the solve that says so.
    """
    if options.mass is None:
        return
    field = f.field if isinstance(f, System) else f
    left, right = spaces(options.mass_matrix(field.d))
    if not right.shape[1]:
        return
    theta = theta[..., : field.n_params].astype(np.float64)
    signal = as_signal(options.inputs, field.inputs)
    t, y = batch.t[batch.start], batch.y0.astype(np.float64)
    u = None if signal is None else np.stack([signal(t[i : i + 1], 0 if signal.shared else i)[0] for i in range(len(t))])
    atol = Accuracy(options.arguments(field.d), batch).atol
    eps = 8 * float(np.finfo(batch.y0.dtype).eps)
    groups = [slice(None)] if theta.ndim == 1 else [slice(i, i + 1) for i in range(len(y))]
    for own in groups:
        at = field, t[own], y[own], theta if theta.ndim == 1 else theta[own][0], None if u is None else u[own]
        with np.errstate(all="ignore"):
            moves, noise = newton_steps(*at, left, right)
            move = np.abs(moves)
            bad = move > SATISFIED * np.abs(y[own]) + atol + eps * noise
        wrong = np.flatnonzero(bad.any(axis=1))
        if wrong.size:
            i = wrong[0]
            k = int(np.argmax(np.where(bad[i], move[i], 0.0)))
            raise ValueError(
                f"y0 of sample {range(len(y))[own][i]} does not satisfy the algebraic equations of mass=: component {k} "
                f"would have to move by about {move[i, k]:.2g}; pynode.consistent_state finds a state near it that does"
            )


def spaces(M: Array) -> tuple[Array, Array]:
    """(d, k) bases: of rows of f that are algebraic equations, and of directions that have no derivative."""
    U, s, Vt = np.linalg.svd(M)
    lost = s <= RANK * max(float(s.max(initial=0.0)), 1e-300)
    return U[:, lost], Vt[lost].T


def slopes_of(field: Field, t: Array, y: Array, theta: Array, u: Any) -> Array:
    """(n, d, d) df/dy; of a callback that which is given, or by differences."""
    n, d = y.shape
    if field.callback is None:
        return np.asarray(jacobian(field, "y")(t, y, theta, u), dtype=np.float64).reshape(n, d, d)
    both = np.asarray(field.bind_callbacks(theta)(2, t, y, u, None), dtype=np.float64)
    return both[:, : d * d].reshape(n, d, d)


def newton_steps(
    field: Field, t: Array, y: Array, theta: Array, u: Any, left: Array, right: Array, strict: bool = True
) -> tuple[Array, Array]:
    """(n, d) steps of Newton's method, and how far components would move for relative changes of the state by 1.

    A small part of the latter is what rounding of the state does, in any units of states and equations. NaN where the
    equations are NaN or infinite, or (not strict: else an error) do not determine the algebraic variables.
    """
    residual = np.asarray(field(t, y, theta, u), dtype=np.float64).reshape(y.shape) @ left
    slopes = slopes_of(field, t, y, theta, u)
    known = np.isfinite(slopes).all(axis=(1, 2)) & np.isfinite(residual).all(axis=1)
    slopes = slopes[known]
    sizes = np.abs(left.T) @ np.abs(slopes)
    back = right @ _inverse(left.T @ slopes @ right, sizes @ np.abs(right), strict)
    move, noise = np.full(y.shape, np.nan), np.full(y.shape, np.nan)
    move[known] = -(back @ residual[known, :, None])[..., 0]
    noise[known] = (np.abs(back) @ sizes @ np.abs(y[known, :, None]))[..., 0]
    return move, noise


def _inverse(slope: Array, sizes: Array, strict: bool) -> Array:
    """(n, k, k) inverses, rows and columns scaled by the `sizes` that their entries are sums of."""
    rows = sizes.max(axis=2, keepdims=True)
    rows[rows == 0] = 1.0
    columns = (sizes / rows).max(axis=1, keepdims=True)
    columns[columns == 0] = 1.0
    scaled = slope / rows / columns
    lost = np.linalg.cond(scaled) > 1e14
    if lost.any() and strict:
        raise ValueError(
            "the algebraic equations of mass= do not determine the algebraic variables: the index is above 1 (differentiate "
            "the constraint, as in the index-1 form of a pendulum)"
        )
    scaled[lost] = np.eye(scaled.shape[1])
    inverse: Array = np.linalg.inv(scaled) / columns.swapaxes(1, 2) / rows.swapaxes(1, 2)
    inverse[lost] = np.nan
    return inverse
