"""Every number against its definition, in float64 NumPy."""

import functools
import io
import itertools
import math
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.console import Console

import rmsprop_jax
from rmsprop_jax import diagnostics, rmsprop
from rmsprop_jax.diagnostics._quantiles import NAMES, quantiles

LEVELS = (0.0, 0.05, 0.5, 0.95, 1.0)
BFLOAT16 = 2.0**-8  # what rounding to 8 bits may change, relative
RATE = 0.03


def expected_quantiles(x):
    x = np.sort(np.abs(np.asarray(x, np.float64)).ravel())
    return np.array([x[int(level * (len(x) - 1))] for level in LEVELS])


def assert_quantiles(got, x, rtol=1.01 * BFLOAT16):
    """The hundredth more is for float32 arithmetic, with errors below 1e-5."""
    np.testing.assert_allclose(got, expected_quantiles(x), rtol=rtol)


def history(n=500, steps=7, seed=0):
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-4, 1, n)
    return [scale * (0.3 + rng.normal(size=n)) for _ in range(steps)]


def run(tx, gradients, dtype=jnp.float32):
    """Return the last gradient, the last update, and the state."""
    gradients = [jnp.asarray(g, dtype) for g in gradients]
    params = jnp.zeros_like(gradients[0])
    state, updates = tx.init(params), params
    for g in gradients:
        updates, state = tx.update(g, state, params)
    return gradients[-1], updates, state


RULES = [
    dict(zip(("decay", "eps", "eps_in_sqrt", "bias_correction"), values, strict=True))
    for values in itertools.product(
        (0.5, 0.99), (1e-8, 1e-2), (True, False), (True, False)
    )
]


def definition(gradients, decay, eps, eps_in_sqrt, bias_correction, centered=False):
    """Return s/W, the root with eps, and the mean."""
    gradients = [np.asarray(g, np.float64) for g in gradients]
    v = oracle.second_moment(gradients, decay, 0.0, centered, bias_correction)
    root = np.sqrt(v + eps) if eps_in_sqrt else np.sqrt(v) + eps
    t = len(gradients)
    weights = (1 - decay) * decay ** np.arange(t - 1, -1, -1.0)
    if bias_correction:
        weights /= 1 - decay**t
    mean = sum(w * g for w, g in zip(weights, gradients, strict=True))
    return v, root, mean


@pytest.mark.parametrize(
    "shape, dtype",
    [
        ((), "float32"),
        ((1,), "float64"),
        ((7,), "bfloat16"),
        ((40, 25), "float16"),
        ((3, 4, 5), "float32"),
    ],
)
def test_quantiles_are_those_of_sorting(shape, dtype, x64):
    rng = np.random.default_rng(1)
    x = jnp.asarray(np.exp(2 * rng.normal(size=shape)), dtype)
    assert_quantiles(quantiles(x), x, rtol=BFLOAT16)


def test_quantiles_show_what_is_not_finite():
    x = jnp.array([0.0, 1.0, 2.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(quantiles(x), [0, 0, 2, np.inf, np.nan])
    np.testing.assert_array_equal(quantiles(-jnp.abs(x[:1])), np.zeros(5))
    assert np.isnan(quantiles(jnp.zeros((0, 3)))).all()


def test_leaves_of_three_billion_elements():
    large = jax.ShapeDtypeStruct((3, 2**30), jnp.float32)
    lengths = jax.eval_shape(diagnostics.step_length, large)
    assert lengths.shape == (5,)
    assert jax.eval_shape(diagnostics.held, large).shape == ()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("centered", [False, True])
def test_effective_learning_rate_is_its_definition(rule, centered):
    gradients = history()
    _, _, state = run(rmsprop(RATE, centered=centered, **rule), gradients)
    got = diagnostics.effective_learning_rate(state, RATE, **rule)
    _, root, _ = definition(gradients, centered=centered, **rule)
    # Of 7 gradients a variance has an error of 1e-6 or so in float32.
    assert_quantiles(got, RATE / root)


@pytest.mark.parametrize("rule", RULES)
def test_effective_learning_rate_is_what_the_optimizer_did(rule):
    """Gradients of size 1 last: the length of the step is the rate itself."""
    gradients = [*history(), np.sign(history(seed=1)[0])]
    _, updates, state = run(rmsprop(RATE, **rule), gradients)
    rate = diagnostics.effective_learning_rate(state, RATE, **rule)
    # Both are rounded to bfloat16, which may turn one unit either way.
    np.testing.assert_allclose(
        rate, diagnostics.step_length(updates), rtol=2 * BFLOAT16
    )


def test_a_schedule_is_evaluated_at_the_last_step():
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    _, updates, state = run(rmsprop(schedule, decay=0.0), [np.ones(3)] * 4)
    rate = diagnostics.effective_learning_rate(state, schedule, decay=0.0)
    np.testing.assert_allclose(rate, 0.7, rtol=BFLOAT16)
    np.testing.assert_allclose(rate, diagnostics.step_length(updates))


def test_rates_are_finite_before_the_first_step_and_without_eps():
    for bias_correction in (False, True):
        options = dict(eps=0.0, bias_correction=bias_correction)
        state = rmsprop(RATE, **options).init(jnp.zeros(3))
        rate = diagnostics.effective_learning_rate(state, RATE, **options)
        lowest = float(np.finfo(np.float32).tiny)
        np.testing.assert_allclose(rate, RATE / math.sqrt(lowest), rtol=BFLOAT16)


@pytest.mark.parametrize("rule", RULES)
def test_shares_are_their_definitions(rule):
    gradients = history()
    for g in gradients:
        g[:50] = 0.0
    _, _, state = run(rmsprop(RATE, **rule), gradients)
    shares = diagnostics.shares(state, **rule)
    v, _, _ = definition(gradients, **rule)
    at_eps = v < rule["eps"] if rule["eps_in_sqrt"] else np.sqrt(v) < rule["eps"]
    assert 0 < at_eps.mean() < 1
    np.testing.assert_allclose(shares.at_floor, 0.1, rtol=1e-6)
    np.testing.assert_allclose(shares.at_eps, at_eps.mean(), rtol=1e-6)
    assert shares.saturated == 0


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "uint8"])
def test_saturated_is_the_end_of_the_format(storage):
    g = np.array([1e-3, 1.0, 1e4, 1e10])  # 1e20 is beyond the 1.1e5 of uint8
    _, _, state = run(rmsprop(RATE, storage=storage), [g])
    share = diagnostics.shares(state, storage=storage).saturated
    assert share == (0.5 if storage == "uint8" else 0.0)
    g[0] = np.nan
    _, _, state = run(rmsprop(RATE, storage=storage), [g])
    share = diagnostics.shares(state, storage=storage).saturated
    assert share == (0.75 if storage == "uint8" else 0.25)


def test_the_range_of_a_format_counts():
    format_ = rmsprop_jax.UInt8(min_exponent=-60)  # up to 1.75 * 2**3
    _, _, state = run(rmsprop(RATE, decay=0.0, storage=format_), [np.array([1.0, 9.0])])
    options = dict(decay=0.0, storage=format_)
    assert diagnostics.shares(state, **options).saturated == 0.5
    rate = diagnostics.effective_learning_rate(state, RATE, **options)
    np.testing.assert_allclose(rate[-1], RATE, rtol=BFLOAT16)


def test_held_counts_what_is_not_finite():
    g = {"a": jnp.array([1.0, jnp.nan, jnp.inf, 0.0]), "b": None, "c": jnp.ones(2)}
    assert diagnostics.held(g) == {"a": 0.5, "b": None, "c": 0.0}


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_signal_to_noise_is_its_definition(bias_correction, storage):
    rule = dict(decay=0.8, bias_correction=bias_correction)
    gradients = history(steps=12)
    tx = rmsprop(RATE, centered=True, storage=storage, **rule)
    _, _, state = run(tx, gradients)
    got = diagnostics.signal_to_noise(state, storage=storage, **rule)
    v, _, mean = definition(gradients, eps=0.0, eps_in_sqrt=True, centered=True, **rule)
    # The moments themselves lose 8 bits a step in bfloat16.
    rtol = 1.01 * BFLOAT16 if storage == "float32" else 0.1
    np.testing.assert_allclose(
        got[1:4], expected_quantiles(np.abs(mean) / np.sqrt(v))[1:4], rtol=rtol
    )


def test_signal_without_noise_is_finite():
    _, _, state = run(rmsprop(RATE, decay=0.0, centered=True), [np.ones(3)] * 3)
    ratio = diagnostics.signal_to_noise(state, decay=0.0)
    assert np.isfinite(ratio).all() and (np.asarray(ratio) > 1e18).all()


@pytest.mark.parametrize("storage", ["bfloat16", "uint8"])
def test_agreement_is_its_definition(storage):
    gradients, eps = history(), 1e-6
    _, _, state = run(rmsprop(RATE, eps=eps, storage=storage), gradients)
    _, _, exact = run(rmsprop(RATE, eps=eps), gradients)
    got = diagnostics.agreement(state, exact, eps=eps, storage=storage)
    format_ = rmsprop_jax.UInt8() if storage == "uint8" else rmsprop_jax.BFloat16()
    s = np.asarray(format_.decode(state[0].s), np.float64)
    full = np.asarray(exact[0].s, np.float64)
    assert_quantiles(got, np.sqrt(full + eps) / np.sqrt(s + eps))
    assert got[0] < 1 < got[-1]
    alone = diagnostics.agreement(exact, exact, eps=eps)
    np.testing.assert_array_equal(alone, np.ones(5))


def partition():
    return optax.partition(
        {"ours": rmsprop(RATE), "theirs": optax.sgd(0.1)}, {"a": "ours", "b": "theirs"}
    )


CHAINS = {
    "alone": lambda: rmsprop_jax.scale_by_rmsprop(),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1e9), rmsprop(RATE)),
    "injected": lambda: optax.inject_hyperparams(rmsprop)(RATE),
    "MultiSteps": lambda: optax.MultiSteps(rmsprop(RATE), 1),
    "momentum": lambda: rmsprop(RATE, momentum=0.9, lr_in_momentum=False),
    "master weights": lambda: rmsprop_jax.master_weights(rmsprop(RATE)),
    "masked": lambda: optax.masked(rmsprop(RATE), {"a": True, "b": False}),
    "partition": partition,
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.rows(3)
def test_the_state_is_found(name):
    tx = CHAINS[name]()
    params = {"a": jnp.array([1.0, 2.0, 4.0]), "b": jnp.ones((2, 2))}
    state = tx.init(params)
    with jax.numpy_dtype_promotion("standard"):  # optax 0.2.5 needs it
        _, state = tx.update(params, state, params)
    rate = diagnostics.effective_learning_rate(state, RATE)
    got = diagnostics.summary(state, RATE, gradients=params).scalars()
    assert_quantiles(rate["a"], RATE / np.sqrt(0.1 * np.array([1.0, 4.0, 16.0]) + 1e-8))
    assert ("rmsprop/b/at_eps" in got) == (name not in ("masked", "partition"))
    assert got["rmsprop/b/held"] == 0
    summary = diagnostics.summary(state, RATE, gradients=params)
    lines = str(summary).splitlines()
    held = lines[0].index("held")  # stands under its heading, also where others lack
    assert [line[held:].split()[0] for line in lines[1:3]] == ["0%", "0%"]
    Console(file=io.StringIO()).print(summary)


def test_a_rate_may_come_from_the_state():
    tx = optax.inject_hyperparams(rmsprop)(RATE)
    state = tx.init(jnp.ones(3))
    summary = jax.jit(
        lambda state: diagnostics.summary(state, state.hyperparams["learning_rate"])
    )(state)
    for rate in (RATE, np.array([RATE], np.float32)):
        np.testing.assert_array_equal(
            summary.effective_learning_rate,
            diagnostics.effective_learning_rate(state, rate),
        )


def test_flax_state_has_the_names_of_the_model():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, rmsprop(RATE), wrt=nnx.Param)
    optimizer.update(model, nnx.state(model, nnx.Param))
    names = diagnostics.summary(optimizer.opt_state, RATE).scalars("")
    assert {name.split("/")[0] for name in names} == {"kernel", "bias"}


def test_leaves_that_are_none_and_a_lone_array():
    params = {"a": jnp.ones(2), "b": None}
    state = rmsprop(RATE).init(params)
    names = diagnostics.summary(state, RATE, updates=params).scalars()
    assert {name.split("/")[1] for name in names} == {"a"}
    alone = diagnostics.summary(rmsprop(RATE).init(jnp.ones(2)), RATE)
    assert alone.scalars()["rmsprop/at_floor"] == 1.0
    assert alone.scalars(prefix="")["at_floor"] == 1.0
    assert str(alone).splitlines()[1].split()[0] == "/"
    assert str(diagnostics.summary(rmsprop(RATE).init({}), RATE)) == "no parameters"


@pytest.mark.parametrize("dtype", ["complex64", "bfloat16", "float16"])
@pytest.mark.rows(2)
def test_dtypes(dtype):
    g = np.array([3.0, -4.0, 0.5])
    g, _, state = run(rmsprop(RATE, decay=0.0, centered=False), [g], dtype)
    rate = diagnostics.effective_learning_rate(state, RATE, decay=0.0)
    assert_quantiles(rate, RATE / np.abs(np.asarray(g, np.complex128)))
    length = diagnostics.step_length(g)
    assert_quantiles(length, np.abs(np.asarray(g, np.complex128)))
    assert length.dtype == rate.dtype == jnp.float32


def test_float64(x64):
    gradients = history()
    _, updates, state = run(rmsprop(RATE, centered=True), gradients, jnp.float64)
    summary = diagnostics.summary(state, RATE, updates=updates, exact=state)
    np.testing.assert_array_equal(summary.agreement, np.ones(5))
    rule = dict(decay=0.9, eps=1e-8, eps_in_sqrt=True, bias_correction=False)
    _, root, _ = definition(gradients, centered=True, **rule)
    assert_quantiles(summary.effective_learning_rate, RATE / root)


def full_summary(state, gradients, updates):
    return diagnostics.summary(
        state, RATE, gradients=gradients, updates=updates, exact=state
    )


jitted_summary = jax.jit(full_summary)  # compiled once for all tests below


@functools.cache
def trained(seed=0):
    tx = rmsprop(RATE, centered=True)
    gradients = [
        {"w": jnp.asarray(g.reshape(8, 20), jnp.float32), "b": jnp.ones(3)}
        for g in history(160, seed=seed)
    ]
    state, update = tx.init(gradients[0]), jax.jit(tx.update)
    for g in gradients:
        updates, state = update(g, state)
    return state, gradients[-1], updates


def test_jit_changes_nothing():
    eager, jitted = full_summary(*trained()), jitted_summary(*trained())
    assert isinstance(jitted, diagnostics.Summary)
    jax.tree.map(np.testing.assert_array_equal, eager, jitted)


def test_vmap_gives_a_summary_a_run():
    runs = [trained(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *runs)
    together = jax.jit(jax.vmap(full_summary))(*stacked)
    for k, args in enumerate(runs):
        one = jax.tree.map(lambda x, k=k: x[k], together)
        # A share is a division, which LLVM may do as a product with the reciprocal.
        chex.assert_trees_all_close(one, jitted_summary(*args), rtol=2e-7)
    for show in (str, diagnostics.Summary.scalars):
        with pytest.raises(ValueError, match=r"several runs.*\(3,.*x\[0\], summary"):
            show(together)


explicit = pytest.mark.skipif(
    not hasattr(jax, "set_mesh"), reason="this JAX has no meshes of explicit axes"
)


@pytest.mark.parametrize(
    "kind, summarize",
    [
        (AxisType.Auto, jitted_summary),
        pytest.param(AxisType.Explicit, jitted_summary, marks=explicit),
        pytest.param(AxisType.Auto, full_summary, marks=pytest.mark.long),
        pytest.param(AxisType.Explicit, full_summary, marks=explicit),
    ],
)
@pytest.mark.rows(1)
def test_a_mesh_changes_nothing(kind, summarize):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind,) * 2)

    def place(x):
        spec = P("x", "y") if x.ndim == 2 else P()
        return jax.device_put(x, NamedSharding(mesh, spec))

    got = summarize(*jax.tree.map(place, trained()))
    jax.tree.map(np.testing.assert_array_equal, got, jitted_summary(*trained()))


def test_on_a_mesh_only_counts_leave_a_device():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    placed = jax.tree.map(
        lambda x: jax.device_put(x, NamedSharding(mesh, P("x") if x.ndim else P())),
        rmsprop(RATE).init(jnp.ones((64, 32))),
    )
    compiled = jax.jit(lambda state: diagnostics.summary(state, RATE))
    text = compiled.lower(placed).compile().as_text()
    assert "all-reduce" in text
    for word in ("all-gather", "all-to-all", "collective-permute"):
        assert word not in text


def test_scalars_are_finite_floats_with_one_name_each():
    summary = jitted_summary(*trained())
    scalars = summary.scalars("train/rmsprop")
    assert len(scalars) == 2 * (4 * len(NAMES) + 4)
    for name, value in scalars.items():
        assert type(value) is float and math.isfinite(value), name
        assert name.startswith("train/rmsprop/")
    rate = summary.effective_learning_rate["w"]
    assert scalars["train/rmsprop/w/effective_learning_rate/q50"] == rate[2]


def test_paths_of_one_name_are_told_apart():
    params = {"a/b": jnp.zeros(2), "a": {"b": jnp.ones(3)}}
    scalars = diagnostics.summary(rmsprop(RATE).init(params), RATE).scalars()
    assert len(scalars) == 2 * (len(NAMES) + 3)


def test_printed_as_a_table(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich", None)  # not needed for that
    summary = jitted_summary(*trained())
    rows = str(summary).splitlines()
    assert rows[0].startswith("leaf  effective learning rate  step length")
    assert [row.split()[0] for row in rows[1:3]] == ["b", "w"]
    values = np.asarray(summary.step_length["w"])[1:4]
    for text, value in zip(rows[2].split()[4:7], values, strict=True):
        np.testing.assert_allclose(float(text), value, rtol=0.05)  # two digits


def test_printed_by_rich(capsys):
    rich = pytest.importorskip("rich")
    rich.print(jitted_summary(*trained()))
    shown = capsys.readouterr().out
    for word in ("leaf", "effective", "noise", "agreement", "0%", "quantiles"):
        assert word in shown, word
    assert "…" not in shown


STATE = rmsprop(RATE).init({"w": jnp.ones(3)})
D = diagnostics
ERRORS = [
    (
        lambda: D.effective_learning_rate(optax.sgd(0.1).init(jnp.ones(3)), RATE),
        ValueError,
        r"effective_learning_rate\(state\)` must hold one RMSPropState; got 0 in a",
    ),
    (lambda: D.shares((STATE, STATE)), ValueError, "got 2 in a tuple.*partition"),
    (
        lambda: D.summary(STATE, RATE, storage="uint8"),
        ValueError,
        r"summary`: a moment .* is float32, which storage `UInt8\(.*convert",
    ),
    (
        lambda: D.shares(rmsprop(1, storage="uint8").init(jnp.ones(3))),
        ValueError,
        r"shares`: a moment in the state is uint8, which storage `Float32\(\)`",
    ),
    (
        lambda: D.shares(rmsprop(1, storage="bfloat16").init(jnp.ones(3))),
        ValueError,
        "is bfloat16, which storage .* does not keep",
    ),
    (
        lambda: D.agreement(STATE, rmsprop(1).init({"v": jnp.ones(3)})),
        ValueError,
        r"agreement\(exact\)` must be a state of the same parameters",
    ),
    (
        lambda: D.summary(STATE, RATE, exact=rmsprop(1).init({"w": jnp.ones(4)})),
        ValueError,
        r"summary\(exact\)` must be a state of the same parameters",
    ),
    (lambda: D.signal_to_noise(STATE), ValueError, r"mean.*`rmsprop\(..., centered"),
    (lambda: D.summary(STATE, RATE, decay=1.5), ValueError, r"summary\(decay=...\)`"),
    (lambda: D.shares(STATE, eps=-1.0), ValueError, r"shares\(eps=...\)` must lie in"),
    (lambda: D.summary(STATE, RATE, storage="int4"), ValueError, "must be one of"),
    pytest.param(
        lambda: D.shares(STATE, decay=optax.constant_schedule(0.9)),
        TypeError,
        r"shares\(decay=...\)` must be a number; got a function\.$",
        marks=pytest.mark.kinds,
    ),
    (
        lambda: D.effective_learning_rate(STATE, None),
        TypeError,
        r"effective_learning_rate\(learning_rate=...\)` must be a number",
    ),
]


@pytest.mark.parametrize("call, kind, match", ERRORS)
def test_errors(call, kind, match):
    with pytest.raises(kind, match=match):
        call()
