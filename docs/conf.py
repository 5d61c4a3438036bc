"""Sphinx configuration; warnings are errors in `make docs`."""

import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import rich
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.util import logging
from sphinx_gallery.sorting import ExplicitOrder

import rmsprop_jax

sys.path.append(str(Path(__file__).parent))  # for run_as_script and run_page

project = "rmsprop_jax"
author = "The rmsprop_jax authors"
release = version = rmsprop_jax.__version__
exclude_patterns = ["_build"]
default_role = "code"
highlight_language = "none"  # an indented block may be an equation
nitpicky = True

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
napoleon_custom_sections = [("Attributes", "params_style")]
copybutton_exclude = ".linenos, .gp, .go"

plot_formats = [("png", 160)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_rcparams = {"figure.figsize": (6.4, 3.6)}

html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_title = "rmsprop_jax"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_theme_options = {
    "logo": {"text": "rmsprop_jax"},
    "navbar_persistent": [],
    "show_toc_level": 2,
    "footer_content_items": [],
    "use_download_button": False,
}

# A progress bar belongs to the log of the build, not to the page.
rich.reconfigure(file=sys.stderr)

STORY = [
    "train_flax",
    "train_linen",
    "adagrad_story",
    "linear_regression",
    "sweep",
    "text_gru",
    "cartpole_a2c",
    "learned_rate",
    "from_pytorch",
    "one_byte",
    "recommender",
    "train_multihost",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": ".",
    "reset_argv": "run_as_script.arguments",
    "capture_repr": (),
    "doc_module": "rmsprop_jax",
    "download_all_examples": False,
    "image_srcset": ["2x"],
    "notebook_extensions": set(),
    "show_signature": False,
    "thumbnail_size": (480, 360),
    "within_subsection_order": ExplicitOrder([f"{name}.py" for name in STORY] + ["*"]),
    "write_computation_times": False,
}


def markdown_to_rest(app, what, name, obj, options, lines):
    """Make indented blocks literal, and remove markup from the prose between them."""
    text, literal, doctest, source = [], False, False, False
    for before, line in zip(["", *lines], lines, strict=False):
        source = bool(line.strip()) and (source or line.startswith("Source:"))
        line = line.strip() if source else line  # a paragraph, not a definition
        indented = line.startswith("    ")
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        if indented and not literal and not before.strip() and not doctest:
            text += ["::", ""]
            literal = True
        elif line.strip() and not indented:
            literal = False
        text.append(line if literal or doctest else line.replace("|", r"\|"))
    lines[:] = text


def link_to_the_page(app, doctree):
    """Lead a link to a file outside `docs` to the page that includes the file."""
    for node in doctree.findall(addnodes.pending_xref):
        path = Path(node.get("reftarget", ""))
        if ".." in path.parts and path.name.lower() in app.env.found_docs:
            node["reftarget"] = path.name.lower()


PROGRAMS = {"bench", "demo"}  # to be run, not imported


def public_names():
    """Return the full name of all that is public in the package and its modules."""
    modules = pkgutil.walk_packages(rmsprop_jax.__path__, "rmsprop_jax.")
    for path in ["rmsprop_jax", *(module.name for module in modules)]:
        if any(p.startswith("_") or p in PROGRAMS for p in path.split(".")):
            continue
        module = importlib.import_module(path)
        exported = re.findall(r"\b(\w+) as \1\b", inspect.getsource(module))
        for name, value in vars(module).items():
            here = name in exported or inspect.getmodule(value) is module
            if here and not name.startswith("_") and not inspect.ismodule(value):
                yield f"{path}.{name}"


def check_that_all_is_documented(app, env):
    """Warn of each public name that no page documents."""
    missing = set(public_names()) - set(env.domaindata["py"]["objects"])
    for name in sorted(missing):
        logging.getLogger(__name__).warning("%s is not documented", name)


def math_renderer(as_block):
    """Write MathML, which a browser shows without a script of another site."""

    def visit(writer, node):
        markup = tex2mathml(node.astext(), as_block)
        writer.body.append(f'<div class="math">{markup}</div>' if as_block else markup)
        raise nodes.SkipNode

    return visit, None


def setup(app):
    """Connect; docstrings are changed before napoleon parses their sections."""
    app.add_html_math_renderer("mathml", math_renderer(False), math_renderer(True))
    app.connect("autodoc-process-docstring", markdown_to_rest, priority=0)
    app.connect("doctree-read", link_to_the_page)
    app.connect("env-check-consistency", check_that_all_is_documented)
