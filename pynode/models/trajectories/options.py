"""The options of NeuralODE: the table, and what is checked of several together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np

from pynode.fields.field import Field
from pynode.fields.make import ActivationName
from pynode.models.base import SeriesEstimator
from pynode.models.options import (
    Activation,
    AdaptiveMethod,
    Checked,
    CountOrAuto,
    Flag,
    Fraction,
    Integer,
    OneOf,
    OwnField,
    Positive,
    Rule,
    Schedule,
    Seed,
    Switch,
    Widths,
    option,
)
from pynode.models.trajectories.stops import checked_limits
from pynode.training.error_models import ERROR_MODELS
from pynode.training.first_order import OPTIMIZERS
from pynode.training.noise import ROBUST
from pynode.training.steps import SECOND_ORDER
from pynode.training.windows import checked_windows

FIRST_ORDER_ONLY = {
    "batch_size": None,
    "kinetic_energy": 0.0,
    "jacobian_norm": 0.0,
    "steer": 0.0,
    "max_gradient": None,
}
"""Options that only gradient descent has, with the value that turns them off."""

NOISES = (*ROBUST, *ERROR_MODELS)
"""What the option `noise` may name."""


@dataclass(frozen=True)
class Function(Rule):
    """A function of the user's, or a Field."""

    name: str
    text = "Field or callable"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, Field) and not callable(value):
            raise TypeError(f"{name}={value!r} must be a function of (t, y, th), or a Field")


@dataclass(frozen=True)
class InitialStates(Rule):
    """Initial states: numbers, a dict, a function or a Field."""

    text = "array, dict, callable or Field"

    def check(self, name: str, value: Any) -> None:
        if isinstance(value, str):
            raise TypeError(f"{name}={value!r} must be an array, a dict, a function of (th), or a Field")


@dataclass(frozen=True)
class ByState(Rule):
    """State -> number, or name of a parameter."""

    name: str
    text = "dict"

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"{name}={value!r} must be a dict: state -> number, or name of a parameter of the field")
        for state, x in value.items():
            number = isinstance(x, (int, float, np.number)) and not isinstance(x, bool) and np.isfinite(x) and x >= 0
            if not (isinstance(x, str) or number):
                raise ValueError(f"{name} of {state!r} is {x!r}: it must be a number >= 0, or the name of a parameter")

    def restore(self, value: Any) -> Any:
        return _by_state(value)


@dataclass(frozen=True)
class Limits(Rule):
    """State -> (low, high)."""

    text = "dict"

    def check(self, name: str, value: Any) -> None:
        checked_limits(value)

    def restore(self, value: Any) -> Any:
        limits = _by_state(value)
        return {state: tuple(pair) for state, pair in limits.items()} if isinstance(limits, dict) else limits


def _by_state(value: Any) -> Any:
    """What a file holds of a dict by state: positions, which are texts there, are numbers again."""
    if not isinstance(value, dict):
        return value
    return {int(state) if str(state).isdecimal() else state: x for state, x in value.items()}


@dataclass(frozen=True)
class NoiseOf(Rule):
    """A distribution, an error model, or column -> error model."""

    @property
    def text(self) -> str:
        return "{" + ", ".join(f'"{name}"' for name in NOISES) + "} or dict"

    def check(self, name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for column, model in value.items():
                if model not in ERROR_MODELS:
                    raise ValueError(f"{name} of {column!r} is {model!r}, not one of {', '.join(ERROR_MODELS)}")
        elif value not in NOISES:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(NOISES)}, nor a dict of column -> error model")


def checked_delay(delay: Any) -> None:
    """Refuse what is no delay of control inputs."""
    if isinstance(delay, str):
        if delay != "auto":
            raise ValueError(f"input_delay={delay!r} must be a number >= 0, one for each control input, or 'auto'")
        return
    numbers = np.atleast_1d(np.asarray(delay, dtype=object))
    good = [
        isinstance(x, (int, float, np.number)) and not isinstance(x, bool) and np.isfinite(x) and x >= 0 for x in numbers
    ]
    if numbers.ndim != 1 or not all(good):
        raise ValueError(f"input_delay={delay!r} must be a number >= 0, one for each control input, or 'auto'")


def checked_growth(rate: Any) -> None:
    """Refuse what is no rate."""
    number = isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool)
    if not number:
        raise TypeError(f"max_growth={rate!r} must be a number, a rate in one over the units of time, or None")
    if not np.isfinite(rate):
        raise ValueError(f"max_growth={rate!r} must be finite; None is no bound")


@dataclass(eq=False, repr=False)
class NeuralODEOptions(SeriesEstimator):
    """The constructor of NeuralODE."""

    hidden: int | Sequence[int] = option(
        (32,),
        Widths(),
        "Widths of the hidden layers of the network.",
        flag=Flag("--hidden", "widths of the hidden layers (default 32)", "N"),
    )
    activation: ActivationName = option(
        "tanh",
        Activation(),
        "Activation function of the network, see `pynode.mlp`.",
        flag=Flag("--activation", "of the network (default tanh)"),
    )
    field: Field | None = option(
        None,
        OwnField(),
        "A field of your own (`pynode.field`), in the units of the data (of their logarithms, if `log`), in place of the "
        "network. It is not scaled (the loss is), so choose units of time in which its parameters are of order one. Its "
        "parameters may be `pynode.positive`, `pynode.bounded` or `pynode.frozen`. States that it has and nobody measured "
        "are columns of NaN in the data.",
    )
    _: KW_ONLY
    structure: Literal["auto", "network", "equation"] = option(
        "auto",
        OneOf(("auto", "network", "equation")),
        'What is learned: "network"; "equation", few products of powers of the states and inputs, sines, roots and other '
        'functions of them, chosen by evidence; or "auto", an equation where one explains the data to the noise or has the '
        'higher evidence, else the network. With "auto", who sets hidden, activation, skip, weight_decay, windows, '
        "optimizer, n_restarts, n_estimators or scale gets the network.",
        flag=Flag("--structure", "auto, network or equation (default auto)"),
    )
    skip: bool | int | None = option(
        None,
        Integer(0, 3, booleans=True),
        "Add a polynomial of this degree to the network (True: 1, a linear map); what it can do is then learned exactly, "
        "and far from the data the field goes on like it. None: 3 where that adds less than half as many parameters as the "
        "network has (few states) and evidence keeps it small (second order, no weight_decay); else 1.",
    )
    augment: int | Literal["auto"] = option(
        0,
        CountOrAuto(),
        "States that are added to the measured ones because those alone do not determine their future (an oscillator of "
        'which only the position is seen); their initial values are estimated. "auto": as many as the evidence asks for, '
        "from fits with 0, 1, 2, ... of them; `n_unobserved_` and the message in `report_` say how many.",
        flag=Flag("--augment", "states to add that nobody measured, or auto", "N"),
    )
    limits: Mapping[Any, tuple[float | None, float | None]] | None = option(
        None,
        Limits(),
        "State -> (low, high), None where there is none: measured states that stop there, as a tank that overflows or an "
        "end stop does, and leave at once when what drives them turns. A network need not learn such a kink from the data.",
    )
    observe: Field | Callable[..., Any] | None = option(
        None,
        Function("observe"),
        "What is measured, where that is not the states themselves: a function (t, y, th, u) of the state, the parameters "
        "of the field (left out where there are none) and its inputs (likewise), that gives a number for each column of the "
        "data; "
        "or a Field with parameters of its own, where those of the same name are the same.",
    )
    initial: Any = option(
        None,
        InitialStates(),
        "Initial states, at the first reading or dose of each trajectory. An array (d,) or (B, d): known, NaN where they "
        "are estimated. A dict of state -> number, None, `pynode.positive` or `pynode.bounded` of a start. A function "
        "(th, u) of the parameters of the field and of the inputs at that time, or a Field: shared by all trajectories, "
        "with NaN for "
        "states that are estimated for each. Default: all are estimated.",
    )
    lag: Mapping[Any, float | str] | None = option(
        None,
        ByState("lag"),
        "State -> how much later doses into it take effect: a number, or the name of a parameter of the field.",
    )
    bioavailability: Mapping[Any, float | str] | None = option(
        None,
        ByState("bioavailability"),
        "State -> which part of doses into it takes effect: a number, or the name of a parameter of the field.",
    )
    method: str = option(
        "auto",
        AdaptiveMethod(),
        "Method, see `pynode.solve`.",
        flag=Flag("--method", "method of the solver (default auto: dopri5, and rodas5p where it is stiff)"),
    )
    rtol: float = option(
        1e-5,
        Positive(),
        "Relative tolerance of training; predictions use at most 1e-6.",
        flag=Flag("--rtol", "relative tolerance of training (default 1e-5)", "X"),
    )
    atol: float = option(
        1e-5,
        Positive(),
        "Absolute tolerance of training, in standard deviations of the states; predictions use at most 1e-8.",
        flag=Flag("--atol", "absolute tolerance, in standard deviations of the states (default 1e-5)", "X"),
    )
    optimizer: Literal["auto", "levenberg-marquardt", "adam+lbfgs", "lbfgs", "adam"] = option(
        "auto",
        OneOf(("auto", SECOND_ORDER, *OPTIMIZERS)),
        '"auto": Levenberg-Marquardt for fields of at most 3000 parameters and 50 states, else Adam for the start from '
        "random parameters, then L-BFGS; Adam on minibatches where the data are many. With two or three states "
        "Levenberg-Marquardt is better up to some 20,000 parameters, without bands.",
        flag=Flag("--optimizer", "levenberg-marquardt, adam+lbfgs, lbfgs, adam (default auto)"),
    )
    max_iter: int | None = option(
        None,
        Integer(1),
        "Iterations of each stage of training; epochs, with minibatches. Default: 100 of Levenberg-Marquardt, 10 epochs, "
        "400 of Adam, 100 of the others.",
        flag=Flag("--max-iter", "iterations of a stage (default: by the optimizer)", "N"),
    )
    learning_rate: float = option(2e-2, Positive(), "Learning rate of Adam.")
    schedule: str | Callable[[float], float] = option(
        "cosine", Schedule(), "Schedule of the learning rate, see `pynode.fit.schedules`."
    )
    max_gradient: float | None = option(None, Positive(), "Adam shortens longer gradients to this norm.")
    batch_size: int | None = option(
        None,
        Integer(1),
        "Windows of a minibatch (Adam), for the shortest windows; fewer of longer ones. Default: 256 where there are more "
        "than 20,000 windows.",
    )
    windows: Sequence[int | None] | None = option(
        None,
        Checked("sequence of int or None", checked_windows, sequence=True),
        "Lengths of the windows of the stages, in intervals between times; None in it stands for whole trajectories. "
        "Default: growing from at most 10 to whole trajectories.",
    )
    weight_decay: float | None = option(
        None,
        Positive(zero=True),
        "The loss has weight_decay / n_observed * |theta|^2 added. Default: Levenberg-Marquardt estimates it (evidence), "
        "for each array of weights; for the others the variance of the noise, estimated from the data, over 0.5^2, which is "
        "a Gaussian prior of standard deviation 0.5. 0 for a field of your own.",
        flag=Flag("--weight-decay", "default: estimated from the data", "X"),
    )
    kinetic_energy: float = option(
        0.0,
        Positive(zero=True),
        "Strength of a regulariser along the path, see `pynode.fit.with_penalty` (gradient descent only).",
    )
    jacobian_norm: float = option(0.0, Positive(zero=True), "Strength of another one, see there (gradient descent only).")
    steer: float = option(
        0.0,
        Fraction(zero=True),
        "End times of windows are moved at random by this part of the last interval (Adam only).",
    )
    noise: str | Mapping[str, str] = option(
        "gaussian",
        NoiseOf(),
        'Distribution of the noise of the measurements: "gaussian", or "huber" or "student", which are not led astray by '
        'outliers. Or how the error of a reading grows with what the model predicts: "additive", "proportional", '
        '"combined" (the sum of both variances), "lognormal" (additive for logarithms); a dict gives it for each column. '
        "Its parameters are "
        "estimated for each column.",
        flag=Flag("--noise", "gaussian, huber or student (which bear outliers), proportional, combined or lognormal"),
    )
    process_noise: bool = option(
        False,
        Switch(),
        "A random force drives the states too, so that they follow the equation only nearly. Its strength on each state is "
        "estimated beside the noise of the readings (`process_noise_`), from residuals of the data and of the equation from "
        "each reading to the next. Fitted trajectories are then smoothed paths, and forecasts spread as the force has them. "
        "Without it what the equation does not explain is noise of readings, or misfit. Levenberg-Marquardt only; no "
        "equation of few terms is looked for.",
        flag=Flag("--process-noise", "a random force drives the states; its strength is estimated"),
    )
    early_stopping: bool = option(
        False,
        Switch(),
        "Keep some trajectories aside, stop each stage when the error on them no longer falls, and keep the best parameters "
        "for them; in place of the estimated priors.",
    )
    validation_fraction: float = option(0.2, Fraction(), "Part of the trajectories kept aside.")
    patience: int = option(10, Integer(1), "Iterations without improvement after which a stage stops.")
    n_restarts: int = option(
        1,
        Integer(1),
        "Starts, each fitted in full; the data of whole trajectories decide: by evidence for networks, which start at "
        "random, by likelihood for a field of your own, which starts from its values, then from draws over the ranges that "
        "its parameters were declared with: bounded ones within their bounds, positive ones within a factor of 10 or 100 "
        "of their value (Levenberg-Marquardt only).",
        flag=Flag("--restarts", "starts, each fitted in full; the best is kept (default 1)", "N"),
    )
    n_estimators: int = option(
        1,
        Integer(1),
        "Members of an ensemble, which differ in their random start; predictions are their mean, and bands contain how they "
        "differ.",
        flag=Flag("--ensemble", "models to fit and average (default 1)", "N"),
    )
    average: Literal["mean", "median"] = option(
        "mean",
        OneOf(("mean", "median")),
        "How the predictions of the members of an ensemble become one. The median bears a member that goes astray.",
    )
    n_jobs: int | None = option(
        None,
        Integer(),
        "How many members or starts are fitted at once, by joblib (its backends may spread them over machines); -1: one a "
        "core.",
        flag=Flag("--jobs", "members of the ensemble fitted at once (default 1)", "N"),
    )
    scale: bool = option(True, Switch(), "Scale states and time to order one.")
    input_kind: Literal["auto", "previous", "linear", "cubic"] = option(
        "auto",
        OneOf(("auto", "previous", "linear", "cubic")),
        "How control inputs go between their times where they have no kind of their own (as a `pynode.Signal` and "
        '(times, values, kind) have): held until the next one, straight lines, or cubics. "auto": what explains the data '
        'best, see `report_["inputs"]`.',
    )
    input_delay: float | Sequence[float] | Literal["auto"] = option(
        0.0,
        Checked('float, sequence of float or "auto"', checked_delay, sequence=True),
        "By how much control inputs take effect later than their times, in the units of time: a number for all, or one for "
        'each; before its first time an input is held. "auto": what explains the data best, of multiples of the sampling '
        "interval up to 20.",
    )
    far_field: Literal["auto", "linear", "inward"] = option(
        "auto",
        OneOf(("auto", "linear", "inward")),
        'What the network does far from the data. "linear": it goes on as its linear map does. "inward": beyond the range '
        "of the states while training, and half of it more on either side, it stays as at the edge, and a pull leads back. "
        '"auto": "inward" where rollouts along the training data leave them (with a warning), else "linear".',
        flag=Flag("--far-field", "what a network does far from the data: auto, linear, inward (default auto)"),
    )
    max_growth: float | None = option(
        None,
        Checked("float", checked_growth),
        "The fastest rate, in one over the units of time, at which nearby rollouts may part: the largest eigenvalue of the "
        "symmetric part of the Jacobian, for states in units of their standard deviations, stays below it at states on and "
        "around the trajectories. At 0 no rollout leaves another one, below 0 all go to one state or path. It is a penalty: "
        "a warning tells where the data want more. Default: no bound. Levenberg-Marquardt only; no equation of few terms is "
        "looked for.",
    )
    log: bool = option(
        False,
        Switch(),
        "Learn the logarithms of the states, which must be positive: populations, concentrations.",
        flag=Flag("--log", "learn logarithms: positive states such as populations"),
    )
    random_state: int | None = option(
        None,
        Seed(),
        "The same seed gives the same model.",
        flag=Flag("--seed", "of the network's start (default 0)", "N", default=0),
    )
    verbose: int = option(0, Integer(0, booleans=True), "Show progress while fitting.")

    def check_options(self) -> None:
        """Check the options, as `fit` does; see `Estimator.check_options`."""
        super().check_options()
        if self.n_jobs == 0:
            raise ValueError("n_jobs=0 must not be 0: how many members are fitted at once, or -1 for one a core")
        if self.structure == "equation" and self.field is not None:
            raise ValueError("structure='equation' looks for an equation, and field= gives one: leave one of them out")
        if self.structure == "equation" and (self.n_estimators != 1 or self.n_restarts != 1):
            raise ValueError(
                "structure='equation' has nothing random: n_estimators and n_restarts are for networks (structure='network')"
            )
        if self.process_noise:
            self._check_process_noise()
        if self.augment == "auto":
            self._check_augment()
        if self.max_growth is not None:
            self._check_growth()
        if self.field is not None and self.augment:
            raise ValueError("augment adds states to the network; a field of your own declares all its states itself")
        if self.field is not None and self.limits is not None:
            raise ValueError("limits belong to the network; a field of your own stops its states itself")
        if self.optimizer == SECOND_ORDER and first_order_options(self):
            name = first_order_options(self)[0]
            raise ValueError(f"{name} belongs to gradient descent: take optimizer='adam' or 'auto', not {SECOND_ORDER!r}")
        if self.optimizer in OPTIMIZERS and self.n_restarts != 1:
            raise ValueError(f"n_restarts belongs to {SECOND_ORDER}; optimizer={self.optimizer!r} has n_estimators")
        if (self.batch_size is not None or self.steer) and "lbfgs" in self.optimizer:
            raise ValueError("batch_size and steer make the loss random: take optimizer='adam', L-BFGS needs a fixed one")

    def _check_augment(self) -> None:
        """Refuse what does not go with a number of states that evidence chooses."""
        count = "give the number that a single fit finds (n_unobserved_)"
        why = {
            f"optimizer={self.optimizer!r}: {SECOND_ORDER} has evidence": self.optimizer not in ("auto", SECOND_ORDER),
            f"weight_decay={self.weight_decay!r}, with which there is no evidence: leave it out": self.weight_decay
            is not None,
            "early_stopping=True, with which there is no evidence: leave it out": self.early_stopping,
            f"n_estimators={self.n_estimators}: {count}": self.n_estimators > 1,
            f"n_restarts={self.n_restarts}: {count}": self.n_restarts > 1,
            f"process_noise=True, which explains what unobserved states would: {count}": self.process_noise,
            **{f"{name}, which belongs to gradient descent": True for name in first_order_options(self)},
        }
        for words, wrong in why.items():
            if wrong:
                raise ValueError(f"augment='auto' does not go with {words}")

    def _check_growth(self) -> None:
        """Refuse what does not go with a bound on growth."""
        if self.optimizer not in ("auto", SECOND_ORDER) or first_order_options(self):
            what = first_order_options(self) or [f"optimizer={self.optimizer!r}"]
            raise ValueError(
                f"max_growth={self.max_growth!r} belongs to {SECOND_ORDER}: leave {what[0]} out, or take jacobian_norm, "
                "which is for gradient descent"
            )

    def _check_process_noise(self) -> None:
        """Refuse what does not go with a random force."""
        descent = self.optimizer not in ("auto", SECOND_ORDER)
        why = {
            f"noise={self.noise!r}: take {', '.join(map(repr, ROBUST))}": self.noise not in ROBUST,
            "early_stopping=True: all trajectories tell the strength": self.early_stopping,
            f"optimizer={self.optimizer!r}: {SECOND_ORDER} estimates the strength": descent,
            **{f"{name}, which belongs to gradient descent": True for name in first_order_options(self)},
        }
        for words, wrong in why.items():
            if wrong:
                raise ValueError(f"process_noise=True does not go with {words}")


def second_order_options(model: NeuralODEOptions) -> list[str]:
    """Those that only training in stages by Levenberg-Marquardt has, with their values, of the ones that are turned on."""
    given = {"process_noise=True": model.process_noise, f"max_growth={model.max_growth}": model.max_growth is not None}
    return [name for name, on in given.items() if on]


def first_order_options(model: NeuralODEOptions) -> list[str]:
    """Those of FIRST_ORDER_ONLY that are turned on."""
    return [name for name, off in FIRST_ORDER_ONLY.items() if getattr(model, name) != off]
