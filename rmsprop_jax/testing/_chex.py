"""Say how to get chex, before a law needs it."""

try:
    import chex as chex
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`rmsprop_jax.testing` needs chex: `pip install chex`.",
        name=error.name,
    ) from error
