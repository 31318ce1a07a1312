"""pynode fit"""

import argparse
import sys
import warnings
from typing import Any

from pynode.app.commands.arguments import (
    add_options,
    add_reading,
    by_flags,
    check_folder,
    check_given,
    given_options,
    print_model,
    reading_options,
    told_by_flags,
)
from pynode.data.tables import TableWarning
from pynode.models.trajectories.neural_ode import NeuralODE
from pynode.training.curriculum import FitWarning

EXAMPLE = "pynode fit data.csv --time t --state x v --id run -o model.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command: the data, the flags of NeuralODE's options, and what becomes of the model."""
    parser.add_argument("data", help="CSV file (or with pandas a workbook, or Parquet): a row a time; empty: not observed")
    parser.add_argument("--time", required=True, metavar="COLUMN", help="column of times: numbers or dates")
    parser.add_argument("--state", required=True, nargs="+", metavar="COLUMN", help="columns of states")
    parser.add_argument("--id", metavar="COLUMN", help="column that tells trajectories apart")
    parser.add_argument("--input", nargs="+", metavar="COLUMN", help="columns of control inputs, known in every row")
    add_reading(parser)
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--average", action="store_true", help="several readings at one time: take their mean")
    several.add_argument("--replicates", action="store_true", help="several readings at one time: keep them all")
    parser.add_argument("--censored", action="store_true", help="keep readings beyond a limit, such as <0.1, as such")
    parser.add_argument(
        "--wide",
        nargs="*",
        metavar="COLUMN",
        help="each column but the times (or each of these) is a trajectory of the one state",
    )
    add_options(parser, NeuralODE)
    parser.add_argument("--checkpoint", metavar="FILE", help="written now and then; if it is there, the fit goes on from it")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where there are warnings; the model is written")
    parser.add_argument("-o", "--output", metavar="NPZ", default="model.npz", help="model file (default model.npz)")


def run(args: argparse.Namespace) -> int:
    """Fit a NeuralODE and write it to a file."""
    from pynode.data.csv import read_csv

    check_folder(args.output)
    model = NeuralODE(**given_options(args, NeuralODE))
    check_given(model)
    more: dict[str, Any] = reading_options(args) | {"censored": args.censored}
    more["replicates"] = "average" if args.average else "keep" if args.replicates else "refuse"
    more["wide"] = False if args.wide is None else args.wide or True
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TableWarning)
        with told_by_flags(NeuralODE):
            data = read_csv(args.data, args.time, args.state, args.id, input=args.input, **more)
    told += [by_flags(str(warning.message), NeuralODE) for warning in caught]
    _tell(told)
    try:
        with warnings.catch_warnings(), told_by_flags(NeuralODE):
            warnings.simplefilter("ignore", FitWarning)  # all of them are in the report, and said below
            model.fit(data, progress=not args.quiet, checkpoint=args.checkpoint)
    except KeyboardInterrupt:
        if not hasattr(model, "theta_"):
            raise
        model.save(args.output)
        print(f"pynode: interrupted; the best so far is in {args.output}", file=sys.stderr)
        return 130
    model.save(args.output)
    print_model(model)
    print(f"Model: {args.output}")
    of_fit = [by_flags(words, NeuralODE) for words in model.report_["warnings"]]
    told += of_fit
    _tell(of_fit)
    if args.strict and told:
        print(f"pynode: error: {len(told)} warning{'s' * (len(told) > 1)} with --strict", file=sys.stderr)
        return 1
    return 0


def _tell(warned: list[str]) -> None:
    """Print warnings."""
    for words in warned:
        print(f"pynode: warning: {' '.join(words.split())}", file=sys.stderr)
