"""`ODEBlock`: a solve as a layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pynode.errors import users_level
from pynode.fields.field import Field
from pynode.fields.parameters import checked_theta
from pynode.torch.solves import OPTIONS, check_rows, flat_theta, inputs_of, solved, solver_of
from pynode.torch.tensors import as_tensor


class ODEBlock(nn.Module):
    """The solution of dy/dt = f(t, y; theta) as a layer, with theta as its parameters.

    Parameters
    ----------
    field : Field
        The equation.
    t : sequence of float, default (0, 1)
        Times of the results, the first being that of the input.
    theta : (n_params,) array, nested dict, or tensor, optional
        Where the parameters start; default ``field.init(random_state)``.
    named : bool, default False
        One `torch.nn.Parameter` for each name of the field (``block.theta.W0``), not one vector; frozen ones have no
        gradient.
    last : bool, default True
        Return the state at the last time, (B, d), not those at all times, (B, T, d).
    random_state : int, optional
        Of the initial parameters.
    dtype : torch.dtype, optional
        Of the parameters; default `torch.get_default_dtype()`. A solve is in the type of its input, so give it this one.
    errors, **options : as in `odeint`
        How it is solved: method, rtol, atol, step, ...

    See Also
    --------
    odeint : the same as a function.

    Examples
    --------
    >>> import torch, pynode as pn, pynode.torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(3, 2), pynode.torch.ODEBlock(pn.mlp(2, (16,)), random_state=0), nn.Linear(2, 1))
    >>> model(torch.ones(5, 3)).shape
    torch.Size([5, 1])
    >>> sorted(model.state_dict())
    ['0.bias', '0.weight', '1.theta', '2.bias', '2.weight']
    """

    def __init__(
        self,
        field: Field,
        t: Any = (0.0, 1.0),
        *,
        theta: Any = None,
        named: bool = False,
        last: bool = True,
        random_state: int | None = None,
        dtype: Any = None,
        errors: Any = "warn",
        **options: Any,
    ) -> None:
        super().__init__()
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise TypeError(
                f"ODEBlock() got an unexpected keyword argument {unknown[0]!r}; options are {', '.join(OPTIONS)}"
            )
        self.field = field
        self.last = last
        self.named = named
        self.options = options
        self.solver = solver_of(field, errors, options)
        times = as_tensor("t", t, torch.float64)
        if times.ndim != 1 or len(times) == 0:
            raise ValueError(f"t has shape {tuple(times.shape)}: give the times of the results, the first that of the input")
        self.t = times  # no buffer: module.float() would round it
        values = _initial(field, theta, random_state).to(torch.get_default_dtype() if dtype is None else dtype)
        self.theta = _named(field, values) if named else nn.Parameter(values)
        _warn_of_limits(field)

    def forward(self, y0: Any, t: Any = None, u: Any = None) -> Any:
        """Solve from y0.

        Parameters
        ----------
        y0 : (..., d) tensor
            Initial states, of the parameters' type.
        t : (T,) tensor, optional
            Other times.
        u : tensor or tuple, optional
            The inputs; see `odeint`.

        Returns
        -------
        (..., d) tensor
            With ``last=False`` (..., T, d).
        """
        field = self.field
        theta = self.vector()
        if not isinstance(y0, torch.Tensor):
            raise TypeError(f"the input must be a tensor, not {type(y0).__name__}: pynode.torch.odeint takes arrays, too")
        if y0.shape[-1] != field.d or y0.dtype != theta.dtype:
            raise ValueError(
                f"the input is {tuple(y0.shape)}, {y0.dtype}; the layer takes (..., {field.d}), {theta.dtype}: see .to()"
            )
        times = self.t if t is None else as_tensor("t", t, torch.float64)
        states = y0.reshape(-1, field.d)
        check_rows("t", times, states)
        kind, knots, values = inputs_of(field, u, states)
        y = solved(self.solver, states, times, theta, values, kind, knots)
        batch = y0.shape[:-1]
        return y[:, -1].reshape(*batch, field.d) if self.last else y.reshape(*batch, times.shape[-1], field.d)

    def vector(self) -> Any:
        """theta as one tensor (n_params,), through which gradients reach the parameters."""
        if not self.named:
            return self.theta
        found = dict(self.theta.named_parameters())
        return torch.cat([found[p.name].reshape(-1) for p in self.field.spec])

    def extra_repr(self) -> str:
        """What `print` shows."""
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.field.name}, {self.field.n_params} parameters, {len(self.t)} times{options}"


class Named(nn.Module):
    """Parameters by name, nested where names have dots."""

    def add(self, name: str, value: Any, learnt: bool) -> None:
        """Add one.

        Parameters
        ----------
        name : str
            With dots where it is nested.
        value : tensor
        learnt : bool
            Whether it needs a gradient.
        """
        folder, _, rest = name.partition(".")
        if not rest:
            self.register_parameter(name, nn.Parameter(value, requires_grad=learnt))
            return
        if folder not in self._modules:
            self.add_module(folder, Named())
        child: Any = self._modules[folder]
        child.add(rest, value, learnt)


def _initial(field: Field, theta: Any, random_state: int | None) -> Any:
    """The first parameters."""
    if theta is None:
        return torch.from_numpy(field.init(random_state))
    if isinstance(theta, Mapping):
        return flat_theta(field.spec, theta).detach().cpu()
    if isinstance(theta, torch.Tensor):
        theta = theta.detach().cpu().numpy()
    return torch.tensor(checked_theta(field.spec, theta))


def _named(field: Field, values: Any) -> Named:
    """The vector cut into parameters."""
    named = Named()
    for p in field.spec:
        named.add(p.name, values[p.offset : p.stop].reshape(p.shape).clone(), p.constraint != ("frozen",))
    return named


def _warn_of_limits(field: Field) -> None:
    """Optimisers of torch know no limits of parameters."""
    limited = [p.name for p in field.spec if p.constraint[0] in ("positive", "bounded")]
    if limited:
        warnings.warn(
            f"{', '.join(limited)}: torch's optimisers do not keep parameters positive or within bounds, as pynode's "
            "fits do. Write the field with np.exp or pn.sigmoid of a free parameter if it matters",
            UserWarning,
            stacklevel=users_level(),
        )
