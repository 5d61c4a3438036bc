"""Sphinx configuration; warnings are errors in `make docs`."""

import rmsprop_jax

project = "rmsprop_jax"
author = "The rmsprop_jax authors"
release = version = rmsprop_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "sphinx_book_theme"
html_title = "rmsprop_jax"
exclude_patterns = ["_build"]
autodoc_typehints = "none"
default_role = "code"


def markdown_to_rest(app, what, name, obj, options, lines):
    """Make indented blocks literal and leave no markup in the prose between them."""
    text, literal, doctest = [], False, False
    for before, line in zip(["", *lines], lines, strict=False):
        indented = line.startswith("    ")
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        if indented and not literal and not before.strip() and not doctest:
            text += ["::", ""]
            literal = True
        elif line.strip() and not indented:
            literal = False
        text.append(line if literal or doctest else line.replace("|", r"\|"))
    lines[:] = text


def setup(app):
    """Run before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", markdown_to_rest, priority=0)
