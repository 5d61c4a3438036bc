"""Checkpoints of Orbax: random keys, and folders that are not what they seem."""

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training.train_state import TrainState

from rmsprop_jax import rmsprop
from rmsprop_jax.interop import orbax

PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}


def saved(folder, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "step", tree)
    return folder / "step"


def words(tree):
    """Give keys as what they are made of, for comparison."""

    def plain(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(plain, tree)


def test_a_state_with_a_key_is_restored(tmp_path):
    """`optax.add_noise` keeps one; the noise goes on where it was."""
    tx = optax.chain(optax.add_noise(0.1, 0.9, key=jax.random.key(7)), rmsprop(0.1))
    with jax.numpy_dtype_promotion("standard"):
        _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
        restored = orbax.restore(saved(tmp_path, state), tx.init(PARAMS))
        chex.assert_trees_all_equal_dtypes(restored, state)
        chex.assert_trees_all_equal(words(restored), words(state))
        got, want = (tx.update(PARAMS, s, PARAMS)[0] for s in (restored, state))
        chex.assert_trees_all_equal(got, want)


KEYS = {
    "raw": lambda: jnp.arange(2, dtype=jnp.uint32),
    "raw of four": lambda: jnp.arange(4, dtype=jnp.uint32),
    "key": lambda: jax.random.key(0),
    "keys": lambda: jax.random.split(jax.random.key(0), 3),
    "rbg": lambda: jax.random.key(0, impl="rbg"),
    "unsafe": lambda: jax.random.key(0, impl="unsafe_rbg"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_kind_are_restored(kind, tmp_path):
    tree = {"k": KEYS[kind](), "x": jnp.ones(2)}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    folder = saved(tmp_path, tree)
    for like in (tree, abstract):
        restored = orbax.restore(folder, like)
        chex.assert_trees_all_equal_shapes_and_dtypes(restored, tree)
        chex.assert_trees_all_equal(words(restored), words(tree))


def test_keys_are_placed_as_those_at_hand(tmp_path):
    mesh = jax.make_mesh((4,), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    kept = jax.random.split(jax.random.key(0), 4)
    like = {"k": jax.device_put(kept, split)}
    restored = orbax.restore(saved(tmp_path, {"k": kept}), like)
    assert restored["k"].sharding == split
    chex.assert_trees_all_equal(words(restored), words(like))


@pytest.mark.parametrize(
    ("kept", "wanted", "match"),
    [
        ("key", "keys", r"'k' is uint32\[2\] .*expected uint32\[3, 2\]"),
        ("key", "rbg", r"'k' is uint32\[2\] .*expected uint32\[4\]"),
        # Alike as Orbax keeps them; it restores what was saved, not what is wanted.
        ("key", "raw", r"'k' is key<fry>\[\] .*expected uint32\[2\]"),
        ("raw", "key", r"'k' is uint32\[2\] .*expected key<fry>\[\]"),
        ("rbg", "unsafe", r"'k' is key<rbg>\[\] .*expected key<urbg>\[\]"),
        ("raw of four", "rbg", r"'k' is uint32\[4\] .*expected key<rbg>\[\]"),
    ],
)
def test_keys_of_another_kind_are_refused(kept, wanted, match, tmp_path):
    folder = saved(tmp_path, {"k": KEYS[kept]()})
    with pytest.raises(ValueError, match=f"another optimizer(.|\n)*differs: {match}"):
        orbax.restore(folder, {"k": KEYS[wanted]()})


def test_a_relative_folder(tmp_path, monkeypatch):
    state = rmsprop(0.1).init(PARAMS)
    saved(tmp_path, state)
    monkeypatch.chdir(tmp_path)
    for folder in ("step", "./step", f"../{tmp_path.name}/step"):
        chex.assert_trees_all_equal(orbax.restore(folder, state), state)
    with pytest.raises(ValueError, match=f"{tmp_path}/nowhere .*does not exist"):
        orbax.restore("nowhere", state)


def test_a_url_is_left_alone(monkeypatch):
    """No client for one is installed here: what Orbax is given is enough."""
    asked = []

    class Checkpointer:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def metadata(self, folder):
            asked.append(folder)
            raise ConnectionError

    monkeypatch.setattr(ocp, "StandardCheckpointer", Checkpointer)
    with pytest.raises(ConnectionError):
        orbax.restore("gs://bucket/step", PARAMS)
    assert asked == ["gs://bucket/step"]


def test_the_folder_of_a_step_names_that_of_the_tree(tmp_path):
    state = rmsprop(0.1).init(PARAMS)
    one, two = ocp.args.StandardSave(state), ocp.args.StandardSave(PARAMS)
    both = ocp.args.Composite(state=one, params=two, notes=ocp.args.JsonSave({}))
    for folder, args, match, deeper in (
        ("one", one, "/one/100 holds no tree itself, .*: 'default'", "default"),
        ("two", both, "/two/100 holds no tree itself, .*: 'params', 'state'", "state"),
    ):
        with ocp.CheckpointManager(tmp_path / folder) as manager:
            manager.save(100, args=args)
        with pytest.raises(ValueError, match=rf"{match}\. Pass one of them"):
            orbax.restore(tmp_path / folder / "100", state)
        match = f"CheckpointManager, and holds .*Pass .* as '.*/100/{deeper}'"
        with pytest.raises(ValueError, match=match):
            orbax.restore(tmp_path / folder, state)
    restored = orbax.restore(tmp_path / "two" / "100" / "state", state)
    chex.assert_trees_all_equal(restored, state)


def test_a_folder_that_does_not_exist(tmp_path):
    match = "/nowhere cannot be read: the folder does not exist"
    with pytest.raises(ValueError, match=match):
        orbax.restore(tmp_path / "nowhere", PARAMS)


def test_the_root_of_a_manager_with_several_steps(tmp_path):
    state = rmsprop(0.1).init(PARAMS)
    with ocp.CheckpointManager(tmp_path / "root") as manager:
        for step in (9, 100):
            manager.save(step, args=ocp.args.StandardSave(state))
    match = "holds '9/default', '100/default'. Pass .* as '.*/root/100/default'"
    with pytest.raises(ValueError, match=match):
        orbax.restore(tmp_path / "root", state)


def test_a_file_and_an_empty_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for name, match in (("file", "it is a file"), ("folder", "no complete tree was")):
        with pytest.raises(ValueError, match=f"/{name} cannot be read: {match}"):
            orbax.restore(tmp_path / name, PARAMS)


def train_state():
    model = linen.Dense(2)
    params = model.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    make = TrainState.create
    return make(apply_fn=model.apply, params=params, tx=rmsprop(1e-3, momentum=0.9))


def test_a_train_state_is_restored_into_a_new_one_and_back(tmp_path):
    """The step of a new one is a number of Python; after a jitted step, an array."""
    new = train_state()
    step = jax.jit(lambda state: state.apply_gradients(grads=state.params))
    trained = step(new)
    restored = orbax.restore(saved(tmp_path / "1", trained), new)
    assert restored.step == 1 and type(restored.step) is int
    chex.assert_trees_all_equal(restored.params, trained.params)
    chex.assert_trees_all_equal(step(restored), step(trained))
    restored = orbax.restore(saved(tmp_path / "2", new), trained)
    assert isinstance(restored.step, jax.Array) and restored.step.dtype == jnp.int32
    chex.assert_trees_all_equal(restored, new)


def test_a_number_of_another_kind_is_refused(tmp_path):
    folder = saved(tmp_path, {"x": 1, "y": jnp.ones(2)})
    for like, match in (
        ({"x": 0.5, "y": jnp.ones(2)}, r"'x' is int\[\] .*; expected float\[\]"),
        ({"x": 1, "y": 2.0}, r"'y' is float32\[2\] .*; expected float\[\]"),
        ({"x": jnp.float32(1), "y": jnp.ones(2)}, r"'x' is int\[\] .* float32\[\]"),
    ):
        with pytest.raises(ValueError, match=f"differs: {match}"):
            orbax.restore(folder, like)
