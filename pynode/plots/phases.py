"""Phase portraits: the line, the plane, projections, principal components."""

import numpy as np

from pynode.fields.field import Field
from pynode.fields.transforms import jacobian
from pynode.plots.over_time import limit_y, rollout_with_band
from pynode.plots.parts import (
    draw_head,
    evenly_spread,
    how_many_of,
    n_unobserved,
    ordinal,
    set_log_axes,
    stride,
    true_slopes,
)
from pynode.plots.style import ARROW, BAND, DATA, DOUBT, DOUBTFUL, LEARNED, MAX_PATHS, PALE, PATH, QUIET, TOO_WIDE, TRUTH


def draw_phase(parent, model, data, truth, title=""):
    if data.d == 1:
        _draw_line(parent, model, data, truth, title)
    elif data.d == 2:
        _draw_plane(parent, model, data, truth, title)
    elif data.d == 3:
        _draw_projections(parent, model, data, title)
    else:
        _draw_components(parent, model, data, title)


def has_plain_field(model):
    """Whether dy/dt is a function of the states that are drawn (and perhaps of time)."""
    return not n_unobserved(model) and not getattr(model.field_, "inputs", 0)


def _at_time(model, data):
    """(a time for the field, what a legend says about it)."""
    if not getattr(model.field_, "time_dependent", False):
        return 0.0, ""
    first = float(min(t[0] for t in data.t))
    return first, f" at {data.time_name} = {first:.4g}"


def _draw_line(parent, model, data, truth, title):
    ax = parent.subplots()
    y = np.concatenate(data.y)[:, 0]
    low, high = np.nanmin(y), np.nanmax(y)
    name = data.names[0]
    notes = []
    if has_plain_field(model):
        margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
        grid = np.linspace(low - margin, high + margin, 400)
        grid = grid[grid > 0] if model.log else grid
        at, when = _at_time(model, data)
        slope = model.derivative(grid[:, None], at)[:, 0]
        if truth is not None:
            true = true_slopes(truth, grid[:, None], at)[:, 0]
            ax.plot(grid, true, color=TRUTH, lw=5, alpha=0.45, label="true field")
        covariance = _slope_covariance(model, grid[:, None], at)
        ax.plot(grid, slope, color=LEARNED, lw=1.8, label="learned field" + when, zorder=3)
        if covariance is not None:
            half = BAND * np.sqrt(covariance[:, 0, 0])
            ax.fill_between(grid, slope - half, slope + half, color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
            inside = (grid >= low) & (grid <= high)
            limit_y(ax, np.concatenate([slope, (slope - half)[inside], (slope + half)[inside]]), 0.3)
    else:  # what can be seen: slopes along the fitted trajectories
        chosen = evenly_spread(len(data), MAX_PATHS)
        for i in chosen:
            fine = np.linspace(data.t[i][0], data.t[i][-1], 800)
            path = rollout_with_band(model, data, fine, i, True, band=False)[0][:, 0]
            ax.plot(path, np.gradient(path, fine), color=PATH, lw=1.2, label="fitted trajectory", zorder=3)
        notes.append(how_many_of(len(chosen), len(data), "trajectories"))
    ax.axhline(0, color=QUIET, lw=0.8)
    every = stride(len(y))
    bottom = ax.get_ylim()[0]
    ticks = y[::every]
    ax.plot(ticks, np.full(len(ticks), bottom), "|", color=DATA, ms=9, alpha=0.5, label="data", clip_on=False)
    ax.set_ylim(bottom=bottom)
    ax.set(xlabel=name, ylabel=f"d{name}/d{data.time_name}")
    draw_head(parent, ax, title, *notes)


def _draw_plane(parent, model, data, truth, title, arrows=17):
    ax = parent.subplots()
    to_axis, from_axis = (np.log, np.exp) if model.log else (np.asarray, np.asarray)
    points = to_axis(np.concatenate(data.y))
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    flat = high <= low
    low, high = np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)

    def draw(at, slopes, label, **style):
        # directions on the screen: slopes as fractions of the axes, whose panel is about square
        direction = _on_axis(slopes, at, model) / (high - low)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
        ax.quiver(*at.T, *direction.T, angles="uv", pivot="mid", label=label, **style)

    if has_plain_field(model):
        time, when = _at_time(model, data)
        lines = (np.linspace(a, b, arrows) for a, b in zip(low, high, strict=True))
        at = from_axis(np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2))
        if truth is not None:  # bars, under the arrows of the learned field: where both agree, arrows lie in bars
            bars = {"width": 0.0085, "scale": arrows * 1.25, "headwidth": 1, "headlength": 0, "headaxislength": 0}
            draw(at, true_slopes(truth, at, time), "true field", color="#f5c6a5", zorder=1, **bars)
        slopes = model.derivative(at, time)
        doubtful = _doubtful(model, at, slopes, high - low, time)
        shape = {"width": 0.0026, "scale": arrows * 1.4, "headwidth": 4.5, "headlength": 5, "headaxislength": 4.5}
        if not doubtful.all():
            draw(at[~doubtful], slopes[~doubtful], "learned field" + when, color=ARROW, zorder=2, **shape)
        if doubtful.any():
            draw(at[doubtful], slopes[doubtful], "direction uncertain", color=DOUBTFUL, zorder=2, **shape)
    notes = _paths([ax], model, data, [_pick(0, 1)], high - low)
    if model.log:
        set_log_axes(ax)
    lower, upper = from_axis(low - 0.02 * (high - low)), from_axis(high + 0.02 * (high - low))
    ax.set(xlim=(lower[0], upper[0]), ylim=(lower[1], upper[1]), xlabel=data.names[0], ylabel=data.names[1])
    ax.grid(False)
    draw_head(parent, ax, title, *notes, markerscale=1.6)


def _draw_projections(parent, model, data, title):
    axes = parent.subplots(1, 3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    notes = _paths(axes, model, data, [_pick(a, b) for a, b in pairs])
    for ax, (a, b) in zip(axes, pairs, strict=True):
        if model.log:
            set_log_axes(ax)
        ax.set(xlabel=data.names[a], ylabel=data.names[b])
    draw_head(parent, axes[0], title, *notes, markerscale=1.6)


def _draw_components(parent, model, data, title):
    ax = parent.subplots()
    x = np.concatenate(data.y)
    x = np.log(x) if model.log else x
    complete = ~np.isnan(x).any(axis=1)
    std = np.nanstd(x, axis=0)
    if complete.mean() < 0.5 or complete.sum() < 3:
        a, b = np.sort(np.argsort(-std, kind="stable")[:2])
        notes = _paths([ax], model, data, [_pick(a, b)])
        if model.log:
            set_log_axes(ax)
        ax.set(xlabel=data.names[a], ylabel=data.names[b])
        draw_head(parent, ax, title, f"the two of {data.d} states of largest variance", *notes, markerscale=1.6)
        return
    mean, std = x[complete].mean(axis=0), np.where(std > 0, std, 1.0)
    _, size, axes = np.linalg.svd((x[complete] - mean) / std, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]

    def project(y):
        y = y[:, : data.d]
        return ((np.log(y) if model.log else y) - mean) / std @ axes.T

    notes = _paths([ax], model, data, [project], band=False)
    share = size**2 / (size**2).sum()
    for k, put in enumerate((ax.set_xlabel, ax.set_ylabel)):
        put(f"component {k + 1}: {100 * share[k]:.0f} % of variance\n({_loadings(axes[k], data.names)})")
    what = f"principal components of {data.d} standardised {'logarithms' if model.log else 'states'}"
    draw_head(parent, ax, title, what, *notes, markerscale=1.6)


def _loadings(weights, names, most=4):
    """The largest terms of a component, in words: 0.71 a - 0.70 b + ..."""
    order = np.argsort(-np.abs(weights), kind="stable")[:most]
    terms = " ".join(f"{'-' if weights[i] < 0 else '+'} {abs(weights[i]):.2f} {names[i]}" for i in order)
    return terms.removeprefix("+ ") + (" ..." if len(weights) > most else "")


def _paths(axes, model, data, projections, span=None, band=True):
    """Data and fitted trajectories in planes, project(y (T, d)) -> (T, 2) for each of the axes; says what was left out."""
    chosen, drawn = evenly_spread(len(data), MAX_PATHS), list(zip(axes, projections, strict=True))
    total = sum(data.lengths[i] for i in chosen)
    every = stride(total)
    crowded = len(data) > 4 or total > 1000
    style = {"ms": 1.8 if crowded else 3.5, "mew": 0, "alpha": 0.9 if not crowded else 0.55 if total < 2000 else 0.35}
    to_axis = np.log if model.log else np.asarray
    spans = {ax: np.ptp(_finite(to_axis(project(np.concatenate(data.y)))), axis=0) for ax, project in drawn} if band else {}
    for i in chosen:
        t, y = data.t[i], data.y[i]
        fine = np.linspace(t[0], t[-1], int(np.clip(3 * len(t), 800, 3000)))
        path = high = None
        if data is model.data_:
            path, _, high = rollout_with_band(model, data, fine, i, True, band, len(chosen))
        for ax, project in drawn:
            ax.plot(*project(y[::every]).T, "o", color=DATA, label="data", zorder=5, **style)
            if path is None:
                continue
            at = project(path)
            if high is not None:
                lost = _tube(ax, at, project(high), model.log, spans[ax] if span is None else span)
                if lost.any():
                    some = np.where(lost[:, None], at, np.nan)
                    ax.plot(*some.T, color=DOUBTFUL, lw=0.8, label="band too wide to draw", zorder=3)
                    at = np.where(lost[:, None], np.nan, at)
            ax.plot(*at.T, color=PATH, lw=0.8 if crowded else 1.6, label="fitted trajectory", zorder=4)
    return [how_many_of(len(chosen), len(data), "trajectories"), f"every {ordinal(every)} point" if every > 1 else ""]


def _pick(a, b):
    return lambda y: y[:, [a, b]]


def _finite(rows):
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows if len(rows) else np.zeros((1, rows.shape[1]))


def _tube(ax, path, high, log, span):
    """The 90 % band across the direction in which a trajectory moves; returns where it is too wide, and left out."""
    from matplotlib.collections import PolyCollection

    to_axis, from_axis = (np.log, np.exp) if log else (np.asarray, np.asarray)
    x, radius = to_axis(path), to_axis(high) - to_axis(path)
    span = np.where(span > 0, span, 1.0)
    x, radius = x / span, radius / span
    along = np.gradient(x, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    across = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    half = np.linalg.norm(across * radius, axis=1, keepdims=True)
    lost = half[:, 0] > TOO_WIDE
    across = np.where(lost[:, None], np.nan, across * half)
    left, right = from_axis((x + across) * span), from_axis((x - across) * span)
    quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    quads = quads[np.isfinite(quads).all(axis=(1, 2))]
    ax.add_collection(
        PolyCollection(list(quads), facecolors=PALE, edgecolors=PALE, linewidths=0.4, label="90 % band", zorder=1.5),
        autolim=False,
    )
    return lost


def _slope_covariance(model, y, t):
    """(n, d, d) covariance of dy/dt at states y (n, d) that the uncertain parameters cause, or None."""
    field, covariance = model.field_, model.covariance_
    if covariance is None or not isinstance(field, Field) or covariance.shape != (field.n_params, field.n_params):
        return None
    scaling = model.scaling_
    J = jacobian(field, wrt="theta")(scaling.times(t), scaling.states(y), model.theta_)
    J = J * scaling.slopes_back(y, np.ones_like(y))[..., None]
    return np.einsum("nap,nbp->nab", J @ covariance, J)


def _doubtful(model, y, slopes, span, t):
    """Where the direction of the field (as drawn) is not known to about 30 degrees."""
    covariance = _slope_covariance(model, y, t)
    if covariance is None:
        return np.zeros(len(y), dtype=bool)
    scale = _on_axis(np.ones_like(y), y, model) / span
    covariance = covariance * scale[:, :, None] * scale[:, None, :]
    direction = slopes * scale
    length = np.linalg.norm(direction, axis=1)
    across = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    std = np.sqrt(np.maximum(np.einsum("na,nab,nb->n", across, covariance, across), 0.0))
    return BAND * std > DOUBT * length**2


def _on_axis(slopes, y, model):
    return slopes / y if model.log else slopes
