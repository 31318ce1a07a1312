"""pynode fit"""

import argparse
import sys

from pynode.app.commands.arguments import add_options, check_folder, given_options, print_rows
from pynode.models.trajectories.neural_ode import NeuralODE

EXAMPLE = "pynode fit data.csv --time t --state x v --id run -o model.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command: the data, the flags of NeuralODE's options, and what becomes of the model."""
    parser.add_argument("data", help="CSV file in long form: a row a time; empty entries were not observed")
    parser.add_argument("--time", required=True, metavar="COLUMN", help="column of times")
    parser.add_argument("--state", required=True, nargs="+", metavar="COLUMN", help="columns of states")
    parser.add_argument("--id", metavar="COLUMN", help="column that tells trajectories apart")
    parser.add_argument("--input", nargs="+", metavar="COLUMN", help="columns of control inputs, known in every row")
    add_options(parser, NeuralODE)
    parser.add_argument("--checkpoint", metavar="FILE", help="written now and then; if it is there, the fit goes on from it")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("-o", "--output", metavar="NPZ", default="model.npz", help="model file (default model.npz)")


def run(args: argparse.Namespace) -> int:
    """Fit a NeuralODE and write it to a file."""
    from pynode.data.csv import read_csv
    from pynode.models.trajectories.report import model_summary

    check_folder(args.output)
    data = read_csv(args.data, args.time, args.state, args.id, input=args.input)
    model = NeuralODE(**given_options(args, NeuralODE))
    try:
        model.fit(data, progress=not args.quiet, checkpoint=args.checkpoint)
    except KeyboardInterrupt:
        if not hasattr(model, "theta_"):
            raise
        model.save(args.output)
        print(f"pynode: interrupted; the best so far is in {args.output}", file=sys.stderr)
        return 130
    model.save(args.output)
    print_rows(model_summary(model))
    print(f"Model: {args.output}")
    return 0
