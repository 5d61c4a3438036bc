"""What the pages name exists; what they show is run by `make doctest`."""

import inspect
import itertools
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import rmsprop_jax

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
if not DOCS.exists():
    pytest.skip("installed without its source tree", allow_module_level=True)
STUDIES = ROOT / "benchmarks"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *STUDIES.glob("*.md")])
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)

FOLDERS = "benchmarks|docs|examples|rmsprop_jax|tests"
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*-]*\w")
LINK = re.compile(r"\]\(([^)\s]+)\)")
INCLUDED = re.compile(r"^`{3}\{(?:include|figure)\} (\S+)", re.MULTILINE)
FENCE = re.compile(r"^ *```+(\S+)", re.MULTILINE)


def missing(text):
    """Return the paths in a text that do not exist, nor as the stem of a file."""
    named = PATH.findall(text)
    return [x for x in named if not [*ROOT.glob(x if "." in x else x + "*")]]


@each_page
def test_files_that_are_named_exist(page):
    assert not missing(page.read_text())


@each_page
def test_links_lead_somewhere(page):
    """Anchors are checked by Sphinx."""
    text = page.read_text()
    for link in LINK.findall(text) + INCLUDED.findall(text):
        url = urlsplit(link)
        if url.scheme:
            assert url.scheme == "https" and "." in url.netloc, link
        elif url.path and not url.path.startswith("gallery/"):
            assert (page.parent / url.path).exists(), link


@each_page
def test_targets_of_make_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`| {4})make ([\w-]+)", page.read_text()):
        assert f"\n{target}:" in makefile, target


@each_page
def test_blocks_are_in_languages_that_are_run_or_need_not_be(page):
    """A block in `py` would be shown as Python, and not be run."""
    for language in FENCE.findall(page.read_text()):
        assert re.fullmatch(r"python|console|text|yaml|\{[\w:-]+\}", language), language


def rule_in(text):
    """Return the lines of a text that are the rule, whatever their spaces."""
    lines = re.findall(r"^ +((?:[Wdu]  =|[ms] <-) .*)", text, re.MULTILINE)
    return [" ".join(line.split()) for line in lines]


def test_the_rule_has_one_form():
    rule = rule_in((ROOT / "README.md").read_text())
    assert [line[0] for line in rule] == list("Wdmsu")
    assert rule_in((DOCS / "algorithm.md").read_text()) == rule
    assert rule_in(rmsprop_jax.scale_by_rmsprop.__doc__) == rule
    assert rule_in(rmsprop_jax._rule.__doc__) == rule


def test_the_reference_has_every_public_name():
    """Of the modules whose names it lists one by one."""
    listed = re.findall(r"^\.\. \S+:: ([\w.]+)", (DOCS / "api.md").read_text(), re.M)
    for module in (rmsprop_jax, rmsprop_jax.sparse, rmsprop_jax.testing):
        for name in re.findall(r"\b([^\W_]\w*) as \1\b", inspect.getsource(module)):
            full = name if name == "LAWS" else f"{module.__name__}.{name}"
            assert any(f"{x}.".startswith(f"{full}.") for x in listed), full


def test_a_missing_file_is_found():
    text = "`tests/none.py`, `tests/test_docs.py`, pytorch/docs/a.md, at=docs/ap"
    assert missing(text) == ["tests/none.py"]


COLUMNS = {
    "optax again": "optax.rmsprop again",
    "float32": "rmsprop",
    '`"uint8"`': "rmsprop, uint8",
    '`"bfloat16"`': "rmsprop, bfloat16",
    'bfloat16 p, `"uint8"`': "rmsprop, bfloat16 p, uint8",
    "SGD": "optax.sgd",
    "torch": "torch, single",
    "torch foreach": "torch, foreach",
    "torch.compile": "torch.compile",
}


def test_the_table_of_step_times_is_what_was_measured():
    measured = {}
    for path in STUDIES.glob("steps-*.json"):
        for row in json.loads(path.read_text())["rows"]:
            measured[row["tree"], row["contender"]] = f"{row['ratio']:.2f}"
    lines = (DOCS / "performance.md").read_text().splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("| tree |"))
    cells = [[x.strip() for x in line.split("|")[1:-1]] for line in lines[head:]]
    columns = [COLUMNS[name] for name in cells[0][1:]]
    table = list(itertools.takewhile(bool, cells[2:]))
    assert len(table) == len({tree for tree, _ in measured})
    for tree, *ratios in table:
        got = {name: x for name, x in zip(columns, ratios, strict=True) if x}
        assert got == {k: measured[tree, k] for k in got}, tree
