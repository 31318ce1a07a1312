"""Checkpoints: what long training needs to go on after a crash as if nothing had happened."""

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pynode import _version
from pynode.data import files
from pynode.errors import users_level
from pynode.optim.fingerprint import fingerprint

KEPT = 0.1
"""Seconds between two states that are kept in memory, for the moment when an exception ends training ..."""

COST = 0.02
"""... or longer, so that keeping them takes at most this part of the time."""


class Resumable(Protocol):
    """Something whose state a checkpoint holds."""

    def saved(self) -> dict[str, Any]:
        """The state as plain data and arrays."""
        ...

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `saved()` gave."""
        ...


class Checkpoint:
    """A file that training writes now and then, whole or not at all, and reads at the start if it is there.

    Every trainer and optimiser takes one, or simply a path, as `checkpoint=`. The file remembers what is trained, so that
    the checkpoint of another fit is refused. It is removed when training ends. Where an exception ends training, Ctrl-C too,
    the state of at most a tenth of a second before is written first.

    A place that cannot be written to is refused before training. Where writing fails later (a full disk), a warning says
    so, the file stays as it was, and training goes on; the next writing is tried in time.

    Parameters
    ----------
    path : path
        The file.
    every : float, default 5
        Seconds between two writings; 0: each iteration.
    stays : bool, default False
        The file stays when training ends, with the last state. For training that is one part of several.

    Attributes
    ----------
    found : dict or None
        The content of the file: {"outer": ..., "inner": ...}.
    outer : callable or None
        () -> dict, the state of the trainer around the optimiser.
    mark : str
        The fingerprint of what is trained; empty while the checkpoint is not open.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np, pynode as pn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = pn.fit.Checkpoint(pathlib.Path(folder, "fit.npz"), every=60)
    ...     result = pn.fit.adam(lambda x: (x @ x, 2 * x), np.ones(3), max_iter=50, checkpoint=checkpoint)
    >>> result.n_iter
    50
    """

    def __init__(self, path: str | PathLike[str], every: float = 5.0, stays: bool = False) -> None:
        self.path = Path(path)
        self.every = every
        self.stays = stays
        self.found: dict[str, Any] | None = None
        self.outer: Callable[[], dict[str, Any]] | None = None
        self.mark = ""
        self.last = -np.inf
        self._forget()

    def _forget(self) -> None:
        """Nothing is kept, nothing went wrong."""
        self.kept: dict[str, Any] | None = None
        self.next = -np.inf
        self.told = False

    def open(self, *what: Any) -> None:
        """Say what is trained, and read the file if it is there.

        Parameters
        ----------
        *what : arrays, numbers, strings, functions, and lists, tuples and dicts of these
            Data and options: everything that the result depends on (see `fingerprint`).

        Raises
        ------
        ValueError
            The file belongs to another fit.
        OSError
            The file cannot be read, or nothing can be written beside it.
        """
        files.check_place(self.path)
        self.mark = fingerprint(_version.__version__, *what)
        self.last = time.monotonic()
        self.found = None
        self.outer = None
        self._forget()
        if self.path.exists():
            content = files.read(self.path)
            if not isinstance(content, dict) or content.get("checkpoint") != self.mark:
                raise ValueError(
                    f"{self.path} is the checkpoint of another fit (other data or options, or another version): "
                    "continue that one, or remove the file"
                )
            if content.pop("seal", None) != files.digest(content):
                raise ValueError(f"{self.path} is damaged: it is not what training wrote; remove the file")
            self.found = {"outer": content["outer"], "inner": content["inner"]}

    @property
    def at_work(self) -> str | None:
        """The kind of optimiser whose state was found and has not been taken yet, or None."""
        if self.found is None or self.found["inner"] is None:
            return None
        kind: str = self.found["inner"][0]
        return kind

    def take(self, kind: str) -> dict[str, Any] | None:
        """The state of the optimiser that was at work; it can be taken once.

        Parameters
        ----------
        kind : str
            The kind of optimiser that asks: "adam", ...

        Returns
        -------
        dict or None
            None where nothing was found, or the state of another kind of optimiser.
        """
        if self.found is None or self.found["inner"] is None:
            return None
        found, inner = self.found["inner"]
        self.found["inner"] = None
        return inner if found == kind else None

    def offer(self, kind: str | None, inner: Callable[[], dict[str, Any]]) -> None:
        """Keep the state, and write the file, if it is time to.

        Parameters
        ----------
        kind : str or None
            The kind of optimiser at work; None: between two of them.
        inner : callable
            () -> dict, the state of the optimiser.
        """
        now = time.monotonic()
        due = now - self.last >= self.every
        if not due and now < self.next:
            return
        content: dict[str, Any] = {"checkpoint": self.mark, "outer": None if self.outer is None else self.outer()}
        content["inner"] = None if kind is None else [kind, inner()]
        self.kept = copy.deepcopy(content)  # training changes its arrays in place
        spent = time.monotonic() - now
        if due:
            self.keep()
        self.next = time.monotonic() + max(KEPT, spent / COST)

    def keep(self) -> None:
        """Write the state that was kept last, if the file does not have it yet; warn where that is impossible."""
        content = self.kept
        if content is None:
            return
        try:
            files.write(self.path, content | {"seal": files.digest(content)})
            self.kept = None
        except (OSError, MemoryError) as error:
            if not self.told:
                words = f"the checkpoint {self.path} could not be written ({error}): make room for it; training goes on"
                warnings.warn(words, RuntimeWarning, stacklevel=users_level())
            self.told = True
        self.last = time.monotonic()

    def done(self) -> None:
        """Training came to its end: remove the file, unless it stays."""
        if self.stays:
            self.keep()
        else:
            self.path.unlink(missing_ok=True)
        self.close()

    def part(self, k: int) -> "Checkpoint":
        """The checkpoint of one of several fits: a file of the same name, then .1, .2, ..., which stays.

        Parameters
        ----------
        k : int
            Which one, from 0 on.

        Returns
        -------
        Checkpoint
        """
        return Checkpoint(f"{self.path}.{k + 1}", self.every, stays=True)

    def remove_parts(self, count: int, *counts: int) -> None:
        """All of several fits came to their end: remove their files, unless this one stays.

        Parameters
        ----------
        count : int
            How many there are.
        *counts : int
            How many parts each of them has, and so on.
        """
        if not self.stays:
            self._remove_parts(count, *counts)

    def _remove_parts(self, count: int, *counts: int) -> None:
        for part in map(self.part, range(count)):
            if counts:
                part._remove_parts(*counts)
            part.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Training ended, in whatever way; the file stays."""
        self.mark = ""
        self.found = None
        self.outer = None
        self._forget()


def as_checkpoint(checkpoint: str | PathLike[str] | Checkpoint | None) -> Checkpoint | None:
    """A Checkpoint from what a user may give: a path, a Checkpoint, or None."""
    return checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)


def continued(checkpoint: str | PathLike[str] | Checkpoint | None, random_state: object) -> Checkpoint | None:
    """The checkpoint of a model's fit; a ValueError where the model has no random_state, without which none goes on."""
    if checkpoint is not None and random_state is None:
        raise ValueError("checkpoint= needs random_state, so that the fit can be continued as it began")
    return as_checkpoint(checkpoint)


@contextmanager
def opened(
    checkpoint: str | PathLike[str] | Checkpoint | None, random_state: object, what: Callable[[], tuple[Any, ...]]
) -> Iterator[Checkpoint | None]:
    """The checkpoint of a model's fit, opened; None where there is none.

    The file is removed where the block comes to its end, unless it stays. Where an exception leaves it, the last state is
    written.

    Parameters
    ----------
    checkpoint : path, Checkpoint or None
        As the user gave it.
    random_state : int or None
        The model's: without it a fit cannot be continued as it began.
    what : callable
        () -> data and options, everything that the fit depends on.
    """
    found = continued(checkpoint, random_state)
    if found is None:
        yield None
        return
    try:
        found.open(*what())
        yield found
        found.done()
    except BaseException:
        found.keep()
        raise
    finally:
        found.close()
