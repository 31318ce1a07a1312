"""Draws the results of fit.py and run.py.   python benchmarks/pictures.py RESULTS.json PICTURE.png"""

import json
import sys
import textwrap

import matplotlib
from cases import NOISE
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

# Okabe and Ito: safe for the colour-blind; a marker each as well
LOOKS = {
    "pynode": ("#0072B2", "o"),
    "torchdiffeq": ("#D55E00", "s"),
    "diffrax": ("#009E73", "D"),
    "casadi": ("#CC79A7", "^"),
    "C program": ("#333333", "|"),
}
OTHERS = (("#E69F00", "v"), ("#56B4E9", "P"), ("#F0E442", "X"))
QUIET = "#6b6b6b"
FILLS = ((QUIET, "trained, from the start of the process"), ("white", "the same again, warm"))

STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def looks(names):
    """{name: (colour, marker)}; peers that came later take what is left."""
    spare = iter(OTHERS)
    return {name: LOOKS.get(name) or next(spare, (QUIET, "*")) for name in names}


def mark(look):
    """Options of plot; a bar is no filled shape."""
    colour, marker = look
    return {"color": colour, "marker": marker} | ({"ms": 13, "mew": 2} if marker == "|" else {"ms": 8, "mec": "white"})


def in_words(seconds):
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.999 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def footnote(figure, about):
    shown = {name: version for name, version in about["versions"].items() if name not in ("numpy", "optax")}
    versions = ", ".join(f"{name} {version}" for name, version in shown.items())
    threads = f"{about['threads']} thread{'s' if about['threads'] > 1 else ''}"
    words = textwrap.fill(f"{about['cpu']}, {threads}; {versions}", int(13 * figure.get_figwidth()))
    figure.supxlabel(words, fontsize=8, color=QUIET, x=0.01, ha="left")


def fit(results):
    """Held-out error against wall time: a line a seed for what learns step by step."""
    rows = results["rows"]
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    look = looks(dict.fromkeys(row["library"] for row in rows))
    titles = {"median": "median of 8 held-out trajectories", "mean": "mean over the 8: some start outside the data"}
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        for row in rows:
            colour, marker = look[row["library"]]
            seconds = [point["seconds"] for point in row["curve"]]
            errors = [point[key] for point in row["curve"]]
            if len(errors) == 1:  # all at once: a line from warm to cold
                seconds, errors = [row["warm"], row["cold"]], errors * 2
            panel.plot(seconds, errors, color=colour, lw=1, alpha=0.5)
            panel.plot(row["warm"], row[key], marker, color=colour, ms=6, mfc="white", zorder=3)
            panel.plot(row["cold"], row[key], **mark((colour, marker)), zorder=3)
        panel.set(xscale="log", yscale="log", title=title, xlabel="wall time")
        panel.axhline(NOISE**2, color=QUIET, lw=1, ls="--", zorder=1)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: in_words(x)))
    left = panels[0].get_xlim()[0]
    panels[0].text(left * 1.1, NOISE**2 * 1.12, "variance of the noise", fontsize=8.5, color=QUIET)
    panels[0].set_ylabel("mean squared error, truth without noise")
    handles = [Line2D([], [], lw=1, label=name, **mark(own)) for name, own in look.items()]
    handles += [Line2D([], [], color=QUIET, marker="o", ms=7, lw=0, mfc=fill, label=label) for fill, label in FILLS]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    footnote(figure, results["about"])
    return figure


def run(results):
    """Loss and gradient: a bar for each library, one block a case."""
    rows = [row for row in results["rows"] if row["library"] != "pynode, 2 threads" and row["gradient"]]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    look = looks(dict.fromkeys(row["library"] for row in rows))
    figure = Figure(figsize=(6, 1.4 + 0.26 * (len(rows) + len(cases))), layout="constrained")
    panel, y, middle = figure.subplots(), 0.0, []
    for case in cases:
        times = {row["library"]: row["gradient"] for row in rows if row["case"] == case}
        middle.append(y + (len(times) - 1) / 2)
        for name, seconds in times.items():
            times_ours = seconds / times["pynode"]
            ratio = "" if name == "pynode" else f"   {times_ours:.0f} x" if times_ours >= 10 else f"   {times_ours:.1f} x"
            panel.barh(y, seconds, 0.86, color=look[name][0])
            panel.text(seconds * 1.12, y, in_words(seconds) + ratio, va="center", fontsize=9.5)
            y += 1
        y += 0.8
    panel.set(xscale="log", title="loss and exact gradient, warm (logarithmic)")
    panel.set_yticks(middle, cases, fontsize=12)
    panel.set_ylim(y - 1.2, -0.8)
    times = [row["gradient"] for row in rows]
    panel.set_xlim(min(times) / 3, max(times) * 40)
    panel.tick_params(left=False)
    panel.grid(axis="y", visible=False)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: in_words(x)))
    handles = [Patch(color=colour, label=name) for name, (colour, _) in look.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=11)
    footnote(figure, results["about"])
    return figure


def main(source, target):
    with open(source, encoding="utf-8") as file:
        results = json.load(file)
    with matplotlib.rc_context(STYLE):
        figure = {"fit": fit, "run": run}[results["benchmark"]](results)
        figure.savefig(target, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
