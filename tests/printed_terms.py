"""The terms of a fitted equation and their numbers, read from what it prints."""

import re


def terms_of(model, digits=12):
    """{"y2: y1^2*y2": number}, the factors of each term in order of the alphabet; "1" is the constant."""
    equation = model.equation(digits)
    return {
        f"{state}: {name}": value
        for state, right in zip(equation.states, equation.right, strict=True)
        for name, value in map(_term, _split(right, r" [+-] ", keep=True))
    }


def _term(text):
    """(name, number) of "- 0.25*y2*y1^2"."""
    sign, size, rest = re.fullmatch(r"\s*([+-]?)\s*([0-9.]+(?:e[+-]?[0-9]+)?)?\*?(.*)", text).groups()
    name = "*".join(sorted(_split(rest, r"\*"))) or "1"
    if name.startswith("/"):
        name = "1" + name
    return name, float(size or 1) * (-1 if sign == "-" else 1)


def _split(text, at, keep=False):
    """Parts between what `at` matches outside brackets; keep: it begins the next part."""
    parts = [""]
    depth = k = 0
    while k < len(text):
        found = None if depth else re.compile(at).match(text, k)
        if found and k:
            parts.append(found.group() if keep else "")
            k = found.end()
            continue
        depth += {"(": 1, ")": -1}.get(text[k], 0)
        parts[-1] += text[k]
        k += 1
    return parts
