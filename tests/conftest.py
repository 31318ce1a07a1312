"""Subprocesses of the tests import what is installed, not the sources in the current folder."""

import os

os.environ["PYTHONSAFEPATH"] = "1"
