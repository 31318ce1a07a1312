"""What Python gives to live pages when they are built: a page reads it out of its element #data."""

import json

from formulas import with_formulas

from pynode.course import QUESTIONS


def quiz():
    """The questions of the course, as HTML."""
    return [
        {
            "question": with_formulas(question.question),
            "right": question.right,
            "options": {letter: [with_formulas(text) for text in pair] for letter, pair in question.options.items()},
        }
        for question in QUESTIONS.values()
    ]


GIVEN = {"quiz": quiz}
"""Name of a page -> function of its data."""


def element(name):
    """The element of HTML with the data of a page, or nothing."""
    if name not in GIVEN:
        return ""
    data = json.dumps(GIVEN[name](), ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{data}</script>\n'
