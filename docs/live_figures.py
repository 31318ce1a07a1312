"""Sphinx: where the site shows the live pages of docs/live/, and the list of them in docs/live.md.

The notebooks stay as they are: a figure is added to the document when it is read, before its first code.
"""

from dataclasses import dataclass
from html import escape

import live_pages
from docutils import nodes

LIST = "<!-- live figures -->"
"""Where docs/live.md has the list."""


@dataclass(frozen=True)
class Place:
    """Where a live page is shown; `section`: the id of a section, or "" for the document."""

    title: str
    about: str
    documents: tuple[str, ...]
    section: str = ""


PLACES = {
    "learning_portrait": Place(
        "A field that is being learned",
        "A network learns a limit cycle from noisy measurements; drag its initial state meanwhile.",
        ("index",),
    ),
    "field_editor": Place(
        "Write a field of your own",
        "Equations as text, a slider for each parameter, trajectories, phase portrait and sensitivities.",
        ("course/01_what_is_a_neural_ode",),
    ),
    "worked_examples": Place(
        "The worked examples, number by number",
        "Two Euler steps and one gradient of a single unit, number by number, while you move its start.",
        ("course/02_worked_examples",),
    ),
    "adjoint": Place(
        "The adjoint as a push",
        "Push the state at some time: the adjoint says how much the loss answers.",
        ("course/03_adjoint",),
    ),
    "code_lab": Place(
        "The code lab",
        "A network learns a decay from noisy data, with every knob of the lab.",
        ("course/04_code_lab", "code-lab"),
    ),
    "resnet_depth": Place(
        "Depth is time",
        "A residual network of N layers beside the flow that it follows in Euler steps.",
        ("course/05_resnet_is_euler",),
    ),
    "topology": Place(
        "A flow bends the plane, and cannot tear it",
        "Paint two classes and watch flows try to part them, in the plane and with a third dimension.",
        ("course/06_topology",),
    ),
    "rk4_against_euler": Place(
        "RK4 against Euler",
        "Drag the step: what three methods make of the same equation.",
        ("course/08_rk4_against_euler",),
    ),
    "learning_rates": Place(
        "Learning rates, raced",
        "Three optimisers run down the same loss side by side, each with its rate.",
        ("course/10_learning_rates",),
    ),
    "adaptive_depth": Place(
        "Adaptive depth: steps where they are needed",
        "Where an adaptive solver puts its steps, and what accuracy costs.",
        ("course/12_adaptive_depth",),
    ),
    "curriculum": Place(
        "Short horizons first",
        "Training on a horizon that grows beside training on whole trajectories.",
        ("course/13_curriculum",),
    ),
    "capstone": Place(
        "The capstone: learn a phase portrait",
        "Draw noisy trajectories or load your own, fit them in the page, and look around in the field that was learned.",
        ("course/16_capstone",),
    ),
    "quiz": Place(
        "The quiz, with reasons",
        "Ten questions; every answer is told why.",
        ("course/17_quiz",),
    ),
    "stiff_steps": Place(
        "Steps of a stiff equation",
        "Where an explicit and an implicit method put their steps on an equation that becomes stiffer and stiffer.",
        ("course/19_stiffness",),
    ),
    "bouncing_ball": Place(
        "A bouncing ball",
        "Events: the solver finds each impact; without them the ball sinks into the floor.",
        ("guide",),
        section="events",
    ),
}


def places():
    """The places of the live pages that exist, in the order of the course."""
    there = live_pages.names()
    return {name: place for name, place in PLACES.items() if name in there}


def figure(name, place, root):
    """A live page in a frame, as HTML; `root`: the way from the document to the top of the site."""
    address = f"{root}live/{name}.html"
    title = escape(place.title)
    return (
        f'<div class="live"><iframe src="{address}" title="{title}: a live figure" loading="lazy"></iframe>'
        f'<p><a href="{address}">{title}, on a page of its own</a>. {escape(place.about)}</p></div>'
    )


def is_code(node):
    return isinstance(node, nodes.literal_block) or (isinstance(node, nodes.container) and "cell" in node["classes"])


def add(doctree, name, place, root):
    """Put a live page before the first code of its section, or after its first paragraph where there is none."""
    sections = [node for node in doctree.findall(nodes.section) if not place.section or place.section in node["ids"]]
    if not sections:
        raise LookupError(f"live figure {name}: {place.documents} has no section {place.section!r}")
    added = nodes.raw("", figure(name, place, root), format="html")
    code = next(sections[0].findall(is_code), None)
    at = code if code is not None else next(sections[0].findall(nodes.paragraph))
    at.parent.insert(at.parent.index(at) + (code is None), added)


def on_doctree(app, doctree):
    document = app.env.docname
    root = "../" * document.count("/")
    for name, place in places().items():
        if document in place.documents:
            add(doctree, name, place, root)


def listed(of):
    """The list of live pages, as Markdown."""
    rows = []
    for name, place in of.items():
        where = ", ".join(
            "the {doc}`front page <index>`" if document == "index" else f"{{doc}}`{document}`"
            for document in place.documents
        )
        rows.append(f'- <a href="live/{name}.html">{escape(place.title)}</a>: {place.about} In {where}.')
    return "\n".join(rows)


def on_source(app, document, source):
    source[0] = source[0].replace(LIST, listed(places()))


def setup(app):
    shown = {name: (place.title, place.about, place.documents, place.section) for name, place in places().items()}
    app.add_config_value("live_figures", shown, "env", types=[dict])  # another list: documents are read again
    app.add_js_file("live.js")
    app.connect("source-read", on_source)
    app.connect("doctree-read", on_doctree)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
