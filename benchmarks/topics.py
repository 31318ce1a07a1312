"""What the topic files share: a claim is a number with its bound. They run in the library's environment, each by itself too:

    python benchmarks/TOPIC.py [--quick]        TOPIC: overhead, straggler, scaling, sharing

prints a line of JSON for each claim; run.py puts them into its table.
"""

import json
import sys
import time

TOPICS = ("overhead", "straggler", "scaling", "sharing")


def claim(what, value, unit="", most=None, least=None):
    """A measured number, and the bound it has to keep (none: only told)."""
    bound = {"most": most} if most is not None else {"least": least} if least is not None else {}
    met = (most is None or value <= most) and (least is None or value >= least)
    return {"what": what, "value": float(value), "unit": unit, **bound, "met": bool(met)}


def best(calls, seconds=1.0, batch=1, clock=time.thread_time):
    """Fastest time of each of the calls, in turns (they see the same machine), each run `batch` times at once.

    Time that the thread was running, without what others did meanwhile; `time.perf_counter` where several threads work.
    """
    for call in calls:
        call()
    fastest, until = [float("inf")] * len(calls), time.perf_counter() + seconds * len(calls)
    while True:
        for i, call in enumerate(calls):
            begin = clock()
            for _ in range(batch):
                call()
            fastest[i] = min(fastest[i], (clock() - begin) / batch)
        if time.perf_counter() > until:
            return fastest


def tell(claims):
    """The main of a topic: claims(quick) yields claims."""
    for one in claims("--quick" in sys.argv):
        print(json.dumps(one), flush=True)
