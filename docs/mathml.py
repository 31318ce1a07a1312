"""Formulas as MathML, written into the pages when they are built.

Browsers draw MathML themselves, so that a formula needs no script, no font file and no network, and screen readers read it.
A formula that cannot be converted is a warning, which the build (docs/build.py) makes an error.
"""

import re
import unicodedata

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

logger = logging.getLogger(__name__)

ALPHABETS = {
    "bold": "MATHEMATICAL BOLD",
    "bold-italic": "MATHEMATICAL BOLD ITALIC",
    "double-struck": "MATHEMATICAL DOUBLE-STRUCK",
    "script": "MATHEMATICAL SCRIPT",
}
"""MathML Core knows mathvariant="normal" only; letters of other alphabets are characters of their own."""
EXCEPTIONS = {"double-struck": "DOUBLE-STRUCK", "script": "SCRIPT"}
"""Letters that Unicode had before: ℝ, ℋ, ..."""
VARIANT = re.compile(r'<(mi|mn) mathvariant="([a-z-]+)">(&#x[0-9A-Fa-f]+;|.)</\1>')
ALIGNED = re.compile(r"\\(begin|end)\{aligned\}")


def letter(character, alphabet):
    """The character in one of the mathematical alphabets, or None where Unicode has none."""
    name = unicodedata.name(character)
    kind, _, tail = name.partition("LETTER ") if "LETTER" in name else name.partition("DIGIT ")
    size = "CAPITAL " if "CAPITAL" in kind else "SMALL " if "SMALL" in kind else "DIGIT "
    for prefix in (ALPHABETS[alphabet], EXCEPTIONS.get(alphabet, "")):
        try:
            return unicodedata.lookup(f"{prefix} {size}{tail}".strip())
        except KeyError:
            continue
    return None


def with_letters(match):
    tag, alphabet, text = match.groups()
    character = chr(int(text[3:-1], 16)) if text.startswith("&#x") else text
    if alphabet not in ALPHABETS:
        return match[0]
    found = letter(character, alphabet)
    if found is None:
        raise ValueError(f"Unicode has no {alphabet} {character!r}")
    return f"<{tag}>{found}</{tag}>"


def mathml(latex, display):
    """MathML of a formula; `display` is "inline" or "block"."""
    written = VARIANT.sub(with_letters, convert(ALIGNED.sub(r"\\\1{align*}", latex), display=display))
    if "\\" in written or "<mi>&</mi>" in written:
        raise ValueError("a command in it is not known")
    return written


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
