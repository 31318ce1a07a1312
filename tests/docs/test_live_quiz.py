"""The quiz: questions, key and reasons are those of the package; mouse and keyboard answer; first answers count."""

import re

from pynode.course import QUESTIONS

MESSAGE = "document.getElementById('message').textContent"
DATA = "(({ score, done, at }) => [Number(score), Number(done), Number(at)])(document.documentElement.dataset)"


def words(text):
    """What is not a formula, as words."""
    return re.sub(r"\$.*?\$", " ", text).split()


def shown(page, selector):
    """The words of an element without its formulas."""
    return page.evaluate(
        f"(() => {{ const e = document.querySelector({selector!r}).cloneNode(true);"
        "e.querySelectorAll('math').forEach((m) => m.replaceWith(' ')); return e.textContent; })()"
    ).split()


def test_all_right(live):
    page = live("quiz")
    for question in QUESTIONS.values():
        assert shown(page, "#question") == words(question.question)
        for letter, (option, _) in question.options.items():
            assert shown(page, f"#option-{letter}") == [f"({letter})", *words(option)]
        page.click(f"#option-{question.right}")
        assert shown(page, "#options .right p") == ["\u2713", "Right.", *words(question.options[question.right][1])]
        page.click("#next")
    assert page.evaluate(DATA) == [10, 10, 9]
    assert "10 of 10 right" in page.evaluate(MESSAGE)
    page.click("#again")
    assert page.evaluate(DATA) == [0, 0, 0]


def test_the_keyboard_and_first_answers(live):
    page = live("quiz")
    assert page.evaluate("document.querySelectorAll('math').length") > 3
    page.key("a")
    assert shown(page, "#options .wrong p")[:4] == ["\u2717", "Not", "this", "one."]
    page.key("b")
    assert shown(page, "#options .right p")[1] == "Right."
    assert page.evaluate("document.activeElement.id") == "option-b"
    assert page.evaluate(DATA) == [0, 1, 0]
    page.key("ArrowRight")
    page.key("d")
    assert page.evaluate(DATA) == [1, 2, 1]
    page.key("ArrowLeft")
    assert page.evaluate("document.querySelectorAll('#options p').length") == 2
    page.click("#steps button:nth-child(10)")
    assert page.evaluate(DATA) == [1, 2, 9]
