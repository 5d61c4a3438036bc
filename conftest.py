"""Run the Python blocks of the Markdown pages; `tests` has a conftest of its own."""

import os
from doctest import ELLIPSIS

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser


@pytest.fixture(scope="module")
def as_a_new_process(tmp_path_factory):
    """Start each page in an empty folder, free to choose its devices."""
    import jax.extend  # not above: `tests/conftest.py` sets what JAX reads first

    before, devices = os.getcwd(), jax.config.jax_num_cpu_devices
    jax.extend.backend.clear_backends()
    os.chdir(tmp_path_factory.mktemp("page"))
    yield
    os.chdir(before)
    jax.extend.backend.clear_backends()
    jax.config.update("jax_num_cpu_devices", devices)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
    pattern="*.md",
    fixtures=["as_a_new_process"],
).pytest()
