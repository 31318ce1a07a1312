"""Progress of long work: a bar of tqdm where that is installed, else a plain line now and then."""

import sys
import time


class Progress:
    """A progress display; use it in a `with` block.

    Parameters
    ----------
    total : int
        Units of work.
    label : str
    show : bool
        False: silent.
    every : float
        Seconds between plain lines.
    file : file, optional
        Default: standard error.
    """

    def __init__(self, total, label, show=True, every=2.0, file=None):
        self.total, self.label, self.show, self.every = total, label, show, every
        self.file = sys.stderr if file is None else file
        self.done, self.bar = 0, None

    def __enter__(self):
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

    def update(self, done, text):
        """Set the units done; `text` says how it stands."""
        if not self.show:
            return
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done - self.done)
        elif time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self._line(done, text)
        self.done, self.text = done, text

    def _line(self, done, text):
        seconds = time.monotonic() - self.start
        print(
            f"{self.label}: {100 * done / self.total:3.0f} %, {seconds:.1f} s, {text}",
            file=self.file,
            flush=True,
        )

    def __exit__(self, kind, error, trace):
        if self.bar is not None:
            if kind is None:
                self.bar.update(self.total - self.done)
            self.bar.close()
        elif self.show and self.done:
            self._line(self.total if kind is None else self.done, self.text)
