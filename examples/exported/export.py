"""Learn a heated block from a table, and write it as C for simulator.cpp and controller.c beside this file.

python examples/exported/export.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np

import pynode as pn


@pn.field(state=1, inputs=1, theta={"loss": 0.1, "gain": 1.0})
def block(t, y, th, u):
    return [th.gain * u[0] - th.loss * (y[0] - 20.0)]


def main(folder):
    minutes = np.linspace(0.0, 60.0, 121)
    heater = (minutes % 20 < 8).astype(float)[:, None]
    truth = pn.solve(block, [20.0], minutes, [0.12, 5.0], inputs=pn.Signal(minutes, heater, "previous")).y
    table = truth + 0.2 * np.random.default_rng(0).standard_normal(truth.shape)
    model = pn.NeuralODE(field=block, input_kind="previous", random_state=0)
    model.fit(minutes, table, u=heater, names=["temperature"])
    print(model.equation())
    pn.export.c(model, path=folder / "block.c", precision="float", inputs="previous")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
