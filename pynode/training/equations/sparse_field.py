"""The vector field of a few terms for each state."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.fields.parameters import Parameter
from pynode.programs.tracing import new_trace
from pynode.training.equations.bends import SCALE
from pynode.training.equations.numbers import Numbers
from pynode.training.equations.terms import FOUND, Term, inner_of


def sparse_field(
    chosen: Sequence[Sequence[Term]],
    coefficients: Sequence[Iterable[float]],
    m: int,
    names: Sequence[str] = (),
    numbers: Numbers | None = None,
) -> Field:
    """The field of a few terms for each state.

    Parameters
    ----------
    chosen : sequence of sequences of Term
        The terms of each state.
    coefficients : sequence of arrays
        Where their coefficients start.
    m : int
        How many inputs there are.
    names : sequence of str, optional
        Of the states and inputs, for the names of parameters. Default: y1, y2, ..., u1, ...
    numbers : Numbers, optional
        Which coefficients are the same, or known. Default: each is a parameter.

    Returns
    -------
    Field
        With one parameter for each number that is not known, named by the first term that it stands before, such as
        "x: x^2*y", then those inside terms: "K", or "K1", "K2", ..., "c".
    """
    d = len(chosen)
    values = [float(c) for row in coefficients for c in row]
    numbers = numbers or Numbers.free(len(values))
    n = numbers.n
    inner = inner_of(chosen)
    trace = new_trace((1, d, m), (n + len(inner),))
    x = _variables(trace, d, m)
    theta: Any = trace.theta()
    sums: list[Any] = []
    each = iter(zip(numbers.which, numbers.factor, strict=True))
    for row in chosen:
        total: Any = None
        for term in row:
            part = term.value(x, [theta[n + inner.index(key)] for key in term.inner])
            which, factor = next(each)
            if which >= 0:
                part = theta[which] if isinstance(part, float) else theta[which] * part
            if total is None:
                total = part if factor > 0 else -part
            else:
                total = total + part if factor > 0 else total - part
        if total is None or isinstance(total, float):
            total = trace.slot(1)[0] * 0.0 + (total or 0.0)
        sums.append(total)
    slopes: Any = np.concatenate([s.reshape(1) for s in sums])
    given = names or [*(f"y{i + 1}" for i in range(d)), *(f"u{i + 1}" for i in range(m))]
    plain = [name.replace(".", "_") for name in given]  # a dot would make a nested name
    symbols = _symbols(plain, inner)
    labels = [
        f"{plain[i]}: {term.text(plain, [symbols[key] for key in term.inner])}"
        for i, row in enumerate(chosen)
        for term in row
    ]
    firsts = numbers.first()
    starts = numbers.of(values)
    spec = [Parameter(labels[j], (), k, ("value", [c])) for k, (j, c) in enumerate(zip(firsts, starts, strict=True))]
    for k, (name, value) in enumerate(inner, n):
        constraint = ("positive",) if name == SCALE else ("free",)
        spec.append(Parameter(symbols[name, value], (), k, ("value", [value]), constraint))
    return Field(trace.builder.finish([slopes.register]), tuple(spec), FOUND)


def _symbols(names: Sequence[str], inner: Sequence[tuple[str, float]]) -> dict[tuple[str, float], str]:
    """What parameters inside terms are called: K, or K1, K2, ..., and c; no state is called so."""
    found = {}
    for kind in dict.fromkeys(name for name, _ in inner):
        letter = kind
        while any(name.startswith(letter) for name in names):
            letter += "_"
        same = [key for key in inner if key[0] == kind]
        for k, key in enumerate(same, 1):
            found[key] = f"{letter}{k}" if len(same) > 1 else letter
    return found


def _variables(trace: Any, d: int, m: int) -> list[Any]:
    y = trace.slot(1)
    u = trace.slot(2) if m else ()
    return [y[i] for i in range(d)] + [u[i] for i in range(m)]
