"""The page on scaling says what its script computes, and the formulas what XLA does."""

import json
import re
import sys
from pathlib import Path

import jax
import jaxtyping
import pytest

from rmsprop_jax import sharding

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks").exists():
    pytest.skip("needs the repository", allow_module_level=True)
sys.path.insert(0, str(ROOT / "benchmarks"))
import scaling  # noqa: E402

DOCS = ROOT / "docs"
NARROW = "bfloat16 + 8, s in uint8"


@pytest.fixture
def abstract_mesh():
    """A mesh of 4,096 devices; `sharding` is annotated for those that exist."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield jax.sharding.AbstractMesh((4096,), ("data",))
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_page_has_the_tables_that_are_computed():
    assert (ROOT / "benchmarks" / "scaling.md").read_text() == scaling.tables()
    page = (DOCS / "scaling.md").read_text()
    assert "{include} ../benchmarks/scaling.md" in page
    rows = re.findall(r"^\| (.*) \| (\d) \| (\d) \| (.*) \|$", page, re.MULTILINE)
    assert [(int(p), int(g), eval(s)) for _, p, g, s in rows] == [
        tuple(storage) for storage in scaling.STORAGES.values()
    ]


def test_what_was_measured_agrees():
    """The file that is committed, whole."""
    found = json.loads((ROOT / "benchmarks" / "scaling.json").read_text())
    sizes = {key: scaling.size(model) for key, model in scaling.MODELS.items()}
    assert found["parameters"] == sizes
    cases = [(s, scheme) for s in scaling.STORAGES for scheme in scaling.SCHEMES]
    assert [(row["storage"], row["scheme"]) for row in found["checks"]] == cases
    assert all(scaling.agrees(row) for row in found["checks"])
    for row in found["compiled_whole"]:
        expected = row["kept_and_gradients"]
        assert abs(row["compiled_arguments"] - expected) <= 8  # the counts
        n = scaling.size(scaling.MODELS[row["model"]])
        assert row["compiled_gathered"] == (n if row["scheme"] == "ZeRO-1" else 0)
    for point in found["measured"]:
        split = 1 if point["scheme"] == "replicated" else point["devices"]
        expected = scaling.STORAGES[point["storage"]].state / split
        assert point["bytes_a_parameter"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("scheme", scaling.SCHEMES)
def test_a_compiled_step_agrees(scheme):
    """Bytes a device, and elements that the collectives move."""
    row = scaling.check("float32", scheme, scaling.mesh_of(8))
    assert scaling.agrees(row), row


def test_bytes_that_are_there_agree():
    point = scaling.measure(NARROW, "ZeRO-1", 8)
    assert point["bytes_a_parameter"] == pytest.approx(2 / 8, abs=1e-4)


def test_every_leaf_of_every_model_is_split_over_4096_devices(abstract_mesh):
    """Else the formulas would not hold."""
    tx = scaling.optimizer("float32")
    for model in scaling.MODELS.values():
        params = {
            name: jax.ShapeDtypeStruct(shape, "float32")
            for name, shape in scaling.shapes(model).items()
        }
        whole = sharding.replicated(sharding.zero1_shardings(tx, params, abstract_mesh))
        assert [name for name in whole if name != "0/step"] == []


def test_a_trillion_parameters_are_lowered(abstract_mesh):
    assert scaling.lower_on_paper(abstract_mesh.size)["stablehlo_lines"] > 1000
