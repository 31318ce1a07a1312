"""What the fits of systems.py reach, and of the targets.   python benchmarks/systems_summary.py OUT.jsonl ..."""

import json
import sys
from pathlib import Path

import numpy as np

LEVEL = 0.9
WITHIN = 0.15
"""The estimated variance of the noise is to be within this part of the true one, in every state."""

TYPICAL, MOST = 3.0, 10.0
"""The held-out error over the oracle's: the first in the median of fits, the second for 90 % of them."""

COVERED = (0.8, 0.97)
FLOOR = 1e-4
"""Errors below this part of the standard deviation are those of solvers."""


def load(path):
    """The rows of a file; the last of each system, noise and seed."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {(row["system"], row["noise"], row["seed"]): row for row in rows}


def noise(row):
    """The estimated variance of the noise over the true one, of the state where it is furthest from 1; infinite without."""
    ratios = np.array(row.get("noise_ratio", [np.inf]), float)
    ratios[~(ratios > 0)] = np.inf
    return float(ratios[np.argmax(np.abs(np.log(ratios)))])


def error(row, of="held"):
    """(median, worst) over held-out trajectories."""
    found = np.array(row.get(of, [np.inf]))
    return float(np.median(found)), float(found.max())


def times_oracle(row):
    """The error of the median held-out trajectory over that of the oracle."""
    return max(error(row)[0], FLOOR) / max(error(row, "oracle")[0], FLOOR)


def misses(row):
    """What a fit misses, of noise, error, coverage."""
    found = []
    if not abs(noise(row) - 1) <= WITHIN:
        found.append("noise")
    if not times_oracle(row) <= MOST:
        found.append("error")
    if "coverages" in row and not _inside(row.get("coverage", 0.0)):
        found.append("coverage")
    return found


def silent(row):
    """Misses the noise or the error, and tells nothing."""
    return bool({"noise", "error"} & set(misses(row))) and not row["warnings"] and "failed" not in row


def shares(rows):
    """What of the targets these rows reach."""
    ratios = np.array([times_oracle(row) for row in rows])
    banded = [row for row in rows if "coverages" in row]
    found = {
        "fits": len(rows),
        "noise": float(np.mean(["noise" not in misses(row) for row in rows])),
        "error": float(np.median(ratios)),
        "error90": float(np.quantile(ratios, 0.9, method="inverted_cdf")),
        "silent": sum(map(silent, rows)),
        "warned": sum(bool(row["warnings"]) or "failed" in row for row in rows),
        "false": sum(bool(row["warnings"]) and not {"noise", "error"} & set(misses(row)) for row in rows),
        "cpu": float(np.median([row["cpu"] for row in rows])),
        "slowest": max(row["cpu"] for row in rows),
    }
    if banded:
        found["coverage"] = _within([row.get("coverage", 0.0) for row in banded])
        found["covered"] = float(np.mean([row.get("coverage", 0.0) for row in banded]))
        found["readings"] = _within([row.get("reading_coverage", 0.0) for row in banded])
        networks = [row.get("coverage", 0.0) for row in banded if not row["equation"]]
        found["networks"] = _within(networks) if networks else None
    return found


def _inside(covered):
    return COVERED[0] <= covered <= COVERED[1]


def _within(several):
    """The part of these that lies in COVERED."""
    return float(np.mean([_inside(x) for x in several]))


def grouped(rows, key):
    """{value of the key: rows}, in order of appearance."""
    found = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def tell(rows):
    """Print a line for each fit, the shares by kind, and the targets."""
    names = ("", "noise", "seed", "s", "noise^2", "error", "worst", "x oracle", "cover", "readings")
    print(f"{names[0]:24}" + "".join(f"{name:>9}" for name in names[1:]) + "  misses | warnings")
    for row in rows:
        median, worst = error(row)
        cells = [str(row["noise"]), str(row["seed"]), f"{row['cpu']:.1f}", f"{noise(row):.3g}", f"{median:.2g}"]
        cells += [f"{worst:.2g}", f"{times_oracle(row):.3g}", percent(row.get("coverage"))]
        cells += [percent(row.get("reading_coverage"))]
        told = " ".join([*misses(row), *(["SILENT"] if silent(row) else [])])
        words = row.get("failed") or "; ".join(row["warnings"])
        print(f"{row['system'][:24]:24}" + "".join(f"{cell:>9}" for cell in cells) + f"  {told} | {words[:110]}")
    print()
    header = ("", "fits", "noise", "x oracle", "90 %", "coverage", "readings", "silent", "warned", "in vain", "s", "slowest")
    print(f"{header[0]:14}" + "".join(f"{name:>10}" for name in header[1:]))
    for kind, own in [*grouped(rows, "kind").items(), ("all", rows)]:
        found = shares(own)
        cells = [str(found["fits"]), percent(found["noise"]), f"{found['error']:.2g}", f"{found['error90']:.3g}"]
        cells += [percent(found.get("coverage")), percent(found.get("readings"))]
        cells += [str(found[name]) for name in ("silent", "warned", "false")]
        cells += [f"{found['cpu']:.1f}", f"{found['slowest']:.1f}"]
        print(f"{kind:14}" + "".join(f"{cell:>10}" for cell in cells))


def percent(share):
    """A share in a cell."""
    if share is None:
        return "-"
    return f"{100 * share:.1f} %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def main(paths):
    rows = {}
    for path in paths:
        rows |= load(path)
    tell(list(rows.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
