"""Shows the results of systems.py, as docs/systems.md has them.

python benchmarks/systems_page.py FITS.jsonl [--peers PEERS.jsonl] [--picture FILE.png]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from systems_problems import NOISES, SYSTEMS
from systems_summary import (
    COVERED,
    MOST,
    TYPICAL,
    WITHIN,
    error,
    grouped,
    misses,
    noise,
    percent,
    shares,
    silent,
    times_oracle,
)

ROOM = (1e-4, 3.0)
"""The errors that the picture shows; what is larger lies on its edge."""

ORACLE = "true form, SciPy"


def rows_of(path):
    """{(peer or pynode, system, noise, seed): row}, the last of each."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {(row.get("peer", "pynode"), row["system"], row["noise"], row["seed"]): row for row in rows}


def median_error(rows):
    """The error of the median held-out trajectory, in the median over fits."""
    held = [[np.inf if x is None else x for x in row.get("held", [np.inf])] for row in rows]
    return float(np.median([np.median(x) for x in held])) if held else None


def short(x):
    """An error in a cell."""
    if x is None:
        return "-"
    return f"{x:.2g}" if x < 10 else "lost"


def lines_of(cells):
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def targets(rows):
    """What was asked for, and what is reached, in Markdown."""
    found = shares(rows)
    cells = [["", "asked for", "reached"], ["---", "---:", "---:"]]
    cells.append([f"variance of the noise within {percent(WITHIN)}", "90 % of fits", percent(found["noise"])])
    cells.append(["error over that of the true form, in the median", f"{TYPICAL:g}", f"{found['error']:.2g}"])
    cells.append(["the same, 90 % of fits at most", f"{MOST:g}", f"{found['error90']:.3g}"])
    bounds = f"from {percent(COVERED[0])} to {percent(COVERED[1])}"
    cells.append([f"coverage of new readings by 90 % bands {bounds}", "90 % of fits", percent(found.get("readings"))])
    cells.append([f"coverage of true trajectories by 90 % bands {bounds}", "90 % of fits", percent(found.get("coverage"))])
    cells.append(["the same, networks", "", percent(found.get("networks"))])
    cells.append(
        ["fits that miss the noise or ten times the error and do not warn", "0", f"{found['silent']} of {found['fits']}"]
    )
    cells.append(["fits that warn, and miss neither", "", str(found["false"])])
    return lines_of(cells)


def table(rows, peers):
    """A line for each system, in Markdown: medians over the seeds; noise the furthest from 1."""
    names = list(dict.fromkeys(key[0] for key in peers))
    heads = ["noise^2 / true", "error", "x true form", "coverage", "s"]
    first = [f"{100 * size:.0f} %: {head}" if i == 0 else head for size in NOISES for i, head in enumerate(heads)]
    cells = [["", "d", *first, *names], ["---", "---:", *["---:"] * (len(first) + len(names))]]
    for name, own in grouped(rows, "system").items():
        line = [name, str(SYSTEMS[name].d)]
        for k in range(len(NOISES)):
            line += _cells([row for row in own if row["noise"] == k])
        last = len(NOISES) - 1
        for peer in names:
            of = [row for key, row in peers.items() if key[:3] == (peer, name, last)]
            line.append("failed" if any("failed" in row for row in of) else short(median_error(of)))
        cells.append(line)
    return lines_of(cells)


def _cells(rows):
    if not rows:
        return ["-"] * 5
    ratios = [noise(row) for row in rows]
    worst = ratios[int(np.argmax(np.abs(np.log(np.maximum(ratios, 1e-300)))))]
    covered = [row["coverage"] for row in rows if "coverage" in row]
    told = sum(map(silent, rows)), sum(bool(row["warnings"]) for row in rows)
    mark = " (!)" if told[0] else " (w)" if told[1] else ""
    return [
        f"{worst:.2f}{mark}",
        short(float(np.median([error(row)[0] for row in rows]))),
        f"{np.median([times_oracle(row) for row in rows]):.2g}",
        percent(float(np.mean(covered))) if covered else "-",
        f"{np.median([row['cpu'] for row in rows]):.1f}",
    ]


# ---- The picture


def picture(rows, peers, path):
    """Errors of each system, at the noises beside each other; then the noise and the coverage."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from pictures import STYLE

    systems = list(grouped(rows, "system"))
    with rc_context(STYLE):
        figure = Figure(figsize=(13, 0.21 * len(systems) + 1.6), layout="constrained")
        panels = figure.subplots(1, len(NOISES) + 2, sharey=True, width_ratios=[*[3] * len(NOISES), 1.2, 1.6])
        for k, size in enumerate(NOISES):
            _errors(panels[k], rows, peers, systems, k)
            panels[k].set(title=f"noise {100 * size:.0f} %", xlabel="held-out error, in standard deviations of the states")
        _noises(panels[-2], rows, systems)
        _coverages(panels[-1], rows, systems)
        panels[0].set_yticks(range(len(systems)), systems, fontsize=8.5)
        panels[0].set_ylim(len(systems) - 0.4, -0.6)
        handles, labels = panels[len(NOISES) - 1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=10)
        figure.savefig(path, dpi=100)


def _errors(panel, rows, peers, systems, k):
    from pictures import looks

    names = ["pynode", *dict.fromkeys(key[0] for key in peers)]
    found = looks(names)
    own = [row for row in rows if row["noise"] == k]
    for peer in reversed(names):
        colour, marker = found[peer]
        of = [(row["system"], error(row)[0]) for row in own]
        if peer != "pynode":
            of = [(key[1], median_error([row])) for key, row in peers.items() if key[0] == peer and key[2] == k]
        x = np.clip([value for _, value in of], *ROOM)
        y = [systems.index(name) for name, _ in of if name in systems]
        x = [value for value, (name, _) in zip(x, of, strict=True) if name in systems]
        size = 6 if peer == "pynode" else 4.5
        panel.plot(
            x, y, marker, color=colour, ms=size, mec="white", mew=0.5, label=peer, zorder=4 if peer == "pynode" else 3
        )
    best = [(systems.index(row["system"]), error(row, "oracle")[0]) for row in own]
    panel.plot([max(x, ROOM[0]) for _, x in best], [y for y, _ in best], "|", color="#333333", ms=9, mew=2, label=ORACLE)
    panel.set(xscale="log", xlim=(0.7 * ROOM[0], 1.4 * ROOM[1]))


def _noises(panel, rows, systems):
    panel.axvspan(1 - WITHIN, 1 + WITHIN, color="#0072B2", alpha=0.12, lw=0)
    for k, fill in enumerate(("white", "#0072B2")):
        own = [row for row in rows if row["noise"] == k]
        x = np.clip([noise(row) for row in own], 0.5, 3)
        y = [systems.index(row["system"]) for row in own]
        panel.plot(x, y, "o", color="#0072B2", mfc=fill, ms=4.5, mew=1)
    panel.set(xscale="log", title="noise$^2$ / true", xlim=(0.46, 3.3))
    panel.set_xticks([0.5, 1, 2, 3], ["0.5", "1", "2", "3"])
    panel.minorticks_off()


def _coverages(panel, rows, systems):
    panel.axvspan(*COVERED, color="#0072B2", alpha=0.12, lw=0)
    for k, fill in enumerate(("white", "#0072B2")):
        own = [row for row in rows if row["noise"] == k and "coverage" in row]
        y = [systems.index(row["system"]) for row in own]
        panel.plot([row["coverage"] for row in own], y, "o", color="#0072B2", mfc=fill, ms=4.5, mew=1)
    panel.set(title="in 90 % bands", xlim=(-0.03, 1.03))
    panel.set_xticks([0.0, 0.4, 0.8, 0.97], ["0", "40 %", "80 %  ", "  97 %"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fits", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    found = list(rows_of(options.fits).values())
    order = {name: k for k, name in enumerate(SYSTEMS)}
    rows = sorted(found, key=lambda row: (order[row["system"]], row["noise"], row["seed"]))
    peers = rows_of(options.peers) if options.peers else {}
    missed = [
        f"{row['system']} ({percent(NOISES[row['noise']])}, seed {row['seed']}: {', '.join(misses(row))})"
        for row in rows
        if silent(row)
    ]
    made = {"targets": targets(rows), "table": table(rows, peers)}
    print(*made.values(), "Silent: " + ("; ".join(missed) or "none"), sep="\n\n")
    if options.page:
        text = options.page.read_text()
        for name, part in made.items():
            before, _, rest = text.partition(f"<!-- {name} -->")
            text = f"{before}<!-- {name} -->\n{part}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
        options.page.write_text(text)
        picture(rows, peers, options.page.parent / "img" / "systems.png")


if __name__ == "__main__":
    main()
