"""The peers on the data of systems.py: PySINDy, and networks trained with diffrax and torchdiffeq.

    python benchmarks/systems_peers.py OUT.jsonl [--systems NAME ...] [--seeds 0] [--noises 0 1] [--peers diffrax ...]

Needs NumPy and SciPy; the peers get environments of their own (environments.py). They have the data of `systems.py`, and
scales of states and time that suit them; networks are trained by Adam for --steps, as in fit.py. A line of JSON for each
peer, system, noise and seed; what is in OUT already is not done again.
"""

import argparse
import json
import tempfile
from pathlib import Path

import environments
import harness
import numpy as np
from systems_problems import NOISES, SYSTEMS, sample


def learned(worker, data, options, scratch):
    """What a peer reaches."""
    arrays = {"t": data.t, "y": data.y, "held": data.held, "held_t": data.held_t}
    if data.u is not None:
        arrays |= {"u": data.u, "held_u": data.held_u}
    path = Path(scratch) / "data.npz"
    np.savez(path, **arrays)
    return worker.ask("systems", str(path), options.steps, within=options.within)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everyone = environments.peers("systems")
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--systems", nargs="+", metavar="NAME", default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--noises", nargs="+", type=int, default=list(range(len(NOISES))))
    parser.add_argument("--peers", nargs="+", choices=list(everyone), default=list(everyone))
    parser.add_argument("--steps", type=int, default=700, help="of Adam (%(default)s)")
    parser.add_argument("--within", type=float, default=300, help="seconds for one fit (%(default)s)")
    environments.add_options(parser)
    options = parser.parse_args()
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = {(row["peer"], row["system"], row["noise"], row["seed"]) for row in map(json.loads, lines)}
    pythons = {peer: environments.interpreter(everyone[peer], options.cache, options.pip) for peer in options.peers}
    for name in options.systems:
        for peer, python in pythons.items():
            wanted = [(k, s) for k in options.noises for s in options.seeds if (peer, name, k, s) not in done]
            with tempfile.TemporaryDirectory() as scratch:
                for noise, seed in wanted:
                    with harness.Worker(python, peer, 1, scratch) as worker:
                        try:
                            row = learned(worker, sample(SYSTEMS[name], noise, seed), options, scratch)
                        except TimeoutError as error:
                            row = {"failed": str(error)}
                    row = {"peer": peer, "system": name, "noise": noise, "seed": seed} | row
                    with options.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    held = [np.inf if x is None else x for x in row.get("held", [None])]
                    print(
                        f"{peer}: {name}, noise {noise}, seed {seed}: {np.median(held):.2g}, {row.get('cpu', 0):.1f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
