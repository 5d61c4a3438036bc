"""Export then import, and import then export, are the identity: any tree, any options,
any parameter groups, any partition. The examples are the same in each run."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmsprop_jax import dialects, rmsprop
from rmsprop_jax.interop import keras, torch
from rmsprop_jax.interop import optax as of_optax

SETTINGS = hypothesis.settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
SHAPES = ((3,), (2, 3), (), (1,))
DECAY = 0.9

trees = st.recursive(
    st.sampled_from(SHAPES),
    lambda inner: st.dictionaries(
        st.sampled_from(("a", "b/c", "s", "m", "params")), inner, min_size=1, max_size=3
    ),
    max_leaves=5,
).filter(lambda tree: isinstance(tree, dict))
groups = st.fixed_dictionaries(
    dict(
        momentum=st.sampled_from((0.0, 0.9)),
        centered=st.booleans(),
        lr_in_momentum=st.booleans(),
        lr=st.sampled_from((0.1, 0.01)),
    )
)
flags = st.fixed_dictionaries(
    dict(momentum=st.sampled_from((None, 0.9)), centered=st.booleans())
)
arounds = st.sampled_from(("average", "inject", "two"))


@pytest.fixture(autouse=True, scope="module")
def as_optax_computes():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def leaves_of(tree, before=""):
    """Give the shapes by path, in the order of the tree of parameters."""
    found = {}
    for key in sorted(tree):
        path = f"{before}{key}"
        inside = tree[key]
        found |= (
            leaves_of(inside, f"{path}/")
            if isinstance(inside, dict)
            else {path: inside}
        )
    return found


def params_of(tree):
    if isinstance(tree, dict):
        return {key: params_of(value) for key, value in tree.items()}
    return jnp.zeros(tree)


def numbers(data, count):
    """Give a function that makes positive arrays of few digits, and none twice."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    return lambda shape: rng.integers(1, 99, shape).astype(np.float32) / 64 + count


def without_collection(tree):
    """Flax's collections are no part of a path, so that two leaves may clash."""
    paths = [path.removeprefix("params/") for path in leaves_of(tree)]
    hypothesis.assume(len({*paths}) == len(paths) and "params" not in paths)


def same(got, want):
    """Equal: to the bit, but for the one rounding of `square - mean**2`."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.shape(x) == np.shape(y) and np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_allclose(x, y, rtol=3e-7)


@SETTINGS
@hypothesis.given(trees, st.lists(groups, min_size=1, max_size=3), st.data())
def test_torch_with_groups_in_any_order(tree, options, data):
    without_collection(tree)
    shapes, draw = leaves_of(tree), numbers(data, 1)
    order = data.draw(st.permutations([*shapes]))
    of = {path: data.draw(st.integers(0, len(options) - 1)) for path in order}
    # What is new in timm is 1 already, and what is new in all of `like` is written.
    inside = {path for path in order if options[of[path]]["lr_in_momentum"]}
    touched = {*order[:1], *inside, *data.draw(st.sets(st.sampled_from(order)))}
    mapping = {f"module.{path.replace('/', '.')}": path for path in shapes}
    state, saved_groups, names, key = {}, [], [], 0
    for number, own in enumerate(options):
        members = [path for path in order if of[path] == number]
        keys = range(key, key + len(members))
        key += len(members)
        numbers_of = {"alpha": DECAY, "eps": 1e-8, "weight_decay": 0.0}
        given = {k: x for k, x in own.items() if k != "lr_in_momentum" or x}
        saved_groups.append({"params": [*keys], **given, **numbers_of})
        names.append([f"module.{path.replace('/', '.')}" for path in members])
        for k, path in zip(keys, members, strict=True):
            if path in touched:
                mean = draw(shapes[path])
                state[k] = {"step": np.float32(7), "square_avg": mean**2 + draw(())}
                state[k] |= (
                    {"momentum_buffer": draw(shapes[path])} if own["momentum"] else {}
                )
                state[k] |= {"grad_avg": mean} if own["centered"] else {}
    saved = {"state": state, "param_groups": saved_groups}
    params = params_of(tree)
    labels = torch.group_labels(saved, params, mapping, names=names)
    make = {True: dialects.timm, False: dialects.torch}
    each = {
        str(k): make[own["lr_in_momentum"]](**torch.options(saved, k))
        for k, own in enumerate(options)
    }
    template = optax.partition(each, labels).init(params)
    imported = torch.from_state_dict(saved, template, mapping, names=names)
    back = torch.to_state_dict(imported, saved, mapping, names=names)
    same(back["state"], state)
    assert back["param_groups"] == saved_groups
    same(torch.from_state_dict(back, template, mapping, names=names), imported)


@SETTINGS
@hypothesis.given(trees, flags, st.booleans(), st.data())
def test_keras_with_a_partition(tree, options, by_number, data):
    without_collection(tree)
    shapes, draw = leaves_of(tree), numbers(data, 1)
    mapping = {f"model/{path}": path for path in shapes}
    hypothesis.assume(len({name.replace("/", "_") for name in mapping}) == len(mapping))
    mean = {name: draw(shapes[path]) for name, path in mapping.items()}
    made = {"velocity": {name: x**2 + draw(()) for name, x in mean.items()}}
    if options["momentum"]:
        made["momentum"] = {name: draw(np.shape(x)) for name, x in mean.items()}
    if options["centered"]:
        made["average_gradient"] = mean
    variables = {"rmsprop/iteration": np.array(7, np.int32)}
    for word, own in made.items():
        variables |= {
            f"rmsprop/{k.replace('/', '_')}_{word}": x for k, x in own.items()
        }
    params, paths = params_of(tree), [*variables]
    labels = jax.tree.map(lambda _: data.draw(st.sampled_from("ab")), params)
    options = {**options, "momentum": options["momentum"] or 0.0}
    each = {label: dialects.keras(0.1, **options) for label in "ab"}
    template = optax.partition(each, labels).init(params)
    given = (
        {str(i): x for i, x in enumerate(variables.values())}
        if by_number
        else variables
    )
    imported = keras.from_variables(given, template, mapping, paths=paths)
    back = keras.to_variables(imported, mapping, paths)
    same(dict(zip(paths, back.values(), strict=True)), variables)
    same(keras.from_variables(back, template, mapping, paths=paths), imported)


@SETTINGS
@hypothesis.given(trees, flags, st.booleans(), arounds, st.data())
def test_optax_with_what_stands_around(tree, options, correction, around, data):
    without_collection(tree)
    draw, params = numbers(data, 1), params_of(tree)
    options = {**options, "bias_correction": correction, "decay": DECAY}
    rate = data.draw(st.sampled_from((0.1, optax.linear_schedule(0.1, 0.0, 9))))
    labels = jax.tree.map(lambda _: data.draw(st.sampled_from("ab")), params)

    def made(rule):
        if around == "inject":
            return optax.inject_hyperparams(rule)(rate, **options)
        if around == "two":
            each = {"a": rule(rate, **options), "b": optax.chain(rule(0.1, **options))}
            return optax.MultiSteps(optax.partition(each, labels), 3)
        return optax.chain(optax.ema(0.9), rule(rate, **options))

    def filled(path, x):
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(jnp.result_type(x), jnp.integer):
            return jnp.full_like(x, 2)
        x = draw(np.shape(x))
        return jnp.asarray(x**2 + 9 if ".nu" in name else x / 64)

    theirs, ours = (made(rule).init(params) for rule in (optax.rmsprop, rmsprop))
    if around != "inject":  # whose numbers mean something
        theirs = jax.tree_util.tree_map_with_path(filled, theirs)
    imported = of_optax.from_state(theirs, ours, decay=DECAY, count=2)
    back = of_optax.to_state(
        imported, jax.tree.map(jnp.zeros_like, theirs), decay=DECAY
    )
    same(back, theirs)
    again = of_optax.from_state(back, ours, decay=DECAY, count=2)
    same(again, imported)
