"""What a solve with events gives: `Events` and `EventSolution`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.engine.gradients import check_wrt
from pynode.engine.solution import Solution
from pynode.events.backward import Backward

if TYPE_CHECKING:
    from pynode.engine.gradients import Gradients
    from pynode.events.rounds import Solver, Stretch
    from pynode.fields.system import System


@dataclass(frozen=True)
class Events:
    """All events of a solve, ordered by sample, then in the order in which they happened.

    Attributes
    ----------
    sample, which : (n,) int arrays
        The sample, and the index of the event in the list that was given.
    t : (n,) array
    before, after : (n, d) arrays
        States on both sides of the reset.

    See Also
    --------
    EventSolution : has them as ``events``.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> circle = pn.field(state=2)(lambda t, y: [-y[1], y[0]])
    >>> cross = pn.event(lambda t, y: y[0], terminal=False)
    >>> events = pn.solve(circle, [1.0, 0.0], [0.0, 6.0], events=cross).events
    >>> len(events), bool(abs(events.t[0] - np.pi / 2) < 1e-4)
    (2, True)
    """

    sample: NDArray[np.int64]
    which: NDArray[np.int32]
    t: NDArray[np.float64]
    before: NDArray[Any]
    after: NDArray[Any]

    def __len__(self) -> int:
        return len(self.t)

    def of(self, sample: int | None = None, which: int | None = None) -> Events:
        """The events of one sample, of one kind, or both.

        Parameters
        ----------
        sample : int, optional
            The sample; default all.
        which : int, optional
            The index of the event in the list that was given; default all.

        Returns
        -------
        Events
        """
        keep = np.ones(len(self), bool)
        keep &= True if sample is None else self.sample == sample
        keep &= True if which is None else self.which == which
        return Events(self.sample[keep], self.which[keep], self.t[keep], self.before[keep], self.after[keep])


class EventSolution(Solution):
    """A `Solution` with events.

    Attributes
    ----------
    y : as in `Solution`
        At a time at which an event happens: the state after it. After a terminal event: NaN, or held.
    events : Events
    terminated : bool or (B,) bool array
        Whether a terminal event ended the sample.

    See Also
    --------
    event : declares one.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> fall = pn.field(state=2)(lambda t, y: [y[1], -9.81])
    >>> sol = pn.solve(fall, [1.0, 0.0], [0.0, 2.0], events=pn.event(lambda t, y: y[0]))
    >>> sol.terminated, bool(abs(sol.events.t[0] - np.sqrt(2 / 9.81)) < 1e-8)
    (True, True)
    >>> sol.vjp(event_t=np.ones(1), wrt="y0").y0.shape
    (2,)
    """

    events: Events
    terminated: bool | NDArray[np.bool_]
    rounds: list[Stretch]
    prepared: Solver  # type: ignore[assignment]  # rounds of many problems in the place of one

    def __init__(
        self,
        solver: Solver,
        theta: NDArray[Any],
        raw: Any,
        events: Events,
        terminated: bool | NDArray[np.bool_],
        rounds: list[Stretch],
    ) -> None:
        super().__init__(solver, theta, raw)  # type: ignore[arg-type]
        self.__dict__.update(events=events, terminated=terminated, rounds=rounds)

    @property
    def field(self) -> System:
        """The System, events among its parts."""
        return self.prepared.system

    def vjp(
        self,
        dy: Any = None,
        wrt: Any = ("theta", "y0"),
        adjoint: str | None = None,
        memory: Any = None,
        *,
        event_t: Any = None,
        event_before: Any = None,
        event_after: Any = None,
    ) -> Gradients:
        """Gradients of a loss of y and of the events, through the event times.

        Parameters
        ----------
        dy : like y, optional
            dL/dy; entries after a terminal event that is not held must be 0 or NaN.
        wrt : name or tuple out of "theta", "y0", "t", "inputs", "data"
            What to differentiate with respect to.
        adjoint : {"discrete"}, optional
            There is no other where there are events.
        memory : None
            Stretches between events are short tapes already.
        event_t : (n,) array, optional
            dL/d(times of the events), in the order of `events`.
        event_before, event_after : (n, d) arrays, optional
            dL/d(states before and after the events).

        Returns
        -------
        Gradients
        """
        if adjoint not in (None, "discrete"):
            raise ValueError(f"adjoint={adjoint!r}: a solve with events has adjoint='discrete' only")
        if memory is not None:
            raise ValueError(f"memory={memory!r}: a solve with events takes none, its stretches are short tapes already")
        return Backward(self, dy, check_wrt(wrt, self.field), event_t, event_before, event_after).gradients()
