"""What holds for all tests.

Subprocesses import what is installed, not the sources in the current folder. Ctrl-C interrupts, also where the tests were
started in the background, by a shell that lets its jobs ignore it. A fit without random_state draws its seed by the name of
the test: what passes once passes always.
"""

import os
import random
import signal

import pytest

os.environ["PYTHONSAFEPATH"] = "1"
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeds_of_fits(request, monkeypatch):
    monkeypatch.setattr("secrets.randbits", random.Random(request.node.nodeid).getrandbits)
