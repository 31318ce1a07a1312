"""Formulas as MathML, written into the pages when they are built.

Browsers draw MathML themselves, so that a formula needs no script, no font file and no network, and screen readers read it.
A formula that cannot be converted is a warning, which the build (docs/build.py) makes an error.
"""

from docutils import nodes
from formulas import mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def visit(display, before, after):
    def visitor(translator, node):
        try:
            written = mathml(node.astext(), display)
        except Exception as error:
            logger.warning("formula %r: %s", node.astext(), error, location=node)
            written = f"<code>{translator.encode(node.astext())}</code>"
        translator.body.append(before + written + after)
        raise nodes.SkipNode

    return visitor


def setup(app):
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(visit("inline", "", ""), None),
        block_renderers=(visit("block", '<div class="math-block" tabindex="0">', "</div>\n"), None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
