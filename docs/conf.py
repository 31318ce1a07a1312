"""Sphinx: the site. Built by docs/build.py, which executes the notebooks of the course first."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import roles
from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer

import pynode

sys.path.insert(0, str(Path(__file__).resolve().parent))  # mathml.py, live_pages.py, live_figures.py
import live_pages

MODULES = ("control", "course", "datasets", "fit", "plots")
"""Public modules; what pynode.models has is in pynode itself."""

project = "pynode"
author = "the pynode developers"
copyright = "the pynode developers, MIT License"
release = version = pynode.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "mathml",
    "live_figures",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "live", "**.ipynb_checkpoints"]

# Pages are Markdown; notebooks come executed, from docs/execute.py
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables and formulas in outputs
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# API pages from docstrings
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False
html_math_renderer = "mathml"
default_role = "pynode"  # `solve` in a docstring is a link where it names something public, else code: see below

html_theme = "furo"
html_title = "pynode"
html_static_path = ["_static"]
html_extra_path = [live_pages.build(Path(__file__).resolve().parent / "_build" / "extra")]
html_css_files = ["pynode.css"]
html_show_sourcelink = False
html_copy_source = False


# ---- Docstrings are plain text, in which |x| and theta_ mean themselves

MARKUP = re.compile(r"(``.*?``|`.*?`)|(\||(?<=\w)_(?!\w))")
DECLARATION = re.compile(r"\s*[\w, *]+( : .*)?$")


def escape_plain_text(app, what, name, obj, options, lines):
    """Escape | and trailing _ outside of code, and outside the lines that declare parameters (napoleon does those)."""
    for i, line in enumerate(lines):
        if not DECLARATION.match(line):
            lines[i] = MARKUP.sub(lambda match: match[1] or "\\" + match[2], line)


def escape_names(app, what, name, obj, options, lines):
    """Names of attributes that end in _ stay so in the fields that napoleon writes."""
    lines[:] = [re.sub(r"^(:(?:ivar|vartype) \w+)_:", r"\1\\_:", line) for line in lines]


# ---- Constants: their documentation is the string below them, in the module that defines them


def home(path):
    """The module that defines a public constant, which the module of its path imports or loads when asked."""
    module, _, name = path.rpartition(".")
    if module == "pynode":
        return next(home for home, names in pynode._HOMES.items() if name in names)
    for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module)))):
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return node.module
    return module


def document_constant(app, what, name, obj, options, lines):
    """In place of the documentation of dict, tuple, ..., which a constant has from its type."""
    if what == "data":
        module = importlib.import_module(home(name))
        is_python = module.__file__.endswith(".py")
        source = module.__file__ if is_python else Path(module.__file__).with_name(f"{module.__name__.split('.')[-1]}.pyi")
        documented = ModuleAnalyzer.for_file(source, module.__name__)
        documented.analyze()
        lines[:] = documented.attr_docs.get(("", name.rpartition(".")[2]), [""])


# ---- `name` in a docstring

NAMES = {name: f"pynode.{name}" for name in pynode.__all__} | {
    f"{module}.{name}": f"pynode.{module}.{name}" for module in MODULES for name in getattr(pynode, module).__all__
}
"""What docstrings call a public name -> its path in the reference."""


def name_role(role, rawtext, text, lineno, inliner, options=None, content=()):
    """A link where `text` is a public name or a method of one, and code where it is anything else."""
    name = text.removeprefix("pn.").removeprefix("pynode.").removesuffix("()")
    owner, _, member = name.rpartition(".")
    target = NAMES.get(name) or (f"{NAMES[owner]}.{member}" if owner in NAMES else None)
    if target is None:
        return [nodes.literal(rawtext, text)], []
    link = addnodes.pending_xref(rawtext, refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=False)
    link["py:module"] = link["py:class"] = None
    link += nodes.literal(rawtext, text, classes=["xref", "py"])
    return [link], []


def setup(app):
    roles.register_local_role("pynode", name_role)
    app.connect("autodoc-process-docstring", document_constant, priority=300)
    app.connect("autodoc-process-docstring", escape_plain_text, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", escape_names, priority=600)  # after napoleon
