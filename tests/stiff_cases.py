"""Stiff test problems (Hairer, Wanner, Solving ODEs II, IV.10), as fields and as NumPy functions for rk_reference.py."""

from dataclasses import dataclass

import numpy as np

import pynode as pn


def rober(y, p):
    return [-p[0] * y[0] + p[2] * y[1] * y[2], p[0] * y[0] - p[2] * y[1] * y[2] - p[1] * y[1] * y[1], p[1] * y[1] * y[1]]


def hires(y, p):
    catalysed = p[8] * y[5] * y[7]
    bound = p[10] * y[6]
    return [
        -p[0] * y[0] + p[1] * y[1] + p[2] * y[2] + p[11],
        p[0] * y[0] - p[3] * y[1],
        -p[4] * y[2] + p[1] * y[3] + p[5] * y[4],
        p[2] * y[1] + p[0] * y[2] - p[6] * y[3],
        -p[7] * y[4] + p[1] * y[5] + p[1] * y[6],
        -catalysed + p[9] * y[3] + p[0] * y[4] - p[1] * y[5] + p[9] * y[6],
        catalysed - bound,
        -catalysed + bound,
    ]


def orego(y, p):
    return [
        p[0] * (y[1] + y[0] * (1 - p[2] * y[0] - y[1])),
        (y[2] - (1 + y[0]) * y[1]) / p[0],
        p[1] * (y[0] - y[2]),
    ]


def vdp(y, p):
    return [y[1], p[0] * (1 - y[0] * y[0]) * y[1] - y[0]]


@dataclass
class Case:
    """y' = f(y, p) from y0 at 0, to the times t."""

    name: str
    rhs: object
    y0: list
    p: list
    t: np.ndarray
    atol: list

    @property
    def theta(self):
        return np.array(self.p)

    @property
    def field(self):
        d = len(self.y0)
        n = len(self.p)
        return pn.field(state=d, theta=(n,), name=self.name)(
            lambda t, y, th: self.rhs([y[i] for i in range(d)], [th[i] for i in range(n)])
        )

    def reference(self, t, y, theta, u):
        """Of P copies, for rk_reference.py."""
        d = len(self.y0)
        return np.stack(self.rhs([y[:, i] for i in range(d)], [theta[:, i] for i in range(len(self.p))]), axis=1)


HIRES = [1.71, 0.43, 8.32, 8.75, 10.03, 0.035, 1.12, 1.745, 280.0, 0.69, 1.81, 0.0007]

CASES = {
    case.name: case
    for case in (
        Case(
            "rober",
            rober,
            [1.0, 0.0, 0.0],
            [0.04, 3e7, 1e4],
            np.append(0.0, np.geomspace(1e-2, 1e5, 8)),
            [1e-8, 1e-12, 1e-8],
        ),
        Case("hires", hires, [1.0, *[0.0] * 6, 0.0057], HIRES, np.append(0.0, np.geomspace(0.1, 321.8122, 6)), [1e-9] * 8),
        Case("orego", orego, [1.0, 2.0, 3.0], [77.27, 0.161, 8.375e-6], np.linspace(0.0, 60.0, 7), [1e-6] * 3),
        Case("vdp", vdp, [2.0, 0.0], [1000.0], np.linspace(0.0, 1000.0, 6), [1e-6] * 2),
    )
}
