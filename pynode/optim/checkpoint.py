"""Checkpoints: what long training needs to go on, after a crash, as if nothing had happened."""

import hashlib
import json
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pynode import _version
from pynode.data import files


class Checkpoint:
    """A file that training writes now and then, whole or not at all, and reads at the start if it is there.

    Whoever trains says what it is that is trained (`fingerprint`), so that the checkpoint of another fit is refused.
    Outer layers keep their state in `outer`; the innermost one, an optimiser, offers its own at each iteration.

    Parameters
    ----------
    path : path
    every : float
        Seconds between two writings; 0: each iteration.

    Attributes
    ----------
    found : dict or None
        What the file held: {"outer": ..., "inner": ...}.
    outer : callable or None
        () -> dict, the state of the outer layers.
    mark : str
        The fingerprint; empty before it is opened.
    """

    def __init__(self, path, every=5.0):
        self.path, self.every = Path(path), every
        self.found, self.outer, self.mark, self.last = None, None, "", -np.inf

    def open(self, *what):
        """Say what is trained, and read the file.

        Raises
        ------
        ValueError
            The file belongs to another fit.
        """
        self.mark, self.last = fingerprint(*what), time.monotonic()
        self.found = self.outer = None
        if self.path.exists():
            content = files.read(self.path)
            if not isinstance(content, dict) or content.get("checkpoint") != self.mark:
                raise ValueError(
                    f"{self.path} is the checkpoint of another fit (other data or options, or another version): "
                    "continue that one, or remove the file"
                )
            self.found = {"outer": content["outer"], "inner": content["inner"]}

    @property
    def at_work(self):
        """The kind of optimiser whose state was found and not taken yet, or None."""
        return None if self.found is None or self.found["inner"] is None else self.found["inner"][0]

    def take(self, kind):
        """The state of the optimiser that was at work, once; None where there is none, or of another kind."""
        if self.found is None or self.found["inner"] is None:
            return None
        (found, inner), self.found["inner"] = self.found["inner"], None
        return inner if found == kind else None

    def offer(self, kind, inner):
        """Write the file if it is time; inner() -> dict is the state of the optimiser of this kind."""
        if time.monotonic() - self.last >= self.every:
            content = {"checkpoint": self.mark, "outer": None if self.outer is None else self.outer()}
            content["inner"] = None if kind is None else [kind, inner()]
            files.write(self.path, content)
            self.last = time.monotonic()

    def done(self):
        """Remove the file: training came to its end."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self):
        """Training ended, in whatever way; the file stays."""
        self.mark, self.found, self.outer = "", None, None


def fingerprint(*what):
    """A hash of arrays, numbers, strings, and lists, tuples and dicts of these."""
    digest = hashlib.sha256()

    def add(x):
        if isinstance(x, np.ndarray):
            digest.update(str((x.dtype.str, x.shape)).encode() + np.ascontiguousarray(x).tobytes())
        elif isinstance(x, dict):
            digest.update(b"{")
            for key, value in x.items():
                digest.update(str(key).encode())
                add(value)
        elif isinstance(x, (list, tuple)):
            digest.update(f"[{len(x)}".encode())
            for value in x:
                add(value)
        else:
            digest.update(json.dumps(x, default=_name).encode())

    for x in what:
        add(x)
    return digest.hexdigest()


def _name(x):
    """What is the same in every process: of a function its name and code, not its address."""
    if not hasattr(x, "__qualname__"):
        return repr(x)
    code = getattr(x, "__code__", None)
    told = "" if code is None else code.co_code.hex() + repr([c for c in code.co_consts if not hasattr(c, "co_code")])
    return f"{x.__module__}.{x.__qualname__} {told}"


def as_checkpoint(checkpoint):
    """A Checkpoint of what a user may give: a path, a Checkpoint, or None."""
    return checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)


@contextmanager
def opened(checkpoint, random_state, what):
    """The checkpoint of a fit of what() by this version of the library, opened; None where there is none.

    The file is removed where the block comes to its end, and stays where an exception leaves it.
    """
    if checkpoint is None:
        yield None
        return
    if random_state is None:
        raise ValueError("checkpoint= needs random_state, so that the fit can be continued as it began")
    checkpoint = as_checkpoint(checkpoint)
    try:
        checkpoint.open(_version.__version__, *what())
        yield checkpoint
        checkpoint.path.unlink(missing_ok=True)
    finally:
        checkpoint.close()
