"""The exercises of the course: each computes its right answer and knows the usual wrong ones.

An exercise is a row of the table of its file; a file is for the notebooks that it names, and a row below.
"""

from pynode.course.answers import Exercise
from pynode.course.exercises import (
    adjoint,
    agent,
    approximation,
    case_study,
    depth,
    latent,
    rollouts,
    solvers,
    stiffness,
    topology,
    training,
    worked,
)

EXERCISES: dict[str, Exercise] = {
    **solvers.EXERCISES,
    **worked.EXERCISES,
    **adjoint.EXERCISES,
    **training.EXERCISES,
    **depth.EXERCISES,
    **topology.EXERCISES,
    **approximation.EXERCISES,
    **rollouts.EXERCISES,
    **agent.EXERCISES,
    **latent.EXERCISES,
    **stiffness.EXERCISES,
    **case_study.EXERCISES,
}
"""Name of the exercise, as notebooks write it -> the exercise."""

__all__ = ["EXERCISES"]
