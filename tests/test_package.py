"""What a reader of the tree may rely on."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rmsprop_jax

PACKAGE = Path(rmsprop_jax.__file__).parent

# Who may import whom, lowest first; a module imports only from the lines above its own.
ORDER = (
    "_cached",
    "_checks",
    "_mesh",
    "_quantiles",
    "_rule",
    "_dither",
    "_storage",
    "_leaves",
    "_transform",
    "_momentum",
    "_alias",
    "_split",
    "_master_weights",
    "_clipping",
    "_complex",
    "_dialect_facts",
    "dialects",
    "_recipe_facts",
    "recipes",
    "_moments",
    "_tables",
    "_summary",
    "diagnostics",
)
# Nothing imports these.
TOP = ("demo", "bench", "plots", "testing", "__main__")


def imports(path):
    """Give the modules of this package that a file imports when it is imported."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.module:
                yield node.module.split(".")[0]
            else:
                yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_one_way(module):
    path = PACKAGE / f"{module}.py"
    if not path.exists():
        pytest.skip(f"{module} is not written yet")
    allowed = ORDER[: ORDER.index(module)]
    assert set(imports(path)) <= set(allowed)


def test_nothing_imports_the_top():
    for path in PACKAGE.rglob("*.py"):
        if path.stem in TOP or path.parent.name in TOP:
            continue
        assert not set(imports(path)) & set(TOP), path


def test_rule_and_storage_know_nothing_of_each_other():
    assert not set(imports(PACKAGE / "_rule.py"))
    assert set(imports(PACKAGE / "_storage.py")) == {"_checks", "_dither"}


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )


def test_import_starts_no_backend_and_loads_no_optional_package():
    done = run(
        "import sys, rmsprop_jax, jax\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, xla_bridge._backends\n"
        "optional = {'flax', 'torch', 'keras', 'matplotlib', 'rich', 'sklearn',"
        " 'orbax', 'chex_', 'tensorflow', 'equinox'}\n"
        "loaded = optional & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_check_for_a_backend_can_fail():
    done = run(
        "import jax, jax.numpy as jnp\n"
        "jnp.zeros(1)\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends\n"
    )
    assert done.returncode != 0


def public():
    return {
        name: value
        for name, value in vars(rmsprop_jax).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


def test_public_names_are_exported_as_themselves():
    """`from ._x import y as y`, and nothing else, makes a name public."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    exported = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    modules = {n for n, v in vars(rmsprop_jax).items() if inspect.ismodule(v)}
    assert exported - modules == set(public())


@pytest.mark.parametrize("name", sorted(public()))
def test_public_names_are_documented(name):
    """Equation, arguments, result, errors, example and source."""
    value = public()[name]
    text = inspect.getdoc(value)
    assert text
    if inspect.isfunction(value):
        for section in ("Args:", "Returns:", "Raises:", "Example:", "Source:", "<-"):
            assert section in text, section
        for argument in inspect.signature(value).parameters:
            assert argument in text.split("Args:")[1], argument
    else:
        for field in fields(value):
            assert f"{field}:" in text, field


def fields(value):
    """Name what a class keeps: a NamedTuple, a dataclass or a protocol."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return getattr(value, "_fields", value.__annotations__)


def test_every_law_names_a_test():
    page = PACKAGE.parent / "docs" / "laws.md"
    if not page.exists():
        pytest.skip("installed without its source tree")
    rows = [row.split("|") for row in page.read_text().splitlines() if "test_" in row]
    written = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    assert len(rows) >= 20
    for row in rows:
        for name in re.findall(r"`(test_\w+)`", row[2]):
            assert f"def {name}(" in written, name


def test_version_is_one():
    tomllib = pytest.importorskip("tomllib")
    project = PACKAGE.parent / "pyproject.toml"
    if not project.exists():
        pytest.skip("installed without its source tree")
    version = tomllib.loads(project.read_text())["project"]["version"]
    assert version == rmsprop_jax.__version__
