"""What all ways to train are told."""

from typing import Any, Literal, Protocol

Kind = Literal["own", "found", "network"]
"""What a field is: a user's own, an equation that was found, or a network."""


class Recipe(Protocol):
    """The part of `FirstOrder` and `SecondOrder` that `Run` reads."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Lengths of windows in intervals between times, one for each stage; None: whole trajectories."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """The options of `pynode.solve`."""
        ...

    @property
    def noise(self) -> str:
        """The distribution of the noise: one of `pynode.training.noise.ROBUST`."""
        ...

    @property
    def own(self) -> bool:
        """Whether the field is a user's own: the values of its parameters are then a start worth a trial."""
        ...

    @property
    def kind(self) -> Kind:
        """What the field is, on which depends what may help against misfit."""
        ...

    @property
    def random_state(self) -> int:
        """The seed of everything that is drawn."""
        ...

    @property
    def total_iterations(self) -> int:
        """The most iterations that there can be."""
        ...
