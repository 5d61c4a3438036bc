"""The laws that an optax transformation must keep, for anyone's transformation.

    from rmsprop_jax.testing import assert_conformant

    assert_conformant(optax.adam, excuse={"hashes_stably": "optax has closures"})

`LAWS` lists the laws in the order of their numbers. Each is a function whose docstring
states it and names where it comes from. `python -m rmsprop_jax.testing` prints which of
them the optimizers of optax break.
"""

from . import _chex as _chex
from ._examine import LAWS as LAWS
from ._examine import assert_conformant as assert_conformant
from ._examine import examine as examine
from ._law import Law as Law
from ._report import Broken as Broken
from ._report import Report as Report
from ._subject import DoesNotApply as DoesNotApply
from ._subject import Subject as Subject
