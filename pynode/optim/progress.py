"""Progress of long work: a bar of tqdm where that is installed, else a plain line now and then."""

import sys
import time
from types import TracebackType
from typing import Any, Self, TextIO


class Progress:
    """A progress display; use it in a `with` block.

    Parameters
    ----------
    total : int
        Units of work.
    label : str
        The text before the bar.
    show : bool, default True
        False: silent.
    every : float, default 2
        Seconds between plain lines.
    file : file, optional
        Default: standard error.
    """

    def __init__(self, total: int, label: str, show: bool = True, every: float = 2.0, file: TextIO | None = None) -> None:
        self.total = total
        self.label = label
        self.show = show
        self.every = every
        self.file = sys.stderr if file is None else file
        self.done = 0
        self.text = ""
        self.bar: Any = None

    def __enter__(self) -> Self:
        self.start = self.last = time.monotonic()
        notebook = "ipykernel" in sys.modules
        if self.show and (notebook or self.file.isatty()):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                pass
            else:
                self.bar = tqdm(
                    total=self.total,
                    desc=self.label,
                    file=None if notebook else self.file,
                    leave=True,
                    dynamic_ncols=True,
                    bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
                )
        return self

    def update(self, done: int, text: str) -> None:
        """Set the units done; `text` is shown after the bar."""
        if not self.show:
            return
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done - self.done)
        elif time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self._line(done, text)
        self.done = done
        self.text = text

    def _line(self, done: int, text: str) -> None:
        seconds = time.monotonic() - self.start
        print(
            f"{self.label}: {100 * done / self.total:3.0f} %, {seconds:.1f} s, {text}",
            file=self.file,
            flush=True,
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            if kind is None:
                self.bar.update(self.total - self.done)
            self.bar.close()
        elif self.show and self.done:
            self._line(self.total if kind is None else self.done, self.text)
