"""pynode demo"""

import argparse

from pynode.app.commands.arguments import natural

EXAMPLE = "pynode demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("-o", "--output", metavar="DIR", default="pynode-demo", help="folder for pictures and report")
    parser.add_argument("--seed", type=natural, default=0, help="of data and networks (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> None:
    """Learn two systems."""
    from pynode.app import demo

    demo.run(args.output, args.seed, progress=not args.quiet)
