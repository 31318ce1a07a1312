"""What the peers of systems.py share: data cut into windows and scaled, a network to start from, inputs between times."""

import numpy as np

INTERVALS = 10
"""Of a window, as in fit.py; it lasts one unit of time."""

HIDDEN = (32, 32)


class Windows:
    """Trajectories (n, T, d) cut into windows, in standard deviations of the states; weights [(W, b), ...] to start from."""

    def __init__(self, data):
        t = data["t"]
        y = data["y"]
        u = data.get("u")
        self.mean = y.mean(axis=(0, 1))
        self.std = y.std(axis=(0, 1))
        self.unit = t[INTERVALS] - t[0]
        self.t = (t[: INTERVALS + 1] - t[0]) / self.unit
        cut = _cut(self.scaled(y))
        self.start = cut[:, 0]
        self.target = cut[:, 1:].swapaxes(0, 1)
        self.u = None if u is None else _cut(u)  # (windows, INTERVALS + 1, m)
        rng = np.random.default_rng(0)
        widths = (y.shape[2] + (0 if u is None else u.shape[2]), *HIDDEN, y.shape[2])
        self.weights = []
        for rows, columns in zip(widths[1:], widths, strict=False):
            self.weights.append((rng.standard_normal((rows, columns)) * np.sqrt(1 / columns), np.zeros(rows)))

    def scaled(self, y):
        return (y - self.mean) / self.std

    def back(self, z):
        return self.mean + self.std * z


def _cut(x):
    starts = range(0, x.shape[1] - INTERVALS, INTERVALS)
    return np.concatenate([x[:, i : i + INTERVALS + 1] for i in starts])


class Inputs:
    """Straight lines between values at evenly spaced times; None where there are none."""

    def __init__(self, t, values):
        self.t, self.values = t, values

    def __call__(self, x):
        if self.values is None:
            return None
        part = (x - self.t[0]) / (self.t[1] - self.t[0])
        k = int(min(max(part, 0), len(self.t) - 2))
        return (k + 1 - part) * self.values[k] + (part - k) * self.values[k + 1]
