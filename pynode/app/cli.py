"""The command line: pynode demo, fit, predict, report, info."""

import argparse
import csv
import io
import os
import sys
import warnings
from pathlib import Path

from pynode._version import __version__

EXAMPLES = """examples:
  pynode demo
  pynode fit data.csv --time year --state hare lynx --log -o model.npz
  pynode predict model.npz --y0 30 4 --t 0:20:0.1 --plot p.png
  pynode report model.npz -o report.html
  pynode info model.npz
"""


class UserError(Exception):
    """Something the user can mend; shown as one line."""


def main(argv=None):
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return args.run(args) or 0
    except KeyboardInterrupt:
        print("pynode: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _complain(f"{name}{error.strerror or error}")
    except (UserError, ValueError, RuntimeError, ImportError) as error:
        if args.traceback:
            raise
        return _complain(str(error))


def _warn(message, category, filename, lineno, file=None, line=None):
    print(f"pynode: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _complain(message):
    print(f"pynode: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


# ------------------------------------------------------------------------------------------------------------


def make_parser():
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pynode",
        description="Neural ODEs: measured trajectories in, a differential equation out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pynode {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", metavar="command")

    def command(name, run, words, example):
        sub = commands.add_parser(
            name,
            help=words,
            description=words[0].upper() + words[1:] + ".",
            epilog=f"example:\n  {example}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    _demo_arguments(command("demo", demo, "learn two systems, print a table, write pictures and a report", "pynode demo"))
    _fit_arguments(
        command(
            "fit",
            fit,
            "learn a differential equation from a CSV file of trajectories",
            "pynode fit data.csv --time t --state x v --id run -o model.npz",
        )
    )
    _predict_arguments(
        command(
            "predict",
            predict,
            "trajectories of a learned equation",
            "pynode predict model.npz --y0 30 4 --t 0:20:0.1 -o out.csv --plot p.png",
        )
    )
    sub = command(
        "report",
        report,
        "write a report of a model, as one HTML file",
        "pynode report model.npz -o report.html",
    )
    sub.add_argument("model", help="model file")
    sub.add_argument("-o", "--output", metavar="HTML", help="default: the model's name with .html")
    sub = command("info", info, "say what a model file holds; without a file, what this installation has", "pynode info")
    sub.add_argument("model", nargs="?", help="model file")
    return parser


def _demo_arguments(sub):
    sub.add_argument("-o", "--output", metavar="DIR", default="pynode-demo", help="folder for pictures and report")
    sub.add_argument("--seed", type=_natural, default=0, help="of data and networks (default 0)")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def _fit_arguments(sub):
    sub.add_argument("data", help="CSV file in long form: a row a time; empty entries were not observed")
    sub.add_argument("--time", required=True, metavar="COLUMN", help="column of times")
    sub.add_argument("--state", required=True, nargs="+", metavar="COLUMN", help="columns of states")
    sub.add_argument("--id", metavar="COLUMN", help="column that tells trajectories apart")
    sub.add_argument("--input", nargs="+", metavar="COLUMN", help="columns of control inputs, known in every row")
    sub.add_argument("--augment", type=_natural, default=0, metavar="N", help="states to add that nobody measured")
    sub.add_argument("--log", action="store_true", help="learn logarithms: positive states such as populations")
    sub.add_argument(
        "--hidden",
        type=_natural,
        nargs="+",
        default=[32],
        metavar="N",
        help="widths of the hidden layers (default 32)",
    )
    sub.add_argument("--activation", default="tanh", help="of the network (default tanh)")
    sub.add_argument("--method", default="dopri5", help="Runge-Kutta method (default dopri5)")
    sub.add_argument("--optimizer", default="auto", help="levenberg-marquardt, adam+lbfgs, lbfgs, adam (default auto)")
    sub.add_argument("--noise", default="gaussian", help="gaussian, huber or student: the last two bear outliers")
    sub.add_argument("--max-iter", type=_natural, metavar="N", help="iterations of a stage (default: by the optimizer)")
    sub.add_argument("--weight-decay", type=float, metavar="X", help="default: estimated from the data")
    sub.add_argument("--ensemble", type=_natural, default=1, metavar="N", help="models to fit and average (default 1)")
    sub.add_argument("--jobs", type=int, metavar="N", help="members of the ensemble fitted at once (default 1)")
    sub.add_argument("--checkpoint", metavar="FILE", help="written now and then; if it is there, the fit goes on from it")
    sub.add_argument("--seed", type=_natural, default=0, help="of the network's start (default 0)")
    sub.add_argument("--quiet", action="store_true", help="no progress")
    sub.add_argument("-o", "--output", metavar="NPZ", default="model.npz", help="model file (default model.npz)")


def _predict_arguments(sub):
    sub.add_argument("model", help="model file")
    sub.add_argument(
        "--t",
        required=True,
        type=_times,
        metavar="START:STOP:STEP",
        help="times, both ends included; or a list: 0,1,2.5",
    )
    sub.add_argument(
        "--y0",
        type=float,
        nargs="+",
        metavar="X",
        help="state at the first time; default: continue the fitted trajectory",
    )
    sub.add_argument("--trajectory", type=_natural, default=0, metavar="N", help="which one to continue, from 0")
    sub.add_argument("--std", action="store_true", help="standard deviations too, in columns NAME_std")
    sub.add_argument("-o", "--output", metavar="CSV", help="default: standard output")
    sub.add_argument("--plot", metavar="PNG", help="write a picture too")


def _natural(text):
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return value


def _times(text):
    """START:STOP:STEP (both ends included) or a list separated by commas, as an array."""
    import numpy as np

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


# ------------------------------------------------------------------------------------------------------------


def demo(args):
    """pynode demo"""
    from pynode.app import demo

    demo.run(args.output, args.seed, progress=not args.quiet)


def fit(args):
    """pynode fit"""
    from pynode.app.report import model_summary
    from pynode.data.csv import read_csv
    from pynode.models.trajectories.neural_ode import NeuralODE

    _check_folder(args.output)
    data = read_csv(args.data, args.time, args.state, args.id, input=args.input)
    model = NeuralODE(
        hidden=tuple(args.hidden),
        activation=args.activation,
        method=args.method,
        max_iter=args.max_iter,
        weight_decay=args.weight_decay,
        optimizer=args.optimizer,
        noise=args.noise,
        augment=args.augment,
        n_estimators=args.ensemble,
        n_jobs=args.jobs,
        log=args.log,
        random_state=args.seed,
    )
    try:
        model.fit(data, progress=not args.quiet, checkpoint=args.checkpoint)
    except KeyboardInterrupt:
        if not hasattr(model, "theta_"):
            raise
        model.save(args.output)
        print(f"pynode: interrupted; the best so far is in {args.output}", file=sys.stderr)
        return 130
    model.save(args.output)
    _print_rows(model_summary(model))
    print(f"Model: {args.output}")
    return 0


def predict(args):
    """pynode predict"""
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
            _check_folder(path)
    y = model.predict(args.t, args.y0, trajectory=args.trajectory, return_std=args.std)
    y, table = (y[0], list(zip(args.t, *y, strict=True))) if args.std else (y, list(zip(args.t, y, strict=True)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([model.time_name_, *model.names_, *(f"{name}_std" for name in model.names_ if args.std)])
    writer.writerows([f"{t:.10g}", *(repr(float(x)) for part in row for x in part)] for t, *row in table)
    if args.output is None:
        sys.stdout.write(buffer.getvalue())
    else:
        _write(args.output, buffer.getvalue().encode("utf-8"))
    if args.plot is not None:
        from pynode import plots
        from pynode.app.report import png

        _write(args.plot, png(plots.prediction(args.t, y, model.names_, model.time_name_)))
    return 0


def report(args):
    """pynode report"""
    from pynode.app import report
    from pynode.models.base import load

    path = args.output or str(Path(args.model).with_suffix(".html"))
    _check_folder(path)
    report.save(path, report.model_page(load(args.model), f"Report of {Path(args.model).name}"))
    print(f"Report: {path}")


def info(args):
    """pynode info"""
    if args.model is not None:
        from pynode.app.report import model_summary
        from pynode.models.base import load

        _print_rows(model_summary(load(args.model)))
        return
    import importlib.util
    import platform

    import numpy
    import scipy

    from pynode import _core

    extras = {"matplotlib": "plot", "pandas": "table", "tqdm": "progress", "joblib": "parallel"}
    rows = [
        ("pynode", __version__),
        ("Python", platform.python_version()),
        ("numpy", numpy.__version__),
        ("scipy", scipy.__version__),
        ("machine", platform.machine()),
        ("instruction set", _core.isa()),
        ("threads", str(_core.num_threads())),
    ]
    for package, extra in extras.items():
        here = importlib.util.find_spec(package) is not None
        rows.append((package, "installed" if here else f"missing: pip install 'pynode-ode[{extra}]'"))
    _print_rows(rows)


def _print_rows(rows):
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name.ljust(width)}  {value}")


def _check_folder(path):
    """Before long work: can a file be written there?"""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder {path.absolute().parent}: make it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(f"no permission to write to {path.absolute().parent}")


def _write(path, data):
    from pynode.data.files import write_bytes

    write_bytes(path, data)
