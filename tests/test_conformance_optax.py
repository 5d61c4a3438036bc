"""What docs/conformance.md says that optax breaks is what is measured.

The long tests measure it, compiled as users do: law 28 is about rounding.
"""

import re
from pathlib import Path

import jax
import optax
import pytest

from rmsprop_jax.testing._survey import MEMBERS, row, table

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"

pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="installed without its source tree"
)


@pytest.fixture
def as_users_compile():
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.long
@pytest.mark.parametrize("name", MEMBERS)
def test_optax_breaks_what_the_page_says(name, as_users_compile):
    page = PAGE.read_text()
    measured = dict(re.findall(r"(JAX|Optax) (\d+\.\d+\.\d+)", page))
    here = {"JAX": jax.__version__, "Optax": optax.__version__}
    if measured != here:
        pytest.skip(f"the page was measured with {measured}, here is {here}")
    assert row(name) in page


def test_every_optimizer_and_every_law_is_in_the_page():
    page = PAGE.read_text()
    assert table() in page
    for name in MEMBERS:
        assert f"| `{name}` |" in page, name
