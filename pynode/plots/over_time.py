"""Trajectories over time, with bands."""

import numpy as np

from pynode.plots.parts import draw_head, how_many_of, n_states, set_whole_ticks, state_names, stride
from pynode.plots.style import BAND, DATA, LEARNED, MAX_SENSITIVITIES, QUIET, TRUTH


def draw_trajectories(parent, model, data, forecast, start, max_columns, max_states, label, title=""):
    n = n_states(model)
    columns, rows = min(len(data), max_columns), min(n, max_states)
    names = state_names(model, n)
    axes = parent.subplots(rows, columns, squeeze=False, sharex="col", sharey="row")
    shown: list[list] = [[] for _ in range(rows)]
    for i in range(columns):
        t, y = data.t[i], data.y[i]
        stop = forecast.t[i][-1] if forecast is not None else t[-1]
        fine = np.linspace(t[0], stop, int(np.clip(3 * len(t), 600, 3000)))
        path, low, high = rollout_with_band(model, data, fine, i, start == "fitted")
        past = fine <= t[-1]
        every = stride(len(t))
        for j in range(rows):
            ax = axes[j, i]
            ax.plot(fine[past], path[past, j], color=LEARNED, lw=1.4, label="model", zorder=3)
            if low is not None:
                ax.fill_between(fine, low[:, j], high[:, j], color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
            shown[j].append(path[past, j])
            if j < data.d:
                shown[j].append(y[:, j])
                ax.plot(t[::every], y[::every, j], "o", **marker_style(len(t), model), label=label, zorder=2)
            if forecast is not None:
                ax.plot(fine[~past], path[~past, j], "--", color=TRUTH, lw=1.8, label="forecast", zorder=3)
                shown[j].append(path[~past, j])
                if j < data.d:
                    later = forecast.y[i][:, j]
                    ax.plot(forecast.t[i], later, "o", mfc="white", mec=DATA, ms=4.5, label="held out", zorder=4)
                    shown[j].append(later)
                side = 0.02 * (stop - t[0])
                ax.axvspan(0.5 * (t[-1] + forecast.t[i][0]), stop + side, color="#f3efe6", lw=0, zorder=0)
                ax.set_xlim(t[0] - side, stop + side)
            if i == 0:
                ax.set_ylabel(names[j])
            if j == rows - 1:
                ax.set_xlabel(data.time_name)
                set_whole_ticks(ax, t)
            if j == 0 and len(data) > 1:
                ax.set_title(f"trajectory {data.ids[i]}", color=QUIET, fontsize=10)
    for j in range(rows):  # a band that grows without bounds must not squeeze the data
        limit_y(axes[j, 0], np.concatenate(shown[j]))
    if isinstance(axes[0, 0].figure, type(parent)):
        parent.align_ylabels()
    draw_head(parent, axes[0, 0], title, how_many_of(columns, len(data), "trajectories"), how_many_of(rows, n, "states"))


def marker_style(n, model):
    return {"color": DATA, "ms": 4.5 if n < 40 else 3.4 if n < 400 else 1.8, "mew": 0, "alpha": 0.45}


def limit_y(ax, values, room=0.5):
    """Keep the limits of y within `room` of the range of the values that matter."""
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    reach = room * (high - low) or max(abs(high), 1.0) * 0.1
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, low - reach), min(top, high + reach))


def rollout_with_band(model, data, t, i, fitted, band=True, share=1):
    """(path, lower, upper end of the 90 % band of the state) of trajectory i, one of `share` to be drawn; no band without a
    covariance."""
    if fitted and data is model.data_:
        start = {"trajectory": i}
    else:
        start = {"y0": model.initial_states_[i] if fitted else data.y[i][0]}
    if model.covariance_ is None or not band:
        return model.predict(t, **start), None, None
    d = model.initial_states_.shape[1]
    few = max(100, int(MAX_SENSITIVITIES / (share * d * (model.covariance_.shape[-1] + d))))
    at = t if len(t) <= few else np.linspace(t[0], t[-1], few)
    path, std = model.predict(at, **start, return_std=True)
    half = BAND * (std / path if model.log else std)
    if len(at) < len(t):
        path, half = model.predict(t, **start), np.stack([np.interp(t, at, column) for column in half.T], axis=1)
    return (path, path * np.exp(-half), path * np.exp(half)) if model.log else (path, path - half, path + half)
