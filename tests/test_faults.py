"""Killed processes, and checkpoints that do not fit."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from rmsprop_jax import UInt8, rmsprop
from rmsprop_jax.interop import orbax, storage

PARAMS = {"w": jnp.ones((64, 8)), "b": jnp.ones(3)}


@pytest.mark.parametrize(
    ("kills", "steps"), [(1, 12), pytest.param(20, 90, marks=pytest.mark.long)]
)
def test_a_killed_run_ends_as_an_undisturbed_one(kills, steps, tmp_path):
    """SIGKILL while training and writing checkpoints; all storage formats at once."""
    script = Path(__file__).parent / "killed.py"
    arguments = [tmp_path / "runs", kills, steps, 0]
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == kills
    assert found["equal"]
    assert max(found["restarts"]) > 0


def saved(folder, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "step", tree)
    return folder / "step"


def tree(params=PARAMS, **options):
    return {"params": params, "state": rmsprop(0.1, **options).init(params)}


OTHERS = [
    (
        tree({"w": jnp.ones((64, 9)), "b": jnp.ones(3)}),
        r"w' is uint8\[64, 8\].*\[64, 9",
    ),
    (tree({"w": jnp.ones((64, 8))}), "unexpected: 'params/b'"),
    (tree(), r"'state/0/s/b' is uint8\[3\] in the checkpoint; expected float32\[3\]"),
    (tree(storage="bfloat16"), r"s/w' is uint8.*expected bfloat16"),
    (tree(storage="uint8", momentum=0.9), "missing: 'state/2/step'"),
    (tree(storage="uint8", centered=True), "missing: 'state/0/m/b'"),
]


@pytest.mark.parametrize(("like", "match"), OTHERS)
def test_a_checkpoint_of_something_else_is_refused(like, match, tmp_path):
    """Another shape, another option set; and what is live stays as it is."""
    folder = saved(tmp_path, tree(storage="uint8"))
    before = jax.tree.map(np.array, like)
    with pytest.raises(ValueError, match=match) as raised:
        orbax.restore(folder, like)
    assert "Build the transformation with the options" in str(raised.value)
    chex.assert_trees_all_equal(like, before)


def test_orbax_alone_casts_codes_to_numbers(tmp_path):
    """Why there is a `restore` of our own."""
    ones = rmsprop(0.1, initial_scale=1.0, storage="uint8").init(PARAMS)
    folder = saved(tmp_path, ones)
    like = rmsprop(0.1).init(PARAMS)
    with ocp.StandardCheckpointer() as checkpointer:
        wrong = checkpointer.restore(folder, jax.tree.map(jnp.asarray, like))
    assert float(wrong[0].s["b"][0]) == 188.0


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    """Fields under other names."""
    older = {"count": jnp.zeros((), jnp.int32), "nu": PARAMS}
    folder = saved(tmp_path, {"params": PARAMS, "state": [older, None]})
    with pytest.raises(ValueError, match=r"missing: 'state/0/s/b'(.|\n)*state/0/nu/b"):
        orbax.restore(folder, tree())


def damage(folder, how):
    files = [p for p in folder.rglob("*") if p.is_file()]
    if how == "metadata":
        (folder / "_METADATA").unlink()
        return
    if how == "absent":
        shutil.rmtree(folder)
        return
    for path in files:
        if path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# TensorStore may answer after Orbax has given up and closed its event loop.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("how", ("truncated", "metadata", "absent"))
def test_a_damaged_checkpoint_is_refused(how, tmp_path):
    live = tree(storage="uint8")
    folder = saved(tmp_path, live)
    before = jax.tree.map(np.array, live)
    damage(folder, how)
    with pytest.raises(ValueError, match="cannot be read: .* Restore an earlier one"):
        orbax.restore(folder, live)
    chex.assert_trees_all_equal(live, before)


@pytest.mark.parametrize("before", ("float32", "bfloat16", "uint8"))
@pytest.mark.parametrize("after", ("float32", "bfloat16", "uint8", UInt8(-60)))
@pytest.mark.rows(6)
def test_a_state_goes_on_in_another_format(before, after):
    def make(kept):
        return rmsprop(
            optax.linear_schedule(0.1, 0.0, 10),
            centered=True,
            momentum=0.9,
            initial_scale=1.0,
            storage=kept,
        )

    tx = make(before)
    _, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    found = storage.convert(state, before=before, after=after)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, make(after).init(PARAMS))
    u, _ = tx.update(PARAMS, state, PARAMS)
    got, _ = make(after).update(PARAMS, found, PARAMS)
    chex.assert_trees_all_close(got, u, rtol=0.1)
    if before == after:
        chex.assert_trees_all_equal(found, state)


def test_conversion_refuses_another_format():
    state = rmsprop(0.1, storage="uint8").init(PARAMS)
    with pytest.raises(ValueError, match=r"storage.convert`: a moment .* is uint8"):
        storage.convert(state, after="bfloat16")
    with pytest.raises(ValueError, match="must be one of"):
        storage.convert(state, before="uint8", after="float8")


@pytest.mark.parametrize("kept", ("float32", "bfloat16", "uint8"))
def test_nonfinite_gradients_at_random_lose_nothing_else(kept):
    """A tenth of the coordinates NaN or inf in each step; the others never notice."""
    rng = np.random.default_rng(0)
    gs = rng.standard_normal((20, 500)).astype(np.float32)
    bad = rng.random((20, 500)) < 0.1
    bad[:, ::2] = False
    broken = np.where(bad, rng.choice([np.nan, np.inf, -np.inf], gs.shape), gs)
    tx = rmsprop(0.01, centered=True, storage=kept, nonfinite="hold")

    def follow(gs):
        def step(carry, g):
            params, state = carry
            u, state = tx.update(g, state, params)
            return (optax.apply_updates(params, u), state), None

        start = jnp.zeros(500)
        return jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), gs)[0])()

    (params, state), (want, _) = (
        follow(jnp.asarray(broken, jnp.float32)),
        follow(jnp.asarray(gs)),
    )
    chex.assert_tree_all_finite((params, jax.tree.map(jnp.float32, state)))
    chex.assert_trees_all_equal(params[::2], want[::2])
    held = np.asarray(bad.sum(axis=0) > 0)
    assert np.all(np.asarray(params != want)[held])
