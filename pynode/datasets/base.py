"""What a data set is."""

from dataclasses import dataclass

from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field


@dataclass(frozen=True)
class Dataset:
    """Trajectories to learn from and, where the truth is known, what to compare with.

    Attributes
    ----------
    train : Trajectories
        The measured trajectories.
    held_out : Trajectories or None
        Trajectories that take no part in fitting.
    field : Field or None
        The true vector field.
    source : str
        Where the data come from.

    See Also
    --------
    pynode.datasets.van_der_pol, pynode.datasets.lynx_hare

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.datasets.van_der_pol(n_train=4, n_held_out=2)
    >>> len(data.train), len(data.held_out), data.field.d
    (4, 2, 2)
    """

    train: Trajectories
    held_out: Trajectories | None = None
    field: Field | None = None
    source: str = ""
