"""Residuals over time and their distribution."""

import numpy as np

from pynode.plots.over_time import marker_style
from pynode.plots.parts import draw_head, evenly_spread, how_many_of, ordinal, set_whole_ticks, stride
from pynode.plots.style import BAND, LEARNED, MAX_FOLLOWED, QUIET, TRUTH


def draw_residuals(parent, model, max_states, title=""):
    data = model.data_
    rows = min(data.d, max_states)
    t, r, known, notes = _standard_residuals(model)
    axes = parent.subplots(rows, 2, squeeze=False, sharex="col", sharey="row", width_ratios=(4, 1))
    for j in range(rows):
        ax, side = axes[j]
        seen = np.isfinite(r[:, j])
        tj, rj = t[seen], r[seen, j]
        size = np.abs(rj)
        reach = max(3.6, 1.25 * float(np.quantile(size, 0.98))) if len(rj) else 3.6
        inside = size <= reach
        every = stride(len(rj))
        ax.axhspan(-1.96, 1.96, color="#efefef", lw=0, label="95 % of noise", zorder=0)
        ax.axhline(0, color=QUIET, lw=0.8, zorder=1)
        ax.plot(tj[inside][::every], rj[inside][::every], "o", **marker_style(len(rj), model), label="residual", zorder=2)
        if not inside.all():
            edge = np.sign(rj[~inside]) * 0.97 * reach
            for sign, mark in ((1, "^"), (-1, "v")):
                up = np.sign(edge) == sign
                ax.plot(tj[~inside][up][::every], edge[up][::every], mark, color=TRUTH, ms=5, mew=0, zorder=3)
        at, mean, half = _binned(tj, rj)
        if len(at):
            ax.errorbar(at, mean, half, fmt="o", color=LEARNED, ms=3, lw=1.3, label="mean, 90 %", zorder=4)
        ax.set(ylim=(-reach, reach), ylabel=data.names[j])
        _histogram(side, rj, reach)
        beyond = int((~inside).sum())
        words = f"rms {np.sqrt(np.mean(rj**2)):.2f}" if len(rj) else "none"
        words += f"\n{beyond} beyond" if beyond else ""
        side.text(0.98, 0.98, words, transform=side.transAxes, ha="right", va="top", fontsize=8.5, color="#555555")
    axes[-1, 0].set_xlabel(data.time_name)
    axes[-1, 1].set_xlabel("density")
    set_whole_ticks(axes[-1, 0], np.concatenate(data.t))
    unit = (
        "the noise"
        if known.all()
        else "their rms, for the noise is unknown"
        if not known.any()
        else "the noise or their rms"
    )
    what = "log data - log model" if model.log else "data - model"
    drawn = stride(len(t))
    draw_head(
        parent,
        axes[0, 0],
        title,
        f"{what}, in units of {unit}",
        *notes,
        how_many_of(rows, data.d, "states"),
        f"every {ordinal(drawn)} point" if drawn > 1 else "",
        extra=axes[0, 1],
    )


def _standard_residuals(model):
    """(times (n,), residuals (n, d) in units of the noise, whether the noise of a state is known (d,), notes)."""
    data = model.data_
    chosen = evenly_spread(len(data), MAX_FOLLOWED)
    rest, failed = [], 0
    for i in chosen:
        path = model.predict(data.t[i], trajectory=i)[:, : data.d]
        failed += bool(~np.isfinite(path).all())
        rest.append(np.log(data.y[i] / path) if model.log else data.y[i] - path)
    r = np.concatenate(rest)
    r[~np.isfinite(r)] = np.nan
    noise = np.array([model.report_["noise"].get(name, np.nan) for name in data.names], dtype=np.float64)
    known = np.isfinite(noise) & (noise > 0)
    rms = np.sqrt([np.mean(c[~np.isnan(c)] ** 2) if not np.isnan(c).all() else 1.0 for c in r.T])
    r = r / np.where(known, noise, np.where(rms > 0, rms, 1.0))
    notes = [how_many_of(len(chosen), len(data), "trajectories"), f"{failed} of them could not be solved" if failed else ""]
    return np.concatenate([data.t[i] for i in chosen]), r, known, notes


def _binned(t, r, least=8, most=24):
    """(centres, means, half widths of the 90 % band if r is white noise) over stretches of time."""
    n = min(most, len(t) // least)
    if n < 4:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    edges = np.linspace(t.min(), t.max(), n + 1)
    which = np.clip(np.searchsorted(edges, t, side="right") - 1, 0, n - 1)
    count = np.bincount(which, minlength=n)
    enough = count >= min(least, 4)
    mean = np.bincount(which, r, minlength=n)[enough] / count[enough]
    return (0.5 * (edges[1:] + edges[:-1]))[enough], mean, BAND / np.sqrt(count[enough])


def _histogram(ax, r, reach):
    width = 1.0 if len(r) < 60 else 0.5 if len(r) < 1000 else 0.25
    width = max(width, reach / 20)
    edges = width * np.arange(-np.ceil(reach / width), np.ceil(reach / width) + 1)
    count = np.histogram(r, edges)[0]
    density = count / (max(len(r), 1) * width)
    ax.barh(edges[:-1], density, height=width, align="edge", color="#b8b8b8", edgecolor="white", lw=0.4, label=None)
    z = np.linspace(-min(reach, 4.5), min(reach, 4.5), 200)
    ax.plot(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), z, color=TRUTH, lw=1.3, label="standard normal")
    ax.set_xlim(0, 1.12 * max(density.max(), 0.4 if reach < 12 else 0.0) or 1.0)
    ax.tick_params(labelleft=False, labelbottom=False)
