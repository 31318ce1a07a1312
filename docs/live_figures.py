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
        "Each intermediate number of a solve and its gradient, while you move the parameters.",
        ("course/02_worked_examples",),
    ),
    "adjoint": Place(
        "The adjoint as a push",
        "Push the state a little at some time: the adjoint says how much the loss answers.",
        ("course/03_adjoint",),
    ),
    "code_lab": Place(
        "The code lab",
        "A network learns a decay from noisy data, with every knob of the lab.",
        ("course/04_code_lab", "code-lab"),
    ),
    "resnet_depth": Place(
        "Depth is time",
        "A residual network of N layers beside the flow that it becomes.",
        ("course/05_resnet_is_euler",),
    ),
    "topology": Place(
        "What a flow cannot do",
        "Draw two classes and watch a flow try to part them, with and without a further dimension.",
        ("course/06_topology",),
    ),
    "rk4_against_euler": Place(
        "RK4 against Euler",
        "Drag the step: what both methods make of the same decay.",
        ("course/08_rk4_against_euler",),
    ),
    "learning_rates": Place(
        "Learning rates, raced",
        "Five learning rates train the same network side by side.",
        ("course/10_learning_rates",),
    ),
    "adaptive_depth": Place(
        "Stop when there is nothing left to do",
        "How many steps each start takes until its velocity is small.",
        ("course/12_adaptive_depth",),
    ),
    "curriculum": Place(
        "Short horizons first",
        "Training on a growing time interval beside training on all of it.",
        ("course/13_curriculum",),
    ),
    "capstone": Place(
        "The capstone, with your data",
        "Draw or upload noisy trajectories, fit them in the page, and look around in the field that was learned.",
        ("course/16_capstone",),
    ),
    "quiz": Place(
        "The quiz, with reasons",
        "Ten questions; every answer is told why.",
        ("course/17_quiz",),
    ),
    "stiff_steps": Place(
        "Stiff steps",
        "The steps of an explicit and of an implicit method on an equation that is made stiffer and stiffer.",
        ("course/19_stiffness",),
    ),
    "bouncing_ball": Place(
        "A ball that bounces",
        "Events: the solver finds each impact, and the gradient knows how it moves.",
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
