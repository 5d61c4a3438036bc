"""
CartPole: the numbers of A2C under two rules
============================================

Stable-Baselines3 took the RMSProp of its A2C from OpenAI Baselines: learning rate 7e-4,
decay 0.99, eps 1e-5, gradients clipped at norm 0.5. Then it moved from TensorFlow to
PyTorch, where the same numbers mean another rule: eps is outside the root, and the
second moment starts at 0 instead of 1. For the old one it keeps ``RMSpropTFLike``.

Here both train the same agent on CartPole: eight environments, five steps of each to
an update, environment and agent in one jitted function. A second moment that starts at
1 is far above the squares of these gradients, and steps are short until it has
forgotten: about 1,000 updates, or 40,000 environment steps. ::

    pip install ".[examples]"  # in a clone of the repository
    python examples/cartpole_a2c.py
"""

import argparse
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from rich.progress import track

from rmsprop_jax import dialects, plots, recipes

OPTIMIZERS = {
    "PyTorch's rule: recipes.a2c_sb3": recipes.a2c_sb3(),
    "TensorFlow's: dialects.stable_baselines3": optax.chain(
        optax.clip_by_global_norm(0.5),
        dialects.stable_baselines3(lr=7e-4, alpha=0.99, eps=1e-5),
    ),
}
ENVIRONMENTS, ROLLOUT, SEEDS = 8, 5, 6
WINDOW = 100  # updates: in 500 steps every environment ends an episode
DISCOUNT = 0.99


def physics(state, action):
    """One step of CartPole, with the constants of Gymnasium's CartPole-v1."""
    x, speed, angle, spin = state
    force = jnp.where(action == 1, 10.0, -10.0)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    push = (force + 0.05 * spin**2 * sin) / 1.1
    spin_up = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    speed_up = push - 0.05 * spin_up * cos / 1.1
    return state + 0.02 * jnp.stack([speed, speed_up, spin, spin_up])


def reset(key):
    return jax.random.uniform(key, (ENVIRONMENTS, 4), minval=-0.05, maxval=0.05)


class Network(nn.Module):
    """The logits of the two actions, and the value of the state."""

    @nn.compact
    def __call__(self, x):
        def head(size, scale):
            y = x
            for _ in range(2):
                y = nn.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal())(y))
            return nn.Dense(size, kernel_init=nn.initializers.orthogonal(scale))(y)

        return head(2, 0.01), head(1, 1.0)[..., 0]


def act(params, environment, key):
    """One step of all environments; those that end start again."""
    states, ages = environment
    act_key, reset_key = jax.random.split(key)
    logits, _ = Network().apply(params, states)
    actions = jax.random.categorical(act_key, logits)
    reached = jax.vmap(physics)(states, actions)
    fell = (jnp.abs(reached[:, 0]) > 2.4) | (jnp.abs(reached[:, 2]) > jnp.radians(12))
    ages = ages + 1
    ended = fell | (ages == 500)
    transition = states, actions, reached, fell, ended, jnp.where(ended, ages, 0)
    states = jnp.where(ended[:, None], reset(reset_key), reached)
    return (states, jnp.where(ended, 0, ages)), transition


def loss(params, transitions):
    """Policy gradient with the critic as baseline, and the critic's squared error."""
    states, actions, reached, fell, ended, _ = transitions
    logits, values = Network().apply(params, states)
    # A pole that fell is worth nothing more; after 500 steps it could have gone on.
    _, after = Network().apply(jax.lax.stop_gradient(params), reached)
    after = jnp.where(fell, 0.0, after)

    def discount(later, step):
        after, ended = step
        value = 1 + DISCOUNT * jnp.where(ended, after, later)
        return value, value

    _, returns = jax.lax.scan(discount, after[-1], (after, ended), reverse=True)
    advantages = returns - values
    surprise = optax.softmax_cross_entropy_with_integer_labels(logits, actions)
    policy_loss = jnp.mean(surprise * jax.lax.stop_gradient(advantages))
    return policy_loss + 0.5 * jnp.mean(advantages**2)


def make_training(tx, updates):
    """A compiled function of a key: the mean return of each window of updates."""

    def update(carry, key):
        params, state, environment = carry
        environment, transitions = jax.lax.scan(
            lambda environment, key: act(params, environment, key),
            environment,
            jax.random.split(key, ROLLOUT),
        )
        step, state = tx.update(jax.grad(loss)(params, transitions), state, params)
        *_, ended, returns = transitions
        params = optax.apply_updates(params, step)
        return (params, state, environment), (returns.sum(), ended.sum())

    def train(key):
        reset_key, network_key, key = jax.random.split(key, 3)
        states = reset(reset_key)
        params = Network().init(network_key, states)
        environment = states, jnp.zeros(ENVIRONMENTS, int)
        keys = jax.random.split(key, updates)
        totals = jax.lax.scan(update, (params, tx.init(params), environment), keys)[1]
        returns, ended = (x.reshape(-1, min(WINDOW, updates)).sum(1) for x in totals)
        return returns / ended

    return jax.jit(train)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5000, help="updates")
    parser.add_argument("--out", default="cartpole_a2c.png")
    arguments = parser.parse_args()
    window = min(WINDOW, arguments.steps)
    updates = arguments.steps // window * window

    trainings = {name: make_training(tx, updates) for name, tx in OPTIMIZERS.items()}
    returns = {name: [] for name in OPTIMIZERS}
    runs = list(itertools.product(OPTIMIZERS, range(SEEDS)))
    for name, seed in track(runs, "Training"):
        returns[name].append(np.asarray(trainings[name](jax.random.key(seed))))

    steps = np.arange(window, updates + 1, window) * ENVIRONMENTS * ROLLOUT
    ax = plots.losses(returns, steps=steps)
    ax.set(yscale="linear", xlabel="environment steps", ylabel="mean return")
    ax.set_title(f"Median of {SEEDS} seeds, band from lowest to highest")
    ax.axhline(475, color="gray", lw=1)
    ax.figure.savefig(arguments.out, dpi=150)

    ends = []
    for name, curves in returns.items():
        median = np.median(curves, axis=0)
        solved = median > 475
        when = f"after {steps[solved.argmax()]:,} steps" if solved.any() else "never"
        ends.append(f"{name} {when}, {median[-1]:.0f} at the end")
    print(f"Median return of {SEEDS} seeds first above 475: {'; '.join(ends)}.")


if __name__ == "__main__":
    main()
