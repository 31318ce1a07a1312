"""What the operations and modules of torch are in a program: one row each.

Values are those of one sample: a tensor (B, n) of torch is a traced array (n,) here, its first axis is left out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from torch import nn

from pynode.programs import functions as pf

Row = Callable[..., Any]


class CannotRead(TypeError):
    """What is not in a table here, or is used in a way that is not."""


def along_last(dim: Any, what: str) -> None:
    """The axis of samples cannot be touched."""
    if dim not in (-1, 1):
        raise CannotRead(f"{what} along axis {dim}: a field works on the last axis, -1, of each sample by itself")


def _item(x: Any, index: Any) -> Any:
    """x[..., i], x[:, i]."""
    if isinstance(x, (list, tuple)):
        return x[index]
    index = index if isinstance(index, tuple) else (index,)
    if len(index) == 2 and (index[0] is Ellipsis or index[0] == slice(None)) and np.ndim(x) == 1:
        return x[index[1]]
    if index in ((Ellipsis,), (slice(None),)):
        return x
    raise CannotRead(f"[{index}]: the first axis is that of the samples; write y[..., i] or y[..., a:b] for components")


def _shaped(x: Any, parts: Any) -> list[Any]:
    """Pieces of these lengths."""
    at = np.cumsum([0, *parts])
    return [x[a:b] for a, b in pairwise(at)]


def _split(x: Any, size: Any, dim: Any = 0) -> Any:
    along_last(dim, "split")
    n = np.shape(x)[0]
    sizes = [min(size, n - a) for a in range(0, n, size)] if isinstance(size, int) else size
    return _shaped(x, sizes)


def _chunk(x: Any, chunks: int, dim: Any = 0) -> Any:
    along_last(dim, "chunk")
    return _split(x, math.ceil(np.shape(x)[0] / chunks), dim)


def _cat(parts: Any, dim: Any = 0, axis: Any = None) -> Any:
    along_last(dim if axis is None else axis, "cat")
    return np.concatenate([np.reshape(x, (-1,)) for x in parts])


def _stack(parts: Any, dim: Any = 0) -> Any:
    along_last(dim, "stack")
    return np.stack(parts)


def _unbind(x: Any, dim: Any = 0) -> Any:
    along_last(dim, "unbind")
    return [x[i] for i in range(np.shape(x)[0])]


def _unsqueeze(x: Any, dim: Any) -> Any:
    along_last(dim, "unsqueeze")
    return np.reshape(x, (1,))


def _squeeze(x: Any, dim: Any = None) -> Any:
    along_last(dim, "squeeze")
    return np.reshape(x, ())


def _sum(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    along_last(dim, "sum")
    return np.sum(x, keepdims=keepdim)


def _mean(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return _sum(x, dim, keepdim) / np.shape(x)[0]


def _product(x: Any, w: Any) -> Any:
    """x (B, n) times a matrix (n, m)."""
    if np.ndim(x) == 1 and np.ndim(w) == 2:
        return w.T @ x
    if np.ndim(x) == 2 and np.ndim(w) == 1:
        return x @ w
    raise CannotRead("a product of two matrices that are no parameters: only y @ A and F.linear(y, A) are read")


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """W x + b."""
    value = weight @ x
    return value if bias is None else value + bias


def _softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    return pf.softplus(beta * x) / beta  # beyond the threshold torch's is the same to rounding


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        return pf.gelu(x)
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _elu(x: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _leaky_relu(x: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    return np.where(x > 0, x, negative_slope * x)


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


def _like(number: float) -> Row:
    return lambda x, **_: np.full(np.shape(x), number)


def _plain(f: Row) -> Row:
    """f of the first argument; inplace and the like make no difference."""
    return lambda x, *_, **__: f(x)


UNARY: dict[str, Row] = {
    **{name: getattr(np, name) for name in ("tanh", "sin", "cos", "exp", "expm1", "sqrt", "square", "log", "log1p")},
    **{name: getattr(np, name) for name in ("sinh", "cosh", "tan", "arctan", "sign", "abs", "reciprocal")},
    **{"sigmoid": pf.sigmoid, "relu": pf.relu, "silu": pf.silu, "erf": pf.erf, "neg": operator.neg, "atan": np.arctan},
    **{"clone": lambda x: x, "contiguous": lambda x: x, "float": lambda x: x, "double": lambda x: x},
    **{
        "softsign": lambda x: x / (1 + np.abs(x)),
        "logsigmoid": lambda x: -pf.softplus(-x),
        "rsqrt": lambda x: 1 / np.sqrt(x),
    },
}
"""Elementwise functions of one argument, by their name in torch, torch.nn.functional or as a method."""

OTHERS: dict[str, Row] = {
    **{"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "truediv": operator.truediv},
    **{"pow": lambda x, e: x**e, "maximum": np.maximum, "minimum": np.minimum, "where": np.where, "clamp": _clamp},
    **{"mm": _product, "matmul": _product, "linear": linear, "getitem": _item, "split": _split, "chunk": _chunk},
    **{"cat": _cat, "concat": _cat, "stack": _stack, "unbind": _unbind, "unsqueeze": _unsqueeze, "squeeze": _squeeze},
    **{"sum": _sum, "mean": _mean, "softplus": _softplus, "gelu": _gelu, "elu": _elu, "leaky_relu": _leaky_relu},
    **{"ones_like": _like(1.0), "zeros_like": _like(0.0), "full_like": lambda x, c, **_: np.zeros(np.shape(x)) + c},
    **{"expand_as": lambda x, like: np.zeros(np.shape(like)) + x, "t": lambda w: w.T},
    **{name: getattr(operator, name) for name in ("lt", "le", "gt", "ge")},
}
"""The others."""


def function(name: str) -> Row:
    """What a function or method of torch is.

    Raises
    ------
    CannotRead
        There is no such row.
    """
    name = name.rstrip("_").removeprefix("i") if name in ("iadd", "isub", "imul", "itruediv") else name.rstrip("_")
    if name in UNARY:
        return _plain(UNARY[name])
    if name in OTHERS:
        return OTHERS[name]
    raise CannotRead(f"torch's {name!r}: known are {', '.join(sorted({*UNARY, *OTHERS}))}")


MODULES: dict[type, Callable[[Any, Any], Any]] = {
    nn.Identity: lambda m, x: x,
    nn.Tanh: lambda m, x: np.tanh(x),
    nn.Sigmoid: lambda m, x: pf.sigmoid(x),
    nn.ReLU: lambda m, x: pf.relu(x),
    nn.SiLU: lambda m, x: pf.silu(x),
    nn.Softplus: lambda m, x: _softplus(x, m.beta),
    nn.GELU: lambda m, x: _gelu(x, m.approximate),
    nn.ELU: lambda m, x: _elu(x, m.alpha),
    nn.LeakyReLU: lambda m, x: _leaky_relu(x, m.negative_slope),
    nn.Softsign: lambda m, x: x / (1 + np.abs(x)),
    nn.Tanhshrink: lambda m, x: x - np.tanh(x),
    nn.LogSigmoid: lambda m, x: -pf.softplus(-x),
    nn.Hardtanh: lambda m, x: _clamp(x, m.min_val, m.max_val),
    nn.ReLU6: lambda m, x: _clamp(x, 0.0, 6.0),
}
"""Modules without parameters; those with some are in `modules.py`."""
