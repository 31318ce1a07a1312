"""Exercises of notebook 06: what flows can and cannot do."""

import numpy as np

from pynode.course.answers import Choice, Exercise, Wrong, called


def _classify_ring(classify: object) -> str:
    rng = np.random.default_rng(7)
    angle = np.linspace(0, 2 * np.pi, 2001)
    radius = np.sqrt(np.concatenate([rng.uniform(0, 0.25, 1000), rng.uniform(1, 2.25, 2000)]))
    at = rng.uniform(0, 2 * np.pi, 3000)
    points = radius[:, None] * np.stack([np.cos(at), np.sin(at)], axis=1)
    circle = 1.25 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    given = called(classify, points, shape=(3000,), what="a class for each point")
    right = float(np.mean(given == (radius > 0.75)))
    on_circle = called(classify, circle, shape=(2001,), what="a class for each point")
    if right < 0.5:
        raise Wrong(f"Only {100 * right:.1f} % are right: are the classes swapped? 0 is the disk, 1 the ring.")
    if right < 0.999:
        raise Wrong(f"{100 * right:.2f} % of fresh points are right. Train longer, or augment.")
    if not on_circle.all():
        wrong = np.degrees(angle[np.argmin(on_circle)])
        raise Wrong(
            f"{100 * right:.2f} % are right, but the ring is cut at {wrong:.0f} degrees: a plain flow must. Augment."
        )
    return f"{100 * right:.2f} % of fresh points, and all of the circle."


EXERCISES = {
    "disk-annulus": Exercise(
        Choice(
            "b",
            {
                "a": "Flows may stretch: area is no obstacle.",
                "b": "A flow is a homeomorphism, and those preserve simple connectedness.",
                "c": "They can: only rotations and shifts keep lengths.",
                "d": "A bounded field moves points a bounded way, but that is not why: a larger field would not help.",
            },
        ),
        "a letter",
        "What does every homeomorphism preserve?",
    ),
    "classify-ring": Exercise(
        _classify_ring, "a function classify(points)", "augment=1, and model.predict(points) == 'ring'."
    ),
}
