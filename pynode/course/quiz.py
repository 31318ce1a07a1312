"""The quiz: ten questions, an answer at once, and the reason for every option.

The letters are those of the answer key of the course page, whose answers are b, d, b, b, b, b, b, b, c, b.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import EllipsisType

from pynode.course.answers import Verdict, as_letter
from pynode.course.show import Markdown, text


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes
    ----------
    question : str
        Markdown.
    right : str
        The letter of the right option.
    options : mapping of str to (str, str)
        Letter -> (option, the reason why it is right or wrong).
    """

    question: str
    right: str
    options: Mapping[str, tuple[str, str]]


QUESTIONS: dict[int, Question] = {
    1: Question(
        "Which equation defines a Neural ODE?",
        "b",
        {
            "a": ("$\\mathbf y = f_\\theta(\\mathbf x)$", "That is a plain network: input in, output out, no time."),
            "b": (
                "$\\dot{\\mathbf y} = f_\\theta(t, \\mathbf y)$ with $\\mathbf y(t_0) = \\mathbf y_0$",
                "The network gives the velocity, a solver the path.",
            ),
            "c": (
                "$\\mathbf y_{k+1} = f_\\theta(\\mathbf y_k)$",
                "That is a recurrent map: discrete time, and no notion of a small step.",
            ),
            "d": (
                "$\\dot\\theta = -\\nabla_\\theta L$",
                "That is gradient flow: the parameters move, not the state.",
            ),
        },
    ),
    2: Question(
        "How much memory does the continuous adjoint need, in the number $N$ of solver steps?",
        "d",
        {
            "a": ("$O(N)$", "That is backpropagation through the steps, which keeps each state."),
            "b": ("$O(\\log N)$", "Recursive checkpointing reaches that, at the price of solving parts again."),
            "c": ("$O(N^2)$", "Nothing here grows faster than the number of steps."),
            "d": ("$O(1)$", "Only the current state, adjoint and sum: the path is solved again, backwards."),
        },
    ),
    3: Question(
        "The flow map of a Neural ODE in $\\mathbb R^d$ with a Lipschitz field is",
        "b",
        {
            "a": (
                "any continuous function",
                "No: it cannot fold, tear or merge. $x \\mapsto -x$ on the line is out of reach.",
            ),
            "b": (
                "a homeomorphism: continuous, one-to-one, with a continuous inverse",
                "Paths cannot cross and can be run backwards. With a smooth field it is even a diffeomorphism.",
            ),
            "c": ("always linear", "Only if the field is linear."),
            "d": ("one-to-one, but not invertible", "Solving backwards in time is the inverse."),
        },
    ),
    4: Question(
        "The residual update $\\mathbf h_{k+1} = \\mathbf h_k + \\frac1N f_\\theta(\\mathbf h_k)$ is which method?",
        "b",
        {
            "a": ("the implicit midpoint rule", "That evaluates $f$ at the average of the old and the unknown new state."),
            "b": ("forward Euler with step $1/N$", "State plus step times slope at the old state."),
            "c": ("classical Runge-Kutta", "That looks at the field four times a step; here it is once."),
            "d": (
                "backward Euler",
                "That evaluates $f$ at the new state, and would need an equation to be solved in each layer.",
            ),
        },
    ),
    5: Question(
        "Which equation does the adjoint $\\mathbf a(t) = \\partial L/\\partial\\mathbf y(t)$ satisfy?",
        "b",
        {
            "a": (
                "$\\dot{\\mathbf a} = +(\\partial f/\\partial\\mathbf y)^\\top \\mathbf a$",
                "The sign. Along a path $\\mathbf a^\\top\\delta\\mathbf y$ stays constant, "
                "and $\\delta\\mathbf y$ grows with "
                "$+\\partial f/\\partial\\mathbf y$.",
            ),
            "b": (
                "$\\dot{\\mathbf a} = -(\\partial f/\\partial\\mathbf y)^\\top \\mathbf a$, from $t_1$ backwards",
                "Its end value $\\partial L/\\partial\\mathbf y(t_1)$ is known, its start value is wanted.",
            ),
            "c": (
                "$\\dot{\\mathbf a} = -\\partial f/\\partial\\theta$",
                "$\\partial f/\\partial\\theta$ enters the integral for the gradient of $\\theta$, not the adjoint itself.",
            ),
            "d": (
                "$\\dot{\\mathbf a} = f_\\theta(t, \\mathbf a)$",
                "The adjoint equation is linear in $\\mathbf a$, whatever $f$.",
            ),
        },
    ),
    6: Question(
        "Why can the continuous adjoint give a less accurate gradient than backpropagation through the solver?",
        "b",
        {
            "a": ("It uses lower-precision arithmetic", "The precision is the same."),
            "b": (
                "It solves another problem backwards; errors of both solves add up, worst where y is unstable backwards",
                "Notebook 03 shows it fail on a fast decaying state and in chaos.",
            ),
            "c": ("It is random", "Nothing in it is drawn at random."),
            "d": ("It ignores part of the parameters", "Every parameter has its integral."),
        },
    ),
    7: Question(
        "What does a Latent ODE have over a plain recurrent network for time series?",
        "b",
        {
            "a": ("it needs no training", "It is trained, through encoder, ODE and decoder."),
            "b": (
                "its state exists at every time, so irregular gaps need no tricks",
                "The ODE is evaluated where the data are. A recurrent network counts steps, whatever their length.",
            ),
            "c": ("it cannot overfit", "It can, as any flexible model."),
            "d": ("it has no latent state", "It has one; that is its name."),
        },
    ),
    8: Question(
        "Which limit of Neural ODEs does augmentation remove?",
        "b",
        {
            "a": ("They need too many parameters", "Augmentation adds some."),
            "b": (
                "Flows in $\\mathbb R^d$ cannot change topology",
                "With extra dimensions paths go around each other: what must cross on a line passes in the plane.",
            ),
            "c": ("They can be solved by Euler's method only", "Any solver will do, with or without."),
            "d": ("They are slow to differentiate", "Augmentation does not change how the gradient is computed."),
        },
    ),
    9: Question(
        "In the agent's view of a Neural ODE, what plays the policy?",
        "c",
        {
            "a": ("the loss", "The loss, with a minus, is the return."),
            "b": ("the solver", "The solver plays the episode: it carries the state on."),
            "c": ("the network $f_\\theta$", "It maps a state to what to do there: a velocity, chosen without chance."),
            "d": ("the initial state", "That is where an episode begins."),
        },
    ),
    10: Question(
        "What does the universal approximation theorem ask of the field $g$?",
        "b",
        {
            "a": ("that it is infinitely often differentiable", "Much less is enough."),
            "b": (
                "that it is continuous, on a compact set",
                "One hidden layer with enough units then comes as close as you like, there.",
            ),
            "c": ("that it is linear", "Then no network would be needed."),
            "d": ("that it is bounded on all of $\\mathbb R^d$", "Nothing is said, or needed, outside the compact set."),
        },
    ),
}


def quiz(number: int, answer: str | EllipsisType | None = None) -> Verdict | Markdown:
    """A question of the quiz, or what is to be said of an answer.

    Parameters
    ----------
    number : int
        1 to 10.
    answer : str, optional
        A letter (``...``: no answer yet). Without it, the question is shown.

    Returns
    -------
    Verdict or Markdown
        What is to be said of the answer; or the question, which notebooks show as Markdown.

    Raises
    ------
    ValueError
        There is no question of this number.

    See Also
    --------
    pynode.course.check

    Examples
    --------
    >>> from pynode.course import quiz
    >>> quiz(2, "a")
    not yet: That is backpropagation through the steps, which keeps each state.
    """
    if number not in QUESTIONS:
        raise ValueError(f"the quiz has questions 1 to {len(QUESTIONS)}, not {number!r}")
    question = QUESTIONS[number]
    if answer is ...:
        return Verdict(False, f"Put a letter: {', '.join(question.options)}.", answered=False)
    if answer is None:
        lines = [f"**Question {number}.** {question.question}", ""]
        lines += [f"- ({letter}) {option}" for letter, (option, _) in question.options.items()]
        return text("\n".join(lines))
    letter = as_letter(answer)
    if letter not in question.options:
        return Verdict(False, f"The options are {', '.join(question.options)}, not {answer!r}.")
    return Verdict(letter == question.right, question.options[letter][1])
