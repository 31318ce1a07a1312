"""`to_torch`: a field as a torch.nn.Module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from pynode.fields.field import Field
from pynode.fields.parameters import checked_theta
from pynode.programs.program import Instr

UNARY: dict[str, Callable[[Any], Any]] = {
    **{"NEG": torch.neg, "ABS": torch.abs, "SIGN": torch.sign, "SQUARE": torch.square, "RECIP": torch.reciprocal},
    **{"SQRT": torch.sqrt, "EXP": torch.exp, "EXPM1": torch.expm1, "LOG": torch.log, "LOG1P": torch.log1p, "SIN": torch.sin},
    **{"COS": torch.cos, "TANH": torch.tanh, "SIGMOID": torch.sigmoid, "RELU": torch.relu, "ERF": torch.erf},
    **{"ATAN": torch.arctan, "STEP": lambda a: (a > 0).to(a.dtype)},
    "SOFTPLUS": lambda a: torch.logaddexp(a, torch.zeros_like(a)),
}
"""Elementwise operations of one register (csrc/program/ops.def)."""

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    **{"ADD": torch.add, "SUB": torch.sub, "MUL": torch.mul, "DIV": torch.div, "POW": torch.pow},
    **{"MAX": torch.maximum, "MIN": torch.minimum},
    "LT": lambda a, b: (a < b).to(a.dtype),
    "LE": lambda a, b: (a <= b).to(a.dtype),
    "EQ": lambda a, b: (a == b).to(a.dtype),
    "DTANH": lambda a, b: a * (1 - b * b),
    "DSIGMOID": lambda a, b: a * b * (1 - b),
    "DMUL": lambda a, b: torch.where((a == 0) | (b == 0), torch.zeros_like(a), a * b),
    "DDIV": lambda a, b: torch.where(a == 0, torch.zeros_like(a), a / b),
}
"""Of two registers."""

LAYERS: dict[str, type[nn.Module]] = {"TANH": nn.Tanh, "SIGMOID": nn.Sigmoid, "RELU": nn.ReLU, "SOFTPLUS": nn.Softplus}
"""Operations that are activations of torch."""


class ProgramModule(nn.Module):
    """A field evaluated by operations of torch.

    Parameters
    ----------
    field : Field
        Not a callback field.
    theta : (n_params,) array
        The parameters, a `torch.nn.Parameter` of this module.

    Examples
    --------
    >>> import torch, pynode as pn, pynode.torch
    >>> f = pn.mlp(2, (8,), time=True)
    >>> module = pynode.torch.to_torch(f, f.init(0))
    >>> module(0.5, torch.ones(3, 2, dtype=torch.float64)).shape
    torch.Size([3, 2])
    """

    def __init__(self, field: Field, theta: Any) -> None:
        super().__init__()
        if field.callback is not None:
            raise TypeError(f"{field.name} is a Python callback, which has no program: only traced fields become modules")
        self.field = field
        self.theta = nn.Parameter(torch.as_tensor(np.array(theta, dtype=np.float64)))
        self.code = field.program.instructions

    def forward(self, t: Any, y: Any, u: Any = None) -> Any:
        """The value of the field.

        Parameters
        ----------
        t : float or tensor (B,)
        y : (..., d) tensor
            The states.
        u : (..., m) tensor, optional
            The inputs.

        Returns
        -------
        (..., n_out) tensor
        """
        field, batch = self.field, y.shape[:-1]
        states = y.reshape(-1, field.d)
        times = torch.as_tensor(t, dtype=y.dtype, device=y.device)
        values: dict[int, Any] = {0: times.reshape(-1, 1).expand(len(states), 1), 1: states}
        if field.inputs:
            values[2] = u.reshape(-1, field.inputs).expand(len(states), field.inputs)
        theta = self.theta.to(y.dtype)
        for x in self.code:
            values[x.out] = self.step(x, values, theta, len(states), y)
        return values[field.program.outputs[0]].reshape(*batch, *field.out_shape)

    def step(self, x: Instr, values: dict[int, Any], theta: Any, n: int, like: Any) -> Any:
        """The register that one instruction makes.

        Parameters
        ----------
        x : Instr
        values : dict
            Registers that there are, (n, size).
        theta : tensor
        n : int
            Samples.
        like : tensor
            Its type and device.
        """
        program = self.field.program
        size = program.sizes[x.out]
        got = [values[r] for r in x.operands]
        if x.op in UNARY:
            return UNARY[x.op](got[0])
        if x.op in BINARY:
            return BINARY[x.op](got[0], got[1])
        if x.op in ("CONST", "PARAM"):
            row = (
                torch.as_tensor(program.consts[x.p : x.p + size].copy()).to(like)
                if x.op == "CONST"
                else theta[x.p : x.p + size]
            )
            return row.expand(n, size)
        if x.op == "AFFINE":
            m = program.sizes[x.a]
            bias = theta[x.q : x.q + size] if x.q >= 0 else None
            return nn.functional.linear(got[0], theta[x.p : x.p + size * m].reshape(size, m), bias)
        if x.op == "AFFINE_T":
            m = program.sizes[x.a]
            return got[0] @ theta[x.p : x.p + size * m].reshape(m, size)
        if x.op in ("MATVEC", "MATVEC_T"):
            m = program.sizes[x.b]
            A = got[0].reshape(n, size, m) if x.op == "MATVEC" else got[0].reshape(n, m, size).transpose(1, 2)
            return (A @ got[1].unsqueeze(-1)).squeeze(-1)
        return self.move(x, got, size)

    def move(self, x: Instr, got: list[Any], size: int) -> Any:
        """Operations that move numbers.

        Parameters
        ----------
        x : Instr
        got : list of tensors
            The operands.
        size : int
            Of the result.
        """
        index = self.field.program.index
        a = got[0]
        if x.op == "OUTER":
            return (a.unsqueeze(-1) * got[1].unsqueeze(-2)).reshape(len(a), size)
        if x.op == "WHERE":
            return torch.where(a != 0, got[1], got[2])
        if x.op == "BCAST":
            return a.expand(len(a), size)
        if x.op == "SUM":
            return a.sum(-1, keepdim=True)
        if x.op == "CONCAT":
            return torch.cat(got, -1)
        if x.op in ("SLICE", "GATHER"):
            where = x.p + np.arange(size) * x.q if x.op == "SLICE" else index[x.p : x.p + size]
            return a[:, torch.as_tensor(np.array(where, dtype=np.int64), device=a.device)]
        if x.op == "SCATTER":
            where = torch.as_tensor(np.array(index[x.p : x.p + a.shape[1]], dtype=np.int64), device=a.device)
            return a.new_zeros(len(a), size).index_add(1, where, a)
        raise NotImplementedError(f"{self.field.name} contains {x.op}, which has no counterpart in torch")


def to_torch(field: Field, theta: Any) -> nn.Module:
    """A field with its parameters as a torch.nn.Module.

    Parameters
    ----------
    field : Field
        A network of `pynode.mlp` or `from_torch`, or any field that was traced.
    theta : (n_params,) array, tensor, or nested dict
        The parameters.

    Returns
    -------
    torch.nn.Module
        In double precision. A plain network becomes a `torch.nn.Sequential`, called as ``module(y)``; every other field a
        `ProgramModule`, called as ``module(t, y)``.

    See Also
    --------
    from_torch : the way back.

    Examples
    --------
    >>> import pynode as pn, pynode.torch
    >>> f = pn.mlp(2, (16,))
    >>> pynode.torch.to_torch(f, f.init(0))
    Sequential(
      (0): Linear(in_features=2, out_features=16, bias=True)
      (1): Tanh()
      (2): Linear(in_features=16, out_features=2, bias=True)
    )
    """
    if isinstance(theta, torch.Tensor):
        theta = theta.detach().cpu().double().numpy()
    values = np.array(checked_theta(field.spec, theta))
    whole = ProgramModule(field, values)
    layers = _layers(whole, values)
    return whole if layers is None else nn.Sequential(*layers)


def _layers(whole: ProgramModule, theta: Any) -> list[nn.Module] | None:
    """The layers of a plain network, each of the register before; None where the field is something else."""
    program = whole.field.program
    layers: list[nn.Module] = []
    last = 1
    for x in whole.code:
        if x.op == "AFFINE" and x.a == last:
            n, m = program.sizes[x.out], program.sizes[x.a]
            layer = nn.Linear(m, n, bias=x.q >= 0, dtype=torch.float64)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(theta[x.p : x.p + n * m].reshape(n, m)))
                if x.q >= 0:
                    layer.bias.copy_(torch.from_numpy(theta[x.q : x.q + n]))
            layers.append(layer)
        elif x.op in LAYERS and x.a == last:
            layers.append(LAYERS[x.op]())
        else:
            return None
        last = x.out
    plain = last == program.outputs[0] and whole.field.out_shape == (program.sizes[last],)
    used = sum(p.numel() for layer in layers for p in layer.parameters())
    return layers if plain and layers and used == whole.field.n_params else None
