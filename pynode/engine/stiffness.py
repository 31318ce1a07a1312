"""Whether an explicit method took its steps at the limit of its stability: `stiff_words`.

There the step control does not see the error that it is to control: steps are as short as stability wants, and derivatives
of steps that barely damp their errors are far from those of the solution (Hairer, Wanner, Solving ODEs II, IV.2).
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import as_batch
from pynode.engine.options import Options, is_implicit, method_row
from pynode.fields.field import Field
from pynode.fields.system import System
from pynode.fields.transforms import jacobian

MANY = 1000
"""So many accepted steps of a sample are worth a look."""

MOST = 3000
"""As many steps are looked at, at most."""

POINTS = 60
"""At this many of them the Jacobian is evaluated."""

NEAR = 0.7
"""A step whose h |lambda| is more than this part of the limit is at the limit ..."""

OFTEN = 0.5
"""... and an equation is stiff where more than this part of the steps are."""


def stability_limit(method: Any) -> float:
    """The largest x for which the method damps y' = -y with steps x: the real stability interval."""
    row = method_row(method)
    return _limit(tuple(map(tuple, row["a"][: row["s"], : row["s"]].tolist())), tuple(row["b"].tolist()))


@cache
def _limit(a: tuple[tuple[float, ...], ...], b: tuple[float, ...]) -> float:
    A, weights = np.array(a), np.array(b)
    terms = [1.0]
    power = np.ones(len(weights))
    for _ in weights:
        terms.append(float(weights @ power))
        power = A @ power
    x = np.linspace(0.0, 40.0, 8001)[1:]
    beyond = np.abs(np.polyval(terms[::-1], -x)) > 1.0
    return float(x[np.argmax(beyond)]) if beyond.any() else float(x[-1])


def stiff_words(setup: Any, theta: NDArray[Any], results: Any) -> str | None:
    """What to say where the sample of the most steps was solved at the limit of stability; None where it was not.

    Parameters
    ----------
    setup : PreparedSolve
        What was solved, by an explicit method with step control.
    theta : (n_params,) or (B, n_params) array
        Its parameters.
    results : mapping
        Of the core.
    """
    f = setup.field
    field: Field = f.field if isinstance(f, System) else f
    options: Options = setup.options
    jumps = isinstance(f, System) and (f.jump is not None or bool(f.events))
    fixed = options.step is not None or options.grid is not None
    if is_implicit(options.method) or fixed or options.coupling > 0 or field.callbacks is not None or jumps or field.d > 200:
        return None
    i = int(np.argmax(results["accepted"]))
    own = theta[i] if theta.ndim == 2 else theta
    own = own[: field.n_params].astype(np.float64)
    t, h, y, u = _steps_of(setup, field, own, i)
    if len(t) < POINTS:
        return None
    slope = jacobian(field, "y")(t, y, own, u).reshape(len(t), field.d, field.d)
    if not np.isfinite(slope).all():
        return None
    rates = np.linalg.eigvals(slope) * np.sign(h)[:, None]
    damped = np.where(rates.real < -np.abs(rates.imag), np.abs(rates), 0.0).max(axis=1)
    size = damped * np.abs(h)
    limit = stability_limit(options.method)
    part = float(np.mean(size > NEAR * limit))
    if part < OFTEN:
        return None
    which = f"sample {i}" if len(setup.batch.y0) > 1 else "the solution"
    return (
        f"{which} is stiff: {part:.0%} of the steps looked at are as long as {options.method!r} stays stable (step times "
        f"rate = {float(np.median(size[size > NEAR * limit])):.2g}, its limit is {limit:.2g}), not as the tolerances "
        "allow, and gradients through such steps can be far off: take method='rodas5p'"
    )


def _steps_of(setup: Any, field: Field, theta: NDArray[Any], i: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Any]:
    """(times, lengths, states, inputs) of some of the first steps of sample i."""
    batch = setup.batch
    rows = batch.slices()[i] if batch.kind == "ragged" else None
    own = batch.t[rows] if rows is not None else batch.row_times()[batch.row[i] : batch.row[i] + batch.length[i]]
    one = as_batch(batch.y0[i], own[[0, -1]], field.d, np.float64)
    signal = setup.signal
    if signal is not None and not signal.shared:
        signal = signal.take([i])
    given = setup.options
    options = Options(given.method, given.rtol, given.atol, inputs=signal, max_steps=MOST, max_step=given.max_step)
    again = type(setup)(field, one, options, dense=True, steps=True)
    raw = again.run(theta)
    record = raw["steps"][0]
    count = len(record)
    some = np.unique(np.linspace(count // 10, count - 1, POINTS).astype(int)) if count else np.zeros(0, int)
    t = record[some, 0]
    u = None if signal is None else signal(t, 0)
    return t, record[some, 1], record[some, 2 : 2 + field.d], u
