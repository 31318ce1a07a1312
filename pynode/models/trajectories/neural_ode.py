"""NeuralODE: the estimator. Measured trajectories in, a differential equation out."""

import os
import time as clock
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.control import rows_of_constants
from pynode.data.labels import column_names
from pynode.data.partitions import Partitions, as_partitions
from pynode.data.ragged import is_frame
from pynode.data.signal import told
from pynode.data.trajectories import Trajectories
from pynode.errors import users_level
from pynode.models.options import documented
from pynode.models.trajectories.ensemble import best_of, fit_members
from pynode.models.trajectories.equations.looking import fit_form
from pynode.models.trajectories.equations.loose import warn_if_loose
from pynode.models.trajectories.far_field import settle_far_field
from pynode.models.trajectories.inputs import Choice, choose_inputs, decided, keep_choice
from pynode.models.trajectories.interrupted import left_by
from pynode.models.trajectories.known.fits import KnownFit, means
from pynode.models.trajectories.known.protocol import as_doses, reasons, refuse_options
from pynode.models.trajectories.known.protocol_storage import protocol_to_dict
from pynode.models.trajectories.known.results import keep
from pynode.models.trajectories.named import weighed_by_state
from pynode.models.trajectories.partitions.fits import fit_partitions
from pynode.models.trajectories.publishing.published import Published
from pynode.models.trajectories.restarts import fit_starts
from pynode.models.trajectories.series import (
    Inputs,
    Series,
    as_trajectories,
    check_data,
    from_first_readings,
    with_covariates,
)
from pynode.models.trajectories.stages import reporting
from pynode.models.trajectories.storage import from_content, to_content
from pynode.models.trajectories.unobserved import fit_numbers
from pynode.optim.checkpoint import Checkpoint, continued, opened
from pynode.optim.progress import Progress
from pynode.optim.result import Iteration
from pynode.optim.session import results_kept_whole
from pynode.training.curriculum import FitWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

RESULTS = (
    "field_",
    "theta_",
    "scaling_",
    "random_state_",
    "data_",
    "weight_",
    "names_",
    "time_name_",
    "clock_",
    "columns_",
    "n_unobserved_",
    "initial_states_",
    "covariance_",
    "determined_covariance_",
    "state_gain_",
    "state_covariance_",
    "history_",
    "report_",
    "protocol_",
    "calibration_",
    "averaged_",
    "shown_",
    "driven_",
    "visited_",
    "input_kind_",
    "strays_",
    "aside_",
)
"""What a fit leaves, but for `estimators_` and `in_frames_`."""


@documented
class NeuralODE(Published):
    """A differential equation dy/dt = f(y, u; theta) learned from measured trajectories.

    Training matches slopes of smoothed data, then fits short windows, longer ones, and whole trajectories,
    their initial states free. Inside, states and time are scaled to order one. Small fields are trained to
    second order (Levenberg-Marquardt on exact sensitivities); the noise and the strength of the priors are
    then estimated along the way, and predictions have error bands.

    {options}

    Attributes
    ----------
    theta_ : (p,) array
    field_ : Field
        In scaled units; `derivative` is in yours.
    scaling_ : Scaling
    names_ : tuple of str
        The states that predictions are about.
    time_name_ : str
    clock_ : Clock or None
        How the dates or durations of the data became numbers; predictions take dates then.
    columns_ : dict
        The columns of a table that are read of it: time, state, id, input; `score` takes a data frame with these.
    n_unobserved_ : int
        States that were added (`augment`), after the others.
    initial_states_ : (B, d) array
        Fitted initial states of the trajectories, in your units.
    covariance_ : (p, p) array or None
        Of theta_, by Laplace's approximation; None where the optimizer gives none. NaN in the rows and columns of parameters
        that the data do not determine (at 0 or at a bound, without influence, or only together with others), 0 in those of
        frozen ones.
    determined_covariance_ : (p, p) array or None
        The same, directions that the data do not determine being held, in place of NaN: whatever depends on what is
        determined, as a sum of two parameters, has the right variance. Of fits with observe, initial, doses, replicates or
        error models; else None.
    state_gain_ : (B, d, p) array or None
        How the fitted initial states, scaled, follow theta_: their derivative with respect to it is -state_gain_.
    state_covariance_ : (B, d, d) array or None
        Of the initial states, scaled, given theta_.
    calibration_ : Calibration or None
        How wide intervals must be; found when `predict` or `forecast` is first asked for one.
    averaged_ : Averaged or None
        Found then, too: coefficients of all candidate terms, averaged over sets of terms and over what these lack; of a
        network over what it lacks. None of models of other kinds, and where there are too many candidates.
    process_noise_ : dict or None
        State -> the strength of the random force on it: the standard deviation that it alone gives the state in a unit of
        time (of the logarithms, with `log`). None without the option process_noise.
    driven_ : Driven or None
        The smoothed states, scaled, with their covariances (states, spread), with process_noise.
    strays_ : tuple of int
        Positions of trajectories along which rollouts leave the data, see `far_field`.
    aside_ : tuple of int
        Positions of trajectories that `early_stopping` kept aside: their initial states alone are fitted.
    input_kind_ : str
        How control inputs without a kind of their own go between their times in predictions: as those of the data did.
    in_frames_ : bool
        It was fitted to a data frame: forecasts are data frames.
    visited_ : Visited or None
        The states that it went through while it was trained, scaled: states (some of them), inputs (the control inputs
        there), low and high (their range). None of fits with a protocol (doses, observe, initial).
    data_ : Trajectories or None
        What `fit` was given, and weight_ (list of arrays or None), its weights.
    estimators_ : list of NeuralODE
        The members of an ensemble, else empty; theta_ and the like are those of the best by loss (process_noise: evidence).
    random_state_ : int
        The seed that was used.
    history_ : dict of arrays
        An entry an iteration: stage (index into report_["stages"]), loss, gradient_norm, nfe (evaluations of the field in
        forward solves, 0 where they are not counted), seconds since the start, validation (error on the trajectories kept
        aside; NaN without early stopping). `pandas.DataFrame(model.history_)` is a table of it.
    report_ : dict
        How the fit went: status ("finished", "stopped", "interrupted") and message; loss, nfe, seconds, n_iter,
        n_evaluations (of the loss and its gradient), n_params, n_samples (trajectories), n_observed (numbers), n_failed
        (windows left out), random_state, warnings, version; rmse and noise by state, noise_of ("states" or "logarithms"),
        inputs (how control inputs were taken: kind, delay, and the log evidence of what was tried, less that of the best),
        optimizer, effective_parameters (how many the data determine; NaN where unknown), time_scale, and stages, a dict
        for each stage of training; log_likelihood, degrees (how many numbers, initial states included, are estimated
        besides the noise), log_evidence, see `summary`.

    See Also
    --------
    LatentODE : where what is observed does not determine what follows.
    pynode.fit : the optimisers and steps of training by themselves.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 6, 40)
    >>> Y = np.stack([np.cos(t), -np.sin(t)], axis=1)
    >>> model = pn.NeuralODE(hidden=(8,), max_iter=50, random_state=0).fit(t, Y)
    >>> model.predict(t, [0.5, 0.0]).shape
    (40, 2)
    """

    score_of_start_: Any

    # ---- Fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        t: Series | Trajectories | Partitions,
        Y: Series | None = None,
        *,
        u: Inputs | None = None,
        weight: Series | None = None,
        names: Sequence[str] | None = None,
        time: str | None = None,
        state: str | Sequence[str] | None = None,
        id: str | None = None,
        input: str | Sequence[str] | None = None,
        doses: Any = None,
        progress: bool | str | None = None,
        callback: Callable[[Iteration], Any] | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> Self:
        """Learn from trajectories.

        Parameters
        ----------
        t : (T,) array, list of (T_i,) arrays, Trajectories, a data frame, or Partitions
            Times. A data frame holds everything: name its columns `time`, `state`, `id`, `input`. So do data in
            partitions, which need not fit into memory: Parquet files, collections of Dask, or `pynode.Partitions` of them.
        Y : (T,), (T, d) or (B, T, d) array, or list of (T_i, d) arrays
            States; NaN: not observed. Of several readings at one time a field that is learned follows the mean; a trajectory
            that it is learned from begins with its first reading.
        u : array, list of arrays, tuple or Signal, optional
            Control inputs: values at the times of the data, (T, m), (B, T, m) or a list of (T_i, m), which go between
            them as `input_kind` says; (B, m) or (m,): constants; (times, values[, kind]) or a `pynode.Signal` for others,
            without a kind as `input_kind` says ("auto": straight lines). Columns of data frames go by their names later.
        weight : array or list of arrays, optional
            Relative precision (1 / variance) of the entries of Y, of its shape or one that broadcasts to it: a common factor
            of those of a state changes nothing, and its noise is that of an entry of typical weight (the geometric mean).
            0: left out, as NaN in Y.
        names : sequence of str, optional
            Of the states. Default: those of the columns where Y is a data frame, or else y1, y2, ...
        time, state, id, input : str or sequence of str
            Columns of the data frame.
        doses : list of Dose, list of lists of Dose, or dict, optional
            What is given to the trajectories (`pynode.Dose`): one list for all of them, a list for each, or id -> list.
        progress : bool or str, optional
            Show how training goes; a string is the label of the display. Default: `verbose`.
        callback : callable, optional
            callback(`pynode.fit.Iteration`) after each iteration of any stage; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if
            nothing had happened; it is removed at the end. Needs random_state. Each member of an ensemble and each
            start has a file of its own, of that name and .1, .2, ...; those that are done stay until all are.

        Returns
        -------
        NeuralODE
            This model, fitted.

        Raises
        ------
        TypeError, ValueError
            Options or data that make no sense.
        pynode.fit.FitError
            The equation cannot be solved over any window of the data.
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps the best so far and can be used. A plain KeyboardInterrupt
            where it came before there was anything to keep.
        """
        self.check_options()
        many = as_partitions(t, Y is not None, time=time, state=state, id=id, input=input, names=names)
        if many is not None:
            for name, value in {"Y": Y, "u": u, "weight": weight, "doses": doses}.items():
                if value is not None:
                    raise TypeError(f"{name}= does not go with data in partitions, whose columns hold everything")
            shown = bool(self.verbose) if progress is None else progress
            fit_partitions(self, many, self._seed(), shown, callback, checkpoint)
            return self
        in_memory: Any = t
        if isinstance(u, tuple) and len(u) == 2 and self.input_kind != "auto":
            u = (*u, self.input_kind)
        u = rows_of_constants(u, None if self.field is None else self.field.inputs)
        data = with_covariates(as_trajectories(in_memory, Y, u, names, time, state, id, input, replicates="keep"))
        self.in_frames_ = is_frame(t)
        field = self.field if self.observe is None else None
        named = Y is None or names is not None or column_names(Y) is not None
        data, precision = weighed_by_state(data, weight, field, named)
        known = reasons(self, data, doses)
        check_data(self, data, bool(known))
        refuse_options(self, known)
        if not known:
            data, precision = from_first_readings(*means(data, precision))
        seed = self._seed()
        data, choice = choose_inputs(self, data, data.plain, bool(known), seed)
        data = replace(data, plain=False)
        before = getattr(self, "report_", None)
        try:
            return self._fit(data, precision, doses, bool(known), seed, choice, progress, callback, checkpoint)
        except KeyboardInterrupt as interrupt:
            raise left_by(interrupt, self, before) from None
        finally:
            if hasattr(self, "report_"):
                keep_choice(self, choice)

    def _fit(
        self,
        data: Trajectories,
        precision: list[NDArray[np.float64]] | None,
        doses: Any,
        known: bool,
        seed: int,
        choice: Choice,
        progress: bool | str | None,
        callback: Callable[[Iteration], Any] | None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None,
    ) -> Self:
        """Fit trajectories whose control inputs are as they are taken."""
        shown = bool(self.verbose) if progress is None else progress
        if self.n_estimators > 1:
            given = None if doses is None else as_doses(doses, data)
            return self._fit_ensemble(data, precision, given, seed, choice, shown, callback, checkpoint)
        started = clock.perf_counter()
        if known:
            return self._fit_known(KnownFit(self, data, precision, seed, doses), shown, callback, checkpoint)
        if self.n_restarts > 1 or self.augment == "auto":
            return self._fit_several(data, precision, seed, choice, shown, callback, checkpoint)
        with opened(checkpoint, self.random_state, partial(self._what, data, precision)) as saved:
            fit_form(self, data, precision, seed, choice.delay, shown, callback, saved)
        settle_far_field(self)
        warn_if_loose(self)
        self.report_["seconds"] = clock.perf_counter() - started
        return self

    def _fit_known(
        self,
        fit: KnownFit,
        shown: bool | str,
        callback: Callable[[Iteration], Any] | None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None,
    ) -> Self:
        """A fit with a protocol, see `pynode.models.trajectories.known.fits`."""
        started = clock.perf_counter()
        whole = (protocol_to_dict(fit.protocol), fit.data.censored)
        what = partial(self._what, fit.data, fit.precision, whole)
        with opened(checkpoint, self.random_state, what) as saved:
            total = fit.likelihood().max_iter * (int(self.n_restarts) + 2)
            with Progress(total, shown if isinstance(shown, str) else "training", bool(shown)) as bar:
                run, interrupt = fit.run(reporting(bar, callback), saved)
            with results_kept_whole():
                keep(self, fit, run, "interrupted" if interrupt else None, clock.perf_counter() - started)
            for words in self.report_["warnings"]:
                warnings.warn(words, FitWarning, stacklevel=users_level())
            if interrupt is not None:
                raise interrupt
        return self

    def told(self) -> tuple[Any, ...]:
        """The options that a fit follows from, for the fingerprint of a checkpoint.

        Returns
        -------
        tuple
        """
        return self._told("verbose", "n_jobs")

    def _what(self, data: Trajectories, weight: Any, protocol: Any = ()) -> tuple[Any, ...]:
        """What a fit follows from, for the fingerprint of a checkpoint."""
        return *self.told(), list(data.t), list(data.y), weight, told(data.signal), protocol

    def _fit_ensemble(
        self,
        data: Trajectories,
        precision: list[NDArray[np.float64]] | None,
        doses: Any,
        seed: int,
        choice: Choice,
        progress: bool | str,
        callback: Callable[[Iteration], Any] | None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None,
    ) -> Self:
        saved = continued(checkpoint, self.random_state)
        members, words, interrupt = fit_members(
            decided(self, choice), data, precision, seed, progress, callback, doses, saved
        )
        if words:
            warnings.warn(words, FitWarning, stacklevel=users_level())
        best = best_of(members)
        for name in RESULTS:
            setattr(self, name, getattr(best, name))
        self.estimators_ = members
        self.report_ = best.report_ | {
            "seconds": sum(member.report_["seconds"] for member in members),
            "warnings": [said for member in members for said in member.report_["warnings"]] + [words] * bool(words),
        }
        if interrupt is not None:
            raise interrupt
        return self

    def _fit_several(
        self,
        data: Trajectories,
        precision: list[NDArray[np.float64]] | None,
        seed: int,
        choice: Choice,
        progress: bool | str,
        callback: Callable[[Iteration], Any] | None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None,
    ) -> Self:
        """The best of fits from several starts, or with several numbers of unobserved states."""
        started = clock.perf_counter()
        saved = continued(checkpoint, self.random_state)
        fits = fit_numbers if self.augment == "auto" else fit_starts
        best, message, interrupt = fits(decided(self, choice), data, precision, seed, progress, callback, saved)
        for name in RESULTS:
            setattr(self, name, getattr(best, name))
        self.estimators_ = []
        self.random_state_ = seed
        self.field_ = self.field or best.field_
        self.score_of_start_ = best.score_of_start_
        seconds = clock.perf_counter() - started
        self.report_ = best.report_ | {"message": message, "seconds": seconds, "random_state": seed}
        for words in self.report_["warnings"]:
            warnings.warn(words, FitWarning, stacklevel=users_level())
        if interrupt is not None:
            raise interrupt
        return self

    def plot(self, kind: str = "overview", **options: Any) -> "Figure":
        """A figure (needs matplotlib).

        Parameters
        ----------
        kind : {"overview", "trajectories", "phase", "residuals", "agreement", "profile", "loss"}
        **options
            See the function of this name in `pynode.plots`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode.plots.registry import draw

        self.check_is_fitted()
        return draw("trajectories", kind, self, **options)

    # ---- Options and files ---------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=True, one_d_labels=False, two_d_labels=True, multi_output=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(two_d_array=True, three_d_array=True, allow_nan=True),
            no_validation=True,
            non_deterministic=False,
        )

    def to_content(self, data: bool = True) -> dict[str, Any]:
        """The fitted model as plain data and arrays, for `pynode.data.files.write`.

        Parameters
        ----------
        data : bool, default True
            Whether with the data that it was fitted to.

        Returns
        -------
        dict
        """
        return to_content(self, data)

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> Self:
        """The model from what a file holds.

        Parameters
        ----------
        content : dict
            What `to_content` gave; nothing in it is trusted.

        Returns
        -------
        NeuralODE

        Raises
        ------
        Exception
            Of any kind, where it is not a model: `pynode.load` makes a `ModelFileError` of it.
        """
        model: Any = from_content(content, cls)
        made: Self = model
        return made

    def __repr__(self) -> str:
        what = f"hidden={self.hidden}" if self.field is None else f"field={self.field.name}"
        if not hasattr(self, "theta_"):
            return f"<NeuralODE {what}, not fitted>"
        return f"<NeuralODE {what}, {', '.join(self.names_)}: fitted to {self.report_['n_observed']} numbers>"
