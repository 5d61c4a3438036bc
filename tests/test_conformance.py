"""The 39 laws of `rmsprop_jax.testing`, for everything here that makes an optimizer.

By default every law is checked once: on one chain of many options, and on narrow
storage what concerns only that. For all else the laws about types and structures are
checked, which compile nothing. The long tests check all laws on everything.
"""

import functools
import inspect

import oracle
import pytest

from rmsprop_jax import dialects, master_weights, rmsprop, scale_by_rmsprop
from rmsprop_jax.dialects._dialect import DIALECTS
from rmsprop_jax.testing import assert_conformant

STORES_THE_SAME = "stores_the_same_on_every_mesh"
STRUCTURAL = (
    "hashes_stably",
    "names_its_state",
    "maps_its_params",
    "inits_from_shapes",
    "updates_in_gradient_dtype",
    "keeps_the_types_of_its_state",
    "keeps_a_mixed_tree_apart",
    "honours_its_state_dtype",
)
STORED = (
    *STRUCTURAL,
    "averages_follow_in_bfloat16",
    "updates_in_place",
    STORES_THE_SAME,
)

NARROW = {
    "has_derivatives": "what is stored is a step function; refused with a TypeError",
    "equals_its_oracle": "rounded stochastically, and within 2e-5 on average only",
}
COPIES = {"compiles_to_little": "XLA on CPU reads in two loops what it could in one"}
MASTER = {
    "updates_in_gradient_dtype": "float32, so that they land on the rounded weight",
    "keeps_a_mixed_tree_apart": "the same",
}
STATIC = "a momentum of 0 selects another rule, so it must be a Python number"
QUIRKS = {
    "keras_legacy": {
        "takes_every_learning_rate": STATIC,
        "injects": STATIC,
        "takes_traced_numbers": STATIC,
    }
}

MANY_OPTIONS = dict(
    centered=True,
    eps_in_sqrt=False,
    momentum=0.9,
    weight_decay=1e-4,
    nonfinite="hold",
)
UINT8 = dict(storage="uint8", momentum=0.9)
ROWS = [
    UINT8,
    dict(),
    dict(eps_in_sqrt=False),
    dict(centered=True),
    dict(centered=True, storage="bfloat16"),
    dict(bias_correction=True, momentum=0.9, nesterov=True),
    dict(initial_scale=1.0, momentum=0.9, lr_in_momentum=False),
    # The variance of one gradient is 0, so the first step is g / sqrt(eps).
    dict(centered=True, bias_correction=True, eps=1e-2, weight_decay=1e-4),
    dict(momentum=0.9, weight_decay=1e-4, decoupled_weight_decay=True),
]
# Zeros that leave out a part of the chain, unless they are injected.
SWITCHED_ON = {"momentum": 0.9, "weight_decay": 1e-4, "wc": 1e-4}


def name(options):
    return "-".join(f"{k}={v}" for k, v in options.items()) or "plain"


def conforms(factory, excuse, only, **options):
    """Check some laws or all, with the excuses that concern them."""
    excuse = {k: v for k, v in excuse.items() if only is None or k in only}
    return assert_conformant(factory, only=only, excuse=excuse, **options)


def check_rmsprop(options, only=None):
    shared = {k: v for k, v in options.items() if k not in ("storage", "nonfinite")}
    excuse = NARROW if "storage" in options else {}
    if "nesterov" in options or options.get("storage") == "uint8":
        excuse = excuse | COPIES
    reference = functools.partial(oracle.rmsprop, **shared)
    factory = functools.partial(rmsprop, **options)
    return conforms(factory, excuse, only, oracle=reference)


def check_scale_by_rmsprop(only=None):
    options = dict(eps_in_sqrt=False, bias_correction=True)
    return conforms(functools.partial(scale_by_rmsprop, **options), {}, only)


def check_master_weights(bits, only=None):
    def factory(learning_rate=0.1, decay=0.9):
        return master_weights(rmsprop(learning_rate, decay), bits=bits)

    return conforms(factory, MASTER, only)


def check_dialect(dialect, only=None):
    make = getattr(dialects, dialect)
    given = inspect.signature(make).parameters
    options = {k: v for k, v in SWITCHED_ON.items() if k in given}
    factory = functools.partial(make, **options)
    return conforms(factory, QUIRKS.get(dialect, {}), only)


CHECKS = {
    "scale_by_rmsprop": check_scale_by_rmsprop,
    "master_weights, 24 bits": functools.partial(check_master_weights, 24),
    "master_weights, 32 bits": functools.partial(check_master_weights, 32),
    **{dialect: functools.partial(check_dialect, dialect) for dialect in DIALECTS},
}
ALL_CHECKS = CHECKS | {
    f"rmsprop, {name(options)}": functools.partial(check_rmsprop, options)
    for options in ROWS
}


def test_every_law_holds_with_many_options():
    report = check_rmsprop(MANY_OPTIONS)
    assert [law for law, _ in report.skipped] == [STORES_THE_SAME]


def test_laws_about_storage_hold_in_one_byte():
    assert STORES_THE_SAME in check_rmsprop(UINT8, STORED).passed


def test_directions_are_not_asked_to_converge():
    assert dict(check_scale_by_rmsprop(["converges"]).skipped)


@pytest.mark.parametrize("member", CHECKS)
def test_laws_about_structure_hold(member):
    CHECKS[member](STRUCTURAL)


@pytest.mark.long
@pytest.mark.parametrize("member", ALL_CHECKS)
def test_every_law_holds(member):
    ALL_CHECKS[member]()
