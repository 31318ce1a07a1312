"""The protocol of a NeuralODE: how its trajectories are made and measured, where that is more than states read off."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.ragged import is_frame
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.experiments.doses import RATE, Dose, Schedule
from pynode.experiments.forward import Experiment
from pynode.experiments.initial import Initial, as_initial
from pynode.experiments.parts import function, over, union
from pynode.fields.field import Field
from pynode.fields.make import field as make_field
from pynode.models.trajectories.options import NeuralODEOptions, second_order_options
from pynode.training.error_models import as_error_models
from pynode.training.noise import ROBUST

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """How trajectories are made and measured.

    Attributes
    ----------
    field : Field
        In the units of the data, a function of all parameters.
    observe : Field or None
        What is measured; None: the states.
    initial : Initial
        What is known of the initial states of the trajectories.
    doses : tuple of tuples of Dose
        Those of each trajectory.
    lag, bioavailability : dict
        State -> number or name of a parameter.
    states : tuple of str
        Names of the states; empty where they have none.
    noise : str
        The distribution of the noise.
    models : tuple of str
        The error model of each column.
    first : (B,) array
        Times of the initial states.
    """

    field: Field
    observe: Field | None
    initial: Initial
    doses: tuple[tuple[Dose, ...], ...]
    lag: dict[Any, float | str]
    bioavailability: dict[Any, float | str]
    states: tuple[str, ...]
    noise: str
    models: tuple[str, ...]
    first: Array

    @property
    def n_measured(self) -> int:
        """How many quantities are measured."""
        return self.field.d if self.observe is None else self.observe.n_out

    def schedule(self, doses: Sequence[Iterable[Dose]] | None = None) -> Schedule:
        """The doses of the trajectories, or others, to be evaluated for any parameters."""
        given = self.doses if doses is None else doses
        return Schedule(given, self.field.spec, self.states, self.field.d, self.lag, self.bioavailability)

    def times_of_jumps(self, theta: Array, i: int) -> Array:
        """Times at which doses change a state of trajectory i at once, with these parameters."""
        actions = self.schedule().actions(theta)
        return np.unique(actions.time[(actions.sample == i) & (actions.kind != RATE)])

    def experiment(self, times: Sequence[Array], signal: Signal | None, **options: Any) -> Experiment:
        """The trajectories, measured at these times."""
        return Experiment(self.field, times, self.initial, self.schedule(), self.observe, signal, self.first, **options)

    def of_trajectory(self, i: int) -> "Protocol":
        """The protocol of a single one of the trajectories."""
        one = replace(self.initial, known=self.initial.known[i : i + 1], start=self.initial.start[i : i + 1])
        return replace(self, initial=one, doses=self.doses[i : i + 1], first=self.first[i : i + 1])

    def of_states(self, y0: Array, first: Array, doses: Sequence[Iterable[Dose]] | None) -> "Protocol":
        """The protocol of new trajectories, from these states (B, d) at these times (B,)."""
        n, d = y0.shape
        new = Initial(y0, None, np.zeros(d, bool), np.full((n, d), np.nan), np.full(d, -np.inf), np.full(d, np.inf))
        given = tuple(tuple(own) for own in doses) if doses is not None else ((),) * n
        return replace(self, initial=new, doses=given, first=first)


def reasons(model: NeuralODEOptions, data: Trajectories, doses: object) -> list[str]:
    """Why a fit needs a protocol: what there is to it besides states read off; empty where it needs none.

    Several readings at one time are a reason for a field of one's own only: a field that is learned follows their means.
    """
    repeated = any((np.diff(t) == 0).any() for t in data.t)
    plain = isinstance(model.noise, str) and model.noise in ROBUST
    why = {f"{name}=": getattr(model, name) is not None for name in ("observe", "initial", "lag", "bioavailability")}
    why |= {
        "doses": doses is not None or data.doses is not None,
        "censored readings": data.censored is not None,
        "several readings at one time": model.field is not None and repeated,
        f"noise={model.noise!r}": not plain,
    }
    return [name for name, there in why.items() if there]


def refuse_options(model: NeuralODEOptions, why: Sequence[str]) -> None:
    """Refuse options that fits which need a protocol do not have; why: `reasons`, empty for other fits."""
    if not why:
        return
    if model.structure == "equation":
        raise ValueError(
            f"structure='equation' does not go with {', '.join(why)}: terms are chosen along states read off; leave one of "
            "them out, or give the equation (field=)"
        )
    if model.augment == "auto":
        raise ValueError(f"augment='auto' does not go with {', '.join(why)}: give the number of states that nobody measured")
    for option in second_order_options(model):
        raise ValueError(
            f"{option} does not go with observe, initial, doses, censored or repeated readings, error models: average "
            f"replicates first (pynode.Trajectories), or leave {option.split('=')[0]} out"
        )


def made(model: NeuralODEOptions, field: Field, data: Trajectories, doses: Any) -> Protocol:
    """The protocol of a fit.

    Parameters
    ----------
    model : NeuralODEOptions
        Whose options say how trajectories are made and measured.
    field : Field
        In the units of the data.
    data : Trajectories
        What was measured.
    doses : list of Dose, list of lists, or dict
        See `pynode.NeuralODE.fit`.

    Raises
    ------
    ValueError
        The parts do not fit each other; the message names them.
    """
    observe, initial = model.observe, model.initial
    if observe is None and model.augment:
        seen = data.d
        observe = make_field(state=field.d, out=seen, inputs=field.inputs, name="observe")(lambda t, y, *u: y[:seen])
    elif observe is not None and not isinstance(observe, Field):
        observe = function("observe", observe, field, None, ("t", "y", "th", "u"))
    if initial is not None and callable(initial) and not isinstance(initial, Field):
        initial = function("initial", initial, field, field.d, ("th", "u"))
    _check_parts(field, observe, data)
    spec = union([f for f in (field, observe, initial) if isinstance(f, Field)])
    whole = over(spec, field)
    names = field.state_names or (data.names if observe is None else ())
    given = over(spec, initial) if isinstance(initial, Field) else initial
    noise, models = as_error_models(model.noise, data.names)
    protocol = Protocol(
        whole,
        None if observe is None else over(spec, observe),
        as_initial(given, whole, len(data), names, _read(data, observe)),
        as_doses(doses if doses is not None else data.doses, data),
        dict(model.lag or {}),
        dict(model.bioavailability or {}),
        names,
        noise,
        models,
        np.array([t[0] for t in data.t]),
    )
    first = protocol.schedule().first_times(len(data))
    return replace(protocol, first=np.minimum(protocol.first, first))


def _read(data: Trajectories, observe: Field | None) -> NDArray[np.bool_]:
    """Which states are measured themselves."""
    return np.zeros(1, bool) if observe is not None else np.asarray(~np.isnan(np.concatenate(data.y)).all(axis=0))


def _check_parts(field: Field, observe: Field | None, data: Trajectories) -> None:
    if observe is None:
        return
    if observe.d != field.d or observe.inputs not in (0, field.inputs):
        raise ValueError(
            f"observe={observe!r} is a function of {observe.d} states and {observe.inputs} inputs, the field has "
            f"{field.d} and {field.inputs}"
        )
    if observe.n_out != data.d:
        raise ValueError(
            f"observe gives {observe.n_out} numbers, the data have {data.d} columns ({', '.join(data.names)}): they are "
            "compared one by one, in this order"
        )


def as_doses(doses: Any, data: Trajectories) -> tuple[tuple[Dose, ...], ...]:
    """The doses of each trajectory, from what a user may give."""
    n = len(data)
    if doses is None:
        return ((),) * n
    if isinstance(doses, Mapping):
        unknown = [i for i in doses if i not in data.ids]
        if unknown:
            raise ValueError(
                f"doses are for {unknown[0]!r}, which is not a trajectory; they are {', '.join(map(str, data.ids))}"
            )
        return tuple(doses_of_one(doses.get(i, ())) for i in data.ids)
    if isinstance(doses, Dose):
        doses = [doses]
    if isinstance(doses, str) or not isinstance(doses, Iterable):
        raise TypeError(f"doses={doses!r} must be a list of pynode.Dose, a list of lists, or a dict of them")
    if is_frame(doses):
        raise TypeError("doses=DataFrame: give a list of pynode.Dose, or NONMEM-style rows by pynode.read_nonmem")
    listed = list(doses)
    if all(isinstance(x, (Dose, Mapping)) for x in listed):
        own = tuple(_dose(x) for x in listed)
        return (own,) * n
    if len(listed) != n:
        raise ValueError(f"doses are for {len(listed)} trajectories, there are {n}; one list of Dose is for all of them")
    return tuple(doses_of_one(() if own is None else own) for own in listed)


def doses_of_one(doses: Any) -> tuple[Dose, ...]:
    """The doses of a single trajectory, from what a user may give."""
    if isinstance(doses, (Dose, Mapping)):
        doses = [doses]
    if isinstance(doses, str) or not isinstance(doses, Iterable):
        raise TypeError(f"doses={doses!r} must be a list of pynode.Dose")
    return tuple(_dose(x) for x in doses)


def _dose(x: Any) -> Dose:
    if isinstance(x, Dose):
        return x
    if not isinstance(x, Mapping):
        raise TypeError(f"doses must hold pynode.Dose, not {x!r}")
    unknown = [name for name in x if name not in Dose.__dataclass_fields__]
    if unknown or "time" not in x:
        wrong = f"the unknown entry {unknown[0]!r}" if unknown else "no time"
        raise ValueError(f"a dose has {wrong}: {dict(x)!r}; its entries are {', '.join(Dose.__dataclass_fields__)}")
    return Dose(**x)
