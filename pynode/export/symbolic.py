"""The right-hand side of a field or model as SymPy expressions; `sympy`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pynode.fields.field import Field
from pynode.programs.formula import Atom, Formula, NotReadable, formulas


def sympy(what: Any, theta: ArrayLike | None = None) -> list[Any]:
    """The right-hand side as expressions of SymPy, to be simplified, differentiated, or printed as code.

    Symbols are t, the names of the states (y1, y2, ... where they have none) and u1, u2, ... for control inputs; parameters
    are numbers. The equation of a fitted model has to be in the units of the data, as those of few terms are.

    Parameters
    ----------
    what : Field or NeuralODE
        A field without a large network, or a fitted model with such a field.
    theta : (n_params,) array or nested dict, optional
        Parameters of a field; a fitted model has its own.

    Returns
    -------
    list of sympy.Expr
        One for each state.

    Raises
    ------
    ImportError
        SymPy is not installed.
    ValueError
        The field is too large to be read, or calls Python.

    See Also
    --------
    NeuralODE.equation : the same as text and LaTeX.

    Examples
    --------
    >>> import pynode as pn
    >>> spring = pn.field(state=2, theta={"k": 4.0})(lambda t, y, th: [y[1], -th.k * y[0]])
    >>> pn.export.sympy(spring, [4.0])
    [y2, -4.0*y1]
    """
    field, numbers, states, inputs = _parts(what, theta)
    try:
        sp: Any = importlib.import_module("sympy")
    except ImportError:
        raise ImportError("expressions need SymPy: pip install sympy") from None
    try:
        if field.callback is not None:
            raise NotReadable("it calls Python")
        found = formulas(field.program, [["t"], states, inputs], numbers.tolist())
    except (NotReadable, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{field.name} cannot be written as an expression: {error}") from None
    symbols = {name: sp.Symbol(name, real=True) for name in ("t", *states, *inputs)}
    functions = _functions(sp)

    def atom(a: Atom) -> Any:
        inside = [expression(f) for f in a.inside]
        value = symbols[a.name] if not inside else functions[a.name](*inside) if a.name else inside[0]
        return value if a.exponent is None else value ** expression(a.exponent)

    def expression(f: Formula) -> Any:
        return sp.Add(*(sp.Mul(_number(sp, c), *(atom(a) ** _number(sp, p) for a, p in factors)) for c, factors in f.terms))

    return [expression(f) for f in found]


def _number(sp: Any, value: float) -> Any:
    """Whole numbers as such, so that powers are simplified; -1 and 1 as factors too."""
    return (
        sp.Integer(int(value))
        if value in (-1.0, 1.0) or (value == int(value) and abs(value) < 4 and value > 0)
        else sp.Float(value)
    )


def _functions(sp: Any) -> dict[str, Callable[..., Any]]:
    """The functions of formulas (`pynode.programs.formula.CALLS`)."""

    def where(condition: Any, a: Any, b: Any) -> Any:
        return sp.Piecewise((a, sp.Ne(condition, 0)), (b, True))

    def one_if(condition: Any) -> Any:
        return sp.Piecewise((1, condition), (0, True))

    return {
        "abs": sp.Abs,
        "sign": sp.sign,
        "sqrt": sp.sqrt,
        "exp": sp.exp,
        "expm1": lambda a: sp.exp(a) - 1,
        "log": sp.log,
        "log1p": lambda a: sp.log(1 + a),
        "sin": sp.sin,
        "cos": sp.cos,
        "tanh": sp.tanh,
        "sigmoid": lambda a: 1 / (1 + sp.exp(-a)),
        "softplus": lambda a: sp.log(1 + sp.exp(a)),
        "relu": lambda a: sp.Max(a, 0),
        "step": lambda a: one_if(a > 0),
        "erf": sp.erf,
        "arctan": sp.atan,
        "max": sp.Max,
        "min": sp.Min,
        "less": lambda a, b: one_if(a < b),
        "less_equal": lambda a, b: one_if(a <= b),
        "equal": lambda a, b: one_if(sp.Eq(a, b)),
        "where": where,
    }


def _parts(what: Any, theta: Any) -> tuple[Field, Any, list[str], list[str]]:
    """(field, parameters, names of states, names of inputs)"""
    names: Sequence[str] = ()
    if isinstance(what, Field):
        field = what
        if theta is None and field.n_params:
            raise ValueError(f"theta is missing: {field.name} has {field.n_params} parameters")
        given = field.flatten(theta) if isinstance(theta, dict) else [] if theta is None else theta
        numbers = np.asarray(given, dtype=np.float64)
    elif hasattr(what, "scaling_") and hasattr(what, "theta_"):
        what.check_is_fitted()
        if theta is not None:
            raise ValueError("theta= is for fields: a fitted model has its own parameters")
        what.equation()  # says why there is none that could be read
        field = what.field_
        numbers = np.asarray(what.theta_, dtype=np.float64)
        names = what.names_
        scaling = what.scaling_
        if what.log or (scaling.scale != 1).any() or scaling.shift.any() or scaling.t_scale != 1 or scaling.t_shift:
            raise ValueError("the model's equation is in scaled units or logarithms: fit with scale=False, log=False")
    else:
        raise TypeError(f"what={what!r} is neither a Field nor a fitted NeuralODE")
    if numbers.shape != (field.n_params,):
        raise ValueError(f"theta has shape {numbers.shape}: {field.name} has {field.n_params} parameters")
    states = list(field.state_names) or [*names, *(f"y{i + 1}" for i in range(len(names), field.d))]
    return field, numbers, states, [f"u{i + 1}" for i in range(field.inputs)]
