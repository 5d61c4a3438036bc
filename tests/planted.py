"""Faults of one line, each of which the default run must notice.

A row is a file of the package, its text, the faulty text, and the test modules that
notice it (with `::test` where one test is enough).
"""

FAULTS = [
    (
        "_rule.py",
        "s + c.fresh * _square(d)",
        "s + (1 - c.decay) * _square(d)",
        "oracle.py::test_float64_equals_the_equations",
    ),
    (
        "_rule.py",
        "pull=(1 - decay) / weight",
        "pull=1 - decay",
        "oracle.py::test_float64_equals_the_equations",
    ),
    (
        "_rule.py",
        "t - 1, dtype) if",
        "t, dtype) if",
        "oracle.py::test_float64_equals_the_equations",
    ),
    (
        "_rule.py",
        "return x + (weight_decay if",
        "return x - (weight_decay if",
        "dialects.py::test_recorded_runs_are_repeated",
    ),
    (
        "_rule.py",
        "x.real**2 + x.imag**2",
        "x.real**2",
        "laws.py::test_complex_s_is_real_and_joint",
    ),
    (
        "_rule.py",
        "b = momentum * b + x\n    return (x +",
        "b = momentum * b + x\n    return (b +",
        "optax.py::test_rmsprop_equals_optax",
    ),
    (
        "_precision.py",
        "x = jnp.clip(x, -largest, largest)\n    return",
        "pass\n    return",
        "laws.py::test_arithmetic_is_float32_whatever_the_dtype",
    ),
    (
        "_precision.py",
        ">= 32 else jnp.float32",
        ">= 16 else jnp.float32",
        "laws.py::test_arithmetic_is_float32_whatever_the_dtype",
    ),
    (
        "_storage.py",
        "+ (random >> 16)",
        "+ (random >> 17)",
        "storage.py::test_rounding_is_unbiased",
    ),
    (
        "_storage.py",
        "+ (random >> 11)",
        "+ (random >> 12)",
        "storage.py::test_rounding_is_unbiased",
    ),
    (
        "_storage.py",
        "jnp.minimum(magnitude, largest)",
        "magnitude",
        "storage.py::test_bfloat16_keeps_nan_and_inf_and_saturates",
    ),
    (
        "_storage.py",
        "magnitude | quiet",
        "magnitude",
        "storage.py::test_bfloat16_keeps_nan_and_inf_and_saturates",
    ),
    (
        "_storage.py",
        "self._zero + 255",
        "self._zero + 256",
        "storage.py::test_encode_is_monotone",
    ),
    (
        "_storage.py",
        "jnp.uint32(0x80000000)",
        "jnp.uint32(0)",
        "storage.py::test_what_is_rounded_once_is_rounded_to_nearest",
    ),
    (
        "_dither.py",
        "(ord(self.slot), self.leaf,",
        "(0, self.leaf,",
        "storage.py::test_dither_differs_for_everything_that_tells_it_apart",
    ),
    (
        "_dither.py",
        "self.leaf, self.seed,",
        "0, self.seed,",
        "storage.py::test_dither_differs_for_everything_that_tells_it_apart",
    ),
    (
        "_dither.py",
        "self.seed, self.step)",
        "self.seed, 0)",
        "storage.py::test_rounding_is_unbiased",
    ),
    (
        "_dither.py",
        "stride * shape[k]",
        "stride",
        "storage.py::test_rounding_is_unbiased",
    ),
    (
        "dialects/_clipping.py",
        "(length == 0) | (length <= bound / unit)",
        "length == 0",
        "dialects.py::test_recorded_runs_are_repeated",
    ),
    (
        "dialects/_clipping.py",
        "jnp.clip(g, -bound, bound)",
        "jnp.clip(g, -2 * bound, 2 * bound)",
        "dialects.py::test_recorded_runs_are_repeated",
    ),
    (
        "recipes/_recipe.py",
        "jnp.floor(step / every)",
        "step / every",
        "recipes.py::test_every_recipe_walks_as_its_sources_say",
    ),
    (
        "recipes/_recipe.py",
        "start * jnp.maximum(1 - done, 0.0)",
        "start * (1 - done)",
        "recipes.py::test_every_recipe_walks_as_its_sources_say",
    ),
    (
        "recipes/_vision.py",
        "/ 256",
        "/ 255",
        "recipes.py::test_every_recipe_walks_as_its_sources_say",
    ),
    (
        "diagnostics/_summary.py",
        "{100 * values['']:.3g}",
        "{values['']:.3g}",
        "diagnostics.py::test_printed_by_rich",
    ),
]
