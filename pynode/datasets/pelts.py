"""The record of hare and lynx pelts."""

from importlib import resources

import numpy as np

from pynode.data.csv import read_csv
from pynode.datasets.base import Dataset

FILE = resources.files("pynode.datasets") / "lynx_hare.csv"
"""The table; the comments at its head name the sources."""


def lynx_hare(held_out: int = 0) -> Dataset:
    """Pelts of hare and lynx (thousands) traded by the Hudson's Bay Company, a value a year, 1900 to 1920.

    Parameters
    ----------
    held_out : int, default 0
        How many of the last years to keep apart, 0 to 19.

    Returns
    -------
    Dataset
        One trajectory, states hare and lynx; `held_out` holds the last years.

    Raises
    ------
    ValueError
        `held_out` is not such a number.

    See Also
    --------
    pynode.datasets.lotka_volterra : The equations that are usually fitted to it.

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.datasets.lynx_hare(held_out=5)
    >>> data.train.names, int(data.train.t[0][-1])
    (('hare', 'lynx'), 1915)
    """
    with resources.as_file(FILE) as file:
        data = read_csv(file, time="year", state=["hare", "lynx"])
    comments = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    source = " ".join(line.lstrip("# ") for line in comments)
    n = data.lengths[0]
    if isinstance(held_out, bool) or not isinstance(held_out, (int, np.integer)) or not 0 <= held_out <= n - 2:
        raise ValueError(f"held_out must be a number of years from 0 to {n - 2}, not {held_out!r}")
    if not held_out:
        return Dataset(data, source=source)
    return Dataset(data.rows(stop=n - held_out), data.rows(start=n - held_out), source=source)
