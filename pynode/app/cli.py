"""The command line: pynode demo, fit, predict, report, info. A command is a row of `pynode.app.commands.COMMANDS`."""

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from pynode._version import __version__
from pynode.app.commands import COMMANDS, UserError

EXAMPLES = """examples:
  pynode demo
  pynode fit data.csv --time year --state hare lynx --log -o model.npz
  pynode predict model.npz --y0 30 4 --t 0:20:0.1 --plot p.png
  pynode report model.npz -o report.html
  pynode info model.npz
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: the arguments of the process.

    Returns
    -------
    int
        The exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return int(args.run(args) or 0)
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


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pynode",
        description="Neural ODEs: measured trajectories in, a differential equation out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pynode {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(dest="command", metavar="command", parser_class=_CommandParser)
    for name, words in COMMANDS.items():
        commands.add_parser(name, help=words, command=name)
    return parser


class _CommandParser(argparse.ArgumentParser):
    """The parser of a command; the module of the command is imported when it is used, for it may import much."""

    def __init__(self, *, command: str, **options: Any) -> None:
        self.command: str | None = command
        super().__init__(**options)

    def _fill(self) -> None:
        if self.command is None:
            return
        name, self.command = self.command, None
        module = importlib.import_module(f"pynode.app.commands.{name}")
        words = COMMANDS[name]
        self.description = words[0].upper() + words[1:] + "."
        self.epilog = f"example:\n  {module.EXAMPLE}\n"
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(self)
        self.set_defaults(run=module.run)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._fill()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self._fill()
        super().error(message)


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: str | None = None
) -> None:
    print(f"pynode: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _complain(message: str) -> int:
    print(f"pynode: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
