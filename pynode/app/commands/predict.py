"""pynode predict"""

import argparse
import csv
import io
import sys

import numpy as np
from numpy.typing import NDArray

from pynode.app.commands import UserError
from pynode.app.commands.arguments import check_folder, natural

EXAMPLE = "pynode predict model.npz --y0 30 4 --t 0:20:0.1 -o out.csv --plot p.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("model", help="model file")
    parser.add_argument(
        "--t",
        required=True,
        type=times,
        metavar="START:STOP:STEP",
        help="times, both ends included; or a list: 0,1,2.5",
    )
    parser.add_argument(
        "--y0",
        type=float,
        nargs="+",
        metavar="X",
        help="state at the first time; default: continue the fitted trajectory",
    )
    parser.add_argument("--trajectory", type=natural, default=0, metavar="N", help="which one to continue, from 0")
    parser.add_argument("--std", action="store_true", help="standard deviations too, in columns NAME_std")
    parser.add_argument("-o", "--output", metavar="CSV", help="default: standard output")
    parser.add_argument("--plot", metavar="PNG", help="write a picture too")


def times(text: str) -> NDArray[np.float64]:
    """START:STOP:STEP (both ends included) or a list separated by commas, as an array."""
    try:
        if ":" not in text:
            t = np.array([float(x) for x in text.split(",")])
        else:
            start, stop, step = (float(x) for x in text.split(":"))
            steps = (stop - start) / step
            if not 0 <= steps <= 1e7:
                raise argparse.ArgumentTypeError(f"{text!r}: STEP must lead from START to STOP in at most 10 million steps")
            t = start + step * np.arange(int(np.floor(steps + 1e-9)) + 1)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither START:STOP:STEP, such as 0:20:0.1, nor a list of numbers such as 0,1,2.5"
        ) from None
    if not np.isfinite(t).all():
        raise argparse.ArgumentTypeError(f"{text!r}: times must be finite")
    return t


def run(args: argparse.Namespace) -> None:
    """Write a table of predictions, and a figure if asked."""
    from pynode.data.files import write_bytes
    from pynode.models.base import load

    model = load(args.model)
    if args.y0 is not None and not model.n_unobserved_ and len(args.y0) != len(model.names_):
        raise UserError(f"--y0 needs {len(model.names_)} numbers ({', '.join(model.names_)}), got {len(args.y0)}")
    if args.y0 is not None and model.field_.inputs:
        raise UserError(
            "the model has control inputs, known here for fitted trajectories only: leave --y0 out, or use Python"
        )
    for path in (args.output, args.plot):
        if path is not None:
            check_folder(path)
    predicted = model.predict(args.t, args.y0, trajectory=args.trajectory, return_std=args.std)
    y, *std = predicted if args.std else (predicted,)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([model.time_name_, *model.names_, *(f"{name}_std" for name in model.names_ if args.std)])
    for t, *row in zip(args.t, y, *std, strict=True):
        writer.writerow([f"{t:.10g}", *(repr(float(x)) for part in row for x in part)])
    if args.output is None:
        sys.stdout.write(buffer.getvalue())
    else:
        write_bytes(args.output, buffer.getvalue().encode("utf-8"))
    if args.plot is not None:
        from pynode import plots
        from pynode.models.pages import png

        write_bytes(args.plot, png(plots.prediction(args.t, y, model.names_, model.time_name_)))
