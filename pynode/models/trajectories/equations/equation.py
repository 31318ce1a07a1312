"""The right-hand side of a fitted equation as a person reads it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynode.models.trajectories.series import input_names
from pynode.programs.formula import NotReadable, as_latex, as_text, formulas, latex_name
from pynode.training.sizes import prior_groups

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE


@dataclass(frozen=True)
class Equation:
    """The equation of a model, its numbers those that were fitted; print it, or show it in a notebook.

    Attributes
    ----------
    states : tuple of str
        What is on the left: the names of the states, or of their logarithms.
    right : tuple of str
        The right-hand sides.
    latex : str
        All of it in LaTeX, for a display.
    log_evidence : float
        log p(data), NaN where unknown; it compares with that of other models of the same data.
    words : str
        What the fit says of it.
    """

    states: tuple[str, ...]
    right: tuple[str, ...]
    latex: str
    log_evidence: float
    words: str = ""
    time: str = "t"

    def __str__(self) -> str:
        left = [f"d{name}/d{self.time}" if "(" not in name else f"d {name}/d{self.time}" for name in self.states]
        width = max(map(len, left))
        return "\n".join(f"{a:<{width}} = {b}" for a, b in zip(left, self.right, strict=True))

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex}$"


def equation_of(model: "NeuralODE", digits: int) -> Equation:
    """See `NeuralODE.equation`."""
    field = model.field_
    if model.estimators_:
        raise ValueError("an ensemble has many equations: ask its members, model.estimators_[0].equation()")
    if prior_groups(field):
        if model.field is not None:
            nets = sorted({p.name.rpartition(".")[0] or p.name for p in field.spec if p.init[0] == "normal"})
            raise ValueError(f"{field.name} contains a network ({', '.join(nets)}), which no one can read as an equation")
        raise ValueError(
            "the model is a network, which no one can read as an equation: "
            + (f"{model.report_['message']}; " if "log evidence" in model.report_["message"] else "")
            + "structure='equation' finds the likeliest one of few terms"
        )
    names = list(model.names_)
    names = list(field.state_names) or [*names, *(f"y{k + 1}" for k in range(len(names), field.d))]
    if model.log:
        names = [f"log({name})" for name in names]
    inputs = input_names(model.columns_, field.inputs)
    time = "t" if model.clock_ is not None else model.time_name_ or "t"
    if model.scaling_.u_delay.any():
        inputs = [f"{u}({time} - {x:g})" if x else u for u, x in zip(inputs, model.scaling_.u_delay, strict=True)]
    try:
        if field.callbacks:
            raise NotReadable("it calls Python")
        found = formulas(field.program, [[time], names, inputs], model.theta_.tolist())
    except (NotReadable, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{field.name} cannot be written as an equation: {error}") from None
    rows = [
        rf"\frac{{\mathrm{{d}} {_left(name)}}}{{\mathrm{{d}} {latex_name(time)}}} &= {as_latex(f, digits)}"
        for name, f in zip(names, found, strict=True)
    ]
    latex = r"\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}"
    report: dict[str, Any] = model.report_
    right = tuple(as_text(f, digits) for f in found)
    return Equation(tuple(names), right, latex, float(report["log_evidence"]), report["message"], time)


def _left(name: str) -> str:
    inner = name[4:-1] if name.startswith("log(") else ""
    return rf"\log {latex_name(inner)}" if inner else latex_name(name)
