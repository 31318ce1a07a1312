"""Sphinx: the site. Built by docs/build.py, which executes the notebooks of the course first."""

import re

import pynode

project = "pynode"
author = "the pynode developers"
copyright = "the pynode developers, MIT License"
release = version = pynode.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

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
default_role = "literal"  # docstrings write `code` with single backticks

html_theme = "furo"
html_title = "pynode"
html_static_path = ["_static"]
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


def setup(app):
    app.connect("autodoc-process-docstring", escape_plain_text, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", escape_names, priority=600)  # after napoleon
