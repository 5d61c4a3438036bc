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
nitpicky = False
