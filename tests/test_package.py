"""What a reader of the tree may rely on."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import structure

import rmsprop_jax

PACKAGE = Path(rmsprop_jax.__file__).parent

MODULES = structure.imports(PACKAGE)


def test_imports_keep_the_walls():
    assert not structure.breaches(structure.rooms(MODULES))


def test_no_modules_import_each_other_in_a_circle():
    parts = {k: v for k, v in MODULES.items() if not k.endswith("__init__")}
    assert not structure.circle(parts)


def test_no_two_private_files_share_a_name():
    assert not structure.twins(PACKAGE.rglob("*.py"))


WALLS = {"_rule": "", "dialects": "_rule", "plots": ""}
HELD = {"_rule": set(), "dialects": {"_rule"}, "plots": set()}


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (HELD, None),
        ({**HELD, "_rule": {"dialects"}}, "_rule imports dialects"),
        ({**HELD, "dialects": {"_rule", "plots"}}, "dialects imports plots"),
        ({**HELD, "dialects": set()}, "dialects need not import _rule"),
        ({**HELD, "_new": set()}, "_new is in no line of WALLS"),
        ({"_rule": set(), "dialects": {"_rule"}}, "there is no plots"),
    ],
)
def test_a_breach_is_found(found, fault):
    faults = structure.breaches(found, WALLS, ends=("plots",))
    assert fault in faults if fault else not faults


def test_walls_that_lead_upward_are_found():
    walls = {"dialects": "_rule", "_rule": ""}
    found = {"dialects": {"_rule"}, "_rule": set()}
    assert structure.breaches(found, walls, ()) == ["dialects stands above _rule"]


def test_a_circle_and_twins_are_found():
    assert structure.circle({"a": {"b"}, "b": {"a"}})
    paths = [Path("sparse/_state.py"), Path("testing/_state.py"), Path("a/__init__.py")]
    assert structure.twins([*paths, Path("b/__init__.py")]) == ["_state.py"]


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("from ._rule import Rule", "_rule"),
        ("from . import dialects", "dialects.__init__"),
        ("def f():\n    from .sparse import _rows", "sparse._rows"),
        ("from .dialects import torch", "dialects.__init__"),
    ],
)
def test_imports_are_found(line, module):
    assert [*structure._imported(ast.parse(line), (), PACKAGE)] == [module]


def test_the_oracle_shares_nothing():
    source = Path(__file__).with_name("oracle.py").read_text()
    assert "rmsprop_jax" not in source and "jax" not in source


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )


def test_import_starts_no_backend_and_loads_no_optional_package():
    done = run(
        "import sys, jax, optax\n"
        "before = set(sys.modules)\n"  # optax 0.2.5 loads chex itself
        "import rmsprop_jax\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, xla_bridge._backends\n"
        "optional = {'flax', 'torch', 'keras', 'matplotlib', 'rich', 'sklearn',"
        " 'orbax', 'chex', 'tensorflow', 'equinox'}\n"
        "loaded = optional & set(sys.modules) - before\n"
        "assert not loaded, loaded\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ("chex", "matplotlib"))
def test_the_check_for_optional_packages_can_fail(package):
    lazy = {"chex": "testing", "matplotlib": "plots"}[package]
    code = f"import sys, rmsprop_jax as r; r.{lazy}; print({package!r} in sys.modules)"
    assert run(code).stdout.strip() == "True"


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
