"""From a batch, a field or a system and options to a problem of the core, checked once; `PreparedSolve`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode import _core
from pynode.data.arrays import is_ragged, kept, real_array
from pynode.data.batch import SaveTimes, starts
from pynode.data.signal import as_signal
from pynode.engine.accuracy import Accuracy
from pynode.engine.options import AUTO, AUTO_EXPLICIT, AUTO_STIFF, MAX_STEPS, is_implicit
from pynode.engine.stiffness import stability_limit
from pynode.fields.arguments import as_theta
from pynode.fields.differences import RELATIVE, Scales
from pynode.fields.implicit import jacobian_field
from pynode.fields.system import System
from pynode.programs.program import Program

if TYPE_CHECKING:
    from pynode.data.batch import Batch
    from pynode.fields.field import Field


def core_problem(
    program: Program,
    reverse: Program | None,
    y0: NDArray[Any],
    times: SaveTimes,
    options: dict[str, Any],
    **more: Any,
) -> _core.Problem:
    """A problem of the core: the only place that makes one.

    Parameters
    ----------
    program, reverse : Program
        The field and, where gradients or sensitivities are wanted, its vjp.
    y0 : (B, d) array
        Its dtype is that of the solve.
    times : SaveTimes
    options : dict
        Keywords that say how to solve, see `Options.arguments`.
    **more
        All others of `_core.Problem`; they overrule the options.
    """
    core = None if reverse is None else reverse.core
    keys = times.arguments() | options | more
    if len(program.breaks) and len(times.t):
        keys["stops"] = stops(program.breaks, times.t, y0.dtype)
        if "grid" in keys and len(keys["stops"]):
            keys |= _grid_with_stops(keys)
    if "max_steps" not in keys:
        keys["max_steps"] = MAX_STEPS + _forced(keys)
    return _core.Problem(program.core, core, y0=y0, **keys)


def _forced(keys: dict[str, Any]) -> int:
    """How many steps of a sample end where they have to: at knots, at save times, at breaks of the field."""
    sizes = [keys.get("knot_len"), keys["t_len"]]
    return len(keys.get("stops", ())) + sum(int(n.max(initial=0)) for n in sizes if n is not None)


def stops(breaks: NDArray[np.float64], t: NDArray[np.float64], dtype: Any) -> NDArray[np.float64]:
    """Times that steps end on, in pairs (before, after) around the breaks of a field that lie within the times t.

    Between those of a pair the field changes, whatever the rounding of its comparisons (in the precision of the solve).
    """
    eps = float(np.finfo(dtype).eps)
    low = float(t.min())
    high = float(t.max())
    width = np.maximum(5 * eps * breaks[:, 1], eps**2 * max(abs(low), abs(high)))
    pairs: list[list[float]] = []
    for before, after in sorted(zip(breaks[:, 0] - width, breaks[:, 0] + width, strict=True)):
        if after < low or before > high:
            continue
        if pairs and before <= pairs[-1][1]:
            pairs[-1][1] = max(after, pairs[-1][1])
        else:
            pairs.append([before, after])
    return np.array(pairs, dtype=np.float64).ravel()


def before_switches(
    field: Field, pieces: Any, sample: NDArray[Any], t: NDArray[np.float64], way: NDArray[Any], dtype: Any
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For times of samples: times at which the field is what it is before a switch, or a jump of the input, that lies there.

    Parameters
    ----------
    field : Field
        Of the solve.
    pieces : PiecewisePolynomial or None
        Its inputs.
    sample, t, way : (n,) array
        Samples, times, and where these lead: 1 or -1.
    dtype : dtype
        That of the solve.

    Returns
    -------
    (n,) float array, (n,) bool array
        The times, and which of them lie on a switch or a jump.
    """
    seen, on = np.array(t, np.float64), np.zeros(len(t), bool)
    breaks = field.program.breaks
    for low, high in stops(breaks, t, dtype).reshape(-1, 2) if len(breaks) and len(t) else ():
        here = (t >= low) & (t <= high)
        on |= here
        seen[here] = np.where(way[here] > 0, np.nextafter(low, -np.inf), np.nextafter(high, np.inf))
    for k, i in enumerate(sample if pieces is not None and pieces.jumps else ()):
        if (pieces.knots(i)[1:-1] == t[k]).any():
            on[k] = True
            seen[k] = min(seen[k], np.nextafter(t[k], -np.inf)) if way[k] > 0 else seen[k]
    return seen, on


def system_programs(system: System, gradient: bool) -> dict[str, Any]:
    """Keywords of `_core.Problem`: the programs of a system beside its field, and their vjps."""
    keys: dict[str, Any] = {}
    for name, key, part in (("jump", "jump", system.jump), ("loss", "loss_program", system.loss)):
        if part is not None:
            keys[key] = part.program.core
        if gradient:
            keys[f"{name}_reverse"] = None if part is None else part.vjp_program.core
    return keys


def hoisted_programs(f: Field | System, gradient: bool) -> dict[str, Any]:
    """Keywords of `_core.Problem`: what the field computes of its parameters alone, and the field without that."""
    parts = f.hoisted
    if parts is None:
        return {}
    keys = {"once": parts.once.core, "rest": parts.rest.core}
    return keys | ({"once_reverse": parts.once_vjp.core, "rest_reverse": parts.rest_vjp.core} if gradient else {})


def implicit_programs(f: Field | System, options: Any, signal: Any, gradient: bool) -> dict[str, Any]:
    """Keywords of `_core.Problem` that a method which solves linear systems needs; none for the others.

    Parameters
    ----------
    f : Field or System
        What is solved.
    options : Options
        With the method.
    signal : Signal or None
        The inputs.
    gradient : bool
        Gradients or sensitivities are wanted.

    Raises
    ------
    ValueError
        A gradient is wanted, and the field calls Python without a vjp.
    """
    if not is_implicit(options.method):
        return {}
    field = f.field if isinstance(f, System) else f
    moving = signal is not None and signal.kind not in ("constant", "previous")
    if field.callback is not None:
        keys: dict[str, Any] = {
            "jacobian": field.callback.jacobian_program(moving).core,
            "jacobian_reverse": field.callback.jacobian_vjp_program(moving).core if gradient else None,
            "jacobian_cost": field.callback.jacobian_cost(moving),
        }
    else:
        jacobian = jacobian_field(field, moving)
        keys = {
            "jacobian": jacobian.field.program.core,
            "jacobian_reverse": jacobian.field.vjp_program.core if gradient else None,
            "pattern": jacobian.pattern,
        }
    if options.method == AUTO:
        keys |= {"stiff": AUTO_STIFF, "stability": stability_limit(AUTO_EXPLICIT)}
    return keys


def jacobian_origin(f: Field | System, options: Any) -> str:
    """Where the Jacobian comes from, see `Stats.jacobian`."""
    field = f.field if isinstance(f, System) else f
    if not is_implicit(options.method):
        return "none"
    if field.callback is None:
        return "program"
    return "differences" if field.callback.jacobian is None else "given"


def difference_scales(options: Any, batch: Batch, d: int) -> Scales:
    """What Jacobians by differences take for not small: states at which atol begins to count more than rtol."""
    keys = options.arguments(d)
    spans = batch.t[batch.start + batch.length - 1] - batch.t[batch.start]  # negative backwards
    longest = float(spans[np.argmax(np.abs(spans))]) if len(spans) else 0.0
    return Scales(keys["atol"] / max(keys["rtol"], RELATIVE), longest)


def rows_of(name: str, x: Any, k: int, batch: Batch, part: str) -> NDArray[Any] | None:
    """The data of a jump or a loss as (rows, k): finite, or left out (NaN in the first entry); None where k is 0."""
    if k == 0:
        if x is not None:
            raise ValueError(f"{name} is given, but {part} takes none (inputs=0)")
        return None
    if x is None:
        raise ValueError(f"{name} is missing: {part} takes a row of {k} numbers at each save time")
    rows = kept(batch.flatten(name, x, batch.y0.dtype, k))
    bad = ~np.isfinite(rows)
    bad[np.isnan(rows[:, 0])] = False
    if bad.any():
        row, entry = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name}: row {row} has {rows[row, entry]} in entry {entry}, and {rows[row, 0]:g} in its first; NaN there "
            "leaves the whole row out, other entries must be finite: give a mask as further entries, and any number "
            "where it is 0"
        )
    return rows


def core_parts(system: System, batch: Batch, data: Any, gradient: bool) -> dict[str, Any]:
    """Keywords of `_core.Problem` for the jump and the loss of a system; the loss counts once `loss=` asks for it."""
    keys = system_programs(system, gradient)
    if system.jump is None and data is not None:
        raise ValueError("data= is given, but the system has no jump that takes it")
    if system.jump is not None:
        keys["jump_data"] = rows_of("data", data, system.jump.inputs, batch, "the jump")
    return keys


def own_data(batch: Batch, keys: dict[str, Any]) -> Any:
    """The data of the jumps in their user's shape, from the keywords of `core_parts`; None where there are none."""
    rows = keys.get("jump_data")
    return None if rows is None else batch.unflatten(rows)


def jumping_rows(batch: Batch, keys: dict[str, Any]) -> NDArray[np.bool_] | None:
    """(rows,) which rows jump, from the keywords of `core_parts`; None where nothing can."""
    if "jump" not in keys:
        return None
    x = keys["jump_data"]
    return np.ones(batch.rows, bool) if x is None else ~np.isnan(x[:, 0])


def _grid_arguments(grid: Any, batch: Batch, lands: NDArray[np.bool_]) -> dict[str, Any]:
    """Prescribed steps: one array of step ends (first = initial time) for all samples, or a list of one for each. Times
    where `lands` (rows,) must be among them."""
    if not len(batch.y0):
        grid = np.zeros(1)
    each = is_ragged(grid)
    grids = [real_array(f"grid[{i}]" if each else "grid", g, np.float64) for i, g in enumerate(grid if each else [grid])]
    n = len(batch.y0)
    if each and len(grids) != n:
        raise ValueError(f"grid holds {len(grids)} arrays for {n} samples: give one for each, or one for all")
    for i, g in enumerate(grids):
        if g.ndim != 1 or g.size == 0:
            raise ValueError(f"grid[{i}] has shape {g.shape}; it must be a 1-d array of step ends")
    length = np.array([g.size for g in grids], dtype=np.int64)
    start = starts(length)
    for i in range(n) if lands.any() else ():
        t = batch.t[batch.start[i] : batch.start[i] + batch.length[i]]
        _check_lands(i, grids[i if each else 0], t[lands[batch.row[i] : batch.row[i] + batch.length[i]]])
    if not each:
        start, length = np.repeat(start, n), np.repeat(length, n)
    return {"grid": np.concatenate(grids), "grid_start": start, "grid_len": length}


def _grid_with_stops(keys: dict[str, Any]) -> dict[str, Any]:
    """The grids, with both times of each pair of stops that one of their steps ends in: no stage lies behind the break."""
    low, high = keys["stops"].reshape(-1, 2).T
    places, which = np.unique(np.stack([keys["grid_start"], keys["grid_len"]]), axis=1, return_inverse=True)
    grids = []
    for first, n in places.T:  # samples may share one
        grid = keys["grid"][first : first + n]
        pair = np.minimum(np.searchsorted(high, grid), len(high) - 1)
        pair = np.unique(pair[(low[pair] <= grid) & (grid <= high[pair])])
        ends = np.concatenate([low[pair], high[pair]])
        rising = np.union1d(grid, ends[(ends > grid.min()) & (ends < grid.max())])
        grids.append(rising if grid[0] <= grid[-1] else rising[::-1])
    length = np.array([g.size for g in grids], dtype=np.int64)
    return {"grid": np.concatenate(grids), "grid_start": starts(length)[which], "grid_len": length[which]}


def _check_grid_knots(keys: dict[str, Any], batch: Batch) -> None:
    """An input's polynomial changes at its knots: a prescribed step must not reach across one."""
    if "knot" not in keys:
        return
    for i, (low, high) in enumerate(batch.spans()):
        if keys["cross_knots"][i]:
            continue
        knot = keys["knot"][keys["knot_start"][i] : keys["knot_start"][i] + keys["knot_len"][i]][1:-1]
        knot = knot[(knot > low) & (knot < high)]
        grid = keys["grid"][keys["grid_start"][i] : keys["grid_start"][i] + keys["grid_len"][i]]
        missing = knot[~np.isin(knot, grid)]
        if len(missing):
            raise ValueError(
                f"grid[{i}] steps over t = {missing[0]:g}, a knot of the inputs: the grid must contain the "
                "knots inside the interval, or the inputs be a Signal(..., knots='smooth')"
            )


def _check_lands(i: int, grid: Any, t: Any) -> None:
    """The core's notion of the same time is four units in the last place."""
    if not len(t):
        return
    rising, asked = (grid, t) if grid[0] <= grid[-1] else (-grid, -t)
    after = np.clip(np.searchsorted(rising, asked), 1, max(len(grid) - 1, 1))
    gap = np.minimum(np.abs(rising[after - 1] - asked), np.abs(rising[np.minimum(after, len(grid) - 1)] - asked))
    missing = t[gap > 8.8e-16 * np.abs(t)]
    if len(missing):
        raise ValueError(
            "save='land', jumps and the reversible scheme need every time among the grid's: "
            f"sample {i}, t = {missing[0]:g} is not"
        )


class PreparedSolve:
    """A batch, a field or a system, and options, checked and handed to the core once.

    Attributes
    ----------
    field, batch, options, data : what came in
    problem : _core.Problem
    fits : its method
    signal, pieces : the inputs, or None
    jumps : (rows,) bool array, which times have a jump, or None
    shape : that of the batch
    accuracy : Accuracy
    """

    def __init__(
        self,
        f: Any,
        batch: Batch,
        options: Any,
        *,
        gradient: bool = False,
        own_inputs: bool = False,
        data: Any = None,
        **extra: Any,
    ) -> None:
        self.field, self.batch, self.options, self.dtype = f, batch, options, batch.y0.dtype
        self.signal, self.pieces = as_signal(options.inputs, f.inputs), None
        keys = options.arguments(f.d)
        if isinstance(f, System):
            keys |= core_parts(f, batch, data, gradient)
        elif data is not None:
            raise ValueError(f"data= is for the jumps of a System; {f.name} is a field")
        self.data = own_data(batch, keys)
        self._made_with = {"gradient": gradient, "own_inputs": own_inputs, "data": self.data, **extra}
        self.jumps = jumping_rows(batch, keys)
        if self.jumps is not None and options.coupling > 0:
            raise ValueError(f"coupling={options.coupling:g}: the reversible scheme cannot go back through jumps")
        options.check_span(batch)
        if self.signal is not None:
            rtol = 0.0 if options.step is not None else options.rtol
            self.pieces = self.signal.pieces(len(batch.y0), self.dtype, batch.spans(), own=own_inputs, rtol=rtol)
            keys |= self.pieces.arguments()
        keys |= implicit_programs(f, options, self.signal, gradient) | hoisted_programs(f, gradient)
        if options.grid is not None:
            keys |= _grid_arguments(options.grid, batch, self.lands)
            _check_grid_knots(keys, batch)
        reverse = f.vjp_program if gradient else None
        self.problem = core_problem(f.program, reverse, batch.y0, batch, keys, **extra)
        self.fits = self.problem.fits
        self.backend, self.single = "callback" if f.callbacks else None, batch.kind == "single"
        self.shape, self.accuracy = batch.shape, Accuracy(keys, batch)

    def __getstate__(self) -> dict[str, Any]:
        """What it was made of: the core's problem is made anew."""
        return {"f": self.field, "batch": self.batch, "options": self.options, **self._made_with}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @cached_property
    def scales(self) -> Scales:
        """Sizes for Jacobians by differences."""
        return difference_scales(self.options, self.batch, self.field.d)

    @property
    def jacobian(self) -> str:
        """Where the Jacobian comes from, see `Stats`."""
        return jacobian_origin(self.field, self.options)

    @property
    def lands(self) -> NDArray[np.bool_]:
        """(rows,) which times steps must end at, besides the first and the last of each sample."""
        if self.options.save == "land" or self.options.coupling > 0:
            return np.ones(self.batch.rows, bool)
        return np.zeros(self.batch.rows, bool) if self.jumps is None else self.jumps

    def parameters(self, theta: Any) -> NDArray[Any]:
        """theta as `run` takes it: (n_params,), or (B, n_params) with a row for each sample."""
        return as_theta(self.field, theta, self.dtype, len(self.batch.y0))

    def run(self, theta: NDArray[Any], **keys: Any) -> Any:
        """One solve: the results of `_core.Problem.run`; theta is an array of the batch's dtype."""
        callback = None
        if self.field.callbacks:
            callback = self.field.bind_callbacks(self.parameters(theta).astype(np.float64), self.scales)
        return self.problem.run(theta, callback=callback, **keys)
