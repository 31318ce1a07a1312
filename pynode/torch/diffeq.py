"""torchdiffeq's calls: change the import, keep the code.

    from pynode.torch.diffeq import odeint, odeint_adjoint, odeint_event

The function is read once (`pynode.torch.from_torch`) and solved in C. What cannot be read is refused, with the reason. Other
than there, each sample y0[..., :] has steps of its own, and gradients are the exact ones of the steps taken: results agree
within the tolerances. Between the steps of fixed-step methods results come from cubic Hermite interpolation, not linear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from pynode.calls.odeint import FIXED, METHODS, OPTIONS
from pynode.fields.field import Field
from pynode.torch.finding import find_event
from pynode.torch.modules import from_torch
from pynode.torch.solves import solved, solver_of
from pynode.torch.tensors import as_tensor

READ: WeakKeyDictionary[nn.Module, tuple[Any, Field]] = WeakKeyDictionary()
"""Modules that were read, with what their fields depend on."""

NAMES = METHODS | {"dopri8": "dop853"}
"""torchdiffeq's names. "dopri8" is another method of order 8 here."""

VERSION = "_version"
"""torch's counter of changes in place."""

SCALARS = (bool, int, float, str, tuple, type(None))


class FunctionModule(nn.Module):
    """A plain function of (t, y)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, t: Any, y: Any) -> Any:
        """function(t, y).

        Parameters
        ----------
        t, y : tensors
            As the function takes them.
        """
        return self.function(t, y)


def odeint(
    func: Any,
    y0: Any,
    t: Any,
    *,
    rtol: float = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Callable[..., Any] | None = None,
) -> Any:
    """Solve dy/dt = func(t, y), with torchdiffeq's signature.

    Parameters
    ----------
    func : torch.nn.Module, or function
        func(t, y) -> dy/dt, readable by `from_torch`; its parameters get their gradients.
    y0 : (..., d) tensor
        Initial state; the last axis is the state, all others are samples.
    t : (T,) tensor
        Times of the results, the first being the initial time.
    rtol, atol : float
        Relative and absolute tolerance, with torchdiffeq's defaults.
    method : str, optional
        "dopri5" (default), "tsit5", "bosh3", "dop853", "adaptive_heun", "heun2", "euler", "midpoint", "rk4" (the 3/8 rule);
        "dopri8" is "dop853" here.
    options : dict, optional
        "step_size", "first_step", "max_step", "max_num_steps".
    event_fn : function, optional
        Stop where event_fn(t, y) crosses 0; see `odeint_event`.

    Returns
    -------
    (T, ..., d) tensor
        With event_fn: (event time, (2, ..., d) tensor of the states at t[0] and there).

    Raises
    ------
    TypeError
        func cannot be read.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from pynode.torch.diffeq import odeint
    >>> class Func(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
    ...
    ...     def forward(self, t, y):
    ...         return self.net(y**3)
    >>> odeint(Func(), torch.ones(20, 2), torch.linspace(0, 1, 10)).shape
    torch.Size([10, 20, 2])
    """
    y0 = _state(y0)
    t = as_tensor("t", t, torch.float64)
    if t.ndim != 1 or len(t) == 0:
        raise ValueError(f"t has shape {tuple(t.shape)}: give a 1-d tensor of times")
    if event_fn is not None:
        return odeint_event(func, y0, t[0], event_fn=event_fn, rtol=rtol, atol=atol, method=method, options=options)
    field, theta = _read(func, y0)
    span = float((t[-1] - t[0]).detach().abs())
    return _solve(field, theta, y0, t, _options(rtol, atol, method, options, span))


def odeint_adjoint(
    func: Any,
    y0: Any,
    t: Any,
    *,
    rtol: float = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    event_fn: Callable[..., Any] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: Any = None,
    adjoint_options: Any = None,
    adjoint_params: Any = None,
) -> Any:
    """`odeint`: its gradient is the exact one along the tape, whose memory is small, so adjoint_* change nothing.

    Parameters
    ----------
    func, y0, t, rtol, atol, method, options, event_fn : as in `odeint`
        What is solved, and how.
    adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options, adjoint_params : ignored
        There is no backward equation that they could belong to.

    Returns
    -------
    (T, ..., d) tensor
    """
    return odeint(func, y0, t, rtol=rtol, atol=atol, method=method, options=options, event_fn=event_fn)


def odeint_event(
    func: Any,
    y0: Any,
    t0: Any,
    *,
    event_fn: Callable[..., Any],
    reverse_time: bool = False,
    odeint_interface: Any = None,
    rtol: float = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Solve until an event function crosses 0; event time and state are differentiable.

    Parameters
    ----------
    func, y0, rtol, atol, method, options : as in `odeint`
        What is solved, and how.
    t0 : float or tensor
        The initial time.
    event_fn : function
        event_fn(t, y) -> tensor, y of y0's shape; the event is where one of its numbers first changes its sign.
    reverse_time : bool, default False
        Go backwards.
    odeint_interface : ignored
        The solver is that of `odeint`.

    Returns
    -------
    event_t : tensor ()
    y : (2, ..., d) tensor
        The states at t0 and at the event.

    Raises
    ------
    RuntimeError
        No event was found.
    """
    y0 = _state(y0)
    field, theta = _read(func, y0)
    t0 = as_tensor("t0", t0, torch.float64).reshape(())
    chosen = _options(rtol, atol, method, options, 0.0)
    return find_event(field, theta, y0, t0, event_fn, reverse_time, chosen, _solve)


def _solve(field: Field, theta: Any, y0: Any, t: Any, options: dict[str, Any]) -> Any:
    """(T, ..., d)."""
    solver = solver_of(field, "raise", options)
    y = solved(solver, y0.reshape(-1, field.d), t, theta, y0.new_empty(0))
    return y.movedim(1, 0).reshape(len(t), *y0.shape)


def _state(y0: Any) -> Any:
    if isinstance(y0, (tuple, list)):
        raise TypeError("y0 is a tuple of states: join them in one tensor, torch.cat(y0, -1), and split them in func")
    y0 = as_tensor("y0", y0)
    if y0.ndim == 0:
        raise ValueError("y0 is a number: give a tensor (..., d), y0.reshape(1)")
    return y0


def _read(func: Any, y0: Any) -> tuple[Field, Any]:
    """The field of func, and its parameters as a vector with their gradients."""
    if not isinstance(func, nn.Module):
        if not callable(func):
            raise TypeError(f"func={func!r} is not callable")
        return from_torch(FunctionModule(func), y0.shape[-1], name=getattr(func, "__name__", "func"))[0], y0.new_empty(0)
    kept = READ.get(func)
    if kept is None or kept[0] != _depends_on(func, y0):
        field, _ = from_torch(func, y0.shape[-1])
        READ[func] = kept = (_depends_on(func, y0), field)
    parts = [p.reshape(-1).to(y0.dtype) for p in func.parameters()]
    return kept[1], torch.cat(parts) if parts else y0.new_empty(0)


def _depends_on(module: nn.Module, y0: Any) -> Any:
    """What the field of a module depends on, but for the numbers in its parameters."""
    parts: list[Any] = [y0.shape[-1]]
    for name, m in module.named_modules():
        parts.append((name, type(m), *((k, v) for k, v in m.__dict__.items() if k[0] != "_" and isinstance(v, SCALARS))))
    parts += [(name, p.shape) for name, p in module.named_parameters()]
    parts += [(name, b.data_ptr(), getattr(b, VERSION, 0)) for name, b in module.named_buffers()]
    return parts


def _options(rtol: Any, atol: Any, method: str | None, options: Mapping[str, Any] | None, span: float) -> dict[str, Any]:
    """Keywords of `solve`."""
    method = "dopri5" if method is None else method
    if method not in NAMES:
        raise ValueError(f"method={method!r} is not one of {', '.join(NAMES)}")
    options = dict(options or {})
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise ValueError(f"options[{unknown[0]!r}] is not known here; known are {', '.join(sorted(OPTIONS))}")
    found: dict[str, Any] = {"method": NAMES[method], "rtol": float(rtol), "atol": atol}
    found["max_steps"] = options.get("max_num_steps")
    wrong = {"first_step", "max_step"} if method in FIXED else {"step_size"}
    for name in sorted(wrong & set(options)):
        raise ValueError(f"options[{name!r}] does not belong to method {method!r}")
    if method not in FIXED:
        return found | {name: options.get(name) for name in ("first_step", "max_step")}
    if "step_size" in options:
        return found | {"step": float(options["step_size"])}
    if span == 0:
        return found | {"step": 1.0}
    return found | {"step": span, "save": "land"}  # the steps are the intervals of t
