"""pynode info"""

import argparse
import importlib.util
import platform

from pynode._version import __version__
from pynode.app.commands.arguments import print_model, print_rows

EXAMPLE = "pynode info"

EXTRAS = {"matplotlib": "plot", "pandas": "table", "tqdm": "progress", "joblib": "parallel"}
"""Packages that are not required, and the extra that installs each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("model", nargs="?", help="model file")


def run(args: argparse.Namespace) -> None:
    """Say what a model file holds, or what is installed."""
    if args.model is not None:
        from pynode.models.base import load

        print_model(load(args.model))
        return
    import numpy
    import scipy

    from pynode import _core

    rows = [
        ("pynode", __version__),
        ("Python", platform.python_version()),
        ("numpy", numpy.__version__),
        ("scipy", scipy.__version__),
        ("machine", platform.machine()),
        ("instruction set", _core.isa()),
        ("threads", str(_core.num_threads())),
    ]
    for package, extra in EXTRAS.items():
        here = importlib.util.find_spec(package) is not None
        rows.append((package, "installed" if here else f"missing: pip install 'pynode-ode[{extra}]'"))
    print_rows(rows)
