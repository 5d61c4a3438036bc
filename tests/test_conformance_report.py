"""What `rmsprop_jax.testing` reports, selects and excuses."""

import importlib
import sys

import jax
import optax
import pytest

from rmsprop_jax.testing import (
    LAWS,
    DoesNotApply,
    assert_conformant,
    examine,
)
from rmsprop_jax.testing._law import law_of

PACKAGE = "rmsprop_jax.testing"
FAST = ["returns_extra_args", "hashes_stably", "names_its_state"]


def unnamed():
    """A transformation that breaks three laws at once."""
    return optax.GradientTransformation(lambda p: (p,), lambda g, s, p=None: (g, s))


def test_the_laws_are_39():
    assert [law.number for law in LAWS] == list(range(1, 40))
    assert len({law.name for law in LAWS}) == 39
    for law in LAWS:
        assert law.statement.endswith(".") and law.source, law


def test_every_broken_law_is_reported_with_its_source_and_an_example():
    with pytest.raises(AssertionError) as error:
        assert_conformant(unnamed, only=FAST)
    text = str(error.value)
    for words in (
        " 1 returns_extra_args: The factory returns a ",
        "(optax contrib/_common_test.py)",
        " 4 hashes_stably: ",
        "(optax#353, D16)",
        "15 names_its_state: ",
        "[0]['a'] is under no field name",
    ):
        assert words in text, text


def test_the_report_names_each_law_once():
    report = examine(
        optax.sgd, only=[*FAST, "equals_its_oracle"], excuse={"hashes_stably": "known"}
    )
    assert report.passed == ("returns_extra_args", "names_its_state")
    assert [(law.name, why) for law, why in report.excused] == [
        ("hashes_stably", "known")
    ]
    assert report.skipped == (("equals_its_oracle", "no oracle was given"),)
    assert "hashes_stably: excused, known" in str(report)


def test_an_excuse_that_is_not_needed_is_refused():
    excuse = {"returns_extra_args": "a reason"}
    with pytest.raises(AssertionError, match="returns_extra_args: excused, but it"):
        assert_conformant(optax.sgd, only=FAST[:1], excuse=excuse)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(only=["purity"]), "`only` must contain names of laws.*'purity'"),
        (dict(excuse={"purity": "x"}), "`excuse` must contain names of laws.*'purity'"),
        (dict(excuse={"is_pure": " "}), "must give a reason for is_pure"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words):
        examine(optax.sgd, **arguments)


def test_a_factory_without_a_learning_rate_skips_what_needs_one():
    report = examine(
        lambda: optax.sgd(0.1), only=["takes_every_learning_rate", "injects"]
    )
    assert [name for name, _ in report.skipped] == [
        "takes_every_learning_rate",
        "injects",
    ]


def test_one_device_skips_what_needs_several(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    report = examine(optax.sgd, only=["state_is_sharded_as_its_params"])
    assert "xla_force_host_platform_device_count" in report.skipped[0][1]


def test_a_cached_factory_hashes_stably():
    import functools

    assert_conformant(functools.cache(optax.sgd), only=["hashes_stably"])


def test_a_law_needs_a_number_and_a_source():
    def law_1_is_short(subject):
        """Say nothing."""
        raise DoesNotApply("never")

    with pytest.raises(ValueError, match="law_<two digits>_<name>"):
        law_of(law_1_is_short)


def test_without_chex_the_error_says_how_to_install_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "chex", None)
    with pytest.raises(ModuleNotFoundError, match="needs chex: `pip install chex`"):
        importlib.import_module(PACKAGE)
