"""`odeint`: for people who come from torchdiffeq."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.solve import solve
from pynode.data.arrays import real_array
from pynode.fields.callback import callback_field, checked_value
from pynode.fields.field import Field

METHODS = {
    "dopri5": "dopri5",
    "tsit5": "tsit5",
    "bosh3": "bosh3",
    "dop853": "dop853",
    "adaptive_heun": "heun",
    "heun2": "heun",
    "euler": "euler",
    "midpoint": "midpoint",
    "rk4": "rk38",
}
"""torchdiffeq's names. Its "rk4" is the 3/8 rule."""


FIXED = ("heun2", "euler", "midpoint", "rk4")


OPTIONS = {"step_size", "first_step", "max_num_steps", "max_step"}


def odeint(
    func: Any,
    y0: Any,
    t: Any,
    theta: NDArray[Any] | None = None,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str = "dopri5",
    options: Any = None,
) -> NDArray[Any]:
    """Solve dy/dt = func(t, y) with torchdiffeq's signature and result shape.

    Parameters
    ----------
    func : Field, or function func(t, y)
        A Field sees every state y0[..., :] as a sample of its own. A plain function gets t as a float and the whole
        array y of y0's shape, and returns dy/dt in that shape (one step size for all of it, as in torchdiffeq).
    y0 : array
        Initial state of any shape; with a Field (..., d).
    t : (T,) array
        Times of the results, the first being the initial time.
    theta : (n_params,) array, optional
        Parameters, where func is a Field that has some.
    rtol, atol : float
        Relative and absolute tolerance, with torchdiffeq's defaults.
    method : str
        "dopri5", "tsit5", "bosh3", "dop853", "adaptive_heun", "heun2", "euler", "midpoint", "rk4" (the 3/8 rule, as in
        torchdiffeq; the classical method is ``solve(..., method="rk4")``).
    options : dict, optional
        "step_size" (fixed-step methods; without it the steps are the intervals of t), "first_step", "max_step",
        "max_num_steps".

    Returns
    -------
    (T, *y0.shape) array

    See Also
    --------
    solve : the function of this package, with all its options.

    Notes
    -----
    Results between the steps of a fixed-step method come from cubic Hermite interpolation, not torchdiffeq's linear one.
    A sample that fails raises `SolveError`.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> y = pn.odeint(lambda t, y: -y, np.ones((2, 3)), np.linspace(0, 1, 5))
    >>> y.shape, bool(abs(y[-1, 0, 0] - np.exp(-1)) < 1e-6)
    ((5, 2, 3), True)
    """
    if not isinstance(func, Field) and not callable(func):
        raise TypeError(f"func must be a Field or a function func(t, y), not {type(func).__name__}")
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method={method!r} is not one of {', '.join(METHODS)}")
    if not isinstance(options, (dict, type(None))):
        raise TypeError(f"options={options!r} must be a dict")
    options = dict(options or {})
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise ValueError(f"options[{unknown[0]!r}] is not known here; known are {', '.join(sorted(OPTIONS))}")
    y0, t = real_array("y0", y0), real_array("t", t, np.float64)
    if t.ndim != 1:
        raise ValueError(f"t must be a 1-d array of times, not of shape {t.shape}")
    keys = {
        "method": METHODS[method],
        "rtol": rtol,
        "atol": atol,
        "errors": "raise",
        "max_steps": options.get("max_num_steps"),
    }
    if method in FIXED:
        if "step_size" in options:
            keys["step"] = options["step_size"]
        else:
            keys["grid"] = _strict(t)
        wrong = sorted(set(options) & {"first_step", "max_step"})
        if wrong:
            raise ValueError(f"options[{wrong[0]!r}] belongs to the adaptive methods, not to {method!r}")
    else:
        if "step_size" in options:
            raise ValueError(f"options['step_size'] belongs to the fixed-step methods, not to {method!r}")
        keys |= {name: options.get(name) for name in ("first_step", "max_step")}
    if isinstance(func, Field):
        if y0.ndim == 0 or y0.shape[-1] != func.d:
            raise ValueError(f"y0 has shape {y0.shape}, but the field has {func.d} components: give (..., {func.d})")
        states, f = y0.reshape(-1, func.d), func
    else:
        shape = y0.shape
        if not y0.size:
            raise ValueError(f"y0 has shape {shape}: there is nothing to solve")
        states = y0.reshape(1, -1)
        f = callback_field(lambda s, y: checked_value("func", func(s, y.reshape(shape)), shape).ravel(), y0.size)
    sol = solve(f, states, t, theta, **keys)
    y: NDArray[Any] = np.moveaxis(sol.y, 0, 1).reshape(len(sol.t), *y0.shape)
    return y


def _strict(t: Any) -> Any:
    """Times without repeats: they are the steps."""
    return t[np.concatenate([[True], np.diff(t) != 0])] if t.size else t
