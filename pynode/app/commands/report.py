"""pynode report"""

import argparse
from pathlib import Path

from pynode.app.commands.arguments import check_folder

EXAMPLE = "pynode report model.npz -o report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("model", help="model file")
    parser.add_argument("-o", "--output", metavar="HTML", help="default: the model's name with .html")


def run(args: argparse.Namespace) -> None:
    """Write the report of a model."""
    from pynode.models.base import load
    from pynode.models.pages import write_page
    from pynode.models.trajectories.publishing.report import model_report

    path = args.output or str(Path(args.model).with_suffix(".html"))
    check_folder(path)
    write_page(path, model_report(load(args.model), f"Report of {Path(args.model).name}"))
    print(f"Report: {path}")
