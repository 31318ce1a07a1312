"""The course as a student would take it: every checker with right and wrong answers, the quiz, the notebooks as files."""

import ast
import json
import math
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import pynode as pn
from pynode.course import EXERCISES, QUESTIONS, check, code_lab, hint, quiz, table, text
from pynode.course.pictures import describe

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


# ---- Right answers, found here by other means than the checkers' -------------------------------------------------------


def euler_lab_theta():
    """Trained by L-BFGS as in notebook 04."""
    f, lab = pn.mlp(1, (8,)), code_lab()
    return pn.fit.lbfgs(pn.Objective(f, lab.y0, lab.t, lab.noisy, method="euler", step=0.05), f.init(0), max_iter=200).theta


def lab_descent(rate, epochs=120):
    f, lab = pn.mlp(1, (8,)), code_lab()
    objective, theta = pn.Objective(f, lab.y0, lab.t, lab.noisy, method="euler", step=0.05), f.init(0)
    for _ in range(epochs):
        theta = theta - rate * objective(theta)[1]
    return objective.value(theta)


def curriculum_theta():
    f, lab = pn.mlp(1, (8,)), code_lab(end=2.0)
    return pn.fit.lbfgs(pn.Objective(f, lab.y0, lab.t, lab.noisy, method="rk4", step=0.05), f.init(0), max_iter=200).theta


def pendulum_network(points):
    """Fitted to the pendulum on [-3, 3]^2, as in notebook 07."""
    side = np.linspace(-3, 3, 25)
    at = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    f, g = pn.mlp(2, (16,)), np.stack([at[:, 1], -np.sin(at[:, 0])], axis=1)

    def residuals(theta):
        step = pn.sensitivities(f, at, [0.0, 1.0], theta, method="euler", step=1.0)
        return (step.solution.y[:, -1] - at - g).ravel(), step.theta[:, -1].reshape(-1, f.n_params)

    return f(0.0, points, pn.fit.levenberg_marquardt(residuals, f.init(0), max_iter=100).theta)


def rk4_limit():
    """The longest stable step for y' = -50 y, by bisection of solves."""
    decay = pn.field(state=1)(lambda t, y: -50.0 * y)
    low, high = 0.01, 0.1
    for _ in range(40):
        h = 0.5 * (low + high)
        grows = abs(pn.solve(decay, [1.0], [0.0, 100 * h], method="rk4", step=h).y[-1, 0]) > 1
        low, high = (low, h) if grows else (h, high)
    return low


def damped(k, c):
    """Rollouts of x'' = -k x - c x'."""

    @pn.field(state=2)
    def oscillator(t, y):
        return [y[1], -k * y[0] - c * y[1]]

    return lambda t, y0: pn.solve(oscillator, y0, t).y


def van_der_pol(mu):
    field = pn.datasets.van_der_pol(mu=mu).field
    return lambda t, y0: pn.solve(field, y0, t).y


def adjoint(t, y0, alpha, T, y_star):
    return (y0 * math.exp(-alpha * T) - y_star) * math.exp(alpha * (t - T))


def gradient(y0, alpha, T, y_star):
    return -(y0 * math.exp(-alpha * T) - y_star) * T * y0 * math.exp(-alpha * T)


def depth(y0, threshold, step=0.9):
    n = 0
    while abs(2 * y0) >= threshold:
        y0, n = step * y0, n + 1
    return n


SCALAR = (-0.326845, -0.306018, 0.271750, 0.467311)
"""dL/d(w1, b1, w2, b2) of notebook 11's exercise; checked below against finite differences."""

Y1 = 1 + 0.25 * -2 * math.tanh(1.5)
Y2 = Y1 + 0.25 * -2 * math.tanh(1.5 * Y1)


def rk4_error(h):
    """Of y' = -2 y at t = 1."""
    factor = 1 - 2 * h + (2 * h) ** 2 / 2 - (2 * h) ** 3 / 6 + (2 * h) ** 4 / 24
    return abs(factor ** round(1 / h) - math.exp(-2))


# name -> (right answers, [(wrong answer, a word of what is said)])
ANSWERS = {
    "quickstart-period": (
        [2 * math.pi / math.sqrt(4 - 0.125**2), 3.2],
        [(1.574, "half"), (2.0, "frequency"), (10, "large")],
    ),
    "order-of-heun": (
        [2.0, 2.05],
        [(-2, "log"), (1, "Euler"), (3, "single"), (2.3, "near"), ("two", "number"), (7, "slope")],
    ),
    "euler-stability": ([1], [(0.5, "stable"), (2, "large")]),
    "euler-y2": ([0.2096, 0.209581], [(0.3679, "another"), (0.3059, "exact"), (0.5474, "one more"), (0.095, "one long")]),
    "slope-at-origin": ([-3], [(-2, "chain"), (1.5, "alone"), (3, "sign")]),
    "slope-at-y2": (
        [-2.7220],
        [
            (-1.6303, "y1"),
            (-1.6307, "y1"),
            (-3.0, "saturation"),
            (-1.8147, "inner"),
            (2.722, "sign"),
            (-2.72, "three digits"),
            (-2.7, "four"),
        ],
    ),
    "adjoint-a1": ([-0.095035, -0.0950], [(-0.0513, "y2"), (-0.1604, "a2"), (0.095, "sign")]),
    "gradient-w2": (
        [-0.0486034],
        [
            (0.0486, "sign"),
            (-0.0271, "last"),
            (-0.0137557, "exact flow"),
            (-0.0137558, "exact flow"),
            (-0.0490, "four"),
            (-0.02826, "y2 and y1"),
            (float("nan"), "finite"),
            ([1, 2], "number"),
        ],
    ),
    "adjoint-closed-form": (
        [adjoint],
        [
            (lambda t, y0, a, T, y: -adjoint(t, y0, a, T, y), "sign"),
            (lambda t, y0, a, T, y: adjoint(T, y0, a, T, y) * math.exp(-a * (t - T)), "minus signs"),
            (lambda t, y0, a, T, y: adjoint(T, y0, a, T, y) * math.exp(a * t), "end"),
            (lambda t, y0, a, T, y: adjoint(T, y0, a, T, y), "changes"),
            (lambda t, y0, a, T, y: 17.0, "17"),
            (lambda t: 0.0, "TypeError"),
            (3.0, "function"),
        ],
    ),
    "gradient-alpha": (
        [gradient],
        [
            (lambda *v: -gradient(*v), "sign"),
            (lambda *v: gradient(*v) / v[2], "factor T"),
            (lambda *v: gradient(*v) * math.exp(v[1] * v[2]), "exp"),
            (lambda *v: 5.0, "Differentiate"),
        ],
    ),
    "adjoint-memory": (["b", "(b)", "B"], [("a", "once"), ("c", "no path"), ("d", "other way"), ("e", "letters")]),
    "code-lab": ([euler_lab_theta], [(lambda: pn.mlp(1, (8,)).init(0), "loss"), ([1.0, 2.0], "25")]),
    "resnet-orders": (
        [(2, 1)],
        [((1, 2), "other way"), ((1, 1), "dt squared"), ((2, 2), "add up"), ((3, 1), "Expand"), (2, "pair")],
    ),
    "resnet-depth": ([272], [(271, "One more"), (270, "search"), (100, "small"), (1000, "large")]),
    "gronwall": ([0.0319453], [(0.0369, "-1"), (0.0639, "Lipschitz"), (0.0739, "starts at 0")]),
    "approximate-pendulum": (
        [lambda: pendulum_network],
        [
            (lambda: lambda p: np.stack([p[:, 1], -np.sin(p[:, 0])], axis=1), "itself"),
            (lambda: lambda p: np.stack([p[:, 1], -p[:, 0]], axis=1), "largest error"),
            (lambda: lambda p: np.stack([p[:, 1], -np.sin(np.clip(p[:, 0], -2, 2))], axis=1), "edge"),
            (lambda: lambda p: p[:3], "shape"),
        ],
    ),
    "euler-steps-to-match": (
        [2 * math.exp(-2) / rk4_error(0.1), 63000],
        [(40, "evaluations"), (1.1e6, "0.05"), (500, "small")],
    ),
    "oscillator": (
        [lambda: damped(1.001, 0.501)],
        [(lambda: damped(2.0, 0.5), "not below"), (lambda: lambda t, y0: y0, "shape")],
    ),
    "learning-rates": (
        [lambda: {rate: lab_descent(rate) for rate in (0.001, 0.005, 0.01, 0.05, 0.1)}],
        [
            (lambda: {rate: lab_descent(rate, 119) for rate in (0.001, 0.005, 0.01, 0.05, 0.1)}, "last update"),
            (lambda: dict.fromkeys((0.001, 0.005, 0.01, 0.05, 0.1), 0.5), "120 epochs"),
            ({0.1: 1.0}, "keys"),
        ],
    ),
    "stable-rate": ([0.04], [(0.02, "bottom"), (10, "flattest"), (0.6667, "middle")]),
    "scalar-adjoint": (
        [SCALAR],
        [
            (np.multiply(SCALAR, 2), "Twice"),
            (np.negative(SCALAR), "signs"),
            (SCALAR[::-1], "order"),
            ((*SCALAR[:3], 0.1), "b2"),
            ((1, 2), "four"),
        ],
    ),
    "adaptive-depth": (
        [depth],
        [
            (lambda y0, tol: depth(y0, tol) + 1, "One off"),
            (lambda y0, tol: max(1, depth(y0, tol)), "before the step"),
            (lambda y0, tol: 0 if y0 < 0 else depth(y0, tol), "absolute"),
            (lambda y0, tol: depth(y0 / 2, tol), "velocity"),
            (lambda y0, tol: 7, "not"),
        ],
    ),
    "disk-annulus": (["b"], [("a", "area"), ("c", "lengths"), ("d", "bounded")]),
    "classify-ring": (
        [lambda p: np.hypot(*p.T) > 0.75],
        [
            (lambda p: np.hypot(*p.T) < 0.75, "swapped"),
            (lambda p: (np.hypot(*p.T) > 0.75) & (p[:, 0] > -1.2), "fresh points"),
            (lambda p: (np.hypot(*p.T) > 0.75) & ~((p[:, 0] > 0) & (np.abs(p[:, 1]) < 1e-3)), "cut at 0"),
            (lambda p: p, "shape"),
        ],
    ),
    "kl-gaussian": ([0.818147], [(1.636294, "1/2"), (0.471574, "ln sigma in"), (0.943147, "sigma in"), (1.18034, "bits")]),
    "policy-gradient": ([-0.190474], [(0.190474, "sign"), (0.7363, "J itself"), (-0.50725, "0.7")]),
    "curriculum": ([curriculum_theta], [(lambda: pn.mlp(1, (8,)).init(0), "Loss"), (3.0, "25")]),
    "capstone": (
        [lambda: van_der_pol(1.002)],
        [
            (lambda: van_der_pol(1.5), "variance"),
            (lambda: van_der_pol(1.0), "true equation"),
            (lambda: lambda t, y0: np.zeros((len(t), 2)), "oscillate"),
        ],
    ),
    "rk4-limit": ([rk4_limit, 0.0557], [(0.04, "Euler"), (2.7853, "not of h"), (0.05, "small")]),
    "robertson-unseen": (["c", "(c)"], [("a", "NaN"), ("b", "another one"), ("d", "seen well"), ("e", "letters")]),
    "insulin-action": ([0.02], [(0.0288, "basal"), (6e-4, "begins"), (0.03, "how soon"), (0.05, "large")]),
}

MADE = {"code-lab", "approximate-pendulum", "oscillator", "learning-rates", "curriculum", "capstone", "rk4-limit"}
"""Answers that take time: given as functions that make them."""


def made(name, answer):
    return answer() if name in MADE and callable(answer) else answer


def test_every_exercise_has_answers():
    assert set(ANSWERS) == set(EXERCISES)
    assert all(right and wrong for right, wrong in ANSWERS.values())


@pytest.mark.parametrize("name", ANSWERS)
def test_right_answers(name):
    for answer in ANSWERS[name][0]:
        verdict = check(name, made(name, answer))
        assert verdict, verdict
        assert verdict.word == "right" and "Right" in verdict._repr_markdown_()


@pytest.mark.parametrize("name", ANSWERS)
def test_wrong_answers_say_what_to_look_at(name):
    for answer, word in ANSWERS[name][1]:
        verdict = check(name, made(name, answer))
        assert not verdict and verdict.answered
        assert word in verdict.message, (answer, verdict.message)


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_is_not_a_wrong_answer(name):
    for nothing in (..., None):
        verdict = check(name, nothing)
        assert not verdict and not verdict.answered and "Wanted" in verdict.message
    assert hint(name).message


def test_an_empty_function_is_no_answer():
    assert not check("gradient-alpha", lambda *v: ...).answered
    assert not check("resnet-orders", (..., ...)).answered
    assert not check("learning-rates", dict.fromkeys((0.001, 0.005, 0.01, 0.05, 0.1), ...)).answered


def test_no_exercise_is_hidden_by_another_of_its_name():
    folder = ROOT / "pynode" / "course" / "exercises"
    files = [import_module(f"pynode.course.exercises.{path.stem}") for path in folder.glob("[!_]*.py")]
    assert sum(len(file.EXERCISES) for file in files) == len(EXERCISES)


def test_an_unknown_exercise_names_those_that_are_near():
    with pytest.raises(ValueError, match="adjoint-memory"):
        check("adjoint-memroy", "b")


def test_the_errata():
    """The numbers that the page prints wrong, right here by independent means."""
    assert pytest.approx((0.547426, 0.209581), abs=1e-6) == (Y1, Y2)

    def loss(w2):
        y1 = 1 + 0.25 * w2 * math.tanh(1.5)
        return 0.5 * (y1 + 0.25 * w2 * math.tanh(1.5 * y1) - 0.37) ** 2

    assert (loss(-2 + 1e-5) - loss(-2 - 1e-5)) / 2e-5 == pytest.approx(-0.0486034, abs=1e-7)
    assert check("gradient-w2", -0.0486034) and check("slope-at-y2", -3 * (1 - math.tanh(1.5 * Y2) ** 2))


def test_scalar_adjoint_against_differences():
    @pn.field(state=1, theta={"w1": 0.8, "b1": -0.2, "w2": -1.0, "b2": 0.3})
    def f(t, y, th):
        return th.w2 * np.tanh(th.w1 * y + th.b1) + th.b2

    def loss(theta):
        return 0.5 * (pn.solve(f, [1.5], [0, 2], theta, rtol=1e-12, atol=1e-13).y[-1, 0] - 0.5) ** 2

    theta = np.array([0.8, -0.2, -1.0, 0.3])
    differences = [(loss(theta + 1e-5 * e) - loss(theta - 1e-5 * e)) / 2e-5 for e in np.eye(4)]
    assert np.allclose(differences, SCALAR, atol=2e-6)


def test_quiz():
    assert sorted(QUESTIONS) == list(range(1, 11))
    for number, question in QUESTIONS.items():
        shown = str(quiz(number))
        assert question.question in shown and all(f"({letter})" in shown for letter in question.options)
        verdicts = {letter: quiz(number, letter) for letter in question.options}
        assert [letter for letter, verdict in verdicts.items() if verdict] == [question.right]
        assert len({verdict.message for verdict in verdicts.values()}) == len(question.options)  # a reason each
        assert not quiz(number, "z") and not quiz(number, ...).answered
    assert "".join(question.right for question in QUESTIONS.values()) == "bdbbbbbbcb"  # the answer key of the course page
    with pytest.raises(ValueError, match="1 to 10"):
        quiz(11)


def test_table_and_text():
    rows = table(["a", "b"], [[1, 0.123456], ["x", np.float64(1e-9)]])
    assert rows.splitlines()[2:] == ["| 1 | 0.1235 |", "| x | 1e-09 |"]
    assert table(["|f|"], [[np.int64(64000)]]).splitlines() == ["| \\|f\\| |", "|---|", "| 64000 |"]
    assert table(["a"], [["|f| = 1"]]).endswith("| \\|f\\| = 1 |")  # a bar would end the cell
    assert text("*so*")._repr_markdown_() == "*so*"


def test_pictures_are_described_in_words():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    ax = figure.subplots()
    for label in ("$-2\\,\\tanh(1.5\\,y)$", "data", "data"):
        ax.plot([0, 1], label=label)
    ax.set(title="t = 0", xlabel="y", ylabel="$\\dot y$")
    assert describe(figure) == "t = 0. Axes: dy/dt against y. Shown: -2 tanh(1.5 y); data."


# ---- The notebooks as files -----------------------------------------------------------------------------------------------


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_clean(path):
    notebook = cells(path)
    assert notebook[0]["cell_type"] == "markdown" and "".join(notebook[0]["source"]).startswith(f"# {path.name[:2]} · ")
    assert "## What to try" in "".join(notebook[-1]["source"])
    for cell in notebook:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            ast.parse("".join(cell["source"]))


def test_every_exercise_is_in_a_notebook_with_hint_and_solution():
    asked, solved = set(), set()
    for path in NOTEBOOKS:
        for cell in cells(path):
            tags = cell["metadata"].get("tags", [])
            names = set(re.findall(r"""check\(?\s*"([\w-]+)\"""", "".join(cell["source"])))
            names |= {name for name in EXERCISES if f'"{name}"' in "".join(cell["source"])}
            if "exercise" in tags:
                asked |= names
            elif "solution" in tags:
                solved |= names
    assert asked == set(EXERCISES)
    assert solved == set(EXERCISES)
