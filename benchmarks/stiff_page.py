"""Shows the results of stiff.py.   python benchmarks/stiff_page.py RESULTS.json [PICTURE.png]"""

import json
import sys
from math import inf

from topics import claim

RTOL = 1e-6
LIBRARY = "pynode"
PROGRAM = "C program"
LLVM = "pydiffsol"
WHATS = {RTOL: "forward, 1 sample", "forward": "forward, 256 samples", "gradient": "loss and gradient, 256 samples"}
ORDER = ("pynode", "pydiffsol", "casadi", "diffrax", "scipy", "C program")
NAMES = {"casadi": "CasADi", "scipy": "SciPy"}
CALL = 30e-6
"""Seconds that a call from Python may cost beside the program in C."""

# colour, dashes, width; Okabe and Ito
LOOKS = {
    ("pynode", "auto"): ("#000000", "-", 2.4),
    ("pynode", "rodas5p"): ("#0072B2", "-", 2.4),
    ("pynode", "rodas4"): ("#0072B2", "--", 1.4),
    ("pynode", "rosenbrock23"): ("#0072B2", ":", 1.4),
    ("pydiffsol", "BDF"): ("#E69F00", "-", 1.4),
    ("casadi", "cvodes"): ("#CC79A7", "-", 1.4),
    ("diffrax", "Kvaerno5"): ("#009E73", "-", 1.4),
    ("scipy", "LSODA"): ("#D55E00", "-", 1.4),
    ("scipy", "BDF"): ("#D55E00", "--", 1.2),
    ("scipy", "Radau"): ("#D55E00", ":", 1.4),
}
QUIET = ("#6b6b6b", "-.", 1.2)


def who(row):
    return f"{NAMES.get(row['library'], row['library'])} {row['solver']}"


def indexed(kept):
    """{(problem, library, solver, what): row} of what was measured."""
    return {(r["problem"], r["library"], r["solver"], r["what"]): r for r in kept["rows"] if "seconds" in r}


def problems(kept):
    return list(dict.fromkeys(row["problem"] for row in kept["rows"]))


def solvers(kept):
    """[(library, solver), ...] in the order of the table."""
    found = dict.fromkeys(key[1:3] for key in indexed(kept))
    return sorted(found, key=lambda pair: ORDER.index(pair[0]) if pair[0] in ORDER else len(ORDER))


def in_ms(seconds):
    ms = 1e3 * seconds
    return f"{ms:.0f}" if ms >= 9.5 else f"{ms:.2g}"


def cell(row):
    if row is None:
        return "-"
    share = f", {row['share']:.0%}" if row.get("share", 1.0) < 1 else ""
    wrong = f"{row['error']:.0e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{in_ms(row['seconds'])} ({wrong}{share})"


def table(kept):
    """In Markdown: ms (relative error)."""
    rows, names = indexed(kept), problems(kept)
    lines = [["", *names], ["---", *["---:"] * len(names)]]
    for what, title in WHATS.items():
        lines.append([f"**{title}**", *[""] * len(names)])
        for library, solver in solvers(kept):
            found = [rows.get((name, library, solver, what)) for name in names]
            if any(found):
                lines.append([who({"library": library, "solver": solver}), *map(cell, found)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def steps(kept):
    """Steps of one sample at 1e-6, accepted and rejected, in Markdown."""
    rows, names = indexed(kept), problems(kept)
    lines = [["", *names], ["---", *["---:"] * len(names)]]
    for library, solver in solvers(kept):
        found = [(rows.get((name, library, solver, RTOL)) or {}).get("steps") for name in names]
        if any(found):
            told = ["-" if n is None else str(n) for n in found]
            lines.append([who({"library": library, "solver": solver}), *told])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def slopes(kept):
    """Time and error of the gradient of one sample for each tolerance, in Markdown."""
    rows, names = indexed(kept), problems(kept)
    lines = [["", *names], ["---", *["---:"] * len(names)]]
    for library, solver in solvers(kept):
        told = [w for p, lib, s, w in rows if (lib, s) == (library, solver) and str(w).startswith("slope")]
        for what in dict.fromkeys(told):
            cells = [cell(rows.get((name, library, solver, what))) for name in names]
            lines.append([f"{who({'library': library, 'solver': solver})}, rtol {what.split()[1]}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def claims(kept):
    """What was asked for of rodas5p: numbers with their bounds."""
    rows = indexed(kept)

    def seconds(library, what, name):
        found = [row["seconds"] for key, row in rows.items() if (key[0], key[1], key[3]) == (name, library, what)]
        return min(found, default=None)

    for name in problems(kept):
        mine = {what: rows.get((name, LIBRARY, "rodas5p", what), {}).get("seconds") for what in WHATS}
        wrong = rows.get((name, LIBRARY, "rodas5p", "gradient"), {}).get("error")
        alone, batch = mine[RTOL], mine["forward"]
        gradient = mine["gradient"]
        program = seconds(PROGRAM, RTOL, name), seconds(PROGRAM, "forward", name)
        diffrax = seconds("diffrax", "forward", name), seconds("diffrax", "gradient", name)
        peers = [seconds(library, RTOL, name) or inf for library in ("scipy", "casadi", "diffrax", LLVM)]
        if alone and program[0]:
            yield claim(f"{name}, 1 sample less 30 us: over the program in C", (alone - CALL) / program[0], "x", most=2)
        if batch and program[1]:
            yield claim(f"{name}, 256 samples: over the program in C", batch / program[1], "x", most=2)
        if batch and diffrax[0]:
            yield claim(f"{name}, 256 samples: diffrax", diffrax[0] / batch, "x", least=20)
        if gradient and batch:
            yield claim(f"{name}, loss and gradient over forward", gradient / batch, "x", most=5)
        if gradient and diffrax[1]:
            yield claim(f"{name}, loss and gradient: diffrax", diffrax[1] / gradient, "x", least=40)
        if wrong is not None:
            yield claim(f"{name}, gradient: error", wrong, "", most=1e-6)
        if alone and min(peers[:3]) < inf:
            yield claim(f"{name}, 1 sample: the fastest of SciPy, CasADi, diffrax", min(peers[:3]) / alone, "x", least=1)
        if alone and peers[3] < inf:
            yield claim(f"{name}, 1 sample: {LLVM}", peers[3] / alone, "x", least=1)


def told(kept):
    """The claims, in Markdown; those that are not met first."""
    lines = ["| claim | measured | bound | |", "| --- | ---: | ---: | --- |"]
    for one in sorted(claims(kept), key=lambda one: one["met"]):
        bound = f"<= {one['most']:g}" if "most" in one else f">= {one['least']:g}"
        lines.append(f"| {one['what']} | {one['value']:.2g} | {bound} | {'met' if one['met'] else '**not met**'} |")
    return "\n".join(lines)


def picture(kept, path):
    """Time against error, a panel for each problem."""
    from matplotlib import rc_context
    from matplotlib.lines import Line2D
    from pictures import STYLE, footnote
    from PIL import Image

    with rc_context(STYLE):
        figure, panels = _panels(len(problems(kept)) + 1)
        for panel, name in zip(panels, problems(kept), strict=False):
            _panel(panel, kept, name)
        for panel in panels[len(problems(kept)) :]:
            panel.axis("off")
        handles = []
        for pair in solvers(kept):
            colour, dashes, width = LOOKS.get(pair, QUIET)
            look = {"ls": "", "marker": "*", "ms": 11, "mec": "white"} if pair[0] == PROGRAM else {"ls": dashes, "lw": width}
            handles.append(Line2D([], [], color=colour, label=who({"library": pair[0], "solver": pair[1]}), **look))
        panels[len(problems(kept))].legend(handles=handles, loc="center", fontsize=10.5)
        figure.supylabel("processor time of one solve", fontsize=10)
        footnote(figure, kept["about"])
        figure.savefig(path, dpi=110)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)  # a third of the size


def _panels(n):
    from matplotlib.figure import Figure

    columns = min(4, n)
    lines = -(-n // columns)
    figure = Figure(figsize=(3.4 * columns, 3.3 * lines + 0.4), layout="constrained")
    return figure, list(figure.subplots(lines, columns, squeeze=False).ravel())


def _panel(panel, kept, name):
    from matplotlib.ticker import FuncFormatter
    from pictures import in_words

    rows = indexed(kept)
    for pair in solvers(kept):
        points = [(w, r) for (p, *own, w), r in rows.items() if (p, *own) == (name, *pair) and not isinstance(w, str)]
        points = [r for _, r in sorted(points, key=lambda point: -point[0])]
        colour, dashes, width = LOOKS.get(pair, QUIET)
        errors, seconds = [r["error"] for r in points], [r["seconds"] for r in points]
        if pair[0] == PROGRAM:
            panel.plot(errors, seconds, "*", color=colour, ms=11, mec="white", zorder=4)
        else:
            panel.plot(errors, seconds, dashes, color=colour, lw=width, marker="o", ms=2.5, zorder=3 if width > 2 else 2)
    panel.set(xscale="log", yscale="log", title=name)
    panel.set_xlabel("relative error at the end", fontsize=9)
    panel.invert_xaxis()
    panel.yaxis.set_major_formatter(FuncFormatter(lambda x, _: in_words(x)))
    panel.tick_params(labelsize=8.5)


def main(source, target=None):
    with open(source, encoding="utf-8") as file:
        kept = json.load(file)
    print(table(kept), steps(kept), slopes(kept), told(kept), f"{kept['about']['seconds']} s", sep="\n\n")
    if target:
        picture(kept, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
