"""The 39 laws of `rmsprop_jax.testing`, over everything here that makes an optimizer.

All laws on one chain of many options; on everything else those laws that compile
nothing of their own, and on narrow storage a few more. `CONFORMANCE=all` in the
environment tries all laws on everything.
"""

import functools
import inspect
import os

import oracle
import pytest

from rmsprop_jax import dialects, master_weights, rmsprop, scale_by_rmsprop
from rmsprop_jax.dialects._dialect import DIALECTS
from rmsprop_jax.testing import LAWS, assert_conformant

EVERYTHING = os.environ.get("CONFORMANCE") == "all"

NARROW = {
    "has_derivatives": "what is stored is a step function; refused with a TypeError",
    "equals_its_oracle": "rounded stochastically, and within 2e-5 on average only",
}
COPIES = {"compiles_to_little": "XLA on CPU reads in two loops what it could in one"}
MASTER = {
    "updates_in_gradient_dtype": "float32, so that they land on the rounded weight",
    "keeps_a_mixed_tree_apart": "the same",
}

FULL = [
    dict(
        centered=True,
        eps_in_sqrt=False,
        momentum=0.9,
        lr_in_momentum=False,
        weight_decay=1e-4,
        nonfinite="hold",
    ),
]
SHORT = [
    dict(storage="uint8", momentum=0.9),
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
ONLY_OURS = ("storage", "nonfinite")

QUICK = (
    "returns_extra_args",
    "params_may_be_none",
    "hashes_stably",
    "injects",
    "zero_momentum_is_none",
    "takes_none_gradients",
    "takes_callable_params",
    "names_its_state",
    "maps_its_params",
    "inits_from_shapes",
    "updates_in_gradient_dtype",
    "keeps_the_types_of_its_state",
    "keeps_a_mixed_tree_apart",
    "honours_its_state_dtype",
    "zero_gradients_move_nothing",
    "float16_squares_fit",
    "equals_its_oracle",
)

STORED = (
    "averages_follow_in_bfloat16",
    "updates_in_place",
    "stores_the_same_on_every_mesh",
)

# Zeros that leave out a part of the chain, unless they are injected.
SWITCHED_ON = {"momentum": 0.9, "weight_decay": 1e-4, "wc": 1e-4}
QUIRKS = {
    "keras_legacy": {"zero_momentum_is_none": "eps moves under the root with momentum"}
}


def name(options):
    return "-".join(f"{k}={v}" for k, v in options.items()) or "plain"


def conforms(factory, excuse, *, full=EVERYTHING, more=(), **options):
    """Try all laws, or the quick ones and more, with the excuses that concern them."""
    only = [law.name for law in LAWS] if full else [*QUICK, *more]
    excuse = {name: reason for name, reason in excuse.items() if name in only}
    return assert_conformant(factory, only=only, excuse=excuse, **options)


@pytest.mark.parametrize("options", FULL + SHORT, ids=name)
def test_rmsprop(options):
    shared = {k: v for k, v in options.items() if k not in ONLY_OURS}
    excuse = NARROW if "storage" in options else {}
    if "nesterov" in options or options.get("storage") == "uint8":
        excuse = excuse | COPIES
    conforms(
        functools.partial(rmsprop, **options),
        excuse,
        full=EVERYTHING or options in FULL,
        more=STORED if "storage" in options else (),
        oracle=functools.partial(oracle.rmsprop, **shared),
    )


def test_scale_by_rmsprop():
    options = dict(eps_in_sqrt=False, bias_correction=True)
    report = conforms(functools.partial(scale_by_rmsprop, **options), {})
    assert "converges" in dict(report.skipped) or not EVERYTHING


@pytest.mark.parametrize("bits", (24, 32))
def test_master_weights(bits):
    def factory(learning_rate=0.1, decay=0.9):
        return master_weights(rmsprop(learning_rate, decay), bits=bits)

    conforms(factory, MASTER)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(dialect):
    make = getattr(dialects, dialect)
    given = inspect.signature(make).parameters
    options = {k: v for k, v in SWITCHED_ON.items() if k in given}
    conforms(functools.partial(make, **options), QUIRKS.get(dialect, {}))
