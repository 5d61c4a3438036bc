"""The strictest JAX there is, on eight virtual devices."""

import os

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # The older emitters compile these small programs in about half the time.
        "--xla_cpu_use_fusion_emitters=" + str(os.environ.get("COMPILE") == "as-users"),
    ]
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


# The default run compiles in a hurry; `make test-long` runs all of it as users compile.
AS_USERS = os.environ.get("COMPILE") == "as-users"
# What is measured or shown to fail here depends on how XLA compiles by default.
ALWAYS_AS_USERS = ("test_compiled", "test_defects", "test_seeds")


@pytest.fixture(autouse=True)
def compile_quickly(request):
    """Compile without LLVM's optimizations, except in the modules above."""
    users = AS_USERS or request.module.__name__ in ALWAYS_AS_USERS
    jax.config.update("jax_disable_most_optimizations", not users)


@pytest.fixture
def x64():
    """Double precision for one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects what is marked as long
def pytest_collection_modifyitems(config, items):
    """Keep as many rows of a test as `rows` says, spread over them; mark the others."""
    tests, enforced = {}, config.getoption("jaxtyping_packages", None)
    for item in items:
        if enforced and item.get_closest_marker("kinds"):
            item.add_marker(pytest.mark.skip("enforced annotations speak first"))
        if marker := item.get_closest_marker("rows"):
            tests.setdefault(item.function, (marker.args[0], []))[1].append(item)
    for count, rows in tests.values():
        last = len(rows) - 1
        kept = {round(k * last / max(count - 1, 1)) for k in range(count)}
        for k, item in enumerate(rows):
            if k not in kept:
                item.add_marker(pytest.mark.long)
