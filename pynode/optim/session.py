"""What surrounds the iterations of every optimiser: its checkpoint, and what Ctrl-C leaves behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
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
