"""The stretches of a plain solve of a system with a jump, from one jump to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import Ranges, starts
from pynode.errors import OK
from pynode.events.rounds import SAME_TIME, Solver, Stretch

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Part(NamedTuple):
    """A sample from its initial state or a jump to the next jump or its end."""

    sample: int
    record: NDArray[np.float64]  # (n, 2) beginnings and lengths of steps
    saves: Ranges  # of one part
    y: NDArray[Any]
    end: float
    before: NDArray[Any]
    after: NDArray[Any]
    jump: int  # row, or -1


def between_jumps(solver: Solver, raw: Any, y0: NDArray[Any]) -> list[Stretch]:
    """Rounds of stretches as `solve_with_events` makes them, from the results of a solve that kept its steps.

    Parameters
    ----------
    solver : Solver
        For the same system, batch and data.
    raw : mapping
        Results of the core: y, y_before, status, steps.
    y0 : (B, d) array
        Initial states.
    """
    rounds: list[list[_Part]] = []
    for i in range(len(y0)):
        for number, part in enumerate(_parts(solver, raw, y0[i], i)):
            if number == len(rounds):
                rounds.append([])
            rounds[number].append(part)
    return [_stretch(parts) for parts in rounds]


def _parts(solver: Solver, raw: Any, y: NDArray[Any], i: int) -> Iterator[_Part]:
    """Those of a sample; the last one of a sample that failed ends with its last step."""
    steps, offset = raw["steps"]
    record = steps[offset[i] : offset[i + 1], :2]
    rows = Ranges(solver.batch.row[i : i + 1], solver.batch.length[i : i + 1])
    begin = float(solver.row_t[rows.start[0]])
    while rows.size[0]:
        now = solver.until_jump(rows)
        rows = Ranges(now.stop, rows.size - now.size)
        row = int(rows.start[0]) - 1
        end = float(solver.row_t[row])
        if raw["status"][i] != OK and np.isnan(raw["y_before"][row]).any():
            yield _Part(i, record, now, y, float(record[-1].sum()) if len(record) else begin, y, y, -1)
            return
        n = int((solver.way[i] * (end - record[:, 0]) > SAME_TIME * abs(end)).sum())
        jumps = bool(solver.jumps[row])
        after = raw["y"][row]
        yield _Part(i, record[:n], now, y, end, raw["y_before"][row], after, row if jumps else -1)
        record = record[n:]
        begin = end
        y = after


def _stretch(parts: list[_Part]) -> Stretch:
    n = len(parts)
    sample, records, saves, y, end, before, after, jump = (list(column) for column in zip(*parts, strict=True))
    length = np.array([len(record) for record in records])
    return Stretch(
        active=np.array(sample),
        steps=(np.concatenate(records), np.append(starts(length), length.sum())),
        saves=Ranges(np.concatenate([x.start for x in saves]), np.concatenate([x.size for x in saves])),
        which=np.full(n, -1, np.int32),
        y=np.array(y),
        last=np.array(y),
        t_event=np.array(end),
        before=np.array(before),
        after=np.array(after),
        at_event=Ranges(np.zeros(n, np.int64), np.zeros(n, np.int64)),
        jump=np.array(jump),
        at_jump=np.zeros(n, bool),
    )
