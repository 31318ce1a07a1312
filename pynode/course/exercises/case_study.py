"""Exercises of notebook 20: what a parameter of the minimal model means."""

from pynode.course.answers import Exercise, Number

SENSITIVITY = 8e-4
"""S_I, mL/µU/min."""

LAG = 0.03
"""p2, 1/min."""

BASAL = 11.0
HELD = 36.0
"""Insulin before, and as it is held: µU/mL."""

EXERCISES = {
    "insulin-action": Exercise(
        Number(
            lambda: SENSITIVITY * (HELD - BASAL),
            "X settles at {value} per minute, where dX/dt = 0: at S_I times the insulin above its basal value, whatever p2.",
            {
                "Only insulin above its basal value acts: I - I_b.": lambda: SENSITIVITY * HELD,
                "That is how fast X begins to rise. It stops where dX/dt = 0.": lambda: LAG * SENSITIVITY * (HELD - BASAL),
                "That is p2: it says how soon X settles, not where.": lambda: LAG,
            },
        ),
        "a rate in 1/min",
        "dX/dt = 0.",
    ),
}
