"""Exercises of notebook 15: latent ODEs."""

import math

from pynode.course.answers import Exercise, Number

EXERCISES = {
    "kl-gaussian": Exercise(
        Number(
            lambda: 0.5 * (1 + 0.25 - 1 - math.log(0.25)),
            "{value} nats.",
            {
                "The factor 1/2 is missing.": lambda: 1 + 0.25 - 1 - math.log(0.25),
                "ln sigma in place of ln sigma^2.": lambda: 0.5 * (1 + 0.25 - 1 - math.log(0.5)),
                "sigma in place of sigma^2.": lambda: 0.5 * (1 + 0.5 - 1 - math.log(0.25)),
                "That is in bits.": lambda: 0.5 * (1 + 0.25 - 1 - math.log(0.25)) / math.log(2),
            },
        ),
        "a number of nats",
        "(mu^2 + sigma^2 - 1 - ln sigma^2) / 2",
    ),
}
