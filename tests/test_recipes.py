"""Each recipe against its numbers, listed again from the sources."""

import inspect
import math
import re
import runpy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import gradients
from replay import GOLDEN, once

from rmsprop_jax import dialects, recipes
from rmsprop_jax.dialects._dialect import DIALECTS
from rmsprop_jax.recipes import __main__ as command
from rmsprop_jax.recipes._recipe import (
    CODE,
    NOT_GIVEN,
    PAPER,
    RECIPES,
    REPORTED,
    staircase,
)

STEPS = 24  # no gradients from 10 to 13
STEPS_PER_EPOCH = 2
# At each of the steps, two steps an epoch.
IMAGENET = {
    "efficientnet": [0.256 * k / 10 for k in range(10)]
    + [0.256 * 0.97 ** (k // 4.8) for k in range(10, STEPS)],
    "mobilenet_v2": [0.045 * 0.98 ** (k // 2) for k in range(STEPS)],
    "mobilenet_v3_torchvision": [0.064 * 0.973 ** (k // 4) for k in range(STEPS)],
    "inception_v3": [0.045 * 0.94 ** (k // 4) for k in range(STEPS)],
    "inception_v4": [0.045 * 0.94 ** (k // 4) for k in range(STEPS)],
}
TF1 = dialects.tensorflow1
# Recipe, its arguments, and the same thing from other sources: coupled weight decay,
# largest norm, rule of a learning rate, learning rate at each of the steps.
LISTED = {
    "efficientnet": (
        (4096, STEPS_PER_EPOCH, None),
        1e-5,
        None,
        lambda lr: TF1(lr, 0.9, 0.9, 1e-3),
        IMAGENET["efficientnet"],
    ),
    "mnasnet": (
        (1024, STEPS_PER_EPOCH, None),
        1e-5,
        None,
        lambda lr: TF1(lr, 0.9, 0.9, 1e-3),
        [rate / 4 for rate in IMAGENET["efficientnet"]],
    ),
    "mobilenet_v2": (
        (STEPS_PER_EPOCH, None),
        4e-5,
        None,
        lambda lr: TF1(lr, 0.9, 0.9, 1.0),
        IMAGENET["mobilenet_v2"],
    ),
    "mobilenet_v3_torchvision": (
        (STEPS_PER_EPOCH,),
        None,
        None,
        lambda lr: dialects.torch(lr, 0.9, 0.0316, 1e-5, 0.9),
        IMAGENET["mobilenet_v3_torchvision"],
    ),
    "inception_v3": (
        (STEPS_PER_EPOCH, None),
        4e-5,
        2.0,
        lambda lr: TF1(lr, 0.9, 0.9, 1.0),
        IMAGENET["inception_v3"],
    ),
    "inception_v4": (
        (STEPS_PER_EPOCH, None),
        4e-5,
        None,
        lambda lr: TF1(lr, 0.9, 0.9, 1.0),
        IMAGENET["inception_v4"],
    ),
    "dqn_nature": (
        ("sum",),
        None,
        None,
        lambda lr: dialects.sonnet(lr, 0.95, 0.0, 0.01, centered=True),
        [0.00025] * STEPS,
    ),
    "dqn_dopamine": (
        (),
        None,
        None,
        lambda lr: TF1(lr, 0.95, 0.0, 0.00001, centered=True),
        [0.00025] * STEPS,
    ),
    "dqn_zoo": (
        (),
        None,
        None,
        lambda lr: dialects.sonnet(lr, 0.95, 0.0, 0.01 / 1024, centered=True),
        [0.00025] * STEPS,
    ),
    "a3c": (
        (7e-4, 0.1, 1.0, 30),
        None,
        None,
        lambda lr: TF1(lr, 0.99, 0.0, 0.1),
        [7e-4 * (1 - k / 30) for k in range(STEPS)],
    ),
    "a2c_baselines": (
        (150, 8),
        None,
        0.5,
        lambda lr: TF1(lr, 0.99, 0.0, 1e-5),
        # What `Scheduler.value` returned last, called once a timestep; not below 0.
        [max(0.0, 7e-4 * (1 - (8 * k + 7) / 150)) for k in range(STEPS)],
    ),
    "acer_baselines": (
        (30,),
        None,
        10.0,
        lambda lr: TF1(lr, 0.99, 0.0, 1e-5),
        [7e-4 * (1 - k / 30) for k in range(STEPS)],
    ),
    "a2c_sb3": (
        (),
        None,
        0.5,
        lambda lr: dialects.torch(lr, 0.99, 1e-5),
        [7e-4] * STEPS,
    ),
    "impala": (
        (16000, 800),
        None,
        None,
        lambda lr: TF1(lr, 0.99, 0.0, 0.1),
        [0.00048 * (1 - min(800 * k, 16000) / 16000) for k in range(STEPS)],
    ),
    "torchbeast": (
        (12800, 640),
        None,
        40.0,
        lambda lr: dialects.torch(lr, 0.99, 0.01),
        [0.00048 * (1 - min(640 * k, 12800) / 12800) for k in range(STEPS)],
    ),
    "graves_handwriting": (
        (),
        None,
        None,
        lambda lr: dialects.sonnet(lr, 0.95, 0.9, 1e-4, centered=True),
        [1e-4] * STEPS,
    ),
}


def walk(tx, start, steps):
    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (start, tx.init(start)), steps)[1]


def listed(name):
    """Build what the listing says, with optax's own parts around the dialect."""
    _, weight_decay, max_norm, rule, rates = LISTED[name]
    rates = jnp.array(rates)
    links = [rule(lambda count: rates[count])]
    if max_norm is not None:
        links.insert(0, optax.clip_by_global_norm(max_norm))
    if weight_decay is not None:
        links.insert(0, optax.add_decayed_weights(weight_decay))
    return optax.chain(*links)


def test_every_recipe_walks_as_its_sources_say(x64):
    g = 5 * jnp.asarray(gradients(steps=STEPS))
    start = jnp.linspace(-1, 1, 7)

    def both(name):
        recipe = getattr(recipes, name)(*LISTED[name][0])
        return walk(recipe, start, g), walk(listed(name), start, g)

    for name, (one, two) in once(lambda: {n: both(n) for n in LISTED}).items():
        assert one.dtype == jnp.float64
        moved = np.abs(np.diff(two, axis=0)).max(axis=1).sum()
        assert np.max(np.abs(one - two)) <= 1e-12 * moved, name


def test_every_recipe_is_public_has_facts_and_is_listed():
    public = {
        name
        for name, value in vars(recipes).items()
        if not (inspect.ismodule(value) or name.startswith("_"))
    }
    assert public == set(RECIPES) == set(LISTED)
    assert all(RECIPES[name].function is vars(recipes)[name] for name in public)


@pytest.mark.parametrize("name", RECIPES)
def test_every_number_has_a_source_and_a_status(name):
    facts = RECIPES[name]
    assert facts.dialect in (*DIALECTS, "rmsprop")
    signature = inspect.signature(getattr(recipes, name)).parameters
    for number in facts.numbers:
        assert number.status in (CODE, PAPER, REPORTED, NOT_GIVEN)
        assert re.search(r"\w/\w|\d{4}", number.source), number
        assert (number.value is None) == (number.name in signature)
        assert number.value is not None or signature[number.name].default is (
            inspect.Parameter.empty
        )
        assert not (number.status == NOT_GIVEN and number.value is not None)
    assert len({number.name for number in facts.numbers}) == len(facts.numbers)


@pytest.mark.parametrize("name", RECIPES)
def test_docstrings_name_every_argument_and_source(name):
    text = inspect.getdoc(getattr(recipes, name))
    sections = ["Args:", "Returns:", "Raises:", "Source:"]
    assert re.findall(r"^[A-Z]\w+:", text, re.MULTILINE) == sections
    arguments = text[text.index("Args:") : text.index("Returns:")]
    for word in inspect.signature(getattr(recipes, name)).parameters:
        assert re.search(rf"\b{word}\b", arguments), word
    source = " ".join(text.partition("Source: ")[2].split())
    assert all(number.source in source for number in RECIPES[name].numbers)
    assert max(map(len, text.splitlines())) <= 88


@pytest.mark.parametrize("name", RECIPES)
def test_docstrings_have_the_numbers_of_the_facts(name):
    text = inspect.getdoc(getattr(recipes, name))
    if name == "mnasnet":
        text = inspect.getdoc(recipes.efficientnet)
    given = {float(x) for x in re.findall(r"\d+\.?\d*(?:e-?\d+)?", text)}
    for number in RECIPES[name].numbers:
        value = number.value
        if value is None or (number.name == "momentum" and value == 0):
            continue
        if number.name == "eps" and name == "dqn_zoo":
            value = 0.01
        if number.name == "epochs_per_factor" and value == 1:
            continue
        assert any(math.isclose(x, value) for x in given), number


def test_weight_decay_leaves_out_what_is_masked():
    params = {"kernel": jnp.ones(2), "scale": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, params)

    def by_name(tree):
        return {name: name == "kernel" for name in tree}

    for mask in ({"kernel": True, "scale": False}, by_name):
        tx = recipes.inception_v4(10, mask)
        updates, _ = tx.update(zero, tx.init(params), params)
        assert jnp.all(updates["kernel"] < 0)
        np.testing.assert_array_equal(updates["scale"], 0)


def test_efficientnet_rises_from_zero_and_steps_down():
    rate = staircase(RECIPES["efficientnet"], 312.5, 0.016)
    assert rate(0) == 0
    np.testing.assert_allclose(rate(781), 0.016 * 781 / 1562, rtol=1e-6)
    np.testing.assert_allclose(rate(1562), 0.016 * 0.97**2, rtol=1e-6)
    np.testing.assert_allclose(rate(2249), 0.016 * 0.97**2, rtol=1e-6)
    np.testing.assert_allclose(rate(2250), 0.016 * 0.97**3, rtol=1e-6)


def test_dqn_of_a_mean_loss_is_dqn_of_a_sum():
    g = jnp.asarray(gradients(steps=20), jnp.float32)
    start = jnp.linspace(-1, 1, 7)
    of_sum = walk(recipes.dqn_nature("sum"), start, 32 * g)
    np.testing.assert_allclose(
        walk(recipes.dqn_nature("mean"), start, g), of_sum, rtol=1e-5
    )
    np.testing.assert_array_equal(
        walk(recipes.dqn_zoo(), start, g), walk(recipes.dqn_nature("mean"), start, g)
    )


def test_linear_rates_end_at_zero():
    for tx in (recipes.impala(8000, 800), recipes.a2c_baselines(80, 10)):
        p = jnp.ones(2)
        state = tx.init(p)
        for _ in range(12):
            updates, state = tx.update(p, state, p)
        np.testing.assert_array_equal(updates, 0)


BILLIONS = {
    "impala": (10_000_000_000, 800),
    "torchbeast": (5_000_000_000, 640),
    "a2c_baselines": (5_000_000_000, 4_000_000_000),
    "a3c": (7e-4, 0.1, 1.0, 5_000_000_000),
    "acer_baselines": (5_000_000_000,),
    "efficientnet": (4096, 1_000_000_000, None),
}


@pytest.mark.parametrize("name", BILLIONS)
def test_integers_may_exceed_32_bits(name):
    """As an integer and as a float: one number, one update."""
    p, updates = jnp.ones(2), []
    for kind in (int, float):
        given = [kind(x) if isinstance(x, int) else x for x in BILLIONS[name]]
        tx = getattr(recipes, name)(*given)
        updates.append(jax.jit(tx.update)(p, tx.init(p), p)[0])
    chex.assert_trees_all_equal(*updates)


def test_bfloat16_parameters_get_finite_bfloat16_updates():
    p = jnp.ones(3, jnp.bfloat16)
    for name in ("efficientnet", "inception_v3", "torchbeast"):
        tx = getattr(recipes, name)(*LISTED[name][0])
        state = tx.init(p)
        updates, after = tx.update(p, state, p)
        assert updates.dtype == jnp.bfloat16 and jnp.isfinite(updates).all()
        assert jax.tree.map(jnp.result_type, after) == jax.tree.map(
            jnp.result_type, state
        )


def test_every_recipe_works_under_injection():
    g = 5 * jnp.asarray(gradients(steps=6), jnp.float32)
    start = jnp.linspace(-1, 1, 7)
    pairs = {}
    for name, (arguments, *_) in LISTED.items():
        recipe = getattr(recipes, name)
        injected = optax.inject_hyperparams(recipe)(*arguments)
        state = injected.init(start)
        given = zip(inspect.signature(recipe).parameters, arguments, strict=False)
        numbers = {word for word, x in given if isinstance(x, int | float)}
        assert set(state.hyperparams) == numbers | {"seed"} | (
            {"batch_size"} if name == "dqn_nature" else set()
        )
        pairs[name] = injected, recipe(*arguments)
    ends = once(lambda: {n: [walk(x, start, g) for x in pairs[n]] for n in pairs})
    for name, (one, two) in ends.items():
        np.testing.assert_allclose(one, two, rtol=2e-6, atol=1e-6, err_msg=name)
        injected, plain = pairs[name]
        states = [tx.init(start) for tx in pairs[name]]
        updates = [
            tx.update(g[1], state, start)[0]
            for tx, state in zip(pairs[name], states, strict=True)
        ]
        np.testing.assert_allclose(*updates, rtol=2e-5, atol=1e-7, err_msg=name)


def test_injected_numbers_may_change_and_are_checked():
    p = jnp.ones(2)
    tx = optax.inject_hyperparams(recipes.impala)(8000, 800)
    state = tx.init(p)
    state.hyperparams["total_frames"] = jnp.array(16000)
    _, state = tx.update(p, state, p)
    updates, _ = tx.update(p, state, p)
    plain = recipes.impala(16000, 800)
    _, state = plain.update(p, plain.init(p), p)
    np.testing.assert_allclose(updates, plain.update(p, state, p)[0], rtol=1e-6)

    match = r"^`recipes.impala\(total_frames=...\)` must lie in \[1, inf\); got 0"
    with pytest.raises(ValueError, match=match):
        optax.inject_hyperparams(recipes.impala)(0, 800).init(p)


def test_a_function_as_mask_is_a_static_argument_of_injection():
    params = {"kernel": jnp.ones(2), "scale": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, params)
    make = optax.inject_hyperparams(recipes.inception_v3, "weight_decay_mask")
    tx = make(10, lambda tree: {name: name == "kernel" for name in tree})
    updates, _ = jax.jit(tx.update)(zero, tx.init(params), params)
    assert jnp.all(updates["kernel"] < 0)
    np.testing.assert_array_equal(updates["scale"], 0)


def test_integers_beside_parameters_are_left_alone():
    p = {"w": jnp.ones(2), "steps": jnp.array(3)}
    tx = recipes.inception_v3(10, None)
    updates, _ = tx.update(p, tx.init(p), p)
    assert updates["steps"].dtype == jnp.int32 and updates["steps"] == 0
    assert jnp.all(updates["w"] != 0)


def test_options_reach_the_rule():
    tx = recipes.dqn_zoo(nonfinite="hold")
    p = jnp.ones(2)
    updates, _ = tx.update(jnp.array([1.0, jnp.nan]), tx.init(p), p)
    assert updates[1] == 0
    with pytest.raises(TypeError, match="sede"):
        recipes.dqn_zoo(sede=1)


@pytest.mark.parametrize(
    ("call", "match"),
    (
        (lambda: recipes.efficientnet(0, 10, None), r"efficientnet\(batch_size=...\)"),
        (lambda: recipes.efficientnet(1, 0, None), r"efficientnet\(steps_per_epoch="),
        (lambda: recipes.mobilenet_v2(0, None), r"mobilenet_v2\(steps_per_epoch="),
        (lambda: recipes.dqn_nature("max"), r"dqn_nature\(loss=...\)` must be one of"),
        (lambda: recipes.dqn_nature("sum", 0), r"dqn_nature\(batch_size=...\)"),
        (lambda: recipes.a3c(-1, 0.1, 0, 9), r"a3c\(learning_rate=...\)"),
        (lambda: recipes.a3c(1e-3, 0.1, 0, 0), r"a3c\(total_steps=...\)"),
        (lambda: recipes.a3c(1e-3, -1, 0, 9), r"a3c\(eps=...\)"),
        (lambda: recipes.a3c(1e-3, 0.1, -1, 9), r"a3c\(initial_scale=...\)"),
        (lambda: recipes.a3c(1e-3, 0.1, 0, jnp.array(0)), r"a3c\(total_steps=...\)"),
        (lambda: recipes.dqn_zoo(nonfinite="x"), r"dqn_zoo\(nonfinite=...\)"),
        (lambda: recipes.dqn_zoo(storage="x"), r"dqn_zoo\(storage=...\)"),
        (lambda: recipes.a2c_baselines(0, 1), r"a2c_baselines\(total_timesteps="),
        (lambda: recipes.a2c_baselines(9, 0), r"a2c_baselines\(batch_size="),
        (lambda: recipes.acer_baselines(0), r"acer_baselines\(total_updates="),
        (lambda: recipes.impala(0, 1), r"impala\(total_frames="),
        (lambda: recipes.impala(9, 0), r"impala\(frames_per_update="),
        (lambda: recipes.torchbeast(0, 1), r"torchbeast\(total_steps="),
        (lambda: recipes.torchbeast(9, 0), r"torchbeast\(steps_per_update="),
    ),
)
def test_arguments_are_checked_in_the_words_of_the_recipe(call, match):
    with pytest.raises(ValueError, match=rf"^`recipes\.{match}"):
        call()


def test_none_is_refused_by_name():
    for name in ("total_frames", "frames_per_update", "seed"):
        given = {"total_frames": 8000, "frames_per_update": 800, name: None}
        with pytest.raises(TypeError, match=name):
            recipes.impala(**given)


def test_the_command_line_prints_every_number(capsys):
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    for name, facts in RECIPES.items():
        assert f"recipes.{name}(" in printed
        assert all(number.source in printed for number in facts.numbers)
    assert command.main(["a3c"]) == 0
    printed = capsys.readouterr().out
    assert "recipes.a3c(learning_rate, eps, initial_scale, total_steps)" in printed
    assert "recipes.impala(" not in printed
    with pytest.raises(SystemExit, match="2"):
        command.main(["ppo"])
    assert "no recipe 'ppo'; there are a2c_baselines" in capsys.readouterr().err


def test_the_page_is_the_one_that_the_data_gives():
    docs = GOLDEN.parents[1] / "docs"
    if not docs.exists():
        pytest.skip("installed without its source tree")
    page = runpy.run_path(str(docs / "write_pages.py"))["recipes_page"]()
    assert (docs / "recipes.md").read_text() == page, "run docs/write_pages.py"
