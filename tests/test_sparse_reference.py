"""Random runs of a table against the dense rule in extended precision, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import quick_jit
from test_sparse import zipf

from rmsprop_jax import sparse
from rmsprop_jax.sparse import _idle_schedule

ROWS, DIM, STEPS, PERIOD = 41, 2, 300, 32


def dense(
    table,
    batches,
    rate,
    dtype,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
    lr_in_momentum=True,
    weight_decay=None,
    decoupled_weight_decay=False,
):
    """Give the table after each step, the distance that each entry has moved, and
    the distances that its buffer would have gone after each step that used it.

    Numbers are those that `dtype` holds, and the arithmetic is NumPy's longdouble.
    """

    def number(x):
        return np.longdouble(np.dtype(dtype).type(x or 0.0))

    del decoupled_weight_decay
    decay, eps, mu, wd = map(number, (decay, eps, momentum, weight_decay))
    p = table.astype(np.longdouble)
    mean, square, b = (np.zeros_like(p) for _ in range(3))
    square += number(initial_scale)
    path, moved, promised = [p], np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(batches):
        lr = number(rate[t])
        mean, square = decay * mean + (1 - decay) * g, decay * square
        square = square + (1 - decay) * g**2
        weight = 1 - decay ** (t + 1) if bias_correction else np.longdouble(1)
        v = square / weight - (mean / weight) ** 2 * centered
        v = np.maximum(v, 0)
        root = np.sqrt(v + eps) if eps_in_sqrt else np.sqrt(v) + eps
        u = np.divide(g, root, out=np.zeros_like(g), where=g != 0)
        x = lr * u if lr_in_momentum else u
        b = mu * b + x
        if momentum is not None:
            x = x + mu * b if nesterov else b
        x = (x if lr_in_momentum else lr * x) + lr * wd * p
        p, moved = p - x, moved + np.abs(x)
        path.append(p)
        reach = (1 if lr_in_momentum else max(rate)) / (1 - mu)
        promised += np.any(g != 0, axis=1, keepdims=True) * np.abs(b) * reach
    return np.asarray(path), moved, promised


@pytest.fixture
def short_period(monkeypatch):
    """Visit rows often: a run of 300 steps is then as long as one of 40,000."""
    monkeypatch.setattr(_idle_schedule, "_LEAST_PERIOD", PERIOD // 2)


def run(rate, options, ids, gradients, table):
    """Give the rate and what `gather` reads before each step, and the last table."""
    tx = sparse.rmsprop(rate, **options)

    def one(carry, batch):
        count, read = carry[1].step, tx.gather(*carry, batch[0])
        now = jnp.asarray(rate(count) if callable(rate) else rate)
        return tx.update(*carry, *batch), (now, read)

    def all_steps():
        carry, on_the_way = jax.lax.scan(one, (table, tx.init(table)), (ids, gradients))
        return *on_the_way, tx.flush(*carry)[0]

    return map(np.asarray, quick_jit(all_steps)())


def draw(seed, dtype):
    """Draw ids, most rows seldom and none for long, their gradients, and a table."""
    rng = np.random.default_rng(seed)
    quiet = np.repeat(rng.random(STEPS // 10) < 0.5, 10)[:, None]
    ids = np.where(quiet, -1, zipf(STEPS, ROWS, batch=6, seed=seed)).astype(np.int32)
    size = 10.0 ** rng.uniform(-2, 1, (*ids.shape, 1))
    g = size * rng.standard_normal((*ids.shape, DIM))
    return ids, g.astype(dtype), rng.standard_normal((ROWS, DIM)).astype(dtype)


def excess(rate, options, dtype, seed):
    """Give the largest error, as a multiple of what rounding explains.

    A row is rounded about twice in each step that uses it and in each visit: by half a
    unit in the last place of its largest entry on the way, or of its distance, of which
    what comes out of the buffer is a part. Where storage is narrow, a moment or the
    buffer is also off by a spacing of the format.
    """
    ids, g, table = draw(seed, dtype)
    batches = np.zeros((STEPS, ROWS, DIM), np.longdouble)
    for batch, i, x in zip(batches, ids, g, strict=True):
        np.add.at(batch, i[i >= 0], x[i >= 0])
    plain = {k: x for k, x in options.items() if k != "storage"}
    rates, read, end = run(rate, options, *map(jnp.asarray, (ids, g, table)))
    path, moved, promised = dense(table, batches, rates, dtype, **plain)
    uses = np.sum([np.any(ids == row, axis=1) for row in range(ROWS)], axis=1)
    roundings = uses[:, None] + STEPS / PERIOD + 1
    unit = np.finfo(dtype).eps / 2
    allowed = 2 * unit * roundings * (np.max(np.abs(path), axis=0) + moved)
    allowed += NARROW[options.get("storage", "float32")] * (moved + promised)
    error = np.abs(end - path[-1]) / allowed
    gaps = np.abs(read - path[np.arange(STEPS)[:, None], ids]) / allowed[ids]
    return max(np.max(error), np.max(np.where(ids[..., None] < 0, 0.0, gaps)))


# The spacing of what a format stores, relative to what it stores.
NARROW = {"float32": 0.0, "bfloat16": 2.0**-7, "uint8": 2.0**-2}


def real(count):
    """Let a schedule compute in the precision of its table."""
    return count.astype(jnp.result_type(float))


def to_zero(count):
    """Warm up from 0, and end at 0."""
    return optax.warmup_cosine_decay_schedule(0.0, 0.05, 60, 250)(real(count))


def steep(count):
    """Shrink rows more in a step than any momentum shrinks its buffer."""
    return optax.warmup_cosine_decay_schedule(0.0, 0.9, 60, 250)(real(count))


def wave(count):
    return 0.01 * (1 + jnp.cos(real(count) / 40))


def pieces(count):
    return optax.piecewise_constant_schedule(0.05, {100: 0.2, 200: 0.0})(real(count))


# What each number or option may be in a random case; eps where a variance is small.
RATES = (0.01, wave, to_zero, steep, pieces)
CHOICES = dict(
    rule=(
        dict(),
        dict(centered=True, initial_scale=1.0, eps=1e-2),
        dict(bias_correction=True, eps_in_sqrt=False),
        dict(centered=True, bias_correction=True, eps=1e-2, decay=0.7),
    ),
    momentum=(dict(), *(dict(momentum=mu) for mu in (0.0, 0.9, 0.99, 0.999))),
    nesterov=(dict(), dict(nesterov=True)),
    order=(dict(), dict(lr_in_momentum=False)),
    decay=(
        dict(),
        *(dict(weight_decay=x, decoupled_weight_decay=True) for x in (0.01, 0.3, 1.0)),
    ),
    storage=(dict(), dict(), dict(storage="bfloat16"), dict(storage="uint8")),
)


def random_case(seed):
    """Draw a learning rate and options."""
    rng = np.random.default_rng(seed)
    options = {}
    for choices in CHOICES.values():
        options |= choices[rng.integers(len(choices))]
    if "momentum" not in options:
        options.pop("nesterov", None), options.pop("lr_in_momentum", None)
    if options.get("centered"):  # a variance from narrow moments may be far off
        options.pop("storage", None)
    return RATES[rng.integers(len(RATES))], options


@pytest.mark.parametrize("seed", range(160))
@pytest.mark.rows(6)
def test_random_runs_are_as_exact_as_float32(seed, short_period):
    assert excess(*random_case(seed), np.float32, seed) < 1


@pytest.mark.parametrize("seed", range(1000, 1080))
@pytest.mark.rows(3)
def test_random_runs_are_as_exact_as_float64(seed, short_period, x64):
    assert excess(*random_case(seed), np.float64, seed) < 1


DECOUPLED = dict(decoupled_weight_decay=True)


def level(count):
    """The schedule that stays at 0.01."""
    return 0.01 + 0 * real(count)


@pytest.mark.parametrize(
    ("momentum", "strength"), [(0.99, 1.0), (0.99, 5.0), (0.999, 0.1), (0.9, 90.0)]
)
@pytest.mark.rows(2)
def test_weight_decay_as_strong_as_momentum(momentum, strength, short_period):
    """Here `1 - lr*weight_decay` shrinks a row as fast as its buffer, or faster."""
    options = dict(momentum=momentum, lr_in_momentum=strength > 1)
    options |= dict(weight_decay=strength, **DECOUPLED)
    assert excess(level, options, np.float32, seed=3) < 1


def test_small_terms_are_not_rounded_away():
    """Of a weak decay in 4,000 steps; a constant rate has a closed form."""
    ends = []
    for rate in (level, 0.01):
        tx = sparse.rmsprop(rate, momentum=0.999, weight_decay=1e-3, **DECOUPLED)

        def idle(state, tx=tx):
            ids, g = jnp.asarray([-1]), jnp.zeros((1, 1))
            carry = jax.lax.fori_loop(
                0, 4000, lambda _, c: tx.update(*c, ids, g), (jnp.ones((2, 1)), state)
            )
            return tx.flush(*carry)[0]

        state = tx.init(jnp.ones((2, 1)))._replace(trace=jnp.asarray([[1e-3], [0.0]]))
        ends.append(quick_jit(idle)(state))
    np.testing.assert_allclose(*ends, rtol=5e-7)


def test_the_clock_may_begin_anywhere(short_period):
    """Visits go by the clock, also where it goes on from 0 after 2**32 - 1."""
    ids, g, table = map(jnp.asarray, draw(5, np.float32))
    tx = sparse.rmsprop(steep, momentum=0.9, weight_decay=0.5, **DECOUPLED)

    def end_from(clock):
        state = tx.init(table)
        state = state._replace(clock=clock, touched=state.touched + clock)
        carry, _ = jax.lax.scan(
            lambda carry, batch: (tx.update(*carry, *batch), None),
            (table, state),
            (ids, g),
        )
        return tx.flush(*carry)[0]

    clocks = jnp.asarray([0, 77, 2**32 - 40], jnp.uint32)
    first, *others = quick_jit(jax.vmap(end_from))(clocks)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=2e-6, atol=2e-6)


@pytest.mark.long
@pytest.mark.parametrize("strength", (1e-4, 1.0))
def test_a_million_steps(strength):
    """Of a row used once, of one never used, and of one used near the end."""
    count, last, changed = 1_000_000, 37, 400_000

    def rate(count):
        return jnp.where(count < changed, 0.01, 0.005)

    tx = sparse.rmsprop(rate, momentum=0.9, weight_decay=strength, **DECOUPLED)

    def idle(carry, steps):
        ids, g = jnp.asarray([-1]), jnp.zeros((1, 1))
        return jax.lax.fori_loop(0, steps, lambda _, c: tx.update(*c, ids, g), carry)

    @jax.jit
    def run(table):
        first = tx.update(table, tx.init(table), jnp.asarray([0]), jnp.ones((1, 1)))
        early, state = tx.flush(*idle(first, count - last))
        near = tx.update(
            jnp.ones_like(table), state, jnp.asarray([2]), jnp.ones((1, 1))
        )
        return first[1].trace, near[1].trace, early, tx.flush(*idle(near, last))[0]

    b, late_b, early, late = (np.asarray(x) for x in run(jnp.ones((3, 1))))
    single, i = np.float32, np.arange(1, 600)
    logs = [
        np.log1p(-np.longdouble(single(x)) * single(strength)) for x in (0.01, 0.005)
    ]
    mu = np.longdouble(single(0.9)) ** i
    # The first step is not idle.
    slow, fast = count - last - changed + 1, changed - 1
    keep = np.exp(fast * logs[0] + slow * logs[1])
    reach = np.sum(mu * np.exp((fast - i) * logs[0] + slow * logs[1]))
    other = np.exp(logs[0])
    want = keep * np.asarray([other + b[0, 0], other]) + reach * np.asarray(
        [b[0, 0], 0]
    )
    visits = 2**-24 * count / _idle_schedule._LEAST_PERIOD
    np.testing.assert_allclose(early[:2, 0], want, rtol=2 * visits, atol=1e-30)
    keep, reach = np.exp(last * logs[1]), 0
    for k in range(1, last + 1):
        reach += mu[k - 1] * np.exp((last - k) * logs[1])
    want = keep * (np.exp(logs[1]) + late_b[2, 0]) + reach * late_b[2, 0]
    np.testing.assert_allclose(late[2, 0], want, rtol=1e-6)
