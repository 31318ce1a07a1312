"""What holds for all tests.

Subprocesses import what is installed, not the sources in the current folder. Ctrl-C interrupts, also where the tests were
started in the background, by a shell that lets its jobs ignore it.
"""

import os
import signal

os.environ["PYTHONSAFEPATH"] = "1"
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
