"""What a data set is."""

from dataclasses import dataclass

from pynode.data.trajectories import Trajectories


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
    """

    train: Trajectories
    held_out: Trajectories | None = None
    field: object = None
    source: str = ""
