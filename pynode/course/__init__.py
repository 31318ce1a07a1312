"""The course's helpers: exercises that check themselves, a quiz, tables for notebooks.

from pynode.course import check, quiz
check("euler-y2", 0.2096)      # says right, or what to look at
quiz(1)                        # the question
quiz(1, "b")                   # right or wrong, and why
"""

from pynode.course.answers import Verdict
from pynode.course.checking import check, hint
from pynode.course.exercises import EXERCISES
from pynode.course.lab import code_lab
from pynode.course.quiz import QUESTIONS, quiz
from pynode.course.show import style, table, text

__all__ = ["EXERCISES", "QUESTIONS", "Verdict", "check", "code_lab", "hint", "quiz", "style", "table", "text"]
