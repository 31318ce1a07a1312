"""LaTeX to MathML, for the pages of the site and for those that compute in the browser."""

import re
import unicodedata
from html import escape

from latex2mathml.converter import convert

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


def with_formulas(text):
    """Text with formulas between dollars as HTML."""
    parts = text.split("$")
    if len(parts) % 2 == 0:
        raise ValueError(f"a dollar is missing in {text!r}")
    return "".join(mathml(part, "inline") if i % 2 else escape(part) for i, part in enumerate(parts))
