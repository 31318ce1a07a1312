"""Shows the results of known.py.   python benchmarks/known_page.py RESULTS.json [PICTURE.png]"""

import json
import sys

import numpy as np

HEAD = ["", "p, n", "off", "start", "10x off", "rms z", "in 90 %", "width", "ms", "lmfit", "silent"]
KINDS = ("theophylline,", "theophylline, pooled")


def percent(x):
    return "-" if not np.isfinite(x) else f"{100 * x:.2g} %" if x >= 1e-4 else "< 0.01 %"


def merged(rows):
    """The rows, those of the twelve subjects as one."""
    subjects = [r for r in rows if r["case"].startswith(KINDS[0]) and not r["case"].startswith(KINDS[1])]
    others = [r for r in rows if r not in subjects]
    if not subjects:
        return others
    one = dict(subjects[0], case="theophylline, each", seeds=0, far_seeds=0, silent=0, warned=0, near=0, far=0, compared=0)
    one |= {f"{who}_{start}": 0 for who in ("scipy", "lmfit") for start in ("start", "far")}
    one["off"] = np.max([r["off"] for r in subjects], axis=0).tolist()
    for key in ("seeds", "far_seeds", "silent", "warned", "near", "far", "compared"):
        one[key] = sum(r[key] for r in subjects)
    for key in [k for k in one if k.endswith(("_start", "_far"))]:
        one[key] = sum(r[key] or 0 for r in subjects)
    for key in ("ms", "lmfit ms"):
        one[key] = float(np.median([r[key] for r in subjects]))
    return [*others, one]


def table(kept):
    """In Markdown."""
    lines = [HEAD, ["---"] + ["---:"] * (len(HEAD) - 1)]
    rows = merged(kept["rows"])
    for row in rows:
        real = "rms z" not in row
        peers = [f"{row['scipy_' + s]}/{row['compared']}, {row['lmfit_' + s]}/{row['compared']}" for s in ("start", "far")]
        peers = ["" if row["scipy_start"] is None else f" ({x})" for x in peers]
        lines.append(
            [
                row["case"],
                f"{row['parameters']}, {row['readings']}",
                ", ".join(map(percent, row["off"])),
                f"{row['near']}/{row['seeds']}{peers[0]}",
                f"{row['far']}/{row['far_seeds']}{peers[1]}",
                *(
                    ["", "", ""]
                    if real
                    else [f"{row['rms z']:.2f}", f"{row['inside'] / row['intervals']:.0%}", f"{row['width']:.2f}"]
                ),
                f"{row['ms']:.0f}",
                f"{row['lmfit ms']:.0f}" if np.isfinite(row["lmfit ms"]) else "",
                str(row["silent"]),
            ]
        )
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\n{summary(kept, rows)}"


def summary(kept, rows):
    told = [row for row in rows if "rms z" in row]
    words = []
    if told:
        inside, total = (sum(row[key] for row in told) for key in ("inside", "intervals"))
        width = np.exp(np.mean([np.log(row["width"]) for row in told]))
        words.append(
            f"pooled: {inside / total:.1%} of {total} intervals of 90 % hold the truth, width {width:.2f} of what is needed"
        )
    ratios = [row["lmfit ms"] / row["ms"] for row in rows if np.isfinite(row["lmfit ms"])]
    if ratios:
        words.append(f"lmfit / pynode in time: median {np.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")
    for name, n in kept.get("programs", {}).items():
        agree = "" if n["agree"] else " (they do not agree)"
        words.append(f"lines of {name}: pynode {n['pynode']}, lmfit {n['lmfit']}{agree}")
    words.append(f"{kept['seconds']:.0f} s")
    return "\n".join(words)


def picture(kept, path):
    """Calibration, coverage and times, a line for each case."""
    from matplotlib.figure import Figure

    rows = merged(kept["rows"])[::-1]
    y = np.arange(len(rows))
    figure = Figure(figsize=(10.5, 0.27 * len(rows) + 1.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=(1, 1, 1.3))
    blue, orange = "#0072B2", "#D55E00"
    for axes, low, high, value, title in (
        (left, 0.85, 1.15, lambda r: r.get("rms z", np.nan), "rms z"),
        (
            middle,
            0.85,
            0.95,
            lambda r: r["inside"] / r["intervals"] if "inside" in r else np.nan,
            "90 % intervals that hold the truth",
        ),
    ):
        axes.axvspan(low, high, color="#e8eef4")
        axes.plot([value(r) for r in rows], y, "o", color=blue)
        axes.set_title(title, loc="left", fontsize=10)
    middle.set_xlim(0.74, 1.0)
    left.set_xlim(0.7, 1.4)
    right.plot([r["ms"] for r in rows], y, "o", color=blue, label="pynode")
    right.plot([r["lmfit ms"] for r in rows], y, "s", mfc="none", color=orange, label="lmfit, LSODA at 1e-6")
    right.set_xscale("log")
    right.set_title("processor time of a fit, ms", loc="left", fontsize=10)
    figure.legend(frameon=False, fontsize=9, loc="outside lower right", ncols=2)  # beside the points it would look like some
    left.set_yticks(y, [r["case"] for r in rows])
    for axes in (left, middle, right):
        axes.grid(color="#e4e4e4", lw=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    print(table(results))
    if len(sys.argv) > 2:
        picture(results, sys.argv[2])
