"""pynode predict"""

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pynode.app.commands import UserError
from pynode.app.commands.arguments import add_reading, check_folder, natural, reading_options
from pynode.app.commands.times import Times, times

BAND = 1.6448536269514722
"""90 % of a normal distribution lie within so many standard deviations."""

FLAGS = {
    "without y0, t ": "without --y0, --t ",
    ": give y0": ": give --y0",
    "y0 must": "--y0 must",
    "trajectory=": "--trajectory ",
}
"""Of messages of `NeuralODE.predict`: what stands there -> what it is here."""

EXAMPLE = "pynode predict model.npz --y0 30 4 --t 0:20:0.1 -o out.csv --plot p.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("model", help="model file")
    parser.add_argument(
        "--t",
        required=True,
        type=times,
        metavar="START:STOP:STEP",
        help="times, both ends included; or a list: 0,1,2.5; dates: 2024-03-01/2024-03-02/6h, or a list; "
        "--t=-1:1:0.1 where the first is negative",
    )
    parser.add_argument(
        "--y0",
        type=float,
        nargs="+",
        metavar="X",
        help="state at the first time; default: continue the fitted trajectory",
    )
    parser.add_argument("--trajectory", type=natural, default=0, metavar="N", help="which one to continue, from 0")
    parser.add_argument("--inputs", metavar="FILE", help="table of control inputs over the times asked for, as in fit")
    parser.add_argument("--std", action="store_true", help="standard deviations too, in columns NAME_std")
    parser.add_argument("-o", "--output", metavar="CSV", help="default: standard output")
    parser.add_argument("--plot", metavar="FILE", help="write a picture too: .png, .pdf or .svg")
    add_reading(parser)


def run(args: argparse.Namespace) -> None:
    """Write a table of predictions, and a figure if asked."""
    from pynode.data.files import write_bytes
    from pynode.models.base import load
    from pynode.models.pages import picture_kind
    from pynode.models.trajectories.neural_ode import NeuralODE

    model = load(args.model)
    if not isinstance(model, NeuralODE):
        raise UserError(f"{args.model} holds a {type(model).__name__}; this command is for a NeuralODE: use Python")
    _check(args, model)
    if args.plot is not None:
        picture_kind(args.plot)
    t = args.t.numbers(model.clock_)
    if args.inputs is None:
        _check_known(args, model, t)
    u = None if args.inputs is None else _inputs(args, model, t)
    options = {"trajectory": args.trajectory, "u": u}
    with _told_by_flags():
        predicted = model.predict(t, args.y0, return_std=args.std, **options)
    table = _table(model, t, args.t, predicted if args.std else (predicted,), args.std)
    if args.output is None:
        sys.stdout.write(table)
    else:
        write_bytes(args.output, table.encode("utf-8"))
    if args.plot is not None:
        _draw(args, model, t, options)


def _check(args: argparse.Namespace, model: Any) -> None:
    """Before long work: do the arguments fit the model?"""
    names = ", ".join(model.names_)
    if args.y0 is not None and not np.isfinite(args.y0).all():
        raise UserError(f"--y0 {' '.join(f'{x:g}' for x in args.y0)}: states must be finite")
    if args.y0 is not None and not model.n_unobserved_ and model.protocol_ is None and len(args.y0) != len(model.names_):
        raise UserError(f"--y0 needs {len(model.names_)} numbers ({names}), got {len(args.y0)}")
    if args.y0 is not None and model.field_.inputs and args.inputs is None:
        raise UserError(
            "the model has control inputs, known here for fitted trajectories only: leave --y0 out, or give --inputs"
        )
    if args.inputs is not None and not model.field_.inputs:
        raise UserError("--inputs: the model has no control inputs")
    for path in (args.output, args.plot):
        if path is not None:
            check_folder(path)


def _table(model: Any, t: Any, asked: Times, parts: Any, std: bool) -> str:
    """The predictions as CSV; times as they were asked for, dates or numbers."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([model.time_name_, *model.names_, *(f"{name}_std" for name in model.names_ if std)])
    shown = [f"{x:.10g}" for x in t] if not asked.dates else model.clock_.to_text(t)
    for when, *row in zip(shown, *parts, strict=True):
        writer.writerow([when, *(repr(float(x)) for part in row for x in part)])
    return buffer.getvalue()


@contextmanager
def _told_by_flags() -> Iterator[None]:
    """Errors inside name the flags, not the arguments of `NeuralODE.predict`."""
    try:
        yield
    except ValueError as error:
        words = str(error)
        for python, flag in FLAGS.items():
            words = words.replace(python, flag)
        raise UserError(words) from error


def _check_known(args: argparse.Namespace, model: Any, t: Any) -> None:
    """Are the control inputs of the fit known until the last time?"""
    past = None if model.data_ is None else model.data_.signal
    if past is None or past.kind == "constant" or not 0 <= args.trajectory < len(model.data_.t):
        return
    end = past.known_until(0 if past.shared else args.trajectory)
    if t.max() > end:
        until = f"{end:g}" if model.clock_ is None else model.clock_.to_text(end)[0]
        raise UserError(f"the control inputs of the fit are known until {until}: --inputs FILE holds those of later times")


def _inputs(args: argparse.Namespace, model: Any, t: Any) -> Any:
    """Control inputs of a file, after those with which a trajectory was fitted if it is continued."""
    from pynode.data.csv import read_csv
    from pynode.data.signal import Signal

    columns = model.columns_
    if len(columns["input"]) != model.field_.inputs:
        raise UserError("--inputs: the model was fitted to arrays, so that its inputs have no names; use Python")
    new = read_csv(args.inputs, columns["time"], columns["input"], **reading_options(args) | {"clock": model.clock_})
    if np.isnan(new.y[0]).any():
        raise UserError(f"{args.inputs}: control inputs must be known in every row")
    knots, values = new.t[0], new.y[0]
    past = None if model.data_ is None else model.data_.signal
    kind: Any = model.input_kind_ if past is None or past.kind == "constant" else past.kind
    if args.y0 is None and past is not None and past.kind != "constant":
        i = 0 if past.shared else args.trajectory
        before = past.t[i] < knots[0]
        knots, values = np.append(past.t[i][before], knots), np.concatenate([past.u[i][before], values])
    if t.max() > knots[-1] and kind != "previous":
        end = f"{knots[-1]:g}" if model.clock_ is None else model.clock_.to_text(knots[-1])[0]
        raise UserError(f"{args.inputs}: control inputs end at {columns['time']} = {end}, before the last time of --t")
    if t.min() < knots[0]:
        begin = f"{knots[0]:g}" if model.clock_ is None else model.clock_.to_text(knots[0])[0]
        raise UserError(f"{args.inputs}: control inputs begin at {columns['time']} = {begin}, after the first time of --t")
    return Signal([knots], [values], kind)


def _with_band(model: Any, t: Any, y0: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """(predictions, ends of their 90 % band or None)."""
    if model.covariance_ is None and not model.estimators_:
        return model.predict(t, y0, **options), None
    y, std = model.predict(t, y0, return_std=True, **options)
    if model.log:
        factor = np.exp(BAND * std / y)
        return y, (y / factor, y * factor)
    return y, (y - BAND * std, y + BAND * std)


def _draw(args: argparse.Namespace, model: Any, t: Any, options: dict[str, Any]) -> None:
    """The picture: the model with its band, and the data where a fitted trajectory is continued."""
    from pynode import plots
    from pynode.data.files import write_bytes
    from pynode.models.pages import image

    data = model.data_ if args.y0 is None else None
    fine = t
    if len(t) > 1:
        first = t.min() if data is None else min(t.min(), data.t[args.trajectory][0])
        fine = np.linspace(first, max(t.max(), first), 600)
        fine = fine if args.y0 is None or t[-1] >= t[0] else fine[::-1]
    y, band = _with_band(model, fine, args.y0, options)
    figure = plots.prediction(
        fine,
        y,
        model.names_,
        model.time_name_,
        data=data,
        trajectory=args.trajectory,
        band=band,
        clock=model.clock_,
    )
    write_bytes(Path(args.plot), image(figure, args.plot))
