"""`from_torch`: a torch.nn.Module as a field."""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from pynode.fields.field import Field
from pynode.fields.parameters import Parameter
from pynode.programs.traced import TraceError
from pynode.programs.tracing import new_trace, trace
from pynode.torch.reading import MODULES, CannotRead, function, linear

ORDERS = ("t, y", "y, t", "y")

CHECKED = 8
"""So many random states compare the field with the module."""


def from_torch(
    module: nn.Module,
    state: int | None = None,
    *,
    arguments: Literal["t, y", "y, t", "y"] | None = None,
    name: str | None = None,
) -> tuple[Field, NDArray[np.float64]]:
    """A torch.nn.Module as a field, and its weights as theta.

    Linear layers, activations, Sequential, residual sums, and forward methods that torch.fx can trace, of elementwise
    functions, products with matrices, sums, slices and concatenations along the last axis.

    Parameters
    ----------
    module : torch.nn.Module
        Called with states (B, d), as ``module(y)`` or ``module(t, y)``; d numbers for each sample come out.
    state : int, optional
        The size d of the state; default: what the last linear layer gives.
    arguments : {"t, y", "y, t", "y"}, optional
        How forward is called; default: "y" with one argument, "t, y" with two, as in torchdiffeq.
    name : str, optional
        Of the field; default that of the class.

    Returns
    -------
    field : Field
        Its parameters have the names and the order of ``module.named_parameters()``, so that theta is
        ``torch.nn.utils.parameters_to_vector(module.parameters())``.
    theta : (n_params,) array
        The weights.

    Raises
    ------
    TypeError
        The module does something that a field cannot; the message names the line or the layer.
    ValueError
        The field does not give the numbers of the module.

    See Also
    --------
    to_torch : the way back.

    Examples
    --------
    >>> import torch, pynode as pn, pynode.torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    >>> f, theta = pynode.torch.from_torch(net)
    >>> f.d, len(theta)
    (2, 82)
    >>> pn.solve(f, [1.0, 0.0], [0.0, 1.0], theta).ok
    True
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module={module!r} is no torch.nn.Module: write a function as a field, with pynode.field")
    order = arguments or _order(module)
    if order not in ORDERS:
        raise ValueError(f"arguments={arguments!r} must be one of {', '.join(map(repr, ORDERS))}")
    d = _size(module) if state is None else state
    name = name or type(module).__name__
    try:
        graph = fx.symbolic_trace(module)
    except Exception as error:
        raise TypeError(
            f"{name} cannot be read: torch.fx does not trace it ({error}). Write forward without loops and conditions that "
            "depend on numbers, or the field in NumPy with pynode.field"
        ) from error
    spec = _spec(module)
    where = new_trace((1, d, 0), (spec[-1].stop if spec else 0,))
    slots = {"t": where.slot(0, ()), "y": where.slot(1)}
    reader = _Reader(graph, spec, where.theta() if spec else None)
    try:
        value = trace(reader.run, [[slots[x] for x in order.split(", ")]], where, d)
    except (CannotRead, TraceError, ValueError, IndexError) as error:
        raise TypeError(
            f"{name} cannot be read as a field of {d} states{reader.where()}: {error}. Give state= if that is not its size, "
            "or write the field in NumPy with pynode.field"
        ) from error
    field = Field(where.builder.finish([value.register]), spec, name)
    theta = weights(module)
    _compare(field, theta, module, order)
    return field, theta


def weights(module: nn.Module) -> NDArray[np.float64]:
    """The parameters of a module as one vector."""
    parts = [p.detach().cpu().double().numpy().ravel() for p in module.parameters()]
    return np.concatenate([np.empty(0), *parts])


def _order(module: nn.Module) -> str:
    """How forward is called, by the number of its arguments."""
    given = list(inspect.signature(module.forward).parameters.values())
    needed = [p for p in given if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if len(needed) not in (1, 2):
        raise TypeError(
            f"{type(module).__name__}.forward takes {len(needed)} arguments: a field is called with (t, y) or (y)"
        )
    return "y" if len(needed) == 1 else "t, y"


def _size(module: nn.Module) -> int:
    """What the last linear layer gives."""
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise TypeError(f"{type(module).__name__} has no linear layer that tells the size of the state: give state=")
    return layers[-1].out_features


def _spec(module: nn.Module) -> tuple[Parameter, ...]:
    spec: list[Parameter] = []
    for name, p in module.named_parameters():
        values = ("value", p.detach().cpu().double().numpy().ravel().tolist())
        spec.append(Parameter(name, tuple(p.shape), spec[-1].stop if spec else 0, values))
    return tuple(spec)


class _Reader:
    """Runs the graph of a module on traced values."""

    def __init__(self, graph: fx.GraphModule, spec: tuple[Parameter, ...], theta: Any) -> None:
        self.graph = graph
        self.node: fx.Node | None = None
        shared = {id(p): name for name, p in graph.named_parameters()}
        names = {name: name for name, _ in graph.named_parameters(remove_duplicate=False)}
        for name, p in graph.named_parameters(remove_duplicate=False):
            names[name] = shared[id(p)]
        place = {p.name: p for p in spec}
        self.parameters = {
            name: theta[place[at].offset : place[at].stop].reshape(place[at].shape)
            for name, at in names.items()
            if at in place
        }

    def where(self) -> str:
        """The line or the layer at hand, in words."""
        if self.node is None:
            return ""
        lines = [line.strip() for line in (self.node.stack_trace or "").splitlines() if line.strip()]
        code = f", {lines[-1]}" if lines else ""
        return f", at {self.node.target if self.node.op == 'call_module' else self.node.name!r}{code}"

    def run(self, arguments: list[Any]) -> Any:
        """The value for these arguments of forward."""
        given = iter(arguments)
        values: dict[str, Any] = {}
        for node in self.graph.graph.nodes:
            self.node = node
            args = fx.node.map_arg(node.args, lambda n: values[n.name])
            more = {k: x for k, x in fx.node.map_arg(node.kwargs, lambda n: values[n.name]).items() if k != "inplace"}
            if node.op == "placeholder":
                values[node.name] = next(given, node.args[0] if node.args else None)
            elif node.op == "output":
                self.node = None
                return args[0]
            elif node.op == "get_attr":
                values[node.name] = self.attribute(node.target)
            elif node.op == "call_module":
                values[node.name] = self.layer(node.target, *args)
            else:
                name = node.target if isinstance(node.target, str) else node.target.__name__
                values[node.name] = function(name)(*args, **more)
        raise CannotRead("the module returns nothing")

    def attribute(self, name: str) -> Any:
        """A parameter, or a buffer as a constant."""
        if name in self.parameters:
            return self.parameters[name]
        value: Any = self.graph
        for part in name.split("."):
            value = getattr(value, part)
        return value.detach().cpu().double().numpy() if isinstance(value, torch.Tensor) else value

    def layer(self, name: str, x: Any) -> Any:
        """A module of torch."""
        m = self.graph.get_submodule(name)
        if type(m) is nn.Linear:
            return linear(x, self.parameters[f"{name}.weight"], self.parameters.get(f"{name}.bias"))
        if type(m) is nn.Bilinear or type(m) not in MODULES:
            if isinstance(m, nn.Dropout) and (m.p == 0 or not m.training):
                return x
            if isinstance(m, nn.Dropout):
                raise CannotRead("dropout in training is random; a field is not: module.eval() first")
            known = ", ".join(sorted(kind.__name__ for kind in (nn.Linear, nn.Dropout, *MODULES)))
            raise CannotRead(f"a layer {type(m).__name__}: known are {known}")
        return MODULES[type(m)](m, x)


def _compare(field: Field, theta: NDArray[np.float64], module: nn.Module, order: str) -> None:
    """At random states, with an untouched copy in double precision."""
    own = copy.deepcopy(module).double().cpu()
    rng = np.random.default_rng(0)
    y = rng.normal(size=(CHECKED, field.d))
    t = float(rng.uniform(0.1, 1.0))
    given = {"t": torch.tensor(t, dtype=torch.float64), "y": torch.from_numpy(y)}
    with torch.no_grad():
        there = own(*(given[x] for x in order.split(", "))).numpy()
    here = field(t, y, theta)
    if there.shape != here.shape or not np.allclose(here, there, rtol=1e-8, atol=1e-10, equal_nan=True):
        raise ValueError(
            f"{field.name} as a field gives other numbers than the module, at random states: it may mix the samples of a "
            "batch, or be random, or write to its own buffers. Write the field in NumPy with pynode.field"
        )
