"""Import chex, or say how to install it."""

try:
    import chex as chex
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`rmsprop_jax.testing` needs chex: `pip install chex`.",
        name=error.name,
    ) from error
