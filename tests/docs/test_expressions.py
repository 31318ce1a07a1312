"""Fields as text: precedence and values as in Python, errors with their place, and no others whatever is typed."""

import json
import math
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import pynode as pn

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """answers(calls) -> what tests/docs/expressions.mjs answers."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs)")
    folder = tmp_path_factory.mktemp("modules")
    for path in [
        *(ROOT / "wasm").glob("*.mjs"),
        *(ROOT / "docs" / "live" / "parts").glob("*.mjs"),
        ROOT / "wasm" / "pynode.wasm.gz",
    ]:
        shutil.copy(path, folder)

    def answers(calls):
        script = Path(__file__).with_name("expressions.mjs")
        done = subprocess.run(
            [node, str(script), str(folder)], input=json.dumps(calls), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return answers


NAMES = {
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "exp", "log", "sqrt", "abs", "tanh")},
    "atan": np.arctan,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "relu": lambda x: np.maximum(x, 0),
    "erf": math.erf,
    "min": lambda *x: np.min(x),
    "max": lambda *x: np.max(x),
    "pi": np.pi,
    "e": np.e,
}
ONE = ["sin", "cos", "atan", "tanh", "sigmoid", "softplus", "relu", "erf", "abs"]


def expression(rng, depth):
    """A random expression, with as few parentheses as it happens to have."""
    if depth == 0 or rng.random() < 0.15:
        return rng.choice(["x", "v", "t", "a", "b", "pi", "e", "2", "0.5", "3e-1", ".25"])
    kind = rng.random()
    part = lambda: expression(rng, depth - 1)  # noqa: E731
    if kind < 0.6:
        return f"{part()} {rng.choice('+-*/')} {part()}"
    if kind < 0.7:
        return f"-{part()}"
    if kind < 0.78:
        return f"({part()})^{rng.choice(['2', '3', '-1', '-2', '5'])}"
    if kind < 0.84:
        return f"{rng.choice(['x', 'v', 'e', '2'])}^{rng.choice(['2', '-2', '2^-1', 'abs(t)'])}"
    if kind < 0.96:
        return f"{rng.choice(ONE)}({part()})"
    return f"{rng.choice(['min', 'max'])}({part()}, {part()}, {part()})"


def test_values_are_those_of_python(answers):
    rng = random.Random(0)
    texts = [expression(rng, 4) for _ in range(3000)]
    point = {"x": 1.3, "v": 0.7, "t": 0.4, "a": 0.9, "b": 1.7}
    calls = [
        {"text": f"x' = {text}\nv' = 1\nc = a + b", "t": 0.4, "y": [1.3, 0.7]}  # all names but x, v, t, pi, e are parameters
        for text in texts
    ]
    found = answers(calls)
    for call, one in zip(calls, found, strict=True):
        call["theta"] = [point[name] for name in one["names"]]
    compared = 0
    for text, one in zip(texts, answers(calls), strict=True):
        assert sorted(one["names"]) == ["a", "b"]
        try:
            with np.errstate(all="ignore"):
                expected = float(eval(text.replace("^", "**"), NAMES | {name: np.float64(x) for name, x in point.items()}))
        except (OverflowError, ZeroDivisionError, ValueError):
            continue
        if np.isfinite(expected) and abs(expected) < 1e6:
            assert float(one["value"][0]) == pytest.approx(expected, rel=1e-9, abs=1e-9), text
            compared += 1
    assert compared > 2500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x' = where(x > 0.5, 1, 2)", 1.0),
        ("x' = where(x <= 1, 1, 2)", 1.0),
        ("x' = where(x >= 1, 1, 2)", 1.0),
        ("x' = where(1 < x, 1, 2)", 2.0),
        ("x' = log(e) + sqrt(4) - tan(0) # x' = 5", 3.0),
        ("x' = 2**3^2/2^9", 1.0),
        ("x' = -x^2", -1.0),
        ("k = -3 in [-5, 1]\nx' = k*x\nx(0) = 2", -6.0),
        ("k = 2*3\nx' = k*x", 6.0),
        ("x\u2019 = \u03bc*x\n\u03bc = 4", 4.0),
        ("x' = constructor + __proto__\n__proto__ = 3\ntoString = 2", 4.0),
    ],
)
def test_meanings(answers, text, expected):
    assert answers([{"text": text}])[0]["value"] == [expected]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("x' = 2x", (1, 7), "a product is 2*x"),
        ("x' = x(1 - x)", (1, 6), "A product is x*(...)"),
        ("v' = x\nx' = sin x", (2, 10), "sin(...)"),
        ("x' = (x + 1", (1, 12), "column 6 is not closed"),
        ("x' = x + 1)", (1, 11), "never opened"),
        ("x' = x +", (1, 9), "the end of the line"),
        ("x' = x @ 2", (1, 8), "the character @"),
        ("x'' = -x", (1, 3), "a second derivative is two lines"),
        ("x' = v'", (1, 7), "only at the beginning of a line"),
        ("sin' = 1", (1, 1), "its meaning already"),
        ("x' = 1\nx' = 2", (2, 1), "given in line 1 already"),
        ("mu = 1", (1, 1), "there has to be an equation"),
        ("x' = min(x)", (1, 6), "min takes 2 to 20 arguments, not 1"),
        ("x' = where(x, 1, 2)", (1, 13), "begins with a comparison"),
        ("x' = x > 1", (1, 8), "only first in where"),
        ("x' = sin(x > 1)", (1, 12), "only first in where"),
        ("x' = net(x)", (1, 11), "net(x; 8)"),
        ("x' = net(x; 0)", (1, 13), "from 1 to 64, not 0"),
        ("x' = 1e999", (1, 6), "too large"),
        ("x' = -x\nv(0) = 1", (2, 1), "no line says v' ="),
        ("x' = -x\nx(1) = 1", (2, 1), "x(0) ="),
        ("k = 2 in [3, 4]\nx' = k", (1, 7), "no range with k = 2 in it"),
        ("a = b + 1\nb = 2*x\nx' = a", (1, 5), "before line 2 says"),
        ("x' = " + "(" * 100 + "x" + ")" * 100, (1, 66), "more than 60 levels"),
        ("x' = " + "+".join("x" * 400), (1, 605), "300 operations deep"),
        ("x' = " + "x" * 5000, (1, 1), "at most 4000"),
    ],
)
def test_errors_say_where_and_what(answers, text, place, words):
    got = answers([{"text": text}])[0]
    assert words in got["error"]
    assert (got["line"], got["column"]) == place


SIGNS = """x v ' = ( ) + - * / ^ ** , ; < > <= 2 1e3 in [ ] # net where sin min t pi mu @ \u03b8 \U0001f600"""
PIECES = [*SIGNS.split(), "\n", " ", "x' = ", "v' = ", "net(x; 8)", "where(t > 2, x, v)", "x(0) = 1", "mu = 2 in [0, 5]\n"]


def test_whatever_is_typed_there_is_an_answer(answers):
    rng = random.Random(1)
    soup = ["".join(rng.choices(PIECES, k=rng.randint(0, 30))) for _ in range(10000)]
    soup += ["".join(map(chr, (rng.randint(1, 0x2FFF) for _ in range(rng.randint(0, 40))))) for _ in range(3000)]
    good = "mu = 2 in [0, 5]\nr = sqrt(x^2 + v^2)\nx' = v*where(t > 2, 1, r)\nv' = mu*net(x, v; 4)\nx(0) = 1"
    for _ in range(10000):
        at, length = rng.randrange(len(good)), rng.randint(0, 3)
        soup.append(good[:at] + "".join(rng.choices(PIECES, k=rng.randint(0, 2))) + good[at + length :])
    found = answers([{"text": text} for text in soup])
    assert sum("value" in one for one in found) > 500
    assert not [one for one in found if "core" in one]
    assert all(one.get("line", 1) >= 1 and one.get("column", 1) >= 1 for one in found)


MODELS = {
    "van_der_pol": "mu = 2 in [0, 5]\nx' = v\nv' = mu*(1 - x^2)*v - x\nx(0) = 0.5",
    "switch": "x' = where(2*t - 1 < 0.4, -k*x, lambda - x)\nlambda = 0.3",
    "network": "x' = net(x, v; 5, 3) + net(v; 2)\nv' = -x^3/(1 + abs(v)) - (x - v)*-2^-x",
    "y_itself": "y' = -(y - state)*min(y, 2, t)\nth' = tan(y/9) - -th - (1 - (2 - th))/(3/(4/y))\nstate = 2\nf = 1.5",
}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_in_python(answers, name):
    got = answers([{"text": MODELS[name], "t": 0.3}])[0]
    names = {}
    exec(got["python"], names)
    f = names["f"]
    assert f.n_params == len(got["theta"])
    starts = [0.5 if name == "van_der_pol" else 1.0, 1.0][: f.d]
    assert np.allclose(f(0.3, starts, got["theta"]), got["value"], rtol=1e-13, atol=1e-13)
    assert names["y"].shape == (801, f.d)
    assert [at for at, _ in got["breaks"]] == f.program.breaks[:, 0].tolist()
    assert isinstance(f, pn.Field)
