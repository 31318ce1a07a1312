"""A field or a fitted model as one page of HTML that solves it in the reader's browser, offline; `html`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode._version import __version__
from pynode.data.arrays import real_array
from pynode.data.files import write_bytes
from pynode.data.labels import by_name
from pynode.engine.options import METHODS, Options
from pynode.fields.field import Field
from pynode.fields.parameters import Parameter, checked_theta, ordered

MODULES = ("program", "core", "field", "solve", "plot", "slider", "page")
"""The files of wasm/ that the page needs, each after those that it imports."""

HERE = Path(__file__).resolve().parent

MOST_SLIDERS = 12

MOST_COMPONENTS = 4
"""A parameter of more numbers has no sliders."""

NETWORK = re.compile(r"(.*\.)?([Wb]\d+|A|P2|P3)")
"""The names of a network's weights."""

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2733; --soft: #5d6b78; --line: #e1e5e9;
  --series-0: #0072b2; --series-1: #c04a00; --series-2: #00795a; --series-3: #a8487f; --series-4: #8a6d00;
  --series-5: #2a7fb0; }
@media (prefers-color-scheme: dark) { :root { --paper: #14191f; --ink: #e6eaee; --soft: #a3afba; --line: #303a44;
  --series-0: #56b4e9; --series-1: #ff9a52; --series-2: #3fd0a4; --series-3: #e79ac6; --series-4: #e6c94d;
  --series-5: #9ad4f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .4rem 0; } h2 { font-size: 1.1rem; margin: .4rem 0; }
p { max-width: 75ch; margin: .4rem 0; } .soft { color: var(--soft); font-size: .92rem; }
.page { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 20rem); gap: 1rem 2rem; align-items: start; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; } canvas { display: block; width: 100%; height: 340px; }
fieldset { border: 1px solid var(--line); border-radius: 6px; margin: 0 0 .8rem; padding: .4rem .8rem .6rem; }
fieldset label { display: grid; grid-template-columns: 5.5rem minmax(0, 1fr) 4.5rem; gap: .5rem; align-items: center;
  min-height: 2.4rem; }
fieldset label span { overflow-wrap: anywhere; } output { text-align: right; font-variant-numeric: tabular-nums; }
input[type=range] { width: 100%; accent-color: var(--series-0); } select, button { font: inherit; padding: .3rem .8rem; }
#legend { list-style: none; padding: 0; margin: .2rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
#legend li::before { content: ""; display: inline-block; width: 1.4em; height: .25em; margin-right: .5em;
  vertical-align: middle; background: var(--key); }
#message { color: var(--series-1); font-weight: 600; min-height: 1.5em; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
[hidden] { display: none !important; }
@media (max-width: 760px) { .page { display: block; } form { margin-top: 1rem; } canvas { height: 280px; } }
"""

BODY = """<main>
<h1>{title}</h1>
<p>{about}</p>
<p id="message" role="status" aria-live="polite"></p>
<div class="page">
<div>
<div class="figures">
<figure><h2>Over time</h2><ul id="legend"></ul><canvas id="over-time"></canvas></figure>
<figure id="phase-figure"><h2>Phase portrait</h2>
<p id="phase-choice"><label>Across <select id="phase-x"></select></label>
<label>Up <select id="phase-y"></select></label></p>
<canvas id="phase"></canvas><p class="soft">Drag in the figure to move the initial state (the large dot).</p></figure>
</div>
<details><summary>The numbers as a table</summary><div class="scroll"><table id="table"></table></div></details>
</div>
<form aria-label="Sliders" onsubmit="return false">
<fieldset id="states"><legend>Initial state</legend></fieldset>
<fieldset id="parameters"><legend>Parameters</legend></fieldset>
<fieldset id="inputs"><legend>Inputs (constant)</legend></fieldset>
<fieldset id="time"><legend>Until</legend></fieldset>
<button type="button" id="reset">Reset</button>
</form>
</div>
<p class="soft">{foot} The page needs no network: the solver of pynode {version} is inside it, as WebAssembly.</p>
<noscript><p>This page needs JavaScript.</p></noscript>
</main>"""


def html(
    field: Field,
    theta: ArrayLike | Mapping[str, Any] | None,
    path: str | PathLike[str] | None = None,
    *,
    y0: ArrayLike,
    t: tuple[float, float],
    title: str | None = None,
    about: str = "",
    draws: ArrayLike | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    states: Sequence[str] | None = None,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: ArrayLike = 1e-8,
) -> str:
    """Write a page that solves a field in the reader's browser, with sliders for its initial state and parameters.

    Parameters
    ----------
    field : Field
        A traced field or a network.
    theta : (p,) array, nested dict or None
        Its parameters.
    path : path, optional
        Where the page is written to; it is returned, too.
    y0 : (d,) array_like
        Where the sliders of the initial state begin.
    t : pair of float
        The first time, and the last one at the start.
    title : str, optional
        Heading; default: the field's name.
    about : str, default ""
        A sentence below it.
    draws : (n, p) array_like, optional
        Draws of theta from its posterior: the page shows the middle 90 % of their solutions as bands.
    ranges : dict, optional
        Name of a state or a parameter -> (low, high) of its slider.
    states : sequence of str, optional
        Names of the states; default: the field's.
    method, rtol, atol : as in `pynode.solve`
        How the page solves.

    Returns
    -------
    str
        The page.

    Raises
    ------
    ValueError
        The field calls Python, or the arguments do not fit it.

    Examples
    --------
    >>> import pynode as pn
    >>> @pn.field(state=["x", "v"], theta={"k": 2.0})
    ... def spring(t, y, th):
    ...     return [y[1], -th.k * y[0]]
    >>> page = pn.export.html(spring, [2.0], y0=[1.0, 0.0], t=(0.0, 10.0))
    >>> page.startswith("<!doctype html>")
    True
    """
    content = page_content(field, theta, y0, t, draws, ranges, states)
    content["options"] = solving(field.d, method, rtol, atol)
    return written(content, path, title or field.name, about)


def page_content(
    field: Field,
    theta: Any,
    y0: Any,
    t: tuple[float, float],
    draws: Any = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    states: Sequence[str] | None = None,
) -> dict[str, Any]:
    """What the page is told, in the units of the field: nothing is scaled.

    Parameters
    ----------
    field, theta, y0, t, draws, ranges, states
        As in `html`.

    Returns
    -------
    dict
        Plain data; callers may change its members before `written`.
    """
    if not isinstance(field, Field):
        raise TypeError(f"field must be a Field, not {type(field).__name__}; a fitted model has model.export_html()")
    vector = checked_theta(field.spec, theta)
    given = list(states) if states is not None else list(field.state_names)
    start = _finite("y0", by_name("y0", y0, given))
    names = given or [f"y{i}" for i in range(field.d)]
    if start.shape != (field.d,) or len(names) != field.d:
        raise ValueError(f"{field.name} has {field.d} states; y0 has shape {start.shape}, and {len(names)} states are named")
    if len(set(names)) < len(names):
        raise ValueError(f"states={names!r} names a state twice: sliders and legend go by names")
    samples = np.zeros((0, field.n_params)) if draws is None else _finite("draws", ordered(field.spec, draws))
    if samples.ndim != 2 or samples.shape[1] != field.n_params:
        raise ValueError(f"draws has shape {samples.shape}: give (n, {field.n_params}), a row a draw")
    first, last = _pair("t", t)
    if not first < last:
        raise ValueError(f"t={t!r} must be the first and a later time")
    sliders = [*_slider_places(field.spec)]
    wanted = dict(ranges or {})
    unknown = sorted(wanted.keys() - {*names, *(name for name, _ in sliders)})
    if unknown:
        raise ValueError(
            f"ranges names {unknown[0]!r}, which has no slider; there are {', '.join([*names, *dict(sliders)])}"
        )
    return {
        "field": json.loads(field.to_json()),
        "breaks": field.program.breaks.tolist(),
        "theta": vector.tolist(),
        "draws": [[float(f"{x:.7g}") for x in row] for row in samples.tolist()],
        "states": [_slider(name, x, wanted) for name, x in zip(names, start.tolist(), strict=True)],
        "parameters": [_slider(name, float(vector[at]), wanted) | {"place": at} for name, at in sliders],
        "inputs": [_slider(f"u{i}", 0.0, wanted) for i in range(field.inputs)],
        "time": {
            "name": "t",
            "start": first,
            "end": last,
            "low": first + (last - first) / 20,
            "high": first + 3 * (last - first),
        },
        "scaling": {
            "shift": [0.0] * field.d,
            "scale": [1.0] * field.d,
            "log": False,
            "extra": 0,
            "t_shift": 0.0,
            "t_scale": 1.0,
            "u_shift": [0.0] * field.inputs,
            "u_scale": [1.0] * field.inputs,
        },
        "data": [],
        "options": {},
    }


def solving(d: int, method: Any, rtol: Any, atol: Any) -> dict[str, Any]:
    """How the page solves, checked here: its reader could not mend it.

    Parameters
    ----------
    d : int
        How many states there are.
    method, rtol, atol
        As in `html`.

    Returns
    -------
    dict
        The member "options" of the content.
    """
    if not isinstance(method, str):
        raise ValueError(f"method={method!r}: a page has the methods that have names, {', '.join(METHODS)}, auto")
    keys = Options(method=method, rtol=rtol, atol=atol).arguments(d)
    return {"method": method, "rtol": keys["rtol"], "atol": keys["atol"].tolist()}


def _finite(name: str, x: Any) -> NDArray[np.float64]:
    values: NDArray[np.float64] = real_array(name, x, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, not {values.tolist()}")
    return values


def _pair(name: str, x: Any) -> tuple[float, float]:
    """Two finite numbers."""
    pair = _finite(name, x)
    if pair.shape != (2,):
        raise ValueError(f"{name}={x!r} must be two numbers")
    return float(pair[0]), float(pair[1])


def _slider_places(spec: Sequence[Parameter]) -> list[tuple[str, int]]:
    """Name and place in theta of each number that gets a slider: few ones, and none of a network's weights."""
    found: list[tuple[str, int]] = []
    for parameter in spec:
        size = parameter.stop - parameter.offset
        if size > MOST_COMPONENTS or NETWORK.fullmatch(parameter.name):
            continue
        places = range(parameter.offset, parameter.stop)
        found += [(parameter.name if not parameter.shape else f"{parameter.name}[{i}]", at) for i, at in enumerate(places)]
    return found if len(found) <= MOST_SLIDERS else []


def _slider(name: str, value: float, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """A slider's name, value and range: three times the value, with 0 in it, where nothing else is said."""
    width = 2 * abs(value) or 1.0
    usual = (min(0.0, value - width / 2), max(0.0, value + width / 2)) if value else (-1.0, 1.0)
    low, high = _pair(f"ranges[{name!r}]", ranges.get(name, usual))
    if not low <= value <= high:
        raise ValueError(f"ranges[{name!r}] = ({low:g}, {high:g}) does not contain the value {value:g}")
    return {"name": name, "value": value, "low": low, "high": high}


def written(content: Mapping[str, Any], path: str | PathLike[str] | None, title: str, about: str) -> str:
    """The page of this content, written to `path` where there is one.

    Parameters
    ----------
    content : dict
        What `page_content` gave.
    path : path or None
        A file.
    title, about : str
        Heading and the sentence below it.

    Returns
    -------
    str
        The page.
    """
    n = len(content["draws"])
    bands = f"Bands: the middle 90 % of {n} draws of the parameters from their posterior." if n else ""
    model = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    body = BODY.format(title=escape(title), about=escape(about), foot=bands, version=escape(__version__))
    page = document(escape(title), f'{body}\n<script type="application/json" id="model">{model}</script>', bundle())
    if path is not None:
        write_bytes(path, page.encode())
    return page


def document(title: str, body: str, script: str, style: str = "") -> str:
    """A page that is complete in itself: the core is in it.

    Parameters
    ----------
    title, body : str
        As HTML.
    script : str
        A module of JavaScript; what it imports is in it, see `bundle`.
    style : str, default ""
        Added to that of all pages.

    Returns
    -------
    str
        HTML.
    """
    core = base64.b64encode(web_file("pynode.wasm.gz")).decode()
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{CSS}{style}</style>\n</head>\n'
        f'<body>\n{body}\n<script type="text/plain" id="core">{core}</script>\n'
        f'<script type="module">\n{script}</script>\n</body>\n</html>\n'
    )


def web_file(name: str) -> bytes:
    """A file of wasm/: a copy in the installed package, else that of the repository.

    Parameters
    ----------
    name : str
        A file's name.

    Returns
    -------
    bytes

    Raises
    ------
    FileNotFoundError
        Neither is there.
    """
    for folder in (HERE / "web", HERE.parents[1] / "wasm"):
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    raise FileNotFoundError(
        f"pynode.export: {name} is not in {HERE / 'web'}: install the package again (pip install .), or, where it is "
        "pynode.wasm.gz in a clone, make it: pip install ziglang && python wasm/build.py --keep"
    )


def bundle(modules: Sequence[str] = MODULES) -> str:
    """Modules of wasm/ as one script: each a function of its own that returns what it exports.

    Parameters
    ----------
    modules : sequence of str
        Names, each after those that it imports.

    Returns
    -------
    str
        JavaScript.
    """
    return "".join(wrapped(name, web_file(f"{name}.mjs").decode()) for name in modules)


def inlined(source: str) -> str:
    """A module that takes what it imports from the modules of a `bundle`.

    Parameters
    ----------
    source : str
        JavaScript.

    Returns
    -------
    str
    """
    return re.sub(r'import (\{[^}]*\}) from "\./(\w+)\.mjs";', r"const \1 = module_\2;", source)


def wrapped(name: str, source: str) -> str:
    """A module as a function, for a `bundle`.

    Parameters
    ----------
    name : str
        What others import it by, without .mjs.
    source : str
        JavaScript.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        It imports or exports in a way that `bundle` does not know.
    """
    inside = inlined(source)
    exported = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", inside, flags=re.MULTILINE)
    inside = re.sub(r"^export (?=async |function |class |const )", "", inside, flags=re.MULTILINE)
    if re.search(r"^(import|export)\b", inside, flags=re.MULTILINE):
        raise ValueError(f"{name}.mjs has an import or an export that cannot be put into a page")
    return f"const module_{name} = await (async () => {{\n{inside}return {{ {', '.join(exported)} }};\n}})();\n"
