"""Each dialect against recorded runs of its framework."""

import functools
import inspect
import itertools
import re
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import gradients
from replay import (
    GOLDEN,
    RECORDED,
    TOLERANCE,
    once,
    recorded_cases,
    recording,
    relative_error,
    replay,
)

from rmsprop_jax import dialects, rmsprop, scale_by_rmsprop
from rmsprop_jax._arguments import OURS, Call
from rmsprop_jax.dialects import __main__ as command
from rmsprop_jax.dialects import _compare
from rmsprop_jax.dialects._clipping import clip_by_global_norm, clip_by_variable_norm
from rmsprop_jax.dialects._complex_pairs import as_pairs
from rmsprop_jax.dialects._dialect import DIALECTS, NOT_RUN

KEPT = "storage='float32', nonfinite='propagate', seed=0"
# From the constructors of the frameworks, and the sources of those that have none.
SIGNATURES = {
    "torch": "lr=0.01, alpha=0.99, eps=1e-08, weight_decay=0, momentum=0, "
    "centered=False, *, maximize=False, weight_decay_mask=None",
    "tensorflow1": "learning_rate, decay=0.9, momentum=0.0, epsilon=1e-10, *, "
    "centered=False",
    "keras": "learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-07, "
    "centered=False, *, weight_decay=None, clipnorm=None, clipvalue=None, "
    "global_clipnorm=None, weight_decay_mask=None",
    "keras_legacy": "learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-07, "
    "centered=False, *, time_decay=0.0, clipnorm=None, clipvalue=None, "
    "global_clipnorm=None",
    "timm": "lr=0.01, alpha=0.9, eps=1e-10, weight_decay=0, momentum=0.0, "
    "centered=False, decoupled_decay=False, *, lr_in_momentum=True, "
    "weight_decay_mask=None",
    "stable_baselines3": "lr=0.01, alpha=0.99, eps=1e-08, weight_decay=0, momentum=0, "
    "centered=False, *, weight_decay_mask=None",
    "jax_example_libraries": "step_size, gamma=0.9, eps=1e-08, momentum=None, *",
    "sonnet": "learning_rate, decay=0.9, momentum=0.0, epsilon=1e-10, "
    "centered=False, *",
    "flax_legacy": "learning_rate, beta2=0.9, eps=1e-08, centered=False, *",
    "bitsandbytes": "lr=0.01, alpha=0.99, eps=1e-08, weight_decay=0, *, "
    "weight_decay_mask=None",
    "mlx": "learning_rate, alpha=0.99, eps=1e-08, *",
    "paddle": "learning_rate, rho=0.95, epsilon=1e-06, momentum=0.0, "
    "centered=False, *, weight_decay=None, weight_decay_mask=None",
    "dqn": "lr=0.00025, decay=0.95, eps=0.01, wc=0, *",
    "graves": "lr=0.0001, alpha=0.95, momentum=0.9, eps=0.0001, *",
    "hinton": "learning_rate, decay=0.9, *",
    "d2l": "lr=0.01, gamma=0.9, eps=1e-06, *",
}
NAMES = list(SIGNATURES)
# What the docstrings call the same.
EQUAL = [
    ("flax_legacy", {}, "torch", {"alpha": 0.9}),
    ("flax_legacy", {"centered": True}, "torch", {"alpha": 0.9, "centered": True}),
    ("mlx", {}, "torch", {}),
    ("bitsandbytes", {"weight_decay": 0.1}, "torch", {"weight_decay": 0.1}),
    ("timm", {"momentum": 0.9}, "tensorflow1", {"momentum": 0.9}),
    (
        "timm",
        {"lr_in_momentum": False, "alpha": 0.99, "eps": 1e-8, "momentum": 0.9},
        "stable_baselines3",
        {"momentum": 0.9},
    ),
    (
        "graves",
        {},
        "sonnet",
        {"decay": 0.95, "momentum": 0.9, "epsilon": 1e-4, "centered": True},
    ),
    ("dqn", {}, "sonnet", {"decay": 0.95, "epsilon": 0.01, "centered": True}),
    ("d2l", {}, "jax_example_libraries", {"eps": 1e-6}),
    ("d2l", {}, "sonnet", {"epsilon": 1e-6}),
    ("hinton", {}, "sonnet", {"epsilon": 0}),
    ("hinton", {}, "flax_legacy", {"eps": 0}),
    ("keras_legacy", {}, "flax_legacy", {"eps": 1e-7}),
    ("keras_legacy", {"momentum": 0.9}, "keras", {"momentum": 0.9}),
    (
        "paddle",
        {"momentum": 0.9},
        "keras",
        {"rho": 0.95, "epsilon": 1e-6, "momentum": 0.9},
    ),
    ("keras", {"clipnorm": 0.0}, "keras", {}),
    ("keras", {"clipvalue": 1e30}, "keras", {"global_clipnorm": 1e30}),
]


def make(name, rate=0.1, **arguments):
    """Build a dialect with a learning rate, whatever its word for that."""
    return getattr(dialects, name)(rate, **arguments)


def walk(tx, start, steps):
    """Return the parameters after the steps; to be jitted."""

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (start, tx.init(start)), steps)
    return params


def halving(count):
    return 0.1 * 0.5 ** jnp.asarray(count, float)


def numbers(name):
    """Return the words of a dialect for its numbers, with their default or 0.1."""
    signature = inspect.signature(getattr(dialects, name)).parameters
    return {
        word: 0.1 if parameter.default is parameter.empty else parameter.default
        for word, parameter in signature.items()
        if not isinstance(parameter.default, bool | str)
        and word not in ("seed", "weight_decay_mask")
    }


def first_word(name):
    return next(iter(DIALECTS[name].parameters))


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_runs_are_repeated(x64, name):
    cases, paths = recorded_cases(name)
    errors = {
        case.name(): relative_error(case, want, got) / TOLERANCE[case.dtype]
        for case, want, got in zip(cases, paths, replay(name, cases), strict=True)
    }
    assert not {case: error for case, error in errors.items() if not error <= 1}


def test_every_claim_of_a_run_has_a_recording():
    claimed = [name for name, facts in DIALECTS.items() if facts.verified != NOT_RUN]
    assert sorted(claimed) == RECORDED
    for name in claimed:
        version = re.split(r"[ +]", recording(name)[1]["version"])[0]
        if name == "tensorflow1":
            version = "2.21.0"
        assert f" {version}" in DIALECTS[name].verified


def test_the_program_of_a_torch_user_prints_the_same_losses():
    with np.load(GOLDEN / "torch_mlp.npz") as file:
        recorded = dict(file)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    params = [jnp.asarray(recorded[f"initial/{name}"].T) for name in names]
    x, y = jnp.asarray(recorded["inputs"]), jnp.asarray(recorded["targets"])

    def loss(params):
        w1, b1, w2, b2 = params
        hidden = jax.nn.relu(x @ w1 + b1[None, :])
        return jnp.mean((hidden @ w2 + b2[None, :] - y) ** 2)

    tx = dialects.torch(lr=0.01, alpha=0.9)
    state, losses = tx.init(params), []
    value_and_grad, update = jax.jit(jax.value_and_grad(loss)), jax.jit(tx.update)
    for _ in range(10):
        value, g = value_and_grad(params)
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(f"{value:.4f}")
    assert losses == [f"{value:.4f}" for value in recorded["losses"]]


def test_every_dialect_is_public_and_has_facts():
    public = {
        name
        for name, value in vars(dialects).items()
        if not (inspect.ismodule(value) or name.startswith("_"))
    } - {"ComplexParts"}
    assert public == set(DIALECTS) == set(SIGNATURES)
    assert all(DIALECTS[name].function is vars(dialects)[name] for name in public)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_the_frameworks(name):
    signature = inspect.signature(getattr(dialects, name))
    plain = [
        parameter.replace(annotation=parameter.empty)
        for parameter in signature.parameters.values()
    ]
    expected = f"({SIGNATURES[name]}, {KEPT})"
    assert str(inspect.Signature(plain)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_name_every_argument_and_the_source(name):
    text = inspect.getdoc(getattr(dialects, name))
    sections = ["Args:", "Returns:", "Raises:", "Source:"]
    if "Example:" in text:
        sections.insert(3, "Example:")
    assert re.findall(r"^[A-Z]\w+:", text, re.MULTILINE) == sections
    arguments = text[text.index("Args:") : text.index("Returns:")]
    for word in inspect.signature(getattr(dialects, name)).parameters:
        assert re.search(rf"\b{word}\b", arguments), word
    source = text.partition("Source: ")[2]
    assert " ".join(source.split()) == DIALECTS[name].source
    assert max(map(len, text.splitlines())) <= 88


def test_dialects_that_are_called_the_same_are_the_same():
    g = jnp.asarray(gradients(steps=20), jnp.float32)
    start = jnp.linspace(-1, 1, 7)

    @jax.jit
    def paths():
        return [
            (
                walk(make(a, halving, **x), start, g),
                walk(make(b, halving, **y), start, g),
            )
            for a, x, b, y in EQUAL
        ]

    for case, (one, two) in zip(EQUAL, paths(), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-6, atol=1e-6, err_msg=str(case))


def test_keras_legacy_has_two_rules():
    g, p = jnp.array([1e-4]), jnp.zeros(1)

    def first_step(momentum):
        tx = dialects.keras_legacy(1.0, momentum=momentum, epsilon=1e-3)
        return -tx.update(g, tx.init(p), p)[0]

    root = np.sqrt(0.1) * 1e-4
    outside, inside = 1e-4 / (root + 1e-3), 1e-4 / np.sqrt(root**2 + 1e-3)
    np.testing.assert_allclose(first_step(0.0), outside, rtol=1e-6)
    np.testing.assert_allclose(first_step(np.float32(0)), outside, rtol=1e-6)
    np.testing.assert_allclose(first_step(0.5), inside, rtol=1e-6)

    match = r"^`dialects.keras_legacy\(momentum=...\)` must be a Python .*static_args"
    for momentum in (jnp.array(0.0), jnp.array(0.5)):
        with pytest.raises(TypeError, match=match):
            first_step(momentum)
    with pytest.raises(TypeError, match=match):
        optax.inject_hyperparams(dialects.keras_legacy)(1.0).init(p)
    make_injected = optax.inject_hyperparams(dialects.keras_legacy, ("momentum",))
    tx = make_injected(1.0, epsilon=1e-3)
    step = tx.update(g, tx.init(p), p)[0]
    np.testing.assert_allclose(-step, outside, rtol=1e-6)


def test_torch_maximizes():
    g, p = jnp.array([1.0, -2.0]), jnp.array([3.0, 0.0])
    up = dialects.torch(maximize=True)
    down = dialects.torch()
    climb = up.update(g, up.init(p), p)[0]
    np.testing.assert_array_equal(climb, -down.update(g, down.init(p), p)[0])


def test_bfloat16_stays_bfloat16():
    p = jnp.ones(3, jnp.bfloat16)
    txs = {name: make(name) for name in NAMES}
    states = {name: tx.init(p) for name, tx in txs.items()}
    steps = once(lambda: {name: txs[name].update(p, states[name], p) for name in NAMES})
    for name, (u, after) in steps.items():
        assert u.dtype == jnp.bfloat16 and jnp.isfinite(u).all(), name
        assert jax.tree.map(jnp.result_type, states[name]) == jax.tree.map(
            jnp.result_type, after
        )


def test_every_number_may_be_injected():
    g = jnp.asarray(gradients(steps=6), jnp.float32)
    start = jnp.linspace(-1, 1, 7)
    pairs = {}
    for name in NAMES:
        given = {word: x for word, x in numbers(name).items() if x is not None}
        given |= {word: 0.5 for word in given if word == "momentum"}
        plain = getattr(dialects, name)
        static = ["momentum"] if name == "keras_legacy" else []
        injected = optax.inject_hyperparams(plain, static)(**given)
        assert set(given) - {*static} <= set(injected.init(start).hyperparams)
        pairs[name] = injected, plain(**given)
    ends = once(
        lambda: {name: [walk(tx, start, g) for tx in pairs[name]] for name in NAMES}
    )
    for name, (one, two) in ends.items():
        np.testing.assert_allclose(one, two, rtol=2e-6, atol=1e-6, err_msg=name)


def test_traced_momentum_keeps_a_buffer_and_changes_nothing():
    """But `keras_legacy` refuses it."""
    g = jnp.asarray(gradients(steps=6), jnp.float32)
    start = jnp.linspace(-1, 1, 7)

    def end(name, momentum):
        return walk(make(name, halving, momentum=momentum), start, g)

    names = [name for name in NAMES if "momentum" in numbers(name)]
    names.remove("keras_legacy")
    ends = once(
        lambda: {
            name: (
                end(name, 0.0),
                *jax.jvp(functools.partial(end, name), (0.0,), (1.0,)),
            )
            for name in names
        }
    )
    for name, (absent, traced, slope) in ends.items():
        np.testing.assert_allclose(absent, traced, rtol=2e-6, atol=1e-6, err_msg=name)
        assert jnp.isfinite(slope).all() and jnp.any(slope != 0), name


def test_momentum_of_zero_keeps_no_buffer():
    p = jnp.ones(3)
    with_, without = dialects.torch(momentum=0.9).init(p), dialects.torch().init(p)
    count = [len(jax.tree.leaves(state)) for state in (with_, without)]
    assert count[0] == count[1] + 2  # the buffer and its step


@pytest.mark.parametrize("name", NAMES)
def test_numbers_out_of_range_are_refused_in_the_words_of_the_dialect(name):
    for word in numbers(name):
        ours = OURS.get(word, word)
        call = re.escape(f"`dialects.{name}({word}=...)`")
        given = {first_word(name): 0.1}
        if ours != "learning_rate":
            with pytest.raises(ValueError, match=rf"^{call} must lie in \[0, "):
                getattr(dialects, name)(**given | {word: -0.1})
        if ours in ("decay", "momentum"):
            with pytest.raises(ValueError, match=rf"^{call} must lie in \[0, 1\); got"):
                getattr(dialects, name)(**given | {word: 1.5})
        for wrong in (jnp.ones(2), np.ones(2), False):
            match = rf"^{call} must be a number or a scalar"
            with pytest.raises(TypeError, match=match):
                getattr(dialects, name)(**given | {word: wrong})


def errors_of(calls):
    """Return the errors of calls with a wrong kind of argument, each on a line.

    In a process of its own, because annotations may be enforced here, and speak first.
    """
    code = f"""
from rmsprop_jax import dialects
def schedule(count):
    return 0.1
for name, given in {calls}:
    try:
        getattr(dialects, name)(**given)
    except TypeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.splitlines()


def test_a_schedule_for_a_number_names_the_way():
    calls = [
        (name, word)
        for name in NAMES
        for word in numbers(name)
        if OURS.get(word, word) != "learning_rate"
        and (name, word) != ("keras_legacy", "momentum")
    ]
    given = [
        f"({name!r}, {{{first_word(name)!r}: 0.1, {word!r}: schedule}})"
        for name, word in calls
    ]
    assert errors_of(f"[{', '.join(given)}]") == [
        f"`dialects.{name}({word}=...)` must be a number; got a function. To schedule "
        f"it use `optax.inject_hyperparams(dialects.{name})(..., {word}=...)`."
        for name, word in calls
    ]


def test_none_and_flags_that_are_not_booleans_are_refused_by_name():
    calls, expected = [], []
    for name in NAMES:
        for word, parameter in DIALECTS[name].parameters.items():
            meant = word == "epsilon" and DIALECTS[name].eps_of_none
            wrong = [None] if parameter.default is not None and not meant else []
            if isinstance(parameter.default, bool):
                wrong.append("yes")
            for value in wrong:
                calls.append((name, {first_word(name): 0.1, word: value}))
                expected.append((f"`dialects.{name}({word}=...)` must ", f"{value}"))
    errors = errors_of(calls)
    for error, (start, value) in zip(errors, expected, strict=True):
        assert error.startswith(start) and value in error


@pytest.mark.parametrize("name", NAMES)
def test_strings_are_checked_in_the_words_of_the_dialect(name):
    call = re.escape(f"`dialects.{name}")
    with pytest.raises(ValueError, match=rf"^{call}\(nonfinite=...\)` must be one of"):
        make(name, nonfinite="ignore")
    with pytest.raises(ValueError, match=rf"^{call}\(storage=...\)` must be one of"):
        make(name, storage="int3")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_injection_rounds_are_refused_at_init(name):
    word = next(word for word in numbers(name) if OURS.get(word, word) == "decay")
    static = ["momentum"] if name == "keras_legacy" else []
    injected = optax.inject_hyperparams(getattr(dialects, name), static)
    match = re.escape(f"`dialects.{name}({word}=...)` must lie in [0, 1); got 1.0") + (
        ".*hyperparam_dtype=jnp.float32"
    )
    with pytest.raises(ValueError, match=match):
        injected(0.1, **{word: 0.999}).init(jnp.ones(2, jnp.bfloat16))


def test_keras_legacy_refuses_an_epsilon_of_zero():
    match = r"`dialects.keras_legacy\(epsilon=0\)` means 1e-07 in tf.keras. Pass"
    with pytest.raises(ValueError, match=match):
        dialects.keras_legacy(epsilon=0)


@pytest.mark.parametrize("make", (dialects.keras, dialects.keras_legacy))
def test_an_epsilon_of_none_is_that_of_the_backend(make):
    g = jnp.full(3, 1e-8)
    for momentum in (0.0, 0.9):
        none, plain = make(momentum=momentum, epsilon=None), make(momentum=momentum)
        want = plain.update(g, plain.init(g))[0]
        np.testing.assert_array_equal(none.update(g, none.init(g))[0], want)


RATE = {"learning_rate": 0.1}
# A call as it stands in programs of a framework, and the same call here.
PASTED = [
    ("torch", {"lr": 0.1, "foreach": None, "capturable": True}, {"lr": 0.1}),
    ("torch", {"fused": True, "differentiable": False}, {}),
    ("tensorflow1", {"learning_rate": 0.1, "use_locking": True, "name": "a"}, RATE),
    ("sonnet", {"learning_rate": 0.1, "name": "a"}, RATE),
    ("timm", {"caution": False, "corrected_weight_decay": False}, {}),
    ("bitsandbytes", {"momentum": 0, "centered": False, "optim_bits": 32}, {}),
    ("paddle", {"learning_rate": 0.1, "grad_clip": None, "name": None}, RATE),
    ("keras", {"lr": 0.1, "decay": 0.0, "epsilon": None, "name": "a"}, RATE),
    ("keras", {"use_ema": False, "ema_momentum": 0.9, "jit_compile": True}, {}),
    ("keras", {"loss_scale_factor": None, "gradient_accumulation_steps": None}, {}),
    (
        "keras_legacy",
        {"lr": 0.1, "decay": 0.5, "name": "a"},
        {**RATE, "time_decay": 0.5},
    ),
]


@pytest.mark.parametrize(("name", "pasted", "plain"), PASTED)
def test_words_of_other_versions_are_taken_where_their_meaning_is_known(
    name, pasted, plain
):
    make = getattr(dialects, name)
    want = make(**plain)
    given = {k: x for k, x in pasted.items() if x is not None or k != "epsilon"}
    assert make(**given) is want  # from the cache
    make(**pasted)


APART = "(params, ...)`: leave the parameters out; `init(params)` of the result takes"
REFUSED = [
    (lambda: dialects.torch(decay=0.9), "no argument `decay`; its word is `alpha`."),
    (lambda: dialects.torch(rho=0.9), "no argument `rho`; its word is `alpha`."),
    (lambda: dialects.torch([1], lr=0.1), APART),
    (lambda: dialects.torch(iter([1]), 0.1), APART),
    (lambda: dialects.torch(params=[1]), APART),
    (lambda: dialects.timm({"w": 1}), APART),
    (lambda: dialects.paddle(0.1, parameters=[1]), APART),
    (lambda: dialects.torch(warmup=1), "no argument `warmup`. Its arguments are"),
    (lambda: dialects.torch(*range(7)), "(...)`: too many positional arguments."),
    (lambda: dialects.mlx(), "(...)`: missing a required argument: 'learning_rate'."),
    (lambda: dialects.keras(decay=0.1), "no argument `decay`. Keras 3 ignores it."),
    (lambda: dialects.keras(use_ema=True), "no argument `use_ema`. Average the"),
    (lambda: dialects.keras(eps=1e-8), "no argument `eps`; its word is `epsilon`."),
    (lambda: dialects.keras(0.1, lr=0.1), "(...)`: multiple values for"),
    (lambda: dialects.keras(lr=1, learning_rate=1), "(lr=..., learning_rate=...)`: "),
    (lambda: dialects.keras(learning_rate=1, lr=1), "(learning_rate=..., lr=...)`: "),
    (lambda: dialects.bitsandbytes(momentum=0.9), "no argument `momentum`. The"),
    (lambda: dialects.bitsandbytes(optim_bits=8), "no argument `optim_bits`. For"),
    (lambda: dialects.timm(caution=True), "no argument `caution`. It masks updates"),
    (
        lambda: dialects.timm(decoupled_weight_decay=True),
        "no argument `decoupled_weight_decay`; its word is `decoupled_decay`.",
    ),
    (lambda: dialects.paddle(0.1, grad_clip=1), "no argument `grad_clip`. Chain"),
    (lambda: rmsprop(alpha=0.9), "no argument `alpha`; its word is `decay`."),
    (lambda: rmsprop(lr=0.9), "no argument `lr`; its word is `learning_rate`."),
    (lambda: scale_by_rmsprop(rho=0.9), "no argument `rho`; its word is `decay`."),
    (
        lambda: scale_by_rmsprop(epsilon=0.9),
        "no argument `epsilon`; its word is `eps`.",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_other_words_are_refused_with_the_right_one(call, message):
    with pytest.raises(TypeError, match=re.escape(message)) as caught:
        call()
    assert re.match(r"`(dialects\.\w+|rmsprop|scale_by_rmsprop)[`(]", str(caught.value))


def test_keras_legacy_lowers_the_learning_rate_over_time():
    g = jnp.asarray(gradients(steps=6), jnp.float32)
    start = jnp.linspace(-1, 1, 7)

    def rate(count):
        return 0.1 / (1 + 0.5 * jnp.asarray(count, float))

    injected = optax.inject_hyperparams(dialects.keras_legacy, "momentum")
    txs = [
        dialects.keras_legacy(rate),
        dialects.keras_legacy(0.1, decay=0.5),
        dialects.keras_legacy(lambda count: 0.1, decay=0.5),
        injected(0.1, time_decay=0.5),
    ]
    want, *ends = once(lambda: [walk(tx, start, g) for tx in txs])
    for end in ends:
        np.testing.assert_allclose(end, want, rtol=1e-6, atol=1e-7)


def test_keras_legacy_clips_by_value_before_a_norm():
    g = jnp.array([30.0, 4.0, 0.0])
    tx = dialects.keras_legacy(1.0, epsilon=1.0, clipvalue=3.0, clipnorm=1.0)
    clipped = np.array([1.0, 1.0, 0.0]) / np.sqrt(2)
    want = -clipped / (np.sqrt(0.1) * clipped + 1.0)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0], want, rtol=1e-6)
    match = r"^`dialects.keras_legacy\(clipnorm=1.0, global_clipnorm=1.0\)`: Keras cli"
    with pytest.raises(ValueError, match=match):
        dialects.keras_legacy(clipnorm=1.0, global_clipnorm=1.0)


MASKED = [name for name in NAMES if "weight_decay_mask" in DIALECTS[name].parameters]


@pytest.mark.parametrize("name", MASKED)
def test_weight_decay_acts_where_the_mask_says(name):
    p = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    masks = {"kernel": True, "bias": False}, lambda p: {"kernel": True, "bias": False}
    plain, everywhere = make(name), make(name, weight_decay=0.5)
    masked = [make(name, weight_decay=0.5, weight_decay_mask=mask) for mask in masks]
    steps = once(
        lambda: [tx.update(p, tx.init(p), p)[0] for tx in (plain, everywhere, *masked)]
    )
    for step in steps[2:]:
        np.testing.assert_array_equal(step["kernel"], steps[1]["kernel"])
        np.testing.assert_array_equal(step["bias"], steps[0]["bias"])
    assert jnp.all(steps[0]["bias"] != steps[1]["bias"])
    match = rf"^`dialects.{name}\(weight_decay_mask=.*has no effect without `weight_dec"
    with pytest.raises(ValueError, match=match):
        make(name, weight_decay_mask=masks[0])


def test_the_frameworks_with_exclusions_have_masks():
    assert MASKED == "torch keras timm stable_baselines3 bitsandbytes paddle".split()


def test_keras_clips_in_one_way_only():
    match = r"^`dialects.keras\(clipnorm=1.0, clipvalue=2.0\)`: Keras clips in one way"
    with pytest.raises(ValueError, match=match):
        dialects.keras(clipnorm=1.0, clipvalue=2.0)
    match = r"`dialects.keras\(global_clipnorm=...\)` must lie in \[0, inf\); got -1"
    with pytest.raises(ValueError, match=match):
        dialects.keras(global_clipnorm=-1.0)


@pytest.mark.parametrize("word", ("clipnorm", "clipvalue", "global_clipnorm"))
@pytest.mark.parametrize("dtype", (jnp.bfloat16, jnp.float16, jnp.float32))
@pytest.mark.rows(4)
def test_clipping_keeps_large_gradients_finite(word, dtype):
    largest = float(jnp.finfo(dtype).max)
    g = {"a": jnp.full(4, largest, dtype), "b": jnp.zeros(2, dtype)}
    tx = dialects.keras(0.1, **{word: 1.0})
    updates, _ = once(lambda g: tx.update(g, tx.init(g), g), g)
    expected = -0.1 / np.sqrt(0.1)
    np.testing.assert_allclose(updates["a"].astype(float), expected, rtol=1e-2)
    np.testing.assert_array_equal(updates["b"], 0)


def test_clipping_has_finite_derivatives():
    def update(limit, g):
        tx = dialects.keras(0.1, epsilon=1e-3, clipnorm=limit)
        return tx.update(g, tx.init(g), g)[0]

    points = jnp.array([[0.0, 0.0], [3.0, -4.0], [1e30, 1e-30]])
    for limit in (1.0, 0.0):
        slope = jax.vmap(jax.jacrev(functools.partial(update, limit)))
        assert jnp.isfinite(once(slope, points)).all()


def test_clipping_by_a_norm_shows_a_nan_everywhere():
    tx = dialects.keras(0.1, global_clipnorm=1.0)
    g = jnp.array([1.0, jnp.nan])
    assert jnp.isnan(tx.update(g, tx.init(g), g)[0]).all()


def test_clipping_shrinks_to_the_limit_and_leaves_the_rest():
    g = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([1.0]), "z": jnp.array([6 + 8j])}

    def clipped(clip, limit):
        return clip(limit).update(g, optax.EmptyState())[0]

    by_leaf = clipped(clip_by_variable_norm, 2.5)
    np.testing.assert_allclose(by_leaf["a"], [1.5, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(by_leaf["b"], [1.0])
    np.testing.assert_allclose(by_leaf["z"], [1.5 + 2j], rtol=1e-6)
    norm = np.sqrt(25 + 1 + 100)
    together = clipped(clip_by_global_norm, jnp.array(1.0))
    np.testing.assert_allclose(together["z"], [(6 + 8j) / norm], rtol=1e-6)
    np.testing.assert_allclose(together["b"], [1 / norm], rtol=1e-6)
    untouched = clipped(clip_by_global_norm, 12.0)
    jax.tree.map(np.testing.assert_array_equal, untouched, g)
    assert clip_by_global_norm(1.0).update({}, optax.EmptyState())[0] == {}


class TestComplex:
    """Complex leaves as `torch` has them."""

    p = {"z": jnp.array([1 + 2j, 3 - 1j]), "x": jnp.ones(2)}

    def test_parts_are_kept_apart_in_the_shape_of_the_leaf(self):
        tx = dialects.torch()
        state = tx.init(self.p)
        s = optax.tree_utils.tree_get(state, "s")
        assert isinstance(s["z"], dialects.ComplexParts)
        assert jax.tree.map(
            lambda x: (x.shape, x.dtype), s["z"]
        ) == dialects.ComplexParts(*[((2,), jnp.float32)] * 2)
        updates, after = jax.jit(tx.update)(self.p, state, self.p)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        expected = -0.01 / np.sqrt(0.01) * np.array([1 + 1j, 1 - 1j])
        np.testing.assert_allclose(updates["z"], expected, rtol=1e-6)
        np.testing.assert_allclose(updates["x"], [-0.1, -0.1], rtol=1e-6)

    def test_an_infinite_part_does_not_spoil_the_other(self):
        tx = dialects.torch(nonfinite="hold")
        g = {"z": jax.lax.complex(jnp.ones(2), jnp.full(2, jnp.inf)), "x": jnp.ones(2)}
        updates, _ = tx.update(g, tx.init(self.p), self.p)
        np.testing.assert_allclose(updates["z"], [-0.1, -0.1], rtol=1e-6)

    def test_real_trees_are_as_they_were(self):
        p = {"w": jnp.ones(2), "none": None}
        inner = rmsprop(0.1)
        tx = as_pairs(Call("rmsprop"), inner)
        assert jax.tree.structure(tx.init(p)) == jax.tree.structure(inner.init(p))
        updates, _ = tx.update(p, tx.init(p), p, unknown=1)
        assert updates["none"] is None

    def test_a_mask_sees_leaves_in_one_piece(self):
        def mask(params):
            return jax.tree.map(lambda x: jnp.iscomplexobj(x), params)

        tx = dialects.torch(weight_decay=0.5, weight_decay_mask=mask)
        none, everywhere = dialects.torch(), dialects.torch(weight_decay=0.5)
        steps = [x.update(self.p, x.init(self.p), self.p)[0] for x in (tx, everywhere)]
        np.testing.assert_array_equal(steps[0]["z"], steps[1]["z"])
        plain = none.update(self.p, none.init(self.p), self.p)[0]
        np.testing.assert_array_equal(steps[0]["x"], plain["x"])
        shapes = jax.eval_shape(lambda: self.p)
        assert jax.tree.structure(tx.init(shapes)) == jax.tree.structure(
            tx.init(self.p)
        )

    def test_shapes_alone_can_be_initialized(self):
        shapes = jax.eval_shape(lambda: self.p)
        state = dialects.torch().init(shapes)
        assert jax.tree.structure(state) == jax.tree.structure(
            dialects.torch().init(self.p)
        )

    def test_a_real_gradient_for_a_complex_parameter_is_refused(self):
        tx = dialects.torch()
        g = {"z": self.p["z"].real, "x": self.p["x"]}
        match = "^`dialects.torch.update`: the gradient at 'z' is float32 and its param"
        with pytest.raises(TypeError, match=match):
            tx.update(g, tx.init(self.p), self.p)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("torch", {"maximize": True, "weight_decay": 0.1, "momentum": 0.9}),
        ("keras", {"clipnorm": 1.0}),
        ("keras", {"clipvalue": 1.0}),
        ("keras", {"global_clipnorm": 1.0}),
    ],
)
def test_integers_beside_parameters_are_left_alone(name, arguments):
    tx = make(name, **arguments)
    p = {"w": jnp.ones(2), "steps": jnp.array(3)}
    updates, _ = tx.update(p, tx.init(p), p)
    assert updates["steps"].dtype == jnp.int32 and updates["steps"] == 0
    assert jnp.all(updates["w"] != 0)


def test_every_agreement_holds_and_every_other_pair_differs(monkeypatch):
    monkeypatch.setattr(_compare, "GRADIENTS", (1.0, 0.5, -0.2))
    monkeypatch.setattr(_compare, "RATES", (0.1, 0.1, 0.01))
    simulated = {}

    def simulate(facts, arguments, constant_rate=False):
        key = facts.name, tuple(sorted(arguments.items())), constant_rate
        if key not in simulated:
            simulated[key] = _compare.simulate(facts, arguments, constant_rate)
        return np.array(simulated[key])

    for a, b in itertools.combinations(DIALECTS.values(), 2):
        found = _compare.agreements(a, b)
        for agreement in found:
            one = simulate(a, agreement.first, agreement.constant_rate)
            two = simulate(b, agreement.second, agreement.constant_rate)
            label = f"{a.name} {b.name}"
            np.testing.assert_allclose(one, two, atol=1e-6, err_msg=label)
        if not found:
            apart = np.max(np.abs(simulate(a, {}) - simulate(b, {})))
            # What keeps this one apart is an eps of 1e-7 in another place.
            assert apart > (1e-8 if a.eps_of_zero or b.eps_of_zero else 1e-3)
            assert _compare.obstacle(a, b)


def test_the_table_has_every_dialect_in_80_columns(capsys):
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    names = [line.split()[0] for line in printed.splitlines()[1 : len(DIALECTS) + 1]]
    assert names == sorted(DIALECTS)
    printed = " ".join(printed.split())
    for facts in DIALECTS.values():
        assert f"{facts.name}: {facts.source} ({facts.verified})" in printed


def test_two_dialects_are_compared_in_words(capsys):
    assert command.main(["torch", "tensorflow1"]) == 0
    printed = capsys.readouterr().out
    assert "torch starts `s` at 0; tensorflow1 starts `s` at 1." in printed
    assert "torch treats the two parts of a complex parameter as two" in printed
    assert "No setting makes them agree" in printed
    assert command.main(["timm", "stable_baselines3"]) == 0
    assert "lr_in_momentum=False" in capsys.readouterr().out
    (agreement,) = _compare.agreements(DIALECTS["hinton"], DIALECTS["torch"])
    assert agreement.second == {"eps": 0.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (["torch", "caffe"], "no dialect 'caffe'; there are bitsandbytes, "),
        (["torch"], "name two different dialects, or none; got torch."),
        (["mlx", "mlx"], "name two different dialects, or none; got mlx mlx."),
    ),
)
def test_the_command_line_says_what_is_wrong(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_the_page_is_the_one_that_the_data_gives():
    docs = GOLDEN.parents[1] / "docs"
    if not docs.exists():
        pytest.skip("installed without its source tree")
    page = runpy.run_path(str(docs / "write_pages.py"))["dialects_page"]()
    assert (docs / "dialects.md").read_text() == page, "run docs/write_pages.py"
