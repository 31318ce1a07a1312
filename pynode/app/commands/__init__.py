"""The commands of the command line, a module each.

A new command is a row of COMMANDS and a module of its name here, which has

    EXAMPLE                  a line that shows how it is called
    add_arguments(parser)    gives an `argparse.ArgumentParser` its arguments
    run(args)                does the work; returns the exit code, or None for 0

An error that the user can mend is a UserError, ValueError, RuntimeError or OSError: it is shown as one line.
"""

COMMANDS = {
    "demo": "learn two systems, print a table, write pictures and a report",
    "fit": "learn a differential equation from a CSV file of trajectories",
    "predict": "trajectories of a learned equation",
    "report": "write a report of a model, as one HTML file",
    "info": "say what a model file holds; without a file, what this installation has",
}
"""Each command and what it does."""


class UserError(Exception):
    """Something the user can mend; shown as one line."""
