"""How NeuralODE trains: from data and options to the run of the stages, in scaled units."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.fields.make import mlp, products_of
from pynode.models.options import widths
from pynode.models.trajectories.options import NeuralODEOptions, first_order_options, second_order_options
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import n_inputs
from pynode.models.trajectories.stops import check_within, pull, scaled_limits, with_stops, without_slopes_at
from pynode.training.driven_run import DrivenRun
from pynode.training.early_stopping import Holdout, split
from pynode.training.first_order import OPTIMIZERS, FirstOrder, FirstOrderRun
from pynode.training.matching import STILL
from pynode.training.second_order import STEPS, SecondOrderRun
from pynode.training.second_order_recipe import SecondOrder
from pynode.training.sizes import groups_of, is_small, part_of, prior_groups
from pynode.training.smoothing import Smoothed, smooth, with_derivatives, with_implied
from pynode.training.state import Training
from pynode.training.steps import SECOND_ORDER
from pynode.training.windows import Data, default_windows

Array = NDArray[np.float64]

PRIOR_SCALE = 0.5
"""Standard deviation of the Gaussian prior of network weights (scaled units): the automatic weight decay."""


MIN_DECAY = 1e-6


LONG = (20, 40)
"""Windows for fields of one's own with states never observed, which short windows say little about."""


MANY = 20_000
"""Windows from which on gradient descent takes minibatches by default ..."""


BATCH = 256
"""... of this many."""


EPOCHS = 10
"""Passes over minibatches in each stage, by default."""


ADAM_ITERATIONS = 400
"""Iterations of each stage where Adam does everything, by default."""


ROUGH = 3.0
"""Noise below this many relative tolerances is that of the solver ..."""

EXACT = 1e-9
"""... and the last stage is fitted again to this tolerance."""

POLYNOMIAL_PART = 0.5
"""A polynomial beside the network adds at most this part of its parameters, ..."""

POLYNOMIAL_DATA = 20
"""... and there are at least this many numbers for each of them."""

CONTINUED = 50
"""Iterations of L-BFGS that go on from fitted parameters."""


def prepare(
    model: NeuralODEOptions,
    data: Trajectories,
    weight: list[Array] | None,
    seed: int,
    delay: Array | None = None,
    plain: Smoothed | None = None,
    units: Scaling | None = None,
) -> tuple[Any, Scaling, Any, Trajectories]:
    """(Run, Scaling, Smoothed, the trajectories it is fitted to).

    delay: of the control inputs. plain: what smoothing gives, in units of order one. units: those of states and inputs;
    default: by the data.
    """
    own, field = model.field, _field(model, data)
    scaling = _scaling(model, data) if units is None else units
    if delay is not None and delay.any():
        scaling = replace(scaling, u_delay=delay)
    z = [scaling.states(y) for y in data.y]
    times = list(data.t)
    theta = field.init(seed)
    smoothed = smooth(times, z) if plain is None else plain
    extra = int(model.augment)
    if extra:
        smoothed = with_derivatives(times, smoothed, extra)
        scaling = scaling.with_extra(extra)
        z = [np.concatenate([x, np.full((len(x), extra), np.nan)], axis=1) for x in z]
        weight = None if weight is None else [np.pad(w, ((0, 0), (0, extra)), constant_values=1.0) for w in weight]
    elif data.never_observed:
        u = Data(scaling.times(times), z, None, scaling.inputs(data.signal)).inputs_at_rows()
        smoothed = with_implied(field, theta, times, smoothed, u)
    if model.limits is not None:
        low, high = scaled_limits(model.limits, data.names, scaling)
        check_within(np.concatenate(z)[:, : data.d], smoothed.variance[: data.d], low[: data.d], high[: data.d], data.names)
        field = with_stops(field, low, high, pull(smoothed, model.scale))
        smoothed = without_slopes_at(smoothed, low, high)
    if model.scale and own is None:
        scaling, smoothed = _scaled_time(scaling, smoothed, times)
    inside = Data(scaling.times(times), z, weight, scaling.inputs(data.signal))
    training, holdout = Training.start(theta, inside, smoothed), None
    if model.early_stopping:
        kept, aside = split(len(data), model.validation_fraction, seed)
        holdout = Holdout(inside.take(aside), [training.states[i] for i in aside], int(model.patience), aside)
        data, inside = data.take(kept), inside.take(kept)
        smoothed = replace(smoothed, y=[smoothed.y[i] for i in kept], slope=[smoothed.slope[i] for i in kept])
        training = Training.start(theta, inside, smoothed)
    if _second_order(model, field):
        second = _second_recipe(model, field, inside, smoothed, scaling, seed)
        kind = DrivenRun if model.process_noise else SecondOrderRun
        found = kind(field, inside, training, smoothed, second, holdout=holdout)
        if not model.log:
            found.origin = scaling.states(np.zeros(inside.d))
        return found, scaling, smoothed, data
    for option in second_order_options(model):
        if not field.n_params or field.callbacks:
            raise ValueError(f"{option} needs {SECOND_ORDER}, and that a traced field with parameters")
        raise ValueError(
            f"{option} needs {SECOND_ORDER}, which the field is too large for ({field.n_params} parameters, "
            f"{field.d} states): take fewer hidden units"
        )
    recipe = _first_recipe(model, field, inside, smoothed, scaling, seed)
    run = FirstOrderRun(field, inside, training, smoothed, recipe, holdout=holdout)
    if recipe.batch_size is not None:
        run.batches = max(1, len(inside.windows(recipe.windows[0])) // recipe.batch_size)
    return run, scaling, smoothed, data


def polish(run: Any, scaling: Scaling, rtol: float) -> None:
    """Fit the last stage again with tighter tolerances, where residuals are as small as those of training, rtol.

    What is left of exact data would else be the error of the solver, and called noise.
    """
    if (
        not isinstance(run, SecondOrderRun)
        or isinstance(run, DrivenRun)
        or run.stopped
        or run.fitted is None
        or run.holdout is not None
    ):
        return
    measured = run.seen & ~run.data.still
    relative = np.sqrt(run.variance / run.spread)[measured]
    if not relative.size or relative.min() > ROUGH * rtol:
        return
    fine = scaling.tolerances(min(EXACT, rtol), EXACT)
    fine["atol"] = np.minimum(fine["atol"], 1.0)
    run.recipe = replace(run.recipe, options=run.recipe.options | fine)
    run.checkpoint = None
    with run.surroundings():
        run.shoot(run.fitted[0], run.fitted[1])
        run.finish()


def continued(
    model: NeuralODEOptions,
    field: Field,
    data: Data,
    smoothed: Any,
    scaling: Scaling,
    seed: int,
    start: tuple[Array, list[Array]],
    windows: int | None,
) -> Any:
    """The run of a single stage, from parameters and states (of the data) that were fitted before."""
    training = Training(start[0].copy(), start[1])
    run: Any
    if _second_order(model, field):
        second = _second_recipe(model, field, data, smoothed, scaling, seed)
        run = SecondOrderRun(
            field, data, training, smoothed, replace(second, windows=(windows,), starts=[], plain=None, part=None, own=False)
        )
    else:
        first = _first_recipe(model, field, data, smoothed, scaling, seed)
        plain: dict[str, Any] = {"optimizer": "lbfgs", "batch_size": None, "steer": 0.0, "own": False}
        first = replace(first, windows=(windows,), max_iter=CONTINUED, **plain)
        run = FirstOrderRun(field, data, training, smoothed, first)
    run.position = 1  # slopes are done
    return run


def _field(model: NeuralODEOptions, data: Trajectories) -> Field:
    """The field of one's own, or the network."""
    if model.field is not None:
        return model.field
    d = data.d + int(model.augment)
    inputs = n_inputs(data)
    plain = network(model, d, inputs, 1)
    return network(model, d, inputs, 3) if _bears_cubic(model, plain, data.n_observed) else plain


def network(model: NeuralODEOptions, d: int, inputs: int, degree: int) -> Field:
    """The network of a model for d states; degree: of the polynomial beside it where the model leaves that open."""
    skip = degree if model.skip is None else int(model.skip)
    return mlp(d, widths(model.hidden), activation=model.activation, inputs=inputs, skip=skip)


def _bears_cubic(model: NeuralODEOptions, plain: Field, n: int) -> bool:
    """Whether n numbers bear a cubic polynomial beside the plain network, and evidence keeps it small."""
    if model.skip is not None or not widths(model.hidden) or not _evidence(model):
        return False
    added = plain.d * sum(len(products_of(plain.d + plain.inputs, k)) for k in (2, 3))
    few = added <= min(POLYNOMIAL_PART * plain.n_params, n / POLYNOMIAL_DATA)
    return few and optimizer_of(model, plain) == SECOND_ORDER


def _scaling(model: NeuralODEOptions, data: Trajectories) -> Scaling:
    """The units of states and inputs; those of time come later."""
    log = bool(model.log)
    scaling = Scaling.of(data.y, log, data.signal) if model.scale else Scaling.identity(data.d, log, n_inputs(data))
    return scaling if model.field is None else scaling.unscaled()


def optimizer_of(model: NeuralODEOptions, field: Field) -> str:
    """The name of the optimizer, "auto" decided."""
    if model.optimizer != "auto":
        return model.optimizer
    if first_order_options(model):
        return "adam" if model.batch_size is not None or model.steer else OPTIMIZERS[0]
    return SECOND_ORDER if field.n_params > 0 and is_small(field) else OPTIMIZERS[0]


def _second_order(model: NeuralODEOptions, field: Field) -> bool:
    if optimizer_of(model, field) != SECOND_ORDER:
        if model.optimizer == "auto" and model.n_restarts != 1:
            raise ValueError(f"n_restarts belongs to {SECOND_ORDER}, which this field is too large for: take n_estimators")
        return False
    if field.n_params == 0 or field.callbacks:
        raise ValueError(f"optimizer={SECOND_ORDER!r} needs a traced field with parameters; take 'auto' or 'lbfgs'")
    return True


def _second_recipe(
    model: NeuralODEOptions, field: Field, inside: Data, smoothed: Any, scaling: Scaling, seed: int
) -> SecondOrder:
    variance = max(MIN_DECAY, _mean_variance(smoothed))
    return SecondOrder(
        _windows(model, inside, growth=6),
        int(model.max_iter or STEPS),
        3e-4,
        groups_of(field, inside.n_observed) if _evidence(model) else [],
        (model.weight_decay or 0.0) / variance,
        str(model.noise),
        _starts(model, field, seed),
        {"method": model.method, **scaling.tolerances(model.rtol, model.atol), "max_steps": 20_000},
        int(model.n_restarts) if _has_linear_map(model, field) else None,
        part_of(inside, field.n_params),
        seed,
        own=model.field is not None,
        kind="network" if model.field is None else "own",
        max_growth=None if model.max_growth is None else float(model.max_growth) * scaling.t_scale,
    )


def _has_linear_map(model: NeuralODEOptions, field: Field) -> bool:
    """Whether the network's linear map alone is a start too; evidence then chooses."""
    shaped = model.field is None and model.skip in (None, 1, 2, 3) and len(widths(model.hidden)) > 0
    return shaped and bool(prior_groups(field)) and _evidence(model)


def _evidence(model: NeuralODEOptions) -> bool:
    """Whether the strength of priors is estimated."""
    return model.weight_decay is None and not model.early_stopping


def _starts(model: NeuralODEOptions, field: Field, seed: int) -> list[Array]:
    """Random parameters to start from and, where the network has a linear map, that map alone."""
    starts = [field.init(seed + i) for i in range(int(model.n_restarts))]
    if _has_linear_map(model, field):
        layers = [p for p in field.spec if p.name.rsplit(".", 1)[-1][0] == "W"]
        linear = starts[0].copy()
        linear[layers[-1].offset : layers[-1].stop] = 0.0
        starts.append(linear)
    return starts


def _first_recipe(
    model: NeuralODEOptions, field: Field, inside: Data, smoothed: Any, scaling: Scaling, seed: int
) -> FirstOrder:
    variance = _mean_variance(smoothed)
    decay = model.weight_decay
    if decay is None:
        decay = 0.0 if model.field is not None or model.early_stopping else max(MIN_DECAY, variance) / PRIOR_SCALE**2
    windows = _windows(model, inside, growth=3)
    optimizer, batch = optimizer_of(model, field), model.batch_size
    if batch is None and model.optimizer in ("auto", "adam") and sum(map(len, inside.t)) > MANY * (windows[0] or MANY):
        optimizer, batch = "adam", BATCH
    return FirstOrder(
        windows,
        optimizer,
        int(model.max_iter or (EPOCHS if batch is not None else ADAM_ITERATIONS if optimizer == "adam" else 100)),
        model.learning_rate,
        float(decay),
        scaling.spread**-2,
        {"method": model.method, **scaling.tolerances(model.rtol, model.atol)},
        schedule=model.schedule,
        max_gradient=model.max_gradient,
        batch_size=None if batch is None else int(batch),
        noise=str(model.noise),
        deviation=float(np.sqrt(variance)) or 1.0,
        penalty=(float(model.kinetic_energy), float(model.jacobian_norm)),
        steer=float(model.steer),
        random_state=seed,
        own=model.field is not None,
        kind="network" if model.field is None else "own",
    )


def _windows(model: NeuralODEOptions, inside: Data, growth: int) -> tuple[int | None, ...]:
    """The lengths of windows: the user's, or growing ones; long ones for own fields with states never seen."""
    if model.windows is not None:
        return tuple(model.windows)
    lengths = [len(t) for t in inside.t]
    if model.field is None or inside.seen.all():
        return default_windows(lengths, growth)
    longest = max(lengths) - 1
    return (*(n for n in LONG if 1.5 * n < longest), None)


def _scaled_time(scaling: Scaling, smoothed: Any, times: Sequence[Array]) -> tuple[Scaling, Any]:
    """Time in units in which slopes are of order one."""
    slope = np.concatenate(smoothed.slope)
    rate = np.sqrt(np.nanmean(slope**2)) if not np.isnan(slope).all() else 0.0
    span = max(t[-1] - t[0] for t in times)
    t_scale = 1.0 / rate if rate * span > STILL else (span if span > 0 else 1.0)
    scaling = replace(scaling, t_shift=float(min(t[0] for t in times)), t_scale=float(t_scale))
    return scaling, replace(smoothed, slope=[s * t_scale for s in smoothed.slope])


def _mean_variance(smoothed: Any) -> float:
    """Variance of the noise, mean over the states for which smoothing tells; 0 if for none."""
    known = smoothed.variance[~np.isnan(smoothed.variance)]
    return float(known.mean()) if len(known) else 0.0
