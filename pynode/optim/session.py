"""What surrounds the iterations of every optimiser: its checkpoint, and what Ctrl-C leaves behind."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from types import FrameType
from typing import Any

from pynode.optim.checkpoint import Checkpoint, as_checkpoint
from pynode.optim.result import FitInterrupted, FitResult


@contextmanager
def session(
    checkpoint: str | PathLike[str] | Checkpoint | None,
    kind: str,
    settings: tuple[Any, ...],
    result: Callable[[str, str], FitResult],
) -> Iterator[Checkpoint | None]:
    """A block in which an optimiser iterates; its value is the checkpoint, opened, or None.

    A checkpoint that is open already belongs to the trainer that called the optimiser, and is left to it. Any other one is
    opened here; its file is removed when the block comes to its end. Where an exception leaves it, the last state is
    written.

    Parameters
    ----------
    checkpoint : path, Checkpoint or None
        As it was given to the optimiser.
    kind : str
        The name of the optimiser.
    settings : tuple
        Everything that the iterations depend on: the start, the options.
    result : callable
        result(status, message) -> FitResult, the best so far.

    Raises
    ------
    FitInterrupted
        In place of the KeyboardInterrupt of Ctrl-C, with the best so far.
    """
    found = as_checkpoint(checkpoint)
    own = None if found is None or found.mark else found
    try:
        if own is not None:
            own.open(kind, *settings)
        yield found
        if own is not None:
            own.done()
    except BaseException as error:
        if own is not None:
            own.keep()
        if not isinstance(error, KeyboardInterrupt) or isinstance(error, FitInterrupted):  # the latter has the best so far
            raise
        raise FitInterrupted(result("interrupted", "interrupted by the user")) from None
    finally:
        if own is not None:
            own.close()


@contextmanager
def results_kept_whole() -> Iterator[None]:
    """A short block that sets the results of a fit, all of them: Ctrl-C waits for its end."""
    held: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):  # then nothing is raised here
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[0])
