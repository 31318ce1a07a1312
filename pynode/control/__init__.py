"""Acting on learned dynamics: planning, adaptive depth, the reinforcement-learning view."""

from pynode.control.agents import Episodes, HeldPolicy, credit, euler_halting, halting
from pynode.control.planning import Plan, Planner, priced

__all__ = ["Episodes", "HeldPolicy", "Plan", "Planner", "credit", "euler_halting", "halting", "priced"]
