"""Batches whose samples need steps of different sizes."""

import numpy as np
from peers.pynode import van_der_pol_field
from topics import best, claim, tell

import pynode as pn


def claims(quick):
    """One stiff sample among 255 easy ones, against the easy ones and the stiff one by themselves."""
    field, t = van_der_pol_field(), np.linspace(0, 20, 100)
    random = np.random.default_rng(0)
    mu, y0 = np.exp(random.uniform(np.log(0.1), 0, (256, 1))), random.uniform(-2, 2, (256, 2))
    mu[100] = 50.0
    easy, stiff = np.arange(256) != 100, np.arange(256) == 100
    parts = [lambda which=which: pn.solve(field, y0[which], t, inputs=mu[which]) for which in (easy, stiff, easy | stiff)]
    others, alone, together = best(parts, 0.1 if quick else 1.0)
    yield claim("one stiff sample among 255 easy, over both alone", together / (others + alone), "x", most=1.3)


if __name__ == "__main__":
    tell(claims)
